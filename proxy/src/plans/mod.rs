//! Plans of slow statements: when one is asked for, how, and what is kept of it.
//!
//! ```text
//! worker ── slow, and a plan is due ─► Order::Plan ─► capture ─► server: BEGIN READ ONLY … EXPLAIN … ROLLBACK
//!                                                        │
//!                              admin port, slow log ◄── Plans ──► analyst: another plan than ever before
//! ```
//!
//! A worker asks after the end of a slow statement, and no more often than once a minute for each; it hands over text,
//! values and settings, which live until the server has answered. What is kept is a plan without values.

mod capture;

use std::sync::{Arc, Mutex};

use policy::observe::plans::{Admission, Due, History, Key, Row};
use policy::observe::{Notice, What};
use policy::plan::Plan;

use crate::pool::Pool;
use crate::telemetry::{Scope, TenantId, lock};

pub use capture::{Turns, capture};

/// The longest text that is handed over, in bytes.
pub const MAX_TEXT: usize = 16 * 1024;
/// The longest values of a Bind that are handed over, in bytes.
pub const MAX_PARAMETERS: usize = 4 * 1024;

/// What became of a plan that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    Captured,
    /// The server refused to plan.
    Failed,
    /// It took too long.
    TimedOut,
    /// No connection could be made.
    NoConnection,
    /// `max_side_connections` has been reached.
    NoPlace,
    /// What the server said is too long, or no plan.
    Unreadable,
    /// `slow_log.plans_per_minute` has been reached.
    Limited,
    /// Too many waited.
    Busy,
    /// The text is too long, or was not kept.
    Text,
    /// The bound values are too long.
    Parameters,
    /// What the session has set is not known, or cannot be made elsewhere.
    State,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Captured,
        Self::Failed,
        Self::TimedOut,
        Self::NoConnection,
        Self::NoPlace,
        Self::Unreadable,
        Self::Limited,
        Self::Busy,
        Self::Text,
        Self::Parameters,
        Self::State,
    ];

    /// For metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NoConnection => "no_connection",
            Self::NoPlace => "no_place",
            Self::Unreadable => "unreadable",
            Self::Limited => "limited",
            Self::Busy => "busy",
            Self::Text => "text",
            Self::Parameters => "parameters",
            Self::State => "state",
        }
    }
}

/// A bound value; `None`: NULL.
pub type Bound = Option<zeroize::Zeroizing<Vec<u8>>>;

/// A plan that is to be captured.
pub struct Wanted {
    /// Where, and as whom.
    pub pool: Arc<Pool>,
    /// Whose plans it is compared with.
    pub key: Key,
    /// Who ran the statement.
    pub scope: Option<Arc<Scope>>,
    /// Its normalised text.
    pub normalised: Box<str>,
    /// Its text as it was sent.
    pub text: zeroize::Zeroizing<Vec<u8>>,
    /// Oids of the types that its client declared for its parameters.
    pub types: Vec<u32>,
    /// The values that were bound, each in its format.
    pub parameters: Vec<(i16, Bound)>,
    /// The statements that make its session's settings.
    pub settings: Vec<Vec<u8>>,
    /// How long it took, in µs.
    pub duration_us: u64,
    /// When it began, in µs on the telemetry clock.
    pub began_us: u64,
}

impl std::fmt::Debug for Wanted {
    /// Without text and values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("key", &self.key).finish_non_exhaustive()
    }
}

/// When plans are asked for, and those that are kept. Written by workers after slow statements and by the control thread;
/// read by the admin port and the slow log.
#[derive(Debug, Default)]
pub struct Plans {
    gate: Arc<Mutex<Gate>>,
    /// Has a lock of its own: a worker never waits for whoever reads it.
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct Gate {
    admission: Admission,
    outcomes: [u64; Outcome::ALL.len()],
}

/// One of the captures that may be under way. Its place is free again when this is dropped, whatever has become of it.
#[derive(Debug)]
pub struct Permit(Arc<Mutex<Gate>>);

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.0).admission.done();
    }
}

impl Plans {
    /// Whether a plan is captured now; [`Plans::keep`] or [`Plans::give_up`] has to follow. Otherwise when to ask again.
    pub fn ask(&self, strict: u64, tenant: TenantId, per_minute: u32, now_us: u64) -> Result<Permit, u64> {
        let mut gate = lock(&self.gate);
        let (outcome, later) = match gate.admission.ask(strict, tenant.0, per_minute, now_us) {
            Due::Now => return Ok(Permit(Arc::clone(&self.gate))),
            Due::Later(later) => return Err(later),
            Due::TooMany(later) => (Outcome::Limited, later),
            Due::Busy(later) => (Outcome::Busy, later),
        };
        gate.count(outcome);
        Err(later)
    }

    /// One that was due could not even be asked for.
    pub fn lacks(&self, what: Outcome) {
        lock(&self.gate).count(what);
    }

    /// A capture has ended without a plan.
    pub fn give_up(&self, why: Outcome) {
        lock(&self.gate).count(why);
    }

    /// A capture has ended with a plan. What is to be told if the statement never had this one. A long plan takes a while
    /// to compare: for threads that may.
    pub fn keep(&self, wanted: Wanted, plan: Plan, now_us: u64) -> Option<Notice> {
        let Wanted { key, scope, normalised, duration_us, began_us, .. } = wanted;
        let (strict, tenant) = (key.strict, key.tenant.to_string());
        let changed = lock(&self.history).keep(key, &normalised, plan, duration_us, now_us);
        lock(&self.gate).count(Outcome::Captured);
        let changed = changed?;
        let scope = scope.map(|scope| scope.names()).unwrap_or_default();
        let what = What::Plan { changed, duration_us };
        Some(Notice { scope, tenant, strict, text: normalised.into(), what, began_us, now_us })
    }

    /// The hash of the plan that a tenant's statement had last.
    pub fn last_hash(&self, strict: u64, tenant: &str) -> Option<u64> {
        lock(&self.history).last_hash(strict, tenant)
    }

    /// A plan as if it had been captured.
    #[cfg(test)]
    pub(crate) fn put(&self, key: Key, text: &str, plan: Plan, now_us: u64) {
        drop(lock(&self.history).keep(key, text, plan, 1_500, now_us));
    }

    /// What is kept, the last captured first.
    pub fn rows(&self, wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
        lock(&self.history).rows(wanted)
    }

    /// How many became what.
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let counts = lock(&self.gate).outcomes;
        Outcome::ALL.into_iter().zip(counts).map(|(outcome, count)| (outcome.label(), count)).collect()
    }

    /// Statements whose plans are kept.
    pub fn len(&self) -> usize {
        lock(&self.history).len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Gate {
    fn count(&mut self, outcome: Outcome) {
        if let Some(count) = self.outcomes.get_mut(outcome as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_that_panics_gives_its_place_back() {
        let plans = Plans::default();
        let ask = |strict: u64| plans.ask(strict, TenantId(1), 600, strict);
        let most = policy::observe::plans::MAX_WAITING as u64;
        let permits: Vec<_> = (0..most).map(|strict| ask(strict).unwrap()).collect();
        assert!(ask(most).is_err());
        std::thread::spawn(move || {
            let _permits = permits;
            std::panic::resume_unwind(Box::new("a capture"));
        })
        .join()
        .unwrap_err();
        assert!(ask(most).is_ok());
    }
}
