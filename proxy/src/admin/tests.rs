//! The admin port over a real socket.

mod actions;
mod cache;
mod confined;
mod contract;
mod databases;
mod findings;
mod html;
mod lists;
mod live;
mod login;
mod pages;
mod port;
mod promtext;
mod roles;
mod scrape;
mod settings;
mod statistics;
mod twins;

use port::{Answer, Port, text};
use settings::settings_with;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use config::{Secret, Settings};
use policy::finding::Timestamp;
use policy::statement::Class;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::metrics::families;
use super::*;
use crate::analyst::finding;
use crate::telemetry::testing::{telemetry_with, tenants, unknown_facts};
use crate::telemetry::{Bounds, Finished, PinReason, Rare, Sqlstate, StatementText, TenantId};
use promtext::check;

#[tokio::test]
async fn readiness_turns_red_with_its_reasons_while_alive_stays_green() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    assert_eq!(port.get("/readyz").await.status, 200);
    port.proxy.draining.store(true, Ordering::Relaxed);
    let red = port.get("/readyz").await;
    assert_eq!(red.status, 503);
    assert_eq!(red.json(), serde_json::json!({"status": "not_ready", "reasons": ["draining"]}));
    assert_eq!(port.get("/livez").await.status, 200);
}

#[tokio::test]
async fn without_a_token_a_foreign_host_name_is_refused() {
    let port = Port::start(None, Bounds::default()).await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:6433", 200),
        ("127.0.0.1:6433", 200),
        ("[::1]:6433", 200),
        ("[::1]", 200),
        ("evil.example:6433", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ] {
        let request = format!("GET /api/v1/pools HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(port.send(&request).await.status, status, "{host}");
    }
    let request = "GET /livez HTTP/1.1\r\nHost: pod.example\r\nConnection: close\r\n\r\n";
    assert_eq!(port.send(request).await.status, 200);
}

/// A request that is more than a look, on loopback, with these further lines in its head.
fn change(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_change_needs_the_token_or_a_header_that_a_foreign_page_cannot_send() {
    let open = Port::start(None, Bounds::default()).await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let path = "/api/v1/nothing";
        assert_eq!(open.send(&change(method, path, "")).await.status, 403, "{method}");
        assert_eq!(open.send(&change(method, path, "X-Requested-With: curl\r\n")).await.status, 404, "{method}");
        let foreign = change(method, path, "X-Requested-With: curl\r\n").replace("localhost", "evil.example");
        assert_eq!(open.send(&foreign).await.status, 421, "{method}");
    }
    // What a page's own script asks before it sends such a header is not granted.
    let asked = open.send(&change("OPTIONS", "/api/v1/queries", "Access-Control-Request-Method: POST\r\n")).await;
    assert!(asked.status == 405 && !asked.head.contains("access-control"), "{}", asked.head);
    let guarded = Port::start(Some("t0ken"), Bounds::default()).await;
    assert_eq!(guarded.send(&change("POST", "/nothing", "X-Requested-With: curl\r\n")).await.status, 401);
    assert_eq!(guarded.send(&change("POST", "/nothing", "Authorization: Bearer t0ken\r\n")).await.status, 404);
}

#[tokio::test]
async fn methods_paths_bodies_and_headers_are_answered_as_http_wants() {
    let port = Port::start(None, Bounds::default()).await;
    let head = port.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(!head.head.contains("content-length: 0"), "{}", head.head);
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/queries"] {
        for method in ["DELETE", "PUT", "OPTIONS"] {
            let answer = port.send(&change(method, path, "X-Requested-With: a test\r\n")).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        }
    }
    let body = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(port.send(body).await.status, 413);
    let missing = port.get("/api/v2").await;
    assert_eq!((missing.status, &missing.json()["status"]), (404, &404.into()));
    let pools = port.get("/api/v1/pools").await;
    assert!(pools.head.contains("cache-control: no-cache, private") && pools.head.contains("etag: "), "{}", pools.head);
    for answer in [port.get("/livez").await, missing.clone()] {
        assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    }
    for answer in [port.get("/livez").await, pools, missing] {
        for line in ["x-content-type-options: nosniff", "x-frame-options: deny"] {
            assert!(answer.head.contains(line), "{line} in {}", answer.head);
        }
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    assert_eq!(port.send("nonsense\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn queries_come_sorted_filtered_and_merged_over_workers() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let all = port.get("/api/v1/queries").await.json();
    assert_eq!(all["total"], 3);
    let first = &all["queries"][0];
    assert_eq!(first["fingerprint"], "0000000000000002");
    assert_eq!(first["text"], "select 2 from t where a = ?");
    assert_eq!((&first["calls"], &first["errors"], &first["rows"]), (&20.into(), &2.into(), &60.into()));
    assert_eq!(first["errors_by_sqlstate"], serde_json::json!({"57014": 2}));
    assert_eq!((&first["total_ms"], &first["mean_ms"]), (&1_000.0.into(), &50.0.into()));
    assert_eq!(first["server_ms"], 500.0);
    assert_eq!(first["first_seen"], "2026-01-01T00:00:00.000Z");
    assert_eq!(first["last_seen"], "2026-01-01T00:00:00.050Z");
    for percentile in ["p50_ms", "p95_ms", "p99_ms"] {
        assert_eq!(first[percentile], 50.0, "clamped to the extremes");
    }
    let beta = port.get("/api/v1/queries?tenant=beta&sort=calls&limit=1").await.json();
    assert_eq!((&beta["total"], &beta["queries"][0]["tenant"]), (&1.into(), &"beta".into()));
    assert_eq!(port.get("/api/v1/queries?limit=2").await.json()["queries"].as_array().unwrap().len(), 2);
    for bad in ["limit=0", "limit=1001", "limit=x", "sort=name", "kind=n_plus_one", "colour=red"] {
        let answer = port.get(&format!("/api/v1/queries?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.json()["detail"].as_str().unwrap().len() > 10, "{bad}");
    }
}

#[tokio::test]
async fn pools_tenants_findings_and_clients_show_what_was_counted() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let pools = port.get("/api/v1/pools").await.json();
    let pool = &pools["pools"][0];
    assert_eq!((&pool["database"], &pool["user"]), (&"app".into(), &"al\"i\\ce\n".into()));
    assert_eq!(pool["clients"], serde_json::json!({"total": 6, "active": 2, "waiting": 0, "idle": 4}));
    assert_eq!((&pool["settings"]["mode"], &pool["settings"]["size"]), (&"transaction".into(), &20.into()));
    assert_eq!(pool["pins"], serde_json::json!({"listen": 2}));

    let tenants = port.get("/api/v1/tenants").await.json();
    let acme = &tenants["tenants"][0];
    assert_eq!((&acme["tenant"], &acme["statements"]), (&"acme".into(), &40.into()));
    assert_eq!(acme["fingerprints"], 2, "the same on both workers");
    assert_eq!((&acme["statement_timeouts"], &acme["refusals"]), (&2.into(), &2.into()));
    let limit = serde_json::json!({"value": 250, "from": "[tenant.limits.acme]", "mode": "enforce"});
    assert_eq!(acme["limits"], serde_json::json!({"statement_timeout_ms": limit}));
    assert_eq!(acme["limits_reached"], serde_json::json!({"max_rows": {"observed": 3, "warned": 0, "enforced": 1}}));
    assert_eq!((&acme["clients"], &acme["classes"]["worker"]["clients"]), (&7.into(), &7.into()));
    assert_eq!((&acme["connections"], &acme["queue_timeouts"], &acme["pins"]), (&9.into(), &2.into(), &2.into()));
    assert_eq!(acme["refusals_by_sqlstate"], serde_json::json!({"53300": 2}));
    let worker = &acme["classes"]["worker"];
    assert_eq!((&worker["statements"], &worker["rows"], &worker["server_ms"]), (&2.into(), &6.into(), &2.0.into()));
    // Twenty calls each of 50 and 1 ms, and twenty of another tenant's of 3 ms.
    let share = |tenant: usize| tenants["tenants"][tenant]["share"]["time"].as_f64().unwrap();
    assert!((share(0) - 51.0 / 54.0).abs() < 1e-4 && (share(1) - 3.0 / 54.0).abs() < 1e-4, "{tenants}");
    assert_eq!(acme["share"]["time"], acme["share"]["server"], "of all, half was in the server");

    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    port.findings.take(&finding("b", "beta", 2), Timestamp(0));
    let findings = port.get("/api/v1/findings?tenant=acme&kind=n_plus_one").await.json();
    assert_eq!((&findings["total"], &findings["findings"][0]["id"]), (&1.into(), &"a".into()));
    assert_eq!(findings["findings"][0]["child"]["parameter"], 1);
    assert_eq!(port.get("/api/v1/findings?kind=duplicate").await.json()["total"], 0);

    let client = ClientState { id: 7, tenant: "acme".into(), connected_us: 1_000_000, ..ClientState::default() };
    port.proxy.clients.lock().unwrap().push(client);
    let clients = port.get("/api/v1/clients").await.json();
    assert_eq!(clients["clients"][0]["connected"], "1970-01-01T00:00:01.000Z");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_is_a_503_and_not_a_hang() {
    let port = Port::start(None, Bounds::default()).await;
    assert_eq!(port.get("/api/v1/upstreams").await.status, 503);
}

#[tokio::test]
async fn no_secret_is_in_the_configuration_shown() {
    let port = Port::start(None, Bounds::default()).await;
    let answer = port.get("/api/v1/config").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("hunter"), "{}", answer.body);
    let shown = answer.json();
    assert_eq!(shown["databases"]["app"]["upstream"]["password"], true);
    let user = serde_json::json!({"secret": "password", "upstream_user": null, "upstream_password": false});
    assert_eq!(shown["users"]["app"], user);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_is_cut_off() {
    let port = Port::start(None, Bounds::default()).await;
    let mut slow = TcpStream::connect(port.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let started = tokio::time::Instant::now();
    let mut bytes = Vec::new();
    _ = slow.read_to_end(&mut bytes).await;
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
}

#[tokio::test]
async fn connections_are_bounded_and_places_come_back() {
    let port = Port::start(None, Bounds::default()).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        held.push(stream);
    }
    let mut refused = TcpStream::connect(port.address).await.unwrap();
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
    held.clear();
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        if stream.read_to_end(&mut bytes).await.is_ok() && bytes.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < patience, "no place came back");
    }
}

#[tokio::test]
async fn stopping_closes_the_listener_and_idle_connections() {
    let mut port = Port::start(None, Bounds::default()).await;
    let mut idle = TcpStream::connect(port.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    drop(port.stop.take());
    tokio::time::timeout(Duration::from_secs(5), port.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(port.address).await.is_err());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn metrics_are_valid_and_hold_what_was_counted() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    port.findings.take(&finding("a", "acme", 1), Timestamp(0));
    let answer = port.get("/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
    check(&answer.body);
    for line in [
        "pgweir_ready 1",
        "pgweir_pool_clients{database=\"app\",user=\"al\\\"i\\\\ce\\n\",state=\"idle\"} 4",
        "pgweir_pool_wait_seconds_bucket{database=\"app\",user=\"al\\\"i\\\\ce\\n\",le=\"0.000064\"} 0",
        "pgweir_pool_wait_seconds_bucket{database=\"app\",user=\"al\\\"i\\\\ce\\n\",le=\"0.000128\"} 2",
        "pgweir_pool_statement_seconds_count{database=\"app\",user=\"al\\\"i\\\\ce\\n\"} 60",
        "pgweir_tenant_statements_total{tenant=\"acme\"} 40",
        "pgweir_tenant_statement_timeouts_total{tenant=\"acme\"} 2",
        "pgweir_statement_errors_total{sqlstate=\"57014\"} 6",
        "pgweir_refusals_total{database=\"app\",user=\"al\\\"i\\\\ce\\n\",sqlstate=\"53300\"} 2",
        "pgweir_logins_total{worker=\"1\",result=\"ok\"} 3",
        "pgweir_findings{kind=\"n_plus_one\",tenant=\"acme\",state=\"open\"} 1",
        "pgweir_finding_bursts_total{kind=\"n_plus_one\",tenant=\"acme\"} 3",
        "pgweir_finding_statements_total{kind=\"n_plus_one\",tenant=\"acme\"} 291",
    ] {
        assert!(answer.body.lines().any(|known| known == line), "{line}\nin\n{}", answer.body);
    }
}

#[test]
fn the_documentation_lists_exactly_the_metrics_of_the_code() {
    let documented = include_str!("../../../docs/metrics.md");
    let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> = families()
        .map(|family| {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(" ") };
            format!("| `{}` | {} | {labels} | {} |", family.name, family.kind.name(), family.help)
        })
        .collect();
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len(), "the whole table should be:\n{}", expected.join("\n"));
}
