//! From the ring to the finding.

use policy::finding::{Finding, Kind};
use policy::fingerprint::{Analyser, Compat, normalise};
use policy::observe::ShapeFacts;
use wire::tag::Backend;

use super::*;
use crate::telemetry::testing::{telemetry_with, tenants};
use crate::telemetry::{
    Bounds, Column, Description, EventHeader, Interned, Payload, Scope, Sqlstate, StatementMeter, StatementText,
    TenantId, WorkerTelemetry,
};

const PARENT: &str = "select id, title from posts where blog_id = $1";
const CHILD: &str = "select body from comments where post_id = $1";
const INT4: u32 = 23;

/// A client whose statements go straight into a worker's ring.
struct Client {
    worker: WorkerTelemetry,
    scope: Interned<Scope>,
    description: Interned<Description>,
    tenant: TenantId,
    now_us: u64,
}

impl Client {
    fn new(telemetry: &Arc<Telemetry>, worker: &str) -> Self {
        let scope = Scope {
            database: "app".into(),
            user: "u".into(),
            application: "web".into(),
            client: "10.0.0.7".into(),
            tenant: "acme".into(),
        };
        let column =
            |name: &str, attribute| Column { name: name.into(), table: 0, attribute, type_oid: INT4, binary: false };
        let columns = [column("id", 0), column("title", 0)].into();
        Self {
            worker: telemetry.worker(worker),
            scope: telemetry.scope(scope),
            description: telemetry.description(Description { parameters: [INT4].into(), columns }),
            tenant: telemetry.tenants.id("acme").into(),
            now_us: telemetry.clock.start_us(),
        }
    }

    fn statement(&self, sql: &str) -> StatementMeter {
        let mut analyser = Analyser::new(Compat::V15);
        let analysis = analyser.analyse(sql.as_bytes());
        let text = normalise(sql.as_bytes(), Compat::V15);
        let facts = ShapeFacts::new(analysis, &text);
        self.worker.statement(analysis.strict, self.tenant, || StatementText {
            class: analysis.class,
            facts,
            text: text.into(),
        })
    }

    /// One statement of 400 µs on this connection, and a pause of as long.
    fn run(&mut self, sql: &str, connection: u64, rows: u64, flags: EventFlags, payload: &Payload<'_>) {
        let header = EventHeader {
            start_us: self.now_us,
            end_us: self.now_us + 400,
            connection,
            scope: self.scope.id,
            tenant: self.tenant,
            statement: self.statement(sql).statement_id(),
            description: self.description.id,
            rows,
            flags,
            ..EventHeader::default()
        };
        assert!(self.worker.events.push(&header, payload));
        self.now_us += 800;
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

fn values(values: &[&[u8]]) -> Vec<u8> {
    let mut bytes = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        bytes.extend((value.len() as u32).to_be_bytes());
        bytes.extend(*value);
    }
    bytes
}

/// A Bind behind its names: one format for all, the values, text results.
fn bind(format: u16, bound: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(format.to_be_bytes());
    bytes.extend(values(bound));
    bytes.extend([0, 0]);
    bytes
}

fn listed(findings: &FindingsStore) -> Vec<Finding> {
    let all = findings::Wanted { limit: usize::MAX, ..findings::Wanted::default() };
    findings.list(&all, Timestamp(0)).findings.into_iter().map(|kept| kept.finding).collect()
}

fn desk(telemetry: &Arc<Telemetry>) -> Desk {
    let allowed = Allowed { captures: true, values: true };
    let profile = Some(Profile::Production);
    let settings = AnalystSettings {
        profile,
        duplicates: false,
        slow_per_minute: Some(6),
        regressions: true,
        regression_interval: Duration::from_secs(60),
        compat: 15,
        allowed,
    };
    let findings = Arc::new(FindingsStore::new(10));
    Desk::new(Arc::clone(telemetry), findings, Arc::default(), settings, HashKey::new(7))
}

/// A parent of ten rows and its ten children over two workers' connections, in the spelling that `key` gives.
fn burst(telemetry: &Arc<Telemetry>, flags: EventFlags, format: u16, key: impl Fn(i32) -> Vec<u8>) -> Desk {
    let mut desk = desk(telemetry);
    let (mut one, mut other) = (Client::new(telemetry, "0"), Client::new(telemetry, "1"));
    let keys = (0..10).map(|n| 100 + n * 3);
    let rows: Vec<u8> =
        keys.clone().flat_map(|id| message(Backend::DataRow.byte(), &values(&[&key(id), b"title"]))).collect();
    let parameters = bind(format, &[&key(7)]);
    one.run(PARENT, 1, 10, flags, &Payload { parameters: &parameters, rows: &rows, literals: &[] });
    for (n, id) in keys.enumerate() {
        let parameters = bind(format, &[&key(id)]);
        let client = if n % 2 == 0 { &mut one } else { &mut other };
        client.now_us = telemetry.clock.start_us() + 1_000 + n as u64 * 800;
        client.run(CHILD, 1 + n as u64 % 2, 1, flags, &Payload { parameters: &parameters, ..Payload::default() });
    }
    assert_eq!(desk.look(one.now_us), Seen::Some);
    desk.finish();
    desk
}

#[test]
fn a_burst_over_two_workers_becomes_a_finding_with_its_proof() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let desk = burst(&telemetry, EventFlags::EXTENDED, 0, |id| id.to_string().into());
    let findings = listed(&desk.findings);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding.kind, finding.count, finding.connections), (Kind::NPlusOne, 10, 2));
    assert_eq!((&*finding.tenant, &*finding.application, &*finding.client), ("acme", "web", "10.0.0.7"));
    assert_eq!(finding.child.parameter, Some(1));
    assert!(finding.first_seen.to_string().starts_with("2026-01-01T00:00:00"), "{}", finding.first_seen);
}

#[test]
fn binary_values_are_understood_too() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let flags = EventFlags::EXTENDED.with(EventFlags::ROWS_BINARY);
    let desk = burst(&telemetry, flags, 1, |id| id.to_be_bytes().into());
    assert_eq!(listed(&desk.findings).iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::NPlusOne]);
}

#[test]
fn other_values_than_the_parent_s_are_no_finding() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let calls = std::cell::Cell::new(0);
    let desk = burst(&telemetry, EventFlags::EXTENDED, 0, |id| {
        calls.set(calls.get() + 1);
        let foreign = if calls.get() > 11 { 1_000_000 } else { 0 };
        (id + foreign).to_string().into()
    });
    assert!(listed(&desk.findings).iter().all(|finding| finding.kind != Kind::NPlusOne));
}

#[test]
fn constants_of_simple_queries_are_parameters_too() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let mut desk = desk(&telemetry);
    let mut client = Client::new(&telemetry, "0");
    let constant = |text: &str| {
        let mut section = Vec::new();
        crate::telemetry::ring::push_literal(&mut section, policy::statement::LiteralKind::String, text.as_bytes());
        section
    };
    let rows: Vec<u8> = (0..10)
        .flat_map(|n| message(Backend::DataRow.byte(), &values(&[format!("key-{n}").as_bytes(), b"title"])))
        .collect();
    let literals = constant("'blog'");
    let payload = Payload { literals: &literals, rows: &rows, ..Payload::default() };
    client.run("select id, title from posts where blog_id = 'blog'", 1, 10, EventFlags::default(), &payload);
    for n in 0..10 {
        let literals = constant(&format!("'key-{n}'"));
        let sql = format!("select body from comments where post_id = 'key-{n}'");
        client.run(&sql, 1, 1, EventFlags::default(), &Payload { literals: &literals, ..Payload::default() });
    }
    desk.look(client.now_us);
    desk.finish();
    assert_eq!(listed(&desk.findings).iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::NPlusOne]);
}

#[test]
fn bytes_that_are_not_the_protocol_are_passed_over() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let mut desk = desk(&telemetry);
    let mut client = Client::new(&telemetry, "0");
    let whole = bind(0, &[b"100"]);
    let row = message(Backend::DataRow.byte(), &values(&[b"100", b"x"]));
    for cut in 0..whole.len().max(row.len()) {
        let payload = Payload {
            parameters: &whole[..cut.min(whole.len())],
            literals: &[0, 255, 255, 1],
            rows: &row[..cut.min(row.len())],
        };
        client.run(CHILD, 1, 2, EventFlags::EXTENDED, &payload);
    }
    assert_eq!(desk.look(client.now_us), Seen::Some);
    desk.finish();
}

#[test]
fn the_thread_finds_and_ends_when_told() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let findings = Arc::new(FindingsStore::new(10));
    let allowed = Allowed { captures: false, values: false };
    let settings = AnalystSettings {
        profile: None,
        duplicates: false,
        slow_per_minute: None,
        regressions: false,
        regression_interval: Duration::from_secs(60),
        compat: 15,
        allowed,
    };
    let analyst =
        Analyst::start(Arc::clone(&telemetry), Arc::clone(&findings), Arc::default(), settings.clone(), 7).unwrap();
    analyst.reload(AnalystSettings { profile: Some(Profile::Development), slow_per_minute: Some(1), ..settings });
    let mut client = Client::new(&telemetry, "0");
    let rows: Vec<u8> = (100..110)
        .flat_map(|id: i32| message(Backend::DataRow.byte(), &values(&[id.to_string().as_bytes(), b"t"])))
        .collect();
    client.run(PARENT, 1, 10, EventFlags::EXTENDED, &Payload { rows: &rows, ..Payload::default() });
    for id in 100..110 {
        let parameters = bind(0, &[id.to_string().as_bytes()]);
        client.run(CHILD, 1, 1, EventFlags::EXTENDED, &Payload { parameters: &parameters, ..Payload::default() });
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while listed(&findings).is_empty() {
        assert!(Instant::now() < deadline, "nothing found");
        std::thread::sleep(Duration::from_millis(5));
    }
    analyst.stop();
}

#[test]
fn quoted_constants_lose_their_quotes_and_codes_travel() {
    for (text, inner) in [("'a'", "a"), ("E'a'", "a"), ("$$a$$", "a"), ("$t$a$t$", "a"), ("''", ""), ("'", "")] {
        assert_eq!(translate::unquoted(text.as_bytes()), inner.as_bytes(), "{text}");
    }
    assert_eq!(Sqlstate::new(b"57014").bytes(), *b"57014");
    assert_eq!(Sqlstate::new(b"5701\n"), Sqlstate::UNKNOWN);
}

#[test]
fn nothing_that_ends_behind_the_start_of_a_capture_is_held_back() {
    let telemetry = telemetry_with(Bounds::default(), tenants(10));
    let mut desk = desk(&telemetry);
    let directory = std::env::temp_dir().join(format!("pgweir-capture-start-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (met, file) = (Arc::new(AtomicBool::new(false)), "start.jsonl".to_owned());
    let worker = {
        let (telemetry, met) = (Arc::clone(&telemetry), Arc::clone(&met));
        std::thread::spawn(move || {
            let worker = telemetry.worker("0");
            met.store(true, Ordering::Release);
            let mut last_us = 0;
            loop {
                // As a statement that ends: first the time, then whether it is wanted.
                let now_us = telemetry.clock.micros(Instant::now());
                if worker.events.is_wanted_whole() {
                    return last_us;
                }
                last_us = now_us;
            }
        })
    };
    while !met.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let captures = Arc::clone(&desk.capturing.captures);
    let request = crate::capture::Request {
        directory: directory.clone(),
        file,
        values: crate::capture::Values::Drop,
        seconds: 10,
        max_bytes: crate::capture::MAX_BYTES,
    };
    let asked = std::thread::spawn(move || captures.start(request).unwrap());
    while desk.analysis.capture.is_none() {
        desk.begin_capture();
    }
    let started_us = asked.join().unwrap().started_us;
    let last_us = worker.join().unwrap();
    assert!(last_us < started_us, "{last_us} µs was not told, and the capture began at {started_us}");
    desk.end_capture(Reason::Shutdown, started_us);
    std::fs::remove_dir_all(&directory).unwrap();
}
