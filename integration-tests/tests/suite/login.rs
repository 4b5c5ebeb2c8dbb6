//! Each way to log in, against servers that ask for each kind of proof; rules, and what limits guessing.

use std::time::Duration;

use config::{Auth, AuthMethod, Network, Secret, Settings, User, UserSecret};
use integration_tests::http;
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, Hba, Message, Proxy, RawClient, Site, eventually, frontend};

pub(crate) const ANNA: [(&str, &str); 2] = [("user", "anna"), ("database", "postgres")];
const MALLORY: [(&str, &str); 2] = [("user", "mallory"), ("database", "postgres")];

/// A server where anna's password is `pencil`, and what it has stored of that.
pub(crate) fn server(hba: Hba) -> (Cluster, String) {
    let cluster = Cluster::builder().hba(hba).start();
    cluster.create_role("anna", Some("pencil"));
    let stored = stored(&cluster);
    (cluster, stored)
}

/// What the server has stored of anna's password.
pub(crate) fn stored(cluster: &Cluster) -> String {
    cluster.value("postgres", "select rolpassword from pg_authid where rolname = 'anna'")
}

/// A proxy that asks for this method and knows this of anna.
fn proxy(cluster: &Cluster, method: AuthMethod, secret: &str) -> Builder {
    let secret = config::parse_secret(secret).expect("a secret");
    Proxy::before(cluster.address()).with(|settings| {
        settings.auth.method = method;
        settings.users.insert("anna".to_owned(), User::from(secret));
    })
}

/// The right password works to the server and back, a wrong one and an unknown user are told the same.
fn lets_in_only_who_knows_the_password(proxy: &Proxy, what: &str) {
    let mut client = RawClient::try_login(proxy.address(), &ANNA, "pencil")
        .unwrap_or_else(|error| panic!("{what}: the right password was refused: {error:?}"));
    assert_eq!(client.query("select current_user").value(), "anna", "{what}");
    let wrong = RawClient::try_login(proxy.address(), &ANNA, "guess").unwrap_err();
    assert_eq!(wrong.code(), "28P01", "{what}");
    if what.starts_with("PassThrough") {
        // The server itself judges who is not listed, and says what it says.
        return;
    }
    let unknown = RawClient::try_login(proxy.address(), &MALLORY, "guess").unwrap_err();
    assert_eq!(unknown.code(), "28P01", "{what}");
    assert_eq!(unknown.message().replace("mallory", "anna"), wrong.message(), "{what}: nobody learns who exists");
}

#[test]
fn every_method_before_servers_that_ask_for_every_kind_of_proof() {
    for hba in [Hba::Trust, Hba::Password, Hba::Md5, Hba::Scram] {
        let (cluster, stored) = server(hba);
        for method in [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256, AuthMethod::PassThrough] {
            let plain = proxy(&cluster, method, "pencil").start();
            lets_in_only_who_knows_the_password(&plain, &format!("{method:?} with the password before {hba:?}"));
            // A hash serves no SCRAM towards the client; a verifier is no password for a server that wants that.
            let usable = match hba {
                Hba::Md5 => method != AuthMethod::ScramSha256,
                Hba::Scram | Hba::Trust => true,
                Hba::Password => method == AuthMethod::Password,
            };
            if usable {
                let same = proxy(&cluster, method, &stored).start();
                lets_in_only_who_knows_the_password(&same, &format!("{method:?} with what {hba:?} has stored"));
            }
        }
    }
}

#[test]
fn trust_and_reject_ask_for_nothing() {
    let (cluster, _) = server(Hba::Scram);
    let trust = proxy(&cluster, AuthMethod::Trust, "pencil").start();
    let mut client = RawClient::login_with(trust.address(), &ANNA, "");
    assert_eq!(client.query("select current_user").value(), "anna");
    let reject = proxy(&cluster, AuthMethod::Reject, "pencil").start();
    let refused = RawClient::try_login(reject.address(), &ANNA, "pencil").unwrap_err();
    assert_eq!(refused.code(), "28000");
    assert!(refused.message().starts_with("pg_hba.conf rejects connection for host \"127.0.0.1\""), "{refused:?}");
}

#[test]
fn a_verifier_is_enough_on_both_sides_and_no_password_is_stored() {
    let (cluster, verifier) = server(Hba::Scram);
    assert!(verifier.starts_with("SCRAM-SHA-256$"));
    let proxy = proxy(&cluster, AuthMethod::ScramSha256, &verifier).pool(|pool| pool.min_size = 2).start();
    let clients: Vec<RawClient> = (0..3)
        .map(|_| {
            let mut client = RawClient::login_with(proxy.address(), &ANNA, "pencil");
            client.query("begin");
            client
        })
        .collect();
    assert_eq!(clients.len(), 3, "the keys serve as many connections as the pool needs");
    eventually("each client has a server connection of anna's", || {
        cluster.value("postgres", "select count(*) from pg_stat_activity where usename = 'anna'") == "3"
    });
}

#[test]
fn keys_that_the_server_refuses_are_dropped_and_the_next_login_brings_new_ones() {
    let (cluster, verifier) = server(Hba::Scram);
    let builder = proxy(&cluster, AuthMethod::ScramSha256, &verifier).pool(|pool| pool.idle_timeout = Duration::ZERO);
    let mut settings = builder.settings();
    let proxy = builder.start();
    let mut client = RawClient::login_with(proxy.address(), &ANNA, "pencil");
    assert_eq!(client.query("select 1").value(), "1");

    cluster.run("postgres", "alter role anna password 'brush'");
    end_connections_of_anna(&cluster);
    eventually("the server has refused the keys", || client.query("select 1").error().code() == "28P01");
    let refused = RawClient::try_login(proxy.address(), &ANNA, "pencil").unwrap_err();
    assert_eq!(refused.code(), "28P01", "what proves nothing to the server lets nobody in: {refused:?}");

    let new = config::parse_secret(&stored(&cluster)).unwrap();
    settings.users.insert("anna".to_owned(), User::from(new));
    proxy.reload(settings);
    let mut fresh = RawClient::login_with(proxy.address(), &ANNA, "brush");
    assert_eq!(fresh.query("select current_user").value(), "anna");
    assert_eq!(client.query("select 1").value(), "1", "who was in before is served again");
}

fn end_connections_of_anna(cluster: &Cluster) {
    cluster.run("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'anna'");
}

#[test]
fn a_verifier_before_a_server_that_wants_the_password_itself_says_so() {
    let (cluster, verifier) = server(Hba::Password);
    let proxy = proxy(&cluster, AuthMethod::ScramSha256, &verifier).start();
    let refused = RawClient::try_login(proxy.address(), &ANNA, "pencil").unwrap_err();
    assert_eq!(refused.code(), "28P01");
    assert!(refused.message().contains("SCRAM keys"), "{refused:?}");
}

#[test]
fn a_password_that_passes_through_is_asked_for_again_when_the_server_has_changed_it() {
    let (cluster, _) = server(Hba::Scram);
    let builder = Proxy::before(cluster.address()).with(|settings| {
        settings.auth = Auth { method: AuthMethod::PassThrough, secret_cache: Duration::ZERO, ..Auth::default() };
    });
    let proxy = builder.start();
    let mut before = RawClient::login_with(proxy.address(), &ANNA, "pencil");
    assert_eq!(before.query("select current_user").value(), "anna");
    cluster.run("postgres", "alter role anna password 'brush'");
    let old = RawClient::try_login(proxy.address(), &ANNA, "pencil").unwrap_err();
    assert_eq!(old.code(), "28P01");
    let mut after = RawClient::login_with(proxy.address(), &ANNA, "brush");
    assert_eq!(after.query("select current_user").value(), "anna");
    end_connections_of_anna(&cluster);
    eventually("the pool connects with the new password", || {
        let login = RawClient::try_login(proxy.address(), &ANNA, "brush");
        login.is_ok_and(|mut client| client.query("select 1").errors().is_empty())
    });
}

#[test]
fn that_a_server_wants_no_password_does_not_outlive_a_reload() {
    let cluster = Cluster::builder().hba(Hba::Trust).start();
    cluster.create_role("anna", Some("pencil"));
    let builder = Proxy::before(cluster.address()).with(|settings| {
        settings.auth =
            Auth { method: AuthMethod::PassThrough, secret_cache: Duration::from_secs(3600), ..Auth::default() };
    });
    let settings = builder.settings();
    let proxy = builder.start();
    drop(RawClient::login_with(proxy.address(), &ANNA, ""));
    cluster.change_hba(Hba::Scram);
    proxy.reload(settings);
    assert_eq!(RawClient::try_login(proxy.address(), &ANNA, "guess").unwrap_err().code(), "28P01");
    drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
}

/// Rules as a file has them.
fn rules(text: &str) -> impl FnOnce(&mut Settings) {
    let hba = config::hba::parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
    move |settings| settings.auth.hba = Some(hba)
}

#[test]
fn the_first_rule_that_matches_decides_and_a_reload_changes_it() {
    let (cluster, _) = server(Hba::Scram);
    cluster.run("postgres", "create database shop");
    let text = "host shop anna 127.0.0.1/32 scram-sha-256\n\
                host all mallory all reject\n\
                host postgres anna samehost trust\n\
                hostssl all all all trust\n";
    let builder = proxy(&cluster, AuthMethod::Reject, "pencil").with(rules(text));
    let settings = builder.settings();
    let proxy = builder.start();
    let shop = [("user", "anna"), ("database", "shop")];
    assert_eq!(RawClient::try_login(proxy.address(), &shop, "guess").unwrap_err().code(), "28P01");
    drop(RawClient::login_with(proxy.address(), &shop, "pencil"));
    drop(RawClient::login_with(proxy.address(), &ANNA, "nobody asks"));
    let rejected = RawClient::try_login(proxy.address(), &MALLORY, "").unwrap_err();
    assert_eq!(
        (rejected.code(), rejected.message()),
        (
            "28000",
            "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"mallory\", database \"postgres\", no encryption"
        )
    );
    let other = [("user", "bob"), ("database", "postgres")];
    let none = RawClient::try_login(proxy.address(), &other, "").unwrap_err();
    assert!(none.message().starts_with("no pg_hba.conf entry for host"), "{none:?}");

    let mut stricter = settings;
    rules("host all all all reject\n")(&mut stricter);
    proxy.reload(stricter);
    assert_eq!(RawClient::try_login(proxy.address(), &shop, "pencil").unwrap_err().code(), "28000");
}

#[test]
fn an_address_that_guesses_is_held_off_and_others_are_not() {
    let (cluster, _) = server(Hba::Scram);
    let builder = proxy(&cluster, AuthMethod::ScramSha256, "pencil").with(|settings| {
        settings.auth.limits.failures = 3;
        settings.auth.limits.period = Duration::from_secs(3600);
        settings.auth.limits.exempt = Vec::new();
    });
    let mut settings = builder.settings();
    let proxy = builder.start();
    for _ in 0..3 {
        assert_eq!(RawClient::try_login(proxy.address(), &ANNA, "guess").unwrap_err().code(), "28P01");
    }
    let held_off = RawClient::try_login(proxy.address(), &ANNA, "pencil").unwrap_err();
    assert_eq!(
        (held_off.code(), held_off.message()),
        ("53400", "too many failed logins from this address"),
        "the right password is of no use now, or guessing would be"
    );
    let metrics = http::fetch(proxy.admin(), "/metrics").body;
    assert!(metrics.contains("pgweir_logins_total{worker=\"control\",result=\"limited\"} 1"), "{metrics}");

    settings.auth.limits.exempt = vec![Network::parse("127.0.0.0/8").unwrap()];
    proxy.reload(settings);
    drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
}

#[test]
fn connections_that_say_nothing_take_no_more_places_than_there_are() {
    let site = Site::behind(config::PoolMode::Transaction, |proxy| {
        proxy.with(|settings| {
            settings.auth.limits.concurrent = 4;
            settings.auth.limits.per_address = 3;
            settings.auth.limits.exempt = Vec::new();
            settings.auth.login_timeout = Duration::from_secs(60);
        })
    });
    let mut silent: Vec<RawClient> = (0..3).map(|_| RawClient::connect(site.address())).collect();
    eventually("the address's places are taken", || {
        match RawClient::try_login(site.address(), &site.parameters(&[]), "") {
            Err(error) => error.message() == "too many logins from this address at once" && error.code() == "53300",
            Ok(_) => false,
        }
    });
    silent.pop();
    eventually("a place that was given back is taken again", || {
        RawClient::try_login(site.address(), &site.parameters(&[]), "").is_ok()
    });
}

#[test]
fn over_long_scram_messages_are_refused() {
    let (cluster, _) = server(Hba::Scram);
    let proxy = proxy(&cluster, AuthMethod::ScramSha256, "pencil").start();
    let mut client = RawClient::connect(proxy.address());
    client.say(frontend::startup(frontend::PROTOCOL_3_0, &ANNA));
    assert!(matches!(client.read(), Message::Authentication { code: 10, .. }));
    let message = format!("n,,n=,r={}", "a".repeat(60_000));
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message.as_bytes());
    client.say(frontend::message(b'p', &body));
    let reply = client.read_to_end();
    assert!(!reply.shape().contains('R') && !reply.shape().contains('Z'), "{reply:?}");
    drop(RawClient::login_with(proxy.address(), &ANNA, "pencil"));
}

#[test]
fn a_user_can_be_another_one_on_the_server() {
    let (cluster, _) = server(Hba::Scram);
    cluster.create_role("reader", Some("glasses"));
    let builder = Proxy::before(cluster.address()).with(|settings| {
        settings.auth.method = AuthMethod::ScramSha256;
        let user = User {
            secret: UserSecret::Plain(Secret::new("own")),
            upstream_user: Some("reader".to_owned()),
            upstream_password: Some(Secret::new("glasses")),
        };
        settings.users.insert("anna".to_owned(), user);
    });
    let proxy = builder.start();
    let mut client = RawClient::login_with(proxy.address(), &ANNA, "own");
    assert_eq!(client.query("select current_user").value(), "reader");
}
