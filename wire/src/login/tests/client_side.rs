//! The client's side: what servers may and may not say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::encode::backend as server_says;
use crate::error::{Fault, Peer, Sqlstate};
use crate::frame::Frame;
use crate::tag::{Backend, TransactionStatus};

/// What came of a login that was fed these bytes.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done(Established),
    Refused(Sqlstate, String),
    Failed(Error),
    /// More is awaited; what was sent since the StartupMessage.
    Awaits(Vec<u8>),
}

fn run(secret: ClientSecret, version: ProtocolVersion, bytes: &[u8]) -> Outcome {
    let mut sent = Vec::new();
    let database = [(&b"database"[..], &b"shop"[..])];
    let mut login = ClientLogin::start(USER, database, secret, version, &mut sent).unwrap();
    sent.clear();
    let mut rest = bytes;
    while let Some(frame) = client::next_message(&mut rest).unwrap() {
        login = match login.receive(frame, &mut sent) {
            Ok(ClientStep::Continue(login)) => login,
            Ok(ClientStep::Done(established)) => return Outcome::Done(*established),
            Ok(ClientStep::Refused(fields)) => return Outcome::Refused(fields.sqlstate(), fields.message().into()),
            Err(error) => return Outcome::Failed(error),
        };
    }
    Outcome::Awaits(sent)
}

fn run_3_0(secret: ClientSecret, bytes: &[u8]) -> Outcome {
    run(secret, ProtocolVersion::V3_0, bytes)
}

fn message(tag: Backend, body: &[u8]) -> Vec<u8> {
    [&[tag.byte()][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn authentication(kind: u32, data: &[u8]) -> Vec<u8> {
    message(Backend::Authentication, &[&kind.to_be_bytes()[..], data].concat())
}

fn ok() -> Vec<u8> {
    authentication(0, b"")
}

fn ready() -> Vec<u8> {
    message(Backend::ReadyForQuery, b"I")
}

fn failure(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_server_reports_is_kept() {
    let mut bytes = ok();
    server_says::parameter_status(&mut bytes, b"server_version", b"15.8").unwrap();
    server_says::parameter_status(&mut bytes, b"TimeZone", b"UTC").unwrap();
    server_says::notice_response(
        &mut bytes,
        &crate::encode::Report::new(crate::encode::Severity::Notice, Sqlstate::SUCCESS, "welcome"),
    );
    server_says::parameter_status(&mut bytes, b"TimeZone", b"GMT").unwrap();
    server_says::backend_key_data(&mut bytes, 4_242, &[1; 32]).unwrap();
    server_says::ready_for_query(&mut bytes, TransactionStatus::Idle);
    let Outcome::Done(established) = run_3_0(ClientSecret::None, &bytes) else { panic!("not done") };
    let parameter = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    assert_eq!(established.parameters, [parameter(b"server_version", b"15.8"), parameter(b"TimeZone", b"GMT")]);
    assert_eq!(established.cancel_key, Some((4_242, vec![1; 32])));
    assert_eq!((established.version, established.status), (ProtocolVersion::V3_0, TransactionStatus::Idle));
    assert!(!format!("{established:?}").contains("1, 1"), "the key is not printed");
}

#[test]
fn a_server_without_cancel_keys_serves_too() {
    assert!(matches!(
        run_3_0(ClientSecret::None, &[ok(), ready()].concat()),
        Outcome::Done(Established { cancel_key: None, .. })
    ));
}

#[test]
fn passwords_are_answered_by_the_method_asked_for() {
    let mut md5 = Vec::new();
    client_says::password_message(&mut md5, &Md5Secret::from_password(USER, PASSWORD).response([1, 2, 3, 4])).unwrap();
    let stored = || ClientSecret::Md5(Md5Secret::from_password(USER, PASSWORD));
    let ask_md5 = authentication(5, &[1, 2, 3, 4]);
    assert_eq!(run_3_0(password(PASSWORD), &ask_md5), Outcome::Awaits(md5.clone()));
    assert_eq!(run_3_0(stored(), &ask_md5), Outcome::Awaits(md5));
    let mut clear = Vec::new();
    client_says::password_message(&mut clear, PASSWORD).unwrap();
    assert_eq!(run_3_0(password(PASSWORD), &authentication(3, b"")), Outcome::Awaits(clear));
}

#[test]
fn a_secret_that_does_not_fit_is_our_fault_and_is_not_sent() {
    let keys = || ClientSecret::ScramKeys { keys: keys(PASSWORD), nonce: NONCE };
    let md5 = || ClientSecret::Md5(Md5Secret::from_password(USER, PASSWORD));
    let sasl = authentication(10, b"SCRAM-SHA-256\0\0");
    for (secret, asked) in [
        (ClientSecret::None, authentication(3, b"")),
        (ClientSecret::None, authentication(5, &[0; 4])),
        (ClientSecret::None, sasl.clone()),
        (md5(), authentication(3, b"")),
        (md5(), sasl),
        (keys(), authentication(3, b"")),
        (keys(), authentication(5, &[0; 4])),
    ] {
        assert_eq!(failure(run_3_0(secret, &asked)).fault(), Fault::Us);
    }
}

#[test]
fn other_methods_are_refused_by_their_number() {
    for kind in [2, 6, 7, 8, 9, 11, 12, u32::MAX] {
        assert_eq!(
            failure(run_3_0(password(PASSWORD), &authentication(kind, b""))),
            Error::UnsupportedAuthentication(kind)
        );
    }
    for mechanisms in [&b""[..], b"\0", b"SCRAM-SHA-256-PLUS\0\0", b"OAUTHBEARER\0\0"] {
        let asked = authentication(10, mechanisms);
        assert_eq!(failure(run_3_0(password(PASSWORD), &asked)), Error::UnsupportedAuthentication(10));
    }
}

#[test]
fn an_error_response_ends_the_login_from_any_state() {
    let error = message(Backend::ErrorResponse, b"SFATAL\0C28P01\0Mno\0\0");
    let refused = Outcome::Refused(Sqlstate::INVALID_PASSWORD, "no".into());
    for before in [vec![], authentication(3, b""), authentication(10, b"SCRAM-SHA-256\0\0"), ok()] {
        assert_eq!(run_3_0(password(PASSWORD), &[before, error.clone()].concat()), refused);
    }
}

#[test]
fn an_error_response_without_sqlstate_is_read() {
    for (body, text) in
        [(&b""[..], "no message"), (b"\0", "no message"), (b"Msorry\0\0", "sorry"), (b"Msorry", "sorry")]
    {
        let refused = run_3_0(ClientSecret::None, &message(Backend::ErrorResponse, body));
        assert_eq!(refused, Outcome::Refused(Sqlstate::INTERNAL_ERROR, text.into()));
    }
}

#[test]
fn a_version_is_negotiated_downwards_only() {
    let negotiate = |version: u32, tail: &[u8]| {
        message(Backend::NegotiateProtocolVersion, &[&version.to_be_bytes()[..], tail].concat())
    };
    let v3_0 = ProtocolVersion::V3_0.number();
    let agreed = [negotiate(v3_0, &[0; 4]), ok(), ready()].concat();
    assert!(matches!(
        run(ClientSecret::None, ProtocolVersion::V3_2, &agreed),
        Outcome::Done(Established { version: ProtocolVersion::V3_0, .. })
    ));
    for bytes in [
        negotiate(v3_0 + 1, &[0; 4]),
        negotiate(v3_0 + 2, &[0; 4]),
        negotiate(v3_0 + 9, &[0; 4]),
        negotiate(2 << 16, &[0; 4]),
        negotiate(v3_0, b"\0\0\0\x01_pq_.a\0"),
        negotiate(v3_0, b""),
        [negotiate(v3_0, &[0; 4]), negotiate(v3_0, &[0; 4])].concat(),
    ] {
        assert!(matches!(failure(run(ClientSecret::None, ProtocolVersion::V3_2, &bytes)), Error::BadNegotiation(_)));
    }
    assert!(matches!(failure(run_3_0(ClientSecret::None, &negotiate(v3_0, &[0; 4]))), Error::BadNegotiation(_)));
    assert!(matches!(failure(run_3_0(ClientSecret::None, &negotiate(0, b""))), Error::BadNegotiation(_)));
    let late = [ok(), negotiate(v3_0, &[0; 4])].concat();
    assert!(matches!(failure(run(ClientSecret::None, ProtocolVersion::V3_2, &late)), Error::Unexpected { .. }));
}

#[test]
fn messages_out_of_order_are_refused() {
    let sasl = authentication(10, b"SCRAM-SHA-256\0\0");
    for bytes in [
        ready(),
        message(Backend::ParameterStatus, b"a\0b\0"),
        message(Backend::BackendKeyData, &[0; 8]),
        message(Backend::DataRow, b"\0\0"),
        [ok(), ok()].concat(),
        [ok(), message(Backend::DataRow, b"\0\0")].concat(),
        [authentication(3, b""), ready()].concat(),
        [authentication(3, b""), authentication(3, b"")].concat(),
        [sasl.clone(), message(Backend::ParameterStatus, b"a\0b\0")].concat(),
        vec![b'?', 0, 0, 0, 4],
    ] {
        assert!(matches!(failure(run_3_0(password(PASSWORD), &bytes)), Error::Unexpected { by: Peer::Server, .. }));
    }
    // A server that skips its own proof.
    assert!(matches!(failure(run_3_0(password(PASSWORD), &[sasl, ok()].concat())), Error::BadScramServer(_)));
}

#[test]
fn malformed_messages_are_refused() {
    for bytes in [
        message(Backend::Authentication, b""),
        message(Backend::Authentication, b"\0\0\0"),
        authentication(0, b"x"),
        authentication(3, b"x"),
        authentication(5, b""),
        authentication(5, &[0; 5]),
        [ok(), message(Backend::ParameterStatus, b"")].concat(),
        [ok(), message(Backend::ParameterStatus, b"a\0b")].concat(),
        [ok(), message(Backend::ParameterStatus, b"a\0b\0c")].concat(),
        [ok(), message(Backend::BackendKeyData, &[0; 7])].concat(),
        [ok(), message(Backend::BackendKeyData, &[0; 261])].concat(),
        [ok(), message(Backend::BackendKeyData, &[0; 8]), message(Backend::BackendKeyData, &[0; 8])].concat(),
        [ok(), message(Backend::ReadyForQuery, b"")].concat(),
        [ok(), message(Backend::ReadyForQuery, b"II")].concat(),
        [ok(), message(Backend::ReadyForQuery, b"?")].concat(),
    ] {
        assert!(matches!(failure(run_3_0(password(PASSWORD), &bytes)), Error::Malformed { by: Peer::Server, .. }));
    }
}

#[test]
fn a_talkative_server_is_cut_off() {
    let notices = message(Backend::NoticeResponse, b"Mhi\0\0").repeat(client::MAX_MESSAGES + 1);
    assert!(matches!(failure(run_3_0(ClientSecret::None, &notices)), Error::TooMany { .. }));
    let mut parameters = ok();
    for i in 0..30 {
        server_says::parameter_status(&mut parameters, format!("p{i}").as_bytes(), &[b'x'; 4_000]).unwrap();
    }
    assert!(matches!(failure(run_3_0(ClientSecret::None, &parameters)), Error::TooMany { .. }));
    let same = message(Backend::ParameterStatus, b"TimeZone\0UTC\0").repeat(300);
    assert!(matches!(run_3_0(ClientSecret::None, &[ok(), same, ready()].concat()),
        Outcome::Done(Established { parameters, .. }) if parameters.len() == 1));
    let mut out = Vec::new();
    let login = ClientLogin::start(USER, [], ClientSecret::None, ProtocolVersion::V3_0, &mut out).unwrap();
    let huge = message(Backend::ErrorResponse, &vec![b'M'; MAX_SERVER_BODY + 1]);
    let frame = Frame { tag: huge[0], bytes: &huge };
    assert!(matches!(login.receive(frame, &mut out), Err(Error::Malformed { .. })), "even unbounded by the framer");
}

/// Starts a SCRAM exchange and answers our first message by what `reply` makes of our nonce.
fn scram(secret: ClientSecret, reply: impl FnOnce(&str) -> (u32, String)) -> Result<ClientLogin> {
    let mut sent = Vec::new();
    let login = ClientLogin::start(USER, [], secret, ProtocolVersion::V3_0, &mut sent)?;
    sent.clear();
    let asked = authentication(10, b"SCRAM-SHA-256\0\0");
    let ClientStep::Continue(login) = login.receive(Frame { tag: asked[0], bytes: &asked }, &mut sent)? else {
        panic!("it goes on")
    };
    let sent_text = String::from_utf8_lossy(&sent).into_owned();
    let nonce = sent_text.split_once("n=,r=").expect("a first message").1;
    let (step, text) = reply(nonce);
    let answer = authentication(step, text.as_bytes());
    match login.receive(Frame { tag: answer[0], bytes: &answer }, &mut sent)? {
        ClientStep::Continue(login) => Ok(login),
        other => panic!("{other:?}"),
    }
}

fn secrets() -> [ClientSecret; 2] {
    [password(PASSWORD), ClientSecret::ScramKeys { keys: keys(PASSWORD), nonce: NONCE }]
}

#[test]
fn a_hostile_first_scram_message_is_refused_before_it_costs_anything() {
    let salt = STANDARD.encode([1; 16]);
    for (case, fine) in [
        ("r={n}xyz,s={s},i=4096", true),
        ("r={n}x,s={s},i=1", true),
        ("r={n}x,s={s},i=100000", true),
        ("r={n}x,s={s},i=100001", false),
        ("r={n}x,s={s},i=4294967295", false),
        ("r={n}x,s={s},i=99999999999999999999", false),
        ("r={n}x,s={s},i=0", false),
        ("r={n}x,s={s},i=-1", false),
        ("r={n}x,s={s},i=", false),
        ("r={n}x,s={s}", false),
        ("r={n}x,s={s},i=1,x=y", false),
        ("r={n},s={s},i=4096", false),
        ("r=x{n},s={s},i=4096", false),
        ("r=,s={s},i=4096", false),
        ("r={n} x,s={s},i=4096", false),
        ("r={n}x,s=,i=4096", false),
        ("r={n}x,s=***,i=4096", false),
        ("m=ext,r={n}x,s={s},i=4096", false),
        ("e=other-error", false),
        ("", false),
        (",,,,,,,,", false),
    ] {
        for secret in secrets() {
            let outcome = scram(secret, |nonce| (11, case.replace("{n}", nonce).replace("{s}", &salt)));
            match outcome {
                Ok(_) => assert!(fine, "{case}"),
                Err(error) => assert!(!fine && matches!(error, Error::BadScramServer(_)), "{case}: {error:?}"),
            }
        }
    }
    for secret in secrets() {
        let long = |nonce: &str| (11, format!("r={nonce}{},s={salt},i=4096", "x".repeat(MAX_SASL)));
        assert_eq!(scram(secret, long).err(), Some(Error::BadScramServer("its first message is too long")));
    }
    for secret in secrets() {
        let skipped = scram(secret, |_| (12, "v=AAAA".into()));
        assert!(matches!(skipped, Err(Error::BadScramServer(_))));
    }
}

#[test]
fn a_server_that_does_not_know_the_password_is_found_out() {
    let salt = STANDARD.encode([1; 16]);
    let long = format!("v={}", "A".repeat(MAX_SASL));
    let wrong = format!("v={}", STANDARD.encode([0; 32]));
    for last in [wrong.as_str(), "v=", "v=AAAA", "", "e=invalid-proof", "v=***", &long] {
        for secret in secrets() {
            let login = scram(secret, |nonce| (11, format!("r={nonce}x,s={salt},i=3"))).unwrap();
            let bytes = authentication(12, last.as_bytes());
            let outcome = login.receive(Frame { tag: bytes[0], bytes: &bytes }, &mut Vec::new());
            assert!(matches!(outcome, Err(Error::BadScramServer(_))), "{last}");
        }
    }
}

#[test]
fn a_login_that_cannot_be_started_says_why() {
    let start = |user: &[u8], name: &[u8]| {
        ClientLogin::start(user, [(name, &b"x"[..])], ClientSecret::None, ProtocolVersion::V3_0, &mut Vec::new()).err()
    };
    assert_eq!(start(b"a\0b", b"database"), Some(Error::NulByte("the value of a startup parameter")));
    assert!(matches!(start(b"a", b""), Some(Error::BadSetting { .. })));
    assert_eq!(start(&[b'a'; 10_000], b"x"), Some(Error::TooLarge("a startup message")));
}

#[test]
fn no_secret_is_printed() {
    for secret in
        [password(b"hunter2"), ClientSecret::Md5(Md5Secret::from_password(USER, b"hunter2")), ClientSecret::None]
    {
        let login = ClientLogin::start(USER, [], secret, ProtocolVersion::V3_0, &mut Vec::new()).unwrap();
        let printed = format!("{login:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("104, 117"), "{printed}");
    }
}

#[test]
fn only_one_byte_answers_the_request_for_tls() {
    assert_eq!(client::tls_answer(b""), Ok(None));
    assert_eq!(client::tls_answer(b"S"), Ok(Some(true)));
    assert_eq!(client::tls_answer(b"N"), Ok(Some(false)));
    for injected in [&b"SR\0\0\0\x08\0\0\0\0"[..], b"NR", b"SS"] {
        assert_eq!(client::tls_answer(injected), Err(Error::BytesBehindTlsAnswer));
    }
    for other in [&b"E\0\0\0\x05x"[..], b"H", b"\x15\x03\x01"] {
        assert!(matches!(client::tls_answer(other), Err(Error::Unexpected { by: Peer::Server, .. })));
    }
}

#[test]
fn a_required_binding_takes_nothing_less() {
    let start = |binding| {
        let login = ClientLogin::start(USER, [], password(b"pencil"), ProtocolVersion::V3_0, &mut Vec::new());
        login.unwrap().bound_to(binding)
    };
    let said = |binding, bytes: &[u8]| {
        let (mut rest, mut out) = (bytes, Vec::new());
        let frame = client::next_message(&mut rest).unwrap().unwrap();
        start(binding).receive(frame, &mut out).map(|_| out)
    };
    let data = || b"digest".to_vec();
    let (plain, plus) =
        (authentication(10, b"SCRAM-SHA-256\0\0"), authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
    for less in [&ok()[..], &authentication(3, b""), &authentication(5, b"salt"), &plain] {
        assert_eq!(said(Binding::Required(data()), less).err(), Some(Error::NoChannelBinding));
    }
    let holds = |said: Result<Vec<u8>>, words: &[u8]| said.unwrap().windows(words.len()).any(|part| part == words);
    assert!(holds(said(Binding::Required(data()), &plus), b"SCRAM-SHA-256-PLUS\0"));
    assert!(holds(said(Binding::Preferred(data()), &plus), b"p=tls-server-end-point,,n=,r="));
    assert!(holds(said(Binding::Preferred(data()), &plain), b"y,,n=,r="));
    assert!(holds(said(Binding::None, &plus), b"n,,n=,r="));
}
