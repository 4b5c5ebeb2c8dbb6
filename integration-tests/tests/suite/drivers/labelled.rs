//! Applications over object-relational mappers whose scenarios are labelled: what is found, and what is left alone.

use std::collections::BTreeMap;
use std::process::Command;

use config::PoolMode::Transaction;
use config::Profile;
use integration_tests::{Site, eventually, http};
use serde_json::Value;

use super::node::node;
use super::python::python;
use super::succeeds;

/// What is asked of both, over all scenarios.
const GOAL: f64 = 0.95;

/// Runs both applications with these thresholds. Gives for each scenario the kinds of its findings.
fn found(profile: Profile) -> BTreeMap<String, Vec<String>> {
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(6);
        proxy.with(|settings| {
            settings.observe.profile = profile;
            // All of the traffic: this is about what the rules make of it.
            settings.observe.events_per_second = 1_000_000;
        })
    });
    let programs: [Command; 2] = [node("labelled.js"), python("labelled.py")];
    let mut found = BTreeMap::new();
    for mut program in programs {
        let said = succeeds(&site, program.arg(site.url()));
        assert!(said.ends_with("ok\n"), "{said}");
        found.extend(said.lines().filter_map(|line| Some((line.strip_prefix("label ")?.to_owned(), Vec::new()))));
    }
    // The last scenarios' bursts are judged within a second of their end; nothing has been found for so long then.
    let mut last = usize::MAX;
    eventually("all is judged", || {
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        let now = findings(&site).len();
        std::mem::replace(&mut last, now) == now
    });
    for finding in findings(&site) {
        if let Some(kinds) = finding["application"].as_str().and_then(|label| found.get_mut(label)) {
            let child = finding["child"]["text"].as_str().unwrap();
            kinds.push(format!("{}: {child}", finding["kind"].as_str().unwrap()));
        }
    }
    found
}

fn findings(site: &Site) -> Vec<Value> {
    let body = http::fetch(site.admin(), "/api/v1/findings?limit=1000").json();
    body["findings"].as_array().unwrap().clone()
}

/// Recall: labelled scenarios with a finding. Precision: findings of labelled scenarios among all.
fn is_judged_well(profile: Profile) {
    let found = found(profile);
    let labelled = |label: &str| label.starts_with("n1-");
    let (with, without): (Vec<_>, Vec<_>) = found.iter().partition(|(label, _)| labelled(label));
    assert!(with.len() >= 20 && without.len() >= 20, "{} and {} scenarios", with.len(), without.len());
    let missed: Vec<_> = with.iter().filter(|(_, kinds)| kinds.is_empty()).map(|(label, _)| label).collect();
    let wrong: Vec<_> = without.iter().filter(|(_, kinds)| !kinds.is_empty()).collect();
    let count = |of: &[(&String, &Vec<String>)]| of.iter().map(|(_, kinds)| kinds.len()).sum::<usize>();
    let recall = 1.0 - missed.len() as f64 / with.len() as f64;
    let precision = count(&with) as f64 / (count(&with) + count(&without)).max(1) as f64;
    println!("{profile:?}: recall {recall:.3}, precision {precision:.3}; missed {missed:?}; wrong {wrong:#?}");
    assert!(recall >= GOAL, "missed {missed:?}");
    assert!(precision >= GOAL, "wrong {wrong:#?}");
}

#[test]
fn labelled_traffic_is_judged_well_with_the_thresholds_of_production() {
    is_judged_well(Profile::Production);
}

#[test]
fn labelled_traffic_is_judged_well_with_the_thresholds_of_development() {
    is_judged_well(Profile::Development);
}
