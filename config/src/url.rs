//! `postgres://user:password@host:port/database?…`, as libpq reads it, into an [`Upstream`].

use std::fmt;

use crate::{Secret, Upstream};

/// What is wrong with a URL. Never quotes it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlError {
    /// Something other than `postgres://` or `postgresql://`.
    Scheme,
    /// Commas between hosts.
    SeveralHosts,
    /// Not a number from 1 to 65535.
    Port,
    /// `[` without `]`, or something other than a port behind it.
    Brackets,
    /// `%` without two hex digits, or bytes that are not UTF-8.
    Percent,
    /// A NUL character somewhere.
    Nul,
    /// `sslmode=require` and the like.
    TlsRequired,
    /// A query parameter that the proxy does not use.
    Parameter(String),
    /// The path holds a `/`.
    Path,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "is not a database URL; write postgres://user:password@host:5432/database",
            Self::SeveralHosts => "names several hosts; write a URL with one host (the server that takes writes)",
            Self::Port => "has a port that is not a number from 1 to 65535; write postgres://host:5432/database",
            Self::Brackets => "has a broken IPv6 address; write it in brackets, as postgres://[::1]:5432/database",
            Self::Percent => "has a % that is not followed by the two hex digits of a UTF-8 byte; write a percent sign itself as %25",
            Self::Nul => "holds a NUL character; remove it",
            Self::TlsRequired => "asks for TLS to the server, which this version cannot do; set sslmode=disable if the network is trusted",
            Self::Path => "has a / in its database name; write it as %2F if it belongs to the name",
            Self::Parameter(name) => return write!(f, "has the parameter \"{}\", which the proxy does not use; take it out here (clients may keep it in theirs)", name.escape_debug()),
        })
    }
}

impl std::error::Error for UrlError {}

/// Reads a URL. Defaults: host `localhost`, port 5432, everything else `None`.
///
/// Query parameters: `host` (a Unix socket's folder among others), `port`, `user`, `password`, `dbname`, and `sslmode`
/// as far as it does not insist on TLS.
///
/// # Errors
/// See [`UrlError`].
pub fn parse_url(text: &str) -> Result<Upstream, UrlError> {
    let rest =
        text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(UrlError::Scheme)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('/') {
        return Err(UrlError::Path);
    }
    // The last @: a password may hold one, and a host never does.
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let (host, port) = host_and_port(address)?;
    let mut upstream = Upstream {
        host: decoded(host)?,
        port: port.map_or(Ok(5432), port_number)?,
        database: given(decoded(path)?),
        user: given(decoded(user)?),
        password: password.map(decoded).transpose()?.and_then(given).map(Secret::new),
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        apply(&mut upstream, &decoded(name)?, decoded(value)?)?;
    }
    if upstream.host.is_empty() {
        upstream.host = "localhost".to_owned();
    }
    if upstream.host.contains(',') { Err(UrlError::SeveralHosts) } else { Ok(upstream) }
}

fn apply(upstream: &mut Upstream, name: &str, value: String) -> Result<(), UrlError> {
    match name {
        "host" => upstream.host = value,
        "port" => upstream.port = port_number(&value)?,
        "user" => upstream.user = given(value),
        "password" => upstream.password = given(value).map(Secret::new),
        "dbname" => upstream.database = given(value),
        "sslmode" if matches!(value.as_str(), "disable" | "allow" | "prefer") => {}
        "sslmode" => return Err(UrlError::TlsRequired),
        _ => return Err(UrlError::Parameter(name.chars().take(40).collect())),
    }
    Ok(())
}

fn host_and_port(address: &str) -> Result<(&str, Option<&str>), UrlError> {
    if address.contains(',') {
        return Err(UrlError::SeveralHosts);
    }
    if let Some(inner) = address.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or(UrlError::Brackets)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Brackets)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(UrlError::Brackets),
        };
    }
    match address.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(UrlError::Brackets),
        Some((host, port)) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
        None => Ok((address, None)),
    }
}

fn port_number(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(UrlError::Port)
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn decoded(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(UrlError::Percent)?;
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| UrlError::Percent)?);
        rest = after.get(2..).unwrap_or("");
    }
    bytes.extend_from_slice(rest.as_bytes());
    if bytes.contains(&0) {
        return Err(UrlError::Nul);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(host: &str, port: u16, database: &str, user: &str, password: &str) -> Upstream {
        Upstream {
            host: host.to_owned(),
            port,
            database: given(database.to_owned()),
            user: given(user.to_owned()),
            password: given(password.to_owned()).map(Secret::new),
        }
    }

    #[test]
    fn urls_read_as_libpq_does() {
        for (text, expected) in [
            ("postgres://", upstream("localhost", 5432, "", "", "")),
            ("postgresql://db.example/app", upstream("db.example", 5432, "app", "", "")),
            ("postgres://u:p@h:6000/d", upstream("h", 6000, "d", "u", "p")),
            ("postgres://u@h", upstream("h", 5432, "", "u", "")),
            ("postgres://u:@h:/", upstream("h", 5432, "", "u", "")),
            ("postgres://u%40x:p%3A%2F%25@h/d%20b", upstream("h", 5432, "d b", "u@x", "p:/%")),
            ("postgres://u:a@b:c@h/d", upstream("h", 5432, "d", "u", "a@b:c")),
            ("postgres://u:p@[::1]:6000/d", upstream("::1", 6000, "d", "u", "p")),
            ("postgres://[fe80::1]/d", upstream("fe80::1", 5432, "d", "", "")),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", upstream("/var/run/postgresql", 5432, "d", "u", "")),
            ("postgres:///d?host=/tmp&port=6000", upstream("/tmp", 6000, "d", "", "")),
            ("postgres://h/?dbname=d&user=u&password=p&sslmode=prefer", upstream("h", 5432, "d", "u", "p")),
            ("postgres://ü:é@h/ß", upstream("h", 5432, "ß", "ü", "é")),
        ] {
            assert_eq!(parse_url(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn wrong_urls_are_told_without_their_password() {
        for (text, expected) in [
            ("", UrlError::Scheme),
            ("mysql://h/d", UrlError::Scheme),
            ("host=h dbname=d", UrlError::Scheme),
            ("postgres://u:geheim@a,b/d", UrlError::SeveralHosts),
            ("postgres://u:geheim@a:1,b:2/d", UrlError::SeveralHosts),
            ("postgres:///d?host=a,b", UrlError::SeveralHosts),
            ("postgres://u:geheim@h:0/d", UrlError::Port),
            ("postgres://u:geheim@h:65536/d", UrlError::Port),
            ("postgres://u:geheim@h:+5/d", UrlError::Port),
            ("postgres://h:x/d", UrlError::Port),
            ("postgres://[::1/d", UrlError::Brackets),
            ("postgres://[::1]6000/d", UrlError::Brackets),
            ("postgres://[h]/d", UrlError::Brackets),
            ("postgres://::1/d", UrlError::Brackets),
            ("postgres://u:geheim%@h/d", UrlError::Percent),
            ("postgres://u:geheim%zz@h/d", UrlError::Percent),
            ("postgres://u:geheim%+1@h/d", UrlError::Percent),
            ("postgres://u:geheim%ff@h/d", UrlError::Percent),
            ("postgres://u:geheim%€@h/d", UrlError::Percent),
            ("postgres://u:geheim%00@h/d", UrlError::Nul),
            ("postgres://h/a/b", UrlError::Path),
            ("postgres://h/d?sslmode=verify-full", UrlError::TlsRequired),
            ("postgres://h/d?schema=x", UrlError::Parameter("schema".to_owned())),
        ] {
            let error = parse_url(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("geheim"));
        }
    }
}
