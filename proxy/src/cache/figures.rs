//! The cache in numbers, as those who show it read them at one moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use policy::cache::{Budget, Counts, Mode, Reason, Rules};
use policy::tenant::TenantId;

use super::{Cached, Caches};
use crate::telemetry::snapshot::TenantNames;

/// Words for reasons, and how often each was the one.
pub type ByReason = Vec<(&'static str, u64)>;

/// All of the cache.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Whether it works.
    pub mode: Mode,
    /// Whether statements that write are followed: without that it cannot be switched on.
    pub follows: bool,
    /// What it may hold.
    pub budget: Budget,
    /// Bytes held.
    pub bytes: u64,
    /// Of them, what each tenant holds.
    pub tenants: Vec<(TenantId, u64)>,
    /// Answers held.
    pub entries: u64,
    /// Hits among what may be cached, those that `observe` would have had included, from 0 to 1; `None` before the first.
    pub hit_ratio: Option<f64>,
    /// Statements answered.
    pub hits: u64,
    /// Of these, by answers older than they should be, as their rules allow.
    pub stale: u64,
    /// Statements that waited for another one's answer.
    pub joined: u64,
    /// Replies kept.
    pub fills: u64,
    /// Answers that gave way to others.
    pub evictions: u64,
    /// What the server was spared, in µs.
    pub saved_us: u64,
    /// Mode `observe`: statements that would have been answered.
    pub observed_hits: u64,
    /// And what the server would have been spared, in µs.
    pub observed_saved_us: u64,
    /// Mode `observe`: answers that were the server's own.
    pub agreed: u64,
    /// And those that were not.
    pub disagreed: u64,
    /// See [`policy::cache::Miss`].
    pub misses: ByReason,
    /// See [`policy::cache::Bypass`].
    pub bypasses: ByReason,
    /// See [`policy::cache::Refused`].
    pub refused: ByReason,
    /// See [`policy::cache::Invalidated`].
    pub invalidated: ByReason,
    /// By name.
    pub databases: Vec<DatabaseFigures>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFigures {
    /// As [`Cached::name`].
    pub name: String,
    /// What of it may be cached is.
    pub ready: bool,
    /// Why not, in words.
    pub trouble: Option<String>,
    /// `not_needed`, `up` or `down`.
    pub slot: &'static str,
    /// How old the news of writes from outside is.
    pub slot_lag: Option<Duration>,
    /// Questions for the end of its log that answers of `strict` rules waited for.
    pub questions: u64,
    /// Writes of which it is not known how they ended.
    pub unresolved_writes: usize,
    /// Writes that were lost sight of: each is a fault, and keeps its tables out of the cache.
    pub dropped_writes: u64,
}

impl Caches {
    /// Reads all of it.
    pub fn figures(&self, now: Instant) -> Figures {
        let (bytes, tenants) = self.store.held();
        let counters = &self.counters;
        let of = |count: &AtomicU64| count.load(Relaxed);
        let needs_slot = listens(&self.rules());
        Figures {
            mode: self.mode(),
            follows: self.follows(),
            budget: self.budget(),
            bytes,
            tenants,
            entries: self.store.len(),
            hit_ratio: counters.hit_ratio(),
            hits: of(&counters.hits),
            stale: of(&counters.stale),
            joined: of(&counters.joined),
            fills: of(&counters.fills),
            evictions: self.store.evictions(),
            saved_us: of(&counters.saved_micros),
            observed_hits: of(&counters.observed_hits),
            observed_saved_us: of(&counters.observed_saved_micros),
            agreed: of(&counters.agreed),
            disagreed: of(&counters.disagreed),
            misses: by_reason(&counters.misses),
            bypasses: by_reason(&counters.bypasses),
            refused: by_reason(&counters.refused),
            invalidated: by_reason(&counters.invalidated),
            databases: self.all().iter().map(|cached| of_database(cached, needs_slot, now)).collect(),
        }
    }
}

impl Figures {
    /// Bytes by the tenants' names. Who has no name of its own any more is counted with the others.
    pub fn by_tenant(&self, names: &TenantNames) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (tenant, bytes) in &self.tenants {
            *all.entry(names.name((*tenant).into()).to_owned()).or_default() += bytes;
        }
        all
    }

    /// All of them.
    pub fn sum(counts: &ByReason) -> u64 {
        counts.iter().map(|(_, count)| count).sum()
    }
}

fn by_reason<R: Reason>(counts: &Counts<R>) -> ByReason {
    counts.all().collect()
}

/// Whether the answers of some rule follow writes.
fn listens(rules: &Rules) -> bool {
    let mut all = (0..u16::MAX).map_while(|at| rules.get(at));
    all.any(|rule| rule.effect == policy::cache::Effect::Allow && rule.freshness.follows_writes())
}

fn of_database(cached: &Cached, needs_slot: bool, now: Instant) -> DatabaseFigures {
    let slot = cached.generations.slot();
    let is_deaf = needs_slot && !slot.hears();
    let trouble = cached.trouble().or_else(|| match (cached.view().is_some(), is_deaf) {
        (false, _) => Some("its catalog is not known".to_owned()),
        (true, true) => Some("writes from outside are not heard of: there is no replication slot now".to_owned()),
        (true, false) => None,
    });
    DatabaseFigures {
        name: cached.name.to_string(),
        ready: trouble.is_none(),
        trouble,
        slot: match (slot.is_needed() && needs_slot, slot.hears()) {
            (false, _) => "not_needed",
            (true, true) => "up",
            (true, false) => "down",
        },
        slot_lag: slot.lag(now),
        questions: cached.ends.asked(),
        unresolved_writes: cached.generations.unresolved().len(),
        dropped_writes: cached.generations.dropped_writes(),
    }
}

/// The word for a mode, as the configuration has it.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::On => "on",
    }
}

/// The mode of this word.
pub fn mode_of_word(word: &str) -> Option<Mode> {
    [Mode::Off, Mode::Observe, Mode::On].into_iter().find(|mode| mode_word(*mode) == word)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use policy::cache::catalog::Catalog;
    use policy::cache::{Lsn, Snapshot};

    use super::super::testing::{caches, known};
    use super::super::{Fate, View};
    use super::*;

    #[test]
    fn a_database_is_ready_when_its_catalog_is_known_and_writes_are_heard_of() {
        let caches = caches();
        let cached = known(&caches, "a:5432/app");
        let look = |caches: &Caches| caches.figures(Instant::now()).databases.remove(0);
        let first = look(&caches);
        assert!(!first.ready && first.trouble.unwrap().contains("not been read"));
        assert_eq!((first.slot, first.slot_lag), ("down", None));
        cached.set_trouble(None);
        assert!(look(&caches).trouble.unwrap().contains("catalog"));
        let epoch = cached.generations.catalog_is_read(cached.generations.epoch()).unwrap();
        cached.set_view(Some(Arc::new(View {
            serial: crate::cache::Serial::default(),
            quiet: Default::default(),
            catalog: Catalog::default(),
            epoch,
            paths: Default::default(),
            published: Default::default(),
            unfit: None,
        })));
        assert!(look(&caches).trouble.unwrap().contains("replication slot"));
        let behind = Snapshot::parse("10:10:").unwrap();
        cached.generations.slot_is_up(Instant::now(), Lsn(1), &behind);
        let up = look(&caches);
        assert!(up.ready && up.slot == "up" && up.slot_lag.is_some(), "{up:?}");
        cached.generations.slot_is_down();
        assert!(!look(&caches).ready);
    }

    #[test]
    fn what_was_counted_is_shown_with_its_reasons() {
        let caches = caches();
        caches.counters.hit(1_500, true);
        caches.counters.misses.count(policy::cache::Miss::Expired);
        caches.counters.bypasses.add(policy::cache::Bypass::NoRule, 3);
        let figures = caches.figures(Instant::now());
        assert_eq!((figures.hits, figures.stale, figures.saved_us, figures.hit_ratio), (1, 1, 1_500, Some(0.5)));
        assert!(figures.misses.contains(&("expired", 1)) && figures.bypasses.contains(&("no_rule", 3)));
        assert_eq!(Figures::sum(&figures.bypasses), 3);
        caches.counters.observed_hit(700);
        caches.counters.observed_hit(800);
        let figures = caches.figures(Instant::now());
        assert_eq!((figures.hits, figures.observed_hits, figures.observed_saved_us), (1, 2, 1_500));
        assert_eq!((figures.saved_us, figures.hit_ratio), (1_500, Some(0.75)), "one of four was none");
    }

    #[test]
    fn words_lead_back_to_modes() {
        for mode in [Mode::Off, Mode::Observe, Mode::On] {
            assert_eq!(mode_of_word(mode_word(mode)), Some(mode));
        }
        assert_eq!(mode_of_word("On"), None);
    }

    #[test]
    fn every_fate_has_words_of_its_own() {
        let mut all = std::collections::BTreeSet::new();
        let fates = [Fate::Hit, Fate::Observed]
            .into_iter()
            .chain(policy::cache::Miss::ALL.iter().map(|miss| Fate::Miss(*miss)))
            .chain(policy::cache::Bypass::ALL.iter().map(|bypass| Fate::Bypass(*bypass)))
            .chain(policy::cache::Refused::ALL.iter().map(|refused| Fate::Refused(*refused)));
        for fate in fates {
            let words = fate.words();
            assert!(words.ends_with('.') && all.insert(words), "{fate:?}: {words}");
        }
    }
}
