//! Browsers that have logged in. A page cannot send a token with each request, so it is lent a number in its place.
//!
//! A session lives as long as its token stands in the configuration, is used at least once in [`IDLE`], and not beyond
//! [`LIFETIME`]. What is kept of its number is a hash: whoever reads the memory cannot log in with it. The table is bounded, and a
//! token has so many at most, so that nobody crowds others out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::TokenDigest;
use sha2::{Digest as _, Sha256};

/// A session that is not used for so long is over.
pub(super) const IDLE: Duration = Duration::from_secs(3_600);
/// A session is over after so long, however much it is used.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once; beyond, the one that was not used for longest ends.
const MAX_SESSIONS: usize = 1_000;
/// Sessions of one token at once, likewise.
const MAX_PER_TOKEN: usize = 32;

/// A session's number, 256 random bits, in hexadecimal digits. Nobody but its browser keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionId(String);

impl SessionId {
    /// Of these random bytes.
    pub(super) fn new(random: [u8; 32]) -> Self {
        Self(hex(&random))
    }

    /// As a browser gives it back.
    pub(super) fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As a browser is given it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The token that it was begun with.
    pub(super) token: TokenDigest,
    /// What forms send back.
    pub(super) csrf: Arc<str>,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE || now.saturating_duration_since(self.begun) >= LIFETIME
    }
}

/// All of them, by the hash of their numbers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: HashMap<[u8; 32], Session>,
}

impl Sessions {
    /// Begins one with a token that has just been proven.
    pub(super) fn begin(&mut self, id: &SessionId, token: TokenDigest, csrf: Arc<str>, now: Instant) {
        self.known.retain(|_, session| !session.is_over(now));
        if self.known.values().filter(|session| session.token == token).count() >= MAX_PER_TOKEN {
            self.end_oldest(|session| session.token == token);
        } else if self.known.len() >= MAX_SESSIONS {
            self.end_oldest(|_| true);
        }
        self.known.insert(id.digest(), Session { token, csrf, begun: now, used: now });
    }

    /// The session of this number, which is used now. `None`: there is none, or it is over, or its token is not valid any
    /// more.
    pub(super) fn find(
        &mut self,
        id: &SessionId,
        is_valid: impl FnOnce(&TokenDigest) -> bool,
        now: Instant,
    ) -> Option<Session> {
        let key = id.digest();
        let session = self.known.get_mut(&key)?;
        if session.is_over(now) || !is_valid(&session.token) {
            self.known.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends one.
    pub(super) fn end(&mut self, id: &SessionId) {
        self.known.remove(&id.digest());
    }

    fn end_oldest(&mut self, of: impl Fn(&Session) -> bool) {
        let oldest = self.known.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SessionId {
        let mut random = [0; 32];
        random[..8].copy_from_slice(&number.to_be_bytes());
        SessionId::new(random)
    }

    fn token(text: &str) -> TokenDigest {
        TokenDigest::of(text.as_bytes())
    }

    fn begun(now: Instant) -> Sessions {
        let mut sessions = Sessions::default();
        sessions.begin(&id(1), token("a"), "proof".into(), now);
        sessions
    }

    #[test]
    fn a_session_is_found_by_its_number_alone() {
        let now = Instant::now();
        let mut sessions = begun(now);
        let found = sessions.find(&SessionId::given(id(1).as_str()), |_| true, now).unwrap();
        assert_eq!((found.token, &*found.csrf), (token("a"), "proof"));
        assert_eq!(id(1).as_str().len(), 64);
        assert!(sessions.find(&id(2), |_| true, now).is_none());
        assert!(sessions.find(&SessionId::given(""), |_| true, now).is_none());
        // The number itself is not there to be read.
        assert!(!format!("{sessions:?}").contains(&id(1).as_str()[..16]));
        sessions.end(&id(1));
        assert!(sessions.find(&id(1), |_| true, now).is_none());
    }

    #[test]
    fn one_that_is_not_used_ends_and_so_does_one_that_is_old() {
        let start = Instant::now();
        let mut sessions = begun(start);
        assert!(sessions.find(&id(1), |_| true, start + IDLE).is_none(), "not used for an hour");
        let mut sessions = begun(start);
        let mut now = start;
        let last = loop {
            now += IDLE - Duration::from_secs(1);
            if sessions.find(&id(1), |_| true, now).is_none() {
                break now;
            }
        };
        assert!(last >= start + LIFETIME && last < start + LIFETIME + IDLE, "used all the time");
        assert!(sessions.known.is_empty());
    }

    #[test]
    fn one_whose_token_is_gone_is_gone_and_does_not_come_back() {
        let now = Instant::now();
        let mut sessions = begun(now);
        assert!(sessions.find(&id(1), |known| *known == token("b"), now).is_none());
        assert!(sessions.find(&id(1), |known| *known == token("a"), now).is_none());
    }

    #[test]
    fn the_table_has_an_end_and_no_token_crowds_others_out() {
        let start = Instant::now();
        let mut sessions = begun(start);
        let later = start + Duration::from_secs(1);
        for number in 0..100 {
            sessions.begin(&id(100 + number), token("flood"), "p".into(), later);
        }
        assert_eq!(sessions.known.len(), 1 + MAX_PER_TOKEN);
        assert!(sessions.find(&id(1), |_| true, later).is_some());
        for number in 0..1_100 {
            sessions.begin(&id(1_000 + number), token(&number.to_string()), "p".into(), later);
        }
        assert_eq!(sessions.known.len(), MAX_SESSIONS);
        sessions.begin(&id(9), token("c"), "p".into(), later + IDLE);
        assert_eq!(sessions.known.len(), 1, "those that are over make room");
    }
}
