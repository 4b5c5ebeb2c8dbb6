//! Servers that become something else while they are connected to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use config::{PoolMode, SessionAttrs};
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, backend, eventually};

const PORT: &str = "select inet_server_port()";

fn client(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

#[test]
fn a_primary_that_becomes_read_only_is_left_for_one_that_is_not() {
    let (first, second) = (Cluster::builder().start(), Cluster::builder().start());
    let ports = [first.port().to_string(), second.port().to_string()];
    let hosts = [first.address(), second.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::ReadWrite).size(2).start();
    let (mut writer, mut busy) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    assert_eq!(busy.query(PORT).value(), ports[0]);
    assert_eq!(writer.query(PORT).value(), ports[0]);
    first.run("postgres", "alter system set default_transaction_read_only = on");
    first.run("postgres", "select pg_reload_conf()");
    // Until the server has read its settings again, it still takes writes.
    eventually("the client writes elsewhere", || {
        let reply = writer.query("create table if not exists written (n int)");
        assert!(reply.errors().iter().all(|error| error.code() == "25006"), "{reply:?}");
        reply.errors().is_empty() && writer.query(PORT).value() == ports[1]
    });
    assert_eq!(busy.query(PORT).value(), ports[0], "a transaction ends where it began");
    busy.query("commit").ok();
    assert_eq!(busy.query(PORT).value(), ports[1]);
}

#[test]
fn a_write_in_a_transaction_that_was_begun_read_only_moves_nobody() {
    let server = Cluster::shared();
    let proxy = Proxy::before(server.address()).hosts(&[server.address()], SessionAttrs::ReadWrite).size(1).start();
    let mut client = client(&proxy);
    let process = client.query("select pg_backend_pid()").value();
    for _ in 0..3 {
        client.query("begin read only").ok();
        assert_eq!(client.query("create table never (n int)").error().code(), "25006");
        client.query("rollback").ok();
        // The look takes a moment.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(client.query("select pg_backend_pid()").value(), process);
    }
}

/// A server that says by `standby` what it is, and says goodbye to whoever sends `die`.
fn server(standby: &Arc<AtomicBool>) -> FakeUpstream {
    let standby = standby.clone();
    FakeUpstream::start(move |connection| {
        connection.login()?;
        connection.receive()?;
        let row = if standby.load(Ordering::Relaxed) { ["t", "on"] } else { ["f", "off"] };
        let answer = [backend::data_row(&row), backend::command_complete("SELECT 1"), backend::ready(b'I')];
        connection.send(&answer.concat())?;
        connection.serve_until("die")?;
        connection.send(&backend::fatal("57P01", "terminating connection due to administrator command"))
    })
}

#[test]
fn a_connection_that_its_server_ends_has_the_others_looked_at() {
    let [first_is_standby, second_is_standby] = [Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default()];
    let (first, second) = (server(&first_is_standby), server(&second_is_standby));
    let hosts = [first.address(), second.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Primary).size(2).start();
    let (mut busy, mut unlucky) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    assert_eq!(unlucky.query("select 1").value(), "1");
    busy.query("commit").ok();
    assert_eq!((first.logins(), second.logins()), (2, 0));
    first_is_standby.store(true, Ordering::Relaxed);
    assert_eq!(unlucky.query("die").error().code(), "57P01");
    eventually("both connections are closed", || first.has_closed(0) && first.has_closed(1));
    for client in [&mut busy, &mut unlucky] {
        client.query("select 'moved'").ok();
    }
    assert!(second.queries().contains(&"select 'moved'".to_owned()));
}

#[test]
fn a_server_that_is_what_it_was_keeps_its_connections() {
    let standby = Arc::<AtomicBool>::default();
    let server = server(&standby);
    let proxy = Proxy::before(server.address()).hosts(&[server.address()], SessionAttrs::Primary).size(2).start();
    let (mut busy, mut unlucky) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    assert_eq!(unlucky.query("die").error().code(), "57P01");
    eventually("it has been asked", || server.logins() >= 3 && server.has_closed(2));
    busy.query("commit").ok();
    assert_eq!(busy.query("select 1").value(), "1");
    assert!(!server.has_closed(0), "nothing was wrong with it");
}

#[test]
fn a_standby_that_is_promoted_is_left_by_those_who_want_one() {
    let primary = Cluster::builder().start();
    let (promoted, other) = (primary.replica(), primary.replica());
    let hosts = [promoted.address(), other.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Standby).size(2).start();
    let (mut reader, mut busy) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    assert_eq!(busy.query(PORT).value(), promoted.port().to_string());
    assert_eq!(reader.query(PORT).value(), promoted.port().to_string());
    promoted.promote();
    eventually("the client reads elsewhere", || reader.query(PORT).value() == other.port().to_string());
    assert_eq!(busy.query(PORT).value(), promoted.port().to_string(), "a transaction ends where it began");
    busy.query("commit").ok();
    assert_eq!(busy.query(PORT).value(), other.port().to_string());
}

/// A standby that is promoted while it is told `occasion`, and says so once, as servers do.
fn promoted_behind(occasion: &'static str) -> FakeUpstream {
    let promoted = AtomicBool::new(false);
    FakeUpstream::start(move |connection| {
        connection.login()?;
        connection.receive()?;
        let row = if promoted.load(Ordering::Relaxed) { ["f", "off"] } else { ["t", "on"] };
        let answer = [backend::data_row(&row), backend::command_complete("SELECT 1"), backend::ready(b'I')];
        connection.send(&answer.concat())?;
        connection.serve_until(occasion)?;
        promoted.store(true, Ordering::Relaxed);
        let status = backend::parameter_status("in_hot_standby", "off");
        connection.send(&[backend::command_complete("DO"), status, backend::ready(b'I')].concat())?;
        connection.serve()
    })
}

/// A standby, now and later.
fn standby() -> FakeUpstream {
    server(&Arc::new(AtomicBool::new(true)))
}

#[test]
fn a_promotion_is_heard_behind_the_statement_of_a_client() {
    let (first, second) = (promoted_behind("now"), standby());
    let hosts = [first.address(), second.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Standby).size(1).start();
    let mut client = client(&proxy);
    client.query("do 'now'").ok();
    eventually("the connection is closed", || first.has_closed(0));
    client.query("select 'moved'").ok();
    assert!(second.queries().contains(&"select 'moved'".to_owned()));
}

#[test]
fn a_promotion_is_heard_behind_a_statement_of_our_own() {
    let (first, second) = (promoted_behind("DISCARD ALL"), standby());
    let hosts = [first.address(), second.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Standby).mode(PoolMode::Session).size(1).start();
    client(&proxy).query("select 1").ok();
    eventually("the connection is closed", || first.has_closed(0));
    client(&proxy).query("select 'moved'").ok();
    assert!(second.queries().contains(&"select 'moved'".to_owned()));
}

#[test]
fn a_server_that_is_no_standby_may_say_so_where_a_primary_is_wanted() {
    let server = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.receive()?;
        let answer = [backend::data_row(&["f", "off"]), backend::command_complete("SELECT 1"), backend::ready(b'I')];
        connection.send(&answer.concat())?;
        connection.serve_until("now")?;
        let status = backend::parameter_status("in_hot_standby", "off");
        connection.send(&[backend::command_complete("DO"), status, backend::ready(b'I')].concat())?;
        connection.serve()
    });
    let proxy = Proxy::before(server.address()).hosts(&[server.address()], SessionAttrs::Primary).size(1).start();
    let mut client = client(&proxy);
    client.query("do 'now'").ok();
    eventually("it has been asked", || server.logins() == 2 && server.has_closed(1));
    assert_eq!(client.query("select 1").value(), "1");
    assert!(!server.has_closed(0));
}
