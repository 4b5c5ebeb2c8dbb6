//! Statements that need a database to themselves find it left by the connections that nobody uses.

use std::time::{Duration, Instant};

use config::PoolMode::{Session, Transaction};
use integration_tests::{Cluster, RawClient, Site, eventually};

fn guest(site: &Site, database: &str) -> RawClient {
    RawClient::login(site.address(), "postgres", database)
}

#[test]
fn a_database_is_dropped_whose_clients_have_left() {
    for mode in [Transaction, Session] {
        let site = Site::pooled(mode, 4);
        for (statement, rest) in [
            ("drop database", ""),
            ("alter database", " rename to renamed_by_a_client"),
            ("create database copied_by_a_client template", ""),
        ] {
            let database = Cluster::shared().fresh_database();
            guest(&site, &database).query("select 1").ok();
            eventually("its connection idles", || Cluster::shared().backends(&database) == 1);
            let mut owner = site.client();
            let asked = Instant::now();
            owner.query(format!("{statement} {database}{rest}")).ok();
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            owner.terminate();
        }
        for database in ["renamed_by_a_client", "copied_by_a_client"] {
            Cluster::shared().run("postgres", &format!("drop database {database}"));
        }
    }
}

#[test]
fn a_database_in_use_is_not_dropped_and_its_clients_go_on() {
    let site = Site::pooled(Transaction, 2);
    let database = Cluster::shared().fresh_database();
    let mut user = guest(&site, &database);
    user.query("begin").ok();
    let refused = site.client().query(format!("drop database {database}"));
    assert_eq!(refused.error().code(), "55006", "{:?}", refused.messages);
    user.query("commit").ok();
    assert_eq!(user.query("select 1").value(), "1");
    // It has ended: connections are kept again.
    assert_eq!(Cluster::shared().backends(&database), 1);
}

#[test]
fn who_may_not_drop_a_database_closes_nothing() {
    let role = "drops_nothing";
    Cluster::shared().create_role(role, None);
    let site = Site::pooled(Transaction, 2);
    let database = Cluster::shared().fresh_database();
    let mut user = guest(&site, &database);
    let server = user.query("select pg_backend_pid()").value();
    let mut stranger = RawClient::login(site.address(), role, &site.database);
    let refused = stranger.query(format!("drop database {database}"));
    assert_eq!(refused.error().code(), "42501", "{:?}", refused.messages);
    assert_eq!(user.query("select pg_backend_pid()").value(), server);
}
