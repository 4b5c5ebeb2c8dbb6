//! What all threads share. Made by [`run`](crate::run), handed down; nothing here is static.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use config::Settings;
use policy::tenant::Directory;
use tokio::sync::mpsc::UnboundedSender;

use crate::control::Order;
use crate::pool::Pool;
use crate::telemetry::Telemetry;
use crate::upstream::dial::Target;
use crate::worker::Mail;

/// Texts with an id of their own; beyond, the table begins anew (ids are never reused).
const MAX_STATEMENT_IDS: usize = 100_000;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    settings: RwLock<Arc<Settings>>,
    pools: Mutex<Pools>,
    statement_ids: Mutex<HashMap<Box<[u8]>, u64>>,
    ids: AtomicU64,
    /// Tenants by name and number.
    pub directory: Arc<Directory>,
    /// Written from everywhere, read by the admin port.
    pub telemetry: Arc<Telemetry>,
    /// The way to each worker.
    pub workers: Box<[WorkerSeat]>,
    /// The way to the control thread.
    pub control: UnboundedSender<Order>,
    /// Clients that are served or logging in.
    pub clients: AtomicUsize,
    /// SIGTERM has come.
    pub draining: AtomicBool,
}

/// The way to one worker, and how many clients it has.
#[derive(Debug)]
pub struct WorkerSeat {
    /// Its mailbox.
    pub mail: UnboundedSender<Mail>,
    /// Clients that it serves.
    pub clients: AtomicUsize,
}

#[derive(Debug, Default)]
struct Pools {
    all: Vec<Arc<Pool>>,
    by_name: HashMap<(Box<str>, Box<str>), usize>,
}

impl Shared {
    /// Everything empty.
    pub fn new(
        settings: Settings,
        directory: Arc<Directory>,
        telemetry: Arc<Telemetry>,
        workers: Box<[WorkerSeat]>,
        control: UnboundedSender<Order>,
    ) -> Self {
        Self {
            directory,
            settings: RwLock::new(Arc::new(settings)),
            pools: Mutex::default(),
            statement_ids: Mutex::default(),
            ids: AtomicU64::new(1),
            telemetry,
            workers,
            control,
            clients: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts new settings in force for whoever asks from now on.
    pub fn set_settings(&self, settings: Settings) -> Arc<Settings> {
        let settings = Arc::new(settings);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        settings
    }

    /// A number that this process has not used yet: clients, upstreams, statements.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The pool of a database and user; made from `make` if there is none. `None` from `make`: no such database.
    pub fn pool(
        &self,
        database: &str,
        user: &str,
        make: impl FnOnce() -> Option<(config::Pool, Arc<Target>)>,
    ) -> Option<Arc<Pool>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (Box::from(database), Box::from(user));
        if let Some(pool) = pools.by_name.get(&name).and_then(|id| pools.all.get(*id)) {
            return Some(pool.clone());
        }
        let (settings, target) = make()?;
        let id = pools.all.len();
        let pool = Arc::new(Pool::new(id, database, user, settings, target, self.workers.len()));
        pools.all.push(pool.clone());
        pools.by_name.insert(name, id);
        Some(pool)
    }

    /// Every pool.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The id of a statement: the same for the same text and parameter types on every worker, never reused.
    pub fn statement_id(&self, query: &[u8], types: &[u8]) -> u64 {
        // The types' number of bytes leads, so that no text can run into another's types.
        let mut key = Vec::with_capacity(8 + types.len() + query.len());
        key.extend_from_slice(&(types.len() as u64).to_be_bytes());
        key.extend_from_slice(types);
        key.extend_from_slice(query);
        let mut ids = self.statement_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get(key.as_slice()) {
            return *id;
        }
        if ids.len() >= MAX_STATEMENT_IDS {
            ids.clear();
        }
        let id = self.next_id();
        ids.insert(key.into(), id);
        id
    }

    /// Puts a letter into a worker's mailbox. A worker that is gone has no use for it.
    pub fn send(&self, worker: usize, mail: Mail) {
        if let Some(seat) = self.workers.get(worker) {
            drop(seat.mail.send(mail));
        }
    }

    /// The worker with the fewest clients.
    pub fn least_loaded(&self) -> usize {
        let loads = self.workers.iter().enumerate();
        loads.min_by_key(|(_, seat)| seat.clients.load(Ordering::Relaxed)).map_or(0, |(worker, _)| worker)
    }

    /// An upstream's lifetime with its jitter of ± 10 %; `spread` in 0..1. `None`: for ever.
    pub fn lifetime(settings: &config::Pool, spread: f64) -> Option<Duration> {
        (!settings.lifetime.is_zero()).then(|| settings.lifetime.mul_f64(0.9 + 0.2 * spread.clamp(0.0, 1.0)))
    }
}
