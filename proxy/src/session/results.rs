//! Results that a tenant's limits cut short: by a LIMIT in their text, or by a cancel when they are too large.

use config::LimitKey;
use policy::verdict::Refusal;
use wire::pipeline::{Awaited, Owed};

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
        let by_rows = running.rows > running.held.max_rows;
        let named = self.statement_with_limits(&known);
        let strict = named.as_ref().map(|(strict, _)| *strict);
        let limits = named.map_or_else(|| self.limits.clone(), |(_, own)| own);
        let (key, limit) =
            if by_rows { (LimitKey::MaxRows, limits.max_rows) } else { (LimitKey::MaxBytes, limits.max_bytes) };
        let Some(limit) = limit else { return false };
        let refusal = |limited| Refusal::TooMany { limited, limit: limit.at, retry_in: None };
        let refused = self.hit(upstream, limit.mode, strict, key, refusal);
        let Some(running) = upstream.work.running.front_mut() else { return false };
        let Err(trouble) = refused else {
            // Once for each result.
            (running.held.max_rows, running.held.max_bytes) = (u64::MAX, u64::MAX);
            return false;
        };
        upstream.work.exceeds = Some(Box::new(trouble));
        self.worker.cancel(upstream, Vec::new());
        true
    }

    /// Whether the client is told that its statement is complete: not where its result was too large, and the server had
    /// sent the rest of it before it heard of the cancel. What was sent behind it has been carried out then, which no
    /// client expects behind an error; so it must be the last.
    pub(super) fn tells_completion(&mut self, upstream: &mut Upstream, owed: Option<Owed>) -> Result<bool, End> {
        let Some(exceeds) = upstream.work.exceeds.take() else { return Ok(true) };
        let several = upstream.work.running.front().is_some_and(|running| !running.known.shape.parts.is_empty());
        let last = match owed.map(|owed| owed.awaited) {
            Some(Awaited::Query) => !several,
            _ => upstream.pipeline.owed().next().is_none_or(|next| next.awaited == Awaited::Sync),
        };
        if !last {
            return Err(End::Trouble(*exceeds));
        }
        self.count_trouble(&exceeds);
        upstream.work.late = Some(exceeds);
        Ok(false)
    }

    /// The text with a LIMIT behind it, where the tenant's results are limited so and it has none of its own.
    pub(super) fn with_row_limit(&self, known: &Known, sql: &[u8]) -> Option<Vec<u8>> {
        let named = self.statement_with_limits(known);
        let limits = named.map_or_else(|| self.limits.clone(), |(_, own)| own);
        let limit = limits.row_limit?;
        if !known.explains || self.escapes || self.opaque || policy::clauses::has_limit(known.shape.text()) {
            return None;
        }
        self.reached(LimitKey::RowLimit, limit.mode);
        let number = limit.enforced()?;
        let (body, comments) = policy::comment::strip_ends(sql);
        let end = comments.before() + body.len();
        let mut text = Vec::with_capacity(sql.len() + 32);
        text.extend_from_slice(sql.get(..end)?);
        text.extend_from_slice(format!("\nLIMIT {number}").as_bytes());
        text.extend_from_slice(sql.get(end..)?);
        Some(text)
    }

    /// Whether any text may have to be rewritten.
    #[inline]
    pub(super) fn limits_rows(&self) -> bool {
        self.limits.row_limit.is_some() || self.rules.limits.has_statements()
    }
}
