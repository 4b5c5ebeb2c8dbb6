//! Borrowed, fallible readers for the few messages that a pooler must look into. All take the body, without the head.
//!
//! Texts are bytes: SQL need not be UTF-8. Layouts: PostgreSQL documentation, "Message Formats".

mod bind;

use std::fmt;

pub use bind::{Bind, Parameter, Parameters, ResultFormats};

use crate::tag::{Target, TransactionStatus};

/// A message whose body does not have the shape that its type demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(
    /// The message and the part of it that is wrong.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid message format: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Takes the bytes up to a NUL.
fn text<'a>(bytes: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], Malformed> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Malformed(what))?;
    let (text, rest) = bytes.split_at_checked(end).ok_or(Malformed(what))?;
    *bytes = rest.get(1..).unwrap_or_default();
    Ok(text)
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8], what: &'static str) -> Result<&'a [u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed(what))?;
    *bytes = rest;
    Ok(taken)
}

fn int16(bytes: &mut &[u8], what: &'static str) -> Result<i16, Malformed> {
    take::<2>(bytes, what).map(|raw| i16::from_be_bytes(*raw))
}

fn int32(bytes: &mut &[u8], what: &'static str) -> Result<i32, Malformed> {
    take::<4>(bytes, what).map(|raw| i32::from_be_bytes(*raw))
}

fn oid(bytes: &mut &[u8], what: &'static str) -> Result<u32, Malformed> {
    take::<4>(bytes, what).map(|raw| u32::from_be_bytes(*raw))
}

/// A value with its length before it; −1 is NULL.
fn value<'a>(bytes: &mut &'a [u8], what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
    let length = int32(bytes, what)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Malformed(what))?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed(what))?;
    *bytes = rest;
    Ok(Some(value))
}

/// Query: the statement's text, without its NUL.
pub fn query(mut body: &[u8]) -> Result<&[u8], Malformed> {
    let sql = text(&mut body, "Query without a terminator")?;
    if body.is_empty() { Ok(sql) } else { Err(Malformed("Query with bytes behind its text")) }
}

/// FunctionCall: the oid of the function.
pub fn function(mut body: &[u8]) -> Result<u32, Malformed> {
    oid(&mut body, "FunctionCall without a function")
}

/// Parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The client's name for the statement; empty: unnamed.
    pub statement: &'a [u8],
    /// The text.
    pub query: &'a [u8],
    /// Number of declared parameter types, then their oids, as on the wire.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of a Parse.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let statement = text(&mut body, "Parse without a name")?;
        let query = text(&mut body, "Parse without a text")?;
        let types = body;
        let count = int16(&mut body, "Parse without a number of types")?;
        let count = usize::try_from(count).map_err(|_| Malformed("Parse with a negative number of types"))?;
        if body.len() != count * 4 {
            return Err(Malformed("Parse whose types do not fill it"));
        }
        Ok(Self { statement, query, types })
    }
}

/// What a binary integer of four or eight bytes says, if it fits.
pub fn unsigned(value: &[u8]) -> Option<u32> {
    match value {
        &[a, b, c, d] | &[0, 0, 0, 0, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Describe or Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// Statement or portal.
    pub target: Target,
    /// The client's name for it; empty: unnamed.
    pub name: &'a [u8],
}

impl<'a> Named<'a> {
    /// Reads the body of a Describe or Close.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let what = "Describe or Close with an unknown target";
        let [byte] = *take::<1>(&mut body, what)?;
        let target = Target::from_byte(byte).ok_or(Malformed(what))?;
        let name = text(&mut body, "Describe or Close without a name")?;
        if body.is_empty() {
            Ok(Self { target, name })
        } else {
            Err(Malformed("Describe or Close with trailing bytes"))
        }
    }
}

/// Execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal; empty: unnamed.
    pub portal: &'a [u8],
    /// Most rows to return; 0: all.
    pub limit: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body of an Execute.
    #[inline]
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let portal = text(&mut body, "Execute without a portal name")?;
        let limit = int32(&mut body, "Execute without a row limit")?;
        if body.is_empty() { Ok(Self { portal, limit }) } else { Err(Malformed("Execute with trailing bytes")) }
    }
}

/// ReadyForQuery.
#[inline]
pub fn ready(body: &[u8]) -> Result<TransactionStatus, Malformed> {
    match body {
        [byte] => TransactionStatus::from_byte(*byte).ok_or(Malformed("ReadyForQuery with an unknown status")),
        _ => Err(Malformed("ReadyForQuery of a wrong size")),
    }
}

/// CommandComplete: the tag, such as `SELECT 5`.
#[inline]
pub fn command_tag(mut body: &[u8]) -> Result<&[u8], Malformed> {
    text(&mut body, "CommandComplete without a tag")
}

/// The number of rows at the end of a command tag; `None`: it has none.
pub fn rows_of_tag(tag: &[u8]) -> Option<u64> {
    let digits = tag.rsplit(|byte| *byte == b' ').next()?;
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// ParameterStatus: name and value.
pub fn parameter_status(mut body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let name = text(&mut body, "ParameterStatus without a name")?;
    let value = text(&mut body, "ParameterStatus without a value")?;
    Ok((name, value))
}

/// BackendKeyData: process id and secret (4 bytes in protocol 3.0, up to 256 in 3.2).
pub fn backend_key(mut body: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    let process = int32(&mut body, "BackendKeyData without a process id")?;
    if (4..=256).contains(&body.len()) {
        Ok((process, body))
    } else {
        Err(Malformed("BackendKeyData with a key of a wrong size"))
    }
}

/// One column of a RowDescription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Oid of the table it stands in; 0: none.
    pub table: u32,
    /// Its number in that table; 0: none.
    pub attribute: i16,
    /// Oid of its type.
    pub type_oid: u32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// The columns of a RowDescription.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    bytes: &'a [u8],
    left: u16,
}

impl<'a> Columns<'a> {
    /// Reads the body of a RowDescription.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let left = int16(&mut body, "RowDescription without a number of columns")? as u16;
        Ok(Self { bytes: body, left })
    }
}

impl<'a> Iterator for Columns<'a> {
    type Item = Result<Column<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let what = "RowDescription with a broken column";
        let mut read = || {
            let name = text(&mut self.bytes, what)?;
            let table = oid(&mut self.bytes, what)?;
            let attribute = int16(&mut self.bytes, what)?;
            let type_oid = oid(&mut self.bytes, what)?;
            take::<6>(&mut self.bytes, what)?;
            let format = int16(&mut self.bytes, what)?;
            Ok(Column { name, table, attribute, type_oid, format })
        };
        let column = read();
        if column.is_err() {
            self.left = 0;
        }
        Some(column)
    }
}

/// The values of a DataRow, NULL as `None`.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    left: u16,
}

impl<'a> Row<'a> {
    /// Reads the body of a DataRow.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let left = int16(&mut body, "DataRow without a number of values")? as u16;
        Ok(Self { bytes: body, left })
    }
}

impl<'a> Iterator for Row<'a> {
    type Item = Result<Option<&'a [u8]>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = value(&mut self.bytes, "DataRow with a broken value");
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

/// ParameterDescription: the types of a prepared statement's parameters.
pub fn parameter_types(mut body: &[u8]) -> Result<impl Iterator<Item = u32> + '_, Malformed> {
    let what = "ParameterDescription of a wrong size";
    let count = usize::from(int16(&mut body, what)? as u16);
    if body.len() != count * 4 {
        return Err(Malformed(what));
    }
    Ok(body.chunks_exact(4).filter_map(|raw| raw.first_chunk::<4>().map(|raw| u32::from_be_bytes(*raw))))
}

/// NotificationResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process that notified.
    pub process: u32,
    /// The channel's name, at most 63 bytes.
    pub channel: &'a [u8],
    /// What was said, shorter than 8000 bytes; empty if nothing was.
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads the body of a NotificationResponse.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let process = oid(&mut body, "NotificationResponse without a process")?;
        let channel = text(&mut body, "NotificationResponse without a channel")?;
        let payload = text(&mut body, "NotificationResponse without a payload")?;
        if body.is_empty() {
            Ok(Self { process, channel, payload })
        } else {
            Err(Malformed("NotificationResponse with bytes behind it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(formats: &[i16], values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = b"portal\0name\0".to_vec();
        body.extend((formats.len() as i16).to_be_bytes());
        formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
        body.extend((values.len() as i16).to_be_bytes());
        for value in values {
            body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
        body.extend([0, 0]);
        body
    }

    #[test]
    fn bind_gives_names_formats_and_values() {
        let body = bind(&[0, 1], &[Some(b"abc"), None]);
        let read = Bind::read(&body).unwrap();
        assert_eq!((read.portal, read.statement), (&b"portal"[..], &b"name"[..]));
        let parameters: Vec<_> = read.parameters().unwrap().map(Result::unwrap).collect();
        assert_eq!(parameters, [Parameter { format: 0, value: Some(b"abc") }, Parameter { format: 1, value: None }]);
        let all_binary = bind(&[1], &[Some(b"a"), Some(b"b")]);
        assert!(Bind::read(&all_binary).unwrap().parameters().unwrap().all(|p| p.unwrap().format == 1));
        assert_eq!(Bind::read(&all_binary).unwrap().wants_binary(), Ok(false));
        let mut binary_results = all_binary[..all_binary.len() - 2].to_vec();
        binary_results.extend([0, 1, 0, 1]);
        assert_eq!(Bind::read(&binary_results).unwrap().wants_binary(), Ok(true));
        let formats = Bind::read(&binary_results).unwrap().result_formats().unwrap();
        assert_eq!((formats.len(), formats.of(0), formats.of(7)), (1, 1, 1), "one stands for all");
        assert!(Bind::read(&all_binary[..all_binary.len() - 3]).unwrap().wants_binary().is_err());
    }

    #[test]
    fn every_cut_of_every_message_is_an_error_or_a_value_and_never_a_panic() {
        let bodies = [
            bind(&[0, 1], &[Some(b"abc"), None, Some(b"")]),
            b"name\0select 1\0\0\x01\0\0\0\x17".to_vec(),
            b"Sname\0".to_vec(),
            b"p\0\0\0\0\x05".to_vec(),
            b"\0\x01id\0\0\0\0\x01\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0".to_vec(),
            b"\0\x02\0\0\0\x01x\xff\xff\xff\xff".to_vec(),
            b"\0\0\0\x01a\0b\0".to_vec(),
        ];
        for body in &bodies {
            for cut in 0..=body.len() {
                let body = &body[..cut];
                let _ = query(body);
                let _ = Parse::read(body);
                let _ = Bind::read(body).and_then(|bind| bind.parameters()).map(Iterator::count);
                let _ = Named::read(body);
                let _ = Execute::read(body);
                let _ = Notification::read(body);
                let _ = Columns::read(body).map(Iterator::count);
                let _ = Row::read(body).map(Iterator::count);
                let _ = parameter_types(body).map(Iterator::count);
                let _ = (ready(body), command_tag(body), parameter_status(body), backend_key(body).is_ok());
            }
        }
    }

    #[test]
    fn tags_carry_their_rows() {
        assert_eq!(rows_of_tag(b"SELECT 5"), Some(5));
        assert_eq!(rows_of_tag(b"INSERT 0 17"), Some(17));
        assert_eq!(rows_of_tag(b"BEGIN"), None);
        assert_eq!(rows_of_tag(b"COPY 99999999999999999999999"), None);
    }

    #[test]
    fn parse_must_be_filled_by_its_types() {
        assert!(Parse::read(b"\0select 1\0\0\0").is_ok());
        assert!(Parse::read(b"\0select 1\0\0\x01\0\0").is_err());
        assert!(Parse::read(b"\0select 1\0\xff\xff").is_err());
        assert!(Parse::read(b"\0select 1").is_err());
    }
}
