//! The ways to the server: directly, through pgweir, through whatever is measured beside it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::idle::Held;
use super::machine::{processor_time, thread_time};
use super::pgbench::{self, Measured, Script, Server};
use super::{Load, Mode, Outcome, Sample, UPSTREAMS};
use crate::cluster::free_port;
use crate::{Child, Cluster, RawClient, Scratch, Signal, within};

/// Client connections that a pooler lets in: as many as are held idle, and some.
pub(super) const MAX_CLIENTS: usize = super::idle::CLIENTS + 200;
/// The user of all ways: the poolers trust it, as the server does.
pub(super) const USER: &str = "bench";
/// Its password, where a pooler asks for one after all.
pub(super) const PASSWORD: &str = "secret";

/// A server with pgbench's tables.
#[derive(Debug)]
pub struct Bench {
    cluster: Cluster,
    database: String,
}

impl Bench {
    /// Makes a cluster and fills it.
    pub fn make() -> Outcome<Self> {
        let cluster = Cluster::builder().setting("max_connections", "200").setting("shared_buffers", "512MB").start();
        let database = cluster.fresh_database();
        cluster.create_role(USER, None);
        cluster.run(&database, &format!("GRANT ALL ON SCHEMA public TO {USER}"));
        let bench = Self { cluster, database };
        pgbench::initialise(&bench.pgbench(), &bench.server(bench.cluster.port()))?;
        bench.cluster.run(&bench.database, "VACUUM ANALYZE");
        Ok(bench)
    }

    /// The pgbench that came with the server.
    pub fn pgbench(&self) -> PathBuf {
        self.cluster.program("pgbench")
    }

    /// The server's own words about its version.
    pub fn version(&self) -> String {
        self.cluster.value("postgres", "SHOW server_version")
    }

    /// The server itself.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the server itself listens, on loopback.
    pub(super) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// The database with pgbench's tables.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// Another database with the same in it. Nobody may be connected to the first one.
    pub(super) fn copy(&self) -> String {
        let name = self.cluster.fresh_database();
        self.cluster.run("postgres", &format!("DROP DATABASE {name}"));
        self.cluster.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE {}", self.database));
        name
    }

    fn server(&self, port: u16) -> Server {
        Server { port, database: self.database.clone(), user: USER, password: PASSWORD }
    }
}

/// One way, ready to be used.
#[derive(Debug)]
pub struct Way {
    /// Its name in the table.
    pub name: &'static str,
    server: Server,
    pooler: Option<Child>,
    /// pgweir's admin port.
    admin: Option<u16>,
    serves: Serves,
    _folder: Option<Scratch>,
}

/// Which loads a way can carry at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    Everything,
    /// Everything but prepared statements.
    Unprepared,
    /// Prepared statements of as many clients as there are upstreams: one each, for as long as they stay.
    PreparedInSessions,
}

/// How pgweir is run. Beside the others: one worker, for PgBouncer has one thread; clients are trusted; and everything
/// is observed, as its settings have it where nothing else is said.
#[derive(Debug)]
pub struct Setup {
    /// Worker threads.
    pub workers: usize,
    /// How clients log in.
    pub auth: &'static str,
    /// More of its settings, as they stand in its file.
    pub settings: String,
    /// Another database than that of the others.
    pub database: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { workers: 1, auth: "trust", settings: String::new(), database: None }
    }
}

/// A load that has gone over a way.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    measured: Measured,
    /// Processor time of the pooler.
    spent: Duration,
    /// Of it, that of threads named `worker-…`, as pgweir's workers are.
    spent_by_workers: Duration,
}

impl Run {
    /// As the tables have it.
    pub fn sample(&self) -> Sample {
        Sample {
            tps: self.measured.tps,
            cpu_micros: self.micros_per_query(self.spent),
            latency_micros: self.measured.latency_micros,
        }
    }

    /// Queries answered.
    pub fn queries(&self) -> u64 {
        self.measured.queries
    }

    /// Processor time of pgweir's workers per query, in µs.
    pub fn worker_micros(&self) -> f64 {
        self.micros_per_query(self.spent_by_workers)
    }

    /// Processor time of pgbench per query, in µs.
    pub fn client_micros(&self) -> f64 {
        self.micros_per_query(self.measured.spent)
    }

    fn micros_per_query(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.measured.queries.max(1) as f64
    }
}

impl Way {
    /// No pooler.
    pub fn direct(bench: &Bench) -> Self {
        let server = bench.server(bench.cluster.port());
        Self { name: "direct", server, pooler: None, admin: None, serves: Serves::Everything, _folder: None }
    }

    /// pgweir in transaction mode.
    pub fn pgweir(binary: &Path, bench: &Bench, setup: &Setup) -> Outcome<Self> {
        let folder = Scratch::new();
        let (port, admin) = (free_port(), free_port());
        let database = setup.database.clone().unwrap_or_else(|| bench.database.clone());
        let upstream = format!("postgres://{USER}@127.0.0.1:{}/{database}", bench.port());
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--admin"]);
        command.args([&format!("127.0.0.1:{admin}"), "--upstream", &upstream]);
        command.args(["--pool-mode", "transaction", "--pool-size", &UPSTREAMS.to_string()]);
        command.args(["--workers", &setup.workers.to_string(), "--auth", setup.auth]);
        let settings = folder.file("pgweir.toml", &format!("max_clients = {MAX_CLIENTS}\n{}", setup.settings));
        command.arg("--config").arg(settings);
        let pooler = start(&mut command, &folder, port)?;
        let way = Self::through("pgweir", Serves::Everything, bench, port, pooler, folder);
        Ok(Self { admin: Some(admin), server: Server { database, ..bench.server(port) }, ..way })
    }

    /// Whatever stands in the folder `$PEERS`: each executable there is a pooler of its name, called with the port to
    /// listen on, the server's port, the database, the user and the number of server connections. It stays in the
    /// foreground.
    pub fn others(bench: &Bench) -> Outcome<Vec<Self>> {
        let Some(folder) = std::env::var_os("PEERS") else { return Ok(Vec::new()) };
        let mut programs: Vec<PathBuf> =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
        programs.sort();
        programs.iter().map(|program| Self::other(program, bench)).collect()
    }

    fn other(program: &Path, bench: &Bench) -> Outcome<Self> {
        let folder = Scratch::new();
        let port = free_port();
        let mut command = Command::new(program);
        command.args([port.to_string(), bench.port().to_string(), bench.database.clone()]);
        command.args([USER.to_owned(), UPSTREAMS.to_string()]);
        let pooler = start(&mut command, &folder, port)?;
        let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // One for each peer, for as long as the benchmark runs.
        Ok(Self::through(name.leak(), Serves::Everything, bench, port, pooler, folder))
    }

    /// Through a process that has been started for it in `folder` and listens on `port`.
    pub(super) fn through(
        name: &'static str,
        serves: Serves,
        bench: &Bench,
        port: u16,
        pooler: Child,
        folder: Scratch,
    ) -> Self {
        Self { name, server: bench.server(port), pooler: Some(pooler), admin: None, serves, _folder: Some(folder) }
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.server.port))
    }

    /// Where its admin port is; `None`: it has none.
    pub fn admin(&self) -> Option<std::net::SocketAddr> {
        self.admin.map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Database and user to log in with.
    pub fn login(&self) -> (&str, &str) {
        (&self.server.database, self.server.user)
    }

    /// The pooler's process; `None` for the direct way.
    pub fn pooler(&self) -> Option<&Child> {
        self.pooler.as_ref()
    }

    /// Whether this way can carry a load.
    pub fn carries(&self, load: Load) -> bool {
        match self.serves {
            Serves::Everything => true,
            Serves::Unprepared => load.mode != Mode::Prepared,
            Serves::PreparedInSessions => load.mode == Mode::Prepared && load.clients <= UPSTREAMS,
        }
    }

    /// Whether this way can hold more clients of a kind than there are server connections.
    pub fn holds(&self, held: Held) -> bool {
        match self.serves {
            Serves::Everything => true,
            Serves::Unprepared => held != Held::Statement,
            Serves::PreparedInSessions => false,
        }
    }

    /// Runs a load of pgbench's own SELECT over it.
    pub fn run(&self, pgbench: &Path, load: Load, seconds: u64) -> Outcome<Run> {
        self.run_script(pgbench, Script::SelectOnly, load, seconds)
    }

    /// Runs a load over it.
    pub fn run_script(&self, pgbench: &Path, script: Script<'_>, load: Load, seconds: u64) -> Outcome<Run> {
        let pid = self.pooler.as_ref().map(Child::pid);
        let spent = || pid.map(|pid| (processor_time(pid), thread_time(pid, "worker-"))).unwrap_or_default();
        let (before, before_workers) = spent();
        let measured = pgbench::run(pgbench, &self.server, script, load, seconds)?;
        let (after, after_workers) = spent();
        let spent_by_workers = after_workers.saturating_sub(before_workers);
        Ok(Run { measured, spent: after.saturating_sub(before), spent_by_workers })
    }
}

pub(super) fn start(command: &mut Command, folder: &Scratch, port: u16) -> Outcome<Child> {
    let log = File::create(folder.path().join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    let mut child = Child::spawn_with_farewell(command, Signal::Terminate);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let up = within(Duration::from_secs(10), || !child.is_running() || RawClient::try_connect(address).is_ok());
    if up && child.is_running() {
        return Ok(child);
    }
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    Err(format!("{command:?} does not serve: {log}").into())
}
