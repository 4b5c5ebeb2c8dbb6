//! Preparing: a Parse, unnamed, under a name of the client's, or too long to be kept.

use std::rc::Rc;
use std::time::Instant;

use policy::verdict::Refusal;
use wire::pipeline::{Awaited, Fate, Owed};
use wire::prepared::Presence;
use wire::tag::TransactionStatus;
use wire::view::Parse;

use super::brain::{Look, MAX_UNNAMED, Sent};
use super::cached::{Looked, look_once};
use super::names::Reach;
use super::outbox::Outbox;
use super::police::CommentTags;
use super::provide::write_parse;
use super::request::malformed;
use super::retry::Retry;
use super::statement::Prepared;
use super::translate::{Message, Next};
use super::{End, Session};
use crate::trouble::Trouble;
use crate::upstream::{NAMED, UNNAMED, Upstream};

/// Whether a client may give a name to a statement.
enum Naming {
    Goes,
    Waits,
    Refused(Trouble),
}

impl Session {
    pub(super) fn parse(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        looked: Option<Looked<'_>>,
    ) -> Result<Next, End> {
        self.pool.meter.parses.increment();
        if upstream.pipeline.ignores() {
            self.push(upstream, Awaited::Parse, Fate::Forward, 0);
            return Ok(Next::Go);
        }
        if self.awaits_reading(upstream) {
            return Ok(Next::Hold);
        }
        if !message.is_whole() {
            return self.parse_long(upstream, message);
        }
        let parse = Parse::read(message.body).map_err(malformed)?;
        if !parse.statement.is_empty() && self.is_uncertain(upstream, parse.statement) {
            // Whether the name is taken depends on a request that is still being answered.
            return Ok(Next::Hold);
        }
        let worker = self.worker.clone();
        let mut literals = worker.rooms.literals.take();
        let look = look_once(looked, &worker, (parse.query, self.lexing(), Sent::ToPrepare), &mut literals);
        let next = self.parse_looked(upstream, outbox, message, parse, (&look, &literals));
        worker.rooms.literals.put(literals);
        next
    }

    /// The same for a text that has been looked at, with the constants in it.
    fn parse_looked(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        parse: Parse<'_>,
        (look, literals): (&Look<'_>, &[u8]),
    ) -> Result<Next, End> {
        let worker = self.worker.clone();
        if let Some(trouble) = self.refuses(upstream, look) {
            return self.refuse_parse(upstream, outbox, message, trouble);
        }
        let suspect = self.is_suspect(look.inspected(), &look.known, Some(parse.query));
        if suspect && let Some(trouble) = self.refuses_suspects() {
            return self.refuse_parse(upstream, outbox, message, trouble);
        }
        let (script, strict) = (look.known.script.as_deref(), look.known.shape.strict);
        let kept = !parse.statement.is_empty();
        if self.before_names(upstream, outbox, message.at, script.map(|script| (script, kept)), strict)? == Reach::Waits
        {
            return Ok(Next::Hold);
        }
        let others = self.rules.reads_comments
            && !self.heed_comments(upstream, CommentTags::of(parse.query, &self.rules.clone()), Instant::now());
        if others || self.awaits_tenant(upstream) || self.awaits_sequences(upstream, script) {
            return Ok(Next::Hold);
        }
        self.forget_sequences(upstream, outbox, message.at, script)?;
        if look.known.has_strings {
            let on_its_way = upstream.work.running.iter().any(|running| running.known.script.is_some());
            let interner = &mut worker.brain.borrow_mut().interner;
            let settings = upstream.work.locals.over(self.settings.current(), interner);
            self.note_prepared(settings.filter(|_| !on_its_way));
        }
        let mut replaced = self.translate_deallocate(upstream, look, outbox, message.at);
        let limited = if self.limits_rows() { self.with_row_limit(upstream, &look.known, parse.query) } else { None };
        let mut parse = parse;
        if let Some(text) = &limited {
            parse.query = text;
            replaced = Some(text.clone());
        }
        if parse.statement.is_empty() {
            return self.parse_unnamed(upstream, outbox, message, parse, (look, literals), replaced);
        }
        match self.before_naming(upstream, parse) {
            Naming::Goes => {}
            Naming::Waits => return Ok(Next::Hold),
            Naming::Refused(trouble) => return self.refuse_parse(upstream, outbox, message, trouble),
        }
        let tags = self.tags(&look.comments);
        let mut brain = worker.brain.borrow_mut();
        let place = self.place_of(upstream, &mut brain.interner, &look.known, parse.query);
        let prepared = brain.prepare((look, literals), parse, place, tags, &self.worker.shared);
        drop(brain);
        if self.has_own_names() {
            self.parse_as_named(upstream, parse.statement, prepared);
        } else {
            self.parse_once(upstream, outbox, message, parse, &prepared, NAMED);
            let bytes = prepared.bytes();
            self.statements.define(parse.statement, prepared, bytes);
            self.ctl.prepared.set(self.statements.len() as u32);
        }
        Ok(Next::Go)
    }

    /// Whether the client may give this name now.
    fn before_naming(&self, upstream: &Upstream, parse: Parse<'_>) -> Naming {
        let name = parse.statement;
        if upstream.work.forgets() {
            // A DEALLOCATE before it is still being answered: it takes nothing that is prepared behind it.
            return Naming::Waits;
        }
        if self.statements.find(name).is_none() {
            let bytes = name.len() + parse.query.len() + parse.types.len();
            return self.one_too_many(bytes).map_or(Naming::Goes, Naming::Refused);
        }
        if self.has_own_names() && !self.is_absent(upstream, name) {
            // The server says that it is taken.
            return Naming::Goes;
        }
        Naming::Refused(Trouble::duplicate_statement(name))
    }

    /// Whether one more statement of so many bytes is too much for this client.
    fn one_too_many(&self, bytes: usize) -> Option<Trouble> {
        let settings = self.pool.settings();
        if self.statements.len() >= settings.max_client_prepared {
            let limit = settings.max_client_prepared;
            return Some(Refusal::TooManyStatements { limit, bytes: false }.into());
        }
        let limit = settings.max_client_prepared_bytes;
        let fits = self.statements.bytes().saturating_add(bytes) <= limit;
        (!fits).then(|| Refusal::TooManyStatements { limit, bytes: true }.into())
    }

    fn parse_unnamed(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        parse: Parse<'_>,
        (look, literals): (&Look<'_>, &[u8]),
        replaced: Option<Vec<u8>>,
    ) -> Result<Next, End> {
        let worker = self.worker.clone();
        let mut brain = worker.brain.borrow_mut();
        let tags = self.tags(&look.comments);
        if self.shares(look, parse) && !upstream.work.forgets() {
            // It goes by our name, as one that the client has named.
            let place = self.place_of(upstream, &mut brain.interner, &look.known, parse.query);
            let prepared = brain.prepare_shared((look, literals), parse, place, tags, &self.worker.shared);
            self.parse_once(upstream, outbox, message, parse, &prepared, UNNAMED);
            self.set_unnamed(upstream, Some(prepared));
            return Ok(Next::Go);
        }
        let prepared = brain.prepare_unnamed((look, literals), parse, tags, &self.worker.shared);
        // Its text may be too long to be kept until it is executed.
        let suspect = || self.is_suspect(None, &look.known, Some(parse.query));
        prepared.inspected.or_look(self.pool.suspects_version(), suspect);
        self.push(upstream, Awaited::Parse, Fate::Forward, UNNAMED);
        upstream.unnamed = Some(prepared.id);
        upstream.work.parsed = Some(prepared.clone());
        self.set_unnamed(upstream, Some(prepared));
        if let Some(text) = replaced {
            outbox.skip(message.at, message.end);
            write_parse(outbox.insert(message.end), None, &text, parse.types);
        }
        Ok(Next::Go)
    }

    /// Whether an unnamed statement may be one that others have parsed: its text has come before and does nothing to its
    /// session, and the server finds nothing in it that it reads while it parses, as it does with a date.
    fn shares(&self, look: &Look<'_>, parse: Parse<'_>) -> bool {
        let known = &look.known;
        let may = look.text.is_some() && known.script.is_none() && !known.has_strings;
        may && !self.has_own_names() && parse.query.len() <= MAX_UNNAMED && self.pool.settings().share_anonymous
    }

    /// A Parse becomes one under our name, and is kept back where the server has taken it before.
    fn parse_once(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        parse: Parse<'_>,
        prepared: &Rc<Prepared>,
        kind: u64,
    ) {
        let id = prepared.id;
        upstream.work.parsed = Some(prepared.clone());
        outbox.skip(message.at, message.end);
        if upstream.prepared.holds(id) {
            upstream.work.retry.note(message.at, Retry::Answered { id, end: message.end });
        }
        match upstream.prepared.acquire(id) {
            Presence::Held if may_be_refused(upstream) => {
                // It has to say so itself, and need not remember the text.
                self.push(upstream, Awaited::Parse, Fate::Forward, kind);
                upstream.unnamed = None;
                write_parse(outbox.insert(message.end), None, parse.query, parse.types);
            }
            Presence::Held => {
                self.pool.meter.prepared_hits.increment();
                self.pool.meter.parses_kept.increment();
                self.push(upstream, Awaited::Parse, Fate::Substitute, kind);
            }
            Presence::Missing { evict } => {
                self.evict(upstream, outbox, message.end, evict);
                self.push(upstream, Awaited::Parse, Fate::Forward, id | kind);
                write_parse(outbox.insert(message.end), Some(id), parse.query, parse.types);
            }
        }
    }

    /// A statement too long to be kept lives on the server where it was parsed, and keeps its client there.
    fn parse_long(&mut self, upstream: &mut Upstream, message: Message<'_>) -> Result<Next, End> {
        let Some(end) = message.body.iter().position(|byte| *byte == 0) else {
            return Err(malformed(wire::view::Malformed("Parse with a name of more than 256 KiB")));
        };
        let (name, text) =
            (message.body.get(..end).unwrap_or_default(), message.body.get(end + 1..).unwrap_or_default());
        let worker = self.worker.clone();
        let mut brain = worker.brain.borrow_mut();
        let mut literals = worker.rooms.literals.take();
        let look = brain.look_at(text, self.lexing(), Sent::ToPrepare, &mut literals);
        let (id, tags) = (worker.shared.next_id(), self.tags(&look.comments));
        let prepared = Rc::new(Prepared::new(id, (&look, &literals), None, &[0, 0], tags));
        worker.rooms.literals.put(literals);
        drop(brain);
        let suspect = self.is_suspect(None, &prepared.known, Some(text));
        prepared.inspected.or_look(self.pool.suspects_version(), || suspect);
        // What stands behind the part that is there may do anything to the session, and can be run nowhere else.
        upstream.tainted = true;
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
