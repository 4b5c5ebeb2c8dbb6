//! Settings with a secret in every place that can hold one.

use super::*;

/// The port's own token in place of the usual one.
pub(super) fn settings_with(token: Option<&str>) -> Settings {
    let mut settings = settings();
    if let Some(admin) = &mut settings.admin {
        match token {
            None => admin.tokens.clear(),
            Some(token) => {
                admin.tokens[0] = config::AdminToken::new("admin.token", config::AdminRole::Operator, token);
            }
        }
    }
    settings
}

pub(super) fn settings() -> Settings {
    let database = config::Database {
        upstream: config::Upstream {
            hosts: vec![config::Host { name: "db.internal".into(), port: 5432 }],
            session_attrs: config::SessionAttrs::Any,
            load_balance: false,
            protocol: config::MaxProtocol::default(),
            database: None,
            user: None,
            password: Some(Secret::new("hunter2")),
            tls: Arc::default(),
        },
        auth_query: None,
        pool: config::Pool {
            mode: config::PoolMode::Transaction,
            size: 20,
            min_size: 0,
            reserve_size: 0,
            reserve_after: Duration::from_secs(5),
            empty_timeout: Duration::ZERO,
            queue_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            connect_backoff: Duration::from_millis(100),
            connect_backoff_max: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            lifetime: Duration::from_secs(3_600),
            health_check_after: Duration::from_secs(30),
            idle_in_transaction_timeout: Duration::ZERO,
            max_prepared: 200,
            max_client_prepared: 10_000,
            max_client_prepared_bytes: 16 << 20,
            share_anonymous: false,
            listen: config::Listen::default(),
            untracked: config::Untracked::default(),
            inspect_functions: None,
        },
        limits: config::DatabaseLimits::default(),
    };
    let limits = config::Limits::default().with_time(config::LimitKey::StatementTimeout, Duration::from_millis(250));
    let user = config::User::from(config::UserSecret::Plain(Secret::new("hunter3")));
    Settings {
        origins: Arc::default(),
        listen_reuse_port: false,
        reload_on_change: false,
        listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 6432)).into()],
        unix_socket: config::UnixSocket::default(),
        admin: Some(config::Admin {
            tokens: [
                ("admin.token", config::AdminRole::Operator, "hunter4"),
                ("grafana", config::AdminRole::Viewer, "hunter-of-grafana"),
                ("acme", config::AdminRole::Tenant("acme".to_owned()), "hunter-of-acme"),
                ("beta", config::AdminRole::Tenant("beta".to_owned()), "hunter-of-beta"),
            ]
            .map(|(name, role, token)| config::AdminToken::new(name, role, token))
            .into(),
            ..config::Admin::at(([127, 0, 0, 1], 6433).into())
        }),
        workers: 2,
        console: config::Console::default(),
        worker_scheduling: config::Scheduling::Batch,
        max_clients: 1_000,
        max_upstreams: 0,
        max_side_connections: 100,
        dns_max_ttl: std::time::Duration::from_secs(15),
        max_pools: 1_000,
        max_memory: 0,
        tcp: config::Tcp::default(),
        user_limits: std::collections::BTreeMap::new(),
        tls: config::ClientTls::default(),
        upstream_tls: config::UpstreamTls::default(),
        auth: config::Auth {
            method: config::AuthMethod::Trust,
            login_timeout: Duration::from_secs(5),
            ..config::Auth::default()
        },
        pool: database.pool.clone(),
        users: [("app".to_owned(), user)].into(),
        databases: [("app".to_owned(), database)].into(),
        wildcard: None,
        tenants: config::Tenants {
            rules: vec![config::TenantRule::whole(config::Origin::Setting {
                name: "app.tenant_id".into(),
                path: Vec::new(),
            })],
            limits: [("acme".to_owned(), limits)].into(),
            ..config::Tenants::default()
        },
        observe: config::Observe {
            statements: true,
            n_plus_one: true,
            profile: config::Profile::Production,
            duplicates: false,
            events_per_second: 5_000,
            compat: 15,
            regressions: true,
            regression_interval: Duration::from_secs(60),
            pg_stat_statements: false,
            state_directory: None,
            max_fingerprints: 5_000,
            samples: false,
            mutes: Vec::new(),
        },
        capture: config::Capture::default(),
        cache: config::Cache::default(),
        slow_log: config::SlowLog {
            threshold: Some(Duration::from_millis(100)),
            per_minute: 6,
            ..config::SlowLog::default()
        },
        peers: config::Peers::default(),
        shutdown: config::Shutdown { drain_timeout: Duration::from_secs(30), grace: Duration::from_secs(1) },
        log: config::Log { level: config::LogLevel::Info, json: true, file: None },
    }
}
