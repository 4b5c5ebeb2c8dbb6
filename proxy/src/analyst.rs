//! The analyst: one thread that reads what the workers saw, and keeps what is worth telling.
//!
//! ```text
//!   worker 0 ─ ring ─┐   by time    ┌─► slow log
//!   worker 1 ─ ring ─┼─► one batch ─┤
//!   control  ─ ring ─┘              ├─► detector ─► findings ─► admin port
//!                                   └─► capture, while one runs
//! ```
//!
//! It sleeps between looks: 20 ms while there is traffic, up to 500 ms while there is none, and a burst that half fills
//! a ring wakes it. When it cannot keep up the rings drop and count: analysis is shed before traffic is.

mod batch;
mod capturing;
pub mod findings;
mod lines;
mod naming;
mod slower;
mod tables;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::{Profile, Settings};
use policy::finding::{Finding, State, Timestamp};
use policy::observe::{Detector, HashKey, Notices, Thresholds};
use policy::statement::Class;

pub use capturing::Allowed;
pub use findings::FindingsStore;
#[cfg(test)]
pub(crate) use findings::tests::finding;

use crate::capture::sink::{self, Sink};
use crate::capture::{Captures, Reason};
use crate::slow_log::SlowLog;
use crate::telemetry::{Event, EventFlags, EventReader, Telemetry, lock};
use batch::Batch;
use capturing::Capturing;
use lines::Lines;
use naming::Untold;
use slower::Slower;
use tables::Tables;

/// Between two looks while there is traffic.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks while there is none: waking up for nothing is most of what an idle proxy costs.
const IDLE_PAUSE: Duration = Duration::from_millis(500);
/// Events taken from one ring at a time, so that none starves.
const TURN: usize = 8_192;
/// How often findings are carried over to the store, and with them the moment up to which all is judged. With the pause
/// that ends a burst, a finding is told within a quarter of a second.
const REFRESH_US: u64 = 100_000;
/// All statements are read for it.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Findings about time whose counters are kept here.
const MAX_NOTICES: usize = 1_000;

/// What the analyst is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalystSettings {
    /// Look for N+1 and its kin, with these thresholds; `None`: do not.
    pub profile: Option<Profile>,
    /// Tell of identical statements over and over.
    pub duplicates: bool,
    /// Slow log lines per statement, tenant and minute; `None`: no slow log.
    pub slow_per_minute: Option<u32>,
    /// Look for statements that have become slower.
    pub regressions: bool,
    /// How often.
    pub regression_interval: Duration,
    /// The major version whose grouping fingerprints follow: a capture says it.
    pub compat: u16,
    /// What may be captured.
    pub allowed: Allowed,
}

impl From<&Settings> for AnalystSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            profile: settings.observe.n_plus_one.then_some(settings.observe.profile),
            duplicates: settings.observe.duplicates,
            slow_per_minute: Some(settings.slow_log.per_minute),
            regressions: settings.observe.regressions,
            regression_interval: settings.observe.regression_interval.max(LEAST_INTERVAL),
            compat: settings.observe.compat,
            allowed: Allowed::from(settings),
        }
    }
}

/// The running analyst. Dropping it leaves the thread running; [`Analyst::stop`] ends it.
#[derive(Debug)]
pub struct Analyst {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    new_settings: Mutex<Option<AnalystSettings>>,
}

impl Analyst {
    /// Starts the thread. `random` hides bind values in memory: draw it once per process. Findings go to `findings`, and
    /// what is asked of `captures` is done.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        telemetry: Arc<Telemetry>,
        findings: Arc<FindingsStore>,
        captures: Arc<Captures>,
        settings: AnalystSettings,
        random: u64,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut desk = Desk::new(telemetry, findings, Arc::clone(&captures), settings, HashKey::new(random));
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("analyst".into()).spawn(move || desk.work(&thread_shared))?;
        captures.works_on(thread.thread().clone());
        Ok(Self { shared, thread })
    }

    /// Takes other settings; with another profile, detection begins anew.
    pub fn reload(&self, settings: AnalystSettings) {
        *lock(&self.shared.new_settings) = Some(settings);
        self.thread.thread().unpark();
    }

    /// Reads what is left, judges it, and ends the thread. Waits for it.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the analyst's thread had panicked");
        }
    }
}

/// What the thread works with.
struct Desk {
    telemetry: Arc<Telemetry>,
    findings: Arc<FindingsStore>,
    settings: AnalystSettings,
    key: HashKey,
    readers: Vec<EventReader>,
    batch: Batch,
    analysis: Analysis,
    notices: Notices,
    slower: Slower,
    capturing: Capturing,
    lines: Lines,
    untold: Untold,
    /// What the detector has left out, as far as the store has been told.
    left_out: u64,
    refreshed_us: u64,
}

/// Where events go. Apart from the batch, so that one can be read while the other is written.
struct Analysis {
    tables: Tables,
    detector: Option<Detector>,
    slow_log: Option<SlowLog>,
    capture: Option<Sink>,
    rows: Vec<u8>,
}

impl Desk {
    fn new(
        telemetry: Arc<Telemetry>,
        findings: Arc<FindingsStore>,
        captures: Arc<Captures>,
        settings: AnalystSettings,
        key: HashKey,
    ) -> Self {
        let analysis = Analysis {
            tables: Tables::new(Arc::clone(&telemetry)),
            detector: detector(&settings, key),
            slow_log: settings.slow_per_minute.map(SlowLog::new),
            capture: None,
            rows: Vec::new(),
        };
        let (readers, batch, capturing) = (Vec::new(), Batch::default(), Capturing::new(captures));
        let (notices, slower) = (Notices::new(MAX_NOTICES), Slower::default());
        Self {
            telemetry,
            findings,
            settings,
            key,
            readers,
            batch,
            analysis,
            notices,
            slower,
            capturing,
            lines: Lines::default(),
            untold: Untold::default(),
            left_out: 0,
            refreshed_us: 0,
        }
    }

    /// The thread's life.
    fn work(&mut self, shared: &Shared) {
        let mut pause = BUSY_PAUSE;
        loop {
            // Read before the rings are: what came before the stop is still analysed.
            let stop = shared.stop.load(Ordering::Acquire);
            if let Some(settings) = lock(&shared.new_settings).take() {
                self.change(settings);
            }
            let now_us = self.telemetry.clock.micros(Instant::now());
            self.telemetry.look_at_history(now_us);
            self.begin_capture();
            match self.look(now_us) {
                Seen::More => continue,
                Seen::Some => pause = BUSY_PAUSE,
                Seen::Nothing => pause = (pause * 2).min(IDLE_PAUSE),
            }
            if stop {
                return self.finish();
            }
            std::thread::park_timeout(pause);
        }
    }

    fn change(&mut self, settings: AnalystSettings) {
        if (settings.profile, settings.duplicates) != (self.settings.profile, self.settings.duplicates) {
            self.analysis.detector = detector(&settings, self.key);
            self.left_out = 0;
            // Nothing is judged before the next report of the new one, if there is one.
            self.findings.settle(None);
        }
        match (settings.slow_per_minute, &mut self.analysis.slow_log) {
            (Some(per_minute), Some(log)) => log.set_per_minute(per_minute),
            (per_minute, log) => *log = per_minute.map(SlowLog::new),
        }
        self.settings = settings;
    }

    /// One look at every ring. `now_us` was read before: whatever ended by then is in a ring.
    fn look(&mut self, now_us: u64) -> Seen {
        self.meet_new_readers();
        let mut seen = Seen::Nothing;
        for reader in &mut self.readers {
            match reader.drain(TURN, |event| self.batch.push(event)) {
                0 => {}
                TURN => seen = Seen::More,
                _ => seen = seen.max(Seen::Some),
            }
        }
        for gone in self.readers.extract_if(.., |reader| reader.is_finished()) {
            self.capturing.forget(&gone);
        }
        self.batch.each_by_time(|event| self.analysis.take(event));
        self.look_after_capture(now_us);
        self.telemetry.tips.take().into_iter().for_each(|notice| self.notices.record(notice));
        if seen != Seen::More {
            if self.settings.regressions {
                let every_us = u64::try_from(self.settings.regression_interval.as_micros()).unwrap_or(u64::MAX);
                self.slower.look(&self.telemetry, now_us, every_us, &mut self.notices);
            }
            if let Some(detector) = &mut self.analysis.detector {
                detector.tick(now_us, &self.analysis.tables);
            }
            self.report(now_us, false);
        }
        seen
    }

    fn meet_new_readers(&mut self) {
        for reader in self.telemetry.new_readers() {
            reader.wakes(std::thread::current());
            reader.want_whole(self.analysis.capture.is_some());
            self.readers.push(reader);
        }
    }

    fn finish(&mut self) {
        self.end_capture(Reason::Shutdown, self.telemetry.clock.micros(Instant::now()));
        if let Some(detector) = &mut self.analysis.detector {
            detector.finish(&self.analysis.tables);
        }
        self.report(self.telemetry.clock.micros(Instant::now()), true);
    }

    /// Carries findings over to the store, and logs those that are new or worth telling again; not at every look, unless
    /// it is the last one. What somebody has muted is not logged.
    fn report(&mut self, now_us: u64, last: bool) {
        if !last && now_us.saturating_sub(self.refreshed_us) < REFRESH_US {
            return;
        }
        self.refreshed_us = now_us;
        let now = Timestamp(now_us);
        let names = &self.telemetry.column_names;
        if let Some(detector) = &mut self.analysis.detector {
            for finding in detector.changed() {
                self.findings.take(&naming::named(finding, names, now_us), now);
            }
        }
        naming::take_names(names, &self.findings);
        let noticed: Vec<Finding> = self.notices.drain(if last { u64::MAX } else { now_us }).collect();
        for finding in &noticed {
            self.findings.take(finding, now);
        }
        self.notices.findings().for_each(|finding| self.findings.refresh(finding, now));
        // Behind all that this look has found: whoever waits for the moment must find it.
        if let Some(detector) = &self.analysis.detector {
            let left_out = detector.counters().dropped;
            let told = std::mem::replace(&mut self.left_out, left_out);
            self.findings.leave_out(left_out.saturating_sub(told));
            self.findings.settle(Some(Timestamp(detector.settled_us())));
        }
        let repeated = self.analysis.detector.as_mut().map(Detector::drain).into_iter().flatten();
        for id in self.untold.due(repeated.chain(noticed), names, &self.findings, now_us, last) {
            if let Some(kept) = self.findings.find(&id).filter(|kept| kept.state != State::Muted)
                && let Some(held_back) = self.lines.admit(now_us)
            {
                lines::write(&kept, held_back);
            }
        }
    }
}

/// What a look has found, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// The rings were empty.
    Nothing,
    /// They are empty now.
    Some,
    /// One holds more.
    More,
}

impl Analysis {
    fn take(&mut self, event: &Event<'_>) {
        self.tables.learn(&event.header);
        if event.header.flags.contains(EventFlags::SLOW)
            && let Some(log) = &mut self.slow_log
            && let Some(statement) = self.tables.statement(event.header.statement)
        {
            let scope = self.tables.known_scope(event.header.scope);
            let plans = &self.tables.telemetry().plans;
            let plan = || scope.and_then(|scope| plans.last_hash(statement.facts.strict, &scope.tenant));
            let header = &event.header;
            let samples = &self.tables.telemetry().samples;
            let sent = || samples.find(statement.facts.strict, header.tenant, header.connection, header.end_us);
            log.take(header, (statement, scope, self.tables.known_route(header.route)), plan, sent);
        }
        if sink::is_border(&event.header) {
            if let Some(capture) = &mut self.capture {
                capture.border(&event.header, self.tables.known_scope(event.header.scope));
            }
            return;
        }
        if let (Some(statement), Some(scope)) =
            (self.tables.statement(event.header.statement), self.tables.known_scope(event.header.scope))
        {
            if statement.class == Class::Ddl {
                self.tables.telemetry().column_names.forget(&scope.database);
            }
            let (strict, tenant) = (statement.facts.strict, event.header.tenant);
            let callers = &self.tables.telemetry().callers;
            callers.note(strict, tenant, &scope.application, &scope.database, event.header.end_us);
        }
        let Self { tables, detector, capture, rows, .. } = self;
        if detector.is_none() && capture.is_none() {
            return;
        }
        let translated = translate::translate(event, tables, rows, |seen| {
            if let Some(detector) = detector {
                detector.observe(seen);
            }
            if let Some(capture) = capture {
                tables.put_down(&event.header, seen, capture);
            }
        });
        if let Some(capture) = &mut self.capture
            && !translated
        {
            capture.unknown();
        }
    }
}

fn detector(settings: &AnalystSettings, key: HashKey) -> Option<Detector> {
    let thresholds = |profile| Thresholds { duplicates: settings.duplicates, ..Thresholds::from(profile) };
    settings.profile.map(|profile| Detector::new(thresholds(profile), key))
}
