//! The `pgweir` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgweir::cli::main(|_, _| Err("this build has no server in it"))
}
