//! Large values stream: what passes does not stay.

use std::io::{Read, Write};
use std::time::Duration;

use integration_tests::{Cluster, FakeUpstream, ProxyProcess, RawClient, backend, eventually, frontend};

/// 100 MB.
const LARGE: usize = 100_000_000;
/// What memory may grow by. A proxy that held the value would grow by 97,656 KiB.
const SLACK_KIB: u64 = 1024;

fn proxy() -> ProxyProcess {
    let upstream = format!("postgres://postgres@{}/postgres", Cluster::shared().address());
    ProxyProcess::serve(&["--upstream", &upstream, "--auth", "trust", "--pool-size", "2", "--workers", "1"])
}

/// Logs in and does everything once on a small scale, so that what is measured afterwards is the large value alone.
fn warm_client(proxy: &ProxyProcess) -> RawClient {
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    for _ in 0..3 {
        client.query("select repeat('x', 1000000)").ok();
        let value = vec![b'x'; 1_000_000];
        client.parse("", "select length($1)").say(frontend::bind("", "", &[Some(&value)])).execute().sync();
        client.reply().ok();
    }
    client
}

fn has_hardly_grown(proxy: &ProxyProcess, before: u64) {
    let after = proxy.child.peak_resident_kib();
    assert!(before > 0 && after <= before + SLACK_KIB, "from {before} KiB to {after} KiB");
}

#[test]
fn a_large_value_from_the_server_is_not_kept() {
    let proxy = proxy();
    let mut client = warm_client(&proxy);
    let before = proxy.child.reset_peak();
    client.start_query(format!("select repeat('x', {LARGE})"));
    // T, D, C and Z around it: read as bytes, so that this process does not hold it either.
    let mut stream = client.stream();
    let (mut heard, mut buffer) = (0, vec![0; 65_536]);
    while heard < LARGE {
        heard += stream.read(&mut buffer).unwrap();
    }
    while !buffer.windows(6).any(|end| end == [b'Z', 0, 0, 0, 5, b'I']) {
        buffer.fill(0);
        assert_ne!(stream.read(&mut buffer).unwrap(), 0);
    }
    assert_eq!(client.query("select 1").value(), "1");
    has_hardly_grown(&proxy, before);
}

#[test]
fn a_large_value_from_the_client_is_not_kept() {
    let proxy = proxy();
    let mut client = warm_client(&proxy);
    let before = proxy.child.reset_peak();
    let value = vec![b'x'; LARGE];
    client.parse("", "select length($1)").say(frontend::bind("", "", &[Some(&value)])).execute().sync();
    assert_eq!(client.reply().value(), LARGE.to_string());
    has_hardly_grown(&proxy, before);
}

#[test]
fn a_large_query_text_is_not_kept() {
    let proxy = proxy();
    let mut client = warm_client(&proxy);
    let before = proxy.child.reset_peak();
    let text = format!("select length('{}')", "x".repeat(LARGE / 4));
    assert_eq!(client.query(text).value(), (LARGE / 4).to_string());
    has_hardly_grown(&proxy, before);
}

#[test]
fn a_client_that_does_not_read_makes_the_server_wait() {
    let proxy = proxy();
    let mut client = warm_client(&proxy);
    let before = proxy.child.reset_peak();
    let (folder, marker) = (Cluster::shared().fresh_database(), "slow reader");
    client.start_query(format!("/* {marker} {folder} */ select repeat('x', {LARGE})"));
    let stuck = format!(
        "select count(*) from pg_stat_activity where query like '%{marker} {folder}%' and wait_event = 'ClientWrite'"
    );
    eventually("the server waits to be read", || Cluster::shared().value("postgres", &stuck) == "1");
    has_hardly_grown(&proxy, before);
    client.reply().ok();
    has_hardly_grown(&proxy, before);
}

#[test]
fn a_server_that_does_not_read_makes_the_client_wait() {
    let (go, gone_on) = std::sync::mpsc::channel::<()>();
    let gone_on = std::sync::Mutex::new(gone_on);
    let upstream = FakeUpstream::start(move |connection| {
        connection.login()?;
        connection.serve_until("copy")?;
        connection.send(&frontend::message(b'G', &[0, 0, 0]))?;
        let _ = gone_on.lock().unwrap().recv();
        let mut bytes = 0;
        loop {
            let head = connection.read_raw(5)?;
            let body = connection.read_raw(u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4)?;
            if head[0] == b'c' {
                let done = backend::command_complete(&format!("COPY {bytes}"));
                connection.send(&[done, backend::ready(b'I')].concat())?;
                return connection.serve();
            }
            bytes += body.len();
        }
    });
    let url = format!("postgres://anna@{}/shop", upstream.address());
    let proxy = ProxyProcess::serve(&["--upstream", &url, "--auth", "trust", "--workers", "1"]);
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.start_query("copy t from stdin");
    client.read_until('G');
    let before = proxy.child.reset_peak();
    let mut stream = client.stream();
    let chunk = frontend::copy_data(&vec![b'y'; 65_536]);
    let writer = std::thread::spawn(move || {
        for _ in 0..LARGE / chunk.len() {
            stream.write_all(&chunk).unwrap();
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(!writer.is_finished(), "somebody has taken it all");
    has_hardly_grown(&proxy, before);
    go.send(()).unwrap();
    writer.join().unwrap();
    client.say(frontend::copy_done());
    assert_eq!(client.reply().commands(), [format!("COPY {}", LARGE / 65_541 * 65_536)]);
    has_hardly_grown(&proxy, before);
}

#[test]
fn copy_streams_both_ways() {
    let proxy = proxy();
    let mut client = warm_client(&proxy);
    client.query("create unlogged table large_copy (t text)").ok();
    let before = proxy.child.reset_peak();
    client.start_query("copy large_copy from stdin");
    client.read_until('G');
    let chunk = frontend::copy_data(&[&[b'y'; 999][..], b"\n"].concat().repeat(64));
    let mut stream = client.stream();
    for _ in 0..500 {
        stream.write_all(&chunk).unwrap();
    }
    client.say(frontend::copy_done());
    assert_eq!(client.reply().commands(), ["COPY 32000"]);
    let out = client.query("copy large_copy to stdout");
    assert_eq!(out.copied().len(), 32_000_000);
    has_hardly_grown(&proxy, before);
    client.query("drop table large_copy").ok();
}
