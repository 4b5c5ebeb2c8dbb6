//! Several servers behind one database: which one is taken, and what happens when they change places.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::SessionAttrs;
use integration_tests::cluster::{Stop, free_port};
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, backend, eventually};

const PORT: &str = "select inet_server_port()";

fn client(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.address(), "postgres", "postgres")
}

fn refused(proxy: &Proxy) -> integration_tests::Fields {
    RawClient::try_login(proxy.address(), &[("user", "postgres"), ("database", "postgres")], "").unwrap_err()
}

/// A port on loopback where nobody listens.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

#[test]
fn each_kind_of_server_is_found_among_a_primary_and_its_replica() {
    let primary = Cluster::builder().start();
    let replica = primary.replica();
    let (first, second) = (primary.address(), replica.address());
    for (attrs, expected) in [
        (SessionAttrs::Any, first),
        (SessionAttrs::ReadWrite, first),
        (SessionAttrs::Primary, first),
        (SessionAttrs::ReadOnly, second),
        (SessionAttrs::Standby, second),
        (SessionAttrs::PreferStandby, second),
    ] {
        for hosts in [[first, second], [second, first]] {
            let expected = if attrs == SessionAttrs::Any { hosts[0] } else { expected };
            let proxy = Proxy::before(first).hosts(&hosts, attrs).start();
            assert_eq!(client(&proxy).query(PORT).value(), expected.port().to_string(), "{attrs:?} of {hosts:?}");
        }
    }
    let alone = |attrs| Proxy::before(first).hosts(&[first, nobody()], attrs).start();
    let error = refused(&alone(SessionAttrs::Standby));
    assert_eq!((error.code(), error.is_whole()), ("57P03", true), "{error:?}");
    assert!(error.detail().contains("standby"), "{error:?}");
    let proxy = alone(SessionAttrs::PreferStandby);
    assert_eq!(client(&proxy).query(PORT).value(), first.port().to_string(), "any will do where none is a standby");
}

#[test]
fn a_server_that_does_not_say_what_it_is_is_asked() {
    let script = |standby: &'static str| {
        FakeUpstream::start(move |connection| {
            connection.login()?;
            connection.receive()?;
            let row = backend::data_row(&[standby, if standby == "t" { "on" } else { "off" }]);
            let answer = [row, backend::command_complete("SELECT 1"), backend::ready(b'I')];
            connection.send(&answer.concat())?;
            connection.serve()
        })
    };
    let (replica, primary) = (script("t"), script("f"));
    let hosts = [replica.address(), primary.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Primary).start();
    assert_eq!(client(&proxy).query("select 1").value(), "1");
    assert_eq!((replica.logins(), primary.logins()), (1, 1));
    assert_eq!(primary.queries().last().unwrap(), "select 1");
    assert!(replica.queries().iter().all(|sql| sql.contains("pg_is_in_recovery")));
}

#[test]
fn a_silent_host_costs_its_share_once_and_is_tried_last_afterwards() {
    let silent = FakeUpstream::start(|connection| connection.startup().and_then(|_| connection.listen()));
    let server = FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()));
    let proxy = Proxy::before(server.address())
        .hosts(&[silent.address(), server.address()], SessionAttrs::Any)
        .pool(|pool| {
            pool.connect_timeout = Duration::from_secs(1);
            pool.connect_backoff = Duration::from_secs(60);
            pool.connect_backoff_max = Duration::from_secs(60);
        })
        .start();
    let asked = Instant::now();
    let mut first = client(&proxy);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(950), "half of a second: {took:?}");
    first.query("begin").ok();
    let asked = Instant::now();
    let mut second = client(&proxy);
    second.query("begin").ok();
    assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
    assert_eq!((silent.logins(), server.logins()), (1, 2));
}

#[test]
fn a_wrong_password_is_not_tried_on_the_other_hosts() {
    let refuses = || {
        FakeUpstream::start(|connection| {
            connection.startup()?;
            connection.send(&backend::fatal("28P01", "password authentication failed"))
        })
    };
    let (first, second) = (refuses(), refuses());
    let hosts = [first.address(), second.address()];
    let proxy = Proxy::before(hosts[0]).hosts(&hosts, SessionAttrs::Any).start();
    assert_eq!(refused(&proxy).code(), "28P01");
    assert_eq!((first.logins(), second.logins()), (1, 0));
}

#[test]
fn clients_move_to_the_new_primary_when_the_old_one_dies() {
    let old = Cluster::builder().start();
    let new = old.replica();
    let proxy = Proxy::before(old.address()).hosts(&[old.address(), new.address()], SessionAttrs::ReadWrite).start();
    let (mut resting, mut busy) = (client(&proxy), client(&proxy));
    resting.query("create table t (n int)").ok();
    busy.start_query("select pg_sleep(60)");
    let arrived = "select count(*) from pg_stat_activity where query like '%sleep(60)' and state = 'active'";
    eventually("the query runs", || old.value("postgres", arrived) == "1");
    eventually("the replica has the table", || new.value("postgres", "select to_regclass('t') is not null") == "t");
    old.stop(Stop::Crash);
    let lost = busy.reply();
    assert_eq!(lost.error().code(), "08006", "{lost:?}");
    new.promote();
    for client in [&mut resting, &mut busy] {
        eventually("the client is served by the new primary", || {
            let reply = client.query("insert into t values (1)");
            let known = ["57P03", "08001", "08006"];
            assert!(reply.errors().iter().all(|error| known.contains(&error.code())), "{reply:?}");
            reply.errors().is_empty()
        });
        assert_eq!(client.query(PORT).value(), new.port().to_string());
    }
}
