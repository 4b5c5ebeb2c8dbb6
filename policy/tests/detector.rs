//! The detector over generated traffic: what must be found, what never may be, and what must not matter.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod support;

use policy::observe::{Thresholds, TraceId};
use support::{Bench, Datum, Random, Stream, kinds, run, text};

fn development() -> Thresholds {
    Thresholds::from(config::Profile::Development)
}

fn production() -> Thresholds {
    Thresholds::from(config::Profile::Production)
}

/// A key of one of the types that applications use, in one of the formats that drivers use.
fn key(kind: u64, binary: bool, number: u64) -> Datum {
    match (kind, binary) {
        (0, false) => text(number),
        (0, true) => Datum::Binary(u32::try_from(number).unwrap().to_be_bytes().to_vec()),
        (1, false) => text(number + 5_000_000_000),
        (1, true) => Datum::Binary((number + 5_000_000_000).to_be_bytes().to_vec()),
        (2, false) => {
            let hex = format!("{:032x}", u128::from(number) * 0x1234_5678_9abc_def1_0000_0001);
            text(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
        }
        (2, true) => Datum::Binary((u128::from(number) * 0x1234_5678_9abc_def1_0000_0001).to_be_bytes().to_vec()),
        _ => text(format!("key-{number}")),
    }
}

/// A list page and one statement per row: any key type, format, size, spread and jitter.
fn n_plus_one(random: &mut Random, client: u32) -> Stream {
    let kind = random.below(4);
    let (parent_binary, child_binary) = (random.below(2) == 1, random.below(2) == 1);
    let size = 5 + random.below(60);
    let start = 100 + random.below(5_000);
    let connections = 1 + random.below(20);
    let parallel = random.below(3) == 0;
    let child = [
        "select * from comments where post_id = $1",
        "select count(*) from comments where post_id = $1",
        "update posts set seen = true where id = $1",
    ][random.below(3) as usize];
    let mut stream = Stream { client, now_us: 1_000_000 + random.below(1_000_000), ..Stream::default() };
    let rows = (0..size).map(|row| vec![key(kind, parent_binary, start + 3 * row), text("title")]).collect();
    stream.send("select id, title from posts where blog_id = $1", vec![text(7)]).returns(&["id", "title"], rows);
    for row in 0..size {
        stream.connection = u64::from(client) * 100 + 1 + random.below(connections);
        stream.pause_us = 100 + random.below(4_000);
        let before = stream.now_us;
        stream.send(child, vec![key(kind, child_binary, start + 3 * row)]).returns(&["id"], vec![vec![text(row)]]);
        if parallel {
            stream.now_us = before + 5 + random.below(30);
        }
    }
    stream
}

/// Traffic that is none: what a detector that counts would report.
fn innocent(random: &mut Random, client: u32, which: u64) -> Stream {
    let mut stream = Stream { client, now_us: 1_000_000 + random.below(1_000_000), ..Stream::default() };
    let base = u64::from(client) * 1_000;
    let many = 20 + random.below(40);
    for turn in 0..many {
        stream.pause_us = 100 + random.below(6_000);
        stream.connection = base + 1 + random.below(20);
        match which {
            0 => drop(stream.send("select * from users where email = $1", vec![text(format!("u{turn}@x"))])),
            1 => {
                let page = (0..20).map(|row| vec![text(turn * 20 + row + 1)]).collect();
                stream
                    .send("select id from big where id > $1 order by id limit 20", vec![text(turn * 20)])
                    .returns(&["id"], page);
            }
            2 => {
                let job = text(random.below(1_000_000));
                let poll = "select id from jobs where state = 'new' order by id limit 1 for update skip locked";
                stream.send(poll, vec![]).returns(&["id"], vec![vec![job.clone()]]);
                stream.send("update jobs set state = 'done' where id = $1", vec![job]);
            }
            3 => {
                stream.connection = base + turn % 8;
                stream.send("update workers set seen = now() where id = $1", vec![text(turn % 8 + 5_000)]);
            }
            4 => {
                stream.connection = base;
                let account = text(random.below(100_000));
                for (sql, parameters) in [
                    ("begin", vec![]),
                    (
                        "update pgbench_accounts set abalance = abalance + $1 where aid = $2",
                        vec![text(random.below(5_000)), account.clone()],
                    ),
                    ("select abalance from pgbench_accounts where aid = $1", vec![account.clone()]),
                    (
                        "update pgbench_tellers set tbalance = tbalance + $1 where tid = $2",
                        vec![text(1), text(random.below(10_000))],
                    ),
                    ("insert into pgbench_history (tid, aid) values ($1, $2)", vec![text(1), account]),
                    ("commit", vec![]),
                ] {
                    stream.send(sql, parameters);
                }
            }
            5 => drop(stream.send("select pg_advisory_lock($1)", vec![text(turn)])),
            6 => drop(
                stream
                    .send("select * from a where id in ($1, $2, $3)", vec![text(turn), text(turn + 1), text(turn + 2)]),
            ),
            7 => {
                let list = (0..20).map(|row| vec![text(10_000 + row)]).collect();
                stream.send("select id from posts where blog_id = $1", vec![text(turn)]).returns(&["id"], list);
                stream.send("select * from posts where id = $1", vec![text(10_000 + random.below(20))]);
            }
            8 => {
                stream.connection = base;
                stream.send(&format!("create table t{turn} (id int)"), vec![]);
                stream.send("insert into schema_migrations (version) values ($1)", vec![text(20_260_000 + turn)]);
            }
            9 => drop(stream.send("insert into events (job_id, kind) values ($1, $2)", vec![text(turn), text("step")])),
            10 => {
                stream.connection = base;
                stream.send("select id from big order by id limit $1 offset $2", vec![text(20), text(turn * 20)]);
            }
            _ => {
                stream.connection = base;
                stream.send("update accounts set balance = $1 where id = $2", vec![text(1), text(77)]).error =
                    Some(*b"40001");
            }
        }
    }
    stream
}

#[test]
fn generated_n_plus_ones_are_found_and_innocent_traffic_is_silent() {
    let mut random = Random(20);
    let (mut found, mut expected, mut wrong) = (0, 0, Vec::new());
    for round in 0..150 {
        let stream = n_plus_one(&mut random, 0);
        let findings = run(&stream.statements, &production());
        let kind = if stream.statements[1].sql.starts_with("update") { "n_plus_one_write" } else { "n_plus_one" };
        expected += 1;
        if kinds(&findings) == [kind] {
            found += 1;
            assert_eq!(findings[0].count, stream.statements.len() as u64 - 1, "{round}: {:?}", findings[0]);
            assert_eq!(findings[0].parent_executions, 1);
        } else {
            wrong.push(format!("round {round}: {:?} {:?}", stream.statements[1], kinds(&findings)));
        }
    }
    assert_eq!(found, expected, "recall: {wrong:#?}");
    let mut alarms = Vec::new();
    for which in 0..12 {
        for _ in 0..20 {
            let stream = innocent(&mut random, 0, which);
            let findings = run(&stream.statements, &development());
            if !findings.is_empty() {
                alarms.push((which, kinds(&findings), findings[0].child.text.clone()));
            }
        }
    }
    assert!(alarms.is_empty(), "precision: {alarms:#?}");
}

#[test]
fn independent_clients_give_the_union_of_their_findings() {
    let mut random = Random(7);
    for _ in 0..40 {
        let a = n_plus_one(&mut random, 1);
        let which = random.below(12);
        let b = if random.below(2) == 0 { n_plus_one(&mut random, 2) } else { innocent(&mut random, 2, which) };
        let mut apart = run(&a.statements, &production());
        apart.extend(run(&b.statements, &production()));
        apart.sort_by(|a, b| a.id.cmp(&b.id));
        let both: Vec<_> = a.statements.iter().chain(&b.statements).cloned().collect();
        assert_eq!(run(&both, &production()), apart);
    }
}

#[test]
fn neither_the_hour_nor_the_numbering_of_connections_matters() {
    let mut random = Random(11);
    for _ in 0..30 {
        let stream = n_plus_one(&mut random, 0);
        let before = run(&stream.statements, &production());
        let mut shifted = stream.statements.clone();
        for statement in &mut shifted {
            statement.start_us += 86_400_000_000;
            statement.end_us += 86_400_000_000;
            statement.connection = statement.connection.wrapping_mul(0x9e37_79b9) ^ 0x5555;
        }
        let after = run(&shifted, &production());
        let facts = |findings: &[policy::finding::Finding]| -> Vec<_> {
            findings
                .iter()
                .map(|f| (f.id.clone(), f.kind, f.count, f.parent_executions, f.connections, f.rewrite.clone()))
                .collect()
        };
        assert_eq!(facts(&before), facts(&after));
    }
}

#[test]
fn a_trace_replaces_the_clock() {
    let slow = |trace: Option<TraceId>| {
        let mut stream = Stream { pause_us: 700_000, ..Stream::default() };
        let rows = (0..9).map(|row| vec![text(1_000 + 7 * row)]).collect();
        stream.send("select id from posts where blog_id = $1", vec![text(7)]).returns(&["id"], rows).trace = trace;
        for row in 0..9 {
            stream.send("select * from comments where post_id = $1", vec![text(1_000 + 7 * row)]).trace = trace;
        }
        stream.statements
    };
    assert!(run(&slow(None), &production()).is_empty());
    let trace = TraceId::from_traceparent("00-abababababababababababababababab-0000000000000001-01");
    let findings = run(&slow(trace), &production());
    assert_eq!(kinds(&findings), ["n_plus_one"]);
    assert!(findings[0].traced);
}

/// So many traces of one client at once, each a list and a statement for each of its rows, step by step.
fn traces_at_once(count: u64) -> Bench {
    let mut bench = Bench::new(production());
    let trace = |number: u64| TraceId::from_bytes(&number.to_le_bytes());
    let mut stream = Stream { pause_us: 10, takes_us: 40, ..Stream::default() };
    for number in 0..count {
        let rows = (0..9).map(|row| vec![text(10_000 * (number + 1) + 7 * row)]).collect();
        stream.send("select id from posts where blog_id = $1", vec![text(7)]).returns(&["id"], rows).trace =
            trace(number);
    }
    for row in 0..9 {
        for number in 0..count {
            let key = text(10_000 * (number + 1) + 7 * row);
            stream.send("select * from comments where post_id = $1", vec![key]).trace = trace(number);
        }
    }
    stream.statements.iter().for_each(|statement| bench.observe(statement));
    bench.detector.finish(&bench.names);
    bench
}

#[test]
fn many_traces_at_once_are_all_seen_and_what_is_not_is_counted() {
    let bench = traces_at_once(200);
    let occurrences: Vec<u64> = bench.detector.findings().map(|finding| finding.occurrences).collect();
    assert_eq!((occurrences, bench.detector.counters().dropped), (vec![200], 0));
    let flood = traces_at_once(3_000);
    assert!(flood.detector.counters().dropped > 0, "{:?}", flood.detector.counters());
}

#[test]
fn what_goes_on_with_a_result_is_no_execution_and_its_rows_may_be_a_parents() {
    let mut stream = Stream::default();
    let rows = |from: u64| (from..from + 5).map(|row| vec![text(1_000 + 7 * row)]).collect::<Vec<_>>();
    let list = "select id from posts where blog_id = $1";
    stream.send(list, vec![text(7)]).returns(&["id"], rows(0));
    stream.send(list, vec![]).returns(&["id"], rows(5)).resumed = true;
    for row in 0..10 {
        let child = "select body from comments where post_id = $1";
        stream.send(child, vec![text(1_000 + 7 * row)]).returns(&["body"], vec![vec![text("a")], vec![text("b")]]);
        stream.send(child, vec![]).returns(&["body"], vec![vec![text("c")]]).resumed = true;
    }
    let findings = run(&stream.statements, &production());
    assert_eq!((kinds(&findings), findings[0].count), (vec!["n_plus_one"], 10));
}

#[test]
fn tenants_of_one_client_are_kept_apart() {
    let mut stream = n_plus_one(&mut Random(3), 0);
    for (index, statement) in stream.statements.iter_mut().enumerate() {
        statement.tenant = u32::from(index > 0);
    }
    assert!(run(&stream.statements, &production()).is_empty());
}

#[test]
fn retries_do_not_count() {
    let mut stream = Stream::default();
    let rows = (0..3).map(|row| vec![text(1_000 + 7 * row)]).collect::<Vec<_>>();
    stream.send("select id from posts where blog_id = $1", vec![text(7)]).returns(&["id"], rows);
    for _attempt in 0..3 {
        for row in 0..3 {
            stream.send("update posts set n = n + 1 where id = $1", vec![text(1_000 + 7 * row)]);
        }
        stream.send("commit", vec![]).error = Some(*b"40001");
    }
    assert!(run(&stream.statements, &production()).is_empty(), "three rows, however often they are tried");
    let findings = run(&stream.statements, &development());
    assert_eq!((kinds(&findings), findings[0].count), (vec!["n_plus_one_write"], 3));
}

/// A list of so many rows, and one statement for each of them.
fn fan_out(size: u64) -> Vec<support::Statement> {
    let mut stream = Stream::default();
    let rows = (0..size).map(|row| vec![text(1_000 + 7 * row)]).collect();
    stream.send("select id from posts where blog_id = $1", vec![text(7)]).returns(&["id"], rows);
    for row in 0..size {
        stream.send("select * from comments where post_id = $1", vec![text(1_000 + 7 * row)]);
    }
    stream.statements
}

#[test]
fn each_profile_speaks_up_from_its_own_fan_out() {
    for (thresholds, first) in [(development(), 3), (production(), 5)] {
        for size in 1..12 {
            let findings = run(&fan_out(size), &thresholds);
            let expected: &[&str] = if size < first { &[] } else { &["n_plus_one"] };
            assert_eq!(kinds(&findings), expected, "{size} rows, spoken of from {first} on");
            assert!(findings.iter().all(|finding| finding.count == size), "{findings:#?}");
        }
    }
}

#[test]
fn only_development_tells_of_loops_whose_parent_it_has_not_seen() {
    let mut stream = Stream::default();
    for row in 0..10 {
        stream.send("select * from comments where post_id = $1", vec![text(1_000 + 7 * row)]);
    }
    assert_eq!(kinds(&run(&stream.statements, &development())), ["loop_unsourced"]);
    assert!(run(&stream.statements, &production()).is_empty());
    stream.statements.truncate(9);
    assert!(run(&stream.statements, &development()).is_empty(), "ten make a loop");
}

#[test]
fn findings_are_told_once_until_there_is_news() {
    let mut bench = Bench::new(production());
    let first = n_plus_one(&mut Random(5), 0);
    let span = 70_000_000;
    let mut told = Vec::new();
    for round in 0..3_u64 {
        for statement in &first.statements {
            let mut statement = statement.clone();
            statement.start_us += round * span / 2;
            statement.end_us += round * span / 2;
            bench.observe(&statement);
        }
        bench.detector.tick(first.now_us + round * span / 2 + 1_000_000, &bench.names);
        told.push(bench.detector.drain().count());
    }
    assert_eq!(told, [1, 0, 1], "told, cooling down, told again");
    let findings = bench.finish();
    assert_eq!((findings.len(), findings[0].occurrences), (1, 3));
    assert_eq!(findings[0].statements, 3 * findings[0].count);
}

#[test]
fn what_is_settled_is_judged_and_an_open_burst_is_not_settled() {
    let mut bench = Bench::new(production());
    let statements = fan_out(9);
    let (first, last) = (statements[1].start_us, statements[9].end_us);
    for statement in &statements {
        bench.observe(statement);
    }
    bench.detector.tick(last + 30_000, &bench.names);
    assert_eq!(bench.detector.settled_us(), first, "the burst may go on");
    assert_eq!(bench.detector.changed().count(), 0);
    bench.detector.tick(last + 200_000, &bench.names);
    assert_eq!(bench.detector.settled_us(), last + 180_000);
    assert_eq!(bench.detector.changed().map(|finding| finding.count).collect::<Vec<_>>(), [9]);
    assert_eq!(bench.detector.changed().count(), 0, "told once");
}

#[test]
fn memory_and_tables_stay_bounded_under_a_flood() {
    let thresholds =
        Thresholds { max_scopes: 8, max_bursts: 256, max_candidates: 16, max_findings: 4, ..development() };
    let mut bench = Bench::new(thresholds);
    let mut random = Random(1);
    for turn in 0..20_000_u64 {
        let mut stream = Stream { client: (turn % 500) as u32, now_us: 1_000_000 + turn * 50, ..Stream::default() };
        stream.send(&format!("select c{} from t{} where id = $1", turn % 400, turn % 50), vec![text(random.next())]);
        bench.observe(&stream.statements[0]);
    }
    for client in 0..50 {
        let mut stream = n_plus_one(&mut random, client);
        for statement in &mut stream.statements {
            bench.observe(statement);
        }
    }
    let counters = bench.detector.counters();
    assert!(counters.events > 20_000);
    // A client's results, their heads and its table; a burst with its records; as many storages again that wait for one.
    let bound = 8 * (64 + 64 + 16) * 1024 + (256 + 2 * 16 + 256) * 10 * 1024;
    assert!(bench.detector.bytes() <= bound, "{} of {bound} bytes", bench.detector.bytes());
    assert!(bench.detector.bytes() > 8 * 1024, "it is counted what there is: {}", bench.detector.bytes());
    assert!(bench.finish().len() <= 4);
}

#[test]
fn what_makes_room_for_another_client_before_it_is_judged_is_counted_as_dropped() {
    let with = |max_scopes: usize, pause_us: u64| {
        let mut bench = Bench::new(Thresholds { max_scopes, ..production() });
        let statements = fan_out(9);
        statements.iter().for_each(|statement| bench.observe(statement));
        let last = statements.last().map_or(0, |statement| statement.end_us);
        bench.detector.tick(last + 30_000, &bench.names);
        for client in 1..3 {
            let now_us = last + pause_us + u64::from(client);
            let mut other = Stream { client, now_us, ..Stream::default() };
            other.send("select id from blogs where owner = $1", vec![text(7)]);
            if pause_us > 100_000 {
                bench.detector.tick(now_us, &bench.names);
            }
            bench.observe(&other.statements[0]);
        }
        let found = bench.detector.findings().count();
        (bench.detector.counters().dropped, found)
    };
    assert_eq!(with(2, 40_000).0, 2, "its burst waited to be judged, and its list may have had more children");
    assert_eq!(with(3, 40_000).0, 0, "there is room for all");
    assert_eq!(with(2, 400_000), (0, 1), "it was judged before");
}

#[test]
fn findings_carry_no_value() {
    let mut random = Random(9);
    for _ in 0..20 {
        let stream = n_plus_one(&mut random, 0);
        for finding in run(&stream.statements, &production()) {
            let json = serde_json::to_string(&finding).unwrap();
            for statement in stream.statements.iter().skip(1) {
                if let Datum::Text(value) = &statement.parameters[0]
                    && value.len() > 5
                {
                    assert!(!json.contains(value.as_str()), "{value} in {json}");
                }
            }
        }
    }
}

/// What is counted by hash must not hide a loop that is just long enough, whatever its keys.
#[test]
fn a_loop_over_three_rows_is_found_whatever_the_keys_are() {
    for start in 0..400 {
        let keys = [1, 2, 3].map(|row| 1_000 + 7 * (start + row));
        let mut stream = Stream { now_us: 1_000_000, connection: 1, pause_us: 500, ..Stream::default() };
        let rows = keys.iter().map(|key| vec![text(*key)]).collect();
        stream.send("select id from events where run_id = $1 order by id", vec![text(1)]).returns(&["id"], rows);
        for key in keys {
            let row = vec![vec![text("a line")]];
            stream.send("select line from logs where event_id = $1", vec![text(key)]).returns(&["line"], row);
        }
        assert_eq!(kinds(&run(&stream.statements, &development())), ["n_plus_one"], "keys {keys:?}");
    }
}

#[test]
fn a_loop_of_inserts_that_waits_for_servers_is_one_and_one_that_thinks_is_none() {
    for (queued_us, expected) in [(20_000, &["insert_loop"] as &[_]), (2_000, &[])] {
        let mut stream = Stream { pause_us: 20_300, ..Stream::default() };
        for turn in 0..12 {
            let sent = stream.send("insert into lines (order_id, item) values ($1, $2)", vec![text(7), text(turn)]);
            sent.queued_us = queued_us;
        }
        assert_eq!(kinds(&run(&stream.statements, &production())), expected, "{queued_us} µs of each pause in a queue");
    }
}
