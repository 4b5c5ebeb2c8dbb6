//! A workflow engine's traffic through pgweir, and what can be measured about it.
//!
//! ```text
//!  crew (200 clients) ──► pgweir ──► PostgreSQL      for --seconds
//!  crew (200 clients) ─────────────► PostgreSQL      for a third of it, the same traffic
//!  dashboards ──► pgweir ──────────► PostgreSQL      for seconds, without a cache and with its preset
//!        │ tally                        ▲ watch
//!        └──────────► evidence ◄────────┘            facts are checked, then reported
//! ```
//! Every figure in the report comes from [`tally`] (what clients saw), [`watch`] (what the server and the kernel said)
//! or the admin port. [`facts`] holds what the demo promises; one broken promise and it exits with a failure.

pub mod cached;
pub mod crew;
pub mod dashboard;
pub mod engine;
pub mod facts;
pub mod keeper;
pub mod limited;
pub mod options;
pub mod report;
pub mod session;
pub mod stage;
pub mod style;
pub mod tally;
pub mod watch;

/// What went wrong, in a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of everything here that can fail.
pub type Outcome<T> = Result<T, Failure>;

/// Tenants by number, beginning with 1, as in `schema.sql`. The last one has a statement timeout.
pub const TENANTS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "hooli", "soylent"];
/// The tenant with a statement timeout.
pub const LIMITED_TENANT: &str = TENANTS[5];
/// Its limit.
pub const LIMIT: std::time::Duration = std::time::Duration::from_millis(400);
/// Server connections that pgweir may open.
pub const POOL_SIZE: usize = 20;
/// The role that the engine logs in as.
pub const USER: &str = "app";
/// Its password.
pub const PASSWORD: &str = "app";
