//! Checked values into [`Settings`]: what belongs together is checked together here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::mistake::{Mistake, Mistakes, Place};
use crate::schema::{self, Found};
use crate::text::{self, Given, Quoted, Value, Written, show_path};
use crate::*;

mod access;
mod admin;
mod auth;
mod cache;
mod console;
mod limits;
mod mutes;
mod peers;
mod tenant_rows;
mod tenants;
mod tls;
mod untracked;

pub use tenant_rows::TenantRows;

impl Settings {
    /// Reads a configuration file's text; overrides win over it.
    ///
    /// # Errors
    /// Every mistake in it at once. If the text is not TOML, only what is wrong with its syntax.
    pub fn from_toml(text: &str, overrides: &Overrides, sources: &dyn Sources) -> Result<Self, Mistakes> {
        let written = text::read(text, overrides, sources);
        let broken = written.mistakes.iter().any(|mistake| mistake.key.is_empty());
        let mut builder = Builder { written, sources };
        let settings = (!broken).then(|| builder.settings(overrides));
        match (Mistakes::from_list(builder.written.mistakes), settings) {
            (None, Some(settings)) => Ok(settings),
            (Some(mistakes), _) => Err(mistakes),
            (None, None) => Self::from_toml("", overrides, sources),
        }
    }

    /// The settings of a start with nothing but a server's URL: every database of that server, under its own name.
    ///
    /// The URL's user is known by the URL's password and logs in by SCRAM; so the application's own URL keeps working
    /// with another host and port. Other users pass through: the server itself judges their passwords, and they are
    /// themselves there too. The URL's user and password are never lent to anybody else.
    ///
    /// # Errors
    /// What is wrong with the URL or the overrides.
    pub fn from_upstream(url: &str, overrides: Overrides, sources: &dyn Sources) -> Result<Self, Mistakes> {
        Self::from_toml("", &overrides.with_upstream(url, "upstream"), sources)
    }

    /// What is allowed and probably not meant, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let network = self.listen.iter().filter_map(ListenAddress::tcp).find(|address| !address.ip().is_loopback());
        let trusts = self.auth.hba.is_none() && self.auth.method == AuthMethod::Trust;
        if let Some(address) = network.filter(|_| trusts) {
            warnings.push(format!(
                "auth.method: trust believes everybody who reaches {address}; use passthrough or scram-sha-256"
            ));
        }
        warnings.extend(self.admin.iter().flat_map(admin_warnings));
        for (name, user) in &self.users {
            let scram = self.auth.hba.is_none() && self.auth.method == AuthMethod::ScramSha256;
            if scram && matches!(user.secret, UserSecret::Md5(_)) {
                warnings.push(format!("users.{name}: an md5 hash cannot serve SCRAM-SHA-256, so this user cannot log in; store a password or a verifier, or set auth.method = \"md5\""));
            }
        }
        for (name, database) in self
            .databases
            .iter()
            .map(|(name, database)| (name.as_str(), database))
            .chain(self.wildcard.as_ref().map(|database| ("*", database)))
        {
            if database.pool.connect_timeout > database.pool.queue_timeout {
                warnings.push(format!("databases.{name}: connect_timeout is longer than queue_timeout, so clients give up before a connection attempt does"));
            }
        }
        warnings.extend(console::warnings(self));
        warnings.extend(cache::warnings(&self.cache));
        warnings
    }
}

fn admin_warnings(admin: &Admin) -> Vec<String> {
    let mut warnings = Vec::new();
    if admin.listen.ip().is_loopback() {
        return warnings;
    }
    if admin.tls.is_none() {
        warnings.push(format!("admin.cleartext_beyond_loopback: whoever sees the network between here and those who ask {} can read their tokens and act by them; set admin.tls_cert_file, unless something else encrypts it", admin.listen));
    }
    if let Some(short) = admin.tokens.iter().find(|token| token.short) {
        warnings.push(format!("admin: the token of {} has fewer than {LONG_TOKEN} characters, on a port that others can reach; take one that `pgweir token` prints", short.name));
    }
    warnings
}

/// Takes values by path, with the table's defaults, and collects mistakes.
struct Builder<'a> {
    written: Written,
    sources: &'a dyn Sources,
}

impl Builder<'_> {
    fn settings(&mut self, overrides: &Overrides) -> Settings {
        let upstream_tls = self.upstream_tls();
        let users = self.users();
        let flag = overrides.upstream.as_ref().map(|(_, flag)| flag.as_str());
        let mut settings = Settings {
            origins: std::sync::Arc::default(),
            listen: self.addresses(&["listen"]),
            listen_reuse_port: self.flag(&["listen_reuse_port"]),
            reload_on_change: self.flag(&["reload_on_change"]),
            unix_socket: self.unix_socket(),
            admin: self.admin(),
            console: self.console(),
            workers: self.count(&["workers"]),
            worker_scheduling: self.scheduling(),
            max_clients: self.count(&["max_clients"]),
            tls: self.client_tls(),
            max_upstreams: self.count(&["max_upstreams"]),
            max_side_connections: self.count(&["max_side_connections"]),
            dns_max_ttl: self.time(&["dns_max_ttl"]),
            max_pools: self.count(&["max_pools"]),
            max_memory: self.count(&["max_memory"]) as u64,
            user_limits: self.user_limits(),
            auth: self.auth(),
            databases: self.databases(&users, &upstream_tls),
            pool: self.pool(&["pool"]),
            users,
            upstream_tls,
            wildcard: None,
            tenants: self.tenants(),
            observe: self.observe(),
            capture: Capture {
                directory: self.text(&["capture", "directory"]).map(Into::into),
                allow_values: self.flag(&["capture", "allow_values"]),
            },
            cache: self.cache(),
            slow_log: SlowLog {
                threshold: self.limit(&["slow_log", "threshold"]),
                per_minute: u32::try_from(self.count(&["slow_log", "per_minute"])).unwrap_or(u32::MAX),
                plans: self.flag(&["slow_log", "plans"]),
                plans_per_minute: self.count(&["slow_log", "plans_per_minute"]) as u32,
                plan_timeout: self.time(&["slow_log", "plan_timeout"]),
                transaction_threshold: self.limit(&["slow_log", "transaction_threshold"]),
                idle_threshold: self.limit(&["slow_log", "idle_threshold"]),
            },
            tcp: Tcp {
                keepidle: self.time(&["tcp_keepidle"]),
                keepintvl: self.time(&["tcp_keepintvl"]),
                keepcnt: u32::try_from(self.count(&["tcp_keepcnt"])).unwrap_or(u32::MAX),
                user_timeout: self.limit(&["tcp_user_timeout"]),
            },
            peers: self.peers(),
            shutdown: Shutdown {
                drain_timeout: self.time(&["shutdown", "drain_timeout"]),
                grace: self.time(&["shutdown", "grace"]),
            },
            log: self.log(),
        };
        settings.wildcard = settings.databases.remove("*");
        if let Some((url, flag)) = &overrides.upstream {
            self.add_upstream(&mut settings, url, flag);
        }
        // Behind all that reads further files.
        settings.origins = std::sync::Arc::new(Origins::of(&self.written, flag));
        self.check_whole(&settings);
        settings
    }

    fn unix_socket(&mut self) -> UnixSocket {
        let written = self.text(&["unix_socket_mode"]).unwrap_or_default();
        let octal = written.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(&written, 8).ok().filter(|mode| octal && *mode <= 0o777);
        if mode.is_none() {
            self.wrong(&["unix_socket_mode"], "is no set of permissions; write them in octal, such as \"0770\"");
        }
        UnixSocket { mode: mode.unwrap_or_default(), group: self.text(&["unix_socket_group"]) }
    }

    /// All databases, the wildcard among them under its name `*`.
    fn databases(&mut self, users: &BTreeMap<String, User>, tls: &UpstreamTls) -> BTreeMap<String, Database> {
        let mut databases = BTreeMap::new();
        for name in self.names_under(&["databases"]) {
            let pool = self.pool(&["databases", &name]);
            let path = ["databases", name.as_str(), "upstream"];
            let Some(url) = self.text(&path) else {
                if !self.is_wrong(&path) {
                    self.wrong(
                        &["databases", &name],
                        "has no upstream; add upstream = \"postgres://user:password@host:5432/database\"",
                    );
                }
                continue;
            };
            match parse_url(&url) {
                Ok((mut upstream, own)) => {
                    upstream.tls = self.tls_of(&path, own, tls);
                    if let Some(password) = self.secret(&["databases", &name], "password") {
                        if upstream.password.is_some() {
                            self.wrong(
                                &["databases", &name, "password"],
                                "stands in the URL too; leave one of the two out",
                            );
                        }
                        upstream.password = Some(password);
                    }
                    let auth_query = self.auth_query(Some(&name), &upstream, users);
                    let limits = self.database_limits(&name);
                    databases.insert(name, Database { upstream, pool, auth_query, limits });
                }
                Err(error) => self.wrong(&path, &error.to_string()),
            }
        }
        databases
    }

    /// A pool's settings: the section's own keys, else those of `[pool]`, else the defaults.
    fn pool(&mut self, section: &[&str]) -> Pool {
        let at = |key: &'static str| -> Vec<String> {
            let own: Vec<String> = section.iter().chain([&key]).map(|s| (*s).to_owned()).collect();
            if self.written.values.contains_key(&own) { own } else { vec!["pool".to_owned(), key.to_owned()] }
        };
        let time = |key| self.time_at(&at(key));
        let count = |key| self.count_at(&at(key));
        let pool = Pool {
            mode: match self.word_at(&at("mode")).as_str() {
                "session" => PoolMode::Session,
                "statement" => PoolMode::Statement,
                _ => PoolMode::Transaction,
            },
            size: count("size"),
            min_size: count("min_size"),
            reserve_size: count("reserve_size"),
            reserve_after: time("reserve_after"),
            empty_timeout: time("empty_timeout"),
            queue_timeout: time("queue_timeout"),
            connect_timeout: time("connect_timeout"),
            connect_backoff: time("connect_backoff"),
            connect_backoff_max: time("connect_backoff_max"),
            idle_timeout: time("idle_timeout"),
            lifetime: time("lifetime"),
            health_check_after: time("health_check_after"),
            idle_in_transaction_timeout: time("idle_in_transaction_timeout"),
            max_prepared: count("max_prepared"),
            max_client_prepared: count("max_client_prepared"),
            max_client_prepared_bytes: count("max_client_prepared_bytes"),
            share_anonymous: self.flag_at(&at("share_anonymous")),
            listen: Listen {
                way: match self.word_at(&at("listen")).as_str() {
                    "pin" => ListenWay::Pin,
                    _ => ListenWay::Shared,
                },
                loss: match self.word_at(&at("listen_loss")).as_str() {
                    "notice" => ListenLoss::Notice,
                    _ => ListenLoss::Close,
                },
            },
            untracked: self.untracked(at),
            inspect_functions: Some(time("inspect_functions")).filter(|every| !every.is_zero()),
        };
        let (min_size, backoff) = (at("min_size"), at("connect_backoff"));
        if pool.min_size > pool.size {
            let sentence = format!("is {}, more than size = {}; lower it or raise size", pool.min_size, pool.size);
            self.wrong_at(&min_size, sentence);
        }
        if pool.connect_backoff > pool.connect_backoff_max {
            let sentence = "is longer than connect_backoff_max; lower it or raise connect_backoff_max";
            self.wrong_at(&backoff, sentence.to_owned());
        }
        pool
    }

    fn scheduling(&mut self) -> Scheduling {
        match self.word(&["worker_scheduling"]).as_str() {
            "normal" => Scheduling::Normal,
            _ => Scheduling::Batch,
        }
    }

    fn observe(&mut self) -> Observe {
        let statements = self.flag(&["observe", "statements"]);
        let n_plus_one = self.flag(&["observe", "n_plus_one"]);
        if n_plus_one && !statements && self.given(&["observe", "n_plus_one"]).is_some() {
            self.wrong(&["observe", "n_plus_one"], "needs observe.statements; switch that on or this off");
        }
        let profile = match self.word(&["observe", "profile"]).as_str() {
            "development" => Profile::Development,
            _ => Profile::Production,
        };
        Observe {
            statements,
            n_plus_one: n_plus_one && statements,
            profile,
            duplicates: self.flag(&["observe", "duplicates"]),
            events_per_second: self.count(&["observe", "events_per_second"]) as u32,
            compat: self.count(&["observe", "compat"]) as u16,
            regressions: self.flag(&["observe", "regressions"]) && statements,
            regression_interval: self.time(&["observe", "regression_interval"]),
            pg_stat_statements: self.flag(&["observe", "pg_stat_statements"]) && statements,
            state_directory: self.text(&["observe", "state_directory"]).map(Into::into),
            max_fingerprints: self.count(&["observe", "max_fingerprints"]),
            samples: self.flag(&["observe", "samples"]),
            mutes: self.mutes(),
        }
    }

    fn log(&mut self) -> Log {
        let level = LogLevel::from_word(&self.word(&["log", "level"])).unwrap_or(LogLevel::Info);
        Log { level, json: self.word(&["log", "format"]) == "json", file: self.text(&["log", "file"]).map(Into::into) }
    }

    /// The zero-config start's part (see [`Settings::from_upstream`]).
    fn add_upstream(&mut self, settings: &mut Settings, url: &str, flag: &str) {
        let (upstream, own) = match parse_url(url) {
            Ok(parsed) => parsed,
            Err(error) => {
                let place = Place::Override(flag.to_owned());
                return self.written.mistakes.push(Mistake {
                    place,
                    key: "upstream".to_owned(),
                    sentence: error.to_string(),
                });
            }
        };
        let tls = self.tls_of_flag(own, &settings.upstream_tls, flag);
        let upstream = Upstream { tls, ..upstream };
        let pool = self.pool(&["pool"]);
        if let (Some(user), Some(password)) = (&upstream.user, &upstream.password) {
            settings.users.entry(user.clone()).or_insert_with(|| UserSecret::Plain(password.clone()).into());
        }
        let auth_query = self.auth_query(None, &upstream, &settings.users);
        // Nobody borrows the URL's user: with its name here, every client that passes through would become it.
        let every = Upstream { database: None, user: None, password: None, ..upstream.clone() };
        if let Some(name) = upstream.database {
            let named = Upstream { database: Some(name.clone()), ..every.clone() };
            let (pool, auth_query, limits) = (pool.clone(), auth_query.clone(), DatabaseLimits::default());
            settings.databases.entry(name).or_insert_with(|| Database { upstream: named, pool, auth_query, limits });
        }
        settings.wildcard = Some(Database { upstream: every, pool, auth_query, limits: DatabaseLimits::default() });
    }

    fn check_whole(&mut self, settings: &Settings) {
        self.check_names(settings);
        self.check_tenant_table(settings);
        let none = settings.databases.is_empty() && settings.wildcard.is_none();
        if none && self.written.mistakes.is_empty() {
            self.written.mistakes.push(Mistake {
                place: Place::Nowhere,
                key: String::new(),
                sentence: "no upstream is configured; add [databases.\"*\"] with upstream = \"postgres://…\", or start with --upstream URL".to_owned(),
            });
        }
        let listed = settings.auth.hba.is_none() && settings.auth.method.needs_secret();
        let mut databases = settings.databases.values().chain(&settings.wildcard);
        let found = !settings.users.is_empty() || databases.any(|database| database.auth_query.is_some());
        if listed && !found && self.written.mistakes.is_empty() {
            self.wrong(&["auth", "method"], "lets only listed users in, and none is listed; add [users.NAME], auth.userlist or auth.query_user, or use \"passthrough\"");
        }
        let listens = |address: SocketAddr| settings.listen.contains(&ListenAddress::Tcp(address));
        let bound = settings.admin.as_ref().filter(|admin| admin.listen.port() != 0 && listens(admin.listen));
        if bound.is_some() {
            self.wrong(&["admin", "listen"], "is the same address as listen; give the admin port another port");
        }
    }
}

#[cfg(test)]
mod tests;
