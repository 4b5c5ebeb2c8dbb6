//! As much of an HTTP client as the commands need that ask a running pgweir: one request on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use config::PemFile;
use rustls::{ClientConnection, StreamOwned};

use crate::tls::operators::Trust;

/// Names the file with the authorities that an admin port is believed by.
const CA: &str = "PGWEIR_ADMIN_CA";
/// Longest wait for each step, and for the whole of an answer. A container's health check gives up after 30 s by default, an operator sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes: a thousand findings with long texts are some megabytes.
const MAX_ANSWER: usize = 64 << 20;

/// Where a running pgweir has its admin port.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    address: String,
    token: Option<String>,
    /// With TLS: whom to believe.
    trust: Option<Trust>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// The body, whole.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Whether it says that the port speaks TLS alone.
    pub(super) fn wants_tls(&self) -> bool {
        self.status == 400 && String::from_utf8_lossy(&self.body).contains("this port speaks TLS")
    }
}

impl Admin {
    /// An admin port at `host:port`, in clear text; or at `https://host:port`, by TLS. Its certificate has to be for this host, and
    /// signed by an authority of the file that the variable `PGWEIR_ADMIN_CA` names, or else by one of the operating
    /// system's.
    ///
    /// # Errors
    /// It is no such thing, or the file cannot be used.
    pub(super) fn new(address: &str, token: Option<String>) -> Result<Self, String> {
        let (secure, plain) = match address.strip_prefix("https://") {
            Some(rest) => (true, rest.trim_end_matches('/')),
            None => (false, address.strip_prefix("http://").map_or(address, |rest| rest.trim_end_matches('/'))),
        };
        let parts = plain.rsplit_once(':');
        if parts.is_none_or(|(host, port)| host.is_empty() || host.contains('/') || port.parse::<u16>().is_err()) {
            let shown = address.escape_debug();
            return Err(format!(
                "--admin: \"{shown}\" is not an address with a port; write 127.0.0.1:6433, or https://pgweir.example:6433"
            ));
        }
        let file = std::env::var_os(CA).filter(|file| !file.is_empty());
        let trust = if secure { Some(trust(file.as_deref().map(Path::new))?) } else { None };
        Ok(Self { address: plain.to_owned(), token, trust })
    }

    /// The same, believed by what stands in this file instead; in clear text nobody is asked for a proof.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn believing(self, authorities: Option<&Path>) -> Result<Self, String> {
        match authorities.filter(|_| self.trust.is_some()) {
            Some(file) => Ok(Self { trust: Some(trust(Some(file))?), ..self }),
            None => Ok(self),
        }
    }

    /// The same port by TLS, whoever answers there. Its token is not sent.
    ///
    /// # Errors
    /// None that is known.
    pub(super) fn unproven(self) -> Result<Self, String> {
        let trust = Trust::anybody().map_err(|error| error.to_string())?;
        Ok(Self { token: None, trust: Some(trust), ..self })
    }

    /// Its address as it was given.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// As of [`Admin::send`].
    pub(super) fn get(&self, path: &str) -> io::Result<Answer> {
        self.send("GET", path)
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// Nobody answers there, or what answers is no HTTP, or is cut off.
    pub(super) fn send(&self, method: &str, path: &str) -> io::Result<Answer> {
        let (stream, address) = self.connect()?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = Line::begin(stream, self.trust.as_ref(), &self.address)?;
        // By the address and not by a name, which a port without a token would refuse; over TLS by what was asked for.
        let host = if self.trust.is_some() { self.address.clone() } else { address.to_string() };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if method != "GET" {
            // What is asked for here is asked for on purpose, which a request that changes something has to say.
            request += "X-Requested-With: pgweir\r\nContent-Length: 0\r\n";
        }
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        // One write, so that the request is one packet even to a server that reads only once.
        line.write_all((request + "\r\n").as_bytes())?;
        let answer = read(&mut line, Instant::now() + PATIENCE)?;
        parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))
    }

    fn connect(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "this name has no address");
        for address in self.address.to_socket_addrs()?.map(reachable) {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Whom to believe: what stands in this file, or else the operating system's authorities.
fn trust(file: Option<&Path>) -> Result<Trust, String> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file);
        let text =
            text.map_err(|error| format!("cannot read {}, to know the admin port by: {error}", file.display()))?;
        Ok::<_, String>(PemFile { path: file.display().to_string(), text: text.into() })
    };
    Trust::new(file.map(read).transpose()?).map_err(|error| error.to_string())
}

/// A connection, with or without TLS.
enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    fn begin(stream: TcpStream, trust: Option<&Trust>, address: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(match trust {
            Some(trust) => Self::Tls(Box::new(trust.speak(host, stream)?)),
            None => Self::Clear(stream),
        })
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Tls(line) => &line.sock,
        }
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(into),
            Self::Tls(line) => line.read(into),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(bytes),
            Self::Tls(line) => line.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(line) => line.flush(),
        }
    }
}

/// An address that means "all of them" is asked for over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// What comes until the other side closes, if that is before `until`: a server that says a byte now and then is none to
/// wait for.
fn read(line: &mut Line, until: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while answer.len() < MAX_ANSWER {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        line.socket().set_read_timeout(Some(left))?;
        match line.read(&mut piece)? {
            0 => break,
            read => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    Ok(answer)
}

/// A whole answer; `None` for anything else.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?);
    let body = bytes.get(end + 4..)?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked") {
            return Some(Answer { status, body: joined(body)? });
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().ok()?);
        }
    }
    let body = body.get(..length.unwrap_or(body.len()))?;
    Some(Answer { status, body: body.to_vec() })
}

/// The parts of a chunked body, without what is around them.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let data = rest.get(end + 2..)?;
        body.extend_from_slice(data.get(..size)?);
        rest = data.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Option<Answer> {
        Some(Answer { status, body: body.into() })
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), answer(200, "ok"));
        assert_eq!(parse(b"HTTP/1.0 503 Busy\r\n\r\nno"), answer(503, "no"));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), None, "cut off");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), answer(200, "abc"));
        for end in 0..chunked.len() - 4 {
            assert_eq!(parse(&chunked[..end]), None, "{end}");
        }
        for nonsense in [&b""[..], b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(parse(nonsense), None);
        }
    }

    #[test]
    fn a_server_that_drips_is_not_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut line = Line::Clear(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut served, _) = listener.accept().unwrap();
        let drips = std::thread::spawn(move || {
            while served.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        let answer = read(&mut line, began + Duration::from_millis(200));
        assert!(matches!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        assert!(began.elapsed() < Duration::from_secs(2));
        drop(line);
        drips.join().unwrap();
    }

    #[test]
    fn an_address_has_a_port() {
        for right in [
            "127.0.0.1:6433",
            "[::1]:6433",
            "pgweir:6433",
            "0.0.0.0:1",
            "http://pgweir:1/",
            "https://pgweir:6433",
            "https://[::1]:6433/",
        ] {
            assert!(Admin::new(right, None).is_ok(), "{right}");
        }
        for wrong in
            ["", "localhost", ":6433", "localhost:http", "http://localhost:6433/x", "https://localhost", "ftp://a:1"]
        {
            assert!(Admin::new(wrong, None).unwrap_err().contains("127.0.0.1:6433"), "{wrong}");
        }
    }
}
