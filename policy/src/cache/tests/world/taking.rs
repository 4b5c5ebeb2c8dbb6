//! What the steps of the model do: the server's and the clients' by themselves, the processes' through what is tested.

use super::*;
use crate::cache::account::Refused;
use crate::cache::catalog::Touched;
use crate::cache::database::Footprint;
use crate::cache::fill::Terms;
use crate::cache::marks::Marks;
use crate::cache::parts::Part;
use crate::cache::snapshot::Xid;

/// The two parts of one table, and one that nobody reads or writes.
const PARTS: [Part; 2] = [Part::of(0), Part::of(1)];
const NOBODYS: Part = Part::of(2);

impl World<'_> {
    pub(in crate::cache) fn take(&mut self, step: Step) {
        match step {
            Step::Forward(w) => self.forward(w),
            Step::Commit(w) => {
                let (mut parts, at) = (self.scenario.writers[w].parts, self.ticks);
                parts[1] |= self.scenario.writers[w].triggers && self.shown[2] > 0;
                // Locks keep others away until it is shown: it is the next version of what it writes.
                let versions = std::array::from_fn(|part| if parts[part] { self.shown[part] + 1 } else { 0 });
                let writer = &mut self.writers[w];
                (writer.in_log, writer.at, writer.versions) = (true, at, versions);
                self.log.push(w);
            }
            Step::Show(w) => {
                self.writers[w].shown = true;
                self.shown = max(self.shown, self.writers[w].versions);
            }
            Step::Abort(w) => self.writers[w].aborted = true,
            Step::Lose(w) => self.without_end(w, Written::Lost, Guard::HeldWhenLost),
            Step::Prepared(w) => self.without_end(w, Written::Prepared, Guard::HeldWhilePrepared),
            Step::Answer(w) => {
                self.writers[w].state = Written::Answered;
                if !self.has(Guard::OddBeforeForward) {
                    self.begin(w);
                }
                if self.has(Guard::EvenBeforeTold) {
                    self.finish(w);
                }
            }
            Step::Tell(w) => {
                self.writers[w].state = Written::Told;
                self.acked = max(self.acked, self.writers[w].versions);
                if let Some(via) = self.scenario.writers[w].via.filter(|_| !self.scenario.writers[w].prepares) {
                    self.acked_via[via] = max(self.acked_via[via], self.writers[w].versions);
                    self.finish(w);
                }
            }
            Step::Resolve(w) => {
                (self.writers[w].held, self.writers[w].begun) = (false, None);
                if self.writers[w].state == Written::Lost {
                    self.writers[w].state = Written::Over;
                }
                let via = self.scenario.writers[w].via.unwrap();
                self.processes[via].database.is_resolved(&cause(w));
            }
            Step::Ask(r) => self.ask(r),
            Step::Look(r) => self.look_or_send(r),
            Step::Join(r, leader) => self.readers[r].0 = ReaderNow::Joined(leader),
            Step::Execute(r) => {
                if let ReaderNow::Sent(reading) = std::mem::replace(&mut self.readers[r].0, ReaderNow::Idle) {
                    self.readers[r].0 = ReaderNow::Executed(reading, self.shown, self.snapshot());
                }
            }
            Step::Reply(r) => self.reply(r),
            Step::Hear(p) => {
                let w = self.log[self.processes[p].next];
                // The log has what was written, whatever led to it.
                let touched = self.touched(self.writers[w].versions.map(|version| version > 0));
                let process = &self.processes[p];
                let footprint = process.database.footprint(&touched, &process.epoch);
                self.processes[p].next += 1;
                let end = Lsn(self.processes[p].next as u64);
                self.processes[p].database.heard(xid(w), &footprint, end);
                self.processes[p].questions.reached(end);
            }
            Step::LoseSlot(p) => {
                self.processes[p].drops_left -= 1;
                self.processes[p].questions.end();
                self.processes[p].asking = None;
                match self.has(Guard::FlushWhenDown) {
                    true => self.processes[p].database.slot_is_down(),
                    false => self.processes[p].database.slot().set_down(),
                }
            }
            Step::MakeSlot(p) => self.make_slot(p),
            Step::KeepAlive(p) => {
                self.processes[p].current_to = self.ticks;
                self.processes[p].database.slot().is_current_to(self.now());
            }
            Step::Question(p) => {
                // The server reads it at once: later would be safer.
                let end = self.log.len();
                self.processes[p].asking = Some((self.processes[p].questions.send(), end));
            }
            Step::Told(p) => {
                let process = &mut self.processes[p];
                if let Some((question, end)) = process.asking.take() {
                    process.questions.answered(question, Lsn(end as u64));
                    process.questions.reached(Lsn(process.next as u64));
                }
            }
            Step::Wake(r) => self.wake(r),
            Step::GiveUp(r) => self.send(r),
            Step::Tick => self.ticks += 1,
        }
        self.check_for_ever();
    }

    fn touched(&self, [first, second, catalog]: [bool; 3]) -> Touched {
        if self.scenario.apart {
            return Touched::of([0]);
        }
        let tables = [(first, 0), (second, 1)].into_iter().filter_map(|(writes, table)| writes.then_some(table));
        let mut touched = Touched::of(tables);
        if catalog && self.has(Guard::Epoch) {
            touched.add(&Touched::catalog());
        }
        touched
    }

    /// A process reads the catalog again where it has changed.
    fn read_catalog(&mut self, p: usize) {
        let shown = self.shown[2] > 0;
        let process = &mut self.processes[p];
        if let Some(epoch) = process.database.catalog_is_read(process.database.epoch())
            && !Arc::ptr_eq(&epoch, &process.epoch)
        {
            (process.epoch, process.knows) = (epoch, shown);
        }
    }

    fn begin(&mut self, w: usize) {
        let Writer { via, mut parts, triggers, .. } = self.scenario.writers[w];
        let Some(via) = via else { return };
        self.read_catalog(via);
        let (process, database) = (&self.processes[via], Arc::clone(&self.processes[via].database));
        parts[1] |= triggers && process.knows;
        let mut footprint = match self.scenario.apart.then_some([parts[0], parts[1]]) {
            Some([true, true]) if !self.has(Guard::EntersUnseparated) => {
                database.footprint_apart(0, NOBODYS, &process.epoch)
            }
            None | Some([true, true]) => database.footprint(&self.touched(parts), &process.epoch),
            Some(_) if !self.has(Guard::EntersItsPart) => database.footprint_apart(0, NOBODYS, &process.epoch),
            Some([first, _]) => database.footprint_apart(0, PARTS[usize::from(!first)], &process.epoch),
        };
        let begun = Some((process.epoch.generation(), footprint.is_outdated(&database)));
        if !self.has(Guard::WideByAnOldCatalog) {
            footprint = Arc::new(Footprint { epoch: None, ..Footprint::clone(&footprint) });
        }
        let odd = footprint.counters(&database).any(|counter| !counter.now().is_even());
        if self.has(Guard::CountsWriters) || !odd {
            self.writers[w].token = Some(Write::begin(&database, footprint));
            self.writers[w].begun = begun;
        }
    }

    fn finish(&mut self, w: usize) {
        if let Some(token) = self.writers[w].token.take() {
            self.writers[w].begun = None;
            if self.has(Guard::LeavesATrace) { token.finish() } else { token.finish_without_a_trace() }
        }
    }

    fn forward(&mut self, w: usize) {
        self.writers[w].state = Written::Forwarded;
        if self.has(Guard::OddBeforeForward) {
            self.begin(w);
        }
        if !self.has(Guard::EvenAfterReply) {
            self.finish(w);
        }
    }

    fn without_end(&mut self, w: usize, state: Written, guard: Guard) {
        self.writers[w].state = state;
        if !self.has(guard) {
            return self.finish(w);
        }
        if let Some(token) = self.writers[w].token.take() {
            self.processes[self.scenario.writers[w].via.unwrap()].database.hold(cause(w), token);
            self.writers[w].held = true;
        }
    }

    fn ask(&mut self, r: usize) {
        let reader = self.scenario.readers[r];
        let alone = !self.processes[reader.at].has_slot;
        let strict = alone || reader.freshness == Freshness::Strict;
        let mut floor = if strict { max(self.acked, self.seen) } else { self.acked_via[reader.at] };
        // Two ticks are more than the lag that is allowed, one is less.
        let old = self.writers.iter().filter(|writer| writer.in_log && writer.shown && writer.at + 2 <= self.ticks);
        floor = old.fold(floor, |floor, writer| max(floor, writer.versions));
        let (_, round, _, end) = self.readers[r];
        let end = end.filter(|_| !self.has(Guard::AsksEachTime));
        self.readers[r] = (ReaderNow::Asked, round, floor, end);
    }

    fn look_or_send(&mut self, r: usize) {
        match self.look(r) {
            Some(Ok(values)) => {
                self.hits += 1;
                self.answer(r, values);
            }
            Some(Err(NotServed::Ask)) if self.readers[r].3.is_none() => {
                let questions = &self.processes[self.scenario.readers[r].at].questions;
                let behind = self.has(Guard::AsksBehind);
                match if behind { questions.ticket() } else { questions.last_ticket() } {
                    Some(ticket) => self.readers[r].0 = ReaderNow::Waits(ticket),
                    None => self.send(r),
                }
            }
            // It has waited, and waits once.
            _ => self.send(r),
        }
    }

    /// Who has waited for the end of the log looks again, or goes to the server where that does not count.
    fn wake(&mut self, r: usize) {
        let ReaderNow::Waits(ticket) = self.readers[r].0 else { return };
        match self.processes[self.scenario.readers[r].at].questions.turn(ticket) {
            Turn::Passed(end) => (self.readers[r].0, self.readers[r].3) = (ReaderNow::Asked, Some(end)),
            Turn::Waits | Turn::Void => self.send(r),
        }
    }

    fn send(&mut self, r: usize) {
        let reading = if self.has(Guard::BeginsBeforeSent) { self.reading(r) } else { None };
        self.readers[r].0 = ReaderNow::Sent(reading);
    }

    fn reading(&mut self, r: usize) -> Option<Reading> {
        let reader = &self.scenario.readers[r];
        self.read_catalog(reader.at);
        let process = &self.processes[reader.at];
        let tables = (0..2).filter(|table| reader.tables[*table as usize]);
        let sources = match self.scenario.apart.then_some(reader.tables) {
            None => process.database.sources(tables, [], &process.epoch),
            Some(read) => {
                let part = match read {
                    [true, true] if self.has(Guard::ComparesAllWrites) => None,
                    [true, true] => Some(NOBODYS),
                    [first, _] => Some(PARTS[usize::from(!first)]),
                };
                let all = process.database.sources([0], [], &process.epoch);
                all.apart(part.into_iter().map(|part| (0, part)).collect())
            }
        };
        let marks = Marks { tags: process.database.tags([]), tenant: process.database.tenant("") };
        let terms = Terms { freshness: reader.freshness, ttl: Duration::from_secs(3_600), stale_for: Duration::ZERO };
        let (database, now) = (&process.database, self.now());
        let unguarded = match Reading::begin(database, &sources, &marks, terms, now) {
            Ok(_) => false,
            Err(Refused::SlotDown) => !self.has(Guard::NoFillWhenDown),
            Err(Refused::OlderWrite) => !self.has(Guard::WaitsForOlderWrites),
            Err(_) => !self.has(Guard::EvenAtBegin),
        };
        match unguarded {
            true => Some(Reading::begin_unguarded(database, &sources, &marks, terms, now)),
            false => Reading::begin(database, &sources, &marks, terms, now).ok(),
        }
    }

    fn reply(&mut self, r: usize) {
        let state = std::mem::replace(&mut self.readers[r].0, ReaderNow::Idle);
        let ReaderNow::Executed(mut reading, values, snapshot) = state else { return };
        if !self.has(Guard::BeginsBeforeSent) {
            reading = self.reading(r);
        }
        for joined in 0..self.readers.len() {
            if matches!(self.readers[joined].0, ReaderNow::Joined(leader) if leader == r) {
                self.answer(joined, values);
            }
        }
        self.answer(r, values);
        let Some(mut reading) = reading else { return };
        if !self.has(Guard::SeesWhatWasHeard) {
            reading.ask_nothing();
        }
        if !self.has(Guard::KeepsItsCopy) {
            reading.ask_again();
        }
        let admitted = match self.has(Guard::ComparedAtAdmission) {
            true => reading.admit(Some(&snapshot)).ok(),
            false => reading.admit_changed(Some(&snapshot)),
        };
        if let Some(dependencies) = admitted {
            let key = self.key(r);
            self.processes[self.scenario.readers[r].at].entries[key] = Some((values, dependencies));
        }
    }

    /// A reader is answered, by the cache or by the server.
    fn answer(&mut self, r: usize, values: Values) {
        let floor = self.readers[r].2;
        if self.reads(r).into_iter().any(|part| values[part] < floor[part]) {
            self.violation = Some(format!("reader {r} got {values:?} and had to get {floor:?} at least"));
        }
        for part in self.reads(r) {
            self.seen[part] = self.seen[part].max(values[part]);
        }
        self.readers[r].0 = ReaderNow::Idle;
        self.readers[r].1 += 1;
        if self.has(Guard::AsksEachTime) {
            self.readers[r].3 = None;
        }
    }

    pub(super) fn reads(&self, r: usize) -> Vec<usize> {
        let [first, second] = self.scenario.readers[r].tables;
        [first, second, true].iter().enumerate().filter_map(|(part, reads)| reads.then_some(part)).collect()
    }

    fn make_slot(&mut self, p: usize) {
        let behind = match self.has(Guard::SeesWhatRan) {
            true => self.snapshot(),
            false => Snapshot::parse("1:1:").unwrap(),
        };
        let (now, ticks, end) = (self.now(), self.ticks, self.log.len());
        let flushes = self.has(Guard::FlushWhenUp);
        let process = &mut self.processes[p];
        (process.next, process.current_to) = (end, ticks);
        process.questions.begin(process.database.slot().number());
        if flushes {
            return process.database.slot_is_up(now, Lsn(end as u64), &behind);
        }
        // The same but for the new epoch.
        behind.running().for_each(|xid| process.database.heard.add(xid));
        process.database.slot().set_up(now, Lsn(end as u64));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let running = |(w, writer): (usize, &WriterNow)| {
            // Not yet begun is not over either.
            (!writer.shown && !writer.aborted).then(|| (w + 10).to_string())
        };
        let running: Vec<_> = self.writers.iter().enumerate().filter_map(running).collect();
        Snapshot::parse(&format!("10:50:{}", running.join(","))).unwrap()
    }
}

fn xid(w: usize) -> Xid {
    Xid(w as u64 + 10)
}
