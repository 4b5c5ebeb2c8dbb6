//! What is never cached and never served, line by line of the design. A statement that may be cached is answered from the
//! cache in front and behind, so that it is not the whole cache that sleeps.

use std::time::Duration;

use integration_tests::{Cluster, RawClient, frontend};

use super::{Ground, extended};

const SCHEMA: &str = "
    create table items (id int primary key, name text, at timestamptz default now());
    insert into items values (1, 'one'), (2, 'two');
    create unlogged table scratch (id int); insert into scratch values (1);
    create materialized view totals as select count(*) from items;
    create sequence ids;
    create function own(n int) returns int language sql immutable as 'select $1';
    create function settled(n int) returns int language sql stable as 'select count(*)::int from items';
    create function loose(n int) returns int language sql volatile as 'select $1';
    create extension file_fdw; create server files foreign data wrapper file_fdw;
    create foreign table remote (line text) server files options (filename '/proc/version');
    create view timely as select id from items where at < now();
    create function noisy(n int) returns int language plpgsql immutable as $$ begin raise notice 'heard'; return n; end $$";

fn ground() -> (Ground, RawClient) {
    let ground = Ground::new(SCHEMA);
    let mut client = ground.client();
    ground.cached(&mut client, "select name from items where id = 1");
    (ground, client)
}

/// The cache still works.
fn is_in_play(ground: &Ground) {
    ground.cached(&mut ground.client(), "select name from items where id = 1");
}

#[test]
fn statements_whose_answer_is_not_that_of_their_tables_alone() {
    let (ground, mut client) = ground();
    for sql in [
        "select now(), id from items",
        "select current_timestamp, id from items",
        "select id from items where at < 'now'::timestamptz",
        "select id from items where at < 'tomorrow'",
        "select random(), id from items",
        "select nextval('ids'), id from items",
        "select gen_random_uuid(), id from items",
        "select loose(id) from items",
        "select settled(id) from items",
        "select own(id) from items",
        "select current_user, id from items",
        "select session_user from items",
        "select current_schema from items",
        "select current_setting('app.tenant_id', true), id from items",
        "select pg_backend_pid(), id from items",
        "select txid_current(), id from items",
        "select pg_advisory_xact_lock(1), id from items",
        "select pg_try_advisory_xact_lock(2), id from items",
        "select ctid, id from items",
        "select xmin, id from items",
        "select id from items tablesample system (100)",
        "select id from items for update",
        "select id from items for share",
        "select id from items for no key update",
        "select id from items for key share skip locked",
        "with gone as (delete from items where id = 99 returning id) select * from gone",
        "with kept as (update items set name = name where id = 1 returning id) select * from kept",
        "merge into items i using items j on false when matched then do nothing",
        "select relname from pg_class limit 1",
        "select table_name from information_schema.tables limit 1",
        "select 'items'::regclass, id from items",
        "select id from items where id in (select oid::int from pg_class)",
        "select line from remote",
        "select id from scratch",
        "select count from totals",
        "select last_value from ids",
        "select id from timely",
        "select 1",
        "values (1)",
        "select * from generate_series(1, 3)",
        "select noisy(id) from items",
        "show search_path",
        "explain select id from items",
        "table pg_class",
        "select query_to_xml('select 1', true, true, ''), id from items",
        "select to_char(at, 'YYYY'), id from items",
        "select id from items where name = 'unterminated",
        "select nothing from items",
        "select id from no_such_table",
        "select 1/(id - 1) from items",
        "select id from items; select name from items",
        "select id from items; ; select 1",
        "fetch all from nothing",
        "copy items to stdout",
        "copy (select id from items) to stdout",
    ] {
        ground.never_cached(sql, || client.query(sql));
        if !sql.contains(';') && !sql.starts_with("copy") {
            ground.never_cached(sql, || extended(&mut client, sql, &[]).reply());
        }
    }
    is_in_play(&ground);
    // What no rule can be blamed for: SELECT … INTO makes a table, each time another one.
    let mut n = 0;
    ground.never_cached("select into", || {
        n += 1;
        client.query(format!("select id into made_{n} from items")).ok()
    });
    is_in_play(&ground);
}

#[test]
fn a_type_of_somebodys_own_that_reads_tables() {
    let ground = Ground::new(
        "create table items (body text); insert into items values ('one');
         create type mood as enum ('good', 'bad');
         create function shows(mood) returns text language sql stable as 'select min(body) from items';
         create cast (mood as text) with function shows(mood);
         create table moods (m mood); insert into moods values ('good')",
    );
    let mut client = ground.client();
    for n in 0..3 {
        assert_eq!(
            client.query("select m::text from moods").value(),
            client.query("select min(body) from items").value()
        );
        client.query(format!("update items set body = 'body {n}'")).ok();
    }
    ground.never_cached("a cast that reads", || client.query("select m::text from moods").ok());
}

#[test]
fn parameters_that_mean_a_moment() {
    let (ground, mut client) = ground();
    let sql = "select id from items where at < $1::timestamptz";
    for moment in ["now", "tomorrow", " NOW "] {
        ground.never_cached(moment, || extended(&mut client, sql, &[moment]).reply().ok());
    }
    is_in_play(&ground);
}

#[test]
fn ways_to_execute_that_a_whole_answer_does_not_fit() {
    let (ground, mut client) = ground();
    let sql = "select id from items order by id";
    ground.until_hit(|| extended(&mut client, sql, &[]).reply().ok());
    ground.never_cached("describe alone", || {
        client.parse("", sql).say(frontend::describe(b'S', "")).sync().reply().ok();
        client.parse("", sql).bind("", &[]).say(frontend::describe(b'P', "")).sync().reply().ok()
    });
    ground.never_cached("a limit on rows, and a portal that was suspended", || {
        client.query("begin").ok();
        let mut reply = client.parse("", sql).bind("", &[]).say(frontend::execute("", 1)).sync().reply();
        assert_eq!((reply.rows().len(), reply.shape().as_str()), (1, "12DsZ"));
        reply = client.say(frontend::execute("", 0)).sync().reply().ok();
        assert_eq!(reply.rows(), [["2"]]);
        client.query("commit").ok()
    });
    ground.never_cached("while the unnamed portal may be gone on with", || {
        client.query("begin").ok();
        client.parse("", sql).bind("", &[]).say(frontend::execute("", 1)).sync().reply().ok();
        let reply = client.query(sql).ok();
        client.query("commit").ok();
        reply
    });
    ground.never_cached("flush", || {
        client.parse("", sql).bind("", &[]).execute().flush();
        let mut reply = client.read_until('C');
        reply.messages.extend(client.sync().reply().messages);
        assert_eq!(reply.shape(), "12DDCZ");
    });
    ground.never_cached("several executes before a Sync", || {
        for _ in 0..2 {
            client.parse("", sql).bind("", &[]).execute();
        }
        assert_eq!(client.sync().reply().ok().shape(), "12DDC12DDCZ");
    });
    is_in_play(&ground);
}

#[test]
fn transactions_that_see_something_of_their_own() {
    let (ground, mut client) = ground();
    let mut other = ground.client();
    let sql = "select name from items where id = 1";
    for begin in [
        "begin isolation level repeatable read",
        "begin isolation level serializable",
        "begin; set transaction isolation level repeatable read",
        "start transaction isolation level serializable read only deferrable",
    ] {
        ground.cached(&mut client, sql);
        client.query(begin).ok();
        assert_eq!(client.query("select name from items where id = 1").value(), "one");
        other.query("update items set name = 'other' where id = 1").ok();
        ground.cached(&mut other, sql);
        for _ in 0..3 {
            assert_eq!(client.query(sql).value(), "one", "all of {begin} sees the same");
        }
        // REPEATABLE READ may not write over what it does not see.
        client.query("rollback").ok();
        other.query("update items set name = 'one' where id = 1").ok();
    }
    client.query("set default_transaction_isolation = 'repeatable read'").ok();
    client.query("begin").ok();
    assert_eq!(client.query(sql).value(), "one");
    other.query("update items set name = 'other' where id = 1").ok();
    ground.cached(&mut other, sql);
    assert_eq!(client.query(sql).value(), "one", "the session's own default");
    client.query("commit").ok();
    client.query("reset default_transaction_isolation").ok();
    assert_eq!(client.query(sql).value(), "other");

    // Its own writes, and their end.
    ground.cached(&mut client, sql);
    client.query("begin").ok();
    client.query(sql).ok();
    client.query("update items set name = 'mine' where id = 1").ok();
    ground.never_cached("behind a write", || assert_eq!(client.query(sql).value(), "mine"));
    client.query("savepoint s; update items set name = 'again' where id = 1; rollback to s").ok();
    ground.never_cached("behind a savepoint", || assert_eq!(client.query(sql).value(), "mine"));
    assert_eq!(other.query(sql).value(), "other", "nobody else sees it");
    client.query("rollback").ok();
    assert_eq!(client.query(sql).value(), "other");

    // Locks that it holds.
    client.query("begin; select id from items where id = 1 for update").ok();
    ground.never_cached("behind a lock on rows", || client.query(sql).value());
    client.query("commit").ok();
    client.query("begin; lock table items in share mode").ok();
    ground.never_cached("behind a lock on a table", || client.query(sql).value());
    client.query("commit").ok();

    // A transaction that has failed answers nothing.
    client.query("begin").ok();
    client.query("select 1 / 0").error();
    assert_eq!(client.query(sql).error().code(), "25P02");
    client.query("rollback").ok();
    is_in_play(&ground);
}

#[test]
fn a_snapshot_that_was_imported_or_exported() {
    let (ground, mut client) = ground();
    let mut direct = ground.direct();
    direct.query("begin isolation level repeatable read").ok();
    let snapshot = direct.query("select pg_export_snapshot()").value();
    let sql = "select name from items where id = 1";
    let mut other = ground.client();
    other.query("update items set name = 'newer' where id = 1").ok();
    ground.cached(&mut other, sql);
    client.query(format!("begin isolation level repeatable read; set transaction snapshot '{snapshot}'")).ok();
    assert_eq!(client.query(sql).value(), "one");
    client.query("commit").ok();
    assert_eq!(client.query(sql).value(), "newer");
}

#[test]
fn a_temporary_table_of_the_same_name() {
    let (ground, mut client) = ground();
    let sql = "select name from items where id = 1";
    ground.cached(&mut client, sql);
    client.query("create temp table items as select 1 as id, 'temporary' as name").ok();
    for _ in 0..3 {
        assert_eq!(client.query(sql).value(), "temporary");
        assert_eq!(ground.client().query(sql).value(), "one");
    }
    client.query("drop table items").ok();
    assert_eq!(client.query(sql).value(), "one");
    // Behind a name that says nothing of it.
    let mut hidden = ground.client();
    hidden
        .query(
            "create function hides() returns int language plpgsql as \
        $$ begin create temp table items as select 1 as id, 'hidden' as name; return 1; end $$",
        )
        .ok();
    ground.cached(&mut hidden, sql);
    // All in one transaction: nobody else is on that server meanwhile, whatever the proxy knows of the function.
    hidden.query("begin; select hides()").ok();
    assert_eq!(hidden.query(sql).value(), "hidden");
    hidden.query("rollback").ok();
    is_in_play(&ground);
}

#[test]
fn a_session_that_a_function_may_have_changed() {
    let ground = Ground::new(
        "create schema a; create table a.items as select 'of a'::text as owner;
         create table public.items as select 'of public'::text as owner;
         create function moves(path text) returns int language plpgsql as
            $$ begin execute format('set search_path to %I', path); return 1; end $$",
    );
    let mut client = ground.client();
    let sql = "select owner from items";
    ground.cached(&mut client, sql);
    client.query("begin").ok();
    client.query("select public.moves('a')").ok();
    assert_eq!(client.query(sql).value(), "of a");
    client.query("rollback").ok();
    assert_eq!(client.query(sql).value(), "of public");
    client.query("begin; select public.moves('a'); do $$ begin set local search_path = public; end $$").ok();
    assert_eq!(client.query(sql).value(), "of public");
    client.query("do $$ begin perform set_config('search_path', 'a', true); end $$").ok();
    assert_eq!(client.query(sql).value(), "of a");
    client.query("commit").ok();
}

#[test]
fn strings_with_escapes() {
    let ground = Ground::new(r"create table items (name text); insert into items values ('a\'), ('b')");
    let mut client = ground.client();
    let sql = r"select name from items where name = 'a\\' or name = E'b'";
    let plain = ground.cached(&mut client, sql).rows();
    let odd = r"select name from items where name <> 'a\''b' order by name";
    for setting in ["set standard_conforming_strings = off", "reset standard_conforming_strings"] {
        client.query(setting).ok();
        let mut direct = ground.direct();
        direct.query(setting).ok();
        for sql in [sql, odd] {
            for _ in 0..3 {
                assert_eq!(client.query(sql).rows(), direct.query(sql).rows(), "{sql} behind {setting}");
            }
        }
    }
    assert_eq!(client.query(sql).rows(), plain);
}

#[test]
fn replies_with_something_else_in_them() {
    let (ground, mut client) = ground();
    let mut listener = ground.client();
    // A notice that comes with the rows: it would be kept for whoever asks next.
    let ground_notice = Ground::with(SCHEMA, |cache| cache.rules[0].pure_functions = vec!["noisy".into()]);
    let mut loud = ground_notice.client();
    ground_notice.cached(&mut loud, "select name from items where id = 1");
    ground_notice.never_cached("a notice", || {
        let reply = loud.query("select noisy(id) from items order by id").ok();
        assert_eq!(reply.notices().len(), 2, "each time: {reply:?}");
    });
    // Replies over the limit.
    let small = Ground::with(SCHEMA, |cache| cache.max_entry = 2_000);
    let mut reader = small.client();
    small.cached(&mut reader, "select name from items where id = 1");
    let wide = "select repeat(name, 1000) from items order by id";
    small.never_cached("a reply over the limit", || assert_eq!(reader.query(wide).ok().rows().len(), 2));
    let streamed = "select repeat(i.name, 1000) from items i, items j, items k, items l, items m, items n";
    small.never_cached("a long reply", || assert_eq!(reader.query(streamed).ok().rows().len(), 64));
    // Who listens hears in order.
    listener.query("listen channel").ok();
    client.query("notify channel, 'heard'").ok();
    listener.query("unlisten *").ok();
    is_in_play(&ground);
}

#[test]
fn what_no_rule_allows_and_what_one_denies() {
    let rule = |tables: &[&str]| config::CacheRule {
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        ttl: super::LONG,
        ..config::CacheRule::default()
    };
    let ground = Ground::with(
        "create table items (id int); create table secrets (id int); create table others (id int);
         create view seen as select id from secrets; insert into items values (1)",
        |cache| {
            let deny = config::CacheRule { effect: config::CacheEffect::Deny, ..rule(&["secrets"]) };
            let hinted = config::CacheRule { hinted: true, ..rule(&["others"]) };
            cache.rules = vec![rule(&["items", "seen", "secrets"]), hinted, deny];
        },
    );
    let mut client = ground.client();
    ground.cached(&mut client, "select id from items");
    for sql in [
        "select id from others",
        "select id from items, others o where o.id = items.id",
        "select id from secrets",
        "select id from seen",
        "select id from items /*+ cache off */",
        "/*+ cache off */ select id from items",
    ] {
        ground.never_cached(sql, || client.query(sql));
    }
    ground.cached(&mut client, "select id from others /*+ cache ttl=30 */");
    ground.cached(&mut client, "select id from items /* a comment */");
}

#[test]
fn an_answer_that_is_too_old() {
    let ground = Ground::with("create table items (id int); insert into items values (1)", |cache| {
        cache.rules[0].ttl = Duration::from_millis(300);
    });
    let mut client = ground.client();
    let sql = "select id from items";
    ground.cached(&mut client, sql);
    Cluster::shared().run(&ground.site.database, "update items set id = 2");
    integration_tests::eventually("the answer is too old", || client.query(sql).value() == "2");
    ground.cached(&mut client, sql);
    std::thread::sleep(Duration::from_millis(310));
    let (_, hit) = ground.asked(|| client.query(sql));
    assert!(!hit, "older than its rule allows");
}

const TAKES_TIME: &str = "create table items (id int); insert into items values (1);
    create function slow(n int) returns int language plpgsql immutable as
        $$ declare until timestamptz := clock_timestamp() + interval '250 ms';
        begin while clock_timestamp() < until loop end loop; return n; end $$";

#[test]
fn what_costs_the_server_nothing() {
    let ground = Ground::with(TAKES_TIME, |cache| {
        cache.min_cost = Duration::from_millis(150);
        cache.rules[0].pure_functions = vec!["slow".into()];
    });
    let mut client = ground.client();
    // Nobody else is there, and who is never rests: the catalog is read all the same.
    ground.cached(&mut client, "select slow(id) from items");
    ground.never_cached("cheap", || client.query("select id from items").ok());
}

#[test]
fn what_a_driver_asks_between_its_statements() {
    let (ground, mut client) = ground();
    for sql in ["", ";", "-- nothing", "discard all", "deallocate all", "set timezone = 'UTC'", "begin", "commit"] {
        ground.never_cached(sql, || client.query(sql));
    }
    is_in_play(&ground);
}
