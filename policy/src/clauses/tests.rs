use super::*;

fn named(text: &str) -> Option<String> {
    tables(text).map(|names| names.join(" "))
}

#[test]
fn what_runs_something_else_names_no_tables() {
    for text in [
        "EXPLAIN ANALYZE CREATE TEMP TABLE runs AS TABLE secret",
        "EXPLAIN ANALYZE EXECUTE p",
        "EXPLAIN (ANALYZE, COSTS off) CREATE TABLE x AS SELECT $1",
        "SELECT query_to_xml($1, $2, $3, $4)",
        "SELECT * FROM ts_stat($1)",
    ] {
        assert_eq!(named(text), None, "{text}");
    }
    assert!(lifts_read_only("explain (\"analyze\") select a from t"));
    assert!(!lifts_read_only("explain (costs off) select \"a\" from t"));
}

#[test]
fn tables_are_found_wherever_they_stand() {
    for (text, expected) in [
        ("SELECT $1", ""),
        ("SELECT * FROM runs", "runs"),
        (
            "SELECT * FROM Runs AS r, public.steps s LEFT JOIN events ON r.id = s.id WHERE x = $1",
            "events public.steps runs",
        ),
        ("SELECT a, b FROM t WHERE a IN (SELECT b FROM u, v) AND c > $1", "t u v"),
        ("SELECT * FROM (SELECT * FROM a) x, b", "a b"),
        ("SELECT * FROM (a JOIN b ON $1 = $2) JOIN c USING (id)", "a b c"),
        ("SELECT extract(year FROM happened) FROM log", "log"),
        ("SELECT substring(name FROM (SELECT n FROM secret)) FROM log", "log secret"),
        ("SELECT a IS DISTINCT FROM b FROM t", "t"),
        ("SELECT * FROM generate_series($1, $2) g, t", "t"),
        ("SELECT * FROM LATERAL (SELECT $1) x, ONLY t", "t"),
        ("INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = $3 RETURNING id", "t"),
        ("INSERT INTO t SELECT * FROM u", "t u"),
        ("UPDATE t SET a = u.a FROM u WHERE t.id = u.id", "t u"),
        ("UPDATE ONLY t SET a = $1", "t"),
        ("DELETE FROM t USING u WHERE t.id = u.id", "t u"),
        ("MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET a = $1", "t u"),
        ("SELECT * FROM t FOR UPDATE", "t"),
        ("SELECT s.* FROM runs a JOIN runs b ON a.id IN (b.id), secret s", "runs secret"),
        ("SELECT s.* FROM runs a JOIN runs b ON CASE WHEN $1 THEN $2 END, secret s", "runs secret"),
        ("SELECT s.*, x.is distinct FROM secret s, (SELECT $1 AS \"is\") x", "secret"),
        ("PREPARE p AS TABLE secret", "secret"),
        ("EXPLAIN (ANALYZE) SELECT * FROM runs", "runs"),
        ("EXPLAIN ANALYZE VERBOSE (SELECT * FROM runs)", "runs"),
        ("SELECT * FROM t FOR UPDATE OF t SKIP LOCKED", "t"),
        ("COPY t (a, b) FROM STDIN", "stdin t"),
        ("TRUNCATE TABLE a, b", "a b"),
        ("LOCK TABLE a IN EXCLUSIVE MODE", "a"),
        ("TABLE a", "a"),
        ("SELECT $1 UNION ALL TABLE a", "a"),
        ("WITH x AS (SELECT * FROM a) SELECT * FROM x, b", "a b"),
        ("WITH x (c) AS MATERIALIZED (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y", "a"),
        ("WITH RECURSIVE x AS (SELECT * FROM a UNION SELECT * FROM x) SELECT * FROM x", "a"),
        ("SELECT * FROM \"Weird name\".\"t\"\"t\"", "Weird name.t\"t"),
        ("SELECT $1; SELECT * FROM t", "t"),
        ("BEGIN; SET x TO $1; COMMIT", ""),
        ("EXPLAIN SELECT * FROM t", "t"),
        ("SELECT * FROM runs a JOIN runs b ON a.n = b.n, users", "runs users"),
        ("SELECT * FROM runs a JOIN runs b USING (n), users", "runs users"),
        ("SELECT name AS distinct FROM users", "users"),
        ("SELECT * FROM runs set, users", "runs users"),
        ("SELECT * FROM runs AS overriding, users", "runs users"),
        ("SELECT * FROM f($1) WITH ORDINALITY, users", "users"),
        ("SELECT $1 UNION DISTINCT TABLE users", "users"),
        ("DECLARE c CURSOR FOR TABLE users", "users"),
        ("EXPLAIN ANALYZE TABLE users", "users"),
        ("INSERT INTO runs AS overlay (SELECT n FROM users)", "runs users"),
        ("DELETE FROM runs USING (users u JOIN runs r ON $1)", "runs users"),
        ("SELECT count(*) FILTER (WHERE a > $1) FROM t WHERE b IN ($1, $2) ORDER BY c, d", "t"),
        ("SELECT CASE WHEN a THEN b ELSE c END, d FROM t GROUP BY e, f HAVING g > $1", "t"),
    ] {
        assert_eq!(named(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn a_name_of_a_with_hides_no_table() {
    for text in [
        "WITH users AS (SELECT * FROM users) SELECT * FROM users",
        "WITH a AS (SELECT * FROM users), users AS (SELECT $1) SELECT * FROM a",
        "SELECT * FROM users, (WITH users AS (SELECT $1) SELECT $2) x",
        "SELECT * FROM a WHERE x IN (WITH users AS (SELECT $1) SELECT * FROM users)",
        "WITH users AS (SELECT $1) SELECT * FROM \"users\"",
        "WITH users (users) AS (SELECT * FROM users) SELECT $1",
        "WITH x AS (SELECT $1) TABLE users",
        "WITH users AS (SELECT $1) DELETE FROM users",
        "WITH users AS (SELECT $1) INSERT INTO users SELECT $2",
        "WITH users AS (SELECT $1) UPDATE users SET a = $2",
    ] {
        assert!(named(text).unwrap().split(' ').any(|name| name == "users"), "{text}");
    }
}

#[test]
fn what_cannot_be_told_is_not() {
    for text in ["DO $1", "CALL f($1)", "CREATE TABLE t (a int)", "EXECUTE s", "SELECT $1; DROP TABLE t", "VACUUM t"] {
        assert_eq!(named(text), None, "{text}");
    }
}

#[test]
fn hostile_texts_end() {
    for text in
        ["(", ")))", "WITH", "WITH x AS", "SELECT * FROM", "\"", "'", "SELECT * FROM a.", "FROM FROM FROM", ";;"]
    {
        drop(named(text));
        has_limit(text);
    }
    let deep = format!("SELECT {}", "(SELECT * FROM a, ".repeat(3_000));
    assert_eq!(named(&deep).as_deref(), Some("a"));
}

#[test]
fn what_lifts_read_only_is_seen_in_any_words() {
    for (text, lifts) in [
        ("BEGIN READ WRITE", true),
        ("begin isolation level serializable , read write", true),
        ("SET TRANSACTION READ WRITE", true),
        ("SET transaction_read_only = $1", true),
        ("SET \"default_transaction_read_only\" TO $1", true),
        ("RESET default_transaction_read_only", true),
        ("EXPLAIN (ANALYZE) DELETE FROM t", true),
        ("EXPLAIN DELETE FROM t", false),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", false),
        ("BEGIN READ ONLY", false),
    ] {
        assert_eq!(lifts_read_only(text), lifts, "{text}");
    }
}

#[test]
fn a_limit_counts_at_the_outermost_level() {
    for (text, expected) in [
        ("SELECT * FROM t LIMIT $1", true),
        ("SELECT * FROM t FETCH FIRST $1 ROWS ONLY", true),
        ("SELECT * FROM t", false),
        ("SELECT (SELECT a FROM t LIMIT $1)", false),
        ("SELECT \"limit\" FROM t", false),
        ("(SELECT a FROM t LIMIT $1) UNION SELECT b FROM u", false),
        ("SELECT a AS limit FROM t", false),
    ] {
        assert_eq!(has_limit(text), expected, "{text}");
    }
}
