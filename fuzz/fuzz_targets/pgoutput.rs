//! What a server streams of its transactions, cut at a place that the first byte chooses: read the same wherever it is
//! cut, and bounded whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::frame::BadLength;
use wire::pgoutput::{Committed, MAX_KEPT, MAX_RELATIONS, Reader, Relations, Streamed, Transactions};

fn read(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> (Vec<Option<Committed>>, bool) {
    let (mut reader, mut transactions, mut said) = (Reader::default(), Transactions::default(), Vec::new());
    for piece in pieces {
        let each = |_, body: &[u8]| {
            assert!(body.len() <= MAX_KEPT);
            let taken = match Streamed::read(body) {
                Ok(Streamed::Data(message)) => transactions.take(message).ok().flatten(),
                _ => None,
            };
            said.push(taken);
            Ok::<_, BadLength>(())
        };
        if reader.push(piece.as_ref(), each).is_err() {
            return (said, false);
        }
    }
    (said, true)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = read(std::iter::once(stream));
    let pieces = read(stream.chunks(usize::from(*cut).max(1)));
    assert_eq!(whole, pieces);
    for committed in whole.0.into_iter().flatten() {
        assert!(!matches!(committed.relations, Relations::These(oids) if oids.len() > MAX_RELATIONS));
    }
});
