//! Whose and what, by arguments.

use clap::Parser;
use config::{NoSources, Overrides, Settings};
use policy::limits::Explained;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    explain: Explain,
}

const FILE: &str = r#"
databases.app.upstream = "postgres://h/app"
[[tenant.rule]]
from = "user"
separator = "."
[[tenant.rule]]
from = "comment"
name = "tenant"
[[tenant.rule]]
from = "setting"
name = "request.jwt.claims"
path = "tenant_id"
[[tenant.rule]]
from = "application_name"
pattern = "tenant:(?<tenant>[a-z0-9-]+)"
[[tenant.rule]]
from = "sni"
pattern = "{tenant}.db.example.com"
[[tenant.rule]]
from = "certificate"
[[tenant.rule]]
from = "option"
name = "app.tenant"
[[tenant.rule]]
from = "network"
networks = ["10.1.0.0/16"]
tenant = "office"
[[tenant.classify]]
class = "worker"
from = "application_name"
pattern = "^worker"
[tenant.default]
statement_timeout = "30s"
max_rows = 1000
row_limit = 500
[tenant.class.worker]
statement_timeout = "5m"
modes.max_rows = "observe"
[tenant.limits.acme]
max_bytes = "64KiB"
statement_timeout = "0"
[tenant.limits.reader]
read_only = true
[tenant.limits.narrow]
tables = ["runs", "audit.*"]
mode = "warn"
[tenant.limits.gone]
blocked = true
"#;

fn policy_of(more: &str, arguments: &[&str]) -> Policy {
    let settings = Settings::from_toml(&format!("{FILE}{more}"), &Overrides::default(), &NoSources);
    let settings = settings.unwrap_or_else(|wrong| panic!("{wrong}"));
    let line = [&["x", "--config", "x", "--user", "app"], arguments].concat();
    let line = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
    Policy::of(&line.explain.wish(), &settings)
}

fn json_of(arguments: &[&str]) -> Value {
    policy_of("", arguments).json()
}

#[test]
fn each_argument_reaches_the_rule_that_looks_at_it() {
    for (arguments, tenant, rule) in [
        (&["--user", "app.acme", "--application", "tenant:other"][..], "acme", Some(1)),
        (&["--comment", "tenant=acme"], "acme", Some(2)),
        (&["--sql", "select 1 /*tenant='acme'*/"], "acme", Some(2)),
        (&["--setting", "request.jwt.claims={\"tenant_id\": \"acme\"}"], "acme", Some(3)),
        (&["--option", "request.jwt.claims={\"tenant_id\": 7}"], "7", Some(3)),
        (&["--application", "web tenant:acme"], "acme", Some(4)),
        (&["--application", "web", "--setting", "application_name=tenant:acme"], "acme", Some(4)),
        (&["--sni", "ACME.db.example.com"], "acme", Some(5)),
        (&["--certificate", "acme"], "acme", Some(6)),
        (&["--option", "app.tenant=acme"], "acme", Some(7)),
        (&["--setting", "app.tenant=acme"], "default", None),
        (&["--address", "10.1.2.3"], "office", Some(8)),
        (&["--address", "10.2.2.3"], "default", None),
        (&[], "default", None),
    ] {
        let arguments: Vec<&str> = if arguments.first() == Some(&"--user") {
            // The user stands there already; clap takes it once.
            let settings = Settings::from_toml(FILE, &Overrides::default(), &NoSources).unwrap();
            let line = Line::try_parse_from([&["x", "--config", "x"], arguments].concat()).unwrap();
            let policy = Policy::of(&line.explain.wish(), &settings);
            assert_eq!((policy.tenant.as_str(), policy.tenant_rule.map(|rule| rule.0)), (tenant, rule));
            continue;
        } else {
            arguments.to_vec()
        };
        let policy = policy_of("", &arguments);
        let decided = policy.tenant_rule.as_ref().map(|(number, _)| *number);
        assert_eq!((policy.tenant.as_str(), decided), (tenant, rule), "{arguments:?}");
    }
}

#[test]
fn every_limit_is_told_with_its_mode_and_its_table() {
    let page = json_of(&["--application", "worker tenant:acme"]);
    assert_eq!((&page["class"], &page["class_rule"]["number"]), (&json!("worker"), &json!(1)));
    let said = |value: Value, from: &str, mode: Value| json!({"value": value, "from": from, "mode": mode});
    let expected = json!({
        // A tenant can take away what its class says.
        "statement_timeout_ms": said(json!(null), "[tenant.limits.acme]", json!(null)),
        "max_rows": said(json!(1000), "[tenant.default]", json!("observe")),
        "max_bytes": said(json!(65536), "[tenant.limits.acme]", json!("enforce")),
        "row_limit": said(json!(500), "[tenant.default]", json!("enforce")),
    });
    assert_eq!(page["limits"], expected, "{page:#}");
    assert!(page["statement"].is_null());
    let text = policy_of("", &["--application", "worker tenant:acme"]).text();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["limit", "max_bytes", "64KiB", "enforce", "[tenant.limits.acme]"]), "{text}");
    assert!(words.contains(&vec!["limit", "statement_timeout", "none", "[tenant.limits.acme]"]), "{text}");
}

#[test]
fn a_text_is_judged_as_the_running_proxy_judges_it() {
    for (tenant, sql, by, code) in [
        ("acme", "select 1", None, None),
        ("reader", "select 1", None, None),
        ("reader", "insert into t values (1)", Some("read_only"), Some("25006")),
        ("reader", "begin read write", Some("read_only"), Some("25006")),
        ("gone", "select 1", Some("blocked"), Some("42501")),
        ("gone", "commit", None, None),
        // It only warns.
        ("narrow", "select * from secrets", None, Some("42501")),
        ("narrow", "select * from runs, audit.log", None, None),
        ("narrow", "do $$begin end$$", None, Some("42501")),
    ] {
        let page = json_of(&["--application", &format!("tenant:{tenant}"), "--sql", sql]);
        let statement = &page["statement"];
        assert_eq!(statement["refused_by"].as_str(), by, "{tenant} {sql}: {page:#}");
        assert_eq!(statement["objections"][0]["code"].as_str(), code, "{tenant} {sql}: {page:#}");
    }
    let text = policy_of("", &["--application", "tenant:narrow", "--sql", "select * from secrets"]).text();
    assert!(text.contains("told by a NOTICE: 42501 permission denied for table secrets"), "{text}");
    assert!(text.contains("verdict    may be run"), "{text}");
    for (sql, limit) in [
        ("select * from runs", json!(500)),
        ("select 1 limit 3", json!(null)),
        ("begin", json!(null)),
        // Where it would go is not certain.
        ("select ';'", json!(null)),
    ] {
        assert_eq!(json_of(&["--sql", sql])["statement"]["row_limit"]["limit"], limit, "{sql}");
    }
}

#[test]
fn a_statement_is_found_by_its_text_and_by_its_fingerprint() {
    let strict = json_of(&["--sql", "select * from runs where id = 7"])["statement"]["fingerprint"].clone();
    let strict = strict.as_str().unwrap().to_owned();
    let own = format!("[tenant.fingerprint.{strict}]\nblocked = true\nmax_rows = 3\n");
    let text = policy_of(&own, &["--sql", "SELECT * FROM runs WHERE id = 9"]).text();
    assert!(text.contains(&format!("statement  {strict}, limits of [tenant.fingerprint.{strict}]")), "{text}");
    assert!(text.contains("verdict    refused by blocked"), "{text}");
    let found = policy_of(&own, &["--fingerprint", &strict]);
    let rows = |limits: &[Explained]| {
        let rows = limits.iter().find(|limit| limit.key.word() == "max_rows").unwrap();
        (rows.from.shown(), rows.value.clone())
    };
    let table = format!("[tenant.fingerprint.{strict}]");
    let own_limits = found.statement.as_ref().unwrap().limits.as_deref().unwrap();
    assert_eq!(rows(own_limits), (table.clone(), Some(config::LimitValue::Count(3))));
    assert_eq!(rows(&found.limits), ("[tenant.default]".to_owned(), Some(config::LimitValue::Count(1000))));
    // What holds for the session holds in the mode that its own tables say.
    let watched = policy_of(&format!("{own}mode = \"observe\"\n"), &["--fingerprint", &strict]);
    let text = watched.text();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["limit", "statement_timeout", "30s", "enforce", "[tenant.default]"]), "{text}");
    assert!(words.contains(&vec!["its", "own", "max_rows", "3", "observe", &table]), "{text}");
    let page = watched.json();
    assert_eq!(page["limits"]["max_rows"]["mode"], "enforce", "{page:#}");
    assert_eq!(page["statement"]["limits"]["max_rows"]["mode"], "observe", "{page:#}");
    // What holds for the tenant holds besides.
    let refused = policy_of(&own, &["--application", "tenant:acme", "--sql", "select * from runs where id = 1"]);
    assert!(refused.text().contains("verdict    refused by blocked"), "{}", refused.text());
    let more = own.replace("blocked = true\n", "");
    let refused = policy_of(&more, &["--application", "tenant:gone", "--sql", "select * from runs where id = 1"]);
    assert!(refused.text().contains("verdict    refused by blocked"), "{}", refused.text());
    // Another has what its tenant has.
    let other = policy_of(&own, &["--fingerprint", "0123456789abcdef"]);
    assert!(other.text().contains("statement  0123456789abcdef, no limits of its own"), "{}", other.text());
}

#[test]
fn both_are_told_that_hold_for_a_class_and_its_tenant() {
    let part = "max_upstreams = 2\nmodes.max_upstreams = \"warn\"\n[tenant.limits.acme]\nmax_upstreams = 10\n";
    let file = FILE.replace("[tenant.limits.acme]\n", part);
    let settings = Settings::from_toml(&file, &Overrides::default(), &NoSources).unwrap();
    let line = ["x", "--config", "x", "--user", "app", "--application", "worker tenant:acme"];
    let policy = Policy::of(&Line::try_parse_from(line).unwrap().explain.wish(), &settings);
    let page = policy.json();
    let said = |value: u64, from: &str, mode: &str| json!({"value": value, "from": from, "mode": mode});
    assert_eq!(page["limits"]["max_upstreams"], said(10, "[tenant.limits.acme]", "enforce"), "{page:#}");
    let own = json!({"max_upstreams": said(2, "[tenant.class.worker]", "warn")});
    assert_eq!(page["class_limits"], own, "{page:#}");
    let text = policy.text();
    assert!(text.contains("[tenant.class.worker], within the tenant's"), "{text}");
}

#[test]
fn what_the_server_has_of_the_connection_is_told_of_a_comments_tenant() {
    let page = json_of(&["--comment", "tenant=acme", "--application", "tenant:reader"]);
    assert_eq!((&page["tenant"], &page["connection"]["tenant"]), (&json!("acme"), &json!("reader")), "{page:#}");
    let said = |value: Value, from: &str| json!({"value": value, "from": from, "mode": "enforce"});
    let limits = json!({
        "statement_timeout_ms": said(json!(30_000), "[tenant.default]"),
        "read_only": said(json!(true), "[tenant.limits.reader]"),
    });
    assert_eq!(page["connection"]["limits"], limits, "{page:#}");
    let text = policy_of("", &["--comment", "tenant=acme", "--application", "tenant:reader"]).text();
    assert!(text.contains("connection reader, no class: its server has, for this statement too"), "{text}");
    for own in [&["--application", "tenant:reader"][..], &["--comment", "tenant=acme", "--application", "tenant:acme"]]
    {
        assert_eq!(json_of(own)["connection"], json!(null), "{own:?}");
    }
}

#[test]
fn arguments_that_say_nothing_are_refused() {
    for wrong in [["--option", "name"], ["--setting", "=x"], ["--fingerprint", "12"], ["--address", "host"]] {
        let line = [&["x", "--config", "x", "--user", "app"], &wrong[..]].concat();
        assert!(Line::try_parse_from(line).is_err(), "{wrong:?}");
    }
}
