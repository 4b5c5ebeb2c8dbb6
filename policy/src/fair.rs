//! Whose turn it is: a pool's queue for upstreams, weighted fair across tenants and their classes.
//!
//! What is shared is not requests but the *time that upstreams are held*. Each tenant has an account of the time that its
//! leases have lasted, divided by its weight; the tenant with the lowest account is served next. A tenant that floods the
//! queue, or that holds its upstreams for long, runs up its account and makes way. Nobody waits while something is free:
//! where only one tenant waits, it may have everything.
//!
//! ```text
//!                 waiters by tenant, class, deadline
//!  wait ───────►  ┌ tenant a: account, held 3 of max 8 ─┬ class 0: ▪▪▪▪▪▪▪▪ ┐
//!                 │                                     └ class 1: ▪▪       │ next ──► (ticket, key)
//!                 └ tenant b: account, held 0, min 1 ───── class 0: ▪       ┘          the lease counts as b's
//!  take (it is free), adopt (it was taken before anybody waited) ─► held + 1
//!  release ───────────────────────────────────────────────────────► held − 1
//! ```
//!
//! | a tenant | has waiters | holds | its place |
//! |---|---|---|---|
//! | *urgent* | yes | less than its minimum | before all that are ready, among themselves by account |
//! | *ready* | yes | between minimum and maximum | by account |
//! | *full* | yes | its maximum, or its classes theirs | none: it is passed over until one of its leases ends |
//! | *served* | no | something | none; what it holds is charged |
//! | *indebted* | no | nothing | none; remembered until the others have caught up with its account |
//! | unknown | no | nothing | begins level with the others |
//!
//! **Accounts.** While somebody waits, a lease is charged as it runs, so that a long transaction counts at once and not
//! when it ends. On top of that each lease counts ahead with what leases of this tenant usually take: of four upstreams that
//! come free at the same moment, one tenant does not get all. Whoever comes back after having wanted nothing begins level
//! with those that are served but for [`BURST`] leases: who uses less than its share may send a few requests at once without
//! queueing behind a flood, and no more credit than that is saved up. Nor is more than [`MAX_DEBT`] of debt: a tenant that has held much
//! too much for long waits for a while, and not for ever. When nobody waits nothing is charged, except that leases which
//! run when the first one begins to wait count for up to [`CARRIED`] of what they have lasted.
//!
//! **Classes** share their tenant's account by accounts of their own, in the same way. **Within a class** the earliest
//! deadline is first; equal deadlines, and those without, are served as they came.
//!
//! **Costs.** Each operation takes a time that grows with the logarithm of the number of tenants and waiters. Accounts of
//! tenants that hold upstreams grow by themselves, so that the order in the tree may be out of date: what stands there is
//! never more than the truth, so the first is brought up to date until it stays the first, at most once for each tenant
//! that both holds and waits. Whoever neither waits nor holds nor owes is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::tenant::TenantId;

mod account;
mod claim;
mod flow;

use account::{Account, Service};
pub use claim::{Claim, ClassShare, Full, Grant, Key, Share, Standing};
use flow::{Flow, Place, Rank};

/// The most that a tenant can be behind the others, in time of one lease: so long it waits at worst for one upstream of
/// its share, if it has held more than that while others waited.
pub const MAX_DEBT: Duration = Duration::from_secs(5);

/// The most that a lease is charged for what it had lasted before anybody waited.
pub const CARRIED: Duration = Duration::from_secs(1);

/// Leases of the usual length that a tenant may have ahead of the others after it wanted nothing.
pub const BURST: u32 = 10;

/// Accounts of tenants that have left, kept for the next ones so that coming and going takes nothing from the heap.
const SPARE: usize = 32;

/// Bounds of the advice to those for whom there is no room in the queue.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Where a waiter stands.
type Spot = (Key, Rank, u64);

/// Those who wait for an upstream of one pool, and who holds how many.
#[derive(Debug)]
pub struct Queue<T> {
    /// Clients that may wait at once; 0: any number.
    limit: usize,
    flows: FxHashMap<TenantId, Flow<T>>,
    spots: FxHashMap<T, Spot>,
    urgent: BTreeSet<Place>,
    ready: BTreeSet<Place>,
    /// The tenants in these two by the time since when their first client waits.
    ages: BTreeSet<(Instant, TenantId)>,
    /// The same tenants by what they have used, as it was when they were put here.
    used: BTreeSet<(Service, TenantId)>,
    /// Those that only owe, by their accounts.
    indebted: BTreeSet<(Service, TenantId)>,
    /// Who comes anew begins here: where the one stands who has used least of those that wait.
    level: Service,
    /// Waiters that would be served if there were upstreams enough.
    servable: usize,
    /// What a lease usually takes, of whomever.
    usual: Duration,
    arrivals: u64,
    spare: Vec<Flow<T>>,
}

impl<T: Copy + Eq + Hash> Queue<T> {
    /// Nobody waits, and so many may; 0: any number.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            flows: FxHashMap::default(),
            spots: FxHashMap::default(),
            urgent: BTreeSet::new(),
            ready: BTreeSet::new(),
            ages: BTreeSet::new(),
            used: BTreeSet::new(),
            indebted: BTreeSet::new(),
            level: 0,
            servable: 0,
            usual: Duration::from_millis(1),
            arrivals: 0,
            spare: Vec::new(),
        }
    }

    /// Changes how many may wait.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Clients that wait.
    pub fn waiting(&self) -> usize {
        self.spots.len()
    }

    /// Clients that would be served if there were upstreams enough: those of tenants at their maximum are not among them.
    pub fn servable(&self) -> usize {
        self.servable
    }

    /// Since when the client waits that has waited for longest, of those that could be served.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.ages.first().map(|(since, _)| *since)
    }

    /// Upstreams that a tenant is known to hold.
    pub fn held(&self, tenant: TenantId) -> usize {
        self.flows.get(&tenant).map_or(0, |flow| flow.account.held() as usize)
    }

    /// What a tenant is known to hold, and how many of its clients wait; or one of its classes.
    pub fn load(&self, key: Key, of_class: bool) -> (usize, usize) {
        let Some(flow) = self.flows.get(&key.tenant) else { return (0, 0) };
        if of_class {
            return (flow.held_by(key.class) as usize, flow.waiting_in(key.class));
        }
        (flow.account.held() as usize, flow.waiting())
    }

    /// As many upstreams as its tenant or its class may have, if it has them.
    pub fn maximum(&self, claim: &Claim) -> Option<u32> {
        let flow = self.flows.get(&claim.key.tenant)?;
        let own = Some(claim.share.max).filter(|max| *max > 0 && flow.account.held() >= *max);
        let held = flow.held_by(claim.key.class);
        own.or(Some(claim.class.max).filter(|max| *max > 0 && held >= *max))
    }

    /// The tenants that wait or hold, at most so many: those with most waiters first.
    pub fn standings(&self, most: usize) -> Vec<Standing> {
        let mut standings: Vec<Standing> = self.flows.iter().map(|(tenant, flow)| flow.standing(*tenant)).collect();
        standings.retain(|standing| standing.waiting + standing.held > 0);
        standings.sort_unstable_by_key(|standing| (usize::MAX - standing.waiting, standing.tenant));
        standings.truncate(most);
        standings
    }

    /// Puts a client in the queue, if there is room.
    pub fn wait(&mut self, ticket: T, claim: &Claim, now: Instant) -> Result<(), Full> {
        self.has_room(claim)?;
        if self.spots.is_empty() {
            self.begin(now);
        }
        self.change(claim.key.tenant, now, |queue, flow| {
            flow.reshape(claim.share, queue.level);
            if flow.waiting() == 0 {
                flow.account.raise(queue.level, queue.credit());
            }
            let rank = Rank::new(claim.deadline, queue.arrivals);
            flow.push(claim, rank, (ticket, now), now);
            queue.spots.insert(ticket, (claim.key, rank, queue.arrivals));
            queue.arrivals += 1;
        });
        Ok(())
    }

    /// Takes a client out of the queue; `false`: it is not in it.
    pub fn withdraw(&mut self, ticket: T, now: Instant) -> bool {
        let Some((key, rank, arrival)) = self.spots.remove(&ticket) else { return false };
        self.change(key.tenant, now, |_, flow| flow.remove(key.class, rank, arrival));
        true
    }

    /// A client in the queue has another claim from now on: it waits by that, since when it has. One that is not in the queue
    /// has none.
    pub fn claim_anew(&mut self, ticket: T, claim: &Claim, now: Instant) {
        let Some((key, rank, arrival)) = self.spots.get(&ticket).copied() else { return };
        let mut since = now;
        self.change(key.tenant, now, |_, flow| {
            since = flow.since(arrival).unwrap_or(now);
            flow.remove(key.class, rank, arrival);
        });
        let rank = Rank::new(claim.deadline, arrival);
        self.spots.insert(ticket, (claim.key, rank, arrival));
        self.change(claim.key.tenant, now, |queue, flow| {
            flow.reshape(claim.share, queue.level);
            if flow.waiting() == 0 {
                flow.account.raise(queue.level, queue.credit());
            }
            flow.push(claim, rank, (ticket, since), now);
        });
    }

    /// An upstream is free: who gets it? It counts as that tenant's from now on.
    pub fn next(&mut self, now: Instant) -> Option<Grant<T>> {
        let tenant = self.first(now)?;
        let mut granted = None;
        self.level = self.used.first().map_or(self.level, |(least, _)| self.level.max(*least));
        self.change(tenant, now, |_, flow| {
            granted = flow.pop(now);
            flow.account.take();
        });
        self.forgive();
        let (ticket, class) = granted?;
        self.spots.remove(&ticket);
        Some(Grant { ticket, key: Key { tenant, class } })
    }

    /// A client takes an upstream that is free; `false`: its tenant has as many as it may have.
    pub fn take(&mut self, claim: &Claim, now: Instant) -> bool {
        let mut taken = false;
        self.change(claim.key.tenant, now, |queue, flow| {
            flow.reshape(claim.share, queue.level);
            taken = flow.admits(claim.key.class, claim.class.max);
            if taken {
                flow.hold(claim.key.class, claim.class, now);
            }
        });
        taken
    }

    /// What was taken is given back unused.
    pub fn forgo(&mut self, key: Key, now: Instant) {
        self.change(key.tenant, now, |_, flow| flow.let_go(key.class, now));
    }

    /// A tenant holds an upstream since `since`, and was not counted: nobody waited when it was taken. Called when
    /// somebody does: before that nothing is charged.
    pub fn adopt(&mut self, key: Key, since: Instant, now: Instant) {
        let lasted = now.saturating_duration_since(since).min(CARRIED);
        self.change(key.tenant, now, |_, flow| {
            flow.hold(key.class, ClassShare::default(), now);
            flow.account.charge(lasted);
        });
    }

    /// A lease has ended, that began at `since`.
    pub fn release(&mut self, key: Key, since: Instant, now: Instant) {
        let lasted = now.saturating_duration_since(since);
        self.usual = account::learn(self.usual, lasted);
        self.change(key.tenant, now, |_, flow| flow.give_back(key.class, lasted, now));
    }

    /// A lease goes on as another's: its session has said whose it is.
    pub fn transfer(&mut self, from: Key, to: Key, now: Instant) {
        self.change(from.tenant, now, |_, flow| flow.let_go(from.class, now));
        self.change(to.tenant, now, |_, flow| flow.hold(to.class, ClassShare::default(), now));
    }

    /// Nobody who waits has anything left to wait for.
    pub fn drain(&mut self, now: Instant) -> Vec<T> {
        let mut all: Vec<(u64, T)> = self.spots.iter().map(|(ticket, (_, _, arrival))| (*arrival, *ticket)).collect();
        all.sort_unstable_by_key(|(arrival, _)| *arrival);
        let gone = all.into_iter().map(|(_, ticket)| ticket);
        gone.inspect(|ticket| {
            self.withdraw(*ticket, now);
        })
        .collect()
    }

    /// What a tenant may be ahead of the others when it begins to wait.
    fn credit(&self) -> Duration {
        self.usual * BURST
    }

    fn has_room(&self, claim: &Claim) -> Result<(), Full> {
        let flow = self.flows.get(&claim.key.tenant);
        let of_class = flow.map_or(0, |flow| flow.waiting_in(claim.key.class));
        let own = [(flow.map_or(0, Flow::waiting), claim.share.max_waiting), (of_class, claim.class.max_waiting)];
        for (waiting, limit) in own.map(|(waiting, limit)| (waiting, limit as usize)) {
            if limit > 0 && waiting >= limit {
                let held = flow.map_or(1, |flow| flow.account.held().max(1));
                return Err(Full { of_tenant: true, waiting, limit, retry_in: self.retry_in(waiting, held) });
            }
        }
        if self.limit > 0 && self.waiting() >= self.limit {
            let held = self.flows.values().map(|flow| flow.account.held()).sum::<u32>().max(1);
            let (waiting, limit) = (self.waiting(), self.limit);
            return Err(Full { of_tenant: false, waiting, limit, retry_in: self.retry_in(waiting, held) });
        }
        Ok(())
    }

    fn retry_in(&self, waiting: usize, held: u32) -> Duration {
        let rounds = u32::try_from(waiting).unwrap_or(u32::MAX) / held + 1;
        self.usual.saturating_mul(rounds).clamp(RETRY.0, RETRY.1)
    }

    /// The first client begins to wait: everybody begins level, but for what is running.
    fn begin(&mut self, now: Instant) {
        for flow in self.flows.values_mut() {
            flow.begin(self.level, now);
        }
        for (_, tenant) in std::mem::take(&mut self.indebted) {
            self.retire(tenant);
        }
    }

    /// The tenant whose turn it is.
    fn first(&mut self, now: Instant) -> Option<TenantId> {
        let level = self.level;
        for places in [&mut self.urgent, &mut self.ready] {
            while let Some(place) = places.first().copied() {
                let flow = self.flows.get_mut(&place.tenant)?;
                flow.account.settle(now);
                flow.account.forgive(level);
                let mark = flow.account.mark();
                if mark <= place.mark || places.iter().nth(1).is_none_or(|second| mark <= second.mark) {
                    return Some(place.tenant);
                }
                places.remove(&place);
                let fresh = Place { mark, ..place };
                flow.place = Some(fresh);
                places.insert(fresh);
            }
        }
        None
    }

    /// Changes a tenant's part, and puts it where it belongs afterwards.
    fn change(&mut self, tenant: TenantId, now: Instant, change: impl FnOnce(&mut Self, &mut Flow<T>)) {
        let mut flow = match self.flows.remove(&tenant) {
            Some(flow) => flow,
            None => match self.spare.pop() {
                Some(spare) => spare.renew(self.level, self.usual, now),
                None => Flow::new(self.level, self.usual, now),
            },
        };
        let credit = self.credit();
        self.servable -= flow.servable();
        if let Some(place) = flow.place.take() {
            self.urgent.remove(&place);
            self.ready.remove(&place);
            self.ages.remove(&(place.since, tenant));
            self.used.remove(&(place.used, tenant));
        }
        if let Some(owed) = flow.owes.take() {
            self.indebted.remove(&(owed, tenant));
        }
        if self.spots.is_empty() {
            flow.account.skip(now);
        } else {
            flow.account.settle(now);
            flow.account.forgive(self.level);
        }
        change(self, &mut flow);
        self.servable += flow.servable();
        if let Some(since) = flow.waiting_since().filter(|_| flow.servable() > 0) {
            let (mark, used) = (flow.account.mark(), flow.account.service());
            let place = Place { mark, arrival: self.arrivals, tenant, since, used };
            let places = if flow.is_urgent() { &mut self.urgent } else { &mut self.ready };
            places.insert(place);
            self.ages.insert((since, tenant));
            self.used.insert((used, tenant));
            flow.place = Some(place);
        } else if flow.is_idle() {
            let owed = flow.account.owed(credit);
            if owed <= self.level || self.spots.is_empty() {
                return self.keep(flow);
            }
            self.indebted.insert((owed, tenant));
            flow.owes = Some(owed);
        }
        self.flows.insert(tenant, flow);
    }

    /// The others have caught up with these: they are forgotten.
    fn forgive(&mut self) {
        while let Some((owed, tenant)) = self.indebted.first().copied().filter(|(owed, _)| *owed <= self.level) {
            self.indebted.remove(&(owed, tenant));
            self.retire(tenant);
        }
    }

    fn retire(&mut self, tenant: TenantId) {
        if let Some(flow) = self.flows.remove(&tenant) {
            self.keep(flow);
        }
    }

    fn keep(&mut self, flow: Flow<T>) {
        if self.spare.len() < SPARE {
            self.spare.push(flow);
        }
    }
}

#[cfg(test)]
mod tests;
