//! Statements that need a database to themselves find it left by the connections that nobody uses.

use std::time::{Duration, Instant};

use config::PoolMode::{Session, Transaction};
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, Site, eventually, frontend};

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

/// Longer than a statement has to run before anybody leaves for it.
const NOTICED: Duration = Duration::from_millis(400);

fn extended(text: &str) -> Vec<u8> {
    [frontend::parse("", text, &[]), frontend::bind("", "", &[]), frontend::execute("", 0)].concat()
}

#[test]
fn who_may_not_drop_a_database_closes_nothing_by_what_it_sends_beside() {
    let role = "drops_nothing_beside";
    Cluster::shared().create_role(role, None);
    let site = Site::pooled(Transaction, 2);
    let database = Cluster::shared().fresh_database();
    let mut user = guest(&site, &database);
    let server = user.query("select pg_backend_pid()").value();
    let mut stranger = RawClient::login(site.address(), role, &site.database);
    let (drops, sleeps) = (format!("drop database {database}"), "select pg_sleep(0.7)");
    for (sent, replies) in [
        ([frontend::query(&drops), frontend::query(sleeps)].concat(), 2),
        ([frontend::query(sleeps), frontend::query(&drops)].concat(), 2),
        (frontend::query(format!("{sleeps}; {drops}")), 1),
        ([extended(sleeps), extended(&drops), frontend::sync()].concat(), 1),
    ] {
        stranger.say(sent).send();
        std::thread::sleep(NOTICED);
        assert_eq!(user.query("select pg_backend_pid()").value(), server);
        let refused =
            (0..replies).flat_map(|_| stranger.reply().messages).filter(|message| message.tag() == 'E').count();
        assert_eq!(refused, 1);
    }
}

#[test]
fn databases_that_are_dropped_one_behind_the_other_are_left_one_behind_the_other() {
    let site = Site::pooled(Transaction, 4);
    let databases = [Cluster::shared().fresh_database(), Cluster::shared().fresh_database()];
    for database in &databases {
        guest(&site, database).query("select 1").ok();
        eventually("its connection idles", || Cluster::shared().backends(database) == 1);
    }
    let mut owner = site.client();
    let asked = Instant::now();
    for database in &databases {
        owner.say(frontend::query(format!("drop database {database}")));
    }
    owner.reply().ok();
    owner.reply().ok();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn a_database_of_the_same_name_on_another_server_is_not_left() {
    let database = Cluster::shared().fresh_database();
    let other = Cluster::builder().start();
    other.run("postgres", &format!("create database {database}"));
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(2).with(|settings| {
            let mut elsewhere = settings.wildcard.clone().expect("tests use the wildcard");
            elsewhere.upstream.hosts =
                vec![config::Host { name: other.address().ip().to_string(), port: other.address().port() }];
            elsewhere.upstream.database = Some(database.clone());
            settings.databases.insert("elsewhere".to_owned(), elsewhere);
        })
    });
    let mut user = guest(&site, "elsewhere");
    let server = user.query("select pg_backend_pid()").value();
    let holder = Cluster::shared().connect(&database);
    let mut owner = site.client();
    owner.start_query(format!("drop database {database}"));
    std::thread::sleep(NOTICED);
    assert_eq!(user.query("select pg_backend_pid()").value(), server);
    drop(holder);
    owner.reply().ok();
}

#[test]
fn nobody_stays_away_for_longer_than_a_server_waits() {
    let server = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("drop database")?;
        connection.listen()
    });
    let proxy = Proxy::before(server.address()).size(2).start();
    let mut user = RawClient::login(proxy.address(), "postgres", "wanted");
    user.query("select 1").ok();
    let mut owner = RawClient::login(proxy.address(), "postgres", "postgres");
    owner.start_query("drop database wanted");
    eventually("its connection is closed", || server.has_closed(0));
    eventually("a connection is kept", || {
        user.query("select 1").ok();
        let logins = server.logins();
        user.query("select 1").ok();
        server.logins() == logins
    });
}
