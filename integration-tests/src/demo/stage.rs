//! What the demo stands on: a throw-away PostgreSQL with the engine's data, and pgweir in front of it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::session::Target;
use super::{LIMIT, LIMITED_TENANT, Outcome, PASSWORD, POOL_SIZE, USER};
use crate::cluster::free_port;
use crate::http;
use crate::{Child, Cluster, Hba, Scratch, Signal};

const SCHEMA: &str = include_str!("schema.sql");
/// How long pgweir may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with the engine's data.
#[derive(Debug)]
pub struct Database {
    cluster: Cluster,
    name: String,
}

impl Database {
    /// Makes a cluster and loads it.
    pub fn make() -> Self {
        let cluster = Cluster::builder()
            .hba(Hba::Scram)
            .setting("max_connections", "250")
            .setting("shared_buffers", "192MB")
            .setting("max_wal_size", "2GB")
            // A search then costs one server connection one core, with and without pgweir.
            .setting("max_parallel_workers_per_gather", "0")
            .start();
        let name = cluster.fresh_database();
        cluster.run(&name, SCHEMA);
        cluster.run(&name, "VACUUM ANALYZE");
        Self { cluster, name }
    }

    /// Where the engine reaches it directly.
    pub fn target(&self) -> Target {
        Target { port: self.cluster.port(), database: self.name.clone() }
    }

    /// The server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

/// pgweir in front of a [`Database`].
#[derive(Debug)]
pub struct Proxy {
    // The process before its folder: fields are dropped in order.
    process: Child,
    folder: Scratch,
    target: Target,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts the binary with a configuration of its own, and more `settings`, and waits until it is ready.
    pub fn start(binary: &Path, database: &Database, settings: &str) -> Outcome<Self> {
        let folder = Scratch::new();
        let (listen, admin) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let settings = format!("{}{settings}", configuration(database, listen, admin));
        let settings = folder.file("pgweir.toml", &settings);
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(settings).stdout(log.try_clone()?).stderr(log);
        let process = Child::spawn_with_farewell(&mut command, Signal::Terminate);
        let target = Target { port: listen, database: database.name.clone() };
        let mut proxy = Self { process, folder, target, admin };
        proxy.wait_until_ready()?;
        Ok(proxy)
    }

    /// Where the engine reaches it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// The list under `key` of the admin port's answer to `path`.
    pub fn list(&self, path: &str, key: &str) -> Outcome<Vec<Value>> {
        let answer = http::request(self.admin, path, &[]).map_err(|error| {
            format!("{path} on the admin port does not answer ({error}); the end of pgweir's log:\n{}", self.log_tail())
        })?;
        if answer.status != 200 {
            return Err(format!("{path} on the admin port answered {}: {}", answer.status, answer.body).into());
        }
        let whole: Value = serde_json::from_str(&answer.body)?;
        let list = whole.get(key).and_then(Value::as_array).cloned();
        list.ok_or_else(|| format!("{path} on the admin port holds no list of {key}").into())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait() {
                return Err(format!("pgweir ended at once ({status}):\n{}", self.log_tail()).into());
            }
            if http::request(self.admin, "/readyz", &[]).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("pgweir is not ready after {PATIENCE:?}:\n{}", self.log_tail()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Tenants are known by the application's name, `web:acme`. The rest are defaults.
fn configuration(database: &Database, listen: u16, admin: SocketAddr) -> String {
    let (name, server) = (&database.name, database.cluster.address());
    let limit = LIMIT.as_millis();
    format!(
        r#"listen = "127.0.0.1:{listen}"

[admin]
listen = "{admin}"

[auth]
method = "scram-sha-256"

[users.{USER}]
password = "{PASSWORD}"

[databases.{name}]
upstream = "postgres://{server}/{name}"
size = {POOL_SIZE}

[[tenant.rule]]
from = "application_name"
pattern = "*:{{tenant}}"

[tenant.limits.{LIMITED_TENANT}]
statement_timeout = "{limit}ms"
"#
    )
}
