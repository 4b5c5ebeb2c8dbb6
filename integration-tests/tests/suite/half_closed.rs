//! Clients that close their side behind a request: those that listen on get their replies, those that have gone hold
//! nothing up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::{FakeUpstream, Proxy, RawClient, Site, eventually, everywhere, frontend};

#[test]
fn a_client_that_closes_its_side_behind_a_query_gets_its_answer() {
    everywhere(|site| {
        let mut client = site.client();
        client.say(frontend::query("select pg_sleep(0.3), 'heard'")).half_close();
        let reply = client.read_to_end();
        assert_eq!(reply.rows().len(), 1, "{reply:?}");
        assert!(reply.errors().is_empty(), "{reply:?}");
    });
}

#[test]
fn everything_in_one_packet_and_then_silence_is_served() {
    // What `printf … | nc` does: login, query and the end of the input at once.
    everywhere(|site| {
        let mut stream = TcpStream::connect(site.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut all = frontend::startup(frontend::PROTOCOL_3_0, &site.parameters(&[]));
        all.extend(frontend::query("select 'first'"));
        all.extend(frontend::query("select pg_sleep(0.1), 'second'"));
        stream.write_all(&all).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("first") && said.contains("second"), "{said}");
    });
}

#[test]
fn a_client_that_waits_for_a_server_is_served_after_it_has_closed_its_side() {
    let site = Site::pooled(Transaction, 1);
    let (mut holder, mut waiting) = (site.client(), site.client());
    holder.query("begin").ok();
    waiting.say(frontend::query("select 'patient'")).half_close();
    std::thread::sleep(Duration::from_millis(300));
    holder.query("commit").ok();
    assert_eq!(waiting.read_to_end().value(), "patient");
}

#[test]
fn a_goodbye_behind_a_request_that_waits_is_no_reason_to_drop_it() {
    let site = Site::pooled(Transaction, 1);
    let (mut holder, mut hasty) = (site.client(), site.client());
    holder.query("create table farewell (a int)").ok();
    holder.query("begin").ok();
    hasty.say(frontend::query("insert into farewell values (1)")).say(frontend::terminate()).send();
    drop(hasty);
    std::thread::sleep(Duration::from_millis(300));
    holder.query("commit").ok();
    eventually("the row is there", || holder.query("select count(*) from farewell").value() == "1");
}

#[test]
fn a_client_that_has_gone_is_told_from_one_that_listens() {
    let site = Site::pooled(Transaction, 1);
    let mut next = site.client();
    let leaver = {
        let mut leaver = site.client();
        leaver.start_query("select pg_sleep(60)");
        leaver
    };
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)%' \
                   and pid <> pg_backend_pid() and datname = current_database()";
    eventually("the query runs", || site.run_directly(running).value() == "1");
    // As a crash does: both sides are closed, and nothing is said.
    leaver.vanish();
    let asked = Instant::now();
    assert_eq!(next.query("select 1").value(), "1");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[test]
fn half_a_request_and_silence_is_the_end() {
    everywhere(|site| {
        let mut client = site.client();
        client.say(&frontend::query("select 1")[..7]).half_close();
        assert!(client.read_to_end().rows().is_empty());
    });
}

#[test]
fn a_goodbye_behind_a_request_whose_server_goes_is_the_end() {
    let server = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("gone")?;
        connection.delay(Duration::from_millis(200));
        Ok(())
    });
    let proxy = Proxy::before(server.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.say(frontend::query("select 'gone'")).say(frontend::terminate());
    assert_eq!(client.read_to_end().shape(), "", "who has said goodbye is told nothing");
}
