//! What statements do to their session, once the server has said that they succeeded; and whose the session is then.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use policy::limits::{Clamp, clamp, parse_guc_time, server_value};
use policy::tenant::{Facts, Lookup};
use wire::params::{Settings, Value};
use wire::view::Bind;

use super::Session;
use super::script::{Act, Script, resolve};
use crate::telemetry::Scope;
use crate::upstream::Upstream;

/// The script of a statement with its bound parameters put in.
pub(super) fn bind_script(script: &Script, bind: &Bind<'_>) -> Script {
    let parameter = |number: u16| -> Option<Option<Vec<u8>>> {
        let mut parameters = bind.parameters().ok()?;
        let value = parameters.nth(usize::from(number).checked_sub(1)?)?.ok()?;
        // Texts are the same in both formats; a boolean's binary form is told apart where it is read.
        Some(value.value.map(<[u8]>::to_vec))
    };
    let bound = |act: &Act| match act {
        Act::SetBound(name, value, local) => resolve(name, value, local, parameter),
        other => Some(other.clone()),
    };
    let parts = script.parts.iter().map(|acts| acts.iter().filter_map(bound).collect()).collect();
    Script { parts, bound: false, deallocates: script.deallocates.clone(), ..*script }
}

/// Whether the function of this oid works on large objects (`lo_open`, `loread`, …), which drivers call by
/// FunctionCall: what it opens ends with the transaction. Oids: PostgreSQL's `pg_proc.dat`; built-in ones never change.
pub(super) fn is_of_large_objects(function: u32) -> bool {
    matches!(function, 715 | 764 | 765 | 767 | 952..=958 | 964 | 1004 | 3170..=3172 | 3457..=3460)
}

/// A setting's value as set_config would take it, as far as a clause shows it.
fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Plain(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Value::Clause(clause) => {
            let clause = std::str::from_utf8(clause).ok()?;
            let value = match clause.split_once('=') {
                Some((name, value)) if !name.contains(['\'', ' ']) || name.trim_end().split(' ').count() == 1 => value,
                _ => clause
                    .split_ascii_whitespace()
                    .nth(1)
                    .filter(|word| word.eq_ignore_ascii_case("to"))
                    .and_then(|word| clause.split_once(word).map(|(_, value)| value))?,
            };
            let value = value.trim().trim_end_matches(';').trim_end();
            match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
                Some(quoted) => Some(Cow::Owned(quoted.replace("''", "'"))),
                None => Some(Cow::Borrowed(value)),
            }
        }
    }
}

/// Settings as the tenant's rules look them up.
struct Values<'a> {
    values: Vec<(&'a str, Cow<'a, str>)>,
}

impl Lookup for Values<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

impl<'a> Values<'a> {
    fn of(settings: &'a Settings, local: &'a [(Box<str>, Value)]) -> Self {
        // Later ones are found first.
        let local = local.iter().rev().map(|(name, value)| (&**name, value));
        let session = settings.iter().map(|setting| (&*setting.name, &setting.value));
        let values = local.chain(session).filter_map(|(name, value)| plain(value).map(|value| (name, value)));
        Self { values: values.collect() }
    }
}

impl Session {
    /// A statement has succeeded: what it does to the session is done. `tag` is its command tag.
    pub(super) fn apply(&mut self, upstream: &mut Upstream, acts: &[Act], tag: &[u8]) {
        let before = self.settings.current().clone();
        let locals = self.local.len();
        for act in acts {
            self.apply_one(upstream, act, tag);
        }
        if !Rc::ptr_eq(&before, self.settings.current()) || self.local.len() != locals {
            self.settings_changed();
        }
    }

    fn apply_one(&mut self, upstream: &mut Upstream, act: &Act, tag: &[u8]) {
        let worker = self.worker.clone();
        let interner = &mut worker.brain.borrow_mut().interner;
        if matches!(act, Act::Set { name, .. } if &**name == ESCAPES) {
            // What was sent behind it has been read in the old way: whatever that may have hidden goes with a reset.
            upstream.tainted = true;
        }
        if self.listening.is_some() || matches!(act, Act::Listen(_)) {
            self.follow_channels(upstream, act, tag);
        }
        match act {
            Act::Set { name, value, local: true } => self.set_local(name, value),
            Act::Set { name, value, local: false } => {
                // Both, always: what the client wants and what this upstream has.
                let followed = self.settings.set(name, value.clone(), interner);
                let present = upstream.settings.set(name, value.clone(), interner);
                if !(followed && present) {
                    upstream.tainted = true;
                }
                self.proven = true;
            }
            Act::Reset(name) => {
                self.settings.reset(name, self.startup.find(name), interner);
                upstream.settings.reset(name, None, interner);
            }
            Act::ResetAll => {
                self.settings.reset_all(&self.startup, true, interner);
                upstream.settings.reset_all(&Settings::new(), true, interner);
            }
            Act::DiscardAll => {
                self.settings.reset_all(&self.startup, false, interner);
                upstream.settings.reset_all(&Settings::new(), false, interner);
                self.forget_statements(upstream);
            }
            Act::DeallocateAll => self.forget_statements(upstream),
            Act::Deallocate(name) => {
                if let Some(prepared) = self.statements.forget(name) {
                    upstream.prepared.remove(prepared.id);
                    self.ctl.prepared.set(self.statements.len());
                }
            }
            Act::Begin | Act::Listen(_) | Act::Unlisten(_) | Act::UnlistenAll => {}
            Act::Commit if tag != b"ROLLBACK" => {
                self.settings.commit();
                upstream.settings.commit();
            }
            Act::Commit | Act::Rollback => {
                self.settings.rollback();
                upstream.settings.rollback();
            }
            Act::Savepoint(name) => {
                self.settings.savepoint(name);
                upstream.settings.savepoint(name);
            }
            Act::RollbackTo(name) => {
                self.settings.rollback_to(name);
                upstream.settings.rollback_to(name);
            }
            Act::Release(name) => {
                self.settings.release(name);
                upstream.settings.release(name);
            }
            Act::Pin(state) => self.pin(upstream, *state),
            Act::Taint | Act::SetBound(..) => upstream.tainted = true,
        }
    }

    fn set_local(&mut self, name: &str, value: &Value) {
        let decides = self.rules.resolver.settings().any(|setting| setting.eq_ignore_ascii_case(name));
        if decides && self.local.len() < MAX_LOCALS {
            self.local.push((name.into(), value.clone()));
        }
    }

    fn forget_statements(&mut self, upstream: &mut Upstream) {
        self.statements.forget_all();
        self.ctl.prepared.set(self.statements.len());
        self.unnamed = None;
        self.unnamed_parsed = None;
        upstream.prepared.clear();
        upstream.unnamed = None;
    }

    /// The transaction has ended, if none is open any more: as `failed` says, with or without what it had set.
    #[inline]
    pub(super) fn end_transaction(&mut self, upstream: &mut Upstream, failed: bool) {
        let before = Rc::as_ptr(self.settings.current());
        if failed {
            self.settings.rollback();
            upstream.settings.rollback();
        } else {
            self.settings.commit();
            upstream.settings.commit();
        }
        upstream.work.end_transaction();
        if self.listening.is_some() {
            self.end_channels(failed);
        }
        if !self.local.is_empty() || before != Rc::as_ptr(self.settings.current()) {
            self.local.clear();
            self.settings_changed();
        }
    }

    /// Settings, rules or both have changed: whose the session is and what it wants follow.
    pub(super) fn settings_changed(&mut self) {
        self.resolve_tenant();
    }

    /// Finds out whose the session is, and what follows from that.
    pub(super) fn resolve_tenant(&mut self) {
        let rules = self.rules.clone();
        let current = self.settings.current().clone();
        let application = match current.find("application_name").and_then(plain) {
            Some(name) => name.into_owned(),
            None => String::new(),
        };
        let face = &self.ctl.face;
        let tenant = {
            let facts = Facts {
                user: &face.user,
                database: &face.database,
                application_name: &application,
                server_name: face.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).unwrap_or_default(),
                startup: &Values::of(&self.startup, &[]),
                settings: &Values::of(&current, &self.local),
            };
            let name = rules.resolver.resolve(&facts).tenant;
            self.worker.shared.directory.id(name)
        };
        if tenant != self.tenant || self.scope.as_ref().is_none_or(|scope| *scope.value.application != *application) {
            let name = self.worker.shared.directory.name(tenant);
            self.tenant = tenant;
            self.ctl.tenant.set(tenant);
            self.meter = tenant.into();
            let client = face.address.rsplit_once(':').map_or(&*face.address, |(host, _)| host);
            self.scope = Some(self.worker.shared.telemetry.scope(Scope {
                database: face.database.clone(),
                user: face.user.clone(),
                application: application.into(),
                client: client.into(),
                tenant: (&*name).into(),
            }));
        }
        self.escapes = match current.find(ESCAPES).and_then(plain) {
            Some(value) => matches!(&*value.to_ascii_lowercase(), "off" | "false" | "no" | "0" | "f" | "n"),
            None => self.pool.shared.has_escapes(),
        };
        self.wanted = self.with_limits(&current);
    }

    /// How long a statement of this session may run by its tenant's limit.
    #[inline]
    pub(super) fn statement_limit(&self) -> Option<Duration> {
        self.rules.limits.of(self.tenant).statement_timeout
    }

    /// The session's settings with its tenant's statement timeout where that is lower than its own.
    fn with_limits(&self, settings: &Rc<Settings>) -> Rc<Settings> {
        let Some(limit) = self.statement_limit() else {
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

/// The setting that decides where a plain string ends.
const ESCAPES: &str = "standard_conforming_strings";

/// Settings made by SET LOCAL that are followed in one transaction.
const MAX_LOCALS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_show_their_values() {
        for (clause, value) in [
            ("app.tenant_id = 'acme'", Some("acme")),
            ("app.tenant_id TO 'o''neill'", Some("o'neill")),
            ("app.tenant_id to acme", Some("acme")),
            ("app.tenant_id='a=b'", Some("a=b")),
            ("statement_timeout TO '5s'", Some("5s")),
            ("statement_timeout = 0", Some("0")),
            ("TIME ZONE 'UTC'", None),
        ] {
            let clause = Value::Clause(clause.as_bytes().into());
            assert_eq!(plain(&clause).as_deref(), value, "{clause:?}");
        }
    }
}
