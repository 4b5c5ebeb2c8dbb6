//! Answers that are given, until an operator ends them.

use config::PoolMode::Transaction;
use integration_tests::{Cluster, Site, http, tenants};

use super::{CacheRule, Ground, all, settings};

const SCHEMA: &str = "create table items (id int primary key, n int); insert into items values (1, 0);
    create table parts (id int, day int) partition by range (day);
    create table part_1 partition of parts for values from (1) to (2); insert into parts values (0, 1)";

/// Tenants by application_name, and a tag.
fn ground() -> Ground {
    let rule = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z0-9-]+)'\n";
    let mut cache = settings();
    cache.rules = vec![CacheRule { tags: vec!["workflow".into()], ..all() }];
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(8).with(|settings| (settings.cache, settings.tenants) = (cache, tenants(rule)))
    });
    Cluster::shared().run(&site.database, SCHEMA);
    Ground { site }
}

fn end(ground: &Ground, what: &str) {
    let answer = http::change(ground.site.admin(), "POST", "/api/v1/cache/invalidate", what);
    assert_eq!(answer.status, 200, "{what}: {}", answer.body);
}

#[test]
fn an_answer_that_is_given_is_not_given_any_more() {
    let ground = ground();
    let sql = "select n from items where id = 1";
    let mut acme = ground.site.client_with(&[("application_name", "tenant:acme")]);
    let mut other = ground.site.client_with(&[("application_name", "tenant:other")]);
    let ways = [
        (r#"{"tag": "workflow"}"#, true),
        (r#"{"table": "public.items"}"#, true),
        (r#"{"table": "items"}"#, true),
        (r#"{"tenant": "acme"}"#, false),
        (r#"{"all": true}"#, true),
    ];
    for (n, (what, of_others)) in (1..).zip(ways) {
        for client in [&mut acme, &mut other] {
            ground.cached(client, sql);
        }
        // Nobody is told of this: what is older shows.
        ground.direct().query(format!("update items set n = {n}")).ok();
        let (old, new) = ((n - 1).to_string(), n.to_string());
        assert_eq!([&mut acme, &mut other].map(|client| client.query(sql).value()), [old.as_str(), &old], "{what}");
        end(&ground, what);
        let seen = [&mut acme, &mut other].map(|client| client.query(sql).value());
        assert_eq!(seen, [new.as_str(), if of_others { &new } else { &old }], "{what}");
        end(&ground, r#"{"tenant": "other"}"#);
    }
}

#[test]
fn a_partitioned_table_is_ended_with_its_partitions_and_a_partition_with_it() {
    let ground = ground();
    let mut client = ground.client();
    let (whole, part) = ("select id from parts", "select id from part_1");
    for (n, table) in (1..).zip(["parts", "part_1"]) {
        for sql in [whole, part] {
            ground.cached(&mut client, sql);
        }
        ground.direct().query(format!("update parts set id = {n}")).ok();
        end(&ground, &format!(r#"{{"table": "{table}"}}"#));
        assert_eq!([whole, part].map(|sql| client.query(sql).value()), [n.to_string(), n.to_string()], "{table}");
    }
}
