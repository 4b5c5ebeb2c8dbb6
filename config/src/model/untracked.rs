//! What a session can leave on its server connection that no proxy can carry to another one, and what is done about it.

/// Session state that is not followed. Its label is the key's suffix (`pool.on_<label>`) and the metric's `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SessionState {
    /// LISTEN: notifications arrive on this connection alone.
    Listen,
    /// A temporary table, view or sequence.
    TemporaryObject,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A cursor WITH HOLD.
    HeldCursor,
    /// PREPARE as SQL text.
    SqlPrepare,
    /// Prepared statements of the protocol, looked at or run by their names in SQL.
    StatementNames,
    /// LOAD of a library.
    Load,
    /// A setting whose name or value the text does not show.
    HiddenSetting,
    /// DO or CALL: code whose effects are not seen.
    Block,
    /// A function, or a trigger behind a table, whose source changes the session.
    Function,
    /// `currval` and `lastval`: they ask for what this very connection has drawn from a sequence.
    SequenceState,
    /// `setseed`: from then on the connection's `random()` can be foretold.
    Seed,
}

impl SessionState {
    /// Every one, in the order of the reference.
    pub const ALL: [Self; 12] = [
        Self::Listen,
        Self::TemporaryObject,
        Self::AdvisoryLock,
        Self::HeldCursor,
        Self::SqlPrepare,
        Self::StatementNames,
        Self::Load,
        Self::HiddenSetting,
        Self::Block,
        Self::Function,
        Self::SequenceState,
        Self::Seed,
    ];

    /// Its name in keys and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::TemporaryObject => "temporary_object",
            Self::AdvisoryLock => "advisory_lock",
            Self::HeldCursor => "held_cursor",
            Self::SqlPrepare => "sql_prepare",
            Self::StatementNames => "statement_names",
            Self::Load => "load",
            Self::HiddenSetting => "hidden_setting",
            Self::Block => "block",
            Self::Function => "function",
            Self::SequenceState => "sequence_state",
            Self::Seed => "seed",
        }
    }

    /// The words that a person knows it by.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::TemporaryObject => "a temporary table",
            Self::AdvisoryLock => "a session-level advisory lock",
            Self::HeldCursor => "a cursor WITH HOLD",
            Self::SqlPrepare => "PREPARE as an SQL statement",
            Self::StatementNames => "naming a driver's prepared statements in SQL",
            Self::Load => "LOAD",
            Self::HiddenSetting => "a setting whose name or value the statement does not show",
            Self::Block => "DO or CALL",
            Self::Function => "a function that changes its session",
            Self::SequenceState => "currval or lastval",
            Self::Seed => "setseed",
        }
    }

    /// What is done about it unless the configuration says otherwise: the client keeps its connection, so that all works
    /// as on a connection of its own. DO and CALL are common and mostly leave nothing: a reset is enough.
    pub const fn usual(self) -> OnUntracked {
        match self {
            Self::Block => OnUntracked::Discard,
            _ => OnUntracked::Pin,
        }
    }
}

/// What is done about a statement that leaves such state behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnUntracked {
    /// The client keeps its server connection until the state is gone or it leaves.
    Pin,
    /// The connection is reset by DISCARD ALL at the end of the transaction.
    Discard,
    /// The statement is refused.
    Reject,
}

impl OnUntracked {
    /// The words of the configuration.
    pub const WORDS: &[&str] = &["pin", "discard", "reject"];

    /// As the configuration spells it.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "pin" => Some(Self::Pin),
            "discard" => Some(Self::Discard),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }

    /// As the configuration spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Discard => "discard",
            Self::Reject => "reject",
        }
    }
}

/// What a pool does about each kind of state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untracked {
    /// For every kind that has no answer of its own; `None`: the usual one of each kind.
    pub general: Option<OnUntracked>,
    by_kind: [Option<OnUntracked>; SessionState::ALL.len()],
}

impl Untracked {
    /// What is done about this kind.
    pub fn of(&self, state: SessionState) -> OnUntracked {
        self.given(state).or(self.general).unwrap_or_else(|| state.usual())
    }

    /// What was said about just this kind.
    pub fn given(&self, state: SessionState) -> Option<OnUntracked> {
        self.by_kind.get(state as usize).copied().flatten()
    }

    /// The same with an answer for one kind.
    #[must_use]
    pub fn with(mut self, state: SessionState, answer: Option<OnUntracked>) -> Self {
        if let Some(slot) = self.by_kind.get_mut(state as usize) {
            *slot = answer;
        }
        self
    }

    /// One answer for all kinds.
    pub fn all(answer: OnUntracked) -> Self {
        Self { general: Some(answer), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        for (place, state) in SessionState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
            let one = Untracked::default().with(state, Some(OnUntracked::Reject));
            let rejected = SessionState::ALL.into_iter().filter(|other| one.of(*other) == OnUntracked::Reject);
            assert_eq!(rejected.collect::<Vec<_>>(), [state]);
            let all = Untracked::all(OnUntracked::Discard).with(state, Some(OnUntracked::Pin));
            let pinned = SessionState::ALL.into_iter().filter(|other| all.of(*other) == OnUntracked::Pin);
            assert_eq!(pinned.collect::<Vec<_>>(), [state]);
        }
    }
}
