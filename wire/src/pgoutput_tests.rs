use super::*;

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn begin(xid: u32) -> Vec<u8> {
    joined(&[b"B", &[0; 16], &xid.to_be_bytes()])
}

fn commit(end: u64) -> Vec<u8> {
    joined(&[b"C", &[0; 9], &end.to_be_bytes(), &[0; 8]])
}

fn row(kind: u8, oid: u32, mark: u8) -> Vec<u8> {
    joined(&[&[kind], &oid.to_be_bytes(), &[mark], b"\0\x01t\0\0\0\x011"])
}

fn truncate(oids: &[u32]) -> Vec<u8> {
    let raw: Vec<u8> = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    joined(&[b"T", &(oids.len() as u32).to_be_bytes(), b"\0", &raw])
}

fn data(message: &[u8]) -> Vec<u8> {
    joined(&[b"w", &[0; 24], message])
}

fn keepalive(end: u64) -> Vec<u8> {
    joined(&[b"k", &end.to_be_bytes(), &[0; 9]])
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    joined(&[&[tag], &(body.len() as u32 + 4).to_be_bytes(), body])
}

fn these(oids: &[u32]) -> Relations {
    Relations::These(oids.iter().copied().collect())
}

/// Every message of version 1, and what it is read as.
fn messages() -> Vec<(Vec<u8>, Change<'static>)> {
    vec![
        (begin(7), Change::Begin { xid: 7 }),
        (commit(99), Change::Commit { end: 99 }),
        (row(b'I', 5, b'N'), Change::Row(5)),
        (row(b'U', 5, b'K'), Change::Row(5)),
        (row(b'U', 5, b'O'), Change::Row(5)),
        (row(b'U', 5, b'N'), Change::Row(5)),
        (row(b'D', 6, b'K'), Change::Row(6)),
        (row(b'D', 6, b'O'), Change::Row(6)),
        (truncate(&[]), Change::Truncate(Truncated::Oids(&[]))),
        (truncate(&[1, 2]), Change::Truncate(Truncated::Oids(&[0, 0, 0, 1, 0, 0, 0, 2]))),
        (joined(&[b"R", &[0; 30]]), Change::Named),
        (joined(&[b"Y", &[0; 9]]), Change::Named),
        (joined(&[b"O", &[0; 9]]), Change::Named),
        (joined(&[b"M", &[0; 20]]), Change::Named),
    ]
}

#[test]
fn every_message_is_read_for_what_it_is() {
    for (bytes, change) in messages() {
        assert_eq!(Change::read(&bytes), Ok(change), "{bytes:?}");
    }
    assert_eq!(Streamed::read(&data(b"x")), Ok(Streamed::Data(b"x")));
    assert_eq!(Streamed::read(&keepalive(0x1_0000_0002)), Ok(Streamed::Keepalive { end: 0x1_0000_0002 }));
}

#[test]
fn what_is_cut_short_is_refused_or_says_no_more_than_its_beginning() {
    for (bytes, change) in messages() {
        for cut in 0..bytes.len() {
            let read = Change::read(&bytes[..cut]);
            let enough = matches!(change, Change::Row(_)) && cut >= 6 || change == Change::Named && cut > 0;
            assert_eq!(read.is_ok(), enough, "{cut} of {bytes:?}");
            assert!(read.is_err() || read == Ok(change));
        }
    }
    for whole in [data(b""), keepalive(1)] {
        for cut in 0..whole.len() {
            assert!(Streamed::read(&whole[..cut]).is_err());
        }
    }
}

#[test]
fn what_is_longer_or_of_another_kind_is_refused() {
    for longer in [begin(1), commit(1), truncate(&[1])] {
        assert!(Change::read(&joined(&[&longer, b"x"])).is_err(), "{longer:?}");
    }
    assert!(Streamed::read(&joined(&[&keepalive(1), b"x"])).is_err());
    for (kind, mark) in [(b'I', b'K'), (b'D', b'N'), (b'U', b'x')] {
        assert!(Change::read(&row(kind, 1, mark)).is_err());
    }
    // Streams of open transactions and two-phase commits, which nobody has asked for.
    for unknown in *b"SEcAbPKrpX\0" {
        assert!(Change::read(&[unknown; 40]).is_err(), "{unknown}");
        assert!(Streamed::read(&[unknown; 40]).is_err(), "{unknown}");
    }
}

#[test]
fn transactions_are_whole_or_nothing() {
    let mut all = Transactions::default();
    let mut run = |messages: &[Vec<u8>]| messages.iter().map(|message| all.take(message)).collect::<Vec<_>>();
    let said = run(&[begin(7), row(b'I', 5, b'N'), truncate(&[6, 5]), commit(100)]);
    assert!(said[..3].iter().all(|said| *said == Ok(None)));
    assert_eq!(said[3], Ok(Some(Committed { xid: 7, relations: these(&[5, 6]), end: 100 })));
    assert_eq!(run(&[begin(8), commit(101)])[1], Ok(Some(Committed { xid: 8, relations: these(&[]), end: 101 })));
    for lost in [row(b'I', 5, b'N'), truncate(&[1]), commit(1)] {
        assert!(Transactions::default().take(&lost).is_err());
    }
    let mut twice = Transactions::default();
    assert!(twice.take(&begin(1)).is_ok() && twice.is_open() && twice.take(&begin(2)).is_err());
}

#[test]
fn a_transaction_of_very_many_relations_is_one_of_many() {
    for (count, many) in [(MAX_RELATIONS as u32, false), (MAX_RELATIONS as u32 + 1, true)] {
        let mut all = Transactions::default();
        all.take(&begin(1)).unwrap();
        (0..count).for_each(|oid| drop(all.take(&row(b'D', oid, b'K')).unwrap()));
        let relations = all.take(&commit(1)).unwrap().unwrap().relations;
        assert_eq!(relations == Relations::Many, many, "{count}");
    }
    for many in [(0..2_000).collect::<Vec<u32>>(), (0..20_000).collect()] {
        let mut all = Transactions::default();
        all.take(&begin(1)).unwrap();
        let message = truncate(&many);
        all.take(&message[..message.len().min(MAX_KEPT - 25)]).unwrap();
        assert_eq!(all.take(&commit(1)).unwrap().unwrap().relations, Relations::Many);
    }
}

#[test]
fn a_stream_is_read_wherever_it_is_cut_and_no_row_is_kept_whole() {
    let long = data(&joined(&[&row(b'I', 5, b'N'), &vec![b'x'; 3 * MAX_KEPT]]));
    let bodies = [data(&begin(7)), long, Vec::new(), data(&commit(9)), keepalive(10)];
    let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(b'd', body)).collect();
    for cut in [1, 2, 3, 5, 7, 64, MAX_KEPT - 1, MAX_KEPT, 1 << 20] {
        let (mut reader, mut read) = (Reader::default(), Vec::new());
        for piece in stream.chunks(cut) {
            let each = |tag, body: &[u8]| {
                read.push((tag, body.to_vec()));
                Ok::<_, BadLength>(())
            };
            reader.push(piece, each).unwrap();
            assert!(reader.kept.len() <= HEAD + MAX_KEPT);
        }
        let wanted: Vec<_> = bodies.iter().map(|body| (b'd', body[..body.len().min(MAX_KEPT)].to_vec())).collect();
        assert!(read == wanted, "in pieces of {cut}");
    }
    let bad = Reader::default().push(&[b'd', 0, 0, 0, 3], |_, _| Ok::<_, BadLength>(()));
    assert!(bad.is_err());
}

#[test]
fn mutated_messages_end_in_an_error_or_in_something_bounded() {
    // A generator of our own, so that a failure comes again.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let all: Vec<Vec<u8>> = messages().into_iter().map(|(bytes, _)| data(&bytes)).chain([keepalive(3)]).collect();
    for _ in 0..20_000 {
        let mut transactions = Transactions::default();
        for _ in 0..4 {
            let mut bytes = all[next() as usize % all.len()].clone();
            for _ in 0..next() % 4 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            bytes.truncate(1 + next() as usize % (2 * bytes.len()));
            if let Ok(Streamed::Data(message)) = Streamed::read(&bytes)
                && let Ok(Some(Committed { relations: Relations::These(oids), .. })) = transactions.take(message)
            {
                assert!(oids.len() <= MAX_RELATIONS);
            }
        }
    }
}

#[test]
fn a_status_update_has_the_length_that_it_says() {
    let mut out = Vec::new();
    status_update(&mut out, 0x1_0000_0002, true);
    let head = frame::head(&out).unwrap().unwrap();
    assert_eq!((head.tag, head.total()), (b'd', out.len()));
    assert_eq!((out[5], out[out.len() - 1]), (b'r', 1));
    assert_eq!(out[6..14], 0x1_0000_0002u64.to_be_bytes());
    assert_eq!((&out[6..14], &out[14..22]), (&out[14..22], &out[22..30]));
}
