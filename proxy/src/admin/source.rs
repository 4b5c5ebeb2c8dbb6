//! What the admin port asks the rest of the proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use policy::fair::Share;
use policy::limits::Explained;
use serde::Serialize;

use crate::cache::Caches;
use crate::commands::CommandError;
use crate::log::level::Level;
use crate::run::reloads::{Outcome, Reloads};
use crate::tenancy::Reached;
use crate::tenant_table::Standing;

/// An answer that may take a round trip to each worker.
pub type StateFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where the admin port gets what telemetry does not hold. The answers are of one moment for each worker, not for all
/// of them together.
pub trait StateSource: Send + Sync + 'static {
    /// Whether new clients are welcome. Called for every probe: cheap, no waiting.
    fn readiness(&self) -> Readiness;

    /// How reloads went, and the log.
    fn housekeeping(&self) -> Housekeeping {
        Housekeeping::default()
    }

    /// The settings in force.
    fn settings(&self) -> Arc<Settings>;

    /// Has the configuration read again, as SIGHUP does, and tells what came of it. `None`: nobody can.
    fn reload(&self) -> StateFuture<Option<Outcome>> {
        Box::pin(async { None })
    }

    /// The read cache.
    fn caches(&self) -> &Caches;

    /// How much is logged. `None`: nobody has begun to log.
    fn log_level(&self) -> Option<Arc<Level>> {
        None
    }

    /// Has something done. The answer comes when what it stands for is true; to give up waiting does not take it back.
    fn act(&self, action: Action) -> StateFuture<Result<Acted, Failed>> {
        let _ = action;
        Box::pin(async { Err(Failed::Impossible) })
    }

    /// Pools as their ledgers have them. No waiting.
    fn pool_states(&self) -> Vec<PoolState> {
        Vec::new()
    }

    /// What tenants use of what they share, all sessions before those of a class; `limits`: and what they are held to. No
    /// waiting.
    fn tenancy(&self, limits: bool) -> Vec<TenantUse>;

    /// What operators have switched for a database. Cheap, no waiting.
    fn switches(&self, database: &str) -> Switches;

    /// The tenants that wait for upstreams of this pool, or are known to hold some, at most `limit`. Cheap, no waiting.
    fn queue(&self, database: &str, user: &str, limit: usize) -> Vec<TenantState> {
        let _ = (database, user, limit);
        Vec::new()
    }

    /// What the servers of a database have said of themselves. Cheap, no waiting.
    fn server(&self, database: &str) -> ServerState {
        let _ = database;
        ServerState::default()
    }

    /// Clients, at most `limit`.
    fn clients(&self, limit: usize) -> StateFuture<Vec<ClientState>>;

    /// Connections that listen for many clients.
    fn listeners(&self) -> Vec<ListenerState>;

    /// Sockets that clients connect to.
    fn sockets(&self) -> Vec<SocketState> {
        Vec::new()
    }

    /// Upstreams, at most `limit`.
    fn upstreams(&self, limit: usize) -> StateFuture<Vec<UpstreamState>>;
}

/// What an operator wants done. Databases: `None` is all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Close the server connections, each at its next boundary; clients wait.
    Pause(Option<String>),
    /// End the pause.
    Resume(Option<String>),
    /// Have server connections made anew.
    Reconnect(Option<String>),
    /// Let no new clients in.
    Disable(String),
    /// Let them in again.
    Enable(String),
    /// End a client.
    Kill(u64),
    /// Cancel what a client runs, and wait so long for the end of that.
    Cancel(u64, Duration),
    /// End the process when its clients are done, as SIGTERM does.
    Drain,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// It is so.
    Done,
    /// A cancel: what its client was doing, and whether that has ended.
    Cancelled(&'static str, bool),
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// By the rest of the proxy.
    Command(CommandError),
    /// It has begun already.
    Already,
    /// Nobody here can do it.
    Impossible,
}

/// One pool, of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Its database.
    pub database: String,
    /// Its user.
    pub user: String,
    /// Upstreams at most.
    pub size: usize,
    /// Upstreams, those being dialled among them.
    pub open: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// How long the one has waited that an upstream would help most; `None`: nobody waits.
    pub waiting_for: Option<Duration>,
    /// How long a client may wait.
    pub queue_timeout: Duration,
    /// Attempts to connect that have failed one after the other.
    pub failures: u32,
    /// Why the last of them did.
    pub failure: Option<String>,
    /// It gives no upstream out.
    pub paused: bool,
    /// Its database takes no new clients.
    pub disabled: bool,
}

/// What a tenant uses, or its sessions of one class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// The tenant.
    pub tenant: String,
    /// The class; empty: all of the tenant's sessions.
    pub class: String,
    /// Clients now.
    pub clients: u32,
    /// Clients that have come, by connecting or by becoming this tenant's.
    pub joined: u64,
    /// Statements that run now, where a limit has them counted.
    pub running: u32,
    /// Limits that were reached.
    pub reached: Vec<Reached>,
    /// The limits in force, where they were asked for.
    pub limits: Vec<Explained>,
}

/// What an operator should know besides traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Housekeeping {
    /// How reloads went.
    pub reloads: Reloads,
    /// Lines of the log that could not be written.
    pub log_lines_lost: u64,
    /// The process takes more memory than it may: nobody new is let in.
    pub short_of_memory: bool,
    /// SUSPEND: clients' next requests wait for RESUME.
    pub suspended: bool,
    /// Server connections beside the pools, by what they are for.
    pub side_connections: Vec<(&'static str, usize)>,
    /// How it stands with the table of tenants, if there is one.
    pub tenant_table: Option<Standing>,
}

/// A tenant in a pool's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantState {
    /// Its name.
    pub tenant: String,
    /// Clients of it that wait.
    pub waiting: usize,
    /// Upstreams that it is known to hold.
    pub held: usize,
    /// What it gets.
    pub share: Share,
}

/// What operators have switched for a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// It gives no upstream out: clients wait.
    pub paused: bool,
    /// It takes no new clients.
    pub disabled: bool,
}

/// What the servers of a database have said of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerState {
    /// `server_version`, as clients are told it; `None`: nobody has connected yet.
    pub version: Option<String>,
    /// Whether they were in recovery when they were connected to last; `None`: that is not known, or they differ.
    pub in_recovery: Option<bool>,
    /// The names that the read cache has for it.
    pub cached_as: Vec<String>,
}

/// Whether new clients are welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// No, and why: each a short sentence that may be shown to anybody, such as `draining`.
    NotReady(Vec<String>),
}

/// One client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClientState {
    /// Unique in the process.
    pub id: u64,
    /// Which worker serves it.
    pub worker: usize,
    /// The database that it asked for.
    pub database: String,
    /// The user that it logged in as.
    pub user: String,
    /// Its tenant.
    pub tenant: String,
    /// Its `application_name`.
    pub application: String,
    /// Where it comes from, with the port.
    pub address: String,
    /// Where it has connected to; `None`: by a Unix socket.
    #[serde(skip)]
    pub local: Option<SocketAddr>,
    /// Its socket's file descriptor; 0: not known.
    #[serde(skip)]
    pub descriptor: i32,
    /// Its TLS; `null`: it speaks in clear text.
    pub tls: Option<TlsState>,
    /// `idle`, `active`, `waiting`, `in_transaction`, `login`.
    pub state: &'static str,
    /// Since when it is connected, in µs on the telemetry clock.
    #[serde(skip)]
    pub connected_us: u64,
    /// Since when it is in this state, in µs on the telemetry clock.
    #[serde(skip)]
    pub state_since_us: u64,
    /// The upstream that it holds.
    pub upstream: Option<u64>,
    /// Since when it holds it, in µs on the telemetry clock.
    #[serde(skip)]
    pub held_since_us: u64,
    /// Why it keeps that upstream, if it does.
    pub pinned: Option<&'static str>,
    /// Fingerprint of the statement that made it keep it.
    pub pinned_by: Option<String>,
    /// Fingerprint of the statement that it ran last, or runs.
    pub statement: Option<String>,
    /// Prepared statements that it has.
    pub prepared_statements: usize,
    /// Channels that it listens to by a shared connection.
    pub channels: usize,
}

/// One connection that listens for all clients of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ListenerState {
    /// The server's address.
    pub address: String,
    /// The database there.
    pub database: String,
    /// `client_encoding` of what it hears, in lower case without punctuation.
    pub encoding: String,
    /// `listening`, `dialling`, `waiting` (for the next attempt to connect, or for clients).
    pub state: &'static str,
    /// The server's process id for it.
    pub backend_pid: Option<i32>,
    /// Clients that listen by it.
    pub clients: usize,
    /// Channels that they listen to.
    pub channels: usize,
    /// Notifications that it has received.
    pub notifications: u64,
    /// How often its server was lost.
    pub losses: u64,
}

/// One socket that clients connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SocketState {
    /// Address and port, or the file of a Unix socket.
    pub address: String,
    /// `tcp` or `unix`.
    pub kind: &'static str,
    /// `own`, `shared` (SO_REUSEPORT) or `inherited` (from the service manager).
    pub origin: &'static str,
    /// Connections accepted.
    pub accepted: u64,
    /// Attempts to accept that failed, as when no file descriptor is left.
    pub failed: u64,
    /// Its file descriptor; 0: not known.
    #[serde(skip)]
    pub descriptor: i32,
}

/// A client's TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsState {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The cipher suite, by OpenSSL's name.
    pub cipher: &'static str,
    /// The host name that it asked for.
    pub server_name: Option<String>,
}

/// One upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamState {
    /// Unique in the process.
    pub id: u64,
    /// Which worker it is registered with.
    pub worker: usize,
    /// Its pool's database.
    pub database: String,
    /// Its pool's user.
    pub user: String,
    /// The server's address.
    pub address: String,
    /// The same as an address alone; `None`: a Unix socket, or not known any more.
    #[serde(skip)]
    pub remote: Option<SocketAddr>,
    /// Our side of it; `None`: a Unix socket.
    #[serde(skip)]
    pub local: Option<SocketAddr>,
    /// Its socket's file descriptor; 0: not known.
    #[serde(skip)]
    pub descriptor: i32,
    /// It is closed at its next boundary.
    #[serde(skip)]
    pub retired: bool,
    /// Whether it has TLS.
    pub tls: bool,
    /// `idle`, `active`, `dialling`, `cancelling`, `resetting`.
    pub state: &'static str,
    /// Since when it is connected, in µs on the telemetry clock.
    #[serde(skip)]
    pub connected_us: u64,
    /// Since when it is in this state, in µs on the telemetry clock.
    #[serde(skip)]
    pub state_since_us: u64,
    /// The client that holds it.
    pub client: Option<u64>,
    /// The server's process id for it.
    pub backend_pid: Option<i32>,
    /// Prepared statements that it holds.
    pub prepared_statements: usize,
}
