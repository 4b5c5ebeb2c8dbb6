//! A session's settings as its tenant's limits leave them.

use std::rc::Rc;
use std::time::Duration;

use policy::limits::{Clamp, Effective, clamp, parse_guc_time, server_value};
use wire::params::{Settings, Value};

use super::Session;
use super::effects::plain;

impl Session {
    /// How long a statement of this session may run by its tenant's limit.
    #[inline]
    pub(super) fn statement_limit(&self) -> Option<Duration> {
        self.limits.enforced_timeout()
    }

    /// The session's settings with its tenant's statement timeout where that is lower than its own.
    pub(super) fn with_limits(&self, limits: &Effective, settings: &Rc<Settings>) -> Rc<Settings> {
        let settings = &match limits.read_only {
            Some(config::Mode::Enforce) => {
                let read_only = settings.with("default_transaction_read_only", Value::Plain(b"on".as_slice().into()));
                read_only
                    .map_or_else(|| settings.clone(), |limited| self.worker.brain.borrow_mut().interner.intern(limited))
            }
            _ => settings.clone(),
        };
        let Some(limit) = limits.enforced_timeout() else {
            return settings.clone();
        };
        let own = settings.find("statement_timeout").and_then(plain);
        let wanted = match own.as_deref().map(|own| clamp(own, Some(limit))) {
            Some(Clamp::Pass | Clamp::Invalid) => return settings.clone(),
            Some(Clamp::Lower(limit)) => limit,
            None => limit,
        };
        let value = Value::Plain(server_value(Some(wanted)).to_string().into_bytes().into());
        match settings.with("statement_timeout", value) {
            Some(limited) => self.worker.brain.borrow_mut().interner.intern(limited),
            None => settings.clone(),
        }
    }

    /// Whether the client itself asked for a statement timeout as short as its tenant's limit or shorter.
    pub(super) fn has_shorter_timeout(&self, limit: Duration) -> bool {
        let own = self.settings.current().find("statement_timeout").and_then(plain);
        let own = own.and_then(|own| parse_guc_time(&own).ok());
        own.is_some_and(|own| !own.is_zero() && own < limit)
    }
}
