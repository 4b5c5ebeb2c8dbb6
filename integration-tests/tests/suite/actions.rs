//! What an operator has done over the admin port to a proxy that serves, and what it tells meanwhile.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use integration_tests::cluster::free_port;
use integration_tests::process::pgweir;
use integration_tests::{Child, Cluster, ProxyProcess, RawClient, Scratch, eventually, http};
use serde_json::{Value, json};

/// One database, two server connections at most.
fn config(more: &str) -> String {
    format!(
        "listen = '{{listen}}'\n{more}\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n[pool]\nsize = 2\n\
         [shutdown]\ngrace = '0'\n[databases.postgres]\nupstream = 'postgres://postgres@{}'\n",
        Cluster::shared().address()
    )
}

fn client(proxy: &ProxyProcess) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

fn act(proxy: &ProxyProcess, path: &str) -> (u16, Value) {
    let answer = http::change(proxy.admin(), "POST", &format!("/api/v1/{path}"), "");
    (answer.status, answer.json())
}

fn ask(proxy: &ProxyProcess, path: &str) -> Value {
    http::fetch(proxy.admin(), &format!("/api/v1/{path}")).json()
}

/// The numbers of the clients in a state.
fn clients(proxy: &ProxyProcess, state: &str) -> Vec<u64> {
    let page = ask(proxy, &format!("clients?state={state}"));
    page["clients"].as_array().unwrap().iter().map(|client| client["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_database_is_paused_resumed_disabled_and_enabled() {
    let proxy = ProxyProcess::with_config(&config(""));
    let (mut busy, mut resting) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    let (status, answer) = act(&proxy, "databases/postgres/pause?wait=1s");
    assert_eq!((status, answer), (200, json!({"action": "pause", "database": "postgres", "complete": false})));
    busy.query("commit").ok();
    assert_eq!(act(&proxy, "databases/postgres/pause").1["complete"], true);
    assert_eq!(ask(&proxy, "pools")["pools"][0]["paused"], true);
    resting.start_query("select 1");
    assert!(resting.hears_nothing_for(Duration::from_millis(200)), "it waits");
    eventually("the overview says so", || {
        let now = ask(&proxy, "overview");
        let told = now["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["kind"] == "paused").cloned();
        told.is_some_and(|told| told["severity"] == "warning" && told["since"].is_string())
    });
    assert_eq!(act(&proxy, "resume"), (200, json!({"action": "resume", "database": null})));
    assert_eq!(resting.reply().value(), "1");
    assert_eq!(act(&proxy, "databases/postgres/disable").0, 200);
    assert!(
        RawClient::try_login(proxy.address(), &[("user", "postgres"), ("database", "postgres")], "").is_err(),
        "no new clients"
    );
    assert_eq!(resting.query("select 2").value(), "2");
    assert_eq!(act(&proxy, "databases/postgres/enable").0, 200);
    client(&proxy).query("select 3").ok();
    for (path, status) in
        [("databases/nowhere/pause", 404), ("databases/nowhere/enable", 404), ("clients/99999/kill", 404)]
    {
        assert_eq!(act(&proxy, path).0, status, "{path}");
    }
    let log = proxy.log();
    assert!(log.contains("command carried out") && log.contains("disable"), "{log}");
}

#[test]
fn a_cancel_ends_the_statement_and_keeps_both_connections() {
    let proxy = ProxyProcess::with_config(&config(""));
    let mut running = client(&proxy);
    running.start_query("select pg_sleep(60) /* cancelled by an operator */");
    let mut ids = Vec::new();
    eventually("it runs", || {
        ids = clients(&proxy, "active");
        ids.len() == 1
    });
    let upstreams = || ask(&proxy, "upstreams")["upstreams"].as_array().unwrap().clone();
    let its = upstreams().iter().find(|one| one["client"] == ids[0]).expect("it holds one")["backend_pid"].clone();
    let (status, answer) = act(&proxy, &format!("clients/{}/cancel", ids[0]));
    assert_eq!((status, &answer["cancelled"], &answer["complete"]), (200, &json!(true), &json!(true)), "{answer}");
    assert_eq!(running.reply().error().code(), "57014");
    assert_eq!(running.query("select 'goes on'").value(), "goes on");
    eventually("the server connection is used again", || {
        upstreams().iter().any(|one| one["backend_pid"] == its && one["state"] == "idle")
    });
    let (status, answer) = act(&proxy, &format!("clients/{}/cancel", ids[0]));
    assert_eq!(status, 409, "it runs nothing any more: {answer}");
    let one = ask(&proxy, &format!("clients/{}", ids[0]));
    assert_eq!((&one["state"], one["statement"].as_str().map(str::len)), (&json!("idle"), Some(16)), "{one}");
}

#[test]
fn a_client_is_killed_and_the_proxy_drained() {
    let mut proxy = ProxyProcess::with_config(&config(""));
    let (mut victim, mut other) = (client(&proxy), client(&proxy));
    victim.query("begin").ok();
    let ids = clients(&proxy, "in_transaction");
    assert_eq!(act(&proxy, &format!("clients/{}/kill", ids[0])), (200, json!({"client": ids[0], "killed": true})));
    assert_eq!(victim.read_to_end().error().code(), "57P01");
    other.query("begin").ok();
    let (status, answer) = act(&proxy, "drain");
    assert_eq!((status, answer), (202, json!({"draining": true})));
    eventually("it is not ready any more", || http::fetch(proxy.admin(), "/readyz").status == 503);
    assert_eq!(act(&proxy, "drain").0, 409);
    other.query("select 'at work'").ok();
    other.query("commit").ok();
    let status = proxy.child.wait_for(Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", proxy.log());
}

/// A stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event of this kind for which this holds.
    fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut lines = self.0.by_ref().lines().map(|line| line.expect("the stream goes on"));
        loop {
            let event = lines.find_map(|line| line.strip_prefix("event: ").map(str::to_owned)).expect("an event");
            let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("its data");
            let data: Value = serde_json::from_str(&data).unwrap();
            if event == kind && wanted(&data) {
                return data;
            }
        }
    }
}

#[test]
fn who_waits_is_told_as_it_happens_and_for_whom() {
    let proxy = ProxyProcess::with_config(&config(""));
    let mut holders = [client(&proxy), client(&proxy)];
    let mut events = Events::of(proxy.admin());
    let tick = events.wait_for("tick", |_| true);
    assert!(tick["statements_per_second"].is_number(), "{tick}");
    for holder in &mut holders {
        holder.query("begin").ok();
        holder.query("select 'held up by me'").ok();
    }
    let mut waits = client(&proxy);
    waits.start_query("select 1");
    let told = events.wait_for("pool", |event| event["change"] == "waiting");
    assert_eq!((&told["database"], &told["waiting"]), (&json!("postgres"), &json!(1)));
    let now = ask(&proxy, "blocking");
    let queue = &now["pools"][0];
    assert_eq!(
        (queue["waiters"].as_array().unwrap().len(), queue["holders"].as_array().unwrap().len()),
        (1, 2),
        "{now:#}"
    );
    let fingerprint = queue["holders"][0]["fingerprint"].as_str().unwrap().to_owned();
    let statement = ask(&proxy, &format!("queries/{fingerprint}"));
    assert_eq!(statement["text"], "select ?", "{statement:#}");
    let verdicts = ask(&proxy, "overview")["verdicts"].clone();
    assert!(verdicts.as_array().unwrap().iter().any(|verdict| verdict["kind"] == "pool_exhausted"), "{verdicts:#}");
    for holder in &mut holders {
        holder.query("commit").ok();
    }
    assert_eq!(waits.reply().value(), "1");
    events.wait_for("pool", |event| event["change"] == "served");
}

#[test]
fn statements_are_found_by_who_was_seen_to_run_them() {
    let proxy = ProxyProcess::with_config(&config(""));
    let mut web = RawClient::login_with(
        proxy.address(),
        &[("user", "postgres"), ("database", "postgres"), ("application_name", "web")],
        "",
    );
    web.query("select 'of the web'").ok();
    client(&proxy).query("select 'of nobody', 2").ok();
    let texts = |query: &str| -> Vec<String> {
        let page = ask(&proxy, &format!("queries?{query}"));
        page["queries"].as_array().unwrap().iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the analyst has heard of both", || texts("database=postgres&class=select").len() == 2);
    assert_eq!(texts("application=web"), ["select ?"]);
    assert_eq!(texts("text=SELECT%20%3F%2C"), ["select ?, ?"]);
}

#[test]
fn each_key_says_truly_who_says_it() {
    let folder = Scratch::new();
    std::fs::create_dir_all(folder.path().join("tenants.d")).unwrap();
    folder.file("tenants.d/acme.toml", "# acme\nmax_rows = 7\n");
    let text = "workers = 1\n[pool]\nsize = 3\n[auth]\nmethod = 'trust'\n[tenant]\ndirectory = 'tenants.d'\n\
                [databases.a]\nupstream = 'postgres://${PGHOST_OF_A}:1/a'\n";
    let file = folder.file("pgweir.toml", text);
    let [listen, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let file = file.to_str().unwrap();
    let arguments = ["serve", "--config", file, "--listen", &listen, "--admin", &admin, "--pool-mode", "session"];
    let log = OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = pgweir(&arguments);
    command
        .env("PGWEIR_LOG_FORMAT", "json")
        .env("PGHOST_OF_A", "127.0.0.1")
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let _child = Child::spawn(&mut command);
    let admin: SocketAddr = admin.parse().unwrap();
    eventually("it serves", || http::request(admin, "/readyz", &[]).is_ok());
    let keys = http::fetch(admin, "/api/v1/config").json()["keys"].clone();
    let from = |name: &str| {
        let key = keys.as_array().unwrap().iter().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name}"));
        key["from"].clone()
    };
    assert_eq!(from("workers"), json!({"kind": "file", "file": file, "line": 1}));
    assert_eq!(from("listen"), json!({"kind": "command_line", "name": "--listen"}));
    assert_eq!(from("log.format"), json!({"kind": "environment", "name": "PGWEIR_LOG_FORMAT"}));
    assert_eq!(from("databases.a.size"), json!({"kind": "file", "file": file, "line": 3, "key": "pool.size"}));
    assert_eq!(from("max_clients"), json!({"kind": "default"}));
    let upstream = json!({"kind": "file", "file": file, "line": 9, "variables": ["PGHOST_OF_A"]});
    assert_eq!(from("databases.a.upstream"), upstream);
    let tenant = from("tenant.limits.acme.max_rows");
    assert_eq!((&tenant["kind"], &tenant["line"]), (&json!("file"), &json!(2)));
    assert!(tenant["file"].as_str().unwrap().ends_with("tenants.d/acme.toml"), "{tenant}");
}
