//! `/api/v1/config`: the settings in force, without a secret in them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use config::{
    Auth, CertName, Database, LimitKey, LimitValue, Limits, ListenLoss, ListenWay, LogLevel, Pool, PoolMode, Profile,
    Provenance, Settings, UserSecret,
};
use config::{Authorities, ChannelBinding, ClientTls, Negotiation, TlsVersion, UpstreamTls};
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::openapi::parameters::Asked;
use crate::run::reloads::Reloads;
use crate::telemetry::clock::rfc3339;
use crate::tenant_table::Standing;

/// `/api/v1/config`. Built field by field: a setting that is added later does not show by itself.
pub(super) async fn config(State(context): State<Arc<AdminContext>>, asked: Asked) -> Json<Value> {
    let current = context.state.settings();
    let mut all = settings(&current);
    if let Some(all) = all.as_object_mut() {
        let under = |key: &str, wanted: &str| {
            key.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let wanted = |key: &config::Key| asked.text("key").is_none_or(|wanted| under(&key.key, wanted));
        let keys: Vec<Value> = current.keys().iter().filter(|key| wanted(key)).map(key).collect();
        all.insert("keys".to_owned(), keys.into());
        let housekeeping = context.state.housekeeping();
        all.insert("reload".to_owned(), reload(&housekeeping.reloads));
        all.insert("tenant_table".to_owned(), housekeeping.tenant_table.as_ref().map(tenant_table).into());
    }
    Json(all)
}

/// One key with its value, unless it is a secret, and who says it.
fn key(key: &config::Key) -> Value {
    let mut shown = json!({"key": key.key});
    if let Some(shown) = shown.as_object_mut() {
        match &key.value {
            Some(value) => shown.insert("value".to_owned(), value.clone().into()),
            None => shown.insert("hidden".to_owned(), true.into()),
        };
        shown.insert("from".to_owned(), origin(&key.origin));
        shown.insert("needs_restart".to_owned(), key.needs_restart.into());
    }
    shown
}

fn origin(origin: &Provenance) -> Value {
    match origin {
        Provenance::Default => json!({"kind": "default"}),
        Provenance::Program => json!({"kind": "program"}),
        Provenance::Table(database) => json!({"kind": "table", "name": database}),
        Provenance::Named(name) if name.starts_with("--") => json!({"kind": "command_line", "name": name}),
        Provenance::Named(name) => json!({"kind": "environment", "name": name}),
        Provenance::File { file, line, key, variables } => {
            let members = [
                ("kind", Some("file".into())),
                ("file", file.clone().map(Value::from)),
                ("line", Some((*line).into())),
                ("key", key.clone().map(Value::from)),
                ("variables", Some(variables.clone()).filter(|names| !names.is_empty()).map(Value::from)),
            ];
            members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        }
    }
}

/// How it stands with the table of tenants.
fn tenant_table(standing: &Standing) -> Value {
    let wrong = standing.told.iter().map(|(tenant, why)| json!({"tenant": tenant, "why": why}));
    json!({
        "database": standing.database,
        "tenants": standing.tenants,
        "last_read": standing.read.map(rfc3339),
        "trouble": standing.trouble,
        "wrong_rows": standing.wrong,
        "wrong": wrong.collect::<Vec<_>>(),
    })
}

/// How the settings came to be in force.
fn reload(reloads: &Reloads) -> Value {
    json!({
        "last": reloads.last.map(rfc3339),
        "last_done": reloads.last_done.map(rfc3339),
        "error": reloads.error.as_ref().map(|lines| lines.lines().collect::<Vec<_>>()),
        "needs_restart": reloads.pending,
    })
}

fn settings(settings: &Settings) -> Value {
    json!({
        "listen": settings.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unix_socket": {
            "mode": format!("{:04o}", settings.unix_socket.mode),
            "group": settings.unix_socket.group,
        },
        "admin": settings.admin.as_ref().map(|admin| json!({
            "listen": admin.listen,
            "token": !admin.tokens.is_empty(),
            "tenant_tokens": admin.tokens.iter().filter_map(|token| {
                Some(json!({"name": token.name, "tenant": token.role.tenant()?}))
            }).collect::<Vec<_>>(),
            "tokens": admin.tokens.iter().map(|token| json!({
                "name": token.name,
                "role": token.role.word(),
                "tenant": token.role.tenant(),
            })).collect::<Vec<_>>(),
            "tls": admin.tls.as_ref().map(|tls| json!({
                "cert_file": tls.identity.chain.path,
                "key_file": tls.identity.key_path,
                "min_version": version(tls.min_version),
            })),
            "cleartext_beyond_loopback": admin.cleartext,
            "audit": admin.audit.word(),
        })),
        "console": {"admin_users": settings.console.admin_users, "stats_users": settings.console.stats_users},
        "listen_reuse_port": settings.listen_reuse_port,
        "reload_on_change": settings.reload_on_change,
        "workers": settings.workers,
        "worker_scheduling": format!("{:?}", settings.worker_scheduling).to_lowercase(),
        "max_clients": settings.max_clients,
        "max_upstreams": settings.max_upstreams,
        "max_side_connections": settings.max_side_connections,
        "dns_max_ttl_ms": ms(settings.dns_max_ttl),
        "max_pools": settings.max_pools,
        "max_memory": settings.max_memory,
        "tcp_keepidle_ms": ms(settings.tcp.keepidle),
        "tcp_keepintvl_ms": ms(settings.tcp.keepintvl),
        "tcp_keepcnt": settings.tcp.keepcnt,
        "tcp_user_timeout_ms": settings.tcp.user_timeout.map_or(0, ms),
        "auth": auth(&settings.auth),
        "tls": client_tls(&settings.tls),
        "users": users(settings),
        "databases": databases(settings),
        "wildcard": settings.wildcard.as_ref().map(database),
        "tenant": tenants(settings),
        "observe": {
            "statements": settings.observe.statements,
            "n_plus_one": settings.observe.n_plus_one,
            "profile": match settings.observe.profile {
                Profile::Development => "development",
                Profile::Production => "production",
            },
            "duplicates": settings.observe.duplicates,
            "events_per_second": settings.observe.events_per_second,
            "compat": settings.observe.compat,
            "regressions": settings.observe.regressions,
            "regression_interval_ms": ms(settings.observe.regression_interval),
            "pg_stat_statements": settings.observe.pg_stat_statements,
            "state_directory": settings.observe.state_directory,
            "max_fingerprints": settings.observe.max_fingerprints,
            "samples": settings.observe.samples,
            "mute": settings.observe.mutes.iter().map(mute).collect::<Vec<_>>(),
        },
        "capture": {
            "directory": settings.capture.directory,
            "allow_values": settings.capture.allow_values,
        },
        "slow_log": {
            "threshold_ms": settings.slow_log.threshold.map(ms),
            "per_minute": settings.slow_log.per_minute,
            "plans": settings.slow_log.plans,
            "plans_per_minute": settings.slow_log.plans_per_minute,
            "plan_timeout_ms": ms(settings.slow_log.plan_timeout),
            "transaction_threshold_ms": settings.slow_log.transaction_threshold.map(ms),
            "idle_threshold_ms": settings.slow_log.idle_threshold.map(ms),
        },
        "peers": {
            "id": settings.peers.own.checked_sub(1),
            "addresses": peers(settings),
        },
        "shutdown": {
            "drain_timeout_ms": ms(settings.shutdown.drain_timeout),
            "grace_ms": ms(settings.shutdown.grace),
        },
        "log": {
            "level": match settings.log.level {
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            },
            "json": settings.log.json,
            "file": settings.log.file,
        },
    })
}

/// One `[[observe.mute]]`, without what it does not name.
fn mute(mute: &config::Mute) -> Value {
    let texts = [
        ("fingerprint", mute.fingerprint.map(|fingerprint| format!("{fingerprint:016x}"))),
        ("kind", mute.kind.clone()),
        ("database", mute.database.clone()),
        ("user", mute.user.clone()),
        ("application", mute.application.clone()),
        ("client", mute.client.clone()),
        ("tenant", mute.tenant.clone()),
        ("route", mute.route.clone()),
        ("until", mute.until_us.map(crate::telemetry::clock::rfc3339_us)),
        ("note", mute.note.clone()),
    ];
    texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::from(text?)))).collect()
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn auth(auth: &Auth) -> Value {
    let limits = &auth.limits;
    json!({
        "method": auth.method.word(),
        "rules": auth.hba.as_ref().map(|hba| hba.rules.len()),
        "map": auth.map,
        "cert_name": match auth.cert_name {
            CertName::CommonName => "cn",
            CertName::Alternative => "san",
        },
        "plaintext_network": auth.plaintext_network,
        "login_timeout_ms": ms(auth.login_timeout),
        "secret_cache_ms": ms(auth.secret_cache),
        "unknown_cache_ms": ms(auth.unknown_cache),
        "max_logins": limits.concurrent,
        "max_logins_per_address": limits.per_address,
        "max_failures": limits.failures,
        "failure_period_ms": ms(limits.period),
        "failure_exempt": limits.exempt.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Only what kind of secret is stored.
/// Numbers as in the file, where they begin at 0.
fn peers(settings: &Settings) -> Value {
    let others = settings.peers.addresses.iter();
    others.map(|(number, address)| ((number - 1).to_string(), json!(address.to_string()))).collect::<Map<_, _>>().into()
}

fn users(settings: &Settings) -> Map<String, Value> {
    let kind = |secret: &UserSecret| match secret {
        UserSecret::Plain(_) => "password",
        UserSecret::Md5(_) => "md5",
        UserSecret::Scram(_) => "scram-sha-256",
        UserSecret::None => "none",
    };
    let users = settings.users.iter();
    users
        .map(|(name, user)| {
            (
                name.clone(),
                json!({
                    "secret": kind(&user.secret),
                    "upstream_user": user.upstream_user,
                    "upstream_password": user.upstream_password.is_some(),
                }),
            )
        })
        .collect()
}

fn databases(settings: &Settings) -> Map<String, Value> {
    settings.databases.iter().map(|(name, known)| (name.clone(), database(known))).collect()
}

fn database(database: &Database) -> Value {
    let upstream = &database.upstream;
    json!({
        "upstream": {
            "hosts": upstream.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "target_session_attrs": upstream.session_attrs.as_str(),
            "load_balance_hosts": if upstream.load_balance { "random" } else { "disable" },
            "max_protocol_version": upstream.protocol.as_str(),
            "database": upstream.database,
            "user": upstream.user,
            "password": upstream.password.is_some(),
            "tls": upstream_tls(&upstream.tls),
        },
        "auth_query": database.auth_query.as_ref().map(|query| json!({
            "user": query.user,
            "query": query.text,
            "password": query.password.is_some(),
            "database": query.database,
        })),
        "pool": pool(&database.pool),
        "max_clients": database.limits.max_clients,
        "max_upstreams": database.limits.max_upstreams,
    })
}

fn client_tls(tls: &ClientTls) -> Value {
    json!({
        "mode": tls.mode.word(),
        "cert_file": tls.identity.as_ref().map(|own| &own.chain.path),
        "key_file": tls.identity.as_ref().map(|own| &own.key_path),
        "ca_file": tls.authorities.as_ref().map(|file| &file.path),
        "min_version": version(tls.min_version),
    })
}

fn upstream_tls(tls: &UpstreamTls) -> Value {
    json!({
        "mode": tls.mode.word(),
        "cert_file": tls.identity.as_ref().map(|own| &own.chain.path),
        "key_file": tls.identity.as_ref().map(|own| &own.key_path),
        "ca_file": tls.authorities.as_ref().map(|authorities| match authorities {
            Authorities::System => "system",
            Authorities::File(file) => &file.path,
        }),
        "negotiation": match tls.negotiation {
            Negotiation::Postgres => "postgres",
            Negotiation::Direct => "direct",
        },
        "channel_binding": match tls.channel_binding {
            ChannelBinding::Disable => "disable",
            ChannelBinding::Prefer => "prefer",
            ChannelBinding::Require => "require",
        },
        "min_version": version(tls.min_version),
    })
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

fn pool(pool: &Pool) -> Value {
    let untracked = config::SessionState::ALL.map(|state| (state.label(), pool.untracked.of(state).word()));
    json!({
        "mode": match pool.mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        },
        "size": pool.size,
        "min_size": pool.min_size,
        "reserve_size": pool.reserve_size,
        "reserve_after_ms": ms(pool.reserve_after),
        "empty_timeout_ms": ms(pool.empty_timeout),
        "queue_timeout_ms": ms(pool.queue_timeout),
        "connect_timeout_ms": ms(pool.connect_timeout),
        "connect_backoff_ms": ms(pool.connect_backoff),
        "connect_backoff_max_ms": ms(pool.connect_backoff_max),
        "idle_timeout_ms": ms(pool.idle_timeout),
        "lifetime_ms": ms(pool.lifetime),
        "health_check_after_ms": ms(pool.health_check_after),
        "idle_in_transaction_timeout_ms": ms(pool.idle_in_transaction_timeout),
        "max_prepared": pool.max_prepared,
        "max_client_prepared": pool.max_client_prepared,
        "max_client_prepared_bytes": pool.max_client_prepared_bytes,
        "share_anonymous": pool.share_anonymous,
        "listen": match pool.listen.way {
            ListenWay::Shared => "shared",
            ListenWay::Pin => "pin",
        },
        "listen_loss": match pool.listen.loss {
            ListenLoss::Close => "close",
            ListenLoss::Notice => "notice",
        },
        "inspect_functions_ms": pool.inspect_functions.map(ms),
        "on_untracked": std::collections::BTreeMap::from(untracked),
    })
}

fn tenants(settings: &Settings) -> Value {
    let tenants = &settings.tenants;
    let rules = tenants.rules.iter().map(|rule| {
        json!({"from": rule.origin.word(), "of": rule.origin.shown(), "pattern": rule.pattern, "tenant": rule.tenant})
    });
    let classes = tenants.classes.iter().map(|rule| {
        json!({"class": rule.class, "from": rule.origin.word(), "of": rule.origin.shown(), "pattern": rule.pattern})
    });
    let tables = |tables: &std::collections::BTreeMap<String, Limits>| -> Map<String, Value> {
        tables.iter().map(|(name, own)| (name.clone(), limits(own))).collect()
    };
    let fingerprints: Map<_, _> =
        tenants.fingerprints.iter().map(|(strict, own)| (format!("{strict:016x}"), limits(own))).collect();
    json!({
        "rules": rules.collect::<Vec<_>>(),
        "classify": classes.collect::<Vec<_>>(),
        "default_name": tenants.default,
        "max_tenants": tenants.max_tenants,
        "directory": tenants.directory.as_ref().map(|folder| folder.display().to_string()),
        "table": tenants.table.as_ref().map(|table| json!({
            "database": table.database,
            "query": table.query,
            "interval_ms": ms(table.interval),
        })),
        "default": limits(&tenants.default_limits),
        "class": tables(&tenants.class_limits),
        "limits": tables(&tenants.limits),
        "fingerprint": fingerprints,
    })
}

/// What one table of limits says: times as `<key>_ms`, where 0 is no limit.
pub(super) fn limits(limits: &Limits) -> Value {
    let mut said: Map<String, Value> = limits.said().map(|(key, value)| limit(key, value)).collect();
    let modes: Map<String, Value> =
        limits.modes().map(|(key, mode)| (key.word().to_owned(), mode.word().into())).collect();
    if !modes.is_empty() {
        said.insert("modes".to_owned(), modes.into());
    }
    said.into()
}

/// One limit under its name.
pub(super) fn limit(key: LimitKey, value: &LimitValue) -> (String, Value) {
    let name = key.word().to_owned();
    match value {
        LimitValue::Time(time) => (format!("{name}_ms"), ms(*time).into()),
        LimitValue::Count(number) => (name, (*number).into()),
        LimitValue::Flag(flag) => (name, (*flag).into()),
        LimitValue::Names(names) => (name, names.clone().into()),
        LimitValue::OnUntracked(answer) => (name, answer.word().into()),
        LimitValue::Mode(mode) => (name, mode.word().into()),
    }
}
