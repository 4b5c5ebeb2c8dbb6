//! Every key there is: one table that the parser, the reload and the reference are made of.
//!
//! The parser reads a key because it stands here, takes its type, range and default from here, and refuses what does
//! not stand here; docs/config.md is printed from here.

mod rows;
mod sections;
mod tls;

pub(crate) use rows::{ADMIN, AUTH, CACHE, LIMITS, LIMITS_TABLE, POOL, ROWS};
pub(crate) use sections::{SECTIONS, Section};

/// One key.
#[derive(Debug)]
pub(crate) struct Row {
    /// Dotted path; `<…>` stands for a name that the operator picks, `[]` for an entry of a list of tables.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written in the file; `None`: not set.
    pub(crate) default: Option<&'static str>,
    pub(crate) reload: Reload,
    /// What it does and why its default is what it is. Markdown.
    pub(crate) meaning: &'static str,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number in this range.
    Count(u64, u64),
    /// As `Count`, or `"auto"`: one for each core.
    CountOrAuto(u64, u64),
    /// A part of a whole: more than 0 and at most 1.
    Fraction,
    /// A duration; zero only if the flag is set.
    Time { zero: bool },
    /// Any text but the empty one.
    Text,
    /// A text that no message shows.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `address:port`, `/folder:port`, or a list of such.
    Addresses,
    /// Addresses and networks, in a list or with commas between them; may be empty.
    Networks,
    /// A list of names.
    Names,
    /// Bytes: a number, or a text with a unit.
    Size,
    /// `address:port` or `off`.
    AddressOrOff,
    /// `postgres://…`; a secret, as it may hold a password.
    Url,
}

/// What a reload does with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    AtOnce,
    Restart,
}

/// What stands under a path.
pub(crate) enum Found {
    Leaf(&'static Row),
    Section,
    Unknown,
}

/// Looks a concrete path up: `["databases", "app", "size"]`. A database takes all keys of the pool.
pub(crate) fn find(path: &[&str]) -> Found {
    if let Some(path) = of_limits(path) {
        // Asked for with each key of each tenant: in the rows that it can be in.
        return among(LIMITS.iter(), &path, false);
    }
    if let ["cache", ..] = path {
        // With each key of each rule: the same.
        return among(CACHE.iter(), path, false);
    }
    if let ["databases", _, key] = path
        && let Some(row) = POOL.iter().find(|row| row.path.strip_prefix("pool.") == Some(*key))
    {
        return Found::Leaf(row);
    }
    among(all(), path, matches!(path, ["tenant", "class" | "limits" | "fingerprint"]))
}

fn among(rows: impl Iterator<Item = &'static Row>, path: &[&str], mut section: bool) -> Found {
    for row in rows {
        match compare(row.path, path) {
            Some(0) => return Found::Leaf(row),
            Some(_) => section = true,
            None => {}
        }
    }
    if section { Found::Section } else { Found::Unknown }
}

/// Whether a list of tables stands under this path.
pub(crate) fn is_list(path: &[&str]) -> bool {
    [["tenant", "rule"], ["tenant", "classify"], ["observe", "mute"], ["cache", "rule"]].iter().any(|list| path == list)
}

/// A path within a class's, a tenant's or a statement's table of limits, as it would be in that of all.
fn of_limits<'a>(path: &[&'a str]) -> Option<Vec<&'a str>> {
    match path {
        ["tenant", "class" | "limits" | "fingerprint", _, rest @ ..] => {
            Some(rows::LIMITS_TABLE.into_iter().chain(rest.iter().copied()).collect())
        }
        _ => None,
    }
}

/// Every row, those of the admin port, for logins and the pool's among them.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(CACHE).chain(ADMIN).chain(LIMITS).chain(tls::TLS).chain(AUTH).chain(POOL)
}

/// Keys that may stand directly under a path.
pub(crate) fn children(path: &[&str]) -> Vec<&'static str> {
    if let Some(path) = of_limits(path) {
        return children(&path);
    }
    let mut names: Vec<&'static str> = Vec::new();
    for row in all() {
        if compare(row.path, path).is_some_and(|left| left > 0)
            && let Some(name) = segments(row.path).nth(path.len())
        {
            names.push(name);
        }
    }
    if let ["databases", _] = path {
        names.extend(POOL.iter().filter_map(|row| row.path.strip_prefix("pool.")));
    }
    if path == ["tenant"] {
        names.extend(["class", "limits", "fingerprint"]);
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.starts_with('<'));
    names
}

/// How many segments of `pattern` are left after `path` matched its beginning; `None`: no match.
fn compare(pattern: &str, path: &[&str]) -> Option<usize> {
    let mut segments = segments(pattern);
    for name in path {
        let expected = segments.next()?;
        if expected != *name && !expected.starts_with('<') {
            return None;
        }
    }
    Some(segments.count())
}

/// The segments of a row's path; an entry of a list is one of its own.
fn segments(pattern: &str) -> impl Iterator<Item = &str> {
    let segments = pattern.split('.').map(|segment| match segment.strip_suffix("[]") {
        Some(list) => [Some(list), Some("<entry>")],
        None => [Some(segment), None],
    });
    segments.flatten().flatten()
}
