//! Says which compiler builds the program: a label of `pgweir_build_info`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    // As in "rustc 1.88.0 (6b00bc388 2025-06-23)".
    let said = Command::new(compiler).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    println!("cargo:rustc-env=PGWEIR_RUSTC={}", said.split(' ').nth(1).unwrap_or("unknown"));
}
