//! As much HTTP as asking one's own admin port takes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Failure;

/// Longest wait for each step. A container's health check gives up after 30 s by default, an operator sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Where `--admin` says that the port is.
///
/// # Errors
/// It is not an address.
pub(super) fn address(written: &str) -> std::result::Result<SocketAddr, Failure> {
    let address = written.parse().map_err(|_| {
        format!("--admin: \"{}\" is not an address with a port; write 127.0.0.1:6433", written.escape_debug())
    })?;
    Ok(reachable(address))
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

/// Asks for a path; gives the status and what follows the head.
///
/// # Errors
/// Nobody there, or nobody who speaks HTTP.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, token: Option<&str>) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    // What is asked for here is asked for on purpose, which a request that changes something has to say.
    let intent = if method == "GET" { "" } else { "X-Requested-With: pgweir\r\nContent-Length: 0\r\n" };
    // One write, so that the request is one packet even to a server that reads only once.
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}{intent}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "it does not speak HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
