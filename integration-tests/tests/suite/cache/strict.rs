//! `strict` before a server that others write to as well: an answer waits until everything has been heard that was written
//! before it was asked for. It is never older than a reply of the server's, and it comes from the cache all the same.
//!
//! What is read here takes the server some milliseconds: for less nobody waits.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::CacheFreshness::Strict;
use integration_tests::{Cluster, Proxy, RawClient, eventually};
use pgweir::cache::Cached;
use policy::cache::Miss;

use super::instances::{client_of, hits, proxy_before, server, until_hit};
use super::versions::Alarm;
use super::{Random, number, seed};

const SCHEMA: &str = "create table runs (id int primary key, n int); insert into runs values (1, 0);
    create table other (id int primary key); create table filler as select n from generate_series(1, 1800) n";
/// Some ten milliseconds of the server's time.
const READ: &str =
    "select n, (select count(*) from filler a, filler b where a.n <= 320 and b.n <= 320) from runs where id = 1";
/// More than anybody waits for.
const LONG: &str = "select n, (select count(*) from filler a, filler b) from runs where id = 1";

struct Ground {
    cluster: Cluster,
    proxy: Proxy,
}

impl Ground {
    fn new() -> Self {
        let cluster = server(SCHEMA);
        let proxy = proxy_before(&cluster, Strict);
        Self { cluster, proxy }
    }

    fn client(&self) -> RawClient {
        client_of(&self.proxy)
    }

    fn cached(&self) -> Arc<Cached> {
        self.proxy.caches().all().into_iter().next().expect("the database is known")
    }

    fn hits(&self) -> u64 {
        hits(self.proxy.caches())
    }

    fn misses(&self, why: Miss) -> u64 {
        self.proxy.caches().counters.misses.of(why)
    }
}

fn value(client: &mut RawClient, sql: &str) -> u64 {
    client.query(sql).ok().rows()[0][0].parse().expect("a number")
}

#[test]
fn a_read_behind_a_write_beside_the_proxy_never_gets_what_was_there_before() {
    let ground = Ground::new();
    let (mut reader, mut beside, mut random) = (ground.client(), ground.cluster.connect("postgres"), Random(seed()));
    until_hit(ground.proxy.caches(), &mut reader, READ);
    let rounds = number("PGWEIR_CACHE_READS").unwrap_or(2_000);
    let (before, mut n, mut quiet) = (ground.hits(), 0, 0);
    for round in 0..rounds {
        // At all distances from what was read, heard and seen last.
        if random.once_in(3) {
            n += 1;
            beside.query(format!("update runs set n = {n}")).ok();
        } else {
            quiet += 1;
        }
        if random.once_in(20) {
            std::thread::sleep(Duration::from_millis(random.below(60) as u64));
        }
        assert_eq!(value(&mut reader, READ), n, "in round {round}");
    }
    let hit = ground.hits() - before;
    println!("{hit} hits of {rounds} reads, {quiet} behind no write; {:?}", ground.proxy.caches().counters);
    assert!(hit > 0, "nothing came from the cache, which proves nothing: {:?}", ground.proxy.caches().counters);
}

#[test]
fn where_nothing_is_written_answers_come_from_the_cache() {
    const READS: u64 = 300;
    let ground = Ground::new();
    let mut reader = ground.client();
    until_hit(ground.proxy.caches(), &mut reader, READ);
    let (before, began) = (ground.hits(), Instant::now());
    (0..READS).for_each(|_| assert_eq!(value(&mut reader, READ), 0));
    let (hit, each) = (ground.hits() - before, began.elapsed() / READS as u32);
    let mut beside = ground.cluster.connect("postgres");
    let began = Instant::now();
    (0..30).for_each(|_| assert_eq!(value(&mut beside, READ), 0));
    println!("{hit} of {READS} hit, {each:?} each; the server needs {:?}", began.elapsed() / 30);
    assert!(hit * 2 > READS, "{hit} of {READS} came from the cache: {:?}", ground.proxy.caches().counters);
}

#[test]
fn many_who_read_at_once_share_questions() {
    const CLIENTS: usize = 40;
    let ground = Ground::new();
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| ground.client()).collect();
    until_hit(ground.proxy.caches(), &mut clients[0], READ);
    let (hits, questions) = (ground.hits(), ground.cached().ends.asked());
    for _ in 0..30 {
        for client in &mut clients {
            client.start_query(READ);
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.reply().ok().rows()[0][0], "0"));
    }
    let (hits, questions) = (ground.hits() - hits, ground.cached().ends.asked() - questions);
    println!("{hits} hits of {}, {questions} questions", CLIENTS * 30);
    assert!(hits > CLIENTS as u64 * 15, "{hits} hits: {:?}", ground.proxy.caches().counters);
    assert!(questions > 0 && questions * 4 < hits, "{questions} questions for {hits} hits");
}

#[test]
fn readers_and_a_writer_beside_them_at_once() {
    let ground = Ground::new();
    until_hit(ground.proxy.caches(), &mut ground.client(), READ);
    let (over, before) = (AtomicBool::new(false), ground.hits());
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let end = Instant::now() + super::duration();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _alarm = Alarm(&over);
                let mut reader = ground.client();
                while !over.load(Ordering::SeqCst) {
                    let floor = acknowledged.load(Ordering::SeqCst);
                    let seen = value(&mut reader, READ);
                    assert!(seen >= floor, "{seen} is older than {floor}, acknowledged before");
                    // What one has seen nobody may miss.
                    acknowledged.fetch_max(seen, Ordering::SeqCst);
                }
            });
        }
        let _alarm = Alarm(&over);
        let (mut beside, mut random) = (ground.cluster.connect("postgres"), Random(seed()));
        for n in 1.. {
            if Instant::now() > end || over.load(Ordering::SeqCst) {
                break;
            }
            // Some are acknowledged before they are flushed.
            let commits = random.pick(&["on", "off"]);
            beside.query(format!("set synchronous_commit to {commits}; update runs set n = {n}")).ok();
            acknowledged.fetch_max(n, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(random.below(150) as u64));
        }
        over.store(true, Ordering::SeqCst);
    });
    println!("{} hits; {:?}", ground.hits() - before, ground.proxy.caches().counters);
    assert!(ground.hits() > before, "nothing came from the cache: {:?}", ground.proxy.caches().counters);
}

/// Stops the server process that tells of writes; whoever waits does so as long as he likes.
struct Stopped(String);

impl Stopped {
    fn walsender(cluster: &Cluster) -> Self {
        let sql = "select pid from pg_stat_replication where application_name = 'pgweir cache'";
        let stopped = Self(cluster.value("postgres", sql));
        stopped.signal("STOP");
        stopped
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.0)]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal reaches {}", self.0);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(Command::new("sh").args(["-c", &format!("kill -s CONT {} 2>/dev/null", self.0)]).status());
    }
}

/// Many ask while the slot does not come on; what is done meanwhile. Repeated where the machine was too slow for anybody to
/// wait: who finds that the last question takes too long does not.
fn while_they_wait(ground: &Ground, clients: &mut [RawClient], done: impl Fn(&Stopped)) {
    let mut beside = ground.cluster.connect("postgres");
    eventually("somebody waits", || {
        until_hit(ground.proxy.caches(), &mut clients[0], LONG);
        let (cached, stopped) = (ground.cached(), Stopped::walsender(&ground.cluster));
        // What has to be heard first, and does not concern what is read.
        beside.query("insert into other values (1) on conflict do nothing; truncate other").ok();
        for client in clients.iter_mut() {
            client.start_query(LONG);
        }
        let began = Instant::now();
        while cached.ends.waiting() == 0 && began.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
        let waited = cached.ends.waiting() > 0;
        done(&stopped);
        clients.iter_mut().for_each(|client| assert_eq!(client.reply().ok().rows()[0][0], "0"));
        assert_eq!(cached.ends.waiting(), 0, "all of them were answered");
        waited
    });
}

#[test]
fn who_waits_goes_to_the_server_when_the_slot_does_not_come_on() {
    let ground = Ground::new();
    let mut clients: Vec<RawClient> = (0..6).map(|_| ground.client()).collect();
    while_they_wait(&ground, &mut clients, |_| ());
    assert!(ground.misses(Miss::WaitedInVain) > 0, "{:?}", ground.proxy.caches().counters);
}

#[test]
fn who_waits_goes_to_the_server_when_the_slot_is_lost() {
    let ground = Ground::new();
    let mut clients: Vec<RawClient> = (0..6).map(|_| ground.client()).collect();
    while_they_wait(&ground, &mut clients, |stopped| {
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_replication";
        assert_eq!(ground.cluster.value("postgres", kill), "1");
        stopped.signal("CONT");
    });
    eventually("it hears again", || ground.cached().generations.slot().hears());
    until_hit(ground.proxy.caches(), &mut clients[0], LONG);
}
