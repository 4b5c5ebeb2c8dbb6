//! How long a tenant's statements may run, and its clients be silent.

use std::time::{Duration, Instant};

use config::{LimitKey, Mode};
use policy::limits::{Bound, CLOSE_AFTER, Deadline, Due};
use policy::verdict::Refusal;
use wire::tag::TransactionStatus;

use super::ctl::State;
use super::{End, Session};
use crate::telemetry::Rare;
use crate::upstream::Upstream;

/// What ends a client that is silent in a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Silence {
    /// `pool.idle_in_transaction_timeout`.
    Pool(Duration),
    /// One of its tenant's limits.
    Limit(LimitKey, Duration),
}

impl Silence {
    pub(super) fn limit(self) -> Duration {
        match self {
            Self::Pool(limit) | Self::Limit(_, limit) => limit,
        }
    }
}

/// Whether the server has nothing to do before its client says more.
fn is_awaited(upstream: &Upstream) -> bool {
    (upstream.pipeline.is_boundary() && !upstream.work.held) || is_awaited_within(upstream)
}

/// The same within a request: its Sync is still to come, or rows of its COPY. What the server owes then it keeps to itself
/// until it is asked for it.
fn is_awaited_within(upstream: &Upstream) -> bool {
    let pipeline = &upstream.pipeline;
    let told = pipeline.is_empty() || !upstream.work.flushed;
    !upstream.work.held && (pipeline.is_copying_in() || (pipeline.is_unsynced() && told))
}

impl Session {
    /// When a request that began at `begun` must have ended, and its transaction: however many statements they have.
    pub(super) fn deadline(&self, upstream: &Upstream, begun: Instant, now: Instant) -> Option<Deadline> {
        let limits = &*self.limits;
        if limits.request_timeout.is_none() && limits.transaction_timeout.is_none() {
            return None;
        }
        let enforced = |limit: Option<Bound<Duration>>| limit.and_then(Bound::enforced);
        let request = enforced(limits.request_timeout);
        // One that has failed is over but for its ROLLBACK.
        let open = upstream.pipeline.status() != TransactionStatus::Failed;
        let transaction = enforced(limits.transaction_timeout).filter(|_| open);
        let since = self.transaction_since(now);
        if begun == now && since == now {
            let own = [(LimitKey::RequestTimeout, request), (LimitKey::TransactionTimeout, transaction)];
            return Deadline::first(None, own, now);
        }
        let request = Deadline::own(LimitKey::RequestTimeout, request, begun, now);
        let transaction = Deadline::own(LimitKey::TransactionTimeout, transaction, since, now);
        Deadline::sooner(request, transaction)
    }

    /// Its tenant, and so its limits, have changed while a request is under way: it has the new one's time.
    pub(super) fn renew_deadline(&self, upstream: &mut Upstream, now: Instant) {
        let behind = self.now_us(now).saturating_sub(upstream.work.begun_us);
        let begun = now.checked_sub(Duration::from_micros(behind)).unwrap_or(now);
        upstream.work.deadline = self.deadline(upstream, begun, now);
        self.time_statement(upstream, now);
        self.worker.watch(&self.ctl, upstream.work.due().map(|deadline| deadline.cancel_at));
    }

    /// When the transaction that is open began; `now` if none is.
    fn transaction_since(&self, now: Instant) -> Instant {
        let began = self.ctl.transaction_us.get();
        if began == 0 {
            return now;
        }
        now.checked_sub(Duration::from_micros(self.now_us(now).saturating_sub(began))).unwrap_or(now)
    }

    /// When a client that is silent in a transaction is ended, and by which limit.
    #[inline]
    pub(super) fn silence(&self, upstream: &Upstream, now: Instant) -> Option<(Instant, Silence)> {
        let idle = self.idle_silence(now);
        let open = self.limits.transaction_timeout.and_then(Bound::enforced).and_then(|limit| {
            let due = self.transaction_since(now).checked_add(limit)?;
            // It may be this limit that it has failed by: its client has yet to say ROLLBACK.
            let failed = upstream.work.open.failed.and_then(|failed| failed.checked_add(CLOSE_AFTER));
            Some((failed.map_or(due, |failed| due.max(failed)), Silence::Limit(LimitKey::TransactionTimeout, limit)))
        });
        match (idle, open) {
            (Some(idle), Some(open)) => Some(if open.0 < idle.0 { open } else { idle }),
            (idle, open) => idle.or(open),
        }
    }

    /// The same by how long it says nothing.
    fn idle_silence(&self, now: Instant) -> Option<(Instant, Silence)> {
        let pool = self.pool.settings().idle_in_transaction_timeout;
        let idle = match self.limits.idle_in_transaction_timeout.and_then(Bound::enforced) {
            Some(limit) => Some(Silence::Limit(LimitKey::IdleInTransactionTimeout, limit)),
            None => (!pool.is_zero() && !self.limits.idles_in_transaction).then_some(Silence::Pool(pool)),
        };
        idle.and_then(|silence| {
            let (_, since_us) = self.ctl.state.get();
            let silent = Duration::from_micros(self.now_us(now).saturating_sub(since_us));
            let since = now.checked_sub(silent).unwrap_or(now);
            Some((since.checked_add(silence.limit())?, silence))
        })
    }

    /// The client has been heard of within its request, or the server has: from now on it is silent, if it is its turn.
    #[inline]
    pub(super) fn await_client_within(&self, now: Instant) {
        if let Some(upstream) = self.lease.as_deref()
            && is_awaited_within(upstream)
        {
            self.set_state(State::InTransaction, self.now_us(now));
            let silence = self.idle_silence(now).map(|(due, _)| due);
            if silence.is_some() {
                let next = [silence, self.next_look(upstream)].into_iter().flatten().min();
                self.worker.watch(&self.ctl, next);
            }
        }
    }

    /// The client speaks within its request, for which it may have been silent for too long.
    #[inline]
    pub(super) fn was_awaited_within(&self, upstream: &mut Upstream, now: Instant) {
        if is_awaited_within(upstream) {
            let (_, since_us) = self.ctl.state.get();
            let limit = self.limits.idle_in_transaction_timeout;
            let silent_us = self.now_us(now).saturating_sub(since_us);
            self.look_at_times(upstream, LimitKey::IdleInTransactionTimeout, limit, silent_us);
        }
    }

    /// When it is to be looked at what runs.
    fn next_look(&self, upstream: &Upstream) -> Option<Instant> {
        let timed_out = upstream.work.timed_out;
        upstream.work.due().map(|deadline| if timed_out { deadline.close_at } else { deadline.cancel_at })
    }

    /// Time has passed for a request that is under way: for what runs, or for its client.
    pub(super) fn on_request_due(&mut self, now: Instant) -> Result<(), End> {
        let Some(mut upstream) = self.lease.take() else { return Ok(()) };
        let ended = self.look_at_request(&mut upstream, now);
        self.lease = Some(upstream);
        ended
    }

    fn look_at_request(&self, upstream: &mut Upstream, now: Instant) -> Result<(), End> {
        let silence = if is_awaited_within(upstream) { self.idle_silence(now) } else { None };
        if let Some((due, silence)) = silence
            && due <= now
        {
            if upstream.unsent.is_empty() {
                return Err(End::Trouble(self.was_silent(silence).into()));
            }
            // It is the server that takes no more of it.
            self.set_state(State::InTransaction, self.now_us(now));
        }
        if let Some(deadline) = upstream.work.due() {
            match deadline.due(now) {
                Due::Nothing => {}
                Due::Cancel => {
                    if !upstream.work.timed_out {
                        upstream.work.timed_out = true;
                        self.worker.cancel(upstream, self.ctl.client, Vec::new());
                    }
                }
                Due::Close => {
                    let named = upstream.work.named();
                    self.reached(deadline.key(), Mode::Enforce);
                    if deadline.key() == LimitKey::StatementTimeout {
                        self.worker.telemetry.happened(self.meter(), Rare::StatementTimeout);
                    }
                    let limited = self.limited(deadline.key(), named);
                    let trouble = Refusal::StatementTimeout { limited, limit: deadline.limit() };
                    return Err(End::Trouble(trouble.into()));
                }
            }
        }
        let silence = if is_awaited_within(upstream) { self.idle_silence(now) } else { None };
        let next = [silence.map(|(due, _)| due), self.next_look(upstream)].into_iter().flatten().min();
        if next.is_some() {
            self.worker.watch(&self.ctl, next);
        }
        Ok(())
    }

    /// The client has been silent for so long.
    pub(super) fn was_silent(&self, silence: Silence) -> Refusal {
        match silence {
            Silence::Pool(limit) => Refusal::IdleInTransaction { limit },
            Silence::Limit(key, limit) => {
                self.reached(key, Mode::Enforce);
                Refusal::Silent { limited: self.limited(key, None), limit }
            }
        }
    }

    /// The sweep looks at the client when it may have been idle for too long.
    pub(super) fn tell_when_idle(&self, now: Instant) {
        if let Some(limit) = self.limits.idle_timeout {
            let due = self.now_us(now).saturating_add(limit.at.as_micros() as u64);
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(due));
        }
    }

    /// The client may have been idle for too long.
    pub(super) fn look_at_idle(&mut self, now: Instant) -> Result<(), End> {
        let Some(limit) = self.limits.idle_timeout else { return Ok(()) };
        let (state, since_us) = self.ctl.state.get();
        let (now_us, limit_us) = (self.now_us(now), limit.at.as_micros() as u64);
        let due_us = since_us.saturating_add(limit_us);
        let rests = |upstream: &Upstream| upstream.pipeline.status() == TransactionStatus::Idle && is_awaited(upstream);
        if state == State::Waiting || self.waits_for_an_answer() || !self.lease.as_deref().is_none_or(rests) {
            self.slept = false;
            self.tell_when_idle(now);
            return Ok(());
        }
        if now_us < due_us {
            self.slept = false;
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(due_us));
            return Ok(());
        }
        if self.worker.is_suspended() {
            // It may have spoken, and nobody has listened: its time begins anew.
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(now_us.saturating_add(limit_us)));
            return Ok(());
        }
        if limit.mode == Mode::Enforce {
            self.reached(LimitKey::IdleTimeout, limit.mode);
            let limited = self.limited(LimitKey::IdleTimeout, None);
            return Err(End::Trouble(Refusal::Silent { limited, limit: limit.at }.into()));
        }
        // Once for each silence: the next look is when another one could have lasted for so long.
        if !std::mem::replace(&mut self.slept, true) {
            self.reached(LimitKey::IdleTimeout, limit.mode);
            self.overslept = limit.mode == Mode::Warn;
        }
        self.worker.tell_at(&self.ctl, now_us.saturating_add(limit_us));
        Ok(())
    }

    /// The client speaks, and was idle for longer than it should: it is told now. Nobody reads what comes unasked, and a
    /// connection that has something to say while it lies in a client's pool looks broken there.
    #[cold]
    pub(super) fn warn_of_sleep(&self, upstream: &mut Upstream) {
        if let Some(limit) = self.limits.idle_timeout.filter(|limit| limit.mode == Mode::Warn) {
            let limited = self.limited(LimitKey::IdleTimeout, None);
            self.warn(upstream, &Refusal::Silent { limited, limit: limit.at });
        }
    }

    /// The client is gone, and was silent until then within its transaction or request.
    pub(super) fn look_at_last_silence(&self, upstream: &mut Upstream, now: Instant) {
        let pipeline = &upstream.pipeline;
        let in_transaction = pipeline.is_boundary() && pipeline.status() != TransactionStatus::Idle;
        if in_transaction || (pipeline.is_unsynced() && pipeline.is_empty()) {
            let (_, since_us) = self.ctl.state.get();
            // It may have been heard of since: a goodbye is looked at as any other message.
            let since_us = since_us.max(upstream.work.begun_us).max(upstream.work.first_us);
            let silent_us = self.now_us(now).saturating_sub(since_us);
            let limit = self.limits.idle_in_transaction_timeout;
            self.look_at_times(upstream, LimitKey::IdleInTransactionTimeout, limit, silent_us);
        }
    }

    /// How long the client may wait for an upstream.
    pub(super) fn patience(&self) -> Duration {
        let pool = self.pool.queue_timeout();
        self.limits.queue_timeout.and_then(Bound::enforced).map_or(pool, |own| own.min(pool))
    }
}
