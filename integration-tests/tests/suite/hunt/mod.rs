//! The leak hunter: many clients of different tenants do everything that sessions can do, in random order, over few
//! server connections, and go when nobody expects it. Each has a *mirror*, a connection of its own to another database with
//! the same schema, which does the same; after every step both must have seen the same, and the state of the session as the
//! server tells it must be the same. What one client leaves for another shows as a difference, at the latest when that
//! other one looks.
//!
//! A run is told by its seed: `PGWEIR_HUNT_SEED=0x… cargo test -p integration-tests --test suite -- hunt::`. Runs with one
//! thread are the same each time. Those with several are not, as far as the threads' order goes.

mod action;
mod hunter;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::{OnUntracked, SessionState, Untracked};
use integration_tests::{Cluster, Site, eventually, http};

use hunter::Hunter;

/// What is walked unless a seed is given: a test that others rely on says the same each time. Soak runs draw one.
const DAILY: u64 = 0x0dd5_eed5;
/// Seeds whose runs have ever found something, and a few besides; each is replayed in every run of the tests.
const SEEDS: [(u64, usize); 11] = [
    (1, STEPS),
    (2, STEPS),
    (3, STEPS),
    (0x1eaf, STEPS),
    (0x5eed, STEPS),
    (0xb0a7, STEPS),
    (0x11, STEPS),
    (0x22, STEPS),
    (0x3efd_098d_0afb_01df, STEPS),
    (0xabc, LATE),
    (0x9def_57db_b8f3_f9f4, LATE),
];
/// Steps of a replayed run.
const STEPS: usize = 250;
/// Steps of one that found something late.
const LATE: usize = 3000;

/// Tables behind row-level security, schemas of tenants, and functions that do behind a name what clients do in the open.
const SCHEMA: &str = "
    create table items (id serial, owner text not null);
    alter table items enable row level security;
    create policy own on items using (owner = nullif(current_setting('app.tenant_id', true), ''));
    grant all on items, items_id_seq to public;
    insert into items (owner) select 'tenant_' || n from generate_series(0, 7) n;
    create function become(who text) returns text language plpgsql as
        $$ begin perform set_config('app.tenant_id', who, false); return who; end $$;
    create function deep(who text) returns text language sql as $$ select become(who) $$;
    create function locks(key bigint) returns int language plpgsql as
        $$ begin perform pg_advisory_lock(key); return 1; end $$;
    create function makes() returns int language plpgsql as
        $$ begin create temp table if not exists made (n int); return 1; end $$;
    create function moves(path text) returns int language plpgsql as
        $$ begin execute format('set search_path to %I', path); return 1; end $$;
    create function on_note() returns trigger language plpgsql as
        $$ begin perform set_config('app.note', new.note, false); return new; end $$;
    create table notes (note text);
    grant all on notes to public;
    create trigger t before insert on notes for each row execute function on_note();
";

/// A proxy with so many upstreams, and a second database for the mirrors.
struct Ground {
    site: Site,
    mirror: String,
    size: usize,
}

impl Ground {
    fn new(size: usize) -> Self {
        let site = Site::behind(Transaction, |proxy| {
            proxy.size(size).pool(|pool| {
                // As on a connection of its own: nothing may be lost either.
                pool.untracked = Untracked::default().with(SessionState::Block, Some(OnUntracked::Pin));
                pool.inspect_functions = Some(Duration::from_secs(3600));
                pool.queue_timeout = Duration::from_secs(5);
                pool.max_prepared = 6;
            })
        });
        let mirror = Cluster::shared().fresh_database();
        for database in [&site.database, &mirror] {
            Cluster::shared().run(database, SCHEMA);
            for n in 0..8 {
                let tenant = format!(
                    "create schema tenant_{n}; create table tenant_{n}.t as select 'tenant_{n}'::text as owner;
                     grant usage on schema tenant_{n} to public; grant all on tenant_{n}.t to public"
                );
                Cluster::shared().run(database, &tenant);
            }
        }
        roles();
        let ground = Self { site, mirror, size };
        ground.site.client().query("select 1").ok();
        eventually("the functions have been looked at", || {
            let metrics = http::fetch(ground.site.admin(), "/metrics").body;
            metrics.lines().any(|line| line.starts_with("pgweir_pool_suspects{") && !line.ends_with(" 0"))
        });
        ground
    }
}

/// Tenants have no special rights, so that row-level security holds for them; each may take on a role.
fn roles() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let roles = "create role hunter login; create role hunted_0; create role hunted_1; \
             grant hunted_0, hunted_1 to hunter";
        Cluster::shared().run("postgres", roles);
    });
}

/// One thread, everything in the order of the seed.
fn alone(ground: &Ground, seed: u64, steps: usize, goes_on: impl Fn() -> bool) -> usize {
    let mut hunter = Hunter::new(ground, seed, 0, 6, ground.size - 1);
    let mut done = 0;
    while done < steps && goes_on() {
        hunter.step();
        done += 1;
    }
    done
}

/// Several threads over one pool, each with clients and tenants of its own. Each holds at most one upstream for long.
fn together(ground: &Ground, seed: u64, threads: usize, end: Instant) -> usize {
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hunters: Vec<_> = (0..threads)
            .map(|thread| {
                let failed = &failed;
                scope.spawn(move || {
                    let seed = seed ^ (thread as u64 + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
                    let mut hunter = Hunter::new(ground, seed, thread * 2, 2, 1);
                    let mut done = 0;
                    while Instant::now() < end && !failed.load(Ordering::Relaxed) {
                        hunter.step();
                        done += 1;
                        if std::thread::panicking() {
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                    done
                })
            })
            .collect();
        hunters.into_iter().map(|hunter| hunter.join().expect("a hunter that found nothing")).sum()
    })
}

#[test]
fn no_seed_that_ever_failed_fails_again() {
    for (seed, steps) in SEEDS {
        let ground = Ground::new(3);
        alone(&ground, seed, steps, || true);
    }
}

#[test]
fn nothing_of_one_client_reaches_another() {
    let seconds = number("PGWEIR_HUNT_SECONDS").unwrap_or(60);
    let seed = number("PGWEIR_HUNT_SEED").unwrap_or(DAILY);
    println!("PGWEIR_HUNT_SEED={seed:#x}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let half = Instant::now() + Duration::from_secs(seconds / 2);
    let mut steps = alone(&Ground::new(3), seed, usize::MAX, || Instant::now() < half);
    steps += together(&Ground::new(4), seed, 3, end);
    println!("{steps} steps");
    assert!(steps > 100, "a hunt of {steps} steps in {seconds} seconds finds nothing");
}

/// A number, also in hexadecimal.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
