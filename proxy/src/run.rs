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
//! How it ends: `stop`.

mod doors;
pub mod reloads;
mod scheduling;
mod signals;
mod state;
mod stop;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use config::{Changes, ListenAddress, Settings};
use policy::finding::Timestamp;
use policy::tenant::Directory;
use rand::RngExt;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{AdminContext, Audit};
use crate::analyst::{Analyst, AnalystSettings, FindingsStore};
use crate::cache::Caches;
use crate::cancel::siblings;
use crate::capture::Captures;
use crate::commands::Commands;
use crate::listeners::inherited::Inherited;
use crate::listeners::{self, Change};
use crate::log::level::Level;
use crate::login::{limits_of, target_of};
use crate::shared::Counted;
use crate::shared::{Shared, WorkerSeat};
use crate::telemetry::{Bounds, Clock, Telemetry};
use crate::tls::TlsError;
use crate::upstream::resolve::{self, Resolver};
use crate::worker::{self, Mail};

/// Findings kept; the least recently seen go first.
const MAX_FINDINGS: usize = 10_000;
use doors::Doors;
use reloads::Reloader;
pub use signals::run;
use state::State;
use stop::Control;

/// Why the proxy did not start, or did not go on.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: ListenAddress,
        /// The key of the configuration that names it.
        key: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The admin port that the service manager has opened can be reached by others, and asks for too little.
    OpenAdmin(SocketAddr),
    /// What the service manager has handed over is not a socket that clients can connect to.
    Inherited(io::Error),
    /// The system has no thread, timer or signal to give.
    System(io::Error),
    /// TLS cannot be made of the settings.
    Tls(TlsError),
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
            Self::Listen { address: ListenAddress::Unix(path), key, cause }
                if cause.kind() == io::ErrorKind::AddrInUse =>
            {
                let path = path.display();
                write!(
                    f,
                    "cannot listen on {path}: another program listens on this socket; stop it, or set {key} to another folder or port"
                )
            }
            Self::Listen { address, key, cause } if cause.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: another program uses this port; stop it, or set {key} to another one"
                )
            }
            Self::Listen { address, key, cause } => write!(f, "cannot listen on {address} ({key}): {cause}"),
            Self::OpenAdmin(address) => write!(
                f,
                "the admin port's socket is bound to {address}, which others can reach: it needs a token (admin.token) and a certificate (admin.tls_cert_file); set them, or use ListenStream=127.0.0.1:6433 in the socket unit"
            ),
            Self::Inherited(cause) => write!(
                f,
                "LISTEN_FDS names a descriptor that is no listening socket (that of the admin port: of TCP): {cause}; use ListenStream= with an address and a port, or a path, in the socket unit"
            ),
            Self::Tls(cause) => write!(f, "{cause}"),
            Self::System(cause) => write!(f, "the system refused a thread, a timer or a signal: {cause}"),
            Self::Log { file, cause } => write!(f, "cannot write to log.file {}: {cause}", file.display()),
        }
    }
}

impl std::error::Error for RunError {}

impl From<TlsError> for RunError {
    fn from(cause: TlsError) -> Self {
        Self::Tls(cause)
    }
}

impl From<io::Error> for RunError {
    fn from(cause: io::Error) -> Self {
        Self::System(cause)
    }
}

/// How to stop; each hurries more than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// Take no new clients, and wait until those that are there have left by themselves.
    WaitForClients,
    /// Wait for `shutdown.grace`, then let requests and transactions end.
    Graceful,
    /// Let requests and transactions end.
    Prompt,
    /// Now.
    Immediate,
}

/// Has the proxy stop, from inside.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<Option<ShutdownMode>>>);

impl Stopper {
    /// Begins, or hurries what has begun; it never takes hurry back.
    pub fn stop(&self, mode: ShutdownMode) {
        self.0.send_if_modified(|now| {
            let hurries = now.is_none_or(|now| now < mode);
            if hurries {
                *now = Some(mode);
            }
            hurries
        });
    }
}

/// A running proxy. Dropping the handle leaves it running; [`Handle::shutdown`] ends it.
pub struct Handle {
    shared: Arc<Shared>,
    listen: Arc<Doors>,
    admin: Option<SocketAddr>,
    listeners: mpsc::UnboundedSender<Change>,
    stop: Arc<watch::Sender<Option<ShutdownMode>>>,
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

/// What the proxy is lent at its start.
#[derive(Debug)]
pub struct World {
    /// Whom to ask for the addresses of servers.
    pub resolver: Arc<dyn Resolver>,
    /// Sockets that are open already.
    pub inherited: Inherited,
    /// Counts lines of the log that could not be written.
    pub log_lines_lost: Arc<AtomicU64>,
    /// How much is logged; `None`: whoever has started us decides.
    pub log_level: Option<Arc<Level>>,
    /// Who reads the configuration again; `None`: nobody can.
    pub reloader: Option<Reloader>,
}

impl Default for World {
    /// The system's resolver, no sockets, no configuration that could be read again.
    fn default() -> Self {
        Self {
            resolver: Arc::new(resolve::System),
            inherited: Inherited::default(),
            log_lines_lost: Arc::default(),
            log_level: None,
            reloader: None,
        }
    }
}

/// Starts the proxy; returns when clients can connect.
///
/// # Errors
/// See [`RunError`].
pub fn start(settings: Settings) -> Result<Handle, RunError> {
    start_with(settings, World::default())
}

/// As [`start`], in a world of one's own.
///
/// # Errors
/// See [`RunError`].
pub fn start_with(settings: Settings, world: World) -> Result<Handle, RunError> {
    let tls = crate::tls::make(&settings)?;
    let (listeners, admin) = listeners::open(&settings, world.inherited)?;
    let doors = Arc::new(Doors::new(&listeners));
    let admin_address = admin.as_ref().and_then(|listener| listener.address.tcp());

    let clock = Clock::new(Instant::now(), SystemTime::now());
    let directory = Arc::new(Directory::new(&settings.tenants));
    let bounds = Bounds { fingerprints: settings.observe.max_fingerprints, ..Bounds::default() };
    let telemetry = Telemetry::new(clock, bounds, directory.clone());
    let findings = Arc::new(FindingsStore::new(MAX_FINDINGS));
    findings.configure(&settings.observe.mutes, Timestamp(clock.start_us()));
    if let Some(folder) = &settings.observe.state_directory {
        findings.keep_in(folder, Timestamp(clock.start_us()));
    }
    let random = rand::rng().random();
    let captures = Arc::<Captures>::default();
    telemetry.samples.switch(settings.observe.samples);
    let analyst_settings = AnalystSettings::from(&settings);
    let analyst = Analyst::start(telemetry.clone(), findings.clone(), captures.clone(), analyst_settings, random)?;

    let (orders_in, orders) = mpsc::unbounded_channel();
    let mut mailboxes = Vec::new();
    let seats = (0..settings.workers.max(1)).map(|_| {
        let (mail, mailbox) = mpsc::unbounded_channel();
        mailboxes.push(mailbox);
        WorkerSeat { mail, clients: AtomicUsize::new(0) }
    });
    let seats: Box<[WorkerSeat]> = seats.collect();
    let port = doors.addresses().first().map_or(0, ListenAddress::port);
    let place = siblings::find_place(settings.peers.own, port, settings.workers.max(1));
    let shared =
        Arc::new(Shared::new(settings, world.resolver, place.ids, directory, telemetry.clone(), seats, orders_in));
    shared.set_tls(tls);

    let mut threads = Vec::new();
    for (index, mailbox) in mailboxes.into_iter().enumerate() {
        let shared = shared.clone();
        let scheduling = shared.settings().worker_scheduling;
        threads.push(spawn(format!("worker-{index}"), move || {
            scheduling::apply(scheduling);
            worker::run(index, shared, mailbox)
        })?);
    }
    let (stop, stopping) = watch::channel(None);
    let stop = Arc::new(stop);
    let (finished, done) = oneshot::channel();
    let context = AdminContext {
        telemetry,
        findings: findings.clone(),
        captures,
        state: Arc::new(State {
            shared: shared.clone(),
            doors: doors.clone(),
            log_lines_lost: world.log_lines_lost,
            reloader: world.reloader,
            log_level: world.log_level,
            stop: Arc::downgrade(&stop),
        }),
        events: Arc::default(),
        audit: Audit::new(clock),
    };
    let (to_listeners, changes) = mpsc::unbounded_channel();
    let context = Arc::new(context);
    let parts = Control {
        shared: shared.clone(),
        listeners,
        changes,
        admin,
        siblings: place.socket,
        context,
        orders,
        stop: Stopper(stop.clone()),
        stopping,
    };
    threads.push(spawn("control".to_owned(), move || async move {
        if let Err(error) = parts.run().await {
            tracing::error!(%error, "the control thread failed");
        }
        drop(finished);
    })?);
    Ok(Handle {
        shared,
        listen: doors,
        admin: admin_address,
        listeners: to_listeners,
        stop,
        done: Some(done),
        threads,
        analyst,
        findings,
    })
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
    /// Where clients connect by TCP: the first of the listeners.
    pub fn listen_addr(&self) -> SocketAddr {
        let first = self.listen_addrs().iter().find_map(ListenAddress::tcp);
        first.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Where clients connect.
    pub fn listen_addrs(&self) -> Vec<ListenAddress> {
        self.listen.addresses()
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
    ///
    /// # Errors
    /// [`RunError::Listen`]: a new address cannot be listened on; [`RunError::Tls`]: TLS cannot be made of them. Nothing has
    /// changed then.
    pub fn reload(&self, settings: Settings) -> Result<Changes, RunError> {
        let tls = crate::tls::make(&settings).inspect_err(|error| self.reload_refused(&error.to_string()))?;
        let running = self.shared.own_settings();
        let changes = Changes::between(&running, &settings);
        let settings = settings.without_restart(&running);
        let change = self.listen.change(&settings).inspect_err(|error| self.reload_refused(&error.to_string()))?;
        if let Some(change) = change {
            drop(self.listeners.send(change));
        }
        self.shared.set_tls(tls);
        self.shared.reloads().succeeded(SystemTime::now(), &Changes::keys(&changes.restart));
        let settings = self.shared.set_settings(settings);
        for pool in self.shared.pools.all() {
            let target = target_of(&settings, &pool.database, &pool.user, pool.replication);
            pool.removed.store(target.is_none(), Ordering::Relaxed);
            let Some((own, target)) = target else { continue };
            pool.reload(own, target);
            pool.set_limits(limits_of(&settings, &pool.database, &pool.user));
            self.shared.sweep(&pool);
        }
        for worker in 0..self.shared.workers.len() {
            self.shared.send(worker, Mail::Reload);
        }
        let now = self.shared.telemetry.clock.micros(Instant::now());
        self.findings.configure(&settings.observe.mutes, Timestamp(now));
        self.shared.telemetry.samples.switch(settings.observe.samples);
        self.analyst.reload(AnalystSettings::from(&*settings));
        Ok(changes)
    }

    /// Notes that a reload has changed nothing, and why: a line for each mistake.
    pub fn reload_refused(&self, why: &str) {
        self.shared.reloads().refused(SystemTime::now(), why);
    }

    /// Gives commands to it.
    pub fn commands(&self) -> Commands {
        Commands::new(self.shared.clone())
    }

    /// The read cache.
    pub fn caches(&self) -> &Caches {
        &self.shared.caches
    }

    /// What is counted, to be looked at when it has stopped.
    pub fn counts(&self) -> Counted {
        Counted(self.shared.clone())
    }

    /// Has it begin to stop. A second call with another mode hurries it.
    pub fn begin_shutdown(&self, mode: ShutdownMode) {
        self.stop.send_replace(Some(mode));
    }

    /// Whether it has begun to stop, whoever wanted that.
    pub fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Returns when the way in which it stops has changed, and how it does now.
    pub(crate) async fn stops(watch: &mut watch::Receiver<Option<ShutdownMode>>) -> Option<ShutdownMode> {
        watch.changed().await.ok()?;
        *watch.borrow_and_update()
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
