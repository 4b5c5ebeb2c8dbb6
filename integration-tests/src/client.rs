//! A scripted client that says exactly what it is told, and reads with a deadline.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use config::ListenAddress;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::frontend;
use crate::message::{Fields, Message};
use crate::patience::PATIENCE;
use crate::reply::Reply;

/// A client on one connection, over TCP or a Unix socket.
///
/// What is said is gathered and leaves in one `send` at the next read, [`RawClient::send`] or drop-free end of a
/// chain, so that pipelines are pipelines; [`RawClient::send_in_pieces`] cuts it up instead. Reads fail the test after
/// [`PATIENCE`].
#[derive(Debug)]
pub struct RawClient {
    stream: Socket,
    place: ListenAddress,
    outgoing: Vec<u8>,
    /// Parameters that the server reported, the newest last.
    pub parameters: Vec<(String, String)>,
    /// Key for [`RawClient::cancel`]: process id and secret.
    pub key: Option<(u32, Vec<u8>)>,
}

impl RawClient {
    /// Connects and says nothing yet.
    pub fn connect(place: impl Into<ListenAddress>) -> Self {
        let place = place.into();
        Self::try_connect(place.clone()).unwrap_or_else(|error| panic!("cannot connect to {place}: {error}"))
    }

    /// Connects if somebody listens.
    pub fn try_connect(place: impl Into<ListenAddress>) -> io::Result<Self> {
        let place = place.into();
        let stream = match &place {
            ListenAddress::Tcp(address) => {
                let stream = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                stream.connect_timeout(&(*address).into(), PATIENCE)?;
                stream.set_tcp_nodelay(true)?;
                stream
            }
            ListenAddress::Unix(path) => {
                let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                stream.connect(&SockAddr::unix(path)?)?;
                stream
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, place, outgoing: Vec::new(), parameters: Vec::new(), key: None })
    }

    /// Connects and logs in without a password.
    pub fn login(place: impl Into<ListenAddress>, user: &str, database: &str) -> Self {
        Self::login_with(place, &[("user", user), ("database", database)], "")
    }

    /// Connects and logs in with these startup parameters; `password` is used if one is asked for.
    pub fn login_with(place: impl Into<ListenAddress>, parameters: &[(&str, &str)], password: &str) -> Self {
        let place = place.into();
        Self::try_login(place.clone(), parameters, password)
            .unwrap_or_else(|error| panic!("the login at {place} with {parameters:?} was refused: {error:?}"))
    }

    /// Connects and logs in, or returns the error that the server gave.
    pub fn try_login(
        place: impl Into<ListenAddress>,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> Result<Self, Fields> {
        let mut client = Self::connect(place);
        client.say(frontend::startup(frontend::PROTOCOL_3_0, parameters));
        client.finish_login(parameters, password)?;
        Ok(client)
    }

    /// Answers what the server asks for behind a startup packet, up to the first ReadyForQuery.
    pub fn finish_login(&mut self, parameters: &[(&str, &str)], password: &str) -> Result<(), Fields> {
        let user = parameters.iter().find(|(name, _)| *name == "user").map_or("", |(_, user)| user);
        let mut scram = None;
        loop {
            match self.read() {
                Message::Authentication { code, data } => self.authenticate(code, &data, user, password, &mut scram),
                Message::ErrorResponse(error) => return Err(error),
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, code: u32, data: &[u8], user: &str, password: &str, scram: &mut Option<ScramSha256>) {
        match code {
            0 => {}
            3 => drop(self.say(frontend::password(password))),
            5 => {
                let salt = data.try_into().expect("four bytes of salt");
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.say(frontend::password(&hash));
            }
            10 => {
                let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                let mut body = SCRAM_SHA_256.as_bytes().to_vec();
                body.push(0);
                body.extend((exchange.message().len() as u32).to_be_bytes());
                body.extend(exchange.message());
                *scram = Some(exchange);
                self.say(frontend::message(b'p', &body));
            }
            11 => {
                let exchange = scram.as_mut().expect("SASL continues only where it began");
                exchange.update(data).expect("a server-first-message in order");
                let answer = frontend::message(b'p', exchange.message());
                self.say(answer);
            }
            12 => scram.as_mut().expect("SASL ends only where it began").finish(data).expect("the server's proof"),
            other => panic!("authentication request {other} is not known to the tests"),
        }
    }

    /// Gathers bytes to be sent.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.outgoing.extend(bytes.as_ref());
        self
    }

    /// Gathers a Parse without parameter types.
    pub fn parse(&mut self, name: &str, sql: &str) -> &mut Self {
        self.say(frontend::parse(name, sql, &[]))
    }

    /// Gathers a Bind of the unnamed portal with text parameters.
    pub fn bind(&mut self, statement: &str, parameters: &[&str]) -> &mut Self {
        let values: Vec<_> = parameters.iter().map(|value| Some(value.as_bytes())).collect();
        self.say(frontend::bind("", statement, &values))
    }

    /// Gathers an Execute of the unnamed portal for all rows.
    pub fn execute(&mut self) -> &mut Self {
        self.say(frontend::execute("", 0))
    }

    /// Gathers a Sync.
    pub fn sync(&mut self) -> &mut Self {
        self.say(frontend::sync())
    }

    /// Gathers a Flush.
    pub fn flush(&mut self) -> &mut Self {
        self.say(frontend::flush())
    }

    /// Sends what was gathered, at once.
    pub fn send(&mut self) -> &mut Self {
        self.try_send().expect("the other side takes what the client sends");
        self
    }

    /// Sends what was gathered, if there is still somebody to take it.
    pub fn try_send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.outgoing);
        self.stream.write_all(&bytes)
    }

    /// Sends what was gathered in pieces of `size` bytes, each in a segment of its own.
    pub fn send_in_pieces(&mut self, size: usize) -> &mut Self {
        let bytes = std::mem::take(&mut self.outgoing);
        for piece in bytes.chunks(size) {
            self.stream.write_all(piece).expect("the other side takes what the client sends");
            // Nothing is awaited here: yielding only makes it likely that the peer sees the piece alone.
            std::thread::yield_now();
        }
        self
    }

    /// The next message; the end of the connection fails the test.
    pub fn read(&mut self) -> Message {
        self.try_read().expect("a message within the deadline").expect("a message instead of the connection's end")
    }

    /// The next message; `None` at the connection's end.
    pub fn try_read(&mut self) -> io::Result<Option<Message>> {
        self.try_send().or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })?;
        let mut head = [0; 5];
        if !read_whole(&mut self.stream, &mut head)? {
            return Ok(None);
        }
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        assert!(length >= 4, "the server sent {:?} with the length {length}", char::from(head[0]));
        let mut body = vec![0; length - 4];
        if !read_whole(&mut self.stream, &mut body)? && !body.is_empty() {
            return Ok(None);
        }
        let message = Message::parse(head[0], &body);
        match &message {
            Message::ParameterStatus { name, value } => self.parameters.push((name.clone(), value.clone())),
            Message::BackendKeyData { pid, key } => self.key = Some((*pid, key.clone())),
            _ => {}
        }
        Ok(Some(message))
    }

    /// One byte that is no message: the answer to a request for encryption.
    pub fn read_byte(&mut self) -> u8 {
        self.send();
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("one byte in answer");
        byte[0]
    }

    /// All that comes up to and with the next ReadyForQuery.
    pub fn reply(&mut self) -> Reply {
        self.read_until('Z')
    }

    /// All that comes up to and with the next message of this tag.
    pub fn read_until(&mut self, tag: char) -> Reply {
        let mut messages = Vec::new();
        loop {
            let next = self.try_read().unwrap_or_else(|error| panic!("no {tag} ({error}) after {messages:?}"));
            let message = next.unwrap_or_else(|| panic!("the connection ended before {tag}, after {messages:?}"));
            let last = message.tag() == tag;
            messages.push(message);
            if last {
                return Reply { messages };
            }
        }
    }

    /// The bytes that come up to and with the next ReadyForQuery, without what may come at any time.
    pub fn reply_bytes(&mut self) -> Vec<u8> {
        self.send();
        let mut bytes = Vec::new();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).unwrap_or_else(|error| panic!("no reply ({error}) after {bytes:?}"));
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let mut body = vec![0; length.checked_sub(4).expect("a length that counts itself")];
            self.stream.read_exact(&mut body).expect("a whole message");
            if !b"NAS".contains(&head[0]) {
                bytes.extend(head);
                bytes.extend(body);
            }
            if head[0] == b'Z' {
                return bytes;
            }
        }
    }

    /// All that comes until the server closes.
    pub fn read_to_end(&mut self) -> Reply {
        let mut messages = Vec::new();
        loop {
            match self.try_read() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Reply { messages },
                Err(error) if is_gone(&error) => return Reply { messages },
                Err(error) => panic!("the connection is still open ({error}) after {messages:?}"),
            }
        }
    }

    /// All that comes until the server is ready for more, or closes.
    pub fn read_to_end_or_ready(&mut self) -> Reply {
        let mut messages = Vec::new();
        loop {
            match self.try_read() {
                Ok(Some(message)) => {
                    let ready = matches!(message, Message::ReadyForQuery(_));
                    messages.push(message);
                    if ready {
                        return Reply { messages };
                    }
                }
                Ok(None) => return Reply { messages },
                Err(error) if is_gone(&error) => return Reply { messages },
                Err(error) => panic!("neither ready nor closed ({error}) after {messages:?}"),
            }
        }
    }

    /// Whether nothing comes for `quiet`: for proving absence only, never for waiting.
    pub fn hears_nothing_for(&mut self, quiet: Duration) -> bool {
        self.send();
        self.stream.set_read_timeout(Some(quiet)).unwrap();
        let silent = matches!(self.stream.peek(&mut [MaybeUninit::uninit()]), Err(error) if is_timeout(&error));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Sends a simple query and reads its whole reply.
    pub fn query(&mut self, sql: impl AsRef<[u8]>) -> Reply {
        self.say(frontend::query(sql)).reply()
    }

    /// Sends a simple query and does not wait for the reply.
    pub fn start_query(&mut self, sql: impl AsRef<[u8]>) -> &mut Self {
        self.say(frontend::query(sql)).send()
    }

    /// Asks for the cancellation of what this client does, on a connection of its own; returns when that is closed.
    pub fn cancel(&self) {
        let (pid, key) = self.key.clone().expect("the server gave a key");
        cancel(self.place.clone(), pid, &key);
    }

    /// Says that no more will be said, and still reads.
    pub fn half_close(&mut self) {
        self.send();
        self.stream.shutdown(Shutdown::Write).expect("a connection that can be half closed");
    }

    /// Says goodbye as a well-behaved client does.
    pub fn terminate(mut self) {
        // Whoever closed first has nothing to hear.
        drop(self.say(frontend::terminate()).try_send());
    }

    /// Vanishes: closes without a goodbye.
    pub fn vanish(self) {
        drop(self);
    }

    /// Where it is connected to, over TCP.
    pub fn peer(&self) -> SocketAddr {
        self.place.tcp().expect("a client that came by TCP")
    }

    /// The socket itself, for a second thread that reads or writes on its own.
    pub fn stream(&self) -> Socket {
        self.stream.try_clone().expect("a socket that can be shared")
    }

    /// The last value that the server reported for a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a CancelRequest on a connection of its own, and waits until the server closes it.
pub fn cancel(place: impl Into<ListenAddress>, pid: u32, key: &[u8]) {
    let mut client = RawClient::connect(place);
    client.say(frontend::cancel_request(pid, key)).send();
    client.read_to_end();
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    )
}

/// Fills `buffer`; false when the connection ends first.
fn read_whole(stream: &mut Socket, buffer: &mut [u8]) -> io::Result<bool> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
