//! Writes that pass another way: what the read cache hears of them by its replication slot, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Cache, CacheMode, CacheRule};
use integration_tests::{Cluster, Proxy, RawClient, cache_of_all, eventually};
use pgweir::cache::Cached;
use policy::cache::{Generation, Invalidated, MAX_LAG, Mode};

/// What a loaded machine may add to a time that is promised.
const SLACK: Duration = Duration::from_millis(750);

const SCHEMA: &str = "create table runs (id int primary key, n int); create table steps (id int primary key);
    create table other (id int primary key);
    create table events (id int, day int, primary key (id, day)) partition by range (day);
    create table events_1 partition of events for values from (1) to (2);
    create publication pgweir_cache for all tables";

/// A database with a proxy before it that caches all of its tables.
struct Ground {
    cluster: Cluster,
    proxy: Proxy,
}

impl Ground {
    fn new(schema: &str) -> Self {
        Self::at_level("logical", schema)
    }

    fn at_level(level: &str, schema: &str) -> Self {
        let cluster = Cluster::builder().setting("wal_level", level).start();
        cluster.run("postgres", schema);
        let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = cache_of_all()).start();
        let ground = Self { cluster, proxy };
        ground.client().query("select 1").ok();
        ground
    }

    fn client(&self) -> RawClient {
        RawClient::login(self.proxy.address(), "postgres", "postgres")
    }

    fn cached(&self) -> Arc<Cached> {
        self.proxy.caches().all().into_iter().next().expect("the database is known")
    }

    fn hears(&self) -> bool {
        let cached = self.cached();
        let view = cached.view().is_some_and(|view| view.epoch.generation() == cached.generations.epoch());
        view && cached.generations.slot().lag(Instant::now()).is_some_and(|lag| lag < MAX_LAG)
    }

    /// Waits until it hears, and has taken into account which tables are published: where the slot was there before the
    /// catalog had been read, that makes one more epoch.
    fn listens(&self) {
        eventually("it hears", || self.hears());
        for _ in 0..2 {
            let then = Instant::now();
            eventually("it has asked behind its view", || self.knows_of(then) && self.hears());
        }
    }

    fn oid(&self, table: &str) -> u32 {
        self.cluster.value("postgres", &format!("select '{table}'::regclass::oid")).parse().unwrap()
    }

    fn generation(&self, oid: u32) -> Generation {
        self.cached().generations.table(oid).generation()
    }

    /// Which of these tables have another generation once it is known that all was heard of SQL that passes another way;
    /// the epoch stays. How long hearing takes has its bound among the tests of time.
    fn changes(&self, tables: &[u32], wanted: &[bool], sql: &str) {
        let read = || tables.iter().map(|oid| self.generation(*oid)).collect::<Vec<_>>();
        let (before, epoch) = (read(), self.cached().generations.epoch());
        self.cluster.connect("postgres").query(sql).ok();
        let done = Instant::now();
        eventually("it is known that all was heard", || self.knows_of(done));
        let changed: Vec<_> = read().iter().zip(&before).map(|(now, before)| now != before).collect();
        assert_eq!(changed, wanted, "{sql}");
        assert_eq!(self.cached().generations.epoch(), epoch, "{sql}");
    }

    /// Whether it says that it has heard of everything until then.
    fn knows_of(&self, then: Instant) -> bool {
        let now = Instant::now();
        let lag = self.cached().generations.slot().lag(now);
        lag.is_some_and(|lag| now.checked_sub(lag).is_some_and(|current| current > then))
    }

    /// How often something of this kind has ended answers.
    fn ended(&self, source: Invalidated) -> u64 {
        self.proxy.caches().counters.invalidated.of(source)
    }

    fn slots(&self) -> String {
        self.cluster.value("postgres", "select count(*) from pg_replication_slots where slot_name like 'pgweir%'")
    }
}

#[test]
fn each_kind_of_write_ends_what_it_changed_and_nothing_else() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    let tables = ["runs", "steps", "events", "events_1"].map(|table| ground.oid(table));
    let changes = |wanted: [bool; 4], sql: &str| ground.changes(&tables, &wanted, sql);
    let runs = [true, false, false, false];
    let heard = || ground.ended(Invalidated::Slot);
    let before = heard();
    changes(runs, "insert into runs select n, n from generate_series(1, 100) n");
    assert_eq!(heard() - before, 1);
    changes(runs, "update runs set n = n + 1");
    changes(runs, "set synchronous_commit to on; update runs set n = n + 1");
    changes(runs, "delete from runs where id > 50");
    changes(runs, "truncate runs");
    changes([false; 4], "begin; insert into runs values (1, 1); truncate steps; rollback");
    let before = heard();
    changes([false; 4], "begin; select pg_current_xact_id(); commit");
    assert_eq!(heard(), before, "it changed nothing");
    changes([true, true, false, false], "begin; insert into runs values (1, 1); insert into steps values (1); commit");
    changes(
        [false, true, false, false],
        "begin; savepoint a; insert into runs values (2, 2); rollback to a; delete from steps; commit",
    );
    // Who reads the parent reads the leaf.
    changes([false, false, true, true], "insert into events values (1, 1)");
    changes([true, true, false, false], "truncate runs, steps");
}

#[test]
fn a_transaction_of_very_many_relations_ends_everything() {
    let ground = Ground::new(SCHEMA);
    let make = "do $$ begin for n in 1..1100 loop execute format('create table many_%s (a int)', n); end loop; end $$";
    ground.cluster.run("postgres", make);
    ground.listens();
    let mut client = ground.client();
    client.query("insert into other values (1)").ok();
    let count = "select count(*) from other";
    let mut asked = || client.query(count).value();
    eventually("it is kept", || {
        asked() == "1" && ground.proxy.caches().counters.hits.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    let write =
        "do $$ begin for n in 1..1100 loop execute format('insert into many_%s values (1)', n); end loop; end $$";
    let hits = || ground.proxy.caches().counters.hits.load(std::sync::atomic::Ordering::Relaxed);
    ground.cluster.run("postgres", write);
    std::thread::sleep(MAX_LAG + SLACK);
    let before = hits();
    assert_eq!(asked(), "1");
    assert_eq!(hits(), before, "what was kept is not served any more");
}

#[test]
fn a_read_sees_what_was_written_past_the_proxy() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    let mut client = ground.client();
    ground.cluster.run("postgres", "insert into runs values (1, 0)");
    for n in 1..20 {
        ground.cluster.run("postgres", &format!("update runs set n = {n}"));
        std::thread::sleep(MAX_LAG);
        for _ in 0..5 {
            assert_eq!(client.query("select n from runs where id = 1").value(), n.to_string());
        }
    }
    assert!(
        ground.proxy.caches().counters.hits.load(std::sync::atomic::Ordering::Relaxed) > 0,
        "it was kept all the same"
    );
}

#[test]
fn a_large_transaction_is_not_said_to_be_heard_before_it_is() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    let runs = ground.oid("runs");
    let before = ground.generation(runs);
    ground.cluster.run("postgres", "insert into runs select n, n from generate_series(1, 300000) n");
    let committed = Instant::now();
    let mut samples = 0;
    loop {
        let now = Instant::now();
        // First how far it says that it has heard, then what it has heard.
        let lag = ground.cached().generations.slot().lag(now).expect("the slot is up");
        let heard = ground.generation(runs) != before;
        let claimed = now.checked_sub(lag).unwrap();
        assert!(
            claimed <= committed || heard,
            "after {samples} looks: it claims to know of a commit that it has not heard"
        );
        samples += 1;
        if claimed > committed {
            break;
        }
        assert!(committed.elapsed() < Duration::from_secs(60), "it never hears");
    }
}

#[test]
fn nothing_is_served_that_follows_writes_while_the_walsender_is_gone() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    let (cached, epoch) = (ground.cached(), ground.cached().generations.epoch());
    let lost = ground.ended(Invalidated::SlotLost);
    let kill =
        "select count(pg_terminate_backend(pid)) from pg_stat_replication where application_name = 'pgweir cache'";
    // Nobody else is let in: it stays down.
    let mut beside = ground.cluster.connect("postgres");
    ground.cluster.run("template1", "alter database postgres allow_connections false");
    assert_eq!(beside.query(kill).value(), "1");
    eventually("it is down", || cached.generations.epoch() != epoch && !cached.generations.slot().hears());
    eventually("it is counted", || ground.ended(Invalidated::SlotLost) > lost);
    eventually("it says why", || cached.slot_trouble().is_some_and(|trouble| !trouble.is_empty()));
    // What is written meanwhile is seen by who reads later.
    beside.query("insert into runs values (1, 7)").ok();
    ground.cluster.run("template1", "alter database postgres allow_connections true");
    eventually("it is up again", || ground.hears() && cached.slot_trouble().is_none());
    assert_eq!(ground.client().query("select n from runs").value(), "7");
    assert_eq!(ground.slots(), "1", "the old one ended with its connection");
}

#[test]
fn the_slot_ends_with_the_proxy_and_while_nothing_is_cached() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    ground.proxy.caches().set_mode(Mode::Off);
    eventually("no slot is left", || ground.slots() == "0");
    assert!(!ground.cached().generations.slot().hears());
    ground.proxy.caches().set_mode(Mode::On);
    eventually("it hears again", || ground.hears());
    let Ground { cluster, proxy } = ground;
    drop(proxy);
    let slots = "select count(*) from pg_replication_slots";
    eventually("no slot is left", || cluster.value("postgres", slots) == "0");
}

#[test]
fn the_server_keeps_no_log_for_the_slot() {
    let ground = Ground::new(SCHEMA);
    ground.listens();
    let write = "insert into runs select n, n from generate_series(1, 20000) n; truncate runs; checkpoint";
    (0..5).for_each(|_| drop(ground.cluster.run("postgres", write)));
    let end = ground.cluster.value("postgres", "select pg_current_wal_insert_lsn()");
    let confirmed = format!("select confirmed_flush_lsn >= '{end}' from pg_replication_slots");
    eventually("all is confirmed", || ground.cluster.value("postgres", &confirmed) == "t");
    // The server looks where it may begin again when it writes what runs.
    let kept = format!("select restart_lsn >= '{end}' from pg_replication_slots");
    eventually("nothing is kept", || {
        ground.cluster.run("postgres", "checkpoint");
        ground.cluster.value("postgres", &kept) == "t"
    });
}

#[test]
fn what_the_database_lacks_is_said_in_words_that_help() {
    let trouble = |ground: &Ground, words: &[&str]| {
        let said = || ground.cached().slot_trouble().unwrap_or_default();
        eventually("it says so", || words.iter().all(|word| said().contains(word)));
        assert!(!ground.cached().generations.slot().hears());
        assert_eq!(ground.slots(), "0");
    };
    let ground = Ground::at_level("replica", SCHEMA);
    trouble(&ground, &["wal_level = logical", "restart"]);
    let ground = Ground::new("create table runs (n int)");
    trouble(&ground, &["CREATE PUBLICATION pgweir_cache"]);
    let again = |sql: &str| {
        ground.cluster.run("postgres", sql);
        // Whoever has mended it need not wait.
        ground.proxy.caches().set_mode(Mode::Observe);
        ground.proxy.caches().set_mode(Mode::On);
    };
    again("create publication pgweir_cache for table runs with (publish = 'insert')");
    trouble(&ground, &["ALTER PUBLICATION", "truncate"]);
    again(
        "alter publication pgweir_cache set (publish = 'insert, update, delete, truncate', publish_via_partition_root)",
    );
    trouble(&ground, &["ALTER PUBLICATION", "publish_via_partition_root = false"]);
    again(
        "alter publication pgweir_cache set (publish_via_partition_root = false);
         alter table runs replica identity full; alter publication pgweir_cache set table runs where (n > 1)",
    );
    trouble(&ground, &["WHERE"]);
    again("alter publication pgweir_cache set table runs");
    ground.listens();
}

#[test]
fn who_may_not_replicate_is_told_how_he_may() {
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    cluster.create_role("app", None);
    cluster.run("postgres", SCHEMA);
    let cache = Cache {
        mode: CacheMode::On,
        rules: vec![CacheRule { tables: vec!["*".into()], ttl: Duration::from_secs(600), ..CacheRule::default() }],
        ..Cache::default()
    };
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = cache).start();
    RawClient::login(proxy.address(), "app", "postgres").query("select 1").ok();
    let cached = proxy.caches().all().remove(0);
    let said = || cached.slot_trouble().unwrap_or_default();
    eventually("it says so", || said().contains("user app") && said().contains("REPLICATION"));
    cluster.run("postgres", "alter role app replication");
    proxy.caches().set_mode(Mode::Observe);
    eventually("it hears", || cached.generations.slot().hears());
}

#[test]
fn what_is_heard_before_it_can_be_seen_is_not_kept_as_it_was() {
    let ground = Ground::new(&format!("{SCHEMA}; insert into runs values (1, 0)"));
    ground.listens();
    let runs = ground.oid("runs");
    let standby = |name: &str| {
        // Each statement by itself: it may not be in a transaction.
        ground.cluster.run("postgres", &format!("alter system set synchronous_standby_names = '{name}'"));
        ground.cluster.run("postgres", "select pg_reload_conf()");
        let shows = || ground.cluster.value("postgres", "show synchronous_standby_names");
        eventually("it is in force", || shows() == name);
    };
    standby("nobody");
    let before = ground.generation(runs);
    let mut writer = ground.cluster.connect("postgres");
    writer.start_query("set synchronous_commit to on; update runs set n = 1");
    eventually("it is heard", || ground.generation(runs) != before);
    let mut client = ground.client();
    let mut read = || client.query("select n from runs where id = 1").value();
    let until = Instant::now() + MAX_LAG + SLACK;
    while Instant::now() < until {
        assert_eq!(read(), "0", "it waits for its standby still");
    }
    eventually("a commit that waits holds no news up", || ground.hears());
    standby("");
    writer.reply().ok();
    for _ in 0..100 {
        assert_eq!(read(), "1", "what was read before it could be seen was not kept");
    }
    let hits = || ground.proxy.caches().counters.hits.load(std::sync::atomic::Ordering::Relaxed);
    let before = hits();
    eventually("it is kept again", || read() == "1" && hits() > before);
}
