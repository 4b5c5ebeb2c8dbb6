//! What is heard, and how far: from transactions of the log to generations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use policy::cache::catalog::Touched;
use policy::cache::{Footprint, Invalidated, Lsn, Snapshot, Xid};
use wire::pgoutput::{Committed, Relations};

use super::super::{Cached, View};

/// Questions that wait for the log to have passed. Beyond, the last two are taken together as the later one.
const MAX_ASKED: usize = 64;
/// Transactions that are listed as heard and not seen; beyond, all below the highest one have to be over.
const MAX_UNSEEN: usize = 256;

/// The relations of a catalog, and what their changes touch. Kept as long as the catalog is the same.
#[derive(Debug, Default)]
struct Reach {
    /// [`Cached::version`] when it was looked at; 0: not yet.
    version: u64,
    view: Option<Arc<View>>,
    touched: BTreeMap<u32, Touched>,
    footprints: BTreeMap<u32, Arc<Footprint>>,
}

/// What one slot has brought.
#[derive(Debug)]
pub(super) struct News {
    cached: Arc<Cached>,
    reach: Reach,
    /// Relations that were published when the slot was made, or became it since and are accounted for.
    published: BTreeSet<u32>,
    /// A transaction's number of about this time.
    near: u64,
    /// When the end of the log was asked for, and what it was. Later ones behind earlier ones.
    asked: VecDeque<(Instant, u64)>,
    /// Everything in front of this has been heard.
    applied: u64,
    /// Everything committed before that moment has.
    current: Option<Instant>,
    unseen: BTreeSet<Xid>,
    /// All up to this one have to be over.
    unseen_to: Option<Xid>,
}

impl News {
    /// Nothing yet.
    pub(super) fn new(cached: Arc<Cached>) -> Self {
        Self {
            cached,
            reach: Reach::default(),
            published: BTreeSet::new(),
            near: 0,
            asked: VecDeque::new(),
            applied: 0,
            current: None,
            unseen: BTreeSet::new(),
            unseen_to: None,
        }
    }

    /// The slot is there: it says everything from `start` on. `behind` was taken at `moment`, when it was.
    pub(super) fn begin(&mut self, moment: Instant, start: u64, behind: &Snapshot) {
        self.published = self.cached.view().map(|view| view.published.clone()).unwrap_or_default();
        self.near = behind.near();
        self.applied = self.applied.max(start);
        self.current = Some(moment);
        self.cached.generations.slot_is_up(moment, Lsn(self.applied), behind);
        self.cached.stirred.notify_one();
    }

    /// A transaction has committed.
    pub(super) fn committed(&mut self, committed: &Committed) {
        if committed.relations != Relations::These(BTreeSet::new()) {
            let xid = Xid::near(committed.xid, self.near);
            let footprint = self.footprint(&committed.relations);
            self.cached.generations.heard(xid, &footprint, Lsn(committed.end));
            if !footprint.is_empty() {
                self.cached.ended.count(Invalidated::Slot);
            }
            self.unseen.insert(xid);
            if self.unseen.len() > MAX_UNSEEN {
                self.unseen_to = std::mem::take(&mut self.unseen).last().copied().max(self.unseen_to);
            }
        }
        self.reached(committed.end);
    }

    /// Everything in front of this place of the log has been heard.
    pub(super) fn reached(&mut self, place: u64) {
        self.applied = self.applied.max(place);
        self.cached.generations.slot().is_applied_to(Lsn(place));
        self.cached.ends.reached(Lsn(self.applied));
        while let Some((moment, _)) = self.asked.front().copied().filter(|(_, end)| *end <= place) {
            self.asked.pop_front();
            self.current = self.current.max(Some(moment));
            self.cached.generations.slot().is_current_to(moment);
        }
    }

    /// The log ended at `end`, asked for at `moment`, and this is a snapshot of then.
    pub(super) fn asked(&mut self, moment: Instant, end: u64, snapshot: &Snapshot) {
        self.near = snapshot.near();
        self.cached.generations.is_seen_by(snapshot);
        self.unseen.retain(|xid| !snapshot.sees(*xid));
        if self.unseen_to.is_some_and(|xid| snapshot.sees(xid) && snapshot.running().all(|running| running > xid)) {
            self.unseen_to = None;
        }
        if self.asked.len() == MAX_ASKED {
            // Not the first one: it is passed before all others, and one has to be, however quickly others follow.
            self.asked.pop_back();
        }
        self.asked.push_back((moment, end));
        self.reached(self.applied);
        self.note_publication(snapshot);
    }

    /// Whether more relations are published than were: the snapshot that is taken next has to list all that runs.
    pub(super) fn publishes_more(&mut self) -> bool {
        self.look_at_view();
        self.reach.view.as_ref().is_some_and(|view| !view.published.is_subset(&self.published))
    }

    /// Whether something was heard that no snapshot is known to see.
    pub(super) fn waits_to_see(&self) -> bool {
        !self.unseen.is_empty() || self.unseen_to.is_some()
    }

    /// Everything in front of this has been heard.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// More relations are published than were: what ran meanwhile may have changed them without being heard. It is as if
    /// the slot were new: whoever fills has to see those transactions.
    fn note_publication(&mut self, snapshot: &Snapshot) {
        self.look_at_view();
        let Some(view) = &self.reach.view else { return };
        if view.published == self.published {
            return;
        }
        let more = !view.published.is_subset(&self.published);
        self.published.clone_from(&view.published);
        if let (true, Some(current)) = (more, self.current) {
            self.cached.generations.slot_is_up(current, Lsn(self.applied), snapshot);
            self.cached.ended.count(Invalidated::SlotLost);
            self.cached.stirred.notify_one();
        }
    }

    fn look_at_view(&mut self) {
        let version = self.cached.version();
        if self.reach.version != version {
            // The number first: a view that is put there behind it is looked for once more.
            self.reach = Reach { version, view: self.cached.view(), ..Reach::default() };
        }
    }

    fn footprint(&mut self, relations: &Relations) -> Arc<Footprint> {
        self.look_at_view();
        let generations = &self.cached.generations;
        // Nothing is served or kept without a view. The catalog must not be taken for changed, or none could be read among
        // steady writes.
        let Reach { view: Some(view), touched, footprints, .. } = &mut self.reach else {
            return Footprint::everything();
        };
        let Relations::These(oids) = relations else {
            return generations.footprint(&Touched::everything(), &view.epoch);
        };
        let mut of = |oid: u32| touched.entry(oid).or_insert_with(|| view.catalog.changed(oid)).clone();
        let mut all = Touched::default();
        // Most transactions change one relation.
        let only = oids.first().copied().filter(|_| oids.len() == 1);
        if let Some(known) = only.and_then(|oid| footprints.get(&oid)) {
            return Arc::clone(known);
        }
        oids.iter().for_each(|oid| all.add(&of(*oid)));
        if all.is_catalog() {
            // A relation that was made since the catalog was read.
            self.cached.stirred.notify_one();
            return Footprint::unknown();
        }
        let footprint = generations.footprint(&all, &view.epoch);
        if let Some(oid) = only {
            footprints.insert(oid, Arc::clone(&footprint));
        }
        footprint
    }
}
