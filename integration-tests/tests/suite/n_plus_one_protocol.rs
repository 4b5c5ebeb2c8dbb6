//! N+1 bursts as drivers send them: in pieces, at once, with their keys in the text; what ties them together, and what only
//! looks like one.

use std::time::Duration;

use config::PoolMode::Transaction;
use config::Profile;
use integration_tests::{RawClient, Site, eventually, frontend, http};
use serde_json::Value;

const SCHEMA: &str = "
    create table events (id int primary key, run_id int);
    create table logs (event_id int, line text);
    insert into events select 1000 + 7 * n, 1 from generate_series(1, 20) n;
    insert into logs select id, 'line ' || n from events, generate_series(1, 3) n;
    create table pages (id int primary key, key uuid unique, filler text);
    insert into pages select 1000 + n, md5(n::text)::uuid, repeat('x', 100) from generate_series(1, 800) n;
";
const LIST: &str = "select id from events where run_id = 1 order by id";

fn site() -> Site {
    site_with(Profile::Production)
}

fn site_with(profile: Profile) -> Site {
    let site = Site::behind(Transaction, |proxy| proxy.size(4).with(|settings| settings.observe.profile = profile));
    site.run_directly(SCHEMA).ok();
    site
}

fn ids() -> impl Iterator<Item = String> {
    (1..=20).map(|n| (1000 + 7 * n).to_string())
}

fn findings(site: &Site) -> Vec<Value> {
    http::fetch(site.admin(), "/api/v1/findings").json()["findings"].as_array().unwrap().clone()
}

/// A list and its children, until they are found: a machine that is busy elsewhere may tear one apart.
fn found(site: &Site, mut each: impl FnMut(&mut RawClient)) -> Value {
    let mut client = site.client();
    client.query(LIST).ok();
    each(&mut client);
    eventually("the burst is found", || !findings(site).is_empty());
    let found = findings(site);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["kind"], "n_plus_one", "{found:#?}");
    found[0].clone()
}

#[test]
fn a_child_that_is_read_in_pieces_is_found_and_counted_once() {
    for at_once in [false, true] {
        let site = site();
        let finding = found(&site, |client| {
            client.parse("child", "select line from logs where event_id = $1").sync().reply().ok();
            client.query("begin").ok();
            for id in ids() {
                client.bind("child", &[&id]).say(frontend::execute("", 2));
                if !at_once {
                    assert_eq!(client.sync().reply().ok().rows().len(), 2);
                }
                client.say(frontend::execute("", 2)).sync().reply().ok();
            }
            client.query("commit").ok();
        });
        assert!((5..=20).contains(&finding["count"].as_u64().unwrap()), "{at_once}: {finding:#}");
        assert!(finding["statements"].as_u64().unwrap() <= 20, "{at_once}: {finding:#}");
    }
}

#[test]
fn a_child_with_its_key_in_the_text_is_found_by_the_extended_protocol_too() {
    for (with_parameter, proof) in [(false, "events.id → logs.event_id = ?"), (true, "events.id → logs.event_id = ?")]
    {
        let site = site();
        let finding = found(&site, |client| {
            for id in ids() {
                if with_parameter {
                    client.parse("", &format!("select line from logs where line <> $1 and event_id = {id}"));
                    client.bind("", &["none"]);
                } else {
                    client.parse("", &format!("select line from logs where event_id = {id}")).bind("", &[]);
                }
                client.execute().sync().reply().ok();
            }
        });
        assert_eq!(finding["evidence"], proof, "{finding:#}");
        assert!(!finding.to_string().contains("1007"), "no constant in a finding: {finding:#}");
    }
}

#[test]
fn children_that_are_sent_at_once_are_found() {
    let site = site();
    let finding = found(&site, |client| {
        client.parse("child", "select line from logs where event_id = $1");
        for id in ids() {
            client.bind("child", &[&id]).execute();
        }
        client.sync().reply().ok();
    });
    assert_eq!((&finding["count"], &finding["connections"]), (&20.into(), &1.into()), "{finding:#}");
}

#[test]
fn a_trace_holds_together_what_time_does_not_and_no_trace_holds_nothing() {
    let site = site();
    let comment = |trace: &str| format!("/*traceparent='00-{trace}-b7ad6b7169203331-01'*/");
    // The last one is found last.
    let traces = [
        String::new(),
        comment("00000000000000000000000000000000"),
        comment("0af7651916cd43dd8448eb211c80319"),
        comment("0af7651916cd43dd8448eb211c80319c"),
    ];
    let names = ["untraced", "zeros", "short", "traced"];
    let mut clients: Vec<RawClient> =
        names.iter().map(|name| site.client_with(&[("application_name", name)])).collect();
    let mut all = |sql: &str| {
        for (client, trace) in clients.iter_mut().zip(&traces) {
            client.query(format!("{sql} {trace}")).ok();
        }
    };
    all(LIST);
    for id in ids().take(6) {
        std::thread::sleep(Duration::from_millis(700));
        all(&format!("select line from logs where event_id = {id}"));
    }
    eventually("the traced one is found", || findings(&site).iter().any(|found| found["application"] == "traced"));
    let found = findings(&site);
    assert_eq!(found.len(), 1, "{found:#?}");
    // It is told of while it goes on.
    assert!((5..=6).contains(&found[0]["count"].as_u64().unwrap()), "{found:#?}");
    assert_eq!(found[0]["traced"], true, "{found:#?}");
}

#[test]
fn pages_that_are_too_long_to_be_kept_are_no_loop() {
    let site = site_with(Profile::Development);
    let mut client = site.client();
    for (column, order, from) in [
        ("id", "desc", "100000"),
        ("id", "asc", "0"),
        ("key", "asc", "00000000-0000-0000-0000-000000000000"),
        ("key", "desc", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ] {
        let sign = if order == "asc" { ">" } else { "<" };
        let page =
            format!("select key, filler, id from pages where {column} {sign} $1 order by {column} {order} limit 50");
        client.parse("page", &page).sync().reply().ok();
        let mut last = from.to_owned();
        for _ in 0..10 {
            let rows = client.bind("page", &[&last]).execute().sync().reply().ok().rows();
            assert_eq!(rows.len(), 50);
            last.clone_from(&rows[49][if column == "id" { 2 } else { 0 }]);
        }
        client.say(frontend::close(b'S', "page")).sync().reply().ok();
    }
    // Behind them comes one that is found.
    client.query(LIST).ok();
    for id in ids() {
        client.query(format!("select line from logs where event_id = {id}")).ok();
    }
    eventually("the loop is found", || !findings(&site).is_empty());
    let found = findings(&site);
    assert!(found.iter().all(|found| found["child"]["text"].as_str().unwrap().contains("logs")), "{found:#?}");
}
