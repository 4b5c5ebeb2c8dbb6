//! As much of an HTTP client as the admin port needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::patience::PATIENCE;

/// What the admin port answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, without the status line.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON; anything else fails the test.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    /// A header's value, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// GET; a connection that fails the test if refused.
pub fn fetch(address: SocketAddr, path: &str) -> Response {
    request(address, path, &[]).unwrap_or_else(|error| panic!("GET http://{address}{path}: {error}"))
}

/// GET with more headers.
///
/// # Errors
/// Nobody listens there, or it is not HTTP.
pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    send(address, "GET", path, headers, "")
}

/// POST without a body; a connection that fails the test if refused.
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    send(address, "POST", path, headers, "").unwrap_or_else(|error| panic!("POST http://{address}{path}: {error}"))
}

/// A request that changes something, with this JSON unless it is empty; a connection that fails the test if refused.
pub fn change(address: SocketAddr, method: &str, path: &str, json: &str) -> Response {
    attempt(address, method, path, json).unwrap_or_else(|error| panic!("{method} http://{address}{path}: {error}"))
}

/// The same with more headers, as a token's.
///
/// # Errors
/// Nobody listens there, or it is not HTTP.
pub fn change_as(address: SocketAddr, token: &str, (method, path): (&str, &str), json: &str) -> io::Result<Response> {
    let (length, token) = (json.len().to_string(), format!("Bearer {token}"));
    let headers = [
        ("Authorization", token.as_str()),
        ("X-Requested-With", "a test"),
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
    ];
    send(address, method, path, &headers, json)
}

/// The same, for whoever goes on where it is refused.
///
/// # Errors
/// Nobody listens there, or it is not HTTP.
pub fn attempt(address: SocketAddr, method: &str, path: &str, json: &str) -> io::Result<Response> {
    let length = json.len().to_string();
    let headers =
        [("X-Requested-With", "a test"), ("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    send(address, method, path, &headers, json)
}

/// What a GET is answered within so long, as text with its head: of an answer that does not end by itself.
///
/// # Errors
/// Nobody listens there.
pub fn beginning(address: SocketAddr, path: &str, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (end, mut heard, mut piece) = (Instant::now() + limit, Vec::new(), [0; 4096]);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => heard.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n" + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1)?.parse().ok()?;
    let response = Response { status, head: head.to_owned(), body: String::new() };
    let chunked = response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = if chunked { join_chunks(body)? } else { body.to_owned() };
    Some(Response { body, ..response })
}

fn join_chunks(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, data) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += data.get(..size)?;
        rest = data.get(size + 2..)?;
    }
}
