//! Pass-through: the server itself judges a client's password.

use std::sync::Arc;
use std::time::Instant;

use config::{Secret, Settings};
use policy::verdict::{LoginRefusal, Refusal};
use wire::login::LoggedIn;
use wire::login::server::Started;

use super::{Denied, Gate, Guest, Wish, told};
use crate::aside::Kind;
use crate::control;
use crate::pool::{DialFailure, Pool};
use crate::upstream::dial::{Credential, Failure, Target, is_about_credentials};

/// Connections at once on which passwords are tried; further ones wait. Whoever can connect can have passwords tried,
/// and must not take the server's connections from everybody else.
pub(super) const MAX_TRIALS: usize = 8;

/// What a trial has shown.
enum Tried {
    /// The server has checked the password.
    Accepted,
    /// It lets the proxy in without one.
    Open,
    /// It wants one, or another one.
    Refused,
}

impl Gate {
    /// Lets the server decide.
    pub(super) async fn by_server(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &Settings,
        pool: &Arc<Pool>,
    ) -> Result<LoggedIn, Denied> {
        let refused = || Refusal::PlaintextRefused { user: wish.shown_user() };
        if !guest.is_private() && !settings.auth.plaintext_network {
            return Err(refused().into());
        }
        // A server that lets the proxy in without a password says nothing about a client somewhere on the network.
        let near = guest.peer.is_local();
        let believed = |now| pool.learned.since(now, settings.auth.secret_cache);
        let mut accepted = believed(Instant::now());
        if accepted.is_none() && matches!(self.try_on_server(pool, Credential::None).await?, Tried::Open) {
            accepted = Some(Credential::None);
        }
        if accepted == Some(Credential::None) {
            return if near { Ok(started.trust(&mut guest.out)) } else { Err(refused().into()) };
        }
        let awaiting = started.cleartext(&mut guest.out);
        let cleartext = guest.password(|frame, _| awaiting.receive(frame)).await?;
        if let Some(Credential::Password(accepted)) = believed(Instant::now())
            && cleartext.is(accepted.reveal().as_bytes())
        {
            return Ok(cleartext.accept(&mut guest.out));
        }
        let Ok(password) = std::str::from_utf8(cleartext.password()).map(Secret::new) else {
            return Err(cleartext.refuse().into());
        };
        match self.try_on_server(pool, Credential::Password(password)).await? {
            Tried::Accepted => Ok(cleartext.accept(&mut guest.out)),
            // It has stopped asking meanwhile: nothing was checked.
            Tried::Open if near => Ok(cleartext.accept(&mut guest.out)),
            Tried::Open => Err(refused().into()),
            Tried::Refused => Err(cleartext.refuse().into()),
        }
    }

    /// Logs in to the server with this credential. If it lets us in, the pool's upstreams use it from now on.
    async fn try_on_server(&self, pool: &Arc<Pool>, credential: Credential) -> Result<Tried, Denied> {
        // A paused server sees no connection; `auth.login_timeout` goes on.
        pool.until(|pool| !pool.ledger().is_paused()).await;
        let Ok(_turn) = self.trials.acquire().await else { return Ok(Tried::Refused) };
        let full = |_| Refusal::Login(LoginRefusal::NoTrial { limit: self.shared.settings().max_side_connections });
        let _place = self.shared.beside(Kind::Trial).map_err(full)?;
        let target = Arc::new(Target { credential: credential.clone(), ..(*pool.target()).clone() });
        let settings = pool.settings();
        match target.dial(&self.shared, &settings, settings.connect_timeout).await {
            Ok(dialled) => {
                let open = !dialled.proven;
                // The connection was a trial; the pool counts those that it dials itself.
                drop(dialled.shipped);
                pool.learned.learn(if open { Credential::None } else { credential }, Instant::now());
                pool.set_welcome(dialled.welcome);
                pool.ledger().try_again();
                Ok(if open { Tried::Open } else { Tried::Accepted })
            }
            Err(Failure::NoPassword) => Ok(Tried::Refused),
            Err(Failure::Failed(DialFailure::Said { code, .. }))
                if credential != Credential::None && is_about_credentials(&code) =>
            {
                Ok(Tried::Refused)
            }
            Err(failure) => Err(told(pool, &control::told(failure)).into()),
        }
    }
}
