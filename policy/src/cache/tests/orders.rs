//! The order of single steps inside of what the model takes for one: who hears of a transaction adds it and then changes
//! the generation; who reads takes the generation and then the transactions.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::catalog::Touched;
use super::super::*;

const TERMS: Terms = Terms { freshness: Freshness::Coherent, ttl: Duration::from_secs(60), stale_for: Duration::ZERO };

fn heard_of() -> (Arc<Database>, Arc<Epoch>, Instant) {
    let now = Instant::now();
    let database = Arc::new(Database::new(Slot::down(now)));
    database.slot_is_up(now, Lsn(0), &Snapshot::parse("5:5:").unwrap());
    let epoch = database.catalog_is_read(database.epoch()).unwrap();
    (database, epoch, now)
}

fn marks(database: &Database) -> Marks {
    Marks { tags: database.tags(["run", "all"]), tenant: database.tenant("acme") }
}

/// A read as its steps: what it took, in which order it takes it.
#[derive(Clone, Copy, Default)]
struct Read {
    generation: Option<Generation>,
    knows: Option<bool>,
}

/// Whose step it is, and which.
type Taken = (bool, usize);

/// Runs two lists of steps in every order that keeps each list's own.
fn orders(own: &[usize], others: &[usize], done: &mut Vec<Taken>, run: &mut dyn FnMut(&[Taken])) {
    if own.is_empty() && others.is_empty() {
        return run(done);
    }
    if let Some((first, rest)) = own.split_first() {
        done.push((true, *first));
        orders(rest, others, done, run);
        done.pop();
    }
    if let Some((first, rest)) = others.split_first() {
        done.push((false, *first));
        orders(own, rest, done, run);
        done.pop();
    }
}

/// How often a read would be admitted that neither knows the transaction nor has an old generation.
fn missed(reads: [usize; 2], hears: [usize; 2]) -> usize {
    let mut missed = 0;
    orders(&reads, &hears, &mut Vec::new(), &mut |steps| {
        let (database, epoch, _) = heard_of();
        let (table, footprint) = (database.table(1), database.footprint(&Touched::of([1]), &epoch));
        let mut read = Read::default();
        for (reads, step) in steps {
            match (reads, step) {
                (true, 0) => read.generation = Some(table.generation()),
                (true, _) => {
                    let mut unseen = Unseen::default();
                    table.heard.copy(&mut unseen);
                    read.knows = Some(!unseen.is_empty());
                }
                (false, 0) => database.note(Xid(7), &footprint),
                (false, _) => database.invalidate(&footprint),
            }
        }
        let current = read.generation == Some(table.generation());
        missed += usize::from(current && read.knows == Some(false));
    });
    missed
}

#[test]
fn a_transaction_is_missed_in_no_order_of_steps() {
    assert_eq!(missed([0, 1], [0, 1]), 0);
}

#[test]
fn either_of_them_the_other_way_round_misses_it() {
    assert!(missed([1, 0], [0, 1]) > 0);
    assert!(missed([0, 1], [1, 0]) > 0);
}

#[test]
fn threads_that_hear_and_read_at_once_miss_nothing() {
    let (database, epoch, now) = heard_of();
    let tables = database.sources([1], [], &epoch);
    let footprint = database.footprint(&Touched::of([1]), &epoch);
    // No snapshot of these sees any of the transactions: whatever is admitted must be out of date at once or before them.
    let blind = Snapshot::parse("5:5:").unwrap();
    let over = AtomicBool::new(false);
    let kept = std::thread::scope(|scope| {
        scope.spawn(|| {
            for xid in 10..2_010 {
                database.heard(Xid(xid), &footprint, Lsn(xid));
            }
            over.store(true, SeqCst);
        });
        let mut kept = Vec::new();
        while !over.load(SeqCst) {
            let Ok(reading) = Reading::begin(&database, &tables, &marks(&database), TERMS, now) else { continue };
            kept.extend(reading.admit(Some(&blind)));
        }
        kept
    });
    assert!(kept.iter().all(|dependencies| !dependencies.are_current()));
    let after = Reading::begin(&database, &tables, &marks(&database), TERMS, now).unwrap();
    assert_eq!(after.admit(Some(&blind)).err(), Some(Refused::NotVisible));
}

#[test]
fn a_read_is_refused_for_each_reason() {
    let (database, epoch, now) = heard_of();
    let read_again = || database.catalog_is_read(database.epoch()).unwrap();
    let tables = RefCell::new(database.sources([1, 2], [], &epoch));
    let begin = || Reading::begin(&database, &tables.borrow(), &marks(&database), TERMS, now);
    for touched in [Touched::of([2]), Touched::everything(), Touched::catalog()] {
        let footprint = database.footprint(&touched, &read_again());
        let reading = begin().unwrap();
        let write = Write::begin(&database, Arc::clone(&footprint));
        assert_eq!(begin().err(), Some(Refused::WriteUnderWay), "{touched:?}");
        assert!(!reading.may_be_joined(now, None));
        write.finish();
        assert_eq!(reading.admit(None).err(), Some(Refused::Changed), "{touched:?}");
        if touched.is_catalog() {
            assert_eq!(begin().err(), Some(Refused::CatalogChanged));
            tables.replace(database.sources([1, 2], [], &read_again()));
        }
        begin().unwrap().admit(None).unwrap();
    }
    database.heard(Xid(7), &database.footprint(&Touched::of([1]), &read_again()), Lsn(9));
    assert!(begin().unwrap().needs_snapshot());
    assert_eq!(begin().unwrap().admit(None).err(), Some(Refused::NotVisible), "nobody asked");
    assert_eq!(begin().unwrap().admit(Some(&Snapshot::parse("7:9:7").unwrap())).err(), Some(Refused::NotVisible));
    let kept = begin().unwrap().admit(Some(&Snapshot::parse("8:9:").unwrap())).unwrap();
    assert!(!begin().unwrap().needs_snapshot(), "what one has seen all later ones see");
    assert_eq!(kept.serve(now, None), Ok(Served::Fresh));
    let write = Write::begin(&database, database.footprint(&Touched::of([9]), &read_again()));
    database.slot_is_down();
    tables.replace(database.sources([1, 2], [], &read_again()));
    assert_eq!(begin().err(), Some(Refused::OlderWrite), "wherever it leads");
    write.finish();
    assert_eq!(begin().err(), Some(Refused::SlotDown));
    assert_eq!(kept.serve(now, None), Err(NotServed::Miss(Miss::SlotDown)));
}

#[test]
fn an_answer_ends_with_its_time_and_is_stale_only_where_that_is_allowed() {
    let now = Instant::now();
    let database = Arc::new(Database::new(Slot::not_needed(now)));
    let epoch = database.catalog_is_read(database.epoch()).unwrap();
    let tables = database.sources([1], [], &epoch);
    let second = Duration::from_secs(1);
    let kept = |freshness| {
        let terms = Terms { freshness, ttl: second, stale_for: second };
        Reading::begin(&database, &tables, &marks(&database), terms, now).unwrap().admit(None).unwrap()
    };
    let expired = Err(NotServed::Miss(Miss::Expired));
    let (by_time, coherent) = (kept(Freshness::Ttl), kept(Freshness::Coherent));
    assert_eq!(coherent.serve(now + second / 2, None), Ok(Served::Fresh));
    assert_eq!(coherent.serve(now + second, None), expired);
    assert_eq!(by_time.serve(now + second, None), Ok(Served::Stale));
    assert_eq!(by_time.serve(now + 2 * second, None), expired);
    // Writes end the one and not the other; a new epoch ends both.
    database.invalidate(&database.footprint(&Touched::of([1]), &epoch));
    assert_eq!(coherent.serve(now, None), Err(NotServed::Miss(Miss::Changed)));
    assert_eq!(by_time.serve(now, None), Ok(Served::Fresh));
    database.flush();
    assert_eq!(by_time.serve(now, None), Err(NotServed::Miss(Miss::Changed)));
}

#[test]
fn strict_answers_wait_for_the_slot() {
    let (database, epoch, now) = heard_of();
    let terms = Terms { freshness: Freshness::Strict, ..TERMS };
    let kept = Reading::begin(&database, &database.sources([1], [], &epoch), &marks(&database), terms, now)
        .unwrap()
        .admit(None)
        .unwrap();
    let end = |at| Some(End { slot: database.slot().number(), at: Lsn(at) });
    assert_eq!(kept.serve(now, None), Err(NotServed::Ask));
    assert_eq!(kept.serve(now, end(5)), Err(NotServed::Wait(end(5).unwrap())));
    database.heard(Xid(7), &database.footprint(&Touched::of([2]), &epoch), Lsn(5));
    assert_eq!(kept.serve(now, end(5)), Ok(Served::Fresh));
    database.heard(Xid(8), &database.footprint(&Touched::of([1]), &epoch), Lsn(6));
    let changed = Err(NotServed::Miss(Miss::Changed));
    assert_eq!(kept.serve(now, end(6)), changed);
    assert_eq!([kept.serve(now, None), kept.serve(now, end(7))], [changed; 2], "nobody waits for what has ended");
}

#[test]
fn an_operator_ends_what_he_names_also_what_follows_no_writes() {
    let now = Instant::now();
    let database = Arc::new(Database::new(Slot::not_needed(now)));
    let marks = marks(&database);
    for freshness in [Freshness::Ttl, Freshness::Coherent] {
        let kept = || {
            let epoch = database.catalog_is_read(database.epoch()).unwrap();
            let sources = database.sources([1], [], &epoch);
            let terms = Terms { freshness, ..TERMS };
            let reading = || Reading::begin(&database, &sources, &marks, terms, now).unwrap();
            (reading().admit(None).unwrap(), reading())
        };
        let ends = |what| {
            let (kept, on_its_way) = kept();
            database.end(what);
            let over = kept.serve(now, None) == Err(NotServed::Miss(Miss::Changed));
            assert_eq!(on_its_way.admit(None).is_err(), over, "{what:?}");
            over
        };
        for what in [Ending::Tag("run"), Ending::Tag("all"), Ending::Table(1), Ending::Tenant("acme"), Ending::All] {
            assert!(ends(what), "{what:?} of {freshness:?}");
        }
        for what in [Ending::Tag("acme"), Ending::Tag("runs"), Ending::Table(2), Ending::Tenant("run")] {
            assert!(!ends(what), "{what:?} of {freshness:?}");
        }
    }
}

/// Two writers, three readers, one row, one entry: what was acknowledged, or read before, is never read older.
#[test]
fn threads_that_write_and_read_at_once_never_go_back() {
    const WRITES: u64 = 20_000;
    let now = Instant::now();
    let database = Arc::new(Database::new(Slot::not_needed(now)));
    let epoch = database.catalog_is_read(database.epoch()).unwrap();
    let (sources, marks) = (database.sources([1], [], &epoch), marks(&database));
    let footprint = database.footprint(&Touched::of([1]), &epoch);
    let (row, floor, writing) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(2));
    let entry: Mutex<Option<(u64, Dependencies)>> = Mutex::new(None);
    let hits = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..WRITES {
                    let write = Write::begin(&database, Arc::clone(&footprint));
                    let version = row.fetch_add(1, SeqCst) + 1;
                    write.finish();
                    floor.fetch_max(version, SeqCst);
                }
                writing.fetch_sub(1, SeqCst);
            });
        }
        let read = || {
            let mut hits = 0_u64;
            // A while longer than the writers, so that there are hits on any machine.
            let mut left = 2_000;
            while left > 0 {
                left -= u64::from(writing.load(SeqCst) == 0);
                let least = floor.load(SeqCst);
                let kept = entry.lock().unwrap().clone();
                let served = kept.filter(|(_, kept)| kept.serve(now, None) == Ok(Served::Fresh));
                hits += u64::from(served.is_some());
                let value = match served {
                    Some((value, _)) => value,
                    None => {
                        let reading = Reading::begin(&database, &sources, &marks, TERMS, now);
                        let value = row.load(SeqCst);
                        if let Ok(kept) = reading.and_then(|reading| reading.admit(None)) {
                            *entry.lock().unwrap() = Some((value, kept));
                        }
                        value
                    }
                };
                assert!(value >= least, "{value} after {least}");
                floor.fetch_max(value, SeqCst);
            }
            hits
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(hits > 0);
    assert_eq!(row.load(SeqCst), 2 * WRITES);
}
