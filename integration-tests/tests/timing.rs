//! Bounds on time, each with the machine to itself: programs of tests run one behind another, and the tests of this one
//! take turns. What a bound says is then about pgweir, and not about what else the machine was doing.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::Tenants;
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, backend, cache_of_all, eventually, http, tenants};
use policy::cache::MAX_LAG;

/// Held by the test whose turn it is.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another test's failure is its own.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tenant is whom an application names.
fn ruled(toml: &str) -> Tenants {
    tenants(&format!("[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z0-9-]+)'\n{toml}"))
}

/// So many statements at once, each on a server connection of its own, and each ended by the limit: how long behind it,
/// shortest first.
fn lateness(clients: usize, limit: Duration) -> Vec<Duration> {
    let most = (clients + 20).to_string();
    let cluster = Cluster::builder().setting("max_connections", &most).setting("shared_buffers", "16MB").start();
    let limits = ruled(&format!("[tenant.limits.acme]\nstatement_timeout = '{}ms'\n", limit.as_millis()));
    let proxy = Proxy::before(cluster.address())
        .size(clients)
        .pool(|pool| pool.queue_timeout = Duration::from_secs(60))
        .with(|settings| {
            settings.tenants = limits;
            settings.max_clients = clients + 10;
        })
        .start();
    let address = proxy.address();
    // All connections are opened before anything is measured.
    let ready = Barrier::new(clients);
    let mut late: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let ready = &ready;
                let run = move || {
                    let parameters =
                        [("user", "postgres"), ("database", "postgres"), ("application_name", "tenant:acme")];
                    let mut client = RawClient::login_with(address, &parameters, "");
                    client.query("begin").ok();
                    ready.wait();
                    let asked = Instant::now();
                    let error = client.query("select pg_sleep(60)").error().clone();
                    let took = asked.elapsed();
                    assert_eq!(error.code(), "57014", "{error:?}");
                    assert!(took + Duration::from_millis(20) >= limit, "too early: {took:?}");
                    client.query("rollback").ok();
                    took.saturating_sub(limit)
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).unwrap()
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    late.sort();
    late
}

/// As many statements with nobody between and the server's own limit: how late the 99th of a hundred is.
fn lateness_of_the_server(clients: usize, limit: Duration) -> Duration {
    let most = (clients + 20).to_string();
    let cluster = Cluster::builder().setting("max_connections", &most).setting("shared_buffers", "16MB").start();
    let ready = Barrier::new(clients);
    let mut late: Vec<Duration> = std::thread::scope(|scope| {
        let ask = || {
            let mut client = cluster.connect("postgres");
            client.query(format!("set statement_timeout = {}", limit.as_millis())).ok();
            ready.wait();
            let asked = Instant::now();
            assert_eq!(client.query("select pg_sleep(60)").error().code(), "57014");
            asked.elapsed().saturating_sub(limit)
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    late.sort();
    late[late.len() * 99 / 100 - 1]
}

#[test]
fn fifty_statements_at_once_end_within_300_ms_of_their_limit() {
    let _turn = alone();
    let limit = Duration::from_millis(500);
    let late = lateness(50, limit);
    let p99 = late[late.len() * 99 / 100 - 1];
    // What the machine itself needs at this moment is not pgweir's.
    let own = lateness_of_the_server(50, limit);
    let bound = Duration::from_millis(300) + own;
    assert!(p99 <= bound, "p99 {p99:?}, worst {:?}, with nobody between {own:?}", late.last());
}

/// `cargo test --test timing -- --ignored`: a thousand server processes; to be run on a machine that does nothing else.
#[test]
#[ignore = "a thousand server processes and a bound on time: alone on a machine, by its name with --ignored"]
fn a_thousand_statements_at_once_end_within_300_ms_of_their_limit() {
    let _turn = alone();
    let late = lateness(1_000, Duration::from_millis(500));
    let p99 = late[late.len() * 99 / 100 - 1];
    println!("median {:?}, p99 {p99:?}, worst {:?}", late[late.len() / 2], late.last());
    assert!(p99 <= Duration::from_millis(300), "p99 {p99:?}, worst {:?}", late.last());
}

/// The proxy's own clock: a server that times nothing by itself, and ends a statement when it is told to.
#[test]
fn two_hundred_requests_at_once_are_cancelled_within_300_ms_of_their_limit() {
    let _turn = alone();
    const CLIENTS: usize = 200;
    let limit = Duration::from_millis(500);
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("select hang")?;
        connection.until_cancelled();
        connection.send(
            &[backend::error("57014", "canceling statement due to user request"), backend::ready(b'I')].concat(),
        )?;
        connection.serve()
    });
    let limits = ruled("[tenant.limits.acme]\nrequest_timeout = '500ms'\n");
    let proxy = Proxy::before(upstream.address()).size(CLIENTS).with(|settings| {
        settings.tenants = limits;
        settings.wildcard.as_mut().unwrap().pool.min_size = CLIENTS;
    });
    let proxy = proxy.start();
    // Each has a server of its own from the beginning: one that was cancelled answers whatever comes next.
    let parameters = [("user", "anna"), ("database", "shop"), ("application_name", "tenant:acme")];
    let first = RawClient::login_with(proxy.address(), &parameters, "");
    eventually("there is a server for each", || {
        let page = http::fetch(proxy.admin(), "/api/v1/upstreams?limit=1000").json();
        page["upstreams"].as_array().is_some_and(|upstreams| upstreams.len() == CLIENTS)
    });
    let ready = Barrier::new(CLIENTS);
    let all_at_once = |ask: &(dyn Fn() -> Duration + Sync)| {
        let mut late: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        late.sort();
        (late[late.len() * 99 / 100 - 1], late[late.len() - 1])
    };
    let (p99, worst) = all_at_once(&|| {
        let mut client = RawClient::login_with(proxy.address(), &parameters, "");
        ready.wait();
        let asked = Instant::now();
        let error = client.query("select hang").error().clone();
        let took = asked.elapsed();
        assert_eq!((error.code(), took >= limit), ("57014", true), "{took:?} {error:?}");
        assert_eq!(error.message(), "canceling statement due to request timeout");
        took.saturating_sub(limit)
    });
    drop(first);
    // How long the machine itself needs at this moment: as many clients that cancel at the same limit with nobody between.
    let (own, _) = all_at_once(&|| {
        let mut client = RawClient::login_with(upstream.address(), &parameters, "");
        ready.wait();
        let asked = Instant::now();
        client.start_query("select hang");
        std::thread::sleep(limit);
        client.cancel();
        assert_eq!(client.reply().error().code(), "57014");
        asked.elapsed().saturating_sub(limit)
    });
    let bound = Duration::from_millis(300) + own;
    assert!(p99 <= bound, "p99 {p99:?}, worst {worst:?}, with nobody between {own:?}");
}

#[test]
fn a_write_that_passes_another_way_is_heard_of_within_250_ms() {
    const WRITES: usize = 40;
    let _turn = alone();
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    cluster.run("postgres", "create table runs (n int); create publication pgweir_cache for all tables");
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = cache_of_all()).start();
    RawClient::login(proxy.address(), "postgres", "postgres").query("select 1").ok();
    let cached = proxy.caches().all().into_iter().next().expect("the database is known");
    let runs = cluster.value("postgres", "select 'runs'::regclass::oid").parse().unwrap();
    eventually("it hears", || {
        let known = cached.view().is_some_and(|view| view.epoch.generation() == cached.generations.epoch());
        known && cached.generations.slot().hears()
    });
    let mut beside = cluster.connect("postgres");
    // How long a thread that sleeps a millisecond is kept from going on, as those between the server and here may be.
    let mut own = Duration::ZERO;
    let mut late: Vec<Duration> = (0..WRITES)
        .map(|n| {
            let before = cached.generations.table(runs).generation();
            beside.query(format!("insert into runs values ({n})")).ok();
            let done = Instant::now();
            while cached.generations.table(runs).generation() == before {
                let asleep = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                own = own.max(asleep.elapsed());
                assert!(done.elapsed() < Duration::from_secs(30), "it never hears");
            }
            done.elapsed()
        })
        .collect();
    late.sort();
    let (median, p95) = (late[WRITES / 2], late[WRITES * 95 / 100 - 1]);
    assert!(p95 <= MAX_LAG + 4 * own, "median {median:?}, p95 {p95:?}, the machine's own {own:?}");
}
