//! Peers that vanish without a word, as in a power cut or behind a firewall that has forgotten them: no end of the
//! connection comes, nothing that is sent is acknowledged. Both sides are noticed, and what they held is free again.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::proxy::Builder;
use integration_tests::{FakeUpstream, Proxy, RawClient, Site, backend, eventually};
use socket2::{SockFilter, SockRef};

/// From here on the socket answers nothing, not even with an acknowledgement: its kernel drops all that comes.
fn vanish(stream: &impl AsFd) {
    // BPF_RET | BPF_K of a length of 0.
    SockRef::from(stream).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
}

/// Probes after one second, twice, one second apart.
fn probing(proxy: Builder) -> Builder {
    let second = Duration::from_secs(1);
    proxy.size(1).with(|settings| {
        settings.tcp = config::Tcp { keepidle: second, keepintvl: second, keepcnt: 2, user_timeout: Some(3 * second) };
    })
}

fn login(address: SocketAddr) -> RawClient {
    RawClient::login(address, "anna", "shop")
}

/// The first connection vanishes when it is asked to, having said so much; all others are polite.
fn vanishing_once(said: Vec<u8>) -> FakeUpstream {
    FakeUpstream::start(move |connection| {
        connection.login()?;
        if connection.index > 0 {
            return connection.serve();
        }
        connection.serve_until("select boom")?;
        connection.send(&said)?;
        // What was said shall have arrived.
        connection.delay(Duration::from_millis(200));
        vanish(connection.stream());
        connection.delay(Duration::from_secs(15));
        Ok(())
    })
}

#[test]
fn a_server_that_vanishes_before_it_answers_costs_its_client_an_error_in_time() {
    let upstream = vanishing_once(Vec::new());
    let proxy = probing(Proxy::before(upstream.address())).start();
    let mut client = login(proxy.address());
    let asked = Instant::now();
    assert_eq!(client.query("select boom").error().code(), "08006");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_server_that_vanishes_while_it_is_idle_is_not_waited_for() {
    let upstream = vanishing_once(backend::one_value("1"));
    let proxy = probing(Proxy::before(upstream.address())).start();
    let mut client = login(proxy.address());
    assert_eq!(client.query("select boom").value(), "1");
    let rested = Instant::now();
    eventually("probes have failed", || rested.elapsed() > Duration::from_secs(7));
    let asked = Instant::now();
    assert_eq!(client.query("select 1").value(), "1");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(upstream.logins(), 2);
}

#[test]
fn what_a_vanished_server_does_not_acknowledge_is_given_up_after_tcp_user_timeout() {
    let upstream = vanishing_once(backend::one_value("1"));
    let proxy = probing(Proxy::before(upstream.address())).start();
    let mut client = login(proxy.address());
    assert_eq!(client.query("select boom").value(), "1");
    std::thread::sleep(Duration::from_millis(400));
    // Sent into the void before a probe has noticed it: probes stop while something is on its way.
    let asked = Instant::now();
    assert_eq!(client.query("select 1").error().code(), "08006");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_client_that_vanishes_in_its_transaction_gives_its_server_back() {
    let site = Site::behind(Transaction, probing);
    let (mut gone, mut next) = (site.client(), site.client());
    gone.query("create table t (n int)").ok();
    gone.query("begin; insert into t values (1)").ok();
    vanish(&gone.stream());
    let asked = Instant::now();
    assert_eq!(next.query("select count(*) from t").value(), "0");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn a_client_that_vanishes_while_rows_are_sent_to_it_gives_its_server_back() {
    let site = Site::behind(Transaction, probing);
    let (mut gone, mut next) = (site.client(), site.client());
    gone.start_query("select repeat('x', 100) from generate_series(1, 1000000)");
    vanish(&gone.stream());
    let asked = Instant::now();
    assert_eq!(next.query("select 'served'").value(), "served");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}
