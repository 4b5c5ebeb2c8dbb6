//! Settings wanted × settings present → the statements that are needed.
//!
//! A [`Settings`] value is an immutable, sorted set, shared by pointer: interned by [`Interner`], equal sets of one
//! worker are the same pointer, so that the usual question ("does this server already have what this client wants?") is
//! one comparison. How a setting was made decides how it is made again: `SET search_path TO a, b` is a list, the
//! same text through set_config is a string.

use std::collections::HashSet;
use std::rc::Rc;

/// How a setting is made again on another server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// What followed SET or SET SESSION, as written: `search_path TO a, b`, `TIME ZONE 'UTC'`.
    Clause(Box<[u8]>),
    /// The value in the form that startup parameters and set_config take.
    Plain(Box<[u8]>),
}

/// One setting of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Lower-case name, such as `search_path` or `app.tenant_id`.
    pub name: Box<str>,
    /// Its value.
    pub value: Value,
}

/// A set of settings that differ from a server's own defaults, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Settings(Vec<Setting>);

/// Bytes that one session's settings may take; more is refused by [`Settings::with`].
pub const MAX_BYTES: usize = 64 * 1024;

impl Settings {
    /// No setting.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The settings, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a setting; the name in lower case.
    pub fn find(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|setting| (*setting.name).cmp(name)).ok()?;
        self.0.get(at).map(|setting| &setting.value)
    }

    /// This set with one setting changed; `None`: it would grow past [`MAX_BYTES`].
    #[must_use]
    pub fn with(&self, name: &str, value: Value) -> Option<Self> {
        let setting = Setting { name: name.into(), value };
        let mut settings = self.0.clone();
        match settings.binary_search_by(|other| (*other.name).cmp(name)) {
            Ok(at) => {
                if let Some(slot) = settings.get_mut(at) {
                    *slot = setting;
                }
            }
            Err(at) => settings.insert(at, setting),
        }
        let bytes: usize = settings.iter().map(|setting| setting.name.len() + size(&setting.value)).sum();
        (bytes <= MAX_BYTES).then_some(Self(settings))
    }

    /// This set with one setting back at the server's default.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|setting| &*setting.name != name).cloned().collect())
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Clause(bytes) | Value::Plain(bytes) => bytes.len(),
    }
}

/// Keeps one pointer per distinct set. One per worker.
#[derive(Debug, Default)]
pub struct Interner {
    sets: HashSet<Rc<Settings>>,
    sweep_at: usize,
}

impl Interner {
    /// The pointer that stands for this set.
    pub fn intern(&mut self, settings: Settings) -> Rc<Settings> {
        if let Some(known) = self.sets.get(&settings) {
            return known.clone();
        }
        if self.sets.len() >= self.sweep_at.max(256) {
            // Sets that nobody holds any more go; what is left doubles before the next look.
            self.sets.retain(|set| Rc::strong_count(set) > 1);
            self.sweep_at = self.sets.len() * 2;
        }
        let set = Rc::new(settings);
        self.sets.insert(set.clone());
        set
    }

    /// Distinct sets known.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether no set is known.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

/// The order in which settings are made. How strings are read comes behind those that were written in the usual way; who
/// one is comes last, and is undone first, because it decides what one may set.
fn rank(name: &str) -> u8 {
    match name {
        "standard_conforming_strings" => 2,
        "session_authorization" => 3,
        "role" => 4,
        _ => 1,
    }
}

/// Whether making this setting can fail although it worked before on another connection (rights may have been revoked):
/// its outcome must be awaited before anything is sent behind it.
pub fn must_be_awaited(name: &str) -> bool {
    matches!(name, "role" | "session_authorization")
}

/// The statements that turn `present` into `wanted`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The statement that changes the encoding, without a terminating NUL; empty: it stays. A text of its own, sent
    /// before the other one: the server reads a whole text in the encoding that holds when it comes.
    pub encoding: Vec<u8>,
    /// One text of `SET …; RESET …` statements, without a terminating NUL; empty: nothing to do.
    pub sql: Vec<u8>,
    /// Whether the reply must be awaited, see [`must_be_awaited`].
    pub awaited: bool,
}

/// Computes the statements that turn `present` into `wanted`.
pub fn difference(present: &Settings, wanted: &Settings) -> Difference {
    let mut difference = Difference::default();
    let gone = present.iter().filter(|setting| wanted.find(&setting.name).is_none());
    let changed = wanted.iter().filter(|setting| present.find(&setting.name) != Some(&setting.value));
    let mut gone: Vec<&Setting> = gone.collect();
    let mut changed: Vec<&Setting> = changed.collect();
    let is_encoding = |setting: &Setting| &*setting.name == "client_encoding";
    gone.iter().filter(|setting| is_encoding(setting)).for_each(|setting| difference.reset(&setting.name));
    changed.iter().filter(|setting| is_encoding(setting)).for_each(|setting| difference.set(setting));
    if gone.iter().chain(&changed).any(|setting| is_encoding(setting)) {
        difference.encoding = std::mem::take(&mut difference.sql);
    }
    gone.retain(|setting| !is_encoding(setting));
    changed.retain(|setting| !is_encoding(setting));
    let identity_changes = changed.iter().chain(&gone).any(|setting| must_be_awaited(&setting.name));
    if identity_changes {
        // A role may not be allowed to make the other settings, nor to leave itself for another: go back to the
        // login's own identity first, then make all that was under it again.
        for name in ["role", "session_authorization"] {
            if present.find(name).is_some() {
                difference.reset(name);
            }
            if let Some(setting) = wanted.iter().find(|setting| &*setting.name == name)
                && !changed.contains(&setting)
            {
                changed.push(setting);
            }
        }
        gone.retain(|setting| !must_be_awaited(&setting.name));
    }
    gone.iter().for_each(|setting| difference.reset(&setting.name));
    changed.sort_by_key(|setting| rank(&setting.name));
    changed.iter().for_each(|setting| difference.set(setting));
    difference.awaited = identity_changes;
    difference
}

impl Difference {
    fn separate(&mut self) {
        if !self.sql.is_empty() {
            self.sql.extend_from_slice(b"; ");
        }
    }

    fn reset(&mut self, name: &str) {
        self.separate();
        match name {
            "session_authorization" => self.sql.extend_from_slice(b"RESET SESSION AUTHORIZATION"),
            _ => {
                self.sql.extend_from_slice(b"RESET ");
                quote_name(name, &mut self.sql);
            }
        }
    }

    fn set(&mut self, setting: &Setting) {
        self.separate();
        match &setting.value {
            Value::Clause(clause) => {
                self.sql.extend_from_slice(b"SET SESSION ");
                self.sql.extend_from_slice(clause);
            }
            Value::Plain(value) => {
                self.sql.extend_from_slice(b"SELECT pg_catalog.set_config(");
                quote_text(setting.name.as_bytes(), &mut self.sql);
                self.sql.extend_from_slice(b", ");
                quote_text(value, &mut self.sql);
                self.sql.extend_from_slice(b", false)");
            }
        }
    }
}

/// The statements that make these settings one by one on a server that has none of them, each with the setting's name:
/// what decides how texts are read comes first, and who one is last.
pub fn statements(wanted: &Settings) -> Vec<(&str, Vec<u8>)> {
    let mut settings: Vec<&Setting> = wanted.iter().collect();
    settings.sort_by_key(|setting| match &*setting.name {
        "client_encoding" => 0,
        name => rank(name),
    });
    let statement = |setting: &Setting| {
        let mut difference = Difference::default();
        difference.set(setting);
        difference.sql
    };
    settings.into_iter().map(|setting| (&*setting.name, statement(setting))).collect()
}

/// The statement that makes a setting for the transaction alone, where its value is known as startup parameters have it.
pub fn set_local(name: &str, value: &[u8]) -> Vec<u8> {
    let mut sql = b"SELECT pg_catalog.set_config(".to_vec();
    quote_text(name.as_bytes(), &mut sql);
    sql.extend_from_slice(b", ");
    quote_text(value, &mut sql);
    sql.extend_from_slice(b", true)");
    sql
}

/// Writes a possibly dotted setting name, each part quoted.
fn quote_name(name: &str, out: &mut Vec<u8>) {
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        out.push(b'"');
        for byte in part.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
}

/// Writes a string constant that means the same with `standard_conforming_strings` on and off.
fn quote_text(text: &[u8], out: &mut Vec<u8>) {
    let escaped = text.contains(&b'\\');
    if escaped {
        out.extend_from_slice(b" E");
    }
    out.push(b'\'');
    for byte in text {
        if *byte == b'\'' || (escaped && *byte == b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: &str) -> Value {
        Value::Plain(value.as_bytes().into())
    }

    fn clause(value: &str) -> Value {
        Value::Clause(value.as_bytes().into())
    }

    fn set(entries: &[(&str, Value)]) -> Settings {
        entries.iter().fold(Settings::new(), |set, (name, value)| set.with(name, value.clone()).unwrap())
    }

    fn sql(present: &Settings, wanted: &Settings) -> String {
        String::from_utf8(difference(present, wanted).sql).unwrap()
    }

    #[test]
    fn only_the_difference_is_made() {
        let present = set(&[("app.tenant_id", plain("a")), ("timezone", clause("timezone TO 'UTC'"))]);
        let wanted = set(&[("app.tenant_id", plain("b")), ("timezone", clause("timezone TO 'UTC'"))]);
        assert_eq!(sql(&present, &wanted), "SELECT pg_catalog.set_config('app.tenant_id', 'b', false)");
        assert_eq!(sql(&wanted, &wanted), "");
        assert_eq!(sql(&wanted, &Settings::new()), "RESET \"app\".\"tenant_id\"; RESET \"timezone\"");
    }

    #[test]
    fn lists_are_made_again_as_they_were_written() {
        let wanted = set(&[("search_path", clause("search_path TO a, \"B\""))]);
        assert_eq!(sql(&Settings::new(), &wanted), "SET SESSION search_path TO a, \"B\"");
    }

    #[test]
    fn quotes_and_backslashes_cannot_leave_their_string() {
        let wanted = set(&[("app.x", plain("a'; drop table t; --\\"))]);
        let made = sql(&Settings::new(), &wanted);
        assert_eq!(made, "SELECT pg_catalog.set_config('app.x',  E'a''; drop table t; --\\\\', false)");
        let odd = set(&[("app.\"x", plain("1"))]);
        assert_eq!(sql(&odd, &Settings::new()), "RESET \"app\".\"\"\"x\"");
    }

    #[test]
    fn identity_is_left_first_and_taken_last_and_awaited() {
        let present = set(&[("role", clause("ROLE a")), ("app.x", plain("1"))]);
        let wanted = set(&[("role", clause("ROLE b")), ("app.x", plain("2"))]);
        let made = difference(&present, &wanted);
        assert!(made.awaited);
        assert_eq!(
            String::from_utf8(made.sql).unwrap(),
            "RESET \"role\"; SELECT pg_catalog.set_config('app.x', '2', false); SET SESSION ROLE b"
        );
        assert!(!difference(&Settings::new(), &set(&[("app.x", plain("1"))])).awaited);
    }

    #[test]
    fn a_changed_session_authorization_makes_the_role_again() {
        let present = set(&[("role", clause("ROLE a"))]);
        let wanted = set(&[("role", clause("ROLE a")), ("session_authorization", clause("SESSION AUTHORIZATION s"))]);
        assert_eq!(sql(&present, &wanted), "RESET \"role\"; SET SESSION SESSION AUTHORIZATION s; SET SESSION ROLE a");
    }

    #[test]
    fn values_are_read_in_the_encoding_and_the_strings_that_they_were_written_in() {
        let wanted = set(&[
            ("app.x", clause("app.x = 'a'")),
            ("client_encoding", clause("client_encoding = latin1")),
            ("standard_conforming_strings", clause("standard_conforming_strings = off")),
            ("timezone", clause("TIME ZONE 'UTC'")),
        ]);
        let made = difference(&Settings::new(), &wanted);
        assert_eq!(String::from_utf8(made.encoding).unwrap(), "SET SESSION client_encoding = latin1");
        assert_eq!(
            String::from_utf8(made.sql).unwrap(),
            "SET SESSION app.x = 'a'; SET SESSION TIME ZONE 'UTC'; SET SESSION standard_conforming_strings = off"
        );
        let left = difference(&wanted, &set(&[("app.x", clause("app.x = 'b'"))]));
        assert_eq!(String::from_utf8(left.encoding).unwrap(), "RESET \"client_encoding\"");
    }

    #[test]
    fn a_sessions_settings_are_bounded() {
        let big = Value::Plain(vec![b'x'; MAX_BYTES].into());
        assert!(Settings::new().with("app.x", big).is_none());
    }

    #[test]
    fn equal_sets_are_one_pointer_and_unused_ones_go() {
        let mut interner = Interner::default();
        let first = interner.intern(set(&[("a.b", plain("1"))]));
        assert!(Rc::ptr_eq(&first, &interner.intern(set(&[("a.b", plain("1"))]))));
        for n in 0..10_000 {
            interner.intern(set(&[("a.b", plain(&n.to_string()))]));
        }
        assert!(interner.len() <= 1024, "{}", interner.len());
        assert!(Rc::ptr_eq(&first, &interner.intern(set(&[("a.b", plain("1"))]))));
    }

    #[test]
    fn settings_are_made_one_by_one_with_who_one_is_last() {
        let plain = |value: &str| Value::Plain(value.as_bytes().into());
        let clause = |clause: &str| Value::Clause(clause.as_bytes().into());
        let settings = Settings::new()
            .with("role", clause("role anna"))
            .and_then(|settings| settings.with("app.tenant_id", plain("it's")))
            .and_then(|settings| settings.with("client_encoding", plain("latin1")));
        let settings = settings.unwrap();
        let made: Vec<_> =
            statements(&settings).into_iter().map(|(name, sql)| (name, String::from_utf8(sql).unwrap())).collect();
        assert_eq!(
            made,
            [
                ("client_encoding", "SELECT pg_catalog.set_config('client_encoding', 'latin1', false)".to_owned()),
                ("app.tenant_id", "SELECT pg_catalog.set_config('app.tenant_id', 'it''s', false)".to_owned()),
                ("role", "SET SESSION role anna".to_owned()),
            ]
        );
    }
}
