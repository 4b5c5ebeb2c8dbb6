//! Eight bytes at a time in one register: where a word ends, and its lower case.

/// One in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The top bit of every byte.
const TOPS: u64 = 0x8080_8080_8080_8080;

/// Up to eight bytes as a little-endian number, padded with zeros.
pub(crate) const fn key(bytes: &[u8]) -> u64 {
    let mut key = 0;
    let mut at = 0;
    while at < bytes.len() && at < 8 {
        #[expect(clippy::indexing_slicing, reason = "the loop's condition is the bound, and const fn has no get")]
        {
            key |= (bytes[at] as u64) << (8 * at);
        }
        at += 1;
    }
    key
}

/// The eight bytes at `at`, padded with zeros behind the end of the text.
#[inline(always)]
pub(crate) fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_end(text, at),
    }
}

/// What [`load`] does for the last bytes of a text: they are the upper ones of its last eight.
#[inline(never)]
fn load_end(text: &[u8], at: usize) -> u64 {
    let left = text.len().saturating_sub(at);
    match text.last_chunk::<8>() {
        Some(_) if left == 0 => 0,
        Some(chunk) => u64::from_le_bytes(*chunk) >> (64 - 8 * left.min(8)),
        None => key(text.get(at..).unwrap_or_default()),
    }
}

/// The bytes of a word in lower case.
///
/// The form is its own: `_` becomes 0x7f (a byte that no statement holds), so that one OR folds all that a word may
/// consist of; keywords are stored in the same form. Bytes of other alphabets are not folded.
#[inline(always)]
pub(crate) fn lower(bytes: u64) -> u64 {
    // Where the top bit is set, 0x20 is not put in.
    bytes | ((!bytes & TOPS) >> 2)
}

/// Finds where words end; remembers the last 64 bytes that it looked at.
///
/// Where a word ends is where the next token begins: the processor works on several tokens at once only if it knows
/// soon, and from a bit per byte it takes three steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    block: usize,
    bits: u64,
}

impl Words {
    /// Has looked at nothing.
    pub(crate) fn new() -> Self {
        Self { block: usize::MAX, bits: 0 }
    }

    /// How many bytes from `start` on belong to words.
    #[inline(always)]
    pub(crate) fn run(&mut self, text: &[u8], start: usize) -> usize {
        let mut at = start;
        loop {
            let (block, offset) = (at / 64, at % 64);
            if block != self.block {
                *self = Self { block, bits: word_bits(text, block) };
            }
            let run = (!(self.bits >> offset)).trailing_zeros() as usize;
            at += run;
            if offset + run < 64 {
                return at - start;
            }
        }
    }
}

/// Which of the 64 bytes of the block numbered `block` belong to words, the first one in the lowest bit. Behind the end
/// of the text there are none.
#[inline(never)]
fn word_bits(text: &[u8], block: usize) -> u64 {
    let rest = text.get(64 * block..).unwrap_or_default();
    match rest.first_chunk::<64>() {
        Some(block) => bits_of(block),
        None => {
            let mut padded = [0; 64];
            if let Some(begin) = padded.get_mut(..rest.len()) {
                begin.copy_from_slice(rest);
            }
            bits_of(&padded)
        }
    }
}

/// Written for the compiler to do in vector registers: a flag per byte, then eight flags at a time pushed together by
/// a multiplication.
#[inline(always)]
fn bits_of(block: &[u8; 64]) -> u64 {
    let flags = block.map(|byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        u8::from(letter | digit | (byte == b'_') | (byte == b'$') | (byte >= 0x80))
    });
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().rev().fold(0, |bits, flags| {
        let pushed = u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << 8 | pushed
    })
}

/// The first place of `byte`, which is not zero, from `from` on.
#[inline]
pub(crate) fn find(text: &[u8], from: usize, byte: u8) -> Option<usize> {
    let wanted = ONES * u64::from(byte);
    let mut at = from;
    while at < text.len() {
        let differ = load(text, at) ^ wanted;
        // The classic test for a zero byte; its lowest hit is always right.
        let hits = differ.wrapping_sub(ONES) & !differ & TOPS;
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    None
}

/// The lowest `length` bytes of `bytes`, one to eight.
#[inline(always)]
pub(crate) fn keep(bytes: u64, length: usize) -> u64 {
    // The processor shifts modulo 64 by itself, so that eight bytes are no case of their own.
    bytes & (u64::MAX >> (length.wrapping_mul(8).wrapping_neg() & 63))
}

/// The key of a word of more than eight bytes, part by part from its first eight on.
#[inline(always)]
pub(crate) const fn join(key: u64, part: u64) -> u64 {
    fold(key ^ 0xa409_3822_299f_31d0, part ^ 0x082e_fa98_ec4e_6c89)
}

/// A multiplication to twice the width, folded to one half: every bit of both factors reaches every bit.
#[inline(always)]
pub(crate) const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The key that a word has as a token: its bytes, folded, up to eight; a hash of them from nine on.
pub(crate) const fn word_key(word: &[u8]) -> u64 {
    let mut rest = word;
    let mut result = 0;
    let mut first = true;
    loop {
        let (part, more) = match rest.split_at_checked(8) {
            Some(split) => split,
            None => (rest, &[] as &[u8]),
        };
        let plain = key(part);
        // As `lower`, and nothing behind the end.
        let spread = if part.len() == 8 { TOPS } else { TOPS & ((1 << (8 * part.len())) - 1) };
        let folded = plain | ((!plain & spread) >> 2);
        result = if first { folded } else { join(result, folded) };
        if more.is_empty() {
            return result;
        }
        (first, rest) = (false, more);
    }
}

/// Whether `byte`, which is not zero, stands twice in a row somewhere.
#[inline]
pub(crate) fn has_twice(text: &[u8], byte: u8) -> bool {
    find(text, 0, byte).is_some_and(|first| has_pair(text.get(first..).unwrap_or_default(), byte))
}

/// Written for the compiler to do in vector registers.
fn has_pair(text: &[u8], byte: u8) -> bool {
    let seconds = text.get(1..).unwrap_or_default();
    let both = |(first, second): (&u8, &u8)| u8::from(*first == byte) & u8::from(*second == byte);
    text.iter().zip(seconds).map(both).fold(0, |found, both| found | both) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_plain_definition_for_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut text = *b"abcDEFG_";
                text[place] = byte;
                let inside = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
                let length = Words::new().run(&text, 0);
                assert_eq!(length, if inside { 8 } else { place }, "{byte:#x} at {place}");
                let expected = if byte == b'_' { 0x7f } else { byte.to_ascii_lowercase() };
                if inside {
                    assert_eq!(lower(load(&text, 0)).to_le_bytes()[place], expected, "{byte:#x}");
                }
            }
        }
    }

    #[test]
    fn a_byte_that_stands_twice_is_found_everywhere() {
        for length in 0..200 {
            let plain: Vec<u8> = (0..length).map(|at| if at % 2 == 0 { b'-' } else { b'.' }).collect();
            assert!(!has_twice(&plain, b'-'), "{length}");
            for at in 1..length {
                let mut text = plain.clone();
                (text[at - 1], text[at]) = (b'-', b'-');
                assert!(has_twice(&text, b'-'), "{length} {at}");
            }
        }
    }

    #[test]
    fn bytes_are_found_everywhere() {
        for length in 0..30 {
            assert_eq!(find(&vec![b'.'; length], 0, b'\''), None);
            for at in 0..length {
                let mut text = vec![b'\''; length];
                text[..at].fill(b'&');
                for from in 0..=at {
                    assert_eq!(find(&text, from, b'\''), Some(at), "{length} {from} {at}");
                }
            }
        }
    }

    #[test]
    fn bytes_behind_the_end_are_zero() {
        for length in 0..20 {
            let text: Vec<u8> = (1..=length).collect();
            for at in 0..24 {
                let rest = text.get(at..).unwrap_or_default();
                assert_eq!(load(&text, at), key(rest), "{length} {at}");
            }
        }
    }

    #[test]
    fn words_of_every_length_end_where_they_end() {
        for length in 1..200 {
            let text = "X".repeat(length);
            assert_eq!(Words::new().run(text.as_bytes(), 0), length);
            let text = format!("y {text} y");
            assert_eq!(Words::new().run(text.as_bytes(), 2), length);
        }
    }

    #[test]
    fn keys_of_up_to_eight_bytes_are_the_bytes() {
        assert_eq!(word_key(b"SeLect"), key(b"select"));
        assert_eq!(word_key(b"timeZONE"), key(b"timezone"));
        assert_eq!(keep(load(b"selected", 0), 6), key(b"select"));
        assert_eq!(keep(load(b"selected", 0), 8), key(b"selected"));
        assert_ne!(word_key(b"timezones"), word_key(b"timezonet"));
        assert_ne!(word_key(b"abcdefghabcdefgh"), word_key(b"abcdefgh"));
    }
}
