//! Where a cancel request goes: to a worker of this process, or to the process that the key names.
//!
//! ```text
//! client ──► any process behind the address ─┬─► own worker
//!                                            ├─► another process of this machine, by its Unix socket ([`siblings`])
//!                                            └─► another peer, by its address, once ([`peers`])
//! ```
//!
//! Whoever passes a request on closes its own connection when the other side has closed: to the client that means, as
//! always, that the cancel has had its effect.

pub mod key;
mod peers;
pub mod siblings;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wire::startup::CancelRequest;

use crate::shared::Shared;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Mail;
use key::Layout;

/// Longest wait of a client that asked for a cancel.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a request has come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By a port that clients connect to.
    Port,
    /// From another process of this machine: it is for nobody but us.
    Sibling,
}

/// Finds whom a cancel request is for. Lives on the control thread.
#[derive(Debug)]
pub struct Exchange {
    shared: Arc<Shared>,
    telemetry: Rc<WorkerTelemetry>,
}

impl Exchange {
    /// For this process.
    pub fn new(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>) -> Rc<Self> {
        Rc::new(Self { shared, telemetry })
    }

    /// Passes a request on, and returns when it has had its effect, or cannot have any.
    pub async fn cancel(&self, request: &CancelRequest<'_>, via: Via) {
        drop(tokio::time::timeout(PATIENCE, self.pass(request, via)).await);
    }

    async fn pass(&self, request: &CancelRequest<'_>, via: Via) {
        let own = self.shared.processes.layout();
        let (key, was_passed_on) = peers::without_mark(request.key);
        let peer = Layout::peer_of(request.process);
        if peer == own.peer && (Layout::generation_of(request.process) == own.generation || via == Via::Sibling) {
            return self.here(request.process, key).await;
        }
        let passed = match via {
            Via::Sibling => false,
            Via::Port if peer == own.peer => siblings::pass_on(&self.shared.processes, request.process, key).await,
            Via::Port if was_passed_on => false,
            Via::Port => match self.shared.settings().peers.addresses.get(&peer) {
                Some(address) => peers::pass_on(address, request.process, key).await,
                None => false,
            },
        };
        match passed {
            true => self.telemetry.load().cancels_passed_on.increment(),
            false => self.telemetry.load().cancels_unknown.increment(),
        }
    }

    /// Leaves it with the worker that the key names.
    async fn here(&self, process: u32, key: &[u8]) {
        let (done, over) = oneshot::channel();
        let worker = self.shared.processes.layout().worker_of(process);
        if worker >= self.shared.workers.len() {
            return self.telemetry.load().cancels_unknown.increment();
        }
        self.shared.send(worker, Mail::Cancel { process, key: key.into(), done });
        // Dropped when there is nothing more to wait for.
        drop(over.await);
    }
}
