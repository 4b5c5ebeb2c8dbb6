//! `pgweir check --connect`: what a database lacks for the read cache, with SQL that mends it. What is printed is run, and
//! then nothing is missing.

use std::process::{Output, Stdio};

use integration_tests::process::pgweir;
use integration_tests::{Cluster, Scratch};

const TABLES: &str = "create table runs (id int primary key, state text);
    create schema audit;
    create table audit.log (line text);
    create table audit.unique_log (line text not null unique);
    create table events (at date not null, what text) partition by range (at);
    create table events_1 partition of events for values from ('2026-01-01') to ('2027-01-01');
    create table steps (id int primary key);
    create view running as select r.id from runs r join steps s using (id);
    create table members (id int primary key);
    alter table steps enable row level security;
    create policy own on steps using (id in (select m.id from members m));
    create unlogged table scratch (id int primary key);";

const RULES: &str = "[[cache.rule]]\ntables = ['running', 'audit.*', 'events', 'nowhere']\nttl = '5m'\n\
    [[cache.rule]]\nhinted = true\nttl = '1m'\n\
    [[cache.rule]]\ntables = ['by_time']\nttl = '1m'\nfreshness = 'ttl'\n";

/// Exit code, what is printed, what is complained about.
fn check(config: &str) -> (Option<i32>, String, String) {
    let folder = Scratch::new();
    let file = folder.file("pgweir.toml", config);
    let mut command = pgweir(&["check", "--connect", "--config", file.to_str().unwrap()]);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn config(cluster: &Cluster, user: &str, database: &str, more: &str) -> String {
    format!("[databases.app]\nupstream = 'postgres://{user}@{}/{database}'\n{more}", cluster.address())
}

/// The statements in what was printed.
fn sql(printed: &str) -> Vec<String> {
    let lines = printed.lines().map(str::trim).filter(|line| line.ends_with(';'));
    lines.filter(|line| line.starts_with("ALTER") || line.starts_with("CREATE")).map(str::to_owned).collect()
}

#[test]
fn what_a_database_lacks_is_told_and_what_is_printed_mends_it() {
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    let database = cluster.fresh_database();
    cluster.run(&database, TABLES);
    cluster.run("postgres", "create role reader login");
    cluster.run(&database, "create table by_time (id int)");
    let config = config(&cluster, "reader", &database, RULES);
    let (code, printed, complaint) = check(&config);
    assert_eq!(code, Some(1), "{printed}{complaint}");
    let expected = [
        "ALTER ROLE reader REPLICATION;",
        "ALTER TABLE audit.log REPLICA IDENTITY FULL;",
        "ALTER TABLE audit.unique_log REPLICA IDENTITY USING INDEX unique_log_line_key;",
        "ALTER TABLE public.events_1 REPLICA IDENTITY FULL;",
        "CREATE PUBLICATION pgweir_cache FOR TABLE audit.log, audit.unique_log, public.events, public.members, public.runs, public.steps;",
    ];
    assert_eq!(sql(&printed), expected, "{printed}");
    assert!(printed.contains("no table here is called nowhere") && printed.contains("name no table"), "{printed}");
    assert!(complaint.contains("1 databases"), "{complaint}");

    for statement in expected {
        cluster.run(&database, statement);
    }
    let (code, printed, complaint) = check(&config);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{printed}");
    assert!(printed.contains("has all 6 tables"), "{printed}");
    // Whoever is published can be changed still.
    cluster
        .run(&database, "insert into audit.log values ('a'); update audit.log set line = 'b'; delete from audit.log");
    cluster.run(&database, "insert into events values ('2026-02-02', 'a'); delete from events");

    // One of them is taken out again, and one is published in part.
    cluster.run(&database, "alter publication pgweir_cache drop table steps, runs, events");
    cluster.run(&database, "alter publication pgweir_cache add table runs where (id > 5), events_1");
    cluster.run(&database, "alter publication pgweir_cache set (publish = 'insert')");
    let (_, printed, _) = check(&config);
    let mends = sql(&printed);
    let expected = [
        "ALTER PUBLICATION pgweir_cache ADD TABLE public.steps;",
        "ALTER PUBLICATION pgweir_cache SET (publish = 'insert, update, delete, truncate');",
        "ALTER PUBLICATION pgweir_cache DROP TABLE public.runs;",
        "ALTER PUBLICATION pgweir_cache ADD TABLE public.runs;",
    ];
    assert_eq!(mends, expected, "all leaves of a partitioned table are as good as itself: {printed}");
    mends.iter().for_each(|statement| drop(cluster.run(&database, statement)));
    assert_eq!(check(&config).0, Some(0));
}

#[test]
fn a_server_without_logical_decoding_says_what_it_takes() {
    let cluster = Cluster::builder().setting("wal_level", "replica").setting("max_replication_slots", "0").start();
    let database = cluster.fresh_database();
    cluster.run(&database, TABLES);
    let (code, printed, _) = check(&config(&cluster, "postgres", &database, RULES));
    assert_eq!(code, Some(1), "{printed}");
    let mends = sql(&printed);
    assert_eq!(mends[..2], ["ALTER SYSTEM SET wal_level = 'logical';", "ALTER SYSTEM SET max_replication_slots = 4;"]);
    assert!(!printed.contains("ALTER ROLE"), "a superuser may: {printed}");

    // Nothing of it is needed where nobody else writes, where time alone ends answers, or where there are no rules.
    for rules in [
        format!("[cache]\nsole_writer = true\n{RULES}"),
        "[[cache.rule]]\ntables = ['runs']\nttl = '1m'\nfreshness = 'ttl'\n".to_owned(),
        String::new(),
    ] {
        let (code, printed, complaint) = check(&config(&cluster, "postgres", &database, &rules));
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{printed}");
        assert!(printed.contains("connect    app: PostgreSQL ") && !printed.contains("cache      "), "{printed}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_named_and_the_others_are_looked_at() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let more = "[databases.gone]\nupstream = 'postgres://a@127.0.0.1:1/b'\n\
        [databases.nobody]\nupstream = 'postgres://127.0.0.1:1/b'\n\
        [databases.'*']\nupstream = 'postgres://127.0.0.1:1'\n";
    let (code, printed, complaint) = check(&config(cluster, "postgres", &database, more));
    assert_eq!(code, Some(1), "{printed}");
    for said in
        ["app: PostgreSQL", "gone: a at 127.0.0.1:1/b: the connection was refused", "nobody: not tried", "*: stands"]
    {
        assert!(printed.contains(&format!("connect    {said}")), "{said}: {printed}");
    }
    assert!(complaint.contains("2 databases"), "{complaint}");
}
