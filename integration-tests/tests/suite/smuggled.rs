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
        client.say(&smuggled).say(frontend::query("select 'own'"));
        let reply = client.reply();
        assert!(tenant == "blocked" || reply.rows() == [["own"]], "{case}: {reply:?}");
        assert_eq!(other.query("select 'next'").value(), "next", "{case}");
        assert_eq!(canaries(&site), "0", "{case}");
    }
}

#[test]
fn the_rest_of_a_message_that_was_refused_keeps_no_server() {
    let site = Site::pooled(Statement, 1);
    let (mut client, mut other) = (site.client(), site.client());
    let rest = [b' '; 100];
    assert_eq!(client.say(beginning(b'Q', b"begin", &rest)).reply().error().code(), "0A000");
    assert_eq!(other.query("select 'next'").value(), "next");
    client.say(rest).say(frontend::query("select 'own'"));
    assert_eq!(client.reply().value(), "own");
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

#[test]
fn a_goodbye_behind_what_waits_for_more_gives_the_server_back() {
    let site = Site::pooled(Transaction, 1);
    site.run_directly("create table t (n int)").ok();
    let mut other = site.client();
    let copy = "copy t from stdin";
    let says: [fn(&mut RawClient, &str); 3] = [
        |client, copy| _ = client.say(frontend::query(copy)),
        |client, copy| _ = client.parse("", copy).bind("", &[]).execute().sync(),
        |client, _| {
            client.parse("", "this is no statement").bind("", &[]).execute().say(frontend::query("select 1"));
        },
    ];
    for (case, say) in says.into_iter().enumerate() {
        let mut client = site.client();
        say(&mut client, copy);
        client.say(frontend::terminate()).send();
        assert_eq!(other.query("select 'next'").value(), "next", "{case}");
        assert_eq!(client.read_to_end().rows().len(), 0, "{case}");
    }
}

/// A server on which the first Bind fails for how its statement was parsed, in its own time.
fn out_of_date(connection: &mut Connection) -> std::io::Result<()> {
    connection.login()?;
    let (mut binds, mut failed) = (0, false);
    loop {
        let (tag, _) = connection.receive()?;
        match tag {
            'B' if binds == 0 => {
                (binds, failed) = (1, true);
                connection.delay(Duration::from_millis(200));
                connection.send(&backend::error("0A000", "cached plan must not change result type"))?;
            }
            'S' => {
                failed = false;
                connection.send(&backend::ready(b'I'))?;
            }
            _ if failed => {}
            'P' => connection.send(&frontend::message(b'1', &[]))?,
            'B' => connection.send(&frontend::message(b'2', &[]))?,
            'C' => connection.send(&frontend::message(b'3', &[]))?,
            'E' => connection.send(&backend::command_complete("INSERT 0 1"))?,
            'Q' => connection.send(&backend::one_value("1"))?,
            _ => {}
        }
    }
}

#[test]
fn a_goodbye_behind_a_request_that_is_sent_again_is_not_its_end() {
    const INSERT: &str = "insert into t select * from shelf";
    for at_once in [true, false] {
        let server = FakeUpstream::start(out_of_date);
        let proxy = Proxy::before(server.address()).size(1).start();
        let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
        client.parse("look", INSERT).sync().reply().ok();
        client.say(frontend::close(b'S', "look")).sync().reply().ok();
        client.parse("look", INSERT).bind("look", &[]).execute().sync();
        if !at_once {
            client.send();
            eventually("the request is there", || server.tags(0).ends_with("BES") || server.tags(0).ends_with('B'));
        }
        client.say(frontend::terminate()).send();
        let again = || server.tags(0).chars().filter(|tag| *tag == 'B').count() == 2;
        eventually("it is sent again", again);
        let mut other = RawClient::login(proxy.address(), "postgres", "postgres");
        assert_eq!(other.query("select 1").value(), "1", "{at_once}: {}", server.tags(0));
        client.read_to_end();
    }
}

/// Takes a cancel, and does not say that it is done with it before long.
fn slow_to_cancel(connection: &mut Connection) -> std::io::Result<()> {
    if let Err(gone) = connection.login() {
        connection.delay(Duration::from_secs(9));
        return Err(gone);
    }
    if connection.index == 0 {
        connection.serve_until("select slow")?;
        connection.until_cancelled();
        connection.send(&[backend::error("57014", "canceled"), backend::ready(b'I')].concat())?;
    }
    connection.serve()
}

#[test]
fn a_cancel_that_its_server_never_confirms_strikes_nobody_else() {
    let server = FakeUpstream::start(slow_to_cancel);
    let proxy = Proxy::before(server.address()).size(1).start();
    let mut slow = RawClient::login(proxy.address(), "anna", "shop");
    let mut other = RawClient::login(proxy.address(), "anna", "shop");
    slow.start_query("select slow");
    eventually("the query has arrived", || server.queries().iter().any(|sql| sql == "select slow"));
    slow.cancel();
    assert_eq!(slow.reply().error().code(), "57014");
    for client in [&mut other, &mut slow] {
        assert_eq!(client.query("select 'next'").value(), "1");
    }
    let next = |what: &What| matches!(what, What::Message { body, .. } if body.starts_with(b"select 'next'"));
    let served: Vec<_> =
        server.received().into_iter().filter(|said| next(&said.what)).map(|said| said.connection).collect();
    assert!(server.has_closed(0) && served.len() == 2 && !served.contains(&0), "{served:?}");
}

#[test]
fn a_cancel_that_its_server_never_confirms_ends_the_transaction_that_it_may_strike() {
    let server = FakeUpstream::start(|connection| {
        if let Err(gone) = connection.login() {
            connection.delay(Duration::from_secs(9));
            return Err(gone);
        }
        connection.serve_until("select slow")?;
        connection.until_cancelled();
        connection.send(&[backend::error("57014", "canceled"), backend::ready(b'E')].concat())?;
        connection.serve()
    });
    let proxy = Proxy::before(server.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    client.query("begin").ok();
    client.start_query("select slow");
    eventually("the query has arrived", || server.queries().iter().any(|sql| sql == "select slow"));
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014");
    let error = client.start_query("rollback").read_to_end().error().clone();
    assert_eq!((error.severity(), error.code()), ("FATAL", "08006"));
    assert!(!server.queries().contains(&"rollback".to_owned()), "{:?}", server.queries());
}

#[test]
fn a_server_that_was_idle_for_long_gives_a_sign_of_life_before_somebody_elsewhere_gets_it() {
    let server = FakeUpstream::forgetful();
    let idle = Duration::from_millis(50);
    let proxy = Proxy::before(server.address()).size(1).pool(|pool| pool.health_check_after = idle).start();
    // New clients go to the worker with the fewest.
    let [mut first, mut elsewhere] = [(); 2].map(|()| RawClient::login(proxy.address(), "anna", "shop"));
    assert_eq!(first.query("select 1").value(), "1");
    let rested = Instant::now();
    eventually("the connection has been idle for long enough", || rested.elapsed() > 2 * idle);
    assert_eq!(elsewhere.query("select 2").value(), "1");
    assert_eq!(server.logins(), 2, "the silent one was given up: {:?}", server.queries());
    assert!(server.queries().contains(&String::new()), "{:?}", server.queries());
}

#[test]
fn a_transaction_that_changes_channels_without_end_is_refused_more() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.query("listen a; listen b").ok();
    client.query("begin").ok();
    let text = "unlisten a; unlisten b; ".repeat(100);
    let refused = (0..60).find(|_| !client.query(&text).errors().is_empty());
    assert!(refused.is_some_and(|place| place >= 50), "{refused:?}");
    assert_eq!(client.query("rollback").ok().status(), 'I');
    client.query("notify a, 'kept'").ok();
}
