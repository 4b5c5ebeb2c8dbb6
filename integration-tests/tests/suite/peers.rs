//! Several instances behind one address: a cancel request that reaches the wrong one still arrives, once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::{PeerAddress, Peers, PoolMode};
use integration_tests::{Cluster, Proxy, RawClient, Service, Signal, client, eventually, http};

/// Two instances that know each other, each with so many upstreams.
fn pair(mode: PoolMode, size: usize) -> [Proxy; 2] {
    let before = |own| {
        Proxy::before(Cluster::shared().address()).mode(mode).size(size).with(|settings| settings.peers.own = own)
    };
    let [one, two] = [before(1), before(2)];
    let settings = [one.settings(), two.settings()];
    let proxies = [one.start(), two.start()];
    for (index, settings) in settings.into_iter().enumerate() {
        knows(&proxies[index], settings, 2 - index as u32, proxies[1 - index].address());
    }
    proxies
}

/// Tells an instance where another one is. Addresses can be changed while it runs.
fn knows(proxy: &Proxy, mut settings: config::Settings, number: u32, address: SocketAddr) {
    let address = PeerAddress { host: address.ip().to_string(), port: address.port() };
    settings.peers = Peers { own: settings.peers.own, addresses: [(number, address)].into() };
    proxy.reload(settings);
}

fn login(address: SocketAddr, database: &str) -> RawClient {
    RawClient::login(address, "postgres", database)
}

fn runs(database: &str, text: &str) -> bool {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{database}' and state = 'active' and query like '%{text}%'"
    );
    Cluster::shared().value("postgres", &sql) != "0"
}

/// Has `client` cancelled by way of `address`, and sees that it was; says how long that took.
fn is_cancelled_by(address: SocketAddr, sleeper: &mut RawClient, database: &str) -> Duration {
    sleeper.start_query("select pg_sleep(60)");
    eventually("the query runs", || runs(database, "pg_sleep(60)"));
    let (pid, key) = sleeper.key.clone().unwrap();
    let asked = Instant::now();
    client::cancel(address, pid, &key);
    assert_eq!(sleeper.reply().error().code(), "57014");
    asked.elapsed()
}

fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = http::fetch(admin, "/metrics").body;
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn a_cancel_that_reaches_the_wrong_instance_is_passed_on() {
    let database = Cluster::shared().fresh_database();
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        let [one, two] = pair(mode, 2);
        for (home, other) in [(&one, &two), (&two, &one)] {
            let mut sleeper = login(home.address(), &database);
            is_cancelled_by(other.address(), &mut sleeper, &database);
            assert_eq!(sleeper.query("select 1").value(), "1");
            assert!(metric(other.admin(), "pgweir_cancels_passed_on_total") >= 1.0);
        }
    }
}

#[test]
fn an_address_that_leads_back_sends_no_cancel_in_circles() {
    let database = Cluster::shared().fresh_database();
    let builder = Proxy::before(Cluster::shared().address()).with(|settings| settings.peers.own = 1);
    let settings = builder.settings();
    let lost = builder.start();
    // It believes that it itself is the other one.
    knows(&lost, settings, 2, lost.address());
    let other = Proxy::before(Cluster::shared().address()).with(|settings| settings.peers.own = 2).start();
    let stranger = login(other.address(), &database);
    let (pid, key) = stranger.key.clone().unwrap();
    let asked = Instant::now();
    client::cancel(lost.address(), pid, &key);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(metric(lost.admin(), "pgweir_cancels_unknown_total"), 1.0);
    assert_eq!(metric(lost.admin(), "pgweir_cancels_passed_on_total"), 1.0);
}

#[test]
fn a_storm_of_cancels_between_instances_kills_no_innocent_query() {
    let database = Cluster::shared().fresh_database();
    let [one, two] = pair(PoolMode::Transaction, 1);
    let (mut hasty, mut innocent) = (login(one.address(), &database), login(one.address(), &database));
    let (pid, key) = hasty.key.clone().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    client::cancel(two.address(), pid, &key);
                }
            });
        }
        let mut struck = 0;
        for round in 0..300 {
            hasty.start_query("select pg_sleep(0.001)");
            innocent.start_query("select pg_sleep(0.001)");
            let reply = innocent.reply();
            let errors: Vec<_> = reply.errors().iter().map(|error| error.code().to_owned()).collect();
            let own = hasty.reply();
            if !errors.is_empty() {
                over.store(true, Ordering::Relaxed);
                panic!("round {round}: {errors:?}");
            }
            struck += own.errors().len();
        }
        over.store(true, Ordering::Relaxed);
        assert!(struck > 0, "the cancels reached nobody");
    });
}

#[test]
fn a_cancel_finds_the_process_of_a_restart_that_has_the_client() {
    restart("transaction");
}

#[test]
fn a_cancel_with_a_servers_process_id_finds_the_process_of_a_restart_too() {
    restart("session");
}

fn restart(mode: &str) {
    let database = Cluster::shared().fresh_database();
    let free = || SocketAddr::from(([127, 0, 0, 1], integration_tests::cluster::free_port()));
    let listen = free();
    let config = format!(
        "listen = '{listen}'\nlisten_reuse_port = true\n[admin]\nlisten = 'off'\n[auth]\nmethod = 'trust'\n\
         [pool]\nmode = '{mode}'\n[databases.'*']\nupstream = 'postgres://postgres@{}'\n",
        Cluster::shared().address()
    );
    let service = Service::new(true);
    let mut old = service.start(&config);
    let mut early = login(listen, &database);
    let _new = service.start(&config);
    // The kernel picks a process for each of these connections.
    for _ in 0..8 {
        is_cancelled_by(listen, &mut early, &database);
    }
    early.query("begin").ok();
    old.child.signal(Signal::Terminate);
    eventually("the old process has closed its port", || old.log().contains("stopping"));
    std::thread::sleep(Duration::from_millis(800));
    is_cancelled_by(listen, &mut early, &database);
    assert!(old.child.is_running(), "it is the old process that had the client");
    early.query("rollback").ok();
    assert_eq!(early.read_to_end().error().code(), "57P01");
}
