//! Drivers of Python.

use std::process::Command;

use super::{installed, program, runs_everywhere};

/// A program of `drivers/python`, with what it imports in reach.
pub(crate) fn python(name: &str) -> Command {
    let python = installed("venv", "python/requirements.txt").join("bin/python");
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(program("python").join(name));
    command
}

fn python_runs(name: &str) {
    runs_everywhere(|| python(name));
}

#[test]
fn psycopg() {
    python_runs("psycopg_sync.py");
}

#[test]
fn psycopg_with_asyncio() {
    python_runs("psycopg_async.py");
}

#[test]
fn asyncpg() {
    python_runs("asyncpg_driver.py");
}

#[test]
fn sqlalchemy() {
    python_runs("sqlalchemy_orm.py");
}
