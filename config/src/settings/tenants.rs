//! `[tenant]`: rules, classes and limits.

use super::*;

/// Longest tenant name, class name and pattern in bytes.
pub(super) const MAX_TEXT: usize = 128;
/// Longest regular expression in bytes.
const MAX_PATTERN: usize = 512;
/// Fingerprints with limits of their own at most.
const MAX_FINGERPRINTS: usize = 10_000;

impl Builder<'_> {
    pub(super) fn tenants(&mut self) -> Tenants {
        let default = self.word(&["tenant", "default_name"]);
        if default.len() > MAX_TEXT {
            self.wrong(&["tenant", "default_name"], "is longer than 128 bytes; use a shorter name");
        }
        let directory = self.text(&["tenant", "directory"]);
        if let Some(folder) = &directory {
            self.read_directory(folder);
        }
        let tenants = Tenants {
            rules: self.entries("rule").iter().filter_map(|number| self.rule(number)).collect(),
            classes: self.entries("classify").iter().filter_map(|number| self.class_rule(number)).collect(),
            default,
            max_tenants: self.count(&["tenant", "max_tenants"]),
            directory: directory.map(Into::into),
            table: self.tenant_table(),
            default_limits: self.limits_at(&schema::LIMITS_TABLE),
            class_limits: self.classes(),
            limits: self.tables_of("limits"),
            fingerprints: self.fingerprints(),
        };
        if tenants.class_names().len() > MAX_CLASSES {
            self.wrong(
                &["tenant", "classify"],
                "makes more than 16 classes of work with those of [tenant.class]; let some share one",
            );
        }
        tenants
    }

    /// Each file of the folder as if its keys stood under `[tenant.limits.NAME]`.
    fn read_directory(&mut self, folder: &str) {
        let files = match self.sources.tenants(folder) {
            Ok(files) => files,
            Err(why) => {
                let sentence = format!("cannot read {folder}: {why}; correct the path or its permissions");
                return self.wrong(&["tenant", "directory"], &sentence);
            }
        };
        for (name, text) in files {
            let path = vec!["tenant".to_owned(), "limits".to_owned(), name.clone()];
            let file = format!("{folder}/{name}.toml");
            if self.written.tables.contains_key(&path) {
                let sentence = format!("stands in {file} too; remove it from one of the two");
                self.wrong_at(&path, sentence);
                continue;
            }
            text::read_under(&mut self.written, path, &file, &text, self.sources);
        }
    }

    fn tenant_table(&mut self) -> Option<TenantTable> {
        let at = |key: &'static str| ["tenant", "table", key];
        let Some(database) = self.text(&at("database")) else {
            let path = ["tenant", "table"].map(str::to_owned);
            if self.written.tables.contains_key(path.as_slice()) && !self.is_wrong(&at("database")) {
                self.wrong(&["tenant", "table"], "has no database; add database = \"app\", an entry of [databases]");
            }
            return None;
        };
        let written = self.text(&at("query")).unwrap_or_default();
        let query = written.trim_end_matches(|end: char| end == ';' || end.is_whitespace()).to_owned();
        if query.is_empty() {
            self.wrong(&at("query"), "asks for nothing; write SELECT tenant, limits FROM pgweir.tenants");
        }
        Some(TenantTable { database, query, interval: self.time(&at("interval")) })
    }

    /// Whether the database of the table of tenants is one.
    pub(super) fn check_tenant_table(&mut self, settings: &Settings) {
        let Some(table) = &settings.tenants.table else { return };
        if !settings.databases.contains_key(&table.database) && settings.wildcard.is_none() {
            let names: Vec<&str> = settings.databases.keys().map(String::as_str).collect();
            let sentence = format!("is no entry of [databases]{}", suggest::among(&table.database, &names));
            self.wrong(&["tenant", "table", "database"], &sentence);
        }
    }

    fn tables_of(&mut self, kind: &str) -> BTreeMap<String, Limits> {
        let mut tables = BTreeMap::new();
        for name in self.names_under(&["tenant", kind]) {
            let path = ["tenant", kind, name.as_str()];
            if name.is_empty() || name.len() > MAX_TEXT {
                let what = if kind == "class" { "class's" } else { "tenant's" };
                self.wrong(&path, &format!("is not a {what} name; use 1 to 128 bytes"));
            }
            tables.insert(name.clone(), self.limits_at(&path));
        }
        tables
    }

    /// What is said of classes. A tenant's part of a pool is shared by them, and not changed.
    fn classes(&mut self) -> BTreeMap<String, Limits> {
        let tables = self.tables_of("class");
        for (name, limits) in &tables {
            for (key, _) in limits.said().filter(|(key, _)| !key.is_of_classes()) {
                let path = ["tenant", "class", name.as_str(), key.word()];
                self.wrong(&path, "cannot be said of a class; say it of a tenant");
            }
            for key in [LimitKey::MaxUpstreams, LimitKey::MaxWaiting] {
                if limits.mode_of(key).is_some() && limits.get(key).is_none() {
                    let path = ["tenant", "class", name.as_str(), "modes", key.word()];
                    let sentence = format!(
                        "has no meaning without {} of this class: a tenant's holds for all its classes, in the tenant's mode",
                        key.word()
                    );
                    self.wrong(&path, &sentence);
                }
            }
        }
        tables
    }

    fn fingerprints(&mut self) -> BTreeMap<u64, Limits> {
        let mut tables = BTreeMap::new();
        for name in self.names_under(&["tenant", "fingerprint"]) {
            let path = ["tenant", "fingerprint", name.as_str()];
            let Ok(strict) = Mute::parse_fingerprint(&name) else {
                self.wrong(
                    &path,
                    "is not a fingerprint; copy the 16 hexadecimal digits that /api/v1/queries and the logs show",
                );
                continue;
            };
            let limits = self.limits_at(&path);
            for (key, _) in limits.said().filter(|(key, _)| !key.is_of_statements()) {
                let path = ["tenant", "fingerprint", name.as_str(), key.word()];
                self.wrong(&path, "cannot be said of a single statement; say it of a tenant or a class");
            }
            tables.insert(strict, limits);
        }
        if tables.len() > MAX_FINGERPRINTS {
            self.wrong(&["tenant", "fingerprint"], "has more than 10000 entries; limit classes or tenants");
        }
        tables
    }

    /// What the table at this path says.
    pub(super) fn limits_at(&mut self, section: &[&str]) -> Limits {
        let mut limits = Limits::default();
        // Of thousands of tenants each says little: what it says is asked for, not each key that there is.
        for name in self.keys_under(section) {
            let path: Vec<&str> = section.iter().copied().chain([name.as_str()]).collect();
            let Some(key) = LimitKey::from_word(&name) else { continue };
            if let Some(value) = self.given(&path).and_then(|given| limit_value(key, &given.value)) {
                limits = limits.with(key, value);
            }
        }
        let modes: Vec<&str> = section.iter().copied().chain(["modes"]).collect();
        for name in self.keys_under(&modes) {
            let path: Vec<&str> = modes.iter().copied().chain([name.as_str()]).collect();
            match LimitKey::from_word(&name).filter(|key| key.has_mode()) {
                Some(key) => {
                    let mode = Mode::from_word(&self.word(&path)).unwrap_or_default();
                    limits = limits.with_mode(key, mode);
                }
                None => {
                    let words: Vec<&str> =
                        LimitKey::ALL.into_iter().filter(|key| key.has_mode()).map(LimitKey::word).collect();
                    let sentence = format!("is no limit that has a mode{}", suggest::among(&name, &words));
                    self.wrong(&path, &sentence);
                }
            }
        }
        limits
    }

    /// Numbers of a list's entries in their order; as text, 10 would come before 2.
    fn entries(&self, list: &str) -> Vec<String> {
        let mut numbers = self.names_under(&["tenant", list]);
        numbers.sort_by_key(|number| number.parse::<usize>().unwrap_or(0));
        numbers
    }

    fn rule(&mut self, number: &str) -> Option<TenantRule> {
        let origin = self.origin("rule", number)?;
        let at = |key: &'static str| ["tenant", "rule", number, key];
        let tenant = self.text(&at("tenant"));
        if tenant.as_ref().is_some_and(|name| name.len() > MAX_TEXT) {
            self.wrong(&at("tenant"), "is longer than 128 bytes; use a shorter name");
        }
        if tenant.is_none() && matches!(origin, Origin::Network(_)) && !self.is_wrong(&at("tenant")) {
            self.wrong(&["tenant", "rule", number], "has no tenant; add tenant = \"acme\"");
        }
        let mut pattern = self.text(&at("pattern"));
        if let Some(text) = &pattern {
            let checked = match &origin {
                Origin::Network(_) => Err("has no meaning with from = \"network\"; remove it".to_owned()),
                Origin::UserSuffix(_) => Err("stands beside separator; leave one of the two out".to_owned()),
                _ => checked_pattern(text, tenant.is_some()),
            };
            if let Err(sentence) = checked {
                self.wrong(&at("pattern"), &sentence);
            }
        }
        if origin == Origin::ServerName {
            pattern = pattern.map(|text| if is_simple(&text) { text.to_ascii_lowercase() } else { text });
        }
        Some(TenantRule { origin, pattern, tenant })
    }

    fn class_rule(&mut self, number: &str) -> Option<ClassRule> {
        let at = |key: &'static str| ["tenant", "classify", number, key];
        let class = self.text(&at("class"));
        if class.as_ref().is_none_or(|name| name.len() > MAX_TEXT) && !self.is_wrong(&at("class")) {
            self.wrong(&["tenant", "classify", number], "has no class of at most 128 bytes; add class = \"worker\"");
        }
        let origin = self.origin("classify", number)?;
        let pattern = self.text(&at("pattern"));
        if let Some(Err(sentence)) = pattern.as_deref().map(checked_regex) {
            self.wrong(&at("pattern"), &sentence);
        }
        Some(ClassRule { class: class?, origin, pattern })
    }

    fn origin(&mut self, list: &'static str, number: &str) -> Option<Origin> {
        let section = ["tenant", list, number];
        let at = |key: &'static str| ["tenant", list, number, key];
        let from = self.word(&at("from"));
        if from.is_empty() {
            if !self.is_wrong(&at("from")) {
                self.wrong(&section, "has no from; add from = \"user\", \"database\", \"application_name\", \"option\", \"setting\", \"comment\", \"sni\", \"certificate\" or \"network\"");
            }
            return None;
        }
        let own: &[&str] = match from.as_str() {
            "option" | "comment" => &["name"],
            "setting" => &["name", "path"],
            "user" => &["separator"],
            "network" => &["networks"],
            _ => &[],
        };
        for key in ["name", "path", "separator", "networks"] {
            if !own.contains(&key) && self.given(&at(key)).is_some() {
                self.wrong(&at(key), &format!("has no meaning with from = \"{from}\"; remove it"));
            }
        }
        let name = if own.contains(&"name") { Some(self.name_of(&section, &from)?) } else { None };
        Some(match (from.as_str(), name) {
            ("option", Some(name)) => Origin::Option(name),
            ("comment", Some(name)) => Origin::Comment(name),
            ("setting", Some(name)) => {
                let path = self.text(&at("path"));
                let path: Vec<String> = path.iter().flat_map(|path| path.split('.')).map(str::to_owned).collect();
                if path.iter().any(String::is_empty) || path.len() > 16 {
                    self.wrong(
                        &at("path"),
                        "is no path of members; write their names with dots between, as app_metadata.tenant_id",
                    );
                }
                Origin::Setting { name, path }
            }
            ("user", _) => self.text(&at("separator")).map_or(Origin::User, Origin::UserSuffix),
            ("database", _) => Origin::Database,
            ("sni", _) => Origin::ServerName,
            ("certificate", _) => Origin::Certificate,
            ("network", _) => {
                let networks = self.networks(&at("networks"));
                if networks.is_empty() && !self.is_wrong(&at("networks")) {
                    self.wrong(&section, "has no networks; add networks = [\"10.1.0.0/16\"]");
                }
                Origin::Network(networks)
            }
            _ => Origin::ApplicationName,
        })
    }

    fn name_of(&mut self, section: &[&str], from: &str) -> Option<String> {
        let path: Vec<&str> = section.iter().copied().chain(["name"]).collect();
        let Some(name) = self.text(&path) else {
            if !self.is_wrong(&path) {
                let example = if from == "comment" { "tenant" } else { "app.tenant_id" };
                self.wrong(section, &format!("has no name; add name = \"{example}\""));
            }
            return None;
        };
        if let Err(sentence) = checked_name(&name) {
            self.wrong(&path, sentence);
        }
        Some(name)
    }
}

/// A limit's value as its key wants it; the table of keys has seen to its type.
fn limit_value(key: LimitKey, value: &Value) -> Option<LimitValue> {
    Some(match (key, value) {
        (LimitKey::Mode, Value::Text(word)) => LimitValue::Mode(Mode::from_word(word)?),
        (LimitKey::OnUntracked, Value::Text(word)) => LimitValue::OnUntracked(OnUntracked::from_word(word)?),
        (_, Value::Time(time)) => LimitValue::Time(*time),
        (_, Value::Count(number)) => LimitValue::Count(*number),
        (_, Value::Flag(flag)) => LimitValue::Flag(*flag),
        (_, Value::Names(names)) => LimitValue::Names(names.clone()),
        _ => return None,
    })
}

/// Whether a pattern is text with a `{tenant}`, and not a regular expression, in which that would mean nothing.
fn is_simple(text: &str) -> bool {
    text.contains("{tenant}")
}

fn checked_pattern(text: &str, named: bool) -> Result<(), String> {
    if is_simple(text) {
        return match text.matches(['{', '}']).count() {
            2 if text.len() <= MAX_TEXT => Ok(()),
            2 => Err("is longer than 128 bytes; use a shorter pattern".to_owned()),
            _ => Err("must hold {tenant} exactly once and no other braces, as worker-{tenant}-*".to_owned()),
        };
    }
    let regex = regex(text)?;
    let has_group = regex.capture_names().flatten().any(|name| name == "tenant");
    if !named && !has_group {
        return Err("has no group that is the tenant's name; write tenant:(?<tenant>[a-z0-9-]+), or worker-{tenant}-* without a regular expression".to_owned());
    }
    Ok(())
}

fn checked_regex(text: &str) -> Result<(), String> {
    regex(text).map(drop)
}

fn regex(text: &str) -> Result<regex_lite::Regex, String> {
    if text.len() > MAX_PATTERN {
        return Err("is longer than 512 bytes; use a shorter pattern".to_owned());
    }
    regex_lite::Regex::new(text).map_err(|error| format!("is no regular expression: {error}; put it right"))
}

fn checked_name(text: &str) -> Result<(), &'static str> {
    let fits = text.len() <= MAX_TEXT
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | b'-'));
    if fits { Ok(()) } else { Err("is not the name of a setting; use letters, digits, _ and dots, as app.tenant_id") }
}
