//! There is no room in the queue for an upstream: better told now than after the whole of a wait.

use std::time::Duration;

use config::units::show_duration as show;

use super::texts::{Texts, texts};

/// Whose queue is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRefusal {
    /// The tenant whose clients wait, where they are as many as that tenant's may be: 53400. `None`: as many clients of all
    /// tenants wait as may, 53300.
    pub tenant: Option<Box<str>>,
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
    pub(super) fn code(&self) -> &'static str {
        if self.tenant.is_some() { "53400" } else { "53300" }
    }

    pub(super) fn texts(&self) -> Texts {
        let Self { tenant, database, user, waiting, limit, retry_in } = self;
        let retry = show(Duration::from_millis(u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX)));
        match tenant {
            Some(tenant) => texts(
                format!("too many requests of tenant \"{tenant}\" are waiting for a server connection"),
                format!(
                    "Pool \"{database}\" of user \"{user}\": {waiting} clients of this tenant are waiting, and its max_waiting is {limit}."
                ),
                format!(
                    "Retry after {retry}, with fewer requests at a time; an operator can raise max_waiting, weight or max_upstreams of this tenant."
                ),
            ),
            None => texts(
                "too many requests are waiting for a server connection",
                format!("Pool \"{database}\" of user \"{user}\": {waiting} clients are waiting, and no more than {limit} may."),
                format!("Retry after {retry}. If it happens often, look for long transactions, or raise pool.size."),
            ),
        }
    }
}
