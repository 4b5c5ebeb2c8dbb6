//! Texts that clients prepare again and again without a name, parsed once on each server (`pool.share_anonymous`).

use config::PoolMode::Transaction;
use integration_tests::{RawClient, Reply, Site, frontend, http};

fn site() -> Site {
    Site::behind(Transaction, |proxy| proxy.size(1).pool(|pool| pool.share_anonymous = true))
}

/// Parse, Describe, Bind, Describe, Execute, Sync.
fn run(client: &mut RawClient, sql: &str, parameters: &[&str]) -> Reply {
    client.parse("", sql).say(frontend::describe(b'S', ""));
    client.bind("", parameters).say(frontend::describe(b'P', "")).execute().sync().reply()
}

fn count(site: &Site, outcome: &str) -> u64 {
    let metrics = http::fetch(site.admin(), "/metrics").body;
    let label = format!("outcome=\"{outcome}\"");
    let line = metrics.lines().find(|line| line.starts_with("pgweir_pool_prepared") && line.contains(&label));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a counter of prepared statements")
}

#[test]
fn a_text_without_a_name_is_parsed_once_for_all_clients() {
    let site = site();
    let (mut first, mut second) = (site.client(), site.client());
    // It comes to be known by its second sighting, and is parsed once more under a name of ours.
    for _ in 0..3 {
        run(&mut first, "select $1::int + 1", &["1"]).ok();
    }
    let before = count(&site, "hit");
    for client in [&mut first, &mut second] {
        let reply = run(client, "select $1::int + 1", &["41"]).ok();
        assert_eq!((reply.shape().as_str(), reply.value().as_str()), ("1tT2TDCZ", "42"));
    }
    assert!(count(&site, "hit") >= before + 2, "{} of {before}", count(&site, "hit"));
}

#[test]
fn every_conversation_is_the_one_of_a_direct_connection() {
    for site in [Site::direct(), site()] {
        let (mut client, mut other) = (site.client(), site.client());
        let rows = "select n from generate_series(1, $1::int) n";
        for round in 0..4 {
            let place = format!("round {round} at {}", site.name());
            run(&mut other, rows, &["1"]).ok();
            // Suspended, gone on with, and gone with the transaction.
            client.query("begin").ok();
            client.parse("", rows).bind("", &["3"]).say(frontend::execute("", 2)).sync();
            assert_eq!(client.reply().ok().shape(), "12DDsZ", "{place}");
            assert_eq!(client.say(frontend::execute("", 0)).sync().reply().ok().shape(), "DCZ", "{place}");
            client.query("commit").ok();
            // A simple query takes the unnamed statement away.
            assert_eq!(client.bind("", &["3"]).execute().sync().reply().error().code(), "26000", "{place}");
            // It stays across transactions and other people's statements.
            client.parse("", rows).sync().reply().ok();
            run(&mut other, rows, &["1"]).ok();
            assert_eq!(client.bind("", &["2"]).execute().sync().reply().ok().shape(), "2DDCZ", "{place}");
            client.say(frontend::close(b'S', "")).sync().reply().ok();
            assert_eq!(client.bind("", &["2"]).execute().sync().reply().error().code(), "26000", "{place}");
            // Errors, at their places.
            let wrong = client.parse("", rows).bind("", &["x"]).execute().sync().reply();
            assert_eq!((wrong.shape().as_str(), wrong.error().code()), ("1EZ", "22P02"), "{place}");
            let missing = run(&mut client, "select n from nowhere", &[]);
            assert_eq!((missing.shape().as_str(), missing.error().code()), ("EZ", "42P01"), "{place}");
            assert_eq!(client.bind("", &[]).execute().sync().reply().error().code(), "26000", "{place}");
            client.query("begin").ok();
            client.query("select 1/0").error();
            let failed = client.parse("", rows).bind("", &["1"]).execute().sync().reply();
            assert_eq!((failed.shape().as_str(), failed.error().code()), ("EZ", "25P02"), "{place}");
            client.query("rollback").ok();
            // A pipeline in which one replaces the other.
            client.parse("", rows).bind("", &["1"]).execute().parse("", "select $1::text").bind("", &["b"]).execute();
            assert_eq!(client.sync().reply().ok().rows(), [["1"], ["b"]], "{place}");
            // Names are the client's own.
            let none = client.query("select count(*) from pg_prepared_statements");
            assert_eq!(none.ok().value(), "0", "{place}");
        }
    }
}

#[test]
fn behind_an_error_the_statement_is_the_last_one_that_the_server_has_taken() {
    let site = site();
    let mut client = site.client();
    for round in 0..4 {
        assert_eq!(run(&mut client, "select 22", &[]).ok().value(), "22");
        // The second Parse is skipped, though the server holds its text, and the next request is sent before that is known.
        client.parse("", "select 11").bind("nobody", &[]).parse("", "select 22").sync();
        client.bind("", &[]).execute().sync();
        assert_eq!(client.reply().error().code(), "26000", "round {round}");
        assert_eq!(client.reply().ok().value(), "11", "round {round}");
    }
}

#[test]
fn what_the_server_reads_while_it_parses_is_parsed_anew() {
    let site = site();
    let mut client = site.client();
    for zone in ["UTC", "Asia/Tokyo", "UTC", "Asia/Tokyo"] {
        client.query(format!("set timezone = '{zone}'")).ok();
        let reply =
            client.parse("", "select extract(epoch from '2000-01-01'::timestamptz)::int").bind("", &[]).execute();
        let expected = if zone == "UTC" { "946684800" } else { "946652400" };
        assert_eq!(reply.sync().reply().ok().value(), expected, "{zone}");
    }
}

#[test]
fn a_shared_text_follows_each_clients_search_path() {
    let site = site();
    site.run_directly(
        "create schema a; create schema b; create table a.t as select 'a' v; create table b.t as select 'b' v",
    )
    .ok();
    let (mut a, mut b) = (site.client(), site.client());
    a.query("set search_path = a").ok();
    b.query("set search_path = b").ok();
    for _ in 0..4 {
        assert_eq!(run(&mut a, "select v from t", &[]).ok().value(), "a");
        assert_eq!(run(&mut b, "select v from t", &[]).ok().value(), "b");
    }
}
