//! What is said to a queue, and what it says: who asks for an upstream, and by what share.

use std::time::{Duration, Instant};

use crate::tenant::TenantId;

/// Who is served, and who is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The tenant.
    pub tenant: TenantId,
    /// Which of its classes.
    pub class: u8,
}

/// What a tenant gets of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its part of the upstreams' time when others wait, in proportion to theirs; at least 1.
    pub weight: u32,
    /// Upstreams that it gets before anybody who has his minimum.
    pub min: u32,
    /// Upstreams that it holds at most; 0: no such limit.
    pub max: u32,
    /// Clients of it that wait at most; 0: no such limit.
    pub max_waiting: u32,
}

impl Default for Share {
    /// Equal parts, and no limits.
    fn default() -> Self {
        Self { weight: 1, min: 0, max: 0, max_waiting: 0 }
    }
}

/// What a class gets of its tenant's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassShare {
    /// Its part, in proportion to the tenant's other classes; at least 1.
    pub weight: u32,
    /// Upstreams that it holds at most; 0: no limit but the tenant's.
    pub max: u32,
    /// Clients of it that wait at most; 0: no limit but the tenant's.
    pub max_waiting: u32,
}

impl Default for ClassShare {
    /// Equal parts, and no limits.
    fn default() -> Self {
        Self { weight: 1, max: 0, max_waiting: 0 }
    }
}

/// Who asks for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Who is charged.
    pub key: Key,
    /// What the tenant gets.
    pub share: Share,
    /// What the class gets of that.
    pub class: ClassShare,
    /// By when it should be served; `None`: whenever.
    pub deadline: Option<Instant>,
    /// Somebody wants to know how many upstreams it has, whatever it may have.
    pub watched: bool,
}

impl Claim {
    /// Whether it has to be counted before it is given an upstream: something says how many it may have, or looks at it.
    #[inline]
    pub fn is_counted(&self) -> bool {
        self.watched || self.share.max > 0 || self.class.max > 0
    }
}

/// There is no room in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Whose room: that of the tenant, or of its class, or everybody's.
    pub of_tenant: bool,
    /// Clients that wait there.
    pub waiting: usize,
    /// As many as may.
    pub limit: usize,
    /// About how long those who wait will take.
    pub retry_in: Duration,
}

/// A client's turn has come: an upstream is its, and charged to `key` until [`release`](super::Queue::release).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<T> {
    /// Whose turn.
    pub ticket: T,
    /// Who is charged.
    pub key: Key,
}

/// A tenant in the queue, as the admin port shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub tenant: TenantId,
    /// Clients of it that wait.
    pub waiting: usize,
    /// Upstreams that it is known to hold.
    pub held: usize,
    /// What it gets.
    pub share: Share,
}
