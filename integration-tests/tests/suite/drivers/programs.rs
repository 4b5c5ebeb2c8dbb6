//! PostgreSQL's own programs: psql and pgbench.

use std::process::{Command, Stdio};
use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{Child, Cluster, Scratch, Signal, Site, eventually};

use super::{SERVERS, few_servers_were_used, pool, sites, succeeds};

pub(super) fn psql() -> Command {
    let mut command = Command::new(Cluster::shared().program("psql"));
    command.args(["-X", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::null());
    command
}

/// The major version of what the cluster's programs came with.
fn version() -> u32 {
    let output = Command::new(Cluster::shared().program("psql")).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no version in {text}"))
}

const SCRIPT: &str = r"
create table p (n int primary key, t text);
\copy p from 'FOLDER/in.csv' csv
\copy (select * from p order by n) to 'FOLDER/out.csv' csv
\d p
select n, t as described from p \gdesc
select 'got ' || count(*) as got from p \gset
\echo :got
select format('insert into p values (%s, %L)', n + 10000, t) from p limit 3 \gexec
begin;
savepoint here;
\set ON_ERROR_STOP 0
insert into p values (1, 'again');
\errverbose
rollback to here;
insert into p values (20000, 'kept');
commit;
\set ON_ERROR_ROLLBACK on
begin;
insert into p values (1, 'again');
insert into p values (20001, 'kept too');
commit;
\set ON_ERROR_STOP 1
\set FETCH_COUNT 100
select n from p order by n;
\unset FETCH_COUNT
prepare found (int) as select 'found ' || t from p where n = $1;
execute found (20001);
deallocate found;
select 1 / n as divided from p where n = 1 \; select 'second ' || 'result';
";
/// From version 16 on.
const BIND: &str = "select 'bound ' || $1 \\bind 'by psql' \\g\n";

#[test]
fn psql_runs_a_script() {
    let modern = version() >= 16;
    for site in sites(SERVERS) {
        let folder = Scratch::new();
        let rows: String = (1..=1000).map(|n| format!("{n},line {n}\n")).collect();
        folder.file("in.csv", &rows);
        let script = SCRIPT.replace("FOLDER", folder.path().to_str().unwrap()) + if modern { BIND } else { "" };
        let said = succeeds(&site, psql().arg("-f").arg(folder.file("script.sql", &script)).arg(site.url()));
        let expected =
            ["COPY 1000", "Table \"public.p\"", "described | text", "got 1000", "found kept too", "second result"];
        for expected in expected.into_iter().chain(modern.then_some("bound by psql")) {
            assert!(said.contains(expected), "{expected} is missing before {} in {said}", site.name());
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("out.csv")).unwrap(), rows);
        assert_eq!(site.run_directly("select count(*) from p").value(), "1005");
    }
}

#[test]
fn psql_cancels_by_an_interrupt() {
    for site in sites(1) {
        let folder = Scratch::new();
        let errors = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut child = Child::spawn(psql().args(["-c", "select pg_sleep(60)"]).arg(site.url()).stderr(errors));
        let sleeps = format!(
            "select count(*) from pg_stat_activity where datname = '{}' and query = 'select pg_sleep(60)' \
             and wait_event = 'PgSleep'",
            site.database
        );
        eventually("the query runs", || Cluster::shared().value("postgres", &sleeps) == "1");
        child.signal(Signal::Interrupt);
        let status = child.wait_for(Duration::from_secs(20)).expect("the cancelled query ends");
        let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
        assert!(!status.success() && said.contains("canceling statement due to user request"), "{status} {said}");
        // The only server is of use to the next client.
        assert_eq!(succeeds(&site, psql().args(["-At", "-c", "select 'fine'"]).arg(site.url())), "fine\n");
    }
}

/// One transaction in one pipeline, then statements of their own.
const PIPELINE: &str = "\\set aid random(1, 100000)\n\\startpipeline\nbegin;\n\
    select abalance from pgbench_accounts where aid = :aid;\n\
    update pgbench_accounts set abalance = abalance + 1 where aid = :aid;\n\
    insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :aid, 1, now());\ncommit;\n\
    \\endpipeline\nselect abalance from pgbench_accounts where aid = :aid;\n";

#[test]
fn pgbench() {
    for site in sites(SERVERS) {
        let folder = Scratch::new();
        let script = folder.file("pipeline.sql", PIPELINE);
        let run = |arguments: &[&str]| {
            let mut pgbench = Command::new(Cluster::shared().program("pgbench"));
            succeeds(&site, pgbench.args(arguments).arg(site.url()))
        };
        let clients = ["-c", "8", "-j", "8", "-t", "25"];
        run(&["-i", "-q", "-s", "1"]);
        for protocol in ["simple", "extended", "prepared"] {
            goes_well(&run(&[&["-M", protocol][..], &clients].concat()));
        }
        // Each run begins with a truncation, unless told not to.
        assert_eq!(site.run_directly("select count(*) from pgbench_history").value(), "200");
        for protocol in ["extended", "prepared"] {
            let arguments = ["-n", "-M", protocol, "-f", script.to_str().unwrap()];
            goes_well(&run(&[&arguments[..], &clients].concat()));
        }
        assert_eq!(site.run_directly("select count(*) from pgbench_history").value(), "600");
        assert_eq!(site.run_directly("select sum(abalance) <> 0 from pgbench_accounts").value(), "t");
        if site.mode == Some(Transaction) {
            few_servers_were_used(&site, SERVERS);
            prepared_statements_were_shared(&site);
        }
    }
}

fn goes_well(said: &str) {
    assert!(said.contains("number of transactions actually processed: 200/200"), "{said}");
    assert!(said.contains("number of failed transactions: 0 "), "{said}");
}

/// Eight clients run the same dozen statements: once known to the three servers, they are not prepared again.
fn prepared_statements_were_shared(site: &Site) {
    let prepared = &pool(site)["prepared"];
    let (hits, injected) = (prepared["hits"].as_u64().unwrap(), prepared["injected"].as_u64().unwrap());
    assert!(hits > 1000 && injected <= 3 * 16, "{prepared}");
}
