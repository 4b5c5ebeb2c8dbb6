//! docs/config.md, printed from the table of keys.

use std::fmt::Write as _;

use crate::schema::{self, Kind, Reload, Row, SECTIONS, Section};

const HEAD: &str = "\
# Configuration

<!-- Printed by `pgweir config-reference`; `make docs` writes it anew. Do not edit. -->

One TOML file, read at the start and again on SIGHUP: `pgweir serve --config pgweir.toml`. `pgweir check --config
pgweir.toml` names every mistake at once with its line and key. [pgweir.toml](pgweir.toml) is a complete example.

- Durations are text such as `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h30m\"`, `\"2d\"`; a bare `0` needs no unit.
- `${NAME}` inside a text is replaced by that variable; `$${` stands for the characters themselves.
- Paths of files count from the folder of the configuration file.
- Flags and variables of `pgweir serve` win over the file.
- Editors complete keys, and mark mistakes while they are made, by [config.schema.json](config.schema.json), which
  `pgweir config-schema` prints. Those that use taplo (Even Better TOML, Helix, Zed) find it by the first line of a file:
  `#:schema ./config.schema.json`.
- *Reload*: `yes` holds from the next login, request or sweep on; `restart` keeps the old value until then and is named
  in the log.
";

/// Every key with type, default, meaning and whether a reload applies it, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for Section { path: section, purpose, example } in SECTIONS {
        let title = if section.is_empty() { "Top level".to_owned() } else { format!("`{}`", header(section)) };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n{purpose}\n\n```toml\n{example}```\n\n| Key | Type | Default | Reload | Meaning |\n|---|---|---|---|---|\n"
        );
        for row in schema::all().filter(|row| section_of(row) == *section) {
            let key = row.path.strip_prefix(section).map_or(row.path, |key| key.trim_start_matches('.'));
            let default = row.default.map_or_else(|| "–".to_owned(), |text| format!("`{}`", literal(row.kind, text)));
            let reload = if row.reload == Reload::AtOnce { "yes" } else { "restart" };
            let _ = writeln!(page, "| `{key}` | {} | {default} | {reload} | {} |", kind(row.kind), row.meaning);
        }
    }
    page
}

fn section_of(row: &Row) -> &'static str {
    if row.path.starts_with("tenant.default.") {
        return "tenant.default";
    }
    row.path.rsplit_once('.').map_or("", |(section, _)| section)
}

fn header(section: &str) -> String {
    match section.strip_suffix("[]") {
        Some(list) => format!("[[{list}]]"),
        None => format!("[{section}]"),
    }
}

/// A default as it is written in TOML.
fn literal(kind: Kind, text: &str) -> String {
    let bytes = kind == Kind::Size && text.parse::<u64>().is_ok();
    let bare = matches!(kind, Kind::Flag | Kind::Count(..) | Kind::Fraction) || bytes || text == "0";
    if bare { text.to_owned() } else { format!("\"{text}\"") }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Count(low, high) => format!("number, {low} to {high}"),
        Kind::CountOrAuto(low, high) => format!("number, {low} to {high}, or `\"auto\"`"),
        Kind::Fraction => "number above 0, at most 1".to_owned(),
        Kind::Time { zero: true } => "duration or 0".to_owned(),
        Kind::Time { zero: false } => "duration".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Secret => "secret text".to_owned(),
        Kind::Word(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Kind::Addresses => "address:port, /folder:port, or a list of them".to_owned(),
        Kind::Networks => "list of addresses and networks".to_owned(),
        Kind::Names => "list of names".to_owned(),
        Kind::Size => "size or number of bytes".to_owned(),
        Kind::AddressOrOff => "address:port or `\"off\"`".to_owned(),
        Kind::Url => "URL".to_owned(),
    }
}
