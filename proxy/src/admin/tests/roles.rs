//! Every route and every role: what is answered, as a table. A route that is not in it fails the test.

use super::*;

/// What an answer may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum May {
    /// It is let in, whatever comes of it.
    Enter,
    /// 403.
    Not,
}

use May::{Enter, Not};

/// Method, path, and who may: operator, viewer, a tenant's viewer. Nobody may without a token.
const ROUTES: &[(&str, &str, [May; 3])] = &[
    ("GET", "/metrics", [Enter, Enter, Not]),
    ("GET", "/api/v1/version", [Enter, Enter, Not]),
    ("GET", "/api/v1/config", [Enter, Enter, Not]),
    ("POST", "/api/v1/reload", [Enter, Not, Not]),
    ("GET", "/api/v1/pools", [Enter, Enter, Not]),
    ("GET", "/api/v1/queries", [Enter, Enter, Enter]),
    ("GET", "/api/v1/queries/snapshot", [Enter, Enter, Not]),
    ("GET", "/api/v1/queries/{fingerprint}/history", [Enter, Enter, Enter]),
    ("GET", "/api/v1/queries/{fingerprint}/samples", [Enter, Not, Not]),
    ("GET", "/api/v1/applications", [Enter, Enter, Not]),
    ("GET", "/api/v1/routes", [Enter, Enter, Not]),
    ("GET", "/api/v1/databases", [Enter, Enter, Not]),
    ("GET", "/api/v1/history", [Enter, Enter, Enter]),
    ("POST", "/api/v1/queries/reset", [Enter, Not, Not]),
    ("GET", "/api/v1/plans", [Enter, Enter, Enter]),
    ("GET", "/api/v1/plans/{fingerprint}", [Enter, Enter, Enter]),
    ("GET", "/api/v1/findings", [Enter, Enter, Enter]),
    ("GET", "/api/v1/findings/fence", [Enter, Enter, Not]),
    ("GET", "/api/v1/findings/export", [Enter, Enter, Enter]),
    ("POST", "/api/v1/findings/{id}/acknowledge", [Enter, Not, Not]),
    ("DELETE", "/api/v1/findings/{id}/acknowledge", [Enter, Not, Not]),
    ("GET", "/api/v1/mutes", [Enter, Enter, Not]),
    ("POST", "/api/v1/mutes", [Enter, Not, Not]),
    ("DELETE", "/api/v1/mutes/{id}", [Enter, Not, Not]),
    ("GET", "/api/v1/tenants", [Enter, Enter, Enter]),
    ("GET", "/api/v1/clients", [Enter, Enter, Enter]),
    ("GET", "/api/v1/upstreams", [Enter, Enter, Not]),
    ("GET", "/api/v1/listeners", [Enter, Enter, Not]),
    ("GET", "/api/v1/sockets", [Enter, Enter, Not]),
    ("GET", "/api/v1/capture", [Enter, Enter, Not]),
    ("POST", "/api/v1/capture", [Enter, Not, Not]),
    ("DELETE", "/api/v1/capture", [Enter, Not, Not]),
    ("GET", "/api/v1/untracked", [Enter, Enter, Enter]),
    ("GET", "/api/v1/openapi.json", [Enter, Enter, Not]),
    ("GET", "/api/v1/overview", [Enter, Enter, Enter]),
    ("GET", "/api/v1/events", [Enter, Enter, Enter]),
    ("GET", "/api/v1/blocking", [Enter, Enter, Enter]),
    ("GET", "/api/v1/queries/{fingerprint}", [Enter, Enter, Enter]),
    ("GET", "/api/v1/findings/{id}", [Enter, Enter, Enter]),
    ("GET", "/api/v1/limits", [Enter, Enter, Enter]),
    ("POST", "/api/v1/limits/explain", [Enter, Enter, Not]),
    ("GET", "/api/v1/clients/{id}", [Enter, Enter, Enter]),
    ("POST", "/api/v1/clients/{id}/kill", [Enter, Not, Not]),
    ("POST", "/api/v1/clients/{id}/cancel", [Enter, Not, Not]),
    ("POST", "/api/v1/pause", [Enter, Not, Not]),
    ("POST", "/api/v1/resume", [Enter, Not, Not]),
    ("POST", "/api/v1/reconnect", [Enter, Not, Not]),
    ("POST", "/api/v1/databases/{name}/pause", [Enter, Not, Not]),
    ("POST", "/api/v1/databases/{name}/resume", [Enter, Not, Not]),
    ("POST", "/api/v1/databases/{name}/reconnect", [Enter, Not, Not]),
    ("POST", "/api/v1/databases/{name}/disable", [Enter, Not, Not]),
    ("POST", "/api/v1/databases/{name}/enable", [Enter, Not, Not]),
    ("POST", "/api/v1/drain", [Enter, Not, Not]),
    ("GET", "/api/v1/cache", [Enter, Enter, Not]),
    ("POST", "/api/v1/cache/mode", [Enter, Not, Not]),
    ("POST", "/api/v1/cache/invalidate", [Enter, Not, Not]),
    ("GET", "/api/v1/audit", [Enter, Not, Not]),
    ("GET", "/api/v1/session", [Enter, Enter, Enter]),
    ("GET", "/api/v1/log-level", [Enter, Enter, Not]),
    ("PUT", "/api/v1/log-level", [Enter, Not, Not]),
    ("POST", "/api/v1/log-level", [Enter, Not, Not]),
];

/// Those that ask for no token.
const OPEN: &[(&str, &str)] =
    &[("GET", "/livez"), ("GET", "/readyz"), ("GET", "/login"), ("POST", "/login"), ("POST", "/logout")];

/// Methods and paths of the router, as its source has them.
fn of_the_router() -> Vec<(String, String)> {
    let source = include_str!("../server.rs");
    let mut found = Vec::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, rest) = route.split_once('"').unwrap();
        // Up to the next call on the router, which stands on a line of its own.
        let methods = rest.split("\n        .").next().unwrap();
        for (word, method) in
            [("get(", "GET"), ("post(", "POST"), ("put(", "PUT"), ("delete(", "DELETE"), ("patch(", "PATCH")]
        {
            if methods.contains(&format!(" {word}")) || methods.contains(&format!(".{word}")) {
                found.push((method.to_owned(), path.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_route_of_the_router_is_in_the_table() {
    let mut table: Vec<(String, String)> = ROUTES
        .iter()
        .map(|(method, path, _)| (*method, *path))
        .chain(OPEN.iter().copied())
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    let mut router = of_the_router();
    table.sort();
    router.sort();
    assert_eq!(router, table, "say in this table who may use a route");
    let documented = include_str!("../../../../docs/admin-api.md");
    for (method, path) in &router {
        let fixed = path.split("/{").next().unwrap();
        assert!(documented.contains(fixed), "docs/admin-api.md does not say {method} {path}");
    }
}

async fn ask(port: &Port, method: &str, path: &str, token: Option<&str>) -> Answer {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    port.send(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n")).await
}

#[tokio::test(start_paused = true)]
async fn each_role_opens_what_the_table_says_and_nothing_else() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let roles = ["t0ken", "hunter-of-grafana", "hunter-of-acme"];
    for (method, path, may) in ROUTES {
        let path = path.replace("{fingerprint}", "0000000000000001").replace("{id}", "x").replace("{name}", "app");
        assert_eq!(ask(&port, method, &path, None).await.status, 401, "{method} {path} without a token");
        for (token, may) in roles.iter().zip(may) {
            let answer = ask(&port, method, &path, Some(token)).await;
            assert_eq!(answer.status == 403, *may == Not, "{method} {path} as {token}: {}", answer.status);
            assert_ne!(answer.status, 401, "{method} {path} as {token}");
            assert_ne!(answer.status, 405, "{method} {path} is a route");
            if answer.status >= 400 {
                assert!(answer.head.contains("application/problem+json"), "{method} {path}: {}", answer.head);
                assert_eq!(answer.json()["status"], answer.status);
            }
        }
        // What is no route is closed too, and says nothing of what there is.
        for method in ["PUT", "PATCH", "DELETE", "TRACE"] {
            let status = ask(&port, method, &path, Some("hunter-of-grafana")).await.status;
            assert!([403, 405].contains(&status), "{method} {path}: {status}");
            assert_eq!(ask(&port, method, &path, None).await.status, 401, "{method} {path}");
        }
    }
    for (method, path) in OPEN {
        assert_ne!(ask(&port, method, path, None).await.status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn guesses_of_tokens_have_an_end_and_nobody_with_a_long_one_is_locked_out() {
    let long = "pgweir_0123456789abcdef0123456789abcdef";
    let port = Port::start(Some(long), Bounds::default()).await;
    let ask = async |token: &str| ask(&port, "GET", "/api/v1/pools", Some(token)).await;
    for guess in 0..20 {
        assert_eq!(ask(&format!("guess-{guess}")).await.status, 401, "{guess}");
    }
    let limited = ask("guess").await;
    assert_eq!(limited.status, 429);
    assert!(
        limited.head.contains("retry-after: 3\r\n") || limited.head.contains("retry-after: 2\r\n"),
        "{}",
        limited.head
    );
    assert_eq!(limited.json()["title"], "Too Many Requests");
    assert_eq!(ask("hunter-of-grafana").await.status, 429, "a short one is not looked at, right or wrong");
    assert_eq!(ask(&long.replace('f', "e")).await.status, 429, "a long wrong one tells no more");
    assert_eq!(ask(long).await.status, 200);
    assert_eq!(port.get("/livez").await.status, 200);
    assert_eq!(port.get("/api/v1/pools").await.status, 401, "no token is no guess");
}

#[tokio::test]
async fn the_audit_log_tells_who_asked_for_what_and_is_for_operators() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let get = async |path: &str, token: Option<&str>| ask(&port, "GET", path, token).await;
    get("/api/v1/queries?tenant=acme&limit=5", Some("hunter-of-grafana")).await;
    get("/api/v1/queries", Some("hunter-of-acme")).await;
    get("/api/v1/pools", Some("hunter-of-acme")).await;
    get("/api/v1/pools", Some("guess")).await;
    get("/api/v1/pools", None).await;
    get("/livez", None).await;
    get("/metrics", Some("hunter-of-grafana")).await;
    for _ in 0..3 {
        get("/api/v1/version", Some("t0ken")).await;
    }
    ask(&port, "POST", "/api/v1/queries/reset", Some("t0ken")).await;
    ask(&port, "POST", "/api/v1/queries/reset", Some("t0ken")).await;
    get("/api/v1/audit", Some("hunter-of-grafana")).await;
    let page = get("/api/v1/audit", Some("t0ken")).await.json();
    let mut seen: Vec<String> = page["audit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let [kind, who, role, tenant] = ["kind", "who", "role", "tenant"].map(text);
            let [path, why] = ["path", "why"].map(text);
            assert_eq!(entry["from"], "127.0.0.1");
            format!(
                "{kind} {who} {role} {tenant} {} {path} {} x{} {why}",
                entry["method"].as_str().unwrap(),
                entry["status"],
                entry["times"]
            )
        })
        .collect();
    seen.reverse();
    assert_eq!(
        seen,
        [
            "view grafana viewer - GET /api/v1/queries?tenant=acme&limit=5 200 x1 -",
            "view acme tenant acme GET /api/v1/queries 200 x1 -",
            "refused acme tenant acme GET /api/v1/pools 403 x1 not for this role",
            "refused - - - GET /api/v1/pools 401 x1 wrong token",
            "refused - - - GET /api/v1/pools 401 x1 no token",
            "view admin.token operator - GET /api/v1/version 200 x3 -",
            "action admin.token operator - POST /api/v1/queries/reset 200 x1 -",
            "action admin.token operator - POST /api/v1/queries/reset 200 x1 -",
            "refused grafana viewer - GET /api/v1/audit 403 x1 not for this role",
        ]
    );
    assert!(!page.to_string().contains("guess") && !page.to_string().contains("t0ken"));
    let refused = get("/api/v1/audit?kind=refused&limit=2", Some("t0ken")).await.json();
    assert_eq!((&refused["total"], refused["audit"].as_array().unwrap().len()), (&4.into(), 2));
    for wrong in ["kind=all", "limit=0", "limit=1001", "who=x"] {
        assert_eq!(get(&format!("/api/v1/audit?{wrong}"), Some("t0ken")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn answers_carry_the_id_of_their_request() {
    let port = Port::start(Some("t0ken"), Bounds::default()).await;
    let ask = async |id: &str| {
        let request = format!(
            "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{id}Authorization: Bearer t0ken\r\n\r\n"
        );
        let head = port.send(&request).await.head;
        let line = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).map(str::to_owned);
        line.unwrap()
    };
    assert_eq!(ask("X-Request-Id: 7f-given\r\n").await, "7f-given");
    assert_eq!(ask("").await.len(), 16);
    assert_eq!(ask("X-Request-Id: two words\r\n").await.len(), 16);
    assert!(port.get("/livez").await.head.contains("x-request-id: "));
}

#[tokio::test]
async fn without_a_log_of_its_own_there_is_no_level_and_what_is_asked_for_is_checked() {
    let port = Port::start(None, Bounds::default()).await;
    assert_eq!(port.get("/api/v1/log-level").await.status, 503);
    let send = async |method: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "{method} /api/v1/log-level HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Requested-With: test\r\n"
        );
        port.send(&format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await
            .status
    };
    assert_eq!(send("PUT", "{\"filter\": \"debug\"}").await, 503);
    assert_eq!(send("POST", "{\"level\": \"debug\"}").await, 400);
}
