//! Findings for other programs and for people: JUnit XML for continuous integration, Markdown for a pull request.

use std::fmt::Write as _;

use super::{Detail, Kept, State};

/// A JUnit report: a test case for each finding, in classes by kind. Those that `fails` picks are failures; others pass,
/// and are marked as skipped where somebody knows of them. Without a finding there is one case, which passes. `unsure`: why
/// nothing can be said by them, which is a case of its own that is an error.
pub fn junit(findings: &[Kept], fails: impl Fn(&Kept) -> bool, unsure: Option<&str>) -> String {
    let failures = findings.iter().filter(|kept| fails(kept)).count();
    let is_skipped = |kept: &Kept| !fails(kept) && kept.state != State::Open;
    let skipped = findings.iter().filter(|kept| is_skipped(kept)).count();
    let errors = usize::from(unsure.is_some());
    let tests = (findings.len() + errors).max(1);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"");
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"pgweir\" {counts}>\n<testsuite name=\"pgweir findings\" {counts}>\n"
    );
    if let Some(why) = unsure {
        let case = "<testcase classname=\"pgweir\" name=\"all was looked at\">";
        let _ = writeln!(text, "{case}<error type=\"unseen\" message=\"{}\"/></testcase>", xml(why));
    } else if findings.is_empty() {
        text.push_str("<testcase classname=\"pgweir\" name=\"no findings\"/>\n");
    }
    for kept in findings {
        let finding = &kept.finding;
        let title = title(kept);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "<testcase classname=\"pgweir.{}\" name=\"{}\">",
            finding.kind.name(),
            xml(&format!("{title} ({})", finding.id))
        );
        let body = xml(&details(kept));
        let _ = match (fails(kept), is_skipped(kept)) {
            (true, _) => {
                let message = xml(&format!("{title}: {}", figures(kept)));
                write!(text, "<failure type=\"{}\" message=\"{message}\">{body}</failure>", finding.kind.name())
            }
            (false, true) => write!(text, "<skipped message=\"{}\"/>", kept.state.name()),
            (false, false) => write!(text, "<system-out>{body}</system-out>"),
        };
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

/// A Markdown report under this heading: a table of all findings, then each with its statements and what to send
/// instead.
pub fn markdown(heading: &str, findings: &[Kept]) -> String {
    let mut text = format!("## {heading}\n");
    if findings.is_empty() {
        text.push_str("\nNo findings.\n");
        return text;
    }
    text.push_str("\n| Kind | Evidence | Children | Bursts | Lost in one | Application | Route | State |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for kept in findings {
        let finding = &kept.finding;
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {:.1} ms | {} | {} | {} |",
            finding.kind.name(),
            cell(&title(kept)),
            finding.count,
            finding.occurrences,
            finding.wasted_ms,
            cell(&finding.application),
            cell(finding.route.as_deref().unwrap_or("–")),
            kept.state.name(),
        );
    }
    for kept in findings {
        let finding = &kept.finding;
        let _ = write!(text, "\n### {}\n\n{} Finding `{}`.\n", cell(&title(kept)), figures(kept), finding.id);
        let parent = finding.parent.as_ref().map(|side| ("Rows of", &side.text));
        let rewrite = finding.rewrite.as_ref().map(|rewrite| ("Instead:", rewrite));
        for (name, sql) in parent.into_iter().chain([("One for each:", &finding.child.text)]).chain(rewrite) {
            let fence = fence(sql);
            let _ = write!(text, "\n{name}\n\n{fence}sql\n{}\n{fence}\n", printable(sql));
        }
    }
    text
}

/// One line that says what a finding is: the proof, or the statement where there is none.
fn title(kept: &Kept) -> String {
    let text = kept.finding.evidence.as_ref().unwrap_or(&kept.finding.child.text);
    let short: String = text.chars().take(120).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// How often, how many, over how many connections, and what it cost.
pub fn figures(kept: &Kept) -> String {
    let finding = &kept.finding;
    if let Some(detail) = &finding.detail {
        return format!("{}; seen {} times.", timed(detail), finding.occurrences);
    }
    let of = match finding.parent_executions {
        0 => "in one burst".to_owned(),
        1 => "for one execution of the parent".to_owned(),
        more => format!("for {more} executions of the parent"),
    };
    let connections = if finding.connections == 1 { "connection" } else { "connections" };
    let bursts = if finding.occurrences == 1 { "burst" } else { "bursts" };
    format!(
        "{} statements {of} over {} {connections}, {:.1} ms lost; {} {bursts}, {} statements in all.",
        finding.count, finding.connections, finding.wasted_ms, finding.occurrences, finding.statements
    )
}

/// The figures of a finding about time.
fn timed(detail: &Detail) -> String {
    match detail {
        Detail::Plan { plan_before, plan_after, duration_ms } => {
            format!("plan {plan_after} in place of {plan_before}, {duration_ms:.1} ms")
        }
        Detail::Regression { usual_p95_ms, p95_ms, .. } => {
            format!("95th percentile {p95_ms:.1} ms, usually {usual_p95_ms:.1} ms")
        }
        Detail::Slowdown { factor, slower, compared } => {
            format!("statements {factor:.1} times slower, {slower} of {compared} over 3 times")
        }
        Detail::Transaction { open_ms, idle_ms, .. } => {
            format!("open for {open_ms:.0} ms, its client silent for {idle_ms:.0} ms")
        }
    }
}

/// Everything, for the body of a failure.
fn details(kept: &Kept) -> String {
    let finding = &kept.finding;
    let mut text = format!("{}\n", figures(kept));
    let parent = finding.parent.as_ref().map(|side| side.text.as_str());
    for (name, value) in [
        ("evidence", finding.evidence.as_deref()),
        ("route", finding.route.as_deref()),
        ("application", Some(finding.application.as_str())),
        ("tenant", Some(finding.tenant.as_str())),
        ("parent", parent),
        ("child", Some(finding.child.text.as_str())),
        ("rewrite", finding.rewrite.as_deref()),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    text
}

/// Text for an element or an attribute of XML. Characters that XML 1.0 does not have become U+FFFD.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(character))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Text for a cell of a table or a heading: in one line, and nothing in it is markup.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' | '!' | '@' => {
                escaped.push('\\');
                escaped.push(character);
            }
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Text as it is but for control characters other than the line's end.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A fence longer than any run of backticks in what it encloses.
fn fence(text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat((longest + 1).max(3))
}

#[cfg(test)]
mod tests {
    use super::super::mute::tests::finding;
    use super::super::{Finding, Side};
    use super::*;

    fn kept(state: State) -> Kept {
        Kept { state, ..Kept::new(finding()) }
    }

    #[test]
    fn a_report_without_findings_has_one_case_that_passes() {
        let report = junit(&[], |_| true, None);
        assert!(report.contains("tests=\"1\" failures=\"0\""), "{report}");
        assert!(report.contains("<testcase classname=\"pgweir\" name=\"no findings\"/>"), "{report}");
        assert_eq!(markdown("Findings", &[]), "## Findings\n\nNo findings.\n");
    }

    #[test]
    fn what_nothing_can_be_said_by_is_an_error() {
        for findings in [&[] as &[Kept], &[kept(State::Muted)]] {
            let report = junit(findings, |_| false, Some("not sure: <5> statements"));
            let counts = format!("tests=\"{}\" failures=\"0\" errors=\"1\"", findings.len() + 1);
            assert!(report.contains(&counts) && !report.contains("no findings"), "{report}");
            assert!(report.contains("<error type=\"unseen\" message=\"not sure: &lt;5&gt; statements\"/>"), "{report}");
        }
    }

    #[test]
    fn cases_fail_pass_or_are_skipped() {
        let all = [kept(State::Open), kept(State::Acknowledged), kept(State::Muted)];
        let report = junit(&all, |kept| kept.state == State::Open, None);
        assert!(report.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"2\""), "{report}");
        assert!(
            report.contains("<skipped message=\"acknowledged\"/>") && report.contains("<skipped message=\"muted\"/>")
        );
        assert!(
            report.contains("<failure type=\"n_plus_one\" message=\"posts.id → comments.post_id = $1: 10 statements")
        );
        let passing = junit(&all[..1], |_| false, None);
        assert!(passing.contains("failures=\"0\"") && passing.contains("<system-out>"), "{passing}");
    }

    #[test]
    fn nothing_in_a_text_is_markup() {
        let child = Side { text: "select \"a<b>&\u{1b}[31m\" ```".into(), ..finding().child };
        let bad = Finding { child, evidence: Some("a|b\nc`<script>".into()), ..finding() };
        let report = junit(&[Kept::new(bad.clone())], |_| true, None);
        assert!(report.contains("&quot;a&lt;b&gt;&amp;\u{fffd}[31m&quot;"), "{report}");
        assert!(!report.contains('\u{1b}') && !report.contains("<script>"));
        let page = markdown("Findings", &[Kept::new(bad)]);
        assert!(page.contains("a\\|b c\\`\\<script\\>"), "{page}");
        assert!(page.contains("````sql\n") && !page.contains('\u{1b}'), "{page}");
    }
}
