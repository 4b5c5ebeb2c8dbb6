//! Tables whose rows row-level security separates by the value of one setting.
//!
//! Where every policy of a table says `column = current_setting('app.tenant')` and nothing else, whoever it holds for sees
//! and writes the rows of one value and no others, whatever the statement. That is told from what the catalog says, and
//! any doubt is a table that is not separated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::text::{CAST, CLOSE, COMMA, OPEN, Text};
use super::{Catalog, Function, Kind, Language, Persistence, Volatility};
use crate::lexer::{Kind as Token, Word, symbol};

const EQUALS: u64 = symbol("=");

/// What the values of a column are, as far as two of them can be told apart by how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `uuid`.
    Uuid,
    /// `text`, or `varchar` without a length, of a deterministic collation.
    Text,
}

/// A column that rows may be separated by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnOf {
    /// `attname`.
    pub name: Box<str>,
    /// Of its type.
    pub values: ValueType,
}

/// A policy of such a table, whatever its command and its roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOf {
    /// `polpermissive`.
    pub permissive: bool,
    /// `pg_get_expr` of `polqual`.
    pub using: Option<Box<str>>,
    /// `pg_get_expr` of `polwithcheck`.
    pub check: Option<Box<str>>,
}

/// A table with row-level security of which the server has been asked: a permanent one, no part of anything, without
/// triggers and rules; whose defaults, checks and indexes call nothing but the server's own functions that set nothing; whose
/// columns are of the server's own types or enums; whose policies call nothing but `current_setting` and `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separable {
    /// The table.
    pub relation: u32,
    /// `relowner`.
    pub owner: u32,
    /// `relforcerowsecurity`.
    pub forced: bool,
    /// Those that rows may be separated by.
    pub columns: Vec<ColumnOf>,
    /// All of them.
    pub policies: Vec<PolicyOf>,
}

/// Whom row-level security holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Roles that are no superusers and have no BYPASSRLS. None where they are too many, or where a role begins as another.
    pub subject: BTreeSet<Box<str>>,
    /// By each owner of a table: the roles that have its privileges, for whom it does not hold unless it is forced.
    pub owners: BTreeMap<u32, BTreeSet<Box<str>>>,
    /// Settings of libraries, which may show a value otherwise than it was set.
    pub known_settings: BTreeSet<Box<str>>,
}

/// How a table's rows are separated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separation {
    /// The setting, in lower case.
    pub setting: Box<str>,
    values: ValueType,
    /// The roles that it holds for.
    subject: Arc<BTreeSet<Box<str>>>,
}

/// The longest value that is taken for one.
const MAX_VALUE: usize = 64;

impl Separation {
    /// The value whose rows are all that this role sees and writes while the setting says this, in the one form that it has.
    /// `None`: it is not certain.
    pub fn value<'a>(&self, role: &str, said: &'a str) -> Option<&'a str> {
        (self.subject.contains(role) && self.values.has_one_form(said)).then_some(said)
    }
}

impl ValueType {
    /// Whether this is written in the only way that is taken for its value: two ways of writing one value must not be two.
    fn has_one_form(self, said: &str) -> bool {
        let bytes = said.as_bytes();
        match self {
            Self::Integer => {
                let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
                let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
                plain && (digits.first() != Some(&b'0') || said == "0")
            }
            Self::Uuid => {
                let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                let fits = |(at, byte): (usize, &u8)| match at {
                    8 | 13 | 18 | 23 => *byte == b'-',
                    _ => is_hex(*byte),
                };
                bytes.len() == 36 && bytes.iter().enumerate().all(fits)
            }
            // Bytes that are the same in every encoding that a client may have.
            Self::Text => {
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:@/+-".contains(byte);
                (1..=MAX_VALUE).contains(&bytes.len()) && bytes.iter().all(plain)
            }
        }
    }

    /// Whether a value of a setting is cast to this type, of which no digit is lost.
    fn takes(self, cast: Option<&str>) -> bool {
        match self {
            Self::Integer => matches!(cast, Some("smallint" | "integer" | "bigint")),
            Self::Uuid => cast == Some("uuid"),
            Self::Text => matches!(cast, None | Some("text")),
        }
    }
}

impl Catalog {
    /// How the rows of this table are separated, if they are.
    pub fn separation(&self, table: u32) -> Option<&Arc<Separation>> {
        self.separations.get(&table)
    }

    /// Whether any table's rows are.
    pub fn separates(&self) -> bool {
        !self.separations.is_empty()
    }

    /// Whether no operator of somebody's own runs anything but a library, which is trusted to set nothing.
    pub(super) fn trusts_operators(&self) -> bool {
        self.trusts_operators
    }

    pub(super) fn is_of_a_library(&self, function: u32) -> bool {
        let trusted = |function: &Function| {
            function.is_the_servers_own()
                || function.language == Language::C && function.volatility != Volatility::Volatile
        };
        self.functions.get(&function).is_some_and(trusted)
    }

    pub(super) fn separations_of(&self, separable: &[Separable], who: Who) -> BTreeMap<u32, Arc<Separation>> {
        let mut subjects: BTreeMap<(u32, bool), Arc<BTreeSet<Box<str>>>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for table in separable {
            let Some((setting, values)) = self.separated_by(table) else { continue };
            if who.known_settings.contains(&*setting) {
                continue;
            }
            let subject = subjects.entry((table.owner, table.forced)).or_insert_with(|| match table.forced {
                true => Arc::new(who.subject.clone()),
                // Of an owner that nobody was told of, everybody may have the privileges.
                false => Arc::new(
                    who.owners
                        .get(&table.owner)
                        .map_or_else(BTreeSet::new, |owners| who.subject.difference(owners).cloned().collect()),
                ),
            });
            let separation = Separation { setting: setting.into(), values, subject: Arc::clone(subject) };
            found.insert(table.relation, Arc::new(separation));
        }
        found
    }

    /// The setting, and the type of the column.
    fn separated_by(&self, table: &Separable) -> Option<(String, ValueType)> {
        let relation = self.relation(table.relation)?;
        let plain = relation.kind == Kind::Table
            && relation.persistence == Persistence::Permanent
            && relation.row_security
            && !relation.own_types;
        let alone = !self.parents.contains_key(&table.relation) && !self.children.contains_key(&table.relation);
        let quiet = !self.triggers.contains_key(&table.relation) && !self.rewrites.contains_key(&table.relation);
        if !(plain && alone && quiet) {
            return None;
        }
        let mut by = None;
        for policy in &table.policies {
            let texts = [&policy.using, &policy.check].into_iter().flatten();
            let mut some = false;
            for text in texts {
                let read = equation(text)?;
                if !policy.permissive || by.get_or_insert_with(|| read.clone()) != &read {
                    return None;
                }
                some = true;
            }
            if !some {
                return None;
            }
        }
        let Equation { column, column_cast, setting, cast } = by?;
        let values = table.columns.iter().find(|known| *known.name == *column)?.values;
        let fits = values.takes(cast.as_deref()) && (!column_cast || values == ValueType::Text);
        fits.then_some((setting, values))
    }
}

/// `column = current_setting('setting')`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Equation {
    column: String,
    /// `(column)::text`.
    column_cast: bool,
    setting: String,
    cast: Option<String>,
}

/// Reads what the server prints of a policy, where nothing but the server's own things are printed without their schemas.
fn equation(printed: &str) -> Option<Equation> {
    let text = Text::new(printed.as_bytes());
    if text.broken {
        return None;
    }
    let (from, to) = inside(&text, 0, text.tokens.len());
    let mut at = from;
    while at < to && !text.is(at, EQUALS) {
        at = if text.is(at, OPEN) { text.closing(at)? + 1 } else { at + 1 };
    }
    if at >= to {
        return None;
    }
    let read = |(column, setting): ((usize, usize), (usize, usize))| {
        let (column, column_cast) = column_of(&text, column.0, column.1)?;
        let (setting, cast) = setting_of(&text, setting.0, setting.1)?;
        Some(Equation { column, column_cast, setting, cast })
    };
    let (left, right) = ((from, at), (at + 1, to));
    read((left, right)).or_else(|| read((right, left)))
}

/// What stands in all the parentheses that are around it.
fn inside(text: &Text<'_>, mut from: usize, mut to: usize) -> (usize, usize) {
    while from + 1 < to && text.is(from, OPEN) && text.closing(from) == to.checked_sub(1) {
        (from, to) = (from + 1, to - 1);
    }
    (from, to)
}

/// `(…)::type` at the end of a part: what stands in the parentheses, and the type.
fn uncast(text: &Text<'_>, from: usize, to: usize) -> Option<(usize, usize, String)> {
    let close = text.closing(from).filter(|_| text.is(from, OPEN))?;
    let is_one = text.is(close + 1, CAST) && close + 3 == to;
    let word = text.get(close + 2).filter(|token| token.kind == Token::Word)?;
    let name = || String::from_utf8_lossy(word.of(text.sql)).into_owned();
    is_one.then(|| (from + 1, close, name()))
}

fn column_of(text: &Text<'_>, from: usize, to: usize) -> Option<(String, bool)> {
    let (from, to) = inside(text, from, to);
    if from + 1 == to {
        return text.name(from).map(|name| (name, false));
    }
    let (from, to, cast) = uncast(text, from, to)?;
    (cast == "text" && from + 1 == to).then(|| text.name(from)).flatten().map(|name| (name, true))
}

/// `current_setting('setting' [, true])`, perhaps cast, perhaps behind a SELECT.
fn setting_of(text: &Text<'_>, from: usize, to: usize) -> Option<(String, Option<String>)> {
    let (mut from, mut to) = inside(text, from, to);
    let (mut cast, mut selected) = (None, false);
    loop {
        (from, to) = inside(text, from, to);
        if !selected && text.word(from) == Word::Select {
            (selected, from) = (true, from + 1);
            if to >= 2 && text.word(to - 2) == Word::As && text.is_name(to - 1) {
                to -= 2;
            }
        } else if cast.is_none()
            && let Some((first, last, name)) = uncast(text, from, to)
        {
            (from, to, cast) = (first, last, Some(name));
        } else {
            return call_of(text, from, to).map(|setting| (setting, cast));
        }
    }
}

fn call_of(text: &Text<'_>, from: usize, to: usize) -> Option<String> {
    let is_call = text.says(from, "current_setting")
        && text.is(from + 1, OPEN)
        && text.closing(from + 1).is_some_and(|close| close + 1 == to);
    let setting = text.string(from + 2).filter(|_| is_call)?.to_ascii_lowercase();
    let mut at = from + 3;
    if text.is(at, CAST) && text.says(at + 1, "text") {
        at += 2;
    }
    if text.is(at, COMMA) && text.says_one_of(at + 1, &["true", "false"]) {
        at += 2;
    }
    // Settings without a dot are the server's own, which show themselves in ways of their own.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let is_own = setting.contains('.') && setting.len() < 64 && setting.bytes().all(plain);
    (text.is(at, CLOSE) && at + 1 == to && is_own).then_some(setting)
}
