//! The first bytes of a connection.

use std::time::{Duration, Instant};

use config::{AuthMethod, PoolMode, Secret, User, UserSecret};
use integration_tests::frontend::{self, PROTOCOL_3_0, PROTOCOL_3_2};
use integration_tests::{Cluster, Hba, Message, Proxy, RawClient, Site, everywhere};

#[test]
fn encryption_is_declined_and_the_login_goes_on() {
    everywhere(|site| {
        // A PostgreSQL that is built with GSSAPI takes up the offer.
        let codes = [frontend::SSL_REQUEST, frontend::GSS_REQUEST];
        for code in codes.into_iter().take(if site.is_proxied() { 2 } else { 1 }) {
            let mut client = RawClient::connect(site.address());
            assert_eq!(client.say(frontend::encryption_request(code)).read_byte(), b'N');
            let parameters = site.parameters(&[]);
            client.say(frontend::startup(PROTOCOL_3_0, &parameters)).finish_login(&parameters, "").unwrap();
            assert_eq!(client.query("select 1").value(), "1");
        }
    });
}

#[test]
fn a_login_may_come_byte_by_byte() {
    everywhere(|site| {
        let mut client = RawClient::connect(site.address());
        let parameters = site.parameters(&[]);
        client.say(frontend::startup(PROTOCOL_3_0, &parameters)).send_in_pieces(1);
        client.finish_login(&parameters, "").unwrap();
        assert_eq!(client.query("select 1").value(), "1");
    });
}

#[test]
fn a_newer_minor_version_is_negotiated_and_unknown_options_are_listed() {
    everywhere(|site| {
        let mut client = RawClient::connect(site.address());
        let parameters = site.parameters(&[("_pq_.nobody_knows", "1")]);
        client.say(frontend::startup(PROTOCOL_3_2, &parameters));
        let Message::NegotiateProtocolVersion { newest_minor, unknown } = client.read() else {
            panic!("a negotiation was awaited first");
        };
        assert!(newest_minor & 0xFFFF <= 2, "{newest_minor:#x}");
        assert_eq!(unknown, ["_pq_.nobody_knows"]);
        client.finish_login(&parameters, "").unwrap();
        assert_eq!(client.query("select 1").value(), "1");
    });
}

#[test]
fn a_length_that_cannot_be_is_refused_at_once() {
    everywhere(|site| {
        for length in [0u32, 1, 3, 4, 7, 20_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] {
            let mut client = RawClient::connect(site.address());
            client.say(length.to_be_bytes()).say([0; 16]);
            let reply = client.read_to_end();
            if site.is_proxied() {
                assert_eq!(reply.error().code(), "08P01", "length {length}");
                assert!(reply.error().is_whole(), "{:?}", reply.error());
            }
        }
    });
}

#[test]
fn who_says_goodbye_before_anything_else_is_told_nothing() {
    everywhere(|site| {
        let mut client = RawClient::connect(site.address());
        assert_eq!(client.say(frontend::terminate()).read_to_end().shape(), "", "{}", site.name());
    });
}

#[test]
fn an_unknown_protocol_is_refused_with_a_reason() {
    everywhere(|site| {
        let mut client = RawClient::connect(site.address());
        let reply = client.say(frontend::startup(4 << 16, &site.parameters(&[]))).read_to_end();
        assert!(["0A000", "08P01"].contains(&reply.error().code()), "{:?}", reply.error());
    });
}

#[test]
fn an_unknown_database_has_its_own_code() {
    everywhere(|site| {
        let parameters = [("user", "postgres"), ("database", "no_such_database")];
        let refused = match RawClient::try_login(site.address(), &parameters, "") {
            Err(error) => error,
            // Transaction mode may notice only when the first statement needs a server.
            Ok(mut client) => client.query("select 1").error().clone(),
        };
        assert_eq!(refused.code(), "3D000", "{refused:?}");
        assert!(refused.message().contains("no_such_database"), "{refused:?}");
    });
}

#[test]
fn startup_parameters_of_every_driver_are_accepted_and_applied() {
    let parameters = [
        ("application_name", "a driver"),
        ("extra_float_digits", "3"),
        ("DateStyle", "ISO, DMY"),
        ("TimeZone", "Asia/Tokyo"),
        ("client_encoding", "UTF8"),
        ("search_path", "pg_catalog"),
        ("statement_timeout", "12345"),
        ("options", "-c lock_timeout=54321 -c work_mem=5MB"),
    ];
    everywhere(|site| {
        let mut client = site.client_with(&parameters);
        for (name, value) in [
            ("application_name", "a driver"),
            ("extra_float_digits", "3"),
            ("datestyle", "ISO, DMY"),
            ("timezone", "Asia/Tokyo"),
            ("search_path", "pg_catalog"),
            ("statement_timeout", "12345ms"),
            ("lock_timeout", "54321ms"),
            ("work_mem", "5MB"),
        ] {
            assert_eq!(client.query(format!("show {name}")).value(), value, "{name}");
        }
        assert_eq!(client.parameter("TimeZone"), Some("Asia/Tokyo"));
        assert_eq!(client.parameter("DateStyle"), Some("ISO, DMY"));
    });
}

#[test]
fn an_option_without_a_name_ends_the_login_not_the_processor() {
    everywhere(|site| {
        let parameters = site.parameters(&[("options", "-c =")]);
        let asked = Instant::now();
        assert!(RawClient::try_login(site.address(), &parameters, "").is_err());
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert_eq!(site.client().query("select 1").value(), "1");
    });
}

#[test]
fn a_cancel_with_a_made_up_key_is_closed_without_a_word() {
    everywhere(|site| {
        let mut client = RawClient::connect(site.address());
        let reply = client.say(frontend::cancel_request(4711, &[1, 2, 3, 4])).read_to_end();
        assert!(reply.messages.is_empty(), "{reply:?}");
        assert_eq!(site.client().query("select 1").value(), "1");
    });
}

#[test]
fn a_client_that_never_logs_in_is_closed() {
    let site = Site::behind(PoolMode::Transaction, |proxy| {
        proxy.with(|settings| settings.auth.login_timeout = Duration::from_millis(200))
    });
    for first_bytes in [&[][..], &[0, 0, 0][..], &[0, 0, 0, 80, 0, 3, 0, 0][..]] {
        let mut client = RawClient::connect(site.address());
        client.say(first_bytes).read_to_end();
    }
}

/// A proxy that knows alice, before a server that asks for her password too.
fn guarded(cluster: &Cluster, method: AuthMethod) -> Proxy {
    cluster.create_role("alice", Some("secret"));
    Proxy::before(cluster.address())
        .with(|settings| {
            settings.auth.method = method;
            settings.users.insert("alice".to_owned(), User::from(UserSecret::Plain(Secret::new("secret"))));
        })
        .start()
}

#[test]
fn both_sides_speak_every_password_method() {
    for (method, hba) in [(AuthMethod::Md5, Hba::Scram), (AuthMethod::ScramSha256, Hba::Md5)] {
        let cluster = Cluster::builder().hba(hba).start();
        let proxy = guarded(&cluster, method);
        let alice = [("user", "alice"), ("database", "postgres")];
        let mut client = RawClient::login_with(proxy.address(), &alice, "secret");
        assert_eq!(client.query("select current_user").value(), "alice", "{method:?}");

        let wrong = RawClient::try_login(proxy.address(), &alice, "guess").unwrap_err();
        let mallory = [("user", "mallory"), ("database", "postgres")];
        let unknown = RawClient::try_login(proxy.address(), &mallory, "guess").unwrap_err();
        assert_eq!((wrong.code(), unknown.code()), ("28P01", "28P01"), "{method:?}");
        assert_eq!(unknown.message().replace("mallory", "alice"), wrong.message(), "nobody learns who exists");
    }
}

#[test]
fn nobody_becomes_somebody_else_in_the_middle_of_a_login() {
    let cluster = Cluster::builder().hba(Hba::Scram).start();
    let proxy = guarded(&cluster, AuthMethod::ScramSha256);
    let mut client = RawClient::connect(proxy.address());
    client.say(frontend::startup(PROTOCOL_3_0, &[("user", "alice"), ("database", "postgres")]));
    assert!(matches!(client.read(), Message::Authentication { code: 10, .. }));
    client.say(frontend::startup(PROTOCOL_3_0, &[("user", "postgres"), ("database", "postgres")]));
    let reply = client.read_to_end();
    assert!(!reply.shape().contains('Z') && !reply.shape().contains('R'), "{reply:?}");
}

#[test]
fn a_password_that_passes_through_is_checked_by_the_server() {
    let cluster = Cluster::builder().hba(Hba::Scram).start();
    cluster.create_role("bob", Some("builder"));
    let proxy =
        Proxy::before(cluster.address()).with(|settings| settings.auth.method = AuthMethod::PassThrough).start();
    let bob = [("user", "bob"), ("database", "postgres")];
    let refused = RawClient::try_login(proxy.address(), &bob, "wrong").unwrap_err();
    assert_eq!(refused.code(), "28P01", "{refused:?}");
    let mut client = RawClient::login_with(proxy.address(), &bob, "builder");
    assert_eq!(client.query("select current_user").value(), "bob");
    assert!(RawClient::try_login(proxy.address(), &bob, "wrong").is_err(), "a login that worked opens no door");
}
