//! What a listener does next, and whom it tells what. No socket, and `now` is an argument.
//!
//! One query at a time is under way. What is asked meanwhile shares the next one: however many clients catch up, it
//! costs the server one empty query.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::verdict::{ListenRefusal, Refusal};
use wire::view;

use super::registry::{Channel, Registry};
use super::{Ask, HEARTBEAT, News, Notification, PATIENCE, What};
use crate::pool::Pool;
use crate::trouble::Trouble;

/// Channels listened to by one query when a connection has been made anew.
const AT_ONCE: usize = 500;

/// News for some clients of one worker.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) worker: usize,
    pub(super) clients: Vec<u64>,
    pub(super) news: News,
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    client: u64,
    worker: usize,
    number: u64,
}

impl Waiting {
    fn letter(self, news: News) -> Letter {
        Letter { worker: self.worker, clients: vec![self.client], news }
    }
}

/// Somebody who wants to listen to more.
#[derive(Debug)]
struct Entering {
    who: Waiting,
    channels: Vec<Channel>,
    pool: Arc<Pool>,
    until: Instant,
}

/// The query that the server is answering.
#[derive(Debug)]
struct UnderWay {
    since: Instant,
    told: Vec<Waiting>,
    entering: Option<Entering>,
    again: Vec<Channel>,
    error: Option<([u8; 5], Box<str>)>,
}

/// The state of one listener.
#[derive(Debug)]
pub(super) struct Desk {
    registry: Registry,
    /// Channels that this connection listens to.
    on_server: HashSet<Channel>,
    /// Channels that the lost connection listened to, and this one does not yet.
    again: Vec<Channel>,
    entering: VecDeque<Entering>,
    catching_up: Vec<Waiting>,
    /// Channels that perhaps nobody hears of any more.
    leaving: Vec<Channel>,
    under_way: Option<UnderWay>,
    connected: bool,
    /// The connection was lost, and not everything is listened to again.
    restoring: bool,
    /// When the server was last heard.
    heard: Instant,
    letters: Vec<Letter>,
}

impl Desk {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            registry: Registry::default(),
            on_server: HashSet::new(),
            again: Vec::new(),
            entering: VecDeque::new(),
            catching_up: Vec::new(),
            leaving: Vec::new(),
            under_way: None,
            connected: false,
            restoring: false,
            heard: now,
            letters: Vec::new(),
        }
    }

    /// What has to be told, in order.
    pub(super) fn letters(&mut self) -> Vec<Letter> {
        std::mem::take(&mut self.letters)
    }

    /// Whether anybody listens or wants to.
    pub(super) fn is_needed(&self) -> bool {
        self.registry.size() != (0, 0)
    }

    /// How many clients and channels there are.
    pub(super) fn size(&self) -> (usize, usize) {
        self.registry.size()
    }

    /// As whom to connect; another `turn`, somebody else.
    pub(super) fn pool(&self, turn: usize) -> Option<Arc<Pool>> {
        self.registry.pool(turn).cloned()
    }

    /// A session asks for something.
    pub(super) fn ask(&mut self, ask: Ask, now: Instant) {
        let Ask { client, worker, what } = ask;
        match what {
            What::Enter(channels, pool, number) => {
                for channel in &channels {
                    self.registry.enter(client, worker, &pool, channel);
                }
                let until = now + pool.settings().queue_timeout;
                let who = Waiting { client, worker, number };
                self.entering.push_back(Entering { who, channels, pool, until });
            }
            What::CatchUp(number) => {
                let who = Waiting { client, worker, number };
                // Without a connection there is nothing to wait for, and the client has been told so.
                if self.connected {
                    self.catching_up.push(who)
                } else {
                    self.letters.push(who.letter(News::Done(number)))
                }
            }
            What::Leave(channels) => {
                for channel in channels {
                    if self.registry.leave(client, &channel) {
                        self.leaving.push(channel);
                    }
                }
            }
            What::Gone => {
                self.leaving.extend(self.registry.gone(client));
                self.entering.retain(|entering| entering.who.client != client);
                self.catching_up.retain(|who| who.client != client);
            }
        }
    }

    /// A connection has been made.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.heard = now;
        self.again.retain(|channel| self.registry.has(channel));
    }

    /// The connection is gone: everybody has to know.
    pub(super) fn lost(&mut self) {
        self.connected = false;
        let under_way = self.under_way.take();
        for (worker, clients) in self.registry.everybody() {
            self.letters.push(Letter { worker, clients, news: News::Lost });
        }
        self.restoring |= !self.on_server.is_empty() || !self.again.is_empty();
        self.again.extend(self.on_server.drain());
        let mut told = std::mem::take(&mut self.catching_up);
        if let Some(under_way) = under_way {
            self.again.extend(under_way.again);
            told.extend(under_way.told);
            if let Some(entering) = under_way.entering {
                self.entering.push_front(entering);
            }
        }
        self.letters.extend(told.into_iter().map(|who| who.letter(News::Done(who.number))));
    }

    /// The next query, if it is time for one.
    pub(super) fn next_query(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.under_way.is_some() || !self.connected {
            return None;
        }
        let mut sql = Vec::new();
        let again = self.again.split_off(self.again.len().saturating_sub(AT_ONCE));
        again.iter().for_each(|channel| write(&mut sql, "LISTEN", channel));
        // Apart from each other: a LISTEN that fails undoes what stands in the same query.
        if sql.is_empty() {
            for channel in std::mem::take(&mut self.leaving) {
                if !self.registry.has(&channel) && self.on_server.remove(&channel) {
                    write(&mut sql, "UNLISTEN", &channel);
                }
            }
        }
        let entering = if sql.is_empty() { self.entering.pop_front() } else { None };
        for channel in entering.iter().flat_map(|entering| &entering.channels) {
            if !self.on_server.contains(channel) {
                write(&mut sql, "LISTEN", channel);
            }
        }
        let told = std::mem::take(&mut self.catching_up);
        let silent = now.saturating_duration_since(self.heard) >= HEARTBEAT;
        let wanted = !sql.is_empty() || entering.is_some() || !told.is_empty() || silent;
        self.under_way = wanted.then_some(UnderWay { since: now, told, entering, again, error: None });
        wanted.then_some(sql)
    }

    /// The server says that the query under way failed.
    pub(super) fn failed(&mut self, code: [u8; 5], message: &str) {
        if let Some(under_way) = &mut self.under_way {
            under_way.error = Some((code, message.into()));
        }
    }

    /// The query under way has been answered. `false`: this server does not listen as the one before did.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.heard = now;
        let Some(UnderWay { told, entering, again, error, .. }) = self.under_way.take() else { return true };
        self.letters.extend(told.into_iter().map(|who| who.letter(News::Done(who.number))));
        if !again.is_empty() {
            if error.is_some() {
                self.again.extend(again);
                return false;
            }
            self.on_server.extend(again);
        }
        if let Some(entering) = entering {
            self.entered(entering, error);
        }
        if self.restoring && self.again.is_empty() {
            self.restoring = false;
            for (worker, clients) in self.registry.everybody() {
                self.letters.push(Letter { worker, clients, news: News::Restored });
            }
        }
        true
    }

    fn entered(&mut self, entering: Entering, error: Option<([u8; 5], Box<str>)>) {
        let Entering { who, channels, .. } = entering;
        match error {
            None => {
                // Its client may have gone meanwhile.
                self.leaving.extend(channels.iter().filter(|channel| !self.registry.has(channel)).cloned());
                self.on_server.extend(channels);
                self.letters.push(who.letter(News::Done(who.number)));
            }
            Some((code, message)) => self.refuse(who, &channels, Trouble::Listen { code, message }),
        }
    }

    fn refuse(&mut self, who: Waiting, channels: &[Channel], trouble: Trouble) {
        for channel in channels {
            if self.registry.leave(who.client, channel) {
                self.leaving.push(channel.clone());
            }
        }
        self.letters.push(who.letter(News::Failed(who.number, trouble)));
    }

    /// Somebody has notified a channel; returns how many clients hear of it.
    pub(super) fn notified(&mut self, said: &view::Notification<'_>, now: Instant) -> usize {
        self.heard = now;
        let Some((channel, audience)) = self.registry.audience(said.channel) else { return 0 };
        let notification =
            Notification { process: said.process, channel: channel.clone(), payload: said.payload.into() };
        let notification = Arc::new(notification);
        for (worker, clients) in audience {
            let clients = clients.iter().copied().collect();
            self.letters.push(Letter { worker: *worker, clients, news: News::Heard(notification.clone()) });
        }
        audience.values().map(|clients| clients.len()).sum()
    }

    /// Turns away those who have waited for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |entering: &Entering| entering.until <= now;
        while self.entering.front().is_some_and(late)
            && let Some(entering) = self.entering.pop_front()
        {
            let waited = entering.pool.settings().queue_timeout;
            let database = entering.pool.database.clone();
            let refusal = Refusal::Listen(ListenRefusal::NotReady { database, waited });
            self.refuse(entering.who, &entering.channels, refusal.into());
        }
    }

    /// Whether the server is too long in answering.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| now.saturating_duration_since(under_way.since) >= PATIENCE)
    }

    /// How long nothing has to be done unless something comes.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        let entering = self.entering.front().map(|entering| entering.until);
        let server = match &self.under_way {
            Some(under_way) => Some(under_way.since + PATIENCE),
            None if self.connected => Some(self.heard + HEARTBEAT),
            None => None,
        };
        let first = entering.into_iter().chain(server).min();
        first.map_or(HEARTBEAT, |at| at.saturating_duration_since(now))
    }
}

fn write(sql: &mut Vec<u8>, verb: &str, channel: &[u8]) {
    sql.extend_from_slice(verb.as_bytes());
    sql.extend_from_slice(b" \"");
    for byte in channel {
        sql.push(*byte);
        if *byte == b'"' {
            sql.push(b'"');
        }
    }
    sql.extend_from_slice(b"\";");
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
