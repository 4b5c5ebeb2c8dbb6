//! The process's own log.

#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use config::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::run::RunError;
use writer::{Destination, Queue};

/// The target of the slow statement log.
const SLOW: &str = "slow";
/// How long the end of the process waits for the log's last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log; what it writes, how and where to can be changed while the process runs.
#[derive(Debug)]
pub struct Log {
    level: Handle<LevelFilter, Registry>,
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
}

impl Style {
    fn set(&self, log: &config::Log) {
        let terminal = log.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
        self.json.store(log.json, Ordering::Relaxed);
        self.colours.store(terminal, Ordering::Relaxed);
    }

    fn is_json(&self) -> bool {
        self.json.load(Ordering::Relaxed)
    }

    fn has_colours(&self) -> bool {
        self.colours.load(Ordering::Relaxed)
    }
}

/// A place for lines that is open already: taking it into use cannot fail any more.
#[derive(Debug)]
pub struct Opened(Destination);

impl Log {
    /// Begins to log as the settings say.
    ///
    /// # Errors
    /// [`RunError::Log`]: the file cannot be opened.
    pub fn init(log: &config::Log) -> Result<Self, RunError> {
        let lost = Arc::<AtomicU64>::default();
        let queue = Queue::start(Destination::open(log.file.as_deref())?, lost.clone())?;
        let style = Arc::<Style>::default();
        style.set(log);
        let (level, handle) = reload::Layer::new(filter(log.level));
        let writer = || {
            let queue = queue.clone();
            move || queue.clone()
        };
        // Slow statements are lines for machines whatever the rest is.
        let now = style.clone();
        let machines = fmt::layer().json().flatten_event(true).with_writer(writer());
        let machines = machines.with_filter(dynamic_filter_fn(move |event, _| now.is_json() || event.target() == SLOW));
        let people = |colours: bool| {
            let now = style.clone();
            let wanted = move |is_slow: bool| !is_slow && !now.is_json() && now.has_colours() == colours;
            fmt::layer()
                .with_ansi(colours)
                .with_writer(writer())
                .with_filter(dynamic_filter_fn(move |event, _| wanted(event.target() == SLOW)))
                .boxed()
        };
        let registry = tracing_subscriber::registry().with(level);
        // Fails only where somebody else in the process logs already: then their log is used.
        let _ = registry.with(vec![machines.boxed(), people(true), people(false)]).try_init();
        // The hook that is there by default writes to standard error itself, and would wait for its reader.
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), "a bug: {panic}");
        }));
        Ok(Self { level: handle, style, queue, lost })
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
        if let Err(error) = self.level.reload(filter(log.level)) {
            tracing::warn!(%error, "log.level could not be changed");
        }
    }

    /// Waits a moment for what is not written yet.
    pub fn flush(&self) {
        self.queue.flush(LAST_LINES);
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}
