//! Whose statement this is: the rules of `[tenants]`, compiled once, asked at login and when a tracked setting changes.
//!
//! Names come from clients, so they are bounded: [`Directory`] hands out ids for at most `tenants.max_tenants` names
//! that the configuration does not mention; everybody after that is [`TenantId::OTHER`], with the default limits.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use config::{TenantRule, Tenants};
use rustc_hash::FxHashMap;

mod pattern;
use pattern::Pattern;

/// Longest tenant name in bytes; a longer one counts as [`TenantId::OTHER`]. Twice what PostgreSQL allows an identifier.
pub const MAX_NAME: usize = 128;

/// A tenant's number: small, dense, valid as long as the process lives (reloads included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(u32);

impl TenantId {
    /// Everybody beyond `tenants.max_tenants`.
    pub const OTHER: Self = Self(0);

    /// For tables indexed by tenant.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known about a session when its tenant is asked for.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Name that the client logged in with.
    pub user: &'a str,
    /// Database that it asked for.
    pub database: &'a str,
    /// Its `application_name` now (a startup parameter that many drivers also SET later); empty if none.
    pub application_name: &'a str,
    /// The host name that it asked for in its TLS handshake, in lower case; empty if none. Fixed at login.
    pub server_name: &'a str,
    /// Startup parameters and `-c name=value` of the startup packet's `options`. Fixed at login.
    pub startup: &'a dyn Lookup,
    /// Settings that the proxy follows through SET and set_config.
    pub settings: &'a dyn Lookup,
}

/// A map from names to values, whoever keeps it.
pub trait Lookup {
    /// The value of `name`; names are compared as the keeper of the map does.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Lookup for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<const N: usize> Lookup for [(&str, &str); N] {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// A tenant, and what decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// Place of the rule in the list, from 0; `None`: `tenants.default`.
    pub rule: Option<usize>,
}

/// The compiled rules. Immutable; a reload makes a new one.
#[derive(Debug)]
pub struct Resolver {
    rules: Box<[Rule]>,
    default: Box<str>,
}

#[derive(Debug)]
enum Rule {
    User,
    Database,
    Application(Pattern),
    ServerName(Pattern),
    Startup(Box<str>),
    Setting(Box<str>),
}

impl Resolver {
    /// Compiles the rules.
    ///
    /// ```
    /// use config::{Limits, TenantRule, Tenants};
    /// use policy::tenant::{Facts, Resolver};
    /// let tenants = Tenants {
    ///     rules: vec![TenantRule::ApplicationName("worker-{tenant}-*".to_owned()), TenantRule::User],
    ///     default: "default".to_owned(),
    ///     max_tenants: 100,
    ///     default_limits: Limits::default(),
    ///     limits: Default::default(),
    /// };
    /// let resolver = Resolver::new(&tenants);
    /// let facts = Facts {
    ///     user: "app",
    ///     database: "db",
    ///     application_name: "worker-acme-7",
    ///     server_name: "",
    ///     startup: &[],
    ///     settings: &[],
    /// };
    /// assert_eq!(resolver.resolve(&facts).tenant, "acme");
    /// ```
    pub fn new(tenants: &Tenants) -> Self {
        let rules = tenants
            .rules
            .iter()
            .map(|rule| match rule {
                TenantRule::User => Rule::User,
                TenantRule::Database => Rule::Database,
                TenantRule::ApplicationName(pattern) => Rule::Application(Pattern::new(pattern)),
                TenantRule::ServerName(pattern) => Rule::ServerName(Pattern::new(pattern)),
                TenantRule::StartupOption(name) => Rule::Startup(name.as_str().into()),
                TenantRule::Setting(name) => Rule::Setting(name.as_str().into()),
            })
            .collect();
        Self { rules, default: tenants.default.as_str().into() }
    }

    /// The tenant by the first rule that yields a name. An empty name is no name.
    pub fn resolve<'a>(&'a self, facts: &Facts<'a>) -> Resolution<'a> {
        for (place, rule) in self.rules.iter().enumerate() {
            let name = match rule {
                Rule::User => Some(facts.user),
                Rule::Database => Some(facts.database),
                Rule::Application(pattern) => pattern.tenant_in(facts.application_name),
                Rule::ServerName(pattern) => pattern.tenant_in(facts.server_name),
                Rule::Startup(name) => facts.startup.value(name),
                Rule::Setting(name) => facts.settings.value(name),
            };
            if let Some(tenant) = name.filter(|name| !name.is_empty()) {
                return Resolution { tenant, rule: Some(place) };
            }
        }
        Resolution { tenant: &self.default, rule: None }
    }

    /// Whether a change of this setting can change the tenant of a session that `current` was decided for.
    ///
    /// A rule behind the one that decided cannot win, however its setting changes: what was decided from the
    /// connection first cannot be overridden by SET.
    pub fn reacts_to(&self, setting: &str, current: Option<usize>) -> bool {
        let last = current.unwrap_or(self.rules.len());
        self.rules.iter().take(last.saturating_add(1)).any(|rule| match rule {
            Rule::Setting(name) => name.eq_ignore_ascii_case(setting),
            Rule::Application(_) => setting.eq_ignore_ascii_case("application_name"),
            Rule::User | Rule::Database | Rule::Startup(_) | Rule::ServerName(_) => false,
        })
    }

    /// Settings whose values the proxy must follow for these rules, `application_name` not among them.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match rule {
            Rule::Setting(name) => Some(name.as_ref()),
            _ => None,
        })
    }
}

/// Names ↔ ids, shared by all workers. Append-only: an id never changes its name.
///
/// The lock is taken at login and when a session's tenant changes, never per statement; a worker that sees the same
/// names again and again keeps a [`Memo`].
#[derive(Debug)]
pub struct Directory {
    inner: RwLock<Names>,
}

#[derive(Debug)]
struct Names {
    by_id: Vec<Arc<str>>,
    by_name: FxHashMap<Arc<str>, TenantId>,
    /// Ids handed out to names from the configuration; they are not counted against `max`.
    configured: usize,
    max: usize,
}

impl Directory {
    /// A directory that knows `other`, the default tenant and each tenant with limits of its own.
    pub fn new(tenants: &Tenants) -> Self {
        let names = Names { by_id: Vec::new(), by_name: FxHashMap::default(), configured: 0, max: 0 };
        let directory = Self { inner: RwLock::new(names) };
        directory.reload(tenants);
        directory
    }

    /// Takes new settings: more configured names, another `max_tenants`. Ids that exist stay.
    pub fn reload(&self, tenants: &Tenants) {
        let mut names = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        names.max = tenants.max_tenants;
        for name in ["other", &tenants.default].into_iter().chain(tenants.limits.keys().map(String::as_str)) {
            if !names.by_name.contains_key(name) {
                names.add(name);
                names.configured += 1;
            }
        }
    }

    /// The id of a name; a new one is added while there is room, else [`TenantId::OTHER`].
    pub fn id(&self, name: &str) -> TenantId {
        if let Some(id) = self.known(name) {
            return id;
        }
        let mut names = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have added it between the two locks.
        if let Some(id) = names.by_name.get(name) {
            return *id;
        }
        let full = names.by_id.len() - names.configured >= names.max;
        if full || name.is_empty() || name.len() > MAX_NAME { TenantId::OTHER } else { names.add(name) }
    }

    /// The id of a name that has one.
    pub fn known(&self, name: &str) -> Option<TenantId> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).copied()
    }

    /// The name behind an id.
    pub fn name(&self, id: TenantId) -> Arc<str> {
        let names = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        names.by_id.get(id.index()).or_else(|| names.by_id.first()).cloned().unwrap_or_else(|| Arc::from("other"))
    }

    /// All names; the position is the id's [`TenantId::index`].
    pub fn names(&self) -> Vec<Arc<str>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_id.clone()
    }
}

impl Names {
    fn add(&mut self, name: &str) -> TenantId {
        // max_tenants is far below 2³² (the configuration's table says how far), so the count fits.
        let id = TenantId(u32::try_from(self.by_id.len()).unwrap_or(0));
        let name: Arc<str> = name.into();
        self.by_id.push(Arc::clone(&name));
        self.by_name.insert(name, id);
        id
    }
}

/// A worker's own copy of the ids it has met, so that `SET app.tenant_id` in each transaction costs no shared lock.
/// Never larger than the [`Directory`].
#[derive(Debug, Default)]
pub struct Memo {
    ids: FxHashMap<Box<str>, TenantId>,
}

impl Memo {
    /// As [`Directory::id`].
    pub fn id(&mut self, name: &str, directory: &Directory) -> TenantId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = directory.id(name);
        // Names without an id of their own are not kept: there is no end to them, and room may come by a reload.
        if id != TenantId::OTHER {
            self.ids.insert(name.into(), id);
        }
        id
    }
}

#[cfg(test)]
mod tests;
