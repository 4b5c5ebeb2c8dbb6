//! What statements leave behind in their transactions.

use super::super::catalog::*;
use super::super::eligible::Bypass;
use super::sample::*;

/// What is left of a text in its transaction; `None`: nothing.
fn left(sql: &str) -> Option<Bypass> {
    leaves_nothing(sql.as_bytes(), Some(&catalog()), Allowed::NOTHING).err()
}

#[test]
fn what_a_statement_leaves_to_those_behind_it_in_its_transaction() {
    for nothing in [
        "",
        ";;",
        "begin",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        "start transaction isolation level read uncommitted, read write",
        "begin; set local role anna; savepoint s",
        "set local search_path = a, b",
        "set transaction read only",
        "reset role",
        "rollback to s",
        "release s",
        "show transaction isolation level",
        "select * from runs",
        "select now(), id from runs where at < current_timestamp",
        "select a from scratch",
        "select * from pg_class where oid = 'runs'::regclass",
        "select a from totals",
        "select ctid, current_user from runs",
        "(select 1)",
        "select lower(a) from runs",
        "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
        "select pg_catalog.set_config('a.b', 'c', true)",
    ] {
        assert_eq!(left(nothing), None, "{nothing}");
    }
    for (sql, reason) in [
        ("begin isolation level repeatable read", Bypass::Isolation),
        ("begin transaction read only, isolation level serializable", Bypass::Isolation),
        ("start transaction isolation /* x */ level serializable", Bypass::Isolation),
        ("begin isolation", Bypass::Isolation),
        ("set transaction isolation level repeatable read", Bypass::Isolation),
        ("set transaction snapshot '00000003-1'", Bypass::Isolation),
        ("set transaction_isolation = 'serializable'", Bypass::Isolation),
        ("set local \"transaction_isolation\" to serializable", Bypass::Isolation),
        ("set default_transaction_isolation = 'read committed'", Bypass::Isolation),
        ("reset all", Bypass::Isolation),
        ("reset default_transaction_isolation", Bypass::Isolation),
        ("insert into runs values (1)", Bypass::TransactionWrote),
        ("select 1; update runs set a = 1", Bypass::TransactionWrote),
        ("with gone as (delete from runs returning *) select * from gone", Bypass::TransactionWrote),
        ("select a into made from runs", Bypass::TransactionWrote),
        ("copy runs from stdin", Bypass::TransactionWrote),
        ("commit prepared 'p'", Bypass::TransactionWrote),
        ("select * from runs for update", Bypass::TransactionLocked),
        ("select * from runs for no key update", Bypass::TransactionLocked),
        ("select pg_advisory_xact_lock(1)", Bypass::TransactionLocked),
        ("lock table runs", Bypass::TransactionLocked),
        ("select no_such_function()", Bypass::Tainted),
        ("select nextval('ids')", Bypass::Tainted),
        ("select query_to_xml('select 1', true, true, '')", Bypass::Tainted),
        ("select other.set_config('role', 'x', true)", Bypass::Tainted),
        ("do $$ begin end $$", Bypass::Tainted),
        ("call p()", Bypass::Tainted),
        ("execute p", Bypass::Tainted),
        ("declare c cursor for select 1", Bypass::Tainted),
        ("fetch all from c", Bypass::Tainted),
        ("listen c", Bypass::Tainted),
        ("discard all", Bypass::Tainted),
        ("select 'x", Bypass::Unreadable),
    ] {
        assert_eq!(left(sql), Some(reason), "{sql}");
    }
    let unknown = |sql: &str| leaves_nothing(sql.as_bytes(), None, Allowed::NOTHING).err();
    assert_eq!(unknown("select 1"), Some(Bypass::CatalogUnread));
    assert_eq!(unknown("begin"), None);
}

#[test]
fn what_is_somebodys_own_may_set_settings_whatever_it_promises() {
    let mut facts = facts();
    let own = |oid, name, volatility, language, source| function(oid, name, volatility, language, source);
    facts.functions.push(own(20_001, "public.sets", Volatility::Immutable, Language::Plpgsql, "begin return 1; end"));
    facts.functions.push(own(20_002, "pg_catalog.added", Volatility::Stable, Language::Plpgsql, "begin end"));
    facts.functions.push(own(20_003, "public.library", Volatility::Stable, Language::C, ""));
    facts.functions.push(own(20_004, "pg_catalog.volatile_one", Volatility::Volatile, Language::Internal, ""));
    facts.rewrites.push(Rewrite {
        relation: RECENT,
        ops: None,
        text: "select set_config('role', 'x', true)".into(),
        uses: [].into(),
    });
    let catalog = Catalog::new(facts);
    let left = |sql: &str, allowed| leaves_nothing(sql.as_bytes(), Some(&catalog), allowed).err();
    for sql in
        ["select sets()", "select added()", "select volatile_one()", "select * from recent", "select recent from runs"]
    {
        assert_eq!(left(sql, Allowed::NOTHING), Some(Bypass::Tainted), "{sql}");
    }
    assert_eq!(left("select library()", Allowed::NOTHING), None);
    let pure = |name: &Name| name.name == "sets";
    assert_eq!(left("select sets()", Allowed { pure: &pure, materialized: false }), None, "a rule says so");
}
