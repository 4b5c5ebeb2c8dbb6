//! Who is on its way in, so that the end of the process can wait for them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Longer than the last words to anybody may take.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Connections between their first byte and their hand-over to a worker.
pub(super) struct Guests {
    count: Rc<Count>,
    dismissed: watch::Sender<bool>,
}

#[derive(Default)]
struct Count {
    now: Cell<usize>,
    none: Notify,
}

/// One guest's place in the count; given back when dropped.
pub(super) struct GuestPlace(Rc<Count>);

impl Default for Guests {
    fn default() -> Self {
        Self { count: Rc::default(), dismissed: watch::Sender::new(false) }
    }
}

impl Guests {
    /// Somebody has come.
    pub(super) fn enter(&self) -> GuestPlace {
        self.count.now.set(self.count.now.get() + 1);
        GuestPlace(self.count.clone())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.now.get()
    }

    /// Returns when guests have to leave.
    pub(super) async fn dismissed(&self) {
        drop(self.dismissed.subscribe().wait_for(|dismissed| *dismissed).await);
    }

    /// Tells all guests to leave, and waits until they have.
    pub(super) async fn dismiss(&self) {
        self.dismissed.send_replace(true);
        let all_gone = async {
            while self.count() > 0 {
                self.count.none.notified().await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, all_gone).await);
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get().saturating_sub(1));
        if self.0.now.get() == 0 {
            self.0.none.notify_one();
        }
    }
}
