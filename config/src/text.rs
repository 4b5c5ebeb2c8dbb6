//! TOML text into checked values: the walk over the document by the table of keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::{Mistake, Place};
use crate::schema::{self, Found, Kind, Row};
use crate::{ListenAddress, Network, Overrides, Sources, suggest, units};

/// A value that has the type of its row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Flag(bool),
    Count(u64),
    Fraction(f64),
    Time(Duration),
    Text(String),
    Addresses(Vec<ListenAddress>),
    Address(Option<SocketAddr>),
    Networks(Vec<Network>),
    Names(Vec<String>),
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Variables of the environment that stand in it.
    pub(crate) variables: Vec<String>,
}

/// Everything that was written, by path, and everything that is wrong so far.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) values: BTreeMap<Vec<String>, Given>,
    /// Where each table begins, empty ones included.
    pub(crate) tables: BTreeMap<Vec<String>, Place>,
    pub(crate) mistakes: Vec<Mistake>,
}

/// Reads the file's text and lays the overrides over it.
pub(crate) fn read(text: &str, overrides: &Overrides, sources: &dyn Sources) -> Written {
    let lines = Lines::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { lines: &lines, file: None, sources, written: Written::default() };
    if errors.is_empty() {
        walk.table(&mut Vec::new(), document.get_ref());
    }
    walk.not_toml(&errors);
    for (key, value, origin) in &overrides.list {
        walk.overridden(key, value, origin);
    }
    walk.written
}

/// Reads another file's text, whose keys stand under `path`.
pub(crate) fn read_under(written: &mut Written, path: Vec<String>, file: &str, text: &str, sources: &dyn Sources) {
    let lines = Lines::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { lines: &lines, file: Some(file), sources, written: std::mem::take(written) };
    if errors.is_empty() {
        walk.written.tables.insert(path.clone(), walk.place(0));
        walk.table(&mut path.clone(), document.get_ref());
    }
    walk.not_toml(&errors);
    *written = walk.written;
}

/// A path as a person writes it: `databases."a.b".size`, `tenants.rule[1].from`. A name longer than any that works is
/// cut.
pub(crate) fn show_path(path: &[String]) -> String {
    let is_list = matches!(path, [first, second, ..] if schema::is_list(&[first, second]));
    let mut shown = String::new();
    for (depth, segment) in path.iter().enumerate() {
        if is_list && depth == 2 {
            shown.push_str(&format!("[{segment}]"));
            continue;
        }
        if depth > 0 {
            shown.push('.');
        }
        let bare = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let name: String = segment.chars().take(100).collect();
        match bare {
            true => shown.push_str(&name),
            false => shown.push_str(&format!("\"{}\"", name.escape_debug())),
        }
    }
    shown
}

struct Walk<'a> {
    lines: &'a Lines<'a>,
    /// The file's name where it is not the configuration's own.
    file: Option<&'a str>,
    sources: &'a dyn Sources,
    written: Written,
}

impl Walk<'_> {
    fn not_toml(&mut self, errors: &[toml::de::Error]) {
        for error in errors.iter().take(20) {
            let place = error.span().map_or(Place::Nowhere, |span| self.place(span.start));
            let message = error.message().trim();
            self.written.mistakes.push(Mistake {
                place,
                key: String::new(),
                sentence: format!("this is not TOML: {message}; put it right, the rest of the file is checked then"),
            });
        }
    }

    fn place(&self, offset: usize) -> Place {
        match (self.lines.place(offset), self.file) {
            (Place::File(line, _), Some(file)) => Place::Elsewhere(file.to_owned(), line),
            (place, _) => place,
        }
    }

    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let place = self.place(key.span().start);
            self.entry(path, place, value);
            path.pop();
        }
    }

    fn entry(&mut self, path: &mut Vec<String>, place: Place, value: &Spanned<DeValue<'_>>) {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match (schema::find(&names), value.get_ref()) {
            (Found::Unknown, _) => {
                let sentence = suggest::unknown_key(&names);
                self.wrong(path, place, sentence);
            }
            (Found::Leaf(row), given) => match self.leaf(row, given) {
                Ok(value) => {
                    let variables = variables(given);
                    self.written.values.insert(path.clone(), Given { value, place, variables });
                }
                Err(sentence) => self.wrong(path, place, sentence),
            },
            (Found::Section, DeValue::Array(entries)) if schema::is_list(&names) => {
                for (number, entry) in entries.iter().enumerate() {
                    let place = self.place(entry.span().start);
                    path.push((number + 1).to_string());
                    self.section(path, place, entry.get_ref());
                    path.pop();
                }
            }
            (Found::Section, _) if schema::is_list(&names) => {
                let sentence = format!("is a list of tables; write [[{}]] for each entry", show_path(path));
                self.wrong(path, place, sentence);
            }
            (Found::Section, given) => self.section(path, place, given),
        }
    }

    fn section(&mut self, path: &mut Vec<String>, place: Place, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => {
                self.written.tables.insert(path.clone(), place);
                self.table(path, table);
            }
            _ => self.wrong(path, place, format!("is a table; write [{}] with its keys below", show_path(path))),
        }
    }

    fn leaf(&self, row: &Row, value: &DeValue<'_>) -> Result<Value, String> {
        match value {
            DeValue::String(text) => {
                let filled = self.interpolated(text)?;
                parse(row, &filled, Quoted::Yes, self.sources)
            }
            DeValue::Integer(number) if number.radix() == 10 => parse(row, number.as_str(), Quoted::No, self.sources),
            DeValue::Float(number) if row.kind == Kind::Fraction => {
                parse(row, number.as_str(), Quoted::No, self.sources)
            }
            DeValue::Boolean(flag) => parse(row, if *flag { "true" } else { "false" }, Quoted::No, self.sources),
            DeValue::Array(entries) if row.kind == Kind::Addresses => {
                let mut all = Vec::new();
                for entry in entries.iter() {
                    let DeValue::String(text) = entry.get_ref() else {
                        return Err(
                            "holds something that is not text; write [\"127.0.0.1:6432\", \"[::1]:6432\"]".to_owned()
                        );
                    };
                    all.push(place(&self.interpolated(text)?)?);
                }
                if all.is_empty() {
                    Err("is empty; name at least one address".to_owned())
                } else {
                    Ok(Value::Addresses(all))
                }
            }
            DeValue::Array(entries) if row.kind == Kind::Names => {
                let mut all = Vec::new();
                for entry in entries.iter() {
                    let DeValue::String(text) = entry.get_ref() else {
                        return Err("holds something that is not text; write [\"runs\", \"audit.*\"]".to_owned());
                    };
                    all.push(self.interpolated(text)?);
                }
                Ok(Value::Names(all))
            }
            DeValue::Array(entries) if row.kind == Kind::Networks => {
                let mut all = Vec::new();
                for entry in entries.iter() {
                    let DeValue::String(text) = entry.get_ref() else {
                        return Err("holds something that is not text; write [\"10.0.0.0/8\", \"::1\"]".to_owned());
                    };
                    all.push(network(&self.interpolated(text)?)?);
                }
                Ok(Value::Networks(all))
            }
            other => Err(format!("is {}; write {}", kind_of(other), expected(row.kind))),
        }
    }

    /// `${NAME}` becomes the variable's value; `$${` stands for `${` itself. One pass: values are not looked into.
    fn interpolated(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = after;
                continue;
            }
            let (name, next) = after
                .split_once('}')
                .ok_or("has a ${ without its }; write ${NAME}, or $${ for the characters themselves")?;
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !named {
                return Err("has a ${…} that names no variable; write ${NAME} with letters, digits and _".to_owned());
            }
            let value = self.sources.env(name).ok_or_else(|| {
                format!("uses ${{{name}}}, which is not set; set the variable {name} where the proxy is started")
            })?;
            filled.push_str(before);
            filled.push_str(&value);
            rest = next;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn overridden(&mut self, key: &str, value: &str, origin: &str) {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let place = Place::Override(origin.to_owned());
        let Found::Leaf(row) = schema::find(&names) else {
            return self.wrong(&path, place, suggest::unknown_key(&names));
        };
        match parse(row, value, Quoted::Either, self.sources) {
            Ok(value) => {
                self.written.values.insert(path, Given { value, place, variables: Vec::new() });
            }
            Err(sentence) => self.wrong(&path, place, sentence),
        }
    }

    fn wrong(&mut self, path: &[String], place: Place, sentence: String) {
        self.written.mistakes.push(Mistake { place, key: show_path(path), sentence });
    }
}

/// The variables that a value names. It has been read: they are there.
fn variables(value: &DeValue<'_>) -> Vec<String> {
    match value {
        DeValue::String(text) => {
            let mut names = Vec::new();
            let mut rest: &str = text;
            while let Some((before, after)) = rest.split_once("${") {
                let (name, next) = after.split_once('}').unwrap_or((after, ""));
                if before.ends_with('$') {
                    rest = after;
                    continue;
                }
                names.push(name.to_owned());
                rest = next;
            }
            names
        }
        DeValue::Array(entries) => entries.iter().flat_map(|entry| variables(entry.get_ref())).collect(),
        _ => Vec::new(),
    }
}

/// Whether the text stood in quotes in the file. Flags and numbers must not, durations and words must (but for 0).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoted {
    Yes,
    No,
    /// From a flag, a variable or the table of defaults, where there are no quotes.
    Either,
}

/// Reads a value of a row's kind.
pub(crate) fn parse(row: &Row, text: &str, quoted: Quoted, sources: &dyn Sources) -> Result<Value, String> {
    let wrong = || {
        Err(format!("is {}; write {}", if quoted == Quoted::Yes { "text" } else { "a bare value" }, expected(row.kind)))
    };
    match row.kind {
        Kind::Flag | Kind::Count(..) | Kind::Fraction if quoted == Quoted::Yes => wrong(),
        Kind::Flag => match text {
            "true" | "false" => Ok(Value::Flag(text == "true")),
            _ => Err(format!("is neither true nor false; write {}", expected(row.kind))),
        },
        Kind::CountOrAuto(low, high) if text == "auto" => {
            Ok(Value::Count(u64::try_from(sources.cores()).unwrap_or(1).clamp(low, high)))
        }
        Kind::Count(low, high) | Kind::CountOrAuto(low, high) => text
            .parse::<u64>()
            .ok()
            .filter(|number| (low..=high).contains(number))
            .map(Value::Count)
            .ok_or_else(|| format!("is not possible; write {}", expected(row.kind))),
        Kind::Fraction => text
            .parse::<f64>()
            .ok()
            .filter(|part| *part > 0.0 && *part <= 1.0)
            .map(Value::Fraction)
            .ok_or_else(|| format!("is not possible; write {}", expected(row.kind))),
        Kind::Time { zero } => {
            let time = units::parse_duration(text).map_err(|error| format!("{} {error}", shown(text)))?;
            if time.is_zero() && !zero {
                Err("cannot be 0; write a duration such as 500ms or 10s".to_owned())
            } else {
                Ok(Value::Time(time))
            }
        }
        Kind::Text
        | Kind::Secret
        | Kind::Word(_)
        | Kind::Addresses
        | Kind::AddressOrOff
        | Kind::Networks
        | Kind::Names
        | Kind::Url
            if quoted == Quoted::No =>
        {
            wrong()
        }
        Kind::Text | Kind::Secret | Kind::Url if text.is_empty() => {
            Err("is empty; give it a value or leave it out".to_owned())
        }
        Kind::Text | Kind::Secret | Kind::Url if text.contains('\0') => {
            Err("holds a NUL character, which no name or password can; remove it".to_owned())
        }
        Kind::Text | Kind::Secret | Kind::Url => Ok(Value::Text(text.to_owned())),
        Kind::Word(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Word(words) => {
            Err(format!("{} is not one of {}{}", shown(text), words.join(", "), suggest::among(text, words)))
        }
        Kind::AddressOrOff if text == "off" => Ok(Value::Address(None)),
        Kind::AddressOrOff => Ok(Value::Address(Some(address(text)?))),
        Kind::Size => units::parse_size(text).map(Value::Count).map_err(|error| format!("{} {error}", shown(text))),
        Kind::Names => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Names(parts.map(str::to_owned).collect()))
        }
        Kind::Networks => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(network).collect::<Result<_, _>>().map(Value::Networks)
        }
        Kind::Addresses => {
            text.split(',').map(|part| place(part.trim())).collect::<Result<_, _>>().map(Value::Addresses)
        }
    }
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text).map_err(|sentence| format!("{} {sentence}", shown(text)))
}

/// A path is a Unix socket, anything else an address of TCP.
fn place(text: &str) -> Result<ListenAddress, String> {
    if text.starts_with('/') {
        return ListenAddress::parse_unix(text).map_err(|sentence| format!("{} {sentence}", shown(text)));
    }
    address(text).map(ListenAddress::Tcp)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    resolved.as_deref().unwrap_or(text).parse().map_err(|_| {
        format!("{} is not an address with a port; write 127.0.0.1:6432, 0.0.0.0:6432 or [::1]:6432", shown(text))
    })
}

/// A value in quotes, cut where it gets long.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("\"{}{}\"", short.escape_debug(), if short.len() < text.len() { "…" } else { "" })
}

/// What a kind wants, as an example.
pub(crate) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false, without quotes".to_owned(),
        Kind::Count(low, high) => format!("a whole number from {low} to {high}, without quotes"),
        Kind::CountOrAuto(low, high) => format!("a whole number from {low} to {high}, or \"auto\""),
        Kind::Fraction => "a number above 0 and up to 1, such as 0.25, without quotes".to_owned(),
        Kind::Time { zero: true } => "a duration in quotes, such as \"500ms\" or \"5m\", or 0".to_owned(),
        Kind::Time { zero: false } => "a duration in quotes, such as \"500ms\" or \"5m\"".to_owned(),
        Kind::Text | Kind::Secret => "text in quotes".to_owned(),
        Kind::Word(words) => format!("one of {}, in quotes", words.join(", ")),
        Kind::Addresses => "an address with its port, such as \"127.0.0.1:6432\", or a list of them".to_owned(),
        Kind::AddressOrOff => "an address with its port, such as \"127.0.0.1:6433\", or \"off\"".to_owned(),
        Kind::Networks => "a list of addresses and networks, such as [\"10.0.0.0/8\", \"::1\"]".to_owned(),
        Kind::Names => "a list of names, such as [\"runs\", \"audit.*\"]".to_owned(),
        Kind::Size => "a size, such as \"16MiB\", or a number of bytes".to_owned(),
        Kind::Url => "a URL such as \"postgres://user:password@host:5432/database\"".to_owned(),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number in another base than ten",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Byte offsets to lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        // A column far into one huge line is of no use to anybody: it is counted up to a thousand characters.
        let column = self.text.get(start..offset).map_or(1, |before| before.chars().take(1000).count() + 1);
        Place::File(u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}
