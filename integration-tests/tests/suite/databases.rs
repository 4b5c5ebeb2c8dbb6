//! Many databases behind one proxy: listed ones, the wildcard, those that come and go with the configuration.

use std::time::Duration;

use crate::commands::done;
use config::{Database, Secret, User, UserSecret};
use integration_tests::{Cluster, FakeUpstream, Fields, Proxy, RawClient, eventually, http};

fn client(proxy: &Proxy, user: &str, database: &str) -> RawClient {
    RawClient::login(proxy.address(), user, database)
}

fn refused(proxy: &Proxy, user: &str, database: &str) -> Fields {
    RawClient::try_login(proxy.address(), &[("user", user), ("database", database)], "").unwrap_err()
}

fn server() -> FakeUpstream {
    FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()))
}

#[test]
fn each_database_has_its_place_and_the_wildcard_has_the_rest() {
    let cluster = Cluster::shared();
    let (real, other) = (cluster.fresh_database(), cluster.fresh_database());
    let proxy = Proxy::before(cluster.address())
        .with(|settings| {
            let mut named: Database = settings.wildcard.clone().unwrap();
            named.upstream.database = Some(real.clone());
            settings.databases.insert("alias".to_owned(), named);
        })
        .start();
    let asked = "select current_database()";
    assert_eq!(client(&proxy, "postgres", "alias").query(asked).value(), real);
    assert_eq!(client(&proxy, "postgres", &other).query(asked).value(), other);
    assert_eq!(refused(&proxy, "postgres", "no such database").code(), "3D000");
    let proxy = Proxy::before(cluster.address())
        .with(|settings| {
            let named = settings.wildcard.take().unwrap();
            settings.databases.insert(other.clone(), named);
        })
        .start();
    assert_eq!(client(&proxy, "postgres", &other).query(asked).value(), other);
    let error = refused(&proxy, "postgres", &real);
    assert!(error.code() == "3D000" && error.is_whole(), "{error:?}");
}

#[test]
fn names_that_clients_make_up_do_not_fill_the_memory() {
    let server = server();
    let proxy = Proxy::before(server.address())
        .pool(|pool| {
            pool.empty_timeout = Duration::from_millis(1);
            pool.idle_timeout = Duration::from_millis(1);
        })
        .with(|settings| settings.max_pools = 3)
        .start();
    let _two = [client(&proxy, "anna", "a"), client(&proxy, "anna", "b")];
    // Each makes a pool of its own, and leaves it behind empty: it gives way to the next one.
    for n in 0..5 {
        let database = format!("guest{n}");
        let parameters = [("user", "anna"), ("database", &*database)];
        let mut guest = None;
        // The server sees its connection closed a moment before the proxy has closed its books on it.
        eventually("the pool before it gives way", || {
            guest = RawClient::try_login(proxy.address(), &parameters, "").ok();
            guest.is_some()
        });
        let mut guest = guest.unwrap();
        assert_eq!(guest.query("select 1").value(), "1");
        guest.terminate();
        eventually("the pool is empty", || server.has_closed(2 + n));
    }
    let _third = client(&proxy, "anna", "c");
    let error = refused(&proxy, "anna", "d");
    assert_eq!((error.code(), error.message(), error.is_whole()), ("53300", "too many pools", true), "{error:?}");
    client(&proxy, "anna", "a");
}

#[test]
fn a_minimum_is_kept_before_the_first_client_where_the_password_is_known() {
    let cluster = Cluster::builder().hba(integration_tests::Hba::Scram).start();
    cluster.create_role("alice", Some("wonder land"));
    let proxy = Proxy::before(cluster.address())
        .with(|settings| {
            let mut named = settings.wildcard.take().unwrap();
            named.pool.min_size = 2;
            settings.databases.insert("postgres".to_owned(), named);
            for (name, secret) in [("alice", UserSecret::Plain(Secret::new("wonder land"))), ("bob", UserSecret::None)]
            {
                settings.users.insert(name.to_owned(), User { secret, upstream_password: None, upstream_user: None });
            }
        })
        .start();
    eventually("two connections are open", || {
        let count = "select count(*) from pg_stat_activity where usename = 'alice'";
        cluster.value("postgres", count) == "2"
    });
    assert_eq!(client(&proxy, "alice", "postgres").query("select current_user").value(), "alice");
}

#[test]
fn a_database_that_a_reload_removes_ends_with_what_is_being_done_in_it() {
    let server = server();
    let builder = Proxy::before(server.address()).with(|settings| {
        let named = settings.wildcard.take().unwrap();
        settings.databases.insert("shop".to_owned(), named.clone());
        settings.databases.insert("other".to_owned(), named);
    });
    let proxy = builder.clone().start();
    let (mut resting, mut busy) = (client(&proxy, "anna", "shop"), client(&proxy, "anna", "shop"));
    let mut other = client(&proxy, "anna", "other");
    busy.query("begin").ok();
    let removed = builder.clone().with(|settings| drop(settings.databases.remove("shop")));
    proxy.reload(removed.settings());
    let words = resting.read_to_end();
    assert_eq!((words.error().code(), words.error().is_whole()), ("57P01", true), "{words:?}");
    assert!(words.error().detail().contains("taken out of the proxy's configuration"), "{words:?}");
    assert_eq!(refused(&proxy, "anna", "shop").code(), "3D000");
    assert_eq!(busy.query("begin").commands(), ["BEGIN"], "its transaction goes on");
    busy.start_query("commit");
    let words = busy.read_to_end();
    assert_eq!((words.commands(), words.error().code()), (vec!["COMMIT"], "57P01"), "{words:?}");
    assert_eq!(other.query("select 1").value(), "1");
    eventually("its server connection is closed", || server.has_closed(0));
    proxy.reload(builder.settings());
    assert_eq!(client(&proxy, "anna", "shop").query("select 1").value(), "1", "and it comes back");
}

#[test]
fn a_database_that_moves_takes_its_clients_along() {
    let (old, new) = (server(), server());
    let builder = Proxy::before(old.address());
    let proxy = builder.clone().start();
    let mut resting = client(&proxy, "anna", "shop");
    let mut busy = client(&proxy, "anna", "shop");
    busy.query("begin").ok();
    proxy.reload(builder.hosts(&[new.address()], config::SessionAttrs::Any).settings());
    eventually("new requests go to the new server", || {
        resting.query("select 1").ok();
        new.logins() == 1
    });
    assert_eq!(busy.query("commit").commands(), ["COMMIT"]);
    assert!(old.queries().contains(&"commit".to_owned()), "a transaction ends where it began");
    eventually("the old server is left alone", || (0..old.logins()).all(|n| old.has_closed(n)));
}

#[test]
fn the_admin_port_shows_what_is_paused_and_disabled() {
    let server = server();
    let proxy = Proxy::before(server.address()).start();
    let _client = client(&proxy, "anna", "shop");
    let shown = || http::fetch(proxy.admin(), "/api/v1/pools").body;
    assert!(shown().contains("\"paused\":false") && shown().contains("\"disabled\":false"), "{}", shown());
    done(proxy.commands().disable("shop")).unwrap();
    assert!(shown().contains("\"disabled\":true"), "{}", shown());
}
