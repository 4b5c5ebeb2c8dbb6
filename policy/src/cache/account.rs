//! Accounts: what the cache may hold, what it did, and why it did not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::tenant::TenantId;

/// Declares a closed set of reasons with the words under which metrics and pages show them.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for labels and pages. Never changes.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl Reason for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.word()
            }

            fn number(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use reasons;

/// One of a closed set of reasons.
pub trait Reason: Copy + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];
    /// The word for labels and pages.
    fn word(self) -> &'static str;
    /// Its place in [`Self::ALL`].
    fn number(self) -> usize;
}

reasons! {
    /// Why a statement that may be cached was not answered from the cache.
    Miss {
        /// Nothing is kept under its key.
        Absent "absent",
        /// What is kept is older than its rule allows.
        Expired "expired",
        /// Something that it depends on was written, or is being written.
        Changed "changed",
        /// News of writes from outside is too old.
        SlotLags "slot_lags",
        /// There is no news of writes from outside.
        SlotDown "slot_down",
        /// `strict`: the slot did not reach the end of the log in time.
        WaitedInVain "waited_in_vain",
        /// `strict`: the server has its answer sooner than it is known where the log ends.
        ServerQuicker "server_quicker",
    }
}

reasons! {
    /// Why the reply to a statement that may be cached was not kept.
    Refused {
        /// Something that it depends on was being written when it was sent.
        WriteUnderWay "write_under_way",
        /// Something that it depends on was written meanwhile.
        Changed "changed",
        /// What it depends on was told from a catalog that is out of date.
        CatalogChanged "catalog_changed",
        /// Somebody still writes by a catalog that is out of date.
        OlderWrite "older_write",
        /// Its snapshot does not see, or may not see, a write that was heard of.
        NotVisible "not_visible",
        /// There is no news of writes from outside.
        SlotDown "slot_down",
        /// It is an error.
        Error "error",
        /// A notice stands in it.
        Notice "notice",
        /// A setting changed in it.
        ParameterStatus "parameter_status",
        /// A notification stands in it.
        Notification "notification",
        /// It ends before its last row, or is a copy.
        Incomplete "incomplete",
        /// The transaction was not in the state behind it that it was in before.
        Transaction "transaction",
        /// It is longer than `max_entry`.
        TooLarge "too_large",
        /// It would not pay: the server needs hardly longer.
        TooCheap "too_cheap",
        /// There is no room, and what there is may not be taken from others.
        NoRoom "no_room",
        /// The mode was changed meanwhile.
        SwitchedOff "switched_off",
    }
}

reasons! {
    /// Who ended answers.
    Invalidated {
        /// A write that passed this process.
        Write "write",
        /// A write whose end was not known for a time.
        Resolved "resolved",
        /// A write that the slot told of.
        Slot "slot",
        /// The slot ended or began anew.
        SlotLost "slot_lost",
        /// DDL, grants, policies, roles.
        Catalog "catalog",
        /// A fail-over, or the server could not be asked what its catalog is.
        Failover "failover",
        /// An operator, by tag.
        Tag "tag",
        /// An operator, by table.
        Table "table",
        /// An operator, by tenant.
        Tenant "tenant",
        /// An operator, all.
        All "all",
    }
}

/// How often each of a set of reasons was the one. Read by who shows it; nothing is decided by it.
#[derive(Debug)]
pub struct Counts<R> {
    counts: Box<[AtomicU64]>,
    reasons: std::marker::PhantomData<fn(R)>,
}

impl<R: Reason> Default for Counts<R> {
    fn default() -> Self {
        Self { counts: R::ALL.iter().map(|_| AtomicU64::new(0)).collect(), reasons: std::marker::PhantomData }
    }
}

impl<R: Reason> Counts<R> {
    /// Once more.
    pub fn count(&self, reason: R) {
        self.add(reason, 1);
    }

    /// So many more.
    pub fn add(&self, reason: R, many: u64) {
        if let Some(count) = self.counts.get(reason.number()) {
            count.fetch_add(many, Relaxed);
        }
    }

    /// How often it was this one.
    pub fn of(&self, reason: R) -> u64 {
        self.counts.get(reason.number()).map_or(0, |count| count.load(Relaxed))
    }

    /// Each reason's word and count, those that never were included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        R::ALL.iter().map(|reason| (reason.word(), self.of(*reason)))
    }
}

/// What the cache of one worker or of the process has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers from the cache.
    pub hits: AtomicU64,
    /// Of these, stale ones, as their rules allow.
    pub stale: AtomicU64,
    /// Answers that several waited for and that one has asked for.
    pub joined: AtomicU64,
    /// Replies kept.
    pub fills: AtomicU64,
    /// Microseconds that the server would have needed for what it was not asked.
    pub saved_micros: AtomicU64,
    /// Statements not answered although they may be.
    pub misses: Counts<Miss>,
    /// Statements that may not be answered or kept.
    pub bypasses: Counts<super::eligible::Bypass>,
    /// Replies not kept.
    pub refused: Counts<Refused>,
    /// What ended answers. Shared with whoever follows one database and knows of nothing else.
    pub invalidated: Arc<Counts<Invalidated>>,
    /// Mode `observe`: statements that would have been answered from the cache.
    pub observed_hits: AtomicU64,
    /// And the microseconds that the server would have been spared.
    pub observed_saved_micros: AtomicU64,
    /// Mode `observe`: answers that were the server's own, and those that were not. The second one has to stay 0.
    pub agreed: AtomicU64,
    /// See [`Self::agreed`].
    pub disagreed: AtomicU64,
}

impl Counters {
    /// An answer from the cache, instead of which the server would have worked for so long.
    pub fn hit(&self, saved_micros: u64, stale: bool) {
        self.hits.fetch_add(1, Relaxed);
        self.stale.fetch_add(u64::from(stale), Relaxed);
        self.saved_micros.fetch_add(saved_micros, Relaxed);
    }

    /// Mode `observe`: an answer that would have come from the cache.
    pub fn observed_hit(&self, saved_micros: u64) {
        self.observed_hits.fetch_add(1, Relaxed);
        self.observed_saved_micros.fetch_add(saved_micros, Relaxed);
    }

    /// Hits among the statements that may be cached, those included that would have been ones but for the mode `observe`, from
    /// 0 to 1; `None` before the first.
    pub fn hit_ratio(&self) -> Option<f64> {
        let hits = self.hits.load(Relaxed).saturating_add(self.observed_hits.load(Relaxed));
        let misses: u64 = self.misses.all().map(|(_, count)| count).sum();
        let all = hits.saturating_add(misses);
        (all > 0).then(|| hits as f64 / all as f64)
    }
}

/// Bytes that an entry takes besides its key and its reply: the entry itself, its maps' nodes, times, counters. Measured as
/// what a process grows by (`make bench`, part `cache`).
pub const ENTRY_OVERHEAD: u64 = 576;
/// Bytes for each table that it depends on.
const TABLE_OVERHEAD: u64 = 32;

/// What an entry weighs.
///
/// ```
/// use policy::cache::weight;
/// assert_eq!(weight(100, 1_000, 2), 576 + 112 + 1_024 + 64);
/// ```
pub const fn weight(key: usize, reply: usize, tables: usize) -> u64 {
    ENTRY_OVERHEAD
        .saturating_add(allocated(key as u64))
        .saturating_add(allocated(reply as u64))
        .saturating_add((tables as u64).saturating_mul(TABLE_OVERHEAD))
}

/// What the allocator takes for so many bytes: four sizes between one power of two and the next, and a page besides where
/// whole pages are given, so that not all of them begin in the same lines of the processor's cache.
const fn allocated(bytes: u64) -> u64 {
    let page = if bytes > LARGEST_SMALL { 4_096 } else { 0 };
    let step = match bytes {
        0..=128 => 16,
        129..=MAX_ROUNDED => bytes.next_power_of_two() / 8,
        _ => return bytes,
    };
    bytes.div_ceil(step) * step + page
}

/// Beyond, whole pages are given.
const LARGEST_SMALL: u64 = 14 * 1024;

/// Beyond, nothing is kept by anybody's budget.
const MAX_ROUNDED: u64 = 1 << 40;

/// What the cache may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Of all tenants together, in bytes.
    pub max_bytes: u64,
    /// Of one entry.
    pub max_entry: u64,
    /// The part of it that one tenant may hold, more than 0 and at most 1.
    pub tenant_share: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_entry: 256 << 10, tenant_share: 0.25 }
    }
}

impl Budget {
    /// What one tenant may hold, in bytes. A share that is no number, or none between 0 and 1, is the whole or nothing.
    pub fn of_tenant(&self) -> u64 {
        // Rounded down; a float cannot leave the range of what it is cast to.
        let part = (self.max_bytes as f64 * self.tenant_share.clamp(0.0, 1.0)) as u64;
        part.min(self.max_bytes)
    }
}

/// What has to go before an entry may come. Which entries go is the store's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// At least so many bytes of the same tenant's.
    pub of_tenant: u64,
    /// At least so many bytes of anybody's, those of the tenant counted.
    pub of_all: u64,
}

impl Eviction {
    /// Whether there is room without.
    pub const fn is_nothing(&self) -> bool {
        self.of_tenant == 0 && self.of_all == 0
    }
}

/// Who holds how much. The store tells it of each entry that comes and goes.
#[derive(Clone, Debug, Default)]
pub struct Account {
    total: u64,
    /// Tenants that hold something.
    tenants: BTreeMap<TenantId, u64>,
}

impl Account {
    /// What has to go before an entry of this weight may come to a tenant. An error: it never may.
    pub fn room_for(&self, budget: &Budget, tenant: TenantId, weight: u64) -> Result<Eviction, Refused> {
        if weight > budget.max_entry {
            return Err(Refused::TooLarge);
        }
        let share = budget.of_tenant();
        if weight > share || weight > budget.max_bytes {
            return Err(Refused::NoRoom);
        }
        let over = |held: u64, most: u64| held.saturating_add(weight).saturating_sub(most);
        Ok(Eviction { of_tenant: over(self.of(tenant), share), of_all: over(self.total, budget.max_bytes) })
    }

    /// An entry has come.
    pub fn add(&mut self, tenant: TenantId, weight: u64) {
        let held = self.tenants.entry(tenant).or_default();
        let after = held.saturating_add(weight);
        self.total = self.total.saturating_add(after - *held);
        *held = after;
    }

    /// An entry has gone. No more is taken away than there is.
    pub fn remove(&mut self, tenant: TenantId, weight: u64) {
        let Some(held) = self.tenants.get_mut(&tenant) else { return };
        let gone = weight.min(*held);
        *held -= gone;
        self.total -= gone.min(self.total);
        if *held == 0 {
            self.tenants.remove(&tenant);
        }
    }

    /// What all hold together.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What a tenant holds.
    pub fn of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }

    /// Tenants that hold something, and how much.
    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, u64)> {
        self.tenants.iter().map(|(tenant, bytes)| (*tenant, *bytes))
    }

    /// What has to go of whom after a reload has made budgets smaller, by tenant, and then of all together.
    pub fn over(&self, budget: &Budget) -> (Vec<(TenantId, u64)>, u64) {
        let share = budget.of_tenant();
        let each: Vec<_> =
            self.tenants().filter(|(_, held)| *held > share).map(|(tenant, held)| (tenant, held - share)).collect();
        let cut: u64 = each.iter().map(|(_, bytes)| *bytes).sum();
        (each, self.total.saturating_sub(cut).saturating_sub(budget.max_bytes))
    }
}
