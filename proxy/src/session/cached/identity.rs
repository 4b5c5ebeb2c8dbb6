//! Who a session is to the cache: everything of it that an answer may depend on, found when its settings change.

use std::rc::Rc;

use config::SessionAttrs;

use policy::cache::{Bypass, Isolation, SettingsId};
use wire::params::{Settings, Value};

use crate::cache::facts::parse_path;
use crate::session::Session;
use crate::session::constants::input_of;
use crate::session::date_style::DATE_STYLE;
use crate::session::effects::{mentions_temporary, plain};
use crate::upstream::Upstream;

/// Who a session is to the cache.
#[derive(Debug)]
pub struct Identity {
    /// The settings that it was made from; kept, so that their place is nobody else's.
    pub settings: Rc<Settings>,
    /// All settings that may change a reply.
    pub id: Option<SettingsId>,
    /// Where it looks names up; `None`: as its user does by default.
    pub path: Option<Rc<[String]>>,
    /// Its role, as its setting has it.
    pub role: Box<str>,
    /// Whom it has become, for `$user` in a search path.
    pub becomes: Box<str>,
    /// Who has logged in at the server.
    pub user: Box<str>,
    /// What its application calls itself.
    pub application: Box<str>,
    /// Why nothing of it is cached.
    pub bypass: Option<Bypass>,
    /// What constants mean that it prepares.
    pub input: u64,
}

/// A setting's value as it was written. Two ways of writing the same are two values: never the other way round.
fn written(value: &Value) -> Option<String> {
    let (mark, bytes) = match value {
        Value::Plain(bytes) => ('=', bytes),
        Value::Clause(bytes) => (':', bytes),
    };
    std::str::from_utf8(bytes).ok().map(|text| format!("{mark}{text}"))
}

/// The role of `role TO 'a'`, and of SQL's own `ROLE a`; `None`: that is not understood.
fn role_named(value: &Value) -> Option<String> {
    if let Some(name) = plain(value) {
        return Some(name.into_owned());
    }
    let Value::Clause(clause) = value else { return None };
    let (word, rest) = std::str::from_utf8(clause).ok()?.split_at_checked("role".len())?;
    let ends = rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '\'' || c == '"');
    if !word.eq_ignore_ascii_case("role") || !ends {
        return None;
    }
    let name = rest.trim_ascii().trim_end_matches(';').trim_ascii_end();
    for quote in ['\'', '"'] {
        if let Some(inside) = name.strip_prefix(quote) {
            // One with an escape of any kind is not read.
            let inside = inside.strip_suffix(quote).filter(|inside| !inside.contains([quote, '\\']));
            return inside.map(str::to_owned);
        }
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_word = starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word.then(|| name.to_ascii_lowercase())
}

/// The schemas of `search_path TO a, "B", 'c'`; `None`: that is not understood.
fn path_of_clause(clause: &str, user: Option<&str>) -> Option<Vec<String>> {
    let (name, rest) = clause.split_at_checked("search_path".len())?;
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('=') {
        Some(rest) => rest,
        None => {
            let (to, rest) = rest.split_at_checked(2)?;
            let ends = rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '\'' || c == '"');
            (to.eq_ignore_ascii_case("to") && ends).then_some(rest)?
        }
    };
    if !name.eq_ignore_ascii_case("search_path") {
        return None;
    }
    let mut schemas = Vec::new();
    let mut rest = rest.trim();
    loop {
        let (name, behind) = match rest.chars().next()? {
            // A string is a name as it stands; one with an escape of any kind is not read.
            quote @ ('\'' | '"') => {
                let inside = rest.get(1..)?;
                let end = inside.find(quote)?;
                let (name, behind) = (inside.get(..end)?, inside.get(end + 1..)?);
                if behind.starts_with(quote) || name.contains('\\') {
                    return None;
                }
                (name.to_owned(), behind)
            }
            first if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let (name, behind) = rest.split_at_checked(end)?;
                (name.to_ascii_lowercase(), behind)
            }
            _ => return None,
        };
        match name.as_str() {
            "$user" => schemas.push(user?.to_owned()),
            _ => schemas.push(name),
        }
        rest = behind.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => break,
        }
    }
    (rest.is_empty() || rest == ";").then_some(schemas)
}

impl Session {
    /// Who it is to the cache, in its transaction if one is open. Found anew when its settings are others.
    ///
    /// # Errors
    /// What it has set for the transaction is not known.
    pub(super) fn identity(&mut self) -> Result<Rc<Identity>, Bypass> {
        let mut lease = self.lease.take();
        let identity = self.identity_on(lease.as_deref_mut());
        self.lease = lease;
        identity
    }

    /// The same of a session whose upstream is this one, which is in other hands now.
    ///
    /// # Errors
    /// As [`Self::identity`].
    pub(super) fn identity_on(&mut self, upstream: Option<&mut Upstream>) -> Result<Rc<Identity>, Bypass> {
        let worker = self.worker.clone();
        let settings = match upstream {
            Some(upstream) => {
                let mut brain = worker.brain.borrow_mut();
                upstream.work.locals.over(self.settings.current(), &mut brain.interner).ok_or(Bypass::Tainted)?
            }
            None => self.settings.current().clone(),
        };
        if let Some(known) = self.caching.as_deref().and_then(|caching| caching.identity.as_ref())
            && Rc::ptr_eq(&known.settings, &settings)
        {
            return Ok(known.clone());
        }
        let identity = Rc::new(self.identify(settings));
        self.caching().identity = Some(identity.clone());
        Ok(identity)
    }

    fn identify(&self, settings: Rc<Settings>) -> Identity {
        let values: Option<Vec<(&str, String)>> =
            settings.iter().map(|setting| Some((&*setting.name, written(&setting.value)?))).collect();
        let id = values.as_ref().and_then(|values| {
            self.worker.shared.caches.settings_id(values.iter().map(|(name, value)| (*name, value.as_str())))
        });
        let mut bypass = id.is_none().then_some(Bypass::TooManySettings);
        let target = self.pool.shared.target();
        let primary = matches!(target.session_attrs, SessionAttrs::Primary | SessionAttrs::ReadWrite);
        if target.hosts.len() > 1 && !primary {
            bypass = bypass.or(Some(Bypass::Standby));
        }
        let role = settings.find("role");
        let authorization = settings.find("session_authorization");
        let named = |value: &Value| plain(value).map(|name| name.into_owned());
        let login = authorization.map_or_else(|| Some(target.user.clone()), named);
        // Whom `$user` stands for; `None`: that is not understood.
        let user = match role.map(role_named) {
            None => login,
            Some(Some(name)) if name == "none" => login,
            Some(name) => name,
        };
        let path = match settings.find("search_path") {
            None => {
                if user.is_none() {
                    bypass = bypass.or(Some(Bypass::UnknownPath));
                }
                None
            }
            Some(value) if mentions_temporary(value) => {
                bypass = bypass.or(Some(Bypass::TemporaryTable));
                None
            }
            Some(value) => {
                let schemas = match value {
                    Value::Plain(bytes) => {
                        std::str::from_utf8(bytes).ok().and_then(|text| parse_path(text, user.as_deref()?))
                    }
                    Value::Clause(bytes) => {
                        std::str::from_utf8(bytes).ok().and_then(|text| path_of_clause(text, user.as_deref()))
                    }
                };
                if schemas.is_none() {
                    bypass = bypass.or(Some(Bypass::UnknownPath));
                }
                schemas.map(Rc::from)
            }
        };
        if let Some(level) = settings.find("default_transaction_isolation") {
            let level = plain(level).map_or(Isolation::Unknown, |level| Isolation::named(&level));
            if level != Isolation::ReadCommitted {
                bypass = bypass.or(Some(Bypass::Isolation));
            }
        }
        if matches!(settings.find(DATE_STYLE), Some(Value::Clause(_))) {
            // Said relative to something that is not known.
            bypass = bypass.or(Some(Bypass::Tainted));
        }
        let input = input_of(&settings);
        let role = role.and_then(written).unwrap_or_default().into();
        let application = settings.find("application_name").and_then(plain).unwrap_or_default().into();
        let becomes = user.unwrap_or_default().into();
        let user = target.user.as_str().into();
        Identity { id, path, role, becomes, user, application, bypass, input, settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_in_each_of_its_forms_or_not_at_all() {
        let of = |clause: &str| role_named(&Value::Clause(clause.as_bytes().into()));
        for clause in ["ROLE anna", "role 'anna';", "Role \"anna\"", "role TO anna", "role = 'anna'", "ROLE Anna"] {
            assert_eq!(of(clause).as_deref(), Some("anna"), "{clause}");
        }
        assert_eq!(of("ROLE \"Anna\"").as_deref(), Some("Anna"));
        assert_eq!(of("ROLE NONE").as_deref(), Some("none"), "the one who has logged in");
        for clause in [
            "ROLE",
            "ROLE anna bob",
            "ROLE anna -- x",
            "ROLE 'an''na'",
            "ROLE E'anna'",
            "ROLE U&\"x\"",
            "ROLEanna",
            "ROLE ü",
            "ROLE /* */ anna",
        ] {
            assert_eq!(of(clause), None, "{clause}");
        }
    }

    #[test]
    fn clauses_of_search_paths_are_read_or_not_at_all() {
        let of = |clause: &str| path_of_clause(clause, Some("anna"));
        let is = |clause: &str, schemas: &[&str]| {
            assert_eq!(
                of(clause).as_deref(),
                Some(schemas.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice()),
                "{clause}"
            );
        };
        is("search_path TO a, b", &["a", "b"]);
        is("search_path = Acme,public", &["acme", "public"]);
        is("search_path to \"Acme\", 'Big Co', \"$user\"", &["Acme", "Big Co", "anna"]);
        is("search_path='a,b'", &["a,b"]);
        is("search_path TO ''", &[""]);
        for strange in [
            "search_path TO a b",
            "search_path TO a,",
            "search_path TO E'a'",
            "search_path TO 'a''b'",
            "search_path TO $$a$$",
            "search_path TO /* x */ a",
            "search_path FROM CURRENT",
            "search_path TO",
            "search_path",
            "search_path TO schön",
        ] {
            assert_eq!(of(strange), None, "{strange}");
        }
        assert_eq!(path_of_clause("search_path TO \"$user\"", None), None);
    }
}
