//! Tokens that are rare, or that only reading on tells the end of.

use super::lead::{Lead, is_operator, lead_of};
use super::quote;
use super::{Kind, Nature, Step, Token, Word, swar, symbol};

/// The token that stands at `start`, if it is one and not whitespace or a comment, and where it ends. A quote or a comment
/// without an end reaches beyond the text.
#[inline(never)]
pub(super) fn odd(sql: &[u8], start: usize, standard_strings: bool) -> (Option<Token>, usize) {
    let rest = sql.get(start..).unwrap_or_default();
    let (kind, length) = look(rest, standard_strings);
    let end = length.map_or(usize::MAX, |length| start + length);
    let token = kind.map(|kind| token_of(sql, kind, start, end.min(sql.len())));
    (token, end)
}

fn token_of(sql: &[u8], kind: Kind, start: usize, end: usize) -> Token {
    let text = sql.get(start..end).unwrap_or_default();
    let nature = |step| Nature::new(kind, Word::None, step);
    let (key, nature) = match kind {
        Kind::Word => {
            let begin = swar::word_key(text.get(..8).unwrap_or(text));
            let key = swar::word_key(text);
            (key, Word::of_long(key, begin, text).copied().unwrap_or(nature(Step::Plain)))
        }
        Kind::Symbol => (symbol_key(text), nature(Step::Plain)),
        Kind::Parameter => (0, nature(Step::Parameter)),
        Kind::Quoted => (0, nature(Step::Quoted)),
        Kind::Number | Kind::String | Kind::Bits => (0, nature(Step::Constant)),
    };
    Token { key, start: start as u32, end: end as u32, nature }
}

/// `!=` is turned into `<>` by PostgreSQL before anybody sees it.
fn symbol_key(text: &[u8]) -> u64 {
    if text == b"!=" { symbol("<>") } else { swar::key(text) }
}

/// What `rest` begins with, and its length if it has an end; no kind for whitespace and comments.
fn look(rest: &[u8], standard_strings: bool) -> (Option<Kind>, Option<usize>) {
    let (first, next) = (rest.first().copied().unwrap_or_default(), rest.get(1).copied());
    let (kind, length) = match lead_of(first) {
        Lead::Minus if next == Some(b'-') => return (None, Some(quote::line_end(rest, 0))),
        Lead::Operator if first == b'/' && next == Some(b'*') => return (None, quote::block_end(rest)),
        Lead::Quote => (Kind::String, quote::string_end(rest, !standard_strings)),
        Lead::DoubleQuote => (Kind::Quoted, quote::closing(rest, b'"', false)),
        Lead::Letter => prefixed(rest),
        Lead::Digit => (Kind::Number, Some(number_length(rest))),
        Lead::Dot if next.is_some_and(|next| next.is_ascii_digit()) => (Kind::Number, Some(quote::number_length(rest))),
        Lead::Dot => (Kind::Symbol, Some(1 + usize::from(next == Some(b'.')))),
        Lead::Colon => (Kind::Symbol, Some(1 + usize::from(matches!(next, Some(b':' | b'='))))),
        Lead::Dollar => dollar(rest, next),
        Lead::Minus | Lead::Operator => (Kind::Symbol, Some(long_operator(rest))),
        _ => (Kind::Symbol, Some(1)),
    };
    (Some(kind), length)
}

/// A string or name whose prefix is a letter: `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `U&"…"`; a word otherwise.
fn prefixed(rest: &[u8]) -> (Kind, Option<usize>) {
    let behind = |prefix: usize| rest.get(prefix..).unwrap_or_default();
    let string = |prefix: usize, escapes| quote::string_end(behind(prefix), escapes).map(|length| prefix + length);
    match rest {
        [b'e' | b'E', b'\'', ..] => (Kind::String, string(1, true)),
        [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Kind::Bits, string(1, false)),
        [b'n' | b'N', b'\'', ..] => (Kind::String, string(1, false)),
        [b'u' | b'U', b'&', b'\'', ..] => (Kind::String, string(2, false)),
        [b'u' | b'U', b'&', b'"', ..] => {
            (Kind::Quoted, quote::closing(behind(2), b'"', false).map(|length| 2 + length))
        }
        _ => {
            let inside = |byte: &&u8| matches!(lead_of(**byte), Lead::Letter | Lead::Digit | Lead::Dollar);
            (Kind::Word, Some(rest.iter().take_while(inside).count()))
        }
    }
}

fn number_length(rest: &[u8]) -> usize {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits).map_or(Lead::Space, |next| lead_of(*next)) {
        Lead::Letter | Lead::Dot => quote::number_length(rest),
        _ => digits,
    }
}

fn dollar(rest: &[u8], next: Option<u8>) -> (Kind, Option<usize>) {
    if next.is_some_and(|next| next.is_ascii_digit()) {
        let digits = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        return (Kind::Parameter, Some(1 + digits));
    }
    match quote::dollar_end(rest) {
        quote::End::NotOne => (Kind::Symbol, Some(1)),
        quote::End::At(length) => (Kind::String, Some(length)),
        quote::End::Missing => (Kind::String, None),
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
