//! Sources that change a session, sources that do not, and what is run through what.

use super::*;

fn function(oid: u32, name: &str, language: &str, source: &str) -> Function {
    Function { oid, name: name.into(), language: language.into(), source: source.into() }
}

fn changes(language: &str, source: &str) -> bool {
    source::changes_the_session(&function(1, "f", language, source))
}

#[test]
fn sources_that_change_their_session_are_told() {
    for source in [
        "begin perform set_config('app.x', '1', false); end",
        "begin perform pg_catalog.set_config('app.x', who, is_local); end",
        "select set_config('app.x', $1, 'f'::bool)",
        "begin set search_path to acme; end",
        "begin if x then set role bob; end if; end",
        "begin -- a comment; with a semicolon\n set role bob; end",
        "begin for r in select 1 loop reset all; end loop; end",
        "begin <<here>> set app.x = 1; end",
        "begin perform pg_advisory_lock(1); end",
        "select pg_try_advisory_lock_shared(1, 2)",
        "begin create temp table t (n int); end",
        "begin create temporary table if not exists t on commit preserve rows as select 1; end",
        "begin create table pg_temp.t (n int); end",
        "begin select 1 as n into temp t; end",
        "begin listen news; end",
        "begin load 'auto_explain'; end",
        "begin perform setseed(0.5); end",
        "begin execute 'set role bob'; end",
        "begin execute 'deallocate all'; end",
        "begin execute format('set search_path to %I', tenant); end",
        "begin execute $x$ create temp table t (n int) $x$; end",
        "begin execute sql; end",
        "begin execute (sql); end",
        "begin perform dblink_connect('c', ''); end",
        "CREATE OR REPLACE FUNCTION f() LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', 'c', false); END",
    ] {
        assert!(changes("plpgsql", source), "{source}");
    }
}

#[test]
fn sources_that_end_with_their_transaction_are_not() {
    for source in [
        "begin perform set_config('app.x', '1', true); end",
        "begin update t set search_path = 1; end",
        "begin insert into t values (1) on conflict do update set a = 1; end",
        "begin set local search_path to acme; end",
        "begin set transaction read only; end",
        "begin alter table t alter column a set default 1; end",
        "begin perform pg_advisory_xact_lock(1); end",
        "begin perform pg_advisory_unlock(1); end",
        "begin create temp table t (n int) on commit drop; end",
        "begin create table t (temp int); end",
        "begin select a into strict temp_value from t; end",
        "begin execute 'insert into t values (1)'; end",
        "begin execute format('select count(*) from %I', t) into n; end",
        "begin execute 'select ' || 1; end",
        "begin raise notice 'set aside'; end",
        "begin return 'reset password'; end",
        "begin create trigger x after insert on t execute function f(); end",
        "select 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path TO 'public' RETURN 1",
    ] {
        let expected = source.contains("'reset") || source.contains("'set aside");
        // A string that reads like a statement is one for all that can be told.
        assert_eq!(changes("plpgsql", source), expected, "{source}");
    }
    assert!(!changes("c", "lib"), "what is written in C is believed, unless it is known");
    assert!(source::changes_the_session(&function(1, "dblink_connect", "c", "dblink_connect")));
}

#[test]
fn other_languages_are_searched_for_words() {
    assert!(changes("plpython3u", "plpy.execute(\"SET search_path TO acme\")"));
    assert!(changes("plpython3u", "GD['seen'] = 1"));
    assert!(changes("plperl", "$_SHARED{x} = 1;"));
    assert!(changes("plv8", "plv8.execute(`select set_config('a.b', 'c', false)`)"));
    assert!(!changes("plpython3u", "return a + b"));
    assert!(!changes("plpython3u", "plpy.execute('update t set a = 1')"));
}

#[test]
fn what_runs_a_suspect_is_one() {
    let catalogue = Catalogue {
        functions: vec![
            function(1, "become", "plpgsql", "begin perform set_config('app.x', '1', false); end"),
            function(2, "outer", "plpgsql", "begin perform become(); end"),
            function(3, "on_insert", "plpgsql", "begin perform \"outer\"(); return new; end"),
            function(4, "writer", "sql", "insert into orders values (1)"),
            function(5, "harmless", "sql", "select 1"),
            function(6, "dynamic", "plpgsql", "begin execute 'select ' || 'become()'; end"),
        ],
        relations: vec![
            (10, "orders".into()),
            (11, "order_view".into()),
            (12, "parent".into()),
            (13, "innocent".into()),
            (14, "Guarded".into()),
        ],
        uses: vec![
            (Object::Function(3), Object::Written(10)),
            (Object::Relation(10), Object::Relation(11)),
            (Object::Written(10), Object::Written(12)),
            (Object::Function(5), Object::Relation(13)),
            (Object::Function(1), Object::Relation(14)),
        ],
    };
    let suspects = catalogue.suspects();
    assert_eq!(suspects.functions(), ["become", "dynamic", "on_insert", "outer", "writer"]);
    for (sql, reads, expected) in [
        ("select \"outer\"()", true, true),
        ("select public.Writer ()", true, true),
        ("select t.become from t", true, true),
        ("select become from t", true, false),
        ("select harmless()", true, false),
        ("insert into orders values (1)", false, true),
        ("insert into public.\"orders\" values (1)", false, true),
        ("select * from orders", true, false),
        ("select * from order_view", true, false),
        ("insert into order_view values (1)", false, true),
        ("delete from parent", false, true),
        ("update innocent set a = 1", false, false),
        ("select * from \"Guarded\"", true, true),
        ("select * from guarded", true, false),
        ("select 'become()'", true, false),
    ] {
        assert_eq!(suspects.concern(sql.as_bytes(), true, reads), expected, "{sql}");
    }
}

#[test]
fn nothing_suspect_costs_nothing_and_the_unknown_is_distrusted() {
    let harmless = Catalogue { functions: vec![function(5, "harmless", "sql", "select 1")], ..Catalogue::default() };
    assert_eq!((harmless.suspects().version(), harmless.suspects().is_empty()), (0, true));
    assert!(!harmless.suspects().concern(b"select harmless()", true, true));
    let unknown = Suspects::unknown();
    assert!(unknown.is_unknown() && unknown.concern(b"select 1", true, true));
}

#[test]
fn equal_sets_have_equal_versions() {
    let one = function(1, "a", "sql", "select set_config('a.b', 'c', false)");
    let other = function(2, "b", "sql", "select setseed(1)");
    let set = |functions: &[&Function]| {
        let functions = functions.iter().map(|function| (*function).clone()).collect();
        Catalogue { functions, ..Catalogue::default() }.suspects().version()
    };
    assert_eq!(set(&[&one, &other]), set(&[&other, &one]));
    assert_ne!(set(&[&one]), set(&[&other]));
}

#[test]
fn what_nobody_can_name_makes_every_statement_suspect() {
    let become_other = function(1, "become", "sql", "select set_config('a.b', 'c', false)");
    let run_by = |object| Catalogue {
        functions: vec![become_other.clone()],
        uses: vec![(Object::Function(1), object)],
        ..Catalogue::default()
    };
    assert!(run_by(Object::Anything).suspects().concern(b"select 1", true, true));
    let definitions = run_by(Object::Definitions).suspects();
    assert!(definitions.concern(b"alter table t add a int", true, false));
    assert!(!definitions.concern(b"select 1", true, true));
}
