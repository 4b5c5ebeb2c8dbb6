//! SHUTDOWN in its three ways, and the console while the process ends.

use std::time::{Duration, Instant};

use integration_tests::{FakeUpstream, ProxyProcess, RawClient, Signal, eventually};

use super::{server, table};

fn process(server: &FakeUpstream) -> ProxyProcess {
    let text = format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n[console]\nadmin_users = ['ops']\n\
         [databases.'*']\nupstream = 'postgres://{}'\n[shutdown]\ndrain_timeout = '20s'\n",
        server.address()
    );
    ProxyProcess::with_config(&text)
}

fn ops(process: &ProxyProcess) -> RawClient {
    super::ops(process.address())
}

fn anna(process: &ProxyProcess) -> RawClient {
    RawClient::login(process.address(), "anna", "shop")
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn shutdown_ends_it_at_once() {
    let server = server();
    let mut process = process(&server);
    let (mut busy, mut ops) = (anna(&process), ops(&process));
    busy.query("begin").ok();
    let asked = Instant::now();
    ops.start_query("SHUTDOWN;");
    let words = ops.read_to_end();
    assert_eq!((words.error().code(), words.shape().as_str()), ("57P01", "E"), "nothing is said before it ends");
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(process.log().contains("command=\"SHUTDOWN\""), "{}", process.log());
}

#[test]
fn wait_for_servers_lets_transactions_end_and_the_console_sees_it_through() {
    let server = server();
    let mut process = process(&server);
    let (mut busy, mut idle, mut ops) = (anna(&process), anna(&process), ops(&process));
    busy.query("begin").ok();
    idle.query("select 1").ok();
    assert_eq!(ops.query("shutdown wait_for_servers").commands(), ["SHUTDOWN"]);
    assert_eq!(idle.read_to_end().error().code(), "57P01");
    eventually("nobody new is taken", || RawClient::try_connect(process.address()).is_err());
    // The operator who is there looks on.
    let clients = table(&mut ops, "show clients");
    assert_eq!(clients.iter().filter(|row| row.get("user") == "anna").count(), 1, "{clients:#?}");
    busy.query("commit").ok();
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    assert_eq!(ops.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn wait_for_clients_waits_until_they_have_left_by_themselves() {
    let server = server();
    let mut process = process(&server);
    let (mut idle, mut ops) = (anna(&process), ops(&process));
    assert_eq!(ops.query("shutdown wait_for_clients").commands(), ["SHUTDOWN"]);
    eventually("nobody new is taken", || RawClient::try_connect(process.address()).is_err());
    assert!(idle.hears_nothing_for(Duration::from_millis(300)), "it is not told to leave");
    assert_eq!(idle.query("select 1").value(), "1");
    assert_eq!(ops.query("show state").rows().len(), 3);
    idle.terminate();
    assert_eq!(ops.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn what_waits_for_clients_can_be_hurried() {
    let server = server();
    let mut process = process(&server);
    let (mut busy, mut ops) = (anna(&process), ops(&process));
    busy.query("begin").ok();
    ops.query("shutdown wait_for_clients").ok();
    assert!(busy.hears_nothing_for(Duration::from_millis(200)));
    ops.query("shutdown wait_for_servers").ok();
    // Hurry is not taken back.
    ops.query("shutdown wait_for_clients").ok();
    busy.query("commit").ok();
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn a_signal_behind_a_shutdown_ends_it_at_once() {
    let server = server();
    let mut process = process(&server);
    let (mut idle, mut ops) = (anna(&process), ops(&process));
    ops.query("shutdown wait_for_clients").ok();
    assert!(idle.hears_nothing_for(Duration::from_millis(200)));
    process.child.signal(Signal::Terminate);
    assert_eq!(idle.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}

/// A process that waits for a minute before it drains.
fn patient(server: &FakeUpstream) -> ProxyProcess {
    let text = format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n[console]\nadmin_users = ['ops']\n\
         [databases.'*']\nupstream = 'postgres://{}'\n[shutdown]\ngrace = '60s'\n",
        server.address()
    );
    ProxyProcess::with_config(&text)
}

#[test]
fn an_operator_cuts_the_grace_of_a_drain_short() {
    let server = server();
    let mut process = patient(&server);
    let (mut busy, mut idle) = (anna(&process), anna(&process));
    busy.query("begin").ok();
    process.child.signal(Signal::Terminate);
    eventually("it drains", || integration_tests::http::fetch(process.admin(), "/readyz").status == 503);
    assert!(idle.hears_nothing_for(Duration::from_millis(200)), "the grace");
    ops(&process).query("shutdown wait_for_servers").ok();
    assert_eq!(idle.read_to_end().error().code(), "57P01");
    busy.query("commit").ok();
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn an_operator_gets_in_during_the_grace_of_a_drain_and_hurries_it() {
    let server = server();
    let mut process = patient(&server);
    let mut busy = anna(&process);
    busy.query("begin").ok();
    process.child.signal(Signal::Terminate);
    eventually("it drains", || integration_tests::http::fetch(process.admin(), "/readyz").status == 503);
    let mut ops = ops(&process);
    assert!(table(&mut ops, "show clients").iter().any(|row| row.get("user") == "anna"));
    ops.start_query("shutdown");
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(PATIENCE).unwrap().code(), Some(0), "{}", process.log());
}
