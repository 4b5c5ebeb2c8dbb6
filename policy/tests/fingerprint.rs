//! What is the same statement and what is not: every rule of the fingerprint, both forms.

use policy::fingerprint::{Analyser, Compat, line, normalise, normalise_family};
use policy::statement::LiteralKind;

fn ids(sql: &str, compat: Compat) -> (u64, u64) {
    let mut analyser = Analyser::new(compat);
    let analysis = analyser.analyse(sql.as_bytes());
    (analysis.strict, analysis.family)
}

/// Whether two texts have the same strict id, and whether they have the same family id.
fn same(one: &str, other: &str, compat: Compat) -> (bool, bool) {
    let (one, other) = (ids(one, compat), ids(other, compat));
    (one.0 == other.0, one.1 == other.1)
}

const SAME: (bool, bool) = (true, true);
const FAMILY_ONLY: (bool, bool) = (false, true);
const DIFFERENT: (bool, bool) = (false, false);

fn check(rows: &[(&str, &str, (bool, bool))], compat: Compat) {
    for (one, other, expected) in rows {
        assert_eq!(same(one, other, compat), *expected, "{compat:?}: {one} | {other}");
    }
}

#[test]
fn whitespace_comments_and_case_do_not_count() {
    let rows = [
        ("SELECT a FROM t", "select  A\n\tfrom -- x\n T /* y /* z */ */ ;", SAME),
        ("select \"a\" from t", "select a from t", SAME),
        ("select \"A\" from t", "select a from t", DIFFERENT),
        ("select \"order\" from t", "select \"order\" from t", SAME),
        ("select 'a'::text", "select 'a' :: TEXT;;", SAME),
        ("select a!=b", "select a <> b", SAME),
        ("select a from t as x", "select a from t x", SAME),
        ("select a from t order by a asc", "select a from t order by a", SAME),
        ("select a from t left outer join u using (b)", "select a from t left join u using (b)", SAME),
        ("select date '2026-01-01'", "select '2026-01-02'::date", SAME),
        ("select abcdefgh ij from t", "select abcdefghij from t", DIFFERENT),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn constants_do_not_count() {
    let rows = [
        ("select * from t where a = 1", "select * from t where a = 23456", SAME),
        ("select * from t where a = 1", "select * from t where a = -1", SAME),
        ("select * from t where a = 1", "select * from t where a=- 1", SAME),
        ("select a-1 from t", "select a - 5 from t", SAME),
        ("select a-1 from t", "select a from t", DIFFERENT),
        ("select position-1 from t", "select position - 2 from t", SAME),
        ("select a from t where b between -1 and -2", "select a from t where b between 1 and 2", SAME),
        ("select a from t limit 1", "select a from t limit 50", SAME),
        ("select * from t where a = 'x'", "select * from t where a = 'it''s'", SAME),
        ("select * from t where a = 'x'", "select * from t where a = $tag$it's$tag$", SAME),
        ("select * from t where a = 'x'", r"select * from t where a = E'\'; drop'", SAME),
        ("select * from t where a = 'x'", "select * from t where a = U&'\\0041'", SAME),
        ("select * from t where a = 'x'", "select * from t where a = N'y'", SAME),
        ("select * from t where a = 'x'", "select * from t where a = 'y'\n  'z'", SAME),
        ("select * from t where a = B'1'", "select * from t where a = X'1F'", SAME),
        ("select * from t where a = 1", "select * from t where a = 0x1F", SAME),
        ("select * from t where a = 1", "select * from t where a = 1_000", SAME),
        ("select * from t where a = 1.5", "select * from t where a = 2e-7", SAME),
        ("select * from t where a = true", "select * from t where a = false", SAME),
        ("insert into t values (null)", "insert into t values (7)", SAME),
        ("select * from t where a is null", "select * from t where a is true", DIFFERENT),
        ("select * from t where a is not null", "select * from t where a is not false", DIFFERENT),
        ("select * from t where a is null", "select * from t where a is not null", DIFFERENT),
    ];
    check(&rows, Compat::V15);
}

/// In the list of results the kind of a constant decides which function is meant, so that the server's id depends on it.
#[test]
fn the_kind_of_an_argument_counts_in_the_list_of_results() {
    let rows = [
        ("select f(1) from t", "select f(25) from t", SAME),
        ("select f(1) from t", "select f(1.5) from t", FAMILY_ONLY),
        ("select f(g(1)) from t", "select f(g(1.5)) from t", FAMILY_ONLY),
        ("select f(-1) from t", "select f(-1.5) from t", FAMILY_ONLY),
        // What is said to be of a type is of that type.
        ("select f(1::numeric) from t", "select f(1.5::numeric) from t", SAME),
        // What is in quotes takes the type that is wanted.
        ("select f('a') from t", "select f('1.5') from t", SAME),
        ("select f(1) from (select g(2)) x", "select f(1) from (select g(2.5)) x", FAMILY_ONLY),
        // Elsewhere a column's type decides.
        ("select a from t where f(1) = b", "select a from t where f(1.5) = b", SAME),
        ("insert into t values (f(1))", "insert into t values (f(1.5))", SAME),
        (
            "select a from t where b in (select c from u where f(1))",
            "select a from t where b in (select c from u where f(1.5))",
            SAME,
        ),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn a_parameter_is_a_constant_to_the_family_only() {
    let rows = [
        ("select * from t where a = $1", "select * from t where a = 1", FAMILY_ONLY),
        ("select * from t where a = $1", "select * from t where a = $2", FAMILY_ONLY),
        ("select * from t limit $1", "select * from t limit 5", FAMILY_ONLY),
        ("select * from t where a = $1", "select * from t where b = $1", DIFFERENT),
    ];
    check(&rows, Compat::V15);
    check(&rows, Compat::V18);
}

#[test]
fn lists_count_in_the_strict_form_until_18() {
    let rows = |listed| {
        [
            ("select * from t where a in (1, 2)", "select * from t where a in (1, 2, 3)", listed),
            ("select * from t where a in ('x', -2)", "select * from t where a in (1, null, 3)", listed),
            ("select * from t where a = any(array[1, 2])", "select * from t where a = any(array[1, 2, 3])", listed),
            ("select * from t where a in ($1, $2)", "select * from t where a in ($1, $2, $3)", listed),
            ("select * from t where a in (1)", "select * from t where a in (1, 2)", FAMILY_ONLY),
            ("select * from t where a in (b, c)", "select * from t where a in (b, c, d)", DIFFERENT),
            ("insert into t values (1, 2)", "insert into t values (1, 2), (3, 4)", FAMILY_ONLY),
            ("insert into t values ($1, $2)", "insert into t values ($1, $2), ($3, $4), ($5, now())", FAMILY_ONLY),
            ("insert into t values (1) returning a", "insert into t values (1), (2) returning b", DIFFERENT),
        ]
    };
    check(&rows(FAMILY_ONLY), Compat::V15);
    check(&rows(FAMILY_ONLY), Compat::V16);
    check(&rows(FAMILY_ONLY), Compat::V17);
    check(&rows(SAME), Compat::V18);
}

#[test]
fn a_list_of_any_length_is_the_same_however_it_is_read() {
    let mut analyser = Analyser::new(Compat::V15);
    let mut known = std::collections::HashSet::new();
    for length in 1..=300 {
        // A sign is a part of its number, but its list is not read as one of plain constants.
        let [plain, signed] = ["7", "-7"].map(|first| {
            let rest: String = (1..length).map(|n| format!(", {n}")).collect();
            let sql = format!("select * from t where a in ({first}{rest}) and b = 'x'");
            let analysis = analyser.analyse(sql.as_bytes());
            let literals: Vec<_> =
                analysis.literals.iter().map(|literal| literal.span.of(sql.as_bytes()).len()).collect();
            (
                analysis.strict,
                analysis.family,
                analysis.flags,
                literals[1..].to_vec(),
                normalise(sql.as_bytes(), Compat::V15),
            )
        });
        assert_eq!(plain, signed, "{length}");
        assert_eq!(plain.4.matches('?').count(), length + 1, "{}", plain.4);
        assert!(known.insert(plain.0), "{length}");
    }
}

#[test]
fn positions_in_order_by_and_group_by_are_no_constants() {
    let rows = [
        ("select a, b from t order by 1", "select a, b from t order by 2", DIFFERENT),
        ("select a, b from t group by 1, 2", "select a, b from t group by 2, 1", DIFFERENT),
        ("select a from t order by a + 1", "select a from t order by a + 2", SAME),
        ("select a from t order by 1 limit 5", "select a from t order by 1 limit 6", SAME),
        ("select array_agg(a order by 1) from t", "select array_agg(a order by 2) from t", SAME),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn names_of_result_columns_do_not_count() {
    let rows = [
        ("select a as x, b as \"Y\" from t", "select a as y, b from t", SAME),
        ("delete from t where a = 1 returning a as x", "delete from t where a = 1 returning a as y", SAME),
        ("select cast(a as int) from t", "select cast(a as text) from t", DIFFERENT),
        ("with x as (select 1) select * from x", "with y as (select 1) select * from y", DIFFERENT),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn utilities_are_normalised() {
    let rows = [
        ("SAVEPOINT a", "savepoint b", SAME),
        ("release savepoint a", "RELEASE SAVEPOINT b", SAME),
        ("rollback to savepoint a", "rollback to savepoint b", SAME),
        ("BEGIN", "begin;", SAME),
        ("set x = 1", "SET x = 'on'", SAME),
        ("set search_path to tenant_a", "set search_path to tenant_b, public", SAME),
        ("set x = 1", "set y = 1", DIFFERENT),
        ("deallocate s1", "deallocate s2", SAME),
        ("deallocate s1", "deallocate all", DIFFERENT),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn operators_are_split_as_the_server_does() {
    let rows = [
        ("select * from t where a=-1", "select * from t where a = 1", SAME),
        ("select * from t where a@-1", "select * from t where a @- 1", SAME),
        ("select a*-1 from t", "select a * 1 from t", SAME),
        ("select a--1\n from t", "select a from t", SAME),
        ("select 1 as a", "select 2", SAME),
        ("select a->>'x' from t", "select a ->> 'y' from t", SAME),
        ("select a->>'x' from t", "select a -> 'x' from t", DIFFERENT),
        ("select a+/* c */1 from t", "select a + 2 from t", SAME),
    ];
    check(&rows, Compat::V15);
}

#[test]
fn the_shown_text_holds_no_constant() {
    for (sql, strict, family) in [
        (
            "SELECT u.\"id\", COUNT(*) AS n FROM users u WHERE a=-5 AND b IN ('x','y') -- secret",
            "select u.id, count(*) from users u where a = ? and b in (?, ?)",
            "select u.id, count(*) from users u where a = ? and b in (...)",
        ),
        (
            "insert into t(a,b) values ($1,'x'),(2,NULL)",
            "insert into t(a, b) values ($1, ?), (?, ?)",
            "insert into t(a, b) values (?, ?)",
        ),
        ("set app.key = verysecret", "set app.key = ?", "set app.key = ?"),
        ("create role x password 'secret'", "create role x password ?", "create role x password ?"),
        ("select 'never ends", "select ?", "select ?"),
        ("select $x$secret", "select ?", "select ?"),
        ("begin; select 1", "begin; select ?", "begin; select ?"),
        (
            "select a::text[], b[1] from \"T x\"",
            "select a::text[], b[?] from \"T x\"",
            "select a::text[], b[?] from \"T x\"",
        ),
        ("do $$ begin perform 'secret'; end $$", "do ?", "do ?"),
        ("", "", ""),
    ] {
        assert_eq!(normalise(sql.as_bytes(), Compat::V15), strict);
        assert_eq!(normalise_family(sql.as_bytes()), family);
    }
    let listed = normalise(b"select * from t where a in (1, 2, 3)", Compat::V18);
    assert_eq!(listed, "select * from t where a in (...)");
}

#[test]
fn ids_are_the_same_in_every_run_and_release() {
    let (strict, family, text) = line("SELECT abalance FROM pgbench_accounts WHERE aid = $1", Compat::V15);
    assert_eq!(text, "select abalance from pgbench_accounts where aid = $1");
    assert_eq!((strict.as_str(), family.as_str()), ("6cf836a31842307f", "cb4b7d2e720b4d77"));
}

#[test]
fn constants_are_handed_on_in_order() {
    let sql = "select * from t where a = -5 and b in ('x', 1.5) and c = true and d = null and e = b'1'";
    let mut analyser = Analyser::new(Compat::V18);
    let found: Vec<_> = analyser
        .analyse(sql.as_bytes())
        .literals
        .iter()
        .map(|literal| (&sql[literal.span.range()], literal.kind))
        .collect();
    let expected = [
        ("-5", LiteralKind::Number),
        ("'x'", LiteralKind::String),
        ("1.5", LiteralKind::Number),
        ("true", LiteralKind::Bool),
        ("null", LiteralKind::Null),
        ("b'1'", LiteralKind::Bits),
    ];
    assert_eq!(found, expected);
    let compat15 = Analyser::new(Compat::V15).analyse(sql.as_bytes()).literals.clone();
    assert_eq!(compat15, analyser.analyse(sql.as_bytes()).literals);
}

#[test]
fn a_backslash_escapes_only_where_the_session_says_so() {
    let sql = br"select '\'; set role x; --'";
    let mut analyser = Analyser::new(Compat::V15);
    assert_eq!(analyser.analyse(sql).parts.len(), 2);
    analyser.set_standard_strings(false);
    assert_eq!(analyser.analyse(sql).parts.len(), 1);
}

#[test]
fn what_stands_behind_an_escaped_quote_is_hidden_where_the_session_says_so() {
    let sql = br"select 'it\'s', 'secret' from t where a in ('x\'', 'secret')";
    let mut analyser = Analyser::new(Compat::V15);
    analyser.set_standard_strings(false);
    assert_eq!(analyser.normalise(sql), "select ?, ? from t where a in (?, ?)");
    assert_eq!(analyser.normalise_family(sql), "select ?, ? from t where a in (...)");
    analyser.set_standard_strings(true);
    assert_eq!(analyser.normalise(sql), normalise(sql, Compat::V15));
}

#[test]
fn long_names_count_to_their_last_byte() {
    let rows = [
        ("select abcdefghijklmnopq from t", "SELECT ABCDEFGHIJKLMNOPQ FROM t", SAME),
        ("select abcdefghijklmnopq from t", "select \"abcdefghijklmnopq\" from t", SAME),
        ("select abcdefghijklmnopq from t", "select abcdefghijklmnopr from t", DIFFERENT),
        ("select abcdefghijklmnop from t", "select abcdefghijklmnopq from t", DIFFERENT),
        ("select abcdefghijklmnop from t", "select ijklmnopabcdefgh from t", DIFFERENT),
        ("select a from t order by abcdefgh, b", "select a from t order by b, abcdefgh", DIFFERENT),
        ("select timestamptz '2026-01-01'", "select timestamp with time zone '2026-01-01'", SAME),
    ];
    check(&rows, Compat::V15);
}
