//! CONFIG: PgBouncer's keys, then our own.

use std::time::Duration;

use config::{ListenAddress, LogLevel, Settings};

use super::super::value::{Row, Value, text};
use super::pools::mode;

/// How a value of PgBouncer's key is written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unit {
    /// As ours.
    Plain,
    /// A time in seconds.
    Seconds,
    /// A time in milliseconds.
    Milliseconds,
}

/// A key of PgBouncer's that has a counterpart.
pub(in super::super) struct Key {
    /// Its name there.
    pub(in super::super) name: &'static str,
    /// The key here that a change goes to; `None`: it is none that can be changed alone.
    pub(in super::super) own: Option<&'static str>,
    pub(in super::super) unit: Unit,
    value: fn(&Settings) -> Option<String>,
    at_once: bool,
}

const fn key(name: &'static str, value: fn(&Settings) -> Option<String>) -> Key {
    Key { name, own: None, unit: Unit::Plain, value, at_once: true }
}

const fn fixed(name: &'static str, value: fn(&Settings) -> Option<String>) -> Key {
    Key { at_once: false, ..key(name, value) }
}

/// One that SET can change.
const fn own(name: &'static str, own: &'static str, unit: Unit, value: fn(&Settings) -> Option<String>) -> Key {
    Key { own: Some(own), unit, ..key(name, value) }
}

/// All of them, by the alphabet.
#[rustfmt::skip]
pub(in super::super) const KEYS: &[Key] = &[
    key("admin_users", |all| Some(all.console.admin_users.join(", "))),
    key("auth_type", |all| Some(all.auth.hba.as_ref().map_or(all.auth.method.word(), |_| "hba").to_owned())),
    key("client_idle_timeout", |all| Some(limit(all, config::LimitKey::IdleTimeout))),
    own("client_login_timeout", "auth.login_timeout", Unit::Seconds, |all| Some(seconds(all.auth.login_timeout))),
    key("client_tls_ca_file", |all| Some(all.tls.authorities.as_ref().map_or_else(String::new, |file| file.path.clone()))),
    key("client_tls_cert_file", |all| Some(all.tls.identity.as_ref().map_or_else(String::new, |own| own.chain.path.clone()))),
    key("client_tls_key_file", |all| Some(all.tls.identity.as_ref().map_or_else(String::new, |own| own.key_path.clone()))),
    key("client_tls_sslmode", |all| Some(all.tls.mode.word().to_owned())),
    key("default_pool_size", |all| Some(all.pool.size.to_string())),
    own("dns_max_ttl", "dns_max_ttl", Unit::Seconds, |all| Some(seconds(all.dns_max_ttl))),
    key("idle_transaction_timeout", |all| Some(seconds(all.pool.idle_in_transaction_timeout))),
    fixed("job_name", |_| Some("pgweir".to_owned())),
    key("listen_addr", |all| Some(listed(all, |address| address.tcp().map(|address| address.ip().to_string())))),
    key("listen_port", |all| Some(port(all).to_string())),
    key("logfile", |all| Some(all.log.file.as_ref().map_or_else(String::new, |file| file.display().to_string()))),
    own("max_client_conn", "max_clients", Unit::Plain, |all| Some(all.max_clients.to_string())),
    // What holds for databases and users that say nothing: no limit. Their own stand in DATABASES and USERS.
    key("max_db_client_connections", |_| Some(config::DatabaseLimits::default().max_clients.to_string())),
    key("max_db_connections", |_| Some(config::DatabaseLimits::default().max_upstreams.to_string())),
    key("max_prepared_statements", |all| Some(all.pool.max_prepared.to_string())),
    key("max_user_client_connections", |_| Some(config::UserLimits::default().max_clients.to_string())),
    key("max_user_connections", |_| Some(config::UserLimits::default().max_upstreams.to_string())),
    key("min_pool_size", |all| Some(all.pool.min_size.to_string())),
    fixed("peer_id", |all| Some(all.peers.own.to_string())),
    key("pool_mode", |all| Some(mode(all.pool.mode).to_owned())),
    key("query_timeout", |all| Some(limit(all, config::LimitKey::StatementTimeout))),
    key("query_wait_timeout", |all| Some(seconds(all.pool.queue_timeout))),
    key("reserve_pool_size", |all| Some(all.pool.reserve_size.to_string())),
    key("reserve_pool_timeout", |all| Some(seconds(all.pool.reserve_after))),
    key("server_check_delay", |all| Some(seconds(all.pool.health_check_after))),
    key("server_connect_timeout", |all| Some(seconds(all.pool.connect_timeout))),
    key("server_idle_timeout", |all| Some(seconds(all.pool.idle_timeout))),
    key("server_lifetime", |all| Some(seconds(all.pool.lifetime))),
    key("server_login_retry", |all| Some(seconds(all.pool.connect_backoff_max))),
    key("server_tls_sslmode", |all| Some(all.upstream_tls.mode.word().to_owned())),
    fixed("so_reuseport", |all| Some(flag(all.listen_reuse_port))),
    fixed("stats_period", |_| Some(super::super::averages::PERIOD.as_secs().to_string())),
    key("stats_users", |all| Some(all.console.stats_users.join(", "))),
    fixed("tcp_keepalive", |_| Some(flag(true))),
    own("tcp_keepcnt", "tcp_keepcnt", Unit::Plain, |all| Some(all.tcp.keepcnt.to_string())),
    own("tcp_keepidle", "tcp_keepidle", Unit::Seconds, |all| Some(seconds(all.tcp.keepidle))),
    own("tcp_keepintvl", "tcp_keepintvl", Unit::Seconds, |all| Some(seconds(all.tcp.keepintvl))),
    own("tcp_user_timeout", "tcp_user_timeout", Unit::Milliseconds, |all| Some(all.tcp.user_timeout.unwrap_or_default().as_millis().to_string())),
    key("transaction_timeout", |all| Some(limit(all, config::LimitKey::TransactionTimeout))),
    key("unix_socket_dir", |all| Some(listed(all, |address| match address {
        ListenAddress::Unix(path) => path.parent().map(|folder| folder.display().to_string()),
        ListenAddress::Tcp(_) => None,
    }))),
    key("unix_socket_group", |all| Some(all.unix_socket.group.clone().unwrap_or_default())),
    key("unix_socket_mode", |all| Some(format!("{:04o}", all.unix_socket.mode))),
    key("verbose", |all| Some(flag(all.log.level == LogLevel::Debug))),
];

/// CONFIG.
pub(in super::super) fn config(settings: &Settings) -> Vec<Row> {
    let usual = Settings::unwritten();
    let changeable = |at_once: bool| Value::from(if at_once { "yes" } else { "no" });
    let theirs = KEYS.iter().map(|key| {
        let default = usual.as_ref().and_then(key.value);
        vec![key.name.into(), (key.value)(settings).into(), default.into(), changeable(key.at_once)]
    });
    let names_of_both = |name: &str| KEYS.iter().any(|key| key.name == name);
    // Tools make a table of the rows by their keys: a second row of the same name would win.
    let ours = settings
        .shown()
        .into_iter()
        .filter(|row| !names_of_both(&row.key))
        .map(|row| vec![text(&row.key), row.value.into(), row.default.into(), changeable(row.at_once)]);
    theirs.chain(ours).collect()
}

/// The port of the first address that clients connect to.
pub(in super::super) fn port(settings: &Settings) -> u16 {
    settings.listen.first().map_or(0, ListenAddress::port)
}

/// A limit of all tenants, in seconds.
fn limit(settings: &Settings, key: config::LimitKey) -> String {
    let said = settings.tenants.default_limits.said().find(|(known, _)| *known == key);
    match said {
        Some((_, config::LimitValue::Time(time))) => seconds(*time),
        _ => seconds(Duration::ZERO),
    }
}

fn listed(settings: &Settings, part: impl Fn(&ListenAddress) -> Option<String>) -> String {
    let mut parts: Vec<String> = settings.listen.iter().filter_map(part).collect();
    parts.dedup();
    parts.join(",")
}

fn flag(is: bool) -> String {
    u8::from(is).to_string()
}

/// As PgBouncer writes a time: whole seconds without a point.
fn seconds(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        _ => time.as_secs_f64().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use config::{NoSources, Overrides};

    use super::*;

    fn rows(toml: &str) -> Vec<Row> {
        let toml = format!("{toml}\n[databases.shop]\nupstream = 'postgres://owner:hunter2@db/real'\n");
        config(&Settings::from_toml(&toml, &Overrides::default(), &NoSources).unwrap())
    }

    fn find<'a>(rows: &'a [Row], key: &str) -> &'a [Value] {
        let row = rows.iter().find(|row| row[0] == text(key));
        &row.unwrap_or_else(|| panic!("no {key}"))[1..]
    }

    #[test]
    fn pgbouncers_keys_have_pgbouncers_units() {
        let rows = rows(
            "max_clients = 77\ntcp_user_timeout = '2s'\n[pool]\nsize = 9\nqueue_timeout = '500ms'\nlifetime = '2m'\n[tenant.default]\nstatement_timeout = '30s'\n",
        );
        assert_eq!(find(&rows, "max_client_conn"), [text("77"), text("5000"), text("yes")]);
        assert_eq!(find(&rows, "max_user_connections")[0], text("0"), "the exporter wants a number");
        assert_eq!(find(&rows, "default_pool_size"), [text("9"), text("20"), text("yes")]);
        assert_eq!(find(&rows, "query_wait_timeout")[0], text("0.5"));
        assert_eq!(find(&rows, "server_lifetime")[0], text("120"));
        assert_eq!(find(&rows, "tcp_user_timeout")[0], text("2000"));
        assert_eq!(find(&rows, "query_timeout")[0], text("30"));
        assert_eq!(find(&rows, "so_reuseport")[2], text("no"));
    }

    #[test]
    fn our_own_keys_follow_and_no_key_comes_twice_and_nothing_is_secret() {
        let rows = rows("[users.app]\npassword = 'hunter3'\n");
        assert_eq!(find(&rows, "databases.shop.upstream")[0], text("owner@db:5432/real"));
        assert_eq!(find(&rows, "max_clients")[0], text("5000"));
        let mut names: Vec<_> = rows.iter().map(|row| format!("{:?}", row[0])).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(!format!("{rows:?}").contains("hunter"));
    }

    #[test]
    fn keys_stand_by_the_alphabet_and_lead_to_keys_that_can_be_changed() {
        assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let own = KEYS.iter().filter_map(|key| key.own);
        own.for_each(|key| assert!(Settings::CHANGEABLE.contains(&key), "{key}"));
    }
}
