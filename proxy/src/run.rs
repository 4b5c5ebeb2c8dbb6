//! Putting it all together, and taking it apart again.
//!
//! ```text
//! main ── control ─┬─ listeners ─ logins ─► workers
//!                  ├─ orders of the workers: dial, cancel
//!                  └─ admin port
//!      ── worker 0 … n
//!      ── analyst
//! ```
//!
//! Shutting down: readiness turns red; after `shutdown.grace` the listeners take what is in their queues and close;
//! clients at rest leave with 57P01, those in a request or a transaction at its end; after `shutdown.drain_timeout`
//! the rest leave too.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use config::{Changes, Settings};
use policy::tenant::Directory;
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{self, AdminContext, ClientState, Readiness, StateFuture, StateSource, UpstreamState};
use crate::analyst::{Analyst, AnalystSettings, FindingsStore};
use crate::control::{self, Order};
use crate::login::{Gate, target_of};
use crate::shared::{Shared, WorkerSeat};
use crate::source::Source;
use crate::stream::{Peer, Stream};
use crate::telemetry::{Bounds, Clock, Telemetry};
use crate::upstream::dial::Credential;
use crate::upstream::resolve::{self, Resolver};
use crate::worker::{self, Mail};

/// Connections that wait to be accepted, at most; a burst of 10,000 connects must not be refused for want of it.
const BACKLOG: i32 = 4096;
/// Findings kept; the least recently seen go first.
const MAX_FINDINGS: usize = 10_000;
/// Pause after accept has failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the proxy did not start, or did not go on.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration that names it.
        key: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The system has no thread, timer or signal to give.
    System(io::Error),
    /// The log cannot be written to.
    Log {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, key, cause } if cause.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: another program uses this port; stop it, or set {key} to another one"
                )
            }
            Self::Listen { address, key, cause } => write!(f, "cannot listen on {address} ({key}): {cause}"),
            Self::System(cause) => write!(f, "the system refused a thread, a timer or a signal: {cause}"),
            Self::Log { file, cause } => write!(f, "cannot write to log.file {}: {cause}", file.display()),
        }
    }
}

impl std::error::Error for RunError {}

impl From<io::Error> for RunError {
    fn from(cause: io::Error) -> Self {
        Self::System(cause)
    }
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Let requests and transactions end.
    Graceful,
    /// Now.
    Immediate,
}

/// A running proxy. Dropping the handle leaves it running; [`Handle::shutdown`] ends it.
pub struct Handle {
    shared: Arc<Shared>,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    stop: watch::Sender<Option<ShutdownMode>>,
    done: Option<oneshot::Receiver<()>>,
    threads: Vec<JoinHandle<()>>,
    analyst: Analyst,
    findings: Arc<FindingsStore>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("listen", &self.listen).field("admin", &self.admin).finish_non_exhaustive()
    }
}

fn listen(address: SocketAddr, key: &'static str) -> Result<std::net::TcpListener, RunError> {
    let open = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|cause| RunError::Listen { address, key, cause })
}

/// Starts the proxy; returns when clients can connect.
pub fn start(settings: Settings) -> Result<Handle, RunError> {
    start_with(settings, Arc::new(resolve::System))
}

/// As [`start`], with somebody else to ask for the addresses of servers.
pub fn start_with(settings: Settings, resolver: Arc<dyn Resolver>) -> Result<Handle, RunError> {
    let mut listeners = Vec::new();
    for address in &settings.listen {
        listeners.push(listen(*address, "listen")?);
    }
    let admin = settings.admin.as_ref().map(|admin| listen(admin.listen, "admin.listen")).transpose()?;
    let addresses: Result<Vec<SocketAddr>, io::Error> = listeners.iter().map(|socket| socket.local_addr()).collect();
    let (addresses, admin_address) = (addresses?, admin.as_ref().map(|socket| socket.local_addr()).transpose()?);

    let clock = Clock::new(Instant::now(), SystemTime::now());
    let directory = Arc::new(Directory::new(&settings.tenants));
    let bounds = Bounds { fingerprints: settings.observe.max_fingerprints, ..Bounds::default() };
    let telemetry = Telemetry::new(clock, bounds, directory.clone());
    let findings = Arc::new(FindingsStore::new(MAX_FINDINGS));
    let random = rand::rng().random();
    let analyst = Analyst::start(telemetry.clone(), findings.clone(), AnalystSettings::from(&settings), random)?;

    let (orders_in, orders) = mpsc::unbounded_channel();
    let mut mailboxes = Vec::new();
    let seats = (0..settings.workers.max(1)).map(|_| {
        let (mail, mailbox) = mpsc::unbounded_channel();
        mailboxes.push(mailbox);
        WorkerSeat { mail, clients: AtomicUsize::new(0) }
    });
    let seats: Box<[WorkerSeat]> = seats.collect();
    let token = settings.admin.as_ref().and_then(|admin| admin.token.clone());
    let shared = Arc::new(Shared::new(settings, resolver, directory, telemetry.clone(), seats, orders_in));

    let mut threads = Vec::new();
    for (index, mailbox) in mailboxes.into_iter().enumerate() {
        let shared = shared.clone();
        threads.push(spawn(format!("worker-{index}"), move || worker::run(index, shared, mailbox))?);
    }
    let (stop, stopping) = watch::channel(None);
    let (finished, done) = oneshot::channel();
    let context = AdminContext { telemetry, findings: findings.clone(), state: Arc::new(State(shared.clone())), token };
    let parts = Control { shared: shared.clone(), listeners, admin, context: Arc::new(context), orders, stopping };
    threads.push(spawn("control".to_owned(), move || async move {
        if let Err(error) = parts.run().await {
            tracing::error!(%error, "the control thread failed");
        }
        drop(finished);
    })?);
    Ok(Handle { shared, listen: addresses, admin: admin_address, stop, done: Some(done), threads, analyst, findings })
}

/// Starts a thread with a runtime of its own and runs `main` on it.
fn spawn<F: Future<Output = ()>>(
    name: String,
    main: impl FnOnce() -> F + Send + 'static,
) -> Result<JoinHandle<()>, RunError> {
    let (started, result) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                drop(started.send(Ok(())));
                runtime.block_on(main());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    result.recv().unwrap_or_else(|_| Err(io::Error::other("a thread ended at its start")))?;
    Ok(thread)
}

impl Handle {
    /// Where clients connect: the first of the listeners.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The admin port.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What the analyst has found.
    pub fn findings(&self) -> &Arc<FindingsStore> {
        &self.findings
    }

    /// Puts other settings in force, as far as that goes without a restart; says what could not be.
    pub fn reload(&self, settings: Settings) -> Changes {
        let running = self.shared.settings();
        let changes = Changes::between(&running, &settings);
        let settings = self.shared.set_settings(settings.without_restart(&running));
        for pool in self.shared.pools() {
            let Some((own, target)) = target_of(&settings, &pool.database, &pool.user) else { continue };
            let before = pool.target();
            // What a client has proven to the server is not forgotten.
            let learned = target.credential == Credential::None && target.is_at_same_place(&before);
            pool.reload(own, if learned { before } else { target });
        }
        for worker in 0..self.shared.workers.len() {
            self.shared.send(worker, Mail::Reload);
        }
        self.analyst.reload(AnalystSettings::from(&*settings));
        changes
    }

    /// Has it begin to stop. A second call with another mode hurries it.
    pub fn begin_shutdown(&self, mode: ShutdownMode) {
        self.stop.send_replace(Some(mode));
    }

    /// Stops it and waits until all is over.
    pub fn shutdown(self, mode: ShutdownMode) {
        self.begin_shutdown(mode);
        self.join();
    }

    fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
        self.analyst.stop();
    }
}

/// What the control thread works with.
struct Control {
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    admin: Option<std::net::TcpListener>,
    context: Arc<AdminContext>,
    orders: mpsc::UnboundedReceiver<Order>,
    stopping: watch::Receiver<Option<ShutdownMode>>,
}

impl Control {
    async fn run(self) -> io::Result<()> {
        let telemetry = Rc::new(self.shared.telemetry.worker("control"));
        tokio::task::spawn_local(control::run(self.shared.clone(), telemetry.clone(), self.orders));
        let (end_admin, admin_ends) = oneshot::channel::<()>();
        let admin = match self.admin {
            Some(socket) => {
                let listener = TcpListener::from_std(socket)?;
                Some(tokio::task::spawn_local(admin::serve(listener, self.context, async {
                    drop(admin_ends.await);
                })))
            }
            None => None,
        };
        let gate = Gate::new(self.shared.clone(), telemetry);
        let (end_listeners, listeners_end) = watch::channel(false);
        let mut listeners = Vec::new();
        for socket in self.listeners {
            let listener = TcpListener::from_std(socket)?;
            listeners.push(tokio::task::spawn_local(accept(listener, gate.clone(), listeners_end.clone())));
        }
        stop(&self.shared, self.stopping, end_listeners, listeners).await;
        drop(end_admin);
        if let Some(admin) = admin {
            drop(admin.await);
        }
        Ok(())
    }
}

/// Waits for the word to stop, and sees it through.
async fn stop(
    shared: &Shared,
    mut stopping: watch::Receiver<Option<ShutdownMode>>,
    end_listeners: watch::Sender<bool>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
) {
    // An error means that the handle is gone: the process is ending.
    drop(stopping.wait_for(Option::is_some).await);
    let settings = shared.settings().shutdown.clone();
    shared.draining.store(true, Ordering::Relaxed);
    let hurried = async {
        drop(stopping.wait_for(|mode| *mode == Some(ShutdownMode::Immediate)).await);
    };
    let gentle = async {
        tokio::time::sleep(settings.grace).await;
        end_listeners.send_replace(true);
        for listener in listeners {
            drop(listener.await);
        }
        tell(shared, || Mail::Drain);
        let deadline = tokio::time::Instant::now() + settings.drain_timeout;
        while shared.clients.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = hurried => {}
        () = gentle => {}
    }
    end_listeners.send_replace(true);
    let left = shared.clients.load(Ordering::Relaxed);
    if left > 0 {
        tracing::warn!(clients = left, "clients had to leave before they were done");
    }
    tell(shared, || Mail::Stop);
}

fn tell(shared: &Shared, letter: impl Fn() -> Mail) {
    for worker in 0..shared.workers.len() {
        shared.send(worker, letter());
    }
}

/// Accepts connections until told to end; then takes what is still in the queue, and closes.
async fn accept(listener: TcpListener, gate: Rc<Gate>, mut end: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = end.wait_for(|end| *end) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                crate::upstream::server::prepare(&stream);
                drop(tokio::task::spawn_local(gate.clone().admit(Stream::Tcp(stream), Peer::Tcp(peer))));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What the admin port asks.
struct State(Arc<Shared>);

impl State {
    fn look(&self, limit: usize) -> impl Future<Output = (Vec<ClientState>, Vec<UpstreamState>)> + Send + use<> {
        let answers: Vec<_> = (0..self.0.workers.len())
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                self.0.send(worker, Mail::Look(limit, answer));
                answered
            })
            .collect();
        async move {
            let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
            for answered in answers {
                if let Ok((some, others)) = answered.await {
                    clients.extend(some);
                    upstreams.extend(others);
                }
            }
            clients.truncate(limit);
            upstreams.truncate(limit);
            (clients, upstreams)
        }
    }
}

impl StateSource for State {
    fn readiness(&self) -> Readiness {
        match self.0.draining.load(Ordering::Relaxed) {
            true => Readiness::NotReady(vec!["draining".to_owned()]),
            false => Readiness::Ready,
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }

    fn clients(&self, limit: usize) -> StateFuture<Vec<ClientState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.0 })
    }

    fn upstreams(&self, limit: usize) -> StateFuture<Vec<UpstreamState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.1 })
    }
}

/// Serves until told to stop by a signal: SIGTERM and SIGINT drain, a second one stops at once, SIGQUIT stops at once,
/// SIGHUP reads the configuration again.
pub fn run(settings: Settings, source: Source) -> Result<(), RunError> {
    let log = crate::log::init(&settings.log)?;
    let mut handle = start(settings)?;
    let addresses: Vec<String> = handle.listen.iter().map(SocketAddr::to_string).collect();
    tracing::info!(
        listen = addresses.join(", "),
        admin = handle.admin.map(tracing::field::display),
        version = env!("CARGO_PKG_VERSION"),
        "pgweir serves"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(signals(&mut handle, &source, &log))?;
    handle.join();
    tracing::info!("pgweir has stopped");
    Ok(())
}

async fn signals(handle: &mut Handle, source: &Source, log: &crate::log::Level) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let Some(mut done) = handle.done.take() else {
        return Ok(());
    };
    let mut asked = false;
    loop {
        tokio::select! {
            _ = &mut done => return Ok(()),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => asked = true,
            _ = hangup.recv() => {
                reload(handle, source, log);
                continue;
            }
        }
        let mode = if asked { ShutdownMode::Immediate } else { ShutdownMode::Graceful };
        tracing::info!(?mode, "stopping");
        handle.begin_shutdown(mode);
        asked = true;
    }
}

fn reload(handle: &Handle, source: &Source, log: &crate::log::Level) {
    match source.load() {
        Ok(settings) => {
            log.set(settings.log.level);
            let changes = handle.reload(settings);
            tracing::info!(at_once = changes.at_once.join(", "), "configuration read again");
            if !changes.restart.is_empty() {
                tracing::warn!(keys = changes.restart.join(", "), "these changes need a restart");
            }
        }
        Err(error) => {
            for line in error.to_string().lines() {
                tracing::error!("configuration not changed: {line}");
            }
        }
    }
}
