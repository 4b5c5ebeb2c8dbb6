//! A listening socket, of either kind.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::net as unix;

use tokio::net::{TcpListener, UnixListener};

use crate::stream::{Peer, Stream};

/// One that no runtime watches yet.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
}

/// One that connections are accepted from.
#[derive(Debug)]
pub(super) enum Watched {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Its file descriptor's number.
    pub(super) fn descriptor(&self) -> i32 {
        match self {
            Self::Tcp(socket) => socket.as_raw_fd(),
            Self::Unix(socket) => socket.as_raw_fd(),
        }
    }

    /// Has this thread's runtime watch it.
    pub(super) fn watched(self) -> io::Result<Watched> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Watched::Tcp)
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(Watched::Unix)
            }
        }
    }

    /// The next connection in the queue, without waiting.
    pub(super) fn take(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(by_tcp(tokio::net::TcpStream::from_std(stream)?, peer))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(by_unix(tokio::net::UnixStream::from_std(stream)?))
            }
        }
    }
}

impl Watched {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, peer)| by_tcp(stream, peer)),
            Self::Unix(socket) => socket.accept().await.map(|(stream, _)| by_unix(stream)),
        }
    }

    /// Takes it out of the runtime.
    pub(super) fn unwatched(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => socket.into_std().map(Socket::Tcp),
            Self::Unix(socket) => socket.into_std().map(Socket::Unix),
        }
    }
}

fn by_tcp(stream: tokio::net::TcpStream, peer: SocketAddr) -> (Stream, Peer) {
    (Stream::Tcp(stream), Peer::Tcp(peer))
}

fn by_unix(stream: tokio::net::UnixStream) -> (Stream, Peer) {
    let process = stream.peer_cred().ok().and_then(|other| other.pid());
    (Stream::Unix(stream), Peer::Unix(process))
}
