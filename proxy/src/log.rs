//! The process's own log.

use std::fs::OpenOptions;
use std::sync::Mutex;

use config::{Log, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::run::RunError;

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
    let writer = match &log.file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|cause| RunError::Log { file: path.clone(), cause })?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    let ansi = log.file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only where somebody else in the process logs already: then their log is used.
    let _ = match log.json {
        true => registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init(),
        false => registry.with(fmt::layer().with_ansi(ansi).with_writer(writer)).try_init(),
    };
    Ok(Level(handle))
}
