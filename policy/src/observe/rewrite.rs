//! What to send instead: text that a developer can paste.
//!
//! Made from normalised texts by replacing the one comparison that carries the key. Constants are gone from such texts,
//! so they come back as parameters of their own, numbered on.

use std::ops::Range;

use super::calls::{Calls, calls, is_unambiguous};
use super::text::{CUT, Context, Placeholder, Text, TokenKind, unquote};
use crate::finding::Kind;

/// From here on COPY beats INSERT with several rows.
const COPY_ROWS: u64 = 1_000;
/// Alias of the keys in rewrites.
const KEYS: &str = "k";

/// What is known about the keys of a burst.
#[derive(Debug, Clone)]
pub(super) struct Keys<'a> {
    pub(super) kind: Kind,
    /// The parameter that carries the key, from 0.
    pub(super) parameter: Option<usize>,
    /// Executions of the child.
    pub(super) count: u64,
    /// The key's type, for the cast; `None`: no cast may name it.
    pub(super) type_name: Option<&'a str>,
    /// Whether the parent's column compares with the key as the child takes it.
    pub(super) joins: bool,
    /// The number after LIMIT, when it is known.
    pub(super) limit: Option<i64>,
    /// The parent's normalised text, and the name under which that gives the column with the keys.
    pub(super) parent: Option<&'a str>,
    pub(super) parent_column: Option<&'a str>,
    /// All parameters that differ between executions, and their types.
    pub(super) varying: Vec<(usize, Option<&'a str>)>,
}

/// The statement or statements to send instead; `None` when no honest one can be made of this text.
pub(super) fn rewrite(text: &Text<'_>, keys: &Keys<'_>) -> Option<String> {
    if text.text.ends_with(CUT) || keys.parent.is_some_and(|parent| parent.ends_with(CUT)) {
        return None;
    }
    match keys.kind {
        Kind::InsertLoop => insert(text, keys),
        Kind::Duplicate
        | Kind::PlanChanged
        | Kind::Regression
        | Kind::Slowdown
        | Kind::SlowTransaction
        | Kind::IdleInTransaction => None,
        Kind::RecursiveWalk => recursive(text, keys),
        Kind::NPlusOneWrite => write(text, keys, keys.parameter?),
        Kind::NPlusOne => read(text, keys, keys.parameter?),
        Kind::LoopUnsourced => {
            let (parameter, type_name) = only_key(text, keys)?;
            let keys = Keys { type_name, parameter: Some(parameter), ..keys.clone() };
            let is_select = text.word(0) == "select";
            if is_select { read(text, &keys, parameter) } else { write(text, &keys, parameter) }
        }
    }
}

/// The one varying parameter that something is compared with.
fn only_key<'a>(text: &Text<'_>, keys: &Keys<'a>) -> Option<(usize, Option<&'a str>)> {
    let is_key = |parameter: usize| text.placeholder(parameter).is_some_and(|found| found.context == Context::Equal);
    let mut found = keys.varying.iter().filter(|(parameter, _)| is_key(*parameter));
    let first = found.next().copied()?;
    found.next().is_none().then_some(first)
}

/// A text with edits: ranges to be replaced.
struct Draft<'a, 'b> {
    text: &'b Text<'a>,
    edits: Vec<(Range<usize>, String)>,
    /// Added to every `$n`, so that two texts fit into one.
    offset: usize,
    /// The number of the next constant that becomes a parameter.
    next: usize,
}

impl<'a, 'b> Draft<'a, 'b> {
    fn new(text: &'b Text<'a>, offset: usize) -> Self {
        Self { text, edits: Vec::new(), offset, next: offset + text.parameters + 1 }
    }

    fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.edits.push((range, with.into()));
    }

    /// Replaces the comparison with the key by `with`, and tells the key's number.
    fn replace_key(&mut self, key: &Placeholder, with: impl FnOnce(usize) -> String) -> Option<()> {
        let start = self.text.tokens.get(key.from_token)?.span.start;
        let end = self.text.tokens.get(key.to_token)?.span.end;
        let number = self.number(key.index);
        let with = with(number);
        self.replace(start..end, with);
        Some(())
    }

    /// Puts `with` wherever a placeholder stands.
    fn replace_uses(&mut self, index: usize, with: &str) {
        for used in self.text.placeholders.iter().filter(|placeholder| placeholder.index == index) {
            if let Some(token) = self.text.tokens.get(used.token) {
                self.edits.push((token.span.clone(), with.to_owned()));
            }
        }
    }

    /// The number that a placeholder has in the draft; constants get theirs now.
    fn number(&mut self, index: usize) -> usize {
        if index < self.text.parameters {
            return self.offset + index + 1;
        }
        self.next += 1;
        self.next - 1
    }

    /// Cuts from a token to the end.
    fn cut_from(&mut self, token: usize) {
        if let Some(token) = self.text.tokens.get(token) {
            self.replace(token.span.start..self.text.text.len(), "");
        }
    }

    /// The text with its edits; what they do not cover is renumbered.
    fn finish(mut self) -> String {
        for (index, token) in self.text.tokens.iter().enumerate() {
            let covered = self
                .edits
                .iter()
                .any(|(range, _)| range.start <= token.span.start && token.span.end <= range.end && !range.is_empty());
            if covered {
                continue;
            }
            let number = match token.kind {
                TokenKind::Parameter(parameter) => self.offset + parameter + 1,
                TokenKind::Constant(_) => {
                    self.next += 1;
                    self.next - 1
                }
                _ => continue,
            };
            let typed = matches!(
                self.text.word(index.wrapping_sub(1)),
                "interval" | "date" | "time" | "timestamp" | "timestamptz"
            );
            let shown = if typed { "'…'".to_owned() } else { format!("${number}") };
            self.edits.push((token.span.clone(), shown));
        }
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut out, mut at) = (String::with_capacity(self.text.text.len() + 64), 0);
        for (range, with) in &self.edits {
            if range.start < at {
                continue;
            }
            out.push_str(self.text.text.get(at..range.start).unwrap_or_default());
            out.push_str(with);
            at = range.end;
        }
        out.push_str(self.text.text.get(at..).unwrap_or_default());
        out.trim_end_matches([' ', ';']).to_owned()
    }
}

/// A read: keys in one array; counts by GROUP BY, the first of each by DISTINCT ON, the first few by LATERAL.
fn read(text: &Text<'_>, keys: &Keys<'_>, parameter: usize) -> Option<String> {
    let key = text.placeholder(parameter)?;
    let column = text.text.get(key.column.clone()?)?;
    if key.context != Context::Equal || text.word(0) != "select" || !is_bare(text, key) || uses(text, key) > 1 {
        return lateral(text, keys, key);
    }
    let combines =
        ["union", "intersect", "except", "having", "window", "for"].iter().any(|word| text.top_level(word).is_some());
    let grouped = text.top_level("group").is_some();
    let distinct = matches!(text.word(1), "distinct" | "all");
    let limited = text.top_level("limit").or_else(|| text.top_level("fetch")).is_some();
    let paged = text.top_level("offset").is_some();
    let Calls { aggregate, other } = calls(text);
    if combines || distinct || paged || other || !is_at_top(text, key) {
        return lateral(text, keys, key);
    }
    if aggregate && !grouped && !limited {
        return Some(format!("{};", count_by(text, keys, key, column)?));
    }
    if grouped || aggregate {
        return lateral(text, keys, key);
    }
    if limited {
        return if keys.limit == Some(1) { distinct_on(text, keys, key, column) } else { lateral(text, keys, key) };
    }
    let one = format!("{};", any(text, keys, key, column)?);
    match join(text, keys, key) {
        Some(joined) => Some(format!("{one}\n-- or together with the parent:\n{joined};")),
        None => Some(one),
    }
}

/// `… where event_id = ANY($1::int4[])`, with the key in the list so that rows can be told apart.
fn any(text: &Text<'_>, keys: &Keys<'_>, key: &Placeholder, column: &str) -> Option<String> {
    let mut draft = Draft::new(text, 0);
    draft.replace_key(key, |number| any_of(number, keys))?;
    if !selects(text, column) {
        insert_after_select(&mut draft, &format!("{column}, "));
    }
    Some(tidy(draft.finish()))
}

/// `select post_id, count(*) … where post_id = ANY(…) group by post_id`
fn count_by(text: &Text<'_>, keys: &Keys<'_>, key: &Placeholder, column: &str) -> Option<String> {
    let mut draft = Draft::new(text, 0);
    draft.replace_key(key, |number| any_of(number, keys))?;
    insert_after_select(&mut draft, &format!("{column}, "));
    if let Some(order) = text.top_level("order") {
        draft.cut_from(order);
    }
    Some(format!("{} group by {column}", tidy(draft.finish())))
}

/// `select distinct on (post_id) … order by post_id, …` for the first row of each.
fn distinct_on(text: &Text<'_>, keys: &Keys<'_>, key: &Placeholder, column: &str) -> Option<String> {
    let mut draft = Draft::new(text, 0);
    draft.replace_key(key, |number| any_of(number, keys))?;
    let listed = if selects(text, column) { String::new() } else { format!("{column}, ") };
    insert_after_select(&mut draft, &format!("distinct on ({column}) {listed}"));
    let limit = text.top_level("limit").or_else(|| text.top_level("fetch"))?;
    match text.top_level("order") {
        Some(order) => {
            let after = text.tokens.get(order + 1)?.span.end;
            draft.replace(after..after, format!(" {column},"));
            draft.cut_from(limit);
            Some(format!("{};", tidy(draft.finish())))
        }
        None => {
            draft.cut_from(limit);
            Some(format!("{} order by {column};", tidy(draft.finish())))
        }
    }
}

/// Any SELECT at all, once per key but in one statement.
fn lateral(text: &Text<'_>, keys: &Keys<'_>, key: &Placeholder) -> Option<String> {
    if !matches!(text.word(0), "select" | "with") {
        return None;
    }
    let type_name = keys.type_name?;
    let mut draft = Draft::new(text, 0);
    let number = draft.number(key.index);
    draft.replace_uses(key.index, &format!("{KEYS}.key"));
    Some(format!(
        "select {KEYS}.key, c.* from unnest(${number}::{type_name}[]) as {KEYS}(key) cross join lateral ({}) as c;",
        draft.finish()
    ))
}

/// Parent and child in one, when the parent is a plain SELECT of named columns.
fn join(text: &Text<'_>, keys: &Keys<'_>, key: &Placeholder) -> Option<String> {
    let (parent, column) = (Text::new(keys.parent?), keys.parent_column?);
    let plain = parent.word(0) == "select" && parent.top_level("for").is_none() && parent.top_level("into").is_none();
    if !plain || !keys.joins || !is_unambiguous(&parent, column) {
        return None;
    }
    let outer = Draft::new(&parent, 0);
    let constants = parent.tokens.iter().filter(|token| matches!(token.kind, TokenKind::Constant(_))).count();
    let mut inner = Draft::new(text, parent.parameters + constants);
    inner.replace_uses(key.index, &format!("p.{}", quoted(column)));
    close_gap(&mut inner, key);
    Some(format!("select c.* from ({}) as p join lateral ({}) as c on true", outer.finish(), inner.finish()))
}

/// A `$n` that the key leaves free is taken by the highest, so that numbers stay dense.
fn close_gap(draft: &mut Draft<'_, '_>, key: &Placeholder) {
    if key.index >= draft.text.parameters {
        return;
    }
    let (offset, gap) = (draft.offset, key.index);
    for token in &draft.text.tokens {
        if let TokenKind::Parameter(parameter) = token.kind
            && parameter > gap
        {
            draft.edits.push((token.span.clone(), format!("${}", offset + parameter)));
        }
    }
    draft.next = draft.next.saturating_sub(1);
}

/// UPDATE from arrays; DELETE, and an UPDATE of equal values, by one array.
fn write(text: &Text<'_>, keys: &Keys<'_>, parameter: usize) -> Option<String> {
    let key = text.placeholder(parameter)?;
    if key.context != Context::Equal || key.column.is_none() || key.from_token == key.token || !is_at_top(text, key) {
        return None;
    }
    let assigned: Vec<&(usize, Option<&str>)> =
        keys.varying.iter().filter(|(varying, _)| *varying != parameter).collect();
    if assigned.is_empty() {
        if uses(text, key) > 1 || !is_bare(text, key) {
            return None;
        }
        let mut draft = Draft::new(text, 0);
        draft.replace_key(key, |number| any_of(number, keys))?;
        return Some(format!("{};", tidy(draft.finish())));
    }
    if text.word(0) != "update" || text.top_level("from").is_some() {
        return None;
    }
    let mut draft = Draft::new(text, 0);
    let (mut arrays, mut names) = (Vec::new(), Vec::new());
    for (index, type_name) in assigned.iter().copied().chain([&(parameter, keys.type_name)]) {
        let (number, type_name) = (draft.number(*index), (*type_name)?);
        let name = format!("v{}", names.len() + 1);
        arrays.push(format!("${number}::{type_name}[]"));
        draft.replace_uses(*index, &format!("v.{name}"));
        names.push(name);
    }
    let place = text.tokens.get(text.top_level("where")?)?.span.start;
    draft.replace(place..place, format!("from unnest({}) as v({}) ", arrays.join(", "), names.join(", ")));
    Some(format!("{};", draft.finish()))
}

/// Several rows at once; COPY for very many.
fn insert(text: &Text<'_>, keys: &Keys<'_>) -> Option<String> {
    let values = text.top_level("values")?;
    let (open, mut close, mut depth) = (values + 1, values + 1, 0_i32);
    while close < text.tokens.len() {
        match text.word(close) {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        close += 1;
    }
    let row = text.tokens.get(open)?.span.start..text.tokens.get(close)?.span.end;
    let first = Text::new(text.text.get(row.clone())?);
    let width = first.parameters.max(1);
    let constants = first.tokens.iter().filter(|token| matches!(token.kind, TokenKind::Constant(_))).count();
    let rows: Vec<String> = (0..2)
        .map(|index| {
            Draft::new(&first, index * (width + constants) * usize::from(first.parameters + constants > 0)).finish()
        })
        .collect();
    let head = text.text.get(..row.start)?;
    let tail = text.text.get(row.end..)?;
    if [head, tail].iter().any(|rest| rest.contains(['$', '?'])) {
        // What stands there for one row does not for several.
        return None;
    }
    let several = format!("{}{}{};", head, rows.join(", "), tail);
    let several = format!("-- one statement, a row of values for each:\n{several}");
    if keys.count < COPY_ROWS || !tail.trim().is_empty() {
        return Some(several);
    }
    let target =
        text.text.get(text.tokens.get(text.top_level("into")? + 1)?.span.start..text.tokens.get(values)?.span.start)?;
    Some(format!("{several}\n-- or, for this many rows:\ncopy {} from stdin;", target.trim()))
}

/// The whole tree by one recursive statement.
fn recursive(text: &Text<'_>, keys: &Keys<'_>) -> Option<String> {
    let (key, column) = (text.placeholder(keys.parameter?)?, keys.parent_column?);
    if text.word(0) != "select" || text.top_level("for").is_some() || !is_unambiguous(text, column) {
        return None;
    }
    let start = Draft::new(text, 0).finish();
    let mut step = Draft::new(text, 0);
    step.replace_uses(key.index, &format!("walk.{}", quoted(column)));
    Some(format!(
        "with recursive walk as (({start}) union all select c.* from walk cross join lateral ({}) as c) select * from walk;",
        step.finish()
    ))
}

/// Whether the key is compared in the statement's own WHERE, not inside a subquery.
fn is_at_top(text: &Text<'_>, key: &Placeholder) -> bool {
    let mut stack = Vec::new();
    for index in 0..key.from_token {
        match text.word(index) {
            "(" => stack.push(text.word(index + 1)),
            ")" => drop(stack.pop()),
            _ => {}
        }
    }
    !stack.contains(&"select")
}

/// How often the key's parameter stands in the text: one array cannot serve a second use.
fn uses(text: &Text<'_>, key: &Placeholder) -> usize {
    text.placeholders.iter().filter(|placeholder| placeholder.index == key.index).count()
}

/// Whether the comparison with the key can be replaced: a single operator and the placeholder, and nothing that goes on with
/// its value.
fn is_bare(text: &Text<'_>, key: &Placeholder) -> bool {
    let next = text.tokens.get(key.to_token + 1);
    let goes_on = next.is_some_and(|next| next.kind == TokenKind::Operator)
        || matches!(text.word(key.to_token + 1), "at" | "collate" | "is" | "between" | "in" | "like" | "ilike" | "[");
    key.from_token != key.token && !goes_on
}

/// ` = ANY($1::int4[])`. Without a name for its type the server takes that of what it is compared with.
fn any_of(number: usize, keys: &Keys<'_>) -> String {
    let cast = keys.type_name.map(|type_name| format!("::{type_name}[]")).unwrap_or_default();
    format!(" = ANY(${number}{cast})")
}

/// Whether a top-level select list holds `*`, or the column by any qualifier.
fn selects(text: &Text<'_>, column: &str) -> bool {
    let wanted = column.rsplit('.').next().unwrap_or(column).trim();
    is_starred(text) || lists(text, wanted)
}

fn is_starred(text: &Text<'_>) -> bool {
    let end = text.top_level("from").unwrap_or(text.tokens.len());
    (1..end).any(|token| text.word(token) == "*" && matches!(text.word(token - 1), "select" | "," | "."))
}

/// Whether a top-level select list holds this column by its name.
fn lists(text: &Text<'_>, column: &str) -> bool {
    let end = text.top_level("from").unwrap_or(text.tokens.len());
    (1..end).any(|token| {
        let word = text.word(token);
        (word == column || (word.starts_with('"') && unquote(word) == column))
            && matches!(text.word(token + 1), "," | "from" | "")
    })
}

/// The first of these names under which a text gives a column, the last one by `*` too; `None`: none of them. A normalised
/// text is without what stands behind AS in a select list, so that the name in a result may be nowhere in it.
pub(super) fn exported<'a>(text: &Text<'_>, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut last = None;
    for name in names {
        if lists(text, name) {
            return Some(name);
        }
        last = Some(name);
    }
    last.filter(|_| is_starred(text))
}

fn insert_after_select(draft: &mut Draft<'_, '_>, list: &str) {
    if let Some(token) = draft.text.tokens.first() {
        draft.replace(token.span.end..token.span.end, format!(" {}", list.trim_end()));
    }
}

/// One space where a word and ` = ANY` met.
fn tidy(text: String) -> String {
    text.replace("  = ANY", " = ANY").trim_end().to_owned()
}

/// A name as it must be written.
fn quoted(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
