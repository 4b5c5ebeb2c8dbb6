//! One thread, one runtime, its clients and its part of every pool.
//!
//! A worker's tasks share it by `Rc`; nothing in here is reached from another thread but through [`Mail`].

pub mod checkout;
mod mail;
mod rest;
mod suspended;
mod sweep;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use policy::fingerprint::Compat;
use rustc_hash::FxHashMap;
use slab::Slab;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::admin::source::{ClientState, UpstreamState};
use crate::cancel::Whose;
use crate::cancel::key::{Identity, Layout};
use crate::listen::News;
use crate::pool::ledger::Ticket;
use crate::pool::{LocalPool, Pool};
use crate::session::Arrival;
use crate::session::brain::Brain;
use crate::session::cached::{Plans, Rooms};
use crate::session::ctl::Ctl;
use crate::shared::Shared;
use crate::stand_in;
use crate::telemetry::WorkerTelemetry;
use crate::tenancy::Rules;
use crate::trouble::Trouble;
use crate::upstream::{CancelFate, Cancels, Shipped, Upstream};
use suspended::Suspended;

/// Bytes read from a socket at once.
pub const READ: usize = 32 * 1024;
/// The longest message of which all must be there before any of it is passed on, in bytes: the longest text that is
/// looked at, and what stands around it.
pub const HOLD: usize = policy::statement::MAX_ANALYSED + 4 * 1024;

/// For so long after its login a client may begin something although the proxy drains: whoever has just connected, as
/// out of the queue of a port that closes, had no way of knowing better.
pub const FRESH: Duration = Duration::from_secs(1);

/// A letter to a worker.
#[derive(Debug)]
pub enum Mail {
    /// A client that has logged in.
    Client(Box<Arrival>),
    /// A client that wants replication, and the server connection that was dialled for it.
    Replication(Box<Arrival>, Box<Shipped>),
    /// An upstream: for the client with this ticket, or for the idle list.
    Upstream(Arc<Pool>, Box<Shipped>, Option<Ticket>),
    /// The client with this ticket gets an error instead of an upstream.
    Failed(Ticket, Trouble),
    /// A client of another worker waits: hand over an idle upstream of this pool.
    Share(Arc<Pool>),
    /// These clients leave now. One word for each of them; what says it is dropped when it has left.
    Kill(Whom, mpsc::UnboundedSender<()>),
    /// Look after the idle upstreams of this pool at once.
    Sweep(Arc<Pool>),
    /// Close an idle upstream of this pool: another pool needs the room.
    MakeRoom(Arc<Pool>),
    /// This pool is no longer known.
    Forget(usize),
    /// Somebody who knows this key wants what its client runs to be cancelled. Told when the cancel has had its effect.
    Cancel {
        /// The client.
        whose: Whose,
        /// The secret to compare.
        key: Box<[u8]>,
        /// Dropped when there is nothing more to wait for.
        done: oneshot::Sender<()>,
    },
    /// An operator wants what this client runs to be cancelled.
    CancelClient {
        /// The client.
        client: u64,
        /// Dropped when there is nothing more to wait for.
        done: oneshot::Sender<()>,
        /// Told what it does, by whoever has it.
        found: mpsc::UnboundedSender<&'static str>,
    },
    /// What has become of a cancel for this upstream.
    Cancelled(u64, CancelFate),
    /// How it is with a stand-in that this client has asked for.
    StandIn {
        /// Who has asked.
        client: u64,
        /// The number that it was asked for under.
        number: u64,
        /// How it is.
        state: stand_in::State,
    },
    /// Whose process id is this? The pool of that client.
    Whose(u32, oneshot::Sender<Option<Arc<Pool>>>),
    /// Somebody who may has struck the client that was told this process id.
    Struck {
        /// That id.
        process: u32,
        /// Its connection ends; otherwise what it runs does.
        terminate: bool,
        /// Dropped when it has.
        done: oneshot::Sender<()>,
    },
    /// A listener has news, each for these clients.
    News(Vec<(Vec<u64>, News)>),
    /// What these clients waited for is kept, or will not be.
    Landed(Vec<u64>),
    /// What is known of this pool's functions has changed.
    Inspected(Arc<Pool>),
    /// The settings have changed.
    Reload,
    /// SUSPEND, or the end of it, as [`Shared::suspended`] says. Dropped when no request is under way any more.
    Suspend(Option<mpsc::UnboundedSender<()>>),
    /// Clients leave at their next boundary.
    Drain,
    /// Clients leave now.
    Stop,
    /// What clients and upstreams are here, at most so many of each.
    Look(usize, oneshot::Sender<(Vec<ClientState>, Vec<UpstreamState>)>),
}

/// Clients that are to leave.
#[derive(Debug, Clone)]
pub enum Whom {
    /// The one with this number.
    Client(u64),
    /// Those of one database, or all.
    Database(Option<Box<str>>),
}

/// Space that is used between two awaits only.
#[derive(Debug)]
pub struct Scratch {
    /// What was read.
    pub input: Box<[u8]>,
    /// What is sent instead of the input, where something had to be changed.
    pub output: Vec<u8>,
}

/// How many cancels are under way, the upstream's own count, and the client that they are for.
type Cancelling = (Rc<Cancels>, u64);

/// A clean upstream that nobody may have yet, and its pool.
type Quarantined = (Rc<LocalPool>, Box<Upstream>);

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Its telemetry.
    pub telemetry: WorkerTelemetry,
    /// Its rules.
    rules: RefCell<Arc<Rules>>,
    /// What it knows of statements.
    pub brain: RefCell<Brain>,
    /// What of it the cache may answer.
    pub plans: RefCell<Plans>,
    /// Room for what the cache is asked by.
    pub rooms: Rooms,
    /// Space for one read and one write.
    pub scratch: RefCell<Scratch>,
    pools: RefCell<FxHashMap<usize, Rc<LocalPool>>>,
    /// Clients by the process id that they were told, where that is one of ours.
    clients: RefCell<HashMap<u32, Rc<Ctl>>>,
    /// Clients by number.
    sessions: RefCell<FxHashMap<u64, Rc<Ctl>>>,
    /// Sessions whose deadlines are looked after.
    active: RefCell<Slab<Rc<Ctl>>>,
    sweep: Notify,
    /// No session's [`Ctl::tell_us`] is earlier.
    tell_us: Cell<u64>,
    /// Upstreams that wait for their cancels to end, by id.
    quarantine: RefCell<FxHashMap<u64, Quarantined>>,
    /// Upstreams that rest ([`Worker::rest`]).
    resting: RefCell<Vec<Quarantined>>,
    /// Cancels under way, by upstream.
    cancelling: RefCell<FxHashMap<u64, Cancelling>>,
    draining: Cell<bool>,
    suspended: Suspended,
    gone: Notify,
}

/// Runs a worker until its mailbox is closed or it is told to stop and its last client has left.
pub async fn run(index: usize, shared: Arc<Shared>, mut mailbox: mpsc::UnboundedReceiver<Mail>) {
    let worker = Rc::new(Worker::new(index, shared));
    let sweeper = tokio::task::spawn_local(sweep::deadlines(worker.clone()));
    let keeper = tokio::task::spawn_local(sweep::idle_upstreams(worker.clone()));
    while let Some(letter) = mailbox.recv().await {
        let last = matches!(letter, Mail::Stop);
        worker.open(letter);
        if last {
            break;
        }
    }
    while !worker.sessions.borrow().is_empty() {
        tokio::select! {
            () = worker.gone.notified() => {}
            letter = mailbox.recv() => match letter {
                Some(letter) => worker.open(letter),
                None => break,
            },
        }
    }
    sweeper.abort();
    keeper.abort();
}

/// Has a client leave at its first boundary after `pause`.
fn drain_when_settled(ctl: &Rc<Ctl>, pause: Duration) {
    let ctl = ctl.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(pause).await;
        ctl.drain.set(true);
        ctl.wake();
    });
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> Self {
        let telemetry = shared.telemetry.worker(&index.to_string());
        // A reload keeps it: what is known of texts, and their rows of statistics, depend on it.
        let compat = Compat::of_major(shared.settings().observe.compat).unwrap_or_default();
        Self {
            index,
            telemetry,
            rules: RefCell::new(shared.rules()),
            shared,
            brain: RefCell::new(Brain::new(compat)),
            plans: RefCell::default(),
            rooms: Rooms::default(),
            scratch: RefCell::new(Scratch { input: vec![0; HOLD + READ].into(), output: Vec::new() }),
            pools: RefCell::default(),
            clients: RefCell::default(),
            sessions: RefCell::default(),
            active: RefCell::default(),
            sweep: Notify::new(),
            tell_us: Cell::new(u64::MAX),
            quarantine: RefCell::default(),
            resting: RefCell::default(),
            cancelling: RefCell::default(),
            draining: Cell::new(false),
            suspended: Suspended::default(),
            gone: Notify::new(),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// This worker's part of a pool.
    pub fn pool(&self, shared: &Arc<Pool>) -> Rc<LocalPool> {
        let mut pools = self.pools.borrow_mut();
        let local = pools.entry(shared.id).or_insert_with(|| {
            let meter = self.telemetry.pool(&shared.database, &shared.user);
            let local = LocalPool::new(shared.clone(), meter, self.index);
            local.follow(&self.shared.caches);
            Rc::new(local)
        });
        local.clone()
    }

    /// µs on the telemetry clock.
    #[inline]
    pub fn micros(&self, now: Instant) -> u64 {
        self.shared.telemetry.clock.micros(now)
    }

    /// A client has arrived: its notes can be found from now on.
    pub fn enter(&self, ctl: &Rc<Ctl>) {
        self.sessions.borrow_mut().insert(ctl.client, ctl.clone());
        self.telemetry.load().clients.up();
        self.telemetry.load().tls_clients.add(i64::from(ctl.face.tls.is_some()));
        if self.draining.get() {
            drain_when_settled(ctl, FRESH);
        }
    }

    /// A client is told who it is.
    pub fn introduce(&self, ctl: &Rc<Ctl>, identity: Identity) {
        if Layout::is_own(identity.process.number()) {
            self.clients.borrow_mut().insert(identity.process.number(), ctl.clone());
        }
        // It is told once.
        drop(ctl.identity.set(identity));
    }

    /// A client has left.
    pub fn leave(&self, ctl: &Ctl) {
        if Layout::is_own(ctl.process()) {
            self.clients.borrow_mut().remove(&ctl.process());
        }
        self.sessions.borrow_mut().remove(&ctl.client);
        self.rests(ctl.client);
        self.watch(ctl, None);
        self.telemetry.load().clients.down();
        self.telemetry.load().tls_clients.add(-i64::from(ctl.face.tls.is_some()));
        if let Some(seat) = self.shared.workers.get(self.index) {
            seat.clients.fetch_sub(1, Ordering::Relaxed);
        }
        self.gone.notify_one();
    }

    /// Has a session looked at when `at_us` is past, within a second or so; `u64::MAX`: not at all.
    #[inline]
    pub fn tell_at(&self, ctl: &Ctl, at_us: u64) {
        ctl.tell_us.set(at_us);
        self.tell_us.set(self.tell_us.get().min(at_us));
    }

    /// Has the sweeper wake a session at `deadline`, or leave it alone.
    #[inline]
    pub fn watch(&self, ctl: &Ctl, deadline: Option<Instant>) {
        ctl.deadline.set(deadline);
        ctl.due.set(false);
        // One that is to be left alone stays until the sweeper comes: its next statement has a deadline as a rule.
        if deadline.is_none() || ctl.active.get() {
            return;
        }
        let Some(ctl) = self.sessions.borrow().get(&ctl.client).cloned() else { return };
        let mut active = self.active.borrow_mut();
        if active.is_empty() {
            self.sweep.notify_one();
        }
        // One for each client, of which there are a million at most.
        ctl.active.set(true);
        active.insert(ctl);
    }
}
