//! Other instances behind the same address.

use std::collections::BTreeMap;
use std::fmt;

/// Who we are among the instances behind one address, and where the others are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers {
    /// Our own number, 1 to 127: `peers.id` and one more. 0: there are no others.
    pub own: u32,
    /// The others' addresses by their numbers, likewise one more than in the file. Only they are reached by these: an
    /// address that leads to all of them is of no use here.
    pub addresses: BTreeMap<u32, PeerAddress>,
}

/// Where one of them listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl PeerAddress {
    /// Reads `host:port`, with an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return None;
        }
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}
