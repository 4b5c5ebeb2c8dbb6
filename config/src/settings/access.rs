//! Values by path. A row's kind decides a value's type, so a value of another type cannot be in the map; where one
//! nevertheless were, its type's zero stands in, and the test that reads every row would fail.

use std::ops::Bound;

use super::*;

impl Builder<'_> {
    pub(super) fn given(&self, path: &[&str]) -> Option<&Given> {
        self.written.values.get(&owned(path))
    }

    pub(super) fn flag(&self, path: &[&str]) -> bool {
        self.flag_at(&owned(path))
    }

    pub(super) fn flag_at(&self, path: &[String]) -> bool {
        matches!(self.value_at(path), Some(Value::Flag(true)))
    }

    pub(super) fn count(&self, path: &[&str]) -> usize {
        self.count_at(&owned(path))
    }

    pub(super) fn count_at(&self, path: &[String]) -> usize {
        match self.value_at(path) {
            Some(Value::Count(number)) => usize::try_from(number).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    pub(super) fn time(&self, path: &[&str]) -> Duration {
        self.time_at(&owned(path))
    }

    pub(super) fn time_at(&self, path: &[String]) -> Duration {
        match self.value_at(path) {
            Some(Value::Time(time)) => time,
            _ => Duration::ZERO,
        }
    }

    /// A limit whose zero means none.
    pub(super) fn limit(&self, path: &[&str]) -> Option<Duration> {
        Some(self.time(path)).filter(|time| !time.is_zero())
    }

    pub(super) fn text(&self, path: &[&str]) -> Option<String> {
        match self.value_at(&owned(path)) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn listed(&self, path: &[&str]) -> Vec<String> {
        match self.value_at(&owned(path)) {
            Some(Value::Names(names)) => names,
            _ => Vec::new(),
        }
    }

    pub(super) fn fraction(&self, path: &[&str]) -> f64 {
        match self.value_at(&owned(path)) {
            Some(Value::Fraction(part)) => part,
            _ => 0.0,
        }
    }

    pub(super) fn word(&self, path: &[&str]) -> String {
        self.word_at(&owned(path))
    }

    pub(super) fn word_at(&self, path: &[String]) -> String {
        match self.value_at(path) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    pub(super) fn addresses(&self, path: &[&str]) -> Vec<ListenAddress> {
        match self.value_at(&owned(path)) {
            Some(Value::Addresses(addresses)) => addresses,
            _ => Vec::new(),
        }
    }

    pub(super) fn address(&self, path: &[&str]) -> Option<SocketAddr> {
        match self.value_at(&owned(path)) {
            Some(Value::Address(address)) => address,
            _ => None,
        }
    }

    pub(super) fn networks(&mut self, path: &[&str]) -> Vec<Network> {
        match self.value_at(&owned(path)) {
            Some(Value::Networks(networks)) => networks,
            _ => Vec::new(),
        }
    }

    /// `key`, or the text of the file that `key_file` names.
    pub(super) fn secret(&mut self, section: &[&str], key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let path: Vec<&str> = section.iter().copied().chain([key]).collect();
        let file_path: Vec<&str> = section.iter().copied().chain([file_key.as_str()]).collect();
        let (value, file) = (self.text(&path), self.text(&file_path));
        if value.is_some() && file.is_some() {
            self.wrong(&file_path, &format!("stands beside {key}; leave one of the two out"));
        }
        let Some(file) = file else { return value.map(Secret::new) };
        match self.sources.read(&file) {
            Ok(text) if text.trim_end().is_empty() => {
                self.wrong(&file_path, &format!("names {file}, which is empty; write the secret into it"))
            }
            Ok(text) => return Some(Secret::new(text.trim_end())),
            Err(why) => {
                self.wrong(&file_path, &format!("cannot read {file}: {why}; correct the path or its permissions"))
            }
        }
        None
    }

    /// Names of the tables right under a path, those without a valid key among them.
    pub(super) fn names_under(&self, path: &[&str]) -> Vec<String> {
        let depth = path.len();
        let mut names: Vec<String> = Vec::new();
        for found in under(&self.written.tables, path).map(|(found, _)| found) {
            names.extend(found.get(depth).filter(|name| names.last() != Some(name)).cloned());
        }
        names
    }

    /// Names of the keys right under a path.
    pub(super) fn keys_under(&self, path: &[&str]) -> Vec<String> {
        let keys = under(&self.written.values, path).map(|(found, _)| found);
        keys.filter(|found| found.len() == path.len() + 1).filter_map(|found| found.last().cloned()).collect()
    }

    pub(super) fn wrong(&mut self, path: &[&str], sentence: &str) {
        self.wrong_at(&owned(path), sentence.to_owned());
    }

    /// Notes a mistake where the key, or else the table around it, was written.
    pub(super) fn wrong_at(&mut self, path: &[String], sentence: String) {
        let place = (1..=path.len())
            .rev()
            .filter_map(|length| path.get(..length))
            .find_map(|path| {
                self.written.values.get(path).map(|given| &given.place).or_else(|| self.written.tables.get(path))
            })
            .cloned()
            .unwrap_or(Place::Nowhere);
        let mistake = Mistake { place, key: show_path(path), sentence };
        if !self.written.mistakes.contains(&mistake) {
            self.written.mistakes.push(mistake);
        }
    }

    /// Whether a mistake was noted for exactly this key.
    pub(super) fn is_wrong(&self, path: &[&str]) -> bool {
        let key = show_path(&owned(path));
        self.written.mistakes.iter().any(|mistake| mistake.key == key)
    }

    /// What was written, else the row's default.
    fn value_at(&self, path: &[String]) -> Option<Value> {
        if let Some(given) = self.written.values.get(path) {
            return Some(given.value.clone());
        }
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let Found::Leaf(row) = schema::find(&names) else { return None };
        text::parse(row, row.default?, Quoted::Either, self.sources).ok()
    }
}

/// What stands somewhere under a path. Asked for each of thousands of tenants, so it looks at nothing else.
fn under<'a, T>(all: &'a BTreeMap<Vec<String>, T>, path: &'a [&str]) -> impl Iterator<Item = (&'a Vec<String>, &'a T)> {
    let begin = Bound::Excluded(owned(path));
    all.range((begin, Bound::Unbounded)).take_while(move |(found, _)| found.iter().zip(path).all(|(a, b)| a == b))
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|segment| (*segment).to_owned()).collect()
}
