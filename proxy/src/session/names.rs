//! By which names a client's prepared statements go, and how they come to go by its own on a server that it shares.
//!
//! SQL can name statements that were prepared by protocol: `pg_prepared_statements` lists them, EXECUTE runs them. Where
//! servers are shared they go by names of ours, so a client that does such a thing is given its own names on the upstream
//! that it holds, and keeps it. The table is in docs/architecture.md.

use policy::verdict::SessionState;
use wire::encode::frontend as ask;
use wire::pipeline::{Awaited, Fate};
use wire::tag::{Frontend, Target, TransactionStatus};

use super::outbox::Outbox;
use super::provide::{Located, Name, types_of, write_parse_as, write_renamed};
use super::script::Script;
use super::statement::Prepared;
use super::{End, Session};
use crate::upstream::{OWN, Upstream};

/// By which names a client's statements go on its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// By ours, on any upstream.
    Ours,
    /// By the client's, since it began in session mode, where a server is one client's.
    Own,
    /// By the client's, until this lease ends.
    OwnHere,
}

/// Whether a text that may need its client's own names can go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It can.
    Goes,
    /// When everything before it has been answered.
    Waits,
}

/// What keeps a Parse of ours that fails from hurting the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// A Sync of its own: no transaction is open.
    Sync,
    /// A savepoint.
    Savepoint,
    /// Nothing can: a request is half sent, and what would guard it would end the client's transaction.
    Nothing,
}

const SAVEPOINT: &[u8] = b"SAVEPOINT pgweir_names";
const ROLLBACK: &[u8] = b"ROLLBACK TO SAVEPOINT pgweir_names";
const RELEASE: &[u8] = b"RELEASE SAVEPOINT pgweir_names";

impl Session {
    /// Statements go by the client's own names on the upstream that it holds.
    #[inline]
    pub(super) fn has_own_names(&self) -> bool {
        self.names != Names::Ours
    }

    /// Whether a text reaches for statements by their names, further than names are followed.
    pub(super) fn reaches_for_names(&self, script: &Script) -> bool {
        let mut names = script.names.iter();
        self.names == Names::Ours && (script.looks || names.any(|name| self.statements.find(name).is_some()))
    }

    /// Whether a text takes a statement away by its name. Sent at once it can be given ours; one that is kept is read with
    /// the name that the statement has when it runs.
    fn takes_away(&self, script: &Script) -> bool {
        let known = |name: &[u8]| self.statements.find(name).is_some();
        self.names == Names::Ours && script.deallocates.as_deref().is_some_and(known)
    }

    /// Such a text stands at `at`: the client's statements are there by its own names when the server reads it. With its
    /// script, whether it is kept under a name.
    #[inline]
    pub(super) fn before_names(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        script: Option<(&Script, bool)>,
        fingerprint: u64,
    ) -> Result<Reach, End> {
        match script {
            Some((script, kept)) if self.reaches_for_names(script) || (kept && self.takes_away(script)) => {
                self.take_names(upstream, outbox, at, fingerprint)
            }
            _ => Ok(Reach::Goes),
        }
    }

    #[cold]
    fn take_names(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        fingerprint: u64,
    ) -> Result<Reach, End> {
        let status = upstream.pipeline.status();
        let refused = self.on_untracked(SessionState::StatementNames) == config::OnUntracked::Reject;
        if status == TransactionStatus::Failed || refused {
            return Ok(Reach::Goes);
        }
        if !upstream.pipeline.is_empty() {
            return Ok(Reach::Waits);
        }
        let guard = match (upstream.pipeline.is_unsynced(), status) {
            (false, TransactionStatus::Idle) => Guard::Sync,
            (false, _) => Guard::Savepoint,
            (true, _) => Guard::Nothing,
        };
        self.names = Names::OwnHere;
        self.leave_by(upstream, SessionState::StatementNames, fingerprint);
        // Who has none only looks, and needs no server for it any longer.
        upstream.work.may_be_free |= self.statements.is_empty();
        for id in upstream.prepared.take_all() {
            self.push(upstream, Awaited::Close, Fate::Swallow, id);
            write_renamed(outbox.insert(at), Frontend::Close, &[Target::Statement as u8], Name::Ours(id), 0);
        }
        if !self.statements.is_empty() {
            self.parse_all(upstream, outbox.insert(at), guard).map_err(|error| End::Trouble(error.into()))?;
        }
        Ok(Reach::Goes)
    }

    /// Parses every statement of the client under its own name, in the order in which it named them.
    fn parse_all(
        &mut self,
        upstream: &mut Upstream,
        out: &mut Vec<u8>,
        guard: Guard,
    ) -> Result<(), wire::error::Error> {
        let fate = if guard == Guard::Nothing { Fate::Swallow } else { Fate::Attempt };
        if guard == Guard::Savepoint {
            self.push(upstream, Awaited::Query, Fate::Swallow, 0);
            ask::query(out, SAVEPOINT)?;
            upstream.unnamed = None;
        }
        for (name, place, prepared) in self.statements.in_order() {
            self.pool.meter.prepared_injected.increment();
            self.push(upstream, Awaited::Parse, fate, OWN | place);
            self.write_parse_by(upstream, out, name, prepared);
            self.note_dated(upstream, place, prepared);
            if guard != Guard::Nothing {
                self.push(upstream, Awaited::Sync, Fate::Swallow, 0);
                ask::sync(out);
            }
            if guard == Guard::Savepoint {
                // It takes no statement away: those outlive transactions.
                self.push(upstream, Awaited::Query, Fate::Swallow, 0);
                ask::query(out, ROLLBACK)?;
            }
        }
        if guard == Guard::Savepoint {
            self.push(upstream, Awaited::Query, Fate::Swallow, 0);
            ask::query(out, RELEASE)?;
        }
        Ok(())
    }

    /// No name is left, and nothing keeps the client on this upstream for its names.
    pub(super) fn leave_names(&mut self) {
        if self.names == Names::OwnHere {
            self.names = Names::Ours;
        }
    }

    /// Whether a statement has not come to this upstream under its own name, because it could not be parsed.
    pub(super) fn is_absent(&self, upstream: &Upstream, name: &[u8]) -> bool {
        let absent = &upstream.work.absent;
        !absent.is_empty() && self.statements.place(name).is_some_and(|place| absent.contains(&place))
    }

    /// How a statement is named that goes by its client's own name, before what stands at `at`. One that is not here is
    /// parsed once more, and if that fails the client gets the server's error.
    pub(super) fn locate_by_name(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        name: &[u8],
    ) -> Located<'static> {
        if upstream.work.absent.is_empty() && upstream.work.dated.is_empty() {
            return Located::AsNamed;
        }
        let (Some(place), Some(prepared)) = (self.statements.place(name), self.statements.find(name).cloned()) else {
            return Located::AsNamed;
        };
        if let Some(index) = upstream.work.absent.iter().position(|absent| *absent == place) {
            upstream.work.absent.swap_remove(index);
            self.push(upstream, Awaited::Parse, Fate::Swallow, OWN | place);
            self.write_parse_by(upstream, outbox.insert(at), name, &prepared);
            self.note_dated(upstream, place, &prepared);
        }
        let Some(asked) = upstream.work.dated.get(&place).copied() else { return Located::AsNamed };
        if prepared.stale.get() {
            return Located::Stale;
        }
        if upstream.work.verifying.is_some() {
            return Located::Later;
        }
        if asked {
            return Located::AsNamed;
        }
        upstream.work.dated.insert(place, true);
        self.push(upstream, Awaited::DescribeStatement, Fate::Swallow, 0);
        // A name came in a message: it is not too long for one.
        drop(ask::describe(outbox.insert(at), Target::Statement, name));
        upstream.work.verifying = Some(prepared);
        Located::Later
    }

    /// A statement that the schema has changed behind is asked for its result before it is used ([`super::verify`]).
    fn note_dated(&self, upstream: &mut Upstream, place: u64, prepared: &Prepared) {
        if self.is_dated(upstream, prepared) {
            upstream.work.dated.insert(place, false);
        }
    }

    /// Parse, under the client's name. Parameters have the types that the client was told.
    fn write_parse_by(&self, upstream: &Upstream, out: &mut Vec<u8>, name: &[u8], prepared: &Prepared) {
        let query = prepared.query.as_deref().unwrap_or_default();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(name);
            out.push(0);
        };
        if self.is_dated(upstream, prepared) {
            write_parse_as(out, write, query, &types_of(&prepared.parameters.borrow()));
        } else {
            write_parse_as(out, write, query, &prepared.types);
        }
    }
}
