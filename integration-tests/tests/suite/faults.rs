//! Servers that misbehave: the client learns it clearly, the next client does not notice.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::Pool;
use integration_tests::fake::Connection;
use integration_tests::{FakeUpstream, Proxy, RawClient, backend, eventually, frontend, http};

/// A proxy with a single upstream in front of the fake.
fn before(upstream: &FakeUpstream) -> Proxy {
    before_with(upstream, |_| {})
}

fn before_with(upstream: &FakeUpstream, change: impl FnOnce(&mut Pool)) -> Proxy {
    Proxy::before(upstream.address())
        .size(1)
        .pool(|pool| {
            pool.queue_timeout = Duration::from_secs(2);
            pool.connect_timeout = Duration::from_millis(500);
            change(pool);
        })
        .start()
}

fn login(address: SocketAddr) -> RawClient {
    RawClient::login(address, "anna", "shop")
}

/// The first connection misbehaves when it is asked to, all others are polite.
fn misbehaving_once(misbehave: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> FakeUpstream {
    FakeUpstream::start(move |connection| {
        connection.login()?;
        if connection.index == 0 {
            connection.serve_until("select boom")?;
            return misbehave(connection);
        }
        connection.serve()
    })
}

/// Asks for trouble, and sees that the client hears of it in the protocol and that the next one is served by another
/// connection.
fn is_survived(upstream: &FakeUpstream) {
    let proxy = before(upstream);
    let mut unlucky = login(proxy.address());
    unlucky.say(frontend::query("select boom"));
    // Whether it keeps its connection depends on what can still be said on it.
    let reply = unlucky.read_until('E');
    assert!(reply.error().is_whole(), "{reply:?}");
    assert!(["08006", "08P01", "57P01"].contains(&reply.error().code()), "{reply:?}");
    assert!(reply.rows().is_empty(), "{reply:?}");
    assert_eq!(login(proxy.address()).query("select 1").value(), "1");
    eventually("the first connection is closed", || upstream.has_closed(0));
}

#[test]
fn a_server_that_closes_instead_of_answering() {
    is_survived(&misbehaving_once(|_| Ok(())));
}

#[test]
fn a_server_that_closes_between_two_messages() {
    is_survived(&misbehaving_once(|connection| connection.send(&backend::row_description(&["a"]))));
}

#[test]
fn a_server_that_sends_a_length_that_cannot_be() {
    is_survived(&misbehaving_once(|connection| {
        connection.send(&[b'D', 0, 0, 0, 3])?;
        connection.listen()
    }));
}

#[test]
fn a_server_that_sends_a_type_that_does_not_exist() {
    is_survived(&misbehaving_once(|connection| {
        connection.send(&frontend::message(b'~', b"garbage"))?;
        connection.listen()
    }));
}

#[test]
fn a_server_that_is_ready_before_it_was_asked_to_be() {
    // One ReadyForQuery too many: whose is it? Nobody may get the next reply by mistake.
    let upstream = misbehaving_once(|connection| {
        connection.send(&[backend::one_value("first"), backend::one_value("surplus")].concat())?;
        connection.listen()
    });
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    client.start_query("select boom");
    assert_eq!(client.reply().value(), "first");
    assert_eq!(login(proxy.address()).query("select 1").value(), "1");
    eventually("the first connection is closed", || upstream.has_closed(0));
}

#[test]
fn a_message_cut_off_in_the_middle_ends_the_client_too() {
    // Half of a message has been forwarded: nothing can be said behind it any more, only closing is honest.
    let upstream = misbehaving_once(|connection| {
        let row = backend::data_row(&["x".repeat(100_000).as_str()]);
        connection.send(&[backend::row_description(&["a"]), row[..60_000].to_vec()].concat())
    });
    let proxy = before(&upstream);
    let mut unlucky = login(proxy.address());
    let mut heard = Vec::new();
    unlucky.start_query("select boom");
    // The end, or a reset: either way it comes.
    drop(io::Read::read_to_end(&mut unlucky.stream(), &mut heard));
    assert!(heard.len() < 100_000, "{}", heard.len());
    assert_eq!(login(proxy.address()).query("select 1").value(), "1");
}

#[test]
fn an_idle_server_that_says_goodbye_is_not_handed_out() {
    let upstream = misbehaving_once(|connection| {
        connection.send(&backend::one_value("1"))?;
        connection.send(&backend::fatal("57P01", "terminating connection due to administrator command"))
    });
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    assert_eq!(client.query("select boom").value(), "1");
    eventually("the first connection is closed", || upstream.has_closed(0));
    assert_eq!(client.query("select 1").value(), "1");
    assert_eq!(upstream.logins(), 2);
}

#[test]
fn what_an_idle_server_says_unasked_reaches_nobody() {
    let upstream = misbehaving_once(|connection| {
        connection.send(&[backend::one_value("1"), backend::data_row(&["somebody else's secret"])].concat())?;
        connection.listen()
    });
    let proxy = before(&upstream);
    assert_eq!(login(proxy.address()).query("select boom").value(), "1");
    let mut next = login(proxy.address());
    let reply = next.query("select 1");
    assert_eq!((reply.shape().as_str(), reply.value().as_str()), ("TDCZ", "1"));
    eventually("the first connection is closed", || upstream.has_closed(0));
}

#[test]
fn an_idle_server_may_report_notify_and_remark() {
    let upstream = misbehaving_once(|connection| {
        connection.send(&backend::one_value("1"))?;
        connection.send(&backend::parameter_status("application_name", "changed"))?;
        connection.send(&backend::notification(7, "channel", "payload"))?;
        connection.send(&backend::notice("a remark"))?;
        connection.serve()
    });
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    assert_eq!(client.query("select boom").value(), "1");
    for _ in 0..3 {
        assert_eq!(client.query("select 1").value(), "1");
    }
    assert_eq!(upstream.logins(), 1);
}

#[test]
fn a_server_that_never_answers_a_login_costs_the_connect_timeout() {
    let upstream = FakeUpstream::start(|connection| connection.listen());
    is_refused_in_time(&upstream);
}

#[test]
fn a_server_that_goes_while_a_statement_is_replaced_leaves_its_client_none() {
    let upstream = misbehaving_once(|_| Ok(()));
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    client.parse("", "select 'old'").sync().reply().ok();
    let reply = client.parse("", "select boom").bind("", &[]).execute().sync().reply();
    assert_eq!((reply.error().code(), reply.shape().as_str()), ("08006", "EZ"));
    client.bind("", &[]).execute().sync().reply();
    assert_eq!(upstream.tags(1), "CBES", "nobody knows which of the two it is: it is not there");
}

#[test]
fn a_server_that_talks_nonsense_at_login_is_refused() {
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        frontend::message(b'E', b""),
        frontend::message(b'E', b"C"),
        frontend::message(b'R', &[0, 0]),
        frontend::message(b'R', &[0, 0, 0, 99]),
        frontend::message(b'R', &[0, 0, 0, 10, b'X', 0, 0]),
        vec![b'R', 0x7F, 0xFF, 0xFF, 0xFF],
        backend::ready(b'I'),
    ] {
        let upstream = FakeUpstream::start(move |connection| {
            connection.startup()?;
            connection.send(&nonsense)?;
            connection.listen()
        });
        is_refused_in_time(&upstream);
    }
}

/// Neither a login nor a query may succeed or hang.
fn is_refused_in_time(upstream: &FakeUpstream) {
    let proxy = before(upstream);
    let asked = Instant::now();
    let error = match RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "") {
        Err(error) => error,
        Ok(mut client) => client.query("select 1").error().clone(),
    };
    assert!(
        error.is_whole() && ["08001", "08006", "08P01", "57P03", "53300", "XX000"].contains(&error.code()),
        "{error:?}"
    );
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn a_refused_login_is_told_in_the_servers_own_words() {
    let upstream = FakeUpstream::start(|connection| {
        connection.startup()?;
        connection.send(&backend::fatal("28000", "role \"anna\" is not permitted to log in"))
    });
    let proxy = before(&upstream);
    let error = match RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "") {
        Err(error) => error,
        Ok(mut client) => client.query("select 1").error().clone(),
    };
    assert_eq!(error.code(), "28000", "{error:?}");
    assert!(error.message().contains("not permitted to log in"), "{error:?}");
}

#[test]
fn a_cancel_without_a_query_never_reaches_a_server() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve()
    });
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    client.query("select 1").ok();
    for _ in 0..20 {
        client.cancel();
    }
    client.query("select 1").ok();
    assert_eq!(upstream.cancels(), 0);
}

#[test]
fn a_server_is_not_reused_before_its_cancel_has_been_delivered() {
    // The fake answers the cancelled query at once, and takes the cancel request itself only later.
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("select slow")?;
        connection.delay(Duration::from_millis(100));
        connection.send(&backend::one_value("slow"))?;
        connection.serve()
    });
    let proxy = before(&upstream);
    let (mut slow, mut next) = (login(proxy.address()), login(proxy.address()));
    slow.start_query("select slow");
    eventually("the query has arrived", || upstream.queries().iter().any(|sql| sql == "select slow"));
    slow.cancel();
    slow.reply();
    assert_eq!(next.query("select 'next'").value(), "1");
    let order = upstream.received();
    let position = |wanted: &dyn Fn(&integration_tests::fake::What) -> bool| {
        order.iter().position(|received| wanted(&received.what))
    };
    let cancelled = position(&|what| matches!(what, integration_tests::fake::What::Cancel { .. }));
    let reused = position(
        &|what| matches!(what, integration_tests::fake::What::Message { body, .. } if body.starts_with(b"select 'next'")),
    );
    assert!(cancelled.is_some() && cancelled < reused, "{order:?}");
}

#[test]
fn only_the_clients_own_messages_reach_a_server() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve()
    });
    let proxy = before(&upstream);
    let mut client = login(proxy.address());
    client.parse("", "select 1").bind("", &[]).execute().sync().reply().ok();
    client.query("select 2").ok();
    let tags = upstream.tags(0);
    assert!(tags.ends_with("PBESQ"), "{tags}: no Sync and no query of our own in the client's pipeline");
}

#[test]
fn a_server_that_stops_reading_holds_nobody_else_up() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        if connection.index == 0 {
            connection.serve_until("select boom")?;
            // Neither reads nor writes until the proxy gives up on it.
            connection.delay(Duration::from_secs(3));
            return Ok(());
        }
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(2).with(|settings| settings.workers = 1).start();
    let (mut stuck, mut other) = (login(proxy.address()), login(proxy.address()));
    stuck.start_query("select boom");
    eventually("the query has arrived", || upstream.queries().iter().any(|sql| sql == "select boom"));
    let asked = Instant::now();
    assert_eq!(other.query("select 1").value(), "1");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn a_server_that_was_idle_for_long_gives_a_sign_of_life_before_it_is_used() {
    let upstream = FakeUpstream::forgetful();
    let idle = Duration::from_millis(50);
    let proxy = before_with(&upstream, |pool| {
        pool.health_check_after = idle;
        pool.queue_timeout = Duration::from_secs(10);
    });
    let mut client = login(proxy.address());
    assert_eq!(client.query("select 1").value(), "1");
    let rested = Instant::now();
    eventually("the connection has been idle for long enough", || rested.elapsed() > 2 * idle);
    assert_eq!(client.query("select 2").value(), "1");
    assert_eq!(upstream.logins(), 2, "the silent one was given up: {:?}", upstream.queries());
    assert!(upstream.queries().contains(&String::new()), "{:?}", upstream.queries());
}

#[test]
fn when_the_last_connection_is_lost_and_none_is_made_those_who_wait_are_told_when_to_come_again() {
    let upstream = FakeUpstream::start(|connection| {
        if connection.index > 0 {
            return Ok(());
        }
        connection.login()?;
        connection.serve_until("select boom")
    });
    let proxy = before_with(&upstream, |pool| {
        pool.size = 2;
        pool.queue_timeout = Duration::from_secs(20);
        pool.connect_backoff = Duration::from_secs(60);
        pool.connect_backoff_max = Duration::from_secs(60);
    });
    let (mut first, mut second) = (login(proxy.address()), login(proxy.address()));
    assert_eq!(first.query("select 1").value(), "1");
    first.query("begin").ok();
    second.start_query("select 2");
    let overview = || http::fetch(proxy.admin(), "/api/v1/overview").json().to_string();
    eventually("another connection has failed", || overview().contains("server_down"));
    assert!(second.hears_nothing_for(Duration::from_millis(100)), "one is open: it may yet be given back");
    assert_eq!(first.start_query("select boom").read_until('E').error().code(), "08006");
    let error = second.reply().error().clone();
    assert_eq!((error.code(), error.is_whole()), ("57P03", true), "{error:?}");
}
