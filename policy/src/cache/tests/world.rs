//! The world of the model: a server, processes with a cache, clients that write and read. One step at a time.
//!
//! What is modelled is what others do: when the server commits and when it shows, when messages arrive, who is lost. What
//! this crate does is done by itself: a step of a process calls [`Write`], [`Reading`], [`Dependencies`] and [`Database`]
//! as a session will. A guard is removed by calling them otherwise.

mod standing;
mod taking;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::database::{Database, Epoch};
use super::super::fill::{Dependencies, NotServed, Reading};
use super::super::freshness::{End, Freshness, Lsn, Slot};
use super::super::generation::Generation;
use super::super::parts::Table;
use super::super::questions::{Questions, Ticket, Turn};
use super::super::snapshot::Snapshot;
use super::super::write::{Cause, Write};

/// What may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Odd before anything that commits is forwarded.
    OddBeforeForward,
    /// Even behind the reply only.
    EvenAfterReply,
    /// Generations count writers instead of toggling.
    CountsWriters,
    /// A write that is over leaves a higher version.
    LeavesATrace,
    /// Held where the connection was lost.
    HeldWhenLost,
    /// Held while prepared.
    HeldWhilePrepared,
    /// DDL changes the epoch.
    Epoch,
    /// A write that goes by an old catalog is taken to reach everything.
    WideByAnOldCatalog,
    /// No read begins by a new catalog while somebody writes by an old one.
    WaitsForOlderWrites,
    /// No read begins while something is written.
    EvenAtBegin,
    /// A read begins before it is sent.
    BeginsBeforeSent,
    /// Generations are compared at each hit.
    ComparedAtHit,
    /// Who comes later joins only where nothing has changed.
    JoinsUnchanged,
    /// And nothing waits to be seen.
    JoinsSeen,
    /// A fill sees what was heard of before it.
    SeesWhatWasHeard,
    /// It asks for what it had heard of when it began, not for what is unseen at its end.
    KeepsItsCopy,
    /// A slot that is made makes a new epoch. One that is lost does so too, and nothing is filled in between: that spares
    /// room, and would make up for this one.
    FlushWhenUp,
    /// See [`Self::FlushWhenUp`].
    FlushWhenDown,
    /// See [`Self::FlushWhenUp`].
    NoFillWhenDown,
    /// What ran when the slot was made has to be seen.
    SeesWhatRan,
    /// Old news is no news.
    Lag,
    /// `strict` waits for the end of the log.
    WaitsForTheEnd,
    /// By a question that is sent when its statement has come.
    AsksBehind,
    /// And that is answered for no later statement.
    AsksEachTime,
    /// What was asked of a slot that was lost does not count. Spared where a new slot makes a new epoch: what is kept then
    /// was read behind the question.
    AsksThisSlot,
    /// Generations are compared at admission: an economy, since hits compare them.
    ComparedAtAdmission,
    /// Even before the client is told: later is safe.
    EvenBeforeTold,
    /// Who writes one part of a table enters that part.
    EntersItsPart,
    /// Who writes all of it enters what readers of parts compare.
    EntersUnseparated,
    /// Who reads all of it compares what all writers enter.
    ComparesAllWrites,
}

/// A transaction.
#[derive(Clone, Copy, Default)]
pub(super) struct Writer {
    /// The process that it passes; `None`: psql beside all of them.
    pub(super) via: Option<usize>,
    /// Which of the three parts it writes; the last one is the catalog.
    pub(super) parts: [bool; 3],
    /// Its connection may be lost.
    pub(super) may_be_lost: bool,
    /// Once the catalog has changed, it writes the second table as well: a trigger was made.
    pub(super) triggers: bool,
    /// It is prepared through its process, and committed beside it.
    pub(super) prepares: bool,
}

/// Somebody who reads through a process.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    pub(super) at: usize,
    pub(super) freshness: Freshness,
    /// Which tables it reads. The catalog matters to all.
    pub(super) tables: [bool; 2],
    pub(super) times: u8,
}

#[derive(Clone, Default)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// For each process, whether it has a slot, and how often it may lose it.
    pub(super) processes: Vec<Option<u8>>,
    pub(super) writers: Vec<Writer>,
    pub(super) readers: Vec<Reader>,
    /// Times that 200 ms pass.
    pub(super) ticks: u8,
    /// The two tables are two parts of one table.
    pub(super) apart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Forward(usize),
    Commit(usize),
    Show(usize),
    Abort(usize),
    Lose(usize),
    Prepared(usize),
    Answer(usize),
    Tell(usize),
    Resolve(usize),
    Ask(usize),
    Look(usize),
    Join(usize, usize),
    Execute(usize),
    Reply(usize),
    Hear(usize),
    LoseSlot(usize),
    MakeSlot(usize),
    KeepAlive(usize),
    /// A process sends a question for the end of the log, which the server reads.
    Question(usize),
    /// It is answered.
    Told(usize),
    /// Who waits for the end of the log may look again.
    Wake(usize),
    /// He has waited for long enough.
    GiveUp(usize),
    Tick,
}

/// Versions of the two tables and of the catalog.
pub(super) type Values = [u8; 3];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Not,
    Forwarded,
    Lost,
    Prepared,
    Answered,
    Told,
    /// Nobody will be told.
    Over,
}

pub(super) struct WriterNow {
    pub(super) state: Written,
    pub(super) in_log: bool,
    pub(super) shown: bool,
    pub(super) aborted: bool,
    /// Since when it is in the log, in ticks.
    at: u8,
    versions: Values,
    token: Option<Write>,
    held: bool,
    /// The epoch that it went by when it began, and whether that was out of date.
    begun: Option<(Generation, bool)>,
}

pub(super) enum ReaderNow {
    Idle,
    Asked,
    Waits(Ticket),
    Sent(Option<Reading>),
    Executed(Option<Reading>, Values, Snapshot),
    Joined(usize),
}

pub(super) struct Process {
    pub(super) database: Arc<Database>,
    pub(super) tables: Vec<Arc<Table>>,
    epoch: Arc<Epoch>,
    /// Whether its catalog has the trigger.
    knows: bool,
    pub(super) drops_left: u8,
    has_slot: bool,
    /// The next commit in the log that it has not heard of.
    next: usize,
    current_to: u8,
    questions: Questions,
    /// The question that is on its way, and where the log ended.
    asking: Option<(u64, usize)>,
    pub(super) entries: [Option<(Values, Dependencies)>; 2],
}

pub(super) struct World<'s> {
    pub(super) scenario: &'s Scenario,
    removed: &'s [Guard],
    base: Instant,
    ticks: u8,
    log: Vec<usize>,
    shown: Values,
    acked: Values,
    /// Told by each process alone.
    acked_via: Vec<Values>,
    seen: Values,
    pub(super) writers: Vec<WriterNow>,
    /// State, rounds done, floor, end of the log that was asked for.
    pub(super) readers: Vec<(ReaderNow, u8, Values, Option<End>)>,
    pub(super) processes: Vec<Process>,
    pub(super) hits: u64,
    pub(super) violation: Option<String>,
}

impl<'s> World<'s> {
    pub(super) fn new(scenario: &'s Scenario, removed: &'s [Guard], base: Instant) -> Self {
        let process = |slot: &Option<u8>| {
            let made = if slot.is_some() { Slot::down(base) } else { Slot::not_needed(base) };
            let database = Arc::new(Database::new(made));
            if slot.is_some() {
                database.slot_is_up(base, Lsn(0), &Snapshot::parse("1:1:").unwrap());
            }
            let tables = [0, u32::from(!scenario.apart)].map(|oid| database.table(oid)).into();
            let epoch = database.catalog_is_read(database.epoch()).unwrap();
            let mut questions = Questions::default();
            questions.begin(database.slot().number());
            Process {
                database,
                tables,
                epoch,
                knows: false,
                drops_left: slot.unwrap_or(0),
                has_slot: slot.is_some(),
                next: 0,
                current_to: 0,
                questions,
                asking: None,
                entries: [None, None],
            }
        };
        let writer = |_: &Writer| WriterNow {
            state: Written::Not,
            in_log: false,
            shown: false,
            aborted: false,
            at: 0,
            versions: [0; 3],
            token: None,
            held: false,
            begun: None,
        };
        Self {
            scenario,
            removed,
            base,
            ticks: 0,
            log: Vec::new(),
            shown: [0; 3],
            acked: [0; 3],
            acked_via: vec![[0; 3]; scenario.processes.len()],
            seen: [0; 3],
            writers: scenario.writers.iter().map(writer).collect(),
            readers: scenario.readers.iter().map(|_| (ReaderNow::Idle, 0, [0; 3], None)).collect(),
            processes: scenario.processes.iter().map(process).collect(),
            hits: 0,
            violation: None,
        }
    }

    fn has(&self, guard: Guard) -> bool {
        !self.removed.contains(&guard)
    }

    fn now(&self) -> Instant {
        self.base + Duration::from_millis(200) * u32::from(self.ticks)
    }

    fn hears(&self, process: usize) -> bool {
        self.processes[process].database.slot().hears()
    }

    /// All steps that are possible now.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (w, writer) in self.writers.iter().enumerate() {
            self.writer_steps(w, writer, &mut steps);
        }
        for (r, (state, round, ..)) in self.readers.iter().enumerate() {
            match state {
                ReaderNow::Idle if *round < self.scenario.readers[r].times => steps.push(Step::Ask(r)),
                ReaderNow::Waits(ticket) => {
                    steps.push(Step::GiveUp(r));
                    if self.processes[self.scenario.readers[r].at].questions.turn(*ticket) != Turn::Waits {
                        steps.push(Step::Wake(r));
                    }
                }
                ReaderNow::Asked => {
                    steps.push(Step::Look(r));
                    let leaders = (0..self.readers.len()).filter(|leader| self.leads(*leader, r));
                    steps.extend(leaders.map(|leader| Step::Join(r, leader)));
                }
                ReaderNow::Sent(_) => steps.push(Step::Execute(r)),
                ReaderNow::Executed(..) => steps.push(Step::Reply(r)),
                ReaderNow::Idle | ReaderNow::Joined(_) => {}
            }
        }
        for (p, process) in self.processes.iter().enumerate().filter(|(_, process)| process.has_slot) {
            match self.hears(p) {
                true if process.next < self.log.len() => steps.push(Step::Hear(p)),
                true if process.current_to < self.ticks => steps.push(Step::KeepAlive(p)),
                true => {}
                false => steps.push(Step::MakeSlot(p)),
            }
            let waits = |(state, ..): &(ReaderNow, u8, Values, Option<End>)| matches!(state, ReaderNow::Waits(ticket) if process.questions.is_to_be_sent(*ticket));
            match process.asking {
                Some(_) => steps.push(Step::Told(p)),
                None if self.readers.iter().any(waits) => steps.push(Step::Question(p)),
                None => {}
            }
            if self.hears(p) && process.drops_left > 0 {
                steps.push(Step::LoseSlot(p));
            }
        }
        if self.ticks < self.scenario.ticks {
            steps.push(Step::Tick);
        }
        steps
    }

    fn writer_steps(&self, w: usize, writer: &WriterNow, steps: &mut Vec<Step>) {
        let spec = &self.scenario.writers[w];
        let parts = |writer: &Writer| [writer.parts[0], writer.parts[1] || writer.triggers, writer.parts[2]];
        let conflicts = |other: &WriterNow, its: &Writer| {
            other.in_log && !other.shown && parts(its).iter().zip(parts(spec)).any(|(a, b)| *a && b)
        };
        let locked = self.writers.iter().zip(&self.scenario.writers).any(|(other, its)| conflicts(other, its));
        let commits = match writer.state {
            Written::Forwarded => !spec.prepares,
            Written::Lost | Written::Prepared => true,
            _ => false,
        };
        if commits && !writer.in_log && !writer.aborted && !locked {
            steps.push(Step::Commit(w));
        }
        if writer.in_log && !writer.shown {
            steps.push(Step::Show(w));
        }
        match writer.state {
            Written::Not => steps.push(Step::Forward(w)),
            Written::Forwarded if spec.prepares => steps.push(Step::Prepared(w)),
            Written::Forwarded => {
                if writer.shown {
                    steps.push(if spec.via.is_some() { Step::Answer(w) } else { Step::Tell(w) });
                }
                if spec.may_be_lost {
                    steps.push(Step::Lose(w));
                }
            }
            Written::Lost => {
                if !writer.in_log && !writer.aborted {
                    steps.push(Step::Abort(w));
                }
                if writer.shown || writer.aborted {
                    steps.push(Step::Resolve(w));
                }
            }
            Written::Prepared if writer.shown => steps.push(Step::Tell(w)),
            Written::Answered => steps.push(Step::Tell(w)),
            Written::Told if writer.held => steps.push(Step::Resolve(w)),
            _ => {}
        }
    }

    fn key(&self, r: usize) -> usize {
        let reader = &self.scenario.readers[r];
        // Who sees another part asks by another value.
        if self.scenario.apart {
            usize::from(reader.tables != [true, false])
        } else {
            usize::from(reader.freshness == Freshness::Strict)
        }
    }

    fn leads(&self, leader: usize, r: usize) -> bool {
        let (a, b) = (&self.scenario.readers[leader], &self.scenario.readers[r]);
        let reading = match &self.readers[leader].0 {
            ReaderNow::Sent(reading) | ReaderNow::Executed(reading, ..) => reading.as_ref(),
            _ => None,
        };
        let (now, end) = (self.now(), self.end(r));
        leader != r
            && (a.at, a.tables, a.freshness) == (b.at, b.tables, b.freshness)
            && reading.is_some_and(|reading| match (self.has(Guard::JoinsUnchanged), self.has(Guard::JoinsSeen)) {
                (true, true) => reading.may_be_joined(now, end),
                (true, false) => reading.may_be_joined_unseen(now, end),
                (false, _) => true,
            })
    }

    /// The end of the log that a reader goes by.
    fn end(&self, r: usize) -> Option<End> {
        let slot = self.processes[self.scenario.readers[r].at].database.slot().number();
        match self.has(Guard::WaitsForTheEnd) {
            true if self.has(Guard::AsksThisSlot) => self.readers[r].3,
            true => self.readers[r].3.map(|end| End { slot, ..end }),
            false => Some(End { slot, at: Lsn(0) }),
        }
    }

    /// What the cache says to a reader; `None`: nothing is kept.
    fn look(&self, r: usize) -> Option<Result<Values, NotServed>> {
        let process = &self.processes[self.scenario.readers[r].at];
        let (values, dependencies) = process.entries[self.key(r)].as_ref()?;
        let now = if self.has(Guard::Lag) { self.now() } else { self.base };
        let end = self.end(r);
        let served = match self.has(Guard::ComparedAtHit) {
            true => dependencies.serve(now, end),
            false => dependencies.serve_unguarded(now, end),
        };
        Some(served.map(|_| *values))
    }

    /// Where nothing is under way and everything was heard of, nothing old may be left to be served.
    fn check_for_ever(&mut self) {
        let over = |writer: &WriterNow| matches!(writer.state, Written::Not | Written::Told | Written::Over);
        let shown = |writer: &WriterNow| writer.in_log == writer.shown && !writer.held;
        if !self.writers.iter().all(|writer| over(writer) && shown(writer)) {
            return;
        }
        for (p, process) in self.processes.iter().enumerate() {
            let hears = !process.has_slot || (process.database.slot().hears() && process.next == self.log.len());
            for (key, entry) in process.entries.iter().enumerate().filter(|_| hears) {
                let Some((values, dependencies)) = entry else { continue };
                let readers = 0..self.readers.len();
                let reads = readers.filter(|r| self.scenario.readers[*r].at == p && self.key(*r) == key);
                let old = reads.flat_map(|r| self.reads(r)).any(|part| values[part] < self.shown[part]);
                if old && dependencies.are_current() {
                    self.violation = Some(format!("{values:?} is served for ever, and it is {:?}", self.shown));
                }
            }
        }
    }
}

/// A write that is held keeps its database, which keeps the write: one of them has to let go.
impl Drop for World<'_> {
    fn drop(&mut self) {
        for process in &self.processes {
            for cause in process.database.unresolved() {
                process.database.is_resolved(&cause);
            }
        }
    }
}

fn cause(w: usize) -> Cause {
    Cause::Prepared(w.to_string().into())
}

fn max(a: Values, b: Values) -> Values {
    std::array::from_fn(|part| a[part].max(b[part]))
}
