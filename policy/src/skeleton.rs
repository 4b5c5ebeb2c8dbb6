//! Texts that differ in their constants alone.
//!
//! An application that writes values into its texts never sends the same text twice, and the [memo](crate::memo) of exact
//! texts never hits. What stays the same is the text without its constants: its skeleton. It is read much faster than a
//! text is analysed, because only a few bytes of it are looked at one by one:
//!
//! ```text
//!   select v from t where a = 17 and b = 'x'   ─►   select v from t where a = ⟨1⟩ and b = ⟨3⟩   and   17, 'x'
//! ```
//! Two texts with the same skeleton have the same tokens but for the bytes of their constants, and what those bytes mean
//! is asked nowhere in an analysis that is [simple](crate::statement::Analysis::is_simple). Where that could be otherwise
//! (comments, strings with a prefix, dollar quotes, numbers of an unusual form) there is no skeleton, and the text is
//! analysed as any other.

use crate::lexer::{quote, swar};
use crate::statement::{Analysis, Literal, LiteralKind, Span};

/// The longest skeleton, in bytes.
const MAX_BYTES: usize = crate::memo::MAX_TEXT;
/// The most constants of one.
const MAX_SLOTS: usize = 512;
/// Constants whose places a [`Template`] keeps, the first ones: of more, nothing is told to anybody, and whoever invents
/// texts must not fill the memory with their places.
pub const MAX_KEPT: usize = 64;
/// The longest text that is read.
const MAX_TEXT: usize = crate::statement::MAX_ANALYSED;

/// What stands for a number of digits, for one with a fraction, for a string. Bytes that no text with a skeleton holds.
const WHOLE: u8 = 1;
const DECIMAL: u8 = 2;
const STRING: u8 = 3;
/// Bytes below this one are kept for such marks.
const MARKS: u8 = 8;

/// Reads skeletons; one per worker, reused for every text. Allocates only while its buffers grow.
///
/// ```
/// use policy::skeleton::Skeleton;
///
/// let mut skeleton = Skeleton::default();
/// assert!(skeleton.read(b"select 17 from t where b = 'it''s'"));
/// let one = skeleton.text().to_vec();
/// assert!(skeleton.read(b"select 4 from t where b = ''"));
/// assert_eq!((one.as_slice(), skeleton.slots().len()), (skeleton.text(), 2));
/// ```
#[derive(Debug, Default)]
pub struct Skeleton {
    text: Vec<u8>,
    slots: Vec<Span>,
}

impl Skeleton {
    /// Reads `sql`, in which a plain string has no escapes. `false`: it has no skeleton.
    #[inline]
    pub fn read(&mut self, sql: &[u8]) -> bool {
        self.text.clear();
        self.slots.clear();
        sql.len() <= MAX_TEXT && self.walk(sql).is_some()
    }

    /// The text with a mark in place of each constant.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where the constants stood.
    pub fn slots(&self) -> &[Span] {
        &self.slots
    }

    fn walk(&mut self, sql: &[u8]) -> Option<()> {
        let mut kept = 0;
        let mut blocks = Blocks::default();
        let mut at = 0;
        while let Some(place) = blocks.next(sql, at) {
            let byte = |at: usize| sql.get(at).copied();
            let before = place.checked_sub(1).and_then(byte).unwrap_or(b' ');
            let next = byte(place + 1);
            at = place + 1;
            let (mark, end) = match byte(place)? {
                b'0'..=b'9' if before != b'.' => number(sql, place)?,
                b'\'' if !is_of_a_word(before) && before != b'&' => (STRING, quoted(sql, place, b'\'')?),
                b'"' if before != b'&' => {
                    at = quoted(sql, place, b'"')?;
                    continue;
                }
                // A parameter, if it is no quote.
                b'$' if next.is_some_and(|next| next.is_ascii_digit()) => continue,
                b'-' if next != Some(b'-') => continue,
                b'/' if next != Some(b'*') => continue,
                _ => return None,
            };
            if self.slots.len() >= MAX_SLOTS || self.text.len() > MAX_BYTES {
                return None;
            }
            self.keep(sql, kept, place)?;
            self.text.push(mark);
            // Texts are no longer than `MAX_TEXT`: positions fit.
            self.slots.push(Span { start: place as u32, end: end as u32 });
            (kept, at) = (end, end);
        }
        let rest = sql.get(kept..)?;
        if self.text.len() + rest.len() > MAX_BYTES {
            return None;
        }
        self.text.extend_from_slice(rest);
        Some(())
    }

    /// Appends what stands at `from..to`. Between the constants of a list that is a byte or two, for which calling a
    /// function that copies any length takes longer than copying sixteen.
    #[inline(always)]
    fn keep(&mut self, sql: &[u8], from: usize, to: usize) -> Option<()> {
        let piece = sql.get(from..to)?;
        match sql.get(from..).and_then(<[u8]>::first_chunk::<16>) {
            Some(chunk) if piece.len() <= chunk.len() => {
                let end = self.text.len() + piece.len();
                self.text.extend_from_slice(chunk);
                self.text.truncate(end);
            }
            _ => self.text.extend_from_slice(piece),
        }
        Some(())
    }
}

/// The number at `start`: its mark, and where it ends.
#[inline]
fn number(sql: &[u8], start: usize) -> Option<(u8, usize)> {
    let digits = |mut from: usize| loop {
        match swar::digits(swar::load(sql, from)) {
            8 => from += 8,
            more => return from + more,
        }
    };
    let end = digits(start + 1);
    let (mark, end) = match sql.get(end) {
        Some(b'.') => {
            let last = digits(end + 1);
            (last > end + 1).then_some((DECIMAL, last))?
        }
        _ => (WHOLE, end),
    };
    let goes_on = sql.get(end).is_some_and(|byte| is_of_a_word(*byte) || *byte == b'.');
    (!goes_on).then_some((mark, end))
}

/// Where the quoted thing ends that begins at `open`.
#[inline]
fn quoted(sql: &[u8], open: usize, quote: u8) -> Option<usize> {
    Some(open + quote::closing(sql.get(open..)?, quote, false)?)
}

const fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Finds the bytes that have to be looked at, 64 at a time.
#[derive(Debug, Default)]
struct Blocks {
    /// Where the block that was looked at last ends.
    end: usize,
    /// Its bytes that have to be looked at.
    bits: u64,
    /// Its last byte is of a word, as the next one's first byte wants to know.
    word: bool,
}

impl Blocks {
    /// The first of them from `at` on. Places are asked for in ascending order.
    #[inline(always)]
    fn next(&mut self, sql: &[u8], at: usize) -> Option<usize> {
        loop {
            // Of the block that ends at `end`, what stands before `at` is done with.
            let begin = self.end.saturating_sub(64);
            let skipped = at.saturating_sub(begin);
            let left = if skipped < 64 { self.bits & (u64::MAX << skipped) } else { 0 };
            if left != 0 {
                return Some(begin + left.trailing_zeros() as usize);
            }
            // What was skipped as a whole, a long string, need not be looked at.
            let next = self.end.max(at / 64 * 64);
            if next >= sql.len() {
                return None;
            }
            if next > self.end {
                self.end = next;
                self.word = sql.get(next - 1).is_some_and(|byte| is_of_a_word(*byte));
            }
            self.look(sql);
        }
    }

    #[inline(always)]
    fn look(&mut self, sql: &[u8]) {
        let rest = sql.get(self.end..).unwrap_or_default();
        let (words, hot) = match rest.first_chunk::<64>() {
            Some(block) => bits_of(block),
            None => {
                let mut padded = [b' '; 64];
                if let Some(begin) = padded.get_mut(..rest.len()) {
                    begin.copy_from_slice(rest);
                }
                bits_of(&padded)
            }
        };
        let behind_a_word = words << 1 | u64::from(self.word);
        // A digit or a `$` within a word is a part of it.
        self.bits = hot & !(words & behind_a_word);
        self.word = words >> 63 == 1;
        self.end += 64;
    }
}

/// Which bytes belong to words, and which have to be looked at. Written for the compiler to do in vector registers.
#[inline(always)]
fn bits_of(block: &[u8; 64]) -> (u64, u64) {
    let (mut words, mut hot) = ([0; 64], [0; 64]);
    for ((byte, word), hot) in block.iter().copied().zip(&mut words).zip(&mut hot) {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        *word = u8::from(letter | digit | (byte == b'_') | (byte == b'$') | (byte >= 0x80));
        let quote = (byte == b'\'') | (byte == b'"') | (byte == b'$');
        let comment = (byte == b'-') | (byte == b'/');
        *hot = u8::from(digit | quote | comment | (byte < MARKS));
    }
    (swar::pushed(&words), swar::pushed(&hot))
}

/// How the constants of an analysis are found by the slots of its skeleton.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    cuts: Box<[(Edge, Edge, LiteralKind)]>,
    slots: usize,
}

/// A position: so many bytes behind the end of the slot numbered `slot`, from 1; 0: behind the beginning of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edge {
    slot: u32,
    behind: u32,
}

impl Edge {
    /// Of a position in the text that `slots` were read from. `None`: it is inside of one.
    fn of(at: u32, slots: &[Span]) -> Option<Self> {
        let slot = slots.partition_point(|slot| slot.end <= at);
        let inside = slots.get(slot).is_some_and(|slot| slot.start < at);
        let end = slot.checked_sub(1).and_then(|last| slots.get(last)).map_or(0, |last| last.end);
        (!inside).then_some(Self { slot: slot as u32, behind: at - end })
    }

    #[inline]
    fn position(self, slots: &[Span]) -> Option<u32> {
        let end = match self.slot.checked_sub(1) {
            Some(slot) => slots.get(slot as usize)?.end,
            None => 0,
        };
        Some(end + self.behind)
    }
}

impl Template {
    /// Of the analysis of the text that `slots` were read from. `None`: what it says may depend on the constants.
    pub fn of(analysis: &Analysis, slots: &[Span]) -> Option<Self> {
        if !analysis.is_simple() {
            return None;
        }
        let mut rest = slots;
        let mut cuts = Vec::with_capacity(analysis.literals.len().min(MAX_KEPT));
        for Literal { span, kind } in analysis.literals.iter().copied() {
            let cut = (Edge::of(span.start, slots)?, Edge::of(span.end, slots)?, kind);
            if cuts.len() < MAX_KEPT {
                cuts.push(cut);
            }
            let before = rest.iter().take_while(|slot| slot.start < span.start).count();
            let inside = rest.iter().take_while(|slot| slot.end <= span.end).count();
            // One that is no constant to the analysis, such as a position in ORDER BY, is a part of what it says.
            (before == 0).then_some(())?;
            rest = rest.get(inside..)?;
        }
        rest.is_empty().then(|| Self { cuts: cuts.into(), slots: slots.len() })
    }

    /// The constants of a text with this skeleton and these slots, as its analysis would list them; at most [`MAX_KEPT`].
    #[inline]
    pub fn literals<'a>(&'a self, slots: &'a [Span]) -> impl Iterator<Item = Literal> + 'a {
        let fits = slots.len() == self.slots;
        self.cuts.iter().filter(move |_| fits).map_while(|(start, end, kind)| {
            let span = Span { start: start.position(slots)?, end: end.position(slots)? };
            Some(Literal { span, kind: *kind })
        })
    }
}

#[cfg(test)]
mod tests;
