//! Where names are looked up: `search_path`, as the server reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Bytes of a name that count (NAMEDATALEN). Longer ones are cut by the server, in its own encoding.
const MAX_NAME: usize = 63;

/// Where sessions look names up that say nothing of it: the server's default, by user.
#[derive(Debug, Default)]
pub struct Paths {
    /// Those that there are.
    schemas: BTreeSet<Box<str>>,
    /// For all users of this database, or else of all.
    common: Option<Box<str>>,
    /// By user: in this database, or else in all.
    roles: BTreeMap<Box<str>, Box<str>>,
    /// Sessions that were begun before may have begun with other defaults: these were changed since.
    pub(crate) since: Option<Instant>,
}

impl Paths {
    /// `defaults`: whether it is by database, by which role (`None`: all), which path. `server`: what holds for all others,
    /// as far as it is known.
    pub(super) fn new(
        schemas: BTreeSet<Box<str>>,
        defaults: impl IntoIterator<Item = (bool, Option<Box<str>>, Box<str>)>,
        server: Option<Box<str>>,
    ) -> Self {
        let mut paths = Self { schemas, common: None, roles: BTreeMap::new(), since: None };
        let mut all: Vec<_> = defaults.into_iter().collect();
        // Those by database come last, and stay.
        all.sort_by_key(|(by_database, ..)| *by_database);
        for (_, role, path) in all {
            match role {
                Some(role) => drop(paths.roles.insert(role, path)),
                None => paths.common = Some(path),
            }
        }
        paths.common = paths.common.or(server);
        paths
    }

    /// Whether a session on a connection that was opened then has begun with these defaults: ALTER ROLE … SET and its like
    /// change nothing for those that are there. What was changed before the first reading of a catalog is not known.
    pub fn hold_for(&self, opened: Instant) -> bool {
        self.since.is_none_or(|since| opened >= since)
    }

    /// Whether a session of this user begins with something else than the server's own.
    pub(super) fn colours(&self, user: &str) -> bool {
        self.common.is_some() || self.roles.contains_key(user)
    }

    /// The schemas that sessions of this user search, in order, `$user` put in; `None`: that is not known.
    pub fn of(&self, user: &str) -> Option<Vec<String>> {
        self.of_role(user, user)
    }

    /// The same once such a session has taken another role, which `$user` stands for then.
    pub fn of_role(&self, user: &str, role: &str) -> Option<Vec<String>> {
        let text = self.roles.get(user).or(self.common.as_ref())?;
        let mut path = parse_path(text, role)?;
        path.retain(|schema| self.schemas.contains(schema.as_str()));
        Some(path)
    }
}

/// The names in a value of `search_path` in the form that `set_config`, startup parameters and `pg_settings` have, as the
/// server reads them, whether or not there are such schemas; `$user` is `user`. `None`: it is no such list, or that cannot
/// be told here: temporary schemas are a session's own.
///
/// ```
/// use pgweir::cache::facts::parse_path;
/// let path = parse_path(r#""$user", Public, "Odd ""one""""#, "anna").unwrap();
/// assert_eq!(path, ["anna", "public", "Odd \"one\""]);
/// assert_eq!(parse_path("pg_temp, public", "anna"), None);
/// ```
pub fn parse_path(text: &str, user: &str) -> Option<Vec<String>> {
    let mut rest = skip_space(text);
    let mut path = Vec::new();
    if rest.is_empty() {
        return Some(path);
    }
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => bare(rest)?,
        };
        add(&mut path, name, user)?;
        let Some(next) = after(behind)? else { return Some(path) };
        rest = next;
    }
}

fn add(path: &mut Vec<String>, name: String, user: &str) -> Option<()> {
    let name = if name == "$user" { user.to_owned() } else { name };
    if name.len() > MAX_NAME || name.starts_with("pg_temp") {
        return None;
    }
    path.push(name);
    Some(())
}

/// What the server takes for white space.
fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', '\x0b'])
}

/// Behind a name: another one, or nothing.
fn after(text: &str) -> Option<Option<&str>> {
    let rest = skip_space(text);
    if rest.is_empty() {
        return Some(None);
    }
    rest.strip_prefix(',').map(|next| Some(skip_space(next)))
}

/// A quoted name without its quotes; two of them are one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        let Some(more) = behind.strip_prefix('"') else { return Some((name, behind)) };
        name.push('"');
        rest = more;
    }
}

/// A name without quotes, folded. Beyond ASCII the server's locale decides.
fn bare(text: &str) -> Option<(String, &str)> {
    let end = text.find([',', ' ', '\t', '\n', '\r', '\x0c', '\x0b']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    (!name.is_empty() && name.is_ascii()).then(|| (name.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        parse_path(text, "anna").map(|path| path.join("|"))
    }

    #[test]
    fn lists_are_read_as_the_server_reads_them() {
        for (text, path) in [
            ("", ""),
            ("   ", ""),
            ("public", "public"),
            (" Public ,\tB2 ", "public|b2"),
            ("\"$user\", public", "anna|public"),
            ("$user,public", "anna|public"),
            ("\"Odd, one\",x", "Odd, one|x"),
            ("\"a\"\"b\"", "a\"b"),
            ("\"\"", ""),
            ("\"ü\"", "ü"),
            ("pg_catalog", "pg_catalog"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_or_cannot_be_told_is_no_path() {
        let long = "x".repeat(MAX_NAME + 1);
        for text in
            [",", "a,", ",a", "a b", "a,,b", "\"a", "\"a\"b", "Ü", "pg_temp", "public, \"pg_temp\"", "pg_temp_3", &long]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert!(parsed(&"x".repeat(MAX_NAME)).is_some());
    }

    fn paths(defaults: &[(bool, Option<&str>, &str)], server: Option<&str>) -> Paths {
        let schemas = ["public", "anna", "tenant"].map(Box::from).into();
        let defaults = defaults.iter().map(|(by, role, path)| (*by, role.map(Box::from), Box::from(*path)));
        Paths::new(schemas, defaults, server.map(Box::from))
    }

    #[test]
    fn the_nearest_default_counts() {
        let of = |paths: &Paths, user: &str| paths.of(user).map(|path| path.join("|"));
        let plain = paths(&[], Some("\"$user\", public, gone"));
        assert_eq!(of(&plain, "anna").as_deref(), Some("anna|public"));
        assert_eq!(of(&plain, "bob").as_deref(), Some("public"), "there is no schema bob");
        let all = [(true, Some("anna"), "tenant"), (false, Some("anna"), "public"), (false, Some("bob"), "anna")];
        assert_eq!(of(&paths(&all, None), "anna").as_deref(), Some("tenant"), "hers in this database");
        assert_eq!(of(&paths(&all, None), "bob").as_deref(), Some("anna"));
        assert_eq!(of(&paths(&all, None), "carl"), None, "the server's own is not known");
        let common = [(true, None, "tenant"), (false, None, "public")];
        assert_eq!(of(&paths(&common, Some("anna")), "carl").as_deref(), Some("tenant"));
        assert!(paths(&common, None).colours("carl") && !paths(&all, None).colours("carl"));
        assert!(paths(&all, None).colours("bob"));
    }
}
