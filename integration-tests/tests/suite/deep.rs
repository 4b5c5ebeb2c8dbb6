//! Pipelines of any depth: a hundred thousand requests sent ahead are answered in order, nobody waits for nobody, and the
//! proxy keeps none of it.

use std::io::{BufReader, Read, Write};

use integration_tests::{Cluster, ProxyProcess, RawClient, frontend};

/// Requests sent ahead.
const DEPTH: u32 = 100_000;
/// Sent ahead before memory is measured: more than the replies that an upstream may owe before its client is no longer
/// read, so that everything has been as large as it gets. Cold, a pipeline of simple queries costs 6.5 MiB, of prepared ones
/// 2.7: queues double up to 16,384 places and are moved each time, buffers are touched for the first time. An upstream gives
/// the queues' room back behind the pipeline; the allocator keeps the pages for some seconds.
const WARM: u32 = 30_000;
/// What the proxy's memory may grow by from there to the whole depth: how many replies are owed at once differs from run
/// to run, up to their bound. Kept whole, requests and replies would be 8 MB.
const SLACK_KIB: u64 = 2 * 1024;

fn proxy(mode: &str) -> ProxyProcess {
    let upstream = format!("postgres://postgres@{}/postgres", Cluster::shared().address());
    let size = ["--pool-size", "1", "--workers", "1"];
    ProxyProcess::serve(&[&["--upstream", &upstream, "--auth", "trust", "--pool-mode", mode][..], &size].concat())
}

/// Sends `requests` and at the same time counts the rows of the replies, which are the numbers from 0; up to the last of
/// `ends` ReadyForQuery.
fn sends_ahead(client: &RawClient, depth: u32, requests: Vec<u8>, ends: u32) {
    let mut writing = client.stream();
    let writer = std::thread::spawn(move || writing.write_all(&requests).unwrap());
    let mut stream = BufReader::with_capacity(65_536, client.stream());
    let (mut rows, mut heard) = (0, 0);
    while heard < ends {
        let (tag, body) = message(&mut stream);
        match tag {
            b'D' => {
                assert_eq!(String::from_utf8_lossy(&body[6..]), rows.to_string());
                rows += 1;
            }
            b'Z' => heard += 1,
            b'E' => panic!("after {rows} rows: {}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
    assert_eq!(rows, depth);
    writer.join().unwrap();
}

fn message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// A row by the prepared statement.
fn bound(n: u32) -> Vec<u8> {
    let bind = frontend::bind("", "same", &[Some(n.to_string().as_bytes())]);
    [bind, frontend::execute("", 0)].concat()
}

/// Sends these messages for each number and those behind all; `ends`: ReadyForQuery messages in answer.
fn is_bounded(mode: &str, each: impl Fn(u32) -> Vec<u8>, behind: &[u8], ends: impl Fn(u32) -> u32) {
    let proxy = proxy(mode);
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.parse("same", "select $1").sync().reply().ok();
    let requests = |depth: u32| (0..depth).flat_map(&each).chain(behind.iter().copied()).collect();
    sends_ahead(&client, WARM, requests(WARM), ends(WARM));
    let before = proxy.child.reset_peak();
    sends_ahead(&client, DEPTH, requests(DEPTH), ends(DEPTH));
    let after = proxy.child.peak_resident_kib();
    assert!(after <= before + SLACK_KIB, "{mode} mode: from {before} KiB to {after} KiB");
    println!("{mode} mode: {} KiB", after.saturating_sub(before));
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_hundred_thousand_requests_sent_ahead_are_answered_in_order() {
    for mode in ["session", "transaction"] {
        is_bounded(mode, |n| [bound(n), frontend::sync()].concat(), b"", |depth| depth);
    }
}

#[test]
fn a_request_of_two_hundred_thousand_messages_is_answered_in_order() {
    for mode in ["session", "transaction"] {
        is_bounded(mode, bound, &frontend::sync(), |_| 1);
    }
}

#[test]
fn a_hundred_thousand_simple_queries_sent_ahead_are_answered_in_order() {
    is_bounded("transaction", |n| frontend::query(format!("select {n}")), b"", |depth| depth);
}
