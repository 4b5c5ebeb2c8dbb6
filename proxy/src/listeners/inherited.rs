//! Sockets that the service manager has opened for us: systemd's socket activation.
//!
//! `LISTEN_PID` says whom they are for, `LISTEN_FDS` how many there are from descriptor 3 on, `LISTEN_FDNAMES` what the
//! units call them (`FileDescriptorName=`). One called `admin` is the admin port's, all others are for clients.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

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
    /// A descriptor is not a listening TCP socket.
    pub fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for place in 0..given.len() {
            let name = names.next().unwrap_or_default();
            let Some(socket) = given.take_tcp_listener(place)? else { continue };
            let listener = listener(socket)?;
            if name == ADMIN && inherited.admin.is_none() {
                inherited.admin = Some(listener);
            } else {
                inherited.clients.push(listener);
            }
        }
        Ok(inherited)
    }
}

fn listener(socket: TcpListener) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener { address: socket.local_addr()?, wish: None, origin: Origin::Inherited, socket })
}
