//! How a client proves who it is.

use std::sync::Arc;

use config::{AuthMethod, Secret, UserSecret};
use policy::verdict::Refusal;
use rand::Rng;
use wire::login::server::Started;
use wire::login::{LoggedIn, Md5Secret, ScramVerifier, scram};

use super::{Denied, Gate, Guest, Wish, told};
use crate::pool::{DialFailure, Pool};
use crate::upstream::dial::{Credential, Failure, Target, is_about_credentials};

/// Iterations of the verifiers that are derived from plain passwords; PostgreSQL's own default.
const ITERATIONS: u32 = 4096;

impl Gate {
    /// Checks the client against what is stored of it.
    pub(super) async fn by_secret(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &config::Settings,
    ) -> Result<LoggedIn, Denied> {
        if settings.auth.method == AuthMethod::Trust {
            return Ok(started.trust(&mut guest.out));
        }
        let name = wish.user.as_bytes();
        let stored = settings.users.get(&wish.user).map(|user| &user.secret);
        let md5 = match stored {
            // A stored md5 hash cannot serve SCRAM; where SCRAM alone was asked for, such a user cannot log in.
            Some(UserSecret::Md5(hash)) if settings.auth.method != AuthMethod::ScramSha256 => {
                Md5Secret::parse(hash.reveal()).or_else(|| Some(Md5Secret::mock()))
            }
            Some(UserSecret::Plain(password)) if settings.auth.method == AuthMethod::Md5 => {
                Some(Md5Secret::from_password(name, password.reveal().as_bytes()))
            }
            None if settings.auth.method == AuthMethod::Md5 => Some(Md5Secret::mock()),
            _ => None,
        };
        if let Some(secret) = md5 {
            let mut salt = [0; 4];
            rand::rng().fill_bytes(&mut salt);
            let awaiting = started.md5(secret, salt, &mut guest.out);
            return guest.password(|frame, out| awaiting.receive(frame, out)).await;
        }
        let verifier = match stored {
            Some(UserSecret::Plain(password)) => self.verifier(&wish.user, password)?,
            Some(UserSecret::Scram(verifier)) => ScramVerifier::parse(verifier.reveal())
                .unwrap_or_else(|| ScramVerifier::mock(&self.secret, name, ITERATIONS)),
            _ => ScramVerifier::mock(&self.secret, name, ITERATIONS),
        };
        let mut nonce = [0; 18];
        rand::rng().fill_bytes(&mut nonce);
        let awaiting = started.scram(verifier, nonce, guest.channel_binding(), &mut guest.out)?;
        let awaiting = guest.password(|frame, out| awaiting.receive(frame, out)).await?;
        guest.password(|frame, out| awaiting.receive(frame, out)).await
    }

    /// The verifier of a plain password. Deriving it takes over a millisecond: once for each password.
    fn verifier(&self, user: &str, password: &Secret) -> Result<ScramVerifier, wire::Error> {
        if let Some((known, verifier)) = self.verifiers.borrow().get(user)
            && known == password
        {
            return Ok(verifier.clone());
        }
        let salt = scram::user_salt(&self.secret, user.as_bytes());
        let verifier = ScramVerifier::from_password(password.reveal().as_bytes(), &salt, ITERATIONS)?;
        self.verifiers.borrow_mut().insert(user.to_owned(), (password.clone(), verifier.clone()));
        Ok(verifier)
    }

    /// Lets the server decide.
    pub(super) async fn by_server(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &config::Settings,
        pool: &Arc<Pool>,
    ) -> Result<LoggedIn, Denied> {
        // A server that lets the proxy in without a password says nothing about a client somewhere on the network.
        let near = guest.peer.is_local();
        let refused = || Refusal::PlaintextRefused { user: wish.user.as_str().into() };
        let private = near || guest.secured.is_some();
        if !private && !settings.auth.plaintext_network {
            return Err(refused().into());
        }
        if matches!(pool.failure(), Some(DialFailure::Said { code, .. }) if is_about_credentials(&code)) {
            // The server has changed its mind since.
            self.accepted.borrow_mut().remove(&pool.id);
        }
        let accepted = self.accepted.borrow().get(&pool.id).cloned();
        if accepted.is_none() {
            match self.try_on_server(pool, Credential::None).await {
                Ok(()) => drop(self.accepted.borrow_mut().insert(pool.id, None)),
                Err(Failure::NoPassword) => {}
                Err(Failure::Failed(failure)) => return Err(told(pool, &failure).into()),
            }
        }
        if matches!(self.accepted.borrow().get(&pool.id), Some(None)) {
            return if near { Ok(started.trust(&mut guest.out)) } else { Err(refused().into()) };
        }
        let awaiting = started.cleartext(&mut guest.out);
        let cleartext = guest.password(|frame, _| awaiting.receive(frame)).await?;
        let accepted = self.accepted.borrow().get(&pool.id).cloned().flatten();
        if accepted.is_some_and(|secret| cleartext.is(secret.reveal().as_bytes())) {
            return Ok(cleartext.accept(&mut guest.out));
        }
        let Ok(password) = std::str::from_utf8(cleartext.password()).map(Secret::new) else {
            return Err(cleartext.refuse().into());
        };
        match self.try_on_server(pool, Credential::Password(password.clone())).await {
            Ok(()) => {
                self.accepted.borrow_mut().insert(pool.id, Some(password));
                Ok(cleartext.accept(&mut guest.out))
            }
            Err(Failure::NoPassword) => Err(cleartext.refuse().into()),
            Err(Failure::Failed(DialFailure::Said { code, .. })) if is_about_credentials(&code) => {
                Err(cleartext.refuse().into())
            }
            Err(Failure::Failed(failure)) => Err(told(pool, &failure).into()),
        }
    }

    /// Logs in to the server with this credential. If it lets us in, the pool's upstreams use it from now on.
    async fn try_on_server(&self, pool: &Arc<Pool>, credential: Credential) -> Result<(), Failure> {
        let target = Arc::new(Target { credential, ..(*pool.target()).clone() });
        let settings = pool.settings();
        let dialled = target.dial(&self.shared, &settings, settings.connect_timeout).await?;
        // The connection was a trial; the pool counts those that it dials itself.
        drop(dialled.shipped);
        pool.reload((*settings).clone(), target);
        pool.set_welcome(dialled.welcome);
        Ok(())
    }
}
