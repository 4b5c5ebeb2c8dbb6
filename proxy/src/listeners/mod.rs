//! The sockets that clients connect to: how they come about, and how they close without losing anybody.
//!
//! | socket | came from | its queue when this process stops |
//! |---|---|---|
//! | [`Origin::Own`] | bound here | taken whole, then closed: nobody else listens there |
//! | [`Origin::Shared`] | bound here with SO_REUSEPORT | emptied while newcomers are led to the process beside it (`closing`) |
//! | [`Origin::Inherited`] | the service manager ([`inherited`]) | left: the next process finds it as it is |
//!
//! A Unix socket has a file besides ([`mod@file`]), which goes first.

mod closing;
pub mod file;
pub mod inherited;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::{ListenAddress, Settings, UnixSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::login::Gate;
use crate::run::RunError;
use crate::stream::{Peer, Stream};
use file::SocketFile;
use inherited::Inherited;
use socket::{Socket, Watched};

/// Connections that wait to be accepted, at most; a burst of 10,000 connects must not be refused for want of it.
const BACKLOG: i32 = 4096;
/// Pause after accept has failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a listening socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Bound here, for this process alone.
    Own,
    /// Bound here; others may bind the same address and take connections beside us.
    Shared,
    /// Handed over by the service manager, which keeps it when we go.
    Inherited,
}

impl Origin {
    /// For operators: `own`, `shared` or `inherited`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
            Self::Inherited => "inherited",
        }
    }
}

/// What a listening socket has seen. Written by the control thread alone.
#[derive(Debug, Default)]
pub struct Door {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Attempts to accept that failed.
    pub failed: AtomicU64,
    /// Its file descriptor.
    pub descriptor: i32,
}

/// A socket that is listened on. Its queue fills from now on, whether it is accepted from or not.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens, with the port that the system has picked if 0 was asked for.
    pub address: ListenAddress,
    /// As the configuration has it; `None`: it is not from there.
    pub wish: Option<ListenAddress>,
    /// Where it comes from.
    pub origin: Origin,
    /// The file of a Unix socket that was bound here.
    pub file: Option<SocketFile>,
    /// What it has seen.
    pub door: Arc<Door>,
    socket: Socket,
}

impl Listener {
    fn new(address: ListenAddress, origin: Origin, socket: Socket) -> Self {
        let door = Arc::new(Door { descriptor: socket.descriptor(), ..Door::default() });
        Self { address, wish: None, origin, file: None, door, socket }
    }

    /// Binds one of the addresses of `listen`.
    ///
    /// # Errors
    /// [`RunError::Listen`].
    pub fn bind(wish: &ListenAddress, settings: &Settings) -> Result<Self, RunError> {
        let shared = settings.listen_reuse_port;
        let bound = match wish {
            ListenAddress::Tcp(address) => bind_tcp(*address, shared)
                .map(|(address, socket)| Self::new(address.into(), origin(shared), Socket::Tcp(socket))),
            ListenAddress::Unix(path) => SocketFile::bind(path, &settings.unix_socket, shared).map(|(socket, file)| {
                Self { file: Some(file), ..Self::new(wish.clone(), origin(shared), Socket::Unix(socket)) }
            }),
        };
        let refused = |cause| RunError::Listen { address: wish.clone(), key: "listen", cause };
        bound.map(|bound| Self { wish: Some(wish.clone()), ..bound }).map_err(refused)
    }

    /// Binds the admin port.
    fn bind_admin(address: SocketAddr, shared: bool) -> Result<Self, RunError> {
        let bound = bind_tcp(address, shared);
        let refused = |cause| RunError::Listen { address: address.into(), key: "admin.listen", cause };
        bound.map(|(address, socket)| Self::new(address.into(), origin(shared), Socket::Tcp(socket))).map_err(refused)
    }

    /// For a listener without a [`Gate`]: the admin port. `None`: it is none of TCP.
    pub fn into_tcp(self) -> Option<std::net::TcpListener> {
        match self.socket {
            Socket::Tcp(socket) => Some(socket),
            Socket::Unix(_) => None,
        }
    }

    /// Closes one that was never accepted from.
    pub fn discard(self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

fn origin(shared: bool) -> Origin {
    if shared { Origin::Shared } else { Origin::Own }
}

fn bind_tcp(address: SocketAddr, shared: bool) -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket: std::net::TcpListener = socket.into();
    Ok((socket.local_addr()?, socket))
}

/// All the sockets that a start needs: those of clients, and the admin port's if it is on.
///
/// # Errors
/// [`RunError::Listen`] for the first that cannot be had; none is open then.
pub fn open(settings: &Settings, inherited: Inherited) -> Result<(Vec<Listener>, Option<Listener>), RunError> {
    let admin = match (&settings.admin, inherited.admin) {
        (None, _) => None,
        (Some(admin), Some(given)) => {
            let open = given.address.tcp().filter(|address| !address.ip().is_loopback() && !admin.guards_network());
            match open {
                Some(address) => return Err(RunError::OpenAdmin(address)),
                None => Some(given),
            }
        }
        (Some(admin), None) => Some(Listener::bind_admin(admin.listen, settings.listen_reuse_port)?),
    };
    let clients = match inherited.clients.is_empty() {
        true => bind_all(settings.listen.iter(), settings)?,
        false => inherited.clients,
    };
    Ok((clients, admin))
}

/// Binds all of these addresses of `listen`, or none.
///
/// # Errors
/// [`RunError::Listen`] for the first that cannot be had.
pub fn bind_all<'a>(
    wishes: impl Iterator<Item = &'a ListenAddress>,
    settings: &Settings,
) -> Result<Vec<Listener>, RunError> {
    let mut bound = Vec::new();
    for wish in wishes {
        match Listener::bind(wish, settings) {
            Ok(listener) => bound.push(listener),
            Err(error) => {
                bound.into_iter().for_each(Listener::discard);
                return Err(error);
            }
        }
    }
    Ok(bound)
}

/// Puts the permissions of the settings in force for files that are there already.
///
/// # Errors
/// [`RunError::Listen`].
pub fn permit(address: &ListenAddress, file: &SocketFile, access: &UnixSocket) -> Result<(), RunError> {
    file.permit(access).map_err(|cause| RunError::Listen { address: address.clone(), key: "unix_socket_mode", cause })
}

/// How accepting shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Not yet.
    Open,
    /// Without losing anybody.
    Gently,
    /// Now.
    AtOnce,
}

/// One socket with its task.
struct Accepting {
    wish: Option<ListenAddress>,
    file: Option<SocketFile>,
    end: watch::Sender<Closing>,
    task: JoinHandle<()>,
}

impl Accepting {
    /// Begins its end. Its file goes first: nobody finds a socket that is about to close.
    fn close(&self, how: Closing) {
        if let Some(file) = &self.file {
            file.remove();
        }
        self.end.send_replace(how);
    }
}

/// What a reload does to the sockets of clients: those for which `keep` has no word are closed.
#[derive(Debug)]
pub struct Change {
    /// Accepted from, from now on.
    pub open: Vec<Listener>,
    /// Addresses of the configuration that stay.
    pub keep: Vec<ListenAddress>,
}

/// Accepts on all sockets of clients. Lives on the control thread.
pub struct Listeners {
    gate: Rc<Gate>,
    accepting: Vec<Accepting>,
}

impl Listeners {
    /// Accepts nothing yet.
    pub fn new(gate: Rc<Gate>) -> Self {
        Self { gate, accepting: Vec::new() }
    }

    /// Begins to accept.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn add(&mut self, listener: Listener) -> io::Result<()> {
        let Listener { wish, origin, file, door, socket, .. } = listener;
        let (end, ending) = watch::channel(Closing::Open);
        let hall = Hall { gate: self.gate.clone(), door };
        let task = tokio::task::spawn_local(accept(socket.watched()?, origin, hall, ending));
        self.accepting.push(Accepting { wish, file, end, task });
        Ok(())
    }

    /// Puts a reload into force. What is closed empties its queue in the background.
    pub fn change(&mut self, change: Change) {
        self.accepting.retain(|accepting| {
            let stays = accepting.wish.as_ref().is_none_or(|wish| change.keep.contains(wish));
            if !stays {
                accepting.close(Closing::Gently);
            }
            stays
        });
        for listener in change.open {
            let address = listener.address.clone();
            if let Err(error) = self.add(listener) {
                tracing::error!(%address, %error, "a new address cannot be listened on");
            }
        }
    }

    /// Closes all sockets without losing anybody who has connected.
    pub async fn close(&mut self) {
        self.accepting.iter().for_each(|accepting| accepting.close(Closing::Gently));
        // Each goes as it has ended: who hurries this leaves it half-way and comes again.
        while let Some(last) = self.accepting.last_mut() {
            drop((&mut last.task).await);
            drop(self.accepting.pop());
        }
    }

    /// Closes all sockets.
    pub fn close_at_once(&mut self) {
        self.accepting.drain(..).for_each(|accepting| accepting.close(Closing::AtOnce));
    }
}

/// Accepts connections until told to end, and closes the socket.
async fn accept(listener: Watched, origin: Origin, hall: Hall, mut end: watch::Receiver<Closing>) {
    let mut over = end.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = end.wait_for(|end| *end != Closing::Open) => break,
            accepted = listener.accept() => accepted,
        };
        hall.admit(accepted).await;
    }
    // The next process finds an inherited queue as it is.
    if origin == Origin::Inherited {
        return;
    }
    tokio::select! {
        biased;
        _ = over.wait_for(|end| *end == Closing::AtOnce) => {}
        () = closing::close(listener, origin, |accepted| hall.admit(accepted)) => {}
    }
}

/// Where those go who have come in.
struct Hall {
    gate: Rc<Gate>,
    door: Arc<Door>,
}

impl Hall {
    async fn admit(&self, accepted: io::Result<(Stream, Peer)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.door.accepted.fetch_add(1, Ordering::Relaxed);
                if let Stream::Tcp(stream) = &stream {
                    crate::upstream::server::prepare(stream, self.gate.shared.settings().tcp);
                }
                drop(tokio::task::spawn_local(self.gate.clone().admit(stream, peer)));
            }
            Err(error) => {
                self.door.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
