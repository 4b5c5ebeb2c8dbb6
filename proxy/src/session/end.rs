//! How a session ends, and how it goes on when its upstream ends.

use std::time::{Duration, Instant};

use policy::verdict::Refusal;
use tokio::io::AsyncWriteExt;
use wire::encode::{backend as say, rewrite_error};
use wire::error::Field;
use wire::pipeline::{Awaited, Fate};
use wire::tag::TransactionStatus;

use super::statement::Running;
use super::{End, Session};
use crate::telemetry::{CloseReason, EventFlags};
use crate::trouble::Trouble;
use crate::upstream::{Upstream, cleaner, ender};

/// How long a client may take to accept the last words to it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What becomes of a server's last error where only a request ends with it.
const SURVIVED: [(Field, Option<&[u8]>); 2] =
    [(Field::Severity, Some(b"ERROR")), (Field::SeverityPlain, Some(b"ERROR"))];

impl Session {
    /// Whether the client need not go when the server ends this connection. Whoever ends its own server goes with it, as
    /// on a direct connection.
    pub(super) fn may_survive(&self, upstream: &Upstream) -> bool {
        let strikes = upstream.work.running.front().is_some_and(Running::strikes);
        !strikes && !self.stays_with(upstream) && upstream.pipeline.status() == TransactionStatus::Idle
    }

    /// The upstream is gone. The client keeps its connection where it can: outside of a transaction, with no message cut
    /// in two. Its first request under way is answered with what the server has said, if it has, and each other one with
    /// 08006. `false`: it has to go too, or was about to: one that has said goodbye only waited for this server.
    pub(super) fn survive(&mut self) -> bool {
        let Some(upstream) = self.lease.as_deref() else {
            return false;
        };
        let cut = upstream.streaming.left > 0 && upstream.streaming.forward;
        if cut || self.leaving || !self.may_survive(upstream) {
            return false;
        }
        let Some(mut upstream) = self.lease.take() else {
            return false;
        };
        let trouble = self.lost(false);
        self.count_trouble(&trouble);
        let mut out = Vec::new();
        let mut words = upstream.work.last_words.take();
        let mut tell = |out: &mut Vec<u8>| match words.take() {
            // The client stays: to it this is the end of its request alone.
            Some(words) if rewrite_error(out, &words, &SURVIVED).is_ok() => {}
            _ => trouble.write(false, out),
        };
        // One error for each request that was still owed something, then its ReadyForQuery. An error was not told if its
        // request was to be sent again.
        let mut told = upstream.work.failed && !upstream.work.retry.is_under_way();
        for owed in upstream.pipeline.owed() {
            let ours = owed.fate == Fate::Attempt
                || (owed.fate == Fate::Swallow && matches!(owed.awaited, Awaited::Query | Awaited::Sync));
            if ours {
                continue;
            }
            if !std::mem::replace(&mut told, true) {
                tell(&mut out);
            }
            if matches!(owed.awaited, Awaited::Sync | Awaited::Query | Awaited::FunctionCall) {
                say::ready_for_query(&mut out, TransactionStatus::Idle);
                told = false;
            }
        }
        if upstream.pipeline.is_unsynced() {
            if !told {
                tell(&mut out);
            }
            self.skipping = true;
        }
        // Whatever was not answered never happened: also what the server's last error took out of the queue.
        self.statements.revert(usize::MAX);
        self.ctl.prepared.set(self.statements.len() as u32);
        if !upstream.work.unnamed.is_empty() {
            // It was being replaced: the client must not run the one from before by a name that it has given away.
            self.unnamed_parsed = None;
        }
        self.unnamed = self.unnamed_parsed.clone();
        self.settings.rollback();
        self.end_channels(true);
        self.locals = None;
        self.resolve_tenant();
        self.streaming_forward = false;
        self.unsent.extend_from_slice(&out);
        self.look_again = true;
        self.worker.watch(&self.ctl, None);
        self.note_detached(&mut upstream, Instant::now());
        self.worker.close(&self.pool, upstream, CloseReason::ServerClosed);
        true
    }

    fn lost(&self, in_transaction: bool) -> Trouble {
        Refusal::UpstreamLost { database: self.pool.shared.database.clone(), in_transaction }.into()
    }

    /// Gives everything back and says the last words.
    pub(super) async fn end(mut self, end: End) {
        let now = Instant::now();
        if self.waiting_since.is_some() {
            self.worker.give_up(&self.pool, &self.ctl);
            self.end_waiting(now);
        }
        let words = self.last_words(&end);
        self.dispose(&end, now);
        self.tell_border(EventFlags::SESSION_END);
        if let Some(trouble) = &words {
            self.count_trouble(trouble);
            trouble.write(true, &mut self.unsent);
        }
        if words.is_some() || matches!(end, End::ServerEnded) {
            let out = std::mem::take(&mut self.unsent);
            // A client that does not take them goes without.
            let farewell = async {
                self.client.write_all(&out).await?;
                self.client.shutdown().await
            };
            drop(tokio::time::timeout(LAST_WORDS, farewell).await);
        }
    }

    fn last_words(&self, end: &End) -> Option<Trouble> {
        match end {
            End::ClientGone | End::Terminated | End::ServerEnded => None,
            End::UpstreamLost if self.leaving => None,
            End::UpstreamLost | End::UpstreamBroken(_) => {
                let open = |status| status != TransactionStatus::Idle;
                let upstream = self.lease.as_deref();
                Some(self.lost(upstream.is_some_and(|upstream| open(upstream.pipeline.status()))))
            }
            End::SettingsFailed => Some(Trouble::SettingsFailed),
            End::Trouble(trouble) => {
                if let Trouble::Protocol(error) = trouble {
                    self.worker.telemetry.load().protocol_violations.increment();
                    tracing::info!(client = self.ctl.client, address = %self.ctl.face.ends.peer(), %error, "client closed");
                }
                Some(trouble.clone())
            }
        }
    }

    /// Finds out what is to become of the upstream.
    fn dispose(&mut self, end: &End, now: Instant) {
        let Some(mut upstream) = self.lease.take() else { return };
        let close = match end {
            End::UpstreamLost | End::ServerEnded => Some(CloseReason::ServerClosed),
            End::UpstreamBroken(what) => {
                tracing::warn!(upstream = upstream.id, what, "the server broke the protocol");
                Some(CloseReason::Protocol)
            }
            End::SettingsFailed => Some(CloseReason::Unclean),
            // The server waits for the rest of a message that will never come.
            _ if self.streaming > 0 && self.streaming_forward => Some(CloseReason::Unclean),
            End::Trouble(Trouble::Refused(refusal)) if matches!(**refusal, Refusal::StatementTimeout { .. }) => {
                Some(CloseReason::Overdue)
            }
            _ => None,
        };
        // What was being run may have changed the session behind our back; so may settings of ours that are still
        // being made: the next client must not be served under this one's.
        let unknown = upstream.work.prologue.is_some()
            || upstream.work.running.iter().any(|running| running.known.script.is_some());
        upstream.tainted |= unknown || self.stays_with(&upstream);
        self.note_detached(&mut upstream, now);
        match close {
            Some(CloseReason::Overdue) => ender::end(&self.worker, &self.pool, upstream),
            Some(reason) => self.worker.close(&self.pool, upstream, reason),
            None if upstream.is_clean() => self.worker.check_in(&self.pool, upstream, now),
            None => cleaner::clean(&self.worker, &self.pool, upstream),
        }
    }
}
