//! Results that a tenant's limits cut short: by a LIMIT in their text, or by a cancel when they are too large.

use std::time::Instant;

use config::{LimitKey, Mode};
use policy::limits::{Bound, Effective};
use policy::verdict::Refusal;
use wire::encode::frontend as ask;
use wire::pipeline::{Awaited, Owed};
use wire::tag::TransactionStatus;

use super::brain::Look;
use super::held::Held;
use super::outbox::Outbox;
use super::statement::Known;
use super::translate::Message;
use super::{End, Session};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// Limits on one result, the lowest first, each with the fingerprint that it is said of.
type Bounds = Vec<(Option<u64>, Bound<u64>)>;

/// The first that so much has not reached.
fn beyond(bounds: &Bounds, come: u64) -> Option<u64> {
    bounds.iter().map(|(_, limit)| limit.at).find(|at| *at > come)
}

impl Session {
    /// A result has more rows or bytes than it may. `true`: it goes no further.
    #[cold]
    pub(super) fn result_too_large(&mut self, upstream: &mut Upstream) -> bool {
        if upstream.work.exceeds.is_some() {
            return true;
        }
        let Some(running) = upstream.work.running.front() else { return false };
        let (known, part, held) = (running.known.clone(), running.part, running.held);
        let mut next = held;
        let mut refused = Ok(());
        if let Some(over) = held.rows_over() {
            let bounds = self.bounds(&known, part, |limits| limits.max_rows);
            next.let_rows(beyond(&bounds, over.0));
            Self::of_what_ends(upstream, |upstream| {
                refused = self.hit_bounds(upstream, LimitKey::MaxRows, bounds, over);
            });
        }
        if let Some(over) = held.bytes_over()
            && refused.is_ok()
        {
            let bounds = self.bounds(&known, part, |limits| limits.max_bytes);
            next.let_bytes(beyond(&bounds, over.0));
            Self::of_what_ends(upstream, |upstream| {
                refused = self.hit_bounds(upstream, LimitKey::MaxBytes, bounds, over);
            });
        }
        let Err(trouble) = refused else {
            if let Some(running) = upstream.work.running.front_mut() {
                running.held = next;
            }
            return false;
        };
        upstream.work.exceeds = Some(Box::new(trouble));
        self.worker.cancel(upstream, self.ctl.client, Vec::new());
        true
    }

    /// The limits on the result of a statement of a text, the lowest first, each with the fingerprint that it is said of.
    /// One of a fingerprint takes the place of its tenant's; while it does not refuse anything it stands beside it.
    fn bounds(&self, known: &Known, part: usize, of: impl Fn(&Effective) -> Option<Bound<u64>>) -> Bounds {
        let mut bounds = Vec::new();
        if self.rules.limits.has_statements() {
            let all = [Some(known.shape.strict), known.shape.parts.get(part).map(|(strict, _)| *strict)];
            let said = all.into_iter().flatten().filter_map(|strict| self.said_alone(strict));
            bounds.extend(said.filter_map(|(strict, own)| Some((Some(strict), of(&own)?))));
        }
        if bounds.iter().all(|(_, own)| own.mode != Mode::Enforce) {
            bounds.extend(of(&self.limits).map(|limit| (None, limit)));
        }
        bounds.sort_by_key(|(_, limit)| limit.at);
        bounds
    }

    /// So much has `come`. What only counts or warns does so once for each result: not where it was passed before `told`.
    fn hit_bounds(
        &self,
        upstream: &mut Upstream,
        key: LimitKey,
        bounds: Bounds,
        (come, told): (u64, u64),
    ) -> Result<(), Trouble> {
        let holds = |limit: &Bound<u64>| limit.at <= come && (limit.at >= told || limit.mode == Mode::Enforce);
        for (strict, limit) in bounds.into_iter().filter(|(_, limit)| holds(limit)) {
            let refusal = |limited| Refusal::TooMany { limited, limit: limit.at, retry_in: None };
            self.hit(upstream, limit.mode, strict, key, refusal)?;
        }
        Ok(())
    }

    /// What the result of a statement of a text is held to.
    #[inline]
    pub(super) fn held_to(&self, known: &Known, part: usize) -> Held {
        if !self.rules.limits.has_statements() {
            let most = |limit: Option<Bound<u64>>| limit.map(|limit| limit.at);
            return Held::to(most(self.limits.max_rows), most(self.limits.max_bytes));
        }
        let least = |bounds: Bounds| bounds.first().map(|(_, limit)| limit.at);
        let rows = least(self.bounds(known, part, |limits| limits.max_rows));
        Held::to(rows, least(self.bounds(known, part, |limits| limits.max_bytes)))
    }

    /// Whether any result may have to be cut short.
    #[inline]
    pub(super) fn limits_results(&self) -> bool {
        self.limits.judges_rows() || self.rules.limits.has_statements()
    }

    /// One of several statements in a text has ended: the next one has rows of its own.
    #[cold]
    pub(super) fn renew_result(&self, upstream: &mut Upstream) {
        let Some(running) = upstream.work.running.front() else { return };
        let held = self.held_to(&running.known, running.part);
        if let Some(running) = upstream.work.running.front_mut() {
            running.held.go_on(held);
        }
    }

    /// Whether the client is told that its statement is complete: not where its result was too large, and the server had
    /// sent the rest of it before it heard of the cancel. What it has written then, or a transaction that goes on, would be
    /// told as failed; what was sent behind it has been carried out, which no client expects behind an error. So all that it
    /// may have done is read, and nothing may follow; else the client is ended.
    pub(super) fn tells_completion(&mut self, upstream: &mut Upstream, owed: Option<Owed>) -> Result<bool, End> {
        let Some(exceeds) = upstream.work.exceeds.take() else { return Ok(true) };
        let reads = upstream.work.late_reads.take().unwrap_or(false);
        let next = upstream.pipeline.owed().next().map(|owed| owed.awaited);
        let last = match owed.map(|owed| owed.awaited) {
            Some(Awaited::Query) => next.is_none_or(|next| next == Awaited::Query) && upstream.pipeline.len() <= 1,
            _ => next == Some(Awaited::Sync) && upstream.pipeline.len() == 1,
        };
        if !(last && reads && upstream.pipeline.status() == TransactionStatus::Idle) {
            return Err(End::Trouble(*exceeds));
        }
        self.count_trouble(&exceeds);
        upstream.work.late = Some(exceeds);
        Ok(false)
    }

    /// Whether its tenant's limits let a text pass, and what its results are held to.
    pub(super) fn judge_text(
        &mut self,
        upstream: &mut Upstream,
        look: &Look<'_>,
        whole: bool,
        now: Instant,
    ) -> Result<Held, Trouble> {
        if !self.polices() {
            return Ok(Held::default());
        }
        let known = Known { whole: look.known.whole && whole, ..look.known.clone() };
        self.judge(upstream, &known, known.script.as_deref(), now)
    }

    /// Puts another text in the place of the client's: one with its tenant's row limit, which is given back, or one that
    /// deallocates by the names that the server knows.
    pub(super) fn replace_text(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        look: &Look<'_>,
        sql: &[u8],
    ) -> Result<Option<Vec<u8>>, End> {
        let limited = match self.limits_rows() && message.is_whole() {
            true => self.with_row_limit(upstream, &look.known, sql),
            false => None,
        };
        let other = match &limited {
            Some(_) => None,
            None => self.translate_deallocate(upstream, look, outbox, message.at),
        };
        if let Some(text) = limited.as_ref().or(other.as_ref()) {
            outbox.skip(message.at, message.end);
            ask::query(outbox.insert(message.end), text).map_err(|error| End::Trouble(error.into()))?;
        }
        Ok(limited)
    }

    /// The text with a LIMIT behind it, where the tenant's results are limited so and it has none of its own.
    pub(super) fn with_row_limit(&self, upstream: &mut Upstream, known: &Known, sql: &[u8]) -> Option<Vec<u8>> {
        let named = self.said_by_name(known, |own| own.row_limit);
        let strict = named.as_ref().map(|(strict, _)| *strict);
        let limit = named.map(|(_, limit)| limit).or(self.limits.row_limit)?;
        if self.escapes || self.opaque {
            return None;
        }
        let end = known.limit_goes(sql)?;
        self.reached(LimitKey::RowLimit, limit.mode);
        self.names(LimitKey::RowLimit, strict);
        if limit.mode == Mode::Warn {
            let limited = self.limited(LimitKey::RowLimit, strict);
            self.warn(upstream, &Refusal::TooMany { limited, limit: limit.at, retry_in: None });
        }
        let number = limit.enforced()?;
        let mut text = Vec::with_capacity(sql.len() + 32);
        text.extend_from_slice(sql.get(..end)?);
        text.extend_from_slice(format!("\nLIMIT {number}").as_bytes());
        text.extend_from_slice(sql.get(end..)?);
        Some(text)
    }

    /// Whether a text of this kind may be rewritten so: its answer is not the answer to the text.
    pub(super) fn rewrites(&self, known: &Known) -> bool {
        let limit = || self.said_by_name(known, |own| own.row_limit).map(|(_, limit)| limit).or(self.limits.row_limit);
        self.limits_rows() && known.takes_limit() && limit().is_some_and(|limit| limit.enforced().is_some())
    }

    /// Whether any text may have to be rewritten.
    #[inline]
    pub(super) fn limits_rows(&self) -> bool {
        self.limits.row_limit.is_some() || self.rules.limits.has_statements()
    }
}
