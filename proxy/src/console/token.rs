//! A command's text, cut into words.

use std::borrow::Cow;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// As it was written.
    Word(&'a str),
    /// What stood between double quotes.
    Quoted(Cow<'a, str>),
    /// What stood between single quotes.
    Text(Cow<'a, str>),
    /// A character that is no part of a word.
    Symbol(char),
}

impl<'a> Token<'a> {
    /// A word of the language: not one that begins with quotes.
    pub(super) fn bare(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Quoted(_) | Self::Text(_) | Self::Symbol(_) => None,
        }
    }

    /// A name or a value, quoted or not.
    pub(super) fn name(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Word(word) => Some(Cow::Borrowed(word)),
            Self::Quoted(text) | Self::Text(text) => Some(text.clone()),
            Self::Symbol(_) => None,
        }
    }
}

/// The parts of a text; comments and blanks are none.
///
/// # Errors
/// What is not closed.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let behind = rest.get(first.len_utf8()..).unwrap_or_default();
        rest = match first {
            '"' => {
                let (name, behind) = quoted(behind, '"').ok_or("A name in double quotes is not closed.")?;
                found.push(Token::Quoted(name));
                behind
            }
            '\'' => {
                let (value, behind) = quoted(behind, '\'').ok_or("A text in single quotes is not closed.")?;
                found.push(Token::Text(value));
                behind
            }
            '-' if behind.starts_with('-') => behind.split_once('\n').map_or("", |(_, behind)| behind),
            '/' if behind.starts_with('*') => behind.split_once("*/").ok_or("A comment is not closed.")?.1,
            first if is_symbol(first) => {
                found.push(Token::Symbol(first));
                behind
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || is_symbol(c) || c == '"' || c == '\'');
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                found.push(Token::Word(word));
                behind
            }
        }
        .trim_start();
    }
    Ok(found)
}

fn is_symbol(c: char) -> bool {
    matches!(c, ';' | '=' | '(' | ')' | ',' | '.' | '*')
}

/// What stands before the next `quote`, which stands for itself where it is doubled; and the rest.
fn quoted(text: &str, quote: char) -> Option<(Cow<'_, str>, &str)> {
    let mut places = text.match_indices(quote);
    while let Some((at, _)) = places.next() {
        let behind = text.get(at + 1..)?;
        if behind.starts_with(quote) {
            places.next();
            continue;
        }
        let inner = text.get(..at)?;
        let double: String = [quote, quote].iter().collect();
        let inner = match inner.contains(&double) {
            true => Cow::Owned(inner.replace(&double, &quote.to_string())),
            false => Cow::Borrowed(inner),
        };
        return Some((inner, behind));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_symbols() {
        use Token::{Quoted, Symbol, Text, Word};
        let found = tokens("set a.b = 'it''s' -- so\n \"x\"\"y\";/* z */ _9-ü").unwrap();
        let expected = [
            Word("set"),
            Word("a"),
            Symbol('.'),
            Word("b"),
            Symbol('='),
            Text("it's".into()),
            Quoted("x\"y".into()),
            Symbol(';'),
            Word("_9-ü"),
        ];
        assert_eq!(found, expected);
        assert_eq!(tokens("''\"\"").unwrap(), [Text("".into()), Quoted("".into())]);
        for open in ["'a", "\"a", "/* a", "'a''", "\"\"\""] {
            assert!(tokens(open).is_err(), "{open}");
        }
    }

    #[test]
    fn any_text_is_cut_without_a_panic() {
        let pieces = ["'", "\"", "--", "/*", "*/", "ü", " ", ";", "a", "\n", "=", "\u{1F600}", ""];
        let mut state = 7u64;
        for _ in 0..20_000 {
            let text: String = (0..8)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    pieces[(state >> 33) as usize % pieces.len()]
                })
                .collect();
            let _ = tokens(&text);
            let _ = super::super::command::commands(&text);
        }
    }
}
