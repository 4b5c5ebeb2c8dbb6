//! Lines for people, in which a peer's text stays one text.
//!
//! Names of users and databases, and what servers and clients say, are written as they come. Whoever chooses them must not be
//! able to end a line and begin another one, or tell the reader's terminal what to do. JSON escapes by itself.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// Fields as they are written by default, but for what is more than text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Escaped;

impl<'writer> FormatFields<'writer> for Escaped {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct Visitor<'writer>(DefaultVisitor<'writer>);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A message is written by us, and may have several lines.
        self.0.record_debug(field, &Shown { value, lines: field.name() == MESSAGE });
    }
}

/// The field that holds an event's own words.
const MESSAGE: &str = "message";

struct Shown<'a> {
    value: &'a dyn fmt::Debug,
    lines: bool,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { inner: f, lines: self.lines }, "{:?}", self.value)
    }
}

struct Escaping<'a, 'f> {
    inner: &'a mut fmt::Formatter<'f>,
    lines: bool,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match letter {
            '\n' if self.lines => self.inner.write_char(letter),
            _ if is_more_than_text(letter) => write!(self.inner, "{}", letter.escape_default()),
            _ => self.inner.write_char(letter),
        })
    }
}

/// Controls, ends of lines, and marks that change the direction of writing.
fn is_more_than_text(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::testing::Lines;
    use crate::log::{Style, for_people};

    /// What is written of `logs`.
    fn written(colours: bool, journal: bool, logs: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let style = Arc::<Style>::default();
        style.journal.store(journal, Ordering::Relaxed);
        let layer = for_people(&style, colours, journal, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), logs);
        String::from_utf8(lines.written()).unwrap()
    }

    #[test]
    fn a_peers_text_neither_ends_a_line_nor_reaches_the_terminal() {
        let user = "x\n2026-01-01T00:00:00Z ERROR pgweir: forged\r\u{1b}[2J\u{9b}31m\u{7}\u{202e}\u{2028}é";
        for colours in [false, true] {
            let text = written(colours, false, || {
                let why = std::io::Error::other(user);
                tracing::warn!(target: "a", user = %user, database = user, %why, ?why, error = &why as &dyn std::error::Error, "no");
            });
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(
                text.ends_with('\n') && text.contains("\\n2026-01-01T00:00:00Z ERROR") && text.contains('é'),
                "{text}"
            );
            let plain = text.trim_end().replace("\u{1b}[0m", "");
            let odd = plain.split("\u{1b}[").flat_map(str::chars).filter(|letter| is_more_than_text(*letter)).count();
            assert_eq!(odd, 0, "{text:?}");
            assert!(colours || !text.contains('\u{1b}'), "{text:?}");
            assert!(!text.contains("\u{1b}[2J"), "{text:?}");
        }
    }

    #[test]
    fn plain_fields_look_as_they_always_did() {
        let text = written(false, true, || {
            tracing::info!(target: "a", number = 7, user = %"anna b", name = "x\\y", "first\nsecond");
        });
        assert_eq!(text, "<6> INFO a: first\n<6>second number=7 user=anna b name=\"x\\\\y\"\n");
    }
}
