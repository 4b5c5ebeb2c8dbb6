//! What is handed on of a request that the cache has looked at.

use crate::session::brain::{Lexing, Look, Sent};
use crate::session::statement::Known;
use crate::worker::Worker;

/// A text that was looked at for the cache: whoever sends it to the server does not look again.
#[derive(Debug)]
pub struct Looked<'a> {
    pub(super) look: Look<'a>,
    /// Its constants, as events carry them.
    pub(super) literals: Vec<u8>,
}

impl<'a> Looked<'a> {
    /// A text that nobody has looked at yet.
    pub fn now(worker: &Worker, (sql, lexing, sent): (&'a [u8], Lexing, Sent)) -> Self {
        let mut literals = worker.rooms.literals.take();
        let look = worker.brain.borrow_mut().look_at(sql, lexing, sent, &mut literals);
        Self { look, literals }
    }

    /// What it is.
    pub fn known(&self) -> &Known {
        &self.look.known
    }
}

/// How a text is to be taken that is about to be sent: as it was looked at for the cache, or looked at now. Its constants are
/// appended to `samples`.
#[inline]
pub fn look_once<'a>(
    looked: Option<Looked<'a>>,
    worker: &Worker,
    (sql, lexing, sent): (&'a [u8], Lexing, Sent),
    samples: &mut Vec<u8>,
) -> Look<'a> {
    let Some(Looked { look, literals }) = looked else {
        return worker.brain.borrow_mut().look_at(sql, lexing, sent, samples);
    };
    samples.extend_from_slice(&literals);
    worker.rooms.literals.put(literals);
    look
}

/// What the cache says to a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// So many bytes are dealt with: it is answered, or nothing of it is and its client waits.
    Given(usize),
    /// The server has to answer; how the first text was looked at, if it was.
    FromServer(Option<Looked<'a>>),
}
