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
use policy::limits::{Bound, Deadline, Effective, Rate};
use policy::tenant::{ClassId, Lookup, TenantId};
use policy::verdict::{Limited, Refusal, SessionState};
use wire::encode::{Report, Severity};
use wire::error::Sqlstate;
use wire::tag::TransactionStatus;

use super::held::Held;
use super::script::{Act, Script};
use super::statement::{Known, Running};
use super::{End, Session};
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

/// What ends a client that is silent in a transaction.
#[derive(Debug, Clone, Copy)]
pub enum Silence {
    /// `pool.idle_in_transaction_timeout`.
    Pool(Duration),
    /// One of its tenant's limits.
    Limit(LimitKey, Duration),
}

impl Silence {
    pub(super) fn limit(self) -> Duration {
        match self {
            Self::Pool(limit) | Self::Limit(_, limit) => limit,
        }
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
        let before = self.tenant;
        self.comment = tags;
        self.resolve_tenant();
        if self.tenant != before {
            self.is_charged_to_another(upstream);
        }
        let behind = self.now_us(now).saturating_sub(upstream.work.begun_us);
        let begun = now.checked_sub(Duration::from_micros(behind)).unwrap_or(now);
        upstream.work.deadline = self.deadline(upstream, begun, now);
        self.worker.watch(&self.ctl, upstream.work.deadline.map(|deadline| deadline.cancel_at));
        true
    }

    /// When a request that began at `begun` must have ended.
    pub(super) fn deadline(&self, upstream: &Upstream, begun: Instant, now: Instant) -> Option<Deadline> {
        let limits = &*self.limits;
        // What a comment says the server does not know: it has the connection's own limit.
        let statement = match self.comment {
            None => Deadline::new(limits.enforced_timeout(), now),
            Some(_) => Deadline::own(LimitKey::StatementTimeout, limits.enforced_timeout(), now, now),
        };
        if limits.request_timeout.is_none() && limits.transaction_timeout.is_none() {
            return statement;
        }
        let enforced = |limit: Option<Bound<Duration>>| limit.and_then(Bound::enforced);
        let request = Deadline::own(LimitKey::RequestTimeout, enforced(limits.request_timeout), begun, now);
        // One that has failed is over but for its ROLLBACK.
        let open = upstream.pipeline.status() != TransactionStatus::Failed;
        let limit = enforced(limits.transaction_timeout).filter(|_| open);
        let transaction = Deadline::own(LimitKey::TransactionTimeout, limit, self.transaction_since(now), now);
        Deadline::sooner(Deadline::sooner(statement, request), transaction)
    }

    /// When the transaction that is open began; `now` if none is.
    fn transaction_since(&self, now: Instant) -> Instant {
        let began = self.ctl.transaction_us.get();
        if began == 0 {
            return now;
        }
        now.checked_sub(Duration::from_micros(self.now_us(now).saturating_sub(began))).unwrap_or(now)
    }

    /// When a client that is silent in a transaction is ended, and by which limit.
    #[inline]
    pub(super) fn silence(&self, upstream: &Upstream, now: Instant) -> Option<(Instant, Silence)> {
        let pool = self.pool.settings().idle_in_transaction_timeout;
        let idle = match self.limits.idle_in_transaction_timeout.and_then(Bound::enforced) {
            Some(limit) => Some(Silence::Limit(LimitKey::IdleInTransactionTimeout, limit)),
            None => (!pool.is_zero()).then_some(Silence::Pool(pool)),
        };
        let idle = idle.and_then(|silence| {
            let (_, since_us) = self.ctl.state.get();
            let silent = Duration::from_micros(self.now_us(now).saturating_sub(since_us));
            let since = now.checked_sub(silent).unwrap_or(now);
            Some((since.checked_add(silence.limit())?, silence))
        });
        let is_open = upstream.pipeline.status() != TransactionStatus::Failed;
        let limit = self.limits.transaction_timeout.and_then(Bound::enforced).filter(|_| is_open);
        let open = limit.and_then(|limit| {
            let due = self.transaction_since(now).checked_add(limit)?;
            Some((due, Silence::Limit(LimitKey::TransactionTimeout, limit)))
        });
        match (idle, open) {
            (Some(idle), Some(open)) => Some(if open.0 < idle.0 { open } else { idle }),
            (idle, open) => idle.or(open),
        }
    }

    /// The client has been silent for so long.
    pub(super) fn was_silent(&self, silence: Silence) -> Refusal {
        match silence {
            Silence::Pool(limit) => Refusal::IdleInTransaction { limit },
            Silence::Limit(key, limit) => {
                self.reached(key, Mode::Enforce);
                Refusal::Silent { limited: self.limited(key, None), limit }
            }
        }
    }

    /// The sweep looks at the client when it may have been idle for too long.
    pub(super) fn tell_when_idle(&self, now: Instant) {
        if let Some(limit) = self.limits.idle_timeout {
            let due = self.now_us(now).saturating_add(limit.at.as_micros() as u64);
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(due));
        }
    }

    /// The client may have been idle for too long.
    pub(super) fn look_at_idle(&mut self, now: Instant) -> Result<(), End> {
        let Some(limit) = self.limits.idle_timeout else { return Ok(()) };
        let (state, since_us) = self.ctl.state.get();
        let (now_us, limit_us) = (self.now_us(now), limit.at.as_micros() as u64);
        let due_us = since_us.saturating_add(limit_us);
        if state != super::ctl::State::Idle || self.waits_for_an_answer() {
            self.tell_when_idle(now);
            return Ok(());
        }
        if now_us < due_us {
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(due_us));
            return Ok(());
        }
        if self.worker.is_suspended() {
            // It may have spoken, and nobody has listened: its time begins anew.
            self.worker.tell_at(&self.ctl, self.ctl.tell_us.get().min(now_us.saturating_add(limit_us)));
            return Ok(());
        }
        self.reached(LimitKey::IdleTimeout, limit.mode);
        if limit.mode == Mode::Enforce {
            let limited = self.limited(LimitKey::IdleTimeout, None);
            return Err(End::Trouble(Refusal::Silent { limited, limit: limit.at }.into()));
        }
        // Once for each silence: the next look is when it could have ended.
        self.worker.tell_at(&self.ctl, now_us.saturating_add(limit_us));
        Ok(())
    }

    /// How long the client may wait for an upstream.
    pub(super) fn patience(&self) -> Duration {
        let pool = self.pool.queue_timeout();
        self.limits.queue_timeout.and_then(Bound::enforced).map_or(pool, |own| own.min(pool))
    }

    /// Whether anything is limited that a statement could run into.
    #[inline]
    pub(super) fn polices(&self) -> bool {
        self.limits.judges_statements() || self.limits.judges_rows() || self.rules.limits.has_statements()
    }

    /// The same of something whose text is not seen: a portal that is not followed, a function that is called by its number.
    pub(super) fn judge_unseen(&mut self, upstream: &mut Upstream, now: Instant) -> Result<Held, Trouble> {
        let known = self.worker.brain.borrow_mut().unknown();
        self.judge(upstream, &known, None, now)
    }

    /// Whether the statement may be run now, and what it is held to. `script` is what it does, with its parameters.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn judge(
        &mut self,
        upstream: &mut Upstream,
        known: &Known,
        script: Option<&Script>,
        now: Instant,
    ) -> Result<Held, Trouble> {
        let limits = self.limits.clone();
        let readable = !self.opaque && !self.escapes;
        for (key, mode, what) in against(&limits, known, script, readable) {
            self.hit(upstream, mode, None, key, |limited| not_allowed(limited, what))?;
        }
        if known.is_free() {
            return Ok(Held::default());
        }
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
        let (rows, bytes) = (limits.max_rows.map(|most| most.at), limits.max_bytes.map(|most| most.at));
        let (rows, bytes) = self.judge_by_name(upstream, known, (rows, bytes), now)?;
        Ok(Held::to(rows, bytes))
    }

    /// What the configuration says of just these statements, besides what holds for all of the tenant's.
    fn judge_by_name(
        &mut self,
        upstream: &mut Upstream,
        known: &Known,
        mut most: (Option<u64>, Option<u64>),
        now: Instant,
    ) -> Result<(Option<u64>, Option<u64>), Trouble> {
        if !self.rules.limits.has_statements() {
            return Ok(most);
        }
        let all = [&known.shape.strict].into_iter().chain(known.shape.parts.iter());
        for strict in all.copied().filter(|strict| self.rules.limits.limits_statement(*strict)).collect::<Vec<u64>>() {
            let tenant = self.worker.shared.directory.name(self.tenant);
            let class = self.rules.resolver.class_name(self.class);
            let Some(own) = self.rules.limits.of_statement(&tenant, class, strict) else { continue };
            let named = Some(strict);
            if let Some(mode) = own.blocked {
                self.hit(upstream, mode, named, LimitKey::Blocked, |limited| not_allowed(limited, ""))?;
            }
            let usage = self.worker.shared.tenancy.of_statement(self.tenant, strict);
            if let Some(limit) = own.max_statements {
                let (permit, others) = Permit::take(&usage);
                if others >= limit.at {
                    let refusal = |limited| Refusal::TooMany { limited, limit: limit.at.into(), retry_in: None };
                    self.hit(upstream, limit.mode, named, LimitKey::MaxStatements, refusal)?;
                }
                upstream.work.named_permits.push(permit);
            }
            let now_ns = self.now_us(now).saturating_mul(1_000);
            if let Some(rate) = own.rate
                && let Err(wait) = usage.take(rate, now_ns)
            {
                self.hit(upstream, rate.mode, named, LimitKey::StatementRate, |limited| {
                    too_fast(limited, rate, Some(wait))
                })?;
            }
            if let Some(limit) = own.enforced_timeout() {
                let deadline = Deadline::own(LimitKey::StatementTimeout, Some(limit), now, now);
                let sooner = Deadline::sooner(upstream.work.deadline, deadline);
                if sooner != upstream.work.deadline {
                    upstream.work.deadline = sooner;
                    upstream.work.named = named;
                    self.worker.watch(&self.ctl, sooner.map(|deadline| deadline.cancel_at));
                }
            }
            most.0 = own.max_rows.map(|limit| limit.at).or(most.0);
            most.1 = own.max_bytes.map(|limit| limit.at).or(most.1);
        }
        Ok(most)
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
        let all = [&known.shape.strict].into_iter().chain(known.shape.parts.iter());
        all.filter(|strict| self.rules.limits.limits_statement(**strict)).find_map(|strict| {
            let tenant = self.worker.shared.directory.name(self.tenant);
            let class = self.rules.resolver.class_name(self.class);
            let own = self.rules.limits.of_statement(&tenant, class, *strict)?;
            Some((*strict, what(&own)?))
        })
    }

    /// Whether this must wait for the end of what may bring settings back to the server's own, which the proxy then makes
    /// anew: a client that may only read has its transactions' mode from them.
    #[inline]
    pub(super) fn awaits_settings(&self, upstream: &Upstream) -> bool {
        self.limits.read_only == Some(Mode::Enforce) && upstream.work.running.iter().any(Running::resets)
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
        match mode {
            Mode::Off | Mode::Observe => Ok(()),
            Mode::Warn => {
                self.warn(upstream, &refusal(self.limited(key, strict)));
                Ok(())
            }
            Mode::Enforce => Err(refusal(self.limited(key, strict)).into()),
        }
    }

    /// A limit was reached; it is counted for the tenant, and for its class.
    pub(super) fn reached(&self, key: LimitKey, mode: Mode) {
        self.membership.each(|usage: &Usage| usage.reached(key, mode));
    }

    /// The client is told what would have been its error.
    pub(super) fn warn(&self, upstream: &mut Upstream, refusal: &Refusal) {
        let report = refusal.report();
        let mut notice = Report::new(Severity::Notice, Sqlstate::SUCCESS, report.message);
        if let Some(detail) = report.detail {
            notice = notice.detail(detail);
        }
        let notice = notice.hint("This limit only warns so far; the statement was run.");
        upstream.work.notice.get_or_insert_with(|| Box::new(notice));
    }

    /// A limit of this session's tenant, and the table that says it.
    pub(super) fn limited(&self, key: LimitKey, strict: Option<u64>) -> Limited {
        let tenant = self.worker.shared.directory.name(self.tenant);
        let class = self.rules.resolver.class_name(self.class);
        self.rules.limits.limited(&tenant, class, key, strict)
    }

    /// A statement has ended that may have run for longer than a limit which is only looked at.
    #[inline]
    pub(super) fn look_at_time(&self, upstream: &mut Upstream, now: Instant) {
        if let Some(limit) = self.limits.statement_timeout
            && limit.mode != Mode::Enforce
            && let Some(running) = upstream.work.running.front_mut()
            && !running.held.is_late
            && self.now_us(now).saturating_sub(running.sent_us) > limit.at.as_micros() as u64
        {
            running.held.is_late = true;
            let refusal = |limited| Refusal::StatementTimeout { limited, limit: limit.at };
            drop(self.hit(upstream, limit.mode, None, LimitKey::StatementTimeout, refusal));
        }
    }
}

fn not_allowed(limited: Limited, what: &str) -> Refusal {
    Refusal::NotAllowed { limited, what: what.into() }
}

fn too_fast(limited: Limited, rate: Bound<Rate>, retry_in: Option<Duration>) -> Refusal {
    Refusal::TooMany { limited, limit: rate.at.per_second.into(), retry_in }
}

/// What speaks against a statement by what it is: the limit, its mode, and the table that may not be named. Nothing but
/// `read_only` speaks against what begins or ends a transaction. `readable`: its session reads strings as we do.
pub fn against<'a>(
    limits: &Effective,
    known: &'a Known,
    script: Option<&Script>,
    readable: bool,
) -> impl Iterator<Item = (LimitKey, Mode, &'a str)> + use<'a> {
    let shape = &known.shape;
    let writes = shape.writes || !known.whole || script.is_some_and(lifts_read_only);
    let read_only = limits.read_only.filter(|_| writes);
    let judged = !known.is_free();
    let blocked = limits.blocked.filter(|_| judged);
    let tables = limits.tables.as_ref().filter(|_| judged).and_then(|tables| {
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
