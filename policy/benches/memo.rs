//! What a text costs that is remembered, and one that is not.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use policy::comment::strip_ends;
use policy::fingerprint::{Analyser, Compat};
use policy::memo::{Lookup, Memo};
use policy::skeleton::{Skeleton, Template};

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
    unseen(&mut criterion);
    criterion.final_summary();
}

/// Makes a text of a number.
type Kind = fn(u32) -> String;

/// Texts that differ in their constants, so that the memo of exact texts never hits: the miss, the skeleton, its memo, and
/// where the constants stand.
fn unseen(criterion: &mut Criterion) {
    let kinds: [(&str, Kind); 4] = [
        ("short", |n| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {n};")),
        ("orm", |n| {
            format!(
                "SELECT \"orders\".\"id\", \"orders\".\"customer_id\", \"orders\".\"state\", \"orders\".\"created_at\" FROM \
                 \"orders\" WHERE \"orders\".\"tenant_id\" = {n} AND \"orders\".\"state\" = 'open{}' AND \
                 (\"orders\".\"deleted_at\" IS NULL) ORDER BY \"orders\".\"created_at\" DESC LIMIT {}",
                n % 10,
                n % 100
            )
        }),
        ("long string", |n| {
            format!("insert into events (id, payload) values ({n}, '{}')", "some words of a payload, ".repeat(40))
        }),
        ("in list", |n| {
            let list: Vec<String> = (1..=100).map(|at| (n / at + 1).to_string()).collect();
            format!("select id, name from users where id in ({})", list.join(", "))
        }),
    ];
    let mut group = criterion.benchmark_group("other constants");
    for (kind, text) in kinds {
        let texts: Vec<String> = (0..200u32).map(|n| text(n.wrapping_mul(0x9e37_79b9) >> 8)).collect();
        group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
        let (mut skeleton, mut analyser) = (Skeleton::default(), Analyser::new(Compat::V15));
        let (mut exact, mut templates) = (Memo::<u32>::new(), Memo::new());
        for text in &texts {
            if skeleton.read(text.as_bytes()) {
                let template = Template::of(analyser.analyse(text.as_bytes()), skeleton.slots());
                assert!(template.is_some(), "none of these needs to be analysed: {text}");
                templates.insert(skeleton.text(), template);
            }
        }
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                for text in &texts {
                    let text = black_box(text.as_bytes());
                    assert!(!matches!(exact.get(text), Lookup::Hit(_)) && skeleton.read(text));
                    let Lookup::Hit(Some(template)) = templates.get(skeleton.text()) else { continue };
                    black_box(template.literals(skeleton.slots()).map(|literal| literal.span.end).sum::<u32>());
                }
            });
        });
    }
    group.finish();
}
