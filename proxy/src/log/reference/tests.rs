//! The table against the sources.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// An event as the sources have it: level, target, words, fields.
type Found = (String, Option<String>, String, Vec<String>);

/// Every `tracing::…!` of a text, tests aside.
fn events_of(text: &str) -> Vec<Found> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut found = Vec::new();
    for (at, path) in text.match_indices("tracing::") {
        // Not cut at the next one, which may stand among the arguments.
        let Some((level, rest)) = text[at + path.len()..].split_once("!(") else { continue };
        if !["trace", "debug", "info", "warn", "error", "event"].contains(&level) {
            continue;
        }
        let (mut target, mut words, mut fields) = (None, None, Vec::new());
        for argument in arguments(rest) {
            let argument = argument.trim();
            if let Some(name) = argument.strip_prefix("target:") {
                target = Some(name.trim().trim_matches('"').to_owned());
            } else if let Some(literal) = argument.strip_prefix('"') {
                words = Some(literal.trim_end_matches('"').replace("\\\"", "\""));
            } else if !argument.is_empty() {
                let name = argument.split('=').next().unwrap().trim();
                fields.push(name.trim_start_matches(['%', '?']).to_owned());
            }
        }
        let words = words.unwrap_or_else(|| panic!("an event without words: tracing::{level}!({}", &rest[..80]));
        found.push((level.to_owned(), target, words, fields));
    }
    found
}

/// The arguments of a call, up to its closing bracket.
fn arguments(call: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for c in call.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            match c {
                '"' => quoted = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => return arguments,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    arguments.push(String::new());
                    continue;
                }
                _ => {}
            }
        }
        arguments.last_mut().unwrap().push(c);
    }
    panic!("a call without an end")
}

fn sources(folder: &Path, found: &mut Vec<Found>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if ["tests", "tests.rs", "testing.rs"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.extend(events_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_event_of_the_sources_is_in_the_table_and_no_other() {
    let mut found = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 70, "only {} events found", found.len());
    let found: BTreeSet<Found> = found.into_iter().collect();
    let known: BTreeSet<Found> = EVENTS
        .iter()
        .map(|event| {
            let fields = event.fields.iter().map(|field| (*field).to_owned()).collect();
            (event.level.word().to_owned(), event.target.map(str::to_owned), event.message.to_owned(), fields)
        })
        .collect();
    let missing: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(missing.is_empty(), "log/events.rs lacks {missing:#?}");
    assert!(gone.is_empty(), "no source has {gone:#?}");
    assert_eq!(EVENTS.len(), known.len(), "an event is there twice");
}

#[test]
fn events_are_read_as_they_are_written() {
    let text = r#"
        tracing::warn!(
            target: "limit", %error, name = other(a, "b, c"), ?mode, plain,
            "a \"word\", and {more}"
        );
        tracing::info!("plain");
        #[cfg(test)]
mod tests { tracing::info!("not this"); }"#
        .replace("        #[cfg", "#[cfg");
    let found = events_of(&text);
    let fields = ["error", "name", "mode", "plain"].map(str::to_owned).to_vec();
    let first = ("warn".to_owned(), Some("limit".to_owned()), "a \"word\", and {more}".to_owned(), fields);
    assert_eq!(found, [first, ("info".to_owned(), None, "plain".to_owned(), vec![])]);
}

#[test]
fn the_page_has_every_event_in_a_row_of_five() {
    let page = page();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| level")).collect();
    assert_eq!(rows.len(), EVENTS.len());
    for row in rows {
        assert_eq!(row.matches(" | ").count(), 4, "{row}");
    }
    for event in EVENTS {
        assert!(!event.meaning.is_empty() && event.meaning.ends_with('.'), "{}", event.message);
        assert!(!event.message.contains('|') && !event.meaning.contains('|'), "{}", event.message);
    }
}
