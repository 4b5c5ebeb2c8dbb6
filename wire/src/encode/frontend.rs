//! What a client says.

use crate::encode::{c_string, count, counted, message, value};
use crate::error::{Error, Result};
use crate::frame::MAX_STARTUP;
use crate::startup::{CANCEL_REQUEST, ProtocolVersion, SSL_REQUEST};
use crate::tag::{Frontend, Target};

/// Appends a StartupMessage. `user` stands first in `parameters`; an empty name would end the list and is refused.
pub fn startup_message<'a>(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<()> {
    counted(out, MAX_STARTUP, "a startup message", |out| {
        out.extend_from_slice(&version.number().to_be_bytes());
        for (name, value) in parameters {
            if name.is_empty() {
                return Err(Error::BadSetting { name: String::new(), problem: "its name is empty" });
            }
            c_string(out, name, "the name of a startup parameter")?;
            c_string(out, value, "the value of a startup parameter")?;
        }
        out.push(0);
        Ok(())
    })
}

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    out.extend_from_slice(&8u32.to_be_bytes());
    out.extend_from_slice(&SSL_REQUEST.to_be_bytes());
}

/// Appends a CancelRequest with what a BackendKeyData said.
pub fn cancel_request(out: &mut Vec<u8>, process: u32, key: &[u8]) -> Result<()> {
    counted(out, 12 + ProtocolVersion::V3_2.longest_cancel_key(), "a cancel request", |out| {
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(key);
        Ok(())
    })
}

/// Appends a PasswordMessage: a clear-text password, or the answer to an md5 challenge.
pub fn password_message(out: &mut Vec<u8>, password: &[u8]) -> Result<()> {
    message(out, Frontend::Password.byte(), "a password", |out| c_string(out, password, "a password"))
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) -> Result<()> {
    message(out, Frontend::Password.byte(), "a SASL message", |out| {
        c_string(out, mechanism.as_bytes(), "the name of a SASL mechanism")?;
        value(out, Some(data), "a SASL message")
    })
}

/// Appends a SASLResponse.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) -> Result<()> {
    message(out, Frontend::Password.byte(), "a SASL message", |out| {
        out.extend_from_slice(data);
        Ok(())
    })
}

/// Appends a simple Query.
pub fn query(out: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    message(out, Frontend::Query.byte(), "a query", |out| c_string(out, text, "a query"))
}

/// Appends a Parse; `name` empty is the unnamed statement, a type OID of 0 leaves the type to the server.
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u32]) -> Result<()> {
    message(out, Frontend::Parse.byte(), "a statement", |out| {
        c_string(out, name, "the name of a statement")?;
        c_string(out, text, "a statement")?;
        count(out, types.len(), "the parameters of a statement")?;
        out.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        Ok(())
    })
}

/// Appends a Bind whose values are text (`None` is NULL) and whose results are text.
pub fn bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], values: &[Option<&[u8]>]) -> Result<()> {
    message(out, Frontend::Bind.byte(), "the values of a statement", |out| {
        c_string(out, portal, "the name of a portal")?;
        c_string(out, statement, "the name of a statement")?;
        count(out, 0, "formats")?;
        count(out, values.len(), "the values of a statement")?;
        values.iter().try_for_each(|item| value(out, *item, "the values of a statement"))?;
        count(out, 0, "formats")
    })
}

/// Appends a Bind of the unnamed statement to the unnamed portal: values (`None` is NULL), each in its format as a Bind has
/// them, for results that are text.
pub fn bind_formatted(out: &mut Vec<u8>, values: &[(i16, Option<&[u8]>)]) -> Result<()> {
    message(out, Frontend::Bind.byte(), "the values of a statement", |out| {
        c_string(out, b"", "the name of a portal")?;
        c_string(out, b"", "the name of a statement")?;
        count(out, values.len(), "formats")?;
        out.extend(values.iter().flat_map(|(format, _)| format.to_be_bytes()));
        count(out, values.len(), "the values of a statement")?;
        values.iter().try_for_each(|(_, item)| value(out, *item, "the values of a statement"))?;
        count(out, 0, "formats")
    })
}

/// Appends a Describe.
pub fn describe(out: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<()> {
    aimed(out, Frontend::Describe, target, name)
}

/// Appends a Close.
pub fn close(out: &mut Vec<u8>, target: Target, name: &[u8]) -> Result<()> {
    aimed(out, Frontend::Close, target, name)
}

fn aimed(out: &mut Vec<u8>, tag: Frontend, target: Target, name: &[u8]) -> Result<()> {
    message(out, tag.byte(), "a name", |out| {
        out.push(target as u8);
        c_string(out, name, "a name")
    })
}

/// Appends an Execute; `max_rows` 0 is all of them.
pub fn execute(out: &mut Vec<u8>, portal: &[u8], max_rows: i32) -> Result<()> {
    message(out, Frontend::Execute.byte(), "a portal", |out| {
        c_string(out, portal, "the name of a portal")?;
        out.extend_from_slice(&max_rows.to_be_bytes());
        Ok(())
    })
}

/// Appends a Sync.
pub fn sync(out: &mut Vec<u8>) {
    bare(out, Frontend::Sync);
}

/// Appends a Flush.
pub fn flush(out: &mut Vec<u8>) {
    bare(out, Frontend::Flush);
}

/// Appends a Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    bare(out, Frontend::Terminate);
}

fn bare(out: &mut Vec<u8>, tag: Frontend) {
    out.push(tag.byte());
    out.extend_from_slice(&4u32.to_be_bytes());
}
