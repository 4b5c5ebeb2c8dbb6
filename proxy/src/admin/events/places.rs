//! Who has how many streams of events open.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::telemetry::lock;

/// Streams at once.
const MAX_STREAMS: usize = 16;
/// Those of one token: one reader's many windows leave room for the others.
const MAX_OF_TOKEN: usize = 4;

/// The places of all streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By the token's name.
    of: HashMap<String, usize>,
}

/// A stream's place; given back with it.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    token: Option<String>,
}

/// No place is left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// For nobody.
    All,
    /// For this token.
    Token,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "{MAX_STREAMS} streams of events are open already"),
            Self::Token => write!(f, "{MAX_OF_TOKEN} streams of events are open already with this token"),
        }
    }
}

impl Places {
    /// A place for a stream of a token; `None`: no token is set, and everybody is the same.
    pub(super) fn take(&self, token: Option<&str>) -> Result<Place, Full> {
        let mut taken = lock(&self.0);
        if taken.all >= MAX_STREAMS {
            return Err(Full::All);
        }
        if let Some(token) = token {
            let own = taken.of.entry(token.to_owned()).or_default();
            if *own >= MAX_OF_TOKEN {
                return Err(Full::Token);
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Place { places: self.clone(), token: token.map(str::to_owned) })
    }

    /// Streams that are open.
    pub(super) fn taken(&self) -> usize {
        lock(&self.0).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.0);
        taken.all = taken.all.saturating_sub(1);
        let Some(token) = &self.token else { return };
        if let Some(own) = taken.of.get_mut(token) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.of.remove(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_takes_the_places_of_others() {
        let places = Places::default();
        let mut own: Vec<Place> = (0..MAX_OF_TOKEN).map(|_| places.take(Some("acme")).unwrap()).collect();
        assert_eq!(places.take(Some("acme")).unwrap_err(), Full::Token);
        let others: Vec<Place> = (0..MAX_STREAMS - MAX_OF_TOKEN).map(|_| places.take(None).unwrap()).collect();
        assert_eq!(places.take(Some("beta")).unwrap_err(), Full::All);
        own.pop();
        assert_eq!(places.taken(), MAX_STREAMS - 1);
        assert!(places.take(Some("acme")).is_ok());
        drop((own, others));
        assert_eq!((places.taken(), lock(&places.0).of.len()), (0, 0), "nothing is left of those that are gone");
    }
}
