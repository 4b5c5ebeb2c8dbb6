//! `/api/v1/databases`, and its table on the page of pools.

use super::html::read;
use super::source::PoolState;
use super::*;
use crate::admin::events::watch;

#[tokio::test]
async fn a_database_says_where_it_leads_how_it_stands_and_what_ran() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    watch::look(&port.context, false);
    crate::cache::testing::known(&port.proxy.caches, "db.internal:5432/app");
    *port.proxy.pools.lock().unwrap() = vec![
        PoolState {
            database: "app".into(),
            user: "al\"i\\ce\n".into(),
            open: 5,
            waiting: 1,
            waiting_for: Some(Duration::from_millis(1_500)),
            paused: true,
            ..PoolState::default()
        },
        PoolState { database: "app".into(), user: "bob".into(), open: 2, paused: true, ..PoolState::default() },
    ];
    watch::look(&port.context, false);
    let worker = port.telemetry.worker("0");
    let finished = |us| Finished { end_us: us, error: Some(Sqlstate::new(b"57014")), ..Finished::default() };
    worker.pool("app", "bob").finished(&finished(1_000));
    worker.pool("gone", "bob").finished(&finished(1_000));
    let all = port.get("/api/v1/databases?period=1h").await.json();
    assert_eq!(all["total"], 2, "{all}");
    let app = &all["databases"][0];
    for (field, value) in [
        ("name", "app"),
        ("database", "app"),
        ("host", "db.internal"),
        ("dbname", "app"),
        ("pool_mode", "transaction"),
        ("server_version", "15.8"),
    ] {
        assert_eq!(app[field], value, "{field}: {app}");
    }
    for (field, value) in [
        ("port", 5432),
        ("pool_size", 20),
        ("min_pool_size", 0),
        ("server_lifetime_seconds", 3_600),
        ("max_connections", 0),
        ("current_connections", 7),
        ("current_client_connections", 6),
        ("calls", 61),
        ("errors", 1),
    ] {
        assert_eq!(app[field], value, "{field}: {app}");
    }
    assert_eq!((&app["force_user"], &app["load_balance_hosts"]), (&Value::Null, &Value::Null));
    assert_eq!(app["clients"], serde_json::json!({"total": 6, "active": 2, "waiting": 0, "idle": 4}));
    assert_eq!(app["upstreams"], serde_json::json!({"active": 0, "idle": 4, "dialling": 0, "pinned": 0}));
    assert_eq!((&app["waiting_ms"], &app["wait_ms"]["p99"]), (&1_500.0.into(), &0.071.into()));
    assert_eq!((&app["paused"], &app["disabled"], &app["suspended"]), (&true.into(), &false.into(), &false.into()));
    assert!(app["paused_since"].is_string() && app["disabled_since"].is_null(), "{app}");
    assert_eq!((&app["is_in_recovery"], &app["cache"]["ready"]), (&false.into(), &false.into()));
    // It is younger than an hour: everything ran since it began.
    let began = rfc3339(&port);
    assert_eq!((&app["period"]["calls"], &app["period"]["from"]), (&61.into(), &began.into()));
    let gone = &all["databases"][1];
    assert_eq!((&gone["name"], &gone["host"], &gone["pool_size"]), (&"gone".into(), &Value::Null, &Value::Null));
    assert_eq!((&gone["period"]["errors"], &gone["calls"]), (&1.into(), &1.into()));
    for wrong in ["period=61m", "period=2h", "period=10s", "period=0m"] {
        assert_eq!(port.get(&format!("/api/v1/databases?{wrong}")).await.status, 400, "{wrong}");
    }
}

fn rfc3339(port: &Port) -> String {
    crate::telemetry::clock::rfc3339_us(port.telemetry.clock.start_us())
}

#[tokio::test]
async fn the_page_of_pools_shows_databases_and_leads_to_their_json() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let request = "GET /pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: text/html\r\n\r\n";
    let page = port.send(request).await.body;
    for shown in ["db.internal:5432/app", "PostgreSQL 15.8", "href=\"/api/v1/databases\""] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    drop(read(&page));
}
