//! A scripted server that can misbehave, and remembers all that it was told.
//!
//! The script is a function that is run for each connection in a thread of its own:
//!
//! ```no_run
//! use integration_tests::{FakeUpstream, backend};
//!
//! let upstream = FakeUpstream::start(|connection| {
//!     connection.login()?;
//!     connection.serve_until("select boom")?;
//!     connection.send(&backend::row_description(&["boom"])[..7])?; // and closes in the middle of a message
//!     Ok(())
//! });
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::backend;
use crate::frontend::{CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST};
use crate::patience::PATIENCE;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// One thing that a fake upstream was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Which connection, counted from 0 in the order of their accepting.
    pub connection: usize,
    /// What it said.
    pub what: What,
}

/// What a connection said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A startup packet with its parameters.
    Startup(Vec<(String, String)>),
    /// A CancelRequest.
    Cancel {
        /// The process id in it.
        pid: u32,
        /// The secret in it.
        key: Vec<u8>,
    },
    /// A message after login.
    Message {
        /// Its tag.
        tag: char,
        /// Its body.
        body: Vec<u8>,
    },
    /// The end.
    Closed,
}

/// The fake server. Its threads end with it.
#[derive(Debug)]
pub struct FakeUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Whether it has rung, and who waits for that.
type Bell = (Mutex<bool>, Condvar);

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    open: Mutex<Vec<TcpStream>>,
    /// By process: whether a cancel has come for it, and where it waits for one. A bell for each, so that nobody is woken
    /// for another's.
    cancelled: Mutex<HashMap<u32, Arc<Bell>>>,
    over: AtomicBool,
}

impl FakeUpstream {
    /// One whose first connection answers `select 1` once, then no more, and never closes: as behind a firewall that has
    /// forgotten it. Later ones serve.
    pub fn forgetful() -> Self {
        Self::start(|connection| {
            connection.login()?;
            if connection.index == 0 {
                connection.serve_until("select 1")?;
                connection.send(&backend::one_value("1"))?;
                return connection.listen();
            }
            connection.serve()
        })
    }

    /// Listens on a free port and runs `script` for each connection. The connection is closed when the script returns;
    /// an error in it (the peer has gone) ends that connection only.
    pub fn start(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// As [`FakeUpstream::start`], at this address.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("loopback has a free port");
        // As many as a server of Postgres lets wait. The library's own 128 is too few for cancels that come all at once: who
        // finds no room asks again a second later, and the test would take that second for the proxy's.
        socket2::SockRef::from(&listener).listen(BACKLOG).expect("a bound socket listens");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (script, remembered) = (Arc::new(script), Arc::clone(&shared));
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                if remembered.over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let (script, remembered) = (Arc::clone(&script), Arc::clone(&remembered));
                std::thread::spawn(move || Connection::run(stream, index, remembered, script.as_ref()));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it was told so far, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// The tags that a connection sent after its login, as in `"PBDES"`.
    pub fn tags(&self, connection: usize) -> String {
        let tag = |received: Received| match received.what {
            What::Message { tag, .. } if received.connection == connection => Some(tag),
            _ => None,
        };
        self.received().into_iter().filter_map(tag).collect()
    }

    /// The texts of all simple queries, on whichever connection.
    pub fn queries(&self) -> Vec<String> {
        let text = |received: Received| match received.what {
            What::Message { tag: 'Q', body } => Some(text_of(&body)),
            _ => None,
        };
        self.received().into_iter().filter_map(text).collect()
    }

    /// Connections that logged in so far, those that have gone among them.
    pub fn logins(&self) -> usize {
        self.received().iter().filter(|received| matches!(received.what, What::Startup(_))).count()
    }

    /// Cancel requests so far.
    pub fn cancels(&self) -> usize {
        self.received().iter().filter(|received| matches!(received.what, What::Cancel { .. })).count()
    }

    /// Whether a connection has been closed by either side.
    pub fn has_closed(&self, connection: usize) -> bool {
        self.received().contains(&Received { connection, what: What::Closed })
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        for stream in lock(&self.shared.open).drain(..) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
        // Wakes the accepting thread, so that it sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

/// One connection of a fake upstream, as its script sees it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    /// Counted from 0 in the order of accepting: a script may treat the first one differently.
    pub index: usize,
}

impl Connection {
    fn run(
        stream: TcpStream,
        index: usize,
        shared: Arc<Shared>,
        script: &(impl Fn(&mut Self) -> io::Result<()> + ?Sized),
    ) {
        if let Ok(stream) = stream.try_clone() {
            lock(&shared.open).push(stream);
        }
        // What a script sends in pieces shall arrive in pieces, and at once.
        drop(stream.set_nodelay(true));
        let mut connection = Self { stream, shared, index };
        // A peer that leaves early is what many tests are about: the record tells.
        drop(script(&mut connection));
        connection.remember(What::Closed);
        drop(connection.stream.shutdown(std::net::Shutdown::Both));
    }

    /// Plays a whole login that asks for no password, up to the first ReadyForQuery.
    ///
    /// # Errors
    /// The peer left, or it wanted only to cancel (which is remembered).
    pub fn login(&mut self) -> io::Result<()> {
        self.startup()?;
        let pid = self.pid();
        let parameters = [
            ("server_version", "15.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
        ];
        let mut bytes = backend::authentication_ok();
        for (name, value) in parameters {
            bytes.extend(backend::parameter_status(name, value));
        }
        bytes.extend(backend::backend_key_data(pid, pid ^ 0x5EC2E7));
        bytes.extend(backend::ready(b'I'));
        self.send(&bytes)
    }

    /// The process id that this connection claims: 1000 and its index.
    pub fn pid(&self) -> u32 {
        1000 + self.index as u32
    }

    /// Reads up to the startup packet and returns its parameters; encryption is declined.
    ///
    /// # Errors
    /// The peer left, or it wanted only to cancel (which is remembered).
    pub fn startup(&mut self) -> io::Result<Vec<(String, String)>> {
        loop {
            let body = self.body()?;
            let code = u32::from_be_bytes(body[..4].try_into().unwrap());
            match code {
                SSL_REQUEST | GSS_REQUEST => self.send(b"N")?,
                CANCEL_REQUEST => {
                    let pid = u32::from_be_bytes(body[4..8].try_into().unwrap());
                    self.remember(What::Cancel { pid, key: body[8..].to_vec() });
                    let bell = Arc::clone(lock(&self.shared.cancelled).entry(pid).or_default());
                    *lock(&bell.0) = true;
                    bell.1.notify_all();
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                _ => {
                    let texts: Vec<String> = body[4..].split(|byte| *byte == 0).map(text_of).collect();
                    let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                    let parameters: Vec<_> = pairs.filter(|(name, _)| !name.is_empty()).collect();
                    self.remember(What::Startup(parameters.clone()));
                    return Ok(parameters);
                }
            }
        }
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// So many bytes, whatever they are.
    ///
    /// # Errors
    /// The peer left.
    pub fn read_raw(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next message, whole.
    ///
    /// # Errors
    /// The peer left.
    pub fn receive(&mut self) -> io::Result<(char, Vec<u8>)> {
        let mut tag = [0];
        self.stream.read_exact(&mut tag)?;
        let body = self.body()?;
        let tag = char::from(tag[0]);
        self.remember(What::Message { tag, body: body.clone() });
        Ok((tag, body))
    }

    /// Sends any bytes at all.
    ///
    /// # Errors
    /// The peer left.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Answers as a polite server until a simple query or a Parse has `text` in it; that one is not answered.
    ///
    /// # Errors
    /// The peer left.
    pub fn serve_until(&mut self, text: &str) -> io::Result<()> {
        loop {
            let (tag, body) = self.receive()?;
            if matches!(tag, 'Q' | 'P') && String::from_utf8_lossy(&body).contains(text) {
                return Ok(());
            }
            self.answer(tag, &body)?;
        }
    }

    /// Answers as a polite server until the peer leaves.
    ///
    /// # Errors
    /// The peer left.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            let (tag, body) = self.receive()?;
            self.answer(tag, &body)?;
        }
    }

    /// Says nothing more, and waits until the peer leaves; what it says is remembered.
    ///
    /// # Errors
    /// The peer left.
    pub fn listen(&mut self) -> io::Result<()> {
        loop {
            self.receive()?;
        }
    }

    /// Waits for a cancel of this connection, without taking processor time from whom it waits for.
    pub fn until_cancelled(&self) {
        let bell = Arc::clone(lock(&self.shared.cancelled).entry(self.pid()).or_default());
        drop(bell.1.wait_timeout_while(lock(&bell.0), PATIENCE, |cancelled| !*cancelled));
    }

    /// Waits as a slow server does.
    pub fn delay(&self, time: Duration) {
        std::thread::sleep(time.min(PATIENCE));
    }

    fn answer(&mut self, tag: char, body: &[u8]) -> io::Result<()> {
        let bytes = match tag {
            'Q' => answer_to_query(&text_of(body)),
            'P' => crate::frontend::message(b'1', &[]),
            'B' => crate::frontend::message(b'2', &[]),
            'C' => crate::frontend::message(b'3', &[]),
            'D' => crate::frontend::message(b'n', &[]),
            'E' => backend::command_complete("SELECT 0"),
            'S' => backend::ready(b'I'),
            'X' => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Vec::new(),
        };
        self.send(&bytes)
    }

    fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        let mut body = vec![0; length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn remember(&self, what: What) {
        lock(&self.shared.received).push(Received { connection: self.index, what });
    }
}

/// Each SELECT gives the row `1`, all else its own first word as the command tag.
fn answer_to_query(sql: &str) -> Vec<u8> {
    let command = sql.split_whitespace().next().unwrap_or_default().trim_end_matches(';').to_uppercase();
    match command.as_str() {
        "" => [crate::frontend::message(b'I', &[]), backend::ready(b'I')].concat(),
        "SELECT" => backend::one_value("1"),
        "BEGIN" => [backend::command_complete("BEGIN"), backend::ready(b'T')].concat(),
        _ => [backend::command_complete(&command), backend::ready(b'I')].concat(),
    }
}

fn text_of(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A script that panicked has been reported by its thread; what it remembered still counts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
