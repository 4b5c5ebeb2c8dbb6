//! Where a walsender's stream stands, from the heads of its messages alone.

use wire::error::Peer;
use wire::frame;
use wire::tag::Backend;

/// What the server is doing for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing: it waits for a command.
    Idle,
    /// A command, or a base backup.
    Busy,
    /// It streams changes until somebody ends it; the client can begin again where it was.
    Streaming,
}

/// Follows what a server sends. Rows and data are passed over, never held.
#[derive(Debug)]
pub(super) struct Follower {
    phase: Phase,
    /// The beginning of a head that has come in part.
    head: Vec<u8>,
    /// Bytes of the message under way that are still to come.
    left: usize,
}

impl Follower {
    /// Of a server that has just said that it is ready.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Idle, head: Vec::new(), left: 0 }
    }

    /// What the server is doing.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether something else may be said to the client here: no message is cut in two.
    pub(super) fn is_between_messages(&self) -> bool {
        self.head.is_empty() && self.left == 0
    }

    /// The client has sent something.
    pub(super) fn asked(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Busy;
        }
    }

    /// The server has sent these bytes.
    pub(super) fn heard(&mut self, mut bytes: &[u8]) -> Result<(), wire::Error> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let wanted = frame::HEAD.saturating_sub(self.head.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(wanted).unwrap_or_default();
            self.head.extend_from_slice(head);
            bytes = rest;
            if let Some(head) = frame::head(&self.head).map_err(|cause| Peer::Server.sent_bad_length(cause))? {
                self.head.clear();
                self.left = head.body;
                self.begin(Backend::from_byte(head.tag));
            }
        }
        Ok(())
    }

    fn begin(&mut self, tag: Option<Backend>) {
        match tag {
            Some(Backend::ReadyForQuery) => self.phase = Phase::Idle,
            Some(Backend::CopyBothResponse) => self.phase = Phase::Streaming,
            Some(Backend::CopyDone) if self.phase == Phase::Streaming => self.phase = Phase::Busy,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: Backend, body: usize) -> Vec<u8> {
        let mut bytes = vec![tag.byte()];
        bytes.extend((body as u32 + 4).to_be_bytes());
        bytes.extend(vec![b'x'; body]);
        bytes
    }

    #[test]
    fn a_conversation_is_followed_wherever_it_is_cut() {
        let steps = [
            (Backend::DataRow, 70_000, Phase::Busy),
            (Backend::ReadyForQuery, 1, Phase::Idle),
            (Backend::ParameterStatus, 10, Phase::Idle),
            (Backend::CopyBothResponse, 3, Phase::Streaming),
            (Backend::CopyData, 300, Phase::Streaming),
            (Backend::CopyDone, 0, Phase::Busy),
            (Backend::ReadyForQuery, 1, Phase::Idle),
        ];
        for cut in [1, 2, 3, 5, 7, 64, 100_000] {
            let mut follower = Follower::new();
            follower.asked();
            for (tag, body, after) in steps {
                let bytes = message(tag, body);
                for piece in bytes.chunks(cut) {
                    follower.heard(piece).unwrap();
                }
                assert!(follower.is_between_messages());
                assert_eq!(follower.phase(), after, "{tag:?} in pieces of {cut}");
            }
            follower.heard(&message(Backend::CopyData, 9)[..6]).unwrap();
            assert!(!follower.is_between_messages());
            assert!(Follower::new().heard(&[b'D', 0, 0, 0, 3]).is_err());
        }
    }
}
