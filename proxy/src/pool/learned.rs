//! What a pool's clients have proven to the server, for the pool's own connections.
//!
//! Where the configuration has nothing to log in to the server with, a client's login leaves it: the password that the
//! server itself has accepted, or the keys of the client's SCRAM exchange, whose verifier the server has as well. It is
//! kept in memory, for its pool alone, and wiped with it. When the server refuses it, it is dropped: nothing is tried
//! again until the next login, so that a password that was changed costs the server no stream of failed attempts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::upstream::dial::Credential;

/// What was proven; empty at first.
#[derive(Debug, Default)]
pub struct Learned(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    Known(Credential, Instant),
    /// The server has refused what was known last.
    Refused,
}

impl Learned {
    /// A client has proven this. `true`: the server had refused what was known before, so that this is worth a try at
    /// once.
    pub fn learn(&self, credential: Credential, now: Instant) -> bool {
        let mut state = self.state();
        let was_refused = matches!(*state, State::Refused);
        *state = State::Known(credential, now);
        was_refused
    }

    /// What connections to the server may use. `None`: it was refused, and nobody has logged in since.
    pub fn credential(&self) -> Option<Credential> {
        match &*self.state() {
            State::Nothing => Some(Credential::None),
            State::Known(credential, _) => Some(credential.clone()),
            State::Refused => None,
        }
    }

    /// What the server has accepted less than `age` ago.
    pub fn since(&self, now: Instant, age: Duration) -> Option<Credential> {
        match &*self.state() {
            State::Known(credential, at) if now.saturating_duration_since(*at) < age => Some(credential.clone()),
            _ => None,
        }
    }

    /// The server refuses `used`. What was learned meanwhile is kept.
    pub fn refuse(&self, used: &Credential) {
        let mut state = self.state();
        if matches!(&*state, State::Known(known, _) if known == used) {
            *state = State::Refused;
        }
    }

    /// After a reload: what is known of another server (or user) is of no use, and that a server wants no password is
    /// to be seen anew.
    pub fn reload(&self, moved: bool) {
        let mut state = self.state();
        if moved || matches!(*state, State::Known(Credential::None, _)) {
            *state = State::Nothing;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Credential {
        Credential::Password(config::Secret::new(text))
    }

    #[test]
    fn what_is_refused_is_dropped_until_somebody_logs_in_again() {
        let (learned, now) = (Learned::default(), Instant::now());
        assert_eq!(learned.credential(), Some(Credential::None));
        assert!(!learned.learn(password("old"), now));
        assert_eq!(learned.credential(), Some(password("old")));
        learned.refuse(&password("older"));
        assert_eq!(learned.credential(), Some(password("old")), "another one was refused");
        learned.refuse(&password("old"));
        assert_eq!(learned.credential(), None);
        assert!(learned.learn(password("new"), now));
        assert_eq!(learned.credential(), Some(password("new")));
    }

    #[test]
    fn what_was_accepted_is_believed_for_a_while() {
        let (learned, now) = (Learned::default(), Instant::now());
        learned.learn(password("x"), now);
        let second = Duration::from_secs(1);
        assert_eq!(learned.since(now + second, 2 * second), Some(password("x")));
        assert_eq!(learned.since(now + 2 * second, 2 * second), None);
        assert_eq!(learned.since(now, Duration::ZERO), None);
    }

    #[test]
    fn a_reload_forgets_that_no_password_was_wanted() {
        let (learned, now) = (Learned::default(), Instant::now());
        learned.learn(Credential::None, now);
        learned.reload(false);
        assert_eq!(learned.since(now, Duration::from_secs(9)), None);
        learned.learn(password("x"), now);
        learned.reload(false);
        assert_eq!(learned.credential(), Some(password("x")));
        learned.reload(true);
        assert_eq!(learned.credential(), Some(Credential::None));
    }
}
