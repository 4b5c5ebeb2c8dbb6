//! The protocol, simple and extended, and what hostile clients say in it.

use std::time::Duration;

use integration_tests::{Message, RawClient, frontend};

use super::{columns, ops, proxy, server};

#[test]
fn the_welcome_is_pgbouncers() {
    let server = server();
    let proxy = proxy(&server);
    for database in ["pgbouncer", "pgweir"] {
        let client = RawClient::login(proxy.address(), "ops", database);
        let told: Vec<_> = client.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("server_version", "1.25.2/bouncer"),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "GMT"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "on"),
        ];
        assert_eq!(told, expected);
        assert!(client.key.is_some());
    }
}

#[test]
fn several_commands_in_one_text_and_none_in_another() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    let reply = client.query("show version; SHOW STATE ;select 1");
    assert_eq!((reply.shape().as_str(), reply.status()), ("TDCTDDDCTDCZ", 'I'));
    assert_eq!(reply.commands(), ["SHOW", "SHOW", "SELECT 1"]);
    for empty in ["", ";", "-- nothing"] {
        assert_eq!(client.query(empty).shape(), "IZ", "{empty:?}");
    }
    let reply = client.query("show state; disable; show state");
    assert_eq!(
        (reply.shape().as_str(), reply.error().code()),
        ("EZ", "42601"),
        "a text with a mistake is not run at all"
    );
    let reply = client.query("show state; kill_client 99; show state");
    assert_eq!(reply.shape(), "TDDDCEZ", "what fails ends it");
    let help = client.query("show help");
    assert_eq!((help.shape().as_str(), help.commands()), ("CZ", vec!["SHOW"]));
    let notice = help.notices()[0].clone();
    assert_eq!((notice.message(), notice.severity()), ("Console usage", "NOTICE"));
    for word in ["PEER_POOLS", "KILL_CLIENT <client_id>", "SHUTDOWN WAIT_FOR_SERVERS", "FINDINGS", "SET key = arg"] {
        assert!(notice.detail().contains(word), "{word} is missing in {}", notice.detail());
    }
    assert_eq!(client.query("begin; set extra_float_digits = 3; commit").commands(), ["BEGIN", "SET", "COMMIT"]);
}

#[test]
fn the_extended_protocol_step_by_step() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    client.parse("lists", "show lists").say(frontend::describe(b'S', "lists")).sync();
    let reply = client.reply();
    assert_eq!((reply.shape().as_str(), columns(&reply)), ("1tTZ", vec!["list".to_owned(), "items".to_owned()]));
    // Rows in pieces: three, then the other eleven.
    client
        .say(frontend::bind("p", "lists", &[]))
        .say(frontend::describe(b'P', "p"))
        .say(frontend::execute("p", 3))
        .flush();
    let piece = client.read_until('s');
    assert_eq!(piece.shape(), "2TDDDs");
    client.say(frontend::execute("p", 0)).say(frontend::execute("p", 0)).sync();
    let rest = client.reply();
    assert_eq!((rest.shape().as_str(), rest.error().code()), ("DDDDDDDDDDDCEZ", "55000"), "a portal is run once");
    // A portal ends with its request, a statement does not.
    client.say(frontend::execute("p", 0)).sync();
    assert_eq!(client.reply().error().code(), "34000");
    client.bind("lists", &[]).execute().say(frontend::close(b'S', "lists")).sync();
    assert_eq!(client.reply().shape(), "2DDDDDDDDDDDDDDC3Z");
    client.bind("lists", &[]).sync();
    assert_eq!(client.reply().error().code(), "26000");
    client.parse("", "").bind("", &[]).say(frontend::describe(b'P', "")).execute().sync();
    assert_eq!(client.reply().shape(), "12nIZ", "an empty text");
    client.parse("", "reconnect").say(frontend::describe(b'S', "")).bind("", &[]).execute().sync();
    let reply = client.reply();
    assert_eq!((reply.shape().as_str(), reply.commands()), ("1tn2CZ", vec!["RECONNECT"]));
}

#[test]
fn after_an_error_everything_up_to_sync_is_skipped() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    client.parse("", "nonsense").bind("", &[]).execute().say(frontend::query("show state")).sync();
    let reply = client.reply();
    assert_eq!((reply.shape().as_str(), reply.error().code()), ("EZ", "42601"));
    client.parse("", "show state; show state").sync();
    assert_eq!(client.reply().error().code(), "42601");
    client.parse("a", "show state").parse("a", "show state").sync();
    assert_eq!(client.reply().error().code(), "42P05");
    client.parse("", "show state").bind("", &["a parameter"]).sync();
    assert_eq!(client.reply().error().code(), "08P01");
    assert_eq!(client.query("show state").rows().len(), 3);
}

#[test]
fn binary_where_it_is_asked_for() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    // Bind with one result format for all columns: binary.
    let bind = |format: &[i16]| {
        let mut body = b"\0\0\0\0\0\0".to_vec();
        body.extend((format.len() as u16).to_be_bytes());
        format.iter().for_each(|format| body.extend(format.to_be_bytes()));
        frontend::message(b'B', &body)
    };
    client.parse("", "show lists").say(bind(&[1])).execute().sync();
    let reply = client.reply();
    let Some(Message::DataRow(values)) = reply.messages.iter().find(|message| message.tag() == 'D') else {
        panic!("{reply:?}")
    };
    assert_eq!(values, &[Some(b"databases".to_vec()), Some(vec![0, 0, 0, 1])], "the console's own");
    for wrong in [&[0i16, 1, 0][..], &[2]] {
        client.parse("", "show lists").say(bind(wrong)).execute().sync();
        assert_eq!(client.reply().shape(), "1EZ", "{wrong:?}");
    }
}

#[test]
fn messages_in_pieces_of_any_size() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    for size in [1, 2, 3, 7] {
        client.say(frontend::query("show state")).parse("", "show lists").bind("", &[]).execute().sync();
        client.send_in_pieces(size);
        assert_eq!((client.reply().rows().len(), client.reply().rows().len()), (3, 14));
    }
}

/// Each of these ends the connection with a word, and the console goes on for others.
#[test]
fn what_breaks_the_protocol_ends_the_connection_with_a_word() {
    let server = server();
    let proxy = proxy(&server);
    let too_long = {
        let mut bytes = vec![b'Q'];
        bytes.extend((64 * 1024 + 5u32).to_be_bytes());
        bytes
    };
    let cases: [(&str, Vec<u8>); 8] = [
        ("a longer message than anybody needs", too_long),
        ("a type that is none", frontend::message(b'?', b"")),
        ("a length below four", vec![b'Q', 0, 0, 0, 3]),
        ("a Query without an end", frontend::message(b'Q', b"show state")),
        ("a Parse cut short", frontend::message(b'P', b"a\0show state\0\0\x05")),
        ("a Bind cut short", frontend::message(b'B', b"\0\0\0\0\0\x07")),
        ("a Describe of nothing", frontend::message(b'D', b"?x\0")),
        ("a password", frontend::password("x")),
    ];
    for (what, bytes) in cases {
        let mut client = ops(proxy.address());
        client.say(bytes);
        let words = client.read_to_end();
        let error = words.error();
        assert_eq!((error.severity(), error.code(), error.is_whole()), ("FATAL", "08P01", true), "{what}: {words:?}");
    }
    let mut client = ops(proxy.address());
    assert_eq!(client.query(b"show \xff\xfe").error().code(), "22021");
    client.say(frontend::copy_data(b"x")).say(frontend::copy_done());
    assert_eq!(client.query("show state").rows().len(), 3, "a server takes no notice of copies either");
    client.say(frontend::function_call(1, &[]));
    assert_eq!(client.reply().error().code(), "0A000");
    client.say(frontend::query("show version")).say(frontend::terminate());
    assert_eq!(client.read_to_end().rows().len(), 1, "what came before a goodbye is answered");
}

#[test]
fn nobody_takes_memory_by_statements_and_portals() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = ops(proxy.address());
    for n in 0..64 {
        client.parse(&format!("s{n}"), "show state");
    }
    client.parse("one too many", "show state").sync();
    let reply = client.reply();
    assert_eq!((reply.error().code(), reply.shape().len()), ("54000", 66));
    for n in 0..64 {
        client.say(frontend::bind(&format!("p{n}"), "s0", &[]));
    }
    client.say(frontend::bind("one too many", "s0", &[])).sync();
    assert_eq!(client.reply().error().code(), "54000");
    assert_eq!(client.query("show state").rows().len(), 3);
}

#[test]
fn a_cancel_ends_the_wait_and_not_the_pause() {
    let server = server();
    let proxy = proxy(&server);
    let mut busy = RawClient::login(proxy.address(), "anna", "shop");
    busy.query("begin").ok();
    let mut client = ops(proxy.address());
    client.start_query("pause shop");
    assert!(client.hears_nothing_for(Duration::from_millis(100)), "a transaction is open");
    // Somebody else's key does nothing.
    let (pid, key) = client.key.clone().unwrap();
    assert_eq!(pid, std::process::id());
    integration_tests::client::cancel(proxy.address(), pid, &[0; 4]);
    assert!(client.hears_nothing_for(Duration::from_millis(100)));
    integration_tests::client::cancel(proxy.address(), pid, &key);
    let reply = client.reply();
    assert_eq!((reply.error().code(), reply.error().severity()), ("57014", "ERROR"), "{reply:?}");
    // A cancel when nothing waits strikes nothing that comes later.
    client.cancel();
    busy.query("commit").ok();
    busy.start_query("select 1");
    assert!(busy.hears_nothing_for(Duration::from_millis(100)), "the pause holds");
    client.query("resume shop").ok();
    assert_eq!(busy.reply().value(), "1");
}
