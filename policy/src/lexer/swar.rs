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

/// How many of the eight bytes, from the lowest one on, are digits.
#[inline(always)]
pub(crate) fn digits(bytes: u64) -> usize {
    let values = bytes ^ (ONES * u64::from(b'0'));
    // What is above nine reaches the top bit, or has it: sums of seven bits never carry into the next byte.
    let others = (((values & !TOPS) + ONES * 0x76) | values) & TOPS;
    others.trailing_zeros() as usize / 8
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

/// A bit for each of 64 bytes, the first one in the lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bits {
    /// It belongs to a word or a number.
    pub(crate) words: u64,
    /// It is whitespace.
    pub(crate) spaces: u64,
}

/// What 64 bytes are.
#[inline(never)]
pub(crate) fn bits(block: &[u8; 64]) -> Bits {
    let words = block.map(|byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        u8::from(letter | digit | (byte == b'_') | (byte == b'$') | (byte >= 0x80))
    });
    let spaces = block.map(|byte| u8::from((byte == b' ') | (byte.wrapping_sub(b'\t') < 5)));
    Bits { words: pushed(&words), spaces: pushed(&spaces) }
}

/// A bit for each flag, which is zero or one: eight at a time pushed together by a multiplication. What makes the flags is
/// written for the compiler to do in vector registers.
#[inline(always)]
pub(crate) fn pushed(flags: &[u8; 64]) -> u64 {
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().rev().fold(0, |bits, flags| {
        let pushed = u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << 8 | pushed
    })
}

/// The first place of `byte`, which is not zero, from `from` on.
#[inline]
pub(crate) fn find(text: &[u8], from: usize, byte: u8) -> Option<usize> {
    // Most strings are short; a long one is passed over by more bytes at a time.
    for at in [from, from + 8] {
        if let Some(place) = find_in(load(text, at), byte) {
            return Some(at + place);
        }
    }
    find_far(text, from + 16, byte)
}

#[inline(never)]
fn find_far(text: &[u8], from: usize, byte: u8) -> Option<usize> {
    let mut at = from;
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        // Written for the compiler to do in vector registers.
        if chunk.iter().fold(false, |found, other| found | (*other == byte)) {
            break;
        }
        at += 32;
    }
    while at < text.len() {
        if let Some(place) = find_in(load(text, at), byte) {
            return Some(at + place);
        }
        at += 8;
    }
    None
}

#[inline(always)]
fn find_in(bytes: u64, byte: u8) -> Option<usize> {
    let differ = bytes ^ (ONES * u64::from(byte));
    // The classic test for a zero byte; its lowest hit is always right.
    let hits = differ.wrapping_sub(ONES) & !differ & TOPS;
    (hits != 0).then_some(hits.trailing_zeros() as usize / 8)
}

/// The lowest `length` bytes of `bytes`, all of them from eight on.
#[inline(always)]
pub(crate) fn keep(bytes: u64, length: usize) -> u64 {
    static MASKS: [u64; 64] = MASKS_BY_LENGTH;
    bytes & MASKS.get(length).copied().unwrap_or(u64::MAX)
}

/// Looked up, since shifting by a number that is not constant takes several steps.
const MASKS_BY_LENGTH: [u64; 64] = {
    let mut masks = [u64::MAX; 64];
    let mut length = 0;
    while length < 8 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            masks[length] = (1 << (8 * length)) - 1;
        }
        length += 1;
    }
    masks
};

/// Whether the lowest `length` bytes, one to eight that belong to a word, are all ASCII and none is a capital letter.
#[inline(always)]
pub(crate) fn has_no_capital(bytes: u64, length: usize) -> bool {
    // Of what a word consists of only capital letters lack 0x20, and `_`, which has it one byte further.
    let lacks = !bytes.wrapping_add(ONES) & (0x20 * ONES);
    keep(lacks | bytes & TOPS, length) == 0
}

/// Whether the lowest `length` bytes are decimal digits; false for more than eight.
#[inline(always)]
pub(crate) fn are_digits(bytes: u64, length: usize) -> bool {
    // A digit's upper half is 3, and still is when 6 is added: only nine goes no further than the lower half.
    let wrong = (bytes ^ (0x30 * ONES)) | ((bytes & !TOPS).wrapping_add(0x06 * ONES) ^ (0x30 * ONES));
    length <= 8 && keep(wrong & (0xf0 * ONES), length) == 0
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
    fn digits_are_counted_up_to_the_first_other_byte() {
        for other in 0..=u8::MAX {
            for count in 0..8 {
                let mut bytes = *b"90909090";
                bytes[count] = other;
                let expected = if other.is_ascii_digit() { 8 } else { count };
                assert_eq!(digits(u64::from_le_bytes(bytes)), expected, "{other} at {count}");
            }
        }
    }

    #[test]
    fn agrees_with_the_plain_definition_for_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut text = *b"abcDEFG_";
                text[place] = byte;
                let inside = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
                let mut padded = [b' '; 64];
                padded[..8].copy_from_slice(&text);
                let Bits { words, spaces } = bits(&padded);
                assert_eq!(words & 1 << place != 0, inside, "{byte:#x} at {place}");
                let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
                assert_eq!(spaces & 1 << place != 0, space, "{byte:#x} at {place}");
                let expected = if byte == b'_' { 0x7f } else { byte.to_ascii_lowercase() };
                if inside {
                    assert_eq!(lower(load(&text, 0)).to_le_bytes()[place], expected, "{byte:#x}");
                }
            }
        }
    }

    #[test]
    fn capitals_and_digits_are_seen_at_every_place() {
        for byte in 0..=255u8 {
            for length in 1..=8 {
                for place in 0..length {
                    let mut text = [b'0'; 8];
                    text[place] = byte;
                    assert_eq!(are_digits(load(&text, 0), length), byte.is_ascii_digit(), "{byte:#x} {place}");
                    let inside = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
                    let plain = byte.is_ascii() && !byte.is_ascii_uppercase();
                    assert!(!inside || has_no_capital(load(&text, 0), length) == plain, "{byte:#x} {place}");
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
        for length in 0..90 {
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
    fn keys_of_up_to_eight_bytes_are_the_bytes() {
        assert_eq!(word_key(b"SeLect"), key(b"select"));
        assert_eq!(word_key(b"timeZONE"), key(b"timezone"));
        assert_eq!(keep(load(b"selected", 0), 6), key(b"select"));
        assert_eq!(keep(load(b"selected", 0), 8), key(b"selected"));
        assert_ne!(word_key(b"timezones"), word_key(b"timezonet"));
        assert_ne!(word_key(b"abcdefghabcdefgh"), word_key(b"abcdefgh"));
    }
}
