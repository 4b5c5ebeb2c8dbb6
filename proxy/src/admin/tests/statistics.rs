//! Statistics of statements: what is shown beside counts, snapshots, resets.

use super::*;

const ASKED: &str = "X-Requested-With: a test\r\n";

#[tokio::test]
async fn a_row_says_what_share_it_has_and_how_its_time_is_distributed() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let rows = port.get("/api/v1/queries").await.json();
    let shares: Vec<_> = rows["queries"].as_array().unwrap().iter().map(|row| row["time_share"].as_f64()).collect();
    let shares: Option<Vec<_>> = shares.into_iter().collect();
    // Twenty calls each of 50, 3 and 1 ms.
    let expected = [50.0 / 54.0, 3.0 / 54.0, 1.0 / 54.0];
    assert!(shares.unwrap().iter().zip(expected).all(|(share, known)| (share - known).abs() < 1e-6), "{rows}");
    let first = &rows["queries"][0];
    assert_eq!(first["distribution_ms"]["server"]["max"], 25.0);
    assert_eq!(first["distribution_ms"]["queue"], serde_json::json!({"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}));
    let p50 = first["distribution_ms"]["server"]["p50"].as_f64().unwrap();
    assert!((p50 - 25.0).abs() / 25.0 < 0.12, "{p50}");
    assert_eq!(first["calls_per_minute"], 20.0, "as if over a whole minute, before there was one");
    assert_eq!(first["since"], "2026-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn a_snapshot_is_a_line_that_says_what_it_is_and_a_line_for_each_row() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let answer = port.get("/api/v1/queries/snapshot").await;
    assert!(answer.head.contains("content-type: application/x-ndjson"), "{}", answer.head);
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (head, rows) = lines.split_first().unwrap();
    assert_eq!((&head["format"], &head["queries"]), (&"pgweir-queries".into(), &3.into()));
    assert_eq!(head["version"], env!("CARGO_PKG_VERSION"));
    assert!(head["until"].as_str() >= head["since"].as_str());
    assert_eq!(rows.len(), 3);
    for row in rows {
        let calls: u64 = row["histograms"]["total"].as_array().unwrap().iter().map(|b| b[1].as_u64().unwrap()).sum();
        assert_eq!(row["calls"], calls, "{row}");
        assert_eq!(row["histograms"]["queue"], serde_json::json!([]));
    }
    let keys: Vec<_> = rows.iter().map(|row| (row["fingerprint"].to_string(), row["tenant"].to_string())).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[tokio::test]
async fn a_reset_counts_anew_what_it_names_and_nothing_else() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let total = async || port.get("/api/v1/queries").await.json()["total"].as_u64().unwrap();
    let reset =
        async |what: &str, line: &str| port.send(&change("POST", &format!("/api/v1/queries/reset{what}"), line)).await;
    assert_eq!(reset("", "").await.status, 403);
    assert_eq!(port.get("/api/v1/queries/reset").await.status, 405);
    for bad in ["?fingerprint=1", "?fingerprint=+000000000000001", "?colour=red"] {
        assert_eq!(reset(bad, ASKED).await.status, 400, "{bad}");
    }
    assert_eq!(total().await, 3);
    let one = reset("?fingerprint=0000000000000001&tenant=acme", ASKED).await;
    assert_eq!((one.status, &one.json()["reset"]), (200, &1.into()));
    assert_eq!(total().await, 2);
    assert_eq!(reset("?tenant=nobody", ASKED).await.json()["reset"], 0);
    assert_eq!(reset("", ASKED).await.json()["reset"], 3);
    assert_eq!(total().await, 0);
    port.traffic();
    let row = &port.get("/api/v1/queries").await.json()["queries"][0];
    assert_eq!((&row["calls"], &row["errors_by_sqlstate"]["57014"]), (&20.into(), &2.into()));
    assert!(row["since"].as_str() > row["first_seen"].as_str(), "{row}");
    let metrics = port.get("/metrics").await.body;
    assert!(metrics.contains("pgweir_tenant_statements_total{tenant=\"acme\"} 80"), "metrics never go back");
}

#[tokio::test]
async fn history_is_asked_for_by_statement_tenant_step_and_moment() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let start_us = port.telemetry.clock.start_us();
    port.telemetry.look_at_history(start_us + 60_000_000);
    let of = async |path: &str| port.get(path).await.json();
    let windows = async |path: &str| of(path).await["windows"].as_array().unwrap().len();
    let course = of("/api/v1/queries/0000000000000001/history?tenant=acme&step=10s").await;
    assert_eq!(course["step"], "10s");
    let window = &course["windows"][0];
    assert_eq!((&window["start"], &window["seconds"]), (&"2026-01-01T00:00:00.000Z".into(), &60.0.into()));
    assert_eq!((&window["calls"], &window["errors"], &window["rows"]), (&20.into(), &2.into(), &60.into()));
    assert_eq!(
        (&window["total_ms"], &window["server_ms"], &window["max_ms"]),
        (&20.0.into(), &10.0.into(), &1.0.into())
    );
    let p95 = window["p95_ms"].as_f64().unwrap();
    assert!((0.88..=1.0).contains(&p95), "{p95}");
    let both = of("/api/v1/queries/0000000000000001/history").await;
    assert_eq!((&both["windows"][0]["calls"], &both["windows"][0]["p95_ms"]), (&40.into(), &Value::Null));
    let all = of("/api/v1/history").await;
    assert_eq!((&all["step"], &all["windows"][0]["calls"]), (&"1m".into(), &60.into()));
    assert!(all["windows"][0]["p95_ms"].is_number(), "of everything it is known");
    assert_eq!(of("/api/v1/history?tenant=beta").await["windows"][0]["calls"], 20);
    assert_eq!(windows("/api/v1/history?tenant=nobody").await, 0);
    assert_eq!(windows("/api/v1/queries/00000000000000ff/history").await, 0);
    assert_eq!(windows("/api/v1/history?from=2026-01-01T00:00:59Z").await, 1);
    assert_eq!(windows("/api/v1/history?from=2026-01-01T00:01:00Z").await, 0);
    assert_eq!(windows("/api/v1/history?from=1767225660").await, 0);
    assert_eq!(of("/api/v1/queries").await["queries"][0]["calls_last_minute"], 20);
    let lately = |tenant: &str| format!("/api/v1/queries/0000000000000001{tenant}");
    assert_eq!(of(&lately("")).await["calls_last_minute"], 40, "of all tenants");
    assert_eq!(of(&lately("?tenant=acme")).await["calls_last_minute"], 20);
    let page = port.get("/queries/0000000000000001").await.body;
    assert!(page.contains("40 in the last minute"), "{page}");
    for bad in ["/history?step=5m", "/history?from=yesterday", "/history?limit=1", "/queries/12/history"] {
        assert_eq!(port.get(&format!("/api/v1{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_tenant_is_told_the_servers_ids_of_what_it_has_run_itself() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    port.telemetry.look_at_history(port.telemetry.clock.start_us() + 60_000_000);
    port.telemetry.server_ids.keep("db", [(1, vec![7]), (2, vec![8])].into_iter().collect(), Instant::now());
    let ids = async |strict: u64, tenant: &str| {
        let path = format!("/api/v1/queries/{strict:016x}/history{tenant}");
        port.get(&path).await.json().get("query_id").cloned()
    };
    // Only acme has run the second one.
    assert_eq!(ids(2, "?tenant=acme").await, Some(serde_json::json!(["8"])));
    assert_eq!(ids(2, "").await, Some(serde_json::json!(["8"])));
    assert_eq!(ids(2, "?tenant=beta").await, None, "that others run it is none of its business");
    assert_eq!(ids(2, "?tenant=nobody").await, None);
    assert_eq!(ids(1, "?tenant=beta").await, Some(serde_json::json!(["7"])));
}

#[tokio::test]
async fn applications_routes_and_databases_are_listed_by_their_time() {
    let port = Port::start(None, Bounds::default()).await;
    let worker = port.telemetry.worker("0");
    let finished = |us| Finished { end_us: us, server_us: us / 2, rows: 3, bytes_out: 9, ..Finished::default() };
    for (application, us) in [("web", 1_000), ("", 5_000), ("web", 1_000)] {
        worker.application(TenantId(1), application).record(&finished(us));
        worker.record_route(worker.route(TenantId(1), b"/posts", || "/posts".into()), &finished(us));
        worker.pool("app", "u").finished(&finished(us));
    }
    let of = async |path: &str| port.get(path).await.json();
    let applications = of("/api/v1/applications").await;
    assert_eq!((&applications["total"], &applications["applications"][0]["application"]), (&2.into(), &"".into()));
    let web = &applications["applications"][1];
    assert_eq!((&web["application"], &web["calls"], &web["rows"]), (&"web".into(), &2.into(), &6.into()));
    assert_eq!((&web["total_ms"], &web["server_ms"], &web["mean_ms"]), (&2.0.into(), &1.0.into(), &1.0.into()));
    assert_eq!(of("/api/v1/applications?limit=1").await["applications"].as_array().unwrap().len(), 1);
    for (path, list, name, known) in
        [("routes", "routes", "route", "/posts"), ("databases", "databases", "database", "app")]
    {
        let rows = of(&format!("/api/v1/{path}")).await;
        assert_eq!((&rows[list][0][name], &rows[list][0]["calls"]), (&known.into(), &3.into()), "{rows}");
        let p95 = rows[list][0]["p95_ms"].as_f64().unwrap();
        assert!((p95 - 5.0).abs() / 5.0 < 0.12, "{p95}");
        assert_eq!(port.get(&format!("/api/v1/{path}?tenant=acme")).await.status, 400);
    }
}
