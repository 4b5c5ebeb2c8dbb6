//! Where a cancel request goes: to a worker of this process, or to the process that the key names.
//!
//! ```text
//! client ──► any process behind the address ─┬─► own worker
//!                                            ├─► another process of this machine, by its Unix socket ([`siblings`]);
//!                                            │   each in turn where the key is a server's process id
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

use crate::console::{Console, NO_WORKER};
use crate::shared::Shared;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Mail;
use key::{Addressee, Layout};

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

/// How a client is known to who wants to cancel what it runs.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// By the process id that it was told, one of ours.
    Process {
        /// Its worker.
        worker: usize,
        /// That id.
        process: u32,
    },
    /// It was told its server's.
    Client(Addressee),
}

/// Finds whom a cancel request is for. Lives on the control thread.
#[derive(Debug)]
pub struct Exchange {
    shared: Arc<Shared>,
    telemetry: Rc<WorkerTelemetry>,
    console: Rc<Console>,
}

impl Exchange {
    /// For this process.
    pub fn new(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>, console: Rc<Console>) -> Rc<Self> {
        Rc::new(Self { shared, telemetry, console })
    }

    /// Passes a request on, and returns when it has had its effect, or cannot have any.
    pub async fn cancel(&self, request: &CancelRequest<'_>, via: Via) {
        drop(tokio::time::timeout(PATIENCE, self.pass(request, via)).await);
    }

    async fn pass(&self, request: &CancelRequest<'_>, via: Via) {
        let own = self.shared.processes.layout();
        let (key, was_passed_on) = peers::without_mark(request.key);
        let process = request.process;
        let is_own = Layout::is_own(process);
        let peer = if is_own { Layout::peer_of(process) } else { own.peer_of_key(key) };
        if peer == own.peer
            && let Some(addressee) = self.find(process, key, via)
        {
            return self.here(addressee, key).await;
        }
        let passed = match via {
            Via::Sibling => false,
            Via::Port if peer == own.peer && is_own => siblings::pass_on(&self.shared.processes, process, key).await,
            Via::Port if peer == own.peer => siblings::ask_all(&self.shared.processes, process, key).await,
            Via::Port if was_passed_on => false,
            Via::Port => match self.shared.settings().peers.addresses.get(&peer) {
                Some(address) => peers::pass_on(address, process, key).await,
                None => false,
            },
        };
        match passed {
            true => self.telemetry.load().cancels_passed_on.increment(),
            false => self.telemetry.load().cancels_unknown.increment(),
        }
    }

    /// Whom a request is for, if that is a client of this process.
    fn find(&self, process: u32, key: &[u8], via: Via) -> Option<Whose> {
        let processes = &self.shared.processes;
        let layout = processes.layout();
        if !Layout::is_own(process) {
            return processes.find(process, key).map(Whose::Client);
        }
        let ours = Layout::generation_of(process) == layout.generation || via == Via::Sibling;
        ours.then(|| Whose::Process { worker: layout.worker_of(process), process })
    }

    /// Leaves it with the client's worker.
    async fn here(&self, whose: Whose, key: &[u8]) {
        if let Whose::Client(Addressee { worker: NO_WORKER, client }) = whose {
            return self.console.cancel(client);
        }
        let (done, over) = oneshot::channel();
        let worker = match whose {
            Whose::Process { worker, .. } | Whose::Client(Addressee { worker, .. }) => worker,
        };
        if worker >= self.shared.workers.len() {
            return self.telemetry.load().cancels_unknown.increment();
        }
        self.shared.send(worker, Mail::Cancel { whose, key: key.into(), done });
        // Dropped when there is nothing more to wait for.
        drop(over.await);
    }
}
