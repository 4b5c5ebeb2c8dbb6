//! How long a single statement may run, where a client has sent several of them at once.
//!
//! The server times each statement by itself, and so does the proxy behind it: there is one deadline, and it is moved when
//! the statement in front has ended. A server keeps to itself that one has ended until it has 8 KiB to send or reads a Sync.
//! Behind an Execute it is asked with a Flush; within one text it cannot be asked, and all that is left of the text has its
//! time together, if the server is sure to time each of its statements.

use std::time::{Duration, Instant};

use config::LimitKey;
use policy::limits::{Deadline, Effective};
use policy::verdict::SessionState;
use wire::encode::frontend as ask;
use wire::pipeline::Awaited;
use wire::tag::Frontend;

use super::Session;
use super::outbox::Outbox;
use super::script::{Act, Script};
use super::statement::{Known, Running};
use crate::upstream::Upstream;

/// The server's own timer.
const STATEMENT_TIMEOUT: &str = "statement_timeout";

/// How much later than the server itself it may be heard of here that a statement is the first.
const UNHEARD: Duration = Duration::from_millis(250);

/// Whether nothing in a text may change the server's timer.
fn leaves_timer(script: &Script) -> bool {
    script.parts.iter().flatten().all(|act| match act {
        Act::Set { name, .. } | Act::Reset(name) | Act::ResetLocal(name) => **name != *STATEMENT_TIMEOUT,
        Act::SetBound(..) | Act::LocalUnseen | Act::LocalHidden | Act::ResetAll | Act::DiscardAll | Act::Taint => false,
        Act::Leave(state) => !matches!(state, SessionState::HiddenSetting | SessionState::Block),
        _ => true,
    })
}

impl Session {
    /// From now on the time runs of the statement that is first, or of what prepares the next one.
    #[inline]
    pub(super) fn time_statement(&self, upstream: &mut Upstream, now: Instant) {
        upstream.work.statement = match self.limits.enforced_timeout() {
            Some(limit) => self.statement_deadline(upstream, limit, now),
            None => None,
        };
    }

    fn statement_deadline(&self, upstream: &Upstream, limit: Duration, now: Instant) -> Option<Deadline> {
        if self.comment.is_some() {
            // What a comment says the server does not know: it has the connection's own limit.
            return Deadline::own(LimitKey::StatementTimeout, Some(limit), now, now);
        }
        let mut deadline = Deadline::new(Some(limit), now)?;
        if let Some(running) = upstream.work.running.front()
            && let others = running.known.shape.parts.len().saturating_sub(running.part + 1)
            && others > 0
            && self.server_times(upstream, running)
        {
            let others = limit.checked_mul(u32::try_from(others).ok()?)?;
            deadline.cancel_at = deadline.cancel_at.checked_add(others)?;
            deadline.close_at = deadline.close_at.checked_add(others)?;
        }
        Some(deadline)
    }

    /// Whether the server is sure to time each statement of a text: nothing that is known or suspected of has changed its
    /// timer, or may within the text.
    fn server_times(&self, upstream: &Upstream, running: &Running) -> bool {
        let makes = upstream.work.prologue.as_ref().unwrap_or(upstream.settings.current());
        running.known.whole
            && !upstream.tainted
            && !upstream.work.locals.may_have(STATEMENT_TIMEOUT)
            && makes.find(STATEMENT_TIMEOUT) == self.wanted.find(STATEMENT_TIMEOUT)
            && running.known.script.as_deref().is_none_or(leaves_timer)
    }

    /// A text is on its way: where it is the first, and has several statements, it has the time of all.
    #[inline]
    pub(super) fn time_text(&self, upstream: &mut Upstream, now: Instant) {
        if upstream.work.statement.is_some()
            && upstream.work.running.len() == 1
            && upstream.work.running.front().is_some_and(|running| running.known.shape.parts.len() > 1)
        {
            self.time_statement(upstream, now);
            self.watch_request(upstream);
        }
    }

    /// One statement of a text has ended.
    #[inline]
    pub(super) fn begins_part(&self, upstream: &mut Upstream, now: Instant) {
        if upstream.work.statement.is_some() && !upstream.work.timed_out {
            self.time_statement(upstream, now);
            self.watch_request(upstream);
        }
    }

    /// What stood before the statement that is first now has ended, or nothing did: its own time begins. The server may
    /// have begun with it sooner, while nobody was told of that end.
    #[inline]
    pub(super) fn begins_first(&self, upstream: &mut Upstream, now: Instant) {
        upstream.work.first_us = self.now_us(now);
        // A cancel on its way is the one of the statement whose time had passed.
        if upstream.work.timed_out {
            return;
        }
        let ends = upstream.pipeline.head().is_some_and(|owed| owed.awaited == Awaited::Sync);
        if !ends && (upstream.work.statement.is_some() || self.limits.enforced_timeout().is_some()) {
            if upstream.pipeline.is_empty() {
                // Nothing runs before the client says more.
                upstream.work.statement = None;
            } else {
                self.time_statement(upstream, now);
            }
            self.watch_request(upstream);
        }
        if self.rules.limits.has_statements() {
            self.time_by_name(upstream, now);
        }
    }

    /// The client says more within a request of which nothing runs.
    #[inline]
    pub(super) fn goes_on(&self, upstream: &mut Upstream, now: Instant) {
        if upstream.pipeline.is_empty() && !upstream.pipeline.is_copying_in() && !upstream.work.timed_out {
            upstream.work.first_us = self.now_us(now);
            self.time_statement(upstream, now);
            if upstream.work.statement.is_some() {
                self.watch_request(upstream);
            }
        }
    }

    fn watch_request(&self, upstream: &Upstream) {
        self.worker.watch(&self.ctl, upstream.work.due().map(|deadline| deadline.cancel_at));
    }

    /// An Execute is on its way. Where its time is limited, and something comes behind it before the Sync, it is to be known
    /// when it has ended.
    #[inline]
    pub(super) fn will_end(&self, upstream: &mut Upstream) {
        upstream.work.unheard = self.limits.enforced_timeout().is_some();
    }

    /// The next message is on its way: the server is asked for what stands before it. A Sync or Flush asks itself, and a
    /// Close takes no time.
    #[inline]
    pub(super) fn hear(&self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, tag: Frontend, at: usize) {
        use Frontend::{Bind, Describe, Execute, Flush, FunctionCall, Parse, Query, Sync};
        if upstream.work.unheard {
            match tag {
                Parse | Bind | Describe | Execute | Query | FunctionCall => ask::flush(outbox.insert(at)),
                Sync | Flush => {}
                _ => return,
            }
            upstream.work.unheard = false;
        }
    }

    /// Whether the configuration limits the time of just this statement.
    #[inline]
    pub(super) fn is_timed_by_name(&self, known: &Known) -> bool {
        self.said_by_name(known, Effective::enforced_timeout).is_some()
    }

    /// The statement that is first has the time that the configuration gives just that one.
    pub(super) fn time_by_name(&self, upstream: &mut Upstream, now: Instant) {
        let had = upstream.work.own.take();
        let Some(known) = upstream.work.running.front().map(|running| running.known.clone()) else { return };
        let limited = self.all_said_by_name(&known).filter_map(|(strict, own)| {
            let deadline = Deadline::own(LimitKey::StatementTimeout, own.enforced_timeout(), now, now)?;
            Some((strict, deadline))
        });
        upstream.work.own = limited.min_by_key(|(_, deadline)| deadline.cancel_at);
        if had.is_some() || upstream.work.own.is_some() {
            self.watch_request(upstream);
        }
    }

    /// Whether what runs may have run for so long, as far as that can be told from here: what ended it sooner was not this
    /// limit, but SET LOCAL, an operator's cancel, or a function that raises the same.
    pub(super) fn has_run_for(&self, upstream: &Upstream, limit: Duration, now: Instant) -> bool {
        let ran = Duration::from_micros(self.now_us(now).saturating_sub(upstream.work.first_us));
        // The end of what stood before it is heard of later than the server has begun with it.
        ran + (limit / 4).min(UNHEARD) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::brain::{Brain, Lexing, Sent};

    #[test]
    fn what_may_change_the_servers_timer_is_told_from_the_rest() {
        let mut brain = Brain::new(policy::fingerprint::Compat::V15);
        let mut leaves = |sql: &str| {
            let look = brain.look_at(sql.as_bytes(), Lexing::default(), Sent::ToRun, &mut Vec::new());
            look.known.script.as_deref().is_none_or(leaves_timer)
        };
        for sql in ["select 1; select 2", "begin; insert into t values (1); commit", "set work_mem to '4MB'; select 1"]
        {
            assert!(leaves(sql), "{sql}");
        }
        for sql in [
            "set statement_timeout to 0; select 1",
            "set local statement_timeout to 0; select 1",
            "reset statement_timeout; select 1",
            "reset all; select 1",
            "discard all",
            "select set_config('statement_timeout', '0', true); select 1",
            "select set_config(a, b, true) from t; select 1",
            "do $$ begin end $$; select 1",
        ] {
            assert!(!leaves(sql), "{sql}");
        }
    }
}
