//! What operators read on the admin port.

use std::collections::BTreeSet;

use config::PoolMode::Transaction;
use integration_tests::cluster::Stop;
use integration_tests::{Cluster, Proxy, RawClient, Site, eventually, http};

#[test]
fn a_proxy_that_serves_is_live_and_ready() {
    let site = Site::pooled(Transaction, 2);
    site.client().query("select 1").ok();
    assert_eq!(http::fetch(site.admin(), "/livez").status, 200);
    assert_eq!(http::fetch(site.admin(), "/readyz").status, 200);
    assert_eq!(http::fetch(site.admin(), "/no/such/page").status, 404);
}

#[test]
fn a_proxy_without_its_server_is_live_all_the_same() {
    let cluster = Cluster::builder().start();
    let proxy = Proxy::before(cluster.address()).start();
    RawClient::login(proxy.address(), "postgres", "postgres").query("select 1").ok();
    cluster.stop(Stop::Fast);
    assert_eq!(http::fetch(proxy.admin(), "/livez").status, 200);
}

/// Prometheus' text format: the families that are announced, and every sample's name.
fn families(text: &str) -> (BTreeSet<&str>, Vec<&str>) {
    let announced = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    (announced, samples.map(|line| line.split(['{', ' ']).next().unwrap()).collect())
}

#[test]
fn metrics_announce_what_they_show() {
    let site = Site::pooled(Transaction, 2);
    let mut client = site.client();
    for _ in 0..10 {
        client.query("select 1").ok();
    }
    let response = http::fetch(site.admin(), "/metrics");
    assert!(response.header("content-type").unwrap().starts_with("text/plain"), "{}", response.head);
    let (announced, samples) = families(&response.body);
    assert!(!samples.is_empty(), "{}", response.body);
    for sample in samples {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| sample.strip_suffix(end).filter(|family| announced.contains(family)));
        let family = family.unwrap_or(sample);
        assert!(announced.contains(family), "{sample} has no TYPE");
        assert!(response.body.contains(&format!("# HELP {family} ")), "{family} has no HELP");
    }
    assert!(response.body.contains(" histogram\n") && response.body.contains("le=\"+Inf\""), "{}", response.body);
    for line in response.body.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn a_statement_is_counted_without_its_literals() {
    let site = Site::pooled(Transaction, 2);
    let mut client = site.client();
    client.query("create table secrets (id int, word text)").ok();
    for word in 0..7 {
        client.query(format!("select id from secrets where word = 'hush-{word}'")).ok();
    }
    let mut body = String::new();
    eventually("seven calls are counted", || {
        let response = http::fetch(site.admin(), "/api/v1/queries");
        body = response.body.clone();
        find(&response.json(), &|value| {
            value.get("calls").and_then(serde_json::Value::as_u64) == Some(7) && value.to_string().contains("secrets")
        })
    });
    assert!(!body.contains("hush"), "{body}");
}

#[test]
fn pools_and_tenants_are_listed() {
    let site = Site::pooled(Transaction, 3);
    let mut client = site.client();
    client.query("begin").ok();
    for page in ["/api/v1/pools", "/api/v1/tenants", "/api/v1/queries", "/api/v1/findings"] {
        let response = http::fetch(site.admin(), page);
        assert_eq!(response.status, 200, "{page}");
        assert!(response.header("content-type").unwrap().starts_with("application/json"), "{page}");
        response.json();
    }
    let pools = http::fetch(site.admin(), "/api/v1/pools").json();
    assert!(pools.to_string().contains(&site.database), "{pools}");
}

#[test]
fn a_token_guards_everything_but_the_probes() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.with(|settings| {
            let token = config::AdminToken::new("a", config::AdminRole::Operator, "open sesame");
            settings.admin.as_mut().unwrap().tokens.push(token);
        })
    });
    let status = |page: &str, headers: &[(&str, &str)]| http::request(site.admin(), page, headers).unwrap().status;
    assert_eq!((status("/livez", &[]), status("/readyz", &[])), (200, 200));
    for page in ["/metrics", "/api/v1/pools", "/api/v1/queries", "/api/v1/findings", "/api/v1/tenants"] {
        assert_eq!(status(page, &[]), 401, "{page}");
        assert_eq!(status(page, &[("Authorization", "Bearer wrong")]), 401, "{page}");
        assert_eq!(status(page, &[("Authorization", "Bearer open sesame")]), 200, "{page}");
    }
}

/// Whether any value in the tree passes.
fn find(value: &serde_json::Value, passes: &dyn Fn(&serde_json::Value) -> bool) -> bool {
    use serde_json::Value::{Array, Object};
    passes(value)
        || match value {
            Array(values) => values.iter().any(|value| find(value, passes)),
            Object(values) => values.values().any(|value| find(value, passes)),
            _ => false,
        }
}
