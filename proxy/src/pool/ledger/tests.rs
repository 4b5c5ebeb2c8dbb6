//! The ledger by itself: its rules one by one, and random operations against a model.

use std::collections::VecDeque;

use policy::fair::{ClassShare, Share};
use policy::tenant::TenantId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

mod races;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
const RESERVE_AFTER: Duration = Duration::from_millis(500);

fn ledger(size: usize, reserve_size: usize) -> Ledger {
    let sizes = Sizes { size, reserve_size, reserve_after: RESERVE_AFTER, max_waiting: 0, backoff: BACKOFF };
    Ledger::new(sizes, Instant::now())
}

fn key(tenant: u32) -> Key {
    Key { tenant: TenantId::from_index(tenant), class: 0 }
}

fn claim() -> Claim {
    Claim { key: key(0), share: Share::default(), class: ClassShare::default(), deadline: None, watched: false }
}

fn grant(client: u64) -> Grant {
    Grant { ticket: ticket(client), key: key(0) }
}

fn ticket(client: u64) -> Ticket {
    Ticket { worker: 0, client, turn: 0 }
}

/// Queues a client and begins the attempt that it wants.
fn queue(ledger: &mut Ledger, client: u64, now: Instant) -> bool {
    assert_eq!(ledger.wait(ticket(client), &claim(), now), Admission::Queued);
    dial(ledger, now)
}

fn dial(ledger: &mut Ledger, now: Instant) -> bool {
    let wanted = ledger.wants_dial(now);
    if wanted {
        ledger.begin_dial();
    }
    wanted
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
    let mut ledger = ledger(1, 0);
    assert!(queue(&mut ledger, 1, now));
    assert!(!queue(&mut ledger, 2, now));
    assert_eq!(ledger.dialled(now), Some(grant(1)));
    assert!(ledger.withdraw(ticket(2), now));
    assert!(!ledger.withdraw(ticket(2), now));
    assert_eq!(ledger.returned(now), Use::Keep);
}

#[test]
fn a_dead_server_is_said_to_be_down_until_the_next_attempt_is_due() {
    let now = Instant::now();
    let mut ledger = ledger(2, 0);
    assert!(queue(&mut ledger, 1, now));
    assert_eq!(ledger.dial_failed(now, 1.0), [ticket(1)]);
    let retry = now + Duration::from_millis(100);
    assert_eq!(ledger.wait(ticket(2), &claim(), now), Admission::Down(retry));
    assert!(queue(&mut ledger, 2, retry));
    assert_eq!(ledger.dial_failed(retry, 1.0), [ticket(2)]);
    assert_eq!(ledger.wait(ticket(3), &claim(), retry), Admission::Down(retry + Duration::from_millis(200)));
}

#[test]
fn a_server_that_was_down_is_tried_by_one_attempt_before_all_others() {
    let now = Instant::now();
    let mut ledger = ledger(5, 0);
    assert!(queue(&mut ledger, 1, now) && queue(&mut ledger, 2, now), "a server that is up takes all at once");
    assert_eq!(ledger.dial_failed(now, 1.0), [], "another attempt is under way");
    assert_eq!(ledger.dial_failed(now, 1.0), [ticket(1), ticket(2)]);
    let retry = now + Duration::from_secs(1);
    assert!(queue(&mut ledger, 3, retry));
    for client in 4..9 {
        assert!(!queue(&mut ledger, client, retry), "one is enough to find out");
    }
    assert_eq!(ledger.dialled(retry), Some(grant(3)));
    let begun = std::iter::repeat_with(|| dial(&mut ledger, retry)).take_while(|begun| *begun).count();
    assert_eq!(begun, 4, "and then all that there is room for");
}

#[test]
fn those_who_can_still_be_served_go_on_waiting_after_a_failed_attempt() {
    let now = Instant::now();
    let mut ledger = ledger(2, 0);
    queue(&mut ledger, 1, now);
    assert_eq!(ledger.dialled(now), Some(grant(1)));
    assert!(queue(&mut ledger, 2, now));
    assert_eq!(ledger.dial_failed(now, 0.0), []);
    assert_eq!(ledger.waiting(), 1);
}

#[test]
fn the_reserve_is_used_when_a_client_has_waited_for_long_and_given_up_when_nobody_waits() {
    let now = Instant::now();
    let mut ledger = ledger(1, 1);
    assert!(queue(&mut ledger, 1, now));
    assert_eq!((ledger.watch_reserve(), ledger.dialled(now)), (Some(now + RESERVE_AFTER), Some(grant(1))));
    assert!(!queue(&mut ledger, 2, now));
    assert_eq!(ledger.watch_reserve(), None, "somebody looks after it already");
    ledger.reserve_due();
    assert_eq!(ledger.watch_reserve(), Some(now + RESERVE_AFTER));
    assert!(!ledger.wants_dial(now + RESERVE_AFTER / 2));
    assert!(dial(&mut ledger, now + RESERVE_AFTER));
    assert_eq!((ledger.dialled(now), ledger.limit()), (Some(grant(2)), Limit::Pool(2)));
    queue(&mut ledger, 3, now);
    assert_eq!(ledger.returned(now), Use::Serve(grant(3)));
    assert_eq!(ledger.returned(now), Use::Keep, "the sweeper closes what is left over");
    ledger.resize(Sizes { reserve_size: 0, ..ledger.sizes });
    assert_eq!(ledger.returned(now), Use::Close);
    assert_eq!((ledger.leave(0), ledger.leave(2), ledger.leave(2)), (0, 1, 0), "two workers look at the same time");
    ledger.closed();
    ledger.left(1);
    assert_eq!((ledger.open(), ledger.leave(1)), (1, 0));
}

#[test]
fn while_paused_clients_wait_and_upstreams_are_closed() {
    let now = Instant::now();
    let mut ledger = ledger(2, 0);
    queue(&mut ledger, 1, now);
    ledger.pause();
    assert_eq!(ledger.dialled(now), None, "what was under way serves nobody");
    assert_eq!((ledger.returned(now), ledger.needs_attention()), (Use::Close, true));
    ledger.closed();
    assert!(!queue(&mut ledger, 2, now));
    assert!(!ledger.wants_minimum(2, now));
    let timeout = Duration::from_secs(1);
    assert_eq!(ledger.patience(timeout, now), Some(now + timeout));
    ledger.resume(now);
    let half = now + timeout / 2;
    assert_eq!((ledger.patience(timeout, half), ledger.patience(timeout, now + timeout)), (Some(now + timeout), None));
    assert!(dial(&mut ledger, now));
    assert_eq!(ledger.dialled(now), Some(grant(1)));
}

#[test]
fn those_who_wait_have_nothing_to_wait_for_when_the_last_upstream_closes_and_none_is_made() {
    let now = Instant::now();
    let mut ledger = ledger(2, 0);
    ledger.begin_dial();
    assert_eq!(ledger.dialled(now), None);
    assert!(queue(&mut ledger, 1, now));
    assert_eq!(ledger.dial_failed(now, 1.0), []);
    assert_eq!(ledger.lost(now), [], "one is open");
    ledger.closed();
    let retry = ledger.retry_at().unwrap();
    assert_eq!(ledger.lost(retry), [], "the next attempt is due");
    ledger.pause();
    assert_eq!(ledger.lost(now), [], "a pause is waited for");
    ledger.resume(now);
    assert_eq!((ledger.lost(now), ledger.waiting()), (vec![ticket(1)], 0));
    assert_eq!(ledger.wait(ticket(2), &claim(), now), Admission::Down(retry), "as whoever comes next is told");
}

#[test]
fn a_login_that_waits_for_the_first_upstream_has_one_dialled() {
    let now = Instant::now();
    let mut ledger = ledger(1, 0);
    ledger.visit();
    assert!(dial(&mut ledger, now));
    assert!(!ledger.wants_dial(now));
    assert_eq!(ledger.dialled(now), None);
    assert!(!ledger.wants_dial(now), "there is one");
    ledger.unvisit();
    assert_eq!(ledger.returned(now), Use::Keep);
}

#[test]
fn leases_that_were_taken_while_only_a_full_tenant_waited_are_charged_when_others_wait() {
    let now = Instant::now();
    let mut ledger = ledger(3, 0);
    let of = |tenant: u32, max: u32| Claim { key: key(tenant), share: Share { max, ..Share::default() }, ..claim() };
    for client in 0..3 {
        ledger.begin_dial();
        assert_eq!(ledger.dialled(now), None, "{client}");
    }
    assert!(ledger.take(&of(1, 1), now));
    assert_eq!(ledger.wait(ticket(1), &of(1, 1), now), Admission::Queued);
    assert!(!ledger.needs_attention(), "it has as many as it may have: nobody is kept from an upstream");
    for _ in 0..2 {
        ledger.moor().hold(key(2), 0);
    }
    assert_eq!(ledger.load(key(2), false), (0, 0), "nobody was told");
    assert_eq!(ledger.wait(ticket(2), &of(2, 0), now), Admission::Queued);
    assert_eq!(ledger.load(key(2), false), (2, 1));
    assert_eq!(ledger.wait(ticket(3), &of(3, 0), now), Admission::Queued);
    assert_eq!(ledger.returned(now), Use::Serve(Grant { ticket: ticket(3), key: key(3) }), "the other one has two");
}

#[test]
fn leases_are_charged_when_a_client_can_be_served_that_could_not_before() {
    let now = Instant::now();
    let mut ledger = ledger(2, 0);
    let full = Claim { key: key(1), share: Share { max: 1, ..Share::default() }, ..claim() };
    assert!(ledger.take(&full, now));
    assert_eq!(ledger.wait(ticket(1), &full, now), Admission::Queued);
    ledger.moor().hold(key(2), 0);
    ledger.release(key(1), 0, now);
    assert!(ledger.needs_attention());
    assert_eq!(ledger.load(key(2), false), (1, 0));
}

/// A small model beside the ledger, which knows what must be true after each step.
struct Model {
    ledger: Ledger,
    idle: usize,
    leased: usize,
    queued: VecDeque<(Ticket, Instant)>,
    paused: bool,
}

impl Model {
    fn step(&mut self, what: u32, client: u64, now: Instant, rng: &mut StdRng) {
        match what {
            0 | 1 if self.idle > 0 => (self.idle, self.leased) = (self.idle - 1, self.leased + 1),
            0 | 1 => {
                if self.ledger.wait(ticket(client), &claim(), now) == Admission::Queued {
                    self.queued.push_back((ticket(client), now));
                } else {
                    assert!(self.idle + self.leased + self.ledger.dialling() == 0 && !self.paused);
                }
            }
            2 if self.leased > 0 => self.give_back(now),
            3 if self.ledger.dialling() > 0 => {
                self.leased += 1;
                match self.ledger.dialled(now) {
                    Some(served) => assert_eq!(Some(served), self.next()),
                    None => self.give_back(now),
                }
            }
            4 if self.ledger.dialling() > 0 => {
                let failed = self.ledger.dial_failed(now, 0.5);
                assert!(failed.is_empty() || self.idle + self.leased + self.ledger.dialling() == 0);
                assert!(failed.is_empty() || failed == self.queued.drain(..).map(|(t, _)| t).collect::<Vec<_>>());
            }
            5 if self.leased > 0 => {
                self.leased -= 1;
                self.ledger.closed();
            }
            6 if !self.queued.is_empty() => {
                let at = rng.random_range(0..self.queued.len());
                assert!(self.queued.remove(at).is_some_and(|(gone, _)| self.ledger.withdraw(gone, now)));
            }
            7 => {
                let sizes = Sizes { size: rng.random_range(1..5), ..self.ledger.sizes };
                self.ledger.resize(sizes);
            }
            8 => {
                self.paused = !self.paused;
                if self.paused { self.ledger.pause() } else { self.ledger.resume(now) }
            }
            9 if self.ledger.dialling() > 0 => self.ledger.dial_abandoned(),
            _ => {}
        }
    }

    fn give_back(&mut self, now: Instant) {
        match self.ledger.returned(now) {
            Use::Serve(served) => {
                assert!(!self.paused);
                assert_eq!(Some(served), self.next());
            }
            Use::Keep => {
                assert!(!self.paused && self.queued.is_empty());
                (self.leased, self.idle) = (self.leased - 1, self.idle + 1);
            }
            Use::Close => {
                let sizes = self.ledger.sizes;
                assert!(self.paused || self.ledger.open() > sizes.size + sizes.reserve_size);
                self.leased -= 1;
                self.ledger.closed();
            }
        }
    }

    fn next(&mut self) -> Option<Grant> {
        self.queued.pop_front().map(|(ticket, _)| Grant { ticket, key: key(0) })
    }

    fn dial(&mut self, now: Instant) {
        let before = self.ledger.open();
        if dial(&mut self.ledger, now) {
            let sizes = self.ledger.sizes;
            let late = self.queued.front().is_some_and(|(_, since)| now - *since >= sizes.reserve_after);
            assert!(!self.paused && before < sizes.size + if late { sizes.reserve_size } else { 0 });
        }
    }

    fn check(&self, seed: u64) {
        assert_eq!(self.ledger.open(), self.idle + self.leased + self.ledger.dialling(), "seed {seed}");
        assert_eq!(self.ledger.waiting(), self.queued.len(), "seed {seed}");
        assert_eq!(self.ledger.waiting_since(), self.queued.front().map(|(_, since)| *since), "seed {seed}");
        assert!(self.paused == self.ledger.is_paused(), "seed {seed}");
    }
}

#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..300u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut now = Instant::now();
        let ledger = ledger(rng.random_range(1..5), rng.random_range(0..3));
        let mut model = Model { ledger, idle: 0, leased: 0, queued: VecDeque::new(), paused: false };
        for client in 0..500u64 {
            now += Duration::from_millis(rng.random_range(0..300));
            let what = rng.random_range(0..10);
            // Pauses are rare and short, so that something happens between them.
            if what != 8 || model.paused || rng.random_range(0..10) == 0 {
                model.step(what, client, now, &mut rng);
            }
            model.check(seed);
            model.dial(now);
            model.check(seed);
        }
    }
}
