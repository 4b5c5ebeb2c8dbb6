//! The same bytes in other pieces: what a network does to both directions changes nothing for the client.

use std::io::{self, Read, Write};
use std::time::Duration;

use integration_tests::fake::Connection;
use integration_tests::{FakeUpstream, Proxy, RawClient, backend, frontend};

/// Every kind of request in one send: a named statement, a simple query, an error in the middle of a pipeline, a copy.
fn requests() -> Vec<u8> {
    let extended = |name: &str, sql: &str| {
        [
            frontend::parse(name, sql, &[]),
            frontend::bind("", name, &[Some(b"parameter")]),
            frontend::describe(b'P', ""),
            frontend::execute("", 0),
        ]
        .concat()
    };
    [
        extended("statement", "select $1"),
        frontend::sync(),
        frontend::query("select 'simple'"),
        extended("other", "select boom"),
        extended("", "select 'not reached'"),
        frontend::close(b'S', "other"),
        frontend::sync(),
        frontend::query("copy c from stdin"),
        frontend::copy_data(b"1\n2\n"),
        frontend::copy_done(),
        extended("", "select 'last'"),
        frontend::sync(),
    ]
    .concat()
}

/// ReadyForQuery messages in answer to them.
const REQUESTS: usize = 5;

/// A server of which each answer comes in two pieces, cut at ever another place.
fn serve_in_pieces(connection: &mut Connection) -> io::Result<()> {
    let (mut cut, mut skipping) = (0, false);
    loop {
        let (tag, body) = connection.receive()?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let answer = match tag {
            'S' => {
                skipping = false;
                backend::ready(b'I')
            }
            _ if skipping => Vec::new(),
            'P' if text.contains("boom") => {
                skipping = true;
                backend::error("42703", "column \"boom\" does not exist")
            }
            'P' => frontend::message(b'1', &[]),
            'B' => frontend::message(b'2', &[]),
            'D' => backend::row_description(&["value"]),
            'E' => [backend::data_row(&["some value"]), backend::command_complete("SELECT 1")].concat(),
            'C' => frontend::message(b'3', &[]),
            'Q' if text.starts_with("copy") => frontend::message(b'G', &[0, 0, 1, 0, 0]),
            'Q' => [backend::notice("a remark"), backend::one_value("simple")].concat(),
            'c' => [backend::command_complete("COPY 2"), backend::ready(b'I')].concat(),
            _ => Vec::new(),
        };
        cut += 1;
        let (first, second) = answer.split_at(cut % (answer.len() + 1));
        connection.send(first)?;
        std::thread::yield_now();
        connection.send(second)?;
    }
}

/// All bytes up to the last ReadyForQuery.
fn replies(client: &RawClient) -> Vec<u8> {
    let mut stream = client.stream();
    let (mut all, mut ready) = (Vec::new(), 0);
    while ready < REQUESTS {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&all)));
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).unwrap();
        all.extend(head);
        all.extend(body);
        ready += usize::from(head[0] == b'Z');
    }
    all
}

#[test]
fn requests_cut_at_every_offset_get_the_same_replies() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        serve_in_pieces(connection)
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let login = || RawClient::login(proxy.address(), "anna", "shop");
    let requests = requests();
    let mut client = login();
    client.say(&requests).send();
    let expected = replies(&client);
    let tags: String = RawTags(&expected).collect();
    assert_eq!(tags, "12TDCZNTDCZEZGCZ12TDCZ");
    for at in 1..requests.len() {
        let client = login();
        let mut stream = client.stream();
        stream.write_all(&requests[..at]).unwrap();
        std::thread::sleep(Duration::from_micros(500));
        stream.write_all(&requests[at..]).unwrap();
        let got = replies(&client);
        assert!(got == expected, "cut at {at}: {}", RawTags(&got).collect::<String>());
        client.terminate();
    }
    assert_eq!(upstream.logins(), 1, "no request cost the server's connection");
}

/// The tags of messages one behind the other.
struct RawTags<'a>(&'a [u8]);

impl Iterator for RawTags<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let head = self.0.get(..5)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let tag = char::from(head[0]);
        self.0 = &self.0[1 + length..];
        Some(tag)
    }
}

#[test]
fn a_long_message_behind_a_short_one_is_not_forgotten_however_it_arrives() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let value = vec![b'x'; 400_000];
    let request = [
        frontend::parse("", &format!("select $1 /* {} */", "x".repeat(8_000)), &[]),
        frontend::bind("", "", &[Some(&value)]),
        frontend::execute("", 0),
        frontend::sync(),
    ]
    .concat();
    // Up to 260 KiB of a message are held; the first piece ends a little behind that.
    for first in [262_144, 266_240, 266_300, 270_000, 274_000, 280_000] {
        let mut client = RawClient::login(proxy.address(), "anna", "shop");
        let mut stream = client.stream();
        stream.write_all(&request[..first]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(&request[first..]).unwrap();
        assert_eq!(client.reply().ok().shape(), "12CZ", "first piece of {first} bytes");
    }
}
