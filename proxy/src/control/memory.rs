//! Looks at how much memory the process takes, so that new clients are kept out before the kernel ends it.

use std::sync::atomic::Ordering;

use crate::shared::Shared;
use crate::telemetry::process::resident_bytes;

/// Keeps [`Shared::short_of_memory`]. To be called about once a second.
pub(super) fn look(shared: &Shared) {
    let limit = shared.settings().max_memory;
    // Where the system does not tell, there is nothing to go by.
    let resident = if limit == 0 { 0 } else { resident_bytes().unwrap_or(0) };
    let was = shared.short_of_memory.load(Ordering::Relaxed);
    let is = is_short(was, resident, limit);
    shared.short_of_memory.store(is, Ordering::Relaxed);
    match (was, is) {
        (false, true) => tracing::warn!(resident, limit, "memory is short: no new clients are let in"),
        (true, false) => tracing::info!(resident, limit, "memory is no longer short: new clients are let in"),
        _ => {}
    }
}

/// Over the limit, or not yet 5 % below it again: at the border clients would be let in and kept out by turns.
fn is_short(was: bool, resident: u64, limit: u64) -> bool {
    limit > 0 && (resident > limit || (was && resident > limit - limit / 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_short_must_fall_by_a_twentieth() {
        for (was, resident, is) in
            [(false, 1_000, false), (false, 1_001, true), (true, 1_000, true), (true, 951, true), (true, 950, false)]
        {
            assert_eq!(is_short(was, resident, 1_000), is, "{was} {resident}");
        }
        assert!(!is_short(true, u64::MAX, 0), "no limit");
    }
}
