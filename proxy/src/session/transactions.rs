//! Transactions that stay open: noticed while they do, by the sweep, and when they end.
//!
//! [`Ctl::tell_us`](super::ctl::Ctl) is when the sweep is to wake the session. It costs a transaction that is over in time
//! a few stores; no timer, and no look at anybody else.

use std::rc::Rc;
use std::time::{Duration, Instant};

use config::LimitKey;
use policy::observe::{Notice, What};
use wire::tag::TransactionStatus;

use super::Session;
use super::ctl::State;
use super::statement::{Known, Shape};
use super::work::Work;
use crate::upstream::Upstream;

/// What is known of a transaction besides when it began, while it is open.
#[derive(Debug, Default)]
pub struct Open {
    /// The last statement that has ended and was not about the transaction itself, if there was one.
    last: Option<Rc<Shape>>,
    /// When it was heard of that it has failed.
    pub failed: Option<Instant>,
    /// It was told that it is open for long, under this statement.
    told: Option<Rc<Shape>>,
    /// It was told that its client is silent, in the present silence.
    told_idle: bool,
    /// How long that had lasted when it was told last, in µs.
    told_idle_us: u64,
    /// The longest silence that was told, in µs.
    idle_us: u64,
}

impl Open {
    /// A statement has ended. What it was takes the place of the one before.
    #[inline]
    pub fn remember(&mut self, known: Known) {
        if self.last.is_none() || !known.shape.class.is_transaction_control() {
            self.last = Some(known.shape);
        }
    }
}

/// From where on what is told, in µs.
struct Thresholds {
    open: Option<u64>,
    idle: Option<u64>,
}

impl Session {
    fn thresholds(&self) -> Thresholds {
        let (own, all) = (&self.limits, &self.rules.settings.slow_log);
        let micros = |threshold: Option<Duration>| threshold.map(|threshold| threshold.as_micros() as u64);
        Thresholds {
            open: micros(own.transaction_threshold.or(all.transaction_threshold)),
            idle: micros(own.idle_threshold.or(all.idle_threshold)),
        }
    }

    /// A request has ended within a transaction: its client is awaited.
    pub(super) fn await_client_in_transaction(&mut self, now: Instant) {
        let now_us = self.now_us(now);
        self.set_state(State::InTransaction, now_us);
        let Some(upstream) = self.lease.as_deref() else { return };
        if self.ctl.transaction_us.get() == 0 {
            self.ctl.transaction_us.set(upstream.work.begun_us.max(upstream.work.ended_us).max(1));
        }
        self.worker.watch(&self.ctl, self.silence(upstream, now).map(|(due, _)| due));
        let Thresholds { open, idle } = self.thresholds();
        let open = open.filter(|_| upstream.work.open.told.is_none());
        let open_at = open.map_or(u64::MAX, |open| self.ctl.transaction_us.get() + open);
        self.worker.tell_at(&self.ctl, open_at.min(idle.map_or(u64::MAX, |idle| now_us + idle)));
    }

    /// The client has begun another request in its transaction; it may have been silent for long.
    #[inline]
    pub(super) fn end_silence(&mut self, upstream: &mut Upstream, now_us: u64) {
        if upstream.work.open.told_idle {
            self.tell_silence(upstream, now_us, true);
        }
    }

    /// The sweep has found that something about the transaction may have to be told.
    #[cold]
    pub(super) fn look_at_transaction(&mut self, now: Instant) {
        let Some(mut upstream) = self.lease.take() else { return };
        let now_us = self.now_us(now);
        let began = self.ctl.transaction_us.get();
        if began == 0 {
            self.lease = Some(upstream);
            return;
        }
        let Thresholds { open, idle } = self.thresholds();
        let mut next = u64::MAX;
        let (_, since) = self.ctl.state.get();
        // While something runs its client is not silent; when that has ended it is looked at anew.
        if let Some(idle) = idle.filter(|_| upstream.pipeline.is_boundary()) {
            // Told again when it has lasted twice as long.
            let due = if upstream.work.open.told_idle { 2 * upstream.work.open.told_idle_us } else { idle };
            if now_us.saturating_sub(since) >= due {
                self.tell_silence(&mut upstream, now_us, false);
                next = next.min(since + 2 * now_us.saturating_sub(since));
            } else {
                next = next.min(since + due);
            }
        }
        if let Some(open) = open.filter(|_| upstream.work.open.told.is_none()) {
            if now_us.saturating_sub(began) >= open {
                self.tell_open(&mut upstream, now_us, false);
            } else {
                next = next.min(began + open);
            }
        }
        self.worker.tell_at(&self.ctl, next);
        self.lease = Some(upstream);
    }

    /// A request has ended, and a transaction is open: since when, where that is not known yet. Its end may be far, and more
    /// of it sent already. One that a statement of the request has ended, as COMMIT AND CHAIN does, is over, and the one that
    /// is open has its own time.
    #[inline]
    pub(super) fn transaction_open(&mut self, upstream: &mut Upstream, now: Instant) {
        let (began, ended) = (self.ctl.transaction_us.get(), upstream.work.ended_us);
        if began != 0 && began < ended {
            self.close_transaction(upstream, ended);
        }
        if self.ctl.transaction_us.get() == 0 {
            self.ctl.transaction_us.set(upstream.work.begun_us.max(ended).max(1));
        }
        let open = &mut upstream.work.open;
        open.failed = match upstream.pipeline.status() {
            TransactionStatus::Failed => open.failed.or(Some(now)),
            _ => None,
        };
    }

    /// A request has ended, and no transaction is open any more. One that did not outlive it took as long as it did.
    #[inline]
    pub(super) fn transaction_ended(&mut self, upstream: &mut Upstream, now: Instant) {
        if self.ctl.transaction_us.get() == 0 {
            let open_us = self.now_us(now).saturating_sub(upstream.work.begun_us);
            self.look_at_times(upstream, LimitKey::TransactionTimeout, self.limits.transaction_timeout, open_us);
        }
        self.transaction_over(upstream, now);
    }

    /// The transaction has ended, if one had outlived a request.
    #[inline]
    pub(super) fn transaction_over(&mut self, upstream: &mut Upstream, now: Instant) {
        if self.ctl.transaction_us.get() != 0 {
            self.close_transaction(upstream, self.now_us(now));
        }
        upstream.work.open.last = None;
    }

    fn close_transaction(&mut self, upstream: &mut Upstream, now_us: u64) {
        self.end_silence(upstream, now_us);
        let open_us = now_us.saturating_sub(self.ctl.transaction_us.get());
        self.look_at_times(upstream, LimitKey::TransactionTimeout, self.limits.transaction_timeout, open_us);
        if self.thresholds().open.is_some_and(|open| open_us >= open) {
            self.tell_open(upstream, now_us, true);
        }
        self.ctl.transaction_us.set(0);
        self.worker.tell_at(&self.ctl, u64::MAX);
        self.tell_when_idle(Instant::now());
        upstream.work.open = Open::default();
    }

    fn tell_silence(&self, upstream: &mut Upstream, now_us: u64, ended: bool) {
        let open = &mut upstream.work.open;
        let (_, since) = self.ctl.state.get();
        let idle_us = now_us.saturating_sub(since);
        let again = std::mem::replace(&mut open.told_idle, !ended);
        open.told_idle_us = idle_us;
        open.idle_us = open.idle_us.max(idle_us);
        let what = What::Idle {
            open_us: now_us.saturating_sub(self.ctl.transaction_us.get()),
            idle_us,
            threshold_us: self.thresholds().idle.unwrap_or(0),
            ended,
            again,
        };
        let shape = statement_of(&upstream.work);
        self.leave_tip(shape, what, since, now_us);
    }

    fn tell_open(&self, upstream: &mut Upstream, now_us: u64, ended: bool) {
        let began_us = self.ctl.transaction_us.get();
        let again = upstream.work.open.told.is_some();
        let what = What::Open {
            open_us: now_us.saturating_sub(began_us),
            idle_us: upstream.work.open.idle_us,
            threshold_us: self.thresholds().open.unwrap_or(0),
            ended,
            again,
        };
        let shape = upstream.work.open.told.clone().or_else(|| statement_of(&upstream.work));
        self.leave_tip(shape.clone(), what, began_us, now_us);
        upstream.work.open.told = shape;
    }

    fn leave_tip(&self, shape: Option<Rc<Shape>>, what: What, began_us: u64, now_us: u64) {
        let Some(shape) = shape else { return };
        let scope = self.scope.as_ref().map(|scope| scope.value.names()).unwrap_or_default();
        let tenant = self.worker.shared.directory.name(self.tenant).to_string();
        let (strict, text) = (shape.strict, shape.text().to_owned());
        self.worker.shared.telemetry.tips.leave(Notice { scope, tenant, strict, text, what, began_us, now_us });
    }
}

/// The statement that a transaction is told under: the one that runs, else the last one.
fn statement_of(work: &Work) -> Option<Rc<Shape>> {
    let running = work.running.front().map(|running| running.known.shape.clone());
    running.or_else(|| work.open.last.clone())
}
