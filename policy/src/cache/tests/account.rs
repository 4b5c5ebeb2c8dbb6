//! Budgets, counters and their words.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use super::super::account::*;
use super::super::eligible::Bypass;
use super::random::Random;
use crate::tenant::TenantId;

const SMALL: Budget = Budget { max_bytes: 1_000, max_entry: 400, tenant_share: 0.5 };

fn tenant(index: u32) -> TenantId {
    TenantId::from_index(index)
}

#[test]
fn an_entry_that_never_fits_is_refused() {
    let account = Account::default();
    assert_eq!(account.room_for(&SMALL, tenant(1), 401), Err(Refused::TooLarge));
    assert_eq!(account.room_for(&SMALL, tenant(1), 400), Ok(Eviction::default()));
    let tight = Budget { max_entry: 600, ..SMALL };
    assert_eq!(account.room_for(&tight, tenant(1), 501), Err(Refused::NoRoom), "more than its share");
    let none = Budget { tenant_share: 0.0, ..SMALL };
    assert_eq!(account.room_for(&none, tenant(1), 1), Err(Refused::NoRoom));
}

#[test]
fn a_tenant_makes_room_among_its_own_first() {
    let mut account = Account::default();
    account.add(tenant(1), 300);
    account.add(tenant(2), 400);
    assert_eq!(account.room_for(&SMALL, tenant(1), 300), Ok(Eviction { of_tenant: 100, of_all: 0 }));
    assert_eq!(account.room_for(&SMALL, tenant(3), 400), Ok(Eviction { of_tenant: 0, of_all: 100 }));
    account.add(tenant(1), 200);
    assert_eq!(account.room_for(&SMALL, tenant(1), 200), Ok(Eviction { of_tenant: 200, of_all: 100 }));
}

#[test]
fn shares_are_parts_of_the_whole_whatever_is_said() {
    for (share, expected) in
        [(0.25, 250), (1.0, 1_000), (7.0, 1_000), (-1.0, 0), (f64::NAN, 0), (0.0001, 0), (f64::INFINITY, 1_000)]
    {
        assert_eq!(Budget { tenant_share: share, ..SMALL }.of_tenant(), expected, "{share}");
    }
    let vast = Budget { max_bytes: u64::MAX, tenant_share: 1.0, ..SMALL };
    assert_eq!(vast.of_tenant(), u64::MAX);
}

#[test]
fn smaller_budgets_say_what_has_to_go() {
    let mut account = Account::default();
    for (who, bytes) in [(1, 700), (2, 500), (3, 100)] {
        account.add(tenant(who), bytes);
    }
    assert_eq!(account.over(&SMALL), (vec![(tenant(1), 200)], 100));
    assert_eq!(account.over(&Budget { max_bytes: 2_000, ..SMALL }), (vec![], 0));
}

#[test]
fn no_store_that_keeps_to_it_gets_over_its_budgets() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut account = Account::default();
        let mut kept: Vec<(TenantId, u64)> = Vec::new();
        for _ in 0..400 {
            let (who, weight) = (tenant(random.below(5) as u32), 1 + random.below(450));
            let Ok(room) = account.room_for(&SMALL, who, weight) else {
                assert!(weight > SMALL.max_entry);
                continue;
            };
            // The oldest of the tenant's, then anybody's oldest.
            let mut freed = 0;
            while freed < room.of_tenant {
                let at = kept.iter().position(|(owner, _)| *owner == who).expect("it holds that much");
                let (owner, bytes) = kept.remove(at);
                account.remove(owner, bytes);
                freed += bytes;
            }
            while freed < room.of_all {
                let (owner, bytes) = kept.remove(0);
                account.remove(owner, bytes);
                freed += bytes;
            }
            account.add(who, weight);
            kept.push((who, weight));
            assert_eq!(account.total(), kept.iter().map(|(_, bytes)| bytes).sum::<u64>());
            assert!(account.total() <= SMALL.max_bytes, "seed {seed}");
            assert!(account.tenants().all(|(_, bytes)| bytes <= SMALL.of_tenant()), "seed {seed}");
        }
        for (owner, bytes) in kept.drain(..) {
            account.remove(owner, bytes);
        }
        assert_eq!((account.total(), account.tenants().count()), (0, 0));
    }
}

#[test]
fn what_is_not_there_is_not_taken_away() {
    let mut account = Account::default();
    account.remove(tenant(1), 10);
    account.add(tenant(1), 5);
    account.remove(tenant(1), 10);
    account.remove(tenant(2), 10);
    assert_eq!((account.total(), account.of(tenant(1))), (0, 0));
    account.add(tenant(1), u64::MAX);
    account.add(tenant(1), 5);
    assert_eq!((account.total(), weight(usize::MAX, usize::MAX, usize::MAX)), (u64::MAX, u64::MAX));
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    fn check<R: Reason>() {
        let words: BTreeSet<_> = R::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), R::ALL.len());
        let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(words.iter().all(|word| plain(word)), "{words:?}");
        let counts = Counts::<R>::default();
        for (at, reason) in R::ALL.iter().enumerate() {
            assert_eq!(reason.number(), at);
            counts.add(*reason, at as u64 + 1);
        }
        assert!(
            counts.all().enumerate().all(|(at, (word, count))| count == at as u64 + 1 && word == R::ALL[at].word())
        );
    }
    check::<Miss>();
    check::<Refused>();
    check::<Invalidated>();
    check::<Bypass>();
}

#[test]
fn the_ratio_counts_what_may_be_cached() {
    let counters = Counters::default();
    assert_eq!(counters.hit_ratio(), None);
    counters.hit(700, false);
    counters.hit(300, true);
    counters.hit(0, false);
    counters.misses.count(Miss::Absent);
    counters.bypasses.count(Bypass::NoRule);
    assert_eq!(counters.hit_ratio(), Some(0.75));
    assert_eq!((counters.saved_micros.load(Relaxed), counters.stale.load(Relaxed)), (1_000, 1));
}
