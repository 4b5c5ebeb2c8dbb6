//! The harness that end-to-end tests, the demo and the benchmarks stand on.
//!
//! An end-to-end test is a dozen lines that read like its title:
//!
//! ```no_run
//! use integration_tests::{Cluster, RawClient};
//!
//! let cluster = Cluster::shared();
//! let database = cluster.fresh_database();
//! let mut client = RawClient::login(cluster.address(), "postgres", &database);
//! assert_eq!(client.query("select 6 * 7").value(), "42");
//! ```
//!
//! What is in here fails its test by panicking with a sentence that says what was awaited and what came instead.
//! Nothing needs a fixed port, root, or a network, and nothing outlives the process that started it (see [`watchdog`]).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness fails its test by panicking"
)]

pub mod backend;
pub mod bench;
pub mod certificates;
pub mod child;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod fake;
pub mod frontend;
pub mod http;
pub mod message;
pub mod patience;
pub mod process;
pub mod proxy;
pub mod reply;
pub mod scratch;
pub mod secure;
pub mod service;
pub mod site;
pub mod watchdog;

pub use child::{Child, Signal};
pub use client::RawClient;
pub use cluster::{Cluster, Hba};
pub use fake::FakeUpstream;
pub use message::{Fields, Message};
pub use patience::{eventually, within};
pub use process::ProxyProcess;
pub use proxy::{Proxy, cache_of_all, tenants};
pub use reply::Reply;
pub use scratch::Scratch;
pub use service::Service;
pub use site::{Site, everywhere, everywhere_transactional};
