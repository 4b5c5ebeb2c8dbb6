//! A TLS connection on a socket, polled like a plain one.
//!
//! It keeps the promises that a plain socket keeps, because sessions rely on them:
//!
//! - **What was reported as written has been given to the kernel.** While the ciphertext of some bytes waits for the
//!   socket, those bytes are not reported, and the next write has to begin with the same bytes. Sessions do so: what a
//!   socket has not taken stays in front of their `unsent`.
//! - **A read that finds nothing has asked the socket.** Everything that was decrypted is handed out first, so a task
//!   that was told `Pending` sleeps on an empty connection.
//! - **The end is the end.** A connection that ends without `close_notify` is an error: somebody may have cut it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::channel::{Channel, Standing};
use crate::stream::{Detached, Stream};

/// Bytes of ciphertext that are read at once: the most that an allocator keeps at hand for the next read.
const READ: usize = 32 * 1024;

/// A TLS connection, its handshake done.
#[derive(Debug)]
pub struct TlsStream {
    carrier: Stream,
    channel: Channel,
}

/// One that belongs to no runtime: it may change threads.
#[derive(Debug)]
pub struct DetachedTls {
    carrier: Detached,
    channel: Channel,
}

impl TlsStream {
    /// Shakes hands over `carrier`. `channel` may hold bytes that have come already.
    ///
    /// # Errors
    /// The peer was refused, refused us, or has gone. It has been told why as far as it would listen.
    pub(super) async fn shake_hands(mut carrier: Stream, mut channel: Channel) -> io::Result<Self> {
        loop {
            let standing = channel.progress();
            let sent = carrier.write_all(channel.unsent()).await;
            let length = channel.unsent().len();
            channel.sent(length);
            match standing? {
                Standing::Open => {
                    sent?;
                    return Ok(Self { carrier, channel });
                }
                // Who refuses us closes behind its alert: that is read, and tells more than a failed write.
                Standing::Handshaking if carrier.read_buf(channel.incoming()).await? == 0 => {
                    sent?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Standing::Handshaking => {}
            }
        }
    }

    /// What the handshake has settled.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What it runs on.
    pub fn carrier(&self) -> &Stream {
        &self.carrier
    }

    /// As [`Stream::poll_read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(known) = self.known(into) {
                return Poll::Ready(known);
            }
            // Asked first, so that nothing is allocated for a read that finds nothing.
            ready!(self.carrier.poll_read_ready(cx))?;
            let incoming = self.channel.incoming();
            incoming.reserve(READ.saturating_sub(incoming.len()));
            let read = pin!(self.carrier.read_buf(incoming)).poll(cx);
            let polled = self.receive(read, into);
            self.poll_answers(cx);
            match ready!(polled)? {
                0 if !self.channel.is_closed() => {}
                read => return Poll::Ready(Ok(read)),
            }
        }
    }

    /// As [`Stream::try_read`].
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(known) = self.known(into) {
                return known;
            }
            self.carrier.try_readable()?;
            let incoming = self.channel.incoming();
            incoming.reserve(READ.saturating_sub(incoming.len()));
            let read = self.carrier.try_read_buf(incoming);
            let Poll::Ready(received) = self.receive(Poll::Ready(read), into) else { continue };
            match received? {
                0 if !self.channel.is_closed() => {}
                read => return Ok(read),
            }
        }
    }

    /// What is known without the socket.
    fn known(&mut self, into: &mut [u8]) -> Option<io::Result<usize>> {
        match self.channel.take(into) {
            0 if self.channel.is_closed() => Some(Ok(0)),
            0 => None,
            taken => Some(Ok(taken)),
        }
    }

    /// Deals with what the socket gave; `Ok(0)`: nothing in it was for us.
    fn receive(&mut self, read: Poll<io::Result<usize>>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match read {
            // A spurious wake-up: the space that was reserved is not kept.
            Poll::Pending => {
                self.channel.incoming().shrink_to_fit();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                self.channel.incoming().shrink_to_fit();
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => Poll::Ready(self.channel.read(into)),
        }
    }

    /// Sends what TLS itself has to say: alerts, new keys. What the socket does not take goes in front of the next
    /// write, or waits for its next readiness. A socket that takes nothing any more says so to whoever reads or writes
    /// next: what was just read is not lost for it.
    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        if self.channel.promised() == 0 {
            drop(self.poll_send(cx));
        }
    }

    /// Gives the socket all that is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.channel.unsent().is_empty() {
            match ready!(self.carrier.poll_write(cx, self.channel.unsent()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.channel.sent(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As [`Stream::poll_write`]; after `Pending`, or a count below the length, the next call has to begin with the
    /// bytes that were not reported.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        loop {
            match self.poll_send(cx)? {
                Poll::Ready(()) => written += self.channel.keep_promise(),
                Poll::Pending if written > 0 => return Poll::Ready(Ok(written)),
                Poll::Pending => return Poll::Pending,
            }
            match bytes.get(written..) {
                Some([]) => return Poll::Ready(Ok(written)),
                Some(rest) => self.channel.encrypt(rest)?,
                None => return Poll::Ready(Err(io::Error::other("a write was not repeated as it was begun"))),
            }
        }
    }

    /// Says that nothing more will be said, and closes the writing side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.say_goodbye()?;
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.carrier).poll_shutdown(cx)
    }

    /// As [`Stream::detach`].
    pub fn detach(self) -> io::Result<DetachedTls> {
        Ok(DetachedTls { carrier: self.carrier.detach()?, channel: self.channel })
    }
}

impl DetachedTls {
    /// As [`Detached::attach`].
    pub fn attach(self) -> io::Result<TlsStream> {
        Ok(TlsStream { carrier: self.carrier.attach()?, channel: self.channel })
    }
}
