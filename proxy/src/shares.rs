//! From the limits of tenants and classes to their parts of a pool: the one place where they meet.

use std::time::Instant;

use config::{LimitKey, Mode};
use policy::fair::{Claim, ClassShare, Key, Share};
use policy::limits::{Bound, LimitTable};
use policy::tenant::{ClassId, TenantId};

/// Clients that may wait for upstreams of one pool at once: more than a server could serve within anybody's patience,
/// and a few megabytes.
const MAX_WAITING: usize = 10_000;

/// What a session of this tenant and class may claim. Tenants share the pool, classes share what their tenant gets: what
/// is said of a class holds beside the tenant's, for its own sessions. A limit that is not in force is none.
#[inline]
pub fn claim(limits: &LimitTable, tenant: TenantId, class: ClassId, deadline: Option<Instant>) -> Claim {
    let whole = &**limits.of(tenant, class);
    let part = &whole.class;
    Claim {
        key: Key { tenant, class: u8::try_from(class.index()).unwrap_or(0) },
        share: Share {
            weight: whole.weight.max(1),
            min: whole.min_upstreams,
            max: enforced(whole.max_upstreams),
            max_waiting: enforced(whole.max_waiting),
        },
        class: ClassShare {
            weight: part.weight.max(1),
            max: enforced(part.max_upstreams),
            max_waiting: enforced(part.max_waiting),
        },
        deadline,
        watched: [whole.max_upstreams, part.max_upstreams].into_iter().any(|limit| looked_at(limit).is_some()),
    }
}

/// A limit that is only looked at: how many it says, and what is to be done beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Which limit.
    pub key: LimitKey,
    /// What it says.
    pub limit: Bound<u32>,
    /// It is said of the session's class, and counts its sessions alone.
    pub of_class: bool,
}

/// The limits on what a tenant and a class have of a pool that are only looked at.
pub fn watched(limits: &LimitTable, tenant: TenantId, class: ClassId) -> impl Iterator<Item = Watched> {
    let whole = limits.of(tenant, class);
    let part = &whole.class;
    let both = [
        (LimitKey::MaxUpstreams, whole.max_upstreams, part.max_upstreams),
        (LimitKey::MaxWaiting, whole.max_waiting, part.max_waiting),
    ];
    both.into_iter().flat_map(|(key, whole, part)| {
        let of = |limit: Option<Bound<u32>>, of_class| Some(Watched { key, limit: looked_at(limit)?, of_class });
        [of(whole, false), of(part, true)].into_iter().flatten()
    })
}

fn looked_at(limit: Option<Bound<u32>>) -> Option<Bound<u32>> {
    limit.filter(|limit| matches!(limit.mode, Mode::Observe | Mode::Warn))
}

/// What holds; 0: nothing.
fn enforced(limit: Option<Bound<u32>>) -> u32 {
    limit.and_then(Bound::enforced).unwrap_or(0)
}

/// Clients that may wait in a pool.
pub(crate) fn max_waiting(_: &config::Pool) -> usize {
    MAX_WAITING
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight, minimum and maximum of upstreams, clients that wait; of the tenant, and of its class.
    type Part = (u32, u32, u32, u32);

    #[test]
    fn a_tenant_has_its_part_and_its_class_a_part_of_that() {
        let text = "[databases.x]\nupstream = 'postgres://h/x'
            [tenant.default]\nmax_waiting = 100
            [tenant.class.interactive]\nweight = 10
            [tenant.class.batch]\nweight = 1\nmax_upstreams = 2\nmax_waiting = 5
            [tenant.class.seen]\nmode = 'observe'\nmax_upstreams = 1
            [tenant.limits.acme]\nweight = 2\nmin_upstreams = 1\nmax_upstreams = 10
            [tenant.limits.seen]\nmode = 'observe'\nmax_upstreams = 10\nmax_waiting = 7";
        let settings = config::Settings::from_toml(text, &config::Overrides::default(), &config::NoSources).unwrap();
        let directory = policy::tenant::Directory::new(&settings.tenants);
        let table = LimitTable::new(&settings.tenants, &directory);
        let parts = |tenant: &str, class: &str| -> (Part, (u32, u32, u32), bool) {
            let class = if class.is_empty() { ClassId::NONE } else { directory.class(class) };
            let Claim { share, class, watched, .. } = claim(&table, directory.id(tenant), class, None);
            let whole = (share.weight, share.min, share.max, share.max_waiting);
            (whole, (class.weight, class.max, class.max_waiting), watched)
        };
        for (tenant, class, whole, part, watched) in [
            ("other", "", (1, 0, 0, 100), (1, 0, 0), false),
            ("other", "interactive", (1, 0, 0, 100), (10, 0, 0), false),
            ("acme", "", (2, 1, 10, 100), (1, 0, 0), false),
            ("acme", "interactive", (2, 1, 10, 100), (10, 0, 0), false),
            ("acme", "batch", (2, 1, 10, 100), (1, 2, 5), false),
            // What a class only looks at is its own: its tenant's is enforced.
            ("acme", "seen", (2, 1, 10, 100), (1, 0, 0), true),
            ("seen", "batch", (1, 0, 0, 0), (1, 0, 0), true),
        ] {
            assert_eq!(parts(tenant, class), (whole, part, watched), "{tenant} {class}");
        }
        let looked_at = |tenant: &str, class: &str| -> Vec<(LimitKey, u32, bool)> {
            let all = watched(&table, directory.id(tenant), directory.class(class));
            all.map(|watched| (watched.key, watched.limit.at, watched.of_class)).collect()
        };
        assert_eq!(looked_at("acme", "seen"), [(LimitKey::MaxUpstreams, 1, true)]);
        let both = [
            (LimitKey::MaxUpstreams, 10, false),
            (LimitKey::MaxUpstreams, 2, true),
            (LimitKey::MaxWaiting, 7, false),
            (LimitKey::MaxWaiting, 5, true),
        ];
        assert_eq!(looked_at("seen", "batch"), both);
    }
}
