//! Replication connections: `replication=true` or `database` in the startup packet.
//!
//! What such a connection does belongs to its client alone, so it is not pooled: it has a server connection of its own,
//! dialled for it with its own startup parameters, and its bytes go through unread, but for where messages begin. It
//! works in every pool mode, counts as a client, and ends as both of its ends do. During a drain it leaves where its
//! client loses nothing: at rest, or while changes are streamed, which begin again where they were; a base backup may
//! end first.

mod follower;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use policy::verdict::Refusal;
use tokio::io::AsyncWriteExt;

use crate::control::Order;
use crate::login::Seat;
use crate::pool::tokens::Member;
use crate::session::ctl::{Ctl, Held, State};
use crate::session::{Arrival, Introduction};
use crate::stream::Stream;
use crate::telemetry::PoolMeter;
use crate::tenancy::Membership;
use crate::trouble::Trouble;
use crate::upstream::{CancelTarget, Shipped};
use crate::worker::{READ, Scratch, Worker};
use follower::{Follower, Phase};

/// How long a client may take to accept the last words to it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a relay ends.
#[derive(Debug)]
enum End {
    /// One side has closed: the other one is closed too.
    Closed,
    /// The client is told this.
    Told(Trouble),
}

/// A client's place on its worker, and within the limits on clients: given back when the relay ends, whatever ended it.
struct Place {
    worker: Rc<Worker>,
    ctl: Rc<Ctl>,
    meter: PoolMeter,
    pool: Member,
    #[expect(dead_code, reason = "held for as long as the client is there")]
    seat: Seat,
    #[expect(dead_code, reason = "held for as long as the client is there")]
    membership: Membership,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.meter.clients.down();
        self.worker.telemetry.load().upstreams.down();
        self.worker.leave(&self.ctl);
    }
}

/// One client and its walsender.
struct Relay {
    place: Place,
    /// The upstream's number, and how it is cancelled.
    upstream: u64,
    cancel: Arc<CancelTarget>,
    client: Stream,
    server: Stream,
    follower: Follower,
    /// Read and not yet taken by the other side. While there is some, no more is read.
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// The server has closed.
    over: bool,
}

/// Begins to relay between a client that has logged in and the server connection that was dialled for it.
pub fn begin(worker: &Rc<Worker>, arrival: Arrival, shipped: Shipped) {
    let meter = worker.telemetry.pool(&arrival.pool.database, &arrival.pool.user);
    let ctl = Ctl::new(arrival.client, arrival.face);
    worker.enter(&ctl);
    if let Introduction::Made(identity) = arrival.introduction {
        worker.introduce(&ctl, identity);
    }
    meter.clients.up();
    worker.telemetry.load().upstreams.up();
    ctl.tenant.set(arrival.tenant);
    let place = Place {
        worker: worker.clone(),
        ctl: ctl.clone(),
        meter,
        pool: arrival.pool,
        seat: arrival.seat,
        membership: arrival.membership,
    };
    let attached = arrival.stream.attach().and_then(|client| Ok((client, shipped.stream.attach()?)));
    let (client, server) = match attached {
        Ok(streams) => streams,
        Err(error) => {
            tracing::warn!(client = ctl.client, %error, "a replication connection could not be taken over");
            return;
        }
    };
    let process = shipped.cancel.process;
    ctl.descriptor.set(client.descriptor());
    ctl.upstream.set(Some(Held {
        id: shipped.id,
        process,
        opened_us: worker.micros(shipped.opened),
        prepared: 0,
        tls: shipped.cancel.tls.is_some(),
        local_port: shipped.cancel.local.map_or(0, |local| local.port()),
        descriptor: server.descriptor(),
        server: shipped.cancel.server.id,
        since_us: worker.micros(shipped.opened),
    }));
    ctl.pinned.set(Some(("replication", 0)));
    let mut follower = Follower::new();
    if !arrival.early.is_empty() {
        follower.asked();
    }
    let relay = Relay {
        place,
        upstream: shipped.id,
        cancel: shipped.cancel,
        client,
        server,
        follower,
        to_server: arrival.early,
        to_client: Vec::new(),
        over: false,
    };
    tokio::task::spawn_local(relay.run());
}

impl Relay {
    async fn run(mut self) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        let End::Told(trouble) = end else { return };
        let mut out = std::mem::take(&mut self.to_client);
        if self.follower.is_between_messages() {
            trouble.write(true, &mut out);
        }
        let farewell = async {
            self.client.write_all(&out).await?;
            self.client.shutdown().await
        };
        // A client that does not take them goes without.
        drop(tokio::time::timeout(LAST_WORDS, farewell).await);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.place.ctl.park(cx.waker());
        loop {
            match self.step(cx) {
                Ok(true) => {}
                Ok(false) if self.over && self.to_client.is_empty() => return Poll::Ready(End::Closed),
                Ok(false) if self.place.ctl.drain.get() && self.may_leave() => {
                    return Poll::Ready(End::Told(Refusal::ShuttingDown.into()));
                }
                Ok(false) if self.place.ctl.removed.get() && self.may_leave() => {
                    let database = self.place.pool.database.clone();
                    return Poll::Ready(End::Told(Refusal::DatabaseRemoved { database }.into()));
                }
                Ok(false) => {
                    // It goes on under SUSPEND, which does not wait for it.
                    if self.place.worker.is_suspended() {
                        self.place.worker.rests(self.place.ctl.client);
                    }
                    return Poll::Pending;
                }
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Whether the client loses nothing if it has to connect again.
    fn may_leave(&self) -> bool {
        self.follower.phase() != Phase::Busy && self.follower.is_between_messages() && self.to_client.is_empty()
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.place.ctl.noted.replace(false) {
            self.heed()?;
        }
        let moved = self.pass_from_server(cx)?;
        Ok(self.pass_from_client(cx)? || moved)
    }

    fn heed(&mut self) -> Result<(), End> {
        let ctl = &self.place.ctl;
        if let Some(trouble) = ctl.kill.take() {
            return Err(End::Told(trouble));
        }
        if ctl.reload.replace(false) {
            ctl.removed.set(self.place.pool.removed.load(Ordering::Relaxed));
        }
        let done = ctl.cancel.take();
        if !done.is_empty() {
            self.place.meter.cancels_requested.add(done.len() as u64);
            self.place.meter.cancels_forwarded.add(done.len() as u64);
            // Nobody else ever uses this server connection, so a cancel that is late strikes its own client at worst.
            self.place.worker.order(Order::Cancel {
                target: self.cancel.clone(),
                epoch: self.cancel.epoch(),
                upstream: self.upstream,
                worker: self.place.worker.index,
                done,
            });
        }
        Ok(())
    }

    fn pass_from_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.to_client.is_empty() {
            return send(cx, &mut self.client, &mut self.to_client);
        }
        let worker = self.place.worker.clone();
        let Scratch { input, .. } = &mut *worker.scratch.borrow_mut();
        let space = input.get_mut(..READ).unwrap_or_default();
        if self.over {
            return Ok(false);
        }
        let bytes = match self.server.poll_read(cx, space) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => {
                self.over = true;
                return Ok(true);
            }
            Poll::Ready(Ok(n)) => space.get(..n).unwrap_or_default(),
        };
        self.follower.heard(bytes).map_err(|error| End::Told(error.into()))?;
        self.place.meter.bytes_out.add(bytes.len() as u64);
        self.to_client.extend_from_slice(bytes);
        self.show();
        Ok(true)
    }

    fn pass_from_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.to_server.is_empty() {
            return send(cx, &mut self.server, &mut self.to_server);
        }
        let worker = self.place.worker.clone();
        let Scratch { input, .. } = &mut *worker.scratch.borrow_mut();
        let space = input.get_mut(..READ).unwrap_or_default();
        let bytes = match self.client.poll_read(cx, space) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => return Err(End::Closed),
            Poll::Ready(Ok(n)) => space.get(..n).unwrap_or_default(),
        };
        self.follower.asked();
        self.place.meter.bytes_in.add(bytes.len() as u64);
        self.to_server.extend_from_slice(bytes);
        self.show();
        Ok(true)
    }

    /// For the admin port.
    fn show(&self) {
        let state = if self.follower.phase() == Phase::Idle { State::Idle } else { State::Active };
        if self.place.ctl.state.get().0 != state {
            self.place.ctl.state.set((state, self.place.worker.micros(Instant::now())));
        }
    }
}

/// Sends what fits; `false`: nothing does.
fn send(cx: &mut Context<'_>, to: &mut Stream, bytes: &mut Vec<u8>) -> Result<bool, End> {
    match to.poll_write(cx, bytes) {
        Poll::Pending => Ok(false),
        Poll::Ready(Ok(n)) if n > 0 => {
            bytes.drain(..n);
            Ok(true)
        }
        Poll::Ready(_) => Err(End::Closed),
    }
}
