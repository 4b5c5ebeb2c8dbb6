//! Functions and triggers that change the session which calls them: nothing of it meets the next client.

use std::time::Duration;

use config::PoolMode::Transaction;
use config::{OnUntracked, SessionState, Untracked};
use integration_tests::{RawClient, Site, eventually, http};

/// One server, whose functions are looked at so often.
fn site_of(answer: OnUntracked, every: Duration) -> Site {
    Site::behind(Transaction, |proxy| {
        proxy.size(1).pool(|pool| {
            pool.untracked = Untracked::default().with(SessionState::Function, Some(answer));
            pool.inspect_functions = Some(every);
            pool.queue_timeout = Duration::from_millis(800);
        })
    })
}

fn site(answer: OnUntracked) -> Site {
    site_of(answer, Duration::from_secs(3600))
}

/// A count that the metrics show for the only pool.
fn metric(site: &Site, name: &str) -> f64 {
    let text = http::fetch(site.admin(), "/metrics").body;
    let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn await_suspects(site: &Site) {
    eventually("the functions have been looked at", || metric(site, "pgweir_pool_suspects") > 0.0);
}

fn await_inspection(site: &Site, suspects: f64) {
    eventually("the functions have been looked at", || metric(site, "pgweir_pool_suspects") == suspects);
}

/// Functions that change their session, and what may run them without their name being seen.
const SCHEMA: &str = "
    create function become(who text) returns text language plpgsql as
        $$ begin perform set_config('app.tenant_id', who, false); return who; end $$;
    create function outer_become(who text) returns text language sql as $$ select become(who) $$;
    create function locks() returns int language plpgsql as $$ begin perform pg_advisory_lock(4); return 1; end $$;
    create function harmless() returns int language plpgsql as
        $$ begin perform set_config('app.tenant_id', 'local', true); return 1; end $$;
    create function on_order() returns trigger language plpgsql as
        $$ begin perform become('by trigger'); return new; end $$;
    create table orders (n int);
    create trigger t before insert on orders for each row execute function on_order();
    create view order_view as select n from orders;
    create view who as select become('by view') as who;
    create table parent (n int primary key);
    create table child (n int references parent on delete cascade);
    create function on_child() returns trigger language plpgsql as
        $$ begin perform become('by cascade'); return old; end $$;
    create trigger t before delete on child for each row execute function on_child();
    create table other (n int default length(become('by default')));
";

fn tenant(client: &mut RawClient) -> String {
    client.query("select coalesce(current_setting('app.tenant_id', true), '')").value()
}

#[test]
fn what_a_function_sets_is_its_callers_alone() {
    let site = site(OnUntracked::Pin);
    site.run_directly(SCHEMA).ok();
    for (sql, sets) in [
        ("select become('plain')", "plain"),
        ("select public.\"outer_become\"('nested')", "nested"),
        ("insert into orders values (1)", "by trigger"),
        ("insert into order_view values (1)", "by trigger"),
        ("select * from who", "by view"),
        ("insert into parent values (1); insert into child values (1); delete from parent", "by cascade"),
        ("insert into other default values", "by default"),
        ("with x as (select become('with') as w) select w from x", "with"),
    ] {
        let (mut caller, mut other) = (site.client(), site.client());
        caller.query("select 1").ok();
        await_suspects(&site);
        caller.query(sql).ok();
        assert_eq!(tenant(&mut caller), sets, "{sql}");
        let reply = other.query("select 1");
        assert_eq!(reply.error().code(), "53300", "{sql}: its caller keeps the connection");
        caller.terminate();
        assert_eq!(tenant(&mut other), "", "{sql}");
    }
    let mut client = site.client();
    client.query("select harmless()").ok();
    client.query("select * from orders").ok();
    assert_eq!(site.client().query("select 1").value(), "1", "nothing keeps it");
}

#[test]
fn the_extended_protocol_is_no_way_around() {
    let site = site(OnUntracked::Discard);
    site.run_directly(SCHEMA).ok();
    let (mut caller, mut other) = (site.client(), site.client());
    caller.query("select 1").ok();
    await_suspects(&site);
    caller.parse("named", "select become($1)").sync().reply().ok();
    for round in 0..3 {
        caller.bind("named", &["named"]).execute().sync().reply().ok();
        assert_eq!(tenant(&mut other), "", "named, round {round}");
        caller.parse("", "select become($1)").bind("", &["unnamed"]).execute().sync().reply().ok();
        assert_eq!(tenant(&mut other), "", "unnamed, round {round}");
        let long = format!("select become($1) /* {} */ || ''", "x".repeat(5000));
        caller.parse("", &long).bind("", &["long"]).execute().sync().reply().ok();
        assert_eq!(tenant(&mut other), "", "long, round {round}");
        caller.query("select locks()").ok();
        assert_eq!(other.query("select pg_try_advisory_xact_lock(4)").value(), "t", "round {round}");
        // The whole of a transaction sees what was set in it.
        caller.query("begin").ok();
        caller.query("select become('transaction')").ok();
        assert_eq!(tenant(&mut caller), "transaction");
        caller.query("commit").ok();
        assert_eq!(tenant(&mut other), "", "transaction, round {round}");
    }
}

#[test]
fn a_refused_function_is_refused_with_its_reason() {
    let site = site(OnUntracked::Reject);
    site.run_directly(SCHEMA).ok();
    let mut client = site.client();
    client.query("select 1").ok();
    await_suspects(&site);
    let reply = client.query("select become('x')");
    assert_eq!(reply.error().code(), "0A000");
    assert!(reply.error().hint().contains("pool.on_function"), "{reply:?}");
    let reply = client.parse("", "insert into orders values (1)").bind("", &[]).execute().sync().reply();
    assert_eq!(reply.error().code(), "0A000");
    client.query("select harmless()").ok();
    assert_eq!(tenant(&mut client), "");
}

#[test]
fn a_function_that_a_client_makes_is_seen_at_once() {
    let site = site(OnUntracked::Discard);
    let (mut maker, mut other) = (site.client(), site.client());
    maker.query("select 1").ok();
    eventually("the functions have been looked at", || metric(&site, "pgweir_pool_inspections_total") > 0.0);
    let body = "begin perform set_config('app.tenant_id', 'made', false); end";
    maker.query(format!("create function made() returns void language plpgsql as $$ {body} $$")).ok();
    maker.query("select made()").ok();
    assert_eq!(tenant(&mut other), "", "at once");
    await_inspection(&site, 1.0);
    maker.query("select made()").ok();
    assert_eq!(tenant(&mut other), "", "after the look");
    // In one transaction, by way of a name that only exists there.
    maker.query("begin").ok();
    maker.query(format!("create function again() returns void language plpgsql as $$ {body} $$")).ok();
    maker.query("select again()").ok();
    maker.query("commit").ok();
    assert_eq!(tenant(&mut other), "", "within its transaction");
    await_inspection(&site, 2.0);
    maker.query("drop function made(); drop function again()").ok();
    await_inspection(&site, 0.0);
}

#[test]
fn a_function_that_somebody_else_makes_is_seen_at_the_next_look() {
    let site = site_of(OnUntracked::Discard, Duration::from_secs(1));
    let (mut caller, mut other) = (site.client(), site.client());
    caller.query("select 1").ok();
    eventually("the functions have been looked at", || metric(&site, "pgweir_pool_inspections_total") > 0.0);
    site.run_directly(SCHEMA).ok();
    eventually("they have been looked at again", || metric(&site, "pgweir_pool_suspects") > 0.0);
    caller.query("select become('late')").ok();
    assert_eq!(tenant(&mut other), "");
}

#[test]
fn nothing_is_left_before_the_first_look() {
    for _ in 0..3 {
        let site = site(OnUntracked::Pin);
        site.run_directly(SCHEMA).ok();
        let mut caller = site.client();
        caller.query("select become('early')").ok();
        caller.terminate();
        assert_eq!(tenant(&mut site.client()), "");
    }
}

#[test]
fn a_catalogue_that_cannot_be_read_stops_nobody() {
    let site = site_of(OnUntracked::Pin, Duration::from_secs(1));
    site.run_directly(SCHEMA).ok();
    site.run_directly("create role blind login; revoke select on pg_proc from public").ok();
    let mut client = RawClient::login(site.address(), "blind", &site.database);
    client.query("select 1").ok();
    eventually("the look has failed", || {
        let text = http::fetch(site.admin(), "/metrics").body;
        text.lines().any(|line| {
            line.starts_with("pgweir_pool_inspections_total") && line.contains("failed") && !line.ends_with(" 0")
        })
    });
    assert_eq!(client.query("select 1").value(), "1");
    site.run_directly("grant select on pg_proc to public").ok();
}
