//! What findings tell to send instead is something that PostgreSQL takes.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{RawClient, Site, frontend, http};
use serde_json::Value;

const SCHEMA: &str = "
    create type mood as enum ('m1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'm9', 'm10', 'm11', 'm12');
    create table runs (id int primary key, mood mood, address inet, name text);
    create table parts (id serial primary key, run_id int, mood mood, address inet, name varchar(20), at timestamptz,
        flag bool, price numeric, data jsonb, size int, body text);
    insert into runs select 1000 + 7 * n, ('m' || n)::mood, ('10.0.0.' || n)::inet, 'run ' || n from generate_series(1, 12) n;
    insert into parts (run_id, mood, address, name, at, flag, price, data, size, body)
        select id, mood, address, name, now(), true, 1, '{}', 1, 'text' from runs;
";

const BY_ID: &str = "select id from runs order by id";
const JOINED: &str = "select r.id, s.id from runs r join runs s on s.id = r.id order by r.id";

/// A list, a statement for each of its rows, a second parameter, and what the rewrite holds; `None`: there is none.
type Case = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

const CASES: [Case; 21] = [
    (BY_ID, "select * from parts where run_id = $1", None, Some("p.id")),
    (BY_ID, "select body from parts where run_id = $1 and body <> 'none'", None, Some("= ANY($1::int4[])")),
    (BY_ID, "select count(*) from parts where run_id = $1", None, Some("group by run_id")),
    (BY_ID, "select coalesce(sum(size), 0) from parts where run_id = $1", None, Some("group by run_id")),
    (
        BY_ID,
        "select max(at) - min(at), count(*) filter (where flag) from parts where run_id = $1",
        None,
        Some("group by"),
    ),
    (BY_ID, "select (select count(*) from runs), body from parts where run_id = $1", None, Some("= ANY($1::int4[])")),
    (BY_ID, "select row_number() over (order by id), body from parts where run_id = $1", None, Some("lateral")),
    (BY_ID, "select regr_slope(size, size) from parts where run_id = $1", None, Some("lateral")),
    (BY_ID, "select body from parts where run_id = $1 order by at desc limit 1", None, Some("distinct on")),
    (BY_ID, "select body from parts where run_id = $1 order by at desc limit 3", None, Some("lateral")),
    (BY_ID, "select body from parts where run_id = $1::int4", None, Some("lateral")),
    (JOINED, "select body from parts where run_id = $1", None, Some("= ANY($1::int4[])")),
    ("select mood from runs order by id", "select body from parts where mood = $1", None, Some("= ANY($1);")),
    ("select address from runs order by id", "select body from parts where address = $1", None, Some("::inet[]")),
    ("select name from runs order by id", "select body from parts where name = $1", None, Some("::text[]")),
    (BY_ID, "update parts set at = $2 where run_id = $1", Some("2026-01-{} 00:00:00+00"), Some("::timestamptz[]")),
    (BY_ID, "update parts set price = $2 where run_id = $1", Some("{}.5"), Some("::numeric[]")),
    (BY_ID, "update parts set data = $2 where run_id = $1", Some("{\"n\": {}}"), Some("::jsonb[]")),
    (BY_ID, "update parts set body = $2 where run_id = $1", Some("text {}"), Some("::text[]")),
    (BY_ID, "update parts set mood = $2 where run_id = $1", Some("m{}"), None),
    (BY_ID, "delete from parts where run_id = $1 and body = 'none'", None, Some("= ANY($1::int4[])")),
];

fn run(client: &mut RawClient, (list, child, more, _): &Case) {
    let keys = client.query(list).ok().rows();
    client.parse("", child).say(frontend::describe(b'S', "")).sync().reply().ok();
    client.parse("child", child).say(frontend::describe(b'S', "child")).sync().reply().ok();
    for (number, row) in (1..).zip(&keys) {
        let more = more.map(|text| text.replace("{}", &number.to_string()));
        let parameters: Vec<&str> = [row[0].as_str()].into_iter().chain(more.as_deref()).collect();
        client.bind("child", &parameters).execute().sync().reply().ok();
    }
    client.say(frontend::close(b'S', "child")).sync().reply().ok();
}

fn found(site: &Site, application: &str) -> Option<Value> {
    let listed = http::fetch(site.admin(), &format!("/api/v1/findings?application={application}")).json();
    listed["findings"].as_array().unwrap().first().cloned()
}

/// The statements of a rewrite, without what is said between them.
fn statements(rewrite: &str) -> Vec<String> {
    let lines: Vec<&str> = rewrite.lines().filter(|line| !line.starts_with("--")).collect();
    lines.join("\n").split_terminator(';').map(|sql| sql.trim().to_owned()).filter(|sql| !sql.is_empty()).collect()
}

#[test]
fn every_rewrite_can_be_prepared() {
    let site = Site::behind(Transaction, |proxy| proxy.size(4));
    site.run_directly(SCHEMA).ok();
    for (number, case) in CASES.iter().enumerate() {
        let application = format!("case-{number}");
        let mut client = site.client_with(&[("application_name", &application)]);
        // A machine that is busy elsewhere may tear a loop apart.
        let finding = (0..10).find_map(|_| {
            run(&mut client, case);
            (0..20).find_map(|_| {
                std::thread::sleep(Duration::from_millis(50));
                found(&site, &application)
            })
        });
        let (_, child, _, expected) = case;
        let finding = finding.unwrap_or_else(|| panic!("no finding of {child}"));
        let rewrite = finding["rewrite"].as_str();
        assert_eq!(rewrite.is_some(), expected.is_some(), "{child}: {rewrite:?}");
        let rewrite = rewrite.unwrap_or_default();
        assert!(expected.is_none_or(|words| rewrite.contains(words)), "{child}: {rewrite}");
        for sql in statements(rewrite) {
            let reply = site.run_directly(&format!("prepare it as {sql}; deallocate it"));
            assert!(reply.errors().is_empty(), "{child}: {sql}: {:?}", reply.errors());
        }
    }
}
