//! Brings an upstream that its client has left behind back to where another client may have it: out of its query, out of
//! its transaction, without what it cannot be followed in. What cannot be proven clean in time is closed.
//!
//! | found | done |
//! |---|---|
//! | a simple query is running | cancel it, read to its ReadyForQuery |
//! | an extended request without its Sync | close: a Sync of ours would commit what the client had not ended |
//! | a copy is open | close |
//! | a transaction is open | ROLLBACK |
//! | something was left on it | DISCARD ALL |
//! | it listens | UNLISTEN * |

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::PoolMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::frame;
use wire::params::Settings;
use wire::pipeline::{Awaited, Delivery, Fate, Owed};
use wire::tag::{Backend, TransactionStatus};
use wire::view;

use super::role::is_promotion;
use super::{Listens, Upstream, ender};
use crate::pool::LocalPool;
use crate::telemetry::CloseReason;
use crate::worker::Worker;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose messages these are: nobody's. Clients are numbered from 1.
const NOBODY: u64 = 0;

/// Cleans an upstream in a task of its own and gives it back, or closes it.
pub fn clean(worker: &Rc<Worker>, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
    let (worker, pool) = (worker.clone(), pool.clone());
    tokio::task::spawn_local(async move {
        let mut upstream = upstream;
        let washed = tokio::time::timeout(PATIENCE, wash(&worker, &mut upstream)).await;
        if std::mem::take(&mut upstream.promoted) {
            worker.doubt(&pool);
        }
        match washed {
            Ok(Ok(())) => {
                pool.meter.resets.increment();
                match pool.mode() {
                    PoolMode::Session => worker.rest(&pool, upstream),
                    _ => worker.check_in(&pool, upstream, Instant::now()),
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(upstream = upstream.id, %error, "upstream could not be cleaned");
                worker.close(&pool, upstream, CloseReason::Unclean);
            }
            Err(_) => ender::end(&worker, &pool, upstream),
        }
    });
}

/// Asks an upstream that has been idle for long for a sign of life, and gives it back, or closes it. Whoever wanted it
/// waits in the queue meanwhile, and is served by whatever comes first.
pub fn prove(worker: &Rc<Worker>, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
    let (worker, pool) = (worker.clone(), pool.clone());
    tokio::task::spawn_local(async move {
        let mut upstream = upstream;
        match tokio::time::timeout(PATIENCE, say(&mut upstream, b"")).await {
            Ok(Ok(())) => worker.check_in(&pool, upstream, Instant::now()),
            _ => worker.close(&pool, upstream, CloseReason::HealthCheck),
        }
    });
}

async fn wash(worker: &Rc<Worker>, upstream: &mut Upstream) -> io::Result<()> {
    if upstream.pipeline.is_copying_in() || upstream.pipeline.is_unsynced() {
        return Err(io::Error::other("the client left in the middle of a request"));
    }
    let unsent = std::mem::take(&mut upstream.unsent);
    upstream.stream.write_all(&unsent).await?;
    if !upstream.pipeline.is_boundary() {
        // For nobody: the client has gone, and the upstream waits for the end of it by itself.
        worker.cancel(upstream, 0, Vec::new());
        drain(upstream).await?;
    }
    if upstream.pipeline.status() != TransactionStatus::Idle {
        say(upstream, b"ROLLBACK").await?;
    }
    upstream.settings.rollback();
    if upstream.tainted {
        say(upstream, b"DISCARD ALL").await?;
        let nothing = worker.brain.borrow_mut().interner.intern(Settings::new());
        upstream.settings.assume(nothing);
        upstream.prepared.clear();
        upstream.unnamed = None;
        upstream.tainted = false;
    } else if upstream.listens != Listens::No {
        say(upstream, b"UNLISTEN *").await?;
    }
    upstream.listens = Listens::No;
    upstream.end_request();
    upstream.writes.finish();
    Ok(())
}

/// Runs a statement of ours.
async fn say(upstream: &mut Upstream, sql: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    ask::query(&mut out, sql).map_err(io::Error::other)?;
    upstream.pipeline.push(Owed { awaited: Awaited::Query, fate: Fate::Swallow, client: NOBODY, note: 0 });
    upstream.stream.write_all(&out).await?;
    upstream.unnamed = None;
    drain(upstream).await
}

/// Reads until nothing is owed, and lets it all fall.
async fn drain(upstream: &mut Upstream) -> io::Result<()> {
    let mut bytes = std::mem::take(&mut upstream.carry);
    let mut skip = std::mem::take(&mut upstream.streaming).left;
    while !upstream.pipeline.is_boundary() {
        let passed = skip.min(bytes.len());
        bytes.drain(..passed);
        skip -= passed;
        let mut rest = bytes.as_slice();
        while skip == 0
            && let Some(head) = frame::head(rest).map_err(io::Error::other)?
        {
            let Some(message) = rest.get(..head.total()) else {
                if head.tag == Backend::DataRow.byte() || head.tag == Backend::CopyData.byte() {
                    skip = head.total() - rest.len();
                    judge(upstream, head.tag, &[])?;
                    rest = &[];
                }
                break;
            };
            judge(upstream, head.tag, message.get(frame::HEAD..).unwrap_or_default())?;
            rest = rest.get(head.total()..).unwrap_or_default();
        }
        let left = rest.len();
        bytes.drain(..bytes.len() - left);
        if upstream.pipeline.is_boundary() {
            break;
        }
        if bytes.len() > frame::MAX_STARTUP * 100 {
            return Err(io::Error::other("a message too long to be passed over"));
        }
        if upstream.stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if bytes.is_empty() && skip == 0 { Ok(()) } else { Err(io::Error::other("bytes behind the last reply")) }
}

fn judge(upstream: &mut Upstream, tag: u8, body: &[u8]) -> io::Result<()> {
    let tag = Backend::from_byte(tag).ok_or_else(|| io::Error::other("a message of unknown type"))?;
    if tag == Backend::ReadyForQuery {
        let status = view::ready(body).map_err(io::Error::other)?;
        return upstream.pipeline.ready(status).map(drop).map_err(io::Error::other);
    }
    if tag == Backend::ParameterStatus {
        upstream.promoted |= is_promotion(body);
    }
    if tag == Backend::CopyInResponse {
        return Err(io::Error::other("a copy has begun"));
    }
    let mut skipped = Vec::new();
    let reply = upstream.pipeline.reply(tag, |owed| skipped.push(owed)).map_err(io::Error::other)?;
    skipped.iter().for_each(|owed| upstream.skipped(owed));
    while upstream.pipeline.made_up().is_some() {}
    match reply.delivery {
        Delivery::OursFailed | Delivery::Unasked => Err(io::Error::other("the server refused")),
        _ => Ok(()),
    }
}
