//! Drivers of Python.

use std::process::Command;

use super::{installed, program, runs_everywhere};

fn python_runs(name: &str) {
    let python = installed("venv", "python/requirements.txt").join("bin/python");
    runs_everywhere(|| {
        let mut command = Command::new(&python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(program("python").join(name));
        command
    });
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
