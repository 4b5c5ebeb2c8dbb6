//! How reloads of the configuration went, for those who look from outside.

use std::time::SystemTime;

/// What became of the reloads so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Reloads that were put in force.
    pub done: u64,
    /// Reloads that changed nothing because of a mistake.
    pub refused: u64,
    /// When the last one was tried; `None`: none was.
    pub last: Option<SystemTime>,
    /// When the settings in force were read; `None`: at the start.
    pub last_done: Option<SystemTime>,
    /// Why the last one changed nothing: a line for each mistake. `None`: it did.
    pub error: Option<String>,
    /// Keys that have other values in the file now, and need a restart.
    pub pending: Vec<String>,
}

impl Reloads {
    /// New settings are in force, but for the keys that need a restart.
    pub fn succeeded(&mut self, now: SystemTime, pending: &[String]) {
        self.done += 1;
        self.last = Some(now);
        self.last_done = Some(now);
        self.error = None;
        self.pending = pending.to_vec();
    }

    /// Nothing has changed.
    pub fn refused(&mut self, now: SystemTime, why: &str) {
        self.refused += 1;
        self.last = Some(now);
        self.error = Some(why.to_owned());
    }
}
