//! What tenants use of what they share, counted where their limits need it: clients, running statements, statements in a
//! second; and how often each limit was reached.
//!
//! Shared by all threads, and touched on the hot path by those alone who have such a limit.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use config::{LimitKey, Mode, TenantRows};
use policy::limits::{Bound, Bucket, LimitTable, Rate};
use policy::tenant::{ClassId, Directory, Resolver, TenantId};
use rustc_hash::FxHashMap;

/// Counters of single statements at most; whoever comes then shares those of the tenant.
const MAX_STATEMENTS: usize = 100_000;

/// What follows from the configuration for sessions; replaced as a whole by a reload.
#[derive(Debug)]
pub struct Rules {
    /// The settings in force: those that were read, with the tenants of a table.
    pub settings: Arc<config::Settings>,
    /// Those that were read, without them.
    pub own: Arc<config::Settings>,
    /// Whose statement is this.
    pub resolver: Resolver,
    /// What may it do.
    pub limits: LimitTable,
    /// Whether a statement's comments can decide whose it is.
    pub reads_comments: bool,
    /// Whether settings can.
    pub reads_settings: bool,
    /// Another number for each set of rules.
    pub version: u64,
}

impl Rules {
    /// Compiles settings and what a table says of tenants, and has the directory know the tenants in them.
    pub fn new(own: Arc<config::Settings>, rows: &TenantRows, directory: &Directory, version: u64) -> Self {
        let settings = if rows.is_empty() { own.clone() } else { Arc::new(own.with_rows(rows)) };
        directory.reload(&settings.tenants);
        let resolver = Resolver::new(&settings.tenants, directory);
        Self {
            version,
            reads_comments: resolver.reads_comments(),
            reads_settings: resolver.reads_settings(),
            resolver,
            limits: LimitTable::new(&settings.tenants, directory),
            settings,
            own,
        }
    }
}

/// What one tenant uses, or its sessions of one class, or they by one statement.
#[derive(Debug, Default)]
pub struct Usage {
    clients: AtomicU32,
    joined: AtomicU64,
    running: AtomicU32,
    bucket: Bucket,
    hits: [Hits; LimitKey::ALL.len()],
    /// By which statement's own limit each was reached last, where it was one of a single statement; 0: it was not.
    named: [AtomicU64; LimitKey::ALL.len()],
    /// The sum of them, so that whoever looks at all tenants need not look at each.
    all_hits: AtomicU64,
}

/// How often one limit was reached.
#[derive(Debug, Default)]
struct Hits {
    observed: AtomicU64,
    warned: AtomicU64,
    enforced: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which limit.
    pub key: LimitKey,
    /// Times that it would have done something, in mode `observe`.
    pub observed: u64,
    /// Times that the client was told, in mode `warn`.
    pub warned: u64,
    /// Times that it did what it says.
    pub enforced: u64,
}

impl Usage {
    /// Clients now.
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Clients that have come, by connecting or by becoming this tenant's.
    pub fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Times that any limit was reached.
    pub fn hits(&self) -> u64 {
        self.all_hits.load(Ordering::Acquire)
    }

    /// Statements that run now, as far as they are counted: where a limit on them is set.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// A limit was reached.
    pub fn reached(&self, key: LimitKey, mode: Mode) {
        let Some(hits) = self.hits.get(key as usize) else { return };
        match mode {
            Mode::Off => return,
            Mode::Observe => &hits.observed,
            Mode::Warn => &hits.warned,
            Mode::Enforce => &hits.enforced,
        }
        .fetch_add(1, Ordering::Relaxed);
        // Behind the other, and seen behind it: who finds this unchanged has missed nothing.
        self.all_hits.fetch_add(1, Ordering::Release);
    }

    /// Whose limit it is that was reached: a single statement's, or not.
    pub fn names(&self, key: LimitKey, strict: Option<u64>) {
        if let Some(named) = self.named.get(key as usize) {
            named.store(strict.unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The statement whose own limit was reached last.
    pub fn named(&self, key: LimitKey) -> Option<u64> {
        self.named.get(key as usize).map(|named| named.load(Ordering::Relaxed)).filter(|strict| *strict != 0)
    }

    /// Limits that were reached at least once.
    pub fn limits_reached(&self) -> Vec<Reached> {
        let read = |(key, hits): (LimitKey, &Hits)| Reached {
            key,
            observed: hits.observed.load(Ordering::Relaxed),
            warned: hits.warned.load(Ordering::Relaxed),
            enforced: hits.enforced.load(Ordering::Relaxed),
        };
        let all = LimitKey::ALL.into_iter().zip(&self.hits).map(read);
        all.filter(|reached| reached.observed + reached.warned + reached.enforced > 0).collect()
    }

    /// Takes a token of the statement rate.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, rate: Bound<Rate>, now_ns: u64) -> Result<(), std::time::Duration> {
        self.bucket.take(rate.at, now_ns)
    }

    /// The same for so many statements in one text: all of them, or none.
    ///
    /// # Errors
    /// How long until there are as many.
    pub fn take_several(&self, rate: Bound<Rate>, statements: u32, now_ns: u64) -> Result<(), std::time::Duration> {
        self.bucket.take_several(rate.at, statements, now_ns)
    }

    /// How long until there are as many, of which none is taken; `None`: they are there.
    pub fn lacks(&self, rate: Bound<Rate>, statements: u32, now_ns: u64) -> Option<std::time::Duration> {
        self.bucket.lacks(rate.at, statements, now_ns)
    }
}

/// A client of a tenant's, counted as long as this is kept: among all of the tenant's, and among those of its class.
#[derive(Debug)]
pub struct Membership {
    all: Arc<Usage>,
    class: Option<Arc<Usage>>,
}

impl Membership {
    /// One more client, whatever the limit.
    pub fn join(tenancy: &Tenancy, tenant: TenantId, class: ClassId) -> Self {
        let all = tenancy.of(tenant, ClassId::NONE);
        let class = (class != ClassId::NONE).then(|| tenancy.of(tenant, class));
        let joined = Self { all, class };
        joined.each(|usage| {
            usage.clients.fetch_add(1, Ordering::Relaxed);
            usage.joined.fetch_add(1, Ordering::Relaxed);
        });
        joined
    }

    /// Those that are counted together: all of the tenant's clients, or those of this one's class alone.
    pub fn of(&self, by_class: bool) -> &Arc<Usage> {
        self.class.as_ref().filter(|_| by_class).unwrap_or(&self.all)
    }

    /// All of the tenant's.
    pub fn all(&self) -> &Arc<Usage> {
        &self.all
    }

    /// Both.
    pub fn each(&self, mut look: impl FnMut(&Usage)) {
        look(&self.all);
        if let Some(class) = &self.class {
            look(class);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.each(|usage| {
            usage.clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// A running statement, counted as long as this is kept.
#[derive(Debug)]
pub struct Permit(Arc<Usage>);

impl Permit {
    /// One more statement, and how many others there are.
    pub fn take(usage: &Arc<Usage>) -> (Self, u32) {
        let others = usage.running.fetch_add(1, Ordering::Relaxed);
        (Self(usage.clone()), others)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everybody's counters. Names are bounded by the directory, classes and statements by the configuration.
#[derive(Debug, Default)]
pub struct Tenancy {
    sessions: RwLock<FxHashMap<(TenantId, ClassId), Arc<Usage>>>,
    statements: RwLock<FxHashMap<(TenantId, u64), Arc<Usage>>>,
}

impl Tenancy {
    /// The counters of a tenant's sessions of a class; [`ClassId::NONE`]: of all of them. Looked up when a session's
    /// tenant or class changes.
    pub fn of(&self, tenant: TenantId, class: ClassId) -> Arc<Usage> {
        if let Some(known) = self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&(tenant, class)) {
            return known.clone();
        }
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).entry((tenant, class)).or_default().clone()
    }

    /// The counters of one statement of a tenant, where the configuration limits it.
    pub fn of_statement(&self, tenant: TenantId, strict: u64) -> Arc<Usage> {
        if let Some(known) = self.statements.read().unwrap_or_else(PoisonError::into_inner).get(&(tenant, strict)) {
            return known.clone();
        }
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        if statements.len() >= MAX_STATEMENTS && !statements.contains_key(&(tenant, strict)) {
            drop(statements);
            return self.of(tenant, ClassId::NONE);
        }
        statements.entry((tenant, strict)).or_default().clone()
    }

    /// All counters of sessions, in no order.
    pub fn all(&self) -> Vec<(TenantId, ClassId, Arc<Usage>)> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().map(|((tenant, class), usage)| (*tenant, *class, usage.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_statements_are_counted_as_long_as_they_are_there() {
        let tenancy = Tenancy::default();
        let class = ClassId::at(1);
        let first = Membership::join(&tenancy, TenantId::OTHER, class);
        let second = Membership::join(&tenancy, TenantId::OTHER, ClassId::NONE);
        assert_eq!((first.of(false).clients(), first.of(true).clients(), second.of(true).clients()), (2, 1, 2));
        drop(first);
        assert_eq!((second.all().clients(), tenancy.of(TenantId::OTHER, class).clients()), (1, 0));
        assert_eq!((second.all().joined(), tenancy.of(TenantId::OTHER, class).joined()), (2, 1), "all that ever came");
        let (permit, others) = Permit::take(second.all());
        assert_eq!((others, second.all().running()), (0, 1));
        drop(permit);
        assert_eq!(second.all().running(), 0);
    }

    #[test]
    fn every_limit_that_was_reached_is_told_by_mode() {
        let usage = Usage::default();
        for mode in [Mode::Off, Mode::Observe, Mode::Warn, Mode::Enforce, Mode::Enforce] {
            usage.reached(LimitKey::MaxRows, mode);
        }
        let rows = Reached { key: LimitKey::MaxRows, observed: 1, warned: 1, enforced: 2 };
        assert_eq!((usage.limits_reached(), usage.hits()), (vec![rows], 4));
    }
}
