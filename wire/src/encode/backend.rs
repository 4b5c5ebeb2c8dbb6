//! What a server says.

use crate::encode::{MAX_REPORT_FIELD, Report, c_string, count, i32_of, message, value};
use crate::error::{Error, Field, Result};
use crate::startup::ProtocolVersion;
use crate::tag::{Backend, TransactionStatus};
use crate::view::Notification;

/// Numbers that tell the Authentication messages apart.
pub(crate) mod authentication {
    pub(crate) const OK: u32 = 0;
    pub(crate) const CLEARTEXT_PASSWORD: u32 = 3;
    pub(crate) const MD5_PASSWORD: u32 = 5;
    pub(crate) const SASL: u32 = 10;
    pub(crate) const SASL_CONTINUE: u32 = 11;
    pub(crate) const SASL_FINAL: u32 = 12;
}

/// Appends an ErrorResponse with the fields S, V, C, M and, where they are, D and H.
pub fn error_response(out: &mut Vec<u8>, report: &Report) {
    report_message(out, Backend::ErrorResponse, report);
}

/// Appends a NoticeResponse with the same fields.
pub fn notice_response(out: &mut Vec<u8>, report: &Report) {
    report_message(out, Backend::NoticeResponse, report);
}

fn report_message(out: &mut Vec<u8>, tag: Backend, report: &Report) {
    let severity = report.severity.as_str();
    let mut body = Vec::with_capacity(64 + report.message.len().min(MAX_REPORT_FIELD));
    let fields = [
        (Field::Severity, Some(severity)),
        (Field::SeverityPlain, Some(severity)),
        (Field::Code, Some(report.sqlstate.as_str())),
        (Field::Message, Some(report.message.as_str())),
        (Field::Detail, report.detail.as_deref()),
        (Field::Hint, report.hint.as_deref()),
        (Field::Routine, report.routine),
    ];
    for (field, text) in fields {
        let Some(text) = text else { continue };
        body.push(field as u8);
        body.extend(text.bytes().take(cut(text)).map(|byte| if byte == 0 { b' ' } else { byte }));
        body.push(0);
    }
    body.push(0);
    short(out, tag, &body);
}

/// The longest end of at most [`MAX_REPORT_FIELD`] bytes that does not cut a character.
fn cut(text: &str) -> usize {
    (0..=MAX_REPORT_FIELD.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)
}

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    short(out, Backend::Authentication, &authentication::OK.to_be_bytes());
}

/// Appends AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    short(out, Backend::Authentication, &authentication::CLEARTEXT_PASSWORD.to_be_bytes());
}

/// Appends AuthenticationMD5Password with its salt.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    let mut body = authentication::MD5_PASSWORD.to_be_bytes().to_vec();
    body.extend_from_slice(&salt);
    short(out, Backend::Authentication, &body);
}

/// Appends AuthenticationSASL with the mechanisms offered, the preferred one first.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) -> Result<()> {
    message(out, Backend::Authentication.byte(), "a list of SASL mechanisms", |out| {
        out.extend_from_slice(&authentication::SASL.to_be_bytes());
        for mechanism in mechanisms {
            c_string(out, mechanism.as_bytes(), "the name of a SASL mechanism")?;
        }
        out.push(0);
        Ok(())
    })
}

/// Appends AuthenticationSASLContinue with the mechanism's data.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) -> Result<()> {
    sasl(out, authentication::SASL_CONTINUE, data)
}

/// Appends AuthenticationSASLFinal with the mechanism's data.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) -> Result<()> {
    sasl(out, authentication::SASL_FINAL, data)
}

fn sasl(out: &mut Vec<u8>, step: u32, data: &[u8]) -> Result<()> {
    message(out, Backend::Authentication.byte(), "a SASL message", |out| {
        out.extend_from_slice(&step.to_be_bytes());
        out.extend_from_slice(data);
        Ok(())
    })
}

/// Appends NegotiateProtocolVersion: the version that we go on with and the options that we do not know.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, agreed: ProtocolVersion, unknown: &[&[u8]]) -> Result<()> {
    message(out, Backend::NegotiateProtocolVersion.byte(), "a protocol negotiation", |out| {
        out.extend_from_slice(&agreed.number().to_be_bytes());
        out.extend_from_slice(&i32_of(unknown.len(), "a list of protocol options")?.to_be_bytes());
        unknown.iter().try_for_each(|name| c_string(out, name, "the name of a protocol option"))
    })
}

/// Appends ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<()> {
    message(out, Backend::ParameterStatus.byte(), "a parameter status", |out| {
        c_string(out, name, "the name of a parameter")?;
        c_string(out, value, "the value of a parameter")
    })
}

/// Appends BackendKeyData. The key's length is the caller's to choose: 4 bytes for a client of protocol 3.0, up to
/// [`ProtocolVersion::longest_cancel_key`] otherwise.
pub fn backend_key_data(out: &mut Vec<u8>, process: u32, key: &[u8]) -> Result<()> {
    if key.len() > ProtocolVersion::V3_2.longest_cancel_key() {
        return Err(Error::TooLarge("a cancel key"));
    }
    message(out, Backend::BackendKeyData.byte(), "a cancel key", |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(key);
        Ok(())
    })
}

/// Appends ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    short(out, Backend::ReadyForQuery, &[status as u8]);
}

/// Appends ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    short(out, Backend::ParseComplete, &[]);
}

/// Appends BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    short(out, Backend::BindComplete, &[]);
}

/// Appends CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    short(out, Backend::CloseComplete, &[]);
}

/// Appends NoData.
pub fn no_data(out: &mut Vec<u8>) {
    short(out, Backend::NoData, &[]);
}

/// Appends EmptyQueryResponse.
pub fn empty_query_response(out: &mut Vec<u8>) {
    short(out, Backend::EmptyQueryResponse, &[]);
}

/// Appends CommandComplete with its command tag, for example `SELECT 3`.
pub fn command_complete(out: &mut Vec<u8>, command_tag: &str) -> Result<()> {
    message(out, Backend::CommandComplete.byte(), "a command tag", |out| {
        c_string(out, command_tag.as_bytes(), "a command tag")
    })
}

/// Appends PortalSuspended.
pub fn portal_suspended(out: &mut Vec<u8>) {
    short(out, Backend::PortalSuspended, &[]);
}

/// Appends ParameterDescription of a statement without parameters.
pub fn no_parameters(out: &mut Vec<u8>) {
    short(out, Backend::ParameterDescription, &[0; 2]);
}

/// Appends NotificationResponse.
pub fn notification_response(out: &mut Vec<u8>, notification: &Notification<'_>) -> Result<()> {
    message(out, Backend::NotificationResponse.byte(), "a notification", |out| {
        out.extend_from_slice(&notification.process.to_be_bytes());
        c_string(out, notification.channel, "the name of a channel")?;
        c_string(out, notification.payload, "the payload of a notification")
    })
}

/// A column of a result that we make ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// The OID of its type.
    pub type_oid: u32,
    /// The width of its type in bytes; −1 for a variable one (`pg_type.typlen`).
    pub type_size: i16,
    /// Its values are sent in the type's binary form, not as text.
    pub binary: bool,
}

impl<'a> Column<'a> {
    /// A column of type `text`.
    pub fn text(name: &'a str) -> Self {
        Self { name, type_oid: 25, type_size: -1, binary: false }
    }

    /// A column of type `bigint`.
    pub fn bigint(name: &'a str) -> Self {
        Self { name, type_oid: 20, type_size: 8, binary: false }
    }
}

/// Appends RowDescription: columns of no table.
pub fn row_description(out: &mut Vec<u8>, columns: &[Column<'_>]) -> Result<()> {
    message(out, Backend::RowDescription.byte(), "a row description", |out| {
        count(out, columns.len(), "a row description")?;
        for column in columns {
            c_string(out, column.name.as_bytes(), "the name of a column")?;
            // Table OID 0 and attribute 0: of no table.
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&column.type_oid.to_be_bytes());
            out.extend_from_slice(&column.type_size.to_be_bytes());
            // No type modifier.
            out.extend_from_slice(&(-1i32).to_be_bytes());
            out.extend_from_slice(&i16::from(column.binary).to_be_bytes());
        }
        Ok(())
    })
}

/// Appends DataRow; `None` is NULL.
pub fn data_row(out: &mut Vec<u8>, values: &[Option<&[u8]>]) -> Result<()> {
    message(out, Backend::DataRow.byte(), "a row", |out| {
        count(out, values.len(), "a row")?;
        values.iter().try_for_each(|item| value(out, *item, "a row"))
    })
}

/// Appends a message whose body is known to be short.
fn short(out: &mut Vec<u8>, tag: Backend, body: &[u8]) {
    out.push(tag.byte());
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}
