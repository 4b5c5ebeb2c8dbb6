//! Cuts SQL into tokens as PostgreSQL's own scanner does, byte by byte, in one pass.
//!
//! Bytes, not characters: a text may be in any encoding whose ASCII bytes mean ASCII. Strings follow
//! `standard_conforming_strings = on`, the server's default since 9.1, unless told otherwise.

pub(crate) mod decode;
pub(crate) mod quote;
pub(crate) mod swar;
pub(crate) mod word;

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

/// One token: 24 bytes, so that a long text's tokens stay in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// A word's first eight bytes, folded; a symbol's bytes; zero for the rest. Little-endian, padded with zeros.
    pub(crate) key: u64,
    /// Its first byte in the text.
    pub(crate) start: u32,
    /// The first byte after it.
    pub(crate) end: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Which keyword a [`Kind::Word`] is.
    pub(crate) word: Word,
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
}

/// What the first byte of a token says about it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Lead {
    Space,
    Letter,
    Digit,
    Single,
    Operator,
    Dollar,
    Quote,
    DoubleQuote,
    Dot,
    Colon,
    Other,
}

const LEADS: [Lead; 256] = {
    let mut table = [Lead::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[byte] = lead(byte as u8);
        }
        byte += 1;
    }
    table
};

const fn lead(byte: u8) -> Lead {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Lead::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Lead::Letter,
        b'0'..=b'9' => Lead::Digit,
        b',' | b'(' | b')' | b'[' | b']' | b';' => Lead::Single,
        b'.' => Lead::Dot,
        b':' => Lead::Colon,
        b'$' => Lead::Dollar,
        b'\'' => Lead::Quote,
        b'"' => Lead::DoubleQuote,
        _ if is_operator(byte) => Lead::Operator,
        _ => Lead::Other,
    }
}

const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

/// Cuts the whole of `sql` into `tokens`, which is cleared first.
pub(crate) fn scan(sql: &[u8], standard_strings: bool, tokens: &mut Vec<Token>) -> Scan {
    tokens.clear();
    let mut lexer = Lexer { sql, at: 0, standard_strings, scan: Scan::default() };
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    lexer.scan
}

/// A position in a text; [`Self::next_token`] moves it.
pub(crate) struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    standard_strings: bool,
    scan: Scan,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of `sql`.
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { sql, at: 0, standard_strings: true, scan: Scan::default() }
    }

    /// What was noticed so far.
    pub(crate) fn noticed(&self) -> Scan {
        self.scan
    }

    /// The next token; whitespace and comments before it are skipped. None at the end.
    #[inline]
    pub(crate) fn next_token(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            let first = *self.sql.get(start)?;
            match LEADS.get(first as usize).copied().unwrap_or(Lead::Other) {
                Lead::Space => self.at += 1,
                Lead::Letter => return Some(self.word(first)),
                Lead::Single => return Some(self.symbol(1)),
                Lead::Digit => return Some(self.number()),
                Lead::Operator => {
                    if let Some(token) = self.operator(first) {
                        return Some(token);
                    }
                }
                lead => return Some(self.rare(lead)),
            }
        }
    }

    #[inline]
    fn word(&mut self, first: u8) -> Token {
        let start = self.at;
        let (key, length) = swar::word_at(self.sql, start);
        if length == 1
            && matches!(self.byte(start + length), Some(b'\'' | b'&'))
            && let Some(token) = self.prefixed(first)
        {
            return token;
        }
        self.at = start + length;
        self.token(Kind::Word, start, key, Word::of(self.sql, start, key, length))
    }

    /// A string or name whose prefix is a letter: `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `U&"…"`.
    #[cold]
    fn prefixed(&mut self, first: u8) -> Option<Token> {
        let start = self.at;
        let (kind, open) = match (first | 0x20, self.byte(start + 1)?, self.byte(start + 2)) {
            (b'e', b'\'', _) => {
                self.at = self.string_end(start + 1, true);
                return Some(self.token(Kind::String, start, 0, Word::None));
            }
            (b'b' | b'x', b'\'', _) => (Kind::Bits, start + 1),
            (b'n', b'\'', _) => (Kind::String, start + 1),
            (b'u', b'&', Some(b'\'')) => (Kind::String, start + 2),
            (b'u', b'&', Some(b'"')) => {
                self.at = self.name_end(start + 2);
                return Some(self.token(Kind::Quoted, start, 0, Word::None));
            }
            _ => return None,
        };
        self.at = self.string_end(open, false);
        Some(self.token(kind, start, 0, Word::None))
    }

    fn rare(&mut self, lead: Lead) -> Token {
        let start = self.at;
        match lead {
            Lead::Quote => {
                self.at = self.string_end(start, !self.standard_strings);
                self.token(Kind::String, start, 0, Word::None)
            }
            Lead::DoubleQuote => {
                self.at = self.name_end(start);
                self.token(Kind::Quoted, start, 0, Word::None)
            }
            Lead::Dollar => self.dollar(),
            Lead::Dot if self.byte(start + 1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            Lead::Dot => self.symbol(1 + usize::from(self.byte(start + 1) == Some(b'.'))),
            Lead::Colon => self.symbol(1 + usize::from(matches!(self.byte(start + 1), Some(b':' | b'=')))),
            _ => self.symbol(1),
        }
    }

    fn dollar(&mut self) -> Token {
        let start = self.at;
        if self.byte(start + 1).is_some_and(|next| next.is_ascii_digit()) {
            let digits = self.rest(start + 1).iter().take_while(|byte| byte.is_ascii_digit()).count();
            self.at = start + 1 + digits;
            return self.token(Kind::Parameter, start, 0, Word::None);
        }
        match quote::dollar_end(self.rest(start)) {
            quote::End::NotOne => self.symbol(1),
            quote::End::At(length) => {
                self.at = start + length;
                self.token(Kind::String, start, 0, Word::None)
            }
            quote::End::Missing => {
                self.scan.unterminated = true;
                self.at = self.sql.len();
                self.token(Kind::String, start, 0, Word::None)
            }
        }
    }

    /// An operator, or None when it was a comment, which is then skipped.
    #[inline]
    fn operator(&mut self, first: u8) -> Option<Token> {
        let start = self.at;
        let second = self.byte(start + 1);
        match (first, second) {
            (b'-', Some(b'-')) => {
                self.at = quote::line_end(self.sql, start);
                None
            }
            (b'/', Some(b'*')) => {
                self.at = match quote::block_end(self.rest(start)) {
                    Some(length) => start + length,
                    None => self.unterminated(),
                };
                None
            }
            (_, Some(second)) if is_operator(second) => Some(self.long_operator(start)),
            _ => Some(self.symbol(1)),
        }
    }

    /// An operator of several bytes. It ends before a comment, and a last `+` or `-` belongs to it only when one of
    /// the bytes that no standard operator has stands before it: PostgreSQL's rule, so that `1=-1` works.
    fn long_operator(&mut self, start: usize) -> Token {
        let rest = self.rest(start);
        let mut length = rest.iter().take_while(|byte| is_operator(**byte)).count();
        let run = rest.get(..length).unwrap_or_default();
        let comment = run.windows(2).skip(1).position(|pair| pair == b"--" || pair == b"/*");
        if let Some(at) = comment {
            length = at + 1;
        }
        let run = run.get(..length).unwrap_or_default();
        let special = |byte: &u8| matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%');
        if !run.iter().any(special) {
            let signs = run.iter().rev().take_while(|byte| matches!(byte, b'+' | b'-')).count();
            length = length.saturating_sub(signs).max(1);
        }
        self.symbol(length)
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        self.at = start + quote::number_length(self.rest(start));
        self.token(Kind::Number, start, 0, Word::None)
    }

    #[inline]
    fn symbol(&mut self, length: usize) -> Token {
        let start = self.at;
        self.at = start + length;
        let key = match length {
            1 => u64::from(self.byte(start).unwrap_or(0)),
            _ => match swar::key(self.sql.get(start..self.at).unwrap_or_default()) {
                NOT_EQUAL_C => symbol("<>"),
                key => key,
            },
        };
        self.token(Kind::Symbol, start, key, Word::None)
    }

    fn string_end(&mut self, open: usize, escapes: bool) -> usize {
        match quote::string_end(self.rest(open), escapes) {
            Some(length) => open + length,
            None => self.unterminated(),
        }
    }

    fn name_end(&mut self, open: usize) -> usize {
        match quote::closing(self.rest(open), b'"', false) {
            Some(length) => open + length,
            None => self.unterminated(),
        }
    }

    fn unterminated(&mut self) -> usize {
        self.scan.unterminated = true;
        self.sql.len()
    }

    #[inline]
    fn token(&self, kind: Kind, start: usize, key: u64, word: Word) -> Token {
        // Texts are cut at 256 KiB before they come here: positions fit.
        Token { key, start: start as u32, end: self.at as u32, kind, word }
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.get(at).copied()
    }

    #[inline]
    fn rest(&self, at: usize) -> &'a [u8] {
        self.sql.get(at..).unwrap_or_default()
    }
}

/// `!=`, which PostgreSQL turns into `<>` before anybody sees it.
const NOT_EQUAL_C: u64 = symbol("!=");
