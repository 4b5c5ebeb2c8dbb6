//! A task for each cached database, on the control thread: its catalog, and what became of writers that were lost.

use std::sync::Arc;

use crate::shared::Shared;

/// Looks after every cached database as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    loop {
        shared.caches.changed.notified().await;
    }
}
