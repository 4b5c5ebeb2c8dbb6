//! What an admin has done. Each of it is a line of the log and an entry of the audit log: who, what, from where.

use config::Settings;
use wire::encode::{Report, Severity};
use wire::error::Sqlstate;

use super::command::{Action, Shutdown, error};
use super::rows::{self, Unit};
use super::{Console, Role, Visitor};
use crate::admin;
use crate::commands::CommandError;
use crate::run::ShutdownMode;
use crate::run::reloads::named;

/// What has become of a command.
#[derive(Debug)]
pub(super) enum Done {
    /// It is done; something may be worth telling besides.
    Tag(&'static str, Option<Report>),
    /// The process ends: there is nothing to say before that.
    AtTheEnd,
}

impl Console {
    /// Whether somebody may do more than look.
    ///
    /// # Errors
    /// They may not, and that they have tried is noted.
    pub(super) fn admits(&self, visitor: &Visitor, what: &str) -> Result<(), Report> {
        if visitor.role == Role::Admin {
            return Ok(());
        }
        let (user, address) = (&*visitor.user, &*visitor.address);
        tracing::warn!(user, address, command = what, "a command on the console was refused");
        admin::Command::begin(&self.context, user, false, address, what).refused();
        Err(error(b"42501", "admin access needed")
            .detail(format!("User \"{user}\" may look, by SHOW, and nothing else."))
            .hint("Connect as one of console.admin_users."))
    }

    /// Notes that an admin has begun something; what it gives notes how that ended.
    fn note(&self, visitor: &Visitor, what: &str) -> admin::Command {
        let (user, address) = (&*visitor.user, &*visitor.address);
        tracing::info!(user, address, command = what, "a command on the console");
        admin::Command::begin(&self.context, user, true, address, what)
    }

    /// Has it done. Some of it takes as long as clients take: to drop the future is to give up waiting, not to take it back.
    ///
    /// # Errors
    /// It was not done, and why.
    pub(super) async fn act(&self, action: Action, visitor: &Visitor) -> Result<Done, Report> {
        let what = format!("{} {}", action.tag(), action.object()).trim_end().to_owned();
        self.admits(visitor, &what)?;
        if let Some(name) = action.database().filter(|name| config::Console::is_named(name)) {
            let verb = action.tag().to_ascii_lowercase();
            return Err(error(b"22023", format!("cannot {verb} admin db: {name}")));
        }
        let noted = self.note(visitor, &what);
        let tag = action.tag();
        let done = self.carry_out(action).await;
        noted.ended(done.as_ref().err().map(|why| why.sqlstate.as_str()));
        if let Err(why) = &done {
            let (user, address, error) = (&*visitor.user, &*visitor.address, why.message.as_str());
            tracing::info!(user, address, command = what, error, "a command on the console was not carried out");
        }
        Ok(done?.unwrap_or(Done::Tag(tag, None)))
    }

    /// `None`: it is done, and there is nothing more to say.
    async fn carry_out(&self, action: Action) -> Result<Option<Done>, Report> {
        let commands = &self.commands;
        match action {
            Action::Pause(database) => commands.pause(database.as_deref()).await.map_err(told)?,
            Action::Resume(database) => commands.resume(database.as_deref()).map_err(told)?,
            Action::Disable(database) => commands.disable(&database).await.map_err(told)?,
            Action::Enable(database) => commands.enable(&database).map_err(told)?,
            Action::Reconnect(database) => commands.reconnect(database.as_deref()).map_err(told)?,
            Action::Kill(database) => commands.kill(database.as_deref()).await.map_err(told)?,
            Action::WaitClose(database) => commands.wait_close(database.as_deref()).await.map_err(told)?,
            Action::KillClient(client) => self.kill_client(client).await?,
            Action::Reload => return self.reload().await.map(Some),
            Action::Suspend => commands.suspend().await.map_err(told)?,
            Action::Shutdown(how) => return Ok(self.shut_down(how)),
        }
        Ok(None)
    }

    /// Ends the client of this number, which may be one that is shown modulo 2³¹.
    async fn kill_client(&self, shown: u64) -> Result<(), Report> {
        if self.kill(shown) {
            return Ok(());
        }
        let unknown = match self.commands.kill_client(shown).await {
            Ok(()) => return Ok(()),
            Err(unknown) => told(unknown),
        };
        let all = self.context.state.clients(usize::MAX).await;
        let mut meant =
            all.iter().map(|client| client.id).filter(|id| *id > rows::LAST_ID && rows::shown_id(*id) == shown);
        match (meant.next(), meant.next()) {
            (Some(client), None) => self.commands.kill_client(client).await.map_err(told),
            _ => Err(unknown),
        }
    }

    async fn reload(&self) -> Result<Done, Report> {
        match self.context.state.reload().await {
            Some(Ok(changes)) => {
                let restart = (!changes.restart.is_empty()).then(|| {
                    let keys = named(&changes.restart);
                    let why = changes.restart.iter().find_map(config::Changes::why_restart);
                    let told = notice("these changes need a restart");
                    let told = told.detail(format!("Until then the old values hold: {keys}."));
                    match why {
                        Some(why) => told.hint(format!("About the cache's rules: {why}.")),
                        None => told,
                    }
                });
                Ok(Done::Tag("RELOAD", restart))
            }
            // PgBouncer's code.
            Some(Err(why)) => Err(error(b"F0000", "RELOAD failed, nothing has changed").detail(why)),
            None => Err(error(b"55000", "the configuration cannot be read again now")
                .detail("The process is ending, or too many wait for the same, or it was started without a file.")),
        }
    }

    fn shut_down(&self, how: Shutdown) -> Option<Done> {
        match how {
            Shutdown::Now => {
                self.stop.stop(ShutdownMode::Immediate);
                Some(Done::AtTheEnd)
            }
            Shutdown::WaitForServers => {
                self.stop.stop(ShutdownMode::Prompt);
                None
            }
            Shutdown::WaitForClients => {
                self.stop.stop(ShutdownMode::WaitForClients);
                None
            }
        }
    }

    /// `SET key = value`: by PgBouncer's name and in its unit, or by ours.
    ///
    /// # Errors
    /// It was not done, and why.
    pub(super) fn set(&self, key: &str, value: &str, visitor: &Visitor) -> Result<Done, Report> {
        // What cannot be set here may be a secret, in the wrong place.
        let shown = if own_key(key).is_some_and(|own| Settings::CHANGEABLE.contains(&&*own)) { value } else { "…" };
        let what = format!("SET {key} = {shown}");
        self.admits(visitor, &what)?;
        let noted = self.note(visitor, &what);
        let done = self.put(key, value);
        noted.ended(done.as_ref().err().map(|why| why.sqlstate.as_str()));
        done.map(|()| Done::Tag("SET", None))
    }

    fn put(&self, key: &str, value: &str) -> Result<(), Report> {
        let key = key.to_ascii_lowercase();
        let theirs = rows::KEYS.iter().find(|known| known.name == key);
        let (own, value) = match theirs {
            Some(known) => (known.own, in_our_unit(value, known.unit)),
            None => (Some(key.as_str()), value.to_owned()),
        };
        // Who has started us without a log of ours decides how much is logged.
        let level = self.context.state.log_level();
        let changed = match own {
            Some("log.level") if level.is_none() => Err(config::NotChanged::InFile),
            Some(own) => self.shared.change_setting(own, &value),
            None => Err(config::NotChanged::InFile),
        };
        changed.map_err(|why| not_set(&key, &why))?;
        if let Some(level) = level.filter(|_| own == Some("log.level")) {
            level.configure(self.shared.settings().log.level);
        }
        Ok(())
    }
}

/// The key of ours that is meant by one of PgBouncer's or by our own.
fn own_key(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    match rows::KEYS.iter().find(|known| known.name == key) {
        Some(known) => known.own.map(str::to_owned),
        None => Some(key),
    }
}

/// A number of PgBouncer's, as our file would have it.
fn in_our_unit(value: &str, unit: Unit) -> String {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match unit {
        Unit::Seconds if is_number => format!("{value}s"),
        Unit::Milliseconds if is_number => format!("{value}ms"),
        Unit::Plain | Unit::Seconds | Unit::Milliseconds => value.to_owned(),
    }
}

fn not_set(key: &str, why: &config::NotChanged) -> Report {
    let code = match why {
        config::NotChanged::Unknown => b"42704",
        config::NotChanged::InFile => b"55P02",
        config::NotChanged::Wrong(_) => b"22023",
    };
    let hint = match why {
        config::NotChanged::Unknown => "SHOW CONFIG lists the keys.".to_owned(),
        config::NotChanged::InFile => {
            format!("Change the file, then RELOAD. SET can change {}.", config::Settings::CHANGEABLE.join(", "))
        }
        config::NotChanged::Wrong(_) => "SHOW CONFIG shows the value now.".to_owned(),
    };
    error(code, "SET failed").detail(format!("{key}: {why}.")).hint(hint)
}

/// Something worth telling.
pub(super) fn notice(message: &str) -> Report {
    let code = Sqlstate::parse(b"00000").unwrap_or(Sqlstate::INTERNAL_ERROR);
    Report::new(Severity::Notice, code, message)
}

fn told(why: CommandError) -> Report {
    match &why {
        CommandError::UnknownDatabase(_) => error(b"3D000", why.to_string()).hint("SHOW DATABASES lists them."),
        CommandError::UnknownClient(_) => {
            error(b"42704", "client not found").hint("SHOW CLIENTS lists them, with their id.")
        }
        CommandError::Resumed | CommandError::WokenUp => error(b"55000", why.to_string()),
        CommandError::StillBusy => error(b"55000", why.to_string())
            .detail("They may wait for clients that were suspended: for a lock, or for a server connection. All go on as before.")
            .hint("SHOW CLIENTS lists who is active and who waits; SUSPEND again."),
        CommandError::Ending => error(b"55000", why.to_string()),
        CommandError::Suspended => error(b"55000", why.to_string())
            .detail("Transactions that are open could not end.")
            .hint("RESUME, then PAUSE."),
        CommandError::Paused => error(b"55000", why.to_string())
            .detail("Requests that wait for a server connection would not end.")
            .hint("SHOW DATABASES lists them; RESUME first."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbouncers_numbers_are_times_here() {
        assert_eq!(in_our_unit("15", Unit::Seconds), "15s");
        assert_eq!(in_our_unit("2000", Unit::Milliseconds), "2000ms");
        assert_eq!(in_our_unit("15s", Unit::Seconds), "15s");
        assert_eq!(in_our_unit("15", Unit::Plain), "15");
        assert_eq!(in_our_unit("", Unit::Seconds), "");
    }

    #[test]
    fn a_key_that_was_not_set_is_told_what_to_do() {
        let report = not_set("pool.size", &config::NotChanged::InFile);
        assert_eq!((report.sqlstate.as_str(), report.message.as_str()), ("55P02", "SET failed"));
        assert!(report.hint.unwrap().starts_with("Change the file, then RELOAD."));
    }
}
