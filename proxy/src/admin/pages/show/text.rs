//! Names and texts of peers, made safe to look at. maud escapes what HTML would take for markup; what is left are signs
//! that cannot be seen, or that turn round what stands beside them.

use std::borrow::Cow;

use maud::{Markup, html};

/// What is shown of a text at most, in bytes: a statement's text may be long, and nobody reads more on a page.
pub(in super::super) const LONGEST: usize = 16 * 1024;

/// Signs that no reader can see and that change how a text reads: controls but line break and tab, and the marks that change
/// the direction of writing.
fn is_hidden(letter: char) -> bool {
    (letter.is_control() && letter != '\n' && letter != '\t')
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with a visible sign in place of each that cannot be seen.
pub(in super::super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let shown = |letter: char| match letter {
        // Pictures of the C0 controls stand in their order.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + letter as u32).unwrap_or('\u{fffd}'),
        _ => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(|letter| if is_hidden(letter) { shown(letter) } else { letter }).collect())
}

/// The beginning of a text, of at most so many bytes, and whether that is not all of it.
pub(in super::super) fn beginning(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (text.get(..end).unwrap_or_default(), true)
}

/// A name that a peer has chosen: apart from what stands beside it, whichever way it is written.
pub(in super::super) fn name(text: &str) -> Markup {
    let (shown, more) = beginning(text, 200);
    html! { bdi { (visible(shown)) @if more { "…" } } }
}

/// A name, or `–` where there is none.
pub(in super::super) fn name_or_none(text: &str) -> Markup {
    if text.is_empty() { none() } else { name(text) }
}

/// Stands where nothing is known.
pub(in super::super) fn none() -> Markup {
    html! { span.none { "–" } }
}

/// A text as a part of a path or a query, every byte that could mean something there encoded.
pub(in super::super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// Longest part of an address that is linked to, in bytes before it is encoded: a request's head has its bounds.
const LONGEST_SEGMENT: usize = 1_024;

/// A text as one segment of a path. A browser takes `.` and `..` out of a path, encoded or not.
pub(in crate::admin) fn segment(text: &str) -> Option<String> {
    let plain = !matches!(text, "" | "." | "..") && text.len() <= LONGEST_SEGMENT;
    plain.then(|| encoded(text))
}

/// A word of the API for a reader: `n_plus_one` is `n plus one`.
pub(in super::super) fn words(text: &str) -> String {
    visible(text).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_made_visible() {
        assert_eq!(visible("plain\ntext"), "plain\ntext");
        assert_eq!(visible("a\0b\u{1b}[2J"), "a␀b␛[2J");
        assert_eq!(visible("acme\u{202e}txt.exe\u{7f}"), "acme\u{fffd}txt.exe\u{fffd}");
        assert_eq!(name("<script>\"'&").into_string(), "<bdi>&lt;script&gt;&quot;'&amp;</bdi>");
        assert!(name(&"x".repeat(1 << 20)).into_string().len() < 300);
    }

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(beginning("äöü", 3), ("ä", true));
        assert_eq!(beginning("äöü", 6), ("äöü", false));
        assert_eq!(beginning("ä", 0), ("", true));
    }

    #[test]
    fn a_part_of_an_address_stays_one_part() {
        assert_eq!(encoded("a b/c?d&e=f#g%"), "a%20b%2Fc%3Fd%26e%3Df%23g%25");
        assert_eq!(encoded("ö\"<"), "%C3%B6%22%3C");
        assert_eq!((segment(".."), segment(""), segment("a/b")), (None, None, Some("a%2Fb".to_owned())));
        assert_eq!(segment(&"x".repeat(2_000)), None);
    }
}
