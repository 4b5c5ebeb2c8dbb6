//! What an operator has done.

use super::super::source::Action;
use super::*;

const ASKED: &str = "X-Requested-With: a test\r\n";

async fn post(port: &Port, path: &str) -> Answer {
    port.send(&change("POST", &format!("/api/v1/{path}"), ASKED)).await
}

#[tokio::test]
async fn each_action_reaches_the_proxy_and_says_what_it_did() {
    let port = Port::start(None, Bounds::default()).await;
    let app = || Some("app".to_owned());
    let patience = Duration::from_secs(5);
    for (path, action, answer) in [
        ("pause", Action::Pause(None), serde_json::json!({"action": "pause", "database": null, "complete": true})),
        ("resume", Action::Resume(None), serde_json::json!({"action": "resume", "database": null})),
        ("reconnect", Action::Reconnect(None), serde_json::json!({"action": "reconnect", "database": null})),
        (
            "databases/app/pause?wait=1s",
            Action::Pause(app()),
            serde_json::json!({"action": "pause", "database": "app", "complete": true}),
        ),
        ("databases/app/resume", Action::Resume(app()), serde_json::json!({"action": "resume", "database": "app"})),
        (
            "databases/a%2Fb%20c/reconnect",
            Action::Reconnect(Some("a/b c".to_owned())),
            serde_json::json!({"action": "reconnect", "database": "a/b c"}),
        ),
        (
            "databases/app/disable",
            Action::Disable("app".to_owned()),
            serde_json::json!({"action": "disable", "database": "app"}),
        ),
        (
            "databases/app/enable",
            Action::Enable("app".to_owned()),
            serde_json::json!({"action": "enable", "database": "app"}),
        ),
        ("clients/7/kill", Action::Kill(7), serde_json::json!({"client": 7, "killed": true})),
        (
            "clients/7/cancel",
            Action::Cancel(7, patience),
            serde_json::json!({"client": 7, "was": "active", "cancelled": true, "complete": true}),
        ),
        ("drain", Action::Drain, serde_json::json!({"draining": true})),
    ] {
        let done = post(&port, path).await;
        assert_eq!((done.status, done.json()), (if path == "drain" { 202 } else { 200 }, answer), "{path}");
        assert_eq!(port.proxy.acted.lock().unwrap().pop(), Some(action), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let port = Port::start(None, Bounds::default()).await;
    for (path, status, word) in [
        ("databases/nowhere/pause", 404, "nowhere"),
        ("databases/nowhere/resume", 404, "nowhere"),
        ("databases/nowhere/disable", 404, "nowhere"),
        ("databases/resumed/pause", 409, "resumed"),
        ("clients/8/kill", 404, "client 8"),
        ("clients/8/cancel", 404, "client 8"),
        ("clients/9/cancel", 409, "idle"),
        ("clients/x/kill", 400, "`id`"),
        ("pause?wait=2m", 400, "`wait`"),
        ("resume?wait=2s", 400, "no parameters"),
    ] {
        let answer = post(&port, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{path}: {}", answer.body);
    }
    port.proxy.draining.store(true, Ordering::Relaxed);
    assert_eq!(post(&port, "drain").await.status, 409);
    assert_eq!(port.get("/api/v1/pause").await.status, 405, "a look pauses nothing");
    assert_eq!(port.send(&change("POST", "/api/v1/pause", "")).await.status, 403);
}

#[tokio::test]
async fn a_pause_that_takes_longer_goes_on_and_says_so() {
    let port = Port::start(None, Bounds::default()).await;
    let began = Instant::now();
    let answer = post(&port, "databases/slow/pause?wait=0s").await;
    assert_eq!((answer.status, answer.json()["complete"].as_bool()), (200, Some(false)), "{}", answer.body);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn only_an_operator_acts() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    for path in ["pause", "databases/app/resume", "clients/7/kill", "clients/7/cancel", "drain", "reload"] {
        let ask = async |token: &str| confined::ask(&port, "POST", &format!("/api/v1/{path}"), token).await.status;
        assert_eq!((ask("hunter-of-acme").await, ask("nobody").await), (403, 401), "{path}");
    }
    assert!(port.proxy.acted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_policy_is_explained_as_on_the_command_line() {
    let port = Port::start(None, Bounds::default()).await;
    let ask = async |body: &str| {
        let head = format!("POST /api/v1/limits/explain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{ASKED}");
        let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        port.send(&format!("{head}{length}\r\n{body}")).await
    };
    let body = r#"{"user": "u", "settings": {"app.tenant_id": "acme"}, "sql": "select * from t where a = 'hunter5'"}"#;
    let answer = ask(body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let shown = answer.json();
    assert_eq!((&shown["tenant"], &shown["tenant_rule"]["number"]), (&"acme".into(), &1.into()));
    assert_eq!(shown["limits"]["statement_timeout_ms"]["from"], "[tenant.limits.acme]");
    assert_eq!(shown["statement"]["text"], "select * from t where a = ?");
    assert!(!answer.body.contains("hunter5"), "{}", answer.body);
    assert_eq!(super::super::openapi::tests::objections("Explained", &shown), [""; 0]);
    for wrong in [
        "{}",
        r#"{"user": 1}"#,
        r#"{"user": "u", "colour": 1}"#,
        r#"{"user": "u", "fingerprint": "x"}"#,
        "[",
        "[]",
        r#"["u"]"#,
    ] {
        assert_eq!(ask(wrong).await.status, 400, "{wrong}");
    }
    let long = format!(r#"{{"user": "{}"}}"#, "x".repeat(257));
    assert_eq!(ask(&long).await.status, 400);
}

#[tokio::test]
async fn limits_are_listed_with_who_says_them() {
    let port = Port::start(None, Bounds::default()).await;
    let all = port.get("/api/v1/limits?limit=1").await.json();
    assert_eq!((&all["total"], &all["limits"][0]["class"]), (&2.into(), &Value::Null));
    let limit = serde_json::json!({"value": 250, "from": "[tenant.limits.acme]", "mode": "enforce"});
    assert_eq!(all["limits"][0]["limits"]["statement_timeout_ms"], limit);
    let next = port.get(&format!("/api/v1/limits?cursor={}", all["next"].as_str().unwrap())).await.json();
    assert_eq!((&next["limits"][0]["class"], &next["next"]), (&"worker".into(), &Value::Null));
    assert_eq!(port.get("/api/v1/limits?tenant=beta").await.json()["total"], 0);
}
