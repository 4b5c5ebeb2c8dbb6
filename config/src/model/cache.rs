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

/// Whether a rule allows or denies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheEffect {
    /// It allows.
    #[default]
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

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
    /// What is cached; nothing is without one.
    pub rules: Vec<CacheRule>,
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
            rules: Vec::new(),
        }
    }
}
