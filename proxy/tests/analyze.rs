//! The labelled event streams give exactly the findings that their labels say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

use std::collections::BTreeMap;
use std::path::Path;

use config::Profile;
use pgweir::offline::analyze;
use policy::fingerprint::Compat;
use serde_json::Value;

/// Kind → how many.
type Counts = BTreeMap<String, u64>;

fn run(input: &str, profile: Profile) -> Vec<Value> {
    let mut output = Vec::new();
    analyze(input.as_bytes(), &mut output, profile, Compat::V15).unwrap();
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn counts(findings: &Value) -> Counts {
    let mut counts = Counts::new();
    for finding in findings.as_array().unwrap() {
        *counts.entry(finding["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

/// A fan-out of four: its label goes by production's threshold of five. Development speaks up from three.
const BELOW_PRODUCTION: &str = "N01";

/// Runs every case of a file; gives how many there were.
fn check(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    let [reports, in_production] = [Profile::Development, Profile::Production].map(|profile| run(&text, profile));
    let mut wrong = Vec::new();
    for ((case, mut report), in_production) in text.lines().zip(&reports).zip(&in_production) {
        let case: Value = serde_json::from_str(case).unwrap();
        assert_eq!(case["id"], report["id"]);
        let expected: Counts = serde_json::from_value(case["expect"].clone()).unwrap();
        if case["id"] == BELOW_PRODUCTION {
            assert_eq!(counts(&report["findings"]), Counts::from([("n_plus_one".to_owned(), 1)]));
            report = in_production;
        }
        let found = counts(&report["findings"]);
        if found != expected {
            wrong.push(format!("{} {}: expected {expected:?}, found {found:?}", case["id"], case["title"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    reports.len()
}

#[test]
fn every_committed_case_is_judged_as_labelled() {
    let cases = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/fixtures/nplusone.jsonl"));
    assert!(cases >= 12);
}

#[test]
fn every_shared_case_is_judged_as_labelled() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/nplusone-cases.jsonl");
    if !shared.exists() {
        eprintln!("skipped: {} is not there; the committed fixture was checked", shared.display());
        return;
    }
    assert_eq!(check(&shared), 34);
}
