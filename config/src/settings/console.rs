//! The `[console]` table.

use super::*;

impl Builder<'_> {
    pub(super) fn console(&mut self) -> Console {
        let mut users = |key| {
            let users = self.listed(&["console", key]);
            if users.iter().any(String::is_empty) {
                self.wrong(&["console", key], "holds an empty name; leave it out");
            }
            users
        };
        Console { admin_users: users("admin_users"), stats_users: users("stats_users") }
    }

    /// A database that nobody could reach, because the console answers to its name.
    pub(super) fn check_names(&mut self, settings: &Settings) {
        for name in settings.databases.keys().filter(|name| Console::is_named(name)) {
            self.wrong(
                &["databases", name],
                "has the name that the console answers to; give it another name here, the server's own can stand in its URL",
            );
        }
    }
}

/// Users of the console who cannot log in, or anybody can log in as.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    if settings.auth.hba.is_some() {
        return Vec::new();
    }
    let lists = [("admin_users", &settings.console.admin_users), ("stats_users", &settings.console.stats_users)];
    let named = lists.into_iter().flat_map(|(key, users)| users.iter().map(move |user| (key, user)));
    let is_known = |user: &str| settings.users.get(user).is_some_and(|user| user.secret != UserSecret::None);
    match settings.auth.method {
        AuthMethod::Trust if !settings.console.admin_users.is_empty() => vec![
            "console.admin_users: auth.method = \"trust\" lets everybody be one of them; use scram-sha-256".to_owned(),
        ],
        method if method.needs_secret() || method == AuthMethod::PassThrough => {
            let unknown = named.filter(|(_, user)| !is_known(user));
            let warning = |(key, user)| {
                format!(
                    "console.{key}: {user} has no password here, so this user cannot log in to the console; add [users.{user}], servers are not asked about users of the console"
                )
            };
            unknown.map(warning).collect()
        }
        _ => Vec::new(),
    }
}
