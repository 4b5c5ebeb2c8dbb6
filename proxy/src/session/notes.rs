//! What a session does about the notes that others leave for it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use config::{LimitKey, Mode};
use policy::verdict::Refusal;
use tokio::sync::oneshot;
use wire::tag::TransactionStatus;

use super::ctl::Delivery;
use super::{End, Session};
use crate::telemetry::Rare;
use crate::upstream::Upstream;

impl Session {
    /// Looks at every note.
    #[cold]
    pub(super) fn heed(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if let Some(trouble) = self.ctl.kill.take() {
            return Err(End::Trouble(trouble));
        }
        if self.ctl.landed.replace(false) {
            self.wait_no_longer();
        }
        let delivery = self.ctl.delivery.take();
        match delivery {
            Some(Delivery::Upstream(upstream)) => {
                let since = self.waiting_since.unwrap_or(now);
                self.end_waiting(now);
                self.attach(upstream, since, now);
            }
            Some(Delivery::Failed(trouble)) => self.fail_waiting(trouble),
            None => {}
        }
        if self.ctl.reload.replace(false) {
            self.rules = self.worker.rules();
            // Classes may have other numbers now.
            self.class_usage = None;
            if let Some(caching) = self.caching.as_deref_mut() {
                caching.identity = None;
            }
            self.ctl.removed.set(self.pool.shared.removed.load(Ordering::Relaxed));
            self.resolve_tenant();
            self.follows_shares(now);
            self.look_where_it_listens();
        }
        if !self.ctl.news.borrow().is_empty() {
            self.heed_stand_ins();
            self.heed_witnesses();
            self.heed_listener()?;
        }
        let in_danger = |upstream: &Upstream| upstream.pipeline.is_boundary() && upstream.cancels.are_astray();
        if self.lease.as_deref().is_some_and(in_danger) {
            // Nobody knows when a cancel strikes that was meant for what has ended.
            return Err(End::UpstreamLost);
        }
        if let Some(upstream) = self.lease.as_deref_mut()
            && upstream.work.held
            && !upstream.cancels.are_under_way()
            && upstream.pipeline.is_boundary()
        {
            // What waited for a cancel to end goes on.
            upstream.work.release();
            self.look_again = true;
        }
        let cancels = self.ctl.cancel.take();
        if !cancels.is_empty() {
            self.on_cancel(cancels);
        }
        if self.ctl.tells.replace(false) {
            self.look_at_transaction(now);
            self.look_at_idle(now)?;
        }
        if self.ctl.due.replace(false) {
            self.on_deadline(now)?;
        }
        Ok(())
    }

    /// Other rules are in force: what the client holds, or waits for, is charged and limited by them.
    fn follows_shares(&mut self, now: Instant) {
        if let Some(upstream) = self.lease.as_deref() {
            self.is_charged_to_another(upstream);
        } else if let Some(since) = self.waiting_since {
            let claim = self.claim(since);
            self.worker.claim_anew(&self.pool, &self.ctl, &claim, now);
            self.worker.watch(&self.ctl, claim.deadline);
        }
    }

    /// The client asks for whatever it runs to be cancelled.
    fn on_cancel(&mut self, done: Vec<oneshot::Sender<()>>) {
        let meter = self.pool.meter.clone();
        meter.cancels_requested.add(done.len() as u64);
        if self.waiting_since.is_some() {
            self.worker.give_up(&self.pool, &self.ctl);
            return self.fail_waiting(Refusal::CancelledInQueue.into());
        }
        if self.waits_for_an_answer() && self.lease.is_none() {
            self.wait_no_longer();
            self.forget_wait();
            self.pending_trouble = Some(Box::new(Refusal::CancelledInQueue.into()));
            return;
        }
        match self.lease.as_deref_mut().filter(|upstream| !upstream.pipeline.is_boundary()) {
            Some(upstream) => {
                upstream.work.cancelled = true;
                meter.cancels_forwarded.add(done.len() as u64);
                self.worker.cancel(upstream, self.ctl.client, done);
            }
            None => meter.cancels_ignored.add(done.len() as u64),
        }
    }

    fn on_deadline(&mut self, now: Instant) -> Result<(), End> {
        if self.waiting_since.is_some() {
            let later = self.pool.shared.ledger().patience(self.patience(), now);
            if later.is_some() {
                self.worker.watch(&self.ctl, later);
                return Ok(());
            }
            let trouble = self.queue_timeout(now);
            self.worker.give_up(&self.pool, &self.ctl);
            self.pool.meter.queue_timeouts.increment();
            self.worker.telemetry.happened(self.meter(), Rare::QueueTimeout);
            let waited = now.saturating_duration_since(self.waiting_since.unwrap_or(now));
            match self.limits.queue_timeout {
                // It would have waited for no longer than this.
                Some(limit) if limit.mode != Mode::Enforce && waited > limit.at => {
                    self.reached(LimitKey::QueueTimeout, limit.mode);
                }
                _ if self.patience() < self.pool.queue_timeout() => {
                    self.reached(LimitKey::QueueTimeout, Mode::Enforce);
                }
                _ => {}
            }
            self.fail_waiting(trouble);
            return Ok(());
        }
        if self.waits_for_an_answer() {
            self.wait_no_longer();
            return Ok(());
        }
        let Some(upstream) = self.lease.as_deref() else {
            return Ok(());
        };
        if upstream.pipeline.is_boundary() {
            let limit = self.silence(upstream, now).filter(|_| upstream.pipeline.status() != TransactionStatus::Idle);
            return match limit {
                Some((due, silence)) if due <= now && self.may_have_spoken(now, silence) => Ok(()),
                Some((due, silence)) if due <= now => Err(End::Trouble(self.was_silent(silence).into())),
                later => {
                    self.worker.watch(&self.ctl, later.map(|(due, _)| due));
                    Ok(())
                }
            };
        }
        self.on_request_due(now)
    }

    /// Nothing is under way: neither a request nor a transaction.
    pub(super) fn is_at_rest(&self) -> bool {
        if self.waiting_since.is_some() || self.waits_for_an_answer() || self.streaming > 0 || !self.unsent.is_empty() {
            return false;
        }
        self.lease.as_deref().is_none_or(|upstream| upstream.pipeline.is_free())
    }
}
