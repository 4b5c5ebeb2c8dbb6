//! Where the walk over the tokens puts what it keeps: into ids or into text.

use super::SCHEME;
use crate::lexer::{Kind, Step, Token, Word, swar};

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
    /// The plain tokens at the beginning of `tokens`, and how many they are.
    fn plain(&mut self, sql: &[u8], tokens: &[Token], form: Form) -> usize;
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
    /// So many constants with commas between them, which the family has squashed.
    fn members(&mut self, count: u32);
}

/// What stands for a constant: a byte that no token is made of.
const CONSTANT: u64 = 1;
/// What stands for a squashed list.
const LIST: u64 = 2;
/// What stands before a quoted name that is not the same as any unquoted one.
const QUOTED: u64 = 3;
/// What stands before a number or a parameter that is kept.
const RAW: u64 = 4;

/// Where both ids begin.
const SEED: u64 = (SCHEME as u64).wrapping_mul(0x243f_6a88_85a3_08d3);

/// What an item adds to an id. Both factors are made of it, so that what two items have in common does not show in the
/// difference of their terms.
#[inline(always)]
const fn term(item: u64) -> u64 {
    let item = item ^ 0x4528_21e6_38d0_1377;
    swar::fold(item, item.rotate_left(32) ^ 0x1319_8a2e_0370_7344)
}

/// An id with one more term: a polynomial, so that the order counts, and a term serves both ids.
#[inline(always)]
const fn with(id: u64, term: u64) -> u64 {
    id.wrapping_add(term).wrapping_mul(FACTOR)
}

/// An odd number without a pattern: the golden ratio's.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What `count` constants, each behind a comma, make of an id. One of them multiplies it and adds to it, and so do any number
/// of them: by squaring, a long list takes no more steps than its length has bits.
fn with_members(mut id: u64, mut count: u32) -> u64 {
    let mut factor = FACTOR.wrapping_mul(FACTOR);
    let mut more = with(with(0, const { term(swar::key(b",")) }), const { term(CONSTANT) });
    while count > 0 {
        if count & 1 == 1 {
            id = id.wrapping_mul(factor).wrapping_add(more);
        }
        more = more.wrapping_mul(factor).wrapping_add(more);
        factor = factor.wrapping_mul(factor);
        count >>= 1;
    }
    id
}

/// Spreads an id over all bits, the last steps as XXH3 does.
const fn finished(id: u64) -> u64 {
    let id = id ^ swar::fold(id ^ 0xa409_3822_299f_31d0, 0x9fb2_1c65_1e98_df25);
    let id = (id ^ (id >> 37)).wrapping_mul(0x1656_6791_9e37_79f9);
    id ^ (id >> 32)
}

/// Makes the two ids.
///
/// An item is a token's key, or for what has none a row of numbers of which the first says what it is. The two differ
/// only in statements with parameters or lists; both are made all along, since the second costs less than a question
/// whether it is needed.
#[derive(Debug)]
pub(crate) struct Ids {
    strict: u64,
    family: u64,
    /// The types of the constants where they matter, mixed in order.
    types: u64,
}

impl Default for Ids {
    fn default() -> Self {
        Self { strict: SEED, family: SEED, types: 0 }
    }
}

impl Ids {
    /// Strict id and family id of what was taken. They are the same when no item belongs to one form only.
    pub(crate) fn finish(&self) -> (u64, u64) {
        let strict = if self.types == 0 { self.strict } else { with(self.strict, term(self.types)) };
        (finished(strict), finished(self.family))
    }

    /// Takes the ids of one statement of several.
    pub(crate) fn part(&mut self, strict: u64, family: u64) {
        if strict == family {
            self.item(strict, Form::Both);
        } else {
            self.item(strict, Form::Strict);
            self.item(family, Form::Family);
        }
    }

    #[inline(always)]
    fn item(&mut self, item: u64, form: Form) {
        let term = term(item);
        if form != Form::Family {
            self.strict = with(self.strict, term);
        }
        if form != Form::Strict {
            self.family = with(self.family, term);
        }
    }

    /// A token that is neither a word nor a symbol.
    fn other(&mut self, sql: &[u8], token: Token, form: Form) {
        match simple_name(token.of(sql)) {
            Some(name) => self.item(swar::word_key(name), form),
            None if token.kind == Kind::Quoted => self.raw(QUOTED, token.of(sql), form),
            None => self.raw(RAW, token.of(sql), form),
        }
    }

    /// Bytes that are not folded: the inside of a quoted name, a number that is kept.
    fn raw(&mut self, mark: u64, bytes: &[u8], form: Form) {
        self.item(mark, form);
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.item(u64::from_le_bytes(*chunk), form);
        }
        self.item(swar::key(rest), form);
    }
}

impl Sink for Ids {
    #[inline(always)]
    fn plain(&mut self, _sql: &[u8], tokens: &[Token], form: Form) -> usize {
        // By values of its own: each term waits for the one before it, and would wait for the memory between them too.
        let mut ids = Self { ..*self };
        let mut taken = 0;
        for token in tokens.iter().take_while(|token| token.step == Step::Plain) {
            ids.item(token.key, form);
            taken += 1;
        }
        *self = ids;
        taken
    }

    #[inline(always)]
    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        match token.kind {
            Kind::Symbol | Kind::Word => self.item(token.key, form),
            Kind::Quoted if token.key != 0 => self.item(token.key, form),
            _ => self.other(sql, token, form),
        }
    }

    #[inline]
    fn constant(&mut self, form: Form) {
        self.item(CONSTANT, form);
    }

    fn parameter(&mut self, sql: &[u8], token: Token, form: Form) {
        if form != Form::Family {
            self.raw(RAW, token.of(sql), Form::Strict);
        }
        if form != Form::Strict {
            self.item(CONSTANT, Form::Family);
        }
    }

    #[inline]
    fn typed(&mut self, kind: u8) {
        self.types = (self.types ^ u64::from(kind)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn list(&mut self, form: Form) {
        self.item(LIST, form);
    }

    fn members(&mut self, count: u32) {
        self.item(CONSTANT, Form::Strict);
        self.strict = with_members(self.strict, count.saturating_sub(1));
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

    /// A short word is taken from its key, since the walk puts in some that are not in the text.
    fn word(&mut self, sql: &[u8], token: Token) {
        let last = if token.word.is_name() { Last::Name } else { Last::Other };
        if token.len() >= 8 {
            return self.put(&token.of(sql).to_ascii_lowercase(), last);
        }
        let mut bytes = token.key.to_le_bytes();
        // The lexer's own form of an underscore.
        bytes.iter_mut().filter(|byte| **byte == 0x7f).for_each(|byte| *byte = b'_');
        self.put(bytes.get(..token.len()).unwrap_or_default(), last);
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
    fn plain(&mut self, sql: &[u8], tokens: &[Token], form: Form) -> usize {
        let plain = tokens.iter().take_while(|token| token.step == Step::Plain);
        plain.map(|token| self.token(sql, *token, form)).count()
    }

    fn token(&mut self, sql: &[u8], token: Token, form: Form) {
        if !self.shown(form) {
            return;
        }
        match token.kind {
            Kind::Symbol if token.key.to_le_bytes().last() == Some(&0) => self.symbol(token.key),
            Kind::Word => self.word(sql, token),
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

    fn members(&mut self, count: u32) {
        for index in 0..count {
            if index > 0 && self.shown(Form::Strict) {
                self.symbol(swar::key(b","));
            }
            self.constant(Form::Strict);
        }
    }
}
