//! How a client proves who it is, by what the proxy itself knows of it.

use config::hba::LoginRule;
use config::{AuthMethod, Secret, Settings, UserSecret};
use policy::verdict::Refusal;
use rand::Rng;
use wire::login::server::Started;
use wire::login::{LoggedIn, Md5Secret, Proof, ScramVerifier, scram};

use super::rules::{check_certificate, check_peer};
use super::secrets::Known;
use super::{Denied, Gate, Guest, Wish};
use crate::upstream::dial::Credential;

/// Verifiers kept of plain passwords; beyond, they are derived anew.
const MAX_VERIFIERS: usize = 10_000;

/// A client that has proven who it is.
pub(super) struct Proven {
    pub(super) logged_in: LoggedIn,
    /// What that leaves to log in to the server with; `None`: nothing.
    pub(super) credential: Option<Credential>,
}

impl From<LoggedIn> for Proven {
    fn from(logged_in: LoggedIn) -> Self {
        Self { logged_in, credential: None }
    }
}

impl Gate {
    /// Has the client prove who it is, by any method but the server's own judgement.
    pub(super) async fn by_rule(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &Settings,
        rule: &LoginRule,
        known: &Known,
    ) -> Result<Proven, Denied> {
        match rule.method {
            AuthMethod::Trust => return Ok(started.trust(&mut guest.out).into()),
            AuthMethod::Cert => {
                check_certificate(guest, wish, rule, settings)?;
                return Ok(started.trust(&mut guest.out).into());
            }
            AuthMethod::Peer => {
                check_peer(guest, wish, rule, settings)?;
                return Ok(started.trust(&mut guest.out).into());
            }
            AuthMethod::Password if !guest.is_private() && !settings.auth.plaintext_network => {
                return Err(Refusal::PlaintextRefused { user: wish.shown_user() }.into());
            }
            // A rule that says reject has done so before.
            AuthMethod::Reject
            | AuthMethod::Password
            | AuthMethod::Md5
            | AuthMethod::ScramSha256
            | AuthMethod::PassThrough => {}
        }
        let credential = known.credential();
        let logged_in = match rule.method {
            AuthMethod::Password => self.by_password(guest, started, wish, known).await?,
            method => match self.md5_secret(method, wish, known) {
                Some(secret) => {
                    let mut salt = [0; 4];
                    rand::rng().fill_bytes(&mut salt);
                    let awaiting = started.md5(secret, salt, &mut guest.out);
                    guest.password(|frame, out| awaiting.receive(frame, out)).await?
                }
                None => self.by_scram(guest, started, wish, known).await?,
            },
        };
        let proof = match logged_in.proof() {
            Proof::Scram(keys) => Some(Credential::Keys(keys.clone().into())),
            Proof::Password(password) => {
                std::str::from_utf8(password).ok().map(|text| Credential::Password(Secret::new(text)))
            }
            Proof::Trusted | Proof::Md5 => None,
        };
        Ok(Proven { logged_in, credential: credential.or(proof) })
    }

    /// What an md5 challenge is checked against; `None`: the exchange is SCRAM.
    fn md5_secret(&self, method: AuthMethod, wish: &Wish, known: &Known) -> Option<Md5Secret> {
        match &known.secret {
            // A stored md5 hash cannot serve SCRAM; where SCRAM alone was asked for, such a user cannot log in.
            UserSecret::Md5(hash) if method != AuthMethod::ScramSha256 => {
                Md5Secret::parse(hash.reveal()).or_else(|| Some(Md5Secret::mock()))
            }
            UserSecret::Plain(password) if method == AuthMethod::Md5 => {
                Some(Md5Secret::from_password(wish.user.as_bytes(), password.reveal().as_bytes()))
            }
            UserSecret::None if method == AuthMethod::Md5 && !self.secrets.shape().scram => Some(Md5Secret::mock()),
            _ => None,
        }
    }

    async fn by_scram(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        known: &Known,
    ) -> Result<LoggedIn, Denied> {
        let verifier = self.verifier(wish, known)?;
        let mut nonce = [0; 18];
        rand::rng().fill_bytes(&mut nonce);
        let awaiting = started.scram(verifier, nonce, guest.channel_binding(), &mut guest.out)?;
        let awaiting = guest.password(|frame, out| awaiting.receive(frame, out)).await?;
        guest.password(|frame, out| awaiting.receive(frame, out)).await
    }

    /// Asks for the password in clear text. Whatever is stored, and if nothing is, one key is derived: the time tells
    /// nobody who exists.
    async fn by_password(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        known: &Known,
    ) -> Result<LoggedIn, Denied> {
        let verifier = self.verifier(wish, known)?;
        let awaiting = started.cleartext(&mut guest.out);
        let cleartext = guest.password(|frame, _| awaiting.receive(frame)).await?;
        let mut right = verifier.matches(cleartext.password());
        if let UserSecret::Md5(hash) = &known.secret {
            let hash = Md5Secret::parse(hash.reveal()).unwrap_or_else(Md5Secret::mock);
            right = hash.matches(wish.user.as_bytes(), cleartext.password());
        }
        if right { Ok(cleartext.accept(&mut guest.out)) } else { Err(cleartext.refuse().into()) }
    }

    /// What a SCRAM exchange is checked against: for a user without a password or a verifier one that nothing fits.
    fn verifier(&self, wish: &Wish, known: &Known) -> Result<ScramVerifier, wire::Error> {
        let name = wish.user.as_bytes();
        let mock = || ScramVerifier::mock(&self.secret, name, self.secrets.shape().iterations);
        match &known.secret {
            UserSecret::Plain(password) => self.derived(&wish.user, password),
            UserSecret::Scram(verifier) => Ok(ScramVerifier::parse(verifier.reveal()).unwrap_or_else(mock)),
            UserSecret::Md5(_) | UserSecret::None => Ok(mock()),
        }
    }

    /// The verifier of a plain password. Deriving it takes over a millisecond: once for each password.
    fn derived(&self, user: &str, password: &Secret) -> Result<ScramVerifier, wire::Error> {
        if let Some((known, verifier)) = self.verifiers.borrow().get(user)
            && known == password
        {
            return Ok(verifier.clone());
        }
        let salt = scram::user_salt(&self.secret, user.as_bytes());
        let verifier = ScramVerifier::from_password(password.reveal().as_bytes(), &salt, scram::DEFAULT_ITERATIONS)?;
        let mut verifiers = self.verifiers.borrow_mut();
        if verifiers.len() >= MAX_VERIFIERS {
            verifiers.clear();
        }
        verifiers.insert(user.to_owned(), (password.clone(), verifier.clone()));
        Ok(verifier)
    }
}
