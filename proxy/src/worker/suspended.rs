//! SUSPEND on one worker: whether its clients' next requests wait, and whose last one is still under way.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::Worker;

/// Somebody who waits for requests to end. Nothing is ever said: it is dropped.
type Token = mpsc::UnboundedSender<()>;

/// What a worker knows of it.
#[derive(Debug, Default)]
pub(super) struct Suspended {
    is: Cell<bool>,
    /// Who waits for which client.
    awaited: RefCell<FxHashMap<u64, Vec<Token>>>,
}

impl Worker {
    /// Whether clients' next requests wait for RESUME.
    #[inline]
    pub fn is_suspended(&self) -> bool {
        self.suspended.is.get()
    }

    /// It has become so, or has ended: as is said where all workers see it, so that the last word holds in whatever order
    /// letters come. Each client looks how it is with it.
    pub(super) fn suspend(&self, token: Option<&Token>) {
        let is = self.shared.suspended.load(Ordering::SeqCst);
        self.suspended.is.set(is);
        let mut awaited = self.suspended.awaited.borrow_mut();
        if !is {
            awaited.clear();
        }
        for (client, ctl) in self.sessions.borrow().iter() {
            if let Some(token) = token.filter(|_| is) {
                let waiting = awaited.entry(*client).or_default();
                // Whoever has given up leaves nothing behind.
                waiting.retain(|token| !token.is_closed());
                waiting.push(token.clone());
            }
            ctl.wake();
        }
    }

    /// A client has no request under way, or has left.
    pub fn rests(&self, client: u64) {
        self.suspended.awaited.borrow_mut().remove(&client);
    }
}
