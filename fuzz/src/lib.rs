//! A whole proxy between a client and a server whose words the fuzzer chooses: real threads, real sockets.
//!
//! What is being looked for: a panic anywhere in the proxy (the fuzzer's hook ends the process on one in any thread), a
//! client that is left without an answer or an end, an upstream that is lost from its pool. Each run begins with a
//! client that logs in and ends when its connection does, so a pool that has lost its upstreams shows as a stuck client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::{NoSources, Overrides, Settings};

/// A client that has heard nothing for so many seconds is stuck, not counting those in which this process wanted to run and
/// did not get a processor.
const PATIENCE: u32 = 10;
/// A second in which its threads together waited for a processor for longer does not count.
const STARVED: Duration = Duration::from_millis(200);

/// Connections to the server that the proxy has at most.
pub const UPSTREAMS: usize = 2;

/// What the server says when it is asked to misbehave: the words of the present run.
pub type Script = Arc<Mutex<Vec<u8>>>;

/// The proxy, and what the server behind it says next.
pub struct Stage {
    address: SocketAddr,
    /// Said in answer to a query whose text is `boom`; the server closes behind it unless it is whole messages
    /// up to a ReadyForQuery: one that says half a message and then nothing has its client wait, and should.
    pub script: Script,
    _proxy: pgweir::run::Handle,
}

impl Stage {
    /// A proxy with [`UPSTREAMS`] upstreams in transaction mode.
    pub fn new() -> Self {
        let script = Script::default();
        let server = serve(script.clone());
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin.listen = 'off'\nworkers = 1\nauth.method = 'trust'\nlog.level = 'error'\n\
             pool.size = {UPSTREAMS}\npool.connect_backoff = '1ms'\npool.connect_backoff_max = '2ms'\n\
             upstream_tls.mode = 'disable'\npool.inspect_functions = '0'\n\
             [databases.'*']\nupstream = 'postgres://{server}'\n"
        );
        let settings = Settings::from_toml(&text, &Overrides::default(), &NoSources).expect("a valid configuration");
        let proxy = pgweir::run::start(settings).expect("free ports");
        Self { address: proxy.listen_addr(), script, _proxy: proxy }
    }

    /// A client that has logged in.
    pub fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.address).expect("the proxy listens");
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("an open socket");
        client.set_nodelay(true).expect("an open socket");
        // Closed by a reset: a million connections must not leave their ports waiting.
        socket2::SockRef::from(&client.as_fd()).set_linger(Some(Duration::ZERO)).expect("an open socket");
        client.write_all(b"\0\0\0\x13\0\x03\0\0user\0fuzz\0\0").expect("the proxy reads");
        assert!(is_ready(&mut client), "no login");
        client
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads up to ReadyForQuery; `false`: the connection has ended first.
///
/// # Panics
/// When neither comes.
pub fn is_ready(client: &mut TcpStream) -> bool {
    let mut client = Patient(client);
    let mut head = [0; 5];
    while client.read_exact(&mut head).is_ok() {
        let [tag, length @ ..] = head;
        let body = u64::from(u32::from_be_bytes(length)).saturating_sub(4);
        if !matches!(io::copy(&mut (&mut client).take(body), &mut io::sink()), Ok(read) if read == body) {
            return false;
        }
        if tag == b'Z' {
            return true;
        }
    }
    false
}

/// Reads to the end of the connection.
///
/// # Panics
/// When it does not come.
pub fn read_to_end(client: &mut TcpStream) {
    // A reset is an end too.
    drop(io::copy(&mut Patient(client), &mut io::sink()));
}

/// Reads from a socket with a timeout of a second, and panics when nothing comes that could.
struct Patient<'a>(&'a mut TcpStream);

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut quiet, mut starved) = (0, None);
        loop {
            match self.0.read(buffer) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                read => return read,
            }
            let now = waited_for_processor();
            let before = starved.replace(now);
            quiet += u32::from(before.is_some_and(|before| now.saturating_sub(before) < STARVED));
            assert!(quiet < PATIENCE, "a client is stuck");
        }
    }
}

/// How long the threads that live now have been ready to run without running.
fn waited_for_processor() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let delay = |thread: std::fs::DirEntry| {
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(delay).sum())
}

fn serve(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || drop(speak(stream, &script)));
        }
    });
    address
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// One connection of a server that knows the protocol but no SQL.
fn speak(mut stream: TcpStream, script: &Script) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup)?;
    if startup.starts_with(&[4, 210, 22, 46]) {
        // A cancel; closing is the answer.
        return Ok(());
    }
    let mut hello = message(b'R', &[0; 4]);
    hello.extend(message(b'S', b"server_version\015.0\0"));
    hello.extend(message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]));
    hello.extend(message(b'Z', b"I"));
    stream.write_all(&hello)?;
    let mut copying = false;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut body)?;
        if matches!(tag, b'Q' | b'P') && body.windows(4).any(|window| window == b"boom") {
            let words = script.lock().expect("nobody panics with it").clone();
            stream.write_all(&words)?;
            if !ends_ready(&words) {
                return Ok(());
            }
            continue;
        }
        let answer = answer(tag, &body, &mut copying);
        stream.write_all(&answer)?;
    }
}

/// Whether these are whole messages, of which the last is ReadyForQuery.
fn ends_ready(mut words: &[u8]) -> bool {
    let mut last = 0;
    while let Some((&[tag, a, b, c, d], _)) = words.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(rest) = words.get(1 + length.max(4)..) else { return false };
        (last, words) = (tag, rest);
    }
    words.is_empty() && last == b'Z'
}

fn answer(tag: u8, body: &[u8], copying: &mut bool) -> Vec<u8> {
    let done = message(b'C', b"SELECT 0\0");
    let ready = message(b'Z', b"I");
    match tag {
        b'c' | b'f' if std::mem::take(copying) => [done, ready].concat(),
        _ if *copying => Vec::new(),
        b'Q' if body.starts_with(b"copy") => {
            *copying = true;
            message(b'G', &[0, 0, 0])
        }
        b'Q' => [done, ready].concat(),
        b'P' => message(b'1', b""),
        b'B' => message(b'2', b""),
        b'C' => message(b'3', b""),
        b'D' if body.first() == Some(&b'S') => [message(b't', &[0, 0]), message(b'n', b"")].concat(),
        b'D' => message(b'n', b""),
        b'E' => done,
        b'F' => [message(b'V', &[0xff; 4]), ready].concat(),
        b'S' => ready,
        _ => Vec::new(),
    }
}
