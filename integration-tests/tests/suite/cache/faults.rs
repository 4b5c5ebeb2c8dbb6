//! What goes wrong in between: servers that vanish with a COMMIT on its way, cancels, switches.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use integration_tests::cluster::Stop;
use integration_tests::{Cluster, Proxy, RawClient, eventually};
use policy::cache::{Invalidated, Mode};

use super::instances::until_hit;
use super::{Ground, settings};

/// A wire between the proxy and the server that breaks behind the first COMMIT once it is told to: the proxy loses the
/// connection, the server hears nothing of that and goes on.
struct Relay {
    address: SocketAddr,
    breaks: Arc<AtomicBool>,
    /// Whether it has broken.
    broken: Arc<AtomicBool>,
    /// The server may hear that nobody is there.
    released: Arc<AtomicBool>,
}

impl Relay {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let relay = Self { address, breaks: Arc::default(), broken: Arc::default(), released: Arc::default() };
        let (breaks, broken, released) = (relay.breaks.clone(), relay.broken.clone(), relay.released.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(server) else { return };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).expect("a socket takes options");
                }
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || pump(far_too, near_too));
                let (breaks, broken, released) = (breaks.clone(), broken.clone(), released.clone());
                std::thread::spawn(move || listen(near, far, &breaks, &broken, &released));
            }
        });
        relay
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        // Whoever does not listen any more does not keep the server from talking.
        drop(to.write_all(&bytes[..length]));
    }
    drop(to.shutdown(Shutdown::Both));
}

fn listen(mut near: TcpStream, mut far: TcpStream, breaks: &AtomicBool, broken: &AtomicBool, released: &AtomicBool) {
    let mut bytes = [0; 8192];
    while let Ok(length @ 1..) = near.read(&mut bytes) {
        let said = &bytes[..length];
        if far.write_all(said).is_err() {
            break;
        }
        if said.windows(6).any(|word| word.eq_ignore_ascii_case(b"commit")) && breaks.swap(false, SeqCst) {
            broken.store(true, SeqCst);
            drop(near.shutdown(Shutdown::Both));
            while !released.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    drop(far.shutdown(Shutdown::Both));
}

/// A table whose transactions take a moment to commit.
const SLOW: &str = "create table runs (id int primary key, n int); insert into runs values (1, 0);
    create function takes_time() returns trigger language plpgsql as
        $$ begin perform pg_sleep(0.7); return null; end $$;
    create constraint trigger slow after update on runs deferrable initially deferred
        for each row when (new.n > 0) execute function takes_time()";

fn client_of(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

fn is_not_older(client: &mut RawClient, direct: &mut RawClient) -> String {
    let sql = "select n from runs where id = 1";
    let before: i32 = direct.query(sql).ok().value().parse().unwrap();
    let seen: i32 = client.query(sql).ok().value().parse().unwrap();
    assert!(seen >= before, "{seen} through the proxy, {before} directly before");
    seen.to_string()
}

/// A client that does something with this number.
type Way<'a> = &'a dyn Fn(&mut RawClient, u32);

#[test]
fn a_connection_that_is_lost_behind_its_commit() {
    let cluster = Cluster::builder().start();
    cluster.run("postgres", SLOW);
    let relay = Relay::before(cluster.address());
    let proxy = Proxy::before(relay.address).with(|settings| settings.cache = super::settings()).start();
    let (mut reader, mut writer) = (client_of(&proxy), client_of(&proxy));
    let mut direct = cluster.connect("postgres");
    let sql = "select n from runs where id = 1";
    assert_eq!(until_hit(proxy.caches(), &mut reader, sql).value(), "0");
    let ways: [Way<'_>; 3] = [
        &|writer, n| {
            writer.query("begin").ok();
            writer.query(format!("update runs set n = {n}")).ok();
            writer.start_query("commit");
        },
        &|writer, n| {
            writer.start_query(format!("begin; update runs set n = {n}; commit"));
        },
        // The word alone is what the wire breaks at.
        &|writer, n| {
            writer.start_query(format!("update runs set n = {n} /* commit */"));
        },
    ];
    for (n, write) in (1..).zip(ways) {
        relay.released.store(false, SeqCst);
        relay.broken.store(false, SeqCst);
        relay.breaks.store(true, SeqCst);
        write(&mut writer, n);
        writer.read_to_end_or_ready();
        assert!(relay.broken.load(SeqCst), "the wire broke");
        writer = client_of(&proxy);
        // The server knows nothing of that: its COMMIT comes later than the client's bad news.
        let told = Instant::now();
        let mut seen = String::new();
        while told.elapsed() < Duration::from_millis(1200) {
            seen = is_not_older(&mut reader, &mut direct);
        }
        assert_eq!(seen, n.to_string(), "it was committed");
        relay.released.store(true, SeqCst);
        assert_eq!(until_hit(proxy.caches(), &mut reader, sql).value(), n.to_string(), "once the process is gone");
    }
}

#[test]
fn a_server_process_that_is_ended_in_its_transaction() {
    let ground = Ground::new("create table runs (id int primary key, n int); insert into runs values (1, 0)");
    let (mut reader, mut writer, mut direct) = (ground.client(), ground.client(), ground.direct());
    let sql = "select n from runs where id = 1";
    for n in 0..4 {
        ground.cached(&mut reader, sql);
        writer.query("begin").ok();
        let process = writer.query("select pg_backend_pid()").value();
        writer.query("update runs set n = n + 100").ok();
        direct.query(format!("select pg_terminate_backend({process}, 5000)")).ok();
        writer.start_query("commit").read_to_end_or_ready();
        writer = ground.client();
        assert_eq!(is_not_older(&mut reader, &mut direct), n.to_string(), "undone");
        ground.cached(&mut reader, sql);
        assert!(ground.ended(Invalidated::Resolved) > n, "each end that was found out is counted");
        writer.query("update runs set n = n + 1").ok();
        assert_eq!(reader.query(sql).value(), (n + 1).to_string());
    }
}

#[test]
fn a_write_that_is_cancelled_and_a_writer_that_vanishes() {
    let ground = Ground::new(SLOW);
    let (mut reader, mut direct) = (ground.client(), ground.direct());
    let sql = "select n from runs where id = 1";
    ground.cached(&mut reader, sql);
    let mut writer = ground.client();
    // In its COMMIT: undone.
    writer.start_query("update runs set n = 5");
    std::thread::sleep(Duration::from_millis(200));
    writer.cancel();
    assert_eq!(writer.reply().error().code(), "57014");
    assert_eq!(reader.query(sql).value(), "0");
    ground.cached(&mut reader, sql);
    // Gone while the server is still at it: nobody is told when it is done.
    writer.start_query("update runs set n = 6");
    std::thread::sleep(Duration::from_millis(200));
    writer.vanish();
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_millis(1500) {
        is_not_older(&mut reader, &mut direct);
    }
    let last = ground.cached(&mut reader, sql).value();
    assert_eq!(last, direct.query(sql).value());
}

#[test]
fn a_transaction_that_is_prepared() {
    let cluster = Cluster::builder().setting("max_prepared_transactions", "5").start();
    cluster.run("postgres", "create table runs (id int primary key, n int); insert into runs values (1, 0)");
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = super::settings()).start();
    let (mut reader, mut writer, mut direct) = (client_of(&proxy), client_of(&proxy), cluster.connect("postgres"));
    let sql = "select n from runs where id = 1";
    let ends = ["commit prepared 'p'", "rollback prepared 'p'", "commit prepared 'p'"];
    // Also under a name that is written in a way that nobody reads here.
    let ways = ["'p'", "E'p'", "/* 'q' */ 'p'"].into_iter().flat_map(|name| ends.map(|end| (name, end)));
    for (n, (name, end)) in (1..).zip(ways) {
        for past in [false, true] {
            let before = until_hit(proxy.caches(), &mut reader, sql).value();
            writer.query(format!("begin; update runs set n = {n} * 10 + {}", u8::from(past))).ok();
            writer.query(format!("prepare transaction {name}")).ok();
            // For longer than it takes to be asked after.
            for _ in 0..20 {
                assert_eq!(reader.query(sql).value(), before);
                std::thread::sleep(Duration::from_millis(10));
            }
            // Whoever ends it, and wherever: nothing old is answered from then on.
            if past {
                direct.query(end).ok()
            } else {
                writer.query(end).ok()
            };
            assert_eq!(reader.query(sql).value(), direct.query(sql).value(), "{name}: {end}, past the proxy: {past}");
            assert_eq!(until_hit(proxy.caches(), &mut reader, sql).value(), direct.query(sql).value());
        }
    }
}

#[test]
fn a_server_that_crashes_and_comes_back() {
    let cluster = Cluster::builder().start();
    cluster.run("postgres", "create table runs (id int primary key, n int); insert into runs values (1, 0)");
    // In a text of its own, which is committed behind it: a crash takes what was not flushed.
    cluster.run("postgres", "checkpoint");
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = super::settings()).start();
    let sql = "select n from runs where id = 1";
    let mut reader = client_of(&proxy);
    until_hit(proxy.caches(), &mut reader, sql);
    cluster.stop(Stop::Crash);
    cluster.start();
    // What a crash has taken away (here: whatever stands there now) nobody has told us of.
    cluster.run("postgres", "update runs set n = 7");
    let mut reader = client_of(&proxy);
    eventually("what is there now is seen", || {
        let reply = reader.query(sql);
        reply.errors().is_empty() && reply.value() == "7"
    });
    for _ in 0..20 {
        assert_eq!(reader.query(sql).value(), "7");
    }
    until_hit(proxy.caches(), &mut reader, sql);
    assert!(proxy.caches().counters.invalidated.of(Invalidated::Failover) > 0);
}

#[test]
fn off_ends_answers_and_on_begins_anew() {
    let ground = Ground::new("create table runs (id int); insert into runs values (1)");
    let mut client = ground.client();
    let sql = "select id from runs";
    for n in 2..5 {
        ground.cached(&mut client, sql);
        // Nobody is told of this: an answer from before would show.
        ground.direct().query(format!("update runs set id = {n}")).ok();
        assert_eq!(client.query(sql).value(), (n - 1).to_string(), "from the cache");
        ground.caches().set_mode(Mode::Off);
        assert_eq!(ground.caches().store.len(), 0, "nothing is kept");
        ground.never_cached("while it is off", || assert_eq!(client.query(sql).value(), n.to_string()));
        ground.caches().set_mode(Mode::On);
        assert_eq!(client.query(sql).value(), n.to_string());
    }
    // What is written while it is off is followed.
    ground.cached(&mut client, sql);
    let mut writer = ground.client();
    writer.query("begin; update runs set id = 70").ok();
    ground.caches().set_mode(Mode::Off);
    ground.caches().set_mode(Mode::On);
    for _ in 0..5 {
        assert_eq!(client.query(sql).value(), "4");
    }
    writer.query("commit").ok();
    assert_eq!(client.query(sql).value(), "70");
    assert_eq!(ground.cached(&mut client, sql).value(), "70");
}

#[test]
fn rules_that_are_reloaded_hold_at_once() {
    let ground = Ground::new("create table runs (id int); insert into runs values (1)");
    let mut client = ground.client();
    let sql = "select id from runs";
    ground.cached(&mut client, sql);
    let mut denies = settings();
    denies.rules.push(config::CacheRule {
        effect: config::CacheEffect::Deny,
        tables: vec!["runs".into()],
        ..config::CacheRule::default()
    });
    ground.caches().reload(&denies);
    ground.direct().query("update runs set id = 2").ok();
    ground.never_cached("denied by now", || assert_eq!(client.query(sql).value(), "2"));
    ground.caches().reload(&settings());
    ground.cached(&mut client, sql);
}

#[test]
fn to_observe_is_to_agree() {
    let ground = Ground::with(super::writers::SCHEMA, |cache| cache.mode = config::CacheMode::Observe);
    let mut client = ground.client();
    let counters = &ground.caches().counters;
    let (agreed, disagreed) = (|| counters.agreed.load(SeqCst), || counters.disagreed.load(SeqCst));
    eventually("something is compared", || {
        client.query("select key, version from main order by key").ok();
        agreed() > 0
    });
    let cast =
        super::versions::Cast { readers: &|| ground.client(), writers: &|_| ground.client(), lag: None, rest_ms: 100 };
    super::versions::play(&cast, super::seed());
    println!("{} agreed, {} disagreed, {}", agreed(), disagreed(), ground.why());
    assert!(agreed() > 10, "hardly anything was compared: {}", ground.why());
    assert_eq!((disagreed(), ground.hits()), (0, 0), "nothing is served, and nothing would have been wrong");
    // It would tell: of a write that nobody could know of.
    let sql = "select key, version from main order by key";
    let compared = agreed();
    eventually("it is compared again", || {
        client.query(sql).ok();
        agreed() > compared
    });
    ground.direct().query("update main set version = version + 2").ok();
    let served = client.query(sql).rows();
    assert_eq!(served, ground.direct().query(sql).rows(), "what is served is the server's");
    eventually("it is told", || {
        client.query(sql).ok();
        disagreed() > 0
    });
}

#[test]
fn a_client_that_is_slow_or_gone_takes_nothing_from_the_others() {
    let ground = Ground::with(
        "create table long (id int, body text);
         insert into long select n, repeat('0123456789', 100) from generate_series(1, 200) n",
        |cache| cache.max_entry = 1 << 20,
    );
    let mut client = ground.client();
    let sql = "select * from long order by id";
    let whole = ground.cached(&mut client, sql);
    client.query("update long set body = body || 'x' where id = 200").ok();
    // Whoever asks first goes before the answer is there.
    for _ in 0..10 {
        let mut first = ground.client();
        first.start_query(sql);
        first.vanish();
        let reply = client.query(sql).ok();
        assert_eq!(reply.rows().len(), 200);
        assert_ne!(reply, whole);
        client.query("update long set id = id where id = 1").ok();
    }
    let mut many: Vec<RawClient> = (0..10).map(|_| ground.client()).collect();
    for _ in 0..10 {
        client.query("update long set body = body || 'y' where id = 200").ok();
        for one in &mut many {
            one.start_query(sql);
        }
        let replies: Vec<_> = many.iter_mut().map(|one| one.reply().ok()).collect();
        assert!(replies.windows(2).all(|two| two[0] == two[1]), "all of them see what was written before");
        assert!(replies[0].rows()[199][1].ends_with('y'));
    }
    ground.cached(&mut client, sql);
}
