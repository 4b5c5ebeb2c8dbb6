//! What a tenant has of a pool. Where its limits are only looked at, `max_upstreams` and `max_waiting` in the modes `observe`
//! and `warn`, that is done here; where they are enforced, the pool's queue does it ([`policy::fair`]), and whose limit it
//! was is told here.

use std::time::Instant;

use config::{LimitKey, Mode};
use policy::fair::Full;
use policy::verdict::{Limit, QueueRefusal, Refusal};

use super::Session;
use crate::shares::{self, Watched};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// A class's limit, and not its tenant's.
pub(super) type OfClass = bool;

impl Session {
    /// The client has an upstream: has its tenant more of them than it should?
    #[inline]
    pub(super) fn look_at_share(&mut self, upstream: &mut Upstream) {
        if self.limits.counts_upstreams() || self.beyond.is_some() {
            self.look_at_upstreams(upstream);
        }
    }

    /// The client begins to wait: do more of its tenant's than should?
    #[inline]
    pub(super) fn look_at_queue(&mut self) {
        self.beyond = None;
        if !self.limits.counts_waiting() {
            return;
        }
        for watched in self.beyond(LimitKey::MaxWaiting) {
            self.reached(watched.key, watched.limit.mode);
            if watched.limit.mode == Mode::Warn {
                self.beyond = Some(watched.of_class);
            }
        }
    }

    #[cold]
    fn look_at_upstreams(&mut self, upstream: &mut Upstream) {
        if let Some(of_class) = self.beyond.take() {
            let mut all = shares::watched(&self.rules.limits, self.tenant, self.class);
            let waits = all.find(|watched| (watched.key, watched.of_class) == (LimitKey::MaxWaiting, of_class));
            if let Some(Watched { key, limit, .. }) = waits {
                let limited = self.limited_of(key, of_class);
                self.warn(upstream, &Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None });
            }
        }
        for Watched { key, limit, of_class } in self.beyond(LimitKey::MaxUpstreams) {
            self.reached(key, limit.mode);
            if limit.mode == Mode::Warn {
                let limited = self.limited_of(key, of_class);
                self.warn(upstream, &Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None });
            }
        }
    }

    /// There is no room in the queue for it.
    #[cold]
    pub(super) fn crowded(&self, full: Full) -> Trouble {
        self.pool.meter.queue_refusals.increment();
        let Full { waiting, limit, retry_in, of_tenant } = full;
        if of_tenant {
            let key = LimitKey::MaxWaiting;
            self.reached(key, Mode::Enforce);
            let claim = self.claim(Instant::now());
            let of_class = claim.share.max_waiting as usize != limit && claim.class.max_waiting as usize == limit;
            let limited = self.limited_of(key, of_class);
            return Refusal::TooMany { limited, limit: limit as u64, retry_in: Some(retry_in) }.into();
        }
        let (database, user) = (self.pool.shared.database.clone(), self.pool.shared.user.clone());
        Refusal::Queue(QueueRefusal { database, user, waiting, limit, retry_in }).into()
    }

    /// How long the client has waited, as its error tells.
    pub(super) fn queue_timeout(&self, now: Instant) -> Trouble {
        let since = self.waiting_since.unwrap_or(now);
        let claim = self.claim(now);
        let is_own = self.patience() < self.pool.queue_timeout();
        let limited = is_own.then(|| Box::new(self.limited(LimitKey::QueueTimeout, None)));
        let ledger = self.pool.shared.ledger();
        let own = ledger.maximum(&claim).map(|most| match most == claim.share.max {
            true => Limit::Tenant(most as usize),
            false => Limit::Class(most as usize),
        });
        Refusal::QueueTimeout {
            database: self.pool.shared.database.clone(),
            user: self.pool.shared.user.clone(),
            waited: now.saturating_duration_since(since),
            limit: own.unwrap_or_else(|| ledger.limit()),
            waiting: ledger.waiting().saturating_sub(1),
            limited,
        }
        .into()
    }

    /// The limits of this kind that are only looked at, and are passed now.
    fn beyond(&self, key: LimitKey) -> Vec<Watched> {
        let claim = self.claim(Instant::now()).key;
        let ledger = self.pool.shared.ledger();
        let all = shares::watched(&self.rules.limits, self.tenant, self.class).filter(|watched| watched.key == key);
        all.filter(|watched| {
            let (held, waiting) = ledger.load(claim, watched.of_class);
            let now = if key == LimitKey::MaxWaiting { waiting } else { held };
            now > watched.limit.at as usize
        })
        .collect()
    }
}
