//! Real drivers, unchanged, before a pool that is smaller than their number of connections.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use config::PoolMode::{Session, Transaction};
use integration_tests::{Cluster, Site};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// PostgreSQL itself first, so that a driver which is at odds with its script is not taken for a fault of the proxy.
fn sites() -> Vec<Site> {
    let mut sites = vec![Site::direct()];
    if std::env::var_os("PGWEIR_TEST_SITES").is_none_or(|sites| sites != "direct") {
        sites.push(Site::pooled(Transaction, 3));
        sites.push(Site::pooled(Session, 40));
    }
    sites
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What `make setup` installs; its absence fails the test instead of leaving the driver out.
fn installed(path: &str) -> PathBuf {
    let path = root().join(".work").join(path);
    assert!(path.exists(), "{} is missing: `make setup` installs it", path.display());
    path
}

fn succeeds(site: &Site, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{} before {}:\n{said}\n{complained}", command.get_program().display(), site.name());
    said.into_owned()
}

#[test]
fn psycopg() {
    let python = installed("venv/bin/python");
    for site in sites() {
        let script = root().join("integration-tests/drivers/psycopg/behaviour.py");
        let said = succeeds(&site, Command::new(&python).arg(script).arg(site.url()));
        assert!(said.ends_with("ok\n"), "{said}");
    }
}

#[test]
fn node_postgres() {
    let modules = installed("node/node_modules/pg").parent().unwrap().to_owned();
    for site in sites() {
        let script = root().join("integration-tests/drivers/node/behaviour.js");
        let said = succeeds(&site, Command::new("node").env("NODE_PATH", &modules).arg(script).arg(site.url()));
        assert!(said.ends_with("ok\n"), "{said}");
    }
}

#[test]
fn psql() {
    let script = "create table p (n int); insert into p select generate_series(1, 1000);\n\
                  \\copy p to program 'cat > /dev/null'\n\\d p\nbegin;\nselect count(*) from p;\nrollback;\n\
                  select 'per' || 'fect' \\g\n";
    for site in sites() {
        let folder = integration_tests::Scratch::new();
        let file = folder.file("script.sql", script);
        let mut psql = Command::new(Cluster::shared().program("psql"));
        let said = succeeds(&site, psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file).arg(site.url()));
        for expected in ["COPY 1000", "perfect", "1000", "Table \"public.p\""] {
            assert!(said.contains(expected), "{expected} is missing in {said}");
        }
    }
}

#[test]
fn pgbench() {
    for site in sites() {
        let run = |arguments: &[&str]| {
            let mut pgbench = Command::new(Cluster::shared().program("pgbench"));
            succeeds(&site, pgbench.args(arguments).arg(site.url()))
        };
        run(&["-i", "-q", "-s", "1"]);
        for protocol in ["simple", "extended", "prepared"] {
            let said = run(&["-M", protocol, "-c", "8", "-j", "8", "-t", "25"]);
            assert!(said.contains("number of transactions actually processed: 200/200"), "{said}");
            assert!(said.contains("number of failed transactions: 0 "), "{said}");
        }
        // Each run begins with a truncation.
        assert_eq!(site.run_directly("select count(*) from pgbench_history").value(), "200");
    }
}

#[test]
fn tokio_postgres() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for site in sites() {
        runtime.block_on(tokio_postgres_at(&site));
    }
}

async fn tokio_postgres_at(site: &Site) {
    let (mut client, connection) = tokio_postgres::connect(&site.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let twice = client.prepare("select $1::int4 * 2").await.unwrap();
    for number in 0..20i32 {
        assert_eq!(client.query_one(&twice, &[&number]).await.unwrap().get::<_, i32>(0), number * 2);
    }
    client.batch_execute("create table t (n int)").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("insert into t values ($1)", &[&1i32]).await.unwrap();
    transaction.rollback().await.unwrap();
    let failed = client.query("select 1/0", &[]).await.unwrap_err();
    assert_eq!(failed.code().unwrap().code(), "22012");
    let counted = client.simple_query("select count(*) from t").await.unwrap();
    let row =
        counted.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
    assert_eq!(row.unwrap().get(0), Some("0"));
    // Sent ahead on one connection, each with a Sync of its own.
    let (a, b) = (client.query_one("select 1", &[]), client.query_one("select 2", &[]));
    let (a, b) = tokio::join!(a, b);
    assert_eq!((a.unwrap().get::<_, i32>(0), b.unwrap().get::<_, i32>(0)), (1, 2));
    let cancel = client.cancel_token();
    let slow = client.batch_execute("select pg_sleep(30)");
    let cancelled = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        cancel.cancel_query(NoTls).await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, cancelled);
    assert_eq!(slow.unwrap_err().code().unwrap().code(), "57014");
    // Dropping the statement closes it on the server.
    drop(twice);
    assert_eq!(client.query_one("select 3", &[]).await.unwrap().get::<_, i32>(0), 3);
}
