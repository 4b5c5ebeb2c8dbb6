//! Drivers of Node.js.

use std::process::Command;

use super::{installed, program, runs, runs_everywhere};

/// A program of `drivers/node`, with what it requires in reach.
pub(super) fn node(name: &str) -> Command {
    let modules = installed("node", "node/package.json").join("node_modules");
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(program("node").join(name));
    command
}

#[test]
fn node_postgres() {
    runs_everywhere(|| node("pg.js"));
}

#[test]
fn postgres_js() {
    runs_everywhere(|| node("postgres.js"));
}

#[test]
fn drizzle() {
    runs(|| node("drizzle.js"));
}
