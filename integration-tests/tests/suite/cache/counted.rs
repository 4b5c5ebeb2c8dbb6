//! Statements that are answered from the cache count as all others do, and are told from them.

use config::PoolMode::Transaction;
use integration_tests::{Cluster, RawClient, Site, eventually, frontend, http, tenants};

use super::{Ground, page_of, settings};

#[test]
fn an_answer_from_the_cache_counts_for_its_statement_and_its_tenant() {
    let rule = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z0-9-]+)'\n";
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(2).with(|all| (all.cache, all.tenants) = (settings(), tenants(rule)))
    });
    Cluster::shared().run(&site.database, "create table items (id int primary key); insert into items values (1)");
    let ground = Ground { site };
    let mut client = ground.site.client_with(&[("application_name", "tenant:acme")]);
    let sql = "select id from items where id = 1";
    ground.cached(&mut client, sql);
    let counted = || {
        let page = page_of(&ground, "from items where");
        let of = |object: &serde_json::Value, field: &str| object[field].as_u64().expect("a count");
        let tenant = page["tenants"][0].clone();
        assert_eq!(tenant["tenant"], "acme");
        [(&page, "calls"), (&page, "cached_calls"), (&tenant, "calls"), (&tenant, "cached_calls")]
            .map(|(object, field)| of(object, field))
    };
    let before = counted();
    for _ in 0..5 {
        assert!(ground.asked(|| client.query(sql).ok()).1);
    }
    assert_eq!(counted(), before.map(|count| count + 5));
    client.query("select id from items where id = 1 /*+ cache off */").ok();
    let after = counted();
    assert_eq!((after[0], after[1]), (before[0] + 6, before[1] + 5), "asked of the server");
}

#[test]
fn a_burst_of_answers_from_the_cache_is_found() {
    let ground = Ground::new(
        "create table runs (id int primary key); create table steps (id int primary key, run int);
         insert into runs select 1000 + 7 * n from generate_series(1, 20) n;
         insert into steps select row_number() over (), id from runs",
    );
    let mut client = ground.client();
    let ask = |client: &mut RawClient, sql: &str, values: &[&str]| {
        client.parse("", sql).bind("", values).say(frontend::describe(b'P', "")).execute().sync().reply().ok()
    };
    let burst = |client: &mut RawClient| {
        let runs = ask(client, "select id from runs", &[]);
        for run in runs.rows() {
            ask(client, "select id from steps where run = $1::int", &[&run[0]]);
        }
    };
    // All of it is kept.
    eventually("all of it comes from the cache", || {
        let before = ground.hits();
        burst(&mut client);
        ground.hits() - before == 21
    });
    let found = || {
        let all = http::fetch(ground.site.admin(), "/api/v1/findings").json();
        all["findings"].as_array().expect("a list").iter().any(|one| one["kind"] == "n_plus_one")
    };
    eventually("it is found", || {
        burst(&mut client);
        found()
    });
}
