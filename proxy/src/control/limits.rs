//! Tells the log which tenants reach their limits. Looked for in the counters now and then: no statement waits for a line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{LimitKey, Mode};
use policy::limits::{Explained, LimitTable};
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
        let rule = rule(&rules.limits, &tenant, class, &line);
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

/// The table that says it, now: of a single statement, or of the session; where both do, the one in whose mode it was.
fn rule(limits: &LimitTable, tenant: &str, class: &str, line: &Line) -> String {
    let own = line.strict.map(|strict| limits.explain_statement(tenant, class, strict)).unwrap_or_default();
    let mut all: Vec<Explained> = own.into_iter().chain(limits.explain(tenant, class).into_iter().rev()).collect();
    all.retain(|limit| limit.key == line.key && limit.value.is_some());
    let from = all.iter().find(|limit| limit.mode == Some(line.mode)).or(all.first());
    from.map_or_else(String::new, |limit| limit.from.shown())
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
    /// The statement whose own limit it was.
    strict: Option<u64>,
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
                        strict: usage.named(reached.key),
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
    fn the_table_is_told_that_said_what_was_reached() {
        let count = |number| config::Limits::default().with_count(LimitKey::MaxRows, number);
        let settings = config::Tenants {
            max_tenants: 2,
            class_limits: [("job".to_owned(), config::Limits::default().with_count(LimitKey::MaxUpstreams, 2))].into(),
            default_limits: count(9).with_mode(LimitKey::MaxRows, Mode::Warn),
            fingerprints: [(7, count(3).with_mode(LimitKey::MaxRows, Mode::Enforce))].into(),
            ..Default::default()
        };
        let table = LimitTable::new(&settings, &policy::tenant::Directory::new(&settings));
        let usage = Arc::new(Usage::default());
        let told = |key, mode, strict| {
            usage.reached(key, mode);
            usage.names(key, strict);
            let all = [(TenantId::OTHER, ClassId::NONE, usage.clone())];
            let lines = Told::new(Instant::now()).look(&all, Instant::now());
            let line = lines.into_iter().find(|line| (line.key, line.mode) == (key, mode)).unwrap();
            rule(&table, "acme", "job", &line)
        };
        assert_eq!(told(LimitKey::MaxRows, Mode::Warn, None), "[tenant.default]");
        assert_eq!(told(LimitKey::MaxRows, Mode::Enforce, Some(7)), "[tenant.fingerprint.0000000000000007]");
        assert_eq!(told(LimitKey::MaxRows, Mode::Warn, Some(7)), "[tenant.default]", "in the mode of which it was");
        assert_eq!(told(LimitKey::MaxUpstreams, Mode::Enforce, None), "[tenant.class.job]");
        assert_eq!(told(LimitKey::MaxBytes, Mode::Enforce, Some(8)), "", "a reload took it away");
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
