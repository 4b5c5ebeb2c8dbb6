//! The proxy in this process, on free ports, in front of any server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::{
    Admin, Auth, AuthMethod, Cache, CacheMode, CacheRule, ClientTls, Database, DatabaseLimits, Host, Log, LogLevel,
    Observe, Pool, PoolMode, Profile, SessionAttrs, Settings, Shutdown, SlowLog, Tenants, Upstream, UpstreamTls,
};

use pgweir::run::World;
use pgweir::upstream::resolve::Resolver;

/// A running proxy. Shut down on drop.
pub struct Proxy {
    handle: Option<pgweir::run::Handle>,
}

/// What a [`Proxy`] shall be: settings that suit most tests, changed one by one.
#[derive(Debug, Clone)]
pub struct Builder {
    settings: Settings,
    resolver: Option<Arc<dyn Resolver>>,
}

impl Proxy {
    /// In front of the server at `upstream`: every database and every user under its own name, trust, transaction
    /// mode, 4 upstreams at most, 2 workers, admin port on.
    pub fn before(upstream: SocketAddr) -> Builder {
        Builder { settings: settings(upstream), resolver: None }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.handle().listen_addr()
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.handle().admin_addr().expect("tests leave the admin port on")
    }

    /// Takes new settings as a reload does.
    pub fn reload(&self, settings: Settings) {
        self.try_reload(settings).unwrap_or_else(|error| panic!("the reload was refused: {error}"));
    }

    /// Takes new settings as a reload does, if it can.
    ///
    /// # Errors
    /// They cannot be put in force.
    pub fn try_reload(&self, settings: Settings) -> Result<(), pgweir::run::RunError> {
        self.handle().reload(settings).map(drop)
    }

    /// Gives commands to it.
    pub fn commands(&self) -> pgweir::commands::Commands {
        self.handle().commands()
    }

    /// Its read cache.
    pub fn caches(&self) -> &pgweir::cache::Caches {
        self.handle().caches()
    }

    fn handle(&self) -> &pgweir::run::Handle {
        self.handle.as_ref().expect("a proxy that is not shut down")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let counts = handle.counts();
            handle.shutdown(pgweir::run::ShutdownMode::Immediate);
            // No test may lose an upstream, an attempt or a client from the count, whatever it is about.
            let left = counts.left();
            assert!(left.is_empty() || std::thread::panicking(), "the proxy has lost count: {left:#?}");
        }
    }
}

impl Builder {
    /// When an upstream is given back.
    pub fn mode(self, mode: PoolMode) -> Self {
        self.pool(|pool| pool.mode = mode)
    }

    /// Upstreams at most.
    pub fn size(self, size: usize) -> Self {
        self.pool(|pool| pool.size = size)
    }

    /// In front of these servers instead, one of which has to be `attrs`.
    pub fn hosts(self, servers: &[SocketAddr], attrs: SessionAttrs) -> Self {
        let host = |server: &SocketAddr| Host { name: server.ip().to_string(), port: server.port() };
        self.with(|settings| {
            let upstream = &mut settings.wildcard.as_mut().expect("tests use the wildcard").upstream;
            (upstream.hosts, upstream.session_attrs) = (servers.iter().map(host).collect(), attrs);
        })
    }

    /// Changes the pool's settings.
    pub fn pool(self, change: impl FnOnce(&mut Pool)) -> Self {
        self.with(|settings| change(&mut settings.wildcard.as_mut().expect("tests use the wildcard").pool))
    }

    /// Changes any settings.
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Asks this one for the addresses of names.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// The settings so far, for a later [`Proxy::reload`].
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Starts it.
    pub fn start(self) -> Proxy {
        let mut world = World::default();
        world.resolver = self.resolver.unwrap_or(world.resolver);
        let handle = pgweir::run::start_with(self.settings, world)
            .unwrap_or_else(|error| panic!("the proxy did not start: {error}"));
        Proxy { handle: Some(handle) }
    }
}

fn settings(upstream: SocketAddr) -> Settings {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let upstream = Upstream {
        hosts: vec![Host { name: upstream.ip().to_string(), port: upstream.port() }],
        session_attrs: SessionAttrs::Any,
        load_balance: false,
        protocol: config::MaxProtocol::default(),
        database: None,
        user: None,
        password: None,
        tls: Arc::default(),
    };
    Settings {
        listen: vec![anywhere.into()],
        origins: Arc::default(),
        listen_reuse_port: false,
        reload_on_change: false,
        unix_socket: config::UnixSocket::default(),
        admin: Some(Admin::at(anywhere)),
        workers: 2,
        worker_scheduling: config::Scheduling::Batch,
        max_clients: 1000,
        tls: ClientTls::default(),
        upstream_tls: UpstreamTls::default(),
        max_upstreams: 0,
        max_side_connections: 100,
        dns_max_ttl: Duration::ZERO,
        max_pools: 1000,
        max_memory: 0,
        tcp: config::Tcp::default(),
        user_limits: BTreeMap::new(),
        auth: Auth { method: AuthMethod::Trust, login_timeout: Duration::from_secs(10), ..Auth::default() },
        users: BTreeMap::new(),
        pool: pool(),
        databases: BTreeMap::new(),
        wildcard: Some(Database { upstream, pool: pool(), auth_query: None, limits: DatabaseLimits::default() }),
        tenants: Tenants { max_tenants: 100, ..Tenants::default() },
        observe: Observe {
            statements: true,
            n_plus_one: true,
            profile: Profile::Production,
            duplicates: false,
            events_per_second: 5000,
            compat: 15,
            regressions: true,
            regression_interval: Duration::from_secs(60),
            pg_stat_statements: false,
            state_directory: None,
            max_fingerprints: 1000,
            samples: false,
            mutes: Vec::new(),
        },
        capture: config::Capture::default(),
        cache: config::Cache::default(),
        slow_log: SlowLog { per_minute: 60, ..SlowLog::default() },
        peers: config::Peers::default(),
        shutdown: Shutdown { drain_timeout: Duration::from_secs(5), grace: Duration::ZERO },
        log: Log { level: LogLevel::Error, json: false, file: None },
        console: config::Console::default(),
    }
}

/// Tenants as a configuration file says them.
///
/// # Panics
/// If it is wrong.
pub fn tenants(toml: &str) -> Tenants {
    let text = format!("[databases.x]\nupstream = 'postgres://h/x'\n{toml}");
    let read = Settings::from_toml(&text, &config::Overrides::default(), &config::NoSources);
    read.unwrap_or_else(|wrong| panic!("{wrong}")).tenants
}

/// A cache of all tables, whatever an answer costs, whose answers end by writes alone.
pub fn cache_of_all() -> Cache {
    let rule = CacheRule { tables: vec!["*".into()], ttl: Duration::from_secs(600), ..CacheRule::default() };
    Cache { mode: CacheMode::On, min_cost: Duration::ZERO, rules: vec![rule], ..Cache::default() }
}

/// Nothing happens by itself here: a test that is about a limit sets it.
fn pool() -> Pool {
    Pool {
        mode: PoolMode::Transaction,
        size: 4,
        min_size: 0,
        reserve_size: 0,
        reserve_after: Duration::from_secs(5),
        empty_timeout: Duration::ZERO,
        queue_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(5),
        connect_backoff: Duration::from_millis(20),
        connect_backoff_max: Duration::from_millis(200),
        idle_timeout: Duration::ZERO,
        lifetime: Duration::ZERO,
        health_check_after: Duration::ZERO,
        idle_in_transaction_timeout: Duration::ZERO,
        max_prepared: 100,
        max_client_prepared: 10_000,
        max_client_prepared_bytes: 16 << 20,
        share_anonymous: false,
        listen: config::Listen::default(),
        untracked: config::Untracked::default(),
        inspect_functions: None,
    }
}
