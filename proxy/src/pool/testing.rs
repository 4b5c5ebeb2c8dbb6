//! A pool and where it leads, for tests that need one and care for little of it.

use std::sync::Arc;
use std::time::Duration;

use config::{Host, PoolMode, SessionAttrs};

use super::Pool;
use crate::upstream::dial::{Credential, Target};

/// One upstream, and no time limit at all.
pub(crate) fn settings() -> config::Pool {
    config::Pool {
        mode: PoolMode::Transaction,
        size: 1,
        min_size: 0,
        reserve_size: 0,
        reserve_after: Duration::ZERO,
        empty_timeout: Duration::ZERO,
        queue_timeout: Duration::ZERO,
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
    }
}

/// The database `shop` on this machine, as this user.
pub(crate) fn target(user: &str) -> Target {
    Target {
        hosts: vec![Host { name: "127.0.0.1".to_owned(), port: 5432 }],
        session_attrs: SessionAttrs::Any,
        load_balance: false,
        protocol: config::MaxProtocol::default(),
        database: "shop".to_owned(),
        user: user.to_owned(),
        credential: Credential::None,
        tls: Arc::default(),
        parameters: Vec::new(),
    }
}

/// A pool of that database and this user, for one worker.
pub(crate) fn pool(id: usize, user: &str, settings: config::Pool) -> Pool {
    Pool::new(id, "shop", user, settings, Arc::new(target(user)), 1, Default::default())
}
