//! Workers that take and give back at the same time: every lease in steps as small as those between which another worker
//! may come, in random order. Whatever the order, nothing is lost from the count, nobody is over his maximum, and nothing
//! idles while somebody waits who could have it.

use super::*;

const TENANTS: u32 = 4;

/// Where an upstream is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Idle,
    /// Taken without the ledger; whether it is counted, if somebody waits, is still to be looked at.
    Taken(Key),
    /// The ledger has said whose it is; its mark is not written yet.
    Granted(Key),
    Leased(Key),
    /// Its mark is free; the ledger may still have to be told.
    Freed(Option<(Key, u64)>),
    /// Its mark names another; the ledger may still have to be told.
    Changed(Option<Key>, Key),
    /// On an idle list, and attention is still to be read.
    Shown,
}

struct World {
    ledger: Ledger,
    marks: Vec<Arc<Mark>>,
    at: Vec<At>,
    /// Those that were granted to a limited tenant who is looking for a free one.
    reserved: Vec<Key>,
    shares: Vec<Share>,
    tickets: u64,
    now: Instant,
    seed: u64,
}

impl World {
    fn new(seed: u64, rng: &mut StdRng) -> Self {
        let now = Instant::now();
        let size = rng.random_range(1..6);
        let backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) };
        let sizes = Sizes { size, reserve_size: 0, reserve_after: Duration::ZERO, max_waiting: 0, backoff };
        let mut ledger = Ledger::new(sizes, now);
        let marks: Vec<_> = (0..size).map(|_| ledger.moor()).collect();
        (0..size).for_each(|_| {
            ledger.begin_dial();
            assert_eq!(ledger.dialled(now), None);
        });
        let mut share = |tenant: u32| Share {
            // Half of the tenants have a maximum.
            max: if tenant.is_multiple_of(2) { rng.random_range(1..4) } else { 0 },
            min: rng.random_range(0..2),
            ..Share::default()
        };
        let shares = (0..TENANTS).map(&mut share).collect();
        Self { ledger, marks, at: vec![At::Idle; size], reserved: Vec::new(), shares, tickets: 0, now, seed }
    }

    fn claim(&self, tenant: u32) -> Claim {
        Claim {
            key: key(tenant),
            share: self.shares[tenant as usize],
            class: ClassShare::default(),
            deadline: None,
            watched: false,
        }
    }

    fn idle(&self) -> Option<usize> {
        self.at.iter().position(|at| *at == At::Idle)
    }

    /// A client wants an upstream.
    fn ask(&mut self, tenant: u32) {
        let claim = self.claim(tenant);
        if claim.share.max > 0 && self.ledger.take(&claim, self.now) {
            return self.reserved.push(claim.key);
        }
        match self.idle() {
            Some(idle) if claim.share.max == 0 => {
                self.marks[idle].hold(claim.key, 0);
                self.at[idle] = At::Taken(claim.key);
            }
            _ => self.wait(&claim),
        }
    }

    fn wait(&mut self, claim: &Claim) {
        self.tickets += 1;
        let ticket = Ticket { worker: 0, client: self.tickets, turn: 0 };
        assert_eq!(self.ledger.wait(ticket, claim, self.now), Admission::Queued);
        // It asks those that have something idle.
        self.share();
    }

    fn share(&mut self) {
        while self.ledger.needs_attention()
            && let Some(idle) = self.idle()
        {
            self.serve(idle);
        }
    }

    fn serve(&mut self, upstream: usize) {
        self.at[upstream] = match self.ledger.returned(self.now) {
            Use::Serve(grant) => At::Granted(grant.key),
            Use::Keep => At::Idle,
            Use::Close => unreachable!("seed {}: the pool has its size", self.seed),
        };
        if self.at[upstream] == At::Idle {
            assert!(!self.ledger.needs_attention(), "seed {}", self.seed);
        }
    }

    /// The next step of what is under way with an upstream.
    fn step(&mut self, upstream: usize, rng: &mut StdRng) {
        let mark = self.marks[upstream].clone();
        self.at[upstream] = match self.at[upstream] {
            At::Idle => return,
            At::Taken(key) => {
                if self.ledger.needs_attention() {
                    self.ledger.count_lease(&mark, self.now);
                }
                At::Leased(key)
            }
            At::Granted(key) => {
                mark.grant(key, 0);
                At::Leased(key)
            }
            At::Leased(_) if rng.random_range(0..4) == 0 => {
                let to = key(rng.random_range(0..TENANTS / 2) * 2 + 1);
                At::Changed(mark.change(to), to)
            }
            At::Leased(_) => At::Freed(mark.free()),
            At::Changed(from, to) => {
                if let Some(from) = from {
                    self.ledger.transfer(from, to, self.now);
                }
                self.at[upstream] = At::Leased(to);
                return self.share();
            }
            At::Freed(told) => {
                if let Some((key, since)) = told {
                    self.ledger.release(key, since, self.now);
                }
                At::Shown
            }
            At::Shown if self.ledger.needs_attention() => return self.serve(upstream),
            At::Shown => At::Idle,
        };
    }

    /// A limited tenant that may have one more finds one, or waits.
    fn settle(&mut self) {
        let Some(key) = self.reserved.pop() else { return };
        match self.idle() {
            Some(idle) => {
                self.marks[idle].grant(key, 0);
                self.at[idle] = At::Leased(key);
            }
            None => {
                self.ledger.forgo(key, self.now);
                self.wait(&self.claim(key.tenant.index() as u32));
            }
        }
    }

    fn holds(&self, key: Key) -> usize {
        let holds = |at: &&At| matches!(at, At::Taken(of) | At::Granted(of) | At::Leased(of) if *of == key);
        self.at.iter().filter(holds).count()
    }

    fn check(&self) {
        for tenant in 0..TENANTS {
            let most = self.shares[tenant as usize].max as usize;
            assert!(most == 0 || self.holds(key(tenant)) <= most, "seed {}: {:?}", self.seed, self.at);
        }
    }

    /// Whatever is under way comes to its end.
    fn finish(&mut self, rng: &mut StdRng) {
        for _ in 0..10_000 {
            let under_way = self.at.iter().any(|at| *at != At::Idle) || !self.reserved.is_empty();
            if !under_way {
                break;
            }
            self.settle();
            self.step(rng.random_range(0..self.at.len()), rng);
            self.check();
        }
        assert!(self.at.iter().all(|at| *at == At::Idle), "seed {}: {:?}", self.seed, self.at);
        assert_eq!(self.ledger.waiting(), 0, "seed {}: somebody waits while everything idles", self.seed);
        assert_eq!(self.ledger.standings(9), [], "seed {}: the count has lost something", self.seed);
        self.marks.iter().for_each(|mark| assert_eq!(mark.holder(), None));
    }
}

#[test]
fn no_order_of_steps_loses_an_upstream_or_a_lease_or_lets_a_tenant_have_too_many() {
    for seed in 0..2000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, &mut rng);
        for _ in 0..120 {
            world.now += Duration::from_micros(rng.random_range(0..2000));
            match rng.random_range(0..8) {
                0..=2 => world.ask(rng.random_range(0..TENANTS)),
                3 => world.settle(),
                _ => world.step(rng.random_range(0..world.at.len()), &mut rng),
            }
            world.check();
        }
        world.finish(&mut rng);
    }
}
