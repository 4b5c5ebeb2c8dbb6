//! The read cache.

use super::Kind::{Counter, Gauge};
use super::source::Source as S;
use super::{Facts, Family, family, seconds};
use crate::admin::exposition::Samples;
use crate::cache::figures::{ByReason, DatabaseFigures, Figures, mode_word};

const REASON: &[&str] = &["reason"];
const DATABASE: &[&str] = &["database"];

/// In the order in which they are written.
#[rustfmt::skip]
pub(super) const FAMILIES: &[Family] = &[
    family("pgweir_cache_mode", Gauge, "1 for the mode that the read cache is in, else 0.", &["mode"],
        S::Facts(|facts, samples| {
            for mode in ["off", "observe", "on"] {
                samples.put(&[mode], f64::from(u8::from(mode_word(facts.cache.mode) == mode)));
            }
        })),
    family("pgweir_cache_hits_total", Counter, "Statements answered from the cache.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.hits))),
    family("pgweir_cache_stale_total", Counter, "Of these, by answers older than their rule's `ttl`, within its `stale_for`.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.stale))),
    family("pgweir_cache_joined_total", Counter, "Statements that waited for the answer to another one that was the same.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.joined))),
    family("pgweir_cache_misses_total", Counter, "Statements that may be cached and were not answered, by why.", REASON,
        S::Facts(|facts, samples| each(samples, &facts.cache.misses))),
    family("pgweir_cache_bypasses_total", Counter, "Statements that may not be cached, by why; not counted while the mode is off.", REASON,
        S::Facts(|facts, samples| each(samples, &facts.cache.bypasses))),
    family("pgweir_cache_fills_total", Counter, "Replies kept.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.fills))),
    family("pgweir_cache_refused_total", Counter, "Replies to statements that may be cached that were not kept, by why.", REASON,
        S::Facts(|facts, samples| each(samples, &facts.cache.refused))),
    family("pgweir_cache_invalidations_total", Counter, "Times that answers were ended, by what ended them.", &["source"],
        S::Facts(|facts, samples| each(samples, &facts.cache.invalidated))),
    family("pgweir_cache_evictions_total", Counter, "Answers that gave way to others.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.evictions))),
    family("pgweir_cache_saved_seconds_total", Counter, "Time that the server would have needed for what was answered from the cache.", &[],
        S::Facts(|facts, samples| samples.put(&[], seconds(facts.cache.saved_us)))),
    family("pgweir_cache_observed_hits_total", Counter, "Mode `observe`: statements that would have been answered from the cache.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.observed_hits))),
    family("pgweir_cache_observed_saved_seconds_total", Counter, "Mode `observe`: time that the server would not have needed for them.", &[],
        S::Facts(|facts, samples| samples.put(&[], seconds(facts.cache.observed_saved_us)))),
    family("pgweir_cache_agreed_total", Counter, "Mode `observe`: kept answers that were what the server said.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.agreed))),
    family("pgweir_cache_disagreed_total", Counter, "Mode `observe`: kept answers that were not what the server said. Has to stay 0.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.disagreed))),
    family("pgweir_cache_entries", Gauge, "Answers held, those that nobody is given any more among them.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.entries))),
    family("pgweir_cache_bytes", Gauge, "What they take.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.bytes))),
    family("pgweir_cache_max_bytes", Gauge, "What they may take: `cache.max_bytes`.", &[],
        S::Facts(|facts, samples| one(facts, samples, |cache| cache.budget.max_bytes))),
    family("pgweir_cache_tenant_bytes", Gauge, "What each tenant's take; no row: nothing.", &["tenant"],
        S::Facts(|facts, samples| {
            facts.cache_tenants.iter().for_each(|(tenant, bytes)| samples.put(&[tenant], *bytes as f64));
        })),
    family("pgweir_cache_database_ready", Gauge, "1 while what may be cached of a database is, 0 while nothing is; `/api/v1/cache` says why.", DATABASE,
        S::Facts(|facts, samples| databases(facts, samples, |one| Some(f64::from(u8::from(one.ready)))))),
    family("pgweir_cache_slot_lag_seconds", Gauge, "How old the news of writes from outside is; no row: there is no replication slot now, or none is needed.", DATABASE,
        S::Facts(|facts, samples| databases(facts, samples, |one| one.slot_lag.map(|lag| lag.as_secs_f64())))),
    family("pgweir_cache_questions_total", Counter, "Questions to the server for the end of its log, which answers by `strict` rules waited for; one is for all that wait.", DATABASE,
        S::Facts(|facts, samples| databases(facts, samples, |one| Some(one.questions as f64)))),
    family("pgweir_cache_unresolved_writes", Gauge, "Writes whose connection was lost, or that are prepared: until it is known how they ended, what they touch is not cached.", DATABASE,
        S::Facts(|facts, samples| databases(facts, samples, |one| Some(one.unresolved_writes as f64)))),
    family("pgweir_cache_dropped_writes_total", Counter, "Writes that were lost sight of: a fault of pgweir's, which keeps their tables out of the cache.", DATABASE,
        S::Facts(|facts, samples| databases(facts, samples, |one| Some(one.dropped_writes as f64)))),
];

fn one(facts: &Facts, samples: &mut Samples<'_>, read: fn(&Figures) -> u64) {
    samples.put(&[], read(&facts.cache) as f64);
}

fn each(samples: &mut Samples<'_>, counts: &ByReason) {
    counts.iter().for_each(|(reason, count)| samples.put(&[reason], *count as f64));
}

fn databases(facts: &Facts, samples: &mut Samples<'_>, read: fn(&DatabaseFigures) -> Option<f64>) {
    for database in &facts.cache.databases {
        if let Some(number) = read(database) {
            samples.put(&[&database.name], number);
        }
    }
}
