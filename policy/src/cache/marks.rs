//! What an operator ends answers by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::generation::Counter;

/// By what an operator may end an answer, besides its tables: the tags of its rule, kept beside that, and its tenant, kept
/// beside the session.
#[derive(Clone, Debug)]
pub struct Marks {
    /// See [`Database::tags`](super::Database::tags).
    pub tags: Arc<[Arc<Counter>]>,
    /// See [`Database::tenant`](super::Database::tenant).
    pub tenant: Arc<Counter>,
}

impl Marks {
    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.tags.iter().chain([&self.tenant]).map(Arc::as_ref)
    }
}

/// What an operator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// Answers by rules with this tag.
    Tag(&'a str),
    /// Answers about this table.
    Table(u32),
    /// Answers to this tenant.
    Tenant(&'a str),
    /// All of them.
    All,
}

/// Tags and tenants that have a counter of their own; what comes behind them shares one, so that to end one of these ends
/// all of these.
const MAX_MARKS: usize = 16 * 1024;

/// The counters of a database's tags and tenants.
#[derive(Debug, Default)]
pub(super) struct Marked {
    tags: BTreeMap<Box<str>, Arc<Counter>>,
    tenants: BTreeMap<Box<str>, Arc<Counter>>,
    others: Arc<Counter>,
}

impl Marked {
    fn of<'a>(map: &'a mut BTreeMap<Box<str>, Arc<Counter>>, others: &'a Arc<Counter>, name: &str) -> &'a Arc<Counter> {
        if !map.contains_key(name) && map.len() >= MAX_MARKS {
            return others;
        }
        map.entry(name.into()).or_default()
    }

    pub(super) fn tag(&mut self, name: &str) -> &Arc<Counter> {
        Self::of(&mut self.tags, &self.others, name)
    }

    pub(super) fn tenant(&mut self, name: &str) -> &Arc<Counter> {
        Self::of(&mut self.tenants, &self.others, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_beyond_their_bound_are_ended_together() {
        let mut marked = Marked::default();
        let own = Arc::clone(marked.tenant("0"));
        (1..MAX_MARKS).for_each(|n| drop(Arc::clone(marked.tenant(&n.to_string()))));
        let (one, two) = (Arc::clone(marked.tenant("one")), Arc::clone(marked.tenant("two")));
        assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&own, marked.tenant("0")));
        assert!(!Arc::ptr_eq(&one, marked.tag("one")), "tags have a bound of their own");
    }
}
