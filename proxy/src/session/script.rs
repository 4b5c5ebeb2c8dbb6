//! What must be done about a statement when it succeeds, in an owned form that outlives its text.

use std::ops::Range;

use policy::statement::{Analysis, Class, DiscardWhat, Effect, Flags, Operand, Part};
use policy::verdict::SessionState;
use wire::params::Value;

use super::reading;

/// What the statements of one text do to their session, statement by statement.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Script {
    /// One list per statement of the text.
    pub parts: Vec<Vec<Act>>,
    /// Whether any value comes from a bound parameter.
    pub bound: bool,
    /// The text is `DEALLOCATE name` alone.
    pub deallocates: Option<Box<[u8]>>,
    /// A transaction block is opened by the text.
    pub begins: bool,
    /// It takes prepared statements away.
    pub forgets: bool,
    /// It may change what statements name.
    pub alters: bool,
    /// Texts behind it may be read in another way.
    pub rereads: bool,
    /// It listens to a channel.
    pub listens: bool,
    /// It notifies one.
    pub notifies: bool,
    /// It asks for what its session has drawn from a sequence before.
    pub recalls: bool,
    /// Databases that everybody else has to leave for it, each with the place in the text of the statement that needs it.
    pub vacates: Vec<(usize, Box<[u8]>)>,
    /// It calls what strikes sessions, maybe its own.
    pub strikes: bool,
    /// Such calls that show whom they mean.
    pub signals: Box<[Signal]>,
    /// It reads the list of its session's prepared statements.
    pub looks: bool,
    /// Statements that it needs by these names: to run them, to forget them beside other things, or to find them taken.
    pub names: Vec<Box<[u8]>>,
}

/// A call of `pg_cancel_backend` or `pg_terminate_backend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// It ends the session, and not only what runs there.
    pub terminate: bool,
    /// The process id.
    pub process: Argument,
    /// Where a constant one stands in the text without the comments at its ends.
    pub place: Range<usize>,
}

/// One thing that a statement does to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// SET or set_config.
    Set {
        /// The setting, in lower case.
        name: Box<str>,
        /// Its value.
        value: Value,
        /// For the transaction only.
        local: bool,
    },
    /// set_config with bound arguments: name, value, whether local.
    SetBound(Argument, Argument, Argument),
    /// RESET of one setting.
    Reset(Box<str>),
    /// SET LOCAL … TO DEFAULT.
    ResetLocal(Box<str>),
    /// A setting was made for the transaction alone, which one is not seen.
    LocalUnseen,
    /// The same, and it may be one that decides how texts are read.
    LocalHidden,
    /// RESET ALL.
    ResetAll,
    /// BEGIN.
    Begin,
    /// COMMIT; the tag tells whether it was one.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// SAVEPOINT.
    Savepoint(Box<[u8]>),
    /// ROLLBACK TO.
    RollbackTo(Box<[u8]>),
    /// RELEASE.
    Release(Box<[u8]>),
    /// DEALLOCATE of one name.
    Deallocate(Box<[u8]>),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DISCARD ALL.
    DiscardAll,
    /// LISTEN to a channel.
    Listen(Box<[u8]>),
    /// UNLISTEN of a channel.
    Unlisten(Box<[u8]>),
    /// UNLISTEN *.
    UnlistenAll,
    /// It leaves something behind that no other connection has.
    Leave(SessionState),
    /// It may have taken away the last of what keeps the client on its upstream.
    MayEnd,
    /// It changes functions, or what runs them.
    Define,
    /// It changes what statements name: a text that is prepared from here on is not what was prepared before.
    Alter,
    /// It may have left something behind: the upstream is reset before anybody else gets it.
    Taint,
}

impl Act {
    /// Whether it may change what statements name. A block may do anything.
    pub fn alters(&self) -> bool {
        matches!(self, Self::Alter | Self::Leave(SessionState::Block))
    }

    /// Whether no transaction that was open before it is open behind it.
    #[inline]
    pub fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }
}

/// An argument of set_config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Known from the text.
    Literal(Box<[u8]>),
    /// Parameter `$n`, from 1.
    Bound(u16),
    /// NULL.
    Null,
}

/// What must be done about a text; `None`: nothing.
pub fn of(analysis: &Analysis, sql: &[u8]) -> Option<Script> {
    // The cut may be within a constant: that there seems to be one statement only says nothing.
    let oversize = analysis.flags.contains(Flags::OVERSIZE);
    if analysis.effects.is_empty() && !oversize {
        return None;
    }
    let mut script = Script::default();
    for (place, part) in analysis.parts.iter().enumerate() {
        let acts: Vec<Act> = analysis.effects_of(part).iter().flat_map(|effect| act(effect, analysis, sql)).collect();
        script.bound |= acts.iter().any(|act| matches!(act, Act::SetBound(..)));
        script.rereads |= acts.iter().any(reading::may_change);
        script.begins |= acts.contains(&Act::Begin);
        script.listens |= acts.iter().any(|act| matches!(act, Act::Listen(_)));
        script.alters |= acts.iter().any(Act::alters);
        script.notifies |= analysis.effects_of(part).contains(&Effect::Notify);
        script.recalls |= analysis.effects_of(part).contains(&Effect::SequenceState);
        script.looks |= analysis.effects_of(part).contains(&Effect::StatementNames);
        let vacated = analysis.effects_of(part).iter().filter_map(|effect| vacated(effect, analysis));
        script.vacates.extend(vacated.map(|database| (place, database)));
        script.names.extend(analysis.effects_of(part).iter().filter_map(|effect| named(effect, analysis)));
        script.forgets |=
            acts.iter().any(|act| matches!(act, Act::Deallocate(_) | Act::DeallocateAll | Act::DiscardAll));
        script.parts.push(acts);
    }
    if oversize {
        // What stands behind the part that was looked at may have changed anything.
        match script.parts.last_mut() {
            Some(last) => last.push(Act::Taint),
            None => script.parts.push(vec![Act::Taint]),
        }
    }
    if let [Part { class: Class::Deallocate, .. }] = analysis.parts.as_slice()
        && let Some([Act::Deallocate(name)]) = script.parts.first().map(Vec::as_slice)
    {
        script.deallocates = Some(name.clone());
    }
    script.signals = analysis.effects.iter().filter_map(|effect| signal(effect, analysis)).collect();
    script.strikes = analysis.effects.iter().any(|effect| matches!(effect, Effect::Signal { .. }));
    let elsewhere = script.strikes || !script.vacates.is_empty();
    let reaches = script.recalls || script.looks || script.notifies || !script.names.is_empty() || elsewhere;
    let idle = script.parts.iter().all(Vec::is_empty) && !reaches;
    (!idle).then_some(script)
}

fn vacated(effect: &Effect, analysis: &Analysis) -> Option<Box<[u8]>> {
    let Effect::Vacates(database) = *effect else { return None };
    Some(analysis.text(database).into())
}

fn signal(effect: &Effect, analysis: &Analysis) -> Option<Signal> {
    let Effect::Signal { terminate, process, place } = *effect else { return None };
    Some(Signal { terminate, process: argument(process, analysis)?, place: place.range() })
}

/// What the text shows of an argument; `None`: an expression.
fn argument(operand: Operand, analysis: &Analysis) -> Option<Argument> {
    match operand {
        Operand::Literal(text) => Some(Argument::Literal(analysis.text(text).into())),
        Operand::Parameter(number) => Some(Argument::Bound(number)),
        Operand::Null => Some(Argument::Null),
        Operand::Unknown => None,
    }
}

/// The statement that is meant by its name. DEALLOCATE alone in its text is sent under the server's name for it.
fn named(effect: &Effect, analysis: &Analysis) -> Option<Box<[u8]>> {
    let name = match *effect {
        Effect::SqlExecute(name) | Effect::SqlPrepare(name) => name,
        Effect::Deallocate(name) if analysis.parts.len() > 1 => name,
        _ => return None,
    };
    Some(analysis.text(name).into())
}

fn act(effect: &Effect, analysis: &Analysis, sql: &[u8]) -> Option<Act> {
    let text = |text| -> Box<[u8]> { analysis.text(text).into() };
    let name = |text| -> Box<str> { String::from_utf8_lossy(analysis.text(text)).to_ascii_lowercase().into() };
    Some(match *effect {
        Effect::Set { name: setting, local, clause } => {
            Act::Set { name: name(setting), value: Value::Clause(clause.of(sql).into()), local }
        }
        Effect::SetValue { name: setting, value } => {
            Act::Set { name: name(setting), value: Value::Plain(text(value)), local: false }
        }
        Effect::Reset { name: setting, local: true } => Act::ResetLocal(name(setting)),
        Effect::Reset { name: setting, local: false } => Act::Reset(name(setting)),
        Effect::ResetAll => Act::ResetAll,
        Effect::SetConfig { name, value, local, certain } => return set_config(name, value, local, certain, analysis),
        Effect::SetUnknown => Act::Leave(SessionState::HiddenSetting),
        Effect::SetTransaction | Effect::SetConstraints => return None,
        Effect::Begin { .. } => Act::Begin,
        Effect::Commit { .. } => Act::Commit,
        Effect::Rollback { .. } => Act::Rollback,
        Effect::PrepareTransaction => Act::Commit,
        Effect::CommitPrepared => Act::Alter,
        Effect::RollbackPrepared => return None,
        Effect::Savepoint(savepoint) => Act::Savepoint(text(savepoint)),
        Effect::RollbackTo(savepoint) => Act::RollbackTo(text(savepoint)),
        Effect::Release(savepoint) => Act::Release(text(savepoint)),
        Effect::SqlPrepare(_) => Act::Leave(SessionState::SqlPrepare),
        // What is done about it depends on what its client has prepared, and is done when it is sent.
        Effect::SqlExecute(_) | Effect::StatementNames => return None,
        Effect::Deallocate(statement) => Act::Deallocate(text(statement)),
        Effect::DeallocateAll => Act::DeallocateAll,
        Effect::Discard(DiscardWhat::All) => Act::DiscardAll,
        Effect::Discard(_) | Effect::Drop => Act::MayEnd,
        Effect::Defines => Act::Define,
        Effect::Alters => Act::Alter,
        // The server refuses it.
        Effect::Listen(channel) if analysis.text(channel).is_empty() => return None,
        Effect::Listen(channel) => Act::Listen(text(channel)),
        Effect::Unlisten(channel) => Act::Unlisten(text(channel)),
        Effect::UnlistenAll => Act::UnlistenAll,
        Effect::DeclareWithHold(_) => Act::Leave(SessionState::HeldCursor),
        Effect::CloseCursor(_) | Effect::CloseAll => Act::MayEnd,
        Effect::TempObject { until_commit: true } => return None,
        Effect::TempObject { until_commit: false } => Act::Leave(SessionState::TemporaryObject),
        Effect::SessionAdvisoryLock => Act::Leave(SessionState::AdvisoryLock),
        Effect::AdvisoryUnlock | Effect::AdvisoryUnlockAll => Act::MayEnd,
        Effect::Load => Act::Leave(SessionState::Load),
        Effect::DoBlock | Effect::Call => Act::Leave(SessionState::Block),
        Effect::Seed => Act::Leave(SessionState::Seed),
        // What is done about it depends on where it stands, and is done when it is sent.
        Effect::SequenceState | Effect::Notify | Effect::Signal { .. } | Effect::Vacates(_) => return None,
        Effect::CopyIn | Effect::CopyOut => return None,
    })
}

fn set_config(name: Operand, value: Operand, local: Operand, certain: bool, analysis: &Analysis) -> Option<Act> {
    let argument = |operand| argument(operand, analysis);
    let known = (argument(name), argument(value), argument(local));
    let (true, (Some(name), Some(value), Some(local))) = (certain, known) else {
        // Local for sure: gone with the transaction. Else nobody can tell what was set.
        return match argument(local) {
            Some(Argument::Literal(text)) if truth(&text) == Some(true) => Some(match argument(name) {
                Some(name) if !reading::is_named(&name) => Act::LocalUnseen,
                _ => Act::LocalHidden,
            }),
            _ => Some(Act::Leave(SessionState::HiddenSetting)),
        };
    };
    let bound = [&name, &value, &local].iter().any(|argument| matches!(argument, Argument::Bound(_)));
    if bound { Some(Act::SetBound(name, value, local)) } else { resolve(&name, &value, &local, |_, _| None) }
}

/// What a set_config does once its parameters are known. `parameter` gives the text of `$n`, of a boolean where that is asked
/// for; `None`: it cannot be told.
pub fn resolve(
    name: &Argument,
    value: &Argument,
    local: &Argument,
    parameter: impl Fn(u16, bool) -> Option<Option<Vec<u8>>>,
) -> Option<Act> {
    let known = |argument: &Argument, boolean| match argument {
        Argument::Literal(text) => Some(Some(text.to_vec())),
        Argument::Null => Some(None),
        Argument::Bound(number) => parameter(*number, boolean),
    };
    let hidden = Some(Act::Leave(SessionState::HiddenSetting));
    let (Some(name), Some(value), Some(local)) = (known(name, false), known(value, false), known(local, true)) else {
        return hidden;
    };
    // With a NULL name nothing happens; a NULL value resets, a NULL third argument is false.
    let Some(local) = local.map_or(Some(false), |local| truth(&local)) else { return hidden };
    // A name that is none in UTF-8 could not be said again.
    let Ok(name) = String::from_utf8(name?) else { return if local { Some(Act::LocalUnseen) } else { hidden } };
    let name = name.to_ascii_lowercase();
    match value {
        // It is no setting of the session: random numbers follow from it, however it was made.
        Some(_) if name == "seed" => Some(Act::Leave(SessionState::Seed)),
        Some(value) => Some(Act::Set { name: name.into(), value: Value::Plain(value.into()), local }),
        None if local => Some(Act::ResetLocal(name.into())),
        None => Some(Act::Reset(name.into())),
    }
}

/// What a boolean is, in any spelling that PostgreSQL takes: blanks around it, the beginnings of its words. `None`: it takes
/// none of that.
fn truth(text: &[u8]) -> Option<bool> {
    let word = text.trim_ascii().to_ascii_lowercase();
    let begins = |whole: &[u8], least: usize| word.len() >= least && whole.starts_with(&word);
    match word.as_slice() {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) => Some(true),
        _ if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) => Some(false),
        _ => None,
    }
}
