//! `pg_terminate_backend` and `pg_cancel_backend` with a process id that one of our clients was told.
//!
//! No server has such a process. In its place the statement gets the process id of a *stand-in*: a connection of the
//! target's own user that is made for this ([`crate::stand_in`]). So the server itself judges whether the caller may do
//! this, the function answers true, and what happens to the stand-in happens to the client. A client that means itself
//! gets the process of the server that it is running on.
//!
//! A process id is replaced where a text or a bound parameter shows it, by one of just as many bytes.

use std::ops::Range;

use tokio::sync::oneshot;
use wire::frame;
use wire::view::{self, Bind};

use super::brain::Look;
use super::listen::Enlisted;
use super::names::Reach;
use super::outbox::Outbox;
use super::script::{Argument, Script, Signal};
use super::statement::Prepared;
use super::work::Strike;
use super::{End, Session};
use crate::cancel::key::Layout;
use crate::control::Order;
use crate::listen::News;
use crate::stand_in::{State, Wanted};
use crate::upstream::Upstream;

/// Clients that one request can strike. Each holds one of the few turns until the request has ended: of many, each request
/// could wait for those that the others hold.
const MAX_STAND_INS: usize = 4;

/// A connection that stands for a client.
#[derive(Debug)]
pub struct StandIn {
    /// It was asked for under this number.
    number: u64,
    /// What that client was told.
    told: u32,
    /// How it is; `None`: that is not known yet.
    state: Option<State>,
    /// Dropped when it is no longer needed.
    needed: Option<oneshot::Sender<()>>,
}

/// A process id in a message.
struct Shown {
    told: u32,
    /// Where it stands.
    place: Range<usize>,
    binary: bool,
}

/// The process id in a text, as PostgreSQL reads a number.
fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The process id that a call names; `bind`: the parameters, where they are known.
fn shown(signal: &Signal, bind: Option<&Bind<'_>>) -> Option<Shown> {
    let (told, place, binary) = match (&signal.process, bind) {
        (Argument::Literal(text), None) => (number(text)?, signal.place.clone(), false),
        (Argument::Bound(parameter), Some(bind)) => {
            let (place, format) = bind.place_of(*parameter).ok()??;
            let value = bind.rest.get(place.clone())?;
            let told = if format == 0 { number(value)? } else { view::unsigned(value)? };
            (told, place, format != 0)
        }
        _ => return None,
    };
    Layout::is_own(told).then_some(Shown { told, place, binary })
}

impl Session {
    /// Whether a text may go to the server now: whoever it names, and whatever it listens to, has to be there first.
    pub(super) fn before_sending(&mut self, upstream: &mut Upstream, script: Option<&Script>) -> Enlisted {
        match script {
            Some(script) if self.awaits_stand_in(upstream, script, None) => Enlisted::Wait,
            script => self.before_listen(upstream, script),
        }
    }

    /// What a statement needs before it is bound; `true`: it has to wait.
    pub(super) fn before_bind(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        bind: &Bind<'_>,
    ) -> Result<bool, End> {
        let prepared = self.find_statement(bind.statement).filter(|prepared| prepared.known.script.is_some());
        let Some(script) = prepared.as_ref().and_then(|prepared| prepared.known.script.as_deref()) else {
            return Ok(false);
        };
        if self.awaits_stand_in(upstream, script, Some(bind)) {
            return Ok(true);
        }
        let strict = prepared.as_ref().map_or(0, |prepared| prepared.known.shape.strict);
        let kept = !bind.statement.is_empty();
        if self.before_names(upstream, outbox, at, Some((script, kept)), strict)? == Reach::Waits {
            return Ok(true);
        }
        if self.awaits_sequences(upstream, Some(script)) {
            return Ok(true);
        }
        self.forget_sequences(upstream, outbox, at, Some(script))?;
        Ok(false)
    }

    /// `true`: stand-ins are on their way, or will be asked for when everything before the statement is answered: the end
    /// of something else would be taken for the end of the statement that needs them. Who gets none keeps its process id,
    /// which no server has.
    fn awaits_stand_in(&self, upstream: &mut Upstream, script: &Script, bind: Option<&Bind<'_>>) -> bool {
        let own = self.worker.shared.processes.layout();
        for signal in &script.signals {
            let Some(Shown { told, .. }) = shown(signal, bind) else { continue };
            let is_here = (Layout::peer_of(told), Layout::generation_of(told)) == (own.peer, own.generation);
            if told == self.ctl.process() || !is_here {
                continue;
            }
            let stand_ins = &mut upstream.work.stand_ins;
            if stand_ins.len() >= MAX_STAND_INS || stand_ins.iter().any(|stand_in| stand_in.told == told) {
                continue;
            }
            if !upstream.pipeline.is_empty() {
                return true;
            }
            let (needed, over) = oneshot::channel();
            let number = self.worker.shared.next_id();
            stand_ins.push(StandIn { number, told, state: None, needed: Some(needed) });
            let cancels = script.signals.iter().any(|signal| !signal.terminate);
            let server = upstream.cancel.server.clone();
            let (client, worker) = (self.ctl.client, self.worker.index);
            self.worker.order(Order::StandIn(Wanted { number, told, cancels, server, client, worker, over }));
        }
        upstream.work.stand_ins.iter().any(|stand_in| stand_in.state.is_none())
    }

    /// How it is with the stand-ins that this session has asked for.
    #[cold]
    pub(super) fn heed_stand_ins(&mut self) {
        let news = self.ctl.news.borrow();
        let Some(upstream) = self.lease.as_deref_mut() else { return };
        let mut released = false;
        for (number, state) in news.iter().filter_map(|news| match news {
            News::StandIn { number, state } => Some((*number, *state)),
            _ => None,
        }) {
            let asked = upstream.work.stand_ins.iter_mut().find(|stand_in| stand_in.number == number);
            if let Some(stand_in) = asked {
                released |= stand_in.state.is_none();
                stand_in.state = Some(state);
            }
        }
        let over = |stand_in: &StandIn| stand_in.state == Some(State::Over);
        if upstream.work.strike == Strike::Awaited && upstream.work.stand_ins.iter().all(over) {
            upstream.work.strike = Strike::Settled;
        }
        // A text may name several: it is looked at once more, and not once for each of them.
        if released && upstream.work.stand_ins.iter().all(|stand_in| stand_in.state.is_some()) {
            self.look_again = true;
            upstream.work.release();
        }
    }

    /// Whether ReadyForQuery, `message`, waits for somebody: for listeners, or for those whom the transaction strikes.
    #[cold]
    pub(super) fn awaits_others(&mut self, upstream: &mut Upstream, message: &[u8]) -> bool {
        // Of a pipeline, all of it is awaited.
        let last = upstream.pipeline.len() == 1;
        let work = &mut upstream.work;
        if last && work.strike == Strike::None && !work.stand_ins.is_empty() {
            work.stand_ins.iter_mut().for_each(|stand_in| drop(stand_in.needed.take()));
            if work.stand_ins.iter().any(|stand_in| stand_in.state != Some(State::Over)) {
                work.strike = Strike::Awaited;
                return true;
            }
            work.stand_ins.clear();
        }
        if work.strike == Strike::Settled {
            work.strike = Strike::None;
            work.stand_ins.clear();
        }
        // Both are asked at once.
        let witnesses = self.awaits_witnesses(upstream, message);
        let listener = self.listening.is_some() && self.awaits_listener(upstream, message);
        witnesses || listener
    }

    /// Puts the process ids of servers in the place of ours in a simple query that begins at `at`.
    #[inline]
    pub(super) fn aim_text(&self, upstream: &Upstream, outbox: &mut Outbox<'_>, at: usize, look: &Look<'_>) {
        if let Some(script) = look.known.script.as_deref() {
            // Its places are those in the text without the comments at its ends.
            self.aim(upstream, outbox, at + frame::HEAD + look.comments.before(), script, None);
        }
    }

    /// The same in a Bind that begins at `at`.
    #[inline]
    pub(super) fn aim_bind(
        &self,
        upstream: &Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        bind: &Bind<'_>,
        prepared: &Prepared,
    ) {
        if let Some(script) = prepared.known.script.as_deref() {
            let names = bind.portal.len() + 1 + bind.statement.len() + 1;
            self.aim(upstream, outbox, at + frame::HEAD + names, script, Some(bind));
        }
    }

    /// `at`: where the text, or what follows a Bind's names, stands.
    fn aim(&self, upstream: &Upstream, outbox: &mut Outbox<'_>, at: usize, script: &Script, bind: Option<&Bind<'_>>) {
        let mut all: Vec<Shown> = script.signals.iter().filter_map(|signal| shown(signal, bind)).collect();
        all.sort_unstable_by_key(|shown| shown.place.start);
        all.dedup_by_key(|shown| shown.place.start);
        for Shown { told, place, binary } in all {
            let Some(process) = self.process_for(upstream, told) else { continue };
            outbox.skip(at + place.start, at + place.end);
            let out = outbox.insert(at + place.end);
            let width = place.len();
            if binary {
                out.extend(std::iter::repeat_n(0, width.saturating_sub(4)));
                out.extend_from_slice(&process.to_be_bytes());
            } else {
                out.extend_from_slice(format!("{process:0width$}").as_bytes());
            }
        }
    }

    fn process_for(&self, upstream: &Upstream, told: u32) -> Option<u32> {
        if told == self.ctl.process() {
            return u32::try_from(upstream.cancel.process).ok().filter(|process| !Layout::is_own(*process));
        }
        let stand_in = upstream.work.stand_ins.iter().find(|stand_in| stand_in.told == told)?;
        match stand_in.state {
            Some(State::Ready(process)) => Some(process),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(format: u8, value: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 1, 0, format, 0, 1];
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value);
        body.extend([0, 0]);
        body
    }

    #[test]
    fn a_process_id_is_read_in_every_form_that_drivers_send() {
        let signal = Signal { terminate: true, process: Argument::Bound(1), place: 0..0 };
        let id: u32 = 5_000_000;
        let long = i64::from(id).to_be_bytes();
        for (format, value) in [(0, &b"5000000"[..]), (0, b" 05000000"), (1, &id.to_be_bytes()), (1, &long)] {
            let body = bound(format, value);
            let bind = Bind::read(&body).unwrap();
            let found = shown(&signal, Some(&bind)).unwrap();
            assert_eq!((found.told, found.binary, found.place.len()), (id, format == 1, value.len()));
            assert_eq!(bind.rest.get(found.place), Some(value));
        }
        for (format, value) in [(0, &b"-5"[..]), (0, b"4711"), (0, b""), (1, &[0x12, 0x34]), (1, &[0, 0, 0x10, 0])] {
            assert!(shown(&signal, Some(&Bind::read(&bound(format, value)).unwrap())).is_none(), "{value:?}");
        }
    }
}
