//! Where a pool's upstreams connect, and as whom.

use std::sync::Arc;

use config::{AuthMethod, UserSecret};

use crate::upstream::dial::{Credential, Target};

/// Where a pool's upstreams connect, and as whom; `None`: no such database.
pub fn target_of(settings: &config::Settings, database: &str, user: &str) -> Option<(config::Pool, Arc<Target>)> {
    let found = settings.databases.get(database).or(settings.wildcard.as_ref())?;
    let upstream = &found.upstream;
    let own = settings.users.get(user);
    let passes_through =
        settings.auth.method == AuthMethod::PassThrough && own.is_none_or(|user| user.secret == UserSecret::None);
    let credential = match own {
        _ if passes_through => Credential::None,
        Some(config::User { upstream_password: Some(password), .. }) => Credential::Password(password.clone()),
        _ if upstream.password.is_some() => upstream.password.clone().map_or(Credential::None, Credential::Password),
        Some(config::User { secret: UserSecret::Plain(password), .. }) => Credential::Password(password.clone()),
        Some(config::User { secret: UserSecret::Md5(hash), .. }) => Credential::Md5(hash.clone()),
        _ => Credential::None,
    };
    let name = if passes_through { None } else { upstream.user.clone() };
    let target = Target {
        hosts: upstream.hosts.clone(),
        session_attrs: upstream.session_attrs,
        load_balance: upstream.load_balance,
        database: upstream.database.clone().unwrap_or_else(|| database.to_owned()),
        user: name.unwrap_or_else(|| user.to_owned()),
        credential,
        tls: upstream.tls.clone(),
    };
    Some((found.pool.clone(), Arc::new(target)))
}
