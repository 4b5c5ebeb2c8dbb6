//! How upstreams come and go on one worker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use config::PoolMode;
use policy::fair::{Claim, Full};
use policy::verdict::{ConnectFailure, Refusal};
use rand::RngExt;
use wire::params::Settings;

use super::{Mail, Worker};
use crate::control::Order;
use crate::pool::ledger::{Admission, Ticket, Use};
use crate::pool::tokens::{Attempt, Want};
use crate::pool::{DialFailure, LocalPool, Pool};
use crate::session::ctl::{Ctl, Delivery};
use crate::shared::Shared;
use crate::telemetry::CloseReason;
use crate::trouble::Trouble;
use crate::upstream::{Upstream, cleaner};

/// What became of asking for an upstream.
#[derive(Debug)]
pub enum Checkout {
    /// Here it is.
    Leased(Box<Upstream>),
    /// It comes by [`Ctl::delivery`].
    Waiting,
    /// There is no room in the queue.
    Full(Full),
    /// There is none to be had.
    Refused(Trouble),
}

/// The error for clients of a pool whose server cannot be reached; `retry` is when it is tried next.
pub fn unavailable(pool: &Pool, now: Instant, retry: Option<Instant>) -> Trouble {
    let database = pool.database.clone();
    match pool.failure() {
        Some(DialFailure::Said { code, message }) => Trouble::Server { code, message },
        Some(DialFailure::NoneFits(wanted)) => Refusal::NoneFits { database, wanted }.into(),
        Some(DialFailure::Unreachable(failure)) => match retry.filter(|at| *at > now) {
            Some(at) => Refusal::Unavailable { database, retry_in: at.saturating_duration_since(now) }.into(),
            None => Refusal::CannotConnect { database, failure }.into(),
        },
        None => Refusal::CannotConnect { database, failure: ConnectFailure::Broken }.into(),
    }
}

impl Worker {
    /// Gives a client an upstream, at once if one is free here and its tenant may have one more.
    #[inline]
    pub fn check_out(
        self: &Rc<Self>,
        pool: &Rc<LocalPool>,
        ctl: &Rc<Ctl>,
        wanted: &Rc<Settings>,
        claim: &Claim,
        now: Instant,
    ) -> Checkout {
        // Whoever has a maximum is counted before he takes one. For everybody else this way is without a lock.
        let counted = claim.is_counted();
        if counted && !pool.shared.ledger().take(claim, now) {
            return self.queue(pool, ctl, claim, now);
        }
        while let Some(mut upstream) = pool.pop(wanted) {
            if upstream.is_expired(now) {
                self.close_expired(pool, upstream);
            } else if pool.is_doubtful(&upstream, now) {
                cleaner::prove(self, pool, upstream);
            } else if upstream.is_alive() {
                match &upstream.berth {
                    Some(berth) if counted => berth.take(claim.key, now),
                    Some(berth) => berth.hold(claim.key, now),
                    None => {}
                }
                return Checkout::Leased(upstream);
            } else {
                self.close(pool, upstream, CloseReason::ServerClosed);
            }
        }
        if counted {
            pool.shared.ledger().forgo(claim.key, now);
        }
        self.queue(pool, ctl, claim, now)
    }

    #[cold]
    fn queue(self: &Rc<Self>, pool: &Rc<LocalPool>, ctl: &Rc<Ctl>, claim: &Claim, now: Instant) -> Checkout {
        ctl.turn.set(ctl.turn.get().wrapping_add(1));
        let ticket = Ticket { worker: self.index, client: ctl.client, turn: ctl.turn.get() };
        let admission = pool.shared.ledger().wait(ticket, claim, now);
        match admission {
            Admission::Queued => {}
            Admission::Down(retry) => return Checkout::Refused(unavailable(&pool.shared, now, Some(retry))),
            Admission::Full(full) => return Checkout::Full(full),
        }
        self.dial_again(pool, now);
        let reserve = pool.shared.ledger().watch_reserve();
        if let Some(due) = reserve {
            self.order(Order::Reserve(pool.shared.clone(), due, self.index));
        }
        ctl.waiting.set(true);
        if pool.mode() == PoolMode::Session {
            self.wake_everywhere(&pool.shared);
        }
        // Published above, read here: see the race window in `pool`.
        if let Some(other) = pool.shared.idle_elsewhere(self.index) {
            self.shared.send(other, Mail::Share(pool.shared.clone()));
        }
        Checkout::Waiting
    }

    /// A lease has ended, or is another tenant's now: somebody who could not be served may be, by what idles.
    pub fn stir(&self, pool: &Rc<LocalPool>, now: Instant) {
        // By letter, also to ourselves: what is served may have to be closed, and brings us here again.
        if pool.shared.needs_attention()
            && let Some(worker) = pool.shared.idle_anywhere()
        {
            self.shared.send(worker, Mail::Share(pool.shared.clone()));
        }
        self.dial_again(pool, now);
    }

    /// A client that waits may have more than before, or less, or is another tenant's. It keeps its place among its own.
    pub fn claim_anew(&self, pool: &Rc<LocalPool>, ctl: &Ctl, claim: &Claim, now: Instant) {
        let ticket = Ticket { worker: self.index, client: ctl.client, turn: ctl.turn.get() };
        pool.shared.ledger().claim_anew(ticket, claim, now);
        self.stir(pool, now);
    }

    /// Takes a client out of the queue. What is on its way already goes to the next one when it arrives.
    pub fn give_up(self: &Rc<Self>, pool: &Rc<LocalPool>, ctl: &Ctl) {
        let ticket = Ticket { worker: self.index, client: ctl.client, turn: ctl.turn.get() };
        ctl.turn.set(ctl.turn.get().wrapping_add(1));
        let now = Instant::now();
        if ctl.waiting.replace(false) {
            pool.shared.ledger().withdraw(ticket, now);
            if self.shared.room.is_wanted() {
                pool.shared.settle(now);
            }
        }
        // It may have been served already, and not have noticed yet.
        if let Some(Delivery::Upstream(upstream)) = ctl.delivery.take() {
            self.check_in(pool, upstream, now);
        }
    }

    /// Takes back an upstream that a client no longer needs. It must be clean, or it is closed.
    #[inline]
    pub fn check_in(self: &Rc<Self>, pool: &Rc<LocalPool>, mut upstream: Box<Upstream>, now: Instant) {
        if !upstream.is_clean() {
            return self.close(pool, upstream, CloseReason::Unclean);
        }
        upstream.used = now;
        if upstream.cancels.are_under_way() {
            self.quarantine.borrow_mut().insert(upstream.id, (pool.clone(), upstream));
            return;
        }
        // Before it is seen to be free: its tenant may be one of those that wait for it.
        upstream.free(now);
        pool.push(upstream);
        // Published above, read here: see the race window in `pool`.
        if pool.shared.needs_attention() || self.shared.room.is_wanted() {
            self.serve(pool, now);
        }
    }

    /// Gives idle upstreams of this worker to those who wait, wherever they are, and closes what the pool must not keep.
    #[cold]
    pub fn serve(self: &Rc<Self>, pool: &Rc<LocalPool>, now: Instant) {
        let any = self.brain.borrow_mut().interner.intern(Settings::new());
        while let Some(mut upstream) = pool.pop(&any) {
            if upstream.is_expired(now) {
                self.close_expired(pool, upstream);
                continue;
            }
            if pool.is_doubtful(&upstream, now) && pool.shared.ledger().is_wanted() {
                cleaner::prove(self, pool, upstream);
                continue;
            }
            if !upstream.is_alive() {
                self.close(pool, upstream, CloseReason::ServerClosed);
                continue;
            }
            if self.shared.room.is_wanted() && pool.shared.yields(now) {
                return self.make_room(pool, upstream);
            }
            let fate = pool.shared.ledger().returned(now);
            match fate {
                Use::Keep => return pool.push(upstream),
                Use::Close => self.close(pool, upstream, CloseReason::Retired),
                Use::Serve(grant) => {
                    if let Some(berth) = &upstream.berth {
                        berth.grant(grant, now);
                    }
                    match grant.ticket {
                        ticket if ticket.worker == self.index => self.deliver(pool, upstream, ticket, now),
                        ticket => self.hand_over(pool, upstream, ticket),
                    }
                }
            }
        }
    }

    /// Another pool has more need of the room that an idle upstream takes.
    pub(super) fn yield_oldest(&self, pool: &Rc<LocalPool>) {
        match pool.take_oldest() {
            Some(upstream) => self.make_room(pool, upstream),
            None => self.shared.room.yielded(),
        }
    }

    fn make_room(&self, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
        self.close(pool, upstream, CloseReason::Room);
        self.shared.room.yielded();
    }

    fn hand_over(&self, pool: &Rc<LocalPool>, upstream: Box<Upstream>, ticket: Ticket) {
        let id = upstream.id;
        self.telemetry.load().stolen.increment();
        self.telemetry.load().upstreams.down();
        match upstream.ship() {
            Ok(shipped) => {
                let letter = Mail::Upstream(pool.shared.clone(), Box::new(shipped), Some(ticket));
                self.shared.send(ticket.worker, letter);
            }
            Err(error) => {
                tracing::warn!(upstream = id, %error, "an upstream could not be handed to another worker");
                self.count_closed(pool, CloseReason::Unclean);
                let failed = unavailable(&pool.shared, Instant::now(), None);
                self.shared.send(ticket.worker, Mail::Failed(ticket, failed));
            }
        }
    }

    /// Gives an upstream that is registered here to the client with this ticket, or to the next one.
    pub fn deliver(self: &Rc<Self>, pool: &Rc<LocalPool>, upstream: Box<Upstream>, ticket: Ticket, now: Instant) {
        let ctl = self.sessions.borrow().get(&ticket.client).cloned();
        match ctl {
            Some(ctl) if ctl.waiting.get() && ctl.turn.get() == ticket.turn => {
                ctl.waiting.set(false);
                *ctl.delivery.borrow_mut() = Some(Delivery::Upstream(upstream));
                ctl.wake();
            }
            _ => self.check_in(pool, upstream, now),
        }
    }

    /// Gives the client with this ticket an error.
    pub fn fail(&self, ticket: Ticket, trouble: Trouble) {
        let ctl = self.sessions.borrow().get(&ticket.client).cloned();
        if let Some(ctl) = ctl.filter(|ctl| ctl.waiting.get() && ctl.turn.get() == ticket.turn) {
            ctl.waiting.set(false);
            *ctl.delivery.borrow_mut() = Some(Delivery::Failed(trouble));
            ctl.wake();
        }
    }

    /// Closes an upstream, and has another one dialled if clients wait.
    pub fn close(&self, pool: &Rc<LocalPool>, upstream: Box<Upstream>, reason: CloseReason) {
        tracing::debug!(upstream = upstream.id, reason = reason.label(), "upstream closed");
        drop(upstream);
        self.telemetry.load().upstreams.down();
        self.count_closed(pool, reason);
    }

    /// Closes an upstream that is too old, or whose server is out of use.
    pub(super) fn close_expired(&self, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
        let reason = if upstream.is_retired() { CloseReason::Retired } else { CloseReason::Lifetime };
        self.close(pool, upstream, reason);
    }

    pub(super) fn count_closed(&self, pool: &Rc<LocalPool>, reason: CloseReason) {
        pool.meter.closes.increment(reason);
        if matches!(reason, CloseReason::ServerClosed | CloseReason::HealthCheck) {
            self.doubt(pool);
        }
        let now = Instant::now();
        self.give_hope_up(pool, now);
        self.stir(pool, now);
    }

    /// With the last upstream the server may be lost: as long as no connection is tried, those who wait are told what
    /// whoever comes next is told.
    fn give_hope_up(&self, pool: &LocalPool, now: Instant) {
        let (lost, retry) = {
            let mut ledger = pool.shared.ledger();
            (ledger.lost(now), ledger.retry_at())
        };
        for ticket in lost {
            self.shared.send(ticket.worker, Mail::Failed(ticket, unavailable(&pool.shared, now, retry)));
        }
    }

    /// Something hints that a server of this pool has become something else.
    #[cold]
    pub fn doubt(&self, pool: &LocalPool) {
        if pool.shared.wants_role() && pool.shared.doubt.raise() {
            self.order(Order::Doubt(pool.shared.clone()));
        }
    }

    /// Clients wait: if the last attempt to connect failed and it is time for the next, it begins.
    pub fn dial_again(&self, pool: &Rc<LocalPool>, now: Instant) {
        if let Some(attempt) = Attempt::begin(&pool.shared, Want::Waiting, now) {
            self.order(Order::Dial(attempt, self.index));
        }
    }

    /// Registers an upstream that came from another thread.
    pub(super) fn land(self: &Rc<Self>, shared: &Arc<Pool>, shipped: crate::upstream::Shipped, ticket: Option<Ticket>) {
        let pool = self.pool(shared);
        let settings = self.brain.borrow_mut().interner.intern(shipped.settings.clone());
        self.telemetry.load().upstreams.up();
        match shipped.land(settings) {
            Ok(upstream) => match ticket {
                Some(ticket) => self.deliver(&pool, upstream, ticket, Instant::now()),
                None => self.check_in(&pool, upstream, Instant::now()),
            },
            Err(error) => {
                tracing::warn!(%error, "an upstream could not be taken over from another thread");
                self.telemetry.load().upstreams.down();
                self.count_closed(&pool, CloseReason::Unclean);
                if let Some(ticket) = ticket {
                    self.fail(ticket, unavailable(shared, Instant::now(), None));
                }
            }
        }
    }

    /// Has the control thread do something. It outlives the workers.
    pub fn order(&self, order: Order) {
        drop(self.shared.control.send(order));
    }

    /// When an upstream that is made now is too old.
    pub fn expiry(settings: &config::Pool, now: Instant) -> Option<Instant> {
        let spread = rand::rng().random_range(0.0..1.0);
        Shared::lifetime(settings, spread).and_then(|lifetime| now.checked_add(lifetime))
    }
}
