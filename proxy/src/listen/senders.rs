//! Who notifies: the process id that a client was told, in the place of its server's.
//!
//! A server's process serves one client after another, and a notification bears its number alone. So it stands for a
//! client only while that client has it *and* every listener has heard what was notified there before, and no longer than
//! until every listener has heard what this client has notified ([`session`](crate::session) asks for both by
//! `What::CatchUp`). Whatever comes outside of that time bears the server's number: true, and nobody else's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::{Ask, Listener, Listeners, What, lock};
use crate::shared::Shared;
use crate::upstream::dial::Target;
use crate::upstream::server::Address;

/// What clients were told, by their servers' processes.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<HashMap<(Address, u32), u32>>);

impl Senders {
    /// What the client was told that this process of a server stands for now; else the process.
    pub(super) fn told(&self, server: &Address, process: u32) -> u32 {
        let senders = lock(&self.0);
        // The usual case costs no copy of the address.
        if senders.is_empty() {
            return process;
        }
        senders.get(&(server.clone(), process)).copied().unwrap_or(process)
    }
}

/// A server's process that stands for a client, until this ceases to exist.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    process: (Address, u32),
}

impl Sender {
    /// From now on the notifications of this process are those of the client that was told `told`.
    pub fn new(shared: &Arc<Shared>, server: Address, process: u32, told: u32) -> Self {
        let process = (server, process);
        lock(&shared.listeners.senders.0).insert(process.clone(), told);
        Self { shared: shared.clone(), process }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        lock(&self.shared.listeners.senders.0).remove(&self.process);
    }
}

/// A listener that is asked how far it has come by a client that need not listen itself. It goes on as long as this exists.
#[derive(Debug)]
pub struct Witness(Arc<Listener>);

impl Witness {
    /// Asks for everything that was notified until now; the answer bears this number.
    pub fn catch_up(&self, client: u64, worker: usize, number: u64) {
        // A listener outlives its witnesses, except at the very end of the process.
        drop(self.0.asks.send(Ask { client, worker, what: What::CatchUp(number) }));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Listeners {
    /// Nobody listens by one of them, anywhere.
    #[inline]
    pub fn are_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// All that may hear what is notified on an upstream of this target.
    pub fn witnesses(&self, target: &Target) -> Vec<Witness> {
        let listeners = lock(&self.by_place);
        let here = |listener: &&Arc<Listener>| {
            listener.place.database == target.database && listener.place.hosts == target.hosts
        };
        let here = listeners.values().filter(here);
        // Counted with the table locked, so that none of them retires.
        here.map(|listener| {
            listener.subscriptions.fetch_add(1, Ordering::AcqRel);
            Witness(listener.clone())
        })
        .collect()
    }
}
