//! How fresh an answer has to be, and what is known of writes that do not pass this process.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How fresh the answers of a rule have to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// As old as the rule's time to live. Nothing but that and a change of the catalog ends an answer.
    Ttl,
    /// Writes that pass this process at once, others within [`MAX_LAG`].
    #[default]
    Coherent,
    /// As if it came from the server.
    Strict,
}

impl Freshness {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Coherent => "coherent",
            Self::Strict => "strict",
        }
    }

    /// The one that has this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ttl, Self::Coherent, Self::Strict].into_iter().find(|freshness| freshness.name() == name)
    }

    /// Whether writes end an answer.
    pub const fn follows_writes(self) -> bool {
        !matches!(self, Self::Ttl)
    }
}

/// Older news than this is too old for [`Freshness::Coherent`].
pub const MAX_LAG: Duration = Duration::from_millis(250);

/// A place in the server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    ///
    /// ```
    /// use policy::cache::Lsn;
    /// assert_eq!(Lsn::parse("16/B374D848"), Some(Lsn(0x16_b374_d848)));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| plain)
        };
        Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// Where the log of a slot's server ended when that was asked for. Of no meaning to another slot: that may be one of another
/// server, whose places are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// [`Slot::number`] when it was asked for.
    pub(super) slot: u64,
    pub(super) at: Lsn,
}

/// Whether an answer may come from the cache as far as writes from outside are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything that has to be known is known.
    Ready,
    /// Ask the server for the end of its log first ([`Slot`] says which), and come again with it.
    Ask,
    /// Wait until the slot has passed this place, and come again.
    Wait(End),
    /// The slot is behind by more than [`MAX_LAG`].
    Lags,
    /// There is no slot now.
    Down,
}

/// What is known of the logical replication slot through which writes from outside are heard: one for each process and
/// database. Read on every hit, by atomic loads alone; written by whoever reads the slot.
///
/// `strict` asks for the end of the log. That is `pg_current_wal_insert_lsn()` and not the flushed end: a commit with
/// `synchronous_commit = off` is acknowledged and visible before it is flushed, and would be behind a flushed end that was
/// asked for later.
#[derive(Debug)]
pub struct Slot {
    /// No slot is needed: nobody writes to this database but through this process.
    alone: bool,
    base: Instant,
    /// Nanoseconds from `base` on, and one: everything committed before that moment has been heard. 0: the slot is down.
    current_to: AtomicU64,
    applied: AtomicU64,
    /// How often it was lost.
    lost: AtomicU64,
}

impl Slot {
    /// For a database to which nobody writes but through this process: always ready.
    pub fn not_needed(now: Instant) -> Self {
        let [current_to, applied, lost] = [const { AtomicU64::new(0) }; 3];
        Self { alone: true, base: now, current_to, applied, lost }
    }

    /// A slot that is not there yet.
    pub fn down(now: Instant) -> Self {
        Self { alone: false, ..Self::not_needed(now) }
    }

    /// Whether writes from outside have to be heard of.
    pub fn is_needed(&self) -> bool {
        !self.alone
    }

    /// Whether writes from outside are heard of now.
    pub fn hears(&self) -> bool {
        self.alone || self.current_to.load(SeqCst) > 0
    }

    pub(super) fn set_up(&self, made_at: Instant, end: Lsn) {
        self.applied.store(end.0, SeqCst);
        self.current_to.store(self.since_base(made_at), SeqCst);
    }

    pub(super) fn set_down(&self) {
        self.current_to.store(0, SeqCst);
        self.lost.fetch_add(1, SeqCst);
    }

    /// Which slot it is: another number once it has been down.
    pub fn number(&self) -> u64 {
        self.lost.load(SeqCst)
    }

    /// Everything up to this place has been applied: the end of a commit, or what a keep-alive says, which comes behind all
    /// that was before it.
    pub fn is_applied_to(&self, end: Lsn) {
        self.applied.fetch_max(end.0, SeqCst);
    }

    /// Everything that was in the log at `moment` has been heard: the server has answered a question that was put to it
    /// then, and answers come in the order of the log. Does nothing while the slot is down.
    pub fn is_current_to(&self, moment: Instant) {
        let moment = self.since_base(moment);
        let _ = self.current_to.fetch_update(SeqCst, SeqCst, |known| (known > 0).then(|| known.max(moment)));
    }

    /// How old the news is at `now`; `None`: there is no slot, or none is needed.
    pub fn lag(&self, now: Instant) -> Option<Duration> {
        let known = self.current_to.load(SeqCst).checked_sub(1)?;
        Some(Duration::from_nanos((self.since_base(now) - 1).saturating_sub(known)))
    }

    /// Whether an answer may come from the cache. `end`: the end of the log, asked for since the statement came
    /// ([`Questions`](super::Questions)). That of a slot which was lost meanwhile does not count.
    ///
    /// Look at generations *behind* this: what has been heard by now has changed them.
    pub fn readiness(&self, freshness: Freshness, now: Instant, end: Option<End>) -> Readiness {
        if self.alone || !freshness.follows_writes() {
            return Readiness::Ready;
        }
        let Some(lag) = self.lag(now) else { return Readiness::Down };
        match (freshness, end) {
            (Freshness::Strict, None) => Readiness::Ask,
            (Freshness::Strict, Some(end)) if end.slot != self.number() => Readiness::Ask,
            (Freshness::Strict, Some(end)) if self.applied.load(SeqCst) < end.at.0 => Readiness::Wait(end),
            (Freshness::Strict, Some(_)) => Readiness::Ready,
            _ if lag > MAX_LAG => Readiness::Lags,
            _ => Readiness::Ready,
        }
    }

    fn since_base(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.base).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX - 1).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn names_lead_back_to_what_they_name() {
        for freshness in [Freshness::Ttl, Freshness::Coherent, Freshness::Strict] {
            assert_eq!(Freshness::named(freshness.name()), Some(freshness));
        }
        assert_eq!(Freshness::named("eventual"), None);
    }

    #[test]
    fn places_in_the_log_are_read_and_nothing_else() {
        assert_eq!(Lsn::parse("0/0"), Some(Lsn(0)));
        assert_eq!(Lsn::parse("FFFFFFFF/FFFFFFFF"), Some(Lsn(u64::MAX)));
        for broken in ["", "/", "1", "1/", "/1", "1/2/3", "G/1", "1/+2", "100000000/0", " 1/2"] {
            assert_eq!(Lsn::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn coherent_answers_end_where_the_news_is_too_old() {
        let start = Instant::now();
        let slot = Slot::down(start);
        let ready = |at: Duration| slot.readiness(Freshness::Coherent, start + at, None);
        assert_eq!(ready(MS), Readiness::Down);
        slot.is_current_to(start + MS);
        assert_eq!(ready(MS), Readiness::Down, "news does not make a slot");
        slot.set_up(start, Lsn(100));
        assert_eq!(ready(Duration::ZERO), Readiness::Ready);
        assert_eq!(ready(MAX_LAG), Readiness::Ready);
        assert_eq!(ready(MAX_LAG + MS), Readiness::Lags);
        slot.is_current_to(start + 100 * MS);
        slot.is_current_to(start + 50 * MS);
        assert_eq!(slot.lag(start + 120 * MS), Some(20 * MS));
        assert_eq!(ready(100 * MS + MAX_LAG), Readiness::Ready);
        assert_eq!(ready(101 * MS + MAX_LAG), Readiness::Lags);
        slot.set_down();
        assert_eq!((ready(MS), slot.lag(start), slot.hears()), (Readiness::Down, None, false));
    }

    #[test]
    fn strict_answers_wait_for_what_was_in_the_log_when_they_were_asked_for() {
        let start = Instant::now();
        let slot = Slot::down(start);
        slot.set_up(start, Lsn(100));
        let end = |at| End { slot: slot.number(), at: Lsn(at) };
        let ready = |end| slot.readiness(Freshness::Strict, start, end);
        assert_eq!(ready(None), Readiness::Ask);
        assert_eq!(ready(Some(end(100))), Readiness::Ready);
        assert_eq!(ready(Some(end(101))), Readiness::Wait(end(101)));
        slot.is_applied_to(Lsn(150));
        slot.is_applied_to(Lsn(120));
        let before = end(150);
        assert_eq!(ready(Some(before)), Readiness::Ready);
        slot.set_down();
        assert_eq!(ready(Some(before)), Readiness::Down);
        slot.set_up(start, Lsn(900));
        assert_eq!(ready(Some(before)), Readiness::Ask, "it was the end of another log");
        assert_eq!(ready(Some(end(900))), Readiness::Ready);
    }

    #[test]
    fn what_is_alone_or_goes_by_time_needs_no_slot() {
        let start = Instant::now();
        let later = start + 9 * MAX_LAG;
        for freshness in [Freshness::Ttl, Freshness::Coherent, Freshness::Strict] {
            assert_eq!(Slot::not_needed(start).readiness(freshness, later, None), Readiness::Ready);
        }
        assert_eq!(Slot::down(start).readiness(Freshness::Ttl, later, None), Readiness::Ready);
        assert!(Slot::not_needed(start).hears() && !Slot::down(start).hears());
    }
}
