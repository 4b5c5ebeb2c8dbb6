//! Who owes whom an upstream: a pool's check-out state, without a socket or a clock.
//!
//! ```text
//!            wait                   returned
//! client ──────────► queue ───────────────────► the worker that the ticket names
//!                     ▲ room?
//!                     └── dial ──► dialling ──► open (idle or leased, on some worker)
//! ```
//!
//! Invariants, checked after every step of the seeded test: `dialling ≤ open`; a dial begins only below `size`, or below
//! `size + reserve_size` when a client has waited for `reserve_after`, and never while paused; a ticket is served, failed
//! or withdrawn exactly once; those of one tenant are served in the order in which they came, and those of different
//! tenants by their shares ([`policy::fair`]). Whose leases run is known to the queue from the first client on that
//! waits for more than leases of its own tenant ([`super::marks`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::fair::{self, Claim, Full, Key, Queue, Standing};
use policy::verdict::Limit;

use super::marks::{Mark, Marks};

/// One client's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The worker that the client lives on.
    pub worker: usize,
    /// The client.
    pub client: u64,
    /// Which of its waits this is, so that an upstream that comes too late is never taken for the next one.
    pub turn: u64,
}

/// A client whose turn it is, and who is charged.
pub type Grant = fair::Grant<Ticket>;

/// When connecting may be tried, and how long to pause after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after a failure that so many preceded. `jitter` in 0..1 takes off up to half.
    pub fn pause(self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
        doubled.min(self.longest).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// How many upstreams a pool may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// At most, at least 1.
    pub size: usize,
    /// Beyond that, for clients that have waited for `reserve_after`.
    pub reserve_size: usize,
    /// How long a client waits before the reserve is used.
    pub reserve_after: Duration,
    /// Clients that may wait; 0: any number.
    pub max_waiting: usize,
    /// Pauses between attempts to connect.
    pub backoff: Backoff,
}

/// What a pool does about a client that has queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits.
    Queued,
    /// The server cannot be reached, and may be tried again at this time.
    Down(Instant),
    /// There is no room in the queue.
    Full(Full),
}

/// What becomes of an upstream that nobody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It goes to this client, and is charged to its tenant.
    Serve(Grant),
    /// It idles.
    Keep,
    /// It is closed: the pool is paused, or has too many.
    Close,
}

/// A pool's check-out state.
#[derive(Debug)]
pub struct Ledger {
    sizes: Sizes,
    open: usize,
    /// Of those, idle ones that a worker is about to close because there are too many.
    leaving: usize,
    dialling: usize,
    queue: Queue<Ticket>,
    marks: Marks,
    /// When the pool was made: the marks count from there.
    born: Instant,
    /// Logins that wait for the pool's first upstream.
    visitors: usize,
    failures: u32,
    retry_at: Option<Instant>,
    paused: bool,
    resumed_at: Option<Instant>,
    /// Statements under way that need everybody to leave the database.
    vacancies: usize,
    short_of: Option<Limit>,
    /// Somebody has been told to look again when the reserve is due.
    reserve_watched: bool,
}

impl Ledger {
    /// An empty pool, made at this time.
    pub fn new(sizes: Sizes, born: Instant) -> Self {
        let sizes = Sizes { size: sizes.size.max(1), ..sizes };
        Self {
            sizes,
            open: 0,
            leaving: 0,
            dialling: 0,
            queue: Queue::new(sizes.max_waiting),
            marks: Marks::default(),
            born,
            visitors: 0,
            failures: 0,
            retry_at: None,
            paused: false,
            resumed_at: None,
            vacancies: 0,
            short_of: None,
            reserve_watched: false,
        }
    }

    /// Changes the sizes. Upstreams beyond them are closed as they come back.
    pub fn resize(&mut self, sizes: Sizes) {
        self.sizes = Sizes { size: sizes.size.max(1), ..sizes };
        self.queue.set_limit(sizes.max_waiting);
    }

    /// Upstreams that exist or are being dialled.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Connection attempts under way.
    pub fn dialling(&self) -> usize {
        self.dialling
    }

    /// Clients that wait.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Since when the client waits that has waited for longest, of those that an upstream would help.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.queue.waiting_since()
    }

    /// The tenants that wait or hold, at most so many.
    pub fn standings(&self, most: usize) -> Vec<Standing> {
        self.queue.standings(most)
    }

    /// What a tenant is known to hold, and how many of its clients wait; or one of its classes.
    pub fn load(&self, key: Key, of_class: bool) -> (usize, usize) {
        self.queue.load(key, of_class)
    }

    /// As many upstreams as its tenant or its class may have, if it has them.
    pub fn maximum(&self, claim: &Claim) -> Option<u32> {
        self.queue.maximum(claim)
    }

    /// Whether no upstream is given out.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Attempts to connect that have failed one after the other.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Why there are not more upstreams.
    pub fn limit(&self) -> Limit {
        let room = self.sizes.size + if self.open > self.sizes.size { self.sizes.reserve_size } else { 0 };
        self.short_of.unwrap_or(Limit::Pool(room))
    }

    /// A free upstream is not simply put on an idle list: [`Ledger::returned`] says what becomes of it.
    pub fn needs_attention(&self) -> bool {
        self.paused
            || self.vacancies > 0
            || self.queue.servable() > 0
            || self.open > self.sizes.size + self.sizes.reserve_size
    }

    /// Of `idle` upstreams, how many are not needed because they are beyond the size. They are to be closed, and then
    /// [`Ledger::left`]: two workers that look at the same time must not both close one for the same surplus.
    pub fn leave(&mut self, idle: usize) -> usize {
        let wanted = if self.paused || self.vacancies > 0 { 0 } else { self.sizes.size };
        let leaving = idle.min(self.open.saturating_sub(self.leaving).saturating_sub(wanted));
        self.leaving += leaving;
        leaving
    }

    /// So many are closed now.
    pub fn left(&mut self, leaving: usize) {
        self.leaving = self.leaving.saturating_sub(leaving);
    }

    /// Somebody needs the database to itself: what idles is closed, and so is what comes back, unless a client waits.
    pub fn vacate(&mut self) {
        self.vacancies += 1;
    }

    /// It no longer does.
    pub fn occupy(&mut self) {
        self.vacancies = self.vacancies.saturating_sub(1);
    }

    /// Whether somebody needs the database to itself.
    pub fn is_vacated(&self) -> bool {
        self.vacancies > 0
    }

    /// Gives no upstream out any more, and makes none.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a pause, if there is one.
    pub fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.paused) {
            self.resumed_at = Some(now);
        }
    }

    /// When a client whose wait has come to its end may be given up; `None`: now. What it waited during a pause does not
    /// count: its whole `timeout` begins when that ends.
    pub fn patience(&self, timeout: Duration, now: Instant) -> Option<Instant> {
        let begins = if self.paused { Some(now) } else { self.resumed_at };
        begins.and_then(|begins| begins.checked_add(timeout)).filter(|end| *end > now)
    }

    /// Puts a client in the queue, unless there is nothing to be waited for, or no room.
    pub fn wait(&mut self, ticket: Ticket, claim: &Claim, now: Instant) -> Admission {
        if let Some(at) = self.down_until(now) {
            return Admission::Down(at);
        }
        // Those who wait for their own tenant's leases to end keep nobody from an upstream: while there are no others,
        // leases are taken without being counted.
        let first = self.queue.servable() == 0;
        if let Err(full) = self.queue.wait(ticket, claim, now) {
            return Admission::Full(full);
        }
        if first {
            // Behind it: what is charged for the time before somebody waits would be forgotten when somebody does.
            self.count_leases(now);
        }
        Admission::Queued
    }

    /// There is no upstream, and until this time none is made.
    fn down_until(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|at| *at > now && self.open == 0 && !self.paused)
    }

    /// When connecting is tried again after an attempt that has failed.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// An upstream was closed. Returns the tickets that have nothing left to wait for: all of them if it was the last one,
    /// and none is made for now.
    pub fn lost(&mut self, now: Instant) -> Vec<Ticket> {
        if self.down_until(now).is_some() { self.queue.drain(now) } else { Vec::new() }
    }

    /// Takes a client out of the queue; `false`: it is not in it (any more): an upstream may be on its way.
    pub fn withdraw(&mut self, ticket: Ticket, now: Instant) -> bool {
        self.queue.withdraw(ticket, now)
    }

    /// A client in the queue has another claim from now on.
    pub fn claim_anew(&mut self, ticket: Ticket, claim: &Claim, now: Instant) {
        self.let_go(now, |queue| queue.claim_anew(ticket, claim, now));
    }

    /// A client is about to take a free upstream without waiting; `false`: its tenant has as many as it may have. It is
    /// counted from now on, until [`Ledger::release`] or [`Ledger::forgo`].
    pub fn take(&mut self, claim: &Claim, now: Instant) -> bool {
        self.queue.take(claim, now)
    }

    /// There was none to be taken.
    pub fn forgo(&mut self, key: Key, now: Instant) {
        self.let_go(now, |queue| queue.forgo(key, now));
    }

    /// A lease that was counted has ended.
    pub fn release(&mut self, key: Key, since_us: u64, now: Instant) {
        let since = time(self.born, since_us);
        self.let_go(now, |queue| queue.release(key, since, now));
    }

    /// A lease that was counted goes on as another's.
    pub fn transfer(&mut self, from: Key, to: Key, now: Instant) {
        self.let_go(now, |queue| queue.transfer(from, to, now));
    }

    /// Somebody has fewer leases than before. If one of its clients is the first now that an upstream would help, leases
    /// count from here on.
    fn let_go(&mut self, now: Instant, change: impl FnOnce(&mut Queue<Ticket>)) {
        let none = self.queue.servable() == 0;
        change(&mut self.queue);
        if none && self.queue.servable() > 0 {
            self.count_leases(now);
        }
    }

    /// Counts the leases that are not counted yet.
    pub fn count_leases(&mut self, now: Instant) {
        let Self { queue, marks, born, .. } = self;
        for (key, since_us) in marks.count() {
            queue.adopt(key, time(*born, since_us), now);
        }
    }

    /// Counts this lease, if it is not counted yet.
    pub fn count_lease(&mut self, mark: &Mark, now: Instant) {
        if let Some((key, since_us)) = mark.count() {
            self.queue.adopt(key, time(self.born, since_us), now);
        }
    }

    /// An upstream's place among the marks.
    pub fn moor(&mut self) -> Arc<Mark> {
        self.marks.add()
    }

    /// The upstream is gone, and whoever held it no longer does.
    pub fn unmoor(&mut self, mark: &Arc<Mark>, now: Instant) {
        self.marks.remove(mark);
        if let Some((key, since_us)) = mark.free() {
            self.release(key, since_us, now);
        }
    }

    /// A login waits for the first upstream, as clients wait for theirs.
    pub fn visit(&mut self) {
        self.visitors += 1;
    }

    /// It no longer does.
    pub fn unvisit(&mut self) {
        self.visitors = self.visitors.saturating_sub(1);
    }

    /// An upstream is free: whose is it?
    pub fn returned(&mut self, now: Instant) -> Use {
        if self.paused || self.open > self.sizes.size + self.sizes.reserve_size {
            return Use::Close;
        }
        let unused = if self.vacancies > 0 { Use::Close } else { Use::Keep };
        self.queue.next(now).map_or(unused, Use::Serve)
    }

    /// Whether an upstream that is given back now is somebody's.
    pub fn is_wanted(&self) -> bool {
        !self.paused && self.queue.servable() > 0
    }

    /// Somebody waits, and another attempt to connect may begin now.
    pub fn wants_dial(&self, now: Instant) -> bool {
        // What a login waits for is that there is any at all.
        let visitors = if self.open == self.dialling { self.visitors } else { 0 };
        self.dialling < self.queue.servable() + visitors && self.may_dial(now, self.room(now))
    }

    /// More clients wait than connections are being made.
    pub fn lacks_dials(&self) -> bool {
        self.dialling < self.queue.servable()
    }

    /// Fewer than `minimum` are open, and another attempt to connect may begin now.
    pub fn wants_minimum(&self, minimum: usize, now: Instant) -> bool {
        self.vacancies == 0 && self.may_dial(now, minimum.min(self.sizes.size))
    }

    /// When a client will have waited long enough for the reserve to be used; `None`: none is needed, or somebody
    /// looks after it already. To be followed by another look at [`Ledger::wants_dial`] at that time.
    pub fn watch_reserve(&mut self) -> Option<Instant> {
        let exhausted = self.open >= self.sizes.size && self.open < self.sizes.size + self.sizes.reserve_size;
        let since = self.waiting_since().filter(|_| exhausted && !self.reserve_watched && !self.paused)?;
        self.reserve_watched = true;
        since.checked_add(self.sizes.reserve_after)
    }

    /// The time that [`Ledger::watch_reserve`] told has come.
    pub fn reserve_due(&mut self) {
        self.reserve_watched = false;
    }

    /// An attempt to connect begins.
    pub fn begin_dial(&mut self) {
        self.open += 1;
        self.dialling += 1;
        self.short_of = None;
    }

    /// An attempt to connect would have begun but for this limit.
    pub fn fall_short(&mut self, limit: Limit) {
        self.short_of = Some(limit);
    }

    /// A connection attempt succeeded: the upstream is open. Returns the client that it goes to.
    pub fn dialled(&mut self, now: Instant) -> Option<Grant> {
        self.dialling = self.dialling.saturating_sub(1);
        self.failures = 0;
        self.retry_at = None;
        if self.paused {
            return None;
        }
        self.queue.next(now)
    }

    /// A connection attempt failed. `jitter` in 0..1 spreads the next one. Returns the tickets that have nothing left to
    /// wait for: all of them if no upstream is open.
    pub fn dial_failed(&mut self, now: Instant, jitter: f64) -> Vec<Ticket> {
        self.dial_abandoned();
        self.retry_at = Some(now + self.sizes.backoff.pause(self.failures, jitter));
        self.failures = (self.failures + 1).min(30);
        let lost = self.open == 0 && !self.paused;
        if lost { self.queue.drain(now) } else { Vec::new() }
    }

    /// A connection attempt was given up.
    pub fn dial_abandoned(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
        self.open = self.open.saturating_sub(1);
    }

    /// The reason why connecting failed is gone: the next attempt need not wait.
    pub fn try_again(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// An upstream was closed.
    pub fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    fn room(&self, now: Instant) -> usize {
        let late = |since: Instant| now.saturating_duration_since(since) >= self.sizes.reserve_after;
        let reserve = if self.waiting_since().is_some_and(late) { self.sizes.reserve_size } else { 0 };
        self.sizes.size + reserve
    }

    /// Behind a failure one attempt at a time is made, whoever waits: a server that has just come back, or cannot, is not
    /// stormed.
    fn may_dial(&self, now: Instant, room: usize) -> bool {
        let probing = self.failures > 0 && self.dialling > 0;
        !self.paused && !probing && self.open < room && self.retry_at.is_none_or(|at| at <= now)
    }
}

/// When that was, of a pool that was made at `born`.
fn time(born: Instant, since_us: u64) -> Instant {
    born.checked_add(Duration::from_micros(since_us)).unwrap_or(born)
}

#[cfg(test)]
mod tests;
