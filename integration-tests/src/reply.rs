//! What came in answer to something, and the questions that tests ask of it.

use crate::message::{Fields, Message};

/// What came in answer to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Every message in order, asynchronous ones among them.
    pub messages: Vec<Message>,
}

impl Reply {
    /// The tags in order, without what may come at any time: `"12TDCZ"` for a simple pipeline.
    pub fn shape(&self) -> String {
        self.messages.iter().filter(|message| !message.is_asynchronous()).map(Message::tag).collect()
    }

    /// Every row; NULL is shown as `∅`.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let text = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or("∅".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        self.pick(|message| match message {
            Message::DataRow(values) => Some(values.iter().map(text).collect()),
            _ => None,
        })
    }

    /// The first column of the only row; anything else fails the test.
    pub fn value(&self) -> String {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "one row was awaited: {:?}", self.messages);
        rows[0][0].clone()
    }

    /// The first error; none fails the test.
    pub fn error(&self) -> &Fields {
        self.errors().first().copied().unwrap_or_else(|| panic!("an error was awaited: {:?}", self.messages))
    }

    /// Every error.
    pub fn errors(&self) -> Vec<&Fields> {
        self.pick(|message| if let Message::ErrorResponse(error) = message { Some(error) } else { None })
    }

    /// Every notice.
    pub fn notices(&self) -> Vec<&Fields> {
        self.pick(|message| if let Message::NoticeResponse(notice) = message { Some(notice) } else { None })
    }

    /// Fails the test if there is an error in it.
    pub fn ok(self) -> Self {
        assert!(self.errors().is_empty(), "no error was awaited: {:?}", self.messages);
        self
    }

    /// The status of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> char {
        let statuses =
            self.pick(|message| if let Message::ReadyForQuery(status) = message { Some(*status) } else { None });
        *statuses.last().unwrap_or_else(|| panic!("a ReadyForQuery was awaited: {:?}", self.messages))
    }

    /// What CopyData messages carried, joined.
    pub fn copied(&self) -> Vec<u8> {
        self.pick(|message| if let Message::CopyData(data) = message { Some(data.as_slice()) } else { None }).concat()
    }

    /// Every command tag.
    pub fn commands(&self) -> Vec<&str> {
        self.pick(|message| if let Message::CommandComplete(tag) = message { Some(tag.as_str()) } else { None })
    }

    fn pick<'a, T>(&'a self, pick: impl Fn(&'a Message) -> Option<T>) -> Vec<T> {
        self.messages.iter().filter_map(pick).collect()
    }
}
