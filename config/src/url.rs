//! `postgres://user:password@host:port,host:port/database?…`, as libpq reads it, into an [`Upstream`].

use std::fmt;
use std::sync::Arc;

use crate::{Host, MaxProtocol, Secret, SessionAttrs, Upstream, UpstreamTls};

mod tls;

pub use tls::UrlTls;
pub(crate) use tls::binding;

/// What is wrong with a URL. Never quotes it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlError {
    /// Something other than `postgres://` or `postgresql://`.
    Scheme,
    /// `port=` lists neither one port nor as many as there are hosts.
    Ports,
    /// A `target_session_attrs` that libpq does not know.
    SessionAttrs,
    /// A `load_balance_hosts` that libpq does not know.
    LoadBalance,
    /// Not a number from 1 to 65535.
    Port,
    /// `[` without `]`, or something other than a port behind it.
    Brackets,
    /// `%` without two hex digits, or bytes that are not UTF-8.
    Percent,
    /// A NUL character somewhere.
    Nul,
    /// A parameter with a value that it cannot have.
    Value {
        /// The parameter.
        name: &'static str,
        /// What it could be.
        expected: &'static str,
    },
    /// A query parameter that the proxy does not use.
    Parameter(String),
    /// The path holds a `/`.
    Path,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "is not a database URL; write postgres://user:password@host:5432/database",
            Self::Ports => "has a list of ports that does not match its hosts; write one port, or one for each host",
            Self::SessionAttrs => "has an unknown target_session_attrs; write any, read-write, read-only, primary, standby or prefer-standby",
            Self::LoadBalance => "has an unknown load_balance_hosts; write disable or random",
            Self::Port => "has a port that is not a number from 1 to 65535; write postgres://host:5432/database",
            Self::Brackets => "has a broken IPv6 address; write it in brackets, as postgres://[::1]:5432/database",
            Self::Percent => "has a % that is not followed by the two hex digits of a UTF-8 byte; write a percent sign itself as %25",
            Self::Nul => "holds a NUL character; remove it",
            Self::Path => "has a / in its database name; write it as %2F if it belongs to the name",
            Self::Value { name, expected } => return write!(f, "has a value for {name} that it cannot have; use {expected}"),
            Self::Parameter(name) => return write!(f, "has the parameter \"{}\", which the proxy does not use; take it out here (clients may keep it in theirs)", name.escape_debug()),
        })
    }
}

impl std::error::Error for UrlError {}

/// Reads a URL. Defaults: host `localhost`, port 5432, everything else `None`. Several hosts stand between commas, each
/// with a port of its own.
///
/// Query parameters: `host` (a Unix socket's folder among others) and `port`, each a list between commas, `user`,
/// `password`, `dbname`, `target_session_attrs`, `load_balance_hosts`, `max_protocol_version`, and those of TLS, which come back beside the
/// upstream: they name files, and what they leave out is said elsewhere.
///
/// # Errors
/// See [`UrlError`].
pub fn parse_url(text: &str) -> Result<(Upstream, UrlTls), UrlError> {
    let rest =
        text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(UrlError::Scheme)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('/') {
        return Err(UrlError::Path);
    }
    // The last @: a password may hold one, and a host never does.
    let (login, addresses) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let mut upstream = Upstream {
        hosts: addresses.split(',').map(host).collect::<Result<_, _>>()?,
        session_attrs: SessionAttrs::Any,
        load_balance: false,
        protocol: MaxProtocol::default(),
        database: given(decoded(path)?),
        user: given(decoded(user)?),
        password: password.map(decoded).transpose()?.and_then(given).map(Secret::new),
        tls: Arc::new(UpstreamTls::default()),
    };
    let (mut tls, mut ports) = (UrlTls::default(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decoded(name)?.as_str(), decoded(value)?) {
            ("port", value) => ports = Some(value),
            (name, value) if tls.apply(name, &value)? => {}
            (name, value) => apply(&mut upstream, name, value)?,
        }
    }
    if let Some(ports) = ports {
        set_ports(&mut upstream.hosts, &ports)?;
    }
    for host in upstream.hosts.iter_mut().filter(|host| host.name.is_empty()) {
        "localhost".clone_into(&mut host.name);
    }
    Ok((upstream, tls))
}

fn apply(upstream: &mut Upstream, name: &str, value: String) -> Result<(), UrlError> {
    match name {
        "host" => upstream.hosts = value.split(',').map(|name| Host { name: name.to_owned(), port: 5432 }).collect(),
        "user" => upstream.user = given(value),
        "password" => upstream.password = given(value).map(Secret::new),
        "dbname" => upstream.database = given(value),
        "target_session_attrs" => {
            upstream.session_attrs = SessionAttrs::parse(&value).ok_or(UrlError::SessionAttrs)?;
        }
        "load_balance_hosts" => match value.as_str() {
            "disable" | "random" => upstream.load_balance = value == "random",
            _ => return Err(UrlError::LoadBalance),
        },
        "max_protocol_version" => {
            let wrong = UrlError::Value { name: "max_protocol_version", expected: "3.0, 3.2 or latest" };
            upstream.protocol = MaxProtocol::parse(&value).ok_or(wrong)?;
        }
        _ => return Err(UrlError::Parameter(name.chars().take(40).collect())),
    }
    Ok(())
}

/// One port for all hosts, or one for each.
fn set_ports(hosts: &mut [Host], ports: &str) -> Result<(), UrlError> {
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(UrlError::Ports);
    }
    for (host, port) in hosts.iter_mut().zip(ports.iter().cycle()) {
        host.port = if port.is_empty() { 5432 } else { port_number(port)? };
    }
    Ok(())
}

fn host(address: &str) -> Result<Host, UrlError> {
    let (name, port) = host_and_port(address)?;
    Ok(Host { name: decoded(name)?, port: port.map_or(Ok(5432), port_number)? })
}

fn host_and_port(address: &str) -> Result<(&str, Option<&str>), UrlError> {
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
            hosts: vec![Host { name: host.to_owned(), port }],
            session_attrs: SessionAttrs::Any,
            load_balance: false,
            protocol: MaxProtocol::default(),
            database: given(database.to_owned()),
            user: given(user.to_owned()),
            password: given(password.to_owned()).map(Secret::new),
            tls: Arc::new(UpstreamTls::default()),
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
            assert_eq!(parse_url(text).map(|(upstream, _)| upstream).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn several_hosts_have_ports_of_their_own() {
        let hosts = |text: &str| {
            let (upstream, _) = parse_url(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            upstream.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("postgres://a:1,b,[::1]:3/d", "a:1 b:5432 [::1]:3"),
            ("postgres://a,b/d?port=6000", "a:6000 b:6000"),
            ("postgres://a,b/d?port=6000,", "a:6000 b:5432"),
            ("postgres:///d?port=1,2&host=/run/a,b", "/run/a:1 b:2"),
            ("postgres://,b:2/d", "localhost:5432 b:2"),
        ] {
            assert_eq!(hosts(text), expected, "{text}");
        }
        let (chosen, _) =
            parse_url("postgres://a,b/d?target_session_attrs=read-write&load_balance_hosts=random").unwrap();
        assert_eq!((chosen.session_attrs, chosen.load_balance), (SessionAttrs::ReadWrite, true));
        assert!(!parse_url("postgres://a/d?load_balance_hosts=disable").unwrap().0.load_balance);
        for (value, protocol) in [("3.0", MaxProtocol::V3_0), ("3.2", MaxProtocol::V3_2), ("latest", MaxProtocol::V3_2)]
        {
            let url = format!("postgres://a/d?max_protocol_version={value}");
            assert_eq!(parse_url(&url).unwrap().0.protocol, protocol);
        }
    }

    #[test]
    fn wrong_urls_are_told_without_their_password() {
        for (text, expected) in [
            ("", UrlError::Scheme),
            ("mysql://h/d", UrlError::Scheme),
            ("host=h dbname=d", UrlError::Scheme),
            ("postgres://u:geheim@a:1,b:x/d", UrlError::Port),
            ("postgres:///d?host=a,b&port=1,2,3", UrlError::Ports),
            ("postgres://h/d?target_session_attrs=master", UrlError::SessionAttrs),
            ("postgres://h/d?load_balance_hosts=yes", UrlError::LoadBalance),
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
            (
                "postgres://h/d?sslmode=full",
                UrlError::Value {
                    name: "sslmode",
                    expected: "disable, allow, prefer, require, verify-ca or verify-full",
                },
            ),
            (
                "postgres://h/d?max_protocol_version=3.1",
                UrlError::Value { name: "max_protocol_version", expected: "3.0, 3.2 or latest" },
            ),
            (
                "postgres://h/d?sslnegotiation=x",
                UrlError::Value { name: "sslnegotiation", expected: "postgres or direct" },
            ),
            ("postgres://h/d?schema=x", UrlError::Parameter("schema".to_owned())),
        ] {
            let error = parse_url(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("geheim"));
        }
    }
}
