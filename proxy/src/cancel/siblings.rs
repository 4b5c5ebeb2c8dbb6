//! Processes of one instance on one machine: the old and the new one of a restart.
//!
//! Each listens on a Unix socket in the abstract namespace, named by user, port, peer and generation. The name is free
//! again when its process ends, however it ends, needs no folder, and is seen in one network namespace only, as the port
//! is. Taking the name is how a process gets its generation. Nobody else's processes are spoken to: both sides look at
//! the other's user.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use wire::frame;
use wire::login::{AwaitStartup, Opened};

use super::key::{GENERATIONS, Layout, ProcessIds};
use super::{Exchange, Via, peers};

/// How long a sibling may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after accept has failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// This process's place among its siblings.
#[derive(Debug)]
pub struct Place {
    /// How it makes process ids.
    pub ids: ProcessIds,
    /// Where siblings reach it; `None`: they cannot.
    pub socket: Option<StdListener>,
}

/// Finds the first generation that no living process has. `port`: what clients connect to.
pub fn find_place(peer: u32, port: u16, workers: usize) -> Place {
    let group = format!("pgweir/{}/{port}/{peer}", rustix::process::geteuid().as_raw());
    for generation in GENERATIONS {
        match StdListener::bind_addr(&match name(&group, generation) {
            Ok(name) => name,
            Err(error) => return alone(peer, &group, workers, &error),
        }) {
            Ok(socket) => {
                return Place {
                    ids: ProcessIds::new(Layout::new(peer, generation, workers), &group),
                    socket: Some(socket),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return alone(peer, &group, workers, &error),
        }
    }
    alone(peer, &group, workers, &io::ErrorKind::AddrInUse.into())
}

/// Without siblings everything works but cancels that reach the wrong process of a restart.
fn alone(peer: u32, group: &str, workers: usize, error: &io::Error) -> Place {
    tracing::warn!(%error, "no cancel request can come from another process on this machine");
    Place { ids: ProcessIds::new(Layout::new(peer, GENERATIONS.start, workers), group), socket: None }
}

fn name(group: &str, generation: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{group}/{generation}"))
}

/// Passes a request on to the sibling whose client it is for. Returns when that has closed the connection; `false`: there
/// is no such sibling.
pub(super) async fn pass_on(own: &ProcessIds, process: u32, key: &[u8]) -> bool {
    pass_to(own, Layout::generation_of(process), process, key).await
}

/// Asks every sibling: a server's process id does not say which of them has told it. `false`: there is none.
pub(super) async fn ask_all(own: &ProcessIds, process: u32, key: &[u8]) -> bool {
    let mut any = false;
    for generation in GENERATIONS.filter(|generation| *generation != own.layout().generation) {
        any |= pass_to(own, generation, process, key).await;
    }
    any
}

async fn pass_to(own: &ProcessIds, generation: u32, process: u32, key: &[u8]) -> bool {
    // A name that begins with a zero is one in the abstract namespace.
    let name = format!("\0{}/{generation}", own.group);
    match UnixStream::connect(name).await {
        Ok(stream) if is_ours(&stream) => peers::deliver(stream, process, key).await.is_ok(),
        _ => false,
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

/// Hears what siblings have to pass on, for as long as it is not dropped.
///
/// # Errors
/// The runtime cannot watch the socket.
pub async fn hear(socket: StdListener, exchange: Rc<Exchange>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(socket)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_ours(&stream) => {
                let exchange = exchange.clone();
                tokio::task::spawn_local(async move { converse(stream, &exchange).await });
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(mut stream: UnixStream, exchange: &Exchange) {
    let mut bytes = Vec::with_capacity(64);
    let whole = async {
        loop {
            match frame::opening(&bytes).map(|opening| opening.is_some()) {
                Ok(false) if stream.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) => {}
                whole => return whole.unwrap_or(false),
            }
        }
    };
    if tokio::time::timeout(PATIENCE, whole).await != Ok(true) {
        return;
    }
    let Ok(Some(opening)) = frame::opening(&bytes) else { return };
    if let Ok(Opened::Cancel(request)) = AwaitStartup::new().receive(&opening, 0, &mut Vec::new()) {
        exchange.cancel(&request, Via::Sibling).await;
    }
}
