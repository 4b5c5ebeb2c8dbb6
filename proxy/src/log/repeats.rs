//! A bound on lines that repeat: whoever can have one line written can have a million written.
//!
//! Lines of one place in the code have the same message and target. Of each place so many are written in an interval; the
//! rest is counted, and when the interval is over one line says how many there were. Lines that have a bound of their own,
//! or must all be there, are exempt.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use super::level::AUDIT;

/// Lines of one place that are written in an interval.
pub(super) const AT_ONCE: u32 = 50;
/// The interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// The target of the lines that tell of others.
pub(super) const REPEATED: &str = "pgweir::log";

/// Targets without this bound: slow statements and findings have their own, and the audit log is whole.
const EXEMPT: &[&str] = &[super::SLOW, "finding", AUDIT, REPEATED];

/// One place in the code.
#[derive(Debug)]
struct Site {
    since: Instant,
    written: u32,
    held: u64,
    level: Level,
    target: &'static str,
    message: String,
}

/// What was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// How many lines.
    pub(super) times: u64,
    /// Whether they were worse than information.
    pub(super) bad: bool,
    /// Their target.
    pub(super) target: &'static str,
    /// Their message.
    pub(super) message: String,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Write,
    /// It is counted; the flag says that nothing was held back before, so that nobody watches the clock yet.
    Hold(bool),
}

/// All places that have logged.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// As many as there are places in the code.
    sites: Mutex<HashMap<Identifier, Site>>,
    holds: AtomicBool,
}

impl Repeats {
    fn sites(&self) -> MutexGuard<'_, HashMap<Identifier, Site>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of this event.
    pub(super) fn judge(&self, event: &Event<'_>, now: Instant) -> Verdict {
        let metadata = event.metadata();
        // Who asks for details wants all of them.
        if *metadata.level() > Level::INFO || EXEMPT.contains(&metadata.target()) {
            return Verdict::Write;
        }
        self.count(metadata, now, || message_of(event))
    }

    fn count(&self, metadata: &'static Metadata<'static>, now: Instant, message: impl FnOnce() -> String) -> Verdict {
        let mut sites = self.sites();
        let site = sites.entry(metadata.callsite()).or_insert_with(|| Site {
            since: now,
            written: 0,
            held: 0,
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
        });
        // What is held back is told before anything else is written.
        if site.held == 0 && now.saturating_duration_since(site.since) >= INTERVAL {
            (site.since, site.written) = (now, 0);
        }
        if site.written < AT_ONCE {
            site.written += 1;
            return Verdict::Write;
        }
        if site.held == 0 {
            site.message = message();
        }
        site.held += 1;
        Verdict::Hold(!self.holds.swap(true, Ordering::Relaxed))
    }

    /// Whether anything is held back. Cheap.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// What was held back and is to be told now; `all`: whatever the time.
    pub(super) fn due(&self, now: Instant, all: bool) -> Vec<Told> {
        let mut sites = self.sites();
        let (mut told, mut left) = (Vec::new(), false);
        for site in sites.values_mut().filter(|site| site.held > 0) {
            if !all && now.saturating_duration_since(site.since) < INTERVAL {
                left = true;
                continue;
            }
            let message = std::mem::take(&mut site.message);
            let bad = site.level <= Level::WARN;
            told.push(Told { times: std::mem::take(&mut site.held), bad, target: site.target, message });
            (site.since, site.written) = (now, 0);
        }
        self.holds.store(left, Ordering::Relaxed);
        told
    }
}

impl Told {
    /// Writes the line.
    pub(super) fn log(&self) {
        let Self { times, bad, target, message } = self;
        let within = INTERVAL.as_secs();
        match bad {
            true => {
                tracing::warn!(target: "pgweir::log", times, of = target, "repeated {times} times within {within} s: {message}")
            }
            false => {
                tracing::info!(target: "pgweir::log", times, of = target, "repeated {times} times within {within} s: {message}")
            }
        }
    }
}

/// What a line says, without its fields.
fn message_of(event: &Event<'_>) -> String {
    #[derive(Default)]
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}").chars().take(200).collect();
            }
        }
    }
    let mut message = Message::default();
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    /// Judges every event at a time that the test sets.
    #[derive(Clone)]
    struct Judge(Arc<(Repeats, Mutex<Instant>, Mutex<Vec<bool>>)>);

    impl<S: tracing::Subscriber> Layer<S> for Judge {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (repeats, now, written) = &*self.0;
            let verdict = repeats.judge(event, *now.lock().unwrap());
            written.lock().unwrap().push(verdict == Verdict::Write);
        }
    }

    fn flood(lines: u32) {
        for line in 0..lines {
            tracing::info!(target: "pgweir::login", line, "login refused");
        }
    }

    #[test]
    fn what_repeats_is_counted_and_told_and_the_rest_is_written() {
        let start = Instant::now();
        let judge = Judge(Arc::new((Repeats::default(), Mutex::new(start), Mutex::default())));
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(judge.clone()));
        let (repeats, now, written) = &*judge.0;
        let taken =
            || std::mem::take(&mut *written.lock().unwrap()).into_iter().filter(|written| *written).count() as u32;
        flood(AT_ONCE + 1_000);
        tracing::warn!(target: "pgweir::login", "another message");
        assert_eq!(taken(), AT_ONCE + 1, "another place has its own count");
        assert!(repeats.holds() && repeats.due(start, false).is_empty(), "the interval is not over");
        *now.lock().unwrap() = start + INTERVAL;
        flood(1);
        assert_eq!(taken(), 0, "first is told what was held back");
        let told = repeats.due(start + INTERVAL, false);
        let expected = Told { times: 1_001, bad: false, target: "pgweir::login", message: "login refused".to_owned() };
        assert_eq!((told, repeats.holds()), (vec![expected], false));
        flood(3);
        assert_eq!(taken(), 3);
        // A trickle is never held back.
        for second in 0..100 {
            *now.lock().unwrap() = start + Duration::from_secs(second) + INTERVAL * 2;
            flood(4);
        }
        assert_eq!(taken(), 400);
        for _ in 0..AT_ONCE * 2 {
            tracing::info!(target: AUDIT, "view");
            tracing::info!(target: "finding", "finding");
            tracing::debug!("details");
        }
        assert_eq!(taken(), AT_ONCE * 6, "these are exempt");
        flood(AT_ONCE * 2);
        assert_eq!(repeats.due(*now.lock().unwrap(), true).len(), 1, "at the end all is told");
    }
}
