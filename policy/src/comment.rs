//! Comments at the ends of a text, where applications put their tags, and the text without them.

use std::borrow::Cow;

use crate::lexer::quote::{block_end, line_end};
use crate::lexer::swar::has_twice;
use crate::lexer::{self, Kind, Token, symbol};
use crate::statement::MAX_ANALYSED;

/// Cuts comments, whitespace and semicolons off both ends of `sql`.
///
/// What remains is what a memo should be asked for: a text with a trace id in a comment never comes twice. Costs a few
/// nanoseconds when there is nothing to cut. Whether a `/*` near the end begins a comment or stands in a string is only
/// known by reading from the beginning: that is done when the text ends like a comment, and where the answer would
/// depend on a setting (a backslash in a string) the end stays as it is.
#[inline]
pub fn strip_ends(sql: &[u8]) -> (&[u8], Comments<'_>) {
    Stripper::default().strip_ends(sql)
}

/// Room for reading texts from the beginning: whoever strips many keeps one, and allocates nothing for those that end in a
/// comment.
#[derive(Debug, Default)]
pub struct Stripper {
    tokens: Vec<Token>,
}

/// Tokens that room is kept for: those of texts of a few KiB.
const KEPT: usize = 4_096;

impl Stripper {
    /// [`strip_ends`].
    #[inline]
    pub fn strip_ends<'a>(&mut self, sql: &'a [u8]) -> (&'a [u8], Comments<'a>) {
        cut_ends(sql, &mut self.tokens)
    }
}

#[inline]
fn cut_ends<'a>(sql: &'a [u8], tokens: &mut Vec<Token>) -> (&'a [u8], Comments<'a>) {
    let start = head_length(sql);
    let rest = sql.get(start..).unwrap_or_default();
    let blank = rest.iter().rev().take_while(|byte| is_blank(**byte)).count();
    let trimmed = rest.get(..rest.len() - blank).unwrap_or_default();
    let body = if may_end_in_a_comment(trimmed) { without_tail(trimmed, tokens) } else { trimmed };
    let tail = rest.get(body.len()..).unwrap_or_default();
    (body, Comments { head: sql.get(..start).unwrap_or_default(), tail })
}

/// Whether to read `text` from the beginning: it ends like a comment, or two dashes in its last line may begin one.
#[inline]
fn may_end_in_a_comment(text: &[u8]) -> bool {
    // A longer one is not read, so that its end stays as it is.
    text.len() <= MAX_ANALYSED && (text.ends_with(b"*/") || (has_twice(text, b'-') && has_twice(last_line(text), b'-')))
}

fn last_line(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
    end.and_then(|end| text.get(end..)).unwrap_or(text)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | b';')
}

/// How far whitespace, semicolons and comments reach from the beginning.
#[inline]
fn head_length(sql: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += sql.get(at..).unwrap_or_default().iter().take_while(|byte| is_blank(**byte)).count();
        let rest = sql.get(at..).unwrap_or_default();
        match rest {
            [b'/', b'*', ..] => match block_end(rest) {
                Some(length) => at += length,
                None => return at,
            },
            [b'-', b'-', ..] => at = line_end(sql, at),
            _ => return at,
        }
    }
}

/// `text` up to its last token. `tokens`: room for them.
#[cold]
fn without_tail<'a>(text: &'a [u8], tokens: &mut Vec<Token>) -> &'a [u8] {
    let scan = lexer::scan(text, true, tokens);
    let body = up_to_the_last(text, tokens, scan.unterminated);
    if tokens.capacity() > KEPT {
        tokens.clear();
        tokens.shrink_to(KEPT);
    }
    body
}

fn up_to_the_last<'a>(text: &'a [u8], tokens: &[Token], unterminated: bool) -> &'a [u8] {
    let depends = |token: &Token| token.kind == Kind::String && token.of(text).contains(&b'\\');
    if unterminated || tokens.iter().any(depends) {
        return text;
    }
    let last = tokens.iter().rfind(|token| !token.is(symbol(";")));
    text.get(..last.map_or(0, |token| token.end as usize)).unwrap_or_default()
}

/// What was cut off the ends of a text: its comments, with the whitespace and semicolons around them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comments<'a> {
    head: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Comments<'a> {
    pub(crate) fn new(head: &'a [u8], tail: &'a [u8]) -> Self {
        Self { head, tail }
    }

    /// Bytes that stand in front of the statement.
    pub fn before(&self) -> usize {
        self.head.len()
    }

    /// Whether there is no comment at either end.
    pub fn is_empty(&self) -> bool {
        [self.head, self.tail].iter().all(|end| !end.contains(&b'/') && !end.contains(&b'-'))
    }

    /// The value of a tag such as `traceparent`, `route`, `controller`, `action`, `job` or `application`: of
    /// `/*key='value',…*/`, percent-decoded as sqlcommenter writes it, or of `/*key:value,…*/` as marginalia does.
    /// Keys are compared without regard to case; a tag behind the statement wins over one before it.
    pub fn tag(&self, key: &str) -> Option<Cow<'a, str>> {
        self.raw_tag(key).map(|tag| tag.decoded())
    }

    /// The same as it stands in the comment.
    pub fn raw_tag(&self, key: &str) -> Option<Tag<'a>> {
        self.tags().find(|tag| tag.key.eq_ignore_ascii_case(key.as_bytes()))
    }

    /// What the statement is sent for: the route, else the controller with its action, else the job, else the action alone. Of
    /// a controller and an action each is one of these.
    pub fn route(&self) -> Option<(Tag<'a>, Option<Tag<'a>>)> {
        let tag = |key: &str| self.raw_tag(key);
        if let Some(route) = tag("route") {
            return Some((route, None));
        }
        match (tag("controller"), tag("action")) {
            (Some(controller), action) => Some((controller, action)),
            (None, action) => tag("job").or(action).map(|tag| (tag, None)),
        }
    }

    /// What stands inside of each comment, those behind the statement first.
    pub fn insides(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut tags = self.tags();
        std::iter::from_fn(move || tags.next_comment())
    }

    /// All tags, those behind the statement first.
    pub fn tags(&self) -> Tags<'a> {
        Tags { ends: [self.head, self.tail], comment: b"" }
    }
}

/// What [`Comments::route`] has found, as it is shown: `posts#index` for an action of a controller.
pub fn route_name((tag, action): (Tag<'_>, Option<Tag<'_>>)) -> String {
    let mut name = tag.decoded().into_owned();
    if let Some(action) = action {
        name.push('#');
        name.push_str(&action.decoded());
    }
    name
}

/// One `key='value'` of a comment, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value without its quotes, still encoded.
    pub value: &'a [u8],
}

impl<'a> Tag<'a> {
    /// The value with `%XX` and `\'` resolved; bytes that are not UTF-8 are replaced.
    pub fn decoded(&self) -> Cow<'a, str> {
        if !self.value.iter().any(|byte| matches!(byte, b'%' | b'\\')) {
            return String::from_utf8_lossy(self.value);
        }
        let mut out = Vec::with_capacity(self.value.len());
        let mut at = 0;
        while let Some(byte) = self.value.get(at) {
            let hex = self.value.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
            match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
                (b'%', Some(decoded)) => {
                    out.push(decoded);
                    at += 2;
                }
                (b'\\', _) if self.value.get(at + 1) == Some(&b'\'') => {}
                _ => out.push(*byte),
            }
            at += 1;
        }
        Cow::Owned(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Iterates over the tags at both ends of a text. Nothing is decoded or copied.
#[derive(Clone, Debug)]
pub struct Tags<'a> {
    /// What is still to be looked at; the last one comes first.
    ends: [&'a [u8]; 2],
    /// The inside of the current comment.
    comment: &'a [u8],
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            if let Some(tag) = self.next_in_comment() {
                return Some(tag);
            }
            self.comment = self.next_comment()?;
        }
    }
}

impl<'a> Tags<'a> {
    fn next_comment(&mut self) -> Option<&'a [u8]> {
        for end in self.ends.iter_mut().rev() {
            while let Some(at) = end.iter().position(|byte| matches!(byte, b'/' | b'-')) {
                let rest = end.get(at..).unwrap_or_default();
                let (length, inside) = match rest {
                    [b'/', b'*', inner @ ..] => {
                        let length = block_end(rest).unwrap_or(rest.len());
                        (length, inner.get(..length.saturating_sub(4)).unwrap_or_default())
                    }
                    [b'-', b'-', inner @ ..] => {
                        let length = line_end(rest, 0);
                        (length, inner.get(..length.saturating_sub(2)).unwrap_or_default())
                    }
                    _ => (1, &[][..]),
                };
                *end = rest.get(length..).unwrap_or_default();
                if !inside.is_empty() {
                    return Some(inside);
                }
            }
        }
        None
    }

    fn next_in_comment(&mut self) -> Option<Tag<'a>> {
        loop {
            let comment = self.comment;
            let separator = comment.iter().position(|byte| matches!(byte, b'=' | b':'))?;
            let key = comment.get(..separator)?;
            let key = key.rsplit(|byte| *byte == b',').next().unwrap_or(key).trim_ascii();
            let value = comment.get(separator + 1..)?;
            let (value, length) = match value.split_first() {
                Some((b'\'', rest)) => {
                    let end = quoted_length(rest);
                    (rest.get(..end)?, end + 2)
                }
                _ => {
                    let end = value.iter().position(|byte| *byte == b',').unwrap_or(value.len());
                    (value.get(..end)?.trim_ascii(), end)
                }
            };
            self.comment = comment.get(separator + 1 + length..).unwrap_or_default();
            if !key.is_empty() && key.iter().all(|byte| byte.is_ascii_graphic()) {
                return Some(Tag { key, value });
            }
        }
    }
}

/// Up to the quote that no backslash precedes.
fn quoted_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\'' if !escaped => return at,
            _ => escaped = *byte == b'\\' && !escaped,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(sql: &str) -> &str {
        std::str::from_utf8(strip_ends(sql.as_bytes()).0).unwrap()
    }

    #[test]
    fn ends_are_cut_and_nothing_else() {
        for (sql, expected) in [
            ("select 1", "select 1"),
            ("  select 1 ;; \n", "select 1"),
            ("/* a */ -- b\n select 1 /* c */ -- d", "select 1"),
            ("select 1 /* /* nested */ */;", "select 1"),
            ("select 1 /*route='/x'*/; /*b*/", "select 1"),
            ("select /* in */ 1", "select /* in */ 1"),
            ("select 1; set a = 2 /*x*/", "select 1; set a = 2"),
            ("/* never ends", "/* never ends"),
            ("/* only */", ""),
            ("", ""),
        ] {
            assert_eq!(body(sql), expected, "{sql}");
        }
    }

    #[test]
    fn room_for_a_long_text_is_not_kept_and_for_a_usual_one_is() {
        let mut stripper = Stripper::default();
        let usual = b"select a from t where b = 1 /* route */";
        assert_eq!(stripper.strip_ends(usual).0, b"select a from t where b = 1");
        let room = stripper.tokens.as_ptr();
        assert_eq!(stripper.strip_ends(usual).0.len(), 27);
        assert_eq!(stripper.tokens.as_ptr(), room);
        assert!(stripper.tokens.capacity() > 0, "it is kept here");
        let long = "a,".repeat(100_000) + "a -- b";
        assert_eq!(stripper.strip_ends(long.as_bytes()).0.len(), 200_001);
        assert!(stripper.tokens.capacity() <= 2 * KEPT);
    }

    #[test]
    fn a_comment_that_begins_in_a_string_hides_nothing() {
        // Cutting from the last `/*` would hide the SET from whoever tracks the session.
        for sql in
            ["select '/*'; set role x --*/", "select '/* x', 1 -*/", "select $$ /* $$ */", "select '/*\\', 2 -- '*/"]
        {
            let kept = body(sql);
            assert!(kept.len() + 4 >= sql.len() || kept.ends_with('x'), "{sql} became {kept}");
        }
        assert_eq!(body("select '/*'; set role x --*/"), "select '/*'; set role x");
    }

    #[test]
    fn tags_of_both_conventions_are_read() {
        let sql = b"/*application:shop,controller:runs*/ select 1 \
            /*action='it\\'s%20me',route='%2Fpolls%201000',traceparent='00-5bd6-31-01'*/;";
        let (body, comments) = strip_ends(sql);
        assert_eq!(body, b"select 1");
        assert_eq!(comments.tag("route").as_deref(), Some("/polls 1000"));
        assert_eq!(comments.tag("action").as_deref(), Some("it's me"));
        assert_eq!(comments.tag("TraceParent").as_deref(), Some("00-5bd6-31-01"));
        assert_eq!(comments.tag("controller").as_deref(), Some("runs"));
        assert_eq!(comments.tag("job"), None);
        assert!(!comments.is_empty());
        assert!(strip_ends(b" select 1;").1.is_empty());
    }

    #[test]
    fn a_route_is_told_by_the_first_that_says_most() {
        for (comment, route) in [
            ("route='%2Fposts',controller='posts',action='index'", Some("/posts")),
            ("controller='posts',action='index'", Some("posts#index")),
            ("action:show,controller:posts", Some("posts#show")),
            ("controller='posts'", Some("posts")),
            ("job='Mailer',action='perform'", Some("Mailer")),
            ("action='perform'", Some("perform")),
            ("traceparent='00-5bd6-31-01'", None),
        ] {
            let sql = format!("select 1 /*{comment}*/");
            let found = strip_ends(sql.as_bytes()).1.route().map(route_name);
            assert_eq!(found.as_deref(), route, "{comment}");
        }
    }

    #[test]
    fn broken_tags_are_no_danger() {
        for sql in ["/*a='*/ select 1", "/*=*/ select 1", "/*,=,=:*/select 1", "/*a='%f'*/x", "/*a='%'*/x", "/*''''*/x"]
        {
            let (_, comments) = strip_ends(sql.as_bytes());
            comments.tags().for_each(|tag| drop(tag.decoded()));
        }
    }
}
