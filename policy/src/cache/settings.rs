//! The settings of a session that may change a reply.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// Settings that change no reply: limits, logging, planning, housekeeping. Everything else is taken to change one, custom
/// settings and those of extensions and of later releases among it. `search_path` is not here: functions and operators are
/// found by it.
const HARMLESS: &[&str] = &[
    "application_name",
    "client_connection_check_interval",
    "commit_delay",
    "commit_siblings",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "deadlock_timeout",
    "debug_pretty_print",
    "debug_print_parse",
    "debug_print_plan",
    "debug_print_rewritten",
    "default_statistics_target",
    "effective_cache_size",
    "effective_io_concurrency",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "transaction_timeout",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "work_mem",
];

/// Families of them.
const HARMLESS_FAMILIES: &[&str] = &["enable_", "log_", "track_", "vacuum_"];

/// Whether a setting may change what a reply holds. In doubt it does.
///
/// ```
/// use policy::cache::changes_output;
/// assert!(changes_output("DateStyle") && changes_output("app.tenant_id") && changes_output("new_in_20"));
/// assert!(!changes_output("work_mem") && !changes_output("enable_seqscan"));
/// ```
pub fn changes_output(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A custom one may be called anything behind its dot, and before it.
    let own = name.contains('.');
    let harmless = HARMLESS.contains(&name.as_str()) || HARMLESS_FAMILIES.iter().any(|family| name.starts_with(family));
    own || !harmless
}

/// The same in SQL: a condition on the column `name`.
///
/// ```
/// let sql = policy::cache::changes_output_sql();
/// assert!(sql.contains("'work_mem'") && sql.contains("'^(enable_|log_"));
/// ```
pub fn changes_output_sql() -> String {
    let (names, families) = (HARMLESS.join("', '"), HARMLESS_FAMILIES.join("|"));
    format!("(name ~ '[.]' OR lower(name) NOT IN ('{names}') AND name !~* '^({families})')")
}

/// A set of settings. Equal ids are equal sets; none is ever given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SettingsId(u64);

impl SettingsId {
    /// The same as a number, for a key.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// More sets than this at once are not told apart: who meets one more caches nothing.
const MAX_SETS: usize = 16 * 1024;
/// Longer sets are not either.
const MAX_BYTES: usize = 64 * 1024;

/// The sets of settings that are in use, each by its id. They are compared in full: a digest could be made to collide by
/// who may set a setting of his own. Asked when a session's settings change, not for each statement.
#[derive(Debug, Default)]
pub struct OutputSettings {
    ids: FxHashMap<Box<[u8]>, SettingsId>,
    bytes: usize,
    next: u64,
}

/// Bytes of all sets together.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

impl OutputSettings {
    /// The id of a session's settings: all that are known to differ from the server's own, with those that the server
    /// reports. Those without a say are left out. `None`: there are too many; its statements are not cached.
    pub fn id<'a>(&mut self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<SettingsId> {
        let bytes = canonical(settings)?;
        if let Some(id) = self.ids.get(bytes.as_slice()) {
            return Some(*id);
        }
        if self.ids.len() >= MAX_SETS || self.bytes + bytes.len() > MAX_TOTAL {
            return None;
        }
        let id = SettingsId(self.next);
        self.next += 1;
        self.bytes += bytes.len();
        self.ids.insert(bytes.into(), id);
        Some(id)
    }

    /// Whether one more may find no room.
    pub fn is_full(&self) -> bool {
        self.ids.len() >= MAX_SETS || self.bytes + MAX_BYTES > MAX_TOTAL
    }

    /// Forgets all sets. Ids that are out are not given again: what was kept under them is not found by others.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.bytes = 0;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Names in lower case and in order, the last value of each, every piece behind its length.
fn canonical<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Vec<u8>> {
    let kept = settings.into_iter().filter(|(name, _)| changes_output(name));
    let sorted: BTreeMap<String, &str> = kept.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let mut bytes = Vec::new();
    for piece in sorted.iter().flat_map(|(name, value)| [name.as_str(), value]) {
        bytes.extend_from_slice(&u32::try_from(piece.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(piece.as_bytes());
        if bytes.len() > MAX_BYTES {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_never_come_again_take_no_room_from_those_that_do_and_no_id_comes_twice() {
        let mut sets = OutputSettings::default();
        let mut given = std::collections::BTreeSet::new();
        for n in 0..3 * MAX_SETS {
            if sets.is_full() {
                sets.clear();
            }
            let token = n.to_string();
            let id = sets.id([("request.jwt.claims", token.as_str())]).expect("there is room again");
            assert!(given.insert(id.number()), "{n}");
        }
        let long = "x".repeat(MAX_BYTES / 2);
        for n in 0..2 * MAX_TOTAL / long.len() {
            if sets.is_full() {
                sets.clear();
            }
            let token = format!("{n}{long}");
            assert!(sets.id([("app.x", token.as_str())]).is_some(), "{n}");
            assert!(sets.bytes <= MAX_TOTAL);
        }
    }

    #[test]
    fn every_setting_of_the_list_tells_sets_apart() {
        let mut sets = OutputSettings::default();
        let plain = sets.id([]).unwrap();
        for name in [
            "client_encoding",
            "DateStyle",
            "IntervalStyle",
            "TimeZone",
            "extra_float_digits",
            "bytea_output",
            "xmlbinary",
            "xmloption",
            "lc_monetary",
            "lc_numeric",
            "lc_time",
            "lc_messages",
            "default_text_search_config",
            "array_nulls",
            "standard_conforming_strings",
            "search_path",
            "row_security",
            "app.tenant_id",
            "request.jwt.claims",
            "enable_x.y",
            "backslash_quote",
            "transform_null_equals",
            "session_replication_role",
            "unheard_of",
        ] {
            let one = sets.id([(name, "one")]).unwrap();
            let two = sets.id([(name, "two")]).unwrap();
            assert!(one != plain && two != plain && one != two, "{name}");
            assert_eq!(sets.id([(name.to_uppercase().as_str(), "one")]), Some(one));
        }
    }

    #[test]
    fn what_changes_no_reply_does_not() {
        let mut sets = OutputSettings::default();
        let plain = sets.id([]).unwrap();
        for name in
            ["application_name", "Statement_Timeout", "work_mem", "enable_seqscan", "log_min_duration_statement"]
        {
            assert_eq!(sets.id([(name, "x")]), Some(plain), "{name}");
        }
    }

    #[test]
    fn order_does_not_matter_and_ends_do() {
        let mut sets = OutputSettings::default();
        assert_eq!(sets.id([("a.a", "1"), ("a.b", "2")]), sets.id([("a.b", "2"), ("a.a", "0"), ("a.a", "1")]));
        let mut different =
            |one: &[(&str, &str)], two: &[(&str, &str)]| sets.id(one.iter().copied()) != sets.id(two.iter().copied());
        assert!(different(&[("a.a", "1")], &[("a.a1", "")]));
        assert!(different(&[("a.a", "b.b1")], &[("a.a", ""), ("b.b", "1")]));
        assert!(different(&[("a.a", "")], &[]));
    }

    #[test]
    fn they_are_bounded_and_ids_are_never_given_again() {
        let mut sets = OutputSettings::default();
        let value = |n: usize| n.to_string();
        let first = sets.id([("a.a", value(0).as_str())]).unwrap();
        for n in 1..MAX_SETS {
            assert!(sets.id([("a.a", value(n).as_str())]).is_some());
        }
        assert_eq!(sets.id([("a.a", "one more")]), None);
        assert_eq!(sets.id([("a.a", "0")]), Some(first), "those that are known still are");
        sets.clear();
        assert!(sets.is_empty());
        assert!(sets.id([("a.a", "0")]).unwrap().number() >= MAX_SETS as u64);
        assert_eq!(sets.len(), 1);
        assert_eq!(sets.id([("a.a", "x".repeat(MAX_BYTES).as_str())]), None);
    }
}
