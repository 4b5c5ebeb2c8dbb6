//! How much is logged: what the configuration says, or for a while what an operator has asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::LogLevel;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::reload::{Handle, Layer};
use tracing_subscriber::{EnvFilter, Registry};

/// The target of the audit log. It is there at every level: `admin.audit` is what switches it.
pub(crate) const AUDIT: &str = "pgweir::audit";
/// Longest filter, in bytes.
pub(crate) const MAX_FILTER: usize = 1024;

/// What is logged now, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The filter in force.
    pub filter: String,
    /// What the configuration says.
    pub configured: &'static str,
    /// When it is the configuration's again; `None`: it is.
    pub until: Option<SystemTime>,
    /// The most that this build can log.
    pub most: &'static str,
}

#[derive(Debug)]
struct Temporary {
    filter: String,
    until: Instant,
    until_wall: SystemTime,
}

#[derive(Debug)]
struct State {
    configured: LogLevel,
    temporary: Option<Temporary>,
}

/// The level of the log, which can be changed while the process runs.
#[derive(Debug)]
pub struct Level {
    handle: Handle<EnvFilter, Registry>,
    state: Mutex<State>,
}

impl Level {
    /// As configured, with the layer that puts it in force.
    pub(super) fn new(configured: LogLevel) -> (Self, Layer<EnvFilter, Registry>) {
        let (layer, handle) = Layer::new(of_level(configured));
        (Self { handle, state: Mutex::new(State { configured, temporary: None }) }, layer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the configuration says now. What an operator has asked for ends.
    pub(crate) fn configure(&self, configured: LogLevel) {
        let mut state = self.state();
        *state = State { configured, temporary: None };
        self.put_in_force(of_level(configured));
    }

    /// Logs by this filter for a while: `debug`, `info,pgweir::login=debug` and so on, as tracing's `EnvFilter` has it.
    ///
    /// # Errors
    /// It is no filter.
    pub fn set(&self, filter: &str, time: Duration, now: Instant, wall: SystemTime) -> Result<(), String> {
        let parsed = parse(filter)?;
        let mut state = self.state();
        state.temporary = Some(Temporary { filter: filter.to_owned(), until: now + time, until_wall: wall + time });
        self.put_in_force(parsed);
        Ok(())
    }

    /// Goes back to what the configuration says, if the time is over. Whether it did.
    pub fn expire(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_over = state.temporary.as_ref().is_some_and(|temporary| temporary.until <= now);
        if is_over {
            state.temporary = None;
            self.put_in_force(of_level(state.configured));
        }
        is_over
    }

    /// Goes back to what the configuration says now.
    pub fn restore(&self) {
        let configured = self.state().configured;
        self.configure(configured);
    }

    /// What is logged.
    pub fn shown(&self) -> Shown {
        let state = self.state();
        let configured = word(state.configured);
        let temporary = state.temporary.as_ref();
        Shown {
            filter: temporary.map_or_else(|| configured.to_owned(), |temporary| temporary.filter.clone()),
            configured,
            until: temporary.map(|temporary| temporary.until_wall),
            most: most(STATIC_MAX_LEVEL),
        }
    }

    fn put_in_force(&self, filter: EnvFilter) {
        if let Err(error) = self.handle.reload(filter) {
            tracing::warn!(%error, "the level of the log could not be changed");
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

fn most(level: LevelFilter) -> &'static str {
    match level.into_level() {
        Some(tracing::Level::ERROR) => "error",
        Some(tracing::Level::WARN) => "warn",
        Some(tracing::Level::INFO) => "info",
        Some(tracing::Level::DEBUG) => "debug",
        Some(tracing::Level::TRACE) => "trace",
        None => "off",
    }
}

fn of_level(level: LogLevel) -> EnvFilter {
    // Words of ours: they are directives.
    parse(word(level)).unwrap_or_default()
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    if filter.trim().is_empty() || filter.len() > MAX_FILTER {
        return Err(format!("it has to be 1 to {MAX_FILTER} bytes long"));
    }
    // No regular expressions in values of fields: nothing here needs them, and each line would pay for them.
    let whole = if filter.contains(AUDIT) { filter.to_owned() } else { format!("{filter},{AUDIT}=info") };
    EnvFilter::builder().with_regex(false).parse(whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Which of four lines are logged.
    fn logged() -> [bool; 4] {
        [
            tracing::enabled!(target: "pgweir::login", tracing::Level::DEBUG),
            tracing::enabled!(target: "pgweir::login", tracing::Level::INFO),
            tracing::enabled!(target: "pgweir::pool", tracing::Level::ERROR),
            tracing::enabled!(target: AUDIT, tracing::Level::INFO),
        ]
    }

    #[test]
    fn a_level_that_was_asked_for_ends_by_itself_or_by_a_reload() {
        let (level, layer) = Level::new(LogLevel::Warn);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let (now, wall, minute) = (Instant::now(), SystemTime::now(), Duration::from_secs(60));
        assert_eq!(logged(), [false, false, true, true], "the audit log does not hang on the level");
        level.set("error,pgweir::login=debug", minute, now, wall).unwrap();
        assert_eq!(logged(), [true, true, true, true]);
        let shown = level.shown();
        assert_eq!(
            (&*shown.filter, shown.configured, shown.until),
            ("error,pgweir::login=debug", "warn", Some(wall + minute))
        );
        assert!(!level.expire(now + minute / 2));
        assert!(level.expire(now + minute) && !level.expire(now + minute));
        assert_eq!((logged(), level.shown().until), ([false, false, true, true], None));
        level.set("debug", minute, now, wall).unwrap();
        level.configure(LogLevel::Info);
        assert_eq!((logged(), &*level.shown().filter), ([false, true, true, true], "info"));
        level.set("off,pgweir::audit=off", minute, now, wall).unwrap();
        assert_eq!(logged(), [false; 4], "whoever names it has it so");
        level.restore();
        assert_eq!(logged(), [false, true, true, true]);
    }

    #[test]
    fn what_is_no_filter_changes_nothing() {
        let (level, _layer) = Level::new(LogLevel::Info);
        let long = "a=info,".repeat(200);
        for wrong in ["", " ", "pgweir=loud", "info,=,=", &long] {
            let refused = level.set(wrong, Duration::from_secs(1), Instant::now(), SystemTime::now());
            assert!(refused.is_err(), "{wrong}");
            assert_eq!(level.shown().until, None);
        }
    }
}
