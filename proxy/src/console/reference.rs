//! `docs/console.md`, printed from the tables.

use std::fmt::Write as _;

use super::command::VERBS;
use super::rows::KEYS;
use super::table::{Show, shows};

/// What stands before the commands.
const INTRODUCTION: &str = include_str!("introduction.md");
/// What stands behind them.
const SET: &str = include_str!("set.md");

/// The whole document.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Commands\n\n| command | what it does |\n|---|---|\n");
    for verb in VERBS {
        _ = writeln!(page, "| `{}` | {} |", verb.usage.replace('|', "\\|"), verb.about);
    }
    page.push_str("\n### SET\n\n");
    page.push_str(SET);
    page.push_str("\n| PgBouncer's key | ours |\n|---|---|\n");
    for key in KEYS {
        if let Some(own) = key.own {
            _ = writeln!(page, "| `{}` | `{own}` |", key.name);
        }
    }
    let keys: Vec<String> = config::Settings::CHANGEABLE.iter().map(|key| format!("`{key}`")).collect();
    _ = writeln!(page, "\nBy our own name: {}.", keys.join(", "));
    page.push_str("\n## What PgBouncer shows too\n");
    shows().filter(|show| show.what.is_standard()).for_each(|show| write_show(&mut page, show));
    page.push_str("\n## What pgweir alone shows\n");
    shows().filter(|show| !show.what.is_standard()).for_each(|show| write_show(&mut page, show));
    page
}

fn write_show(page: &mut String, show: &Show) {
    _ = writeln!(page, "\n### SHOW {}\n\n{}", show.name, show.about);
    if show.columns.is_empty() {
        return;
    }
    page.push_str("\n| column | type | what stands in it |\n|---|---|---|\n");
    for column in show.columns {
        _ = writeln!(page, "| `{}` | {} | {} |", column.name, column.kind.word(), column.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "docs/console.md is out of date: `make docs` prints it anew");
    }
}
