use super::*;
use crate::fingerprint::{Analyser, Compat};

fn skeleton(sql: &str) -> Option<(String, usize)> {
    let mut skeleton = Skeleton::default();
    let read = skeleton.read(sql.as_bytes());
    read.then(|| (String::from_utf8_lossy(skeleton.text()).into_owned(), skeleton.slots().len()))
}

#[test]
fn constants_are_cut_out() {
    let is = |sql: &str, text: &str, slots: usize| assert_eq!(skeleton(sql), Some((text.to_owned(), slots)), "{sql}");
    is("select abalance from a1 where aid = 17", "select abalance from a1 where aid = \x01", 1);
    is("select -1.25, 'it''s', t2.c3 from \"t 4\" t2", "select -\x02, \x03, t2.c3 from \"t 4\" t2", 2);
    is("select $1, $23 + 4", "select $1, $23 + \x01", 1);
    is("select a$1, _9, é7 from t", "select a$1, _9, é7 from t", 0);
    is("", "", 0);
    is("1", "\x01", 1);
    is("values (1),(22),(333)", "values (\x01),(\x01),(\x01)", 3);
    // A word, or a constant, over the border of two blocks.
    for length in 50..80 {
        let name = "x".repeat(length);
        is(&format!("{name}123 = 456"), &format!("{name}123 = \x01"), 1);
        is(&format!("{name} = 45678901234567"), &format!("{name} = \x01"), 1);
        is(&format!("{name} = '{name}' or"), &format!("{name} = \x03 or"), 1);
    }
}

#[test]
fn what_is_unusual_has_no_skeleton() {
    for sql in [
        "select 1 -- one",
        "select /* one */ 1",
        "select E'a\\'b'",
        "select U&'a'",
        "select u&\"a 1\"",
        "select B'1', X'1'",
        "select $$a$$",
        "select $a$1$a$",
        "select 1e5",
        "select 0x1f",
        "select 1_000",
        "select 1.",
        "select .5",
        "select 1..5",
        "select 1a",
        "select 'open",
        "select \"open",
        "select \x01, 1",
        "select \x07",
        "select interval'1'",
    ] {
        assert_eq!(skeleton(sql), None, "{sql}");
    }
}

#[test]
fn what_is_too_long_has_none() {
    let long = "x".repeat(MAX_BYTES + 1);
    assert_eq!(skeleton(&long), None);
    assert_eq!(skeleton(&format!("select 1, {long}")), None);
    assert_eq!(skeleton(&"1,".repeat(MAX_SLOTS + 1)), None);
    // A long constant is none of it.
    assert_eq!(skeleton(&format!("select '{long}'")), Some(("select \x03".to_owned(), 1)));
    assert_eq!(skeleton(&format!("select '{}'", "x".repeat(MAX_TEXT))), None);
}

/// What is there to be told of a text, in a form that can be compared.
fn told(analysis: &Analysis) -> impl PartialEq + std::fmt::Debug + use<> {
    let part = |part: &crate::statement::Part| (part.strict, part.family, part.class, part.flags);
    let parts: Vec<_> = analysis.parts.iter().map(part).collect();
    (analysis.strict, analysis.family, analysis.class, analysis.flags, analysis.parameters, parts)
}

/// A small generator of numbers: the test is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn number(&mut self) -> String {
        (0..=self.roll(12)).map(|_| char::from(b'0' + self.roll(10) as u8)).collect()
    }

    /// Another constant in place of one with this mark.
    fn constant(&mut self, mark: u8) -> String {
        const PIECES: [&str; 16] =
            ["a", " ", "''", "\\", "--", "/*", "\"", "$1", "$$", "\n", "1 day", "é", "true", ";", "%", "on"];
        match mark {
            WHOLE => self.number(),
            DECIMAL => format!("{}.{}", self.number(), self.number()),
            _ => format!("'{}'", (0..self.roll(6)).map(|_| PIECES[self.roll(PIECES.len())]).collect::<String>()),
        }
    }
}

/// The text with other constants.
fn other(sql: &[u8], skeleton: &Skeleton, dice: &mut Dice) -> Vec<u8> {
    let mut result = Vec::new();
    let mut slots = skeleton.slots().iter();
    for byte in skeleton.text() {
        if *byte >= MARKS {
            result.push(*byte);
            continue;
        }
        let slot = slots.next().unwrap();
        // One in three stays as it is.
        match dice.roll(3) {
            0 => result.extend_from_slice(slot.of(sql)),
            _ => result.extend_from_slice(dice.constant(*byte).as_bytes()),
        }
    }
    result
}

/// Statements of PostgreSQL's own tests, and some of each kind that applications send.
fn texts() -> Vec<String> {
    let fixture = include_str!("../../tests/fixtures/regress-pairs-small.tsv");
    let regress = fixture.lines().filter_map(|line| serde_json::from_str(line.split_once('\t')?.1).ok());
    let own = [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
        "UPDATE t SET a = 1, b = 'x', c = NULL, d = TRUE, e = -5 WHERE id IN (1, 2, 3) AND f IS NOT NULL RETURNING *",
        "INSERT INTO t (a, b) VALUES (1, 'a'), (2, 'b'), (3, NULL) ON CONFLICT (a) DO UPDATE SET b = 'c'",
        "SELECT a, 1, 'x', 2.5, -3 FROM t WHERE b = 'y' ORDER BY 1, 2 LIMIT 10 OFFSET 20",
        "SELECT a FROM t WHERE b = 'y' ORDER BY c DESC LIMIT 10 OFFSET 20",
        "SELECT date '2020-01-01', interval '1 day', timestamp with time zone '2020-01-01 00:00' FROM t",
        "SELECT a -> 1, a ->> 'x', a #>> '{a,b}' FROM t WHERE x = ANY ('{1,2}')",
        "SELECT 'a'\n'b', - 5, 3 - 5, -5::int, (-5) FROM t",
        "WITH w AS (SELECT 1) SELECT * FROM w, t WHERE t.a BETWEEN 1 AND 2 AND t.b LIKE 'a%' ESCAPE '!'",
        "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY 1, b HAVING count(*) > 2",
        "SELECT set_config('app.tenant', 'acme', true), 1",
        "SELECT pg_notify('a', 'b')",
        "SELECT nextval('s'), currval('s')",
        "SELECT \"a 1\".\"b\" FROM \"a 1\" WHERE \"c\" = 1 AND $1 = 2 AND extract(year FROM d) = 2020",
    ];
    own.into_iter().map(str::to_owned).chain(regress).collect()
}

#[test]
fn other_constants_make_no_difference() {
    let mut dice = Dice(7);
    let mut analysers = [Compat::V15, Compat::V18].map(Analyser::new);
    let (mut skeleton, mut another) = (Skeleton::default(), Skeleton::default());
    let (mut texts_with, mut compared) = (0, 0);
    for text in texts() {
        let sql = text.as_bytes();
        if !skeleton.read(sql) {
            continue;
        }
        for analyser in &mut analysers {
            let analysis = analyser.analyse(sql);
            let (expected, literals) = (told(analysis), analysis.literals.clone());
            let Some(template) = Template::of(analysis, skeleton.slots()) else { continue };
            assert!(template.literals(skeleton.slots()).eq(literals.into_iter().take(MAX_KEPT)), "{text}");
            texts_with += 1;
            for _ in 0..20 {
                let changed = other(sql, &skeleton, &mut dice);
                let shown = String::from_utf8_lossy(&changed);
                assert!(another.read(&changed), "{shown}");
                assert_eq!(another.text(), skeleton.text(), "{shown}");
                let analysis = analyser.analyse(&changed);
                assert_eq!(told(analysis), expected, "{text}\nwith other constants: {shown}");
                let kept = analysis.literals.iter().copied().take(MAX_KEPT);
                assert!(template.literals(another.slots()).eq(kept), "{shown}");
                compared += 1;
            }
        }
    }
    assert!(texts_with > 300 && compared > 5_000, "{texts_with} {compared}");
}

#[test]
fn what_depends_on_its_constants_has_no_template() {
    let template = |sql: &str| {
        let mut skeleton = Skeleton::default();
        assert!(skeleton.read(sql.as_bytes()), "{sql}");
        Template::of(Analyser::new(Compat::V15).analyse(sql.as_bytes()), skeleton.slots())
    };
    for sql in [
        "select set_config('a.b', 'c', false)",
        "set a.b = 'c'",
        "select a from t order by 2",
        "select 1; select 2",
        "notify a, 'b'",
        "select pg_terminate_backend(17)",
        "select pg_notify('a', 'b')",
        "listen a1",
    ] {
        assert_eq!(template(sql), None, "{sql}");
    }
    assert!(template("select a from t where b = 2 order by c").is_some());
}

#[test]
fn a_template_is_bounded_whatever_the_text() {
    let words = format!("select {} 1", "null, ".repeat(600));
    let numbers = format!("select {} 1", "1, ".repeat(500));
    for sql in [&words, &numbers] {
        let mut skeleton = Skeleton::default();
        assert!(skeleton.read(sql.as_bytes()));
        let template = Template::of(Analyser::default().analyse(sql.as_bytes()), skeleton.slots()).unwrap();
        assert_eq!((template.cuts.len(), template.literals(skeleton.slots()).count()), (MAX_KEPT, MAX_KEPT));
    }
}

#[test]
fn what_stands_behind_a_long_string_is_read() {
    for length in 0..300 {
        let string = "1x -- ".repeat(60).get(..length).unwrap().to_owned();
        let sql = format!("select '{string}'7, a1, '{string}', 8");
        assert_eq!(skeleton(&sql), Some(("select \x03\x01, a1, \x03, \x01".to_owned(), 4)), "{length}");
    }
}

#[test]
fn slots_of_another_text_give_nothing() {
    let mut skeleton = Skeleton::default();
    assert!(skeleton.read(b"select 1 from t where a = 'b'"));
    let template =
        Template::of(Analyser::default().analyse(b"select 1 from t where a = 'b'"), skeleton.slots()).unwrap();
    assert_eq!(template.literals(skeleton.slots()).count(), 2);
    assert_eq!(template.literals(skeleton.slots().get(..1).unwrap()).count(), 0);
}
