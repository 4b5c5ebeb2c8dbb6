//! Who hears of which channel. No socket, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::pool::Pool;

/// A channel's name.
pub(super) type Channel = Arc<[u8]>;

/// One client.
#[derive(Debug)]
struct Member {
    worker: usize,
    channels: BTreeSet<Channel>,
    /// As whom the listener may connect for its sake.
    pool: Arc<Pool>,
}

/// Clients and channels.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clients: BTreeMap<u64, Member>,
    /// Clients by channel and worker: a notification is one letter for each worker.
    channels: HashMap<Channel, BTreeMap<usize, BTreeSet<u64>>>,
}

impl Registry {
    /// A client hears of a channel from now on.
    pub(super) fn enter(&mut self, client: u64, worker: usize, pool: &Arc<Pool>, channel: &Channel) {
        let member = self.clients.entry(client).or_insert_with(|| Member {
            worker,
            channels: BTreeSet::new(),
            pool: pool.clone(),
        });
        // One name, one allocation, however many clients there are.
        let known = self.channels.get_key_value(channel).map_or_else(|| channel.clone(), |(known, _)| known.clone());
        member.channels.insert(known.clone());
        self.channels.entry(known).or_default().entry(worker).or_default().insert(client);
    }

    /// A client no longer hears of a channel; `true`: nobody does any more.
    pub(super) fn leave(&mut self, client: u64, channel: &Channel) -> bool {
        let Some(member) = self.clients.get_mut(&client) else { return false };
        if !member.channels.remove(channel) {
            return false;
        }
        let worker = member.worker;
        if member.channels.is_empty() {
            self.clients.remove(&client);
        }
        self.withdraw(client, worker, channel)
    }

    /// A client has gone: the channels that nobody hears of any more.
    pub(super) fn gone(&mut self, client: u64) -> Vec<Channel> {
        let Some(member) = self.clients.remove(&client) else { return Vec::new() };
        let channels = member.channels.into_iter();
        channels.filter(|channel| self.withdraw(client, member.worker, channel)).collect()
    }

    fn withdraw(&mut self, client: u64, worker: usize, channel: &Channel) -> bool {
        let Some(workers) = self.channels.get_mut(channel) else { return false };
        if let Some(clients) = workers.get_mut(&worker) {
            clients.remove(&client);
            if clients.is_empty() {
                workers.remove(&worker);
            }
        }
        let last = workers.is_empty();
        if last {
            self.channels.remove(channel);
        }
        last
    }

    /// Whether anybody hears of a channel.
    pub(super) fn has(&self, channel: &Channel) -> bool {
        self.channels.contains_key(channel)
    }

    /// The channel's one name, and the clients on each worker that hear of it.
    pub(super) fn audience(&self, channel: &[u8]) -> Option<(&Channel, &BTreeMap<usize, BTreeSet<u64>>)> {
        self.channels.get_key_value(channel)
    }

    /// Every client by worker.
    pub(super) fn everybody(&self) -> BTreeMap<usize, Vec<u64>> {
        let mut workers: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (client, member) in &self.clients {
            workers.entry(member.worker).or_default().push(*client);
        }
        workers
    }

    /// The pool of one of the clients: another `turn`, another client.
    pub(super) fn pool(&self, turn: usize) -> Option<&Arc<Pool>> {
        let count = self.clients.len().max(1);
        self.clients.values().nth(turn % count).map(|member| &member.pool)
    }

    /// How many clients and channels there are.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.clients.len(), self.channels.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pool;
    use super::*;

    fn channel(name: &str) -> Channel {
        name.as_bytes().into()
    }

    #[test]
    fn the_last_who_leaves_a_channel_closes_it() {
        let (mut registry, pool) = (Registry::default(), pool());
        let (news, other) = (channel("news"), channel("other"));
        registry.enter(1, 0, &pool, &news);
        registry.enter(1, 0, &pool, &other);
        registry.enter(2, 1, &pool, &news);
        assert_eq!(registry.size(), (2, 2));
        assert!(!registry.leave(1, &news), "the second client still listens");
        assert!(!registry.leave(1, &news), "it has left already");
        assert!(registry.has(&news));
        assert_eq!(registry.gone(2), std::slice::from_ref(&news));
        assert!(!registry.has(&news));
        assert_eq!(registry.gone(2), []);
        assert_eq!(registry.gone(1), [other]);
        assert_eq!((registry.size(), registry.everybody().len()), ((0, 0), 0));
    }

    #[test]
    fn an_audience_is_told_by_worker() {
        let (mut registry, pool) = (Registry::default(), pool());
        for client in 0..6 {
            registry.enter(client, client as usize % 2, &pool, &channel("news"));
        }
        let (_, audience) = registry.audience(b"news").unwrap();
        assert_eq!(audience[&0], BTreeSet::from([0, 2, 4]));
        assert_eq!(audience[&1], BTreeSet::from([1, 3, 5]));
        assert!(registry.audience(b"News").is_none());
        registry.gone(0);
        assert_eq!(registry.everybody(), BTreeMap::from([(0, vec![2, 4]), (1, vec![1, 3, 5])]));
    }

    #[test]
    fn a_client_whose_last_channel_goes_is_forgotten() {
        let (mut registry, pool) = (Registry::default(), pool());
        registry.enter(7, 0, &pool, &channel("a"));
        assert!(registry.pool(5).is_some());
        assert!(registry.leave(7, &channel("a")));
        assert!(registry.pool(0).is_none());
        assert_eq!(registry.size(), (0, 0));
    }
}
