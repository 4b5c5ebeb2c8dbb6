//! The read cache, as far as it is written down.

use std::time::Duration;

/// Whether the cache works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Nothing is kept and nothing served.
    #[default]
    Off,
    /// Replies are kept and compared with the server's, which are served.
    Observe,
    /// Replies are kept and served.
    On,
}

impl CacheMode {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["off", "observe", "on"];

    /// As the configuration spells it.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Off, Self::Observe, Self::On].into_iter().find(|mode| mode.word() == word)
    }

    /// As the configuration spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }
}

/// How fresh the answers of a rule have to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheFreshness {
    /// As old as the rule's `ttl`.
    Ttl,
    /// Writes that pass this process at once, others within 250 ms.
    #[default]
    Coherent,
    /// As if it came from the server.
    Strict,
}

impl CacheFreshness {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["ttl", "coherent", "strict"];

    /// As the configuration spells it.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Ttl, Self::Coherent, Self::Strict].into_iter().find(|freshness| freshness.word() == word)
    }

    /// As the configuration spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Coherent => "coherent",
            Self::Strict => "strict",
        }
    }
}

/// Whether a rule allows or denies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheEffect {
    /// It allows.
    #[default]
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

impl CacheEffect {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["allow", "deny"];
}

/// Rules that are shipped, to be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePreset {
    /// Tables of a workflow engine, with the times that its operators ask for.
    WorkflowEngine,
}

impl CachePreset {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["workflow-engine"];

    /// As the configuration spells it.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(Self::WorkflowEngine).filter(|preset| preset.word() == word)
    }

    /// As the configuration spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::WorkflowEngine => "workflow-engine",
        }
    }

    /// Its tables, how many minutes an answer about each may live, and the tag to end it by.
    pub const fn tables(self) -> &'static [(&'static str, u64, &'static str)] {
        match self {
            Self::WorkflowEngine => &[
                ("events", 5, "event"),
                ("users", 10, "user"),
                ("servers", 15, "server"),
                ("logs", 2, "log"),
                ("workflows", 5, "workflow"),
            ],
        }
    }

    /// Its rules: one for each table.
    pub fn rules(self) -> impl Iterator<Item = CacheRule> {
        self.tables().iter().map(|(table, minutes, tag)| CacheRule {
            tables: vec![(*table).to_owned()],
            ttl: Duration::from_secs(60 * minutes),
            tags: vec![(*tag).to_owned()],
            ..CacheRule::default()
        })
    }
}

/// No answer is kept longer.
const MAX_TTL: Duration = Duration::from_secs(24 * 3_600);
/// Rules that can be counted.
pub(crate) const MAX_RULES: usize = u16::MAX as usize;

/// One `[[cache.rule]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheRule {
    /// Allow or deny.
    pub effect: CacheEffect,
    /// Tables, as `runs`, `audit.log` or `log_*`.
    pub tables: Vec<String>,
    /// A statement's fingerprint.
    pub fingerprint: Option<u64>,
    /// `application_name`; a star may be its last character.
    pub application: Option<String>,
    /// Statements alone that carry a hint in a comment.
    pub hinted: bool,
    /// No answer gets older.
    pub ttl: Duration,
    /// How fresh answers are.
    pub freshness: CacheFreshness,
    /// With `ttl` alone: how long an old answer may be served while a new one is fetched.
    pub stale_for: Duration,
    /// Names to end its answers by.
    pub tags: Vec<String>,
    /// Functions that depend on nothing but their arguments and the session's settings.
    pub pure_functions: Vec<String>,
    /// Materialised views may be read.
    pub materialized: bool,
}

impl CacheRule {
    /// Whether a table can be called so in a rule: a name, perhaps with its schema, perhaps with a star at its end.
    pub(crate) fn is_table(text: &str) -> bool {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let (name, prefix) = name.strip_suffix('*').map_or((name, false), |start| (start, true));
        let usable = |part: &str| !part.contains(['.', '*', '"']) && !part.chars().any(char::is_whitespace);
        let empty = (name.is_empty() && !prefix) || schema.is_some_and(str::is_empty);
        !empty && usable(name) && schema.is_none_or(usable)
    }

    /// What is wrong with it, as the key that is to blame (empty: none of them) and half a sentence that says what to do.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        for name in self.tables.iter().filter(|name| !Self::is_table(name)) {
            let shown: String = name.chars().take(40).collect();
            mistakes.push(("tables", format!("holds \"{}\", which is no table; write runs, audit.log or log_*, as the server folds names, with a star as the last character alone", shown.escape_debug())));
        }
        let says = !self.tables.is_empty() || self.fingerprint.is_some() || self.application.is_some() || self.hinted;
        if !says {
            mistakes.push((
                "",
                "says of nothing what it is about; name tables, a fingerprint, an application, or set hinted = true"
                    .to_owned(),
            ));
        }
        if self.effect == CacheEffect::Deny {
            return mistakes;
        }
        if self.ttl.is_zero() {
            mistakes
                .push(("ttl", "is missing or 0; say how old an answer may get at most, as ttl = \"5m\"".to_owned()));
        }
        if self.ttl.saturating_add(self.stale_for) > MAX_TTL {
            mistakes.push(("ttl", "keeps answers for more than a day, stale_for counted; shorten it".to_owned()));
        }
        if self.freshness != CacheFreshness::Ttl && !self.stale_for.is_zero() {
            mistakes
                .push(("stale_for", "needs freshness = \"ttl\"; what follows writes is never served stale".to_owned()));
        }
        mistakes
    }
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Whether it works.
    pub mode: CacheMode,
    /// Bytes of all entries together.
    pub max_bytes: u64,
    /// Bytes of one entry.
    pub max_entry: u64,
    /// The part of `max_bytes` that one tenant may hold, more than 0 and at most 1.
    pub tenant_share: f64,
    /// Replies that the server needs less time for are not kept.
    pub min_cost: Duration,
    /// Nobody writes to the databases but through this process: no slot is needed.
    pub sole_writer: bool,
    /// The publication that the slot reads.
    pub publication: String,
    /// How often the catalog is looked at for changes that were made past this process.
    pub catalog_poll: Duration,
    /// Rules that were asked for by name. They stand in `rules` too, at their end.
    pub preset: Option<CachePreset>,
    /// What is cached; nothing is without one.
    pub rules: Vec<CacheRule>,
    /// There were rules when the process began, whatever there are now: see [`Cache::follows`].
    pub followed: bool,
}

impl Cache {
    /// Whether statements that write are followed. That begins with the process or not at all: nobody knows what was sent
    /// before.
    pub fn follows(&self) -> bool {
        self.followed || !self.rules.is_empty()
    }
}

impl Default for Cache {
    /// What the keys have where they are not written.
    fn default() -> Self {
        Self {
            mode: CacheMode::Off,
            max_bytes: 256 << 20,
            max_entry: 256 << 10,
            tenant_share: 0.25,
            min_cost: Duration::from_micros(300),
            sole_writer: false,
            publication: "pgweir_cache".to_owned(),
            catalog_poll: Duration::from_secs(5),
            preset: None,
            rules: Vec::new(),
            followed: false,
        }
    }
}
