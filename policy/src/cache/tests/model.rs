//! Every interleaving of small worlds: nothing is served that is older than was promised, and nothing for ever.
//!
//! And the mutants: with any one guard removed, some interleaving breaks the promise. What is redundant is listed as such.

use std::collections::HashSet;
use std::time::Instant;

use super::super::freshness::Freshness::{self, Coherent, Strict};
use super::world::{Guard, Reader, Scenario, Step, World, Writer};

/// More states than any of the worlds below has: to know that none of them was cut short.
const MAX_STATES: usize = 3_000_000;

struct Outcome {
    states: usize,
    hits: u64,
    violation: Option<(Vec<Step>, String)>,
}

/// Goes through all states, depth first. A path is walked again from its beginning where it branches: the world holds what
/// is tested, which has no copies.
fn explore(scenario: &Scenario, removed: &[Guard]) -> Outcome {
    let base = Instant::now();
    let mut known = HashSet::new();
    let mut paths: Vec<Vec<Step>> = vec![Vec::new()];
    let mut hits = 0;
    while let Some(mut path) = paths.pop() {
        let mut world = World::new(scenario, removed, base);
        path.iter().for_each(|step| world.take(*step));
        loop {
            hits += u64::from(world.hits > 0);
            if let Some(violation) = world.violation.take() {
                return Outcome { states: known.len(), hits, violation: Some((path, violation)) };
            }
            if !known.insert(hash(&world.fingerprint())) {
                break;
            }
            assert!(known.len() < MAX_STATES, "{}", scenario.name);
            let mut steps = world.steps();
            let Some(last) = steps.pop() else { break };
            paths.extend(steps.into_iter().map(|step| path.iter().copied().chain([step]).collect()));
            world.take(last);
            path.push(last);
        }
    }
    Outcome { states: known.len(), hits, violation: None }
}

/// 128 bits: among millions of states no two are taken for one.
fn hash(text: &str) -> u128 {
    use xxhash_rust::xxh3::xxh3_64_with_seed;
    let half = |seed| u128::from(xxh3_64_with_seed(text.as_bytes(), seed));
    half(1) << 64 | half(2)
}

const FIRST: [bool; 2] = [true, false];
const SECOND: [bool; 2] = [false, true];
const BOTH: [bool; 2] = [true, true];

fn through(via: usize) -> Writer {
    Writer { via: Some(via), parts: [true, false, false], ..Writer::default() }
}

fn beside() -> Writer {
    Writer { via: None, ..through(0) }
}

fn reader(at: usize, freshness: Freshness, times: u8) -> Reader {
    Reader { at, freshness, tables: FIRST, times }
}

/// One process that sees all writes.
fn alone(name: &'static str, writers: Vec<Writer>, times: [u8; 2]) -> Scenario {
    let readers = times.map(|times| reader(0, Coherent, times)).into();
    Scenario { name, processes: vec![None], writers, readers, ..Scenario::default() }
}

/// One process with a slot.
fn heard(name: &'static str, writers: Vec<Writer>, freshness: Freshness, times: &[u8]) -> Scenario {
    let readers = times.iter().map(|times| reader(0, freshness, *times)).collect();
    Scenario { name, processes: vec![Some(0)], writers, readers, ..Scenario::default() }
}

fn scenarios() -> Vec<Scenario> {
    let catalog = Writer { parts: [false, false, true], ..through(0) };
    let both = Writer { parts: [true, true, false], ..through(0) };
    let second = Writer { parts: [false, true, false], ..through(0) };
    let lost = Writer { may_be_lost: true, ..through(0) };
    let joins =
        |readers: Vec<Reader>| readers.into_iter().map(|reader| Reader { tables: BOTH, ..reader }).collect::<Vec<_>>();
    vec![
        alone("one writer", vec![through(0)], [2, 2]),
        alone("two writers", vec![through(0), through(0)], [2, 1]),
        alone("a lost connection", vec![lost], [2, 2]),
        alone("a lost connection and another writer", vec![lost, through(0)], [2, 1]),
        alone("a prepared transaction", vec![Writer { prepares: true, ..through(0) }], [2, 2]),
        Scenario {
            readers: [2, 1].map(|times| Reader { tables: SECOND, ..reader(0, Coherent, times) }).into(),
            ..alone("a trigger is made", vec![catalog, Writer { triggers: true, ..through(0) }], [0, 0])
        },
        alone("a change of the catalog", vec![catalog, through(0)], [2, 1]),
        Scenario {
            readers: joins(vec![reader(0, Coherent, 2), reader(0, Coherent, 1)]),
            ..alone("a join of two tables", vec![both, second], [0, 0])
        },
        heard("psql beside, coherent", vec![beside()], Coherent, &[2, 2]),
        heard("psql beside, strict", vec![beside()], Strict, &[2, 2]),
        heard("psql beside and a writer", vec![beside(), through(0)], Coherent, &[2, 1]),
        heard("psql beside and a writer, strict", vec![beside(), through(0)], Strict, &[2]),
        Scenario { ticks: 3, ..heard("news that gets old", vec![beside()], Coherent, &[2, 1]) },
        Scenario { processes: vec![Some(1)], ..heard("a slot that is lost", vec![beside()], Coherent, &[2, 1]) },
        Scenario { processes: vec![Some(1)], ..heard("a slot that is lost, strict", vec![beside()], Strict, &[2, 1]) },
        Scenario {
            name: "two processes",
            processes: vec![Some(0), Some(0)],
            writers: vec![through(0)],
            readers: vec![reader(0, Coherent, 2), reader(1, Strict, 2)],
            ..Scenario::default()
        },
        Scenario {
            name: "two processes that both write",
            processes: vec![Some(0), Some(0)],
            writers: vec![through(0), through(1)],
            readers: vec![reader(0, Strict, 2)],
            ..Scenario::default()
        },
        Scenario {
            name: "two processes, news that gets old",
            processes: vec![Some(0), Some(0)],
            writers: vec![through(0)],
            readers: vec![reader(1, Coherent, 2)],
            ticks: 3,
            ..Scenario::default()
        },
    ]
}

/// One table of two parts: each of two readers sees one of them, or all.
fn rows_apart() -> Vec<Scenario> {
    let second = Writer { parts: [false, true, false], ..through(0) };
    let both = Writer { parts: [true, true, false], ..through(0) };
    let lost = Writer { may_be_lost: true, ..through(0) };
    let read = |tables: [[bool; 2]; 2]| {
        let of = |(tables, times)| Reader { tables, ..reader(0, Coherent, times) };
        tables.into_iter().zip([2, 1]).map(of).collect::<Vec<_>>()
    };
    let apart = |name, writers, tables| Scenario { readers: read(tables), apart: true, ..alone(name, writers, [0, 0]) };
    vec![
        apart("two parts", vec![through(0), second], [FIRST, SECOND]),
        apart("two parts and a writer of both", vec![both, second], [FIRST, SECOND]),
        apart("two parts and a reader of both", vec![through(0), second], [BOTH, FIRST]),
        apart("two parts and a lost connection", vec![lost, both], [FIRST, BOTH]),
        Scenario {
            processes: vec![Some(0)],
            ..apart("two parts and psql beside", vec![beside(), through(0)], [FIRST, SECOND])
        },
    ]
}

/// Worlds of a million states.
fn large_scenarios() -> Vec<Scenario> {
    let lost = Writer { may_be_lost: true, ..through(0) };
    vec![
        Scenario {
            processes: vec![Some(1)],
            ..heard("a slot and a connection that are lost, strict", vec![beside(), lost], Strict, &[2, 1])
        },
        Scenario {
            name: "two processes that both write and read",
            processes: vec![Some(0), Some(0)],
            writers: vec![through(0), through(1)],
            readers: vec![reader(0, Strict, 2), reader(1, Strict, 1)],
            ..Scenario::default()
        },
        Scenario {
            processes: vec![Some(1)],
            ticks: 2,
            ..heard("a slot that is lost and news that gets old", vec![beside(), through(0)], Coherent, &[2])
        },
    ]
}

fn scenario(name: &str) -> Scenario {
    scenarios().into_iter().chain(rows_apart()).find(|scenario| scenario.name == name).unwrap()
}

#[test]
fn no_interleaving_serves_what_is_older_than_promised() {
    let states: usize = scenarios().iter().map(holds).sum();
    assert!(states > 250_000, "only {states} states");
}

#[test]
fn nor_does_any_where_a_table_has_parts() {
    let states: usize = rows_apart().iter().map(holds).sum();
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn without_any_one_guard_of_parts_some_does() {
    use Guard::*;
    for (mutant, world) in [
        (EntersItsPart, "two parts"),
        (EntersUnseparated, "two parts and a writer of both"),
        (ComparesAllWrites, "two parts and a reader of both"),
    ] {
        let outcome = explore(&scenario(world), &[mutant]);
        assert!(outcome.violation.is_some(), "{world} does not show what {mutant:?} is for");
    }
}

#[test]
#[ignore = "worlds with more steps take minutes, and show nothing that the small ones do not: make soak"]
fn nor_does_any_in_larger_worlds() {
    large_scenarios().iter().map(holds).for_each(drop);
}

fn holds(scenario: &Scenario) -> usize {
    let outcome = explore(scenario, &[]);
    assert_eq!(outcome.violation, None, "{}", scenario.name);
    assert!(outcome.hits > 0, "{}: nothing was ever served", scenario.name);
    outcome.states
}

/// Which of the worlds shows what each guard is for.
#[test]
fn without_any_one_guard_some_interleaving_does() {
    use Guard::*;
    let mutants: [(&[Guard], &str); 23] = [
        (&[OddBeforeForward], "one writer"),
        (&[EvenAfterReply], "one writer"),
        (&[CountsWriters], "two writers"),
        (&[LeavesATrace], "one writer"),
        (&[HeldWhenLost], "a lost connection"),
        (&[HeldWhilePrepared], "a prepared transaction"),
        (&[Epoch], "a change of the catalog"),
        (&[WideByAnOldCatalog], "a trigger is made"),
        (&[WaitsForOlderWrites], "a trigger is made"),
        (&[EvenAtBegin], "one writer"),
        (&[BeginsBeforeSent], "one writer"),
        (&[ComparedAtHit], "one writer"),
        (&[JoinsUnchanged], "one writer"),
        (&[JoinsSeen], "psql beside, strict"),
        (&[SeesWhatWasHeard], "psql beside, coherent"),
        (&[KeepsItsCopy], "psql beside, coherent"),
        (&[FlushWhenUp, FlushWhenDown], "a slot that is lost"),
        (&[FlushWhenUp, NoFillWhenDown], "a slot that is lost"),
        (&[SeesWhatRan], "a slot that is lost"),
        (&[Lag], "news that gets old"),
        (&[WaitsForTheEnd], "psql beside, strict"),
        (&[AsksBehind], "psql beside, strict"),
        (&[AsksEachTime], "psql beside, strict"),
    ];
    for (mutant, world) in mutants {
        let outcome = explore(&scenario(world), mutant);
        assert!(outcome.violation.is_some(), "{world} does not show what {mutant:?} is for");
    }
}

/// What is looked at twice, or earlier than it has to be. Kept, because it spares room or hits, and listed here so that
/// nobody takes it for what makes the cache safe.
#[test]
fn these_are_economies_and_no_guards() {
    use Guard::*;
    let worlds = [
        "one writer",
        "a lost connection",
        "psql beside, strict",
        "a slot that is lost",
        "a slot that is lost, strict",
    ];
    for mutant in [ComparedAtAdmission, EvenBeforeTold, FlushWhenDown, NoFillWhenDown, FlushWhenUp, AsksThisSlot] {
        for world in worlds {
            let outcome = explore(&scenario(world), &[mutant]);
            assert_eq!(outcome.violation, None, "{world}: {mutant:?} is a guard");
        }
    }
}
