//! Where each value of the settings was written.

use std::collections::{BTreeMap, BTreeSet};

use crate::mistake::Place;
use crate::schema::{self, Found, Reload};
use crate::text::Written;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// Nobody says anything: the default.
    Default,
    /// A file says it.
    File {
        /// Which; `None`: the one that the text came from, which nobody has named.
        file: Option<String>,
        /// Its line, from 1.
        line: u32,
        /// The key there, where it is another one: that of the pool for a database's, or the name of a file that holds it.
        key: Option<String>,
        /// Variables of the environment that stand in it.
        variables: Vec<String>,
    },
    /// A flag of the command line, or a variable of the environment that stands for it, by its name.
    Named(String),
    /// A row of the table of tenants says it, which this database has.
    Table(String),
    /// No text was read: a program has made the settings.
    Program,
}

#[derive(Debug, Clone)]
struct Spot {
    place: Place,
    variables: Vec<String>,
}

/// Where all values of some settings were written.
///
/// Two of them are always equal: where a value stands is no part of what the settings are.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// `None`: no text was read.
    given: Option<BTreeMap<Vec<String>, Spot>>,
    /// The flag with the server's URL.
    upstream: Option<String>,
    /// The configuration's own file.
    file: Option<String>,
    /// Tenants whose limits come from a table, and the database that has it.
    rows: Option<(BTreeSet<String>, String)>,
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origins {}

impl Origins {
    pub(crate) fn of(written: &Written, upstream: Option<&str>) -> Self {
        let tables = written
            .tables
            .iter()
            .map(|(path, place)| (path.clone(), Spot { place: place.clone(), variables: Vec::new() }));
        let values = written.values.iter().map(|(path, given)| {
            (path.clone(), Spot { place: given.place.clone(), variables: given.variables.clone() })
        });
        Self {
            given: Some(tables.chain(values).collect()),
            upstream: upstream.map(str::to_owned),
            file: None,
            rows: None,
        }
    }

    /// Names the file that the text was read from.
    pub fn name_file(&mut self, file: &str) {
        self.file = Some(file.to_owned());
    }

    /// The limits of these tenants come from a table in this database.
    pub(crate) fn name_rows(&mut self, tenants: BTreeSet<String>, database: &str) {
        self.rows = Some((tenants, database.to_owned()));
    }

    /// The same with the places of those values that need a restart as they were: they are the ones in force.
    pub(crate) fn without_restart(&mut self, running: &Self) {
        let (Some(given), Some(before)) = (&mut self.given, &running.given) else { return };
        let waits = |path: &Vec<String>| {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            matches!(schema::find(&names), Found::Leaf(row) if row.reload == Reload::Restart)
        };
        given.retain(|path, _| !waits(path));
        given.extend(before.iter().filter(|(path, _)| waits(path)).map(|(path, place)| (path.clone(), place.clone())));
    }

    /// Where the value of this key was written.
    pub fn of_key(&self, path: &[String]) -> Provenance {
        if let (["tenant", "limits", tenant, ..], Some((rows, database))) = (names_of(path).as_slice(), &self.rows)
            && rows.contains(*tenant)
        {
            return Provenance::Table(database.clone());
        }
        let Some(given) = &self.given else { return Provenance::Program };
        let names = names_of(path);
        for (at, is_own) in places(&names) {
            if let Some(written) = given.get(&at) {
                return written.origin(self.file.as_deref(), (!is_own).then(|| crate::text::show_path(&at)));
            }
        }
        // An entry of a list stands somewhere under its name.
        if schema::is_list(&names)
            && let Some((_, entry)) = given.iter().find(|(at, _)| at.starts_with(path))
        {
            return entry.origin(self.file.as_deref(), None);
        }
        let of_url = match names.as_slice() {
            ["databases", name, "upstream"] => !given.contains_key(&owned(&["databases", name])),
            ["users", name, ..] => !given.contains_key(&owned(&["users", name])),
            _ => false,
        };
        match &self.upstream {
            Some(flag) if of_url => Provenance::Named(flag.clone()),
            _ => Provenance::Default,
        }
    }
}

/// Where a key's value may stand, and whether that is the key itself: the first that is written counts.
fn places(names: &[&str]) -> Vec<(Vec<String>, bool)> {
    let mut all = vec![(owned(names), true)];
    if let Some((key, section)) = names.split_last() {
        let file = format!("{key}_file");
        all.push((owned(&[section, &[&file]].concat()), false));
    }
    match names {
        ["databases", _, key] => all.push((owned(&["pool", key]), false)),
        ["users", _, "password"] => all.push((owned(&["auth", "userlist"]), false)),
        _ => {}
    }
    all
}

impl Spot {
    fn origin(&self, own: Option<&str>, key: Option<String>) -> Provenance {
        let variables = self.variables.clone();
        match &self.place {
            Place::File(line, _) => Provenance::File { file: own.map(str::to_owned), line: *line, key, variables },
            Place::Elsewhere(file, line) => Provenance::File { file: Some(file.clone()), line: *line, key, variables },
            Place::Override(name) => Provenance::Named(name.clone()),
            Place::Nowhere => Provenance::Default,
        }
    }
}

fn names_of(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|segment| (*segment).to_owned()).collect()
}
