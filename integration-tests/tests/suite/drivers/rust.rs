//! Drivers of Rust. Their programs are a package outside the workspace, so that what they depend on changes nothing
//! about how the proxy is built.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{program, root, runs_everywhere};

/// The program as its sources are now: `.ci/test` has built it already, so that there is little to do.
fn built(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let target = root().join(".work/rust-drivers");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(program("rust/Cargo.toml"));
        let output = cargo.arg("--target-dir").arg(&target).output().unwrap();
        assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));
        target.join("debug")
    });
    folder.join(name)
}

#[test]
fn tokio_postgres() {
    let program = built("tokio_postgres");
    runs_everywhere(|| Command::new(&program));
}

#[test]
fn sqlx() {
    let program = built("sqlx");
    runs_everywhere(|| Command::new(&program));
}
