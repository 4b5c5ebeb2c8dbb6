//! Captures: the stream of events, written to a file for a while.
//!
//! ```text
//!   admin port ── start, stop ──► Captures ◄── order, counts ── analyst ── Sink
//!                                                                           │ chunks, bounded
//!                                                    file ◄── a thread of its own
//! ```
//!
//! An operator asks for one on the admin port; the analyst, who sees every event anyway, writes it down. While it runs the
//! workers hand on every statement, whatever `observe.events_per_second` says. A disk that is slow costs lines, which are
//! counted, and holds nobody up. `docs/capture.md` describes the file.

mod file;
pub(crate) mod lines;
pub(crate) mod sink;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use serde::Serialize;

pub use values::Values;

/// Longest capture, in seconds.
pub const MAX_SECONDS: u64 = 3_600;
/// Largest capture, in bytes.
pub const MAX_BYTES: u64 = 4 << 30;
/// Smallest one: its first and its last line need room.
pub const MIN_BYTES: u64 = 4 << 10;
/// Longest name of a file, in bytes.
const MAX_NAME: usize = 128;
/// How long a request waits for the analyst, and for the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The folder, as it is configured.
    pub directory: PathBuf,
    /// The name of a new file in it: letters, digits, `.`, `_` and `-`.
    pub file: String,
    /// What becomes of values.
    pub values: Values,
    /// It ends after so many seconds.
    pub seconds: u64,
    /// It ends before the file is larger than this, in bytes.
    pub max_bytes: u64,
}

/// Why there is no capture.
#[derive(Debug)]
pub enum Refused {
    /// One is running: there is one at a time.
    Busy,
    /// The name is none of a file in the folder.
    Name,
    /// The file could not be made.
    File(std::io::Error),
    /// The analyst did not begin, or did not end, within two seconds.
    Slow,
    /// None is running that could be stopped.
    None,
}

/// Where a capture stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for.
    Starting,
    /// Events are written.
    Running,
    /// Its last lines are on their way to the file.
    Closing,
    /// The file is closed.
    Ended,
}

/// Why a capture has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its time is over.
    Seconds,
    /// Its size is reached.
    Bytes,
    /// An operator stopped it.
    Stopped,
    /// The settings do not allow it any more.
    NotAllowed,
    /// The proxy ends.
    Shutdown,
    /// The file could not be written.
    File,
}

/// What went into a file so far, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Bytes of the file.
    pub bytes: u64,
    /// Statements.
    pub events: u64,
    /// Clients that came or went.
    pub sessions: u64,
    /// Events that the rings dropped, or that the file was too slow for.
    pub dropped: u64,
    /// Events whose text is not known: beyond `observe.max_fingerprints`, or of a client beyond the bound.
    pub unknown: u64,
}

/// The latest capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its file.
    pub file: PathBuf,
    /// What becomes of values.
    pub values: Values,
    /// Where it stands.
    pub phase: Phase,
    /// When it began, in µs since 1970; 0: it has not.
    pub started_us: u64,
    /// Its bound in seconds.
    pub seconds: u64,
    /// Its bound in bytes.
    pub max_bytes: u64,
    /// What it holds.
    pub counts: Counts,
    /// Why it has ended.
    pub reason: Option<Reason>,
    /// What the system said when the file could not be written.
    pub error: Option<String>,
}

/// What the analyst is to begin.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: Request,
    pub(crate) file: File,
    /// Its number.
    number: u64,
}

/// One capture at a time: asked for here, carried out by the analyst. Shared by `Arc`; calls may wait for two seconds and
/// are made on threads that may.
#[derive(Debug, Default)]
pub struct Captures {
    desk: Mutex<Desk>,
    changed: Condvar,
    analyst: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct Desk {
    order: Option<Order>,
    stop: bool,
    /// Of the latest one.
    number: u64,
    status: Option<Status>,
}

impl Desk {
    fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Ended, |status| status.phase)
    }
}

impl Captures {
    /// Makes the file and begins; returns when events are being written.
    ///
    /// # Errors
    /// See [`Refused`]; nothing is left behind but for `Slow`, after which it may still begin.
    pub fn start(&self, request: Request) -> Result<Status, Refused> {
        let mut desk = self.desk();
        if desk.phase() != Phase::Ended {
            return Err(Refused::Busy);
        }
        let path = path_of(&request.directory, &request.file).ok_or(Refused::Name)?;
        // Made new and for ourselves: neither another's file nor a link can be written through.
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = made.map_err(Refused::File)?;
        desk.status = Some(Status {
            file: path,
            values: request.values,
            phase: Phase::Starting,
            started_us: 0,
            seconds: request.seconds,
            max_bytes: request.max_bytes,
            counts: Counts::default(),
            reason: None,
            error: None,
        });
        desk.stop = false;
        desk.number += 1;
        desk.order = Some(Order { request, file, number: desk.number });
        drop(desk);
        self.wake();
        self.wait_while(|phase| phase == Phase::Starting).ok_or(Refused::Slow)
    }

    /// Ends the running one; returns when its file is closed.
    ///
    /// # Errors
    /// None is running, or it did not end in time; it will.
    pub fn stop(&self) -> Result<Status, Refused> {
        let mut desk = self.desk();
        if desk.phase() == Phase::Ended {
            return Err(Refused::None);
        }
        desk.stop = true;
        drop(desk);
        self.wake();
        self.wait_while(|phase| phase != Phase::Ended).ok_or(Refused::Slow)
    }

    /// The latest one, running or not.
    pub fn status(&self) -> Option<Status> {
        self.desk().status.clone()
    }

    /// Whom to wake when there is something to do. The first call counts.
    pub(crate) fn works_on(&self, thread: Thread) {
        self.analyst.get_or_init(|| thread);
    }

    /// What is to be begun.
    pub(crate) fn take_order(&self) -> Option<Order> {
        self.desk().order.take()
    }

    /// Waits until the file is closed, for two seconds at most.
    pub(crate) fn wait_for_end(&self) {
        self.wait_while(|phase| phase != Phase::Ended);
    }

    fn wait_while(&self, unready: impl Fn(Phase) -> bool) -> Option<Status> {
        let desk = self.desk();
        let waited = self.changed.wait_timeout_while(desk, PATIENCE, |desk| unready(desk.phase()));
        let (desk, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { None } else { desk.status.clone() }
    }

    fn wake(&self) {
        if let Some(analyst) = self.analyst.get() {
            analyst.unpark();
        }
    }

    /// What a thread that panicked under the lock leaves behind is still whole here: every change is one assignment.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file in the folder, if the name is one: a request never says more than that about where something is written.
fn path_of(directory: &Path, name: &str) -> Option<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain);
    fits.then(|| directory.join(name))
}

/// One of the captures, for the analyst and the thread that writes its file. Whose file failed may have been followed by
/// another before both have noticed: what they say of theirs is none of that one's.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    captures: Arc<Captures>,
    number: u64,
}

impl Numbered {
    /// The one that was ordered.
    pub(crate) fn new(captures: Arc<Captures>, order: &Order) -> Self {
        Self { captures, number: order.number }
    }

    /// Whether it is to be ended.
    fn is_to_stop(&self) -> bool {
        let desk = self.captures.desk();
        desk.stop && desk.number == self.number
    }

    /// Notes where it stands.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Status)) {
        let mut desk = self.captures.desk();
        if desk.number == self.number
            && let Some(status) = &mut desk.status
        {
            change(status);
        }
        drop(desk);
        self.captures.changed.notify_all();
    }
}
