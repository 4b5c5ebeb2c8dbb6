//! What a text means besides its words: constants become values when it is prepared, by the settings that hold then, and
//! bytes beyond ASCII are characters of the client's encoding.
//!
//! Statements that depend on it are shared by those alone whose settings are the same there.

use wire::params::{Interner, Settings, Value};
use xxhash_rust::xxh3::Xxh3;

use super::Session;
use super::statement::{Known, Prepared};
use crate::schemas::Place;
use crate::upstream::Upstream;

/// Settings that decide what a constant means when its text is prepared, and what its characters are.
const INPUT: [&str; 11] = [
    "array_nulls",
    "client_encoding",
    "datestyle",
    "default_text_search_config",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "standard_conforming_strings",
    "timezone",
    NULL_EQUALS,
    "xmloption",
];

/// The one that also decides what words mean: `= NULL`, or `IS NULL`.
const NULL_EQUALS: &str = "transform_null_equals";

/// What is said of them, hashed. Never 0.
pub(super) fn input_of(settings: &Settings) -> u64 {
    let mut input = Xxh3::new();
    for name in INPUT {
        if let Some(Value::Plain(bytes) | Value::Clause(bytes)) = settings.find(name) {
            input.update(name.as_bytes());
            input.update(bytes);
            input.update(&[0]);
        }
    }
    input.digest().max(1)
}

impl Session {
    /// Where and when the client prepares this text now, and by which settings, where it depends on them.
    pub(super) fn place_of(
        &self,
        upstream: &mut Upstream,
        interner: &mut Interner,
        known: &Known,
        query: &[u8],
    ) -> (Place, u64) {
        let place = self.place(upstream);
        if !known.has_strings && query.is_ascii() && !self.may_compare_null(upstream) {
            return (place, 0);
        }
        let input = match upstream.work.locals.over(self.settings.current(), interner) {
            Some(settings) => input_of(&settings),
            // Some of them hold for the transaction alone and are not known: nobody else has prepared this.
            None => self.worker.shared.next_id(),
        };
        (Place { path: place.path ^ input, ..place }, input)
    }

    /// Whether `= NULL` may be read as `IS NULL`, which no word of a text shows.
    fn may_compare_null(&self, upstream: &Upstream) -> bool {
        upstream.work.locals.may_have(NULL_EQUALS) || self.settings.current().find(NULL_EQUALS).is_some()
    }

    /// A statement is to be prepared once more, on another upstream. Under other settings than it was first it may come to
    /// something else, which nobody else must get.
    pub(super) fn guards_meaning(&self, upstream: &mut Upstream, prepared: &Prepared) {
        if prepared.input == 0 && !self.may_compare_null(upstream) {
            return;
        }
        let interner = &mut self.worker.brain.borrow_mut().interner;
        let settings = upstream.work.locals.over(self.settings.current(), interner);
        if settings.is_none_or(|settings| input_of(&settings) != prepared.input) {
            upstream.tainted = true;
        }
    }
}
