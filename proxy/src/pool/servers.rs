//! The servers that a pool is connected to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::upstream::server::Server;

/// The servers that a pool is connected to, retired ones among them as long as they have upstreams.
#[derive(Debug, Default)]
pub struct Servers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Counts how often all of them were retired: an attempt that began before does not count as new.
    generation: u64,
    list: Vec<Arc<Server>>,
}

impl Servers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be read before an attempt to connect begins.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// An attempt that began in `generation` has reached this server. Returns the one that its upstream belongs to.
    pub fn adopt(&self, server: Arc<Server>, generation: u64) -> Arc<Server> {
        let mut inner = self.lock();
        inner.list.retain(|known| !known.is_retired() || known.upstreams() > 0);
        if generation != inner.generation {
            server.retire();
        }
        let same = |known: &&Arc<Server>| {
            (&known.host, &known.address, known.is_retired()) == (&server.host, &server.address, server.is_retired())
        };
        let known = inner.list.iter().find(same).cloned();
        let server = known.unwrap_or_else(|| {
            inner.list.push(server.clone());
            server
        });
        // Counted under the lock, so that it is not taken for an unused one before its upstream has its berth.
        server.upstreams.fetch_add(1, Ordering::Relaxed);
        server
    }

    /// An upstream that was adopted has ceased to exist.
    pub fn left(&self, server: &Server) {
        server.upstreams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Retires those that `which` picks. Returns how many.
    pub fn retire(&self, mut which: impl FnMut(&Server) -> bool) -> usize {
        let inner = self.lock();
        let picked = inner.list.iter().filter(|server| !server.is_retired() && which(server));
        picked.map(|server| server.retire()).count()
    }

    /// Retires all of them, attempts under way included.
    pub fn retire_all(&self) {
        self.lock().generation += 1;
        self.retire(|_| true);
    }

    /// The one with this number.
    pub fn find(&self, id: u64) -> Option<Arc<Server>> {
        self.lock().list.iter().find(|server| server.id == id).cloned()
    }

    /// Those that are in use and not retired.
    pub fn in_use(&self) -> Vec<Arc<Server>> {
        self.lock().list.iter().filter(|server| !server.is_retired() && server.upstreams() > 0).cloned().collect()
    }

    /// Upstreams that are to be closed at their next boundary.
    pub fn retiring(&self) -> usize {
        self.lock().list.iter().filter(|server| server.is_retired()).map(|server| server.upstreams()).sum()
    }
}

#[cfg(test)]
mod tests {
    use config::Host;

    use super::*;
    use crate::upstream::server::Address;

    fn server(id: u64, last: u8) -> Arc<Server> {
        let address = Address::Tcp(([127, 0, 0, last], 5432).into());
        Arc::new(Server::new(id, Host { name: "db".to_owned(), port: 5432 }, address))
    }

    #[test]
    fn one_address_is_one_server_until_it_is_retired() {
        let servers = Servers::default();
        let first = servers.adopt(server(1, 1), 0);
        assert_eq!(servers.adopt(server(2, 1), 0).id, 1);
        assert_eq!(servers.adopt(server(3, 2), 0).id, 3);
        assert_eq!(servers.retire(|server| server.id == 1), 1);
        assert_eq!((servers.retiring(), servers.in_use().len()), (2, 1));
        assert_eq!(servers.adopt(server(4, 1), 0).id, 4, "whoever connects there again finds a new one");
        servers.left(&first);
        servers.left(&first);
        assert_eq!((servers.retiring(), servers.in_use().len()), (0, 2));
    }

    #[test]
    fn an_attempt_that_began_before_all_were_retired_is_retired_when_it_succeeds() {
        let servers = Servers::default();
        let generation = servers.generation();
        servers.retire_all();
        let late = servers.adopt(server(1, 1), generation);
        assert!(late.is_retired());
        assert_eq!(servers.adopt(server(2, 1), generation).id, 1);
        assert_eq!(servers.retiring(), 2);
        assert!(!servers.adopt(server(3, 1), servers.generation()).is_retired());
    }
}
