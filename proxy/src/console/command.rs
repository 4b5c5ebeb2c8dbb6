//! What operators say, and what it stands for.

use wire::encode::{Report, Severity};
use wire::error::Sqlstate;

use super::table::{self, Show};
use super::token::{Token, tokens};

/// Longest part of a text that an error repeats, in characters.
const MAX_SHOWN: usize = 200;

/// One command.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// Shows something: of what has a choice of rows, so many of the first.
    Show(&'static Show, Option<usize>),
    /// Shows what is the same for every session.
    Setting(&'static str, &'static str),
    /// `SELECT 1`: whether anybody is there.
    One,
    /// Changes a setting of the proxy.
    Set(Box<str>, Box<str>),
    /// Changes a setting of the session, of which there is none: drivers do so without being asked.
    SetSession,
    /// What has no meaning here and no harm, with its command tag: transactions, as drivers begin them.
    Nothing(&'static str),
    /// Does something.
    Act(Action),
}

/// What an admin has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Pause(Option<Box<str>>),
    Resume(Option<Box<str>>),
    Disable(Box<str>),
    Enable(Box<str>),
    Reconnect(Option<Box<str>>),
    Kill(Option<Box<str>>),
    KillClient(u64),
    WaitClose(Option<Box<str>>),
    Reload,
    Suspend,
    Shutdown(Shutdown),
}

/// How the process shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    Now,
    WaitForServers,
    WaitForClients,
}

/// A command that does something, as HELP and the documentation name it.
pub(super) struct Verb {
    pub(super) usage: &'static str,
    /// What it does. Markdown.
    pub(super) about: &'static str,
}

const fn verb(usage: &'static str, about: &'static str) -> Verb {
    Verb { usage, about }
}

/// All of them.
#[rustfmt::skip]
pub(super) const VERBS: &[Verb] = &[
    verb("SET key = arg", "Changes a key of the configuration until the next RELOAD or restart; by PgBouncer's name, with times in seconds, or by pgweir's own. See [below](#set)."),
    verb("RELOAD", "Reads the configuration again, as SIGHUP does. What is wrong with it stands in the error's DETAIL, and nothing has changed then; a NOTICE names the keys that need a restart."),
    verb("PAUSE [<db>]", "Closes the server connections of a database, or of all, each at its next boundary; ends when the last one is closed. Clients stay, new ones may come, and whoever wants a server waits."),
    verb("RESUME [<db>]", "Ends the pause of a database (made by PAUSE or KILL), or every pause, and SUSPEND with them. No error where there was none."),
    verb("DISABLE <db>", "The database takes no new clients. Those that are there stay. A table of tenants in it is not read."),
    verb("ENABLE <db>", "It takes them again."),
    verb("RECONNECT [<db>]", "Has each server connection closed at its next boundary. Returns at once."),
    verb("KILL [<db>]", "Ends all clients of a database, or of all, with 57P01, and closes its server connections; statements that run are cancelled. It is paused from then on, until RESUME."),
    verb("KILL_CLIENT <client_id>", "Ends the client with this `id` of SHOW CLIENTS; what it runs is cancelled."),
    verb("SUSPEND", "What clients have begun goes on to its end; their next requests wait for RESUME, in open transactions too. Ends when no request is under way and nothing that was read is unsent. Server connections stay as they are. An error while a database is paused or the process is ending, and where requests have not ended within 10 s: then all go on."),
    verb("SHUTDOWN", "Ends the process at once, as SIGQUIT does. The connection closes when it has ended."),
    verb("SHUTDOWN WAIT_FOR_SERVERS", "Takes no new clients, lets requests and transactions end, and ends the process then, as SIGINT does; after `shutdown.drain_timeout` in any case."),
    verb("SHUTDOWN WAIT_FOR_CLIENTS", "Takes no new clients, and ends the process when the last one has left by itself, however long that takes."),
    verb("WAIT_CLOSE [<db>]", "Ends when the server connections that are out of use, by RECONNECT, RELOAD or a fail-over, are closed."),
];

/// What sessions are told about themselves, whatever they set.
pub(super) const SETTINGS: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("server_version", super::SERVER_VERSION),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_isolation", "read committed"),
    ("is_superuser", "on"),
];

/// Settings of sessions that drivers change without being asked to.
const SESSION: [&str; 20] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
    "work_mem",
];

/// The commands of a text, in order. Empty: there is none in it.
///
/// # Errors
/// The first that is none, as it is told: those before it are lost with it, so a text is run as a whole or not at all.
pub(super) fn commands(text: &str) -> Result<Vec<Command>, Report> {
    let tokens = tokens(text).map_err(|what| wrong(text).detail(what))?;
    let statements = tokens.split(|token| *token == Token::Symbol(';')).filter(|statement| !statement.is_empty());
    statements.map(|statement| command(statement).unwrap_or_else(|| Err(wrong(text)))).collect()
}

/// An error of an operator's.
pub(super) fn error(code: &[u8; 5], message: impl Into<String>) -> Report {
    let code = Sqlstate::parse(code).unwrap_or(Sqlstate::INTERNAL_ERROR);
    Report::new(Severity::Error, code, message)
}

/// PgBouncer's words.
fn wrong(text: &str) -> Report {
    let shown: String = text.trim().chars().take(MAX_SHOWN).collect();
    error(b"42601", format!("invalid command '{shown}', use SHOW HELP;"))
}

/// `None`: it is no command.
fn command(statement: &[Token<'_>]) -> Option<Result<Command, Report>> {
    let (verb, arguments) = statement.split_first()?;
    let verb = verb.bare()?.to_ascii_uppercase();
    match (verb.as_str(), arguments) {
        ("SHOW", _) => show(arguments).map(Ok),
        ("SELECT", [Token::Word("1")]) => Some(Ok(Command::One)),
        ("SELECT", [rest @ .., Token::Symbol('('), Token::Symbol(')')]) => show(unqualified(rest)).map(Ok),
        ("SELECT", _) => show(arguments).map(Ok),
        ("SET", _) => set(arguments),
        ("BEGIN", _) => Some(Ok(Command::Nothing("BEGIN"))),
        ("START", [Token::Word(what), ..]) if what.eq_ignore_ascii_case("transaction") => {
            Some(Ok(Command::Nothing("START TRANSACTION")))
        }
        ("COMMIT" | "END", _) => Some(Ok(Command::Nothing("COMMIT"))),
        ("ROLLBACK" | "ABORT", _) => Some(Ok(Command::Nothing("ROLLBACK"))),
        ("DISCARD", [_]) => Some(Ok(Command::Nothing("DISCARD ALL"))),
        ("RESET", [Token::Word(name)])
            if SESSION.iter().any(|known| known.eq_ignore_ascii_case(name)) || name.eq_ignore_ascii_case("all") =>
        {
            Some(Ok(Command::Nothing("RESET")))
        }
        _ => action(&verb, arguments).map(|action| action.map(Command::Act)),
    }
}

/// `pg_catalog.version` as `version`.
fn unqualified<'a, 'b>(name: &'a [Token<'b>]) -> &'a [Token<'b>] {
    match name {
        [Token::Word(schema), Token::Symbol('.'), rest @ ..] if schema.eq_ignore_ascii_case("pg_catalog") => rest,
        name => name,
    }
}

fn show(arguments: &[Token<'_>]) -> Option<Command> {
    let word = |token: &Token<'_>| match token {
        Token::Word(_) | Token::Quoted(_) => token.name().map(|word| word.to_ascii_lowercase()),
        Token::Text(_) | Token::Symbol(_) => None,
    };
    let name: Vec<String> = arguments.iter().map(word).collect::<Option<_>>()?;
    let name: Vec<&str> = name.iter().map(String::as_str).collect();
    let name = match name.as_slice() {
        ["transaction", "isolation", "level"] => "transaction_isolation",
        ["time", "zone"] => "timezone",
        [name] => name,
        [name, number] => {
            let show = table::find(name).filter(|show| show.what.has_limit())?;
            return Some(Command::Show(show, Some(number.parse().ok().filter(|number| *number > 0)?)));
        }
        _ => return None,
    };
    if let Some((known, value)) = SETTINGS.iter().find(|(known, _)| *known == name) {
        return Some(Command::Setting(known, value));
    }
    table::find(name).map(|show| Command::Show(show, None))
}

/// `SET key = value`, `SET key TO value`, and what drivers say to their sessions.
fn set(arguments: &[Token<'_>]) -> Option<Result<Command, Report>> {
    let arguments = match arguments {
        [Token::Word(scope), rest @ ..] if ["session", "local"].iter().any(|word| word.eq_ignore_ascii_case(scope)) => {
            rest
        }
        all => all,
    };
    let (key, rest) = arguments.split_first()?;
    let key = key.name()?;
    if ["time", "transaction", "characteristics", "names"].iter().any(|word| key.eq_ignore_ascii_case(word))
        && rest.first().is_some_and(|token| token.bare().is_some() || matches!(token, Token::Text(_)))
    {
        return Some(Ok(Command::SetSession));
    }
    // pgweir's own keys have dots in them.
    let (mut key, mut rest) = (key.into_owned(), rest);
    while let [Token::Symbol('.'), part, more @ ..] = rest {
        key = format!("{key}.{}", part.name()?);
        rest = more;
    }
    let value = match rest {
        [Token::Symbol('='), value @ ..] => value,
        [Token::Word(to), value @ ..] if to.eq_ignore_ascii_case("to") => value,
        _ => return None,
    };
    if SESSION.iter().any(|known| known.eq_ignore_ascii_case(&key)) && !value.is_empty() {
        return Some(Ok(Command::SetSession));
    }
    match value {
        [value] => Some(Ok(Command::Set(key.into(), value.name()?.into()))),
        _ => None,
    }
}

/// `None`: there is no such command, or not with these arguments.
fn action(verb: &str, arguments: &[Token<'_>]) -> Option<Result<Action, Report>> {
    let argument: Option<Box<str>> = match arguments {
        [] => None,
        [argument] => Some(argument.name()?.into()),
        _ => return None,
    };
    let needed = |argument: Option<Box<str>>| argument.ok_or_else(|| error(b"42601", "a database is required"));
    Some(match (verb, argument) {
        ("PAUSE", database) => Ok(Action::Pause(database)),
        ("RESUME", database) => Ok(Action::Resume(database)),
        ("DISABLE", database) => needed(database).map(Action::Disable),
        ("ENABLE", database) => needed(database).map(Action::Enable),
        ("RECONNECT", database) => Ok(Action::Reconnect(database)),
        ("KILL", database) => Ok(Action::Kill(database)),
        ("KILL_CLIENT", client) => {
            let client = client.and_then(|client| client.parse().ok());
            client.map(Action::KillClient).ok_or_else(|| {
                error(b"22023", "invalid client pointer supplied")
                    .hint("KILL_CLIENT takes the id that SHOW CLIENTS gives.")
            })
        }
        ("WAIT_CLOSE", database) => Ok(Action::WaitClose(database)),
        ("RELOAD", None) => Ok(Action::Reload),
        ("SUSPEND", None) => Ok(Action::Suspend),
        ("SHUTDOWN", None) => Ok(Action::Shutdown(Shutdown::Now)),
        ("SHUTDOWN", Some(how)) if how.eq_ignore_ascii_case("wait_for_servers") => {
            Ok(Action::Shutdown(Shutdown::WaitForServers))
        }
        ("SHUTDOWN", Some(how)) if how.eq_ignore_ascii_case("wait_for_clients") => {
            Ok(Action::Shutdown(Shutdown::WaitForClients))
        }
        _ => return None,
    })
}

impl Action {
    /// Its command tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Reconnect(_) => "RECONNECT",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Reload => "RELOAD",
            Self::Suspend => "SUSPEND",
            Self::Shutdown(_) => "SHUTDOWN",
        }
    }

    /// What it is about, for the log; empty: everything.
    pub(super) fn object(&self) -> String {
        match self {
            Self::Pause(database)
            | Self::Resume(database)
            | Self::Reconnect(database)
            | Self::Kill(database)
            | Self::WaitClose(database) => database.as_deref().unwrap_or_default().to_owned(),
            Self::Disable(database) | Self::Enable(database) => database.to_string(),
            Self::KillClient(client) => client.to_string(),
            Self::Shutdown(Shutdown::WaitForServers) => "WAIT_FOR_SERVERS".to_owned(),
            Self::Shutdown(Shutdown::WaitForClients) => "WAIT_FOR_CLIENTS".to_owned(),
            Self::Shutdown(Shutdown::Now) | Self::Reload | Self::Suspend => String::new(),
        }
    }

    /// The database that it names, if it names one.
    pub(super) fn database(&self) -> Option<&str> {
        match self {
            Self::Pause(database)
            | Self::Resume(database)
            | Self::Reconnect(database)
            | Self::Kill(database)
            | Self::WaitClose(database) => database.as_deref(),
            Self::Disable(database) | Self::Enable(database) => Some(database),
            Self::KillClient(_) | Self::Shutdown(_) | Self::Reload | Self::Suspend => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Command {
        let mut all = commands(text).unwrap_or_else(|report| panic!("{text}: {report:?}"));
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn acts(text: &str) -> Action {
        match one(text) {
            Command::Act(action) => action,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn code(text: &str) -> String {
        commands(text).unwrap_err().sqlstate.as_str().to_owned()
    }

    #[test]
    fn commands_in_any_case_with_and_without_a_semicolon() {
        for text in
            ["SHOW POOLS", "show pools;", " Show\n\tPools ; ", "select pools", "show \"pools\"", "-- x\nshow pools"]
        {
            assert!(matches!(one(text), Command::Show(show, None) if show.name == "POOLS"), "{text}");
        }
        for text in ["select version", "SELECT version()", "select pg_catalog.version();", "show version"] {
            assert!(matches!(one(text), Command::Show(show, None) if show.name == "VERSION"), "{text}");
        }
        assert!(matches!(one("show queries 200"), Command::Show(show, Some(200)) if show.name == "QUERIES"));
        assert!(matches!(one("select 1"), Command::One));
        assert!(matches!(one("show transaction isolation level"), Command::Setting(_, "read committed")));
        assert!(matches!(one("SHOW server_version"), Command::Setting(_, super::super::SERVER_VERSION)));
    }

    #[test]
    fn databases_are_words_or_quoted() {
        assert_eq!(acts("pause"), Action::Pause(None));
        assert_eq!(acts("PAUSE shop;"), Action::Pause(Some("shop".into())));
        assert_eq!(acts("pause \"My \"\"own\"\" db\""), Action::Pause(Some("My \"own\" db".into())));
        assert_eq!(acts("kill my-app"), Action::Kill(Some("my-app".into())));
        assert_eq!(acts("Kill_Client 17"), Action::KillClient(17));
        assert_eq!(acts("shutdown wait_for_clients"), Action::Shutdown(Shutdown::WaitForClients));
        assert_eq!(acts("SHUTDOWN"), Action::Shutdown(Shutdown::Now));
    }

    #[test]
    fn set_takes_a_key_and_a_value() {
        let set = |text: &str| match one(text) {
            Command::Set(key, value) => (key.to_string(), value.to_string()),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(set("set max_client_conn = 200"), ("max_client_conn".into(), "200".into()));
        assert_eq!(set("SET max_client_conn TO '200';"), ("max_client_conn".into(), "200".into()));
        assert_eq!(set("set auth.login_timeout='5s'"), ("auth.login_timeout".into(), "5s".into()));
        for text in [
            "set extra_float_digits = 3",
            "SET application_name = ''",
            "set DateStyle to ISO, MDY",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "set time zone 'UTC'",
            "set names 'UTF8'",
        ] {
            assert!(matches!(one(text), Command::SetSession), "{text}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_so() {
        for text in [
            "show nothing",
            "show",
            "pause a b",
            "reload now",
            "shutdown later",
            "select * from pg_class",
            "set x",
            "set",
            "set a = b c",
            "show pools 5",
            "show queries 0",
            "show queries -1",
            "insert into t values (1)",
            "\"show\" pools",
            "show queries 99999999999999999999999",
        ] {
            assert_eq!(code(text), "42601", "{text}");
        }
        assert_eq!(code("disable"), "42601");
        assert_eq!(code("kill_client"), "22023");
        assert_eq!(code("kill_client x"), "22023");
        assert_eq!(code("show pools'"), "42601");
        assert_eq!(commands("nonsense").unwrap_err().message, "invalid command 'nonsense', use SHOW HELP;");
    }

    #[test]
    fn several_in_one_text_and_none() {
        assert_eq!(commands("show pools; show stats;; ").unwrap().len(), 2);
        for empty in ["", " ; ;", "-- nothing\n", "/* nothing */"] {
            assert!(commands(empty).unwrap().is_empty(), "{empty}");
        }
        assert_eq!(code("show pools; nonsense"), "42601", "nothing of a text with a mistake is run");
    }
}
