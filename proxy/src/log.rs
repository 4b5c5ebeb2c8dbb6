//! The process's own log.

mod escaped;
mod events;
mod journal;
pub mod level;
pub mod reference;
mod repeats;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Format;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::run::RunError;
use escaped::Escaped;
use journal::Prioritised;
use level::Level;
use repeats::{Repeats, Verdict};
use writer::{Destination, Queue};

/// The target of the slow statement log.
const SLOW: &str = "slow";
/// How long the end of the process waits for the log's last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log; what it writes, how and where to can be changed while the process runs.
#[derive(Debug)]
pub struct Log {
    /// How much is logged.
    pub level: Arc<Level>,
    style: Arc<Style>,
    queue: Queue,
    /// Lines that could not be written.
    pub lost: Arc<AtomicU64>,
}

/// How lines look.
#[derive(Debug, Default)]
struct Style {
    json: AtomicBool,
    /// The log goes to a terminal.
    colours: AtomicBool,
    /// The log goes to the journal of systemd.
    journal: AtomicBool,
}

impl Style {
    fn set(&self, log: &config::Log) {
        let terminal = log.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
        self.json.store(log.json, Ordering::Relaxed);
        self.colours.store(terminal, Ordering::Relaxed);
        self.journal.store(log.file.is_none() && !terminal && journal::is_journal(), Ordering::Relaxed);
    }

    fn is_json(&self) -> bool {
        self.json.load(Ordering::Relaxed)
    }

    fn has_colours(&self) -> bool {
        self.colours.load(Ordering::Relaxed)
    }

    fn is_journal(&self) -> bool {
        self.journal.load(Ordering::Relaxed)
    }
}

/// Which lines one way of writing them has: each line is written in one.
struct Lines<F> {
    wanted: F,
    repeats: Arc<Repeats>,
    queue: Queue,
}

impl<S: Subscriber, F: Fn(&Metadata<'_>) -> bool> Filter<S> for Lines<F> {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        (self.wanted)(metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        match self.repeats.judge(event, Instant::now()) {
            Verdict::Write => true,
            Verdict::Hold(first) => {
                if first {
                    self.queue.wake();
                }
                false
            }
        }
    }
}

/// A place for lines that is open already: taking it into use cannot fail any more.
#[derive(Debug)]
pub struct Opened(Destination);

/// Lines that people read: on a terminal, in a file, or in the journal.
fn for_people<S, W>(style: &Arc<Style>, colours: bool, journal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(colours).fmt_fields(Escaped).with_writer(writer);
    if !journal {
        return layer.boxed();
    }
    // The journal has a clock of its own.
    let format = Prioritised { format: Format::default().without_time(), style: style.clone() };
    layer.event_format(format).boxed()
}

impl Log {
    /// Begins to log as the settings say.
    ///
    /// # Errors
    /// [`RunError::Log`]: the file cannot be opened.
    pub fn init(log: &config::Log) -> Result<Self, RunError> {
        let lost = Arc::<AtomicU64>::default();
        let repeats = Arc::<Repeats>::default();
        let queue = Queue::start(Destination::open(log.file.as_deref())?, lost.clone(), repeats.clone())?;
        let style = Arc::<Style>::default();
        style.set(log);
        let (level, layer) = Level::new(log.level);
        let writer = || {
            let queue = queue.clone();
            move || queue.clone()
        };
        let lines = |wanted| Lines { wanted, repeats: repeats.clone(), queue: queue.clone() };
        type Wanted = Box<dyn Fn(&Metadata<'_>) -> bool + Send + Sync>;
        // Slow statements are lines for machines whatever the rest is.
        let now = style.clone();
        let machines: Wanted = Box::new(move |event| now.is_json() || event.target() == SLOW);
        let format = Prioritised { format: Format::default().json().flatten_event(true), style: style.clone() };
        let machines =
            fmt::layer().json().event_format(format).with_writer(writer()).with_filter(lines(machines)).boxed();
        let people = |colours: bool, journal: bool| -> Wanted {
            let now = style.clone();
            Box::new(move |event| {
                let is_slow = event.target() == SLOW;
                !is_slow && !now.is_json() && (now.has_colours(), now.is_journal()) == (colours, journal)
            })
        };
        let read = |colours: bool, journal: bool| {
            for_people(&style, colours, journal, writer()).with_filter(lines(people(colours, journal))).boxed()
        };
        let registry = tracing_subscriber::registry().with(layer);
        // Fails only where somebody else in the process logs already: then their log is used.
        let _ = registry.with(vec![machines, read(true, false), read(false, false), read(false, true)]).try_init();
        // The hook that is there by default writes to standard error itself, and would wait for its reader.
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), "a bug: {panic}");
        }));
        Ok(Self { level: Arc::new(level), style, queue, lost })
    }

    /// Opens the place that the settings name, also if it is the one in use: its file may have been moved away.
    ///
    /// # Errors
    /// [`RunError::Log`]: the file cannot be opened.
    pub fn open(&self, log: &config::Log) -> Result<Opened, RunError> {
        Destination::open(log.file.as_deref()).map(Opened)
    }

    /// Goes on as the settings say, at a place opened for them.
    pub fn change(&self, log: &config::Log, opened: Opened) {
        self.style.set(log);
        self.queue.turn_to(opened.0);
        self.level.configure(log.level);
    }

    /// Waits a moment for what is not written yet.
    pub fn flush(&self) {
        self.queue.flush(LAST_LINES);
    }
}
