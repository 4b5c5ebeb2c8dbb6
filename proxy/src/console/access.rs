//! Who may use the console, and who is on it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Console;
use crate::admin::ClientState;
use crate::admin::source::TlsState;
use crate::cancel::key::Identity;
use crate::session::ctl::TlsFace;
use crate::stream::Stream;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Look.
    Stats,
}

impl Role {
    /// That of a user who has proven who they are; `None`: the console is not for them.
    pub fn of(lists: &config::Console, user: &str) -> Option<Self> {
        let is_in = |list: &[String]| list.iter().any(|listed| listed == user);
        if is_in(&lists.admin_users) {
            return Some(Self::Admin);
        }
        is_in(&lists.stats_users).then_some(Self::Stats)
    }
}

/// Whether whoever is at the other end of a Unix socket is the system's user that this process runs as, and calls
/// themselves by one of the console's names. They could read this process's memory as well: nothing has to be proven.
pub fn is_own_user(stream: Option<&Stream>, user: &str) -> bool {
    let Some(Stream::Unix(socket)) = stream else { return false };
    let own = rustix::process::geteuid().as_raw();
    config::Console::is_named(user) && socket.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// Somebody on the console.
#[derive(Debug)]
pub struct Visitor {
    /// Unique in the process.
    pub id: u64,
    /// Who they have proven to be.
    pub user: Box<str>,
    /// What they may do.
    pub role: Role,
    /// Where they come from.
    pub address: Box<str>,
    /// Where they have connected to; `None`: by a Unix socket.
    pub local: Option<SocketAddr>,
    /// Their `application_name`.
    pub application: Box<str>,
    /// Their TLS.
    pub tls: Option<TlsFace>,
    /// Since when they are connected, in µs on the telemetry clock.
    pub connected_us: u64,
    /// Whether a command of theirs runs, and since when, or since when none does, in µs on the telemetry clock.
    pub(crate) state: Cell<(bool, u64)>,
    /// What they wait for shall be given up.
    pub(crate) cancelled: Notify,
    /// They shall leave.
    pub(crate) killed: Notify,
}

impl Visitor {
    /// Somebody who has just come.
    pub fn new(id: u64, user: &str, role: Role, now_us: u64) -> Self {
        Self {
            id,
            user: user.into(),
            role,
            address: Box::default(),
            local: None,
            application: Box::default(),
            tls: None,
            connected_us: now_us,
            state: Cell::new((false, now_us)),
            cancelled: Notify::new(),
            killed: Notify::new(),
        }
    }

    /// As a client among others.
    pub(super) fn state(&self) -> ClientState {
        let (busy, since_us) = self.state.get();
        ClientState {
            id: self.id,
            // Whichever of its names they have used.
            database: "pgbouncer".to_owned(),
            user: self.user.to_string(),
            application: self.application.to_string(),
            address: self.address.to_string(),
            local: self.local,
            tls: self.tls.as_ref().map(|tls| TlsState {
                version: tls.version.to_string(),
                cipher: tls.cipher,
                server_name: tls.server_name.as_deref().map(str::to_owned),
            }),
            state: if busy { "active" } else { "idle" },
            connected_us: self.connected_us,
            state_since_us: since_us,
            ..ClientState::default()
        }
    }
}

/// A visitor's place; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    pub(super) console: Rc<Console>,
    pub(super) visitor: Rc<Visitor>,
    /// What BackendKeyData tells.
    pub identity: Identity,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.console.leave(self.visitor.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_both_lists_is_an_admin_and_who_is_in_none_is_nobody() {
        let lists = config::Console {
            admin_users: vec!["ops".into(), "both".into()],
            stats_users: vec!["watch".into(), "both".into()],
        };
        let role = |user| Role::of(&lists, user);
        assert_eq!([role("ops"), role("both")], [Some(Role::Admin); 2]);
        assert_eq!((role("watch"), role("Ops"), role("")), (Some(Role::Stats), None, None));
        assert_eq!(Role::of(&config::Console::default(), "pgbouncer"), None);
    }

    #[tokio::test]
    async fn the_systems_user_that_we_run_as_needs_a_unix_socket_and_one_of_two_names() {
        let (one, _other) = tokio::net::UnixStream::pair().unwrap();
        let own = Stream::Unix(one);
        assert!(is_own_user(Some(&own), "pgweir") && is_own_user(Some(&own), "pgbouncer"));
        assert!(!is_own_user(Some(&own), "root") && !is_own_user(None, "pgweir"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_own_user(Some(&Stream::Tcp(tcp)), "pgweir"));
    }
}
