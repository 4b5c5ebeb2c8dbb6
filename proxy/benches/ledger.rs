//! What the ledger of a pool costs a client that has to wait: the queue, and the upstream that comes back for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use pgweir::pool::ledger::{Backoff, Ledger, Sizes, Ticket};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
    let sizes = Sizes { size: 20, reserve_size: 5, reserve_after: Duration::from_secs(5), backoff };
    let mut ledger = Ledger::new(sizes);
    let now = Instant::now();
    for turn in 0..100 {
        ledger.wait(Ticket { worker: 0, client: turn, turn }, now);
    }
    let mut turn = 100;
    criterion.bench_function("ledger/wait and serve, 100 in the queue", |bencher| {
        bencher.iter(|| {
            turn += 1;
            black_box(ledger.wait(Ticket { worker: 0, client: turn % 100, turn }, now));
            ledger.returned()
        });
    });
    criterion.final_summary();
}
