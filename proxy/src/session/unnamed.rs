//! The unnamed statement of a client: as it was sent last, and as the server has acknowledged it.
//!
//! A client may replace it any number of times before the first answer comes, and an error makes the server skip some of
//! these: which one is left is known by what was answered, not by what was sent last. The changes that are on their way
//! stand in the upstream's work, so that an idle client has no queue.

use std::rc::Rc;

use wire::frame;
use wire::pipeline::{Awaited, Owed};
use wire::tag::Frontend;

use super::request::head;
use super::statement::Prepared;
use super::{End, Session};
use crate::upstream::{NAMED, UNNAMED, Upstream};

impl Session {
    /// A message that makes this one the unnamed statement was sent; `None`: one that takes it away.
    #[inline]
    pub(super) fn set_unnamed(&mut self, upstream: &mut Upstream, statement: Option<Rc<Prepared>>) {
        upstream.work.unnamed.push_back(statement.clone());
        self.unnamed = statement;
    }

    /// A simple query was sent: it takes the unnamed statement with it, whatever else is still on its way.
    #[inline]
    pub(super) fn drop_unnamed(&mut self, upstream: &mut Upstream) {
        self.unnamed = None;
        self.unnamed_parsed = None;
        upstream.unnamed = None;
        upstream.work.unnamed.iter_mut().for_each(|statement| *statement = None);
    }

    /// The oldest change that is on its way has been answered.
    #[inline]
    pub(super) fn settle_unnamed(&mut self, upstream: &mut Upstream) {
        self.unnamed_parsed = upstream.work.unnamed.pop_front().flatten();
    }

    /// An error took `count` changes with it. A Parse that `failed` itself has taken away what was there before it.
    pub(super) fn skip_unnamed(&mut self, upstream: &mut Upstream, count: usize, failed: bool) {
        if count == 0 {
            return;
        }
        if failed {
            self.unnamed_parsed = None;
        }
        let sent = &mut upstream.work.unnamed;
        sent.drain(..count.min(sent.len()));
        self.unnamed = match sent.back() {
            Some(later) => later.clone(),
            None => self.unnamed_parsed.clone(),
        };
    }

    /// A request fails here with its first message, before it has an upstream. A server forgets the unnamed statement before
    /// it looks at what takes its place: a client that binds it all the same must not run the one from before.
    pub(super) fn forget_replaced(&mut self, bytes: &[u8]) -> Result<(), End> {
        let Some(head) = head(bytes)? else { return Ok(()) };
        let replaces = match Frontend::from_byte(head.tag) {
            Some(Frontend::Query) => true,
            Some(Frontend::Parse) => bytes.get(frame::HEAD) == Some(&0),
            _ => false,
        };
        if replaces {
            (self.unnamed, self.unnamed_parsed) = (None, None);
        }
        Ok(())
    }

    /// Whether what this name stands for depends on an answer: a change of it is on its way, and stands before a Sync, so
    /// that an error would undo the change and yet not skip what comes now.
    #[inline]
    pub(super) fn is_uncertain(&self, upstream: &Upstream, name: &[u8]) -> bool {
        let changes = match name.is_empty() {
            true => !upstream.work.unnamed.is_empty(),
            false => self.statements.is_unsettled(name),
        };
        changes && synced_change(upstream, if name.is_empty() { UNNAMED } else { NAMED })
    }
}

/// Whether a Sync is owed behind a change that carries this mark.
fn synced_change(upstream: &Upstream, mark: u64) -> bool {
    let mut owed = upstream.pipeline.owed().skip_while(|owed| !changes(owed, mark));
    owed.any(|owed| owed.awaited == Awaited::Sync)
}

/// Whether the entry's answer settles a change that carries this mark.
pub(super) fn changes(owed: &Owed, mark: u64) -> bool {
    matches!(owed.awaited, Awaited::Parse | Awaited::Close) && owed.note & mark != 0
}
