//! Events of all rings, put into the order in which they began.

use crate::telemetry::{Event, EventHeader, Payload};

/// Bytes that a batch keeps room for between two looks.
const KEPT: usize = 1 << 20;

/// A batch that is filled ring by ring and read by time: the same client may speak through several workers.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<Entry>,
    /// Starts and places in `events`.
    order: Vec<(u64, u32)>,
    bytes: Vec<u8>,
}

/// One event; its payload stands in the batch's bytes from `start`, in three runs.
#[derive(Debug, Clone, Copy)]
struct Entry {
    header: EventHeader,
    start: usize,
    lengths: [usize; 3],
}

impl Batch {
    /// Copies an event in.
    pub(super) fn push(&mut self, event: &Event<'_>) {
        let Payload { parameters, literals, rows } = event.payload;
        let start = self.bytes.len();
        for part in [parameters, literals, rows] {
            self.bytes.extend_from_slice(part);
        }
        let lengths = [parameters.len(), literals.len(), rows.len()];
        self.events.push(Entry { header: event.header, start, lengths });
    }

    /// Hands out every event in the order of starts, and empties and wipes the batch.
    pub(super) fn each_by_time(&mut self, mut each: impl FnMut(&Event<'_>)) {
        // What one connection began in the same µs stays in its order.
        self.order.clear();
        self.order.extend(self.events.iter().zip(0..).map(|(entry, place)| (entry.header.start_us, place)));
        self.order.sort_unstable();
        for entry in self.order.iter().filter_map(|(_, place)| self.events.get(*place as usize)) {
            let mut rest = self.bytes.get(entry.start..).unwrap_or_default();
            let [parameters, literals, rows] = entry.lengths.map(|length| {
                let (part, behind) = rest.split_at_checked(length).unwrap_or_default();
                rest = behind;
                part
            });
            each(&Event { header: entry.header, payload: Payload { parameters, literals, rows } });
        }
        self.events.clear();
        self.bytes.fill(0);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.events.shrink_to(KEPT / size_of::<Entry>());
        self.order.shrink_to(KEPT / size_of::<Entry>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_by_start_with_their_own_bytes() {
        let mut batch = Batch::default();
        for start_us in [30, 10, 20, 10] {
            let header = EventHeader { start_us, connection: start_us, ..EventHeader::default() };
            let bytes = vec![start_us as u8; start_us as usize];
            batch.push(&Event { header, payload: Payload { parameters: &bytes[1..], literals: &[], rows: &bytes } });
        }
        let mut seen = Vec::new();
        batch.each_by_time(|event| {
            let start = event.header.start_us;
            assert_eq!(event.payload.parameters, vec![start as u8; start as usize - 1]);
            assert_eq!(event.payload.rows, vec![start as u8; start as usize]);
            seen.push(start);
        });
        assert_eq!(seen, [10, 10, 20, 30]);
        batch.each_by_time(|_| panic!("it is empty"));
    }
}
