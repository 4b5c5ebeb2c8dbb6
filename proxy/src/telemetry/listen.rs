//! What is counted of LISTEN over shared connections.

use super::cell::{Counter, Gauge};

/// One thread's numbers: those of listeners are the control thread's, those of clients their worker's.
#[derive(Debug, Default)]
pub struct ListenLoad {
    /// Connections that listen.
    pub connections: Gauge,
    /// Clients that listen by them.
    pub clients: Gauge,
    /// Channels that they listen to.
    pub channels: Gauge,
    /// Notifications that servers sent.
    pub received: Counter,
    /// Notifications passed to workers: one for each client that hears of the channel.
    pub told: Counter,
    /// Such connections lost.
    pub losses: Counter,
    /// Notifications given to clients.
    pub delivered: Counter,
    /// Clients closed because they did not take theirs.
    pub overflows: Counter,
}

/// The numbers of all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenTotals {
    /// Connections that listen.
    pub connections: i64,
    /// Clients that listen by them.
    pub clients: i64,
    /// Channels that they listen to.
    pub channels: i64,
    /// Notifications that servers sent.
    pub received: u64,
    /// Notifications passed to workers.
    pub told: u64,
    /// Such connections lost.
    pub losses: u64,
    /// Notifications given to clients.
    pub delivered: u64,
    /// Clients closed because they did not take theirs.
    pub overflows: u64,
}

impl ListenTotals {
    /// Adds one thread's numbers.
    pub(super) fn add(&mut self, load: &ListenLoad) {
        self.connections += load.connections.value();
        self.clients += load.clients.value();
        self.channels += load.channels.value();
        self.received += load.received.value();
        self.told += load.told.value();
        self.losses += load.losses.value();
        self.delivered += load.delivered.value();
        self.overflows += load.overflows.value();
    }
}
