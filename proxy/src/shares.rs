//! What each tenant gets of a pool's upstreams: the one place that knows where that is written.

use std::collections::BTreeMap;

use policy::fair::{Share, Shares};
use policy::tenant::Directory;

/// Clients that may wait for upstreams of one pool at once: more than a server could serve within anybody's patience,
/// and a few megabytes.
const MAX_WAITING: usize = 10_000;

/// Shares by the tenants' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Of every tenant that is not named here.
    pub default: Share,
    /// Of these tenants.
    pub tenants: BTreeMap<String, Share>,
}

impl Written {
    /// By the tenants' numbers.
    pub fn compile(&self, directory: &Directory) -> Shares {
        Shares::new(self.default, self.tenants.iter().map(|(name, share)| (directory.id(name), *share)))
    }
}

/// Clients that may wait in a pool.
pub(crate) fn max_waiting(_: &config::Pool) -> usize {
    MAX_WAITING
}
