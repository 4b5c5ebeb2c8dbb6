//! Which class a statement has, told by its first words.

use super::Class;
use super::settings::{self, SetForm};
use crate::lexer::{Kind, Token, Word, symbol};

/// What the first words of a statement say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verb {
    pub(crate) class: Class,
    /// The token from which on everything is one value that the fingerprint must not see.
    pub(crate) value: Option<usize>,
    /// EXPLAIN: where what it explains begins, and whether it runs it.
    pub(crate) explained: Option<(usize, bool)>,
}

impl From<Class> for Verb {
    fn from(class: Class) -> Self {
        Self { class, ..Self::default() }
    }
}

/// The class of the statement that `tokens` are.
pub(crate) fn classify(tokens: &[Token]) -> Verb {
    let open = symbol("(");
    let Some(first) = tokens.iter().find(|token| !token.is(open)) else { return Verb::default() };
    let class = match first.word {
        Word::Select | Word::Table => Class::Select,
        Word::Values => Class::Values,
        Word::Insert => Class::Insert,
        Word::Update => Class::Update,
        Word::Delete => Class::Delete,
        Word::Merge => Class::Merge,
        Word::With => main_of_with(tokens),
        Word::Explain => return explain(tokens),
        _ => return utility(first.word, tokens),
    };
    class.into()
}

fn utility(first: Word, tokens: &[Token]) -> Verb {
    let next = word(tokens, 1);
    let class = match first {
        Word::Begin | Word::Start => Class::Begin,
        Word::Commit | Word::End => Class::Commit,
        Word::Rollback | Word::Abort => return rollback(tokens),
        Word::Savepoint => return named(Class::Savepoint, tokens),
        Word::Release => return named(Class::Release, tokens),
        Word::Set => return set(tokens),
        Word::Reset => Class::Reset,
        Word::Show => Class::Show,
        // `PREPARE transaction AS …` prepares a statement of that name.
        Word::Prepare if next == Word::Transaction && tokens.get(2).is_some_and(|id| id.kind == Kind::String) => {
            Class::PrepareTransaction
        }
        Word::Prepare => Class::Prepare,
        Word::Execute => Class::Execute,
        Word::Deallocate if tokens.last().is_some_and(|last| last.word == Word::All) => Class::Deallocate,
        Word::Deallocate => return named(Class::Deallocate, tokens),
        Word::Declare => Class::Declare,
        Word::Fetch | Word::Move => Class::Fetch,
        Word::Close => Class::Close,
        Word::Listen => Class::Listen,
        Word::Unlisten => Class::Unlisten,
        Word::Notify => Class::Notify,
        Word::Discard => Class::Discard,
        Word::Lock => Class::Lock,
        Word::Call => Class::Call,
        Word::Do => Class::Do,
        Word::Load => Class::Load,
        Word::Copy => copy(tokens),
        _ => schema(first, tokens),
    };
    class.into()
}

/// Statements on schemas and on the server itself.
fn schema(first: Word, tokens: &[Token]) -> Class {
    let next = word(tokens, 1);
    let concurrently = tokens.iter().take(4).any(|token| token.word == Word::Concurrently);
    match first {
        Word::Vacuum | Word::Analyze | Word::Analyse | Word::Cluster | Word::Reindex | Word::Checkpoint => {
            Class::Maintenance
        }
        Word::Create | Word::Drop if matches!(next, Word::Database | Word::Tablespace) || concurrently => {
            Class::Maintenance
        }
        Word::Alter if next == Word::System => Class::Maintenance,
        Word::Create
        | Word::Alter
        | Word::Drop
        | Word::Grant
        | Word::Revoke
        | Word::Truncate
        | Word::Comment
        | Word::Refresh
        | Word::Security
        | Word::Import
        | Word::Reassign => Class::Ddl,
        _ => Class::Other,
    }
}

fn word(tokens: &[Token], at: usize) -> Word {
    tokens.get(at).map_or(Word::None, |token| token.word)
}

/// The verb behind the members of a WITH: the first one outside of parentheses.
fn main_of_with(tokens: &[Token]) -> Class {
    let (open, close) = (symbol("("), symbol(")"));
    // A WITH in parentheses of its own is a SELECT: nothing else may stand in them.
    if tokens.first().is_some_and(|token| token.is(open)) {
        return Class::Select;
    }
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.word {
            _ if token.is(open) => depth += 1,
            _ if token.is(close) => depth = depth.saturating_sub(1),
            _ if depth > 0 || is_member(tokens, at) => {}
            Word::Select | Word::Table => return Class::Select,
            Word::Values => return Class::Values,
            Word::Insert => return Class::Insert,
            Word::Update => return Class::Update,
            Word::Delete => return Class::Delete,
            Word::Merge => return Class::Merge,
            _ => {}
        }
    }
    Class::Select
}

/// Whether a member of a WITH begins there: `values AS (`, `update (a, b) AS (`.
fn is_member(tokens: &[Token], at: usize) -> bool {
    let rest = tokens.get(at + 1..).unwrap_or_default();
    if !rest.first().is_some_and(|next| next.is(symbol("("))) {
        return rest.first().is_some_and(|next| next.word == Word::As);
    }
    let columns = rest.iter().position(|token| token.is(symbol(")")));
    columns.and_then(|end| rest.get(end + 1)).is_some_and(|next| next.word == Word::As)
}

/// A statement whose last token is a name that clients make up.
fn named(class: Class, tokens: &[Token]) -> Verb {
    Verb { class, value: (tokens.len() >= 2).then(|| tokens.len() - 1), explained: None }
}

fn rollback(tokens: &[Token]) -> Verb {
    match (word(tokens, 1), word(tokens, 2)) {
        (Word::To, _) | (_, Word::To) => named(Class::RollbackTo, tokens),
        _ => Class::Rollback.into(),
    }
}

fn set(tokens: &[Token]) -> Verb {
    let value = match settings::set_form(tokens) {
        SetForm::Parameter { value, .. } | SetForm::Special { value, .. } => Some(value),
        _ => None,
    };
    Verb { class: Class::Set, value: value.filter(|at| *at < tokens.len()), explained: None }
}

/// The direction stands behind the table or the query.
fn copy(tokens: &[Token]) -> Class {
    let (open, close) = (symbol("("), symbol(")"));
    let mut depth = 0usize;
    for token in tokens {
        match token.word {
            _ if token.is(open) => depth += 1,
            _ if token.is(close) => depth = depth.saturating_sub(1),
            Word::From if depth == 0 => return Class::CopyIn,
            Word::To if depth == 0 => return Class::CopyOut,
            _ => {}
        }
    }
    Class::Other
}

fn explain(tokens: &[Token]) -> Verb {
    let (open, close) = (symbol("("), symbol(")"));
    let mut at = 1;
    let mut runs = false;
    if tokens.get(1).is_some_and(|token| token.is(open)) && is_option(tokens.get(2)) {
        while let Some(token) = tokens.get(at).filter(|token| !token.is(close)) {
            // In quotes it may be any of them.
            runs |= token.kind == Kind::Quoted
                || matches!(token.word, Word::Analyze | Word::Analyse) && !is_off(tokens.get(at + 1));
            at += 1;
        }
        at += 1;
    } else {
        while matches!(word(tokens, at), Word::Analyze | Word::Analyse | Word::Verbose) {
            runs |= word(tokens, at) != Word::Verbose;
            at += 1;
        }
    }
    Verb { class: Class::Explain, value: None, explained: Some((at, runs)) }
}

/// `EXPLAIN (` is followed by options, or by a query in parentheses.
fn is_option(token: Option<&Token>) -> bool {
    token.is_some_and(|token| {
        !token.is(symbol("(")) && !matches!(token.word, Word::Select | Word::With | Word::Values | Word::Table)
    })
}

/// `ANALYZE 0` is off as well, and `ANALYZE 1` is on: a number is taken for on.
fn is_off(token: Option<&Token>) -> bool {
    token.is_some_and(|token| token.word == Word::False || token.says(symbol("off")))
}
