//! The rules one by one, and random operations against a model.

use super::*;

mod simulation;

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(super) struct Random(u64);

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Seeds that stand side by side must not give the same numbers one place on.
        Self(mix(seed.wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// With a mean of 1.
    pub(super) fn exponential(&mut self) -> f64 {
        let unit = (self.number() >> 11) as f64 / (1u64 << 53) as f64;
        -(1.0 - unit).ln()
    }
}

pub(super) fn share() -> Share {
    Share { weight: 100, ..Share::default() }
}

pub(super) fn key(tenant: u32, class: u8) -> Key {
    Key { tenant: TenantId::from_index(tenant), class }
}

pub(super) fn claim(tenant: u32, class: u8, share: Share) -> Claim {
    Claim { key: key(tenant, class), share, class: ClassShare::default(), deadline: None, watched: false }
}

fn weighs(weight: u32) -> ClassShare {
    ClassShare { weight, ..ClassShare::default() }
}

const MS: Duration = Duration::from_millis(1);

/// A queue, its upstreams, and a clock that is moved by hand.
struct Pool {
    queue: Queue<u64>,
    now: Instant,
    leases: Vec<(Grant<u64>, Instant)>,
    tickets: u64,
}

impl Pool {
    fn new() -> Self {
        Self { queue: Queue::new(0), now: Instant::now(), leases: Vec::new(), tickets: 0 }
    }

    fn wait(&mut self, claim: &Claim) -> u64 {
        self.tickets += 1;
        self.queue.wait(self.tickets, claim, self.now).unwrap();
        self.tickets
    }

    fn flood(&mut self, claim: &Claim, clients: usize) {
        (0..clients).for_each(|_| assert!(self.wait(claim) > 0));
    }

    fn serve(&mut self) -> Option<Key> {
        let grant = self.queue.next(self.now)?;
        self.leases.push((grant, self.now));
        Some(grant.key)
    }

    fn end(&mut self, of: Key) {
        let at = self.leases.iter().position(|(grant, _)| grant.key == of).unwrap();
        let (grant, since) = self.leases.remove(at);
        self.queue.release(grant.key, since, self.now);
    }

    fn held(&self, tenant: u32) -> usize {
        self.queue.held(TenantId::from_index(tenant))
    }
}

#[test]
fn one_tenant_alone_may_have_everything() {
    let mut pool = Pool::new();
    pool.flood(&claim(1, 0, share()), 20);
    assert!((0..20).all(|_| pool.serve().is_some()));
    assert_eq!((pool.serve(), pool.held(1), pool.queue.servable()), (None, 20, 0));
}

#[test]
fn upstreams_that_come_free_at_once_go_to_everybody() {
    let mut pool = Pool::new();
    pool.flood(&claim(1, 0, share()), 20);
    pool.flood(&claim(2, 0, share()), 20);
    (0..8).for_each(|_| assert!(pool.serve().is_some()));
    assert_eq!((pool.held(1), pool.held(2)), (4, 4));
}

#[test]
fn a_burst_is_taken_back_at_its_boundaries_when_others_wait() {
    let mut pool = Pool::new();
    pool.flood(&claim(1, 0, share()), 100);
    (0..8).for_each(|_| assert!(pool.serve().is_some()));
    assert_eq!(pool.held(1), 8, "nobody else waits");
    pool.now += 10 * MS;
    pool.flood(&claim(2, 0, share()), 100);
    for _ in 0..4 {
        pool.end(key(1, 0));
        assert_eq!(pool.serve(), Some(key(2, 0)));
    }
    assert_eq!((pool.held(1), pool.held(2)), (4, 4));
}

#[test]
fn a_minimum_goes_before_everything() {
    let mut pool = Pool::new();
    let promised = claim(2, 0, Share { weight: 1, min: 2, ..share() });
    pool.flood(&claim(1, 0, share()), 100);
    (0..4).for_each(|_| assert!(pool.serve().is_some()));
    pool.now += 10 * MS;
    pool.flood(&promised, 10);
    for _ in 0..2 {
        pool.end(key(1, 0));
        assert_eq!(pool.serve(), Some(key(2, 0)));
    }
    // From there on, its hundredth part.
    for _ in 0..10 {
        pool.now += MS;
        pool.end(key(1, 0));
        assert_eq!(pool.serve(), Some(key(1, 0)));
    }
    assert_eq!(pool.held(2), 2);
}

#[test]
fn a_tenant_at_its_maximum_is_passed_over_and_comes_again_when_a_lease_ends() {
    let mut pool = Pool::new();
    let limited = claim(1, 0, Share { max: 2, ..share() });
    pool.flood(&limited, 5);
    assert_eq!(pool.queue.servable(), 2);
    assert_eq!((pool.serve(), pool.serve(), pool.serve()), (Some(key(1, 0)), Some(key(1, 0)), None));
    assert_eq!((pool.queue.servable(), pool.queue.waiting(), pool.queue.waiting_since()), (0, 3, None));
    assert!(!pool.queue.take(&limited, pool.now), "though upstreams idle");
    pool.flood(&claim(2, 0, share()), 1);
    assert_eq!((pool.queue.servable(), pool.serve()), (1, Some(key(2, 0))));
    pool.end(key(1, 0));
    assert_eq!((pool.queue.servable(), pool.serve()), (1, Some(key(1, 0))));
}

#[test]
fn the_earliest_deadline_is_first_within_a_tenant_and_equals_in_their_order() {
    let mut pool = Pool::new();
    let due = |after: u32| Claim { deadline: Some(pool.now + after * MS), ..claim(1, 0, share()) };
    let claims = [claim(1, 0, share()), due(30), due(10), due(20), due(10), claim(1, 0, share())];
    let tickets: Vec<u64> = claims.iter().map(|claim| pool.wait(claim)).collect();
    let order: Vec<u64> = (0..6).map(|_| pool.queue.next(pool.now).unwrap().ticket).collect();
    assert_eq!(order, [2, 4, 3, 1, 0, 5].map(|place: usize| tickets[place]));
}

#[test]
fn a_deadline_is_no_way_past_other_tenants() {
    let mut pool = Pool::new();
    let hasty = Claim { deadline: Some(pool.now), ..claim(1, 0, share()) };
    pool.flood(&hasty, 10);
    pool.flood(&claim(2, 0, share()), 10);
    (0..6).for_each(|_| assert!(pool.serve().is_some()));
    assert_eq!((pool.held(1), pool.held(2)), (3, 3));
}

#[test]
fn classes_share_what_their_tenant_gets() {
    let mut pool = Pool::new();
    for class in 0..3 {
        pool.flood(&Claim { class: weighs(if class == 0 { 2 } else { 1 }), ..claim(1, class, share()) }, 50);
    }
    pool.flood(&claim(2, 0, share()), 50);
    (0..16).for_each(|_| assert!(pool.serve().is_some()));
    let held = |class| pool.leases.iter().filter(|(grant, _)| grant.key == key(1, class)).count();
    assert_eq!((pool.held(1), pool.held(2)), (8, 8), "three classes are no three tenants");
    assert_eq!((held(0), held(1), held(2)), (4, 2, 2));
}

#[test]
fn a_class_has_a_maximum_and_a_queue_of_its_own() {
    let mut pool = Pool::new();
    let bounded = ClassShare { max: 1, max_waiting: 3, ..ClassShare::default() };
    let batch = Claim { class: bounded, ..claim(1, 1, Share { max: 3, ..share() }) };
    let web = claim(1, 2, batch.share);
    pool.flood(&batch, 3);
    let full = pool.queue.wait(99, &batch, pool.now).unwrap_err();
    assert_eq!((full.of_tenant, full.waiting, full.limit), (true, 3, 3));
    assert_eq!((pool.queue.servable(), pool.serve(), pool.serve()), (1, Some(key(1, 1)), None));
    assert_eq!((pool.queue.maximum(&batch), pool.queue.maximum(&web)), (Some(1), None));
    assert!(!pool.queue.take(&batch, pool.now) && pool.queue.take(&web, pool.now));
    pool.flood(&web, 2);
    assert_eq!((pool.queue.servable(), pool.serve(), pool.serve()), (1, Some(key(1, 2)), None));
    assert_eq!(pool.queue.maximum(&web), Some(3), "the tenant's own");
    pool.end(key(1, 1));
    assert_eq!((pool.queue.servable(), pool.queue.waiting()), (1, 3));
}

#[test]
fn long_transactions_are_charged_while_they_run() {
    let mut pool = Pool::new();
    pool.flood(&claim(2, 0, share()), 60);
    for _ in 0..3 {
        pool.queue.adopt(key(1, 0), pool.now, pool.now);
    }
    pool.flood(&claim(1, 0, share()), 60);
    // A fourth upstream comes back again and again, and each short statement of the second holds it for a moment.
    for _ in 0..60 {
        assert_eq!(pool.serve(), Some(key(2, 0)));
        pool.now += MS;
        pool.end(key(2, 0));
    }
    assert_eq!(pool.held(1), 3);
}

#[test]
fn long_transactions_are_charged_for_what_they_lasted_before_anybody_waited() {
    let mut pool = Pool::new();
    let began = pool.now;
    pool.now += 400 * MS;
    pool.flood(&claim(2, 0, share()), 1);
    for _ in 0..3 {
        pool.queue.adopt(key(1, 0), began, pool.now);
    }
    for _ in 0..3 {
        pool.queue.release(key(1, 0), began, pool.now);
    }
    pool.wait(&claim(1, 0, share()));
    let back = pool.now;
    while pool.serve() == Some(key(2, 0)) {
        pool.flood(&claim(2, 0, share()), 1);
        pool.now += 10 * MS;
        pool.end(key(2, 0));
    }
    let waited = pool.now - back;
    // Three leases of 400 ms each, and what either side has ahead.
    assert!(waited >= 1000 * MS && waited <= 1500 * MS, "{waited:?}");
}

#[test]
fn nobody_starves_whatever_he_has_held() {
    let mut pool = Pool::new();
    for _ in 0..3 {
        pool.queue.adopt(key(1, 0), pool.now, pool.now);
    }
    pool.flood(&claim(2, 0, share()), 1);
    pool.wait(&claim(1, 0, share()));
    // An hour of three upstreams while others wait.
    pool.now += Duration::from_secs(3600);
    let began = pool.now - Duration::from_secs(3600);
    for _ in 0..3 {
        pool.queue.release(key(1, 0), began, pool.now);
    }
    let back = pool.now;
    loop {
        pool.flood(&claim(2, 0, share()), 1);
        if pool.serve() == Some(key(1, 0)) {
            break;
        }
        pool.now += 10 * MS;
        pool.end(key(2, 0));
        assert!(pool.now - back < 2 * MAX_DEBT, "it has waited for {:?}", pool.now - back);
    }
    assert!(pool.now - back > MAX_DEBT / 2, "and is charged for it");
}

#[test]
fn a_tenant_that_comes_and_goes_takes_its_debt_along() {
    let mut pool = Pool::new();
    pool.flood(&claim(2, 0, share()), 2000);
    // One client: it neither waits nor holds in between.
    let mut served = [0, 0];
    pool.wait(&claim(1, 0, share()));
    for _ in 0..1000 {
        let of = pool.serve().unwrap();
        let long = of == key(1, 0);
        pool.now += if long { 100 * MS } else { MS };
        served[usize::from(!long)] += 1;
        pool.end(of);
        if long {
            pool.wait(&claim(1, 0, share()));
        }
    }
    // A hundred short ones for each long one, give or take.
    assert!((8..=14).contains(&served[0]), "{served:?}");
}

#[test]
fn no_more_credit_is_saved_up_than_for_a_few_requests() {
    let mut pool = Pool::new();
    pool.flood(&claim(1, 0, share()), 1000);
    for _ in 0..100 {
        pool.serve();
        pool.now += 10 * MS;
        pool.end(key(1, 0));
    }
    pool.flood(&claim(2, 0, share()), 1000);
    let mut second = 0;
    for _ in 0..100 {
        let of = pool.serve().unwrap();
        second += usize::from(of == key(2, 0));
        pool.now += 10 * MS;
        pool.end(of);
    }
    let credit = BURST as usize / 2;
    assert!((45 + credit..=55 + credit).contains(&second), "{second}");
}

#[test]
fn queues_are_bounded_for_each_tenant_and_for_all() {
    let mut pool = Pool::new();
    pool.queue.set_limit(5);
    let bounded = claim(1, 0, Share { max_waiting: 3, ..share() });
    pool.flood(&bounded, 3);
    let full = pool.queue.wait(99, &bounded, pool.now).unwrap_err();
    assert_eq!((full.of_tenant, full.waiting, full.limit), (true, 3, 3));
    pool.flood(&claim(2, 0, share()), 2);
    let full = pool.queue.wait(99, &claim(2, 0, share()), pool.now).unwrap_err();
    assert_eq!((full.of_tenant, full.waiting, full.limit), (false, 5, 5));
    assert!(full.retry_in >= RETRY.0 && full.retry_in <= RETRY.1);
    assert!(!pool.queue.withdraw(99, pool.now) && pool.queue.withdraw(1, pool.now));
    assert!(pool.queue.wait(99, &bounded, pool.now).is_ok());
}

#[test]
fn who_neither_waits_nor_holds_is_forgotten() {
    let mut pool = Pool::new();
    for tenant in 0..5000 {
        let of = claim(tenant, (tenant % 3) as u8, share());
        let gone = pool.wait(&of);
        pool.wait(&of);
        pool.queue.withdraw(gone, pool.now);
        pool.serve();
        pool.now += MS;
        pool.end(of.key);
    }
    assert!(pool.queue.flows.is_empty() && pool.queue.indebted.is_empty() && pool.queue.spots.is_empty());
    assert!(pool.queue.ages.is_empty() && pool.queue.ready.is_empty() && pool.queue.spare.len() <= SPARE);
}

#[test]
fn a_lease_can_become_another_tenants() {
    let mut pool = Pool::new();
    pool.flood(&claim(1, 0, Share { max: 1, ..share() }), 2);
    assert_eq!((pool.serve(), pool.serve()), (Some(key(1, 0)), None));
    pool.queue.transfer(key(1, 0), key(2, 0), pool.now);
    assert_eq!((pool.held(1), pool.held(2), pool.serve()), (0, 1, Some(key(1, 0))));
}

#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut pool = Pool::new();
        let shares: Vec<Share> = (0..5)
            .map(|_| Share {
                weight: 1 + random.below(200) as u32,
                min: random.below(3) as u32,
                max: random.below(4) as u32,
                max_waiting: random.below(2) as u32 * 10,
            })
            .collect();
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        for ticket in 0..400 {
            pool.now += Duration::from_micros(random.below(30_000) as u64);
            let tenant = random.below(5) as u32;
            let class = ClassShare { weight: 1 + random.below(3) as u32, ..ClassShare::default() };
            let of = Claim { class, ..claim(tenant, random.below(2) as u8, shares[tenant as usize]) };
            match random.below(7) {
                0..=2 => match pool.queue.wait(ticket, &of, pool.now) {
                    Ok(()) => waiting.push((ticket, tenant)),
                    Err(full) => assert!(full.of_tenant && full.limit == 10 && full.waiting == 10),
                },
                3 => {
                    let held: Vec<usize> = (0..5).map(|tenant| pool.held(tenant)).collect();
                    let Some(served) = pool.serve() else {
                        let room = |tenant: u32| {
                            shares[tenant as usize].max == 0
                                || held[tenant as usize] < shares[tenant as usize].max as usize
                        };
                        assert!(waiting.iter().all(|(_, tenant)| !room(*tenant)), "seed {seed}");
                        continue;
                    };
                    let ticket = pool.leases.last().unwrap().0.ticket;
                    let at = waiting.iter().position(|(waiter, _)| *waiter == ticket).unwrap();
                    let (_, tenant) = waiting.remove(at);
                    assert_eq!(served.tenant, TenantId::from_index(tenant), "seed {seed}");
                    let urgent = |tenant: u32| {
                        held[tenant as usize]
                            < shares[tenant as usize].min.min(match shares[tenant as usize].max {
                                0 => 9,
                                max => max,
                            }) as usize
                    };
                    assert!(urgent(tenant) || !waiting.iter().any(|(_, other)| urgent(*other)), "seed {seed}");
                }
                4 if !pool.leases.is_empty() => {
                    let of = pool.leases[random.below(pool.leases.len())].0.key;
                    pool.end(of);
                }
                5 if !waiting.is_empty() => {
                    let (gone, _) = waiting.swap_remove(random.below(waiting.len()));
                    assert!(pool.queue.withdraw(gone, pool.now));
                }
                6 if random.below(20) == 0 => {
                    let mut gone: Vec<u64> = waiting.drain(..).map(|(ticket, _)| ticket).collect();
                    gone.sort_unstable();
                    assert_eq!(pool.queue.drain(pool.now), gone, "seed {seed}");
                }
                _ => {}
            }
            assert_eq!(pool.queue.waiting(), waiting.len(), "seed {seed}");
            let mut servable = 0;
            for tenant in 0..5u32 {
                let held =
                    pool.leases.iter().filter(|(grant, _)| grant.key.tenant == TenantId::from_index(tenant)).count();
                assert_eq!(pool.held(tenant), held, "seed {seed}");
                let max = shares[tenant as usize].max as usize;
                assert!(max == 0 || held <= max, "seed {seed}");
                let own = waiting.iter().filter(|(_, other)| *other == tenant).count();
                servable += if max == 0 { own } else { own.min(max - held) };
            }
            assert_eq!(pool.queue.servable(), servable, "seed {seed}");
        }
    }
}

#[test]
fn who_waits_by_another_claim_keeps_his_place_among_his_own() {
    let mut pool = Pool::new();
    let (full, free) = (claim(1, 0, Share { max: 1, ..share() }), claim(1, 0, share()));
    pool.flood(&full, 3);
    let since = pool.now;
    assert_eq!((pool.serve(), pool.serve(), pool.queue.servable()), (Some(key(1, 0)), None, 0));
    pool.now += MS;
    pool.queue.claim_anew(2, &free, pool.now);
    assert_eq!((pool.queue.servable(), pool.queue.waiting_since()), (2, Some(since)));
    pool.queue.claim_anew(3, &claim(2, 1, share()), pool.now);
    assert_eq!(pool.queue.load(key(2, 1), true), (0, 1));
    pool.wait(&free);
    pool.queue.claim_anew(2, &free, pool.now);
    pool.queue.claim_anew(9, &free, pool.now);
    assert_eq!(pool.queue.waiting(), 3, "one that does not wait has no place");
    pool.serve();
    pool.serve();
    pool.serve();
    let of = |tenant: u32| {
        let leases = pool.leases.iter().map(|(grant, _)| (grant.key.tenant.index() as u32, grant.ticket));
        leases.filter(|(of, _)| *of == tenant).map(|(_, ticket)| ticket).collect::<Vec<_>>()
    };
    assert_eq!((of(1), of(2)), (vec![1, 2, 4], vec![3]));
    pool.queue.claim_anew(1, &full, pool.now);
    assert_eq!(pool.queue.waiting(), 0, "served is served");
}
