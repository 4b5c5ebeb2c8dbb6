//! The words of each refusal: message, detail, hint. Apart from the types so that they can be read in one sitting.

use super::{Limit, Refusal, SecurityLack, SessionState};
use config::PoolMode;
use config::units::show_duration as show;

/// Message (field M), detail (D) and hint (H).
pub(super) type Texts = (String, Option<String>, Option<String>);

impl Refusal {
    pub(super) fn texts(&self) -> Texts {
        let limits = self.tenant_texts().or_else(|| self.limit_texts());
        limits.or_else(|| self.server_texts()).unwrap_or_else(|| self.client_texts())
    }

    /// A limit of the proxy's was reached.
    fn limit_texts(&self) -> Option<Texts> {
        Some(match self {
            Self::QueueTimeout { database, user, waited, limit, waiting, limited } => texts(
                "no server connection became free in time",
                format!(
                    "Pool \"{database}\" of user \"{user}\": waited {}, {}, {waiting} more clients are waiting.{}",
                    show(*waited),
                    limit.in_use(),
                    limited.as_ref().map(|limited| format!(" {}", limited.waits())).unwrap_or_default()
                ),
                format!(
                    "Retry later. If it happens often, look for long transactions, or raise {} or {}.",
                    limit.key("max_upstreams"),
                    limited.as_ref().map_or_else(|| "pool.queue_timeout".to_owned(), |limited| limited.named())
                ),
            ),
            Self::Queue(refusal) => refusal.texts(),
            Self::TooManyClients { database, user, limit } => texts(
                match limit {
                    Limit::Database(_) => format!("too many connections for database \"{database}\""),
                    Limit::User(_) => format!("too many connections for role \"{user}\""),
                    Limit::Pool(_) | Limit::Proxy(_) | Limit::Tenant(_) | Limit::Class(_) => {
                        "too many clients already".to_owned()
                    }
                },
                format!("The proxy serves {} such clients at once, and all places are taken.", limit.number()),
                format!("Retry later, close connections that are not used, or raise {}.", limit.key("max_clients")),
            ),
            Self::TooManyPools { limit } => texts(
                "too many pools",
                format!("The proxy keeps {limit} pools, one for each database and user, and each of them is in use."),
                "Retry later, let clients share users, or raise max_pools.",
            ),
            Self::ShortOfMemory { limit } => texts(
                "the proxy is short of memory",
                format!(
                    "It takes more than the {} MiB that it is given; those who are connected go on.",
                    limit.div_ceil(1 << 20)
                ),
                "Retry later, close connections that are not used, or raise max_memory.",
            ),
            Self::IdleInTransaction { limit } => texts(
                "terminating connection due to idle-in-transaction timeout",
                format!("The transaction was open for {} without a statement; it has been rolled back.", show(*limit)),
                "End transactions before waiting for anything else, or raise pool.idle_in_transaction_timeout.",
            ),
            Self::LoginTimeout { limit } => texts(
                "canceling authentication due to timeout",
                format!("The client did not log in within {}.", show(*limit)),
                "Check the network between client and proxy, or raise auth.login_timeout.",
            ),
            Self::TooManyStatements { limit, bytes } => texts(
                "too many prepared statements",
                if *bytes {
                    format!("The names and texts of one client's statements may take {limit} bytes.")
                } else {
                    format!("One client may have {limit} statements prepared under names.")
                },
                format!(
                    "Close statements that are not used any more, let the driver cache fewer, or raise pool.max_client_prepared{}.",
                    if *bytes { "_bytes" } else { "" }
                ),
            ),
            Self::RefusedSetting { name, tenant, limit } => texts(
                format!("parameter \"{name}\" cannot be set to that value here"),
                format!("The limit of tenant \"{tenant}\" is {}.", show(*limit)),
                format!("Set \"{name}\" to the limit or less; an operator can change the limit for this tenant."),
            ),
            _ => return None,
        })
    }

    /// The server, or the proxy itself, is not there.
    fn server_texts(&self) -> Option<Texts> {
        Some(match self {
            Self::ShuttingDown => texts(
                "terminating connection due to administrator command",
                "The proxy is shutting down.",
                "Connect again; another instance or the restarted one takes over.",
            ),
            Self::Killed => texts(
                "terminating connection due to administrator command",
                "An operator has ended this connection to the proxy.",
                "Connect again, unless the operator says otherwise.",
            ),
            Self::Terminated => texts(
                "terminating connection due to administrator command",
                "This client was ended by pg_terminate_backend with the process id that it was told.",
                "Connect again, unless whoever called it says otherwise.",
            ),
            Self::DatabaseRemoved { database } => texts(
                "terminating connection due to administrator command",
                format!("Database \"{database}\" was taken out of the proxy's configuration."),
                "Ask the operator where the database is served now.",
            ),
            Self::DatabaseDisabled { database } => texts(
                format!("database \"{database}\" is not currently accepting connections"),
                "An operator has disabled it on the proxy.",
                "Retry when it has been enabled again.",
            ),
            Self::Unavailable { database, retry_in } => texts(
                "the database system is not accepting connections",
                format!(
                    "The server of database \"{database}\" is starting, failing over or down; the proxy tries again in {}.",
                    show(*retry_in)
                ),
                "Retry after that time. Clients need not reconnect.",
            ),
            Self::CannotConnect { database, failure } => texts(
                "could not connect to the server",
                format!("The server of database \"{database}\": {}.", failure.words()),
                "Retry later. Operators find the address and the exact error in the proxy's log.",
            ),
            Self::NoneFits { database, wanted } => texts(
                "no server of the wanted kind is available",
                format!(
                    "Database \"{database}\" needs a server that is {} (target_session_attrs); none of its servers is one now.",
                    wanted.as_str()
                ),
                "Retry later: during a fail-over the next server takes over in a moment. Clients need not reconnect.",
            ),
            Self::UpstreamLost { database, in_transaction } => texts(
                "connection to the server was lost",
                if *in_transaction {
                    format!(
                        "The server of database \"{database}\" closed the connection inside a transaction. If COMMIT was already sent, its outcome is unknown; otherwise it was rolled back."
                    )
                } else {
                    format!(
                        "The server of database \"{database}\" closed the connection during the statement. Whether it took effect is unknown."
                    )
                },
                "Check what was written before repeating it. Operators find the cause in the proxy's log.",
            ),
            _ => return None,
        })
    }

    /// The client asked for something that cannot be.
    fn client_texts(&self) -> Texts {
        match self {
            Self::TransactionBlock { database } => texts(
                "transaction blocks are not allowed in statement pooling mode",
                format!("The pool of database \"{database}\" gives its server connection back after each statement."),
                "Send single statements, or set mode = \"transaction\" for this database.",
            ),
            Self::CancelledInQueue => texts(
                "canceling statement due to user request",
                "The request was still waiting for a server connection; nothing of it was run.",
                None::<&str>,
            ),
            Self::PasswordFailed { user } => texts(
                format!("password authentication failed for user \"{user}\""),
                None::<&str>,
                "Check user name and password of the connection string; the proxy knows users from its configuration, its userlist or the server itself.",
            ),
            Self::PlaintextRefused { user } => texts(
                format!("password of user \"{user}\" may not be asked for over this network"),
                "Pass-through login needs the password in clear text, and the connection is neither local nor encrypted; or the server asks the proxy for none, which says nothing about a client on a network.",
                "Connect with TLS (sslmode=require) where the proxy offers it, or over loopback; or add the user to the proxy's configuration so that SCRAM is used.",
            ),
            Self::NotSecured { user, lack } => not_secured(user, *lack),
            Self::Login(refusal) => refusal.texts(),
            Self::NoUser => texts(
                "no PostgreSQL user name specified in startup packet",
                None::<&str>,
                "Name a user in the connection string.",
            ),
            Self::UnknownDatabase { database } => texts(
                format!("database \"{database}\" does not exist"),
                "The proxy's configuration has neither this database nor a wildcard.",
                format!(
                    "Check the name in the connection string, or add [databases.\"{database}\"] or [databases.\"*\"] to the proxy's configuration."
                ),
            ),
            Self::NotInThisMode { state, mode } => not_in_this_mode(*state, *mode),
            Self::Listen(refusal) => refusal.texts(),
            Self::ProtocolViolation { what } => texts(
                "protocol violation",
                format!("{what}."),
                "The client does not speak PostgreSQL's protocol 3, or the connection was damaged on its way; check the driver and what lies between.",
            ),
            _ => texts("request refused", None::<&str>, None::<&str>),
        }
    }
}

fn not_secured(user: &str, lack: SecurityLack) -> Texts {
    match lack {
        SecurityLack::Tls => texts(
            format!("connection of user \"{user}\" is not encrypted"),
            "The proxy lets only clients with TLS in (tls.mode).",
            "Set sslmode=require, or more, in the connection string.",
        ),
        SecurityLack::Certificate => texts(
            "connection requires a valid client certificate",
            "The proxy lets only clients in that show a certificate of tls.ca_file (tls.mode).",
            "Name certificate and key in the connection string: sslcert and sslkey.",
        ),
        SecurityLack::OwnCertificate => texts(
            format!("certificate authentication failed for user \"{user}\""),
            "The common name of the client's certificate is not the user's name, as tls.mode = verify-full has it.",
            "Show the certificate of this user, or log in as the user that the certificate names.",
        ),
    }
}

impl Limit {
    fn number(self) -> usize {
        match self {
            Self::Pool(number)
            | Self::Database(number)
            | Self::User(number)
            | Self::Proxy(number)
            | Self::Tenant(number)
            | Self::Class(number) => number,
        }
    }

    /// The key that raises it.
    fn key(self, key: &str) -> String {
        match self {
            Self::Pool(_) => "pool.size".to_owned(),
            Self::Database(_) => format!("{key} of this database"),
            Self::User(_) => format!("{key} of this user"),
            Self::Proxy(_) => key.to_owned(),
            Self::Tenant(_) => format!("{key} of this tenant"),
            Self::Class(_) => format!("{key} of this class"),
        }
    }

    /// Where the server connections are.
    fn in_use(self) -> String {
        let number = self.number();
        match self {
            Self::Pool(_) => format!("all {number} server connections are in use"),
            Self::Database(_) => format!("all {number} server connections of this database are in use"),
            Self::User(_) => format!("all {number} server connections of this user are in use"),
            Self::Proxy(_) => format!("all {number} server connections of the proxy are in use"),
            Self::Tenant(_) => format!("all {number} server connections of this tenant are in use"),
            Self::Class(_) => format!("all {number} server connections of this tenant's class are in use"),
        }
    }
}

fn not_in_this_mode(state: SessionState, mode: PoolMode) -> Texts {
    let unit = match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    };
    texts(
        format!("{} is not possible in {unit} pooling mode", state.words()),
        format!("It would stay on a server connection that other clients use after this {unit}."),
        format!(
            "Use a database with mode = \"session\" for it; an operator can also set pool.on_{} (or on_untracked) to \"pin\".",
            state.label()
        ),
    )
}

pub(super) fn texts<M, D, H>(message: M, detail: D, hint: H) -> Texts
where
    M: Into<String>,
    D: IntoText,
    H: IntoText,
{
    (message.into(), detail.into_text(), hint.into_text())
}

/// Lets a text that is always there stand without `Some(….to_owned())`.
pub(super) trait IntoText {
    fn into_text(self) -> Option<String>;
}

impl IntoText for &str {
    fn into_text(self) -> Option<String> {
        Some(self.to_owned())
    }
}

impl IntoText for String {
    fn into_text(self) -> Option<String> {
        Some(self)
    }
}

impl IntoText for Option<&str> {
    fn into_text(self) -> Option<String> {
        self.map(str::to_owned)
    }
}
