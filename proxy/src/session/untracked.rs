//! Session state that cannot be carried to another upstream: what is done about it, who is told, and how a client that
//! keeps its upstream for it comes to give it back.

use std::time::Instant;

use config::{ListenWay, OnUntracked, PoolMode};
use policy::limits::{Clamp, clamp};
use policy::verdict::{Refusal, SessionState};
use wire::encode::frontend as ask;
use wire::encode::{Report, Severity};
use wire::error::Sqlstate;
use wire::params::Value;
use wire::pipeline::{Awaited, Fate};
use wire::tag::TransactionStatus;

use super::effects::{mentions_temporary, plain};
use super::names::Names;
use super::outbox::Outbox;
use super::script::{Act, Script};
use super::statement::{Inspected, Known};
use super::work::Probe;
use super::{End, Session};
use crate::telemetry::{PinReason, Rare, Untracked};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// Answers with a row if anything of the client's is left on its server: what [`is_provable`] names. Operators and
/// functions are named with their schema, as the client's search path is in force. Whatever is in the schema of temporary
/// objects depends on it, which is how the server finds it too when it empties that; 2615 is `pg_namespace`.
const ANYTHING_LEFT: &[u8] = b"SELECT 1 WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
OR EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
OR EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
WHERE pg_catalog.left(name, 7) OPERATOR(pg_catalog.<>) 'pgweir_') \
OR EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
AND refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid)";

/// Whether the server can be asked if it is still there.
fn is_provable(state: SessionState) -> bool {
    use SessionState::{AdvisoryLock, HeldCursor, Listen, SqlPrepare, StatementNames, TemporaryObject};
    matches!(state, AdvisoryLock | HeldCursor | Listen | SqlPrepare | StatementNames | TemporaryObject)
}

/// The bits of those of which it can not.
fn unprovable() -> u16 {
    SessionState::ALL.into_iter().filter(|state| !is_provable(*state)).fold(0, |bits, state| bits | bit(state))
}

fn bit(state: SessionState) -> u16 {
    1 << (state as u16)
}

impl Session {
    /// The client has this upstream to itself: it shares its fate.
    pub(super) fn stays_with(&self, upstream: &Upstream) -> bool {
        // Statements under its own names are nowhere else, also when the pool has left session mode meanwhile.
        let named = self.names == Names::Own && !self.statements.is_empty();
        upstream.work.pinned.is_some() || named || self.pool.mode() == PoolMode::Session
    }

    /// What is to be done about such state: the tenant's answer before the pool's.
    pub(super) fn on_untracked(&self, state: SessionState) -> OnUntracked {
        let tenant = self.limits.on_untracked;
        tenant.unwrap_or_else(|| self.pool.settings().untracked.of(state))
    }

    /// Whether what this statement would leave behind is refused here.
    pub(super) fn refuses_to_leave(&self, upstream: &Upstream, script: &Script) -> Option<Trouble> {
        if self.pool.mode() == PoolMode::Session {
            return None;
        }
        let recalled = (script.recalls && recalls_others(upstream)).then_some(SessionState::SequenceState);
        let left = script.parts.iter().flatten().filter_map(|act| match act {
            Act::Leave(state) => Some(*state),
            Act::Listen(_) if self.pool.settings().listen.way == ListenWay::Pin => Some(SessionState::Listen),
            _ => None,
        });
        let named = self.reaches_for_names(script).then_some(SessionState::StatementNames);
        let state = left.chain(recalled).chain(named).find(|state| self.on_untracked(*state) == OnUntracked::Reject)?;
        Some(self.reject(state))
    }

    /// A statement is refused for what it would leave.
    pub(super) fn reject(&self, state: SessionState) -> Trouble {
        self.pool.meter.rejects.increment(PinReason::from(state));
        self.tell(state, OnUntracked::Reject, 0);
        Refusal::NotInThisMode { state, mode: self.pool.mode() }.into()
    }

    /// Something was left on this upstream: the client keeps it, or nobody gets it before it has been reset.
    pub(super) fn leave(&mut self, upstream: &mut Upstream, state: SessionState) {
        let fingerprint = upstream.work.running.front().map_or(0, |running| running.known.shape.strict);
        self.leave_by(upstream, state, fingerprint);
    }

    pub(super) fn leave_by(&mut self, upstream: &mut Upstream, state: SessionState, fingerprint: u64) {
        upstream.tainted = true;
        if matches!(state, SessionState::Load | SessionState::Seed) {
            // No reset undoes it: the upstream is closed when it is next to be used.
            upstream.expires = Some(Instant::now());
        }
        if self.pool.mode() == PoolMode::Session || upstream.work.pins & bit(state) != 0 {
            return;
        }
        // What is refused has been refused when it was sent, as far as its text shows; the rest is not kept.
        match self.on_untracked(state) {
            OnUntracked::Pin => {
                upstream.work.pins |= bit(state);
                self.tell(state, OnUntracked::Pin, fingerprint);
                self.pin(upstream, state, fingerprint);
            }
            OnUntracked::Discard | OnUntracked::Reject => {
                self.pool.meter.discards.increment(PinReason::from(state));
                self.tell(state, OnUntracked::Discard, fingerprint);
            }
        }
    }

    /// Whether a text may run a function that changes its session. `cache` keeps the answer; a text that is not there any
    /// more is distrusted.
    #[inline]
    pub(super) fn is_suspect(&self, cache: Option<&Inspected>, known: &Known, sql: Option<&[u8]>) -> bool {
        let version = self.pool.suspects_version();
        if version == 0 {
            return false;
        }
        let look = || {
            let concern = |sql: &[u8]| self.pool.suspects().concern(sql, !self.escapes, known.reads);
            sql.is_none_or(concern)
        };
        // How it is read depends on the session: nothing is kept for those that read strings in the other way. The answer
        // is for all texts that are the same without the comments at their ends: one that is only known in part, because of
        // such a comment maybe, must not decide for them.
        let known = |sql: &[u8]| sql.len() <= policy::statement::MAX_ANALYSED;
        match cache.filter(|_| !self.escapes && sql.is_none_or(known)) {
            Some(cache) => cache.or_look(version, look),
            None => look(),
        }
    }

    /// Whether such a text is refused here; not as long as nothing is known and every text is suspect.
    pub(super) fn refuses_suspects(&self) -> Option<Trouble> {
        let refuses = self.on_untracked(SessionState::Function) == OnUntracked::Reject;
        let known = !self.pool.suspects().is_unknown() && self.pool.mode() != PoolMode::Session;
        (refuses && known).then(|| self.reject(SessionState::Function))
    }

    /// Such a text is on its way to the server.
    #[cold]
    pub(super) fn distrust(&mut self, upstream: &mut Upstream, fingerprint: u64) {
        if self.pool.suspects().is_unknown() {
            upstream.tainted = true;
        } else {
            self.leave_by(upstream, SessionState::Function, fingerprint);
        }
    }

    /// Functions were made or changed: what is known of them does not hold any more, here at once and for everybody when
    /// the transaction has ended.
    pub(super) fn redefined(&mut self, upstream: &mut Upstream) {
        if self.pool.settings().inspect_functions.is_some() {
            upstream.tainted = true;
            upstream.work.defines = true;
        }
    }

    fn pin(&self, upstream: &mut Upstream, state: SessionState, fingerprint: u64) {
        if upstream.work.pinned.is_none() {
            upstream.work.pinned = Some(state);
            self.pool.meter.pinned.up();
            let reason = PinReason::from(state);
            self.pool.meter.pins.increment(reason);
            self.ctl.pinned.set(Some((reason.label(), fingerprint)));
        }
    }

    /// Nothing keeps the client on its upstream any more. What may be left on it is reset all the same.
    pub(super) fn unpin(&self, upstream: &mut Upstream) {
        upstream.work.pins = 0;
        upstream.work.may_be_free = false;
        if upstream.work.pinned.take().is_some() {
            self.pool.meter.pinned.down();
            self.pool.meter.pins_ended.increment();
            self.ctl.pinned.set(None);
        }
    }

    /// Who did what, for operators. Such statements are rare, and each costs the server a reset or a connection.
    fn tell(&self, state: SessionState, answer: OnUntracked, fingerprint: u64) {
        let Some(scope) = &self.scope else { return };
        let what = match answer {
            OnUntracked::Pin => Rare::Pin,
            OnUntracked::Discard => Rare::Discard,
            OnUntracked::Reject => Rare::Reject,
        };
        self.worker.telemetry.happened(self.meter(), what);
        let now_us = self.now_us(Instant::now());
        self.worker.shared.telemetry.untracked.note(
            Untracked {
                reason: PinReason::from(state).label(),
                answer: answer.word(),
                database: scope.value.database.clone(),
                user: scope.value.user.clone(),
                tenant: scope.value.tenant.clone(),
                application: scope.value.application.clone(),
                fingerprint,
            },
            self.ctl.client,
            now_us,
        );
    }

    /// At a free boundary of a client that keeps its upstream: if what it kept it for may be gone, the server is asked.
    /// `true`: it is, and the client's messages wait for the answer.
    pub(super) fn asks_whether_free(&mut self) -> Result<bool, End> {
        let pool_mode = self.pool.mode();
        let shadowed = self.settings.current().find("search_path").is_some_and(mentions_temporary);
        let Some(upstream) = self.lease.as_deref_mut() else { return Ok(false) };
        let may_be_free = std::mem::take(&mut upstream.work.may_be_free);
        let pinned = upstream.work.pinned.is_some() && pool_mode != PoolMode::Session;
        if !(may_be_free && pinned) || shadowed || upstream.work.pins & unprovable() != 0 {
            return Ok(false);
        }
        ask::query(&mut upstream.unsent, ANYTHING_LEFT).map_err(|error| End::Trouble(error.into()))?;
        self.look_again = true;
        let Some(mut upstream) = self.lease.take() else { return Ok(false) };
        self.push(&mut upstream, Awaited::Query, Fate::Swallow, 0);
        upstream.unnamed = None;
        upstream.work.probe = Probe::Asked(false);
        upstream.work.held = true;
        self.lease = Some(upstream);
        Ok(true)
    }

    /// The server has answered.
    pub(super) fn on_probe_answered(&self, upstream: &mut Upstream, left: bool) {
        upstream.work.probe = Probe::Answered;
        upstream.work.failed = false;
        if !left {
            self.unpin(upstream);
        }
    }

    /// `currval` and `lastval` where nothing of this lease can have drawn: what another client has drawn on this upstream
    /// must not be told. To be called before anything of the statement is sent.
    pub(super) fn forget_sequences(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        script: Option<&Script>,
    ) -> Result<(), End> {
        let alone = !upstream.pipeline.is_unsynced() && upstream.work.running.is_empty();
        let recalls = script.is_some_and(|script| script.recalls) && recalls_others(upstream);
        if !recalls || !alone || self.stays_with(upstream) {
            return Ok(());
        }
        ask::query(outbox.insert(at), b"DISCARD SEQUENCES").map_err(|error| End::Trouble(error.into()))?;
        self.push(upstream, Awaited::Query, Fate::Swallow, 0);
        upstream.unnamed = None;
        self.leave(upstream, SessionState::SequenceState);
        Ok(())
    }

    /// Whether such a statement waits for those before it, none of which can have drawn.
    #[inline]
    pub(super) fn awaits_sequences(&self, upstream: &Upstream, script: Option<&Script>) -> bool {
        let recalls = script.is_some_and(|script| script.recalls);
        let awaits = recalls && !upstream.work.drawn && !upstream.work.running.is_empty();
        awaits && !upstream.pipeline.is_unsynced() && !self.stays_with(upstream)
    }

    /// A client has asked for more time than its tenant has: it is told what it gets.
    pub(super) fn note_clamped(&self, upstream: &mut Upstream, name: &str, value: &Value) {
        if name != "statement_timeout" {
            return;
        }
        let Some(limit) = self.statement_limit() else { return };
        if let Some(Clamp::Lower(limit)) = plain(value).map(|wish| clamp(&wish, Some(limit))) {
            let tenant = self.worker.shared.directory.name(self.tenant);
            let limit = config::units::show_duration(limit);
            let message = format!("statement_timeout stays at {limit}, the limit of tenant \"{tenant}\"");
            let report = Report::new(Severity::Notice, Sqlstate::SUCCESS, message)
                .hint("An operator can change statement_timeout for this tenant.");
            upstream.work.notices.tell(report);
        }
    }
}

/// Whether what the server would tell of its sequences may be what another client has drawn.
fn recalls_others(upstream: &Upstream) -> bool {
    match upstream.pipeline.status() {
        TransactionStatus::Idle => true,
        TransactionStatus::Open => !upstream.work.drawn,
        TransactionStatus::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_let_go_only_when_all_that_it_kept_can_be_proven_gone() {
        let kept = |states: &[SessionState]| states.iter().fold(0, |bits, state| bits | bit(*state));
        assert_eq!(kept(&[SessionState::Listen, SessionState::AdvisoryLock]) & unprovable(), 0);
        assert_ne!(kept(&[SessionState::Listen, SessionState::HiddenSetting]) & unprovable(), 0);
        for state in SessionState::ALL {
            assert_eq!(kept(&[state]) & unprovable() == 0, is_provable(state), "{state:?}");
        }
    }
}
