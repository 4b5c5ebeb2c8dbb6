//! docs/config.schema.json, made of the table of keys: what an editor completes and checks a configuration by.
//!
//! It is as strict as a schema can be: whatever it accepts and the parser refuses is a matter of several keys together, of
//! a file, or of a variable's value.

use serde_json::{Map, Value, json};

use crate::LimitKey;
use crate::schema::{self, Kind, LIMITS, LIMITS_TABLE, POOL, Reload, Row, SECTIONS};

/// Keys without which a table is a mistake.
const REQUIRED: &[(&str, &[&str])] = &[
    ("databases.<name>", &["upstream"]),
    ("tenant.table", &["database"]),
    ("tenant.rule[]", &["from"]),
    ("tenant.classify[]", &["class", "from"]),
];

/// A text with a variable in it may become anything.
const VARIABLE: &str = r"\$\{[A-Za-z0-9_]+\}";

/// Every key with its type, range, default and meaning, as a JSON Schema (draft 2020-12).
pub fn json_schema() -> String {
    let mut root = Table::default();
    for row in schema::all() {
        root.put(&segments(row.path), Node::Key(key(row, true)));
    }
    for row in POOL {
        // What a database does not say is said by [pool].
        let own = row.path.replacen("pool.", "databases.<name>.", 1);
        root.put(&segments(&own), Node::Key(key(row, false)));
    }
    for (kind, of) in [("class", "class_limits"), ("limits", "limits"), ("fingerprint", "statement_limits")] {
        root.put(&["tenant", kind, "<name>"], Node::Key(json!({"$ref": format!("#/$defs/{of}")})));
    }
    let mut page = Map::from_iter([
        ("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into()),
        ("title".to_owned(), "Configuration of pgweir".into()),
    ]);
    page.append(&mut root.schema(""));
    let definitions = json!({
        "variable": {"description": "Text with variables in it.", "type": "string", "pattern": VARIABLE},
        "duration": {
            "description": "Numbers with units: us, ms, s, m, h, d.",
            "type": "string",
            "pattern": r"^\s*(0|([0-9]+(\.[0-9]+)?(us|ms|s|m|h|d))+)\s*$",
        },
        "size": {
            "description": "A number of bytes, or one with a unit: B, kB, KiB, MB, MiB, GB, GiB.",
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|KiB|MB|MiB|GB|GiB)?\s*$",
        },
        "limits": limits(|_| true),
        "class_limits": limits(LimitKey::is_of_classes),
        "statement_limits": limits(LimitKey::is_of_statements),
    });
    page.insert("$defs".to_owned(), definitions);
    format!("{:#}\n", Value::Object(page))
}

fn segments(path: &str) -> Vec<&str> {
    path.split('.').collect()
}

/// What may stand under a path.
enum Node {
    Key(Value),
    Table(Table),
    List(Table),
}

#[derive(Default)]
struct Table {
    keys: Vec<(String, Node)>,
    /// What stands under a name that the operator picks.
    any: Option<Box<Node>>,
}

impl Table {
    fn put(&mut self, path: &[&str], node: Node) {
        let Some((name, rest)) = path.split_first() else { return };
        let (name, is_list) = name.strip_suffix("[]").map_or((*name, false), |name| (name, true));
        let slot = if name.starts_with('<') {
            self.any.get_or_insert_with(|| Box::new(Node::Table(Self::default()))).as_mut()
        } else {
            let place = self.keys.iter().position(|(known, _)| known == name).unwrap_or(self.keys.len());
            if place == self.keys.len() {
                let inner = Self::default();
                self.keys.push((name.to_owned(), if is_list { Node::List(inner) } else { Node::Table(inner) }));
            }
            let Some((_, slot)) = self.keys.get_mut(place) else { return };
            slot
        };
        match slot {
            slot if rest.is_empty() => *slot = node,
            Node::Table(table) | Node::List(table) => table.put(rest, node),
            Node::Key(_) => {}
        }
    }

    /// As a schema; `path` is the table's own, as in the list of sections.
    fn schema(&self, path: &str) -> Map<String, Value> {
        let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut schema = Map::new();
        if let Some(section) = SECTIONS.iter().find(|section| section.path == path) {
            schema.insert("description".to_owned(), section.purpose.into());
        }
        schema.insert("type".to_owned(), "object".into());
        if let Some((_, keys)) = REQUIRED.iter().find(|(table, _)| *table == path) {
            schema.insert("required".to_owned(), json!(keys));
        }
        let keys = self.keys.iter().map(|(name, node)| (name.clone(), node.schema(&under(name))));
        schema.insert("properties".to_owned(), keys.collect::<Map<_, _>>().into());
        let any = self.any.as_ref().map(|node| {
            let name = if path == "peers" { "<id>" } else { "<name>" };
            node.schema(&under(name))
        });
        if let Some(pattern) = names(path) {
            schema.insert("propertyNames".to_owned(), pattern);
        }
        schema.insert("additionalProperties".to_owned(), any.unwrap_or(Value::Bool(false)));
        schema
    }
}

impl Node {
    fn schema(&self, path: &str) -> Value {
        match self {
            Self::Key(schema) => schema.clone(),
            Self::Table(table) => table.schema(path).into(),
            Self::List(table) => json!({"type": "array", "items": table.schema(&format!("{path}[]"))}),
        }
    }
}

/// What names may be that the operator picks, where that is not everything.
fn names(path: &str) -> Option<Value> {
    match path {
        "tenant.class" | "tenant.limits" => Some(json!({"minLength": 1, "maxLength": 128})),
        "tenant.fingerprint" => Some(json!({"pattern": "^[0-9A-Fa-f]{16}$"})),
        "tenant.default.modes" => {
            let limits: Vec<&str> =
                LimitKey::ALL.into_iter().filter(|key| key.has_mode()).map(LimitKey::word).collect();
            Some(json!({"enum": limits}))
        }
        _ => None,
    }
}

/// A table of limits that inherits what it does not say, with those keys that may stand in it.
fn limits(may: impl Fn(LimitKey) -> bool) -> Value {
    let mut table = Table::default();
    for row in LIMITS {
        let path = segments(row.path);
        let path = path.get(LIMITS_TABLE.len()..).unwrap_or_default();
        let name = path.first().copied().unwrap_or_default();
        if LimitKey::from_word(name).is_none_or(&may) {
            table.put(path, Node::Key(key(row, false)));
        }
    }
    let mut schema = table.schema(&LIMITS_TABLE.join("."));
    schema.insert("description".to_owned(), "Limits. What is left out is inherited.".into());
    schema.into()
}

/// One key. Its default is told where it is its own.
fn key(row: &Row, is_own: bool) -> Value {
    let mut meaning = row.meaning.to_owned();
    if let Some(unit) = unit(row.kind) {
        meaning.push_str(unit);
    }
    if row.reload == Reload::Restart {
        meaning.push_str(" A change needs a restart.");
    }
    let mut schema = Map::from_iter([("description".to_owned(), meaning.into())]);
    schema.append(&mut kind(row.kind));
    if let Some(default) = row.default.filter(|_| is_own) {
        schema.insert("default".to_owned(), literal(row.kind, default));
    }
    schema.into()
}

fn unit(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Time { zero: true } => Some(" A duration such as `500ms`, `10s` or `1h30m`, or 0."),
        Kind::Time { zero: false } => Some(" A duration such as `500ms`, `10s` or `1h30m`."),
        Kind::Size => Some(" Bytes, or a size such as `256KiB` or `64MiB`."),
        Kind::Secret => Some(" A secret; `${NAME}` takes it from a variable."),
        _ => None,
    }
}

fn literal(kind: Kind, default: &str) -> Value {
    if kind == Kind::Fraction
        && let Ok(part) = default.parse::<f64>()
    {
        return part.into();
    }
    let number = matches!(kind, Kind::Count(..) | Kind::CountOrAuto(..) | Kind::Size | Kind::Time { .. });
    match default.parse::<u64>() {
        Ok(value) if number => value.into(),
        _ if kind == Kind::Flag => (default == "true").into(),
        _ => default.into(),
    }
}

fn kind(kind: Kind) -> Map<String, Value> {
    let variable = json!({"$ref": "#/$defs/variable"});
    let duration = json!({"$ref": "#/$defs/duration"});
    let text = json!({"type": "string", "minLength": 1});
    let schema = match kind {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Count(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Fraction => json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        Kind::CountOrAuto(low, high) => {
            json!({"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, {"const": "auto"}, variable]})
        }
        Kind::Time { zero: true } => json!({"anyOf": [duration, {"const": 0}, variable]}),
        Kind::Time { zero: false } => json!({"anyOf": [duration, variable]}),
        Kind::Text | Kind::Secret | Kind::AddressOrOff => text,
        Kind::Word(words) => json!({"anyOf": [{"enum": words}, variable]}),
        Kind::Addresses => json!({"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}),
        Kind::Networks | Kind::Names => {
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
        }
        Kind::Size => {
            json!({"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/size"}, variable]})
        }
        Kind::Url => json!({"type": "string", "pattern": format!("^postgres(ql)?://|{VARIABLE}")}),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}
