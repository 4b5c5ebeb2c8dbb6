//! What is known of the hosts that are connected to: which did not answer lately, and which was what. It only decides the
//! order in which they are tried, never whether: a memory that is wrong costs time, not service.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use config::{Host, SessionAttrs};

use crate::pool::ledger::Backoff;

/// How long it is believed that a host is what it was.
const ROLE_MEMORY: Duration = Duration::from_secs(5);
/// Hosts remembered; the configuration names few.
const MAX_HOSTS: usize = 1024;

/// What a server says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// `in_hot_standby`.
    pub standby: bool,
    /// `default_transaction_read_only`, or it is a standby.
    pub read_only: bool,
}

impl Role {
    /// Whether such a server will do. `prefer-standby` is asked as `standby`: the second choice is the caller's.
    pub fn suits(self, wanted: SessionAttrs) -> bool {
        match wanted {
            SessionAttrs::Any => true,
            SessionAttrs::ReadWrite => !self.read_only,
            SessionAttrs::ReadOnly => self.read_only,
            SessionAttrs::Primary => !self.standby,
            SessionAttrs::Standby | SessionAttrs::PreferStandby => self.standby,
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    failures: u32,
    avoid_until: Option<Instant>,
    role: Option<(Role, Instant)>,
}

/// What is known of all hosts.
#[derive(Debug, Default)]
pub struct HostTable {
    known: HashMap<Host, Known>,
}

impl HostTable {
    /// Puts hosts into the order in which they should be tried: those without known trouble, in the order given; those
    /// that were something else than wanted a moment ago; those that have not answered.
    pub fn sort(&self, hosts: &mut [Host], wanted: SessionAttrs, now: Instant) {
        hosts.sort_by_key(|host| {
            let Some(known) = self.known.get(host) else { return 0 };
            let role = known.role.filter(|(_, at)| now.saturating_duration_since(*at) < ROLE_MEMORY);
            match role {
                _ if known.avoid_until.is_some_and(|until| until > now) => 2,
                Some((role, _)) if !role.suits(wanted) => 1,
                _ => 0,
            }
        });
    }

    /// A host did not answer, or cannot serve anybody now.
    pub fn failed(&mut self, host: &Host, backoff: Backoff, now: Instant, jitter: f64) {
        let known = self.entry(host);
        known.avoid_until = Some(now + backoff.pause(known.failures, jitter));
        known.failures = (known.failures + 1).min(30);
        known.role = None;
    }

    /// A host answered; `role`: it said what it is.
    pub fn answered(&mut self, host: &Host, role: Option<Role>, now: Instant) {
        let known = self.entry(host);
        (known.failures, known.avoid_until) = (0, None);
        known.role = role.map(|role| (role, now)).or(known.role);
    }

    /// Whether a host was a standby when it was connected to last; `None`: it has not said.
    pub fn is_standby(&self, host: &Host) -> Option<bool> {
        self.known.get(host)?.role.map(|(role, _)| role.standby)
    }

    fn entry(&mut self, host: &Host) -> &mut Known {
        if self.known.len() >= MAX_HOSTS && !self.known.contains_key(host) {
            self.known.clear();
        }
        self.known.entry(host.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
    const PRIMARY: Role = Role { standby: false, read_only: false };
    const FROZEN: Role = Role { standby: false, read_only: true };
    const REPLICA: Role = Role { standby: true, read_only: true };

    fn order(table: &HostTable, wanted: SessionAttrs, now: Instant) -> String {
        let mut hosts = ["a", "b", "c"].map(|name| Host { name: name.to_owned(), port: 5432 });
        table.sort(&mut hosts, wanted, now);
        hosts.map(|host| host.name).concat()
    }

    fn host(name: &str) -> Host {
        Host { name: name.to_owned(), port: 5432 }
    }

    #[test]
    fn servers_suit_as_libpq_says() {
        let suits = |role: Role| [Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby].map(|w| role.suits(w));
        assert_eq!(suits(PRIMARY), [true, true, false, true, false, false]);
        assert_eq!(suits(FROZEN), [true, false, true, true, false, false]);
        assert_eq!(suits(REPLICA), [true, false, true, false, true, true]);
    }

    #[test]
    fn a_dead_host_is_tried_last_until_its_pause_is_over() {
        let now = Instant::now();
        let mut table = HostTable::default();
        table.failed(&host("a"), BACKOFF, now, 1.0);
        assert_eq!(order(&table, Any, now), "bca");
        assert_eq!(order(&table, Any, now + BACKOFF.first), "abc");
        table.failed(&host("a"), BACKOFF, now, 1.0);
        assert_eq!(order(&table, Any, now + BACKOFF.first), "bca", "the second pause is twice as long");
        table.answered(&host("a"), None, now);
        assert_eq!(order(&table, Any, now), "abc");
    }

    #[test]
    fn who_was_something_else_a_moment_ago_is_asked_after_the_others_and_before_the_dead() {
        let now = Instant::now();
        let mut table = HostTable::default();
        table.failed(&host("a"), BACKOFF, now, 1.0);
        table.answered(&host("b"), Some(REPLICA), now);
        assert_eq!((table.is_standby(&host("b")), table.is_standby(&host("a"))), (Some(true), None));
        assert_eq!(order(&table, Primary, now), "cba");
        assert_eq!(order(&table, Standby, now), "bca");
        table.answered(&host("b"), None, now);
        assert_eq!(order(&table, Primary, now), "cba", "who says nothing has not changed");
        assert_eq!(order(&table, Primary, now + ROLE_MEMORY), "abc");
    }
}
