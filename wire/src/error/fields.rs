//! Reading a peer's ErrorResponse and NoticeResponse.

use std::borrow::Cow;
use std::fmt;

use super::Sqlstate;

/// A field of an ErrorResponse or a NoticeResponse, by its code in the protocol ("Error and Notice Message Fields").
///
/// These are not message types; they are written here and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Field {
    /// Severity, possibly translated.
    Severity = b'S',
    /// Severity, never translated (since 9.6).
    SeverityPlain = b'V',
    /// SQLSTATE.
    Code = b'C',
    /// The message, one line.
    Message = b'M',
    /// More about the problem.
    Detail = b'D',
    /// What to do about it.
    Hint = b'H',
    /// Where in the statement, in characters from 1.
    Position = b'P',
    /// Where in the statement that the server made up itself.
    InternalPosition = b'p',
    /// The text of that statement.
    InternalQuery = b'q',
    /// The call stack of functions.
    Where = b'W',
    /// Schema.
    Schema = b's',
    /// Table.
    Table = b't',
    /// Column.
    Column = b'c',
    /// Data type.
    DataType = b'd',
    /// Constraint.
    Constraint = b'n',
    /// The server's source file.
    File = b'F',
    /// Its line.
    Line = b'L',
    /// Its routine.
    Routine = b'R',
}

/// A borrowed view of the body of an ErrorResponse or a NoticeResponse.
///
/// Tolerant, because servers, poolers and look-alikes disagree: unknown fields are passed over, any field may be
/// missing, the final NUL too, and nothing needs to be UTF-8. It never fails and never allocates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Views the body of such a message: what stands behind its length.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// The fields in the order they were sent: code, and text without its NUL.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (&code, after) = rest.split_first()?;
            if code == 0 {
                return None;
            }
            let end = after.iter().position(|&byte| byte == 0).unwrap_or(after.len());
            let (value, tail) = after.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            Some((code, value))
        })
    }

    /// The first such field.
    pub fn field(&self, field: Field) -> Option<&'a [u8]> {
        self.iter().find(|(code, _)| *code == field as u8).map(|(_, value)| value)
    }

    /// The untranslated severity, or the translated one, or `ERROR`.
    pub fn severity(&self) -> &'a [u8] {
        self.field(Field::SeverityPlain).or_else(|| self.field(Field::Severity)).unwrap_or(b"ERROR")
    }

    /// The SQLSTATE; [`Sqlstate::INTERNAL_ERROR`] where there is none or it is not one.
    pub fn sqlstate(&self) -> Sqlstate {
        self.field(Field::Code).and_then(Sqlstate::parse).unwrap_or(Sqlstate::INTERNAL_ERROR)
    }

    /// The message as text for people: bytes that are not UTF-8 are replaced, an absent one is said to be.
    pub fn message(&self) -> Cow<'a, str> {
        self.field(Field::Message).map_or(Cow::Borrowed("no message"), String::from_utf8_lossy)
    }

    /// The detail as text for people.
    pub fn detail(&self) -> Option<Cow<'a, str>> {
        self.field(Field::Detail).map(String::from_utf8_lossy)
    }

    /// The hint as text for people.
    pub fn hint(&self) -> Option<Cow<'a, str>> {
        self.field(Field::Hint).map(String::from_utf8_lossy)
    }

    /// Where in the statement, in characters from 1.
    pub fn position(&self) -> Option<u32> {
        std::str::from_utf8(self.field(Field::Position)?).ok()?.parse().ok()
    }

    /// The body that is viewed.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

impl fmt::Debug for ErrorFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Message and code only: detail and internal query may quote a tenant's data.
        f.debug_struct("ErrorFields").field("sqlstate", &self.sqlstate()).field("message", &self.message()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_a_servers_error() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0P15\0Wline 1\0Fparse.c\0L1\0Rf\0\0";
        let fields = ErrorFields::new(body);
        assert_eq!(fields.severity(), b"ERROR");
        assert_eq!(fields.sqlstate().as_str(), "42P01");
        assert_eq!(fields.message(), "relation \"x\" does not exist");
        assert_eq!(fields.position(), Some(15));
        assert_eq!(fields.field(Field::Where), Some(&b"line 1"[..]));
        assert_eq!(fields.detail(), None);
        assert_eq!(fields.iter().count(), 9);
    }

    #[test]
    fn an_error_without_sqlstate_or_end_is_still_read() {
        for (body, message) in [
            (&b""[..], "no message"),
            (b"\0", "no message"),
            (b"S", "no message"),
            (b"MHello", "Hello"),
            (b"MHello\0", "Hello"),
            (b"M\xff\0C12\0", "\u{fffd}"),
        ] {
            let fields = ErrorFields::new(body);
            assert_eq!(fields.sqlstate(), Sqlstate::INTERNAL_ERROR, "{body:?}");
            assert_eq!(fields.severity(), if body == b"S" { &b""[..] } else { b"ERROR" });
            assert_eq!(fields.message(), message);
            assert!(!format!("{fields:?}").is_empty());
        }
    }
}
