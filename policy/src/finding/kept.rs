//! A finding with what people have said about it.

use config::Mute;
use serde::{Deserialize, Serialize};

use super::{Finding, Timestamp, silences};

/// Whether somebody has to look at a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has said anything, or it is worse than what was said.
    Open,
    /// Somebody knows of it.
    Acknowledged,
    /// Nobody wants to be told of it.
    Muted,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Muted];

    /// Its name in JSON and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Muted => "muted",
        }
    }
}

/// That somebody knows of a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// What they plan, or why it may stay.
    #[serde(default)]
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Children of the largest burst then. It does not hold for one twice as large.
    pub count: u64,
    /// Of a finding about time: how bad it was then, in milliseconds. It does not hold for what is twice as bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_ms: Option<f64>,
    /// Of a finding about time: when it came back after an hour of quiet. It does not hold from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_back: Option<Timestamp>,
}

/// A finding about time that has not been seen for so long was over: when it comes, it comes back.
const QUIET_US: u64 = 3_600_000_000;

impl Acknowledgement {
    /// Of a finding as it is now.
    pub fn of(finding: &Finding, by: String, note: Option<String>, at: Timestamp) -> Self {
        Self { by, note, at, count: finding.count, worst_ms: finding.worst_ms(), came_back: None }
    }

    fn covers(&self, finding: &Finding) -> bool {
        let grown = match (finding.worst_ms(), self.worst_ms) {
            (Some(now), Some(then)) => now >= 2.0 * then,
            _ => finding.count >= self.count.saturating_mul(2),
        };
        !grown && self.came_back.is_none()
    }
}

/// A finding as it is kept for operators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whether somebody has to look at it.
    pub state: State,
    /// What somebody has said, also when it has grown beyond that and is open again.
    #[serde(default)]
    pub acknowledged: Option<Acknowledgement>,
    /// The mute that silences it.
    #[serde(default)]
    pub mute: Option<String>,
    /// Grows with each change to any finding: what has a greater one than a follower has seen is news.
    pub sequence: u64,
}

impl Kept {
    /// A finding that nobody has said anything about.
    pub fn new(finding: Finding) -> Self {
        Self { finding, state: State::Open, acknowledged: None, mute: None, sequence: 0 }
    }

    /// Takes more bursts of the same finding in. The largest burst gives the figures, all of them the counters;
    /// `bursts` and `statements` are how many came with `seen`.
    pub fn merge(&mut self, seen: &Finding, bursts: u64, statements: u64) {
        let kept = &mut self.finding;
        let quiet = seen.last_seen.0.saturating_sub(kept.last_seen.0) >= QUIET_US;
        if bursts > 0
            && quiet
            && seen.detail.is_some()
            && let Some(known) = &mut self.acknowledged
        {
            known.came_back.get_or_insert(seen.last_seen);
        }
        let (occurrences, statements) = (kept.occurrences + bursts, kept.statements + statements);
        let (first_seen, last_seen) = (kept.first_seen.min(seen.first_seen), kept.last_seen.max(seen.last_seen));
        // Findings about time come with the figures of the worst already.
        if seen.count >= kept.count || seen.detail.is_some() {
            seen.clone_into(kept);
        }
        (kept.occurrences, kept.statements, kept.per_minute) = (occurrences, statements, seen.per_minute);
        (kept.first_seen, kept.last_seen) = (first_seen, last_seen);
    }

    /// Says what its state is under these mutes, each with its name; whether that is another one than before.
    pub fn judge<'a>(&mut self, mutes: impl IntoIterator<Item = (&'a str, &'a Mute)>, now: Timestamp) -> bool {
        let before = (self.state, self.mute.take());
        let holds = |mute: &Mute| mute.until_us.is_none_or(|until| now.0 < until) && silences(mute, &self.finding);
        self.mute = mutes.into_iter().find(|(_, mute)| holds(mute)).map(|(name, _)| name.to_owned());
        self.state = match (&self.mute, &self.acknowledged) {
            (Some(_), _) => State::Muted,
            (None, Some(known)) if known.covers(&self.finding) => State::Acknowledged,
            _ => State::Open,
        };
        (self.state, &self.mute) != (before.0, &before.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mute::tests::finding;
    use super::super::{Detail, Kind};
    use super::*;

    #[test]
    fn an_acknowledgement_holds_until_the_burst_is_twice_as_large() {
        let mut kept = Kept::new(finding());
        kept.finding.count = 10;
        assert!(!kept.judge([], Timestamp(0)), "it is open");
        let by = "anna".to_owned();
        kept.acknowledged = Some(Acknowledgement::of(&kept.finding, by, None, Timestamp(0)));
        assert!(kept.judge([], Timestamp(0)));
        assert_eq!(kept.state, State::Acknowledged);
        let larger = |count| Finding { count, ..finding() };
        kept.merge(&larger(19), 1, 19);
        assert!(!kept.judge([], Timestamp(0)), "larger, but not twice");
        kept.merge(&larger(20), 1, 20);
        assert!(kept.judge([], Timestamp(0)));
        assert_eq!((kept.state, kept.acknowledged.is_some()), (State::Open, true));
    }

    fn transaction(open_ms: f64, last_seen_us: u64) -> Finding {
        let detail = Detail::Transaction { open_ms, idle_ms: 0.0, threshold_ms: 5_000.0, ended: true };
        let (count, last_seen) = (1, Timestamp(last_seen_us));
        let kind = Kind::SlowTransaction;
        Finding { kind, count, wasted_ms: open_ms, last_seen, detail: Some(detail), ..finding() }
    }

    #[test]
    fn what_is_known_about_time_is_open_again_when_it_is_twice_as_bad_or_comes_back() {
        let acknowledged = |open_ms| {
            let mut kept = Kept::new(transaction(open_ms, QUIET_US));
            kept.acknowledged = Some(Acknowledgement::of(&kept.finding, "anna".into(), None, Timestamp(0)));
            kept.judge([], Timestamp(0));
            assert_eq!(kept.state, State::Acknowledged);
            kept
        };
        let after = |kept: &mut Kept, open_ms, bursts, last_seen_us| {
            kept.merge(&transaction(open_ms, last_seen_us), bursts, bursts);
            kept.judge([], Timestamp(0));
            kept.state
        };
        let mut kept = acknowledged(6_000.0);
        assert_eq!(after(&mut kept, 11_000.0, 1, QUIET_US + 1), State::Acknowledged);
        assert_eq!(after(&mut kept, 12_000.0, 1, QUIET_US + 2), State::Open, "twice as bad");
        let mut kept = acknowledged(6_000.0);
        for n in 1..5 {
            assert_eq!(after(&mut kept, 6_000.0, 1, QUIET_US + n * (QUIET_US - 1)), State::Acknowledged, "it goes on");
        }
        assert_eq!(after(&mut kept, 6_000.0, 0, 7 * QUIET_US), State::Acknowledged, "as a long one does");
        assert_eq!(after(&mut kept, 6_000.0, 1, 8 * QUIET_US), State::Open, "after an hour of quiet");
        assert_eq!(after(&mut kept, 6_000.0, 1, 8 * QUIET_US + 1), State::Open, "until somebody says so again");
    }

    #[test]
    fn a_mute_goes_before_an_acknowledgement_and_ends_in_time() {
        let mut kept = Kept::new(finding());
        let at = Timestamp(0);
        kept.acknowledged = Some(Acknowledgement::of(&kept.finding, "anna".into(), None, at));
        let mute = Mute { until_us: Some(1_000), user: Some("app".into()), ..Mute::default() };
        assert!(kept.judge([("a", &mute)], Timestamp(999)));
        assert_eq!((kept.state, kept.mute.as_deref()), (State::Muted, Some("a")));
        assert!(!kept.judge([("a", &mute)], Timestamp(999)), "no change");
        assert!(kept.judge([("a", &mute)], Timestamp(1_000)));
        assert_eq!((kept.state, kept.mute.as_deref()), (State::Acknowledged, None));
    }

    #[test]
    fn the_largest_burst_gives_the_figures_and_all_of_them_the_counters() {
        let mut kept = Kept::new(Finding { count: 10, occurrences: 1, statements: 10, ..finding() });
        kept.merge(&Finding { count: 7, wasted_ms: 1.0, last_seen: Timestamp(2_000_000), ..finding() }, 2, 14);
        assert_eq!((kept.finding.count, kept.finding.occurrences, kept.finding.statements), (10, 3, 24));
        assert_eq!((kept.finding.wasted_ms, kept.finding.last_seen), (finding().wasted_ms, Timestamp(2_000_000)));
        kept.merge(&Finding { count: 30, wasted_ms: 5.0, ..finding() }, 1, 30);
        assert_eq!((kept.finding.count, kept.finding.wasted_ms, kept.finding.statements), (30, 5.0, 54));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        let mut kept = Kept::new(finding());
        kept.acknowledged = Some(Acknowledgement::of(&kept.finding, "anna".into(), Some("soon".into()), Timestamp(7)));
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&json).unwrap(), kept);
    }
}
