//! What a function's source says about its session.
//!
//! SQL and PL/pgSQL are cut into tokens as statements are. A string in them is read as a text of its own if it begins like
//! a statement: that is what EXECUTE runs. Sources in other languages are searched for the words alone. What is asked
//! is whether a session could be changed, not whether it will be: the answer may be yes too often.

use std::collections::HashSet;

use super::Function;
use crate::lexer::decode::Arena;
use crate::lexer::{self, Kind, Token, Word, symbol};

/// Functions written in C that keep something in the session: of well-known extensions.
const STATEFUL: [&str; 14] = [
    "dblink_connect",
    "dblink_connect_u",
    "dblink_open",
    "set_user",
    "set_user_u",
    "reset_user",
    "set_session_auth",
    "set_limit",
    "set_curcfg",
    "pgv_set",
    "pgv_set_int",
    "pgv_set_text",
    "pgv_insert",
    "plv8_reset",
];

/// Sources are read to this many levels of strings in strings.
const MAX_DEPTH: usize = 3;

/// Whether calling it may leave something in the session that outlives the transaction.
pub(super) fn changes_the_session(function: &Function) -> bool {
    match &*function.language {
        "sql" | "plpgsql" => text_changes(function.source.as_bytes(), MAX_DEPTH),
        "c" | "internal" => STATEFUL.contains(&&*function.name) || function.name.starts_with("dbms_"),
        _ => words_change(&function.source),
    }
}

/// Every name that its source mentions, also inside of its strings.
pub(super) fn names(function: &Function) -> HashSet<Box<[u8]>> {
    let mut names = HashSet::new();
    if !matches!(&*function.language, "c" | "internal") {
        add_names(function.source.as_bytes(), MAX_DEPTH, &mut names);
    }
    names
}

fn add_names(sql: &[u8], depth: usize, names: &mut HashSet<Box<[u8]>>) {
    let (mut tokens, mut bytes) = (Vec::new(), Vec::new());
    lexer::scan(sql, true, &mut tokens);
    for token in tokens {
        bytes.clear();
        let mut arena = Arena(&mut bytes);
        match token.kind {
            Kind::Word | Kind::Quoted => {
                let name = arena.name(sql, token);
                names.insert(arena.bytes(name).into());
            }
            Kind::String if depth > 0 => {
                let text = arena.string(sql, token);
                add_names(arena.bytes(text), depth - 1, names);
            }
            _ => {}
        }
    }
}

fn text_changes(sql: &[u8], depth: usize) -> bool {
    let mut tokens = Vec::new();
    lexer::scan(sql, true, &mut tokens);
    let source = Source { sql, tokens: &tokens };
    (0..tokens.len()).any(|at| source.changes(at) || (depth > 0 && source.runs_a_string(at, depth)))
}

/// Other languages: their strings are not ours to read, so the words alone count.
fn words_change(source: &str) -> bool {
    let source = source.to_ascii_lowercase();
    let words = ["set_config", "advisory_lock", "setseed", "%_shared", "$_shared", "gd["];
    if words.iter().any(|word| source.contains(word)) {
        return true;
    }
    // A statement stands at the beginning of a string.
    let begins = source.split(['\'', '"', '`']).map(str::trim_start);
    let mut begins = begins.filter(|text| !text.is_empty());
    begins.any(|text| text_changes(text.as_bytes(), 0))
}

struct Source<'a> {
    sql: &'a [u8],
    tokens: &'a [Token],
}

impl Source<'_> {
    fn word(&self, at: usize) -> Word {
        self.tokens.get(at).map_or(Word::None, |token| token.word)
    }

    fn is(&self, at: usize, key: u64) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(key))
    }

    /// Whether this token is the word `text`, in any case.
    fn says(&self, at: usize, text: &str) -> bool {
        let said = |token: &Token| token.kind == Kind::Word && token.of(self.sql).eq_ignore_ascii_case(text.as_bytes());
        self.tokens.get(at).is_some_and(said)
    }

    /// Whether a statement may begin here.
    fn begins(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return true };
        self.is(before, symbol(";"))
            || self.is(before, symbol(">>"))
            || matches!(self.word(before), Word::Begin | Word::Then | Word::Else | Word::Atomic)
            || self.says(before, "loop")
    }

    /// Whether the token at `at` begins something that outlives the transaction.
    fn changes(&self, at: usize) -> bool {
        let next = self.word(at + 1);
        match self.word(at) {
            Word::SetConfig => self.is(at + 1, symbol("(")) && !self.is_local(at + 1),
            Word::Setseed => self.is(at + 1, symbol("(")),
            Word::AdvisoryCall => self.locks(at),
            Word::Into => matches!(next, Word::Temp | Word::Temporary),
            Word::Create => self.creates_temporary(at),
            Word::None if self.is(at + 1, symbol("(")) => STATEFUL.iter().any(|name| self.says(at, name)),
            _ if !self.begins(at) => false,
            Word::Set => !matches!(next, Word::Local | Word::Transaction | Word::Constraints),
            Word::Reset | Word::Listen | Word::Load | Word::Discard | Word::Deallocate => true,
            Word::Prepare => next != Word::Transaction,
            Word::Declare => self.tokens.get(at..at + 8).is_some_and(|head| {
                head.windows(2)
                    .any(|pair| matches!(pair, [with, hold] if with.word == Word::With && hold.word == Word::Hold))
            }),
            _ => false,
        }
    }

    /// `set_config(name, value, true)`, told by its last argument.
    fn is_local(&self, open: usize) -> bool {
        let mut depth = 0usize;
        for at in open..self.tokens.len() {
            if self.is(at, symbol("(")) {
                depth += 1;
            } else if self.is(at, symbol(")")) {
                depth -= 1;
                if depth == 0 {
                    return self.word(at - 1) == Word::True && self.is(at - 2, symbol(","));
                }
            }
        }
        false
    }

    /// The locks of a session; those of the transaction have `xact` in their names.
    fn locks(&self, at: usize) -> bool {
        let name = self.tokens.get(at).map_or(&b""[..], |token| token.of(self.sql)).to_ascii_lowercase();
        let locks = [&b"pg_advisory_lock"[..], b"pg_advisory_lock_shared", b"pg_try_advisory_lock"];
        locks.contains(&name.as_slice()) || name == b"pg_try_advisory_lock_shared"
    }

    fn creates_temporary(&self, at: usize) -> bool {
        let end = (at..self.tokens.len()).find(|at| self.is(*at, symbol(";"))).unwrap_or(self.tokens.len());
        let words = self.tokens.get(at..end).unwrap_or_default();
        let temporary = words.iter().take(4).any(|token| matches!(token.word, Word::Temp | Word::Temporary));
        let schema = (at..end).any(|at| self.says(at, "pg_temp") && self.is(at + 1, symbol(".")));
        let until_commit = words
            .windows(2)
            .any(|pair| matches!(pair, [on, drop] if on.word == Word::Commit && drop.word == Word::Drop));
        (temporary || schema) && !until_commit
    }

    /// A string that is run: by EXECUTE, or because it looks like a statement that changes the session. EXECUTE of what is
    /// not a string at all could be anything.
    fn runs_a_string(&self, at: usize, depth: usize) -> bool {
        let Some(token) = self.tokens.get(at) else { return false };
        if token.kind == Kind::String {
            let mut bytes = Vec::new();
            let mut arena = Arena(&mut bytes);
            let text = arena.string(self.sql, *token);
            return text_changes(arena.bytes(text), depth - 1);
        }
        if self.word(at) != Word::Execute || !self.begins(at) {
            return false;
        }
        let literal = |at: usize| self.tokens.get(at).is_some_and(|token| token.kind == Kind::String);
        let first = if self.says(at + 1, "format") || self.says(at + 1, "concat") { at + 3 } else { at + 1 };
        let first = if self.is(first, symbol("(")) { first + 1 } else { first };
        !literal(first)
    }
}
