//! What a statement costs that was never seen before: lexer, fingerprints, constants, class and effects.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use policy::fingerprint::{Analyser, Compat};

/// Texts of one kind that differ in their constants: a processor learns a single text by heart.
fn texts(kind: &str) -> Vec<String> {
    (0..200u32).map(|n| text(kind, n.wrapping_mul(0x9e37_79b9) >> 8)).collect()
}

fn text(kind: &str, n: u32) -> String {
    match kind {
        "pgbench" => format!("SELECT abalance FROM pgbench_accounts WHERE aid = {n};"),
        "orm" => format!(
            "SELECT \"orders\".\"id\", \"orders\".\"customer_id\", \"orders\".\"state\", \"orders\".\"created_at\" \
             FROM \"orders\" WHERE \"orders\".\"tenant_id\" = {n} AND \"orders\".\"state\" = 'open{}' \
             AND (\"orders\".\"deleted_at\" IS NULL) ORDER BY \"orders\".\"created_at\" DESC LIMIT {}",
            n % 10,
            n % 100
        ),
        "parameters" => "select u.id, u.name, u.email from users u join memberships m on m.user_id = u.id \
             where u.tenant_id = $1 and m.kind = $2 and u.state = $3 order by u.created_at desc limit $4"
            .to_owned(),
        "long string" => {
            format!("insert into events (id, payload) values ({n}, '{}')", "some words of a payload, ".repeat(40))
        }
        _ => {
            let list: Vec<String> = (1..=100).map(|at| (n / at).to_string()).collect();
            format!("select id, name from users where id in ({})", list.join(", "))
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("lexer");
    for kind in ["pgbench", "orm", "parameters", "long string", "in list"] {
        let texts = texts(kind);
        group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
        let mut analyser = Analyser::new(Compat::V15);
        group.bench_with_input(BenchmarkId::from_parameter(kind), &texts, |bencher, texts| {
            bencher.iter(|| {
                for text in texts {
                    black_box(analyser.analyse(black_box(text.as_bytes())).strict);
                }
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
