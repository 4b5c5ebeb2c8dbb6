//! Signals to the real process: draining, ending at once, reloading.

use std::time::{Duration, Instant};

use integration_tests::{Cluster, ProxyProcess, RawClient, Signal, eventually, http};

fn proxy() -> ProxyProcess {
    let upstream = format!("postgres://postgres@{}/postgres", Cluster::shared().address());
    ProxyProcess::serve(&["--upstream", &upstream, "--auth", "trust", "--pool-size", "5"])
}

fn login(proxy: &ProxyProcess) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

#[test]
fn a_drain_lets_transactions_finish_and_tells_the_idle() {
    let mut proxy = proxy();
    let (mut idle, mut busy) = (login(&proxy), login(&proxy));
    idle.query("select 1").ok();
    busy.query("begin").ok();
    proxy.child.signal(Signal::Terminate);
    let farewell = idle.read_to_end();
    assert_eq!(farewell.error().code(), "57P01", "{farewell:?}");
    assert_eq!(busy.query("select 'still served'").value(), "still served");
    busy.query("commit").ok();
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    let status = proxy.child.wait_for(Duration::from_secs(20)).expect("the drain is over");
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
}

#[test]
fn readiness_turns_red_while_it_drains() {
    let proxy = proxy();
    let mut busy = login(&proxy);
    busy.query("begin").ok();
    assert_eq!(http::fetch(proxy.admin(), "/readyz").status, 200);
    proxy.child.signal(Signal::Terminate);
    eventually("readiness is red", || http::fetch(proxy.admin(), "/readyz").status == 503);
    assert_eq!(http::fetch(proxy.admin(), "/livez").status, 200);
    eventually("nobody new is taken", || RawClient::try_connect(proxy.address()).is_err());
    busy.query("commit").ok();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut proxy = proxy();
    let mut busy = login(&proxy);
    busy.query("begin").ok();
    proxy.child.signal(Signal::Terminate);
    eventually("it drains", || http::fetch(proxy.admin(), "/readyz").status == 503);
    let asked = Instant::now();
    proxy.child.signal(Signal::Terminate);
    assert!(proxy.child.wait_for(Duration::from_secs(5)).is_some(), "{}", proxy.log());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    busy.read_to_end();
}

#[test]
fn a_process_that_is_killed_leaves_no_transaction_behind() {
    let cluster = Cluster::shared();
    let mut proxy = proxy();
    let mut busy = login(&proxy);
    busy.query("begin; create table never_committed (n int)").ok();
    proxy.child.signal(Signal::Kill);
    assert!(proxy.child.wait_for(Duration::from_secs(5)).is_some());
    busy.read_to_end();
    assert_eq!(cluster.value("postgres", "select to_regclass('never_committed') is null"), "t");
}

#[test]
fn a_hangup_reloads_and_a_mistake_in_the_file_changes_nothing() {
    let database = Cluster::shared().fresh_database();
    let config = |size: &str| {
        format!(
            "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
             [databases.'*']\nupstream = 'postgres://postgres@{}'\nsize = {size}\n",
            Cluster::shared().address()
        )
    };
    let mut proxy = ProxyProcess::with_config(&config("1"));
    let login = || RawClient::login(proxy.address(), "postgres", &database);
    let (mut first, mut second) = (login(), login());
    first.query("begin").ok();
    second.start_query("select 'served'");
    assert!(second.hears_nothing_for(Duration::from_millis(100)), "the only server is taken");

    proxy.reload(&config("'several'"));
    eventually("the mistake is told", || proxy.log().contains("size"));
    assert!(second.hears_nothing_for(Duration::from_millis(100)), "the old settings are still in force");

    proxy.reload(&config("2"));
    assert_eq!(second.reply().value(), "served");
    assert_eq!(first.query("commit").ok().status(), 'I');
    assert!(proxy.child.is_running());
}
