//! From the limits of tenants and classes to their parts of a pool: the one place where they meet.

use std::time::Instant;

use config::{LimitKey, Mode};
use policy::fair::{Claim, ClassShare, Key, Share};
use policy::limits::{Bound, Effective, LimitTable};
use policy::tenant::{ClassId, TenantId};

/// Clients that may wait for upstreams of one pool at once: more than a server could serve within anybody's patience,
/// and a few megabytes.
const MAX_WAITING: usize = 10_000;

/// What a session of this tenant and class may claim. Tenants share the pool, classes share what their tenant gets: a
/// limit that is said of a class holds beside the tenant's, for its own sessions. A limit that is not in force is none.
#[inline]
pub fn claim(limits: &LimitTable, tenant: TenantId, class: ClassId, deadline: Option<Instant>) -> Claim {
    let (whole, part) = (&**limits.of(tenant, ClassId::NONE), &**limits.of(tenant, class));
    let own = |limit: fn(&Effective) -> u32| if limit(part) == limit(whole) { 0 } else { limit(part) };
    Claim {
        key: Key { tenant, class: u8::try_from(class.index()).unwrap_or(0) },
        share: Share {
            weight: whole.weight.max(1),
            min: whole.min_upstreams,
            max: max_upstreams(whole),
            max_waiting: max_waiting_of(whole),
        },
        class: ClassShare { weight: part.weight.max(1), max: own(max_upstreams), max_waiting: own(max_waiting_of) },
        deadline,
        watched: [whole, part].iter().any(|limits| looked_at(limits.max_upstreams).is_some()),
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

/// The limits on what a tenant and a class have of a pool that are only looked at. As in [`claim`], what is said of both
/// alike is the tenant's.
pub fn watched(limits: &LimitTable, tenant: TenantId, class: ClassId) -> impl Iterator<Item = Watched> {
    let (whole, part) = (limits.of(tenant, ClassId::NONE), limits.of(tenant, class));
    let both = [
        (LimitKey::MaxUpstreams, whole.max_upstreams, part.max_upstreams),
        (LimitKey::MaxWaiting, whole.max_waiting, part.max_waiting),
    ];
    both.into_iter().flat_map(|(key, whole, part)| {
        let of = |limit: Option<Bound<u32>>, of_class| Some(Watched { key, limit: looked_at(limit)?, of_class });
        [of(whole, false), of(part.filter(|part| Some(*part) != whole), true)].into_iter().flatten()
    })
}

fn looked_at(limit: Option<Bound<u32>>) -> Option<Bound<u32>> {
    limit.filter(|limit| matches!(limit.mode, Mode::Observe | Mode::Warn))
}

fn max_upstreams(limits: &Effective) -> u32 {
    limits.max_upstreams.and_then(Bound::enforced).unwrap_or(0)
}

fn max_waiting_of(limits: &Effective) -> u32 {
    limits.max_waiting.and_then(Bound::enforced).unwrap_or(0)
}

/// Clients that may wait in a pool.
pub(crate) fn max_waiting(_: &config::Pool) -> usize {
    MAX_WAITING
}
