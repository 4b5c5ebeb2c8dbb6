//! The messages of the console that have more in them than their type.

use wire::encode::{Report, Severity, backend as say};
use wire::error::Sqlstate;
use wire::frame;
use wire::tag::Frontend;

use super::command::error;
use super::table::Column;
use super::value::Row;

/// Longest message that is listened to. A command is a few words.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// One message, whole.
pub(super) struct Message {
    pub(super) tag: Frontend,
    pub(super) body: Vec<u8>,
}

/// Takes the next message from the front; `None`: it is not all there yet.
///
/// # Errors
/// The last words to who sends this.
pub(super) fn next(input: &mut Vec<u8>) -> Result<Option<Message>, Report> {
    let head = frame::head(input).map_err(|length| broken(length.to_string()))?;
    let Some(head) = head else { return Ok(None) };
    let Some(tag) = Frontend::from_byte(head.tag) else {
        return Err(broken(format!("invalid frontend message type {}", head.tag)));
    };
    if head.body > MAX_MESSAGE {
        return Err(broken("message is too long for the console")
            .detail(format!("It has {} bytes, and {MAX_MESSAGE} are listened to.", head.body)));
    }
    let Some(body) = input.get(frame::HEAD..head.total()) else { return Ok(None) };
    let message = Message { tag, body: body.to_vec() };
    input.drain(..head.total());
    Ok(Some(message))
}

/// What breaks the protocol ends the connection.
pub(super) fn broken(what: impl Into<String>) -> Report {
    Report::new(Severity::Fatal, Sqlstate::PROTOCOL_VIOLATION, what)
}

/// RowDescription, with each column's format; all text where there are none.
pub(super) fn describe(out: &mut Vec<u8>, columns: &[Column], binary: &[bool]) -> Result<(), Report> {
    if columns.is_empty() {
        say::no_data(out);
        return Ok(());
    }
    let is_binary = |at: usize| binary.get(at).copied().unwrap_or(false);
    let described: Vec<_> = columns.iter().enumerate().map(|(at, column)| column.described(is_binary(at))).collect();
    say::row_description(out, &described).map_err(unsayable)
}

/// DataRow.
pub(super) fn row(out: &mut Vec<u8>, columns: &[Column], binary: &[bool], row: &Row) -> Result<(), Report> {
    let values: Vec<Option<Vec<u8>>> = columns
        .iter()
        .zip(row)
        .enumerate()
        .map(|(at, (column, value))| value.encoded(column.kind, binary.get(at).copied().unwrap_or(false)))
        .collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
    say::data_row(out, &values).map_err(unsayable)
}

/// CommandComplete.
pub(super) fn complete(out: &mut Vec<u8>, tag: &str) -> Result<(), Report> {
    say::command_complete(out, tag).map_err(unsayable)
}

/// A row that is longer than a message can be.
fn unsayable(why: wire::Error) -> Report {
    error(b"54000", format!("the result cannot be sent: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body as u32 + 4).to_be_bytes());
        bytes.extend(std::iter::repeat_n(0, body));
        bytes
    }

    #[test]
    fn messages_come_one_by_one_at_every_cut() {
        let whole = [message(Frontend::Sync.byte(), 0), message(Frontend::Query.byte(), 3)].concat();
        for cut in 0..=whole.len() {
            let mut input = whole[..cut].to_vec();
            let mut bodies = Vec::new();
            while let Some(message) = next(&mut input).unwrap() {
                bodies.push(message.body.len());
            }
            let expected: &[usize] = if cut == whole.len() {
                &[0, 3]
            } else if cut >= 5 {
                &[0]
            } else {
                &[]
            };
            assert_eq!(bodies, expected, "{cut}");
        }
    }

    #[test]
    fn what_is_no_message_or_too_long_is_refused_before_it_is_there() {
        let refused = |bytes: &[u8]| {
            next(&mut bytes.to_vec()).err().map(|report| (report.severity, report.sqlstate.as_str().to_owned()))
        };
        let fatal = Some((Severity::Fatal, "08P01".to_owned()));
        assert_eq!(refused(&message(b'!', 0)), fatal);
        assert_eq!(refused(&message(Frontend::Query.byte(), MAX_MESSAGE + 1)[..5]), fatal);
        assert_eq!(refused(&[Frontend::Query.byte(), 0, 0, 0, 3]), fatal);
        assert_eq!(refused(&message(Frontend::Query.byte(), MAX_MESSAGE)), None);
    }
}
