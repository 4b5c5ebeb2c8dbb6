//! Transactions that were heard of before they can be seen.
//!
//! A commit is sent to logical replication as soon as it is in the log, and becomes visible to new snapshots later, with a
//! synchronous standby much later. A read in between sees the old rows although nothing will invalidate its result again.
//! So what was heard of is kept until a snapshot is known in which it is over, and a fill that began before has to prove
//! that its own snapshot is such a one.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

/// A transaction's number with its epoch, as `pg_current_xact_id()` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

impl Xid {
    /// The one that has these lower 32 bits, which are all that replication says, and is nearest to `near`, a number of
    /// about the same time, such as a snapshot's.
    ///
    /// ```
    /// use policy::cache::Xid;
    /// assert_eq!(Xid::near(7, 0x1_0000_0003), Xid(0x1_0000_0007));
    /// assert_eq!(Xid::near(u32::MAX, 0x1_0000_0003), Xid(0xffff_ffff));
    /// ```
    pub const fn near(low: u32, near: u64) -> Self {
        // Distances are read as signed: at most 2³¹ in either direction.
        let distance = low.wrapping_sub(near as u32) as i32;
        Self(near.wrapping_add_signed(distance as i64))
    }
}

/// Longest list of running transactions that is read.
const MAX_RUNNING: usize = 64 * 1024;

/// What `pg_current_snapshot()` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below is over.
    xmin: u64,
    /// None from here on had ended.
    xmax: u64,
    /// Those between that were running, in order.
    running: Box<[u64]>,
}

impl Snapshot {
    /// Reads `xmin:xmax:xip,xip,…`. `None`: it is no snapshot.
    ///
    /// ```
    /// use policy::cache::{Snapshot, Xid};
    /// let snapshot = Snapshot::parse("10:20:10,14").unwrap();
    /// assert!(snapshot.sees(Xid(9)) && snapshot.sees(Xid(11)));
    /// assert!(!snapshot.sees(Xid(14)) && !snapshot.sees(Xid(20)));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax, list) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (xmin, xmax) = (xmin.parse().ok()?, xmax.parse().ok()?);
        let mut running = Vec::new();
        for xid in list.split(',').filter(|_| !list.is_empty()) {
            let xid: u64 = xid.parse().ok()?;
            if running.len() == MAX_RUNNING || !(xmin..xmax).contains(&xid) {
                return None;
            }
            running.push(xid);
        }
        running.sort_unstable();
        (xmin <= xmax).then(|| Self { xmin, xmax, running: running.into() })
    }

    /// Whether this transaction is over in it: its rows are seen if it has committed.
    pub fn sees(&self, xid: Xid) -> bool {
        xid.0 < self.xmin || (xid.0 < self.xmax && self.running.binary_search(&xid.0).is_err())
    }

    /// The same, with all that had begun before `next` and not ended. A snapshot lists those alone that began before the last
    /// one that has ended: who waits for a standby to confirm its commit may be above all of them. `None`: they are too many.
    ///
    /// ```
    /// use policy::cache::{Snapshot, Xid};
    /// let snapshot = Snapshot::parse("10:20:10").unwrap().below(Xid(22)).unwrap();
    /// assert_eq!(snapshot.running().collect::<Vec<_>>(), [Xid(10), Xid(20), Xid(21)]);
    /// ```
    pub fn below(mut self, next: Xid) -> Option<Self> {
        let more = usize::try_from(next.0.saturating_sub(self.xmax)).ok()?;
        if self.running.len().saturating_add(more) > MAX_RUNNING {
            return None;
        }
        self.running = self.running.iter().copied().chain(self.xmax..next.0).collect();
        self.xmax = self.xmax.max(next.0);
        Some(self)
    }

    /// A number of its time, for [`Xid::near`].
    pub fn near(&self) -> u64 {
        self.xmax
    }

    /// The transactions that were running in it.
    pub fn running(&self) -> impl Iterator<Item = Xid> {
        self.running.iter().copied().map(Xid)
    }
}

/// More transactions than this that nobody has seen yet are kept as their highest number alone.
const MAX_LISTED: usize = 256;

/// Transactions that a snapshot has to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unseen {
    listed: Vec<Xid>,
    /// Everything up to here: more than was asked for, which is the careful side.
    up_to: Option<Xid>,
}

impl Unseen {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.up_to.is_none()
    }

    /// Whether all of them are over in this snapshot.
    pub fn are_seen_by(&self, snapshot: &Snapshot) -> bool {
        self.listed.iter().all(|xid| snapshot.sees(*xid)) && self.up_to.is_none_or(|xid| snapshot.xmin > xid.0)
    }

    pub(super) fn add(&mut self, xid: Xid) {
        if self.listed.contains(&xid) {
            return;
        }
        self.listed.push(xid);
        if self.listed.len() > MAX_LISTED {
            self.up_to = self.listed.drain(..).chain(self.up_to).max();
        }
    }

    fn take(&mut self, other: &Self) {
        other.listed.iter().for_each(|xid| self.add(*xid));
        self.up_to = self.up_to.max(other.up_to);
    }

    fn forget_those_seen_by(&mut self, snapshot: &Snapshot) {
        self.listed.retain(|xid| !snapshot.sees(*xid));
        self.up_to = self.up_to.filter(|xid| snapshot.xmin <= xid.0);
    }
}

/// The transactions that wrote to one table (or to any of a database) and were not seen yet.
///
/// Whoever reads copies them *behind* the generation; whoever hears of a write adds it *before* the generation changes.
/// So a read either has the transaction in its copy or a generation that is out of date. What one snapshot has seen may be
/// forgotten, because every read that begins later has a later snapshot; reads under way keep their copies.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Whether there are any: what almost always spares the lock.
    some: AtomicBool,
    unseen: Mutex<Unseen>,
}

impl Heard {
    pub(super) fn add(&self, xid: Xid) {
        self.change(|unseen| unseen.add(xid));
    }

    /// Adds them to `copy`.
    pub(super) fn copy(&self, copy: &mut Unseen) {
        if self.some.load(SeqCst) {
            copy.take(&self.unseen.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Forgets what this snapshot sees.
    pub(super) fn seen_by(&self, snapshot: &Snapshot) {
        if self.some.load(SeqCst) {
            self.change(|unseen| unseen.forget_those_seen_by(snapshot));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Unseen)) {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut unseen);
        // Under the lock, so that it follows what the list is.
        self.some.store(!unseen.is_empty(), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_as_the_server_writes_them() {
        let snapshot = Snapshot::parse("795:799:795,797").unwrap();
        for (xid, seen) in [(794, true), (795, false), (796, true), (797, false), (798, true), (799, false)] {
            assert_eq!(snapshot.sees(Xid(xid)), seen, "{xid}");
        }
        assert!(Snapshot::parse("795:795:").unwrap().sees(Xid(794)));
        assert_eq!(snapshot.running().collect::<Vec<_>>(), [Xid(795), Xid(797)]);
        for broken in ["", "1", "1:2", "2:1:", "1:9:0", "1:9:9", "1:9:x", "1:9:2,", "1:9:2:3", "-1:2:", ":::"] {
            assert_eq!(Snapshot::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn short_numbers_are_those_nearest_to_a_snapshot() {
        for (low, near, full) in [
            (100, 200, 100),
            (200, 100, 200),
            (0xffff_fff0, 0x1_0000_0010, 0xffff_fff0),
            (0x10, 0x1_ffff_fff0, 0x2_0000_0010),
            (0x8000_0000, 0x3_0000_0001, 0x3_8000_0000 - 0x1_0000_0000 + 0x1_0000_0000),
        ] {
            assert_eq!(Xid::near(low, near), Xid(full), "{low} near {near}");
        }
    }

    #[test]
    fn a_long_list_becomes_a_bound_that_asks_for_more_and_never_for_less() {
        let mut unseen = Unseen::default();
        for xid in 0..2_000 {
            unseen.add(Xid(xid * 2));
            assert!(unseen.listed.len() <= MAX_LISTED);
        }
        for (snapshot, seen) in [("4000:4000:", true), ("3998:4000:3998", false), ("100:5000:100", false)] {
            assert_eq!(unseen.are_seen_by(&Snapshot::parse(snapshot).unwrap()), seen, "{snapshot}");
        }
        unseen.forget_those_seen_by(&Snapshot::parse("4000:4000:").unwrap());
        assert!(unseen.is_empty());
    }

    #[test]
    fn what_was_heard_is_kept_until_somebody_sees_it() {
        let heard = Heard::default();
        let copied = || {
            let mut copy = Unseen::default();
            heard.copy(&mut copy);
            copy.listed
        };
        assert!(copied().is_empty());
        heard.add(Xid(7));
        heard.add(Xid(9));
        heard.add(Xid(7));
        assert_eq!(copied(), [Xid(7), Xid(9)]);
        heard.seen_by(&Snapshot::parse("7:10:7").unwrap());
        assert_eq!(copied(), [Xid(7)]);
        heard.seen_by(&Snapshot::parse("10:10:").unwrap());
        assert!(copied().is_empty() && !heard.some.load(SeqCst));
    }
}
