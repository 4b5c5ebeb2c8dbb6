//! What the lexer costs: nanoseconds per byte for texts of several sizes. Run by hand:
//! `cargo run --release -p policy --example lexer_speed [FILE]`, where FILE has one statement as a JSON string per line.

use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::comment::strip_ends;
use policy::fingerprint::{Analyser, Compat};
use policy::memo::{Lookup, Memo};

const SHORT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 42;";
const LONG: &str = "SELECT r.id, r.workflow_id, r.status, r.started_at, r.finished_at, w.name AS workflow_name, \
    w.version, u.email AS started_by, count(e.id) AS events, max(e.created_at) AS last_event \
    FROM runs r JOIN workflows w ON w.id = r.workflow_id LEFT JOIN users u ON u.id = r.started_by_id \
    LEFT JOIN events e ON e.run_id = r.id AND e.created_at > '2026-01-01T00:00:00Z' \
    WHERE r.tenant_id = 'b1c6e9d2-58a4-4b1d-9f67-0f2b1f5a7c11' AND r.status IN ('queued', 'running', 'failed') \
    AND r.started_at BETWEEN '2026-01-01' AND '2026-02-01' AND (w.archived IS FALSE OR w.owner_id = 17) \
    GROUP BY r.id, w.name, w.version, u.email HAVING count(e.id) >= 3 \
    ORDER BY r.started_at DESC, r.id LIMIT 50 OFFSET 100";

fn main() {
    let mut analyser = Analyser::new(Compat::V15);
    let mut report = |name: &str, texts: &[String]| {
        let bytes: usize = texts.iter().map(String::len).sum();
        let each = time(|| {
            texts.iter().for_each(|text| {
                black_box(analyser.analyse(text.as_bytes()).strict);
            })
        });
        println!("{name:<28} {:>9.1} ns a text  {:>6.3} ns a byte", each / texts.len() as f64, each / bytes as f64);
    };
    report("analyse, 53 bytes", &[SHORT.to_owned()]);
    report(&format!("analyse, {} bytes", LONG.len()), &[LONG.to_owned()]);
    if let Some(texts) = std::env::args().nth(1).and_then(|path| std::fs::read_to_string(path).ok()) {
        let texts: Vec<String> = texts.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        report("analyse, the file", &texts);
    }
    for text in [SHORT, LONG] {
        let mut memo = Memo::new();
        let body = strip_ends(text.as_bytes()).0;
        while !matches!(memo.get(body), Lookup::Hit(_)) {
            memo.insert(body, 1u64);
        }
        let hit = time(|| {
            black_box(matches!(memo.get(black_box(body)), Lookup::Hit(_)));
        });
        let strip = time(|| {
            black_box(strip_ends(black_box(text.as_bytes())).0.len());
        });
        println!("memo hit, {:>4} bytes            {hit:>9.1} ns; ends stripped in {strip:.1} ns", body.len());
    }
}

/// The best of many short rounds, which a busy machine disturbs least: nanoseconds for one call.
fn time(mut call: impl FnMut()) -> f64 {
    (0..200)
        .map(|_| {
            let (start, mut calls) = (Instant::now(), 0u32);
            while start.elapsed() < Duration::from_millis(2) {
                (0..16).for_each(|_| call());
                calls += 16;
            }
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .fold(f64::INFINITY, f64::min)
}
