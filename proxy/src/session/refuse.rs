//! Statements that the proxy refuses, at their place in the pipeline: a text that no server takes stands in for them, and
//! its error is replaced by ours. So the server itself does what an error does: skip to the Sync, fail the transaction.

use std::collections::VecDeque;

use config::PoolMode;
use policy::verdict::Refusal;
use wire::encode::frontend as ask;
use wire::pipeline::{Awaited, Fate};

use super::brain::Look;
use super::outbox::Outbox;
use super::translate::{Message, Next};
use super::{End, Session};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// What stands in for a refused statement.
const REFUSED: &[u8] = b"*";

/// Errors of our own that stand for the failures of refused messages. They are numbered in the order of sending, which is
/// that of the replies: a client that never lets its pipeline run dry leaves none behind.
#[derive(Debug, Default)]
pub struct Refusals {
    waiting: VecDeque<Trouble>,
    /// How many are settled: the number of the first that waits.
    settled: u64,
}

impl Refusals {
    /// A message is refused; its number.
    pub fn push(&mut self, trouble: Trouble) -> u64 {
        self.waiting.push_back(trouble);
        self.settled + self.waiting.len() as u64 - 1
    }

    /// The message with this number has failed, or was skipped: so it was with all before it. What its client is told, if
    /// that was not said yet.
    pub fn settle(&mut self, number: u64) -> Option<Trouble> {
        let mut last = None;
        while self.settled <= number
            && let Some(trouble) = self.waiting.pop_front()
        {
            self.settled += 1;
            last = Some(trouble);
        }
        last
    }

    /// The message that was refused last is one that the server ignores.
    fn take_back(&mut self) {
        self.waiting.pop_back();
    }

    /// Nothing is owed any more.
    pub fn clear(&mut self) {
        self.settled += self.waiting.len() as u64;
        self.waiting.clear();
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.waiting.capacity()
    }

    /// Gives room back that is for more than so many.
    pub fn shrink_to(&mut self, most: usize) {
        self.waiting.shrink_to(most);
    }
}

impl Session {
    /// Whether this statement may not be run here.
    pub(super) fn refuses(&self, upstream: &Upstream, look: &Look<'_>) -> Option<Trouble> {
        let script = look.known.script.as_deref()?;
        if script.begins && self.pool.mode() == PoolMode::Statement {
            return Some(Refusal::TransactionBlock { database: self.pool.shared.database.clone() }.into());
        }
        self.refuses_to_leave(upstream, script)
    }

    pub(super) fn refuse_query(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        trouble: Trouble,
    ) -> Result<(), End> {
        self.count_trouble(&trouble);
        let number = upstream.work.refusals.push(trouble);
        outbox.skip(message.at, message.end);
        ask::query(outbox.insert(message.end), REFUSED).map_err(|error| End::Trouble(error.into()))?;
        if !self.push(upstream, Awaited::Query, Fate::Refuse, number) {
            upstream.work.refusals.take_back();
        }
        Ok(())
    }

    /// A message uses a statement whose result is another one than the client was told.
    #[cold]
    pub(super) fn refuse_stale(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
    ) -> Result<Next, End> {
        self.refuse_parse(upstream, outbox, message, Trouble::StaleStatement)
    }

    /// A message of the extended protocol is refused.
    pub(super) fn refuse_parse(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        message: Message<'_>,
        trouble: Trouble,
    ) -> Result<Next, End> {
        self.count_trouble(&trouble);
        let number = upstream.work.refusals.push(trouble);
        outbox.skip(message.at, message.end);
        ask::parse(outbox.insert(message.end), b"", REFUSED, &[]).map_err(|error| End::Trouble(error.into()))?;
        if !self.push(upstream, Awaited::Parse, Fate::Refuse, number) {
            upstream.work.refusals.take_back();
        }
        upstream.unnamed = None;
        Ok(Next::Go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_that_never_ends_keeps_no_refusals_that_were_told() {
        let mut refusals = Refusals::default();
        let mut next = refusals.push(Trouble::StaleStatement);
        for _ in 0..100_000 {
            let number = std::mem::replace(&mut next, refusals.push(Trouble::StaleStatement));
            assert!(refusals.settle(number).is_some());
        }
        assert!(refusals.waiting.len() == 1 && refusals.capacity() < 16);
    }

    #[test]
    fn what_is_skipped_is_told_to_nobody() {
        let mut refusals = Refusals::default();
        let numbers = [(); 4].map(|()| refusals.push(Trouble::StaleStatement));
        assert_eq!(numbers, [0, 1, 2, 3]);
        // 0 has failed and has taken 1 with it.
        assert!(refusals.settle(0).is_some() && refusals.settle(1).is_some());
        assert!(refusals.settle(3).is_some() && refusals.settle(2).is_none());
        refusals.push(Trouble::StaleStatement);
        refusals.take_back();
        let number = refusals.push(Trouble::StaleStatement);
        refusals.clear();
        assert!(refusals.settle(number).is_none());
        let number = refusals.push(Trouble::StaleStatement);
        assert!(refusals.settle(number).is_some());
    }
}
