//! Statements that a client prepares under a name, and those too long to be kept.

use std::rc::Rc;

use wire::pipeline::{Awaited, Fate, Owed};
use wire::prepared::Presence;
use wire::tag::TransactionStatus;
use wire::view::Parse;

use super::outbox::Outbox;
use super::provide::write_parse;
use super::request::malformed;
use super::retry::Retry;
use super::statement::Prepared;
use super::translate::{Message, Next};
use super::{End, Session};
use crate::upstream::{NAMED, UNNAMED, Upstream};

impl Session {
    /// A Parse of a name that is free.
    pub(super) fn parse_named(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        parse: Parse<'_>,
        prepared: Rc<Prepared>,
    ) -> Result<(), End> {
        let id = prepared.id;
        outbox.skip(message.at, message.end);
        if message.at == 0 && upstream.prepared.holds(id) {
            upstream.work.retry = Retry::Answered { id, end: message.end };
        }
        match upstream.prepared.acquire(id) {
            Presence::Held if may_be_refused(upstream) => {
                // It has to say so itself, and need not remember the text.
                self.push(upstream, Awaited::Parse, Fate::Forward, NAMED);
                upstream.unnamed = None;
                write_parse(outbox.insert(message.end), None, parse.query, parse.types);
            }
            Presence::Held => {
                self.pool.meter.prepared_hits.increment();
                self.push(upstream, Awaited::Parse, Fate::Substitute, NAMED);
            }
            Presence::Missing { evict } => {
                self.evict(upstream, outbox, message.end, evict);
                self.push(upstream, Awaited::Parse, Fate::Forward, id | NAMED);
                write_parse(outbox.insert(message.end), Some(id), parse.query, parse.types);
            }
        }
        upstream.work.parsed = Some(prepared.clone());
        self.statements.define(parse.statement, prepared);
        self.ctl.prepared.set(self.statements.len());
        Ok(())
    }

    /// A statement too long to be kept lives on the server where it was parsed, and keeps its client there.
    pub(super) fn parse_long(&mut self, upstream: &mut Upstream, message: Message<'_>) -> Result<Next, End> {
        let Some(end) = message.body.iter().position(|byte| *byte == 0) else {
            return Err(malformed(wire::view::Malformed("Parse with a name of more than 256 KiB")));
        };
        let (name, text) =
            (message.body.get(..end).unwrap_or_default(), message.body.get(end + 1..).unwrap_or_default());
        let worker = self.worker.clone();
        let mut brain = worker.brain.borrow_mut();
        let begin = upstream.work.samples.len();
        let look = brain.look_at(text, self.escapes, &mut upstream.work.samples);
        upstream.work.samples.truncate(begin);
        let prepared =
            Rc::new(Prepared::new(self.worker.shared.next_id(), &look, None, &[0, 0], self.tags(&look.comments)));
        drop(brain);
        let suspect = self.is_suspect(None, &prepared.known, Some(text));
        prepared.inspected.or_look(self.pool.suspects_version(), || suspect);
        upstream.work.parsed = Some(prepared.clone());
        if name.is_empty() {
            self.push(upstream, Awaited::Parse, Fate::Forward, UNNAMED);
            upstream.unnamed = Some(prepared.id);
            self.set_unnamed(upstream, Some(prepared));
        } else {
            // Under its own name: nobody else gets this upstream before it has been reset.
            self.push(upstream, Awaited::Parse, Fate::Forward, 0);
            self.leave(upstream, policy::verdict::SessionState::SqlPrepare);
        }
        Ok(Next::Go)
    }
}

/// Whether the server may refuse a text that it has taken before: in a transaction that has failed, or may have by the time
/// that it reads what is sent now; or under settings that nobody follows.
fn may_be_refused(upstream: &Upstream) -> bool {
    let earlier = |owed: &Owed| owed.fate != Fate::Swallow && matches!(owed.awaited, Awaited::Sync | Awaited::Query);
    upstream.pipeline.status() == TransactionStatus::Failed
        || upstream.work.pinned.is_some()
        || upstream.pipeline.owed().any(earlier)
}
