//! There is no room in the queue for an upstream: better told now than after the whole of a wait.

use std::time::Duration;

use config::units::show_duration as show;

use super::texts::{Texts, texts};

/// As many clients of all tenants wait in a pool as may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRefusal {
    /// The pool's database.
    pub database: Box<str>,
    /// The pool's user.
    pub user: Box<str>,
    /// Clients that wait.
    pub waiting: usize,
    /// As many as may.
    pub limit: usize,
    /// About how long those will take.
    pub retry_in: Duration,
}

impl QueueRefusal {
    pub(super) fn texts(&self) -> Texts {
        let Self { database, user, waiting, limit, retry_in } = self;
        let retry = show(Duration::from_millis(u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX)));
        texts(
            "too many requests are waiting for a server connection",
            format!(
                "Pool \"{database}\" of user \"{user}\": {waiting} clients are waiting, and no more than {limit} may."
            ),
            format!("Retry after {retry}. If it happens often, look for long transactions, or raise pool.size."),
        )
    }
}
