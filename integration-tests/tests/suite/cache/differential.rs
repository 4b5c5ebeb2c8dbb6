//! Differential: each statement twice through the cache, in every way to ask, and the replies are those of the server to a
//! session of the same state, byte by byte.

use std::collections::BTreeMap;

use super::ways::{INT4, Pair, Question, TEXT, Way};
use super::{Ground, Random, seed};

const SCHEMA: &str = r#"
    create domain short as text;
    create table items (id int primary key, name text, x float8, r float4, n numeric, at timestamptz, day date,
        took interval, raw bytea, ok bool, j jsonb, js json, u uuid, tags text[], ints int[][], c char(5), v varchar(9),
        big bigint, small smallint, t time, ip inet, b bit(3), m money, xm xml, span int4range);
    insert into items select n, case when n % 3 = 0 then null when n % 3 = 1 then '' else 'név ' || n end,
        n / 3.0::float8, n / 7.0::float4, n * 1.10, '2026-11-29 12:00+00'::timestamptz + n * interval '1 hour',
        '2026-11-29'::date + n, n * interval '1 day 2 hours', decode(lpad(to_hex(n), 4, '0'), 'hex'),
        case n % 3 when 0 then true when 1 then false end, jsonb_build_object('n', n), '{"a" :1}',
        '00000000-0000-0000-0000-000000000001', array['a b', null, '"'], array[[1, n], [3, null]], 'ab', 'x',
        n::bigint << 33, n, '12:00', '10.0.0.1', b'101', 12.5, '<a/>', int4range(1, n + 1)
        from generate_series(1, 40) n;
    create table nothing ();
    insert into nothing default values; insert into nothing default values;
    create table empty (id int, name text);
    create table long (id int, body text);
    insert into long select n, repeat('0123456789', 700 * n) from generate_series(1, 3) n;
    create view named as select id, name from items where name <> '';
    create table "Odd ""Name" ("Col umn" int); insert into "Odd ""Name" values (1);
    create table partitioned (id int, name text) partition by hash (id);
    create table p0 partition of partitioned for values with (modulus 2, remainder 0);
    create table p1 partition of partitioned for values with (modulus 2, remainder 1);
    insert into partitioned select n, 'p' from generate_series(1, 9) n"#;

const QUESTIONS: &[Question] = &[
    Question::of("select * from items order by id", 25),
    Question::of("select id, name from items where id < 5 order by id", 2),
    Question::of("select name, ok from items where name is null order by id", 2),
    Question::of("select x, r, n, m from items order by id", 4),
    Question::of("select at, day, took, t from items order by id", 4),
    Question::of("select raw, j, js, u, tags, ints from items order by id", 6),
    Question::of("select from items", 0),
    Question::of("select from nothing", 0),
    Question::of("table nothing", 0),
    Question::of("select from items where id < 0", 0),
    Question::of("select * from empty", 2),
    Question::of("select count(*), max(id), min(name) from empty", 3),
    Question::of("select * from long order by id", 2),
    Question::of("select id, body from long where id = 3", 2),
    Question::of("select * from named order by id", 2),
    Question::of("select \"Col umn\" as \"A b\" from \"Odd \"\"Name\"", 1),
    Question::of("select * from partitioned order by id", 2),
    Question::of("select name as name, name as name from items where id = 2", 2),
    Question::of("select 1, null, '', 'a''b', id from items where id = 1", 5),
    Question::of(
        "with w as (select id from items where id < 3) select w.id, i.name from w join items i using (id) order by 1",
        2,
    ),
    Question::of("select id from items where id < 3 union all select id from p0 order by 1", 1),
    Question::of("/* a comment */ select id from items where id = 1 -- and another", 1),
    Question::of("select id from items where id = 2;", 1),
    Question::of("  (select id from items where id = 4)  ", 1),
    Question::of(
        "select case when id = 1 then name else 'x' end, coalesce(name, 'none'), id::text, name || 'x' from items order by id",
        4,
    ),
    Question::of("select row(id, name), array(select id from p1 order by id) from items order by id limit 3", 2),
    Question::of("select id, row_number() over (order by id) from items order by id offset 3", 2),
    Question { sql: "select * from items where id = $1", parameters: &[(Some("7"), INT4)], columns: 25 },
    Question { sql: "select * from items where id = $1", parameters: &[(Some("-7"), INT4)], columns: 25 },
    Question {
        sql: "select id from items where name = $1::text or $1::text is null order by id",
        parameters: &[(None, TEXT)],
        columns: 1,
    },
    Question {
        sql: "select id from items where name = $1::text or $1::text is null order by id",
        parameters: &[(Some(""), TEXT)],
        columns: 1,
    },
    Question {
        sql: "select id, $2::text from items where id = $1 and name = $2",
        parameters: &[(Some("2"), INT4), (Some("név 2"), TEXT)],
        columns: 2,
    },
];

/// Settings under which all is asked again.
const SESSIONS: &[&[&str]] = &[
    &[],
    &["set DateStyle = 'SQL, DMY'", "set TimeZone = 'Asia/Tokyo'", "set IntervalStyle = 'iso_8601'"],
    &["set extra_float_digits = 0", "set bytea_output = 'escape'", "set client_encoding = 'LATIN1'"],
    &["set search_path = pg_catalog, public", "set xmlbinary = 'hex'", "set lc_monetary = 'C'"],
];

/// Ways to ask that are the server's alone: as right as the others, and never from the cache.
const SERVER_ALONE: [Way; 2] = [Way::StatementDescribed, Way::NamedPortal];

/// Whether there is anything to ask for in this way.
fn may_be_asked(question: &Question, way: Way) -> bool {
    // A format for each column has to be that of a column that is there.
    way != Way::Mixed || question.columns > 0
}

#[test]
fn replies_are_those_of_the_server_to_the_last_byte() {
    let ground = Ground::new(SCHEMA);
    ground.cached(&mut ground.client(), "select id from items where id = 1");
    let mut counted: BTreeMap<Way, (usize, usize)> = BTreeMap::new();
    for session in SESSIONS {
        let mut pair = Pair::new(&ground, "postgres", &[]);
        session.iter().for_each(|sql| drop(pair.run(sql).ok()));
        for question in QUESTIONS {
            for way in Way::ALL.into_iter().filter(|way| may_be_asked(question, *way)) {
                pair.ask(question, way);
                // Once more for statements with a name: their first request is not the same as those behind it.
                pair.ask(question, way);
                let (_, hit) = ground.asked(|| pair.ask(question, way));
                let (asked, from_cache) = counted.entry(way).or_default();
                (*asked, *from_cache) = (*asked + 1, *from_cache + usize::from(hit));
                if !hit && !SERVER_ALONE.contains(&way) {
                    println!("not from the cache: {way:?} {}", question.sql);
                }
            }
        }
    }
    println!("{counted:?}; {}", ground.why());
    for (way, (asked, from_cache)) in counted {
        let expected = !SERVER_ALONE.contains(&way);
        assert!(!expected || from_cache * 10 >= asked * 9, "{way:?}: {from_cache} of {asked} came from the cache");
    }
}

#[test]
fn a_mixture_of_all_ways_and_sessions_stays_the_same() {
    let ground = Ground::new(SCHEMA);
    ground.cached(&mut ground.client(), "select id from items where id = 1");
    let mut random = Random(seed());
    let mut pairs: Vec<Pair> = SESSIONS
        .iter()
        .map(|session| {
            let mut pair = Pair::new(&ground, "postgres", &[]);
            session.iter().for_each(|sql| drop(pair.run(sql).ok()));
            pair
        })
        .collect();
    let end = std::time::Instant::now() + super::duration() / 2;
    let mut steps = 0;
    while std::time::Instant::now() < end {
        let place = random.below(pairs.len());
        let (question, way) = (*random.pick(QUESTIONS), *random.pick(&Way::ALL));
        let wraps = random.once_in(5);
        if wraps {
            let begin = random.pick(&["begin", "begin read only", "begin isolation level repeatable read"]);
            pairs[place].run(begin);
        }
        if may_be_asked(&question, way) {
            pairs[place].ask(&question, way);
        }
        if wraps {
            pairs[place].run("commit");
        }
        match random.below(60) {
            0 => drop(pairs[place].run("discard all")),
            // The same rows again, so that the direct side agrees whatever comes first.
            1 => drop(ground.client().query("update items set name = name").ok()),
            2 => drop(ground.client().query("truncate empty").ok()),
            3 => ground.caches().flush(),
            _ => {}
        }
        steps += 1;
    }
    println!("{steps} steps; {}", ground.why());
    assert!(steps > 50 && ground.hits() > 0, "{}", ground.why());
}

#[test]
fn several_requests_at_once_come_back_in_order() {
    let ground = Ground::new(SCHEMA);
    let (mut client, mut direct) = (ground.client(), ground.direct());
    ground.cached(&mut client, "select id from items where id = 1");
    // What is in the cache, what is not, what is never, an error, and a write in between.
    let round = |client: &mut integration_tests::RawClient| {
        for id in ["1", "2", "3"] {
            super::extended(client, "select id, name from items where id = $1", &[id]);
        }
        super::extended(client, "select now() is not null, id from items where id = $1", &["1"]);
        super::extended(client, "select 1 / (id - 1) from items where id = $1", &["1"]);
        super::extended(client, "update items set v = 'y' where id = $1", &["1"]);
        super::extended(client, "select id, v from items where id = $1", &["1"]);
        client.say(integration_tests::frontend::query("select id, v from items where id = 1"));
        client.send();
        (0..8).map(|_| client.reply_bytes()).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        assert_eq!(round(&mut client), round(&mut direct));
    }
}
