//! Waiting for something to become true: polls with a deadline, never a sleep that hopes.

use std::time::{Duration, Instant};

/// How long anything in a test may take before the test fails: long enough for two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `ready` holds; fails the test with `what` after [`PATIENCE`].
pub fn eventually(what: &str, ready: impl FnMut() -> bool) {
    assert!(within(PATIENCE, ready), "waited {PATIENCE:?} in vain until {what}");
}

/// Polls until `ready` holds; false when it still does not after `limit`.
pub fn within(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
