//! Settings of the transaction alone, as far as they decide whose its statements are.

use wire::params::Value;

/// What SET LOCAL and its kin have set in this transaction, in order; the last one counts. `None`: back at the server's
/// default.
#[derive(Debug, Default)]
pub(super) struct Locals {
    values: Vec<(Box<str>, Option<Value>)>,
    /// Savepoints, and how many values there were.
    marks: Vec<(Box<[u8]>, usize)>,
    /// There may be one that is not among them.
    hides: bool,
}

/// Values kept in one transaction, and savepoints.
const MAX: usize = 1024;

impl Locals {
    /// A setting was made for the transaction, or for the session over one of the transaction. `false`: there are too many
    /// to keep it.
    pub(super) fn set(&mut self, name: &str, value: Option<Value>) -> bool {
        let marked = self.marks.last().map_or(0, |(_, values)| *values);
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

    /// SAVEPOINT. `false`: there are too many to keep it.
    pub(super) fn savepoint(&mut self, name: &[u8]) -> bool {
        let room = self.marks.len() < MAX;
        if room {
            self.marks.push((name.into(), self.values.len()));
        }
        self.hides |= !room;
        room
    }

    /// ROLLBACK TO. A savepoint that is not known is older than the first value.
    pub(super) fn rollback_to(&mut self, name: &[u8]) {
        match self.marks.iter().rposition(|(other, _)| &**other == name) {
            Some(at) => {
                let values = self.marks.get(at).map_or(0, |(_, values)| *values);
                self.values.truncate(values);
                self.marks.truncate(at + 1);
            }
            None => {
                self.values.clear();
                self.marks.clear();
            }
        }
    }

    /// RELEASE.
    pub(super) fn release(&mut self, name: &[u8]) {
        if let Some(at) = self.marks.iter().rposition(|(other, _)| &**other == name) {
            self.marks.truncate(at);
        }
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
        locals.rollback_to(b"b");
        assert_eq!(seen(&locals), value("2"));
        locals.release(b"b");
        locals.set("app.x", value("3"));
        locals.rollback_to(b"a");
        assert_eq!(seen(&locals), value("1"));
        locals.rollback_to(b"older than all of them");
        assert!(!locals.has("app.x"));
    }

    #[test]
    fn what_there_is_no_room_for_is_not_taken_for_nothing() {
        let mut locals = Locals::default();
        (0..MAX).for_each(|n| assert!(locals.set(&format!("app.s{n}"), None)));
        assert!(!locals.hides());
        assert!(!locals.set("client_encoding", value("SJIS")) && locals.hides());
        let mut locals = Locals::default();
        (0..MAX).for_each(|_| assert!(locals.savepoint(b"s")));
        assert!(!locals.hides());
        assert!(!locals.savepoint(b"s") && locals.hides());
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
