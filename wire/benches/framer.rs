//! What it costs to find the ends of messages: a result of rows, as it comes from a server.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use wire::frame;

/// One message.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[tag], length.as_slice(), body].concat()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("framer");
    for size in [16, 200] {
        let rows = message(b'D', &vec![b'x'; size]).repeat(100);
        group.throughput(Throughput::Elements(100));
        group.bench_function(format!("100 rows of {size} bytes"), |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(rows.as_slice());
                let mut count = 0;
                while let Ok(Some(frame)) = frame::next(&mut rest, frame::MAX_BODY) {
                    count += frame.body().len();
                }
                count
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
