//! What operators load into other programs: alert rules, a dashboard, pages that are printed from the code.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use integration_tests::Scratch;
use pgweir::admin::metrics::{Kind, families};
use serde_json::{Value, json};

use super::{anchor_of, fs, read, root};

/// Every name of a sample that `/metrics` can have.
fn samples() -> BTreeSet<String> {
    let names = families().flat_map(|family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)).to_vec(),
        _ => vec![family.name.to_owned()],
    });
    names.collect()
}

/// The words of a text that look like names of our metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("pgweir_") || word.starts_with("process_")).collect()
}

fn every_metric_exists(place: &str, text: &str) -> usize {
    let known = samples();
    let named = named(text);
    for name in &named {
        assert!(known.contains(*name), "{place} names {name}, which is no metric");
    }
    named.len()
}

/// promtool with these arguments; `None`: it is not there, which is said, and is a failure where everything has been set up.
fn promtool(arguments: &[&str]) -> Option<(bool, String)> {
    let output = match Command::new("promtool").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool cannot be run: {error}; `make setup` installs it");
            println!("SKIPPED: promtool cannot be run ({error}); it is in Debian's package prometheus");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.success(), text))
}

fn alerts() -> Vec<(String, String)> {
    let text = read(&root().join("docs/alerts/pgweir.yml"));
    let rule = |rule: &str| (rule.lines().next().unwrap_or_default().to_owned(), rule.to_owned());
    text.split("- alert: ").skip(1).map(rule).collect()
}

#[test]
fn every_alert_is_complete_and_leads_to_what_to_do() {
    let page = read(&root().join("docs/troubleshooting.md"));
    let anchors: BTreeSet<String> = page.lines().filter_map(anchor_of).collect();
    let alerts = alerts();
    assert!(alerts.len() >= 25, "only {} alerts", alerts.len());
    for (name, rule) in &alerts {
        for part in ["expr:", "for:", "severity:", "summary:", "description:", "runbook_url:"] {
            assert!(rule.lines().any(|line| line.trim_start().starts_with(part)), "{name} lacks {part}");
        }
        let severity = rule.split("severity: ").nth(1).and_then(|rest| rest.lines().next());
        assert!(severity.is_some_and(|word| ["critical", "warning", "info"].contains(&word)), "{name}: {severity:?}");
        let anchor = rule.split("docs/troubleshooting.md#").nth(1).and_then(|rest| rest.lines().next());
        assert!(anchor.is_some_and(|anchor| anchors.contains(anchor)), "{name} leads to no heading: {anchor:?}");
    }
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "an alert is there twice");
    let described = page.lines().filter_map(|line| line.strip_prefix("### Pgweir"));
    for name in described.map(|rest| format!("Pgweir{rest}")) {
        assert!(names.contains(name.as_str()), "docs/troubleshooting.md has {name}, which is no alert");
    }
    let tests = read(&root().join("docs/alerts/pgweir.test.yml"));
    for name in names {
        assert!(tests.contains(&format!("- name: {name}\n")), "docs/alerts/pgweir.test.yml does not try {name}");
    }
}

#[test]
fn rules_and_their_tests_name_metrics_that_exist() {
    for file in ["docs/alerts/pgweir.yml", "docs/alerts/pgweir.test.yml"] {
        assert!(every_metric_exists(file, &read(&root().join(file))) > 20, "{file} names hardly any metric");
    }
}

#[test]
fn rules_are_understood_and_fire_when_they_should() {
    let folder = root().join("docs/alerts");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let Some((well, said)) = promtool(&["check", "rules", &file("pgweir.yml")]) else { return };
    assert!(well, "{said}");
    let (well, said) = promtool(&["test", "rules", &file("pgweir.test.yml")]).unwrap();
    assert!(well, "{said}");
}

fn dashboard() -> Value {
    serde_json::from_str(&read(&root().join("docs/grafana/pgweir.json"))).unwrap()
}

/// What the dashboard asks Prometheus: where, and the question.
fn questions(dashboard: &Value) -> Vec<(String, String)> {
    let mut questions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap().to_owned();
            questions.push((title, target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        questions.push(("annotations".to_owned(), annotation["expr"].as_str().unwrap().to_owned()));
    }
    questions
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|panel| &panel["title"]).collect();
    assert_eq!(rows, ["Health", "Traffic", "Waits", "Statements", "Tenants", "Findings", "Cache", "Process"]);
    let variables: BTreeSet<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|own| own["name"].as_str().unwrap()).collect();
    for wanted in ["datasource", "database", "user", "tenant", "class"] {
        assert!(variables.contains(wanted), "no variable {wanted}");
    }
    // No two panels lie on each other, and none is wider than the page.
    let mut places = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(places.insert((x, y)), "{} lies on another", panel["title"]);
        }
        if panel["type"] != "row" {
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    for (title, question) in questions(&dashboard) {
        for name in question.split('$').skip(1) {
            let name = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            assert!(variables.contains(name) || name == "__rate_interval", "{title}: ${name} in {question}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard = dashboard();
    let questions = questions(&dashboard);
    assert!(questions.len() > 50, "only {} questions", questions.len());
    for (title, question) in &questions {
        assert!(every_metric_exists(title, question) > 0, "{title} asks for no metric of ours: {question}");
    }
    every_metric_exists("the dashboard's variables", &dashboard["templating"].to_string());
}

#[test]
fn the_dashboard_s_questions_are_understood() {
    let rule = |(number, (_, question)): (usize, (String, String))| {
        let expr = question.replace("$__rate_interval", "5m");
        json!({"record": format!("question:{number}"), "expr": expr})
    };
    let rules: Vec<Value> = questions(&dashboard()).into_iter().enumerate().map(rule).collect();
    // JSON is YAML too.
    let text = json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    let folder = Scratch::new();
    let file = folder.file("dashboard.yml", &text);
    let Some((well, said)) = promtool(&["check", "rules", file.to_str().unwrap()]) else { return };
    assert!(well, "{said}");
}

#[test]
fn pages_that_are_printed_from_the_code_are_up_to_date() {
    for (file, text) in
        [("docs/logs.md", pgweir::log::reference::page()), ("docs/pgweir.1", pgweir::cli::manual().unwrap())]
    {
        let kept = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(kept == text, "{file} is not what the code says; `make docs` prints it anew");
    }
}
