//! Pure folds over finished statements: what the traffic reveals.
//!
//! ```text
//! workers ── Event ──► Detector ─┬─ connections   transactions, retries
//!                                ├─ burst         runs of one family in one scope
//!                                ├─ samples       rows of recent results, raw, 64 KiB a scope
//!                  tick ───────► ├─ judge         the rules, first match wins
//!                                │   └─ causality   whose rows hold the values
//!                                ├─ report        judged burst → Finding, with its rewrite
//!                  drain ◄────── └─ ledger        one row per cause, counters, cool-down
//! ```
//!
//! [`plans`], [`regression`], [`slowdown`] and [`Notices`] are about time: which slow statements get a plan and whether it
//! has changed, what has become slower than it was, alone or with everything else, and transactions that stay open.
//!
//! The unit is the client's identity and not its connection: an application's own pool spreads the children of one
//! request over all of its connections. What is kept of a value is a number behind a key that no one else has.

mod burst;
mod calls;
mod causality;
mod connections;
mod detector;
mod event;
mod judge;
mod ledger;
mod names;
mod notices;
pub mod plans;
pub mod regression;
mod report;
mod rewrite;
mod samples;
mod scope;
pub mod slowdown;
mod text;
mod thresholds;
mod types;
mod value;

pub use detector::Detector;
pub use event::{
    Class, Column, ColumnName, Directory, Event, MAX_PARAMETER_BYTES, MAX_SAMPLE_BYTES, MAX_SAMPLE_ROWS, RouteId,
    RowBytes, Scope, ScopeId, ShapeFacts, ShapeId, TenantId, TraceId, rows, trace_of,
};
pub use notices::{Notice, Notices, What};
pub use text::{CUT, Positions};
pub use thresholds::{Counters, Thresholds};
pub use value::{Canonical, HashKey, Value};
