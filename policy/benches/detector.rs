//! What one finished statement costs the detector of repeated statements, off the path of a query.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what the tests share with this fails by a panic")]

use criterion::{BatchSize, Criterion};
use policy::observe::Thresholds;

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Bench, Random, Statement, Stream, text};

/// Pages of a list, and what belongs to their rows fetched one by one: what the detector has most work with.
fn browsing() -> Vec<Statement> {
    let mut random = Random(7);
    let mut stream = Stream::default();
    while stream.statements.len() < 1_000 {
        let page: Vec<_> = (0..20).map(|_| vec![text(random.below(100_000))]).collect();
        stream.send("select id from posts where blog_id = $1", vec![text(7)]).returns(&["id"], page.clone());
        for row in page {
            stream.send("select * from comments where post_id = $1", row);
        }
        stream.now_us += 3_000_000;
    }
    stream.statements
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let statements = browsing();
    criterion.bench_function("detector/1000 statements", |bencher| {
        bencher.iter_batched_ref(
            || Bench::new(Thresholds::from(config::Profile::Development)),
            |bench| statements.iter().for_each(|statement| bench.observe(statement)),
            BatchSize::LargeInput,
        );
    });
    criterion.final_summary();
}
