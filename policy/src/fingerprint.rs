//! Fingerprints: which statements are the same one, and the text under which an operator sees them.

mod sink;
mod walk;

use crate::lexer::decode::Arena;
use crate::lexer::{self, Kind, Token, Word, symbol};
use crate::statement::extract::{Extract, is_call_list};
use crate::statement::verb::{Verb, classify};
use crate::statement::{Analysis, Class, Flags, MAX_ANALYSED, Part, Span};
use sink::{Form, Ids, Text};
use walk::{Buffers, Frame, Noticed, Walk};

/// The version of the rules behind the ids; it is hashed into every id, and changes when their grouping does.
pub const SCHEME: u32 = 2;

/// Which release of `pg_stat_statements` the strict ids group like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compat {
    /// PostgreSQL 15: every list length is a statement of its own.
    #[default]
    V15,
    /// PostgreSQL 16: as 15, and utility statements are normalised.
    V16,
    /// PostgreSQL 17: as 16.
    V17,
    /// PostgreSQL 18: lists of two or more constants are one.
    V18,
}

impl Compat {
    /// The one for a major version of PostgreSQL, if it is 15 to 18.
    pub const fn of_major(major: u16) -> Option<Self> {
        match major {
            15 => Some(Self::V15),
            16 => Some(Self::V16),
            17 => Some(Self::V17),
            18 => Some(Self::V18),
            _ => None,
        }
    }
}

/// Buffers of more entries than this are given back after the text that needed them.
const KEPT: usize = 8 * 1024;

/// Turns texts into analyses; one per worker, reused for every statement.
///
/// Linear in the bytes looked at, bounded in memory, never panics, and allocates only while its buffers grow.
///
/// ```
/// use policy::fingerprint::{Analyser, Compat};
///
/// let mut analyser = Analyser::new(Compat::V15);
/// let one = analyser.analyse(b"SELECT * FROM events WHERE id = 7 -- x").strict;
/// assert_eq!(one, analyser.analyse(b"select * from events where id=8").strict);
/// ```
#[derive(Debug)]
pub struct Analyser {
    compat: Compat,
    standard_strings: bool,
    analysis: Analysis,
    tokens: Vec<Token>,
    frames: Vec<Frame>,
    ids: Ids,
}

impl Default for Analyser {
    fn default() -> Self {
        Self::new(Compat::default())
    }
}

impl Analyser {
    /// An analyser whose strict ids group as `compat` says.
    pub fn new(compat: Compat) -> Self {
        Self {
            compat,
            standard_strings: true,
            analysis: Analysis::default(),
            tokens: Vec::new(),
            frames: Vec::new(),
            ids: Ids::default(),
        }
    }

    /// The grouping of its strict ids.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// How a plain string reads a backslash: set this to what the session's `standard_conforming_strings` says, which
    /// the server reports. Off, a backslash takes the next byte with it. Memos must not be shared between the two.
    pub fn set_standard_strings(&mut self, on: bool) {
        self.standard_strings = on;
    }

    /// What `sql` is; the result is valid until the next call.
    pub fn analyse(&mut self, sql: &[u8]) -> &Analysis {
        self.reset();
        let seen = sql.get(..MAX_ANALYSED).unwrap_or(sql);
        let oversize = seen.len() < sql.len();
        let scan = lexer::scan(seen, self.standard_strings, &mut self.tokens);
        let trailing = self.tokens.iter().rev().take_while(|token| token.is(symbol(";"))).count();
        if trailing == scan.semicolons as usize {
            // The usual case needs no look for where statements end.
            let end = self.tokens.len() - trailing;
            if end > 0 {
                self.part(seen, 0, end);
            }
        } else {
            let mut at = 0;
            while let Some(next) = statement_at(&self.tokens, at) {
                self.part(seen, next.0, next.1);
                at = next.1;
            }
        }
        self.combine();
        let flags = &mut self.analysis.flags;
        flags.set(Flags::OVERSIZE, oversize);
        flags.set(Flags::UNTERMINATED, scan.unterminated && !oversize);
        if oversize {
            flags.set(Flags::READ_ONLY, false);
            self.analysis.body.end = sql.len() as u32;
        }
        &self.analysis
    }

    /// The result of the last call of [`Self::analyse`].
    pub fn last(&self) -> &Analysis {
        &self.analysis
    }

    /// As the function [`normalise`], in this analyser's grouping and its reading of backslashes: with
    /// `standard_conforming_strings` off, only this one hides what stands behind an escaped quote.
    pub fn normalise(&self, sql: &[u8]) -> String {
        render(sql, self.compat, self.standard_strings, Form::Strict)
    }

    /// As the function [`normalise_family`], in this analyser's reading of backslashes.
    pub fn normalise_family(&self, sql: &[u8]) -> String {
        render(sql, self.compat, self.standard_strings, Form::Family)
    }

    fn reset(&mut self) {
        self.analysis.clear();
        if self.tokens.capacity() > KEPT {
            self.tokens.clear();
            self.tokens.shrink_to(KEPT);
            self.frames.clear();
            self.frames.shrink_to(KEPT);
        }
    }

    /// The statement of the tokens `from..to`.
    fn part(&mut self, sql: &[u8], from: usize, to: usize) {
        let tokens = self.tokens.get(from..to).unwrap_or_default();
        let analysis = &mut self.analysis;
        let verb = classify(tokens);
        let literals = analysis.literals.len() as u32;
        let effects = analysis.effects.len() as u32;
        self.ids = Ids::default();
        let buffers = Buffers { sink: &mut self.ids, frames: &mut self.frames, literals: &mut analysis.literals };
        let noticed = Walk::new(sql, tokens, verb.class, self.compat, buffers).run(verb.value);
        let literal_free = analysis.literals.len() as u32 == literals && verb.value.is_none();
        let flags = flags_of(verb, noticed, tokens, literal_free);
        let second = noticed.session_call || noticed.statement_names;
        if second || flags.contains(Flags::SELECT_INTO) || !verb.class.is_planned() {
            analysis.extracted = true;
            let arena = Arena(&mut analysis.arena);
            Extract { sql, tokens, effects: &mut analysis.effects, arena }.run(verb, flags);
        }
        let (strict, family) = self.ids.finish();
        analysis.parameters = analysis.parameters.max(noticed.parameters);
        analysis.parts.push(Part {
            strict,
            family,
            class: verb.class,
            flags,
            span: span_of(tokens),
            effects: Span { start: effects, end: analysis.effects.len() as u32 },
            literals: Span { start: literals, end: analysis.literals.len() as u32 },
        });
    }

    /// What is true of all parts together.
    fn combine(&mut self) {
        let analysis = &mut self.analysis;
        let (Some(first), Some(last)) = (analysis.parts.first().copied(), analysis.parts.last().copied()) else {
            self.ids = Ids::default();
            (analysis.strict, analysis.family) = self.ids.finish();
            analysis.flags = Flags::LITERAL_FREE | Flags::READ_ONLY;
            return;
        };
        analysis.body = Span { start: first.span.start, end: last.span.end };
        if analysis.parts.len() == 1 {
            (analysis.strict, analysis.family) = (first.strict, first.family);
            analysis.class = first.class;
            analysis.flags = first.flags;
            return;
        }
        let all = Flags::LITERAL_FREE | Flags::READ_ONLY;
        let mut common = all;
        let mut any = Flags::MULTI;
        self.ids = Ids::default();
        for part in &analysis.parts {
            common = common.intersection(part.flags);
            any |= part.flags;
            self.ids.part(part.strict, part.family);
        }
        any.set(all, false);
        analysis.flags = any | common;
        (analysis.strict, analysis.family) = self.ids.finish();
        // What ends a transaction is refused to nobody: a text has that class only if it does nothing else.
        let main = analysis.parts.iter().find(|part| !part.class.is_transaction_control());
        let main = main.or_else(|| analysis.parts.iter().find(|part| !part.class.is_way_out()));
        analysis.class = main.unwrap_or(&first).class;
    }
}

fn span_of(tokens: &[Token]) -> Span {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => Span { start: first.start, end: last.end },
        _ => Span::default(),
    }
}

fn flags_of(verb: Verb, noticed: Noticed, tokens: &[Token], literal_free: bool) -> Flags {
    let mut flags = noticed.flags;
    let class = verb.class;
    flags.set(Flags::LITERAL_FREE, literal_free);
    let calls = class == Class::Select && !flags.contains(Flags::HAS_FROM) && is_call_list(tokens);
    flags.set(Flags::FUNCTION_ONLY, calls);
    let reads = match verb.explained {
        Some((_, false)) => true,
        Some((from, true)) => tokens.get(from..).is_some_and(|inner| classify(inner).class.reads_only()),
        None => class.reads_only(),
    };
    let writes = Flags::CTE_WRITES | Flags::SELECT_INTO | Flags::LOCKS_ROWS;
    let pure = reads && flags.intersection(writes) == Flags::NONE && !noticed.session_call;
    flags.set(Flags::READ_ONLY, pure);
    flags.set(Flags::EXECUTES, matches!(verb.explained, Some((_, true))));
    flags
}

/// The next run of tokens from `at` on that is a statement: up to a semicolon outside of parentheses, and outside of
/// the body of a function that is written as `BEGIN ATOMIC … END`.
fn statement_at(tokens: &[Token], at: usize) -> Option<(usize, usize)> {
    let semicolon = symbol(";");
    let from = at + tokens.get(at..)?.iter().position(|token| !token.is(semicolon))?;
    let creates = defines_a_routine(tokens.get(from..).unwrap_or_default());
    let mut depth = 0usize;
    let mut blocks = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token.kind {
            Kind::Symbol if token.is(symbol("(")) => depth += 1,
            Kind::Symbol if token.is(symbol(")")) => depth = depth.saturating_sub(1),
            Kind::Symbol if depth + blocks == 0 && token.is(semicolon) => return Some((from, index)),
            // A column, or what one is called.
            Kind::Word if creates && is_label(tokens, index) => {}
            Kind::Word if creates => match token.word {
                // Only this: a column may be called atomic, and what follows its statement must not be hidden by it.
                Word::Atomic if depth == 0 && follows_begin(tokens, index) => blocks += 1,
                Word::Case if blocks > 0 => blocks += 1,
                Word::End => blocks = blocks.saturating_sub(1),
                _ => {}
            },
            _ => {}
        }
    }
    // Without an end of its own, because a parenthesis is missing: semicolons at the end of the text still are none of
    // its tokens, so that cutting them off beforehand changes nothing.
    let trailing = tokens.iter().rev().take_while(|token| token.is(semicolon)).count();
    Some((from, tokens.len() - trailing))
}

/// `CREATE [OR REPLACE] FUNCTION` or `PROCEDURE`: what alone may have a body of several statements.
fn defines_a_routine(tokens: &[Token]) -> bool {
    let mut words = tokens.iter().skip_while(|token| matches!(token.word, Word::Create | Word::Or | Word::Replace));
    let creates = tokens.first().is_some_and(|first| first.word == Word::Create);
    let routine = |kind: &Token| {
        kind.says(symbol("function")) || (kind.kind == Kind::Word && kind.key == lexer::word_key(b"procedure"))
    };
    creates && words.next().is_some_and(routine)
}

fn is_label(tokens: &[Token], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| tokens.get(before));
    before.is_some_and(|before| before.word == Word::As || before.is(symbol(".")))
}

fn follows_begin(tokens: &[Token], index: usize) -> bool {
    index.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|token| token.word == Word::Begin)
}

/// The text under which a strict id is shown: constants as `?`, keywords and unquoted names in lower case, single
/// spaces, no comments. No constant survives, as `standard_conforming_strings = on` reads the text; for a session where
/// it is off there is [`Analyser::normalise`].
pub fn normalise(sql: &[u8], compat: Compat) -> String {
    render(sql, compat, true, Form::Strict)
}

/// The text under which a family is shown: as [`normalise`], with parameters as `?` and lists as `...`.
pub fn normalise_family(sql: &[u8]) -> String {
    render(sql, Compat::default(), true, Form::Family)
}

fn render(sql: &[u8], compat: Compat, standard_strings: bool, form: Form) -> String {
    let sql = sql.get(..MAX_ANALYSED).unwrap_or(sql);
    let (mut tokens, mut frames, mut literals) = (Vec::new(), Vec::new(), Vec::new());
    lexer::scan(sql, standard_strings, &mut tokens);
    let mut text = Text::new(form);
    let mut at = 0;
    while let Some((from, to)) = statement_at(&tokens, at) {
        if at > 0 {
            text.separate();
        }
        let part = tokens.get(from..to).unwrap_or_default();
        let verb = classify(part);
        let buffers = Buffers { sink: &mut text, frames: &mut frames, literals: &mut literals };
        Walk::new(sql, part, verb.class, compat, buffers).run(verb.value);
        at = to;
    }
    text.finish()
}

/// What the command line prints for one statement: strict id and family id in 16 hexadecimal digits, and the
/// normalised text.
pub fn line(sql: &str, compat: Compat) -> (String, String, String) {
    let mut analyser = Analyser::new(compat);
    let analysis = analyser.analyse(sql.as_bytes());
    (format!("{:016x}", analysis.strict), format!("{:016x}", analysis.family), normalise(sql.as_bytes(), compat))
}
