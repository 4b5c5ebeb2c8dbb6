//! Where a pool's upstreams connect, and as whom.
//!
//! | who on the server | proven by |
//! |---|---|
//! | the user in the database's URL | the database's password; else what is stored in `[users]` for that user |
//! | else `users.<name>.upstream_user` | `users.<name>.upstream_password`; else the database's password |
//! | else the client's own name | `users.<name>.upstream_password`; else the database's password; else the stored password or md5 hash; else what the client's login leaves |
//!
//! A user of whom nothing is stored, where the server itself may have to judge passwords, is always the client's own
//! name, proven by what the server has accepted: nobody comes by another name through a password of their own.

use std::sync::Arc;

use config::{AuthQuery, Database, Secret, Settings, User, UserSecret};

use crate::pool::quota::Limits;
use crate::upstream::dial::{Credential, Target};

fn database_of<'a>(settings: &'a Settings, database: &str) -> Option<&'a Database> {
    settings.databases.get(database).or(settings.wildcard.as_ref())
}

/// Whether the server itself may have to judge this user's password.
pub(super) fn passes_through(settings: &Settings, database: &Database, user: &str) -> bool {
    let stored = settings.users.get(user).is_some_and(|user| user.secret != UserSecret::None);
    settings.auth.passes_through() && !stored && database.auth_query.is_none()
}

/// The limits on upstreams that a pool shares with others.
pub fn limits_of(settings: &config::Settings, database: &str, user: &str) -> Limits {
    Limits {
        proxy: settings.max_upstreams,
        database: settings.database_limits(database).max_upstreams,
        user: settings.user_limits(user).max_upstreams,
    }
}

/// Where a pool's upstreams connect, and as whom; `None`: no such database.
///
/// `replication`: the value of that startup parameter, for clients that ask for it.
pub fn target_of(
    settings: &Settings,
    database: &str,
    user: &str,
    replication: Option<&'static str>,
) -> Option<(config::Pool, Arc<Target>)> {
    let found = database_of(settings, database)?;
    let (name, credential) = identity(settings, found, user);
    let mut target = target(found, database, name, credential);
    let mut pool = settings.pool_of(database, user)?;
    if let Some(value) = replication {
        target.parameters = vec![("replication".into(), value.as_bytes().into())];
        // What their statements leave behind ends with their connection.
        pool.inspect_functions = None;
        // Each connection is dialled for its client.
        pool.min_size = 0;
    }
    Some((pool, Arc::new(target)))
}

/// Where to connect for ourselves and not for a client: as the URL's own user, or the first listed one of whom enough is
/// known; `None`: there is nobody.
pub(crate) fn target_beside(
    settings: &Settings,
    name: &str,
    database: &Database,
) -> Option<(config::Pool, Arc<Target>)> {
    if let Some(user) = &database.upstream.user {
        let (pool, target) = target_of(settings, name, user, None)?;
        if target.credential != Credential::Learned {
            return Some((pool, target));
        }
        // There is no client that could prove anything. What stands in the URL will do, or the server wants nothing.
        let credential = database.upstream.password.clone().map_or(Credential::None, Credential::Password);
        return Some((pool, Arc::new(Target { credential, ..(*target).clone() })));
    }
    let listed = settings.users.keys().filter_map(|user| target_of(settings, name, user, None));
    listed.into_iter().find(|(_, target)| target.credential.is_known())
}

/// Where the secrets of a database's users are looked up, and how; `None`: nowhere.
pub(super) fn asking_target<'a>(
    settings: &'a Settings,
    database: &str,
) -> Option<(Arc<Target>, &'a AuthQuery, &'a config::Pool)> {
    let found = database_of(settings, database)?;
    let query = found.auth_query.as_ref()?;
    let credential = query.password.clone().map_or(Credential::None, Credential::Password);
    let mut target = target(found, database, query.user.clone(), credential);
    if let Some(database) = &query.database {
        target.database.clone_from(database);
    }
    Some((Arc::new(target), query, &found.pool))
}

fn target(found: &Database, database: &str, user: String, credential: Credential) -> Target {
    let upstream = &found.upstream;
    Target {
        hosts: upstream.hosts.clone(),
        session_attrs: upstream.session_attrs,
        load_balance: upstream.load_balance,
        protocol: upstream.protocol,
        database: upstream.database.clone().unwrap_or_else(|| database.to_owned()),
        user,
        credential,
        tls: upstream.tls.clone(),
        parameters: Vec::new(),
    }
}

/// Who the user is on the server, and by what. The table above.
fn identity(settings: &Settings, found: &Database, user: &str) -> (String, Credential) {
    let upstream = &found.upstream;
    if passes_through(settings, found, user) {
        return (user.to_owned(), Credential::Learned);
    }
    let own = settings.users.get(user);
    let told = |user: Option<&User>| user.and_then(|user| user.upstream_password.clone()).map(Credential::Password);
    let databases = || upstream.password.clone().map(Credential::Password);
    if let Some(forced) = &upstream.user {
        let known = settings.users.get(forced);
        let otherwise = if forced == user { Credential::Learned } else { Credential::None };
        let credential = databases().or_else(|| told(known)).or_else(|| stored(known)).unwrap_or(otherwise);
        return (forced.clone(), credential);
    }
    let named = own.and_then(|user| user.upstream_user.as_deref()).filter(|name| *name != user);
    match named {
        Some(name) => (name.to_owned(), told(own).or_else(databases).unwrap_or(Credential::None)),
        None => {
            let credential = told(own).or_else(databases).or_else(|| stored(own));
            (user.to_owned(), credential.unwrap_or(Credential::Learned))
        }
    }
}

/// What the stored secret is worth on a server.
fn stored(user: Option<&User>) -> Option<Credential> {
    let worth = |secret: &Secret, kind: fn(Secret) -> Credential| Some(kind(secret.clone()));
    match &user?.secret {
        UserSecret::Plain(password) => worth(password, Credential::Password),
        UserSecret::Md5(hash) => worth(hash, Credential::Md5),
        UserSecret::Scram(_) | UserSecret::None => None,
    }
}

#[cfg(test)]
mod tests {
    use config::{NoSources, Overrides};

    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

    /// The user on the server, and what proves it, as text.
    fn shown(settings: &Settings, database: &str, user: &str) -> String {
        let (_, target) = target_of(settings, database, user, None).unwrap();
        let credential = match &target.credential {
            Credential::None => "nothing".to_owned(),
            Credential::Learned => "learned".to_owned(),
            Credential::Password(password) => password.reveal().to_owned(),
            Credential::Md5(_) => "md5".to_owned(),
            Credential::Keys(_) => "keys".to_owned(),
        };
        format!("{} by {credential}", target.user)
    }

    fn settings(auth: &str) -> Settings {
        let text = format!(
            "[auth]\n{auth}\n[users.plain]\npassword = 'p'\n[users.told]\npassword = 'p'\nupstream_password = 'told'\n\
             [users.hash]\npassword = 'md50123456789abcdef0123456789abcdef'\n[users.verifier]\npassword = '{VERIFIER}'\n\
             [users.other]\npassword = 'p'\nupstream_user = 'ro'\nupstream_password = 'told'\n\
             [users.bare]\npassword = 'p'\nupstream_user = 'ro'\n[users.empty]\n\
             [databases.free]\nupstream = 'postgres://h/d'\n\
             [databases.shared]\nupstream = 'postgres://:db@h/d'\n\
             [databases.forced]\nupstream = 'postgres://one:db@h/d'\n\
             [databases.listed]\nupstream = 'postgres://told@h/d'\n\
             [databases.unlisted]\nupstream = 'postgres://verifier@h/d'\n"
        );
        Settings::from_toml(&text, &Overrides::default(), &NoSources).unwrap()
    }

    #[test]
    fn who_a_user_is_on_the_server_and_by_what() {
        let settings = settings("method = 'scram-sha-256'");
        for (database, user, expected) in [
            ("free", "plain", "plain by p"),
            ("free", "told", "told by told"),
            ("free", "hash", "hash by md5"),
            ("free", "verifier", "verifier by learned"),
            ("free", "other", "ro by told"),
            ("free", "bare", "ro by nothing"),
            ("free", "nobody", "nobody by learned"),
            ("shared", "plain", "plain by db"),
            ("shared", "told", "told by told"),
            ("shared", "verifier", "verifier by db"),
            ("shared", "bare", "ro by db"),
            ("forced", "plain", "one by db"),
            ("forced", "other", "one by db"),
            ("listed", "plain", "told by told"),
            ("unlisted", "plain", "verifier by nothing"),
            ("unlisted", "verifier", "verifier by learned"),
        ] {
            assert_eq!(shown(&settings, database, user), expected, "{user} in {database}");
        }
    }

    #[test]
    fn whose_password_the_server_judges_is_never_somebody_else_there() {
        let settings = settings("method = 'passthrough'");
        for (database, user, expected) in [
            ("forced", "nobody", "nobody by learned"),
            ("forced", "empty", "empty by learned"),
            ("shared", "nobody", "nobody by learned"),
            ("forced", "plain", "one by db"),
        ] {
            assert_eq!(shown(&settings, database, user), expected, "{user} in {database}");
        }
    }

    #[test]
    fn secrets_are_asked_for_as_the_user_for_that_in_the_database_for_that() {
        let asked = |auth: &str, database: &str| {
            let settings = settings(auth);
            let (target, query, _) = asking_target(&settings, database)?;
            assert!(query.text.contains("$1"));
            let credential = match &target.credential {
                Credential::Password(password) => password.reveal().to_owned(),
                _ => "nothing".to_owned(),
            };
            Some(format!("{} in {} by {credential}", target.user, target.database))
        };
        assert_eq!(asked("method = 'md5'", "free"), None);
        assert_eq!(asked("query_user = 'asker'", "free").unwrap(), "asker in d by nothing");
        assert_eq!(asked("query_user = 'told'", "free").unwrap(), "told in d by told");
        assert_eq!(asked("query_user = 'one'", "forced").unwrap(), "one in d by db");
        let all = "query_user = 'asker'\nquery_password = 'x'\nquery_database = 'postgres'";
        assert_eq!(asked(all, "forced").unwrap(), "asker in postgres by x");
        assert_eq!(asked(all, "absent"), None);
    }

    #[test]
    fn who_asks_is_the_urls_user_or_one_whose_password_is_known() {
        let user_of = |text: &str| {
            let settings = Settings::from_toml(text, &Overrides::default(), &NoSources).unwrap();
            let database = settings.databases.get("app").unwrap();
            target_beside(&settings, "app", database)
                .map(|(_, target)| (target.user.clone(), target.credential.clone()))
        };
        let password = |text: &str| Credential::Password(Secret::new(text));
        let bare = "[databases.app]\nupstream = 'postgres://h/app'\n";
        assert_eq!(user_of(bare), None);
        let listed = "[users.a]\n[users.b]\npassword = 'p'\n";
        assert_eq!(user_of(&format!("{bare}{listed}")), Some(("b".to_owned(), password("p"))));
        let own = "[databases.app]\nupstream = 'postgres://c:q@h/app'\n";
        assert_eq!(user_of(&format!("{own}{listed}")), Some(("c".to_owned(), password("q"))));
        let trusting = "[databases.app]\nupstream = 'postgres://c@h/app'\n";
        assert_eq!(user_of(trusting), Some(("c".to_owned(), Credential::None)));
    }
}
