//! Ways around a tenant's limits that do not lead around them, and what a limit must not do to those who come next.

use std::time::Duration;

use config::PoolMode::{Session, Transaction};
use config::Tenants;
use integration_tests::{RawClient, Site, frontend, tenants};

/// Tenants as a file says them, by `application_name` alone.
fn by_name(toml: &str) -> Tenants {
    tenants(&format!("[[tenant.rule]]\nfrom = 'application_name'\n{toml}"))
}

/// With one server connection, so that whoever comes next gets the same.
fn site(toml: &str) -> Site {
    let tenants = by_name(toml);
    Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.tenants = tenants))
}

fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", tenant)])
}

#[test]
fn what_was_too_large_is_not_told_of_the_next() {
    let site = site("[tenant.limits.acme]\nmax_rows = 10\n");
    let mut other = client_of(&site, "globex");
    for ending in [
        // Another error than that of the cancel, at a later row.
        "select 1 / (500 - n) from generate_series(1, 1000) n",
        "select n, pg_sleep(0.001) from generate_series(1, 100000) n",
    ] {
        let mut acme = client_of(&site, "acme");
        assert!(!acme.query(ending).errors().is_empty());
        assert_eq!(other.query("select 1").value(), "1");
        acme.start_query(ending);
        std::thread::sleep(Duration::from_millis(30));
        acme.cancel();
        assert!(!acme.reply().errors().is_empty());
        assert_eq!(other.query("select 2").value(), "2");
        acme.start_query(ending);
        std::thread::sleep(Duration::from_millis(30));
        acme.vanish();
        for n in 0..5 {
            assert_eq!(other.query(format!("select {n}")).value(), n.to_string());
        }
    }
}

#[test]
fn a_result_that_has_written_or_goes_on_ends_its_client() {
    let site = site("[tenant.limits.acme]\nmax_rows = 3\n");
    site.run_directly("create table if not exists kept (n int)").ok();
    for sql in ["insert into kept select generate_series(1, 4) returning n", "select generate_series(1, 4); select 5"] {
        let mut client = client_of(&site, "acme");
        let reply = client.start_query(sql).read_to_end_or_ready();
        let error = reply.error();
        // Cancelled in time, or told with the end of the connection; never an error about what has happened.
        assert_eq!(error.code(), "53400", "{sql}: {reply:?}");
        let stored = site.run_directly("select count(*) from kept").value();
        assert!(error.severity() == "FATAL" || stored == "0", "{sql}: {stored} {reply:?}");
        site.run_directly("truncate kept").ok();
    }
    // Each statement of a text has rows of its own.
    let mut client = client_of(&site, "acme");
    let rows = client.query("select generate_series(1, 3); select generate_series(1, 3)").rows().len();
    assert_eq!(rows, 6);
}

#[test]
fn nothing_behind_a_failed_transaction_is_passed_over() {
    let site = site("[tenant.limits.acme]\ntables = ['runs']\n[tenant.limits.reader]\nread_only = true\n");
    site.run_directly("create table if not exists runs (n int); create table if not exists users (n int)").ok();
    let mut client = client_of(&site, "acme");
    client.query("begin").ok();
    assert_eq!(client.query("select 1/0").error().code(), "22012");
    let reply = client.query("rollback; select * from users");
    assert_eq!(reply.errors().last().unwrap().code(), "42501", "{reply:?}");
    client.query("rollback").ok();
    let mut reader = client_of(&site, "reader");
    reader.query("begin").ok();
    assert_eq!(reader.query("select 1/0").error().code(), "22012");
    let reply = reader.query("rollback; begin read write; insert into users values (1); commit");
    assert_eq!(reply.errors().last().unwrap().code(), "25006", "{reply:?}");
    reader.query("rollback").ok();
    assert_eq!(site.run_directly("select count(*) from users").value(), "0");
}

#[test]
fn what_is_not_seen_is_not_let_through() {
    let site = site(
        "[tenant.limits.acme]\ntables = ['runs']\n[tenant.limits.reader]\nread_only = true\n[tenant.limits.blocked]\nblocked = true\n[tenant.limits.few]\nmax_rows = 2\n",
    );
    site.run_directly("create table if not exists runs (n int); create table if not exists users (n int)").ok();
    let padding = " ".repeat(300 * 1024);
    let mut client = client_of(&site, "acme");
    for sql in [
        format!("select 1;{padding}select * from users"),
        format!("commit;{padding}select * from users"),
        "select * from runs a join runs b on a.n = b.n, users".to_owned(),
        "with users as (select 1) delete from users".to_owned(),
    ] {
        let error = client.query(&sql).error().clone();
        assert_eq!(error.code(), "42501", "{}: {error:?}", &sql[..20]);
    }
    let long = format!("select * from users where n = 1 {padding} or n = 2");
    let reply = client.parse("long", &long).bind("long", &[]).execute().sync().reply();
    assert_eq!(reply.errors().last().unwrap().code(), "42501", "{reply:?}");

    // A statement that is too long to be parsed elsewhere keeps its server.
    client.terminate();

    let mut reader = client_of(&site, "reader");
    for sql in [
        "begin; set transaction_read_only = off; explain analyze delete from users; commit",
        "reset default_transaction_read_only",
        "explain analyze insert into users values (1)",
        "explain (analyze) delete from users",
        "select set_config('default_' || 'transaction_read_only', 'off', false)",
        "do $$ begin commit; set transaction read write; insert into users values (1); end $$",
        "reset all; select 1",
        "prepare p as insert into users values (1)",
    ] {
        let reply = reader.query(sql);
        assert_eq!(reply.errors().last().map(|error| error.code()), Some("25006"), "{sql}: {reply:?}");
        reader.query("rollback").ok();
    }
    let bound =
        reader.parse("", "select set_config($1, $2, false)").bind("", &["default_transaction_read_only", "off"]);
    assert_eq!(bound.execute().sync().reply().errors().last().unwrap().code(), "25006");
    // Settings that are brought back in passing are made good before anything else is run.
    reader.say(integration_tests::frontend::query("discard all"));
    reader.say(integration_tests::frontend::query("insert into users select 1 where true"));
    reader.say(integration_tests::frontend::query("select count(*) from users"));
    reader.send();
    reader.reply().ok();
    assert_eq!(reader.reply().error().code(), "25006");
    assert_eq!(reader.reply().value(), "0");

    let mut few = client_of(&site, "few");
    let copied = few.query("copy (select generate_series(1, 9)) to stdout");
    assert_eq!(copied.errors().last().unwrap().code(), "53400", "{copied:?}");
    few.query("begin").ok();
    few.query("declare c cursor for select generate_series(1, 3000000)").ok();
    few.say(integration_tests::frontend::execute("c", 0)).say(integration_tests::frontend::sync());
    let fetched = few.reply();
    assert_eq!(fetched.errors().last().map(|error| error.code()), Some("53400"), "{fetched:?}");
    few.query("rollback").ok();
}

#[test]
fn the_cancel_of_a_result_strikes_nothing_behind_it() {
    let tenants = by_name("[tenant.limits.acme]\nmax_rows = 10\n");
    // Its server stays its own, so that nothing but the wait for the cancel's end stands between the two.
    let site = Site::behind(Session, |proxy| proxy.size(1).with(|settings| settings.tenants = tenants));
    let mut client = client_of(&site, "acme");
    for n in 0..200 {
        assert_eq!(client.query("select generate_series(1, 11)").error().code(), "53400");
        let reply = client.query(format!("select {n} from pg_sleep(0.003)"));
        assert_eq!(reply.errors().len(), 0, "{n}: {reply:?}");
    }
}

#[test]
fn a_pipeline_of_one_client_is_one_of_those_that_run() {
    let site = site("[tenant.limits.acme]\nmax_statements = 2\n");
    let mut client = client_of(&site, "acme");
    client.parse("s", "select 1").sync().reply();
    for _ in 0..50 {
        client.bind("s", &[]).execute();
    }
    let reply = client.sync().reply();
    assert_eq!((reply.rows().len(), reply.errors().len()), (50, 0));
}

#[test]
fn what_a_client_sets_stays_where_its_statements_have_comments() {
    let rules = "[[tenant.rule]]\nfrom = 'comment'\nname = 'tenant'\n[tenant.limits.acme]\nmax_rows = 2\n";
    let tenants = tenants(rules);
    let site = Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.tenants = tenants));
    let mut client = site.client();
    client.query("set search_path to pg_catalog /*route='/x',tenant='acme'*/").ok();
    assert_eq!(client.query("show search_path /*route='/x',tenant='acme'*/").value(), "pg_catalog");
    assert_eq!(client.query("show search_path /*route='/x'*/").value(), "pg_catalog");
    // Pipelined, each has its own limits.
    let series = "select generate_series(1, 4)";
    client.parse("", &format!("{series} /*tenant='acme'*/")).bind("", &[]).execute().sync();
    client.parse("", series).bind("", &[]).execute().sync();
    let (first, second) = (client.reply(), client.reply());
    assert_eq!((first.rows().len(), first.error().code()), (2, "53400"));
    assert_eq!((second.rows().len(), second.errors().len()), (4, 0));
}

#[test]
fn each_statement_of_a_text_counts_for_the_rate() {
    let site = site("[tenant.limits.acme]\nstatement_rate = 1\nstatement_burst = 5\n");
    let mut client = client_of(&site, "acme");
    client.query("select 1; select 2; select 3").ok();
    let error = client.query("select 1; select 2; select 3; select 4").error().clone();
    assert_eq!(error.code(), "53400", "{error:?}");
    assert!(error.hint().starts_with("Retry in "), "{error:?}");
    client.query("begin; select 1; commit").ok();
    let error = client.query("select 1;".repeat(6)).error().clone();
    assert_eq!(error.code(), "53400", "{error:?}");
    assert!(error.hint().starts_with("Send fewer statements in one text"), "{error:?}");
}

#[test]
fn a_result_that_is_fetched_in_parts_has_one_limit() {
    let site = site("[tenant.limits.acme]\nmax_rows = 10\n[tenant.limits.small]\nmax_bytes = '1KiB'\n");
    for (tenant, column) in [("acme", "n"), ("small", "repeat('x', 100)")] {
        for together in [false, true] {
            let mut client = client_of(&site, tenant);
            client.query("begin").ok();
            client.parse("", &format!("select {column} from generate_series(1, 100) n")).bind("", &[]);
            let mut seen = 0;
            let mut failed = Vec::new();
            for part in 1..=4 {
                client.say(frontend::execute("", 4));
                if !together || part == 4 {
                    // A server that was done before it heard of the cancel has its client ended.
                    let reply = client.sync().send().read_to_end_or_ready();
                    seen += reply.rows().len();
                    failed = reply.errors().iter().map(|error| error.code().to_owned()).collect();
                }
                if !failed.is_empty() {
                    break;
                }
            }
            assert_eq!(failed, ["53400"], "{tenant}");
            assert!((8..=10).contains(&seen), "{tenant}: {seen}");
            let next = format!("select {column} from generate_series(1, 8) n");
            assert_eq!(client_of(&site, tenant).query(next).ok().rows().len(), 8, "it has a limit of its own");
        }
    }
}
