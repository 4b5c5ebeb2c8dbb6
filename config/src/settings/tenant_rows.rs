//! Rows of a table of tenants: what each says, and settings with them.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;

/// Limits of tenants that a table says, by their names.
pub type TenantRows = BTreeMap<String, Limits>;

/// Mistakes of one row that are told.
const MAX_TOLD: usize = 3;

impl Limits {
    /// Longest row of a table of tenants, in bytes: as long as a file of `tenant.directory` may be.
    pub const MAX_ROW: usize = 64 << 10;

    /// What a row of a table of tenants says of a tenant: TOML as in a file of `tenant.directory`, or a JSON object with
    /// the same keys, of which one that is `null` says nothing. Whoever writes such rows need not be whoever has set the
    /// environment of this process: variables have no values here.
    ///
    /// # Errors
    /// What is wrong, in one line.
    ///
    /// ```
    /// use config::{LimitKey, Limits};
    /// let limits = Limits::from_row("acme", "{\"max_rows\": 5, \"read_only\": null}").unwrap();
    /// assert_eq!(limits, Limits::from_row("acme", "max_rows = 5").unwrap());
    /// assert_eq!(limits.count(LimitKey::MaxRows), Some(5));
    /// ```
    pub fn from_row(tenant: &str, text: &str) -> Result<Self, String> {
        if tenant.is_empty() || tenant.len() > tenants::MAX_TEXT {
            return Err("is not a tenant's name; use 1 to 128 bytes".to_owned());
        }
        if text.len() > Self::MAX_ROW {
            return Err("is longer than 64 KiB; say less".to_owned());
        }
        let made;
        let text = match text.trim_start().starts_with('{') {
            true => {
                made = toml_of(text)?;
                made.as_str()
            }
            false => text,
        };
        let path = ["tenant".to_owned(), "limits".to_owned(), tenant.to_owned()];
        let mut builder = Builder { written: Written::default(), sources: &NoSources };
        text::read_under(&mut builder.written, path.to_vec(), "", text, &NoSources);
        let limits = builder.limits_at(&["tenant", "limits", tenant]);
        let Some(mistakes) = Mistakes::from_list(builder.written.mistakes) else { return Ok(limits) };
        let own = format!("{}.", show_path(&path));
        let told = mistakes.iter().take(MAX_TOLD).map(|mistake| {
            let key = mistake.key.strip_prefix(&own).unwrap_or(&mistake.key);
            let sentence = mistake.sentence.replace('\n', " ");
            if key.is_empty() { sentence } else { format!("{key}: {sentence}") }
        });
        let mut told = told.collect::<Vec<_>>().join("; ");
        let more = mistakes.count().saturating_sub(MAX_TOLD);
        if more > 0 {
            told.push_str(&format!("; and {more} more"));
        }
        Err(told)
    }
}

impl Settings {
    /// These settings with what a table says of tenants. What they say themselves of a tenant counts, and not its row.
    #[must_use]
    pub fn with_rows(&self, rows: &TenantRows) -> Self {
        let mut all = self.clone();
        let Some(table) = &self.tenants.table else { return all };
        let own = &self.tenants.limits;
        let named: BTreeSet<String> = rows.keys().filter(|name| !own.contains_key(*name)).cloned().collect();
        let taken = rows.iter().filter(|(name, _)| named.contains(*name));
        all.tenants.limits.extend(taken.map(|(name, limits)| (name.clone(), limits.clone())));
        std::sync::Arc::make_mut(&mut all.origins).name_rows(named, &table.database);
        all
    }
}

/// A JSON object as TOML: one reader for both, so that both mean the same.
fn toml_of(text: &str) -> Result<String, String> {
    let object: Json = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let Json::Object(members) = object else { return Err("is no JSON object".to_owned()) };
    let mut toml = String::new();
    for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        toml.push_str(&format!("{} = ", quoted(key)));
        write(value, &mut toml);
        toml.push('\n');
    }
    Ok(toml)
}

fn write(value: &Json, toml: &mut String) {
    match value {
        // Nothing but a list can hold one: it is no text there, and told as such.
        Json::Null => toml.push_str("{}"),
        Json::Bool(_) | Json::Number(_) => toml.push_str(&value.to_string()),
        Json::String(text) => toml.push_str(&quoted(text)),
        Json::Array(values) => {
            toml.push('[');
            for value in values {
                write(value, toml);
                toml.push(',');
            }
            toml.push(']');
        }
        Json::Object(members) => {
            toml.push('{');
            let said = members.iter().filter(|(_, value)| !value.is_null());
            for (place, (key, value)) in said.enumerate() {
                toml.push_str(if place > 0 { ", " } else { "" });
                toml.push_str(&format!("{} = ", quoted(key)));
                write(value, toml);
            }
            toml.push('}');
        }
    }
}

/// A text in quotes: those of JSON are read by TOML as well, but for one character that stands there as itself.
fn quoted(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Limits::from_row("acme", text).unwrap_err()
    }

    #[test]
    fn a_row_says_the_same_in_toml_and_in_json() {
        for (toml, json) in [
            ("", "{}"),
            ("max_rows = 5\nread_only = true", r#"{"max_rows": 5, "read_only": true, "max_bytes": null}"#),
            ("statement_timeout = '5s'\nmode = 'warn'", r#" {"statement_timeout": "5s", "mode": "warn"}"#),
            (
                "tables = ['a', 'b.*']\nmodes.tables = 'observe'",
                r#"{"tables": ["a", "b.*"], "modes": {"tables": "observe"}}"#,
            ),
            ("[modes]\nmax_rows = 'off'", r#"{"modes": {"max_rows": "off", "max_bytes": null}}"#),
            ("tables = [\"\\u007f\\n\\\"\"]", "{\"tables\": [\"\u{7f}\\n\\\"\"]}"),
        ] {
            let read = Limits::from_row("acme", toml).unwrap();
            assert_eq!(Limits::from_row("acme", json).unwrap(), read, "{json}");
            assert_eq!(read.is_empty(), toml.is_empty(), "{toml}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_row_is_told_in_a_line() {
        assert_eq!(wrong("max_row = 5"), "max_row: there is no such key; did you mean max_rows?");
        assert_eq!(wrong("{\"max_row\": 5}"), wrong("max_row = 5"));
        assert!(
            wrong("{\"max_rows\": \"5\"}").starts_with("max_rows: is text; write"),
            "{}",
            wrong("{\"max_rows\": \"5\"}")
        );
        assert!(wrong("{\"max_rows\": 1.5}").starts_with("max_rows: "));
        assert!(wrong("{\"tables\": [null]}").starts_with("tables: "));
        assert!(wrong("modes.weight = 'warn'").contains("is no limit that has a mode"));
        assert!(wrong("{\"max_rows\": 5").starts_with("this is not JSON: "));
        for text in ["[]", "\"text\"", "5", "null", "max_rows"] {
            assert!(wrong(text).contains("this is not TOML") || wrong(text).contains("no such key"), "{}", wrong(text));
        }
        let many: String = (0..9).map(|number| format!("key{number} = 1\n")).collect();
        assert!(wrong(&many).ends_with("; and 6 more") && !wrong(&many).contains('\n'), "{}", wrong(&many));
        assert!(wrong(&"#".repeat(Limits::MAX_ROW + 1)).contains("64 KiB"));
        for name in ["", &"x".repeat(129)] {
            assert!(Limits::from_row(name, "").unwrap_err().contains("1 to 128 bytes"));
        }
    }

    #[test]
    fn a_row_sees_no_variables_of_the_environment() {
        assert!(wrong("tables = ['${PATH}']").contains("is not set"));
        assert!(wrong("{\"tables\": [\"${PATH}\"]}").contains("is not set"));
    }

    #[test]
    fn what_the_configuration_says_of_a_tenant_counts_and_not_its_row() {
        let text = "[databases.app]\nupstream = 'postgres://h'\n[tenant.table]\ndatabase = 'app'\n[tenant.limits.acme]\nmax_rows = 1\n";
        let settings = Settings::from_toml(text, &Overrides::default(), &NoSources).unwrap();
        let row = |text| Limits::from_row("any", text).unwrap();
        let rows =
            TenantRows::from([("acme".to_owned(), row("max_rows = 2")), ("bmw".to_owned(), row("max_rows = 3"))]);
        let all = settings.with_rows(&rows);
        let rows_of = |name: &str| all.tenants.limits[name].count(LimitKey::MaxRows);
        assert_eq!((rows_of("acme"), rows_of("bmw"), all.tenants.limits.len()), (Some(1), Some(3), 2));
        let origin = |name: &str| all.origins.of_key(&["tenant", "limits", name, "max_rows"].map(str::to_owned));
        assert!(matches!(origin("acme"), Provenance::File { line: 6, .. }), "{:?}", origin("acme"));
        assert_eq!(origin("bmw"), Provenance::Table("app".to_owned()));
        let changes = Changes::between(&settings, &all);
        assert_eq!(Changes::keys(&changes.at_once), ["tenant.limits.bmw", "tenant.limits.bmw.max_rows"]);
        let without = Settings::from_toml(
            &text.replace("[tenant.table]\ndatabase = 'app'\n", ""),
            &Overrides::default(),
            &NoSources,
        );
        let without = without.unwrap();
        assert_eq!(without.with_rows(&rows), without, "there is no table any more");
    }

    #[test]
    fn the_table_is_asked_in_a_database_that_there_is() {
        let base = "[databases.app]\nupstream = 'postgres://h'\n";
        let read = |table: &str| Settings::from_toml(&format!("{base}{table}"), &Overrides::default(), &NoSources);
        let table = read("[tenant.table]\ndatabase = 'app'\n").unwrap().tenants.table.unwrap();
        assert_eq!(
            (&*table.query, table.interval),
            ("SELECT tenant, limits FROM pgweir.tenants", Duration::from_secs(10))
        );
        let table = read("[tenant.table]\ndatabase = 'app'\nquery = 'TABLE t ; '\ninterval = '1m'\n")
            .unwrap()
            .tenants
            .table
            .unwrap();
        assert_eq!((&*table.query, table.interval), ("TABLE t", Duration::from_secs(60)));
        assert_eq!(read("").unwrap().tenants.table, None);
        assert!(read("[databases.'*']\nupstream = 'postgres://h'\n[tenant.table]\ndatabase = 'any'\n").is_ok());
        for (table, said) in [
            ("[tenant.table]\n", "tenant.table: has no database"),
            ("[tenant.table]\ninterval = '5s'\n", "tenant.table: has no database"),
            (
                "[tenant.table]\ndatabase = 'ap'\n",
                "tenant.table.database: is no entry of [databases]; did you mean app?",
            ),
            ("[tenant.table]\ndatabase = 'app'\nquery = ' ;'\n", "tenant.table.query: asks for nothing"),
            ("[tenant.table]\ndatabase = 'app'\ninterval = 0\n", "tenant.table.interval: cannot be 0"),
        ] {
            let mistakes = read(table).unwrap_err().to_string();
            assert!(mistakes.contains(said), "{mistakes}");
        }
    }
}
