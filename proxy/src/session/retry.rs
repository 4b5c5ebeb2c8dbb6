//! A request that failed for what its server held, or no longer held, under a statement's name is sent once more.
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
//! A function or a block may have run DEALLOCATE ALL, unseen: then a statement that is used without a Parse does not exist
//! (26000), although its client has not given it up. From there on everything that the upstream is thought to hold is
//! doubted, and such a request is sent again too.
//!
//! Only a request that begins outside of a transaction and ends with its one Sync is kept, so that nothing of it can have
//! happened. It is sent again once: what fails behind a new Parse is the client's own, as a function that raises 26000
//! itself while its statement is planned.

use wire::error::{ErrorFields, Sqlstate};
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
    /// The first message uses a statement that the server is thought to hold.
    Used,
    /// The request, but for a Parse that we have answered, is in [`Work::kept`](super::work::Work::kept).
    Kept {
        /// The statement of that Parse.
        answered: Option<u64>,
    },
    /// It has failed; its ReadyForQuery is still to come.
    Failed(Vec<u8>),
    /// It is being sent again, and not kept any more.
    Again,
}

impl Retry {
    /// The client's message at `at` of what is being sent relies on what an earlier Parse has made, as `noted` says.
    #[inline]
    pub fn note(&mut self, at: usize, noted: Self) {
        if at == 0 && matches!(self, Self::None) {
            *self = noted;
        }
    }

    /// A request has failed and is about to be sent again: nothing of the client's may be sent before.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl Session {
    /// The client's messages up to `used` were sent, outside of a transaction.
    pub(super) fn keep_request(upstream: &mut Upstream, bytes: &[u8], used: usize) -> Result<(), End> {
        let (answered, end) = match std::mem::take(&mut upstream.work.retry) {
            Retry::Answered { id, end } => (Some(id), end),
            Retry::Used => (None, 0),
            _ => return Ok(()),
        };
        let rest = bytes.get(end..used).unwrap_or_default();
        if rest.len() <= MAX_KEPT && is_simple(rest)? {
            upstream.work.kept.clear();
            upstream.work.kept.extend_from_slice(rest);
            upstream.work.retry = Retry::Kept { answered };
        }
        Ok(())
    }

    /// Whether this error is kept from the client, because its request is sent again.
    pub(super) fn retries(upstream: &mut Upstream, failed: Option<&Owed>, error: &[u8]) -> bool {
        let Retry::Kept { answered } = std::mem::take(&mut upstream.work.retry) else { return false };
        let code = ErrorFields::new(error).sqlstate();
        let making = |owed: &Owed| Some(owed.note) == answered && is_of_its_making(code.as_bytes());
        let stale = failed.is_some_and(|owed| uses_statement(owed) && (is_missing(code) || making(owed)));
        let mut owed = upstream.pipeline.owed();
        let last = owed.next().is_some_and(|owed| owed.awaited == Awaited::Sync) && owed.next().is_none();
        drop(owed);
        if stale && last {
            upstream.work.retry = Retry::Failed(std::mem::take(&mut upstream.work.kept));
            // What the client sends up to the end of this request stands behind it.
            upstream.work.held = true;
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
        upstream.work.retry = Retry::Again;
    }
}

/// Whether a statement is not there that is used.
pub(super) fn is_missing(code: Sqlstate) -> bool {
    code.as_bytes() == b"26000"
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
