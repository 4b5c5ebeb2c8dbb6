//! `sole_writer` where the word is not kept: what a server can tell of it is found out, and nothing is served meanwhile.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{Cluster, Proxy, RawClient, Site, eventually};
use pgweir::cache::Caches;

use super::instances::{client_of, hits, until_hit};
use super::{Ground, settings};

const SCHEMA: &str = "create table items (id int primary key, n int); insert into items values (1, 1)";
const SQL: &str = "select n from items where id = 1";

fn trouble(caches: &Caches) -> String {
    caches.all().iter().find_map(|cached| cached.trouble()).unwrap_or_default()
}

/// Asks a few times; none of the answers comes from the cache.
fn never_hit(caches: &Caches, client: &mut RawClient) {
    let before = hits(caches);
    for _ in 0..5 {
        client.query(SQL).ok();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(hits(caches), before);
}

/// As in a restart by which a new process takes the port over while the old one serves its clients to their end.
#[test]
fn of_two_processes_that_are_told_to_be_the_only_one_neither_answers() {
    let cluster = Cluster::builder().start();
    cluster.run("postgres", SCHEMA);
    let start = || {
        let mut cache = settings();
        cache.catalog_poll = Duration::from_millis(100);
        Proxy::before(cluster.address()).size(4).with(|settings| settings.cache = cache).start()
    };
    let old = start();
    let mut reader = client_of(&old);
    until_hit(old.caches(), &mut reader, SQL);
    let new = start();
    let mut other = client_of(&new);
    other.query(SQL).ok();
    for caches in [old.caches(), new.caches()] {
        eventually("both know of each other", || trouble(caches).contains("sole_writer does not hold"));
    }
    // What the one writes, the other cannot hear of: it asks the server.
    other.query("update items set n = 2").ok();
    assert_eq!(reader.query(SQL).value(), "2");
    never_hit(old.caches(), &mut reader);
    never_hit(new.caches(), &mut other);
    drop((reader, old));
    assert_eq!(until_hit(new.caches(), &mut other, SQL).value(), "2");
    assert_eq!(trouble(new.caches()), "");
}

/// As of a process that was killed, whose server still runs what it was told.
#[test]
fn what_was_open_before_nobody_else_was_there_is_waited_for() {
    let site = Site::behind(Transaction, |proxy| proxy.size(4).with(|settings| settings.cache = self::settings()));
    Cluster::shared().run(&site.database, SCHEMA);
    let ground = Ground { site };
    let mut direct = ground.direct();
    direct.query("begin; update items set n = 2").ok();
    let mut client = ground.client();
    assert_eq!(client.query(SQL).value(), "1");
    eventually("it is said what is waited for", || trouble(ground.caches()).contains("transactions are open"));
    never_hit(ground.caches(), &mut client);
    direct.query("commit").ok();
    assert_eq!(ground.cached(&mut client, SQL).value(), "2");
    assert_eq!(trouble(ground.caches()), "");
}

/// The same of a transaction that is prepared, which no process holds open.
#[test]
fn what_was_prepared_before_is_waited_for() {
    let cluster = Cluster::builder().setting("max_prepared_transactions", "4").start();
    cluster.run("postgres", SCHEMA);
    cluster.run("postgres", "begin; update items set n = 2; prepare transaction 'left behind'");
    let proxy = Proxy::before(cluster.address()).size(4).with(|settings| settings.cache = self::settings()).start();
    let mut client = client_of(&proxy);
    assert_eq!(client.query(SQL).value(), "1");
    eventually("it is said what is waited for", || trouble(proxy.caches()).contains("'left behind'"));
    never_hit(proxy.caches(), &mut client);
    // In its own process: this one hears of it by its keeper alone.
    cluster.run("postgres", "commit prepared 'left behind'");
    assert_eq!(until_hit(proxy.caches(), &mut client, SQL).value(), "2");
}
