//! Lists: filters, periods, pages; one statement; who waits for whom.

use super::super::source::{PoolState, TenantState};
use super::*;

async fn fingerprints(port: &Port, query: &str) -> Vec<String> {
    let answer = port.get(&format!("/api/v1/queries?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    let rows = answer.json();
    let name = |row: &Value| {
        format!("{}/{}", row["fingerprint"].as_str().unwrap().trim_start_matches('0'), row["tenant"].as_str().unwrap())
    };
    rows["queries"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn statements_are_filtered_by_text_class_and_caller() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let callers = &port.telemetry.callers;
    let acme = TenantId::from(port.telemetry.tenants.id("acme"));
    callers.note(2, acme, "web", "shop", port.telemetry.clock.start_us());
    for (query, wanted) in [
        ("text=SELECT%202%20FROM", &["2/acme"][..]),
        ("text=nothing", &[]),
        ("class=select&tenant=beta", &["1/beta"]),
        ("class=insert", &[]),
        ("application=web", &["2/acme"]),
        ("application=batch", &[]),
        ("database=shop", &["2/acme"]),
        ("sort=fingerprint", &["1/acme", "1/beta", "2/acme"]),
        ("sort=max_time", &["2/acme", "1/beta", "1/acme"]),
    ] {
        assert_eq!(fingerprints(&port, query).await, wanted, "{query}");
    }
    let answer = port.get("/api/v1/queries?application=web").await.json();
    assert!(answer["numbers_of"].as_str().unwrap().contains("all callers"), "{answer}");
    let one = port.get("/api/v1/queries/0000000000000002").await.json();
    assert_eq!((&one["applications"][0]["name"], &one["databases"][0]["name"]), (&"web".into(), &"shop".into()));
}

#[tokio::test]
async fn pages_walk_through_all_rows_once() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let page = port.get(&format!("/api/v1/queries?limit=1&sort=calls{cursor}")).await.json();
        assert_eq!((&page["total"], page["queries"].as_array().unwrap().len()), (&3.into(), 1));
        seen.push(page["queries"][0]["fingerprint"].to_string() + &page["queries"][0]["tenant"].to_string());
        cursor = page["next"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert_eq!(cursor, "", "that was the last page");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    let other = port.get("/api/v1/queries?limit=1").await.json()["next"].as_str().unwrap().to_owned();
    let strange = port.get(&format!("/api/v1/queries?sort=calls&cursor={other}")).await;
    assert_eq!(strange.status, 404, "a cursor of another list");
}

#[tokio::test]
async fn a_period_adds_up_what_the_history_keeps() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    let start_us = port.telemetry.clock.start_us();
    port.telemetry.look_at_history(start_us + 60_000_000);
    let of = async |query: &str| port.get(&format!("/api/v1/queries?{query}")).await.json();
    let rows = of("period=10m&series=true").await;
    let first = &rows["queries"][0];
    assert_eq!((&first["fingerprint"], &first["calls"]), (&"0000000000000002".into(), &20.into()));
    assert_eq!((&first["total_ms"], &first["mean_ms"], &first["errors"]), (&1_000.0.into(), &50.0.into(), &2.into()));
    assert!(first["p95_ms"].as_f64().is_some_and(|p95| (44.0..=50.0).contains(&p95)), "{first}");
    assert!(
        first.get("p50_ms").is_none() && first.get("distribution_ms").is_none(),
        "that is known since the start alone"
    );
    let calls: u64 = first["series"]["calls"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((calls, &first["series"]["step"], &rows["period"]["step"]), (20, &"10s".into(), &"10s".into()));
    assert_eq!(first["calls_per_minute"], 20.0);
    assert_eq!(of("period=1h&tenant=beta").await["total"], 1);
    port.telemetry.reset_statements(start_us + 60_000_000);
    assert_eq!((of("").await["total"].as_u64(), of("period=1h").await["total"].as_u64()), (Some(0), Some(3)));
    let wrong = port.get("/api/v1/queries?period=1h&sort=p99_time").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("since the start"), "{}", wrong.body);
}

#[tokio::test]
async fn one_statement_is_told_in_one_answer() {
    let port = Port::start(None, Bounds::default()).await;
    port.traffic();
    port.plan("select 1 from t where a = ?", 1);
    let mut about = finding("f", "acme", 1);
    about.child.fingerprint = "0000000000000001".into();
    port.findings.take(&about, Timestamp(0));
    port.telemetry.look_at_history(port.telemetry.clock.start_us() + 60_000_000);
    let one = port.get("/api/v1/queries/0000000000000001").await.json();
    assert_eq!((&one["calls"], &one["errors_by_sqlstate"]["57014"]), (&40.into(), &4.into()));
    assert_eq!((one["tenants"].as_array().unwrap().len(), &one["tenants"][0]["tenant"]), (2, &"beta".into()));
    let calls: u64 = one["histogram"].as_array().unwrap().iter().map(|bucket| bucket["calls"].as_u64().unwrap()).sum();
    assert_eq!(calls, 40);
    assert_eq!((&one["min_ms"], &one["max_ms"]), (&1.0.into(), &3.0.into()));
    assert_eq!(
        (&one["findings"][0]["id"], &one["plans"][0]["plans"][0]["plan"]["Node Type"]),
        (&"f".into(), &"Seq Scan".into())
    );
    let calls: u64 = one["series"]["calls"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(calls, 40);
    let lately = &one["period"];
    assert_eq!((&lately["calls"], &lately["errors"], &lately["total_ms"]), (&40.into(), &4.into(), &80.0.into()));
    assert_eq!((&lately["tenants"][0]["tenant"], &lately["tenants"][0]["time_share"]), (&"beta".into(), &0.75.into()));
    assert_eq!((&lately["tenants"][1]["calls"], &lately["step"]), (&20.into(), &"1m".into()));
    let short = port.get("/api/v1/queries/0000000000000001?tenant=acme&period=10m").await.json();
    assert_eq!((&short["period"]["calls"], &short["period"]["step"]), (&20.into(), &"10s".into()));
    assert_eq!(short["period"]["tenants"].as_array().map(Vec::len), Some(1), "nothing of others");
    let beta = port.get("/api/v1/queries/0000000000000001?tenant=beta").await.json();
    assert_eq!(
        (&beta["calls"], beta["findings"].as_array().unwrap().len(), beta["plans"].as_array().unwrap().len()),
        (&20.into(), 0, 0)
    );
    assert_eq!(port.get("/api/v1/queries/00000000000000ff").await.status, 404);
    assert_eq!(port.get("/api/v1/queries/12").await.status, 400);
}

#[tokio::test]
async fn clients_are_filtered_and_paged_by_their_number() {
    let port = Port::start(None, Bounds::default()).await;
    let client = |id, state, database: &str| ClientState {
        id,
        state,
        database: database.into(),
        tenant: "acme".into(),
        ..ClientState::default()
    };
    *port.proxy.clients.lock().unwrap() =
        vec![client(12, "idle", "a"), client(9, "active", "a"), client(100, "idle", "b")];
    let ids = async |query: &str| {
        let page = port.get(&format!("/api/v1/clients?{query}")).await.json();
        let ids: Vec<_> =
            page["clients"].as_array().unwrap().iter().map(|client| client["id"].as_u64().unwrap()).collect();
        (page["total"].as_u64().unwrap(), ids, page["next"].as_str().map(str::to_owned))
    };
    let (total, first, next) = ids("limit=2").await;
    assert_eq!((total, first), (3, vec![9, 12]));
    assert_eq!(ids(&format!("limit=2&cursor={}", next.unwrap())).await, (3, vec![100], None));
    assert_eq!(ids("state=idle&database=a").await.1, [12]);
    assert_eq!(ids("user=nobody").await.0, 0);
    assert_eq!(port.get("/api/v1/clients/9").await.json()["state"], "active");
    assert_eq!(port.get("/api/v1/clients/10").await.status, 404);
    assert_eq!(port.get("/api/v1/clients/9?tenant=beta").await.status, 404);
    assert_eq!(port.get("/api/v1/clients?state=asleep").await.status, 400);
}

#[tokio::test]
async fn those_who_wait_come_first_and_all_are_counted() {
    let port = Port::start(None, Bounds::default()).await;
    let state = |id| match id {
        ..2_990 => "idle",
        _ => "waiting",
    };
    let client = |id: u64| ClientState {
        id,
        state: state(id),
        application: format!("app{}", id % 3),
        pinned: (id == 1_500).then_some("listen"),
        ..ClientState::default()
    };
    *port.proxy.clients.lock().unwrap() = (0..3_000).map(client).collect();
    let ids = |page: &Value| -> Vec<u64> {
        page["clients"].as_array().unwrap().iter().map(|client| client["id"].as_u64().unwrap()).collect()
    };
    let page = port.get("/api/v1/clients?sort=urgency&limit=11").await.json();
    assert_eq!((&page["total"], &page["waiting"], &page["pinned"]), (&3_000.into(), &10.into(), &1.into()));
    assert_eq!(ids(&page), (2_990..3_000).chain([1_500]).collect::<Vec<_>>());
    let next = page["next"].as_str().unwrap();
    let page = port.get(&format!("/api/v1/clients?sort=urgency&limit=3&cursor={next}")).await.json();
    assert_eq!(ids(&page), [0, 1, 2]);
    assert_eq!(ids(&port.get("/api/v1/clients?pinned=true").await.json()), [1_500]);
    assert_eq!(port.get("/api/v1/clients?pinned=false&state=idle").await.json()["total"], 2_989);
    assert_eq!(port.get("/api/v1/clients?text=pp2&state=waiting").await.json()["total"], 4);

    let page = port.get("/connections").await.body;
    assert!(page.contains("3,000 in all; <span class=\"bad\">10 waiting</span>, 1 pinned"), "{page}");
    assert!(page.contains("100 of 3,000") && page.contains(">2990<") && !page.contains(">900<"), "{page}");
    let page = port.get("/connections?state=waiting&holds=app1").await.body;
    assert!(page.contains("3 in all; <span class=\"bad\">3 waiting</span>, 0 pinned"), "{page}");
    let page = port.get("/connections?state=pinned").await.body;
    assert!(page.contains("1 of 1") && page.contains(">1500<"), "{page}");
}

#[tokio::test]
async fn who_waits_for_whom_is_told() {
    let port = Port::start(None, Bounds::default()).await;
    let now_us = port.telemetry.clock.start_us();
    let client = |id, state, tenant: &str| ClientState {
        id,
        state,
        database: "app".into(),
        user: "u".into(),
        tenant: tenant.into(),
        state_since_us: now_us - id,
        ..ClientState::default()
    };
    *port.proxy.clients.lock().unwrap() = vec![
        client(1, "waiting", "acme"),
        client(2, "waiting", "beta"),
        ClientState {
            upstream: Some(5),
            held_since_us: now_us - 9_000_000,
            statement: Some("00000000000000aa".into()),
            ..client(3, "active", "beta")
        },
        ClientState { upstream: Some(6), held_since_us: now_us, pinned: Some("listen"), ..client(4, "idle", "beta") },
    ];
    let pool =
        PoolState { database: "app".into(), user: "u".into(), size: 2, open: 2, waiting: 2, ..PoolState::default() };
    *port.proxy.pools.lock().unwrap() = vec![pool, PoolState::default()];
    *port.proxy.queue.lock().unwrap() = ["acme", "beta"]
        .map(|tenant| TenantState { tenant: tenant.into(), waiting: 1, held: 0, share: policy::fair::Share::default() })
        .into();
    let all = port.get("/api/v1/blocking").await.json();
    let queue = &all["pools"][0];
    assert_eq!((all["pools"].as_array().unwrap().len(), &queue["waiting"], &queue["size"]), (1, &2.into(), &2.into()));
    assert_eq!((&queue["waiters"][0]["client"], &queue["holders"][0]["client"]), (&2.into(), &3.into()));
    assert_eq!(queue["holders"][0]["fingerprint"], "00000000000000aa");
    assert!(queue["holders"][0]["held_ms"].as_f64().unwrap() >= 9_000.0, "{queue}");
    assert_eq!((&all["pinned"][0]["client"], &all["pinned"][0]["reason"]), (&4.into(), &"listen".into()));
    let own = port.get("/api/v1/blocking?tenant=acme").await.json();
    let queue = &own["pools"][0];
    assert_eq!(
        (&queue["waiting"], &queue["size"], queue["holders"].as_array().unwrap().len()),
        (&1.into(), &Value::Null, 0)
    );
    assert!(own["pinned"].as_array().unwrap().is_empty() && !own.to_string().contains("beta"), "{own}");
    assert_eq!(port.get("/api/v1/blocking?database=other").await.json()["pools"], serde_json::json!([]));
}

#[tokio::test]
async fn each_key_of_the_configuration_is_listed() {
    let port = Port::start(None, Bounds::default()).await;
    let keys = port.get("/api/v1/config?key=databases.app").await.json()["keys"].clone();
    let keys = keys.as_array().unwrap();
    let size = keys.iter().find(|key| key["key"] == "databases.app.size").unwrap();
    assert_eq!((&size["value"], &size["from"]["kind"]), (&"20".into(), &"program".into()));
    assert!(keys.iter().all(|key| key["key"].as_str().unwrap().starts_with("databases.app.")));
    let all = port.get("/api/v1/config").await.json();
    let token = all["keys"].as_array().unwrap().iter().find(|key| key["key"] == "admin.token").unwrap().clone();
    assert_eq!((&token["hidden"], token.get("value")), (&true.into(), None));
}
