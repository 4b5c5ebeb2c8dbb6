//! The pure core of a read cache: what may be cached, under which key, and how long it is true.
//!
//! Nothing here is connected to a session yet, keeps a reply, opens a socket or reads a clock. It decides.
//!
//! ```text
//!  text ──► rules (is it asked for?) ──► catalog::reads (may it be? what does it depend on?)      once for each shape
//!       └─► catalog::touched (what does it write to?) ──► Footprint
//!
//!  session ──► Session::bypass, Execution::bypass ──► key ──► Dependencies::serve ──► from the cache   each time
//!                                                        └──► Reading::begin ─► server ─► Reading::admit
//!
//!  write ──► Write::begin ─► server ─► Write::finish ─► client
//! ```
//!
//! What makes it right is a seqlock for each table ([`Generation`]), proved by a model of all interleavings in the tests,
//! which also shows what each guard is for. What makes it safe is that everything that cannot be told is not cached, or is
//! taken to touch everything.

mod account;
pub mod catalog;
mod database;
mod eligible;
mod fill;
mod freshness;
mod generation;
mod hint;
mod key;
mod marks;
mod parts;
mod questions;
mod rules;
mod settings;
mod snapshot;
mod text;
mod write;

pub use account::{
    Account, Budget, Counters, Counts, ENTRY_OVERHEAD, Eviction, Invalidated, Miss, Reason, Refused, weight,
};
pub use database::{Database, Epoch, Footprint, Sources};
pub use eligible::{Bypass, Execution, Isolation, MIN_COST_MICROS, Mode, Reply, Session, Transaction, means_a_moment};
pub use fill::{Dependencies, NotServed, Reading, Served, Terms};
pub use freshness::{End, Freshness, Lsn, MAX_LAG, Readiness, Slot};
pub use generation::{Counter, Generation};
pub use hint::{Hint, hint_of};
pub use key::{Key, Parameter, Parts, Protocol, Sought};
pub use marks::{Ending, Marks};
pub use parts::{Part, Table};
pub use questions::{Questions, Ticket, Turn};
pub use rules::{BadRule, Decision, Effect, MAX_TTL, Rule, Rules, Shape, Standing, TableName, preset};
pub use settings::{OutputSettings, SettingsId, changes_output, changes_output_sql};
pub use snapshot::{Snapshot, Unseen, Xid};
pub use write::{Cause, Write};

#[cfg(test)]
mod tests;
