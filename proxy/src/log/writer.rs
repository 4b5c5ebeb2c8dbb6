//! Lines on their way to a file or to standard error.
//!
//! Whoever logs must never wait for who reads the log: a full pipe would otherwise stop a worker, and with it every
//! client on it. So lines go into a bounded queue and one thread of its own writes them. A line that finds no room, or
//! that cannot be written (a full disk), is lost, and counted; the log says how many as soon as it can.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::repeats::{Repeats, Told};
use crate::run::RunError;

/// Lines and bytes that may wait to be written.
const MAX_LINES: usize = 8192;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How often the log may say that lines were lost.
const CONFESS_EVERY: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug)]
pub(super) enum Destination {
    /// Standard error.
    Standard,
    /// A file, at its end.
    File(File),
}

impl Destination {
    /// Opens a file, or takes standard error.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, RunError> {
        let Some(path) = file else { return Ok(Self::Standard) };
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.map(Self::File).map_err(|cause| RunError::Log { file: PathBuf::from(path), cause })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => io::stderr().lock().write_all(line),
            Self::File(file) => file.write_all(line),
        }
    }
}

enum Entry {
    Line(Vec<u8>),
    Turn(Destination),
    Flush(SyncSender<()>),
    /// Something is held back: the clock has to be watched.
    Wake,
}

/// The near end of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    entries: SyncSender<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes. `lost` counts lines that were not.
    pub(super) fn start(destination: Destination, lost: Arc<AtomicU64>, repeats: Arc<Repeats>) -> io::Result<Self> {
        let (entries, queue) = mpsc::sync_channel(MAX_LINES);
        let waiting = Arc::<AtomicUsize>::default();
        let writer = Writer {
            queue,
            destination,
            waiting: waiting.clone(),
            lost: lost.clone(),
            confessed: 0,
            at: None,
            repeats,
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(|| writer.run())?;
        Ok(Self { entries, waiting, lost })
    }

    /// Further lines go there.
    pub(super) fn turn_to(&self, destination: Destination) {
        // With the queue full, the old place cannot be written to: its thread will not see the new one either.
        if self.entries.try_send(Entry::Turn(destination)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the thread watch the clock. With the queue full it does so by what is in it.
    pub(super) fn wake(&self) {
        drop(self.entries.try_send(Entry::Wake));
    }

    /// Waits until what is in the queue has been written, but not for longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            // In time or not: who asks goes on.
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Takes one formatted line at a time.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let waiting = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if waiting + line.len() > MAX_BYTES || self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The far end.
struct Writer {
    queue: Receiver<Entry>,
    destination: Destination,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Lost lines that the log has told of, and when.
    confessed: u64,
    at: Option<Instant>,
    repeats: Arc<Repeats>,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Lines are lost where the queue is full, or by this thread: with nothing to confess, an empty one means silence,
            // and a thread that is woken for nothing costs more than what it would do.
            let quiet = self.lost.load(Ordering::Relaxed) <= self.confessed && !self.repeats.holds();
            let next = match quiet {
                true => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.queue.recv_timeout(CONFESS_EVERY),
            };
            match next {
                Ok(entry) => self.take(entry),
                Err(RecvTimeoutError::Timeout) => self.confess(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Line(line) => {
                self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                match self.destination.write(&line) {
                    Ok(()) => self.confess(),
                    Err(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Entry::Turn(destination) => self.destination = destination,
            Entry::Flush(done) => self.finish(done),
            Entry::Wake => {}
        }
    }

    /// Writes what is left to be said, and tells whoever waits for it.
    fn finish(&mut self, done: SyncSender<()>) {
        self.repeats.due(Instant::now(), true).iter().for_each(Told::log);
        for _ in 0..MAX_LINES {
            match self.queue.try_recv() {
                // Whoever waits for the same has what it waits for.
                Ok(Entry::Flush(other)) => {
                    let _ = other.try_send(());
                }
                Ok(entry) => self.take(entry),
                Err(_) => break,
            }
        }
        // In time or not: who has asked may have gone.
        let _ = done.try_send(());
    }

    /// Says how many lines were held back or lost, as further lines in the queue.
    fn confess(&mut self) {
        if self.repeats.holds() {
            self.repeats.due(Instant::now(), false).iter().for_each(Told::log);
        }
        let lost = self.lost.load(Ordering::Relaxed);
        if lost <= self.confessed || self.at.is_some_and(|at| at.elapsed() < CONFESS_EVERY) {
            return;
        }
        tracing::warn!(lines = lost - self.confessed, "lines of this log were lost: it could not be written");
        // That one may be lost too, which is no news.
        self.confessed = self.lost.load(Ordering::Relaxed).max(lost);
        self.at = Some(Instant::now());
    }
}
