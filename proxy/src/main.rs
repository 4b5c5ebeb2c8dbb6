//! The `pgweir` binary.

use std::process::ExitCode;

/// Measured against the system's and others: the least memory for thousands of idle clients.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pgweir::cli::main(pgweir::run::run)
}
