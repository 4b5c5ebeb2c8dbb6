//! A cancel request ends what its sender runs, and nothing else.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::{Site, eventually, everywhere, frontend};

fn runs(site: &Site, text: &str) -> bool {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' \
         and pid <> pg_backend_pid() and query like '%{text}%'"
    );
    site.run_directly(&sql).value() != "0"
}

#[test]
fn a_running_query_is_cancelled_and_the_client_goes_on() {
    everywhere(|site| {
        let mut client = site.client();
        client.start_query("select pg_sleep(60)");
        eventually("the query runs", || runs(site, "pg_sleep(60)"));
        let asked = Instant::now();
        client.cancel();
        assert_eq!(client.reply().error().code(), "57014");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(client.query("select 1").value(), "1");
    });
}

/// Cancels of the storm; `PGWEIR_TEST_CANCELS` asks for more.
fn cancels() -> usize {
    std::env::var("PGWEIR_TEST_CANCELS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[test]
fn three_hundred_cancels_in_a_hurry_kill_no_innocent_query() {
    let site = Site::pooled(Transaction, 1);
    let (mut hasty, mut innocent) = (site.client(), site.client());
    let (pid, key) = hasty.key.clone().unwrap();
    let request = frontend::cancel_request(pid, &key);
    let mut struck = 0;
    for round in 0..cancels() {
        hasty.start_query("select 1");
        // Fire and forget: neither the answer nor the end of this connection is waited for.
        let mut cancel = integration_tests::RawClient::connect(site.address());
        cancel.say(&request).send();
        innocent.start_query("select pg_sleep(0.002)");
        let reply = innocent.reply();
        assert!(reply.errors().is_empty(), "round {round}: {:?}", reply.errors());
        let own = hasty.reply();
        assert!(own.errors().iter().all(|error| error.code() == "57014"), "round {round}: {:?}", own.errors());
        struck += own.errors().len();
    }
    println!("{} cancels: {struck} struck their own query, none an innocent one", cancels());
    assert_eq!(hasty.query("select 1").value(), "1");
}

#[test]
fn who_waits_for_a_server_is_cancelled_at_once() {
    let site = Site::pooled(Transaction, 1);
    let (mut holder, mut waiting) = (site.client(), site.client());
    holder.query("begin").ok();
    waiting.start_query("select 1");
    assert!(waiting.hears_nothing_for(Duration::from_millis(50)), "the only server is taken");
    let asked = Instant::now();
    waiting.cancel();
    let reply = waiting.reply();
    assert_eq!((reply.error().code(), reply.status()), ("57014", 'I'));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(holder.query("commit").ok().status(), 'I');
    assert_eq!(waiting.query("select 1").value(), "1");
}

#[test]
fn the_wrong_secret_cancels_nothing() {
    everywhere(|site| {
        let mut client = site.client();
        let (pid, mut key) = client.key.clone().unwrap();
        key[0] ^= 1;
        client.start_query("select pg_sleep(0.3)");
        eventually("the query runs", || runs(site, "pg_sleep(0.3)"));
        integration_tests::client::cancel(site.address(), pid, &key);
        client.reply().ok();
    });
}

#[test]
fn an_idle_client_has_nothing_to_cancel() {
    let site = Site::pooled(Transaction, 1);
    let (mut idle, mut busy) = (site.client(), site.client());
    idle.query("select 1").ok();
    busy.start_query("select pg_sleep(0.2)");
    eventually("the query runs", || runs(&site, "pg_sleep(0.2)"));
    idle.cancel();
    busy.reply().ok();
    assert_eq!(idle.query("select 1").value(), "1");
}

#[test]
fn a_cancel_that_ends_early_harms_nobody() {
    everywhere(|site| {
        let client = site.client();
        let (pid, key) = client.key.clone().unwrap();
        let request = frontend::cancel_request(pid, &key);
        for length in 0..request.len() {
            let mut stream = TcpStream::connect(site.address()).unwrap();
            std::io::Write::write_all(&mut stream, &request[..length]).unwrap();
        }
        assert_eq!(site.client().query("select 1").value(), "1");
    });
}
