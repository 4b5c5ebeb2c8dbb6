//! Where a test's clients connect: PostgreSQL itself, or a proxy in front of it.
//!
//! Most of what is tested must be the same in both places. A test that runs [`everywhere`] proves itself against
//! PostgreSQL first: one that expects what PostgreSQL does not do fails there, before the proxy is asked at all.

use std::net::SocketAddr;

use config::PoolMode;

use crate::client::RawClient;
use crate::cluster::{Cluster, SUPERUSER};
use crate::proxy::{Builder, Proxy};

/// A fresh database on the shared cluster, and the way to it.
pub struct Site {
    /// `None`: PostgreSQL itself.
    pub proxy: Option<Proxy>,
    /// The mode of its pool; `None`: PostgreSQL itself.
    pub mode: Option<PoolMode>,
    /// The name of its database.
    pub database: String,
    address: SocketAddr,
}

/// Runs a test against PostgreSQL itself, then through the proxy with two upstreams in session and in transaction
/// mode. `PGWEIR_TEST_SITES=direct` leaves the proxy out: for work on the tests themselves.
pub fn everywhere(test: impl Fn(&Site)) {
    run(&test, Site::direct());
    if std::env::var_os("PGWEIR_TEST_SITES").is_none_or(|sites| sites != "direct") {
        run(&test, Site::pooled(PoolMode::Session, 2));
        run(&test, Site::pooled(PoolMode::Transaction, 2));
    }
}

/// As [`everywhere`], in transaction mode with a single upstream: every second client meets what the first one left.
pub fn everywhere_transactional(test: impl Fn(&Site)) {
    run(&test, Site::direct());
    if std::env::var_os("PGWEIR_TEST_SITES").is_none_or(|sites| sites != "direct") {
        run(&test, Site::pooled(PoolMode::Transaction, 1));
    }
}

fn run(test: &impl Fn(&Site), site: Site) {
    // Captured with the test's output: a failure tells where.
    println!("at {}", site.name());
    test(&site);
}

impl Site {
    /// PostgreSQL itself.
    pub fn direct() -> Self {
        let cluster = Cluster::shared();
        Self { proxy: None, mode: None, database: cluster.fresh_database(), address: cluster.address() }
    }

    /// A proxy of its own with so many upstreams at most.
    pub fn pooled(mode: PoolMode, size: usize) -> Self {
        Self::behind(mode, |proxy| proxy.size(size))
    }

    /// A proxy of its own with changed settings.
    pub fn behind(mode: PoolMode, change: impl FnOnce(Builder) -> Builder) -> Self {
        let cluster = Cluster::shared();
        let proxy = change(Proxy::before(cluster.address()).mode(mode)).start();
        let address = proxy.address();
        Self { proxy: Some(proxy), mode: Some(mode), database: cluster.fresh_database(), address }
    }

    /// For messages.
    pub fn name(&self) -> String {
        self.mode.map_or("PostgreSQL itself".to_owned(), |mode| format!("the proxy in {mode:?} mode"))
    }

    /// Whether a proxy is in between.
    pub fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy's admin port.
    pub fn admin(&self) -> SocketAddr {
        self.proxy.as_ref().expect("only a proxy has an admin port").admin()
    }

    /// Has the proxy take new settings.
    pub fn reload(&self, settings: config::Settings) {
        self.proxy.as_ref().expect("only a proxy reloads").reload(settings);
    }

    /// Gives commands to the proxy.
    pub fn commands(&self) -> pgweir::commands::Commands {
        self.proxy.as_ref().expect("only a proxy takes commands").commands()
    }

    /// A client that is logged in.
    pub fn client(&self) -> RawClient {
        RawClient::login(self.address, SUPERUSER, &self.database)
    }

    /// A client that is logged in with more startup parameters.
    pub fn client_with(&self, parameters: &[(&str, &str)]) -> RawClient {
        RawClient::login_with(self.address, &self.parameters(parameters), "")
    }

    /// User and database, then these.
    pub fn parameters<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = vec![("user", SUPERUSER), ("database", self.database.as_str())];
        all.extend(more);
        all
    }

    /// For drivers.
    pub fn url(&self) -> String {
        format!("postgres://{SUPERUSER}@{}/{}?sslmode=disable", self.address, self.database)
    }

    /// Runs SQL past the proxy.
    pub fn run_directly(&self, sql: &str) -> crate::reply::Reply {
        Cluster::shared().run(&self.database, sql)
    }

    /// Server connections to its database.
    pub fn backends(&self) -> usize {
        Cluster::shared().backends(&self.database)
    }
}
