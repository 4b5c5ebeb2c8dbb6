//! Bounds on time, each with the machine to itself: programs of tests run one behind another, and the tests of this one
//! take turns. What a bound says is then about pgweir, and not about what else the machine was doing.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::Tenants;
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, backend, eventually, http, tenants};

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

#[test]
fn fifty_statements_at_once_end_within_300_ms_of_their_limit() {
    let _turn = alone();
    let late = lateness(50, Duration::from_millis(500));
    let p99 = late[late.len() * 99 / 100 - 1];
    assert!(p99 <= Duration::from_millis(300), "p99 {p99:?}, worst {:?}", late.last());
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
    let (ready, done) = (Barrier::new(CLIENTS), AtomicBool::new(false));
    // How late the machine itself is meanwhile: a request passes through several threads, each of which it may keep waiting.
    let noise = Mutex::new(Duration::ZERO);
    let mut late: Vec<Duration> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                std::thread::sleep(Duration::from_millis(10));
                let late = asked.elapsed().saturating_sub(Duration::from_millis(10));
                let mut worst = noise.lock().unwrap();
                *worst = late.max(*worst);
            }
        });
        let threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let parameters = [("user", "anna"), ("database", "shop"), ("application_name", "tenant:acme")];
                    let mut client = RawClient::login_with(proxy.address(), &parameters, "");
                    ready.wait();
                    let asked = Instant::now();
                    let error = client.query("select hang").error().clone();
                    let took = asked.elapsed();
                    assert_eq!((error.code(), took >= limit), ("57014", true), "{took:?} {error:?}");
                    assert_eq!(error.message(), "canceling statement due to request timeout");
                    took.saturating_sub(limit)
                })
            })
            .collect();
        let late: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        // Before anything can fail here: the others go on until then.
        done.store(true, Ordering::Relaxed);
        late.into_iter().map(Result::unwrap).collect()
    });
    late.sort();
    let p99 = late[late.len() * 99 / 100 - 1];
    drop(first);
    let noise = *noise.lock().unwrap();
    let bound = Duration::from_millis(300) + 4 * noise;
    assert!(p99 <= bound, "p99 {p99:?}, worst {:?}, the machine's own {noise:?}", late.last());
}
