//! Writes past this process: those of another instance, those of whoever is connected to the server itself. The slot tells
//! of them: `strict` answers as the server would, `coherent` knows all that is older than a quarter of a second.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use config::CacheFreshness::{self, Coherent, Strict};
use integration_tests::{Cluster, Proxy, RawClient, Reply, eventually, within};
use pgweir::cache::Caches;
use policy::cache::MAX_LAG;

use super::versions::{Cast, play};
use super::{seed, settings, writers};

/// A server that tells of its changes, all of its tables published.
pub(super) fn server(schema: &str) -> Cluster {
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    cluster.run("postgres", schema);
    cluster.run(
        "postgres",
        "do $$ declare t regclass; begin
            for t in select c.oid from pg_class c where relnamespace = 'public'::regnamespace and relkind = 'r'
                and not exists (select from pg_index where indrelid = c.oid and indisprimary) loop
                execute format('alter table %s replica identity full', t);
            end loop; end $$;
         create publication pgweir_cache for tables in schema public",
    );
    cluster
}

/// A proxy before it that hears of writes.
pub(super) fn proxy_before(cluster: &Cluster, freshness: CacheFreshness) -> Proxy {
    let mut cache = settings();
    cache.sole_writer = false;
    cache.rules[0].freshness = freshness;
    Proxy::before(cluster.address()).size(8).with(|settings| settings.cache = cache).start()
}

/// A server and a proxy before it that hears of writes.
pub(super) fn listening(schema: &str) -> (Cluster, Proxy) {
    let cluster = server(schema);
    let proxy = proxy_before(&cluster, Coherent);
    (cluster, proxy)
}

/// Asks until the answer comes from the cache.
pub(super) fn until_hit(caches: &Caches, client: &mut RawClient, sql: &str) -> Reply {
    let mut last = None;
    let hit = within(integration_tests::patience::PATIENCE, || {
        let before = hits(caches);
        last = Some(client.query(sql).ok());
        hits(caches) > before
    });
    let troubles: Vec<_> = caches.all().iter().map(|cached| (cached.trouble(), cached.slot_trouble())).collect();
    assert!(hit, "no answer to {sql} comes from the cache: {troubles:?} {:?}", caches.counters);
    last.expect("a reply")
}

pub(super) fn hits(caches: &Caches) -> u64 {
    caches.counters.hits.load(Ordering::Relaxed)
}

pub(super) fn client_of(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

/// Readers and writers at once through two proxies, and a writer beside both.
fn two_instances(freshness: CacheFreshness, lag: Option<Duration>) {
    let cluster = server(writers::SCHEMA);
    let proxies = [proxy_before(&cluster, freshness), proxy_before(&cluster, freshness)];
    let sql = "select key, version from main order by key";
    proxies.iter().for_each(|proxy| drop(until_hit(proxy.caches(), &mut client_of(proxy), sql)));
    let (next, before) = (std::sync::atomic::AtomicUsize::new(0), proxies.each_ref().map(|proxy| hits(proxy.caches())));
    let cast = Cast {
        readers: &|| client_of(&proxies[next.fetch_add(1, Ordering::SeqCst) % 2]),
        writers: &|writer| match writer {
            0 | 1 => client_of(&proxies[writer]),
            _ => cluster.connect("postgres"),
        },
        lag,
        rest_ms: 100,
    };
    let reads = play(&cast, seed());
    let hit: Vec<u64> = proxies.iter().zip(before).map(|(proxy, before)| hits(proxy.caches()) - before).collect();
    println!("{hit:?} hits of {reads} reads");
    for proxy in &proxies {
        println!("{:?}", proxy.caches().counters);
    }
    assert!(hit.iter().all(|hit| *hit > 0) && hit[0] + hit[1] > 20, "{hit:?} of {reads} reads came from the cache");
}

#[test]
fn strict_answers_are_never_older_than_what_anybody_has_written() {
    two_instances(Strict, None);
}

#[test]
fn coherent_answers_know_all_that_is_older_than_a_moment() {
    two_instances(Coherent, Some(MAX_LAG + Duration::from_millis(10)));
}

#[test]
fn a_write_through_one_instance_ends_answers_of_the_other() {
    let cluster = server("create table runs (id int primary key, n int); insert into runs values (1, 0)");
    let (one, two) = (proxy_before(&cluster, Coherent), proxy_before(&cluster, Coherent));
    let (mut writer, mut reader) = (client_of(&one), client_of(&two));
    for n in 1..10 {
        until_hit(two.caches(), &mut reader, "select n from runs");
        writer.query(format!("update runs set n = {n}")).ok();
        assert_eq!(writer.query("select n from runs").value(), n.to_string(), "who wrote sees it at once");
        std::thread::sleep(MAX_LAG);
        assert_eq!(reader.query("select n from runs").value(), n.to_string());
    }
}

#[test]
fn without_a_slot_nothing_is_answered_and_with_it_again() {
    let (cluster, proxy) = listening("create table runs (id int primary key, n int); insert into runs values (1, 0)");
    let (mut client, mut beside) = (client_of(&proxy), cluster.connect("postgres"));
    let sql = "select n from runs";
    until_hit(proxy.caches(), &mut client, sql);
    for n in 1..4 {
        beside.query("select pg_terminate_backend(pid) from pg_stat_replication").ok();
        beside.query(format!("update runs set n = {n}")).ok();
        let acknowledged = Instant::now();
        // Read all the time: from a moment behind the write on, nothing is older than it.
        let mut rounds = 0;
        while acknowledged.elapsed() < Duration::from_millis(600) {
            let due = acknowledged.elapsed() > MAX_LAG;
            let seen = client.query(sql).value();
            assert!(!due || seen == n.to_string(), "{seen} instead of {n}");
            rounds += 1;
        }
        assert!(rounds > 10);
        assert_eq!(until_hit(proxy.caches(), &mut client, sql).value(), n.to_string(), "and it listens again");
    }
    // Nothing is left behind when it goes.
    drop(client);
    drop(proxy);
    eventually("its slot is gone", || cluster.value("postgres", "select count(*) from pg_replication_slots") == "0");
}

#[test]
fn a_table_that_is_not_published_is_not_cached() {
    let cluster = server("create table runs (id int primary key); insert into runs values (1)");
    cluster.run("postgres", "create schema apart; create table apart.runs as select 7 as id");
    let proxy = proxy_before(&cluster, Coherent);
    let mut client = client_of(&proxy);
    until_hit(proxy.caches(), &mut client, "select id from runs");
    let before = hits(proxy.caches());
    for n in 8..12 {
        cluster.run("postgres", &format!("update apart.runs set id = {n}"));
        assert_eq!(client.query("select id from apart.runs").value(), n.to_string());
        assert_eq!(client.query("select id from apart.runs").value(), n.to_string());
    }
    assert_eq!(hits(proxy.caches()), before);
    until_hit(proxy.caches(), &mut client, "select id from runs");
}

#[test]
fn a_server_that_tells_nothing_is_not_cached() {
    // wal_level = replica.
    let cluster = Cluster::builder().start();
    cluster.run("postgres", "create table runs (id int primary key); insert into runs values (1)");
    let proxy = proxy_before(&cluster, Coherent);
    let mut client = client_of(&proxy);
    for n in 2..30 {
        cluster.run("postgres", &format!("update runs set id = {n}"));
        assert_eq!(client.query("select id from runs").value(), n.to_string());
        assert_eq!(client.query("select id from runs").value(), n.to_string());
    }
    assert_eq!(hits(proxy.caches()), 0);
    eventually("it says why", || proxy.caches().all().iter().any(|cached| cached.slot_trouble().is_some()));
}
