//! Relations that write when they are read: a view or a policy whose function does.
//!
//! A text that names one does not show it: what is named is read, and nothing is called. There are hardly any, so they are
//! looked for once for each catalog.

use std::collections::BTreeSet;

use super::super::text::Text;
use super::{Acts, Catalog};

/// The names of relations, and of functions that are written as columns, whose reading may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotQuiet(BTreeSet<Box<str>>);

impl Catalog {
    /// Those of this catalog.
    pub fn not_quiet(&self) -> NotQuiet {
        let writes = |text: &str| {
            let acts = Acts::of(format!("select {text}").as_bytes());
            !self.touched(&acts, None, &|_| None).is_nothing()
        };
        let reading = self.rewrites.values().flatten().filter(|rewrite| rewrite.ops.is_none());
        let views: Vec<_> = reading.collect();
        let mut found: BTreeSet<u32> =
            views.iter().filter(|view| writes(&view.text)).map(|view| view.relation).collect();
        found.extend(
            self.policies.values().flatten().filter(|policy| writes(&policy.text)).map(|policy| policy.relation),
        );
        // Views of such ones, and so on: as many rounds as there are views on top of each other.
        loop {
            let before = found.len();
            let above = views.iter().filter(|view| view.uses.iter().any(|used| found.contains(used)));
            let above: Vec<u32> = above.map(|view| view.relation).collect();
            found.extend(above);
            if found.len() == before {
                break;
            }
        }
        let mut names: BTreeSet<Box<str>> =
            found.iter().filter_map(|oid| self.relation(*oid)).map(|relation| relation.name.clone()).collect();
        // `row.name` calls a function that takes a row.
        let columns = self.functions.values().filter(|function| function.takes_row);
        let calls = |name: &str| {
            let acts = Acts::of(format!("select \"{}\"(null)", name.replace('"', "\"\"")).as_bytes());
            !self.touched(&acts, None, &|_| None).is_nothing()
        };
        names.extend(columns.filter(|function| calls(&function.name)).map(|function| function.name.clone()));
        NotQuiet(names)
    }
}

impl NotQuiet {
    /// Whether a text names one, wherever that stands.
    pub fn names_one(&self, sql: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let text = Text::new(sql);
        let named = |at: usize| text.name(at).is_some_and(|name| self.0.contains(name.as_str()));
        text.broken || (0..text.tokens.len()).any(named)
    }
}
