//! Reading normalised texts: which tables, and which column stands beside a placeholder.
//!
//! Only normalised texts come here (keywords and unquoted names in lower case, constants as `?`, no comments), so a
//! few rules are enough. What they cannot tell stays unknown: a wrong name would be worse than none.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name.
    Quoted,
    /// `$n`.
    Parameter(usize),
    /// `?`, counted from 0.
    Constant(usize),
    /// `=`, `<=`, `::`, ….
    Operator,
    /// One of `( ) [ ] , . ;`.
    Mark,
}

/// One token and its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
}

/// What stands around a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// `column = $1`, `column in ($1)`, `column = any($1)`.
    Equal,
    /// `column > $1`, `between`, `like`, and so on.
    Compare,
    /// A new value in UPDATE … SET or VALUES.
    Assign,
    /// `limit $1`.
    Limit,
    /// `offset $1`.
    Offset,
    /// Anything else, such as an argument of a function.
    Other,
}

/// A placeholder and what it is compared with.
#[derive(Debug, Clone)]
pub(super) struct Placeholder {
    /// `$n` as n − 1; constants count on after the highest `$n`.
    pub(super) index: usize,
    /// Its token.
    pub(super) token: usize,
    pub(super) context: Context,
    /// The column beside it as written, with its qualifier: a range of the text.
    pub(super) column: Option<Range<usize>>,
    /// First token of what a rewrite replaces: the operator, `in`, or the placeholder itself.
    pub(super) from_token: usize,
    /// Last token of it.
    pub(super) to_token: usize,
}

/// A table in FROM, JOIN, UPDATE or INTO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// As written, without quotes.
    pub(super) name: String,
    pub(super) alias: Option<String>,
}

/// A normalised text, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token>,
    pub(super) tables: Vec<Table>,
    pub(super) placeholders: Vec<Placeholder>,
    /// How many `$n` there are, by the highest.
    pub(super) parameters: usize,
}

/// What a normalised text ends in of which only the beginning is kept: no rewrite is made of such a one.
pub const CUT: char = '…';

/// Tokens looked at. What a token stands in is found by walking from it, so the work grows with their square; nothing
/// that repeats for each row of a parent is so long, and a text that is built to be expensive must not be.
const MAX_TOKENS: usize = 2048;

impl<'a> Text<'a> {
    /// Takes the beginning of `text` apart, up to [`MAX_TOKENS`].
    pub(super) fn new(text: &'a str) -> Self {
        let tokens: Vec<Token> = tokens(text).take(MAX_TOKENS).collect();
        let parameters = tokens
            .iter()
            .filter_map(|token| if let TokenKind::Parameter(index) = token.kind { Some(index + 1) } else { None })
            .max()
            .unwrap_or(0);
        let mut parsed = Self { text, tokens, tables: Vec::new(), placeholders: Vec::new(), parameters };
        parsed.tables = parsed.find_tables();
        parsed.placeholders = parsed.find_placeholders();
        parsed
    }

    /// A token's bytes; nothing past either end.
    pub(super) fn word(&self, token: usize) -> &'a str {
        self.tokens.get(token).and_then(|token| self.text.get(token.span.clone())).unwrap_or_default()
    }

    /// The placeholder with this index, the first if it appears more than once.
    pub(super) fn placeholder(&self, index: usize) -> Option<&Placeholder> {
        self.placeholders.iter().find(|placeholder| placeholder.index == index)
    }

    /// The column beside a placeholder, without qualifier and quotes, and its table when that is certain.
    pub(super) fn column_of(&self, placeholder: &Placeholder) -> Option<(Option<&str>, String)> {
        let written = self.text.get(placeholder.column.clone()?)?;
        let (qualifier, column) = match written.rsplit_once('.') {
            Some((qualifier, column)) => (Some(unquote(qualifier.trim())), unquote(column.trim())),
            None => (None, unquote(written)),
        };
        Some((self.table_of(qualifier.as_deref()), column))
    }

    /// The table that a qualifier names; without one, the only table there is.
    pub(super) fn table_of(&self, qualifier: Option<&str>) -> Option<&str> {
        let table = match qualifier {
            Some(qualifier) => self.tables.iter().find(|table| {
                table.alias.as_deref() == Some(qualifier)
                    || table.name == qualifier
                    || table.name.rsplit('.').next() == Some(qualifier)
            }),
            None => match self.tables.as_slice() {
                [table] => Some(table),
                _ => None,
            },
        };
        table.map(|table| table.name.as_str())
    }

    /// Whether a word stands outside all parentheses, and where.
    pub(super) fn top_level(&self, word: &str) -> Option<usize> {
        let mut depth = 0_i32;
        for index in 0..self.tokens.len() {
            match self.word(index) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                found if depth == 0 && found == word => return Some(index),
                _ => {}
            }
        }
        None
    }

    /// A dotted name that begins at `token`: its text without quotes and the token after it.
    fn name_at(&self, mut token: usize) -> Option<(String, usize)> {
        let mut name = String::new();
        loop {
            match self.tokens.get(token)?.kind {
                TokenKind::Word | TokenKind::Quoted => name.push_str(&unquote(self.word(token))),
                _ => return None,
            }
            token += 1;
            if self.word(token) != "." {
                return Some((name, token));
            }
            name.push('.');
            token += 1;
        }
    }

    fn find_tables(&self) -> Vec<Table> {
        const NOT_AN_ALIAS: [&str; 24] = [
            "where",
            "on",
            "join",
            "left",
            "right",
            "inner",
            "full",
            "cross",
            "natural",
            "order",
            "group",
            "limit",
            "set",
            "using",
            "values",
            "having",
            "union",
            "for",
            "returning",
            "offset",
            "select",
            "default",
            "fetch",
            "window",
        ];
        let mut tables = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            let word = self.word(index);
            let opens = matches!(word, "from" | "join" | "into")
                || (word == "update" && matches!(self.word(index.wrapping_sub(1)), "" | "(" | ")"))
                || (word == "," && self.is_in_from(index));
            index += 1;
            if !opens {
                continue;
            }
            if matches!(self.word(index), "only" | "lateral") {
                index += 1;
            }
            let Some((name, after)) = self.name_at(index) else { continue };
            if self.word(after) == "(" && word != "into" {
                continue;
            }
            let at = if self.word(after) == "as" { after + 1 } else { after };
            let alias =
                self.name_at(at).filter(|(alias, _)| !NOT_AN_ALIAS.contains(&alias.as_str())).map(|(alias, _)| alias);
            index = after;
            let table = Table { name, alias };
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    /// Whether the comma at `index` divides tables: the last clause word before it, at its own depth, is FROM.
    fn is_in_from(&self, index: usize) -> bool {
        matches!(self.clause_before(index), Some("from"))
    }

    /// The clause that a token is in: the nearest clause word before it at its own depth.
    fn clause_before(&self, index: usize) -> Option<&'a str> {
        let mut depth = 0_i32;
        for token in (0..index).rev() {
            match self.word(token) {
                ")" => depth += 1,
                "(" if depth == 0 => return None,
                "(" => depth -= 1,
                word @ ("select" | "from" | "where" | "set" | "values" | "on" | "having" | "limit" | "offset"
                | "by" | "returning" | "using" | "when")
                    if depth == 0 =>
                {
                    return Some(word);
                }
                _ => {}
            }
        }
        None
    }

    fn find_placeholders(&self) -> Vec<Placeholder> {
        let mut found = Vec::new();
        for (token, entry) in self.tokens.iter().enumerate() {
            let index = match entry.kind {
                TokenKind::Parameter(index) => index,
                TokenKind::Constant(ordinal) => self.parameters + ordinal,
                _ => continue,
            };
            found.push(self.placeholder_at(index, token));
        }
        found
    }

    fn placeholder_at(&self, index: usize, token: usize) -> Placeholder {
        let bare = |context| Placeholder { index, token, context, column: None, from_token: token, to_token: token };
        let before = token.wrapping_sub(1);
        match self.word(before) {
            "limit" | "first" | "next" => return bare(Context::Limit),
            "offset" => return bare(Context::Offset),
            _ => {}
        }
        if self.clause_before(token) == Some("set") {
            return bare(Context::Assign);
        }
        if let Some(list) = self.list_around(index, token) {
            return list;
        }
        let context = match self.word(before) {
            "=" => Context::Equal,
            "<" | ">" | "<=" | ">=" | "<>" | "like" | "ilike" | "between" | "~" => Context::Compare,
            "and" if self.word(before.wrapping_sub(2)) == "between" => Context::Compare,
            _ if self.word(self.skip_cast(token + 1)) == "=" => {
                let column = self.column_from(self.skip_cast(token + 1) + 1);
                return Placeholder { column, ..bare(Context::Equal) };
            }
            _ => return bare(Context::Other),
        };
        let column = self.column_before(before);
        Placeholder { column, from_token: before, ..bare(context) }
    }

    /// `column in ($1, …)`, `column = any($1)`, and the rows of VALUES.
    fn list_around(&self, index: usize, token: usize) -> Option<Placeholder> {
        let mut open = token.checked_sub(1)?;
        while self.word(open) == ","
            || matches!(self.tokens.get(open)?.kind, TokenKind::Parameter(_) | TokenKind::Constant(_))
        {
            open = open.checked_sub(1)?;
        }
        if self.word(open) != "(" {
            return None;
        }
        let ahead = open.checked_sub(1)?;
        let mut close = token;
        while close < self.tokens.len() && self.word(close) != ")" {
            close += 1;
        }
        let (context, column, from_token) = match self.word(ahead) {
            "in" => (Context::Equal, self.column_before(ahead), ahead),
            "any" if self.word(ahead.wrapping_sub(1)) == "=" => {
                (Context::Equal, self.column_before(ahead - 1), ahead - 1)
            }
            "values" | "," => {
                return Some(Placeholder {
                    index,
                    token,
                    context: Context::Assign,
                    column: None,
                    from_token: token,
                    to_token: token,
                });
            }
            // `(created_at, id) < ($1, $2)`
            "<" | ">" | "<=" | ">=" => {
                let (context, column) = (Context::Compare, None);
                return Some(Placeholder { index, token, context, column, from_token: token, to_token: token });
            }
            _ => return None,
        };
        Some(Placeholder { index, token, context, column, from_token, to_token: close })
    }

    /// The name that ends right before `token`, past a cast or inside a function's parentheses.
    fn column_before(&self, token: usize) -> Option<Range<usize>> {
        let mut last = token.checked_sub(1)?;
        if self.word(last.checked_sub(1).unwrap_or(last)) == "::" {
            last = last.checked_sub(2)?;
        }
        while self.word(last) == ")" {
            last = last.checked_sub(1)?;
        }
        if self.word(last) == "not" {
            last = last.checked_sub(1)?;
        }
        self.is_name(last).then_some(())?;
        let mut first = last;
        while first >= 2 && self.word(first - 1) == "." && self.is_name(first - 2) {
            first -= 2;
        }
        Some(self.tokens.get(first)?.span.start..self.tokens.get(last)?.span.end)
    }

    /// The name that begins at `token`.
    fn column_from(&self, token: usize) -> Option<Range<usize>> {
        let (_, after) = self.name_at(token)?;
        (self.word(after) != "(").then_some(())?;
        Some(self.tokens.get(token)?.span.start..self.tokens.get(after.checked_sub(1)?)?.span.end)
    }

    /// The first token after `:: type` if there is one at `token`.
    fn skip_cast(&self, token: usize) -> usize {
        if self.word(token) == "::" { token + 2 } else { token }
    }

    fn is_name(&self, token: usize) -> bool {
        self.tokens.get(token).is_some_and(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted))
    }
}

/// Which values of a statement say how far into a result and how much of it: those behind LIMIT and OFFSET.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// `$1` as 0, and constants behind the last `$n`.
    places: Box<[usize]>,
    parameters: usize,
    /// How many constants the text shows; `None`: it shows fewer than there are.
    constants: Option<usize>,
}

impl Positions {
    /// Of a normalised text.
    pub fn of(text: &str) -> Self {
        let text = Text::new(text);
        let says = |placeholder: &&Placeholder| matches!(placeholder.context, Context::Limit | Context::Offset);
        let constants = text.tokens.iter().filter(|token| matches!(token.kind, TokenKind::Constant(_))).count();
        Self {
            places: text.placeholders.iter().filter(says).map(|placeholder| placeholder.index).collect(),
            parameters: text.parameters,
            // A list that is shown as one; the end of a text that is not shown.
            constants: Some(constants).filter(|_| !text.text.contains("...") && !text.text.ends_with(CUT)),
        }
    }

    /// Whether the value at `place` of an execution with so many bound parameters, and so many constants behind them, is
    /// one of these. Where the text does not show as many constants as there are it cannot be told which is which: an
    /// operator of jsonb is a `?` too, and a query that is not prepared may hold a `$n` without a value.
    pub fn hold(&self, place: usize, parameters: usize, constants: usize) -> bool {
        let told = match place < parameters {
            true => place < self.parameters,
            false => self.parameters == parameters && self.constants == Some(constants),
        };
        told && self.places.contains(&place)
    }
}

/// Whether a normalised text has several rows of VALUES, and whether it unnests arrays. Takes time in proportion to the
/// text: every new text comes here on its way to the server.
pub(super) fn batch_marks(text: &str) -> (bool, bool) {
    let tokens = tokens(text).collect();
    let text = Text { text, tokens, tables: Vec::new(), placeholders: Vec::new(), parameters: 0 };
    let rows = text.top_level("values").is_some_and(|values| {
        let (mut depth, mut rows) = (0_i32, 0);
        for token in values + 1..text.tokens.len() {
            match text.word(token) {
                "(" => depth += 1,
                ")" if depth == 1 => (depth, rows) = (0, rows + 1),
                ")" => depth -= 1,
                "," => {}
                _ if depth == 0 => break,
                _ => {}
            }
        }
        rows > 1
    });
    let unnests = (0..text.tokens.len()).any(|token| text.word(token) == "unnest" && text.word(token + 1) == "(");
    (rows, unnests)
}

/// A name without its quotes.
pub(super) fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Cuts a normalised text into tokens.
fn tokens(text: &str) -> impl Iterator<Item = Token> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let run = move |mut index: usize, member: fn(u8) -> bool| {
        while index < bytes.len() && member(at(index)) {
            index += 1;
        }
        index
    };
    let (mut start, mut constants) = (0, 0);
    std::iter::from_fn(move || {
        start = run(start, |byte| byte.is_ascii_whitespace());
        if start == bytes.len() {
            return None;
        }
        let (kind, end) = match at(start) {
            b'"' => (TokenKind::Quoted, quoted_end(bytes, start)),
            b'$' if at(start + 1).is_ascii_digit() => {
                let end = run(start + 1, |byte| byte.is_ascii_digit());
                let number: usize = text.get(start + 1..end).and_then(|digits| digits.parse().ok()).unwrap_or(1);
                (TokenKind::Parameter(number.saturating_sub(1)), end)
            }
            b'?' => {
                constants += 1;
                (TokenKind::Constant(constants - 1), start + 1)
            }
            b'(' | b')' | b'[' | b']' | b',' | b'.' | b';' => (TokenKind::Mark, start + 1),
            byte if is_word(byte) => (TokenKind::Word, run(start, is_word)),
            _ => (TokenKind::Operator, run(start + 1, |byte| b"=<>:|&~!@#%^*/+-".contains(&byte)).max(start + 1)),
        };
        let span = start..end;
        start = end;
        Some(Token { kind, span })
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The end of a quoted name, in which two quotes are one.
fn quoted_end(bytes: &[u8], start: usize) -> usize {
    let mut index = start + 1;
    while let Some(byte) = bytes.get(index) {
        index += 1;
        if *byte == b'"' {
            if bytes.get(index) != Some(&b'"') {
                return index;
            }
            index += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
