//! Results that a tenant's limits cut short: by a LIMIT in their text, or by a cancel when they are too large.

use config::{LimitKey, Mode};
use policy::limits::Effective;
use policy::verdict::Refusal;
use wire::pipeline::{Awaited, Owed};
use wire::tag::TransactionStatus;

use super::statement::Known;
use super::{End, Session};
use crate::upstream::Upstream;

impl Session {
    /// A result has more rows or bytes than it may. `true`: it goes no further.
    #[cold]
    pub(super) fn result_too_large(&mut self, upstream: &mut Upstream) -> bool {
        if upstream.work.exceeds.is_some() {
            return true;
        }
        let Some(running) = upstream.work.running.front_mut() else { return false };
        let known = running.known.clone();
        let by_rows = running.held.lacks_rows();
        let key = if by_rows { LimitKey::MaxRows } else { LimitKey::MaxBytes };
        let of = |limits: &Effective| if by_rows { limits.max_rows } else { limits.max_bytes };
        let named = self.said_by_name(&known, of);
        let strict = named.map(|(strict, _)| strict);
        let Some(limit) = named.map(|(_, limit)| limit).or_else(|| of(&self.limits)) else {
            // A reload has lifted it.
            running.held.renew(None, None);
            return false;
        };
        let refusal = |limited| Refusal::TooMany { limited, limit: limit.at, retry_in: None };
        let mut refused = Ok(());
        Self::of_what_ends(upstream, |upstream| refused = self.hit(upstream, limit.mode, strict, key, refusal));
        let Some(running) = upstream.work.running.front_mut() else { return false };
        let Err(trouble) = refused else {
            // Once for each result.
            running.held.renew(None, None);
            return false;
        };
        upstream.work.exceeds = Some(Box::new(trouble));
        self.worker.cancel(upstream, self.ctl.client, Vec::new());
        true
    }

    /// One of several statements in a text has ended: the next one has rows of its own.
    #[cold]
    pub(super) fn renew_result(&self, upstream: &mut Upstream) {
        let Some(known) = upstream.work.running.front().map(|running| running.known.clone()) else { return };
        let rows = self.said_by_name(&known, |own| own.max_rows).map(|(_, most)| most).or(self.limits.max_rows);
        let bytes = self.said_by_name(&known, |own| own.max_bytes).map(|(_, most)| most).or(self.limits.max_bytes);
        if let Some(running) = upstream.work.running.front_mut() {
            running.held.renew(rows.map(|most| most.at), bytes.map(|most| most.at));
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

    /// The text with a LIMIT behind it, where the tenant's results are limited so and it has none of its own.
    pub(super) fn with_row_limit(&self, upstream: &mut Upstream, known: &Known, sql: &[u8]) -> Option<Vec<u8>> {
        let named = self.said_by_name(known, |own| own.row_limit);
        let strict = named.as_ref().map(|(strict, _)| *strict);
        let limit = named.map(|(_, limit)| limit).or(self.limits.row_limit)?;
        if self.escapes || self.opaque || !known.takes_limit() {
            return None;
        }
        let (body, comments) = policy::comment::strip_ends(sql);
        if body.contains(&b';') {
            // In a constant, or before a comment that could not be told from one.
            return None;
        }
        self.reached(LimitKey::RowLimit, limit.mode);
        if limit.mode == Mode::Warn {
            let limited = self.limited(LimitKey::RowLimit, strict);
            self.warn(upstream, &Refusal::TooMany { limited, limit: limit.at, retry_in: None });
        }
        let number = limit.enforced()?;
        let end = comments.before() + body.len();
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
