//! The rows of each `SHOW`, made of facts that were gathered before. Pure: who asks, and when, is an argument.

mod descriptors;
mod own;
mod pools;
mod settings;
mod small;
mod sockets;
mod stats;

pub(super) use descriptors::descriptors;
pub(super) use own::{cache, cache_reasons, findings, limits, pins, queries, tenants};
pub(super) use pools::{DatabaseFacts, PoolFacts, UserFacts, balance, databases, pools, users};
pub(super) use settings::{KEYS, Unit, config, port};
pub(super) use small::{DnsName, Totals, dns_hosts, lists, mem, peers, state, version};
pub(super) use sockets::{Sockets, clients, is_at_rest, servers};
pub(super) use stats::{averages, stats, totals, totals_and_averages};

use super::value::{Row, Rows};
use crate::telemetry::clock::rfc3339_us;

/// The largest number that a column of type `int4` holds: ids are counted modulo one more.
pub(super) const LAST_ID: u64 = i32::MAX as u64;

/// A connection's number as it is shown.
pub(super) fn shown_id(id: u64) -> u64 {
    id & LAST_ID
}

/// A moment as PgBouncer shows it: `2026-03-01 09:30:00 UTC`.
fn utc(us: u64) -> String {
    let text = rfc3339_us(us);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!("{} {} UTC", part(0..10), part(11..19))
}

/// Whole seconds, and the microseconds beyond them.
fn seconds(us: u64) -> (u64, u64) {
    (us / 1_000_000, us % 1_000_000)
}

/// Rows that are all there.
pub(super) fn all(rows: Vec<Row>) -> Rows {
    Box::new(rows.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_look_as_they_do_in_pgbouncer() {
        assert_eq!(utc(951_827_696_000_001), "2000-02-29 12:34:56 UTC");
    }

    #[test]
    fn an_id_fits_its_column() {
        assert_eq!(shown_id(7), 7);
        assert_eq!(shown_id((1 << 31) + 7), 7);
        assert_eq!(shown_id(LAST_ID), LAST_ID);
    }
}
