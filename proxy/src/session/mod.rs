//! One client's life after login.
//!
//! One task per client, one `poll` that looks at everything it can wait for: notes from others ([`ctl`]), the client's
//! socket, and the socket of the upstream while it holds one. No reader and writer halves, no channel between them.
//!
//! ```text
//!             whole request (request)             leased
//!   resting ───────────────────────────► waiting ────────► working ──► boundary (reply) ──► resting
//!      ▲                                                      │             │ in a transaction, pinned, session mode
//!      └──────────────────────────────────────────────────────┘◄────────────┘
//! ```

pub mod arrival;
mod beforehand;
mod begin;
pub mod brain;
pub mod cached;
mod channels;
mod constants;
pub mod ctl;
mod date_style;
mod deadlines;
mod detach;
mod effects;
mod end;
mod failure;
mod half_closed;
pub mod held;
mod large_objects;
mod limited;
mod listen;
mod local_settings;
mod locals;
mod names;
mod newcomer;
mod notes;
mod notices;
pub mod notify;
mod outbox;
mod parse;
mod place;
pub mod police;
mod portals;
mod provide;
mod reading;
mod record;
mod refuse;
mod reply;
mod request;
mod results;
pub mod retry;
mod sampled;
pub mod script;
mod signal;
pub mod slow;
pub mod statement;
mod statement_time;
mod suspended;
mod to_client;
mod transactions;
mod translate;
mod unnamed;
mod untracked;
mod vacate;
mod verify;
mod watched;
pub mod work;

use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use config::PoolMode;
use policy::limits::Effective;
use policy::tenant::{ClassId, TenantId};
use policy::verdict::Refusal;
use wire::params::{Settings, Value};
use wire::prepared::ClientStatements;

use crate::pool::LocalPool;
use crate::stream::Stream;
use crate::telemetry::{EventFlags, Interned, LatencyMeter, Scope, UsageMeter};
use crate::tenancy::{Membership, Rules};
use crate::trouble::Trouble;
use crate::upstream::Upstream;
use crate::upstream::tracked::Tracked;
use crate::worker::{HOLD, READ, Scratch, Worker};
pub use arrival::{Arrival, Introduction};
use ctl::{Ctl, State};
use listen::Listening;
use names::Names;
use notify::Notifying;
use place::Place;
use police::CommentTags;
use statement::Prepared;
use watched::OfClass;
use work::Strike;

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// The client closed its connection.
    ClientGone,
    /// The client said goodbye.
    Terminated,
    /// The server closed the connection.
    UpstreamLost,
    /// The server has said to the client that it ends the connection.
    ServerEnded,
    /// The server broke the protocol.
    UpstreamBroken(String),
    /// The client is told this, and goes.
    Trouble(Trouble),
    /// The settings of this session could not be made on another upstream.
    SettingsFailed,
}

/// One client.
#[derive(Debug)]
struct Session {
    _place: Place,
    worker: Rc<Worker>,
    ctl: Rc<Ctl>,
    pool: Rc<LocalPool>,
    rules: Arc<Rules>,
    /// What the comments of its statement say, where that decides whose it is.
    comment: Option<Rc<CommentTags>>,
    /// What its tenant may do.
    limits: Arc<Effective>,
    /// What its tenant uses, with this client among its clients.
    membership: Membership,
    client: Stream,
    /// Bytes from the client that are not dealt with yet.
    carry: Vec<u8>,
    /// Bytes still to come of a message that is passed on without being held.
    streaming: u32,
    /// Whether those are passed on to the upstream.
    streaming_forward: bool,
    /// Bytes that the client's socket has not yet taken.
    unsent: Vec<u8>,
    /// Since when the client's socket takes no more, and for how long it has not since the last statement ended, in µs.
    clogged_since: Option<Instant>,
    clogged_us: u32,
    /// It waits beyond a limit that only warns, its class's or its tenant's: told with what it gets.
    beyond: Option<OfClass>,
    /// It was idle for longer than a limit that only warns: told with what it sends next.
    overslept: bool,
    /// That was counted of its present silence.
    slept: bool,
    /// The carry must be looked at although nothing new has come.
    look_again: bool,
    /// A boundary was reached while bytes were still on their way to the server: the lease ends when they are there.
    lingers: bool,
    /// It has said goodbye behind a request that is still being run: nothing more is read from it or sent to it.
    leaving: bool,
    /// It has closed its side of the connection, and may still be listening ([`half_closed`]).
    half_closed: bool,
    /// An error of ours was told: messages are ignored up to the client's Sync, as a server would.
    skipping: bool,
    /// By which names its statements go. By its own, `pg_prepared_statements`, EXECUTE and DEALLOCATE show and take them as
    /// on a direct connection.
    names: Names,
    statements: ClientStatements<Rc<Prepared>, RandomState>,
    /// The unnamed statement as sent, and as the server has acknowledged it ([`unnamed`]).
    unnamed: Option<Rc<Prepared>>,
    unnamed_parsed: Option<Rc<Prepared>>,
    settings: Tracked,
    /// What RESET returns to.
    startup: Rc<Settings>,
    /// `settings` with its tenant's limits.
    wanted: Rc<Settings>,
    /// What it listens to by a shared connection.
    listening: Option<Box<Listening>>,
    /// A server has taken these settings before.
    proven: bool,
    /// Settings made by SET LOCAL that decide the tenant, until the end of the transaction.
    locals: Option<Box<locals::Locals>>,
    /// Plain strings have backslash escapes in this session: `standard_conforming_strings` is off.
    escapes: bool,
    /// What its search path is, hashed; 0: the server's default.
    path: u64,
    /// Who it is to the cache.
    caching: Option<Box<cached::Caching>>,
    /// Its texts cannot be read: their encoding hides where strings end, or nobody knows how they are read.
    opaque: bool,
    tenant: TenantId,
    class: ClassId,
    scope: Option<Interned<Scope>>,
    application: Option<UsageMeter>,
    /// Of its tenant's statements of its class of work; `None`: it is of no class.
    class_usage: Option<Box<(UsageMeter, LatencyMeter)>>,
    lease: Option<Box<Upstream>>,
    /// When it began to wait for an upstream.
    waiting_since: Option<Instant>,
    /// What its waiting request is told instead of being run.
    pending_trouble: Option<Box<Trouble>>,
}

/// Begins the life of a client on its worker.
pub fn begin(worker: &Rc<Worker>, arrival: Arrival) {
    let ctl = Ctl::new(arrival.client, arrival.face);
    worker.enter(&ctl);
    let owed = match arrival.introduction {
        Introduction::Made(identity) => {
            worker.introduce(&ctl, identity);
            None
        }
        Introduction::Owed(key) => Some(key),
    };
    let client = match arrival.stream.attach() {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(client = ctl.client, %error, "a client's socket could not be taken over");
            return worker.leave(&ctl);
        }
    };
    ctl.descriptor.set(client.descriptor());
    let startup = arrival.startup.iter().fold(Settings::new(), |settings, (name, value)| {
        if effects::ends_with_transaction(name) {
            return settings;
        }
        settings.with(name, Value::Plain(value.clone())).unwrap_or(settings)
    });
    let startup = worker.brain.borrow_mut().interner.intern(startup);
    let pool = worker.pool(&arrival.pool);
    pool.meter.clients.up();
    let names = if pool.mode() == PoolMode::Session { Names::Own } else { Names::Ours };
    let mut session = Box::new(Session {
        _place: Place {
            worker: worker.clone(),
            ctl: ctl.clone(),
            pool: pool.clone(),
            member: arrival.pool,
            seat: arrival.seat,
        },
        worker: worker.clone(),
        pool,
        rules: worker.rules(),
        comment: None,
        limits: Arc::default(),
        membership: arrival.membership,
        class: arrival.class,
        client,
        beyond: None,
        overslept: false,
        slept: false,
        look_again: !arrival.early.is_empty(),
        carry: arrival.early,
        streaming: 0,
        streaming_forward: false,
        unsent: Vec::new(),
        clogged_since: None,
        clogged_us: 0,
        lingers: false,
        leaving: false,
        half_closed: false,
        skipping: false,
        names,
        statements: ClientStatements::default(),
        unnamed: None,
        unnamed_parsed: None,
        settings: Tracked::new(startup.clone()),
        wanted: startup.clone(),
        proven: startup.is_empty(),
        startup,
        listening: None,
        locals: None,
        escapes: false,
        path: 0,
        caching: None,
        opaque: false,
        tenant: arrival.tenant,
        scope: None,
        application: None,
        class_usage: None,
        lease: None,
        waiting_since: None,
        pending_trouble: None,
        ctl,
    });
    session.resolve_tenant();
    session.tell_border(EventFlags::SESSION_BEGIN);
    tokio::task::spawn_local(run(session, owed));
}

/// A client's life. `owed`: the client has not been told yet who it is.
///
/// The session has a place of its own, and its beginning and end have theirs while they last: a task is as large as the
/// largest thing that it ever does, and a thousand idle clients would each keep room for all of it.
async fn run(mut session: Box<Session>, owed: Option<usize>) {
    let begun = match owed {
        Some(key) => Box::pin(session.begin_with_server(key)).await,
        None => Ok(()),
    };
    let end = match begun {
        Ok(()) => std::future::poll_fn(|cx| session.poll(cx)).await,
        Err(end) => end,
    };
    Box::pin(session.end(end)).await;
}

impl Session {
    /// How its texts are read.
    fn lexing(&self) -> brain::Lexing {
        brain::Lexing { escapes: self.escapes, opaque: self.opaque }
    }

    /// What the telemetry knows its tenant by.
    fn meter(&self) -> crate::telemetry::TenantId {
        self.tenant.into()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.ctl.park(cx.waker());
        loop {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) if self.half_closed && self.is_done() => return Poll::Ready(End::ClientGone),
                Ok(false) if self.ctl.drain.get() && self.is_at_rest() => {
                    return Poll::Ready(End::Trouble(Refusal::ShuttingDown.into()));
                }
                Ok(false) if self.ctl.removed.get() && self.is_at_rest() => {
                    let database = self.pool.shared.database.clone();
                    return Poll::Ready(End::Trouble(Refusal::DatabaseRemoved { database }.into()));
                }
                Ok(false) => {
                    self.tell_that_it_rests();
                    return Poll::Pending;
                }
                Err(End::UpstreamLost) if self.survive() => {}
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// One look at everything; `false`: nothing moved, and whatever can move next knows how to wake us.
    #[inline]
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.ctl.noted.replace(false) {
            self.heed()?;
        }
        let mut moved = self.flush_client(cx)?;
        moved |= self.pump_upstream(cx)?;
        let client_moved = self.pump_client(cx)?;
        if !client_moved && self.is_quiet() {
            // Its socket has just said that nothing is there: another look would hear the same.
            return Ok(false);
        }
        moved |= client_moved;
        if self.lingers && self.streaming == 0 && self.lease.as_deref().is_some_and(|held| held.unsent.is_empty()) {
            self.lingers = false;
            self.after_replies(Instant::now())?;
            moved = true;
        }
        if self.listening.is_some() {
            moved |= self.tell_heard(cx)?;
        }
        Ok(moved)
    }

    /// Only its client can move it.
    #[inline]
    fn is_quiet(&self) -> bool {
        let notes = self.ctl.noted.get() || self.look_again || self.listening.is_some();
        self.lease.is_none() && self.unsent.is_empty() && !self.lingers && !notes
    }

    #[inline]
    fn pump_upstream(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(upstream) = self.lease.as_deref_mut() else {
            return Ok(false);
        };
        let mut moved = false;
        if !upstream.unsent.is_empty() {
            match upstream.stream.poll_write(cx, &upstream.unsent) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    upstream.unsent.drain(..n);
                    moved = true;
                }
                Poll::Ready(_) => return Err(End::UpstreamLost),
                Poll::Pending => {}
            }
        }
        let listening = self.listening.as_deref();
        let strike = upstream.work.strike;
        let notifying = upstream.work.notifying.as_deref();
        let held = strike == Strike::Awaited
            || listening.is_some_and(Listening::holds_replies)
            || notifying.is_some_and(Notifying::holds_replies);
        if held || !self.unsent.is_empty() {
            return Ok(moved);
        }
        let worker = self.worker.clone();
        let Scratch { input, output } = &mut *worker.scratch.borrow_mut();
        let kept = upstream.carry.len();
        let (Some(head), true) = (input.get_mut(..kept), kept <= HOLD) else {
            return Err(End::UpstreamBroken("a message that is too long to be looked at".to_owned()));
        };
        head.copy_from_slice(&upstream.carry);
        let released = strike == Strike::Settled
            || listening.is_some_and(Listening::releases_replies)
            || notifying.is_some_and(Notifying::releases_replies);
        let filled = if released {
            kept
        } else {
            let space = input.get_mut(kept..kept + READ).unwrap_or_default();
            match upstream.stream.poll_read(cx, space) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::UpstreamLost),
                Poll::Ready(Ok(n)) => kept + n,
            }
        };
        upstream.carry.clear();
        self.on_upstream(cx, input.get(..filled).unwrap_or_default(), output)?;
        Ok(true)
    }

    #[inline]
    fn pump_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let clogged = |upstream: &Upstream| !upstream.unsent.is_empty() || upstream.pipeline.len() > MAX_OWED;
        // Of a client that has said goodbye, nothing is left but a request that is sent again.
        let silent = self.leaving && self.carry.is_empty();
        let stopped = silent || self.lease.as_deref().is_some_and(clogged) || !self.unsent.is_empty();
        // A client that waits is still read, so that its going away is noticed, as long as there is room.
        let kept = self.carry.len();
        let blocked = self.is_blocked();
        if stopped || self.waits_for_resume() {
            return Ok(false);
        }
        let room = kept <= HOLD && !(blocked && kept >= READ);
        let worker = self.worker.clone();
        let Scratch { input, output } = &mut *worker.scratch.borrow_mut();
        let mut fresh = 0;
        if room && !self.half_closed && !self.leaving {
            let space = input.get_mut(kept..kept + READ).unwrap_or_default();
            match self.client.poll_read(cx, space) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => self.client_closed(cx)?,
                Poll::Ready(Err(_)) => return Err(End::ClientGone),
                Poll::Ready(Ok(n)) => fresh = n,
            }
        }
        if fresh == 0 && (blocked || !self.look_again) {
            return Ok(false);
        }
        self.pool.meter.bytes_in.add(fresh as u64);
        if let Some(head) = input.get_mut(..kept) {
            head.copy_from_slice(&self.carry);
        }
        let bytes = input.get(..kept + fresh).unwrap_or_default();
        if blocked {
            self.carry.extend_from_slice(bytes.get(kept..).unwrap_or_default());
            self.look_again = true;
            return Ok(fresh > 0);
        }
        self.look_again = false;
        self.carry.clear();
        let used = self.on_client(cx, bytes, output)?;
        if used < bytes.len() {
            self.carry.extend_from_slice(bytes.get(used..).unwrap_or_default());
            // Blocked half way: the rest is looked at when the way is free.
            self.look_again |= self.is_blocked();
        } else if self.carry.capacity() > KEPT {
            self.carry = Vec::new();
        }
        Ok(true)
    }

    /// The client's messages must wait: for an upstream, or for a boundary.
    #[inline]
    fn is_blocked(&self) -> bool {
        let waits = self.waiting_since.is_some() || self.waits_for_an_answer();
        waits || self.lease.as_deref().is_some_and(|upstream| upstream.work.held)
    }

    fn now_us(&self, now: Instant) -> u64 {
        self.worker.micros(now)
    }

    #[inline]
    fn set_state(&self, state: State, since_us: u64) {
        self.ctl.state.set((state, since_us));
    }
}

/// Replies that one upstream may owe before its client is no longer read.
const MAX_OWED: usize = 10_000;

#[cfg(test)]
mod tests;
/// Bytes of room for a client's unfinished message that it keeps for the next one.
const KEPT: usize = 1024;
