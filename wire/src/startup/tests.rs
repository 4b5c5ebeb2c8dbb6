use super::*;
use crate::frame::opening;

/// A packet with this code and body.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn parsed(bytes: &[u8]) -> Result<FirstMessage<'_>> {
    parse(&opening(bytes).expect("length within bounds").expect("whole packet"))
}

fn startup_of(body: &'static [u8]) -> Result<StartupMessage<'static>> {
    let bytes = packet(ProtocolVersion::V3_0.number(), body).leak();
    match parsed(bytes)? {
        FirstMessage::Startup(message) => Ok(message),
        other => panic!("{other:?}"),
    }
}

fn settings_of(body: &'static [u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    startup_of(body).unwrap().settings.iter().map(|s| (s.name.to_string(), text(&s.value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn requests_are_told_apart_by_their_code() {
    assert_eq!(parsed(&packet(SSL_REQUEST, b"")), Ok(FirstMessage::SslRequest));
    assert_eq!(parsed(&packet(GSSENC_REQUEST, b"")), Ok(FirstMessage::GssEncRequest));
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        assert!(matches!(parsed(&packet(code, b"x")), Err(Error::Malformed { .. })));
    }
    assert!(is_direct_tls(0x16) && !is_direct_tls(0));
}

#[test]
fn cancel_keys_are_4_to_256_bytes() {
    for (length, fine) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false), (9_000, false)] {
        let mut body = 7u32.to_be_bytes().to_vec();
        body.extend(vec![9u8; length]);
        let bytes = packet(CANCEL_REQUEST, &body);
        match parsed(&bytes) {
            Ok(FirstMessage::Cancel(request)) => {
                assert!(fine);
                assert_eq!((request.process, request.key.len()), (7, length));
                assert!(!format!("{request:?}").contains('9'), "a key is not printed");
            }
            other => assert!(!fine, "{length}: {other:?}"),
        }
    }
    for short in [&b""[..], b"\0\0\0"] {
        assert!(parsed(&packet(CANCEL_REQUEST, short)).is_err());
    }
}

#[test]
fn a_plain_startup_message_is_read() {
    let message = startup_of(b"user\0ann\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0").unwrap();
    assert_eq!((message.user, message.database), (&b"ann"[..], &b"shop"[..]));
    assert_eq!(message.replication, Replication::No);
    assert_eq!(message.setting("Application_Name"), Some(&b"psql"[..]));
    assert_eq!(message.setting("search_path"), None);
}

#[test]
fn the_database_is_the_user_where_none_is_named() {
    assert_eq!(startup_of(b"user\0ann\0\0").unwrap().database, b"ann");
    assert_eq!(startup_of(b"user\0ann\0database\0\0\0").unwrap().database, b"ann");
}

#[test]
fn names_need_not_be_utf8() {
    let message = startup_of(b"user\0\xe9t\xe9\0application_name\0\xff\xfe\0\0").unwrap();
    assert_eq!(message.user, b"\xe9t\xe9");
    assert_eq!(message.setting("application_name"), Some(&b"\xff\xfe"[..]));
}

#[test]
fn broken_startup_messages_are_refused() {
    for (body, problem) in [
        (&b""[..], "it does not end with a NUL"),
        (b"user\0ann\0", "it does not end with a NUL"),
        (b"user\0ann", "it does not end with a NUL"),
        (b"user", "it does not end with a NUL"),
        (b"user\0", "it does not end with a NUL"),
        (b"user\0ann\0\0x", "bytes follow its terminator"),
        (b"user\0ann\0\0user\0bob\0\0", "bytes follow its terminator"),
    ] {
        let malformed = Error::Malformed { by: Peer::Client, message: "StartupMessage", problem };
        assert_eq!(startup_of(body), Err(malformed), "{body:?}");
    }
}

#[test]
fn a_user_is_needed() {
    for body in [&b"\0"[..], b"database\0x\0\0", b"user\0\0\0", b"USER\0ann\0\0"] {
        assert_eq!(startup_of(body), Err(Error::NoUser), "{body:?}");
    }
}

#[test]
fn who_logs_in_where_is_said_once() {
    for (body, name) in [
        (&b"user\0ann\0user\0bob\0\0"[..], "user"),
        (b"user\0ann\0database\0a\0database\0b\0\0", "database"),
        (b"user\0ann\0options\0\0options\0\0\0", "options"),
        (b"user\0ann\0replication\x000\0replication\x001\0\0", "replication"),
    ] {
        assert_eq!(startup_of(body), Err(Error::RepeatedParameter(name)));
    }
}

#[test]
fn of_a_repeated_setting_the_last_one_wins() {
    assert_eq!(
        settings_of(b"user\0a\0datestyle\0ISO\0TimeZone\0UTC\0DateStyle\0German\0\0"),
        pairs(&[("TimeZone", "UTC"), ("DateStyle", "German")])
    );
}

#[test]
fn replication_takes_a_boolean_or_database() {
    for (value, expected) in [
        ("database", Replication::Database),
        ("true", Replication::Physical),
        ("ON", Replication::Physical),
        ("y", Replication::Physical),
        ("1", Replication::Physical),
        ("off", Replication::No),
        ("f", Replication::No),
        ("0", Replication::No),
    ] {
        let body: &'static [u8] = format!("user\0a\0replication\0{value}\0\0").into_bytes().leak();
        assert_eq!(startup_of(body).unwrap().replication, expected, "{value}");
    }
    for value in ["", "o", "maybe", "truely", "2"] {
        let body: &'static [u8] = format!("user\0a\0replication\0{value}\0\0").into_bytes().leak();
        assert!(matches!(startup_of(body), Err(Error::BadSetting { .. })), "{value}");
    }
}

#[test]
fn drivers_startup_parameters_are_accepted() {
    assert_eq!(
        settings_of(
            b"user\0a\0extra_float_digits\x002\0search_path\0tenant_1,public\0statement_timeout\x005s\0app.tenant_id\x0042\0\0"
        ),
        pairs(&[
            ("extra_float_digits", "2"),
            ("search_path", "tenant_1,public"),
            ("statement_timeout", "5s"),
            ("app.tenant_id", "42")
        ])
    );
}

#[test]
fn options_are_split_as_the_server_splits_them() {
    for (options, expected) in [
        ("", &[][..]),
        ("  \t\n ", &[]),
        ("-c a=b", &[("a", "b")]),
        ("-ca=b", &[("a", "b")]),
        ("--d=e", &[("d", "e")]),
        ("-c a=b --c-d=e -c f=", &[("a", "b"), ("c_d", "e"), ("f", "")]),
        (r"-c search_path=a,\ b", &[("search_path", "a, b")]),
        (r"-c a=x\\y", &[("a", r"x\y")]),
        (r"-c a=\-\b", &[("a", "-b")]),
        ("-c a=b\\", &[("a", "b")]),
        ("-c a=b=c", &[("a", "b=c")]),
        ("-c a=1 -c A=2", &[("A", "2")]),
        (r"--app.tenant=caf\ é", &[("app.tenant", "caf é")]),
    ] {
        let body: &'static [u8] = format!("user\0u\0options\0{options}\0\0").into_bytes().leak();
        assert_eq!(settings_of(body), pairs(expected), "{options:?}");
    }
}

#[test]
fn a_parameter_overrides_the_same_setting_in_options() {
    assert_eq!(
        settings_of(b"user\0u\0datestyle\0SQL\0options\0-c DateStyle=ISO -c geqo=off\0\0"),
        pairs(&[("geqo", "off"), ("datestyle", "SQL")])
    );
}

/// The trap of CVE-2026-107349 first: an empty name in `options` span a core.
#[test]
fn options_with_an_empty_name_or_no_value_are_refused_and_do_not_loop() {
    for options in [
        "-c =",
        "-c =x",
        "-c\\ ",
        "-c\\ =",
        "-c",
        "-c -c",
        "-c a",
        "-ca",
        "--",
        "--=",
        "--=x",
        "--a",
        "-",
        "- c a=b",
        "a=b",
        "\\",
        "-\\",
        "-c \\",
        "-B 5",
        "-e",
        "-c a;b=c",
        "-c a'=c",
        "-c 1a=b",
        "-c a.=b",
        "-c .a=b",
        "-c a..b=c",
        "-c é=1",
    ] {
        let body: &'static [u8] = format!("user\0u\0options\0{options}\0\0").into_bytes().leak();
        assert!(matches!(startup_of(body), Err(Error::BadSetting { .. })), "{options:?}: {:?}", startup_of(body));
    }
}

#[test]
fn a_setting_name_can_be_written_into_a_set() {
    for name in ["a b", "a\"b", "a;drop", "é", "1a", "a-b", "a=b"] {
        let body: &'static [u8] = format!("user\0u\0{name}\0x\0\0").into_bytes().leak();
        assert!(matches!(startup_of(body), Err(Error::BadSetting { .. })), "{name}");
    }
}

/// A server would take these for who logs in, where settings are sent on in a StartupMessage.
#[test]
fn a_setting_cannot_be_named_as_who_logs_in() {
    for name in ["user", "User", "database", "DATABASE", "replication", "options", "_pq_.x", "_PQ_.x"] {
        for options in ["-c ", "--"] {
            let body: &'static [u8] = format!("user\0u\0options\0{options}{name}=x\0\0").into_bytes().leak();
            let error = startup_of(body).unwrap_err();
            assert_eq!(error, Error::ReservedSetting(name.to_owned()));
            assert_eq!(error.sqlstate(), crate::error::Sqlstate::UNDEFINED_OBJECT);
        }
    }
    // As parameters, in other letters than those that mean it.
    for name in ["USER", "Database", "Replication", "OPTIONS", "_PQ_.x"] {
        let body: &'static [u8] = format!("user\0u\0{name}\0x\0\0").into_bytes().leak();
        assert_eq!(startup_of(body).unwrap_err(), Error::ReservedSetting(name.to_owned()));
    }
    assert_eq!(settings_of(b"user\0u\0options\0-c user.name=x -c app.database=y\0\0").len(), 2);
}

#[test]
fn a_long_name_is_cut_in_the_complaint() {
    let body: &'static [u8] = format!("user\0u\0{}\0x\0\0", "é".repeat(3_000)).into_bytes().leak();
    match startup_of(body) {
        Err(Error::BadSetting { name, .. }) => assert_eq!(name.chars().count(), 64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_are_bounded() {
    let many = |count: usize, prefix: &str| -> &'static [u8] {
        let mut body = b"user\0u\0".to_vec();
        for i in 0..count {
            body.extend(format!("{prefix}s{i}\0v\0").into_bytes());
        }
        body.push(0);
        body.leak()
    };
    assert_eq!(startup_of(many(MAX_SETTINGS, "")).unwrap().settings.len(), MAX_SETTINGS);
    for prefix in ["", "_pq_."] {
        assert!(matches!(startup_of(many(MAX_SETTINGS + 1, prefix)), Err(Error::TooMany { .. })));
    }
}

#[test]
fn versions_are_negotiated() {
    use ProtocolVersion::{V3_0, V3_2};
    for (minor, agreed, must_answer) in
        [(0u16, V3_0, false), (1, V3_0, true), (2, V3_2, false), (3, V3_2, true), (9_999, V3_2, true)]
    {
        let bytes = packet(3 << 16 | u32::from(minor), b"user\0u\0\0");
        let Ok(FirstMessage::Startup(message)) = parsed(&bytes) else { panic!("{minor}") };
        assert_eq!(message.negotiate(), Negotiation { agreed, unknown: vec![], must_answer }, "3.{minor}");
    }
    assert_eq!((V3_0.longest_cancel_key(), V3_2.longest_cancel_key()), (4, 256));
}

#[test]
fn unknown_protocol_options_are_listed() {
    let message = startup_of(b"user\0u\0_pq_.a\0on\0x\x001\0_pq_.b\0\0\0").unwrap();
    let negotiation = message.negotiate();
    assert_eq!(negotiation.unknown, [b"_pq_.a", b"_pq_.b"]);
    assert_eq!((negotiation.agreed, negotiation.must_answer), (ProtocolVersion::V3_0, true));
}

#[test]
fn other_protocols_are_refused_by_name() {
    for (code, major, minor) in
        [(2 << 16, 2, 0), (1, 0, 1), (4 << 16, 4, 0), (1234 << 16 | 5681, 1234, 5681), (u32::MAX, 65535, 65535)]
    {
        let error = parsed(&packet(code, b"user\0u\0\0")).unwrap_err();
        assert_eq!(error, Error::UnsupportedProtocol { major, minor });
        assert!(error.to_string().contains(&format!("{major}.{minor}")));
    }
}
