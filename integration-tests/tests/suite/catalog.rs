//! What the read cache knows of a database: its catalog, as PostgreSQL says it, and what becomes of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Cache, CacheMode, CacheRule};
use integration_tests::cluster::{Builder, Stop};
use integration_tests::{Cluster, Proxy, RawClient, eventually, http};
use pgweir::cache::{Cached, View};
use policy::cache::catalog::{Acts, Allowed, Reads, Touched};
use policy::cache::{Bypass, Cause, Mode, Write};

const SCHEMA: &str = "
    create table runs (id int primary key, n int);
    create table steps (id int primary key, run int references runs on delete cascade on update set null);
    create table notes (id int, step int references steps on delete set null);
    create table log (what text);
    create table other (a int);
    create table counters (n int);
    create function log_change() returns trigger language plpgsql as
        $$ begin insert into log values ('x'); return new; end $$;
    create trigger t after update on notes for each row execute function log_change();
    create trigger asleep after insert on other for each row execute function log_change();
    alter table other disable trigger asleep;
    create table events (id int, day date) partition by range (day);
    create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
    create view recent as select id from runs where n > 1;
    create materialized view totals as select count(*) from runs;
    create unlogged table scratch (a int);
    create table facade (a int);
    create rule also as on insert to facade where new.a > 1
        do also (insert into other values (new.a); update runs set n = 1);
    create rule nothing as on delete to facade do instead nothing;
    create function counted() returns int language sql as 'update counters set n = n + 1 returning n';
    create table numbered (id int default counted());
    create function checked(int) returns boolean language plpgsql as
        $$ begin insert into log values ('y'); return true; end $$;
    create domain positive as int check (checked(value));
    create domain short as text check (length(value) < 9);
    create table domained (p positive[]);
    create table shorts (s short);
    create table secured (tenant text);
    alter table secured enable row level security;
    create policy own on secured using (tenant = current_setting('App.tenant'));
    create function same(int, int) returns boolean language sql as 'select true';
    create operator === (leftarg = int, rightarg = int, function = same);
    create function label(runs) returns text language sql stable as 'select $1.n::text';
    create function twice(int) returns int language sql immutable begin atomic select $1 * 2; end;
    create type mood as enum ('sad', 'happy');
    create table moods (m mood);
    create schema tenant_7;
    create table tenant_7.runs (id int);";

const TABLES: [&str; 17] = [
    "runs",
    "steps",
    "notes",
    "log",
    "other",
    "counters",
    "events",
    "events_2026",
    "totals",
    "scratch",
    "facade",
    "numbered",
    "domained",
    "shorts",
    "secured",
    "moods",
    "tenant_7.runs",
];

/// A database with a proxy before it that keeps its catalog.
struct Ground {
    cluster: Cluster,
    proxy: Proxy,
}

impl Ground {
    fn new(builder: Builder, change: impl FnOnce(&mut Cache)) -> Self {
        Self::before(builder.start(), change)
    }

    fn before(cluster: Cluster, change: impl FnOnce(&mut Cache)) -> Self {
        let mut cache = Cache {
            mode: CacheMode::On,
            sole_writer: true,
            catalog_poll: Duration::from_millis(50),
            rules: vec![CacheRule { tables: vec!["*".into()], ..CacheRule::default() }],
            ..Cache::default()
        };
        change(&mut cache);
        let proxy = Proxy::before(cluster.address()).with(|settings| settings.cache = cache).start();
        let ground = Self { cluster, proxy };
        ground.client().query("select 1").ok();
        ground
    }

    fn client(&self) -> RawClient {
        RawClient::login(self.proxy.address(), "postgres", "postgres")
    }

    /// Past the proxy.
    fn run(&self, sql: &str) {
        self.cluster.run("postgres", sql);
    }

    fn cached(&self) -> Arc<Cached> {
        self.proxy.caches().all().pop().expect("somebody has connected")
    }

    /// What is known now, once it is true.
    fn view(&self) -> Arc<View> {
        let mut found = None;
        let cached = self.cached();
        eventually("the catalog has been read", || {
            let epoch = cached.generations.epoch();
            found = cached.view().filter(|view| view.epoch.generation() == epoch);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for a view of which this is true.
    fn view_with(&self, what: &str, is_so: impl Fn(&View) -> bool) -> Arc<View> {
        eventually(what, || is_so(&self.view()));
        self.view()
    }

    fn oid(&self, name: &str) -> u32 {
        self.cluster.value("postgres", &format!("select '{name}'::regclass::oid")).parse().unwrap()
    }

    /// The tables that a statement reaches, in the words of a test.
    fn touched(&self, view: &View, sql: &str) -> String {
        let touched = view.catalog.touched(&Acts::of(sql.as_bytes()), Some(&["public"]), &|_| None);
        self.names(view, &touched)
    }

    fn names(&self, view: &View, touched: &Touched) -> String {
        if touched.is_everything() {
            return "everything".to_owned();
        }
        let reached = |name: &&str| view.catalog.reaches(touched, self.oid(name));
        let catalog = touched.is_catalog().then_some("catalog");
        TABLES.into_iter().filter(reached).chain(catalog).collect::<Vec<_>>().join(" ")
    }

    fn beside(&self) -> String {
        let text = http::fetch(self.proxy.admin(), "/metrics").body;
        let line = text.lines().find(|line| line.starts_with("pgweir_side_connections{kind=\"cache\"}"));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    }
}

fn reads(view: &View, sql: &str) -> Result<Reads, Bypass> {
    view.catalog.reads(sql.as_bytes(), &["public"], Allowed::NOTHING)
}

fn what_is_read_is_what_the_server_has(builder: Builder) {
    let ground = Ground::before(
        {
            let cluster = builder.start();
            cluster.run("postgres", SCHEMA);
            cluster
        },
        |_| (),
    );
    let view = ground.view();
    for (sql, reached) in [
        ("delete from runs", "runs steps notes log"),
        ("update runs set id = 1", "runs steps"),
        ("update steps set run = 1", "steps"),
        ("truncate runs cascade", "runs steps notes"),
        ("insert into notes values (1)", "notes"),
        ("insert into other values (1)", "other"),
        ("insert into events_2026 values (1)", "events events_2026"),
        ("insert into events values (1)", "events events_2026"),
        ("insert into recent values (1)", "runs"),
        ("insert into facade values (1)", "runs steps other facade"),
        ("delete from facade", "facade"),
        ("insert into numbered default values", "counters numbered"),
        ("delete from numbered", "numbered"),
        ("insert into domained values ('{1}')", "log domained"),
        ("insert into shorts values ('x')", "shorts"),
        ("insert into secured values ('x')", "secured"),
        ("insert into moods values ('sad')", "moods"),
        ("select counted()", "counters"),
        ("select twice(1), lower('X'), now()", ""),
        ("refresh materialized view totals", "totals"),
        ("drop table log", "catalog"),
        ("insert into elsewhere values (1)", "everything"),
    ] {
        assert_eq!(ground.touched(&view, sql), reached, "{sql}");
    }
    let tables = |sql: &str| reads(&view, sql).unwrap_or_else(|why| panic!("{sql}: {why:?}")).tables;
    let oids = |names: &[&str]| names.iter().map(|name| ground.oid(name)).collect::<BTreeSet<_>>();
    let set = |list: Vec<u32>| list.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(tables("select * from recent")), oids(&["recent", "runs"]));
    assert_eq!(set(tables("select m from moods, shorts")), oids(&["moods", "shorts"]));
    assert_eq!(set(reads(&view, "select * from events_2026").unwrap().through), oids(&["events"]));
    let secured = reads(&view, "select * from secured").unwrap();
    assert_eq!(secured.inputs.settings, BTreeSet::from(["app.tenant".to_owned()]));
    for (sql, why) in [
        ("select * from scratch", Bypass::UnloggedTable),
        ("select * from totals", Bypass::MaterializedView),
        ("select * from other where a === 1", Bypass::UserOperator),
        ("select p from domained", Bypass::UserType),
        ("select a::positive from other", Bypass::UserType),
        ("select runs.label from runs", Bypass::UserFunction),
        ("select counted() from other", Bypass::VolatileFunction),
        ("select now() from other", Bypass::VolatileFunction),
        ("select * from nowhere", Bypass::UnknownTable),
    ] {
        assert_eq!(reads(&view, sql).map(|_| ()), Err(why), "{sql}");
    }
    assert_eq!((view.unfit, ground.cached().trouble()), (None, None));
    assert!(view.catalog.relation(1259).is_none(), "the server's own tables are not among them");
    let none: BTreeSet<u32> = oids(&["recent", "totals"]);
    assert_eq!(view.published, none, "there is no publication, and a view has no rows that anybody writes");
}

#[test]
fn the_catalog_is_read_as_it_is() {
    what_is_read_is_what_the_server_has(Cluster::builder());
}

#[test]
fn the_newest_server_s_catalog_is_read_as_it_is() {
    if Cluster::has_version(18) {
        what_is_read_is_what_the_server_has(Cluster::builder().version(18));
    } else {
        println!("skipped: there is no PostgreSQL 18 here; `.ci/setup test` brings one where there is one to bring");
    }
}

#[test]
fn publications_event_triggers_and_paths_are_seen_when_they_change() {
    let ground = Ground::new(Cluster::builder().setting("wal_level", "logical"), |_| ());
    ground.run(SCHEMA);
    let view = ground.view_with("the tables are there", |view| view.catalog.relation(ground.oid("moods")).is_some());
    assert_eq!(view.paths.of("postgres"), Some(vec!["public".to_owned()]));
    ground.run("create publication pgweir_cache for table runs, events, notes where (id > 1)");
    let (runs, events, part) = (ground.oid("runs"), ground.oid("events"), ground.oid("events_2026"));
    let view = ground.view_with("the publication is seen", |view| view.published.contains(&runs));
    assert_eq!(view.published, [runs, events, part, ground.oid("recent"), ground.oid("totals")].into());
    ground.run("alter publication pgweir_cache set (publish = 'insert, update, delete')");
    ground.view_with("it no longer says all", |view| !view.published.contains(&runs));
    ground.run("alter publication pgweir_cache set (publish_via_partition_root = true, publish = 'insert, update, delete, truncate')");
    let view = ground.view_with("it says all again", |view| view.published.contains(&runs));
    assert!(view.published.contains(&events) && !view.published.contains(&part), "what is told of the root alone");
    let ddl = "drop table log";
    assert_eq!(ground.touched(&view, ddl), "catalog");
    ground.run("create function e() returns event_trigger language plpgsql as 'begin end'");
    ground.run("create event trigger e on ddl_command_end execute function e()");
    ground.view_with("the event trigger is seen", |view| ground.touched(view, ddl) == "everything");
    ground.run("create role anna");
    ground.run("create schema anna");
    let path = |view: &View, user: &str| view.paths.of(user).map(|path| path.join(" "));
    ground.view_with("her schema is seen", |view| path(view, "anna").as_deref() == Some("anna public"));
    ground.run("alter role anna in database postgres set search_path to tenant_7, \"$user\", gone");
    ground.view_with("her own path is seen", |view| path(view, "anna").as_deref() == Some("tenant_7 anna"));
    // From here on a session of ours begins with something else than the server's own.
    ground.run("alter role postgres set search_path to tenant_7");
    let view = ground.view_with("our own path is seen", |view| path(view, "postgres").as_deref() == Some("tenant_7"));
    assert_eq!(path(&view, "bob").as_deref(), Some("public"), "the files say it, and a superuser may read them");
    ground.run("alter role postgres reset search_path");
    ground.view_with("it is gone again", |view| path(view, "postgres").as_deref() == Some("public"));
    ground.run("alter role anna set default_transaction_isolation to serializable");
    ground.view_with("somebody begins otherwise", |view| view.unfit == Some(Bypass::Isolation));
    eventually("that is said", || ground.cached().trouble().is_some_and(|why| why.contains("isolation")));
    ground.run("alter role anna reset default_transaction_isolation");
    ground.view_with("nobody does", |view| view.unfit.is_none());
    eventually("all is well", || ground.cached().trouble().is_none());
}

#[test]
fn what_others_change_is_noticed_and_what_changes_nothing_is_not() {
    let ground = Ground::new(Cluster::builder(), |_| ());
    ground.run(SCHEMA);
    ground.run("create role anna; create sequence ids; insert into runs select n from generate_series(1, 1000) n");
    ground.view();
    let cached = ground.cached();
    let settle = || {
        let mut last = (cached.version(), Instant::now());
        eventually("nothing is read any more", || {
            if cached.version() != last.0 {
                last = (cached.version(), Instant::now());
            }
            last.1.elapsed() > Duration::from_millis(400)
        });
        last.0
    };
    for quiet in [
        "vacuum (analyze) runs",
        "vacuum pg_class",
        "analyze",
        "select nextval('ids')",
        "create temporary table t (id serial primary key, a text default 'x')",
        "create temporary view v as select 1",
        "truncate log",
        "reindex table runs",
        "update runs set n = n + 1",
        "select pg_stat_reset()",
        "checkpoint",
    ] {
        let before = settle();
        let mut beside = ground.cluster.connect("postgres");
        beside.query(quiet).ok();
        assert_eq!(settle(), before, "{quiet}");
    }
    for ddl in [
        "alter table runs rename column n to m",
        "alter table numbered add column m int",
        "alter table numbered drop column m",
        "grant select on runs to anna",
        "revoke select on runs from anna",
        "grant select (id) on runs to anna",
        "alter policy own on secured using (true)",
        "alter table secured force row level security",
        "alter table secured disable row level security",
        "alter view recent set (security_barrier = true)",
        "create or replace view recent as select id from runs where id > 7",
        "alter table other enable trigger asleep",
        "create or replace function counted() returns int language sql as 'select 1'",
        "alter function twice(int) volatile",
        "alter type mood rename value 'sad' to 'glum'",
        "alter domain short drop constraint short_check",
        "alter table steps drop constraint steps_run_fkey",
        "alter table events detach partition events_2026",
        "alter table runs rename to walks",
        "alter schema tenant_7 rename to tenant_8",
        "grant usage on schema tenant_8 to anna",
        "drop operator === (int, int)",
        "create cast (text as mood) with inout as assignment",
        "alter role anna bypassrls",
        "grant pg_read_all_data to anna",
        "alter role anna set search_path to x",
        "alter database postgres set search_path to public",
        "alter table numbered alter id set default 1",
        "create table new (a int)",
        "drop table new",
        "refresh materialized view totals",
        "create publication p",
        "alter text search configuration english drop mapping for url",
        "alter default privileges grant select on tables to anna",
    ] {
        let before = cached.generations.epoch();
        ground.run(ddl);
        eventually(&format!("it is noticed: {ddl}"), || cached.generations.epoch() != before);
        ground.view();
    }
}

#[test]
fn a_change_that_passes_here_is_read_at_once() {
    let ground = Ground::new(Cluster::builder(), |cache| cache.catalog_poll = Duration::from_secs(3600));
    ground.view();
    let mut client = ground.client();
    client.query("create table mine (a int)").ok();
    // Whoever asks stirs the keeper.
    client.query("select * from mine").ok();
    let began = Instant::now();
    ground.view_with("it is there", |view| view.catalog.relation(ground.oid("mine")).is_some());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn lost_writers_are_asked_after_whatever_the_mode_is() {
    let ground = Ground::new(Cluster::builder().setting("max_prepared_transactions", "5"), |_| ());
    ground.run("create table t (a int)");
    for mode in [Mode::On, Mode::Off] {
        ground.proxy.caches().set_mode(mode);
        let cached = ground.cached();
        let mut writer = ground.cluster.connect("postgres");
        let process: i32 = writer.query("select pg_backend_pid()").value().parse().unwrap();
        let mut other = ground.cluster.connect("postgres");
        other.query("begin").ok();
        other.query("insert into t values (1)").ok();
        other.query("prepare transaction 'it''s mine'").ok();
        let write = || Write::begin(&cached.generations, policy::cache::Footprint::unknown());
        cached.generations.hold(Cause::Backend { process, started: 0 }, write());
        cached.generations.hold(Cause::Prepared("it's mine".into()), write());
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(cached.generations.unresolved().len(), 2, "both are under way");
        drop(writer);
        let is_prepared = |cause: &Cause| matches!(cause, Cause::Prepared(_));
        eventually("the process is gone", || cached.generations.unresolved().iter().all(is_prepared));
        assert_eq!(cached.generations.unresolved().len(), 1);
        other.query("rollback prepared 'it''s mine'").ok();
        eventually("it is rolled back", || cached.generations.unresolved().is_empty());
        assert!(cached.generations.epoch().is_even() && cached.generations.dropped_writes() == 0);
    }
    eventually("nothing is wanted of the server any more", || ground.beside() == "0");
}

#[test]
fn nothing_holds_that_was_read_over_a_lost_connection() {
    let ground = Ground::new(Cluster::builder(), |_| ());
    let cached = ground.cached();
    let before = ground.view();
    ground.run(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where backend_type = 'client backend' and pid <> pg_backend_pid()",
    );
    eventually("another epoch has begun", || cached.generations.epoch() != before.epoch.generation());
    ground.client().query("select 1").ok();
    ground.view();
    eventually("all is well again", || cached.trouble().is_none());
    ground.cluster.stop(Stop::Fast);
    eventually("there is trouble", || cached.trouble().is_some() && cached.view().is_none());
    ground.cluster.start();
    eventually("a client gets through", || {
        RawClient::try_login(ground.proxy.address(), &[("user", "postgres"), ("database", "postgres")], "")
            .is_ok_and(|mut client| client.query("select 1").errors().is_empty())
    });
    ground.view();
    eventually("all is well again", || cached.trouble().is_none());
}

#[test]
fn a_standby_is_not_cached_until_it_is_promoted() {
    let primary = Cluster::builder().start();
    let ground = Ground::before(primary.replica(), |_| ());
    assert_eq!(ground.view().unfit, Some(Bypass::Standby));
    eventually("that is said", || ground.cached().trouble().is_some_and(|why| why.contains("standby")));
    ground.cluster.promote();
    ground.view_with("it is promoted", |view| view.unfit.is_none());
    eventually("all is well", || ground.cached().trouble().is_none());
}

#[test]
fn there_is_no_connection_where_nothing_is_cached() {
    let ground = Ground::new(Cluster::builder(), |cache| cache.mode = CacheMode::Off);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((ground.beside().as_str(), ground.cached().view().is_none()), ("0", true));
    ground.proxy.caches().set_mode(Mode::On);
    ground.view();
    assert_eq!(ground.beside(), "1");
    ground.proxy.caches().set_mode(Mode::Off);
    eventually("it is closed", || ground.beside() == "0");
    eventually("nothing is known", || ground.cached().view().is_none());
}
