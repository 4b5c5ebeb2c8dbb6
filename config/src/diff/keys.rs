//! Every key with its value in force, and who says it.

use super::{Flat, cut, flat};
use crate::schema::{self, Found, Kind, Reload};
use crate::text::show_path;
use crate::{Provenance, Settings};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its path, as `pool.size`.
    pub key: String,
    /// Its value, for people; `None`: it is a secret, or not told in a few words.
    pub value: Option<String>,
    /// Who says so.
    pub origin: Provenance,
    /// Whether another value needs a restart.
    pub needs_restart: bool,
}

impl Settings {
    /// Every key, sorted.
    pub fn keys(&self) -> Vec<Key> {
        let all: Flat = flat(self);
        let mut keys: Vec<Key> = all
            .keys()
            .map(|path| {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                let row = match schema::find(&names) {
                    Found::Leaf(row) => Some(row),
                    _ => None,
                };
                let secret = row.is_some_and(|row| row.kind == Kind::Secret);
                let shown = all.get(path).and_then(|value| value.shown.clone()).filter(|_| !secret);
                Key {
                    key: show_path(path),
                    value: shown.map(cut),
                    origin: self.origins.of_key(path),
                    needs_restart: row.is_some_and(|row| row.reload == Reload::Restart),
                }
            })
            .collect();
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        keys
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Overrides, Sources};

    struct World;

    impl Sources for World {
        fn env(&self, name: &str) -> Option<String> {
            (name == "HOST").then(|| "db.example".to_owned())
        }

        fn read(&self, path: &str) -> Result<String, String> {
            match path {
                "token" => Ok("hunter2-of-a-file".to_owned()),
                "list" => Ok("\"bob\" \"hunter3\"\n".to_owned()),
                _ => Err("no such file".to_owned()),
            }
        }

        fn tenants(&self, _: &str) -> Result<Vec<(String, String)>, String> {
            Ok(vec![("acme".to_owned(), "# of acme\nmax_rows = 7\n".to_owned())])
        }
    }

    const FILE: &str = "workers = 3
[admin]
token_file = 'token'
[auth]
userlist = 'list'
[pool]
size = 11
[databases.app]
upstream = 'postgres://${HOST}/app'
min_size = 2
[tenant]
directory = 'tenants.d'
[[tenant.rule]]
from = 'database'
";

    fn key(settings: &Settings, key: &str) -> Key {
        settings.keys().into_iter().find(|known| known.key == key).unwrap_or_else(|| panic!("{key}"))
    }

    fn line(line: u32) -> Provenance {
        Provenance::File { file: None, line, key: None, variables: Vec::new() }
    }

    #[test]
    fn each_key_says_who_says_it() {
        let overrides = Overrides::default().with_flag("listen", "127.0.0.1:7", "--listen").with_flag(
            "log.level",
            "debug",
            "PGWEIR_LOG_LEVEL",
        );
        let settings = Settings::from_toml(FILE, &overrides, &World).unwrap();
        let origin = |name: &str| key(&settings, name).origin;
        assert_eq!(origin("workers"), line(1));
        assert_eq!(origin("max_clients"), Provenance::Default);
        assert_eq!(origin("listen"), Provenance::Named("--listen".to_owned()));
        assert_eq!(origin("log.level"), Provenance::Named("PGWEIR_LOG_LEVEL".to_owned()));
        assert_eq!(origin("databases.app.min_size"), line(10));
        let of =
            |line, key: &str| Provenance::File { file: None, line, key: Some(key.to_owned()), variables: Vec::new() };
        assert_eq!(origin("databases.app.size"), of(7, "pool.size"));
        assert_eq!(origin("databases.app.mode"), Provenance::Default);
        assert_eq!(origin("admin.token"), of(3, "admin.token_file"));
        assert_eq!(origin("users.bob.password"), of(5, "auth.userlist"));
        let variables = vec!["HOST".to_owned()];
        assert_eq!(origin("databases.app.upstream"), Provenance::File { file: None, line: 9, key: None, variables });
        let (file, variables) = (Some("tenants.d/acme.toml".to_owned()), Vec::new());
        assert_eq!(origin("tenant.limits.acme.max_rows"), Provenance::File { file, line: 2, key: None, variables });
        assert_eq!(origin("tenant.rule"), line(13));
        assert!(key(&settings, "workers").needs_restart && !key(&settings, "max_clients").needs_restart);
    }

    #[test]
    fn secrets_have_no_value_and_everything_else_has_one() {
        let settings = Settings::from_toml(FILE, &Overrides::default(), &World).unwrap();
        assert_eq!((key(&settings, "admin.token").value, key(&settings, "users.bob.password").value), (None, None));
        assert_eq!(key(&settings, "databases.app.size").value.as_deref(), Some("11"));
        assert!(settings.keys().iter().all(|key| !format!("{key:?}").contains("hunter")));
    }

    #[test]
    fn a_url_on_the_command_line_says_what_it_makes() {
        let overrides = Overrides::default().with_upstream("postgres://u:hunter2@h/app", "--upstream");
        let settings = Settings::from_toml("", &overrides, &World).unwrap();
        for name in ["databases.app.upstream", "databases.\"*\".upstream", "users.u.password"] {
            assert_eq!(key(&settings, name).origin, Provenance::Named("--upstream".to_owned()), "{name}");
        }
        assert_eq!(key(&settings, "databases.app.size").origin, Provenance::Default);
    }

    #[test]
    fn what_needs_a_restart_keeps_its_place_with_its_value() {
        let old = Settings::from_toml(FILE, &Overrides::default(), &World).unwrap();
        let text = format!("max_clients = 9\n{}", FILE.replace("workers = 3", "workers = 4"));
        let new = Settings::from_toml(&text, &Overrides::default(), &World).unwrap().without_restart(&old);
        assert_eq!((key(&new, "workers").value.as_deref(), key(&new, "workers").origin), (Some("3"), line(1)));
        assert_eq!(key(&new, "max_clients").origin, line(1));
        assert_eq!(key(&new, "databases.app.min_size").origin, line(11));
    }

    #[test]
    fn settings_that_a_program_made_say_so() {
        let mut settings = Settings::from_toml(FILE, &Overrides::default(), &World).unwrap();
        settings.origins = Arc::default();
        assert_eq!(key(&settings, "workers").origin, Provenance::Program);
    }
}
