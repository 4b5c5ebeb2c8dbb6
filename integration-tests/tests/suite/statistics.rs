//! What statements cost, as operators read it.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{Site, eventually, frontend, http, tenants, within};
use serde_json::Value;

/// The row of the statement whose text contains `words`.
fn row(site: &Site, words: &str) -> Option<Value> {
    let answer = http::fetch(site.admin(), "/api/v1/queries?limit=1000").json();
    answer["queries"].as_array().unwrap().iter().find(|row| row["text"].as_str().unwrap().contains(words)).cloned()
}

#[test]
fn a_statement_says_how_it_failed_where_its_time_went_and_is_counted_anew_on_request() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    for divisor in [1, 0, 2, 0] {
        client.query(format!("select div(12, {divisor})"));
    }
    client.query("select int4('x')");
    let divided = row(&site, "div").unwrap();
    assert_eq!((&divided["calls"], &divided["errors"]), (&4.into(), &2.into()), "{divided}");
    assert_eq!(divided["errors_by_sqlstate"], serde_json::json!({"22012": 2}));
    assert_eq!(row(&site, "int4").unwrap()["errors_by_sqlstate"]["22P02"], 1);

    // One server for two clients: one of them waits for the other.
    let sleeper = std::thread::spawn({
        let mut other = site.client();
        move || {
            other.query("select pg_sleep(0.3)").ok();
        }
    });
    eventually("the other one sleeps", || {
        let clients = http::fetch(site.admin(), "/api/v1/clients").json();
        clients["clients"].as_array().unwrap().iter().any(|client| client["state"] == "active")
    });
    client.query("select length('waited')").ok();
    sleeper.join().unwrap();
    let waits = |row: &Value| row["distribution_ms"]["queue"]["max"].as_f64().unwrap();
    let waited = row(&site, "length").unwrap();
    assert!(waits(&waited) > 50.0 && waits(&divided) < 50.0, "{waited}");
    let slept = row(&site, "pg_sleep").unwrap();
    assert!(slept["distribution_ms"]["server"]["p99"].as_f64().unwrap() > 250.0, "{slept}");
    assert!(slept["time_share"].as_f64().unwrap() > 0.3, "{slept}");

    let path = format!("/api/v1/queries/reset?fingerprint={}", divided["fingerprint"].as_str().unwrap());
    assert_eq!(http::post(site.admin(), &path, &[]).status, 403, "as a page of another site would send it");
    let reset = http::post(site.admin(), &path, &[("X-Requested-With", "a test")]);
    assert_eq!((reset.status, &reset.json()["reset"]), (200, &1.into()));
    assert!(row(&site, "div").is_none() && row(&site, "pg_sleep").is_some());
    client.query("select div(12, 3)").ok();
    let anew = row(&site, "div").unwrap();
    assert_eq!((&anew["calls"], &anew["errors"]), (&1.into(), &0.into()), "{anew}");
    let snapshot = http::fetch(site.admin(), "/api/v1/queries/snapshot").body;
    let mut lines = snapshot.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let head = lines.next().unwrap();
    assert_eq!(head["queries"].as_u64().unwrap() as usize, lines.count(), "{snapshot}");
}

#[test]
fn while_a_client_does_not_take_its_rows_the_server_is_not_at_work() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.start_query("select repeat('x', 1000000), n from generate_series(1, 60) n");
    std::thread::sleep(Duration::from_millis(1_500));
    client.reply().ok();
    let row = row(&site, "repeat").unwrap();
    let part = |name: &str| row[name].as_f64().unwrap();
    assert!(part("back_pressure_ms") > 1_000.0, "{row:#}");
    assert!(part("queue_ms") + part("server_ms") + part("back_pressure_ms") <= part("total_ms") + 1.0, "{row:#}");
}

#[test]
fn ten_seconds_later_the_history_has_a_window() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    for _ in 0..5 {
        client.query("select abs(1)").ok();
    }
    let fingerprint = row(&site, "abs").unwrap()["fingerprint"].as_str().unwrap().to_owned();
    let calls = |path: &str| {
        let course = http::fetch(site.admin(), path).json();
        let windows = course["windows"].as_array().unwrap().iter();
        windows.map(|window| window["calls"].as_u64().unwrap()).sum::<u64>()
    };
    eventually("the window ends", || calls("/api/v1/history?step=10s") >= 5);
    assert_eq!(calls(&format!("/api/v1/queries/{fingerprint}/history?step=10s")), 5);
    assert_eq!(row(&site, "abs").unwrap()["calls_last_minute"], 5);
}

#[test]
fn work_is_told_apart_by_application_route_and_database() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.query("set application_name = 'reports'").ok();
    client.query("select generate_series(1, 10) /*controller='posts',route='%2Fposts%2F:id'*/").ok();
    client.query("set application_name = 'mails'").ok();
    client.parse("counted", "select count(*) from pg_class /*route='%2Fmails'*/").sync().send().reply();
    for _ in 0..3 {
        client.bind("counted", &[]).execute().sync().send().reply();
    }
    let of = |list: &str, kind: &str, name: &str| {
        let answer = http::fetch(site.admin(), &format!("/api/v1/{list}?limit=1000")).json();
        let row = answer[list].as_array().unwrap().iter().find(|row| row[kind] == name).cloned();
        row.unwrap_or_else(|| panic!("no {kind} {name} in {answer}"))
    };
    assert_eq!(of("routes", "route", "/posts/:id")["rows"], 10);
    assert_eq!(
        (&of("routes", "route", "/mails")["calls"], &of("routes", "route", "/mails")["rows"]),
        (&3.into(), &3.into())
    );
    // The SET itself ran while the application still had its old name.
    assert_eq!(of("applications", "application", "reports")["rows"], 10);
    assert_eq!(of("applications", "application", "mails")["rows"], 3);
    let database = of("databases", "database", &site.database);
    assert_eq!((&database["rows"], &database["errors"]), (&13.into(), &0.into()), "{database}");
    assert!(database["server_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_statement_in_a_pipeline_is_not_charged_for_those_in_front_of_it() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.parse("nap", "select pg_sleep(0.1)");
    for _ in 0..8 {
        client.bind("nap", &[]).execute();
    }
    client.sync().send().reply().ok();
    for _ in 0..8 {
        client.say(frontend::query("select pg_sleep(0.1), length('simple')"));
    }
    client.send();
    (0..8).for_each(|_| drop(client.reply().ok()));
    for words in ["pg_sleep(?)", "length(?)"] {
        let rows = http::fetch(site.admin(), "/api/v1/queries?limit=1000").body;
        let row = row(&site, words).unwrap_or_else(|| panic!("{words} in {rows}"));
        assert_eq!(row["calls"], 8, "{row}");
        for figure in [&row["mean_ms"], &row["max_ms"], &row["distribution_ms"]["server"]["max"]] {
            let ms = figure.as_f64().unwrap();
            assert!((80.0..350.0).contains(&ms), "each has slept for a tenth of a second: {row}");
        }
        let total = row["total_ms"].as_f64().unwrap();
        assert!((800.0..1_600.0).contains(&total), "no time is counted twice: {row}");
        assert_eq!(row["distribution_ms"]["queue"]["max"], 0.0, "nobody waited for an upstream: {row}");
    }
}

#[test]
fn the_error_of_a_refused_query_is_not_counted_for_the_one_behind_it() {
    let read_only = "[tenant.limits.default]\nread_only = true\n";
    let site = Site::behind(Transaction, |proxy| proxy.size(1).with(|s| s.tenants = tenants(read_only)));
    let mut client = site.client();
    client.say(frontend::query("delete from pg_class")).say(frontend::query("select length('good')")).send();
    assert_eq!(client.reply().errors().len(), 1);
    assert_eq!(client.reply().ok().value(), "4");
    let good = row(&site, "length").unwrap();
    assert_eq!((&good["calls"], &good["errors"]), (&1.into(), &0.into()), "{good}");
}

#[test]
fn constants_that_an_encoding_hides_are_in_no_text() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client_with(&[("client_encoding", "SJIS")]);
    client.query("create table kept (name text, word text)").ok();
    // One character of two bytes, the second of which is a backslash to who does not know the encoding.
    client.query(b"insert into kept values (E'\x95\x5c', 'secretive')").ok();
    let parse = b"\0insert into kept values (E'\x95\x5c', 'secretive')\0\0\0";
    client.say(frontend::message(b'P', parse)).bind("", &[]).execute().sync().send().reply().ok();
    assert_eq!(client.query("select count(*) from kept where word = 'secretive'").value(), "2");
    let body = http::fetch(site.admin(), "/api/v1/queries?limit=1000").body;
    assert!(!body.contains("secretive"), "{body}");
    let unreadable = row(&site, "encoding hides").unwrap();
    assert_eq!((&unreadable["calls"], &unreadable["errors"]), (&2.into(), &0.into()));
    assert!(row(&site, "from kept where word = ?").is_some(), "{body}");
}

#[test]
fn a_tenant_that_has_sent_texts_once_sees_what_it_sends_again() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.with(|settings| {
            settings.workers = 1;
            settings.observe.max_fingerprints = 100;
        })
    });
    let rows = || http::fetch(site.admin(), "/api/v1/queries?limit=1000").json()["queries"].as_array().unwrap().clone();
    let calls_of = |rows: &[Value], part: &str| {
        let of_it = rows.iter().filter(|row| row["text"].as_str().unwrap().contains(part));
        of_it.map(|row| row["calls"].as_u64().unwrap()).sum::<u64>()
    };
    let mut client = site.client();
    for number in 0..225 {
        client.query(format!("select count(*) from pg_am as once_{number}")).ok();
    }
    let mut sent = 225;
    assert_eq!((calls_of(&rows(), "once_"), calls_of(&rows(), "(all other")), (75, 150), "as many as it may have");
    let shown = within(Duration::from_secs(60), || {
        client.query("select count(*) from pg_language").ok();
        sent += 1;
        calls_of(&rows(), "pg_language") > 0
    });
    assert!(shown, "{:#?}", rows());
    for _ in 0..10 {
        client.query("select count(*) from pg_language").ok();
        sent += 1;
    }
    let rows = rows();
    assert!(calls_of(&rows, "pg_language") >= 10, "{rows:#?}");
    assert_eq!((rows.len(), calls_of(&rows, "once_")), (76, 74), "one of those that came once has gone");
    assert_eq!(calls_of(&rows, ""), sent, "no call is lost, and none is there twice");
    let metrics = http::fetch(site.admin(), "/metrics").body;
    assert!(metrics.lines().any(|line| line == "pgweir_statements_evicted_total 1"), "{metrics}");
}
