//! Why a client is not let in, where it is not its password.

use std::time::Duration;

use config::units::show_duration as show;

use super::texts::{Texts, texts};

/// A login that is refused by a rule or a limit. The connection closes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRefusal {
    /// 28000: no rule lets this client in, or one keeps it out. Worded as PostgreSQL does.
    Rule {
        /// Where it comes from: an address, or `[local]`.
        host: Box<str>,
        /// The name that was claimed.
        user: Box<str>,
        /// The database that was asked for.
        database: Box<str>,
        /// Whether TLS is spoken.
        encrypted: bool,
        /// A rule says reject; otherwise none matches.
        rejected: bool,
    },
    /// 28000: the rule wants a certificate, and none came or another one.
    Certificate {
        /// The name that was claimed.
        user: Box<str>,
    },
    /// 28000: the system's user at the other end may not be this user.
    Peer {
        /// The name that was claimed.
        user: Box<str>,
    },
    /// 28000: the user's secret could not be looked up.
    LookUp {
        /// The name that was claimed.
        user: Box<str>,
    },
    /// 53400: too many wrong passwords came from this address.
    Failures {
        /// When it may try again.
        retry_in: Duration,
    },
    /// 53300: too many logins are under way.
    Logins {
        /// `auth.max_logins`, or `auth.max_logins_per_address`.
        limit: usize,
        /// It is the address's limit.
        address: bool,
    },
    /// 42501: the console is for its own users.
    Console {
        /// Who has proven who they are.
        user: Box<str>,
    },
    /// 53300: as many operators are on the console as may be.
    ConsoleFull {
        /// How many that are.
        limit: usize,
    },
    /// 53300: no connection is to be had on which the server could judge a password.
    NoTrial {
        /// `max_side_connections`.
        limit: usize,
    },
}

impl LoginRefusal {
    /// Its SQLSTATE.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Rule { .. } | Self::Certificate { .. } | Self::Peer { .. } | Self::LookUp { .. } => "28000",
            Self::Failures { .. } => "53400",
            Self::Console { .. } => "42501",
            Self::ConsoleFull { .. } | Self::Logins { .. } | Self::NoTrial { .. } => "53300",
        }
    }

    pub(super) fn texts(&self) -> Texts {
        match self {
            Self::Rule { host, user, database, encrypted, rejected } => {
                let tls = if *encrypted { "SSL encryption" } else { "no encryption" };
                let begin = if *rejected { "pg_hba.conf rejects connection" } else { "no pg_hba.conf entry" };
                texts(
                    format!("{begin} for host \"{host}\", user \"{user}\", database \"{database}\", {tls}"),
                    None::<&str>,
                    "The rules are the proxy's own: see auth.hba_file, or auth.method, of its configuration.",
                )
            }
            Self::Certificate { user } => texts(
                format!("certificate authentication failed for user \"{user}\""),
                None::<&str>,
                "Present a certificate that was issued for this user; an operator can map other names by auth.ident_file.",
            ),
            Self::Peer { user } => texts(
                format!("Peer authentication failed for user \"{user}\""),
                None::<&str>,
                "Connect as the system's user of that name; an operator can map other names by auth.ident_file.",
            ),
            Self::LookUp { user } => texts(
                format!("the password of user \"{user}\" could not be looked up"),
                "The proxy asks the server for it (auth.query), and that failed.",
                "Retry later. Operators find the cause in the proxy's log.",
            ),
            Self::Failures { retry_in } => texts(
                "too many failed logins from this address",
                format!("The next one is possible in {}.", show(*retry_in)),
                "Correct the password where it is configured. Operators find the limits at auth.max_failures and auth.failure_exempt.",
            ),
            Self::Logins { limit, address } => {
                let whose = if *address { " from this address" } else { "" };
                let key = if *address { "auth.max_logins_per_address" } else { "auth.max_logins" };
                texts(
                    format!("too many logins{whose} at once"),
                    format!("As many as {limit} connections{whose} are logging in."),
                    format!("Retry later, use a connection pool, or raise {key}."),
                )
            }
            Self::Console { user } => texts(
                format!("user \"{user}\" may not use the console"),
                "This database is the proxy's console, not one of a server.",
                "An operator can list the user under console.stats_users or console.admin_users.",
            ),
            Self::ConsoleFull { limit } => texts(
                "too many connections to the console",
                format!("As many as {limit} are open."),
                "Close those that are not needed: SHOW CLIENTS lists them.",
            ),
            Self::NoTrial { limit } => texts(
                "the server cannot be asked about this login now",
                format!("As many as {limit} connections beside the pools are open."),
                "Retry later. Operators find the limit at max_side_connections.",
            ),
        }
    }
}
