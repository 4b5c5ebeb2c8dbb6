//! `make agreement`: which statements PostgreSQL takes for one, over its regression tests' SQL.
//!
//! `pg_stat_statements` groups by a query id, and the server can put that into the log beside each text that has ended. So the
//! tests run on a server that has it loaded; the log's pairs go to a file, as far as the extension's own view knows their
//! ids, and `policy/tests/agreement.rs` measures how far pgweir's own fingerprints agree.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use integration_tests::cluster::{Cluster, Stop};
use integration_tests::scratch::Scratch;

use super::{Outcome, Sources, perform, served};

const EXTENSION: &str = "pg_stat_statements";
/// Before each message in the log: the id, the database, and what ends them. The lines of a message that go on begin with a tab.
const PREFIX: &str = "%Q %d: ";
const LEAD: &[u8] = b"regression: LOG:  duration: ";
const STATEMENT: &[u8] = b"  statement: ";

/// Runs the tests, and leaves `pairs-<version>.tsv` (id, tab, text as a JSON string) in `results`.
pub(super) fn collect(sources: &Sources, results: &Path) -> Outcome<()> {
    fs::create_dir_all(results)?;
    let plain = Cluster::builder().start();
    if !plain.offers(EXTENSION) {
        return Err("this PostgreSQL has no pg_stat_statements: install postgresql-contrib of its version".into());
    }
    drop(plain);
    let place = Scratch::new();
    let cluster = served(
        Cluster::builder()
            .setting("shared_preload_libraries", EXTENSION)
            // None of them may be forgotten meanwhile.
            .setting("pg_stat_statements.max", "100000")
            .setting("log_line_prefix", PREFIX)
            .setting("log_min_duration_statement", "0"),
    );
    cluster.run("postgres", "create extension pg_stat_statements");
    let version = cluster.value("postgres", "select current_setting('server_version_num')::int / 10000");
    println!("PostgreSQL {version} with {EXTENSION}: running …");
    perform(sources, &cluster, cluster.address(), place.path())?;
    let rows = cluster.run("postgres", "select distinct queryid from pg_stat_statements where queryid <> 0").rows();
    let known: HashSet<String> = rows.into_iter().flatten().collect();
    cluster.stop(Stop::Fast);

    let logged = pairs(&fs::read(cluster.log_file())?);
    let all = logged.len();
    let path = results.join(format!("pairs-{version}.tsv"));
    let mut file = fs::File::create(&path)?;
    let mut written = 0;
    for (text, id) in logged.iter().filter(|(_, id)| known.contains(*id)) {
        writeln!(file, "{id}\t{}", serde_json::to_string(text)?)?;
        written += 1;
    }
    println!("{all} texts with an id, {written} of them with one that {EXTENSION} counts: {}", path.display());
    Ok(())
}

/// Text → the first id that it had, of all statements in a log that have come to their end.
fn pairs(log: &[u8]) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    let lines = log.split(|byte| *byte == b'\n').map(Some).chain([None]);
    for line in lines {
        if let (Some((_, text)), Some([b'\t', rest @ ..])) = (&mut open, line) {
            text.push(b'\n');
            text.extend_from_slice(rest);
            continue;
        }
        // Texts in other encodings are no JSON; there are hardly any.
        if let Some((id, text)) = open.take().and_then(|(id, text)| Some((id, String::from_utf8(text).ok()?))) {
            pairs.entry(text).or_insert(id);
        }
        open = line.and_then(begins);
    }
    pairs
}

/// `42 regression: LOG:  duration: 0.1 ms  statement: select 1`, where the server has computed an id.
fn begins(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let blank = line.iter().position(|byte| *byte == b' ')?;
    let (id, rest) = line.split_at_checked(blank)?;
    let id = std::str::from_utf8(id).ok().filter(|id| id.parse::<i64>().is_ok_and(|id| id != 0))?;
    let rest = rest.get(1..)?.strip_prefix(LEAD)?;
    let at = rest.windows(STATEMENT.len()).position(|window| window == STATEMENT)?;
    Some((id.to_owned(), rest.get(at + STATEMENT.len()..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_by_its_messages() {
        let log = b"12 regression: LOG:  duration: 0.1 ms  statement: select 1,\n\t\t2\n\
            0 regression: LOG:  duration: 0.1 ms  statement: create table t ()\n\
            0 : LOG:  checkpoint\n\
            -7 regression: ERROR:  nothing\n\
            -7 regression: STATEMENT:  select nothing\n\
            -7 regression: LOG:  duration: 2.0 ms  statement: select 1  statement: x\n\
            9 postgres: LOG:  duration: 2.0 ms  statement: select 9\n\
            9 regression: LOG:  duration: 2.0 ms  statement: select 1,\n\t\t2\n\
            3 regression: LOG:  duration: 2.0 ms  statement: select '\xff'";
        let found: Vec<_> = pairs(log).into_iter().collect();
        let pair = |text: &str, id: &str| (text.to_owned(), id.to_owned());
        assert_eq!(found, [pair("select 1  statement: x", "-7"), pair("select 1,\n\t2", "12")]);
    }
}
