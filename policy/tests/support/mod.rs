//! Streams of statements, built by hand, and a detector to run them through.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::finding::Finding;
use policy::fingerprint::{Analyser, Compat, normalise};
use policy::observe::{
    Column, ColumnName, Detector, Directory, Event, HashKey, RouteId, RowBytes, Scope, ScopeId, ShapeFacts, ShapeId,
    TenantId, Thresholds, TraceId, Value,
};

/// A small seeded generator (splitmix64): the same seed gives the same streams everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// One value of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datum {
    Text(String),
    Binary(Vec<u8>),
    /// A text whose type was told by its OID.
    Typed(u32, String),
}

impl Datum {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) | Self::Typed(_, text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text { type_oid: 0, bytes: text.as_bytes() },
            Self::Binary(bytes) => Value::Binary { type_oid: 0, bytes },
            Self::Typed(type_oid, text) => Value::Text { type_oid: *type_oid, bytes: text.as_bytes() },
        }
    }
}

pub(crate) fn text(value: impl ToString) -> Datum {
    Datum::Text(value.to_string())
}

/// One statement of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
    pub(crate) queued_us: u64,
    pub(crate) connection: u64,
    pub(crate) client: u32,
    pub(crate) tenant: u32,
    pub(crate) trace: Option<TraceId>,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Datum>,
    pub(crate) columns: Vec<(String, bool)>,
    pub(crate) rows: Vec<Vec<Datum>>,
    pub(crate) resumed: bool,
    pub(crate) error: Option<[u8; 5]>,
}

/// Builds a stream, one statement after the other.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) statements: Vec<Statement>,
    pub(crate) now_us: u64,
    pub(crate) pause_us: u64,
    pub(crate) takes_us: u64,
    pub(crate) connection: u64,
    pub(crate) client: u32,
}

impl Default for Stream {
    fn default() -> Self {
        Self { statements: Vec::new(), now_us: 1_000_000, pause_us: 300, takes_us: 400, connection: 1, client: 0 }
    }
}

impl Stream {
    pub(crate) fn send(&mut self, sql: &str, parameters: Vec<Datum>) -> &mut Statement {
        let start_us = self.now_us;
        self.now_us += self.takes_us + self.pause_us;
        self.statements.push(Statement {
            start_us,
            end_us: start_us + self.takes_us,
            queued_us: 0,
            connection: self.connection,
            client: self.client,
            tenant: 0,
            trace: None,
            sql: sql.to_owned(),
            parameters,
            columns: Vec::new(),
            rows: Vec::new(),
            resumed: false,
            error: None,
        });
        self.statements.last_mut().unwrap()
    }
}

impl Statement {
    pub(crate) fn returns(&mut self, columns: &[&str], rows: Vec<Vec<Datum>>) -> &mut Self {
        let binary = |index: usize| matches!(rows.first().and_then(|row| row.get(index)), Some(Datum::Binary(_)));
        self.columns = columns.iter().enumerate().map(|(index, name)| ((*name).to_owned(), binary(index))).collect();
        self.rows = rows;
        self
    }
}

/// The names of a test's streams.
#[derive(Default)]
pub(crate) struct Names {
    shapes: Vec<(u64, String, ShapeFacts)>,
    by_text: BTreeMap<String, (ShapeId, Vec<String>)>,
    scopes: Vec<Scope>,
}

impl Names {
    /// The shape of a text, and its constants without their quotes.
    fn intern(&mut self, analyser: &mut Analyser, sql: &str) -> (ShapeId, ShapeFacts, Vec<String>) {
        if !self.by_text.contains_key(sql) {
            let analysis = analyser.analyse(sql.as_bytes());
            let literal = |span: policy::statement::Span| {
                String::from_utf8_lossy(span.of(sql.as_bytes())).trim_matches('\'').to_owned()
            };
            let literals = analysis.literals.iter().map(|found| literal(found.span)).collect();
            let normalised = normalise(sql.as_bytes(), Compat::default());
            let facts = ShapeFacts::new(analysis, &normalised);
            let known = self.shapes.iter().position(|(strict, ..)| *strict == facts.strict);
            let index = known.unwrap_or_else(|| {
                self.shapes.push((facts.strict, normalised, facts));
                self.shapes.len() - 1
            });
            self.by_text.insert(sql.to_owned(), (ShapeId(u32::try_from(index).unwrap()), literals));
        }
        let (id, literals) = self.by_text[sql].clone();
        (id, self.shapes[id.0 as usize].2, literals)
    }
}

impl Directory for Names {
    fn shape(&self, id: ShapeId) -> Option<(u64, &str)> {
        self.shapes.get(id.0 as usize).map(|(strict, text, _)| (*strict, text.as_str()))
    }
    fn scope(&self, id: ScopeId) -> Option<&Scope> {
        self.scopes.get(id.0 as usize)
    }
    fn tenant(&self, _id: TenantId) -> Option<&str> {
        Some("acme")
    }
    fn route(&self, _id: RouteId) -> Option<&str> {
        None
    }
    fn column(&self, _scope: ScopeId, _table_oid: u32, _attribute: i16) -> Option<ColumnName> {
        None
    }
}

/// A detector with its names.
pub(crate) struct Bench {
    pub(crate) detector: Detector,
    pub(crate) names: Names,
    analyser: Analyser,
}

impl Bench {
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        Self {
            detector: Detector::new(thresholds, HashKey::new(0x1234_5678_9abc_def0)),
            names: Names::default(),
            analyser: Analyser::new(Compat::default()),
        }
    }

    pub(crate) fn observe(&mut self, statement: &Statement) {
        let scope = statement.client as usize;
        while self.names.scopes.len() <= scope {
            let client = format!("10.0.0.{}", self.names.scopes.len());
            self.names.scopes.push(Scope { client, ..Scope::default() });
        }
        let (shape, facts, literals) = self.names.intern(&mut self.analyser, &statement.sql);
        let literals: Vec<Value<'_>> =
            literals.iter().map(|bytes| Value::Text { type_oid: 0, bytes: bytes.as_bytes() }).collect();
        let parameters: Vec<Value<'_>> = statement.parameters.iter().map(Datum::value).collect();
        let column = |(name, binary): &(String, bool)| Column {
            name: name.as_str().into(),
            table_oid: 16_384,
            attribute: 0,
            type_oid: 0,
            binary: *binary,
        };
        let columns: Arc<[Column]> = statement.columns.iter().map(column).collect();
        let (mut rows, mut last) = (RowBytes::default(), RowBytes::default());
        for row in &statement.rows {
            last.clear();
            for value in row {
                rows.push(Some(value.bytes()));
                last.push(Some(value.bytes()));
            }
        }
        self.detector.tick(statement.start_us, &self.names);
        self.detector.observe(&Event {
            start_us: statement.start_us,
            end_us: statement.end_us,
            queued_us: statement.queued_us,
            connection: statement.connection,
            scope: ScopeId(statement.client),
            tenant: TenantId(statement.tenant),
            trace: statement.trace,
            route: None,
            shape,
            facts,
            parameters: &parameters,
            literals: &literals,
            columns: (!columns.is_empty()).then_some(&columns),
            row_count: statement.rows.len() as u64,
            rows: rows.as_bytes(),
            last_row: last.as_bytes(),
            resumed: statement.resumed,
            error: statement.error,
        });
    }

    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.detector.finish(&self.names);
        let mut findings: Vec<Finding> = self.detector.findings().cloned().collect();
        findings.sort_by(|a, b| a.id.cmp(&b.id));
        findings
    }
}

/// The findings of a stream, which may be out of order.
pub(crate) fn run(statements: &[Statement], thresholds: &Thresholds) -> Vec<Finding> {
    let mut bench = Bench::new(thresholds.clone());
    let mut ordered: Vec<&Statement> = statements.iter().collect();
    ordered.sort_by_key(|statement| (statement.start_us, statement.end_us));
    for statement in ordered {
        bench.observe(statement);
    }
    bench.finish()
}

/// The kinds of findings, in order.
pub(crate) fn kinds(findings: &[Finding]) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.name()).collect();
    kinds.sort_unstable();
    kinds
}
