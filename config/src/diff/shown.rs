//! The settings as a table for people.

use super::flat;
use crate::schema::{self, Found, Kind, Reload};
use crate::text::show_path;
use crate::{NoSources, Overrides, Settings};

/// One key as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its path, as `pool.size`.
    pub key: String,
    /// Its value, for people; `None`: nothing of it is shown.
    pub value: Option<String>,
    /// Its value where nothing else is written; `None`: there is none.
    pub default: Option<&'static str>,
    /// A reload changes it; otherwise a restart does.
    pub at_once: bool,
}

impl Settings {
    /// Every key that is in force, by its path, without secrets. Tables of limits of single tenants, classes and
    /// statements are not among them: there may be thousands.
    pub fn shown(&self) -> Vec<Shown> {
        let flat = flat(self);
        let alone = |path: &&Vec<String>| {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            !matches!(names.as_slice(), ["tenant", "class" | "limits" | "fingerprint", ..])
                && path.as_slice() != schema::LIMITS_TABLE
        };
        let shown = flat.keys().filter(alone).map(|path| {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let row = match schema::find(&names) {
                Found::Leaf(row) => Some(row),
                Found::Section | Found::Unknown => None,
            };
            let is_secret = row.is_some_and(|row| row.kind == Kind::Secret);
            Shown {
                key: show_path(path),
                value: flat.get(path).filter(|_| !is_secret).and_then(|value| value.shown.clone()),
                default: row.and_then(|row| row.default),
                at_once: row.is_none_or(|row| row.reload == Reload::AtOnce),
            }
        });
        shown.collect()
    }

    /// As if nothing but a server were written: what each key is where nobody says anything.
    pub fn unwritten() -> Option<Self> {
        Self::from_upstream("postgres://localhost", Overrides::default(), &NoSources).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Settings {
        let toml = format!("{toml}\n[databases.shop]\nupstream = 'postgres://owner:hunter2@db/real'\n");
        Settings::from_toml(&toml, &Overrides::default(), &NoSources).unwrap()
    }

    #[test]
    fn every_key_with_its_value_and_without_a_secret() {
        let shown =
            settings("max_clients = 7\n[users.app]\npassword = 'hunter3'\n[tenant.limits.acme]\nmax_rows = 5\n")
                .shown();
        let find = |key: &str| shown.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(
            *find("max_clients"),
            Shown { key: "max_clients".into(), value: Some("7".into()), default: Some("5000"), at_once: true }
        );
        assert!(!find("workers").at_once);
        assert_eq!(find("databases.shop.upstream").value.as_deref(), Some("owner@db:5432/real"));
        assert_eq!(find("users.app.password").value, None);
        assert!(!format!("{shown:?}").contains("hunter"));
        assert!(shown.iter().all(|row| !row.key.starts_with("tenant.limits")), "they are many");
    }
}
