//! Any failure that a client is told of, and the one place that turns it into an ErrorResponse.

use policy::verdict::Severity as Ours;
use policy::verdict::{LoginRefusal, Refusal};
use wire::encode::{self, Report, Severity};
use wire::error::Sqlstate;

/// Why a client does not get what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The proxy refuses.
    Refused(Box<Refusal>),
    /// The server said this when the proxy logged in to it.
    Server {
        /// Its SQLSTATE.
        code: [u8; 5],
        /// Its message.
        message: Box<str>,
    },
    /// The server said this when the proxy listened for a client on a connection of its own.
    Listen {
        /// Its SQLSTATE.
        code: [u8; 5],
        /// Its message.
        message: Box<str>,
    },
    /// The client broke the protocol.
    Protocol(Box<wire::Error>),
    /// The settings of a session could not be made on another upstream.
    SettingsFailed,
    /// 42P05: the client prepares a statement under a name that it has already given, as a server would say.
    DuplicateStatement(Box<str>),
    /// 0A000: what a prepared statement returns has changed since its client was told, as a server would say.
    StaleStatement,
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<wire::Error> for Trouble {
    fn from(error: wire::Error) -> Self {
        Self::Protocol(Box::new(error))
    }
}

impl Trouble {
    /// The client prepares under a name that it has already given.
    pub fn duplicate_statement(name: &[u8]) -> Self {
        Self::DuplicateStatement(String::from_utf8_lossy(name).into())
    }

    /// The client's connection closes after it.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_fatal(),
            Self::Server { .. } | Self::Listen { .. } | Self::DuplicateStatement(_) | Self::StaleStatement => false,
            Self::Protocol(_) | Self::SettingsFailed => true,
        }
    }

    /// A limit on logins keeps the client out: counted, and not logged, or a flood would fill the log.
    pub fn is_login_limit(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(**refusal, Refusal::Login(LoginRefusal::Failures { .. } | LoginRefusal::Logins { .. }))
    }

    /// Its SQLSTATE.
    pub fn sqlstate(&self) -> Sqlstate {
        match self {
            Self::Refused(refusal) => Sqlstate::parse(refusal.code().as_bytes()).unwrap_or(Sqlstate::INTERNAL_ERROR),
            Self::Server { code, .. } => Sqlstate::parse(code).unwrap_or(Sqlstate::CANNOT_CONNECT),
            Self::Listen { code, .. } => Sqlstate::parse(code).unwrap_or(Sqlstate::INTERNAL_ERROR),
            Self::Protocol(error) => error.sqlstate(),
            Self::SettingsFailed => Sqlstate::CONNECTION_FAILURE,
            Self::DuplicateStatement(_) => Sqlstate::parse(b"42P05").unwrap_or(Sqlstate::INTERNAL_ERROR),
            Self::StaleStatement => Sqlstate::FEATURE_NOT_SUPPORTED,
        }
    }

    /// The whole error. `fatal`: the connection closes after it whatever it is, as at login.
    pub fn report(&self, fatal: bool) -> Report {
        let severity = if fatal || self.is_fatal() { Severity::Fatal } else { Severity::Error };
        match self {
            Self::Refused(refusal) => {
                let ours = refusal.report();
                let severity = if ours.severity == Ours::Fatal { Severity::Fatal } else { severity };
                let mut report = Report::new(severity, self.sqlstate(), ours.message);
                report.detail = ours.detail;
                report.hint = ours.hint;
                report
            }
            Self::Server { message, .. } => Report::new(severity, self.sqlstate(), message.to_string())
                .detail("The server said this when the proxy connected to it for this database and user."),
            Self::Listen { message, .. } => Report::new(severity, self.sqlstate(), message.to_string())
                .detail("The server said this when the proxy listened on the connection that all clients share."),
            Self::Protocol(error) => Report::of(error),
            Self::SettingsFailed => Report::new(
                severity,
                self.sqlstate(),
                "the settings of this session could not be made on a server",
            )
            .detail("The server refused a SET, or a startup parameter, that the session depends on.")
            .hint(
                "The error that stands before this one is the server's. Check startup parameters, options and roles.",
            ),
            Self::DuplicateStatement(name) => {
                Report::new(severity, self.sqlstate(), format!("prepared statement \"{name}\" already exists"))
            }
            // Drivers that prepare anew by themselves look for the server's function.
            Self::StaleStatement => Report::new(severity, self.sqlstate(), "cached plan must not change result type")
                .routine("RevalidateCachedQuery"),
        }
    }

    /// Appends the ErrorResponse.
    pub fn write(&self, fatal: bool, out: &mut Vec<u8>) {
        encode::backend::error_response(out, &self.report(fatal));
    }
}
