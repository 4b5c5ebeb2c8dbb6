//! The ring, alone and between two threads.

use super::*;

fn header(n: u64) -> EventHeader {
    EventHeader {
        start_us: n,
        end_us: n + 1,
        connection: 7,
        trace: 8,
        route: 9,
        scope: 10,
        tenant: TenantId(11),
        statement: 12,
        description: 13,
        rows: 14,
        queue_us: 15,
        server_us: 16,
        sqlstate: Some(Sqlstate::new(b"57014")),
        flags: EventFlags::SLOW.with(EventFlags::EXTENDED),
    }
}

fn row(size: usize) -> Vec<u8> {
    let mut row = vec![wire::tag::Backend::DataRow.byte()];
    row.extend((size as u32 + 4).to_be_bytes());
    row.extend(vec![1; size]);
    row
}

#[test]
fn an_event_comes_out_as_it_went_in() {
    let (writer, mut reader) = ring(0);
    for length in 0..=40 {
        let bytes = vec![length as u8 + 1; length];
        let payload = Payload { parameters: &bytes, literals: &bytes[length / 2..], rows: &bytes[..length / 3] };
        assert!(writer.push(&header(length as u64), &payload));
        let seen = reader.drain(10, |event| {
            assert_eq!(event.header, header(length as u64));
            assert_eq!(event.payload, payload);
        });
        assert_eq!(seen, 1);
    }
}

#[test]
fn a_full_ring_drops_and_counts_and_then_goes_on() {
    let (writer, mut reader) = ring(0);
    let pushed = (0..10_000).filter(|n| writer.push(&header(*n), &Payload::default())).count();
    assert_eq!(pushed, 2048 / HEAD);
    assert_eq!(writer.dropped().count(), 10_000 - pushed as u64);
    let mut next = 0;
    reader.drain(usize::MAX, |event| {
        assert_eq!(event.header.start_us, next);
        next += 1;
    });
    assert_eq!(next as usize, pushed);
    assert!(writer.push(&header(0), &Payload::default()));
}

#[test]
fn nothing_stays_behind_in_the_ring_or_in_the_reader() {
    let (writer, mut reader) = ring(0);
    writer.push(&header(1), &Payload { parameters: b"secret", literals: b"secret", rows: b"secret" });
    assert_eq!(reader.drain(10, |_| ()), 1);
    assert!(writer.ring.words.iter().all(|word| word.load(Relaxed) == 0));
    assert!(reader.words.iter().all(|word| *word == 0) && reader.bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_too_long_is_cut_and_marked() {
    let (writer, mut reader) = ring(0);
    let rows = row(1_500).repeat(4);
    writer.push(&header(1), &Payload { parameters: &[1; 300], literals: &[], rows: &rows });
    reader.drain(1, |event| {
        assert_eq!(event.payload.parameters.len(), MAX_PARAMETERS);
        assert_eq!(event.payload.rows, row(1_500).repeat(2));
        assert!(event.header.flags.contains(EventFlags::PARAMETERS_CUT.with(EventFlags::ROWS_CUT)));
    });
}

#[test]
fn two_threads_lose_nothing_but_what_is_counted() {
    const EVENTS: u64 = 200_000;
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let (writer, reader) = ring(1 << 16);
        sender.send(reader).unwrap();
        for n in 0..EVENTS {
            let bytes = n.to_le_bytes();
            writer.push(&header(n), &Payload { parameters: &bytes, rows: &[n as u8; 21], literals: &[] });
        }
        writer.dropped()
    });
    let mut reader = receiver.recv().unwrap();
    let (mut seen, mut last) = (0, None);
    while !reader.is_finished() {
        seen += reader.drain(1_000, |event| {
            let n = event.header.start_us;
            assert!(last.is_none_or(|last| n > last));
            assert_eq!(event.payload.parameters, n.to_le_bytes());
            assert_eq!(event.payload.rows, [n as u8; 21]);
            last = Some(n);
        }) as u64;
    }
    assert_eq!(seen + worker.join().unwrap().count(), EVENTS);
    assert!(seen > 0);
}

#[test]
fn literals_come_back_and_stop_at_the_bound() {
    let mut section = Vec::new();
    assert!(push_literal(&mut section, LiteralKind::Number, b"42"));
    assert!(push_literal(&mut section, LiteralKind::String, b"'a'"));
    assert!(push_literal(&mut section, LiteralKind::Null, b"null"));
    assert!(!push_literal(&mut section, LiteralKind::String, &[b'x'; MAX_LITERALS]));
    let read: Vec<_> = literals(&section).collect();
    let expected: [(LiteralKind, &[u8]); 3] =
        [(LiteralKind::Number, b"42"), (LiteralKind::String, b"'a'"), (LiteralKind::Null, b"null")];
    assert_eq!(read, expected);
    for cut in 0..section.len() {
        assert!(literals(&section[..cut]).count() <= 3);
    }
}

#[test]
fn a_budget_is_given_out_from_the_beginning_of_each_window() {
    let (writer, _reader) = ring(0);
    let admitted = |from: u64, to: u64| (from..to).filter(|end_us| writer.admits(*end_us, 100)).collect::<Vec<_>>();
    assert_eq!(admitted(0, 1_000), (0..200).collect::<Vec<_>>());
    assert_eq!(admitted(WINDOW_US - 10, WINDOW_US + 300), (WINDOW_US..WINDOW_US + 200).collect::<Vec<_>>());
    assert_eq!(writer.skipped().count(), 800 + 10 + 100);
    assert_eq!(writer.dropped().count(), 0);
    // After a long pause, as at the beginning.
    assert_eq!(admitted(10 * WINDOW_US + 7, 10 * WINDOW_US + 8).len(), 1);
}
