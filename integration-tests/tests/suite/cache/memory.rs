//! What the cache may hold, and that it holds no more.

use super::Ground;

const ITEMS: &str = "create table items (id int primary key, body text);
    insert into items select n, repeat('x', 1000) from generate_series(1, 500) n";

#[test]
fn no_more_is_held_than_allowed() {
    let ground = Ground::with(ITEMS, |cache| (cache.max_bytes, cache.tenant_share) = (100_000, 1.0));
    let mut client = ground.client();
    ground.cached(&mut client, "select body from items where id = 1");
    for round in 0..2 {
        for n in 1..=400 {
            let reply = client.query(format!("select body, {round} from items where id = {n}")).ok();
            assert_eq!(reply.rows()[0][0].len(), 1000);
            let held = ground.caches().store.held().0;
            assert!(held <= 100_000, "{held} bytes are held");
        }
    }
    let kept = ground.caches().store.len();
    assert!(kept > 20, "and it is made use of: {kept} entries");
    // Nothing is written: each that is not there any more has given way.
    assert_eq!(ground.fills(), kept + ground.evictions(), "as it is counted");
    ground.cached(&mut client, "select body from items where id = 1");
}

#[test]
fn no_tenant_holds_more_than_its_share() {
    let rules = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z0-9-]+)'";
    let mut cache = super::settings();
    (cache.max_bytes, cache.tenant_share) = (200_000, 0.25);
    let site = integration_tests::Site::behind(config::PoolMode::Transaction, |proxy| {
        proxy.size(4).with(|settings| {
            settings.cache = cache;
            settings.tenants = integration_tests::tenants(rules);
        })
    });
    site.run_directly(ITEMS);
    let ground = Ground { site };
    let mut small = ground.site.client_with(&[("application_name", "tenant:small")]);
    let mut greedy = ground.site.client_with(&[("application_name", "tenant:greedy")]);
    let sql = "select body from items where id = 1";
    ground.cached(&mut small, sql);
    for n in 1..=400 {
        greedy.query(format!("select body from items where id = {n}")).ok();
        let held = ground.caches().store.held().0;
        assert!(held <= 60_000, "{held} bytes are held, of which one tenant may have 50,000");
    }
    let kept = ground.caches().store.len();
    assert_eq!(ground.fills(), kept + ground.evictions(), "what gave way to the tenant's own is counted");
    assert!(ground.evictions() > 300, "{}", ground.evictions());
    let (reply, hit) = ground.asked(|| small.query(sql).ok());
    assert!(hit && reply.rows().len() == 1, "the answers of others stay");
}

#[test]
fn a_limit_may_be_lowered_while_it_runs() {
    let ground = Ground::with(ITEMS, |cache| cache.tenant_share = 1.0);
    let mut client = ground.client();
    ground.cached(&mut client, "select body from items where id = 1");
    for n in 1..=300 {
        client.query(format!("select body from items where id = {n}")).ok();
    }
    let mut smaller = super::settings();
    (smaller.max_bytes, smaller.tenant_share) = (50_000, 1.0);
    ground.caches().reload(&smaller);
    integration_tests::eventually("what is over is given back", || ground.caches().store.held().0 <= 50_000);
    ground.cached(&mut client, "select body from items where id = 1");
}
