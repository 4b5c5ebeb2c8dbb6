//! Whatever bytes come: no panic, linear time, bounded memory, and ids that do not depend on what they must not.
#![expect(clippy::indexing_slicing, reason = "a helper of a test fails the test by a panic")]

use std::time::{Duration, Instant};

use policy::comment::strip_ends;
use policy::fingerprint::{Analyser, Compat, normalise, normalise_family};
use policy::statement::{Flags, MAX_ANALYSED};

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

fn look_at(analyser: &mut Analyser, sql: &[u8]) {
    let analysis = analyser.analyse(sql);
    let length = sql.len() as u32;
    assert!(analysis.body.end <= length && analysis.body.start <= analysis.body.end);
    for literal in &analysis.literals {
        assert!(literal.span.start < literal.span.end && literal.span.end <= length);
    }
    for part in &analysis.parts {
        assert!(part.span.end <= length && part.effects.end as usize <= analysis.effects.len());
    }
    let (body, comments) = strip_ends(sql);
    comments.tags().for_each(|tag| drop(tag.decoded()));
    assert!(body.len() <= sql.len());
}

#[test]
fn random_pieces_never_panic_and_cutting_the_ends_changes_nothing() {
    let pieces = [
        "select",
        " ",
        "'",
        "''",
        "\"",
        "$$",
        "$a$",
        "$1",
        "(",
        ")",
        "[",
        "]",
        ";",
        "--",
        "/*",
        "*/",
        "\n",
        "-",
        "1",
        "in",
        "values",
        "set",
        "set_config",
        "with",
        "as",
        "array",
        ",",
        "::",
        ".",
        "\\",
        "E'",
        "U&'",
        "U&\"",
        "from",
        "\0",
        "\u{fe}é",
        "null",
        "explain",
        "analyze",
        "pg_advisory_lock",
        "order by",
        "cast",
        "interval",
        "=",
        "any",
    ];
    let mut analyser = Analyser::new(Compat::V15);
    for seed in 1..=4000 {
        let mut random = Random(seed * 0x9e37_79b9);
        let sql: String = (0..random.below(40)).map(|_| random.one_of(&pieces)).collect();
        look_at(&mut analyser, sql.as_bytes());
        let whole = analyser.analyse(sql.as_bytes());
        let (strict, effects) = (whole.strict, whole.effects.len());
        // The server refuses a text whose quote has no end, so that what it would mean does not matter.
        let refused = whole.flags.contains(Flags::UNTERMINATED);
        let cut = analyser.analyse(strip_ends(sql.as_bytes()).0);
        assert!(refused || (cut.strict, cut.effects.len()) == (strict, effects), "seed {seed}: {sql:?}");
        normalise(sql.as_bytes(), Compat::V18);
        normalise_family(sql.as_bytes());
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut analyser = Analyser::new(Compat::V18);
    for seed in 1..=2000 {
        let mut random = Random(seed);
        let sql: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        look_at(&mut analyser, &sql);
        normalise(&sql, Compat::V15);
    }
}

#[test]
fn time_grows_with_the_length_only() {
    let repeated = |piece: &str, prefix: &str| {
        let mut text = prefix.to_owned();
        while text.len() < MAX_ANALYSED {
            text.push_str(piece);
        }
        text
    };
    let texts = [
        repeated("(", "select "),
        repeated("/*", ""),
        repeated("$a", "select $a"),
        repeated("$a$b", "select "),
        repeated("'\n'", "select "),
        repeated("--", "select "),
        repeated("- ", "select "),
        repeated("1,", "select 1 where a in ("),
        repeated(" in (1,", "select 1 where a"),
        repeated("(1),", "values "),
        repeated("(values (1),", "values "),
        repeated("set_config(", "select "),
        repeated("f(),", "select "),
        repeated(";", "select 1"),
        repeated("select 1;", ""),
        repeated("create function f() begin atomic;", ""),
        repeated("\"x\"(", "select "),
        repeated("explain ", ""),
        repeated("[", "select array"),
        repeated("::a[", "select array[1"),
        repeated("'' ", "select E"),
        repeated("\\", "select E'"),
        repeated("=-", "select 1"),
        repeated("a='", "/*"),
    ];
    let mut analyser = Analyser::new(Compat::V15);
    for text in &texts {
        let start = Instant::now();
        look_at(&mut analyser, text.as_bytes());
        normalise(text.as_bytes(), Compat::V15);
        let name: String = text.chars().take(24).collect();
        // A quadratic walk over 256 KiB takes a minute; the bound leaves room for a busy machine.
        assert!(start.elapsed() < Duration::from_secs(3), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn a_text_over_the_limit_says_so_and_shows_nothing_behind_it() {
    let mut sql = b"insert into t values ".to_vec();
    while sql.len() < 3 * MAX_ANALYSED {
        sql.extend_from_slice(b"(1, 'some text'), ");
    }
    let mut analyser = Analyser::new(Compat::V15);
    let analysis = analyser.analyse(&sql);
    assert!(analysis.flags.contains(Flags::OVERSIZE) && !analysis.flags.contains(Flags::READ_ONLY));
    assert!(!analysis.flags.contains(Flags::UNTERMINATED));
    assert!(analysis.literals.iter().all(|literal| literal.span.end as usize <= MAX_ANALYSED));
    assert!(!normalise(&sql, Compat::V15).contains("some"));
}

#[test]
fn ids_survive_whitespace_comments_case_and_other_constants() {
    let tokens: &[&[&str]] = &[
        &["select"],
        &["a"],
        &[","],
        &["b"],
        &["+"],
        &["1", "2", "377"],
        &["from"],
        &["t"],
        &["where"],
        &["c"],
        &["="],
        &["'x'", "'it''s'", "$$q$$", "e'\\''"],
        &["and"],
        &["d"],
        &["in"],
        &["("],
        &["1", "-7"],
        &[","],
        &["2", "'y'", "null"],
        &[")"],
        &["order"],
        &["by"],
        &["a"],
        &["limit"],
        &["5", "10"],
    ];
    let gaps = [" ", "\n", "\t ", " /* c */ ", " -- c\n", " /* /* ' */ */ "];
    let mut analyser = Analyser::new(Compat::V15);
    let expected = analyser.analyse(tokens.map_first().as_bytes()).strict;
    for seed in 1..=2000 {
        let mut random = Random(seed * 77);
        let mut sql = String::new();
        for choices in tokens {
            let token = random.one_of(choices);
            let upper = random.below(2) == 0 && !token.contains(['\'', '$']);
            sql.push_str(&if upper { token.to_uppercase() } else { token.to_owned() });
            sql.push_str(random.one_of(&gaps));
        }
        assert_eq!(analyser.analyse(sql.as_bytes()).strict, expected, "seed {seed}: {sql}");
    }
}

/// The plainest form of a list of choices.
trait MapFirst {
    fn map_first(&self) -> String;
}

impl MapFirst for &[&[&str]] {
    fn map_first(&self) -> String {
        self.iter().map(|choices| choices[0]).collect::<Vec<_>>().join(" ")
    }
}
