//! The fold: events in, findings out.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::burst::{Burst, BurstKey, Record, Storage};
use super::connections::Connections;
use super::event::{Class, Directory, Event, ScopeId};
use super::judge::{Case, Verdict};
use super::ledger::Ledger;
use super::report::report;
use super::scope::ScopeState;
use super::thresholds::{Counters, Thresholds};
use super::value::HashKey;
use crate::finding::{Finding, Kind};

/// A pause that ends a burst, unless a trace holds it together.
const GAP_US: u64 = 100_000;
/// A pause that ends a burst within a trace.
const TRACE_GAP_US: u64 = 5_000_000;
/// How long a judgement waits for events that are late: workers' rings are merged in turns.
const SETTLE_US: u64 = 20_000;
/// A burst that goes on is judged in windows of this.
const WINDOW_US: u64 = 2_000_000;
/// How long results and idle bursts are kept.
const RETENTION_US: u64 = 5_000_000;
/// How often idle ones are looked for.
const SWEEP_US: u64 = 500_000;

/// Folds finished statements into findings.
///
/// Call order: [`observe`](Self::observe) for each event, roughly by end time; [`tick`](Self::tick) every ten
/// milliseconds or so; [`drain`](Self::drain) whenever convenient; [`finish`](Self::finish) once, when no event is to
/// come. Time is the events' own: nothing here reads a clock.
///
/// An event costs a few table look-ups. Judging happens in `tick`, for bursts that have come far enough, 20 ms of event
/// time later than the statement that brought them there, so that what other workers saw is in. Memory is bounded by
/// [`Thresholds`]; bounds that are reached show in [`Counters::dropped`].
#[derive(Debug)]
pub struct Detector {
    thresholds: Thresholds,
    key: HashKey,
    now_us: u64,
    ticked_us: u64,
    swept_us: u64,
    scopes: Vec<ScopeState>,
    index: FxHashMap<ScopeId, usize>,
    connections: Connections,
    candidates: Vec<Candidate>,
    finished: VecDeque<(ScopeId, Box<Burst>)>,
    spare: Vec<Storage>,
    bursts: usize,
    ledger: Ledger,
    counters: Counters,
}

/// Where a candidate stands; checked by its key, since the place may have been given away.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    scope: ScopeId,
    key: BurstKey,
}

impl Detector {
    /// A detector that hides values behind `key`.
    pub fn new(thresholds: Thresholds, key: HashKey) -> Self {
        Self {
            ledger: Ledger::new(thresholds.max_findings),
            thresholds,
            key,
            now_us: 0,
            ticked_us: 0,
            swept_us: 0,
            scopes: Vec::new(),
            index: FxHashMap::default(),
            connections: Connections::new(),
            candidates: Vec::new(),
            finished: VecDeque::new(),
            spare: Vec::new(),
            bursts: 0,
            counters: Counters::default(),
        }
    }

    /// Takes one finished statement in.
    pub fn observe(&mut self, event: &Event<'_>) {
        self.counters.events += 1;
        self.now_us = self.now_us.max(event.end_us);
        let (transaction, retrying) = self.connections.follow(event);
        if !matches!(event.facts.class, Class::Read | Class::Write | Class::Insert) || event.error.is_some() {
            return;
        }
        let scope = self.scope(event.scope, event.end_us);
        if event.resumed {
            // It was counted when it began, with its parameters.
            return self.go_on(scope, event);
        }
        let several_rows_at_once = event.facts.class == Class::Insert && event.row_count > 1;
        let mut repeated = event.facts.skip_locked;
        if !event.facts.batched && !event.facts.skip_locked && !several_rows_at_once {
            let record = Record::new(event, transaction, self.key);
            repeated = self.count(scope, event, record, retrying) >= 2;
        }
        if let (Some(columns), Some(state)) = (event.columns, self.scopes.get_mut(scope))
            && !columns.is_empty()
            && (event.row_count >= 2 || (event.row_count == 1 && repeated))
        {
            state.samples.push(event, columns);
        }
    }

    /// More of a result that was begun: its burst lasts as long as that, and its rows may be a parent's.
    fn go_on(&mut self, scope: usize, event: &Event<'_>) {
        let key = BurstKey::of(event);
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let slot = state.find(&key);
        if let Some(Some(burst)) = slot.and_then(|slot| state.table.get_mut(slot))
            && !is_over(burst, event.start_us)
        {
            burst.last_end_us = burst.last_end_us.max(event.end_us);
        }
        if let Some(columns) = event.columns.filter(|columns| !columns.is_empty() && event.row_count > 0) {
            state.samples.push(event, columns);
        }
    }

    /// Judges what is due at `now_us` of event time and forgets what is old.
    pub fn tick(&mut self, now_us: u64, directory: &dyn Directory) {
        self.now_us = self.now_us.max(now_us);
        self.ticked_us = self.ticked_us.max(now_us);
        self.advance(directory, false);
        if self.now_us >= self.swept_us.saturating_add(SWEEP_US) {
            self.sweep();
        }
    }

    /// Judges everything that is left: no event is to come.
    pub fn finish(&mut self, directory: &dyn Directory) {
        self.advance(directory, true);
        self.sweep();
    }

    /// Findings that are new, or worth telling again: a minute has passed, or the children of one parent doubled.
    pub fn drain(&mut self) -> impl Iterator<Item = Finding> + '_ {
        self.ledger.drain(self.now_us)
    }

    /// Findings seen since this was last called, each with its counters so far.
    pub fn changed(&mut self) -> impl Iterator<Item = &Finding> {
        self.ledger.changed()
    }

    /// The moment up to which everything is judged: what ended before it, was observed before the last tick and is in no
    /// finding by now will be in none. Stands still while a burst that began earlier goes on, which may be the length
    /// of a window (2 s), or of the pause that a trace may make (5 s).
    pub fn settled_us(&self) -> u64 {
        let begin = |candidate: &Candidate| {
            let state = self.index.get(&candidate.scope).and_then(|index| self.scopes.get(*index))?;
            let slot = state.find(&candidate.key)?;
            state.table.get(slot)?.as_ref().filter(|burst| burst.queued).map(|burst| burst.first_us)
        };
        let settled = self.ticked_us.saturating_sub(SETTLE_US);
        self.candidates.iter().filter_map(begin).fold(settled, u64::min)
    }

    /// Every finding kept, one row per cause, with its counters.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.ledger.iter()
    }

    /// Bytes that it takes for what it follows, without its findings: what [`Thresholds`] bound.
    pub fn bytes(&self) -> usize {
        let scopes = self.scopes.iter().map(ScopeState::bytes);
        let finished = self.finished.iter().map(|(_, burst)| burst.bytes());
        let candidates = self.candidates.capacity() * size_of::<Candidate>();
        scopes.chain(finished).chain(self.spare.iter().map(Storage::bytes)).sum::<usize>() + candidates
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts an execution into its burst; gives the number of executions in it.
    fn count(&mut self, scope: usize, event: &Event<'_>, record: Record, retrying: bool) -> u64 {
        let key = BurstKey::of(event);
        let first_check = self.thresholds.first_check();
        let Some(slot) = self.scopes.get_mut(scope).map(|state| slot_of(state, &key, event.start_us)) else { return 0 };
        let Some(place) = self.scopes.get_mut(scope).and_then(|state| state.table.get_mut(slot)) else { return 0 };
        match place {
            Some(burst) if burst.key == key && !is_over(burst, event.start_us) => {
                if retrying && burst.has_seen(&record) {
                    return burst.count;
                }
                burst.add(record);
                burst.note_types(event);
                let count = burst.count;
                if count >= burst.next_check && burst.check_at_us == u64::MAX {
                    burst.check_at_us = event.end_us.saturating_add(SETTLE_US);
                }
                if count >= first_check && !burst.queued {
                    self.queue(scope, slot, key);
                }
                count
            }
            place => {
                // A place whose burst came to nothing is reused as it is: no allocation.
                if let Some(old) = place.as_mut().filter(|old| !old.queued) {
                    self.counters.dropped += u64::from(may_come_to_something(old, &key, event.start_us));
                    let storage = old.take_storage();
                    **old = Burst::new(event, record, storage, first_check);
                    return 1;
                }
                if let Some(old) = place.take() {
                    self.retire(event.scope, old);
                }
                self.begin(scope, slot, event, record)
            }
        }
    }

    /// Puts a new burst into a free place.
    fn begin(&mut self, scope: usize, slot: usize, event: &Event<'_>, record: Record) -> u64 {
        if self.bursts >= self.thresholds.max_bursts {
            self.counters.dropped += 1;
            return 0;
        }
        let storage = self.spare.pop().unwrap_or_default();
        if let Some(place) = self.scopes.get_mut(scope).and_then(|state| state.table.get_mut(slot)) {
            *place = Some(Box::new(Burst::new(event, record, storage, self.thresholds.first_check())));
            self.bursts += 1;
        }
        1
    }

    fn queue(&mut self, scope: usize, slot: usize, key: BurstKey) {
        if self.candidates.len() >= self.thresholds.max_candidates {
            self.counters.dropped += 1;
            return;
        }
        let Some(state) = self.scopes.get_mut(scope) else { return };
        self.candidates.push(Candidate { scope: state.id, key });
        self.counters.candidates += 1;
        if let Some(Some(burst)) = state.table.get_mut(slot) {
            burst.queued = true;
        }
    }

    /// A burst that is over: judged at the next tick if it got far enough.
    fn retire(&mut self, scope: ScopeId, burst: Box<Burst>) {
        self.bursts = self.bursts.saturating_sub(1);
        if !burst.queued {
            self.recycle(*burst);
        } else if self.finished.len() >= self.thresholds.max_candidates {
            self.counters.dropped += 1;
            self.recycle(*burst);
        } else {
            self.finished.push_back((scope, burst));
        }
    }

    /// Storage that grew goes to the next burst, up to as many as may live.
    fn recycle(&mut self, mut burst: Burst) {
        let storage = burst.take_storage();
        if self.spare.len() < 256 {
            self.spare.push(storage);
        }
    }

    /// Checks bursts that go on, then judges finished ones until no judgement brings another.
    fn advance(&mut self, directory: &dyn Directory, everything: bool) {
        let candidates = std::mem::take(&mut self.candidates);
        let mut kept = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if self.check(candidate, directory, everything) {
                kept.push(candidate);
            }
        }
        kept.append(&mut self.candidates);
        self.candidates = kept;
        let mut waiting: Vec<(ScopeId, Box<Burst>)> = self.finished.drain(..).collect();
        loop {
            let before = waiting.len();
            let mut undecided = Vec::new();
            for (scope, burst) in waiting {
                match self.judge(scope, &burst, true, directory) {
                    Some(Verdict::Loop(Kind::LoopUnsourced)) | None if before > 1 => undecided.push((scope, burst)),
                    verdict => self.conclude(scope, *burst, verdict, directory),
                }
            }
            if undecided.len() == before || undecided.is_empty() {
                waiting = undecided;
                break;
            }
            waiting = undecided;
        }
        for (scope, burst) in waiting {
            let verdict = self.judge(scope, &burst, true, directory);
            self.conclude(scope, *burst, verdict, directory);
        }
    }

    /// Looks at one candidate; whether it stays one.
    fn check(&mut self, candidate: Candidate, directory: &dyn Directory, everything: bool) -> bool {
        let now = self.now_us;
        let Some(scope) = self.index.get(&candidate.scope).copied() else { return false };
        let Some(slot) = self.scopes.get(scope).and_then(|state| state.find(&candidate.key)) else { return false };
        let Some(place) = self.scopes.get_mut(scope).and_then(|state| state.table.get_mut(slot)) else { return false };
        let Some(burst) = place.as_mut().filter(|burst| burst.queued) else { return false };
        let due = burst.check_at_us <= now || (everything && burst.count >= burst.next_check);
        if due {
            // Once explained, every window of records is, so that all executions of the parent are counted.
            let step = if burst.verdict.is_some() { burst.count.min(48) } else { burst.count };
            burst.next_check = burst.count + step;
            burst.check_at_us = u64::MAX;
        }
        if everything || now > burst.last_end_us.saturating_add(gap(&burst.key) + SETTLE_US) {
            let whole = place.take();
            if let Some(burst) = whole {
                let burst = if due { self.precheck(candidate.scope, burst, directory) } else { burst };
                self.retire(candidate.scope, burst);
            }
            return false;
        }
        if burst.last_end_us.saturating_sub(burst.first_us) > WINDOW_US {
            let window = burst.next_window();
            if self.finished.len() < self.thresholds.max_candidates {
                self.finished.push_back((candidate.scope, Box::new(window)));
            } else {
                self.counters.dropped += 1;
            }
            return true;
        }
        if due && let Some(burst) = place.take() {
            let burst = self.precheck(candidate.scope, burst, directory);
            if let Some(place) = self.scopes.get_mut(scope).and_then(|state| state.table.get_mut(slot)) {
                *place = Some(burst);
            }
        }
        true
    }

    /// Judges a burst that goes on, while its parent's rows are still there.
    fn precheck(&mut self, scope: ScopeId, mut burst: Box<Burst>, directory: &dyn Directory) -> Box<Burst> {
        if let Some(verdict @ (Verdict::Caused(..) | Verdict::Walk(_))) = self.judge(scope, &burst, false, directory) {
            self.note(scope, &burst, &verdict);
            burst.verdict = Some(Box::new(verdict));
        }
        burst
    }

    fn judge(&self, scope: ScopeId, burst: &Burst, finished: bool, directory: &dyn Directory) -> Option<Verdict> {
        let state = self.index.get(&scope).and_then(|index| self.scopes.get(*index))?;
        let flagged =
            state.flagged.iter().filter(|(_, until)| *until >= burst.first_us).map(|(family, _)| *family).collect();
        let case =
            Case::new(burst, &state.samples, &self.connections, flagged, &self.thresholds, self.key, scope, directory)?;
        case.judge(finished)
    }

    /// Remembers which family is a child, and which executions caused it.
    fn note(&mut self, scope: ScopeId, burst: &Burst, verdict: &Verdict) {
        let Verdict::Caused(_, cause) = verdict else { return };
        let Some(state) = self.index.get(&scope).and_then(|index| self.scopes.get_mut(*index)) else { return };
        for serial in &cause.serials {
            state.samples.mark_cause(*serial, burst.key.family);
        }
        let until = burst.last_end_us.saturating_add(RETENTION_US);
        if let Some((_, end)) = state.flagged.iter_mut().find(|(family, _)| *family == burst.key.family) {
            *end = until;
        } else if state.flagged.len() < 64 {
            state.flagged.push((burst.key.family, until));
        }
    }

    /// Writes a judgement down and lets the burst go.
    fn conclude(&mut self, scope: ScopeId, mut burst: Burst, verdict: Option<Verdict>, directory: &dyn Directory) {
        let earlier = burst.verdict.take().map(|verdict| *verdict);
        if !self.index.contains_key(&scope) {
            // It has made room for another one meanwhile, and what is needed to judge or to report went with it.
            self.counters.dropped += 1;
            return self.recycle(burst);
        }
        let Some(verdict) = verdict.or(earlier) else { return self.recycle(burst) };
        self.note(scope, &burst, &verdict);
        if burst.distinct_sets() < Thresholds::DISTINCT {
            self.counters.duplicates += 1;
        }
        let samples = self.index.get(&scope).and_then(|index| self.scopes.get(*index)).map(|state| &state.samples);
        if let Some(samples) = samples
            && let Some(seen) = report(scope, &burst, &verdict, samples, self.key, directory)
        {
            if let Some(counter) = self.counters.bursts.get_mut(seen.kind.index()) {
                *counter += 1;
            }
            self.ledger.record(seen, false);
        }
        self.recycle(burst);
    }

    /// The place of a scope, made if it is new, over the one that was quiet for longest when all are taken.
    fn scope(&mut self, id: ScopeId, now_us: u64) -> usize {
        if let Some(index) = self.index.get(&id) {
            if let Some(state) = self.scopes.get_mut(*index) {
                state.last_us = state.last_us.max(now_us);
            }
            return *index;
        }
        let fresh = ScopeState::new(id, now_us);
        if self.scopes.len() < self.thresholds.max_scopes.max(1) {
            self.scopes.push(fresh);
            self.index.insert(id, self.scopes.len() - 1);
            return self.scopes.len() - 1;
        }
        let quietest =
            self.scopes.iter().enumerate().min_by_key(|(_, state)| state.last_us).map_or(0, |(index, _)| index);
        if let Some(state) = self.scopes.get_mut(quietest) {
            let mut old = std::mem::replace(state, fresh);
            self.index.remove(&old.id);
            self.index.insert(id, quietest);
            for burst in old.table.iter_mut().filter_map(Option::take) {
                self.bursts = self.bursts.saturating_sub(1);
                // What it would have come to is not known: its rows and those of its parents go with the scope.
                self.counters.dropped += u64::from(burst.queued || !is_over(&burst, now_us));
                self.recycle(*burst);
            }
        }
        quietest
    }

    /// Forgets idle bursts and expired rows.
    fn sweep(&mut self) {
        self.swept_us = self.now_us;
        let oldest = self.now_us.saturating_sub(RETENTION_US);
        let mut over = Vec::new();
        for state in &mut self.scopes {
            state.samples.expire(oldest);
            state.flagged.retain(|(_, until)| *until >= oldest);
            for place in &mut state.table {
                let idle =
                    |burst: &mut Box<Burst>| !burst.queued && is_over(burst, self.now_us.saturating_sub(SETTLE_US));
                if let Some(burst) = place.take_if(idle) {
                    over.push(burst);
                }
            }
            state.narrow();
        }
        for burst in over {
            self.bursts = self.bursts.saturating_sub(1);
            self.recycle(*burst);
        }
    }
}

fn gap(key: &BurstKey) -> u64 {
    if key.trace.is_some() { TRACE_GAP_US } else { GAP_US }
}

/// The place of a burst. Where all that it may have hold others that go on, there are made more, as long as there may be.
fn slot_of(state: &mut ScopeState, key: &BurstKey, start_us: u64) -> usize {
    loop {
        let slot = state.slot_for(key);
        let taken = state.table.get(slot).and_then(Option::as_ref);
        let in_the_way = taken.is_some_and(|burst| may_come_to_something(burst, key, start_us));
        if !in_the_way || !state.widen() {
            return slot;
        }
    }
}

/// Whether a burst is another's that goes on and has been repeated: nobody knows what it would come to. Of traces neither is
/// known of what was run once: many that go on at once would take each other's places before any is run again.
fn may_come_to_something(burst: &Burst, key: &BurstKey, start_us: u64) -> bool {
    let traced = burst.key.trace.is_some() && key.trace.is_some();
    burst.key != *key && (traced || burst.count >= 2) && !is_over(burst, start_us)
}

/// Whether a statement that starts then begins a new burst.
fn is_over(burst: &Burst, start_us: u64) -> bool {
    start_us > burst.last_end_us.saturating_add(gap(&burst.key))
}
