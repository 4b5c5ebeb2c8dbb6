//! Transactions that stay open are told of, while they do and when they end, with the statement that was last.

use std::time::{Duration, Instant};

use config::PoolMode::{self, Session, Transaction};
use integration_tests::{Site, eventually, http};
use serde_json::Value;

fn site(mode: PoolMode) -> Site {
    let site = Site::behind(mode, |builder| {
        builder.size(2).with(|settings| {
            settings.slow_log.transaction_threshold = Some(Duration::from_millis(400));
            settings.slow_log.idle_threshold = Some(Duration::from_millis(300));
        })
    });
    site.run_directly("create table t (n int)").ok();
    site
}

fn findings(site: &Site, kind: &str) -> Vec<Value> {
    let body = http::fetch(site.admin(), &format!("/api/v1/findings?kind={kind}")).json();
    body["findings"].as_array().unwrap().clone()
}

fn ended(site: &Site, kind: &str) -> bool {
    findings(site, kind).iter().any(|finding| finding["detail"]["ended"] == true)
}

#[test]
fn a_silent_client_in_a_transaction_is_told_of_while_it_is_silent() {
    for mode in [Transaction, Session] {
        let site = site(mode);
        let mut client = site.client_with(&[("application_name", "sleeper")]);
        client.query("begin").ok();
        client.query("insert into t values (4711)").ok();
        eventually("its silence is found", || !findings(&site, "idle_in_transaction").is_empty());
        eventually("its transaction is found", || !findings(&site, "slow_transaction").is_empty());
        for kind in ["idle_in_transaction", "slow_transaction"] {
            let finding = findings(&site, kind)[0].clone();
            assert_eq!(finding["child"]["text"], "insert into t values (?)", "{finding:#}");
            assert_eq!((&finding["application"], &finding["tenant"]), (&"sleeper".into(), &"default".into()));
            assert_eq!(finding["detail"]["ended"], false, "{finding:#}");
            assert!(finding["detail"]["open_ms"].as_f64().unwrap() >= 300.0, "{finding:#}");
            assert!(!finding.to_string().contains("4711"), "{finding:#}");
        }
        client.query("commit").ok();
        eventually("the end is told", || ended(&site, "idle_in_transaction") && ended(&site, "slow_transaction"));
        let [slow, idle] = ["slow_transaction", "idle_in_transaction"].map(|kind| findings(&site, kind));
        assert_eq!((slow.len(), idle.len()), (1, 1), "{slow:#?} {idle:#?}");
        assert_eq!((&slow[0]["occurrences"], &idle[0]["occurrences"]), (&1.into(), &1.into()));
        assert!(slow[0]["detail"]["idle_ms"].as_f64().unwrap() >= 300.0, "{slow:#?}");
    }
}

/// A silence is told again when it has lasted twice as long as when it was told last, whatever there was before it.
#[test]
fn a_second_silence_is_told_as_the_first_one_was() {
    let site = site(Transaction);
    let mut client = site.client();
    client.query("begin").ok();
    client.query("select 1").ok();
    std::thread::sleep(Duration::from_secs(3));
    client.query("select 1").ok();
    let began = Instant::now();
    // On a busy machine the client may have been silent behind its BEGIN too.
    let ours = |finding: &Value| finding["child"]["text"] == "select ?";
    let idle = || findings(&site, "idle_in_transaction").into_iter().find(ours).unwrap_or_default();
    eventually("the second one is found", || idle()["occurrences"] == 2);
    let first = idle()["last_seen"].clone();
    eventually("it is told again", || idle()["last_seen"] != first);
    assert!(began.elapsed() < Duration::from_secs(5), "not before it has lasted twice as long as the first one");
    client.query("commit").ok();
}

#[test]
fn a_slow_transaction_that_was_never_silent_for_long_is_told_of_when_it_ends() {
    let site = site(Transaction);
    let mut client = site.client();
    client.query("begin").ok();
    for n in 0..6 {
        client.query(format!("insert into t select {n} from pg_sleep(0.08)")).ok();
    }
    client.query("savepoint a").ok();
    client.query("commit").ok();
    eventually("it is found", || ended(&site, "slow_transaction"));
    let finding = findings(&site, "slow_transaction")[0].clone();
    assert_eq!(finding["child"]["text"], "insert into t select ? from pg_sleep(?)", "{finding:#}");
    assert!(findings(&site, "idle_in_transaction").is_empty());
}

#[test]
fn short_transactions_and_slow_statements_alone_are_none() {
    let site = site(Transaction);
    let mut client = site.client();
    client.query("select pg_sleep(0.6)").ok();
    for _ in 0..5 {
        client.query("begin").ok();
        client.query("insert into t values (1)").ok();
        client.query("commit").ok();
    }
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(findings(&site, "slow_transaction").is_empty() && findings(&site, "idle_in_transaction").is_empty());
}

#[test]
fn a_client_that_goes_in_its_silence_has_ended_it() {
    let site = site(Transaction);
    let mut client = site.client();
    client.query("begin").ok();
    client.query("insert into t values (1)").ok();
    eventually("its silence is found", || !findings(&site, "idle_in_transaction").is_empty());
    client.vanish();
    eventually("the end is told", || ended(&site, "idle_in_transaction") && ended(&site, "slow_transaction"));
}
