//! pgweir's own: QUERIES, FINDINGS, TENANTS, PINS, LIMITS, CACHE, CACHE_REASONS.

use std::collections::BTreeMap;

use policy::finding::Kept;

use super::super::value::{Row, Value, text};
use super::{shown_id, utc};
use crate::admin::ClientState;
use crate::admin::source::TenantUse;
use crate::cache::figures::{DatabaseFigures, Figures, mode_word};
use crate::telemetry::row::StatementRow;
use crate::telemetry::snapshot::{TenantNames, TenantRow};

/// QUERIES: the `most` that took most time, the others not.
pub(in super::super) fn queries(mut all: Vec<StatementRow>, names: &TenantNames, most: usize) -> Vec<Row> {
    let rank = |row: &StatementRow| (std::cmp::Reverse(row.total_us), row.text.facts.strict, row.tenant);
    all.sort_by_key(rank);
    all.truncate(most);
    let whole = |us: f64| Value::Number(us.round() as u64);
    let row = |row: StatementRow| {
        vec![
            format!("{:016x}", row.text.facts.strict).into(),
            text(names.name(row.tenant)),
            row.text.class.name().into(),
            row.calls.into(),
            row.errors.into(),
            row.rows.into(),
            row.total_us.into(),
            row.queue.sum_us.into(),
            row.server.sum_us.into(),
            whole(row.mean_us()),
            whole(row.percentile_us(0.95)),
            whole(row.percentile_us(0.99)),
            row.max_us.into(),
            moment(row.last_seen_us),
            text(&row.text.text),
            row.cached_calls.into(),
        ]
    };
    all.into_iter().map(row).collect()
}

/// FINDINGS, in the order in which they come.
pub(in super::super) fn findings(all: Vec<Kept>) -> Vec<Row> {
    let row = |kept: Kept| {
        let found = kept.finding;
        vec![
            found.id.into(),
            found.severity.name().into(),
            found.kind.name().into(),
            kept.state.name().into(),
            found.tenant.into(),
            found.database.into(),
            found.user.into(),
            found.application.into(),
            found.route.unwrap_or_default().into(),
            found.occurrences.into(),
            found.statements.into(),
            Value::Number((found.wasted_ms.max(0.0) * 1e3).round() as u64),
            moment(found.first_seen.0),
            moment(found.last_seen.0),
            found.child.fingerprint.into(),
            found.child.text.into(),
            found.rewrite.unwrap_or_default().into(),
        ]
    };
    all.into_iter().map(row).collect()
}

/// TENANTS: those with traffic, and those that are only connected so far.
pub(in super::super) fn tenants(rows: Vec<TenantRow>, uses: &[TenantUse]) -> Vec<Row> {
    let of_all = uses.iter().filter(|own| own.class.is_empty());
    let mut all: BTreeMap<String, (TenantRow, Option<&TenantUse>)> =
        of_all.map(|own| (own.tenant.clone(), (TenantRow::default(), Some(own)))).collect();
    for row in rows {
        let place = &mut all.entry(row.tenant.clone()).or_default().0;
        *place = row;
    }
    let row = |(tenant, (row, own)): (String, (TenantRow, Option<&TenantUse>))| {
        vec![
            tenant.into(),
            own.map_or(0, |own| own.clients).into(),
            own.map_or(0, |own| own.running).into(),
            row.fingerprints.into(),
            row.calls.into(),
            row.errors.into(),
            row.refusals.into(),
            row.statement_timeouts.into(),
            row.queue_timeouts.into(),
            row.rows.into(),
            row.bytes_in.into(),
            row.bytes_out.into(),
            row.total_us.into(),
            row.queue_us.into(),
            row.server_us.into(),
            row.max_us.into(),
            moment(row.last_seen_us),
        ]
    };
    all.into_iter().map(row).collect()
}

/// PINS: of these clients, those that keep their server connection.
pub(in super::super) fn pins(all: Vec<ClientState>, now_us: u64) -> impl Iterator<Item = Row> {
    all.into_iter().filter_map(move |client| {
        let reason = client.pinned?;
        Some(vec![
            shown_id(client.id).into(),
            client.database.into(),
            client.user.into(),
            client.tenant.into(),
            client.application.into(),
            client.address.into(),
            client.state.into(),
            now_us.saturating_sub(client.state_since_us).into(),
            reason.into(),
            client.pinned_by.unwrap_or_default().into(),
            client.upstream.map(shown_id).into(),
        ])
    })
}

/// LIMITS: those that are set.
pub(in super::super) fn limits(uses: Vec<TenantUse>) -> Vec<Row> {
    let mut rows = Vec::new();
    for own in uses {
        for limit in &own.limits {
            let Some(value) = &limit.value else { continue };
            let reached = own.reached.iter().find(|reached| reached.key == limit.key);
            let count = |of: fn(&crate::tenancy::Reached) -> u64| Value::Number(reached.map_or(0, of));
            rows.push(vec![
                text(&own.tenant),
                text(&own.class),
                limit.key.word().into(),
                value.shown().into(),
                limit.mode.map_or("", config::Mode::word).into(),
                limit.from.shown().into(),
                count(|reached| reached.observed),
                count(|reached| reached.warned),
                count(|reached| reached.enforced),
            ]);
        }
    }
    rows
}

/// CACHE_REASONS: those that there were, and what each tenant holds.
pub(in super::super) fn cache_reasons(figures: &Figures, held: BTreeMap<String, u64>) -> Vec<Row> {
    let reasons = [
        ("miss", &figures.misses),
        ("bypass", &figures.bypasses),
        ("refused", &figures.refused),
        ("invalidated", &figures.invalidated),
    ];
    let counted = reasons.into_iter().flat_map(|(about, counts)| {
        let there = counts.iter().filter(|(_, count)| *count > 0);
        there.map(move |(reason, count)| vec![about.into(), (*reason).into(), (*count).into()])
    });
    counted.chain(held.into_iter().map(|(tenant, bytes)| vec!["bytes".into(), tenant.into(), bytes.into()])).collect()
}

/// CACHE: one row for each database, with what all share; one without a database where there are none.
pub(in super::super) fn cache(figures: &Figures) -> Vec<Row> {
    let of_all = |name: &str| -> Row {
        vec![
            text(name),
            mode_word(figures.mode).into(),
            figures.entries.into(),
            figures.bytes.into(),
            figures.budget.max_bytes.into(),
            figures.hits.into(),
            Figures::sum(&figures.misses).into(),
            Figures::sum(&figures.bypasses).into(),
            Figures::sum(&figures.refused).into(),
            figures.fills.into(),
            figures.evictions.into(),
            Figures::sum(&figures.invalidated).into(),
            figures.saved_us.into(),
            figures.agreed.into(),
            figures.disagreed.into(),
        ]
    };
    if figures.databases.is_empty() {
        let mut row = of_all("");
        row.extend([text("no"), text(""), text(""), Value::Null, 0u64.into(), 0u64.into()]);
        return vec![row];
    }
    let of_one = |one: &DatabaseFigures| {
        let mut row = of_all(&one.name);
        row.extend([
            text(if one.ready { "yes" } else { "no" }),
            text(one.trouble.as_deref().unwrap_or_default()),
            text(one.slot),
            one.slot_lag.map(|lag| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX)).into(),
            one.unresolved_writes.into(),
            one.dropped_writes.into(),
        ]);
        row
    };
    figures.databases.iter().map(of_one).collect()
}

/// A moment; empty: never.
fn moment(us: u64) -> Value {
    if us == 0 { "".into() } else { utc(us).into() }
}

#[cfg(test)]
mod tests {
    use policy::limits::Explained;

    use super::*;
    use crate::tenancy::Reached;

    #[test]
    fn tenants_that_are_only_connected_are_there_too() {
        let uses = [
            TenantUse { tenant: "acme".into(), clients: 2, running: 1, ..TenantUse::default() },
            TenantUse { tenant: "acme".into(), class: "worker".into(), clients: 9, ..TenantUse::default() },
        ];
        let busy =
            TenantRow { tenant: "beta".into(), calls: 7, last_seen_us: 951_827_696_000_001, ..TenantRow::default() };
        let rows = tenants(vec![busy], &uses);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0][0], &rows[0][1], &rows[0][2], &rows[0][16]),
            (&text("acme"), &2u64.into(), &1u64.into(), &text(""))
        );
        assert_eq!(
            (&rows[1][0], &rows[1][4], &rows[1][16]),
            (&text("beta"), &7u64.into(), &text("2000-02-29 12:34:56 UTC"))
        );
    }

    #[test]
    fn pins_are_clients_with_a_reason() {
        let pinned = ClientState {
            id: 5,
            pinned: Some("advisory_lock"),
            pinned_by: Some("00d1e8a1b2c3d4e5".into()),
            upstream: Some(8),
            state: "idle",
            state_since_us: 10,
            ..ClientState::default()
        };
        let rows: Vec<Row> = pins(vec![ClientState::default(), pinned], 25).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (&rows[0][0], &rows[0][7], &rows[0][8], &rows[0][10]),
            (&5u64.into(), &15u64.into(), &text("advisory_lock"), &8u64.into())
        );
    }

    #[test]
    fn the_cache_has_a_row_for_each_database_and_one_without() {
        let caches = crate::cache::testing::caches();
        let rows = |caches: &crate::cache::Caches| cache(&caches.figures(std::time::Instant::now()));
        assert_eq!(rows(&caches)[0][..2], [text(""), text("off")]);
        caches.counters.hit(7, false);
        crate::cache::testing::known(&caches, "a:5432/app");
        crate::cache::testing::known(&caches, "b:5432/app");
        let rows = rows(&caches);
        let names: Vec<_> = rows.iter().map(|row| (&row[0], &row[5], &row[15])).collect();
        let one = 1u64.into();
        assert_eq!(names, [(&text("a:5432/app"), &one, &text("no")), (&text("b:5432/app"), &one, &text("no"))]);
        let columns = super::super::super::table::find("cache").unwrap().columns.len();
        assert!(rows.iter().all(|row| row.len() == columns));
    }

    #[test]
    fn reasons_that_there_were_have_rows() {
        let caches = crate::cache::testing::caches();
        let held = BTreeMap::from([("acme".to_owned(), 9)]);
        let rows =
            |caches: &crate::cache::Caches| cache_reasons(&caches.figures(std::time::Instant::now()), held.clone());
        assert_eq!(rows(&caches).len(), 1);
        caches.counters.misses.add(policy::cache::Miss::Changed, 3);
        caches.counters.bypasses.count(policy::cache::Bypass::NoRule);
        let expected = [("miss", "changed", 3u64), ("bypass", "no_rule", 1), ("bytes", "acme", 9)];
        assert_eq!(rows(&caches), expected.map(|(about, name, n)| vec![text(about), text(name), n.into()]));
    }

    #[test]
    fn limits_say_what_holds_where_it_stands_and_how_often_it_has_mattered() {
        let key = config::LimitKey::MaxRows;
        let explained = |value| Explained {
            key,
            value,
            from: policy::limits::Layer::Tenant("acme".into()),
            mode: Some(config::Mode::Enforce),
        };
        let own = TenantUse {
            tenant: "acme".into(),
            limits: vec![explained(Some(config::LimitValue::Count(9))), explained(None)],
            reached: vec![Reached { key, observed: 1, warned: 2, enforced: 3 }],
            ..TenantUse::default()
        };
        let rows = limits(vec![own]);
        let expected = [
            text("acme"),
            text(""),
            text("max_rows"),
            text("9"),
            text("enforce"),
            text("[tenant.limits.acme]"),
            1u64.into(),
            2u64.into(),
            3u64.into(),
        ];
        assert_eq!(rows, [expected]);
    }
}
