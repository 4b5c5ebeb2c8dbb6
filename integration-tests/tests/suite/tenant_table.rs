//! Tenants from a table in a database: followed while clients are connected, whatever becomes of the table.

use std::process::Stdio;
use std::time::Duration;

use integration_tests::cluster::Stop;
use integration_tests::patience::PATIENCE;
use integration_tests::process::pgweir;
use integration_tests::{Cluster, ProxyProcess, RawClient, Scratch, eventually, http, within};
use serde_json::{Value, json};

const TABLE: &str = "create schema pgweir; create table pgweir.tenants (tenant text, limits jsonb);";

/// Clients use the shared server; `meta` is where the table is.
fn config(meta: &str, more: &str) -> String {
    format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
         [databases.app]\nupstream = 'postgres://postgres@{}/postgres'\nsize = 2\n\
         [databases.meta]\nupstream = '{meta}'\n\
         [[tenant.rule]]\nfrom = 'application_name'\n[tenant.default]\nmax_rows = 1000\n\
         [tenant.table]\ndatabase = 'meta'\ninterval = '100ms'\n{more}",
        Cluster::shared().address()
    )
}

fn url(cluster: &Cluster, database: &str) -> String {
    format!("postgres://postgres@{}/{database}", cluster.address())
}

fn client(proxy: &ProxyProcess, tenant: &str) -> RawClient {
    let parameters = [("user", "postgres"), ("database", "app"), ("application_name", tenant)];
    RawClient::login_with(proxy.address(), &parameters, "")
}

/// Whether its limit on rows is less than ten.
fn is_limited(client: &mut RawClient) -> bool {
    let reply = client.query("select * from generate_series(1, 10)");
    assert!(reply.errors().iter().all(|error| error.code() == "53400"), "{reply:?}");
    !reply.errors().is_empty()
}

fn settings(proxy: &ProxyProcess) -> Value {
    http::fetch(proxy.admin(), "/api/v1/config").json()
}

fn standing(proxy: &ProxyProcess) -> Value {
    settings(proxy)["tenant_table"].clone()
}

fn times(proxy: &ProxyProcess, words: &str) -> usize {
    proxy.log().matches(words).count()
}

#[test]
fn limits_follow_the_rows_of_a_table_while_clients_are_connected() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let run = |sql: &str| drop(cluster.run(&database, sql));
    run(TABLE);
    run("insert into pgweir.tenants values ('acme', '{\"max_rows\": 5}')");
    let proxy = ProxyProcess::with_config(&config(&url(cluster, &database), ""));
    let (mut acme, mut globex) = (client(&proxy, "acme"), client(&proxy, "globex"));
    eventually("a row holds", || is_limited(&mut acme));
    assert!(!is_limited(&mut globex));
    let key = |name: &str| {
        let page = http::fetch(proxy.admin(), &format!("/api/v1/config?key={name}")).json();
        page["keys"].as_array().unwrap().iter().find(|key| key["key"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(key("tenant.limits.acme.max_rows")["from"], json!({"kind": "table", "name": "meta"}));

    // In the middle of a transaction too, and a new tenant as well as one that has other limits.
    acme.query("begin").ok();
    run(
        "update pgweir.tenants set limits = '{\"max_rows\": 20}'; insert into pgweir.tenants values ('globex', '{\"max_rows\": 3}')",
    );
    eventually("another row holds", || is_limited(&mut globex));
    assert!(!is_limited(&mut acme), "all of them at once");
    acme.query("commit").ok();
    eventually("the log tells what has changed", || {
        proxy.log().lines().any(|line| line.contains("setting changed") && line.contains("tenant.limits.acme.max_rows"))
    });

    // A row that is wrong keeps what there was, and hinders nobody else.
    run("update pgweir.tenants set limits = '{\"max_row\": 9}' where tenant = 'globex'; \
         update pgweir.tenants set limits = '{\"max_rows\": 5}' where tenant = 'acme'; \
         insert into pgweir.tenants values ('hooli', '{\"max_rows\": \"many\"}'), (null, '{}')");
    eventually("the others hold", || is_limited(&mut acme));
    assert!(is_limited(&mut globex), "as before");
    let told = standing(&proxy);
    assert_eq!(
        (&told["database"], &told["tenants"], &told["wrong_rows"]),
        (&json!("meta"), &json!(2), &json!(3)),
        "{told}"
    );
    assert!(told["wrong"].to_string().contains("did you mean max_rows?"), "{told}");
    assert!(http::fetch(proxy.admin(), "/metrics").body.contains("pgweir_tenant_table_wrong_rows 3"));
    let page = http::fetch(proxy.admin(), "/config").body;
    assert!(page.contains("the table of tenants in") && page.contains("did you mean max_rows?"), "{page}");
    let overview = http::fetch(proxy.admin(), "/api/v1/overview").json();
    assert!(overview["verdicts"].to_string().contains("\"tenant_table\""), "{overview:#}");
    // Once, although other rows change.
    run("update pgweir.tenants set limits = '{\"max_rows\": 30}' where tenant = 'acme'");
    eventually("they hold again", || !is_limited(&mut acme));
    eventually("it is logged", || times(&proxy, "is wrong: its tenant keeps") == 3);

    // What the configuration says itself counts, also where a reload says it for the first time.
    proxy.rewrite(&config(&url(cluster, &database), "[tenant.limits.acme]\nmax_rows = 2\n"));
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/reload", "").status, 200);
    eventually("it counts", || is_limited(&mut acme));
    assert!(is_limited(&mut globex), "a reload leaves the rows in force");
    eventually("and the row is told", || {
        standing(&proxy)["wrong"].to_string().contains("stands in the configuration too")
    });
    assert_eq!(key("tenant.limits.acme.max_rows")["from"]["kind"], "file");

    // Whoever pauses the database wants nobody there.
    let act = |what: &str| http::change(proxy.admin(), "POST", &format!("/api/v1/databases/meta/{what}"), "").status;
    assert_eq!(act("pause"), 200);
    eventually("nobody asks", || cluster.backends(&database) == 0);
    assert!(is_limited(&mut globex));
    assert_eq!(act("resume"), 200);
    run("delete from pgweir.tenants");
    eventually("what is gone holds no more", || !is_limited(&mut globex));
    run("insert into pgweir.tenants values ('globex', '{\"max_rows\": 3}')");
    eventually("it is there again", || is_limited(&mut globex));
    proxy.rewrite(
        &config(&url(cluster, &database), "").replace("[tenant.table]\ndatabase = 'meta'\ninterval = '100ms'\n", ""),
    );
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/reload", "").status, 200);
    eventually("without a table there are no rows", || !is_limited(&mut globex));
    assert!(standing(&proxy).is_null());
    assert_eq!(cluster.backends(&database), 0, "and nobody asks");
}

#[test]
fn a_table_that_cannot_be_read_leaves_what_was_known_and_hinders_nobody() {
    let meta = Cluster::builder().start();
    meta.run("postgres", TABLE);
    meta.run("postgres", "insert into pgweir.tenants values ('acme', '{\"max_rows\": 5}')");
    let text = config(&url(&meta, "postgres"), "");
    meta.stop(Stop::Fast);
    // At the start: clients are served, with what the configuration says.
    let mut proxy = ProxyProcess::with_config(&text);
    let mut acme = client(&proxy, "acme");
    assert!(!is_limited(&mut acme));
    eventually("it is said", || times(&proxy, "the table of tenants cannot be read") == 1);
    assert!(standing(&proxy)["last_read"].is_null() && standing(&proxy)["trouble"].is_string(), "{}", standing(&proxy));
    assert!(http::fetch(proxy.admin(), "/metrics").body.contains("pgweir_tenant_table_readable 0"));
    meta.start();
    eventually("its rows hold when it is there", || is_limited(&mut acme));

    meta.stop(Stop::Fast);
    eventually("the loss is noticed", || standing(&proxy)["trouble"].is_string());
    assert!(is_limited(&mut acme), "what was known holds");
    let mut late = client(&proxy, "acme");
    assert!(is_limited(&mut late), "for those who come later too");
    // A reload has nothing to do with it.
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/reload", "").status, 200);
    assert!(is_limited(&mut acme));
    // Time for many more tries: each would be a line.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(times(&proxy, "the table of tenants cannot be read"), 2, "told once each time: {}", proxy.log());
    meta.start();
    meta.run("postgres", "update pgweir.tenants set limits = '{\"max_rows\": 50}'");
    eventually("what it says now holds", || !is_limited(&mut acme));
    eventually("it is well", || standing(&proxy)["trouble"].is_null());

    // A table that is taken away is no empty table.
    meta.run("postgres", "update pgweir.tenants set limits = '{\"max_rows\": 5}'");
    let holds = within(PATIENCE, || is_limited(&mut acme));
    assert!(holds, "{} {}", standing(&proxy), proxy.log());
    meta.run("postgres", "drop table pgweir.tenants");
    eventually("it is missed", || standing(&proxy)["trouble"].to_string().contains("does not exist"));
    assert!(is_limited(&mut acme));
    proxy.stop();
}

#[test]
fn thousands_of_rows_are_read_when_one_of_them_has_changed() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let run = |sql: &str| drop(cluster.run(&database, sql));
    run("create schema pgweir; create table pgweir.tenants (tenant text primary key, limits text)");
    run(
        "insert into pgweir.tenants select 't' || n, E'max_rows = 100\\nstatement_timeout = ''30s''' from generate_series(1, 5000) n",
    );
    let proxy = ProxyProcess::with_config(&config(&url(cluster, &database), ""));
    let mut one = client(&proxy, "t4321");
    eventually("they are read", || standing(&proxy)["tenants"] == 5000);
    assert!(!is_limited(&mut one));
    run("update pgweir.tenants set limits = 'max_rows = 3' where tenant = 't4321'");
    eventually("the one that has changed holds", || is_limited(&mut one));
    eventually("and no other is told", || {
        let reads = proxy
            .log()
            .lines()
            .filter(|line| line.contains("the table of tenants has been read"))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        reads.len() == 2 && reads[1].contains("changes=2")
    });
    // As many rows as there may not be change nothing.
    run("insert into pgweir.tenants select 'u' || n, '' from generate_series(1, 100000) n");
    eventually("it is too large", || standing(&proxy)["trouble"].to_string().contains("no more than 100000"));
    assert!(is_limited(&mut one));
    run(
        "delete from pgweir.tenants where tenant like 'u%'; update pgweir.tenants set limits = repeat('#', 70000) where tenant = 't1'",
    );
    eventually("a row that is too long is told", || standing(&proxy)["wrong"].to_string().contains("64 KiB"));
    assert!(is_limited(&mut one) && standing(&proxy)["tenants"] == 5000, "{}", standing(&proxy));
}

#[test]
fn commands_ask_the_table_where_they_may_connect() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, TABLE);
    cluster.run(
        &database,
        "insert into pgweir.tenants values ('acme', '{\"read_only\": true}'), ('bad', '{\"max_row\": 1}')",
    );
    let folder = Scratch::new();
    let text = config(&url(cluster, &database), "query = 'select tenant, limits, 1 from pgweir.tenants -- all; '\n");
    let file = folder.file("pgweir.toml", &text.replace("{listen}", "127.0.0.1:1").replace("{admin}", "127.0.0.1:2"));
    let said = |arguments: &[&str]| {
        let output =
            pgweir(&[arguments, &["--config", file.to_str().unwrap()]].concat()).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, printed, _) = said(&["check", "--connect"]);
    assert!(
        printed.contains("limits of 1 tenants, and 1 wrong rows") && printed.contains("bad: max_row: "),
        "{printed}"
    );
    assert_eq!(code, Some(1));
    let explain = ["explain-policy", "--user", "postgres", "--application", "acme"];
    let (code, printed, note) = said(&explain);
    assert!(code == Some(0) && !printed.contains("read_only") && note.contains("--connect"), "{printed}{note}");
    let (code, printed, note) = said(&[&explain[..], &["--connect"]].concat());
    assert!(code == Some(0) && printed.contains("[tenant.limits.acme]"), "{printed}{note}");
    assert_eq!(note.lines().count(), 1, "{note}");
    assert!(note.contains("a row of the table of tenants is wrong and left out: bad: max_row: "), "{note}");
    cluster.run(&database, "drop table pgweir.tenants");
    let (code, _, complaint) = said(&[&explain[..], &["--connect"]].concat());
    assert!(code == Some(1) && complaint.contains("does not exist"), "{complaint}");
}

#[test]
fn its_connection_ends_with_those_of_its_database() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, TABLE);
    cluster.run(&database, "insert into pgweir.tenants values ('acme', '{\"max_rows\": 5}')");
    // It looks but once by itself.
    let text = config(&url(cluster, &database), "").replace("interval = '100ms'", "interval = '1h'");
    let proxy = ProxyProcess::with_config(&text);
    let mut acme = client(&proxy, "acme");
    eventually("a row holds", || is_limited(&mut acme));
    let process = || {
        let sql = format!("select coalesce(max(pid), 0) from pg_stat_activity where datname = '{database}'");
        cluster.value("postgres", &sql)
    };
    let is_open = || {
        let metrics = http::fetch(proxy.admin(), "/metrics").body;
        metrics.contains("pgweir_side_connections{kind=\"tenant_table\"} 1")
    };
    let act = |what: &str| http::change(proxy.admin(), "POST", &format!("/api/v1/databases/meta/{what}"), "").status;
    assert!(is_open());
    for (ends, begins) in [("pause", "resume"), ("disable", "enable")] {
        assert_eq!(act(ends), 200);
        assert!(!is_open(), "{ends} has ended when it is closed");
        eventually("its server sees that", || cluster.backends(&database) == 0);
        cluster.run("postgres", &format!("alter database {database} set work_mem = '4MB'")).ok();
        assert!(is_limited(&mut acme));
        assert_eq!(act(begins), 200);
        eventually("it comes back", || cluster.backends(&database) == 1);
    }
    let before = process();
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/databases/app/reconnect", "").status, 200);
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/databases/app/pause", "").status, 200);
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/databases/app/resume", "").status, 200);
    assert_eq!(process(), before, "another database is another matter");
    assert_eq!(act("reconnect"), 200);
    eventually("another connection takes its place", || !["0", &before].contains(&process().as_str()));

    let other = cluster.fresh_database();
    cluster.run(&other, TABLE);
    cluster.run(&other, "insert into pgweir.tenants values ('acme', '{\"max_rows\": 50}')");
    proxy.rewrite(&text.replace(&url(cluster, &database), &url(cluster, &other)));
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/reload", "").status, 200);
    eventually("what the other server says holds", || !is_limited(&mut acme));
    assert_eq!(cluster.backends(&database), 0);
}

#[test]
fn a_look_that_gets_no_answer_keeps_nobody_waiting() {
    // Whoever connects is accepted by the system, and hears nothing.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, TABLE);
    cluster.run(&database, "insert into pgweir.tenants values ('acme', '{\"max_rows\": 5}')");
    let silent = format!("postgres://postgres@{}/x?sslmode=disable", deaf.local_addr().unwrap());
    let proxy = ProxyProcess::with_config(&config(&silent, "[pool]\nconnect_timeout = '1h'\n"));
    deaf.accept().map(drop).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/databases/meta/pause", "").status, 200);
    proxy.rewrite(&config(&url(cluster, &database), ""));
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/databases/meta/resume", "").status, 200);
    assert_eq!(http::change(proxy.admin(), "POST", "/api/v1/reload", "").status, 200);
    let mut acme = client(&proxy, "acme");
    eventually("the new place is asked", || is_limited(&mut acme));
    assert!(begun.elapsed() < Duration::from_secs(10), "a look may take 15 s");
}
