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

/// How many of the eight bytes, from the lowest, belong to a name, and all of them in lower case.
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
    let upper = letter & !bytes & !(bytes << 2) & TOPS;
    let length = (!inside & TOPS).trailing_zeros() as usize / 8;
    (bytes | (upper >> 2), length)
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
                assert_eq!(folded.to_le_bytes()[place], byte.to_ascii_lowercase(), "{byte:#x}");
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
