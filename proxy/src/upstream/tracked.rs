//! A session's settings as its transactions make and unmake them.
//!
//! The same fold is kept twice: for what a client wants and for what its upstream has. Both see the same statements
//! succeed and fail, so that they agree except where an upstream has not been brought up to date yet.

use std::borrow::Cow;
use std::rc::Rc;

use wire::params::{Interner, Settings, Value};

use super::savepoints::Savepoints;

/// Settings with the memory that transactions need.
#[derive(Debug)]
pub struct Tracked {
    current: Rc<Settings>,
    /// What a ROLLBACK returns to.
    committed: Rc<Settings>,
    /// Of a client that has none, and most have none, they take no room.
    savepoints: Option<Box<Savepoints<Rc<Settings>>>>,
}

impl Tracked {
    /// Outside a transaction, with these settings.
    pub fn new(settings: Rc<Settings>) -> Self {
        Self { committed: settings.clone(), current: settings, savepoints: None }
    }

    /// The settings now.
    #[inline]
    pub fn current(&self) -> &Rc<Settings> {
        &self.current
    }

    /// Puts them where an answered prologue has brought them.
    pub fn assume(&mut self, settings: Rc<Settings>) {
        *self = Self::new(settings);
    }

    /// Puts them where an answered prologue inside of a transaction has brought them: its ROLLBACK undoes that too.
    pub fn overlay(&mut self, settings: Rc<Settings>) {
        self.current = settings;
    }

    /// The setting is as if it had never been made: another one has taken it along.
    pub fn forget(&mut self, name: &str, interner: &mut Interner) {
        if self.current.find(name).is_some() {
            self.current = interner.intern(self.current.without(name));
        }
    }

    /// SET or set_config succeeded; `false`: the session's settings would become too large to follow.
    #[must_use]
    pub fn set(&mut self, name: &str, value: Value, interner: &mut Interner) -> bool {
        match self.without_role_beside(name).with(name, value) {
            Some(settings) => {
                self.current = interner.intern(settings);
                true
            }
            None => false,
        }
    }

    /// RESET succeeded: back to `default`, the value that the session began with, if there was one.
    pub fn reset(&mut self, name: &str, default: Option<&Value>, interner: &mut Interner) {
        let present = self.without_role_beside(name);
        let settings = default.and_then(|value| present.with(name, value.clone()));
        self.current = interner.intern(settings.unwrap_or_else(|| present.without(name)));
    }

    /// What is left of the settings when `name` is about to change: another session user begins without a role, as
    /// PostgreSQL's `SetSessionUserId` has it.
    fn without_role_beside(&self, name: &str) -> Cow<'_, Settings> {
        match name {
            "session_authorization" => Cow::Owned(self.current.without("role")),
            _ => Cow::Borrowed(&self.current),
        }
    }

    /// RESET ALL or DISCARD ALL succeeded: back to `defaults`; who one is stays.
    pub fn reset_all(&mut self, defaults: &Settings, keep_identity: bool, interner: &mut Interner) {
        let mut settings = defaults.clone();
        for name in ["role", "session_authorization"] {
            if keep_identity
                && let Some(value) = self.current.find(name)
                && let Some(with) = settings.with(name, value.clone())
            {
                settings = with;
            }
        }
        self.current = interner.intern(settings);
    }

    /// SAVEPOINT succeeded.
    pub fn savepoint(&mut self, name: &[u8]) {
        let savepoints = self.savepoints.get_or_insert_with(|| Box::new(Savepoints::all()));
        savepoints.set(name, self.current.clone());
    }

    /// ROLLBACK TO succeeded; `false`: the server may have returned to other settings than these.
    #[must_use]
    pub fn rollback_to(&mut self, name: &[u8]) -> bool {
        let savepoints = self.savepoints.as_deref_mut();
        let Some(settings) = savepoints.and_then(|savepoints| savepoints.return_to(name)) else { return false };
        self.current = settings;
        true
    }

    /// RELEASE succeeded.
    pub fn release(&mut self, name: &[u8]) {
        if let Some(savepoints) = &mut self.savepoints {
            savepoints.release(name);
        }
    }

    /// The transaction was committed.
    #[inline]
    pub fn commit(&mut self) {
        if !Rc::ptr_eq(&self.committed, &self.current) {
            self.committed = self.current.clone();
        }
        self.savepoints = None;
    }

    /// The transaction was rolled back.
    #[inline]
    pub fn rollback(&mut self) {
        if !Rc::ptr_eq(&self.committed, &self.current) {
            self.current = self.committed.clone();
        }
        self.savepoints = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: &str) -> Value {
        Value::Plain(value.as_bytes().into())
    }

    fn value(tracked: &Tracked) -> Option<String> {
        tracked.current().find("app.x").map(|value| match value {
            Value::Plain(bytes) | Value::Clause(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        })
    }

    #[test]
    fn settings_are_transactional() {
        let interner = &mut Interner::default();
        let mut tracked = Tracked::new(interner.intern(Settings::new()));
        assert!(tracked.set("app.x", plain("1"), interner));
        tracked.commit();
        assert!(tracked.set("app.x", plain("2"), interner));
        tracked.savepoint(b"a");
        assert!(tracked.set("app.x", plain("3"), interner));
        tracked.savepoint(b"b");
        assert!(tracked.set("app.x", plain("4"), interner));
        assert!(tracked.rollback_to(b"b"));
        assert_eq!(value(&tracked).as_deref(), Some("3"));
        assert!(tracked.rollback_to(b"a"));
        assert_eq!(value(&tracked).as_deref(), Some("2"));
        tracked.release(b"a");
        tracked.rollback();
        assert_eq!(value(&tracked).as_deref(), Some("1"));
    }

    #[test]
    fn a_rollback_to_a_savepoint_that_is_forgotten_never_returns_to_the_transactions_start() {
        let interner = &mut Interner::default();
        let mut tracked = Tracked::new(interner.intern(Settings::new()));
        assert!(tracked.set("app.x", plain("b"), interner));
        (0..3000).for_each(|n| tracked.savepoint(format!("s{n}").as_bytes()));
        assert!(tracked.rollback_to(b"s0"));
        assert_eq!(value(&tracked).as_deref(), Some("b"));
        assert!(tracked.set("app.x", plain("c"), interner));
        (0..3000).for_each(|n| tracked.savepoint(format!("t{n}").as_bytes()));
        assert!(!tracked.rollback_to(b"s0"), "there are forgotten ones with either value");
        assert_eq!(value(&tracked).as_deref(), Some("c"));
        tracked.commit();
        assert!(!tracked.rollback_to(b"s0"), "nobody has seen it made");
    }

    #[test]
    fn reset_returns_to_what_the_session_began_with() {
        let interner = &mut Interner::default();
        let start = Settings::new().with("app.x", plain("start")).unwrap();
        let mut tracked = Tracked::new(interner.intern(start.clone()));
        assert!(tracked.set("app.x", plain("2"), interner));
        tracked.reset("app.x", start.find("app.x"), interner);
        assert_eq!(value(&tracked).as_deref(), Some("start"));
        assert!(tracked.set("role", plain("r"), interner));
        tracked.reset_all(&Settings::new(), true, interner);
        assert_eq!((value(&tracked), tracked.current().find("role").is_some()), (None, true));
        tracked.reset_all(&Settings::new(), false, interner);
        assert!(tracked.current().is_empty());
    }
    #[test]
    fn another_session_user_has_no_role() {
        let interner = &mut Interner::default();
        let mut tracked = Tracked::new(interner.intern(Settings::new()));
        let roles = |tracked: &Tracked| tracked.current().find("role").is_some();
        assert!(
            tracked.set("session_authorization", plain("a"), interner) && tracked.set("role", plain("r"), interner)
        );
        assert!(roles(&tracked));
        assert!(tracked.set("session_authorization", plain("b"), interner));
        assert!(!roles(&tracked), "kept by SET SESSION AUTHORIZATION");
        assert!(tracked.set("role", plain("r"), interner));
        tracked.reset("session_authorization", None, interner);
        assert!(tracked.current().is_empty(), "kept by RESET SESSION AUTHORIZATION");
        tracked.commit();
    }
}
