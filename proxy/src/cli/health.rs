//! `pgweir health`: one request to `/readyz`, for container health checks in images that hold no curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Failure;

/// Longest wait for each step. A container's health check gives up after 30 s by default, an operator sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// Succeeds if the proxy whose admin port is at `address` says that it is ready.
///
/// # Errors
/// One line: not an address, nobody there, or not ready.
pub(super) fn ask(address: &str) -> Result<(), Failure> {
    let address = reachable(address.parse().map_err(|_| {
        format!("--admin: \"{}\" is not an address with a port; write 127.0.0.1:6433", address.escape_debug())
    })?);
    let status = status_of(address).map_err(|error| {
        format!("pgweir does not answer at {address}: {error}; is it running, and is admin.listen this address?")
    })?;
    match status {
        200 => super::print("ready\n"),
        _ => Err(format!("pgweir at {address} is not ready: /readyz answered {status}").into()),
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

fn status_of(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // One write, so that the request is one packet even to a server that reads only once.
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    // The status stands in the first line; a hundred bytes hold it.
    stream.take(100).read_to_end(&mut head)?;
    String::from_utf8_lossy(&head)
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not speak HTTP"))
}
