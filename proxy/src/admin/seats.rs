//! Who holds the connections of the admin port. No address can take them all, whether or not it has a token: those that ask
//! whether the process is well, and those on this machine, still get in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::login::rate::Source;
use crate::telemetry::lock;

/// Connections served at once; the next one is closed at once.
const MAX_CONNECTIONS: usize = 64;
/// Those of one address beyond this machine; an IPv6 address counts with its whole /64.
const MAX_OF_ADDRESS: usize = 16;
/// Those that the network leaves to this machine. Loopback has no bound of its own: a tunnel or a server in front may bring
/// everybody from there.
const KEPT: usize = 8;

/// The connections of the port.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    remote: usize,
    of: HashMap<Source, usize>,
}

/// A connection's place; given back with it.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    /// `None`: this machine.
    source: Option<Source>,
    _place: OwnedSemaphorePermit,
}

impl Default for Seats {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_CONNECTIONS)), taken: Arc::default() }
    }
}

impl Seats {
    /// A place for a connection from there; `None`: there is none.
    pub(super) fn take(&self, from: IpAddr) -> Option<Seat> {
        let source = Some(from.to_canonical()).filter(|from| !from.is_loopback()).map(Source::of);
        let mut taken = lock(&self.taken);
        if let Some(source) = source {
            let own = taken.of.get(&source).copied().unwrap_or(0);
            if taken.remote >= MAX_CONNECTIONS - KEPT || own >= MAX_OF_ADDRESS {
                return None;
            }
        }
        let place = Arc::clone(&self.all).try_acquire_owned().ok()?;
        if let Some(source) = source {
            taken.remote += 1;
            *taken.of.entry(source).or_default() += 1;
        }
        Some(Seat { taken: Arc::clone(&self.taken), source, _place: place })
    }

    /// Returns when all have been given back.
    pub(super) async fn emptied(&self) {
        drop(self.all.acquire_many(MAX_CONNECTIONS as u32).await);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut taken = lock(&self.taken);
        taken.remote = taken.remote.saturating_sub(1);
        if let Some(own) = taken.of.get_mut(&source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.of.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(all: &Seats, from: &str, wanted: usize) -> Vec<Seat> {
        let from = from.parse().unwrap();
        (0..wanted).map_while(|_| all.take(from)).collect()
    }

    #[test]
    fn no_address_holds_all_connections() {
        let all = Seats::default();
        let mut greedy = seats(&all, "192.0.2.1", 100);
        assert_eq!(greedy.len(), MAX_OF_ADDRESS);
        assert_eq!(seats(&all, "::ffff:192.0.2.1", 1).len(), 0, "the same address written otherwise");
        let neighbours = [seats(&all, "2001:db8::1", 9), seats(&all, "2001:db8::2", 9)];
        assert_eq!(neighbours.iter().map(Vec::len).sum::<usize>(), MAX_OF_ADDRESS, "one network of IPv6");
        greedy.pop();
        assert_eq!(seats(&all, "192.0.2.1", 2).len(), 1, "what is given back can be had again");
    }

    #[test]
    fn the_network_leaves_this_machine_room() {
        let all = Seats::default();
        let remote: Vec<_> = (1..10).flat_map(|n| seats(&all, &format!("192.0.2.{n}"), 100)).collect();
        assert_eq!(remote.len(), MAX_CONNECTIONS - KEPT);
        let local = [seats(&all, "127.0.0.1", 5), seats(&all, "::1", 100)];
        assert_eq!(local.iter().map(Vec::len).sum::<usize>(), KEPT);
        drop((remote, local));
        assert!(lock(&all.taken).of.is_empty(), "nothing is left of those that are gone");
        assert_eq!(seats(&all, "127.0.0.1", 100).len(), MAX_CONNECTIONS);
    }
}
