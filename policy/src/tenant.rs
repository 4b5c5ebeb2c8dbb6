//! Whose statement this is, and of which class of work: the rules of `[tenant]`, compiled once, asked at login, when a
//! tracked setting changes, and for a statement whose comments name a tenant.
//!
//! Names come from clients, so they are bounded: [`Directory`] hands out ids for at most `tenant.max_tenants` names
//! that the configuration does not mention; everybody after that is [`TenantId::OTHER`], with the default limits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use config::{Origin, Tenants};
use rustc_hash::FxHashMap;

mod pattern;
use pattern::Pattern;

/// Longest tenant name in bytes; a longer one counts as [`TenantId::OTHER`]. Twice what PostgreSQL allows an identifier.
pub const MAX_NAME: usize = 128;

/// Names of the configuration that get an id at most, over all reloads: they come and go where a program writes them.
const MAX_CONFIGURED: usize = if cfg!(test) { 100 } else { 1_000_000 };

/// Numbers of classes: what fits into [`ClassId`]. Far more than there are classes at once.
const MAX_NUMBERS: usize = u8::MAX as usize;

/// A tenant's number: small, dense, valid as long as the process lives (reloads included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TenantId(u32);

impl TenantId {
    /// Everybody beyond `tenant.max_tenants`.
    pub const OTHER: Self = Self(0);

    /// The tenant that has this [`TenantId::index`].
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// For tables indexed by tenant.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A class of work's number, from 1: valid as long as the process lives, as [`Directory`] has given it to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClassId(u8);

impl ClassId {
    /// Of no class.
    pub const NONE: Self = Self(0);

    /// For tables indexed by class, no class first.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The class at this place of such a table.
    pub fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(0))
    }
}

/// What is known about a session when its tenant is asked for.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Name that the client logged in with.
    pub user: &'a str,
    /// What stood behind the separator of that name; empty if nothing did.
    pub user_suffix: &'a str,
    /// Database that it asked for.
    pub database: &'a str,
    /// Its `application_name` now (a startup parameter that many drivers also SET later); empty if none.
    pub application_name: &'a str,
    /// The host name that it asked for in its TLS handshake, in lower case; empty if none. Fixed at login.
    pub server_name: &'a str,
    /// The common name of its certificate, which was verified; empty if none. Fixed at login.
    pub certificate: &'a str,
    /// Where it connects from; `None`: a Unix socket.
    pub address: Option<IpAddr>,
    /// Startup parameters and `-c name=value` of the startup packet's `options`. Fixed at login.
    pub startup: &'a dyn Lookup,
    /// Settings that the proxy follows through SET and set_config.
    pub settings: &'a dyn Lookup,
    /// Keys of the comments at the statement's ends.
    pub comment: &'a dyn Lookup,
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

/// No values.
pub const NOTHING: [(&str, &str); 0] = [];

/// A tenant, and what decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// The tenant's name.
    pub tenant: Cow<'a, str>,
    /// Place of the rule in the list, from 0; `None`: `tenant.default_name`.
    pub rule: Option<usize>,
}

/// The compiled rules. Immutable; a reload makes a new one.
#[derive(Debug)]
pub struct Resolver {
    rules: Box<[Rule]>,
    classes: Box<[Rule]>,
    /// The class of each of `classes`.
    class_ids: Box<[ClassId]>,
    /// By number, classes of before a reload among them.
    class_names: Box<[Arc<str>]>,
    default: Box<str>,
}

/// One rule, of tenants or of classes.
#[derive(Debug)]
struct Rule {
    origin: Origin,
    pattern: Option<Pattern>,
    /// What it yields wherever it holds.
    fixed: Option<Box<str>>,
}

impl Rule {
    /// The name that it yields. An empty one is none.
    fn name<'a>(&'a self, facts: &Facts<'a>) -> Option<Cow<'a, str>> {
        let value = match &self.origin {
            Origin::User => Cow::Borrowed(facts.user),
            Origin::UserSuffix(_) => Cow::Borrowed(facts.user_suffix),
            Origin::Database => Cow::Borrowed(facts.database),
            Origin::ApplicationName => Cow::Borrowed(facts.application_name),
            Origin::ServerName => Cow::Borrowed(facts.server_name),
            Origin::Certificate => Cow::Borrowed(facts.certificate),
            Origin::Option(name) => Cow::Borrowed(facts.startup.value(name)?),
            Origin::Comment(name) => Cow::Borrowed(facts.comment.value(name)?),
            Origin::Setting { name, path } => match facts.settings.value(name)? {
                value if path.is_empty() => Cow::Borrowed(value),
                document => Cow::Owned(member(document, path)?),
            },
            Origin::Network(networks) => {
                let address = facts.address?;
                let fixed = self.fixed.as_deref()?;
                return networks.iter().any(|network| network.contains(address)).then_some(Cow::Borrowed(fixed));
            }
        };
        let found = match &self.pattern {
            None => value,
            Some(pattern) => match value {
                Cow::Borrowed(value) => Cow::Borrowed(pattern.tenant_in(value)?),
                Cow::Owned(value) => Cow::Owned(pattern.tenant_in(&value)?.to_owned()),
            },
        };
        if found.is_empty() {
            return None;
        }
        Some(self.fixed.as_deref().map_or(found, Cow::Borrowed))
    }

    /// Whether a change of this setting can change what it yields.
    fn reacts_to(&self, setting: &str) -> bool {
        match &self.origin {
            Origin::Setting { name, .. } => name.eq_ignore_ascii_case(setting),
            Origin::ApplicationName => setting.eq_ignore_ascii_case("application_name"),
            _ => false,
        }
    }
}

/// Longest JSON document that is looked into, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// The member of a JSON document at this path, if it is text or a number.
fn member(document: &str, path: &[String]) -> Option<String> {
    if document.len() > MAX_DOCUMENT {
        return None;
    }
    let document: serde_json::Value = serde_json::from_str(document).ok()?;
    match path.iter().try_fold(&document, |value, name| value.get(name))? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Resolver {
    /// Compiles the rules. Call [`Directory::reload`] with the same settings before.
    ///
    /// ```
    /// use config::{Origin, TenantRule, Tenants};
    /// use policy::tenant::{Directory, Facts, NOTHING, Resolver};
    /// let tenants = Tenants {
    ///     rules: vec![
    ///         TenantRule::by_pattern(Origin::ApplicationName, "tenant:(?<tenant>[a-z0-9-]+)"),
    ///         TenantRule::whole(Origin::User),
    ///     ],
    ///     ..Tenants::default()
    /// };
    /// let resolver = Resolver::new(&tenants, &Directory::new(&tenants));
    /// let facts = Facts {
    ///     user: "app",
    ///     user_suffix: "",
    ///     database: "db",
    ///     application_name: "worker 7 tenant:acme",
    ///     server_name: "",
    ///     certificate: "",
    ///     address: None,
    ///     startup: &NOTHING,
    ///     settings: &NOTHING,
    ///     comment: &NOTHING,
    /// };
    /// assert_eq!(resolver.resolve(&facts).tenant, "acme");
    /// ```
    pub fn new(tenants: &Tenants, directory: &Directory) -> Self {
        let rules = tenants.rules.iter().map(|rule| Rule {
            origin: rule.origin.clone(),
            pattern: rule.pattern.as_deref().map(Pattern::new),
            fixed: rule.tenant.as_deref().map(Into::into),
        });
        let classes = tenants.classes.iter().map(|rule| Rule {
            origin: rule.origin.clone(),
            pattern: rule.pattern.as_deref().map(Pattern::new),
            fixed: Some(rule.class.as_str().into()),
        });
        Self {
            rules: rules.collect(),
            class_ids: tenants.classes.iter().map(|rule| directory.class(&rule.class)).collect(),
            classes: classes.collect(),
            class_names: directory.classes().into(),
            default: tenants.default.as_str().into(),
        }
    }

    /// The tenant by the first rule that yields a name. An empty name is no name.
    pub fn resolve<'a>(&'a self, facts: &Facts<'a>) -> Resolution<'a> {
        self.rules
            .iter()
            .enumerate()
            .find_map(|(place, rule)| Some(Resolution { tenant: rule.name(facts)?, rule: Some(place) }))
            .unwrap_or(Resolution { tenant: Cow::Borrowed(&self.default), rule: None })
    }

    /// The class of work by the first rule that holds.
    pub fn class(&self, facts: &Facts<'_>) -> ClassId {
        self.class_rule(facts).and_then(|place| self.class_ids.get(place)).map_or(ClassId::NONE, |id| *id)
    }

    /// The place in the list of the rule that tells the class, from 0; `None`: none holds.
    pub fn class_rule(&self, facts: &Facts<'_>) -> Option<usize> {
        self.classes.iter().position(|rule| rule.name(facts).is_some())
    }

    /// A class's name, also of one that a reload took away; that of no class is empty.
    pub fn class_name(&self, class: ClassId) -> &str {
        class.index().checked_sub(1).and_then(|place| self.class_names.get(place)).map_or("", AsRef::as_ref)
    }

    /// Whether a change of this setting can change the tenant of a session that `current` was decided for, or its class.
    ///
    /// A rule behind the one that decided cannot win, however its setting changes: what was decided from the
    /// connection first cannot be overridden by SET.
    pub fn reacts_to(&self, setting: &str, current: Option<usize>) -> bool {
        let last = current.unwrap_or(self.rules.len());
        let rules = self.rules.iter().take(last.saturating_add(1));
        rules.chain(&self.classes).any(|rule| rule.reacts_to(setting))
    }

    /// Whether a change of any setting can change whose a session is, or its class.
    pub fn reads_settings(&self) -> bool {
        let reads = |rule: &Rule| matches!(rule.origin, Origin::Setting { .. } | Origin::ApplicationName);
        self.rules.iter().chain(&self.classes).any(reads)
    }

    /// Whether a statement's comments can decide whose it is, or of which class.
    pub fn reads_comments(&self) -> bool {
        self.rules.iter().chain(&self.classes).any(|rule| matches!(rule.origin, Origin::Comment(_)))
    }

    /// Whether a rule looks at this key of comments.
    pub fn reads_comment(&self, key: &str) -> bool {
        self.rules.iter().chain(&self.classes).any(|rule| matches!(&rule.origin, Origin::Comment(name) if name == key))
    }

    /// Settings whose values the proxy must follow for these rules, `application_name` not among them.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().chain(&self.classes).filter_map(|rule| match &rule.origin {
            Origin::Setting { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// The user who logs in and the tenant behind it, by a rule with a separator: `app.acme` is `app` of `acme`.
pub fn split_user<'a>(tenants: &Tenants, user: &'a str) -> (&'a str, &'a str) {
    let separators = tenants.rules.iter().filter_map(|rule| match &rule.origin {
        Origin::UserSuffix(separator) => Some(separator),
        _ => None,
    });
    let mut split = separators.filter_map(|separator| user.rsplit_once(separator.as_str()));
    split.find(|(name, tenant)| !name.is_empty() && !tenant.is_empty()).unwrap_or((user, ""))
}

/// Names ↔ ids, shared by all workers. Append-only: an id never changes its name.
///
/// The lock is taken at login and when a session's tenant changes, never per statement; a worker that sees the same
/// names again and again keeps a [`Memo`].
#[derive(Debug)]
pub struct Directory {
    inner: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    by_id: Vec<Arc<str>>,
    by_name: FxHashMap<Arc<str>, TenantId>,
    /// Of classes, the first number's first.
    classes: Vec<Arc<str>>,
    /// Ids handed out to names from the configuration; they are not counted against `max`.
    configured: usize,
    max: usize,
}

impl Directory {
    /// A directory that knows [`Tenants::OTHERS`], the default tenant and each tenant with limits of its own.
    pub fn new(tenants: &Tenants) -> Self {
        let directory = Self { inner: RwLock::default() };
        directory.reload(tenants);
        directory
    }

    /// Takes new settings: more configured names, another `max_tenants`. Ids that exist stay. What is configured beyond a
    /// million names, those that are gone among them, gets none.
    pub fn reload(&self, tenants: &Tenants) {
        let mut names = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        names.max = tenants.max_tenants;
        names.number_classes(&tenants.class_names());
        for name in [Tenants::OTHERS, &tenants.default].into_iter().chain(tenants.limits.keys().map(String::as_str)) {
            if !names.by_name.contains_key(name) && names.configured < MAX_CONFIGURED {
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
        names
            .by_id
            .get(id.index())
            .or_else(|| names.by_id.first())
            .cloned()
            .unwrap_or_else(|| Arc::from(Tenants::OTHERS))
    }

    /// A class's number; [`ClassId::NONE`] if it has none.
    pub fn class(&self, name: &str) -> ClassId {
        let names = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        names.classes.iter().position(|known| **known == *name).map_or(ClassId::NONE, |place| ClassId::at(place + 1))
    }

    /// The classes that have a number, those that a reload took away among them: the first has 1.
    fn classes(&self) -> Vec<Arc<str>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).classes.clone()
    }

    /// All names; the position is the id's [`TenantId::index`].
    pub fn names(&self) -> Vec<Arc<str>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_id.clone()
    }
}

impl Names {
    /// Sessions, leases and counters know a class by its number: one that a reload leaves in place keeps its own. Where all
    /// numbers are taken, those of classes that are gone are given again.
    fn number_classes(&mut self, wanted: &[&str]) {
        for name in wanted {
            if self.classes.iter().any(|known| **known == **name) {
                continue;
            }
            let gone = |known: &Arc<str>| !wanted.contains(&&**known);
            match self.classes.iter().position(gone).filter(|_| self.classes.len() >= MAX_NUMBERS) {
                Some(place) => self.classes.splice(place..=place, [Arc::from(*name)]).for_each(drop),
                None => self.classes.push(Arc::from(*name)),
            }
        }
    }

    fn add(&mut self, name: &str) -> TenantId {
        // max_tenants and MAX_CONFIGURED are far below 2³² (the configuration's table says how far), so the count fits.
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
