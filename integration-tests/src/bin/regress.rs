//! `make regress` and `make agreement`. The first: PostgreSQL's own regression tests, directly and through pgweir, compared byte by byte.
//!
//! The tests come from PostgreSQL's sources, which `.ci/regress` brings; nothing of them is part of the project. What
//! PostgreSQL expects of a test is not asked here: a test whose output differs from the expected one directly may
//! do so through pgweir too, as long as both outputs are the same. The second: see `pairs`.

#[path = "regress/pairs.rs"]
mod pairs;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use config::PoolMode;
use integration_tests::cluster::{Builder, Cluster, SUPERUSER};
use integration_tests::proxy::Proxy;
use integration_tests::scratch::Scratch;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The schedule runs up to twenty tests at once; a test may hold two connections.
const UPSTREAMS: usize = 60;

/// What the database must be like for the tests: as PostgreSQL's own runner makes its own.
const PREPARE: &str = "ALTER DATABASE regression SET lc_messages TO 'C'; \
    ALTER DATABASE regression SET lc_monetary TO 'C'; \
    ALTER DATABASE regression SET lc_numeric TO 'C'; \
    ALTER DATABASE regression SET lc_time TO 'C'; \
    ALTER DATABASE regression SET bytea_output TO 'hex'; \
    ALTER DATABASE regression SET timezone_abbreviations TO 'Default'";

/// A test that differs, and just how.
struct Known {
    test: &'static str,
    /// Lines of the direct run's output that the other does not have.
    only_direct: &'static [&'static str],
    /// Lines that only the other has.
    only_through: &'static [&'static str],
    reason: &'static str,
}

/// All but one for one reason: who connects anew gets a server process that served somebody else before. Settings, statements
/// and temporary objects of that time are gone; that it once loaded a library, or made itself a schema for temporary
/// objects, is not.
const KNOWN: &[Known] = &[
    Known {
        test: "guc",
        only_direct: &[
            "WARNING:  invalid configuration parameter name \"plpgsql.extra_foo_warnings\", removing it",
            "DETAIL:  \"plpgsql\" is now a reserved prefix.",
        ],
        only_through: &[
            "ERROR:  invalid configuration parameter name \"plpgsql.extra_foo_warnings\"",
            "DETAIL:  \"plpgsql\" is a reserved prefix.",
        ],
        reason: "a setting that a library forbids: this server process has loaded it before",
    },
    Known {
        test: "sequence",
        only_direct: &[
            " currval ",
            " currval ",
            "---------",
            "---------",
            "       2",
            "       2",
            "(1 row)",
            "(1 row)",
            "",
            "",
        ],
        only_through: &[
            "ERROR:  currval of sequence \"sequence_test\" is not yet defined in this session",
            "ERROR:  currval of sequence \"sequence_test\" is not yet defined in this session",
        ],
        reason: "transaction mode: currval outside of the transaction that drew the value fails until the client is pinned",
    },
    Known {
        test: "stats",
        only_direct: &[" t"],
        only_through: &[" f"],
        reason: "pg_stat_database.sessions does not grow: the new client did not cost the server a session",
    },
    Known {
        test: "temp",
        only_direct: &["ERROR:  cannot PREPARE a transaction that has operated on temporary objects"],
        only_through: &[],
        reason: "this server process has its schema for temporary objects already, so the transaction does not make it",
    },
];

/// Where the parts of the tests are.
struct Sources {
    /// `src/test/regress` of PostgreSQL's sources.
    tests: PathBuf,
    /// `regress.so`, built from there.
    library: PathBuf,
    /// PostgreSQL's `pg_regress`.
    runner: PathBuf,
}

/// How a run's clients reach the server.
#[derive(Debug, Clone, Copy)]
enum Way {
    Direct,
    Through(PoolMode),
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Through(PoolMode::Session) => "session",
            Self::Through(PoolMode::Transaction) => "transaction",
            Self::Through(PoolMode::Statement) => "statement",
        }
    }
}

fn main() -> ExitCode {
    match regress() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("regress: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs all ways; the number of tests that differ without a reason.
fn regress() -> Outcome<usize> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let usage = "usage: regress TESTS REGRESS.SO PG_REGRESS RESULTS [pairs] [session] [transaction]";
    let (Some(tests), Some(library), Some(runner), Some(results)) =
        (arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(usage.into());
    };
    let sources = Sources { tests, library, runner };
    let mut modes = Vec::new();
    for name in arguments {
        modes.push(match name.to_str() {
            Some("pairs") => return pairs::collect(&sources, &results).map(|()| 0),
            Some("session") => PoolMode::Session,
            Some("transaction") => PoolMode::Transaction,
            _ => return Err(usage.into()),
        });
    }
    // The folder's path is seen in outputs: the same for every run.
    let place = Scratch::new();
    let direct = run(&sources, Way::Direct, place.path(), &results)?;
    let mut wrong = 0;
    for mode in modes {
        let through = run(&sources, Way::Through(mode), place.path(), &results)?;
        wrong += compare(&direct, &through, &results);
    }
    Ok(wrong)
}

/// One run of all tests on a server of its own; what each printed.
fn run(sources: &Sources, way: Way, place: &Path, results: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let cluster = served(Cluster::builder());
    let proxy = match way {
        Way::Direct => None,
        Way::Through(mode) => Some(Proxy::before(cluster.address()).mode(mode).size(UPSTREAMS).start()),
    };
    let address = proxy.as_ref().map_or(cluster.address(), Proxy::address);
    println!("{}: running …", way.name());
    let folder = perform(sources, &cluster, address, place)?;
    let kept = results.join(way.name());
    drop(fs::remove_dir_all(&kept));
    fs::create_dir_all(&kept)?;
    collect(&folder.join("results"), &kept)
}

/// A server with the database that the tests want.
fn served(cluster: Builder) -> Cluster {
    let cluster = cluster
        .setting("fsync", "off")
        .setting("max_connections", "100")
        .setting("max_prepared_transactions", "10")
        .start();
    cluster.run("postgres", "CREATE DATABASE regression TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
    cluster.run("postgres", PREPARE);
    cluster
}

/// Runs all tests; the folder that their results are in.
fn perform(sources: &Sources, cluster: &Cluster, address: SocketAddr, place: &Path) -> Outcome<PathBuf> {
    let folder = stage(sources, place)?;
    let mut command = Command::new(&sources.runner);
    command
        .current_dir(&folder)
        .args(["--use-existing", "--dbname=regression", "--inputdir=tests", "--outputdir=.", "--dlpath=lib"])
        .arg("--schedule=tests/parallel_schedule")
        .arg(format!("--bindir={}", cluster.program("psql").parent().unwrap_or(Path::new("")).display()))
        .args([format!("--host={}", address.ip()), format!("--port={}", address.port())])
        .arg(format!("--user={SUPERUSER}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // Its verdict is about the expected outputs; whether it came to the end shows in the results.
    let status = command.status()?;
    if status.code().is_none_or(|code| code > 1) {
        return Err(format!("{} did not come to an end: {status}", sources.runner.display()).into());
    }
    Ok(folder)
}

/// A fresh folder that the server too can read and write.
fn stage(sources: &Sources, place: &Path) -> Outcome<PathBuf> {
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    let here = &place.join("run");
    drop(fs::remove_dir_all(here));
    fs::create_dir(here)?;
    for name in ["results", "lib", "testtablespace", "sql", "expected"] {
        fs::create_dir(here.join(name))?;
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(0o777))?;
    }
    fs::set_permissions(here, fs::Permissions::from_mode(0o777))?;
    copy_tree(&sources.tests, &here.join("tests"))?;
    fs::copy(&sources.library, here.join("lib/regress.so"))?;
    let installed = Command::new("pg_config").arg("--pkglibdir").output()?;
    let installed = PathBuf::from(String::from_utf8(installed.stdout)?.trim());
    for library in ["autoinc.so", "refint.so"] {
        fs::copy(installed.join(library), here.join("lib").join(library))?;
    }
    Ok(here.clone())
}

fn copy_tree(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Keeps each test's output, and returns it.
fn collect(from: &Path, to: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut outputs = BTreeMap::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "out")
            && let (Some(stem), Some(name)) = (path.file_stem(), path.file_name())
        {
            let output = fs::read(&path)?;
            fs::write(to.join(name), &output)?;
            outputs.insert(stem.to_string_lossy().into_owned(), output);
        }
    }
    Ok(outputs)
}

/// How many tests differ otherwise than known.
fn compare(direct: &BTreeMap<String, Vec<u8>>, through: &BTreeMap<String, Vec<u8>>, results: &Path) -> usize {
    let (mut equal, mut wrong) = (0, 0);
    for (test, expected) in direct {
        let Some(output) = through.get(test) else {
            wrong += 1;
            println!("{test}: has not run");
            continue;
        };
        if output == expected {
            equal += 1;
            continue;
        }
        let known = KNOWN.iter().find(|known| known.test == test).filter(|known| known.is_all(expected, output));
        wrong += usize::from(known.is_none());
        println!("{test}: differs{}", known.map_or_else(String::new, |known| format!(", as known: {}", known.reason)));
    }
    println!("{equal} of {} tests have the same output; all outputs are under {}", direct.len(), results.display());
    wrong
}

impl Known {
    /// Whether two outputs differ in the known lines, and in no other.
    fn is_all(&self, direct: &[u8], through: &[u8]) -> bool {
        let (direct, through) = (lines(direct), lines(through));
        only_in(&direct, &through) == sorted(self.only_direct)
            && only_in(&through, &direct) == sorted(self.only_through)
    }
}

/// How often each line is there.
fn lines(output: &[u8]) -> BTreeMap<&[u8], usize> {
    let mut lines = BTreeMap::new();
    for line in output.split(|byte| *byte == b'\n') {
        *lines.entry(line).or_default() += 1;
    }
    lines
}

/// The lines that `these` has more often than `those`, in their own order.
fn only_in<'a>(these: &BTreeMap<&'a [u8], usize>, those: &BTreeMap<&'a [u8], usize>) -> Vec<&'a [u8]> {
    these
        .iter()
        .flat_map(|(line, times)| {
            std::iter::repeat_n(*line, times.saturating_sub(those.get(line).copied().unwrap_or(0)))
        })
        .collect()
}

fn sorted<'a>(known: &[&'a str]) -> Vec<&'a [u8]> {
    let mut known: Vec<&[u8]> = known.iter().map(|line| line.as_bytes()).collect();
    known.sort_unstable();
    known
}
