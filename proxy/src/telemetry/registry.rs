//! Tables that give a small id to a thing described once: tenants, scopes, statements, result descriptions.
//!
//! A lock, so only for the miss path: workers keep the id. Ids are never used twice; 0 means "not kept" and is what
//! everything gets when the table is full.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use rustc_hash::FxBuildHasher;

use super::TenantId;
use super::quota::Quotas;

/// What the table holds of one thing.
#[derive(Debug)]
pub struct Interned<V> {
    /// Its id; 0 when the table was full.
    pub id: u32,
    /// The thing itself.
    pub value: Arc<V>,
}

impl<V> Clone for Interned<V> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: Arc::clone(&self.value) }
    }
}

/// A bounded table of things by key and by id.
///
/// In a table made by [`Registry::sweeping`] an entry that nobody outside holds may be dropped when room is needed;
/// in one made by [`Registry::lasting`] entries stay for ever.
#[derive(Debug)]
pub struct Registry<K, V> {
    inner: Mutex<Inner<K, V>>,
    capacity: usize,
    sweeps: bool,
    /// What a thing weighs, and what all may weigh together.
    weigh: fn(&V) -> usize,
    heaviest: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    by_key: HashMap<K, Entry<V>, FxBuildHasher>,
    by_id: HashMap<u32, Arc<V>, FxBuildHasher>,
    last_id: u32,
    weight: usize,
    turned_away: u64,
    /// Whose clients named the entries that somebody was named for.
    quotas: Quotas,
    /// Misses left until a full table is searched for unused entries again.
    patience: usize,
}

/// A thing that is kept.
#[derive(Debug)]
struct Entry<V> {
    known: Interned<V>,
    /// Who has named it first, if somebody was named for it.
    owner: Option<TenantId>,
    /// How often it was asked for, less how often it was given back.
    users: u64,
}

impl<K: Eq + Hash + Clone, V> Registry<K, V> {
    /// A table whose entries stay.
    pub fn lasting(capacity: usize) -> Self {
        Self::new(capacity, false)
    }

    /// A table that drops entries nobody holds when it is full.
    pub fn sweeping(capacity: usize) -> Self {
        Self::new(capacity, true)
    }

    /// The same, in which all entries weigh no more than `heaviest` together: what others describe can be of any size.
    #[must_use]
    pub fn weighing(self, heaviest: usize, weigh: fn(&V) -> usize) -> Self {
        Self { weigh, heaviest, ..self }
    }

    fn new(capacity: usize, sweeps: bool) -> Self {
        let (by_key, by_id) = (HashMap::default(), HashMap::default());
        let inner =
            Inner { by_key, by_id, last_id: 0, weight: 0, turned_away: 0, quotas: Quotas::default(), patience: 0 };
        Self { inner: Mutex::new(inner), capacity, sweeps, weigh: |_| 0, heaviest: usize::MAX }
    }

    /// The entry for `key`, described by `describe` if it is new. Full: id 0 and a description that is not kept.
    pub fn intern(&self, key: K, describe: impl FnOnce() -> V) -> Interned<V> {
        self.intern_for(None, key, describe)
    }

    /// The same in the name of a tenant, which leaves room for others. What it named first is everybody's.
    pub fn intern_of(&self, tenant: TenantId, key: K, describe: impl FnOnce() -> V) -> Interned<V> {
        self.intern_for(Some(tenant), key, describe)
    }

    fn intern_for(&self, tenant: Option<TenantId>, key: K, describe: impl FnOnce() -> V) -> Interned<V> {
        if let Some(known) = self.lock().find(&key) {
            return known;
        }
        // Described outside the lock: describing may copy a whole statement.
        let value = Arc::new(describe());
        let mut inner = self.lock();
        if let Some(known) = inner.find(&key) {
            return known;
        }
        let weight = (self.weigh)(&value);
        let fits = |inner: &Inner<K, V>| {
            inner.by_key.len() < self.capacity && weight <= self.heaviest.saturating_sub(inner.weight)
        };
        let free = self.capacity.saturating_sub(inner.by_key.len());
        let admitted = tenant.is_none_or(|tenant| inner.quotas.admits(tenant, free));
        let swept = |inner: &mut Inner<K, V>| self.sweeps && inner.sweep(self.capacity, self.weigh) && fits(inner);
        let room = admitted && (fits(&inner) || swept(&mut inner));
        if !room {
            inner.turned_away += 1;
            return Interned { id: 0, value };
        }
        inner.weight += weight;
        inner.insert(key, tenant, value)
    }

    /// The entry for `key` in a tenant's name, while one user of `old` gives that back; `None`: there is no room although it
    /// does, and nothing has changed. An entry that nobody uses any more goes.
    pub fn replace(&self, old: &K, tenant: TenantId, key: K, describe: impl FnOnce() -> V) -> Option<Interned<V>> {
        let value = Arc::new(describe());
        let mut inner = self.lock();
        let known = inner.find(&key);
        let free = self.capacity.saturating_sub(inner.by_key.len());
        let last = inner.by_key.get(old).is_some_and(|entry| entry.users <= 1);
        let room = last || (free > 0 && inner.quotas.admits(tenant, free));
        if known.is_none() && !room {
            inner.turned_away += 1;
            return None;
        }
        inner.give_back(old);
        Some(known.unwrap_or_else(|| inner.insert(key, Some(tenant), value)))
    }

    /// The thing with this id, if it is still kept.
    pub fn by_id(&self, id: u32) -> Option<Arc<V>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Entries kept now.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Things that found the table full.
    pub fn turned_away(&self) -> u64 {
        self.lock().turned_away
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        super::lock(&self.inner)
    }
}

impl<K: Eq + Hash + Clone, V> Inner<K, V> {
    /// One more user of what is known by this key.
    fn find(&mut self, key: &K) -> Option<Interned<V>> {
        let entry = self.by_key.get_mut(key)?;
        entry.users += 1;
        Some(entry.known.clone())
    }

    fn insert(&mut self, key: K, owner: Option<TenantId>, value: Arc<V>) -> Interned<V> {
        let Some(id) = self.last_id.checked_add(1) else {
            return Interned { id: 0, value };
        };
        if let Some(owner) = owner {
            self.quotas.add(owner);
        }
        self.last_id = id;
        self.by_id.insert(id, Arc::clone(&value));
        let known = Interned { id, value };
        self.by_key.insert(key, Entry { known: known.clone(), owner, users: 1 });
        known
    }

    fn give_back(&mut self, key: &K) {
        let Some(entry) = self.by_key.get_mut(key) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return;
        }
        let (id, owner) = (entry.known.id, entry.owner);
        self.by_key.remove(key);
        self.by_id.remove(&id);
        if let Some(owner) = owner {
            self.quotas.remove(owner);
        }
    }

    /// Drops what nobody outside holds; `false`: not now. A sweep that freed little is not repeated at once:
    /// it looks at every entry, and a stream of new keys must not make that the usual case.
    fn sweep(&mut self, capacity: usize, weigh: fn(&V) -> usize) -> bool {
        if self.patience > 0 {
            self.patience -= 1;
            return false;
        }
        self.patience = capacity / 8;
        let (by_id, weight) = (&mut self.by_id, &mut self.weight);
        self.by_key.retain(|_, entry| {
            let Interned { id, value } = &entry.known;
            let held = Arc::strong_count(value) > 2;
            if !held {
                by_id.remove(id);
                *weight = weight.saturating_sub(weigh(value));
            }
            held
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_keeps_its_id() {
        let table = Registry::lasting(10);
        let first = table.intern("a", || 1);
        assert_eq!(table.intern("a", || panic!("described twice")).id, first.id);
        assert_eq!(table.by_id(first.id).as_deref(), Some(&1));
        assert_eq!(table.by_id(0), None);
    }

    #[test]
    fn a_full_table_answers_with_zero_and_counts() {
        let table = Registry::lasting(2);
        assert!((0..2).all(|n| table.intern(n, || n).id != 0));
        assert_eq!(table.intern(2, || 2).id, 0);
        assert_eq!((table.len(), table.turned_away()), (2, 1));
    }

    #[test]
    fn what_one_tenant_names_leaves_room_for_another() {
        let table = Registry::lasting(8);
        let ids = |tenant: u32, keys: std::ops::Range<u32>| {
            keys.filter(|key| table.intern_of(TenantId(tenant), *key, || *key).id != 0).count()
        };
        assert_eq!(ids(1, 0..100), 6);
        assert_eq!(ids(2, 0..6), 6, "what is there is everybody's");
        assert_eq!((ids(2, 200..201), ids(1, 100..110), ids(3, 300..301)), (1, 0, 1));
        assert_eq!(table.len(), 8);
    }

    #[test]
    fn what_its_last_user_gives_back_makes_room() {
        let table = Registry::lasting(4);
        let (one, other) = (TenantId(1), TenantId(2));
        assert_eq!((0..9).filter(|key| table.intern_of(one, *key, || *key).id != 0).count(), 3);
        assert_ne!(table.intern_of(other, 0, || 0).id, 0, "a second user of it");
        assert!(table.replace(&0, one, 7, || 7).is_none(), "it is used still, and the tenant has all that it may have");
        let known = table.replace(&1, one, 2, || 2).unwrap();
        assert_eq!((known.id, table.len()), (3, 2), "what is there is everybody's");
        let fresh = table.replace(&0, one, 7, || 7).unwrap();
        assert!(fresh.id > 3 && table.len() == 3);
        assert_eq!((table.by_id(2), table.by_id(fresh.id).as_deref()), (None, Some(&7)));
        assert_ne!(table.replace(&0, other, 8, || 8).unwrap().id, 0, "of another tenant, who had named it first");
    }

    #[test]
    fn all_entries_together_are_no_heavier_than_they_may_be() {
        let table = Registry::sweeping(8).weighing(10, |weight: &usize| *weight);
        let held = table.intern("held", || 6);
        assert_ne!(table.intern("loose", || 4).id, 0);
        assert_eq!(table.intern("too heavy beside what is held", || 5).id, 0);
        assert_eq!(table.len(), 1, "what nobody held was swept");
        assert_ne!(table.intern("light", || 4).id, 0);
        assert_eq!(table.intern("too heavy by itself", || 11).id, 0);
        assert_eq!((table.turned_away(), *held.value), (2, 6));
    }

    #[test]
    fn a_sweep_drops_only_what_nobody_holds_and_reuses_no_id() {
        let table = Registry::sweeping(2);
        let held = table.intern("held", || 0);
        let loose = table.intern("loose", || 0).id;
        let next = table.intern("next", || 0);
        assert!(next.id > loose);
        assert!(table.by_id(loose).is_none());
        assert!(table.by_id(held.id).is_some());
        assert_eq!(table.len(), 2);
    }
}
