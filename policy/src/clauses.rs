//! What can be read of a statement's clauses from its normalised text: the tables that it names, and whether it has a
//! LIMIT of its own. No parser: where the words leave a doubt, the answer is the careful one.
//!
//! The text is a fingerprint's: one blank between tokens, constants are `$1`, strings are gone, so that only quoted names
//! can hold anything unexpected.

use std::collections::BTreeSet;

/// Longest list of tables that is looked for; a statement that names more is one whose tables cannot be told.
const MAX_TABLES: usize = 256;

/// A word or a sign of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name or a keyword, as the server folds it, and whether it stood in quotes.
    Word(String, bool),
    Sign(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own, false) if own == word)
    }

    fn is_sign(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        if next.is_whitespace() {
            continue;
        }
        if next == '"' {
            let mut name = String::new();
            while let Some(inner) = rest.next() {
                if inner == '"' {
                    if rest.next_if_eq(&'"').is_none() {
                        break;
                    }
                    name.push('"');
                } else {
                    name.push(inner);
                }
            }
            tokens.push(Token::Word(name, true));
        } else if next == '\'' {
            // A constant that normalising has left, as in SET or DDL.
            while rest.next().is_some_and(|inner| inner != '\'') {}
            tokens.push(Token::Sign('\''));
        } else if next.is_alphanumeric() || matches!(next, '_' | '$') || !next.is_ascii() {
            let mut name = String::from(next.to_ascii_lowercase());
            while let Some(inner) =
                rest.next_if(|inner| inner.is_alphanumeric() || matches!(inner, '_' | '$') || !inner.is_ascii())
            {
                name.push(inner.to_ascii_lowercase());
            }
            tokens.push(Token::Word(name, false));
        } else {
            tokens.push(Token::Sign(next));
        }
    }
    tokens
}

/// Whether the statement has a LIMIT or FETCH FIRST of its own at its outermost level.
///
/// ```
/// use policy::clauses::has_limit;
/// assert!(has_limit("SELECT * FROM runs ORDER BY id LIMIT $1"));
/// assert!(!has_limit("SELECT * FROM (SELECT * FROM runs LIMIT $1) a"));
/// ```
pub fn has_limit(text: &str) -> bool {
    let tokens = tokens(text);
    let mut depth = 0_i32;
    // `SELECT a AS limit` names a column.
    let is_name =
        |at: usize| at.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|before| before.is("as"));
    tokens.iter().enumerate().any(|(at, token)| {
        depth += i32::from(token.is_sign('(')) - i32::from(token.is_sign(')'));
        depth <= 0 && (token.is("limit") || token.is("fetch")) && !is_name(at)
    })
}

/// Whether a statement that by its class only reads may write all the same, or asks for a transaction that may: READ WRITE
/// in whatever words, a setting `…transaction_read_only` by name, EXPLAIN ANALYZE.
pub fn lifts_read_only(text: &str) -> bool {
    let tokens = tokens(text);
    let explains = tokens.first().is_some_and(|first| first.is("explain"));
    // An option in quotes may be any.
    let options = if explains && tokens.get(1).is_some_and(|next| next.is_sign('(')) {
        tokens.iter().take_while(|token| !token.is_sign(')')).count()
    } else {
        0
    };
    if tokens.iter().take(options).any(|token| matches!(token, Token::Word(_, true))) {
        return true;
    }
    tokens.iter().enumerate().any(|(at, token)| {
        let next = tokens.get(at + 1);
        let named = matches!(token, Token::Word(word, _) if word.ends_with("transaction_read_only"));
        let writes = token.is("read") && next.is_some_and(|next| next.is("write"));
        named || writes || (explains && (token.is("analyze") || token.is("analyse")))
    })
}

/// Words that begin a statement whose tables stand where [`tables`] looks for them.
const READABLE: [&str; 14] = [
    "select", "with", "values", "table", "insert", "update", "delete", "merge", "copy", "declare", "explain",
    "truncate", "lock", "prepare",
];
/// Words that begin a statement that is about no table.
const TABLELESS: [&str; 20] = [
    "set",
    "reset",
    "show",
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "discard",
    "deallocate",
    "fetch",
    "move",
    "close",
    "listen",
    "unlisten",
    "notify",
    "checkpoint",
];
/// Words that end a list of tables.
const ENDS: [&str; 24] = [
    "where",
    "group",
    "having",
    "window",
    "union",
    "intersect",
    "except",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "set",
    "values",
    "select",
    "returning",
    "on",
    "using",
    "default",
    "overriding",
    "when",
    "with",
    "in",
    "to",
];

/// Every table that the statement names, as the server folds names: `runs`, `audit.log`. `None`: that cannot be told, as
/// of a call, a block, or a change of the schema.
///
/// ```
/// use policy::clauses::tables;
/// let named = tables("SELECT * FROM runs r JOIN audit.log ON $1 = $2, \"Steps\" WHERE id IN (SELECT id FROM events)");
/// assert_eq!(named.unwrap().iter().map(|name| &**name).collect::<Vec<_>>(), ["Steps", "audit.log", "events", "runs"]);
/// assert_eq!(tables("CALL anything($1)"), None);
/// ```
pub fn tables(text: &str) -> Option<Box<[Box<str>]>> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    // Several statements in one text: each has to be of a kind that is known.
    for statement in tokens.split(|token| token.is_sign(';')).filter(|statement| !statement.is_empty()) {
        let first = statement.iter().find(|token| !token.is_sign('('))?;
        if TABLELESS.iter().any(|word| first.is(word)) {
            continue;
        }
        if !READABLE.iter().any(|word| first.is(word)) || runs_a_text(statement) {
            return None;
        }
        let inner = if first.is("explain") { explained(statement)? } else { statement };
        // What is prepared stands behind AS, as a statement of its own.
        let prepared = if first.is("prepare") { inner.iter().position(|token| token.is("as")) } else { None };
        of_statement(inner.get(prepared.map_or(0, |at| at + 1)..)?, &mut found);
        if found.len() > MAX_TABLES {
            return None;
        }
    }
    Some(found.into_iter().map(String::into_boxed_str).collect())
}

/// Whether a function of the server's own is called that runs a text.
fn runs_a_text(statement: &[Token]) -> bool {
    let runs = ["query_to_xml", "query_to_xml_and_xmlschema", "query_to_xmlschema", "ts_rewrite", "ts_stat"];
    statement
        .windows(2)
        .any(|pair| matches!(pair, [Token::Word(name, _), next] if next.is_sign('(') && runs.contains(&name.as_str())))
}

/// What EXPLAIN explains; `None`: something else than a statement whose tables can be told, as CREATE TABLE … AS.
fn explained(statement: &[Token]) -> Option<&[Token]> {
    const PLANNED: [&str; 9] = ["select", "with", "values", "table", "insert", "update", "delete", "merge", "declare"];
    let begins = |token: &Token| PLANNED.iter().any(|word| token.is(word));
    let mut rest = statement.get(1..)?;
    if rest.first()?.is_sign('(') && !rest.get(1).is_some_and(|next| next.is_sign('(') || begins(next)) {
        let end = rest.iter().position(|token| token.is_sign(')'))?;
        rest = rest.get(end + 1..)?;
    } else {
        let options = |token: &&Token| token.is("analyze") || token.is("analyse") || token.is("verbose");
        rest = rest.get(rest.iter().take_while(options).count()..)?;
    }
    rest.iter().find(|token| !token.is_sign('(')).filter(|first| begins(first)).map(|_| rest)
}

/// Whether a name may follow here that is a table's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No.
    Elsewhere,
    /// Here.
    Name,
    /// Behind a name, within a list that a comma goes on with.
    Listed,
}

/// Of [`ENDS`], those that can also be a table's alias without AS: a list goes on behind them as if they were.
const ALIASES: [&str; 5] = ["set", "values", "overriding", "with", "to"];
/// Functions whose arguments have a FROM of their own.
const FROM_FUNCTIONS: [&str; 5] = ["extract", "substring", "trim", "overlay", "position"];
/// Words between what announces a table and its name.
const SKIPPED: [&str; 6] = ["only", "lateral", "table", "if", "exists", "as"];
/// Words that a statement behind a WITH begins with.
const MAIN: [&str; 7] = ["select", "insert", "update", "delete", "merge", "values", "table"];

/// The WITH that a statement begins with. A name in it stands for its query from where that ends on, with RECURSIVE from
/// the beginning; before, it is a table's. Names of a WITH further inside are taken for tables: the careful answer.
#[derive(Default)]
struct With {
    open: bool,
    recursive: bool,
    /// The name whose query is being read.
    pending: Option<String>,
    names: Vec<String>,
}

impl With {
    fn of(tokens: &[Token]) -> Self {
        let open = tokens.first().is_some_and(|first| first.is("with"));
        Self { open, recursive: open && tokens.get(1).is_some_and(|next| next.is("recursive")), ..Self::default() }
    }

    /// A token at the outermost level, and those behind it.
    fn see(&mut self, token: &Token, rest: &[Token]) {
        match token {
            Token::Word(word, false) if MAIN.contains(&word.as_str()) => self.open = false,
            // `name AS (`, `name (columns) AS MATERIALIZED (`.
            Token::Word(word, false)
                if self.pending.is_none()
                    && !matches!(word.as_str(), "with" | "recursive")
                    && rest.first().is_some_and(|next| next.is("as") || next.is_sign('(')) =>
            {
                self.pending = Some(word.clone());
                if self.recursive {
                    self.names.push(word.clone());
                }
            }
            // Behind the query, not behind the columns.
            Token::Sign(')') if !rest.first().is_some_and(|next| next.is("as")) => {
                self.names.extend(self.pending.take())
            }
            _ => {}
        }
    }
}

fn of_statement(tokens: &[Token], found: &mut BTreeSet<String>) {
    let mut with = With::of(tokens);
    let deletes = tokens.iter().any(|token| token.is("delete") || token.is("merge"));
    // What each open parenthesis returns to, and whether it is that of a function with a FROM of its own.
    let mut open: Vec<(Place, bool)> = Vec::new();
    let mut place = Place::Elsewhere;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let previous = at.checked_sub(1).and_then(|before| tokens.get(before));
        at += 1;
        let rest = tokens.get(at..).unwrap_or_default();
        let earlier = |back: usize| at.checked_sub(back).and_then(|before| tokens.get(before));
        let compares = earlier(3).is_some_and(|before| before.is("is") || before.is("not"))
            // `x.is distinct FROM t`: a column, and what it is called.
            && !earlier(4).is_some_and(|before| before.is_sign('.'));
        if token.is_sign(')') {
            place = open.pop().map_or(Place::Elsewhere, |(place, _)| place);
        }
        if with.open && open.is_empty() {
            with.see(token, rest);
        }
        match token {
            Token::Sign('(') => {
                let of_function = |before: &Token| {
                    place == Place::Elsewhere
                        && matches!(before, Token::Word(name, _) if FROM_FUNCTIONS.contains(&name.as_str()))
                };
                open.push((
                    if place == Place::Name { Place::Listed } else { place },
                    previous.is_some_and(of_function),
                ));
                // `FROM (a JOIN b …)`: a table may stand right behind it; `FROM (SELECT …)` is told by its SELECT.
                place = if place == Place::Name { Place::Name } else { Place::Elsewhere };
            }
            Token::Sign(',') if place == Place::Listed => place = Place::Name,
            Token::Word(word, false) if begins_table(word, previous, rest.first(), at == 1, compares, deletes) => {
                let in_function = open.last().is_some_and(|(_, of_function)| *of_function);
                place = if in_function { Place::Elsewhere } else { Place::Name };
            }
            Token::Word(word, false) if place == Place::Name && SKIPPED.contains(&word.as_str()) => {}
            // A join's condition: the list goes on behind it.
            Token::Word(word, false) if place == Place::Listed && (word == "on" || word == "using") => {}
            // Where an alias may stand it is one, whatever it is called; what it then is not ends nothing.
            Token::Word(word, false)
                if ENDS.contains(&word.as_str()) && !previous.is_some_and(|before| before.is("as")) =>
            {
                // In the condition of a join: the list goes on behind it.
                let matches = rest.first().is_some_and(|next| next.is("matched") || next.is("not"));
                let within = word == "in" || (word == "when" && !matches);
                let doubtful = place == Place::Listed && (within || ALIASES.contains(&word.as_str()));
                place = if doubtful { Place::Listed } else { Place::Elsewhere };
            }
            Token::Word(word, quoted) if place == Place::Name => {
                let mut name = word.clone();
                while tokens.get(at).is_some_and(|next| next.is_sign('.'))
                    && let Some(Token::Word(part, _)) = tokens.get(at + 1)
                {
                    name = format!("{name}.{part}");
                    at += 2;
                }
                // `INSERT INTO t (…)`, `COPY t (…)`; elsewhere a function in place of a table.
                let takes_columns = previous.is_some_and(|before| before.is("into") || before.is("copy"));
                let calls = tokens.get(at).is_some_and(|next| next.is_sign('(')) && !takes_columns;
                // What is written to is a table, whatever a WITH is called.
                let is_target = takes_columns
                    || previous.is_some_and(|before| before.is("update"))
                    || (previous.is_some_and(|before| before.is("from"))
                        && at >= 3
                        && tokens.get(at - 3).is_some_and(|before| before.is("delete")))
                    || previous.is_some_and(|before| before.is("only"));
                let is_query = !*quoted && !is_target && with.names.contains(&name);
                if !calls && !is_query {
                    found.insert(name);
                }
                place = Place::Listed;
            }
            _ => {}
        }
    }
}

/// Whether a table's name follows this word.
fn begins_table(
    word: &str,
    previous: Option<&Token>,
    next: Option<&Token>,
    is_first: bool,
    compares: bool,
    deletes: bool,
) -> bool {
    let behind = |words: &[&str]| previous.is_some_and(|before| words.iter().any(|word| before.is(word)));
    match word {
        // `IS DISTINCT FROM x` compares; `a AS distinct FROM t` does not.
        "from" => !(behind(&["distinct"]) && compares),
        "join" | "into" | "truncate" => true,
        // `FOR UPDATE`, `DO UPDATE`, `THEN UPDATE`: of a table that is named before.
        "update" => !behind(&["for", "do", "key", "then"]),
        // USING of DELETE and MERGE. That of JOIN has columns in a parenthesis: beside a DELETE they are taken for tables too.
        "using" => deletes || next.is_some_and(|next| !next.is_sign('(')),
        "copy" | "lock" => is_first,
        // `LOCK TABLE a`, `TRUNCATE TABLE a`: skipped where the name is awaited already.
        "table" => is_first || !behind(&["lock", "truncate", "as"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
