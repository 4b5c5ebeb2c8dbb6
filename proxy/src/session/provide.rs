//! Which statement a client means by a name, and how its server comes to have it.

use std::rc::Rc;

use wire::encode::frontend as ask;
use wire::frame;
use wire::pipeline::{Awaited, Fate, Owed};
use wire::prepared::{PREFIX, Presence, write_server_name};
use wire::tag::{Frontend, Target, TransactionStatus};

use super::Session;
use super::brain::Look;
use super::outbox::Outbox;
use super::retry::Retry;
use super::script::Script;
use super::statement::Prepared;
use crate::schemas::Place;
use crate::upstream::{NAMED, UNNAMED, Upstream};

/// What a statement is called on the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// As we have named it.
    Ours(u64),
    /// The client's name for a statement that does not exist, where it looks like one of ours: no server holds this one.
    Alien(&'a [u8]),
}

/// How the server is to be told which statement a client means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Located<'a> {
    /// By this name.
    As(Name<'a>),
    /// By the client's own.
    AsNamed,
    /// The server is asked something first.
    Later,
    /// Not at all: its result has changed.
    Stale,
}

impl Name<'_> {
    /// What is noted of a message that uses the statement: its id if the name is ours.
    pub(super) fn note(self) -> u64 {
        match self {
            Name::Ours(id) => id,
            Name::Alien(_) => 0,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Name::Ours(id) => write_server_name(id, out),
            Name::Alien(name) => {
                out.extend_from_slice(PREFIX);
                out.extend_from_slice(name);
            }
        }
        out.push(0);
    }
}

impl Session {
    /// Makes sure that the server can tell what the client means by a statement's name, before what stands at `at`.
    #[inline]
    pub(super) fn locate<'a>(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        name: &'a [u8],
    ) -> Located<'a> {
        if self.has_own_names() && !name.is_empty() {
            return self.locate_by_name(upstream, outbox, at, name);
        }
        match self.find_statement(name) {
            // Too long to be parsed again, and its server is another one: as if it did not exist.
            Some(prepared) if prepared.query.is_none() && upstream.unnamed != Some(prepared.id) => {
                self.unknown_statement(upstream, outbox, at, name);
                Located::AsNamed
            }
            Some(prepared) if prepared.stale.get() => Located::Stale,
            Some(_) if upstream.work.verifying.is_some() => Located::Later,
            Some(prepared) => {
                let unnamed = name.is_empty() && (!prepared.shared || self.has_own_names());
                self.provide(upstream, outbox, at, &prepared, unnamed);
                match !unnamed && prepared.query.is_some() {
                    _ if upstream.work.verifying.is_some() => Located::Later,
                    true => Located::As(Name::Ours(prepared.id)),
                    false => Located::AsNamed,
                }
            }
            None => {
                self.unknown_statement(upstream, outbox, at, name);
                if is_ours(name) { Located::As(Name::Alien(name)) } else { Located::AsNamed }
            }
        }
    }

    /// A statement is sent that may change what statements name. What is prepared behind it, in the same transaction or the
    /// same pipeline, is what nobody else has prepared, and others know of it when it is committed.
    pub(super) fn may_alter(&self, upstream: &mut Upstream, script: Option<&Script>) {
        if script.is_some_and(|script| script.alters) && upstream.work.epoch == 0 {
            // Apart from all epochs that are counted.
            upstream.work.epoch = self.worker.shared.next_id() | 1 << 63;
        }
    }

    /// Where and when the client prepares a statement now.
    pub(super) fn place(&self, upstream: &Upstream) -> Place {
        let epoch = match upstream.work.epoch {
            0 => self.worker.shared.schemas.epoch(&self.pool.shared.database),
            own => own,
        };
        Place { path: self.path, epoch, names: self.pool.shared.names }
    }

    /// A Parse goes to the server under the client's own name, which it has to itself until it leaves.
    pub(super) fn parse_as_named(&mut self, upstream: &mut Upstream, name: &[u8], prepared: Rc<Prepared>) {
        upstream.tainted = true;
        upstream.work.parsed = Some(prepared.clone());
        if self.statements.find(name).is_some() {
            // The server says that it is taken.
            self.push(upstream, Awaited::Parse, Fate::Forward, 0);
            return;
        }
        self.push(upstream, Awaited::Parse, Fate::Forward, NAMED);
        let bytes = prepared.bytes();
        self.statements.define(name, prepared, bytes);
        self.ctl.prepared.set(self.statements.len() as u32);
    }

    #[inline]
    pub(super) fn find_statement(&self, name: &[u8]) -> Option<Rc<Prepared>> {
        if name.is_empty() { self.unnamed.clone() } else { self.statements.find(name).cloned() }
    }

    /// Makes sure that the server holds a statement, before what stands at `at`.
    #[inline]
    pub(super) fn provide(
        &mut self,
        upstream: &mut Upstream,
        outbox: &mut Outbox<'_>,
        at: usize,
        prepared: &Rc<Prepared>,
        unnamed: bool,
    ) {
        let Some(query) = prepared.query.as_deref() else {
            return;
        };
        if unnamed {
            if upstream.unnamed != Some(prepared.id) {
                self.pool.meter.prepared_injected.increment();
                self.push(upstream, Awaited::Parse, Fate::Swallow, UNNAMED);
                write_parse(outbox.insert(at), None, query, &prepared.types);
                upstream.unnamed = Some(prepared.id);
            }
            return;
        }
        match upstream.prepared.acquire(prepared.id) {
            Presence::Held => {
                self.pool.meter.prepared_hits.increment();
                upstream.work.retry.note(at, Retry::Used);
            }
            Presence::Missing { evict } => {
                self.pool.meter.prepared_injected.increment();
                self.guards_meaning(upstream, prepared);
                self.evict(upstream, outbox, at, evict);
                self.push(upstream, Awaited::Parse, Fate::Swallow, prepared.id);
                if !self.is_dated(upstream, prepared) {
                    return write_parse(outbox.insert(at), Some(prepared.id), query, &prepared.types);
                }
                // Its parameters have the types that the client was told, as they would on the server that it had before.
                let types = types_of(&prepared.parameters.borrow());
                write_parse(outbox.insert(at), Some(prepared.id), query, &types);
                self.push(upstream, Awaited::DescribeStatement, Fate::Swallow, 0);
                let statement = [Target::Statement as u8];
                write_renamed(outbox.insert(at), Frontend::Describe, &statement, Name::Ours(prepared.id), 0);
                upstream.work.verifying = Some(prepared.clone());
            }
        }
    }

    pub(super) fn evict(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, at: usize, evict: Option<u64>) {
        let Some(id) = evict else { return };
        self.pool.meter.prepared_evictions.increment();
        self.push(upstream, Awaited::Close, Fate::Swallow, id);
        let statement = [Target::Statement as u8];
        write_renamed(outbox.insert(at), Frontend::Close, &statement, Name::Ours(id), 0);
    }

    /// The client names a statement that it does not have: the server shall say so, and must not find somebody else's
    /// unnamed one in its place.
    fn unknown_statement(&mut self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, at: usize, name: &[u8]) {
        if name.is_empty() {
            self.push(upstream, Awaited::Close, Fate::Swallow, 0);
            let out = outbox.insert(at);
            write_head(out, Frontend::Close, 2);
            out.extend_from_slice(&[Target::Statement as u8, 0]);
            upstream.unnamed = None;
        }
    }

    /// The client uses a portal. If it is the unnamed one and an answer from the cache has taken its place, the server shall say
    /// that there is none, and must not go on with the one from before.
    #[inline]
    pub(super) fn uncover_portal(&self, upstream: &mut Upstream, outbox: &mut Outbox<'_>, at: usize, name: &[u8]) {
        let covers = &mut upstream.work.standing.covers_portal;
        if name.is_empty() && !upstream.pipeline.ignores() && std::mem::take(covers) {
            self.push(upstream, Awaited::Close, Fate::Swallow, 0);
            let out = outbox.insert(at);
            write_head(out, Frontend::Close, 2);
            out.extend_from_slice(&[Target::Portal as u8, 0]);
        }
    }

    /// `DEALLOCATE name` of a statement that was prepared by protocol: the server knows it by another name. One that does
    /// not have it gets an empty one to forget: preparing the text itself could fail, and take the DEALLOCATE with it.
    pub(super) fn translate_deallocate(
        &mut self,
        upstream: &mut Upstream,
        look: &Look<'_>,
        outbox: &mut Outbox<'_>,
        at: usize,
    ) -> Option<Vec<u8>> {
        let name = look.known.script.as_ref()?.deallocates.as_deref()?;
        if self.has_own_names() {
            return None;
        }
        let prepared = self.statements.find(name).cloned()?;
        if upstream.pipeline.status() == TransactionStatus::Failed {
            // Refused under whatever name.
            return None;
        }
        if let Presence::Missing { evict } = upstream.prepared.acquire(prepared.id) {
            self.pool.meter.prepared_injected.increment();
            self.evict(upstream, outbox, at, evict);
            self.push(upstream, Awaited::Parse, Fate::Swallow, prepared.id);
            write_parse(outbox.insert(at), Some(prepared.id), b"", &[0, 0]);
        }
        let mut text = b"DEALLOCATE ".to_vec();
        write_server_name(prepared.id, &mut text);
        Some(text)
    }
}

/// Whether a Bind or a Describe can have failed for what its statement was when it was parsed: a result of other columns
/// (0A000), a parameter of a type that is gone (XX000), of another type than a new Parse would find (42804 and its like).
pub(super) fn is_of_its_making(sqlstate: &[u8]) -> bool {
    sqlstate == b"0A000" || sqlstate.starts_with(b"XX") || sqlstate.starts_with(b"42")
}

/// Whether a message was about a statement under our name: its note is the statement's id then. A driver that describes
/// what it has prepared before it binds it never comes to a Bind while the Describe fails.
pub(super) fn uses_statement(owed: &Owed) -> bool {
    matches!(owed.awaited, Awaited::Bind | Awaited::DescribeStatement) && owed.note != 0
}

pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

fn write_head(out: &mut Vec<u8>, tag: Frontend, body: usize) {
    out.push(tag.byte());
    // Bodies stay below 1 GiB: they were read as such, and a name adds at most 30 bytes.
    out.extend_from_slice(&((body + 4) as u32).to_be_bytes());
}

/// A message whose statement goes by another name: `before` stands in front of the name, and `rest` more bytes of the
/// body follow behind what is written here.
#[inline]
pub(super) fn write_renamed(out: &mut Vec<u8>, tag: Frontend, before: &[u8], name: Name<'_>, rest: usize) {
    let start = out.len();
    write_head(out, tag, 0);
    out.extend_from_slice(before);
    name.write(out);
    let length = (out.len() - start - 1 + rest) as u32;
    if let Some(field) = out.get_mut(start + 1..start + frame::HEAD) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Parameter types as a Parse declares them.
pub(super) fn types_of(parameters: &[u32]) -> Vec<u8> {
    let count = (parameters.len() as u16).to_be_bytes();
    count.into_iter().chain(parameters.iter().flat_map(|oid| oid.to_be_bytes())).collect()
}

/// Parse, under our name of the statement or unnamed.
pub(super) fn write_parse(out: &mut Vec<u8>, id: Option<u64>, query: &[u8], types: &[u8]) {
    match id {
        Some(id) => write_parse_as(out, |out| Name::Ours(id).write(out), query, types),
        None => write_parse_as(out, |out| out.push(0), query, types),
    }
}

/// Parse, under the name that `name` writes.
pub(super) fn write_parse_as(out: &mut Vec<u8>, name: impl FnOnce(&mut Vec<u8>), query: &[u8], types: &[u8]) {
    let start = out.len();
    write_head(out, Frontend::Parse, 0);
    name(out);
    out.extend_from_slice(query);
    out.push(0);
    out.extend_from_slice(types);
    let length = (out.len() - start - 1) as u32;
    if let Some(field) = out.get_mut(start + 1..start + frame::HEAD) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// What stands at `at` waits for replies; the server must not keep them to itself until a Sync that waits too.
pub(super) fn hold(upstream: &mut Upstream, outbox: &mut Outbox<'_>, at: usize) {
    upstream.work.held = true;
    if upstream.pipeline.is_unsynced() {
        ask::flush(outbox.insert(at));
    }
}
