//! The document, the table that it is made of, and a validator for what routes answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::built;
use super::routes::{ROUTES, Who};

/// Answers that have members which the table does not list: the settings, as a tree.
const OPEN: &[&str] = &["Config"];

/// What is wrong with an answer of this schema: wrong types, absent members, and members that the schema does not have.
pub(in crate::admin) fn objections(name: &str, value: &Value) -> Vec<String> {
    let document = built();
    let mut found = Vec::new();
    check(&document, &super::reference(name), value, name, &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) {
        let inner = &document["components"]["schemas"][name];
        assert!(inner.is_object(), "no schema {name}");
        let open = OPEN.contains(&name);
        let before = found.len();
        check(document, inner, value, at, found);
        if open {
            let mut place = before;
            found.retain(|one| {
                place += 1;
                place <= before || !one.contains("is not described")
            });
        }
        return;
    }
    if let Some(several) = schema["anyOf"].as_array() {
        let tries: Vec<Vec<String>> = several
            .iter()
            .map(|one| {
                let mut found = Vec::new();
                check(document, one, value, at, &mut found);
                found
            })
            .collect();
        // What the closest one says.
        found.extend(tries.into_iter().min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    let fits = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("{other}"),
    };
    if !fits {
        return found.push(format!("{at} is no {}: {value}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        found.push(format!("{at} is none of {words:?}: {value}"));
    }
    let hex = schema["pattern"] == "^[0-9a-f]{16}$";
    let digits = |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex && !value.as_str().is_some_and(digits) {
        found.push(format!("{at} is no fingerprint: {value}"));
    }
    if schema["format"] == "date-time" && value.as_str().is_none_or(|text| config::units::parse_moment(text).is_err()) {
        found.push(format!("{at} is no moment: {value}"));
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}[{place}]"), found);
    }
    let Some(members) = value.as_object().filter(|_| schema["type"] == "object") else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            found.push(format!("{at} has no {name}"));
        }
    }
    for (name, value) in members {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => check(document, schema, value, &at, found),
            (None, Some(schema)) => check(document, schema, value, &at, found),
            (None, None) => found.push(format!("{at} is not described")),
        }
    }
}

#[test]
fn the_validator_sees_what_is_wrong() {
    let alive = serde_json::json!({"status": "alive"});
    assert_eq!(objections("Live", &alive), [""; 0]);
    for wrong in [
        serde_json::json!({"status": "dead"}),
        serde_json::json!({}),
        serde_json::json!([]),
        serde_json::json!({"status": "alive", "more": 1}),
        serde_json::json!({"status": 1}),
    ] {
        assert_eq!(objections("Live", &wrong).len(), 1, "{wrong}");
    }
    let moment = serde_json::json!({"moment": "yesterday"});
    assert_eq!(objections("Fence", &moment).len(), 1);
    let null = serde_json::json!({"reset": -1, "since": null});
    assert_eq!(objections("Reset", &null).len(), 1, "{:?}", objections("Reset", &null));
}

#[test]
fn each_route_has_a_name_of_its_own_and_what_it_needs() {
    let mut names = BTreeSet::new();
    for route in ROUTES {
        assert!(names.insert(route.id), "{} twice", route.id);
        assert!(!route.summary.is_empty() && !route.summary.ends_with('.'), "{}", route.id);
        let parts: BTreeSet<&str> = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let declared: BTreeSet<&str> =
            route.parameters().filter(|known| known.in_path).map(|known| known.name).collect();
        assert_eq!(parts, declared, "{}", route.path);
        if route.who == Who::Tenant {
            assert_eq!(route.method, "GET", "{}: a tenant changes nothing", route.path);
            assert!(
                route.parameters().any(|known| known.name == "tenant"),
                "{} cannot be held to a tenant",
                route.path
            );
        }
        let changes = route.method != "GET" && !super::routes::only_looks(route.path);
        assert!(!changes || route.who == Who::Operator, "{}: who may change anything", route.path);
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = built();
    let text = document.to_string();
    let known: BTreeSet<&str> =
        document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    let used: BTreeSet<&str> =
        text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), [&""; 0]);
    assert_eq!(known.difference(&used).collect::<Vec<_>>(), [&""; 0]);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(text.len() < 200_000, "{}", text.len());
}

/// The router's source, as far as it is the API's: path and methods.
fn routed() -> BTreeSet<(String, String)> {
    let source = include_str!("../server.rs");
    let mut routed = BTreeSet::new();
    for rest in source.split(".route(\"").skip(1) {
        let (path, rest) = rest.split_once('"').unwrap();
        let handlers = rest.split("\n").next().unwrap();
        for (word, method) in [("get(", "GET"), ("post(", "POST"), ("put(", "PUT"), ("delete(", "DELETE")] {
            if handlers.split(word).skip(1).count() > 0 {
                routed.insert((path.to_owned(), method.to_owned()));
            }
        }
    }
    routed
}

#[test]
fn the_router_and_the_table_have_the_same_routes() {
    let of_api = |path: &str| path.starts_with("/api/") || ["/livez", "/readyz", "/metrics"].contains(&path);
    let routed: BTreeSet<_> = routed().into_iter().filter(|(path, _)| of_api(path)).collect();
    let table: BTreeSet<_> = ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_owned())).collect();
    assert_eq!(routed.difference(&table).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not in the table");
    assert_eq!(table.difference(&routed).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not in the router");
}

#[test]
fn the_document_for_people_names_each_path_and_parameter() {
    let text = include_str!("../../../../docs/admin-api.md");
    for route in ROUTES {
        let path = route.path;
        let named = ["`", "?"].iter().any(|end| text.contains(&format!("{path}{end}")));
        assert!(named, "{path}");
        for parameter in route.parameters().filter(|known| !known.in_path) {
            assert!(text.contains(&format!("`{}`", parameter.name)), "{path}: {}", parameter.name);
        }
    }
}
