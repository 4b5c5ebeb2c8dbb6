//! The end of a lease.

use std::time::Instant;

use super::Session;
use super::ctl::State;
use crate::upstream::{Listens, Upstream};

impl Session {
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
