//! Regular expressions in rules and maps.

use regex_lite::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take: rules are short, and a typing error must not take the memory.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression, without the slash that stands before it in the file. Its running time grows with the text's
/// length and never explodes.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        built.map(Self).map_err(|error| {
            format!(
                "has the regular expression \"{}\", which cannot be read: {error}; put it right",
                text.escape_debug()
            )
        })
    }

    /// Whether it finds something in the text.
    pub fn finds(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// What its first group matched; `None`: it found nothing, or has no group.
    pub fn first_group<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.0.captures(text)?.get(1).map(|group| group.as_str())
    }

    /// Whether it has a group to be put in for `\1`.
    pub fn has_group(&self) -> bool {
        self.0.captures_len() > 1
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}
