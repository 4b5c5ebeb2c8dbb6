//! What the demo promises, held against what was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::cached::Cached;
use super::crew::CLIENTS;
use super::limited::is_timeout;
use super::tally::{Figures, Shape};
use super::watch::Seen;
use super::{LIMIT, LIMITED_TENANT, POOL_SIZE};

/// How much later than the limit the error may come: the server's timer, the way back, and two busy cores.
const LATE: Duration = Duration::from_millis(600);

/// Hits among what may be cached, at least.
const HIT_RATIO: f64 = 0.8;
/// What the server is spared of a page, at least.
const SAVED: f64 = 0.7;

/// One run of the crew.
#[derive(Debug, Clone)]
pub struct Run {
    /// How long it was meant to last.
    pub time: Duration,
    /// How long it took to connect all clients.
    pub connecting: Duration,
    /// What clients saw.
    pub figures: Figures,
    /// What the server and the kernel said.
    pub seen: Seen,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Through pgweir.
    pub through: Run,
    /// The same traffic directly.
    pub direct: Run,
    /// `/api/v1/findings` after the run.
    pub findings: Vec<Value>,
    /// `/api/v1/queries` after the run.
    pub queries: Vec<Value>,
    /// Processor time of pgweir over its run.
    pub proxy_cpu: Duration,
    /// The dashboards without a cache and with one.
    pub cached: Cached,
}

/// A statement over all tenants.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    /// Its normalised text.
    pub text: String,
    /// Executions.
    pub calls: u64,
    /// Time of all of them.
    pub total_ms: f64,
    /// The longest one.
    pub max_ms: f64,
}

impl Slow {
    /// Time of one execution on average.
    pub fn mean_ms(&self) -> f64 {
        self.total_ms / self.calls.max(1) as f64
    }
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What is promised.
    pub claim: String,
    /// What was measured.
    pub measured: String,
    /// Whether that keeps the promise.
    pub holds: bool,
}

/// A query for each row that the dashboard sends, as a finding must name it.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    parent: &'static str,
    parent_column: &'static str,
    child: &'static str,
    child_column: &'static str,
}

/// All of them.
pub const EXPECTED: [Expected; 3] = [
    Expected { parent: "from runs", parent_column: "runs.id", child: "from steps", child_column: "steps.run_id" },
    Expected {
        parent: "from workflows",
        parent_column: "workflows.owner_id",
        child: "from users",
        child_column: "users.id",
    },
    Expected {
        parent: "from workflows",
        parent_column: "workflows.id",
        child: "from runs",
        child_column: "runs.workflow_id",
    },
];

impl Expected {
    fn is_named_by(&self, finding: &Value) -> bool {
        let says = |side: &str, key: &str, what: &str| {
            finding
                .pointer(&format!("/{side}/{key}"))
                .and_then(Value::as_str)
                .is_some_and(|text| if key == "text" { text.to_lowercase().contains(what) } else { text == what })
        };
        says("parent", "text", self.parent)
            && says("parent", "column", self.parent_column)
            && says("child", "text", self.child)
            && says("child", "column", self.child_column)
    }
}

/// Whether a finding is one of the dashboard's.
pub fn is_expected(finding: &Value) -> bool {
    EXPECTED.iter().any(|expected| expected.is_named_by(finding))
}

/// Findings that name the queue's table, on either side.
pub fn about_the_queue(findings: &[Value]) -> usize {
    let names_jobs = |finding: &&Value| {
        ["/parent/text", "/child/text"].iter().any(|side| {
            finding.pointer(side).and_then(Value::as_str).is_some_and(|text| text.to_lowercase().contains("jobs"))
        })
    };
    findings.iter().filter(names_jobs).count()
}

impl Evidence {
    /// Every promise, in the order of the report.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![self.connections(), self.errors(), self.isolation(), self.bursts(), self.only_bursts()];
        facts.extend([self.queue(), self.slow(), self.limit(), self.kept()]);
        facts.extend([self.hits(), self.saved(), self.fresh()]);
        facts
    }

    /// Statements by their mean time, the slowest first.
    pub fn slowest(&self) -> Vec<Slow> {
        let mut by_fingerprint = BTreeMap::<&str, Slow>::new();
        for query in &self.queries {
            let text = |key| query.get(key).and_then(Value::as_str).unwrap_or_default();
            let float = |key| query.get(key).and_then(Value::as_f64).unwrap_or(0.0);
            let new = || Slow { text: text("text").to_owned(), calls: 0, total_ms: 0.0, max_ms: 0.0 };
            let slow = by_fingerprint.entry(text("fingerprint")).or_insert_with(new);
            slow.calls += query.get("calls").and_then(Value::as_u64).unwrap_or(0);
            slow.total_ms += float("total_ms");
            slow.max_ms = slow.max_ms.max(float("max_ms"));
        }
        let mut slowest: Vec<Slow> = by_fingerprint.into_values().collect();
        slowest.sort_by(|one, other| other.mean_ms().total_cmp(&one.mean_ms()));
        slowest
    }

    fn connections(&self) -> Fact {
        let most = self.through.seen.most_connections;
        Fact {
            claim: format!("{CLIENTS} clients on at most {POOL_SIZE} server connections"),
            measured: format!("{most} at most, in {} looks at pg_stat_activity", self.through.seen.looks),
            holds: (1..=POOL_SIZE).contains(&most),
        }
    }

    fn errors(&self) -> Fact {
        let figures = &self.through.figures;
        let first = figures.first_errors.first().map_or(String::new(), |first| format!(" ({first})"));
        Fact {
            claim: "no statement failed that should not".to_owned(),
            measured: format!("{} of {} statements{first}", figures.errors, figures.statements),
            holds: figures.errors == 0 && figures.statements > 0,
        }
    }

    fn isolation(&self) -> Fact {
        let figures = &self.through.figures;
        Fact {
            claim: "row-level security held: nobody saw another tenant's row".to_owned(),
            measured: format!("{} foreign rows of {} compared", figures.rows_foreign, figures.rows_checked),
            holds: figures.rows_foreign == 0 && figures.rows_checked > 0,
        }
    }

    fn bursts(&self) -> Fact {
        let found = |expected: &&Expected| {
            let rewritten =
                |finding: &&Value| finding.get("rewrite").and_then(Value::as_str).is_some_and(|it| !it.is_empty());
            self.findings.iter().filter(|finding| expected.is_named_by(finding)).any(|finding| rewritten(&finding))
        };
        let found = EXPECTED.iter().filter(found).count();
        Fact {
            claim: "the dashboard's N+1 found, with the columns that prove it and a rewrite".to_owned(),
            measured: format!("{found} of {} kinds", EXPECTED.len()),
            holds: found == EXPECTED.len(),
        }
    }

    fn only_bursts(&self) -> Fact {
        let is_n_plus_one = |finding: &&Value| {
            finding.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("n_plus_one"))
        };
        let reported = self.findings.iter().filter(is_n_plus_one).count();
        let others = self.findings.iter().filter(is_n_plus_one).filter(|finding| !is_expected(finding)).count();
        Fact {
            claim: "nothing else reported as N+1".to_owned(),
            measured: format!("{others} of {reported} findings"),
            holds: others == 0,
        }
    }

    fn queue(&self) -> Fact {
        let (polls, findings) = (self.through.figures.count(Shape::Poll), about_the_queue(&self.findings));
        Fact {
            claim: "queue polling not reported, as N+1 or anything else".to_owned(),
            measured: format!("{polls} polls, {findings} findings that name the queue"),
            holds: polls > 0 && findings == 0,
        }
    }

    fn slow(&self) -> Fact {
        let is_search = |slow: &Slow| slow.text.to_lowercase().contains("message ilike");
        let place = self.slowest().iter().position(is_search);
        Fact {
            claim: "the search without an index is among the slowest statements".to_owned(),
            measured: place.map_or("not listed".to_owned(), |place| format!("place {}", place + 1)),
            holds: place.is_some_and(|place| place < 5),
        }
    }

    fn limit(&self) -> Fact {
        let overruns = &self.through.figures.overruns;
        let told = |detail: &str| detail.contains(LIMITED_TENANT) && detail.contains(&LIMIT.as_millis().to_string());
        let right = overruns.iter().filter(|overrun| {
            let refused = overrun.refused.as_ref().is_some_and(|(code, detail)| is_timeout(code) && told(detail));
            refused && (LIMIT..LIMIT + LATE).contains(&overrun.waited)
        });
        let right = right.count();
        Fact {
            claim: format!("{LIMITED_TENANT}'s limit of {LIMIT:?} enforced by 57014, with a DETAIL that names both"),
            measured: format!("{right} of {} statements beyond it", overruns.len()),
            holds: right > 0 && right == overruns.len(),
        }
    }

    fn hits(&self) -> Fact {
        let counted = self.cached.counted;
        let ratio = counted.hit_ratio();
        Fact {
            claim: format!("dashboards with the cache's preset: at least {:.0} % hits", 100.0 * HIT_RATIO),
            measured: format!(
                "{:.1} %: {} hits, {} misses; {} statements may not be cached",
                100.0 * ratio,
                counted.hits,
                counted.misses,
                counted.bypasses
            ),
            holds: ratio >= HIT_RATIO,
        }
    }

    fn saved(&self) -> Fact {
        let saved = self.cached.saved();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Fact {
            claim: format!("and the server works at least {:.0} % less for a page of theirs", 100.0 * SAVED),
            measured: format!(
                "{:.1} % less: {:.1} ms instead of {:.1}, as pg_stat_database has it",
                100.0 * saved,
                millis(self.cached.with.worked_for_a_page()),
                millis(self.cached.without.worked_for_a_page())
            ),
            holds: saved >= SAVED,
        }
    }

    fn fresh(&self) -> Fact {
        let (without, with) = (&self.cached.without, &self.cached.with);
        let foreign = without.figures.rows_foreign + with.figures.rows_foreign;
        let errors = without.figures.errors + with.figures.errors;
        let first = with.figures.first_errors.iter().chain(&without.figures.first_errors).next();
        let first = first.map_or(String::new(), |first| format!(" ({first})"));
        Fact {
            claim: "while whoever edits sees the edit at once, and nobody another tenant's row".to_owned(),
            measured: format!(
                "{} of {} edits; {foreign} foreign rows of {}; {errors} errors{first}",
                with.edits_seen, with.edits, with.figures.rows_checked
            ),
            holds: with.edits > 0 && with.edits_seen == with.edits && foreign == 0 && errors == 0,
        }
    }

    fn kept(&self) -> Fact {
        let overruns = &self.through.figures.overruns;
        let clients = overruns.iter().filter(|overrun| overrun.client_kept).count();
        let pids: Vec<_> = overruns.iter().filter_map(|overrun| overrun.server_pids).collect();
        let same = |(before, after): &&(i32, i32)| before == after && self.through.seen.pids.contains(after);
        let servers = pids.iter().filter(same).count();
        Fact {
            claim: "both connections went on after each of these timeouts".to_owned(),
            measured: format!(
                "{clients} of {} clients answered again; {servers} of {} server connections were the same afterwards \
                 and still open at the end",
                overruns.len(),
                pids.len()
            ),
            holds: clients > 0 && clients == overruns.len() && !pids.is_empty() && servers == pids.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cached::{Counted, Look};
    use super::*;

    fn evidence(cached: Cached) -> Evidence {
        let run = Run {
            time: Duration::ZERO,
            connecting: Duration::ZERO,
            figures: Figures::default(),
            seen: Seen::default(),
        };
        let (findings, queries) = (Vec::new(), Vec::new());
        Evidence { through: run.clone(), direct: run, findings, queries, proxy_cpu: Duration::ZERO, cached }
    }

    fn look(millis: u64) -> Look {
        let figures = Figures { pages: 10, ..Figures::default() };
        Look { figures, worked: Duration::from_millis(millis), edits: 3, edits_seen: 3 }
    }

    #[test]
    fn the_cache_has_to_bring_what_was_promised() {
        let counted = |hits, misses| Counted { hits, misses, bypasses: 5 };
        let holds = |cached| {
            let evidence = evidence(cached);
            [evidence.hits(), evidence.saved(), evidence.fresh()].map(|fact| fact.holds)
        };
        let kept = Cached { without: look(1_000), with: look(300), counted: counted(80, 20) };
        assert_eq!(holds(kept.clone()), [true; 3]);
        assert_eq!(holds(Cached { counted: counted(79, 21), ..kept.clone() }), [false, true, true]);
        assert_eq!(holds(Cached { with: look(301), ..kept.clone() }), [true, false, true]);
        assert_eq!(holds(Cached { with: Look { edits_seen: 2, ..look(300) }, ..kept.clone() }), [true, true, false]);
        assert_eq!(holds(Cached::default()), [false; 3], "nothing proves nothing");
    }
}
