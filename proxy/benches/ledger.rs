//! What the ledger of a pool costs a client that has to wait: the queue, and the upstream that comes back for it; and what
//! it costs a client of a tenant with a maximum that has not to wait.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use pgweir::pool::ledger::{Backoff, Ledger, Sizes, Ticket, Use};
use policy::fair::{Claim, ClassShare, Key, Share};
use policy::tenant::TenantId;

/// One of ten tenants.
fn claim(turn: u64, max: u32) -> Claim {
    let tenant = TenantId::from_index((turn % 10) as u32);
    let share = Share { max, ..Share::default() };
    Claim { key: Key { tenant, class: 0 }, share, class: ClassShare::default(), deadline: None, watched: false }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
    let sizes = Sizes { size: 20, reserve_size: 5, reserve_after: Duration::from_secs(5), max_waiting: 0, backoff };
    let now = Instant::now();
    let mut ledger = Ledger::new(sizes, now);
    for turn in 0..100 {
        ledger.wait(Ticket { worker: 0, client: turn, turn }, &claim(turn, 0), now);
    }
    let mut turn = 100;
    criterion.bench_function("ledger/wait and serve, 100 in the queue", |bencher| {
        bencher.iter(|| {
            turn += 1;
            black_box(ledger.wait(Ticket { worker: 0, client: turn % 100, turn }, &claim(turn, 0), now));
            if let Use::Serve(grant) = ledger.returned(now) {
                ledger.release(grant.key, 0, now);
            }
        });
    });
    let mut ledger = Ledger::new(sizes, now);
    criterion.bench_function("ledger/take and release, by a tenant with a maximum", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let claim = claim(turn, 4);
            if black_box(ledger.take(&claim, now)) {
                ledger.release(claim.key, 0, now);
            }
        });
    });
    criterion.final_summary();
}
