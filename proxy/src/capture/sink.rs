//! A running capture, on the analyst's side.

use std::collections::HashMap;

use policy::observe::{self, Positions};
use rustc_hash::FxBuildHasher;

use super::file::Chunks;
use super::lines::{self, Known, Line, Writing};
use super::values::{Hasher, Values};
use super::{Counts, Numbered, Order, Phase, Reason};
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::{EventFlags, EventHeader, Scope};

/// Bytes kept free for the last line.
const LAST_LINE: u64 = 512;
/// Statements of which it is remembered that the file has described them.
const MAX_DESCRIBED: usize = 65_536;
/// The version of the file's form.
const FORM: u64 = 1;

/// A running capture. The analyst gives it every event, then [`Sink::look`] after each of its own looks at the rings, and
/// [`Sink::close`] at its end.
#[derive(Debug)]
pub(crate) struct Sink {
    capture: Numbered,
    file: Chunks,
    values: Values,
    writing: Writing,
    started_us: u64,
    ends_us: u64,
    max_bytes: u64,
    counts: Counts,
    /// Statements that the file has described, with their values behind LIMIT and OFFSET.
    described: HashMap<u32, Positions, FxBuildHasher>,
    full: bool,
    line: Vec<u8>,
}

impl Sink {
    /// Begins, at `now_us`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn begin(capture: Numbered, order: Order, compat: u16, now_us: u64) -> std::io::Result<Self> {
        let Order { request, file, .. } = order;
        let writing = match request.values {
            Values::Drop => Writing::Drop,
            Values::Hash => Writing::Hash(Hasher::new()),
            Values::Keep => Writing::Keep,
        };
        let mut sink = Self {
            file: Chunks::new(file, capture.clone())?,
            capture,
            values: request.values,
            writing,
            started_us: now_us,
            ends_us: now_us.saturating_add(request.seconds.saturating_mul(1_000_000)),
            max_bytes: request.max_bytes,
            counts: Counts::default(),
            described: HashMap::default(),
            full: false,
            line: Vec::new(),
        };
        let mut line = Line::new(&mut sink.line);
        line.number("capture", FORM).text("pgweir", env!("CARGO_PKG_VERSION")).text("started", &rfc3339_us(now_us));
        line.text("values", name(request.values)).number("compat", u64::from(compat)).end();
        sink.put();
        sink.capture.note(|status| {
            status.phase = Phase::Running;
            status.started_us = now_us;
        });
        Ok(sink)
    }

    /// What becomes of values.
    pub(crate) fn values(&self) -> Values {
        self.values
    }

    /// Writes a finished statement down. `texts`: its own, normalised, and its route.
    pub(crate) fn event(
        &mut self,
        header: &EventHeader,
        event: &observe::Event<'_>,
        scope: &Scope,
        texts: (&str, Option<&str>),
    ) {
        // What ended before was only partly handed on.
        if event.end_us < self.started_us {
            return;
        }
        let (facts, (sql, route)) = (&event.facts, texts);
        let new = if self.described.contains_key(&header.statement) {
            None
        } else {
            lines::statement(&mut self.line, facts, sql);
            let pages = facts.has_limit || facts.has_offset;
            Some(if pages { Positions::of(sql) } else { Positions::default() })
        };
        let positions = new.as_ref().or_else(|| self.described.get(&header.statement));
        let none = Positions::default();
        let positions = positions.unwrap_or(&none);
        lines::event(&mut self.line, header, event, Known { scope, sql, route, positions }, &self.writing);
        if self.put() {
            self.counts.events += 1;
            if let Some(positions) = new {
                if self.described.len() >= MAX_DESCRIBED {
                    // They are described again where they come again.
                    self.described.clear();
                }
                self.described.insert(header.statement, positions);
            }
        }
    }

    /// Writes down that a client has come, or gone.
    pub(crate) fn border(&mut self, header: &EventHeader, scope: Option<&Scope>) {
        let Some(scope) = scope else { return self.unknown() };
        if header.end_us < self.started_us {
            return;
        }
        lines::session(&mut self.line, header, scope);
        if self.put() {
            self.counts.sessions += 1;
        }
    }

    /// Counts an event whose text is not known.
    pub(crate) fn unknown(&mut self) {
        self.counts.unknown += 1;
    }

    /// Hands on what has come since the last look. `Some`: it is over, and why.
    pub(crate) fn look(&mut self, now_us: u64) -> Option<Reason> {
        self.file.hand_over();
        let counts = self.counts;
        self.capture.note(|status| status.counts = counts);
        if self.file.is_lost() {
            Some(Reason::File)
        } else if self.full {
            Some(Reason::Bytes)
        } else if self.capture.is_to_stop() {
            Some(Reason::Stopped)
        } else {
            (now_us >= self.ends_us).then_some(Reason::Seconds)
        }
    }

    /// Ends it. `dropped`: events that the rings have dropped since it began.
    pub(crate) fn close(mut self, reason: Reason, dropped: u64, now_us: u64) {
        self.counts.dropped += dropped;
        let mut counts = self.counts;
        let complete = counts.dropped == 0 && counts.unknown == 0 && reason != Reason::File;
        self.line.clear();
        let mut line = Line::new(&mut self.line);
        line.text("end", why(reason)).text("ended", &rfc3339_us(now_us)).flag("complete", complete);
        line.number("events", counts.events).number("sessions", counts.sessions);
        line.number("dropped", counts.dropped).number("unknown", counts.unknown).end();
        counts.bytes += self.line.len() as u64;
        self.capture.note(|status| {
            status.counts = counts;
            status.reason = Some(reason);
            // The file's own thread may have ended before.
            if status.phase != Phase::Ended {
                status.phase = Phase::Closing;
            }
        });
        tracing::info!(target: "capture", events = counts.events, dropped = counts.dropped, reason = why(reason), "capture ended");
        self.file.close(&self.line);
    }

    /// Puts the line into the file, if it may grow so far. Values do not stay behind in the buffer.
    fn put(&mut self) -> bool {
        let length = self.line.len() as u64;
        let fits = !self.full && self.counts.bytes + length + LAST_LINE <= self.max_bytes;
        let written = fits && self.file.push(&self.line);
        if !fits {
            // What is left of this look is not in the file either.
            self.full = true;
            self.counts.dropped += 1;
        } else if written {
            self.counts.bytes += length;
        } else {
            self.counts.dropped += 1;
        }
        self.line.fill(0);
        self.line.clear();
        written
    }
}

/// Whether this is a border and no statement.
pub(crate) fn is_border(header: &EventHeader) -> bool {
    header.flags.contains(EventFlags::SESSION_BEGIN) || header.flags.contains(EventFlags::SESSION_END)
}

fn name(values: Values) -> &'static str {
    match values {
        Values::Drop => "drop",
        Values::Hash => "hash",
        Values::Keep => "keep",
    }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Seconds => "seconds",
        Reason::Bytes => "bytes",
        Reason::Stopped => "stopped",
        Reason::NotAllowed => "not_allowed",
        Reason::Shutdown => "shutdown",
        Reason::File => "file",
    }
}
