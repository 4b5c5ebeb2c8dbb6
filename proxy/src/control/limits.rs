//! Tells the log which tenants reach their limits. Looked for in the counters now and then: no statement waits for a line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{LimitKey, Mode};
use policy::tenant::{ClassId, TenantId};
use rustc_hash::FxHashMap;

use crate::shared::Shared;
use crate::tenancy::{Reached, Usage};

/// A tenant, class, limit and mode has one line in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Lines at once, and in a second after that, of all tenants together.
const BURST: u32 = 20;
const PER_SECOND: f64 = 2.0;

/// Writes the lines that are due.
pub(super) fn tell(shared: &Shared, told: &mut Told, now: Instant) {
    let lines = told.look(&shared.tenancy.all(), now);
    if lines.is_empty() {
        return;
    }
    let rules = shared.rules();
    for line in lines {
        let tenant = shared.directory.name(line.tenant);
        let class = rules.resolver.class_name(line.class);
        let explained = rules.limits.explain(&tenant, class);
        let from = explained.into_iter().find(|limit| limit.key == line.key && limit.value.is_some());
        // A limit that no other table says is one of a single statement's.
        let rule = from.map_or_else(|| "[tenant.fingerprint]".to_owned(), |limit| limit.from.shown());
        tracing::warn!(
            target: "limit",
            tenant = &*tenant,
            class,
            limit = line.key.word(),
            mode = line.mode.word(),
            rule,
            times = line.times,
            "a tenant has reached a limit"
        );
    }
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    tenant: TenantId,
    class: ClassId,
    key: LimitKey,
    mode: Mode,
    /// Since the last line about the same.
    times: u64,
}

/// What was told when. As many entries as tenants and classes have reached limits, each bounded by itself.
#[derive(Debug)]
pub(super) struct Told {
    lines: FxHashMap<(TenantId, ClassId, LimitKey, u8), Entry>,
    tokens: f64,
    refilled: Instant,
}

#[derive(Debug, Default)]
struct Entry {
    /// Of these hits the log knows.
    told: u64,
    at: Option<Instant>,
}

impl Told {
    /// Nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { lines: FxHashMap::default(), tokens: BURST.into(), refilled: now }
    }

    /// The lines that are due.
    fn look(&mut self, all: &[(TenantId, ClassId, Arc<Usage>)], now: Instant) -> Vec<Line> {
        let since = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = f64::from(BURST).min(self.tokens + since * PER_SECOND);
        self.refilled = now;
        // What classes have reached is among what all have: those of no class are the rest. A class that is read first never
        // has more than the whole.
        let mut in_classes: FxHashMap<(TenantId, LimitKey, u8), u64> = FxHashMap::default();
        let mut lines = Vec::new();
        let (whole, classes): (Vec<_>, Vec<_>) = all.iter().partition(|(_, class, _)| *class == ClassId::NONE);
        for (tenant, class, usage) in classes.into_iter().chain(whole) {
            if usage.hits() == 0 {
                continue;
            }
            for reached in usage.limits_reached() {
                for (mode, count) in by_mode(&reached) {
                    let place = (*tenant, reached.key, mode as u8);
                    let own = if *class == ClassId::NONE {
                        count.saturating_sub(in_classes.get(&place).copied().unwrap_or(0))
                    } else {
                        *in_classes.entry(place).or_default() += count;
                        count
                    };
                    let entry = self.lines.entry((*tenant, *class, reached.key, mode as u8)).or_default();
                    let is_due = entry.at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
                    if own <= entry.told || !is_due || self.tokens < 1.0 {
                        continue;
                    }
                    self.tokens -= 1.0;
                    lines.push(Line {
                        tenant: *tenant,
                        class: *class,
                        key: reached.key,
                        mode,
                        times: own - entry.told,
                    });
                    *entry = Entry { told: own, at: Some(now) };
                }
            }
        }
        lines
    }
}

fn by_mode(reached: &Reached) -> impl Iterator<Item = (Mode, u64)> {
    let counts = [(Mode::Observe, reached.observed), (Mode::Warn, reached.warned), (Mode::Enforce, reached.enforced)];
    counts.into_iter().filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{Membership, Tenancy};

    #[test]
    fn a_limit_that_is_reached_is_told_at_once_and_then_once_a_minute() {
        let tenancy = Tenancy::default();
        let (plain, worker) = (ClassId::NONE, ClassId::at(1));
        let of_none = Membership::join(&tenancy, TenantId::OTHER, plain);
        let of_class = Membership::join(&tenancy, TenantId::OTHER, worker);
        let hit = |who: &Membership, mode| who.each(|usage| usage.reached(LimitKey::MaxRows, mode));
        let start = Instant::now();
        let mut told = Told::new(start);
        let mut at = |seconds: u64| {
            let lines = told.look(&tenancy.all(), start + Duration::from_secs(seconds));
            lines.into_iter().map(|line| (line.class, line.mode, line.times)).collect::<Vec<_>>()
        };
        assert_eq!(at(1), []);
        hit(&of_class, Mode::Enforce);
        assert_eq!(at(2), [(worker, Mode::Enforce, 1)], "told once, although it is counted for the whole too");
        hit(&of_class, Mode::Enforce);
        hit(&of_none, Mode::Observe);
        assert_eq!(at(3), [(plain, Mode::Observe, 1)]);
        hit(&of_class, Mode::Enforce);
        assert_eq!(at(61), []);
        assert_eq!(at(62), [(worker, Mode::Enforce, 2)]);
        assert_eq!(at(200), [], "nothing new");
    }

    #[test]
    fn a_thousand_tenants_do_not_fill_the_log() {
        let usage = Arc::new(Usage::default());
        usage.reached(LimitKey::MaxRows, Mode::Enforce);
        let directory = policy::tenant::Directory::new(&config::Tenants { max_tenants: 1_000, ..Default::default() });
        let all: Vec<_> = (0..1_000).map(|n| (directory.id(&format!("t{n}")), ClassId::NONE, usage.clone())).collect();
        let start = Instant::now();
        let mut told = Told::new(start);
        let mut seen = 0;
        for second in 0..30 {
            let lines = told.look(&all, start + Duration::from_secs(second)).len();
            assert!(lines <= if second == 0 { BURST as usize } else { 3 }, "{lines}");
            seen += lines;
        }
        assert_eq!(seen, BURST as usize + 29 * PER_SECOND as usize, "and those that were held back come later");
    }
}
