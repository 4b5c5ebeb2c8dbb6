//! Drivers that come by a Unix socket: `host` is its folder.

use std::process::Command;

use config::ListenAddress;
use config::PoolMode::Transaction;
use integration_tests::{Scratch, Site};

use super::node::node;
use super::programs::psql;
use super::python::python;
use super::{SERVERS, few_servers_were_used, statements_were_prepared_once, succeeds};

/// A site in transaction mode, and how drivers name its socket.
fn by_socket(folder: &Scratch) -> (Site, String) {
    let folder = folder.path().to_str().unwrap();
    let place = ListenAddress::unix(folder, "6432").unwrap();
    let site = Site::behind(Transaction, |proxy| proxy.size(SERVERS).with(|settings| settings.listen.push(place)));
    super::show_held_statements(&site);
    let url = format!("postgres://postgres@/{}?host={folder}&port=6432", site.database);
    (site, url)
}

fn runs(mut command: Command, url: impl Fn(&str) -> String) {
    let folder = Scratch::new();
    let (site, place) = by_socket(&folder);
    let said = succeeds(&site, command.arg(url(&place)));
    assert!(said.ends_with("ok\n"), "{said}");
    statements_were_prepared_once(&site);
    few_servers_were_used(&site, SERVERS);
}

#[test]
fn psql_comes_by_a_folder() {
    let folder = Scratch::new();
    let (site, url) = by_socket(&folder);
    let said = succeeds(&site, psql().args(["-At", "-c", "\\conninfo"]).arg(&url));
    assert!(said.contains(folder.path().to_str().unwrap()), "{said}");
    // TLS is neither needed nor asked for over a Unix socket, whatever is said of it.
    let required = format!("{url}&sslmode=require");
    assert_eq!(succeeds(&site, psql().args(["-At", "-c", "select 'here'"]).arg(required)), "here\n");
}

#[test]
fn psycopg_comes_by_a_folder() {
    runs(python("psycopg_sync.py"), str::to_owned);
}

#[test]
fn node_postgres_comes_by_a_folder() {
    // A URL has to have a host for this one; the parameter wins over it.
    runs(node("pg.js"), |url| url.replace("@/", "@base/"));
}
