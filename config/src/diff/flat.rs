//! Settings as a table of keys and values, to be compared and shown.

use std::collections::BTreeMap;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// What is compared. Secrets are in it: it never leaves the comparison.
    pub(super) exact: String,
    /// What is shown; `None`: nothing of it.
    pub(super) shown: Option<String>,
}

/// Key path → value.
#[derive(Debug, Default)]
pub(super) struct Flat {
    all: BTreeMap<Vec<String>, Value>,
}

impl Flat {
    /// A value that is shown as it is compared.
    pub(super) fn put(&mut self, path: &[&str], value: impl ToString) {
        let exact = value.to_string();
        let shown = Some(exact.clone());
        self.insert(path, Value { exact, shown });
    }

    /// A secret, or what nobody would want to read.
    pub(super) fn hide(&mut self, path: &[&str], exact: String) {
        self.insert(path, Value { exact, shown: None });
    }

    /// A value that is shown in other words.
    pub(super) fn show(&mut self, path: &[&str], exact: String, shown: String) {
        self.insert(path, Value { exact, shown: Some(shown) });
    }

    fn insert(&mut self, path: &[&str], value: Value) {
        self.all.insert(path.iter().map(|segment| (*segment).to_owned()).collect(), value);
    }

    pub(super) fn get(&self, path: &[String]) -> Option<&Value> {
        self.all.get(path)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<String>> {
        self.all.keys()
    }
}
