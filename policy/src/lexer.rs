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
    /// What [`swar::word_key`] makes of a word; a symbol's bytes, little-endian, padded with zeros; zero for the rest.
    pub(crate) key: u64,
    /// Its first byte in the text.
    pub(crate) start: u32,
    /// The first byte after it.
    pub(crate) end: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Which keyword a [`Kind::Word`] is.
    pub(crate) word: Word,
    /// A name or an operator that means nothing but itself wherever it stands: most tokens are.
    pub(crate) plain: bool,
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
    /// How many semicolons there are.
    pub(crate) semicolons: u32,
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

#[inline(always)]
fn lead_of(byte: u8) -> Lead {
    LEADS.get(usize::from(byte)).copied().unwrap_or(Lead::Other)
}

const fn lead(byte: u8) -> Lead {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Lead::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Lead::Letter,
        b'0'..=b'9' => Lead::Digit,
        b',' | b'(' | b')' | b'[' | b']' => Lead::Single,
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
    let mut lexer = Lexer { standard_strings, ..Lexer::new(sql) };
    while let Some(token) = lexer.next_token() {
        if token.kind == Kind::String
            && let Some(before) = tokens.last_mut().filter(|before| before.kind == Kind::Word)
        {
            before.word = before.word.before_a_string();
            before.plain &= before.word != Word::TypeName;
        }
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
    words: swar::Words,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of `sql`.
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { sql, at: 0, standard_strings: true, scan: Scan::default(), words: swar::Words::new() }
    }

    /// What was noticed so far.
    pub(crate) fn noticed(&self) -> Scan {
        self.scan
    }

    /// The next token; whitespace and comments before it are skipped. None at the end.
    ///
    /// Inlined, and its helpers answer with a kind alone: a token that travels through memory is written in pieces and
    /// read as a whole, which stalls the processor for longer than the rest of the work takes.
    #[inline(always)]
    pub(crate) fn next_token(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            let first = *self.sql.get(start)?;
            let (kind, key, word, plain) = match lead_of(first) {
                Lead::Space => {
                    self.at = start + 1;
                    continue;
                }
                Lead::Letter => {
                    let bytes = swar::load(self.sql, start);
                    let length = self.words.run(self.sql, start);
                    self.at = start + length;
                    if length > 1 {
                        let (key, (word, plain)) = self.word(start, length, bytes);
                        (Kind::Word, key, word, plain)
                    } else {
                        // No keyword is that short.
                        let key = swar::lower(bytes) & 0xff;
                        match self.prefixed(first) {
                            Kind::Word => (Kind::Word, key, Word::None, true),
                            kind => (kind, 0, Word::None, false),
                        }
                    }
                }
                lead if self.stands_alone(lead, start + 1) => {
                    self.at = start + 1;
                    (Kind::Symbol, u64::from(first), Word::None, lead != Lead::Single && first != b'-')
                }
                lead => match self.other(lead, first) {
                    Some(Kind::Symbol) => (Kind::Symbol, self.symbol_key(start), Word::None, false),
                    Some(kind) => (kind, 0, Word::None, false),
                    None => continue,
                },
            };
            // Texts are cut at 256 KiB before they come here: positions fit.
            return Some(Token { key, start: start as u32, end: self.at as u32, kind, word, plain });
        }
    }

    /// The key of the word of `length` bytes at `start`, of which `bytes` are the first; which keyword it is and whether
    /// it is plain.
    #[inline(always)]
    fn word(&self, start: usize, length: usize, bytes: u64) -> (u64, (Word, bool)) {
        let begin = swar::lower(bytes);
        if length <= 8 {
            let key = swar::keep(begin, length);
            return (key, Word::of(key));
        }
        let mut key = begin;
        let mut at = 8;
        while at < length {
            let part = swar::lower(swar::load(self.sql, start + at));
            key = swar::join(key, swar::keep(part, (length - at).min(8)));
            at += 8;
        }
        let word = self.sql.get(start..start + length).unwrap_or_default();
        (key, Word::of_long(key, begin, word))
    }

    /// Whether a symbol of one byte ends before `next`.
    #[inline(always)]
    fn stands_alone(&self, lead: Lead, next: usize) -> bool {
        let follower = self.byte(next).map_or(Lead::Space, lead_of);
        match lead {
            Lead::Single => true,
            Lead::Dot => !matches!(follower, Lead::Digit | Lead::Dot),
            Lead::Operator => follower != Lead::Operator,
            _ => false,
        }
    }

    #[inline]
    fn symbol_key(&self, start: usize) -> u64 {
        match swar::keep(swar::load(self.sql, start), (self.at - start).min(8)) {
            NOT_EQUAL_C => symbol("<>"),
            key => key,
        }
    }

    /// A string or name whose prefix is a letter: `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `U&"…"`; a word otherwise.
    #[inline(always)]
    fn prefixed(&mut self, first: u8) -> Kind {
        match self.byte(self.at) {
            Some(b'\'' | b'&') => self.behind_prefix(first),
            _ => Kind::Word,
        }
    }

    #[cold]
    fn behind_prefix(&mut self, first: u8) -> Kind {
        let open = self.at;
        let (kind, end) = match (first | 0x20, self.byte(open), self.byte(open + 1)) {
            (b'e', Some(b'\''), _) => (Kind::String, self.string_end(open, true)),
            (b'b' | b'x', Some(b'\''), _) => (Kind::Bits, self.string_end(open, false)),
            (b'n', Some(b'\''), _) => (Kind::String, self.string_end(open, false)),
            (b'u', Some(b'&'), Some(b'\'')) => (Kind::String, self.string_end(open + 1, false)),
            (b'u', Some(b'&'), Some(b'"')) => (Kind::Quoted, self.name_end(open + 1)),
            _ => (Kind::Word, open),
        };
        self.at = end;
        kind
    }

    /// Everything but words and single marks; None when it was a comment, which is then skipped.
    fn other(&mut self, lead: Lead, first: u8) -> Option<Kind> {
        let start = self.at;
        let next = self.byte(start + 1);
        let (kind, end) = match lead {
            Lead::Operator => {
                let (end, comment) = self.operator_end(first, next);
                self.at = end;
                return (!comment).then_some(Kind::Symbol);
            }
            Lead::Quote => (Kind::String, self.string_end(start, !self.standard_strings)),
            Lead::DoubleQuote => (Kind::Quoted, self.name_end(start)),
            Lead::Digit => (Kind::Number, self.number_end(start)),
            Lead::Dollar => self.dollar(),
            Lead::Dot if next.is_some_and(|next| next.is_ascii_digit()) => {
                (Kind::Number, start + quote::number_length(self.rest(start)))
            }
            Lead::Dot => (Kind::Symbol, start + 1 + usize::from(next == Some(b'.'))),
            Lead::Colon => (Kind::Symbol, start + 1 + usize::from(matches!(next, Some(b':' | b'=')))),
            _ => {
                self.scan.semicolons += u32::from(first == b';');
                (Kind::Symbol, start + 1)
            }
        };
        self.at = end;
        Some(kind)
    }

    #[inline]
    fn number_end(&self, start: usize) -> usize {
        let mut at = start + 1;
        while self.byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
            at += 1;
        }
        match self.byte(at).map_or(Lead::Space, lead_of) {
            Lead::Letter | Lead::Dot => start + quote::number_length(self.rest(start)),
            _ => at,
        }
    }

    fn dollar(&mut self) -> (Kind, usize) {
        let start = self.at;
        if self.byte(start + 1).is_some_and(|next| next.is_ascii_digit()) {
            let digits = self.rest(start + 1).iter().take_while(|byte| byte.is_ascii_digit()).count();
            return (Kind::Parameter, start + 1 + digits);
        }
        match quote::dollar_end(self.rest(start)) {
            quote::End::NotOne => (Kind::Symbol, start + 1),
            quote::End::At(length) => (Kind::String, start + length),
            quote::End::Missing => (Kind::String, self.unterminated()),
        }
    }

    /// The end of an operator, or of a comment, and whether it was one.
    #[inline]
    fn operator_end(&mut self, first: u8, second: Option<u8>) -> (usize, bool) {
        let start = self.at;
        match (first, second) {
            (b'-', Some(b'-')) => (quote::line_end(self.sql, start), true),
            (b'/', Some(b'*')) => match quote::block_end(self.rest(start)) {
                Some(length) => (start + length, true),
                None => (self.unterminated(), true),
            },
            (_, Some(second)) if is_operator(second) => (start + long_operator(self.rest(start)), false),
            _ => (start + 1, false),
        }
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
    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.get(at).copied()
    }

    #[inline]
    fn rest(&self, at: usize) -> &'a [u8] {
        self.sql.get(at..).unwrap_or_default()
    }
}

/// The length of an operator of several bytes. It ends before a comment, and a last `+` or `-` belongs to it only when
/// one of the bytes that no standard operator has stands before it: PostgreSQL's rule, so that `1=-1` works.
fn long_operator(rest: &[u8]) -> usize {
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
    length
}

/// `!=`, which PostgreSQL turns into `<>` before anybody sees it.
const NOT_EQUAL_C: u64 = symbol("!=");
