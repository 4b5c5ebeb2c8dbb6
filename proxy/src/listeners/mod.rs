//! The sockets that clients connect to: how they come about, and how they close without losing anybody.
//!
//! | socket | came from | its queue when this process stops |
//! |---|---|---|
//! | [`Origin::Own`] | bound here | taken whole, then closed: nobody else listens there |
//! | [`Origin::Shared`] | bound here with SO_REUSEPORT | emptied while newcomers are led to the process beside it (`closing`) |
//! | [`Origin::Inherited`] | the service manager ([`inherited`]) | left: the next process finds it as it is |

mod closing;
pub mod inherited;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use config::Settings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::login::Gate;
use crate::run::RunError;
use crate::stream::{Peer, Stream};
use inherited::Inherited;

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

/// A socket that is listened on. Its queue fills from now on, whether it is accepted from or not.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens, with the port that the system has picked if 0 was asked for.
    pub address: SocketAddr,
    /// As the configuration has it; `None`: it is not from there.
    pub wish: Option<SocketAddr>,
    /// Where it comes from.
    pub origin: Origin,
    socket: std::net::TcpListener,
}

impl Listener {
    /// Binds `address`, which the configuration calls `key`.
    ///
    /// # Errors
    /// [`RunError::Listen`].
    pub fn bind(address: SocketAddr, key: &'static str, shared: bool) -> Result<Self, RunError> {
        let open = || {
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), None)?;
            socket.set_reuse_address(true)?;
            if shared {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let socket: std::net::TcpListener = socket.into();
            let bound = socket.local_addr()?;
            let origin = if shared { Origin::Shared } else { Origin::Own };
            Ok(Self { address: bound, wish: Some(address), origin, socket })
        };
        open().map_err(|cause| RunError::Listen { address, key, cause })
    }

    /// For a listener without a [`Gate`]: the admin port.
    pub fn into_socket(self) -> std::net::TcpListener {
        self.socket
    }
}

/// All the sockets that a start needs: those of clients, and the admin port's if it is on.
///
/// # Errors
/// [`RunError::Listen`] for the first that cannot be had.
pub fn open(settings: &Settings, inherited: Inherited) -> Result<(Vec<Listener>, Option<Listener>), RunError> {
    let mut clients = inherited.clients;
    if clients.is_empty() {
        for address in &settings.listen {
            clients.push(Listener::bind(*address, "listen", settings.listen_reuse_port)?);
        }
    }
    let admin = match (&settings.admin, inherited.admin) {
        (None, _) => None,
        (Some(_), Some(given)) => Some(given),
        (Some(admin), None) => Some(Listener::bind(admin.listen, "admin.listen", settings.listen_reuse_port)?),
    };
    Ok((clients, admin))
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
    wish: Option<SocketAddr>,
    end: watch::Sender<Closing>,
    task: JoinHandle<()>,
}

/// What a reload does to the sockets of clients: those for which `keep` has no word are closed.
#[derive(Debug)]
pub struct Change {
    /// Accepted from, from now on.
    pub open: Vec<Listener>,
    /// Addresses of the configuration that stay.
    pub keep: Vec<SocketAddr>,
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
        let Listener { wish, origin, socket, .. } = listener;
        socket.set_nonblocking(true)?;
        let (end, ending) = watch::channel(Closing::Open);
        let task = tokio::task::spawn_local(accept(TcpListener::from_std(socket)?, origin, self.gate.clone(), ending));
        self.accepting.push(Accepting { wish, end, task });
        Ok(())
    }

    /// Puts a reload into force. What is closed empties its queue in the background.
    pub fn change(&mut self, change: Change) {
        self.accepting.retain(|accepting| {
            let stays = accepting.wish.is_none_or(|wish| change.keep.contains(&wish));
            if !stays {
                accepting.end.send_replace(Closing::Gently);
            }
            stays
        });
        for listener in change.open {
            let address = listener.address;
            if let Err(error) = self.add(listener) {
                tracing::error!(%address, %error, "a new address cannot be listened on");
            }
        }
    }

    /// Closes all sockets without losing anybody who has connected.
    pub async fn close(&mut self) {
        for accepting in &self.accepting {
            accepting.end.send_replace(Closing::Gently);
        }
        for accepting in &mut self.accepting {
            drop((&mut accepting.task).await);
        }
        self.accepting.clear();
    }

    /// Closes all sockets.
    pub fn close_at_once(&mut self) {
        for accepting in self.accepting.drain(..) {
            accepting.end.send_replace(Closing::AtOnce);
        }
    }
}

/// Accepts connections until told to end, and closes the socket.
async fn accept(listener: TcpListener, origin: Origin, gate: Rc<Gate>, mut end: watch::Receiver<Closing>) {
    let mut over = end.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = end.wait_for(|end| *end != Closing::Open) => break,
            accepted = listener.accept() => accepted,
        };
        admit(accepted, &gate).await;
    }
    // The next process finds an inherited queue as it is.
    if origin == Origin::Inherited {
        return;
    }
    tokio::select! {
        biased;
        _ = over.wait_for(|end| *end == Closing::AtOnce) => {}
        () = closing::close(listener, origin, |accepted| admit(accepted, &gate)) => {}
    }
}

async fn admit(accepted: io::Result<(tokio::net::TcpStream, SocketAddr)>, gate: &Rc<Gate>) {
    match accepted {
        Ok((stream, peer)) => {
            crate::upstream::server::prepare(&stream);
            drop(tokio::task::spawn_local(gate.clone().admit(Stream::Tcp(stream), Peer::Tcp(peer))));
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}
