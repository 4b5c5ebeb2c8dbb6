//! What *we* say: builders that append whole messages to a buffer.
//!
//! [`backend`] is what a server says (to our clients), [`frontend`] what a client says (to upstreams). Every builder
//! either appends one whole message or leaves the buffer as it was. What is refused: a NUL byte inside a text that
//! the protocol ends with one, and more than fits a message. Error and notice texts are our own words, so they are
//! cleaned and cut instead: an answer must never fail.

pub mod backend;
pub mod frontend;

use crate::error::{Error, ErrorFields, Fault, Field, Result, Sqlstate};
use crate::frame::MAX_BODY;

/// Longest field of an error or notice of ours, in bytes; the rest is cut off.
pub const MAX_REPORT_FIELD: usize = 4_096;

/// How bad it is, for the fields S and V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The request failed; the connection goes on.
    Error,
    /// The connection ends with this.
    Fatal,
    /// Something to look into.
    Warning,
    /// Worth telling.
    Notice,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or a notice of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the connection survives it.
    pub severity: Severity,
    /// What kind of error.
    pub sqlstate: Sqlstate,
    /// What happened, one line, lower case, no full stop, as PostgreSQL words its own.
    pub message: String,
    /// The facts: which limit, how long, whose.
    pub detail: Option<String>,
    /// What to change.
    pub hint: Option<String>,
    /// The server's function that says so, where we say what a server would say.
    pub routine: Option<&'static str>,
}

impl Report {
    /// A report with a message alone.
    pub fn new(severity: Severity, sqlstate: Sqlstate, message: impl Into<String>) -> Self {
        Self { severity, sqlstate, message: message.into(), detail: None, hint: None, routine: None }
    }

    /// The same with a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same in the name of a function of the server.
    #[must_use]
    pub fn routine(mut self, routine: &'static str) -> Self {
        self.routine = Some(routine);
        self
    }

    /// What a client is told of an error of this crate, which always ends its connection. Its own mistakes it is told
    /// in full; what is wrong behind us, or with us, is for the operator's log.
    pub fn of(error: &Error) -> Self {
        let report = |message: String| Self::new(Severity::Fatal, error.sqlstate(), message);
        match error.fault() {
            Fault::Client => report(error.to_string()),
            Fault::Server => report("cannot use the database server".into())
                .detail("The server did not follow the protocol. The proxy's log says how."),
            Fault::Us => report("the proxy cannot serve this login".into())
                .detail("Something is missing in the proxy's settings. Its log says what."),
        }
    }
}

/// Copies the body of an error response to `out` as a whole ErrorResponse in which some fields are changed: given a
/// text, the field is replaced, or added where it was missing; given `None`, it is left out. Fields that are not
/// named pass byte for byte, unknown ones too.
///
/// # Errors
/// [`Error::NulByte`] and [`Error::TooLarge`]; `out` is as it was.
pub fn rewrite_error(out: &mut Vec<u8>, body: &[u8], changes: &[(Field, Option<&[u8]>)]) -> Result<()> {
    let change = |code: u8| changes.iter().find(|(field, _)| *field as u8 == code).map(|(_, text)| *text);
    let fields = ErrorFields::new(body);
    message(out, crate::tag::Backend::ErrorResponse.byte(), "an error response", |out| {
        for (code, value) in fields.iter() {
            match change(code) {
                Some(None) => {}
                Some(Some(text)) => field(out, code, text)?,
                None => field(out, code, value)?,
            }
        }
        for (added, text) in changes {
            if let (None, Some(text)) = (fields.field(*added), text) {
                field(out, *added as u8, text)?;
            }
        }
        out.push(0);
        Ok(())
    })
}

fn field(out: &mut Vec<u8>, code: u8, text: &[u8]) -> Result<()> {
    out.push(code);
    c_string(out, text, "a field of an error")
}

/// Appends a typed message whose body `fill` writes; on an error `out` is as it was.
fn message(
    out: &mut Vec<u8>,
    tag: u8,
    what: &'static str,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.push(tag);
    let outcome = counted(out, MAX_BODY + 4, what, fill);
    if outcome.is_err() {
        out.truncate(start);
    }
    outcome
}

/// Appends four bytes of length (they count themselves) and what `fill` writes; on an error `out` is as it was.
fn counted(
    out: &mut Vec<u8>,
    limit: usize,
    what: &'static str,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let outcome = fill(out).and_then(|()| {
        let length = out.len() - start;
        if length > limit { Err(Error::TooLarge(what)) } else { i32_of(length, what) }
    });
    match (outcome, out.get_mut(start..start + 4)) {
        (Ok(length), Some(place)) => {
            place.copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        (outcome, _) => {
            out.truncate(start);
            outcome.and(Err(Error::TooLarge(what)))
        }
    }
}

/// Appends a text and its NUL.
fn c_string(out: &mut Vec<u8>, text: &[u8], what: &'static str) -> Result<()> {
    if text.contains(&0) {
        return Err(Error::NulByte(what));
    }
    out.extend_from_slice(text);
    out.push(0);
    Ok(())
}

/// Appends a value behind its 32-bit length; `None` is SQL NULL, length −1.
fn value(out: &mut Vec<u8>, value: Option<&[u8]>, what: &'static str) -> Result<()> {
    match value {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            // Checked here and not only at the end: a caller's huge value is refused before it is copied.
            if bytes.len() > MAX_BODY {
                return Err(Error::TooLarge(what));
            }
            out.extend_from_slice(&i32_of(bytes.len(), what)?.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// Appends a number of items as 16 bits.
fn count(out: &mut Vec<u8>, items: usize, what: &'static str) -> Result<()> {
    let items = i16::try_from(items).map_err(|_| Error::TooLarge(what))?;
    out.extend_from_slice(&items.to_be_bytes());
    Ok(())
}

fn i32_of(number: usize, what: &'static str) -> Result<i32> {
    i32::try_from(number).map_err(|_| Error::TooLarge(what))
}

#[cfg(test)]
mod tests;
