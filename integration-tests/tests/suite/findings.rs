//! What becomes of findings: watched, judged by a gate, acknowledged, muted, logged.

use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use integration_tests::child::Signal;
use integration_tests::process::{ProxyProcess, pgweir};
use integration_tests::{Child, Cluster, RawClient, Scratch, eventually, http};
use serde_json::Value;
use tokio_postgres::NoTls;

const SCHEMA: &str = "
    create table events (id int primary key, run_id int);
    create table logs (id int primary key, event_id int, line text);
    insert into events select 1000 + 7 * n, 1 from generate_series(1, 20) n;
    insert into logs select row_number() over (), id, 'line' from events;
";

/// A proxy of the real binary in front of a database with that schema.
struct Stage {
    proxy: ProxyProcess,
    database: String,
    config: String,
}

impl Stage {
    fn new(rest: &str) -> Self {
        let cluster = Cluster::shared();
        let database = cluster.fresh_database();
        cluster.run(&database, SCHEMA).ok();
        let config = format!(
            "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n[databases.'*']\nupstream = 'postgres://{}'\n{rest}",
            cluster.address()
        );
        Self { proxy: ProxyProcess::with_config(&config), database, config }
    }

    fn url(&self, application: &str) -> String {
        let address = self.proxy.address();
        format!(
            "host={} port={} user=postgres dbname={} application_name={application}",
            address.ip(),
            address.port(),
            self.database
        )
    }

    /// A list of so many rows, and a statement for each.
    fn loop_over(&self, rows: i64, application: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url(application), NoTls).await.unwrap();
            tokio::spawn(connection);
            let list = "select id from events where run_id = $1 order by id limit $2";
            for parent in client.query(list, &[&1i32, &rows]).await.unwrap() {
                let id: i32 = parent.get(0);
                client.query("select line from logs where event_id = $1", &[&id]).await.unwrap();
            }
        });
    }

    fn findings(&self, query: &str) -> Vec<Value> {
        let listed = http::fetch(self.proxy.admin(), &format!("/api/v1/findings{query}")).json();
        listed["findings"].as_array().unwrap().clone()
    }

    /// `pgweir watch` with these arguments, run to its end: exit code and both outputs.
    fn watch(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = self.proxy.admin().to_string();
        let all = [&["watch", "--admin", &admin], arguments].concat();
        let Output { status, stdout, stderr } = pgweir(&all).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// As much of a loop as psql can: a list, then a statement for each row, as a command for a gate.
    fn command(&self) -> Vec<String> {
        let mut script = "select id from events where run_id = 1 order by id;".to_owned();
        for row in 1..=20 {
            script += &format!("select line from logs where event_id = {};", 1000 + 7 * row);
        }
        let psql = Cluster::shared().program("psql");
        let statements = script.split_inclusive(';').flat_map(|sql| ["-c".to_owned(), sql.to_owned()]);
        let begin = [psql.to_str().unwrap().to_owned(), "-qX".to_owned(), "-d".to_owned(), self.url("ci")];
        begin.into_iter().chain(statements).collect()
    }
}

/// Reads what a program prints until it has printed these words; all of it so far.
fn reader(program: &mut Child) -> impl FnMut(&str) -> String + use<> {
    let mut output = program.pipes().stdout.take().unwrap();
    let mut shown = String::new();
    move |words| {
        let mut buffer = [0; 4096];
        while !shown.contains(words) {
            let length = output.read(&mut buffer).unwrap();
            assert!(length > 0, "no {words} in {shown}");
            shown += std::str::from_utf8(&buffer[..length]).unwrap_or("\u{fffd}");
        }
        shown.clone()
    }
}

const DEVELOPMENT: &str = "[observe]\nprofile = 'development'\n";

#[test]
fn development_finds_a_loop_of_three_and_production_does_not() {
    for (profile, rows, found) in
        [("development", 3, 1), ("development", 2, 0), ("production", 4, 0), ("production", 5, 1)]
    {
        let stage = Stage::new(&format!("[observe]\nprofile = '{profile}'\n"));
        // A machine that is busy elsewhere may tear a loop apart; each gate waits until the one before it is judged.
        for _ in 0..if found == 0 { 1 } else { 10 } {
            stage.loop_over(rows, "web");
            let (code, _, said) = stage.watch(&["--fail-on", "any", "--for", "50ms"]);
            assert_eq!(code, 0, "{said}");
            if stage.findings("").len() == found {
                break;
            }
        }
        let findings = stage.findings("");
        assert_eq!(findings.len(), found, "{profile} with {rows} rows: {findings:#?}");
        assert!(findings.iter().all(|finding| finding["count"] == rows), "{findings:#?}");
    }
}

#[test]
fn what_happens_is_shown_as_it_happens_with_proof_and_rewrite() {
    let stage = Stage::new(DEVELOPMENT);
    stage.loop_over(4, "before");
    eventually("the first is found", || stage.findings("").len() == 1);
    let admin = stage.proxy.admin().to_string();
    let mut watching = Child::spawn(pgweir(&["watch", "--admin", &admin]).stdout(Stdio::piped()));
    let mut read_until = reader(&mut watching);
    read_until("findings known so far: 1");
    stage.loop_over(20, "web");
    let shown = read_until("  id       ");
    for words in [
        "n_plus_one",
        "  web",
        "events.id → logs.event_id = $1",
        " statements for one execution",
        "ms lost",
        "ANY($1::int4[])",
    ] {
        assert!(shown.contains(words), "no {words} in {shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains("before"), "{shown}");
    watching.signal(Signal::Interrupt);
    read_until("1 finding in ");
    eventually("it ends", || !watching.is_running());
    assert_eq!(watching.try_wait().unwrap().code(), Some(0));
}

#[test]
fn a_gate_judges_what_its_command_did_and_passes_failures_on() {
    let stage = Stage::new("");
    let folder = Scratch::new();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (junit, page) = (file("report.xml"), file("report.md"));
    // Known before: it is no news, unless it happens again.
    stage.loop_over(20, "ci");
    let clean = stage.watch(&["--fail-on", "n_plus_one", "--junit", &junit, "--markdown", &page, "--", "true"]);
    assert_eq!((clean.0, clean.2.contains("clean: no findings")), (0, true), "{}", clean.2);
    assert!(fs::read_to_string(&junit).unwrap().contains("failures=\"0\""));
    assert!(fs::read_to_string(&page).unwrap().contains("No findings."));

    let command = stage.command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let gate = |options: &[&str]| stage.watch(&[options, &["--"], &command].concat());
    let (code, _, said) = gate(&["--fail-on", "n_plus_one,insert_loop", "--junit", &junit, "--markdown", &page]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("over the budget: 1 finding in ") && said.contains("events.id → "), "{said}");
    let report = fs::read_to_string(&junit).unwrap();
    well_formed(&report);
    assert!(report.contains("failures=\"1\"") && report.contains("classname=\"pgweir.n_plus_one\""), "{report}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("| `n_plus_one` |") && page.contains("```sql\nselect line from logs"), "{page}");

    for (options, expected) in [
        (&["--fail-on", "any", "--max", "1"][..], 0),
        (&["--fail-on", "any", "--max-requests", "9"], 0),
        (&["--fail-on", "any", "--max-requests", "0"], 1),
        (&["--fail-on", "insert_loop"], 0),
        (&["--fail-on", "any", "--application", "another"], 0),
    ] {
        let (code, _, said) = gate(options);
        assert_eq!(code, expected, "{options:?}: {said}");
    }
    let failing = stage.watch(&["--fail-on", "any", "--", "sh", "-c", "exit 7"]);
    assert_eq!(failing.0, 7, "{}", failing.2);
    let known = &stage.findings("?state=open")[0];
    let path = format!("/api/v1/findings/{}/acknowledge", known["id"].as_str().unwrap());
    for finding in stage.findings("") {
        let path = path.replace(known["id"].as_str().unwrap(), finding["id"].as_str().unwrap());
        assert_eq!(http::change(stage.proxy.admin(), "POST", &path, "{\"by\": \"anna\"}").status, 200);
    }
    let (code, _, said) = gate(&["--fail-on", "any"]);
    assert_eq!(code, 0, "what is acknowledged does not count: {said}");
}

/// Elements are closed in the order in which they were opened, attributes are quoted, and no bare markup is left.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap();
    while let Some((text, behind)) = rest.split_once('<') {
        assert!(!text.contains('>'), "{text}");
        let (tag, behind) = behind.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{xml}");
        } else {
            assert!(tag.matches('"').count() % 2 == 0 && !tag.contains('\''), "{tag}");
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        rest = behind;
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

#[test]
fn a_gate_that_cannot_watch_says_so() {
    let nobody = pgweir(&["watch", "--admin", "127.0.0.1:1", "--fail-on", "any", "--", "true"]).output().unwrap();
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert_eq!((nobody.status.code(), said.contains("does not answer at 127.0.0.1:1")), (Some(2), true), "{said}");
    let stage = Stage::new("[observe]\nn_plus_one = false\n");
    let (code, _, said) = stage.watch(&["--fail-on", "any", "--", "true"]);
    assert_eq!((code, said.contains("observe.n_plus_one")), (2, true), "{said}");
    let (code, _, said) = stage.watch(&["--fail-on", "any", "--", "/no/such/program"]);
    assert_eq!(code, 2, "{said}");
    let (code, _, said) = stage.watch(&["--kind", "insert_loop", "--fail-on", "n_plus_one", "--", "true"]);
    assert_eq!((code, said.contains("--fail-on n_plus_one")), (2, true), "it would never fail: {said}");
}

#[test]
fn a_gate_says_nothing_by_what_was_not_looked_at() {
    let stage = Stage::new("[observe]\nevents_per_second = 100\n");
    let folder = Scratch::new();
    let junit = folder.path().join("report.xml").to_str().unwrap().to_owned();
    let psql = Cluster::shared().program("psql");
    let url = stage.url("ci");
    let mut command = vec![psql.to_str().unwrap(), "-qX", "-o", "/dev/null", "-d", &url];
    // More than a worker hands on within its two seconds, in whichever of two such times they fall.
    command.extend(std::iter::repeat_n(["-c", "select id from events"], 700).flatten());
    let gate = |options: &[&str]| stage.watch(&[options, &["--"], &command].concat());
    let (code, _, said) = gate(&["--fail-on", "any", "--junit", &junit]);
    assert_eq!((code, said.contains("not sure: no findings")), (2, true), "{said}");
    let report = fs::read_to_string(&junit).unwrap();
    well_formed(&report);
    assert!(report.contains("errors=\"1\"") && report.contains("statements were not looked at"), "{report}");
    let (code, _, said) = gate(&["--fail-on", "any", "--allow-unseen"]);
    assert_eq!((code, said.contains("statements were not looked at")), (0, true), "{said}");
}

#[test]
fn a_gate_that_is_interrupted_while_it_opens_starts_no_command() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    let (asked, hears) = mpsc::channel();
    let (goes, go) = mpsc::channel();
    // What a proxy answers that has found nothing: it is on, here is a fence, that is not judged yet, and when it is told to
    // go on it is. In between the gate waits.
    std::thread::spawn(move || {
        let moment = "2026-01-01T00:00:01.000000Z";
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            if number == 3 {
                go.recv().unwrap();
            }
            let judged = if number == 2 { "2026-01-01T00:00:00.000000Z" } else { moment };
            let body = serde_json::json!({
                "total": 0, "sequence": 0, "started": moment, "judged_until": judged, "moment": moment,
                "events_skipped": 0, "events_dropped": 0, "detection_dropped": 0, "findings": [],
            });
            let body = body.to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
            if number == 2 {
                asked.send(()).unwrap();
            }
        }
    });
    let folder = Scratch::new();
    let marker = folder.path().join("begun");
    let marker = marker.to_str().unwrap();
    let mut gate = Child::spawn(&mut pgweir(&["watch", "--admin", &admin, "--fail-on", "any", "--", "touch", marker]));
    hears.recv().unwrap();
    gate.signal(Signal::Interrupt);
    goes.send(()).unwrap();
    eventually("it ends", || !gate.is_running());
    assert_eq!(gate.try_wait().unwrap().code(), Some(2));
    assert!(!fs::exists(marker).unwrap(), "the command has begun");
}

#[test]
fn what_is_muted_is_not_logged_and_mutes_of_the_file_outlive_a_reload() {
    let stage = Stage::new("[log]\nformat = 'json'\n[[observe.mute]]\napplication = 'known'\n");
    let admin = stage.proxy.admin();
    stage.loop_over(20, "known");
    eventually("it is found", || stage.findings("?state=muted").len() == 1);
    assert_eq!(stage.findings("")[0]["mute"], "config:1");
    stage.loop_over(20, "web");
    let lines = |application: &str| -> Vec<Value> {
        let log = stage.proxy.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "finding" && line["application"] == application).collect()
    };
    eventually("the other one is logged", || !lines("web").is_empty());
    assert!(lines("known").is_empty(), "{}", stage.proxy.log());
    let line = &lines("web")[0];
    let shown = &stage.findings("?application=web")[0];
    for name in [
        "id",
        "kind",
        "severity",
        "tenant",
        "database",
        "user",
        "count",
        "connections",
        "wasted_ms",
        "evidence",
        "rewrite",
    ] {
        assert_eq!(line[name], shown[name], "{name}");
    }
    assert_eq!(line["child_fingerprint"], shown["child"]["fingerprint"]);
    assert!(!line.to_string().contains("1007"), "no bind value in a line: {line}");

    let fingerprint = shown["child"]["fingerprint"].as_str().unwrap();
    let body = format!("{{\"fingerprint\": \"{fingerprint}\", \"application\": \"web\", \"for\": \"1h\"}}");
    assert_eq!(http::change(admin, "POST", "/api/v1/mutes", &body).status, 201);
    assert_eq!(stage.findings("?state=open").len(), 0);
    stage.proxy.reload(&stage.config.replace("known", "nobody"));
    eventually("the file's mute has gone", || stage.findings("?state=open").len() == 1);
    assert_eq!(stage.findings("?state=muted&application=web").len(), 1, "the other one stays");
    assert_eq!(http::change(admin, "DELETE", "/api/v1/mutes/1", "").status, 204);
    assert_eq!(stage.findings("?state=open").len(), 2);
    let metrics = http::fetch(admin, "/metrics").body;
    assert!(metrics.contains("pgweir_findings{kind=\"n_plus_one\",tenant=\"default\",state=\"open\"} 2"), "{metrics}");
    assert!(metrics.contains("pgweir_finding_bursts_total{kind=\"n_plus_one\",tenant=\"default\"} 1"), "{metrics}");
}

#[test]
fn who_watches_is_told_of_a_restart_and_goes_on() {
    let mut stage = Stage::new(DEVELOPMENT);
    stage.loop_over(20, "before");
    eventually("the first is found", || stage.findings("").len() == 1);
    let admin = stage.proxy.admin().to_string();
    let mut watching = Child::spawn(pgweir(&["watch", "--admin", &admin]).stdout(Stdio::piped()));
    let mut read_until = reader(&mut watching);
    read_until("findings known so far: 1");
    stage.proxy.stop();
    read_until("; trying again");
    stage.proxy.start_again();
    read_until("pgweir answers again, after ");
    read_until("it was started anew: numbers begin again");
    stage.loop_over(20, "behind");
    let shown = read_until("  id       ");
    assert!(shown.contains("  behind") && !shown.contains("  before"), "{shown}");
    watching.signal(Signal::Interrupt);
    read_until("1 finding in ");
    eventually("it ends", || !watching.is_running());
    assert_eq!(watching.try_wait().unwrap().code(), Some(0));
}

#[test]
fn a_statement_that_becomes_slower_than_it_was_is_a_finding() {
    let stage = Stage::new("[log]\nformat = 'json'\n[observe]\nregression_interval = '1s'\n");
    let pace = |seconds: f64| {
        let sql = format!("drop table if exists pace; create table pace as select {seconds}::float8 as seconds");
        Cluster::shared().run(&stage.database, &sql).ok();
    };
    let sql = "select pg_sleep(seconds) from pace";
    let (address, database) = (stage.proxy.address(), stage.database.as_str());
    let run = |calls: usize| {
        let mut client = RawClient::login(address, "postgres", database);
        for _ in 0..calls {
            client.query(sql).ok();
        }
    };
    pace(0.0);
    run(300);
    // It is looked at twice: what has been seen by then is its history.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.findings("?kind=regression").len(), 0);
    pace(0.1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| run(40));
        }
    });
    eventually("it is found", || !stage.findings("?kind=regression").is_empty());
    let findings = stage.findings("?kind=regression");
    let [finding] = findings.as_slice() else { panic!("one statement has become slower: {findings:#?}") };
    assert_eq!((&finding["child"]["text"], &finding["severity"]), (&sql.into(), &"high".into()), "{finding:#}");
    let detail = |name: &str| finding["detail"][name].as_f64().unwrap();
    assert!(detail("p95_ms") > 85.0 && detail("p95_ms") > 3.0 * detail("usual_p95_ms"), "{finding:#}");
    assert!(detail("calls") >= 100.0 && detail("usual_calls") >= 100.0, "{finding:#}");
    let logged = |line: &str| ["\"finding\"", "\"regression\"", sql].iter().all(|words| line.contains(words));
    eventually("it is logged", || stage.proxy.log().lines().any(logged));
}

#[test]
fn what_people_said_outlives_a_restart_where_there_is_a_place_for_it() {
    let folder = Scratch::new();
    let state = folder.path().join("state");
    let mut stage = Stage::new(&format!("[observe]\nstate_directory = '{}'\n", state.display()));
    let admin = stage.proxy.admin();
    stage.loop_over(20, "web");
    eventually("it is found", || stage.findings("").len() == 1);
    let path = format!("/api/v1/findings/{}/acknowledge", stage.findings("")[0]["id"].as_str().unwrap());
    assert_eq!(http::change(admin, "POST", &path, "{\"by\": \"anna\", \"note\": \"goes with #17\"}").status, 200);
    for body in ["{\"application\": \"gone\"}", "{\"application\": \"nightly\", \"for\": \"1h\", \"note\": \"known\"}"]
    {
        assert_eq!(http::change(admin, "POST", "/api/v1/mutes", body).status, 201);
    }
    assert_eq!(http::change(admin, "DELETE", "/api/v1/mutes/1", "").status, 204);
    let mutes = || http::fetch(admin, "/api/v1/mutes").json()["mutes"].clone();
    let said = mutes();
    assert_eq!((said.as_array().unwrap().len(), &said[0]["id"]), (1, &"2".into()), "{said}");

    stage.proxy.stop();
    stage.proxy.start_again();
    assert_eq!(mutes(), said);
    assert_eq!(stage.findings("").len(), 0);
    stage.loop_over(20, "web");
    stage.loop_over(20, "nightly");
    eventually("both are found again", || stage.findings("").len() == 2);
    let known = stage.findings("?state=acknowledged");
    assert_eq!(known.len(), 1, "{:#?}", stage.findings(""));
    assert_eq!(known[0]["acknowledged"]["note"], "goes with #17");
    assert_eq!(stage.findings("?state=muted&application=nightly")[0]["mute"], "2");

    stage.proxy.stop();
    fs::write(state.join("findings.json"), "{\"format\": \"pgweir-findings\", \"vers").unwrap();
    stage.proxy.start_again();
    eventually("it says so", || stage.proxy.log().contains("findings.json.broken"));
    assert!(state.join("findings.json.broken").is_file());
    assert_eq!(mutes(), Value::Array(Vec::new()));
    assert_eq!(http::change(admin, "POST", "/api/v1/mutes", "{\"application\": \"web\"}").status, 201);
    assert!(fs::read_to_string(state.join("findings.json")).unwrap().contains("\"web\""));
}
