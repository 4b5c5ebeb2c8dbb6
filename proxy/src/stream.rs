//! A connection's bytes, whatever carries them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::stream::{DetachedTls, TlsStream};

/// A connected stream, registered with the runtime of the thread that made it. Another thread must never poll it:
/// [`Stream::detach`] it first, and [`Detached::attach`] it over there.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TLS on one of those. Boxed: most connections are none.
    Tls(Box<TlsStream>),
}

/// Who is at the other end of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at this address.
    Tcp(SocketAddr),
    /// Somebody on this machine, over a Unix socket: the process that has connected, if it can be told.
    Unix(Option<i32>),
}

impl Peer {
    /// Over a Unix socket.
    pub fn is_unix(self) -> bool {
        matches!(self, Peer::Unix(_))
    }

    /// Its address without the port; `None`: a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix(_) => None,
        }
    }

    /// Nobody can listen in between: a loopback address or a Unix socket.
    pub fn is_local(self) -> bool {
        match self {
            Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Peer::Unix(_) => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            // With a colon as other addresses have one, behind which is what changes with each connection.
            Peer::Unix(process) => write!(f, "unix:{}", process.unwrap_or(0)),
        }
    }
}

/// A stream that belongs to no runtime: it may change threads.
#[derive(Debug)]
pub enum Detached {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a Unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// Over TLS on one of those.
    Tls(Box<DetachedTls>),
}

impl Stream {
    /// Reads what is there into `into`; `Ok(0)`: the peer has closed. Short reads clear the readiness by themselves, so
    /// that no receive is spent on learning that nothing is left.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        let polled = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Tls(stream) => return stream.poll_read(cx, buffer.initialize_unfilled()),
        };
        polled.map_ok(|()| buffer.filled().len())
    }

    /// Its file descriptor's number, for operators who look into `/proc`.
    pub fn descriptor(&self) -> i32 {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
            Stream::Tls(stream) => stream.carrier().descriptor(),
        }
    }

    /// Whether a read is worth trying; [`Stream::poll_read`] finds out what there is.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            // Something may be decrypted already.
            Stream::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Writes what fits. After `Pending`, or a count below the length, the next write has to begin with the bytes that
    /// were not written: over TLS they are encrypted already.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// Reads without waiting. Costs no system call while the runtime knows of nothing to read.
    #[inline]
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(into),
            Stream::Unix(stream) => stream.try_read(into),
            Stream::Tls(stream) => stream.try_read(into),
        }
    }

    /// Whether [`Stream::try_read`] is worth trying: an error of kind `WouldBlock` says that it is not, without a system
    /// call.
    pub fn try_readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())),
            Stream::Tls(_) => Ok(()),
        }
    }

    /// As [`Stream::try_read`], into the free space of a buffer.
    pub fn try_read_buf(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read_buf(into),
            Stream::Unix(stream) => stream.try_read_buf(into),
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the end of what the peer says can mean that it still listens.
    pub fn can_be_half_closed(&self) -> bool {
        matches!(self, Stream::Tcp(_) | Stream::Unix(_))
    }

    /// Whether the connection was found to be broken since this was asked last.
    pub fn has_failed(&self) -> bool {
        let failure = match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
            Stream::Tls(stream) => return stream.carrier().has_failed(),
        };
        !matches!(failure, Ok(None))
    }

    /// The address of ours that a TCP connection goes to.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|address| address.ip())
    }

    /// The same with its port.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
            Stream::Tls(stream) => stream.carrier().local_addr(),
        }
    }

    /// Takes the stream out of this thread's runtime.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Stream::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Detached::Unix),
            Stream::Tls(stream) => stream.detach().map(Box::new).map(Detached::Tls),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => stream.poll_read(cx, into.initialize_unfilled()).map_ok(|read| into.advance(read)),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Stream::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}

impl Detached {
    /// Registers the stream with this thread's runtime.
    pub fn attach(self) -> io::Result<Stream> {
        match self {
            Detached::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Detached::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
            Detached::Tls(stream) => stream.attach().map(Box::new).map(Stream::Tls),
        }
    }
}
