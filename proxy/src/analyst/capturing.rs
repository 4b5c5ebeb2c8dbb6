//! The capture that runs, if one does: begun, looked after and ended between two looks at the rings.

use std::sync::Arc;

use super::Desk;
use crate::capture::sink::Sink;
use crate::capture::{Captures, Phase, Reason, Values};
use crate::telemetry::EventReader;

/// What the settings allow of captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Any at all: statements are observed and a folder is set.
    pub captures: bool,
    /// Those that keep values.
    pub values: bool,
}

impl From<&config::Settings> for Allowed {
    fn from(settings: &config::Settings) -> Self {
        let captures = settings.observe.statements && settings.capture.directory.is_some();
        Self { captures, values: settings.capture.allow_values }
    }
}

/// What the analyst knows of captures besides the running one, which stands where the events go.
#[derive(Debug)]
pub(super) struct Capturing {
    captures: Arc<Captures>,
    /// Events that the rings had dropped when the running one began, and since then those of rings that are gone.
    dropped_before: u64,
    dropped_by_gone: u64,
}

impl Capturing {
    pub(super) fn new(captures: Arc<Captures>) -> Self {
        Self { captures, dropped_before: 0, dropped_by_gone: 0 }
    }

    /// A ring whose writer is gone will not be asked again.
    pub(super) fn forget(&mut self, reader: &EventReader) {
        self.dropped_by_gone += reader.dropped();
    }
}

impl Desk {
    /// Begins what has been asked for. `now_us`: events that end from here on are written.
    pub(super) fn begin_capture(&mut self, now_us: u64) {
        let Some(order) = self.capturing.captures.take_order() else { return };
        let captures = Arc::clone(&self.capturing.captures);
        self.capturing.dropped_before = self.dropped();
        match Sink::begin(captures, order, self.settings.compat, now_us) {
            Ok(sink) => {
                self.analysis.capture = Some(sink);
                self.want_whole();
            }
            Err(error) => self.capturing.captures.note(|status| {
                status.phase = Phase::Ended;
                status.reason = Some(Reason::File);
                status.error = Some(error.to_string());
            }),
        }
    }

    /// Looks after the running one, behind a look at the rings.
    pub(super) fn look_after_capture(&mut self, now_us: u64) {
        let Some(sink) = &mut self.analysis.capture else { return };
        let Allowed { captures, values } = self.settings.allowed;
        let allowed = captures && (values || sink.values() != Values::Keep);
        let reason = sink.look(now_us);
        if let Some(reason) = if allowed { reason } else { Some(Reason::NotAllowed) } {
            self.end_capture(reason, now_us);
        }
    }

    /// Ends it, if one runs, and gives its file time to be closed where the process ends.
    pub(super) fn end_capture(&mut self, reason: Reason, now_us: u64) {
        let dropped = self.dropped().saturating_sub(self.capturing.dropped_before);
        let Some(sink) = self.analysis.capture.take() else { return };
        sink.close(reason, dropped, now_us);
        self.want_whole();
        if reason == Reason::Shutdown {
            self.capturing.captures.wait_for_end();
        }
    }

    /// Tells the workers whether they are to hand on everything.
    pub(super) fn want_whole(&self) {
        for reader in &self.readers {
            reader.want_whole(self.analysis.capture.is_some());
        }
    }

    fn dropped(&self) -> u64 {
        self.readers.iter().map(EventReader::dropped).sum::<u64>() + self.capturing.dropped_by_gone
    }
}
