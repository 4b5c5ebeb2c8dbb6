//! What looks alike and is not: the same text under other limits, prepared before another schema, under other settings of
//! the server, of tenants that share a name.

use integration_tests::patience::PATIENCE;
use integration_tests::{Cluster, Proxy, RawClient, Site, eventually, frontend, http, tenants, within};

use super::{CacheRule, Ground, LONG, Transaction, all, settings};

const SCHEMA: &str = "create table runs (id int primary key, n int, at timestamptz);
    insert into runs select n, n, '2026-11-29 12:00+00' from generate_series(1, 9) n";

/// A cache before a database, and tenants by application_name.
pub(super) fn ruled(toml: &str) -> Ground {
    let rule = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z0-9-]+)'\n";
    let tenants = tenants(&format!("{rule}{toml}"));
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(8).with(|settings| (settings.cache, settings.tenants) = (super::settings(), tenants))
    });
    Cluster::shared().run(&site.database, SCHEMA);
    Ground { site }
}

pub(super) fn called(ground: &Ground, name: &str) -> RawClient {
    let parameters = [("user", "postgres"), ("database", &*ground.site.database), ("application_name", name)];
    RawClient::login_with(ground.site.address(), &parameters, "")
}

#[test]
fn an_answer_that_was_cut_is_nobody_elses() {
    let ground = ruled(
        "[[tenant.classify]]\nfrom = 'application_name'\npattern = 'batch'\nclass = 'worker'\n\
         [tenant.class.worker]\nrow_limit = 3\n",
    );
    let (mut worker, mut other) = (called(&ground, "tenant:acme batch"), called(&ground, "tenant:acme"));
    let sql = "select id, n from runs where n > 0";
    assert_eq!(ground.cached(&mut other, sql).rows().len(), 9);
    for _ in 0..3 {
        assert_eq!(worker.query(sql).rows().len(), 3, "the limit holds beside an answer that is kept");
        assert_eq!(other.query(sql).rows().len(), 9);
    }
    // The other way round: nothing of a cut answer is kept.
    let sql = "select id, n from runs where n > -1";
    for _ in 0..3 {
        assert_eq!(worker.query(sql).rows().len(), 3);
    }
    assert_eq!(other.query(sql).rows().len(), 9);
    for _ in 0..3 {
        let reply = worker.parse("", sql).bind("", &[]).execute().sync().reply();
        assert_eq!(reply.rows().len(), 3, "{reply:?}");
    }
    let reply = other.parse("", sql).bind("", &[]).execute().sync().reply();
    assert_eq!(reply.rows().len(), 9, "{reply:?}");
    // What has a limit of its own is not rewritten, and may be kept.
    assert_eq!(ground.cached(&mut worker, "select id from runs limit 5").rows().len(), 5);
}

/// A client reads rows by the description that it was given: where that is another one now, the server refuses.
#[test]
fn who_was_told_another_result_gets_no_answer_of_the_new_one() {
    let ground = Ground::new(SCHEMA);
    let sql = "select * from runs where id = $1";
    let mut old = ground.client();
    old.parse("s", sql).say(frontend::describe(b'S', "s")).sync().reply().ok();
    let ask = |client: &mut RawClient| client.bind("s", &["1"]).execute().sync().reply();
    ground.until_hit(|| ask(&mut old).ok());
    ground.client().query("alter table runs add column more text default 'new'").ok();
    let mut new = ground.client();
    new.parse("s", sql).say(frontend::describe(b'S', "s")).sync().reply().ok();
    let reply = ground.until_hit(|| ask(&mut new).ok());
    assert_eq!(reply.rows()[0].len(), 4, "{reply:?}");
    let error = ask(&mut old).error().clone();
    assert_eq!(error.code(), "0A000", "{error:?}");
}

#[test]
fn settings_of_the_server_are_followed_over_a_reload() {
    let cluster = Cluster::builder().setting("timezone", "UTC").start();
    cluster.run("postgres", SCHEMA);
    let mut cache = settings();
    cache.catalog_poll = std::time::Duration::from_millis(50);
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = cache).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    let sql = "select at from runs where id = 1";
    let first = super::instances::until_hit(proxy.caches(), &mut client, sql);
    assert_eq!(first.value(), "2026-11-29 12:00:00+00");
    cluster.run("postgres", "alter system set timezone = 'Asia/Tokyo'");
    cluster.run("postgres", "select pg_reload_conf()");
    eventually("the new time zone is told", || client.query(sql).value() == "2026-11-29 21:00:00+09");
    assert!(proxy.caches().counters.invalidated.of(policy::cache::Invalidated::Catalog) > 0);
    // And kept again, by itself.
    assert_eq!(super::instances::until_hit(proxy.caches(), &mut client, sql).value(), "2026-11-29 21:00:00+09");
}

/// Connections that began with another default answer by it: nothing of that is kept.
#[test]
fn a_time_zone_that_sessions_begin_with() {
    let ground = Ground::new(SCHEMA);
    let zone = |name: &str| format!("alter database {} set timezone = '{name}'", ground.site.database);
    let (mut client, sql) = (ground.client(), "select at from runs where id = 1");
    let before = ground.cached(&mut client, sql).value();
    client.query(zone("Asia/Tokyo")).ok();
    let refused = || ground.caches().counters.refused.of(policy::cache::Refused::CatalogChanged);
    let known = refused();
    let told = within(PATIENCE, || {
        assert_eq!(client.query(sql).value(), before, "its connection goes on as it began");
        refused() > known + 3
    });
    assert!(told, "{}", ground.why());
}

#[test]
fn a_moment_is_a_moment_in_binary_format_too() {
    let ground = Ground::new(SCHEMA);
    let mut client = ground.client();
    let sql = "select count(*) from runs where at < $1::text::timestamptz";
    let ask = |client: &mut RawClient, value: &str| {
        let bind = frontend::bind_as("", "", &[(1, Some(value.as_bytes()))], &[]);
        client.parse("", sql).say(bind).execute().sync().reply().ok()
    };
    ground.until_hit(|| ask(&mut client, "2026-01-01"));
    ground.never_cached("a parameter that means now", || ask(&mut client, "now"));
    ground.until_hit(|| ask(&mut client, "2026-01-01"));
}

#[test]
fn tenants_without_a_place_of_their_own_share_no_answers() {
    let ground = ruled("[tenant]\nmax_tenants = 2\n");
    let sql = "select id, n from runs where n > 0";
    let mut first = called(&ground, "tenant:one");
    ground.cached(&mut first, sql);
    let mut more: Vec<_> = (0..6).map(|n| called(&ground, &format!("tenant:more-{n}"))).collect();
    more.iter_mut().for_each(|client| drop(client.query(sql).ok()));
    let mut last = more.pop().expect("six of them");
    ground.never_cached("a tenant beyond the bound", || last.query(sql).ok());
    ground.cached(&mut first, sql);
}

#[test]
fn a_part_that_no_answer_may_hold_denies_its_parent() {
    let denied = CacheRule { tables: vec!["secret".into()], ..deny() };
    let ground = Ground::with(
        "create table runs (id int, day int) partition by range (day);
         create table open partition of runs for values from (1) to (2);
         create table secret partition of runs for values from (2) to (3);
         create table other (id int); insert into runs values (1, 1), (2, 2)",
        |cache| cache.rules.insert(0, denied),
    );
    let mut client = ground.client();
    ground.cached(&mut client, "select count(*) from other");
    ground.never_cached("a table with a part that is denied", || client.query("select id from runs").ok());
    ground.cached(&mut client, "select id from open");
}

fn deny() -> CacheRule {
    CacheRule { effect: config::CacheEffect::Deny, ttl: LONG, ..all() }
}

/// Whoever is refused before its request goes anywhere holds nobody else up who wants the same.
#[test]
fn a_request_that_goes_nowhere_keeps_nobody_waiting() {
    let ground = ruled("[tenant.limits.acme]\nmax_upstreams = 1\nmax_waiting = 1\n");
    let sql = "select id, n from runs where n > 0";
    let mut clients: Vec<_> = (0..3).map(|_| called(&ground, "tenant:acme")).collect();
    ground.cached(&mut clients[0], sql);
    clients[0].query("begin; select 1").ok();
    // One waits for the connection, the next one is refused: it may wait for an answer first, and then finds none.
    clients[1].start_query("select pg_sleep(0)");
    eventually("it waits", || http::fetch(ground.site.admin(), "/api/v1/clients").body.contains("waiting"));
    assert_eq!(clients[2].query("select n from runs where n > 5").error().code(), "53400");
    assert!(ground.caches().flights.is_empty(), "nothing is under way for whoever was refused");
    clients[0].query("rollback").ok();
    clients[1].reply().ok();
}
