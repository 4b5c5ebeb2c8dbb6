//! The way to a pool's ledger.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ledger::Ledger;

/// The ledger, locked. What it needs is told to those who give upstreams back when the lock is released.
#[derive(Debug)]
pub struct Books<'a> {
    ledger: MutexGuard<'a, Ledger>,
    attention: &'a AtomicBool,
}

impl<'a> Books<'a> {
    pub(super) fn open(ledger: &'a Mutex<Ledger>, attention: &'a AtomicBool) -> Self {
        Self { ledger: ledger.lock().unwrap_or_else(PoisonError::into_inner), attention }
    }
}

impl Deref for Books<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl DerefMut for Books<'_> {
    fn deref_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

impl Drop for Books<'_> {
    fn drop(&mut self) {
        self.attention.store(self.ledger.needs_attention(), Ordering::SeqCst);
    }
}
