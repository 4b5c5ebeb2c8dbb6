//! Which statements are one in the statistics of a running proxy.

use std::collections::BTreeSet;

use config::PoolMode::Transaction;
use integration_tests::{Site, http};

/// Runs lists of three lengths, each often enough to be remembered, as a text and as a prepared statement; gives the
/// fingerprints that their statistics have.
fn fingerprints_of_lists(site: &Site) -> BTreeSet<String> {
    let mut client = site.client();
    client.query("create table lists (a int)").ok();
    for list in ["1, 2", "1, 2, 3", "1, 2, 3, 4"] {
        for _ in 0..3 {
            client.query(format!("select a from lists where a in ({list})")).ok();
            client.parse("", &format!("select a from lists where a in ({list})"));
            client.bind("", &[]).execute().sync().reply().ok();
        }
    }
    let body = http::fetch(site.admin(), "/api/v1/queries").json();
    let rows = body["queries"].as_array().expect("a list of queries");
    let of_lists = rows.iter().filter(|row| row["text"].as_str().is_some_and(|text| text.contains("lists where")));
    of_lists.map(|row| row["fingerprint"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn lists_are_grouped_as_the_release_does_that_is_configured() {
    for (compat, statements) in [(15, 3), (17, 3), (18, 1)] {
        let site = Site::behind(Transaction, |proxy| proxy.with(|settings| settings.observe.compat = compat));
        let found = fingerprints_of_lists(&site);
        assert_eq!(found.len(), statements, "{compat}: {found:?}");
        let shown = http::fetch(site.admin(), "/api/v1/config").json();
        assert!(shown.to_string().contains(&format!("\"compat\":{compat}")), "{shown}");
    }
}
