//! What a server says, parsed without the product's codec.

use std::fmt;

/// One message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names and fields are those of the protocol's documentation")]
pub enum Message {
    Authentication { code: u32, data: Vec<u8> },
    BackendKeyData { pid: u32, key: Vec<u8> },
    BindComplete,
    CloseComplete,
    CommandComplete(String),
    CopyData(Vec<u8>),
    CopyDone,
    CopyInResponse,
    CopyOutResponse,
    DataRow(Vec<Option<Vec<u8>>>),
    EmptyQueryResponse,
    ErrorResponse(Fields),
    FunctionCallResponse(Option<Vec<u8>>),
    NegotiateProtocolVersion { newest_minor: u32, unknown: Vec<String> },
    NoData,
    NoticeResponse(Fields),
    NotificationResponse { pid: u32, channel: String, payload: String },
    ParameterDescription(Vec<u32>),
    ParameterStatus { name: String, value: String },
    ParseComplete,
    PortalSuspended,
    ReadyForQuery(char),
    RowDescription(Vec<String>),
    Other { tag: char, body: Vec<u8> },
}

/// The fields of an error or a notice.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(Vec<(char, String)>);

impl Fields {
    fn field(&self, code: char) -> &str {
        self.0.iter().find(|(name, _)| *name == code).map_or("", |(_, value)| value)
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.field('C')
    }

    /// The severity that is not translated (`V`).
    pub fn severity(&self) -> &str {
        self.field('V')
    }

    /// The message.
    pub fn message(&self) -> &str {
        self.field('M')
    }

    /// The detail, or nothing.
    pub fn detail(&self) -> &str {
        self.field('D')
    }

    /// The hint, or nothing.
    pub fn hint(&self) -> &str {
        self.field('H')
    }

    /// Severity both ways, code and message: what every error must have.
    pub fn is_whole(&self) -> bool {
        ['S', 'V', 'C', 'M'].iter().all(|code| !self.field(*code).is_empty())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.severity(), self.code(), self.message())?;
        for (name, text) in [("DETAIL", self.detail()), ("HINT", self.hint())] {
            if !text.is_empty() {
                write!(f, " {name} {text:?}")?;
            }
        }
        Ok(())
    }
}

impl Message {
    /// Reads one message's body; a body that does not fit its tag fails the test.
    pub fn parse(tag: u8, body: &[u8]) -> Self {
        let mut rest = Rest { tag, bytes: body };
        let message = rest.message();
        assert!(rest.bytes.is_empty(), "{:?} carries {} bytes too many", message, rest.bytes.len());
        message
    }

    /// The letter of its tag, as in the protocol's documentation.
    pub fn tag(&self) -> char {
        match self {
            Self::Authentication { .. } => 'R',
            Self::BackendKeyData { .. } => 'K',
            Self::BindComplete => '2',
            Self::CloseComplete => '3',
            Self::CommandComplete(_) => 'C',
            Self::CopyData(_) => 'd',
            Self::CopyDone => 'c',
            Self::CopyInResponse => 'G',
            Self::CopyOutResponse => 'H',
            Self::DataRow(_) => 'D',
            Self::EmptyQueryResponse => 'I',
            Self::ErrorResponse(_) => 'E',
            Self::FunctionCallResponse(_) => 'V',
            Self::NegotiateProtocolVersion { .. } => 'v',
            Self::NoData => 'n',
            Self::NoticeResponse(_) => 'N',
            Self::NotificationResponse { .. } => 'A',
            Self::ParameterDescription(_) => 't',
            Self::ParameterStatus { .. } => 'S',
            Self::ParseComplete => '1',
            Self::PortalSuspended => 's',
            Self::ReadyForQuery(_) => 'Z',
            Self::RowDescription(_) => 'T',
            Self::Other { tag, .. } => *tag,
        }
    }

    /// May come at any time, so that tests of a reply's shape look past it.
    pub fn is_asynchronous(&self) -> bool {
        matches!(self, Self::NoticeResponse(_) | Self::NotificationResponse { .. } | Self::ParameterStatus { .. })
    }
}

/// What is left of a body.
struct Rest<'a> {
    tag: u8,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn message(&mut self) -> Message {
        match self.tag {
            b'R' => Message::Authentication { code: self.u32(), data: self.all() },
            b'K' => Message::BackendKeyData { pid: self.u32(), key: self.all() },
            b'2' => Message::BindComplete,
            b'3' => Message::CloseComplete,
            b'C' => Message::CommandComplete(self.text()),
            b'd' => Message::CopyData(self.all()),
            b'c' => Message::CopyDone,
            b'G' => self.then_all(Message::CopyInResponse),
            b'H' => self.then_all(Message::CopyOutResponse),
            b'D' => Message::DataRow((0..self.u16()).map(|_| self.value()).collect()),
            b'I' => Message::EmptyQueryResponse,
            b'E' => Message::ErrorResponse(self.fields()),
            b'V' => Message::FunctionCallResponse(self.value()),
            b'v' => Message::NegotiateProtocolVersion {
                newest_minor: self.u32(),
                unknown: (0..self.u32()).map(|_| self.text()).collect(),
            },
            b'n' => Message::NoData,
            b'N' => Message::NoticeResponse(self.fields()),
            b'A' => Message::NotificationResponse { pid: self.u32(), channel: self.text(), payload: self.text() },
            b't' => Message::ParameterDescription((0..self.u16()).map(|_| self.u32()).collect()),
            b'S' => Message::ParameterStatus { name: self.text(), value: self.text() },
            b'1' => Message::ParseComplete,
            b's' => Message::PortalSuspended,
            b'Z' => Message::ReadyForQuery(char::from(self.take(1)[0])),
            b'T' => Message::RowDescription((0..self.u16()).map(|_| self.column()).collect()),
            tag => Message::Other { tag: char::from(tag), body: self.all() },
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        assert!(
            length <= self.bytes.len(),
            "a body of {:?} ends {length} bytes early: {:?} is left",
            char::from(self.tag),
            self.bytes
        );
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn all(&mut self) -> Vec<u8> {
        self.take(self.bytes.len()).to_vec()
    }

    fn then_all(&mut self, message: Message) -> Message {
        self.take(self.bytes.len());
        message
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let length = self.bytes.iter().position(|byte| *byte == 0).expect("a text ends with a zero byte");
        let text = String::from_utf8_lossy(self.take(length)).into_owned();
        self.take(1);
        text
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let length = self.u32() as i32;
        (length >= 0).then(|| self.take(length as usize).to_vec())
    }

    fn column(&mut self) -> String {
        let name = self.text();
        self.take(18);
        name
    }

    fn fields(&mut self) -> Fields {
        let mut fields = Vec::new();
        loop {
            match self.take(1)[0] {
                0 => return Fields(fields),
                code => fields.push((char::from(code), self.text())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_with_its_fields() {
        let Message::ErrorResponse(error) = Message::parse(b'E', b"SERROR\0VERROR\0C57014\0Mcanceled\0Dlimit\0\0")
        else {
            panic!("not an error");
        };
        assert_eq!((error.code(), error.detail(), error.is_whole()), ("57014", "limit", true));
    }

    #[test]
    #[should_panic(expected = "bytes too many")]
    fn a_body_with_bytes_left_over_fails_the_test() {
        Message::parse(b'1', b"x");
    }

    #[test]
    fn a_row_tells_null_from_empty() {
        let row = Message::parse(b'D', &[0, 2, 255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(row, Message::DataRow(vec![None, Some(Vec::new())]));
    }
}
