//! Statements that have become slower: now and then all durations are compared with what they used to be, a few at each
//! look at the rings, so that events do not wait for it.

use policy::observe::regression::{Baselines, Candidate};
use policy::observe::{Notice, Notices, Scope, What};

use crate::telemetry::histogram::{BUCKETS, lower_bound};
use crate::telemetry::{Followed, Telemetry};

/// Statements that are compared at one look: about a millisecond.
const TURN: usize = 256;

/// The histories, and the round under way.
#[derive(Debug)]
pub(super) struct Slower {
    baselines: Baselines,
    /// When this round began, and the one before.
    looked_us: u64,
    before_us: u64,
    /// What is left of it.
    left: Vec<Followed>,
}

impl Default for Slower {
    fn default() -> Self {
        Self { baselines: Baselines::new(middle), looked_us: 0, before_us: 0, left: Vec::new() }
    }
}

impl Slower {
    /// Goes on with a round, or begins one if so much time has passed, and notes what has become slower.
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
            let buckets = statement.durations().buckets;
            if let Some(found) = self.baselines.tell((strict, tenant.0), &buckets, now_us) {
                notices.record(Notice {
                    scope: Scope::default(),
                    tenant: telemetry.tenant_names().name(tenant).to_owned(),
                    strict,
                    text: statement.statement().map_or_else(String::new, |statement| statement.text.to_string()),
                    what: What::Regression(found),
                    began_us: self.before_us.max(statement.first_seen_us()),
                    now_us: statement.last_seen_us,
                });
            }
        }
        if self.left.is_empty() {
            self.left = Vec::new();
        }
    }
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
                meters[meter].record(&Finished { start_us: 1, end_us: 1 + us, ..Finished::default() });
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
        let found: Vec<_> = notices.drain(start + 3 * EVERY_US).collect();
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((finding.kind, &*finding.tenant, &*finding.child.text), (Kind::Regression, "acme", "select 1"));
    }

    #[test]
    fn many_statements_are_compared_over_several_looks() {
        let telemetry = telemetry_with(Bounds::default(), tenants(10));
        let worker = telemetry.worker("0");
        let tenant = telemetry.tenants.id("acme").into();
        let text =
            |strict: u64| StatementText { class: Class::Select, facts: unknown_facts(strict), text: "select".into() };
        let all = 1..=2 * TURN as u64 + 1;
        let run = |us: u64| {
            for meter in all.clone().map(|strict| worker.statement(strict, tenant, || text(strict))) {
                (0..100).for_each(|_| meter.record(&Finished { start_us: 1, end_us: 1 + us, ..Finished::default() }));
            }
        };
        let (mut slower, mut notices) = (Slower::default(), Notices::new(10_000));
        let start = telemetry.clock.start_us();
        for (minute, us) in [(0, 4_000), (1, 40_000)] {
            run(us);
            let now_us = start + minute * EVERY_US;
            let found = [0, 1, 2, 3].map(|look| {
                slower.look(&telemetry, now_us + look, EVERY_US, &mut notices);
                notices.findings().count()
            });
            let expected = if minute == 0 { [0; 4] } else { [TURN, 2 * TURN, 2 * TURN + 1, 2 * TURN + 1] };
            assert_eq!(found, expected);
        }
    }
}
