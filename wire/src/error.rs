//! What can go wrong on the wire, classed by who is at fault, and how a peer's own errors are read.

mod fields;

use std::fmt;

use crate::frame::BadLength;

pub use fields::{ErrorFields, Field};

/// The result of everything fallible in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Who sent the bytes that are being complained about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A client: what it says is a frontend message.
    Client,
    /// An upstream PostgreSQL: what it says is a backend message.
    Server,
}

/// Who has to change something before it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client: it is told in full, and nothing else is at risk.
    Client,
    /// The upstream server: it is closed, the client is told without its inner workings.
    Server,
    /// The proxy or its configuration.
    Us,
}

/// Everything that this crate refuses.
///
/// [`Error::fault`] says who is to blame, [`Error::sqlstate`] what a client is told, [`fmt::Display`] the message. No
/// variant carries a password, a bind value or a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A length field that is below its minimum, above its limit, or (before login) not one of the few allowed.
    /// The stream cannot be followed any further.
    BadLength {
        /// Whose message it is.
        by: Peer,
        /// What the framer found.
        cause: BadLength,
    },
    /// The framing is right but the body is not what its message type says.
    Malformed {
        /// Whose message it is.
        by: Peer,
        /// The message's name in PostgreSQL's documentation.
        message: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A message that cannot come now.
    Unexpected {
        /// Whose message it is.
        by: Peer,
        /// Its type byte.
        tag: u8,
        /// What was awaited instead.
        awaited: &'static str,
    },
    /// More of something than a peer may send before it is trusted: parameters, notices, messages during login.
    TooMany {
        /// Who sent them.
        by: Peer,
        /// What there was too much of.
        what: &'static str,
    },

    /// The client speaks a protocol that is not 3.x.
    UnsupportedProtocol {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// A StartupMessage without a user, or with an empty one.
    NoUser,
    /// A parameter that must be unique was sent twice, so two readers could disagree about who logs in.
    RepeatedParameter(&'static str),
    /// A startup parameter or an entry of `options` cannot be a setting.
    BadSetting {
        /// Its name, cut to 64 characters.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting is named as what says who logs in, and to what: `user`, `database`, `replication`, `options`, or as an option
    /// of the protocol. The name, cut to 64 characters.
    ReservedSetting(String),
    /// The client sent more bytes behind an SSLRequest or a GSSENCRequest before it had our answer: whoever put them
    /// there could be somebody else (CVE-2021-23222).
    BytesBeforeEncryption,
    /// The client asked for the same kind of encryption twice.
    RepeatedEncryptionRequest,
    /// Wrong password, unknown user, or a proof that does not hold: deliberately one variant for all.
    PasswordFailed {
        /// The user name as the client gave it, made printable.
        user: String,
    },
    /// The client chose a SASL mechanism that was not offered.
    UnknownMechanism,
    /// The client's channel binding cannot be honoured on this connection.
    ChannelBinding(&'static str),

    /// Bytes behind the server's answer to our SSLRequest: whoever sent them wants them to be taken for encrypted ones.
    BytesBehindTlsAnswer,
    /// A server that would let us in by a method that is not bound to its TLS connection, where that is required.
    NoChannelBinding,
    /// The server asks for a kind of authentication that we do not speak (its number in the protocol).
    UnsupportedAuthentication(u32),
    /// The server's side of a SCRAM exchange is wrong: its nonce, its iteration count or its signature. It may not be
    /// the server that knows this password.
    BadScramServer(&'static str),
    /// The server chose a protocol version or options that were not asked for.
    BadNegotiation(&'static str),

    /// The server wants a password and none is configured for this user.
    NoPassword,
    /// The stored secret cannot serve the method that was asked of it.
    UnusableSecret(&'static str),
    /// Something that we were about to say holds a NUL byte where the protocol ends a text with one.
    NulByte(&'static str),
    /// Something that we were about to say does not fit a message (2³¹ − 1 bytes, or 2¹⁵ − 1 items).
    TooLarge(&'static str),
}

impl Error {
    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadLength { by, .. }
            | Self::Malformed { by, .. }
            | Self::Unexpected { by, .. }
            | Self::TooMany { by, .. } => match by {
                Peer::Client => Fault::Client,
                Peer::Server => Fault::Server,
            },
            Self::UnsupportedProtocol { .. }
            | Self::NoUser
            | Self::RepeatedParameter(_)
            | Self::BadSetting { .. }
            | Self::ReservedSetting(_)
            | Self::BytesBeforeEncryption
            | Self::RepeatedEncryptionRequest
            | Self::PasswordFailed { .. }
            | Self::UnknownMechanism
            | Self::ChannelBinding(_) => Fault::Client,
            Self::UnsupportedAuthentication(_)
            | Self::BytesBehindTlsAnswer
            | Self::NoChannelBinding
            | Self::BadScramServer(_)
            | Self::BadNegotiation(_) => Fault::Server,
            Self::NoPassword | Self::UnusableSecret(_) | Self::NulByte(_) | Self::TooLarge(_) => Fault::Us,
        }
    }

    /// The SQLSTATE that a client is told.
    pub fn sqlstate(&self) -> Sqlstate {
        match self {
            Self::UnsupportedProtocol { .. } => Sqlstate::FEATURE_NOT_SUPPORTED,
            Self::NoUser => Sqlstate::INVALID_AUTHORIZATION,
            Self::BadSetting { .. } => Sqlstate::INVALID_PARAMETER_VALUE,
            Self::ReservedSetting(_) => Sqlstate::UNDEFINED_OBJECT,
            Self::PasswordFailed { .. } => Sqlstate::INVALID_PASSWORD,
            _ => match self.fault() {
                Fault::Client => Sqlstate::PROTOCOL_VIOLATION,
                Fault::Server => Sqlstate::CANNOT_CONNECT,
                Fault::Us => Sqlstate::INTERNAL_ERROR,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLength { by, cause } => write!(f, "{cause} from the {by}"),
            Self::Malformed { by, message, problem } => write!(f, "malformed {message} from the {by}: {problem}"),
            Self::Unexpected { by, tag, awaited } => {
                write!(f, "unexpected message type {:?} from the {by}: expected {awaited}", char::from(*tag))
            }
            Self::TooMany { by, what } => write!(f, "too many {what} from the {by}"),
            Self::UnsupportedProtocol { major, minor } => {
                write!(f, "unsupported frontend protocol {major}.{minor}: 3.0 to 3.2 are supported")
            }
            Self::NoUser => f.write_str("no PostgreSQL user name specified in startup packet"),
            Self::RepeatedParameter(name) => write!(f, "startup parameter \"{name}\" sent more than once"),
            Self::BadSetting { name, problem } => write!(f, "invalid startup setting \"{name}\": {problem}"),
            Self::ReservedSetting(name) => write!(f, "unrecognized configuration parameter \"{name}\""),
            Self::BytesBeforeEncryption => f.write_str("received unencrypted data after an encryption request"),
            Self::RepeatedEncryptionRequest => f.write_str("encryption requested twice"),
            Self::PasswordFailed { user } => write!(f, "password authentication failed for user \"{user}\""),
            Self::UnknownMechanism => f.write_str("client selected an invalid SASL authentication mechanism"),
            Self::ChannelBinding(problem) => write!(f, "SCRAM channel binding refused: {problem}"),
            Self::BytesBehindTlsAnswer => f.write_str("the server sent unencrypted data behind its answer about TLS"),
            Self::NoChannelBinding => {
                f.write_str("the server does not bind the login to its TLS connection, and channel binding is required")
            }
            Self::UnsupportedAuthentication(kind) => {
                write!(f, "the server asks for authentication method {kind}, which is not supported")
            }
            Self::BadScramServer(problem) => write!(f, "the server's SCRAM exchange is invalid: {problem}"),
            Self::BadNegotiation(problem) => write!(f, "the server's protocol negotiation is invalid: {problem}"),
            Self::NoPassword => f.write_str("the server asks for a password and none is configured"),
            Self::UnusableSecret(problem) => write!(f, "the stored password cannot be used: {problem}"),
            Self::NulByte(what) => write!(f, "{what} contains a NUL byte"),
            Self::TooLarge(what) => write!(f, "{what} is too large for one message"),
        }
    }
}

impl std::error::Error for Error {}

impl Peer {
    /// The framer does not know whose bytes it walks; its caller does: `frame::next(…).map_err(|e| peer.sent_bad_length(e))`.
    pub fn sent_bad_length(self, cause: BadLength) -> Error {
        Error::BadLength { by: self, cause }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Five characters that say what kind of error it is ("PostgreSQL Error Codes", appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sqlstate([u8; 5]);

impl Sqlstate {
    /// 00000: no error, as notices carry it.
    pub const SUCCESS: Self = Self(*b"00000");
    /// 08001: we cannot connect to the server.
    pub const CANNOT_CONNECT: Self = Self(*b"08001");
    /// 08006: the connection to the server was lost.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// 08P01: a peer broke the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// 0A000: not possible here, or not in this pooling mode.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// 22023: a setting's value was refused.
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// 25P03: idle in transaction for too long.
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    /// 28000: this user may not log in this way.
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// 28P01: wrong password.
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// 3D000: no such database.
    pub const INVALID_CATALOG_NAME: Self = Self(*b"3D000");
    /// 42704: no such setting.
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// 53000: a budget is used up.
    pub const INSUFFICIENT_RESOURCES: Self = Self(*b"53000");
    /// 53300: no upstream in time, or too many clients.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// 53400: a configured limit was reached.
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    /// 57014: cancelled, or over its time limit.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// 57P01: shutting down.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// 57P03: the database is starting or failing over.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// XX000: a fault of ours, and what an error response without a code is read as.
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// Reads five upper-case letters or digits; anything else is `None`.
    pub fn parse(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()).then_some(Self(code))
    }

    /// The five bytes.
    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        // Every value is ASCII: the constants are, and `parse` checked.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_is_five_upper_case_letters_or_digits() {
        assert_eq!(Sqlstate::parse(b"57014"), Some(Sqlstate::QUERY_CANCELED));
        for bad in [&b""[..], b"5701", b"570144", b"57p01", b"57\xff14", b"57 14"] {
            assert_eq!(Sqlstate::parse(bad), None);
        }
    }

    #[test]
    fn the_one_to_blame_decides_what_a_client_is_told() {
        let bad = |by: Peer| by.sent_bad_length(BadLength { tag: None, length: 3 });
        assert_eq!((bad(Peer::Client).fault(), bad(Peer::Client).sqlstate().as_str()), (Fault::Client, "08P01"));
        assert_eq!((bad(Peer::Server).fault(), bad(Peer::Server).sqlstate().as_str()), (Fault::Server, "08001"));
        assert_eq!((Error::NoPassword.fault(), Error::NoPassword.sqlstate().as_str()), (Fault::Us, "XX000"));
        let wrong = Error::PasswordFailed { user: "ann".into() };
        assert_eq!(wrong.to_string(), "password authentication failed for user \"ann\"");
        assert_eq!(wrong.sqlstate(), Sqlstate::INVALID_PASSWORD);
    }
}
