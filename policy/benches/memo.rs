//! What a text costs that is remembered, and one that is not.

use std::hint::black_box;

use criterion::Criterion;
use policy::comment::strip_ends;
use policy::memo::{Lookup, Memo};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("memo");
    let mut memo = Memo::new();
    let short = "select abalance from pgbench_accounts where aid = $1";
    let long = format!("{short} and note in ({})", vec!["$2"; 190].join(", "));
    for (name, text) in [("hit, 52 bytes", short), ("hit, 825 bytes", long.as_str())] {
        memo.insert(text.as_bytes(), 1u32);
        group.bench_function(name, |bencher| {
            bencher.iter(|| matches!(memo.get(strip_ends(black_box(text.as_bytes())).0), Lookup::Hit(_)));
        });
    }
    let never: Vec<String> = (0..100_000).map(|n| format!("select abalance from accounts where aid = {n}")).collect();
    let mut next = never.iter().cycle();
    group.bench_function("miss", |bencher| {
        bencher.iter(|| next.next().map(|text| matches!(memo.get(strip_ends(text.as_bytes()).0), Lookup::Hit(_))));
    });
    group.finish();
    criterion.final_summary();
}
