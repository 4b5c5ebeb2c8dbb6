//! Statements that have become slower: once a minute all durations are compared with what they used to be.

use policy::observe::regression::Baselines;
use policy::observe::{Notice, Notices, Scope, What};

use crate::telemetry::Telemetry;
use crate::telemetry::histogram::{BUCKETS, lower_bound};

/// Between two looks at the statistics.
const EVERY_US: u64 = 60_000_000;

/// The histories, and when they were looked at last.
#[derive(Debug)]
pub(super) struct Slower {
    baselines: Baselines,
    looked_us: u64,
}

impl Default for Slower {
    fn default() -> Self {
        Self { baselines: Baselines::new(middle), looked_us: 0 }
    }
}

impl Slower {
    /// Compares, if a minute has passed, and notes what has become slower.
    pub(super) fn look(&mut self, telemetry: &Telemetry, now_us: u64, notices: &mut Notices) {
        if now_us.saturating_sub(self.looked_us) < EVERY_US {
            return;
        }
        let began_us = std::mem::replace(&mut self.looked_us, now_us);
        let names = telemetry.tenant_names();
        // The row of all others is no statement.
        for row in telemetry.statements().iter().filter(|row| row.text.facts.strict != 0) {
            let strict = row.text.facts.strict;
            if let Some(found) = self.baselines.tell(strict, row.tenant.0, &row.durations.buckets, now_us) {
                notices.record(Notice {
                    scope: Scope::default(),
                    tenant: names.name(row.tenant).to_owned(),
                    strict,
                    text: row.text.text.to_string(),
                    what: What::Regression(found),
                    began_us: began_us.max(row.first_seen_us),
                    now_us: row.last_seen_us,
                });
            }
        }
    }
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
            slower.look(&telemetry, start + minute * EVERY_US, &mut notices);
        }
        run(0, 40_000);
        run(1, 8_000);
        slower.look(&telemetry, start + 3 * EVERY_US - 1, &mut notices);
        assert_eq!(notices.findings().count(), 0, "a minute has not passed");
        slower.look(&telemetry, start + 3 * EVERY_US, &mut notices);
        let found: Vec<_> = notices.drain(start + 3 * EVERY_US).collect();
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((finding.kind, &*finding.tenant, &*finding.child.text), (Kind::Regression, "acme", "select 1"));
    }
}
