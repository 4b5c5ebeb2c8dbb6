use bytes::BytesMut;
use postgres_protocol::message::{backend as independent, frontend as peer};

use super::*;
use crate::error::Peer;
use crate::frame;
use crate::startup::ProtocolVersion;
use crate::tag::{Target, TransactionStatus};
use crate::view::Notification;

/// What one builder appends, behind bytes that must stay as they are.
fn said(build: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    build(&mut out).expect("it can be said");
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

/// Reads one message with postgres-protocol, which must take all of it.
fn read(bytes: &[u8]) -> independent::Message {
    let mut buffer = BytesMut::from(bytes);
    let message = independent::Message::parse(&mut buffer).expect("well formed").expect("whole");
    assert!(buffer.is_empty(), "one message and nothing behind it");
    message
}

#[test]
fn an_independent_client_reads_what_we_say() {
    use independent::Message;
    let ok = |build: fn(&mut Vec<u8>)| {
        said(|out| {
            build(out);
            Ok(())
        })
    };
    assert!(matches!(read(&ok(backend::authentication_ok)), Message::AuthenticationOk));
    assert!(matches!(read(&ok(backend::authentication_cleartext_password)), Message::AuthenticationCleartextPassword));
    assert!(matches!(read(&ok(backend::parse_complete)), Message::ParseComplete));
    assert!(matches!(read(&ok(backend::bind_complete)), Message::BindComplete));
    assert!(matches!(read(&ok(backend::close_complete)), Message::CloseComplete));
    assert!(matches!(read(&ok(backend::no_data)), Message::NoData));
    assert!(matches!(read(&ok(backend::portal_suspended)), Message::PortalSuspended));
    let none = ok(backend::no_parameters);
    assert!(matches!(read(&none), Message::ParameterDescription(_)));
    assert_eq!(none[5..], [0, 0], "it counts none");
    assert!(matches!(read(&ok(backend::empty_query_response)), Message::EmptyQueryResponse));
    match read(&ok(|out| backend::authentication_md5_password(out, [1, 2, 3, 4]))) {
        Message::AuthenticationMd5Password(body) => assert_eq!(body.salt(), [1, 2, 3, 4]),
        _ => panic!("another message"),
    }
    match read(&ok(|out| backend::ready_for_query(out, TransactionStatus::Failed))) {
        Message::ReadyForQuery(body) => assert_eq!(body.status(), TransactionStatus::Failed as u8),
        _ => panic!("another message"),
    }
    match read(&said(|out| backend::backend_key_data(out, 7, &[0, 0, 1, 2]))) {
        Message::BackendKeyData(body) => assert_eq!((body.process_id(), body.secret_key()), (7, 258)),
        _ => panic!("another message"),
    }
    match read(&said(|out| backend::parameter_status(out, b"TimeZone", b"UTC"))) {
        Message::ParameterStatus(body) => {
            assert_eq!((body.name().unwrap(), body.value().unwrap()), ("TimeZone", "UTC"))
        }
        _ => panic!("another message"),
    }
    match read(&said(|out| backend::command_complete(out, "SELECT 3"))) {
        Message::CommandComplete(body) => assert_eq!(body.tag().unwrap(), "SELECT 3"),
        _ => panic!("another message"),
    }
    for (build, expected) in [
        (backend::authentication_sasl_continue as fn(&mut Vec<u8>, &[u8]) -> Result<()>, 11u32),
        (backend::authentication_sasl_final, 12),
    ] {
        let bytes = said(|out| build(out, b"data"));
        assert_eq!((&bytes[5..9], &bytes[9..]), (&expected.to_be_bytes()[..], &b"data"[..]));
        assert!(matches!(read(&bytes), Message::AuthenticationSaslContinue(_) | Message::AuthenticationSaslFinal(_)));
    }
}

#[test]
fn rows_of_our_own_have_the_bytes_of_the_protocol() {
    let columns = [backend::Column::text("name"), backend::Column::bigint("n")];
    let bytes = said(|out| backend::row_description(out, &columns));
    assert_eq!(
        &bytes[7..],
        b"name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0n\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0"
    );
    read(&bytes);
    let binary = said(|out| backend::row_description(out, &[backend::Column { binary: true, ..columns[1] }]));
    assert_eq!(&binary[binary.len() - 2..], [0, 1]);
    let row = said(|out| backend::data_row(out, &[Some(b"a"), None, Some(b"")]));
    assert_eq!(&row[5..], b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0");
    read(&row);
}

#[test]
fn a_negotiation_names_the_version_and_the_options() {
    let bytes = said(|out| backend::negotiate_protocol_version(out, ProtocolVersion::V3_2, &[b"_pq_.a", b"_pq_.b"]));
    assert_eq!(&bytes[1..], b"\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0");
}

#[test]
fn a_report_has_severity_code_message_detail_and_hint() {
    let report = Report::new(Severity::Fatal, Sqlstate::TOO_MANY_CONNECTIONS, "too many clients")
        .detail("limit 5")
        .hint("raise max_clients");
    let mut out = Vec::new();
    backend::error_response(&mut out, &report);
    assert_eq!(&out[5..], b"SFATAL\0VFATAL\0C53300\0Mtoo many clients\0Dlimit 5\0Hraise max_clients\0\0");
    backend::notice_response(&mut out, &Report::new(Severity::Notice, Sqlstate::SUCCESS, "hello"));
    let mut rest = &out[..];
    frame::next(&mut rest, 1_000).unwrap().unwrap();
    let notice = frame::next(&mut rest, 1_000).unwrap().unwrap();
    assert_eq!(ErrorFields::new(notice.body()).message(), "hello");
    assert_eq!(ErrorFields::new(notice.body()).detail(), None);
    assert!(rest.is_empty());
}

#[test]
fn a_report_can_always_be_said() {
    let long = "é".repeat(MAX_REPORT_FIELD);
    let report = Report::new(Severity::Error, Sqlstate::INTERNAL_ERROR, "a\0b").detail(long).hint("");
    let mut out = Vec::new();
    backend::error_response(&mut out, &report);
    let mut rest = &out[..];
    let frame = frame::next(&mut rest, 10_000).unwrap().unwrap();
    let fields = ErrorFields::new(frame.body());
    assert_eq!(fields.message(), "a b");
    assert_eq!(fields.field(Field::Detail).unwrap().len(), MAX_REPORT_FIELD);
    assert!(!fields.detail().unwrap().contains('\u{fffd}'), "no character is cut");
    assert_eq!(fields.field(Field::Hint), Some(&b""[..]));
}

#[test]
fn a_client_hears_its_own_mistakes_and_nothing_of_the_servers() {
    let own = Report::of(&Error::Malformed { by: Peer::Client, message: "Bind", problem: "it is short" });
    assert_eq!((own.sqlstate.as_str(), own.message.as_str()), ("08P01", "malformed Bind from the client: it is short"));
    let servers = Report::of(&Error::Malformed { by: Peer::Server, message: "Secret", problem: "it is short" });
    assert_eq!(servers.sqlstate.as_str(), "08001");
    assert!(!format!("{servers:?}").contains("Secret"));
    assert_eq!(Report::of(&Error::NoPassword).sqlstate.as_str(), "XX000");
}

#[test]
fn an_error_is_rewritten_and_the_rest_passes_byte_for_byte() {
    let body = b"SERROR\0VERROR\0C26000\0Mno statement \"pw_7\"\0Fprepare.c\0zunknown\xff\0\0";
    let changes = [
        (Field::Message, Some(&b"no statement \"mine\""[..])),
        (Field::File, None),
        (Field::Hint, Some(b"prepare it")),
        (Field::Detail, None),
    ];
    let bytes = said(|out| rewrite_error(out, body, &changes));
    assert_eq!(&bytes[5..], b"SERROR\0VERROR\0C26000\0Mno statement \"mine\"\0zunknown\xff\0Hprepare it\0\0");
    assert_eq!(&said(|out| rewrite_error(out, body, &[]))[5..], body);
    assert_eq!(&said(|out| rewrite_error(out, b"", &[]))[5..], b"\0");
}

#[test]
fn what_cannot_be_said_leaves_the_buffer_as_it_was() {
    let check = |expected: Error, build: &dyn Fn(&mut Vec<u8>) -> Result<()>| {
        let mut out = b"before".to_vec();
        assert_eq!(build(&mut out), Err(expected));
        assert_eq!(out, b"before");
    };
    check(Error::NulByte("a query"), &|out| frontend::query(out, b"select '\0'"));
    check(Error::NulByte("the name of a statement"), &|out| frontend::parse(out, b"a\0", b"", &[]));
    check(Error::NulByte("the value of a parameter"), &|out| backend::parameter_status(out, b"a", b"\0"));
    check(Error::NulByte("a field of an error"), &|out| {
        rewrite_error(out, b"MX\0\0", &[(Field::Message, Some(b"\0"))])
    });
    check(Error::NulByte("a password"), &|out| frontend::password_message(out, b"a\0b"));
    check(Error::TooLarge("a cancel key"), &|out| backend::backend_key_data(out, 1, &[0; 257]));
    check(Error::TooLarge("a cancel request"), &|out| frontend::cancel_request(out, 1, &[0; 257]));
    check(Error::TooLarge("a row"), &|out| backend::data_row(out, &vec![None; 32_768]));
    check(Error::TooLarge("a startup message"), &|out| {
        frontend::startup_message(out, ProtocolVersion::V3_0, [(&b"user"[..], &[b'a'; 9_990][..])])
    });
    check(Error::BadSetting { name: String::new(), problem: "its name is empty" }, &|out| {
        frontend::startup_message(out, ProtocolVersion::V3_0, [(&b""[..], &b"x"[..])])
    });
}

#[test]
fn we_say_what_an_independent_client_says() {
    let theirs = |build: &dyn Fn(&mut BytesMut)| {
        let mut buffer = BytesMut::new();
        build(&mut buffer);
        buffer.to_vec()
    };
    let bare = |build: fn(&mut Vec<u8>)| {
        said(|out| {
            build(out);
            Ok(())
        })
    };
    assert_eq!(bare(frontend::sync), theirs(&|b| peer::sync(b)));
    assert_eq!(bare(frontend::flush), theirs(&|b| peer::flush(b)));
    assert_eq!(bare(frontend::terminate), theirs(&|b| peer::terminate(b)));
    assert_eq!(bare(frontend::ssl_request), theirs(&|b| peer::ssl_request(b)));
    assert_eq!(said(|out| frontend::query(out, b"select 1")), theirs(&|b| peer::query("select 1", b).unwrap()));
    assert_eq!(
        said(|out| frontend::parse(out, b"s", b"select $1", &[23, 0])),
        theirs(&|b| peer::parse("s", "select $1", [23, 0], b).unwrap())
    );
    assert_eq!(
        said(|out| frontend::describe(out, Target::Statement, b"s")),
        theirs(&|b| peer::describe(Target::Statement as u8, "s", b).unwrap())
    );
    assert_eq!(
        said(|out| frontend::close(out, Target::Portal, b"p")),
        theirs(&|b| peer::close(Target::Portal as u8, "p", b).unwrap())
    );
    assert_eq!(said(|out| frontend::execute(out, b"p", 5)), theirs(&|b| peer::execute("p", 5, b).unwrap()));
    assert_eq!(
        said(|out| frontend::password_message(out, b"pw")),
        theirs(&|b| peer::password_message(b"pw", b).unwrap())
    );
    assert_eq!(
        said(|out| frontend::sasl_initial_response(out, "SCRAM-SHA-256", b"n,,")),
        theirs(&|b| peer::sasl_initial_response("SCRAM-SHA-256", b"n,,", b).unwrap())
    );
    assert_eq!(said(|out| frontend::sasl_response(out, b"x")), theirs(&|b| peer::sasl_response(b"x", b).unwrap()));
    assert_eq!(
        said(|out| frontend::cancel_request(out, 7, &9u32.to_be_bytes())),
        theirs(&|b| peer::cancel_request(7, 9, b))
    );
    assert_eq!(
        said(|out| frontend::bind(out, b"p", b"s", &[Some(b"1"), None])),
        b"B\0\0\0\x17p\0s\0\0\0\0\x02\0\0\0\x011\xff\xff\xff\xff\0\0"
    );
}

#[test]
fn a_startup_message_of_ours_is_read_back() {
    let bytes = said(|out| {
        frontend::startup_message(
            out,
            ProtocolVersion::V3_2,
            [(&b"user"[..], &b"ann"[..]), (b"database", b"shop"), (b"application_name", b"")],
        )
    });
    let opening = frame::opening(&bytes).unwrap().unwrap();
    let crate::startup::FirstMessage::Startup(message) = crate::startup::parse(&opening).unwrap() else {
        panic!("another message")
    };
    assert_eq!((message.minor, message.user, message.database), (2, &b"ann"[..], &b"shop"[..]));
    assert_eq!(message.setting("application_name"), Some(&b""[..]));
}

#[test]
fn notifications_are_read_as_they_were_written() {
    for payload in [&b""[..], b"x", &[b'y'; 7999]] {
        let notification = Notification { process: 4711, channel: b"Foo bar", payload };
        let mut out = vec![1];
        backend::notification_response(&mut out, &notification).unwrap();
        let mut bytes = &out[1..];
        let message = frame::next(&mut bytes, frame::MAX_BODY).unwrap().unwrap();
        assert_eq!((message.tag, Notification::read(message.body()).unwrap()), (b'A', notification));
    }
    let mut out = vec![1];
    let unsayable = Notification { process: 1, channel: b"a\0b", payload: b"" };
    assert!(backend::notification_response(&mut out, &unsayable).is_err());
    assert_eq!(out, [1]);
}
