//! How many wrong passwords an address may give.
//!
//! Each address has a budget of failures that fills up again evenly: with 10 in a minute, ten may come at once, and
//! then one every six seconds. Who has none left is refused before a password is asked for, and again before it is told
//! whether one was right, so that guessing goes no faster than the budget fills, however many connections are opened at
//! once. An IPv6 address counts with its whole /64, which
//! is what one customer is given.
//!
//! The table is bounded. When it is full, addresses whose budget is whole again are forgotten; if there are none, the
//! one that is nearest to it is. So a flood from very many addresses lets each of them guess a little more often, and
//! never takes memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are remembered, some fifty bytes each.
const MAX_ADDRESSES: usize = 10_000;

/// An address, or the network that counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    /// The one that an address belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into()),
            address => Self(address),
        }
    }
}

/// Failures allowed: so many, within this time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// 0: any number.
    pub(crate) failures: u32,
    pub(crate) period: Duration,
}

/// Who has failed lately. For each, when its budget is whole again.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    whole_at: HashMap<Source, Instant>,
}

impl Failures {
    /// How long an address has to wait before it may try; `None`: not at all.
    pub(crate) fn wait(&self, source: Source, allowance: Allowance, now: Instant) -> Option<Duration> {
        if allowance.failures == 0 {
            return None;
        }
        // What is missing from the budget, as time. One failure is allowed while one's worth of it is left.
        let missing = self.whole_at.get(&source)?.saturating_duration_since(now);
        let bearable = allowance.period.saturating_sub(allowance.period / allowance.failures);
        missing.checked_sub(bearable).filter(|wait| !wait.is_zero())
    }

    /// An address has given a wrong password.
    pub(crate) fn failed(&mut self, source: Source, allowance: Allowance, now: Instant) {
        if allowance.failures == 0 {
            return;
        }
        if !self.whole_at.contains_key(&source) && self.whole_at.len() >= MAX_ADDRESSES {
            self.make_room(now);
        }
        let whole_at = self.whole_at.entry(source).or_insert(now);
        // Failures that were under way when the budget ran out do not lock anybody out for longer than the period.
        *whole_at = ((*whole_at).max(now) + allowance.period / allowance.failures).min(now + allowance.period);
    }

    fn make_room(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        if self.whole_at.len() >= MAX_ADDRESSES
            && let Some(nearest) = self.whole_at.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source)
        {
            self.whole_at.remove(&nearest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { failures: 10, period: Duration::from_secs(60) };

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn ten_at_once_and_then_one_every_six_seconds() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let anna = source("192.0.2.1");
        for _ in 0..10 {
            assert_eq!(failures.wait(anna, ALLOWANCE, start), None);
            failures.failed(anna, ALLOWANCE, start);
        }
        assert_eq!(failures.wait(anna, ALLOWANCE, start), Some(Duration::from_secs(6)));
        assert_eq!(failures.wait(anna, ALLOWANCE, at(5)), Some(Duration::from_secs(1)));
        assert_eq!(failures.wait(anna, ALLOWANCE, at(6)), None);
        failures.failed(anna, ALLOWANCE, at(6));
        assert_eq!(failures.wait(anna, ALLOWANCE, at(6)), Some(Duration::from_secs(6)));
        assert_eq!(failures.wait(source("192.0.2.2"), ALLOWANCE, at(6)), None, "others are not struck");
        assert_eq!(failures.wait(anna, ALLOWANCE, at(70)), None);
    }

    #[test]
    fn attempts_that_were_under_way_lock_nobody_out_for_longer_than_the_period() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let anna = source("192.0.2.1");
        (0..1_000).for_each(|_| failures.failed(anna, ALLOWANCE, now));
        assert_eq!(failures.wait(anna, ALLOWANCE, now), Some(Duration::from_secs(6)));
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits_and_mapped_ipv4_as_what_it_is() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("::ffff:192.0.2.1"), source("::ffff:192.0.2.2"));
    }

    #[test]
    fn the_table_has_an_end_and_keeps_the_worst() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let worst = source("192.0.2.1");
        (0..10).for_each(|_| failures.failed(worst, ALLOWANCE, now));
        for n in 0..(MAX_ADDRESSES as u32 + 50) {
            failures.failed(Source::of(std::net::Ipv4Addr::from(0x0a00_0000 + n).into()), ALLOWANCE, now);
        }
        assert_eq!(failures.whole_at.len(), MAX_ADDRESSES);
        assert!(failures.wait(worst, ALLOWANCE, now).is_some());
        // What is whole again is forgotten first, and all at once.
        failures.failed(source("198.51.100.1"), ALLOWANCE, now + Duration::from_secs(61));
        assert_eq!(failures.whole_at.len(), 1);
    }

    #[test]
    fn zero_is_no_limit() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let none = Allowance { failures: 0, period: Duration::from_secs(60) };
        (0..100).for_each(|_| failures.failed(source("192.0.2.1"), none, now));
        assert_eq!(failures.wait(source("192.0.2.1"), none, now), None);
        assert!(failures.whole_at.is_empty());
        let one = Allowance { failures: 1, period: Duration::from_secs(60) };
        failures.failed(source("192.0.2.1"), one, now);
        assert_eq!(failures.wait(source("192.0.2.1"), one, now), Some(Duration::from_secs(60)));
    }
}
