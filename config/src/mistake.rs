//! What is wrong with a configuration, told so that it can be put right: where, which key, what to do.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// The key, as `pool.size`; empty if none is to blame, as with broken syntax.
    pub key: String,
    /// What is wrong and what to do. Never quotes a secret.
    pub sentence: String,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column of the configuration file, both from 1; the column counts characters.
    File(u32, u32),
    /// A line, from 1, of another file than the configuration's own.
    Elsewhere(String, u32),
    /// A flag or variable of this name.
    Override(String),
    /// Something that is not written anywhere, as a key that is missing.
    Nowhere,
}

impl Mistake {
    /// `file:line: key: sentence`; without a place in the file, its name stands alone or gives way to the flag's.
    pub fn show(&self, file: &str) -> String {
        let place = match &self.place {
            Place::File(line, _) => format!("{file}:{line}"),
            Place::Elsewhere(file, line) => format!("{file}:{line}"),
            Place::Override(origin) => origin.clone(),
            Place::Nowhere => file.to_owned(),
        };
        match self.key.as_str() {
            "" => format!("{place}: {}", self.sentence),
            key => format!("{place}: {key}: {}", self.sentence),
        }
    }
}

/// All mistakes of a configuration, by their place in it. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Sorted by place; `None` without mistakes.
    pub(crate) fn from_list(mut list: Vec<Mistake>) -> Option<Self> {
        list.sort_by(|a, b| a.place.cmp(&b.place));
        list.dedup();
        (!list.is_empty()).then_some(Self(list))
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&mistake.show("configuration"))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
