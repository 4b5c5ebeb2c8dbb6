//! Where a database lives.

use std::fmt;
use std::sync::Arc;

use crate::{Secret, UpstreamTls};

/// The PostgreSQL servers of a database and the names to use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The servers in the order in which they are tried. At least one.
    pub hosts: Vec<Host>,
    /// Which of them will do.
    pub session_attrs: SessionAttrs,
    /// Try them in random order, so that connections spread over them.
    pub load_balance: bool,
    /// The newest version of the protocol that is asked for.
    pub protocol: MaxProtocol,
    /// Database there; `None`: the name that the client asked for.
    pub database: Option<String>,
    /// User there, for every client: the zero-config start never sets it. `None`: the client's own.
    pub user: Option<String>,
    /// Password for `user`, or for every user without one of its own.
    pub password: Option<Secret>,
    /// How much of the connections is encrypted.
    pub tls: Arc<UpstreamTls>,
}

/// libpq's `max_protocol_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MaxProtocol {
    /// What every server and everything in front of one speaks.
    #[default]
    V3_0,
    /// Cancel keys of up to 256 bytes; a server that does not know it answers with 3.0.
    V3_2,
}

impl MaxProtocol {
    /// As libpq spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3_0 => "3.0",
            Self::V3_2 => "3.2",
        }
    }

    /// Reads libpq's spelling.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "3.0" => Some(Self::V3_0),
            "3.2" | "latest" => Some(Self::V3_2),
            _ => None,
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Host name, address, or the folder of a Unix socket (begins with `/`).
    pub name: String,
    /// TCP port, or the number in the Unix socket's name.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            return write!(f, "[{}]:{}", self.name, self.port);
        }
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// libpq's `target_session_attrs`: what a server must be to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SessionAttrs {
    /// Anything.
    #[default]
    Any,
    /// Takes writes by default.
    ReadWrite,
    /// Does not.
    ReadOnly,
    /// Is not in hot standby.
    Primary,
    /// Is in hot standby.
    Standby,
    /// Is in hot standby, or, where none is, anything.
    PreferStandby,
}

impl SessionAttrs {
    /// As libpq spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    /// Reads libpq's spelling.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby]
            .into_iter()
            .find(|attrs| attrs.as_str() == text)
    }
}
