//! Pools: one per database and user, shared by all workers.
//!
//! Each worker keeps the idle upstreams that are registered with it in a list of its own ([`LocalPool`]); the hit path
//! touches nothing else. A miss takes the pool's one lock, the [`ledger`]'s, to queue, to dial or to be handed an
//! upstream of another worker.
//!
//! Race window: a client queues on one worker while another worker puts an upstream on its idle list. The client first
//! raises `attention`, then reads every `idle`; the releaser first raises its `idle`, then reads `attention`. All four are
//! sequentially consistent, so at least one of the two sees the other, and no upstream idles while a client waits. A pause
//! goes the same way: it raises `attention`, and then has every worker look at its idle list.

mod books;
pub mod doubt;
pub mod learned;
pub mod ledger;
mod local;
pub mod marks;
pub mod quota;
pub mod room;
pub mod servers;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use config::SessionAttrs;
use policy::verdict::ConnectFailure;
use tokio::sync::Notify;
use wire::encoding::is_opaque;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::inspect::Inspection;
use crate::shares;
use crate::upstream::dial::{Credential, Target};
pub use books::Books;
use learned::Learned;
use ledger::{Backoff, Ledger, Sizes};
pub use local::LocalPool;
use quota::{Claim, Limits};
use room::Room;
use servers::Servers;

/// What a server reports about itself when one logs in; clients of the pool are told the same.
pub type Welcome = Vec<(Box<[u8]>, Box<[u8]>)>;

/// Why the pool's last connection attempt failed, as its clients are told.
#[derive(Debug, Clone)]
pub enum DialFailure {
    /// The server answered with this error (SQLSTATE, message): a wrong password, an unknown database, a start under way.
    Said {
        /// Its SQLSTATE.
        code: [u8; 5],
        /// Its message.
        message: Box<str>,
    },
    /// No answer worth the name.
    Unreachable(ConnectFailure),
    /// There are servers, and none of them is what is wanted.
    NoneFits(config::SessionAttrs),
}

/// One pool, as all threads see it.
#[derive(Debug)]
pub struct Pool {
    /// Dense number.
    pub id: usize,
    /// The database that clients ask for.
    pub database: Box<str>,
    /// The user that clients log in as.
    pub user: Box<str>,
    /// Both, hashed: the same on every worker.
    pub names: u64,
    /// The startup parameter `replication`, for clients that ask for it. Such a pool knows where to dial and as whom,
    /// and holds nothing: each of its clients has a server connection of its own.
    pub replication: Option<&'static str>,
    settings: RwLock<Arc<config::Pool>>,
    target: RwLock<Arc<Target>>,
    /// The servers that its upstreams are connected to.
    pub servers: Servers,
    /// What its clients have proven to the server.
    pub learned: Learned,
    /// Who it is to the limits of the proxy, of databases and of users.
    claim: Claim,
    room: Arc<Room>,
    limits: RwLock<Limits>,
    ledger: Mutex<Ledger>,
    /// When it was made.
    born: Instant,
    /// See [`Ledger::needs_attention`].
    attention: AtomicBool,
    /// Clients, those that are logging in among them.
    members: AtomicUsize,
    /// An upstream or an attempt has ended, or a pause has: whoever waits for something of the kind looks again.
    pub changed: Notify,
    /// Since when it has had neither clients nor upstreams, as the keeper has seen it.
    pub empty_since: Mutex<Option<Instant>>,
    /// A reload took its database away: it ends with its last client.
    pub removed: AtomicBool,
    idle: Box<[AtomicUsize]>,
    /// What is known of its server's functions.
    pub inspection: Inspection,
    /// Whether its servers still are what they were.
    pub doubt: doubt::Doubt,
    welcome: Mutex<Option<Arc<Welcome>>>,
    /// By what the server said: it reads plain strings with backslash escapes unless told otherwise.
    escapes: AtomicBool,
    /// And texts in an encoding that hides where strings end.
    opaque: AtomicBool,
    failure: Mutex<Option<DialFailure>>,
}

/// A database and a user, hashed: no text of the one runs into the other.
fn names_of(database: &str, user: &str) -> u64 {
    xxh3_64_with_seed(user.as_bytes(), xxh3_64(database.as_bytes()))
}

/// The pauses between its attempts to connect.
pub(crate) fn backoff(settings: &config::Pool) -> Backoff {
    Backoff { first: settings.connect_backoff, longest: settings.connect_backoff_max }
}

fn sizes(settings: &config::Pool) -> Sizes {
    Sizes {
        size: settings.size,
        reserve_size: settings.reserve_size,
        reserve_after: settings.reserve_after,
        max_waiting: shares::max_waiting(settings),
        backoff: backoff(settings),
    }
}

impl Pool {
    /// A pool without upstreams, for so many workers.
    pub fn new(
        id: usize,
        database: &str,
        user: &str,
        settings: config::Pool,
        target: Arc<Target>,
        workers: usize,
        room: (Arc<Room>, Limits),
    ) -> Self {
        let (room, limits) = room;
        let born = Instant::now();
        Self {
            id,
            database: database.into(),
            user: user.into(),
            names: names_of(database, user),
            replication: None,
            servers: Servers::default(),
            claim: Claim { pool: id, database: database.into(), user: user.into() },
            room,
            limits: RwLock::new(limits),
            ledger: Mutex::new(Ledger::new(sizes(&settings), born)),
            born,
            inspection: Inspection::new(settings.inspect_functions.is_some()),
            settings: RwLock::new(Arc::new(settings)),
            target: RwLock::new(target),
            learned: Learned::default(),
            doubt: doubt::Doubt::default(),
            attention: AtomicBool::new(false),
            members: AtomicUsize::new(0),
            changed: Notify::new(),
            empty_since: Mutex::default(),
            removed: AtomicBool::new(false),
            idle: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            welcome: Mutex::new(None),
            escapes: AtomicBool::new(false),
            opaque: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Its settings now.
    pub fn settings(&self) -> Arc<config::Pool> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether both connect to the same database of the same server, whoever as.
    pub fn is_of_same_database(&self, other: &Self) -> bool {
        let (own, theirs) = (self.target(), other.target());
        own.is_at_same_place(&theirs) && own.database == theirs.database
    }

    /// Where its upstreams connect now.
    pub fn target(&self) -> Arc<Target> {
        self.target.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what a reload has changed.
    pub fn reload(&self, settings: config::Pool, target: Arc<Target>) {
        self.ledger().resize(sizes(&settings));
        self.inspection.enable(settings.inspect_functions.is_some());
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        let mut own = self.target.write().unwrap_or_else(PoisonError::into_inner);
        self.learned.reload(!own.is_for_the_same(&target));
        let moved = !own.is_at_same_place(&target) || (&own.database, &own.user) != (&target.database, &target.user);
        *own = target;
        if moved {
            self.servers.retire_all();
        }
    }

    /// Where to connect now and by what; `None`: the server has refused what clients had proven to it, and nobody has
    /// logged in since.
    pub fn dialling_target(&self) -> Option<Arc<Target>> {
        let target = self.target();
        if target.credential != Credential::Learned {
            return Some(target);
        }
        let credential = self.learned.credential()?;
        Some(Arc::new(Target { credential, ..(*target).clone() }))
    }

    /// Whether it matters what its servers are. Not where any is taken if there is none to one's liking.
    pub fn wants_role(&self) -> bool {
        let attrs = self.target().session_attrs;
        self.replication.is_none() && !matches!(attrs, SessionAttrs::Any | SessionAttrs::PreferStandby)
    }

    /// What clients are told at login, once an upstream has logged in.
    pub fn welcome(&self) -> Option<Arc<Welcome>> {
        self.welcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A server said this about itself.
    pub fn set_welcome(&self, welcome: Arc<Welcome>) {
        let said = |name: &[u8]| welcome.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value);
        self.escapes.store(said(b"standard_conforming_strings") == Some(b"off"), Ordering::Release);
        self.opaque.store(said(b"client_encoding").is_some_and(is_opaque), Ordering::Release);
        *self.welcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(welcome);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the server reads plain strings with backslash escapes unless told otherwise.
    pub fn has_escapes(&self) -> bool {
        self.escapes.load(Ordering::Acquire)
    }

    /// Whether it begins with an encoding that hides where strings end.
    pub fn is_opaque(&self) -> bool {
        self.opaque.load(Ordering::Acquire)
    }

    /// Why the last connection attempt failed; `None`: it did not.
    pub fn failure(&self) -> Option<DialFailure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last connection attempt failed.
    pub fn set_failure(&self, failure: DialFailure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// The check-out state. Locked on misses only.
    pub fn ledger(&self) -> Books<'_> {
        Books::open(&self.ledger, &self.attention)
    }

    /// See [`Ledger::needs_attention`].
    #[inline]
    pub fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Whether one of its upstreams that is free should be closed, as another pool has more need of the room. Whoever is
    /// told so closes one.
    pub fn yields(&self, now: Instant) -> bool {
        let (open, since) = {
            let ledger = self.ledger();
            (ledger.open(), ledger.waiting_since())
        };
        self.room.should_yield(&self.claim, open, since, now) && self.room.may_yield()
    }

    /// It no longer waits for room if nobody waits for its upstreams.
    pub fn settle(&self, now: Instant) {
        if !self.ledger().wants_dial(now) {
            self.room.content(self.id);
        }
    }

    /// In µs since it was made.
    #[inline]
    pub fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
    }

    /// How it is counted.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The limits that it shares with other pools.
    pub fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes those limits.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Clients, those that are logging in among them.
    pub fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// Waits until `is_so`, which can become so when an upstream or an attempt ends, or a pause does.
    pub async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }

    /// Tells waiters how many upstreams idle on a worker.
    #[inline]
    pub(crate) fn publish_idle(&self, worker: usize, count: usize) {
        if let Some(idle) = self.idle.get(worker) {
            idle.store(count, Ordering::SeqCst);
        }
    }

    /// The worker with idle upstreams, if any has some.
    pub fn idle_anywhere(&self) -> Option<usize> {
        self.idle_elsewhere(usize::MAX)
    }

    /// A worker other than `than` that has idle upstreams.
    pub fn idle_elsewhere(&self, than: usize) -> Option<usize> {
        let mut workers = self.idle.iter().enumerate();
        workers.find(|(worker, idle)| *worker != than && idle.load(Ordering::SeqCst) > 0).map(|(worker, _)| worker)
    }

    /// Upstreams idle on all workers.
    pub fn idle(&self) -> usize {
        self.idle.iter().map(|idle| idle.load(Ordering::Relaxed)).sum()
    }
}
