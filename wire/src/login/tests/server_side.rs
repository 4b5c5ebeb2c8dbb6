//! The server's side: what clients may and may not say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl;

use super::*;
use crate::error::Sqlstate;
use crate::startup::{GSSENC_REQUEST, SSL_REQUEST};
use crate::tag::{Backend, Frontend};

fn packet(code: u32) -> Vec<u8> {
    [8u32.to_be_bytes(), code.to_be_bytes()].concat()
}

fn fed(method: Method, flights: &[&[u8]]) -> Server {
    let mut server = Server::new(method);
    flights.iter().for_each(|flight| server.feed(flight));
    server
}

fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client_says::sasl_initial_response(&mut out, mechanism, data).unwrap();
    out
}

fn response(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client_says::sasl_response(&mut out, data).unwrap();
    out
}

/// Bodies of the server's messages.
fn bodies(server: &Server) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &server.out[..];
    std::iter::from_fn(|| frame::next(&mut rest, 10_000).unwrap().map(|f| (f.tag, f.body().to_vec()))).collect()
}

#[test]
fn our_client_logs_in_to_our_server_by_every_method() {
    for method in METHODS {
        let (_, server, outcome) = converse(USER, password(PASSWORD), Server::new(method));
        assert_eq!(outcome, Ok(true), "{method:?}");
        let logged_in = server.logged_in();
        assert_eq!((logged_in.user(), logged_in.version()), (USER, ProtocolVersion::V3_0));
        match (method, logged_in.proof()) {
            (Method::Trust, Proof::Trusted) | (Method::Md5, Proof::Md5) => {}
            (Method::Cleartext, Proof::Password(learned)) => assert_eq!(&learned[..], PASSWORD),
            (Method::Scram, Proof::Scram(learned)) => assert_eq!(learned.client_key, keys(PASSWORD).client_key),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wrong_password_is_refused_by_every_method() {
    for method in [Method::Cleartext, Method::Md5, Method::Scram] {
        let (_, server, outcome) = converse(USER, password(b"pen"), Server::new(method));
        assert_eq!(outcome, Ok(false), "{method:?}");
        assert_eq!(server.failure(), &Error::PasswordFailed { user: "ann".into() });
        assert_eq!(server.failure().sqlstate(), Sqlstate::INVALID_PASSWORD);
    }
}

#[test]
fn the_keys_learned_from_a_client_log_in_where_the_verifier_is_the_same() {
    let (_, server, _) = converse(USER, password(PASSWORD), Server::new(Method::Scram));
    let Some(Stand::LoggedIn(logged_in)) = server.stand else { panic!("not logged in") };
    let Proof::Scram(keys) = logged_in.into_proof() else { panic!("no keys") };
    let (_, _, outcome) = converse(USER, ClientSecret::ScramKeys { keys, nonce: NONCE }, Server::new(Method::Scram));
    assert_eq!(outcome, Ok(true));
    let wrong = ClientSecret::ScramKeys { keys: keys_of_another(), nonce: NONCE };
    assert_eq!(converse(USER, wrong, Server::new(Method::Scram)).2, Ok(false));
}

fn keys_of_another() -> ScramKeys {
    keys(b"another")
}

#[test]
fn an_independent_client_logs_in_by_scram() {
    for (given, right) in [(PASSWORD, true), (b"pencil ", false)] {
        let mut theirs = sasl::ScramSha256::new(given, sasl::ChannelBinding::unsupported());
        let first = sasl_initial("SCRAM-SHA-256", theirs.message());
        let mut server = fed(Method::Scram, &[&startup(USER), &first]);
        theirs.update(&bodies(&server)[1].1[4..]).unwrap();
        server.feed(&response(theirs.message()));
        if right {
            assert_eq!(server.logged_in().user(), USER);
            theirs.finish(&bodies(&server)[2].1[4..]).expect("our signature holds");
        } else {
            assert_eq!(server.failure(), &Error::PasswordFailed { user: "ann".into() });
        }
    }
}

#[test]
fn unknown_users_look_like_known_ones() {
    for method in [Method::Cleartext, Method::Md5, Method::Scram] {
        let shape = |user: &[u8], given: &[u8]| {
            let (flights, server, outcome) = converse(user, password(given), Server::new(method));
            assert_eq!(outcome, Ok(false), "{method:?}");
            let told = server.failure().to_string().replace(std::str::from_utf8(user).unwrap(), "?");
            let sizes: Vec<_> = bodies(&server).iter().map(|(tag, body)| (*tag, body.len())).collect();
            (flights.len(), told, sizes)
        };
        assert_eq!(shape(USER, b"wrong"), shape(b"bob", b"wrong"), "{method:?}");
    }
    let salt = |user: &[u8]| {
        let server = fed(Method::Scram, &[&startup(user), &sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc")]);
        bodies(&server)[1].1.clone()
    };
    assert_eq!(salt(b"bob"), salt(b"bob"), "asked twice, the same salt");
    assert_ne!(salt(b"bob"), salt(b"eve"));
}

#[test]
fn encryption_is_refused_once_each_and_the_login_goes_on() {
    let server = fed(Method::Trust, &[&packet(GSSENC_REQUEST), &packet(SSL_REQUEST), &startup(USER)]);
    assert!(server.out.starts_with(b"NN"));
    assert_eq!(server.logged_in().user(), USER);
    for code in [GSSENC_REQUEST, SSL_REQUEST] {
        let twice = fed(Method::Trust, &[&packet(code), &packet(code)]);
        assert_eq!(twice.failure(), &Error::RepeatedEncryptionRequest);
    }
}

#[test]
fn bytes_before_the_handshake_are_refused() {
    for code in [GSSENC_REQUEST, SSL_REQUEST] {
        for behind in [&b"\0"[..], &startup(USER)] {
            let server = fed(Method::Trust, &[&[&packet(code)[..], behind].concat()]);
            assert_eq!(server.failure(), &Error::BytesBeforeEncryption);
            assert!(server.out.is_empty(), "no answer either");
        }
    }
}

#[test]
fn over_tls_no_encryption_is_asked_for() {
    let mut out = Vec::new();
    let bytes = packet(SSL_REQUEST);
    let opening = frame::opening(&bytes).unwrap().unwrap();
    let Ok(Opened::Tls(asked)) = AwaitStartup::new().receive(&opening, 0, &mut out) else { panic!("no request") };
    asked.accept(&mut out);
    assert_eq!(out, b"S");
    let again = AwaitStartup::over_tls().receive(&opening, 0, &mut out);
    assert!(matches!(again, Err(Error::RepeatedEncryptionRequest)));
}

#[test]
fn a_cancel_request_is_never_answered() {
    let mut bytes = Vec::new();
    client_says::cancel_request(&mut bytes, 7, &[1; 32]).unwrap();
    let server = fed(Method::Scram, &[&bytes]);
    assert!(matches!(server.stand, Some(Stand::Cancelled)));
    assert!(server.out.is_empty());
}

/// The trap of CVE-2026-107350: somebody else's name put in while the exchange runs. In the types there is no step that
/// takes it; on the wire its first byte is read as a message type that cannot come.
#[test]
fn a_second_startup_message_inside_the_exchange_is_refused() {
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    for flights in [vec![startup(USER), startup(b"eve")], vec![startup(USER), first, startup(b"eve")]] {
        let flights: Vec<_> = flights.iter().map(Vec::as_slice).collect();
        let server = fed(Method::Scram, &flights);
        assert!(matches!(server.failure(), Error::Unexpected { .. }), "{:?}", server.stand);
    }
}

#[test]
fn a_client_of_a_newer_protocol_is_told_before_it_is_challenged() {
    let mut bytes = startup(USER);
    bytes[7] = 9;
    let server = fed(Method::Scram, &[&bytes]);
    let tags: Vec<_> = bodies(&server).iter().map(|(tag, _)| Backend::from_byte(*tag)).collect();
    assert_eq!(tags, [Some(Backend::NegotiateProtocolVersion), Some(Backend::Authentication)]);
}

#[test]
fn lengths_before_login_are_refused_at_once() {
    for length in [0u32, 3, 7, 10_001, 0x8000_0000, u32::MAX] {
        assert!(matches!(fed(Method::Scram, &[&length.to_be_bytes()]).failure(), Error::BadLength { .. }), "{length}");
    }
    for length in [0u32, 3, 65_540, 0x7fff_ffff, u32::MAX] {
        let head = [&[Frontend::Password.byte()][..], &length.to_be_bytes()].concat();
        let server = fed(Method::Scram, &[&startup(USER), &head]);
        assert!(matches!(server.failure(), Error::BadLength { .. }), "{length}");
    }
}

#[test]
fn a_password_message_is_one_string() {
    for body in [&b""[..], b"x", b"a\0b\0", b"pencil\0\0"] {
        let server = fed(Method::Cleartext, &[&startup(USER), &response(body)]);
        assert!(matches!(server.failure(), Error::Malformed { .. }), "{body:?}");
    }
    let empty = fed(Method::Cleartext, &[&startup(USER), &response(b"\0")]);
    assert!(matches!(empty.failure(), Error::PasswordFailed { .. }));
}

#[test]
fn broken_first_scram_messages_are_refused() {
    let long = [b"n,,n=,r=", &[b'a'; MAX_SASL][..]].concat();
    for data in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r=",
        b"n,,r=abc,n=",
        b"x,,n=,r=abc",
        b",,n=,r=abc",
        b"n,a=bob,n=,r=abc",
        b"n,,m=ext,n=,r=abc",
        b"n,,n=,r=a\0c",
        b"n,,n=,r=a c",
        b"n,,n=,r=a\xffc",
        b"nn,,n=,r=abc",
        &long,
    ] {
        let server = fed(Method::Scram, &[&startup(USER), &sasl_initial("SCRAM-SHA-256", data)]);
        assert!(matches!(server.failure(), Error::Malformed { .. }), "{data:?}: {:?}", server.stand);
    }
    for body in [
        &b""[..],
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
        b"SCRAM-SHA-256\0\0\0\0\x09n,,",
    ] {
        let server = fed(Method::Scram, &[&startup(USER), &response(body)]);
        assert!(matches!(server.failure(), Error::Malformed { .. }), "{body:?}");
    }
}

#[test]
fn only_the_mechanism_offered_is_accepted() {
    for mechanism in ["", "PLAIN", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS"] {
        let server = fed(Method::Scram, &[&startup(USER), &sasl_initial(mechanism, b"n,,n=,r=abc")]);
        assert_eq!(server.failure(), &Error::UnknownMechanism, "{mechanism}");
    }
}

#[test]
fn channel_binding_is_honoured_where_there_is_tls_and_refused_where_there_is_none() {
    let bound = || ChannelBinding::TlsServerEndPoint(b"digest".to_vec());
    for (binding, mechanism, flag, fine) in [
        (ChannelBinding::None, "SCRAM-SHA-256", "n", true),
        (ChannelBinding::None, "SCRAM-SHA-256", "y", true),
        (ChannelBinding::None, "SCRAM-SHA-256", "p=tls-server-end-point", false),
        (ChannelBinding::None, "SCRAM-SHA-256", "p=tls-unique", false),
        (bound(), "SCRAM-SHA-256", "n", true),
        (bound(), "SCRAM-SHA-256", "y", false),
        (bound(), "SCRAM-SHA-256", "p=tls-server-end-point", false),
        (bound(), "SCRAM-SHA-256-PLUS", "p=tls-server-end-point", true),
        (bound(), "SCRAM-SHA-256-PLUS", "p=tls-unique", false),
        (bound(), "SCRAM-SHA-256-PLUS", "n", false),
    ] {
        let mut server = Server { binding, ..Server::new(Method::Scram) };
        server.feed(&startup(USER));
        server.feed(&sasl_initial(mechanism, format!("{flag},,n=,r=abc").as_bytes()));
        match &server.stand {
            Some(Stand::Final(_)) => assert!(fine, "{mechanism} {flag}"),
            Some(Stand::Failed(Error::ChannelBinding(_))) => assert!(!fine, "{mechanism} {flag}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_independent_client_logs_in_with_channel_binding() {
    for (digest, right) in [(&b"digest"[..], true), (b"of somebody in between", false)] {
        let binding = ChannelBinding::TlsServerEndPoint(b"digest".to_vec());
        let mut theirs = sasl::ScramSha256::new(PASSWORD, sasl::ChannelBinding::tls_server_end_point(digest.to_vec()));
        let mut server = Server { binding, ..Server::new(Method::Scram) };
        server.feed(&startup(USER));
        server.feed(&sasl_initial("SCRAM-SHA-256-PLUS", theirs.message()));
        theirs.update(&bodies(&server)[1].1[4..]).unwrap();
        server.feed(&response(theirs.message()));
        match &server.stand {
            Some(Stand::LoggedIn(_)) => assert!(right),
            Some(Stand::Failed(Error::ChannelBinding(_))) => assert!(!right),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn broken_last_scram_messages_are_refused() {
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    let nonce = format!("abc{}", STANDARD.encode([9; 18]));
    let proof = STANDARD.encode([0; 32]);
    let long = format!("c=biws,r={nonce},x={},p={proof}", "a".repeat(MAX_SASL));
    for (data, wrong_password) in [
        (format!("c=biws,r={nonce},p={proof}"), true),
        (format!("c=biws,r={nonce},x=ignored,p={proof}"), true),
        (format!("c=biws,r={nonce},p="), false),
        (format!("c=biws,r={nonce},p=AAAA"), false),
        (format!("c=biws,r={nonce},p={proof},"), false),
        (format!("c=biws,r={nonce}x,p={proof}"), false),
        (format!("c=biws,r=abc,p={proof}"), false),
        (format!("r={nonce},c=biws,p={proof}"), false),
        (format!("c=biws,p={proof}"), false),
        (format!("p={proof}"), false),
        (format!(",p={proof}"), false),
        (String::new(), false),
        ("c=biws\0".into(), false),
        (long, false),
    ] {
        let server = fed(Method::Scram, &[&startup(USER), &first, &response(data.as_bytes())]);
        match server.failure() {
            Error::PasswordFailed { .. } => assert!(wrong_password, "{data}"),
            Error::Malformed { .. } => assert!(!wrong_password, "{data}"),
            other => panic!("{data}: {other:?}"),
        }
    }
    let other_binding = format!("c=eSws,r={nonce},p={proof}");
    let server = fed(Method::Scram, &[&startup(USER), &first, &response(other_binding.as_bytes())]);
    assert!(matches!(server.failure(), Error::ChannelBinding(_)));
}

#[test]
fn a_user_name_is_made_printable_in_the_refusal() {
    let (_, server, _) = converse(b"a\nb\xff", password(b"x"), Server::new(Method::Md5));
    assert_eq!(server.failure(), &Error::PasswordFailed { user: "a\u{fffd}b\u{fffd}".into() });
}
