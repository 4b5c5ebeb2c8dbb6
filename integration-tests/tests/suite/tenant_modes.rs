//! What a limit does in each of its modes: it counts what it would refuse, tells it, or refuses it.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::{Message, RawClient, Reply, Site, eventually, frontend, http, tenants};

use super::tenants::{RULES, client_of, reached};

fn site_with(size: usize, queue_timeout: Duration, toml: &str) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(size).pool(|pool| pool.queue_timeout = queue_timeout);
        proxy.with(|settings| settings.tenants = tenants)
    })
}

fn site(toml: &str) -> Site {
    site_with(4, Duration::from_secs(5), toml)
}

/// How many notices say that a limit only warns.
fn warnings(reply: &Reply) -> usize {
    reply.notices().iter().filter(|notice| notice.hint().contains("only warns")).count()
}

/// The tags of what came, notices among them.
fn order(reply: &Reply) -> String {
    reply.messages.iter().map(Message::tag).collect()
}

/// The fingerprint of a statement that calls `pg_sleep_for`.
fn fingerprint(sql: &str) -> String {
    let site = site("");
    client_of(&site, "any").query(sql).ok();
    let queries = http::fetch(site.admin(), "/api/v1/queries").json();
    let rows = queries["queries"].as_array().unwrap();
    let row = rows.iter().find(|row| row["text"].as_str().unwrap().contains("pg_sleep_for"));
    row.unwrap()["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn every_limit_on_statements_has_its_phases() {
    let cases = [
        ("blocked = true", "blocked", "42501", "select 1"),
        ("tables = ['other']", "tables", "42501", "select * from things"),
        ("read_only = true", "read_only", "25006", "insert into things values (1)"),
        ("statement_rate = 1\nstatement_burst = 1", "statement_rate", "53400", "select 1"),
        ("max_statements = 1", "max_statements", "53400", "select 1"),
        ("max_bytes = '1KiB'", "max_bytes", "53400", "select repeat('x', 900) from generate_series(1, 4)"),
        ("max_rows = 3", "max_rows", "53400", "select * from generate_series(1, 4)"),
        ("row_limit = 3", "row_limit", "", "select * from generate_series(1, 4)"),
    ];
    for (limit, key, code, sql) in cases {
        for (mode, kind) in [("observe", "observed"), ("warn", "warned"), ("enforce", "enforced")] {
            let site = site(&format!("[tenant.limits.acme]\nmode = '{mode}'\n{limit}\n"));
            site.run_directly("create table if not exists things (n int)").ok();
            let mut other = client_of(&site, "tenant:acme");
            let mut client = client_of(&site, "tenant:acme");
            match key {
                "max_statements" => {
                    other.start_query("select pg_sleep(1)");
                    std::thread::sleep(Duration::from_millis(200));
                }
                "statement_rate" => drop(client.say(frontend::query("select 2"))),
                _ => {}
            }
            client.say(frontend::query(sql)).send();
            let first = (key == "statement_rate").then(|| client.reply().ok());
            assert_eq!(first.map_or(0, |reply| warnings(&reply)), 0);
            let reply = client.reply();
            let refused = mode == "enforce" && !code.is_empty();
            assert_eq!(warnings(&reply), usize::from(mode == "warn"), "{key} {mode}: {reply:?}");
            assert_eq!(!reply.errors().is_empty(), refused, "{key} {mode}: {reply:?}");
            if refused {
                assert_eq!(reply.error().code(), code, "{key}");
            }
            if key == "row_limit" {
                assert_eq!(reply.rows().len(), if mode == "enforce" { 3 } else { 4 }, "{mode}");
            }
            if mode == "warn" {
                let detail = reply.notices()[0].detail().to_owned();
                assert!(detail.contains(&format!("{key} of [tenant.limits.acme]")), "{key}: {detail}");
            }
            assert_eq!(reached(&site, "acme", key)[kind], 1, "{key} {mode}");
        }
    }
}

#[test]
fn clients_beyond_a_limit_that_warns_are_told_as_they_log_in() {
    for (mode, kind) in [("observe", "observed"), ("warn", "warned")] {
        let site = site(&format!("[tenant.limits.acme]\nmode = '{mode}'\nmax_clients = 1\n"));
        let _first = client_of(&site, "tenant:acme");
        let parameters = site.parameters(&[("application_name", "tenant:acme")]);
        let mut second = RawClient::connect(site.address());
        let welcome = second.say(frontend::startup(frontend::PROTOCOL_3_0, &parameters)).reply();
        assert_eq!(warnings(&welcome), usize::from(mode == "warn"), "{welcome:?}");
        assert_eq!(second.query("select 1").value(), "1");
        assert_eq!(reached(&site, "acme", "max_clients")[kind], 1);
    }
}

#[test]
fn each_statement_of_a_pipeline_is_warned_of_behind_itself() {
    let site = site("[tenant.limits.acme]\nmode = 'warn'\nread_only = true\nmax_rows = 1\n");
    site.run_directly("create table if not exists things (n int)").ok();
    let mut client = client_of(&site, "tenant:acme");
    let insert = "insert into things values (1)";
    for sql in [insert, "select 1", insert, "select generate_series(1, 2)"] {
        client.parse("", sql).bind("", &[]).execute();
    }
    let reply = client.sync().reply();
    assert_eq!(order(&reply), "12CN12DC12CN12DDCNZ", "{reply:?}");
    assert!(reply.notices()[1].detail().contains("read_only") && reply.notices()[2].detail().contains("max_rows"));
    // Of one that fails it is told too, and of what is passed over behind it nothing.
    let fails = "insert into things select 1 / (n - 1) from things";
    for sql in [fails, insert] {
        client.parse("", sql).bind("", &[]).execute();
    }
    assert_eq!(order(&client.sync().reply()), "12ENZ");
    assert_eq!(order(&client.query(fails)), "ENZ");
    // Of one there may be more than one thing to say.
    let reply = client.query("insert into things select generate_series(1, 2) returning n");
    let told: Vec<&str> = reply.notices().iter().map(|notice| notice.detail()).collect();
    assert!(told.len() == 2, "{told:?}");
    assert!(["read_only", "max_rows"].iter().all(|key| told.iter().any(|told| told.contains(key))), "{told:?}");
    client.start_query(insert).start_query("select 1").start_query(insert);
    assert_eq!([client.reply(), client.reply(), client.reply()].map(|reply| warnings(&reply)), [1, 0, 1]);
}

#[test]
fn the_time_of_one_statement_by_its_name_is_only_looked_at() {
    let strict = fingerprint("select 2, pg_sleep_for('1 millisecond')");
    for (mode, kind) in [("observe", "observed"), ("warn", "warned")] {
        let site = site(&format!("[tenant.fingerprint.{strict}]\nmode = '{mode}'\nstatement_timeout = '500ms'\n"));
        let mut client = client_of(&site, "tenant:acme");
        client.query("select pg_sleep(0.8)").ok();
        client.query("select 2, pg_sleep_for('1 millisecond')").ok();
        assert!(reached(&site, "acme", "statement_timeout").is_null());
        let reply = client.query("select 2, pg_sleep_for('0.8 seconds')").ok();
        assert_eq!(warnings(&reply), usize::from(mode == "warn"), "{reply:?}");
        assert_eq!(reached(&site, "acme", "statement_timeout")[kind], 1, "{mode}");
        if mode == "warn" {
            assert!(reply.notices()[0].detail().contains(&strict), "{reply:?}");
        }
    }
}

#[test]
fn statements_that_are_sent_at_once_are_looked_at_one_by_one() {
    let site = site("[tenant.limits.acme]\nmode = 'observe'\nstatement_timeout = '400ms'\n");
    let mut client = client_of(&site, "tenant:acme");
    for _ in 0..8 {
        client.parse("", "select pg_sleep(0.1)").bind("", &[]).execute();
    }
    assert!(client.sync().reply().errors().is_empty());
    client.query("select pg_sleep(0.1);".repeat(8)).ok();
    assert!(reached(&site, "acme", "statement_timeout").is_null());
    client.query("select pg_sleep(0.6)").ok();
    assert_eq!(reached(&site, "acme", "statement_timeout")["observed"], 1);
}

#[test]
fn a_silence_is_counted_once_and_told_when_the_client_speaks() {
    for (mode, kind) in [("observe", "observed"), ("warn", "warned")] {
        let site = site(&format!("[tenant.limits.acme]\nmode = '{mode}'\nidle_timeout = '1s'\n"));
        let mut client = client_of(&site, "tenant:acme");
        client.query("select 1").ok();
        assert!(client.hears_nothing_for(Duration::from_millis(4_500)), "{mode}");
        let count = || reached(&site, "acme", "idle_timeout")[kind].as_u64().unwrap_or(0);
        assert_eq!(count(), 1, "{mode}");
        let reply = client.query("select 1").ok();
        assert_eq!(warnings(&reply), usize::from(mode == "warn"), "{reply:?}");
        assert_eq!(warnings(&client.query("select 1").ok()), 0);
        eventually("another silence is counted", || count() == 2);
    }
}

#[test]
fn who_vanishes_within_a_transaction_was_silent_too() {
    let site = site("[tenant.limits.acme]\nmode = 'observe'\nidle_in_transaction_timeout = '1s'\n");
    let observed = || reached(&site, "acme", "idle_in_transaction_timeout")["observed"].as_u64().unwrap_or(0);
    for (count, leaves) in [(1, RawClient::vanish as fn(RawClient)), (2, RawClient::terminate)] {
        let mut client = client_of(&site, "tenant:acme");
        client.query("begin").ok();
        std::thread::sleep(Duration::from_millis(1_500));
        leaves(client);
        eventually("it is counted", || observed() == count);
    }
    let mut client = client_of(&site, "tenant:acme");
    client.query("begin").ok();
    client.vanish();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(observed(), 2, "each once, and not who goes at once");
}

#[test]
fn a_wait_that_a_tenants_own_limit_ends_is_told_as_its_own() {
    let limits = "[tenant.limits.q]\nqueue_timeout = '300ms'\n[tenant.class.worker]\nmax_upstreams = 1\n";
    let site = site_with(2, Duration::from_secs(1), limits);
    let mut holders: Vec<RawClient> = (0..2).map(|_| client_of(&site, "tenant:h")).collect();
    holders.iter_mut().for_each(|holder| drop(holder.query("begin").ok()));
    let asked = Instant::now();
    let error = client_of(&site, "tenant:q").query("select 1").error().clone();
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
    assert_eq!((error.code(), error.message()), ("53300", "no server connection became free in time"));
    for said in ["tenant \"q\"", "queue_timeout of [tenant.limits.q]"] {
        assert!(error.detail().contains(said), "{error:?}");
    }
    assert!(
        error.hint().contains("queue_timeout of [tenant.limits.q]") && !error.hint().contains("pool.queue_timeout")
    );
    assert_eq!(reached(&site, "q", "queue_timeout")["enforced"], 1);
    let error = client_of(&site, "tenant:h").query("select 1").error().clone();
    assert!(!error.detail().contains("tenant") && error.hint().contains("pool.queue_timeout"), "{error:?}");
    drop(holders);
    // A class's part is not the tenant's.
    let mut worker = client_of(&site, "worker tenant:w");
    eventually("there is room again", || worker.query("begin").errors().is_empty());
    let error = client_of(&site, "worker tenant:w").query("select 1").error().clone();
    assert!(error.detail().contains("all 1 server connections of this tenant's class are in use"), "{error:?}");
}

#[test]
fn a_full_queue_is_told_by_the_table_that_bounds_it() {
    let limits = "[tenant.default]\nmax_waiting = 2\n[tenant.class.worker]\nmax_waiting = 3\n";
    let site = site_with(1, Duration::from_secs(2), limits);
    let mut holder = client_of(&site, "tenant:h");
    holder.query("begin").ok();
    let mut waiting: Vec<RawClient> = (0..2).map(|_| client_of(&site, "worker tenant:w")).collect();
    for client in &mut waiting {
        client.start_query("select 1");
    }
    std::thread::sleep(Duration::from_millis(300));
    let error = client_of(&site, "worker tenant:w").query("select 1").error().clone();
    assert_eq!(error.code(), "53400");
    assert!(error.detail().contains("2 clients") && error.detail().contains("[tenant.default]"), "{error:?}");
    assert!(!error.message().contains("class"), "{error:?}");
}
