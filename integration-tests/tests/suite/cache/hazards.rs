//! The ways in which other proxies' caches have served wrong rows, one by one.
//!
//! A setting that shapes a value or finds another table; a write that its text does not show. Each test has the plain
//! statement answered from the cache first: there is something that could be served wrongly.

use integration_tests::patience::PATIENCE;
use integration_tests::{Cluster, RawClient, eventually, http, within};

use super::Ground;

/// An answer that is in the cache differs once this is set, and is the first one again when it is not.
fn follows_setting(schema: &str, read: &str, setting: &str, reset: &str) {
    let ground = Ground::new(schema);
    let (mut client, mut direct) = (ground.client(), ground.direct());
    let plain = ground.cached(&mut client, read).rows();
    for _ in 0..2 {
        for sql in [setting, reset] {
            client.query(sql).ok();
            direct.query(sql).ok();
            let wanted = direct.query(read).ok().rows();
            assert_eq!(wanted == plain, sql == reset, "{sql} makes no difference here, or one that stays");
            for _ in 0..3 {
                assert_eq!(client.query(read).ok().rows(), wanted, "behind {sql}");
            }
        }
    }
    // In a transaction alone, and for another client not at all.
    let wanted = {
        direct.query(setting).ok();
        direct.query(read).rows()
    };
    client.query("begin").ok();
    client.query(setting.replacen("set ", "set local ", 1)).ok();
    assert_eq!(client.query(read).rows(), wanted, "in a transaction");
    assert_eq!(ground.client().query(read).rows(), plain, "for another client meanwhile");
    client.query("rollback").ok();
    assert_eq!(client.query(read).rows(), plain, "behind the transaction");
    // By parameters of the connection's own.
    let (name, value) = setting.trim_start_matches("set ").split_once(" = ").expect("set NAME = VALUE");
    let mut other = ground.site.client_with(&[("options", &format!("-c {name}={}", value.replace([' ', '\''], "")))]);
    for _ in 0..3 {
        assert_eq!(other.query(read).ok().rows(), wanted, "by startup parameters");
    }
    // Both are kept side by side.
    ground.cached(&mut other, read);
    ground.cached(&mut client, read);
}

/// An answer that is in the cache is another one behind this write, which does not name the table.
fn follows_write(schema: &str, read: &str, write: &str) {
    follows(&Ground::new(schema), read, |client| drop(client.query(write).ok()));
}

fn follows(ground: &Ground, read: &str, write: impl Fn(&mut RawClient)) {
    let (mut client, mut writer) = (ground.client(), ground.client());
    let before = ground.cached(&mut client, read).rows();
    write(&mut writer);
    let after = client.query(read).ok().rows();
    assert_eq!(after, ground.direct().query(read).rows(), "behind the write");
    assert_ne!(after, before, "the write changes nothing here");
    assert_eq!(ground.cached(&mut client, read).rows(), after, "once it is cached again");
}

const TWO_SCHEMAS: &str = "create schema a; create schema b;
    create table a.runs as select 'of a' as owner; create table b.runs as select 'of b' as owner;
    create table public.runs as select 'of public' as owner";

#[test]
fn a_search_path() {
    follows_setting(TWO_SCHEMAS, "select owner from runs", "set search_path = a", "reset search_path");
    follows_setting(TWO_SCHEMAS, "select owner from runs", "set search_path = b", "set search_path = public");
}

#[test]
fn a_date_style() {
    let schema = "create table runs (at date); insert into runs values ('2026-11-29')";
    follows_setting(schema, "select at from runs", "set DateStyle = 'German'", "reset DateStyle");
}

/// What a constant means is decided when its statement is prepared: the style that holds when it is executed says nothing.
#[test]
fn a_constant_that_was_prepared_under_another_date_style() {
    let schema = "create table runs (at date, n int); insert into runs values ('2020-01-02', 1), ('2020-02-01', 2)";
    let ground = Ground::new(schema);
    let mut client = ground.client();
    client.query("set DateStyle = 'ISO, MDY'").ok();
    client.parse("dated", "select n from runs where at = '01/02/2020'").sync().reply().ok();
    let ask = |client: &mut RawClient| client.bind("dated", &[]).execute().sync().reply().value().to_owned();
    assert_eq!(ground.until_hit(|| ask(&mut client)), "1");
    client.query("set DateStyle = 'ISO, DMY'").ok();
    ground.never_cached("prepared under another style", || ask(&mut client));
    client.query("set DateStyle = 'ISO, MDY'").ok();
    client.query("begin").ok();
    client.query("set local DateStyle = 'ISO, DMY'").ok();
    client.parse("local", "select n from runs where at = '02/01/2020'").sync().reply().ok();
    client.query("commit").ok();
    ground.never_cached("prepared under a style of the transaction", || {
        client.bind("local", &[]).execute().sync().reply().value().to_owned()
    });
}

#[test]
fn extra_float_digits() {
    let schema = "create table runs (x float8); insert into runs values (0.1::float8 + 0.2)";
    follows_setting(schema, "select x from runs", "set extra_float_digits = -5", "reset extra_float_digits");
}

#[test]
fn a_bytea_output() {
    let schema = r"create table runs (raw bytea); insert into runs values ('\x00ff61')";
    follows_setting(schema, "select raw from runs", "set bytea_output = 'escape'", "reset bytea_output");
}

#[test]
fn a_time_zone() {
    let schema = "create table runs (at timestamptz); insert into runs values ('2026-11-29 12:00+00')";
    follows_setting(schema, "select at from runs", "set TimeZone = 'Asia/Tokyo'", "reset TimeZone");
}

#[test]
fn an_interval_style() {
    let schema = "create table runs (took interval); insert into runs values ('1 day 2:03')";
    follows_setting(schema, "select took from runs", "set IntervalStyle = 'iso_8601'", "reset IntervalStyle");
}

const CASCADES: &str = "create table runs (id int primary key);
    create table steps (id int primary key, run int references runs on delete cascade on update cascade);
    create table notes (id int, step int references steps on delete set null);
    insert into runs values (1), (2); insert into steps values (10, 1), (20, 2); insert into notes values (1, 10)";

#[test]
fn a_foreign_key_that_cascades() {
    follows_write(CASCADES, "select id, run from steps order by id", "delete from runs where id = 1");
    follows_write(CASCADES, "select id, run from steps order by id", "update runs set id = 3 where id = 1");
    follows_write(CASCADES, "select id, step from notes", "delete from runs where id = 1");
}

#[test]
fn a_table_that_a_trigger_writes() {
    let schema = "create table runs (id int); create table log (id int); create schema app;
        create function app.note(id int) returns void language sql as 'insert into log values ($1)';
        create function app.on_run() returns trigger language plpgsql as
            $$ begin perform app.note(new.id); return new; end $$;
        create trigger t after insert on runs for each row execute function app.on_run()";
    follows_write(schema, "select id from log", "insert into runs values (7)");
    // By a text that is put together at run time, nobody can tell what.
    let dynamic = "create table runs (id int); create table log (id int);
        create function on_run() returns trigger language plpgsql as
            $$ begin execute format('insert into %I values ($1)', 'l' || 'og') using new.id; return new; end $$;
        create trigger t after insert on runs for each row execute function on_run()";
    follows_write(dynamic, "select id from log", "insert into runs values (7)");
}

#[test]
fn a_volatile_function() {
    let ground = Ground::new(
        "create table runs (id int); insert into runs values (1);
         create table ticks (n int); insert into ticks values (0);
         create function tick() returns int language sql as 'update ticks set n = n + 1 returning n'",
    );
    let (mut client, mut other) = (ground.client(), ground.client());
    ground.cached(&mut client, "select id from runs");
    let drawn: Vec<String> = (0..5).map(|_| client.query("select random() from runs").value()).collect();
    assert!(drawn.windows(2).all(|two| two[0] != two[1]), "{drawn:?}");
    for n in 1..4 {
        assert_eq!(client.query("select tick() from runs").value(), n.to_string());
        assert_eq!(other.query("select n from ticks").value(), n.to_string(), "what a call in a read has written");
    }
    ground.cached(&mut other, "select n from ticks");
    client.query("select tick() from runs").ok();
    assert_eq!(other.query("select n from ticks").value(), "4");
}

const PARTS: &str = "create table events (id int, at int, name text) partition by range (at);
    create table events_1 partition of events for values from (0) to (10);
    create table events_2 partition of events for values from (10) to (20) partition by range (at);
    create table events_2a partition of events_2 for values from (10) to (15);
    create table events_2b partition of events_2 for values from (15) to (20);
    insert into events values (1, 1, 'one'), (2, 12, 'two')";

#[test]
fn a_partitioned_table_whose_leaf_is_written() {
    follows_write(PARTS, "select id, name from events order by id", "update events_2a set name = 'new'");
    follows_write(PARTS, "select id, name from events order by id", "insert into events_1 values (3, 3, 'three')");
    follows_write(PARTS, "select id, name from events_2 order by id", "delete from events_2a");
    follows_write(PARTS, "select id, name from events order by id", "truncate events_2");
}

#[test]
fn a_leaf_whose_partitioned_table_is_written() {
    follows_write(PARTS, "select id, name from events_2a", "update events set name = 'new'");
    follows_write(PARTS, "select id, name from events_2b", "insert into events values (3, 17, 'three')");
    follows_write(PARTS, "select id, name from events_2a", "update events_2 set at = 16");
    follows_write(PARTS, "select id, name from events_1", "truncate events");
    let parents = "create table base (n int); create table derived () inherits (base); insert into derived values (1)";
    follows_write(parents, "select n from derived", "update base set n = 2");
    follows_write(parents, "select n from base", "update derived set n = 2");
}

#[test]
fn a_merge() {
    let schema = "create table runs (id int, n int); create table steps (run int, n int);
        insert into runs values (1, 1); insert into steps values (1, 5), (2, 6)";
    let merge = "merge into runs r using steps s on r.id = s.run \
        when matched then update set n = s.n when not matched then insert values (s.run, s.n)";
    follows_write(schema, "select id, n from runs order by id", merge);
}

#[test]
fn a_do_block() {
    let schema = "create table runs (id int); insert into runs values (1)";
    follows_write(schema, "select id from runs", "do $$ begin update runs set id = 2; end $$");
    follows_write(schema, "select id from runs", "do $$ begin execute 'update ' || 'runs set id = 2'; end $$");
}

#[test]
fn a_truncate_that_cascades() {
    follows_write(CASCADES, "select id, step from notes", "truncate runs cascade");
    follows_write(CASCADES, "select id, run from steps order by id", "truncate table only runs cascade");
}

#[test]
fn a_view_whose_tables_are_written() {
    let schema = "create table runs (id int, n int); insert into runs values (1, 1), (2, 2);
        create view big as select id, n from runs where n > 0; create view bigger as select id, n from big where n > 1";
    follows_write(schema, "select id, n from bigger order by id", "update runs set n = n + 1");
    follows_write(schema, "select id, n from runs order by id", "update bigger set n = 9");
    follows_write(schema, "select id, n from big order by id", "insert into bigger values (3, 3)");
    let ruled = "create table runs (id int); create table log (id int); create view facade as select id from runs;
        create rule r as on insert to facade do instead insert into log values (new.id)";
    follows_write(ruled, "select id from log", "insert into facade values (1)");
    let also = "create table runs (id int); create table log (id int);
        create rule r as on insert to runs do also insert into log values (new.id)";
    follows_write(also, "select id from log", "insert into runs values (1)");
}

#[test]
fn a_write_past_the_proxy() {
    let (cluster, ground) =
        super::instances::listening("create table runs (id int primary key); insert into runs values (1)");
    let mut client = RawClient::login(ground.address(), "postgres", "postgres");
    let caches = ground.caches();
    let hits = || caches.counters.hits.load(std::sync::atomic::Ordering::Relaxed);
    super::instances::until_hit(caches, &mut client, "select id from runs");
    let mut beside = cluster.connect("postgres");
    for n in 2..20 {
        beside.query(format!("update runs set id = {n}")).ok();
        std::thread::sleep(policy::cache::MAX_LAG + std::time::Duration::from_millis(30));
        assert_eq!(client.query("select id from runs").value(), n.to_string(), "{} hits", hits());
        super::instances::until_hit(caches, &mut client, "select id from runs");
    }
}

#[test]
fn words_that_hide_a_write() {
    let schema = "create table runs (id int primary key, n int); insert into runs values (1, 1);
        create function app(n int) returns int language sql as 'update runs set n = $1 returning n';
        create procedure finish(n int) language plpgsql as $$ begin update runs set n = $1; commit; end $$;
        create function odd(a int, b int) returns int language sql as 'update runs set n = $1 + $2 returning n';
        create operator <~> (leftarg = int, rightarg = int, function = odd);
        create type mood as enum ('good'); create table other (n int default app(8))";
    for write in [
        "explain analyze update runs set n = 2",
        "with w as (update runs set n = 3 returning n) select count(*) from w",
        "select app(4)",
        "call finish(5)",
        "select 1; update runs set n = 6; select 2",
        "prepare p as update runs set n = $1; execute p(7); deallocate p",
        "insert into other default values",
        "select 3 <~> 4",
        "insert into runs values (1, 1) on conflict (id) do update set n = 9",
        "/* select */ update/**/\"runs\" set n = 10",
        "delete from only runs; insert into runs values (1, 11)",
        "begin; update runs set n = 12; commit",
        "begin; savepoint s; update runs set n = 13; release s; commit and chain; rollback",
        "create table fresh as select app(14)",
        "select * from (values (app(15))) v",
        "copy (select app(16)) to stdout",
        "declare c cursor with hold for select app(17); fetch all c; close c",
        "values (app(18))",
        "lock table runs; update runs set n = 19",
    ] {
        follows_write(schema, "select id, n from runs", write);
    }
}

#[test]
fn a_copy() {
    let ground = Ground::new("create table runs (id int)");
    follows(&ground, "select id from runs", |client| {
        client.start_query("copy runs from stdin").read_until('G');
        client.say(integration_tests::frontend::copy_data(b"1\n2\n")).say(integration_tests::frontend::copy_done());
        client.reply().ok();
    });
}

#[test]
fn a_function_call_by_protocol() {
    let ground = Ground::new(
        "create table runs (id int); insert into runs values (1);
         create function app(n int) returns int language sql as 'update runs set id = $1 returning id'",
    );
    let oid: u32 =
        Cluster::shared().value(&ground.site.database, "select 'app(int)'::regprocedure::oid").parse().unwrap();
    follows(&ground, "select id from runs", |client| {
        client.say(integration_tests::frontend::function_call(oid, &[&7i32.to_be_bytes()]));
        client.reply().ok();
    });
}

#[test]
fn a_statement_that_fails_in_the_middle_or_is_prepared_by_protocol() {
    let schema = "create table runs (id int, n int); insert into runs values (1, 1)";
    let ground = Ground::new(schema);
    // The first statement of a text is undone with the second one.
    let mut client = ground.client();
    let before = ground.cached(&mut client, "select id, n from runs").rows();
    client.query("update runs set n = 2; select 1 / 0");
    assert_eq!(client.query("select id, n from runs").rows(), before);
    // Not where a COMMIT stands between them.
    follows(&ground, "select id, n from runs", |client| {
        client.query("begin; update runs set n = 3; commit; select 1 / 0").error();
    });
    follows(&ground, "select id, n from runs", |client| {
        client.parse("w", "update runs set n = n + $1").sync().reply().ok();
        client.bind("w", &["1"]).execute().sync().reply().ok();
    });
    // Without a Sync in between, and one of them known by its name alone.
    follows(&ground, "select id, n from runs", |client| {
        client.parse("w2", "update runs set n = n + $1").bind("w2", &["1"]).execute().bind("w2", &["1"]).execute();
        client.sync().reply().ok();
    });
}

/// ALTER DATABASE … SET changes nothing for server connections that are there: what they answer is no answer of those to
/// come.
#[test]
fn a_search_path_that_sessions_begin_with() {
    let begin_in = |schema: &str| {
        let alter = format!("alter database %I set search_path = {schema}");
        format!("do $$ begin execute format('{alter}', current_database()); end $$;")
    };
    let ground = Ground::new(&format!(
        "create schema one; create table one.runs (n int); insert into one.runs values (1);
         create schema two; create table two.runs (n int); insert into two.runs values (2); {}",
        begin_in("one")
    ));
    let (mut client, read) = (ground.client(), "select n from runs");
    assert_eq!(ground.cached(&mut client, read).value(), "1");
    // Not by a DO, behind which its connection would be cleaned, and another one be used meanwhile.
    client.query(format!("alter database {} set search_path = two", ground.site.database)).ok();
    let refused = || http::fetch(ground.site.admin(), "/api/v1/cache").json()["refused"]["catalog_changed"].clone();
    let before = refused().as_u64().unwrap_or(0);
    // Its connection goes on as it began, and so do the answers that come over it; none of them is kept.
    let known = within(PATIENCE, || {
        assert_eq!(client.query(read).ok().value(), "1");
        refused().as_u64().is_some_and(|refused| refused > before + 3)
    });
    assert!(known, "{}", ground.why());
    http::change(ground.site.admin(), "POST", "/api/v1/reconnect", "");
    // Anew, over a connection that has begun with the other one.
    let mut other = ground.client();
    eventually("the old connection is gone", || other.query(read).ok().value() == "2");
    (0..20).for_each(|_| assert_eq!(other.query(read).ok().value(), "2"));
    assert_eq!(ground.cached(&mut other, read).value(), "2");
}

#[test]
fn a_materialized_view_that_is_refreshed() {
    let ground = Ground::with(
        "create table items (id int); insert into items values (1);
         create materialized view totals as select count(*) as n from items; create unique index on totals (n)",
        |cache| cache.rules[0].materialized = true,
    );
    let (mut client, mut writer) = (ground.client(), ground.client());
    let sql = "select n from totals";
    ground.cached(&mut client, sql);
    let ways = [
        "refresh materialized view totals",
        "refresh materialized view concurrently totals",
        "do $$ begin execute 'refresh materialized view totals'; end $$",
    ];
    for (n, refresh) in (2..).zip(ways) {
        writer.query(format!("insert into items values ({n})")).ok();
        assert_eq!(client.query(sql).value(), (n - 1).to_string(), "nobody has refreshed it");
        writer.query(refresh).ok();
        assert_eq!(client.query(sql).value(), n.to_string(), "{refresh}");
        assert_eq!(ground.cached(&mut client, sql).value(), n.to_string());
    }
}
