//! PostgreSQL 18 and its protocol 3.2, towards servers: `.ci/setup` brings one beside the distribution's.

use std::io;

use config::MaxProtocol;
use integration_tests::frontend::{PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST};
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, backend, eventually, frontend};

fn speaking_3_2(proxy: Builder) -> Builder {
    proxy.with(|settings| {
        settings.wildcard.as_mut().expect("tests use the wildcard").upstream.protocol = MaxProtocol::V3_2;
    })
}

/// A PostgreSQL 18, where this machine has one.
fn newest() -> Option<Cluster> {
    let found = Cluster::has_version(18);
    if !found {
        println!("skipped: there is no PostgreSQL 18 here; `.ci/setup test` brings one where there is one to bring");
    }
    found.then(|| Cluster::builder().version(18).start())
}

#[test]
fn a_server_of_protocol_3_2_is_cancelled_by_its_long_key() {
    let Some(cluster) = newest() else { return };
    // That it gives such keys is what this test is about.
    let mut direct = RawClient::connect(cluster.address());
    direct.say(frontend::startup(PROTOCOL_3_2, &[("user", "postgres"), ("database", "postgres")]));
    direct.finish_login(&[], "").unwrap();
    assert!(direct.key.as_ref().is_some_and(|(_, key)| key.len() > 4));
    for builder in [Proxy::before(cluster.address()), speaking_3_2(Proxy::before(cluster.address()))] {
        let proxy = builder.size(1).start();
        let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
        client.start_query("select pg_sleep(60) /* long key */");
        let runs = "select count(*) from pg_stat_activity where query like '%long key%' and wait_event = 'PgSleep'";
        eventually("the query runs", || cluster.value("postgres", runs) == "1");
        client.cancel();
        assert_eq!(client.reply().error().code(), "57014");
        assert_eq!(client.query("select 1").value(), "1");
    }
}

#[test]
fn clients_of_both_protocols_share_servers_of_postgresql_18() {
    let Some(cluster) = newest() else { return };
    let proxy = speaking_3_2(Proxy::before(cluster.address())).size(1).start();
    let parameters = [("user", "postgres"), ("database", "postgres")];
    let mut clients = [PROTOCOL_3_0, PROTOCOL_3_2].map(|version| {
        let mut client = RawClient::connect(proxy.address());
        client.say(frontend::startup(version, &parameters));
        client.finish_login(&parameters, "").unwrap();
        client
    });
    for (number, client) in clients.iter_mut().enumerate() {
        client.query(format!("set search_path to tenant_{number}")).ok();
        client.parse("same", "select current_setting('search_path') || $1").sync().reply().ok();
    }
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let reply = client.bind("same", &["!"]).execute().sync().reply();
            assert_eq!(reply.value(), format!("tenant_{number}!"));
            assert_eq!(client.query("select version()").value().split(['.', ' ']).nth(1), Some("18"));
        }
    }
}

#[test]
fn a_server_that_knows_no_protocol_3_2_is_spoken_to_in_3_0() {
    let upstream = FakeUpstream::start(|connection| {
        let mut head = connection.read_raw(8)?;
        if head[4..] == SSL_REQUEST.to_be_bytes() {
            connection.send(b"N")?;
            head = connection.read_raw(8)?;
        }
        if head[4..] != PROTOCOL_3_2.to_be_bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        connection.read_raw(u32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 8)?;
        let negotiation = frontend::message(b'v', &[PROTOCOL_3_0.to_be_bytes(), [0; 4]].concat());
        let version = backend::parameter_status("server_version", "15.0");
        let key = backend::backend_key_data(7, 7);
        connection.send(&[negotiation, backend::authentication_ok(), version, key, backend::ready(b'I')].concat())?;
        connection.serve()
    });
    let proxy = speaking_3_2(Proxy::before(upstream.address())).start();
    assert_eq!(RawClient::login(proxy.address(), "anna", "shop").query("select 1").value(), "1");
}
