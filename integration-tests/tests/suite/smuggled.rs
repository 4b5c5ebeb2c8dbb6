//! What a client says and what is not passed on leaves nothing behind: no rest of a message, no lease, no cancel, no setting.

use std::time::{Duration, Instant};

use config::PoolMode::{Statement, Transaction};
use integration_tests::fake::{Connection, What};
use integration_tests::{FakeUpstream, Proxy, RawClient, Site, backend, eventually, frontend, tenants};

/// Messages of more bytes go on as they come, once so many of them are there.
const HELD: usize = 266_240;
/// What shall never be run.
const CANARY: &str = "insert into canary values (1)";

/// The first [`HELD`] bytes of a message whose `rest` is still to come.
fn beginning(tag: u8, body: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = (HELD - 1 + rest.len()) as u32;
    let mut bytes = [&[tag][..], &length.to_be_bytes(), body].concat();
    bytes.resize(HELD, b' ');
    bytes
}

fn canaries(site: &Site) -> String {
    site.run_directly("select count(*) from canary").value()
}

#[test]
fn a_message_that_is_longer_than_any_of_its_kind_ends_its_client() {
    let site = Site::pooled(Transaction, 1);
    site.run_directly("create table canary (n int)").ok();
    let smuggled = frontend::query(CANARY);
    let mut other = site.client();
    let process = other.query("select pg_backend_pid()").value();
    for tag in *b"cfEDCHSX" {
        let mut client = site.client();
        client.say(beginning(tag, b"", &smuggled)).send();
        client.say(&smuggled);
        let reply = client.read_to_end();
        let error = reply.error();
        assert_eq!((error.severity(), error.code()), ("FATAL", "08P01"), "{}: {reply:?}", char::from(tag));
        assert_eq!(other.query("select pg_backend_pid()").value(), process, "{}", char::from(tag));
    }
    assert_eq!(canaries(&site), "0");
}

#[test]
fn the_rest_of_a_message_that_was_refused_reaches_no_server() {
    let tenants = tenants(
        "[[tenant.rule]]\nfrom = 'application_name'\n[tenant.limits.acme]\ntables = ['runs']\n\
         [tenant.limits.reader]\nread_only = true\n[tenant.limits.blocked]\nblocked = true\n",
    );
    // 2078 is set_config.
    let function = [0, 0, 8, 30];
    let cases: [(&str, u8, &[u8]); 6] = [
        ("acme", b'Q', b"select * from users"),
        ("acme", b'F', &function),
        ("reader", b'Q', b"insert into users values (1)"),
        ("reader", b'F', &function),
        ("blocked", b'Q', b"select 1"),
        ("anybody", b'Q', b"begin"),
    ];
    let site = Site::behind(Statement, |proxy| proxy.size(1).with(|settings| settings.tenants = tenants));
    site.run_directly("create table canary (n int); create table users (n int)").ok();
    let smuggled = [frontend::query(CANARY), frontend::query("select 'smuggled'")].concat();
    let mut other = site.client();
    for (tenant, tag, body) in cases {
        let case = format!("{tenant} {}", char::from(tag));
        let mut client = site.client_with(&[("application_name", tenant)]);
        let reply = client.say(beginning(tag, body, &smuggled)).reply();
        assert_eq!(reply.shape(), "EZ", "{case}: {reply:?}");
        // Its server is free while the rest is still to come.
        assert_eq!(other.query("select 'next'").value(), "next", "{case}");
        client.say(&smuggled).say(frontend::query("select 'own'"));
        let reply = client.reply();
        assert!(tenant == "blocked" || reply.rows() == [["own"]], "{case}: {reply:?}");
        assert_eq!(other.query("select 'next'").value(), "next", "{case}");
        assert_eq!(canaries(&site), "0", "{case}");
    }
}

/// Says savepoints of which each has another name.
fn savepoints(client: &mut RawClient, count: usize) {
    for n in 0..count {
        client.say(frontend::query(format!("savepoint p{n}")));
    }
    client.send();
    for _ in 0..count {
        client.reply().ok();
    }
}

#[test]
fn a_setting_from_before_a_savepoint_that_nobody_remembers_is_its_clients_alone() {
    const SETTING: &str = "select coalesce(current_setting('app.tenant', true), '')";
    let site = Site::pooled(Transaction, 2);
    let mut client = site.client();
    client.query("begin").ok();
    client.query("set app.tenant = 'b'").ok();
    client.query("savepoint s0").ok();
    savepoints(&mut client, 1_100);
    client.query("rollback to s0").ok();
    client.query("commit").ok();
    assert_eq!(client.query(SETTING).value(), "b");
    for mut other in [site.client(), site.client()] {
        assert_eq!(other.query(SETTING).value(), "");
    }

    // Another one was made in between: the server alone knows which of them holds.
    client.query("begin").ok();
    client.query("savepoint s0").ok();
    client.query("set app.tenant = 'c'").ok();
    client.query("savepoint s1").ok();
    savepoints(&mut client, 1_100);
    client.query("rollback to s0").ok();
    client.query("commit").ok();
    assert_eq!(client.query(SETTING).value(), "b");
    let mut others = [site.client(), site.client()];
    others.iter_mut().for_each(|other| assert_eq!(other.query(SETTING).value(), ""));
    client.terminate();
    others.iter_mut().for_each(|other| assert_eq!(other.query(SETTING).value(), ""));
}
