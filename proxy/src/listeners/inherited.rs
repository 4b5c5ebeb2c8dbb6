//! Sockets that the service manager has opened for us: systemd's socket activation.
//!
//! `LISTEN_PID` says whom they are for, `LISTEN_FDS` how many there are from descriptor 3 on, `LISTEN_FDNAMES` what the
//! units call them (`FileDescriptorName=`). One called `admin` is the admin port's, all others are for clients.

use std::io;
use std::os::unix::net::UnixListener;

use config::ListenAddress;
use listenfd::ListenFd;

use super::socket::Socket;
use super::{Listener, Origin};

/// The name of the admin port's socket.
const ADMIN: &str = "admin";

/// What was inherited; nothing, as a rule.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For clients: they stand in for the key `listen`.
    pub clients: Vec<Listener>,
    /// For operators: it stands in for `admin.listen`.
    pub admin: Option<Listener>,
}

impl Inherited {
    /// Takes what the environment speaks of. To be called once, at the start of the process.
    ///
    /// # Errors
    /// A descriptor is not a listening socket, or that of the admin port none of TCP.
    pub fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for place in 0..given.len() {
            let name = names.next().unwrap_or_default();
            let by_tcp = given.take_tcp_listener(place);
            if name == ADMIN && inherited.admin.is_none() {
                inherited.admin = by_tcp?.map(tcp).transpose()?;
                continue;
            }
            let listener = match by_tcp {
                Ok(socket) => socket.map(tcp),
                Err(error) => given.take_unix_listener(place).map_err(|_| error)?.map(unix),
            };
            inherited.clients.extend(listener.transpose()?);
        }
        Ok(inherited)
    }
}

fn tcp(socket: std::net::TcpListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let address = ListenAddress::Tcp(socket.local_addr()?);
    Ok(Listener::new(address, Origin::Inherited, Socket::Tcp(socket)))
}

fn unix(socket: UnixListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    // One without a name can be reached by whoever has it; nobody has such a one.
    let path = socket.local_addr()?.as_pathname().map(Into::into).unwrap_or_default();
    Ok(Listener::new(ListenAddress::Unix(path), Origin::Inherited, Socket::Unix(socket)))
}

#[cfg(test)]
mod tests {
    use config::{AdminRole, AdminToken, NoSources, Overrides, Settings};

    use super::*;

    #[test]
    fn an_admin_port_that_others_can_reach_is_held_to_what_a_bound_one_is() {
        let open = |token: Option<&str>, cleartext: bool| {
            let text = "listen = '127.0.0.1:0'\n[databases.a]\nupstream = 'postgres://h'\n";
            let mut settings = Settings::from_toml(text, &Overrides::default(), &NoSources).unwrap();
            let admin = settings.admin.as_mut().unwrap();
            admin.tokens.extend(token.map(|token| AdminToken::new("a", AdminRole::Viewer, token)));
            admin.cleartext = cleartext;
            let socket = tcp(std::net::TcpListener::bind("0.0.0.0:0").unwrap()).unwrap();
            let inherited = Inherited { admin: Some(socket), ..Inherited::default() };
            super::super::open(&settings, inherited).map(drop).map_err(|error| error.to_string())
        };
        for (token, cleartext) in [(None, false), (None, true), (Some("t"), false)] {
            let why = open(token, cleartext).unwrap_err();
            assert!(why.contains("needs a token (admin.token) and a certificate"), "{why}");
        }
        assert_eq!(open(Some("t"), true), Ok(()));
    }
}
