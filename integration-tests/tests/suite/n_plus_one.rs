//! N+1 bursts seen live, through a real driver over several connections.

use config::PoolMode::Transaction;
use integration_tests::{Site, eventually, http};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

const SCHEMA: &str = "
    create table events (id int primary key, run_id int);
    create table logs (id int primary key, event_id int, line text);
    insert into events select 1000 + 7 * n, 1 from generate_series(1, 20) n;
    insert into logs select row_number() over (), id, 'line' from events;
    create table jobs (id int primary key, state text);
    insert into jobs select n, 'queued' from generate_series(1, 200) n;
";

fn site() -> Site {
    let site = Site::pooled(Transaction, 4);
    site.run_directly(SCHEMA).ok();
    site
}

fn findings(site: &Site) -> Vec<Value> {
    let body = http::fetch(site.admin(), "/api/v1/findings").json();
    let list = body.get("findings").cloned().unwrap_or(body);
    let of_kind = |finding: &Value| finding["kind"] == "n_plus_one";
    list.as_array().expect("a list of findings").iter().filter(|finding| of_kind(finding)).cloned().collect()
}

fn run(site: &Site, work: impl AsyncFnOnce(Vec<Client>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let (client, connection) = tokio_postgres::connect(&site.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            clients.push(client);
        }
        work(clients).await;
    });
}

#[test]
fn a_dashboard_that_asks_for_each_row_is_found_with_its_proof() {
    let site = site();
    run(&site, async |clients| {
        let parents = clients[0].query("select id from events where run_id = $1", &[&1i32]).await.unwrap();
        for (turn, parent) in parents.iter().enumerate() {
            let id: i32 = parent.get(0);
            let client = &clients[turn % clients.len()];
            client.query("select line from logs where event_id = $1", &[&id]).await.unwrap();
        }
    });
    eventually("the burst is found", || !findings(&site).is_empty());
    let findings = findings(&site);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = &findings[0];
    assert_eq!(
        (finding["database"].as_str(), finding["user"].as_str()),
        (Some(site.database.as_str()), Some("postgres"))
    );
    assert!(finding["parent"]["text"].as_str().unwrap().contains("events"), "{finding:#}");
    assert!(finding["child"]["text"].as_str().unwrap().contains("logs"), "{finding:#}");
    assert_eq!(finding["child"]["parameter"], 1, "{finding:#}");
    assert_eq!(finding["parent_executions"], 1, "{finding:#}");
    assert!((5..=20).contains(&finding["count"].as_u64().unwrap()), "{finding:#}");
    assert!((2..=4).contains(&finding["connections"].as_u64().unwrap()), "{finding:#}");
    assert!(finding["rewrite"].as_str().unwrap().contains("ANY($1::int4[])"), "{finding:#}");
    let text = finding.to_string();
    assert!(!text.contains("1007") && !text.contains("1140"), "no bind value in a finding: {text}");
}

#[test]
fn workers_that_poll_a_queue_are_left_alone() {
    let site = site();
    run(&site, async |clients| {
        for turn in 0..80 {
            let client = &clients[turn % clients.len()];
            let take = "select id from jobs where state = 'queued' order by id limit 1 for update skip locked";
            client.batch_execute("begin").await.unwrap();
            let id: i32 = client.query_one(take, &[]).await.unwrap().get(0);
            client.execute("update jobs set state = 'done' where id = $1", &[&id]).await.unwrap();
            client.batch_execute("commit").await.unwrap();
        }
    });
    // The same detector has to find what comes after, so silence about the queue is no accident of timing.
    run(&site, async |clients| {
        for parent in clients[0].query("select id from events where run_id = $1", &[&1i32]).await.unwrap() {
            let id: i32 = parent.get(0);
            clients[1].query("select line from logs where event_id = $1", &[&id]).await.unwrap();
        }
    });
    eventually("the burst behind the polling is found", || !findings(&site).is_empty());
    let findings = findings(&site);
    assert!(findings.iter().all(|finding| !finding.to_string().contains("jobs")), "{findings:#?}");
}

/// A list by this statement, and a statement for each row by the first column of it.
fn loop_over(site: &Site, list: &str) {
    run(site, async |clients| {
        for parent in clients[0].query(list, &[&1i32]).await.unwrap() {
            let id: i32 = parent.get(0);
            clients[1].query("select line from logs where event_id = $1", &[&id]).await.unwrap();
        }
    });
}

fn proofs(site: &Site) -> Vec<String> {
    let proof = |finding: &Value| finding["evidence"].as_str().unwrap_or_default().to_owned();
    findings(site).iter().map(proof).collect()
}

#[test]
fn a_column_that_a_statement_calls_otherwise_is_told_by_its_own_name() {
    let site = site();
    loop_over(&site, "select id as event_id from events where run_id = $1");
    let own = "events.id → logs.event_id = $1";
    eventually("the catalog has been asked", || proofs(&site) == [own]);
    let finding = &findings(&site)[0];
    assert_eq!(finding["parent"]["column"], "events.id");
    let rewrite = finding["rewrite"].as_str().unwrap();
    assert!(rewrite.contains("(select id from events where run_id = $1) as p"), "{rewrite}");
    assert!(rewrite.contains("where event_id = p.id)"), "{rewrite}");

    // The old name would be believed for a minute; the change is seen before.
    site.client().query("alter table events rename column id to number").ok();
    loop_over(&site, "select number as event_id from events where run_id = $1");
    let renamed = "events.number → logs.event_id = $1";
    eventually("the new name is told", || proofs(&site).iter().any(|proof| proof == renamed));
    assert_eq!(proofs(&site), [renamed; 2], "it is the same column, whoever told of it before");
    let rewrites: Vec<String> = findings(&site).iter().map(|found| found["rewrite"].to_string()).collect();
    assert!(rewrites.iter().any(|rewrite| rewrite.contains("where event_id = p.number)")), "{rewrites:?}");
}

#[test]
fn without_a_connection_for_it_a_finding_is_told_by_the_names_in_its_statements() {
    let site = Site::behind(Transaction, |proxy| proxy.with(|settings| settings.max_side_connections = 0));
    site.run_directly(SCHEMA).ok();
    loop_over(&site, "select id as event_id from events where run_id = $1");
    eventually("the burst is found", || !findings(&site).is_empty());
    assert_eq!(proofs(&site), ["events.event_id → logs.event_id = $1"]);
    assert!(!findings(&site)[0]["rewrite"].as_str().unwrap().contains("p.event_id"), "the list has no such column");
}
