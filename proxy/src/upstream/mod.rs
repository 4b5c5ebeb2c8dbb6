//! One connection to PostgreSQL, as its worker holds it.
//!
//! An upstream is in exactly one place: a worker's idle list, a session's lease, a cleaner's hands, quarantine (a
//! cancel is under way), or on its way to another thread as a [`Shipped`]. Whoever holds the box decides.

mod attempt;
pub mod cleaner;
pub mod dial;
pub mod ender;
pub mod hosts;
mod link;
pub mod resolve;
pub mod role;
pub mod savepoints;
pub mod server;
pub mod tracked;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use config::UpstreamTls;
use policy::limits::Deadline;
use wire::frame;
use wire::params::Settings;
use wire::pipeline::{Awaited, Delivery, Fate, Owed, Pipeline};
use wire::prepared::ServerStatements;
use wire::tag::Backend;

use crate::cache::writes::Open;
use crate::pool::tokens::Berth;
use crate::session::work::{KEPT_STATEMENTS, Work};
use crate::stream::{Detached, Stream};
use crate::worker::READ;
use server::Server;
use tracked::Tracked;

/// Set in the note of an entry whose answer settles a change of its client's names.
pub const NAMED: u64 = 1 << 63;
/// Set in the note of a Parse of the unnamed statement.
pub const UNNAMED: u64 = 1 << 62;
/// Set in the note of a Parse of ours under the client's own name; the rest is the statement's place among its client's.
pub const OWN: u64 = 1 << 61;

/// What a cancel needs to know of an upstream; shared with the thread that connects to the server.
#[derive(Debug)]
pub struct CancelTarget {
    /// Where to connect.
    pub server: Arc<Server>,
    /// The TLS that its connection has: a cancel has it, too.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Our side of its connection; `None`: a Unix socket.
    pub local: Option<SocketAddr>,
    /// The server's process.
    pub process: i32,
    /// Its secret.
    pub key: Box<[u8]>,
    /// Counts the requests that it has ended: a cancel that was meant for an earlier one is not sent.
    pub epoch: AtomicU64,
}

impl CancelTarget {
    /// The request that runs now.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A request has ended.
    #[inline]
    fn next_epoch(&self) {
        self.epoch.store(self.epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}

/// Cancels for an upstream.
#[derive(Debug, Default)]
pub struct Cancels {
    under_way: Cell<u32>,
    astray: Cell<bool>,
}

impl Cancels {
    /// Another one is under way.
    pub fn begin(&self) {
        self.under_way.set(self.under_way.get().saturating_add(1));
    }

    /// One has ended.
    pub fn end(&self, fate: CancelFate) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.astray.set(self.astray.get() || fate == CancelFate::Astray);
    }

    /// Whether any is under way: what is sent now could be struck.
    #[inline]
    pub fn are_under_way(&self) -> bool {
        self.under_way.get() > 0
    }

    /// Whether one was given up that may still strike, at any time: whatever comes behind the request that it was meant for
    /// is not safe on this upstream.
    #[inline]
    pub fn are_astray(&self) -> bool {
        self.astray.get()
    }
}

/// What has become of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelFate {
    /// It strikes nothing any more: the server is done with it, or it was never sent.
    Over,
    /// It was sent, and the server has not said in time that it is done with it.
    Astray,
}

/// A message from the server of which only the beginning has come, and of which the rest is passed on unseen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streaming {
    /// Bytes still to come.
    pub left: usize,
    /// Whether the client gets them.
    pub forward: bool,
}

/// What LISTENs have left on an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listens {
    /// Nothing.
    #[default]
    No,
    /// Channels that a shared connection listens to: what is heard here is let fall, and UNLISTEN follows.
    ForAll,
    /// Channels of the client that keeps it.
    Natively,
}

/// One connection to PostgreSQL.
#[derive(Debug)]
pub struct Upstream {
    /// Unique in the process.
    pub id: u64,
    /// The socket.
    pub stream: Stream,
    /// The replies that it owes.
    pub pipeline: Pipeline,
    /// The prepared statements that it holds.
    pub prepared: ServerStatements,
    /// The settings that it has.
    pub settings: Tracked,
    /// Id of its unnamed statement; `None`: it has none, or one that nobody can name.
    pub unnamed: Option<u64>,
    /// Beginning of a message of which the rest is still to come.
    pub carry: Vec<u8>,
    /// A long message under way.
    pub streaming: Streaming,
    /// Bytes that the socket has not yet taken.
    pub unsent: Vec<u8>,
    /// What it is being used for.
    pub work: Work,
    /// When it was dialled.
    pub opened: Instant,
    /// When it is too old to be used again.
    pub expires: Option<Instant>,
    /// When it was last given back.
    pub used: Instant,
    /// Cancels under way for it; it is not reused until there are none.
    pub cancels: Rc<Cancels>,
    /// How it is cancelled.
    pub cancel: Arc<CancelTarget>,
    /// Something was left on it that cannot be followed: it is reset before anybody else gets it.
    pub tainted: bool,
    /// What LISTENs have left on it.
    pub listens: Listens,
    /// How many requests it had ended when listeners had heard everything that was notified on it.
    pub heard: Option<u64>,
    /// While it was being cleaned its server said that it is no standby any more.
    pub promoted: bool,
    /// What is being written on it, as far as the cache has to know.
    pub writes: Open,
    /// Its place in its pool's count.
    pub berth: Option<Berth>,
}

/// An upstream on its way to another thread. Only a clean one travels, so that there is nothing else to tell.
#[derive(Debug)]
pub struct Shipped {
    /// Unique in the process.
    pub id: u64,
    /// The socket, registered nowhere.
    pub stream: Detached,
    /// The prepared statements that it holds.
    pub prepared: ServerStatements,
    /// The settings that it has.
    pub settings: Settings,
    /// When it was dialled.
    pub opened: Instant,
    /// When it is too old to be used again.
    pub expires: Option<Instant>,
    /// When it was last given back.
    pub used: Instant,
    /// How it is cancelled.
    pub cancel: Arc<CancelTarget>,
    /// Its place in its pool's count; a connection that was only a trial has none.
    pub berth: Option<Berth>,
}

impl Upstream {
    /// Everything that must be true before another client may use it (see "When an upstream may be reused").
    pub fn is_clean(&self) -> bool {
        self.pipeline.is_free()
            && self.unsent.is_empty()
            && self.carry.is_empty()
            && self.streaming.left == 0
            && self.work.running.is_empty()
            && self.work.prologue.is_none()
            && !self.writes.is_open()
            && !self.tainted
            && !self.cancels.are_astray()
            && self.listens == Listens::No
    }

    /// Nobody holds it any more.
    #[inline]
    pub fn free(&self, now: Instant) {
        if let Some(berth) = &self.berth {
            berth.free(now);
        }
    }

    /// A request has ended.
    #[inline]
    pub fn end_request(&mut self) {
        self.cancel.next_epoch();
        self.work.end_request();
        // Up to four entries a statement: Parse, Bind, Execute, Sync.
        self.pipeline.trim(4 * KEPT_STATEMENTS);
        // A message that had to be looked into as a whole, and a client's statements on their way.
        self.carry.shrink_to(READ);
        self.unsent.shrink_to(READ);
    }

    /// A request has ended, and the next one has been sent already.
    pub fn next_request(&mut self, deadline: Option<Deadline>) {
        self.cancel.next_epoch();
        self.work.vacating = None;
        self.work.forget_excess();
        self.work.deadline = deadline;
        self.work.statement = None;
        self.work.timed_out = false;
        self.work.cancelled = false;
    }

    /// An error made the server skip this message: what was noted when it was sent is not so.
    pub fn skipped(&mut self, owed: &Owed) {
        match (owed.awaited, owed.fate) {
            (_, Fate::Substitute) => {}
            (_, Fate::Refuse) => drop(self.work.refusals.settle(owed.note)),
            (Awaited::Parse, _) if owed.note & UNNAMED != 0 => {
                self.unnamed = None;
                self.prepared.remove(owed.note & !UNNAMED);
            }
            (Awaited::Parse, _) if owed.note & OWN != 0 => self.work.absent.push(owed.note & !OWN),
            (Awaited::Parse, _) => self.prepared.remove(owed.note & !NAMED),
            (Awaited::Close, Fate::Swallow) if owed.note != 0 => self.prepared.restore(owed.note),
            _ => {}
        }
    }

    /// Whether it is past its lifetime, or its server is out of use.
    #[inline]
    pub fn is_expired(&self, now: Instant) -> bool {
        self.is_retired() || self.expires.is_some_and(|expires| expires <= now)
    }

    /// The number that its pool knows its server by.
    pub fn server(&self) -> u64 {
        self.berth.as_ref().map_or(0, |berth| berth.server().id)
    }

    /// Whether its server is out of use.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.berth.as_ref().is_some_and(|berth| berth.server().is_retired())
    }

    /// Looks at what an idle server has sent: notices, changed parameters and notifications are let pass, anything else
    /// (an error, an end) means that it is of no use any more. Costs no system call while nothing has come.
    pub fn is_alive(&mut self) -> bool {
        let mut bytes = [0u8; 4096];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return false,
                Ok(n) => {
                    if !self.tolerates(bytes.get(..n).unwrap_or_default()) {
                        return false;
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Whether these are whole messages that an idle server may send.
    fn tolerates(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Ok(Some(message)) = frame::next(&mut bytes, frame::MAX_BODY) else {
                return false;
            };
            let reply = Backend::from_byte(message.tag).map(|tag| self.pipeline.reply(tag, |_| {}));
            if !matches!(reply, Some(Ok(reply)) if reply.delivery == Delivery::Forward) {
                return false;
            }
        }
        true
    }

    /// Takes it out of this thread's runtime. Only a clean upstream may travel.
    pub fn ship(self) -> io::Result<Shipped> {
        Ok(Shipped {
            id: self.id,
            stream: self.stream.detach()?,
            prepared: self.prepared,
            settings: (**self.settings.current()).clone(),
            opened: self.opened,
            expires: self.expires,
            used: self.used,
            cancel: self.cancel,
            berth: self.berth,
        })
    }
}

impl Shipped {
    /// Registers it with this thread's runtime; `settings` is this worker's pointer for the set that it has.
    pub fn land(self, settings: Rc<Settings>) -> io::Result<Box<Upstream>> {
        Ok(Box::new(Upstream {
            id: self.id,
            stream: self.stream.attach()?,
            pipeline: Pipeline::new(),
            prepared: self.prepared,
            settings: Tracked::new(settings),
            unnamed: None,
            carry: Vec::new(),
            streaming: Streaming::default(),
            unsent: Vec::new(),
            work: Work::default(),
            opened: self.opened,
            expires: self.expires,
            used: self.used,
            cancels: Rc::default(),
            cancel: self.cancel,
            tainted: false,
            listens: Listens::No,
            heard: None,
            promoted: false,
            writes: Open::default(),
            berth: self.berth,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use server::Address;

    /// One that is connected to nobody who says anything. To be called in a runtime.
    fn upstream() -> Box<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let host = config::Host { name: "db".to_owned(), port: address.port() };
        let server = Arc::new(Server::new(1, host, Address::Tcp(address)));
        let (opened, key) = (Instant::now(), Box::default());
        let shipped = Shipped {
            id: 1,
            stream: Detached::Tcp(stream),
            prepared: ServerStatements::new(1),
            settings: Settings::new(),
            opened,
            expires: None,
            used: opened,
            cancel: Arc::new(CancelTarget {
                server,
                tls: None,
                local: None,
                process: 1,
                key,
                epoch: AtomicU64::new(0),
            }),
            berth: None,
        };
        shipped.land(Rc::new(Settings::new())).unwrap()
    }

    #[tokio::test]
    async fn room_for_what_was_long_once_is_not_kept() {
        let mut upstream = upstream();
        upstream.carry.reserve(10 * READ);
        upstream.unsent.reserve(10 * READ);
        upstream.end_request();
        assert!(upstream.carry.capacity() <= 2 * READ && upstream.unsent.capacity() <= 2 * READ);
    }
}
