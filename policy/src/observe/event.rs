//! What the detector is told: one event per finished statement.

use std::num::NonZeroU64;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::text;
use super::value::Value;
use crate::statement::{self, Analysis, Flags};

/// Who sent it: database, user, application name and client host, interned by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub u32);

/// Whose statement it is, interned by the caller. Findings never cross tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

/// A statement's shape (its strict fingerprint and text), interned by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShapeId(pub u32);

/// The route, controller or job that a comment named, interned by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A distributed trace: where there is one it replaces the time windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(NonZeroU64);

impl TraceId {
    /// Reads a W3C `traceparent` value.
    pub fn from_traceparent(value: &str) -> Option<Self> {
        trace_of(value).and_then(|trace| Self::from_bytes(trace.as_bytes()))
    }

    /// Makes one of any other identifier of a unit of work; `None` when it is empty.
    pub fn from_bytes(identifier: &[u8]) -> Option<Self> {
        if identifier.is_empty() { None } else { NonZeroU64::new(xxh3_64(identifier).max(1)).map(Self) }
    }

    /// The identifier as a number, for hashing.
    pub(super) fn number(self) -> u64 {
        self.0.get()
    }
}

/// The trace in a W3C `traceparent` value, `00-<32 hex digits>-<16 hex digits>-<flags>`. `None`: there is none. Zeros alone are
/// what a span says that belongs to no trace: everything that is not traced would belong together.
pub fn trace_of(traceparent: &str) -> Option<&str> {
    let trace = traceparent.split('-').nth(1)?;
    let hexadecimal = trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

/// What kind of statement it is, as far as detection cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// SELECT with a FROM.
    Read,
    /// UPDATE, DELETE, MERGE, and a WITH that writes.
    Write,
    /// INSERT.
    Insert,
    /// BEGIN.
    Begin,
    /// COMMIT, ROLLBACK, PREPARE TRANSACTION.
    End,
    /// CREATE, ALTER, DROP and whatever else changes the schema.
    Ddl,
    /// Everything that neither causes nor is an N+1: SET, SHOW, FETCH, COPY, SELECT without FROM, ….
    Skip,
}

/// What is known about a shape; small enough to travel with every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeFacts {
    /// Fingerprint as operators see it.
    pub strict: u64,
    /// Coarser fingerprint that bursts are keyed by.
    pub family: u64,
    /// What kind of statement it is.
    pub class: Class,
    /// It asks for many keys at once: an IN list of three or more, `= ANY(…)`, several rows of VALUES.
    pub batched: bool,
    /// LIMIT or FETCH FIRST.
    pub has_limit: bool,
    /// OFFSET.
    pub has_offset: bool,
    /// SKIP LOCKED: the mark of a queue.
    pub skip_locked: bool,
}

impl ShapeFacts {
    /// Of a text that nothing is known about: it is skipped.
    pub const UNKNOWN: Self = Self {
        strict: 0,
        family: 0,
        class: Class::Skip,
        batched: false,
        has_limit: false,
        has_offset: false,
        skip_locked: false,
    };

    /// The facts of an analysed text; `normalised` is its normalised text, read for what the analysis does not tell.
    pub fn new(analysis: &Analysis, normalised: &str) -> Self {
        let flag = |flag| analysis.flags.contains(flag);
        let (many_rows, unnests) = text::batch_marks(normalised);
        Self {
            strict: analysis.strict,
            family: analysis.family,
            class: class_of(analysis.class, analysis.flags),
            batched: flag(Flags::BATCHED) || many_rows || unnests,
            has_limit: flag(Flags::HAS_LIMIT),
            has_offset: flag(Flags::HAS_OFFSET),
            skip_locked: flag(Flags::SKIP_LOCKED),
        }
    }
}

/// Several statements in one text are skipped: their rows and parameters cannot be told apart.
fn class_of(class: statement::Class, flags: Flags) -> Class {
    use statement::Class as Verb;
    if flags.contains(Flags::MULTI) {
        return Class::Skip;
    }
    match class {
        Verb::Select if flags.contains(Flags::CTE_WRITES) => Class::Write,
        Verb::Select if flags.contains(Flags::HAS_FROM) && !flags.contains(Flags::SELECT_INTO) => Class::Read,
        Verb::Insert => Class::Insert,
        Verb::Update | Verb::Delete | Verb::Merge => Class::Write,
        Verb::Begin => Class::Begin,
        Verb::Commit | Verb::Rollback | Verb::PrepareTransaction => Class::End,
        Verb::Ddl | Verb::Maintenance => Class::Ddl,
        _ => Class::Skip,
    }
}

/// One column of a result, as RowDescription told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the result.
    pub name: Box<str>,
    /// The table it comes from, 0 when it is computed.
    pub table_oid: u32,
    /// Its number in that table, 0 when it is computed.
    pub attribute: i16,
    /// The type's OID, 0 when unknown.
    pub type_oid: u32,
    /// Whether the values are in the binary format.
    pub binary: bool,
}

/// One finished statement.
///
/// Times are microseconds on any one clock that all events share (for findings to carry a date: since 1970).
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When the statement left for the server.
    pub start_us: u64,
    /// When its last reply was in.
    pub end_us: u64,
    /// How long it had waited in the proxy before it left.
    pub queued_us: u64,
    /// The client's connection, never reused while the process lives.
    pub connection: u64,
    /// Who sent it.
    pub scope: ScopeId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The trace it belongs to, from a comment.
    pub trace: Option<TraceId>,
    /// The route it belongs to, from a comment.
    pub route: Option<RouteId>,
    /// Its shape, for the texts of a finding.
    pub shape: ShapeId,
    /// What is known about that shape.
    pub facts: ShapeFacts,
    /// The parameters of Bind, `$1` first.
    pub parameters: &'a [Value<'a>],
    /// The constants in the text in order of appearance: the `?` of the normalised text.
    pub literals: &'a [Value<'a>],
    /// The result's columns; `None` when there is no result.
    pub columns: Option<&'a Arc<[Column]>>,
    /// How many rows came back or were changed.
    pub row_count: u64,
    /// The first rows, whole rows only, each as its values: length as a big-endian `i32` (-1 for NULL), then the bytes.
    /// That is a DataRow's body without its column count. At most [`MAX_SAMPLE_BYTES`] are kept.
    pub rows: &'a [u8],
    /// The very last row in the same form, when `rows` does not reach it; may be empty.
    pub last_row: &'a [u8],
    /// It goes on with a portal that was suspended: its rows are more of a result whose execution was told of before.
    pub resumed: bool,
    /// The error's SQLSTATE when it failed.
    pub error: Option<[u8; 5]>,
}

/// Bytes of rows kept of one result.
pub const MAX_SAMPLE_BYTES: usize = 4 * 1024;
/// Rows looked at of one result.
pub const MAX_SAMPLE_ROWS: usize = 128;
/// Bytes of parameters looked at of one statement.
pub const MAX_PARAMETER_BYTES: usize = 256;

/// Builds [`Event::rows`] from single values, for callers that do not have DataRow bodies.
#[derive(Debug, Clone, Default)]
pub struct RowBytes {
    bytes: Vec<u8>,
}

impl RowBytes {
    /// Appends one value; a row is as many values as there are columns.
    pub fn push(&mut self, value: Option<&[u8]>) {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// What [`Event::rows`] wants.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it; the capacity stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Takes [`Event::rows`] apart again, as long as rows of `width` values are whole; `None` is NULL.
pub fn rows(mut bytes: &[u8], width: usize) -> impl Iterator<Item = Vec<Option<&[u8]>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() || width == 0 {
            return None;
        }
        let mut row = Vec::with_capacity(width.min(bytes.len()));
        for _ in 0..width {
            let (value, rest) = next_value(bytes)?;
            row.push(value);
            bytes = rest;
        }
        Some(row)
    })
}

/// One value off the front: `None` inside for NULL, `None` outside when the bytes end within it.
pub(super) fn next_value(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest.split_at_checked(length).map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

/// Names behind a [`ScopeId`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The database's name as the client asked for it.
    pub database: String,
    /// The client's user.
    pub user: String,
    /// Its `application_name`.
    pub application: String,
    /// Its host, without the port.
    pub client: String,
}

/// A column by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName {
    /// The table, without its schema.
    pub table: String,
    /// The column.
    pub column: String,
}

/// The caller's side tables, asked only when there may be something to report.
///
/// Every answer may be `None`: the entry is gone, or was never known. A finding is then left out (its texts are its
/// substance) or carries less.
pub trait Directory {
    /// The normalised text behind a shape and its strict fingerprint (an id may have been reused since).
    fn shape(&self, id: ShapeId) -> Option<(u64, &str)>;
    /// The names behind a scope.
    fn scope(&self, id: ScopeId) -> Option<&Scope>;
    /// The name of a tenant.
    fn tenant(&self, id: TenantId) -> Option<&str>;
    /// The text of a route.
    fn route(&self, id: RouteId) -> Option<&str>;
    /// The names behind a table's OID and attribute number in the scope's database, if they have been looked up.
    fn column(&self, scope: ScopeId, table_oid: u32, attribute: i16) -> Option<ColumnName>;
}
