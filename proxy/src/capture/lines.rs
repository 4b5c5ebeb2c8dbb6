//! Events as lines of a file.

use std::io::Write;

use policy::observe::{self, Canonical, Class, Column, Positions, ShapeFacts, Value};

use super::values::{Hashed, Hasher};
use crate::telemetry::{EventFlags, EventHeader, Scope};

/// Classes of statements by the names that they have in a file.
pub(crate) const CLASSES: [(Class, &str); 7] = [
    (Class::Read, "read"),
    (Class::Write, "write"),
    (Class::Insert, "insert"),
    (Class::Begin, "begin"),
    (Class::End, "end"),
    (Class::Ddl, "ddl"),
    (Class::Skip, "other"),
];

/// How values are written.
#[derive(Debug)]
pub(crate) enum Writing {
    /// Not at all.
    Drop,
    /// As what stands for them.
    Hash(Hasher),
    /// As they are.
    Keep,
}

/// A line under way. Writing to memory does not fail.
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl<'a> Line<'a> {
    /// Begins an object.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, begun: false }
    }

    fn key(&mut self, key: &str) {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push(b',');
        }
        json(self.out, key);
        self.out.push(b':');
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.key(key);
        json(self.out, text);
        self
    }

    pub(crate) fn number(&mut self, key: &str, number: u64) -> &mut Self {
        self.key(key);
        drop(write!(self.out, "{number}"));
        self
    }

    /// Only where it is on: what is absent is off.
    pub(crate) fn flag(&mut self, key: &str, on: bool) -> &mut Self {
        if on {
            self.key(key);
            self.out.extend_from_slice(b"true");
        }
        self
    }

    /// 16 hexadecimal digits.
    pub(crate) fn id(&mut self, key: &str, id: u64) -> &mut Self {
        self.key(key);
        drop(write!(self.out, "\"{id:016x}\""));
        self
    }

    fn list<T>(&mut self, key: &str, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Vec<u8>, T)) {
        self.key(key);
        self.out.push(b'[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            each(self.out, item);
        }
        self.out.push(b']');
    }

    fn who(&mut self, header: &EventHeader, scope: &Scope) {
        self.number("conn", header.connection).text("db", &scope.database).text("user", &scope.user);
        self.text("app", &scope.application).text("client", &scope.client).text("tenant", &scope.tenant);
    }

    /// Ends the line.
    pub(crate) fn end(&mut self) {
        self.out.extend_from_slice(b"}\n");
    }
}

/// What is known of a statement, in front of its first event: a reader need not understand the text, in which constants
/// are marks.
pub(crate) fn statement(out: &mut Vec<u8>, facts: &ShapeFacts, text: &str) {
    let class = CLASSES.iter().find(|(class, _)| *class == facts.class).map_or("other", |(_, name)| name);
    let mut line = Line::new(out);
    line.id("statement", facts.strict).id("family", facts.family).text("class", class).text("sql", text);
    line.flag("batched", facts.batched).flag("limit", facts.has_limit).flag("offset", facts.has_offset);
    line.flag("skip_locked", facts.skip_locked).end();
}

/// A client that has come, or gone.
pub(crate) fn session(out: &mut Vec<u8>, header: &EventHeader, scope: &Scope) {
    let what = if header.flags.contains(EventFlags::SESSION_BEGIN) { "begin" } else { "end" };
    let mut line = Line::new(out);
    line.text("session", what).number("t", header.start_us).who(header, scope);
    line.end();
}

/// What the ids of an event stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) scope: &'a Scope,
    /// The statement's normalised text.
    pub(crate) sql: &'a str,
    pub(crate) route: Option<&'a str>,
    /// Its values behind LIMIT and OFFSET.
    pub(crate) positions: &'a Positions,
}

/// One finished statement.
pub(crate) fn event(
    out: &mut Vec<u8>,
    header: &EventHeader,
    event: &observe::Event<'_>,
    known: Known<'_>,
    writing: &Writing,
) {
    let Known { scope, sql, route, positions } = known;
    // How far into a result says nothing of what is in it, and pages are told by their order.
    let (parameters, constants) = (event.parameters.len(), event.literals.len());
    let writing_of = |place: usize, value: Value<'_>| match (writing, value.canonical()) {
        (Writing::Hash(_), Canonical::Integer(_)) if positions.hold(place, parameters, constants) => &Writing::Keep,
        _ => writing,
    };
    let flag = |flag| header.flags.contains(flag);
    let mut line = Line::new(out);
    line.number("t0", event.start_us).number("t1", event.end_us).who(header, scope);
    line.id("statement", event.facts.strict).text("sql", sql);
    line.flag("tx", flag(EventFlags::IN_TRANSACTION)).flag("suspended", flag(EventFlags::SUSPENDED));
    line.flag("resumed", event.resumed);
    line.flag("cached", flag(EventFlags::CACHED));
    if header.queue_us > 0 {
        line.number("queued", u64::from(header.queue_us));
    }
    if header.trace != 0 {
        line.id("trace", header.trace);
    }
    if let Some(route) = route {
        line.text("route", route);
    }
    if !matches!(writing, Writing::Drop) {
        if !event.parameters.is_empty() {
            line.flag("cut", flag(EventFlags::PARAMETERS_CUT));
            let parameters = event.parameters.iter().enumerate();
            line.list("params", parameters, |out, (place, value)| parameter(out, *value, writing_of(place, *value)));
        }
        if !event.literals.is_empty() {
            let literals = (event.parameters.len()..).zip(event.literals);
            line.list("literals", literals, |out, (place, value)| parameter(out, *value, writing_of(place, *value)));
        }
    }
    line.number("nrows", event.row_count);
    if let Some(columns) = event.columns {
        let kept = matches!(writing, Writing::Keep);
        line.list("cols", columns.iter(), |out, column| describe(out, column, kept));
        if !matches!(writing, Writing::Drop) && !event.rows.is_empty() {
            line.list("rows", observe::rows(event.rows, columns.len()), |out, row| {
                out.push(b'[');
                for (place, (value, column)) in row.into_iter().zip(columns.iter()).enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    cell(out, value, column, writing);
                }
                out.push(b']');
            });
        }
    }
    if let Some(code) = &event.error {
        line.text("err", std::str::from_utf8(code).unwrap_or("XX000"));
    }
    line.end();
}

/// `[name, table OID, attribute number, type OID, format]`. What stands for a value is always text.
fn describe(out: &mut Vec<u8>, column: &Column, kept: bool) {
    out.push(b'[');
    json(out, &column.name);
    let format = u8::from(column.binary && kept);
    drop(write!(out, ",{},{},{},{format}]", column.table_oid, column.attribute, column.type_oid));
}

fn parameter(out: &mut Vec<u8>, value: Value<'_>, writing: &Writing) {
    match (writing, value) {
        (Writing::Drop, _) | (_, Value::Null) => out.extend_from_slice(b"null"),
        (Writing::Hash(hasher), value) => hashed(out, &hasher.hash(value)),
        (Writing::Keep, Value::Text { type_oid, bytes }) => kept(out, type_oid, bytes, false),
        (Writing::Keep, Value::Binary { type_oid, bytes }) => kept(out, type_oid, bytes, true),
    }
}

fn cell(out: &mut Vec<u8>, bytes: Option<&[u8]>, column: &Column, writing: &Writing) {
    let type_oid = column.type_oid;
    match (writing, bytes) {
        (Writing::Drop, _) | (_, None) => out.extend_from_slice(b"null"),
        (Writing::Hash(hasher), Some(bytes)) if column.binary => {
            hashed(out, &hasher.hash(Value::Binary { type_oid, bytes }));
        }
        (Writing::Hash(hasher), Some(bytes)) => hashed(out, &hasher.hash(Value::Text { type_oid, bytes })),
        (Writing::Keep, Some(bytes)) => kept(out, 0, bytes, column.binary),
    }
}

fn hashed(out: &mut Vec<u8>, value: &Hashed) {
    drop(match value {
        Hashed::Null => write!(out, "null"),
        Hashed::Integer(number) => write!(out, "\"{number}\""),
        Hashed::Bytes(digest) => write!(out, "\"#{digest:016x}\""),
        // `int4[]`: any array will do.
        Hashed::Array => write!(out, "{{\"text\":\"{{}}\",\"type\":1007}}"),
        Hashed::Uuid([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) => write!(
            out,
            "\"{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}-{i:02x}{j:02x}-\
             {k:02x}{l:02x}{m:02x}{n:02x}{o:02x}{p:02x}\""
        ),
    });
}

/// A text as it is, or an object with the bytes, and with the type where reading the value depends on it.
fn kept(out: &mut Vec<u8>, type_oid: u32, bytes: &[u8], binary: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !binary && type_oid == 0 => json(out, text),
        Ok(text) if !binary => {
            out.extend_from_slice(b"{\"text\":");
            json(out, text);
            drop(write!(out, ",\"type\":{type_oid}}}"));
        }
        _ => {
            out.extend_from_slice(b"{\"hex\":\"");
            for byte in bytes {
                drop(write!(out, "{byte:02x}"));
            }
            drop(write!(out, "\",\"type\":{type_oid}}}"));
        }
    }
}

fn json(out: &mut Vec<u8>, text: &str) {
    drop(serde_json::to_writer(out, text));
}
