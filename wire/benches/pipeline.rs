//! What it costs to know whose a reply is: one prepared request with a row, from its messages to ReadyForQuery.

use std::hint::black_box;

use criterion::Criterion;
use wire::pipeline::{Awaited, Fate, Owed, Pipeline};
use wire::tag::{Backend, TransactionStatus};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut pipeline = Pipeline::new();
    criterion.bench_function("pipeline/prepared request", |bencher| {
        bencher.iter(|| {
            for awaited in [Awaited::Bind, Awaited::Execute, Awaited::Sync] {
                pipeline.push(Owed { awaited, fate: Fate::Forward, client: black_box(7), note: 0 });
            }
            for tag in [Backend::BindComplete, Backend::DataRow, Backend::CommandComplete] {
                black_box(pipeline.reply(black_box(tag), |_| {}).is_ok());
            }
            pipeline.ready(TransactionStatus::Idle).is_ok()
        });
    });
    criterion.final_summary();
}
