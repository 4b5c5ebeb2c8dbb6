//! Settings of the transaction alone, as far as they decide whose its statements are.

use wire::params::Value;

use crate::upstream::savepoints::Savepoints;

/// What SET LOCAL and its kin have set in this transaction, in order; the last one counts. `None`: back at the server's
/// default.
#[derive(Debug, Default)]
pub(super) struct Locals {
    values: Vec<(Box<str>, Option<Value>)>,
    /// Savepoints, and how many values there were.
    marks: Savepoints<usize>,
    /// There may be one that is not among them.
    hides: bool,
}

/// Values kept in one transaction.
const MAX: usize = 1024;

impl Locals {
    /// A setting was made for the transaction, or for the session over one of the transaction. `false`: there are too many
    /// to keep it.
    pub(super) fn set(&mut self, name: &str, value: Option<Value>) -> bool {
        let marked = self.marks.last().map_or(0, |values| *values);
        let since = self.values.get_mut(marked..).unwrap_or_default();
        if let Some((_, known)) = since.iter_mut().rev().find(|(other, _)| **other == *name) {
            // Nothing can return to the one in between.
            *known = value;
        } else if self.values.len() < MAX {
            self.values.push((name.into(), value));
        } else {
            self.hides = true;
            return false;
        }
        true
    }

    /// Bytes of all values.
    pub(super) fn bytes(&self) -> usize {
        let size = |value: &Value| match value {
            Value::Plain(bytes) | Value::Clause(bytes) => bytes.len(),
        };
        self.values.iter().filter_map(|(_, value)| value.as_ref()).map(size).sum()
    }

    /// Whether this setting has a value of the transaction's own.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| **known == *name)
    }

    /// One was made that is not seen: until the end of the transaction any setting may have another value.
    pub(super) fn hide(&mut self) {
        self.hides = true;
    }

    /// Whether there may be one that is not known.
    pub(super) fn hides(&self) -> bool {
        self.hides
    }

    /// The value that counts, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Option<&Value>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// SAVEPOINT. `false`: there are too many to keep all.
    pub(super) fn savepoint(&mut self, name: &[u8]) -> bool {
        self.marks.set(name, self.values.len())
    }

    /// ROLLBACK TO. `false`: the server may have returned to
    /// other values than these.
    #[must_use]
    pub(super) fn rollback_to(&mut self, name: &[u8]) -> bool {
        let Some(values) = self.marks.return_to(name) else {
            self.hides = true;
            return false;
        };
        self.values.truncate(values);
        true
    }

    /// RELEASE.
    pub(super) fn release(&mut self, name: &[u8]) {
        self.marks.release(name);
    }

    /// The values, the one that counts first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&Value>)> {
        self.values.iter().rev().map(|(name, value)| (&**name, value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<Value> {
        Some(Value::Plain(text.as_bytes().into()))
    }

    fn seen(locals: &Locals) -> Option<Value> {
        locals.iter().find(|(name, _)| *name == "app.x").and_then(|(_, value)| value.cloned())
    }

    #[test]
    fn a_rollback_to_a_savepoint_takes_them_back() {
        let mut locals = Locals::default();
        locals.set("app.x", value("1"));
        locals.savepoint(b"a");
        locals.set("app.x", value("2"));
        locals.savepoint(b"b");
        locals.set("app.x", None);
        assert_eq!(seen(&locals), None);
        assert!(locals.rollback_to(b"b"));
        assert_eq!(seen(&locals), value("2"));
        locals.release(b"b");
        locals.set("app.x", value("3"));
        assert!(locals.rollback_to(b"a"));
        assert_eq!(seen(&locals), value("1"));
        assert!(locals.rollback_to(b"older than all of them"));
        assert!(!locals.has("app.x"));
    }

    #[test]
    fn a_rollback_to_a_savepoint_that_is_forgotten_keeps_what_was_set_before_it() {
        let mut locals = Locals::default();
        locals.set("app.x", value("1"));
        (0..3000).for_each(|n| _ = locals.savepoint(format!("s{n}").as_bytes()));
        locals.set("app.x", value("2"));
        assert!(locals.rollback_to(b"s2999"));
        assert_eq!(seen(&locals), value("1"));
        assert!(!locals.hides());
        assert!(!locals.rollback_to(b"s0"), "or is it one from before the first value?");
        assert_eq!(seen(&locals), value("1"));
        assert!(locals.hides(), "who knows which values there are");
    }

    #[test]
    fn what_there_is_no_room_for_is_not_taken_for_nothing() {
        let mut locals = Locals::default();
        (0..MAX).for_each(|n| assert!(locals.set(&format!("app.s{n}"), None)));
        assert!(!locals.hides());
        assert!(!locals.set("client_encoding", value("SJIS")) && locals.hides());
    }

    #[test]
    fn one_setting_again_and_again_takes_one_place() {
        let mut locals = Locals::default();
        for n in 0..MAX * 2 {
            locals.set("app.x", value(&n.to_string()));
        }
        assert_eq!((locals.values.len(), seen(&locals)), (1, value(&(MAX * 2 - 1).to_string())));
    }
}
