//! What a reload has to do: old settings against new ones, key by key.

use crate::schema::{self, Found, Kind, Reload};
use crate::text::show_path;
use crate::units::show_duration;
use crate::*;

mod admin;
mod cache;
mod flat;
mod keys;
mod tls;

use admin::put_admin;
use cache::{follows_anew, put_cache};
use flat::Flat;
pub use keys::Key;
use tls::{put_client_tls, put_upstream_tls, shown_tls};

mod shown;

pub use shown::Shown;

/// Longest value that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path, as `pool.size`.
    pub key: String,
    /// The values, for people; `None`: they are secret, or cannot be told apart in a few words.
    pub values: Option<Values>,
}

/// A key's value before and after, for people. `None`: not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Values {
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Keys whose values differ, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Hold from the next login, request or sweep on.
    pub at_once: Vec<Change>,
    /// Hold only after a restart: until then the old values stay.
    pub restart: Vec<Change>,
}

impl Changes {
    /// Compares two valid settings.
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let follows_anew = follows_anew(&old.cache, &new.cache);
        let (old, new) = (flat(old), flat(new));
        let mut changes = Self::default();
        for path in old.keys().chain(new.keys().filter(|path| old.get(path).is_none())) {
            let (before, after) = (old.get(path), new.get(path));
            if before.map(|value| &value.exact) == after.map(|value| &value.exact) {
                continue;
            }
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let row = match schema::find(&names) {
                Found::Leaf(row) => Some(row),
                _ => None,
            };
            let shown = |value: Option<&flat::Value>| value.map(|value| value.shown.clone());
            let values = match (shown(before), shown(after)) {
                // Whatever stands in the table of values: a secret is none of them.
                _ if row.is_some_and(|row| row.kind == Kind::Secret) => None,
                (Some(None), _) | (_, Some(None)) => None,
                (old, new) if old == new => None,
                (old, new) => Some(Values { old: old.flatten().map(cut), new: new.flatten().map(cut) }),
            };
            let change = Change { key: show_path(path), values };
            match row {
                Some(row) if row.reload == Reload::Restart => changes.restart.push(change),
                _ if follows_anew && cache::brings_rules(&names) => changes.restart.push(change),
                _ => changes.at_once.push(change),
            }
        }
        changes.at_once.sort_by(|a, b| a.key.cmp(&b.key));
        changes.restart.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.restart.is_empty()
    }

    /// Why one of [`Self::restart`] needs one, where that is another thing each time that it changes; `None`: it always does.
    pub fn why_restart(change: &Change) -> Option<&'static str> {
        let brings_rules = ["cache.rule", "cache.preset"].contains(&change.key.as_str());
        brings_rules.then_some(cache::FIRST_RULES)
    }

    /// The keys alone.
    pub fn keys(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| change.key.clone()).collect()
    }
}

fn cut(mut value: String) -> String {
    if let Some((end, _)) = value.char_indices().nth(MAX_SHOWN) {
        value.truncate(end);
        value.push('…');
    }
    value
}

impl Settings {
    /// These settings with those of `running` where a change needs a restart: what a reload puts in force.
    #[must_use]
    pub fn without_restart(mut self, running: &Self) -> Self {
        self.listen_reuse_port = running.listen_reuse_port;
        self.peers.own = running.peers.own;
        self.workers = running.workers;
        self.worker_scheduling = running.worker_scheduling;
        self.admin = match (&running.admin, self.admin) {
            // A new listener is not opened, so what only its old place allowed to be absent may go.
            (Some(old), Some(new)) if old.listen.ip().is_loopback() || new.guards_network() => {
                Some(Admin { listen: old.listen, ..new })
            }
            (old, _) => old.clone(),
        };
        std::sync::Arc::make_mut(&mut self.origins).without_restart(&running.origins);
        self.cache.without_restart(&running.cache);
        self.observe.compat = running.observe.compat;
        self.observe.max_fingerprints = running.observe.max_fingerprints;
        self.observe.state_directory.clone_from(&running.observe.state_directory);
        self
    }
}

fn flat(settings: &Settings) -> Flat {
    let mut all = Flat::default();
    all.put(&["listen"], listed(&settings.listen));
    all.put(&["listen_reuse_port"], settings.listen_reuse_port);
    all.put(&["reload_on_change"], settings.reload_on_change);
    all.put(&["unix_socket_mode"], format!("{:04o}", settings.unix_socket.mode));
    all.put(&["unix_socket_group"], given(settings.unix_socket.group.as_ref()));
    all.put(&["workers"], settings.workers);
    all.put(&["worker_scheduling"], word(settings.worker_scheduling));
    all.put(&["max_clients"], settings.max_clients);
    all.put(&["max_upstreams"], settings.max_upstreams);
    all.put(&["max_side_connections"], settings.max_side_connections);
    all.put(&["dns_max_ttl"], show_duration(settings.dns_max_ttl));
    all.put(&["max_pools"], settings.max_pools);
    all.put(&["max_memory"], settings.max_memory);
    all.put(&["tcp_keepidle"], show_duration(settings.tcp.keepidle));
    all.put(&["tcp_keepintvl"], show_duration(settings.tcp.keepintvl));
    all.put(&["tcp_keepcnt"], settings.tcp.keepcnt);
    all.put(&["tcp_user_timeout"], shown_limit(settings.tcp.user_timeout));
    for (name, limits) in &settings.user_limits {
        all.put(&["users", name, "pool_size"], given(limits.pool_size));
        all.put(&["users", name, "max_clients"], limits.max_clients);
        all.put(&["users", name, "max_upstreams"], limits.max_upstreams);
    }
    put_admin(&mut all, settings.admin.as_ref());
    put_auth(&mut all, &settings.auth);
    put_observed(&mut all, settings);
    put_cache(&mut all, &settings.cache);
    all.put(&["peers", "id"], settings.peers.own.checked_sub(1).map_or_else(none, |id| id.to_string()));
    for (number, address) in &settings.peers.addresses {
        // As in the file, where they begin at 0.
        all.put(&["peers", &(number - 1).to_string(), "address"], address);
    }
    all.put(&["shutdown", "drain_timeout"], show_duration(settings.shutdown.drain_timeout));
    all.put(&["shutdown", "grace"], show_duration(settings.shutdown.grace));
    all.put(&["log", "level"], word(settings.log.level));
    all.put(&["log", "format"], if settings.log.json { "json" } else { "text" });
    all.put(&["log", "file"], given(settings.log.file.as_ref().map(|file| file.display())));
    for (name, user) in &settings.users {
        let (kind, secret) = match &user.secret {
            UserSecret::Plain(secret) => ("plain", Some(secret)),
            UserSecret::Md5(secret) => ("md5", Some(secret)),
            UserSecret::Scram(secret) => ("scram", Some(secret)),
            UserSecret::None => ("none", None),
        };
        all.hide(&["users", name, "password"], format!("{kind} {}", shown_secret(secret)));
        all.put(&["users", name, "upstream_user"], given(user.upstream_user.as_ref()));
        all.hide(&["users", name, "upstream_password"], shown_secret(user.upstream_password.as_ref()));
    }
    for (name, database) in &settings.databases {
        put_database(&mut all, name, database);
    }
    if let Some(database) = &settings.wildcard {
        put_database(&mut all, "*", database);
    }
    put_tenants(&mut all, &settings.tenants);
    all.put(&["console", "admin_users"], listed(&settings.console.admin_users));
    all.put(&["console", "stats_users"], listed(&settings.console.stats_users));
    put_client_tls(&mut all, &settings.tls);
    put_upstream_tls(&mut all, &settings.upstream_tls);
    all
}

fn put_observed(all: &mut Flat, settings: &Settings) {
    let observe = &settings.observe;
    all.put(&["observe", "statements"], observe.statements);
    all.put(&["observe", "n_plus_one"], observe.n_plus_one);
    all.put(&["observe", "profile"], word(observe.profile));
    all.put(&["observe", "duplicates"], observe.duplicates);
    all.show(&["observe", "mute"], format!("{:?}", observe.mutes), format!("{} entries", observe.mutes.len()));
    all.put(&["observe", "events_per_second"], observe.events_per_second);
    all.put(&["observe", "compat"], observe.compat);
    all.put(&["observe", "regressions"], observe.regressions);
    all.put(&["observe", "regression_interval"], show_duration(observe.regression_interval));
    all.put(&["observe", "pg_stat_statements"], observe.pg_stat_statements);
    all.put(&["observe", "state_directory"], given(observe.state_directory.as_ref().map(|folder| folder.display())));
    all.put(&["observe", "max_fingerprints"], observe.max_fingerprints);
    all.put(&["observe", "samples"], observe.samples);
    all.put(&["capture", "directory"], given(settings.capture.directory.as_ref().map(|folder| folder.display())));
    all.put(&["capture", "allow_values"], settings.capture.allow_values);
    let slow = &settings.slow_log;
    all.put(&["slow_log", "threshold"], shown_limit(slow.threshold));
    all.put(&["slow_log", "per_minute"], slow.per_minute);
    all.put(&["slow_log", "plans"], slow.plans);
    all.put(&["slow_log", "plans_per_minute"], slow.plans_per_minute);
    all.put(&["slow_log", "plan_timeout"], show_duration(slow.plan_timeout));
    all.put(&["slow_log", "transaction_threshold"], shown_limit(slow.transaction_threshold));
    all.put(&["slow_log", "idle_threshold"], shown_limit(slow.idle_threshold));
}

fn put_auth(all: &mut Flat, auth: &Auth) {
    let limits = &auth.limits;
    let rules = auth.hba.as_ref().map_or_else(none, |hba| format!("{} rules", hba.rules.len()));
    all.show(&["auth", "hba_file"], format!("{:?}", auth.hba), rules);
    all.hide(&["auth", "ident_file"], format!("{:?}", auth.maps));
    let cert_name = match auth.cert_name {
        CertName::CommonName => "cn",
        CertName::Alternative => "san",
    };
    for (key, value) in [
        ("method", auth.method.word().to_owned()),
        ("map", given(auth.map.as_ref())),
        ("cert_name", cert_name.to_owned()),
        ("plaintext_network", auth.plaintext_network.to_string()),
        ("login_timeout", show_duration(auth.login_timeout)),
        ("secret_cache", show_duration(auth.secret_cache)),
        ("unknown_cache", show_duration(auth.unknown_cache)),
        ("max_logins", limits.concurrent.to_string()),
        ("max_logins_per_address", limits.per_address.to_string()),
        ("max_failures", limits.failures.to_string()),
        ("failure_period", show_duration(limits.period)),
        ("failure_exempt", listed(&limits.exempt)),
    ] {
        all.put(&["auth", key], value);
    }
}

fn put_database(all: &mut Flat, name: &str, database: &Database) {
    let query = database.auth_query.as_ref();
    all.put(&["databases", name, "auth_user"], given(query.map(|query| &query.user)));
    all.put(&["databases", name, "auth_query"], given(query.map(|query| &query.text)));
    let password = shown_secret(query.and_then(|query| query.password.as_ref()));
    all.hide(&["databases", name, "auth_password"], password);
    all.put(&["databases", name, "auth_database"], given(query.and_then(|query| query.database.as_ref())));
    put_upstream(all, name, &database.upstream);
    let pool = &database.pool;
    all.put(&["databases", name, "mode"], word(pool.mode));
    all.put(&["databases", name, "size"], pool.size);
    all.put(&["databases", name, "min_size"], pool.min_size);
    all.put(&["databases", name, "reserve_size"], pool.reserve_size);
    all.put(&["databases", name, "max_clients"], database.limits.max_clients);
    all.put(&["databases", name, "max_upstreams"], database.limits.max_upstreams);
    all.put(&["databases", name, "max_prepared"], pool.max_prepared);
    all.put(&["databases", name, "max_client_prepared"], pool.max_client_prepared);
    all.put(&["databases", name, "max_client_prepared_bytes"], pool.max_client_prepared_bytes);
    all.put(&["databases", name, "share_anonymous"], pool.share_anonymous);
    all.put(&["databases", name, "listen"], word(pool.listen.way));
    all.put(&["databases", name, "listen_loss"], word(pool.listen.loss));
    all.put(&["databases", name, "inspect_functions"], shown_limit(pool.inspect_functions));
    let answer = |answer: Option<OnUntracked>| given(answer.map(OnUntracked::word));
    all.put(&["databases", name, "on_untracked"], answer(pool.untracked.general));
    for state in SessionState::ALL {
        all.put(&["databases", name, &format!("on_{}", state.label())], answer(pool.untracked.given(state)));
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
        all.put(&["databases", name, key], show_duration(time));
    }
}

/// The URL: shown is where it leads to, as whom, and not its password.
fn put_upstream(all: &mut Flat, name: &str, upstream: &Upstream) {
    let Upstream { hosts, session_attrs, load_balance, protocol, database: there, user, password, tls } = upstream;
    let servers = format!("{hosts:?} {session_attrs:?} {load_balance} {protocol:?} {}", shown_tls(tls));
    let exact = format!("{servers} {there:?} {user:?} {}", shown_secret(password.as_ref()));
    let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let there = there.as_ref().map(|there| format!("/{there}")).unwrap_or_default();
    let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let attrs = match session_attrs {
        SessionAttrs::Any => String::new(),
        attrs => format!(" ({})", attrs.as_str()),
    };
    all.show(&["databases", name, "upstream"], exact, format!("{user}{hosts}{there}{attrs}"));
}

fn put_tenants(all: &mut Flat, tenants: &Tenants) {
    all.put(&["tenant", "default_name"], &tenants.default);
    all.put(&["tenant", "max_tenants"], tenants.max_tenants);
    all.put(&["tenant", "directory"], given(tenants.directory.as_ref().map(|folder| folder.display())));
    if let Some(TenantTable { database, query, interval }) = &tenants.table {
        all.put(&["tenant", "table", "database"], database);
        all.put(&["tenant", "table", "query"], query);
        all.put(&["tenant", "table", "interval"], show_duration(*interval));
    }
    let rules: Vec<String> = tenants.rules.iter().map(|rule| rule.origin.shown()).collect();
    all.show(&["tenant", "rule"], format!("{:?}", tenants.rules), in_turn(&rules));
    let classes = tenants.classes.iter().map(|rule| format!("{} by {}", rule.class, rule.origin.shown()));
    all.show(&["tenant", "classify"], format!("{:?}", tenants.classes), in_turn(&classes.collect::<Vec<_>>()));
    let mut limits = |path: &[&str], limits: &Limits| {
        // A table that says nothing is there all the same: its tenant is counted by itself.
        all.put(path, "a table");
        for (key, value) in limits.said() {
            all.put(&path.iter().copied().chain([key.word()]).collect::<Vec<_>>(), value.shown());
        }
        for (key, mode) in limits.modes() {
            all.put(&path.iter().copied().chain(["modes", key.word()]).collect::<Vec<_>>(), mode.word());
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

fn in_turn(rules: &[String]) -> String {
    if rules.is_empty() { none() } else { rules.join(", then ") }
}

fn none() -> String {
    "none".to_owned()
}

/// Something that need not be there.
fn given(value: Option<impl ToString>) -> String {
    value.map_or_else(none, |value| value.to_string())
}

fn listed(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A word of the configuration, by the name of what it stands for.
fn word(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn shown_limit(limit: Option<std::time::Duration>) -> String {
    limit.map_or_else(none, show_duration)
}

/// For comparison: what comes of it is shown to nobody.
fn shown_secret(secret: Option<&Secret>) -> String {
    format!("{:?}", secret.map(Secret::reveal))
}
