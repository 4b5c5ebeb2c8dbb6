//! Asking a server for a plan.
//!
//! On a connection of its own, as the pool's user: `BEGIN READ ONLY`, time-outs, the session's settings, `EXPLAIN` with
//! the statement's own constants and bound values, `ROLLBACK`. Everything goes by the extended protocol, in which a server
//! takes one statement at a time: a text that holds more than one is refused, whatever our lexer thought of it.
//!
//! A plain EXPLAIN runs code: the planner evaluates IMMUTABLE functions over constants, and STABLE ones for its estimates.
//! It did so when it planned the very statement; what is different here is that nothing can be written, and that there is
//! an end to the time. The read-only transaction cannot be left by what runs in it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use policy::plan::Plan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use wire::encode::frontend as ask;
use wire::frame;
use wire::tag::Backend;
use wire::view;

use super::{Outcome, Permit, Wanted};
use crate::aside::Kind;
use crate::control;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::CancelTarget;

/// Captures at a time; further ones wait.
const MAX_CAPTURES: usize = 2;
/// The longest plan that is read, in bytes, and what may come before it in notices.
const MAX_ANSWER: usize = 1024 * 1024;
/// Beyond the server's own time-out for planning: for the rest of the conversation.
const GRACE: Duration = Duration::from_secs(1);
/// EXPLAIN's option SETTINGS came with this version.
const WITH_SETTINGS: u32 = 12;

/// The turns that captures take.
#[derive(Debug)]
pub struct Turns(Rc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Rc::new(Semaphore::new(MAX_CAPTURES)))
    }
}

impl Turns {
    /// The same turns.
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Captures a plan and keeps it.
pub async fn capture(shared: Arc<Shared>, turns: Turns, wanted: Wanted, _permit: Permit) {
    let telemetry = Arc::clone(&shared.telemetry);
    let _turn = turns.0.acquire().await;
    let json = match explain(&shared, &wanted).await {
        Ok(json) => json,
        Err(why) => return telemetry.plans.give_up(why),
    };
    // A plan of many partitions takes a while to read and to compare: logins must not wait for it.
    let read = tokio::task::spawn_blocking(move || {
        let plan = Plan::read(&json)?;
        let now_us = telemetry.clock.micros(std::time::Instant::now());
        if let Some(notice) = telemetry.plans.keep(wanted, plan, now_us) {
            telemetry.tips.leave(notice);
        }
        Ok::<_, policy::plan::Unreadable>(())
    });
    if !matches!(read.await, Ok(Ok(()))) {
        shared.telemetry.plans.give_up(Outcome::Unreadable);
    }
}

/// The plan as the server tells it.
async fn explain(shared: &Arc<Shared>, wanted: &Wanted) -> Result<Vec<u8>, Outcome> {
    let patience = shared.settings().slow_log.plan_timeout;
    let pool = &wanted.pool;
    let settings = pool.settings();
    if shared.pools.is_paused(&pool.database) {
        return Err(Outcome::NoConnection);
    }
    let _place = shared.beside(Kind::Plan).map_err(|_| Outcome::NoPlace)?;
    let target = pool.dialling_target().ok_or(Outcome::NoConnection)?;
    let dialled = target.dial(shared, &settings, settings.connect_timeout).await.map_err(|_| Outcome::NoConnection)?;
    let cancel = dialled.shipped.cancel.clone();
    let stream = dialled.shipped.stream.attach().map_err(|_| Outcome::NoConnection)?;
    let mut line = Line { stream, bytes: Vec::new(), left: MAX_ANSWER };
    let request = request(wanted, patience, major_version(pool)).map_err(|_| Outcome::Text)?;
    let answer = tokio::time::timeout(patience + GRACE, line.converse(&request)).await;
    if answer.is_err() {
        // It holds on to what it does until it notices that nobody listens.
        stop(shared, &cancel).await;
    }
    line.leave().await;
    answer.unwrap_or(Err(Outcome::TimedOut))
}

async fn stop(shared: &Shared, cancel: &CancelTarget) {
    control::cancel(shared, cancel, cancel.epoch()).await;
}

/// The major version of a pool's servers, as far as they have told; 0: they have not.
fn major_version(pool: &Pool) -> u32 {
    let welcome = pool.welcome();
    let said = welcome.as_ref().and_then(|said| said.iter().find(|(name, _)| **name == *b"server_version"));
    let digits = |value: &[u8]| {
        let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        std::str::from_utf8(value.get(..end)?).ok()?.parse().ok()
    };
    said.and_then(|(_, value)| digits(value)).unwrap_or(0)
}

/// Everything that is said, up to the Sync: an error in one of its statements leaves out all behind it.
fn request(wanted: &Wanted, patience: Duration, version: u32) -> wire::Result<Vec<u8>> {
    let planning = patience.as_millis().max(1);
    let mut out = Vec::new();
    run(&mut out, b"BEGIN READ ONLY")?;
    for (name, millis) in [("statement_timeout", planning), ("lock_timeout", (planning / 10).max(1))] {
        run(&mut out, format!("SET LOCAL {name} TO {millis}").as_bytes())?;
    }
    for setting in &wanted.settings {
        run(&mut out, setting)?;
    }
    // Whatever those were.
    run(&mut out, b"SET TRANSACTION READ ONLY")?;
    let options: &[u8] = match version >= WITH_SETTINGS {
        true => b"EXPLAIN (FORMAT JSON, VERBOSE, SETTINGS) ",
        false => b"EXPLAIN (FORMAT JSON, VERBOSE) ",
    };
    let text = zeroize::Zeroizing::new([options, &wanted.text].concat());
    ask::parse(&mut out, b"", &text, &wanted.types)?;
    let values =
        wanted.parameters.iter().map(|(format, value)| (*format, value.as_ref().map(|value| value.as_slice())));
    ask::bind_formatted(&mut out, &values.collect::<Vec<_>>())?;
    ask::execute(&mut out, b"", 0)?;
    ask::sync(&mut out);
    Ok(out)
}

fn run(out: &mut Vec<u8>, sql: &[u8]) -> wire::Result<()> {
    ask::parse(out, b"", sql, &[])?;
    ask::bind(out, b"", b"", &[])?;
    ask::execute(out, b"", 0)
}

struct Line {
    stream: Stream,
    bytes: Vec<u8>,
    /// Bytes that may still come.
    left: usize,
}

impl Line {
    /// The last row's first value: those of the settings come before.
    async fn converse(&mut self, out: &[u8]) -> Result<Vec<u8>, Outcome> {
        self.stream.write_all(out).await.map_err(|_| Outcome::NoConnection)?;
        let (mut last, mut failure) = (None, None);
        loop {
            let mut rest = self.bytes.as_slice();
            let mut ready = false;
            while let Some(message) = frame::next(&mut rest, MAX_ANSWER).map_err(|_| Outcome::Unreadable)? {
                match Backend::from_byte(message.tag) {
                    Some(Backend::DataRow) => last = first_value(message.body()),
                    Some(Backend::ErrorResponse) => failure = Some(reason(message.body())),
                    Some(Backend::ReadyForQuery) => ready = true,
                    _ => {}
                }
            }
            let left = rest.len();
            self.bytes.drain(..self.bytes.len() - left);
            if ready {
                return failure.map_or_else(|| last.ok_or(Outcome::Unreadable), Err);
            }
            let came = self.stream.read_buf(&mut self.bytes).await.map_err(|_: io::Error| Outcome::NoConnection)?;
            if came == 0 {
                return Err(failure.unwrap_or(Outcome::NoConnection));
            }
            self.left = self.left.checked_sub(came).ok_or(Outcome::Unreadable)?;
        }
    }

    /// Undoes what was set, and goes. Nobody waits for the answer: the end of the connection undoes it too.
    async fn leave(mut self) {
        let mut out = Vec::new();
        if ask::query(&mut out, b"ROLLBACK").is_ok() {
            ask::terminate(&mut out);
            // It may have closed already.
            drop(tokio::time::timeout(GRACE, self.stream.write_all(&out)).await);
        }
    }
}

fn first_value(row: &[u8]) -> Option<Vec<u8>> {
    view::Row::read(row).ok()?.next()?.ok()?.map(<[u8]>::to_vec)
}

/// A server that gives up for want of time says so; its words may hold values, and are not kept.
fn reason(error: &[u8]) -> Outcome {
    match wire::error::ErrorFields::new(error).sqlstate().as_bytes() {
        b"57014" | b"55P03" => Outcome::TimedOut,
        _ => Outcome::Failed,
    }
}
