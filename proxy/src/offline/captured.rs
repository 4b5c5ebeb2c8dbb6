//! Streams that a running pgweir wrote down: a line for each event, between a first and a last line of their own.
//!
//! What is kept is bounded whatever a file says: the detector bounds itself, and of names, scopes and statements so many
//! are told apart.

use policy::observe::{Class, RouteId, ShapeFacts, TenantId, TraceId};

use super::{Detector, Finding, HashKey, Json, Profile, Recorded, Scope, Serialize, Tables, Thresholds};
use crate::capture::lines::CLASSES;

/// Statements, scopes and names told apart, each; an event with one more is left out.
const MAX_NAMES: usize = 100_000;

/// What a captured stream came to.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: Option<String>,
    /// Its first line.
    capture: Json,
    /// Its last line; `None`: the file ends before.
    end: Option<Json>,
    events: u64,
    sessions: u64,
    /// Events beyond the bounds of the reader.
    left_out: u64,
    pub(super) findings: Vec<Finding>,
}

/// A stream under way.
#[derive(Debug)]
pub(super) struct Stream {
    begin: Json,
    tables: Tables,
    detector: Detector,
    /// How far time has come, in µs.
    now_us: u64,
    pub(super) events: u64,
    sessions: u64,
    left_out: u64,
}

impl Stream {
    /// One begins with this line.
    pub(super) fn new(begin: Json, profile: Profile) -> Self {
        Self {
            begin,
            tables: Tables::default(),
            // As for cases: the key hides nothing from anybody here.
            detector: Detector::new(Thresholds::from(profile), HashKey::new(0x5eed_0000_0000_0001)),
            now_us: 0,
            events: 0,
            sessions: 0,
            left_out: 0,
        }
    }

    /// Takes its next line, which is not its last.
    ///
    /// # Errors
    /// The line is none that a capture writes.
    pub(super) fn take(&mut self, line: &Json) -> Result<(), String> {
        if line.get("session").is_some() {
            self.sessions += 1;
            return Ok(());
        }
        let strict = id(line, "statement")?;
        if line.get("class").is_some() {
            // One more than there is room for has its events left out, and nothing else.
            return if self.tables.knows_or_takes(strict) { self.learn(strict, line) } else { Ok(()) };
        }
        let Some(event) = self.read(strict, line)? else {
            self.left_out += 1;
            return Ok(());
        };
        // Lines come in the order in which the analyst saw their events: what began earlier and ended later comes late.
        self.now_us = self.now_us.max(event.start_us);
        self.detector.tick(self.now_us, &self.tables);
        event.observe(&mut self.detector);
        self.events += 1;
        Ok(())
    }

    /// It is over, with this last line or without one.
    pub(super) fn finish(mut self, end: Option<Json>) -> Report {
        self.detector.finish(&self.tables);
        let mut findings: Vec<Finding> = self.detector.findings().cloned().collect();
        findings.sort_by(|a, b| (a.first_seen, &a.id).cmp(&(b.first_seen, &b.id)));
        let Self { begin, events, sessions, left_out, .. } = self;
        Report { id: None, capture: begin, end, events, sessions, left_out, findings }
    }

    fn learn(&mut self, strict: u64, line: &Json) -> Result<(), String> {
        let flag = |key: &str| line.get(key).and_then(Json::as_bool).unwrap_or(false);
        let named = line.get("class").and_then(Json::as_str).unwrap_or_default();
        let class = CLASSES.iter().find(|(_, name)| *name == named).map_or(Class::Skip, |(class, _)| *class);
        let facts = ShapeFacts {
            strict,
            family: id(line, "family")?,
            class,
            batched: flag("batched"),
            has_limit: flag("limit"),
            has_offset: flag("offset"),
            skip_locked: flag("skip_locked"),
        };
        let text = line.get("sql").and_then(Json::as_str).ok_or("no text `sql`")?;
        self.tables.intern(strict, || (facts, text.to_owned()));
        Ok(())
    }

    /// `None`: there is no room for one more of what it names.
    fn read(&mut self, strict: u64, line: &Json) -> Result<Option<Recorded>, String> {
        let text = |key: &str| line.get(key).and_then(Json::as_str).unwrap_or_default();
        let tables = &mut self.tables;
        let scope = Scope {
            database: text("db").to_owned(),
            user: text("user").to_owned(),
            application: text("app").to_owned(),
            client: text("client").to_owned(),
        };
        let new = [text("tenant"), text("route")].iter().filter(|name| !tables.name_ids.contains_key(**name)).count();
        let fits = tables.scope_ids.contains_key(&scope) || tables.scopes.len() < MAX_NAMES;
        if !tables.knows_or_takes(strict) || !fits || tables.names.len() + new > MAX_NAMES {
            return Ok(None);
        }
        let (shape, facts) = tables.intern(strict, || (ShapeFacts::UNKNOWN, String::new()));
        if facts.strict != strict {
            return Err("an event of a statement that no line has described".to_owned());
        }
        let scope = tables.scope(scope);
        let trace = line.get("trace").map(|_| id(line, "trace")).transpose()?;
        let route = line.get("route").and_then(Json::as_str).map(|route| RouteId(tables.name(route)));
        let tenant = TenantId(tables.name(text("tenant")));
        let trace = trace.and_then(|trace| TraceId::from_bytes(&trace.to_le_bytes()));
        let event = Recorded::values(line)?;
        let literals = super::data(line.get("literals"))?;
        Ok(Some(Recorded { scope, tenant, trace, route, shape, facts, literals, ..event }))
    }
}

impl Tables {
    /// Whether a statement is known, or there is room for it.
    fn knows_or_takes(&self, strict: u64) -> bool {
        self.shape_ids.contains_key(&strict) || self.shapes.len() < MAX_NAMES
    }
}

/// An id: 16 hexadecimal digits.
fn id(line: &Json, key: &str) -> Result<u64, String> {
    let digits = line.get(key).and_then(Json::as_str).filter(|digits| digits.len() == 16);
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| format!("no id `{key}`"))
}

#[cfg(test)]
mod tests {
    use policy::fingerprint::{Analyser, Compat};
    use policy::observe::{Event, Positions, Value};

    use super::super::Datum;
    use super::*;
    use crate::capture::lines::{self, Known, Line, Writing};
    use crate::capture::values::Hasher;
    use crate::telemetry::{self, EventHeader};

    /// A case as a capture would have written it.
    fn rewritten(case: &Json, writing: &Writing) -> Vec<u8> {
        let (mut analyser, mut tables, mut out) = (Analyser::new(Compat::V15), Tables::default(), Vec::new());
        Line::new(&mut out).number("capture", 1).end();
        let events = case["events"].as_array().unwrap();
        let mut recorded: Vec<Recorded> =
            events.iter().map(|event| Recorded::read(event, &mut analyser, &mut tables).unwrap()).collect();
        recorded.sort_by_key(|event| (event.start_us, event.end_us));
        for event in &recorded {
            let text = &tables.shapes[event.shape.0 as usize].1;
            let names = &tables.scopes[event.scope.0 as usize];
            let scope = telemetry::Scope {
                database: names.database.as_str().into(),
                user: names.user.as_str().into(),
                application: names.application.as_str().into(),
                client: names.client.as_str().into(),
                tenant: tables.names[event.tenant.0 as usize].as_str().into(),
            };
            let trace = event.trace.map_or(0, |trace| xxhash_rust::xxh3::xxh3_64(format!("{trace:?}").as_bytes()));
            let header = EventHeader { connection: event.connection, trace, ..EventHeader::default() };
            let route = event.route.map(|route| tables.names[route.0 as usize].as_str());
            let parameters: Vec<Value<'_>> = event.parameters.iter().map(Datum::value).collect();
            let literals: Vec<Value<'_>> = event.literals.iter().map(Datum::value).collect();
            let seen = Event {
                start_us: event.start_us,
                end_us: event.end_us,
                queued_us: event.queued_us,
                connection: event.connection,
                scope: event.scope,
                tenant: event.tenant,
                trace: event.trace,
                route: event.route,
                shape: event.shape,
                facts: event.facts,
                parameters: &parameters,
                literals: &literals,
                columns: event.columns.as_ref(),
                row_count: event.row_count,
                rows: event.rows.as_bytes(),
                last_row: event.last_row.as_bytes(),
                resumed: event.resumed,
                error: event.error,
            };
            lines::statement(&mut out, &event.facts, text);
            let positions = Positions::of(text);
            let known = Known { scope: &scope, sql: text, route, positions: &positions };
            lines::event(&mut out, &header, &seen, known, writing);
        }
        Line::new(&mut out).text("end", "seconds").end();
        out
    }

    /// Kinds and causes of what is found, values apart.
    fn found(input: &[u8], profile: Profile) -> Vec<String> {
        let mut output = Vec::new();
        let summary = super::super::analyze(input, &mut output, profile, Compat::V15).unwrap();
        assert_eq!((summary.streams, summary.bad_lines), (1, 0), "{}", String::from_utf8_lossy(&output));
        let report: Json = serde_json::from_slice(&output).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        let mut found: Vec<String> = findings
            .map(|finding| {
                format!("{} {} {}", finding["kind"], finding["parent"]["fingerprint"], finding["child"]["fingerprint"])
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_capture_is_judged_as_the_stream_itself_with_its_values_kept_or_hashed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let shared = folder.join("../../shared/nplusone-cases.jsonl");
        let fixture = folder.join("../policy/tests/fixtures/nplusone.jsonl");
        let cases = std::fs::read_to_string(shared).or_else(|_| std::fs::read_to_string(fixture)).unwrap();
        for line in cases.lines() {
            let case: Json = serde_json::from_str(line).unwrap();
            for profile in [Profile::Development, Profile::Production] {
                let expected = found(line.as_bytes(), profile);
                for writing in [Writing::Keep, Writing::Hash(Hasher::new())] {
                    let captured = rewritten(&case, &writing);
                    assert_eq!(found(&captured, profile), expected, "{} {writing:?}", case["id"]);
                }
            }
        }
    }

    #[test]
    fn without_values_nothing_of_them_is_in_the_file() {
        let case = serde_json::json!({"events": [{
            "t0": 1, "t1": 2, "sql": "select a from t where b = 'hush-1' and c = $1", "params": ["hush-2"],
            "cols": [["a", 1, 1, 25]], "nrows": 1, "rows": [["hush-3"]],
        }]});
        for writing in [Writing::Drop, Writing::Hash(Hasher::new())] {
            let text = String::from_utf8(rewritten(&case, &writing)).unwrap();
            assert!(!text.contains("hush") && text.contains("\"nrows\":1"), "{text}");
        }
        let text = String::from_utf8(rewritten(&case, &Writing::Keep)).unwrap();
        assert!((1..=3).all(|n| text.contains(&format!("hush-{n}"))), "{text}");
    }

    #[test]
    fn a_file_that_was_cut_off_is_judged_for_what_there_is_of_it() {
        let case = serde_json::json!({"events": [{"t0": 1, "t1": 2, "sql": "select a from t"}]});
        let whole = String::from_utf8(rewritten(&case, &Writing::Drop)).unwrap();
        let cut: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
        let mut output = Vec::new();
        let input = format!("{cut}{whole}{{\"events\": []}}\n");
        super::super::analyze(input.as_bytes(), &mut output, Profile::Production, Compat::V15).unwrap();
        let reports: Vec<Json> =
            output.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(reports.len(), 3, "{reports:?}");
        assert_eq!((&reports[0]["events"], &reports[0]["end"]), (&1.into(), &Json::Null));
        assert_eq!(reports[1]["end"]["end"], "seconds");
    }
}
