//! The process's own log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;

use config::{Log, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::run::RunError;

/// A log that cannot be written to (a full disk, a reader that has gone) is no reason to stop serving.
struct Quiet<W>(W);

impl<W: Write> Write for Quiet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Ok(n) if n > 0 || bytes.is_empty() => Ok(n),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        drop(self.0.flush());
        Ok(())
    }
}

/// The target of the slow statement log.
const SLOW: &str = "slow";

/// The level in force; can be changed while the process runs.
#[derive(Debug)]
pub struct Level(Handle<LevelFilter, Registry>);

impl Level {
    /// Changes it.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::warn!(%error, "log.level could not be changed");
        }
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

/// Begins to log as the settings say.
pub fn init(log: &Log) -> Result<Level, RunError> {
    let file = match &log.file {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some(Arc::new(file.map_err(|cause| RunError::Log { file: path.clone(), cause })?))
        }
    };
    let writer = || match file.clone() {
        None => BoxMakeWriter::new(|| Quiet(std::io::stderr())),
        Some(file) => BoxMakeWriter::new(move || Quiet(file.clone())),
    };
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    let ansi = log.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only where somebody else in the process logs already: then their log is used.
    // Slow statements are lines for machines whatever the rest is.
    let json = log.json;
    let machines = fmt::layer().json().flatten_event(true).with_writer(writer());
    let machines = machines.with_filter(filter_fn(move |event| json || event.target() == SLOW));
    let people = fmt::layer().with_ansi(ansi).with_writer(writer());
    let people = people.with_filter(filter_fn(move |event| !json && event.target() != SLOW));
    let _ = registry.with(machines).with(people).try_init();
    Ok(Level(handle))
}
