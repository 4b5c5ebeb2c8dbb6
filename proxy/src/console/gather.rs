//! The facts that rows are made of: read from telemetry, asked of the workers, looked up in the settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use policy::finding::Timestamp;
use wire::encode::Report;

use super::Console;
use super::averages::{ByDatabase, by_database};
use super::command::error;
use super::rows::{self, DatabaseFacts, DnsName, PoolFacts, Sockets, Totals, UserFacts};
use super::table::What;
use super::value::Rows;
use crate::admin::{ClientState, StateFuture, UpstreamState};
use crate::analyst::findings::Wanted;
use crate::pool::Pool;
use crate::telemetry::process;
use crate::telemetry::snapshot::PoolRow;

/// Clients or server connections in one answer.
const MAX_SOCKETS: usize = 50_000;
/// Rows of what may be limited, unless another number is asked for.
const DEFAULT_ROWS: usize = 50;
/// How long workers may take to tell their state.
const PATIENCE: Duration = Duration::from_secs(2);

impl Console {
    /// The rows of one `SHOW`. `most`: of what can be limited; `logins`: connections before their login.
    ///
    /// # Errors
    /// They cannot be had now.
    pub(super) async fn rows(&self, what: What, most: Option<usize>, logins: usize) -> Result<Rows, Report> {
        let settings = self.shared.settings();
        let most = most.unwrap_or(DEFAULT_ROWS);
        let rows = match what {
            What::Help | What::PeerPools | What::DnsZones => Vec::new(),
            What::Fds => {
                let upstreams = patiently(self.context.state.upstreams(MAX_SOCKETS)).await?;
                let clients = patiently(self.context.state.clients(MAX_SOCKETS)).await?;
                rows::descriptors(&self.context.state.sockets(), &clients, &upstreams)
            }
            What::Config => rows::config(&settings),
            What::Version => rows::version(),
            What::Peers => rows::peers(&settings),
            What::State => {
                rows::state(self.shared.pools.are_all_paused(), self.shared.suspended.load(Ordering::Relaxed))
            }
            What::DnsHosts => rows::dns_hosts(self.names(), settings.dns_max_ttl.as_secs()),
            What::Lists => self.lists(logins),
            What::Mem => {
                let process = aside(process::process).await?;
                rows::mem(process.resident_bytes, process.virtual_bytes)
            }
            What::Pools => rows::pools(self.pools().await?),
            What::Databases => self.databases().await?,
            What::Users => self.users().await?,
            What::Stats => rows::stats(&self.all_figures().await?, &self.averages.borrow(), self.now_us()),
            What::StatsTotals => rows::totals(&self.all_figures().await?),
            What::StatsAverages => rows::averages(&self.all_figures().await?, &self.averages.borrow(), self.now_us()),
            What::Totals => {
                rows::totals_and_averages(&self.all_figures().await?, &self.averages.borrow(), self.now_us())
            }
            What::Clients => {
                let all = self.all_clients().await?;
                return Ok(Box::new(rows::clients(all, self.now_us(), Sockets::Plain)));
            }
            What::Servers => return self.servers().await,
            What::Sockets | What::ActiveSockets => return self.sockets(what == What::ActiveSockets).await,
            What::Pins => {
                let all = patiently(self.context.state.clients(MAX_SOCKETS)).await?;
                return Ok(Box::new(rows::pins(all, self.now_us())));
            }
            What::Queries => {
                let telemetry = self.context.telemetry.clone();
                aside(move || rows::queries(telemetry.statements(), &telemetry.tenant_names(), most)).await?
            }
            What::Findings => {
                let (findings, now) = (self.context.findings.clone(), Timestamp(self.now_us()));
                let wanted = Wanted { limit: most, ..Wanted::default() };
                aside(move || rows::findings(findings.list(&wanted, now).findings)).await?
            }
            What::Tenants => {
                let (telemetry, state) = (self.context.telemetry.clone(), self.context.state.clone());
                aside(move || rows::tenants(telemetry.tenants(), &state.tenancy(false))).await?
            }
            What::Limits => {
                let state = self.context.state.clone();
                aside(move || rows::limits(state.tenancy(true))).await?
            }
            What::CacheReasons => {
                let (state, telemetry) = (self.context.state.clone(), self.context.telemetry.clone());
                let held = move || {
                    let figures = state.caches().figures(Instant::now());
                    rows::cache_reasons(&figures, figures.by_tenant(&telemetry.tenant_names()))
                };
                aside(held).await?
            }
            What::Cache => {
                let state = self.context.state.clone();
                aside(move || rows::cache(&state.caches().figures(Instant::now()))).await?
            }
        };
        Ok(rows::all(rows))
    }

    /// What the pools have counted by database; `None`: the process is ending.
    pub(super) async fn figures(&self) -> Option<ByDatabase> {
        let telemetry = self.context.telemetry.clone();
        aside(move || by_database(&telemetry.pools())).await.ok()
    }

    /// The same, with the console's own.
    async fn all_figures(&self) -> Result<ByDatabase, Report> {
        let telemetry = self.context.telemetry.clone();
        let mut all = aside(move || by_database(&telemetry.pools())).await?;
        all.insert("pgbouncer".into(), self.traffic.get());
        Ok(all)
    }

    async fn totals(&self) -> Result<HashMap<(Box<str>, Box<str>), PoolRow>, Report> {
        let telemetry = self.context.telemetry.clone();
        let rows = aside(move || telemetry.pools()).await?;
        Ok(rows.into_iter().map(|row| ((row.name.database.clone(), row.name.user.clone()), row)).collect())
    }

    async fn pools(&self) -> Result<Vec<PoolFacts>, Report> {
        let totals = self.totals().await?;
        let (settings, now) = (self.shared.settings(), Instant::now());
        let mut all: BTreeMap<(Box<str>, Box<str>), PoolFacts> = BTreeMap::new();
        for pool in self.shared.pools.all() {
            let name = (pool.database.clone(), pool.user.clone());
            // Replication has pools of its own, which are counted with the others.
            if pool.replication.is_some() && all.contains_key(&name) {
                continue;
            }
            let count =
                |of: fn(&PoolRow) -> i64| totals.get(&name).map_or(0, |row| u64::try_from(of(row)).unwrap_or(0));
            let waiting_since = pool.ledger().waiting_since();
            let facts = PoolFacts {
                database: pool.database.to_string(),
                user: pool.user.to_string(),
                clients: count(|row| row.totals.clients),
                waiting: count(|row| row.totals.clients_waiting),
                waited: waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
                active: count(|row| row.totals.upstreams_active),
                idle: count(|row| row.totals.upstreams_idle),
                dialling: count(|row| row.totals.upstreams_dialling),
                mode: Some(pool.settings().mode),
                balance: settings.database(&pool.database).and_then(rows::balance),
            };
            all.insert(name, facts);
        }
        let own = PoolFacts {
            database: "pgbouncer".to_owned(),
            user: "pgbouncer".to_owned(),
            clients: self.connections() as u64,
            ..PoolFacts::default()
        };
        Ok(all.into_values().chain([own]).collect())
    }

    async fn databases(&self) -> Result<Vec<super::value::Row>, Report> {
        let totals = self.totals().await?;
        let settings = self.shared.settings();
        let mut all: BTreeMap<Box<str>, DatabaseFacts> = BTreeMap::new();
        for name in settings.databases.keys() {
            all.entry(name.as_str().into()).or_default();
        }
        for pool in self.shared.pools.all() {
            all.entry(pool.database.clone()).or_default().upstreams += pool.ledger().open() as u64;
        }
        for row in totals.values() {
            if let Some(facts) = all.get_mut(&row.name.database) {
                facts.clients += u64::try_from(row.totals.clients).unwrap_or(0);
            }
        }
        for (name, facts) in &mut all {
            let switches = self.context.state.switches(name);
            (facts.paused, facts.disabled) = (switches.paused, switches.disabled);
        }
        let console = (self.connections() as u64, rows::port(&settings));
        Ok(rows::databases(&settings, all.iter().map(|(name, facts)| (&**name, *facts)), console))
    }

    async fn users(&self) -> Result<Vec<super::value::Row>, Report> {
        let totals = self.totals().await?;
        let settings = self.shared.settings();
        let pools = self.shared.pools.all();
        let mut all: BTreeMap<&str, UserFacts> =
            user_names(&settings, &pools).into_iter().map(|name| (name, UserFacts::default())).collect();
        for pool in &pools {
            all.entry(&pool.user).or_default().upstreams += pool.ledger().open() as u64;
        }
        for row in totals.values() {
            if let Some(facts) = all.get_mut(&*row.name.user) {
                facts.clients += u64::try_from(row.totals.clients).unwrap_or(0);
            }
        }
        Ok(rows::users(&settings, all.into_iter()))
    }

    fn lists(&self, logins: usize) -> Vec<super::value::Row> {
        let settings = self.shared.settings();
        let pools = self.shared.pools.all();
        let databases: BTreeSet<&str> =
            settings.databases.keys().map(String::as_str).chain(pools.iter().map(|pool| &*pool.database)).collect();
        let upstreams = pools.iter().map(|pool| pool.ledger().open()).sum();
        let clients = self.shared.clients.load(Ordering::Relaxed) + self.connections();
        let totals = Totals {
            databases: databases.len() + 1,
            users: user_names(&settings, &pools).len(),
            peers: settings.peers.addresses.len(),
            pools: pools.len() + 1,
            clients,
            logins,
            upstreams,
            names: self.names().len(),
        };
        rows::lists(&totals)
    }

    /// The names of servers that connections are open to.
    fn names(&self) -> Vec<DnsName> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pool in self.shared.pools.all() {
            for server in pool.servers.in_use().iter().filter(|server| server.is_named()) {
                let address = server.socket_addr().map(|address| address.ip().to_string());
                all.entry(server.host.name.clone()).or_default().extend(address);
            }
        }
        let name = |(name, addresses): (String, BTreeSet<String>)| DnsName {
            name,
            addresses: addresses.into_iter().collect(),
        };
        all.into_iter().map(name).collect()
    }

    async fn all_clients(&self) -> Result<Vec<ClientState>, Report> {
        let mut all = patiently(self.context.state.clients(MAX_SOCKETS)).await?;
        all.extend(self.clients());
        Ok(all)
    }

    async fn servers(&self) -> Result<Rows, Report> {
        let upstreams = patiently(self.context.state.upstreams(MAX_SOCKETS)).await?;
        let clients = patiently(self.context.state.clients(MAX_SOCKETS)).await?;
        Ok(Box::new(rows::servers(upstreams, applications(&clients), Sockets::Plain)))
    }

    async fn sockets(&self, active: bool) -> Result<Rows, Report> {
        let mut upstreams: Vec<UpstreamState> = patiently(self.context.state.upstreams(MAX_SOCKETS)).await?;
        let mut clients = self.all_clients().await?;
        if active {
            upstreams.retain(|upstream| upstream.client.is_some());
            clients.retain(|client| !rows::is_at_rest(client));
        }
        let applications = applications(&clients);
        let clients = rows::clients(clients, self.now_us(), Sockets::WithBuffers);
        Ok(Box::new(clients.chain(rows::servers(upstreams, applications, Sockets::WithBuffers))))
    }
}

/// Users that are shown: those that the configuration names, for the console too, and those that have a pool.
fn user_names<'a>(settings: &'a config::Settings, pools: &'a [Arc<Pool>]) -> BTreeSet<&'a str> {
    let listed = settings.users.keys().chain(settings.user_limits.keys());
    let console = settings.console.admin_users.iter().chain(&settings.console.stats_users);
    listed.chain(console).map(String::as_str).chain(pools.iter().map(|pool| &*pool.user)).collect()
}

/// The applications of clients that hold a server connection.
fn applications(clients: &[ClientState]) -> HashMap<u64, String> {
    let holding = clients.iter().filter(|client| client.upstream.is_some() && !client.application.is_empty());
    holding.map(|client| (client.id, client.application.clone())).collect()
}

/// Adding up takes milliseconds: other logins go on meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Report> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| error(b"58000", "the proxy could not add its numbers up"))
}

async fn patiently<T>(state: StateFuture<T>) -> Result<T, Report> {
    tokio::time::timeout(PATIENCE, state).await.map_err(|_| {
        error(b"58000", "a worker did not answer within 2 seconds")
            .hint("Try again. If it stays: the log says what it does.")
    })
}
