//! Real drivers, unchanged, before a pool that is smaller than their number of connections.
//!
//! Each driver has a program of its own in `integration-tests/drivers`, which knows nothing of the proxy: it runs
//! against PostgreSQL itself first, then through a pool of three servers in transaction mode, then in session mode.
//! What a program cannot see is judged here: that statements were prepared once and found again, that no more servers
//! were used than allowed, and that nothing is left behind.

mod labelled;
mod node;
mod pgjdbc;
mod programs;
pub(crate) mod python;
mod queues;
mod rust;
mod unix;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config::PoolMode::{Session, Transaction};
use integration_tests::{Child, Cluster, Scratch, Site, eventually, http};

/// Servers of the pool in transaction mode; each program has a dozen clients at once.
const SERVERS: usize = 3;
/// How long a program may take: over a minute means that something waits for ever, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);

/// PostgreSQL itself first, so that a driver which is at odds with its program is not taken for a fault of the proxy.
/// Then the proxy, with so many servers in transaction mode.
fn sites(servers: usize) -> Vec<Site> {
    let mut sites = vec![Site::direct()];
    if std::env::var_os("PGWEIR_TEST_SITES").is_none_or(|sites| sites != "direct") {
        sites.push(Site::pooled(Transaction, servers));
        sites.push(Site::pooled(Session, 40));
    }
    sites.iter().for_each(show_held_statements);
    sites
}

/// Gives the programs a view of what the server at hand holds, of all clients: who reads `pg_prepared_statements` by its
/// name through the proxy gets to see its own statements, anew.
fn show_held_statements(site: &Site) {
    let view = "create view held_statements as table pg_prepared_statements; grant select on held_statements to public";
    Cluster::shared().run(&site.database, view);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A file among the drivers' programs.
fn program(path: &str) -> PathBuf {
    root().join("integration-tests/drivers").join(path)
}

/// A folder of drivers that `make setup` installs; `wants` names what should be in it. Its absence, or that of a part
/// of it, fails the test instead of leaving a driver out.
fn installed(folder: &str, wants: &str) -> PathBuf {
    let folder = root().join(".work").join(folder);
    let (has, wants) = (fs::read(folder.join(".installed")).ok(), fs::read(program(wants)).unwrap());
    assert!(has == Some(wants), "{} is missing or not up to date: `make setup` installs it", folder.display());
    folder
}

/// Runs a command to its end and returns what it wrote. A failure, or [`LIMIT`], fails the test with all of it.
fn succeeds(site: &Site, command: &mut Command) -> String {
    let folder = Scratch::new();
    let (out, errors) = (folder.path().join("stdout"), folder.path().join("stderr"));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&errors).unwrap());
    let mut child = Child::spawn(command);
    let status = child.wait_for(LIMIT);
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (said, complained) = (read(&out), read(&errors));
    let how = status.map_or(format!("still ran after {LIMIT:?}"), |status| status.to_string());
    let fine = status.is_some_and(|status| status.success());
    assert!(fine, "{} before {}: {how}\n{said}\n{complained}", command.get_program().display(), site.name());
    said
}

/// Runs a driver's program, told the connection URL, at every site, and judges what the proxy saw of it.
fn runs_everywhere(command: impl Fn() -> Command) {
    if let Some(site) = runs(command) {
        statements_followed_their_clients(&site);
    }
}

/// As [`runs_everywhere`], for a program without a statement that one client alone prepares and runs on many servers.
/// Returns the site in transaction mode.
fn runs(command: impl Fn() -> Command) -> Option<Site> {
    let mut transactional = None;
    for site in sites(SERVERS) {
        let said = succeeds(&site, command().arg(site.url()));
        assert!(said.ends_with("ok\n"), "before {}: {said}", site.name());
        if site.mode == Some(Transaction) {
            statements_were_prepared_once(&site);
            few_servers_were_used(&site, SERVERS);
            transactional = Some(site);
        }
    }
    transactional
}

/// The one pool of the site, as the admin port shows it.
fn pool(site: &Site) -> serde_json::Value {
    let pools = http::fetch(site.admin(), "/api/v1/pools").json();
    let pools = pools["pools"].as_array().unwrap();
    pools.iter().find(|pool| pool["database"] == site.database.as_str()).unwrap().clone()
}

/// The programs run hundreds of prepared statements: nearly all have to meet a server that knows theirs.
fn statements_were_prepared_once(site: &Site) {
    let prepared = &pool(site)["prepared"];
    let count = |what: &str| prepared[what].as_u64().unwrap();
    assert!(count("hits") > 50 && count("injected") < count("binds") / 4, "{prepared}");
}

/// A statement that one client prepared was made known to servers that the client had not been on.
fn statements_followed_their_clients(site: &Site) {
    let prepared = &pool(site)["prepared"];
    assert!(prepared["injected"].as_u64().unwrap() > 0, "{prepared}");
}

/// In the end nobody holds a server, no server was opened beyond the pool's size, and every client has left.
fn few_servers_were_used(site: &Site, servers: usize) {
    eventually("every client has left its server", || {
        let pool = pool(site);
        pool["clients"]["total"] == 0 && pool["upstreams"]["active"] == 0
    });
    let states = ["active", "idle", "dialling"];
    let upstreams: u64 = states.iter().map(|state| pool(site)["upstreams"][state].as_u64().unwrap()).sum();
    assert!(upstreams <= servers as u64, "{upstreams} servers");
    // One more connection looks at the database's functions, and one listens for all who do.
    assert!(site.backends() <= servers + 2, "{} connections", site.backends());
}
