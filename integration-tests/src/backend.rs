//! The bytes that a server says, for [`crate::fake`].

use crate::frontend::message;

fn texts(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    message(b'R', &0u32.to_be_bytes())
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &texts(&[name, value]))
}

/// BackendKeyData.
pub fn backend_key_data(pid: u32, key: u32) -> Vec<u8> {
    message(b'K', &[pid.to_be_bytes(), key.to_be_bytes()].concat())
}

/// ReadyForQuery with the status `I`, `T` or `E`.
pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// RowDescription of text columns.
pub fn row_description(columns: &[&str]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        body.extend(texts(&[column]));
        // No table, no attribute number, text (25), any size, no modifier, text format.
        body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
    }
    message(b'T', &body)
}

/// DataRow.
pub fn data_row(values: &[&str]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.bytes());
    }
    message(b'D', &body)
}

/// CommandComplete.
pub fn command_complete(tag: &str) -> Vec<u8> {
    message(b'C', &texts(&[tag]))
}

/// One row with one column, whole: `T D C Z`.
pub fn one_value(value: &str) -> Vec<u8> {
    [row_description(&["value"]), data_row(&[value]), command_complete("SELECT 1"), ready(b'I')].concat()
}

/// ErrorResponse or NoticeResponse by its tag.
fn fields(tag: u8, severity: &str, code: &str, text: &str) -> Vec<u8> {
    let mut body = texts(&[&format!("S{severity}"), &format!("V{severity}"), &format!("C{code}"), &format!("M{text}")]);
    body.push(0);
    message(tag, &body)
}

/// ErrorResponse of severity ERROR.
pub fn error(code: &str, text: &str) -> Vec<u8> {
    fields(b'E', "ERROR", code, text)
}

/// ErrorResponse of severity FATAL, behind which a server closes.
pub fn fatal(code: &str, text: &str) -> Vec<u8> {
    fields(b'E', "FATAL", code, text)
}

/// NoticeResponse.
pub fn notice(text: &str) -> Vec<u8> {
    fields(b'N', "NOTICE", "00000", text)
}

/// NotificationResponse.
pub fn notification(pid: u32, channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', &[pid.to_be_bytes().to_vec(), texts(&[channel, payload])].concat())
}
