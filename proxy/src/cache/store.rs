//! The replies that are kept.
//!
//! A reader takes no lock of ours: `moka` finds the entry, and its bytes are shared. Who writes keeps the books of what
//! each tenant holds, by moka's word of what has gone.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use equivalent::Equivalent;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use policy::cache::{Account, Budget, Dependencies, Key, Refused, Sought};
use policy::tenant::TenantId;
use rustc_hash::FxHashMap;
use wire::frame;
use wire::tag::Backend;

use crate::telemetry::ring::MAX_ROWS;

/// What stands in front of a reply's rows: ParseComplete and BindComplete.
pub const HEAD: [u8; 10] = [Backend::ParseComplete as u8, 0, 0, 0, 4, Backend::BindComplete as u8, 0, 0, 0, 4];
/// Bytes of a ReadyForQuery.
const READY: usize = 6;
/// Rows that whoever looks at executions is shown.
const SHOWN_ROWS: usize = 128;

/// A reply that is kept.
#[derive(Debug)]
pub struct Entry {
    /// [`HEAD`], RowDescription where it was asked for, rows, CommandComplete, ReadyForQuery: a part of this is each answer.
    pub body: Box<[u8]>,
    /// What it depends on.
    pub dependencies: Dependencies,
    /// Rows in it.
    pub rows: u64,
    /// Id of the description of its columns; 0: not known.
    pub columns: u32,
    /// What the server needed for it, in µs.
    pub cost_us: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it weighs, in bytes ([`policy::cache::weight`]).
    pub weight: u32,
    /// Somebody fetches a new one, because it is too old ([`Refresh`]).
    pub refreshing: AtomicBool,
}

/// Somebody fetches a new answer in the place of one that is too old. Whatever comes of it, somebody else may when this ends:
/// a fetch that comes to nothing would otherwise be the last one.
#[derive(Debug)]
pub struct Refresh(Arc<Entry>);

impl Refresh {
    /// `None`: somebody does already.
    pub fn begin(entry: &Arc<Entry>) -> Option<Self> {
        (!entry.refreshing.swap(true, Ordering::AcqRel)).then(|| Self(Arc::clone(entry)))
    }

    /// Whether it is this one that is fetched anew.
    pub fn is_of(&self, entry: &Arc<Entry>) -> bool {
        Arc::ptr_eq(&self.0, entry)
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

impl Entry {
    /// The answer to a Query.
    pub fn to_query(&self) -> &[u8] {
        self.body.get(HEAD.len()..).unwrap_or_default()
    }

    /// The answer to Parse, Bind, Execute, Sync.
    pub fn to_parsed(&self) -> &[u8] {
        &self.body
    }

    /// The answer to Bind, Execute, Sync.
    pub fn to_bound(&self) -> &[u8] {
        self.body.get(HEAD.len() / 2..).unwrap_or_default()
    }

    /// What the server has said of the result: RowDescription, rows, CommandComplete.
    pub fn reply(&self) -> &[u8] {
        self.body.get(HEAD.len()..self.body.len().saturating_sub(READY)).unwrap_or_default()
    }

    /// Its first rows, as DataRow messages, as many as fit into an event.
    pub fn first_rows(&self) -> &[u8] {
        let reply = self.reply();
        let (mut begin, mut end, mut rows) = (None, 0, 0);
        let mut rest = reply;
        while let Ok(Some(head)) = frame::head(rest) {
            let at = reply.len() - rest.len();
            let Some(behind) = rest.get(head.total()..) else { break };
            if head.tag == Backend::DataRow.byte() {
                let begin = *begin.get_or_insert(at);
                if rows == SHOWN_ROWS || at + head.total() - begin > MAX_ROWS {
                    break;
                }
                (rows, end) = (rows + 1, at + head.total());
            }
            rest = behind;
        }
        begin.and_then(|begin| reply.get(begin..end)).unwrap_or_default()
    }
}

/// Keys bring their hash along.
#[derive(Debug, Default, Clone, Copy)]
pub struct Own(u64);

impl Hasher for Own {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used by keys, and right for whatever else might be hashed.
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A key that nothing was allocated for.
#[derive(Debug, Hash)]
struct Borrowed<'a>(Sought<'a>);

impl Equivalent<Arc<Key>> for Borrowed<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        self.0.is(key)
    }
}

type Kept = Cache<Arc<Key>, Arc<Entry>, BuildHasherDefault<Own>>;

/// What one tenant has brought, oldest first; some of it may have gone already.
#[derive(Debug, Default)]
struct Order {
    keys: VecDeque<(Arc<Key>, u32)>,
    /// Entries that are there still.
    live: usize,
}

#[derive(Debug, Default)]
struct Books {
    account: Account,
    orders: FxHashMap<TenantId, Order>,
    budget: Budget,
}

/// Entries that are taken from a tenant to make room for one of its own, before it goes without.
const MAX_TAKEN: usize = 256;
/// Keys of entries that have gone are forgotten when they are so many more than those that are there.
const MAX_GONE: usize = 1_024;

/// The store. Shared by all workers.
#[derive(Debug)]
pub struct Store {
    kept: Kept,
    books: Arc<Mutex<Books>>,
    /// Answers that gave way to others, or for which others did not.
    evictions: Arc<AtomicU64>,
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// An empty one. What it may hold in all stays as it is: moka plans by it.
    pub fn new(budget: Budget) -> Self {
        let books = Arc::new(Mutex::new(Books { budget, ..Books::default() }));
        let told = Arc::clone(&books);
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = Arc::clone(&evictions);
        // Called by moka with no lock of ours held: see `put`.
        let gone = move |_: Arc<Arc<Key>>, entry: Arc<Entry>, cause: RemovalCause| {
            if cause == RemovalCause::Size {
                evicted.fetch_add(1, Ordering::Relaxed);
            }
            let mut books = lock(&told);
            books.account.remove(entry.tenant, u64::from(entry.weight));
            if let Some(order) = books.orders.get_mut(&entry.tenant) {
                order.live = order.live.saturating_sub(1);
                if order.live == 0 {
                    books.orders.remove(&entry.tenant);
                }
            }
        };
        let kept = Cache::builder()
            .max_capacity(budget.max_bytes)
            .weigher(|_: &Arc<Key>, entry: &Arc<Entry>| entry.weight)
            .eviction_listener(gone)
            .build_with_hasher(BuildHasherDefault::default());
        Self { kept, books, evictions }
    }

    /// What is kept under a key, true or not.
    #[inline]
    pub fn get(&self, key: Sought<'_>) -> Option<Arc<Entry>> {
        self.kept.get(&Borrowed(key))
    }

    /// Keeps a reply. Where its tenant has its share already, the oldest of its own give way.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn put(&self, key: Arc<Key>, entry: Entry) -> Result<(), Refused> {
        let (tenant, weight) = (entry.tenant, entry.weight);
        for _ in 0..MAX_TAKEN {
            let oldest = {
                let mut books = lock(&self.books);
                let budget = books.budget;
                if books.account.room_for(&budget, tenant, weight.into())?.of_tenant == 0 {
                    books.account.add(tenant, weight.into());
                    let order = books.orders.entry(tenant).or_default();
                    order.live += 1;
                    order.keys.push_back((Arc::clone(&key), weight));
                    None
                } else {
                    Some(
                        books
                            .orders
                            .get_mut(&tenant)
                            .and_then(|order| order.keys.pop_front())
                            .ok_or(Refused::NoRoom)?,
                    )
                }
            };
            match oldest {
                // Without the lock: moka tells what has gone while it works.
                Some((oldest, _)) => {
                    if self.kept.remove(&oldest).is_some() {
                        self.evictions.fetch_add(1, Ordering::Relaxed);
                    }
                }
                None => {
                    self.kept.insert(key, Arc::new(entry));
                    self.forget_gone(tenant);
                    return Ok(());
                }
            }
        }
        Err(Refused::NoRoom)
    }

    /// Keys of what has gone are let go of, once there are many.
    fn forget_gone(&self, tenant: TenantId) {
        let keys = {
            let mut books = lock(&self.books);
            match books.orders.get_mut(&tenant) {
                Some(order) if order.keys.len() > 2 * order.live + MAX_GONE => std::mem::take(&mut order.keys),
                _ => return,
            }
        };
        let there: VecDeque<_> = keys.into_iter().filter(|(key, _)| self.kept.contains_key(key)).collect();
        if let Some(order) = lock(&self.books).orders.get_mut(&tenant) {
            // What came meanwhile is younger.
            let younger = std::mem::replace(&mut order.keys, there);
            order.keys.extend(younger);
        }
    }

    /// One entry goes.
    pub fn remove(&self, key: Sought<'_>) {
        self.kept.invalidate(&Borrowed(key));
    }

    /// How many gave way to others.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// All go.
    pub fn clear(&self) {
        self.kept.invalidate_all();
        self.kept.run_pending_tasks();
    }

    /// A reload says what each may hold; what all may hold together stays as it was.
    pub fn resize(&self, budget: Budget) {
        let mut books = lock(&self.books);
        books.budget = Budget { max_bytes: books.budget.max_bytes, ..budget };
    }

    /// What it may hold.
    pub fn budget(&self) -> Budget {
        lock(&self.books).budget
    }

    /// Bytes that are held, and what each tenant holds of them.
    pub fn held(&self) -> (u64, Vec<(TenantId, u64)>) {
        self.kept.run_pending_tasks();
        let books = lock(&self.books);
        (books.account.total(), books.account.tenants().collect())
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.kept.run_pending_tasks();
        self.kept.entry_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
