//! Who has how much of a bounded table: names and texts come from clients, and one tenant's must not leave the others with
//! none of their own.

use super::TenantId;
use super::worker::Map;

/// So many times as much as is left over is what one tenant may have: of an empty table three quarters, and the more of it
/// is taken, the more of the rest is kept for those who have little.
const OF_THE_REST: usize = 3;

/// The rows of a table by whose they are.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    by_tenant: Map<TenantId, usize>,
    taken: usize,
}

impl Quotas {
    /// Whether a tenant may have another row of a table in which so many are free.
    pub(super) fn admits(&self, tenant: TenantId, free: usize) -> bool {
        let own = self.by_tenant.get(&tenant).copied().unwrap_or(0);
        own < free.saturating_mul(OF_THE_REST)
    }

    /// It has another one.
    pub(super) fn add(&mut self, tenant: TenantId) {
        *self.by_tenant.entry(tenant).or_default() += 1;
        self.taken += 1;
    }

    /// One of its has gone.
    pub(super) fn remove(&mut self, tenant: TenantId) {
        if let Some(own) = self.by_tenant.get_mut(&tenant) {
            *own = own.saturating_sub(1);
            self.taken = self.taken.saturating_sub(1);
            if *own == 0 {
                self.by_tenant.remove(&tenant);
            }
        }
    }

    /// How many all have together.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_room_for_others_and_those_for_more() {
        const ROOM: usize = 5_000;
        let mut quotas = Quotas::default();
        let mut free = ROOM;
        let mut take_all = |tenant: u32| {
            let before = free;
            while quotas.admits(TenantId(tenant), free) {
                quotas.add(TenantId(tenant));
                free -= 1;
            }
            before - free
        };
        assert_eq!([1, 1, 2, 3, 4].map(&mut take_all), [3_750, 0, 938, 234, 59]);
        for tenant in 100..100 + free as u32 {
            assert!(quotas.admits(TenantId(tenant), free), "many who have little share all of the rest: {free}");
            quotas.add(TenantId(tenant));
            free -= 1;
        }
        assert!(!quotas.admits(TenantId(99), free));
    }
}
