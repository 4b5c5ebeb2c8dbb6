//! Whether what appeared while it was watched is too much.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use policy::finding::{Kept, Kind, State, export};

use super::follow::{Follower, Fresh, Lost, Unseen};
use super::show;

/// What is too much.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    /// Kinds that count; `None` among them: all do.
    pub(super) kinds: &'a [Option<Kind>],
    /// Findings that are not too many.
    pub(super) max: Option<u64>,
    /// Bursts that are not too many.
    pub(super) max_requests: Option<u64>,
    /// What was not looked at does not count.
    pub(super) allow_unseen: bool,
}

impl Budget<'_> {
    fn counts(&self, kept: &Kept) -> bool {
        kept.state == State::Open
            && self
                .kinds
                .iter()
                .any(|kind| kind.map_or(!comes_later(kept.finding.kind), |kind| kind == kept.finding.kind))
    }

    fn is_exceeded(&self, findings: u64, bursts: u64) -> bool {
        let max = self.max.unwrap_or(if self.max_requests.is_some() { u64::MAX } else { 0 });
        findings > max || self.max_requests.is_some_and(|max| bursts > max)
    }
}

/// Whether findings of this kind come when a server or a minute is over, and not when what they tell of has been judged: no
/// fence covers them, and a gate would pass or fail by chance.
pub(super) fn comes_later(kind: Kind) -> bool {
    matches!(kind, Kind::PlanChanged | Kind::Regression | Kind::Slowdown)
}

/// An open gate: it knows what was there when it opened.
#[derive(Debug)]
pub(super) struct Gate {
    before: BTreeMap<String, (u64, u64)>,
    unseen: Unseen,
}

/// What came through.
#[derive(Debug)]
pub(super) struct Judgement {
    /// All that appeared, with counters of this time alone.
    findings: Vec<Kept>,
    failing: Vec<String>,
    bursts: u64,
    over: bool,
    unseen: Unseen,
    allow_unseen: bool,
}

impl Gate {
    /// Has everything that was there before judged and noted.
    pub(super) fn open(follower: &mut Follower) -> Result<Self, Lost> {
        follower.is_on()?;
        follower.fence()?;
        follower.begin()?;
        Ok(Self { before: follower.counters(), unseen: follower.unseen })
    }

    /// Has everything that came since judged, hands out what is new, and says whether it is too much.
    pub(super) fn close(
        self,
        follower: &mut Follower,
        budget: &Budget<'_>,
        show: impl FnOnce(&[Fresh]),
    ) -> Result<Judgement, Lost> {
        follower.fence()?;
        let news = follower.news()?;
        if news.restarted {
            return Err(Lost::Anew);
        }
        show(&news.findings);
        let unseen = follower.unseen.since(self.unseen);
        Ok(Judgement::new(self.since(follower.all()?), budget, unseen))
    }

    /// Findings with bursts since then, counted from there.
    fn since(&self, all: Vec<Kept>) -> Vec<Kept> {
        let since = |mut kept: Kept| {
            let (bursts, statements) = self.before.get(&kept.finding.id).copied().unwrap_or_default();
            // Fewer than before: the proxy had forgotten it meanwhile, and all of these are new.
            kept.finding.occurrences = kept.finding.occurrences.checked_sub(bursts).unwrap_or(kept.finding.occurrences);
            kept.finding.statements =
                kept.finding.statements.checked_sub(statements).unwrap_or(kept.finding.statements);
            (kept.finding.occurrences > 0).then_some(kept)
        };
        all.into_iter().filter_map(since).collect()
    }
}

impl Judgement {
    fn new(findings: Vec<Kept>, budget: &Budget<'_>, unseen: Unseen) -> Self {
        let counting = || findings.iter().filter(|kept| budget.counts(kept));
        let bursts = counting().map(|kept| kept.finding.occurrences).sum();
        let failing: Vec<_> = counting().map(|kept| kept.finding.id.clone()).collect();
        let over = budget.is_exceeded(failing.len() as u64, bursts);
        Self { findings, failing, bursts, over, unseen, allow_unseen: budget.allow_unseen }
    }

    /// Whether it is too much.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether nothing can be said: it is not too much as far as was looked, and not all was looked at.
    pub(super) fn is_unsure(&self) -> bool {
        !self.over && self.unseen.is_any() && !self.allow_unseen
    }

    /// Writes the reports that are wanted.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, junit: Option<&Path>, markdown: Option<&Path>) -> Result<(), String> {
        let fails = |kept: &Kept| self.over && self.failing.contains(&kept.finding.id);
        let unsure = self.is_unsure().then(|| self.to_string());
        let reports = [
            junit.map(|file| (file, export::junit(&self.findings, fails, unsure.as_deref()))),
            markdown.map(|file| (file, export::markdown(&self.to_string(), &self.findings))),
        ];
        for (file, text) in reports.into_iter().flatten() {
            std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.failing.is_empty(), self.over) {
            // What was not judged may be over it.
            (_, false) if self.unseen.is_any() => "not sure",
            (true, _) => "clean",
            (false, false) => "within the budget",
            (false, true) => "over the budget",
        };
        let findings = show::findings(self.failing.len() as u64);
        write!(f, "{verdict}: {findings} in {}", show::bursts(self.bursts))?;
        let rest = self.findings.len() - self.failing.len();
        if rest > 0 {
            write!(f, ", and {rest} that are acknowledged, muted or of another kind")?;
        }
        let unseen = self.unseen.skipped + self.unseen.dropped;
        if unseen > 0 {
            write!(f, "; {unseen} statements were not looked at: raise observe.events_per_second")?;
        }
        if self.unseen.left_out > 0 {
            let left_out = self.unseen.left_out;
            write!(f, "; {left_out} statements or bursts of them were left out: too much was under way at once")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyst::finding;

    fn budget(max: Option<u64>, max_requests: Option<u64>) -> Budget<'static> {
        Budget { kinds: &[Some(Kind::NPlusOne)], max, max_requests, allow_unseen: false }
    }

    fn judged(findings: &[Kept], budget: &Budget<'_>) -> (bool, String) {
        let judgement = Judgement::new(findings.to_vec(), budget, Unseen::default());
        (judgement.is_over(), judgement.to_string())
    }

    #[test]
    fn budgets_count_findings_or_requests() {
        // Three bursts each.
        let two = [Kept::new(finding("a", "acme", 1)), Kept::new(finding("b", "acme", 1))];
        for (max, max_requests, over) in [
            (None, None, true),
            (Some(1), None, true),
            (Some(2), None, false),
            (None, Some(5), true),
            (None, Some(6), false),
            (Some(1), Some(6), true),
            (Some(2), Some(5), true),
        ] {
            assert_eq!(judged(&two, &budget(max, max_requests)).0, over, "{max:?} {max_requests:?}");
        }
        assert_eq!(judged(&[], &budget(None, None)), (false, "clean: no findings in no bursts".to_owned()));
        assert_eq!(judged(&two, &budget(None, None)).1, "over the budget: 2 findings in 6 bursts");
    }

    #[test]
    fn what_is_known_or_of_another_kind_does_not_count() {
        let mut findings = State::ALL.map(|state| Kept { state, ..Kept::new(finding("a", "acme", 1)) });
        let (over, words) = judged(&findings, &budget(Some(1), None));
        assert!(!over && words.contains("1 finding in 3 bursts, and 2 that are acknowledged"), "{words}");
        findings[0].finding.kind = Kind::InsertLoop;
        assert!(!judged(&findings, &budget(None, None)).0);
        let any = || Budget { kinds: &[None], ..budget(None, None) };
        assert!(judged(&findings, &any()).0, "any");
        findings[0].finding.kind = Kind::Regression;
        assert!(!judged(&findings, &any()).0, "no fence covers it");
    }

    #[test]
    fn what_was_there_before_is_taken_off() {
        let before =
            BTreeMap::from([("a".to_owned(), (3, 291)), ("b".to_owned(), (1, 97)), ("d".to_owned(), (5, 500))]);
        let gate = Gate { before, unseen: Unseen::default() };
        let since = gate.since(["a", "b", "c", "d"].map(|id| Kept::new(finding(id, "acme", 1))).to_vec());
        let counts: Vec<_> = since
            .iter()
            .map(|kept| (kept.finding.id.as_str(), kept.finding.occurrences, kept.finding.statements))
            .collect();
        // The proxy had forgotten d, and has found it anew.
        assert_eq!(counts, [("b", 2, 194), ("c", 3, 291), ("d", 3, 291)]);
    }

    #[test]
    fn statements_that_nobody_looked_at_are_told_of() {
        let unseen = Unseen { skipped: 5, dropped: 2, left_out: 0 };
        let judgement = Judgement::new(Vec::new(), &budget(None, None), unseen);
        let words = judgement.to_string();
        assert!(words.starts_with("not sure: no findings"), "{words}");
        assert!(words.ends_with("7 statements were not looked at: raise observe.events_per_second"), "{words}");
    }

    #[test]
    fn what_was_not_looked_at_leaves_no_verdict_unless_it_may() {
        let one = [Kept::new(finding("a", "acme", 1))];
        for (skipped, dropped, left_out) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let unseen = Unseen { skipped, dropped, left_out };
            let judge = |findings: &[Kept], budget: &Budget<'_>| {
                let judgement = Judgement::new(findings.to_vec(), budget, unseen);
                (judgement.is_over(), judgement.is_unsure())
            };
            assert_eq!(judge(&[], &budget(None, None)), (false, true));
            assert_eq!(judge(&one, &budget(Some(1), None)), (false, true), "there may be more");
            assert_eq!(judge(&one, &budget(None, None)), (true, false), "that much is sure");
            let lenient = Budget { allow_unseen: true, ..budget(None, None) };
            assert_eq!(judge(&[], &lenient), (false, false));
        }
        assert!(!Judgement::new(Vec::new(), &budget(None, None), Unseen::default()).is_unsure());
    }

    #[test]
    fn nothing_is_called_clean_when_detection_left_something_out() {
        let unseen = Unseen { left_out: 3, ..Unseen::default() };
        let judge = |findings: &[Kept], max| Judgement::new(findings.to_vec(), &budget(max, None), unseen).to_string();
        let words = judge(&[], None);
        assert!(
            words.starts_with("not sure: no findings in no bursts; 3 statements or bursts of them were left out"),
            "{words}"
        );
        let one = [Kept::new(finding("a", "acme", 1))];
        assert!(judge(&one, Some(1)).starts_with("not sure: 1 finding"));
        assert!(judge(&one, None).starts_with("over the budget"), "that much is sure");
    }
}
