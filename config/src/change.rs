//! A key changed at run time, past the file: for as long as nobody reads that again.

use std::fmt;
use std::time::Duration;

use crate::schema::{self, Found, Row};
use crate::text::{self, Quoted, Value};
use crate::{CacheMode, LogLevel, NoSources, Settings};

/// Why a key was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChanged {
    /// There is no such key.
    Unknown,
    /// It can be changed in the file alone.
    InFile,
    /// The value is none: what is wrong with it and what to do.
    Wrong(String),
}

impl fmt::Display for NotChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such key"),
            Self::InFile => f.write_str("can be changed in the configuration file alone"),
            Self::Wrong(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for NotChanged {}

/// Where a key's value is kept.
enum Place<'a> {
    Count(&'a mut usize),
    Number(&'a mut u32),
    Bytes(&'a mut u64),
    Time(&'a mut Duration),
    Limit(&'a mut Option<Duration>),
    Mode(&'a mut CacheMode),
    Level(&'a mut LogLevel),
}

impl Settings {
    /// The keys that [`Settings::change`] can change. All of them are looked up anew each time that they matter, and none
    /// has to fit another one.
    pub const CHANGEABLE: [&'static str; 20] = [
        "max_clients",
        "max_side_connections",
        "max_pools",
        "max_memory",
        "dns_max_ttl",
        "tcp_keepidle",
        "tcp_keepintvl",
        "tcp_keepcnt",
        "tcp_user_timeout",
        "auth.login_timeout",
        "auth.secret_cache",
        "auth.unknown_cache",
        "auth.max_logins",
        "auth.max_logins_per_address",
        "auth.max_failures",
        "auth.failure_period",
        "shutdown.drain_timeout",
        "shutdown.grace",
        "cache.mode",
        "log.level",
    ];

    /// Changes one key to a value as it would be written in the file, without quotes.
    ///
    /// # Errors
    /// See [`NotChanged`]; nothing has changed.
    pub fn change(&mut self, key: &str, value: &str) -> Result<(), NotChanged> {
        let path: Vec<&str> = key.split('.').collect();
        let Found::Leaf(row) = schema::find(&path) else { return Err(NotChanged::Unknown) };
        let place = self.place(key).ok_or(NotChanged::InFile)?;
        place.put(row, value).map_err(NotChanged::Wrong)
    }

    fn place(&mut self, key: &str) -> Option<Place<'_>> {
        let limits = &mut self.auth.limits;
        Some(match key {
            "max_clients" => Place::Count(&mut self.max_clients),
            "max_side_connections" => Place::Count(&mut self.max_side_connections),
            "max_pools" => Place::Count(&mut self.max_pools),
            "max_memory" => Place::Bytes(&mut self.max_memory),
            "dns_max_ttl" => Place::Time(&mut self.dns_max_ttl),
            "tcp_keepidle" => Place::Time(&mut self.tcp.keepidle),
            "tcp_keepintvl" => Place::Time(&mut self.tcp.keepintvl),
            "tcp_keepcnt" => Place::Number(&mut self.tcp.keepcnt),
            "tcp_user_timeout" => Place::Limit(&mut self.tcp.user_timeout),
            "auth.login_timeout" => Place::Time(&mut self.auth.login_timeout),
            "auth.secret_cache" => Place::Time(&mut self.auth.secret_cache),
            "auth.unknown_cache" => Place::Time(&mut self.auth.unknown_cache),
            "auth.max_logins" => Place::Count(&mut limits.concurrent),
            "auth.max_logins_per_address" => Place::Count(&mut limits.per_address),
            "auth.max_failures" => Place::Number(&mut limits.failures),
            "auth.failure_period" => Place::Time(&mut limits.period),
            "shutdown.drain_timeout" => Place::Time(&mut self.shutdown.drain_timeout),
            "shutdown.grace" => Place::Time(&mut self.shutdown.grace),
            "cache.mode" => Place::Mode(&mut self.cache.mode),
            "log.level" => Place::Level(&mut self.log.level),
            _ => return None,
        })
    }
}

impl Place<'_> {
    fn put(self, row: &Row, value: &str) -> Result<(), String> {
        match (self, text::parse(row, value, Quoted::Either, &NoSources)?) {
            (Self::Count(place), Value::Count(number)) => *place = usize::try_from(number).unwrap_or(usize::MAX),
            (Self::Number(place), Value::Count(number)) => *place = u32::try_from(number).unwrap_or(u32::MAX),
            (Self::Bytes(place), Value::Count(number)) => *place = number,
            (Self::Time(place), Value::Time(time)) => *place = time,
            (Self::Limit(place), Value::Time(time)) => *place = Some(time).filter(|time| !time.is_zero()),
            (Self::Mode(place), Value::Text(word)) => *place = CacheMode::from_word(&word).unwrap_or_default(),
            (Self::Level(place), Value::Text(word)) => *place = LogLevel::from_word(&word).unwrap_or(LogLevel::Info),
            _ => return Err("has another type".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Changes;

    #[test]
    fn each_changeable_key_takes_its_own_default_and_another_value() {
        let settings = Settings::unwritten().unwrap();
        for key in Settings::CHANGEABLE {
            let Found::Leaf(row) = schema::find(&key.split('.').collect::<Vec<_>>()) else { panic!("{key}") };
            let mut changed = settings.clone();
            changed.change(key, row.default.unwrap()).unwrap_or_else(|why| panic!("{key}: {why}"));
            assert!(Changes::between(&settings, &changed).is_empty(), "{key}");
            let other = match row.kind {
                schema::Kind::Time { .. } => "17s",
                schema::Kind::Word(words) => words.last().unwrap(),
                _ => "17",
            };
            changed.change(key, other).unwrap_or_else(|why| panic!("{key}: {why}"));
            let changes = Changes::between(&settings, &changed);
            assert_eq!((Changes::keys(&changes.at_once), changes.restart.len()), (vec![key.to_owned()], 0));
        }
    }

    #[test]
    fn what_cannot_be_changed_is_told_and_left_alone() {
        let mut settings = Settings::unwritten().unwrap();
        let before = settings.clone();
        assert_eq!(settings.change("max_client", "5"), Err(NotChanged::Unknown));
        assert_eq!(settings.change("console.admin_users", "bob"), Err(NotChanged::InFile));
        assert_eq!(settings.change("pool.size", "5"), Err(NotChanged::InFile));
        assert_eq!(settings.change("workers", "5"), Err(NotChanged::InFile));
        for (key, value) in [
            ("max_clients", "0"),
            ("max_clients", "x"),
            ("auth.login_timeout", "5"),
            ("tcp_keepidle", "0"),
            ("cache.mode", "of"),
        ] {
            assert!(matches!(settings.change(key, value), Err(NotChanged::Wrong(_))), "{key} {value}");
        }
        assert!(settings == before);
    }
}
