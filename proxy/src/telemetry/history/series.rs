//! Numbers of statements of tenants, which are the keys of windows.

use std::collections::HashSet;

use crate::telemetry::TenantId;
use crate::telemetry::statement::StatementCell;
use crate::telemetry::worker::Map;

/// From so many on it is looked which of them are still needed.
const LONG: usize = 20_000;

/// Each statement of each tenant has a number as long as it has a row or a window; then another one may have it.
#[derive(Debug)]
pub(super) struct Series {
    /// By their numbers.
    keys: Vec<(u64, TenantId)>,
    numbers: Map<(u64, TenantId), u32>,
    free: Vec<u32>,
    long: usize,
}

impl Default for Series {
    fn default() -> Self {
        Self { keys: Vec::new(), numbers: Map::default(), free: Vec::new(), long: LONG }
    }
}

impl Series {
    pub(super) fn keys(&self) -> &[(u64, TenantId)] {
        &self.keys
    }

    pub(super) fn number(&mut self, cell: &StatementCell) -> u32 {
        let key = (cell.statement.value.facts.strict, cell.tenant);
        let (keys, free) = (&mut self.keys, &mut self.free);
        *self.numbers.entry(key).or_insert_with(|| {
            let again = free.pop().and_then(|number| Some((number, keys.get_mut(number as usize)?)));
            if let Some((number, place)) = again {
                *place = key;
                return number;
            }
            keys.push(key);
            keys.len() as u32 - 1
        })
    }

    /// Whether it is time to see which numbers are needed.
    pub(super) fn is_long(&self) -> bool {
        self.free.is_empty() && self.keys.len() >= self.long
    }

    /// Keeps those that are used.
    pub(super) fn keep(&mut self, used: &HashSet<u32>) {
        let free = &mut self.free;
        self.numbers.retain(|_, number| {
            let kept = used.contains(number);
            if !kept {
                free.push(*number);
            }
            kept
        });
        self.long = LONG.max(self.keys.len() + used.len());
    }
}
