//! The closure of writes against a naive one, in databases at random.

use std::collections::BTreeSet;

use super::super::catalog::*;
use super::random::Random;
use super::sample::{function, relation};

const TABLES: u32 = 12;
const ROWS: [Ops; 3] = [Ops::INSERT, Ops::UPDATE, Ops::DELETE];

/// What a trigger's function does, beside its text.
type Program = Vec<(u32, Ops)>;

fn body(program: &Program) -> String {
    let statement = |(table, op): &(u32, Ops)| match *op {
        Ops::INSERT => format!("MERGE INTO t{table} USING x ON true WHEN NOT MATCHED THEN INSERT DEFAULT VALUES;"),
        Ops::UPDATE => format!("IF found THEN UPDATE s.t{table} SET a = 1; END IF;"),
        _ => format!("DELETE FROM ONLY \"t{table}\" WHERE a = NEW.a;"),
    };
    format!("BEGIN {} RETURN NEW; END", program.iter().map(statement).collect::<String>())
}

fn database(random: &mut Random) -> (Facts, Vec<Program>) {
    let kinds = [Kind::Table, Kind::Table, Kind::Partitioned, Kind::View];
    let mut facts = Facts::default();
    for oid in 0..TABLES {
        facts.relations.push(relation(oid, "s", &format!("t{oid}"), *random.pick(&kinds)));
    }
    let any = |random: &mut Random| random.below(u64::from(TABLES)) as u32;
    for _ in 0..random.below(8) {
        // A child has the higher number: no circles, as in the server.
        let (a, b) = (any(random), any(random));
        if a != b {
            facts.inherits.push((a.max(b), a.min(b)));
        }
    }
    for _ in 0..random.below(8) {
        let actions = *random.pick(&[(b'c', b'a'), (b'n', b'c'), (b'a', b'a'), (b'd', b'n'), (b'r', b'd')]);
        facts.foreign_keys.push(ForeignKey::of(any(random), any(random), actions.0, actions.1));
    }
    let mut programs = Vec::new();
    for oid in 0..random.below(5) as u32 {
        let program: Program = (0..random.below(3)).map(|_| (any(random), *random.pick(&ROWS))).collect();
        let text = body(&program);
        facts.functions.push(function(oid, &format!("s.f{oid}"), Volatility::Volatile, Language::Plpgsql, &text));
        facts.triggers.push(Trigger { relation: any(random), function: oid, ops: *random.pick(&ROWS) });
        programs.push(program);
    }
    for oid in 0..TABLES {
        if facts.relations[oid as usize].kind == Kind::View {
            let uses = (0..1 + random.below(2)).map(|_| any(random)).collect();
            facts.rewrites.push(Rewrite { relation: oid, ops: None, text: "SELECT".into(), uses });
        }
    }
    (facts, programs)
}

/// Every rule again and again, until nothing is new.
fn naive(facts: &Facts, programs: &[Program], start: u32, ops: &[Ops]) -> BTreeSet<u32> {
    let above = |start: u32| {
        let mut found = BTreeSet::from([start]);
        loop {
            let more: BTreeSet<_> =
                facts.inherits.iter().filter(|(child, _)| found.contains(child)).map(|(_, parent)| *parent).collect();
            if more.is_subset(&found) {
                return found;
            }
            found.extend(more);
        }
    };
    let mut written: BTreeSet<(u32, Ops)> = ops.iter().map(|op| (start, *op)).collect();
    loop {
        let mut more = BTreeSet::new();
        for (oid, op) in &written {
            more.extend(facts.inherits.iter().filter(|(_, parent)| parent == oid).map(|(child, _)| (*child, *op)));
            let kind = facts.relations[*oid as usize].kind;
            if kind == Kind::Partitioned && *op == Ops::UPDATE {
                more.extend(ROWS.map(|op| (*oid, op)));
            }
            for view in facts.rewrites.iter().filter(|view| kind == Kind::View && view.relation == *oid) {
                more.extend(view.uses.iter().map(|used| (*used, *op)));
            }
            for key in facts.foreign_keys.iter().filter(|key| above(*oid).contains(&key.to)) {
                let reaches = match *op {
                    Ops::DELETE => key.on_delete,
                    Ops::UPDATE => key.on_update,
                    Ops::TRUNCATE_CASCADE => Ops::TRUNCATE_CASCADE,
                    _ => Ops::NONE,
                };
                more.extend(Ops::EACH.into_iter().filter(|op| reaches.has(*op)).map(|op| (key.from, op)));
            }
            for trigger in facts.triggers.iter().filter(|trigger| trigger.relation == *oid && trigger.ops.has(*op)) {
                for (table, op) in &programs[trigger.function as usize] {
                    // MERGE may do all of them.
                    let ops: &[Ops] = if *op == Ops::INSERT { &ROWS } else { std::slice::from_ref(op) };
                    more.extend(ops.iter().map(|op| (*table, *op)));
                }
            }
        }
        if more.is_subset(&written) {
            break;
        }
        written.extend(more);
    }
    written.iter().flat_map(|(oid, _)| above(*oid)).collect()
}

#[test]
fn the_closure_is_that_of_every_rule_until_nothing_is_new() {
    let mut larger = 0;
    for seed in 0..1_500 {
        let mut random = Random::new(seed);
        let (facts, programs) = database(&mut random);
        let catalog = Catalog::new(facts.clone());
        for oid in 0..TABLES {
            let op = *random.pick(&[Ops::INSERT, Ops::UPDATE, Ops::DELETE, Ops::TRUNCATE, Ops::TRUNCATE_CASCADE]);
            let touched = catalog.written(oid, op);
            let expected = naive(&facts, &programs, oid, &[op]);
            assert!(!touched.is_everything() && !touched.is_catalog(), "seed {seed}");
            let reached: BTreeSet<u32> = (0..TABLES).filter(|oid| catalog.reaches(&touched, *oid)).collect();
            assert_eq!(reached, expected, "seed {seed}: t{oid} {op:?} in {facts:?}");
            larger += usize::from(expected.len() > 3);
        }
    }
    assert!(larger > 1_000, "only {larger} were of any size");
}

#[test]
fn circles_end_and_what_has_no_end_is_everything() {
    let tables = |many: u32| (0..many).map(|oid| relation(oid, "s", &format!("t{oid}"), Kind::Table)).collect();
    let circle = |many: u32| Facts {
        relations: tables(many),
        foreign_keys: (0..many).map(|oid| ForeignKey::of((oid + 1) % many, oid, b'c', b'c')).collect(),
        // No server has such ones: whoever says so must not make this go on for ever.
        inherits: vec![(1, 0), (0, 1)],
        ..Facts::default()
    };
    assert_eq!(Catalog::new(circle(50)).written(7, Ops::DELETE).tables().len(), 50);
    assert!(Catalog::new(circle(30_000)).written(7, Ops::DELETE).is_everything());
}
