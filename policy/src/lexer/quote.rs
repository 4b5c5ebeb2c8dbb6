//! Where things end that have an end of their own: quotes, comments, numbers.
//!
//! Every function takes the text from the first byte of the thing and answers with its length. All are linear.

use super::swar;

/// Where a dollar-quoted string ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is none: a lone `$`.
    NotOne,
    /// After so many bytes.
    At(usize),
    /// Nowhere.
    Missing,
}

/// The length of a quoted thing whose first byte is the quote; a doubled quote stands for itself, and with `escapes`
/// a backslash takes the next byte with it.
pub(crate) fn closing(text: &[u8], quote: u8, escapes: bool) -> Option<usize> {
    let mut at = 1;
    loop {
        at = if escapes {
            let rest = text.get(at..)?;
            at + rest.iter().position(|byte| *byte == quote || *byte == b'\\')?
        } else {
            swar::find(text, at, quote)?
        };
        match (text.get(at), text.get(at + 1)) {
            (Some(b'\\'), _) if escapes => at += 2,
            (_, Some(next)) if *next == quote => at += 2,
            _ => return Some(at + 1),
        }
    }
}

/// The length of a string constant from its opening quote: the SQL standard continues one in the next quotes when
/// nothing but whitespace with a newline in it (and line comments) stands between.
pub(crate) fn string_end(text: &[u8], escapes: bool) -> Option<usize> {
    let mut end = closing(text, b'\'', escapes)?;
    while let Some(gap) = continuation(text.get(end..).unwrap_or_default()) {
        let open = end + gap;
        end = open + closing(text.get(open..).unwrap_or_default(), b'\'', escapes)?;
    }
    Some(end)
}

/// How far behind a closing quote the string goes on, if it does.
fn continuation(text: &[u8]) -> Option<usize> {
    let mut newline = false;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => newline = true,
            b' ' | b'\t' | 0x0b | 0x0c => {}
            b'-' if text.get(at + 1) == Some(&b'-') => at = line_end(text, at).saturating_sub(1).max(at),
            b'\'' if newline => return Some(at),
            _ => return None,
        }
        at += 1;
    }
}

/// Whether a string whose closing quote stands right before `end` goes on.
#[inline(never)]
pub(crate) fn goes_on(text: &[u8], end: usize) -> bool {
    continuation(text.get(end..).unwrap_or_default()).is_some()
}

/// The position of the newline that ends the line comment at `start`, or the end of the text.
pub(crate) fn line_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
}

/// The length of a comment from its `/*`; comments nest.
pub(crate) fn block_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        at += rest.iter().position(|byte| matches!(byte, b'/' | b'*'))?;
        match (text.get(at), text.get(at + 1)?) {
            (Some(b'/'), b'*') => (depth, at) = (depth + 1, at + 2),
            (Some(b'*'), b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// The end of a `$tag$…$tag$` string.
pub(crate) fn dollar_end(text: &[u8]) -> End {
    let Some(tag) = dollar_tag(text) else { return End::NotOne };
    let mut at = tag.len();
    // A `$` that does not begin the closing tag may begin it one byte later, so each is tried once: the tag has no
    // `$` inside, hence the work stays linear.
    while let Some(next) = text.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'$')) {
        at += next;
        if text.get(at..).is_some_and(|rest| rest.starts_with(tag)) {
            return End::At(at + tag.len());
        }
        at += 1;
    }
    End::Missing
}

/// `$tag$` at the beginning of `text`.
pub(crate) fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let inner = text.get(1..)?;
    let length = inner.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80))?;
    let digit_first = inner.first().is_some_and(u8::is_ascii_digit);
    (inner.get(length) == Some(&b'$') && !digit_first).then(|| text.get(..length + 2)).flatten()
}

/// The length of a number: digits with `_` between, a fraction, an exponent, or `0x`, `0o`, `0b`.
pub(crate) fn number_length(text: &[u8]) -> usize {
    if let [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', first, ..] = text
        && (first.is_ascii_hexdigit() || *first == b'_')
    {
        return 2 + run(text, 2, |byte| byte.is_ascii_hexdigit() || byte == b'_');
    }
    let digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    let mut at = run(text, 0, digit);
    // `1..10` in a loop's range is a number, two dots, a number.
    if text.get(at) == Some(&b'.') && text.get(at + 1) != Some(&b'.') {
        at += 1;
        at += run(text, at, digit);
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let digits = run(text, at + 1 + sign, |byte| byte.is_ascii_digit() || byte == b'_');
        if digits > 0 {
            at += 1 + sign + digits;
        }
    }
    at
}

fn run(text: &[u8], from: usize, inside: impl Fn(u8) -> bool) -> usize {
    text.get(from..).unwrap_or_default().iter().take_while(|byte| inside(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_quote() {
        for (text, escapes, end) in [
            ("'a' b", false, Some(3)),
            ("'a''b' c", false, Some(6)),
            (r"'a\' b", false, Some(4)),
            (r"'a\'b' c", true, Some(6)),
            (r"'a\\' c", true, Some(5)),
            ("'a'\n  'b' c", false, Some(9)),
            ("'a' -- x\n'b' c", false, Some(12)),
            ("'a'\n-- x\n'b' c", false, Some(12)),
            ("'a' 'b'", false, Some(3)),
            ("'a", false, None),
            ("'a'''", false, Some(5)),
            ("'a''", false, None),
            (r"'a\", true, None),
        ] {
            assert_eq!(string_end(text.as_bytes(), escapes), end, "{text}");
        }
    }

    #[test]
    fn comments_nest() {
        assert_eq!(block_end(b"/* a */ b"), Some(7));
        assert_eq!(block_end(b"/* /* a */ */ b"), Some(13));
        assert_eq!(block_end(b"/*/ a */"), Some(8));
        assert_eq!(block_end(b"/* /* a */"), None);
        assert_eq!(block_end(b"/*"), None);
    }

    #[test]
    fn dollar_quotes_end_at_their_own_tag() {
        assert_eq!(dollar_end(b"$$a$$b"), End::At(5));
        assert_eq!(dollar_end(b"$x$a$$b$x$c"), End::At(10));
        assert_eq!(dollar_end(b"$x$a$x$x$"), End::At(7));
        assert_eq!(dollar_end(b"$x$a"), End::Missing);
        assert_eq!(dollar_end(b"$ a"), End::NotOne);
        assert_eq!(dollar_end(b"$1$a$1$"), End::NotOne);
    }

    #[test]
    fn numbers_end_where_the_server_ends_them() {
        for (text, length) in [
            ("12,", 2),
            ("1.5e3)", 5),
            ("1..2", 1),
            ("0x1F ", 4),
            ("1_000", 5),
            (".5-", 2),
            ("1e", 1),
            ("1e+x", 1),
            ("7.", 2),
        ] {
            assert_eq!(number_length(text.as_bytes()), length, "{text}");
        }
    }
}
