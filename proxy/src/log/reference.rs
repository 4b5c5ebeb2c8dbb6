//! The reference of all events of the log: `pgweir log-reference`, which is `docs/logs.md`.

use std::fmt::Write as _;

pub use super::events::EVENTS;

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Somebody should look at it.
    Warn,
    /// Good to know.
    Info,
    /// For who looks for a cause; not in what is shipped.
    Debug,
}

impl Level {
    /// As `log.level` spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Start, stop, pause; the process itself.
    Life,
    /// The configuration.
    Configuration,
    /// Clients and their logins.
    Clients,
    /// Servers and connections to them.
    Servers,
    /// Cancel requests.
    Cancels,
    /// LISTEN and NOTIFY.
    Listen,
    /// What was observed of statements.
    Observed,
    /// The admin port.
    Admin,
    /// The log itself.
    Log,
}

impl Area {
    /// All, in the order of the reference.
    const ALL: [Self; 9] = [
        Self::Life,
        Self::Configuration,
        Self::Clients,
        Self::Servers,
        Self::Cancels,
        Self::Listen,
        Self::Observed,
        Self::Admin,
        Self::Log,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Life => "Start, stop, pause",
            Self::Configuration => "Configuration",
            Self::Clients => "Clients",
            Self::Servers => "Servers",
            Self::Cancels => "Cancels",
            Self::Listen => "LISTEN",
            Self::Observed => "Statements and findings",
            Self::Admin => "The admin port",
            Self::Log => "The log itself",
        }
    }
}

/// One event that the log can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEvent {
    /// What it is about.
    pub area: Area,
    /// How grave it is.
    pub level: Level,
    /// The target that machines pick it by, where that is not the module's path.
    pub target: Option<&'static str>,
    /// Its words; `{…}` stands for what differs.
    pub message: &'static str,
    /// The names of what it tells beside them.
    pub fields: &'static [&'static str],
    /// What has happened.
    pub meaning: &'static str,
    /// What somebody should do about it; empty: nothing.
    pub to_do: &'static str,
}

/// What stands above the tables.
const HEAD: &str = "\
# The log

Every event that the log can have. `pgweir log-reference` prints this page; a test compares it with the sources.

With `log.format = \"text\"` a line is the time, the level, the module, the event's words and its fields as `name=value`; with
`\"json\"` it is an object with `timestamp`, `level`, `target`, `message` and the fields beside them. Slow statements are always
JSON. Search for the words, or for the target where there is one: they are as stable as the names of metrics, module paths are
not. `log.level` shows its own level and the graver ones; a reload changes it. Events of the level `debug` are not built into
releases. No constant of a statement, no bound value and no secret is ever in a line, unless a field's words come from a
server's own error. What would end a line, move a terminal's cursor or turn the direction of writing stands in a field as an
escape such as `\\n` or `\\u{1b}`: names come from clients, and no name can look like another event.

Lines go to standard error, or to `log.file`. Under systemd the journal takes them as they are: `journalctl -u pgweir -o cat`
shows them without a second time stamp, and with `log.format = \"json\"` it can be piped to `jq`.

`error`, `why` and `failure` say the cause in words. `server`, `address` and `peer` are places; `client` and `upstream` are the
numbers that `/api/v1/clients` and `/api/v1/upstreams` show.
";

/// The whole page.
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    for area in Area::ALL {
        // Writing to a String cannot fail.
        _ = write!(
            text,
            "\n## {}\n\n| level | words | fields | what has happened | what to do |\n|---|---|---|---|---|\n",
            area.title()
        );
        for event in EVENTS.iter().filter(|event| event.area == area) {
            let fields: Vec<_> = event.fields.iter().map(|field| format!("`{field}`")).collect();
            let target = event.target.map(|target| format!(" (target `{target}`)")).unwrap_or_default();
            _ = writeln!(
                text,
                "| {} | `{}`{target} | {} | {} | {} |",
                event.level.word(),
                event.message,
                fields.join(" "),
                event.meaning,
                event.to_do
            );
        }
    }
    text
}

#[cfg(test)]
mod tests;
