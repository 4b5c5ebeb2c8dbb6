//! Where the walk over the tokens puts what it keeps: into ids or into text.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::SCHEME;
use crate::lexer::{Kind, Token, Word, swar};

/// Which of the two forms of a statement an item belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Strict and family.
    Both,
    /// The strict form only: the family has squashed it.
    Strict,
    /// The family only.
    Family,
}

/// Takes the canonical items of one statement, in order.
pub(crate) trait Sink {
    /// A word or a symbol of at most seven bytes: most of a statement.
    fn short(&mut self, token: Token, form: Form);
    /// A word, a symbol or a number that is not a constant, as it is.
    fn token(&mut self, sql: &[u8], token: Token, form: Form);
    /// A constant.
    fn constant(&mut self, form: Form);
    /// `$n`, which the family takes for a constant.
    fn parameter(&mut self, sql: &[u8], token: Token, form: Form);
    /// The lexical type of a constant where it decides which operator or function is meant; the family ignores it.
    fn typed(&mut self, kind: u8);
    /// A list, whatever its length.
    fn list(&mut self, form: Form);
}

/// What stands for a constant: a byte that no token begins with, and the end of an item.
const CONSTANT: u64 = 1;
/// What stands for a squashed list.
const LIST: u64 = 2;
/// What stands before a quoted name that is not the same as any unquoted one.
const QUOTED: u64 = 3;

/// Builds the two streams that are hashed into ids.
///
/// A stream is a run of items that each end with a zero byte: a word is its folded bytes, a symbol its bytes, a constant
/// the byte 1. The streams differ only in statements with parameters or lists, so the second one is begun at the first
/// difference.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    strict: Vec<u8>,
    family: Vec<u8>,
    forked: bool,
    /// The types of the constants where they matter, mixed in order.
    types: u64,
}

impl Ids {
    /// Ready for the next statement.
    pub(crate) fn clear(&mut self) {
        self.strict.clear();
        self.forked = false;
        self.types = 0;
    }

    /// Gives memory back after a text of unusual size.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.clear();
        self.family.clear();
        self.strict.shrink_to(bytes);
        self.family.shrink_to(bytes);
    }

    /// Strict id and family id of what was taken since [`Self::clear`].
    pub(crate) fn finish(&self) -> (u64, u64) {
        let seed = u64::from(SCHEME);
        let strict = xxh3_64_with_seed(&self.strict, seed ^ self.types);
        let family = match (self.forked, self.types) {
            (false, 0) => strict,
            (false, _) => xxh3_64_with_seed(&self.strict, seed),
            (true, _) => xxh3_64_with_seed(&self.family, seed),
        };
        (strict, family)
    }

    /// Takes the ids of one statement of several.
    pub(crate) fn part(&mut self, strict: u64, family: u64) {
        if strict == family {
            self.chunk(strict, 8, Form::Both);
        } else {
            self.chunk(strict, 8, Form::Strict);
            self.chunk(family, 8, Form::Family);
        }
    }

    /// The lowest `length` bytes of `chunk`, at most eight.
    #[inline]
    fn chunk(&mut self, chunk: u64, length: usize, form: Form) {
        if form != Form::Both && !self.forked {
            self.fork();
        }
        if form != Form::Family {
            append(&mut self.strict, chunk, length);
        }
        if self.forked && form != Form::Strict {
            append(&mut self.family, chunk, length);
        }
    }

    #[cold]
    fn fork(&mut self) {
        self.forked = true;
        self.family.clear();
        self.family.extend_from_slice(&self.strict);
    }

    /// A word, in the lexer's folded form.
    fn word(&mut self, word: &[u8], form: Form) {
        let mut at = 0;
        loop {
            let left = word.len().saturating_sub(at).min(8);
            let chunk = swar::keep(swar::fold(swar::load(word, at)).0, left);
            if left < 8 {
                return self.chunk(chunk, left + 1, form);
            }
            self.chunk(chunk, 8, form);
            at += 8;
        }
    }

    /// Bytes that are not folded: the inside of a quoted name, a number that is kept.
    fn raw(&mut self, bytes: &[u8], form: Form) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.chunk(u64::from_le_bytes(*chunk), 8, form);
        }
        self.chunk(swar::key(rest), rest.len() + 1, form);
    }
}

/// Appends a fixed eight bytes and takes the surplus back: cheaper than a copy of a length that is not known.
#[inline]
fn append(stream: &mut Vec<u8>, chunk: u64, length: usize) {
    stream.extend_from_slice(&chunk.to_le_bytes());
    stream.truncate(stream.len() - 8 + length.min(8));
}

impl Sink for Ids {
    #[inline(always)]
    fn short(&mut self, token: Token, form: Form) {
        let length = token.len() + 1;
        if form == Form::Both && !self.forked {
            append(&mut self.strict, token.key, length);
        } else {
            self.chunk(token.key, length, form);
        }
    }

    #[inline]
    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        match token.kind {
            Kind::Symbol => self.chunk(token.key, token.len() + 1, form),
            Kind::Word => self.word(token.of(sql), form),
            Kind::Quoted => match simple_name(token.of(sql)) {
                Some(name) => self.word(name, form),
                None => {
                    self.chunk(QUOTED, 1, form);
                    self.raw(token.of(sql), form);
                }
            },
            Kind::Number | Kind::Parameter | Kind::String | Kind::Bits => self.raw(token.of(sql), form),
        }
    }

    #[inline]
    fn constant(&mut self, form: Form) {
        self.chunk(CONSTANT, 2, form);
    }

    fn parameter(&mut self, sql: &[u8], token: Token, form: Form) {
        match form {
            Form::Both => {
                self.raw(token.of(sql), Form::Strict);
                self.chunk(CONSTANT, 2, Form::Family);
            }
            Form::Strict => self.raw(token.of(sql), Form::Strict),
            Form::Family => self.chunk(CONSTANT, 2, Form::Family),
        }
    }

    #[inline]
    fn typed(&mut self, kind: u8) {
        self.types = (self.types ^ u64::from(kind)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn list(&mut self, form: Form) {
        self.chunk(LIST, 2, form);
    }
}

/// The inside of a quoted name that means the same without its quotes.
pub(crate) fn simple_name(quoted: &[u8]) -> Option<&[u8]> {
    let name = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let (first, rest) = name.split_first()?;
    let plain = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    let simple = plain(first) && rest.iter().all(|byte| plain(byte) || byte.is_ascii_digit() || *byte == b'$');
    (simple && !Word::is_reserved(name)).then_some(name)
}

/// Writes one of the two forms for people.
#[derive(Debug)]
pub(crate) struct Text {
    form: Form,
    out: Vec<u8>,
    last: Last,
}

/// What was written last, as far as the next space depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Opening,
    Name,
    Other,
}

impl Text {
    /// A writer of the strict form or of the family's.
    pub(crate) fn new(form: Form) -> Self {
        Self { form, out: Vec::new(), last: Last::Opening }
    }

    /// What was written; bytes that are not UTF-8 are replaced.
    pub(crate) fn finish(self) -> String {
        match String::from_utf8(self.out) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// Between two statements of one text.
    pub(crate) fn separate(&mut self) {
        self.out.extend_from_slice(b"; ");
        self.last = Last::Opening;
    }

    fn shown(&self, form: Form) -> bool {
        form == Form::Both || form == self.form
    }

    fn put(&mut self, bytes: &[u8], last: Last) {
        if self.last != Last::Opening {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(bytes);
        self.last = last;
    }

    fn symbol(&mut self, key: u64) {
        let bytes = key.to_le_bytes();
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(8);
        let bytes = bytes.get(..length).unwrap_or_default();
        let joined = match bytes {
            b"," | b")" | b"]" | b"." | b"::" | b";" => true,
            b"(" | b"[" => self.last == Last::Name,
            _ => false,
        };
        if joined {
            self.last = Last::Opening;
        }
        let last = if matches!(bytes, b"(" | b"[" | b"." | b"::") { Last::Opening } else { Last::Other };
        self.put(bytes, last);
    }
}

impl Sink for Text {
    fn short(&mut self, token: Token, form: Form) {
        if !self.shown(form) {
            return;
        }
        if token.kind == Kind::Symbol {
            return self.symbol(token.key);
        }
        let last = if token.word.is_name() { Last::Name } else { Last::Other };
        let mut bytes = token.key.to_le_bytes();
        // The lexer's own form of an underscore.
        bytes.iter_mut().filter(|byte| **byte == 0x7f).for_each(|byte| *byte = b'_');
        self.put(bytes.get(..token.len()).unwrap_or_default(), last);
    }

    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        if !self.shown(form) {
            return;
        }
        match token.kind {
            Kind::Symbol if token.key.to_le_bytes().last() == Some(&0) => self.symbol(token.key),
            Kind::Word => {
                let last = if token.word.is_name() { Last::Name } else { Last::Other };
                self.put(&token.of(sql).to_ascii_lowercase(), last);
            }
            Kind::Quoted => self.put(simple_name(token.of(sql)).unwrap_or(token.of(sql)), Last::Name),
            _ => self.put(token.of(sql), Last::Other),
        }
    }

    fn constant(&mut self, form: Form) {
        if self.shown(form) {
            self.put(b"?", Last::Other);
        }
    }

    fn parameter(&mut self, sql: &[u8], token: Token, form: Form) {
        if self.shown(form) {
            if self.form == Form::Family { self.put(b"?", Last::Other) } else { self.put(token.of(sql), Last::Other) }
        }
    }

    fn typed(&mut self, _kind: u8) {}

    fn list(&mut self, form: Form) {
        if self.shown(form) {
            self.put(b"...", Last::Other);
        }
    }
}
