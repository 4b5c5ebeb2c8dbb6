//! The replies that one server connection owes, in order.
//!
//! Every message that is sent to a server is pushed here first; every message that comes back is offered to
//! [`Pipeline::reply`], which says what the client gets to see of it. What we added (a missing Parse, a SET) is
//! swallowed; what we kept back (a Parse that the server already knows) is made up, but only when it reaches the
//! head of the queue, so that a client sees exactly the order that a server would have given.
//!
//! ```text
//! sent:   P(known)   B        E        S
//! queue:  Substitute Forward  Forward  Forward   ◄── head: ParseComplete is made up at once
//! comes:             2        D D C    Z         ◄── Z pops the Sync: nothing is owed, a boundary
//! ```
//!
//! Contract: push in the order of sending; after a push and after each reply call [`Pipeline::made_up`] until it is
//! `None`. An `Err` means that the server broke the protocol: the connection can only be closed.
//!
//! Rules verified against PostgreSQL 15: an error makes the server skip to the next Sync (also over simple queries);
//! during COPY … FROM STDIN it ignores Sync and Flush, so that one ReadyForQuery answers several Syncs; copy messages
//! outside of a copy are ignored.

use std::collections::VecDeque;
use std::fmt;

use crate::tag::{Backend, TransactionStatus};

/// What a message that was sent makes the server say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// ParseComplete.
    Parse,
    /// BindComplete.
    Bind,
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows or copy, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// Any number of results, then ReadyForQuery.
    Query,
    /// FunctionCallResponse, then ReadyForQuery.
    FunctionCall,
    /// Nothing: marks where the client ended a copy that the server had not yet begun when it was sent.
    CopyEnd,
}

impl Awaited {
    /// Whether ReadyForQuery ends it.
    fn ends_with_ready(self) -> bool {
        matches!(self, Awaited::Sync | Awaited::Query | Awaited::FunctionCall)
    }

    /// Whether rows may come for it.
    fn yields_rows(self) -> bool {
        matches!(self, Awaited::Execute | Awaited::Query)
    }
}

/// What the client gets to see of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The reply itself.
    Forward,
    /// Nothing: the message was ours.
    Swallow,
    /// Nothing, not even an error: the message was ours, and nothing rests on it.
    Attempt,
    /// The message was never sent; its reply is made up when it reaches the head.
    Substitute,
    /// The message was replaced by one that must fail; the client gets our error for the server's.
    Refuse,
}

/// One reply that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// What ends it.
    pub awaited: Awaited,
    /// What the client sees of it.
    pub fate: Fate,
    /// Whose message it was. A reply is never delivered to anybody else.
    pub client: u64,
    /// The caller's own: a statement's id, the number of a refusal.
    pub note: u64,
}

/// What to do with a message that came from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Give it to the client as it is.
    Forward,
    /// Keep it from the client.
    Swallow,
    /// Give the client our own error in its place; the number is the refused entry's note.
    Replace(u64),
    /// A statement of ours (settings) failed: what the client sent behind it ran under wrong settings. Close.
    OursFailed,
    /// An error that nothing asked for: the server is closing the connection. Forward, then close.
    Unasked,
}

/// A message judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// What the client sees.
    pub delivery: Delivery,
    /// The entry that the message belongs to, if any.
    pub owed: Option<Owed>,
    /// Whether the message ended that entry.
    pub done: bool,
}

/// The server said what it must not say here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfTurn {
    /// What came.
    pub tag: Backend,
    /// What was awaited.
    pub awaited: Option<Awaited>,
}

impl fmt::Display for OutOfTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.awaited {
            Some(awaited) => write!(f, "the server sent {:?} while the reply to {awaited:?} was due", self.tag),
            None => write!(f, "the server sent {:?} while no reply was due", self.tag),
        }
    }
}

impl std::error::Error for OutOfTurn {}

/// The queue of replies that one server connection owes.
#[derive(Debug)]
pub struct Pipeline {
    queue: VecDeque<Owed>,
    /// An error was seen and the client's next Sync was not: the server ignores what comes until then.
    skipping: bool,
    /// The server waits for copy rows: it ignores Sync and Flush.
    copy_in: bool,
    /// The client is within an extended request: its Sync is still to come.
    unsynced: bool,
    status: TransactionStatus,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline {
    /// A fresh connection that has said ReadyForQuery (idle).
    pub const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            skipping: false,
            copy_in: false,
            unsynced: false,
            status: TransactionStatus::Idle,
        }
    }

    /// Nothing is owed, no copy is open and the client has ended its request: what comes next belongs to the next one.
    #[inline]
    pub fn is_boundary(&self) -> bool {
        self.queue.is_empty() && !self.unsynced && !self.copy_in
    }

    /// A boundary outside a transaction: another client may use the connection.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.is_boundary() && self.status == TransactionStatus::Idle
    }

    /// The transaction status of the last ReadyForQuery.
    #[inline]
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// The server waits for copy rows.
    pub fn is_copying_in(&self) -> bool {
        self.copy_in
    }

    /// The client is within an extended request: its Sync is still to come.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// The entry whose reply is due next.
    #[inline]
    pub fn head(&self) -> Option<&Owed> {
        self.queue.front()
    }

    /// Replies owed.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A long pipeline leaves room for all of its entries behind: what is more than for `entries` is given back.
    #[inline]
    pub fn trim(&mut self, entries: usize) {
        self.queue.shrink_to(entries);
    }

    /// Notes a message that is sent (or kept back, with [`Fate::Substitute`]).
    /// `false`: the server will ignore it, so that nothing may be concluded from having sent it.
    #[inline]
    pub fn push(&mut self, owed: Owed) -> bool {
        if self.copy_in {
            // Sync is ignored during a copy; anything else makes the copy fail, and is lost with it.
            self.copy_in = owed.awaited == Awaited::Sync;
            return false;
        }
        match owed.awaited {
            Awaited::Sync => self.unsynced = false,
            // They end what stood before them, as a Sync does, unless they are skipped themselves.
            Awaited::Query | Awaited::FunctionCall if !self.skipping => self.unsynced = false,
            Awaited::Query | Awaited::FunctionCall | Awaited::CopyEnd => {}
            _ => self.unsynced = true,
        }
        if self.skipping {
            if owed.awaited != Awaited::Sync {
                return false;
            }
            self.skipping = false;
        }
        self.queue.push_back(owed);
        true
    }

    /// Notes copy rows from the client; `false`: no copy can be open, drop them as a server would.
    pub fn copy_data(&self) -> bool {
        self.copy_in || !self.queue.is_empty()
    }

    /// Notes the client's CopyDone or CopyFail; `false`: no copy can be open, drop it.
    pub fn copy_end(&mut self, client: u64) -> bool {
        if self.copy_in {
            self.copy_in = false;
            return true;
        }
        if self.queue.is_empty() {
            return false;
        }
        self.queue.push_back(Owed { awaited: Awaited::CopyEnd, fate: Fate::Swallow, client, note: 0 });
        true
    }

    /// Whether the server will ignore a message (other than Sync) that is sent now: it skips to a Sync, or copies.
    #[inline]
    pub fn ignores(&self) -> bool {
        self.skipping || self.copy_in
    }

    /// Takes the made-up reply that is due, if one is.
    #[inline]
    pub fn made_up(&mut self) -> Option<Owed> {
        loop {
            let head = *self.queue.front()?;
            if head.awaited == Awaited::CopyEnd {
                self.queue.pop_front();
                continue;
            }
            if head.fate != Fate::Substitute {
                return None;
            }
            self.queue.pop_front();
            return Some(head);
        }
    }

    /// Judges a message from the server, ReadyForQuery excepted. `skipped` is told every entry that an error takes
    /// with it, in order, the failed one first.
    #[inline]
    pub fn reply(&mut self, tag: Backend, skipped: impl FnMut(Owed)) -> Result<Reply, OutOfTurn> {
        use Backend as B;
        let head = self.queue.front().copied();
        let awaited = head.map(|owed| owed.awaited);
        let fits = |wanted: bool| if wanted { Ok(()) } else { Err(OutOfTurn { tag, awaited }) };
        let done = match (tag, awaited) {
            (B::DataRow | B::CopyData | B::CopyDone | B::CopyOutResponse | B::CopyBothResponse, Some(a)) => {
                fits(a.yields_rows())?;
                false
            }
            (B::CommandComplete | B::EmptyQueryResponse, Some(a)) => {
                fits(a.yields_rows())?;
                a == Awaited::Execute
            }
            (B::PortalSuspended, Some(Awaited::Execute))
            | (B::ParseComplete, Some(Awaited::Parse))
            | (B::BindComplete, Some(Awaited::Bind))
            | (B::CloseComplete, Some(Awaited::Close))
            | (B::NoData, Some(Awaited::DescribeStatement | Awaited::DescribePortal))
            | (B::RowDescription, Some(Awaited::DescribeStatement | Awaited::DescribePortal)) => true,
            (B::RowDescription, Some(Awaited::Query))
            | (B::ParameterDescription, Some(Awaited::DescribeStatement))
            | (B::FunctionCallResponse, Some(Awaited::FunctionCall)) => false,
            (B::CopyInResponse, Some(a)) => {
                fits(a.yields_rows())?;
                self.begin_copy_in();
                false
            }
            (B::NoticeResponse | B::ParameterStatus | B::NotificationResponse, _) => {
                let ours = head.is_some_and(|owed| match owed.fate {
                    Fate::Swallow => owed.awaited == Awaited::Query,
                    fate => fate == Fate::Attempt,
                });
                let swallow = ours && tag != B::NotificationResponse;
                let delivery = if swallow { Delivery::Swallow } else { Delivery::Forward };
                return Ok(Reply { delivery, owed: None, done: false });
            }
            (B::ErrorResponse, _) => return Ok(self.error(skipped)),
            _ => return Err(OutOfTurn { tag, awaited }),
        };
        if done {
            self.queue.pop_front();
        }
        let delivery = match head.map(|owed| owed.fate) {
            Some(Fate::Forward) => Delivery::Forward,
            Some(Fate::Swallow | Fate::Attempt) => Delivery::Swallow,
            // What was meant to fail did not, or a reply came for a message that was never sent.
            Some(Fate::Refuse | Fate::Substitute) | None => return Err(OutOfTurn { tag, awaited }),
        };
        Ok(Reply { delivery, owed: head, done })
    }

    /// Judges ReadyForQuery.
    #[inline]
    pub fn ready(&mut self, status: TransactionStatus) -> Result<Reply, OutOfTurn> {
        match self.queue.front().copied() {
            Some(owed) if owed.awaited.ends_with_ready() => {
                self.queue.pop_front();
                self.copy_in = false;
                self.status = status;
                let ours = matches!(owed.fate, Fate::Swallow | Fate::Attempt);
                let delivery = if ours { Delivery::Swallow } else { Delivery::Forward };
                Ok(Reply { delivery, owed: Some(owed), done: true })
            }
            head => Err(OutOfTurn { tag: Backend::ReadyForQuery, awaited: head.map(|owed| owed.awaited) }),
        }
    }

    /// The entries that are owed, first due first.
    pub fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.queue.iter()
    }

    fn error(&mut self, mut skipped: impl FnMut(Owed)) -> Reply {
        self.copy_in = false;
        let Some(head) = self.queue.front().copied() else {
            let delivery = if self.skipping { Delivery::Forward } else { Delivery::Unasked };
            return Reply { delivery, owed: None, done: false };
        };
        let delivery = match (head.fate, head.awaited) {
            (Fate::Refuse, _) => Delivery::Replace(head.note),
            (Fate::Attempt, _) => Delivery::Swallow,
            (Fate::Swallow, Awaited::Query | Awaited::Sync) => Delivery::OursFailed,
            // The missing Parse that we added failed: that is why the client's Bind fails, so it is told.
            _ => Delivery::Forward,
        };
        let mut done = false;
        if !head.awaited.ends_with_ready() {
            done = true;
            while let Some(next) = self.queue.front().copied() {
                if next.awaited == Awaited::Sync {
                    break;
                }
                self.queue.pop_front();
                if next.awaited != Awaited::CopyEnd {
                    skipped(next);
                }
            }
            self.skipping = self.queue.is_empty();
            // What stood behind it was skipped too, a Query that would have ended it among it.
            self.unsynced |= self.skipping;
        }
        Reply { delivery, owed: Some(head), done }
    }

    /// The server has begun to read copy rows: it will ignore the Syncs that were sent up to the end of the copy.
    fn begin_copy_in(&mut self) {
        let end = self.queue.iter().position(|owed| owed.awaited == Awaited::CopyEnd);
        self.copy_in = end.is_none();
        let mut index = 0;
        self.queue.retain(|owed| {
            let within = end.is_none_or(|end| index <= end);
            index += 1;
            !(within && matches!(owed.awaited, Awaited::Sync | Awaited::CopyEnd))
        });
        if self.queue.front().is_some_and(|owed| owed.awaited == Awaited::Execute) {
            self.unsynced = !self.queue.iter().any(|owed| owed.awaited == Awaited::Sync);
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
