//! Lines for the journal of systemd, which has a clock and levels of its own.
//!
//! When standard error is the journal (`JOURNAL_STREAM`), a line begins with its priority as sd-daemon(3) has it, `<4>` for a
//! warning; the journal takes it off. So do the further lines of a message that has several: each is an entry there.

use std::fmt;
use std::sync::Arc;

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Style;

/// Whether standard error is the journal, by what the service manager says of it.
pub(super) fn is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(std::io::stderr()).is_ok_and(|own| is_stream(&said, own.st_dev, own.st_ino))
}

/// Whether `said` names this device and inode.
fn is_stream(said: &str, device: u64, inode: u64) -> bool {
    let named = said.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named == Some((device, inode))
}

/// The priority of a level, as syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// A format, with priorities where the log goes to the journal.
pub(super) struct Prioritised<F> {
    pub(super) format: F,
    pub(super) style: Arc<Style>,
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if !self.style.is_journal() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let priority = priority(*event.metadata().level());
        for part in line.lines() {
            writeln!(writer, "<{priority}>{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tracing_subscriber::fmt::format::Format;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::testing::Lines;

    /// What is written of a few lines.
    fn written(journal: bool) -> String {
        let style = Arc::<Style>::default();
        style.journal.store(journal, Ordering::Relaxed);
        let lines = Lines::default();
        let writer = lines.clone();
        let format = Prioritised { format: Format::default().without_time(), style };
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(format);
        let layer = layer.with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(target: "a", "broken");
            tracing::warn!(target: "a", number = 7, "odd");
            tracing::info!(target: "a", "first\nsecond");
        });
        String::from_utf8(lines.written()).unwrap()
    }

    #[test]
    fn each_line_has_its_priority_in_the_journal_alone() {
        let shown: Vec<String> = written(true).lines().map(|line| line.replace("  ", " ")).collect();
        assert_eq!(shown, ["<3>ERROR a: broken", "<4> WARN a: odd number=7", "<6> INFO a: first", "<6>second"]);
        assert!(!written(false).contains('<'));
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_stream("8:25", 8, 25));
        for other in ["", "8", "8:26", "9:25", "8:25:1", "x:y", ":", "-8:25"] {
            assert!(!is_stream(other, 8, 25), "{other}");
        }
    }
}
