//! What a server's error means for what was noted when the messages were sent that it answers.

use std::time::Instant;

use config::{LimitKey, Mode};
use policy::verdict::Refusal;
use wire::encode::rewrite_error;
use wire::error::{ErrorFields, Field};
use wire::pipeline::{Awaited, Fate, Owed};
use wire::prepared::write_server_name;

use super::outbox::Outbox;
use super::reply::Message;
use super::statement::Running;
use super::{End, Session, provide, retry, unnamed};
use crate::telemetry::{Rare, Sqlstate};
use crate::trouble::Trouble;
use crate::upstream::{NAMED, UNNAMED, Upstream};

/// What a server says that must not be written to.
const READ_ONLY: &str = "25006";

impl Session {
    /// An error has come, and has taken `skipped` with it: what was noted when these were sent is not so.
    pub(super) fn on_error(&mut self, upstream: &mut Upstream, message: Message<'_>, skipped: Vec<Owed>, now: Instant) {
        upstream.work.failed = true;
        upstream.work.vacating = None;
        let sqlstate = Sqlstate::new(ErrorFields::new(message.body()).sqlstate().as_bytes());
        if sqlstate.as_str() == READ_ONLY {
            self.worker.doubt(&self.pool);
        }
        let runs = |owed: &Owed| matches!(owed.awaited, Awaited::Query | Awaited::Execute);
        if skipped.first().or(upstream.pipeline.head()).is_some_and(|owed| runs(owed) && owed.fate == Fate::Forward) {
            self.look_at_time(upstream, now);
            let told = upstream.work.running.front_mut().map(|running| std::mem::take(&mut running.notices));
            upstream.work.notices.end(told.unwrap_or_default());
        }
        if skipped.is_empty() {
            // A simple query, or the commit that a Sync made. One that was refused is not among those that run: the first of
            // them was sent behind it, and has not failed.
            let is_run = |owed: &Owed| owed.awaited == Awaited::Query && owed.fate == Fate::Forward;
            if let Some(running) = upstream.work.running.front_mut()
                && upstream.pipeline.head().is_some_and(is_run)
            {
                running.error = Some(sqlstate);
                upstream.tainted |= running.outlives_failure();
            }
            return;
        }
        if let Some(user) = skipped.first().filter(|owed| provide::uses_statement(owed)) {
            let code = ErrorFields::new(message.body()).sqlstate();
            if retry::is_missing(code) {
                // Something unseen has taken it away, and whatever else there was.
                upstream.prepared.doubt_all();
                upstream.tainted = true;
            } else if provide::is_of_its_making(code.as_bytes()) {
                upstream.tainted |= !upstream.prepared.doubt(user.note);
            }
        }
        let (mut renamed, mut unnamed) = (0, 0);
        for (place, owed) in skipped.iter().enumerate() {
            let first = place == 0;
            upstream.skipped(owed);
            match owed.awaited {
                Awaited::Execute | Awaited::Query if first => {
                    upstream.tainted |= upstream.work.running.front().is_some_and(Running::outlives_failure);
                    self.finish(upstream, 0, Some(sqlstate), false, now);
                }
                Awaited::Execute | Awaited::Query if owed.fate == Fate::Forward => {
                    upstream.work.running.pop_front();
                }
                Awaited::DescribeStatement if owed.fate == Fate::Swallow => upstream.work.verifying = None,
                Awaited::DescribeStatement | Awaited::DescribePortal => {
                    upstream.work.describing.pop_front();
                }
                _ => {}
            }
            renamed += usize::from(unnamed::changes(owed, NAMED));
            unnamed += usize::from(owed.fate != Fate::Swallow && unnamed::changes(owed, UNNAMED));
        }
        let own =
            |owed: &Owed| owed.fate == Fate::Forward && owed.awaited == Awaited::Parse && owed.note & UNNAMED != 0;
        let failed = skipped.first().is_some_and(own);
        self.skip_unnamed(upstream, unnamed, failed);
        self.statements.revert(renamed);
        self.ctl.prepared.set(self.statements.len() as u32);
        if skipped.first().is_some_and(|owed| owed.awaited == Awaited::Parse && owed.fate == Fate::Forward) {
            self.count_failed_parse(upstream, sqlstate, now);
        }
    }

    /// An error about a statement that the server does not have, with the client's own name for it.
    pub(super) fn rename_statement(&self, message: Message<'_>, failed: Option<&Owed>) -> Option<Vec<u8>> {
        let fields = ErrorFields::new(message.body());
        let used = failed.filter(|owed| provide::uses_statement(owed) && retry::is_missing(fields.sqlstate()))?;
        let mut ours = Vec::new();
        write_server_name(used.note, &mut ours);
        let said = fields.field(Field::Message)?;
        let at = said.windows(ours.len()).position(|part| part == ours)?;
        let named = self.statements.in_order();
        let name = named.iter().find(|(_, _, prepared)| prepared.id == used.note).map_or(&b""[..], |(name, ..)| name);
        let said = [said.get(..at)?, name, said.get(at + ours.len()..)?].concat();
        let mut out = Vec::new();
        rewrite_error(&mut out, message.body(), &[(Field::Message, Some(&said))]).ok()?;
        Some(out)
    }

    /// The server ends the connection, and says why.
    #[cold]
    pub(super) fn on_last_words(&self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, message: Message<'_>) -> End {
        if !self.may_survive(upstream) {
            return End::ServerEnded;
        }
        // The request that it strikes is told by us, in these words.
        upstream.work.last_words = Some(message.body().into());
        outbox.skip(message.at, message.end());
        End::UpstreamLost
    }

    /// The server's error told in our words, where it is our doing: a statement that ran into its tenant's limit.
    pub(super) fn translate_error(
        &self,
        upstream: &mut Upstream,
        message: Message<'_>,
        now: Instant,
    ) -> Option<Trouble> {
        let code = ErrorFields::new(message.body()).sqlstate();
        // Whatever ends it, it is not told of a later one.
        let exceeds = upstream.work.exceeds.take();
        if code != wire::error::Sqlstate::QUERY_CANCELED {
            return None;
        }
        if let Some(exceeds) = exceeds {
            self.count_trouble(&exceeds);
            return Some(*exceeds);
        }
        if upstream.work.cancelled {
            return None;
        }
        let deadline = upstream.work.due().filter(|_| upstream.work.timed_out);
        let (key, limit) = match deadline {
            Some(deadline) => (deadline.key(), deadline.limit()),
            None => (LimitKey::StatementTimeout, self.statement_limit()?),
        };
        if !upstream.work.timed_out && (self.has_shorter_timeout(limit) || !self.has_run_for(upstream, limit, now)) {
            return None;
        }
        self.reached(key, Mode::Enforce);
        if key == LimitKey::StatementTimeout {
            self.worker.telemetry.happened(self.meter(), Rare::StatementTimeout);
        }
        let named = deadline.and(upstream.work.named());
        let trouble = Trouble::from(Refusal::StatementTimeout { limited: self.limited(key, named), limit });
        self.count_trouble(&trouble);
        Some(trouble)
    }
}
