//! The control thread from its first moment to its last, and the order in which everything ends.
//!
//! 1. Readiness turns red. For `shutdown.grace` nothing else changes: a load balancer has time to notice.
//! 2. The listeners close without losing anybody ([`listeners`](crate::listeners)). Who comes out of a queue now is
//!    served as everybody else.
//! 3. Clients at rest are told 57P01, those in a request or a transaction at its end. Who has logged in within the last
//!    second may begin something first: it could not know better than to come here.
//! 4. `shutdown.drain_timeout` later, or as soon as nobody is left: who is still logging in is told 57P01, then who is
//!    still being served. Logins end before workers do, so no client reaches a worker that has stopped.
//!
//! A second signal goes on with 4 at once. SHUTDOWN WAIT_FOR_CLIENTS on the console begins with 2 and goes on with 4 when
//! the last client has left by itself; a signal hurries it. The console itself stays to the end.

use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::{ShutdownMode, Stopper};
use crate::admin::{self, AdminContext};
use crate::cancel::{Exchange, siblings};
use crate::console::Console;
use crate::control::{self, Order};
use crate::listeners::{Change, Listener, Listeners};
use crate::login::Gate;
use crate::shared::Shared;
use crate::worker::Mail;

/// How often a drain looks whether anybody is left.
const LOOK: Duration = Duration::from_millis(10);

/// How long a drain waits for logins alone: a connection that never says who it is holds nobody up.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// What the control thread works with.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Vec<Listener>,
    pub(super) changes: mpsc::UnboundedReceiver<Change>,
    pub(super) admin: Option<Listener>,
    pub(super) siblings: Option<UnixListener>,
    pub(super) context: Arc<AdminContext>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) stop: Stopper,
    pub(super) stopping: watch::Receiver<Option<ShutdownMode>>,
}

impl Control {
    pub(super) async fn run(self) -> io::Result<()> {
        let telemetry = Rc::new(self.shared.telemetry.worker("control"));
        tokio::task::spawn_local(control::run(self.shared.clone(), telemetry.clone(), self.orders));
        let (end_admin, admin_ends) = oneshot::channel::<()>();
        let admin = match self.admin {
            Some(listener) => {
                let socket = listener.into_tcp().ok_or_else(|| io::Error::other("the admin port is no TCP socket"))?;
                let listener = TcpListener::from_std(socket)?;
                Some(tokio::task::spawn_local(admin::serve(listener, self.context.clone(), async {
                    drop(admin_ends.await);
                })))
            }
            None => None,
        };
        let console = Console::new(self.shared.clone(), self.context, self.stop);
        let averages = tokio::task::spawn_local(console.clone().keep_averages());
        let exchange = Exchange::new(self.shared.clone(), telemetry.clone(), console.clone());
        let siblings = self.siblings.map(|socket| tokio::task::spawn_local(siblings::hear(socket, exchange.clone())));
        let gate = Gate::new(self.shared.clone(), telemetry, exchange, console.clone());
        let mut listeners = Listeners::new(gate.clone());
        for listener in self.listeners {
            listeners.add(listener)?;
        }
        let mut stopping = self.stopping;
        accept_until_told(&mut listeners, self.changes, &mut stopping).await;
        stop(&self.shared, &gate, listeners, stopping).await;
        console.dismiss().await;
        averages.abort();
        if let Some(siblings) = siblings {
            siblings.abort();
        }
        drop(end_admin);
        if let Some(admin) = admin {
            drop(admin.await);
        }
        Ok(())
    }
}

/// Lets the listeners do their work, as reloads change them, until the word to stop comes.
async fn accept_until_told(
    listeners: &mut Listeners,
    mut changes: mpsc::UnboundedReceiver<Change>,
    stopping: &mut watch::Receiver<Option<ShutdownMode>>,
) {
    loop {
        tokio::select! {
            // An error means that the handle is gone: the process is ending.
            _ = stopping.wait_for(Option::is_some) => return,
            Some(change) = changes.recv() => listeners.change(change),
        }
    }
}

/// Sees the end through.
async fn stop(
    shared: &Shared,
    gate: &Gate,
    mut listeners: Listeners,
    mut stopping: watch::Receiver<Option<ShutdownMode>>,
) {
    shared.draining.store(true, Ordering::Relaxed);
    // Nobody could leave: who is not read is not heard to go.
    shared.suspend(false, None);
    let hurried = async {
        drop(stopping.wait_for(|mode| *mode != Some(ShutdownMode::WaitForClients)).await);
    };
    tokio::select! {
        biased;
        () = hurried => {}
        () = wait_for_clients(shared, gate, &mut listeners) => {}
    }
    let settings = shared.settings().shutdown.clone();
    let grace = match *stopping.borrow() {
        Some(ShutdownMode::Graceful) => settings.grace,
        _ => Duration::ZERO,
    };
    let mut prompted = stopping.clone();
    let hurried = async {
        drop(stopping.wait_for(|mode| *mode == Some(ShutdownMode::Immediate)).await);
    };
    let gentle = async {
        // Who asks for a prompt end meanwhile does not want the grace.
        let prompt = prompted.wait_for(|mode| mode.is_some_and(|mode| mode >= ShutdownMode::Prompt));
        drop(tokio::time::timeout(grace, prompt).await);
        listeners.close().await;
        tell(shared, || Mail::Drain);
        let deadline = tokio::time::Instant::now() + settings.drain_timeout;
        let patience = tokio::time::Instant::now() + LOGIN_PATIENCE;
        loop {
            let now = tokio::time::Instant::now();
            let logging_in = gate.guests() > 0 && now < patience;
            let served = shared.clients.load(Ordering::Relaxed) > 0;
            if !(logging_in || served) || now >= deadline {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = hurried => {}
        () = gentle => {}
    }
    listeners.close_at_once();
    gate.dismiss().await;
    let left = shared.clients.load(Ordering::Relaxed);
    if left > 0 {
        tracing::warn!(clients = left, "clients had to leave before they were done");
    }
    tell(shared, || Mail::Stop);
}

/// Takes no new clients, and returns when the last one has left.
async fn wait_for_clients(shared: &Shared, gate: &Gate, listeners: &mut Listeners) {
    listeners.close().await;
    while shared.clients.load(Ordering::Relaxed) > 0 || gate.guests() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(shared: &Shared, letter: impl Fn() -> Mail) {
    for worker in 0..shared.workers.len() {
        shared.send(worker, letter());
    }
}
