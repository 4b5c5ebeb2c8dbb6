//! What servers call statements, beside their fingerprints.

use std::time::Duration;

use integration_tests::cluster::Builder;
use integration_tests::process::ProxyProcess;
use integration_tests::{Cluster, Proxy, RawClient, eventually, http};
use serde_json::{Value, json};

const EXTENSION: &str = "pg_stat_statements";

/// A server that counts statements, if it can.
fn counting(builder: Builder) -> Option<Cluster> {
    let offered = builder.clone().start().offers(EXTENSION);
    if !offered {
        println!("skipped: this PostgreSQL has no {EXTENSION}; it comes with postgresql-contrib");
    }
    offered.then(|| builder.setting("shared_preload_libraries", EXTENSION).start())
}

fn row(proxy: &Proxy, text: &str) -> Value {
    let queries = http::fetch(proxy.admin(), "/api/v1/queries?limit=1000").json()["queries"].clone();
    let found = queries.as_array().unwrap().iter().find(|row| row["text"] == text);
    found.unwrap_or_else(|| panic!("no {text} in {queries:#}")).clone()
}

fn statements_have_their_servers_ids(builder: Builder) {
    let Some(cluster) = counting(builder) else { return };
    let version = cluster.value("postgres", "select current_setting('server_version_num')::int / 10000");
    // In a schema that no search path leads to.
    cluster.run("postgres", "create schema \"Odd one\"").ok();
    cluster.run("postgres", "create extension pg_stat_statements schema \"Odd one\"").ok();
    cluster.run("postgres", "create table t (a int, b text)").ok();
    let proxy = Proxy::before(cluster.address()).size(1).with(|settings| {
        settings.observe.pg_stat_statements = true;
        settings.observe.compat = version.parse().unwrap();
    });
    let proxy = proxy.start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.query("select b from t where a = 17 and b = 'geheim'").ok();
    client.query("select a from t where a in (1, 2, 3)").ok();
    client.query("insert into t values (1, 'x')").ok();
    client.parse("", "select a, b from t where a < $1 and b > 'x'").bind("", &["17"]).execute().sync().reply().ok();
    let id = |like: &str| {
        let ids = format!("select queryid from \"Odd one\".pg_stat_statements where query like '{like}'");
        cluster.value("postgres", &ids)
    };
    let list =
        if version == "18" { "select a from t where a in (...)" } else { "select a from t where a in (?, ?, ?)" };
    for (text, like) in [
        ("select b from t where a = ? and b = ?", "select b from t%"),
        (list, "select a from t%"),
        ("insert into t values (?, ?)", "insert into t values%"),
        ("select a, b from t where a < $1 and b > ?", "select a, b from t%"),
    ] {
        eventually("its id is known", || row(&proxy, text).get("query_id").is_some());
        let row = row(&proxy, text);
        assert_eq!(row["query_id"], json!([id(like)]), "{text}: {row:#}");
        let path = format!("/api/v1/queries/{}/history", row["fingerprint"].as_str().unwrap());
        assert_eq!(http::fetch(proxy.admin(), &path).json()["query_id"], row["query_id"]);
    }
    let metrics = http::fetch(proxy.admin(), "/metrics").body;
    let none = "pgweir_side_connections{kind=\"pg_stat_statements\"} 0";
    assert!(metrics.lines().any(|line| line == none), "its connection has gone: {metrics}");
}

#[test]
fn a_statement_has_the_id_that_its_server_counts_it_by() {
    statements_have_their_servers_ids(Cluster::builder());
}

#[test]
fn the_newest_server_s_ids_are_known_too() {
    if Cluster::has_version(18) {
        statements_have_their_servers_ids(Cluster::builder().version(18));
    } else {
        println!("skipped: there is no PostgreSQL 18 here; `.ci/setup test` brings one where there is one to bring");
    }
}

#[test]
fn a_database_without_the_extension_is_named_once_and_nothing_else_happens() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let proxy = ProxyProcess::with_config(&format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n[databases.'*']\nupstream = 'postgres://{}'\n\
         [observe]\npg_stat_statements = true\n",
        cluster.address()
    ));
    let mut client = RawClient::login(proxy.address(), "postgres", &database);
    client.query("select 1 from pg_class").ok();
    let lines = || proxy.log().lines().filter(|line| line.contains("pg_stat_statements cannot be read")).count();
    eventually("it is named", || lines() == 1);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(lines(), 1, "{}", proxy.log());
    assert!(proxy.log().contains("CREATE EXTENSION pg_stat_statements"), "{}", proxy.log());
    let queries = http::fetch(proxy.admin(), "/api/v1/queries").json();
    let rows = queries["queries"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.get("query_id").is_none()), "{queries:#}");
    assert_eq!(client.query("select 2").value(), "2");
}
