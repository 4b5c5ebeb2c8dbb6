//! What is known of a user: listed in the configuration, or asked of a server and kept for a while.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use config::{Settings, UserSecret};
use policy::verdict::{LoginRefusal, Refusal};
use wire::login::{ScramVerifier, scram};

use super::auth_query::Asker;
use super::{Denied, Gate, Wish};
use crate::login::target::asking_target;
use crate::upstream::dial::Credential;

/// Servers, databases and queries that answers are kept of. With a wildcard database clients choose the names.
const MAX_ASKERS: usize = 64;

/// What is known of a user.
pub(super) struct Known {
    /// The secret; `None` within: there is none, and perhaps no such user.
    pub(super) secret: UserSecret,
    /// Who was asked, and when.
    asked: Option<(Rc<Asker>, Instant)>,
    for_the_server: bool,
}

impl Known {
    /// Of somebody who is not asked for a secret.
    pub(super) fn nothing() -> Self {
        Self { secret: UserSecret::None, asked: None, for_the_server: false }
    }

    /// What the configuration itself knows of a user.
    pub(super) fn listed(settings: &Settings, user: &str) -> Self {
        let listed = settings.users.get(user).map(|user| user.secret.clone());
        Self { secret: listed.unwrap_or(UserSecret::None), ..Self::nothing() }
    }

    /// Nothing is stored, and nobody but the server can be asked to judge a password.
    pub(super) fn is_for_the_server(&self) -> bool {
        self.for_the_server
    }

    /// What the secret itself is worth on a server: a verifier alone is worth nothing.
    pub(super) fn credential(&self) -> Option<Credential> {
        match &self.secret {
            UserSecret::Plain(password) => Some(Credential::Password(password.clone())),
            UserSecret::Md5(hash) => Some(Credential::Md5(hash.clone())),
            UserSecret::Scram(_) | UserSecret::None => None,
        }
    }

    /// A login against this secret has failed: it may have been changed meanwhile.
    pub(super) fn has_failed(&self, user: &str, now: Instant) {
        if let Some((asker, at)) = &self.asked {
            asker.doubt(user, *at, now);
        }
    }
}

/// How the exchange with a user looks, so that one who does not exist can be met in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Secrets are SCRAM verifiers.
    pub(super) scram: bool,
    /// Their iterations.
    pub(super) iterations: u32,
}

impl Shape {
    fn of(secret: &UserSecret) -> Option<Self> {
        let UserSecret::Scram(verifier) = secret else { return None };
        let iterations = ScramVerifier::parse(verifier.reveal())?.iterations();
        Some(Self { scram: true, iterations })
    }
}

/// What logins know of secrets beyond the configuration.
pub(super) struct Secrets {
    askers: RefCell<Vec<Rc<Asker>>>,
    shape: Cell<Shape>,
    /// The settings that `shape` was read off.
    read_off: RefCell<Option<Arc<Settings>>>,
}

impl Default for Secrets {
    fn default() -> Self {
        let shape = Shape { scram: false, iterations: scram::DEFAULT_ITERATIONS };
        Self { askers: RefCell::default(), shape: Cell::new(shape), read_off: RefCell::default() }
    }
}

impl Secrets {
    /// How users who do not exist are met.
    pub(super) fn shape(&self) -> Shape {
        self.shape.get()
    }

    /// Looks at the listed users once for each reload.
    fn look_at(&self, settings: &Arc<Settings>) {
        let mut read_off = self.read_off.borrow_mut();
        if read_off.as_ref().is_some_and(|read| Arc::ptr_eq(read, settings)) {
            return;
        }
        *read_off = Some(settings.clone());
        if let Some(shape) = settings.users.values().find_map(|user| Shape::of(&user.secret)) {
            self.shape.set(shape);
        }
    }

    /// The one who asks this, with the answers it remembers.
    fn asker(&self, asker: Asker) -> Rc<Asker> {
        let mut askers = self.askers.borrow_mut();
        if let Some(known) = askers.iter().find(|known| known.asks_the_same(&asker)) {
            return known.clone();
        }
        if askers.len() >= MAX_ASKERS {
            // The oldest that nobody uses now. If all are in use, this one is not kept.
            match askers.iter().position(|asker| Rc::strong_count(asker) == 1) {
                Some(unused) => drop(askers.remove(unused)),
                None => return Rc::new(asker),
            }
        }
        let asker = Rc::new(asker);
        askers.push(asker.clone());
        asker
    }
}

impl Gate {
    /// Looks at how the exchange with the listed users looks.
    pub(super) fn look_at_secrets(&self, settings: &Arc<Settings>) {
        self.secrets.look_at(settings);
    }

    /// What is known of the user that a client says it is.
    pub(super) async fn known(&self, wish: &Wish, settings: &Arc<Settings>) -> Result<Known, Denied> {
        self.secrets.look_at(settings);
        let listed = settings.users.get(&wish.user).map(|user| &user.secret);
        if let Some(secret) = listed.filter(|secret| **secret != UserSecret::None) {
            return Ok(Known { secret: secret.clone(), ..Known::nothing() });
        }
        let Some((target, query, pool)) = asking_target(settings, &wish.database) else {
            return Ok(Known { for_the_server: true, ..Known::nothing() });
        };
        let asker = self.secrets.asker(Asker::new(target, &query.text));
        match asker.secret_of(&wish.user, &settings.auth, pool, &self.shared).await {
            Ok((secret, at)) => {
                if let Some(shape) = Shape::of(&secret) {
                    self.secrets.shape.set(shape);
                }
                Ok(Known { secret, asked: Some((asker, at)), for_the_server: false })
            }
            Err(why) => {
                tracing::warn!(server = %asker.target, user = %wish.user, %why, "a user's secret could not be looked up");
                Err(Refusal::Login(LoginRefusal::LookUp { user: wish.shown_user() }).into())
            }
        }
    }
}
