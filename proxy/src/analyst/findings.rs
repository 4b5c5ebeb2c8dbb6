//! The findings that are kept for operators, with what they have said about them: bounded, newest first to stay.
//!
//! Each change to a finding gives it the next sequence number, so that a follower who asks for what is newer than the
//! last one he saw misses nothing but what was changed again since. Counters are of bursts that are not muted.

mod mutes;
mod saved;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;

use config::Mute;
use policy::finding::{Acknowledgement, Finding, Kept, Kind, Severity, State, Timestamp};

use crate::telemetry::lock;
use crate::telemetry::snapshot::OTHERS;
use mutes::Mutes;
pub use mutes::{KeptMute, MuteRefusal};
use saved::{Acknowledged, Place, Saved};

/// Pairs of kind and tenant that are counted on their own; the tenants of the rest share one name.
const MAX_TOTALS: usize = 10_000;
/// Bytes of texts that all findings may have.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Findings by their stable id. Written by the analyst, read and commented on by the admin port.
///
/// `now` is time on the telemetry clock: mutes end by it.
#[derive(Debug)]
pub struct FindingsStore {
    inner: Mutex<Inner>,
    capacity: usize,
    /// Taken before `inner`, so that what is written last is the latest; `None`: nothing is kept over a restart.
    place: Mutex<Option<Place>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Row>,
    /// How many of each tenant are kept.
    by_tenant: HashMap<String, usize>,
    /// Bytes of all their texts.
    bytes: usize,
    mutes: Mutes,
    /// Of findings that are here, and of those that are not any more, or not yet since the start.
    acknowledged: Acknowledged,
    totals: BTreeMap<(Kind, String), Total>,
    /// Of the latest change.
    sequence: u64,
    judged_until: Option<Timestamp>,
    left_out: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Row {
    kept: Kept,
    /// Of its texts.
    bytes: usize,
    /// Counters as the detector told them last. It may have forgotten the finding since and begun anew.
    told_occurrences: u64,
    told_statements: u64,
    told_first_seen: Timestamp,
}

/// What was counted of one kind for one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Bursts.
    pub bursts: u64,
    /// Executions of the child in them.
    pub statements: u64,
}

/// Which findings somebody asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those of this tenant.
    pub tenant: Option<String>,
    /// Those of this kind, by name.
    pub kind: Option<String>,
    /// Those in this state.
    pub state: Option<State>,
    /// Those of this application.
    pub application: Option<String>,
    /// Those with this fingerprint, of parent or child, as it is shown.
    pub fingerprint: Option<String>,
    /// Those that have changed since this sequence number.
    pub since: Option<u64>,
    /// Those behind this place in the order, as [`Listing::next`] says it.
    pub after: Option<String>,
    /// So many at most.
    pub limit: usize,
}

/// An answer to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// How many there are, before the limit.
    pub total: usize,
    /// The gravest first, of those the latest first; after a sequence number the earliest change first.
    pub findings: Vec<Kept>,
    /// Where the list goes on; `None`: nowhere.
    pub next: Option<String>,
    /// What to ask for next, to be told what has changed: everything up to here has been.
    pub sequence: u64,
    /// Whatever ended before this is judged; `None`: nothing is, detection is off.
    pub judged_until: Option<Timestamp>,
    /// But for so many statements, and bursts of them, so far.
    pub left_out: u64,
}

impl FindingsStore {
    /// An empty store for at most `capacity` findings.
    pub fn new(capacity: usize) -> Self {
        Self { inner: Mutex::default(), capacity, place: Mutex::default() }
    }

    /// Takes over what is kept in a folder, and keeps what operators say from now on. What cannot be read or kept is told in
    /// the log, and does not hold anything up.
    pub fn keep_in(&self, folder: &Path, now: Timestamp) {
        let place = match Place::new(folder) {
            Ok(place) => place,
            Err(error) => {
                let folder = folder.display();
                tracing::error!(%folder, %error, "observe.state_directory cannot be used: acknowledgements and mutes end with this process");
                return;
            }
        };
        let file = place.file();
        let read = place.read();
        let taken = read.and_then(|saved| saved.map_or(Ok(()), |saved| self.restore(saved, now)));
        if let Err(why) = taken {
            let file = file.display();
            match place.set_aside() {
                Ok(aside) => {
                    let aside = aside.display();
                    tracing::error!(%file, %why, %aside, "acknowledgements and mutes cannot be read and are forgotten; the file was set aside");
                }
                Err(error) => {
                    tracing::error!(%file, %why, %error, "acknowledgements and mutes can neither be read nor set aside: they end with this process");
                    return;
                }
            }
        }
        *lock(&self.place) = Some(place);
    }

    fn restore(&self, saved: Saved, now: Timestamp) -> Result<(), String> {
        let mut inner = lock(&self.inner);
        inner.mutes.restore(saved.last_mute, saved.mutes)?;
        inner.acknowledged = saved.acknowledged;
        inner.expire(now);
        inner.judge_all(now);
        Ok(())
    }

    /// Keeps what operators have said, where there is a place for it. Waits for the disk.
    fn save(&self) {
        let place = lock(&self.place);
        let Some(place) = place.as_ref() else { return };
        let saved = {
            let inner = lock(&self.inner);
            Saved::new(inner.mutes.save(), inner.acknowledged.clone())
        };
        if let Err(error) = place.write(&saved) {
            let file = place.file();
            let file = file.display();
            tracing::error!(%file, %error, "acknowledgements and mutes cannot be kept: a restart would forget the latest");
        }
    }

    /// Takes the mutes of the configuration, in place of those that it had before.
    pub fn configure(&self, mutes: &[Mute], now: Timestamp) {
        let mut inner = lock(&self.inner);
        inner.mutes.configure(mutes);
        inner.judge_all(now);
    }

    /// Takes a finding in, or the news of one. When there is no room the one that was not seen for longest goes, of the tenant
    /// that has most of them, and of those that nobody has acknowledged if there are any: whoever makes ever new ones loses his
    /// own.
    pub fn take(&self, finding: &Finding, now: Timestamp) {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        if self.capacity == 0 {
            inner.dropped += 1;
            return;
        }
        if !inner.by_id.contains_key(&finding.id) {
            let size = finding.texts_size();
            while !inner.by_id.is_empty() && (inner.by_id.len() >= self.capacity || inner.bytes + size > MAX_BYTES) {
                inner.make_room();
            }
        }
        let came_back = inner.take(finding, now);
        drop(inner);
        if came_back {
            self.save();
        }
    }

    /// Takes the news of a finding in, if it is one that is kept.
    pub fn refresh(&self, finding: &Finding, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if inner.by_id.contains_key(&finding.id) {
            inner.take(finding, now);
        }
    }

    /// Changes those findings that are meant. `change` says whether it did.
    pub fn change_each(&self, meant: impl Fn(&Finding) -> bool, change: impl Fn(&mut Finding) -> bool) {
        let mut inner = lock(&self.inner);
        let Inner { by_id, sequence, .. } = &mut *inner;
        for row in by_id.values_mut().filter(|row| meant(&row.kept.finding)) {
            if change(&mut row.kept.finding) {
                *sequence += 1;
                row.kept.sequence = *sequence;
            }
        }
    }

    /// Says that detection has left out so many more statements, or bursts of them, because too much was under way.
    pub fn leave_out(&self, more: u64) {
        if more > 0 {
            lock(&self.inner).left_out += more;
        }
    }

    /// How many that were.
    pub fn left_out(&self) -> u64 {
        lock(&self.inner).left_out
    }

    /// Says up to when everything is judged and in here; `None`: detection is off.
    pub fn settle(&self, judged_until: Option<Timestamp>) {
        lock(&self.inner).judged_until = judged_until;
    }

    /// The finding of this id.
    pub fn find(&self, id: &str) -> Option<Kept> {
        lock(&self.inner).by_id.get(id).map(|row| row.kept.clone())
    }

    /// The findings that are wanted.
    pub fn list(&self, wanted: &Wanted, now: Timestamp) -> Listing {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        let rows = inner.by_id.values().map(|row| &row.kept).filter(|kept| wanted.picks(kept));
        let mut picked: Vec<&Kept> = rows.collect();
        if wanted.since.is_some() {
            picked.sort_by_key(|kept| kept.sequence);
        } else {
            let rank = |kept: &Kept| (kept.finding.severity, kept.finding.last_seen);
            picked.sort_by(|a, b| (rank(b), &a.finding.id).cmp(&(rank(a), &b.finding.id)));
        }
        let total = picked.len();
        if let Some(after) = &wanted.after {
            picked.retain(|kept| wanted.place(kept) > *after);
        }
        let more = picked.len() > wanted.limit;
        picked.truncate(wanted.limit);
        let last = picked.last().filter(|_| more);
        let next = last.map(|kept| wanted.place(kept));
        let sequence = last.filter(|_| wanted.since.is_some()).map_or(inner.sequence, |kept| kept.sequence);
        let findings = picked.into_iter().cloned().collect();
        Listing { total, findings, next, sequence, judged_until: inner.judged_until, left_out: inner.left_out }
    }

    /// Notes that somebody knows of a finding; `None`: there is none of this id. May wait for the disk, as all do that take
    /// down what operators say.
    pub fn acknowledge(&self, id: &str, by: String, note: Option<String>, now: Timestamp) -> Option<Kept> {
        self.change(id, now, |kept| {
            kept.acknowledged = Some(Acknowledgement::of(&kept.finding, by, note, now));
        })
    }

    /// Takes that back; `None`: there is no finding of this id.
    pub fn withdraw(&self, id: &str, now: Timestamp) -> Option<Kept> {
        self.change(id, now, |kept| kept.acknowledged = None)
    }

    fn change(&self, id: &str, now: Timestamp, change: impl FnOnce(&mut Kept)) -> Option<Kept> {
        let changed = lock(&self.inner).change(id, now, change)?;
        self.save();
        Some(changed)
    }

    /// Mutes what it names, until it says or [`FindingsStore::unmute`] is called with its id; where nothing is kept over a
    /// restart, until the process ends.
    ///
    /// # Errors
    /// There are too many.
    pub fn mute(&self, mute: Mute, now: Timestamp) -> Result<KeptMute, MuteRefusal> {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        let kept = inner.mutes.add(mute, now)?;
        inner.judge_all(now);
        drop(inner);
        self.save();
        Ok(kept)
    }

    /// Takes a mute away.
    ///
    /// # Errors
    /// There is none of this id, or it stands in the configuration.
    pub fn unmute(&self, id: &str, now: Timestamp) -> Result<(), MuteRefusal> {
        let mut inner = lock(&self.inner);
        inner.mutes.remove(id)?;
        inner.judge_all(now);
        drop(inner);
        self.save();
        Ok(())
    }

    /// All mutes: those of the configuration first, in its order, then the others by age.
    pub fn mutes(&self, now: Timestamp) -> Vec<KeptMute> {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        inner.mutes.list()
    }

    /// Findings kept, by kind, tenant and state. What has none is left out.
    pub fn counts(&self) -> Vec<(Kind, String, State, u64)> {
        let inner = lock(&self.inner);
        let mut counts = BTreeMap::<(Kind, &str, State), u64>::new();
        for kept in inner.by_id.values().map(|row| &row.kept) {
            *counts.entry((kept.finding.kind, &kept.finding.tenant, kept.state)).or_default() += 1;
        }
        counts.into_iter().map(|((kind, tenant, state), count)| (kind, tenant.to_owned(), state, count)).collect()
    }

    /// What was counted since the start, by kind and tenant.
    pub fn totals(&self) -> Vec<(Kind, String, Total)> {
        let inner = lock(&self.inner);
        inner.totals.iter().map(|((kind, tenant), total)| (*kind, tenant.clone(), *total)).collect()
    }

    /// Findings that went to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        lock(&self.inner).dropped
    }
}

impl Inner {
    /// What somebody says about a finding.
    fn change(&mut self, id: &str, now: Timestamp, change: impl FnOnce(&mut Kept)) -> Option<Kept> {
        self.expire(now);
        let Self { by_id, mutes, sequence, acknowledged, .. } = self;
        let kept = &mut by_id.get_mut(id)?.kept;
        change(kept);
        acknowledged.remove(id);
        if let Some(known) = &kept.acknowledged {
            saved::make_room(acknowledged);
            acknowledged.insert(id.to_owned(), known.clone());
        }
        kept.judge(mutes.each(), now);
        *sequence += 1;
        kept.sequence = *sequence;
        Some(kept.clone())
    }

    fn make_room(&mut self) {
        let most = self.by_tenant.iter().max_by(|a, b| (a.1, b.0).cmp(&(b.1, a.0))).map(|(tenant, _)| tenant.clone());
        let rank = |row: &&Row| {
            let of_most = most.as_ref() == Some(&row.kept.finding.tenant);
            (!of_most, row.kept.acknowledged.is_some(), row.kept.finding.last_seen)
        };
        let oldest = self.by_id.values().min_by_key(rank).map(|row| row.kept.finding.id.clone());
        let Some(row) = oldest.and_then(|id| self.by_id.remove(&id)) else { return };
        self.dropped += 1;
        self.bytes = self.bytes.saturating_sub(row.bytes);
        if let Some(count) = self.by_tenant.get_mut(&row.kept.finding.tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(&row.kept.finding.tenant);
            }
        }
    }

    /// Whether it has come back although it had been acknowledged: from then on that does not hold, and has to be kept.
    fn take(&mut self, finding: &Finding, now: Timestamp) -> bool {
        let Self { by_id, by_tenant, bytes, mutes, totals, sequence, acknowledged, .. } = self;
        let (row, news) = match by_id.entry(finding.id.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let row = known.into_mut();
                // Whoever counts had forgotten it: by its number, or, where that is the same again, by when it began.
                let anew = finding.occurrences < row.told_occurrences || finding.first_seen > row.told_first_seen;
                let (occurrences, statements) = if anew { (0, 0) } else { (row.told_occurrences, row.told_statements) };
                let news = Total {
                    bursts: finding.occurrences - occurrences,
                    statements: finding.statements.saturating_sub(statements),
                };
                // What goes on, as an open transaction does, is news without a further burst.
                if news.bursts == 0 && finding.last_seen <= row.kept.finding.last_seen {
                    return false;
                }
                row.kept.merge(finding, news.bursts, news.statements);
                (row, news)
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                *by_tenant.entry(finding.tenant.clone()).or_default() += 1;
                let mut kept = Kept::new(finding.clone());
                kept.acknowledged = acknowledged.get(&finding.id).cloned();
                let news = Total { bursts: finding.occurrences, statements: finding.statements };
                (
                    place.insert(Row {
                        kept,
                        bytes: 0,
                        told_occurrences: 0,
                        told_statements: 0,
                        told_first_seen: finding.first_seen,
                    }),
                    news,
                )
            }
        };
        (row.told_occurrences, row.told_statements) = (finding.occurrences, finding.statements);
        row.told_first_seen = finding.first_seen;
        let size = row.kept.finding.texts_size();
        *bytes = (*bytes + size).saturating_sub(std::mem::replace(&mut row.bytes, size));
        let came_back = match (&row.kept.acknowledged, acknowledged.get_mut(&finding.id)) {
            (Some(now), Some(known)) if now.came_back != known.came_back => {
                known.clone_from(now);
                true
            }
            _ => false,
        };
        row.kept.judge(mutes.each(), now);
        *sequence += 1;
        row.kept.sequence = *sequence;
        if row.kept.state == State::Muted {
            return came_back;
        }
        let mut key = (finding.kind, finding.tenant.clone());
        if totals.len() >= MAX_TOTALS && !totals.contains_key(&key) {
            key.1 = OTHERS.to_owned();
        }
        let total = totals.entry(key).or_default();
        total.bursts += news.bursts;
        total.statements += news.statements;
        came_back
    }

    /// Drops mutes that have ended.
    fn expire(&mut self, now: Timestamp) {
        if self.mutes.expire(now) {
            self.judge_all(now);
        }
    }

    /// Looks at the state of each finding anew, after mutes have come or gone.
    fn judge_all(&mut self, now: Timestamp) {
        let Self { by_id, mutes, sequence, .. } = self;
        for row in by_id.values_mut() {
            if row.kept.judge(mutes.each(), now) {
                *sequence += 1;
                row.kept.sequence = *sequence;
            }
        }
    }
}

impl Wanted {
    /// Where a finding stands in the order that is asked for: places compare as texts.
    fn place(&self, kept: &Kept) -> String {
        let (finding, sequence) = (&kept.finding, kept.sequence);
        if self.since.is_some() {
            return format!("{sequence:020}");
        }
        let harmless = match finding.severity {
            Severity::High => 0,
            Severity::Medium => 1,
            Severity::Low => 2,
        };
        format!("{harmless}{:020}{}", u64::MAX - finding.last_seen.0, finding.id)
    }

    fn picks(&self, kept: &Kept) -> bool {
        let finding = &kept.finding;
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        let sides = || finding.parent.iter().chain([&finding.child]);
        is(&self.tenant, &finding.tenant)
            && is(&self.kind, finding.kind.name())
            && is(&self.application, &finding.application)
            && self.state.is_none_or(|state| state == kept.state)
            && self.since.is_none_or(|since| kept.sequence > since)
            && self.fingerprint.as_ref().is_none_or(|wanted| sides().any(|side| side.fingerprint == *wanted))
    }
}
