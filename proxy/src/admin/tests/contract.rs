//! Every route of the table, asked: what it takes and what it answers are as it is described.

use super::super::openapi::routes::{Answer as Described, ROUTES, Route, Who};
use super::super::openapi::tests::objections;
use super::confined::{ask, port};
use super::*;

/// A path with an example in each of its places that leads to something.
fn example(path: &str) -> String {
    let id = if path.contains("/clients/") { "7" } else { "of_acme" };
    path.replace("{fingerprint}", "0000000000000001").replace("{id}", id).replace("{name}", "app")
}

fn gets() -> impl Iterator<Item = &'static Route> {
    // A stream does not end by itself.
    ROUTES.iter().filter(|route| route.method == "GET" && route.path != "/api/v1/events")
}

async fn filled() -> Port {
    let port = port().await;
    port.proxy.clients.lock().unwrap().push(ClientState {
        id: 7,
        tenant: "acme".into(),
        state: "waiting",
        database: "app".into(),
        user: "u".into(),
        ..ClientState::default()
    });
    *port.proxy.upstreams.lock().unwrap() =
        Some(vec![UpstreamState { id: 9, state: "idle", ..UpstreamState::default() }]);
    port.plan("select", 1);
    crate::cache::testing::known(&port.proxy.caches, "db:5432/app");
    port.proxy.caches.counters.hit(1_000, false);
    port.proxy.caches.tell(1, crate::cache::Fate::Bypass(policy::cache::Bypass::NoRule));
    port
}

#[tokio::test]
async fn what_a_route_answers_is_what_its_schema_says() {
    let port = filled().await;
    let mut seen = 0;
    for route in gets() {
        let path = example(route.path);
        let answer = ask(&port, "GET", &path, "t0ken").await;
        if route.id == "log_level" {
            // Nobody has begun to log here; the suite asks a process that has.
            assert_eq!((answer.status, route.problems.contains(&503)), (503, true), "{path}");
            continue;
        }
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let kind = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        match route.answer {
            Described::Json(_, name) => {
                assert_eq!(kind, "application/json", "{path}");
                assert_eq!(objections(name, &answer.json()), [""; 0], "{path}: {}", answer.body);
                seen += 1;
            }
            Described::Other(types) => {
                assert!(types.iter().any(|known| kind.split(';').next() == Some(*known)), "{path}: {kind}");
            }
            Described::Nothing => panic!("{path}"),
        }
    }
    assert!(seen > 25, "{seen}");
    for path in [
        "/api/v1/queries?series=true",
        "/api/v1/queries?period=1h&series=true",
        "/api/v1/queries?tenant=acme&period=10m",
    ] {
        let answer = ask(&port, "GET", path, "t0ken").await;
        assert_eq!(
            (answer.status, objections("Queries", &answer.json())),
            (200, Vec::new()),
            "{path}: {}",
            answer.body
        );
    }
    for (path, name) in [
        ("/api/v1/overview?tenant=acme", "Overview"),
        ("/api/v1/blocking?tenant=acme", "Blocking"),
        ("/api/v1/databases?period=5m", "Databases"),
        ("/api/v1/queries/0000000000000001?period=10m", "QueryDetail"),
    ] {
        let answer = ask(&port, "GET", path, "t0ken").await;
        assert_eq!(objections(name, &answer.json()), [""; 0], "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_route_takes_the_parameters_that_it_declares_and_no_others() {
    let port = filled().await;
    for route in gets() {
        let path = example(route.path);
        if route.who == Who::Anybody {
            continue;
        }
        let status = async |query: String| ask(&port, "GET", &format!("{path}?{query}"), "t0ken").await.status;
        assert_eq!(status("colour=red".to_owned()).await, 400, "{path}");
        for known in route.parameters().filter(|known| !known.in_path) {
            let example = known.kind.example();
            let taken = status(format!("{}={example}", known.name)).await;
            assert_ne!(taken, 400, "{path}?{}={example}", known.name);
            assert_eq!(
                status(format!("{0}={example}&{0}={example}", known.name)).await,
                400,
                "{path}: {} twice",
                known.name
            );
            let long = "x".repeat(300);
            assert_eq!(status(format!("{}={long}", known.name)).await, 400, "{path}?{}={long}", known.name);
        }
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let port = Port::start(None, Bounds::default()).await;
    let answer = port.get("/api/v1/openapi.json").await;
    assert_eq!((answer.status, answer.json()), (200, super::super::openapi::built()));
}

#[tokio::test]
async fn an_answer_has_a_tag_and_is_told_to_be_the_same_still() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let first = port.get("/api/v1/tenants").await;
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    assert!(first.head.contains("cache-control: no-cache, private"), "{}", first.head);
    let again = async |tag: &str| {
        let head =
            format!("GET /api/v1/tenants HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: {tag}\r\n");
        port.send(&format!("{head}\r\n")).await
    };
    let same = again(&tag).await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert!(same.head.contains(&format!("etag: {tag}")) && same.head.contains("no-cache"), "{}", same.head);
    assert_eq!(again("\"0123456789abcdef0123456789abcdef\"").await.status, 200);
    port.traffic();
    assert_eq!(again(&tag).await.status, 200, "it is another answer by now");
    let problem = port.get("/api/v1/nothing").await;
    assert!(!problem.head.contains("etag") && problem.head.contains("no-store"), "{}", problem.head);
}
