//! What a tenant's statements may do: effective limits, deadlines, and what a client may set itself.

use std::time::{Duration, Instant};

use config::LimitKey;

mod effective;
mod guc_time;
mod rate;
mod table;

pub use effective::{Bound, ByClass, ClassPart, Effective, Rate, Tables};
pub use guc_time::{BadTime, parse_guc_time};
pub use rate::Bucket;
pub use table::{Explained, Layer, LimitTable};

/// How long after the server's own limit we cancel: time for its error to arrive first. It has the better words.
pub const CANCEL_AFTER: Duration = Duration::from_millis(250);

/// How long after the server's own limit the upstream is closed: it has answered neither its limit nor our cancel.
pub const CLOSE_AFTER: Duration = Duration::from_secs(2);

/// The server's own `statement_timeout` for a session: the lower of what the client wants and what its tenant may.
/// `None`, on both sides, is no limit, PostgreSQL's 0.
pub fn statement_timeout(wish: Option<Duration>, limit: Option<Duration>) -> Option<Duration> {
    let bounded = |value: Option<Duration>| value.filter(|value| !value.is_zero());
    match (bounded(wish), bounded(limit)) {
        (Some(wish), Some(limit)) => Some(wish.min(limit)),
        (wish, limit) => wish.or(limit),
    }
}

/// The same as PostgreSQL's value in milliseconds. A limit below 1 ms becomes 1: 0 would mean none.
pub fn server_value(timeout: Option<Duration>) -> u32 {
    timeout.filter(|value| !value.is_zero()).map_or(0, |value| {
        let millis = value.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
        u32::try_from(millis).unwrap_or(i32::MAX as u32)
    })
}

/// When we act on a request that the server has not stopped itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    limit: Duration,
    key: LimitKey,
    /// Send a CancelRequest from here on.
    pub cancel_at: Instant,
    /// Close the upstream from here on.
    pub close_at: Instant,
}

/// What a sweep does with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Cancel it (once: the caller remembers).
    Cancel,
    /// Close its upstream.
    Close,
}

impl Deadline {
    /// The deadline of a request that starts `now` under a limit that the server knows too: it has the first word.
    /// `None`: it may run for ever.
    pub fn new(limit: Option<Duration>, now: Instant) -> Option<Self> {
        let limit = limit.filter(|limit| !limit.is_zero())?;
        let end = now.checked_add(limit)?;
        let (cancel_at, close_at) = (end.checked_add(CANCEL_AFTER)?, end.checked_add(CLOSE_AFTER)?);
        Some(Self { limit, key: LimitKey::StatementTimeout, cancel_at, close_at })
    }

    /// The deadline of what began at `since` under a limit that the proxy alone knows. A request that begins behind it, as
    /// one does that rolls its transaction back, has its time before anything is closed.
    pub fn own(key: LimitKey, limit: Option<Duration>, since: Instant, now: Instant) -> Option<Self> {
        let limit = limit.filter(|limit| !limit.is_zero())?;
        let cancel_at = since.checked_add(limit)?;
        Some(Self { limit, key, cancel_at, close_at: cancel_at.max(now).checked_add(CLOSE_AFTER)? })
    }

    /// The first of those of a request that begins `now`, and its transaction with it: `server` is a limit that the server
    /// knows too, of `own` the proxy alone knows. The same as of each by itself, for less: they begin together, so that the
    /// shortest is the first.
    pub fn first<const N: usize>(
        server: Option<Duration>,
        own: [(LimitKey, Option<Duration>); N],
        now: Instant,
    ) -> Option<Self> {
        let is_set = |limit: &Duration| !limit.is_zero();
        let lead = server.filter(is_set).map(|limit| limit.saturating_add(CANCEL_AFTER));
        let own = own.into_iter().filter_map(|(key, limit)| Some((key, limit.filter(is_set)?)));
        match own.min_by_key(|(_, limit)| *limit) {
            Some((key, limit)) if lead.is_none_or(|lead| limit < lead) => Self::own(key, Some(limit), now, now),
            _ => Self::new(server, now),
        }
    }

    /// The one of two that comes first.
    pub fn sooner(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.cancel_at < a.cancel_at { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// The limit that it enforces, for the error's DETAIL.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Which limit that is.
    pub fn key(&self) -> LimitKey {
        self.key
    }

    /// What is due at `now`.
    pub fn due(&self, now: Instant) -> Due {
        if now >= self.close_at {
            Due::Close
        } else if now >= self.cancel_at {
            Due::Cancel
        } else {
            Due::Nothing
        }
    }
}

/// What becomes of a client's own `SET statement_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    /// Within the limit: pass it on.
    Pass,
    /// Over the limit, or 0 for none: this value instead, with a NOTICE that says so.
    Lower(Duration),
    /// Not a value that PostgreSQL takes: pass it on, the server's own error is the best one.
    Invalid,
}

/// Judges the value of `SET statement_timeout = value` or `set_config('statement_timeout', value, …)`.
///
/// ```
/// use policy::limits::{Clamp, clamp};
/// use std::time::Duration;
/// let limit = Some(Duration::from_secs(5));
/// assert_eq!(clamp("3s", limit), Clamp::Pass);
/// assert_eq!(clamp("0", limit), Clamp::Lower(Duration::from_secs(5)));
/// ```
pub fn clamp(value: &str, limit: Option<Duration>) -> Clamp {
    let Ok(wish) = parse_guc_time(value) else {
        return Clamp::Invalid;
    };
    match limit.filter(|limit| !limit.is_zero()) {
        Some(limit) if wish.is_zero() || wish > limit => Clamp::Lower(limit),
        _ => Clamp::Pass,
    }
}

#[cfg(test)]
mod tests;
