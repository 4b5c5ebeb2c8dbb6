//! What most tokens are: their ends show without reading on.

use super::lead::{Lead, lead_of};
use super::{Kind, Nature, Step, Token, Word, swar};

/// 64 bytes, looked at together: where tokens begin is known before any of them has been read, so that the processor can
/// work on several at a time.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    sql: &'a [u8],
    base: usize,
    pub(super) bits: swar::Bits,
}

impl<'a> Block<'a> {
    #[inline(always)]
    pub(super) fn new(sql: &'a [u8], base: usize) -> Self {
        Self { sql, base, bits: swar::bits(sql, base) }
    }

    /// Where tokens begin, as far as that shows.
    #[inline(always)]
    pub(super) fn starts(self, carry: u64) -> u64 {
        !self.bits.spaces & !(self.bits.words & (self.bits.words << 1 | carry))
    }

    /// The bit of `offset`, if something else than a space stands there.
    #[inline(always)]
    pub(super) fn start_at(self, offset: usize) -> u64 {
        1 << (offset & 63) & !self.bits.spaces
    }

    /// The token at `offset` if its length shows: a word, a plain number, a parameter, a single mark.
    #[inline(always)]
    pub(super) fn usual(self, offset: usize) -> Option<Token> {
        let bytes = swar::load(self.sql, self.base + offset);
        let (first, second) = (bytes as u8, (bytes >> 8) as u8);
        let lead = lead_of(first);
        let (key, nature, length) = if lead == Lead::Letter {
            self.word(offset, bytes)?
        } else if lead.is_alone(lead_of(second)) {
            (bytes & 0xff, lead.usual(), 1)
        } else {
            let length = self.run(offset);
            let digits = match lead {
                Lead::Digit if self.byte(offset + length) != b'.' => bytes,
                // With this difference a `$` looks like a zero.
                Lead::Dollar if length > 1 => bytes ^ u64::from(b'$' ^ b'0'),
                _ => return None,
            };
            if !swar::are_digits(digits, length) {
                return None;
            }
            (0, lead.usual(), length)
        };
        // Texts are cut at 256 KiB before they come here: positions fit.
        let start = (self.base + offset) as u32;
        Some(Token { key, start, end: start + length as u32, nature: *nature })
    }

    /// The key, nature and length of a word that begins with `bytes`; none where it may be the prefix of a string.
    #[inline(always)]
    fn word(self, offset: usize, bytes: u64) -> Option<(u64, &'static Nature, usize)> {
        let length = self.run(offset);
        let begin = swar::lower(bytes);
        if length > 8 {
            return self.long_word(offset, length, begin);
        }
        if length == 1 && matches!(bytes >> 8 & 0xff, 0x26 | 0x27) {
            return None;
        }
        let key = swar::keep(begin, length);
        Some((key, Word::of(key).unwrap_or(Lead::Letter.usual()), length))
    }

    #[inline(always)]
    fn long_word(self, offset: usize, length: usize, begin: u64) -> Option<(u64, &'static Nature, usize)> {
        let mut key = begin;
        let mut at = 8;
        while at < length {
            let part = swar::lower(swar::load(self.sql, self.base + offset + at));
            key = swar::join(key, swar::keep(part, (length - at).min(8)));
            at += 8;
        }
        let start = self.base + offset;
        let word = self.sql.get(start..start + length).unwrap_or_default();
        Some((key, Word::of_long(key, begin, word).unwrap_or(Lead::Letter.usual()), length))
    }

    /// How many bytes from `offset` on belong to words.
    #[inline(always)]
    fn run(self, offset: usize) -> usize {
        let run = (!(self.bits.words >> (offset & 63))).trailing_zeros() as usize;
        if offset + run < 64 { run } else { run + run_of(self.sql, self.base + 64) }
    }

    #[inline(always)]
    fn byte(self, offset: usize) -> u8 {
        self.sql.get(self.base + offset).copied().unwrap_or(b' ')
    }

    /// The string or the quoted name at `offset`, if it is a plain one.
    #[inline(always)]
    pub(super) fn quoted(self, offset: usize, standard_strings: bool) -> Option<Token> {
        match self.byte(offset) {
            b'\'' if standard_strings => self.string(offset),
            b'"' => self.name(offset),
            _ => None,
        }
    }

    /// A string without a doubled quote in it that does not go on behind its end, as one may after a newline.
    #[inline(always)]
    fn string(self, offset: usize) -> Option<Token> {
        let start = self.base + offset;
        let end = swar::find(self.sql, start + 1, b'\'')? + 1;
        let byte = |at| lead_of(self.sql.get(at).copied().unwrap_or(b','));
        let goes_on = match byte(end) {
            Lead::Quote | Lead::Minus => true,
            Lead::Space => matches!(byte(end + 1), Lead::Space | Lead::Quote | Lead::Minus),
            _ => false,
        };
        let nature = Nature::new(Kind::String, Word::None, Step::Constant);
        (!goes_on).then_some(Token { key: 0, start: start as u32, end: end as u32, nature })
    }

    /// A name of up to 16 bytes that means the same without its quotes.
    #[inline(always)]
    fn name(self, offset: usize) -> Option<Token> {
        let (start, inside) = (self.base + offset, self.base + offset + 1);
        let length = if offset < 63 { self.run(offset + 1) } else { return None };
        let begin = swar::load(self.sql, inside);
        let first = begin as u8;
        let closed = self.byte(offset + 1 + length) == b'"';
        if !closed || length == 0 || length > 16 || !(first.is_ascii_lowercase() || first == b'_') {
            return None;
        }
        let mut key = swar::keep(swar::lower(begin), length.min(8));
        let mut lower = swar::has_no_capital(begin, length.min(8));
        if length > 8 {
            let rest = swar::load(self.sql, inside + 8);
            if special(key) {
                return None;
            }
            key = swar::join(key, swar::keep(swar::lower(rest), length - 8));
            lower &= swar::has_no_capital(rest, length - 8);
        }
        if !lower || Word::of(key).is_some() {
            return None;
        }
        // A doubled quote goes on with the name; what is called may change the session.
        let end = offset + length + 2;
        let plain = match self.byte(end) {
            b'"' => return None,
            b',' | b'.' | b')' => true,
            b' ' => {
                matches!(lead_of(self.byte(end + 1)), Lead::Letter | Lead::Digit | Lead::Operator)
                    && self.byte(end + 1) != b'/'
            }
            _ => false,
        };
        let nature = Nature::new(Kind::Quoted, Word::None, if plain { Step::Plain } else { Step::Quoted });
        Some(Token { key, start: start as u32, end: (self.base + end) as u32, nature })
    }
}

/// How many bytes from `at` on belong to a word that began before.
#[inline(never)]
fn run_of(sql: &[u8], at: usize) -> usize {
    let inside = |byte: &&u8| matches!(lead_of(**byte), Lead::Letter | Lead::Digit | Lead::Dollar);
    sql.get(at..).unwrap_or_default().iter().take_while(inside).count()
}

/// How names begin that are looked at in full: `current_…` may be reserved, `pg_prepared_statements` is watched.
const fn special(begin: u64) -> bool {
    begin == swar::word_key(b"current_") || begin == swar::word_key(b"pg_prepa")
}
