//! What the watch remembers from one look to the next: what was wrong, and since when.
//!
//! Pure: what it is told of a look comes in as facts, and what has changed since the last one goes out as events.

use std::collections::{BTreeMap, HashMap};

use policy::finding::{Kept, State};
use serde_json::json;

use super::Event;
use super::samples::Samples;
use crate::admin::source::PoolState;
use crate::tenancy::Reached;

/// Waiting is told, and a verdict, from here on: what is shorter is how a pool works.
pub(in crate::admin) const WAITS_US: u64 = 1_000_000;
/// A tenant's limit counts as being reached for so long after it last was.
pub(in crate::admin) const EPISODE_US: u64 = 300 * 1_000_000;
/// Findings whose state is remembered.
const MAX_FINDINGS: usize = 10_000;
/// Tenants' limits that are remembered.
const MAX_LIMITS: usize = 10_000;

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) now_us: u64,
    pub(super) pools: Vec<PoolState>,
    pub(super) draining: bool,
    pub(super) short_of_memory: bool,
    /// SUSPEND is in force.
    pub(super) suspended: bool,
    /// Reloads done and refused, and whether the last one was refused.
    pub(super) reloads: (u64, u64, bool),
    /// Findings that have changed since the last look.
    pub(super) findings: Vec<Kept>,
    /// Tenants' limits; `None`: not looked at this time.
    pub(super) limits: Option<Vec<(String, Vec<Reached>)>>,
    /// Things that are lost when there is too much of them, each with how many were.
    pub(super) losses: Vec<(&'static str, u64)>,
}

/// Since when things are so, in µs since 1970; `None`: they are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::admin) struct PoolSince {
    /// Clients wait longer than [`WAITS_US`].
    pub(in crate::admin) waiting: Option<u64>,
    /// Its server cannot be connected to.
    pub(in crate::admin) down: Option<u64>,
    /// It gives no upstream out.
    pub(in crate::admin) paused: Option<u64>,
    /// It takes no new clients.
    pub(in crate::admin) disabled: Option<u64>,
}

/// Something that comes and goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::admin) struct Episode {
    /// When it began.
    pub(in crate::admin) began_us: u64,
    /// When it was seen last.
    pub(in crate::admin) last_us: u64,
    /// How often it happened since it began.
    pub(in crate::admin) count: u64,
    /// The counter at the last look.
    pub(in crate::admin) counter: u64,
}

impl Episode {
    /// Takes a counter's value in.
    fn take(&mut self, counter: u64, now_us: u64, first: bool) {
        let more = counter.saturating_sub(self.counter);
        self.counter = counter;
        if more == 0 || first {
            return;
        }
        if self.is_over(now_us) {
            (self.began_us, self.count) = (now_us, 0);
        }
        self.last_us = now_us;
        self.count += more;
    }

    /// Whether it has not happened for a while, or never.
    pub(in crate::admin) fn is_over(&self, now_us: u64) -> bool {
        self.last_us == 0 || now_us.saturating_sub(self.last_us) > EPISODE_US
    }
}

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct Memory {
    /// When the last look was; 0: there was none.
    pub(in crate::admin) looked_us: u64,
    /// By database and user.
    pub(in crate::admin) pools: BTreeMap<(String, String), PoolSince>,
    /// Since when the process ends.
    pub(in crate::admin) draining: Option<u64>,
    /// Since when SUSPEND is in force.
    pub(in crate::admin) suspended: Option<u64>,
    /// Since when memory is short.
    pub(in crate::admin) short_of_memory: Option<u64>,
    /// What databases had done.
    pub(in crate::admin) samples: Samples,
    /// Limits that tenants have reached, by tenant and key.
    pub(in crate::admin) limits: BTreeMap<(String, &'static str), Episode>,
    /// What was lost.
    pub(in crate::admin) losses: BTreeMap<&'static str, Episode>,
    /// Up to which change of findings everything is told.
    pub(super) sequence: u64,
    reloads: (u64, u64),
    findings: HashMap<String, State>,
}

/// Keeps a moment as long as something is so. `true`: that has changed.
fn follow(since: &mut Option<u64>, is_so: bool, now_us: u64) -> bool {
    let changed = since.is_some() != is_so;
    if changed {
        *since = is_so.then_some(now_us);
    }
    changed
}

impl Memory {
    /// Takes a look in; returns what has happened since the one before. The first one tells nothing: it is how things are.
    pub(super) fn take(&mut self, look: &Look) -> Vec<Event> {
        let first = self.looked_us == 0;
        let mut events = Vec::new();
        self.take_pools(look, &mut events);
        if follow(&mut self.draining, look.draining, look.now_us) {
            events.push(Event { kind: "drain", tenant: None, data: json!({"draining": look.draining}) });
        }
        follow(&mut self.suspended, look.suspended, look.now_us);
        if follow(&mut self.short_of_memory, look.short_of_memory, look.now_us) {
            events.push(Event { kind: "memory", tenant: None, data: json!({"short": look.short_of_memory}) });
        }
        let (done, refused, failed) = look.reloads;
        if (done, refused) != self.reloads {
            let outcome = if failed { "refused" } else { "done" };
            events.push(Event { kind: "reload", tenant: None, data: json!({"outcome": outcome}) });
            self.reloads = (done, refused);
        }
        look.findings.iter().for_each(|kept| events.extend(self.take_finding(kept)));
        self.take_counters(look, first);
        self.looked_us = look.now_us;
        if first {
            events.clear();
        }
        events
    }

    fn take_pools(&mut self, look: &Look, events: &mut Vec<Event>) {
        let mut known = std::mem::take(&mut self.pools);
        for pool in &look.pools {
            let key = (pool.database.clone(), pool.user.clone());
            let mut since = known.remove(&key).unwrap_or_default();
            let waits = pool.waiting_for.is_some_and(|waited| waited.as_micros() >= u128::from(WAITS_US));
            // Whoever waited has been served when nobody waits any more, not when the next one has waited for less.
            let waits = waits || (since.waiting.is_some() && pool.waiting > 0);
            let began_us =
                look.now_us - pool.waiting_for.map_or(0, |waited| waited.as_micros() as u64).min(look.now_us);
            let mut tell = |change: &str| {
                let data = json!({
                    "database": pool.database, "user": pool.user, "change": change, "waiting": pool.waiting,
                });
                events.push(Event { kind: "pool", tenant: None, data });
            };
            if follow(&mut since.waiting, waits, began_us) {
                tell(if waits { "waiting" } else { "served" });
            }
            let down = pool.failures > 0;
            if follow(&mut since.down, down, look.now_us) {
                tell(if down { "down" } else { "up" });
            }
            if follow(&mut since.paused, pool.paused, look.now_us) {
                tell(if pool.paused { "paused" } else { "resumed" });
            }
            if follow(&mut since.disabled, pool.disabled, look.now_us) {
                tell(if pool.disabled { "disabled" } else { "enabled" });
            }
            self.pools.insert(key, since);
        }
        // Those that are gone are not remembered.
    }

    fn take_finding(&mut self, kept: &Kept) -> Option<Event> {
        let finding = &kept.finding;
        let before = self.findings.get(&finding.id).copied();
        if before == Some(kept.state) {
            return None;
        }
        if self.findings.len() >= MAX_FINDINGS && before.is_none() {
            // Which go matters little: at worst an old finding is told as if it were new.
            let gone = self.findings.keys().next().cloned();
            gone.map(|gone| self.findings.remove(&gone));
        }
        self.findings.insert(finding.id.clone(), kept.state);
        let change = match (before, kept.state) {
            (None, State::Open) => "opened",
            (Some(_), State::Open) => "reopened",
            (_, State::Acknowledged) => "acknowledged",
            (_, State::Muted) => "muted",
        };
        let data = json!({
            "id": finding.id,
            "change": change,
            "kind": finding.kind,
            "severity": finding.severity,
            "tenant": finding.tenant,
            "database": finding.database,
            "application": finding.application,
            "fingerprint": finding.child.fingerprint,
            "state": kept.state,
        });
        Some(Event { kind: "finding", tenant: Some(finding.tenant.clone()), data })
    }

    fn take_counters(&mut self, look: &Look, first: bool) {
        for (name, lost) in &look.losses {
            let is_new = !self.losses.contains_key(name);
            self.losses.entry(*name).or_default().take(*lost, look.now_us, first && is_new);
        }
        let Some(limits) = &look.limits else { return };
        // A tenant that comes up between two looks has begun at zero.
        let first = self.limits.is_empty() && first;
        for (tenant, reached) in limits {
            for hit in reached {
                let key = (tenant.clone(), hit.key.word());
                if self.limits.len() >= MAX_LIMITS && !self.limits.contains_key(&key) {
                    continue;
                }
                let counter = hit.warned.saturating_add(hit.enforced);
                self.limits.entry(key).or_default().take(counter, look.now_us, first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::analyst::finding;

    fn kinds(events: &[Event]) -> Vec<String> {
        events.iter().map(|event| format!("{} {}", event.kind, event.data["change"].as_str().unwrap_or(""))).collect()
    }

    #[test]
    fn what_begins_and_ends_is_told_once_each() {
        let mut memory = Memory::default();
        let mut pool = PoolState { database: "app".into(), user: "u".into(), ..PoolState::default() };
        let look = |now_us, pool: &PoolState| Look { now_us, pools: vec![pool.clone()], ..Look::default() };
        assert_eq!(kinds(&memory.take(&look(10_000_000, &pool))), [""; 0]);
        (pool.waiting, pool.waiting_for) = (3, Some(Duration::from_millis(500)));
        assert_eq!(kinds(&memory.take(&look(12_000_000, &pool))), [""; 0], "that is how a pool works");
        pool.waiting_for = Some(Duration::from_millis(2_500));
        assert_eq!(kinds(&memory.take(&look(14_000_000, &pool))), ["pool waiting"]);
        let since = memory.pools[&("app".to_owned(), "u".to_owned())];
        assert_eq!(since.waiting, Some(11_500_000), "from when the oldest one waits");
        pool.waiting_for = Some(Duration::from_millis(100));
        assert_eq!(kinds(&memory.take(&look(16_000_000, &pool))), [""; 0], "others wait by now");
        (pool.waiting, pool.waiting_for, pool.failures, pool.paused) = (0, None, 2, true);
        assert_eq!(kinds(&memory.take(&look(18_000_000, &pool))), ["pool served", "pool down", "pool paused"]);
        (pool.failures, pool.paused, pool.disabled) = (0, false, true);
        assert_eq!(kinds(&memory.take(&look(20_000_000, &pool))), ["pool up", "pool resumed", "pool disabled"]);
        memory.take(&Look { now_us: 22_000_000, ..Look::default() });
        assert!(memory.pools.is_empty(), "a pool that is gone is forgotten");
    }

    #[test]
    fn findings_are_told_when_their_state_changes() {
        let mut memory = Memory::default();
        memory.take(&Look { now_us: 1, ..Look::default() });
        let mut kept = Kept::new(finding("a", "acme", 1));
        let mut tell = |kept: &Kept| memory.take(&Look { now_us: 2, findings: vec![kept.clone()], ..Look::default() });
        let told = tell(&kept);
        assert_eq!((kinds(&told), told[0].tenant.as_deref()), (vec!["finding opened".to_owned()], Some("acme")));
        assert!(tell(&kept).is_empty(), "more of the same");
        kept.state = State::Acknowledged;
        assert_eq!(kinds(&tell(&kept)), ["finding acknowledged"]);
        kept.state = State::Open;
        assert_eq!(kinds(&tell(&kept)), ["finding reopened"]);
        kept.state = State::Muted;
        assert_eq!(kinds(&tell(&kept)), ["finding muted"]);
    }

    #[test]
    fn a_limit_is_an_episode_that_ends_when_it_is_not_reached_for_a_while() {
        let mut memory = Memory::default();
        let reached = |enforced| Reached { key: config::LimitKey::MaxRows, observed: 9, warned: 1, enforced };
        let mut look = |now_us, enforced| {
            let limits = Some(vec![("acme".to_owned(), vec![reached(enforced)])]);
            memory.take(&Look { now_us, limits, ..Look::default() });
            memory.limits[&("acme".to_owned(), "max_rows")]
        };
        assert!(look(1_000_000, 5).is_over(1_000_000), "what was before the first look");
        let episode = look(11_000_000, 7);
        assert_eq!((episode.count, episode.began_us, episode.is_over(11_000_000)), (2, 11_000_000, false));
        assert_eq!(look(21_000_000, 8).count, 3);
        assert!(look(21_000_000 + EPISODE_US + 1, 8).is_over(21_000_000 + EPISODE_US + 1));
        assert_eq!(look(400_000_000, 9).count, 1, "another episode");
    }

    #[test]
    fn the_begin_of_suspend_is_remembered_as_long_as_it_lasts() {
        let mut memory = Memory::default();
        let mut since = |now_us, suspended| {
            memory.take(&Look { now_us, suspended, ..Look::default() });
            memory.suspended
        };
        assert_eq!([since(1, false), since(2, true), since(3, true), since(4, false)], [None, Some(2), Some(2), None]);
    }

    #[test]
    fn reloads_drains_and_losses_are_followed() {
        let mut memory = Memory::default();
        memory.take(&Look { now_us: 1, losses: vec![("events", 7)], ..Look::default() });
        let look =
            Look { now_us: 2, draining: true, reloads: (1, 1, true), losses: vec![("events", 9)], ..Look::default() };
        let told = memory.take(&look);
        assert_eq!(told.iter().map(|event| event.kind).collect::<Vec<_>>(), ["drain", "reload"]);
        assert_eq!(told[1].data, json!({"outcome": "refused"}));
        assert_eq!((memory.draining, memory.losses["events"].count), (Some(2), 2));
    }
}
