//! What a tenant, or one of its classes, has had of the upstreams' time.

use std::time::{Duration, Instant};

use super::{BURST, CARRIED, MAX_DEBT};

/// Time of one lease divided by a weight: nanoseconds · 2¹⁶ / weight. Wide enough for centuries of a thousand leases.
pub(super) type Service = u128;

/// The most that a lease counts ahead. What takes longer is charged as it runs.
const AHEAD: Duration = Duration::from_millis(100);

/// Grows while leases run. Whoever has the lowest mark is served.
#[derive(Debug, Clone)]
pub(super) struct Account {
    weight: u32,
    held: u32,
    service: Service,
    /// Up to when what is held has been charged.
    settled: Instant,
    /// What a lease usually takes.
    usual: Duration,
}

/// What leases usually take, after one that took `lasted`.
pub(super) fn learn(usual: Duration, lasted: Duration) -> Duration {
    (usual * 7 + lasted.min(AHEAD)) / 8
}

impl Account {
    /// One that has not been seen for long: ahead of the others by the usual credit.
    pub(super) fn new(weight: u32, level: Service, usual: Duration, now: Instant) -> Self {
        let mut account = Self { weight: weight.max(1), held: 0, service: 0, settled: now, usual };
        account.raise(level, usual * BURST);
        account
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn service(&self) -> Service {
        self.service
    }

    pub(super) fn usual(&self) -> Duration {
        self.usual
    }

    /// What has been used, and what is held at the moment will use.
    pub(super) fn mark(&self) -> Service {
        self.service + Service::from(self.held) * self.worth(self.usual)
    }

    /// Charges what has been held since the last time.
    pub(super) fn settle(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(self.settled);
        self.service += Service::from(self.held) * self.worth(lasted);
        self.settled = self.settled.max(now);
    }

    /// What has been held since the last time is not charged: nobody waited. When a first one does, it may be
    /// ([`Account::begin`]), as far as it is still held.
    pub(super) fn skip(&mut self, now: Instant) {
        self.settled = self.settled.max(now);
    }

    /// Somebody begins to wait.
    pub(super) fn begin(&mut self, level: Service, now: Instant) {
        let lasted = now.saturating_duration_since(self.settled).min(CARRIED);
        self.service = level + Service::from(self.held) * self.worth(lasted);
        self.settled = self.settled.max(now);
    }

    /// No more credit than this for what was not wanted.
    pub(super) fn raise(&mut self, level: Service, credit: Duration) {
        self.service = self.service.max(level.saturating_sub(self.worth(credit)));
    }

    /// What the others have to have used until it makes no difference whether this one is remembered.
    pub(super) fn owed(&self, credit: Duration) -> Service {
        self.service + self.worth(credit)
    }

    /// No more debt than the most.
    pub(super) fn forgive(&mut self, level: Service) {
        self.service = self.service.min(level + self.worth(MAX_DEBT));
    }

    pub(super) fn charge(&mut self, time: Duration) {
        self.service += self.worth(time);
    }

    pub(super) fn take(&mut self) {
        self.held += 1;
    }

    pub(super) fn let_go(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    pub(super) fn give_back(&mut self, lasted: Duration) {
        self.let_go();
        self.usual = learn(self.usual, lasted);
    }

    /// From now on it has this weight; what it has used ahead of the others counts by it, too.
    pub(super) fn reweigh(&mut self, weight: u32, level: Service) {
        let weight = weight.max(1);
        if weight != self.weight {
            let scaled = |service: Service| service * Service::from(self.weight) / Service::from(weight);
            let (debt, credit) = (self.service.saturating_sub(level), level.saturating_sub(self.service));
            self.service = level.saturating_sub(scaled(credit)) + scaled(debt);
            self.weight = weight;
        }
    }

    fn worth(&self, time: Duration) -> Service {
        (time.as_nanos() << 16) / Service::from(self.weight)
    }
}
