//! Rules: what is asked to be cached. Nothing is without one.

use std::time::Duration;

use super::catalog::{Allowed, Name};
use super::eligible::Bypass;
use super::fill::Terms;
use super::freshness::Freshness;
use super::hint::Hint;

/// No answer is kept longer.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3_600);

/// Whether a rule allows or denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// It allows; of several that hold, the first one counts.
    #[default]
    Allow,
    /// It denies, whatever else allows and wherever it stands.
    Deny,
}

/// A table in a rule: `runs`, `audit.log`, `log_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    schema: Option<Box<str>>,
    name: Box<str>,
    prefix: bool,
}

impl TableName {
    /// Reads one, as the server folds names. A star may be its last character. `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let (name, prefix) = name.strip_suffix('*').map_or((name, false), |start| (start, true));
        let usable = |part: &str| !part.contains(['.', '*', '"']) && !part.chars().any(char::is_whitespace);
        let empty = (name.is_empty() && !prefix) || schema.is_some_and(str::is_empty);
        let good = !empty && usable(name) && schema.is_none_or(usable);
        good.then(|| Self { schema: schema.map(Into::into), name: name.into(), prefix })
    }

    /// Whether this relation is meant. Without a schema, that of any schema is; `doubt`: what to say of a relation whose
    /// schema is not known.
    fn means(&self, schema: Option<&str>, name: &str, doubt: bool) -> bool {
        let named = if self.prefix { name.starts_with(&*self.name) } else { *self.name == *name };
        let placed = match (self.schema.as_deref(), schema) {
            (None, _) => true,
            (Some(_), None) => doubt,
            (Some(wanted), Some(schema)) => wanted == schema,
        };
        named && placed
    }
}

/// One rule, as the configuration says it. What it leaves out holds for all; conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub effect: Effect,
    /// To allow, all tables that the statement names have to be among these; to deny, one that it reads is enough, be it
    /// through a view.
    pub tables: Vec<TableName>,
    /// The statement's strict fingerprint.
    pub fingerprint: Option<u64>,
    /// `application_name`; a star may be its last character.
    pub application: Option<String>,
    /// Statements alone that carry a hint: see [`Hint`].
    pub hinted: bool,
    /// No answer gets older. Needed to allow.
    pub ttl: Duration,
    /// How fresh answers are.
    pub freshness: Freshness,
    /// With [`Freshness::Ttl`]: how long an old answer may be served while a new one is fetched.
    pub stale_for: Duration,
    /// Names to end its answers by.
    pub tags: Vec<String>,
    /// Functions, with or without their schema, that depend on nothing but their arguments and settings of the session.
    pub pure_functions: Vec<String>,
    /// Materialised views may be read: every REFRESH of them passes here or is heard of.
    pub materialized: bool,
}

impl Rule {
    /// What answers by it promise.
    fn terms(&self) -> Terms {
        Terms { freshness: self.freshness, ttl: self.ttl, stale_for: self.stale_for }
    }

    /// Whether it declares this function pure.
    pub fn is_pure(&self, name: &Name) -> bool {
        self.pure_functions.iter().any(|declared| match declared.split_once('.') {
            Some((schema, plain)) => name.name == plain && name.schema.as_deref() == Some(schema),
            None => name.name == *declared,
        })
    }

    /// Hands what it lets a text do to `what`.
    pub fn allowed<T>(&self, what: impl FnOnce(Allowed<'_>) -> T) -> T {
        what(Allowed { pure: &|name| self.is_pure(name), materialized: self.materialized })
    }

    /// What does not change while a statement's shape and path are the same.
    fn may_hold(&self, shape: &Shape<'_>) -> bool {
        let doubt = self.effect == Effect::Deny;
        let means =
            |(schema, name): &(Option<&str>, &str)| self.tables.iter().any(|table| table.means(*schema, name, doubt));
        let tables = match self.effect {
            _ if self.tables.is_empty() => true,
            Effect::Allow => !shape.named.is_empty() && shape.named.iter().all(means),
            Effect::Deny => shape.named.iter().chain(shape.reached).any(means),
        };
        tables && self.fingerprint.is_none_or(|fingerprint| fingerprint == shape.fingerprint)
    }

    /// What may change from one execution to the next.
    fn holds_now(&self, application: &str, hint: Option<Hint>) -> bool {
        let named = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => application.starts_with(start),
            None => application == *wanted,
        };
        (!self.hinted || hint.is_some()) && self.application.as_ref().is_none_or(named)
    }

    fn is_always(&self) -> bool {
        !self.hinted && self.application.is_none()
    }
}

/// What is wrong with a rule, by its place in the list, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRule {
    /// It says of nothing what it is about.
    NoCondition(usize),
    /// It allows without a time to live.
    NoTtl(usize),
    /// Its time to live, with its grace, is beyond [`MAX_TTL`].
    LongTtl(usize),
    /// `stale_for` without `freshness = "ttl"`.
    StaleButFollowing(usize),
    /// There are more rules than can be counted.
    TooMany,
}

impl std::fmt::Display for BadRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rule, what) = match self {
            Self::NoCondition(rule) => {
                (rule, "says of nothing what it is about: name tables, a fingerprint, an application, or hints")
            }
            Self::NoTtl(rule) => (rule, "allows without a ttl: say how old an answer may get at most"),
            Self::LongTtl(rule) => (rule, "keeps answers for more than a day, its stale_for counted: shorten its ttl"),
            Self::StaleButFollowing(rule) => (rule, "has a stale_for, which needs freshness = \"ttl\""),
            Self::TooMany => return write!(f, "there are more than {} cache rules", u16::MAX),
        };
        write!(f, "cache rule {} {what}", rule + 1)
    }
}

/// What rules are asked about: a statement as its text and the catalog show it. Schema and name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape<'a> {
    /// Its strict fingerprint.
    pub fingerprint: u64,
    /// The tables that it names.
    pub named: &'a [(Option<&'a str>, &'a str)],
    /// Those that it reads besides: through views, in policies.
    pub reached: &'a [(Option<&'a str>, &'a str)],
}

/// What rules say of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is never cached.
    Never(Bypass),
    /// These rules may decide, denying ones first, then in their order.
    Perhaps(Box<[u16]>),
}

/// What is decided of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is not cached.
    Bypass(Bypass),
    /// It may be, by the rule at this place of the list.
    Allow {
        /// The place.
        rule: u16,
        /// What an answer promises.
        terms: Terms,
        /// Who asks takes none that is as old as this: what its hint says. It is not a promise of the answer, which others
        /// may have whose hints say nothing.
        youth: Option<Duration>,
    },
}

/// The rules, checked. Immutable; a reload makes new ones of another version.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Box<[Rule]>,
    version: u32,
}

impl Rules {
    /// Checks them. `version`: another one than before, wherever something is kept by it.
    pub fn new(rules: Vec<Rule>, version: u32) -> Result<Self, Vec<BadRule>> {
        let mut bad = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let said =
                !rule.tables.is_empty() || rule.fingerprint.is_some() || rule.application.is_some() || rule.hinted;
            if !said {
                bad.push(BadRule::NoCondition(at));
            }
            if rule.effect == Effect::Deny {
                continue;
            }
            if rule.ttl.is_zero() {
                bad.push(BadRule::NoTtl(at));
            }
            if rule.ttl.saturating_add(rule.stale_for) > MAX_TTL {
                bad.push(BadRule::LongTtl(at));
            }
            if rule.freshness != Freshness::Ttl && !rule.stale_for.is_zero() {
                bad.push(BadRule::StaleButFollowing(at));
            }
        }
        if u16::try_from(rules.len()).is_err() {
            bad.push(BadRule::TooMany);
        }
        if bad.is_empty() { Ok(Self { rules: rules.into(), version }) } else { Err(bad) }
    }

    /// Which rules they are.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The rule at this place.
    pub fn get(&self, rule: u16) -> Option<&Rule> {
        self.rules.get(usize::from(rule))
    }

    /// Whether any rule might allow a statement that names these tables, as its text alone shows them (`schema.name` or
    /// `name`); `None`: its tables cannot be told. `false` is certain, and needs no catalog.
    pub fn may_concern(&self, fingerprint: u64, named: Option<&[Box<str>]>) -> bool {
        let means = |rule: &Rule, name: &str| {
            let (schema, name) = name.rsplit_once('.').map_or((None, name), |(schema, name)| (Some(schema), name));
            rule.tables.iter().any(|table| table.means(schema, name, true))
        };
        let tables = |rule: &Rule| {
            rule.tables.is_empty()
                || named.is_none_or(|named| !named.is_empty() && named.iter().all(|name| means(rule, name)))
        };
        let allowing = self.rules.iter().filter(|rule| rule.effect == Effect::Allow);
        allowing.into_iter().any(|rule| rule.fingerprint.is_none_or(|known| known == fingerprint) && tables(rule))
    }

    /// Every function that some rule declares pure, and every liberty that one takes: for a first look at a text, whose
    /// tables say which rule it is.
    pub fn allowed_by_any<T>(&self, what: impl FnOnce(Allowed<'_>) -> T) -> T {
        let pure = |name: &Name| self.rules.iter().any(|rule| rule.is_pure(name));
        what(Allowed { pure: &pure, materialized: self.rules.iter().any(|rule| rule.materialized) })
    }

    /// What is said of a shape: the slow part, done once for each.
    pub fn standing(&self, shape: &Shape<'_>) -> Standing {
        let places = |effect: Effect| {
            let of_it = self.rules.iter().enumerate().filter(move |(_, rule)| rule.effect == effect);
            of_it.filter(|(_, rule)| rule.may_hold(shape))
        };
        if places(Effect::Deny).any(|(_, rule)| rule.is_always()) {
            return Standing::Never(Bypass::Denied);
        }
        if places(Effect::Allow).next().is_none() {
            return Standing::Never(Bypass::NoRule);
        }
        let both = places(Effect::Deny).chain(places(Effect::Allow));
        Standing::Perhaps(both.filter_map(|(at, _)| u16::try_from(at).ok()).collect())
    }

    /// Decides one execution.
    ///
    /// ```
    /// use policy::cache::{Bypass, Decision, Rules, Shape, preset};
    /// let rules = Rules::new(preset(), 1).unwrap();
    /// let of = |tables: &[(Option<&str>, &str)]| {
    ///     let standing = rules.standing(&Shape { named: tables, ..Shape::default() });
    ///     rules.decide(&standing, "", None)
    /// };
    /// assert!(matches!(of(&[(Some("public"), "events")]), Decision::Allow { .. }));
    /// assert_eq!(of(&[(None, "payments")]), Decision::Bypass(Bypass::NoRule));
    /// ```
    #[inline]
    pub fn decide(&self, standing: &Standing, application: &str, hint: Option<Hint>) -> Decision {
        match standing {
            Standing::Never(reason) => Decision::Bypass(*reason),
            Standing::Perhaps(_) if hint.is_some_and(|hint| hint.off) => Decision::Bypass(Bypass::HintedOff),
            Standing::Perhaps(places) => {
                let mut rules = places.iter().filter_map(|place| Some((*place, self.get(*place)?)));
                match rules.find(|(_, rule)| rule.holds_now(application, hint)) {
                    Some((_, Rule { effect: Effect::Deny, .. })) => Decision::Bypass(Bypass::Denied),
                    Some((place, rule)) => {
                        Decision::Allow { rule: place, terms: rule.terms(), youth: hint.and_then(|hint| hint.ttl) }
                    }
                    None => Decision::Bypass(Bypass::NoRule),
                }
            }
        }
    }
}

/// Rules for a workflow engine's tables, with the times that its operators ask for. For who asks for it: nothing is cached
/// by itself.
pub fn preset() -> Vec<Rule> {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let times = [
        ("events", minutes(5), "event"),
        ("users", minutes(10), "user"),
        ("servers", minutes(15), "server"),
        ("logs", minutes(2), "log"),
        ("workflows", minutes(5), "workflow"),
    ];
    let rule = |(table, ttl, tag): (&str, Duration, &str)| Rule {
        tables: TableName::parse(table).into_iter().collect(),
        ttl,
        tags: vec![tag.to_owned()],
        ..Rule::default()
    };
    times.into_iter().map(rule).collect()
}
