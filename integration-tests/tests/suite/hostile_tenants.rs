//! Clients that try to get around their tenant's limits, and clients that the limits meet at a bad moment.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::{Settings, Tenants};
use integration_tests::{Fields, RawClient, Site, eventually, frontend, http, tenants};

/// By `application_name`, and by a setting of the session.
const RULES: &str = "
[[tenant.rule]]
from = 'setting'
name = 'app.tenant_id'
[[tenant.rule]]
from = 'application_name'
pattern = 'tenant:(?<tenant>[a-z0-9-]+)'
";

const LIMIT: Duration = Duration::from_millis(300);
/// How long behind the limit a statement may end that the server itself ends, on a busy machine.
const SLACK: Duration = Duration::from_millis(1200);

fn ruled(toml: &str) -> Tenants {
    tenants(&format!("{RULES}{toml}"))
}

fn site_of(size: usize, toml: &str) -> Site {
    Site::behind(Transaction, |proxy| proxy.size(size).with(|settings| settings.tenants = ruled(toml)))
}

/// The tenant `acme` may run for [`LIMIT`].
fn site(size: usize) -> Site {
    site_of(size, "[tenant.limits.acme]\nstatement_timeout = '300ms'\n")
}

fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", &format!("tenant:{tenant}"))])
}

/// Runs it and fails the test unless the limit ends it in time.
fn is_ended(client: &mut RawClient, sql: &str) -> Fields {
    let asked = Instant::now();
    let error = client.query(sql).error().clone();
    let took = asked.elapsed();
    assert_eq!(error.code(), "57014", "{sql}: {error:?}");
    assert!(took >= LIMIT - Duration::from_millis(20) && took < LIMIT + SLACK, "{sql}: {took:?}");
    error
}

#[test]
fn no_way_of_lifting_the_timeout_lifts_it() {
    let site = site(1);
    site.run_directly(
        "create or replace function unbind() returns int language plpgsql as $$ begin
           perform set_config('statement_timeout', '0', false); return 1; end $$;
         create or replace function unbound() returns void language plpgsql set statement_timeout to 0 as $$ begin
           perform pg_sleep(30); end $$",
    )
    .ok();
    let mut client = client_of(&site, "acme");
    for (first, then) in [
        ("set statement_timeout = 0", "select pg_sleep(30)"),
        ("set session statement_timeout to default", "select pg_sleep(30)"),
        ("select unbind()", "select pg_sleep(30)"),
        ("select 1", "select unbind(), pg_sleep(30)"),
        ("select 1", "select unbound()"),
        ("do $$ begin perform set_config('statement_timeout', '0', false); end $$", "select pg_sleep(30)"),
        ("select 1", "do $$ begin perform set_config('statement_timeout', '0', true); perform pg_sleep(30); end $$"),
        ("select 1", "set statement_timeout = 0; select pg_sleep(30)"),
        ("select 1", "select set_config('statement_timeout', '0', false); select pg_sleep(30)"),
        ("select 1", "select 1; select 2; select pg_sleep(30); select 3"),
        ("select 1", "begin; set local statement_timeout = 0; select pg_sleep(30); commit"),
        ("alter role current_user set statement_timeout = 0", "select pg_sleep(30)"),
    ] {
        client.query(first);
        is_ended(&mut client, then);
        client.query("rollback");
        assert_eq!(client.query("select 1").value(), "1", "{first}; {then}");
    }
    client.query("alter role current_user reset statement_timeout").ok();
    let mut other = client_of(&site, "globex");
    other.query("select pg_sleep(0.5)").ok();
}

/// A statement that takes every cancel for a joke is let go of, with its connection.
#[test]
fn a_block_that_swallows_its_cancels_loses_its_connection() {
    let site = site(1);
    let mut client = client_of(&site, "acme");
    let asked = Instant::now();
    client.start_query(
        "do $$ begin for n in 1..6 loop begin perform pg_sleep(1.5); exception when query_canceled then null; end; end loop; end $$",
    );
    let reply = client.read_until('E');
    let took = asked.elapsed();
    assert_eq!(reply.error().code(), "57014", "{took:?} {reply:?}");
    assert!(took > LIMIT + Duration::from_millis(1500) && took < LIMIT + Duration::from_secs(4), "{took:?}");
    // Its place in the pool is free, while the server may still be busy with it.
    assert_eq!(client_of(&site, "globex").query("select 1").value(), "1");
    let counted = http::fetch(site.admin(), "/api/v1/tenants").json();
    let acme = counted["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == "acme").unwrap().clone();
    assert_eq!(acme["limits_reached"]["statement_timeout"]["enforced"], 1, "{acme}");
    assert_eq!(acme["statement_timeouts"], 1, "{acme}");
}

#[test]
fn sleeps_in_a_pipeline_are_each_held_to_the_limit() {
    let site = site(1);
    let mut client = client_of(&site, "acme");
    // Each with its own Sync.
    for _ in 0..4 {
        client.parse("", "select pg_sleep(30)").bind("", &[]).execute().sync();
    }
    let asked = Instant::now();
    for n in 1..=4u32 {
        let reply = client.reply();
        assert_eq!(reply.error().code(), "57014", "{n}: {reply:?}");
        assert!(asked.elapsed() < (LIMIT + SLACK) * n, "{n}: {:?}", asked.elapsed());
    }
    assert_eq!(client.query("select 1").value(), "1");
    // One Sync for all: the first is ended, the others are skipped.
    for _ in 0..4 {
        client.parse("", "select pg_sleep(30)").bind("", &[]).execute();
    }
    let asked = Instant::now();
    let reply = client.sync().reply();
    assert_eq!((reply.shape().as_str(), reply.error().code()), ("12EZ", "57014"), "{reply:?}");
    assert!(asked.elapsed() < LIMIT + SLACK, "{:?}", asked.elapsed());
    // Many short ones, each with its own Sync, are not one long one.
    for _ in 0..8 {
        client.parse("", "select pg_sleep(0.1)").bind("", &[]).execute().sync();
    }
    for n in 0..8 {
        let reply = client.reply();
        assert!(reply.errors().is_empty(), "{n}: {reply:?}");
    }
}

#[test]
fn a_client_that_never_reads_holds_nobody_up_for_longer_than_its_limit() {
    let site = site(1);
    let mut deaf = client_of(&site, "acme");
    // 200 MB that nobody takes: neither the proxy nor the server keeps them, and the only upstream is free in time.
    deaf.start_query("select repeat('x', 1000) from generate_series(1, 200000)");
    std::thread::sleep(Duration::from_millis(50));
    let asked = Instant::now();
    assert_eq!(client_of(&site, "globex").query("select 1").value(), "1");
    assert!(asked.elapsed() < LIMIT + Duration::from_secs(4), "{:?}", asked.elapsed());
    drop(deaf);
}

#[test]
fn a_thousand_transactions_one_after_the_other_are_each_timed_by_themselves() {
    let site = site_of(2, "[tenant.limits.acme]\ntransaction_timeout = '200ms'\nmax_statements = 1\n");
    let mut client = client_of(&site, "acme");
    let begun = Instant::now();
    let mut n = 0;
    // However fast: for twice as long as one may last.
    while n < 1_000 || begun.elapsed() < Duration::from_millis(400) {
        client.query("begin").ok();
        assert_eq!(client.query("select 1").value(), "1", "{n}");
        client.query(if n % 2 == 0 { "commit" } else { "rollback" }).ok();
        n += 1;
    }
    assert!(site.backends() <= 2);
    // What is counted as running has ended each time.
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn what_only_looks_like_a_comment_names_no_tenant() {
    let rules = "[[tenant.rule]]\nfrom = 'comment'\nname = 'tenant'\n[tenant.limits.free]\nmax_rows = 100\n[tenant.limits.default]\nmax_rows = 5\n";
    let tenants = tenants(rules);
    let site = Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.tenants = tenants));
    let mut client = site.client();
    let series = "select n from generate_series(1, 9) n";
    for spoof in [
        format!("{series} where n::text <> '/*tenant=''free''*/'"),
        format!("{series} where $a$/*tenant='free'*/$a$ <> ''"),
        "select n /*tenant='free'*/ from generate_series(1, 9) n".to_owned(),
        format!("{series} -- /*tenant='free'*/ and more"),
        format!("{series} /* tenant is 'free' */"),
        format!("{series} as \"/*tenant='free'*/\""),
    ] {
        let reply = client.query(&spoof);
        let held = reply.rows().len() == 5 && reply.error().code() == "53400";
        // In the middle or at an end: what counts is that it is documented, and the same each time.
        assert!(held || !reply.errors().is_empty(), "{spoof}: {reply:?}");
    }
    assert_eq!(client.query(format!("{series} /*tenant='free'*/")).rows().len(), 9);
    assert_eq!(client.query(series).error().code(), "53400", "the next statement says nothing");
}

#[test]
fn a_tenant_that_is_switched_inside_of_a_transaction_is_held_to_its_limits_from_the_next_statement_on() {
    let site = site(1);
    let mut client = site.client();
    client.query("begin").ok();
    client.query("select pg_sleep(0.4)").ok();
    client.query("set local app.tenant_id = 'acme'").ok();
    is_ended(&mut client, "select pg_sleep(30)");
    assert_eq!(client.query("select 1").error().code(), "25P02");
    client.query("rollback").ok();
    client.query("select pg_sleep(0.5)").ok();
    client.query("set app.tenant_id = 'acme'").ok();
    is_ended(&mut client, "select pg_sleep(30)");
    client.query("begin").ok();
    client.query("set local app.tenant_id = 'globex'").ok();
    client.query("select pg_sleep(0.5)").ok();
    client.query("commit").ok();
    is_ended(&mut client, "select pg_sleep(30)");
}

#[test]
fn a_reload_meets_statements_that_run() {
    let limits = |time: &str| ruled(&format!("[tenant.limits.acme]\nstatement_timeout = '{time}'\n"));
    let mut settings = None;
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(2).with(|settings| settings.tenants = limits("600ms"));
        settings = Some(proxy.settings());
        proxy
    });
    let reload = |time: &str| site.reload(Settings { tenants: limits(time), ..settings.clone().unwrap() });
    let mut client = client_of(&site, "acme");
    let asked = Instant::now();
    client.start_query("select pg_sleep(30)");
    std::thread::sleep(Duration::from_millis(200));
    reload("5s");
    // What runs has the limit that it began with.
    assert_eq!(client.reply().error().code(), "57014");
    assert!(asked.elapsed() < Duration::from_millis(600) + SLACK, "{:?}", asked.elapsed());
    client.query("select pg_sleep(0.8)").ok();
    client.start_query("select pg_sleep(1)");
    std::thread::sleep(Duration::from_millis(200));
    reload("300ms");
    client.reply().ok();
    is_ended(&mut client, "select pg_sleep(30)");
}

#[test]
fn a_copy_ends_with_the_limit_in_both_directions() {
    let site = site(1);
    site.run_directly("create table if not exists copied (n int)").ok();
    let mut client = client_of(&site, "acme");
    let error = is_ended(&mut client, "copy (select pg_sleep(0.02) from generate_series(1, 1000)) to stdout");
    assert!(error.detail().contains("acme"), "{error:?}");
    assert_eq!(client.query("select 1").value(), "1");
    let asked = Instant::now();
    client.start_query("copy copied from stdin");
    assert_eq!(client.read_until('G').shape(), "G");
    // Data keep coming: the server looks at its timer when it reads them.
    while asked.elapsed() < LIMIT * 2 {
        if client.say(frontend::copy_data(b"1\n")).try_send().is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    client.say(frontend::copy_done());
    let reply = client.reply();
    assert_eq!((reply.shape().as_str(), reply.error().code()), ("EZ", "57014"), "{reply:?}");
    assert_eq!(client.query("select count(*) from copied").value(), "0");
    // A client that falls silent in the middle is let go of: a server that waits for it hears no cancel.
    client.start_query("copy copied from stdin");
    assert_eq!(client.read_until('G').shape(), "G");
    let asked = Instant::now();
    let reply = client.read_to_end();
    assert_eq!(reply.error().code(), "57014", "{reply:?}");
    assert!(asked.elapsed() < LIMIT + Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(client_of(&site, "globex").query("select count(*) from copied").value(), "0");
}

#[test]
fn each_fetch_of_a_cursor_is_timed_by_itself() {
    let site = site(1);
    let mut client = client_of(&site, "acme");
    client.query("begin").ok();
    client.query("declare c no scroll cursor for select pg_sleep(0.1) from generate_series(1, 1000)").ok();
    for _ in 0..6 {
        assert_eq!(client.query("fetch 1 from c").rows().len(), 1);
    }
    is_ended(&mut client, "fetch 100 from c");
    let error = client.query("fetch 1 from c").error().clone();
    assert_eq!(error.code(), "25P02", "{error:?}");
    client.query("rollback").ok();
    assert_eq!(client.query("select 1").value(), "1");
    // By the protocol: a portal that is executed in pieces.
    client.query("begin").ok();
    client.parse("", "select pg_sleep(0.1) from generate_series(1, 1000)").bind("", &[]);
    for _ in 0..5 {
        assert_eq!(client.say(frontend::execute("", 1)).sync().reply().rows().len(), 1);
    }
    client.say(frontend::execute("", 100));
    let reply = client.sync().reply();
    assert_eq!(reply.error().code(), "57014", "{reply:?}");
    assert_eq!(client.query("select 1").error().code(), "25P02");
    client.query("rollback").ok();
}

#[test]
fn what_hostile_clients_leave_is_an_empty_pool() {
    let site = site(2);
    for sql in ["select pg_sleep(30)", "begin; select pg_sleep(30)", "copy (select pg_sleep(30)) to stdout"] {
        let mut client = client_of(&site, "acme");
        client.start_query(sql);
        client.vanish();
    }
    eventually("nothing runs any more", || {
        let pools = http::fetch(site.admin(), "/api/v1/pools").json();
        pools["pools"][0]["upstreams"]["active"] == 0
    });
    assert_eq!(client_of(&site, "acme").query("select 1").value(), "1");
}
