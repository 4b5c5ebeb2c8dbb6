//! What a statement leaves behind, told by its tokens.

use super::settings;
use super::verb::Verb;
use super::{Access, Class, DiscardWhat, Effect, Flags, Text};
use crate::lexer::decode::Arena;
use crate::lexer::{Kind, Token, Word, symbol};

const OPEN: u64 = symbol("(");
const CLOSE: u64 = symbol(")");
const DOT: u64 = symbol(".");
const COMMA: u64 = symbol(",");

/// Reads effects off one statement at a time.
pub(crate) struct Extract<'a> {
    pub(crate) sql: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) effects: &'a mut Vec<Effect>,
    pub(crate) arena: Arena<'a>,
}

impl Extract<'_> {
    /// The effects of a statement of this class. `flags` are what the walk noticed.
    pub(crate) fn run(mut self, verb: Verb, flags: Flags) {
        if self.reads_statements() {
            self.effects.push(Effect::StatementNames);
        }
        if self.escapes_by_its_own() {
            self.effects.push(Effect::SetUnknown);
        }
        match verb.class {
            Class::Explain => self.explain(verb),
            Class::Prepare => {
                self.named(1, Effect::SqlPrepare);
                // What it calls when it is executed.
                self.calls(false);
            }
            class => self.executed(class, flags),
        }
    }

    fn executed(&mut self, class: Class, flags: Flags) {
        if !self.control(class) {
            self.state(class);
        }
        if matches!(class, Class::Ddl | Class::Maintenance) {
            self.vacates();
        }
        if class == Class::Ddl {
            self.create();
            if self.word(0) == Word::Drop {
                self.effects.push(Effect::Drop);
            }
            if self.defines() {
                self.effects.push(Effect::Defines);
            }
            if self.alters() {
                self.effects.push(Effect::Alters);
            }
        }
        self.select_into();
        if flags.contains(Flags::SELECT_INTO) {
            self.effects.push(Effect::Alters);
        }
        self.calls(flags.contains(Flags::FUNCTION_ONLY));
    }

    fn explain(&mut self, verb: Verb) {
        let Some((from, runs)) = verb.explained else { return };
        if self.word(from) == Word::Execute {
            self.named(from + 1, Effect::SqlExecute);
        }
        if runs {
            self.create();
            self.select_into();
            if self.has(Word::Into) || self.has(Word::Create) {
                self.effects.push(Effect::Alters);
            }
            self.calls(false);
        }
    }

    /// `U&"…" UESCAPE '!'`: a name that is not read, wherever it stands.
    fn escapes_by_its_own(&self) -> bool {
        self.tokens.windows(2).any(|pair| {
            matches!(pair, [name, word] if name.kind == Kind::Quoted
                && matches!(name.of(self.sql), [b'u' | b'U', b'&', ..])
                && word.says(symbol("uescape")))
        })
    }

    /// Transaction control; false when it is something else.
    fn control(&mut self, class: Class) -> bool {
        let effect = match class {
            Class::Begin => Effect::Begin { access: self.access() },
            Class::Commit if self.word(1) == Word::Prepared => Effect::CommitPrepared,
            Class::Commit => Effect::Commit { chain: self.chains() },
            Class::Rollback if self.word(1) == Word::Prepared => Effect::RollbackPrepared,
            Class::Rollback => Effect::Rollback { chain: self.chains() },
            Class::PrepareTransaction => Effect::PrepareTransaction,
            Class::Savepoint => Effect::Savepoint(self.last_name()),
            Class::RollbackTo => Effect::RollbackTo(self.last_name()),
            Class::Release => Effect::Release(self.last_name()),
            _ => return false,
        };
        self.effects.push(effect);
        true
    }

    /// What outlives the statement in the session.
    fn state(&mut self, class: Class) {
        let (effects, arena) = (&mut *self.effects, &mut self.arena);
        if class == Class::Set && settings::characteristics(self.sql, self.tokens, arena, |effect| effects.push(effect))
        {
            return;
        }
        let effect = match class {
            Class::Set => settings::set_effect(self.sql, self.tokens, &mut self.arena),
            Class::Reset => settings::reset_effect(self.sql, self.tokens, &mut self.arena),
            Class::Execute => Effect::SqlExecute(self.name(1)),
            Class::Deallocate if self.last_word() == Word::All => Effect::DeallocateAll,
            Class::Deallocate => Effect::Deallocate(self.last_name()),
            Class::Listen => Effect::Listen(self.name(1)),
            Class::Unlisten if self.tokens.get(1).is_some_and(|token| token.is(symbol("*"))) => Effect::UnlistenAll,
            Class::Unlisten => Effect::Unlisten(self.name(1)),
            Class::Notify => Effect::Notify,
            Class::Discard => Effect::Discard(self.discarded()),
            Class::Declare if self.holds() => Effect::DeclareWithHold(self.name(1)),
            Class::Close if self.word(1) == Word::All => Effect::CloseAll,
            Class::Close => Effect::CloseCursor(self.name(1)),
            Class::Load => Effect::Load,
            Class::Do => Effect::DoBlock,
            Class::Call => Effect::Call,
            Class::CopyIn if self.has(Word::Stdin) => Effect::CopyIn,
            Class::CopyOut if self.has(Word::Stdout) => Effect::CopyOut,
            _ => return,
        };
        self.effects.push(effect);
    }

    fn word(&self, at: usize) -> Word {
        self.tokens.get(at).map_or(Word::None, |token| token.word)
    }

    fn last_word(&self) -> Word {
        self.tokens.last().map_or(Word::None, |token| token.word)
    }

    fn has(&self, word: Word) -> bool {
        self.tokens.iter().any(|token| token.word == word)
    }

    fn pair(&self, first: Word, second: Word) -> bool {
        self.tokens.windows(2).any(|pair| matches!(pair, [a, b] if a.word == first && b.word == second))
    }

    fn name(&mut self, at: usize) -> Text {
        match self.tokens.get(at) {
            Some(token) => self.arena.name(self.sql, *token),
            None => Text::default(),
        }
    }

    fn last_name(&mut self) -> Text {
        self.name(self.tokens.len().saturating_sub(1))
    }

    fn named(&mut self, at: usize, effect: impl FnOnce(Text) -> Effect) {
        let name = self.name(at);
        self.effects.push(effect(name));
    }

    /// The last mode counts, as in the server.
    fn access(&self) -> Option<Access> {
        let access = |pair: &[Token]| match pair {
            [first, _] if first.word != Word::Read => None,
            [_, second] if second.says(symbol("only")) => Some(Access::ReadOnly),
            [_, second] if second.says(symbol("write")) => Some(Access::ReadWrite),
            _ => None,
        };
        self.tokens.windows(2).rev().find_map(access)
    }

    fn chains(&self) -> bool {
        self.pair(Word::And, Word::Chain)
    }

    fn holds(&self) -> bool {
        let head = self.tokens.iter().take_while(|token| token.word != Word::For);
        let mut before = Word::None;
        for token in head {
            if before == Word::With && token.word == Word::Hold {
                return true;
            }
            before = token.word;
        }
        false
    }

    fn discarded(&self) -> DiscardWhat {
        match self.word(1) {
            Word::Plans => DiscardWhat::Plans,
            Word::Sequences => DiscardWhat::Sequences,
            Word::Temp | Word::Temporary => DiscardWhat::Temp,
            _ => DiscardWhat::All,
        }
    }

    /// Whether functions, or what runs them, are made or changed: the kind of object stands among the first words.
    fn defines(&self) -> bool {
        let kinds = [
            &b"function"[..],
            b"procedure",
            b"routine",
            b"aggregate",
            b"trigger",
            b"rule",
            b"view",
            b"policy",
            b"operator",
            b"cast",
            b"domain",
            b"extension",
        ];
        let changes = matches!(self.word(0), Word::Create | Word::Alter | Word::Drop);
        let mut head = self.tokens.iter().take(6).filter(|token| token.kind == Kind::Word);
        changes && head.any(|token| kinds.iter().any(|kind| token.of(self.sql).eq_ignore_ascii_case(kind)))
    }

    /// Whether what statements name is made, changed or taken away. Left out is what no statement's meaning or type
    /// depends on, as far as the kind of object stands where it usually does.
    fn alters(&self) -> bool {
        let apart = [
            &b"index"[..],
            b"role",
            b"user",
            b"group",
            b"statistics",
            b"publication",
            b"subscription",
            b"policy",
            b"trigger",
            b"event",
            b"server",
        ];
        let unique = self.tokens.get(1).is_some_and(|token| token.of(self.sql).eq_ignore_ascii_case(b"unique"));
        let kind = self.tokens.get(if unique { 2 } else { 1 });
        let stays = |token: &Token| apart.iter().any(|kind| token.of(self.sql).eq_ignore_ascii_case(kind));
        let changes = matches!(self.word(0), Word::Create | Word::Alter | Word::Drop);
        changes && !kind.is_some_and(stays)
    }

    /// The database that has to be left by everybody else.
    fn vacates(&mut self) {
        if self.word(1) != Word::Database {
            return;
        }
        let moves = |token: &Token| token.says(symbol("rename")) || token.word == Word::Tablespace;
        let at = match self.word(0) {
            Word::Drop if self.word(2) == Word::If => 4,
            Word::Drop => 2,
            Word::Alter if self.tokens.iter().skip(3).any(moves) => 2,
            Word::Create => {
                let template = self.tokens.iter().position(|token| token.says(symbol("template")));
                let Some(at) = template.filter(|at| *at > 2) else {
                    let name = self.arena.copy(b"template1");
                    return self.effects.push(Effect::Vacates(name));
                };
                at + if self.tokens.get(at + 1).is_some_and(|token| token.is(symbol("="))) { 2 } else { 1 }
            }
            _ => return,
        };
        self.named(at, Effect::Vacates);
    }

    /// CREATE TEMPORARY …, CREATE … pg_temp.…, CREATE TABLE … AS EXECUTE.
    fn create(&mut self) {
        let Some(at) = self.tokens.iter().position(|token| token.word == Word::Create) else { return };
        let words = self.tokens.get(at..).unwrap_or_default();
        let before_kind = |token: &&Token| {
            matches!(token.word, Word::Create | Word::Or | Word::Replace | Word::Local | Word::Temp | Word::Temporary)
                || token.says(symbol("global"))
        };
        let mut modifiers = words.iter().take_while(before_kind);
        let marked = modifiers.any(|token| matches!(token.word, Word::Temp | Word::Temporary));
        let pairs: Vec<Token> = words
            .windows(2)
            .filter_map(|pair| matches!(pair, [_, dot] if dot.is(DOT)).then(|| pair.first().copied())?)
            .collect();
        let schema = pairs.into_iter().any(|name| self.is_temporary(name));
        if marked || schema {
            // `ON COMMIT DROP`, and no column that is called so.
            let until_commit = self.tokens.windows(4).any(|four| {
                matches!(four, [before, on, commit, drop] if !before.is(DOT) && on.word == Word::On
                    && commit.word == Word::Commit && drop.word == Word::Drop)
            });
            self.effects.push(Effect::TempObject { until_commit });
        }
        let execute = self
            .tokens
            .windows(2)
            .position(|pair| matches!(pair, [first, second] if first.word == Word::As && second.word == Word::Execute));
        if let Some(at) = execute {
            self.named(at + 2, Effect::SqlExecute);
        }
    }

    /// SELECT … INTO TEMP: any INTO that may be one, for a column can be called so as well.
    fn select_into(&mut self) {
        for at in 0..self.tokens.len() {
            if self.word(at) != Word::Into || matches!(self.before(at), Word::Insert | Word::Merge) {
                continue;
            }
            let behind: Vec<Token> = self.tokens.iter().skip(at + 1).take(4).copied().collect();
            let marked = behind.iter().any(|token| matches!(token.word, Word::Temp | Word::Temporary));
            if marked || behind.into_iter().any(|name| self.is_temporary(name)) {
                return self.effects.push(Effect::TempObject { until_commit: false });
            }
        }
    }

    fn before(&self, at: usize) -> Word {
        at.checked_sub(1).map_or(Word::None, |before| self.word(before))
    }

    /// Whether this token names a schema of temporary tables: a session's own goes by its number too.
    fn is_temporary(&mut self, token: Token) -> bool {
        matches!(token.kind, Kind::Word | Kind::Quoted)
            && self.decoded(token, |name| name == b"pg_temp" || name.starts_with(b"pg_temp_"))
    }

    /// Whether this token is the name `name`, quoted or not.
    fn says(&mut self, token: Token, name: &[u8]) -> bool {
        matches!(token.kind, Kind::Word | Kind::Quoted) && self.decoded(token, |own| own == name)
    }

    /// A look at a name as the server reads it.
    fn decoded<R>(&mut self, token: Token, look: impl FnOnce(&[u8]) -> R) -> R {
        let before = self.arena.0.len();
        let name = self.arena.name(self.sql, token);
        let seen = look(self.arena.bytes(name));
        self.arena.0.truncate(before);
        seen
    }

    /// Whether it names the view of prepared statements, or the function behind it.
    fn reads_statements(&mut self) -> bool {
        let names = |name: &[u8]| matches!(name, b"pg_prepared_statements" | b"pg_prepared_statement");
        (0..self.tokens.len())
            .filter_map(|at| self.tokens.get(at).copied())
            .any(|token| token.word.lists_statements() || (token.kind == Kind::Quoted && self.decoded(token, names)))
    }

    /// Calls of functions that change the session. `listed`: the statement is nothing but a list of calls.
    fn calls(&mut self, listed: bool) {
        let mut depth = 0usize;
        for at in 0..self.tokens.len() {
            let Some(token) = self.tokens.get(at).copied() else { return };
            match token.kind {
                Kind::Symbol if token.is(OPEN) => depth += 1,
                Kind::Symbol if token.is(CLOSE) => depth = depth.saturating_sub(1),
                Kind::Word | Kind::Quoted => self.call(at, token, listed && depth == 0),
                _ => {}
            }
        }
    }

    fn call(&mut self, at: usize, token: Token, certain: bool) {
        let suspect = token.word.is_session_call() || token.kind == Kind::Quoted;
        let called = self.tokens.get(at + 1).is_some_and(|next| next.is(OPEN));
        if !suspect || !called || !self.unqualified_or_catalog(at) {
            return;
        }
        let before = self.arena.0.len();
        let name = self.arena.name(self.sql, token);
        let name = self.arena.bytes(name).to_vec();
        self.arena.0.truncate(before);
        let advisory = name.strip_prefix(b"pg_try_").or_else(|| name.strip_prefix(b"pg_"));
        let effect = match (name.as_slice(), advisory) {
            (b"set_config", _) => settings::set_config_effect(self.sql, self.tokens, at + 1, certain, &mut self.arena),
            (_, Some(b"advisory_lock" | b"advisory_lock_shared")) => Effect::SessionAdvisoryLock,
            (_, Some(b"advisory_unlock" | b"advisory_unlock_shared")) => Effect::AdvisoryUnlock,
            (_, Some(b"advisory_unlock_all")) => Effect::AdvisoryUnlockAll,
            (b"pg_cancel_backend" | b"pg_terminate_backend", _) => {
                let terminate = name.as_slice() == b"pg_terminate_backend";
                settings::signal_effect(self.sql, self.tokens, at + 1, terminate, &mut self.arena)
            }
            (b"setseed", _) => Effect::Seed,
            // The text may do anything.
            (
                b"query_to_xml" | b"query_to_xml_and_xmlschema" | b"query_to_xmlschema" | b"ts_rewrite" | b"ts_stat",
                _,
            ) => Effect::SetUnknown,
            (b"pg_notify", _) => Effect::Notify,
            (b"currval" | b"lastval", _) => Effect::SequenceState,
            _ => return,
        };
        self.effects.push(effect);
    }

    /// A function of that name in another schema is somebody else's.
    fn unqualified_or_catalog(&mut self, at: usize) -> bool {
        let before = |back: usize| at.checked_sub(back).and_then(|at| self.tokens.get(at)).copied();
        match (before(1), before(2)) {
            (Some(dot), Some(schema)) if dot.is(DOT) => self.says(schema, b"pg_catalog"),
            _ => true,
        }
    }
}

/// Whether a SELECT is a list of function calls with nothing behind it: `select f(…), g(…)::text as x`.
pub(crate) fn is_call_list(tokens: &[Token]) -> bool {
    let mut at = 1;
    loop {
        let Some(end) = call_end(tokens, at) else { return false };
        match tokens.get(end) {
            None => return true,
            Some(next) if next.is(COMMA) => at = end + 1,
            Some(_) => return false,
        }
    }
}

/// The token behind the call at `at`, its casts and its alias.
fn call_end(tokens: &[Token], mut at: usize) -> Option<usize> {
    let is_name = |at: usize| {
        let named = |token: &Token| token.kind == Kind::Quoted || (token.kind == Kind::Word && callable(token.word));
        tokens.get(at).is_some_and(named)
    };
    let is = |at: usize, key| tokens.get(at).is_some_and(|token| token.is(key));
    while is_name(at) && is(at + 1, DOT) {
        at += 2;
    }
    if !is_name(at) || !is(at + 1, OPEN) {
        return None;
    }
    at = closing(tokens, at + 1)? + 1;
    while is(at, symbol("::")) {
        at += 2;
    }
    if tokens.get(at).is_some_and(|token| token.word == Word::As) {
        at += 2;
    } else if is_name(at) {
        at += 1;
    }
    Some(at)
}

fn callable(word: Word) -> bool {
    word.is_session_call()
        || word.lists_statements()
        || matches!(word, Word::None | Word::PgCatalog | Word::Unnest | Word::Like)
}

/// The parenthesis that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is(OPEN) {
            depth += 1;
        } else if token.is(CLOSE) {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}
