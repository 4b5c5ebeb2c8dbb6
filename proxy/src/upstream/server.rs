//! A server as the upstreams of one pool know it: a host of the configuration, and the address that it had when they
//! connected.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use config::Host;
use policy::verdict::ConnectFailure;
use tokio::net::{TcpStream, UnixStream};

use crate::stream::Stream;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// One server of a pool. It is *retired* when no new request shall go there: each of its upstreams is closed at its next
/// boundary. Retirement is final; whoever connects there again makes another one of these.
#[derive(Debug)]
pub struct Server {
    /// Unique in the process.
    pub id: u64,
    /// As the configuration names it.
    pub host: Host,
    /// Where it was found.
    pub address: Address,
    retired: AtomicBool,
    /// The address of ours that leads there, once somebody has connected.
    local_ip: OnceLock<IpAddr>,
    /// Upstreams of the pool that are connected to it.
    pub(crate) upstreams: AtomicUsize,
}

impl Server {
    /// In use, without upstreams.
    pub fn new(id: u64, host: Host, address: Address) -> Self {
        Self {
            id,
            host,
            address,
            retired: AtomicBool::new(false),
            local_ip: OnceLock::new(),
            upstreams: AtomicUsize::new(0),
        }
    }

    /// Whether its upstreams are closed at their next boundary.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Has its upstreams closed, each at its next boundary.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// A connection to it begins here.
    pub fn came_from(&self, local: SocketAddr) {
        _ = self.local_ip.set(local.ip());
    }

    /// Our side of a connection to it that has this port.
    pub fn local(&self, port: u16) -> Option<SocketAddr> {
        self.local_ip.get().map(|ip| SocketAddr::new(*ip, port))
    }

    /// Its address, if it has been reached over TCP.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    }

    /// Whether it was found by a name that may stand for something else by now.
    pub fn is_named(&self) -> bool {
        matches!(self.address, Address::Tcp(_)) && self.host.name.parse::<IpAddr>().is_err()
    }

    /// Whether these are addresses of its name, and its own is not among them any more.
    pub fn has_left(&self, name: &str, found: &[IpAddr]) -> bool {
        match &self.address {
            Address::Tcp(address) => self.host.name == name && !found.contains(&address.ip()),
            Address::Unix(_) => false,
        }
    }

    /// Upstreams of the pool that are connected to it.
    pub fn upstreams(&self) -> usize {
        self.upstreams.load(Ordering::Relaxed)
    }

    /// Opens a connection, without saying anything. Always to the same address, whatever the name stands for now.
    pub async fn open(&self, tcp: config::Tcp) -> Result<Stream, ConnectFailure> {
        match &self.address {
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| failure(&error)),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| failure(&error))?;
                prepare(&stream, tcp);
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) if address.ip().to_string() != self.host.name => {
                write!(f, "{} ({})", self.host, address.ip())
            }
            _ => self.host.fmt(f),
        }
    }
}

/// Small messages leave at once; a peer that has vanished is noticed.
pub fn prepare(stream: &TcpStream, tcp: config::Tcp) {
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(tcp.keepidle).with_interval(tcp.keepintvl).with_retries(tcp.keepcnt);
    let options = stream
        .set_nodelay(true)
        .and(socket.set_tcp_keepalive(&keepalive))
        .and(socket.set_tcp_user_timeout(tcp.user_timeout));
    if let Err(error) = options {
        tracing::debug!(%error, "socket options could not be set");
    }
}

fn failure(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectFailure::Refused,
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        _ => ConnectFailure::Broken,
    }
}
