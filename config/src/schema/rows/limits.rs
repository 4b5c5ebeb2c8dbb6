//! Keys of the tables of limits: of all, of a class, of a tenant, of a statement. They stand here once, as those of
//! `[tenant.default]`.

use super::{ON, row};
use crate::Mode;
use crate::schema::{Kind, Reload, Row};

use Kind::{Count, Flag, Names, Size, Time, Word};
use Reload::AtOnce;

/// The table's path, which the others' are brought back to.
pub(crate) const TABLE: [&str; 2] = ["tenant", "default"];

/// What may be too much for a count of anything.
const MANY: u64 = 1_000_000_000;

#[rustfmt::skip]
pub(crate) const LIMITS: &[Row] = &[
    row("tenant.default.mode", Word(Mode::WORDS), Some("enforce"), AtOnce,
        "What happens when a limit is reached: `enforce` does what the limit says; `warn` lets it pass, counts it and tells the client by a NOTICE; `observe` counts it alone; `off` does not look. So a policy can be rolled out in phases."),
    row("tenant.default.modes.<limit>", Word(Mode::WORDS), None, AtOnce,
        "The same for one limit, by its key: `modes.max_rows = \"observe\"`."),
    row("tenant.default.statement_timeout", Time { zero: true }, Some("0"), AtOnce,
        "Longest time that a statement may run. The server enforces it, and the proxy cancels what still runs 250ms later. The client is told 57014 and keeps its connection, and so does the server's. What a client sets itself is lowered to this."),
    row("tenant.default.request_timeout", Time { zero: true }, Some("0"), AtOnce,
        "Longest time of all statements that are sent at once: of one Query with several, of a pipeline up to its Sync. The server times each of them by itself."),
    row("tenant.default.transaction_timeout", Time { zero: true }, Some("0"), AtOnce,
        "Longest time of a transaction. A statement that runs then is cancelled (57014), so that the transaction has failed; a client that is silent then is ended (25P04)."),
    row("tenant.default.idle_in_transaction_timeout", Time { zero: true }, None, AtOnce,
        "A client that says nothing within a transaction for so long is ended (25P03). 0: never, whatever the pool says. Left out: `pool.idle_in_transaction_timeout`."),
    row("tenant.default.idle_timeout", Time { zero: true }, Some("0"), AtOnce,
        "A client that says nothing outside of a transaction for so long is ended (57P05)."),
    row("tenant.default.queue_timeout", Time { zero: true }, None, AtOnce,
        "Longest wait for a server connection (53300). Left out: `pool.queue_timeout`, which also bounds this one."),
    row("tenant.default.max_clients", Count(0, MANY), Some("0"), AtOnce,
        "Clients at once, over all pools; the next one is told 53300 at its login."),
    row("tenant.default.max_upstreams", Count(0, MANY), Some("0"), AtOnce,
        "Server connections that the tenant's clients hold at once in each pool; the next one waits."),
    row("tenant.default.min_upstreams", Count(0, MANY), Some("0"), AtOnce,
        "As long as it holds fewer in a pool, its clients go before those of others. Not of a class."),
    row("tenant.default.weight", Count(1, 1_000), Some("1"), AtOnce,
        "Its share of a pool's time where several tenants wait: one of weight 2 gets twice what one of weight 1 gets. Of a class: its share of what its tenant gets, 1 where its own table says nothing."),
    row("tenant.default.max_waiting", Count(0, MANY), Some("0"), AtOnce,
        "Clients that wait for a server connection at once in each pool; the next one is told 53400."),
    row("tenant.default.max_statements", Count(0, MANY), Some("0"), AtOnce,
        "Statements that run at once, over all pools; the next one is told 53400."),
    row("tenant.default.statement_rate", Count(0, MANY), Some("0"), AtOnce,
        "Statements in a second, over all pools; what comes beyond is told 53400 and when to come again."),
    row("tenant.default.statement_burst", Count(0, MANY), None, AtOnce,
        "Statements that may come at once after a pause. Left out: as many as `statement_rate`."),
    row("tenant.default.max_rows", Count(0, MANY), Some("0"), AtOnce,
        "Rows of one result. What goes beyond is cancelled, and the client is told 53400 behind so many rows."),
    row("tenant.default.max_bytes", Size, Some("0"), AtOnce,
        "Bytes of the rows of one result; the same. A row that has begun is passed on whole."),
    row("tenant.default.row_limit", Count(0, MANY), Some("0"), AtOnce,
        "Puts `LIMIT` with this number behind a SELECT that has none of its own. With `warn` and `observe` the statement stays as it is."),
    row("tenant.default.read_only", Flag, Some("false"), AtOnce,
        "Refuses what writes (25006), by its text and by the server's `default_transaction_read_only`."),
    row("tenant.default.blocked", Flag, Some("false"), AtOnce,
        "Refuses every statement (42501): of a class, of a tenant, or a fingerprint's."),
    row("tenant.default.tables", Names, None, AtOnce,
        "The only tables that statements may name, with their schema where it is written (`audit.log`) or without; `*` at the end stands for any rest. Anything else is refused (42501). It goes by the text: a view or a function may reach further, so grants remain the server's matter."),
    row("tenant.default.slow_threshold", Time { zero: false }, None, AtOnce,
        "A statement is slow from here on. Left out: `slow_log.threshold`."),
    row("tenant.default.transaction_threshold", Time { zero: false }, None, AtOnce,
        "A transaction is slow from here on. Left out: `slow_log.transaction_threshold`."),
    row("tenant.default.idle_threshold", Time { zero: false }, None, AtOnce,
        "A client is idle in a transaction from here on. Left out: `slow_log.idle_threshold`."),
    row("tenant.default.on_untracked", Word(ON), None, AtOnce,
        "What is done about session state that cannot be followed, in place of what the pool says."),
];
