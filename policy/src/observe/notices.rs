//! Findings about time, whoever has noticed them: one row for each cause, counters, a cool-down.

use xxhash_rust::xxh3::xxh3_64;

use super::event::Scope;
use super::ledger::Ledger;
use super::plans::Changed;
use super::regression::Regression;
use super::slowdown::Slowdown;
use crate::finding::{Detail, Finding, Kind, Side, Timestamp};

/// What was noticed, and about which statement of whom. Times in µs.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Who sent it; all empty where it is about a statement and not about a client.
    pub scope: Scope,
    /// Its tenant's name; empty where it is about several tenants' statements.
    pub tenant: String,
    /// Strict fingerprint of the statement: the slow one, the last one of a transaction, or of many the one that lost most.
    pub strict: u64,
    /// Its normalised text.
    pub text: String,
    /// What was noticed.
    pub what: What,
    /// When what it is about began.
    pub began_us: u64,
    /// When it was noticed.
    pub now_us: u64,
}

/// What was noticed.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Another plan than ever before.
    Plan {
        /// From what to what.
        changed: Changed,
        /// What the slow execution took.
        duration_us: u64,
    },
    /// A statement is slower than it used to be.
    Regression(Regression),
    /// Most statements of a database are slower than they used to be.
    Slowdown(Slowdown),
    /// A transaction has been open for long.
    Open {
        /// How long.
        open_us: u64,
        /// The longest silence of its client that was noticed.
        idle_us: u64,
        /// From where on that is told.
        threshold_us: u64,
        /// It has ended.
        ended: bool,
        /// It was told before: this is how it went on.
        again: bool,
    },
    /// Its client has said nothing for long.
    Idle {
        /// How long the transaction has been open.
        open_us: u64,
        /// How long its client has said nothing.
        idle_us: u64,
        /// From where on that is told.
        threshold_us: u64,
        /// The silence has ended.
        ended: bool,
        /// It was told before: this is how it went on.
        again: bool,
    },
}

/// The findings about time.
#[derive(Debug)]
pub struct Notices(Ledger);

impl Notices {
    /// Room for so many findings; the one not seen for longest makes room.
    pub fn new(capacity: usize) -> Self {
        Self(Ledger::new(capacity))
    }

    /// Takes a notice in.
    pub fn record(&mut self, notice: Notice) {
        let goes_on = notice.goes_on();
        self.0.record(finding(notice), goes_on);
    }

    /// What is due to be told: what is new, and what was seen again a minute after it was told.
    pub fn drain(&mut self, now_us: u64) -> impl Iterator<Item = Finding> + '_ {
        self.0.drain(now_us)
    }

    /// All of them, for their counters.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}

impl Notice {
    fn goes_on(&self) -> bool {
        matches!(self.what, What::Open { again: true, .. } | What::Idle { again: true, .. })
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// A time as a sentence has it.
fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}

fn finding(notice: Notice) -> Finding {
    let Notice { scope, tenant, strict, text, what, began_us, now_us } = notice;
    let (kind, wasted_ms, evidence, detail) = match what {
        What::Plan { changed, duration_us } => (
            Kind::PlanChanged,
            ms(duration_us),
            format!("{} → {}", changed.before, changed.after),
            Detail::Plan {
                plan_before: format!("{:016x}", changed.before_hash),
                plan_after: format!("{:016x}", changed.after_hash),
                duration_ms: ms(duration_us),
            },
        ),
        What::Regression(found) => (
            Kind::Regression,
            ms(found.lost_us()),
            format!("p95 {:.1} ms → {:.1} ms", ms(found.usual_p95_us), ms(found.p95_us)),
            Detail::Regression {
                usual_p95_ms: ms(found.usual_p95_us),
                p95_ms: ms(found.p95_us),
                usual_calls: found.usual_calls,
                calls: found.calls,
            },
        ),
        What::Slowdown(Slowdown { factor, compared, slower, lost_us, .. }) => (
            Kind::Slowdown,
            ms(lost_us),
            format!(
                "statements take {factor:.1} times as long as usual; {slower} of {compared} are over 3 times slower"
            ),
            Detail::Slowdown { factor: (factor * 10.0).round() / 10.0, slower, compared },
        ),
        What::Open { open_us, idle_us, threshold_us, ended, .. } => {
            let end = if ended { "was open for" } else { "is open for" };
            let detail = Detail::Transaction {
                open_ms: ms(open_us),
                idle_ms: ms(idle_us),
                threshold_ms: ms(threshold_us),
                ended,
            };
            (Kind::SlowTransaction, ms(open_us), format!("transaction {end} {}", seconds(open_us)), detail)
        }
        What::Idle { open_us, idle_us, threshold_us, ended, .. } => {
            let end = if ended { "said" } else { "has said" };
            let evidence =
                format!("client {end} nothing for {} in a transaction open for {}", seconds(idle_us), seconds(open_us));
            let detail = Detail::Transaction {
                open_ms: ms(open_us),
                idle_ms: ms(idle_us),
                threshold_ms: ms(threshold_us),
                ended,
            };
            (Kind::IdleInTransaction, ms(idle_us), evidence, detail)
        }
    };
    let fingerprint = format!("{strict:016x}");
    // A plan is the statement's, whoever happened to run it when it was captured.
    let of_statement = kind == Kind::PlanChanged;
    let (application, client) = if of_statement { ("", "") } else { (&*scope.application, &*scope.client) };
    // What all of a database's statements share is one cause, whichever of them has lost most, and whose they were.
    let of_whom = if kind == Kind::Slowdown { ["", ""] } else { [&*tenant, &*fingerprint] };
    let [whose, which] = of_whom;
    let identity = [kind.name(), &scope.database, &scope.user, application, client, whose, which].join("\0");
    Finding {
        id: format!("{:016x}", xxh3_64(identity.as_bytes())),
        kind,
        severity: kind.severity(),
        tenant,
        database: scope.database,
        user: scope.user,
        application: scope.application,
        client: scope.client,
        route: None,
        traced: false,
        parent: None,
        child: Side { fingerprint, text, column: None, parameter: None },
        evidence: Some(evidence),
        count: 1,
        parent_executions: 0,
        connections: 1,
        wasted_ms,
        occurrences: 1,
        statements: 1,
        per_minute: 1,
        first_seen: Timestamp(began_us),
        last_seen: Timestamp(now_us),
        rewrite: None,
        detail: Some(detail),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn open(strict: u64, open_us: u64, ended: bool, again: bool, now_us: u64) -> Notice {
        Notice {
            scope: Scope { application: "web".into(), ..Scope::default() },
            tenant: "acme".into(),
            strict,
            text: "update t set a = $1".into(),
            what: What::Open { open_us, idle_us: 0, threshold_us: 5 * SECOND, ended, again },
            began_us: now_us - open_us,
            now_us,
        }
    }

    #[test]
    fn a_cause_is_told_once_a_minute_and_counted_each_time() {
        let mut notices = Notices::new(10);
        let start = 1_000 * SECOND;
        let told = |notices: &mut Notices, now| notices.drain(now).collect::<Vec<_>>();
        notices.record(open(1, 5 * SECOND, false, false, start));
        let first = told(&mut notices, start);
        assert_eq!((first.len(), first[0].kind, first[0].occurrences), (1, Kind::SlowTransaction, 1));
        assert_eq!(first[0].evidence.as_deref(), Some("transaction is open for 5.0 s"));
        notices.record(open(1, 9 * SECOND, true, true, start + 4 * SECOND));
        assert_eq!(told(&mut notices, start + 90 * SECOND).len(), 0, "its end is no news");
        let known = notices.findings().next().unwrap();
        assert_eq!((known.occurrences, known.wasted_ms), (1, 9_000.0));
        assert_eq!(known.evidence.as_deref(), Some("transaction was open for 9.0 s"));
        for n in 0..20 {
            notices.record(open(1, 6 * SECOND, true, false, start + 91 * SECOND + n));
        }
        let again = told(&mut notices, start + 92 * SECOND);
        assert_eq!((again.len(), again[0].occurrences), (1, 21));
        notices.record(open(1, 6 * SECOND, true, false, start + 93 * SECOND));
        assert_eq!(told(&mut notices, start + 94 * SECOND).len(), 0, "it was told two seconds ago");
        assert_eq!(told(&mut notices, start + 152 * SECOND).len(), 1);
    }

    #[test]
    fn another_statement_or_tenant_is_another_cause_and_there_is_an_end_to_them() {
        let mut notices = Notices::new(3);
        for strict in 0..5 {
            notices.record(open(strict, 6 * SECOND, true, false, 100 * SECOND + strict));
        }
        assert_eq!(notices.findings().count(), 3);
        let mut other = open(4, 6 * SECOND, true, false, 100 * SECOND);
        other.tenant = "other".into();
        notices.record(other);
        assert_eq!(notices.drain(200 * SECOND).filter(|finding| finding.child.fingerprint.ends_with('4')).count(), 2);
    }

    #[test]
    fn a_database_that_has_become_slower_is_one_cause_whichever_statement_shows_it() {
        let mut notices = Notices::new(3);
        for (strict, tenant, lost_us) in [(1, "acme", 5_000), (2, "", 9_000)] {
            let slowdown = Slowdown { factor: 9.53, compared: 13, slower: 12, lost_us, since_us: 1 };
            let scope = Scope { database: "app".into(), ..Scope::default() };
            let notice = Notice { scope, tenant: tenant.into(), ..open(strict, 1, true, false, 100 * SECOND) };
            notices.record(Notice { what: What::Slowdown(slowdown), ..notice });
        }
        let found: Vec<_> = notices.drain(100 * SECOND).collect();
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((finding.kind, &*finding.database, finding.occurrences), (Kind::Slowdown, "app", 2));
        assert_eq!((&*finding.child.fingerprint, finding.wasted_ms), ("0000000000000002", 9.0));
        let evidence = "statements take 9.5 times as long as usual; 12 of 13 are over 3 times slower";
        assert_eq!(finding.evidence.as_deref(), Some(evidence));
        let detail = serde_json::to_value(finding.detail.as_ref().unwrap()).unwrap();
        assert_eq!(detail, serde_json::json!({"factor": 9.5, "slower": 12, "compared": 13}));
        assert_eq!(serde_json::from_value::<Detail>(detail).unwrap(), finding.detail.clone().unwrap());
    }

    #[test]
    fn a_changed_plan_says_from_what_to_what() {
        let (before, after) = ("Index Scan using a on t".to_owned(), "Seq Scan on t".to_owned());
        let changed = Changed { before_hash: 10, after_hash: 11, before, after };
        let what = What::Plan { changed, duration_us: 250_000 };
        let mut notices = Notices::new(3);
        notices.record(Notice { what, ..open(1, 1, true, false, 100 * SECOND) });
        let finding = notices.drain(100 * SECOND).next().unwrap();
        assert_eq!(finding.evidence.as_deref(), Some("Index Scan using a on t → Seq Scan on t"));
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["detail"]["plan_after"], "000000000000000b");
        assert_eq!((&json["kind"], &json["detail"]["duration_ms"]), (&"plan_changed".into(), &250.0.into()));
    }
}
