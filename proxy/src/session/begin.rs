//! What a request needs before its first message: its deadline, and its client's settings on whatever upstream it got.

use std::rc::Rc;
use std::time::Instant;

use config::LimitKey;
use wire::encode::{backend as say, frontend as ask};
use wire::encoding::reported;
use wire::params::{Value, difference, set_local};
use wire::pipeline::{Awaited, Fate};
use wire::tag::TransactionStatus;

use super::outbox::Outbox;
use super::reading::ENCODING;
use super::{End, Session};
use crate::upstream::Upstream;

impl Session {
    /// A request begins: its deadline runs from here.
    pub(super) fn begin_request(&mut self, upstream: &mut Upstream, now: Instant) {
        upstream.prepared.begin_pipeline();
        let now_us = self.now_us(now);
        (upstream.work.begun_us, upstream.work.first_us) = (now_us, now_us);
        self.was_awaited(upstream, now_us);
        upstream.work.deadline = self.deadline(upstream, now, now);
        self.time_statement(upstream, now);
        if let Some(deadline) = upstream.work.due() {
            self.worker.watch(&self.ctl, Some(deadline.cancel_at));
        } else if self.ctl.deadline.get().is_some() {
            self.worker.watch(&self.ctl, None);
        }
    }

    /// The client has been heard of again; in a transaction it may have been silent for too long.
    #[inline]
    pub(super) fn was_awaited(&mut self, upstream: &mut Upstream, now_us: u64) {
        self.slept = false;
        if std::mem::take(&mut self.overslept) {
            self.warn_of_sleep(upstream);
        }
        if upstream.pipeline.status() != TransactionStatus::Idle {
            let limit = self.limits.idle_in_transaction_timeout;
            let (_, since) = self.ctl.state.get();
            self.look_at_times(upstream, LimitKey::IdleInTransactionTimeout, limit, now_us.saturating_sub(since));
        }
        self.end_silence(upstream, now_us);
    }

    /// The session has said whose it is, or other rules say so: what it holds is that tenant's, and that class's, from now
    /// on.
    #[cold]
    pub(super) fn is_charged_to_another(&self, upstream: &Upstream) {
        let now = Instant::now();
        if let Some(berth) = &upstream.berth {
            berth.transfer(&self.claim(now), now);
            if self.pool.shared.needs_attention() {
                self.worker.stir(&self.pool, now);
            }
        }
    }

    /// Whether something goes before the ReadyForQuery that is about to be told.
    #[inline]
    pub(super) fn tells_before_ready(&self, upstream: &Upstream) -> bool {
        self.listening.is_some() || upstream.work.restates
    }

    /// A RESET has brought settings to the server's own, which the server has told. The client is told of what it began
    /// with, as at its login: that is made again before its next statement.
    #[cold]
    pub(super) fn restate(&self, out: &mut Vec<u8>) {
        let welcome = self.pool.shared.welcome().unwrap_or_default();
        for (name, _) in welcome.iter() {
            let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
            let began = self.startup.find(&lower);
            if let Some(Value::Plain(value)) = began.filter(|_| self.settings.current().find(&lower) == began) {
                let value = if lower == ENCODING { reported(value) } else { value };
                // One that is too long for a message was too long for the login.
                drop(say::parameter_status(out, name, value));
            }
        }
    }

    /// Brings the upstream's settings to what this client wants; `true`: their outcome must be awaited. Inside of a
    /// transaction the two differ only behind a RESET, which brings the server back to its own default and not to what
    /// the client began with, and behind a SET that asks for more than a limit allows.
    #[inline]
    pub(super) fn needs_settings(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>) -> Result<bool, End> {
        let status = upstream.pipeline.status();
        if status == TransactionStatus::Idle && self.listening.is_some() && self.must_catch_up(upstream) {
            return Ok(true);
        }
        if !upstream.work.local_default.is_empty() && status == TransactionStatus::Open {
            let mut sql = Vec::new();
            for name in std::mem::take(&mut upstream.work.local_default) {
                let Some(Value::Plain(value)) = self.startup.find(&name) else { continue };
                sql.extend_from_slice(&set_local(&name, value));
                sql.push(b';');
            }
            ask::query(outbox.insert(0), &sql).map_err(|error| End::Trouble(error.into()))?;
            self.push(upstream, Awaited::Query, Fate::Swallow, 0);
            upstream.unnamed = None;
        }
        if Rc::ptr_eq(upstream.settings.current(), &self.wanted) || status == TransactionStatus::Failed {
            return Ok(false);
        }
        let difference = difference(upstream.settings.current(), &self.wanted);
        if difference.sql.is_empty() && difference.encoding.is_empty() {
            upstream.settings.overlay(self.wanted.clone());
            if status == TransactionStatus::Idle {
                upstream.settings.commit();
            }
            return Ok(false);
        }
        if status == TransactionStatus::Open {
            // What is sent now wins over what holds for the transaction: which of the two holds is no longer known, and
            // nothing is kept of what comes of it.
            upstream.work.locals.overridden();
            upstream.work.filling = None;
        }
        self.pool.meter.settings_sent.increment();
        for sql in [&difference.encoding, &difference.sql] {
            if !sql.is_empty() {
                ask::query(outbox.insert(0), sql).map_err(|error| End::Trouble(error.into()))?;
                self.push(upstream, Awaited::Query, Fate::Swallow, 0);
            }
        }
        upstream.unnamed = None;
        upstream.work.prologue = Some(self.wanted.clone());
        upstream.work.held = difference.awaited || !self.proven;
        Ok(upstream.work.held)
    }
}
