//! Statements with their values: nowhere, unless `observe.samples` wants them; and then for operators.

use integration_tests::{Cluster, ProxyProcess, RawClient, Scratch, eventually, http};
use serde_json::Value;

const LITERAL: &str = "canary-literal-5519";
const BOUND: &str = "canary-bound-7741";

/// A proxy whose clients' tenants are their databases, and one of them.
struct Stage {
    proxy: ProxyProcess,
    database: String,
    text: String,
}

impl Stage {
    fn new(samples: bool) -> Self {
        let cluster = Cluster::shared();
        let database = cluster.fresh_database();
        cluster.run(&database, "create table people (id int, name text); create table secret (name text)").ok();
        let folder = Scratch::new();
        let text = format!(
            "listen = '{{listen}}'\nworkers = 1\n[admin]\nlisten = '{{admin}}'\n\
             [admin.access.anna]\nrole = 'operator'\ntoken = 'of the operator'\n\
             [admin.access.grafana]\nrole = 'viewer'\ntoken = 'of the viewer'\n\
             [admin.access.own]\nrole = 'tenant'\ntenant = '{database}'\ntoken = 'of its tenant'\n\
             [admin.access.other]\nrole = 'tenant'\ntenant = 'other'\ntoken = 'of another tenant'\n\
             [auth]\nmethod = 'trust'\n[[tenant.rule]]\nfrom = 'database'\n\
             [log]\nformat = 'json'\nlevel = 'debug'\n[slow_log]\nthreshold = '50ms'\nplans = true\n\
             [capture]\ndirectory = '{}'\n[observe]\nprofile = 'development'\nsamples = {samples}\n\
             [databases.'*']\nupstream = 'postgres://{}'\n",
            folder.path().display(),
            cluster.address()
        );
        Self { proxy: ProxyProcess::with_config_in(folder, &text), database, text }
    }

    fn ask(&self, path: &str, token: &str) -> http::Response {
        http::request(self.proxy.admin(), path, &[("Authorization", &format!("Bearer {token}"))]).unwrap()
    }

    fn body(&self, path: &str) -> String {
        self.ask(path, "of the operator").body
    }

    /// Statements of all kinds, each with a canary: fast and slow, simple and extended, one that fails, and a loop.
    fn traffic(&self) {
        let mut client = RawClient::login(self.proxy.address(), "postgres", &self.database);
        client.query(format!("select count(*) from people where name = '{LITERAL}'")).ok();
        client.query(format!("insert into people select n, '{LITERAL}' || n from generate_series(1, 8) n")).ok();
        client.query(format!("select pg_sleep(0.1), id from people where name > '{LITERAL}'")).ok();
        client.parse("", "select id from people where name = $1").bind("", &[BOUND]);
        client.execute().sync().reply().ok();
        assert_eq!(client.query(format!("select '{LITERAL}'::int from people")).error().code(), "22P02");
        client.query("drop role if exists canary_role").ok();
        client.query(format!("set app.word = '{LITERAL}'")).ok();
        for row in client.query("select name from people order by id").ok().rows() {
            client.query(format!("select 1 from secret where name = '{}'", row[0])).ok();
        }
        client.terminate();
    }

    fn fingerprint(&self, part: &str) -> String {
        let mut found = None;
        eventually("the statement is counted", || {
            let listed: Value = self.ask("/api/v1/queries?limit=1000", "of the operator").json();
            let rows = listed["queries"].as_array().unwrap().clone();
            let row = rows.into_iter().find(|row| row["text"].as_str().unwrap().contains(part));
            found = row.map(|row| row["fingerprint"].as_str().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    fn finding(&self) -> String {
        let mut found = None;
        eventually("the loop is found", || {
            let listed: Value = self.ask("/api/v1/findings", "of the operator").json();
            found = listed["findings"].get(0).map(|finding| finding["id"].as_str().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    fn slow_line(&self) -> Value {
        let mut found = None;
        eventually("the slow statement is logged", || {
            let log = self.proxy.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let is_it = |line: &Value| {
                line["target"] == "slow" && line["text"].as_str().is_some_and(|text| text.contains("pg_sleep"))
            };
            found = lines.find(is_it);
            found.is_some()
        });
        found.unwrap()
    }

    /// Every page and answer that somebody may look at.
    fn paths(&self) -> Vec<String> {
        let (statement, finding) = (self.fingerprint("from secret"), self.finding());
        let mut paths: Vec<String> = [
            "/metrics",
            "/api/v1/queries?limit=1000",
            "/api/v1/queries/snapshot",
            "/api/v1/findings",
            "/api/v1/findings/export?format=ndjson",
            "/api/v1/plans",
            "/api/v1/overview",
            "/api/v1/history",
            "/api/v1/clients",
            "/api/v1/upstreams",
            "/api/v1/untracked",
            "/api/v1/audit",
            "/api/v1/config",
            "/api/v1/tenants",
            "/api/v1/limits",
            "/",
            "/queries",
            "/findings",
            "/connections",
            "/config",
            "/audit",
        ]
        .map(str::to_owned)
        .to_vec();
        for part in ["from secret", "from people where name", "pg_sleep", "insert into people"] {
            let fingerprint = self.fingerprint(part);
            for path in ["/queries/", "/api/v1/queries/", "/api/v1/plans/"] {
                paths.push(format!("{path}{fingerprint}"));
            }
        }
        paths.push(format!("/api/v1/queries/{statement}/samples"));
        paths.extend([format!("/findings/{finding}"), format!("/api/v1/findings/{finding}")]);
        paths
    }
}

fn has_canary(text: &str) -> bool {
    text.contains("canary-")
}

#[test]
fn without_samples_no_value_is_anywhere() {
    let stage = Stage::new(false);
    let capture =
        |method: &str, path: &str| http::change_as(stage.proxy.admin(), "of the operator", (method, path), "").unwrap();
    let begun = capture("POST", "/api/v1/capture?file=all.jsonl");
    assert!(begun.status < 300, "{}", begun.body);
    stage.traffic();
    stage.slow_line();
    for path in stage.paths() {
        let answer = stage.ask(&path, "of the operator");
        assert!(!has_canary(&answer.body), "{path}: {}", answer.body);
    }
    let samples = stage.body(&format!("/api/v1/queries/{}/samples", stage.fingerprint("from secret")));
    assert!(samples.contains("\"kept\":false") && samples.contains("\"samples\":[]"), "{samples}");
    assert!(!has_canary(&stage.proxy.log()), "{}", stage.proxy.log());
    assert!(capture("DELETE", "/api/v1/capture").status < 300);
    let written = std::fs::read_to_string(stage.proxy.folder().path().join("all.jsonl")).unwrap();
    assert!(written.contains("from secret") && !has_canary(&written), "{written}");
}

#[test]
fn with_samples_operators_see_statements_as_they_were_sent_and_nobody_else_does() {
    let stage = Stage::new(true);
    stage.traffic();
    let simple = stage.fingerprint("select count(*) from people");
    let extended = stage.fingerprint("select id from people where name = $1");
    let samples = |fingerprint: &str| {
        let answer = stage.ask(&format!("/api/v1/queries/{fingerprint}/samples"), "of the operator");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["samples"].as_array().unwrap().clone()
    };
    let seen = samples(&simple);
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(seen[0]["text"], format!("select count(*) from people where name = '{LITERAL}'"));
    assert_eq!(
        (&seen[0]["tenant"], &seen[0]["database"]),
        (&stage.database.as_str().into(), &stage.database.as_str().into())
    );
    let seen = samples(&extended);
    assert_eq!(
        (&seen[0]["text"], &seen[0]["parameters"][0]),
        (&"select id from people where name = $1".into(), &BOUND.into())
    );
    for part in ["set app.word", "drop role"] {
        let listed: Value = stage.ask("/api/v1/queries?limit=1000", "of the operator").json();
        let rows = listed["queries"].as_array().unwrap();
        for row in rows.iter().filter(|row| row["text"].as_str().unwrap().contains(part)) {
            assert!(samples(row["fingerprint"].as_str().unwrap()).is_empty(), "{part} may hold a secret");
        }
    }
    let finding = stage.finding();
    for page in [format!("/queries/{simple}"), format!("/findings/{finding}")] {
        assert!(has_canary(&stage.body(&page)), "{page}: {}", stage.body(&page));
    }
    let line = stage.slow_line();
    assert!(line["sent"].as_str().is_some_and(|sent| sent.contains(LITERAL)), "{line:#}");
    assert!(!has_canary(line["text"].as_str().unwrap()));

    for (token, path, status) in [
        ("of the viewer", format!("/api/v1/queries/{simple}/samples"), 403),
        ("of its tenant", format!("/api/v1/queries/{simple}/samples"), 403),
        ("of another tenant", format!("/api/v1/queries/{simple}/samples"), 403),
        ("of the viewer", format!("/queries/{simple}"), 200),
        ("of the viewer", format!("/findings/{finding}"), 200),
        ("of its tenant", format!("/queries/{simple}"), 200),
        ("of another tenant", format!("/queries/{simple}"), 404),
    ] {
        let answer = stage.ask(&path, token);
        assert_eq!(answer.status, status, "{token} {path}: {}", answer.body);
        assert!(!has_canary(&answer.body), "{token} {path}: {}", answer.body);
    }
    let audit = stage.body("/api/v1/audit");
    assert!(audit.contains(&format!("/api/v1/queries/{simple}/samples")), "{audit}");

    stage.proxy.reload(&stage.text.replace("samples = true", "samples = false"));
    eventually("what was kept is forgotten", || {
        let answer = stage.body(&format!("/api/v1/queries/{simple}/samples"));
        answer.contains("\"kept\":false") && !has_canary(&answer)
    });
    stage.traffic();
    stage.proxy.reload(&stage.text);
    eventually("samples are wanted again", || {
        stage.body(&format!("/api/v1/queries/{simple}/samples")).contains("\"kept\":true")
    });
    assert!(samples(&simple).is_empty(), "nothing was kept meanwhile");
}
