//! What the admin port asks of the running proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::Settings;
use policy::fair::Standing;
use tokio::sync::oneshot;

use super::doors::Doors;
use super::reloads::{Outcome, Reloader};
use crate::admin::source::{Switches, TenantState, TenantUse};
use crate::admin::{
    ClientState, Housekeeping, ListenerState, Readiness, SocketState, StateFuture, StateSource, UpstreamState,
};
use crate::aside::Kind;
use crate::log::level::Level;
use crate::shared::Shared;
use crate::worker::Mail;

/// What the admin port asks.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) doors: Arc<Doors>,
    pub(super) log_lines_lost: Arc<AtomicU64>,
    pub(super) reloader: Option<Reloader>,
    pub(super) log_level: Option<Arc<Level>>,
}

impl State {
    fn look(&self, limit: usize) -> impl Future<Output = (Vec<ClientState>, Vec<UpstreamState>)> + Send + use<> {
        let answers: Vec<_> = (0..self.shared.workers.len())
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                self.shared.send(worker, Mail::Look(limit, answer));
                answered
            })
            .collect();
        async move {
            let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
            for answered in answers {
                if let Ok((some, others)) = answered.await {
                    clients.extend(some);
                    upstreams.extend(others);
                }
            }
            clients.truncate(limit);
            upstreams.truncate(limit);
            (clients, upstreams)
        }
    }
}

impl StateSource for State {
    fn readiness(&self) -> Readiness {
        match self.shared.draining.load(Ordering::Relaxed) {
            true => Readiness::NotReady(vec!["draining".to_owned()]),
            false => Readiness::Ready,
        }
    }

    fn housekeeping(&self) -> Housekeeping {
        let log_lines_lost = self.log_lines_lost.load(Ordering::Relaxed);
        let aside = &self.shared.aside;
        let side_connections = Kind::ALL.map(|kind| (kind.label(), aside.of(kind))).into();
        Housekeeping { reloads: self.shared.reloads().clone(), log_lines_lost, side_connections }
    }

    fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    fn tenancy(&self, limits: bool) -> Vec<TenantUse> {
        let rules = self.shared.rules();
        let names = self.shared.telemetry.tenant_names();
        let mut all: Vec<TenantUse> = self
            .shared
            .tenancy
            .all()
            .into_iter()
            .map(|(tenant, class, usage)| {
                let class = rules.resolver.class_name(class).to_owned();
                let explain = || rules.limits.explain(&self.shared.directory.name(tenant), &class, None);
                TenantUse {
                    clients: usage.clients(),
                    joined: usage.joined(),
                    running: usage.running(),
                    reached: usage.limits_reached(),
                    limits: if limits { explain() } else { Vec::new() },
                    tenant: names.name(tenant.into()).to_owned(),
                    class,
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.tenant, &a.class).cmp(&(&b.tenant, &b.class)));
        all
    }

    fn switches(&self, database: &str) -> Switches {
        Switches { paused: self.shared.pools.is_paused(database), disabled: self.shared.pools.is_disabled(database) }
    }

    fn queue(&self, database: &str, user: &str, limit: usize) -> Vec<TenantState> {
        let pool = self.shared.pools.find(database, user);
        let standings = pool.map(|pool| pool.ledger().standings(limit)).unwrap_or_default();
        let state = |standing: Standing| TenantState {
            tenant: self.shared.directory.name(standing.tenant).to_string(),
            waiting: standing.waiting,
            held: standing.held,
            share: standing.share,
        };
        standings.into_iter().map(state).collect()
    }

    fn reload(&self) -> StateFuture<Option<Outcome>> {
        let reloader = self.reloader.clone();
        Box::pin(async move { reloader?.reload().await })
    }

    fn log_level(&self) -> Option<Arc<Level>> {
        self.log_level.clone()
    }

    fn clients(&self, limit: usize) -> StateFuture<Vec<ClientState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.0 })
    }

    fn listeners(&self) -> Vec<ListenerState> {
        self.shared.listeners.states()
    }

    fn sockets(&self) -> Vec<SocketState> {
        self.doors.states()
    }

    fn upstreams(&self, limit: usize) -> StateFuture<Vec<UpstreamState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.1 })
    }
}
