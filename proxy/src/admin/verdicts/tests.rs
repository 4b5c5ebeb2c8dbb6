//! What follows from which facts.

use std::time::Duration;

use super::*;
use crate::analyst::finding;

const NOW: u64 = 1_000_000_000_000;

fn pool() -> PoolState {
    PoolState {
        database: "app".into(),
        user: "u".into(),
        size: 4,
        open: 4,
        queue_timeout: Duration::from_secs(10),
        ..PoolState::default()
    }
}

fn of(pool: PoolState) -> Vec<Verdict> {
    let since = PoolSince { down: Some(1), waiting: Some(2), paused: Some(3), disabled: Some(4) };
    verdicts(&Facts { now_us: NOW, pools: vec![(pool, since)], ..Facts::default() })
}

fn told(verdicts: &[Verdict]) -> Vec<(&str, Severity)> {
    verdicts.iter().map(|verdict| (verdict.kind, verdict.severity)).collect()
}

#[test]
fn nothing_is_wrong_and_what_was_looked_at_is_told() {
    assert_eq!(verdicts(&Facts::default()), []);
    assert_eq!(of(pool()), []);
    assert!(checked(false).len() == 11 && checked(true).len() == 3);
}

#[test]
fn who_waits_long_makes_it_worse() {
    let waits = |ms: u64, open: usize| {
        of(PoolState { waiting: 2, waiting_for: Some(Duration::from_millis(ms)), open, ..pool() })
    };
    assert_eq!(told(&waits(999, 4)), []);
    assert_eq!(told(&waits(1_000, 4)), [("pool_exhausted", Severity::Warning)]);
    assert_eq!(told(&waits(4_999, 3)), [("pool_waiting", Severity::Warning)]);
    let long = waits(5_000, 4);
    assert_eq!(told(&long), [("pool_exhausted", Severity::Critical)]);
    assert_eq!(
        (long[0].since_us, long[0].database.as_deref(), long[0].user.as_deref()),
        (Some(2), Some("app"), Some("u"))
    );
    assert!(long[0].evidence.contains("2 wait, the first of them for 5s; 4 of 4"), "{}", long[0].evidence);
    let patient = PoolState { queue_timeout: Duration::from_secs(4), waiting: 1, ..pool() };
    let patient = PoolState { waiting_for: Some(Duration::from_secs(2)), ..patient };
    assert_eq!(told(&of(patient)), [("pool_exhausted", Severity::Critical)], "half of its patience");
}

#[test]
fn a_server_that_is_down_is_critical_when_nobody_is_served_any_more() {
    let down = |open| PoolState { failures: 3, failure: Some("the connection was refused".into()), open, ..pool() };
    assert_eq!(told(&of(down(1))), [("server_down", Severity::Warning)]);
    let dead = of(down(0));
    assert_eq!((told(&dead), dead[0].since_us), (vec![("server_down", Severity::Critical)], Some(1)));
    assert!(dead[0].evidence.contains("3 attempts") && dead[0].evidence.contains("refused"), "{}", dead[0].evidence);
}

#[test]
fn what_an_operator_has_switched_off_is_told_once_for_each_database() {
    let paused = |waiting| of(PoolState { paused: true, waiting, waiting_for: Some(Duration::from_secs(9)), ..pool() });
    assert_eq!(told(&paused(0)), [("paused", Severity::Notice)]);
    assert_eq!(told(&paused(3)), [("paused", Severity::Warning)], "that they wait is what a pause is for");
    assert_eq!(told(&of(PoolState { disabled: true, ..pool() })), [("disabled", Severity::Notice)]);
    let two = [pool(), PoolState { user: "v".into(), ..pool() }];
    let two = two.map(|pool| (PoolState { paused: true, ..pool }, PoolSince::default()));
    assert_eq!(verdicts(&Facts { pools: two.into(), ..Facts::default() }).len(), 1);
}

#[test]
fn suspend_is_told_with_its_begin_and_who_waits() {
    let pools = vec![(PoolState { waiting: 2, ..pool() }, PoolSince::default())];
    let all = verdicts(&Facts { suspended: Some(Some(7)), pools, ..Facts::default() });
    assert_eq!((told(&all), all[0].since_us), (vec![("suspended", Severity::Warning)], Some(7)));
    assert!(all[0].evidence.starts_with("2 clients wait"), "{}", all[0].evidence);
}

#[test]
fn errors_are_told_when_there_are_many_and_more_than_before() {
    let of = |recent, before| {
        let all = verdicts(&Facts { recent, before, ..Facts::default() });
        all.first().map(|verdict| (verdict.kind, verdict.severity))
    };
    assert_eq!(of((1_000, 19), (0, 0)), None, "too few");
    assert_eq!(of((10_000, 99), (0, 0)), None, "less than one in a hundred");
    assert_eq!(of((1_000, 20), (10_000, 0)), Some(("error_rate", Severity::Warning)));
    assert_eq!(of((1_000, 20), (10_000, 100)), None, "twice as many as usual");
    assert_eq!(of((1_000, 30), (10_000, 100)), Some(("error_rate", Severity::Warning)));
    assert_eq!(of((1_000, 100), (10_000, 0)), Some(("error_rate", Severity::Critical)));
    assert_eq!(of((0, 0), (0, 0)), None);
}

#[test]
fn findings_are_added_up_by_kind_with_the_worst_in_front() {
    let mut worst = Kept::new(finding("b", "beta", 2));
    worst.finding.wasted_ms = 1e6;
    let findings = vec![Kept::new(finding("a", "acme", 1)), worst];
    let all = verdicts(&Facts { findings, ..Facts::default() });
    assert_eq!(told(&all), [("findings", Severity::Warning)]);
    assert_eq!((all[0].tenant.as_deref(), all[0].numbers[0]), (Some("beta"), ("findings", 2.0)));
    assert_eq!(all[0].link, "/findings?kind=n_plus_one");
}

#[test]
fn a_tenant_hears_of_its_own_limits_alone() {
    let episode = Episode { began_us: NOW - 5, last_us: NOW - 1, count: 3, ..Episode::default() };
    let old = Episode { last_us: NOW - 400_000_000, ..episode };
    let key = |tenant: &str, key| (tenant.to_owned(), key);
    let limits: BTreeMap<_, _> =
        [(key("acme", "max_rows"), episode), (key("acme", "max_bytes"), old), (key("beta", "max_rows"), episode)]
            .into();
    let all = verdicts(&Facts { now_us: NOW, limits: limits.clone(), ..Facts::default() });
    assert_eq!(all.iter().map(|verdict| verdict.tenant.as_deref()).collect::<Vec<_>>(), [Some("acme"), Some("beta")]);
    let own = verdicts(&Facts { now_us: NOW, limits, tenant: Some("acme".into()), ..Facts::default() });
    assert_eq!((own.len(), own[0].what.as_str()), (1, "Tenant acme reaches its max_rows"));
    assert_eq!((&*all[0].link, &*own[0].link), ("/limits", "/tenants/acme"), "whoever is told can follow the link");
}

#[test]
fn a_table_of_tenants_that_cannot_be_read_or_has_wrong_rows_is_told() {
    let of = |table: Standing| verdicts(&Facts { now_us: NOW, tenant_table: Some(table), ..Facts::default() });
    let well = Standing { database: "app".into(), tenants: 9, ..Standing::default() };
    assert_eq!(told(&of(well.clone())), []);
    let wrong = Standing { wrong: 2, told: vec![("acme".into(), "max_row: no".into())], ..well };
    let all = of(wrong.clone());
    assert_eq!(told(&all), [("tenant_table", Severity::Warning)]);
    assert_eq!((&*all[0].evidence, all[0].numbers[1]), ("acme: max_row: no", ("wrong_rows", 2.0)));
    let all = of(Standing { trouble: Some("refused".into()), ..wrong });
    assert_eq!((told(&all).len(), &*all[0].evidence), (1, "app: refused"));
}

#[test]
fn the_worst_comes_first_and_of_equals_what_lasts_longest() {
    let episode = Episode { began_us: NOW - 5, last_us: NOW - 1, count: 3, ..Episode::default() };
    let all = verdicts(&Facts {
        now_us: NOW,
        short_of_memory: Some(Some(9)),
        draining: Some(Some(8)),
        reload: Some((Some(7), "pgweir.toml:4: no such key".into())),
        losses: [("log lines", episode), ("findings", Episode::default())].into(),
        pools: vec![(
            PoolState { failures: 1, open: 0, ..pool() },
            PoolSince { down: Some(3), ..PoolSince::default() },
        )],
        ..Facts::default()
    });
    assert_eq!(
        told(&all),
        [
            ("server_down", Severity::Critical),
            ("memory", Severity::Critical),
            ("reload_failed", Severity::Warning),
            ("draining", Severity::Notice),
            ("overflow", Severity::Notice),
        ]
    );
    assert_eq!(all[2].evidence, "pgweir.toml:4: no such key");
}
