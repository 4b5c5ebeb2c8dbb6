//! What the tests of this module stand on.

use std::sync::Arc;
use std::time::Duration;

use config::{Host, SessionAttrs};

use crate::pool::Pool;
use crate::upstream::dial::{Credential, Target};

/// A pool with a queue timeout of 10 seconds.
pub(super) fn pool() -> Arc<Pool> {
    let settings = config::Pool {
        mode: config::PoolMode::Transaction,
        size: 1,
        min_size: 0,
        reserve_size: 0,
        reserve_after: Duration::ZERO,
        empty_timeout: Duration::ZERO,
        queue_timeout: Duration::from_secs(10),
        connect_timeout: Duration::ZERO,
        connect_backoff: Duration::ZERO,
        connect_backoff_max: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        lifetime: Duration::ZERO,
        health_check_after: Duration::ZERO,
        idle_in_transaction_timeout: Duration::ZERO,
        max_prepared: 1,
        max_client_prepared: 10_000,
        max_client_prepared_bytes: 16 << 20,
        share_anonymous: false,
        listen: config::Listen::default(),
        untracked: config::Untracked::default(),
        inspect_functions: None,
    };
    Arc::new(Pool::new(0, "shop", "anna", settings, Arc::new(target()), 1, Default::default()))
}

/// Where that pool's upstreams connect.
pub(super) fn target() -> Target {
    Target {
        hosts: vec![Host { name: "127.0.0.1".to_owned(), port: 5432 }],
        session_attrs: SessionAttrs::Any,
        load_balance: false,
        protocol: config::MaxProtocol::default(),
        tls: Arc::default(),
        database: "shop".to_owned(),
        user: "anna".to_owned(),
        credential: Credential::None,
        parameters: Vec::new(),
    }
}
