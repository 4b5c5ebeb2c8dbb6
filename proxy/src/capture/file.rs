//! The thread that writes a file, so that a slow disk holds nobody up.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::{Numbered, Phase, Reason};

/// Chunks on their way to the file.
const CHUNKS: usize = 16;
/// A chunk is handed over from this size on, in bytes.
const CHUNK: usize = 64 << 10;
/// What may wait in front of those, in bytes; what does not fit is left out.
const WAITING: usize = 1 << 20;

/// The way into a file.
#[derive(Debug)]
pub(super) struct Chunks {
    to: SyncSender<Vec<u8>>,
    pending: Vec<u8>,
    last_line: std::sync::Arc<Mutex<Vec<u8>>>,
    lost: bool,
}

impl Chunks {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn new(file: File, capture: Numbered) -> std::io::Result<Self> {
        let (to, from) = sync_channel(CHUNKS);
        let last_line = std::sync::Arc::<Mutex<Vec<u8>>>::default();
        let last = std::sync::Arc::clone(&last_line);
        std::thread::Builder::new().name("capture".into()).spawn(move || {
            let written = write(file, &from, &last);
            // Whoever still sends learns that nobody listens.
            drop(from);
            capture.note(|status| {
                status.phase = Phase::Ended;
                if let Err(error) = &written {
                    status.reason = Some(Reason::File);
                    status.error = Some(error.to_string());
                }
            });
        })?;
        Ok(Self { to, pending: Vec::new(), last_line, lost: false })
    }

    /// Takes lines, whole ones. `false`: the file is too slow for them.
    pub(super) fn push(&mut self, lines: &[u8]) -> bool {
        if self.pending.len() + lines.len() > WAITING {
            self.hand_over();
        }
        let fits = self.pending.len() + lines.len() <= WAITING;
        if fits {
            self.pending.extend_from_slice(lines);
        }
        if self.pending.len() >= CHUNK {
            self.hand_over();
        }
        fits
    }

    /// Hands over what is pending, if there is room.
    pub(super) fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.to.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk)) => self.pending = chunk,
            Err(TrySendError::Disconnected(_)) => self.lost = true,
        }
    }

    /// Whether the file can no longer be written.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Ends the file: what is pending, then this line.
    pub(super) fn close(mut self, last_line: &[u8]) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        last.append(&mut self.pending);
        last.extend_from_slice(last_line);
    }
}

fn write(mut file: File, from: &Receiver<Vec<u8>>, last: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    for chunk in from {
        file.write_all(&chunk)?;
    }
    let last = std::mem::take(&mut *last.lock().unwrap_or_else(PoisonError::into_inner));
    file.write_all(&last)?;
    file.sync_all()
}
