//! LISTEN in a session that gives its upstreams back: what the shared listener hears is told at this client's own
//! boundaries, as its server would.
//!
//! ```text
//! client    LISTEN a ─►            ┆ held ┆ ─► upstream ─► …  CommandComplete, ReadyForQuery ┆ held ┆ ─► client
//! listener            Enter(a) ─►  Done                              CatchUp ─►  Heard…, Done
//! ```
//!
//! The LISTEN itself is run on the client's upstream too, so that errors, tags, transactions and pipelines are the
//! server's own; `UNLISTEN *` follows before anybody else gets that upstream, and what it hears is let fall.
//!
//! A ReadyForQuery that ends a transaction waits until the listener has caught up: so a client has its own notifications
//! before the answer to its COMMIT, as from PostgreSQL. While it holds an upstream for which the listener had caught up
//! before it began, what comes from that server process is its own, and bears the process id that the client was told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use config::{ListenLoss, ListenWay, PoolMode};
use policy::verdict::{ListenRefusal, Refusal};
use wire::encode::{Report, Severity, backend as say};
use wire::error::Sqlstate;
use wire::frame;
use wire::params::Value;
use wire::pipeline::{Awaited, Fate, Owed};
use wire::tag::{Frontend, TransactionStatus};
use wire::view;

use super::channels::{Change, Channel, Channels};
use super::script::{Act, Script};
use super::{End, Session};
use crate::listen::{MAX_CHANNELS, MAX_QUEUED, News, Notification, Place, Subscription};
use crate::trouble::Trouble;
use crate::upstream::{Listens, Upstream};

/// Bytes of notifications that are written at once to a client at rest.
const AT_ONCE: usize = 64 * 1024;
/// Changes of channels in one transaction.
const MAX_PENDING: usize = 10 * MAX_CHANNELS;

/// A client that listens.
#[derive(Debug)]
pub(super) struct Listening {
    subscription: Subscription,
    channels: Channels,
    /// Channels that the listener listens to for this client: those above, and those of LISTENs under way.
    registered: BTreeSet<Channel>,
    asked: Option<Asked>,
    /// Why the LISTEN that waits cannot be.
    refused: Option<Trouble>,
    ready: Ready,
    /// Everything that others notified on the leased upstream has been heard.
    caught_up: bool,
    /// The upstream that was held last, and how many requests it had ended then.
    last: Option<(u64, u64)>,
    /// What was heard and not yet told; whether it is the client's own.
    queue: VecDeque<(Arc<Notification>, bool)>,
    queued: usize,
    lost: bool,
    restored: bool,
    /// The server that it listens to is no longer the one of its database.
    moved: bool,
}

/// What the client's next message waits for.
#[derive(Debug)]
struct Asked {
    number: u64,
    channels: Vec<Channel>,
    /// It was asked under the present lease.
    of_lease: bool,
}

/// What the ReadyForQuery that is due waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Nothing,
    CatchUp(u64),
    CaughtUp,
}

/// Whether a LISTEN may go to the server.
#[derive(Debug)]
pub(super) enum Enlisted {
    Yes,
    Wait,
    No(Trouble),
}

impl Listening {
    fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            channels: Channels::default(),
            registered: BTreeSet::new(),
            asked: None,
            refused: None,
            ready: Ready::Nothing,
            caught_up: false,
            last: None,
            queue: VecDeque::new(),
            queued: 0,
            lost: false,
            restored: false,
            moved: false,
        }
    }

    /// The upstream is not read: its next message waits for the listener.
    #[inline]
    pub(super) fn holds_replies(&self) -> bool {
        matches!(self.ready, Ready::CatchUp(_))
    }

    /// The message that waited has to be looked at again.
    #[inline]
    pub(super) fn releases_replies(&self) -> bool {
        self.ready == Ready::CaughtUp
    }

    fn hear(&mut self, notification: &Arc<Notification>, own: bool) {
        if self.channels.has(&notification.channel) || self.registered.contains(&notification.channel) {
            self.queued += notification.size();
            self.queue.push_back((notification.clone(), own));
        }
    }

    /// Something asked is answered; `true`: the client's messages may go on.
    fn settle(&mut self, number: u64, refused: Option<Trouble>) -> bool {
        if self.ready == Ready::CatchUp(number) {
            self.ready = Ready::CaughtUp;
            return false;
        }
        let Some(asked) = self.asked.take_if(|asked| asked.number == number) else { return false };
        self.caught_up |= asked.of_lease;
        if refused.is_none() {
            self.registered.extend(asked.channels);
        }
        self.refused = refused;
        true
    }

    fn ask(&mut self, channels: Vec<Channel>, number: u64) {
        self.asked = Some(Asked { number, channels, of_lease: true });
    }

    /// The lease is over.
    fn leave(&mut self, upstream: &Upstream) {
        if self.caught_up {
            self.last = Some((upstream.id, upstream.cancel.epoch()));
        }
        self.caught_up = false;
        self.ready = Ready::Nothing;
        if let Some(asked) = &mut self.asked {
            asked.of_lease = false;
        }
    }

    /// Takes what may be told now: of channels that the client listens to, up to so many bytes of messages.
    fn take(&mut self, process: u32, most: usize, out: &mut Vec<u8>) -> u64 {
        let mut told = 0;
        while out.len() < most
            && let Some((heard, own)) = self.queue.pop_front()
        {
            self.queued -= heard.size();
            let process = if own { process } else { heard.process };
            let said = view::Notification { process, channel: &heard.channel, payload: &heard.payload };
            // It came as a message: it can be said as one.
            if self.channels.has(&heard.channel) && say::notification_response(out, &said).is_ok() {
                told += 1;
            }
        }
        told
    }

    /// A transaction goes on: what was heard of channels that it only wants to listen to was committed before it.
    fn forget_uncommitted(&mut self) {
        self.queue.retain(|(heard, _)| self.channels.has(&heard.channel));
        self.queued = self.queue.iter().map(|(heard, _)| heard.size()).sum();
    }

    /// Nothing is under way: channels that nothing came of are given up. `true`: none is left.
    fn tidy(&mut self) -> bool {
        self.refused = None;
        if self.channels.is_pending() || self.asked.is_some() {
            return false;
        }
        let (kept, stale) = std::mem::take(&mut self.registered).into_iter().partition(|name| self.channels.has(name));
        self.registered = kept;
        let stale: BTreeSet<Channel> = stale;
        if !stale.is_empty() {
            self.subscription.leave(stale.into_iter().collect());
        }
        self.channels.is_idle()
    }
}

impl Session {
    /// Whether a text that listens or notifies may go to the server now.
    pub(super) fn before_listen(&mut self, upstream: &mut Upstream, script: Option<&Script>) -> Enlisted {
        let Some(script) = script else { return Enlisted::Yes };
        if self.changes_too_much(script) {
            return Enlisted::No(too_many_channels());
        }
        if !script.listens && !script.notifies {
            return Enlisted::Yes;
        }
        if self.before_notify(upstream, script) {
            return Enlisted::Wait;
        }
        if !script.listens {
            return Enlisted::Yes;
        }
        let pins = self.pool.settings().listen.way == ListenWay::Pin || self.pool.mode() == PoolMode::Session;
        if upstream.listens == Listens::Natively || (pins && self.listening.is_none()) {
            return Enlisted::Yes;
        }
        let listening = match &mut self.listening {
            Some(listening) => listening,
            none => {
                let pool = &self.pool.shared;
                let encoding = encoding(self.settings.current().find(ENCODING), || pool.welcome());
                let place = Place::of(&pool.target(), &encoding);
                let (shared, client) = (&self.worker.shared, self.ctl.client);
                let subscription = shared.listeners.subscribe(shared, place, client, self.worker.index);
                none.insert(Box::new(Listening::new(subscription)))
            }
        };
        let names = script.parts.iter().flatten().filter_map(|act| match act {
            Act::Listen(name) if !listening.registered.contains(&**name) => Some(Channel::from(&**name)),
            _ => None,
        });
        let wanted: BTreeSet<Channel> = names.collect();
        if wanted.is_empty() {
            upstream.listens = Listens::ForAll;
            return Enlisted::Yes;
        }
        if let Some(trouble) = listening.refused.take() {
            return Enlisted::No(trouble);
        }
        if listening.asked.is_some() {
            return Enlisted::Wait;
        }
        if listening.registered.len() + wanted.len() > MAX_CHANNELS {
            return Enlisted::No(too_many_channels());
        }
        let wanted: Vec<Channel> = wanted.into_iter().collect();
        let number = listening.subscription.enter(wanted.clone(), &self.pool.shared);
        listening.ask(wanted, number);
        Enlisted::Wait
    }

    /// Whether a text changes channels in a transaction that has changed them too often.
    fn changes_too_much(&self, script: &Script) -> bool {
        let full = self.listening.as_deref().is_some_and(|listening| listening.channels.pending() > MAX_PENDING);
        let changes = |act: &Act| matches!(act, Act::Listen(_) | Act::Unlisten(_) | Act::UnlistenAll);
        full && script.parts.iter().flatten().any(changes)
    }

    /// A client that listens is about to begin a transaction on this upstream; `true`: the listener must catch up first,
    /// lest what somebody else has notified there is taken for the client's own.
    #[cold]
    pub(super) fn must_catch_up(&mut self, upstream: &mut Upstream) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        let epoch = upstream.cancel.epoch();
        // Nobody has used it before, or nobody else since.
        listening.caught_up |= epoch == 0 || listening.last == Some((upstream.id, epoch));
        if listening.caught_up || listening.channels.is_idle() {
            return false;
        }
        if listening.asked.is_none() {
            let number = listening.subscription.catch_up();
            listening.ask(Vec::new(), number);
        }
        upstream.work.held = true;
        true
    }

    /// A client that listens has one transaction under way at a time, also where it does not wait for their ends: what was
    /// notified during the next one must not be taken for part of this one.
    #[cold]
    pub(super) fn awaits_ready(&self, upstream: &Upstream, tag: Frontend) -> bool {
        let copies = matches!(tag, Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail);
        let ends = |owed: &Owed| matches!(owed.awaited, Awaited::Sync | Awaited::Query | Awaited::FunctionCall);
        !copies && upstream.pipeline.owed().any(|owed| owed.fate != Fate::Swallow && ends(owed))
    }

    /// The server has said ReadyForQuery, which `message` holds; `true`: it waits until the listener has caught up.
    #[cold]
    pub(super) fn awaits_listener(&mut self, upstream: &Upstream, message: &[u8]) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        match listening.ready {
            Ready::CatchUp(_) => return true,
            Ready::CaughtUp => {
                listening.ready = Ready::Nothing;
                return false;
            }
            Ready::Nothing => {}
        }
        let ours = upstream.pipeline.head().is_none_or(|owed| owed.fate == Fate::Swallow);
        let status = view::ready(message.get(frame::HEAD..).unwrap_or_default());
        if ours || status != Ok(TransactionStatus::Idle) || listening.channels.is_idle() {
            return false;
        }
        listening.ready = Ready::CatchUp(listening.subscription.catch_up());
        true
    }

    /// ReadyForQuery is about to be told: notifications go before it, outside of transactions.
    #[cold]
    pub(super) fn before_ready(&mut self, upstream: &mut Upstream, out: &mut Vec<u8>) {
        if std::mem::take(&mut upstream.work.restates) {
            self.restate(out);
        }
        let Some(listening) = &mut self.listening else { return };
        if upstream.pipeline.status() != TransactionStatus::Idle {
            return listening.forget_uncommitted();
        }
        self.ctl.channels.set(listening.channels.len() as u32);
        let told = listening.take(self.ctl.process(), usize::MAX, out);
        self.worker.telemetry.load().listen.delivered.add(told);
        if upstream.pipeline.is_empty() && listening.tidy() {
            self.listening = None;
        }
    }

    /// A notification has come from the upstream itself; `true`: it is not for this client.
    #[cold]
    pub(super) fn ignores_notification(&self, upstream: &mut Upstream) -> bool {
        let ours = upstream.listens != Listens::ForAll && self.stays_with(upstream);
        // A LISTEN that nobody saw, in a function: what it hears is for no later client.
        upstream.tainted |= !ours && upstream.listens == Listens::No;
        !ours
    }

    /// A statement has succeeded: what it does to the client's channels. `tag` is its command tag.
    pub(super) fn follow_channels(&mut self, upstream: &mut Upstream, act: &Act, tag: &[u8]) {
        let Some(listening) = &mut self.listening else {
            if matches!(act, Act::Listen(_)) {
                upstream.listens = Listens::Natively;
                self.leave(upstream, policy::verdict::SessionState::Listen);
            }
            return;
        };
        let channels = &mut listening.channels;
        match act {
            Act::Listen(name) => channels.change(Change::Listen(Channel::from(&**name))),
            Act::Unlisten(name) => channels.change(Change::Unlisten(Channel::from(&**name))),
            Act::UnlistenAll | Act::DiscardAll => channels.change(Change::UnlistenAll),
            Act::Commit if tag != b"ROLLBACK" => channels.commit(),
            Act::Commit | Act::Rollback => channels.rollback(),
            Act::Savepoint(name) => channels.savepoint(name),
            Act::RollbackTo(name) => channels.rollback_to(name),
            Act::Release(name) => channels.release(name),
            _ => {}
        }
    }

    /// The transaction has ended.
    #[cold]
    pub(super) fn end_channels(&mut self, failed: bool) {
        if let Some(listening) = &mut self.listening {
            if failed { listening.channels.rollback() } else { listening.channels.commit() }
        }
    }

    /// The lease is over.
    pub(super) fn leave_channels(&mut self, upstream: &Upstream) {
        if let Some(listening) = &mut self.listening {
            listening.leave(upstream);
        }
    }

    /// Looks at what the listener says.
    pub(super) fn heed_listener(&mut self) -> Result<(), End> {
        let news = self.ctl.news.take();
        let Some(listening) = &mut self.listening else { return Ok(()) };
        let mut released = false;
        for news in news {
            match news {
                News::Heard(heard) => {
                    let upstream = self.lease.as_deref().filter(|_| listening.caught_up);
                    let own = upstream.is_some_and(|upstream| upstream.cancel.process as u32 == heard.process);
                    listening.hear(&heard, own);
                }
                News::Done(number) => released |= listening.settle(number, None),
                News::Failed(number, trouble) => released |= listening.settle(number, Some(trouble)),
                // Nobody misses anything on a channel that is only being asked for.
                News::Lost => listening.lost |= !listening.registered.is_empty(),
                News::Restored => listening.restored |= listening.lost,
                News::StandIn { .. } => {}
            }
        }
        if listening.queued > MAX_QUEUED {
            self.worker.telemetry.load().listen.overflows.increment();
            return Err(End::Trouble(Refusal::Listen(ListenRefusal::TooSlow { limit: MAX_QUEUED }).into()));
        }
        if released {
            self.look_again = true;
            if let Some(upstream) = self.lease.as_deref_mut() {
                upstream.work.release();
            }
        }
        Ok(())
    }

    /// The settings have changed: the database may be somewhere else now.
    pub(super) fn look_where_it_listens(&mut self) {
        if let Some(listening) = &mut self.listening {
            let place = listening.subscription.place();
            listening.moved |= Place::of(&self.pool.shared.target(), place.encoding.as_bytes()) != *place;
        }
    }

    /// Tells a client at rest what was heard; `true`: there was something.
    #[cold]
    pub(super) fn tell_heard(&mut self, cx: &mut std::task::Context<'_>) -> Result<bool, End> {
        if !self.is_at_rest() {
            return Ok(false);
        }
        let Some(listening) = &mut self.listening else { return Ok(false) };
        let stays = self.pool.settings().listen.loss == ListenLoss::Notice && !listening.moved;
        let mut out = Vec::new();
        let told = listening.take(self.ctl.process(), AT_ONCE, &mut out);
        if out.is_empty() && (listening.lost || listening.moved) && !stays {
            let database = self.pool.shared.database.clone();
            return Err(End::Trouble(Refusal::Listen(ListenRefusal::Lost { database }).into()));
        }
        if std::mem::take(&mut listening.restored) {
            listening.lost = false;
            say::notice_response(&mut out, &gap(&self.pool.shared.database));
        }
        self.worker.telemetry.load().listen.delivered.add(told);
        self.send_client(cx, &out)?;
        Ok(!out.is_empty())
    }
}

fn too_many_channels() -> Trouble {
    Refusal::Listen(ListenRefusal::TooManyChannels { limit: MAX_CHANNELS }).into()
}

/// What a client is told that stays although notifications may have been lost.
fn gap(database: &str) -> Report {
    let code = Sqlstate::parse(b"01000").unwrap_or(Sqlstate::SUCCESS);
    Report::new(Severity::Warning, code, "notifications may have been lost")
        .detail(format!("The connection that listens for all clients of database \"{database}\" was lost for a while."))
        .hint("All channels are listened to again. Look for what was missed.")
}

/// The setting in whose encoding notifications come.
const ENCODING: &str = "client_encoding";

/// The name of an encoding: what the session has set, else what the server begins with.
fn encoding(set: Option<&Value>, welcome: impl FnOnce() -> Option<Arc<crate::pool::Welcome>>) -> Vec<u8> {
    match set {
        Some(Value::Plain(name)) => name.to_vec(),
        // `client_encoding TO 'x'`, `client_encoding='x'`, `NAMES 'x'`: the last word.
        Some(Value::Clause(clause)) => {
            let clause = clause.trim_ascii_end();
            let last = clause.rsplit(|byte| byte.is_ascii_whitespace() || *byte == b'=').next();
            last.unwrap_or_default().to_vec()
        }
        None => {
            let said = welcome();
            let said = said.as_ref().and_then(|said| said.iter().find(|(name, _)| **name == *ENCODING.as_bytes()));
            said.map_or_else(|| b"UTF8".to_vec(), |(_, value)| value.to_vec())
        }
    }
}
