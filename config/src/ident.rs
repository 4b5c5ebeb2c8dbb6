//! Maps from names outside PostgreSQL to users: the `pg_ident.conf` that PostgreSQL's operators know.

use crate::hba::token::{Line, Word, lines};
use crate::hba::{LineError, Pattern};

/// All maps of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IdentMaps {
    entries: Vec<Entry>,
}

/// One line: who may log in as whom.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    map: String,
    system: System,
    user: MappedUser,
}

/// A name as the operating system or a certificate says it.
#[derive(Debug, Clone, PartialEq)]
enum System {
    Name(String),
    Pattern(Pattern),
}

/// The user that such a name may log in as.
#[derive(Debug, Clone, PartialEq)]
enum MappedUser {
    All,
    /// A name; if the flag is set, `\1` in it stands for what the pattern's first group matched.
    Name(String, bool),
    Pattern(Pattern),
}

impl IdentMaps {
    /// Reads a file of `MAP SYSTEM-NAME USER` lines. A name that begins with a slash is a regular expression; `\1` in the
    /// user stands for what its first group matched; the user `all` is every user.
    ///
    /// # Errors
    /// Every line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Vec<LineError>> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for Line { number, fields } in lines(text) {
            match fields.map_err(str::to_owned).and_then(|fields| entry(&fields)) {
                Ok(entry) => entries.push(entry),
                Err(sentence) => errors.push(LineError { line: number, sentence }),
            }
        }
        if errors.is_empty() { Ok(Self { entries }) } else { Err(errors) }
    }

    /// Whether a map of this name exists.
    pub fn has(&self, map: &str) -> bool {
        self.entries.iter().any(|entry| entry.map == map)
    }

    /// Whether who is called `system` outside may log in as `user`. Without a map the names must be the same.
    pub fn allows(&self, map: Option<&str>, system: &str, user: &str) -> bool {
        let Some(map) = map else { return system == user };
        self.entries.iter().any(|entry| entry.map == map && entry.allows(system, user))
    }
}

impl Entry {
    fn allows(&self, system: &str, user: &str) -> bool {
        let group = match &self.system {
            System::Name(name) if name == system => None,
            System::Pattern(pattern) if pattern.finds(system) => pattern.first_group(system),
            _ => return false,
        };
        match &self.user {
            MappedUser::All => true,
            MappedUser::Name(name, false) => name == user,
            MappedUser::Name(name, true) => group.is_some_and(|group| name.replacen("\\1", group, 1) == user),
            MappedUser::Pattern(pattern) => pattern.finds(user),
        }
    }
}

fn entry(fields: &[Vec<Word>]) -> Result<Entry, String> {
    const SHAPE: &str = "is not a line of a map; write MAP SYSTEM-NAME USER, names with blanks or commas in quotes";
    let [map, system, user] = fields else { return Err(SHAPE.to_owned()) };
    let ([map], [system], [user]) = (&map[..], &system[..], &user[..]) else { return Err(SHAPE.to_owned()) };
    if [map, system, user].iter().any(|word| word.text.is_empty()) {
        return Err(SHAPE.to_owned());
    }
    if !map.quoted && map.text.starts_with("include") {
        return Err("includes a file, which is not supported; write its lines here".to_owned());
    }
    let system = match system.text.strip_prefix('/') {
        Some(pattern) => System::Pattern(Pattern::new(pattern)?),
        None => System::Name(system.text.clone()),
    };
    let user = match user.text.strip_prefix('/') {
        Some(pattern) => MappedUser::Pattern(Pattern::new(pattern)?),
        None if user.is("all") => MappedUser::All,
        None if !user.quoted && user.text.starts_with('+') => {
            return Err("maps to the members of a role, which the proxy does not know; name the users".to_owned());
        }
        None => {
            let filled = user.text.contains("\\1") && matches!(system, System::Pattern(_));
            if filled && matches!(&system, System::Pattern(pattern) if !pattern.has_group()) {
                return Err("says \\1, but its regular expression has no group in brackets; add one".to_owned());
            }
            MappedUser::Name(user.text.clone(), filled)
        }
    };
    Ok(Entry { map: map.text.clone(), system, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
# MAP   SYSTEM                      USER
os      root                        postgres
os      deploy                      app
os      deploy                      "batch job"
mail    /^(.*)@example\.com$        \1
mail    /@partner\.example$         guest
any     admin                       all
some    admin                       /^app_
"#;

    #[test]
    fn who_may_become_whom() {
        let maps = IdentMaps::parse(FILE).unwrap();
        for (map, system, user, allowed) in [
            (None, "anna", "anna", true),
            (None, "anna", "bob", false),
            (Some("os"), "root", "postgres", true),
            (Some("os"), "root", "root", false),
            (Some("os"), "deploy", "app", true),
            (Some("os"), "deploy", "batch job", true),
            (Some("os"), "deploy", "postgres", false),
            (Some("mail"), "anna@example.com", "anna", true),
            (Some("mail"), "anna@example.com", "bob", false),
            (Some("mail"), "anna@example.com.evil.example", "anna", false),
            (Some("mail"), "x@partner.example", "guest", true),
            (Some("any"), "admin", "whoever", true),
            (Some("some"), "admin", "app_1", true),
            (Some("some"), "admin", "postgres", false),
            (Some("absent"), "root", "root", false),
            (Some("mail"), "@example.com", "", true),
        ] {
            assert_eq!(maps.allows(map, system, user), allowed, "{map:?} {system} {user}");
        }
        assert!(maps.has("os") && !maps.has("absent"));
    }

    #[test]
    fn each_broken_line_is_told() {
        let text = "os root\nos a b c\nos /( x\nos /x \\1\nos x +group\ninclude_dir x y\nos a,b c\nok a b\nos \"\" b\n";
        let told = IdentMaps::parse(text).unwrap_err();
        let lines: Vec<usize> = told.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 9], "{told:?}");
    }
}
