//! End-to-end tests, one file per behaviour, in one program so that they share one PostgreSQL.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod actions;
mod admin;
mod admin_access;
mod admin_log;
mod anonymous;
mod architecture;
mod aside;
mod auth_query;
mod cache;
mod cancel;
mod capture;
mod catalog;
mod check_connect;
mod cli;
mod commands;
mod compat;
mod console;
mod contract;
mod copy;
mod cut;
mod dashboard;
mod databases;
mod deep;
mod drivers;
mod evasions;
mod extended;
mod fairness;
mod faults;
mod findings;
mod fingerprints;
mod functions;
mod gigabyte;
mod half_closed;
mod harness;
mod hidden;
mod host_names;
mod hostile_tenants;
mod hosts;
mod housekeeping;
mod hunt;
mod identity;
mod large;
mod left_behind;
mod limits;
mod listen;
mod listen_faults;
mod login;
mod misread;
mod monitoring;
mod n_plus_one;
mod n_plus_one_protocol;
mod names;
mod newest;
mod notify;
mod peers;
mod plans;
mod pooling;
mod queue_workers;
mod refused_early;
mod reload;
mod replication;
mod restart;
mod rewrites;
mod roles;
mod samples;
mod secrets;
mod sent_again;
mod server_ids;
mod session_state;
mod shutdown;
mod simple;
mod slot;
mod smuggled;
mod startup;
mod statistics;
mod storms;
mod tenant_accounts;
mod tenant_modes;
mod tenant_results;
mod tenant_table;
mod tenant_times;
mod tenants;
mod terminal;
mod timeout;
mod tls;
mod transactions;
mod traps;
mod unix;
mod untracked;
mod vacate;
mod vanished;
mod workers;
