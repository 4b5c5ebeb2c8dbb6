//! What writes touch and what reads depend on, in a small database.

use std::collections::BTreeSet;

use super::super::catalog::*;
use super::super::eligible::Bypass;
use super::sample::*;

/// The tables that a text touches; `None`: everything.
fn touched(sql: &str) -> Option<Vec<u32>> {
    let catalog = catalog();
    let touched = catalog.touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None);
    (!touched.is_everything()).then(|| (0..100).filter(|oid| catalog.reaches(&touched, *oid)).collect())
}

#[test]
fn a_write_touches_what_the_catalog_says_and_not_what_its_text_does() {
    let of = |tables: &[u32]| Some(tables.to_vec());
    for (sql, expected) in [
        ("insert into runs values (1)", of(&[RUNS])),
        ("update other.runs set a = 1", of(&[OTHERS_RUNS])),
        ("update only \"runs\" set a = 1", of(&[RUNS])),
        ("update runs set a = 1", of(&[RUNS])),
        // Steps go with their runs, and notes lose theirs, which is logged.
        ("delete from runs where id = 1", of(&[RUNS, STEPS, LOG, NOTES])),
        ("delete from steps", of(&[STEPS, LOG, NOTES])),
        ("update steps set id = 2", of(&[STEPS, LOG, NOTES])),
        ("delete from notes", of(&[NOTES])),
        ("update notes set a = 1", of(&[LOG, NOTES])),
        ("insert into events values (1)", of(&[EVENTS, EVENTS_2026, EVENTS_JANUARY])),
        ("insert into events_2026_01 values (1)", of(&[EVENTS, EVENTS_2026, EVENTS_JANUARY])),
        ("merge into runs using steps on true when matched then delete", of(&[RUNS, STEPS, LOG, NOTES])),
        ("copy runs (a) from stdin", of(&[RUNS])),
        ("copy runs (a) to stdout", of(&[])),
        ("truncate runs", of(&[RUNS])),
        ("truncate table only runs *, events restart identity", of(&[RUNS, EVENTS, EVENTS_2026, EVENTS_JANUARY])),
        ("truncate runs cascade", of(&[RUNS, STEPS, NOTES])),
        ("refresh materialized view concurrently totals", of(&[TOTALS])),
        ("refresh materialized view totals", of(&[TOTALS])),
        ("with a as (delete from notes returning *) select * from a", of(&[NOTES])),
        ("insert into notes values (1)", of(&[NOTES])),
        ("insert into notes values (1) on conflict (a) do update set n = 2", of(&[LOG, NOTES])),
        ("explain analyze update notes set a = 1", of(&[LOG, NOTES])),
        ("explain (analyze, buffers) delete from notes", of(&[NOTES])),
        ("explain (verbose, costs, settings, buffers, wal, timing, summary, analyze) delete from notes", of(&[NOTES])),
        ("explain update notes set a = 1", of(&[])),
        // Through views: to their tables, and what their rules say.
        ("update recent set id = 2", of(&[RUNS, RECENT])),
        ("insert into facade values (1)", of(&[MEMBERS, FACADE, PARENT])),
        // By functions.
        // Whose path is not known: all tables of a name.
        ("select app.finish(1)", of(&[RUNS, OTHERS_RUNS, NOTES])),
        ("call app.finish(1)", of(&[RUNS, OTHERS_RUNS, NOTES])),
        ("select app.loops()", of(&[])),
        // A word of the language, and somebody's function.
        ("select next(1)", of(&[MEMBERS])),
        ("select * from runs fetch next (2) rows only", of(&[MEMBERS])),
        ("select sum(a) filter (where b) over (partition by (c)) from runs", None),
        ("select count(a) filter (where b) over (partition by (c)) from runs", of(&[])),
        ("select count(*), lower(a), random(), ext.distance(a, b) from runs", of(&[])),
        ("select * from runs where a <~> b", of(&[RUNS, OTHERS_RUNS])),
        ("do $$begin update notes set a = 1; perform app.note(1); end$$", of(&[LOG, NOTES])),
        ("do language sql 'delete from notes'", of(&[NOTES])),
        // What cannot be told.
        ("do $$begin execute 'update ' || x; end$$", None),
        ("do language plpython3u $$x$$", None),
        ("call nobody.knows(1)", None),
        ("select nobody.knows(1)", None),
        ("select ext.poke(1)", None),
        ("select app.python(1)", None),
        ("select query_to_xml('select app.finish(1)', true, true, '')", None),
        ("select app.median(n) from runs", None),
        ("update dynamic set a = 1", None),
        ("insert into unheard_of values (1)", None),
        ("update remote set a = 1", None),
        ("execute prepared_somewhere(1)", None),
        ("frobnicate the database", None),
        ("select 'never ends", None),
        // Nothing.
        ("select * from runs", of(&[])),
        ("table runs", of(&[])),
        ("select * from runs for update", of(&[])),
        ("begin", of(&[])),
        ("commit", of(&[])),
        ("set search_path = other", of(&[])),
        ("vacuum full runs", of(&[])),
        ("prepare a as delete from runs", of(&[])),
        ("", of(&[])),
    ] {
        assert_eq!(
            touched(sql),
            expected.map(|mut tables| {
                tables.sort_unstable();
                tables
            }),
            "{sql}"
        );
    }
}

#[test]
fn what_changes_the_catalog_is_told_from_what_changes_rows() {
    for (sql, changes) in [
        ("create table x (a int)", true),
        ("create index on runs (a)", true),
        ("alter table runs add b int", true),
        ("drop table runs", true),
        ("grant select on runs to a", true),
        ("revoke select on runs from a", true),
        ("create policy p on runs using (true)", true),
        ("alter role a set x = 1", true),
        ("alter policy p on runs using (false)", true),
        ("comment on table runs is 'x'", true),
        ("reassign owned by a to b", true),
        ("import foreign schema a from server b into c", true),
        ("select * into copy_of_runs from runs", true),
        ("create table x as select 1", true),
        ("do $$begin alter table runs add b int; end$$", true),
        ("do $$begin if a then grant select on runs to b; end if; end$$", true),
        ("select app.alters()", true),
        ("select 1; drop table runs", true),
        ("insert into runs select 1", false),
        ("truncate runs", false),
        ("select runs.comment, runs.security from runs", false),
        ("do $$begin select 1 into x; update notes set comment = 'a'; end$$", false),
    ] {
        let touched = catalog().touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None);
        assert_eq!(touched.is_catalog(), changes, "{sql}");
    }
    let with_triggers = Catalog::new(Facts { event_triggers: true, ..facts() });
    assert!(with_triggers.touched(&Acts::of(b"drop table notes"), Some(PATH), &|_| None).is_everything());
}

#[test]
fn words_that_can_be_names_write_nowhere_else() {
    for sql in [
        "update set set a = 1",
        "do $$begin if x then update set set a = 1; end if; end$$",
        "merge into set using runs on true when matched then update set a = 1",
    ] {
        let acts = Acts::of(sql.as_bytes());
        assert!(acts.targets.iter().any(|target| target.name.name == "set"), "{sql}");
    }
    let acts = Acts::of(b"insert into runs values (1) on conflict (a) do update set b = 2 returning runs.update");
    assert_eq!(acts.targets.len(), 1);
    assert!(!acts.anything && acts.executes.is_empty());
    assert_eq!(acts.calls.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["conflict"]);
}

#[test]
fn what_was_prepared_is_asked_for_by_its_name() {
    let prepared = |name: &str| (name == "a").then(|| Acts::of(b"delete from notes"));
    let touched = |sql: &str| catalog().touched(&Acts::of(sql.as_bytes()), Some(PATH), &prepared);
    assert_eq!(touched("execute a(1)"), Touched::of([NOTES]));
    assert_eq!(touched("explain analyze execute a"), Touched::of([NOTES]));
    assert!(touched("execute b").is_everything());
    assert!(touched("create table x as execute a").is_catalog());
}

#[test]
fn names_are_found_along_the_path_and_everywhere_without_one() {
    let of = |path| {
        let touched = catalog().touched(&Acts::of(b"update runs set a = 1"), path, &|_| None);
        touched.tables().iter().copied().collect::<Vec<_>>()
    };
    assert_eq!(of(Some(&["other", "public"])), [OTHERS_RUNS]);
    assert_eq!(of(Some(&["missing", "public"])), [RUNS]);
    assert_eq!(of(None), [RUNS, OTHERS_RUNS]);
}

#[test]
fn a_table_of_many_leaves_takes_few_counters() {
    let leaves = 5_000;
    let mut facts = facts();
    for leaf in 1_000..1_000 + leaves {
        facts.relations.push(relation(leaf, "public", &format!("events_{leaf}"), Kind::Table));
        facts.inherits.push((leaf, EVENTS));
    }
    let catalog = Catalog::new(facts);
    let through = catalog.touched(&Acts::of(b"insert into events values (1)"), Some(PATH), &|_| None);
    assert_eq!((through.tables().len(), through.through().len()), (1, 1));
    let leaf = catalog.touched(&Acts::of(b"insert into events_1000 values (1)"), Some(PATH), &|_| None);
    assert_eq!((leaf.tables().len(), leaf.through().len()), (2, 0));
    let reads = |sql: &str| catalog.reads(sql.as_bytes(), PATH, Allowed::NOTHING).unwrap();
    assert_eq!((reads("select * from events").tables, reads("select * from events").through), (vec![EVENTS], vec![]));
    let read = reads("select * from events_1001");
    assert_eq!((read.tables, read.through), (vec![1_001], vec![EVENTS]));
    assert!(catalog.reaches(&through, 1_001) && !catalog.reaches(&leaf, 1_001));
}

#[test]
fn the_log_tells_of_a_leaf_and_means_its_ancestors() {
    assert_eq!(catalog().changed(EVENTS_JANUARY), Touched::of([EVENTS, EVENTS_2026, EVENTS_JANUARY]));
    assert_eq!(catalog().changed(RUNS), Touched::of([RUNS]));
    let unknown = catalog().changed(9_999);
    assert!(unknown.is_everything() && unknown.is_catalog());
}

/// What a text depends on.
fn reads(sql: &str) -> Result<Reads, Bypass> {
    catalog().reads(sql.as_bytes(), PATH, Allowed::NOTHING)
}

#[test]
fn a_read_depends_on_all_that_stands_behind_what_it_names() {
    for (sql, named, tables) in [
        ("select * from runs", &[RUNS][..], &[RUNS][..]),
        ("select * from other.runs", &[OTHERS_RUNS], &[OTHERS_RUNS]),
        ("select count(*) from runs r, \"steps\" s where r.id = s.id", &[RUNS, STEPS], &[RUNS, STEPS]),
        ("select * from recent", &[RECENT], &[RUNS, RECENT]),
        ("select * from events", &[EVENTS], &[EVENTS]),
        ("with x as (select * from steps) select * from runs, x", &[RUNS, STEPS], &[RUNS, STEPS]),
        ("table runs", &[RUNS], &[RUNS]),
        ("(select 1 from runs union all select 2 from steps) order by 1 limit 3", &[RUNS, STEPS], &[RUNS, STEPS]),
        // A column that is called like a table: one table too many, and none too few.
        ("select r.notes from runs r", &[RUNS], &[RUNS]),
        ("select notes from runs", &[RUNS], &[RUNS, NOTES]),
        ("select * from \"a.b\"", &[22], &[22]),
        ("select max(a) from audit.log where ext.distance(a, b) < 3", &[LOG], &[LOG]),
        ("select 1 from runs where a <-> b < 3;", &[RUNS], &[RUNS]),
        ("select count(*) filter (where a) over (order by (b)) from runs group by cube (a)", &[RUNS], &[RUNS]),
        ("select a::character varying (3) from runs where a like ('x')", &[RUNS], &[RUNS]),
    ] {
        let found = reads(sql).unwrap_or_else(|reason| panic!("{sql}: {reason:?}"));
        assert_eq!((found.named.as_slice(), found.tables.as_slice()), (named, tables), "{sql}");
        assert_eq!(found.inputs, Inputs::default());
    }
}

#[test]
fn policies_say_what_else_a_read_depends_on() {
    let found = reads("select * from secured").unwrap();
    assert_eq!(
        found.tables,
        [SECURED, MEMBERS].iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    let settings: Vec<_> = found.inputs.settings.iter().map(String::as_str).collect();
    assert_eq!(settings, ["app.tenant_id", "request.jwt.sub"]);
    for unclear in ["guarded", "computed"] {
        let sql = format!("select * from {unclear}");
        assert_eq!(reads(&sql), Err(Bypass::Policy), "which setting {unclear} asks for cannot be told");
    }
}

#[test]
fn a_rule_lets_a_text_do_what_it_declares_and_no_more() {
    let of = |sql: &str, pure: &[&str]| {
        let pure = |name: &Name| pure.contains(&name.name.as_str());
        catalog().reads(sql.as_bytes(), PATH, Allowed { pure: &pure, materialized: true }).map(|reads| reads.tables)
    };
    let sql = "select date_trunc('day', at) from runs";
    assert_eq!(of(sql, &[]), Err(Bypass::StableFunction));
    assert_eq!(of(sql, &["date_trunc"]), Ok(vec![RUNS]));
    assert_eq!(of("select app.score(1) from runs", &[]), Err(Bypass::UserFunction));
    // What it is seen to read counts all the same.
    assert_eq!(of("select app.score(1) from runs", &["score"]), Ok(vec![RUNS, MEMBERS]));
    for never in ["now", "random", "nextval", "set_config", "age", "query_to_xml"] {
        let sql = format!("select {never}() from runs");
        assert_eq!(of(&sql, &[never]), Err(Bypass::VolatileFunction), "{never}");
    }
    assert_eq!(of("select * from totals", &[]), Ok(vec![TOTALS]));
    assert_eq!(reads("select * from totals"), Err(Bypass::MaterializedView));
}

#[test]
fn everything_that_must_not_be_cached_has_its_reason() {
    use Bypass::*;
    for (sql, reason) in [
        ("select * from runs where a = 'never ends", Unreadable),
        ("insert into runs values (1)", Writes),
        ("show all", NotARead),
        ("explain select * from runs", NotARead),
        ("copy runs to stdout", NotARead),
        ("fetch all from c", NotARead),
        ("", NotARead),
        ("select 1 from runs; select 2 from runs", SeveralStatements),
        ("with x as (delete from notes returning *) select * from runs", Writes),
        ("with x as (merge into notes using runs on true when matched then delete) table runs", Writes),
        ("select * from runs for update", LocksRows),
        ("select * from runs for no key update nowait", LocksRows),
        ("select * from runs for share of runs skip locked", LocksRows),
        ("select * from runs for key share", LocksRows),
        ("select * from (select * from runs for update) x", LocksRows),
        ("select * into x from runs", SelectInto),
        ("select * from runs tablesample system (10)", TableSample),
        ("select * from runs where at > now()", VolatileFunction),
        ("select * from runs where at > \"now\"()", VolatileFunction),
        ("select * from runs where at > pg_catalog.now()", VolatileFunction),
        ("select * from runs where at > current_timestamp", Time),
        ("select * from runs where day = CURRENT_DATE", Time),
        ("select * from runs where at > 'now'", Time),
        ("select * from runs where at > timestamptz 'tomorrow 08:00'", Time),
        ("select * from runs where at > E'\\156ow'", Time),
        ("select * from runs where at > U&'\\006eow'", Time),
        ("select * from runs where at > $$today$$", Time),
        ("select * from runs where owner = current_user", AsksWho),
        ("select user from runs", AsksWho),
        ("select session_user, * from runs", AsksWho),
        ("select random() from runs", VolatileFunction),
        ("select nextval('ids') from runs", VolatileFunction),
        ("select current_setting('a.b') from runs", StableFunction),
        ("select date_trunc('day', at) from runs", StableFunction),
        ("select app.score(1) from runs", UserFunction),
        ("select app.median(n) from runs", UserFunction),
        ("select app.python(n) from runs", UserFunction),
        ("select unheard_of(1) from runs", UnknownFunction),
        ("select next(1) from runs", VolatileFunction),
        ("select * from runs, lateral unheard_of(1) as (a int)", UnknownFunction),
        ("select r.full_name from runs r", UserFunction),
        ("select * from runs where a <~> b", UserOperator),
        ("select a::moody from runs", UserType),
        ("select * from odd_types", UserType),
        ("select pg_advisory_xact_lock(1) from runs", AdvisoryLock),
        ("select pg_try_advisory_lock(1) from runs", AdvisoryLock),
        ("select ctid, * from runs", SystemColumn),
        ("select r.xmin from runs r", SystemColumn),
        ("select \"xmax\" from runs", SystemColumn),
        ("select * from pg_class", Catalog),
        ("select * from pg_catalog.pg_class", Catalog),
        ("select * from \"pg_stat_activity\"", Catalog),
        ("select * from information_schema.tables", Catalog),
        ("select 'runs'::regclass from runs", Catalog),
        ("select * from pg_temp.runs", Catalog),
        ("select 1", NoTable),
        ("values (1), (2)", NoTable),
        ("select * from generate_series(1, 3)", NoTable),
        ("select * from unheard_of", UnknownTable),
        ("select * from other.unheard_of", UnknownTable),
        ("select * from runs where a in (select a from unheard_of)", UnknownTable),
        ("select * from remote", ForeignTable),
        ("select * from spread", ForeignTable),
        ("select * from scratch", UnloggedTable),
        ("select last_value from ids", Sequence),
        ("select * from totals", MaterializedView),
        ("select * from timely", VolatileFunction),
    ] {
        assert_eq!(reads(sql), Err(reason), "{sql}");
    }
}

#[test]
fn no_table_that_could_be_meant_is_left_out() {
    // A table made since the catalog was read, or hidden behind a name of a WITH: not cached.
    for sql in [
        "with runs as (select * from unheard_of) select * from runs",
        "select * from runs join unheard_of using (id)",
        "select * from runs, only unheard_of",
        "select (select count(*) from unheard_of) from runs",
    ] {
        assert_eq!(reads(sql), Err(Bypass::UnknownTable), "{sql}");
    }
    // A name of a WITH that is a table's too is taken for both.
    assert_eq!(reads("with steps as (select * from runs) select * from steps").unwrap().tables, [RUNS, STEPS]);
}

#[test]
fn hostile_texts_end_and_are_not_cached() {
    let catalog = catalog();
    let pieces = [
        "select",
        "from",
        "runs",
        "(",
        ")",
        ",",
        "with",
        "x",
        "as",
        "update",
        "set",
        ";",
        "'",
        "\"",
        "$$",
        "insert into",
        "delete from",
        "truncate",
        "execute",
        "do",
        "*",
        "::",
        ".",
        "$1",
        "/*",
        "*/",
        "--",
        "\n",
        "E'\\",
        "copy",
        "refresh",
    ];
    for seed in 0..3_000 {
        let mut random = super::random::Random::new(seed);
        let words: Vec<_> = (0..1 + random.below(14)).map(|_| *random.pick(&pieces)).collect();
        let sql = words.join(if random.once_in(2) { " " } else { "" });
        drop(catalog.touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None));
        for language in [Language::Sql, Language::Plpgsql, Language::Other] {
            drop(Acts::of_body(&sql, language));
        }
        drop(catalog.reads(sql.as_bytes(), PATH, Allowed::NOTHING));
    }
    let deep = format!("select {}", "(select * from runs, ".repeat(5_000));
    drop(catalog.reads(deep.as_bytes(), PATH, Allowed::NOTHING));
    let many = format!("select * from runs where a in ({}1)", "1, ".repeat(60_000));
    assert_eq!(catalog.reads(many.as_bytes(), PATH, Allowed::NOTHING).map(|reads| reads.tables), Ok(vec![RUNS]));
    let long = format!("select * from runs where a in ({}1)", "1, ".repeat(100_000));
    assert_eq!(catalog.reads(long.as_bytes(), PATH, Allowed::NOTHING), Err(Bypass::Unreadable));
}

#[test]
fn what_cannot_be_told_may_be_ddl() {
    let catalog = catalog();
    let touched = |sql: &str| catalog.touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None);
    for sql in [
        "do $$ begin execute 'alter table runs add b int'; end $$",
        "do language plpython3u 'x'",
        "select made_since(1)",
        "select query_to_xml('x', true, true, '')",
        "execute theirs",
        "commit prepared 'x'",
        "frobnicate",
    ] {
        let touched = touched(sql);
        assert!(touched.is_everything() && touched.is_catalog(), "{sql}");
    }
    for sql in ["insert into runs values (1)", "truncate runs cascade", "insert into made_since values (1)"] {
        assert!(!touched(sql).is_catalog(), "{sql}");
    }
}

#[test]
fn what_libraries_draw_touches_nothing() {
    let volatile = |oid, name: &str| function(oid, name, Volatility::Volatile, Language::C, "");
    let functions = vec![volatile(90_001, "public.uuid_generate_v4"), volatile(90_002, "public.unknown_to_us")];
    let catalog = Catalog::new(Facts { functions, ..Facts::default() });
    let touched = |sql: &str| catalog.touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None);
    assert!(touched("select uuid_generate_v4()").is_nothing());
    assert!(touched("select unknown_to_us()").is_catalog());
}
