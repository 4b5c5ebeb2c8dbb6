//! What all threads share. Made by [`run`](crate::run), handed down; nothing here is static.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use config::{NotChanged, Settings, TenantRows};
use policy::tenant::Directory;
use policy::verdict::Refusal;
use tokio::sync::mpsc::UnboundedSender;

use crate::aside::{self, Aside, Kind};
use crate::cache::Caches;
use crate::cancel::key::ProcessIds;
use crate::control::Order;
use crate::listen::Listeners;
use crate::login::{limits_of, target_of};
use crate::pool::Pool;
use crate::pool::quota::Counts;
use crate::pool::room::Room;
use crate::pool::tokens::Member;
use crate::pools::{Entered, Full, Pools};
use crate::run::reloads::Reloads;
use crate::schemas::{Place, Schemas};
use crate::telemetry::Telemetry;
use crate::tenancy::{Rules, Tenancy};
use crate::tenant_table::TenantTable;
use crate::tls::clients::Clients;
use crate::tls::servers::Servers;
use crate::upstream::hosts::HostTable;
use crate::upstream::resolve::{Names, Resolver};
use crate::worker::Mail;

/// Texts with an id of their own; beyond, the table begins anew (ids are never reused).
const MAX_STATEMENT_IDS: usize = 100_000;
/// Bytes that those texts may take: a client chooses how long they are.
const MAX_STATEMENT_BYTES: usize = 64 * 1024 * 1024;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    rules: RwLock<Arc<Rules>>,
    /// What the table of tenants says. Whoever changes the rules holds it meanwhile: they come one after the other.
    rows: Mutex<TenantRows>,
    /// How it stands with that table.
    pub tenant_table: TenantTable,
    /// What tenants use of what they share.
    pub tenancy: Tenancy,
    /// Every pool.
    pub pools: Pools,
    /// Room for upstreams.
    pub room: Arc<Room>,
    /// Connections beside the pools.
    pub aside: Aside,
    /// Replies that are kept.
    pub caches: Caches,
    seats: Mutex<Counts>,
    /// What has become of databases' schemas.
    pub schemas: Schemas,
    statement_ids: Mutex<StatementIds>,
    ids: AtomicU64,
    reloads: Mutex<Reloads>,
    /// What clients are told as their process ids.
    pub processes: ProcessIds,
    /// From hosts' names to their addresses.
    pub names: Names,
    hosts: Mutex<HostTable>,
    /// Tenants by name and number.
    pub directory: Arc<Directory>,
    /// Written from everywhere, read by the admin port.
    pub telemetry: Arc<Telemetry>,
    /// TLS towards servers.
    pub servers: Servers,
    clients_tls: RwLock<Clients>,
    /// The way to each worker.
    pub workers: Box<[WorkerSeat]>,
    /// The way to the control thread.
    pub control: UnboundedSender<Order>,
    /// Who listens for clients that give their upstreams back.
    pub listeners: Listeners,
    /// Clients that are served or logging in.
    pub clients: AtomicUsize,
    /// The process takes more memory than `max_memory`: nobody new is let in.
    pub short_of_memory: AtomicBool,
    /// SIGTERM has come.
    pub draining: AtomicBool,
    /// SUSPEND: clients' next requests wait for RESUME.
    pub suspended: AtomicBool,
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
struct StatementIds {
    by_text: HashMap<Box<[u8]>, u64>,
    bytes: usize,
}

impl StatementIds {
    fn id_of(&mut self, key: Box<[u8]>, next: impl FnOnce() -> u64) -> u64 {
        if let Some(id) = self.by_text.get(&key) {
            return *id;
        }
        if self.by_text.len() >= MAX_STATEMENT_IDS || self.bytes + key.len() > MAX_STATEMENT_BYTES {
            *self = Self::default();
        }
        let id = next();
        self.bytes += key.len();
        self.by_text.insert(key, id);
        id
    }
}

impl Shared {
    /// Everything empty.
    pub fn new(
        settings: Settings,
        resolver: Arc<dyn Resolver>,
        processes: ProcessIds,
        directory: Arc<Directory>,
        telemetry: Arc<Telemetry>,
        workers: Box<[WorkerSeat]>,
        control: UnboundedSender<Order>,
    ) -> Self {
        let caches = Caches::new(&settings.cache).with_mail(workers.iter().map(|seat| seat.mail.clone()).collect());
        Self {
            rules: RwLock::new(Arc::new(Rules::new(Arc::new(settings), &TenantRows::new(), &directory, 0))),
            rows: Mutex::default(),
            tenant_table: TenantTable::default(),
            directory,
            tenancy: Tenancy::default(),
            pools: Pools::default(),
            room: Arc::default(),
            aside: Aside::default(),
            caches,
            seats: Mutex::default(),
            schemas: Schemas::default(),
            statement_ids: Mutex::default(),
            ids: AtomicU64::new(1),
            reloads: Mutex::default(),
            processes,
            names: Names::new(resolver),
            hosts: Mutex::default(),
            telemetry,
            servers: Servers::default(),
            clients_tls: RwLock::new(Clients::none()),
            workers,
            control,
            listeners: Listeners::default(),
            clients: AtomicUsize::new(0),
            short_of_memory: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.rules().settings.clone()
    }

    /// The settings that were read, without the tenants of a table.
    pub fn own_settings(&self) -> Arc<Settings> {
        self.rules().own.clone()
    }

    /// What follows from them for sessions.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts new settings in force for whoever asks from now on.
    pub fn set_settings(&self, settings: Settings) -> Arc<Settings> {
        let rows = self.rows();
        let rules = Arc::new(Rules::new(Arc::new(settings), &rows, &self.directory, self.next_id()));
        let settings = rules.settings.clone();
        {
            let mut known = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            // Before anybody is told of another change: the order in which caches hear of them is that of the settings.
            self.caches.take_over(&known.settings.cache, &settings.cache);
            *known = rules;
        }
        self.tenant_table.changed.notify_waiters();
        settings
    }

    /// Puts what a table says of tenants in force. Returns the settings before and from now on.
    pub fn set_tenant_rows(&self, rows: TenantRows) -> (Arc<Settings>, Arc<Settings>) {
        let mut known = self.rows();
        *known = rows;
        let before = self.rules();
        let rules = Arc::new(Rules::new(before.own.clone(), &known, &self.directory, self.next_id()));
        let after = rules.settings.clone();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        drop(known);
        if after != before.settings {
            (0..self.workers.len()).for_each(|worker| self.send(worker, Mail::Reload));
        }
        (before.settings.clone(), after)
    }

    /// There is no table of tenants any more, and the settings in force say so already.
    pub fn forget_tenant_rows(&self) {
        self.rows().clear();
    }

    fn rows(&self) -> MutexGuard<'_, TenantRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one setting, for as long as no reload puts others in force. Whoever reloads at the same time comes before or
    /// after it, and takes nothing back that it has not seen.
    ///
    /// # Errors
    /// It cannot be changed so.
    pub fn change_setting(&self, key: &str, value: &str) -> Result<(), NotChanged> {
        let rows = self.rows();
        let mut settings = (*self.own_settings()).clone();
        settings.change(key, value)?;
        let changed = Arc::new(Rules::new(Arc::new(settings), &rows, &self.directory, self.next_id()));
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if changed.settings.cache != rules.settings.cache {
            self.caches.take_over(&rules.settings.cache, &changed.settings.cache);
        }
        *rules = changed;
        Ok(())
    }

    /// What is known of the hosts that are connected to.
    pub fn hosts(&self) -> MutexGuard<'_, HostTable> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How reloads went.
    pub fn reloads(&self) -> MutexGuard<'_, Reloads> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS towards clients, for those that come from now on.
    pub fn tls(&self) -> Clients {
        self.clients_tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another TLS towards clients in force. Those who have logged in keep theirs.
    pub fn set_tls(&self, tls: Clients) {
        *self.clients_tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        self.servers.forget();
    }

    /// A number that this process has not used yet: clients, upstreams, statements.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The pool of a database and user (for replication: of those connections), for one more client.
    ///
    /// # Errors
    /// No such database, or too many pools.
    pub fn enter_pool(
        self: &Arc<Self>,
        database: &str,
        user: &str,
        replication: Option<&'static str>,
    ) -> Result<Member, Refusal> {
        if self.pools.is_disabled(database) {
            return Err(Refusal::DatabaseDisabled { database: database.into() });
        }
        let make = |id| {
            // Read here, where the pools are locked: a reload puts its settings in force first and then goes through all pools.
            // One that is made in between has the new ones, or is there to be gone through.
            let settings = self.settings();
            let (own, target) = target_of(&settings, database, user, replication)?;
            let room = (self.room.clone(), limits_of(&settings, database, user));
            let mut pool = Pool::new(id, database, user, own, target, self.workers.len(), room);
            pool.replication = replication;
            Some(pool)
        };
        let max_pools = self.settings().max_pools;
        match self.pools.enter((database, user, replication), max_pools, make) {
            Ok(Entered { member, gone }) => {
                gone.into_iter().for_each(|gone| self.forget(gone));
                member.ok_or_else(|| Refusal::UnknownDatabase { database: database.into() })
            }
            Err(Full) => Err(Refusal::TooManyPools { limit: max_pools }),
        }
    }

    /// Has every worker forget a pool that there is no longer: what it keeps of it would never be asked for again.
    pub fn forget(&self, pool: usize) {
        for worker in 0..self.workers.len() {
            self.send(worker, Mail::Forget(pool));
        }
    }

    /// Takes a place for a connection beside the pools.
    ///
    /// # Errors
    /// All are taken.
    pub fn beside(&self, kind: Kind) -> Result<aside::Place, aside::Full> {
        self.aside.enter(kind, self.settings().max_side_connections)
    }

    /// Clients by database and user.
    pub fn seats(&self) -> MutexGuard<'_, Counts> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every worker look after the idle upstreams of a pool at once.
    pub fn sweep(&self, pool: &Arc<Pool>) {
        for worker in 0..self.workers.len() {
            self.send(worker, Mail::Sweep(pool.clone()));
        }
    }

    /// Has clients' next requests wait, or ends that. `awaited`: dropped by each worker when its requests have ended.
    pub fn suspend(&self, suspended: bool, awaited: Option<&UnboundedSender<()>>) {
        self.suspended.store(suspended, Ordering::SeqCst);
        for worker in 0..self.workers.len() {
            self.send(worker, Mail::Suspend(awaited.cloned()));
        }
    }

    /// The id of a statement: the same for the same text, parameter types and place on every worker, never reused.
    pub fn statement_id(&self, query: &[u8], types: &[u8], place: Place) -> u64 {
        // The types' number of bytes leads, so that no text can run into another's types.
        let mut key = Vec::with_capacity(32 + types.len() + query.len());
        key.extend_from_slice(&place.path.to_be_bytes());
        key.extend_from_slice(&place.epoch.to_be_bytes());
        key.extend_from_slice(&place.names.to_be_bytes());
        key.extend_from_slice(&(types.len() as u64).to_be_bytes());
        key.extend_from_slice(types);
        key.extend_from_slice(query);
        let mut ids = self.statement_ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.id_of(key.into(), || self.next_id())
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

/// Everything that is counted by tokens.
#[derive(Debug, Clone)]
pub struct Counted(pub(crate) Arc<Shared>);

impl Counted {
    /// What is still counted, in words. Empty once the proxy has stopped, or something was lost without being given back.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for pool in self.0.pools.all() {
            let (ledger, members) = (pool.ledger(), pool.members());
            if (ledger.open(), ledger.dialling(), members, pool.servers.retiring()) != (0, 0, 0, 0) {
                left.push(format!("{}/{}: {ledger:?}, {members} clients", pool.database, pool.user));
            }
        }
        let (clients, seats) = (self.0.clients.load(Ordering::Relaxed), self.0.seats().total());
        let (room, aside) = (self.0.room.total(), self.0.aside.total());
        if (clients, seats, room, aside) != (0, 0, 0, 0) {
            left.push(format!("{clients} clients in {seats} seats, room taken by {room} upstreams, {aside} beside"));
        }
        left
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::cancel::key::Layout;
    use crate::telemetry::{Bounds, Clock};
    use crate::upstream::resolve;

    /// Without threads around it.
    pub(crate) fn shared(settings: Settings, workers: Box<[WorkerSeat]>) -> Shared {
        let directory = Arc::new(Directory::new(&settings.tenants));
        let telemetry =
            Telemetry::new(Clock::new(Instant::now(), SystemTime::now()), Bounds::default(), directory.clone());
        let processes = ProcessIds::new(Layout::new(0, 0, workers.len().max(1)), "test");
        let (orders, _) = tokio::sync::mpsc::unbounded_channel();
        Shared::new(settings, Arc::new(resolve::System), processes, directory, telemetry, workers, orders)
    }
}

#[cfg(test)]
mod tests {
    use config::CacheMode;
    use policy::cache::Mode;

    use super::*;

    #[test]
    fn caches_hear_of_other_settings_by_a_reload_and_by_a_command() {
        let rule = "[databases.a]\nupstream = 'postgres://h'\n[[cache.rule]]\ntables = ['t']\nttl = '1m'\n";
        let read = |text: &str| Settings::from_toml(text, &config::Overrides::default(), &config::NoSources).unwrap();
        let shared = testing::shared(read(rule), Box::default());
        let mode = || shared.caches.mode();
        assert_eq!((mode(), shared.caches.follows()), (Mode::Off, true));
        shared.change_setting("cache.mode", "observe").unwrap();
        assert_eq!((mode(), shared.settings().cache.mode), (Mode::Observe, CacheMode::Observe));
        let version = shared.caches.version();
        shared.change_setting("max_clients", "7").unwrap();
        assert_eq!(shared.caches.version(), version, "what is kept stays");
        shared.set_settings(read(rule).without_restart(&shared.settings()));
        assert_eq!(mode(), Mode::Off, "the file says so");
        let version = shared.caches.version();
        shared.set_settings(read(rule).without_restart(&shared.settings()));
        assert_eq!(shared.caches.version(), version, "nothing has changed, and what is kept stays");
        let other = format!("[cache]\nmode = 'on'\n{}", rule.replace("'1m'", "'2m'"));
        shared.set_settings(read(&other).without_restart(&shared.settings()));
        assert_eq!((mode(), shared.caches.rules().get(0).unwrap().ttl), (Mode::On, Duration::from_secs(120)));
    }

    #[test]
    fn texts_with_ids_take_a_bounded_number_of_bytes() {
        let mut ids = StatementIds::default();
        let mut last = 0;
        for n in 0..500u64 {
            let mut text = vec![b'x'; 256 * 1024];
            text.extend(n.to_be_bytes());
            let id = ids.id_of(text.clone().into(), || n + 1);
            assert_eq!((id, ids.id_of(text.into(), || 0)), (n + 1, n + 1));
            assert!(id > last, "an id is never used again");
            last = id;
            assert!(ids.bytes <= MAX_STATEMENT_BYTES);
            assert_eq!(ids.bytes, ids.by_text.keys().map(|text| text.len()).sum::<usize>());
        }
    }
}
