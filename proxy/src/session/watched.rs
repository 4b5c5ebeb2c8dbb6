//! What a tenant has of a pool, where its limits are only looked at: `max_upstreams` and `max_waiting` in the modes
//! `observe` and `warn`. Where they are enforced, the pool's queue does that ([`policy::fair`]).

use config::{LimitKey, Mode};
use policy::verdict::Refusal;

use super::Session;
use crate::shares::{self, Watched};
use crate::upstream::Upstream;

impl Session {
    /// The client has an upstream: has its tenant more of them than it should?
    #[inline]
    pub(super) fn look_at_share(&mut self, upstream: &mut Upstream) {
        if self.limits.counts_upstreams() || self.beyond {
            self.look_at_upstreams(upstream);
        }
    }

    /// The client begins to wait: do more of its tenant's than should?
    #[inline]
    pub(super) fn look_at_queue(&mut self) {
        self.beyond = false;
        if !self.limits.counts_waiting() {
            return;
        }
        for watched in self.beyond(LimitKey::MaxWaiting) {
            self.reached(watched.key, watched.limit.mode);
            self.beyond |= watched.limit.mode == Mode::Warn;
        }
    }

    #[cold]
    fn look_at_upstreams(&mut self, upstream: &mut Upstream) {
        if std::mem::take(&mut self.beyond)
            && let Some(limit) = self.limits.class.max_waiting.or(self.limits.max_waiting)
        {
            let limited = self.limited(LimitKey::MaxWaiting, None);
            self.warn(upstream, &Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None });
        }
        for Watched { key, limit, .. } in self.beyond(LimitKey::MaxUpstreams) {
            let refusal = |limited| Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None };
            drop(self.hit(upstream, limit.mode, None, key, refusal));
        }
    }

    /// The limits of this kind that are only looked at, and are passed now.
    fn beyond(&self, key: LimitKey) -> Vec<Watched> {
        let claim = self.claim(std::time::Instant::now()).key;
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
