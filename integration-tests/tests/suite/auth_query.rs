//! Secrets of users who are listed nowhere, looked up on the server.

use std::time::Duration;

use config::{AuthMethod, AuthQuery};
use integration_tests::cluster::SUPERUSER;
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, Hba, Proxy, RawClient, eventually};

use crate::login::{ANNA, server};

/// Not schema-qualified on purpose: what it finds hangs on the search path.
const BARE: &str = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1";

/// A proxy that knows nobody, and asks the server by this statement.
fn asking(cluster: &Cluster, text: &str) -> Builder {
    let query = AuthQuery {
        text: text.to_owned(),
        user: SUPERUSER.to_owned(),
        password: None,
        database: Some("postgres".into()),
    };
    Proxy::before(cluster.address()).with(|settings| {
        settings.auth.method = AuthMethod::PassThrough;
        settings.wildcard.as_mut().expect("tests use the wildcard").auth_query = Some(query);
    })
}

fn refusal(proxy: &Proxy, parameters: &[(&str, &str)], password: &str) -> (String, String) {
    let refused = RawClient::try_login(proxy.address(), parameters, password).unwrap_err();
    (refused.code().to_owned(), refused.message().to_owned())
}

#[test]
fn a_user_is_looked_up_and_works_with_the_keys_of_its_own_login() {
    for hba in [Hba::Scram, Hba::Md5] {
        let (cluster, _) = server(hba);
        let proxy = asking(&cluster, BARE).start();
        let mut client = RawClient::login_with(proxy.address(), &ANNA, "pencil");
        assert_eq!(client.query("select current_user").value(), "anna", "{hba:?}");
        let wrong = refusal(&proxy, &ANNA, "guess");
        let unknown = refusal(&proxy, &[("user", "mallory"), ("database", "postgres")], "guess");
        assert_eq!(wrong.0, "28P01", "{hba:?}");
        assert_eq!((unknown.0, unknown.1.replace("mallory", "anna")), wrong, "{hba:?}: nobody learns who exists");
    }
}

/// Its login ends while the server looks somebody up: what comes then is nobody's answer.
#[test]
fn an_answer_that_nobody_has_waited_for_is_not_the_next_ones() {
    let (cluster, _) = server(Hba::Scram);
    let slow = "SELECT usename, passwd FROM pg_shadow, \
                (SELECT pg_sleep(CASE WHEN $1::name = 'mallory' THEN 1.5 ELSE 0 END)) AS slow WHERE usename = $1::name";
    let proxy = asking(&cluster, slow).with(|settings| settings.auth.login_timeout = Duration::from_secs(1)).start();
    RawClient::login_with(proxy.address(), &ANNA, "pencil");
    let mallory = [("user", "mallory"), ("database", "postgres")];
    // Out of time, half a second before the answer.
    RawClient::try_login(proxy.address(), &mallory, "guess").unwrap_err();
    let berta = [("user", "berta"), ("database", "postgres")];
    cluster.run("postgres", "create role berta login password 'geheim'");
    let mut client = RawClient::login_with(proxy.address(), &berta, "geheim");
    assert_eq!(client.query("select current_user").value(), "berta");
}

#[test]
fn cve_2025_12819_no_search_path_reaches_the_look_up() {
    let (cluster, _) = server(Hba::Scram);
    cluster.run(
        "postgres",
        "create schema evil; create table evil.pg_shadow (usename name, passwd text); \
         insert into evil.pg_shadow values ('anna', 'stolen'); grant usage on schema evil to public; \
         grant select on evil.pg_shadow to public",
    );
    let path = "evil, pg_catalog";
    // So it would go wrong.
    let mut victim = cluster.connect("postgres");
    victim.query(format!("set search_path to {path}"));
    assert_eq!(victim.query("select passwd from pg_shadow where usename = 'anna'").value(), "stolen");

    let proxy = asking(&cluster, BARE).with(|settings| settings.auth.secret_cache = Duration::ZERO).start();
    let options = "-c search_path=evil,pg_catalog";
    for parameters in [[ANNA[0], ANNA[1], ("search_path", path)], [ANNA[0], ANNA[1], ("options", options)]] {
        assert_eq!(refusal(&proxy, &parameters, "stolen").0, "28P01", "{parameters:?}");
        let mut client = RawClient::login_with(proxy.address(), &parameters, "pencil");
        assert_eq!(client.query("show search_path").value().replace(' ', ""), "evil,pg_catalog");
    }
    // Nor does one that somebody has set for the asking user, or for the database.
    cluster.run("postgres", &format!("alter role {SUPERUSER} set search_path to {path}"));
    cluster.run("postgres", &format!("alter database postgres set search_path to {path}"));
    let proxy = asking(&cluster, BARE).start();
    assert_eq!(refusal(&proxy, &ANNA, "stolen").0, "28P01");
    drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
}

#[test]
fn the_default_statement_knows_who_may_not_log_in() {
    let (cluster, _) = server(Hba::Scram);
    cluster.run("postgres", "create role gone login password 'x' valid until '2001-01-01'");
    cluster.run("postgres", "create role staff password 'x' nologin");
    cluster.run("postgres", "create role bare login");
    let text = config::Settings::from_toml(
        "[auth]\nquery_user = 'asker'\n[databases.d]\nupstream = 'postgres://h/d'\n",
        &config::Overrides::default(),
        &config::NoSources,
    );
    let text = text.unwrap().databases["d"].auth_query.clone().unwrap().text;
    let proxy = asking(&cluster, &text).start();
    drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
    for user in ["gone", "staff", "bare"] {
        assert_eq!(refusal(&proxy, &[("user", user), ("database", "postgres")], "x").0, "28P01", "{user}");
    }
}

/// A function that counts how often it is asked.
fn counting(cluster: &Cluster) -> &'static str {
    cluster.run(
        "postgres",
        "create table public.asked (name text); \
         create function public.lookup(name) returns table (name name, secret text) language plpgsql \
         security definer set search_path = pg_catalog as $$ begin \
           insert into public.asked values ($1); \
           return query select usename, passwd from pg_shadow where usename = $1; end $$",
    );
    "SELECT * FROM public.lookup($1)"
}

fn asked(cluster: &Cluster) -> u32 {
    cluster.value("postgres", "select count(*) from public.asked").parse().unwrap()
}

#[test]
fn many_logins_of_one_user_ask_once() {
    let (cluster, _) = server(Hba::Scram);
    let text = counting(&cluster);
    let hour = Duration::from_secs(3600);
    let proxy = asking(&cluster, text).with(|settings| settings.auth.secret_cache = hour).start();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| drop(RawClient::login_with(proxy.address(), &ANNA, "pencil")));
        }
    });
    assert_eq!(asked(&cluster), 1);
}

#[test]
fn a_name_that_nobody_has_is_not_asked_for_each_time() {
    let (cluster, _) = server(Hba::Scram);
    let text = counting(&cluster);
    let hour = Duration::from_secs(3600);
    let proxy = asking(&cluster, text).with(|settings| settings.auth.unknown_cache = hour).start();
    let nobody = [("user", "nobody"), ("database", "postgres")];
    for _ in 0..10 {
        assert_eq!(refusal(&proxy, &nobody, "x").0, "28P01");
    }
    assert!(asked(&cluster) < 10);
    // Who comes to be is found although the answer is kept for an hour: a login that fails asks anew.
    cluster.create_role("nobody", Some("x"));
    eventually("the new user is let in", || RawClient::try_login(proxy.address(), &nobody, "x").is_ok());
}

#[test]
fn a_password_that_was_changed_while_running_is_asked_for_again() {
    let (cluster, _) = server(Hba::Scram);
    let hour = Duration::from_secs(3600);
    let proxy = asking(&cluster, BARE).with(|settings| settings.auth.secret_cache = hour).start();
    let mut early = RawClient::login_with(proxy.address(), &ANNA, "pencil");
    assert_eq!(early.query("select 1").value(), "1");
    cluster.run("postgres", "alter role anna password 'brush'");
    eventually("the new password is known", || RawClient::try_login(proxy.address(), &ANNA, "brush").is_ok());
    assert_eq!(refusal(&proxy, &ANNA, "pencil").0, "28P01");
    // The pool's own connections use the new keys from now on.
    cluster.run("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'anna'");
    eventually("the pool has connected anew", || early.query("select current_user").errors().is_empty());
}

#[test]
fn a_look_up_that_fails_lets_nobody_in_and_says_so() {
    let (cluster, _) = server(Hba::Scram);
    for text in [
        "SELECT no_such_function($1)",
        "SELECT $1::text",
        "SELECT 'somebody else', 'pencil' WHERE $1 <> ''",
        "SELECT $1::text, 'pencil' FROM generate_series(1, 2)",
        "SELECT $1::text, 'SCRAM-SHA-256$broken'",
    ] {
        let proxy = asking(&cluster, text).start();
        let (code, message) = refusal(&proxy, &ANNA, "pencil");
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("28000", "the password of user \"anna\" could not be looked up")
        );
    }
}

#[test]
fn a_name_longer_than_a_servers_is_nobodys() {
    let (cluster, _) = server(Hba::Scram);
    let long = "a".repeat(63);
    cluster.create_role(&long, Some("pencil"));
    let proxy = asking(&cluster, BARE).start();
    drop(RawClient::login_with(proxy.address(), &[("user", &long), ("database", "postgres")], "pencil"));
    let longer = format!("{long}b");
    assert_eq!(refusal(&proxy, &[("user", &longer), ("database", "postgres")], "pencil").0, "28P01");
}

#[test]
fn the_asking_connection_comes_back_after_the_server_has_closed_it() {
    let (cluster, _) = server(Hba::Scram);
    let proxy = asking(&cluster, BARE).with(|settings| settings.auth.secret_cache = Duration::ZERO).start();
    for _ in 0..2 {
        drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
        cluster.run(
            "postgres",
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() \
             and query like '%passwd%' and backend_type = 'client backend'",
        );
    }
}
