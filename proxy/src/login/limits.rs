//! What keeps a client out before it is asked who it is.

use std::time::{Duration, Instant};

use config::{LoginLimits, Settings};
use policy::verdict::{LoginRefusal, Refusal};

use super::rate::{Allowance, Source};
use super::room::{Full, Place};
use super::{Denied, Gate, Guest};
use crate::stream::Peer;

impl Gate {
    /// Whether this address may try a password now.
    pub(super) fn may_try(&self, source: Option<Source>, limits: &LoginLimits) -> Result<(), Denied> {
        let wait = source.and_then(|source| self.failures.borrow().wait(source, allowance(limits), Instant::now()));
        match wait {
            Some(retry_in) => {
                self.telemetry.load().logins_limited.increment();
                Err(Refusal::Login(LoginRefusal::Failures { retry_in: whole_seconds(retry_in) }).into())
            }
            None => Ok(()),
        }
    }

    /// Whether what came of a proof may be used, and notes a wrong password.
    pub(super) fn judged<T>(
        &self,
        guest: &mut Guest,
        source: Option<Source>,
        settings: &Settings,
        proven: Result<T, Denied>,
    ) -> Result<T, Denied> {
        // Whoever guesses on many connections at once learns nothing from those that end after the budget has.
        self.may_try(source, &settings.auth.limits).inspect_err(|_| guest.out.clear())?;
        proven.inspect_err(|denied| {
            if let (Some(source), true) = (source, denied.is_wrong_password()) {
                self.failures.borrow_mut().failed(source, allowance(&settings.auth.limits), Instant::now());
            }
        })
    }

    /// Takes a connection's place among those before login.
    pub(super) fn enter(&self, peer: Peer) -> Result<Place, Denied> {
        let settings = self.shared.settings();
        let limits = &settings.auth.limits;
        let entered = self.room.enter(limited(peer, limits), limits.concurrent, limits.per_address);
        entered.map_err(|full| {
            self.telemetry.load().logins_limited.increment();
            let address = full == Full::Address;
            let limit = if address { limits.per_address } else { limits.concurrent };
            Refusal::Login(LoginRefusal::Logins { limit, address }).into()
        })
    }
}

/// Whose limits a client counts towards; `None`: it is exempt from those of addresses.
pub(super) fn limited(peer: Peer, limits: &LoginLimits) -> Option<Source> {
    let Peer::Tcp(address) = peer else { return None };
    let exempt = limits.exempt.iter().any(|network| network.contains(address.ip()));
    (!exempt).then(|| Source::of(address.ip()))
}

fn allowance(limits: &LoginLimits) -> Allowance {
    Allowance { failures: limits.failures, period: limits.period }
}

/// Rounded up: a client that waits so long is let in.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}
