//! Queue engines that live in PostgreSQL, run for real: enqueue, run, retry, schedule, stop.

use config::PoolMode::Transaction;

use super::node::node;
use super::{SERVERS, few_servers_were_used, pool, sites, succeeds};

/// Runs an engine's program at every site, with so many servers in transaction mode.
fn engine_runs(name: &str, servers: usize) {
    for site in sites(servers) {
        let said = succeeds(&site, node(name).arg(site.url()));
        assert!(said.ends_with("ok\n"), "before {}: {said}", site.name());
        if site.mode == Some(Transaction) {
            few_servers_were_used(&site, servers);
            let checkouts = pool(&site)["checkouts"].as_u64().unwrap();
            assert!(checkouts > 100, "the jobs shared their servers: {checkouts} checkouts");
        }
    }
}

/// Each of its two runners keeps a server for LISTEN; the others are shared.
#[test]
fn graphile_worker() {
    engine_runs("graphile_worker.js", 2 + SERVERS);
}

#[test]
fn pg_boss() {
    engine_runs("pg_boss.js", SERVERS);
}
