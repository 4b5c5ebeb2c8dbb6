//! One tenant's part of the queue: its waiters by class and deadline, and what it holds.

use std::cmp::Reverse;

use super::{Account, BTreeMap, Claim, ClassShare, Duration, Instant, Service, Share, Standing, TenantId};

/// A waiter's place within its class: the earliest deadline first, then as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Those without a deadline are last.
    deadline: Reverse<Option<Reverse<Instant>>>,
    arrival: u64,
}

impl Rank {
    pub(super) fn new(deadline: Option<Instant>, arrival: u64) -> Self {
        Self { deadline: Reverse(deadline.map(Reverse)), arrival }
    }
}

/// A tenant's place among those that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Its account when it was put here: never more than it is now.
    pub(super) mark: Service,
    /// Of equals, who came first.
    pub(super) arrival: u64,
    pub(super) tenant: TenantId,
    /// Since when its first client waits.
    pub(super) since: Instant,
    /// What it had used when it was put here.
    pub(super) used: Service,
}

#[derive(Debug)]
struct Class<T> {
    id: u8,
    /// Upstreams that it holds at most; 0: no such limit.
    max: u32,
    account: Account,
    waiters: BTreeMap<Rank, (T, Instant)>,
}

impl<T> Class<T> {
    fn room(&self) -> usize {
        room(self.max, self.account.held())
    }
}

/// How many more there may be.
fn room(max: u32, held: u32) -> usize {
    if max == 0 { usize::MAX } else { max.saturating_sub(held) as usize }
}

#[derive(Debug)]
pub(super) struct Flow<T> {
    share: Share,
    pub(super) account: Account,
    /// Few: those that wait or hold.
    classes: Vec<Class<T>>,
    /// A class that comes anew begins here.
    level: Service,
    /// Its waiters as they came.
    arrivals: BTreeMap<u64, Instant>,
    pub(super) place: Option<Place>,
    /// Its account, if it is remembered for nothing else.
    pub(super) owes: Option<Service>,
}

impl<T: Copy> Flow<T> {
    pub(super) fn new(level: Service, usual: Duration, now: Instant) -> Self {
        let share = Share::default();
        let account = Account::new(share.weight, level, usual, now);
        Self { share, account, classes: Vec::new(), level: 0, arrivals: BTreeMap::new(), place: None, owes: None }
    }

    /// For another tenant.
    pub(super) fn renew(mut self, level: Service, usual: Duration, now: Instant) -> Self {
        self.classes.clear();
        self.arrivals.clear();
        let share = Share::default();
        let account = Account::new(share.weight, level, usual, now);
        Self { share, account, level: 0, place: None, owes: None, ..self }
    }

    pub(super) fn waiting(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.arrivals.first_key_value().map(|(_, since)| *since)
    }

    /// Since when this one of its clients waits.
    pub(super) fn since(&self, arrival: u64) -> Option<Instant> {
        self.arrivals.get(&arrival).copied()
    }

    /// Waiters that would be served if there were upstreams enough.
    pub(super) fn servable(&self) -> usize {
        let of_classes = self.classes.iter().map(|class| class.waiters.len().min(class.room())).sum::<usize>();
        of_classes.min(room(self.share.max, self.account.held()))
    }

    /// Whether it may hold one more, in a class that may hold so many.
    pub(super) fn admits(&self, class: u8, max: u32) -> bool {
        room(self.share.max, self.account.held()) > 0 && room(max, self.held_by(class)) > 0
    }

    /// Upstreams that one of its classes holds.
    pub(super) fn held_by(&self, class: u8) -> u32 {
        self.classes.iter().find(|other| other.id == class).map_or(0, |class| class.account.held())
    }

    /// Waiters in one of its classes.
    pub(super) fn waiting_in(&self, class: u8) -> usize {
        self.classes.iter().find(|other| other.id == class).map_or(0, |class| class.waiters.len())
    }

    /// It holds fewer than it is promised.
    pub(super) fn is_urgent(&self) -> bool {
        self.account.held() < self.share.min
    }

    pub(super) fn is_idle(&self) -> bool {
        self.arrivals.is_empty() && self.account.held() == 0
    }

    pub(super) fn standing(&self, tenant: TenantId) -> Standing {
        Standing { tenant, waiting: self.waiting(), held: self.account.held() as usize, share: self.share }
    }

    /// Its share is this one now.
    pub(super) fn reshape(&mut self, share: Share, level: Service) {
        self.account.reweigh(share.weight, level);
        self.share = share;
    }

    /// Somebody begins to wait where nobody did.
    pub(super) fn begin(&mut self, level: Service, now: Instant) {
        self.account.begin(level, now);
        self.owes = None;
        for class in &mut self.classes {
            class.account.begin(self.level, now);
        }
    }

    pub(super) fn push(&mut self, claim: &Claim, rank: Rank, waiter: (T, Instant), now: Instant) {
        let level = self.level;
        let class = self.class(claim.key.class, claim.class, now);
        class.account.settle(now);
        class.account.reweigh(claim.class.weight, level);
        class.max = claim.class.max;
        if class.waiters.is_empty() {
            class.account.raise(level, Duration::ZERO);
        }
        class.waiters.insert(rank, waiter);
        self.arrivals.insert(rank.arrival, waiter.1);
    }

    pub(super) fn remove(&mut self, class: u8, rank: Rank, arrival: u64) {
        if let Some(class) = self.classes.iter_mut().find(|other| other.id == class) {
            class.waiters.remove(&rank);
        }
        self.arrivals.remove(&arrival);
        self.forget();
    }

    /// Who is served, and in which class. The tenant's own account is the caller's business.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(T, u8)> {
        for class in &mut self.classes {
            class.account.settle(now);
            class.account.forgive(self.level);
        }
        let waits = |class: &&Class<T>| !class.waiters.is_empty() && class.room() > 0;
        let least = self.classes.iter().filter(waits).map(|class| class.account.service()).min()?;
        self.level = self.level.max(least);
        let waits = |class: &&mut Class<T>| !class.waiters.is_empty() && class.room() > 0;
        let first = self.classes.iter_mut().filter(waits).min_by_key(|class| class.account.mark())?;
        let (rank, (ticket, _)) = first.waiters.pop_first()?;
        first.account.take();
        self.arrivals.remove(&rank.arrival);
        Some((ticket, first.id))
    }

    /// It holds one more.
    pub(super) fn hold(&mut self, class: u8, share: ClassShare, now: Instant) {
        self.account.take();
        let class = self.class(class, share, now);
        class.account.settle(now);
        class.account.take();
    }

    /// It holds one less: another has it.
    pub(super) fn let_go(&mut self, class: u8, now: Instant) {
        self.account.let_go();
        if let Some(class) = self.classes.iter_mut().find(|other| other.id == class) {
            class.account.settle(now);
            class.account.let_go();
        }
        self.forget();
    }

    /// A lease has ended after that long.
    pub(super) fn give_back(&mut self, class: u8, lasted: Duration, now: Instant) {
        self.account.give_back(lasted);
        if let Some(class) = self.classes.iter_mut().find(|other| other.id == class) {
            class.account.settle(now);
            class.account.give_back(lasted);
        }
        self.forget();
    }

    #[expect(clippy::indexing_slicing, reason = "the place was found, or made, a line above")]
    fn class(&mut self, id: u8, share: ClassShare, now: Instant) -> &mut Class<T> {
        let known = self.classes.iter().position(|class| class.id == id).unwrap_or(self.classes.len());
        if known == self.classes.len() {
            let mut account = Account::new(share.weight, self.level, self.account.usual(), now);
            account.raise(self.level, Duration::ZERO);
            self.classes.push(Class { id, max: share.max, account, waiters: BTreeMap::new() });
        }
        &mut self.classes[known]
    }

    /// Classes that neither wait nor hold nor owe.
    fn forget(&mut self) {
        let level = self.level;
        self.classes
            .retain(|class| !class.waiters.is_empty() || class.account.held() > 0 || class.account.service() > level);
    }
}
