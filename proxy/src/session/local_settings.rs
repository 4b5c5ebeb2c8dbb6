//! All settings of the transaction alone.

use std::rc::Rc;

use wire::params::{Interner, Settings, Value};

use super::date_style::DATE_STYLE;
use super::effects::IDENTITY;
use super::locals::Locals;
use super::reading::{ENCODING, ESCAPES};

/// Bytes of values of one transaction that are followed: claims and headers are some thousands.
const MAX_LOCALS: usize = 32 * 1_024;

/// Settings whose value alone does not say what holds: the half of a date's style that is not said stays as it was, and the
/// other two decide how texts are read.
const RELATIVE: [&str; 3] = [DATE_STYLE, ESCAPES, ENCODING];

/// Settings of the transaction alone, whatever they are. Plans are made under them, and who somebody is to the cache depends
/// on them.
#[derive(Debug, Default)]
pub struct LocalSettings {
    known: Option<Box<Locals>>,
    /// There are some that are not known.
    pub unknown: bool,
    /// Settings of a session, and the same with these laid over them.
    over: Option<(Rc<Settings>, Rc<Settings>)>,
}

impl LocalSettings {
    /// SET LOCAL and its kin; `None`: back at the server's default.
    pub fn set(&mut self, name: &str, value: Option<&Value>) {
        let size = value.map_or(0, |(Value::Plain(bytes) | Value::Clause(bytes))| bytes.len());
        self.over = None;
        let held = self.known.as_ref().map_or(0, |known| known.bytes());
        // Whoever one becomes for the transaction, the session's own role is left with it.
        let kept = held.saturating_add(size) <= MAX_LOCALS && name != IDENTITY;
        self.unknown |= !kept || !self.known.get_or_insert_default().set(name, value.cloned());
    }

    /// What savepoints do to them. `change` says whether they are still known.
    pub(super) fn with_known(&mut self, change: impl FnOnce(&mut Locals) -> bool) {
        self.over = None;
        self.unknown |= self.known.as_mut().is_some_and(|known| !change(known));
    }

    /// One was made that is not seen.
    pub(super) fn are_unseen(&mut self) {
        self.unknown = true;
    }

    /// A setting of the session was made or taken back, and may win over one of these: what holds until the end of the
    /// transaction is no longer known. A plan under another role or another tenant's setting than the statement's is worse
    /// than none.
    pub(super) fn overridden(&mut self) {
        self.unknown |= self.known.is_some();
    }

    /// Whether no setting was made for the transaction.
    pub fn are_none(&self) -> bool {
        self.known.is_none() && !self.unknown
    }

    /// Whether this setting may have a value of the transaction's own.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.unknown || self.known.as_deref().is_some_and(|known| known.has(name))
    }

    /// The transaction has ended.
    pub fn clear(&mut self) {
        (self.known, self.unknown, self.over) = (None, false, None);
    }

    /// The settings that hold in the transaction of a session with these; `None`: they are too large.
    pub(super) fn laid_over(&self, session: &Settings) -> Option<Settings> {
        let mut settings = session.clone();
        let locals: Vec<_> = self.known.as_deref().into_iter().flat_map(Locals::iter).collect();
        for (name, value) in locals.into_iter().rev() {
            settings = match value {
                Some(value) => settings.with(name, value.clone())?,
                None => settings.without(name),
            };
        }
        Some(settings)
    }

    /// The same by their pointer; `None`: one of them is not known, or means something by what it was before, or by how the
    /// session reads and writes.
    pub(super) fn over(&mut self, session: &Rc<Settings>, interner: &mut Interner) -> Option<Rc<Settings>> {
        if self.unknown {
            return None;
        }
        let Some(known) = self.known.as_deref() else { return Some(session.clone()) };
        if let Some((of, over)) = &self.over
            && Rc::ptr_eq(of, session)
        {
            return Some(over.clone());
        }
        if RELATIVE.iter().any(|name| known.has(name)) {
            return None;
        }
        let over = interner.intern(self.laid_over(session)?);
        self.over = Some((session.clone(), over.clone()));
        Some(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Plain(value.as_bytes().into())
    }

    #[test]
    fn settings_of_the_transaction_win_and_a_default_takes_one_away() {
        let session = Settings::new().with("app.tenant", text("a")).and_then(|set| set.with("role", text("r")));
        let session = session.unwrap();
        let mut locals = LocalSettings::default();
        locals.set("app.tenant", Some(&text("b")));
        locals.set("role", None);
        locals.set("work_mem", Some(&text("1MB")));
        let now = locals.laid_over(&session).unwrap();
        let names: Vec<_> = now.iter().map(|setting| &*setting.name).collect();
        assert_eq!(names, ["app.tenant", "work_mem"]);
        assert_eq!(now.find("app.tenant"), Some(&text("b")));
        locals.set("app.blob", Some(&text(&"x".repeat(MAX_LOCALS + 1))));
        assert!(locals.unknown);
        locals.clear();
        locals.overridden();
        assert!(!locals.unknown, "there is nothing to win over");
        locals.set("role", Some(&text("admin")));
        locals.overridden();
        assert!(locals.unknown, "SET ROLE behind SET LOCAL ROLE");
        locals.clear();
        locals.set(IDENTITY, Some(&text("other")));
        assert!(locals.unknown, "its role is not the session's");
        locals.clear();
        (0..2_000).for_each(|n| locals.set(&format!("app.s{n}"), None));
        assert!(locals.unknown, "there were too many");
        locals.clear();
        locals.set("role", None);
        (0..2_000).for_each(|_| locals.with_known(|known| known.savepoint(b"s")));
        assert!(locals.unknown, "so were the savepoints");
        locals.clear();
        assert!(!locals.unknown && locals.laid_over(&session) == Some(session));
    }

    #[test]
    fn what_is_laid_over_is_found_anew_whenever_it_is_another() {
        let mut interner = Interner::default();
        let session = interner.intern(Settings::new().with("role", text("r")).unwrap());
        let mut locals = LocalSettings::default();
        let mut role =
            |locals: &mut LocalSettings| locals.over(&session, &mut interner).map(|over| over.find("role").cloned());
        assert_eq!(role(&mut locals), Some(Some(text("r"))));
        locals.set("role", Some(&text("anna")));
        assert_eq!(role(&mut locals), Some(Some(text("anna"))));
        locals.with_known(|known| known.savepoint(b"s"));
        locals.set("role", Some(&text("bob")));
        assert_eq!(role(&mut locals), Some(Some(text("bob"))));
        locals.with_known(|known| known.rollback_to(b"s"));
        assert_eq!(role(&mut locals), Some(Some(text("anna"))));
        locals.clear();
        assert_eq!(role(&mut locals), Some(Some(text("r"))));
        locals.are_unseen();
        assert_eq!(role(&mut locals), None);
        for name in RELATIVE {
            locals.clear();
            locals.set(name, Some(&text("x")));
            assert_eq!(role(&mut locals), None, "{name}");
        }
    }
}
