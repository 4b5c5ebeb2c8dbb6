//! What the tests of this module stand on.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::{Pool, testing};
use crate::upstream::dial::Target;

/// A pool with a queue timeout of 10 seconds.
pub(super) fn pool() -> Arc<Pool> {
    let settings = config::Pool { queue_timeout: Duration::from_secs(10), ..testing::settings() };
    Arc::new(testing::pool(0, "anna", settings))
}

/// Where that pool's upstreams connect.
pub(super) fn target() -> Target {
    testing::target("anna")
}
