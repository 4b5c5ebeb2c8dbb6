//! Bursts: runs of one family of statements in one scope without a pause.

use super::event::{Event, MAX_PARAMETER_BYTES, RouteId, ShapeFacts, ShapeId, TenantId, TraceId};
use super::judge::Verdict;
use super::thresholds::Thresholds;
use super::value::{Cell, HashKey, Kind, Value};

/// Parameters looked at of one statement.
pub(super) const MAX_PARAMETERS: usize = 8;
/// Executions remembered of one burst, the latest.
pub(super) const MAX_RECORDS: usize = 64;
/// Connections told apart in one burst.
const MAX_CONNECTIONS: usize = 64;

/// One execution of a burst's statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) queued_us: u64,
    pub(super) connection: u64,
    pub(super) strict: u64,
    pub(super) shape: ShapeId,
    /// The connection's transaction by its number.
    pub(super) transaction: u32,
    /// `$1` … `$n` as counted by the caller, then the constants.
    pub(super) parameters: u8,
    /// Rows that it returned or changed, as far as they can be counted here.
    pub(super) rows: u16,
    kinds: [Kind; MAX_PARAMETERS],
    numbers: [u64; MAX_PARAMETERS],
}

impl Record {
    /// Reads an event's parameters into cells.
    pub(super) fn new(event: &Event<'_>, transaction: u32, key: HashKey) -> Self {
        let mut record = Self {
            start_us: event.start_us,
            end_us: event.end_us,
            queued_us: event.queued_us,
            connection: event.connection,
            strict: event.facts.strict,
            shape: event.shape,
            transaction,
            parameters: 0,
            rows: u16::try_from(event.row_count).unwrap_or(u16::MAX),
            kinds: [Kind::Null; MAX_PARAMETERS],
            numbers: [0; MAX_PARAMETERS],
        };
        let mut budget = MAX_PARAMETER_BYTES;
        let values = event.parameters.iter().chain(event.literals);
        for ((value, kind), number) in values.zip(&mut record.kinds).zip(&mut record.numbers) {
            let (Value::Text { bytes, .. } | Value::Binary { bytes, .. }) = value else {
                record.parameters += 1;
                continue;
            };
            let Some(left) = budget.checked_sub(bytes.len()) else { break };
            budget = left;
            let cell = Cell::of(*value, key);
            (*kind, *number) = (cell.kind, cell.number);
            record.parameters += 1;
        }
        record
    }

    /// The cell of one parameter.
    pub(super) fn cell(&self, parameter: usize) -> Cell {
        match (self.kinds.get(parameter), self.numbers.get(parameter)) {
            (Some(kind), Some(number)) => Cell { kind: *kind, number: *number },
            _ => Cell::default(),
        }
    }

    /// Whether it was given an array.
    pub(super) fn has_array(&self) -> bool {
        self.kinds.contains(&Kind::Array)
    }

    /// One number for the whole set of parameters.
    pub(super) fn digest(&self) -> u64 {
        (0..usize::from(self.parameters).min(MAX_PARAMETERS)).fold(0, |digest: u64, parameter| {
            (digest.rotate_left(23) ^ self.cell(parameter).digest()).wrapping_mul(0xff51_afd7_ed55_8ccd)
        })
    }
}

/// What tells bursts apart within a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BurstKey {
    pub(super) family: u64,
    pub(super) tenant: TenantId,
    pub(super) trace: Option<TraceId>,
}

impl BurstKey {
    pub(super) fn of(event: &Event<'_>) -> Self {
        Self { family: event.facts.family, tenant: event.tenant, trace: event.trace }
    }

    /// Mixes the parts for a table's index.
    pub(super) fn hash(&self) -> u64 {
        let trace = self.trace.map_or(0, TraceId::number);
        (self.family ^ trace.rotate_left(17) ^ u64::from(self.tenant.0).rotate_left(40))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A run of one statement, with its latest executions.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    pub(super) key: BurstKey,
    pub(super) facts: ShapeFacts,
    pub(super) route: Option<RouteId>,
    /// Executions in this window.
    pub(super) count: u64,
    /// Executions since the run began, windows before this one included.
    pub(super) run_count: u64,
    pub(super) run_start_us: u64,
    pub(super) first_us: u64,
    pub(super) last_end_us: u64,
    /// It goes on in another window: neither its end nor its true size is known.
    pub(super) unfinished: bool,
    /// A bit per parameter set seen, by hash.
    pub(super) distinct: u64,
    /// The latest executions; a ring once full, put in order for judging.
    pub(super) records: Vec<Record>,
    connections: Vec<u64>,
    /// The types of the parameters, 0 where unknown, of the text with this strict fingerprint.
    types: (u64, [u32; MAX_PARAMETERS]),
    /// Count at which a window is judged first.
    first_check: u64,
    /// Count at which to judge it again.
    pub(super) next_check: u64,
    /// Event time before which the next check must wait, so that late events are in.
    pub(super) check_at_us: u64,
    /// It stands in the list of candidates.
    pub(super) queued: bool,
    /// What an earlier check of this window concluded, while the parent's rows were still there.
    pub(super) verdict: Option<Box<Verdict>>,
}

impl Burst {
    /// A burst of one execution, in `storage` that a finished one left behind.
    /// It is judged from `first_check` executions on.
    pub(super) fn new(event: &Event<'_>, record: Record, storage: Storage, first_check: u64) -> Self {
        let Storage { mut records, mut connections } = storage;
        records.push(record);
        connections.push(record.connection);
        let mut burst = Self {
            key: BurstKey::of(event),
            facts: event.facts,
            route: event.route,
            count: 1,
            run_count: 1,
            run_start_us: event.start_us,
            first_us: event.start_us,
            last_end_us: event.end_us,
            unfinished: false,
            distinct: bit(record.digest()),
            records,
            connections,
            types: (event.facts.strict, [0; MAX_PARAMETERS]),
            first_check,
            next_check: first_check,
            check_at_us: u64::MAX,
            queued: false,
            verdict: None,
        };
        burst.note_types(event);
        burst
    }

    /// Counts one more execution.
    pub(super) fn add(&mut self, record: Record) {
        let slot = (self.count % MAX_RECORDS as u64) as usize;
        if self.records.len() < MAX_RECORDS {
            self.records.push(record);
        } else if let Some(oldest) = self.records.get_mut(slot) {
            *oldest = record;
        }
        self.count += 1;
        self.run_count += 1;
        self.first_us = self.first_us.min(record.start_us);
        self.last_end_us = self.last_end_us.max(record.end_us);
        self.distinct |= bit(record.digest());
        if self.connections.len() < MAX_CONNECTIONS && !self.connections.contains(&record.connection) {
            self.connections.push(record.connection);
        }
    }

    /// Takes down what the parameters' types are. NULL has none.
    pub(super) fn note_types(&mut self, event: &Event<'_>) {
        if self.types.0 != event.facts.strict {
            self.types = (event.facts.strict, [0; MAX_PARAMETERS]);
        }
        for (place, value) in self.types.1.iter_mut().zip(event.parameters) {
            if let Value::Text { type_oid, .. } | Value::Binary { type_oid, .. } = value {
                *place = *type_oid;
            }
        }
    }

    /// The type of a parameter of this text, 0 where unknown.
    pub(super) fn type_of(&self, strict: u64, parameter: usize) -> u32 {
        let types = (self.types.0 == strict).then_some(&self.types.1);
        types.and_then(|types| types.get(parameter)).copied().unwrap_or(0)
    }

    /// Parameter sets seen, at most 64 and by hash: never more than there are. Two of three share a bit one time in twenty,
    /// and a loop over just these three would never be seen: few are counted one by one.
    pub(super) fn distinct_sets(&self) -> u32 {
        let bits = self.distinct.count_ones();
        if bits >= Thresholds::DISTINCT || !self.has_all_records() {
            return bits;
        }
        let digest = |place: usize| self.records.get(place).map(Record::digest);
        let is_first = |place: &usize| (0..*place).all(|before| digest(before) != digest(*place));
        (0..self.records.len()).filter(is_first).take(Thresholds::DISTINCT as usize).count() as u32
    }

    /// Whether this very parameter set was (very likely, in a long burst) seen before.
    pub(super) fn has_seen(&self, record: &Record) -> bool {
        let digest = record.digest();
        self.distinct & bit(digest) != 0
            && (!self.has_all_records() || self.records.iter().any(|known| known.digest() == digest))
    }

    fn has_all_records(&self) -> bool {
        self.count == self.records.len() as u64
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.len() as u64
    }

    /// Cuts the window so far off, to be judged, and goes on with an empty one.
    pub(super) fn next_window(&mut self) -> Self {
        let mut window = self.clone();
        window.unfinished = true;
        self.count = 0;
        self.first_us = self.last_end_us;
        self.distinct = 0;
        self.records.clear();
        self.connections.clear();
        self.next_check = self.first_check;
        self.check_at_us = u64::MAX;
        self.verdict = None;
        window
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.records.capacity() * size_of::<Record>()
            + self.connections.capacity() * size_of::<u64>()
    }

    /// Takes the storage out, emptied and zeroed; what is left is to be overwritten.
    pub(super) fn take_storage(&mut self) -> Storage {
        for record in &mut self.records {
            record.numbers = [0; MAX_PARAMETERS];
        }
        self.records.clear();
        self.connections.clear();
        Storage { records: std::mem::take(&mut self.records), connections: std::mem::take(&mut self.connections) }
    }
}

/// Buffers that go from one burst to the next.
#[derive(Debug, Default)]
pub(super) struct Storage {
    records: Vec<Record>,
    connections: Vec<u64>,
}

impl Storage {
    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.records.capacity() * size_of::<Record>()
            + self.connections.capacity() * size_of::<u64>()
    }
}

fn bit(digest: u64) -> u64 {
    1 << (digest >> 58)
}
