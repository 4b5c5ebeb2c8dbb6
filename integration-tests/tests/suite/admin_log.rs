//! The log while it runs: its level, who asked for what, and what repeats.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use integration_tests::process::{binary, pgweir};
use integration_tests::{Child, Cluster, ProxyProcess, RawClient, Scratch, Signal, eventually, http, within};

fn config(more: &str) -> String {
    format!(
        "listen = \"{{listen}}\"\nauth.method = \"trust\"\n{more}\n[admin]\nlisten = \"{{admin}}\"\n\
         [databases.postgres]\nupstream = \"postgres://postgres@{}/postgres\"\n",
        Cluster::shared().address()
    )
}

#[test]
fn the_console_changes_the_level_until_the_next_reload() {
    let proxy = ProxyProcess::with_config(&config("log.level = \"warn\"\nconsole.admin_users = [\"ops\"]"));
    let level = || http::fetch(proxy.admin(), "/api/v1/log-level").json();
    let mut ops = RawClient::login(proxy.address(), "ops", "pgbouncer");
    assert_eq!(ops.query("set log.level = info").commands(), ["SET"]);
    assert_eq!((&level()["filter"], &level()["until"]), (&"info".into(), &serde_json::Value::Null));
    let shown = ops.query("show config").ok().rows();
    assert!(shown.iter().any(|row| row[0] == "log.level" && row[1] == "info"), "{shown:?}");
    // What is of level info is written from now on, and was not before.
    assert!(!proxy.log().contains("a command on the console"), "{}", proxy.log());
    ops.query("reconnect").ok();
    eventually("it is logged", || proxy.log().matches("a command on the console").count() == 1);
    assert_eq!(ops.query("set log.level = loud").error().code(), "22023");
    ops.query("reload").ok();
    assert_eq!(level()["filter"], "warn");
}

#[test]
fn the_level_is_changed_for_a_while_and_a_reload_puts_it_back() {
    let proxy = ProxyProcess::with_config(&config("log.level = \"warn\""));
    let level = || http::fetch(proxy.admin(), "/api/v1/log-level").json();
    let set = |json: &str| http::change(proxy.admin(), "PUT", "/api/v1/log-level", json);
    assert_eq!((&level()["filter"], &level()["until"]), (&"warn".into(), &serde_json::Value::Null));
    assert!(!proxy.log().contains("pgweir serves"), "{}", proxy.log());
    let refused = || {
        let parameters = [("user", "postgres"), ("database", "nowhere")];
        assert_eq!(RawClient::try_login(proxy.address(), &parameters, "").unwrap_err().code(), "3D000");
    };
    refused();
    let answer = set("{\"filter\": \"warn,pgweir::login=info\", \"for\": \"1h\"}");
    assert_eq!((answer.status, &answer.json()["filter"]), (200, &"warn,pgweir::login=info".into()));
    assert!(answer.json()["until"].is_string());
    refused();
    eventually("what was asked for is logged", || proxy.log().matches("login refused").count() == 1);
    // It ends by itself.
    assert_eq!(set("{\"filter\": \"info\", \"for\": \"200ms\"}").status, 200);
    eventually("the level is back", || level()["filter"] == "warn");
    eventually("and that is said", || proxy.log().contains("is the configuration's again"));
    // A reload ends it too, and so does whoever wants that.
    assert_eq!(set("{\"filter\": \"info\", \"for\": \"1h\"}").status, 200);
    proxy.child.signal(Signal::Hangup);
    eventually("the reload has put it back", || level()["filter"] == "warn");
    assert_eq!(set("{\"filter\": \"error\"}").status, 200);
    assert_eq!(set("{}").json()["until"], serde_json::Value::Null);
    for wrong in [
        "{\"filter\": \"pgweir=loud\"}",
        "{\"filter\": \"\"}",
        "{\"filter\": \"info\", \"for\": \"25h\"}",
        "{\"for\": 5}",
    ] {
        assert_eq!(set(wrong).status, 400, "{wrong}");
    }
    assert_eq!(level()["filter"], "warn");
}

#[test]
fn the_audit_log_is_written_at_every_level_and_names_its_request() {
    let proxy = ProxyProcess::with_config(&config("log.level = \"error\"\nlog.format = \"json\""));
    let id = [("X-Request-Id", "from-a-test")];
    http::request(proxy.admin(), "/api/v1/queries?tenant=acme&text=secret", &id).unwrap();
    assert_eq!(http::post(proxy.admin(), "/api/v1/queries/reset", &[("X-Requested-With", "x"), id[0]]).status, 200);
    let refused = http::request(
        proxy.admin(),
        "/api/v1/queries",
        &[("Sec-Fetch-Site", "cross-site"), ("X-Request-Id", "foreign")],
    );
    assert_eq!(refused.unwrap().status, 403);
    eventually("the audit log is written", || proxy.log().lines().count() >= 3);
    let lines: Vec<serde_json::Value> = proxy.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        lines.iter().map(|line| [&line["message"], &line["who"], &line["path"], &line["request_id"]]).collect();
    let shown = serde_json::to_value(seen).unwrap();
    let expected = serde_json::json!([
        ["view", "local", "/api/v1/queries?tenant=acme&text=…", "from-a-test"],
        ["action", "local", "/api/v1/queries/reset", "from-a-test"],
        ["refused", null, "/api/v1/queries", "foreign"],
    ]);
    assert_eq!(shown, expected);
    assert!(lines.iter().all(|line| line["target"].as_str().unwrap().starts_with("pgweir::audit")), "{lines:?}");
}

#[test]
fn lines_within_a_request_name_it() {
    let proxy = ProxyProcess::with_config(&config("log.format = \"json\""));
    let headers = [("X-Requested-With", "x"), ("X-Request-Id", "within")];
    http::post(proxy.admin(), "/api/v1/queries/reset", &headers);
    let named = |line: &str| line.contains("\"id\":\"within\"") && !line.contains("pgweir::audit");
    eventually("the line of the reset names its request", || proxy.log().lines().any(named));
}

#[test]
fn a_flood_of_refused_logins_is_counted_and_not_written() {
    let proxy = ProxyProcess::with_config(&config(""));
    for _ in 0..200 {
        let parameters = [("user", "postgres"), ("database", "nowhere")];
        assert!(RawClient::try_login(proxy.address(), &parameters, "").is_err());
    }
    let told = || proxy.log().lines().find(|line| line.contains("repeated")).map(str::to_owned);
    assert!(within(Duration::from_secs(30), || told().is_some()), "{}", proxy.log());
    let refused =
        proxy.log().lines().filter(|line| line.contains("login refused") && !line.contains("repeated")).count();
    assert!((50..120).contains(&refused), "{refused}");
    let told = told().unwrap();
    assert!(told.contains("times within 10 s: login refused") && told.contains("of=\"pgweir::login\""), "{told}");
}

#[test]
fn the_journal_gets_priorities_and_no_clock() {
    let folder = Scratch::new();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let stream = log.metadata().map(|file| format!("{}:{}", file.dev(), file.ino())).unwrap();
    let text = config("").replace("{listen}", "127.0.0.1:0").replace("{admin}", "127.0.0.1:0");
    let file = folder.file("pgweir.toml", &text);
    let read = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(binary().is_file());
    let mut command = pgweir(&["serve", "--config", file.to_str().unwrap()]);
    let child = Child::spawn(command.env("JOURNAL_STREAM", stream).stderr(log));
    eventually("it serves", || read().contains("pgweir serves"));
    let first = read();
    assert!(first.starts_with("<6> INFO pgweir::run"), "{first}");
    let is_clock = |part: &str| part.len() > 18 && part.ends_with('Z') && part.contains('T') && part.starts_with("20");
    assert!(
        !first.contains('\u{1b}') && !first.split_whitespace().any(is_clock),
        "neither colours nor a clock: {first}"
    );
    drop(child);
}
