//! What fails for how its statement was parsed for somebody else is sent once more, and nothing else is.

use std::time::Duration;

use config::PoolMode;
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, Site, backend, eventually, everywhere, frontend};

const LOOK: &str = "select * from shelf";
const CHANGED: &str = "cached plan must not change result type";

/// A client whose only server holds `LOOK` as it was before its table was changed past the proxy; the client itself does
/// not have the statement.
fn out_of_date(sql: &str) -> (Site, RawClient, RawClient) {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let mut beside = Cluster::shared().connect(&site.database);
    beside.query("create table shelf (a int); insert into shelf values (1); grant all on shelf to public").ok();
    let mut client = site.client();
    client.parse("look", sql).say(frontend::describe(b'S', "look")).sync().reply().ok();
    client.say(frontend::close(b'S', "look")).sync().reply().ok();
    beside.query("alter table shelf alter a type text").ok();
    (site, client, beside)
}

#[test]
fn a_request_of_more_than_4_kib_is_told_its_error() {
    let sql = "select * from shelf where $1::text is not null";
    let (_site, mut client, _) = out_of_date(sql);
    let long = "x".repeat(5000);
    let refused = client.parse("look", sql).bind("look", &[&long]).execute().sync().reply();
    assert_eq!((refused.shape().as_str(), refused.error().message()), ("1EZ", CHANGED));
    assert_eq!(client.bind("look", &[&long]).execute().sync().reply().shape(), "2DCZ", "the copy was renewed");
}

#[test]
fn a_request_that_prepares_something_else_is_told_its_error() {
    let (_site, mut client, _) = out_of_date(LOOK);
    let refused = client.parse("look", LOOK).parse("else", "select 2").bind("look", &[]).execute().sync().reply();
    assert_eq!((refused.shape().as_str(), refused.error().message()), ("11EZ", CHANGED));
}

#[test]
fn a_request_in_a_transaction_is_told_its_error() {
    let (_site, mut client, _) = out_of_date(LOOK);
    client.query("begin").ok();
    let refused = client.parse("look", LOOK).bind("look", &[]).execute().sync().reply();
    assert_eq!((refused.error().message(), refused.status()), (CHANGED, 'E'));
}

#[test]
fn what_the_client_was_told_of_before_its_change_is_not_renewed_by_another_statement() {
    let (_site, mut client, mut beside) = out_of_date("select 1");
    client.parse("told", LOOK).say(frontend::describe(b'S', "told")).sync().reply().ok();
    beside.query("alter table shelf alter a type bigint using a::bigint").ok();
    let refused = client.parse("look", "select 1").bind("told", &[]).execute().sync().reply();
    assert_eq!((refused.shape().as_str(), refused.error().message()), ("1EZ", CHANGED));
}

#[test]
fn nothing_is_lost_that_stands_before_the_parse() {
    let (_site, mut client, mut beside) = out_of_date(LOOK);
    beside.query("create table log (n int); grant all on log to public").ok();
    client.parse("note", "insert into log values (1)").sync().reply().ok();
    client.bind("note", &[]).execute();
    let refused = client.parse("look", LOOK).bind("look", &[]).execute().sync().reply();
    assert_eq!((refused.shape().as_str(), refused.error().message()), ("2C1EZ", CHANGED));
    assert_eq!(beside.query("select count(*) from log").value(), "0", "its transaction is the request's");
}

#[test]
fn a_request_with_another_one_behind_it_is_told_its_error() {
    let (_site, mut client, mut beside) = out_of_date(LOOK);
    beside.query("begin; lock table shelf").ok();
    client.parse("look", LOOK).bind("look", &[]).execute().sync().send();
    // The server is at the Bind, and waits for the lock.
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    eventually("the request waits", || beside.query(waits).value() == "1");
    client.read_until('1');
    client.start_query("select 'behind'");
    // Time for it to be sent on.
    assert!(client.hears_nothing_for(Duration::from_millis(300)));
    beside.query("commit").ok();
    let refused = client.reply();
    assert_eq!((refused.shape().as_str(), refused.error().message()), ("EZ", CHANGED));
    assert_eq!(client.reply().value(), "behind");
}

#[test]
fn an_error_that_is_the_clients_own_is_asked_for_once() {
    // Held by the server or not; the SQLSTATE; how often the server is sent the Bind.
    let cases = [(true, "22P02", 1), (true, "42804", 2), (false, "42804", 1), (true, "26000", 2), (false, "26000", 1)];
    for (held, code, binds) in cases {
        let server = FakeUpstream::start(move |connection| {
            connection.login()?;
            loop {
                let (tag, _) = connection.receive()?;
                match tag {
                    'P' => connection.send(&frontend::message(b'1', &[]))?,
                    'B' => connection.send(&backend::error(code, "this value will not do"))?,
                    'C' => connection.send(&frontend::message(b'3', &[]))?,
                    'S' => connection.send(&backend::ready(b'I'))?,
                    'Q' => {
                        connection.send(&[backend::command_complete("DISCARD ALL"), backend::ready(b'I')].concat())?
                    }
                    _ => {}
                }
            }
        });
        let proxy = Proxy::before(server.address()).size(1).start();
        let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
        if held {
            client.parse("look", LOOK).sync().reply().ok();
            client.say(frontend::close(b'S', "look")).sync().reply().ok();
        }
        let refused = client.parse("look", LOOK).bind("look", &[]).execute().sync().reply();
        assert_eq!((refused.shape().as_str(), refused.error().code()), ("1EZ", code));
        let sent = server.tags(0).chars().filter(|tag| *tag == 'B').count();
        assert_eq!(sent, binds, "{held} {code}: {}", server.tags(0));
    }
}

#[test]
fn a_function_that_says_itself_that_a_statement_is_missing_is_not_asked_for_ever() {
    everywhere(|site| {
        let mut client = site.client();
        // What is immutable is evaluated when its statement is planned, at the Bind.
        let body = "begin raise sqlstate '26000' using message = 'mine'; end";
        client.query(format!("create function fails() returns int immutable language plpgsql as $${body}$$")).ok();
        client.parse("call", "select fails()").sync().reply().ok();
        for _ in 0..2 {
            let refused = client.bind("call", &[]).execute().sync().reply();
            assert_eq!((refused.shape().as_str(), refused.error().message()), ("EZ", "mine"));
        }
    });
}

/// A server whose first Bind finds its statement out of date. When that request ends, it takes its time to say so, or has
/// gone.
fn out_of_date_once(goes: bool) -> (FakeUpstream, Proxy, RawClient) {
    let server = FakeUpstream::start(move |connection| {
        connection.login()?;
        let (mut binds, mut failed) = (connection.index, false);
        loop {
            let (tag, _) = connection.receive()?;
            match tag {
                'P' => connection.send(&frontend::message(b'1', &[]))?,
                'B' if binds == 0 => {
                    (binds, failed) = (1, true);
                    connection.send(&backend::error("0A000", CHANGED))?;
                }
                'B' => connection.send(&frontend::message(b'2', &[]))?,
                'C' => connection.send(&frontend::message(b'3', &[]))?,
                'E' if !failed => connection.send(&backend::command_complete("SELECT 0"))?,
                'S' if failed && goes => return Ok(()),
                'S' => {
                    if std::mem::take(&mut failed) {
                        connection.delay(Duration::from_millis(400));
                    }
                    connection.send(&backend::ready(b'I'))?;
                }
                'Q' => connection.send(&backend::one_value("behind"))?,
                _ => {}
            }
        }
    });
    let proxy = Proxy::before(server.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.parse("look", LOOK).sync().reply().ok();
    client.say(frontend::close(b'S', "look")).sync().reply().ok();
    client.parse("look", LOOK).bind("look", &[]).execute().sync().read_until('1');
    (server, proxy, client)
}

#[test]
fn what_is_sent_while_a_request_fails_stands_behind_it() {
    let bound = [frontend::bind("", "look", &[]), frontend::execute("", 0), frontend::sync()].concat();
    for (behind, shape, tags) in [(frontend::query("select 1"), "TDCZ", "Q"), (bound, "2CZ", "BES")] {
        let (server, _proxy, mut client) = out_of_date_once(false);
        // The error has come, and the end of the request has not.
        std::thread::sleep(Duration::from_millis(150));
        client.say(behind).send();
        assert_eq!((client.reply().shape().as_str(), client.reply().shape().as_str()), ("2CZ", shape));
        assert_eq!(server.tags(0), format!("PSBESCPBES{tags}"));
    }
}

#[test]
fn a_server_that_goes_before_a_request_is_sent_again_leaves_an_error() {
    let (_server, _proxy, mut client) = out_of_date_once(true);
    let lost = client.reply();
    assert_eq!((lost.shape().as_str(), lost.error().code()), ("EZ", "08006"));
    assert_eq!(client.bind("look", &[]).execute().sync().reply().shape(), "2CZ");
}
