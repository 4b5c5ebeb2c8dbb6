//! A tenant's limit ends its statement and keeps both connections.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::{LimitKey, Limits, Origin, TenantRule};
use integration_tests::{RawClient, Reply, Site};

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

/// A pipeline up to its Sync, as a driver sends a batch: `seconds` long each.
fn batch(client: &mut RawClient, seconds: &[&str]) -> Reply {
    for seconds in seconds {
        client.parse("", &format!("select pg_sleep({seconds})")).bind("", &[]).execute();
    }
    client.sync().reply()
}

#[test]
fn statements_that_are_sent_at_once_have_their_time_each() {
    let site = site();
    let mut client = client_of(&site, "acme");
    let reply = client.query("select pg_sleep(0.1);".repeat(10)).ok();
    assert_eq!(reply.shape().matches('C').count(), 10, "{reply:?}");
    let reply = batch(&mut client, &["0.1"; 10]);
    assert!(reply.errors().is_empty() && reply.rows().len() == 10, "{reply:?}");
    client.query("begin").ok();
    let reply = batch(&mut client, &["0.1"; 10]);
    assert!(reply.errors().is_empty() && reply.rows().len() == 10, "{reply:?}");
    // One that is too slow is ended as if it stood alone.
    let asked = Instant::now();
    let reply = batch(&mut client, &["0.1", "0.1", "60", "0.1"]);
    assert!(reply.error().detail().contains("acme") && reply.rows().len() == 2, "{reply:?}");
    assert!(asked.elapsed() < 2 * LIMIT + Duration::from_secs(1), "{:?}", asked.elapsed());
    client.query("rollback").ok();
    is_ended_by_the_limit(&mut client, "select pg_sleep(0.2); select pg_sleep(60); select 1");
}

#[test]
fn a_server_that_keeps_no_time_itself_is_timed_statement_by_statement() {
    let site = site();
    let mut client = client_of(&site, "acme");
    let evade = "do $$ begin perform set_config('statement_timeout', '0', true); end $$";
    for seconds in [&["60", "0.1"][..], &["0.2", "0.2", "0.2", "0.2", "60", "0.1"]] {
        client.query("begin").ok();
        client.query(evade).ok();
        let asked = Instant::now();
        let reply = batch(&mut client, seconds);
        let ran = LIMIT * (seconds.len() as u32 - 1) + Duration::from_millis(700);
        assert_eq!((reply.error().code(), reply.rows().len()), ("57014", seconds.len() - 2), "{reply:?}");
        assert!(asked.elapsed() < ran, "{seconds:?}: {:?}", asked.elapsed());
        client.query("rollback").ok();
    }
    // What stands in one text is told of with its last: it has the time of one.
    for text in [
        format!("{evade}; select pg_sleep(60); select 1; select 2; select 3"),
        "select pg_sleep(60); select 1;".repeat(9),
    ] {
        client.query("begin").ok();
        client.query(evade).ok();
        let asked = Instant::now();
        assert_eq!(client.query(text).error().code(), "57014");
        assert!(asked.elapsed() < LIMIT + Duration::from_millis(900), "{:?}", asked.elapsed());
        client.query("rollback").ok();
    }
    let asked = Instant::now();
    let text = "set statement_timeout to 0; select pg_sleep(60); select 1; select 2; select 3";
    assert_eq!(client.query(text).error().code(), "57014");
    assert!(asked.elapsed() < LIMIT + Duration::from_millis(900), "{:?}", asked.elapsed());
}

#[test]
fn a_client_that_thinks_within_its_request_takes_no_statements_time() {
    let site = site();
    let mut client = client_of(&site, "acme");
    client.parse("", "select pg_sleep(0.1)").bind("", &[]).execute().flush().send();
    client.read_until('C');
    std::thread::sleep(LIMIT + Duration::from_millis(2_300));
    let reply = client.bind("", &[]).execute().sync().reply();
    assert!(reply.errors().is_empty() && reply.rows().len() == 1, "{reply:?}");
    client.parse("", "select pg_sleep(0.1)").bind("", &[]).execute().flush().send();
    client.read_until('C');
    let asked = Instant::now();
    assert_eq!(client.parse("", "select pg_sleep(60)").bind("", &[]).execute().sync().reply().error().code(), "57014");
    assert!(asked.elapsed() < LIMIT + Duration::from_secs(1), "{:?}", asked.elapsed());
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
