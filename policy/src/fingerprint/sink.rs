//! Where the walk over the tokens puts what it keeps: into ids or into text.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::SCHEME;
use crate::lexer::{Kind, Token, Word, swar, symbol};

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

/// The chunk that stands for a constant.
const CONSTANT: u64 = symbol("?");
/// The chunk that stands for a squashed list.
const LIST: u64 = symbol("...");
/// The chunk before a quoted name that is not the same as any unquoted one.
const QUOTED: u64 = symbol("\"");

/// Builds the two streams that are hashed into ids.
///
/// A stream is a run of eight-byte chunks, little-endian. A word is its folded bytes cut into chunks, of which the
/// last has a zero at its end (so `abcdefgh ij` is not `abcdefghij`); a symbol is one chunk. The streams differ only in
/// statements with parameters or lists, so the second one is begun at the first difference.
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
            self.chunk(strict, Form::Both);
        } else {
            self.chunk(strict, Form::Strict);
            self.chunk(family, Form::Family);
        }
    }

    #[inline]
    fn chunk(&mut self, chunk: u64, form: Form) {
        if form != Form::Both && !self.forked {
            self.fork();
        }
        if form != Form::Family {
            self.strict.extend_from_slice(&chunk.to_le_bytes());
        }
        if self.forked && form != Form::Strict {
            self.family.extend_from_slice(&chunk.to_le_bytes());
        }
    }

    #[cold]
    fn fork(&mut self) {
        self.forked = true;
        self.family.clear();
        self.family.extend_from_slice(&self.strict);
    }

    /// The chunks of a word behind its first.
    #[cold]
    fn long_word(&mut self, word: &[u8], form: Form) {
        let mut at = 8;
        loop {
            let left = word.len().saturating_sub(at).min(8);
            self.chunk(swar::keep(swar::fold(swar::load(word, at)).0, left), form);
            if left < 8 {
                return;
            }
            at += 8;
        }
    }

    /// Bytes that are not folded: the inside of a quoted name, a number that is kept.
    #[cold]
    fn raw(&mut self, bytes: &[u8], form: Form) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.chunk(u64::from_le_bytes(*chunk), form);
        }
        self.chunk(swar::key(rest), form);
    }
}

impl Sink for Ids {
    #[inline]
    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        match token.kind {
            Kind::Symbol => self.chunk(token.key, form),
            Kind::Word => {
                self.chunk(token.key, form);
                if token.len() >= 8 {
                    self.long_word(token.of(sql), form);
                }
            }
            Kind::Quoted => match simple_name(token.of(sql)) {
                Some(name) => self.raw(name, form),
                None => {
                    self.chunk(QUOTED, form);
                    self.raw(token.of(sql), form);
                }
            },
            Kind::Number | Kind::Parameter | Kind::String | Kind::Bits => self.raw(token.of(sql), form),
        }
    }

    #[inline]
    fn constant(&mut self, form: Form) {
        self.chunk(CONSTANT, form);
    }

    fn parameter(&mut self, sql: &[u8], token: Token, form: Form) {
        match form {
            Form::Both => {
                self.raw(token.of(sql), Form::Strict);
                self.chunk(CONSTANT, Form::Family);
            }
            Form::Strict => self.raw(token.of(sql), Form::Strict),
            Form::Family => self.chunk(CONSTANT, Form::Family),
        }
    }

    #[inline]
    fn typed(&mut self, kind: u8) {
        self.types = (self.types ^ u64::from(kind)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn list(&mut self, form: Form) {
        self.chunk(LIST, form);
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
    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        if !self.shown(form) {
            return;
        }
        match token.kind {
            Kind::Symbol if token.key.to_le_bytes().last() == Some(&0) => self.symbol(token.key),
            Kind::Word => {
                let last = if token.word == Word::None { Last::Name } else { Last::Other };
                let short = token.key.to_le_bytes();
                match short.get(..token.len()).filter(|_| token.len() < 8) {
                    Some(word) => self.put(word, last),
                    None => self.put(&token.of(sql).to_ascii_lowercase(), last),
                }
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
