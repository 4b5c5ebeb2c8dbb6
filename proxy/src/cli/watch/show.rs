//! Findings on a terminal.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use policy::finding::{Kept, Severity, State, export};

use super::follow::Fresh;

/// A finding that comes again has one line so often at most.
const AGAIN_EVERY: Duration = Duration::from_secs(2);

/// How many there are, in words.
pub(super) fn findings(count: u64) -> String {
    counted(count, "finding")
}

/// How many there are, in words.
pub(super) fn bursts(count: u64) -> String {
    counted(count, "burst")
}

fn counted(count: u64, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

/// Where findings are shown.
pub(super) struct Show {
    out: Box<dyn Write>,
    colours: bool,
    /// Nobody reads any more.
    closed: bool,
    seen: HashMap<String, Seen>,
    bursts: u64,
}

struct Seen {
    kept: Kept,
    /// Bursts that were not shown yet.
    waiting: u64,
    at: Instant,
    /// Children of the largest burst as shown.
    count: u64,
}

impl Show {
    /// Shows them there, with colours or without.
    pub(super) fn new(out: Box<dyn Write>, colours: bool) -> Self {
        Self { out, colours, closed: false, seen: HashMap::new(), bursts: 0 }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Findings shown so far.
    pub(super) fn findings(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Bursts of them.
    pub(super) fn bursts(&self) -> u64 {
        self.bursts
    }

    /// A line of our own.
    pub(super) fn note(&mut self, text: &str) {
        let line = self.paint("2", &format!("pgweir watch: {}", printable(text)));
        self.write(&format!("{line}\n"));
    }

    /// Shows what is new: a finding whole when it is seen first or has grown twice as large, else in one line, and not
    /// more than one in two seconds. What is muted is not shown.
    pub(super) fn news(&mut self, news: &[Fresh]) {
        for fresh in news.iter().filter(|fresh| fresh.kept.state != State::Muted) {
            self.bursts += fresh.bursts;
            let count = fresh.kept.finding.count;
            let id = &fresh.kept.finding.id;
            if self.seen.get(id).is_some_and(|seen| count < seen.count.saturating_mul(2)) {
                if let Some(seen) = self.seen.get_mut(id) {
                    seen.waiting += fresh.bursts;
                    seen.kept.clone_from(&fresh.kept);
                }
                continue;
            }
            let text = self.whole(&fresh.kept);
            self.write(&text);
            let seen = Seen { kept: fresh.kept.clone(), waiting: 0, at: Instant::now(), count };
            self.seen.insert(id.clone(), seen);
        }
        self.again(AGAIN_EVERY);
    }

    /// Shows what was held back.
    pub(super) fn rest(&mut self) {
        self.again(Duration::ZERO);
    }

    fn again(&mut self, every: Duration) {
        let due = |seen: &&mut Seen| seen.waiting > 0 && seen.at.elapsed() >= every;
        let mut lines: Vec<(String, String)> = Vec::new();
        for seen in self.seen.values_mut().filter(due) {
            let waiting = std::mem::take(&mut seen.waiting);
            seen.at = Instant::now();
            let finding = &seen.kept.finding;
            let what = finding.evidence.as_ref().unwrap_or(&finding.child.text);
            let text = format!("again, {}  {}  {}", bursts(waiting), printable(what), finding.id);
            lines.push((format!("{} {}", clock(&seen.kept), finding.kind.name()), text));
        }
        lines.sort();
        for (head, text) in lines {
            let line = format!("{}  {}\n", self.paint("1", &head), self.paint("2", &text));
            self.write(&line);
        }
    }

    /// A finding with everything that one needs to mend it.
    fn whole(&self, kept: &Kept) -> String {
        let finding = &kept.finding;
        let colour = match finding.severity {
            Severity::High => "31;1",
            Severity::Medium => "33;1",
            Severity::Low => "36;1",
        };
        let who = [
            Some(format!("{}/{}", finding.database, finding.user)),
            Some(finding.application.clone()),
            finding.route.clone(),
            Some(format!("tenant {}", finding.tenant)),
            (kept.state == State::Acknowledged).then(|| "acknowledged".to_owned()),
        ];
        let who: Vec<String> = who.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        let mut text =
            format!("{} {}  {}\n", clock(kept), self.paint(colour, finding.kind.name()), printable(&who.join("  ")));
        if let Some(evidence) = &finding.evidence {
            text += &format!("  {}\n", self.paint("1", &printable(evidence)));
        }
        text += &format!("  {}\n", export::figures(kept));
        let parent = finding.parent.as_ref().map(|side| ("rows of ", "0", &side.text));
        let rewrite = finding.rewrite.as_ref().map(|rewrite| ("instead ", "32", rewrite));
        for (label, colour, sql) in parent.into_iter().chain([("each    ", "0", &finding.child.text)]).chain(rewrite) {
            for (number, line) in sql.lines().enumerate() {
                let label = if number == 0 { label } else { "        " };
                text += &format!("  {} {}\n", self.paint("2", label), self.paint(colour, &printable(line)));
            }
        }
        text + &format!("  {} {}\n\n", self.paint("2", "id      "), finding.id)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours && code != "0" { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn write(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.closed |= written.is_err();
    }
}

/// When it was last seen, to the millisecond, in UTC.
fn clock(kept: &Kept) -> String {
    let shown = kept.finding.last_seen.to_string();
    shown.get(11..23).unwrap_or_default().to_owned()
}

/// Without control characters: names and texts come from clients, and a terminal does what they say.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::analyst::finding;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fresh(id: &str) -> Fresh {
        let mut kept = Kept::new(finding(id, "acme", 43_200_123_000));
        kept.finding.rewrite = Some("select body\nfrom logs".into());
        Fresh { bursts: kept.finding.occurrences, kept }
    }

    #[test]
    fn a_finding_is_shown_whole_once_and_then_in_a_line() {
        let paper = Paper::default();
        let mut show = Show::new(Box::new(paper.clone()), false);
        show.news(&[fresh("5d1c0f6a92e7b384")]);
        let shown = paper.take();
        assert_eq!(
            shown,
            "12:00:00.123 n_plus_one  app/app  web  tenant acme\n  events.id → logs.event_id = $1\n  97 statements for one execution of the parent over 20 connections, 41.2 ms lost; 3 bursts, 291 statements in all.\n  rows of  select id from events\n  each     select body from logs where event_id = $1\n  instead  select body\n           from logs\n  id       5d1c0f6a92e7b384\n\n"
        );
        show.news(&[fresh("5d1c0f6a92e7b384")]);
        assert_eq!(paper.take(), "", "held back");
        show.rest();
        assert_eq!(
            paper.take(),
            "12:00:00.123 n_plus_one  again, 3 bursts  events.id → logs.event_id = $1  5d1c0f6a92e7b384\n"
        );
        let mut grown = fresh("5d1c0f6a92e7b384");
        grown.kept.finding.count *= 2;
        show.news(&[grown]);
        assert!(paper.take().contains("194 statements"), "whole again");
        assert_eq!((show.findings(), show.bursts()), (1, 9));
    }

    #[test]
    fn colours_are_ours_alone_and_what_is_muted_is_not_shown() {
        let paper = Paper::default();
        let mut show = Show::new(Box::new(paper.clone()), true);
        let mut evil = fresh("a");
        evil.kept.finding.application = "\u{1b}]0;title\u{7}".into();
        evil.kept.finding.child.text = "select \"\u{1b}[2J\"".into();
        show.news(&[evil]);
        let shown = paper.take();
        assert!(
            shown.contains("\u{1b}[31;1mn_plus_one\u{1b}[0m") && shown.contains("\u{1b}[32mselect body\u{1b}[0m"),
            "{shown:?}"
        );
        assert!(!shown.contains("\u{1b}]") && !shown.contains("\u{1b}[2J") && !shown.contains('\u{7}'), "{shown:?}");
        let mut muted = fresh("b");
        muted.kept.state = State::Muted;
        show.news(&[muted]);
        assert_eq!(paper.take(), "");
    }
}
