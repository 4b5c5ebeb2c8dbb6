//! A gigabyte, as long as a value of PostgreSQL can be: both ways, in both protocols and formats, and by COPY. It arrives
//! as it was sent, and the proxy's memory does not grow by more than 1 MiB.
//!
//! The servers are scripted, for a real one takes several gigabytes of memory for one such value; one test asks a real
//! one all the same, where the machine has room for it.

use std::io::{self, Read, Write};

use integration_tests::fake::Connection;
use integration_tests::{Cluster, FakeUpstream, ProxyProcess, RawClient, backend, frontend};
use socket2::Socket;

/// A little less than what PostgreSQL can send in one row: its messages end at 2^30 - 1 bytes.
const VALUE: usize = 1_073_741_000;
/// What the proxy's memory may grow by.
const SLACK_KIB: u64 = 1024;
/// What is written and compared at once.
const PIECE: usize = 65_536;
/// The value repeats itself after so many bytes: a prime, so that a piece that is lost or comes twice shows.
const PERIOD: usize = 65_521;

/// The bytes of the value.
struct Pattern(Vec<u8>);

impl Pattern {
    /// Letters as text, any byte at all in binary.
    fn new(binary: bool) -> Self {
        let byte = |index: usize| {
            let byte = (index * 7 + index / 251) as u8;
            if binary { byte } else { b'a' + byte % 26 }
        };
        Self((0..PERIOD + PIECE).map(|index| byte(index % PERIOD)).collect())
    }

    /// Up to a piece of them.
    fn piece(&self, offset: usize) -> &[u8] {
        &self.0[offset % PERIOD..][..PIECE.min(VALUE - offset)]
    }

    fn write(&self, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        (0..VALUE).step_by(PIECE).try_for_each(|offset| write(self.piece(offset)))
    }

    /// Fails the test, on either side, when something else comes.
    fn read(&self, mut read: impl FnMut(usize) -> io::Result<Vec<u8>>) -> io::Result<()> {
        for offset in (0..VALUE).step_by(PIECE) {
            let piece = self.piece(offset);
            if read(piece.len())? != piece {
                return Err(io::Error::other(format!("something else came behind {offset} bytes")));
            }
        }
        Ok(())
    }
}

/// The head of a message whose body holds the value and `around` bytes more.
fn head(tag: u8, around: usize) -> Vec<u8> {
    let length = u32::try_from(VALUE + around + 4).unwrap();
    [&[tag][..], &length.to_be_bytes()].concat()
}

fn size_of(head: &[u8]) -> usize {
    u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4
}

/// A server that compares what it gets with the value, and gives the value to who asks for it.
fn serve(connection: &mut Connection) -> io::Result<()> {
    connection.login()?;
    let (mut sql, mut binary) = (String::new(), false);
    loop {
        let head = connection.read_raw(5)?;
        let (tag, size) = (head[0], size_of(&head));
        if size >= VALUE {
            let bound = tag == b'B';
            // Behind the value stand no result formats, or the end of the text.
            let behind = if bound { 2 } else { 3 };
            // A Bind with a format is two bytes longer.
            let binary = bound && size - VALUE - behind > 10;
            connection.read_raw(size - VALUE - behind)?;
            Pattern::new(binary).read(|length| connection.read_raw(length))?;
            connection.read_raw(behind)?;
            let answer = if bound { frontend::message(b'2', b"") } else { backend::one_value("heard") };
            connection.send(&answer)?;
            continue;
        }
        let body = connection.read_raw(size)?;
        match tag {
            b'Q' | b'P' => sql = text(&body, usize::from(tag == b'P')),
            b'B' => binary = body.ends_with(&[0, 1, 0, 1]),
            _ => {}
        }
        match tag {
            b'Q' => {
                if sql == "select value" {
                    connection.send(&backend::row_description(&["value"]))?;
                }
                answer(connection, &sql, false)?;
                connection.send(&backend::ready(b'I'))?;
            }
            b'P' => connection.send(&frontend::message(b'1', b""))?,
            b'B' => connection.send(&frontend::message(b'2', b""))?,
            b'D' => connection.send(&backend::row_description(&["value"]))?,
            b'E' => answer(connection, &sql, binary)?,
            b'C' => connection.send(&frontend::message(b'3', b""))?,
            b'S' => connection.send(&backend::ready(b'I'))?,
            b'X' => return Ok(()),
            _ => {}
        }
    }
}

/// The string with this index in a message.
fn text(body: &[u8], index: usize) -> String {
    body.split(|byte| *byte == 0).nth(index).map(String::from_utf8_lossy).unwrap_or_default().into_owned()
}

/// What answers an Execute, and stands at the end of the answer to a query.
fn answer(connection: &mut Connection, sql: &str, binary: bool) -> io::Result<()> {
    let pattern = Pattern::new(binary);
    match sql {
        "select value" => {
            connection.send(&[head(b'D', 6), vec![0, 1], (VALUE as u32).to_be_bytes().to_vec()].concat())?;
            pattern.write(|piece| connection.send(piece))?;
            connection.send(&backend::command_complete("SELECT 1"))
        }
        "copy out" => {
            connection.send(&frontend::message(b'H', &[0, 0, 0]))?;
            pattern.write(|piece| connection.send(&frontend::copy_data(piece)))?;
            connection.send(&[frontend::copy_done(), backend::command_complete("COPY 1")].concat())
        }
        "copy in" => {
            connection.send(&frontend::message(b'G', &[0, 0, 0]))?;
            copied(&pattern, |length| connection.read_raw(length))?;
            let end = connection.read_raw(5)?;
            assert_eq!(end, frontend::copy_done());
            connection.send(&backend::command_complete("COPY 1"))
        }
        // Whatever stands before: the client heard what it said, or says something small.
        _ => connection.send(&backend::command_complete("SELECT 1")),
    }
}

/// The value in one CopyData or in many, behind whatever comes first.
fn copied(pattern: &Pattern, mut read: impl FnMut(usize) -> io::Result<Vec<u8>>) -> io::Result<()> {
    let mut left = 0;
    pattern.read(|length| {
        let mut piece = Vec::new();
        while piece.len() < length {
            if left > 0 {
                let data = read(left.min(length - piece.len()))?;
                left -= data.len();
                piece.extend(data);
                continue;
            }
            let head = read(5)?;
            match head[0] {
                b'd' => left = size_of(&head),
                _ => drop(read(size_of(&head))?),
            }
        }
        Ok(piece)
    })
}

/// A proxy in front of such a server, and a client that has done everything once on a small scale.
struct Scene {
    proxy: ProxyProcess,
    client: RawClient,
    _upstream: Option<FakeUpstream>,
}

impl Scene {
    fn scripted() -> Self {
        let upstream = FakeUpstream::start(serve);
        let mut scene = Self::before(&format!("postgres://anna@{}/shop", upstream.address()));
        scene._upstream = Some(upstream);
        scene
    }

    fn before(upstream: &str) -> Self {
        let proxy =
            ProxyProcess::serve(&["--upstream", upstream, "--auth", "trust", "--pool-size", "2", "--workers", "1"]);
        let client = RawClient::login(proxy.address(), "postgres", "postgres");
        let mut scene = Self { proxy, client, _upstream: None };
        for _ in 0..3 {
            scene.client.query("select 1").ok();
            let value = vec![b'x'; 1_000_000];
            let bind = frontend::bind("", "", &[Some(&value)]);
            scene.client.parse("", "select length($1)").say(bind).execute().sync().reply().ok();
        }
        scene
    }

    /// Does something large, in which the proxy may not grow.
    fn does(&mut self, what: &str, large: impl FnOnce(&mut RawClient, &mut Socket)) {
        let before = self.proxy.child.reset_peak();
        let mut stream = self.client.stream();
        large(&mut self.client, &mut stream);
        let after = self.proxy.child.peak_resident_kib();
        assert!(before > 0 && after <= before + SLACK_KIB, "{what}: from {before} KiB to {after} KiB");
        println!("{what}: {} KiB", after.saturating_sub(before));
    }
}

fn read(stream: &mut Socket, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

/// The reply's tags, with the value in a row compared.
fn hear(stream: &mut Socket, pattern: &Pattern) -> String {
    let mut tags = String::new();
    while !tags.ends_with('Z') {
        let head = read(stream, 5).unwrap();
        tags.push(char::from(head[0]));
        if size_of(&head) < VALUE {
            read(stream, size_of(&head)).unwrap();
        } else {
            read(stream, size_of(&head) - VALUE).unwrap();
            pattern.read(|length| read(stream, length)).unwrap();
        }
    }
    tags
}

fn pour(stream: &mut Socket, before: &[u8], pattern: &Pattern, behind: &[u8]) {
    stream.write_all(before).unwrap();
    pattern.write(|piece| stream.write_all(piece)).unwrap();
    stream.write_all(behind).unwrap();
}

/// Bind of no parameters with or without the formats that make everything binary.
fn bind_nothing(binary: bool) -> Vec<u8> {
    let formats: &[u8] = if binary { &[0, 1, 0, 1] } else { &[0, 0] };
    frontend::message(b'B', &[&[0, 0, 0, 0, 0, 0][..], formats].concat())
}

/// A Bind of the value up to the value itself.
fn bind_value(binary: bool) -> Vec<u8> {
    let formats: &[u8] = if binary { &[0, 1, 0, 1] } else { &[0, 0] };
    let before = [&[0, 0][..], formats, &[0, 1], &(VALUE as u32).to_be_bytes()].concat();
    [head(b'B', before.len() + 2), before].concat()
}

#[test]
fn a_gigabyte_comes_from_a_server_and_none_of_it_stays() {
    let mut scene = Scene::scripted();
    scene.does("a simple query's row", |client, stream| {
        client.start_query("select value");
        assert_eq!(hear(stream, &Pattern::new(false)), "TDCZ");
    });
    for (what, binary) in [("a row as text", false), ("a row in binary", true)] {
        scene.does(what, |client, stream| {
            client.parse("", "select value").say(bind_nothing(binary));
            client.say(frontend::describe(b'P', "")).execute().sync().send();
            assert_eq!(hear(stream, &Pattern::new(binary)), "12TDCZ");
        });
    }
    assert_eq!(scene.client.query("select 1").shape(), "CZ");
}

#[test]
fn a_gigabyte_comes_from_a_client_and_none_of_it_stays() {
    let mut scene = Scene::scripted();
    scene.does("a text", |_, stream| {
        let text = b"select length('";
        pour(stream, &[&head(b'Q', text.len() + 3), &text[..]].concat(), &Pattern::new(false), b"')\0");
        assert_eq!(hear(stream, &Pattern::new(false)), "TDCZ");
    });
    for (what, binary) in [("a parameter as text", false), ("a parameter in binary", true)] {
        scene.does(what, |client, stream| {
            client.parse("", "select length($1)").send();
            let behind = [&[0, 0][..], &frontend::execute("", 0), &frontend::sync()].concat();
            pour(stream, &bind_value(binary), &Pattern::new(binary), &behind);
            assert_eq!(hear(stream, &Pattern::new(binary)), "12CZ");
        });
    }
    assert_eq!(scene.client.query("select 1").shape(), "CZ");
}

#[test]
fn a_gigabyte_is_copied_both_ways_and_none_of_it_stays() {
    let mut scene = Scene::scripted();
    let pattern = Pattern::new(false);
    scene.does("a copy out", |client, stream| {
        client.start_query("copy out");
        copied(&pattern, |length| read(stream, length)).unwrap();
        assert_eq!(hear(stream, &pattern), "cCZ");
    });
    scene.does("a copy out in the extended protocol", |client, stream| {
        client.parse("", "copy out").say(bind_nothing(false)).execute().sync().send();
        copied(&pattern, |length| read(stream, length)).unwrap();
        assert_eq!(hear(stream, &pattern), "cCZ");
    });
    scene.does("a copy in", |client, stream| {
        client.start_query("copy in");
        pattern.write(|piece| stream.write_all(&frontend::copy_data(piece))).unwrap();
        stream.write_all(&frontend::copy_done()).unwrap();
        assert_eq!(hear(stream, &pattern), "GCZ");
    });
    scene.does("a copy in of a single message, in the extended protocol", |client, stream| {
        client.parse("", "copy in").say(bind_nothing(false)).execute().send();
        pour(stream, &head(b'd', 0), &pattern, &[frontend::copy_done(), frontend::sync()].concat());
        assert_eq!(hear(stream, &pattern), "12GCZ");
    });
    assert_eq!(scene.client.query("select 1").shape(), "CZ");
}

/// Memory that the machine could give away now.
fn available() -> usize {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = memory.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_real_server_takes_and_gives_as_much_as_it_can() {
    // Copies of the value that it makes at once: the message, the datum, its text, the reply.
    let value = VALUE.min(available() / 10) / 1000 * 1000;
    let mut scene = Scene::before(&format!("postgres://postgres@{}/postgres", Cluster::shared().address()));
    let piece = vec![b'x'; PIECE];
    let pieces = || (0..value).step_by(PIECE).map(|offset| &piece[..PIECE.min(value - offset)]);
    scene.does("a parameter", |client, stream| {
        client.parse("", "select octet_length($1::bytea)").send();
        let length = u32::try_from(value + 4 + 14).unwrap().to_be_bytes();
        let before = [&b"B"[..], &length, &[0, 0, 0, 1, 0, 1, 0, 1], &(value as u32).to_be_bytes()].concat();
        stream.write_all(&before).unwrap();
        pieces().for_each(|piece| stream.write_all(piece).unwrap());
        client.say([0, 0]).execute().sync();
        assert_eq!(client.reply().value(), value.to_string());
    });
    scene.does("a row", |client, stream| {
        client.start_query(format!("select repeat(repeat('x', 1000), {})", value / 1000));
        let mut tags = String::new();
        while !tags.ends_with('Z') {
            let head = read(stream, 5).unwrap();
            tags.push(char::from(head[0]));
            if head[0] == b'D' {
                assert_eq!(size_of(&head), value + 6);
                read(stream, 6).unwrap();
                pieces().for_each(|piece| assert!(read(stream, piece.len()).unwrap() == piece));
            } else {
                read(stream, size_of(&head)).unwrap();
            }
        }
        assert_eq!(tags, "TDCZ");
    });
}
