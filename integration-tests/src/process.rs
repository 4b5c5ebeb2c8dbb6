//! The real `pgweir` binary as a child: for signals, exit codes and memory.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::child::{Child, Signal};
use crate::client::RawClient;
use crate::cluster::free_port;
use crate::patience::{PATIENCE, within};
use crate::scratch::Scratch;

/// `pgweir serve` on free ports. Ended on drop, and when the test process dies.
#[derive(Debug)]
pub struct ProxyProcess {
    /// The process itself: signals, exit status, memory.
    pub child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    arguments: Vec<String>,
    folder: Scratch,
}

impl ProxyProcess {
    /// Starts `pgweir serve` with these arguments beside `--listen` and `--admin`, and waits until it takes clients.
    pub fn serve(arguments: &[&str]) -> Self {
        let [listen, admin] = [free_address(), free_address()];
        let (listen_text, admin_text) = (listen.to_string(), admin.to_string());
        let mut all = vec!["serve", "--listen", &listen_text, "--admin", &admin_text];
        all.extend(arguments);
        Self::start(&all, Scratch::new(), listen, admin)
    }

    /// Starts `pgweir serve --config` with this text, in which `{listen}` and `{admin}` stand for free addresses.
    pub fn with_config(text: &str) -> Self {
        Self::with_config_in(Scratch::new(), text)
    }

    /// The same in a folder where other files may stand already.
    pub fn with_config_in(folder: Scratch, text: &str) -> Self {
        let [listen, admin] = [free_address(), free_address()];
        let file = folder.file("pgweir.toml", &fill(text, listen, admin));
        let file = file.to_str().expect("a scratch folder has a plain name").to_owned();
        Self::start(&["serve", "--config", &file], folder, listen, admin)
    }

    fn start(arguments: &[&str], folder: Scratch, listen: SocketAddr, admin: SocketAddr) -> Self {
        let child = spawn(arguments, &folder);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut process = Self { child, listen, admin, arguments, folder };
        process.await_start();
        process
    }

    fn await_start(&mut self) {
        let up = within(PATIENCE, || !self.child.is_running() || RawClient::try_connect(self.listen).is_ok());
        assert!(up && self.child.is_running(), "pgweir {:?} does not serve: {}", self.arguments, self.log());
    }

    /// Ends it by SIGTERM. What is left to do is [`ProxyProcess::start_again`].
    pub fn stop(&mut self) {
        self.child.signal(Signal::Terminate);
        assert!(self.child.wait_for(PATIENCE).is_some(), "pgweir does not stop: {}", self.log());
    }

    /// After [`ProxyProcess::stop`]: another process with the same arguments, in the same place. The log goes on.
    pub fn start_again(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.child = spawn(&arguments, &self.folder);
        self.await_start();
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Replaces the text of the configuration file and asks for a reload by SIGHUP.
    pub fn reload(&self, text: &str) {
        self.rewrite(text);
        self.child.signal(Signal::Hangup);
    }

    /// Replaces the text of the configuration file, and does not say so.
    pub fn rewrite(&self, text: &str) {
        self.folder.file("pgweir.toml", &fill(text, self.listen, self.admin));
    }

    /// The configuration file's folder.
    pub fn folder(&self) -> &Scratch {
        &self.folder
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(arguments: &[&str], folder: &Scratch) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(folder.path().join("log"));
    let log = log.expect("a scratch folder can be written");
    let mut command = pgweir(arguments);
    command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
    Child::spawn(&mut command)
}

fn fill(text: &str, listen: SocketAddr, admin: SocketAddr) -> String {
    text.replace("{listen}", &listen.to_string()).replace("{admin}", &admin.to_string())
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The `pgweir` binary with these arguments, not yet started; what the environment says to pgweir is not heard.
pub fn pgweir(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PGWEIR_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// The binary beside the running test: `target/<profile>/pgweir`. Cargo does not build another package's binary for a
/// test, `make test` does; one that is missing or older than its sources fails the test instead of testing the past.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a program knows where it is");
    let folder = test.ancestors().nth(2).expect("a test lives in target/<profile>/deps");
    let binary = folder.join("pgweir");
    let how = "build it with `cargo build --bins` (`make test` does)";
    assert!(binary.is_file(), "there is no {}: {how}", binary.display());
    if let Some(newer) = newer_source(&binary) {
        panic!("{} is older than {}: {how}", binary.display(), newer.display());
    }
    binary
}

/// A source that was changed after the binary was built, by the list that cargo keeps beside it.
fn newer_source(binary: &Path) -> Option<PathBuf> {
    let built = modified(binary)?;
    let list = fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    sources.split_whitespace().map(PathBuf::from).find(|source| modified(source).is_some_and(|time| time > built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|facts| facts.modified()).ok()
}
