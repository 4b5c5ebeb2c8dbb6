//! Cuts SQL into tokens as PostgreSQL's own scanner does, byte by byte, in one pass.
//!
//! Bytes, not characters: a text may be in any encoding whose ASCII bytes mean ASCII. Strings follow
//! `standard_conforming_strings = on`, the server's default since 9.1, unless told otherwise.

mod block;
pub(crate) mod decode;
mod lead;
mod odd;
pub(crate) mod quote;
pub(crate) mod swar;
pub(crate) mod word;

use block::{Block, Found, Source};
pub(crate) use word::Word;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A name in double quotes, also `U&"…"`.
    Quoted,
    /// A number.
    Number,
    /// A string constant, dollar-quoted ones too.
    String,
    /// `B'…'` or `X'…'`.
    Bits,
    /// `$n`.
    Parameter,
    /// An operator or a single punctuation mark; its bytes are the key.
    Symbol,
}

/// What the walk over a statement does about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// Nothing but keep it: a name or an operator that means nothing but itself wherever it stands. Most are.
    Plain,
    /// Look at which keyword it is.
    Keyword,
    /// A comma.
    Comma,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// A minus, which may be a sign.
    Minus,
    /// A number or a string.
    Constant,
    /// `$n`.
    Parameter,
    /// A name in double quotes that has to be looked at.
    Quoted,
}

/// One token: 24 bytes, so that a long text's tokens stay in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// What [`swar::word_key`] makes of a word, or of a quoted name that means the same without its quotes; a symbol's
    /// bytes, little-endian, padded with zeros; zero for the rest.
    pub(crate) key: u64,
    /// Its first byte in the text.
    pub(crate) start: u32,
    /// The first byte after it.
    pub(crate) end: u32,
    /// What it is.
    pub(crate) nature: Nature,
}

/// A token without its place and its bytes. Eight bytes in one, so that they are copied at once.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Nature {
    /// What it is.
    pub(crate) kind: Kind,
    /// Which keyword a [`Kind::Word`] is.
    pub(crate) word: Word,
    /// What the walk does about it.
    pub(crate) step: Step,
    /// Whether it is a keyword that PostgreSQL reserves.
    reserved: bool,
    whole: u32,
}

impl Nature {
    /// A nature.
    pub(crate) const fn new(kind: Kind, word: Word, step: Step) -> Self {
        Self { kind, word, step, reserved: false, whole: 0 }
    }
}

/// A token is what it is, at a place.
impl std::ops::Deref for Token {
    type Target = Nature;

    #[inline(always)]
    fn deref(&self) -> &Nature {
        &self.nature
    }
}

impl Token {
    /// Its bytes in the text that it came from.
    pub(crate) fn of(self, sql: &[u8]) -> &[u8] {
        sql.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Its length in bytes.
    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it is this symbol.
    pub(crate) fn is(self, symbol: u64) -> bool {
        self.key == symbol && self.kind == Kind::Symbol
    }

    /// Whether it is this word of up to eight bytes, without quotes.
    pub(crate) fn says(self, word: u64) -> bool {
        self.key == word && self.kind == Kind::Word
    }
}

/// The key of a word of any length, which other words of more than eight bytes may share.
pub(crate) const fn word_key(word: &[u8]) -> u64 {
    swar::word_key(word)
}

/// The key of a symbol of one to eight bytes.
pub(crate) const fn symbol(text: &str) -> u64 {
    swar::key(text.as_bytes())
}

/// What one run of the lexer noticed besides tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// A quote or a comment had no end; it was taken to reach to the end of the text.
    pub(crate) unterminated: bool,
    /// How many semicolons there are.
    pub(crate) semicolons: u32,
}

/// Cuts the whole of `sql` into `tokens`, which is cleared first.
pub(crate) fn scan(sql: &[u8], standard_strings: bool, tokens: &mut Vec<Token>) -> Scan {
    tokens.clear();
    let mut noticed = Scan::default();
    if sql.is_empty() {
        return noticed;
    }
    let source = Source::new(sql);
    let mut block = Block::new(&source, 0, standard_strings);
    let mut starts = block.starts(0);
    loop {
        // Where to go on, if something ends beyond the block that no carry tells of.
        let mut beyond = None;
        while starts != 0 {
            // The same number again, but the compiler sees that it is less than 64.
            let offset = starts.trailing_zeros() as usize & 63;
            let end = match block.token(offset, tokens) {
                Found::Whole => {
                    starts &= starts - 1;
                    continue;
                }
                Found::Mark(byte) => {
                    noticed.semicolons += u32::from(byte == b';');
                    starts &= starts - 1;
                    continue;
                }
                Found::Over(end) => end,
                Found::Odd => {
                    let (token, end) = odd::odd(sql, block.base + offset, standard_strings);
                    noticed.unterminated |= end > sql.len();
                    if token.is_some_and(|token| token.kind == Kind::String) {
                        types_string(tokens);
                    }
                    tokens.extend(token);
                    end
                }
            };
            let length = end - block.base;
            if length >= block::BYTES {
                beyond = Some(end);
                break;
            }
            starts = starts & (u64::MAX << length) | block.start_at(length);
        }
        let next = block.base + block::BYTES;
        let from = beyond.unwrap_or(next);
        if from >= sql.len() {
            return noticed;
        }
        let carry = block.carry();
        block = if from < next + block::BYTES {
            block.following(&source)
        } else {
            Block::new(&source, from & !63, standard_strings)
        };
        // A token may begin there that does not show: `a` in `1.5a`.
        starts = match beyond {
            None => block.starts(carry),
            Some(_) => block.starts(0) & (u64::MAX << (from & 63)) | block.start_at(from & 63),
        };
    }
}

/// A name right before a string is the string's type.
fn types_string(tokens: &mut [Token]) {
    if let Some(before) = tokens.last_mut().filter(|before| before.kind == Kind::Word) {
        before.nature.word = before.word.before_a_string();
        if before.word == Word::TypeName {
            before.nature.step = Step::Keyword;
        }
    }
}

#[cfg(test)]
mod tests;
