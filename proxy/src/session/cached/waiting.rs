//! What a request waits for before it is answered from the cache or goes to the server: somebody else's answer
//! ([`flights`](crate::cache::flights)), the end of the log ([`ends`](crate::cache::ends)). Once for each, and then it is
//! looked at anew.

use std::time::{Duration, Instant};

use policy::cache::{End, Miss, Refused, Ticket, Turn};
use policy::limits::{Bound, parse_guc_time};

use super::{Filling, Moment};
use crate::cache::Fate;
use crate::cache::here::Here;
use crate::cache::store::Entry;
use crate::session::Session;
use crate::session::ctl::State;
use crate::session::effects::plain;
use crate::upstream::Upstream;

/// How long somebody waits at most for what somebody else asks for, before he asks for himself.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a session has waited for, for one request. It does so once for each.
#[derive(Debug, Default, Clone, Copy)]
pub struct Waited {
    /// When it began to.
    pub(super) since: Option<Instant>,
    /// Somebody else's answer.
    pub(super) flight: bool,
    /// The end of the log.
    pub(super) end: Option<Ticket>,
}

/// The end of the log that was asked for since the request came, if the slot has passed it.
pub(super) fn end_known(here: &Here, waited: Waited) -> Option<End> {
    match here.cached.ends.turn(waited.end?) {
        Turn::Passed(end) => Some(end),
        Turn::Waits | Turn::Void => None,
    }
}

impl Session {
    /// It waits for somebody else's answer, or for the end of the log.
    #[inline]
    pub(in crate::session) fn waits_for_an_answer(&self) -> bool {
        self.caching.as_deref().is_some_and(|caching| caching.waits)
    }

    /// The reply to the request that was looked at last is not kept: it does not come, or another one does.
    #[inline]
    pub(in crate::session) fn keep_nothing(&mut self) {
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.filling = None;
        }
    }

    /// Its request goes to this server connection; whether the reply may be kept.
    pub(in crate::session) fn takes_off(&mut self, upstream: &Upstream) -> Option<Box<Filling>> {
        let caching = self.caching.as_deref_mut()?;
        caching.waited = Waited::default();
        let filling = caching.filling.take()?;
        let view = self.pool.here().and_then(|here| here.view());
        if !upstream.is_retired() && view.is_none_or(|view| view.paths.hold_for(upstream.opened)) {
            return Some(filling);
        }
        // It looks names up elsewhere, perhaps, or is another server's.
        let caches = &self.worker.shared.caches;
        caches.counters.refused.count(Refused::CatalogChanged);
        caches.tell(filling.strict, Fate::Refused(Refused::CatalogChanged));
        None
    }

    /// What it waited for is there, or has not come in time.
    pub(in crate::session) fn wait_no_longer(&mut self) {
        if self.caching.as_deref_mut().is_some_and(|caching| std::mem::take(&mut caching.waits)) {
            self.look_again = true;
            self.worker.watch(&self.ctl, None);
            self.shows_that_it_waits(State::Idle, Instant::now());
        }
    }

    /// Its request is not looked at again: what it has waited for is good for no other one.
    pub(in crate::session) fn forget_wait(&mut self) {
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.waited = Waited::default();
        }
    }

    /// It waits until it is woken, or until this moment at the latest, and looks at its request again then.
    pub(super) fn wait_for_answer(&mut self, until: Option<Instant>, now: Instant, waited: Waited) {
        let caching = self.caching();
        caching.waits = true;
        caching.waited = Waited { since: waited.since.or(Some(now)), ..waited };
        self.worker.watch(&self.ctl, until);
        self.shows_that_it_waits(State::Waiting, now);
    }

    /// Who holds a server shows that.
    fn shows_that_it_waits(&self, state: State, now: Instant) {
        if self.lease.is_none() {
            self.set_state(state, self.now_us(now));
        }
    }

    /// Until when it waits for somebody else's answer: no longer than it might wait for a server, or a server might take for
    /// its own.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let own = self.settings.current().find("statement_timeout").and_then(plain);
        let own = own.and_then(|own| parse_guc_time(&own).ok()).filter(|own| !own.is_zero());
        let request = self.limits.request_timeout.and_then(Bound::enforced);
        let limits = [own, self.statement_limit(), request, Some(self.patience())];
        now.checked_add(limits.into_iter().flatten().fold(PATIENCE, Duration::min))
    }

    /// An answer is there, and `strict` asks for the end of the log first: waits for it.
    ///
    /// # Errors
    /// It does not, because of this.
    pub(super) fn wait_for_end(&mut self, here: &Here, entry: &Entry, moment: Moment) -> Result<(), Miss> {
        // Once; and who only observes keeps nobody waiting.
        if moment.waited.end.is_some() || !moment.mode.serves() {
            return Err(Miss::WaitedInVain);
        }
        let waiter = (self.worker.index, self.ctl.client);
        let cost = Duration::from_micros(entry.cost_us);
        let (ticket, until) = here.cached.ends.wait(waiter, cost, moment.now)?;
        // It is woken at that moment. That of the sweeper, up to a sweep later, is for a control thread that is busy.
        self.wait_for_answer(Some(until), moment.now, Waited { end: Some(ticket), ..moment.waited });
        Ok(())
    }
}
