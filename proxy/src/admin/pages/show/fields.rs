//! Fields of the API's answers: one that is missing, or is of another kind, is drawn as not known instead of failing.

use serde_json::Value;

/// Reads fields of an object by their names; `a.b` is `b` within `a`.
pub(in super::super) trait Fields {
    /// The field, unless it is missing or `null`.
    fn field(&self, path: &str) -> Option<&Value>;

    /// A text; empty where there is none.
    fn text(&self, path: &str) -> &str {
        self.field(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number.
    fn number(&self, path: &str) -> Option<f64> {
        self.field(path).and_then(Value::as_f64)
    }

    /// A number; 0 where there is none.
    fn count(&self, path: &str) -> f64 {
        self.number(path).unwrap_or(0.0)
    }

    /// Whether it is there and true.
    fn is(&self, path: &str) -> bool {
        self.field(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A list; empty where there is none.
    fn list(&self, path: &str) -> &[Value] {
        self.field(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Names and values of an object, in its order; empty where there is none.
    fn entries(&self, path: &str) -> Vec<(&str, &Value)> {
        let object = self.field(path).and_then(Value::as_object);
        object.map(|object| object.iter().map(|(name, value)| (name.as_str(), value)).collect()).unwrap_or_default()
    }

    /// The numbers of a list; what is no number is not known.
    fn numbers(&self, path: &str) -> Vec<Option<f64>> {
        self.list(path).iter().map(Value::as_f64).collect()
    }
}

impl Fields for Value {
    fn field(&self, path: &str) -> Option<&Value> {
        let found = path.split('.').try_fold(self, |value, name| value.get(name))?;
        (!found.is_null()).then_some(found)
    }
}

/// A plain value as a text: `null` and what is missing are an empty one.
pub(in super::super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_field_is_empty_and_never_fails() {
        let value = json!({"a": {"b": 3, "c": null}, "t": "x", "l": [1, null, 2.5]});
        assert_eq!((value.count("a.b"), value.number("a.c"), value.number("a.b.c")), (3.0, None, None));
        assert_eq!((value.text("t"), value.text("a"), value.text("nothing.at.all")), ("x", "", ""));
        assert_eq!(value.numbers("l"), [Some(1.0), None, Some(2.5)]);
        assert!(value.list("t").is_empty() && value.entries("l").is_empty() && !value.is("a.b"));
    }
}
