//! From the client's bytes to whole requests, and what happens to a request that gets no upstream.
//!
//! Messages are gathered up to a Query, Sync or Flush before an upstream is taken: a client that is slow to finish its
//! request holds nobody up. A client that has one is not made to wait for its own Sync: a server tells of an error as
//! soon as it happens, and some clients read on before they send the rest. What grows past [`EAGER`] goes on as it comes
//! too, and what is too long to be held at all is passed on with only its beginning looked at.

use std::task::{Context, Poll};
use std::time::Instant;

use config::LimitKey;
use policy::fair::Claim;
use wire::encode::backend as say;
use wire::error::{Error, Peer};
use wire::frame::{self, Head};
use wire::tag::{Frontend, Target, TransactionStatus};
use wire::view;

use super::cached::{Answer, Looked};
use super::ctl::{Held, State};
use super::outbox::Outbox;
use super::{End, Session};
use crate::shares;
use crate::trouble::Trouble;
use crate::upstream::Upstream;
use crate::worker::HOLD;
use crate::worker::checkout::Checkout;

/// Whole messages beyond so many bytes do not wait for the end of their request.
const EAGER: usize = 16 * 1024;

/// What of the client's bytes can be dealt with now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Due {
    /// Bytes of whole messages.
    pub(super) whole: usize,
    /// A message behind them that is too long to be held; its beginning is there.
    pub(super) long: Option<Head>,
}

/// A message that a client may not send here.
pub(super) fn violation(error: impl Into<Error>) -> End {
    End::Trouble(Trouble::from(error.into()))
}

pub(super) fn malformed(what: view::Malformed) -> End {
    violation(Error::Malformed { by: Peer::Client, message: "a client's message", problem: what.0 })
}

fn frontend(head: Head) -> Result<Frontend, End> {
    match Frontend::from_byte(head.tag) {
        None | Some(Frontend::Password) => {
            Err(violation(Error::Unexpected { by: Peer::Client, tag: head.tag, awaited: "a message of a request" }))
        }
        Some(tag) => Ok(tag),
    }
}

/// Whether a message may be longer than what is held. PostgreSQL takes the others up to 10,000 bytes.
fn may_be_long(tag: Frontend) -> bool {
    use Frontend::{Bind, CopyData, FunctionCall, Parse, Query};
    matches!(tag, Query | Parse | Bind | FunctionCall | CopyData)
}

/// What is left of a message of so many bytes when some have come. A message has 1 GiB at most.
pub(super) fn left_of(total: usize, come: usize) -> u32 {
    u32::try_from(total.saturating_sub(come)).unwrap_or(u32::MAX)
}

/// The head that `bytes` begin with.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, End> {
    frame::head(bytes).map_err(|cause| violation(Error::BadLength { by: Peer::Client, cause }))
}

/// What can be passed on; `eager`: every whole message, and not only up to the last end of a request.
fn measure(bytes: &[u8], eager: bool) -> Result<Due, End> {
    let mut due = Due::default();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..)
        && let Some(head) = head(rest)?
    {
        let tag = frontend(head)?;
        if head.total() > HOLD && !may_be_long(tag) {
            return Err(malformed(view::Malformed("it is longer than any of its kind")));
        }
        if head.total() > rest.len() {
            let long = tag == Frontend::CopyData || (head.total() > HOLD && rest.len() >= HOLD);
            if long {
                return Ok(Due { whole: at, long: Some(head) });
            }
            if at + head.total() > HOLD {
                // It will not fit behind what waits for it: that goes ahead.
                due.whole = at;
            }
            break;
        }
        at += head.total();
        match tag {
            Frontend::Query
            | Frontend::Sync
            | Frontend::Flush
            | Frontend::FunctionCall
            | Frontend::Terminate
            | Frontend::CopyData
            | Frontend::CopyDone
            | Frontend::CopyFail => due.whole = at,
            _ if eager || at > EAGER => due.whole = at,
            _ => {}
        }
    }
    Ok(due)
}

impl Session {
    /// Deals with what the client has sent; returns how many bytes are dealt with.
    #[inline]
    pub(super) fn on_client(&mut self, cx: &mut Context<'_>, bytes: &[u8], output: &mut Vec<u8>) -> Result<usize, End> {
        let mut at = 0;
        if self.streaming > 0 {
            at = (self.streaming as usize).min(bytes.len());
            self.streaming = left_of(self.streaming as usize, at);
            if self.streaming_forward
                && let Some(mut upstream) = self.lease.take()
            {
                let sent = send_upstream(&mut upstream, cx, bytes.get(..at).unwrap_or_default());
                self.lease = Some(upstream);
                sent?;
                self.await_client_within(Instant::now());
            }
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let due = measure(rest, self.lease.is_some())?;
        if due.whole == 0 && due.long.is_none() {
            return Ok(at);
        }
        let now = Instant::now();
        let mut looked = None;
        let looks = due.whole > 0 && self.is_unoccupied();
        if !looks {
            // Of a request that went nowhere, if there is one.
            self.keep_nothing();
        }
        if looks {
            match self.answer_cached(cx, rest.get(..due.whole).unwrap_or_default(), now)? {
                Answer::Given(used) => {
                    self.look_again = used < rest.len();
                    return Ok(at + used);
                }
                Answer::FromServer(known) => looked = known,
            }
        }
        if self.lease.is_none() {
            let whole = rest.get(..due.whole).unwrap_or_default();
            if !whole.is_empty()
                && let Some(used) = self.answer_alone(cx, whole, output)?
            {
                self.look_again = used < rest.len();
                return Ok(at + used);
            }
            if let Some(head) = due.long
                && whole.is_empty()
                && (self.skipping || frontend(head)? == Frontend::CopyData)
            {
                // Nobody waits for it: it is let fall as it comes.
                self.streaming = left_of(head.total(), rest.len());
                self.streaming_forward = false;
                return Ok(bytes.len());
            }
            if let Some(trouble) = self.pending_trouble.take() {
                let used = self.fail_request(cx, &trouble, rest, due.whole, output)?;
                return Ok(at + used);
            }
            if self.judges_beforehand() {
                let (seen, refused) = self.judge_beforehand(rest, due, looked, now);
                looked = seen;
                if let Some(trouble) = refused {
                    let used = self.fail_request(cx, &trouble, rest, due.whole, output)?;
                    return Ok(at + used);
                }
            }
            let claim = self.claim(now);
            match self.worker.check_out(&self.pool, &self.ctl, &self.wanted, &claim, now) {
                Checkout::Leased(upstream) => self.attach(upstream, now, now),
                Checkout::Waiting => {
                    self.begin_waiting(now);
                    return Ok(at);
                }
                Checkout::Full(full) => {
                    let trouble = self.crowded(full);
                    let used = self.fail_request(cx, &trouble, rest, due.whole, output)?;
                    return Ok(at + used);
                }
                Checkout::Refused(trouble) => {
                    let used = self.fail_request(cx, &trouble, rest, due.whole, output)?;
                    return Ok(at + used);
                }
            }
        }
        let used = self.pass_on(cx, rest, due, looked, output, now)?;
        Ok(at + used)
    }

    /// Translates messages for the upstream and sends them.
    fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        due: Due,
        looked: Option<Looked<'_>>,
        output: &mut Vec<u8>,
        now: Instant,
    ) -> Result<usize, End> {
        let Some(mut upstream) = self.lease.take() else {
            return Ok(0);
        };
        if upstream.pipeline.is_boundary() {
            upstream.work.filling = self.takes_off(&upstream);
        } else {
            self.was_awaited_within(&mut upstream, now);
            self.goes_on(&mut upstream, now);
        }
        let mut outbox = Outbox::new(bytes, output);
        let translated = self.translate(&mut upstream, &mut outbox, bytes, due, looked, now);
        let (used, ends) = match translated {
            Ok(used) => (used, None),
            Err((used, end)) => (used, Some(end)),
        };
        let sent = send_upstream(&mut upstream, cx, outbox.finish(used));
        let (state, _) = self.ctl.state.get();
        let alone = upstream.pipeline.status() == TransactionStatus::Idle;
        if state != State::Active && alone && !upstream.pipeline.is_boundary() {
            // It has kept its upstream since its last request, or was silent within this one.
            self.set_state(State::Active, self.now_us(now));
        }
        self.lease = Some(upstream);
        sent?;
        match ends {
            Some(end) => Err(end),
            None => {
                self.after_sending(cx, output)?;
                self.await_client_within(now);
                Ok(used)
            }
        }
    }

    /// Messages were sent: replies that are due at once, because nothing is owed before them, are said.
    fn after_sending(&mut self, cx: &mut Context<'_>, output: &mut Vec<u8>) -> Result<(), End> {
        let Some(mut upstream) = self.lease.take() else {
            return Ok(());
        };
        let mut outbox = Outbox::new(&[], output);
        let owed = upstream.pipeline.len();
        self.make_up(&mut upstream, &mut outbox, 0);
        if upstream.work.held && upstream.pipeline.len() < owed {
            // What waits may have waited for these: the server has nothing to say to them.
            self.look_again = true;
            upstream.work.release();
        }
        if upstream.work.vacates {
            self.vacate(&mut upstream);
        }
        self.lease = Some(upstream);
        let due = outbox.finish(0);
        self.send_client(cx, due)
    }

    /// Who asks for an upstream, and by when it is wanted.
    #[inline]
    pub(super) fn claim(&self, now: Instant) -> Claim {
        let deadline = now.checked_add(self.patience());
        shares::claim(&self.rules.limits, self.tenant, self.class, deadline)
    }

    pub(super) fn begin_waiting(&mut self, now: Instant) {
        self.waiting_since = Some(now);
        self.look_again = true;
        self.look_at_queue();
        self.pool.meter.clients_waiting.up();
        self.set_state(State::Waiting, self.now_us(now));
        self.worker.watch(&self.ctl, now.checked_add(self.patience()));
    }

    /// The wait is over, one way or the other.
    pub(super) fn end_waiting(&mut self, now: Instant) {
        self.waiting_since = None;
        self.look_again = true;
        self.pool.meter.clients_waiting.down();
        self.set_state(State::Idle, self.now_us(now));
        self.worker.watch(&self.ctl, None);
    }

    /// An upstream is this client's now, since `now`, after having waited for it since `since`.
    pub(super) fn attach(&mut self, mut upstream: Box<Upstream>, since: Instant, now: Instant) {
        let waited = now.saturating_duration_since(since).as_micros() as u64;
        upstream.prepared.begin_pipeline();
        upstream.work.queued_us = waited;
        upstream.work.transaction_us = self.now_us(now);
        self.pool.meter.checkouts.increment();
        self.pool.meter.waits.record(waited);
        if waited > 0 {
            self.look_at_times(&mut upstream, LimitKey::QueueTimeout, self.limits.queue_timeout, waited);
        }
        self.look_at_share(&mut upstream);
        self.pool.meter.clients_active.up();
        self.pool.meter.upstreams_active.up();
        self.ctl.upstream.set(Some(Held {
            id: upstream.id,
            server: upstream.server(),
            process: upstream.cancel.process,
            tls: upstream.cancel.tls.is_some(),
            local_port: upstream.cancel.local.map_or(0, |local| local.port()),
            descriptor: upstream.stream.descriptor(),
            opened_us: self.now_us(upstream.opened),
            prepared: upstream.prepared.len() as u32,
            since_us: upstream.work.transaction_us,
        }));
        self.set_state(State::Active, upstream.work.transaction_us);
        if self.opaque {
            self.leave(&mut upstream, policy::verdict::SessionState::HiddenSetting);
        }
        self.lease = Some(upstream);
    }

    /// Answers what needs no server, while the client holds none: goodbyes, stray copy messages, a lone Sync, closing
    /// statements. `None`: a server is needed.
    fn answer_alone(&mut self, cx: &mut Context<'_>, bytes: &[u8], output: &mut Vec<u8>) -> Result<Option<usize>, End> {
        output.clear();
        let mut at = 0;
        let mut open = false;
        let mut closed = Vec::new();
        // What is answered up to the last point where no request was open: input, output, names.
        let mut whole = (0, 0, 0);
        let mut skipping = self.skipping;
        while let Some(rest) = bytes.get(at..)
            && let Some(head) = head(rest)?
        {
            let body = rest.get(frame::HEAD..head.total()).unwrap_or_default();
            match frontend(head)? {
                Frontend::Terminate => return Err(End::Terminated),
                Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail | Frontend::Flush if !open => {}
                Frontend::Sync => {
                    skipping = false;
                    open = false;
                    say::ready_for_query(output, TransactionStatus::Idle);
                }
                _ if skipping => {}
                Frontend::Close => {
                    let named = view::Named::read(body).map_err(malformed)?;
                    if named.target != Target::Statement || named.name.is_empty() {
                        return Ok(None);
                    }
                    open = true;
                    closed.push(named.name);
                    say::close_complete(output);
                }
                _ if at == 0 => return Ok(None),
                _ => break,
            }
            at += head.total();
            if !open {
                whole = (at, output.len(), closed.len());
                self.skipping = skipping;
            }
        }
        let (at, said, names) = whole;
        if at == 0 {
            // The request goes on with something that needs a server: it gets all of it.
            return Ok(None);
        }
        output.truncate(said);
        for name in closed.into_iter().take(names) {
            self.statements.close(name);
            self.statements.settle();
        }
        self.ctl.prepared.set(self.statements.len() as u32);
        self.send_client(cx, output)?;
        Ok(Some(at))
    }

    /// Tells the client why its request cannot be run, and passes over that request. Returns the bytes passed over.
    pub(super) fn fail_request(
        &mut self,
        cx: &mut Context<'_>,
        trouble: &Trouble,
        bytes: &[u8],
        whole: usize,
        output: &mut Vec<u8>,
    ) -> Result<usize, End> {
        self.count_trouble(trouble);
        self.keep_nothing();
        if trouble.is_fatal() {
            return Err(End::Trouble(trouble.clone()));
        }
        self.forget_replaced(bytes)?;
        output.clear();
        trouble.write(false, output);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..whole)
            && let Some(head) = head(rest)?
        {
            let first = at == 0;
            at += head.total();
            match frontend(head)? {
                Frontend::Query | Frontend::FunctionCall if first => {
                    say::ready_for_query(output, TransactionStatus::Idle);
                    break;
                }
                Frontend::Sync => {
                    self.skipping = false;
                    say::ready_for_query(output, TransactionStatus::Idle);
                    break;
                }
                _ => self.skipping = true,
            }
        }
        if whole == 0 {
            // A message too long to be held: its rest is let fall as it comes.
            at = self.drop_long(bytes, output)?;
        }
        self.look_again = true;
        self.send_client(cx, output)?;
        Ok(at)
    }

    fn drop_long(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<usize, End> {
        let Some(head) = head(bytes)? else { return Ok(0) };
        self.streaming = left_of(head.total(), bytes.len());
        self.streaming_forward = false;
        match frontend(head)? {
            Frontend::Query | Frontend::FunctionCall => say::ready_for_query(output, TransactionStatus::Idle),
            _ => self.skipping = true,
        }
        Ok(bytes.len())
    }

    /// The wait for an upstream has ended in an error.
    pub(super) fn fail_waiting(&mut self, trouble: Trouble) {
        self.end_waiting(Instant::now());
        self.pending_trouble = Some(Box::new(trouble));
    }
}

/// Sends bytes to the server; what its socket does not take waits, and the client is not read meanwhile.
#[inline]
pub(super) fn send_upstream(upstream: &mut Upstream, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), End> {
    if bytes.is_empty() {
        return Ok(());
    }
    let sent = match upstream.unsent.is_empty() {
        true => upstream.stream.poll_write(cx, bytes),
        false => Poll::Pending,
    };
    let sent = match sent {
        Poll::Ready(Ok(n)) => n,
        Poll::Ready(Err(_)) => return Err(End::UpstreamLost),
        Poll::Pending => 0,
    };
    if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        upstream.unsent.extend_from_slice(rest);
    }
    Ok(())
}
