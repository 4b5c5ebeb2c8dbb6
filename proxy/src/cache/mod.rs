//! The read cache at work: what of it all threads share.
//!
//! [`policy::cache`] decides; here are the replies ([`store`]), the catalogs ([`keeper`], [`facts`]) and what is heard of
//! writes from outside ([`slot`]). Sessions ask and fill in `session::cached`.
//!
//! ```text
//!   worker: session::cached ──► Caches::store ──► a hit: bytes, no pool, no lock of ours
//!      │ statements that write: Cached::generations, odd until their transaction is over
//!      ▼
//!   control thread: keeper, a task for each database ──► facts: the catalog ──► View, and what became of lost writers
//!                                                   └──► slot: commits of others ──► Database::heard, ends
//! ```

mod alone;
pub mod by_hand;
pub mod ends;
pub mod facts;
mod fate;
pub mod figures;
pub mod flights;
pub mod here;
pub mod keeper;
pub mod post;
pub mod rules;
pub mod slot;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use policy::cache::catalog::{Catalog, NotQuiet};
use policy::cache::{
    Budget, Bypass, Counters, Counts, Database, Epoch, Invalidated, Miss, Mode, OutputSettings, Refused, Rules,
    SettingsId, Slot,
};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::pool::Pool;
use crate::worker::Mail;
use ends::Ends;
use flights::Flights;
use post::Post;
use store::Store;

/// Databases that are cached at once. What comes behind them is not.
const MAX_DATABASES: usize = 100;

/// A database's catalog as it was read once.
#[derive(Debug)]
pub struct View {
    /// Which reading it is.
    pub serial: Serial,
    /// What it says.
    pub catalog: Catalog,
    /// The epoch that it is true of.
    pub epoch: Arc<Epoch>,
    /// Where names are looked up by sessions that say nothing of it.
    pub paths: facts::Paths,
    /// Relations of which every change by others is heard: those in the publication, and partitioned ones all of whose
    /// leaves are. Of no meaning where no slot is needed.
    pub published: BTreeSet<u32>,
    /// Relations that write when they are read.
    pub quiet: NotQuiet,
    /// It is a standby, or its sessions begin with another isolation than READ COMMITTED: nothing is cached.
    pub unfit: Option<Bypass>,
}

/// Stands for one reading of a catalog: each has its own. What is remembered for it keeps this and not the catalog: texts
/// outlive many.
#[derive(Debug, Clone, Default)]
pub struct Serial(Arc<()>);

impl PartialEq for Serial {
    /// Its place in memory is nobody else's as long as one of the two is there.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// One database of one server, however many pools there are to it.
#[derive(Debug)]
pub struct Cached {
    /// Where it is, as `host:port/name`.
    pub name: Box<str>,
    /// What is known of writes to it.
    pub generations: Arc<Database>,
    view: RwLock<Option<Arc<View>>>,
    /// Changes with the view, so that workers keep it by themselves.
    version: AtomicU64,
    /// The catalog has to be read anew, or the end of a write has to be asked for.
    pub stirred: Notify,
    /// Who waits for the end of its log.
    pub ends: Ends,
    /// What ended answers: those of all databases.
    pub ended: Arc<Counts<Invalidated>>,
    /// Why nothing of it is cached now, in words for operators.
    trouble: Mutex<Option<String>>,
    /// Why writes from outside are not heard of, in words for operators.
    slot_trouble: Mutex<Option<String>>,
}

impl Cached {
    fn new(name: &str, slot: Slot, post: Post, ended: Arc<Counts<Invalidated>>) -> Self {
        Self {
            name: name.into(),
            generations: Arc::new(Database::new(slot)),
            view: RwLock::default(),
            version: AtomicU64::new(0),
            stirred: Notify::new(),
            ends: Ends::new(post),
            ended,
            trouble: Mutex::new(Some(keeper::UNREAD.to_owned())),
            slot_trouble: Mutex::default(),
        }
    }

    /// The catalog that was read last, whether or not it is true still; `None`: none was.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another number whenever [`Self::view`] is another one.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts another one in its place.
    pub fn set_view(&self, view: Option<Arc<View>>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Why nothing of it is cached now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why nothing of it is cached, or that it is. `true`: that is news.
    pub fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, trouble.clone()) != trouble
    }

    /// Why nothing is served that follows writes from outside; `None`: they are heard of, or need not be.
    pub fn slot_trouble(&self) -> Option<String> {
        self.slot_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why writes from outside are not heard of, or that they are. `true`: that is news.
    pub fn set_slot_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = self.slot_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, trouble.clone()) != trouble
    }
}

/// What became of the last execution of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was answered from the cache.
    Hit,
    /// Mode `observe`: it would have been.
    Observed,
    /// It may be; nothing that could be served was there.
    Miss(Miss),
    /// It may not be.
    Bypass(Bypass),
    /// Its reply was not kept.
    Refused(Refused),
}

/// All of the cache.
#[derive(Debug)]
pub struct Caches {
    /// Whether statements that write are followed. Decided at the start: what was sent while nobody followed would be
    /// missed.
    follows: AtomicBool,
    mode: AtomicU8,
    sole_writer: AtomicBool,
    rules: RwLock<Arc<Rules>>,
    /// Changes with the rules and the mode.
    version: AtomicU64,
    /// The replies.
    pub store: Store,
    /// What is being asked for.
    pub flights: Flights,
    /// The way back to clients that wait.
    post: Post,
    databases: RwLock<BTreeMap<Box<str>, Arc<Cached>>>,
    sets: Mutex<OutputSettings>,
    /// What it has done.
    pub counters: Counters,
    told: Mutex<fate::Told>,
    /// Another database is there, or the mode is another one.
    pub changed: Notify,
    base: Instant,
}

impl Caches {
    /// As the configuration has it at the start.
    pub fn new(cache: &config::Cache) -> Self {
        Self {
            follows: AtomicBool::new(!cache.rules.is_empty()),
            mode: AtomicU8::new(number(rules::mode_of(cache))),
            sole_writer: AtomicBool::new(cache.sole_writer),
            rules: RwLock::new(Arc::new(rules::compile(cache, 1))),
            version: AtomicU64::new(1),
            store: Store::new(rules::budget_of(cache)),
            flights: Flights::default(),
            post: Post::default(),
            databases: RwLock::default(),
            sets: Mutex::default(),
            counters: Counters::default(),
            told: Mutex::default(),
            changed: Notify::new(),
            base: Instant::now(),
        }
    }

    /// With the way to each worker, in their order, for those who wait.
    #[must_use]
    pub fn with_mail(self, mail: Box<[UnboundedSender<Mail>]>) -> Self {
        let post = Post::new(mail);
        Self { flights: Flights::new(post.clone()), post, ..self }
    }

    /// Takes a reload over. Entries by rules that are no longer there end with it.
    pub fn reload(&self, cache: &config::Cache) {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        let compiled = rules::compile(cache, u32::try_from(version).unwrap_or(u32::MAX));
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(compiled);
        self.store.resize(rules::budget_of(cache));
        self.set_mode(rules::mode_of(cache));
        self.flush();
    }

    /// Whether statements that write are followed.
    #[inline]
    pub fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    /// Whether it works. Off where nothing is followed, whatever was asked for.
    #[inline]
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            _ if !self.follows() => Mode::Off,
            1 => Mode::Observe,
            2 => Mode::On,
            _ => Mode::Off,
        }
    }

    /// Switches it. `Off` flushes.
    pub fn set_mode(&self, mode: Mode) {
        let before = self.mode.swap(number(mode), Ordering::AcqRel);
        self.version.fetch_add(1, Ordering::AcqRel);
        if before != number(mode) {
            self.flush();
        }
        self.changed.notify_waiters();
    }

    /// Changes with the rules and the mode: what is kept beside a statement is good while it is the same.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The rules.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing that is kept is served again, and its memory is given back.
    pub fn flush(&self) {
        self.all().iter().for_each(|cached| cached.generations.flush());
        self.store.clear();
        self.all().iter().for_each(|cached| cached.stirred.notify_one());
    }

    /// What is known of the database of a pool; `None`: nothing is followed, it is not one database (replication), or there
    /// are too many.
    pub fn of(&self, pool: &Pool) -> Option<Arc<Cached>> {
        if !self.follows() || pool.replication.is_some() {
            return None;
        }
        let target = pool.target();
        let name = format!("{target}/{}", target.database);
        if let Some(cached) = self.databases.read().unwrap_or_else(PoisonError::into_inner).get(&*name) {
            return Some(Arc::clone(cached));
        }
        let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
        if databases.len() >= MAX_DATABASES && !databases.contains_key(&*name) {
            return None;
        }
        let sole = self.sole_writer.load(Ordering::Relaxed);
        let slot = || if sole { Slot::not_needed(self.base) } else { Slot::down(self.base) };
        let ended = || Arc::clone(&self.counters.invalidated);
        let new = || Arc::new(Cached::new(&name, slot(), self.post.clone(), ended()));
        let cached = Arc::clone(databases.entry(name.clone().into()).or_insert_with(new));
        drop(databases);
        self.changed.notify_waiters();
        Some(cached)
    }

    /// All databases that there have been connections to.
    pub fn all(&self) -> Vec<Arc<Cached>> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The id of a session's settings; `None`: there are too many.
    pub fn settings_id<'a>(&self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<SettingsId> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.is_full() {
            // Whoever makes ever new settings, as a token for each request, must not end caching for all others. No id is
            // given twice: what is kept under those that are forgotten is never found by somebody else.
            sets.clear();
        }
        sets.id(settings)
    }

    /// What became of a statement's execution. Said when it is another thing than last time.
    pub fn tell(&self, strict: u64, fate: Fate) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).tell(strict, fate);
    }

    /// What became of a statement's last execution: why it is not cached, or that it is.
    pub fn told(&self, strict: u64) -> Option<Fate> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).of(strict)
    }

    /// The same, of a statement with this text: one that no rule is about is looked at no further when it runs, and so nothing
    /// is told of it.
    pub fn fate(&self, strict: u64, text: &str) -> Option<Fate> {
        let concerned = || self.rules().may_concern(strict, policy::clauses::tables(text).as_deref());
        if self.mode() != Mode::Off && !concerned() {
            return Some(Fate::Bypass(Bypass::NoRule));
        }
        self.told(strict)
    }

    /// Mode `observe`: what was kept is what the server has said, or it is not, which must never be.
    pub fn compared(&self, strict: u64, key: &policy::cache::Key, agree: bool) {
        if agree {
            self.counters.agreed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counters.disagreed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            fingerprint = format_args!("{strict:016x}"),
            key_bytes = key.bytes().len(),
            "a kept reply is not what the server said: the cache must not be switched on; report this"
        );
    }

    /// Puts other settings in force. What they leave as it was is left alone, answers among it; a mode that was switched
    /// at run time becomes theirs.
    pub fn take_over(&self, before: &config::Cache, now: &config::Cache) {
        let mode = rules::mode_of(now);
        if (config::Cache { mode: before.mode, followed: before.followed, ..now.clone() }) != *before {
            self.reload(now);
        } else if self.follows() && self.mode() != mode {
            self.set_mode(mode);
        }
    }

    /// What it may hold.
    pub fn budget(&self) -> Budget {
        self.store.budget()
    }
}

const fn number(mode: Mode) -> u8 {
    match mode {
        Mode::Off => 0,
        Mode::Observe => 1,
        Mode::On => 2,
    }
}
