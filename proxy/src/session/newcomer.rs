//! The beginning of a session in session mode: the client gets its server before it is told that it may begin, and is
//! told the process id that it has there, as on a direct connection. So `pg_backend_pid()`, `pg_stat_activity`, the
//! server's log, the sender of its notifications and what its driver says are one number.
//!
//! It waits for its server as a request would: up to `pool.queue_timeout`, in the same queue. What it cannot have, it is
//! told as a server tells it that refuses a login.

use std::task::{Context, Poll};
use std::time::Instant;

use policy::verdict::Refusal;
use wire::encode::backend as say;
use wire::tag::TransactionStatus;

use super::ctl::State;
use super::{End, Session};
use crate::cancel::key::Addressee;
use crate::worker::checkout::Checkout;
use crate::worker::{READ, Scratch};

impl Session {
    /// Gets a server for a client that has proven who it is, and tells it everything that it is still to be told.
    pub(super) async fn begin_with_server(&mut self, key: usize) -> Result<(), End> {
        let now = Instant::now();
        let claim = self.claim(now);
        match self.worker.check_out(&self.pool, &self.ctl, &self.wanted, &claim, now) {
            Checkout::Leased(upstream) => self.attach(upstream, now, now),
            Checkout::Full(full) => return Err(End::Trouble(self.crowded(full))),
            Checkout::Refused(trouble) => return Err(End::Trouble(trouble)),
            Checkout::Waiting => {
                self.begin_waiting(now);
                std::future::poll_fn(|cx| self.poll_for_server(cx)).await?;
            }
        }
        self.introduce(key)
    }

    fn poll_for_server(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.ctl.park(cx.waker());
        if self.ctl.noted.replace(false) {
            self.heed()?;
        }
        if let Some(trouble) = self.pending_trouble.take() {
            return Poll::Ready(Err(End::Trouble(*trouble)));
        }
        if self.lease.is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.ctl.drain.get() {
            return Poll::Ready(Err(End::Trouble(Refusal::ShuttingDown.into())));
        }
        self.notice_leaving(cx)
    }

    /// A client that goes away while it waits gives its place in the queue to the next one.
    fn notice_leaving(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let worker = self.worker.clone();
        let Scratch { input, .. } = &mut *worker.scratch.borrow_mut();
        while self.carry.len() < READ {
            let space = input.get_mut(..READ).unwrap_or_default();
            match self.client.poll_read(cx, space) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => self.carry.extend_from_slice(space.get(..n).unwrap_or_default()),
                Poll::Ready(_) => return Poll::Ready(Err(End::ClientGone)),
            }
        }
        Poll::Pending
    }

    fn introduce(&mut self, key: usize) -> Result<(), End> {
        let Some(upstream) = self.lease.as_deref_mut() else {
            return Err(End::UpstreamLost);
        };
        // No statement has waited.
        upstream.work.queued_us = 0;
        let to = Addressee { worker: self.worker.index, client: self.ctl.client };
        let identity = self.worker.shared.processes.introduce_as(upstream.cancel.process, to, key);
        let said = say::backend_key_data(&mut self.unsent, identity.process.number(), &identity.key);
        said.map_err(|error| End::Trouble(error.into()))?;
        say::ready_for_query(&mut self.unsent, TransactionStatus::Idle);
        self.worker.introduce(&self.ctl, identity);
        self.look_again = !self.carry.is_empty();
        self.set_state(State::Idle, self.now_us(Instant::now()));
        Ok(())
    }
}
