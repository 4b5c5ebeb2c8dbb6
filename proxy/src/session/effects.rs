//! What statements do to their session, once the server has said that they succeeded; and whose the session is then.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use policy::statement::value_of;
use policy::tenant::{Facts, Lookup, NOTHING};
use policy::verdict::SessionState;
use wire::params::{Settings, Value};
use wire::view::Bind;
use xxhash_rust::xxh3::xxh3_64;

use super::Session;
use super::date_style::DATE_STYLE;
use super::locals::Locals;
use super::reading;
use super::script::{Act, Script, resolve};
use crate::telemetry::Scope;
use crate::upstream::Upstream;

/// The script of a statement with its bound parameters put in.
pub(super) fn bind_script(script: &Script, bind: &Bind<'_>) -> Script {
    let parameter = |number: u16, boolean: bool| -> Option<Option<Vec<u8>>> {
        let mut parameters = bind.parameters().ok()?;
        let value = parameters.nth(usize::from(number).checked_sub(1)?)?.ok()?;
        // Texts are the same in both formats. Of a boolean in binary format, any byte but zero is true.
        Some(match value.value {
            Some([byte]) if boolean && value.format != 0 => {
                Some(if *byte == 0 { b"f".to_vec() } else { b"t".to_vec() })
            }
            other => other.map(<[u8]>::to_vec),
        })
    };
    let bound = |act: &Act| match act {
        Act::SetBound(name, value, local) => resolve(name, value, local, parameter),
        other => Some(other.clone()),
    };
    let parts: Vec<Vec<Act>> = script.parts.iter().map(|acts| acts.iter().filter_map(bound).collect()).collect();
    // Names are seen to when it is bound.
    let rereads = parts.iter().flatten().any(reading::may_change);
    Script { parts, bound: false, rereads, names: Vec::new(), ..script.clone() }
}

/// A setting's value as set_config would take it, as far as a clause shows it.
pub(super) fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Plain(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Value::Clause(clause) => {
            let clause = std::str::from_utf8(clause).ok()?;
            let value = behind_name(clause)?;
            if value.contains(['\'', '$', '/', '"']) {
                // What is more than one constant or name has a value that is not known here, which is better than a wrong one.
                return String::from_utf8(value_of(value.as_bytes())?).ok().map(Cow::Owned);
            }
            // A bare word is folded as a name is.
            Some(Cow::Owned(value.to_ascii_lowercase()))
        }
    }
}

/// What stands behind the name in a clause of SET.
pub(super) fn behind_name(clause: &str) -> Option<&str> {
    let value = match clause.split_once('=') {
        Some((name, value)) if !name.contains(['\'', ' ']) || name.trim_end().split(' ').count() == 1 => value,
        _ => clause
            .split_ascii_whitespace()
            .nth(1)
            .filter(|word| word.eq_ignore_ascii_case("to"))
            .and_then(|word| clause.split_once(word).map(|(_, value)| value))?,
    };
    Some(value.trim().trim_end_matches(';').trim_end())
}

/// Settings as the tenant's rules look them up.
struct Values<'a> {
    /// `None`: the server's default, whatever it is.
    values: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl Lookup for Values<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.as_deref()
    }
}

impl<'a> Values<'a> {
    fn of(settings: &'a Settings, locals: Option<&'a Locals>) -> Self {
        let locals = locals.into_iter().flat_map(Locals::iter);
        let session = settings.iter().map(|setting| (&*setting.name, Some(&setting.value)));
        Self { values: locals.chain(session).map(|(name, value)| (name, value.and_then(plain))).collect() }
    }
}

impl Session {
    /// A statement has succeeded: what it does to the session is done. `tag` is its command tag.
    pub(super) fn apply(&mut self, upstream: &mut Upstream, acts: &[Act], tag: &[u8]) {
        let before = self.settings.current().clone();
        let had_locals = self.locals.is_some();
        let reading = self.reading();
        for act in acts {
            if self.listening.is_some() || matches!(act, Act::Listen(_)) {
                self.follow_channels(upstream, act, tag);
            }
            upstream.work.altered |= act.alters();
            match act {
                Act::Set { name, value, local } => self.apply_set(upstream, name, value, *local),
                Act::Reset(name) => self.apply_reset(upstream, name),
                Act::ResetLocal(name) => self.apply_reset_local(upstream, name),
                Act::LocalUnseen => upstream.work.locals.are_unseen(),
                Act::LocalHidden => {
                    upstream.work.locals.are_unseen();
                    self.locals.get_or_insert_default().hide();
                }
                Act::ResetAll | Act::DiscardAll => self.apply_reset_all(upstream, *act == Act::DiscardAll),
                Act::DeallocateAll => {
                    self.forget_statements(upstream);
                    upstream.work.may_be_free = true;
                }
                Act::Deallocate(name) => self.apply_deallocate(upstream, name),
                Act::Leave(state) => self.leave(upstream, *state),
                Act::MayEnd | Act::Unlisten(_) | Act::UnlistenAll => upstream.work.may_be_free = true,
                Act::Listen(_) | Act::Alter => {}
                Act::Define => self.redefined(upstream),
                Act::Taint | Act::SetBound(..) => upstream.tainted = true,
                transaction => self.apply_transaction(upstream, transaction, tag),
            }
        }
        if had_locals || self.locals.is_some() || !Rc::ptr_eq(&before, self.settings.current()) {
            self.settings_changed(upstream);
        }
        self.reading_may_have_changed(upstream, reading, acts);
    }

    fn apply_set(&mut self, upstream: &mut Upstream, name: &str, value: &Value, local: bool) {
        if name == SEARCH_PATH && mentions_temporary(value) {
            // From here on a plain CREATE TABLE makes a temporary one.
            self.leave(upstream, SessionState::TemporaryObject);
        }
        if self.escapes && matches!(value, Value::Clause(clause) if clause.contains(&b'\\')) {
            // Said again to another server it could be read in the other way.
            self.leave(upstream, SessionState::HiddenSetting);
        }
        self.note_clamped(upstream, name, value);
        if local {
            return self.set_local(upstream, name, Some(value));
        }
        if ends_with_transaction(name) {
            // Nothing of it is left to be made again, or to be taken back: a server refuses that.
            return;
        }
        if self.acts_as_another(upstream) {
            // Whoever made it had a right that the login may lack, and would need to take it back.
            upstream.tainted = true;
        }
        let whole = (name == DATE_STYLE).then(|| self.whole_date_style(upstream, value));
        let value = whole.as_ref().unwrap_or(value);
        // Both, always: what the client wants and what this upstream has.
        let worker = self.worker.clone();
        let interner = &mut worker.brain.borrow_mut().interner;
        let followed = self.settings.set(name, value.clone(), interner);
        let present = upstream.settings.set(name, value.clone(), interner);
        if !(followed && present) {
            upstream.tainted = true;
        }
        if name == IDENTITY {
            // Whoever one becomes, the role is left.
            self.settings.forget(ROLE, interner);
            upstream.settings.forget(ROLE, interner);
        }
        self.proven = true;
        self.override_local(upstream, name, Some(value));
    }

    /// Whether its statements may run as somebody else than who it logged in as.
    fn acts_as_another(&self, upstream: &Upstream) -> bool {
        let is_set = |name| self.settings.current().find(name).is_some() || upstream.work.locals.may_have(name);
        is_set(ROLE) || is_set(IDENTITY)
    }

    fn apply_reset(&mut self, upstream: &mut Upstream, name: &str) {
        let startup = self.startup.clone();
        let default = startup.find(name);
        let worker = self.worker.clone();
        let interner = &mut worker.brain.borrow_mut().interner;
        self.settings.reset(name, default, interner);
        upstream.settings.reset(name, None, interner);
        upstream.work.restates |= default.is_some();
        if name == IDENTITY {
            self.settings.forget(ROLE, interner);
            upstream.settings.forget(ROLE, interner);
        }
        self.override_local(upstream, name, default);
    }

    fn apply_reset_local(&mut self, upstream: &mut Upstream, name: &str) {
        if upstream.work.local_reset.len() < MAX_LOCAL_RESETS {
            upstream.work.local_reset.insert(name.into());
        } else {
            // More than are told from those that a RESET ALL takes back.
            upstream.tainted = true;
        }
        let startup = self.startup.clone();
        let default = startup.find(name);
        self.set_local(upstream, name, default);
        if default.is_some() {
            upstream.work.local_default.insert(name.into());
        }
    }

    fn apply_reset_all(&mut self, upstream: &mut Upstream, discard: bool) {
        let worker = self.worker.clone();
        let interner = &mut worker.brain.borrow_mut().interner;
        let covered = std::mem::take(&mut upstream.work.local_reset);
        let before = (self.settings.current().clone(), upstream.settings.current().clone());
        self.settings.reset_all(&self.startup, !discard, interner);
        upstream.work.restates |= !self.startup.is_empty();
        upstream.settings.reset_all(&Settings::new(), !discard, interner);
        for name in covered.iter().filter(|name| before.0.find(name).or(before.1.find(name)).is_some()) {
            // RESET ALL passes over what SET LOCAL … TO DEFAULT has covered: it comes back with the transaction's end.
            self.settings.reset(name, before.0.find(name), interner);
            upstream.settings.reset(name, before.1.find(name), interner);
            upstream.tainted = true;
        }
        self.locals = None;
        upstream.work.locals.overridden();
        if discard {
            self.forget_statements(upstream);
            self.unpin(upstream);
        }
    }

    fn apply_deallocate(&mut self, upstream: &mut Upstream, name: &[u8]) {
        match self.statements.forget(name) {
            Some(prepared) => {
                upstream.prepared.remove(prepared.id);
                self.ctl.prepared.set(self.statements.len() as u32);
                upstream.work.may_be_free |= self.statements.is_empty();
            }
            None => upstream.work.may_be_free = true,
        }
    }

    fn apply_transaction(&mut self, upstream: &mut Upstream, act: &Act, tag: &[u8]) {
        if !matches!(act, Act::Savepoint(_) | Act::Release(_)) {
            upstream.work.local_default.clear();
        }
        match act {
            Act::Commit if tag != b"ROLLBACK" => {
                self.settings.commit();
                upstream.settings.commit();
                self.locals = None;
                upstream.work.locals.clear();
            }
            Act::Commit | Act::Rollback => {
                self.settings.rollback();
                upstream.settings.rollback();
                self.locals = None;
                upstream.work.locals.clear();
                upstream.work.may_be_free = true;
            }
            Act::Savepoint(name) => {
                self.settings.savepoint(name);
                upstream.settings.savepoint(name);
                if let Some(locals) = &mut self.locals {
                    locals.savepoint(name);
                }
                upstream.work.locals.with_known(|locals| locals.savepoint(name));
            }
            Act::RollbackTo(name) => {
                let mut known = self.settings.rollback_to(name) & upstream.settings.rollback_to(name);
                if let Some(locals) = &mut self.locals {
                    known &= locals.rollback_to(name);
                }
                upstream.work.locals.with_known(|locals| locals.rollback_to(name));
                upstream.work.may_be_free = true;
                if !known {
                    // The server alone knows what holds now: it stays with its client, or is reset.
                    self.leave(upstream, SessionState::HiddenSetting);
                }
            }
            Act::Release(name) => {
                self.settings.release(name);
                upstream.settings.release(name);
                if let Some(locals) = &mut self.locals {
                    locals.release(name);
                }
                upstream.work.locals.with_known(|locals| {
                    locals.release(name);
                    true
                });
            }
            _ => {}
        }
    }

    fn set_local(&mut self, upstream: &mut Upstream, name: &str, value: Option<&Value>) {
        upstream.work.locals.set(name, value);
        let decides = self.rules.resolver.settings().any(|setting| setting.eq_ignore_ascii_case(name));
        if decides || name == SEARCH_PATH || reading::decides(name) {
            self.locals.get_or_insert_default().set(name, value.cloned());
        }
    }

    /// A setting of the session wins over one that was made for the transaction before it.
    fn override_local(&mut self, upstream: &mut Upstream, name: &str, value: Option<&Value>) {
        upstream.work.locals.overridden();
        if let Some(locals) = self.locals.as_mut().filter(|locals| locals.has(name)) {
            locals.set(name, value.cloned());
        }
    }

    /// DEALLOCATE ALL or DISCARD ALL has run: the unnamed statement survives both.
    fn forget_statements(&mut self, upstream: &mut Upstream) {
        self.statements.forget_all();
        self.ctl.prepared.set(self.statements.len() as u32);
        self.leave_names();
        upstream.prepared.clear();
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
        upstream.work.local_default.clear();
        upstream.work.local_reset.clear();
        upstream.work.may_be_free |= failed;
        if std::mem::take(&mut upstream.work.altered) && !failed {
            self.worker.shared.schemas.changed(&self.pool.shared.database);
        }
        if std::mem::take(&mut upstream.work.defines) {
            crate::inspect::distrust(&self.worker.shared, &self.pool.shared);
            self.pool.reload_suspects();
        }
        if self.locals.take().is_some() || before != Rc::as_ptr(self.settings.current()) {
            self.settings_changed(upstream);
        }
    }

    /// Settings, rules or both have changed: whose the session is and what it wants follow.
    pub(super) fn settings_changed(&mut self, upstream: &mut Upstream) {
        let before = (self.tenant, self.class);
        self.resolve_tenant();
        if (self.tenant, self.class) != before {
            self.is_charged_to_another(upstream);
            if !upstream.pipeline.is_boundary() && !upstream.work.timed_out {
                self.renew_deadline(upstream, Instant::now());
            }
        }
        if self.opaque && self.read_under(None).opaque {
            self.leave(upstream, SessionState::HiddenSetting);
        }
    }

    /// Finds out whose the session is, and what follows from that.
    pub(super) fn resolve_tenant(&mut self) {
        let rules = self.rules.clone();
        let current = self.settings.current().clone();
        let application = match current.find("application_name").and_then(plain) {
            Some(name) => name.into_owned(),
            None => String::new(),
        };
        let ctl = self.ctl.clone();
        let face = &ctl.face;
        let connection;
        let (tenant, class) = {
            let tls = face.tls.as_deref();
            let facts = Facts {
                user: &face.user,
                user_suffix: face.suffix.as_deref().map_or("", AsRef::as_ref),
                database: &face.database,
                application_name: &application,
                server_name: tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or_default(),
                certificate: tls.and_then(|tls| tls.common_name.as_deref()).unwrap_or_default(),
                address: face.ip(),
                startup: &Values::of(&self.startup, None),
                settings: &Values::of(&current, self.locals.as_deref()),
                comment: match &self.comment {
                    Some(tags) => &**tags,
                    None => &NOTHING,
                },
            };
            let of = |facts: &Facts<'_>| {
                let name = rules.resolver.resolve(facts).tenant;
                (self.worker.shared.directory.id(&name), rules.resolver.class(facts))
            };
            // The server is told of the connection's own limits, whatever a single statement says.
            let own = match self.comment {
                Some(_) => of(&Facts { comment: &NOTHING, ..facts }),
                None => of(&facts),
            };
            connection = rules.limits.of(own.0, own.1).clone();
            if self.comment.is_some() { of(&facts) } else { own }
        };
        let moved = tenant != self.tenant;
        self.belongs_to(tenant, class);
        if moved || self.scope.as_ref().is_none_or(|scope| *scope.value.application != *application) {
            let name = self.worker.shared.directory.name(tenant);
            self.ctl.tenant.set(tenant);
            let client = face.ends.peer().rsplit_once(':').map_or(face.ends.peer(), |(host, _)| host);
            self.application = Some(self.worker.telemetry.application(self.meter(), &application));
            self.scope = Some(self.worker.shared.telemetry.scope(Scope {
                database: face.database.clone(),
                user: face.user.clone(),
                application: application.into(),
                client: client.into(),
                tenant: (&*name).into(),
            }));
        }
        let reading = self.read_under(self.locals.as_deref());
        (self.escapes, self.opaque) = (reading.escapes, reading.opaque);
        let local = self.locals.as_deref().and_then(|locals| locals.find(SEARCH_PATH));
        let path = local.unwrap_or_else(|| current.find(SEARCH_PATH));
        self.path = path.map_or(0, |(Value::Plain(path) | Value::Clause(path))| xxh3_64(path).max(1));
        self.wanted = self.with_limits(&connection, &current);
    }
}

/// Settings that SET LOCAL … TO DEFAULT has covered, of one transaction.
const MAX_LOCAL_RESETS: usize = 1024;

const SEARCH_PATH: &str = "search_path";
pub(super) const IDENTITY: &str = "session_authorization";
const ROLE: &str = "role";

/// Whether a parameter describes the transaction and ends with it.
pub(super) fn ends_with_transaction(name: &str) -> bool {
    matches!(name, "transaction_isolation" | "transaction_read_only" | "transaction_deferrable")
}

/// Whether a search path may lead to the session's temporary schema.
pub(super) fn mentions_temporary(path: &Value) -> bool {
    let (Value::Plain(bytes) | Value::Clause(bytes)) = path;
    bytes.windows(7).any(|window| window.eq_ignore_ascii_case(b"pg_temp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_show_their_values() {
        for (clause, value) in [
            ("app.tenant_id = 'acme'", Some("acme")),
            ("app.tenant_id TO 'o''neill'", Some("o'neill")),
            ("app.tenant_id to acme", Some("acme")),
            ("app.tenant_id to ACME", Some("acme")),
            ("app.tenant_id = E'\\x61cme'", Some("acme")),
            ("app.tenant_id = e'it\\'s'", Some("it's")),
            ("app.tenant_id = $$acme$$", Some("acme")),
            ("app.tenant_id TO $x$a'c$me$x$;", Some("a'c$me")),
            ("app.tenant_id TO \"Acme\"", Some("Acme")),
            ("app.tenant_id = U&'\\0061cme'", Some("acme")),
            ("app.tenant_id = 'acme' -- its own", Some("acme")),
            ("app.tenant_id = 'acme', 'globex'", None),
            ("app.tenant_id = $1", None),
            ("app.tenant_id = 'acme", None),
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
