use std::collections::BTreeMap;

use config::{LimitKey, LimitValue, Limits, Mode, Tenants};

use super::*;
use crate::tenant::{ClassId, Directory, TenantId};

const SECOND: Duration = Duration::from_secs(1);

fn tenants(limits: &[(&str, u64)]) -> Tenants {
    let of = |seconds: u64| Limits::default().with_time(LimitKey::StatementTimeout, SECOND * seconds as u32);
    Tenants {
        max_tenants: 2,
        default_limits: of(30),
        limits: limits.iter().map(|(name, seconds)| ((*name).to_owned(), of(*seconds))).collect::<BTreeMap<_, _>>(),
        ..Tenants::default()
    }
}

fn timeout_of(table: &LimitTable, tenant: TenantId) -> Option<Duration> {
    table.of(tenant, ClassId::NONE).enforced_timeout()
}

#[test]
fn each_tenant_has_its_own_limits_and_strangers_the_default() {
    let settings = tenants(&[("acme", 5), ("batch", 60)]);
    let directory = Directory::new(&settings);
    let table = LimitTable::new(&settings, &directory);
    for (name, seconds) in [("acme", 5), ("batch", 60), ("default", 30), ("new", 30), ("newer", 30), ("too many", 30)] {
        assert_eq!(timeout_of(&table, directory.id(name)), Some(SECOND * seconds), "{name}");
    }
    assert_eq!(timeout_of(&table, TenantId::OTHER), Some(SECOND * 30));
}

#[test]
fn a_reload_gives_limits_to_a_tenant_that_was_met_before() {
    let directory = Directory::new(&tenants(&[]));
    let id = directory.id("acme");
    let settings = tenants(&[("acme", 5)]);
    directory.reload(&settings);
    assert_eq!(directory.id("acme"), id);
    assert_eq!(timeout_of(&LimitTable::new(&settings, &directory), id), Some(SECOND * 5));
}

#[test]
fn each_table_wins_over_those_before_it_and_says_so() {
    let count = |key, number| Limits::default().with_count(key, number);
    let settings = Tenants {
        default_limits: count(LimitKey::MaxRows, 10).with_count(LimitKey::MaxClients, 7),
        class_limits: BTreeMap::from([(
            "worker".to_owned(),
            count(LimitKey::MaxRows, 20).with(LimitKey::Mode, LimitValue::Mode(Mode::Observe)),
        )]),
        limits: BTreeMap::from([(
            "acme".to_owned(),
            count(LimitKey::MaxRows, 30).with_mode(LimitKey::MaxRows, Mode::Warn).with_count(LimitKey::MaxClients, 0),
        )]),
        fingerprints: BTreeMap::from([(9, count(LimitKey::MaxRows, 40))]),
        ..Tenants::default()
    };
    let directory = Directory::new(&settings);
    let table = LimitTable::new(&settings, &directory);
    let (acme, worker) = (directory.id("acme"), ClassId::at(1));
    let rows = |tenant, class| table.of(tenant, class).max_rows.map(|bound| (bound.at, bound.mode));
    assert_eq!(rows(TenantId::OTHER, ClassId::NONE), Some((10, Mode::Enforce)));
    assert_eq!(rows(TenantId::OTHER, worker), Some((20, Mode::Observe)));
    assert_eq!(rows(acme, ClassId::NONE), Some((30, Mode::Warn)));
    assert_eq!(rows(acme, ClassId::at(9)), Some((30, Mode::Warn)), "a class that a reload took away");
    assert_eq!(table.of(acme, worker).max_clients, None);
    let statement = table.of_statement("acme", "worker", 9).unwrap();
    assert_eq!(statement.max_rows.map(|bound| (bound.at, bound.mode)), Some((40, Mode::Warn)));
    assert_eq!(statement.max_clients, None, "only what its own table says");
    assert!(table.limits_statement(9) && !table.limits_statement(8));
    assert_eq!(table.of_statement("acme", "worker", 8), None);

    // Both are told, each in its mode: what is said of the statement stands beside what is said of its tenant.
    let explained = table.explain("acme", "worker");
    let of = |key| explained.iter().find(|limit| limit.key == key).unwrap().clone();
    let rows = of(LimitKey::MaxRows);
    assert_eq!(
        (rows.value, rows.from, rows.mode),
        (Some(LimitValue::Count(30)), Layer::Tenant("acme".to_owned()), Some(Mode::Warn))
    );
    let own = table.explain_statement("acme", "worker", 9);
    let own: Vec<_> = own.into_iter().map(|limit| (limit.key, limit.value, limit.from, limit.mode)).collect();
    let rows = (LimitKey::MaxRows, Some(LimitValue::Count(40)), Layer::Fingerprint(9), Some(Mode::Warn));
    assert_eq!((own, table.explain_statement("acme", "worker", 8)), (vec![rows], Vec::new()));
    let clients = of(LimitKey::MaxClients);
    assert_eq!((clients.value, clients.from), (None, Layer::Tenant("acme".to_owned())));
    assert_eq!(of(LimitKey::Weight).from, Layer::Usual);
    assert_eq!(explained.len(), LimitKey::ALL.len() - 1);
}

#[test]
fn what_a_class_has_of_a_pool_stands_beside_what_its_tenant_has() {
    let part =
        |weight, most| Limits::default().with_count(LimitKey::Weight, weight).with_count(LimitKey::MaxUpstreams, most);
    let observe = |limits: Limits| limits.with(LimitKey::Mode, LimitValue::Mode(Mode::Observe));
    let settings = Tenants {
        default_limits: Limits::default().with_count(LimitKey::MaxUpstreams, 9).with_count(LimitKey::MaxWaiting, 50),
        class_limits: BTreeMap::from([
            ("batch".to_owned(), part(10, 2)),
            ("free".to_owned(), observe(Limits::default().with_count(LimitKey::MaxUpstreams, 0))),
        ]),
        limits: BTreeMap::from([("acme".to_owned(), part(2, 4)), ("seen".to_owned(), observe(part(3, 5)))]),
        ..Tenants::default()
    };
    let directory = Directory::new(&settings);
    let table = LimitTable::new(&settings, &directory);
    let bound = |at, mode| Some(Bound { at, mode });
    let class = |name: &str| if name.is_empty() { ClassId::NONE } else { directory.class(name) };
    for (tenant, class_name, whole, part) in [
        ("other", "", (1, bound(9, Mode::Enforce)), (0, None)),
        ("other", "batch", (1, bound(9, Mode::Enforce)), (10, bound(2, Mode::Enforce))),
        ("acme", "batch", (2, bound(4, Mode::Enforce)), (10, bound(2, Mode::Enforce))),
        // A class neither takes away nor loosens what holds for all of its tenant.
        ("acme", "free", (2, bound(4, Mode::Enforce)), (1, None)),
        ("seen", "batch", (3, bound(5, Mode::Observe)), (10, bound(2, Mode::Observe))),
    ] {
        let own = table.of(directory.known(tenant).unwrap_or(TenantId::OTHER), class(class_name));
        assert_eq!((own.weight, own.max_upstreams), whole, "{tenant} {class_name}");
        assert_eq!((own.class.weight, own.class.max_upstreams), part, "{tenant} {class_name}");
    }
    let explained = table.explain("acme", "batch");
    let said = explained.iter().filter(|limit| limit.key == LimitKey::MaxUpstreams);
    let said: Vec<_> = said.map(|limit| (limit.value.clone(), limit.from.shown(), limit.is_of_class())).collect();
    assert_eq!(
        said,
        [
            (Some(LimitValue::Count(4)), "[tenant.limits.acme]".to_owned(), false),
            (Some(LimitValue::Count(2)), "[tenant.class.batch]".to_owned(), true),
        ]
    );
    let rule = |class, key| table.limited("acme", class, key, None).rule;
    assert_eq!(&*rule("batch", LimitKey::MaxUpstreams), "[tenant.class.batch]");
    assert_eq!(&*rule("batch", LimitKey::MaxWaiting), "[tenant.default]");
    assert_eq!(&*rule("free", LimitKey::MaxUpstreams), "[tenant.limits.acme]");
}

#[test]
fn a_class_has_its_own_limits_whatever_comes_before_it_in_a_reload() {
    let rows = |number| Limits::default().with_count(LimitKey::MaxRows, number);
    let with = |classes: &[(&str, u64)]| Tenants {
        class_limits: classes.iter().map(|(name, number)| ((*name).to_owned(), rows(*number))).collect(),
        limits: BTreeMap::from([("acme".to_owned(), Limits::default())]),
        ..Tenants::default()
    };
    let first = with(&[("worker", 5)]);
    let directory = Directory::new(&first);
    let (acme, worker) = (directory.id("acme"), directory.class("worker"));
    let of = |table: &LimitTable, class| table.of(acme, class).max_rows.map(|bound| bound.at);
    assert_eq!(of(&LimitTable::new(&first, &directory), worker), Some(5));
    for (classes, own) in [(&[("batch", 7), ("worker", 6)][..], Some(6)), (&[("batch", 7)], None), (&[], None)] {
        let settings = with(classes);
        directory.reload(&settings);
        let table = LimitTable::new(&settings, &directory);
        assert_eq!((of(&table, worker), of(&table, ClassId::NONE)), (own, None), "{classes:?}");
    }
}

#[test]
fn what_is_off_is_no_limit() {
    let limits = Limits::default()
        .with_count(LimitKey::MaxRows, 10)
        .with_count(LimitKey::MaxStatements, 10)
        .with_mode(LimitKey::MaxRows, Mode::Off);
    let effective = Effective::of(&[&limits]);
    assert_eq!((effective.max_rows, effective.judges_rows(), effective.judges_statements()), (None, false, true));
    assert_eq!(Effective::of(&[]), Effective { weight: 1, ..Effective::default() });
}

#[test]
fn tables_are_allowed_by_name() {
    let limits = Limits::default()
        .with(LimitKey::Tables, LimitValue::Names(["runs", "audit.*", "public.steps"].map(str::to_owned).to_vec()));
    let tables = Effective::of(&[&limits]).tables.unwrap();
    for (name, allowed) in [
        ("runs", true),
        ("runs2", false),
        ("audit.log", true),
        ("public.steps", true),
        ("steps", false),
        ("users", false),
    ] {
        assert_eq!(tables.allow(name), allowed, "{name}");
    }
}

#[test]
fn the_lower_of_wish_and_limit_wins_and_zero_is_none() {
    let zero = Some(Duration::ZERO);
    for (wish, limit, effective) in [
        (None, None, None),
        (None, Some(SECOND), Some(SECOND)),
        (Some(SECOND), None, Some(SECOND)),
        (Some(SECOND), Some(SECOND * 2), Some(SECOND)),
        (Some(SECOND * 3), Some(SECOND * 2), Some(SECOND * 2)),
        (zero, Some(SECOND), Some(SECOND)),
        (Some(SECOND), zero, Some(SECOND)),
        (zero, zero, None),
    ] {
        assert_eq!(statement_timeout(wish, limit), effective, "{wish:?} {limit:?}");
    }
}

#[test]
fn the_servers_value_is_never_an_accidental_zero() {
    for (timeout, millis) in [
        (None, 0),
        (Some(Duration::ZERO), 0),
        (Some(Duration::from_nanos(1)), 1),
        (Some(Duration::from_micros(1)), 1),
        (Some(Duration::from_micros(1500)), 2),
        (Some(SECOND), 1000),
        (Some(Duration::MAX), i32::MAX as u32),
    ] {
        assert_eq!(server_value(timeout), millis, "{timeout:?}");
    }
}

#[test]
fn a_deadline_cancels_once_the_server_had_its_chance_and_closes_later() {
    let now = Instant::now();
    let deadline = Deadline::new(Some(SECOND), now).unwrap();
    assert_eq!((deadline.limit(), deadline.key()), (SECOND, LimitKey::StatementTimeout));
    let own = Deadline::own(LimitKey::RequestTimeout, Some(SECOND), now, now);
    assert_eq!(own.map(|own| own.due(now + SECOND)), Some(Due::Cancel));
    assert_eq!(Deadline::sooner(Some(deadline), own), own);
    assert_eq!(Deadline::sooner(Some(deadline), None), Some(deadline));
    for (millis, due) in [
        (0, Due::Nothing),
        (1000, Due::Nothing),
        (1249, Due::Nothing),
        (1250, Due::Cancel),
        (2999, Due::Cancel),
        (3000, Due::Close),
        (99_999, Due::Close),
    ] {
        assert_eq!(deadline.due(now + Duration::from_millis(millis)), due, "{millis}");
    }
    assert_eq!(Deadline::new(None, now), None);
    assert_eq!(Deadline::new(Some(Duration::ZERO), now), None);
    assert_eq!(Deadline::new(Some(Duration::MAX), now), None);
}

#[test]
fn the_first_of_those_that_begin_together_is_the_one_that_comes_first_by_itself() {
    let now = Instant::now();
    let limits = [None, Some(Duration::ZERO)]
        .into_iter()
        .chain([1, 750, 1_000, 1_250, 60_000].map(|ms| Some(Duration::from_millis(ms))));
    let keys = [LimitKey::StatementTimeout, LimitKey::RequestTimeout, LimitKey::TransactionTimeout];
    for server in limits.clone() {
        for a in limits.clone() {
            for b in limits.clone() {
                for c in limits.clone() {
                    let own = [(keys[0], a), (keys[1], b), (keys[2], c)];
                    let each = own.map(|(key, limit)| Deadline::own(key, limit, now, now));
                    let one_by_one = each.into_iter().fold(Deadline::new(server, now), Deadline::sooner);
                    assert_eq!(Deadline::first(server, own, now), one_by_one, "{server:?} {own:?}");
                }
            }
        }
    }
}

#[test]
fn a_deadline_is_of_the_clock_that_never_jumps() {
    // What has passed counts, and no time of day: the same distance is due wherever on that clock it begins.
    let origin = Instant::now();
    for begun in [origin, origin + Duration::from_secs(1), origin + Duration::from_secs(400 * 24 * 3600)] {
        let limit = Some(Duration::from_secs(2));
        let deadline = Deadline::own(LimitKey::RequestTimeout, limit, begun, begun).unwrap();
        let due = |ms| deadline.due(begun + Duration::from_millis(ms));
        assert_eq!(
            [due(0), due(1_999), due(2_000), due(3_999), due(4_000)],
            [Due::Nothing, Due::Nothing, Due::Cancel, Due::Cancel, Due::Close]
        );
        // Who looks with an older `now` than the one that it was made with finds nothing due, and nothing breaks.
        assert_eq!(deadline.due(begun - Duration::from_millis(500)), Due::Nothing);
    }
}

#[test]
fn clients_may_lower_their_timeout_and_never_raise_it() {
    let limit = Some(SECOND * 5);
    for (value, limit, verdict) in [
        ("3s", limit, Clamp::Pass),
        ("5000", limit, Clamp::Pass),
        ("5001", limit, Clamp::Lower(SECOND * 5)),
        ("1h", limit, Clamp::Lower(SECOND * 5)),
        ("0", limit, Clamp::Lower(SECOND * 5)),
        ("0.4", limit, Clamp::Lower(SECOND * 5)),
        ("0x1388", limit, Clamp::Pass),
        ("-0x0", limit, Clamp::Lower(SECOND * 5)),
        ("0x1.8p30", limit, Clamp::Lower(SECOND * 5)),
        ("-1", limit, Clamp::Invalid),
        ("soon", limit, Clamp::Invalid),
        ("1h", None, Clamp::Pass),
        ("0", None, Clamp::Pass),
        ("0", Some(Duration::ZERO), Clamp::Pass),
    ] {
        assert_eq!(clamp(value, limit), verdict, "{value} {limit:?}");
    }
}

/// Each of these was put to PostgreSQL 15's `SET statement_timeout` and read back from pg_settings.
#[test]
fn times_read_as_the_server_does() {
    for (text, millis) in [
        ("0", 0),
        ("500", 500),
        ("+5", 5),
        ("-0", 0),
        (" 500 ", 500),
        ("5s", 5_000),
        ("5 s", 5_000),
        ("1min", 60_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1500us", 2),
        ("2500us", 2),
        ("499us", 0),
        ("1.5s", 1_500),
        (".5s", 500),
        ("5.s", 5_000),
        ("1.4", 1),
        ("0.11min", 7_000),
        ("1e3", 1_000),
        ("1e-3s", 1),
        ("0x10", 16),
        ("-0x0", 0),
        ("-00", 0),
        ("0x10.8", 16),
        ("0x1.8p3s", 12_000),
        ("0x10.p1", 32),
        ("0x10 s", 16_000),
        ("010", 8),
        ("010.5s", 10_500),
        ("2147483647", 2_147_483_647),
    ] {
        assert_eq!(parse_guc_time(text), Ok(Duration::from_millis(millis)), "{text:?}");
    }
    for text in [
        "",
        " ",
        "s",
        "-1",
        "-5s",
        "5S",
        "5 minutes",
        "5m",
        "1h30m",
        "2147483648",
        "25d",
        "1e400",
        "nan",
        "inf",
        "0x",
        "5 5",
        "08",
        ".",
        "'5s'",
        "5\u{a0}s",
        "1_000",
    ] {
        assert_eq!(parse_guc_time(text), Err(BadTime), "{text:?}");
    }
}

#[test]
fn a_table_that_says_0_lifts_what_the_pool_says_of_silence_and_one_that_says_nothing_does_not() {
    let said = |time: Duration| Limits::default().with(LimitKey::IdleInTransactionTimeout, LimitValue::Time(time));
    let (none, some) = (said(Duration::ZERO), said(SECOND));
    let lifted = |layers: &[&Limits]| {
        let limits = Effective::of(layers);
        (limits.idles_in_transaction, limits.idle_in_transaction_timeout.map(|limit| limit.at))
    };
    assert_eq!(lifted(&[]), (false, None));
    assert_eq!(lifted(&[&none]), (true, None));
    assert_eq!(lifted(&[&some, &none]), (true, None));
    assert_eq!(lifted(&[&none, &some]), (false, Some(SECOND)));
    let observed = none.with_mode(LimitKey::IdleInTransactionTimeout, Mode::Observe);
    assert_eq!(lifted(&[&observed]), (false, None), "what is only looked at lifts nothing");
}
