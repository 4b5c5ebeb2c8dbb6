//! The way from a worker to the analyst: a ring of bytes with one writer and one reader.
//!
//! Built of 64-bit words that are stored and loaded whole, so that neither side ever waits for the other and no unsafe
//! code is needed. A record that finds no room is dropped and counted. Words are wiped when they have been read: bind
//! values do not stay behind.
//!
//! ```text
//!   written ──────────────┐ (by the worker, after the record's words)
//!   ▁▁▁▁▁▁▁▁▁▁█████████████▁▁▁▁▁▁▁▁▁
//!   read ─────┘ (by the analyst, after it has copied the record)
//! ```

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::thread::Thread;

use policy::statement::LiteralKind;

use super::{Sqlstate, TenantId};

/// Bytes kept of one statement's Bind; the rest is cut and the flags say so.
pub const MAX_PARAMETERS: usize = 256;
/// Bytes kept of one statement's constants.
pub const MAX_LITERALS: usize = 256;
/// Bytes kept of one result's rows; the rest is cut and the flags say so.
pub const MAX_ROWS: usize = 4 * 1024;

/// A budget of events is given out for so long at a time. What is looked at then is looked at without a gap from the
/// beginning of each such window up to where the budget ends, and not a sample of it: nothing is missed in between.
pub const WINDOW_US: u64 = 2_000_000;

/// Words before the payload.
const HEAD: usize = 12;
/// The longest record, in words.
const LONGEST: usize = HEAD + (MAX_PARAMETERS + MAX_LITERALS + MAX_ROWS) / 8;

/// What is true of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFlags(pub u16);

impl EventFlags {
    /// It took as long as its tenant's slow threshold, or longer.
    pub const SLOW: Self = Self(1);
    /// It ran inside an explicit transaction.
    pub const IN_TRANSACTION: Self = Self(1 << 1);
    /// It came by the extended protocol.
    pub const EXTENDED: Self = Self(1 << 2);
    /// Every column of the rows is in binary format; without it each is in the format that its description says.
    pub const ROWS_BINARY: Self = Self(1 << 3);
    /// The parameters were cut at [`MAX_PARAMETERS`]. Set by [`EventWriter::push`].
    pub const PARAMETERS_CUT: Self = Self(1 << 4);
    /// The rows were cut at [`MAX_ROWS`]. Set by [`EventWriter::push`].
    pub const ROWS_CUT: Self = Self(1 << 5);
    /// The portal was suspended: the result goes on in another event.
    pub const SUSPENDED: Self = Self(1 << 6);
    /// No statement: a client has come. Only while the reader wants the whole stream.
    pub const SESSION_BEGIN: Self = Self(1 << 7);
    /// No statement: a client has gone. The same.
    pub const SESSION_END: Self = Self(1 << 8);
    /// It was answered from the cache: no server was asked.
    pub const CACHED: Self = Self(1 << 9);
    /// It goes on with a portal that was suspended: its parameters went with the event that came before.
    pub const RESUMED: Self = Self(1 << 10);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `other` too if `on`.
    #[must_use]
    pub const fn with_if(self, other: Self, on: bool) -> Self {
        if on { self.with(other) } else { self }
    }

    /// Whether all of `other` hold.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the analyst is told of every finished statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventHeader {
    /// When it left for the server, in µs on the telemetry clock.
    pub start_us: u64,
    /// When its last reply was in, in µs on the telemetry clock.
    pub end_us: u64,
    /// The client's connection: unique in the process.
    pub connection: u64,
    /// A hash of the trace id in the statement's comments ([`trace_hash`]); 0: none.
    pub trace: u64,
    /// The route, controller or job that a comment named: an id of [`Telemetry::route`](super::Telemetry::route); 0:
    /// none.
    pub route: u32,
    /// Who speaks: an id of [`Telemetry::scope`](super::Telemetry::scope).
    pub scope: u32,
    /// Whose statement it is.
    pub tenant: TenantId,
    /// What it is: [`StatementMeter::statement_id`](super::StatementMeter::statement_id).
    pub statement: u32,
    /// Types of its parameters and columns: an id of [`Telemetry::description`](super::Telemetry::description); 0:
    /// not known.
    pub description: u32,
    /// Rows by the command tag.
    pub rows: u64,
    /// Of the time, waiting for an upstream, in µs.
    pub queue_us: u32,
    /// Of the time, in the server, in µs.
    pub server_us: u32,
    /// The error it ended in.
    pub sqlstate: Option<Sqlstate>,
    /// What else is true of it.
    pub flags: EventFlags,
}

/// The worker's end.
#[derive(Debug)]
pub struct EventWriter {
    ring: Arc<Ring>,
    /// The reader's position when it was last looked at; it only moves on.
    read_seen: Cell<u64>,
    /// The window that an event was last admitted in, and the events admitted in it.
    window: Cell<(u64, u64)>,
    one_thread: PhantomData<Rc<()>>,
}

/// The analyst's end.
#[derive(Debug)]
pub struct EventReader {
    ring: Arc<Ring>,
    /// The record being read.
    words: Vec<u64>,
    bytes: Vec<u8>,
}

/// One event as the analyst reads it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The fixed part.
    pub header: EventHeader,
    /// Its bytes.
    pub payload: Payload<'a>,
}

/// The bytes that travel with an event. All may be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What a Bind holds behind its two names: `wire::view::Bind::rest`.
    pub parameters: &'a [u8],
    /// The constants in the text, as [`push_literal`] lays them out.
    pub literals: &'a [u8],
    /// The first DataRow messages of the result, whole, as they came from the server.
    pub rows: &'a [u8],
}

#[derive(Debug)]
struct Ring {
    words: Box<[AtomicU64]>,
    /// Words written since the start.
    written: Padded,
    /// Words read since the start.
    read: Padded,
    dropped: Arc<AtomicU64>,
    skipped: Arc<AtomicU64>,
    /// The reader wants every event, whatever the budget.
    whole: AtomicBool,
    reader: OnceLock<Thread>,
}

/// A position on a cache line of its own: the two sides write theirs all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// How many events a ring dropped, or never saw, for whoever shows it.
#[derive(Debug, Clone)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// How many so far.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A ring of at least `bytes` bytes (rounded up to a power of two, 16 KiB at least).
pub fn ring(bytes: usize) -> (EventWriter, EventReader) {
    let words = (bytes / 8).max(2048).next_power_of_two();
    let ring = Arc::new(Ring {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        written: Padded::default(),
        read: Padded::default(),
        dropped: Arc::default(),
        skipped: Arc::default(),
        whole: AtomicBool::new(false),
        reader: OnceLock::new(),
    });
    let reader = EventReader { ring: Arc::clone(&ring), words: Vec::with_capacity(LONGEST), bytes: Vec::new() };
    (EventWriter { ring, read_seen: Cell::new(0), window: Cell::default(), one_thread: PhantomData }, reader)
}

impl EventWriter {
    /// Whether an event that ended at `end_us` is within a budget of so many a second. One that is not is counted, and
    /// need not be put together: analysis takes a bounded share of the processor, however much traffic there is.
    #[inline]
    pub fn admits(&self, end_us: u64, per_second: u32) -> bool {
        let now = end_us / WINDOW_US;
        let (window, admitted) = self.window.get();
        let admitted = if window == now { admitted } else { 0 };
        let admits = admitted < u64::from(per_second) * (WINDOW_US / 1_000_000);
        if admits {
            self.window.set((now, admitted + 1));
        } else {
            self.ring.skipped.store(self.ring.skipped.load(Relaxed) + 1, Relaxed);
        }
        admits
    }

    /// Whether the reader wants every event, whatever the budget, and to be told of clients that come and go.
    #[inline]
    pub fn is_wanted_whole(&self) -> bool {
        self.ring.whole.load(Relaxed)
    }

    /// Hands one event to the analyst: never waits, never allocates. `false`: no room, dropped and counted.
    ///
    /// What is too long is cut: rows after a whole one, constants not at all ([`push_literal`] keeps the bound).
    #[inline]
    pub fn push(&self, header: &EventHeader, payload: &Payload<'_>) -> bool {
        let (parameters, parameters_cut) = cut(payload.parameters, MAX_PARAMETERS);
        let (literals, _) = cut(payload.literals, MAX_LITERALS);
        let (rows, rows_cut) = cut_rows(payload.rows);
        let payload = Payload { parameters, literals, rows };
        let written = self.ring.written.0.load(Relaxed);
        if !self.has_room(written, payload.record_words() as u64) {
            self.ring.dropped.store(self.ring.dropped.load(Relaxed) + 1, Relaxed);
            return false;
        }
        let flags =
            header.flags.with_if(EventFlags::PARAMETERS_CUT, parameters_cut).with_if(EventFlags::ROWS_CUT, rows_cut);
        let mut at = written;
        for word in head(header, flags, &payload) {
            self.put(&mut at, word);
        }
        self.put_bytes(&mut at, parameters);
        self.put_bytes(&mut at, literals);
        self.put_bytes(&mut at, rows);
        self.ring.written.0.store(at, Release);
        self.wake_if_half_full(written, at);
        true
    }

    /// The count of dropped events, readable from anywhere.
    pub fn dropped(&self) -> Dropped {
        Dropped(Arc::clone(&self.ring.dropped))
    }

    /// The count of events beyond the budget, readable from anywhere.
    pub fn skipped(&self) -> Dropped {
        Dropped(Arc::clone(&self.ring.skipped))
    }

    #[inline]
    fn has_room(&self, written: u64, words: u64) -> bool {
        let capacity = self.ring.words.len() as u64;
        if written + words - self.read_seen.get() <= capacity {
            return true;
        }
        self.read_seen.set(self.ring.read.0.load(Acquire));
        written + words - self.read_seen.get() <= capacity
    }

    #[inline]
    fn put(&self, at: &mut u64, word: u64) {
        if let Some(cell) = self.ring.cell(*at) {
            cell.store(word, Relaxed);
        }
        *at += 1;
    }

    #[inline]
    fn put_bytes(&self, at: &mut u64, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        for chunk in whole {
            self.put(at, u64::from_le_bytes(*chunk));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.put(at, u64::from_le_bytes(last));
        }
    }

    /// The reader sleeps between looks; a burst that fills half the ring wakes it early.
    #[inline]
    fn wake_if_half_full(&self, before: u64, after: u64) {
        let half = self.ring.words.len() as u64 / 2;
        let seen = self.read_seen.get();
        if after - seen > half && before - seen <= half {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some(reader) = self.ring.reader.get() {
            reader.unpark();
        }
    }
}

impl EventReader {
    /// Names the thread that a burst wakes. The first call counts.
    pub fn wakes(&self, thread: Thread) {
        self.ring.reader.get_or_init(|| thread);
    }

    /// Asks the writer for every event, or for those within its budget again.
    pub fn want_whole(&self, whole: bool) {
        self.ring.whole.store(whole, Relaxed);
    }

    /// Events that found no room so far.
    pub fn dropped(&self) -> u64 {
        self.ring.dropped.load(Relaxed)
    }

    /// Reads what is there, at most `limit` events; returns how many.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&Event<'_>)) -> usize {
        let mut events = 0;
        while events < limit && self.next_record() {
            if let Some(event) = parse(&self.words, &mut self.bytes) {
                each(&event);
            }
            events += 1;
        }
        self.words.fill(0);
        self.bytes.fill(0);
        events
    }

    /// Whether the writer's side is gone and everything has been read.
    pub fn is_finished(&self) -> bool {
        Arc::strong_count(&self.ring) == 1 && self.ring.read.0.load(Relaxed) == self.ring.written.0.load(Acquire)
    }

    /// Copies the next record out of the ring, wipes it there, and gives the room back.
    fn next_record(&mut self) -> bool {
        let read = self.ring.read.0.load(Relaxed);
        let available = self.ring.written.0.load(Acquire) - read;
        if available == 0 {
            return false;
        }
        let length = self.ring.cell(read).map_or(0, |cell| cell.load(Relaxed) & 0xffff).clamp(1, available);
        self.words.clear();
        for at in read..read + length {
            if let Some(cell) = self.ring.cell(at) {
                self.words.push(cell.load(Relaxed));
                cell.store(0, Relaxed);
            }
        }
        self.ring.read.0.store(read + length, Release);
        true
    }
}

impl Ring {
    #[inline]
    fn cell(&self, at: u64) -> Option<&AtomicU64> {
        self.words.get(at as usize & (self.words.len() - 1))
    }
}

impl Payload<'_> {
    /// Words of a record with this payload. Each part begins on a word of its own.
    #[inline]
    fn record_words(&self) -> usize {
        HEAD + self.parameters.len().div_ceil(8) + self.literals.len().div_ceil(8) + self.rows.len().div_ceil(8)
    }
}

/// The fixed part of a record. Its first word: words of the record, flags, 16 bits each. Its second: lengths of the
/// payload's parts in bytes.
#[inline]
fn head(header: &EventHeader, flags: EventFlags, payload: &Payload<'_>) -> [u64; HEAD] {
    [
        payload.record_words() as u64 | u64::from(flags.0) << 16 | u64::from(header.route) << 32,
        payload.parameters.len() as u64 | (payload.literals.len() as u64) << 16 | (payload.rows.len() as u64) << 32,
        header.start_us,
        header.end_us,
        header.connection,
        header.trace,
        pair(header.scope, header.tenant.0),
        pair(header.statement, header.description),
        header.rows,
        pair(header.queue_us, header.server_us),
        header.sqlstate.map_or(0, Sqlstate::to_word),
        0,
    ]
}

/// Reads a record back; `None` if it does not hold together.
fn parse<'a>(words: &[u64], bytes: &'a mut Vec<u8>) -> Option<Event<'a>> {
    let (head, body) = words.split_first_chunk::<HEAD>()?;
    let [first, lengths, start_us, end_us, connection, trace, who, what, rows, times, sqlstate, _] = *head;
    bytes.clear();
    bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
    let mut rest = bytes.as_slice();
    let mut part = |length: u64| {
        let length = (length & 0xffff) as usize;
        let (part, behind) = rest.split_at_checked(length.next_multiple_of(8))?;
        rest = behind;
        part.get(..length)
    };
    let payload = Payload { parameters: part(lengths)?, literals: part(lengths >> 16)?, rows: part(lengths >> 32)? };
    let header = EventHeader {
        start_us,
        end_us,
        connection,
        trace,
        route: (first >> 32) as u32,
        scope: who as u32,
        tenant: TenantId((who >> 32) as u32),
        statement: what as u32,
        description: (what >> 32) as u32,
        rows,
        queue_us: times as u32,
        server_us: (times >> 32) as u32,
        sqlstate: Sqlstate::from_word(sqlstate),
        flags: EventFlags((first >> 16) as u16),
    };
    Some(Event { header, payload })
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[inline]
fn cut(bytes: &[u8], limit: usize) -> (&[u8], bool) {
    bytes.get(..limit).map_or((bytes, false), |kept| (kept, bytes.len() > limit))
}

/// The whole rows that fit.
#[inline]
fn cut_rows(rows: &[u8]) -> (&[u8], bool) {
    if rows.len() <= MAX_ROWS { (rows, false) } else { (whole_rows(rows), true) }
}

#[cold]
fn whole_rows(rows: &[u8]) -> &[u8] {
    let (kept, _) = cut(rows, MAX_ROWS);
    let mut rest = kept;
    while let Ok(Some(_)) = wire::frame::next(&mut rest, MAX_ROWS) {}
    kept.get(..kept.len() - rest.len()).unwrap_or_default()
}

/// What [`EventHeader::trace`] holds for a trace id; never 0.
pub fn trace_hash(id: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id).max(1)
}

/// Appends a constant to an event's literals: its kind, its length as a little-endian 16-bit number, its bytes as they
/// stand in the text. `false`: it does not fit any more, and nothing was appended. `section` should have a capacity of
/// [`MAX_LITERALS`].
#[inline]
pub fn push_literal(section: &mut Vec<u8>, kind: LiteralKind, bytes: &[u8]) -> bool {
    if section.len() + 3 + bytes.len() > MAX_LITERALS {
        return false;
    }
    section.push(kind as u8);
    section.extend((bytes.len() as u16).to_le_bytes());
    section.extend(bytes);
    true
}

/// Reads the constants that [`push_literal`] laid out.
pub fn literals(mut section: &[u8]) -> impl Iterator<Item = (LiteralKind, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, low, high], rest) = section.split_first_chunk::<3>()?;
        let (bytes, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]) as usize)?;
        section = rest;
        Some((KINDS.into_iter().find(|known| *known as u8 == kind)?, bytes))
    })
}

const KINDS: [LiteralKind; 5] =
    [LiteralKind::Number, LiteralKind::String, LiteralKind::Bits, LiteralKind::Bool, LiteralKind::Null];

#[cfg(test)]
mod tests;
