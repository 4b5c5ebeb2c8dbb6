//! What is handed on of a request that the cache has looked at.

use crate::session::brain::Look;
use crate::worker::Worker;

/// A text that was looked at for the cache: whoever sends it to the server does not look again.
#[derive(Debug)]
pub struct Looked<'a> {
    pub(super) look: Look<'a>,
    /// Its constants, as events carry them.
    pub(super) literals: Vec<u8>,
}

impl<'a> Looked<'a> {
    /// The look itself; its constants are appended to `samples`.
    pub fn taken(self, worker: &Worker, samples: &mut Vec<u8>) -> Look<'a> {
        samples.extend_from_slice(&self.literals);
        worker.rooms.literals.put(self.literals);
        self.look
    }
}

/// What the cache says to a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// So many bytes are dealt with: it is answered, or nothing of it is and its client waits.
    Given(usize),
    /// The server has to answer; how the first text was looked at, if it was.
    FromServer(Option<Looked<'a>>),
}
