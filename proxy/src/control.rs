//! What is slow or bursty and must not hold up a worker: connecting to servers, cancelling.

mod keeper;
mod limits;
mod memory;
mod names;
mod roles;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use wire::encode::frontend as ask;

use crate::cache;
use crate::inspect::inspect;
use crate::listen::{self, Asks, Listener};
use crate::plans;
use crate::pool::tokens::{Attempt, Want};
use crate::pool::{DialFailure, Pool, Welcome};
use crate::shared::Shared;
use crate::stand_in::{self, Turns, Wanted};
use crate::telemetry::WorkerTelemetry;
use crate::tenant_table;
use crate::upstream::dial::{Failure, is_about_credentials};
use crate::upstream::{CancelFate, CancelTarget};
use crate::worker::Mail;
use crate::worker::checkout::unavailable;
use crate::{column_names, server_ids};

/// How long a cancel may take before it is given up.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// How long the reserve rests when it could not be used.
const RESERVE_AGAIN: Duration = Duration::from_millis(100);

/// What a worker has the control thread do.
#[derive(Debug)]
pub enum Order {
    /// Carry out an attempt to connect. The upstream goes to whoever waits longest, else to this worker.
    Dial(Attempt, usize),
    /// Use the reserve of a pool from this time on. Upstreams go to whoever waits longest, else to this worker.
    Reserve(Arc<Pool>, Instant, usize),
    /// Look at the functions of a pool's database.
    Inspect(Arc<Pool>),
    /// Ask a pool's servers again what they are.
    Doubt(Arc<Pool>),
    /// Cancel what an upstream runs, if it still is the same request.
    Cancel {
        /// The upstream.
        target: Arc<CancelTarget>,
        /// The request.
        epoch: u64,
        /// The upstream's number.
        upstream: u64,
        /// The worker that must hear of the end.
        worker: usize,
        /// Dropped at the end.
        done: Vec<oneshot::Sender<()>>,
    },
    /// Have a client stood in for.
    StandIn(Wanted),
    /// Say that this thread is alive.
    Answer(oneshot::Sender<()>),
    /// Ask for the plan of a slow statement.
    Plan(Box<plans::Wanted>, plans::Permit),
    /// Begin to listen for clients that give their upstreams back.
    Listen(Arc<Listener>, Asks),
}

/// Carries out orders until nobody can give any more.
pub async fn run(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let keepers = [
        tokio::task::spawn_local(keeper::pools(shared.clone(), telemetry.clone())),
        tokio::task::spawn_local(keeper::room(shared.clone(), telemetry.clone())),
        tokio::task::spawn_local(names::watch(shared.clone())),
        tokio::task::spawn_local(server_ids::watch(shared.clone())),
        tokio::task::spawn_local(column_names::watch(shared.clone())),
        tokio::task::spawn_local(cache::keeper::watch(shared.clone())),
        tokio::task::spawn_local(cache::slot::watch(shared.clone())),
        tokio::task::spawn_local(tenant_table::keeper::watch(shared.clone())),
    ];
    let (turns, captures) = (Turns::default(), plans::Turns::default());
    while let Some(order) = orders.recv().await {
        let (shared, telemetry, turns) = (shared.clone(), telemetry.clone(), turns.share());
        let captures = captures.share();
        tokio::task::spawn_local(async move {
            match order {
                Order::Dial(attempt, worker) => drop(dial(&shared, &telemetry, attempt, worker).await),
                Order::Reserve(pool, due, worker) => reserve(&shared, &pool, due, worker).await,
                Order::Inspect(pool) => inspect(&shared, &telemetry, &pool).await,
                Order::Doubt(pool) => roles::look(&shared, &pool).await,
                Order::Cancel { target, epoch, upstream, worker, done } => {
                    let fate = cancel(&shared, &target, epoch).await;
                    shared.send(worker, Mail::Cancelled(upstream, fate));
                    drop(done);
                }
                Order::StandIn(wanted) => stand_in::serve(shared, turns, wanted).await,
                Order::Plan(wanted, permit) => plans::capture(shared, captures, *wanted, permit).await,
                Order::Answer(answer) => drop(answer.send(())),
                Order::Listen(listener, asks) => listen::serve(shared, telemetry, listener, asks).await,
            }
        });
    }
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Carries an attempt to connect out. The upstream goes to whoever waits longest, else to this worker.
pub async fn dial(
    shared: &Arc<Shared>,
    telemetry: &WorkerTelemetry,
    attempt: Attempt,
    worker: usize,
) -> Result<Arc<Welcome>, DialFailure> {
    let pool = attempt.pool().clone();
    let meter = telemetry.pool(&pool.database, &pool.user);
    meter.dials.increment();
    meter.upstreams_dialling.up();
    let (settings, target) = (pool.settings(), pool.dialling_target());
    let began = Instant::now();
    let dialled = match &target {
        Some(target) => target.dial(shared, &settings, settings.connect_timeout).await,
        None => Err(Failure::Forgotten),
    };
    meter.upstreams_dialling.down();
    match dialled {
        Ok(mut dialled) => {
            meter.dial_times.record(began.elapsed().as_micros() as u64);
            pool.set_welcome(dialled.welcome.clone());
            if pool.inspection.is_due(Instant::now(), true) {
                drop(shared.control.send(Order::Inspect(pool.clone())));
            }
            let (berth, ticket) = attempt.succeed(dialled.server, Instant::now());
            dialled.shipped.berth = berth;
            let to = ticket.map_or(worker, |ticket| ticket.worker);
            shared.send(to, Mail::Upstream(pool.clone(), Box::new(dialled.shipped), ticket));
            // Others may have queued meanwhile.
            dial_more(shared, &pool, worker);
            Ok(dialled.welcome)
        }
        Err(failure) => {
            meter.dial_failures.increment();
            let failure = told(failure);
            if let Some(target) = &target {
                if matches!(failure, DialFailure::Said { code, .. } if is_about_credentials(&code)) {
                    pool.learned.refuse(&target.credential);
                }
                tracing::warn!(server = %target, database = %target.database, user = %target.user, ?failure, "no connection");
            }
            pool.set_failure(failure.clone());
            let now = Instant::now();
            for ticket in attempt.fail(now, rand::rng().random_range(0.0..1.0)) {
                shared.send(ticket.worker, Mail::Failed(ticket, unavailable(&pool, now, None)));
            }
            Err(failure)
        }
    }
}

/// A failed attempt as clients are told of it.
pub(crate) fn told(failure: Failure) -> DialFailure {
    let message = match failure {
        Failure::Failed(failure) => return failure,
        Failure::NoPassword => "the server wants a password, and the proxy has none for this user",
        Failure::Unusable(why) => why,
        Failure::Forgotten => "the server no longer accepts what this user has proven; log in again",
    };
    DialFailure::Said { code: *b"28P01", message: message.into() }
}

/// Begins as many further attempts as are wanted: several where one had to find out first whether the server is back.
fn dial_more(shared: &Arc<Shared>, pool: &Arc<Pool>, worker: usize) {
    while let Some(attempt) = Attempt::begin(pool, Want::Waiting, Instant::now()) {
        drop(shared.control.send(Order::Dial(attempt, worker)));
    }
}

/// Uses the pool's reserve when its time has come, and as long as clients wait for it.
async fn reserve(shared: &Arc<Shared>, pool: &Arc<Pool>, mut due: Instant, worker: usize) {
    loop {
        tokio::time::sleep_until(due.into()).await;
        pool.ledger().reserve_due();
        dial_more(shared, pool, worker);
        match pool.ledger().watch_reserve() {
            // A client that has waited for long already, and cannot be helped now, is not looked at in a busy loop.
            Some(next) => due = next.max(Instant::now() + RESERVE_AGAIN),
            None => return,
        }
    }
}

/// Cancels the request `epoch` of an upstream, and waits until the server has closed the connection: from then on the
/// cancel can strike nothing that comes later.
pub(crate) async fn cancel(shared: &Shared, target: &CancelTarget, epoch: u64) -> CancelFate {
    let sent = Cell::new(false);
    let attempt = async {
        let mut stream = target.open(shared).await.ok()?;
        if target.epoch() != epoch {
            return Some(());
        }
        let mut out = Vec::new();
        ask::cancel_request(&mut out, target.process as u32, &target.key).ok()?;
        sent.set(true);
        stream.write_all(&out).await.ok()?;
        // Nothing is ever said; the end of the connection is the sign.
        let mut end = [0u8; 64];
        while matches!(stream.read(&mut end).await, Ok(n) if n > 0) {}
        Some(())
    };
    if matches!(tokio::time::timeout(CANCEL_PATIENCE, attempt).await, Ok(Some(()))) {
        return CancelFate::Over;
    }
    tracing::warn!(server = %target.server, process = target.process, "a cancel could not be delivered");
    if sent.get() { CancelFate::Astray } else { CancelFate::Over }
}
