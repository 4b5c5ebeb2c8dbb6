//! A tenant's limit ends its statement and keeps both connections.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::{LimitKey, Limits, Origin, TenantRule};
use integration_tests::{RawClient, Site};

const LIMIT: Duration = Duration::from_millis(300);
const PID: &str = "select pg_backend_pid()";

/// One server; the tenant `acme` (by application_name `web-acme`) may run for [`LIMIT`].
fn site() -> Site {
    Site::behind(Transaction, |proxy| {
        proxy.size(1).with(|settings| {
            settings.tenants.rules = vec![TenantRule::by_pattern(Origin::ApplicationName, "web-{tenant}")];
            let limits = Limits::default().with_time(LimitKey::StatementTimeout, LIMIT);
            settings.tenants.limits.insert("acme".to_owned(), limits);
        })
    })
}

fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", &format!("web-{tenant}"))])
}

/// Runs it, and fails the test unless the limit ended it in time and in style.
fn is_ended_by_the_limit(client: &mut RawClient, sql: &str) {
    let asked = Instant::now();
    let reply = client.query(sql);
    let (error, took) = (reply.error(), asked.elapsed());
    assert_eq!((error.code(), error.is_whole()), ("57014", true), "{sql}: {error:?}");
    assert!(error.message().contains("statement timeout"), "{sql}: {error:?}");
    assert!(error.detail().contains("acme") && error.detail().contains("300"), "{sql}: {error:?}");
    assert!(took >= LIMIT && took < LIMIT + Duration::from_secs(2), "{sql}: {took:?}");
}

#[test]
fn a_statement_over_the_limit_ends_and_both_connections_live_on() {
    let site = site();
    let mut client = client_of(&site, "acme");
    let server = client.query(PID).value();
    is_ended_by_the_limit(&mut client, "select pg_sleep(60)");
    assert_eq!(client.query(PID).value(), server);
    let prepared = client.parse("", "select pg_sleep(60)").bind("", &[]).execute().sync().reply();
    assert_eq!((prepared.shape().as_str(), prepared.error().code()), ("12EZ", "57014"), "{prepared:?}");
    assert!(prepared.error().detail().contains("acme"), "{prepared:?}");
    assert_eq!(client.query(PID).value(), server);
}

#[test]
fn other_tenants_are_not_limited() {
    let site = site();
    let (mut acme, mut globex) = (client_of(&site, "acme"), client_of(&site, "globex"));
    is_ended_by_the_limit(&mut acme, "select pg_sleep(60)");
    globex.query("select pg_sleep(0.6)").ok();
    is_ended_by_the_limit(&mut acme, "select pg_sleep(60)");
}

#[test]
fn a_client_cannot_raise_its_own_limit() {
    for raise in [
        "set statement_timeout to 0",
        "set statement_timeout to '1h'",
        "set local statement_timeout to 0",
        "select set_config('statement_timeout', '0', false)",
        "do $$ begin perform set_config('statement_timeout', '0', false); end $$",
        "reset statement_timeout",
        "discard all",
    ] {
        let site = site();
        let mut client = client_of(&site, "acme");
        // Refused or clamped: either will do, as long as the limit holds.
        client.query(raise);
        is_ended_by_the_limit(&mut client, "select pg_sleep(60)");
        assert_eq!(client.query("select 1").value(), "1", "{raise}");
    }
}

#[test]
fn many_short_statements_in_one_request_do_not_add_up_past_the_limit() {
    let site = site();
    let mut client = client_of(&site, "acme");
    let sql = "select pg_sleep(0.2);".repeat(10);
    let asked = Instant::now();
    assert_eq!(client.query(sql).error().code(), "57014");
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_lower_limit_of_the_clients_own_is_respected() {
    let site = site();
    let mut client = client_of(&site, "acme");
    client.query("set statement_timeout to '50ms'").ok();
    let asked = Instant::now();
    assert_eq!(client.query("select pg_sleep(60)").error().code(), "57014");
    assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
}

#[test]
fn a_client_that_asks_for_more_is_told_what_it_gets() {
    let site = site();
    let mut client = client_of(&site, "acme");
    let (limit, own) = (format!("{}ms", LIMIT.as_millis()), "200ms");
    for sql in ["set statement_timeout to '1h'", "select set_config('statement_timeout', '0', false)"] {
        let reply = client.query(sql).ok();
        let notices = reply.notices();
        assert!(notices.len() == 1 && notices[0].message().contains("acme"), "{sql}: {notices:?}");
        assert_eq!(client.query("show statement_timeout").value(), limit, "{sql}");
    }
    assert!(client.query(format!("set statement_timeout to '{own}'")).ok().notices().is_empty());
    assert_eq!(client.query("show statement_timeout").value(), own);
    client.query("begin").ok();
    client.query("set statement_timeout to 0").ok();
    assert_eq!(client.query("show statement_timeout").value(), limit, "inside of the transaction too");
    is_ended_by_the_limit(&mut client, "select pg_sleep(5)");
    client.query("rollback").ok();
    assert_eq!(client.query("show statement_timeout").value(), own);
}
