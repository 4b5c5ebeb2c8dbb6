//! `/metrics`: the table of all families, and where their numbers come from.
//!
//! Cardinality is bounded: labels are pools, tenants, workers, PostgreSQL's error codes, our own routes and closed sets of
//! reasons, each of which telemetry or the configuration bounds. No statement and no client is a label.

mod cache;
mod facts;
mod proxy;
mod source;
mod sqlstates;

use std::time::UNIX_EPOCH;

pub use super::exposition::Kind;
use super::exposition::{Exposition, Format, Samples};
use crate::analyst::findings::Total;
use crate::telemetry::Sqlstate;
use crate::telemetry::pool::{CloseReason, PinReason, Reason};
use crate::telemetry::snapshot::OTHERS;
pub(super) use facts::Facts;
use source::{Source, put_if_any};

/// One family of metrics.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    source: Source,
}

/// Every family, in the order in which they are written. `docs/metrics.md` lists the same.
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(cache::FAMILIES).chain(proxy::FAMILIES)
}

/// The whole exposition.
pub(super) fn render(facts: &Facts, format: Format) -> String {
    let mut text = Exposition::new(format);
    for family in families() {
        let mut samples = text.family(family.name, family.kind, family.help, family.labels);
        family.source.collect(facts, &mut samples);
    }
    text.finish()
}

fn each_total(facts: &Facts, samples: &mut Samples<'_>, read: fn(&Total) -> u64) {
    for (kind, tenant, total) in &facts.finding_totals {
        samples.put(&[kind.name(), tenant], read(total) as f64);
    }
}

/// A gauge that is a sum of parts read at different moments can be below zero for a moment.
fn level(parts: i64) -> f64 {
    parts.max(0) as f64
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn reasons<R: Reason>(counts: &[u64]) -> Vec<(&'static str, f64)> {
    R::all().iter().zip(counts).map(|(reason, count)| (reason.label(), *count as f64)).collect()
}

const POOL: &[&str] = &["database", "user"];
const POOL_STATE: &[&str] = &["database", "user", "state"];
const POOL_REASON: &[&str] = &["database", "user", "reason"];
const POOL_OUTCOME: &[&str] = &["database", "user", "outcome"];
const TENANT: &[&str] = &["tenant"];
const TENANT_CLASS: &[&str] = &["tenant", "class"];
const KIND_TENANT: &[&str] = &["kind", "tenant"];
const WORKER: &[&str] = &["worker"];

const fn family(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    source: Source,
) -> Family {
    Family { name, kind, help, labels, source }
}

use Kind::{Counter, Gauge, Histogram};
use Source as S;

/// What traffic came to. What the proxy itself is and has stands in [`proxy`].
#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    family("pgweir_ready", Gauge, "1 when /readyz is green, else 0.", &[],
        S::Facts(|facts, samples| samples.put(&[], f64::from(u8::from(facts.ready))))),

    family("pgweir_pool_clients", Gauge, "Clients logged in, by what they do.", POOL_STATE,
        S::PoolStates(|pool| vec![
            ("active", level(pool.clients_active)),
            ("waiting", level(pool.clients_waiting)),
            ("idle", level(pool.clients - pool.clients_active - pool.clients_waiting)),
        ])),
    family("pgweir_pool_upstreams", Gauge, "Connections to the server, by what they do.", POOL_STATE,
        S::PoolStates(|pool| vec![
            ("active", level(pool.upstreams_active)),
            ("idle", level(pool.upstreams_idle)),
            ("dialling", level(pool.upstreams_dialling)),
        ])),
    family("pgweir_pool_upstreams_pinned", Gauge, "Upstreams kept by a client beyond its transaction.", POOL,
        S::Pool(|pool| level(pool.pinned))),
    family("pgweir_pool_pins_total", Counter, "Clients that began to keep their upstream, by why.", POOL_REASON,
        S::PoolStates(|pool| reasons::<PinReason>(&pool.pins))),
    family("pgweir_pool_pins_ended_total", Counter, "Clients that gave a kept upstream back, because nothing of theirs was left on it.", POOL,
        S::Pool(|pool| pool.pins_ended as f64)),
    family("pgweir_pool_discards_total", Counter, "Statements after which the upstream had to be reset, by what they may have left.", POOL_REASON,
        S::PoolStates(|pool| reasons::<PinReason>(&pool.discards))),
    family("pgweir_pool_rejects_total", Counter, "Statements refused for what they would have left on the upstream, by what.", POOL_REASON,
        S::PoolStates(|pool| reasons::<PinReason>(&pool.rejects))),
    family("pgweir_pool_suspects", Gauge, "Functions and tables of the server that change the session that uses them.", POOL,
        S::Pool(|pool| level(pool.suspects))),
    family("pgweir_pool_inspections_total", Counter, "Looks at the server's functions, by what became of them.", POOL_OUTCOME,
        S::PoolStates(|pool| vec![
            ("read", pool.inspections as f64),
            ("failed", pool.inspection_failures as f64),
        ])),
    family("pgweir_pool_checkouts_total", Counter, "Upstreams handed to a client.", POOL,
        S::Pool(|pool| pool.checkouts as f64)),
    family("pgweir_pool_wait_seconds", Histogram, "Time that clients waited for an upstream.", POOL,
        S::PoolHistogram(|pool| &pool.waits)),
    family("pgweir_pool_queue_timeouts_total", Counter, "Requests refused because no upstream came free in time.", POOL,
        S::Pool(|pool| pool.queue_timeouts as f64)),
    family("pgweir_pool_queue_refusals_total", Counter, "Requests refused because too many were waiting already.", POOL,
        S::Pool(|pool| pool.queue_refusals as f64)),
    family("pgweir_pool_dials_total", Counter, "Attempts to connect to the server.", POOL,
        S::Pool(|pool| pool.dials as f64)),
    family("pgweir_pool_dial_failures_total", Counter, "Attempts to connect to the server that failed.", POOL,
        S::Pool(|pool| pool.dial_failures as f64)),
    family("pgweir_pool_dial_seconds", Histogram, "Time of successful attempts to connect, login included.", POOL,
        S::PoolHistogram(|pool| &pool.dial_times)),
    family("pgweir_pool_closes_total", Counter, "Upstreams closed, by why.", POOL_REASON,
        S::PoolStates(|pool| reasons::<CloseReason>(&pool.closes))),
    family("pgweir_pool_resets_total", Counter, "Upstreams cleaned (ROLLBACK, DISCARD ALL) before reuse.", POOL,
        S::Pool(|pool| pool.resets as f64)),
    family("pgweir_pool_cancels_total", Counter, "Cancel requests, by what became of them.", POOL_OUTCOME,
        S::PoolStates(|pool| vec![
            ("requested", pool.cancels_requested as f64),
            ("forwarded", pool.cancels_forwarded as f64),
            ("ignored", pool.cancels_ignored as f64),
        ])),
    family("pgweir_pool_received_bytes_total", Counter, "Bytes from clients.", POOL,
        S::Pool(|pool| pool.bytes_in as f64)),
    family("pgweir_pool_sent_bytes_total", Counter, "Bytes to clients.", POOL,
        S::Pool(|pool| pool.bytes_out as f64)),
    family("pgweir_pool_transactions_total", Counter, "Transactions ended, implicit ones included.", POOL,
        S::Pool(|pool| pool.transactions as f64)),
    family("pgweir_pool_transaction_seconds_total", Counter, "Time spent in transactions.", POOL,
        S::Pool(|pool| seconds(pool.transaction_us))),
    family("pgweir_pool_statements_total", Counter, "Statements finished.", POOL,
        S::Pool(|pool| pool.statements as f64)),
    family("pgweir_pool_statement_errors_total", Counter, "Statements that ended in an error.", POOL,
        S::Pool(|pool| pool.statement_errors as f64)),
    family("pgweir_pool_statement_seconds", Histogram, "Time of statements, from first byte to last reply.", POOL,
        S::PoolHistogram(|pool| &pool.durations)),
    family("pgweir_pool_parses_total", Counter, "Parse messages from clients.", POOL,
        S::Pool(|pool| pool.parses as f64)),
    family("pgweir_pool_binds_total", Counter, "Bind messages from clients.", POOL,
        S::Pool(|pool| pool.binds as f64)),
    family("pgweir_pool_prepared_total", Counter, "Prepared statements on upstreams, by what was done.", POOL_OUTCOME,
        S::PoolStates(|pool| vec![
            ("hit", pool.prepared_hits as f64),
            ("injected", pool.prepared_injected as f64),
            ("evicted", pool.prepared_evictions as f64),
            ("retried", pool.prepared_retries as f64),
        ])),
    family("pgweir_pool_settings_sent_total", Counter, "Statements sent to give a client its settings.", POOL,
        S::Pool(|pool| pool.settings_sent as f64)),

    family("pgweir_tenant_statements_total", Counter, "Statements finished.", TENANT,
        S::Tenant(|tenant| tenant.calls as f64)),
    family("pgweir_tenant_statement_errors_total", Counter, "Statements that ended in an error.", TENANT,
        S::Tenant(|tenant| tenant.errors as f64)),
    family("pgweir_tenant_statement_seconds_total", Counter, "Time of statements, from first byte to last reply.", TENANT,
        S::Tenant(|tenant| seconds(tenant.total_us))),
    family("pgweir_tenant_queue_seconds_total", Counter, "Of that, waiting for an upstream or a turn.", TENANT,
        S::Tenant(|tenant| seconds(tenant.queue_us))),
    family("pgweir_tenant_server_seconds_total", Counter, "Of that, in the server.", TENANT,
        S::Tenant(|tenant| seconds(tenant.server_us))),
    family("pgweir_tenant_rows_total", Counter, "Rows returned or changed.", TENANT,
        S::Tenant(|tenant| tenant.rows as f64)),
    family("pgweir_tenant_received_bytes_total", Counter, "Bytes from clients.", TENANT,
        S::Tenant(|tenant| tenant.bytes_in as f64)),
    family("pgweir_tenant_sent_bytes_total", Counter, "Bytes to clients.", TENANT,
        S::Tenant(|tenant| tenant.bytes_out as f64)),
    family("pgweir_tenant_statement_timeouts_total", Counter, "Statements ended by the tenant's statement timeout.", TENANT,
        S::Tenant(|tenant| tenant.statement_timeouts as f64)),
    family("pgweir_tenant_refusals_total", Counter, "Requests that the proxy itself refused or ended.", TENANT,
        S::Tenant(|tenant| tenant.refusals as f64)),
    family("pgweir_tenant_queue_timeouts_total", Counter, "Requests refused because no upstream came free in time.", TENANT,
        S::Tenant(|tenant| tenant.queue_timeouts as f64)),
    family("pgweir_tenant_pins_total", Counter, "Clients that began to keep their upstream.", TENANT,
        S::Tenant(|tenant| tenant.pins as f64)),
    family("pgweir_tenant_clients", Gauge, "Clients logged in; no row: none.", TENANT,
        S::TenantUse(|own| f64::from(own.clients))),
    family("pgweir_tenant_connections_total", Counter, "Clients that have come, by connecting or by becoming this tenant's.", TENANT,
        S::TenantUse(|own| own.joined as f64)),
    family("pgweir_tenant_limit_reached_total", Counter, "Times that a limit was reached, by its mode at that time; without a class: by all of the tenant's clients together.", &["tenant", "class", "limit", "mode"],
        S::Facts(|facts, samples| {
            for own in &facts.uses {
                for reached in &own.reached {
                    let counts = [("observe", reached.observed), ("warn", reached.warned), ("enforce", reached.enforced)];
                    for (mode, count) in counts {
                        put_if_any(samples, &[&own.tenant, &own.class, reached.key.word(), mode], count as f64);
                    }
                }
            }
        })),
    family("pgweir_tenant_class_statements_total", Counter, "Statements finished, by class of work.", TENANT_CLASS,
        S::Class(|usage| usage.durations.count() as f64)),
    family("pgweir_tenant_class_statement_errors_total", Counter, "Statements that ended in an error.", TENANT_CLASS,
        S::Class(|usage| usage.errors as f64)),
    family("pgweir_tenant_class_statement_seconds_total", Counter, "Time of statements, from first byte to last reply.", TENANT_CLASS,
        S::Class(|usage| seconds(usage.durations.sum_us))),
    family("pgweir_tenant_class_queue_seconds_total", Counter, "Of that, waiting for an upstream or a turn.", TENANT_CLASS,
        S::Class(|usage| seconds(usage.queue_us))),
    family("pgweir_tenant_class_server_seconds_total", Counter, "Of that, in the server.", TENANT_CLASS,
        S::Class(|usage| seconds(usage.server_us))),
    family("pgweir_tenant_class_rows_total", Counter, "Rows returned or changed.", TENANT_CLASS,
        S::Class(|usage| usage.rows as f64)),
    family("pgweir_tenant_class_received_bytes_total", Counter, "Bytes from clients.", TENANT_CLASS,
        S::Class(|usage| usage.bytes_in as f64)),
    family("pgweir_tenant_class_sent_bytes_total", Counter, "Bytes to clients.", TENANT_CLASS,
        S::Class(|usage| usage.bytes_out as f64)),

    family("pgweir_statement_errors_total", Counter, "Statements that ended in an error, by SQLSTATE.", &["sqlstate"],
        S::Facts(|facts, samples| {
            for (code, count) in sqlstates::bounded(&facts.errors) {
                samples.put(&[code], count as f64);
            }
        })),
    family("pgweir_refusals_total", Counter, "Errors that the proxy itself raised, by SQLSTATE.", &["database", "user", "sqlstate"],
        S::Facts(|facts, samples| {
            for row in &facts.refusals {
                let (database, user) = row.pool.as_ref().map_or(("", ""), |pool| (&pool.database, &pool.user));
                let code = row.sqlstate.as_ref().map_or(OTHERS, Sqlstate::as_str);
                samples.put(&[database, user, code], row.count as f64);
            }
        })),

    family("pgweir_worker_clients", Gauge, "Clients served by a thread.", WORKER,
        S::Worker(|worker| level(worker.clients))),
    family("pgweir_worker_upstreams", Gauge, "Upstreams registered with a thread.", WORKER,
        S::Worker(|worker| level(worker.upstreams))),
    family("pgweir_logins_total", Counter, "Logins, by result.", &["worker", "result"],
        S::WorkerStates(|worker| vec![
            ("ok", worker.logins as f64),
            ("failed", worker.login_failures as f64),
            ("limited", worker.logins_limited as f64),
        ])),
    family("pgweir_tls_handshake_failures_total", Counter, "TLS handshakes with clients that failed.", WORKER,
        S::Worker(|worker| worker.tls_failures as f64)),
    family("pgweir_refused_connections_total", Counter, "Connections refused before login.", WORKER,
        S::Worker(|worker| worker.refused_connections as f64)),
    family("pgweir_protocol_violations_total", Counter, "Connections closed because of bytes that are not the protocol.", WORKER,
        S::Worker(|worker| worker.protocol_violations as f64)),
    family("pgweir_cancels_unknown_total", Counter, "Cancel requests with a key that nobody has.", WORKER,
        S::Worker(|worker| worker.cancels_unknown as f64)),
    family("pgweir_cancels_passed_on_total", Counter, "Cancel requests that were passed on to the process or peer whose client they are for.", WORKER,
        S::Worker(|worker| worker.cancels_passed_on as f64)),
    family("pgweir_upstreams_stolen_total", Counter, "Upstreams taken over from another worker.", WORKER,
        S::Worker(|worker| worker.stolen as f64)),
    family("pgweir_events_dropped_total", Counter, "Events that found no room on their way to the analyst.", WORKER,
        S::Worker(|worker| worker.events_dropped as f64)),
    family("pgweir_events_skipped_total", Counter, "Events beyond `observe.events_per_second`, not looked at by the analyst.", WORKER,
        S::Worker(|worker| worker.events_skipped as f64)),

    family("pgweir_listen_connections", Gauge, "Connections that listen for clients that give theirs back.", &[],
        S::Listen(|listen| level(listen.connections))),
    family("pgweir_listen_clients", Gauge, "Clients that listen by them.", &[],
        S::Listen(|listen| level(listen.clients))),
    family("pgweir_listen_channels", Gauge, "Channels that they listen to.", &[],
        S::Listen(|listen| level(listen.channels))),
    family("pgweir_listen_received_total", Counter, "Notifications from servers.", &[],
        S::Listen(|listen| listen.received as f64)),
    family("pgweir_listen_told_total", Counter, "Notifications passed on, one for each client that hears of the channel.", &[],
        S::Listen(|listen| listen.told as f64)),
    family("pgweir_listen_delivered_total", Counter, "Notifications given to clients.", &[],
        S::Listen(|listen| listen.delivered as f64)),
    family("pgweir_listen_losses_total", Counter, "Times that such a connection was lost, and perhaps notifications with it.", &[],
        S::Listen(|listen| listen.losses as f64)),
    family("pgweir_listen_overflows_total", Counter, "Clients closed because they did not take their notifications.", &[],
        S::Listen(|listen| listen.overflows as f64)),

    family("pgweir_findings", Gauge, "Findings kept, by kind, tenant and state.", &["kind", "tenant", "state"],
        S::Facts(|facts, samples| {
            for (kind, tenant, state, count) in &facts.findings {
                samples.put(&[kind.name(), tenant, state.name()], *count as f64);
            }
        })),
    family("pgweir_finding_bursts_total", Counter, "Bursts of statements that were found to be of a kind; not those that are muted.", KIND_TENANT,
        S::Facts(|facts, samples| each_total(facts, samples, |total| total.bursts))),
    family("pgweir_finding_statements_total", Counter, "Statements repeated in them.", KIND_TENANT,
        S::Facts(|facts, samples| each_total(facts, samples, |total| total.statements))),
    family("pgweir_findings_dropped_total", Counter, "Findings that found the store full of newer ones.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.findings_turned_away as f64))),
    family("pgweir_detection_dropped_total", Counter, "Statements, and bursts of them, that detection left out because too much was under way at once.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.left_out as f64))),
    family("pgweir_notices_dropped_total", Counter, "Notices about transactions and plans that found too many waiting for the analyst.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.tips_dropped as f64))),
    family("pgweir_plans_total", Counter, "Plans of slow statements that were due, by what became of them.", &["outcome"],
        S::Facts(|facts, samples| {
            facts.plans.iter().for_each(|(outcome, count)| samples.put(&[outcome], *count as f64));
        })),
    family("pgweir_table_entries", Gauge, "Entries in the tables that telemetry keeps.", &["table"],
        S::Facts(|facts, samples| {
            facts.tables.iter().for_each(|(table, entries, _)| samples.put(&[table], *entries as f64));
        })),
    family("pgweir_table_overflows_total", Counter, "Things that found such a table full.", &["table"],
        S::Facts(|facts, samples| {
            facts.tables.iter().for_each(|(table, _, refused)| samples.put(&[table], *refused as f64));
        })),
    family("pgweir_statements_evicted_total", Counter, "Rows of statements that made room for others of their tenant; what they had counted is in its row of all others.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.evicted as f64))),

    family("pgweir_config_reloads_total", Counter, "Reloads of the configuration, by outcome: `done`, or `refused` because of a mistake in it.", &["outcome"],
        S::Facts(|facts, samples| {
            let reloads = &facts.housekeeping.reloads;
            samples.put(&["done"], reloads.done as f64);
            samples.put(&["refused"], reloads.refused as f64);
        })),
    family("pgweir_config_last_reload_successful", Gauge, "1 unless the last reload was refused.", &[],
        S::Facts(|facts, samples| samples.put(&[], f64::from(u8::from(facts.housekeeping.reloads.error.is_none()))))),
    family("pgweir_config_read_time_seconds", Gauge, "When the configuration in force was read, in seconds since 1970.", &[],
        S::Facts(|facts, samples| {
            let read = facts.housekeeping.reloads.last_done.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            samples.put(&[], read.map_or(facts.start_seconds, |since| since.as_secs_f64()));
        })),
    family("pgweir_config_restart_pending_keys", Gauge, "Keys whose new values need a restart.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.housekeeping.reloads.pending.len() as f64))),
    family("pgweir_tenant_table_readable", Gauge, "1 unless the table of tenants could not be read at the last look; absent where there is none.", &[],
        S::Facts(|facts, samples| {
            let table = facts.housekeeping.tenant_table.iter();
            table.for_each(|table| samples.put(&[], f64::from(u8::from(table.trouble.is_none()))));
        })),
    family("pgweir_tenant_table_tenants", Gauge, "Tenants whose limits come from the table of tenants.", &[],
        S::Facts(|facts, samples| {
            facts.housekeeping.tenant_table.iter().for_each(|table| samples.put(&[], table.tenants as f64));
        })),
    family("pgweir_tenant_table_wrong_rows", Gauge, "Rows of the table of tenants that are wrong: their tenants keep what they had.", &[],
        S::Facts(|facts, samples| {
            facts.housekeeping.tenant_table.iter().for_each(|table| samples.put(&[], table.wrong as f64));
        })),
    family("pgweir_side_connections", Gauge, "Server connections beside the pools, attempts included, by what they are for; `max_side_connections` bounds their sum.", &["kind"],
        S::Facts(|facts, samples| {
            facts.housekeeping.side_connections.iter().for_each(|(kind, count)| samples.put(&[kind], *count as f64));
        })),
    family("pgweir_log_lines_lost_total", Counter, "Lines of the log that could not be written, or found too many waiting to be written.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.housekeeping.log_lines_lost as f64))),
];
