//! What operators see and do of the read cache. Who may do it is asked of all routes in [`super::roles`].

use policy::cache::{Bypass, Invalidated, Miss, Mode, Refused};

use super::super::openapi::tests::objections;
use super::*;
use crate::cache::Fate;
use crate::cache::testing::known;

async fn post(port: &Port, path: &str, body: &str) -> Answer {
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let head = change("POST", &format!("/api/v1/cache/{path}"), &format!("X-Requested-With: a test\r\n{length}"));
    port.send(&format!("{head}{body}")).await
}

#[tokio::test]
async fn what_it_holds_and_does_is_shown_with_its_reasons() {
    let port = Port::start(None, Bounds::default()).await;
    let fresh = port.get("/api/v1/cache").await.json();
    assert_eq!(objections("Cache", &fresh), [""; 0]);
    assert_eq!((&fresh["mode"], &fresh["follows"], &fresh["hit_ratio"]), (&"off".into(), &true.into(), &Value::Null));
    assert_eq!((&fresh["misses"], &fresh["databases"]), (&serde_json::json!({}), &serde_json::json!([])));
    let counters = &port.proxy.caches.counters;
    counters.hit(2_500, true);
    counters.misses.add(Miss::Changed, 3);
    counters.bypasses.count(Bypass::NoRule);
    counters.refused.count(Refused::TooLarge);
    counters.invalidated.count(Invalidated::Slot);
    known(&port.proxy.caches, "db:5432/app");
    let shown = port.get("/api/v1/cache").await.json();
    assert_eq!(objections("Cache", &shown), [""; 0]);
    assert_eq!((&shown["hits"], &shown["stale"], &shown["saved_us"]), (&1.into(), &1.into(), &2_500.into()));
    assert_eq!((&shown["hit_ratio"], &shown["max_bytes_of_tenant"]), (&0.25.into(), &(64 << 20).into()));
    for (field, reason, count) in
        [("misses", "changed", 3), ("bypasses", "no_rule", 1), ("refused", "too_large", 1), ("invalidated", "slot", 1)]
    {
        assert_eq!(shown[field], serde_json::json!({reason: count}), "{field}");
    }
    let database = &shown["databases"][0];
    assert_eq!((&database["name"], &database["ready"]), (&"db:5432/app".into(), &false.into()));
    assert!(database["trouble"].as_str().unwrap().contains("catalog"), "{database}");
}

#[tokio::test]
async fn it_is_switched_where_writes_are_followed() {
    let port = Port::start(None, Bounds::default()).await;
    for (mode, before) in [("observe", "off"), ("on", "observe"), ("on", "on"), ("off", "on")] {
        let answer = post(&port, "mode", &format!(r#"{{"mode": "{mode}"}}"#)).await;
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!({"mode": mode, "before": before})));
        assert_eq!(port.get("/api/v1/cache").await.json()["mode"], mode);
    }
    for wrong in ["{}", r#"{"mode": "ON"}"#, r#"{"mode": 1}"#, r#"{"mode": "on", "for": "1h"}"#, "[]"] {
        assert_eq!(post(&port, "mode", wrong).await.status, 400, "{wrong}");
    }
    let port = Port::with_caches(None, Bounds::default(), crate::cache::Caches::new(&config::Cache::default())).await;
    let refused = post(&port, "mode", r#"{"mode": "on"}"#).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.json()["detail"].as_str().unwrap().contains("[[cache.rule]]"), "{}", refused.body);
    assert_eq!(post(&port, "mode", r#"{"mode": "off"}"#).await.status, 200, "it is off");
    assert_eq!(port.proxy.caches.mode(), Mode::Off);
}

#[tokio::test]
async fn answers_are_ended_by_hand() {
    let port = Port::start(None, Bounds::default()).await;
    let cached = known(&port.proxy.caches, "db:5432/app");
    known(&port.proxy.caches, "db:5432/other");
    let epoch = cached.generations.epoch();
    for (body, databases) in
        [(r#"{"all": true}"#, 2), (r#"{"all": true, "database": "app"}"#, 1), (r#"{"tenant": "acme"}"#, 2)]
    {
        let answer = post(&port, "invalidate", body).await;
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!({"databases": databases})), "{body}");
    }
    assert_ne!(cached.generations.epoch(), epoch);
    assert_eq!(port.get("/api/v1/cache").await.json()["invalidated"], serde_json::json!({"all": 3, "tenant": 2}));
    for (body, status, word) in [
        ("{}", 400, "one of"),
        (r#"{"all": false}"#, 400, "one of"),
        (r#"{"tag": "a", "table": "b"}"#, 400, "one of"),
        (r#"{"all": true, "tag": "a"}"#, 400, "one of"),
        (r#"{"tenant": ""}"#, 400, "one of"),
        (r#"{"colour": "red"}"#, 400, "colour"),
        (r#"{"tag": "workflow"}"#, 404, "workflow"),
        (r#"{"table": "runs"}"#, 404, "runs"),
        (r#"{"all": true, "database": "nowhere"}"#, 404, "nowhere"),
    ] {
        let answer = post(&port, "invalidate", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_statement_says_why_it_is_not_cached_to_whoever_sees_all() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let path = "/api/v1/queries/0000000000000002";
    assert_eq!(port.get(path).await.json()["cache"], Value::Null);
    port.proxy.caches.tell(2, Fate::Bypass(Bypass::NoRule));
    let detail = port.get(path).await.json();
    assert_eq!((&detail["cache"]["fate"], &detail["cache"]["reason"]), (&"bypass".into(), &"no_rule".into()));
    assert!(detail["cache"]["words"].as_str().unwrap().contains("rule"), "{detail}");
    assert_eq!(objections("QueryDetail", &detail), [""; 0]);
    assert_eq!(port.get(&format!("{path}?tenant=acme")).await.json()["cache"], Value::Null);
}

#[tokio::test]
async fn it_has_metrics() {
    let port = Port::start(None, Bounds::default()).await;
    port.proxy.caches.counters.hit(1_500_000, false);
    port.proxy.caches.counters.misses.count(Miss::Expired);
    known(&port.proxy.caches, "db:5432/app");
    let answer = port.get("/metrics").await;
    check(&answer.body);
    for line in [
        "pgweir_cache_mode{mode=\"off\"} 1",
        "pgweir_cache_mode{mode=\"on\"} 0",
        "pgweir_cache_hits_total 1",
        "pgweir_cache_misses_total{reason=\"expired\"} 1",
        "pgweir_cache_misses_total{reason=\"absent\"} 0",
        "pgweir_cache_saved_seconds_total 1.5",
        "pgweir_cache_max_bytes 268435456",
        "pgweir_cache_database_ready{database=\"db:5432/app\"} 0",
        "pgweir_cache_unresolved_writes{database=\"db:5432/app\"} 0",
    ] {
        assert!(answer.body.lines().any(|known| known == line), "{line}\nin\n{}", answer.body);
    }
    assert!(!answer.body.contains("pgweir_cache_slot_lag_seconds{"), "there is no slot");
}
