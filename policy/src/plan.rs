//! A server's plan for a statement, as EXPLAIN (FORMAT JSON, VERBOSE) tells it: cleaned of values, and hashed.
//!
//! Conditions in a plan hold the statement's constants and bound values. What is kept of a plan is a list of known keys:
//! names and kinds as they are, conditions as the fingerprint's normaliser writes them, and numbers. What the server
//! computes for its result (`Output`) and every text that is not known is left out.
//!
//! ```
//! use policy::plan::Plan;
//!
//! let json = br#"[{"Plan": {"Node Type": "Seq Scan", "Relation Name": "orders", "Schema": "public",
//!     "Total Cost": 8.5, "Filter": "(orders.email = 'a@b.c'::text)"}}]"#;
//! let plan = Plan::read(json).unwrap();
//! assert_eq!(plan.short(), "Seq Scan on orders");
//! assert_eq!(plan.nodes["Filter"], "(orders.email = ?::text)");
//! ```

use std::fmt;
use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::fingerprint::{Compat, normalise};

/// Steps that the short form of a plan names; of a longer one, the first.
const MAX_STEPS: usize = 8;

/// Keys whose texts are names or kinds.
const NAMES: [&str; 20] = [
    "Node Type",
    "Parent Relationship",
    "Schema",
    "Relation Name",
    "Alias",
    "Index Name",
    "Join Type",
    "Strategy",
    "Partial Mode",
    "Scan Direction",
    "Subplan Name",
    "CTE Name",
    "Tuplestore Name",
    "Function Name",
    "Table Function Name",
    "Operation",
    "Command",
    "Custom Plan Provider",
    "Cache Mode",
    "Filter Strategy",
];

/// Keys whose texts, or lists of texts, are expressions.
const EXPRESSIONS: [&str; 19] = [
    "Filter",
    "Index Cond",
    "Recheck Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "TID Cond",
    "One-Time Filter",
    "Order By",
    "Sort Key",
    "Presorted Key",
    "Group Key",
    "Hash Key",
    "Cache Key",
    "Window",
    "Run Condition",
    "Function Call",
    "Table Function Call",
    "Remote SQL",
];

/// Settings of the planner whose values say where a statement runs rather than how: not shown.
const HIDDEN_SETTINGS: [&str; 1] = ["search_path"];

/// Longest text of one expression or name that is kept, in bytes.
const MAX_TEXT: usize = 2 * 1024;

/// A plan without values.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is equal for plans that do the same: kinds of nodes, relations, indexes, and the order in which they are
    /// joined; not costs, rows or conditions.
    pub hash: u64,
    /// The same without numbers in names.
    family: u64,
    /// What is read.
    relations: u64,
    /// The topmost node, with its children under `Plans`, each with the server's own keys.
    pub nodes: Value,
    /// Planner settings that are not at their defaults, by name.
    pub settings: Value,
    /// The server's estimate for the whole statement, in its own unit.
    pub total_cost: f64,
    /// What it does, step by step, from the top.
    pub steps: Vec<Box<str>>,
}

/// What the server said is not a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a plan in JSON")
    }
}

impl std::error::Error for Unreadable {}

impl Plan {
    /// Reads the one value of EXPLAIN (FORMAT JSON).
    ///
    /// # Errors
    /// It is something else, or nested deeper than 128 levels.
    pub fn read(json: &[u8]) -> Result<Self, Unreadable> {
        let whole: Value = serde_json::from_slice(json).map_err(|_| Unreadable)?;
        let first = whole.get(0).and_then(Value::as_object).ok_or(Unreadable)?;
        let top = first.get("Plan").and_then(Value::as_object).ok_or(Unreadable)?;
        let mut hash = Xxh3::new();
        let mut steps = Vec::new();
        digest(top, false, &mut hash);
        let (mut family, mut relations) = (Xxh3::new(), Xxh3::new());
        digest(top, true, &mut family);
        name_relations(top, &mut relations);
        walk(top, &mut steps);
        Ok(Self {
            hash: hash.digest(),
            family: family.digest(),
            relations: relations.digest(),
            nodes: cleaned(top),
            settings: first.get("Settings").map_or(Value::Null, settings),
            total_cost: top.get("Total Cost").and_then(Value::as_f64).unwrap_or(0.0),
            steps,
        })
    }

    /// Its steps in one line.
    pub fn short(&self) -> String {
        joined(self.steps.iter())
    }

    /// Whether both read parts of one table alike, each another one: where a single part is left of a partitioned table, the
    /// plan says nothing of the table. One text reads another relation by the same path for no other reason.
    pub fn reads_another_part(&self, other: &Self) -> bool {
        self.family == other.family && self.relations != other.relations
    }

    /// Bytes that it takes, roughly.
    pub fn size(&self) -> usize {
        let steps: usize = self.steps.iter().map(|step| step.len() + size_of::<Box<str>>()).sum();
        weight(&self.nodes) + weight(&self.settings) + steps
    }

    /// What is different between two plans, each in one line: the steps that the other one does not have. Where they have
    /// the same steps in another order, all of them.
    pub fn difference(&self, after: &Self) -> (String, String) {
        let without = |some: &Self, other: &Self| {
            let mut left: FxHashMap<&str, usize> = FxHashMap::default();
            other.steps.iter().for_each(|step| *left.entry(step).or_default() += 1);
            let mut own = Vec::new();
            for step in &some.steps {
                match left.get_mut(&**step).filter(|count| **count > 0) {
                    Some(count) => *count -= 1,
                    None => own.push(step),
                }
            }
            joined(own.into_iter())
        };
        let (gone, come) = (without(self, after), without(after, self));
        if gone.is_empty() || come.is_empty() { (self.short(), after.short()) } else { (gone, come) }
    }
}

/// Hashes what is read, in order.
fn name_relations(node: &Map<String, Value>, hash: &mut Xxh3) {
    hash.update(text(node, "Relation Name").as_bytes());
    hash.update(&[0]);
    children(node).for_each(|child| name_relations(child, hash));
}

fn joined<'a>(steps: impl ExactSizeIterator<Item = &'a Box<str>>) -> String {
    let more = steps.len().saturating_sub(MAX_STEPS);
    let mut text = String::new();
    for step in steps.take(MAX_STEPS) {
        text += if text.is_empty() { "" } else { ", " };
        text += step;
    }
    if more > 0 {
        // A String takes whatever is written to it.
        _ = write!(text, ", … {more} more");
    }
    text
}

fn text<'a>(node: &'a Map<String, Value>, key: &str) -> &'a str {
    node.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn children(node: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    node.get("Plans").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// Its children are parts of one table: which of them are read depends on values and on the day.
fn is_of_parts(node: &Map<String, Value>) -> bool {
    matches!(text(node, "Node Type"), "Append" | "Merge Append" | "MergeAppend" | "Custom Scan")
}

/// Hashes what a node does. `part`: it reads one of many partitions, whose numbers do not count.
fn digest(node: &Map<String, Value>, part: bool, hash: &mut Xxh3) {
    for key in ["Node Type", "Schema", "Relation Name", "Index Name"] {
        let masked = part && key != "Node Type";
        let name = text(node, key);
        if masked {
            hash.update(without_numbers(name).as_bytes());
        } else {
            hash.update(name.as_bytes());
        }
        hash.update(&[0]);
    }
    for key in [
        "Join Type",
        "Parent Relationship",
        "Strategy",
        "Partial Mode",
        "Scan Direction",
        "Operation",
        "CTE Name",
        "Function Name",
        "Custom Plan Provider",
    ] {
        hash.update(text(node, key).as_bytes());
        hash.update(&[0]);
    }
    let parts = part || is_of_parts(node);
    let mut last = None;
    for child in children(node) {
        let mut own = Xxh3::new();
        digest(child, parts, &mut own);
        let own = own.digest();
        // Ten partitions that are read alike are one.
        if !parts || last != Some(own) {
            hash.update(&own.to_le_bytes());
        }
        last = Some(own);
    }
    hash.update(&[1]);
}

/// `events_2026_11_28` and `events_2026_11_29` are parts of one table.
fn without_numbers(name: &str) -> String {
    let mut masked = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter.is_ascii_digit() {
            true if masked.ends_with('#') => {}
            true => masked.push('#'),
            false => masked.push(letter),
        }
    }
    masked
}

fn walk(node: &Map<String, Value>, steps: &mut Vec<Box<str>>) {
    let mut step = text(node, "Node Type").to_owned();
    let join = text(node, "Join Type");
    if !matches!(join, "" | "Inner") {
        step = format!("{step} ({join})");
    }
    let index = text(node, "Index Name");
    if !index.is_empty() {
        step = format!("{step} using {index}");
    }
    let relation = ["Relation Name", "CTE Name", "Function Name"].map(|key| text(node, key));
    if let Some(relation) = relation.into_iter().find(|name| !name.is_empty()) {
        step = format!("{step} on {relation}");
    }
    // Parts of one table that are read alike are one step.
    if steps.last().is_none_or(|last| without_numbers(last) != without_numbers(&step)) {
        steps.push(step.into());
    }
    children(node).for_each(|child| walk(child, steps));
}

/// What of a node may be kept.
fn cleaned(node: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for (key, value) in node {
        let value = match (key.as_str(), value) {
            ("Plans", Value::Array(plans)) => {
                plans.iter().filter_map(Value::as_object).map(cleaned).collect::<Vec<_>>().into()
            }
            (_, Value::Number(_) | Value::Bool(_)) => value.clone(),
            (key, Value::String(name)) if NAMES.contains(&key) => shortened(name).into(),
            (key, Value::String(expression)) if EXPRESSIONS.contains(&key) => bare(expression).into(),
            (key, Value::Array(list)) if EXPRESSIONS.contains(&key) => {
                list.iter().filter_map(Value::as_str).map(bare).collect::<Vec<_>>().into()
            }
            _ => continue,
        };
        kept.insert(key.clone(), value);
    }
    kept.into()
}

/// An expression without its constants. It is read as a part of a select list, where all of them go.
fn bare(expression: &str) -> String {
    const LEAD: &str = "select ";
    let normal = normalise(format!("{LEAD}{expression}").as_bytes(), Compat::V15);
    shortened(normal.strip_prefix(LEAD).unwrap_or_default()).to_owned()
}

fn shortened(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn settings(said: &Value) -> Value {
    let mut kept = Map::new();
    for (name, value) in said.as_object().into_iter().flatten() {
        if let (Some(value), false) = (value.as_str(), HIDDEN_SETTINGS.contains(&name.as_str())) {
            kept.insert(name.clone(), shortened(value).into());
        }
    }
    kept.into()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 32,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 64 + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 16,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(top: Value) -> Plan {
        Plan::read(json!([{ "Plan": top }]).to_string().as_bytes()).unwrap()
    }

    fn scan(relation: &str) -> Value {
        json!({"Node Type": "Seq Scan", "Relation Name": relation, "Schema": "public", "Alias": relation})
    }

    #[test]
    fn no_constant_of_a_condition_is_kept_whatever_its_kind() {
        let secrets = [
            ("Filter", json!("((t.a = 'geheim'::text) AND (t.b > 4711) AND (t.c = '{geheim,4711}'::text[]))")),
            ("Index Cond", json!("(t.a = ANY ('{geheim}'::text[]))")),
            ("Hash Cond", json!("((t.a || 'it''s geheim'::text) = 'geheim\\'::text)")),
            ("Sort Key", json!(["t.a", "((t.b + 4711))", "('geheim'::text) DESC"])),
            ("One-Time Filter", json!("(current_setting('geheim'::text) = '4711'::text)")),
            ("Function Call", json!("generate_series(4711, 4711)")),
            ("Output", json!(["'geheim'::text", "4711"])),
            ("Remote SQL", json!("SELECT a FROM t WHERE ((a = 'geheim'))")),
            ("Something New", json!("geheim")),
            ("Worker Details", json!([{"geheim": "4711"}])),
            ("Order By", json!("(t.p <-> '(4711,4711)'::point)")),
        ];
        for (key, value) in secrets {
            let read = plan(json!({"Node Type": "Seq Scan", key: value, "Plans": [{"Node Type": "Sort", key: value}]}));
            let shown = read.nodes.to_string() + &read.short() + &read.settings.to_string();
            assert!(!shown.contains("geheim") && !shown.contains("4711"), "{key}: {shown}");
        }
        let read = plan(json!({"Node Type": "Seq Scan", "Filter": "(orders.a = 'x'::text)", "Plan Rows": 4711}));
        assert_eq!(read.nodes["Filter"], "(orders.a = ?::text)");
        assert_eq!(read.nodes["Plan Rows"], 4711, "an estimate is no value");
    }

    #[test]
    fn settings_are_kept_but_those_that_say_where() {
        let json = json!([{"Plan": scan("t"), "Settings": {"work_mem": "64MB", "search_path": "tenant_7"}}]);
        let read = Plan::read(json.to_string().as_bytes()).unwrap();
        assert_eq!(read.settings, json!({"work_mem": "64MB"}));
    }

    #[test]
    fn a_hash_tells_kinds_relations_indexes_and_their_order_and_nothing_else() {
        let with = |more: Value| {
            let mut node = scan("orders");
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            plan(node).hash
        };
        let one = with(json!({}));
        assert_eq!(one, with(json!({"Total Cost": 9.0, "Plan Rows": 7, "Filter": "(a = 1)", "Alias": "o"})));
        assert_ne!(one, plan(scan("events")).hash);
        assert_ne!(one, with(json!({"Node Type": "Index Scan"})));
        assert_ne!(with(json!({"Index Name": "a"})), with(json!({"Index Name": "b"})));
        assert_ne!(one, with(json!({"Schema": "other"})));
        let join = |a, b| plan(json!({"Node Type": "Nested Loop", "Plans": [scan(a), scan(b)]})).hash;
        assert_ne!(join("a", "b"), join("b", "a"));
        assert_ne!(join("a", "b"), join("a1", "b1"), "numbers count outside of partitions");
    }

    #[test]
    fn the_partitions_of_the_day_are_no_other_plan() {
        let of_days = |days: std::ops::Range<u32>| {
            let parts: Vec<_> = days.map(|day| scan(&format!("events_2026_11_{day}"))).collect();
            plan(json!({"Node Type": "Append", "Plans": parts}))
        };
        assert_eq!(of_days(1..3).hash, of_days(7..29).hash);
        assert_eq!(of_days(1..9).short(), "Append, Seq Scan on events_2026_11_1");
    }

    /// Of a table with parts one of which alone is read, the server plans as of that part.
    #[test]
    fn a_single_partition_of_another_day_is_told_from_another_plan() {
        let day = |day: u32, index: &str| {
            let mut node = scan(&format!("events_2026_11_{day}"));
            let more = json!({"Node Type": "Index Scan", "Index Name": format!("events_2026_11_{day}_{index}")});
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            plan(json!({"Node Type": "Limit", "Plans": [node]}))
        };
        assert_ne!(day(28, "at_idx").hash, day(29, "at_idx").hash);
        assert!(day(28, "at_idx").reads_another_part(&day(29, "at_idx")));
        assert!(!day(28, "at_idx").reads_another_part(&day(29, "kind_idx")), "by another index");
        assert!(!day(28, "at_idx").reads_another_part(&day(28, "at_idx")), "the same");
        let by = |index: &str| plan(json!({"Node Type": "Index Scan", "Relation Name": "orders", "Index Name": index}));
        assert!(
            !by("orders_idx1").reads_another_part(&by("orders_idx2")),
            "another index of one table is another plan"
        );
    }

    #[test]
    fn a_difference_names_what_is_new_and_what_has_gone() {
        let index = json!({"Node Type": "Index Scan", "Relation Name": "orders", "Index Name": "orders_pkey"});
        let before = plan(json!({"Node Type": "Limit", "Plans": [index]}));
        let after = plan(json!({"Node Type": "Limit", "Plans": [scan("orders")]}));
        let told = before.difference(&after);
        assert_eq!(told, ("Index Scan using orders_pkey on orders".into(), "Seq Scan on orders".into()));
        let turned = plan(json!({"Node Type": "Nested Loop", "Plans": [scan("a"), scan("b")]}));
        let other = plan(json!({"Node Type": "Nested Loop", "Plans": [scan("b"), scan("a")]}));
        assert_eq!(turned.difference(&other).0, "Nested Loop, Seq Scan on a, Seq Scan on b");
        let left = plan(json!({"Node Type": "Hash Join", "Join Type": "Left", "Plans": []}));
        assert_eq!(left.short(), "Hash Join (Left)");
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(scan).into();
        let wide = plan(json!({"Node Type": "Append", "Plans": many}));
        assert!(wide.short().ends_with(", … 2 more"), "{}", wide.short());
    }

    #[test]
    fn what_is_no_plan_is_refused_and_never_panics() {
        let whole = json!([{"Plan": {"Node Type": "Sort", "Sort Key": ["a"], "Plans": [scan("t")]}}]).to_string();
        for cut in 0..whole.len() {
            assert_eq!(Plan::read(&whole.as_bytes()[..cut]), Err(Unreadable));
        }
        for other in ["[]", "{}", "[1]", "[{\"Plan\": 1}]", "null", &"[".repeat(4_000)] {
            assert_eq!(Plan::read(other.as_bytes()), Err(Unreadable), "{other:.20}");
        }
    }
}
