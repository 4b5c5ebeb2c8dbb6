//! The rows of recent results of one scope: where the keys of a burst may have come from.
//!
//! Rows lie raw in one ring of bytes and are looked at only when a burst is judged. Bytes are overwritten with zeros
//! when they expire.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Column, Event, MAX_SAMPLE_BYTES, MAX_SAMPLE_ROWS, ShapeId, TenantId, TraceId, next_value};
use super::value::{Cell, HashKey, Value};

/// Bytes of rows kept per scope.
pub(super) const RING_BYTES: usize = 64 * 1024;
/// Results kept per scope.
const MAX_SAMPLES: usize = 512;

/// One result, without its bytes.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Counts up per scope; names this execution while the sample lives.
    pub(super) serial: u64,
    pub(super) shape: ShapeId,
    pub(super) strict: u64,
    pub(super) family: u64,
    pub(super) tenant: TenantId,
    pub(super) trace: Option<TraceId>,
    pub(super) end_us: u64,
    pub(super) row_count: u64,
    pub(super) columns: Arc<[Column]>,
    /// The family of the children that were found to come from it: from then on no time limit applies to them.
    pub(super) cause_of: Option<u64>,
    /// Its bytes: offset in the ring, bytes of the first rows, bytes of the last row.
    offset: usize,
    rows: usize,
    last: usize,
}

/// The results of one scope, oldest first. Whatever ends it, its rows are wiped.
#[derive(Debug, Default)]
pub(super) struct Samples {
    headers: VecDeque<Sample>,
    /// Grows once to [`RING_BYTES`]; empty in a scope that never returned rows.
    ring: Vec<u8>,
    /// Where the next bytes go.
    head: usize,
    serial: u64,
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.ring.fill(0);
        // What is written to memory that is about to be given back may be left out, unless somebody may look at it.
        std::hint::black_box(&mut self.ring);
    }
}

impl Samples {
    /// Copies an event's rows, over the oldest if need be.
    pub(super) fn push(&mut self, event: &Event<'_>, columns: &Arc<[Column]>) {
        let rows = whole_rows(event.rows, columns.len());
        let last = if event.last_row.len() <= MAX_SAMPLE_BYTES { event.last_row } else { &[] };
        if rows.is_empty() && last.is_empty() {
            return;
        }
        if self.ring.is_empty() {
            self.ring.resize(RING_BYTES, 0);
        }
        let length = rows.len() + last.len();
        if self.head + length > self.ring.len() {
            let end = self.ring.len();
            self.free(self.head, end);
            self.head = 0;
        }
        self.free(self.head, self.head + length);
        if self.headers.len() >= MAX_SAMPLES {
            self.drop_oldest();
        }
        for (bytes, offset) in [(rows, self.head), (last, self.head + rows.len())] {
            if let Some(place) = self.ring.get_mut(offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        self.serial += 1;
        self.headers.push_back(Sample {
            serial: self.serial,
            shape: event.shape,
            strict: event.facts.strict,
            family: event.facts.family,
            tenant: event.tenant,
            trace: event.trace,
            end_us: event.end_us,
            row_count: event.row_count,
            columns: Arc::clone(columns),
            cause_of: None,
            offset: self.head,
            rows: rows.len(),
            last: last.len(),
        });
        self.head += length;
    }

    /// Forgets and zeroes what ended before `oldest_us`.
    pub(super) fn expire(&mut self, oldest_us: u64) {
        while self.headers.front().is_some_and(|sample| sample.end_us < oldest_us) {
            self.drop_oldest();
        }
        if self.headers.is_empty() {
            // Every byte that was used has been zeroed with its sample.
            self.ring = Vec::new();
            self.head = 0;
        }
    }

    /// Bytes that they take; what columns are called is shared with the statement that returned them.
    pub(super) fn bytes(&self) -> usize {
        self.ring.capacity() + self.headers.capacity() * size_of::<Sample>()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.headers.iter()
    }

    pub(super) fn mark_cause(&mut self, serial: u64, of: u64) {
        if let Some(first) = self.headers.front().map(|sample| sample.serial)
            && let Some(sample) = serial.checked_sub(first).and_then(|n| self.headers.get_mut(usize::try_from(n).ok()?))
        {
            sample.cause_of = Some(of);
        }
    }

    /// Calls `visit(row, column, cell)` for the values of the first rows of a sample.
    pub(super) fn visit_rows(&self, sample: &Sample, key: HashKey, visit: impl FnMut(usize, usize, Cell)) {
        let bytes = self.ring.get(sample.offset..sample.offset + sample.rows).unwrap_or_default();
        visit_values(bytes, &sample.columns, key, visit);
    }

    /// The values of the last row, if it is known.
    pub(super) fn last_row(&self, sample: &Sample, key: HashKey) -> Option<Vec<Cell>> {
        let mut cells = vec![Cell::default(); sample.columns.len()];
        let mut seen = 0;
        let mut put = |row: usize, column: usize, cell| {
            seen = row as u64 + 1;
            if let Some(place) = cells.get_mut(column) {
                *place = cell;
            }
        };
        if sample.last > 0 {
            let start = sample.offset + sample.rows;
            visit_values(self.ring.get(start..start + sample.last)?, &sample.columns, key, put);
            return Some(cells);
        }
        self.visit_rows(sample, key, &mut put);
        (seen == sample.row_count && seen > 0).then_some(cells)
    }

    /// Drops the samples whose bytes overlap a range of the ring. They are the oldest, one after the other: bytes are
    /// given out in order, and the range begins where the last ones ended.
    fn free(&mut self, start: usize, end: usize) {
        let overlaps = |sample: &Sample| sample.offset < end && sample.offset + sample.rows + sample.last > start;
        while self.headers.front().is_some_and(overlaps) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(sample) = self.headers.pop_front()
            && let Some(bytes) = self.ring.get_mut(sample.offset..sample.offset + sample.rows + sample.last)
        {
            bytes.fill(0);
        }
    }
}

/// The longest run of whole rows within the bounds of a sample.
fn whole_rows(bytes: &[u8], columns: usize) -> &[u8] {
    if columns == 0 {
        return &[];
    }
    let (mut end, mut rest, mut rows) = (0, bytes, 0);
    while rows < MAX_SAMPLE_ROWS && !rest.is_empty() {
        let before = rest.len();
        for _ in 0..columns {
            match next_value(rest) {
                Some((_, after)) => rest = after,
                None => return bytes.get(..end).unwrap_or_default(),
            }
        }
        if end + before - rest.len() > MAX_SAMPLE_BYTES {
            break;
        }
        end += before - rest.len();
        rows += 1;
    }
    bytes.get(..end).unwrap_or_default()
}

fn visit_values(mut bytes: &[u8], columns: &[Column], key: HashKey, mut visit: impl FnMut(usize, usize, Cell)) {
    for row in 0..MAX_SAMPLE_ROWS {
        for (index, column) in columns.iter().enumerate() {
            let Some((value, rest)) = next_value(bytes) else { return };
            bytes = rest;
            let value = match value {
                None => Value::Null,
                Some(bytes) if column.binary => Value::Binary { type_oid: column.type_oid, bytes },
                Some(bytes) => Value::Text { type_oid: column.type_oid, bytes },
            };
            visit(row, index, Cell::of(value, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{RowBytes, ScopeId, ShapeFacts};
    use super::*;

    #[test]
    fn the_ring_goes_round_without_mixing_rows() {
        let key = HashKey::new(3);
        let column = Column { name: "id".into(), table_oid: 0, attribute: 0, type_oid: 0, binary: false };
        let columns: Arc<[Column]> = vec![column].into();
        let mut samples = Samples::default();
        for turn in 0..5_000_u64 {
            let mut rows = RowBytes::default();
            for row in 0..1 + turn * 7919 % 150 {
                rows.push(Some(format!("{}", turn * 1_000 + row).as_bytes()));
            }
            let event = Event {
                start_us: turn,
                end_us: turn,
                queued_us: 0,
                connection: 1,
                scope: ScopeId(0),
                tenant: TenantId(0),
                trace: None,
                route: None,
                shape: ShapeId(0),
                facts: ShapeFacts::UNKNOWN,
                parameters: &[],
                literals: &[],
                columns: Some(&columns),
                row_count: 1 + turn * 7919 % 150,
                rows: rows.as_bytes(),
                last_row: &[],
                resumed: false,
                error: None,
            };
            samples.push(&event, &columns);
            assert!(samples.ring.len() <= RING_BYTES && samples.headers.len() <= MAX_SAMPLES);
            if turn % 97 != 0 {
                continue;
            }
            let mut kept = 0;
            for sample in samples.iter() {
                kept += sample.rows;
                samples.visit_rows(sample, key, |row, _, cell| {
                    assert_eq!(cell.integer(key), Some((sample.end_us * 1_000 + row as u64) as i64));
                });
            }
            assert!(turn < 300 || kept > RING_BYTES / 2, "the ring is used: {kept}");
        }
        samples.expire(u64::MAX);
        assert!(samples.ring.is_empty(), "nothing stays when everything has expired");
    }

    #[test]
    fn rows_that_end_within_a_value_are_left_out() {
        let mut rows = RowBytes::default();
        rows.push(Some(b"abc"));
        rows.push(None);
        let whole = rows.as_bytes();
        for end in 0..whole.len() {
            assert!(whole_rows(&whole[..end], 2).is_empty());
        }
        assert_eq!(whole_rows(whole, 2), whole);
        assert_eq!(whole_rows(&[127, 255, 255, 255, 1], 1), b"");
    }
}
