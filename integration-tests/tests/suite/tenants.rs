//! A tenant's limits, each seen by a client that runs into it.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::{Fields, RawClient, Site, http, tenants};

/// By `application_name`: `tenant:NAME`, and class `worker` where it begins with that.
pub(super) const RULES: &str = "
[[tenant.rule]]
from = 'application_name'
pattern = 'tenant:(?<tenant>[a-z0-9-]+)'
[[tenant.classify]]
class = 'worker'
from = 'application_name'
pattern = '^worker'
";

fn site(toml: &str) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(Transaction, |proxy| proxy.size(4).with(|settings| settings.tenants = tenants))
}

/// The error that a client which says nothing is ended with.
fn last_words(client: &mut RawClient) -> Fields {
    client.read_to_end().error().clone()
}

pub(super) fn client_of(site: &Site, application: &str) -> RawClient {
    site.client_with(&[("application_name", application)])
}

/// What is counted of a tenant's limit.
pub(super) fn reached(site: &Site, tenant: &str, limit: &str) -> serde_json::Value {
    let page = http::fetch(site.admin(), "/api/v1/tenants").json();
    let row = page["tenants"].as_array().unwrap().iter().find(|row| row["tenant"] == tenant).cloned();
    row.unwrap_or_default()["limits_reached"][limit].clone()
}

#[test]
fn the_fixed_names_of_the_configuration_hold() {
    let site = site(
        "[tenant.default]\nstatement_timeout = '30s'\nmode = 'enforce'\n[tenant.limits.acme]\nstatement_timeout = '200ms'\nmax_upstreams = 4\n",
    );
    let mut acme = client_of(&site, "web tenant:acme");
    let asked = Instant::now();
    let error = acme.query("select pg_sleep(30)").error().clone();
    let took = asked.elapsed();
    assert_eq!(error.code(), "57014");
    assert!(took < Duration::from_millis(500), "{took:?}");
    for said in ["tenant \"acme\"", "200ms", "statement_timeout of [tenant.limits.acme]"] {
        assert!(error.detail().contains(said), "{error:?}");
    }
    client_of(&site, "web tenant:globex").query("select pg_sleep(0.4)").ok();
    assert_eq!(reached(&site, "acme", "statement_timeout")["enforced"], 1);
}

#[test]
fn a_class_has_limits_and_a_tenant_wins_over_its_class() {
    let site =
        site("[tenant.class.worker]\nstatement_timeout = '100ms'\n[tenant.limits.acme]\nstatement_timeout = '5s'\n");
    let error = client_of(&site, "worker tenant:globex").query("select pg_sleep(1)").error().clone();
    assert!(
        error.detail().contains("(class \"worker\")") && error.detail().contains("[tenant.class.worker]"),
        "{error:?}"
    );
    client_of(&site, "web tenant:globex").query("select pg_sleep(0.3)").ok();
    client_of(&site, "worker tenant:acme").query("select pg_sleep(0.3)").ok();
}

#[test]
fn a_policy_is_rolled_out_in_phases() {
    let limits = |mode: &str| {
        format!("[tenant.default]\nmode = '{mode}'\nmax_rows = 5\nstatement_timeout = '50ms'\nread_only = true\n")
    };
    for (mode, notice, refused) in [("observe", false, false), ("warn", true, false), ("enforce", false, true)] {
        let site = site(&limits(mode));
        site.run_directly("create table if not exists things (n int)").ok();
        let mut client = client_of(&site, "tenant:acme");
        for (sql, code, limit) in [
            ("select * from generate_series(1, 10)", "53400", "max_rows"),
            ("select pg_sleep(0.2)", "57014", "statement_timeout"),
            ("insert into things values (1)", "25006", "read_only"),
        ] {
            let reply = client.query(sql);
            let told = reply.notices().iter().any(|notice| notice.hint().contains("only warns"));
            assert_eq!((told, !reply.errors().is_empty()), (notice, refused), "{mode} {sql}: {reply:?}");
            if refused {
                assert_eq!(reply.error().code(), code, "{sql}");
            }
            let kind = if refused {
                "enforced"
            } else if notice {
                "warned"
            } else {
                "observed"
            };
            assert_eq!(reached(&site, "acme", limit)[kind], 1, "{mode} {sql}");
        }
        assert_eq!(client.query("select 1").value(), "1");
    }
    let off = site(&limits("off"));
    client_of(&off, "tenant:acme").query("select * from generate_series(1, 10)").ok();
}

#[test]
fn rows_and_bytes_beyond_the_limit_are_cancelled_and_not_seen() {
    let limits =
        tenants(&format!("{RULES}[tenant.limits.rows]\nmax_rows = 1000\n[tenant.limits.bytes]\nmax_bytes = '64KiB'\n"));
    let site = Site::behind(Transaction, |proxy| proxy.size(1).with(|settings| settings.tenants = limits));
    let mut rows = client_of(&site, "tenant:rows");
    let mut bytes = client_of(&site, "tenant:bytes");
    let pid = rows.query("select pg_backend_pid()").value();
    for _ in 0..3 {
        let reply = rows.query("select * from generate_series(1, 3000000)");
        assert_eq!((reply.rows().len(), reply.error().code()), (1000, "53400"));
        let reply = rows.query("select * from generate_series(1, 1001)");
        assert_eq!((reply.rows().len(), reply.error().code()), (1000, "53400"), "done before the cancel");
        assert_eq!(rows.query("select * from generate_series(1, 1000)").rows().len(), 1000);
        let reply = rows.parse("", "select * from generate_series(1, 5000)").bind("", &[]).execute().sync().reply();
        assert_eq!((reply.rows().len(), reply.error().code()), (1000, "53400"));
        let reply = bytes.query("select repeat('x', 1000) from generate_series(1, 300000)");
        assert!(reply.rows().len() <= 66 && reply.error().code() == "53400", "{}", reply.rows().len());
        assert_eq!(bytes.query("select length(repeat('x', 1000))").value(), "1000");
    }
    assert_eq!(rows.query("select pg_backend_pid()").value(), pid, "the upstream lives on");
    // Behind what would be run all the same, an error that a client takes for the end would be a lie.
    rows.query("begin").ok();
    assert_eq!(rows.query("select * from generate_series(1, 3000000)").error().code(), "53400");
    rows.query("rollback").ok();
}

#[test]
fn statements_of_a_tenant_are_counted_and_metered() {
    let site = site(
        "[tenant.limits.few]\nmax_statements = 1\n[tenant.limits.slow]\nstatement_rate = 5\nstatement_burst = 3\n",
    );
    let mut first = client_of(&site, "tenant:few");
    let mut second = client_of(&site, "tenant:few");
    first.start_query("select pg_sleep(0.5)");
    std::thread::sleep(Duration::from_millis(150));
    let error = second.query("select 1").error().clone();
    assert_eq!(error.code(), "53400");
    assert!(error.message().contains("too many statements of tenant \"few\""), "{error:?}");
    client_of(&site, "tenant:other").query("select 1").ok();
    first.reply().ok();
    assert_eq!(second.query("select 1").value(), "1");

    let mut metered = client_of(&site, "tenant:slow");
    let codes: Vec<String> = (0..8)
        .map(|_| {
            let reply = metered.query("select 1");
            if !reply.errors().is_empty() { reply.error().code().to_owned() } else { String::new() }
        })
        .collect();
    assert_eq!(codes.iter().filter(|code| code.is_empty()).count(), 3, "{codes:?}");
    assert!(codes.iter().all(|code| code.is_empty() || code == "53400"), "{codes:?}");
    let hint = metered.query("select 1").error().hint().to_owned();
    assert!(hint.starts_with("Retry in "), "{hint}");
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(metered.query("select 1").value(), "1");
    // A way out of a transaction is never refused.
    metered.query("begin").ok();
    while metered.query("select 1").errors().is_empty() {}
    metered.query("rollback").ok();
}

#[test]
fn clients_of_a_tenant_are_counted() {
    let site = site("[tenant.limits.acme]\nmax_clients = 2\n");
    let (first, _second) = (client_of(&site, "tenant:acme"), client_of(&site, "tenant:acme"));
    let parameters = site.parameters(&[("application_name", "tenant:acme")]);
    let refused = RawClient::try_login(site.address(), &parameters, "").err().unwrap();
    assert_eq!(refused.code(), "53300");
    assert!(refused.message().contains("tenant \"acme\"") && refused.detail().contains("2 clients"), "{refused:?}");
    client_of(&site, "tenant:globex").query("select 1").ok();
    first.terminate();
    let deadline = Instant::now() + Duration::from_secs(5);
    while http::fetch(site.admin(), "/api/v1/clients").json()["clients"].as_array().unwrap().len() > 1 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    client_of(&site, "tenant:acme").query("select 1").ok();
}

#[test]
fn who_may_only_read_cannot_write_by_any_way() {
    let site = site("[tenant.limits.reader]\nread_only = true\n");
    site.run_directly("create table if not exists kept (n int); create or replace function sneaky() returns int language sql as 'insert into kept values (1) returning n'").ok();
    let mut reader = client_of(&site, "tenant:reader");
    reader.query("select count(*) from kept").ok();
    for sql in [
        "insert into kept values (1)",
        "with x as (insert into kept values (1) returning n) select * from x",
        "select sneaky()",
        "set default_transaction_read_only to off",
        "select set_config('transaction_read_only', 'off', false)",
        "begin read write",
        "start transaction read write",
        "set session characteristics as transaction read write",
        "create table other (n int)",
        "truncate kept",
        "select 1; delete from kept",
        "do $$ begin insert into kept values (1); end $$",
    ] {
        assert_eq!(reader.query(sql).error().code(), "25006", "{sql}");
    }
    reader.query("begin").ok();
    assert_eq!(reader.query("set transaction read write").error().code(), "25006");
    reader.query("rollback").ok();
    let prepared = reader.parse("w", "insert into kept values ($1)").bind("", &[]).sync().reply();
    drop(prepared);
    let extended = reader.parse("", "delete from kept").bind("", &[]).execute().sync().reply();
    assert_eq!(extended.error().code(), "25006");
    let mut writer = client_of(&site, "tenant:writer");
    assert_eq!(writer.query("select count(*) from kept").value(), "0");
    writer.query("insert into kept values (2)").ok();
    assert_eq!(reader.query("select n from kept").value(), "2");
}

#[test]
fn tables_that_are_not_listed_are_refused() {
    let site = site("[tenant.limits.reports]\ntables = ['runs', 'audit.*']\n");
    site.run_directly("create table if not exists runs (n int); create table if not exists users (n int); create schema if not exists audit; create table if not exists audit.log (n int)").ok();
    let mut client = client_of(&site, "tenant:reports");
    for sql in
        ["select * from runs", "select * from Runs r, audit.log l", "select 1", "begin", "commit", "show work_mem"]
    {
        client.query(sql).ok();
    }
    for sql in [
        "select * from users",
        "select * from runs where n in (select n from users)",
        "with users as (select * from users) select * from users",
        "insert into runs select * from users",
        "copy users to stdout",
        "select 1; select * from users",
        "select * from \"users\"",
        "do $$ begin end $$",
        "create table x (n int)",
    ] {
        let error = client.query(sql).error().clone();
        assert_eq!(error.code(), "42501", "{sql}: {error:?}");
    }
    let extended = client.parse("", "select * from users").bind("", &[]).execute().sync().reply();
    assert_eq!((extended.error().code(), extended.error().message()), ("42501", "permission denied for table users"));
}

#[test]
fn a_statement_by_its_fingerprint_is_blocked_or_limited() {
    let learn = site("");
    client_of(&learn, "tenant:acme").query("select n, 'x' from generate_series(1, 50) n where n > 0").ok();
    let queries = http::fetch(learn.admin(), "/api/v1/queries").json();
    let row = queries["queries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["text"].as_str().unwrap().contains("generate_series"));
    let fingerprint = row.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    drop(learn);

    let blocked = site(&format!("[tenant.fingerprint.{fingerprint}]\nblocked = true\n"));
    let mut client = client_of(&blocked, "tenant:acme");
    for sql in [
        "select n, 'y' from generate_series(2, 9) n where n > 7",
        "select 1; select n, 'x' from generate_series(1, 50) n where n > 0",
    ] {
        let error = client.query(sql).error().clone();
        assert_eq!(error.code(), "42501", "{sql}");
        assert!(error.detail().contains(&format!("[tenant.fingerprint.{fingerprint}]")), "{error:?}");
    }
    client.query("select n from generate_series(2, 9) n where n > 7").ok();

    let limited = site(&format!("[tenant.fingerprint.{fingerprint}]\nrow_limit = 3\n"));
    let mut client = client_of(&limited, "tenant:acme");
    let sql = "select n, 'x' from generate_series(1, 50) n where n > 0; -- a comment";
    assert_eq!(client.query(sql).rows().len(), 3);
    let sql = "/* why */ select n, 'x' from generate_series(1, 50) n where n > 0 -- a comment";
    assert_eq!(client.query(sql).rows().len(), 3);
    for name in ["", "named"] {
        for _ in 0..2 {
            let reply = client.parse(name, sql).bind(name, &[]).execute().sync().reply();
            assert_eq!(reply.rows().len(), 3, "{reply:?}");
            client.query("deallocate all").ok();
        }
    }
    assert_eq!(client.query("select n, 'x' from generate_series(1, 50) n where n > 0 limit 7").rows().len(), 7);
    assert!(reached(&limited, "acme", "row_limit")["enforced"].as_u64().unwrap() >= 4);
}

#[test]
fn transactions_and_silences_have_an_end() {
    let site = site(
        "[tenant.limits.t]\ntransaction_timeout = '300ms'\n[tenant.limits.i]\nidle_in_transaction_timeout = '200ms'\n[tenant.limits.s]\nidle_timeout = '1s'\n[tenant.limits.r]\nrequest_timeout = '300ms'\n",
    );
    let mut client = client_of(&site, "tenant:t");
    client.query("begin").ok();
    let error = client.query("select pg_sleep(5)").error().clone();
    assert_eq!((error.code(), error.message()), ("57014", "canceling statement due to transaction timeout"));
    assert_eq!(client.query("select 1").error().code(), "25P02");
    client.query("rollback").ok();
    client.query("begin").ok();
    assert_eq!(last_words(&mut client).code(), "25P04");

    let mut client = client_of(&site, "tenant:i");
    client.query("begin").ok();
    let error = last_words(&mut client);
    assert_eq!(error.code(), "25P03");
    assert!(error.detail().contains("[tenant.limits.i]"), "{error:?}");

    let mut client = client_of(&site, "tenant:s");
    let begun = Instant::now();
    assert_eq!(last_words(&mut client).code(), "57P05");
    assert!(begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(5));

    let mut client = client_of(&site, "tenant:r");
    let error = client.query("select pg_sleep(0.2); select pg_sleep(0.2); select pg_sleep(0.2)").error().clone();
    assert_eq!((error.code(), error.message()), ("57014", "canceling statement due to request timeout"));
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_comment_names_the_tenant_where_a_rule_lets_it_and_never_over_the_connection() {
    let by_comment = "[[tenant.rule]]\nfrom = 'comment'\nname = 'tenant'\n";
    let limits = "[tenant.limits.acme]\nmax_rows = 5\n";
    let open = Site::behind(Transaction, |proxy| {
        proxy.size(1).with(|s| s.tenants = tenants(&format!("{by_comment}{limits}")))
    });
    let mut client = open.client();
    let series = "select * from generate_series(1, 9)";
    assert_eq!(client.query(series).rows().len(), 9);
    assert_eq!(client.query(format!("{series} /*tenant='acme'*/")).error().code(), "53400");
    assert_eq!(client.query(series).rows().len(), 9, "the next statement says nothing");
    client.parse("s", &format!("/*tenant='acme'*/ {series}")).sync().reply();
    for _ in 0..2 {
        assert_eq!(client.bind("s", &[]).execute().sync().reply().error().code(), "53400");
        assert_eq!(client.query(series).rows().len(), 9);
    }
    // A connection that is of a tenant by a rule before it stays there.
    let site = site(&format!("{by_comment}{limits}[tenant.limits.globex]\nmax_rows = 7\n"));
    let mut spoofer = client_of(&site, "tenant:acme");
    assert_eq!(spoofer.query(format!("{series} /*tenant='globex'*/")).rows().len(), 5);
    assert_eq!(client_of(&site, "anybody").query(format!("{series} /*tenant='globex'*/")).rows().len(), 7);
}

#[test]
fn every_origin_names_the_tenant_of_a_live_session() {
    let rules = "
[[tenant.rule]]
from = 'user'
separator = '.'
[[tenant.rule]]
from = 'setting'
name = 'request.jwt.claims'
path = 'app_metadata.tenant_id'
[[tenant.rule]]
from = 'option'
name = 'app.tenant'
[[tenant.rule]]
from = 'network'
networks = ['127.0.0.0/8']
tenant = 'loopback'
";
    let site = Site::behind(Transaction, |proxy| proxy.size(2).with(|s| s.tenants = tenants(rules)));
    let tenant_of = |client: &mut RawClient| {
        client.query("select 1").ok();
        let page = http::fetch(site.admin(), "/api/v1/clients").json();
        let port = client.stream().local_addr().unwrap().as_socket().unwrap().port();
        let ends = |row: &&serde_json::Value| row["address"].as_str().unwrap().ends_with(&format!(":{port}"));
        let row = page["clients"].as_array().unwrap().iter().find(ends).cloned().unwrap();
        row["tenant"].as_str().unwrap().to_owned()
    };
    let mut plain = site.client();
    assert_eq!(tenant_of(&mut plain), "loopback");
    let mut option = site.client_with(&[("options", "-c app.tenant=by-option")]);
    assert_eq!(tenant_of(&mut option), "by-option");
    plain.query("set request.jwt.claims to '{\"app_metadata\": {\"tenant_id\": \"by-jwt\"}}'").ok();
    assert_eq!(tenant_of(&mut plain), "by-jwt");
    plain.query("begin").ok();
    plain.query("set local request.jwt.claims to '{\"app_metadata\": {\"tenant_id\": 42}}'").ok();
    assert_eq!(tenant_of(&mut plain), "42", "re-resolved inside of a transaction");
    plain.query("rollback").ok();
    assert_eq!(tenant_of(&mut plain), "by-jwt");
    // However the constant is spelt: the server has this tenant, and row security goes by it.
    for (spelt, tenant) in [
        (r#"E'{"app_metadata": {"tenant_id": "\x61cme"}}'"#, "acme"),
        (r#"$$ {"app_metadata": {"tenant_id": "globex"}} $$"#, "globex"),
        (r#"$x$ {"app_metadata": {"tenant_id": "it's"}} $x$"#, "it's"),
    ] {
        plain.query(format!("set request.jwt.claims = {spelt}")).ok();
        let set = "select current_setting('request.jwt.claims')::json #>> '{app_metadata,tenant_id}'";
        assert_eq!(plain.query(set).value(), tenant);
        assert_eq!(tenant_of(&mut plain), tenant, "{spelt}");
    }
    plain.query("set request.jwt.claims = \"none\"").ok();
    assert_eq!(plain.query("select current_setting('request.jwt.claims')").value(), "none");
    assert_eq!(tenant_of(&mut plain), "loopback");
    let user = plain.query("select current_user").value();
    let mut suffixed = RawClient::login(site.address(), &format!("{user}.by-suffix"), site.parameters(&[])[1].1);
    assert_eq!(tenant_of(&mut suffixed), "by-suffix");
    assert_eq!(suffixed.query("select current_user").value(), user);
}

#[test]
fn a_reload_takes_hold_in_mid_flight() {
    let limits = |rows: u32| tenants(&format!("{RULES}[tenant.limits.acme]\nmax_rows = {rows}\n"));
    let mut settings = None;
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(4).with(|settings| settings.tenants = limits(5));
        settings = Some(proxy.settings());
        proxy
    });
    let reload = |rows| site.reload(config::Settings { tenants: limits(rows), ..settings.clone().unwrap() });
    let mut client = client_of(&site, "tenant:acme");
    let series = "select * from generate_series(1, 9)";
    client.query("begin").ok();
    assert_eq!(client.query("select * from generate_series(1, 3000000)").error().code(), "53400");
    client.query("rollback").ok();
    client.query("begin").ok();
    reload(9);
    assert_eq!(client.query(series).rows().len(), 9);
    client.query("commit").ok();
    reload(1);
    assert_eq!(client.query(series).rows().len(), 1);
}

#[test]
fn a_transaction_that_begins_at_the_end_of_another_has_its_own_time() {
    let site = site(
        "[tenant.limits.t]\ntransaction_timeout = '700ms'\n[tenant.limits.o]\ntransaction_timeout = '300ms'\nmode = 'observe'\n",
    );
    let nap = "select pg_sleep(0.4)";
    let is_late = |client: &mut RawClient, sql: &str| {
        let reply = client.query(sql);
        let errors = reply.errors();
        assert!(errors.iter().all(|error| error.message() == "canceling statement due to transaction timeout"));
        !errors.is_empty()
    };
    let mut client = client_of(&site, "tenant:t");
    for end in ["commit and chain", "rollback and chain"] {
        client.query("begin").ok();
        assert!(!is_late(&mut client, nap));
        client.query(end).ok();
        assert!(!is_late(&mut client, nap), "{end}");
        assert!(is_late(&mut client, nap), "{end}: the next one has an end too");
        client.query("rollback and chain").ok();
        assert!(!is_late(&mut client, nap), "behind one that has failed");
        client.query("rollback").ok();
    }
    // One text may do the same.
    for next in ["commit; begin", "rollback; begin"] {
        client.query("begin").ok();
        assert!(!is_late(&mut client, nap));
        client.query(next).ok();
        assert!(!is_late(&mut client, nap), "{next}");
        assert!(is_late(&mut client, nap), "{next}: the next one has an end too");
        client.query("rollback").ok();
    }
    // And it ends with the old one's time, however many come behind it.
    client.query("begin").ok();
    assert!(
        is_late(&mut client, &format!("{nap}; commit and chain; {nap}")),
        "the server tells of the end with the last"
    );
    client.query("rollback").ok();
    // The silence of a client counts from there too.
    client.query("begin").ok();
    let begun = Instant::now();
    client.query(nap).ok();
    client.query("commit and chain").ok();
    assert_eq!(last_words(&mut client).code(), "25P04");
    assert!(begun.elapsed() >= Duration::from_millis(1_050), "{:?}", begun.elapsed());

    let mut client = client_of(&site, "tenant:o");
    client.query("begin").ok();
    client.query("select pg_sleep(0.2)").ok();
    client.query("commit and chain").ok();
    client.query("select pg_sleep(0.2)").ok();
    client.query("commit").ok();
    assert!(reached(&site, "o", "transaction_timeout").is_null(), "neither of the two took so long");
    client.query("begin; select pg_sleep(0.4)").ok();
    client.query("commit and chain").ok();
    assert_eq!(reached(&site, "o", "transaction_timeout")["observed"], 1);
}
