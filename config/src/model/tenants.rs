//! Tenancy: whose a statement is, what kind of work it is, and what it may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Limits, Network};

/// Rules tell whose a statement is and of which class, limits tell what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenants {
    /// First match wins; none: `default`.
    pub rules: Vec<TenantRule>,
    /// Which class of work a session is of; the first match wins, none: no class.
    pub classes: Vec<ClassRule>,
    /// The tenant of statements that no rule names.
    pub default: String,
    /// Distinct tenants that are counted on their own; the rest share one row.
    pub max_tenants: usize,
    /// A folder with a file `NAME.toml` of limits for each tenant `NAME`; read by whoever loads the settings.
    pub directory: Option<PathBuf>,
    /// A table with a row of limits for each tenant; read by the running proxy.
    pub table: Option<TenantTable>,
    /// Limits of all.
    pub default_limits: Limits,
    /// Limits by class of work, over those of all.
    pub class_limits: BTreeMap<String, Limits>,
    /// Limits by tenant, over those of its class.
    pub limits: BTreeMap<String, Limits>,
    /// Limits of single statements by their strict fingerprint, over those of the tenant.
    pub fingerprints: BTreeMap<u64, Limits>,
}

impl Tenants {
    /// The name of all together that are beyond [`Self::max_tenants`]: in limits, lists, metrics, findings and logs alike.
    /// Whoever chooses it for a name of its own is one of them.
    pub const OTHERS: &str = "(others)";
}

impl Default for Tenants {
    /// As the file's defaults.
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            classes: Vec::new(),
            default: "default".to_owned(),
            max_tenants: 1000,
            directory: None,
            table: None,
            default_limits: Limits::default(),
            class_limits: BTreeMap::new(),
            limits: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
        }
    }
}

impl Tenants {
    /// Classes of work in their order: those with limits and those that a rule names. Their number is bounded by the
    /// configuration (see [`MAX_CLASSES`]).
    pub fn class_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.class_limits.keys().map(String::as_str).collect();
        names.extend(self.classes.iter().map(|rule| rule.class.as_str()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Where rows of tenants are asked for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTable {
    /// A name that leads to an entry of `[databases]`.
    pub database: String,
    /// A SELECT of two columns, a tenant's name and its limits, without a semicolon at its end.
    pub query: String,
    /// Between two looks.
    pub interval: Duration,
}

/// Classes of work at most.
pub const MAX_CLASSES: usize = 16;

/// Where a name is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The login's user name.
    User,
    /// What stands in the login's user name behind the last such separator; before it stands the user who logs in.
    UserSuffix(String),
    /// The database.
    Database,
    /// `application_name`, a startup parameter that many drivers SET later.
    ApplicationName,
    /// The host name asked for in the TLS handshake, in lower case.
    ServerName,
    /// The common name of the client's verified certificate.
    Certificate,
    /// A startup option `-c name=value` or a startup parameter of this name.
    Option(String),
    /// A tracked setting, followed through SET and set_config; with a path, a member of the JSON document in it.
    Setting {
        /// Its name, as `request.jwt.claims`.
        name: String,
        /// Names of members, outermost first; empty: the whole value.
        path: Vec<String>,
    },
    /// A key of the comments at a statement's ends, as sqlcommenter writes them.
    Comment(String),
    /// The client's address is in one of these networks.
    Network(Vec<Network>),
}

impl Origin {
    /// The word of the configuration.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::User | Self::UserSuffix(_) => "user",
            Self::Database => "database",
            Self::ApplicationName => "application_name",
            Self::ServerName => "sni",
            Self::Certificate => "certificate",
            Self::Option(_) => "option",
            Self::Setting { .. } => "setting",
            Self::Comment(_) => "comment",
            Self::Network(_) => "network",
        }
    }

    /// With its particulars, for people: `setting app.tenant_id`.
    pub fn shown(&self) -> String {
        match self {
            Self::UserSuffix(separator) => format!("user behind \"{separator}\""),
            Self::Option(name) | Self::Comment(name) => format!("{} {name}", self.word()),
            Self::Setting { name, path } if path.is_empty() => format!("setting {name}"),
            Self::Setting { name, path } => format!("setting {name} at {}", path.join(".")),
            Self::Network(networks) => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                format!("network {}", networks.join(", "))
            }
            _ => self.word().to_owned(),
        }
    }
}

/// One way to name the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRule {
    /// Where the name is.
    pub origin: Origin,
    /// What of it is the name; `None`: all of it. A regular expression with a group `tenant`, or text with one `{tenant}`
    /// and `*` for anything.
    pub pattern: Option<String>,
    /// The tenant is this one wherever the rule matches.
    pub tenant: Option<String>,
}

impl TenantRule {
    /// A rule without a pattern: the whole value is the name.
    pub const fn whole(origin: Origin) -> Self {
        Self { origin, pattern: None, tenant: None }
    }

    /// A rule with a pattern.
    pub fn by_pattern(origin: Origin, pattern: &str) -> Self {
        Self { origin, pattern: Some(pattern.to_owned()), tenant: None }
    }
}

/// One way to tell the class of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassRule {
    /// The class.
    pub class: String,
    /// Where it shows. Not of a network, a certificate or a user's suffix.
    pub origin: Origin,
    /// A regular expression that the value matches; `None`: any value does.
    pub pattern: Option<String>,
}

/// What happens when a limit is reached, so that a policy can be rolled out in phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// Nothing.
    Off,
    /// What would have happened is counted.
    Observe,
    /// And the client is told, by a NOTICE.
    Warn,
    /// It happens.
    #[default]
    Enforce,
}

impl Mode {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["off", "observe", "warn", "enforce"];

    /// As the configuration spells it.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "off" => Self::Off,
            "observe" => Self::Observe,
            "warn" => Self::Warn,
            "enforce" => Self::Enforce,
            _ => return None,
        })
    }

    /// As the configuration spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}
