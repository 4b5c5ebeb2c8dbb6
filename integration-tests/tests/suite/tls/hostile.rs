//! Clients that break off, cut in, dawdle, and begin with TLS.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use config::{AuthMethod, TlsMode};
use integration_tests::{Cluster, Proxy, eventually, frontend};

use super::papers;
use super::wire::{asked, connected, exchange, secure, startup};

fn trusting(mode: TlsMode) -> Proxy {
    Proxy::before(Cluster::shared().address())
        .with(|settings| {
            settings.tls = papers().client_tls(mode, false);
            settings.auth.method = AuthMethod::Trust;
        })
        .start()
}

#[test]
fn tls_may_begin_without_asking_if_it_names_the_protocol() {
    let proxy = trusting(TlsMode::Require);
    let mut direct = secure(connected(proxy.address()), Some(b"postgresql"));
    exchange(&mut direct, &startup(), b'Z').unwrap();
    let reply = exchange(&mut direct, &frontend::query("select 41 + 1"), b'Z').unwrap();
    assert!(reply.windows(2).any(|pair| pair == b"42"));
    for alpn in [None, Some(&b"http/1.1"[..])] {
        let mut other = secure(connected(proxy.address()), alpn);
        let refused = exchange(&mut other, &startup(), b'Z').unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{alpn:?}: {refused}");
    }
    // After asking, the name is welcome and not needed; another one is refused.
    for alpn in [None, Some(&b"postgresql"[..])] {
        let mut asking = secure(asked(proxy.address()), alpn);
        exchange(&mut asking, &startup(), b'Z').unwrap();
    }
    assert!(exchange(&mut secure(asked(proxy.address()), Some(b"http/1.1")), &startup(), b'Z').is_err());
}

#[test]
fn direct_tls_is_refused_where_there_is_none() {
    let proxy = trusting(TlsMode::Disable);
    assert!(exchange(&mut secure(connected(proxy.address()), Some(b"postgresql")), &startup(), b'Z').is_err());
}

#[test]
fn clear_bytes_behind_the_request_for_tls_end_the_connection() {
    let proxy = trusting(TlsMode::Prefer);
    let mut stream = connected(proxy.address());
    let mut bytes = frontend::encryption_request(80_877_103);
    bytes.extend(startup());
    stream.write_all(&bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(text.contains("received unencrypted data after an encryption request"), "{text}");
    // Behind the answer they are taken for TLS, and are none.
    let mut stream = asked(proxy.address());
    stream.write_all(&startup()).unwrap();
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all));
    assert!(!all.contains(&b'Z') && !all.windows(4).any(|word| word == b"anna"), "{all:?}");
}

#[test]
fn a_request_for_tls_inside_tls_is_refused() {
    let proxy = trusting(TlsMode::Prefer);
    let mut inside = secure(asked(proxy.address()), None);
    let reply = exchange(&mut inside, &frontend::encryption_request(80_877_103), b'E').unwrap();
    assert!(String::from_utf8_lossy(&reply).contains("encryption requested twice"));
}

#[test]
fn what_is_sent_with_the_last_of_the_handshake_is_not_forgotten() {
    let proxy = trusting(TlsMode::Require);
    let mut client = secure(asked(proxy.address()), None);
    // One flight: the client's Finished, its startup packet and its first query.
    let mut bytes = startup();
    bytes.extend(frontend::query("select 7 * 6"));
    let mut reply = exchange(&mut client, &bytes, b'Z').unwrap();
    reply.extend(exchange(&mut client, b"", b'Z').unwrap());
    assert!(reply.windows(2).any(|pair| pair == b"42"));
}

#[test]
fn a_cancel_over_tls_reaches_its_query_and_so_does_one_in_clear_text() {
    let proxy = trusting(TlsMode::Require);
    for over_tls in [true, false] {
        let mut client = secure(asked(proxy.address()), None);
        let welcome = exchange(&mut client, &startup(), b'Z').unwrap();
        // BackendKeyData stands right before ReadyForQuery, which has 6 bytes.
        let key = &welcome[welcome.len() - 6 - 8..welcome.len() - 6];
        let pid = u32::from_be_bytes(key[..4].try_into().unwrap());
        client.write_all(&frontend::query("select pg_sleep(60) /* tls */")).unwrap();
        client.flush().unwrap();
        let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%60) /* tls */' and pid <> pg_backend_pid()";
        eventually("the query runs", || Cluster::shared().value("postgres", running) != "0");
        let request = frontend::cancel_request(pid, &key[4..]);
        if over_tls {
            let mut cancel = secure(asked(proxy.address()), None);
            cancel.write_all(&request).unwrap();
            cancel.flush().unwrap();
            drop(cancel.read(&mut [0; 16]));
        } else {
            connected(proxy.address()).write_all(&request).unwrap();
        }
        let asked = Instant::now();
        let reply = exchange(&mut client, b"", b'Z').unwrap();
        assert!(String::from_utf8_lossy(&reply).contains("57014"));
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_connection_that_is_cut_in_a_record_ends_its_session() {
    let proxy = trusting(TlsMode::Require);
    let mut client = secure(asked(proxy.address()), None);
    exchange(&mut client, &startup(), b'Z').unwrap();
    let listed = || {
        let all = integration_tests::http::fetch(proxy.admin(), "/api/v1/clients").json();
        all.to_string().contains("TLSv1")
    };
    assert!(listed());
    client.conn.writer().write_all(&frontend::query("select 1")).unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    client.sock.write_all(&record[..record.len() / 2]).unwrap();
    client.sock.shutdown(Shutdown::Both).unwrap();
    eventually("the session has ended", || !listed());
}

#[test]
fn a_record_that_comes_byte_by_byte_is_one_request() {
    let proxy = trusting(TlsMode::Require);
    let mut client = secure(asked(proxy.address()), None);
    exchange(&mut client, &startup(), b'Z').unwrap();
    client.conn.writer().write_all(&frontend::query("select 6 * 7")).unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    client.sock.set_nodelay(true).unwrap();
    for byte in record {
        client.sock.write_all(&[byte]).unwrap();
    }
    assert!(exchange(&mut client, b"", b'Z').unwrap().windows(2).any(|pair| pair == b"42"));
}

#[test]
fn a_damaged_record_is_not_believed() {
    let proxy = trusting(TlsMode::Require);
    let mut client = secure(asked(proxy.address()), None);
    exchange(&mut client, &startup(), b'Z').unwrap();
    client.conn.writer().write_all(&frontend::query("create table never (a int)")).unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    client.sock.write_all(&record).unwrap();
    let refused = exchange(&mut client, b"", b'Z').unwrap_err();
    assert!(refused.to_string().contains("BadRecordMac"), "{refused}");
    assert_eq!(Cluster::shared().value("postgres", "select to_regclass('never') is null"), "t");
}

#[test]
fn a_client_that_reads_slowly_holds_its_server_back_and_gets_everything() {
    let proxy = trusting(TlsMode::Require);
    let mut client = secure(asked(proxy.address()), None);
    exchange(&mut client, &startup(), b'Z').unwrap();
    let sql = "select repeat('y', 1000) from generate_series(1, 30000)";
    client.write_all(&frontend::query(sql)).unwrap();
    client.flush().unwrap();
    // 30 MB are on their way; nobody reads.
    std::thread::sleep(Duration::from_millis(300));
    let waits = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite' and query like '%''y'', 1000%'";
    eventually("the server waits for its client", || Cluster::shared().value("postgres", waits) == "1");
    let reply = exchange(&mut client, b"", b'Z').unwrap();
    assert_eq!(reply.iter().filter(|byte| **byte == b'y').count(), 30_000_000);
}
