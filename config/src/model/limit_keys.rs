//! What can be limited: one list that the parser, the reload, the reference, the policy and the admin port go by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Mode, OnUntracked};
use crate::units::show_duration;

/// One thing that a tenant's table can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LimitKey {
    /// Longest time of a statement.
    StatementTimeout,
    /// Longest time of a request: all statements up to a Sync, or of one Query.
    RequestTimeout,
    /// Longest time of a transaction.
    TransactionTimeout,
    /// Longest silence in a transaction.
    IdleInTransactionTimeout,
    /// Longest silence outside of one.
    IdleTimeout,
    /// Longest wait for a server connection.
    QueueTimeout,
    /// Clients at once.
    MaxClients,
    /// Server connections at once, in each pool.
    MaxUpstreams,
    /// Server connections that it gets before others do, in each pool.
    MinUpstreams,
    /// Its share where several wait.
    Weight,
    /// Clients that may wait at once, in each pool.
    MaxWaiting,
    /// Statements that run at once.
    MaxStatements,
    /// Statements in a second.
    StatementRate,
    /// Statements that may come at once before the rate counts.
    StatementBurst,
    /// Rows of a result.
    MaxRows,
    /// Bytes of a result.
    MaxBytes,
    /// `LIMIT` put behind a SELECT that has none.
    RowLimit,
    /// Nothing may be written.
    ReadOnly,
    /// It may not be run at all.
    Blocked,
    /// The only tables that may be named.
    Tables,
    /// Slow from here on.
    SlowThreshold,
    /// A transaction is slow from here on.
    TransactionThreshold,
    /// Idle in a transaction from here on.
    IdleThreshold,
    /// What is done about session state that cannot be followed.
    OnUntracked,
    /// What happens when a limit is reached.
    Mode,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// A duration; zero: no limit.
    Time,
    /// A duration, not zero.
    Threshold,
    /// A number; zero: no limit.
    Count,
    /// A number of bytes; zero: no limit.
    Size,
    /// Yes or no.
    Flag,
    /// Names.
    Names,
    /// A word.
    Word,
}

/// A value of such a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of LimitKind")]
pub enum LimitValue {
    Time(Duration),
    Count(u64),
    Flag(bool),
    Names(Vec<String>),
    OnUntracked(OnUntracked),
    Mode(Mode),
}

impl LimitValue {
    /// As an operator would write it, for messages.
    pub fn shown(&self) -> String {
        match self {
            Self::Time(time) if time.is_zero() => "0".to_owned(),
            Self::Time(time) => show_duration(*time),
            Self::Count(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Names(names) => names.join(", "),
            Self::OnUntracked(answer) => answer.word().to_owned(),
            Self::Mode(mode) => mode.word().to_owned(),
        }
    }
}

impl LimitKey {
    /// All, in the order of the reference.
    pub const ALL: [Self; 25] = [
        Self::StatementTimeout,
        Self::RequestTimeout,
        Self::TransactionTimeout,
        Self::IdleInTransactionTimeout,
        Self::IdleTimeout,
        Self::QueueTimeout,
        Self::MaxClients,
        Self::MaxUpstreams,
        Self::MinUpstreams,
        Self::Weight,
        Self::MaxWaiting,
        Self::MaxStatements,
        Self::StatementRate,
        Self::StatementBurst,
        Self::MaxRows,
        Self::MaxBytes,
        Self::RowLimit,
        Self::ReadOnly,
        Self::Blocked,
        Self::Tables,
        Self::SlowThreshold,
        Self::TransactionThreshold,
        Self::IdleThreshold,
        Self::OnUntracked,
        Self::Mode,
    ];

    /// The key in the configuration; also what errors, logs and metrics call the limit.
    pub const fn word(self) -> &'static str {
        match self {
            Self::StatementTimeout => "statement_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::TransactionTimeout => "transaction_timeout",
            Self::IdleInTransactionTimeout => "idle_in_transaction_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::QueueTimeout => "queue_timeout",
            Self::MaxClients => "max_clients",
            Self::MaxUpstreams => "max_upstreams",
            Self::MinUpstreams => "min_upstreams",
            Self::Weight => "weight",
            Self::MaxWaiting => "max_waiting",
            Self::MaxStatements => "max_statements",
            Self::StatementRate => "statement_rate",
            Self::StatementBurst => "statement_burst",
            Self::MaxRows => "max_rows",
            Self::MaxBytes => "max_bytes",
            Self::RowLimit => "row_limit",
            Self::ReadOnly => "read_only",
            Self::Blocked => "blocked",
            Self::Tables => "tables",
            Self::SlowThreshold => "slow_threshold",
            Self::TransactionThreshold => "transaction_threshold",
            Self::IdleThreshold => "idle_threshold",
            Self::OnUntracked => "on_untracked",
            Self::Mode => "mode",
        }
    }

    /// The key of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.word() == word)
    }

    /// The type of its value.
    pub const fn kind(self) -> LimitKind {
        match self {
            Self::StatementTimeout
            | Self::RequestTimeout
            | Self::TransactionTimeout
            | Self::IdleInTransactionTimeout
            | Self::IdleTimeout
            | Self::QueueTimeout => LimitKind::Time,
            Self::SlowThreshold | Self::TransactionThreshold | Self::IdleThreshold => LimitKind::Threshold,
            Self::MaxClients
            | Self::MaxUpstreams
            | Self::MinUpstreams
            | Self::Weight
            | Self::MaxWaiting
            | Self::MaxStatements
            | Self::StatementRate
            | Self::StatementBurst
            | Self::MaxRows
            | Self::RowLimit => LimitKind::Count,
            Self::MaxBytes => LimitKind::Size,
            Self::ReadOnly | Self::Blocked => LimitKind::Flag,
            Self::Tables => LimitKind::Names,
            Self::OnUntracked | Self::Mode => LimitKind::Word,
        }
    }

    /// Whether reaching it can be observed only, or warned of: all but what is no limit on what a client does.
    pub const fn has_mode(self) -> bool {
        !matches!(
            self,
            Self::SlowThreshold
                | Self::TransactionThreshold
                | Self::IdleThreshold
                | Self::OnUntracked
                | Self::Mode
                | Self::Weight
                | Self::MinUpstreams
                | Self::StatementBurst
        )
    }

    /// Whether it is about what a tenant gets of a pool, of which its classes have their parts.
    pub const fn is_of_share(self) -> bool {
        matches!(self, Self::MaxUpstreams | Self::MinUpstreams | Self::Weight | Self::MaxWaiting)
    }

    /// Whether it can be said of a class of work: a tenant's minimum is its own, whichever class asks for it.
    pub const fn is_of_classes(self) -> bool {
        !matches!(self, Self::MinUpstreams)
    }

    /// Whether it can be said of a single statement by its fingerprint.
    pub const fn is_of_statements(self) -> bool {
        matches!(
            self,
            Self::StatementTimeout
                | Self::MaxStatements
                | Self::StatementRate
                | Self::StatementBurst
                | Self::MaxRows
                | Self::MaxBytes
                | Self::RowLimit
                | Self::Blocked
                | Self::Mode
        )
    }
}

/// What one table says: of all, of a class, of a tenant, of a statement. What it does not say is inherited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    values: BTreeMap<LimitKey, LimitValue>,
    /// `modes.<limit>`: in place of `mode` for one limit.
    modes: BTreeMap<LimitKey, Mode>,
}

impl Limits {
    /// What it says about this key.
    pub fn get(&self, key: LimitKey) -> Option<&LimitValue> {
        self.values.get(&key)
    }

    /// A duration, zero included.
    pub fn time(&self, key: LimitKey) -> Option<Duration> {
        match self.get(key) {
            Some(LimitValue::Time(time)) => Some(*time),
            _ => None,
        }
    }

    /// A number, zero included.
    pub fn count(&self, key: LimitKey) -> Option<u64> {
        match self.get(key) {
            Some(LimitValue::Count(number)) => Some(*number),
            _ => None,
        }
    }

    /// The mode of just this limit.
    pub fn mode_of(&self, key: LimitKey) -> Option<Mode> {
        self.modes.get(&key).copied()
    }

    /// The mode of all limits that have none of their own.
    pub fn mode(&self) -> Option<Mode> {
        match self.get(LimitKey::Mode) {
            Some(LimitValue::Mode(mode)) => Some(*mode),
            _ => None,
        }
    }

    /// The same with one more value.
    #[must_use]
    pub fn with(mut self, key: LimitKey, value: LimitValue) -> Self {
        self.values.insert(key, value);
        self
    }

    /// The same with a duration.
    #[must_use]
    pub fn with_time(self, key: LimitKey, time: Duration) -> Self {
        self.with(key, LimitValue::Time(time))
    }

    /// The same with a number.
    #[must_use]
    pub fn with_count(self, key: LimitKey, number: u64) -> Self {
        self.with(key, LimitValue::Count(number))
    }

    /// The same with a mode of its own for one limit.
    #[must_use]
    pub fn with_mode(mut self, key: LimitKey, mode: Mode) -> Self {
        self.modes.insert(key, mode);
        self
    }

    /// All that it says, in the order of the reference.
    pub fn said(&self) -> impl Iterator<Item = (LimitKey, &LimitValue)> {
        self.values.iter().map(|(key, value)| (*key, value))
    }

    /// All modes of single limits.
    pub fn modes(&self) -> impl Iterator<Item = (LimitKey, Mode)> {
        self.modes.iter().map(|(key, mode)| (*key, *mode))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.modes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_place_and_a_name_of_its_own() {
        for (place, key) in LimitKey::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, place);
            assert_eq!(LimitKey::from_word(key.word()), Some(key));
        }
        assert_eq!(LimitKey::from_word("statement-timeout"), None);
    }
}
