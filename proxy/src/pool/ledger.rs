//! Who owes whom an upstream: a pool's check-out state, without a socket or a clock.
//!
//! ```text
//!            wait                    serve
//! client ──────────► waiters ─────────────────► the worker that the ticket names
//!                       ▲ room?
//!                       └── dial ──► dialling ──► open (idle or leased, on some worker)
//! ```
//!
//! Invariants, checked after every step of the seeded test: `dialling ≤ open`; a dial begins only below `size`; a
//! ticket is served, failed or withdrawn exactly once; tickets are served in the order in which they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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

/// What a pool does about a client that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits; a connection attempt should begin.
    Dial,
    /// It waits for an upstream that is out, or for an attempt that is under way.
    Wait,
    /// The server cannot be reached, and may be tried again at this time.
    Down(Instant),
}

/// A pool's check-out state.
#[derive(Debug)]
pub struct Ledger {
    size: usize,
    open: usize,
    dialling: usize,
    waiters: VecDeque<Ticket>,
    failures: u32,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Ledger {
    /// An empty pool that may hold `size` upstreams.
    pub fn new(size: usize, backoff: Backoff) -> Self {
        Self { size: size.max(1), open: 0, dialling: 0, waiters: VecDeque::new(), failures: 0, retry_at: None, backoff }
    }

    /// Changes the size. Upstreams over it are closed as they come back.
    pub fn resize(&mut self, size: usize, backoff: Backoff) {
        self.size = size.max(1);
        self.backoff = backoff;
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
        self.waiters.len()
    }

    /// Most upstreams there may be.
    pub fn size(&self) -> usize {
        self.size
    }

    /// More upstreams exist than the size allows: the one that comes back should be closed.
    pub fn is_over(&self) -> bool {
        self.open > self.size
    }

    /// Puts a client in the queue.
    pub fn wait(&mut self, ticket: Ticket, now: Instant) -> Admission {
        if self.open == self.dialling
            && self.dialling == 0
            && let Some(at) = self.retry_at.filter(|at| *at > now)
        {
            return Admission::Down(at);
        }
        self.waiters.push_back(ticket);
        if self.wants_dial(now) {
            self.begin_dial();
            return Admission::Dial;
        }
        Admission::Wait
    }

    /// Takes a client out of the queue; `false`: it is not in it (any more): an upstream may be on its way.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| *waiter != ticket);
        self.waiters.len() < before
    }

    /// The client whose turn it is, out of the queue.
    pub fn serve(&mut self) -> Option<Ticket> {
        self.waiters.pop_front()
    }

    /// Begins a connection attempt to keep `minimum` upstreams open; `false`: there are enough, or it is too early.
    pub fn dial_for_minimum(&mut self, minimum: usize, now: Instant) -> bool {
        let wanted = self.open < minimum.min(self.size) && self.retry_at.is_none_or(|at| at <= now);
        if wanted {
            self.begin_dial();
        }
        wanted
    }

    /// Begins a connection attempt if clients wait and there is room; `false`: none is needed, or it is too early.
    pub fn dial_for_waiters(&mut self, now: Instant) -> bool {
        let wanted = self.wants_dial(now);
        if wanted {
            self.begin_dial();
        }
        wanted
    }

    /// A connection attempt succeeded: the upstream is open.
    pub fn dialled(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
        self.failures = 0;
        self.retry_at = None;
    }

    /// A connection attempt failed. `jitter` in 0..1 spreads the next one. Returns the tickets that have nothing left to
    /// wait for: all of them if no upstream is open.
    pub fn dial_failed(&mut self, now: Instant, jitter: f64) -> Vec<Ticket> {
        self.dialling = self.dialling.saturating_sub(1);
        self.open = self.open.saturating_sub(1);
        self.retry_at = Some(now + self.backoff.pause(self.failures, jitter));
        self.failures = (self.failures + 1).min(30);
        if self.open == 0 { self.waiters.drain(..).collect() } else { Vec::new() }
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

    fn wants_dial(&self, now: Instant) -> bool {
        self.open < self.size && self.dialling < self.waiters.len() && self.retry_at.is_none_or(|at| at <= now)
    }

    fn begin_dial(&mut self) {
        self.open += 1;
        self.dialling += 1;
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

    fn ticket(client: u64) -> Ticket {
        Ticket { worker: 0, client, turn: 0 }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = (0..8).map(|failures| BACKOFF.pause(failures, 1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(BACKOFF.pause(40, 0.0), Duration::from_millis(2500));
    }

    #[test]
    fn clients_are_served_in_the_order_in_which_they_came() {
        let now = Instant::now();
        let mut ledger = Ledger::new(1, BACKOFF);
        assert_eq!(ledger.wait(ticket(1), now), Admission::Dial);
        assert_eq!(ledger.wait(ticket(2), now), Admission::Wait);
        ledger.dialled();
        assert_eq!(ledger.serve(), Some(ticket(1)));
        assert!(ledger.withdraw(ticket(2)));
        assert!(!ledger.withdraw(ticket(2)));
        assert_eq!(ledger.serve(), None);
    }

    #[test]
    fn a_dead_server_is_said_to_be_down_until_the_next_attempt_is_due() {
        let now = Instant::now();
        let mut ledger = Ledger::new(2, BACKOFF);
        assert_eq!(ledger.wait(ticket(1), now), Admission::Dial);
        assert_eq!(ledger.dial_failed(now, 1.0), [ticket(1)]);
        let retry = now + Duration::from_millis(100);
        assert_eq!(ledger.wait(ticket(2), now), Admission::Down(retry));
        assert_eq!(ledger.wait(ticket(2), retry), Admission::Dial);
        assert_eq!(ledger.dial_failed(retry, 1.0), [ticket(2)]);
        assert_eq!(ledger.wait(ticket(3), retry), Admission::Down(retry + Duration::from_millis(200)));
    }

    #[test]
    fn those_who_can_still_be_served_go_on_waiting_after_a_failed_attempt() {
        let now = Instant::now();
        let mut ledger = Ledger::new(2, BACKOFF);
        ledger.wait(ticket(1), now);
        ledger.dialled();
        ledger.serve();
        assert_eq!(ledger.wait(ticket(2), now), Admission::Dial);
        assert_eq!(ledger.dial_failed(now, 0.0), []);
        assert_eq!(ledger.waiting(), 1);
    }

    /// Random operations; a small model beside the ledger knows what must be true after each.
    #[test]
    fn random_operations_keep_the_invariants() {
        for seed in 0..200u64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let size = rng.random_range(1..5);
            let mut now = Instant::now();
            let mut ledger = Ledger::new(size, BACKOFF);
            let (mut idle, mut leased, mut queued) = (0usize, 0usize, VecDeque::new());
            for client in 0..500u64 {
                now += Duration::from_millis(rng.random_range(0..300));
                match rng.random_range(0..7) {
                    0 | 1 if idle > 0 => {
                        idle -= 1;
                        leased += 1;
                    }
                    0 | 1 if !matches!(ledger.wait(ticket(client), now), Admission::Down(_)) => {
                        queued.push_back(ticket(client));
                    }
                    2 if leased > 0 => match ledger.serve() {
                        Some(served) => assert_eq!(Some(served), queued.pop_front(), "seed {seed}"),
                        None => {
                            leased -= 1;
                            idle += 1;
                        }
                    },
                    3 if ledger.dialling() > 0 => {
                        ledger.dialled();
                        match ledger.serve() {
                            Some(served) => {
                                assert_eq!(Some(served), queued.pop_front(), "seed {seed}");
                                leased += 1;
                            }
                            None => idle += 1,
                        }
                    }
                    4 if ledger.dialling() > 0 => {
                        let failed = ledger.dial_failed(now, 0.5);
                        assert!(failed.is_empty() || failed == queued.drain(..).collect::<Vec<_>>(), "seed {seed}");
                    }
                    5 if leased > 0 => {
                        leased -= 1;
                        ledger.closed();
                        ledger.dial_for_waiters(now);
                    }
                    6 if !queued.is_empty() => {
                        let at = rng.random_range(0..queued.len());
                        assert!(queued.remove(at).is_some_and(|gone| ledger.withdraw(gone)), "seed {seed}");
                    }
                    _ => {}
                }
                assert_eq!(ledger.open(), idle + leased + ledger.dialling(), "seed {seed}");
                assert!(ledger.open() <= size, "seed {seed}");
                assert_eq!(ledger.waiting(), queued.len(), "seed {seed}");
            }
        }
    }
}
