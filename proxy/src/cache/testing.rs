//! Caches with databases that nobody has connected to.

use std::sync::{Arc, PoisonError};

use policy::cache::Slot;

use super::post::Post;
use super::{Cached, Caches};

/// A rule, so that writes are followed; mode off.
pub(crate) fn caches() -> Caches {
    let cache = config::Cache {
        rules: vec![config::CacheRule {
            tables: vec!["*".into()],
            ttl: std::time::Duration::from_secs(60),
            ..config::CacheRule::default()
        }],
        ..config::Cache::default()
    };
    Caches::new(&cache)
}

/// A database of this name, to which others may write.
pub(crate) fn known(caches: &Caches, name: &str) -> Arc<Cached> {
    let cached =
        Arc::new(Cached::new(name, Slot::down(caches.base), Post::default(), Arc::clone(&caches.counters.invalidated)));
    caches.databases.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), Arc::clone(&cached));
    cached
}
