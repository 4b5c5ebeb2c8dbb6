//! Where clients connect.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How the name of a socket begins that PostgreSQL's clients find in a folder; the port follows.
const NAME: &str = ".s.PGSQL.";

/// Bytes that the system has for the name of a Unix socket, without the zero behind it.
const LONGEST: usize = 107;

/// One place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket: its file. Clients name its folder and its port.
    Unix(PathBuf),
}

/// The files of Unix sockets: who may connect by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// The file's permission bits; to connect takes the right to write.
    pub mode: u32,
    /// The file's group by name or number; `None`: that of the process.
    pub group: Option<String>,
}

impl Default for UnixSocket {
    fn default() -> Self {
        Self { mode: 0o777, group: None }
    }
}

impl ListenAddress {
    /// A folder and a port, as libpq puts them together.
    ///
    /// # Errors
    /// What is wrong with them, as the rest of a sentence.
    pub fn unix(folder: &str, port: &str) -> Result<Self, String> {
        let number = port.parse::<u16>().ok().filter(|number| *number != 0 && !port.starts_with('+'));
        let number = number.ok_or("has no port from 1 to 65535 at its end; write /run/pgweir:6432")?;
        let path = format!("{}/{NAME}{number}", folder.trim_end_matches('/'));
        if path.len() > LONGEST {
            return Err(format!("makes a name of {} bytes for the socket, and {LONGEST} are possible", path.len()));
        }
        Ok(Self::Unix(path.into()))
    }

    /// `folder:port`, or the file's whole name.
    pub(crate) fn parse_unix(text: &str) -> Result<Self, String> {
        match text.rsplit_once('/') {
            Some((folder, name)) if name.starts_with(NAME) => {
                Self::unix(folder, name.strip_prefix(NAME).unwrap_or_default())
            }
            _ => {
                let (folder, port) = text.rsplit_once(':').unwrap_or((text, ""));
                Self::unix(folder, port)
            }
        }
    }

    /// The port; 0: it has none, or is to be given one by the system.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => port_of(path).unwrap_or(0),
        }
    }

    /// The address, if it is TCP's.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

fn port_of(path: &Path) -> Option<u16> {
    path.file_name()?.to_str()?.strip_prefix(NAME)?.parse().ok()
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
