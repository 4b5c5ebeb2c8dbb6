//! What `pgweir explain-policy` prints, and the admin port answers.

use std::fmt::Write as _;

use config::units::show_size;
use config::{LimitKey, LimitKind, LimitValue, Mode};
use policy::limits::{Explained, Layer};
use serde_json::{Map, Value, json};

use super::{Connection, Objection, Policy, Statement, Text};
use crate::admin::shown_limit;

/// Longest text of a statement that is shown to people, in bytes.
const MAX_SHOWN: usize = 200;

impl Policy {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "tenant     {}", of(&self.tenant, &self.tenant_rule, "tenant.rule", "default"));
        let class = if self.class.is_empty() { "none" } else { &self.class };
        let _ = writeln!(page, "class      {}", of(class, &self.class_rule, "tenant.classify", ""));
        if self.limits.is_empty() {
            page.push_str("limits     none\n");
        }
        write_limits(&mut page, "limit", &self.limits);
        if let Some(Connection { tenant, class, limits }) = &self.connection {
            let class = if class.is_empty() { "no class".to_owned() } else { format!("class {class}") };
            let _ = writeln!(page, "connection {tenant}, {class}: its server has, for this statement too");
            if limits.is_empty() {
                page.push_str("server     no limit\n");
            }
            write_limits(&mut page, "server", limits);
        }
        if let Some(statement) = &self.statement {
            statement.write(&mut page);
        }
        page
    }

    /// For scripts, as a text.
    pub(crate) fn page(&self) -> String {
        format!("{:#}\n", self.json())
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let rule = |rule: &Option<(usize, String)>| {
            rule.as_ref().map(|(number, origin)| json!({"number": number, "from": origin}))
        };
        let connection = self.connection.as_ref().map(|connection| {
            let class = (!connection.class.is_empty()).then_some(&connection.class);
            json!({"tenant": connection.tenant, "class": class, "limits": limits(&connection.limits, false)})
        });
        let class = (!self.class.is_empty()).then_some(&self.class);
        json!({
            "tenant": self.tenant,
            "tenant_rule": rule(&self.tenant_rule),
            "class": class,
            "class_rule": rule(&self.class_rule),
            "limits": limits(&self.limits, false),
            "class_limits": limits(&self.limits, true),
            "connection": connection,
            "statement": self.statement.as_ref().map(Statement::json),
        })
    }
}

/// A line for each.
fn write_limits(page: &mut String, head: &str, limits: &[Explained]) {
    let rows = limits.iter().map(|limit| {
        let mode = limit.mode.map_or("", Mode::word).to_owned();
        let part = if limit.is_of_class() { ", within the tenant's" } else { "" };
        [limit.key.word().to_owned(), value(limit), mode, format!("{}{part}", limit.from.shown())]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    let [key, value, mode] =
        [0, 1, 2].map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0));
    for [name, shown, word, from] in &rows {
        let _ = writeln!(page, "{head:10} {name:key$}  {shown:value$}  {word:mode$}  {from}");
    }
}

/// By their keys; those of the class's own part of a pool, or all others.
fn limits(limits: &[Explained], of_class: bool) -> Map<String, Value> {
    limits.iter().filter(|limit| limit.is_of_class() == of_class).map(limit).collect()
}

/// A name, and the rule that says it.
fn of(name: &str, rule: &Option<(usize, String)>, list: &str, default: &str) -> String {
    match rule {
        Some((number, origin)) => format!("{name}, by {list}[{number}] (from {origin})"),
        None if default.is_empty() => format!("{name}: no {list} holds"),
        None => format!("{name}: no {list} yields a name, so it is tenant.default_name"),
    }
}

fn value(limit: &Explained) -> String {
    match &limit.value {
        Some(LimitValue::Count(bytes)) if limit.key == LimitKey::MaxBytes => show_size(*bytes),
        Some(LimitValue::Names(names)) if names.is_empty() => "no table".to_owned(),
        Some(value) => value.shown(),
        None => "none".to_owned(),
    }
}

/// As `/api/v1/tenants` has it; a limit that a table takes away is `null`.
fn limit(limit: &Explained) -> (String, Value) {
    let unit = if matches!(limit.key.kind(), LimitKind::Time | LimitKind::Threshold) { "_ms" } else { "" };
    let name = format!("{}{unit}", limit.key.word());
    let none = || (name, json!({"value": null, "from": limit.from.shown(), "mode": null}));
    shown_limit(limit).unwrap_or_else(none)
}

/// What a limit does in this mode where it would refuse.
fn effect(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "not looked at",
        Mode::Observe => "counted",
        Mode::Warn => "told by a NOTICE",
        Mode::Enforce => "refused",
    }
}

impl Statement {
    fn write(&self, page: &mut String) {
        let own = match &self.limits {
            Some(_) => format!("limits of {} beside these", Layer::Fingerprint(self.fingerprint).shown()),
            None => "no limits of its own".to_owned(),
        };
        let _ = writeln!(page, "statement  {:016x}, {own}", self.fingerprint);
        write_limits(page, "its own", self.limits.as_deref().unwrap_or_default());
        let Some(text) = &self.text else { return };
        let end = (0..=MAX_SHOWN.min(text.normalised.len())).rev().find(|end| text.normalised.is_char_boundary(*end));
        let shown = text.normalised.get(..end.unwrap_or(0)).unwrap_or_default();
        let _ = writeln!(page, "text       {shown}{}", if shown.len() < text.normalised.len() { "…" } else { "" });
        for Objection { limit, mode, report } in &text.objections {
            let _ = writeln!(page, "{limit:10} {}: {} {}", effect(*mode), report.code, report.message);
            for more in report.detail.iter().chain(&report.hint) {
                let _ = writeln!(page, "           {more}");
            }
        }
        if let Some((limit, mode)) = text.row_limit {
            let done = if mode == Mode::Enforce { "is put behind it" } else { "would be put behind it; it is counted" };
            let _ = writeln!(page, "row_limit  LIMIT {limit} {done}");
        }
        let verdict = text.refused_by().map_or_else(|| "may be run".to_owned(), refused);
        let _ = writeln!(page, "verdict    {verdict}");
    }

    fn json(&self) -> Value {
        let mut shown = json!({
            "fingerprint": format!("{:016x}", self.fingerprint),
            "has_limits": self.limits.is_some(),
            "limits": limits(self.limits.as_deref().unwrap_or_default(), false),
        });
        if let (Some(shown), Some(text)) = (shown.as_object_mut(), &self.text) {
            shown.append(&mut text.json());
        }
        shown
    }
}

fn refused(objection: &Objection) -> String {
    format!("refused by {}", objection.limit)
}

impl Text {
    fn json(&self) -> Map<String, Value> {
        let objections = self.objections.iter().map(|Objection { limit, mode, report }| {
            json!({
                "limit": limit,
                "mode": mode.word(),
                "code": report.code,
                "message": report.message,
                "detail": report.detail,
                "hint": report.hint,
            })
        });
        let row_limit = self.row_limit.map(|(limit, mode)| json!({"limit": limit, "mode": mode.word()}));
        Map::from_iter([
            ("text".to_owned(), self.normalised.clone().into()),
            ("refused_by".to_owned(), self.refused_by().map(|objection| objection.limit).into()),
            ("objections".to_owned(), objections.collect::<Vec<_>>().into()),
            ("row_limit".to_owned(), row_limit.into()),
        ])
    }
}
