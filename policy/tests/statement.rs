//! Classes, flags and session effects, statement by statement.

use policy::fingerprint::{Analyser, Compat};
use policy::statement::{Class, Effect, Flags, Operand};

/// The effects of `sql` in a short notation of their own.
fn effects(sql: &str) -> String {
    let mut analyser = Analyser::new(Compat::V15);
    let analysis = analyser.analyse(sql.as_bytes());
    let text = |text| String::from_utf8_lossy(analysis.text(text)).into_owned();
    let operand = |operand| match operand {
        Operand::Literal(value) => format!("'{}'", text(value)),
        Operand::Parameter(number) => format!("${number}"),
        Operand::Null => "null".to_owned(),
        Operand::Unknown => "?".to_owned(),
    };
    let show = |effect: &Effect| match *effect {
        Effect::Set { name, local, clause } => {
            format!("{}set {} [{}]", if local { "local " } else { "" }, text(name), &sql[clause.range()])
        }
        Effect::Reset { name, local } => format!("{}reset {}", if local { "local " } else { "" }, text(name)),
        Effect::SetConfig { name, value, local, certain } => {
            let sure = if certain { "" } else { " perhaps" };
            format!("config {} {} {}{sure}", operand(name), operand(value), operand(local))
        }
        Effect::SetValue { name, value } => format!("value {} = {}", text(name), text(value)),
        Effect::Savepoint(name) => format!("savepoint {}", text(name)),
        Effect::RollbackTo(name) => format!("rollback to {}", text(name)),
        Effect::Release(name) => format!("release {}", text(name)),
        Effect::SqlPrepare(name) => format!("prepare {}", text(name)),
        Effect::SqlExecute(name) => format!("execute {}", text(name)),
        Effect::Deallocate(name) => format!("deallocate {}", text(name)),
        Effect::Listen(name) => format!("listen {}", text(name)),
        Effect::Unlisten(name) => format!("unlisten {}", text(name)),
        Effect::DeclareWithHold(name) => format!("hold {}", text(name)),
        Effect::CloseCursor(name) => format!("close {}", text(name)),
        Effect::Signal { terminate, process, place } => {
            let kind = if terminate { "terminate" } else { "cancel" };
            format!("{kind} {} [{}]", operand(process), &sql[place.range()])
        }
        Effect::Vacates(name) => format!("vacates {}", text(name)),
        other => format!("{other:?}"),
    };
    analysis.effects.iter().map(show).collect::<Vec<_>>().join("; ")
}

fn analyse<T>(sql: &str, read: impl FnOnce(&policy::statement::Analysis) -> T) -> T {
    read(Analyser::new(Compat::V15).analyse(sql.as_bytes()))
}

fn check(rows: &[(&str, &str)]) {
    for (sql, expected) in rows {
        assert_eq!(effects(sql), *expected, "{sql}");
    }
}

#[test]
fn settings_are_followed() {
    check(&[
        ("SET search_path TO a, \"B\"", "set search_path [search_path TO a, \"B\"]"),
        ("set session Search_Path = a;", "set search_path [Search_Path = a]"),
        ("set local statement_timeout = '5s'", "local set statement_timeout [statement_timeout = '5s']"),
        ("set app.tenant_id = 'acme'", "set app.tenant_id [app.tenant_id = 'acme']"),
        ("set \"App\".\"Tenant\" to x", "set app.tenant [\"App\".\"Tenant\" to x]"),
        ("set time zone 'UTC'", "set timezone [time zone 'UTC']"),
        (
            "set local time zone interval '1' hour to minute",
            "local set timezone [time zone interval '1' hour to minute]",
        ),
        ("set timezone = 'UTC'", "set timezone [timezone = 'UTC']"),
        ("set time zone local", "reset timezone"),
        ("set time zone default", "reset timezone"),
        ("set names 'utf8'", "set client_encoding [names 'utf8']"),
        ("set names", "reset client_encoding"),
        ("set role admin", "set role [role admin]"),
        ("set role none", "set role [role none]"),
        ("set local role 'x'", "local set role [role 'x']"),
        ("set role to x", "set role [role to x]"),
        ("set session role x", "set role [role x]"),
        ("set session authorization bob", "set session_authorization [session authorization bob]"),
        ("set local session authorization bob", "local set session_authorization [session authorization bob]"),
        ("set session authorization default", "reset session_authorization"),
        ("set session session authorization bob", "set session_authorization [session authorization bob]"),
        ("set schema 's'", "set search_path [schema 's']"),
        ("set seed to 0.5", "Seed"),
        ("select pg_terminate_backend(4711)", "terminate '4711' [4711]"),
        ("select pg_catalog.pg_cancel_backend('4711'::int)", "cancel '4711' ['4711']"),
        ("select pg_terminate_backend($1::int4, 500) from t", "terminate $1 []"),
        ("select pg_terminate_backend(pid) from pg_stat_activity", "terminate ? []"),
        ("select pg_cancel_backend(4711 + 1)", "cancel ? []"),
        ("select s.pg_cancel_backend(1)", ""),
        ("drop database if exists \"Old one\" with (force)", "vacates Old one"),
        ("create database new with template = old", "vacates old"),
        ("create database new", "vacates template1"),
        ("set xml option document", "set xmloption [xml option document]"),
        ("set x to default", "reset x"),
        ("set local x = default", "local reset x"),
        ("reset x", "reset x"),
        ("reset app.tenant_id", "reset app.tenant_id"),
        ("reset all", "ResetAll"),
        ("reset role", "reset role"),
        ("reset time zone", "reset timezone"),
        ("reset session authorization", "reset session_authorization"),
        ("set transaction isolation level serializable", "SetTransaction"),
        ("set transaction_read_only = on", "SetTransaction"),
        ("reset transaction isolation level", "SetTransaction"),
        ("set session characteristics as transaction read only", "value default_transaction_read_only = on"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE, NOT DEFERRABLE",
            "value default_transaction_isolation = repeatable read; value default_transaction_read_only = off; \
             value default_transaction_deferrable = off",
        ),
        (
            "set session characteristics as transaction isolation level read uncommitted deferrable",
            "value default_transaction_isolation = read uncommitted; value default_transaction_deferrable = on",
        ),
        ("set session characteristics as transaction isolation level chaos", "SetUnknown"),
        ("set session characteristics as transaction", "SetUnknown"),
        ("set constraints all deferred", "SetConstraints"),
        ("set x from current", "SetUnknown"),
        ("set", "SetUnknown"),
        ("set x", "SetUnknown"),
        ("set x to", "SetUnknown"),
        ("set session.a = 1", "set session.a [session.a = 1]"),
        ("set local = 1", "set local [local = 1]"),
    ]);
}

#[test]
fn set_config_is_seen_with_its_operands() {
    check(&[
        ("select set_config('app.tenant', 'a', false)", "config 'app.tenant' 'a' 'false'"),
        ("SELECT pg_catalog.SET_CONFIG('Search_Path', $1, true)", "config 'search_path' $1 'true'"),
        ("select \"set_config\"('x', 'it''s', 't')", "config 'x' 'it''s' 't'".replace("''", "'").as_str()),
        ("select \"pg_catalog\".\"set_config\"($1, $2, $3)", "config $1 $2 $3"),
        ("select set_config($1::text, $2::varchar, $3::bool) as x", "config $1 $2 $3"),
        ("select set_config('x', null, false)", "config 'x' null 'false'"),
        ("select set_config('x', ('a'), ('f'::boolean))", "config 'x' 'a' 'f'"),
        ("select set_config('x', ('it''s')::text, (($1)))", "config 'x' 'it's' $1"),
        ("select set_config('x', ((('a'))), false)", "config 'x' ? 'false'"),
        ("select set_config('x', ('a')::int::text, (false, true))", "config 'x' ? ?"),
        ("select set_config('x', ('a', 'b'), (select false))", "config 'x' ? ?"),
        ("select set_config('x', ('a') || 'b', \"(\"('a'))", "config 'x' ? ?"),
        (r"select set_config('x', E'a\nb\x41\'', false)", "config 'x' 'a\nbA'' 'false'"),
        ("select set_config('x', U&'\\0061b', false)", "config 'x' 'ab' 'false'"),
        ("select set_config('x', $q$it's$q$, 1 = 1)", "config 'x' 'it's' ?"),
        ("select set_config('x', 'a' || 'b', false)", "config 'x' ? 'false'"),
        ("select set_config('x', $1::int::text, false)", "config 'x' ? 'false'"),
        ("select set_config(is_local => true, value => 'a', name => 'x')", "config ? ? ?"),
        (
            "select set_config('a', '1', true), set_config('b', '2', true)",
            "config 'a' '1' 'true'; config 'b' '2' 'true'",
        ),
        ("select set_config('a', '1', true) from t", "config 'a' '1' 'true' perhaps"),
        ("select set_config('a', '1', true) where false", "config 'a' '1' 'true' perhaps"),
        ("select coalesce(set_config('a', '1', true), '')", "config 'a' '1' 'true' perhaps"),
        ("with x as (select set_config('a', '1', false)) select 1", "config 'a' '1' 'false' perhaps"),
        ("update t set a = set_config('a', '1', false)", "config 'a' '1' 'false' perhaps"),
        ("explain select set_config('a', '1', false)", ""),
        ("explain analyze select set_config('a', '1', false)", "config 'a' '1' 'false' perhaps"),
        ("select mine.set_config('a', '1', false)", ""),
        ("select set_config from t", ""),
        ("select 'set_config(''a'', ''1'', false)'", ""),
    ]);
}

#[test]
fn transaction_control_is_followed() {
    check(&[
        ("begin", "Begin { access: None }"),
        ("START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE", "Begin { access: Some(ReadOnly) }"),
        ("begin read write", "Begin { access: Some(ReadWrite) }"),
        ("commit", "Commit { chain: false }"),
        ("end work", "Commit { chain: false }"),
        ("commit and chain", "Commit { chain: true }"),
        ("rollback and no chain", "Rollback { chain: false }"),
        ("abort and chain", "Rollback { chain: true }"),
        ("savepoint \"A b\"", "savepoint A b"),
        ("rollback to Sp1", "rollback to sp1"),
        ("rollback work to savepoint sp1", "rollback to sp1"),
        ("release savepoint sp1", "release sp1"),
        ("release sp1", "release sp1"),
        ("prepare transaction 'x'", "PrepareTransaction"),
        ("select name from pg_prepared_statements", "StatementNames"),
        ("SELECT * FROM pg_catalog.Pg_Prepared_Statement() s", "StatementNames"),
        ("select count(*) from \"pg_prepared_statements\" where name = 'pg_prepared_statements'", "StatementNames"),
        ("select 'pg_prepared_statements', pg_prepared_statements_of_mine, \"Pg_Prepared_Statements\"", ""),
        ("prepare q as select 1 from pg_prepared_statements", "StatementNames; prepare q"),
        ("commit prepared 'x'", "CommitPrepared"),
        ("rollback prepared 'x'", "RollbackPrepared"),
        ("begin; set local x = 1; commit", "Begin { access: None }; local set x [x = 1]; Commit { chain: false }"),
    ]);
}

#[test]
fn what_stays_in_the_session_is_named() {
    check(&[
        ("prepare Q (int) as select set_config('a', 'b', false)", "prepare q; config 'a' 'b' 'false' perhaps"),
        ("execute q(1)", "execute q"),
        ("explain analyze execute q(1)", "execute q"),
        ("create table t as execute q", "execute q; Alters"),
        ("create temp table t as execute q", "TempObject { until_commit: false }; execute q; Alters"),
        ("deallocate prepare \"Q\"", "deallocate Q"),
        ("deallocate all", "DeallocateAll"),
        ("deallocate prepare all", "DeallocateAll"),
        ("discard all", "Discard(All)"),
        ("discard plans", "Discard(Plans)"),
        ("discard sequences", "Discard(Sequences)"),
        ("discard temporary", "Discard(Temp)"),
        ("listen Events", "listen events"),
        ("unlisten \"Events\"", "unlisten Events"),
        ("unlisten *", "UnlistenAll"),
        ("notify Events, 'x'", "Notify"),
        ("select pg_notify('Events', $1)", "Notify"),
        ("insert into t select \"pg_notify\"(a, b) from u", "Notify"),
        ("select other.pg_notify('a', 'b'), pg_notify from t", ""),
        ("declare c cursor with hold for select 1", "hold c"),
        ("declare c cursor without hold for select 1", ""),
        ("declare c cursor for with hold as (select 1) select 1", ""),
        ("close c", "close c"),
        ("close all", "CloseAll"),
        ("create temp table t (a int)", "TempObject { until_commit: false }; Alters"),
        ("create local temporary table t (a int) on commit drop", "TempObject { until_commit: true }; Alters"),
        ("create or replace temp view v as select 1", "TempObject { until_commit: false }; Defines; Alters"),
        ("create temporary sequence s", "TempObject { until_commit: false }; Alters"),
        ("create table pg_temp.t (a int)", "TempObject { until_commit: false }; Alters"),
        ("create table t (temp int)", "Alters"),
        ("select a into temp x from t", "TempObject { until_commit: false }; Alters"),
        ("create unique index i on t (a)", ""),
        ("drop index i", "Drop"),
        ("alter role r set x = 1", ""),
        ("truncate t", ""),
        ("select a into x from t", "Alters"),
        ("select pg_advisory_lock(1)", "SessionAdvisoryLock"),
        ("select pg_catalog.pg_try_advisory_lock_shared(1, 2)", "SessionAdvisoryLock"),
        ("select pg_advisory_xact_lock(1)", ""),
        ("select pg_try_advisory_xact_lock_shared(1)", ""),
        ("select pg_advisory_unlock(1)", "AdvisoryUnlock"),
        ("select pg_advisory_unlock_all()", "AdvisoryUnlockAll"),
        ("load 'auto_explain'", "Load"),
        ("do $$ begin end $$", "DoBlock"),
        ("call p(1)", "Call"),
        ("copy t from stdin", "CopyIn"),
        ("copy t (a, b) to stdout with (format csv)", "CopyOut"),
        ("copy (select set_config('a', 'b', false)) to stdout", "CopyOut; config 'a' 'b' 'false' perhaps"),
        ("copy t from '/file'", ""),
        ("select * from t where a = 1", ""),
        ("update t set search_path = 'x'", ""),
    ]);
}

/// Words that stand for something else than they seem to: each of these left something behind that nobody knew of.
#[test]
fn nothing_hides_behind_another_reading() {
    check(&[
        // A statement may be called transaction.
        ("prepare transaction as select 1", "prepare transaction"),
        ("prepare transaction 'two'", "PrepareTransaction"),
        // Names with a UESCAPE of their own are not read.
        ("reset U&\"search!005fpath\" UESCAPE '!'", "SetUnknown; reset search!005fpath"),
        ("select U&\"set_config\" uescape '!' ('a', 'b', false)", "SetUnknown"),
        ("savepoint U&\"!0061\" UESCAPE '!'", "SetUnknown; savepoint '!'"),
        // Schemas too are written by numbers of characters.
        ("select U&\"pg_catalog\".set_config('a', 'b', false)", "config 'a' 'b' 'false'"),
        ("select * from U&\"pg\\005fprepared_statements\"", "StatementNames"),
        // Tables of the session.
        ("(select 1 as id into temp users)", "TempObject { until_commit: false }; Alters"),
        ("((select 1 as id into temp users))", "TempObject { until_commit: false }; Alters"),
        ("select 1 as into, 2 as b into temp t", "TempObject { until_commit: false }; Alters"),
        (
            "with a as (insert into log values (1) returning 1 as x) select x into temp t from a",
            "TempObject { until_commit: false }; Alters",
        ),
        ("select 1 into table pg_temp.t", "TempObject { until_commit: false }; Alters"),
        ("select 1 into U&\"pg\\005ftemp\".t", "TempObject { until_commit: false }; Alters"),
        ("explain analyze select 1 as a into temp t", "TempObject { until_commit: false }; Alters"),
        ("create table pg_temp_3.t (a int)", "TempObject { until_commit: false }; Alters"),
        (
            "create temp table t as select commit drop from (select 1 as commit) s",
            "TempObject { until_commit: false }; Alters",
        ),
        ("create temp table t (a int) on commit drop", "TempObject { until_commit: true }; Alters"),
        // EXPLAIN that runs what it explains.
        ("explain (analyze 1) select set_config('a', 'b', false)", "config 'a' 'b' 'false' perhaps"),
        ("explain (\"analyze\") select set_config('a', 'b', false)", "config 'a' 'b' 'false' perhaps"),
        ("explain (analyze off) select set_config('a', 'b', false)", ""),
        // Functions that run a text.
        ("select query_to_xml('select 1', true, true, '')", "SetUnknown"),
        ("select * from ts_stat('select v from t')", "SetUnknown"),
        // Settings whose names begin with a word of SET.
        ("set role.name = 'x'", "set role.name [role.name = 'x']"),
        ("set transaction.id = '42'", "set transaction.id [transaction.id = '42']"),
        ("set local schema.tenant to x", "local set schema.tenant [schema.tenant to x]"),
        ("reset transaction.id", "reset transaction.id"),
        ("set local session characteristics as transaction read only", "SetUnknown"),
    ]);
    let class = |sql| analyse(sql, |analysis| (analysis.class, analysis.flags.contains(Flags::READ_ONLY)));
    assert_eq!(class("with values as (select 1) delete from t"), (Class::Delete, false));
    assert_eq!(class("with update (a) as (select 1) insert into t select a from update"), (Class::Insert, false));
    assert_eq!(class("with a as (select 1) values (1), (2)"), (Class::Values, true));
    assert_eq!(class("explain (\"analyze\") delete from t"), (Class::Explain, false));
    assert!(!class("(select 1 into t)").1 && !class("select ts_stat('x')").1);
}

/// What is taken for the body of a function hides what follows it.
#[test]
fn only_functions_have_bodies() {
    for (sql, statements) in [
        ("create view v as select begin atomic from (select 1 as begin) s; set search_path to b", 2),
        ("create function f() returns int language sql begin atomic select 1 as case; end; set role x", 2),
        ("create function f() returns int language sql begin atomic select t.end from t; select 2; end; set role x", 2),
        ("create or replace procedure p() begin atomic select case when true then 1 end; end; select 1", 2),
    ] {
        assert_eq!(analyse(sql, |analysis| analysis.parts.len()), statements, "{sql}");
    }
}

#[test]
fn long_names_are_cut_as_the_server_cuts_them() {
    let long = "x".repeat(70);
    assert_eq!(effects(&format!("savepoint {long}")), format!("savepoint {}", "x".repeat(63)));
    let wide = format!("{}é", "x".repeat(62));
    assert_eq!(effects(&format!("savepoint \"{wide}\"")), format!("savepoint {}", "x".repeat(62)));
}

#[test]
fn classes_are_told_by_the_main_verb() {
    for (sql, class) in [
        ("", Class::Empty),
        (" ; -- x", Class::Empty),
        ("(select 1) union select 2", Class::Select),
        ("table t", Class::Select),
        ("values (1)", Class::Values),
        ("with x as (insert into t values (1) returning *) select * from x", Class::Select),
        ("with x as (select 1) update t set a = 1", Class::Update),
        ("with x as (select 1) delete from t", Class::Delete),
        ("merge into t using s on true when matched then delete", Class::Merge),
        ("copy t from stdin", Class::CopyIn),
        ("copy (select a from t) to stdout", Class::CopyOut),
        ("move next from c", Class::Fetch),
        ("vacuum t", Class::Maintenance),
        ("create database x", Class::Maintenance),
        ("create unique index concurrently i on t (a)", Class::Maintenance),
        ("drop index concurrently i", Class::Maintenance),
        ("alter system set x = 1", Class::Maintenance),
        ("alter table t add a int", Class::Ddl),
        ("truncate t", Class::Ddl),
        ("show all", Class::Show),
        ("lock table t", Class::Lock),
        ("notify c, 'x'", Class::Notify),
        ("selec 1", Class::Other),
        ("begin; update t set a = 1; commit", Class::Update),
        ("begin; commit", Class::Begin),
        ("commit; begin", Class::Begin),
        ("commit; rollback", Class::Commit),
        ("commit; begin; select 1", Class::Select),
    ] {
        assert_eq!(analyse(sql, |analysis| analysis.class), class, "{sql}");
    }
}

#[test]
fn flags_say_what_is_true() {
    let has = |sql: &str, flag| analyse(sql, |analysis| analysis.flags.contains(flag));
    for (flag, yes, no) in [
        (Flags::LITERAL_FREE, vec!["select a from t where b = $1"], vec!["select 1", "set x = y"]),
        (
            Flags::READ_ONLY,
            vec!["select a from t", "show x", "explain update t set a = 1", "values (1); select 2", "copy t to stdout"],
            vec![
                "update t set a = 1",
                "with x as (delete from t returning a) select * from x",
                "with x as (with y as (select 1) insert into t select * from y returning 1) select 1",
                "select a into b from t",
                "select a from t for update",
                "select set_config('a', 'b', true)",
                "select 1; delete from t",
                "explain analyze delete from t",
            ],
        ),
        (
            Flags::HAS_FROM,
            vec!["select a from t", "(select a from t) union (select 1)", "delete from t"],
            vec!["select extract(year from now())", "select 1 is distinct from 2", "select trim(both from 'x')"],
        ),
        (
            Flags::BATCHED,
            vec![
                "select a from t where b in (1, 2, 3)",
                "select a from t where b in ($1, $2, $3)",
                "select a from t where b in (f(1), g(2), 3)",
                "select a from t where b = any($1)",
                "select a from t where b = ANY ('{1,2}'::int[])",
                "insert into t select * from unnest($1::int[])",
            ],
            vec![
                "select a from t where b in (1, 2)",
                "select a from t where b = $1",
                "select a from t where b = any (select c from u)",
                "select a from t where b in (select c, d, e from u)",
            ],
        ),
        (
            Flags::HAS_LIMIT,
            vec!["select 1 limit 1", "select 1 fetch first row only"],
            vec!["select 1", "fetch 1 from c"],
        ),
        (Flags::HAS_OFFSET, vec!["select 1 offset 5"], vec!["select 1"]),
        (Flags::LOCKS_ROWS, vec!["select a from t for no key update"], vec!["select substring(a for 2) from t"]),
        (Flags::SKIP_LOCKED, vec!["select a from t for update skip locked"], vec!["select a from t for update"]),
        (
            Flags::FUNCTION_ONLY,
            vec!["select now()", "select pg_catalog.f(1, g(2)) as x, h()::text"],
            vec!["select 1", "select f() + 1", "select f() from t", "select f() where a", "select a"],
        ),
        (Flags::MULTI, vec!["select 1; select 2"], vec!["select 1;", "select 1;;"]),
        (Flags::UNTERMINATED, vec!["select 'a", "select /* a", "select \"a", "select $$a"], vec!["select 'a'"]),
        (Flags::HAS_RETURNING, vec!["insert into t values (1) returning a"], vec!["insert into t values (1)"]),
        (Flags::JOINS, vec!["select 1 from a join b using (c)", "select 1 from a, b"], vec!["select a, b from t"]),
        (
            Flags::EXECUTES,
            vec!["explain analyze select 1", "explain (costs off, analyze) select 1"],
            vec!["explain select 1", "explain (analyze false) select 1", "explain (select analyze from t)"],
        ),
    ] {
        yes.iter().for_each(|sql| assert!(has(sql, flag), "{flag:?} is missing: {sql}"));
        no.iter().for_each(|sql| assert!(!has(sql, flag), "{flag:?} is wrong: {sql}"));
    }
}

#[test]
fn several_statements_are_told_apart() {
    let sql = "begin; insert into t values (1, 'a;b'); set x = 1; create function f() returns int begin atomic \
        select 1; select case when true then 2 end; end; commit";
    analyse(sql, |analysis| {
        let classes: Vec<_> = analysis.parts.iter().map(|part| part.class).collect();
        assert_eq!(classes, [Class::Begin, Class::Insert, Class::Set, Class::Ddl, Class::Commit]);
        assert_eq!(analysis.parts[1].span.of(sql.as_bytes()), b"insert into t values (1, 'a;b')");
        assert_eq!(analysis.literals_of(&analysis.parts[1]).len(), 2);
        assert_eq!(analysis.effects_of(&analysis.parts[2]).len(), 1);
        assert!(analysis.effects_of(&analysis.parts[1]).is_empty());
        assert!(analysis.flags.contains(Flags::MULTI));
    });
}

#[test]
fn comments_at_the_ends_are_found_through_the_analysis() {
    let sql = b"/*job='nightly'*/ select 1 /*route='%2Fa'*/;";
    let mut analyser = Analyser::new(Compat::V15);
    let analysis = analyser.analyse(sql);
    assert_eq!(analysis.body.of(sql), b"select 1");
    let comments = analysis.comments(sql);
    assert_eq!(comments.tag("route").as_deref(), Some("/a"));
    assert_eq!(comments.tag("job").as_deref(), Some("nightly"));
}

#[test]
fn only_begin_atomic_keeps_semicolons_to_itself() {
    let mut analyser = Analyser::new(Compat::V15);
    for (sql, statements) in [
        ("create table t (atomic int); set role x", 2),
        ("create table t (begin atomic); set role x", 2),
        ("create table atomic (a int); set role x", 2),
        ("create function f() returns int begin atomic select 1; select 2; end; set role x", 2),
    ] {
        let analysis = analyser.analyse(sql.as_bytes());
        assert_eq!(analysis.parts.len(), statements, "{sql}");
        assert!(
            analysis.effects.iter().any(|effect| matches!(effect, Effect::Set { .. })),
            "{sql}: {:?}",
            analysis.effects
        );
    }
}
