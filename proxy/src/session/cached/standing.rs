//! Where the transaction on an upstream stands: whether its reads may be answered from the cache.
//!
//! ```text
//!   BEGIN, SET LOCAL, set_config, SAVEPOINT, reads ──► nothing is left: its reads are answered as those of no transaction
//!   anything else, in whatever order of its reply  ──► to its end, everything goes to the server
//! ```
//! A statement is judged when it is sent, whatever comes of it.

use std::time::{Duration, Instant};

use policy::cache::catalog::leaves_nothing;
use policy::cache::{Bypass, Generation};
use wire::tag::TransactionStatus;

use crate::cache::here::Here;
use crate::cache::writes::Reached;
use crate::session::Session;
use crate::session::brain::Look;
use crate::session::portals::Portal;
use crate::session::script::{Act, Script};
use crate::upstream::Upstream;

/// A server that has not heard of its transaction for so long is asked, whatever the cache has: it may have a limit of its own
/// on how long that is (`idle_in_transaction_session_timeout`), which a client that goes on asking must not run into.
const SILENCE: Duration = Duration::from_millis(500);

/// What the statements of a transaction have left to those behind them.
#[derive(Debug, Default)]
pub struct Standing {
    /// Why none of its reads is answered from the cache.
    against: Option<Bypass>,
    /// The catalog by which its statements were judged. Once it is another one, what they have run may have been another
    /// thing than what was looked at.
    judged_by: Option<Generation>,
    /// An answer has taken the place of the portal without a name that the server has.
    pub covers_portal: bool,
    /// A statement of the transaction may have set something that is not seen.
    pub unseen: bool,
    /// Something was run since the last request had ended.
    pub ran: bool,
    /// The portal without a name was bound since then, before anything was run.
    pub bound: bool,
}

impl Standing {
    /// From here on nothing of it is answered from the cache.
    fn spoil(&mut self, bypass: Bypass) {
        self.against.get_or_insert(bypass);
    }

    /// A portal is bound.
    #[inline]
    pub fn binds(&mut self, name: &[u8]) {
        if name.is_empty() {
            (self.covers_portal, self.bound) = (false, !self.ran);
        }
    }

    /// Whether what its statements were judged by is this epoch, if any was.
    pub(super) fn is_judged_by(&self, epoch: Generation) -> bool {
        self.judged_by.is_none_or(|judged| judged == epoch)
    }
}

/// A statement that is about to be sent.
struct Step<'a> {
    /// Its text; `None`: it is not known, or not how it is read.
    sql: Option<&'a [u8]>,
    /// What it does to its session, with its parameters.
    script: Option<&'a Script>,
    /// Where it is remembered what the text leaves.
    reached: Option<&'a Reached>,
    /// It writes, and sets nothing.
    writes_apart: bool,
}

impl Session {
    /// A text is about to be sent to be run.
    #[inline]
    pub(super) fn text_steps(
        &self,
        upstream: &mut Upstream,
        here: &Here,
        look: &Look<'_>,
        (sql, writes_apart): (Option<&[u8]>, bool),
    ) {
        let script = look.known.script.as_deref();
        if upstream.pipeline.is_free() && !script.is_some_and(|script| script.begins) {
            // A transaction of its own: what it leaves is gone when the next one begins.
            return;
        }
        self.steps(upstream, here, &Step { sql, script, reached: look.reached(), writes_apart });
    }

    /// The same of a portal; `None`: of one that is not known, or of a function that is called by its number.
    #[inline]
    pub(super) fn portal_steps(
        &self,
        upstream: &mut Upstream,
        here: &Here,
        (portal, writes_apart): (Option<&Portal>, bool),
    ) {
        let step = Step {
            sql: portal
                .filter(|portal| portal.prepared.known.whole && !self.escapes && !self.opaque)
                .and_then(|portal| portal.prepared.query.as_deref()),
            script: portal.and_then(|portal| portal.script.as_deref()),
            reached: portal.map(|portal| &portal.prepared.reached),
            writes_apart,
        };
        self.steps(upstream, here, &step);
    }

    fn steps(&self, upstream: &mut Upstream, here: &Here, step: &Step<'_>) {
        let standing = &mut upstream.work.standing;
        // Once nothing of it is answered any more, it still matters to its writes whether all that it has set is seen.
        let matters = !standing.unseen && here.view().is_some_and(|view| view.catalog.separates());
        if standing.against.is_some() && !matters {
            return;
        }
        if step.writes_apart {
            return standing.spoil(Bypass::TransactionWrote);
        }
        if upstream.pipeline.status() == TransactionStatus::Idle && step.script.is_none() {
            // A BEGIN behind it in the same pipeline would take it into its transaction. It is not looked at closer: who begins
            // a transaction waits for that, as a rule.
            standing.unseen = true;
            return standing.spoil(Bypass::TransactionWrote);
        }
        if let Err(bypass) = self.judge_step(upstream, here, step) {
            upstream.work.standing.unseen = true;
            upstream.work.standing.spoil(bypass);
        }
    }

    fn judge_step(&self, upstream: &mut Upstream, here: &Here, step: &Step<'_>) -> Result<(), Bypass> {
        let sql = step.sql.ok_or(Bypass::Tainted)?;
        let mut acts = step.script.into_iter().flat_map(|script| script.parts.iter().flatten());
        if acts.any(chooses_a_level) {
            return Err(Bypass::Isolation);
        }
        let caches = &self.worker.shared.caches;
        let version = caches.version();
        let rules = here.rules(caches, version);
        let Some(view) = here.view_now() else {
            return rules.allowed_by_any(|allowed| leaves_nothing(sql, None, allowed));
        };
        let epoch = view.epoch.generation();
        if *upstream.work.standing.judged_by.get_or_insert(epoch) != epoch {
            return Err(Bypass::CatalogUnread);
        }
        let judge = || rules.allowed_by_any(|allowed| leaves_nothing(sql, Some(&view.catalog), allowed));
        step.reached.map_or_else(judge, |reached| reached.leaves(&view, version, judge))
    }

    /// Whether the transaction that is open lets its reads be answered as if there were none.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn reads_as_outside(&self, upstream: &Upstream) -> Result<(), Bypass> {
        let work = &upstream.work;
        match upstream.pipeline.status() {
            TransactionStatus::Idle => return Ok(()),
            TransactionStatus::Failed => return Err(Bypass::TransactionFailed),
            TransactionStatus::Open => {}
        }
        if upstream.writes.wrote() {
            return Err(Bypass::TransactionWrote);
        }
        if work.portal.as_ref().is_some_and(|portal| portal.suspended) {
            // It may be gone on with.
            return Err(Bypass::RowLimit);
        }
        work.standing.against.map_or(Ok(()), Err)
    }

    /// Whether what the statements of the transaction were judged by still holds. `now`: the catalog's epoch.
    pub(super) fn was_judged_by(&self, now: Generation) -> bool {
        let standing = self.lease.as_deref().map(|upstream| &upstream.work.standing);
        standing.and_then(|standing| standing.judged_by).is_none_or(|epoch| epoch == now)
    }

    /// Whether the server has to hear of its transaction again.
    pub(super) fn is_long_unheard(&self, now: Instant) -> bool {
        self.open_transaction().is_some_and(|upstream| {
            let silent_us = self.now_us(now).saturating_sub(upstream.work.begun_us);
            silent_us > SILENCE.as_micros() as u64
        })
    }

    /// The upstream, if a transaction is open on it.
    #[inline]
    pub(super) fn open_transaction(&self) -> Option<&Upstream> {
        let open = |upstream: &&Upstream| upstream.pipeline.status() != TransactionStatus::Idle;
        self.lease.as_deref().filter(open)
    }
}

/// Whether it decides what a transaction sees.
fn chooses_a_level(act: &Act) -> bool {
    match act {
        Act::Set { name, .. } | Act::Reset(name) | Act::ResetLocal(name) => name.ends_with("transaction_isolation"),
        Act::SetBound(..) => true,
        _ => false,
    }
}
