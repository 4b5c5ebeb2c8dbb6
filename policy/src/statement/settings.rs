//! SET, RESET and `set_config`: which parameter, which value, for how long.

use super::{Effect, Operand, Span, Text};
use crate::lexer::decode::Arena;
use crate::lexer::{Kind, Token, Word, symbol};

const DOT: u64 = symbol(".");
const COMMA: u64 = symbol(",");
const OPEN: u64 = symbol("(");
const CLOSE: u64 = symbol(")");
const CAST: u64 = symbol("::");

/// What kind of SET a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetForm {
    /// `SET [SESSION|LOCAL] a.b TO value`: the tokens of the name and where the value begins.
    Parameter { local: bool, clause: usize, name: (usize, usize), value: usize },
    /// A form with words of its own: the parameter that it stands for.
    Special { local: bool, clause: usize, name: &'static str, value: usize },
    /// SET TRANSACTION.
    Transaction,
    /// SET SESSION CHARACTERISTICS, also LOCAL.
    Characteristics { local: bool, modes: usize },
    /// SET CONSTRAINTS.
    Constraints,
    /// FROM CURRENT, or not understood.
    Unknown,
}

fn word(tokens: &[Token], at: usize) -> Word {
    tokens.get(at).map_or(Word::None, |token| token.word)
}

/// Which form of SET `tokens` are; the first is SET.
pub(crate) fn set_form(tokens: &[Token]) -> SetForm {
    let names_session = tokens.get(2).is_some_and(|token| token.is(DOT) || is_assignment(token));
    let (local, clause) = match (word(tokens, 1), word(tokens, 2)) {
        _ if names_session => (false, 1),
        (Word::Local, _) => (true, 2),
        (Word::Session, Word::Authorization | Word::Characteristics) => (false, 1),
        (Word::Session, _) => (false, 2),
        _ => (false, 1),
    };
    let special = |name, value| SetForm::Special { local, clause, name, value };
    let assigned = tokens.get(clause + 1).is_some_and(is_assignment);
    // `SET role.name = …`: a setting whose name begins with a word of SET.
    let dotted = tokens.get(clause + 1).is_some_and(|token| token.is(DOT));
    match (word(tokens, clause), word(tokens, clause + 1)) {
        _ if assigned || dotted => parameter(tokens, local, clause),
        (Word::Transaction, _) => SetForm::Transaction,
        (Word::Constraints, _) => SetForm::Constraints,
        (Word::Session, Word::Characteristics) => SetForm::Characteristics { local, modes: clause + 4 },
        (Word::Session, Word::Authorization) => special("session_authorization", clause + 2),
        (Word::Time, Word::Zone) => special("timezone", clause + 2),
        (Word::Role, _) => special("role", clause + 1),
        (Word::Names, _) => special("client_encoding", clause + 1),
        (Word::Schema, _) => special("search_path", clause + 1),
        (Word::Xml, Word::Option) => special("xmloption", clause + 2),
        _ if tokens.get(clause).is_some_and(|token| token.says(symbol("seed"))) => special("seed", clause + 1),
        _ => parameter(tokens, local, clause),
    }
}

fn is_assignment(token: &Token) -> bool {
    token.word == Word::To || token.is(symbol("="))
}

fn parameter(tokens: &[Token], local: bool, clause: usize) -> SetForm {
    let end = name_end(tokens, clause);
    if end > clause && tokens.get(end).is_some_and(is_assignment) && tokens.len() > end + 1 {
        return SetForm::Parameter { local, clause, name: (clause, end), value: end + 1 };
    }
    SetForm::Unknown
}

/// The token behind the dotted name at `at`.
fn name_end(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Quoted)) {
        at += 1;
        if !tokens.get(at).is_some_and(|token| token.is(DOT)) {
            return at;
        }
        at += 1;
    }
    at
}

/// The effect of a SET.
pub(crate) fn set_effect(sql: &[u8], tokens: &[Token], arena: &mut Arena<'_>) -> Effect {
    let form = set_form(tokens);
    let end = tokens.last().map_or(0, |token| token.end);
    let clause_at = |clause: usize| Span { start: tokens.get(clause).map_or(end, |token| token.start), end };
    let (local, clause, name, value) = match form {
        SetForm::Transaction => return Effect::SetTransaction,
        SetForm::Constraints => return Effect::SetConstraints,
        // Read before, mode by mode.
        SetForm::Characteristics { .. } => return Effect::SetUnknown,
        SetForm::Unknown => return Effect::SetUnknown,
        SetForm::Special { local, clause, name, value } => (local, clause, arena.copy(name.as_bytes()), value),
        SetForm::Parameter { local, clause, name: (from, to), value } => {
            (local, clause, arena.setting(sql, tokens.get(from..to).unwrap_or_default()), value)
        }
    };
    match arena.bytes(name) {
        name if ends_with_transaction(name) => return Effect::SetTransaction,
        b"seed" => return Effect::Seed,
        _ => {}
    }
    if is_default(arena.bytes(name), tokens.get(value..).unwrap_or_default()) {
        return Effect::Reset { name, local };
    }
    Effect::Set { name, local, clause: clause_at(clause) }
}

/// The effects of SET SESSION CHARACTERISTICS; `false`: it is something else, or was not understood.
pub(crate) fn characteristics(
    sql: &[u8],
    tokens: &[Token],
    arena: &mut Arena<'_>,
    mut effect: impl FnMut(Effect),
) -> bool {
    let SetForm::Characteristics { local: false, modes } = set_form(tokens) else { return false };
    let tokens = tokens.get(modes..).unwrap_or_default().iter().filter(|token| !token.is(COMMA));
    let words: Vec<Vec<u8>> = tokens.map(|token| token.of(sql).to_ascii_lowercase()).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let mut rest = words.as_slice();
    let mut found: Vec<(&[u8], &[u8])> = Vec::new();
    while !rest.is_empty() {
        let (mode, length): ((&[u8], &[u8]), usize) = match rest {
            [b"isolation", b"level", b"serializable", ..] => ((ISOLATION, b"serializable"), 3),
            [b"isolation", b"level", b"repeatable", b"read", ..] => ((ISOLATION, b"repeatable read"), 4),
            [b"isolation", b"level", b"read", b"committed", ..] => ((ISOLATION, b"read committed"), 4),
            [b"isolation", b"level", b"read", b"uncommitted", ..] => ((ISOLATION, b"read uncommitted"), 4),
            [b"read", b"only", ..] => ((b"default_transaction_read_only", b"on"), 2),
            [b"read", b"write", ..] => ((b"default_transaction_read_only", b"off"), 2),
            [b"deferrable", ..] => ((b"default_transaction_deferrable", b"on"), 1),
            [b"not", b"deferrable", ..] => ((b"default_transaction_deferrable", b"off"), 2),
            _ => return false,
        };
        found.push(mode);
        rest = rest.get(length..).unwrap_or_default();
    }
    for (name, value) in &found {
        let (name, value) = (arena.copy(name), arena.copy(value));
        effect(Effect::SetValue { name, value });
    }
    !found.is_empty()
}

const ISOLATION: &[u8] = b"default_transaction_isolation";

/// Parameters that describe the current transaction and end with it.
fn ends_with_transaction(name: &[u8]) -> bool {
    matches!(name, b"transaction_isolation" | b"transaction_read_only" | b"transaction_deferrable")
}

/// DEFAULT; SET TIME ZONE LOCAL and SET NAMES with nothing behind mean the same.
fn is_default(name: &[u8], value: &[Token]) -> bool {
    match value {
        [] => name == b"client_encoding",
        [only] => only.word == Word::Default || (only.word == Word::Local && name == b"timezone"),
        _ => false,
    }
}

/// The effect of a RESET.
pub(crate) fn reset_effect(sql: &[u8], tokens: &[Token], arena: &mut Arena<'_>) -> Effect {
    let name = match (word(tokens, 1), word(tokens, 2)) {
        (Word::All, _) => return Effect::ResetAll,
        (Word::Time, Word::Zone) => arena.copy(b"timezone"),
        (Word::Session, Word::Authorization) => arena.copy(b"session_authorization"),
        (Word::Transaction, _) if !tokens.get(2).is_some_and(|token| token.is(DOT)) => return Effect::SetTransaction,
        _ => match tokens.get(1..name_end(tokens, 1)) {
            Some(name) if !name.is_empty() => arena.setting(sql, name),
            _ => return Effect::SetUnknown,
        },
    };
    Effect::Reset { name, local: false }
}

/// Tokens of a call that are looked at: calls within calls are no reason to read a text over and over.
const CALL: usize = 512;

/// The effect of the call of `set_config` whose opening parenthesis is at `open`. `certain`: it runs exactly once.
pub(crate) fn set_config_effect(
    sql: &[u8],
    tokens: &[Token],
    open: usize,
    certain: bool,
    arena: &mut Arena<'_>,
) -> Effect {
    let tokens = tokens.get(..open + CALL).unwrap_or(tokens);
    let mut at = open + 1;
    let mut operands = [Operand::Unknown; 3];
    let mut named = false;
    for operand in &mut operands {
        let end = argument_end(tokens, at);
        let argument = tokens.get(at..end).unwrap_or_default();
        // One whose end is not seen may be anything.
        named |= end == tokens.len();
        named |= argument.iter().any(|token| token.is(symbol("=>")) || token.is(symbol(":=")));
        *operand = operand_of(sql, argument, arena);
        at = end + 1;
    }
    if named {
        operands = [Operand::Unknown; 3];
    }
    let [name, value, local] = operands;
    if let Operand::Literal(text) = name {
        arena.fold(text);
    }
    Effect::SetConfig { name, value, local, certain }
}

/// The effect of the call of `pg_cancel_backend` or `pg_terminate_backend` whose opening parenthesis is at `open`.
pub(crate) fn signal_effect(
    sql: &[u8],
    tokens: &[Token],
    open: usize,
    terminate: bool,
    arena: &mut Arena<'_>,
) -> Effect {
    let argument = tokens.get(open + 1..argument_end(tokens, open + 1)).unwrap_or_default();
    // Whatever it is cast to: a process id reads the same as any number that holds it.
    let casts = argument.get(1..).unwrap_or_default();
    let known = casts.chunks(2).all(|cast| matches!(cast, [sign, name] if sign.is(CAST) && name.kind == Kind::Word));
    let first = argument.get(..1).filter(|_| known).unwrap_or_default();
    let process = operand_of(sql, first, arena);
    let place = match (process, first) {
        (Operand::Literal(_), [constant]) => Span { start: constant.start, end: constant.end },
        _ => Span::default(),
    };
    Effect::Signal { terminate, process, place }
}

/// The token that ends the argument at `at`: the comma or the parenthesis.
fn argument_end(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        match token.key {
            _ if token.kind != Kind::Symbol => {}
            OPEN => depth += 1,
            CLOSE | COMMA if depth == 0 => return at,
            CLOSE => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Parentheses around a constant that are looked into: one pair is what pgjdbc writes in its simple mode.
const PARENTHESES: usize = 2;

/// A constant or a parameter, with casts that do not change how it reads, both also in parentheses.
fn operand_of(sql: &[u8], mut argument: &[Token], arena: &mut Arena<'_>) -> Operand {
    for _ in 0..PARENTHESES {
        let Some((inner, casts)) = in_parentheses(argument) else { break };
        if !are_harmless(casts) {
            return Operand::Unknown;
        }
        argument = inner;
    }
    let Some((first, casts)) = argument.split_first() else { return Operand::Unknown };
    if !are_harmless(casts) {
        return Operand::Unknown;
    }
    match (first.kind, first.word) {
        (Kind::String, _) => Operand::Literal(arena.string(sql, *first)),
        (Kind::Parameter, _) => {
            let digits = first.of(sql).get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| digits.parse().ok()).map_or(Operand::Unknown, Operand::Parameter)
        }
        (_, Word::Null) => Operand::Null,
        (Kind::Number, _) | (_, Word::True | Word::False) => {
            let text: Text = arena.copy(first.of(sql));
            arena.fold(text);
            Operand::Literal(text)
        }
        _ => Operand::Unknown,
    }
}

/// `(inner) casts`, when that is how it begins.
fn in_parentheses(argument: &[Token]) -> Option<(&[Token], &[Token])> {
    let is = |token: &&Token, key| token.kind == Kind::Symbol && token.key == key;
    argument.first().filter(|first| is(first, OPEN))?;
    let end = argument_end(argument, 1);
    argument.get(end).filter(|last| is(last, CLOSE))?;
    Some((argument.get(1..end)?, argument.get(end + 1..)?))
}

/// Whether these tokens are casts that do not change how a constant reads.
fn are_harmless(casts: &[Token]) -> bool {
    casts.chunks(2).all(|cast| matches!(cast, [sign, name] if sign.is(CAST) && is_text_or_bool(*name)))
}

fn is_text_or_bool(name: Token) -> bool {
    [symbol("text"), symbol("varchar"), symbol("bool"), symbol("boolean")].iter().any(|text| name.says(*text))
}
