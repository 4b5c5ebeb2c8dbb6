//! What a tenant's limits do to its statements: judged before they are sent, held to their limits while they run.
//!
//! ```text
//!                   nothing is limited ─► sent
//!   statement ──┤
//!                   limited ─► by what it is (blocked, read_only, tables) ─► by how many (rate, statements) ─► sent
//!                                   │ enforce: refused · warn: NOTICE · observe: counted
//! ```
//! What ends a transaction is never refused: its client would have no way out.

use std::rc::Rc;
use std::time::{Duration, Instant};

use config::{LimitKey, Mode};
use policy::limits::{Bound, Effective, Rate};
use policy::statement::Class;
use policy::tenant::{ClassId, Lookup, TenantId};
use policy::verdict::{Limited, Refusal, SessionState};

use super::Session;
use super::held::Held;
use super::large_objects::concerns_call;
use super::script::{Act, Script};
use super::statement::{Known, Running, Whose};
use crate::tenancy::{Membership, Permit, Rules, Usage};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// Keys of one statement's comments that are kept, and bytes of each value.
const MAX_TAGS: usize = 16;
const MAX_TAG: usize = 256;

/// What the comments at a statement's ends say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommentTags(Box<[(Box<str>, Box<str>)]>);

impl CommentTags {
    /// Of a text, those that a rule looks at; `None`: it has none.
    pub fn of(sql: &[u8], rules: &Rules) -> Option<Rc<Self>> {
        let (_, comments) = policy::comment::strip_ends(sql);
        if comments.is_empty() {
            return None;
        }
        let named = comments.tags().filter_map(|tag| {
            let key = std::str::from_utf8(tag.key).ok().filter(|key| rules.resolver.reads_comment(key))?;
            let value = tag.decoded();
            (value.len() <= MAX_TAG).then(|| (Box::<str>::from(key), Box::<str>::from(&*value)))
        });
        let tags: Box<[_]> = named.take(MAX_TAGS).collect();
        (!tags.is_empty()).then(|| Rc::new(Self(tags)))
    }
}

impl Lookup for CommentTags {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }
}

impl Session {
    /// Whose it is has been found out anew.
    pub(super) fn belongs_to(&mut self, tenant: TenantId, class: ClassId) {
        if (tenant, class) != (self.tenant, self.class) {
            // Counted where it is now, however many there are: it is not ended for what it has said.
            self.membership = Membership::join(&self.worker.shared.tenancy, tenant, class);
        }
        if (tenant, class) != (self.tenant, self.class) || self.class_usage.is_none() {
            let class_name = self.rules.resolver.class_name(class);
            let (telemetry, database) = (&self.worker.telemetry, &*self.pool.shared.database);
            // A tenant that changes with each transaction leaves its class what it is, as a rule.
            let known = self.class_usage.take().filter(|_| class == self.class).map(|own| own.1);
            let own = || {
                let latency = known.unwrap_or_else(|| telemetry.latency(database, class_name));
                Box::new((telemetry.class(tenant.into(), class_name), latency))
            };
            self.class_usage = (class != ClassId::NONE).then(own);
        }
        (self.tenant, self.class) = (tenant, class);
        self.limits = self.rules.limits.of(tenant, class).clone();
        self.tell_when_idle(Instant::now());
    }

    /// What the statement's comments say, where that can decide whose it is. The statements behind it that say nothing are
    /// the connection's again. `false`: it is another tenant's than what still runs, whose end is awaited.
    #[inline]
    pub(super) fn heed_comments(
        &mut self,
        upstream: &mut Upstream,
        tags: Option<Rc<CommentTags>>,
        now: Instant,
    ) -> bool {
        if tags == self.comment {
            return true;
        }
        if !upstream.work.running.is_empty() {
            return false;
        }
        let before = (self.tenant, self.class);
        self.comment = tags;
        self.resolve_tenant();
        if (self.tenant, self.class) != before {
            self.is_charged_to_another(upstream);
        }
        self.renew_deadline(upstream, now);
        true
    }

    /// Whether anything is limited that a statement could run into.
    #[inline]
    pub(super) fn polices(&self) -> bool {
        self.limits.judges_statements() || self.limits.judges_rows() || self.rules.limits.has_statements()
    }

    /// The same of something whose text is not seen: a portal that is not followed, a function that is called by its number.
    pub(super) fn judge_unseen(&self, upstream: &mut Upstream, now: Instant) -> Result<Held, Trouble> {
        let known = self.worker.brain.borrow_mut().unknown();
        self.judge(upstream, &known, None, now)
    }

    /// A function is called by its number. One that works on large objects names no table, and whether it writes is known.
    pub(super) fn judge_call(
        &self,
        upstream: &mut Upstream,
        function: Option<u32>,
        now: Instant,
    ) -> Result<(), Trouble> {
        if !self.polices() {
            return Ok(());
        }
        let known = self.worker.brain.borrow_mut().unknown();
        for (key, mode, what) in
            against(&self.limits, &known, None, true).filter(|(key, ..)| concerns_call(function, *key))
        {
            self.hit(upstream, mode, None, key, |limited| not_allowed(limited, what))?;
        }
        self.admit(upstream, &known, now).map(drop)
    }

    /// Whether the statement may be run now, and what it is held to. `script` is what it does, with its parameters.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn judge(
        &self,
        upstream: &mut Upstream,
        known: &Known,
        script: Option<&Script>,
        now: Instant,
    ) -> Result<Held, Trouble> {
        if !self.is_cleared(known, script) {
            for (key, mode, what) in against(&self.limits, known, script, self.is_readable()) {
                self.hit(upstream, mode, None, key, |limited| not_allowed(limited, what))?;
            }
        }
        if known.is_free() {
            self.judge_blocked(upstream, known)?;
            return Ok(Held::default());
        }
        self.admit(upstream, known, now)
    }

    /// Whether nothing speaks against a statement by what it is, as was found when this tenant ran it last. One that does
    /// more than its shape shows is looked at each time.
    #[inline]
    pub(super) fn is_cleared(&self, known: &Known, script: Option<&Script>) -> bool {
        if !known.whole || script.is_some() || !self.is_readable() {
            return false;
        }
        let whose = Whose { rules: self.rules.version, tenant: self.tenant, class: self.class };
        known.shape.cleared.or_look(whose, || against(&self.limits, known, None, true).next().is_none())
    }

    /// Whether its strings are read as we read them.
    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        !self.opaque && !self.escapes
    }

    /// What is not counted is refused all the same where an operator has blocked just this statement.
    fn judge_blocked(&self, upstream: &mut Upstream, known: &Known) -> Result<(), Trouble> {
        if !self.rules.limits.has_statements() {
            return Ok(());
        }
        for (strict, own) in self.all_said_by_name(known) {
            if let Some(mode) = own.blocked {
                self.hit(upstream, mode, Some(strict), LimitKey::Blocked, |limited| not_allowed(limited, ""))?;
            }
        }
        Ok(())
    }

    /// Whether there is room for one more, and what it is held to.
    fn admit(&self, upstream: &mut Upstream, known: &Known, now: Instant) -> Result<Held, Trouble> {
        let limits = &*self.limits;
        // Statements that one client sends at once run one after the other: they count as one.
        if let Some(most) = limits.max_statements
            && upstream.work.permit.is_none()
        {
            let (permit, others) = Permit::take(self.membership.of(limits.by_class.statements));
            if others >= most.at {
                let refusal = |limited| Refusal::TooMany { limited, limit: most.at.into(), retry_in: None };
                self.hit(upstream, most.mode, None, LimitKey::MaxStatements, refusal)?;
            }
            upstream.work.permit = Some(permit);
        }
        let now_ns = self.now_us(now).saturating_mul(1_000);
        if let Some(rate) = limits.rate
            && let statements = known.shape.statements
            && let Err(wait) = self.membership.of(limits.by_class.rate).take_several(rate, statements, now_ns)
        {
            // So many at once never pass: there is no time to come again at.
            let wait = (statements <= rate.at.burst.max(1)).then_some(wait);
            self.hit(upstream, rate.mode, None, LimitKey::StatementRate, |limited| too_fast(limited, rate, wait))?;
        }
        self.judge_by_name(upstream, known, now)?;
        Ok(self.held_to(known, 0))
    }

    /// What the configuration says of just these statements, besides what holds for all of the tenant's.
    fn judge_by_name(&self, upstream: &mut Upstream, known: &Known, now: Instant) -> Result<(), Trouble> {
        if !self.rules.limits.has_statements() {
            return Ok(());
        }
        for (strict, own) in self.all_said_by_name(known) {
            let named = Some(strict);
            if let Some(mode) = own.blocked {
                self.hit(upstream, mode, named, LimitKey::Blocked, |limited| not_allowed(limited, ""))?;
            }
            let usage = self.worker.shared.tenancy.of_statement(self.tenant, strict);
            let counted = |(tenant, named, _): &(TenantId, u64, Permit)| (*tenant, *named) == (self.tenant, strict);
            if let Some(limit) = own.max_statements
                && !upstream.work.named_permits.iter().any(counted)
            {
                let (permit, others) = Permit::take(&usage);
                if others >= limit.at {
                    let refusal = |limited| Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None };
                    self.hit(upstream, limit.mode, named, LimitKey::MaxStatements, refusal)?;
                }
                upstream.work.named_permits.push((self.tenant, strict, permit));
            }
            let now_ns = self.now_us(now).saturating_mul(1_000);
            if let Some(rate) = own.rate
                && let Err(wait) = usage.take(rate, now_ns)
            {
                self.hit(upstream, rate.mode, named, LimitKey::StatementRate, |limited| {
                    too_fast(limited, rate, Some(wait))
                })?;
            }
        }
        Ok(())
    }

    /// Time limits that are only looked at: counted where what they hold for has ended, or goes on.
    #[inline]
    pub(super) fn look_at_times(
        &self,
        upstream: &mut Upstream,
        key: LimitKey,
        limit: Option<Bound<Duration>>,
        us: u64,
    ) {
        if let Some(limit) = limit
            && limit.mode != Mode::Enforce
            && us > limit.at.as_micros() as u64
        {
            let refusal = |limited| Refusal::Silent { limited, limit: limit.at };
            drop(self.hit(upstream, limit.mode, None, key, refusal));
        }
    }

    /// What the configuration says of the first of these statements that it says this of.
    pub(super) fn said_by_name<T>(&self, known: &Known, what: impl Fn(&Effective) -> Option<T>) -> Option<(u64, T)> {
        if !self.rules.limits.has_statements() {
            return None;
        }
        self.all_said_by_name(known).find_map(|(strict, own)| Some((strict, what(&own)?)))
    }

    /// All that it says of them, one by one.
    pub(super) fn all_said_by_name(&self, known: &Known) -> impl Iterator<Item = (u64, Effective)> {
        known.shape.named().filter_map(|(strict, what)| {
            let (strict, own) = self.said_alone(strict)?;
            Some((strict, said_of(what, own)))
        })
    }

    /// What it says of the statement with this fingerprint, whatever kind of statement it is.
    pub(super) fn said_alone(&self, strict: u64) -> Option<(u64, Effective)> {
        if !self.rules.limits.limits_statement(strict) {
            return None;
        }
        let tenant = self.worker.shared.directory.name(self.tenant);
        let class = self.rules.resolver.class_name(self.class);
        Some((strict, self.rules.limits.of_statement(&tenant, class, strict)?))
    }

    /// Whether this must wait for the end of what may bring settings back to the server's own, which the proxy then makes
    /// anew: a client that may only read has its transactions' mode from them. And for what may change its tenant.
    #[inline]
    pub(super) fn awaits_settings(&self, upstream: &Upstream) -> bool {
        let read_only = self.limits.read_only == Some(Mode::Enforce);
        (read_only && upstream.work.running.iter().any(Running::resets)) || self.awaits_tenant(upstream)
    }

    /// Whether what runs may change whose the session is: what stands behind it is the new tenant's.
    #[inline]
    pub(super) fn awaits_tenant(&self, upstream: &Upstream) -> bool {
        self.rules.reads_settings && upstream.work.running.iter().any(|running| self.may_change_tenant(running))
    }

    fn may_change_tenant(&self, running: &Running) -> bool {
        let decides = |name: &str| self.rules.resolver.reacts_to(name, None);
        let may = |act: &Act| match act {
            Act::Set { name, .. } | Act::Reset(name) | Act::ResetLocal(name) => decides(name),
            Act::SetBound(..) | Act::ResetAll | Act::DiscardAll => true,
            // What was set within the transaction is undone.
            Act::Rollback | Act::RollbackTo(_) => true,
            Act::Commit => self.locals.is_some(),
            _ => false,
        };
        running.known.script.as_ref().is_some_and(|script| script.parts.iter().flatten().any(may))
    }

    /// A limit was reached: what its mode says is done.
    #[cold]
    pub(super) fn hit(
        &self,
        upstream: &mut Upstream,
        mode: Mode,
        strict: Option<u64>,
        key: LimitKey,
        refusal: impl FnOnce(Limited) -> Refusal,
    ) -> Result<(), Trouble> {
        self.reached(key, mode);
        self.names(key, strict);
        match mode {
            Mode::Off | Mode::Observe => Ok(()),
            Mode::Warn => {
                self.warn(upstream, &refusal(self.limited(key, strict)));
                Ok(())
            }
            Mode::Enforce => {
                // What it was warned of besides went with the statement.
                upstream.work.notices.forget_next();
                Err(refusal(self.limited(key, strict)).into())
            }
        }
    }

    /// A limit was reached; it is counted for the tenant, and for its class.
    pub(super) fn reached(&self, key: LimitKey, mode: Mode) {
        self.membership.each(|usage: &Usage| usage.reached(key, mode));
    }

    /// The log has to tell which table said it.
    pub(super) fn names(&self, key: LimitKey, strict: Option<u64>) {
        self.membership.each(|usage: &Usage| usage.names(key, strict));
    }

    /// A limit of this session's tenant, and the table that says it.
    #[cold]
    pub(super) fn limited(&self, key: LimitKey, strict: Option<u64>) -> Limited {
        self.names(key, strict);
        let tenant = self.worker.shared.directory.name(self.tenant);
        let class = self.rules.resolver.class_name(self.class);
        self.rules.limits.limited(&tenant, class, key, strict)
    }

    /// What a tenant has, or what one of its classes has of it, whatever other tables say of the same.
    pub(super) fn limited_of(&self, key: LimitKey, of_class: bool) -> Limited {
        if !of_class {
            let tenant = self.worker.shared.directory.name(self.tenant);
            return self.rules.limits.limited(&tenant, "", key, None);
        }
        let tenant = (*self.worker.shared.directory.name(self.tenant)).into();
        Limited { tenant, ..self.rules.limits.limited("", self.rules.resolver.class_name(self.class), key, None) }
    }

    /// A statement has ended that may have run for longer than a limit which is only looked at.
    #[inline]
    pub(super) fn look_at_time(&self, upstream: &mut Upstream, now: Instant) {
        let looked_at = |limit: Bound<Duration>| limit.mode != Mode::Enforce;
        if self.limits.statement_timeout.is_some_and(looked_at) || self.rules.limits.has_statements() {
            Self::of_what_ends(upstream, |upstream| self.look_whether_late(upstream, now));
        }
    }

    fn look_whether_late(&self, upstream: &mut Upstream, now: Instant) {
        let Some(running) = upstream.work.running.front().filter(|running| !running.held.is_late) else { return };
        let since_us = running.sent_us.max(upstream.work.first_us);
        let parts = running.known.shape.parts.len().max(1);
        // Of an error it is known which statement of the text it is of.
        let parts = if upstream.work.failed { parts.min(running.part + 1) } else { parts };
        let ran_us = upstream.work.share(since_us, self.now_us(now), parts);
        let known = running.known.clone();
        let all = self.limits.statement_timeout.map(|limit| (None, limit)).into_iter();
        let own = self.all_said_by_name(&known);
        let own = own.filter_map(|(strict, own)| Some((Some(strict), own.statement_timeout?)));
        for (strict, limit) in all.chain(own) {
            if !matches!(limit.mode, Mode::Observe | Mode::Warn) || ran_us <= limit.at.as_micros() as u64 {
                continue;
            }
            if let Some(running) = upstream.work.running.front_mut() {
                running.held.is_late = true;
            }
            let refusal = |limited| Refusal::StatementTimeout { limited, limit: limit.at };
            drop(self.hit(upstream, limit.mode, strict, LimitKey::StatementTimeout, refusal));
        }
    }
}

/// What is said of one statement by name, as far as it holds for what it is: what begins, ends or divides a transaction is
/// not counted, and what ends one is not refused, whatever else stands in its text.
pub fn said_of(class: Class, own: Effective) -> Effective {
    if !class.is_transaction_control() {
        return own;
    }
    let blocked = own.blocked.filter(|_| !class.is_way_out());
    Effective { blocked, max_statements: None, rate: None, ..own }
}

pub(super) fn not_allowed(limited: Limited, what: &str) -> Refusal {
    Refusal::NotAllowed { limited, what: what.into() }
}

pub(super) fn too_fast(limited: Limited, rate: Bound<Rate>, retry_in: Option<Duration>) -> Refusal {
    Refusal::TooMany { limited, limit: rate.at.per_second.into(), retry_in }
}

/// What speaks against a statement by what it is: the limit, its mode, and the table that may not be named. Nothing but
/// `read_only` and `blocked` speaks against what begins or divides a transaction, and nothing but `read_only` against what
/// ends one. `readable`: its session reads strings as we do.
pub fn against<'a>(
    limits: &Effective,
    known: &'a Known,
    script: Option<&Script>,
    readable: bool,
) -> impl Iterator<Item = (LimitKey, Mode, &'a str)> + use<'a> {
    let shape = &known.shape;
    let writes = shape.writes || !known.whole || script.is_some_and(lifts_read_only);
    let read_only = limits.read_only.filter(|_| writes);
    let blocked = limits.blocked.filter(|_| !known.is_way_out());
    let tables = limits.tables.as_ref().filter(|_| !known.is_free()).and_then(|tables| {
        let refused = match shape.tables().filter(|_| known.whole && readable) {
            Some(named) => named.iter().find(|name| !tables.allow(name)).map(|name| &**name),
            None => Some(""),
        };
        refused.map(|what| (LimitKey::Tables, tables.mode, what))
    });
    let of = |key, mode: Option<Mode>| mode.map(|mode| (key, mode, ""));
    [of(LimitKey::ReadOnly, read_only), of(LimitKey::Blocked, blocked), tables].into_iter().flatten()
}

/// Whether a statement may take the mode away that its transactions have, as by a setting whose name is not seen. What
/// brings settings back is made good behind it, if nothing stands in the same text.
fn lifts_read_only(script: &Script) -> bool {
    let alone = script.parts.len() <= 1;
    let mode = |name: &str| name.ends_with("transaction_read_only");
    script.parts.iter().flatten().any(|act| match act {
        Act::Set { name, .. } | Act::Reset(name) | Act::ResetLocal(name) => mode(name),
        Act::ResetAll | Act::DiscardAll => !alone,
        Act::SetBound(..) | Act::Leave(SessionState::HiddenSetting | SessionState::Block) => true,
        _ => false,
    })
}
