//! What the proxy itself is, has and may: versions, settings that bound something, TLS, its admin port, its process.

use std::time::UNIX_EPOCH;

use super::Kind::{Counter, Gauge, Histogram, Info};
use super::source::Source as S;
use super::{Facts, Family, POOL, WORKER, family, level, seconds};
use crate::admin::exposition::Samples;
use crate::admin::source::Switches;

/// In the order in which they are written.
#[rustfmt::skip]
pub(super) const FAMILIES: &[Family] = &[
    family("pgweir_build_info", Info, "1; what was built, from what and by which compiler are labels.", &["version", "commit", "rustc"],
        S::Facts(|_, samples| samples.put(&[build::VERSION, build::COMMIT, build::RUSTC], 1.0))),

    family("pgweir_pool_size", Gauge, "Upstreams that the pool may have without its reserve: `pool.size`.", POOL,
        S::Facts(|facts, samples| each_setting(facts, samples, |pool| pool.size as f64))),
    family("pgweir_pool_reserve_size", Gauge, "Upstreams that it may have beyond that while clients wait long: `pool.reserve_size`.", POOL,
        S::Facts(|facts, samples| each_setting(facts, samples, |pool| pool.reserve_size as f64))),
    family("pgweir_pool_paused", Gauge, "1 while an operator has the clients of the database wait.", POOL,
        S::Facts(|facts, samples| each_switch(facts, samples, |switches| switches.paused))),
    family("pgweir_pool_disabled", Gauge, "1 while an operator lets no new clients into the database.", POOL,
        S::Facts(|facts, samples| each_switch(facts, samples, |switches| switches.disabled))),
    family("pgweir_max_clients", Gauge, "Clients that are let in: `max_clients`.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.settings.max_clients as f64))),
    family("pgweir_max_upstreams", Gauge, "Upstreams of all pools together: `max_upstreams`; 0: no such limit.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.settings.max_upstreams as f64))),
    family("pgweir_max_memory_bytes", Gauge, "Memory beyond which no new clients are let in: `max_memory`; 0: no such limit.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.settings.max_memory as f64))),
    family("pgweir_memory_short", Gauge, "1 while new clients are kept out because the process takes too much memory.", &[],
        S::Facts(|facts, samples| samples.put(&[], flag(facts.housekeeping.short_of_memory)))),
    family("pgweir_suspended", Gauge, "1 while SUSPEND has all clients' next requests wait.", &[],
        S::Facts(|facts, samples| samples.put(&[], flag(facts.housekeeping.suspended)))),

    family("pgweir_class_statement_seconds", Histogram, "Time of statements by class of work, all tenants together.", &["class"],
        S::Facts(|facts, samples| {
            for (class, durations) in facts.durations_by_class() {
                samples.put_histogram(&[class], &durations);
            }
        })),
    family("pgweir_database_class_statement_seconds", Histogram, "Time of statements by database and class of work.", &["database", "class"],
        S::Facts(|facts, samples| {
            for ((database, class), durations) in &facts.latencies {
                samples.put_histogram(&[database, class], durations);
            }
        })),

    family("pgweir_tls_clients", Gauge, "Clients served by a thread whose connection has TLS.", WORKER,
        S::Worker(|worker| level(worker.tls_clients))),
    family("pgweir_tls_handshakes_total", Counter, "TLS handshakes with clients that succeeded, by the protocol's version.", &["worker", "version"],
        S::WorkerStates(|worker| vec![
            ("TLSv1.2", worker.tls12_handshakes as f64),
            ("TLSv1.3", worker.tls13_handshakes as f64),
        ])),
    family("pgweir_tls_certificate_not_after_time_seconds", Gauge, "Until when a certificate of ours holds, in seconds since 1970.", &["file"],
        S::Facts(|facts, samples| {
            for (file, end) in &facts.certificates {
                let end = end.duration_since(UNIX_EPOCH).unwrap_or_default();
                samples.put(&[file], end.as_secs_f64());
            }
        })),

    family("pgweir_admin_requests_total", Counter, "Requests to the admin port, by the path that took them; `(none)`: no path did.", &["route", "method", "status"],
        S::Facts(|facts, samples| {
            for row in &facts.requests {
                row.answers.iter().for_each(|((method, status), count)| {
                    samples.put(&[&row.route, method, &status.to_string()], *count as f64);
                });
            }
        })),
    family("pgweir_admin_request_seconds_total", Counter, "Time that they took.", &["route"],
        S::Facts(|facts, samples| {
            facts.requests.iter().for_each(|row| samples.put(&[&row.route], seconds(row.time_us)));
        })),

    family("process_start_time_seconds", Gauge, "Start of the process, in seconds since 1970.", &[],
        S::Facts(|facts, samples| samples.put(&[], facts.start_seconds))),
    family("process_cpu_seconds_total", Counter, "Processor time in user and system mode.", &[],
        S::Process(|process| process.cpu_seconds)),
    family("process_resident_memory_bytes", Gauge, "Memory in use.", &[],
        S::Process(|process| process.resident_bytes.map(|n| n as f64))),
    family("process_virtual_memory_bytes", Gauge, "Address space.", &[],
        S::Process(|process| process.virtual_bytes.map(|n| n as f64))),
    family("process_open_fds", Gauge, "Open file descriptors.", &[],
        S::Process(|process| process.open_fds.map(|n| n as f64))),
    family("process_max_fds", Gauge, "Most file descriptors that may be open.", &[],
        S::Process(|process| process.max_fds.map(|n| n as f64))),
    family("process_threads", Gauge, "Threads.", &[],
        S::Process(|process| process.threads.map(|n| n as f64))),
];

/// What was built.
mod build {
    pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
    /// Whoever builds a release says which commit it is; what is built on a desk is of none.
    pub(super) const COMMIT: &str = match option_env!("PGWEIR_COMMIT") {
        Some(commit) if !commit.is_empty() => commit,
        _ => "unknown",
    };
    /// Said by the build script.
    pub(super) const RUSTC: &str = env!("PGWEIR_RUSTC");
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Pools whose database is configured; that of `(others)` is none.
fn each_setting(facts: &Facts, samples: &mut Samples<'_>, read: fn(&config::Pool) -> f64) {
    for row in &facts.pools {
        if let Some(own) = facts.settings.pool_of(&row.name.database, &row.name.user) {
            samples.put(&[&row.name.database, &row.name.user], read(&own));
        }
    }
}

fn each_switch(facts: &Facts, samples: &mut Samples<'_>, read: fn(&Switches) -> bool) {
    for (row, switches) in facts.pools.iter().zip(&facts.switches) {
        samples.put(&[&row.name.database, &row.name.user], flag(read(switches)));
    }
}
