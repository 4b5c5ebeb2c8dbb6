//! From the server's bytes to what the client gets to see.
//!
//! Messages are walked by their heads; rows and copy data go through as they came. What nobody has to look into is not
//! waited for: a value of 1 GB passes in pieces of one read.

use std::task::Context;
use std::time::Instant;

use config::LimitKey;
use wire::encode::backend as say;
use wire::error::ErrorFields;
use wire::frame;
use wire::pipeline::{Awaited, Delivery, Fate, Owed};
use wire::tag::{Backend, TransactionStatus};
use wire::view;

use super::notices::tell_notices;
use super::outbox::Outbox;
use super::retry::Retry;
use super::script::Act;
use super::verify;
use super::work::Probe;
use super::{End, Session};
use crate::trouble::Trouble;
use crate::upstream::role::is_promotion;
use crate::upstream::{NAMED, Streaming, UNNAMED, Upstream};
use crate::worker::HOLD;

/// One message of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) tag: Backend,
    /// Head and body, as far as they have come.
    bytes: &'a [u8],
    pub(super) at: usize,
    whole: bool,
}

impl<'a> Message<'a> {
    pub(super) fn body(&self) -> &'a [u8] {
        self.bytes.get(frame::HEAD..).unwrap_or_default()
    }

    pub(super) fn end(&self) -> usize {
        self.at + self.bytes.len()
    }
}

fn broken(what: impl std::fmt::Display) -> End {
    End::UpstreamBroken(what.to_string())
}

/// Whether an error is the last that the server says.
fn is_fatal(message: Message<'_>) -> bool {
    matches!(ErrorFields::new(message.body()).severity(), b"FATAL" | b"PANIC")
}

/// Whether a message may be passed on before all of it has come, however short it is.
fn streams(tag: Backend) -> bool {
    matches!(tag, Backend::DataRow | Backend::CopyData | Backend::FunctionCallResponse)
}

impl Session {
    /// Deals with what the server has sent.
    #[inline]
    pub(super) fn on_upstream(&mut self, cx: &mut Context<'_>, bytes: &[u8], output: &mut Vec<u8>) -> Result<(), End> {
        let Some(mut upstream) = self.lease.take() else {
            return Ok(());
        };
        let now = Instant::now();
        upstream.work.expect_ends(bytes.get(upstream.streaming.left..).unwrap_or_default());
        let mut outbox = Outbox::new(bytes, output);
        let walked = self.walk(&mut upstream, &mut outbox, bytes, now);
        let (at, end) = match walked {
            Ok(at) => (at, None),
            Err((at, end)) => (at, Some(end)),
        };
        upstream.carry.extend_from_slice(bytes.get(at..).unwrap_or_default());
        if upstream.work.vacates {
            self.vacate(&mut upstream);
        }
        let sent = self.send_client(cx, outbox.finish(at));
        if !self.unsent.is_empty()
            && let Some(filling) = upstream.work.filling.as_deref_mut()
        {
            // Its client is slow to read: nobody else has to wait for that.
            filling.land();
        }
        self.lease = Some(upstream);
        match end {
            Some(end) => Err(end),
            None => {
                sent?;
                self.after_replies(now)
            }
        }
    }

    /// Walks over whole messages, and into a long one; returns how far it came.
    fn walk(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        bytes: &[u8],
        now: Instant,
    ) -> Result<usize, (usize, End)> {
        let mut at = upstream.streaming.left.min(bytes.len());
        if at > 0 {
            upstream.streaming.left -= at;
            if !upstream.streaming.forward {
                outbox.skip(0, at);
            } else if let Some(running) = upstream.work.running.front_mut() {
                running.bytes_out += at as u64;
                running.held.spend_more(at);
            }
            if let Some(filling) = upstream.work.filling.as_deref_mut() {
                filling.take_more(bytes.get(..at).unwrap_or_default());
            }
        }
        while let Some(rest) = bytes.get(at..)
            && let Some(head) = frame::head(rest).map_err(|error| (at, broken(error)))?
        {
            let Some(tag) = Backend::from_byte(head.tag) else {
                return Err((at, broken(format_args!("a message of unknown type 0x{:02x}", head.tag))));
            };
            let total = head.total();
            let whole = total <= rest.len();
            if !(whole || streams(tag) || total > HOLD) {
                break;
            }
            if tag == Backend::ReadyForQuery
                && whole
                && (self.listening.is_some() || upstream.work.is_awaited_by_others())
                && self.awaits_others(upstream, rest.get(..total).unwrap_or_default())
            {
                break;
            }
            let message = Message { tag, bytes: rest.get(..total).unwrap_or(rest), at, whole };
            let of_ours = upstream.work.filling.is_some()
                && upstream.pipeline.head().is_some_and(|owed| owed.fate == Fate::Swallow);
            let delivery = self.reply(upstream, outbox, message, now)?;
            if upstream.work.filling.is_some() {
                Self::note_reply(upstream, tag, message.bytes, delivery == Delivery::Forward, of_ours);
            }
            if !whole {
                let forward = delivery == Delivery::Forward;
                upstream.streaming = Streaming { left: total - rest.len(), forward };
                return Ok(bytes.len());
            }
            at += total;
        }
        Ok(at)
    }

    #[inline]
    fn reply(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        now: Instant,
    ) -> Result<Delivery, (usize, End)> {
        let fails = |end| (message.at, end);
        let mut skipped = Vec::new();
        let reply = if message.tag == Backend::ReadyForQuery {
            let status = view::ready(message.body()).map_err(|error| fails(broken(error)))?;
            upstream.pipeline.ready(status)
        } else {
            upstream.pipeline.reply(message.tag, |owed| skipped.push(owed))
        };
        let reply = reply.map_err(|error| fails(broken(error)))?;
        if reply.owed.is_some_and(|owed| owed.client != self.ctl.client) {
            return Err(fails(broken("a reply to another client's message")));
        }
        let mut delivery = reply.delivery;
        let refused = match delivery {
            Delivery::Replace(number) => upstream.work.refusals.settle(number),
            _ => None,
        };
        if message.tag == Backend::NotificationResponse && self.ignores_notification(upstream) {
            outbox.skip(message.at, message.end());
            return Ok(Delivery::Swallow);
        }
        if message.tag == Backend::ErrorResponse && is_fatal(message) {
            return Err((message.end(), self.on_last_words(upstream, outbox, message)));
        }
        if message.tag == Backend::ErrorResponse {
            let tried = reply.owed.is_some_and(|owed| owed.fate == Fate::Attempt);
            if tried {
                skipped.iter().for_each(|owed| upstream.skipped(owed));
            } else {
                let replaced = self.replaces_error(upstream, outbox, message, skipped, delivery, now);
                // What it held for has ended, and what stands behind it is passed over.
                upstream.work.own = None;
                if replaced {
                    tell_notices(upstream, outbox, message);
                    return Ok(Delivery::Swallow);
                }
            }
        } else {
            let again = match message.tag {
                Backend::ReadyForQuery => std::mem::take(&mut upstream.work.retry),
                _ => Retry::None,
            };
            if !self.on_reply(upstream, message, reply.owed, now).map_err(fails)? {
                delivery = Delivery::Swallow;
            }
            if let Retry::Failed(rest) = again {
                self.retry(upstream, rest);
                delivery = Delivery::Swallow;
            }
            if reply.done
                && let Some(owed) = reply.owed
            {
                self.on_done(upstream, owed);
            }
        }
        if message.tag == Backend::ReadyForQuery {
            tell_notices(upstream, outbox, message);
        }
        let delivery = self.deliver(upstream, outbox, message, delivery, refused)?;
        tell_notices(upstream, outbox, message);
        self.make_up(upstream, outbox, message.end());
        Ok(delivery)
    }

    /// Does with a message what is to be done with it. Gives whether the client has it.
    fn deliver(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        mut delivery: Delivery,
        refused: Option<Trouble>,
    ) -> Result<Delivery, (usize, End)> {
        match delivery {
            Delivery::Forward if message.tag == Backend::ReadyForQuery && self.tells_before_ready(upstream) => {
                self.before_ready(upstream, outbox.insert(message.at));
            }
            Delivery::Forward => {}
            Delivery::Swallow => {
                outbox.skip(message.at, message.end());
                if let Some(late) = upstream.work.late.take() {
                    late.write(false, outbox.insert(message.end()));
                }
            }
            Delivery::Replace(_) => {
                outbox.skip(message.at, message.end());
                if let Some(trouble) = refused {
                    trouble.write(false, outbox.insert(message.end()));
                }
                delivery = Delivery::Swallow;
            }
            // The server's own error goes to the client before ours.
            Delivery::OursFailed if upstream.work.probe != Probe::None => {
                // It could not say: the client stays where it is.
                upstream.work.probe = Probe::Asked(true);
                outbox.skip(message.at, message.end());
            }
            Delivery::OursFailed => return Err((message.end(), End::SettingsFailed)),
            Delivery::Unasked => return Err((message.end(), End::UpstreamLost)),
        }
        Ok(delivery)
    }

    /// An error that ends a request. Whether the client gets something else in its place, or nothing because the request
    /// is sent again.
    #[cold]
    fn replaces_error(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        skipped: Vec<Owed>,
        delivery: Delivery,
        now: Instant,
    ) -> bool {
        let again = Self::retries(upstream, skipped.first(), message.body());
        let renamed = self.rename_statement(message, skipped.first());
        self.on_error(upstream, message, skipped, now);
        let mut words = Vec::new();
        if !again {
            if delivery != Delivery::Forward {
                return false;
            }
            if let Some(renamed) = renamed {
                words = renamed;
            } else if let Some(trouble) = self.translate_error(upstream, message, now) {
                trouble.write(false, &mut words);
            } else {
                return false;
            }
        }
        outbox.skip(message.at, message.end());
        outbox.insert(message.end()).extend_from_slice(&words);
        true
    }

    /// Says the replies of messages that were kept back, as their turn comes.
    #[inline]
    pub(super) fn make_up(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, at: usize) {
        while let Some(owed) = upstream.pipeline.made_up() {
            match owed.awaited {
                Awaited::Close => say::close_complete(outbox.insert(at)),
                _ => say::parse_complete(outbox.insert(at)),
            }
            self.on_done(upstream, owed);
        }
    }

    #[inline]
    fn on_reply(
        &mut self,
        upstream: &mut Upstream,
        message: Message<'_>,
        owed: Option<Owed>,
        now: Instant,
    ) -> Result<bool, End> {
        let ours = owed.is_some_and(|owed| matches!(owed.fate, Fate::Swallow | Fate::Attempt));
        match message.tag {
            Backend::DataRow if !ours => return Ok(self.on_row(upstream, message.bytes, message.whole)),
            Backend::CopyData if !ours => return Ok(self.on_copy_out(upstream, message.bytes)),
            Backend::DataRow if upstream.work.probe != Probe::None => upstream.work.probe = Probe::Asked(true),
            Backend::CommandComplete | Backend::EmptyQueryResponse | Backend::PortalSuspended if !ours => {
                self.on_complete(upstream, message, owed, now)?;
                return self.tells_completion(upstream, owed);
            }
            Backend::ReadyForQuery => self.on_ready(upstream, owed, now),
            Backend::RowDescription if message.whole && !ours => {
                let describing = owed.is_some_and(|owed| owed.awaited != Awaited::Query);
                self.on_columns(upstream, message.bytes, describing);
            }
            Backend::RowDescription | Backend::NoData if ours => {
                let result = match message.tag {
                    Backend::NoData => Some(verify::NO_RESULT),
                    _ => verify::result_of(message.body()).filter(|_| message.whole),
                };
                self.verified(upstream, result);
            }
            // Said but once, whoever's statement it stands behind.
            Backend::ParameterStatus if is_promotion(message.body()) => self.worker.doubt(&self.pool),
            Backend::ParameterDescription if !ours => self.on_parameter_types(upstream, message.body()),
            Backend::NoData => {
                if let Some(Some(prepared)) = upstream.work.describing.pop_front() {
                    prepared.told(Some(verify::NO_RESULT));
                    self.on_no_columns(upstream, &prepared);
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn on_complete(
        &mut self,
        upstream: &mut Upstream,
        message: Message<'_>,
        owed: Option<Owed>,
        now: Instant,
    ) -> Result<(), End> {
        let tag = match message.tag {
            Backend::CommandComplete => view::command_tag(message.body()).map_err(broken)?,
            _ => b"",
        };
        let suspended = message.tag == Backend::PortalSuspended;
        let Some(running) = upstream.work.running.front_mut() else { return Ok(()) };
        running.bytes_out += message.bytes.len() as u64;
        let divided = !running.known.shape.parts.is_empty();
        if upstream.work.exceeds.is_some() {
            upstream.work.late_reads = Some(running.known.reads);
        }
        let part = running.part;
        running.part += 1;
        let parts = running.known.shape.parts.len().max(1);
        // The server has told its statements apart in another way than we have: who knows what else it has seen in the text.
        let misread = match owed.map(|owed| owed.awaited) {
            Some(Awaited::Execute) => parts > 1,
            _ => part >= parts,
        };
        // Of one that was not read to its end this is known, and its server is reset.
        if misread && running.known.whole {
            self.leave(upstream, policy::verdict::SessionState::HiddenSetting);
        }
        if divided && self.limits_results() {
            self.renew_result(upstream);
        }
        upstream.work.vacating = None;
        self.after_command(upstream, tag);
        self.look_at_time(upstream, now);
        let Some(running) = upstream.work.running.front_mut() else { return Ok(()) };
        upstream.work.notices.end(std::mem::take(&mut running.notices));
        if let Some(script) = running.known.script.clone()
            && let Some(acts) = script.parts.get(part)
        {
            // Suspended or not: its first row is there, so what it calls has been called.
            self.apply(upstream, acts, tag);
            if acts.iter().any(Act::ends_transaction) {
                upstream.work.ended_us = self.now_us(now);
            }
        }
        if owed.is_some_and(|owed| owed.awaited == Awaited::Execute) {
            let seen = upstream.work.running.front().map_or(0, |running| running.rows);
            let rows = view::rows_of_tag(tag).unwrap_or(seen);
            self.finish(upstream, rows, None, suspended, now);
            self.begins_first(upstream, now);
        } else if let Some(running) = upstream.work.running.front_mut() {
            // Several statements in one text are one for the statistics: their rows add up.
            running.total_rows += view::rows_of_tag(tag).unwrap_or(0);
            if parts > 1 {
                self.begins_part(upstream, now);
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, upstream: &mut Upstream, owed: Option<Owed>, now: Instant) {
        let Some(owed) = owed else { return };
        if owed.fate == Fate::Swallow {
            if let Probe::Asked(left) = upstream.work.probe {
                self.on_probe_answered(upstream, left);
            }
            let ours = |owed: &Owed| owed.fate == Fate::Swallow && owed.awaited == Awaited::Query;
            if upstream.work.prologue.is_none() || upstream.pipeline.owed().any(ours) {
                return;
            }
            if let Some(settings) = upstream.work.prologue.take() {
                upstream.settings.overlay(settings);
                if upstream.pipeline.status() == TransactionStatus::Idle {
                    upstream.settings.commit();
                }
                self.proven = true;
            }
            return;
        }
        if owed.awaited == Awaited::Query
            && owed.fate == Fate::Forward
            && let Some(running) = upstream.work.running.front()
        {
            let (rows, error) = (running.total_rows, running.error);
            if error.is_none() && running.known.whole && running.part < running.known.shape.parts.len() {
                self.leave(upstream, policy::verdict::SessionState::HiddenSetting);
            }
            self.finish(upstream, rows, error, false, now);
        }
        let failed = std::mem::take(&mut upstream.work.failed);
        if let Some(filling) = upstream.work.filling.take() {
            self.filled(upstream, *filling, failed, now);
        }
        self.after_writes(upstream);
        if upstream.pipeline.status() == TransactionStatus::Idle {
            self.end_transaction(upstream, failed);
            self.transaction_ended(upstream, now);
            let now_us = self.now_us(now);
            let began = std::mem::replace(&mut upstream.work.transaction_us, now_us);
            self.pool.meter.transactions.increment();
            self.pool.meter.transaction_us.add(now_us.saturating_sub(began));
        }
        if upstream.pipeline.status() != TransactionStatus::Idle {
            self.transaction_open(upstream, now);
        }
        let request_us = self.now_us(now).saturating_sub(upstream.work.begun_us);
        self.look_at_times(upstream, LimitKey::RequestTimeout, self.limits.request_timeout, request_us);
        let work = &mut upstream.work;
        work.notices.end_request(|| work.running.iter().map(|running| running.notices.len()).sum());
        if upstream.pipeline.is_boundary() {
            upstream.end_request();
            if upstream.pipeline.is_free() && upstream.work.pinned.is_none() {
                upstream.work.epoch = 0;
            }
        } else {
            // The next request of the pipeline has its own time, and is not struck by a cancel of this one.
            upstream.work.begun_us = self.now_us(now);
            let deadline = self.deadline(upstream, now, now);
            upstream.next_request(deadline);
            self.begins_first(upstream, now);
            if let Some(deadline) = upstream.work.due() {
                self.worker.watch(&self.ctl, Some(deadline.cancel_at));
            }
        }
    }

    /// A reply that settles what was noted when its message was sent.
    #[inline]
    fn on_done(&mut self, upstream: &mut Upstream, owed: Owed) {
        match owed.awaited {
            Awaited::Parse | Awaited::Close if owed.fate == Fate::Swallow => {}
            Awaited::Parse | Awaited::Close if owed.note & UNNAMED != 0 => self.settle_unnamed(upstream),
            Awaited::Parse | Awaited::Close if owed.note & NAMED != 0 => self.statements.settle(),
            Awaited::Bind | Awaited::DescribeStatement => upstream.work.retry = Retry::None,
            _ => {}
        }
    }
}
