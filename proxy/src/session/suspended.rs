//! What SUSPEND asks of a session: what it has begun goes on to its end, and its client's next request waits for RESUME.
//!
//! A client that waits is not read, so what it sends stays in its socket. A request that has begun is read on: a COPY, or a
//! pipeline without its Sync, would never end otherwise.

use std::time::Instant;

use super::Session;
use super::deadlines::Silence;

impl Session {
    /// Nothing more is read from its client for now.
    #[inline]
    pub(super) fn waits_for_resume(&self) -> bool {
        self.worker.is_suspended() && self.is_between_requests()
    }

    /// It has come to rest, as far as SUSPEND is concerned, and says so.
    #[inline]
    pub(super) fn tell_that_it_rests(&self) {
        if self.waits_for_resume() {
            self.worker.rests(self.ctl.client);
        }
    }

    /// No request is under way, none that was read is left, and nothing is unsent; a transaction may be open.
    fn is_between_requests(&self) -> bool {
        // What it has waited for is there: its request is still to be looked at.
        if self.look_again {
            return false;
        }
        if self.waiting_since.is_some() || self.waits_for_an_answer() || self.streaming > 0 || !self.unsent.is_empty() {
            return false;
        }
        self.lease.as_deref().is_none_or(|held| {
            held.pipeline.is_boundary() && held.unsent.is_empty() && !held.work.held && !held.cancels.are_under_way()
        })
    }

    /// Whether a client that has been silent for too long is let be: it may have spoken, and nobody has listened. Its time
    /// begins anew.
    pub(super) fn may_have_spoken(&self, now: Instant, silence: Silence) -> bool {
        let may = self.worker.is_suspended();
        if may {
            self.worker.watch(&self.ctl, now.checked_add(silence.limit()));
        }
        may
    }
}
