//! Many who want the same at once: one asks, the others wait for what comes of it.
//!
//! | state of a key | who comes | what is done |
//! |---|---|---|
//! | nobody asks | anybody | he asks: a [`Flight`] |
//! | somebody asks | who has not waited for this request yet | waits |
//! | somebody asks | who has waited once | asks for himself, without a flight |
//! | it has landed: kept, refused, failed, given up, or slow to its own client | those who wait | are woken, and look again |
//!
//! To wait promises nothing. Who is woken looks the key up as anybody does, and goes to the server when nothing true is
//! there: so it needs no proof of its own.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, PoisonError};

use policy::cache::Key;

use super::post::{Post, Waiter};
use super::store::Own;

/// Clients that wait for one key. Whoever comes then asks for himself.
const MAX_WAITERS: usize = 10_000;

type Waiters = HashMap<Arc<Key>, Vec<Waiter>, BuildHasherDefault<Own>>;

/// What all flights share.
#[derive(Debug, Default)]
struct Inner {
    waiters: Mutex<Waiters>,
    post: Post,
}

/// What is being asked for.
#[derive(Debug, Default)]
pub struct Flights(Arc<Inner>);

/// What whoever misses an answer does.
#[derive(Debug)]
pub enum Takeoff {
    /// He asks, and tells those who wait when it has landed.
    Leads(Flight),
    /// He waits: he is woken.
    Waits,
    /// He asks for himself.
    Alone,
}

/// Somebody asks. It lands when this is dropped, however that comes about: see [`Flight::land`].
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Inner>,
    key: Arc<Key>,
    landed: bool,
}

impl Flights {
    /// None is under way.
    pub fn new(post: Post) -> Self {
        Self(Arc::new(Inner { post, ..Inner::default() }))
    }

    /// Nothing true is kept under a key. `waits`: whether this client may wait for somebody else.
    pub fn takeoff(&self, key: &Arc<Key>, waiter: Waiter, waits: bool) -> Takeoff {
        let mut flights = self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.get_mut(key) {
            Some(waiters) if waits && waiters.len() < MAX_WAITERS => {
                waiters.push(waiter);
                Takeoff::Waits
            }
            Some(_) => Takeoff::Alone,
            None => {
                flights.insert(Arc::clone(key), Vec::new());
                Takeoff::Leads(Flight { flights: Arc::clone(&self.0), key: Arc::clone(key), landed: false })
            }
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many clients wait for one of them.
    pub fn waiting(&self) -> usize {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Flight {
    /// It has landed, whatever came of it: those who wait look again.
    pub fn land(&mut self) {
        if std::mem::replace(&mut self.landed, true) {
            return;
        }
        let waiters = self.flights.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.flights.post.wake(&waiters.unwrap_or_default());
    }
}

impl Drop for Flight {
    /// No I/O: a letter to the workers of those who wait.
    fn drop(&mut self) {
        self.land();
    }
}

#[cfg(test)]
mod tests {
    use policy::cache::{Parts, Protocol};

    use super::*;
    use crate::worker::Mail;

    fn key(text: &str) -> Arc<Key> {
        let mut sets = policy::cache::OutputSettings::default();
        let epoch = policy::cache::Database::new(policy::cache::Slot::not_needed(std::time::Instant::now())).epoch();
        let parts = Parts {
            epoch,
            tenant: "",
            place: "",
            prepared: None,
            database: "",
            text: text.as_bytes(),
            protocol: Protocol::Simple,
            parameter_types: &[],
            parameters: &[],
            result_formats: &[],
            relations: &[],
            role: "",
            session_user: "",
            inputs: &[],
            settings: sets.id([]).unwrap(),
            rule: (1, 0),
        };
        Arc::new(Key::of(&parts).unwrap())
    }

    #[test]
    fn one_asks_and_the_others_wait_once() {
        let (mail, mut letters): (Vec<_>, Vec<_>) = (0..2).map(|_| tokio::sync::mpsc::unbounded_channel()).unzip();
        let flights = Flights::new(Post::new(mail.into()));
        let (a, b) = (key("a"), key("b"));
        let Takeoff::Leads(mut flight) = flights.takeoff(&a, (0, 1), true) else { panic!("nobody asks yet") };
        assert!(matches!(flights.takeoff(&a, (1, 2), true), Takeoff::Waits));
        assert!(matches!(flights.takeoff(&a, (0, 3), false), Takeoff::Alone));
        assert!(matches!(flights.takeoff(&b, (0, 4), true), Takeoff::Leads(_)), "another key");
        flight.land();
        drop(flight);
        assert!(matches!(letters[1].try_recv(), Ok(Mail::Landed(clients)) if clients == [2]));
        assert!(letters.iter_mut().all(|letters| letters.try_recv().is_err()), "only once, and nobody else");
        assert!(matches!(flights.takeoff(&a, (0, 5), true), Takeoff::Leads(_)));
    }
}
