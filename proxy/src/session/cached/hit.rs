//! A statement that is answered from the cache: what its client is told, and who hears of it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use policy::cache::Bypass;
use wire::params::Settings;
use wire::tag::TransactionStatus;

use super::request::Asked;
use super::{Candidate, Under};
use crate::cache::store::Entry;
use crate::session::constants::input_of;
use crate::session::ctl::State;
use crate::session::police::{CommentTags, against};
use crate::session::statement::Known;
use crate::session::{End, Session};
use crate::telemetry::{EventFlags, EventHeader, Finished, Payload};

/// Bytes of an answer that are copied to spare a send.
const JOINED: usize = 4 * 1_024;

impl Session {
    /// Whose the statement is, where its comments decide that: as on its way to the server, which finds it done if it comes to
    /// that.
    pub(super) fn heed_its_comments(&mut self, candidate: &Candidate<'_>, now: Instant) {
        let rules = self.rules.clone();
        let tags = match &candidate.prepared {
            Some(prepared) => prepared.comment(&rules),
            None => CommentTags::of(candidate.sql, &rules),
        };
        match self.lease.take() {
            Some(mut upstream) => {
                self.heed_comments(&mut upstream, tags, now);
                self.lease = Some(upstream);
            }
            None if tags == self.comment => {}
            None => {
                self.comment = tags;
                self.resolve_tenant();
            }
        }
    }

    /// Whether its tenant's limits let it have this answer.
    ///
    /// # Errors
    /// They have something to say: the way to the server says it.
    pub(super) fn fits(&self, known: &Known, entry: &Entry) -> Result<bool, Bypass> {
        if !self.polices() {
            return Ok(true);
        }
        let limits = &self.limits;
        let rows = limits.max_rows.is_some_and(|most| entry.rows > most.at);
        let bytes = limits.max_bytes.is_some_and(|most| entry.reply().len() as u64 > most.at);
        let named = self.rules.limits.has_statements() && self.rules.limits.limits_statement(known.shape.strict);
        let against = against(limits, known, None, true).next().is_some();
        if rows || bytes || named || against {
            return Err(Bypass::Limited);
        }
        if let Some(rate) = limits.rate {
            let now_ns = self.now_us(Instant::now()).saturating_mul(1_000);
            let taken = self.membership.of(limits.by_class.rate).take(rate, now_ns);
            taken.map_err(|_| Bypass::Limited)?;
        }
        Ok(true)
    }

    /// Sends the answer, as the server would have, and counts it. It was looked at first at `begun`.
    pub(super) fn tell_hit(
        &mut self,
        cx: &mut Context<'_>,
        candidate: Candidate<'_>,
        entry: &Arc<Entry>,
        (begun, now): (Instant, Instant),
    ) -> Result<(), End> {
        let answer = match candidate.request.asked {
            Asked::Query(_) => {
                // As on a server, it takes the unnamed statement with it.
                (self.unnamed, self.unnamed_parsed) = (None, None);
                entry.to_query()
            }
            Asked::Parsed(..) => {
                self.unnamed.clone_from(&candidate.prepared);
                self.unnamed_parsed.clone_from(&candidate.prepared);
                if candidate.known.has_strings {
                    let settings = self.identity().ok().map(|identity| identity.settings.clone());
                    self.note_prepared(settings);
                }
                entry.to_parsed()
            }
            Asked::Bound(_) => entry.to_bound(),
        };
        let within = self.open_transaction().is_some();
        match answer.split_last().filter(|_| within) {
            // It ends with the state of the transaction: kept as that of none. Put together, to be sent at once; what is long
            // goes in two sends rather than through memory once more.
            Some((_, said)) if said.len() <= JOINED => {
                let worker = self.worker.clone();
                let mut room = worker.rooms.answer.take();
                room.extend_from_slice(said);
                room.push(TransactionStatus::Open as u8);
                let sent = self.send_client(cx, &room);
                worker.rooms.answer.put(room);
                sent?;
            }
            Some((_, said)) => {
                self.send_client(cx, said)?;
                self.send_client(cx, &[TransactionStatus::Open as u8])?;
            }
            None => self.send_client(cx, answer)?,
        }
        if within {
            self.go_on_in_transaction(&candidate, now);
        }
        self.count_hit(&candidate, entry, (answer.len(), within), begun);
        if let Some(looked) = candidate.looked {
            self.worker.rooms.literals.put(looked.literals);
        }
        if self.lease.is_some() {
            return self.after_replies(now);
        }
        self.set_state(State::Idle, self.now_us(now));
        Ok(())
    }

    /// A request has begun and ended in the transaction, as far as its client is concerned.
    fn go_on_in_transaction(&mut self, candidate: &Candidate<'_>, now: Instant) {
        let Some(mut upstream) = self.lease.take() else { return };
        let now_us = self.now_us(now);
        self.was_awaited(&mut upstream, now_us);
        upstream.work.open.remember(candidate.known.clone());
        // On a server it would have taken the place of the unnamed portal.
        upstream.work.portal = None;
        upstream.work.standing.covers_portal = true;
        self.lease = Some(upstream);
    }

    fn count_hit(
        &mut self,
        candidate: &Candidate<'_>,
        entry: &Entry,
        (bytes_out, within): (usize, bool),
        begun: Instant,
    ) {
        let begun_us = self.now_us(begun);
        let end_us = self.now_us(Instant::now());
        let request = &candidate.request;
        let extended = !matches!(request.asked, Asked::Query(_));
        let finished = Finished {
            start_us: begun_us,
            end_us,
            queue_us: 0,
            server_us: 0,
            back_pressure_us: std::mem::take(&mut self.clogged_us).into(),
            rows: entry.rows,
            bytes_in: request.bytes as u64,
            bytes_out: bytes_out as u64,
            prepared: extended,
            cached: true,
            error: None,
        };
        if !within {
            self.pool.meter.transactions.increment();
            self.pool.meter.transaction_us.add(end_us.saturating_sub(begun_us));
        }
        let tags = candidate.tags;
        let Some(statement) = self.charge(&candidate.known, tags, &finished) else { return };
        let (observe, telemetry) = (&self.rules.settings.observe, &self.worker.telemetry);
        let admitted = || observe.n_plus_one && telemetry.events.admits(end_us, observe.events_per_second);
        if !telemetry.events.is_wanted_whole() && !admitted() {
            return;
        }
        let flags = EventFlags::CACHED
            .with_if(EventFlags::EXTENDED, extended)
            .with_if(EventFlags::IN_TRANSACTION, within)
            .with_if(EventFlags::ROWS_BINARY, request.binary());
        let header = EventHeader {
            start_us: begun_us,
            end_us,
            connection: self.ctl.client,
            trace: tags.trace,
            route: tags.route.id,
            scope: self.scope.as_ref().map_or(0, |scope| scope.id),
            tenant: self.meter(),
            statement,
            description: entry.columns,
            rows: entry.rows,
            queue_us: 0,
            server_us: 0,
            sqlstate: None,
            flags,
        };
        let prepared = candidate.prepared.as_deref().map(|prepared| &*prepared.literals).unwrap_or_default();
        let (parameters, literals) =
            if extended { (request.sample(), prepared) } else { (&[][..], candidate.literals()) };
        telemetry.events.push(&header, &Payload { parameters, literals, rows: entry.first_rows() });
    }

    /// A statement with constants is prepared: what they mean is decided now. `settings`: those that hold for it; `None`: some
    /// are on their way, or not known.
    pub(in crate::session) fn note_prepared(&mut self, settings: Option<Rc<Settings>>) {
        if self.pool.here().is_none() {
            return;
        }
        let Some(input) = settings.map(|settings| input_of(&settings)) else {
            self.caching().prepared_under = Under::Several;
            return;
        };
        let under = &mut self.caching().prepared_under;
        *under = match *under {
            Under::Nothing => Under::One(input),
            Under::One(known) if known == input => Under::One(input),
            _ => Under::Several,
        };
    }
}
