//! Which slow statements get a plan, and the plans that are kept.
//!
//! [`Admission`] decides when the server may be asked: never twice within a minute for one fingerprint, so many times a
//! minute in all, of which tenants have even shares, and with so many waiting at most. [`History`] keeps what came of it, and says when a plan is another one
//! than before.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::finding::Timestamp;
use crate::plan::Plan;

/// Between two plans of one fingerprint.
pub const INTERVAL_US: u64 = 60_000_000;
/// Captures that may wait or be under way at one time.
pub const MAX_WAITING: usize = 16;
/// When to ask again after having been turned away for want of room.
const LATER_US: u64 = 1_000_000;
/// Plans kept of one [`Key`].
pub const MAX_PLANS: usize = 4;
/// Hashes kept of those that made room: a statement whose values lead to more plans in turn has none that is new.
const MAX_GONE: usize = 32;
/// Keys kept; the one not captured for longest makes room.
const MAX_KEYS: usize = 2_000;
/// Bytes that all plans, texts and names may take; the same.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// A tenant that has asked within so many µs has a share.
const SHARES_FOR_US: u64 = 5 * INTERVAL_US;
/// Tenants told apart; of more, all may ask until everything is used.
const MAX_TENANTS: usize = 10_000;

/// Whether a plan is captured now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is: [`Admission::done`] has to be called when it is over.
    Now,
    /// One was captured within the last minute; ask again at this time.
    Later(u64),
    /// Too many in this minute, in all or for this tenant; ask again at this time.
    TooMany(u64),
    /// Too many wait; ask again at this time.
    Busy(u64),
}

/// Decides when a server may be asked for a plan. Times in µs.
#[derive(Debug, Default)]
pub struct Admission {
    last: FxHashMap<u64, u64>,
    tenants: FxHashMap<u32, Asking>,
    minute_us: u64,
    in_minute: u32,
    waiting: usize,
}

/// A tenant with slow statements.
#[derive(Debug, Clone, Copy)]
struct Asking {
    last_us: u64,
    in_minute: u32,
}

impl Admission {
    /// Whether the statement with this fingerprint gets a plan now, with at most `per_minute` plans a minute.
    ///
    /// Those are shared evenly by the tenants that have asked within the last five minutes: one whose statements are all
    /// slow leaves the others theirs.
    pub fn ask(&mut self, strict: u64, tenant: u32, per_minute: u32, now_us: u64) -> Due {
        if let Some(last) = self.last.get(&strict)
            && now_us.saturating_sub(*last) < INTERVAL_US
        {
            return Due::Later(last + INTERVAL_US);
        }
        if now_us.saturating_sub(self.minute_us) >= INTERVAL_US {
            (self.minute_us, self.in_minute) = (now_us, 0);
            // Of what is older nothing follows any more.
            self.last.retain(|_, last| now_us.saturating_sub(*last) < INTERVAL_US);
            self.tenants.retain(|_, asking| now_us.saturating_sub(asking.last_us) < SHARES_FOR_US);
            self.tenants.values_mut().for_each(|asking| asking.in_minute = 0);
        }
        let had = self.had(tenant, now_us);
        if self.in_minute >= per_minute {
            return Due::TooMany(self.minute_us + INTERVAL_US);
        }
        if had >= per_minute.div_ceil((self.tenants.len() as u32).max(1)) {
            // Another tenant may run the same statement, and must not wait for the next minute.
            return Due::TooMany(now_us + LATER_US);
        }
        if self.waiting >= MAX_WAITING {
            return Due::Busy(now_us + LATER_US);
        }
        self.in_minute += 1;
        if let Some(asking) = self.tenants.get_mut(&tenant) {
            asking.in_minute += 1;
        }
        self.waiting += 1;
        self.last.insert(strict, now_us);
        Due::Now
    }

    /// Notes that a tenant asks; how many plans it had in this minute.
    fn had(&mut self, tenant: u32, now_us: u64) -> u32 {
        if self.tenants.len() >= MAX_TENANTS && !self.tenants.contains_key(&tenant) {
            return 0;
        }
        let asking = self.tenants.entry(tenant).or_insert(Asking { last_us: 0, in_minute: 0 });
        asking.last_us = now_us;
        asking.in_minute
    }

    /// A capture is over, however it ended.
    pub fn done(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }
}

/// Whose plans are compared: one statement of one tenant as one user of one database, in one role and search path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Strict fingerprint.
    pub strict: u64,
    /// Database as the client asked for it.
    pub database: Box<str>,
    /// User as the client logged in.
    pub user: Box<str>,
    /// Its tenant's name.
    pub tenant: Box<str>,
    /// Role, session user and search path, hashed.
    pub place: u64,
}

/// A plan that was captured.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The plan as it was last.
    pub plan: Arc<Plan>,
    /// When it was first captured.
    pub first_seen: Timestamp,
    /// When it was last captured.
    pub last_seen: Timestamp,
    /// How often.
    pub captures: u64,
    /// How long the slow execution took that it was last captured for, in µs.
    pub duration_us: u64,
}

/// The plans of one [`Key`].
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose.
    pub key: Key,
    /// Normalised text.
    pub text: Box<str>,
    /// The plans, the last captured first.
    pub plans: Vec<Seen>,
    /// Hashes of plans that it has had and that made room, the oldest first.
    gone: VecDeque<u64>,
}

impl Row {
    /// Bytes that it takes without its plans, roughly.
    fn size(key: &Key, text: &str) -> usize {
        // The key stands in the table too.
        MAX_GONE * size_of::<u64>()
            + text.len()
            + 2 * (key.database.len() + key.user.len() + key.tenant.len())
            + size_of::<(Key, Self)>()
    }

    fn whole_size(&self) -> usize {
        Self::size(&self.key, &self.text) + self.plans.iter().map(|seen| seen.plan.size()).sum::<usize>()
    }

    /// When its newest plan was seen last.
    pub fn last_seen(&self) -> Timestamp {
        self.plans.first().map_or(Timestamp(0), |seen| seen.last_seen)
    }
}

/// A statement has a plan that it never had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Hash of the plan before.
    pub before_hash: u64,
    /// Hash of the plan now.
    pub after_hash: u64,
    /// What the plan before does and this one does not.
    pub before: String,
    /// What this one does and the one before does not.
    pub after: String,
}

/// The plans that are kept.
#[derive(Debug, Default)]
pub struct History {
    rows: FxHashMap<Key, Row>,
    /// Bytes that they take.
    bytes: usize,
}

impl History {
    /// Keeps a plan. `Some`: its key had others, and never this one.
    pub fn keep(&mut self, key: Key, text: &str, plan: Plan, duration_us: u64, now_us: u64) -> Option<Changed> {
        let now = Timestamp(now_us);
        let anew = if self.rows.contains_key(&key) { 0 } else { Row::size(&key, text) };
        self.make_room(&key, anew + plan.size());
        self.bytes += anew;
        let row = self.rows.entry(key).or_insert_with_key(|key| Row {
            key: key.clone(),
            text: text.into(),
            plans: Vec::new(),
            gone: VecDeque::new(),
        });
        self.bytes += plan.size();
        let same = |seen: &Seen| seen.plan.hash == plan.hash || seen.plan.reads_another_part(&plan);
        if let Some(at) = row.plans.iter().position(same) {
            let mut seen = row.plans.remove(at);
            self.bytes = self.bytes.saturating_sub(seen.plan.size());
            seen = Seen { plan: Arc::new(plan), last_seen: now, captures: seen.captures + 1, duration_us, ..seen };
            row.plans.insert(0, seen);
            return None;
        }
        let had = row.gone.contains(&plan.hash);
        let changed = row.plans.first().filter(|_| !had).map(|last| {
            let (before, after) = last.plan.difference(&plan);
            Changed { before_hash: last.plan.hash, after_hash: plan.hash, before, after }
        });
        row.plans.insert(0, Seen { plan: Arc::new(plan), first_seen: now, last_seen: now, captures: 1, duration_us });
        for old in row.plans.drain(row.plans.len().min(MAX_PLANS)..) {
            self.bytes = self.bytes.saturating_sub(old.plan.size());
            row.gone.retain(|gone| *gone != old.plan.hash);
            if row.gone.len() >= MAX_GONE {
                row.gone.pop_front();
            }
            row.gone.push_back(old.plan.hash);
        }
        changed
    }

    fn make_room(&mut self, key: &Key, size: usize) {
        let full = |rows: usize, bytes: usize| rows >= MAX_KEYS || bytes + size > MAX_BYTES;
        if self.rows.contains_key(key) && self.bytes + size <= MAX_BYTES {
            return;
        }
        while full(self.rows.len(), self.bytes) {
            let oldest = self.rows.values().filter(|row| row.key != *key).min_by_key(|row| row.last_seen());
            let Some(row) = oldest.map(|row| row.key.clone()).and_then(|oldest| self.rows.remove(&oldest)) else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(row.whole_size());
        }
    }

    /// The hash of the plan that a tenant's statement had last.
    pub fn last_hash(&self, strict: u64, tenant: &str) -> Option<u64> {
        let own = self.rows.values().filter(|row| row.key.strict == strict && *row.key.tenant == *tenant);
        own.max_by_key(|row| row.last_seen()).and_then(|row| Some(row.plans.first()?.plan.hash))
    }

    /// What is kept, the last captured first.
    pub fn rows(&self, wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.values().filter(|row| wanted(row)).cloned().collect();
        rows.sort_by(|a, b| (b.last_seen(), a.key.strict).cmp(&(a.last_seen(), b.key.strict)));
        rows
    }

    /// Keys kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_fingerprint_is_asked_about_once_a_minute_and_all_together_so_many_times() {
        let mut admission = Admission::default();
        let start = 1_000 * SECOND;
        assert_eq!(admission.ask(1, 1, 3, start), Due::Now);
        assert_eq!(admission.ask(1, 1, 3, start), Due::Later(start + INTERVAL_US));
        assert_eq!(admission.ask(1, 1, 3, start + INTERVAL_US - 1), Due::Later(start + INTERVAL_US));
        assert_eq!(admission.ask(2, 1, 3, start + SECOND), Due::Now);
        assert_eq!(admission.ask(3, 1, 3, start + 2 * SECOND), Due::Now);
        assert_eq!(admission.ask(4, 1, 3, start + 3 * SECOND), Due::TooMany(start + INTERVAL_US));
        assert_eq!(admission.ask(1, 1, 3, start + INTERVAL_US), Due::Now);
        assert_eq!(admission.ask(2, 1, 3, start + INTERVAL_US), Due::Later(start + SECOND + INTERVAL_US));
    }

    #[test]
    fn a_tenant_whose_statements_are_all_slow_leaves_the_others_their_share() {
        let mut admission = Admission::default();
        let mut fingerprints = 0..;
        let mut minute = |minute: u64, tenants: &[u32]| {
            let now_us = (1_000 + minute * 60) * SECOND;
            let had = tenants.iter().map(|tenant| {
                let mut asks = fingerprints.by_ref().take(12);
                let due =
                    asks.by_ref().filter(|strict| admission.ask(*strict, *tenant, 10, now_us) == Due::Now).count();
                (0..due).for_each(|_| admission.done());
                due
            });
            had.collect::<Vec<_>>()
        };
        assert_eq!(minute(0, &[1]), [10], "nobody else wants any");
        assert_eq!(minute(1, &[1, 2]), [10, 0], "nobody knew that another one comes");
        assert_eq!(minute(2, &[1, 2]), [5, 5]);
        assert_eq!(minute(3, &[1, 3, 2]), [5, 4, 1]);
        assert_eq!(minute(4, &[1, 3, 2]), [4, 4, 2]);
        assert_eq!(minute(9, &[1]), [10], "the others have been quiet for five minutes");
        let now_us = 2_000 * SECOND;
        assert_eq!(admission.ask(1_000, 1, 2, now_us), Due::Now);
        assert!(matches!(admission.ask(1_001, 2, 2, now_us), Due::Now));
        assert_eq!(admission.ask(1_002, 1, 2, now_us), Due::TooMany(now_us + INTERVAL_US));
        let now_us = 2_060 * SECOND;
        assert_eq!(admission.ask(1_003, 1, 2, now_us), Due::Now);
        assert_eq!(admission.ask(1_004, 1, 2, now_us), Due::TooMany(now_us + LATER_US), "another may ask at once");
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_remembered_too() {
        let mut admission = Admission::default();
        for strict in 0..MAX_WAITING as u64 {
            assert_eq!(admission.ask(strict, 1, 1_000, 0), Due::Now);
        }
        assert_eq!(admission.ask(99, 1, 1_000, 5), Due::Busy(5 + LATER_US));
        admission.done();
        assert_eq!(admission.ask(99, 1, 1_000, 5), Due::Now);
        for _ in 0..MAX_WAITING {
            admission.done();
        }
        assert_eq!(admission.ask(100, 1, 1_000, INTERVAL_US + 6), Due::Now);
        assert_eq!(admission.last.len(), 1);
    }

    fn key(strict: u64, tenant: &str) -> Key {
        Key { strict, database: "app".into(), user: "u".into(), tenant: tenant.into(), place: 0 }
    }

    fn plan(relation: &str) -> Plan {
        let json = format!(r#"[{{"Plan": {{"Node Type": "Seq Scan", "Relation Name": "{relation}"}}}}]"#);
        Plan::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_plan_that_was_never_seen_is_a_change_and_one_that_comes_back_is_not() {
        let mut history = History::default();
        let mut keep =
            |tenant: &str, relation: &str, now| history.keep(key(1, tenant), "select", plan(relation), 7, now);
        assert_eq!(keep("acme", "a", 1), None);
        assert_eq!(keep("acme", "a", 2), None);
        let changed = keep("acme", "b", 3).unwrap();
        assert_eq!((&*changed.before, &*changed.after), ("Seq Scan on a", "Seq Scan on b"));
        assert_eq!(keep("acme", "a", 4), None, "it had this one");
        assert_eq!(keep("other", "c", 5), None, "another tenant has its own");
        let rows = history.rows(|row| &*row.key.tenant == "acme");
        let seen: Vec<_> =
            rows[0].plans.iter().map(|seen| (seen.plan.hash, seen.captures, seen.first_seen.0)).collect();
        assert_eq!(seen, [(plan("a").hash, 3, 1), (plan("b").hash, 1, 3)]);
        assert_eq!(history.last_hash(1, "acme"), Some(plan("a").hash));
        assert_eq!(history.last_hash(1, "nobody"), None);
    }

    #[test]
    fn four_plans_of_a_key_are_kept_and_keys_have_an_end() {
        let mut history = History::default();
        for n in 0..9u64 {
            let name = ["a", "b", "c", "d", "e", "f", "g", "h", "i"][n as usize];
            assert_eq!(history.keep(key(1, "acme"), "select", plan(name), 7, n).is_some(), n > 0);
        }
        assert_eq!(history.keep(key(1, "acme"), "select", plan("a"), 7, 9), None, "it had this one");
        assert_eq!(history.rows(|_| true)[0].plans.len(), MAX_PLANS);
        for strict in 0..MAX_KEYS as u64 + 10 {
            history.keep(key(strict, "acme"), "select", plan("t"), 7, 100 + strict);
        }
        assert_eq!(history.len(), MAX_KEYS);
        assert_eq!(history.rows(|_| true).iter().map(Row::whole_size).sum::<usize>(), history.bytes);
        assert_eq!(history.last_hash(0, "acme"), None, "the oldest has made room");
    }

    #[test]
    fn a_new_day_of_a_table_with_parts_is_no_change_and_takes_no_room() {
        let mut history = History::default();
        for day in 1..30 {
            let day = plan(&format!("events_2026_11_{day}"));
            assert_eq!(history.keep(key(1, "acme"), "select", day, 7, 1), None);
        }
        let rows = history.rows(|_| true);
        assert_eq!((rows[0].plans.len(), rows[0].plans[0].captures), (1, 29));
        assert_eq!(rows.iter().map(Row::whole_size).sum::<usize>(), history.bytes);
    }

    #[test]
    fn long_texts_count_towards_the_bytes_that_are_kept() {
        let mut history = History::default();
        let text = "x".repeat(MAX_BYTES / 10);
        for strict in 0..30 {
            history.keep(key(strict, "acme"), &text, plan("t"), 7, strict);
            history.keep(key(strict, "acme"), &text, plan("u"), 7, strict);
        }
        assert!(history.len() < 10 && history.bytes <= MAX_BYTES, "{} texts", history.len());
        assert_eq!(history.rows(|_| true).iter().map(Row::whole_size).sum::<usize>(), history.bytes);
    }
}
