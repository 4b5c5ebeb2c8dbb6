//! How well the strict ids agree with pg_stat_statements' own, over PostgreSQL's regression SQL.
//!
//! The full set of pairs (query id, text) lies beside a development checkout in `../shared`; a small part of it is
//! kept as a fixture, so that the test measures something everywhere. `make agreement` has a server of its own make such
//! pairs, and names their file in PGWEIR_PAIRS and the server's major version in PGWEIR_COMPAT.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails the test by a panic"
)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use policy::fingerprint::{Analyser, Compat};

const FULL: &str = "../shared/regress-pairs.tsv.gz";
const FIXTURE: &str = "tests/fixtures/regress-pairs-small.tsv";

/// What is asked of the agreement.
struct Bounds {
    whole: f64,
    pure: f64,
    precision: f64,
}

/// What was found.
#[derive(Debug)]
struct Agreement {
    texts: usize,
    /// Share of query ids whose texts all have one strict id.
    whole: f64,
    /// Share of strict ids whose texts all have one query id.
    pure: f64,
    /// Share of pairs of texts with one strict id that have one query id too.
    precision: f64,
}

#[test]
fn strict_ids_agree_with_pg_stat_statements() {
    let full = workspace().join(FULL);
    let compat = std::env::var("PGWEIR_COMPAT").map_or(Compat::V15, |major| compat(&major));
    let promised = Bounds { whole: 0.975, pure: 0.975, precision: 0.997 };
    let (pairs, bounds) = if let Some(made) = std::env::var_os("PGWEIR_PAIRS") {
        (read(&std::fs::read_to_string(made).unwrap()), promised)
    } else if full.exists() {
        (read(&unzip(&full)), promised)
    } else {
        println!("{FULL} is absent: measuring on the fixture {FIXTURE}, which is a small part of it");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
        // It is the harder part: a third of its ids have several texts, a fifth in the full set, and few pairs.
        let bounds = Bounds { whole: 0.94, pure: 0.985, precision: 0.95 };
        (read(&std::fs::read_to_string(fixture).unwrap()), bounds)
    };
    let found = measure(&pairs, compat);
    println!("{found:?}");
    assert!(found.texts >= 300, "too few texts to say anything: {}", found.texts);
    assert!(found.whole >= bounds.whole, "ids kept whole: {found:?}");
    assert!(found.pure >= bounds.pure, "keys pure: {found:?}");
    assert!(found.precision >= bounds.precision, "pair precision: {found:?}");
}

fn compat(major: &str) -> Compat {
    major.parse().ok().and_then(Compat::of_major).expect("PGWEIR_COMPAT is a major version from 15 to 18")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn unzip(path: &Path) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip is needed to read the pairs");
    assert!(output.status.success(), "gzip failed on {}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// The distinct texts of planned statements with the query id that the server gave them. Where the server gave one
/// text several (its tables were dropped and made again), no text-based id can tell: the first one counts.
fn read(lines: &str) -> Vec<(i64, String)> {
    let mut seen = HashSet::new();
    let mut analyser = Analyser::new(Compat::V15);
    let mut pairs = Vec::new();
    for line in lines.lines() {
        let (id, text) = line.split_once('\t').expect("id, tab, text");
        let text: String = serde_json::from_str(text).unwrap();
        if analyser.analyse(text.as_bytes()).class.is_planned() && seen.insert(text.clone()) {
            pairs.push((id.parse().unwrap(), text));
        }
    }
    pairs
}

fn measure(pairs: &[(i64, String)], compat: Compat) -> Agreement {
    let mut analyser = Analyser::new(compat);
    let (mut by_id, mut by_key, mut both) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (id, text) in pairs {
        let key = analyser.analyse(text.as_bytes()).strict;
        by_id.entry(*id).or_insert_with(Vec::new).push(key);
        by_key.entry(key).or_insert_with(Vec::new).push(*id);
        *both.entry((*id, key)).or_insert(0u64) += 1;
    }
    let pairs_of = |count: u64| count * count.saturating_sub(1) / 2;
    let agreed: u64 = both.values().map(|count| pairs_of(*count)).sum();
    let claimed: u64 = by_key.values().map(|ids| pairs_of(ids.len() as u64)).sum();
    Agreement {
        texts: pairs.len(),
        whole: share_of_uniform(by_id.values()),
        pure: share_of_uniform(by_key.values()),
        precision: agreed as f64 / claimed as f64,
    }
}

/// How many of the groups hold one value only.
fn share_of_uniform<'a, T: PartialEq + 'a>(groups: impl ExactSizeIterator<Item = &'a Vec<T>>) -> f64 {
    let all = groups.len() as f64;
    groups.filter(|group| group.iter().all(|value| *value == group[0])).count() as f64 / all
}
