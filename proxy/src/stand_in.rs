//! Stand-ins: connections that take a signal for a client which has no process on the server.
//!
//! A client in transaction mode is told a process id that no server has. Whoever calls `pg_terminate_backend` or
//! `pg_cancel_backend` with it strikes a connection that is made for this, as the same user on the same server. The server
//! judges as ever: the caller's user has to be the target's, or a superuser, or a member of `pg_signal_backend`. When the
//! stand-in is struck, its client is: closed with 57P01, or what it runs is cancelled. When the caller's statement has
//! ended and nothing has happened, the stand-in goes, and that is all. The caller is told of the end of its statement
//! when that is known, so that it finds what PostgreSQL would show it.
//!
//! ```text
//! caller's worker ── Wanted ─► control ── Whose ─► target's worker
//!        ◄─────── process id ─────┤ dials                ▲
//!        statement ─► server ─► stand-in ── Struck ──────┘
//! ```
//!
//! Runs on the control thread. A stand-in stands in no pool's count, and lives as long as a statement.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use wire::encode::frontend as ask;
use wire::error::{ErrorFields, Sqlstate};
use wire::frame;
use wire::tag::Backend;

use crate::cancel::key::Layout;
use crate::control;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::CancelTarget;
use crate::upstream::server::Server;
use crate::worker::Mail;

/// Stand-ins at a time; further ones wait. Whoever can log in can ask for them.
const MAX_STAND_INS: usize = 8;
/// How long it may take to make one, the wait for its turn included: those before it live as long as statements do.
const MAKING: Duration = Duration::from_secs(10);
/// How long a signal may still be under way when its sender's statement has ended.
const LATE: Duration = Duration::from_millis(100);
/// How long its effect on the target may take before the caller goes on.
const EFFECT: Duration = Duration::from_millis(500);
/// The longest message that is looked into.
const MAX_MESSAGE: usize = 64 * 1024;

/// A cancel strikes only what runs, and nothing else may end that.
const PREPARE: &[u8] = b"SET statement_timeout TO 0; SET client_min_messages TO warning";
/// A server sends warnings at once: the one that there is no transaction tells that from here on it can be cancelled.
const SLEEP: &[u8] = b"ROLLBACK; SELECT pg_catalog.pg_sleep(600)";

/// The turn that a stand-in takes.
#[derive(Debug)]
pub struct Turns(Rc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Rc::new(Semaphore::new(MAX_STAND_INS)))
    }
}

impl Turns {
    /// The same turns.
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Who wants a stand-in.
#[derive(Debug)]
pub struct Wanted {
    /// What its caller knows it by.
    pub number: u64,
    /// The process id that the target was told.
    pub told: u32,
    /// It may be cancelled, and not only terminated.
    pub cancels: bool,
    /// Where the caller's statement runs.
    pub server: Arc<Server>,
    /// The caller.
    pub client: u64,
    /// Its worker.
    pub worker: usize,
    /// Ends when the caller's statement has.
    pub over: oneshot::Receiver<()>,
}

/// How it is with a stand-in, as its caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is there: this is its process.
    Ready(u32),
    /// There is none to be had, or it is no longer there. Whoever was to be struck by it has been.
    Over,
}

/// What has happened to a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Terminated,
    Cancelled,
    /// Nothing that concerns its client.
    Ended,
    /// It has gone, for a reason of its own: a time-out, a crash, the network.
    Lost,
}

/// Has a client stood in for, until its caller is done.
pub async fn serve(shared: Arc<Shared>, turns: Turns, wanted: Wanted) {
    let Wanted { number, told, cancels, server, client, worker, mut over } = wanted;
    let tell = |state| shared.send(worker, Mail::StandIn { client, number, state });
    let until = tokio::time::Instant::now() + MAKING;
    let turn = tokio::select! {
        turn = tokio::time::timeout_at(until, turns.0.acquire()) => turn,
        // Its caller has left meanwhile.
        _ = &mut over => return tell(State::Over),
    };
    let Ok(Ok(_turn)) = turn else { return tell(State::Over) };
    let making = async {
        let pool = find(&shared, told).await?;
        Double::make(&shared, &pool, &server, cancels).await
    };
    let Ok(Some(mut double)) = tokio::time::timeout_at(until, making).await else { return tell(State::Over) };
    tell(State::Ready(double.cancel.process as u32));
    let fate = tokio::select! {
        biased;
        fate = double.fate() => fate,
        () = late(over) => Fate::Ended,
    };
    if matches!(fate, Fate::Terminated | Fate::Cancelled) {
        let (done, over) = oneshot::channel();
        let terminate = fate == Fate::Terminated;
        shared.send(shared.processes.layout().worker_of(told), Mail::Struck { process: told, terminate, done });
        drop(tokio::time::timeout(EFFECT, over).await);
    }
    tell(State::Over);
    double.end(&shared, fate).await;
}

async fn late(over: oneshot::Receiver<()>) {
    drop(over.await);
    tokio::time::sleep(LATE).await;
}

/// The pool of the client that was told this process id.
async fn find(shared: &Shared, told: u32) -> Option<Arc<Pool>> {
    let (answer, found) = oneshot::channel();
    let worker = shared.processes.layout().worker_of(told);
    shared.send(worker, Mail::Whose(told, answer));
    found.await.ok()?
}

/// What an error says of its fate.
fn fate_of(error: &ErrorFields<'_>) -> Fate {
    match (error.severity(), error.sqlstate()) {
        // What pg_terminate_backend says. Any other end, as for idling too long, is the stand-in's alone.
        (b"FATAL" | b"PANIC", Sqlstate::ADMIN_SHUTDOWN) => Fate::Terminated,
        (b"FATAL" | b"PANIC", _) => Fate::Lost,
        (_, Sqlstate::QUERY_CANCELED) => Fate::Cancelled,
        _ => Fate::Ended,
    }
}

/// A connection that stands in.
struct Double {
    stream: Stream,
    cancel: Arc<CancelTarget>,
    bytes: Vec<u8>,
    sleeps: bool,
}

impl Double {
    /// Connects as the pool does; `None`: it cannot, or comes to another server.
    async fn make(shared: &Arc<Shared>, pool: &Arc<Pool>, server: &Server, cancels: bool) -> Option<Self> {
        let settings = pool.settings();
        let dialled = pool.dialling_target()?.dial(shared, &settings, settings.connect_timeout).await.ok()?;
        let cancel = dialled.shipped.cancel.clone();
        // An id that no operating system gives is not a process of this server.
        let real = u32::try_from(cancel.process).is_ok_and(|process| !Layout::is_own(process));
        if dialled.server.address != server.address || !real {
            return None;
        }
        let mut stream = dialled.shipped.stream.attach().ok()?;
        if cancels {
            let mut out = Vec::new();
            ask::query(&mut out, PREPARE).ok()?;
            ask::query(&mut out, SLEEP).ok()?;
            stream.write_all(&out).await.ok()?;
        }
        let mut double = Self { stream, cancel, bytes: Vec::new(), sleeps: cancels };
        if cancels {
            while double.next().await.ok()?.0 != Backend::NoticeResponse {}
        }
        Some(double)
    }

    /// Waits for what happens to it.
    async fn fate(&mut self) -> Fate {
        loop {
            match self.next().await {
                Ok((Backend::ErrorResponse, fate)) => return fate,
                // It has slept to the end: it waits for nothing any more.
                Ok((Backend::DataRow, _)) => return Fate::Ended,
                Ok(_) => {}
                // Who is ended is told so before.
                Err(_) => return Fate::Lost,
            }
        }
    }

    /// The next message, and what it says of its fate if it is an error.
    async fn next(&mut self) -> io::Result<(Backend, Fate)> {
        loop {
            let mut rest = self.bytes.as_slice();
            if let Some(message) = frame::next(&mut rest, frame::MAX_BODY).map_err(io::Error::other)? {
                let tag = Backend::from_byte(message.tag).ok_or(io::ErrorKind::InvalidData)?;
                let fate = fate_of(&ErrorFields::new(message.body()));
                let used = self.bytes.len() - rest.len();
                self.bytes.drain(..used);
                return Ok((tag, fate));
            }
            if self.bytes.len() > MAX_MESSAGE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Leaves. A server notices the end of a client that sleeps only when it wakes up.
    async fn end(mut self, shared: &Shared, fate: Fate) {
        if self.sleeps && fate == Fate::Ended {
            control::cancel(shared, &self.cancel, self.cancel.epoch()).await;
        }
        let mut out = Vec::new();
        ask::terminate(&mut out);
        // It may have closed already.
        drop(self.stream.write_all(&out).await);
    }
}
