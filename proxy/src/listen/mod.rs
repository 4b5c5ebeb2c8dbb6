//! LISTEN for clients that give their upstreams back: one connection for each database listens for all of them.
//!
//! ```text
//!   session ── Ask ─────────────────► listener (task on the control thread) ── LISTEN, UNLISTEN, "" ──► server
//!   session ◄─ News ◄─ worker's mail ─┘                                     ◄─ NotificationResponse ──
//! ```
//!
//! A session asks before its LISTEN goes to its own upstream, and passes it on once the listener is listening: so no
//! notification can fall between. What a client has LISTENed to is decided by its transactions, in
//! [`session`](crate::session); the listener only knows who has to hear of which channel.
//!
//! **Order.** One listener's asks are answered in the order in which the server answers them, and its news travel by one
//! mailbox per worker. PostgreSQL tells a connection of all notifications that were committed before it answers a query:
//! whoever has got the answer to an ask has got them too. That is what `What::CatchUp` is for.
//!
//! **Loss.** A listener that has lost its server tells everybody ([`News::Lost`]), connects again, listens to all
//! channels again and tells everybody ([`News::Restored`]). What was notified in between is lost; what that means for a
//! client is `pool.listen_loss`.

mod desk;
mod link;
mod registry;
mod senders;
mod task;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::{Host, SessionAttrs};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::admin::source::ListenerState;
use crate::control::Order;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::stand_in;
use crate::trouble::Trouble;
use crate::upstream::dial::Target;
use crate::upstream::server::Server;

pub use senders::{Sender, Witness};
pub use task::serve;

/// Channels that one client may listen to.
pub const MAX_CHANNELS: usize = 1000;
/// Bytes of notifications kept for one client that does not take them; beyond, it is closed. PostgreSQL would let all
/// notifications of all databases queue up behind it.
pub const MAX_QUEUED: usize = 8 * 1024 * 1024;

/// How long a listener may take to answer, and the server to answer it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A listener that has heard nothing for so long asks its server for a sign of life: silence must not hide a loss.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long a listener stays connected after its last client has left.
const LINGER: Duration = Duration::from_secs(30);

/// Where a listener listens: LISTEN needs no privilege, so that all users of a database share one; but the texts of
/// notifications come in a connection's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The database there.
    pub database: String,
    /// `client_encoding`, in lower case without punctuation.
    pub encoding: Box<str>,
}

impl Place {
    /// Where clients of a pool listen whose `client_encoding` is this.
    pub fn of(target: &Target, encoding: &[u8]) -> Self {
        let letters = encoding.iter().filter(|byte| byte.is_ascii_alphanumeric());
        let encoding: String = letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
        // PostgreSQL's aliases of the one encoding that everybody uses.
        let encoding = if encoding == "unicode" { "utf8".into() } else { encoding.into() };
        Self { hosts: target.hosts.clone(), database: target.database.clone(), encoding }
    }

    /// As whom and where to connect, given a pool's target. Of several servers only the primary takes a LISTEN, whichever
    /// suit the pool.
    fn target(&self, target: &Target) -> Target {
        let attrs = if target.hosts.len() > 1 { SessionAttrs::Primary } else { target.session_attrs };
        Target { session_attrs: attrs, ..target.clone() }
    }

    fn address(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        hosts.join(",")
    }
}

/// A notification, once for all clients that hear of it.
#[derive(Debug)]
pub struct Notification {
    /// Who notified: the process id that a client of ours was told, where it is known, else the server's.
    pub process: u32,
    /// The channel.
    pub channel: Arc<[u8]>,
    /// What was said.
    pub payload: Box<[u8]>,
}

impl Notification {
    /// What it counts against [`MAX_QUEUED`].
    pub fn size(&self) -> usize {
        16 + self.channel.len() + self.payload.len()
    }
}

/// What a listener tells a session.
#[derive(Debug, Clone)]
pub enum News {
    /// Somebody notified a channel that it hears of.
    Heard(Arc<Notification>),
    /// What was asked under this number is so.
    Done(u64),
    /// What was asked under this number cannot be.
    Failed(u64, Trouble),
    /// The server was lost: from now on notifications are missed.
    Lost,
    /// All channels are listened to again.
    Restored,
    /// Not a listener's: how it is with the stand-in that was asked for under this number.
    StandIn {
        /// That number.
        number: u64,
        /// How it is.
        state: stand_in::State,
    },
}

/// What a session asks of a listener.
#[derive(Debug)]
struct Ask {
    client: u64,
    worker: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Listen to these channels, as a user of this pool may, and answer under this number.
    Enter(Vec<Arc<[u8]>>, Arc<Pool>, u64),
    /// Nothing of these channels any more.
    Leave(Vec<Arc<[u8]>>),
    /// Answer under this number when everything that was notified until now has been told.
    CatchUp(u64),
    /// The client has gone.
    Gone,
}

/// The way to one listener, and what the admin port shows of it.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub place: Place,
    asks: UnboundedSender<Ask>,
    /// Subscriptions that exist; counted up only with the table of all listeners locked.
    subscriptions: AtomicUsize,
    notifications: AtomicU64,
    losses: AtomicU64,
    state: Mutex<ListenerState>,
    /// The server that it is connected to.
    server: Mutex<Option<Arc<Server>>>,
    /// That server is out of use.
    moved: Notify,
}

impl Listener {
    /// What the admin port shows.
    pub fn state(&self) -> ListenerState {
        let mut state = lock(&self.state).clone();
        state.notifications = self.notifications.load(Ordering::Relaxed);
        state.losses = self.losses.load(Ordering::Relaxed);
        state
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One session's interest in a listener. The listener forgets the client when this ceases to exist.
#[derive(Debug)]
pub struct Subscription {
    listener: Arc<Listener>,
    client: u64,
    worker: usize,
    next: u64,
}

impl Subscription {
    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.listener.place
    }

    /// Asks for these channels; the answer bears the number that is returned.
    pub fn enter(&mut self, channels: Vec<Arc<[u8]>>, pool: &Arc<Pool>) -> u64 {
        self.next += 1;
        self.ask(What::Enter(channels, pool.clone(), self.next));
        self.next
    }

    /// Asks for everything that was notified until now; the answer bears the number that is returned.
    pub fn catch_up(&mut self) -> u64 {
        self.next += 1;
        self.ask(What::CatchUp(self.next));
        self.next
    }

    /// Has no use for these channels any more.
    pub fn leave(&self, channels: Vec<Arc<[u8]>>) {
        self.ask(What::Leave(channels));
    }

    fn ask(&self, what: What) {
        // A listener outlives its subscriptions, except at the very end of the process.
        drop(self.listener.asks.send(Ask { client: self.client, worker: self.worker, what }));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ask(What::Gone);
        self.listener.subscriptions.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All listeners.
#[derive(Debug, Default)]
pub struct Listeners {
    by_place: Mutex<HashMap<Place, Arc<Listener>>>,
    /// How many there are.
    count: AtomicUsize,
    senders: senders::Senders,
}

impl Listeners {
    /// A client's interest in the listener of this place, which begins its work if there was none.
    pub fn subscribe(&self, shared: &Shared, place: Place, client: u64, worker: usize) -> Subscription {
        let mut listeners = lock(&self.by_place);
        let listener = listeners.entry(place).or_insert_with_key(|place| {
            self.count.fetch_add(1, Ordering::AcqRel);
            let (asks, receiver) = unbounded_channel();
            let listener = Arc::new(Listener::new(place.clone(), asks));
            drop(shared.control.send(Order::Listen(listener.clone(), Asks(receiver))));
            listener
        });
        listener.subscriptions.fetch_add(1, Ordering::AcqRel);
        Subscription { listener: listener.clone(), client, worker, next: 0 }
    }

    /// Takes out a listener that nobody is interested in; `false`: somebody is.
    fn retire(&self, listener: &Listener) -> bool {
        let mut listeners = lock(&self.by_place);
        let unused = listener.subscriptions.load(Ordering::Acquire) == 0;
        if unused {
            listeners.remove(&listener.place);
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        unused
    }

    /// The servers that are listened to.
    pub fn servers(&self) -> Vec<Arc<Server>> {
        lock(&self.by_place).values().filter_map(|listener| lock(&listener.server).clone()).collect()
    }

    /// Has those leave their server that `gone` picks.
    pub fn leave(&self, gone: impl Fn(&Server) -> bool) {
        for listener in lock(&self.by_place).values() {
            if lock(&listener.server).as_deref().is_some_and(&gone) {
                listener.moved.notify_one();
            }
        }
    }

    /// Every listener, for the admin port.
    pub fn states(&self) -> Vec<ListenerState> {
        let mut states: Vec<_> = lock(&self.by_place).values().map(|listener| listener.state()).collect();
        states.sort_by(|one, other| (&one.database, &one.address).cmp(&(&other.database, &other.address)));
        states
    }
}

/// What sessions ask of one listener, in order.
#[derive(Debug)]
pub struct Asks(UnboundedReceiver<Ask>);

impl Listener {
    fn new(place: Place, asks: UnboundedSender<Ask>) -> Self {
        let state = ListenerState {
            database: place.database.clone(),
            address: place.address(),
            encoding: place.encoding.to_string(),
            ..ListenerState::default()
        };
        Self {
            place,
            asks,
            subscriptions: AtomicUsize::new(0),
            notifications: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            state: Mutex::new(state),
            server: Mutex::default(),
            moved: Notify::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_an_encoding_are_one_place() {
        let target = testing::target();
        let utf8 = Place::of(&target, b"UTF8");
        for other in [&b"utf-8"[..], b"Unicode", b"UTF_8"] {
            assert_eq!(Place::of(&target, other), utf8);
        }
        assert_ne!(Place::of(&target, b"LATIN1"), utf8);
        let somebody_else = Target { user: "bob".into(), ..target };
        assert_eq!(Place::of(&somebody_else, b"utf8"), utf8, "users share a listener");
    }

    #[test]
    fn of_several_servers_the_primary_is_listened_to() {
        let mut target = testing::target();
        assert_eq!(Place::of(&target, b"").target(&target).session_attrs, SessionAttrs::Any, "nobody else to ask");
        target.hosts.push(Host { name: "::1".into(), port: 5433 });
        target.session_attrs = SessionAttrs::PreferStandby;
        let place = Place::of(&target, b"");
        assert_eq!(place.target(&target).session_attrs, SessionAttrs::Primary);
        assert_eq!(place.address(), "127.0.0.1:5432,[::1]:5433");
    }
}
