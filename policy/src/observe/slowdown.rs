//! What has become slower for everybody: a database's statements against their histories, taken together.
//!
//! A statement that is slow by itself has a cause of its own: its plan, its rows, a lock. When most statements of a database
//! have become slower at once the cause is the server, the machine or the network, and a finding for each of them would say
//! nothing that one does not say better.
//!
//! ```text
//! a round's statements of one database ─ median of now ÷ usual ─► everybody's factor ─┬─► divides each suspect's
//!                                                                                     └─ > 3 twice in a row: one finding
//! ```

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::regression::{FACTOR, MIN_EXCESS_US, Measured, Regression};

/// Statements that everybody's factor needs: of fewer, one that is slow would be most of them.
pub const MIN_STATEMENTS: usize = 5;
/// Rounds in a row that make it a finding: one is over before anybody has looked.
const SUSTAINED: u32 = 2;
/// For so long is a factor remembered: calls are gathered for an hour at most.
const REMEMBERED_US: u64 = 3_600_000_000;
/// Rounds within this are remembered as one.
const STRETCH_US: u64 = 60_000_000;

/// A database whose statements have become slower together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowdown {
    /// How many times slower than usual the statement in the middle is.
    pub factor: f64,
    /// Statements that were compared.
    pub compared: u64,
    /// Of them, those that are over [`FACTOR`] times slower than usual, and by [`MIN_EXCESS_US`].
    pub slower: u64,
    /// What those have lost in this round, in µs.
    pub lost_us: u64,
    /// When the first of the rounds in a row ended that were so slow.
    pub since_us: u64,
}

/// What is remembered of each database, by a number that whoever feeds it chooses.
#[derive(Debug, Default)]
pub struct Slowdowns(FxHashMap<u32, Past>);

#[derive(Debug, Default)]
struct Past {
    /// Factors over 1 of the last hour, oldest first.
    stretches: VecDeque<Stretch>,
    /// Rounds in a row that were slow, and the end of the first.
    in_a_row: u32,
    since_us: u64,
    /// The latest round.
    seen_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    from_us: u64,
    until_us: u64,
    /// The largest of its rounds.
    factor: f64,
}

impl Slowdowns {
    /// Takes one round of one database in, in any order. What has become slower together is told from the second round in a
    /// row on.
    pub fn judge(&mut self, database: u32, measured: &[Measured], now_us: u64) -> Option<Slowdown> {
        let past = self.0.entry(database).or_default();
        past.seen_us = now_us;
        let (factor, excess_us) = middle(measured).unwrap_or((1.0, 0));
        past.remember(factor, now_us);
        if factor <= FACTOR || excess_us < MIN_EXCESS_US {
            past.in_a_row = 0;
            return None;
        }
        if past.in_a_row == 0 {
            past.since_us = now_us;
        }
        past.in_a_row = past.in_a_row.saturating_add(1);
        let slower = || measured.iter().map(|one| one.latest).filter(|latest| latest.stands(1.0));
        (past.in_a_row >= SUSTAINED).then(|| Slowdown {
            factor,
            compared: measured.len() as u64,
            slower: slower().count() as u64,
            lost_us: slower().map(|latest| latest.lost_us()).fold(0, u64::saturating_add),
            since_us: past.since_us,
        })
    }

    /// Whether a suspect of this database is one beside its neighbours: against the slowest round, for everybody, of those
    /// that its calls were gathered in, the one before and all since. What begins or ends within a round shows in some
    /// statements and not in others: ask when the round behind the suspect's own is over.
    pub fn stands(&self, database: u32, (found, since_us): (Regression, u64)) -> bool {
        let stretches = self.0.get(&database).into_iter().flat_map(|past| &past.stretches);
        let factors = stretches.filter(|stretch| stretch.until_us >= since_us).map(|stretch| stretch.factor);
        found.stands(factors.fold(1.0, f64::max))
    }

    /// A round of all databases has ended: those of which nothing was measured for an hour make room.
    pub fn forget(&mut self, now_us: u64) {
        self.0.retain(|_, past| now_us.saturating_sub(past.seen_us) < REMEMBERED_US);
    }
}

impl Past {
    fn remember(&mut self, factor: f64, now_us: u64) {
        while self.stretches.front().is_some_and(|first| now_us.saturating_sub(first.until_us) > REMEMBERED_US) {
            self.stretches.pop_front();
        }
        if factor <= 1.0 {
            return;
        }
        match self.stretches.back_mut().filter(|last| now_us.saturating_sub(last.from_us) < STRETCH_US) {
            Some(last) => (last.until_us, last.factor) = (now_us, last.factor.max(factor)),
            None => self.stretches.push_back(Stretch { from_us: now_us, until_us: now_us, factor }),
        }
    }
}

/// The factor of the statement in the middle, and how much more that is; of an even number the lower one, so that half of
/// the statements are not yet everybody. Each is a median by itself. `None`: they are too few.
fn middle(measured: &[Measured]) -> Option<(f64, u64)> {
    if measured.len() < MIN_STATEMENTS {
        return None;
    }
    let at = (measured.len() - 1) / 2;
    let mut factors: Vec<f64> = measured.iter().map(|one| one.latest.factor()).collect();
    let excess = |latest: Regression| latest.p95_us.saturating_sub(latest.usual_p95_us);
    let mut excesses: Vec<u64> = measured.iter().map(|one| excess(one.latest)).collect();
    let (_, factor, _) = factors.select_nth_unstable_by(at, f64::total_cmp);
    let (_, excess_us, _) = excesses.select_nth_unstable(at);
    Some((*factor, *excess_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;
    const APP: u32 = 7;

    fn found(usual_ms: u64, ms: u64) -> Regression {
        Regression { usual_p95_us: usual_ms * 1_000, p95_us: ms * 1_000, usual_calls: 1_000, calls: 200 }
    }

    /// Statements that took 4 ms, and take so many times more, or less, now: a hundredth is 1.
    fn round(hundredths: &[u64]) -> Vec<Measured> {
        let one = |hundredths: &u64| Regression { p95_us: 40 * hundredths, ..found(4, 4) };
        hundredths.iter().map(one).map(|latest| Measured { latest, suspect: None }).collect()
    }

    /// Whether each is told of as slower, alone.
    fn alone(slowdowns: &Slowdowns, round: &[Measured], since_us: u64) -> Vec<bool> {
        round.iter().map(|one| slowdowns.stands(APP, (one.latest, since_us))).collect()
    }

    #[test]
    fn what_all_share_is_one_finding_and_what_one_has_for_itself_is_its_own() {
        let all_slow = [900, 1_000, 1_100, 1_200, 800, 950, 4_300];
        for (what, factors, told, together) in [
            ("one among steady ones", &[100, 90, 110, 100, 1_000][..], &[false, false, false, false, true][..], None),
            ("all of them", &all_slow[..6], &[false; 6], Some((9.5, 6, 6))),
            (
                "all, and one much more",
                &all_slow,
                &[false, false, false, false, false, false, true],
                Some((10.0, 7, 7)),
            ),
            ("half", &[1_000, 1_000, 1_000, 100, 100, 100], &[true, true, true, false, false, false], None),
            ("more than half", &[1_000, 1_000, 1_000, 100, 100], &[false; 5], Some((10.0, 5, 3))),
            ("a few statements", &[1_000, 1_000, 1_000, 1_000], &[true; 4], None),
            ("all twice, and one eight times", &[200, 200, 200, 200, 800], &[false, false, false, false, true], None),
            ("all twice, and one five times", &[200, 200, 200, 200, 500], &[false; 5], None),
            ("all faster", &[20, 20, 20, 20, 100], &[false; 5], None),
        ] {
            let measured = round(factors);
            let mut slowdowns = Slowdowns::default();
            assert_eq!(slowdowns.judge(APP, &measured, MINUTE), None, "{what}: it is not sustained");
            assert_eq!(alone(&slowdowns, &measured, 0), told, "{what}");
            let found = slowdowns.judge(APP, &measured, 2 * MINUTE);
            assert_eq!(found.map(|found| (found.factor, found.compared, found.slower)), together, "{what}");
            assert_eq!(alone(&slowdowns, &measured, MINUTE), told, "{what}");
            let mut backwards = measured.clone();
            backwards.reverse();
            let again = slowdowns.judge(APP, &backwards, 3 * MINUTE);
            assert_eq!(again, found.map(|found| Slowdown { since_us: MINUTE, ..found }), "{what}, in another order");
        }
    }

    #[test]
    fn a_few_milliseconds_for_everybody_are_none_though_they_explain() {
        let latest = |ms| Measured { latest: found(1, ms), suspect: None };
        let (mut slowdowns, measured) = (Slowdowns::default(), vec![latest(5); 9]);
        let told = (1..5).filter(|n| slowdowns.judge(APP, &measured, n * MINUTE).is_some()).count();
        assert_eq!(told, 0);
        assert!(!slowdowns.stands(APP, (found(2, 20), 0)) && slowdowns.stands(APP, (found(2, 40), 0)));
        let measured = vec![latest(6); 9];
        let told = (5..9).filter(|n| slowdowns.judge(APP, &measured, n * MINUTE).is_some()).count();
        assert_eq!(told, 3);
    }

    #[test]
    fn calls_gathered_over_several_rounds_are_held_against_the_slowest_of_them() {
        let (mut slowdowns, usual) = (Slowdowns::default(), round(&[100; 5]));
        slowdowns.judge(APP, &round(&[1_000; 5]), MINUTE);
        for minute in 2..=59 {
            slowdowns.judge(APP, &usual, minute * MINUTE);
        }
        let slow = found(4, 40);
        assert!(!slowdowns.stands(APP, (slow, 0)) && !slowdowns.stands(APP, (slow, MINUTE)));
        assert!(slowdowns.stands(APP, (slow, 2 * MINUTE)), "its calls came when everybody was as usual");
        assert!(slowdowns.stands(APP + 1, (slow, 0)), "another database was as usual");
        slowdowns.judge(APP, &usual, 62 * MINUTE);
        assert!(slowdowns.stands(APP, (slow, 0)), "that was an hour ago");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let (mut slowdowns, slow) = (Slowdowns::default(), round(&[1_000; 5]));
        for second in 0..3 * 3_600 {
            slowdowns.judge(APP, &slow, second * 1_000_000);
        }
        assert!(slowdowns.0[&APP].stretches.len() <= 62, "{}", slowdowns.0[&APP].stretches.len());
        slowdowns.judge(APP + 1, &slow, 4 * 3_600 * 1_000_000);
        slowdowns.forget(4 * 3_600 * 1_000_000);
        assert_eq!(slowdowns.0.keys().collect::<Vec<_>>(), [&(APP + 1)]);
    }
}
