//! What is never cached and never served, and why.
//!
//! Three questions at three times: of a text, once for each shape ([`Catalog::reads`](super::catalog::Catalog::reads)
//! asks it); of a session and of how it executes, each time; of a reply, before it is kept. Each answer is one of a closed
//! set of reasons, so that "why is this not cached?" has one.

use super::account::{Budget, Reason, Refused, reasons};

reasons! {
    /// Why a statement is neither answered from the cache nor kept in it.
    Bypass {
        /// The cache is off.
        Off "off",
        /// No rule allows it.
        NoRule "no_rule",
        /// A rule denies it.
        Denied "denied",
        /// Its comment asks not to.
        HintedOff "hinted_off",
        /// A quote or a comment has no end, or it is longer than what is looked at.
        Unreadable "unreadable",
        /// It is no SELECT.
        NotARead "not_a_read",
        /// Several statements in one text.
        SeveralStatements "several_statements",
        /// It writes, in a WITH for instance.
        Writes "writes",
        /// FOR UPDATE, FOR SHARE and their kin.
        LocksRows "locks_rows",
        /// SELECT … INTO.
        SelectInto "select_into",
        /// TABLESAMPLE.
        TableSample "table_sample",
        /// It asks what time it is, in whatever words.
        Time "time",
        /// It asks who asks: `current_user` and its kin.
        AsksWho "asks_who",
        /// A volatile function.
        VolatileFunction "volatile_function",
        /// A stable function that its rule does not declare pure.
        StableFunction "stable_function",
        /// A function of somebody's own that its rule does not declare pure.
        UserFunction "user_function",
        /// A function that the catalog does not know.
        UnknownFunction "unknown_function",
        /// An operator of somebody's own that is not immutable.
        UserOperator "user_operator",
        /// A type of somebody's own whose functions are not immutable.
        UserType "user_type",
        /// An advisory lock.
        AdvisoryLock "advisory_lock",
        /// A system column: it changes without a write.
        SystemColumn "system_column",
        /// A catalog, or a name that is looked up in one.
        Catalog "catalog",
        /// It reads no table.
        NoTable "no_table",
        /// A table that the catalog does not know.
        UnknownTable "unknown_table",
        /// A foreign table.
        ForeignTable "foreign_table",
        /// An unlogged table.
        UnloggedTable "unlogged_table",
        /// A temporary table, or the session has some, which may hide others.
        TemporaryTable "temporary_table",
        /// A sequence.
        Sequence "sequence",
        /// A materialised view, and its rule does not say that REFRESH passes here.
        MaterializedView "materialized_view",
        /// A policy of row-level security whose inputs cannot be told.
        Policy "policy",
        /// It depends on more tables than an entry may.
        TooManyTables "too_many_tables",
        /// `standard_conforming_strings` is off: the text may not be what it seems.
        Backslashes "backslashes",
        /// Too many different settings are in use.
        TooManySettings "too_many_settings",
        /// There are more tenants than are told apart (`tenant.max_tenants`): this one shares its name with others.
        TooManyTenants "too_many_tenants",
        /// A call may have changed the session in a way that was not seen.
        Tainted "tainted",
        /// The server is a standby: what was acknowledged elsewhere may not be there yet.
        Standby "standby",
        /// Its transaction wrote before.
        TransactionWrote "transaction_wrote",
        /// Its transaction locked something.
        TransactionLocked "transaction_locked",
        /// Its transaction has failed: the server refuses it.
        TransactionFailed "transaction_failed",
        /// REPEATABLE READ or stricter.
        Isolation "isolation",
        /// A portal is described and not executed.
        DescribeOnly "describe_only",
        /// Flush in place of Sync.
        Flush "flush",
        /// Execute with a limit on rows, or of a portal that was suspended.
        RowLimit "row_limit",
        /// More than one Execute before the Sync.
        Pipeline "pipeline",
        /// A parameter's value asks what time it is.
        TimeParameter "time_parameter",
        /// A limit of its tenant's speaks against it, or counts it: the way to the server tells what.
        Limited "limited",
        /// Its session listens: what it hears comes in order with its replies.
        Listens "listens",
        /// Where its session looks names up is not known.
        UnknownPath "unknown_path",
        /// Writes from outside to a table that it reads are not in the publication that is listened to.
        NotPublished "not_published",
        /// Its database's catalog is not known, or is being read anew.
        CatalogUnread "catalog_unread",
        /// Its key is longer than an entry may be.
        KeyTooLong "key_too_long",
    }
}

/// Whether the cache works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is kept and nothing served.
    #[default]
    Off,
    /// Replies are kept and compared with the server's, which are served.
    Observe,
    /// Replies are kept and served.
    On,
}

impl Mode {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }

    /// Whether replies are kept.
    pub const fn keeps(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether kept replies are served.
    pub const fn serves(self) -> bool {
        matches!(self, Self::On)
    }
}

/// Where a session stands in its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// In none.
    #[default]
    None,
    /// In one.
    Open {
        /// Something in it wrote, or may have: what it sees is its own.
        wrote: bool,
        /// Something in it locked rows or tables.
        locked: bool,
    },
    /// In one that has failed.
    Failed,
}

/// The isolation of the current transaction, or of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED, or READ UNCOMMITTED, which is the same.
    #[default]
    ReadCommitted,
    /// REPEATABLE READ: all statements see the same.
    RepeatableRead,
    /// SERIALIZABLE: the server has to know what was read.
    Serializable,
    /// A client's setting that was not understood.
    Unknown,
}

impl Isolation {
    /// What `default_transaction_isolation` or BEGIN says.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "read committed" | "read uncommitted" => Self::ReadCommitted,
            "repeatable read" => Self::RepeatableRead,
            "serializable" => Self::Serializable,
            _ => Self::Unknown,
        }
    }
}

/// What matters of a session when it executes something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Where it stands.
    pub transaction: Transaction,
    /// What its transaction sees.
    pub isolation: Isolation,
    /// Something may have changed it unseen.
    pub tainted: bool,
    /// It has made temporary objects, or may have.
    pub temporary: bool,
    /// Its `standard_conforming_strings` is off.
    pub backslashes: bool,
    /// Its server is a standby.
    pub standby: bool,
}

impl Session {
    /// Why nothing of this session is cached now.
    ///
    /// ```
    /// use policy::cache::{Bypass, Session, Transaction};
    /// let mut session = Session::default();
    /// assert_eq!(session.bypass(), None);
    /// session.transaction = Transaction::Open { wrote: true, locked: false };
    /// assert_eq!(session.bypass(), Some(Bypass::TransactionWrote));
    /// ```
    pub const fn bypass(&self) -> Option<Bypass> {
        match self.transaction {
            Transaction::Failed => return Some(Bypass::TransactionFailed),
            Transaction::Open { wrote: true, .. } => return Some(Bypass::TransactionWrote),
            Transaction::Open { locked: true, .. } => return Some(Bypass::TransactionLocked),
            Transaction::Open { .. } | Transaction::None => {}
        }
        Some(match self {
            Self { isolation: Isolation::RepeatableRead | Isolation::Serializable | Isolation::Unknown, .. } => {
                Bypass::Isolation
            }
            Self { tainted: true, .. } => Bypass::Tainted,
            Self { temporary: true, .. } => Bypass::TemporaryTable,
            Self { backslashes: true, .. } => Bypass::Backslashes,
            Self { standby: true, .. } => Bypass::Standby,
            _ => return None,
        })
    }
}

/// How a statement is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// How many Executes stand before the Sync. One Query counts as one.
    pub executes: u32,
    /// The Execute has a limit on rows, or its portal was executed before.
    pub row_limited: bool,
    /// A Flush stands in it.
    pub flush: bool,
}

impl Execution {
    /// Why it is not cached.
    pub const fn bypass(&self) -> Option<Bypass> {
        Some(match self {
            Self { executes: 0, .. } => Bypass::DescribeOnly,
            Self { flush: true, .. } => Bypass::Flush,
            Self { row_limited: true, .. } => Bypass::RowLimit,
            Self { executes: 2.., .. } => Bypass::Pipeline,
            _ => return None,
        })
    }
}

/// Words that mean a moment where a time is expected: `'now'::timestamptz`, `'tomorrow 08:00'`.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Whether a constant or a parameter would mean another moment each time, if a time is what it is taken for: as a whole, or a
/// part of it, as of an array or of a document.
///
/// ```
/// use policy::cache::means_a_moment;
/// assert!(means_a_moment(b"now") && means_a_moment(b" Tomorrow 08:00") && means_a_moment(b"{2026-11-29,now}"));
/// assert!(!means_a_moment(b"2026-11-29") && !means_a_moment(b"snow") && !means_a_moment(b"nowhere"));
/// ```
pub fn means_a_moment(value: &[u8]) -> bool {
    // Most bytes begin none of the words.
    let begins = |byte: u8| matches!(byte | 0x20, b'n' | b't' | b'y');
    let mut before = b' ';
    for (at, byte) in value.iter().enumerate() {
        if begins(*byte) && !before.is_ascii_alphanumeric() {
            let rest = value.get(at..).unwrap_or_default();
            let is = |moment: &&str| {
                let word = rest.split_at_checked(moment.len());
                word.is_some_and(|(word, behind)| {
                    word.eq_ignore_ascii_case(moment.as_bytes())
                        && !behind.first().is_some_and(u8::is_ascii_alphanumeric)
                })
            };
            if MOMENTS.iter().any(is) {
                return true;
            }
        }
        before = *byte;
    }
    false
}

/// Live costs below this are not worth an entry, in microseconds.
pub const MIN_COST_MICROS: u64 = 300;

/// What stood in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// An ErrorResponse.
    pub error: bool,
    /// A NoticeResponse.
    pub notice: bool,
    /// A ParameterStatus.
    pub parameter_status: bool,
    /// A NotificationResponse.
    pub notification: bool,
    /// Its rows were followed by their CommandComplete: no suspended portal, no copy, nothing lost.
    pub complete: bool,
    /// The ReadyForQuery behind it names the state that the transaction was in before.
    pub same_state: bool,
    /// Its bytes.
    pub bytes: u64,
    /// What it usually costs the server, in microseconds.
    pub cost_micros: u64,
}

impl Reply {
    /// Why it is not kept.
    pub const fn refused(&self, budget: &Budget) -> Option<Refused> {
        Some(match self {
            Self { error: true, .. } => Refused::Error,
            Self { notice: true, .. } => Refused::Notice,
            Self { parameter_status: true, .. } => Refused::ParameterStatus,
            Self { notification: true, .. } => Refused::Notification,
            Self { complete: false, .. } => Refused::Incomplete,
            Self { same_state: false, .. } => Refused::Transaction,
            _ if self.bytes > budget.max_entry => Refused::TooLarge,
            _ if self.cost_micros < MIN_COST_MICROS => Refused::TooCheap,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_of_a_session_has_its_reason() {
        let open = |wrote, locked| Session { transaction: Transaction::Open { wrote, locked }, ..Session::default() };
        for (session, reason) in [
            (Session::default(), None),
            (open(false, false), None),
            (open(true, false), Some(Bypass::TransactionWrote)),
            (open(false, true), Some(Bypass::TransactionLocked)),
            (Session { transaction: Transaction::Failed, ..Session::default() }, Some(Bypass::TransactionFailed)),
            (Session { isolation: Isolation::named("REPEATABLE READ"), ..Session::default() }, Some(Bypass::Isolation)),
            (Session { isolation: Isolation::named("serializable"), ..Session::default() }, Some(Bypass::Isolation)),
            (Session { isolation: Isolation::named("whatever"), ..Session::default() }, Some(Bypass::Isolation)),
            (Session { isolation: Isolation::named("read uncommitted"), ..Session::default() }, None),
            (Session { tainted: true, ..Session::default() }, Some(Bypass::Tainted)),
            (Session { temporary: true, ..Session::default() }, Some(Bypass::TemporaryTable)),
            (Session { backslashes: true, ..Session::default() }, Some(Bypass::Backslashes)),
            (Session { standby: true, ..Session::default() }, Some(Bypass::Standby)),
        ] {
            assert_eq!(session.bypass(), reason, "{session:?}");
        }
    }

    #[test]
    fn each_way_to_execute_has_its_reason() {
        let one = Execution { executes: 1, ..Execution::default() };
        for (execution, reason) in [
            (one, None),
            (Execution::default(), Some(Bypass::DescribeOnly)),
            (Execution { executes: 2, ..one }, Some(Bypass::Pipeline)),
            (Execution { row_limited: true, ..one }, Some(Bypass::RowLimit)),
            (Execution { flush: true, ..one }, Some(Bypass::Flush)),
        ] {
            assert_eq!(execution.bypass(), reason, "{execution:?}");
        }
    }

    #[test]
    fn each_flaw_of_a_reply_has_its_reason() {
        let budget = Budget { max_entry: 100, ..Budget::default() };
        let good = Reply { complete: true, same_state: true, bytes: 100, cost_micros: 300, ..Reply::default() };
        for (reply, reason) in [
            (good, None),
            (Reply { error: true, ..good }, Some(Refused::Error)),
            (Reply { notice: true, ..good }, Some(Refused::Notice)),
            (Reply { parameter_status: true, ..good }, Some(Refused::ParameterStatus)),
            (Reply { notification: true, ..good }, Some(Refused::Notification)),
            (Reply { complete: false, ..good }, Some(Refused::Incomplete)),
            (Reply { same_state: false, ..good }, Some(Refused::Transaction)),
            (Reply { bytes: 101, ..good }, Some(Refused::TooLarge)),
            (Reply { cost_micros: 299, ..good }, Some(Refused::TooCheap)),
            (Reply { bytes: 0, ..good }, None),
        ] {
            assert_eq!(reply.refused(&budget), reason, "{reply:?}");
        }
    }

    #[test]
    fn modes_do_what_they_say() {
        for (mode, name, keeps, serves) in
            [(Mode::Off, "off", false, false), (Mode::Observe, "observe", true, false), (Mode::On, "on", true, true)]
        {
            assert_eq!((mode.name(), mode.keeps(), mode.serves()), (name, keeps, serves));
        }
    }

    #[test]
    fn moments_are_found_in_whatever_stands_around_them() {
        for value in ["now", "NOW", "{now}", "today", "yesterday allballs", "{\"a\":\"tomorrow\"}", "now()"] {
            assert!(means_a_moment(value.as_bytes()), "{value}");
        }
        for value in ["", "2026-01-01", "nowhere", "epoch", "infinity", "to day"] {
            assert!(!means_a_moment(value.as_bytes()), "{value}");
        }
        assert!(means_a_moment(&[b"now ".as_slice(), &[b'x'; 200]].concat()));
    }
}
