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
#[inline]
pub(crate) fn load(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => key(rest),
    }
}

/// The eight bytes in lower case, and how many of them, from the lowest, belong to a name.
///
/// The form is its own: `_` becomes 0x7f (a byte that no statement holds), so that one OR folds all the rest; keywords
/// are stored in the same form. Bytes of other alphabets are not folded.
#[inline]
pub(crate) fn fold(bytes: u64) -> (u64, usize) {
    let low = bytes & !TOPS;
    let lower = low | (ONES * 0x20);
    // The top bit of a byte says yes. Adding cannot carry into the next byte: each is below 0x80 and so is the addend.
    let letter = (lower + ONES * 0x1f) & !(lower + ONES * 0x05);
    let digit = (low + ONES * 0x50) & !(low + ONES * 0x46);
    let underscore = !((low ^ (ONES * 0x5f)) + ONES * 0x7f);
    let dollar = !((low ^ (ONES * 0x24)) + ONES * 0x7f);
    let inside = (letter | digit | underscore | dollar | bytes) & TOPS;
    let length = (!inside & TOPS).trailing_zeros() as usize / 8;
    // Where the top bit is set, 0x20 is not put in.
    (bytes | ((ONES * 0x20) & !((bytes & TOPS) >> 2)), length)
}

/// A keyword's bytes in the form that [`fold`] gives; at most eight.
pub(crate) const fn word_key(bytes: &[u8]) -> u64 {
    let plain = key(bytes);
    let length = if bytes.len() < 8 { bytes.len() } else { 8 };
    let mask = if length == 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
    plain | ((ONES * 0x20) & mask)
}

/// The lowest `length` bytes of `bytes`; `length` is at most eight.
#[inline]
pub(crate) fn keep(bytes: u64, length: usize) -> u64 {
    if length >= 8 { bytes } else { bytes & ((1 << (8 * length)) - 1) }
}

/// The folded first eight bytes of the word at `start`, and its whole length.
#[inline]
pub(crate) fn word_at(text: &[u8], start: usize) -> (u64, usize) {
    let (folded, mut length) = fold(load(text, start));
    let key = keep(folded, length);
    let mut run = length;
    while run == 8 {
        run = fold(load(text, start + length)).1;
        length += run;
    }
    (key, length)
}

/// Whether `byte` stands twice in a row somewhere, found eight places at a time.
#[inline]
pub(crate) fn has_twice(text: &[u8], byte: u8) -> bool {
    let wanted = ONES * u64::from(byte);
    let mut at = 0;
    while at + 1 < text.len() {
        let differ = (load(text, at) ^ wanted) | (load(text, at + 1) ^ wanted);
        // The classic test for a zero byte; what lies behind the end of the text is zero and differs.
        if differ.wrapping_sub(ONES) & !differ & TOPS != 0 {
            return true;
        }
        at += 8;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_plain_definition_for_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut text = *b"abcdefgh";
                text[place] = byte;
                let inside = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
                let (folded, length) = fold(u64::from_le_bytes(text));
                assert_eq!(length, if inside { 8 } else { place }, "{byte:#x} at {place}");
                let expected = if byte == b'_' { 0x7f } else { byte.to_ascii_lowercase() };
                if inside {
                    assert_eq!(folded.to_le_bytes()[place], expected, "{byte:#x}");
                }
            }
        }
    }

    #[test]
    fn a_byte_that_stands_twice_is_found_everywhere() {
        for length in 0..30 {
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
    fn words_of_every_length_end_where_they_end() {
        for length in 1..40 {
            let text = "X".repeat(length);
            assert_eq!(word_at(text.as_bytes(), 0).1, length);
            assert_eq!(word_at(format!("{text} y").as_bytes(), 0).1, length);
        }
        assert_eq!(word_at(b"SeLect", 0), (key(b"select"), 6));
    }
}
