//! What a reload has to do: old settings against new ones, key by key.

use std::collections::BTreeMap;

use crate::schema::{self, Found, Reload};
use crate::text::show_path;
use crate::units::show_duration;
use crate::*;

mod tls;

use tls::{put_client_tls, put_upstream_tls, shown_tls};

/// Keys whose values differ, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Hold from the next login, request or sweep on.
    pub at_once: Vec<String>,
    /// Hold only after a restart: until then the old values stay.
    pub restart: Vec<String>,
}

impl Changes {
    /// Compares two valid settings.
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let (old, new) = (flat(old), flat(new));
        let mut changes = Self::default();
        for path in old.keys().chain(new.keys().filter(|path| !old.contains_key(*path))) {
            if old.get(path) != new.get(path) {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                match schema::find(&names) {
                    Found::Leaf(row) if row.reload == Reload::Restart => changes.restart.push(show_path(path)),
                    _ => changes.at_once.push(show_path(path)),
                }
            }
        }
        changes.at_once.sort();
        changes.restart.sort();
        changes
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.restart.is_empty()
    }
}

impl Settings {
    /// These settings with those of `running` where a change needs a restart: what a reload puts in force.
    #[must_use]
    pub fn without_restart(mut self, running: &Self) -> Self {
        self.listen_reuse_port = running.listen_reuse_port;
        self.peers.own = running.peers.own;
        self.workers = running.workers;
        self.worker_scheduling = running.worker_scheduling;
        self.admin = match (&running.admin, self.admin.and_then(|admin| admin.token)) {
            // A new listener is not opened, so a token that only its old place allowed to be absent may go.
            (Some(old), token) if token.is_some() || old.listen.ip().is_loopback() => {
                Some(Admin { listen: old.listen, token })
            }
            (old, _) => old.clone(),
        };
        self.observe.compat = running.observe.compat;
        self.observe.max_fingerprints = running.observe.max_fingerprints;
        self.observe.state_directory.clone_from(&running.observe.state_directory);
        self
    }
}

/// Key path → value as text. Secrets are in it: it never leaves this file but for comparison.
type Flat = BTreeMap<Vec<String>, String>;

fn flat(settings: &Settings) -> Flat {
    let mut all = Flat::new();
    let mut put = |path: &[&str], value: String| {
        all.insert(path.iter().map(|segment| (*segment).to_owned()).collect(), value);
    };
    put(&["listen"], format!("{:?}", settings.listen));
    put(&["listen_reuse_port"], settings.listen_reuse_port.to_string());
    put(&["unix_socket_mode"], format!("{:o}", settings.unix_socket.mode));
    put(&["unix_socket_group"], format!("{:?}", settings.unix_socket.group));
    put(&["workers"], settings.workers.to_string());
    put(&["worker_scheduling"], format!("{:?}", settings.worker_scheduling));
    put(&["max_clients"], settings.max_clients.to_string());
    put(&["max_upstreams"], settings.max_upstreams.to_string());
    put(&["max_side_connections"], settings.max_side_connections.to_string());
    put(&["dns_max_ttl"], show_duration(settings.dns_max_ttl));
    put(&["max_pools"], settings.max_pools.to_string());
    put(&["tcp_keepidle"], show_duration(settings.tcp.keepidle));
    put(&["tcp_keepintvl"], show_duration(settings.tcp.keepintvl));
    put(&["tcp_keepcnt"], settings.tcp.keepcnt.to_string());
    put(&["tcp_user_timeout"], shown_limit(settings.tcp.user_timeout));
    for (name, limits) in &settings.user_limits {
        put(&["users", name, "pool_size"], format!("{:?}", limits.pool_size));
        put(&["users", name, "max_clients"], limits.max_clients.to_string());
        put(&["users", name, "max_upstreams"], limits.max_upstreams.to_string());
    }
    put(&["admin", "listen"], settings.admin.as_ref().map_or("off".to_owned(), |admin| admin.listen.to_string()));
    put(&["admin", "token"], shown_secret(settings.admin.as_ref().and_then(|admin| admin.token.as_ref())));
    put_auth(&mut put, &settings.auth);
    put(&["observe", "statements"], settings.observe.statements.to_string());
    put(&["observe", "n_plus_one"], settings.observe.n_plus_one.to_string());
    put(&["observe", "profile"], format!("{:?}", settings.observe.profile));
    put(&["observe", "mute"], format!("{:?}", settings.observe.mutes));
    put(&["observe", "events_per_second"], settings.observe.events_per_second.to_string());
    put(&["observe", "compat"], settings.observe.compat.to_string());
    put(&["observe", "regressions"], settings.observe.regressions.to_string());
    put(&["observe", "regression_interval"], show_duration(settings.observe.regression_interval));
    put(&["observe", "pg_stat_statements"], settings.observe.pg_stat_statements.to_string());
    put(&["observe", "state_directory"], format!("{:?}", settings.observe.state_directory));
    put(&["observe", "max_fingerprints"], settings.observe.max_fingerprints.to_string());
    put(&["observe", "samples"], settings.observe.samples.to_string());
    put(&["capture", "directory"], format!("{:?}", settings.capture.directory));
    put(&["capture", "allow_values"], settings.capture.allow_values.to_string());
    put(&["slow_log", "threshold"], shown_limit(settings.slow_log.threshold));
    put(&["slow_log", "per_minute"], settings.slow_log.per_minute.to_string());
    put(&["slow_log", "plans"], settings.slow_log.plans.to_string());
    put(&["slow_log", "plans_per_minute"], settings.slow_log.plans_per_minute.to_string());
    put(&["slow_log", "plan_timeout"], show_duration(settings.slow_log.plan_timeout));
    put(&["slow_log", "transaction_threshold"], shown_limit(settings.slow_log.transaction_threshold));
    put(&["slow_log", "idle_threshold"], shown_limit(settings.slow_log.idle_threshold));
    put(&["peers", "id"], settings.peers.own.to_string());
    for (number, address) in &settings.peers.addresses {
        // As in the file, where they begin at 0.
        put(&["peers", &(number - 1).to_string(), "address"], address.to_string());
    }
    put(&["shutdown", "drain_timeout"], show_duration(settings.shutdown.drain_timeout));
    put(&["shutdown", "grace"], show_duration(settings.shutdown.grace));
    put(&["log", "level"], format!("{:?}", settings.log.level));
    put(&["log", "format"], settings.log.json.to_string());
    put(&["log", "file"], format!("{:?}", settings.log.file));
    for (name, user) in &settings.users {
        let (kind, secret) = match &user.secret {
            UserSecret::Plain(secret) => ("plain", Some(secret)),
            UserSecret::Md5(secret) => ("md5", Some(secret)),
            UserSecret::Scram(secret) => ("scram", Some(secret)),
            UserSecret::None => ("none", None),
        };
        put(&["users", name, "password"], format!("{kind} {}", shown_secret(secret)));
        put(&["users", name, "upstream_user"], format!("{:?}", user.upstream_user));
        put(&["users", name, "upstream_password"], shown_secret(user.upstream_password.as_ref()));
    }
    for (name, database) in &settings.databases {
        put_database(&mut put, name, database);
    }
    if let Some(database) = &settings.wildcard {
        put_database(&mut put, "*", database);
    }
    put_tenants(&mut put, &settings.tenants);
    put_client_tls(&mut all, &settings.tls);
    put_upstream_tls(&mut all, &settings.upstream_tls);
    all
}

fn put_auth(put: &mut dyn FnMut(&[&str], String), auth: &Auth) {
    let limits = &auth.limits;
    for (key, value) in [
        ("method", auth.method.word().to_owned()),
        ("hba_file", format!("{:?}", auth.hba)),
        ("ident_file", format!("{:?}", auth.maps)),
        ("map", format!("{:?}", auth.map)),
        ("cert_name", format!("{:?}", auth.cert_name)),
        ("plaintext_network", auth.plaintext_network.to_string()),
        ("login_timeout", show_duration(auth.login_timeout)),
        ("secret_cache", show_duration(auth.secret_cache)),
        ("unknown_cache", show_duration(auth.unknown_cache)),
        ("max_logins", limits.concurrent.to_string()),
        ("max_logins_per_address", limits.per_address.to_string()),
        ("max_failures", limits.failures.to_string()),
        ("failure_period", show_duration(limits.period)),
        ("failure_exempt", format!("{:?}", limits.exempt)),
    ] {
        put(&["auth", key], value);
    }
}

fn put_database(put: &mut dyn FnMut(&[&str], String), name: &str, database: &Database) {
    let query = database.auth_query.as_ref();
    put(&["databases", name, "auth_user"], format!("{:?}", query.map(|query| &query.user)));
    put(&["databases", name, "auth_query"], format!("{:?}", query.map(|query| &query.text)));
    put(&["databases", name, "auth_password"], shown_secret(query.and_then(|query| query.password.as_ref())));
    put(&["databases", name, "auth_database"], format!("{:?}", query.map(|query| &query.database)));
    let Upstream { hosts, session_attrs, load_balance, protocol, database: there, user, password, tls } =
        &database.upstream;
    let password = shown_secret(password.as_ref());
    let servers = format!("{hosts:?} {session_attrs:?} {load_balance} {protocol:?} {}", shown_tls(tls));
    put(&["databases", name, "upstream"], format!("{servers} {there:?} {user:?} {password}"));
    let pool = &database.pool;
    put(&["databases", name, "mode"], format!("{:?}", pool.mode));
    put(&["databases", name, "size"], pool.size.to_string());
    put(&["databases", name, "min_size"], pool.min_size.to_string());
    put(&["databases", name, "reserve_size"], pool.reserve_size.to_string());
    put(&["databases", name, "max_clients"], database.limits.max_clients.to_string());
    put(&["databases", name, "max_upstreams"], database.limits.max_upstreams.to_string());
    put(&["databases", name, "max_prepared"], pool.max_prepared.to_string());
    put(&["databases", name, "max_client_prepared"], pool.max_client_prepared.to_string());
    put(&["databases", name, "max_client_prepared_bytes"], pool.max_client_prepared_bytes.to_string());
    put(&["databases", name, "share_anonymous"], pool.share_anonymous.to_string());
    put(&["databases", name, "listen"], format!("{:?}", pool.listen.way));
    put(&["databases", name, "listen_loss"], format!("{:?}", pool.listen.loss));
    put(&["databases", name, "inspect_functions"], shown_limit(pool.inspect_functions));
    let answer = |answer: Option<OnUntracked>| answer.map_or("none", OnUntracked::word).to_owned();
    put(&["databases", name, "on_untracked"], answer(pool.untracked.general));
    for state in SessionState::ALL {
        put(&["databases", name, &format!("on_{}", state.label())], answer(pool.untracked.given(state)));
    }
    for (key, time) in [
        ("queue_timeout", pool.queue_timeout),
        ("reserve_after", pool.reserve_after),
        ("empty_timeout", pool.empty_timeout),
        ("connect_timeout", pool.connect_timeout),
        ("connect_backoff", pool.connect_backoff),
        ("connect_backoff_max", pool.connect_backoff_max),
        ("idle_timeout", pool.idle_timeout),
        ("lifetime", pool.lifetime),
        ("health_check_after", pool.health_check_after),
        ("idle_in_transaction_timeout", pool.idle_in_transaction_timeout),
    ] {
        put(&["databases", name, key], show_duration(time));
    }
}

fn put_tenants(put: &mut dyn FnMut(&[&str], String), tenants: &Tenants) {
    put(&["tenant", "default_name"], tenants.default.clone());
    put(&["tenant", "max_tenants"], tenants.max_tenants.to_string());
    put(&["tenant", "directory"], format!("{:?}", tenants.directory));
    put(&["tenant", "rule"], format!("{:?}", tenants.rules));
    put(&["tenant", "classify"], format!("{:?}", tenants.classes));
    let mut limits = |path: &[&str], limits: &Limits| {
        // A table that says nothing is there all the same: its tenant is counted by itself.
        put(path, String::new());
        for (key, value) in limits.said() {
            put(&path.iter().copied().chain([key.word()]).collect::<Vec<_>>(), value.shown());
        }
        for (key, mode) in limits.modes() {
            put(&path.iter().copied().chain(["modes", key.word()]).collect::<Vec<_>>(), mode.word().to_owned());
        }
    };
    limits(&schema::LIMITS_TABLE, &tenants.default_limits);
    for (kind, tables) in [("class", &tenants.class_limits), ("limits", &tenants.limits)] {
        for (name, own) in tables {
            limits(&["tenant", kind, name], own);
        }
    }
    for (strict, own) in &tenants.fingerprints {
        limits(&["tenant", "fingerprint", &format!("{strict:016x}")], own);
    }
}

fn shown_limit(limit: Option<std::time::Duration>) -> String {
    limit.map_or_else(|| "none".to_owned(), show_duration)
}

fn shown_secret(secret: Option<&Secret>) -> String {
    format!("{:?}", secret.map(Secret::reveal))
}
