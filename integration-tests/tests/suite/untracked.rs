//! What cannot be carried to another connection: kept, reset or refused, each in sight, and given back when it is gone.

use std::time::Duration;

use config::PoolMode::Transaction;
use config::{LimitKey, LimitValue, Limits, ListenWay, OnUntracked, Origin, SessionState, TenantRule, Untracked};
use integration_tests::{RawClient, Site, http};
use serde_json::Value;

const PID: &str = "select pg_backend_pid()";

/// One server; whoever waits for it gives up soon.
fn site(untracked: Untracked) -> Site {
    Site::behind(Transaction, |proxy| {
        proxy.size(1).pool(|pool| {
            pool.untracked = untracked;
            pool.listen.way = ListenWay::Pin;
            pool.queue_timeout = Duration::from_millis(800);
        })
    })
}

/// Statements that leave each kind of state, and what takes it away again.
const KINDS: [(SessionState, &str, &[&str]); 6] = [
    (SessionState::Listen, "listen news", &["unlisten news", "unlisten *"]),
    (SessionState::TemporaryObject, "create temp table mine (n int)", &["drop table mine", "discard temp"]),
    (
        SessionState::AdvisoryLock,
        "select pg_advisory_lock(7)",
        &["select pg_advisory_unlock(7)", "select pg_advisory_unlock_all()"],
    ),
    (SessionState::HeldCursor, "declare c cursor with hold for select 1", &["close c", "close all"]),
    (SessionState::SqlPrepare, "prepare plan as select 1", &["deallocate plan", "deallocate all"]),
    (SessionState::HiddenSetting, "select set_config('app.x', n::text, false) from generate_series(1, 2) n", &[]),
];

#[test]
fn a_kept_connection_is_given_back_when_what_it_was_kept_for_is_gone() {
    let site = site(Untracked::default());
    let (mut client, mut other) = (site.client(), site.client());
    for (state, takes, gives) in KINDS {
        for gives in gives.iter().chain(&["discard all"]) {
            client.query(takes).ok();
            assert_eq!(other.query("select 1").error().code(), "53300", "{takes}: {state:?}");
            client.query(gives).ok();
            assert_eq!(other.query("select 1").value(), "1", "{takes}; {gives}");
        }
    }
}

#[test]
fn a_rolled_back_reason_is_none() {
    let site = site(Untracked::default());
    let (mut client, mut other) = (site.client(), site.client());
    for takes in ["create temp table mine (n int)", "listen news", "declare c cursor with hold for select 1"] {
        client.query("begin").ok();
        client.query(takes).ok();
        client.query("rollback").ok();
        assert_eq!(other.query("select 1").value(), "1", "{takes}");
    }
    // A session's lock outlives the rollback, and so does the connection.
    for sql in ["begin", "select pg_advisory_lock(7)", "rollback"] {
        client.query(sql).ok();
    }
    assert_eq!(other.query("select 1").error().code(), "53300");
}

#[test]
fn a_connection_is_kept_until_the_last_reason_is_gone() {
    let site = site(Untracked::default());
    let (mut client, mut other) = (site.client(), site.client());
    client.query("listen news; select pg_advisory_lock(1), pg_advisory_lock(2)").ok();
    for (gives, free) in [
        ("unlisten *", false),
        ("select pg_advisory_unlock(1)", false),
        ("begin; select pg_advisory_unlock(2); rollback", true),
    ] {
        client.query(gives).ok();
        let reply = other.query("select 1");
        assert_eq!(reply.errors().is_empty(), free, "{gives}: {reply:?}");
    }
}

#[test]
fn what_a_pipeline_sends_behind_the_question_is_answered() {
    let site = site(Untracked::default());
    let mut client = site.client();
    client.query("create temp table mine (n int)").ok();
    client.parse("", "drop table mine").bind("", &[]).execute().sync();
    client.parse("", "select 'next'").bind("", &[]).execute().sync().send();
    assert_eq!(client.reply().ok().commands(), ["DROP TABLE"]);
    assert_eq!(client.reply().value(), "next");
    client.query("select 'simple'").ok();
    assert_eq!(site.client().query("select 1").value(), "1");
}

#[test]
fn a_reset_in_place_of_a_kept_connection() {
    let site = site(Untracked::all(OnUntracked::Discard));
    let (mut client, mut other) = (site.client(), site.client());
    client.query("create temp table mine (n int)").ok();
    assert_eq!(client.query("select * from mine").error().code(), "42P01");
    client.query("begin; create temp table mine (n int)").ok();
    client.query("select * from mine").ok();
    client.query("commit").ok();
    assert_eq!(other.query("select * from mine").error().code(), "42P01");
    client.query("select pg_advisory_lock(7)").ok();
    assert_eq!(other.query("select pg_try_advisory_lock(7)").value(), "t");
}

#[test]
fn a_refusal_names_what_and_says_what_to_change() {
    let site = site(Untracked::all(OnUntracked::Reject));
    let mut client = site.client();
    let kinds = KINDS.iter().map(|(state, sql, _)| (*state, *sql)).chain([
        (SessionState::Load, "load 'auto_explain'"),
        (SessionState::Block, "do $$ begin end $$"),
        (SessionState::SequenceState, "select lastval()"),
        (SessionState::Seed, "select setseed(0.5)"),
    ]);
    for (state, sql) in kinds {
        let reply = client.query(sql);
        let error = reply.error();
        assert_eq!((error.code(), error.is_whole()), ("0A000", true), "{sql}: {error:?}");
        assert!(error.message().contains(state.words()), "{sql}: {error:?}");
        let key = format!("pool.on_{}", state.label());
        assert!(error.hint().contains(&key), "{sql}: {error:?}");
        let reply = client.parse("", sql).bind("", &[]).execute().sync().reply();
        assert_eq!((reply.error().code(), reply.status()), ("0A000", 'I'), "{sql}");
    }
    // As after any error: the transaction has failed, the connection goes on.
    client.query("begin").ok();
    assert_eq!(client.query("listen news").error().code(), "0A000");
    assert_eq!(client.query("select 1").error().code(), "25P02");
    client.query("rollback").ok();
    assert_eq!(client.query("select 1").value(), "1");
    let pools = http::fetch(site.admin(), "/api/v1/pools").json();
    assert_eq!(pools["pools"][0]["rejects"]["listen"], 3, "{pools}");
}

#[test]
fn a_tenants_answer_wins_over_the_pools() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(2).with(|settings| {
            settings.tenants.rules = vec![TenantRule::by_pattern(Origin::ApplicationName, "web-{tenant}")];
            let limits = Limits::default().with(LimitKey::OnUntracked, LimitValue::OnUntracked(OnUntracked::Reject));
            settings.tenants.limits.insert("acme".to_owned(), limits);
        })
    });
    let mut acme = site.client_with(&[("application_name", "web-acme")]);
    let mut globex = site.client_with(&[("application_name", "web-globex")]);
    assert_eq!(acme.query("create temp table mine (n int)").error().code(), "0A000");
    globex.query("create temp table mine (n int)").ok();
    globex.query("select * from mine").ok();
}

#[test]
fn operators_see_who_and_why() {
    let site = site(Untracked::default());
    let mut client = site.client_with(&[("application_name", "locker")]);
    client.query("select pg_advisory_lock(7)").ok();
    let shown = http::fetch(site.admin(), "/api/v1/clients").json();
    let pinned = &shown["clients"][0];
    assert_eq!(pinned["pinned"], "advisory_lock", "{shown}");
    let queries = http::fetch(site.admin(), "/api/v1/queries").json();
    let fingerprints: Vec<&Value> =
        queries["queries"].as_array().unwrap().iter().map(|query| &query["fingerprint"]).collect();
    assert!(fingerprints.contains(&&pinned["pinned_by"]), "{shown} {queries}");
    client.query("select pg_advisory_unlock(7)").ok();
    client.query("do $$ begin end $$").ok();
    let shown = http::fetch(site.admin(), "/api/v1/untracked").json();
    let rows = shown["untracked"].as_array().unwrap();
    let seen: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["reason"].as_str().unwrap(), row["answer"].as_str().unwrap())).collect();
    assert_eq!(seen, [("block", "discard"), ("advisory_lock", "pin")], "{shown}");
    assert!(rows.iter().all(|row| row["application"] == "locker" && row["count"] == 1), "{shown}");
    let metrics = http::fetch(site.admin(), "/metrics").body;
    for (family, reason) in [("pins_total", "advisory_lock"), ("discards_total", "block")] {
        let line = metrics.lines().find(|line| line.contains(family) && line.contains(reason)).unwrap();
        assert!(line.ends_with(" 1"), "{line}");
    }
    assert!(metrics.lines().any(|line| line.starts_with("pgweir_pool_pins_ended_total") && line.ends_with(" 1")));
}

#[test]
fn another_clients_sequence_value_is_never_told() {
    let site = site(Untracked::default());
    site.run_directly("create sequence s").ok();
    let (mut first, mut second) = (site.client(), site.client());
    for extended in [false, true] {
        first.query("select nextval('s')").ok();
        let recall = |client: &mut RawClient| match extended {
            false => client.query("select lastval()"),
            true => client.parse("", "select lastval()").bind("", &[]).execute().sync().reply(),
        };
        assert_eq!(recall(&mut second).error().code(), "55000", "extended: {extended}");
        // From here on it has a connection of its own, and what it draws is what it is told.
        let drawn = second.query("select nextval('s')").value();
        assert_eq!(recall(&mut second).value(), drawn);
        second.query("discard all").ok();
    }
    // Within one transaction or one text nothing has to be kept.
    assert_eq!(first.query("select nextval('s'); select lastval()").rows().len(), 2);
    first.query("discard all").ok();
    for sql in ["begin", "select nextval('s')", "select lastval()", "commit"] {
        first.query(sql).ok();
    }
    assert_eq!(second.query("select 1").value(), "1");
}

#[test]
fn nobody_gets_random_numbers_that_another_has_seeded() {
    let site = site(Untracked::default());
    let mut first = site.client();
    for seeds in ["select setseed(0.5)", "set seed to 0.5", "load 'auto_explain'"] {
        first.query(seeds).ok();
        let pid = first.query(PID).value();
        first.query("discard all").ok();
        assert_ne!(first.query(PID).value(), pid, "{seeds}");
    }
}

#[test]
fn anything_in_the_temporary_schema_keeps_its_client() {
    let site = Site::pooled(Transaction, 2);
    let mut client = site.client();
    client.query("create table base (a int, b int)").ok();
    for (object, create) in [
        ("statistics pg_temp.s", "create statistics pg_temp.s on a, b from base"),
        (
            "operator pg_temp.===(int, int)",
            "create operator pg_temp.=== (leftarg = int, rightarg = int, function = int4eq)",
        ),
        ("collation pg_temp.c", "create collation pg_temp.c (locale = 'C')"),
        ("function pg_temp.f()", "create function pg_temp.f() returns int language sql as 'select 1'"),
        ("domain pg_temp.d", "create domain pg_temp.d as int"),
    ] {
        client.query(create).ok();
        // May have ended it, as far as its text says: the server is asked.
        client.query("drop table nothing_of_that_name").error();
        client.query(format!("drop {object}")).ok();
    }
}

#[test]
fn a_search_path_to_temporary_tables_keeps_its_client() {
    let site = site(Untracked::default());
    let (mut client, mut other) = (site.client(), site.client());
    client.query("set search_path to pg_temp, public").ok();
    client.query("create table mine as select 1 as n").ok();
    assert_eq!(client.query("select n from mine").value(), "1");
    assert_eq!(other.query("select 1").error().code(), "53300");
    client.terminate();
    assert_eq!(other.query("select n from mine").error().code(), "42P01");
}

#[test]
fn an_encoding_that_hides_where_strings_end_hides_nothing() {
    let site = site(Untracked::default());
    let (mut client, mut other) = (site.client(), site.client());
    client.query("set client_encoding to 'SJIS'").ok();
    // For the server 0x95 0x5C is one character, and what follows the quote is a statement of its own.
    client.query(b"select E'\x95\x5c'; set lock_timeout to '77ms'; select '\x95\x5c' --'").ok();
    assert_eq!(client.query("show lock_timeout").value(), "77ms");
    client.terminate();
    assert_eq!(other.query("show lock_timeout").value(), "0");
    let mut login = site.client_with(&[("client_encoding", "SJIS")]);
    login.query(b"select E'\x95\x5c'; set lock_timeout to '77ms'; select '\x95\x5c' --'").ok();
    login.terminate();
    assert_eq!(other.query("show lock_timeout").value(), "0");
}
