//! A request that failed for what its statement was when somebody else prepared it is sent once more.
//!
//! A client that prepares a text is answered by us where the server holds that text already. If the table has changed since,
//! past us, the server's copy is out of date: the Bind or Describe behind that Parse fails (0A000), as it never would on a
//! connection of the client's own. So the rest of such a request is kept until its first reply:
//!
//! ```text
//! Parse (answered by us)  Bind  Execute  Sync      kept: Bind Execute Sync
//!   ErrorResponse, ReadyForQuery ◄─ server         not told to the client; the copy is doubted
//!                         Bind  Execute  Sync      again, behind a Close and a Parse
//! ```
//!
//! Only a request that begins outside of a transaction and ends with its one Sync is kept, so that nothing of it can have
//! happened; and only once, because what is sent again holds no Parse.

use wire::error::ErrorFields;
use wire::frame;
use wire::pipeline::{Awaited, Owed};
use wire::tag::Frontend;

use super::provide::{is_of_its_making, uses_statement};
use super::request::head;
use super::{End, Session};
use crate::upstream::Upstream;

/// Bytes of a request that are kept: what is longer fails as it did.
const MAX_KEPT: usize = 4 * 1024;

/// The request that may have to be sent again.
#[derive(Debug, Default)]
pub enum Retry {
    /// There is none.
    #[default]
    None,
    /// The Parse of statement `id`, the first message, was answered by us; it ends at `end` of the client's bytes.
    Answered {
        /// The statement.
        id: u64,
        /// Where its Parse ends.
        end: usize,
    },
    /// What stands behind that Parse.
    Kept {
        /// The statement.
        id: u64,
        /// The messages, the Sync among them.
        rest: Vec<u8>,
    },
    /// It has failed; its ReadyForQuery is still to come.
    Failed(Vec<u8>),
}

impl Retry {
    /// A request has failed and is about to be sent again: nothing of the client's may be sent before.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl Session {
    /// The client's messages up to `used` were sent, outside of a transaction.
    #[cold]
    pub(super) fn keep_request(upstream: &mut Upstream, bytes: &[u8], used: usize) -> Result<(), End> {
        let Retry::Answered { id, end } = std::mem::take(&mut upstream.work.retry) else { return Ok(()) };
        let rest = bytes.get(end..used).unwrap_or_default();
        if rest.len() <= MAX_KEPT && is_simple(rest)? {
            upstream.work.retry = Retry::Kept { id, rest: rest.to_vec() };
        }
        Ok(())
    }

    /// Whether this error is kept from the client, because its request is sent again.
    pub(super) fn retries(upstream: &mut Upstream, failed: Option<&Owed>, error: &[u8]) -> bool {
        let Retry::Kept { id, rest } = std::mem::take(&mut upstream.work.retry) else { return false };
        let stale = failed.is_some_and(|owed| uses_statement(owed) && owed.note == id)
            && is_of_its_making(ErrorFields::new(error).sqlstate().as_bytes());
        let mut owed = upstream.pipeline.owed();
        let last = owed.next().is_some_and(|owed| owed.awaited == Awaited::Sync) && owed.next().is_none();
        drop(owed);
        if stale && last {
            upstream.work.retry = Retry::Failed(rest);
        }
        stale && last
    }

    /// The server is ready: the request that has failed stands before whatever the client has sent meanwhile.
    pub(super) fn retry(&mut self, upstream: &mut Upstream, mut rest: Vec<u8>) {
        self.pool.meter.prepared_retries.increment();
        rest.append(&mut self.carry);
        self.carry = rest;
        self.look_again = true;
        upstream.work.held = true;
    }
}

/// Whether these are messages that use statements, up to one Sync at the end.
fn is_simple(mut bytes: &[u8]) -> Result<bool, End> {
    while let Some(head) = head(bytes)? {
        let rest = bytes.get(head.total().max(frame::HEAD)..).unwrap_or_default();
        match Frontend::from_byte(head.tag) {
            Some(Frontend::Bind | Frontend::Describe | Frontend::Execute) => bytes = rest,
            Some(Frontend::Sync) => return Ok(rest.is_empty()),
            _ => return Ok(false),
        }
    }
    Ok(false)
}
