//! The classes of statements.

/// What a statement is, by its main verb.
///
/// A WITH has the class of its main statement; whether one of its members writes is
/// [`Flags::CTE_WRITES`](super::Flags::CTE_WRITES).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Nothing but whitespace, comments and semicolons.
    #[default]
    Empty,
    /// SELECT and TABLE.
    Select,
    /// VALUES on its own.
    Values,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY … FROM.
    CopyIn,
    /// COPY … TO.
    CopyOut,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END, COMMIT PREPARED.
    Commit,
    /// ROLLBACK, ABORT, ROLLBACK PREPARED.
    Rollback,
    /// SAVEPOINT.
    Savepoint,
    /// ROLLBACK TO.
    RollbackTo,
    /// RELEASE.
    Release,
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// SET in all its forms.
    Set,
    /// RESET.
    Reset,
    /// SHOW.
    Show,
    /// PREPARE name AS ….
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE … CURSOR.
    Declare,
    /// FETCH, MOVE.
    Fetch,
    /// CLOSE.
    Close,
    /// LISTEN.
    Listen,
    /// UNLISTEN.
    Unlisten,
    /// NOTIFY.
    Notify,
    /// DISCARD.
    Discard,
    /// LOCK.
    Lock,
    /// EXPLAIN.
    Explain,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// CREATE, ALTER, DROP, GRANT, REVOKE, TRUNCATE, COMMENT, REFRESH, ….
    Ddl,
    /// What refuses to run in a transaction or works on the whole server: VACUUM, CLUSTER, REINDEX, CHECKPOINT,
    /// CREATE and DROP DATABASE or TABLESPACE, ALTER SYSTEM, CREATE and DROP INDEX CONCURRENTLY; and ANALYZE.
    Maintenance,
    /// LOAD.
    Load,
    /// Anything else, such as a syntax error.
    Other,
}

impl Class {
    /// Whether it may change rows or the schema by what it is, and not by what it calls alone. What runs something that
    /// cannot be seen may.
    pub const fn may_write(self) -> bool {
        !self.is_transaction_control()
            && !matches!(
                self,
                Self::Empty
                    | Self::Select
                    | Self::Values
                    | Self::CopyOut
                    | Self::Set
                    | Self::Reset
                    | Self::Show
                    | Self::Deallocate
                    | Self::Declare
                    | Self::Fetch
                    | Self::Close
                    | Self::Listen
                    | Self::Unlisten
                    | Self::Notify
                    | Self::Discard
                    | Self::Explain
            )
    }

    /// Whether it ends a transaction, or goes back within it.
    pub const fn is_way_out(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo)
    }

    /// Whether it begins, ends or divides a transaction.
    pub const fn is_transaction_control(self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Commit
                | Self::Rollback
                | Self::Savepoint
                | Self::RollbackTo
                | Self::Release
                | Self::PrepareTransaction
        )
    }

    /// Whether this verb only reads, functions and data-modifying members of a WITH aside.
    pub const fn reads_only(self) -> bool {
        matches!(self, Self::Select | Self::Values | Self::Show | Self::CopyOut | Self::Fetch)
    }

    /// Whether this verb changes rows.
    pub const fn writes_rows(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Delete | Self::Merge | Self::CopyIn)
    }

    /// Whether the server plans it: what `pg_stat_statements` calls not a utility.
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Select | Self::Values | Self::Insert | Self::Update | Self::Delete | Self::Merge)
    }

    /// Its name for people and for labels, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Select => "select",
            Self::Values => "values",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::CopyIn => "copy in",
            Self::CopyOut => "copy out",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Savepoint => "savepoint",
            Self::RollbackTo => "rollback to",
            Self::Release => "release",
            Self::PrepareTransaction => "prepare transaction",
            Self::Set => "set",
            Self::Reset => "reset",
            Self::Show => "show",
            Self::Prepare => "prepare",
            Self::Execute => "execute",
            Self::Deallocate => "deallocate",
            Self::Declare => "declare",
            Self::Fetch => "fetch",
            Self::Close => "close",
            Self::Listen => "listen",
            Self::Unlisten => "unlisten",
            Self::Notify => "notify",
            Self::Discard => "discard",
            Self::Lock => "lock",
            Self::Explain => "explain",
            Self::Call => "call",
            Self::Do => "do",
            Self::Ddl => "ddl",
            Self::Maintenance => "maintenance",
            Self::Load => "load",
            Self::Other => "other",
        }
    }
}
