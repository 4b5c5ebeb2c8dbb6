//! The capture that runs, if one does: begun, looked after and ended between two looks at the rings.

use std::sync::Arc;
use std::time::Instant;

use super::Desk;
use crate::capture::sink::Sink;
use crate::capture::{Captures, Numbered, Phase, Reason, Values};
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
    pub(super) captures: Arc<Captures>,
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
    /// Begins what has been asked for.
    pub(super) fn begin_capture(&mut self) {
        let Some(order) = self.capturing.captures.take_order() else { return };
        // The file of the one before has failed, which nobody has looked at yet.
        self.end_capture(Reason::File, self.now_us());
        self.meet_new_readers();
        self.want_whole(true);
        // Read behind that, and one more for what ended within the same µs: a worker reads the time before it looks
        // whether it is to hand on everything, so that of what ends from here on nothing is left out.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let now_us = self.now_us() + 1;
        self.capturing.dropped_before = self.dropped();
        let capture = Numbered::new(Arc::clone(&self.capturing.captures), &order);
        match Sink::begin(capture.clone(), order, self.settings.compat, now_us) {
            Ok(sink) => self.analysis.capture = Some(sink),
            Err(error) => {
                self.want_whole(false);
                capture.note(|status| {
                    status.phase = Phase::Ended;
                    status.reason = Some(Reason::File);
                    status.error = Some(error.to_string());
                });
            }
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
        self.want_whole(false);
        if reason == Reason::Shutdown {
            self.capturing.captures.wait_for_end();
        }
    }

    /// Tells the workers whether they are to hand on everything.
    fn want_whole(&self, whole: bool) {
        self.readers.iter().for_each(|reader| reader.want_whole(whole));
    }

    fn now_us(&self) -> u64 {
        self.telemetry.clock.micros(Instant::now())
    }

    fn dropped(&self) -> u64 {
        self.readers.iter().map(EventReader::dropped).sum::<u64>() + self.capturing.dropped_by_gone
    }
}
