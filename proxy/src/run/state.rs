//! What the admin port asks of the running proxy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use config::Settings;
use policy::fair::Standing;
use tokio::sync::{oneshot, watch};

use super::ShutdownMode;
use super::doors::Doors;
use super::reloads::{Outcome, Reloader};
use crate::admin::source::{Acted, Action, Failed, PoolState, ServerState, Switches, TenantState, TenantUse};
use crate::admin::{
    ClientState, Housekeeping, ListenerState, Readiness, SocketState, StateFuture, StateSource, UpstreamState,
};
use crate::aside::Kind;
use crate::cache::Caches;
use crate::commands::Commands;
use crate::log::level::Level;
use crate::pool::{DialFailure, Pool};
use crate::shared::Shared;
use crate::worker::Mail;

/// What the admin port asks.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) doors: Arc<Doors>,
    pub(super) log_lines_lost: Arc<AtomicU64>,
    pub(super) reloader: Option<Reloader>,
    pub(super) log_level: Option<Arc<Level>>,
    /// The way to have it stop, as long as its handle is there.
    pub(super) stop: Weak<watch::Sender<Option<ShutdownMode>>>,
}

impl State {
    fn pool_state(&self, pool: &Pool, now: Instant) -> PoolState {
        let settings = pool.settings();
        // Before the ledger's lock: whoever pauses takes them in this order.
        let disabled = self.shared.pools.is_disabled(&pool.database);
        let failure = pool.failure();
        let ledger = pool.ledger();
        let failures = ledger.failures();
        PoolState {
            database: pool.database.to_string(),
            user: pool.user.to_string(),
            size: settings.size,
            open: ledger.open(),
            waiting: ledger.waiting(),
            waiting_for: ledger.waiting_since().map(|since| now.saturating_duration_since(since)),
            queue_timeout: settings.queue_timeout,
            failures,
            failure: failure.filter(|_| failures > 0).as_ref().map(words),
            paused: ledger.is_paused(),
            disabled,
        }
    }

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

/// Has the proxy drain, unless it ends already.
fn drain(stop: &Weak<watch::Sender<Option<ShutdownMode>>>) -> Result<Acted, Failed> {
    let stop = stop.upgrade().ok_or(Failed::Impossible)?;
    let begun = stop.send_if_modified(|mode| {
        let begins = mode.is_none();
        *mode = mode.or(Some(ShutdownMode::Graceful));
        begins
    });
    if begun { Ok(Acted::Done) } else { Err(Failed::Already) }
}

/// Why a connection attempt failed, in a few words.
fn words(failure: &DialFailure) -> String {
    match failure {
        DialFailure::Said { code, message } => format!("{}: {message}", String::from_utf8_lossy(code)),
        DialFailure::Unreachable(failure) => failure.words().to_owned(),
        DialFailure::NoneFits(wanted) => format!("no server is {}", wanted.as_str()),
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
        let short_of_memory = self.shared.short_of_memory.load(Ordering::Relaxed);
        let suspended = self.shared.suspended.load(Ordering::Relaxed);
        let reloads = self.shared.reloads().clone();
        let tenant_table = self.shared.tenant_table.standing();
        Housekeeping { reloads, log_lines_lost, short_of_memory, suspended, side_connections, tenant_table }
    }

    fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    fn caches(&self) -> &Caches {
        &self.shared.caches
    }

    fn act(&self, action: Action) -> StateFuture<Result<Acted, Failed>> {
        let commands = Commands::new(self.shared.clone());
        let stop = self.stop.clone();
        Box::pin(async move {
            let done = match action {
                Action::Pause(database) => commands.pause(database.as_deref()).await,
                Action::Resume(database) => commands.resume(database.as_deref()),
                Action::Reconnect(database) => commands.reconnect(database.as_deref()),
                Action::Disable(database) => commands.disable(&database).await,
                Action::Enable(database) => commands.enable(&database),
                Action::Kill(client) => commands.kill_client(client).await,
                Action::Cancel(client, patience) => {
                    let (was, complete) = commands.cancel_client(client, patience).await.map_err(Failed::Command)?;
                    return Ok(Acted::Cancelled(was, complete));
                }
                Action::Drain => return drain(&stop),
            };
            done.map(|()| Acted::Done).map_err(Failed::Command)
        })
    }

    fn pool_states(&self) -> Vec<PoolState> {
        let now = Instant::now();
        let pools = self.shared.pools.all();
        let own = pools.iter().filter(|pool| pool.replication.is_none());
        let mut states: Vec<PoolState> = own.map(|pool| self.pool_state(pool, now)).collect();
        states.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
        states
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
                let explain = || rules.limits.explain(&self.shared.directory.name(tenant), &class);
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

    fn server(&self, database: &str) -> ServerState {
        let pools = self.shared.pools.of(Some(database));
        let said = |pool: &Arc<Pool>| {
            let welcome = pool.welcome()?;
            let (_, version) = welcome.iter().find(|(name, _)| **name == *b"server_version")?;
            Some(String::from_utf8_lossy(version).into_owned())
        };
        let name = |pool: &Arc<Pool>| {
            let target = pool.target();
            format!("{target}/{}", target.database)
        };
        let own = || pools.iter().filter(|pool| pool.replication.is_none());
        let settings = self.shared.settings();
        let hosts = settings.database(database).map(|known| known.upstream.hosts.as_slice()).unwrap_or_default();
        let known = self.shared.hosts();
        let mut roles = hosts.iter().filter_map(|host| known.is_standby(host));
        let first = roles.next();
        ServerState {
            version: own().find_map(said),
            in_recovery: first.filter(|first| roles.all(|other| other == *first)),
            cached_as: own().map(name).collect(),
        }
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
