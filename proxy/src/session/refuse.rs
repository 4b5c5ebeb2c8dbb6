//! Statements that the proxy refuses, at their place in the pipeline: a text that no server takes stands in for them, and
//! its error is replaced by ours. So the server itself does what an error does: skip to the Sync, fail the transaction.

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
        let note = upstream.work.refusals.len() as u64;
        upstream.work.refusals.push(trouble);
        outbox.skip(message.at, message.end);
        ask::query(outbox.insert(message.end), REFUSED).map_err(|error| End::Trouble(error.into()))?;
        self.push(upstream, Awaited::Query, Fate::Refuse, note);
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
        let note = upstream.work.refusals.len() as u64;
        upstream.work.refusals.push(trouble);
        outbox.skip(message.at, message.end);
        ask::parse(outbox.insert(message.end), b"", REFUSED, &[]).map_err(|error| End::Trouble(error.into()))?;
        self.push(upstream, Awaited::Parse, Fate::Refuse, note);
        upstream.unnamed = None;
        Ok(Next::Go)
    }
}
