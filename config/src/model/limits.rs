//! How many clients and server connections there may be. Everywhere, 0 stands for: as many as the other limits allow.

/// Limits of one database, over all its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatabaseLimits {
    /// Clients at most; 0: no limit of its own.
    pub max_clients: usize,
    /// Server connections at most; 0: no limit of its own.
    pub max_upstreams: usize,
}

/// Limits of one user, over all its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Server connections of each of its pools at most, whatever the database says.
    pub pool_size: Option<usize>,
    /// Clients at most; 0: no limit of its own.
    pub max_clients: usize,
    /// Server connections at most; 0: no limit of its own.
    pub max_upstreams: usize,
}
