//! One worker's part of a pool: the upstreams that idle with it, and what it has last heard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::suspects::Suspects;
use wire::params::Settings;

use super::Pool;
use crate::admin::source::UpstreamState;
use crate::cache::{Caches, here::Here};
use crate::telemetry::{Clock, PoolMeter};
use crate::upstream::Upstream;

/// One worker's part of a pool.
#[derive(Debug)]
pub struct LocalPool {
    /// What all workers share.
    pub shared: Arc<Pool>,
    /// This worker's counters.
    pub meter: PoolMeter,
    worker: usize,
    settings: RefCell<Arc<config::Pool>>,
    /// Which functions change the session that calls them, as this worker last heard.
    suspects: RefCell<Arc<Suspects>>,
    /// The version of that set: 0 means that no statement need be looked at.
    suspects_version: Cell<u64>,
    /// Last in, first out: the warmest is on top, and what is not needed ages at the bottom.
    #[expect(clippy::vec_box, reason = "upstreams change places by pointer; they are several hundred bytes")]
    idle: RefCell<Vec<Box<Upstream>>>,
    /// What is known of its database for the cache; `None`: nothing is followed.
    here: RefCell<Option<Rc<Here>>>,
}

impl LocalPool {
    /// This worker's part, empty.
    pub fn new(shared: Arc<Pool>, meter: PoolMeter, worker: usize) -> Self {
        let settings = RefCell::new(shared.settings());
        let suspects = shared.inspection.suspects();
        let suspects_version = Cell::new(suspects.version());
        let suspects = RefCell::new(suspects);
        Self {
            shared,
            meter,
            worker,
            settings,
            suspects,
            suspects_version,
            idle: RefCell::default(),
            here: RefCell::default(),
        }
    }

    /// Its settings, as this worker last heard.
    pub fn settings(&self) -> Arc<config::Pool> {
        self.settings.borrow().clone()
    }

    /// When upstreams are given back.
    #[inline]
    pub fn mode(&self) -> config::PoolMode {
        self.settings.borrow().mode
    }

    /// How long a client may wait.
    pub fn queue_timeout(&self) -> Duration {
        self.settings.borrow().queue_timeout
    }

    /// What is known of its database for the cache.
    pub fn here(&self) -> Option<Rc<Here>> {
        self.here.borrow().clone()
    }

    /// Whether its database is followed for the cache.
    #[inline]
    pub fn follows(&self) -> bool {
        self.here.borrow().is_some()
    }

    /// Where its database is may have changed.
    pub fn follow(&self, caches: &Caches) {
        let now = caches.of(&self.shared);
        let mut here = self.here.borrow_mut();
        let same = match (&*here, &now) {
            (Some(here), Some(now)) => Arc::ptr_eq(&here.cached, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *here = now.map(|cached| Rc::new(Here::new(cached)));
        }
    }

    /// Looks up the shared settings again.
    pub fn reload(&self) {
        *self.settings.borrow_mut() = self.shared.settings();
        self.reload_suspects();
    }

    /// Looks up again which functions change the session that calls them.
    pub fn reload_suspects(&self) {
        let suspects = self.shared.inspection.suspects();
        self.suspects_version.set(suspects.version());
        *self.suspects.borrow_mut() = suspects;
    }

    /// The version of [`Self::suspects`]; 0: there are none.
    #[inline]
    pub fn suspects_version(&self) -> u64 {
        self.suspects_version.get()
    }

    /// Which functions change the session that calls them.
    pub fn suspects(&self) -> Arc<Suspects> {
        self.suspects.borrow().clone()
    }

    /// Takes the idle upstream that suits best: the topmost with just these settings, else the topmost.
    #[inline]
    pub fn pop(&self, wanted: &Rc<Settings>) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let suits = |upstream: &Upstream| Rc::ptr_eq(upstream.settings.current(), wanted);
        let taken = match idle.last() {
            None => return None,
            Some(top) if suits(top) => idle.pop(),
            Some(_) => match idle.iter().rposition(|upstream| suits(upstream)) {
                Some(at) => Some(idle.remove(at)),
                None => idle.pop(),
            },
        };
        self.shared.publish_idle(self.worker, idle.len());
        self.meter.upstreams_idle.set(idle.len() as i64);
        taken
    }

    /// Puts a clean upstream on top.
    #[inline]
    pub fn push(&self, upstream: Box<Upstream>) {
        let mut idle = self.idle.borrow_mut();
        idle.push(upstream);
        self.shared.publish_idle(self.worker, idle.len());
        self.meter.upstreams_idle.set(idle.len() as i64);
    }

    /// Upstreams idle here.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The idle upstreams, for the admin port.
    pub fn idle_states(&self, clock: &Clock) -> Vec<UpstreamState> {
        let idle = self.idle.borrow();
        let state = |upstream: &Upstream| UpstreamState {
            id: upstream.id,
            worker: self.worker,
            database: self.shared.database.to_string(),
            user: self.shared.user.to_string(),
            address: upstream.cancel.server.to_string(),
            remote: upstream.cancel.server.socket_addr(),
            local: upstream.cancel.local,
            descriptor: upstream.stream.descriptor(),
            retired: upstream.is_retired(),
            tls: upstream.cancel.tls.is_some(),
            state: "idle",
            connected_us: clock.micros(upstream.opened),
            state_since_us: clock.micros(upstream.used),
            client: None,
            backend_pid: Some(upstream.cancel.process),
            prepared_statements: upstream.prepared.len(),
        };
        idle.iter().map(|upstream| state(upstream)).collect()
    }

    /// Takes out the idle upstreams that `gone` says are of no use any more.
    pub fn take_out(&self, mut gone: impl FnMut(&mut Upstream) -> bool) -> Vec<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(upstream) = idle.get_mut(at) {
            if gone(upstream) { taken.push(idle.remove(at)) } else { at += 1 }
        }
        self.shared.publish_idle(self.worker, idle.len());
        self.meter.upstreams_idle.set(idle.len() as i64);
        taken
    }

    /// Takes out the upstream that has been idle for longest.
    pub fn take_oldest(&self) -> Option<Box<Upstream>> {
        let mut first = true;
        self.take_out(|_| std::mem::take(&mut first)).pop()
    }

    /// Whether an upstream has been idle for so long that it has to give a sign of life before it is used.
    pub fn is_doubtful(&self, upstream: &Upstream, now: Instant) -> bool {
        let after = self.settings.borrow().health_check_after;
        !after.is_zero() && now.saturating_duration_since(upstream.used) > after
    }

    /// Whether an idle upstream has had its time: past its lifetime, or unused for too long while more than the minimum
    /// are open.
    pub fn is_spent(&self, upstream: &Upstream, now: Instant, open: usize) -> bool {
        let settings = self.settings.borrow();
        let unused = now.saturating_duration_since(upstream.used);
        let idle_too_long = !settings.idle_timeout.is_zero() && unused >= settings.idle_timeout;
        upstream.is_expired(now) || (idle_too_long && open > settings.min_size)
    }
}
