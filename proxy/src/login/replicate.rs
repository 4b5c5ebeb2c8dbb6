//! The end of a login for replication: a server connection for this client alone.

use wire::startup::{ProtocolVersion, Replication};

use super::{Admitted, Denied, Gate, Guest, Seat, Wish, told};
use crate::control;
use crate::pool::DialFailure;
use crate::pool::tokens::Member;
use crate::upstream::dial::{Failure, Target, is_about_credentials};

/// The startup parameter and its value, as servers are told; `None`: an ordinary client.
pub(super) fn parameter(wish: Replication) -> Option<&'static str> {
    match wish {
        Replication::No => None,
        Replication::Physical => Some("true"),
        Replication::Database => Some("database"),
    }
}

impl Gate {
    /// Dials for a client that has proven who it is, with its own startup parameters, and says everything that follows
    /// AuthenticationOk. `pool` is the one of replication connections of its database and user: it knows where to dial
    /// and as whom, and holds nothing.
    pub(super) async fn replicate(
        &self,
        guest: &mut Guest,
        version: ProtocolVersion,
        wish: Wish,
        pool: Member,
        seat: Seat,
    ) -> Result<Admitted, Denied> {
        // As everybody who wants something of a paused database; `auth.login_timeout` goes on.
        pool.until(|pool| !pool.ledger().is_paused()).await;
        let settings = pool.settings();
        let dialled = match pool.dialling_target() {
            Some(target) => {
                let mut own = Target::clone(&target);
                own.parameters.extend(wish.startup.iter().cloned());
                let dialled = own.dial(&self.shared, &settings, settings.connect_timeout).await;
                dialled.map_err(|failure| (failure, Some(target)))
            }
            None => Err((Failure::Forgotten, None)),
        };
        let dialled = dialled.map_err(|(failure, target)| {
            let failure = control::told(failure);
            if let (Some(target), DialFailure::Said { code, .. }) = (target, &failure)
                && is_about_credentials(code)
            {
                pool.learned.refuse(&target.credential);
            }
            told(&pool, &failure)
        })?;
        let mut admitted = self.admitted(guest, version, wish, pool, &dialled.welcome, seat)?;
        admitted.own_server = Some(Box::new(dialled.shipped));
        Ok(admitted)
    }
}
