//! `[cache]`: what of it a reload may change.

use super::{Flat, given};
use crate::units::{show_duration, show_size};
use crate::{Cache, CachePreset};

pub(super) fn put_cache(all: &mut Flat, cache: &Cache) {
    all.put(&["cache", "mode"], cache.mode.word());
    all.put(&["cache", "max_bytes"], show_size(cache.max_bytes));
    all.put(&["cache", "max_entry"], show_size(cache.max_entry));
    all.put(&["cache", "tenant_share"], cache.tenant_share);
    all.put(&["cache", "min_cost"], show_duration(cache.min_cost));
    all.put(&["cache", "sole_writer"], cache.sole_writer);
    all.put(&["cache", "publication"], &cache.publication);
    all.put(&["cache", "catalog_poll"], show_duration(cache.catalog_poll));
    all.put(&["cache", "preset"], given(cache.preset.map(CachePreset::word)));
    all.show(&["cache", "rule"], format!("{:?}", cache.rules), format!("{} rules", cache.rules.len()));
}

/// Whether the new ones are the first rules of the process: what was written before was not followed.
pub(super) fn follows_anew(old: &Cache, new: &Cache) -> bool {
    !old.follows() && new.follows()
}

/// Why the first rules wait for a restart.
pub(super) const FIRST_RULES: &str = "the process began without cache rules, so it has not followed what was written, and a \
    kept answer could be out of date: whatever cache.mode says, nothing is cached until a restart";

/// Whether rules come by this key.
pub(super) fn brings_rules(path: &[&str]) -> bool {
    matches!(path, ["cache", "rule" | "preset"])
}

impl Cache {
    /// The same with those of `running` where a change needs a restart.
    pub(super) fn without_restart(&mut self, running: &Self) {
        if follows_anew(running, self) {
            self.rules.clear();
            self.preset = None;
        }
        self.followed = running.follows();
        self.max_bytes = running.max_bytes;
        // Both were within their own bound.
        self.max_entry = self.max_entry.min(running.max_bytes);
        self.sole_writer = running.sole_writer;
        self.publication.clone_from(&running.publication);
    }
}
