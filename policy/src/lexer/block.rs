//! What most tokens are: their ends show without reading on.

use super::lead::{After, Lead, after_of, lead_of};
use super::{Kind, Nature, Step, Token, Word, quote, swar, types_string};

/// How many bytes are looked at together.
pub(super) const BYTES: usize = 64;
/// How many bytes of a text a block sees: what begins in it is read without asking whether the text goes on.
const SEEN: usize = 2 * BYTES + 8;

/// A text that can be read beyond its end.
pub(super) struct Source<'a> {
    sql: &'a [u8],
    /// Where [`Self::end`] begins.
    origin: usize,
    /// The last bytes of the text, and spaces.
    end: [u8; 2 * SEEN],
}

impl<'a> Source<'a> {
    #[inline(always)]
    pub(super) fn new(sql: &'a [u8]) -> Self {
        let mut end = [b' '; 2 * SEEN];
        match (sql.last_chunk::<SEEN>(), end.first_chunk_mut::<SEEN>()) {
            // So many bytes are copied faster than any number of them.
            (Some(last), Some(room)) => *room = *last,
            _ => {
                if let Some(room) = end.get_mut(..sql.len()) {
                    room.copy_from_slice(sql);
                }
            }
        }
        Self { sql, origin: sql.len().saturating_sub(SEEN), end }
    }

    /// What a block sees that begins at `base`, which is in the text.
    #[inline(always)]
    fn seen(&self, base: usize) -> &[u8; SEEN] {
        let seen = self.sql.get(base..).and_then(<[u8]>::first_chunk);
        let seen = seen.or_else(|| self.end.get(base - self.origin..).and_then(<[u8]>::first_chunk));
        seen.unwrap_or(&[b' '; SEEN])
    }

    /// What the second half of that is.
    #[inline(always)]
    fn second(&self, base: usize, seen: &[u8; SEEN]) -> swar::Bits {
        let [_, second] = halves(seen);
        if base + BYTES < self.sql.len() { swar::bits(second) } else { swar::Bits { words: 0, spaces: u64::MAX } }
    }
}

/// 64 bytes, looked at together: where tokens begin is known before any of them has been read, so that the processor can
/// work on several at a time. For the same reason it is known by then what stands in the next 64.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    sql: &'a [u8],
    pub(super) base: usize,
    seen: &'a [u8; SEEN],
    bits: swar::Bits,
    next: swar::Bits,
    standard_strings: bool,
}

/// What was found at a place.
pub(super) enum Found {
    /// A token in which no other one seems to begin.
    Whole,
    /// The same; it is this byte.
    Mark(u8),
    /// A token in which others seem to begin, and where it ends.
    Over(usize),
    /// Nothing yet: it has to be read on for.
    Odd,
}

impl<'a> Block<'a> {
    /// The one that begins at `base`, a multiple of 64.
    #[inline(always)]
    pub(super) fn new(source: &'a Source<'a>, base: usize, standard_strings: bool) -> Self {
        let seen = source.seen(base);
        let [first, _] = halves(seen);
        let (bits, next) = (swar::bits(first), source.second(base, seen));
        Self { sql: source.sql, base, seen, bits, next, standard_strings }
    }

    /// The one behind it.
    #[inline(always)]
    pub(super) fn following(self, source: &'a Source<'a>) -> Self {
        let base = self.base + BYTES;
        let seen = source.seen(base);
        Self { base, seen, bits: self.next, next: source.second(base, seen), ..self }
    }

    /// Eight bytes from `offset` on, which is less than 128.
    #[inline(always)]
    fn load(self, offset: usize) -> u64 {
        // The mask changes nothing, but the compiler sees that the bytes are there.
        let bytes = self.seen.get(offset & 127..).and_then(<[u8]>::first_chunk);
        u64::from_le_bytes(*bytes.unwrap_or(&[0; 8]))
    }

    /// Where tokens begin, as far as that shows. With `carry`, the last byte before the block belongs to a word, which may
    /// go on in it.
    #[inline(always)]
    pub(super) fn starts(self, carry: u64) -> u64 {
        !self.bits.spaces & !(self.bits.words & (self.bits.words << 1 | carry))
    }

    /// Whether the last byte belongs to a word.
    #[inline(always)]
    pub(super) fn carry(self) -> u64 {
        self.bits.words >> 63
    }

    /// The bit of `offset`, if something else than a space stands there.
    #[inline(always)]
    pub(super) fn start_at(self, offset: usize) -> u64 {
        1 << (offset & 63) & !self.bits.spaces
    }

    /// Takes the token at `offset` if its end shows.
    #[inline(always)]
    pub(super) fn token(self, offset: usize, tokens: &mut Vec<Token>) -> Found {
        let bytes = self.load(offset);
        let (first, second) = (bytes as u8, (bytes >> 8) as u8);
        let lead = lead_of(first);
        if lead == Lead::Letter {
            return self.word(offset, bytes, tokens);
        }
        if lead.is_alone(lead_of(second)) {
            self.take(offset, 1, bytes & 0xff, lead.usual(), tokens);
            return Found::Mark(first);
        }
        if first == b'"' {
            return self.name(offset, tokens);
        }
        if lead == Lead::Digit {
            return self.number(offset, bytes, tokens);
        }
        match first {
            b'\'' if self.standard_strings => self.string(offset, tokens),
            b'$' => self.parameter(offset, bytes, tokens),
            _ if matches!(lead, Lead::Colon | Lead::Operator | Lead::Minus) => self.pair(offset, bytes, tokens),
            _ => Found::Odd,
        }
    }

    /// Puts a token where it belongs. Here and not where all kinds of them come together, since there each would be taken
    /// apart and put together again.
    #[inline(always)]
    fn take(self, offset: usize, length: usize, key: u64, nature: &Nature, tokens: &mut Vec<Token>) -> usize {
        // Texts are cut at 256 KiB before they come here: positions fit.
        let start = (self.base + offset) as u32;
        tokens.push(Token { key, start, end: start + length as u32, nature: *nature });
        self.base + offset + length
    }

    /// A word, unless it may be the prefix of a string.
    #[inline(always)]
    fn word(self, offset: usize, bytes: u64, tokens: &mut Vec<Token>) -> Found {
        let length = self.run(offset);
        let begin = swar::lower(bytes);
        if length > 8 {
            if length >= BYTES {
                return Found::Odd;
            }
            let (key, nature) = self.long_word(offset, length, begin);
            self.take(offset, length, key, nature, tokens);
            return Found::Whole;
        }
        if length == 1 && matches!(bytes >> 8 & 0xff, 0x26 | 0x27) {
            return Found::Odd;
        }
        let key = swar::keep(begin, length);
        let nature = Word::of(key).unwrap_or(Lead::Letter.usual());
        self.take(offset, length, key, nature, tokens);
        Found::Whole
    }

    /// The key and the nature of a word of more than eight bytes.
    #[inline(always)]
    fn long_word(self, offset: usize, length: usize, begin: u64) -> (u64, &'static Nature) {
        let mut key = begin;
        let mut at = 8;
        while at < length {
            let part = swar::lower(self.load(offset + at));
            key = swar::join(key, swar::keep(part, length - at));
            at += 8;
        }
        let start = self.base + offset;
        let word = self.sql.get(start..start + length).unwrap_or_default();
        (key, Word::of_long(key, begin, word).unwrap_or(Lead::Letter.usual()))
    }

    /// A whole number of up to 16 digits.
    #[inline(always)]
    fn number(self, offset: usize, bytes: u64, tokens: &mut Vec<Token>) -> Found {
        let length = self.run(offset);
        let rest = if length > 8 { swar::are_digits(self.load(offset + 8), length - 8) } else { true };
        if !rest || !swar::are_digits(bytes, length.min(8)) || self.byte(offset + length) == b'.' {
            return Found::Odd;
        }
        self.take(offset, length, 0, Lead::Digit.usual(), tokens);
        Found::Whole
    }

    /// `$n`.
    #[inline(always)]
    fn parameter(self, offset: usize, bytes: u64, tokens: &mut Vec<Token>) -> Found {
        let length = self.run(offset);
        // With this difference a `$` looks like a zero.
        if length == 1 || !swar::are_digits(bytes ^ u64::from(b'$' ^ b'0'), length) {
            return Found::Odd;
        }
        self.take(offset, length, 0, Lead::Dollar.usual(), tokens);
        Found::Whole
    }

    /// An operator of two bytes of which nobody has to ask whether it is a comment, or ends with a sign.
    #[inline(always)]
    fn pair(self, offset: usize, bytes: u64, tokens: &mut Vec<Token>) -> Found {
        let (second, third) = ((bytes >> 8) as u8, (bytes >> 16) as u8);
        let nature = Lead::Operator.usual();
        if bytes as u8 == b':' {
            let length = 1 + usize::from(matches!(second, b':' | b'='));
            return Found::Over(self.take(offset, length, swar::keep(bytes, length), nature, tokens));
        }
        let usual = matches!(second, b'=' | b'>' | b'|' | b'~');
        if !usual || matches!(lead_of(third), Lead::Operator | Lead::Minus) {
            return Found::Odd;
        }
        // PostgreSQL reads `!=` as `<>`.
        let key = match bytes & 0xffff {
            key if key == swar::key(b"!=") => swar::key(b"<>"),
            key => key,
        };
        Found::Over(self.take(offset, 2, key, nature, tokens))
    }

    /// How many bytes belong to words from `offset` on; of more than 63, that they are more.
    #[inline(always)]
    fn run(self, offset: usize) -> usize {
        self.run_among(self.bits.words >> (offset & 63), offset)
    }

    /// The same from the byte behind `offset` on.
    #[inline(always)]
    fn run_behind(self, offset: usize) -> usize {
        self.run_among(self.bits.words >> 1 >> (offset & 63), offset + 1)
    }

    #[inline(always)]
    fn run_among(self, words: u64, offset: usize) -> usize {
        let run = (!words).trailing_zeros() as usize;
        if offset + run < BYTES { run } else { BYTES - offset + (!self.next.words).trailing_zeros() as usize }
    }

    #[inline(always)]
    fn byte(self, offset: usize) -> u8 {
        self.seen.get(offset & 127).copied().unwrap_or(b' ')
    }

    /// A string without a doubled quote in it that does not go on behind its end, as one may after a newline.
    #[inline(always)]
    fn string(self, offset: usize, tokens: &mut Vec<Token>) -> Found {
        let start = self.base + offset;
        let Some(end) = swar::find(self.sql, start + 1, b'\'').map(|quote| quote + 1) else { return Found::Odd };
        let goes_on = match lead_of(self.sql.get(end).copied().unwrap_or(b',')) {
            Lead::Quote => true,
            Lead::Minus | Lead::Space => quote::goes_on(self.sql, end),
            _ => false,
        };
        if goes_on {
            return Found::Odd;
        }
        types_string(tokens);
        let nature = &const { Nature::new(Kind::String, Word::None, Step::Constant) };
        Found::Over(self.take(offset, end - start, 0, nature, tokens))
    }

    /// A name in double quotes with nothing between them but what words are made of.
    #[inline(always)]
    fn name(self, offset: usize, tokens: &mut Vec<Token>) -> Found {
        let length = self.run_behind(offset);
        // The quote that closes, what comes behind it, and what behind that.
        let tail = self.load(offset + 1 + length);
        let after = after_of((tail >> 8) as u8);
        // A doubled quote goes on with the name.
        if tail as u8 != b'"' || length == 0 || length >= BYTES - 1 || after == After::Quote {
            return Found::Odd;
        }
        // What is called may change the session.
        let plain = after == After::Mark || after == After::Space && after_of((tail >> 16) as u8) == After::Other;
        let (key, nature) = match self.key_of_name(offset + 1, length) {
            Some(key) if plain => (key, &const { Nature::new(Kind::Quoted, Word::None, Step::Plain) }),
            key => (key.unwrap_or(0), &const { Nature::new(Kind::Quoted, Word::None, Step::Quoted) }),
        };
        Found::Over(self.take(offset, length + 2, key, nature, tokens))
    }

    /// The key of a name that means the same without its quotes, if it has up to 16 bytes; none: it is looked at in full.
    #[inline(always)]
    fn key_of_name(self, inside: usize, length: usize) -> Option<u64> {
        let begin = self.load(inside);
        let mut key = swar::keep(swar::lower(begin), length);
        let mut lower = swar::has_no_capital(begin, length);
        if length > 8 {
            let rest = self.load(inside + 8);
            if length > 16 || special(key) {
                return None;
            }
            key = swar::join(key, swar::keep(swar::lower(rest), length - 8));
            lower &= swar::has_no_capital(rest, length - 8);
        }
        (lower && lead_of(begin as u8) == Lead::Letter && !Word::may_be_reserved(key)).then_some(key)
    }
}

/// The block and the next one.
#[inline(always)]
fn halves(seen: &[u8; SEEN]) -> [&[u8; BYTES]; 2] {
    let (blocks, _) = seen.as_chunks();
    match blocks {
        [first, second, ..] => [first, second],
        _ => [&[b' '; BYTES]; 2],
    }
}

/// How names begin that are looked at in full: `current_…` may be reserved, `pg_prepared_statements` is watched.
const fn special(begin: u64) -> bool {
    begin == swar::word_key(b"current_") || begin == swar::word_key(b"pg_prepa")
}
