//! A client's messages, message by message, as its upstream gets them.
//!
//! Only statement names are changed. What an upstream lacks (settings, a prepared statement) is put in front of the
//! message that needs it; what it already has (a Parse of a statement that it holds) is kept back.

use std::time::Instant;

use wire::encode::frontend as ask;
use wire::frame::{self, Head};
use wire::pipeline::{Awaited, Fate, Owed};
use wire::tag::{Frontend, Target};
use wire::view::{Bind, Execute, Malformed, Named, function, query};

use super::brain::Sent;
use super::cached::{Looked, look_once};
use super::held::Held;
use super::large_objects::is_of_large_objects;
use super::listen::Enlisted;
use super::names::Reach;
use super::outbox::Outbox;
use super::police::CommentTags;
use super::portals::Portal;
use super::provide::{Located, hold, is_ours, write_renamed};
use super::request::{Due, head, left_of, malformed};
use super::retry::Retry;
use super::work::MAX_SAMPLES;
use super::{End, Session};
use crate::upstream::{NAMED, UNNAMED, Upstream};

/// Bytes composed for the server before they are sent.
const MAX_COMPOSED: usize = 1024 * 1024;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    tag: Frontend,
    pub(super) body: &'a [u8],
    pub(super) at: usize,
    pub(super) end: usize,
    /// Bytes that the whole body has; more than `body` where the rest is still on its way.
    declared: usize,
}

impl Message<'_> {
    pub(super) fn is_whole(&self) -> bool {
        self.body.len() == self.declared
    }
}

/// How the translation goes on behind a message.
pub(super) enum Next {
    Go,
    /// This message and those behind it wait for the next boundary.
    Hold,
}

type Translated = Result<usize, (usize, End)>;

impl Session {
    /// Translates `bytes[..whole]`, and the beginning of a long message behind it. Returns how many bytes are dealt
    /// with: fewer where the rest has to wait. `looked`: the text of the first message was looked at already.
    pub(super) fn translate(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        bytes: &[u8],
        Due { whole, long }: Due,
        mut looked: Option<Looked<'_>>,
        now: Instant,
    ) -> Translated {
        let free = upstream.pipeline.is_free();
        if upstream.pipeline.is_boundary() {
            if upstream.cancels.are_under_way() {
                // A cancel of what has ended is still on its way to the server: it must not strike what comes behind.
                upstream.work.held = true;
                return Ok(0);
            }
            self.begin_request(upstream, now);
            if self.needs_settings(upstream, outbox).map_err(|end| (0, end))? {
                return Ok(0);
            }
        }
        let mut at = 0;
        let mut said_goodbye = false;
        while let Some(rest) = bytes.get(at..whole)
            && let Some(head) = head(rest).map_err(|end| (at, end))?
            && let Some(tag) = Frontend::from_byte(head.tag)
        {
            let body = rest.get(frame::HEAD..head.total()).unwrap_or_default();
            let message = Message { tag, body, at, end: at + head.total(), declared: head.body };
            match self.message(upstream, outbox, message, looked.take(), now) {
                Ok(Next::Go) if tag == Frontend::Terminate => {
                    outbox.skip(message.at, bytes.len());
                    said_goodbye = true;
                    break;
                }
                Ok(Next::Go) => at = message.end,
                Ok(Next::Hold) => {
                    hold(upstream, outbox, at);
                    return Ok(at);
                }
                Err(end) => return Err((at, end)),
            }
            if outbox.composed() > MAX_COMPOSED {
                // Short messages can need long statements in front of them: the rest follows when this has left.
                self.look_again = true;
                return Ok(at);
            }
        }
        if matches!(upstream.work.retry, Retry::Answered { .. } | Retry::Used) {
            let ends = said_goodbye || long.is_none();
            Self::keep_request(upstream, bytes, if free && ends { at } else { 0 }).map_err(|end| (at, end))?;
        }
        match long {
            _ if said_goodbye => Ok(bytes.len()),
            Some(head) => self.long_message(upstream, outbox, bytes, at, head, now),
            None => Ok(at),
        }
    }

    fn long_message(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        bytes: &[u8],
        at: usize,
        head: Head,
        now: Instant,
    ) -> Translated {
        let (Some(tag), Some(body)) = (Frontend::from_byte(head.tag), bytes.get(at + frame::HEAD..)) else {
            return Ok(at);
        };
        let message = Message { tag, body, at, end: bytes.len(), declared: head.body };
        match self.message(upstream, outbox, message, None, now) {
            Ok(Next::Go) => {}
            Ok(Next::Hold) => {
                hold(upstream, outbox, at);
                return Ok(at);
            }
            Err(end) => return Err((at, end)),
        }
        self.streaming = left_of(head.total(), bytes.len() - at);
        // The rest of what the server did not get the beginning of would be messages to it, of any kind.
        self.streaming_forward = !outbox.has_skipped(bytes.len());
        Ok(bytes.len())
    }

    #[inline]
    pub(super) fn push(&self, upstream: &mut Upstream, awaited: Awaited, fate: Fate, note: u64) -> bool {
        upstream.pipeline.push(Owed { awaited, fate, client: self.ctl.client, note })
    }

    #[inline]
    fn message(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        looked: Option<Looked<'_>>,
        now: Instant,
    ) -> Result<Next, End> {
        if self.listening.is_some() && self.awaits_ready(upstream, message.tag) {
            return Ok(Next::Hold);
        }
        upstream.work.flushed = message.tag == Frontend::Flush;
        self.hear(upstream, outbox, message.tag, message.at);
        match message.tag {
            Frontend::Bind => return self.bind(upstream, outbox, message),
            Frontend::Execute => return self.execute(upstream, outbox, message, now),
            Frontend::Sync => {
                self.push(upstream, Awaited::Sync, Fate::Forward, 0);
            }
            Frontend::Describe => return self.describe(upstream, outbox, message),
            Frontend::Query => return self.query(upstream, outbox, message, looked, now),
            Frontend::Parse => return self.parse(upstream, outbox, message, looked),
            Frontend::Close => return self.close(upstream, outbox, message),
            Frontend::Flush => {}
            Frontend::FunctionCall => {
                let called = function(message.body).ok();
                if !upstream.pipeline.ignores()
                    && let Err(trouble) = self.judge_call(upstream, called, now)
                {
                    self.refuse_query(upstream, outbox, message, trouble)?;
                    return Ok(Next::Go);
                }
                self.will_run_portal(upstream, None);
                upstream.work.drawn = true;
                if self.push(upstream, Awaited::FunctionCall, Fate::Forward, 0) {
                    // Any function may be called by its oid, set_config among them.
                    upstream.tainted |= !called.is_some_and(is_of_large_objects);
                }
            }
            Frontend::CopyData => {
                if !upstream.pipeline.copy_data() {
                    outbox.skip(message.at, message.end);
                }
            }
            Frontend::CopyDone | Frontend::CopyFail => {
                if !upstream.pipeline.copy_end(self.ctl.client) {
                    outbox.skip(message.at, message.end);
                }
            }
            Frontend::Terminate => {
                let pipeline = &upstream.pipeline;
                if pipeline.is_boundary() || pipeline.is_unsynced() || pipeline.is_copying_in() {
                    return Err(End::Terminated);
                }
                // What it sent before its goodbye is carried out, as a server would.
                self.leaving = true;
            }
            Frontend::Password => return Err(End::Terminated),
        }
        Ok(Next::Go)
    }

    fn query(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        looked: Option<Looked<'_>>,
        now: Instant,
    ) -> Result<Next, End> {
        let sql = if message.is_whole() { query(message.body).map_err(malformed)? } else { message.body };
        if upstream.pipeline.ignores() {
            self.push(upstream, Awaited::Query, Fate::Forward, 0);
            return Ok(Next::Go);
        }
        if self.awaits_reading(upstream) {
            return Ok(Next::Hold);
        }
        let begin = upstream.work.samples.len();
        let samples = &mut upstream.work.samples;
        let look = look_once(looked, &self.worker, (sql, self.lexing(), Sent::ToRun), samples);
        // What stands behind the part that is there may do anything to the session.
        upstream.tainted |= !message.is_whole();
        if begin >= MAX_SAMPLES {
            upstream.work.samples.truncate(begin);
        }
        let sample = begin..upstream.work.samples.len();
        let refused = match self.before_sending(upstream, look.known.script.as_deref()) {
            Enlisted::Yes => self.refuses(upstream, &look),
            Enlisted::No(trouble) => Some(trouble),
            Enlisted::Wait => {
                upstream.work.samples.truncate(begin);
                return Ok(Next::Hold);
            }
        };
        if let Some(trouble) = refused {
            self.refuse_query(upstream, outbox, message, trouble)?;
            return Ok(Next::Go);
        }
        let suspect = self.is_suspect(look.inspected(), &look.known, Some(sql));
        if suspect && let Some(trouble) = self.refuses_suspects() {
            self.refuse_query(upstream, outbox, message, trouble)?;
            return Ok(Next::Go);
        }
        let strict = look.known.shape.strict;
        // Behind a request without its Sync a failed Parse of ours would take this query with it.
        let script = look.known.script.as_deref().filter(|_| !upstream.pipeline.is_unsynced());
        let script = script.map(|script| (script, false));
        if self.before_names(upstream, outbox, message.at, script, strict)? == Reach::Waits {
            upstream.work.samples.truncate(begin);
            return Ok(Next::Hold);
        }
        let others =
            self.rules.reads_comments && !self.heed_comments(upstream, CommentTags::of(sql, &self.rules.clone()), now);
        let script = look.known.script.as_deref();
        let apart = message.is_whole() && self.text_awaits_settings(upstream, &look, sql);
        if others || apart || self.awaits_settings(upstream) || self.awaits_sequences(upstream, script) {
            upstream.work.samples.truncate(begin);
            return Ok(Next::Hold);
        }
        let held = match self.judge_text(upstream, &look, message.is_whole(), now) {
            Ok(held) => held,
            Err(trouble) => {
                self.refuse_query(upstream, outbox, message, trouble)?;
                return Ok(Next::Go);
            }
        };
        self.forget_sequences(upstream, outbox, message.at, script)?;
        let limited = self.replace_text(upstream, outbox, message, &look, sql)?;
        self.aim_text(upstream, outbox, message.at, &look);
        self.will_run_text(upstream, &look, sql, message.is_whole());
        self.push(upstream, Awaited::Query, Fate::Forward, 0);
        self.drop_unnamed(upstream);
        if suspect {
            self.distrust(upstream, strict);
        }
        self.start(upstream, &look, None, sample, message.end - message.at, held, now);
        if message.is_whole() {
            // What the server runs: the plan of a text without its LIMIT would be another one's.
            self.keep_text(&mut upstream.work, &look.known, limited.as_deref().unwrap_or(sql));
        }
        Ok(Next::Go)
    }

    #[inline]
    fn bind(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, message: Message<'_>) -> Result<Next, End> {
        self.pool.meter.binds.increment();
        let bind = Bind::read(message.body).map_err(malformed)?;
        if !message.is_whole() && bind.rest.is_empty() {
            // A name in place of the client's would take the place of all that has come of it.
            return Err(malformed(Malformed("Bind with names of more than 256 KiB")));
        }
        let mut note = 0;
        if !upstream.pipeline.ignores() {
            if upstream.work.forgets() || self.is_uncertain(upstream, bind.statement) {
                return Ok(Next::Hold);
            }
            if self.before_bind(upstream, outbox, message.at, &bind)? {
                return Ok(Next::Hold);
            }
            let located = self.locate(upstream, outbox, message.at, bind.statement);
            match located {
                Located::Later => return Ok(Next::Hold),
                Located::Stale if message.is_whole() => return self.refuse_stale(upstream, outbox, message),
                _ => {}
            }
            if let Located::As(name) = located {
                note = name.note();
                let before = bind.portal.len() + 1;
                let after = before + bind.statement.len() + 1;
                let names_end = message.at + frame::HEAD + after;
                outbox.skip(message.at, names_end);
                let portal = message.body.get(..before).unwrap_or_default();
                let rest = message.declared.saturating_sub(after);
                write_renamed(outbox.insert(names_end), Frontend::Bind, portal, name, rest);
            }
            upstream.work.standing.binds(bind.portal);
            if let Some(prepared) = self.find_statement(bind.statement) {
                self.aim_bind(upstream, outbox, message.at, &bind, &prepared);
                let portal = self.portal_of(upstream, &bind, prepared);
                upstream.work.bind(bind.portal, portal);
            } else {
                // Whatever it is of, it is not what the portal of this name was of before.
                upstream.work.unbind(bind.portal);
            }
        }
        self.push(upstream, Awaited::Bind, Fate::Forward, note);
        Ok(Next::Go)
    }

    fn describe(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
    ) -> Result<Next, End> {
        let named = Named::read(message.body).map_err(malformed)?;
        if named.target == Target::Portal {
            self.uncover_portal(upstream, outbox, message.at, named.name);
            let portal = upstream.work.find_portal(named.name).map(|portal| portal.prepared.clone());
            if self.push(upstream, Awaited::DescribePortal, Fate::Forward, 0) {
                upstream.work.describing.push_back(portal);
            }
            return Ok(Next::Go);
        }
        if upstream.pipeline.ignores() {
            self.push(upstream, Awaited::DescribeStatement, Fate::Forward, 0);
            return Ok(Next::Go);
        }
        if upstream.work.forgets() || self.is_uncertain(upstream, named.name) {
            return Ok(Next::Hold);
        }
        let mut note = 0;
        let located = self.locate(upstream, outbox, message.at, named.name);
        match located {
            Located::Later => return Ok(Next::Hold),
            Located::Stale => return self.refuse_stale(upstream, outbox, message),
            _ => {}
        }
        if let Located::As(name) = located {
            note = name.note();
            outbox.skip(message.at, message.end);
            let statement = [Target::Statement as u8];
            write_renamed(outbox.insert(message.end), Frontend::Describe, &statement, name, 0);
        }
        self.push(upstream, Awaited::DescribeStatement, Fate::Forward, note);
        upstream.work.describing.push_back(self.find_statement(named.name));
        Ok(Next::Go)
    }

    #[inline]
    fn execute(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        now: Instant,
    ) -> Result<Next, End> {
        let execute = Execute::read(message.body).map_err(malformed)?;
        if upstream.pipeline.ignores() {
            self.push(upstream, Awaited::Execute, Fate::Forward, 0);
            return Ok(Next::Go);
        }
        self.uncover_portal(upstream, outbox, message.at, execute.portal);
        let mut portal = upstream.work.find_portal(execute.portal).cloned();
        let script = portal.as_ref().and_then(|portal| portal.script.as_deref());
        match self.before_listen(upstream, script) {
            Enlisted::Yes => {}
            Enlisted::Wait => return Ok(Next::Hold),
            // Nothing but a Parse can be made to fail whatever stands before it.
            Enlisted::No(trouble) => return self.refuse_parse(upstream, outbox, message, trouble),
        }
        let tags = match &portal {
            Some(portal) if self.rules.reads_comments => portal.prepared.comment(&self.rules),
            _ => None,
        };
        let others = self.rules.reads_comments && !self.heed_comments(upstream, tags, now);
        let apart = self.portal_awaits_settings(upstream, portal.as_ref());
        if others || apart || self.awaits_settings(upstream) {
            return Ok(Next::Hold);
        }
        let held = match &portal {
            _ if !self.polices() => Ok(Held::default()),
            Some(portal) => self.judge(upstream, &portal.prepared.known, portal.script.as_deref(), now),
            None => self.judge_unseen(upstream, now),
        };
        let held = match held {
            Ok(held) => held,
            Err(trouble) => return self.refuse_parse(upstream, outbox, message, trouble),
        };
        if held.is_limited()
            && execute.limit > 0
            && let Some(bound) = upstream.work.find_portal(execute.portal)
        {
            // It may be suspended: further ones have what it leaves.
            let left = bound.left.get_or_insert_default().clone();
            portal.iter_mut().for_each(|portal| portal.left = Some(left.clone()));
        }
        self.will_run_portal(upstream, portal.as_ref());
        self.push(upstream, Awaited::Execute, Fate::Forward, 0);
        self.will_end(upstream);
        let timed = |portal: &Portal| self.is_timed_by_name(&portal.prepared.known);
        if message.is_whole() && portal.as_ref().is_some_and(timed) {
            // The server would tell of all ends at the Sync: when this begins and when it has ended is to be known.
            for at in [message.at, message.end] {
                ask::flush(outbox.insert(at));
            }
            upstream.work.unheard = false;
        }
        self.start_portal(upstream, portal, message.end - message.at, held, now);
        Ok(Next::Go)
    }

    fn close(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, message: Message<'_>) -> Result<Next, End> {
        let named = Named::read(message.body).map_err(malformed)?;
        if upstream.pipeline.ignores() || named.target == Target::Portal || named.name.is_empty() {
            let unnamed = named.target == Target::Statement && named.name.is_empty();
            if self.push(upstream, Awaited::Close, Fate::Forward, if unnamed { UNNAMED } else { 0 }) {
                if unnamed {
                    upstream.unnamed = None;
                    self.set_unnamed(upstream, None);
                } else if named.target == Target::Portal {
                    upstream.work.unbind(named.name);
                }
            }
            return Ok(Next::Go);
        }
        if self.is_uncertain(upstream, named.name) {
            return Ok(Next::Hold);
        }
        if self.statements.find(named.name).is_none() && upstream.work.pinned.is_some() && !is_ours(named.name) {
            // It may be one of those that live on this server under their own name.
            self.push(upstream, Awaited::Close, Fate::Forward, 0);
            return Ok(Next::Go);
        }
        let fate = if self.has_own_names() { Fate::Forward } else { Fate::Substitute };
        if fate == Fate::Substitute {
            outbox.skip(message.at, message.end);
        }
        self.push(upstream, Awaited::Close, fate, NAMED);
        self.statements.close(named.name);
        upstream.work.may_be_free |= self.statements.is_empty();
        self.ctl.prepared.set(self.statements.len() as u32);
        Ok(Next::Go)
    }
}
