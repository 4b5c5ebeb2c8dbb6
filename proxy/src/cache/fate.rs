//! Fates in words: why a statement is not cached, and what would change that.

use std::collections::{BTreeMap, VecDeque};

use policy::cache::{Bypass, Miss, Refused};

use super::Fate;

/// Statements of which it is told why they are not cached.
const MAX_TOLD: usize = 20_000;

/// What became of statements. Beyond a bound those that were told of first are forgotten.
#[derive(Debug, Default)]
pub(super) struct Told {
    fates: BTreeMap<u64, Fate>,
    order: VecDeque<u64>,
}

impl Told {
    /// What became of one last.
    pub(super) fn tell(&mut self, strict: u64, fate: Fate) {
        if self.fates.insert(strict, fate).is_some() {
            return;
        }
        if self.order.len() >= MAX_TOLD
            && let Some(first) = self.order.pop_front()
        {
            self.fates.remove(&first);
        }
        self.order.push_back(strict);
    }

    /// What is known of one.
    pub(super) fn of(&self, strict: u64) -> Option<Fate> {
        self.fates.get(&strict).copied()
    }
}

impl Fate {
    /// `hit`, `observed`, `miss`, `bypass` or `refused`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Observed => "observed",
            Self::Miss(_) => "miss",
            Self::Bypass(_) => "bypass",
            Self::Refused(_) => "refused",
        }
    }

    /// The reason's word, as metrics have it; `None`: there is none.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Hit | Self::Observed => None,
            Self::Miss(miss) => Some(miss.word()),
            Self::Bypass(bypass) => Some(bypass.word()),
            Self::Refused(refused) => Some(refused.word()),
        }
    }

    /// A sentence or two for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hit => "It was answered from the cache.",
            Self::Observed => "It would have been answered from the cache; the mode is observe.",
            Self::Miss(miss) => of_miss(miss),
            Self::Bypass(bypass) => of_bypass(bypass),
            Self::Refused(refused) => of_refused(refused),
        }
    }
}

fn of_miss(miss: Miss) -> &'static str {
    match miss {
        Miss::Absent => "It may be cached; no answer to it was kept for these parameters and this session's settings.",
        Miss::Expired => "It may be cached; the answer that was kept is older than its rule's ttl.",
        Miss::Changed => "It may be cached; a table that it reads was written since its answer was kept.",
        Miss::SlotLags => "It may be cached; news of writes from outside was older than 250 ms.",
        Miss::SlotDown => {
            "It may be cached; writes from outside are not heard of, because there is no replication slot now."
        }
        Miss::WaitedInVain => {
            "It may be cached; its rule is strict, and the slot did not reach the end of the log in time."
        }
        Miss::ServerQuicker => {
            "It may be cached; its rule is strict, and the server answers sooner than it is known where its log ends."
        }
    }
}

#[rustfmt::skip]
fn of_bypass(bypass: Bypass) -> &'static str {
    match bypass {
        Bypass::Off => "The cache is off.",
        Bypass::NoRule => "No cache rule allows it: a rule has to name all tables that it names.",
        Bypass::Denied => "A cache rule denies it.",
        Bypass::HintedOff => "Its comment asks not to be cached.",
        Bypass::Unreadable => "Its text cannot be read: a quote or a comment has no end, or it is too long.",
        Bypass::NotARead => "It is no SELECT.",
        Bypass::SeveralStatements => "Several statements stand in one text.",
        Bypass::Writes => "It writes, in a WITH for instance.",
        Bypass::LocksRows => "It locks rows (FOR UPDATE, FOR SHARE).",
        Bypass::SelectInto => "It makes a table (SELECT INTO).",
        Bypass::TableSample => "It reads a random sample (TABLESAMPLE).",
        Bypass::Time => "It asks what time it is.",
        Bypass::AsksWho => "It asks who is asking (current_user and its kin).",
        Bypass::VolatileFunction => "It calls a volatile function.",
        Bypass::StableFunction => "It calls a stable function that its rule does not declare pure.",
        Bypass::UserFunction => "It calls a function that is not PostgreSQL's own, and its rule does not declare it pure.",
        Bypass::UnknownFunction => "It calls a function that the catalog does not have.",
        Bypass::UserOperator => "It uses an operator that is not PostgreSQL's own and not immutable.",
        Bypass::UserType => "It uses a type that is not PostgreSQL's own, whose functions are not immutable.",
        Bypass::AdvisoryLock => "It takes or asks for an advisory lock.",
        Bypass::SystemColumn => "It reads a system column (ctid, xmin), which changes without a write.",
        Bypass::Catalog => "It reads a system catalog, or a name that is looked up in one.",
        Bypass::NoTable => "It reads no table.",
        Bypass::UnknownTable => "It reads a table that the catalog does not have.",
        Bypass::ForeignTable => "It reads a foreign table: writes to that are not seen.",
        Bypass::UnloggedTable => "It reads an unlogged table: writes to that are not in the log.",
        Bypass::TemporaryTable => "Its session has temporary tables, which may hide others.",
        Bypass::Sequence => "It reads a sequence.",
        Bypass::MaterializedView => "It reads a materialised view; its rule has to say `materialized = true`.",
        Bypass::Policy => "A row-level security policy depends on what cannot be told.",
        Bypass::TooManyTables => "It depends on too many tables.",
        Bypass::Backslashes => "standard_conforming_strings is off: its text may not be what it seems.",
        Bypass::TooManySettings => "Too many different settings of sessions are in use.",
        Bypass::TooManyTenants => "There are more tenants than are told apart: this one has no place of its own.",
        Bypass::Tainted => "A call in its session may have changed settings in a way that was not seen.",
        Bypass::Standby => "Its server is a standby: what was acknowledged elsewhere may not be there yet.",
        Bypass::TransactionWrote => "Its transaction wrote before.",
        Bypass::TransactionLocked => "Its transaction locked something before.",
        Bypass::TransactionFailed => "Its transaction has failed.",
        Bypass::Isolation => "Its transaction is REPEATABLE READ or stricter.",
        Bypass::DescribeOnly => "It was described and not run.",
        Bypass::Flush => "It was sent with Flush in place of Sync.",
        Bypass::RowLimit => "Its Execute has a limit of rows, or goes on with a portal.",
        Bypass::Pipeline => "More than one Execute stands before the Sync, or something else behind the first one.",
        Bypass::TimeParameter => "A parameter's value asks what time it is.",
        Bypass::Limited => "A limit of its tenant counts it or speaks against it.",
        Bypass::Listens => "Its session listens for notifications.",
        Bypass::UnknownPath => "Where its session looks names up (search_path) is not known.",
        Bypass::NotPublished => "Writes from outside to a table that it reads are not in the cache's publication.",
        Bypass::CatalogUnread => "Its database's catalog is not known, or is being read anew.",
        Bypass::KeyTooLong => "Its text and parameters are longer than an entry may be.",
    }
}

fn of_refused(refused: Refused) -> &'static str {
    match refused {
        Refused::WriteUnderWay => "Its reply was not kept: a table that it reads was being written when it was sent.",
        Refused::Changed => "Its reply was not kept: a table that it reads was written meanwhile.",
        Refused::CatalogChanged => "Its reply was not kept: the catalog was changed meanwhile.",
        Refused::OlderWrite => "Its reply was not kept: somebody still writes by a catalog that is out of date.",
        Refused::NotVisible => "Its reply was not kept: a write from outside may not be visible in it yet.",
        Refused::SlotDown => "Its reply was not kept: writes from outside are not heard of now.",
        Refused::Error => "Its reply was not kept: it is an error.",
        Refused::Notice => "Its reply was not kept: a notice stands in it.",
        Refused::ParameterStatus => "Its reply was not kept: a setting changed in it.",
        Refused::Notification => "Its reply was not kept: a notification stands in it.",
        Refused::Incomplete => "Its reply was not kept: it ends before its last row.",
        Refused::Transaction => "Its reply was not kept: the transaction's state changed in it.",
        Refused::TooLarge => "Its reply was not kept: it is longer than `cache.max_entry`.",
        Refused::TooCheap => "Its reply was not kept: the server needs less time for it than `cache.min_cost`.",
        Refused::NoRoom => "Its reply was not kept: its tenant holds its share already, or there is no room.",
        Refused::SwitchedOff => "Its reply was not kept: the mode was changed meanwhile.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_bounded_and_those_of_statements_that_come_later_are_told_too() {
        let mut told = Told::default();
        for strict in 0..=MAX_TOLD as u64 {
            told.tell(strict, Fate::Hit);
            told.tell(strict, Fate::Miss(Miss::Expired));
        }
        assert_eq!((told.fates.len(), told.order.len()), (MAX_TOLD, MAX_TOLD));
        assert_eq!((told.of(0), told.of(MAX_TOLD as u64)), (None, Some(Fate::Miss(Miss::Expired))));
    }
}
