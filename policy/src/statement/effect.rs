//! What a statement leaves behind in its session.

use super::{Span, Text};

/// One thing that a statement does to its session or its transaction.
///
/// Effects stand in the order in which the server carries them out. They are what the *text* shows: a function's
/// body is not seen, so [`Effect::DoBlock`] and [`Effect::Call`] are there to be distrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// SET of one parameter. `clause` is what follows SET, SESSION or LOCAL, in the text: `SET ` and `clause` set the
    /// same value again. TIME ZONE is named `timezone`, NAMES `client_encoding`, ROLE `role`, SESSION AUTHORIZATION
    /// `session_authorization`, SCHEMA `search_path`, XML OPTION `xmloption`.
    Set {
        /// The parameter, folded to lower case.
        name: Text,
        /// Until the end of the transaction only.
        local: bool,
        /// The clause to say again.
        clause: Span,
    },
    /// SET … TO DEFAULT, RESET, SET SESSION AUTHORIZATION DEFAULT, RESET ROLE. (SET ROLE NONE is a [`Effect::Set`].)
    Reset {
        /// The parameter, folded to lower case.
        name: Text,
        /// Until the end of the transaction only (SET LOCAL … TO DEFAULT).
        local: bool,
    },
    /// RESET ALL.
    ResetAll,
    /// A call of `set_config(name, value, is_local)`.
    SetConfig {
        /// The parameter.
        name: Operand,
        /// Its value.
        value: Operand,
        /// Whether until the end of the transaction only.
        local: Operand,
        /// The call runs exactly once when the statement succeeds: it stands in the list of a SELECT without FROM or
        /// any other clause. Otherwise it may run never or often, and the state is not known afterwards.
        certain: bool,
    },
    /// SET TRANSACTION …: characteristics of the current transaction; gone with it.
    SetTransaction,
    /// One mode of SET SESSION CHARACTERISTICS AS TRANSACTION: it sets a `default_transaction_…`, as set_config would.
    SetValue {
        /// The parameter.
        name: Text,
        /// Its value.
        value: Text,
    },
    /// SET CONSTRAINTS …: gone with the transaction.
    SetConstraints,
    /// SET var FROM CURRENT and forms that were not understood: the state is no longer known.
    SetUnknown,
    /// BEGIN, START TRANSACTION.
    Begin {
        /// READ ONLY or READ WRITE as asked for.
        access: Option<Access>,
    },
    /// COMMIT, END.
    Commit {
        /// AND CHAIN: another transaction begins at once.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN: another transaction begins at once.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(Text),
    /// ROLLBACK TO.
    RollbackTo(Text),
    /// RELEASE.
    Release(Text),
    /// PREPARE TRANSACTION: ends the transaction here, leaves it to whoever resolves it.
    PrepareTransaction,
    /// COMMIT PREPARED.
    CommitPrepared,
    /// ROLLBACK PREPARED.
    RollbackPrepared,
    /// PREPARE name AS ….
    SqlPrepare(Text),
    /// EXECUTE name, also behind EXPLAIN and CREATE TABLE AS.
    SqlExecute(Text),
    /// It reads `pg_prepared_statements`: the session's statements by their names.
    StatementNames,
    /// DEALLOCATE name.
    Deallocate(Text),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DISCARD.
    Discard(DiscardWhat),
    /// LISTEN.
    Listen(Text),
    /// UNLISTEN of one channel.
    Unlisten(Text),
    /// UNLISTEN *.
    UnlistenAll,
    /// NOTIFY, or a call of `pg_notify`: nothing stays behind here, but others hear who it was.
    Notify,
    /// DECLARE … WITH HOLD: a cursor that outlives its transaction.
    DeclareWithHold(Text),
    /// CLOSE of one cursor.
    CloseCursor(Text),
    /// CLOSE ALL.
    CloseAll,
    /// CREATE TEMPORARY table, view or sequence, and SELECT INTO TEMPORARY.
    TempObject {
        /// ON COMMIT DROP: gone with the transaction.
        until_commit: bool,
    },
    /// A call of `pg_advisory_lock`, `pg_try_advisory_lock` or their shared forms: held until the session ends.
    SessionAdvisoryLock,
    /// A call of `pg_advisory_unlock` or `pg_advisory_unlock_shared`.
    AdvisoryUnlock,
    /// A call of `pg_advisory_unlock_all`.
    AdvisoryUnlockAll,
    /// A call of `setseed`, or SET SEED: from here on `random()` of this session can be foretold.
    Seed,
    /// A call of `currval` or `lastval`: it asks for what the session itself has drawn before.
    SequenceState,
    /// A call of `pg_cancel_backend` or `pg_terminate_backend`: nothing stays behind here, but another session is struck,
    /// named by its process id.
    Signal {
        /// `pg_terminate_backend`.
        terminate: bool,
        /// The process id.
        process: Operand,
        /// Where a constant one stands in the text, with its quotes; empty: there is none.
        place: Span,
    },
    /// DROP DATABASE, CREATE DATABASE with that one as its template, ALTER DATABASE in a way that needs it to itself:
    /// nobody may be connected to it.
    Vacates(Text),
    /// DROP of anything: it may have been something temporary.
    Drop,
    /// CREATE, ALTER or DROP of a function, or of something that runs functions: a trigger, a view, a policy, ….
    Defines,
    /// CREATE, ALTER or DROP of what statements name, SELECT INTO: a text prepared before may mean something else now.
    Alters,
    /// LOAD of a library.
    Load,
    /// DO: a block of code whose effects are not seen.
    DoBlock,
    /// CALL: a procedure whose effects are not seen.
    Call,
    /// COPY FROM STDIN: data from the client follows.
    CopyIn,
    /// COPY TO STDOUT: data to the client follows.
    CopyOut,
}

/// An argument of a call, as far as the text shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A constant, decoded. Booleans and numbers as they are spelt, in lower case.
    Literal(Text),
    /// `$n`, from 1.
    Parameter(u16),
    /// NULL.
    Null,
    /// An expression.
    Unknown,
}

/// How a transaction may touch data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// What a DISCARD discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardWhat {
    /// ALL: everything that a session has.
    All,
    /// PLANS: cached plans.
    Plans,
    /// SEQUENCES: `currval` and cached values.
    Sequences,
    /// TEMP, TEMPORARY: temporary tables.
    Temp,
}
