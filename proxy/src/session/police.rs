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
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{LimitKey, Mode};
use policy::limits::{Bound, Deadline, Effective, Layer};
use policy::tenant::{ClassId, Lookup, TenantId};
use policy::verdict::{Limited, Refusal};
use wire::encode::{Report, Severity};
use wire::error::Sqlstate;
use wire::tag::TransactionStatus;

use super::brain::Look;
use super::script::Act;
use super::statement::Known;
use super::{End, Session};
use crate::tenancy::{Membership, Permit, Usage};
use crate::trouble::Trouble;
use crate::upstream::Upstream;

/// Keys of one statement's comments that are kept, and bytes of each key and value.
const MAX_TAGS: usize = 16;
const MAX_TAG: usize = 256;

/// What the comments at a statement's ends say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommentTags(Box<[(Box<str>, Box<str>)]>);

impl CommentTags {
    /// Of a text; `None`: they say nothing.
    pub fn of(look: &Look<'_>) -> Option<Rc<Self>> {
        if look.comments.is_empty() {
            return None;
        }
        let tags = look.comments.tags().map(|tag| {
            let key = String::from_utf8_lossy(tag.key);
            (Box::<str>::from(&*key), Box::<str>::from(&*tag.decoded()))
        });
        let tags: Box<[_]> =
            tags.filter(|(key, value)| key.len() <= MAX_TAG && value.len() <= MAX_TAG).take(MAX_TAGS).collect();
        (!tags.is_empty()).then(|| Rc::new(Self(tags)))
    }
}

impl Lookup for CommentTags {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }
}

/// What a statement that is about to run is held to.
#[derive(Debug)]
pub struct Held {
    /// It counts among those that run.
    pub permit: Option<Permit>,
    /// Rows and bytes of its result at most.
    pub max_rows: u64,
    /// The same in bytes.
    pub max_bytes: u64,
    /// It has run for longer than it should, and that was told.
    pub is_late: bool,
}

impl Default for Held {
    /// To nothing.
    fn default() -> Self {
        Self { permit: None, max_rows: u64::MAX, max_bytes: u64::MAX, is_late: false }
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
    fn limit(self) -> Duration {
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
        (self.tenant, self.class) = (tenant, class);
        self.limits = self.rules.limits.of(tenant, class).clone();
        self.tell_when_idle(Instant::now());
    }

    /// What the statement's comments say, where that can decide whose it is. The statements behind it that say nothing are
    /// the connection's again.
    #[inline]
    pub(super) fn heed_comments(&mut self, upstream: &mut Upstream, tags: Option<&Rc<CommentTags>>, now: Instant) {
        if tags != self.comment.as_ref() {
            let before = self.tenant;
            self.comment = tags.cloned();
            self.resolve_tenant();
            if self.tenant != before {
                self.is_charged_to_another(upstream);
            }
            upstream.work.deadline = self.deadline(now);
            self.worker.watch(&self.ctl, upstream.work.deadline.map(|deadline| deadline.cancel_at));
        }
    }

    /// When what begins now must have ended.
    pub(super) fn deadline(&self, now: Instant) -> Option<Deadline> {
        let limits = &*self.limits;
        // What a comment says the server does not know: it has the connection's own limit.
        let statement = match self.comment {
            None => Deadline::new(limits.enforced_timeout(), now),
            Some(_) => Deadline::own(LimitKey::StatementTimeout, limits.enforced_timeout(), now, now),
        };
        if limits.request_timeout.is_none() && limits.transaction_timeout.is_none() {
            return statement;
        }
        let own =
            |key, limit: Option<Bound<Duration>>, since| Deadline::own(key, limit.and_then(Bound::enforced), since, now);
        let request = own(LimitKey::RequestTimeout, limits.request_timeout, now);
        let since = self.transaction_since(now);
        let transaction = own(LimitKey::TransactionTimeout, limits.transaction_timeout, since);
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
    pub(super) fn silence(&self, now: Instant) -> Option<(Instant, Silence)> {
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
        let open = self.limits.transaction_timeout.and_then(Bound::enforced).and_then(|limit| {
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
            self.ctl.tell_us.set(self.ctl.tell_us.get().min(due));
        }
    }

    /// The client may have been idle for too long.
    pub(super) fn look_at_idle(&mut self, now: Instant) -> Result<(), End> {
        let Some(limit) = self.limits.idle_timeout else { return Ok(()) };
        let (state, since_us) = self.ctl.state.get();
        let (now_us, limit_us) = (self.now_us(now), limit.at.as_micros() as u64);
        let due_us = since_us.saturating_add(limit_us);
        if state != super::ctl::State::Idle {
            self.tell_when_idle(now);
            return Ok(());
        }
        if now_us < due_us {
            self.ctl.tell_us.set(self.ctl.tell_us.get().min(due_us));
            return Ok(());
        }
        self.membership.all().reached(LimitKey::IdleTimeout, limit.mode);
        if limit.mode == Mode::Enforce {
            let limited = self.limited(LimitKey::IdleTimeout, None);
            return Err(End::Trouble(Refusal::Silent { limited, limit: limit.at }.into()));
        }
        // Once for each silence: the next look is when it could have ended.
        self.ctl.tell_us.set(now_us.saturating_add(limit_us));
        Ok(())
    }

    /// How long the client may wait for an upstream.
    pub(super) fn patience(&self) -> Duration {
        let pool = self.pool.queue_timeout();
        self.limits.queue_timeout.and_then(Bound::enforced).map_or(pool, |own| own.min(pool))
    }

    /// Whether the statement may be run now, and what it is held to.
    ///
    /// # Errors
    /// Why it may not.
    #[inline]
    pub(super) fn judge(&mut self, upstream: &mut Upstream, known: &Known, now: Instant) -> Result<Held, Trouble> {
        let limits = &*self.limits;
        if !limits.judges_statements() && !limits.judges_rows() && !self.rules.limits.has_statements() {
            return Ok(Held::default());
        }
        self.judge_closely(upstream, known, now)
    }

    fn judge_closely(&mut self, upstream: &mut Upstream, known: &Known, now: Instant) -> Result<Held, Trouble> {
        let shape = &known.shape;
        if upstream.pipeline.status() == TransactionStatus::Failed {
            return Ok(Held::default());
        }
        let named = self.statement_with_limits(known);
        let own = named.as_ref().map(|(strict, own)| (*strict, own));
        let limits = match own {
            Some((_, own)) => own.clone(),
            None => self.limits.clone(),
        };
        let strict = own.map(|(strict, _)| strict);
        if let Some(mode) = limits.read_only
            && (shape.writes || lifts_read_only(known))
        {
            self.hit(upstream, mode, strict, LimitKey::ReadOnly, |limited| not_allowed(limited, ""))?;
        }
        if shape.class.is_transaction_control() {
            return Ok(Held::default());
        }
        if let Some(mode) = limits.blocked {
            self.hit(upstream, mode, strict, LimitKey::Blocked, |limited| not_allowed(limited, ""))?;
        }
        if let Some(tables) = &limits.tables {
            let refused = match shape.tables() {
                Some(named) => named.iter().find(|name| !tables.allow(name)).map(|name| &**name),
                None => Some(""),
            };
            if let Some(what) = refused {
                self.hit(upstream, tables.mode, strict, LimitKey::Tables, |limited| not_allowed(limited, what))?;
            }
        }
        self.judge_number(upstream, &limits, strict, now)
    }

    /// Whether there is room for one more statement, and a token for it.
    fn judge_number(
        &mut self,
        upstream: &mut Upstream,
        limits: &Effective,
        strict: Option<u64>,
        now: Instant,
    ) -> Result<Held, Trouble> {
        let usage = |by_class| match strict {
            Some(strict) => self.worker.shared.tenancy.of_statement(self.tenant, strict),
            None => self.membership.of(by_class).clone(),
        };
        let mut held = Held::default();
        if let Some(most) = limits.max_statements {
            let (permit, others) = Permit::take(&usage(limits.by_class.statements));
            if others >= most.at {
                let refusal = |limited| Refusal::TooMany { limited, limit: most.at.into(), retry_in: None };
                self.hit(upstream, most.mode, strict, LimitKey::MaxStatements, refusal)?;
            }
            held.permit = Some(permit);
        }
        if let Some(rate) = limits.rate {
            let now_ns = self.now_us(now).saturating_mul(1_000);
            if let Err(wait) = usage(limits.by_class.rate).take(rate, now_ns) {
                let limit = rate.at.per_second.into();
                let refusal = |limited| Refusal::TooMany { limited, limit, retry_in: Some(wait) };
                self.hit(upstream, rate.mode, strict, LimitKey::StatementRate, refusal)?;
            }
        }
        held.max_rows = limits.max_rows.map_or(u64::MAX, |most| most.at);
        held.max_bytes = limits.max_bytes.map_or(u64::MAX, |most| most.at);
        Ok(held)
    }

    /// The statement of this text that has limits of its own, if one has: the whole, or the first of several.
    pub(super) fn statement_with_limits(&self, known: &Known) -> Option<(u64, Arc<Effective>)> {
        if !self.rules.limits.has_statements() {
            return None;
        }
        let tenant = self.worker.shared.directory.name(self.tenant);
        let class = self.rules.resolver.class_name(self.class);
        let of = |strict: u64| Some((strict, Arc::new(self.rules.limits.of_statement(&tenant, class, strict)?)));
        of(known.shape.strict).or_else(|| known.shape.parts.iter().find_map(|strict| of(*strict)))
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
    fn warn(&self, upstream: &mut Upstream, refusal: &Refusal) {
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
        let explained = self.rules.limits.explain(&tenant, class, strict);
        let from = explained.into_iter().find(|limit| limit.key == key).map_or(Layer::Usual, |limit| limit.from);
        let class = if matches!(from, Layer::Class(_)) { class } else { "" };
        Limited { tenant: (&*tenant).into(), class: class.into(), key, rule: from.shown().into() }
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

/// Whether a statement asks for a transaction that may write.
fn lifts_read_only(known: &Known) -> bool {
    let names = |act: &Act| matches!(act, Act::Set { name, .. } if name.ends_with("transaction_read_only"));
    let sets = known.script.as_ref().is_some_and(|script| script.parts.iter().flatten().any(names));
    let text = known.shape.text().as_bytes();
    sets || text.windows(10).any(|words| words.eq_ignore_ascii_case(b"read write"))
}
