//! Limits of databases and users, and the pool that a pair of them gets.

use super::*;

impl Builder<'_> {
    pub(super) fn database_limits(&self, name: &str) -> DatabaseLimits {
        DatabaseLimits {
            max_clients: self.count(&["databases", name, "max_clients"]),
            max_upstreams: self.count(&["databases", name, "max_upstreams"]),
        }
    }

    pub(super) fn user_limits(&self) -> BTreeMap<String, UserLimits> {
        let limits = |name: &String| {
            let size = ["users", name.as_str(), "pool_size"];
            UserLimits {
                pool_size: self.given(&size).map(|_| self.count(&size)),
                max_clients: self.count(&["users", name, "max_clients"]),
                max_upstreams: self.count(&["users", name, "max_upstreams"]),
            }
        };
        let named = self.names_under(&["users"]).into_iter().map(|name| (limits(&name), name));
        named.filter(|(limits, _)| *limits != UserLimits::default()).map(|(limits, name)| (name, limits)).collect()
    }
}

impl Settings {
    /// A database by the name that clients ask for, the wildcard's among them.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name).or(self.wildcard.as_ref())
    }

    /// The settings of the pool of this database and user; `None`: no such database.
    pub fn pool_of(&self, database: &str, user: &str) -> Option<Pool> {
        let mut pool = self.database(database)?.pool.clone();
        if let Some(size) = self.user_limits(user).pool_size {
            pool.size = size;
            pool.min_size = pool.min_size.min(size);
        }
        Some(pool)
    }

    /// Limits of a database.
    pub fn database_limits(&self, name: &str) -> DatabaseLimits {
        self.database(name).map(|database| database.limits).unwrap_or_default()
    }

    /// Limits of a user.
    pub fn user_limits(&self, name: &str) -> UserLimits {
        self.user_limits.get(name).copied().unwrap_or_default()
    }
}
