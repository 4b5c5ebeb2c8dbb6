//! The detector over recorded traffic: `pgweir analyze FILE.jsonl`.
//!
//! Every line is a JSON object with an `events` array and is a world of its own: nothing is carried over. An event is
//!
//! ```json
//! {"t0": 1000300, "t1": 1000700, "conn": 1, "db": "app", "user": "u", "app": "web", "client": "10.0.0.7",
//!  "sql": "select id from posts where blog_id = $1", "params": ["7", null, {"hex": "00000064"}],
//!  "cols": [["id", 0, 0, 0]], "nrows": 2, "rows": [["100"], ["103"]], "err": null}
//! ```
//!
//! with times in microseconds; `{"hex": …}` is a value in binary format; a column is its name, table OID, attribute
//! number and type OID. Only `t0`, `t1` and `sql` are required. Events may stand in any order. `{"hex": …, "type": …}` and
//! `{"text": …, "type": …}` say a value's type too.
//!
//! What `pgweir capture` has written is read as well (`captured`): there an event is a line, and the whole stream a world.

mod captured;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use config::Profile;
use policy::finding::Finding;
use policy::fingerprint::{Analyser, Compat, normalise};
use policy::observe::{
    Column, ColumnName, Detector, Directory, Event, HashKey, RouteId, RowBytes, Scope, ScopeId, ShapeFacts, ShapeId,
    TenantId, Thresholds, TraceId, Value,
};
use policy::statement::{Literal, LiteralKind};
use serde::Serialize;
use serde_json::Value as Json;

use captured::Stream;

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Streams that were analysed.
    pub streams: u64,
    /// Events in them.
    pub events: u64,
    /// Findings in all.
    pub findings: u64,
    /// Lines that could not be read; each left an object with `line` and `error` in the output.
    pub bad_lines: u64,
}

/// Why it stopped. A line that is not an event stream stops nothing: see [`Summary::bad_lines`].
#[derive(Debug)]
pub enum Error {
    /// The input could not be read on.
    Read {
        /// The line that was to come, from 1.
        line: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output could not be written.
    Write(std::io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { line, source } => write!(f, "cannot read line {line}: {source}"),
            Self::Write(source) => write!(f, "cannot write: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write(source) => Some(source),
        }
    }
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Report<'a> {
    id: &'a Json,
    findings: Vec<Finding>,
}

/// One line of output for a line that could not be read.
#[derive(Debug, Serialize)]
struct BadLine {
    id: Option<String>,
    line: u64,
    error: String,
}

/// Analyses every stream of `reader` on its own, a line or a capture, and writes one JSON object for each to `writer`; empty
/// lines are skipped. Fingerprints group as `compat` says, those of a capture as they did.
pub fn analyze(
    reader: impl BufRead,
    mut writer: impl Write,
    profile: Profile,
    compat: Compat,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut analyser = Analyser::new(compat);
    let mut running: Option<Stream> = None;
    for (number, line) in (1..).zip(reader.split(b'\n')) {
        let line = line.map_err(|source| Error::Read { line: number, source })?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut out = Vec::new();
        let parsed = serde_json::from_slice::<Json>(&line).map_err(|error| error.to_string());
        // A line may be a world of its own, and needs no second copy of it.
        drop(line);
        let outcome = parsed.and_then(|mut line| {
            let (begins, ends) = (line.get("capture").is_some(), line.get("end").is_some());
            match &mut running {
                Some(stream) if !begins && !ends && line.get("events").is_none() => return stream.take(&line),
                _ => {}
            }
            // What has no last line was cut off: it is judged for what there is of it.
            if let Some(stream) = running.take() {
                tell_capture(stream, ends.then(|| line.clone()), &mut summary, &mut out)?;
            }
            match (begins, ends) {
                (true, _) => running = Some(Stream::new(line, profile)),
                (_, true) => {}
                _ => {
                    let events = line.get_mut("events").map(Json::take);
                    let (events, findings) = replay(events, &mut analyser, profile)?;
                    summary.events += events;
                    summary.findings += findings.len() as u64;
                    summary.streams += 1;
                    tell(&Report { id: line.get("id").unwrap_or(&Json::Null), findings }, &mut out)?;
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            summary.bad_lines += 1;
            drop(tell(&BadLine { id: None, line: number, error }, &mut out));
        }
        writer.write_all(&out).map_err(Error::Write)?;
    }
    if let Some(stream) = running.take() {
        let mut out = Vec::new();
        drop(tell_capture(stream, None, &mut summary, &mut out));
        writer.write_all(&out).map_err(Error::Write)?;
    }
    writer.flush().map_err(Error::Write)?;
    Ok(summary)
}

fn tell_capture(stream: Stream, end: Option<Json>, summary: &mut Summary, out: &mut Vec<u8>) -> Result<(), String> {
    summary.streams += 1;
    summary.events += stream.events;
    let report = stream.finish(end);
    summary.findings += report.findings.len() as u64;
    tell(&report, out)
}

fn tell(what: &impl Serialize, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(&mut *out, what).map_err(|error| error.to_string())?;
    out.push(b'\n');
    Ok(())
}

/// Feeds one stream to a detector of its own; gives the number of events and the findings by time.
fn replay(events: Option<Json>, analyser: &mut Analyser, profile: Profile) -> Result<(u64, Vec<Finding>), String> {
    let Some(Json::Array(events)) = events else { return Err("no array `events`".to_owned()) };
    let mut tables = Tables::default();
    let mut recorded = Vec::with_capacity(events.len());
    // They have to be sorted, and so are all there at once: as JSON, which is many times larger, only until each is read.
    for (index, event) in events.into_iter().enumerate() {
        recorded
            .push(Recorded::read(&event, analyser, &mut tables).map_err(|error| format!("event {index}: {error}"))?);
    }
    recorded.sort_by_key(|event| (event.start_us, event.end_us));
    // One stream at a time and no other process: the key hides nothing from anybody here.
    let mut detector = Detector::new(Thresholds::from(profile), HashKey::new(0x5eed_0000_0000_0001));
    let count = recorded.len() as u64;
    for event in recorded {
        detector.tick(event.start_us, &tables);
        event.observe(&mut detector);
    }
    detector.finish(&tables);
    let mut findings: Vec<Finding> = detector.findings().cloned().collect();
    findings.sort_by(|a, b| (a.first_seen, &a.id).cmp(&(b.first_seen, &b.id)));
    Ok((count, findings))
}

/// One event of a file, owned.
struct Recorded {
    start_us: u64,
    end_us: u64,
    queued_us: u64,
    connection: u64,
    scope: ScopeId,
    tenant: TenantId,
    trace: Option<TraceId>,
    route: Option<RouteId>,
    shape: ShapeId,
    facts: ShapeFacts,
    parameters: Vec<Datum>,
    literals: Vec<Datum>,
    columns: Option<Arc<[Column]>>,
    row_count: u64,
    rows: RowBytes,
    last_row: RowBytes,
    resumed: bool,
    error: Option<[u8; 5]>,
}

/// An owned value, with its type's OID, 0 when unknown.
enum Datum {
    Null,
    Text(u32, Vec<u8>),
    Binary(u32, Vec<u8>),
}

impl Recorded {
    fn read(event: &Json, analyser: &mut Analyser, tables: &mut Tables) -> Result<Self, String> {
        let text = |key: &str| event.get(key).and_then(Json::as_str).unwrap_or_default();
        let sql = event.get("sql").and_then(Json::as_str).ok_or("no text `sql`")?;
        let compat = analyser.compat();
        let analysis = analyser.analyse(sql.as_bytes());
        let comments = analysis.comments(sql.as_bytes());
        let trace = comments.tag("traceparent").and_then(|value| TraceId::from_traceparent(&value));
        let route = comments.route().map(policy::comment::route_name);
        let literals = analysis.literals.iter().map(|literal| constant(sql, literal)).collect();
        let (shape, facts) = tables.intern(analysis.strict, || {
            let normalised = normalise(sql.as_bytes(), compat);
            (ShapeFacts::new(analysis, &normalised), normalised)
        });
        let scope = Scope {
            database: text("db").to_owned(),
            user: text("user").to_owned(),
            application: text("app").to_owned(),
            client: text("client").to_owned(),
        };
        let tenant = TenantId(tables.name(text("tenant")));
        let route = route.map(|route| RouteId(tables.name(&route)));
        let scope = tables.scope(scope);
        Ok(Self { scope, tenant, trace, route, shape, facts, literals, ..Self::values(event)? })
    }

    /// What an event says of itself: times, connection, parameters, result. Who sent what is left open.
    fn values(event: &Json) -> Result<Self, String> {
        let time = |key: &str| event.get(key).and_then(Json::as_u64).ok_or_else(|| format!("no number `{key}`"));
        let columns = columns(event.get("cols"))?;
        let (rows, last_row) = rows(event.get("rows"), columns.as_deref().map_or(0, <[Column]>::len))?;
        let (start_us, end_us) = (time("t0")?, time("t1")?);
        Ok(Self {
            start_us,
            end_us: end_us.max(start_us),
            queued_us: event.get("queued").and_then(Json::as_u64).unwrap_or(0),
            connection: event.get("conn").and_then(Json::as_u64).unwrap_or(0),
            scope: ScopeId(0),
            tenant: TenantId(0),
            trace: None,
            route: None,
            shape: ShapeId(0),
            facts: ShapeFacts::UNKNOWN,
            parameters: data(event.get("params"))?,
            literals: Vec::new(),
            row_count: event.get("nrows").and_then(Json::as_u64).unwrap_or(0),
            columns,
            rows,
            last_row,
            resumed: event.get("resumed").and_then(Json::as_bool).unwrap_or(false),
            error: event.get("err").and_then(Json::as_str).map(sqlstate),
        })
    }

    fn observe(&self, detector: &mut Detector) {
        let parameters: Vec<Value<'_>> = self.parameters.iter().map(Datum::value).collect();
        let literals: Vec<Value<'_>> = self.literals.iter().map(Datum::value).collect();
        detector.observe(&Event {
            start_us: self.start_us,
            end_us: self.end_us,
            queued_us: self.queued_us,
            connection: self.connection,
            scope: self.scope,
            tenant: self.tenant,
            trace: self.trace,
            route: self.route,
            shape: self.shape,
            facts: self.facts,
            parameters: &parameters,
            literals: &literals,
            columns: self.columns.as_ref(),
            row_count: self.row_count,
            rows: self.rows.as_bytes(),
            last_row: self.last_row.as_bytes(),
            resumed: self.resumed,
            error: self.error,
        });
    }
}

impl Datum {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Text(type_oid, bytes) => Value::Text { type_oid: *type_oid, bytes },
            Self::Binary(type_oid, bytes) => Value::Binary { type_oid: *type_oid, bytes },
        }
    }
}

/// Parameters: `null`, a text, a number, `{"hex": …}` or `{"text": …}`, the latter two with a type or without.
fn data(list: Option<&Json>) -> Result<Vec<Datum>, String> {
    match list {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(list)) => list.iter().map(datum).collect(),
        Some(_) => Err("`params` is no array".to_owned()),
    }
}

fn datum(value: &Json) -> Result<Datum, String> {
    let text = |text: &str| Datum::Text(0, text.as_bytes().to_vec());
    match value {
        Json::Null => Ok(Datum::Null),
        Json::String(string) => Ok(text(string)),
        Json::Bool(on) => Ok(text(if *on { "t" } else { "f" })),
        Json::Number(number) => Ok(text(&number.to_string())),
        Json::Object(object) => {
            let type_oid = object.get("type").and_then(Json::as_u64).and_then(|oid| u32::try_from(oid).ok());
            let (type_oid, string) = (type_oid.unwrap_or(0), |key: &str| object.get(key).and_then(Json::as_str));
            let text = string("text").map(|text| Datum::Text(type_oid, text.as_bytes().to_vec()));
            let hex = || string("hex").and_then(bytes_of_hex).map(|bytes| Datum::Binary(type_oid, bytes));
            text.or_else(hex).ok_or_else(|| "a value is an object without `text` or readable `hex`".to_owned())
        }
        Json::Array(_) => Err("a value is an array".to_owned()),
    }
}

fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte * 16 + digit)).ok()).collect()
}

/// A constant without its quotes.
fn constant(sql: &str, literal: &Literal) -> Datum {
    let bytes = literal.span.of(sql.as_bytes());
    if literal.kind == LiteralKind::Null {
        return Datum::Null;
    }
    let text = String::from_utf8_lossy(bytes);
    let quoted = literal.kind == LiteralKind::String && text.ends_with('\'');
    let inner = text.split_once('\'').map(|(_, rest)| rest.trim_end_matches('\''));
    match inner.filter(|_| quoted) {
        Some(inner) => Datum::Text(0, inner.replace("''", "'").into_bytes()),
        None => Datum::Text(0, text.replace(' ', "").into_bytes()),
    }
}

/// `null`, or one `[name, table OID, attribute number, type OID, format]` per column; what is missing is unknown.
fn columns(list: Option<&Json>) -> Result<Option<Arc<[Column]>>, String> {
    let list = match list {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Array(list)) => list,
        Some(_) => return Err("`cols` is no array".to_owned()),
    };
    let column = |column: &Json| {
        let number = |place: usize| column.get(place).and_then(Json::as_u64).unwrap_or(0);
        let name = column.get(0).or(Some(column)).and_then(Json::as_str).ok_or("a column without a name")?;
        Ok(Column {
            name: name.into(),
            table_oid: u32::try_from(number(1)).unwrap_or(0),
            attribute: i16::try_from(number(2)).unwrap_or(0),
            type_oid: u32::try_from(number(3)).unwrap_or(0),
            binary: number(4) == 1,
        })
    };
    list.iter().map(column).collect::<Result<Vec<_>, String>>().map(|columns| Some(columns.into()))
}

/// All rows, and the last one apart: the detector keeps the first few only.
fn rows(list: Option<&Json>, width: usize) -> Result<(RowBytes, RowBytes), String> {
    let (mut all, mut last) = (RowBytes::default(), RowBytes::default());
    let list = match list {
        None | Some(Json::Null) => return Ok((all, last)),
        Some(Json::Array(list)) => list,
        Some(_) => return Err("`rows` is no array".to_owned()),
    };
    for row in list {
        let row = row.as_array().filter(|row| row.len() == width || width == 0).ok_or("a row does not fit `cols`")?;
        last.clear();
        for value in row {
            let value = datum(value)?;
            let bytes = match &value {
                Datum::Null => None,
                Datum::Text(_, bytes) | Datum::Binary(_, bytes) => Some(bytes.as_slice()),
            };
            all.push(bytes);
            last.push(bytes);
        }
    }
    Ok((all, last))
}

/// The SQLSTATE at the beginning of an error's text; what has none is an internal error.
fn sqlstate(error: &str) -> [u8; 5] {
    error
        .as_bytes()
        .first_chunk::<5>()
        .filter(|code| code.iter().all(u8::is_ascii_alphanumeric))
        .copied()
        .unwrap_or(*b"XX000")
}

/// The names of one stream.
#[derive(Debug, Default)]
struct Tables {
    shapes: Vec<(u64, String, ShapeFacts)>,
    shape_ids: HashMap<u64, ShapeId>,
    scopes: Vec<Scope>,
    scope_ids: HashMap<Scope, ScopeId>,
    names: Vec<String>,
    name_ids: HashMap<String, u32>,
}

impl Tables {
    fn intern(&mut self, strict: u64, make: impl FnOnce() -> (ShapeFacts, String)) -> (ShapeId, ShapeFacts) {
        let next = ShapeId(self.shapes.len() as u32);
        let id = *self.shape_ids.entry(strict).or_insert_with(|| {
            let (facts, text) = make();
            self.shapes.push((strict, text, facts));
            next
        });
        let facts = self.shapes.get(id.0 as usize).map(|(_, _, facts)| *facts);
        (id, facts.unwrap_or(ShapeFacts::UNKNOWN))
    }

    fn scope(&mut self, scope: Scope) -> ScopeId {
        *self.scope_ids.entry(scope).or_insert_with_key(|scope| {
            self.scopes.push(scope.clone());
            ScopeId(self.scopes.len() as u32 - 1)
        })
    }

    fn name(&mut self, name: &str) -> u32 {
        *self.name_ids.entry(name.to_owned()).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() as u32 - 1
        })
    }
}

impl Directory for Tables {
    fn shape(&self, id: ShapeId) -> Option<(u64, &str)> {
        self.shapes.get(id.0 as usize).map(|(strict, text, _)| (*strict, text.as_str()))
    }

    fn scope(&self, id: ScopeId) -> Option<&Scope> {
        self.scopes.get(id.0 as usize)
    }

    fn tenant(&self, id: TenantId) -> Option<&str> {
        self.names.get(id.0 as usize).map(String::as_str)
    }

    fn route(&self, id: RouteId) -> Option<&str> {
        self.names.get(id.0 as usize).map(String::as_str)
    }

    /// A file holds no catalog: names come from the texts.
    fn column(&self, _scope: ScopeId, _table_oid: u32, _attribute: i16) -> Option<ColumnName> {
        None
    }
}
