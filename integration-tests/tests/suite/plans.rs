//! Plans of slow statements: asked for as the session would be planned, harmlessly, and told without a value.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, Proxy, ProxyProcess, RawClient, Site, eventually, frontend, http, tenants};
use serde_json::Value;

const SCHEMA: &str = "
    create table orders (id int primary key, email text, total int);
    insert into orders select n, 'user' || n || '@example.com', n % 100 from generate_series(1, 20000) n;
    create table calls (n int);
";

/// Whatever is said here is slow.
fn slow(builder: Builder) -> Builder {
    builder.size(2).with(|settings| settings.slow_log.threshold = Some(Duration::from_micros(1)))
}

fn site() -> Site {
    let site = Site::behind(Transaction, slow);
    site.run_directly(SCHEMA).ok();
    site.run_directly("vacuum analyze orders").ok();
    site
}

/// The rows of `/api/v1/plans` whose text holds these words.
fn plans(site: &Site, words: &str) -> Vec<Value> {
    let body = http::fetch(site.admin(), "/api/v1/plans?limit=1000").json();
    let rows = body["plans"].as_array().expect("a list of plans").clone();
    rows.into_iter().filter(|row| row["text"].as_str().unwrap().contains(words)).collect()
}

/// The one plan of a statement whose text holds these words, node by node.
fn plan(site: &Site, words: &str) -> Value {
    eventually("its plan is captured", || !plans(site, words).is_empty());
    let rows = plans(site, words);
    let [row] = rows.as_slice() else { panic!("{rows:#?}") };
    let path = format!("/api/v1/plans/{}", row["fingerprint"].as_str().unwrap());
    let whole = http::fetch(site.admin(), &path).json()["plans"][0].clone();
    assert_eq!(whole["text"], row["text"]);
    assert_eq!(whole["plans"].as_array().unwrap().len(), 1, "{whole:#}");
    whole["plans"][0].clone()
}

fn outcome(site: &Site, outcome: &str) -> u64 {
    let text = http::fetch(site.admin(), "/metrics").body;
    let name = format!("pgweir_plans_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse::<f64>().unwrap() as u64
}

/// Everything that the admin port tells.
fn told(site: &Site) -> String {
    let plans = http::fetch(site.admin(), "/api/v1/plans").json();
    let mut told = plans.to_string();
    for row in plans["plans"].as_array().unwrap() {
        told += &http::fetch(site.admin(), &format!("/api/v1/plans/{}", row["fingerprint"].as_str().unwrap())).body;
    }
    told + &http::fetch(site.admin(), "/api/v1/findings").body
}

#[test]
fn a_slow_query_has_its_plan_and_no_constant_is_in_it() {
    let site = site();
    let mut client = site.client();
    client.query("select id from orders where email = 'geheim@example.com' and total > 4711").ok();
    let plan = plan(&site, "email");
    assert_eq!(plan["summary"], "Seq Scan on orders", "{plan:#}");
    assert_eq!(plan["plan"]["Filter"], "((orders.total > ?) and (orders.email = ?::text))", "{plan:#}");
    assert!(plan["total_cost"].as_f64().unwrap() > 1.0 && plan["captures"] == 1, "{plan:#}");
    let told = told(&site);
    assert!(!told.contains("geheim") && !told.contains("4711"), "{told}");
}

/// The server runs it with a LIMIT, and plans it so.
#[test]
fn the_plan_is_that_of_the_text_with_its_row_limit() {
    let tenants = tenants("[tenant.default]\nrow_limit = 7\n");
    let site = Site::behind(Transaction, |builder| slow(builder).with(|settings| settings.tenants = tenants));
    site.run_directly(SCHEMA).ok();
    assert_eq!(site.client().query("select id from orders where total > 5").rows().len(), 7);
    let plan = plan(&site, "total");
    assert_eq!(plan["plan"]["Node Type"], "Limit", "{plan:#}");
}

#[test]
fn whoever_has_only_waited_for_a_connection_has_no_plan_asked_for() {
    let site = Site::behind(Transaction, |builder| {
        builder.size(1).with(|settings| settings.slow_log.threshold = Some(Duration::from_millis(400)))
    });
    site.run_directly(SCHEMA).ok();
    let (mut holder, mut waiting) = (site.client(), site.client());
    holder.query("begin").ok();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| waiting.query("select email from orders where id = 7").ok());
        std::thread::sleep(Duration::from_millis(900));
        holder.query("commit").ok();
        waiter.join().unwrap();
    });
    // Asked for behind it, if it had been.
    waiting.query("select count(*) from orders, pg_sleep(0.5)").ok();
    plan(&site, "pg_sleep");
    assert_eq!(plans(&site, "email"), [Value::Null; 0]);
    let query = http::fetch(site.admin(), "/api/v1/queries?text=email").json();
    assert!(query["queries"][0]["queue_ms"].as_f64().unwrap() > 400.0, "{query:#}");
}

#[test]
fn the_server_is_asked_once_a_minute_whatever_the_constants_are() {
    let site = site();
    let mut client = site.client();
    for id in 0..20 {
        client.query(format!("select total from orders where id = {id}")).ok();
    }
    plan(&site, "where id");
    for id in 0..20 {
        client.query(format!("select total from orders where id = {id}")).ok();
    }
    client.query("select id from orders where total = 7").ok();
    plan(&site, "where total");
    assert_eq!(plans(&site, "where id")[0]["plans"][0]["captures"], 1);
    assert_eq!(outcome(&site, "captured"), 2);
}

/// A Bind of one binary parameter for a text result.
fn bind_binary(statement: &str, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(statement.as_bytes());
    body.extend([0, 0, 1, 0, 1, 0, 1]);
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    body.extend([0, 1, 0, 1]);
    frontend::message(b'B', &body)
}

#[test]
fn bound_values_are_bound_again_in_text_and_in_binary() {
    let site = site();
    let mut client = site.client();
    client.parse("by_text", "select total from orders where id = $1").bind("by_text", &["17"]).execute().sync();
    client.send().reply().ok();
    let text = plan(&site, "where id");
    assert_eq!(text["summary"], "Index Scan using orders_pkey on orders");
    assert_eq!(text["plan"]["Index Cond"], "(orders.id = ?)", "a value, and not a parameter: {text:#}");

    client.say(frontend::parse("by_number", "select email from orders where total < $1 and id > 0", &[23]));
    // Two columns in binary are asked for where there is one in the plan.
    client.say(bind_binary("by_number", &4711i32.to_be_bytes()));
    client.execute().sync().send().reply().ok();
    let binary = plan(&site, "where total");
    assert!(binary["plan"]["Filter"].as_str().unwrap().contains("(orders.total < ?)"), "{binary:#}");
    // All of them have less than that, and the server knows only if it sees the value.
    assert!(binary["plan"]["Plan Rows"].as_f64().unwrap() > 19_000.0, "{binary:#}");
    assert!(!told(&site).contains("4711"));
}

#[test]
fn a_plan_is_made_in_the_session_s_role_and_with_its_settings() {
    let site = site();
    site.run_directly(
        "do $$ begin create role plan_reader; exception when duplicate_object then null; end $$;
         create table papers (id int primary key, tenant text, body text);
         insert into papers select n, 'a', 'x' from generate_series(1, 1000) n;
         alter table papers enable row level security;
         create policy own on papers using (tenant = current_setting('app.tenant'));
         grant select on papers to plan_reader",
    )
    .ok();
    let filter = |words: &str| plan(&site, words)["plan"]["Filter"].as_str().unwrap_or_default().to_owned();
    let mut client = site.client();
    client.query("select body as all_of_them from papers where id > 0").ok();
    assert!(!filter("body from papers where id >").contains("current_setting"));

    client.query("set role plan_reader").ok();
    client.query("set app.tenant = 'geheim'").ok();
    client.query("select id, body from papers").ok();
    assert_eq!(filter("select id, body from papers"), "(papers.tenant = current_setting(?::text))");

    client.query("reset role").ok();
    client.query("begin").ok();
    client.query("set local role plan_reader").ok();
    client.query("select set_config('app.tenant', 'geheim', true)").ok();
    client.query("set local enable_seqscan = off").ok();
    client.query("select tenant, body from papers order by id").ok();
    client.query("rollback").ok();
    let local = plan(&site, "select tenant, body");
    assert!(local["plan"].to_string().contains("current_setting"), "{local:#}");
    assert_eq!(local["settings"]["enable_seqscan"], "off", "{local:#}");
    assert_eq!(local["summary"], "Index Scan using papers_pkey on papers", "{local:#}");

    client.query("select body, id, tenant from papers").ok();
    assert_eq!(filter("select body, id, tenant"), "", "the transaction's role has ended with it");
    assert!(!told(&site).contains("geheim"));
}

#[test]
fn nothing_is_run_and_nothing_is_written() {
    let site = site();
    site.run_directly(
        "create function note() returns int volatile language plpgsql as
             'begin insert into calls values (1); return 1; end';
         create function sneaky() returns int immutable language plpgsql as
             'begin return note(); end';
         create function way_out() returns int immutable language plpgsql as
             'begin perform set_config(''transaction_read_only'', ''off'', true); return note(); end'",
    )
    .ok();
    let calls = || site.run_directly("select count(*) from calls").value();
    let mut client = site.client();
    client.query("select note() from orders limit 1").ok();
    assert_eq!(plan(&site, "note")["summary"], "Limit, Seq Scan on orders");
    assert_eq!(calls(), "1", "its client has called it, and nobody else");

    client.query("select id from orders where id = sneaky()").ok();
    let called = calls();
    assert_ne!(called, "1", "the planner calls it");
    eventually("the server has refused to plan", || outcome(&site, "failed") == 1);
    assert_eq!(calls(), called, "what the planner ran could not write");

    client.query("set session characteristics as transaction read write").ok();
    client.query("select email from orders where id = way_out()");
    let called = calls();
    client.query("begin; select 1 from orders limit 1").ok();
    client.query("select total from orders where id = way_out()");
    client.query("rollback").ok();
    eventually("the server has refused again", || outcome(&site, "failed") >= 2);
    assert_eq!(calls(), called, "there is no way out of a read-only transaction");
    assert_eq!(client.query("select count(*) from orders").value(), "20000");
}

#[test]
fn only_what_reads_is_planned() {
    let site = site();
    let mut client = site.client();
    for sql in [
        "insert into calls values (1)",
        "update orders set total = 1 where id = 1",
        "delete from calls",
        "with gone as (delete from calls returning n) select * from gone",
        "select * from orders where id = 1 for update",
        "select id into copy_of_orders from orders",
        "select pg_sleep(0.001)",
        "explain select 1 from orders",
        "select 1 from orders limit 1; select 2 from orders limit 1",
        "set work_mem = '5MB'",
        "table orders; delete from calls",
    ] {
        client.query(sql).ok();
    }
    client.parse("", "insert into calls values ($1)").bind("", &["1"]).execute().sync().send().reply().ok();
    // Whatever was asked for before this would have been told before it.
    client.query("select total from orders where id = 1").ok();
    plan(&site, "where id");
    assert_eq!(outcome(&site, "captured"), 1, "{}", http::fetch(site.admin(), "/api/v1/plans").body);
    assert_eq!(outcome(&site, "failed"), 0);
}

#[test]
fn what_cannot_be_asked_for_is_counted() {
    let site = site();
    let mut client = site.client();
    client.query(format!("select id from orders where email = '{}'", "x".repeat(20_000))).ok();
    eventually("the text is too long", || outcome(&site, "text") == 1);
    let long = "x".repeat(5_000);
    client.parse("", "select id from orders where email = $1").bind("", &[&long]).execute().sync().send().reply().ok();
    eventually("the value is too long", || outcome(&site, "parameters") == 1);
    client.query("create temporary table own (n int)").ok();
    client.query("select n from own").ok();
    eventually("nobody else has its table", || outcome(&site, "state") >= 1);
    assert_eq!(outcome(&site, "captured"), 0);
}

#[test]
fn a_lock_is_not_waited_for_and_the_connection_goes() {
    let site = site();
    let mut client = site.client();
    client.query("select email from orders where id = 1").ok();
    plan(&site, "email");
    let mut other = Cluster::shared().connect(&site.database);
    // The statement is slow because of the lock, and has gone when its plan is asked for: the lock is still there.
    other.query("begin; lock table calls in access exclusive mode").ok();
    client.query("set lock_timeout = '50ms'").ok();
    client.query("set statement_timeout = '40ms'").ok();
    assert_eq!(client.query("select n from calls").error().code(), "57014");
    eventually("the lock was not waited for", || outcome(&site, "timed_out") == 1);
    other.query("rollback").ok();
    let places = || {
        let text = http::fetch(site.admin(), "/metrics").body;
        text.lines().any(|line| line == "pgweir_side_connections{kind=\"plan\"} 0")
    };
    eventually("its connection has gone", places);
}

#[test]
fn a_client_that_keeps_its_server_connection_gets_plans_too() {
    let site = Site::behind(config::PoolMode::Session, slow);
    site.run_directly(SCHEMA).ok();
    let mut client = site.client();
    client.query("set enable_indexscan = off").ok();
    client.query("set enable_bitmapscan = off").ok();
    client.query("select total from orders where id = 17").ok();
    assert_eq!(plan(&site, "where id")["summary"], "Seq Scan on orders");
}

#[test]
fn plans_can_be_switched_off_while_it_runs() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, SCHEMA);
    let builder = slow(Proxy::before(cluster.address()));
    let mut settings = builder.settings();
    let proxy = builder.start();
    settings.slow_log.plans = false;
    proxy.reload(settings);
    let mut client = RawClient::login(proxy.address(), "postgres", &database);
    client.query("select total from orders where id = 1").ok();
    std::thread::sleep(Duration::from_millis(300));
    let text = http::fetch(proxy.admin(), "/metrics").body;
    assert!(text.lines().any(|line| line == "pgweir_plans_total{outcome=\"captured\"} 0"), "{text}");
}

#[test]
fn another_plan_than_ever_before_is_a_finding() {
    let site = site();
    site.run_directly("create index orders_email on orders (email); analyze orders").ok();
    let mut client = site.client();
    let run = |client: &mut RawClient| client.query("select id from orders where email = 'geheim@example.com'").ok();
    run(&mut client);
    assert_eq!(plan(&site, "email")["summary"], "Index Scan using orders_email on orders");
    site.run_directly("drop index orders_email").ok();
    run(&mut client);
    // It is not asked about twice within a minute.
    std::thread::sleep(Duration::from_secs(61));
    run(&mut client);
    let changes = || {
        let body = http::fetch(site.admin(), "/api/v1/findings?kind=plan_changed").json();
        body["findings"].as_array().unwrap().clone()
    };
    eventually("it is found", || !changes().is_empty());
    let finding = changes()[0].clone();
    assert_eq!(finding["evidence"], "Index Scan using orders_email on orders → Seq Scan on orders", "{finding:#}");
    assert_eq!(finding["child"]["text"], "select id from orders where email = ?");
    assert_ne!(finding["detail"]["plan_before"], finding["detail"]["plan_after"]);
    let seen = plans(&site, "email")[0]["plans"].clone();
    assert_eq!(seen.as_array().unwrap().len(), 2, "{seen:#}");
    assert_eq!(seen[0]["plan_hash"], finding["detail"]["plan_after"]);
    assert!(!told(&site).contains("geheim"));
}

#[test]
fn a_line_of_the_slow_log_names_the_plan() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, SCHEMA);
    let proxy = ProxyProcess::with_config(&format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
         [databases.'*']\nupstream = 'postgres://postgres@{}'\n[slow_log]\nthreshold = '5ms'\nper_minute = 100000\n[log]\nformat = 'json'\n",
        cluster.address()
    ));
    let mut client = RawClient::login(proxy.address(), "postgres", &database);
    let sql = "select n from calls, (select pg_sleep(0.02)) as nap";
    client.query("insert into calls values (1)").ok();
    // Until its functions have been looked at, every connection is suspect, and no plan is asked for.
    eventually("a line names the plan", || {
        client.query(sql).ok();
        proxy.log().contains("plan_hash")
    });
    assert!(http::fetch(proxy.admin(), "/api/v1/plans").json()["total"] == 1);
}

#[test]
fn the_newest_server_is_asked_too() {
    if !Cluster::has_version(18) {
        println!("skipped: there is no PostgreSQL 18 here");
        return;
    }
    let cluster = Cluster::builder().version(18).start();
    cluster.run("postgres", SCHEMA);
    cluster.run("postgres", "vacuum analyze orders");
    let proxy = slow(Proxy::before(cluster.address())).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.parse("", "select total from orders where id = $1").bind("", &["17"]).execute().sync().send().reply().ok();
    let rows = || http::fetch(proxy.admin(), "/api/v1/plans").json();
    let last = || {
        let fingerprint = rows()["plans"][0]["fingerprint"].as_str().unwrap().to_owned();
        http::fetch(proxy.admin(), &format!("/api/v1/plans/{fingerprint}")).json()["plans"][0]["plans"][0]["plan"]
            .clone()
    };
    eventually("the plan is captured", || rows()["total"] == 1);
    assert_eq!(last()["Index Cond"], "(orders.id = ?)", "{:#}", last());

    client.say(frontend::parse("by_number", "select email from orders where total < $1 and id > 0", &[23]));
    client.say(bind_binary("by_number", &4711i32.to_be_bytes()));
    client.execute().sync().send().reply().ok();
    eventually("the other one too", || rows()["total"] == 2);
    assert!(last()["Filter"].as_str().unwrap().contains("(orders.total < ?)"), "{:#}", last());
    assert!(last()["Plan Rows"].as_f64().unwrap() > 19_000.0, "the server has seen the value: {:#}", last());
}
