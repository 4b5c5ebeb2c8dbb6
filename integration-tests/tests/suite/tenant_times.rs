//! What a tenant's limits of time hold for, where a client sends more than one thing at once, keeps its server, or was
//! struck by something else.

use std::time::{Duration, Instant};

use config::PoolMode::{Session, Transaction};
use integration_tests::{RawClient, Site, eventually, frontend, http, tenants};

use super::tenants::reached;

pub(super) const RULES: &str = "
[[tenant.rule]]
from = 'application_name'
pattern = 'tenant:(?<tenant>[a-z0-9-]+)'
";

fn site(toml: &str) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(Transaction, |proxy| proxy.size(4).with(|settings| settings.tenants = tenants))
}

pub(super) fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", &format!("tenant:{tenant}"))])
}

/// The fingerprint that a statement goes by.
fn fingerprint(sql: &str) -> String {
    let site = site("");
    client_of(&site, "any").query(sql).ok();
    let queries = http::fetch(site.admin(), "/api/v1/queries").json();
    let word = sql.split('(').next().unwrap().rsplit(' ').next().unwrap();
    let rows = queries["queries"].as_array().unwrap();
    let row = rows.iter().find(|row| row["text"].as_str().unwrap().contains(word));
    row.unwrap()["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_client_that_keeps_its_server_is_not_idle_while_its_statement_runs() {
    let limits = tenants(&format!("{RULES}[tenant.limits.s]\nidle_timeout = '1s'\n"));
    let session = Site::behind(Session, |proxy| proxy.size(4).with(|settings| settings.tenants = limits.clone()));
    let mut client = client_of(&session, "s");
    let state = |site: &Site| {
        let page = http::fetch(site.admin(), "/api/v1/clients").json();
        page["clients"][0]["state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(state(&session), "idle");
    client.start_query("select pg_sleep(4)");
    eventually("it is active", || state(&session) == "active");
    client.reply().ok();
    assert_eq!(client.read_to_end().error().code(), "57P05", "then it is");

    let pinning = site("[tenant.limits.s]\nidle_timeout = '1s'\n");
    let mut client = client_of(&pinning, "s");
    client.query("create temporary table mine (n int)").ok();
    client.query("select pg_sleep(4)").ok();
    assert_eq!(client.read_to_end().error().code(), "57P05");
}

#[test]
fn the_time_of_one_statement_is_no_other_statements_time() {
    let strict = fingerprint("select 2, pg_sleep_for('1 millisecond')");
    let toml = format!("[tenant.fingerprint.{strict}]\nstatement_timeout = '200ms'\n");
    let site = site(&toml);
    let mut client = client_of(&site, "acme");
    let limited = |seconds: &str| format!("select 2, pg_sleep_for('{seconds} seconds')");
    // What stands before it is not struck by its limit, and it is by its own.
    client.start_query("select pg_sleep(1)").start_query(limited("30"));
    client.reply().ok();
    let asked = Instant::now();
    let error = client.reply().error().clone();
    assert!(error.code() == "57014" && error.detail().contains(&strict), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // The same where one Sync ends all of it; what stands behind has time again.
    for sql in ["select pg_sleep(1)", &limited("0.01"), "select pg_sleep(1)", &limited("30")] {
        client.parse("", sql).bind("", &[]).execute();
    }
    let asked = Instant::now();
    let reply = client.sync().reply();
    let error = reply.error();
    assert!(error.code() == "57014" && error.detail().contains(&strict), "{error:?}");
    assert_eq!(reply.rows().len(), 3, "{reply:?}");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_transaction_that_has_failed_has_an_end_too() {
    let site = site("[tenant.limits.t]\ntransaction_timeout = '500ms'\n");
    for busy in [false, true] {
        let mut client = client_of(&site, "t");
        client.query("begin").ok();
        assert_eq!(client.query("select 1 / 0").error().code(), "22012");
        let failed = Instant::now();
        while busy && failed.elapsed() < Duration::from_millis(1_500) {
            assert_eq!(client.query("select 1").error().code(), "25P02");
            std::thread::sleep(Duration::from_millis(100));
        }
        let error = client.read_to_end().error().clone();
        assert_eq!(error.code(), "25P04", "{error:?}");
        assert!(failed.elapsed() < Duration::from_secs(5), "{:?}", failed.elapsed());
    }
    // There is time to roll back what the limit itself has made fail.
    let mut client = client_of(&site, "t");
    client.query("begin").ok();
    assert_eq!(client.query("select pg_sleep(5)").error().code(), "57014");
    std::thread::sleep(Duration::from_millis(700));
    client.query("rollback").ok();
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_transaction_begins_where_its_own_request_does() {
    let site = site("[tenant.limits.t]\ntransaction_timeout = '1s'\n");
    let mut client = client_of(&site, "t");
    client.start_query("select pg_sleep(0.7)").start_query("begin").start_query("select pg_sleep(0.6)");
    for part in 0..3 {
        let reply = client.reply();
        assert!(reply.errors().is_empty(), "{part}: {reply:?}");
    }
    client.query("commit").ok();
}

#[test]
fn what_somebody_else_has_cancelled_is_not_told_as_the_tenants_limit() {
    let site = site("[tenant.limits.acme]\nstatement_timeout = '30s'\n");
    let mut client = client_of(&site, "acme");
    for sql in [
        "begin; set local statement_timeout = '50ms'; select pg_sleep(1)",
        "do $$ begin raise exception 'no' using errcode = '57014'; end $$",
        "select pg_cancel_backend(pg_backend_pid()), pg_sleep(1)",
    ] {
        let error = client.query(sql).error().clone();
        assert_eq!(error.code(), "57014", "{sql}: {error:?}");
        assert!(!error.detail().contains("acme"), "{sql}: {error:?}");
        client.query("rollback");
    }
    assert!(reached(&site, "acme", "statement_timeout").is_null());
}

#[test]
fn a_statement_that_a_client_sends_several_times_at_once_counts_once() {
    let strict = fingerprint("select 2, pg_sleep_for('1 millisecond')");
    let site = site(&format!("[tenant.fingerprint.{strict}]\nmax_statements = 1\n"));
    let mut client = client_of(&site, "acme");
    let sql = "select 2, pg_sleep_for('0.3 seconds')";
    for _ in 0..3 {
        client.parse("", sql).bind("", &[]).execute();
    }
    client.sync().send();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(client_of(&site, "acme").query(sql).error().code(), "53400", "another client's");
    let reply = client.reply();
    assert!(reply.errors().is_empty(), "{reply:?}");
    client_of(&site, "acme").query(sql).ok();
}

#[test]
fn a_client_that_is_silent_within_its_request_is_silent() {
    let site = site(
        "[tenant.limits.i]\nidle_in_transaction_timeout = '500ms'\n[tenant.limits.s]\nidle_timeout = '1s'\n[tenant.limits.o]\nidle_in_transaction_timeout = '500ms'\nmode = 'observe'\n",
    );
    site.run_directly("create table if not exists silent (n int)").ok();
    let last_words = |client: &mut RawClient| client.read_to_end().error().clone();
    // It runs for longer than that, and is let be; then its client is awaited.
    let mut client = client_of(&site, "i");
    client.parse("", "select pg_sleep(1)").bind("", &[]).execute().flush().send();
    client.read_until('C');
    assert_eq!(last_words(&mut client).code(), "25P03", "its Sync does not come");
    // Nothing was asked for: the server owes an answer, and gives none.
    let mut client = client_of(&site, "i");
    client.query("begin").ok();
    client.parse("", "select 1").bind("", &[]).execute().send();
    assert_eq!(last_words(&mut client).code(), "25P03");
    for begin in ["begin", "select 1"] {
        let mut client = client_of(&site, "i");
        client.query(begin).ok();
        client.start_query("copy silent from stdin");
        client.read_until('G');
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(100));
            client.say(frontend::copy_data(b"1\n")).send();
        }
        let spoke = Instant::now();
        assert_eq!(last_words(&mut client).code(), "25P03");
        assert!(spoke.elapsed() >= Duration::from_millis(400), "{:?}", spoke.elapsed());
    }
    let mut client = client_of(&site, "s");
    client.parse("", "select 1").bind("", &[]).execute().flush().send();
    client.read_until('C');
    assert_eq!(last_words(&mut client).code(), "57P05");

    let mut client = client_of(&site, "o");
    client.parse("", "select 1").bind("", &[]).execute().flush().send();
    client.read_until('C');
    std::thread::sleep(Duration::from_millis(800));
    client.sync().reply().ok();
    assert_eq!(reached(&site, "o", "idle_in_transaction_timeout")["observed"], 1);
}

#[test]
fn what_only_observes_counts_what_would_have_been_ended() {
    let limits = tenants(&format!(
        "{RULES}[tenant.limits.o]\nstatement_timeout = '300ms'\ntransaction_timeout = '300ms'\nqueue_timeout = '200ms'\nmode = 'observe'\n"
    ));
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(1).pool(|pool| pool.queue_timeout = Duration::from_secs(1));
        proxy.with(|settings| settings.tenants = limits)
    });
    let observed = |limit: &str| reached(&site, "o", limit)["observed"].as_u64().unwrap_or(0);
    let mut client = client_of(&site, "o");
    client.start_query("select pg_sleep(0.6)").start_query("select 1");
    client.reply().ok();
    client.reply().ok();
    assert_eq!((observed("statement_timeout"), observed("transaction_timeout")), (1, 1), "not what stood behind it");
    let fails = "do $$ begin perform pg_sleep(0.6); raise exception 'no'; end $$";
    assert_eq!(client.query(fails).error().code(), "P0001");
    assert_eq!((observed("statement_timeout"), observed("transaction_timeout")), (2, 2));
    assert_eq!(client.parse("", fails).bind("", &[]).execute().sync().reply().error().code(), "P0001");
    assert_eq!((observed("statement_timeout"), observed("transaction_timeout")), (3, 3));
    client.start_query("select pg_sleep(30)");
    std::thread::sleep(Duration::from_millis(600));
    client.vanish();
    eventually("one that went away is counted", || observed("statement_timeout") == 4);

    let mut holder = client_of(&site, "h");
    holder.query("begin").ok();
    assert_eq!(client_of(&site, "o").query("select 1").error().code(), "53300");
    assert_eq!(observed("queue_timeout"), 1);
}

#[test]
fn what_is_sent_behind_a_change_of_tenant_is_the_new_tenants() {
    let rules = "[[tenant.rule]]\nfrom = 'setting'\nname = 'app.tenant_id'\n[tenant.limits.acme]\nrow_limit = 5\n";
    let limits = tenants(rules);
    let site = Site::behind(Transaction, |proxy| proxy.size(2).with(|settings| settings.tenants = limits));
    let series = "select * from generate_series(1, 9)";
    let (set, reset) = ("set app.tenant_id = 'acme'", "reset app.tenant_id");
    let mut client = site.client();
    for (change, rows) in [(set, 5), (reset, 9), ("begin; set local app.tenant_id = 'acme'", 5), ("rollback", 9)] {
        client.say(frontend::query(change)).say(frontend::query(series)).send();
        client.reply().ok();
        assert_eq!(client.reply().rows().len(), rows, "{change}");
        client.query("rollback");
        if change.starts_with("begin") {
            client.query("begin; set local app.tenant_id = 'acme'").ok();
        }
    }
    for (change, rows) in [(set, 5), (reset, 9), ("select set_config('app.tenant_id', 'acme', false)", 5)] {
        for sql in [change, series] {
            client.parse("", sql).bind("", &[]).execute();
        }
        let reply = client.sync().reply();
        let of_series = reply.rows().len() - usize::from(change.starts_with("select"));
        assert_eq!(of_series, rows, "{change}: {reply:?}");
    }
}

#[test]
fn functions_of_large_objects_are_judged_and_so_is_a_blocked_tenants_begin() {
    const LO_CREAT: u32 = 957;
    const LO_TELL: u32 = 958;
    let site = site(
        "[tenant.limits.b]\nblocked = true\n[tenant.limits.r]\nread_only = true\n[tenant.limits.t]\ntables = ['runs']\n[tenant.limits.few]\nmax_statements = 1\n",
    );
    let call = |client: &mut RawClient, function: u32| {
        client.say(frontend::function_call(function, &[&0i32.to_be_bytes()])).reply()
    };
    let code = |tenant: &str, function: u32| {
        let reply = call(&mut client_of(&site, tenant), function);
        reply.errors().first().map(|error| error.code().to_owned()).unwrap_or_default()
    };
    assert_eq!(code("b", LO_CREAT), "42501");
    assert_eq!(code("r", LO_CREAT), "25006");
    assert_eq!(code("r", LO_TELL), "42704", "the server itself has no such object open");
    assert_eq!(code("t", LO_CREAT), "");
    let mut first = client_of(&site, "few");
    first.start_query("select pg_sleep(1)");
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(code("few", LO_CREAT), "53400");
    first.reply().ok();

    let mut blocked = client_of(&site, "b");
    for sql in ["begin", "savepoint a", "prepare transaction 'x'"] {
        assert_eq!(blocked.query(sql).error().code(), "42501", "{sql}");
    }
    for sql in ["rollback", "commit"] {
        blocked.query(sql).ok();
    }
}

#[test]
fn a_tenant_whose_silence_has_no_limit_is_not_ended_by_its_pools() {
    let limits = tenants(&format!("{RULES}[tenant.limits.free]\nidle_in_transaction_timeout = 0\n"));
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(4).with(|settings| settings.tenants = limits);
        proxy.pool(|pool| pool.idle_in_transaction_timeout = Duration::from_millis(300))
    });
    let (mut free, mut other) = (client_of(&site, "free"), client_of(&site, "other"));
    free.query("begin").ok();
    other.query("begin").ok();
    assert_eq!(other.read_to_end().error().code(), "25P03");
    assert_eq!(free.query("select 1").value(), "1", "it was silent for longer");
}
