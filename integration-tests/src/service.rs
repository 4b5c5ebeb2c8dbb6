//! A service manager for one service: what systemd does for a unit with `Type=notify-reload` and a socket unit.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::patience::PATIENCE;
use crate::process::binary;
use crate::scratch::Scratch;

/// Starts processes of one service and hears what they say.
#[derive(Debug)]
pub struct Service {
    notes: UnixDatagram,
    /// As in `NOTIFY_SOCKET`.
    notify: String,
    /// Extra variables.
    environment: Vec<(String, String)>,
    folder: Scratch,
    started: std::sync::atomic::AtomicUsize,
}

/// One process of the service.
#[derive(Debug)]
pub struct Process {
    /// The process itself.
    pub child: Child,
    log: PathBuf,
}

impl Process {
    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Service {
    /// Hears by a socket in the abstract namespace, or by one that is a file.
    pub fn new(is_abstract: bool) -> Self {
        let folder = Scratch::new();
        let (notify, address) = if is_abstract {
            let name = format!("pgweir-test-{:016x}", rand::random::<u64>());
            (format!("@{name}"), SocketAddr::from_abstract_name(name).expect("a short name"))
        } else {
            let path = folder.path().join("notify");
            (path.display().to_string(), SocketAddr::from_pathname(&path).expect("a short path"))
        };
        let notes = UnixDatagram::bind_addr(&address).expect("a name that nobody has");
        Self { notes, notify, environment: Vec::new(), folder, started: Default::default() }
    }

    /// Has each process find this in its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts `pgweir serve --config` with this text, and waits until it says that it is ready.
    pub fn start(&self, config: &str) -> Process {
        self.start_with(config, &[])
    }

    /// As [`Service::start`]; the process inherits up to two listening sockets, by these names.
    pub fn start_with(&self, config: &str, sockets: &[(&str, &dyn AsFd)]) -> Process {
        let number = self.started.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = self.folder.file(&format!("pgweir-{number}.toml"), config);
        let log = self.folder.path().join(format!("log-{number}"));
        // The shell puts the sockets where systemd does; it alone knows the process id before the program runs.
        let script = "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(binary()).args(["serve", "--config"]).arg(&file);
        let socket = |place: usize| match sockets.get(place) {
            Some((_, socket)) => Stdio::from(socket.as_fd().try_clone_to_owned().expect("a socket that can be shared")),
            None => Stdio::null(),
        };
        command.stdin(socket(0)).stdout(socket(1));
        command.stderr(File::create(&log).expect("a scratch folder can be written"));
        if !sockets.is_empty() {
            let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
            command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        command.env("NOTIFY_SOCKET", &self.notify);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process { child: Child::spawn(&mut command), log };
        self.hears("READY=1").unwrap_or_else(|heard| panic!("it is not ready: {heard:?} {}", process.log()));
        process
    }

    /// Whether no note that has come so far has this line.
    pub fn hears_nothing_of(&self, line: &str) -> bool {
        self.notes.set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out that is not zero");
        let mut bytes = [0; 4096];
        while let Ok(length) = self.notes.recv(&mut bytes) {
            if String::from_utf8_lossy(&bytes[..length]).lines().any(|said| said == line) {
                return false;
            }
        }
        true
    }

    /// Waits for a note with this line; `Err`: what came instead.
    pub fn hears(&self, line: &str) -> Result<String, Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.notes.set_read_timeout(Some(left)).expect("a time-out that is not zero");
            let Ok(length) = self.notes.recv(&mut bytes) else { return Err(heard) };
            let note = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if note.lines().any(|said| said == line) {
                return Ok(note);
            }
            heard.push(note);
        }
    }
}
