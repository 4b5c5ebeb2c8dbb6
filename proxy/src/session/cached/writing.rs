//! Statements on their way that may write, and what has become of replies that may be kept.

use std::sync::Arc;
use std::time::Instant;

use policy::cache::{Footprint, Mode};
use policy::comment::strip_ends;
use wire::tag::{Backend, TransactionStatus};

use super::apart::is_settled;
use super::{Filling, Standing};
use crate::cache::Fate;
use crate::cache::here::Here;
use crate::cache::writes::{ANY_PREPARED, Reach, reach_of};
use crate::session::Session;
use crate::session::brain::Look;
use crate::session::portals::Portal;
use crate::upstream::Upstream;

impl Session {
    /// A text is about to be sent to be run. `whole`: all of it was looked at.
    #[inline]
    pub(in crate::session) fn will_run_text(
        &mut self,
        upstream: &mut Upstream,
        look: &Look<'_>,
        sql: &[u8],
        whole: bool,
    ) {
        let Some(here) = self.pool.here() else { return };
        let readable = whole && look.known.whole && !self.escapes && !self.opaque;
        let reach = if !readable {
            Reach::unknown()
        } else {
            note_prepared_transaction(upstream, look.known.shape.text(), Some(sql));
            look.reached().map_or_else(|| reach_of(sql, &here), |known| known.of(sql, &here))
        };
        let part = self.part_written(upstream, &here, &reach);
        self.text_steps(upstream, &here, look, (readable.then_some(sql), part.is_some()));
        begin(upstream, &here, &reach, part);
    }

    /// The same of a portal; `None`: of one that is not known, or of a function that is called by its number.
    #[inline]
    pub(in crate::session) fn will_run_portal(&mut self, upstream: &mut Upstream, portal: Option<&Portal>) {
        let Some(here) = self.pool.here() else { return };
        let prepared = portal.map(|portal| &portal.prepared).filter(|prepared| prepared.known.whole);
        let reach = match prepared.and_then(|prepared| Some((prepared, prepared.query.as_deref()?))) {
            Some((prepared, sql)) if !self.escapes && !self.opaque => {
                note_prepared_transaction(upstream, prepared.known.shape.text(), Some(sql));
                prepared.reached.of(sql, &here)
            }
            _ => Reach::unknown(),
        };
        let settled = portal.is_some_and(|portal| is_settled(upstream, portal));
        let part = if settled { self.part_written(upstream, &here, &reach) } else { None };
        self.portal_steps(upstream, &here, (portal, part.is_some()));
        begin(upstream, &here, &reach, part);
    }

    /// A command is complete: PREPARE TRANSACTION leaves its writes to whoever ends them.
    pub(in crate::session) fn after_command(&self, upstream: &mut Upstream, tag: &[u8]) {
        if tag == b"PREPARE TRANSACTION" && upstream.writes.is_open() {
            upstream.writes.is_prepared(upstream.work.prepares.as_deref().unwrap_or(ANY_PREPARED));
            if let Some(here) = self.pool.here() {
                here.cached.stirred.notify_one();
            }
        }
    }

    /// A request has ended: the server has told how, and the client has not been told yet.
    #[inline]
    pub(in crate::session) fn after_writes(&self, upstream: &mut Upstream) {
        if upstream.pipeline.is_boundary() {
            (upstream.work.standing.ran, upstream.work.standing.bound) = (false, false);
        }
        if upstream.pipeline.status() == TransactionStatus::Idle && upstream.pipeline.is_boundary() {
            upstream.work.prepares = None;
            upstream.work.standing = Standing::default();
            if upstream.writes.is_open() {
                // A read that calls something counts as a writer, and ends nothing.
                let wrote = upstream.writes.wrote();
                upstream.writes.finish();
                if wrote {
                    self.worker.shared.caches.counters.invalidated.count(policy::cache::Invalidated::Write);
                }
            }
        }
    }

    /// A reply that may be kept is complete.
    pub(in crate::session) fn filled(&self, upstream: &Upstream, mut filling: Filling, failed: bool, now: Instant) {
        let caches = &self.worker.shared.caches;
        // Lands behind this: whoever waits finds what is kept.
        let _flight = filling.flight.take();
        let mode = caches.mode();
        let before = if filling.within { TransactionStatus::Open } else { TransactionStatus::Idle };
        let same = upstream.pipeline.status() == before && !failed;
        let min_us = self.rules.settings.cache.min_cost.as_micros() as u64;
        let (strict, compared, budget) = (filling.strict, filling.compared.clone(), caches.budget());
        let kept = match filling.end(same, min_us, (&budget, &self.worker.rooms.replies), now) {
            _ if mode == Mode::Off => Err(policy::cache::Refused::SwitchedOff),
            Ok((key, entry)) => {
                if let Some(compared) = compared.filter(|compared| compared.dependencies.are_current()) {
                    caches.compared(strict, &key, compared.reply() == entry.reply());
                }
                caches.store.put(Arc::clone(&key), entry)
            }
            Err(refused) => Err(refused),
        };
        match kept {
            Ok(()) => drop(caches.counters.fills.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            Err(refused) => {
                caches.counters.refused.count(refused);
                caches.tell(strict, Fate::Refused(refused));
            }
        }
    }

    /// A message has been dealt with whose reply may be kept. `forwarded`: the client gets it; `of_ours`: it answers what we
    /// have sent in front of the client's request.
    #[inline]
    pub(in crate::session) fn note_reply(
        upstream: &mut Upstream,
        tag: Backend,
        bytes: &[u8],
        forwarded: bool,
        of_ours: bool,
    ) {
        let Some(filling) = upstream.work.filling.as_deref_mut() else { return };
        if of_ours && !forwarded {
            // Settings that were not taken: the request has run under others.
            if tag == Backend::ErrorResponse {
                filling.spoil();
            }
        } else if forwarded {
            if tag == Backend::DataRow {
                filling.columns = upstream.work.running.front().map_or(filling.columns, |running| running.columns);
            }
            filling.take(tag, bytes);
        } else if tag == Backend::DataRow {
            // A row that was kept from the client.
            filling.spoil();
        }
    }
}

/// A statement is sent that touches this; `part`: or this alone.
fn begin(upstream: &mut Upstream, here: &Here, reach: &Reach, part: Option<Arc<Footprint>>) {
    upstream.work.standing.ran = true;
    let process = upstream.cancel.process;
    match part {
        Some(part) => upstream.writes.begin(here, process, &reach.narrowed(part)),
        None => upstream.writes.begin(here, process, reach),
    }
}

/// `PREPARE TRANSACTION 'name'`: the name, for when it has succeeded.
fn note_prepared_transaction(upstream: &mut Upstream, shape: &str, sql: Option<&[u8]>) {
    let prepares = shape.get(..19).is_some_and(|start| start.eq_ignore_ascii_case("prepare transaction"));
    if prepares {
        upstream.work.prepares = sql.and_then(name_of).map(Into::into);
    }
}

/// The string in `PREPARE TRANSACTION 'name'`; `None`: it is written in a way that is not read, or its bytes mean something
/// else in another encoding.
fn name_of(sql: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(strip_ends(sql).0).ok()?;
    let (before, rest) = text.split_once('\'')?;
    let (inside, behind) = rest.rsplit_once('\'')?;
    // Nothing but the two words in front: no comment, no prefix of another kind of string.
    let mut words = before.split_ascii_whitespace();
    let mut says = |word: &str| words.next().is_some_and(|said| said.eq_ignore_ascii_case(word));
    let plain = says("prepare") && says("transaction") && words.next().is_none();
    let ends = behind.trim().trim_end_matches(';').is_empty();
    let reads = inside.is_ascii() && !inside.is_empty() && !inside.contains('\\');
    // Two quotes are one; any other one would end the string.
    let one = !inside.replace("''", "").contains('\'');
    (plain && ends && reads && one).then(|| inside.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn names_of_prepared_transactions_are_read_or_not_at_all() {
        assert_eq!(name_of(b"PREPARE TRANSACTION 'a''b';").as_deref(), Some("a'b"));
        assert_eq!(name_of(b"/* x */ prepare transaction'a'").as_deref(), Some("a"));
        for strange in [
            "PREPARE TRANSACTION E'a'",
            "PREPARE TRANSACTION $$a$$",
            "PREPARE TRANSACTION 'a\\b'",
            "PREPARE TRANSACTION 'ä'",
            "PREPARE TRANSACTION ''",
            "PREPARE TRANSACTION U&'p'",
            "PREPARE TRANSACTION /* 'q' */ 'p'",
            "PREPARE TRANSACTION 'p' /* 'q' */ /",
            "PREPARE TRANSACTION 'p' -- 'q'\n 'r'",
        ] {
            assert_eq!(name_of(strange.as_bytes()), None, "{strange}");
        }
    }
}
