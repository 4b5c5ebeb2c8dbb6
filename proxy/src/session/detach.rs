//! The end of a lease.

use std::time::Instant;

use wire::tag::TransactionStatus;

use super::ctl::State;
use super::work::Probe;
use super::{End, Session};
use crate::upstream::{Listens, Upstream};

impl Session {
    /// Replies were dealt with: at a boundary the upstream goes back, unless the client keeps it.
    #[inline]
    pub(super) fn after_replies(&mut self, now: Instant) -> Result<(), End> {
        let Some(upstream) = self.lease.as_deref_mut() else {
            return Ok(());
        };
        if upstream.work.retry.is_under_way() {
            return Ok(());
        }
        let pipeline = &upstream.pipeline;
        let waits_for_client = pipeline.is_unsynced() || pipeline.is_copying_in();
        // What is sent again lies among what the client has sent.
        if self.leaving && self.carry.is_empty() && (waits_for_client || pipeline.is_boundary()) {
            // It said goodbye before this was known, and says nothing more: the server would wait for it for ever.
            return Err(End::Terminated);
        }
        if pipeline.is_boundary() && upstream.cancels.are_astray() {
            return Err(End::UpstreamLost);
        }
        if upstream.work.held && upstream.work.prologue.is_none() {
            // What waited for this is looked at next: on this upstream, unless it is free to go.
            upstream.work.held = false;
            self.look_again = true;
            if std::mem::take(&mut upstream.work.probe) != Probe::Answered {
                return Ok(());
            }
        }
        if !upstream.pipeline.is_boundary() || upstream.streaming.left > 0 {
            self.await_client_within(now);
            return Ok(());
        }
        if self.ctl.deadline.get().is_some() {
            self.worker.watch(&self.ctl, None);
        }
        // After a failed copy, rows may still be on their way: they must not meet anybody else's server. What is not passed on
        // meets nobody.
        self.lingers = (self.streaming > 0 && self.streaming_forward) || !upstream.unsent.is_empty();
        if self.lingers {
            return Ok(());
        }
        let status = upstream.pipeline.status();
        let keeps = self.lease.as_deref().is_some_and(|upstream| self.stays_with(upstream));
        if status != TransactionStatus::Idle {
            self.await_client_in_transaction(now);
        } else if !keeps {
            self.detach(now);
        } else if !self.asks_whether_free()? {
            self.set_state(State::Idle, self.now_us(now));
        }
        Ok(())
    }

    /// Gives the upstream back.
    pub(super) fn detach(&mut self, now: Instant) {
        let Some(mut upstream) = self.lease.take() else { return };
        self.note_detached(&mut upstream, now);
        if upstream.tainted || upstream.listens != Listens::No {
            crate::upstream::cleaner::clean(&self.worker, &self.pool, upstream);
        } else {
            self.worker.check_in(&self.pool, upstream, now);
        }
    }

    /// The books are closed on a lease.
    pub(super) fn note_detached(&mut self, upstream: &mut Upstream, now: Instant) {
        if upstream.work.pinned.is_some() {
            self.pool.meter.pinned.down();
            self.ctl.pinned.set(None);
        }
        // What its client has left behind while it ran may have run for too long as well.
        self.look_at_time(upstream, now);
        self.look_at_last_silence(upstream, now);
        self.leave_names();
        self.leave_channels(upstream);
        self.transaction_over(upstream, now);
        upstream.work.end_lease();
        self.pool.meter.clients_active.down();
        self.pool.meter.upstreams_active.down();
        self.lingers = false;
        self.ctl.upstream.set(None);
        self.set_state(State::Idle, self.now_us(now));
    }
}
