//! The validated settings. Every duration, size and name in here has been checked.

mod address;
mod admin;
mod auth;
mod cache;
mod console;
mod limit_keys;
mod limits;
mod listen;
mod mute;
mod peers;
mod tenants;
mod tls;
mod untracked;
mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use address::{ListenAddress, UnixSocket};
pub use admin::{Admin, AdminRole, AdminTls, AdminToken, Audit, LONG_TOKEN, TokenDigest, TokenTable};
pub use auth::*;
pub(crate) use cache::MAX_RULES;
pub use cache::{Cache, CacheEffect, CacheFreshness, CacheMode, CachePreset, CacheRule};
pub use console::Console;
pub use limit_keys::{LimitKey, LimitKind, LimitValue, Limits};
pub use limits::{DatabaseLimits, UserLimits};
pub use listen::{Listen, ListenLoss, ListenWay};
pub use mute::Mute;
pub use peers::{PeerAddress, Peers};
pub use tenants::{ClassRule, MAX_CLASSES, Mode, Origin, TenantRule, TenantTable, Tenants};
pub use tls::*;
pub use untracked::{OnUntracked, SessionState, Untracked};
pub use upstream::{Host, MaxProtocol, SessionAttrs, Upstream};

/// Everything that the proxy is told at start and on reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where its values were written.
    pub origins: std::sync::Arc<crate::Origins>,
    /// Where clients connect. At least one.
    pub listen: Vec<ListenAddress>,
    /// Other processes may listen there too.
    pub listen_reuse_port: bool,
    /// Files of the configuration that have changed are read without being asked for.
    pub reload_on_change: bool,
    /// Who may connect by Unix sockets.
    pub unix_socket: UnixSocket,
    /// The HTTP port for operators; `None` switches it off.
    pub admin: Option<Admin>,
    /// Who may use the console.
    pub console: Console,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How the kernel schedules them.
    pub worker_scheduling: Scheduling,
    /// Clients served at once over all databases; the next one is told 53300.
    pub max_clients: usize,
    /// TLS towards clients.
    pub tls: ClientTls,
    /// TLS towards servers whose URL says nothing else.
    pub upstream_tls: UpstreamTls,
    /// Server connections at once over all pools; 0: no such limit.
    pub max_upstreams: usize,
    /// Server connections at once beside the pools, which look up, try, look at and listen.
    pub max_side_connections: usize,
    /// How long the addresses of a server's name are believed while connections to it are open; zero: as long as those are.
    pub dns_max_ttl: Duration,
    /// Pools at once: clients choose the names of users, and with a wildcard those of databases.
    pub max_pools: usize,
    /// Bytes of resident memory beyond which no new client is let in; 0: no such limit.
    pub max_memory: u64,
    /// How clients and the proxy prove who they are.
    pub auth: Auth,
    /// Users known by name. Passwords are in here: `Secret` hides them from `Debug`.
    pub users: BTreeMap<String, User>,
    /// Limits of users, of those that have any.
    pub user_limits: BTreeMap<String, UserLimits>,
    /// What holds for the pools of databases that say nothing else.
    pub pool: Pool,
    /// Databases by the name that clients ask for.
    pub databases: BTreeMap<String, Database>,
    /// Serves every database name that is not in `databases`: under that same name, unless its upstream names a
    /// database, which then serves them all.
    pub wildcard: Option<Database>,
    /// Whose statement is this: the rules, in order.
    pub tenants: Tenants,
    /// What is watched, and how closely.
    pub observe: Observe,
    /// Event streams in files.
    pub capture: Capture,
    /// The slow statement log.
    pub slow_log: SlowLog,
    /// What may be answered without asking the server.
    pub cache: Cache,
    /// When a peer that says nothing more has gone.
    pub tcp: Tcp,
    /// Other instances behind the same address.
    pub peers: Peers,
    /// What happens on SIGTERM.
    pub shutdown: Shutdown,
    /// How the proxy logs.
    pub log: Log,
}

/// How the kernel finds out that the other side of a TCP connection has gone without a word: clients' and servers'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Silence before the first probe.
    pub keepidle: Duration,
    /// Time between probes.
    pub keepintvl: Duration,
    /// Probes without an answer before the connection is lost.
    pub keepcnt: u32,
    /// How long sent bytes may wait to be taken; `None`: as long as the kernel tries, about a quarter of an hour.
    pub user_timeout: Option<Duration>,
}

impl Default for Tcp {
    /// What the keys have where they are not written.
    fn default() -> Self {
        Self { keepidle: Duration::from_secs(60), keepintvl: Duration::from_secs(10), keepcnt: 3, user_timeout: None }
    }
}

/// One database that clients may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Where it lives.
    pub upstream: Upstream,
    /// Its pools' settings (one pool per user).
    pub pool: Pool,
    /// How secrets of users who are not listed are looked up; `None`: they have none.
    pub auth_query: Option<AuthQuery>,
    /// Limits over all its pools. Of the wildcard: for each database by itself.
    pub limits: DatabaseLimits,
}

/// When an upstream is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// At the end of each transaction.
    Transaction,
    /// At the end of each statement; transaction blocks are refused.
    Statement,
}

/// Settings of a pool: one per (database, user).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// When an upstream is given back.
    pub mode: PoolMode,
    /// Upstreams at most, at least 1.
    pub size: usize,
    /// Upstreams kept open even when idle, ≤ `size`.
    pub min_size: usize,
    /// Upstreams beyond `size` for a client that has waited for `reserve_after`.
    pub reserve_size: usize,
    /// How long a client waits before the reserve is touched.
    pub reserve_after: Duration,
    /// A pool without clients and upstreams is forgotten after so long; zero: never.
    pub empty_timeout: Duration,
    /// How long a client waits for an upstream before 53300.
    pub queue_timeout: Duration,
    /// How long one connection attempt may take, login included.
    pub connect_timeout: Duration,
    /// First pause after a failed connection attempt; doubles, with jitter, up to `connect_backoff_max`.
    pub connect_backoff: Duration,
    /// Longest pause between connection attempts.
    pub connect_backoff_max: Duration,
    /// An upstream unused for so long is closed (down to `min_size`); zero: never.
    pub idle_timeout: Duration,
    /// An upstream older than this, ± 10 % jitter, is closed at its next boundary; zero: never.
    pub lifetime: Duration,
    /// An upstream idle for longer is checked by an empty query before use; zero: never.
    pub health_check_after: Duration,
    /// A client that holds a transaction open without speaking for so long gets 25P03; zero: never.
    pub idle_in_transaction_timeout: Duration,
    /// Prepared statements kept on each upstream.
    pub max_prepared: usize,
    /// Statements that one client may have prepared under names.
    pub max_client_prepared: usize,
    /// Bytes that their names and texts may take.
    pub max_client_prepared_bytes: usize,
    /// Whether a text that is prepared without a name is parsed only once on each upstream.
    pub share_anonymous: bool,
    /// How LISTEN is served.
    pub listen: Listen,
    /// What is done about session state that cannot be followed.
    pub untracked: Untracked,
    /// How often the server's functions are looked at for what they do to a session; `None`: never.
    pub inspect_functions: Option<Duration>,
}

/// How the kernel schedules worker threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// One that is woken waits until whoever runs has paused (`SCHED_BATCH`).
    Batch,
    /// As any other thread.
    Normal,
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Fingerprints and statistics.
    pub statements: bool,
    /// N+1 detection.
    pub n_plus_one: bool,
    /// Thresholds of the detector.
    pub profile: Profile,
    /// Tell of identical statements that are sent over and over.
    pub duplicates: bool,
    /// Statements that each worker hands to the detector in a second; in windows of 2 s, from the beginning of each.
    pub events_per_second: u32,
    /// The major version of PostgreSQL, 15 to 18, whose `pg_stat_statements` the fingerprints group like.
    pub compat: u16,
    /// Look for statements that have become slower.
    pub regressions: bool,
    /// How often.
    pub regression_interval: Duration,
    /// Read the servers' own ids of statements from `pg_stat_statements`.
    pub pg_stat_statements: bool,
    /// Where acknowledgements and mutes outlive a restart; `None`: nowhere.
    pub state_directory: Option<PathBuf>,
    /// Fingerprints kept per worker; the rest share one row.
    pub max_fingerprints: usize,
    /// Show example literals in findings and logs. Off unless an operator asks.
    pub samples: bool,
    /// Findings that nobody wants to be told of.
    pub mutes: Vec<Mute>,
}

/// Thresholds of the detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Fan-out from 3, loops without a seen parent reported.
    Development,
    /// Fan-out from 5, loops without a seen parent silent.
    Production,
}

/// Event streams in files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// Where; `None`: there are none.
    pub directory: Option<PathBuf>,
    /// Values may stay as they are.
    pub allow_values: bool,
}

/// The slow statement log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowLog {
    /// Slow from here on; `None`: off.
    pub threshold: Option<Duration>,
    /// Lines per fingerprint and minute at most; the rest are counted in the next line.
    pub per_minute: u32,
    /// Capture plans of slow statements.
    pub plans: bool,
    /// Plans captured in a minute at most, over all fingerprints.
    pub plans_per_minute: u32,
    /// How long the server may take to plan.
    pub plan_timeout: Duration,
    /// A transaction is slow from here on; `None`: never.
    pub transaction_threshold: Option<Duration>,
    /// A client is idle in a transaction from here on; `None`: never.
    pub idle_threshold: Option<Duration>,
}

impl Default for SlowLog {
    /// As the file's defaults, but nothing is slow.
    fn default() -> Self {
        Self {
            threshold: None,
            per_minute: 10,
            plans: true,
            plans_per_minute: 20,
            plan_timeout: Duration::from_secs(1),
            transaction_threshold: None,
            idle_threshold: None,
        }
    }
}

/// What happens on SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// Transactions may finish for so long.
    pub drain_timeout: Duration,
    /// Readiness is red for so long before the listener closes.
    pub grace: Duration,
}

/// How the proxy logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`.
    pub level: LogLevel,
    /// JSON lines, or text for people.
    pub json: bool,
    /// A file instead of standard error.
    pub file: Option<PathBuf>,
}

/// Least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    /// By its word in the file; `None`: it is none.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }
}
