//! How others reach a session: its worker's sweeper, cancels, deliveries, the end of the world.
//!
//! Everybody leaves a note here and wakes the session's task; the session alone acts on it.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use policy::tenant::TenantId;
use tokio::sync::{mpsc, oneshot};

use crate::cancel::key::Identity;
use crate::listen::News;
use crate::stream::Peer;
use crate::tls::Version;
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// What a client that waited gets.
#[derive(Debug)]
pub enum Delivery {
    /// An upstream.
    Upstream(Box<Upstream>),
    /// This error.
    Failed(Trouble),
}

/// Who a client is, as the admin port shows it.
#[derive(Debug, Default)]
pub struct Face {
    /// The database that it asked for.
    pub database: Box<str>,
    /// The user that it logged in as.
    pub user: Box<str>,
    /// The tenant that stood behind the user's name, where a rule has it there.
    pub suffix: Option<Box<Box<str>>>,
    /// Its `application_name` at login.
    pub application: Box<str>,
    /// Where it comes from, and where it has connected to.
    pub ends: Ends,
    /// Its TLS; `None`: it speaks in clear text.
    pub tls: Option<Box<TlsFace>>,
    /// Since when it is connected, in µs on the telemetry clock.
    pub connected_us: u64,
}

impl Face {
    /// The address by itself; `None`: a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ends.peer().parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
    }
}

/// Both ends of a client's connection, in one text: what an idle client keeps is counted in bytes.
#[derive(Debug, Default)]
pub struct Ends(Box<str>);

impl Ends {
    /// Its own end, and ours; `None`: a Unix socket, or not known.
    pub fn new(peer: Peer, local: Option<SocketAddr>) -> Self {
        Self(local.map_or_else(|| peer.to_string(), |local| format!("{peer} {local}")).into())
    }

    /// Where it comes from, with the port.
    pub fn peer(&self) -> &str {
        self.0.split_once(' ').map_or(&*self.0, |(peer, _)| peer)
    }

    /// Where it has connected to; `None`: by a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        self.0.split_once(' ')?.1.parse().ok()
    }
}

/// What is known of a client's TLS while it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFace {
    /// The protocol's version.
    pub version: Version,
    /// The cipher suite, by OpenSSL's name.
    pub cipher: &'static str,
    /// The host name that it asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The common name of its certificate.
    pub common_name: Option<Box<str>>,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Idle,
    /// Its request is being run.
    Active,
    /// It waits for an upstream, or for an answer from the cache that somebody else asks for.
    Waiting,
    /// It holds a transaction open.
    InTransaction,
}

impl State {
    /// The admin port's word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Active => "active",
            State::Waiting => "waiting",
            State::InTransaction => "in_transaction",
        }
    }
}

/// The upstream that a client holds, as the admin port shows it.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Its number.
    pub id: u64,
    /// The number of the server that it is connected to.
    pub server: u64,
    /// The server's process.
    pub process: i32,
    /// Whether it has TLS.
    pub tls: bool,
    /// Our side's port; 0: a Unix socket.
    pub local_port: u16,
    /// Its socket's file descriptor.
    pub descriptor: i32,
    /// When it was dialled, in µs on the telemetry clock.
    pub opened_us: u64,
    /// Prepared statements that it held when it was taken.
    pub prepared: u32,
    /// When it was taken, in µs on the telemetry clock.
    pub since_us: u64,
}

/// The notes for one session. Lives on the session's worker.
#[derive(Debug)]
pub struct Ctl {
    /// The client's number, unique in the process.
    pub client: u64,
    /// The process id and the secret that it was told, once it was.
    pub identity: OnceCell<Identity>,
    waker: RefCell<Option<Waker>>,
    /// Something in here has changed since the session last looked.
    pub noted: Cell<bool>,
    /// What came for a client that waits.
    pub delivery: RefCell<Option<Delivery>>,
    /// Counts its waits; a ticket of an earlier one is void.
    pub turn: Cell<u64>,
    /// Whether it waits.
    pub waiting: Cell<bool>,
    /// Its client asked for what runs to be cancelled; each is dropped when there is nothing more to wait for.
    pub cancel: RefCell<Vec<oneshot::Sender<()>>>,
    /// What the listener of its channels says, and how it is with its stand-ins.
    pub news: RefCell<Vec<News>>,
    /// When the sweeper shall wake it.
    pub deadline: Cell<Option<Instant>>,
    /// The deadline has passed.
    pub due: Cell<bool>,
    /// Leave at the next boundary.
    pub drain: Cell<bool>,
    /// Its database was taken out of the configuration: leave at the next boundary.
    pub removed: Cell<bool>,
    /// What it waited for in the cache is there, or will not be.
    pub landed: Cell<bool>,
    /// Those who wait for its end; each is dropped with it.
    pub mourners: RefCell<Vec<mpsc::UnboundedSender<()>>>,
    /// Leave now, and say why.
    pub kill: RefCell<Option<Trouble>>,
    /// The rules have changed.
    pub reload: Cell<bool>,
    /// Who it is, for the admin port.
    pub face: Face,
    /// What it does, and since when in µs on the telemetry clock, for the admin port.
    pub state: Cell<(State, u64)>,
    /// When its transaction began, in µs on the telemetry clock, if that has outlived a request; 0: it has none.
    pub transaction_us: Cell<u64>,
    /// When something about that may have to be told, in µs on the telemetry clock.
    pub tell_us: Cell<u64>,
    /// That time has come.
    pub tells: Cell<bool>,
    /// The upstream that it holds, for the admin port.
    pub upstream: Cell<Option<Held>>,
    /// Whose it is now.
    pub tenant: Cell<TenantId>,
    /// Prepared statements that it has, for the admin port.
    pub prepared: Cell<u32>,
    /// Channels that it listens to by a shared connection, for the admin port.
    pub channels: Cell<u32>,
    /// Why it keeps that upstream, and the fingerprint of the statement that it was for, for the admin port.
    pub pinned: Cell<Option<(&'static str, u64)>>,
    /// The fingerprint of the statement that it ran last, for the admin port; 0: none yet.
    pub statement: Cell<u64>,
    /// Whether it is in the sweeper's list.
    pub active: Cell<bool>,
    /// Its socket's file descriptor, for the admin port; 0: not known.
    pub descriptor: Cell<i32>,
}

impl Ctl {
    /// No notes.
    pub fn new(client: u64, face: Face) -> Rc<Self> {
        let since = face.connected_us;
        Rc::new(Self {
            client,
            identity: OnceCell::new(),
            waker: RefCell::default(),
            noted: Cell::new(false),
            delivery: RefCell::default(),
            turn: Cell::new(0),
            waiting: Cell::new(false),
            cancel: RefCell::default(),
            news: RefCell::default(),
            deadline: Cell::new(None),
            due: Cell::new(false),
            drain: Cell::new(false),
            removed: Cell::new(false),
            landed: Cell::new(false),
            mourners: RefCell::default(),
            kill: RefCell::default(),
            reload: Cell::new(false),
            face,
            state: Cell::new((State::Idle, since)),
            transaction_us: Cell::new(0),
            tell_us: Cell::new(u64::MAX),
            tells: Cell::new(false),
            upstream: Cell::new(None),
            tenant: Cell::new(TenantId::OTHER),
            prepared: Cell::new(0),
            channels: Cell::new(0),
            pinned: Cell::new(None),
            statement: Cell::new(0),
            active: Cell::new(false),
            descriptor: Cell::new(0),
        })
    }

    /// The process id that it was told; 0: none yet.
    pub fn process(&self) -> u32 {
        self.identity.get().map_or(0, |identity| identity.process.number())
    }

    /// The secret that it was told; empty: none yet. No request to cancel has an empty one.
    pub fn key(&self) -> &[u8] {
        self.identity.get().map_or(&[], |identity| &identity.key)
    }

    /// The session's task is polled: this is how it is woken next.
    #[inline]
    pub fn park(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        match &*known {
            Some(known) if known.will_wake(waker) => {}
            _ => *known = Some(waker.clone()),
        }
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        self.noted.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_come_back_as_they_were() {
        let peer = Peer::Tcp("192.0.2.7:4711".parse().unwrap());
        let local = "[2001:db8::1]:6432".parse().ok();
        let ends = Ends::new(peer, local);
        assert_eq!((ends.peer(), ends.local()), ("192.0.2.7:4711", local));
        let unix = Ends::new(Peer::Unix(Some(7)), None);
        assert_eq!((unix.peer(), unix.local()), ("unix:7", None));
    }
}
