//! What a limit refuses is refused whoever holds the server connections; what ends a transaction never is; and what a limit
//! warns of is told.

use std::process::Stdio;
use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::process::pgweir;
use integration_tests::{RawClient, Scratch, Site, frontend, http, tenants};
use policy::fingerprint::{Analyser, Compat};

const RULES: &str = "
[[tenant.rule]]
from = 'application_name'
pattern = 'tenant:(?<tenant>[a-z0-9-]+)'
[[tenant.rule]]
from = 'comment'
name = 'tenant'
";

/// One server connection, and not much patience with who waits for it.
fn site(toml: &str) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(1).pool(|pool| pool.queue_timeout = Duration::from_secs(2));
        proxy.with(|settings| settings.tenants = tenants)
    })
}

fn client_of(site: &Site, tenant: &str) -> RawClient {
    site.client_with(&[("application_name", &format!("tenant:{tenant}"))])
}

fn fingerprint(sql: &str) -> String {
    format!("{:016x}", Analyser::new(Compat::default()).analyse(sql.as_bytes()).strict)
}

/// By the simple protocol, by the extended one, and by the latter without a Sync until the error is there.
fn codes(client: &mut RawClient, sql: &str) -> Vec<String> {
    let mut replies = vec![client.query(sql)];
    if !sql.contains(';') {
        replies.push(client.parse("", sql).bind("", &[]).execute().sync().reply());
        client.parse("", sql).bind("", &[]).execute().flush();
        let mut reply = client.read_until('E');
        reply.messages.extend(client.sync().reply().messages);
        replies.push(reply);
    }
    for reply in &replies {
        assert!(reply.shape().ends_with('Z') && reply.shape().matches('Z').count() == 1, "{sql}: {reply:?}");
    }
    replies.iter().map(|reply| reply.error().code().to_owned()).collect()
}

#[test]
fn a_statement_that_is_refused_waits_for_no_server() {
    let site = site(&format!(
        "[tenant.limits.blocked]\nblocked = true\n[tenant.limits.reader]\nread_only = true\n\
         [tenant.limits.runs]\ntables = ['runs']\n[tenant.limits.slow]\nstatement_rate = 1\nstatement_burst = 1\n\
         [tenant.fingerprint.{}]\nblocked = true\n",
        fingerprint("select 'never', 1")
    ));
    let mut prepared = client_of(&site, "other");
    prepared.parse("named", "select 'never', 1").sync().reply().ok();
    prepared.parse("", "select 4").sync().reply().ok();
    let mut holder = client_of(&site, "holder");
    holder.query("begin").ok();
    for (tenant, sql, code) in [
        ("blocked", "select 1", "42501"),
        ("blocked", "begin", "42501"),
        ("reader", "create table x (n int)", "25006"),
        ("reader", "begin read write", "25006"),
        ("runs", "select * from users", "42501"),
        ("runs", "do $$ begin end $$", "42501"),
        ("slow", "select 1; select 2", "53400"),
        ("other", "select 'never', 1", "42501"),
    ] {
        let codes = codes(&mut client_of(&site, tenant), sql);
        assert!(codes.iter().all(|told| told == code), "{tenant} {sql}: {codes:?}");
    }
    let reply = prepared.bind("named", &[]).execute().sync().reply();
    assert_eq!((reply.error().code(), reply.shape().as_str()), ("42501", "EZ"));

    let reply = prepared.parse("", "select 'never', 1").bind("", &[]).execute().sync().reply();
    assert_eq!((reply.error().code(), reply.shape().as_str()), ("42501", "EZ"));

    // A comment says whose the statement is, and the next is the connection's again.
    let mut comments = site.client_with(&[("application_name", "web")]);
    let told = codes(&mut comments, "/*tenant='blocked'*/ select 1");
    assert_eq!(told, ["42501"; 3]);
    comments.start_query("select 2, 'served'");
    assert!(comments.hears_nothing_for(Duration::from_millis(100)));
    let pool = http::fetch(site.admin(), "/api/v1/pools").json();
    assert!(pool.to_string().contains("\"waiting\":1"), "nobody waits but who will be served: {pool}");
    holder.query("commit").ok();
    assert_eq!(comments.reply().rows(), [["2", "served"]]);
    let reply = prepared.bind("", &[]).execute().sync().reply();
    assert_eq!(reply.error().code(), "26000", "what it has replaced is gone, as on a server");
    // What stands behind a statement that was refused is run, and those who were refused may go on.
    prepared.start_query("select 'never', 1").start_query("select true");
    assert_eq!((prepared.reply().error().code(), prepared.reply().value().as_str()), ("42501", "t"));
    let page = http::fetch(site.admin(), "/api/v1/tenants").json();
    let row = page["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == "runs").cloned().unwrap();
    assert_eq!(row["limits_reached"]["tables"]["enforced"], 6, "each is counted once: {row}");
}

#[test]
fn whatever_an_operator_has_named_is_refused_but_for_the_ways_out() {
    let texts = ["begin", "release a", "set work_mem = '1MB'", "discard all", "show work_mem"];
    let ways_out = ["rollback to a", "commit", "rollback"];
    let blocked: String = texts
        .iter()
        .chain(&ways_out)
        .fold(String::new(), |all, sql| all + &format!("[tenant.fingerprint.{}]\nblocked = true\n", fingerprint(sql)));
    let folder = Scratch::new();
    let head = "[auth]\nmethod = 'trust'\n[databases.x]\nupstream = 'postgres://h/x'\n";
    let file = folder.file("pgweir.toml", &format!("{head}{blocked}"));
    let explained = |sql: &str| {
        let asked = ["explain-policy", "--config", file.to_str().unwrap(), "--user", "u", "--sql", sql];
        String::from_utf8(pgweir(&asked).stdin(Stdio::null()).output().unwrap().stdout).unwrap()
    };
    assert!(explained("begin").contains("refused by blocked"), "{}", explained("begin"));
    assert!(explained("rollback").contains("verdict") && !explained("rollback").contains("refused"));

    let site = site(&blocked);
    let mut client = client_of(&site, "acme");
    for sql in texts {
        let told = codes(&mut client, sql);
        assert!(told.iter().all(|code| code == "42501"), "{sql}: {told:?}");
    }
    client.query("start transaction").ok();
    client.query("savepoint a").ok();
    assert_eq!(client.query("release a").error().code(), "42501");
    client.query("rollback to a").ok();
    client.parse("", "rollback to a").bind("", &[]).execute().sync().reply().ok();
    assert_eq!(client.query("commit").commands(), ["COMMIT"]);
    client.query("start transaction").ok();
    assert_eq!(client.parse("", "rollback").bind("", &[]).execute().sync().reply().commands(), ["ROLLBACK"]);
}

#[test]
fn what_is_blocked_is_refused_wherever_it_stands_in_a_text() {
    let named = |sql: &str| format!("[tenant.fingerprint.{}]\nblocked = true\n", fingerprint(sql));
    let site = site(&format!("[tenant.limits.blocked]\nblocked = true\n{}{}", named("begin"), named("commit")));
    let mut client = client_of(&site, "acme");
    for sql in ["commit; begin", "rollback; begin", "begin; commit", "select 1; begin", "commit; begin; select 1"] {
        client.query("start transaction").ok();
        // Nothing of the text is run, and the transaction has failed, as by a mistake in any of its statements.
        let reply = client.query(sql);
        assert_eq!((reply.error().code(), reply.shape().as_str(), reply.status()), ("42501", "EZ", 'E'), "{sql}");
        assert_eq!(client.query("commit").commands(), ["ROLLBACK"]);
    }
    // What ends a transaction is refused nowhere, though an operator has named it.
    client.query("start transaction; select 1; commit").ok();
    client.query("start transaction").ok();
    assert_eq!(client.query("rollback; commit").ok().status(), 'I');

    let mut holder = client_of(&site, "holder");
    holder.query("start transaction").ok();
    let mut blocked = client_of(&site, "blocked");
    for sql in ["commit; begin", "rollback; savepoint a", "commit; select 1"] {
        assert_eq!(codes(&mut blocked, sql), ["42501"], "{sql}");
    }
    holder.query("commit").ok();
    blocked.query("commit; rollback").ok();
}

#[test]
fn one_too_many_waits_for_no_server() {
    let copy = "copy held from stdin";
    let site = site(&format!(
        "[tenant.limits.few]\nmax_statements = 1\n[tenant.fingerprint.{}]\nmax_statements = 1\n",
        fingerprint(copy)
    ));
    for (tenant, sql) in [("few", "select 1"), ("other", copy)] {
        let mut holder = client_of(&site, tenant);
        holder.query("begin; create temp table held (n int) on commit drop").ok();
        assert_eq!(holder.start_query(copy).read_until('G').shape(), "G");
        let told = codes(&mut client_of(&site, tenant), sql);
        assert_eq!(told, ["53400"; 3], "{tenant} {sql}");
        holder.say(frontend::copy_done()).send().reply().ok();
        holder.query("commit").ok();
    }
    client_of(&site, "few").query("select 1").ok();
}

#[test]
fn a_call_by_number_and_a_message_too_long_to_be_held_wait_for_no_server() {
    let site = site(
        "[tenant.limits.blocked]\nblocked = true\n[tenant.limits.reader]\nread_only = true\n\
         [tenant.limits.runs]\ntables = ['runs']\n",
    );
    let mut holder = client_of(&site, "holder");
    holder.query("begin").ok();
    let called = |function| frontend::function_call(function, &[&0i32.to_be_bytes()]);
    let (lo_tell, lo_unlink, now) = (958, 964, 1299);
    let long = format!("select 1 /* {} */", "x".repeat(600 * 1024));
    for (application, bytes, code) in [
        ("tenant:blocked", called(lo_tell), "42501"),
        ("tenant:reader", called(lo_unlink), "25006"),
        ("tenant:runs", called(now), "42501"),
        ("tenant:blocked", frontend::query(&long), "42501"),
        ("tenant:reader", frontend::query(&long), "25006"),
        ("tenant:runs", frontend::query(&long), "42501"),
        ("web", frontend::query(format!("/*tenant='blocked'*/ {long}")), "42501"),
    ] {
        let mut client = site.client_with(&[("application_name", application)]);
        client.say(&bytes).say(&bytes);
        // What stands behind the first is read from where it begins.
        for reply in [client.reply(), client.reply()] {
            assert_eq!((reply.shape().as_str(), reply.error().code()), ("EZ", code), "{application}: {reply:?}");
        }
    }
    holder.query("commit").ok();
    let told = client_of(&site, "runs").say(called(lo_tell)).reply();
    assert_eq!(told.error().code(), "42704", "the server itself has no such object open");
}

#[test]
fn what_begins_ends_or_divides_a_transaction_takes_no_token_and_what_sets_something_does() {
    let site = site("[tenant.limits.slow]\nstatement_rate = 1\nstatement_burst = 5\n");
    let mut client = client_of(&site, "slow");
    let mut tries = 0;
    while client.query("set work_mem = '1MB'").errors().is_empty() {
        tries += 1;
        assert!(tries < 100, "SET is a statement like others");
    }
    for _ in 0..20 {
        for sql in ["begin", "savepoint a", "rollback to a", "release a", "commit", "begin", "rollback"] {
            client.query(sql).ok();
            let reply = client.parse("", sql).bind("", &[]).execute().sync().reply();
            assert!(reply.errors().iter().all(|error| error.code() != "53400"), "{sql}: {reply:?}");
            if !reply.errors().is_empty() {
                client.query("rollback").ok();
                client.query("begin; savepoint a").ok();
            }
        }
    }
    // A transaction that a refusal has failed can be left.
    client.query("begin").ok();
    while client.query("select 1").errors().is_empty() {}
    assert_eq!(client.query("commit").commands(), ["ROLLBACK"]);
}

#[test]
fn a_request_and_a_transaction_that_took_too_long_are_told_with_their_end() {
    let site = site(
        "[tenant.limits.r]\nmode = 'warn'\nrequest_timeout = '100ms'\n[tenant.limits.t]\nmode = 'warn'\ntransaction_timeout = '100ms'\n",
    );
    let told = |reply: &integration_tests::Reply| {
        let notices = reply.notices();
        let warned = notices.iter().filter(|notice| notice.hint().contains("only warns")).count();
        assert!(reply.shape().ends_with("CZ"), "{}", reply.shape());
        warned
    };
    let mut client = client_of(&site, "r");
    let sleep = "select pg_sleep(0.2)";
    assert_eq!(told(&client.query(sleep)), 1);
    assert_eq!(told(&client.query("select 1")), 0);
    assert_eq!(told(&client.parse("", sleep).bind("", &[]).execute().sync().reply()), 1);
    client.start_query(sleep).start_query("select 1");
    assert_eq!((told(&client.reply()), told(&client.reply())), (1, 0), "not what stood behind it");

    let mut client = client_of(&site, "t");
    assert_eq!(told(&client.query(sleep)), 1, "one without BEGIN too");
    client.query("begin").ok();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(told(&client.query("select 1")), 0);
    assert_eq!(told(&client.query("commit")), 1);
    assert_eq!(told(&client.query("select 1")), 0);
}
