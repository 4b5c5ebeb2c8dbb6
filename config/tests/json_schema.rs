//! The JSON Schema on file: it is up to date, takes what the parser takes, and refuses what nobody can mean.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use config::{Overrides, Settings, Sources};
use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

const EXAMPLE: &str = include_str!("../../docs/pgweir.toml");

fn schema() -> Value {
    serde_json::from_str(&config::json_schema()).unwrap()
}

/// TOML as JSON.
fn json_of(text: &str) -> Value {
    let document = DeTable::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    table(document.get_ref())
}

fn table(table: &DeTable<'_>) -> Value {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), value_of(value.get_ref()))).collect()
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => number.as_str().parse::<i64>().unwrap().into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Array(entries) => entries.iter().map(|entry| value_of(entry.get_ref())).collect(),
        DeValue::Table(inner) => table(inner),
        DeValue::Datetime(moment) => moment.to_string().into(),
    }
}

/// As much of JSON Schema as ours uses; a keyword that it does not know fails the test.
struct Checker<'a> {
    root: &'a Value,
    complaints: Vec<String>,
}

impl Checker<'_> {
    fn complaints(schema: &Value, value: &Value) -> Vec<String> {
        let mut checker = Checker { root: schema, complaints: Vec::new() };
        checker.check(schema, value, "");
        checker.complaints
    }

    fn holds(&self, schema: &Value, value: &Value) -> bool {
        let mut inner = Checker { root: self.root, complaints: Vec::new() };
        inner.check(schema, value, "");
        inner.complaints.is_empty()
    }

    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let rules = match schema {
            Value::Bool(true) => return,
            Value::Bool(false) => return self.complaints.push(format!("{at}: not allowed")),
            other => other.as_object().unwrap(),
        };
        for (keyword, rule) in rules {
            let holds = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "default" => true,
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    other => panic!("type {other}"),
                },
                "$ref" => {
                    let target = self.root.pointer(rule.as_str().unwrap().trim_start_matches('#'));
                    let target = target.unwrap_or_else(|| panic!("{rule} leads nowhere"));
                    self.check(target, value, at);
                    true
                }
                "enum" => rule.as_array().unwrap().contains(value),
                "const" => rule == value,
                "anyOf" => rule.as_array().unwrap().iter().any(|one| self.holds(one, value)),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
                "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
                "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
                "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
                "pattern" => {
                    let pattern = regex_lite::Regex::new(rule.as_str().unwrap()).unwrap();
                    value.as_str().is_none_or(|text| pattern.is_match(text))
                }
                "required" => rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|name| value.as_object().is_none_or(|map| map.contains_key(name.as_str().unwrap()))),
                "items" => {
                    for (place, entry) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, entry, &format!("{at}[{place}]"));
                    }
                    true
                }
                "propertyNames" => {
                    value.as_object().is_none_or(|map| map.keys().all(|name| self.holds(rule, &name.as_str().into())))
                }
                "properties" => {
                    for (name, entry) in value.as_object().into_iter().flatten() {
                        if let Some(own) = rule.get(name) {
                            self.check(own, entry, &format!("{at}/{name}"));
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (name, entry) in value.as_object().into_iter().flatten() {
                        if rules.get("properties").is_none_or(|known| known.get(name).is_none()) {
                            self.check(rule, entry, &format!("{at}/{name}"));
                        }
                    }
                    true
                }
                other => panic!("{at}: the checker does not know {other}"),
            };
            if !holds {
                self.complaints.push(format!("{at}: {value} breaks {keyword}"));
            }
        }
    }
}

/// Files and variables of the examples; every file holds a userlist line, which serves as a secret too.
struct Files;

impl Sources for Files {
    fn env(&self, _name: &str) -> Option<String> {
        Some("secret".to_owned())
    }

    fn read(&self, _path: &str) -> Result<String, String> {
        Ok("\"listed\" \"secret\"\n".to_owned())
    }

    fn tenants(&self, _folder: &str) -> Result<Vec<(String, String)>, String> {
        Ok(Vec::new())
    }
}

fn parses(text: &str) -> Result<Settings, config::Mistakes> {
    Settings::from_toml(text, &Overrides::default(), &Files)
}

#[test]
fn the_schema_on_file_is_up_to_date() {
    // Not assert_eq: nobody would read both.
    assert!(config::json_schema() == include_str!("../../docs/config.schema.json"), "run `make docs`");
}

#[test]
fn the_example_is_valid_by_the_schema() {
    let complaints = Checker::complaints(&schema(), &json_of(EXAMPLE));
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn each_section_of_the_reference_has_an_example_that_the_parser_and_the_schema_take() {
    let reference = config::reference();
    let sections: Vec<&str> = reference.split("\n## ").skip(1).collect();
    assert!(sections.len() >= 20, "{}", sections.len());
    for section in sections {
        let title = section.lines().next().unwrap();
        let example = section.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
        let example = example.unwrap_or_else(|| panic!("{title} has no example")).0;
        let header = title.trim_matches('`').replace("<name>", "").replace("<id>", "");
        assert!(title == "Top level" || example.contains(header.trim_end_matches(']')), "{title}: {example}");
        let whole = match example.contains("[databases.") {
            true => example.to_owned(),
            false => format!("{example}\n[databases.x]\nupstream = 'postgres://h/x'\n"),
        };
        parses(&whole).unwrap_or_else(|mistakes| panic!("{title}: {mistakes}"));
        let complaints = Checker::complaints(&schema(), &json_of(&whole));
        assert!(complaints.is_empty(), "{title}: {complaints:#?}");
    }
}

#[test]
fn what_the_parser_refuses_by_its_form_the_schema_refuses_too() {
    let whole = |text: &str| format!("{text}\n[databases.x]\nupstream = 'postgres://h/x'\n");
    for (text, at) in [
        ("max_client = 5", "/max_client"),
        ("max_clients = 0", "/max_clients"),
        ("max_clients = '5'", "/max_clients"),
        ("listen = []", "/listen"),
        ("workers = 'some'", "/workers"),
        ("dns_max_ttl = 15", "/dns_max_ttl"),
        ("dns_max_ttl = '15 s'", "/dns_max_ttl"),
        ("tcp_keepidle = 0", "/tcp_keepidle"),
        ("[pool]\nsise = 5", "/pool/sise"),
        ("[pool]\nmode = 'transactions'", "/pool/mode"),
        ("[tenant.limits.acme]\nstatement_time = '1s'", "/tenant/limits/acme/statement_time"),
        ("[tenant.limits.acme]\nmax_bytes = '64 apples'", "/tenant/limits/acme/max_bytes"),
        ("[tenant.limits.acme]\nmodes.weight = 'observe'", "/tenant/limits/acme/modes"),
        ("[tenant.fingerprint.00d1e8a1b2c3d4e5]\nmax_clients = 5", "/tenant/fingerprint/00d1e8a1b2c3d4e5/max_clients"),
        ("[tenant.fingerprint.00d1]\nblocked = true", "/tenant/fingerprint"),
        ("[[tenant.rule]]\nname = 'x'", "/tenant/rule[0]"),
        ("[[observe.mute]]\nkinds = 'x'", "/observe/mute[0]/kinds"),
        ("[databases.y]\nsize = 5", "/databases/y"),
        ("[databases.y]\nupstream = 'mysql://h/x'", "/databases/y/upstream"),
        ("[peers.1]\nport = 5", "/peers/1/port"),
    ] {
        let text = whole(text);
        assert!(parses(&text).is_err(), "{text}");
        let complaints = Checker::complaints(&schema(), &json_of(&text));
        assert!(complaints.iter().any(|complaint| complaint.starts_with(&format!("{at}:"))), "{text}: {complaints:?}");
    }
}

#[test]
fn what_the_parser_takes_in_several_forms_the_schema_takes_too() {
    for text in [
        "workers = 'auto'",
        "workers = 4",
        "listen = '127.0.0.1:1'",
        "tcp_user_timeout = 0",
        "tcp_user_timeout = '0'",
        "dns_max_ttl = ' 1.5s '",
        "dns_max_ttl = '1h30m'",
        "[auth]\nfailure_exempt = '10.0.0.0/8, ::1'",
        "[pool]\nmode = '${MODE}'\nsize = 3",
        "[tenant.limits.acme]\nmax_bytes = 65536\ntables = []\nmodes.max_rows = 'warn'",
        "[tenant.limits.acme]\nmax_bytes = '1.5 GiB'\ntables = 'runs, audit.*'",
    ] {
        let text = format!("{text}\n[databases.x]\nupstream = 'postgres://h/x'\n");
        // Some variable has a value that fits.
        let filled = text.replace("${MODE}", "session");
        parses(&filled).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"));
        let complaints = Checker::complaints(&schema(), &json_of(&text));
        assert!(complaints.is_empty(), "{text}: {complaints:?}");
    }
}

#[test]
fn every_default_is_valid_by_its_own_schema() {
    fn walk(root: &Value, schema: &Value, seen: &mut usize) {
        if let (Some(default), Some(_)) = (schema.get("default"), schema.get("description")) {
            let complaints = Checker { root, complaints: Vec::new() }.holds(schema, default);
            assert!(complaints, "{schema:#}");
            *seen += 1;
        }
        for inner in schema.as_object().into_iter().flat_map(|map| map.values()) {
            walk(root, inner, seen);
        }
    }
    let schema = schema();
    let mut seen = 0;
    // The definitions stand for tables that inherit: they have no defaults.
    walk(&schema, &schema, &mut seen);
    assert!(seen > 80, "{seen}");
    assert_eq!(schema["properties"]["workers"]["default"], json!("auto"));
    assert!(schema["$defs"]["limits"]["properties"]["mode"].get("default").is_none());
}
