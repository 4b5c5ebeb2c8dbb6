//! What systemd wants to hear of a service of `Type=notify-reload` (see sd_notify(3)): datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nothing is said.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often it must hear from us, or it ends the service; `None`: it does not watch.
    pub watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_env() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let reached = reach(&name);
            if let Err(error) = &reached {
                tracing::warn!(socket = ?name, %error, "NOTIFY_SOCKET cannot be used: the service manager is told nothing");
            }
            reached.ok()
        });
        Self { watchdog: watchdog(manager.is_some()), manager }
    }

    /// Clients can connect.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload has begun; [`Notifier::ready`] says that it has ended.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"));
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// All threads are alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Never waits: a manager that does not read misses a line.
    fn say(&self, state: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), manager) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

/// A path, or a name in the abstract namespace behind an `@`.
fn reach(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that another process is meant.
fn watchdog(notifies: bool) -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    (notifies && ours).then(|| Duration::from_micros(micros))
}
