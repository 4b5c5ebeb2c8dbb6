//! Tokens: the port's own, and those that see one tenant alone.

use super::*;
use crate::telemetry::Untracked;

/// What must not be seen with another tenant's token.
const CANARY: &str = "canary_of_beta";
/// A fingerprint that both tenants' statements have.
const BOTH: &str = "0000000000000001";

/// Paths that anybody may ask for: they know nothing of anybody.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/login", "/logout"];

/// Every path of the port, with something in each of its places.
fn paths() -> Vec<String> {
    let source = include_str!("../server.rs");
    let paths = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let places = |path: &str| path.replace("{fingerprint}", BOTH).replace("{name}", CANARY);
    let id = |path: &str| path.replace("{id}", if path.contains("/clients/") { "8" } else { CANARY });
    // A stream does not end by itself: it has a test of its own.
    let paths = paths.filter(|path| !path.ends_with("/events"));
    let paths: Vec<String> = paths.map(|path| id(&places(path))).collect();
    assert!(paths.len() > 25, "{paths:?}");
    paths
}

/// Both tenants have done everything that shows anywhere.
pub(super) async fn port() -> Port {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    port.traffic();
    let start_us = port.telemetry.clock.start_us();
    for (tenant, canary) in [("acme", "of_acme"), ("beta", CANARY)] {
        let id = TenantId::from(port.telemetry.tenants.id(tenant));
        let worker = port.telemetry.worker("0");
        let text = StatementText {
            class: Class::Select,
            facts: unknown_facts(if tenant == "acme" { 5 } else { 6 }),
            text: format!("select {canary}").into(),
        };
        let finished = Finished { start_us, end_us: start_us + 9_000_000, ..Finished::default() };
        worker.statement(text.facts.strict, id, || text).record(&finished);
        worker.application(id, canary).record(&finished);
        worker.record_route(worker.route(id, canary.as_bytes(), || canary.into()), &finished);
        worker.pool(canary, canary).finished(&finished);
        worker.class(id, canary).record(&finished);
        let untracked = Untracked {
            reason: "load",
            answer: "pin",
            database: canary.into(),
            user: canary.into(),
            tenant: tenant.into(),
            application: canary.into(),
            fingerprint: 1,
        };
        port.telemetry.untracked.note(untracked, 7, 7);
        port.findings.take(&finding(canary, tenant, 1), Timestamp(0));
        port.proxy.clients.lock().unwrap().push(ClientState {
            id: if tenant == "acme" { 3 } else { 8 },
            tenant: tenant.into(),
            application: canary.into(),
            database: canary.into(),
            ..ClientState::default()
        });
    }
    port.telemetry.look_at_history(start_us + 60_000_000);
    port
}

pub(super) async fn ask(port: &Port, method: &str, path: &str, token: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    port.send(&format!("{head}X-Requested-With: test\r\nAuthorization: Bearer {token}\r\n\r\n")).await
}

#[tokio::test]
async fn the_token_opens_everything_but_the_probes_which_are_open() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let ask = async |path: &str, authorization: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n{authorization}\r\n");
        port.send(&request).await
    };
    for path in ["/metrics", "/api/v1/pools", "/api/v1/config", "/api/v1/findings", "/nowhere"] {
        for wrong in [
            "",
            "Authorization: Bearer \r\n",
            "Authorization: Bearer t0ke\r\n",
            "Authorization: Bearer t0kens\r\n",
            "Authorization: Basic t0ken\r\n",
            "Authorization: t0ken\r\n",
            "Authorization: Bearer t0ken\r\nAuthorization: Bearer t0ken\r\n",
        ] {
            let answer = ask(path, wrong).await;
            assert_eq!(answer.status, 401, "{path} {wrong}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
        }
    }
    assert_eq!(ask("/metrics", "Authorization: Bearer t0ken\r\n").await.status, 200);
    assert_eq!(ask("/metrics", "authorization: bearer t0ken\r\n").await.status, 200);
    assert_eq!(ask("/nowhere", "Authorization: Bearer t0ken\r\n").await.status, 404);
    assert_eq!(ask("/livez", "").await.status, 200);
    assert_eq!(ask("/readyz", "").await.status, 200);
}

#[tokio::test]
async fn a_tenants_token_shows_nothing_of_another_on_any_path() {
    let port = port().await;
    let (mut open, mut canaries) = (Vec::new(), 0);
    for path in paths() {
        for query in ["", "?tenant=acme", "?tenant=beta", "?%74enant=beta", "?tenant=acme&tenant=beta", "?limit=1000"] {
            let address = format!("{path}{query}");
            let answer = ask(&port, "GET", &address, "hunter-of-acme").await;
            assert!(!answer.body.contains(CANARY) && !answer.body.contains("\"beta\""), "{address}: {}", answer.body);
            assert!(
                [200, 400, 403, 404].contains(&answer.status) || OPEN.contains(&&*path),
                "{address}: {}",
                answer.status
            );
            if answer.status == 403 {
                assert!(answer.head.contains("content-type: application/problem+json"), "{address}");
            }
            if query.contains("beta") && !OPEN.contains(&&*path) {
                assert_eq!(answer.status, 403, "{address}");
            }
            if query.is_empty() && answer.status == 200 && path != "/login" {
                open.push(path.clone());
            }
        }
        for method in ["POST", "DELETE", "PUT"] {
            let status = ask(&port, method, &path, "hunter-of-acme").await.status;
            assert!(status == 403 || OPEN.contains(&&*path), "{method} {path}: {status}");
        }
        // The canary sings where one may hear it: otherwise this test would see nothing.
        if !path.contains("upstreams") {
            canaries += usize::from(ask(&port, "GET", &path, "t0ken").await.body.contains(CANARY));
        }
    }
    open.sort();
    let expected = [
        "/api/v1/blocking",
        "/api/v1/clients",
        "/api/v1/findings",
        "/api/v1/findings/export",
        "/api/v1/history",
        "/api/v1/limits",
        "/api/v1/overview",
        "/api/v1/plans",
        "/api/v1/queries",
        &format!("/api/v1/queries/{BOTH}"),
        &format!("/api/v1/queries/{BOTH}/history"),
        "/api/v1/session",
        "/api/v1/tenants",
        "/api/v1/untracked",
        "/livez",
        "/readyz",
    ];
    assert_eq!(open, expected);
    assert!(canaries >= 10, "{canaries}");
}

#[tokio::test]
async fn a_tenants_token_shows_what_is_its_own() {
    let port = port().await;
    let own = async |path: &str| ask(&port, "GET", path, "hunter-of-acme").await.json();
    assert_eq!(own("/api/v1/queries").await["total"], 3);
    assert_eq!(own("/api/v1/clients").await["clients"][0]["application"], "of_acme");
    assert_eq!(own("/api/v1/findings").await["findings"][0]["id"], "of_acme");
    assert_eq!(own("/api/v1/untracked").await["total"], 1);
    assert_eq!(own("/api/v1/history").await["windows"][0]["calls"], 41);
    let tenants = own("/api/v1/tenants").await;
    assert_eq!(tenants["tenants"].as_array().unwrap().len(), 1);
    assert_eq!((&tenants["tenants"][0]["tenant"], &tenants["tenants"][0]["statements"]), (&"acme".into(), &41.into()));
    assert!(tenants["tenants"][0].get("share").is_none(), "it would tell how much the others do");
    for wrong in ["hunter-of-acm", "hunter-of-acmee", "hunter-of-", ""] {
        assert_eq!(ask(&port, "GET", "/api/v1/queries", wrong).await.status, 401, "{wrong}");
    }
}

#[tokio::test]
async fn without_a_token_that_sees_all_no_other_opens_anything() {
    let port = Port::start(None, Bounds::default()).await;
    // Such settings do not come from a file; on loopback everybody sees all.
    assert_eq!(ask(&port, "GET", "/api/v1/pools", "hunter-of-acme").await.status, 200);
}
