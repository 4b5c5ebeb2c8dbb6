//! A client's place within the limits on clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::verdict::{Limit, Refusal};

use crate::pool::quota::{Claim, Limits};
use crate::shared::Shared;

/// One of the clients that may be served at once. Given back when dropped: by a login that fails, or at the session's end.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    /// Whose limits it counts towards, once it is known who the client is.
    claim: Option<Claim>,
}

impl Seat {
    /// For somebody who has only just connected.
    pub(super) fn take(shared: &Arc<Shared>, database: &str, user: &str) -> Result<Self, Refusal> {
        let limit = shared.settings().max_clients;
        if shared.clients.fetch_add(1, Ordering::Relaxed) >= limit {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            let limit = Limit::Proxy(limit);
            return Err(Refusal::TooManyClients { database: database.into(), user: user.into(), limit });
        }
        Ok(Self { shared: shared.clone(), claim: None })
    }

    /// The client has proven who it is: it counts towards the limits of its database and user from now on, and not
    /// before, so that nobody can use up the places of others.
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), Refusal> {
        let settings = self.shared.settings();
        let limits = Limits {
            proxy: 0,
            database: settings.database_limits(&claim.database).max_clients,
            user: settings.user_limits(&claim.user).max_clients,
        };
        let taken = self.shared.seats().take(claim, limits);
        taken.map_err(|limit| {
            let (database, user) = (claim.database.clone(), claim.user.clone());
            Refusal::TooManyClients { database, user, limit }
        })?;
        self.claim = Some(claim.clone());
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            self.shared.seats().give_back(claim);
        }
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
