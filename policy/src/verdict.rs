//! What may happen to a request, and every error that the proxy itself raises.
//!
//! A [`Verdict`] is what a session acts on. A [`Refusal`] is the one catalogue of our own errors: each variant carries
//! the facts in types, and [`Refusal::report`] is the only place that turns them into a SQLSTATE and texts. Each text
//! says what happened, to whom, and what to do about it. Codes are those of PostgreSQL's appendix A, picked so that a
//! worker can act on them: 53300 and 57P03 are worth a retry, 0A000 and 22023 never are.

use std::time::Duration;

pub use config::SessionState;
use config::{LimitKey, PoolMode, SessionAttrs};

mod listen;
mod login;
mod queue;
mod tenants;
mod texts;

pub use listen::ListenRefusal;
pub use login::LoginRefusal;
pub use queue::QueueRefusal;
pub use tenants::Limited;

/// What the session does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Permit,
    /// Answer with this error; the server never sees the request.
    Reject(Refusal),
    /// Pass it on, and keep the upstream for this client until it leaves: the statement leaves this behind.
    Pin(SessionState),
    /// Pass it on, and send DISCARD ALL before another client gets the upstream.
    Discard(SessionState),
}

/// Why no connection to the server came about. The address itself is for the log, not for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// Nobody listens there.
    Refused,
    /// No answer within `pool.connect_timeout`.
    TimedOut,
    /// The host's name has no address.
    UnknownHost,
    /// The server turned our user or password down.
    LoginRefused,
    /// The server has no connection left for us.
    ServerFull,
    /// It has no TLS, and its URL insists on it.
    NoTls,
    /// The TLS handshake failed.
    TlsFailed,
    /// It broke off, or spoke something other than the protocol.
    Broken,
}

impl ConnectFailure {
    /// Half a sentence about the server.
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "the connection was refused",
            Self::TimedOut => "it did not answer in time",
            Self::UnknownHost => "its host name has no address",
            Self::LoginRefused => "it refused the user or password that the proxy has for it",
            Self::ServerFull => "it has no free connection slot",
            Self::NoTls => "it does not offer TLS, which the proxy is told to insist on",
            Self::TlsFailed => "no trusted TLS connection to it came about",
            Self::Broken => "it broke the connection off",
        }
    }
}

/// What a client's connection lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityLack {
    /// TLS.
    Tls,
    /// A certificate of the client.
    Certificate,
    /// A certificate of this user: it is somebody else's.
    OwnCertificate,
}

/// A limit that has been reached, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Of one pool: `pool.size`, and the reserve.
    Pool(usize),
    /// `databases.<name>.max_…`
    Database(usize),
    /// `users.<name>.max_…`
    User(usize),
    /// Of the whole proxy: `max_…`
    Proxy(usize),
    /// Of one tenant: its `max_upstreams`.
    Tenant(usize),
    /// Of a tenant's sessions of one class: the class's `max_upstreams`.
    Class(usize),
}

/// An error of our own. The client keeps its connection unless [`Refusal::is_fatal`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 0A000: BEGIN in a pool that gives upstreams back after each statement.
    TransactionBlock {
        /// The database that was asked for.
        database: Box<str>,
    },
    /// 57014: it ran into its tenant's limit. The same message as PostgreSQL's own.
    StatementTimeout {
        /// Whose limit.
        limited: Limited,
        /// How long it may be.
        limit: Duration,
    },
    /// 53400, for clients 53300: a tenant has as many as it may, or its results are as large as they may be.
    TooMany {
        /// Whose limit.
        limited: Limited,
        /// How many, how large.
        limit: u64,
        /// When to come again, where that is known.
        retry_in: Option<Duration>,
    },
    /// 25006, 42501: something that a tenant may not do.
    NotAllowed {
        /// Whose limit.
        limited: Limited,
        /// What it named, as a table; empty: nothing in particular.
        what: Box<str>,
    },
    /// 25P03, 25P04, 57P05: a client was silent, or its transaction open, for longer than its tenant may.
    Silent {
        /// Whose limit.
        limited: Limited,
        /// How long it may be.
        limit: Duration,
    },
    /// 57014: the client cancelled a request that was still queueing.
    CancelledInQueue,
    /// 53300: no upstream became free in time.
    QueueTimeout {
        /// The pool's database.
        database: Box<str>,
        /// The pool's user.
        user: Box<str>,
        /// How long this request waited.
        waited: Duration,
        /// Why there was none.
        limit: Limit,
        /// Clients that wait in the same queue, this one not counted.
        waiting: usize,
        /// Its tenant's `queue_timeout`, where that ended the wait and not the pool's.
        limited: Option<Box<Limited>>,
    },
    /// 53300: too many wait already.
    Queue(QueueRefusal),
    /// 53300: so many clients are served already.
    TooManyClients {
        /// The database that was asked for.
        database: Box<str>,
        /// The user that asked.
        user: Box<str>,
        /// Which limit, of `max_clients`.
        limit: Limit,
    },
    /// 53300: there are as many pools as there may be, and none of them is empty.
    TooManyPools {
        /// `max_pools`.
        limit: usize,
    },
    /// 53300: the process takes more memory than it should.
    ShortOfMemory {
        /// `max_memory`, in bytes.
        limit: u64,
    },
    /// 55000: the database was disabled by an operator. PostgreSQL's words for one that is closed.
    DatabaseDisabled {
        /// The database that was asked for.
        database: Box<str>,
    },
    /// 57P01: an operator has ended this connection.
    Killed,
    /// 57P01: somebody has called `pg_terminate_backend` with the process id that this client was told.
    Terminated,
    /// 57P01: a reload took the database out of the configuration.
    DatabaseRemoved {
        /// The database that was asked for.
        database: Box<str>,
    },
    /// 25P03: a transaction was held open in silence.
    IdleInTransaction {
        /// `pool.idle_in_transaction_timeout`.
        limit: Duration,
    },
    /// 57P01: the proxy is going down.
    ShuttingDown,
    /// 57P03: the server is starting, recovering or failing over, or was found down a moment ago.
    Unavailable {
        /// The database that was asked for.
        database: Box<str>,
        /// When the proxy tries next.
        retry_in: Duration,
    },
    /// 08001: no connection to the server could be made.
    CannotConnect {
        /// The database that was asked for.
        database: Box<str>,
        /// Why.
        failure: ConnectFailure,
    },
    /// 57P03: there are servers, and none of them is what `target_session_attrs` wants, as during a fail-over.
    NoneFits {
        /// The database that was asked for.
        database: Box<str>,
        /// What is wanted.
        wanted: SessionAttrs,
    },
    /// 08006: the server went away under a request.
    UpstreamLost {
        /// The pool's database.
        database: Box<str>,
        /// Whether a transaction was open, whose outcome is now unknown or undone.
        in_transaction: bool,
    },
    /// 28P01: wrong password, or nobody of that name. Which of the two is not told.
    PasswordFailed {
        /// The name that was claimed.
        user: Box<str>,
    },
    /// 28000: pass-through would need the password in clear text over a network.
    PlaintextRefused {
        /// The name that was claimed.
        user: Box<str>,
    },
    /// 28000: the connection is not secured as `tls.mode` has it.
    NotSecured {
        /// The name that was claimed.
        user: Box<str>,
        /// What it lacks.
        lack: SecurityLack,
    },
    /// A rule or a limit keeps the client out.
    Login(LoginRefusal),
    /// 28000: the startup packet names no user.
    NoUser,
    /// 57014: not logged in within `auth.login_timeout`, as PostgreSQL words it.
    LoginTimeout {
        /// `auth.login_timeout`.
        limit: Duration,
    },
    /// 3D000: no such database, and no wildcard.
    UnknownDatabase {
        /// The database that was asked for.
        database: Box<str>,
    },
    /// 22023: a setting that this tenant may not have.
    RefusedSetting {
        /// The setting.
        name: Box<str>,
        /// Whose limit.
        tenant: Box<str>,
        /// The most that is allowed.
        limit: Duration,
    },
    /// 0A000: session state that this pool's mode cannot carry, where pool or tenant say that it is refused.
    NotInThisMode {
        /// What the statement would leave behind.
        state: SessionState,
        /// The pool's mode.
        mode: PoolMode,
    },
    /// 53400: one client has prepared as much under names as it may.
    TooManyStatements {
        /// `pool.max_client_prepared`, or `pool.max_client_prepared_bytes`.
        limit: usize,
        /// Which of the two.
        bytes: bool,
    },
    /// 54000, 57P03, 53400, 08006: about channels and notifications.
    Listen(ListenRefusal),
    /// 08P01: bytes that are not the protocol.
    ProtocolViolation {
        /// What was wrong, in a few words, without the client's bytes.
        what: Box<str>,
    },
}

/// A refusal as the client sees it: the fields of an ErrorResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Fields S and V.
    pub severity: Severity,
    /// Field C: five characters.
    pub code: &'static str,
    /// Field M.
    pub message: String,
    /// Field D.
    pub detail: Option<String>,
    /// Field H.
    pub hint: Option<String>,
}

/// Whether the connection survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The request failed.
    Error,
    /// The connection closes after it.
    Fatal,
}

impl Severity {
    /// As PostgreSQL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

impl Refusal {
    /// SQLSTATE of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TransactionBlock { .. } | Self::NotInThisMode { .. } => "0A000",
            Self::TooMany { limited, .. } => limited.code(),
            Self::NotAllowed { limited, .. } => limited.code(),
            Self::Silent { limited, .. } => limited.code(),
            Self::StatementTimeout { .. } | Self::CancelledInQueue | Self::LoginTimeout { .. } => "57014",
            Self::QueueTimeout { .. }
            | Self::Queue(_)
            | Self::TooManyClients { .. }
            | Self::TooManyPools { .. }
            | Self::ShortOfMemory { .. } => "53300",
            Self::IdleInTransaction { .. } => "25P03",
            Self::ShuttingDown | Self::Killed | Self::Terminated | Self::DatabaseRemoved { .. } => "57P01",
            Self::DatabaseDisabled { .. } => "55000",
            Self::Unavailable { .. } | Self::NoneFits { .. } => "57P03",
            Self::CannotConnect { .. } => "08001",
            Self::UpstreamLost { .. } => "08006",
            Self::PasswordFailed { .. } => "28P01",
            Self::PlaintextRefused { .. } | Self::NotSecured { .. } | Self::NoUser => "28000",
            Self::Login(refusal) => refusal.code(),
            Self::UnknownDatabase { .. } => "3D000",
            Self::RefusedSetting { .. } => "22023",
            Self::TooManyStatements { .. } => "53400",
            Self::Listen(refusal) => refusal.code(),
            Self::ProtocolViolation { .. } => "08P01",
        }
    }

    /// Whether the client's connection closes after it.
    ///
    /// Everything before the end of login is fatal, as with PostgreSQL. After it, only what leaves no usable
    /// conversation behind: shutdown, a protocol violation, a transaction that was taken away.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::TooManyClients { .. }
            | Self::TooManyPools { .. }
            | Self::ShortOfMemory { .. }
            | Self::DatabaseDisabled { .. }
            | Self::DatabaseRemoved { .. }
            | Self::Killed
            | Self::Terminated
            | Self::IdleInTransaction { .. }
            | Self::Silent { .. }
            | Self::ShuttingDown
            | Self::PasswordFailed { .. }
            | Self::PlaintextRefused { .. }
            | Self::NotSecured { .. }
            | Self::Login(_)
            | Self::NoUser
            | Self::LoginTimeout { .. }
            | Self::UnknownDatabase { .. }
            | Self::ProtocolViolation { .. } => true,
            Self::UpstreamLost { in_transaction, .. } => *in_transaction,
            Self::Listen(refusal) => refusal.is_fatal(),
            Self::TooMany { limited, .. } => limited.key == LimitKey::MaxClients,
            Self::NotAllowed { .. }
            | Self::TransactionBlock { .. }
            | Self::StatementTimeout { .. }
            | Self::CancelledInQueue
            | Self::QueueTimeout { .. }
            | Self::Queue(_)
            | Self::Unavailable { .. }
            | Self::CannotConnect { .. }
            | Self::NoneFits { .. }
            | Self::RefusedSetting { .. }
            | Self::TooManyStatements { .. }
            | Self::NotInThisMode { .. } => false,
        }
    }

    /// The whole error: code, severity and texts.
    pub fn report(&self) -> Report {
        let (message, detail, hint) = self.texts();
        Report {
            severity: if self.is_fatal() { Severity::Fatal } else { Severity::Error },
            code: self.code(),
            message,
            detail,
            hint,
        }
    }
}

#[cfg(test)]
mod tests;
