//! Statements that have become slower: now and then the server's part of all durations is compared with what it used to be,
//! a few at each look at the rings, so that events do not wait for it. What one has for itself is told a round later: what
//! begins in the middle of a round for everybody shows in some statements first.

use policy::observe::regression::{Baselines, Candidate, Measured, Regression};
use policy::observe::slowdown::{Slowdown, Slowdowns};
use policy::observe::{Notice, Notices, Scope, What};

use crate::telemetry::histogram::{BUCKETS, lower_bound};
use crate::telemetry::{Followed, Telemetry};

/// Statements that are compared at one look: about a millisecond.
const TURN: usize = 256;
/// The database of statements that were not seen in any.
const UNKNOWN: u32 = u32::MAX;

/// The histories, and the round under way.
#[derive(Debug)]
pub(super) struct Slower {
    baselines: Baselines,
    slowdowns: Slowdowns,
    /// When this round began, and the one before.
    looked_us: u64,
    before_us: u64,
    /// What is left of it.
    left: Vec<Followed>,
    /// What came out of it so far.
    measured: Vec<(Measured, Followed)>,
    /// Those of the round before that may be slower, alone.
    held: Vec<Held>,
}

/// A statement that is told of when the next round does not explain it.
#[derive(Debug)]
struct Held {
    database: u32,
    suspect: (Regression, u64),
    began_us: u64,
    statement: Followed,
}

impl Default for Slower {
    fn default() -> Self {
        Self {
            baselines: Baselines::new(middle),
            slowdowns: Slowdowns::default(),
            looked_us: 0,
            before_us: 0,
            left: Vec::new(),
            measured: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Slower {
    /// Goes on with a round, or begins one if so much time has passed; at its end, notes what has become slower.
    pub(super) fn look(&mut self, telemetry: &Telemetry, now_us: u64, every_us: u64, notices: &mut Notices) {
        if self.left.is_empty() {
            if now_us.saturating_sub(self.looked_us) < every_us {
                return;
            }
            self.before_us = std::mem::replace(&mut self.looked_us, now_us);
            self.left = telemetry.followed();
            self.baselines.choose(&mut self.left, candidate, now_us);
        }
        for statement in self.left.drain(self.left.len().saturating_sub(TURN)..) {
            let (strict, tenant) = statement.key;
            let buckets = statement.served().buckets;
            // All of a round are of one moment, however many looks it takes.
            if let Some(measured) = self.baselines.tell((strict, tenant.0), &buckets, self.looked_us) {
                self.measured.push((measured, statement));
            }
        }
        if self.left.is_empty() {
            self.left = Vec::new();
            self.conclude(telemetry, notices);
        }
    }

    /// All statements of the round are known: each is seen beside those of its database.
    fn conclude(&mut self, telemetry: &Telemetry, notices: &mut Notices) {
        let mut all = std::mem::take(&mut self.measured);
        let databases = if all.is_empty() { Default::default() } else { telemetry.callers.databases() };
        let database =
            |(_, statement): &(Measured, Followed)| databases.get(&statement.key).copied().unwrap_or(UNKNOWN);
        all.sort_unstable_by_key(|one| (database(one), one.1.key));
        for together in all.chunk_by(|one, other| database(one) == database(other)) {
            let Some(number) = together.first().map(database) else { continue };
            let measured: Vec<Measured> = together.iter().map(|(measured, _)| *measured).collect();
            if let Some(slowdown) = self.slowdowns.judge(number, &measured, self.looked_us)
                && let Some(notice) = of_all(slowdown, telemetry.callers.name(number), together, telemetry)
            {
                notices.record(notice);
            }
        }
        for Held { database, suspect, began_us, statement } in std::mem::take(&mut self.held) {
            if self.slowdowns.stands(database, suspect) {
                let times = (began_us, statement.last_seen_us);
                notices.record(notice(Scope::default(), &statement, What::Regression(suspect.0), times, telemetry));
            }
        }
        self.held = all
            .into_iter()
            .filter_map(|one| {
                let (database, (measured, statement)) = (database(&one), one);
                let began_us = self.before_us.max(statement.first_seen_us());
                measured.suspect.map(|suspect| Held { database, suspect, began_us, statement })
            })
            .collect();
        self.slowdowns.forget(self.looked_us);
    }
}

/// What a whole database has become, shown by the statement that has lost most; of equals by the first.
fn of_all(
    slowdown: Slowdown,
    database: String,
    together: &[(Measured, Followed)],
    telemetry: &Telemetry,
) -> Option<Notice> {
    let (_, worst) = together.iter().rev().max_by_key(|(measured, _)| measured.latest.lost_us())?;
    let last_us = together.iter().map(|(_, statement)| statement.last_seen_us).max()?;
    let scope = Scope { database, ..Scope::default() };
    let times = (slowdown.since_us, last_us);
    let mut notice = notice(scope, worst, What::Slowdown(slowdown), times, telemetry);
    if together.iter().any(|(_, statement)| statement.key.1 != worst.key.1) {
        notice.tenant.clear();
    }
    Some(notice)
}

fn notice(
    scope: Scope,
    statement: &Followed,
    what: What,
    (began_us, now_us): (u64, u64),
    telemetry: &Telemetry,
) -> Notice {
    let (strict, tenant) = statement.key;
    let tenant = telemetry.tenant_names().name(tenant).to_owned();
    let text = statement.statement().map_or_else(String::new, |statement| statement.text.to_string());
    Notice { scope, tenant, strict, text, what, began_us, now_us }
}

fn candidate(statement: &Followed) -> Candidate {
    let (strict, tenant) = statement.key;
    Candidate { key: (strict, tenant.0), calls: statement.calls, seen_us: statement.last_seen_us }
}

/// What stands for the durations in a bucket, in µs: off by at most a ninth.
fn middle(bucket: usize) -> u64 {
    let low = lower_bound(bucket);
    let high = if bucket + 1 < BUCKETS { lower_bound(bucket + 1) } else { low };
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use policy::finding::Kind;
    use policy::statement::Class;

    use super::*;
    use crate::telemetry::testing::{telemetry_with, tenants, unknown_facts};
    use crate::telemetry::{Bounds, Finished, StatementText};

    const EVERY_US: u64 = 60_000_000;

    #[test]
    fn a_statement_that_becomes_slower_is_noticed_by_the_minute_and_its_neighbour_is_not() {
        let telemetry = telemetry_with(Bounds::default(), tenants(10));
        let worker = telemetry.worker("0");
        let tenant = telemetry.tenants.id("acme").into();
        let text = |strict: u64| StatementText {
            class: Class::Select,
            facts: unknown_facts(strict),
            text: format!("select {strict}").into(),
        };
        let meters = [1, 2].map(|strict| worker.statement(strict, tenant, || text(strict)));
        let run = |meter: usize, us: u64| {
            for _ in 0..150 {
                meters[meter].record(&Finished { start_us: 1, end_us: 1 + us, server_us: us, ..Finished::default() });
            }
        };
        let (mut slower, mut notices) = (Slower::default(), Notices::new(10));
        let start = telemetry.clock.start_us();
        for minute in 0..3 {
            run(0, 4_000);
            run(1, 4_000);
            slower.look(&telemetry, start + minute * EVERY_US, EVERY_US, &mut notices);
        }
        run(0, 40_000);
        run(1, 8_000);
        slower.look(&telemetry, start + 3 * EVERY_US - 1, EVERY_US, &mut notices);
        assert_eq!(notices.findings().count(), 0, "a minute has not passed");
        slower.look(&telemetry, start + 3 * EVERY_US, EVERY_US, &mut notices);
        assert_eq!(notices.findings().count(), 0, "it may be everybody's");
        slower.look(&telemetry, start + 4 * EVERY_US, EVERY_US, &mut notices);
        let found: Vec<_> = notices.drain(start + 4 * EVERY_US).collect();
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((finding.kind, &*finding.tenant, &*finding.child.text), (Kind::Regression, "acme", "select 1"));
    }

    /// Statements of one database or of none, each run a hundred times in a minute.
    struct Stage {
        telemetry: std::sync::Arc<Telemetry>,
        worker: crate::telemetry::WorkerTelemetry,
        slower: Slower,
        notices: Notices,
        minute: u64,
    }

    impl Stage {
        fn new() -> Self {
            let telemetry = telemetry_with(Bounds::default(), tenants(10));
            let (worker, slower, notices) = (telemetry.worker("0"), Slower::default(), Notices::new(10_000));
            Self { telemetry, worker, slower, notices, minute: 0 }
        }

        /// Each of these is run by this tenant, and takes so long in all and in the server.
        fn run(&self, statements: impl IntoIterator<Item = u64>, tenant: &str, (us, server_us): (u64, u64)) {
            for strict in statements {
                let text = || StatementText {
                    class: Class::Select,
                    facts: unknown_facts(strict),
                    text: format!("select {strict}").into(),
                };
                let meter = self.worker.statement(strict, self.telemetry.tenants.id(tenant).into(), text);
                let finished = Finished { start_us: 1, end_us: 1 + us, server_us, ..Finished::default() };
                (0..100).for_each(|_| meter.record(&finished));
            }
        }

        fn look(&mut self) {
            let now_us = self.telemetry.clock.start_us() + self.minute * EVERY_US;
            self.slower.look(&self.telemetry, now_us, EVERY_US, &mut self.notices);
        }

        /// The minute is over: what is told, by kind, fingerprint and how often it was seen.
        fn minute(&mut self) -> Vec<(Kind, String, u64)> {
            self.look();
            self.minute += 1;
            let now_us = self.telemetry.clock.start_us() + self.minute * EVERY_US;
            let told = self.notices.drain(now_us);
            let mut told: Vec<_> =
                told.map(|found| (found.kind, found.child.text.clone(), found.occurrences)).collect();
            told.sort();
            told
        }
    }

    #[test]
    fn many_statements_are_compared_over_several_looks_and_told_when_all_are_known() {
        let mut stage = Stage::new();
        let all = 2 * TURN as u64 + 1;
        for (slow_us, expected) in [(4_000, [0; 4]), (40_000, [0; 4]), (4_000, [0, 0, TURN, TURN])] {
            stage.run(1..=TURN as u64, "acme", (slow_us, slow_us));
            stage.run(TURN as u64 + 1..=all, "acme", (4_000, 4_000));
            let found = [0, 1, 2, 3].map(|_| {
                stage.look();
                stage.notices.findings().count()
            });
            assert_eq!(found, expected);
            stage.minute += 1;
        }
        assert!(stage.notices.findings().all(|found| found.kind == Kind::Regression));
    }

    #[test]
    fn what_all_of_a_database_share_is_told_once_and_what_one_has_for_itself_by_itself() {
        let mut stage = Stage::new();
        for strict in 1..=6 {
            stage.telemetry.callers.note(strict, stage.telemetry.tenants.id("acme").into(), "web", "app", 1);
        }
        stage.run(1..=6, "acme", (4_000, 4_000));
        // Of another database, with a pace of its own.
        stage.run(11..=16, "acme", (4_000, 4_000));
        assert_eq!(stage.minute(), []);
        for told in [vec![], vec![(Kind::Slowdown, "select 1".to_owned(), 1)]] {
            stage.run(1..=6, "acme", (40_000, 40_000));
            stage.run(11..=16, "acme", (4_000, 4_000));
            assert_eq!(stage.minute(), told);
        }
        stage.run(1..=5, "acme", (40_000, 40_000));
        stage.run([6], "acme", (400_000, 400_000));
        stage.run(11..=15, "acme", (4_000, 4_000));
        stage.run([16], "acme", (40_000, 40_000));
        assert_eq!(stage.minute(), [(Kind::Slowdown, "select 6".to_owned(), 2)]);
        let alone = |strict: u64| (Kind::Regression, format!("select {strict}"), 1);
        assert_eq!(stage.minute(), [alone(16), alone(6)]);
        let found = stage.notices.findings().find(|found| found.kind == Kind::Slowdown).unwrap();
        assert_eq!((&*found.database, &*found.tenant), ("app", "acme"));
    }

    #[test]
    fn what_begins_or_ends_for_everybody_in_the_middle_of_a_round_is_nobody_s_own() {
        let mut stage = Stage::new();
        let (usual, slow) = ((4_000, 4_000), (40_000, 40_000));
        // Of seven, three show it in the round that it begins in, and two in the one that it ends in.
        for slower in [0, 3, 7, 2, 0, 0] {
            stage.run(1..=slower, "acme", slow);
            stage.run(slower + 1..=7, "acme", usual);
            assert_eq!(stage.minute(), [], "{slower} are slow");
        }
        for slower in [1, 0] {
            stage.run(1..=slower, "acme", slow);
            stage.run(slower + 1..=7, "acme", usual);
            assert_eq!(stage.minute().len(), 1 - slower as usize, "{slower} are slow");
        }
    }

    #[test]
    fn of_several_tenants_statements_nobody_in_particular_is_told() {
        let mut stage = Stage::new();
        for us in [4_000, 40_000, 40_000] {
            stage.run(1..=5, "acme", (us, us));
            stage.run(1..=5, "beta", (us, us));
            stage.minute();
        }
        let tenants: Vec<_> = stage.notices.findings().map(|found| (found.kind, &*found.tenant)).collect();
        assert_eq!(tenants, [(Kind::Slowdown, "")]);
    }

    #[test]
    fn waiting_for_a_server_or_a_client_is_not_the_statement_s() {
        let mut stage = Stage::new();
        for (us, told) in [(4_000, 0), (400_000, 0), (400_000, 0)] {
            stage.run([1], "acme", (us, 4_000));
            assert_eq!(stage.minute().len(), told);
        }
        stage.run([1], "acme", (400_000, 40_000));
        assert_eq!([stage.minute().len(), stage.minute().len()], [0, 1]);
    }
}
