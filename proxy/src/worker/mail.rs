//! What a worker does about its mail.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::verdict::Refusal;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};

use super::{FRESH, Mail, Whom, Worker, drain_when_settled};
use crate::admin::source::{ClientState, TlsState, UpstreamState};
use crate::cancel::Whose;
use crate::control::Order;
use crate::listen::News;
use crate::pool::{LocalPool, Pool};
use crate::replication;
use crate::session;
use crate::session::ctl::Ctl;
use crate::upstream::{CancelFate, Upstream};

impl Worker {
    /// Opens a letter.
    pub(super) fn open(self: &Rc<Self>, letter: Mail) {
        match letter {
            Mail::Client(arrival) => session::begin(self, *arrival),
            Mail::Replication(arrival, shipped) => replication::begin(self, *arrival, *shipped),
            Mail::Upstream(pool, shipped, ticket) => self.land(&pool, *shipped, ticket),
            Mail::Failed(ticket, refusal) => self.fail(ticket, refusal),
            Mail::Kill(whom, token) => self.kill(&whom, &token),
            Mail::Sweep(pool) => self.sweep_pool(&self.pool(&pool)),
            Mail::MakeRoom(pool) => self.yield_oldest(&self.pool(&pool)),
            Mail::Forget(pool) => self.forget_pool(pool),
            Mail::Share(pool) => self.share(&pool),
            Mail::Cancel { whose, key, done } => self.cancel_requested(whose, &key, done),
            Mail::CancelClient { client, done, found } => self.cancel_client(client, done, found),
            Mail::Cancelled(upstream, fate) => self.cancelled(upstream, fate),
            Mail::StandIn { client, number, state } => self.news(&[client], &News::StandIn { number, state }),
            Mail::Whose(process, answer) => drop(answer.send(self.pool_of(process))),
            Mail::Struck { process, terminate, done } => self.struck(process, terminate, done),
            Mail::News(letters) => letters.iter().for_each(|(clients, news)| self.news(clients, news)),
            Mail::Landed(clients) => self.landed(&clients),
            Mail::Inspected(pool) => self.pool(&pool).reload_suspects(),
            Mail::Reload => self.reload(),
            Mail::Suspend(token) => self.suspend(token.as_ref()),
            Mail::Drain => self.drain(),
            Mail::Stop => self.stop(),
            Mail::Look(limit, answer) => drop(answer.send(self.look(limit))),
        }
    }

    fn kill(&self, whom: &Whom, token: &mpsc::UnboundedSender<()>) {
        let sessions = self.sessions.borrow();
        let meant = |ctl: &&Rc<Ctl>| match whom {
            Whom::Client(client) => ctl.client == *client,
            Whom::Database(name) => name.as_ref().is_none_or(|name| ctl.face.database == *name),
        };
        for ctl in sessions.values().filter(meant) {
            // Nobody listens: whoever gave the command has gone, and it is carried out all the same.
            if token.send(()).is_ok() {
                ctl.mourners.borrow_mut().push(token.clone());
            }
            *ctl.kill.borrow_mut() = Some(Refusal::Killed.into());
            ctl.wake();
        }
    }

    /// A client waits, of another worker as a rule. Several may have asked this worker for the same upstream: who gets none
    /// of it is served by the next worker that has some. A letter goes on only to where something idles.
    fn share(self: &Rc<Self>, pool: &Arc<Pool>) {
        self.wake_if_needed(pool);
        self.serve(&self.pool(pool), Instant::now());
        if pool.ledger().is_wanted()
            && let Some(other) = pool.idle_elsewhere(self.index)
        {
            self.shared.send(other, Mail::Share(pool.clone()));
        }
    }

    /// These clients need not wait for somebody else's answer any longer.
    fn landed(&self, clients: &[u64]) {
        let sessions = self.sessions.borrow();
        for ctl in clients.iter().filter_map(|client| sessions.get(client)) {
            ctl.landed.set(true);
            ctl.wake();
        }
    }

    /// The rules for idle upstreams of this pool have changed: they hold at once.
    fn sweep_pool(self: &Rc<Self>, pool: &Rc<LocalPool>) {
        let now = Instant::now();
        self.wake_all(pool);
        super::sweep::idle_of(self, pool, now);
        self.serve(pool, now);
        self.dial_again(pool, now);
    }

    /// A pool is no longer known: nobody is in it.
    fn forget_pool(&self, pool: usize) {
        let mut pools = self.pools.borrow_mut();
        if pools.get(&pool).is_some_and(|pool| pool.idle() == 0) {
            pools.remove(&pool);
        }
    }

    /// Leaves a request to cancel with the session, which alone knows what it is doing.
    fn cancel_requested(&self, whose: Whose, key: &[u8], done: oneshot::Sender<()>) {
        let ctl = match whose {
            Whose::Process { process, .. } => self.clients.borrow().get(&process).cloned(),
            Whose::Client(addressee) => self.sessions.borrow().get(&addressee.client).cloned(),
        };
        match ctl.filter(|ctl| bool::from(ctl.key().ct_eq(key))) {
            Some(ctl) => {
                ctl.cancel.borrow_mut().push(done);
                ctl.wake();
            }
            None => self.telemetry.load().cancels_unknown.increment(),
        }
    }

    /// Leaves an operator's cancel with the session. Nobody is told where the client is not here.
    fn cancel_client(&self, client: u64, done: oneshot::Sender<()>, found: mpsc::UnboundedSender<&'static str>) {
        let Some(ctl) = self.sessions.borrow().get(&client).cloned() else { return };
        // Who asked may have given up.
        _ = found.send(ctl.state.get().0.word());
        ctl.cancel.borrow_mut().push(done);
        ctl.wake();
    }

    /// The pool of the client that was told this process id.
    fn pool_of(&self, process: u32) -> Option<Arc<Pool>> {
        let clients = self.clients.borrow();
        let face = &clients.get(&process)?.face;
        let pools = self.pools.borrow();
        let pool =
            pools.values().find(|pool| (&pool.shared.database, &pool.shared.user) == (&face.database, &face.user))?;
        Some(pool.shared.clone())
    }

    fn struck(&self, process: u32, terminate: bool, done: oneshot::Sender<()>) {
        let Some(ctl) = self.clients.borrow().get(&process).cloned() else { return };
        if terminate {
            *ctl.kill.borrow_mut() = Some(Refusal::Terminated.into());
            let (mourner, mut ended) = mpsc::unbounded_channel();
            ctl.mourners.borrow_mut().push(mourner);
            tokio::task::spawn_local(async move {
                // Nothing is ever said: it ends when the session does.
                let _: Option<()> = ended.recv().await;
                drop(done);
            });
        } else {
            ctl.cancel.borrow_mut().push(done);
        }
        ctl.wake();
    }

    /// Has the control thread cancel what an upstream runs. It is not reused until that has ended; then `done` is dropped.
    pub fn cancel(&self, upstream: &mut Upstream, client: u64, done: Vec<oneshot::Sender<()>>) {
        upstream.cancels.begin();
        self.cancelling.borrow_mut().insert(upstream.id, (upstream.cancels.clone(), client));
        self.order(Order::Cancel {
            target: upstream.cancel.clone(),
            epoch: upstream.cancel.epoch(),
            upstream: upstream.id,
            worker: self.index,
            done,
        });
    }

    fn cancelled(self: &Rc<Self>, id: u64, fate: CancelFate) {
        let Some((cancels, client)) = self.cancelling.borrow().get(&id).cloned() else { return };
        cancels.end(fate);
        if cancels.are_under_way() {
            return;
        }
        self.cancelling.borrow_mut().remove(&id);
        let waiting = self.quarantine.borrow_mut().remove(&id);
        if let Some((pool, upstream)) = waiting {
            return self.check_in(&pool, upstream, Instant::now());
        }
        // Its client may be waiting to go on.
        if let Some(ctl) = self.sessions.borrow().get(&client) {
            ctl.wake();
        }
    }

    fn news(&self, clients: &[u64], news: &News) {
        let sessions = self.sessions.borrow();
        for ctl in clients.iter().filter_map(|client| sessions.get(client)) {
            ctl.news.borrow_mut().push(news.clone());
            ctl.wake();
        }
    }

    fn reload(&self) {
        *self.rules.borrow_mut() = self.shared.rules();
        for pool in self.pools.borrow().values() {
            pool.reload();
            pool.follow(&self.shared.caches);
        }
        for ctl in self.sessions.borrow().values() {
            ctl.reload.set(true);
            ctl.wake();
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        let now = self.micros(Instant::now());
        for ctl in self.sessions.borrow().values() {
            let served = Duration::from_micros(now.saturating_sub(ctl.face.connected_us));
            match FRESH.checked_sub(served) {
                Some(left) => drain_when_settled(ctl, left),
                None => {
                    ctl.drain.set(true);
                    ctl.wake();
                }
            }
        }
    }

    fn stop(&self) {
        self.draining.set(true);
        for ctl in self.sessions.borrow().values() {
            *ctl.kill.borrow_mut() = Some(Refusal::ShuttingDown.into());
            ctl.wake();
        }
    }

    /// What is here, for the admin port.
    fn look(&self, limit: usize) -> (Vec<ClientState>, Vec<UpstreamState>) {
        let sessions = self.sessions.borrow();
        let clients = sessions.values().take(limit).map(|ctl| {
            let (state, state_since_us) = ctl.state.get();
            ClientState {
                id: ctl.client,
                worker: self.index,
                database: ctl.face.database.to_string(),
                user: ctl.face.user.to_string(),
                application: ctl.face.application.to_string(),
                address: ctl.face.ends.peer().to_owned(),
                local: ctl.face.ends.local(),
                descriptor: ctl.descriptor.get(),
                tls: ctl.face.tls.as_ref().map(|tls| TlsState {
                    version: tls.version.to_string(),
                    cipher: tls.cipher,
                    server_name: tls.server_name.as_deref().map(str::to_owned),
                }),
                tenant: self.shared.directory.name(ctl.tenant.get()).to_string(),
                state: state.word(),
                connected_us: ctl.face.connected_us,
                state_since_us,
                upstream: ctl.upstream.get().map(|held| held.id),
                held_since_us: ctl.upstream.get().map_or(0, |held| held.since_us),
                pinned: ctl.pinned.get().map(|(reason, _)| reason),
                pinned_by: ctl.pinned.get().and_then(|(_, by)| (by != 0).then(|| format!("{by:016x}"))),
                statement: Some(ctl.statement.get())
                    .filter(|strict| *strict != 0)
                    .map(|strict| format!("{strict:016x}")),
                prepared_statements: ctl.prepared.get() as usize,
                channels: ctl.channels.get() as usize,
            }
        });
        let pools = self.pools.borrow();
        let held = sessions.values().filter_map(|ctl| {
            let held = ctl.upstream.get()?;
            let (_, state_since_us) = ctl.state.get();
            let pool = pools
                .values()
                .find(|pool| (&pool.shared.database, &pool.shared.user) == (&ctl.face.database, &ctl.face.user));
            let server = pool.and_then(|pool| pool.shared.servers.find(held.server));
            Some(UpstreamState {
                id: held.id,
                worker: self.index,
                database: ctl.face.database.to_string(),
                user: ctl.face.user.to_string(),
                address: server.as_ref().map_or_else(String::new, ToString::to_string),
                remote: server.as_ref().and_then(|server| server.socket_addr()),
                local: server.as_ref().and_then(|server| server.local(held.local_port)),
                descriptor: held.descriptor,
                retired: server.is_some_and(|server| server.is_retired()),
                tls: held.tls,
                state: "active",
                connected_us: held.opened_us,
                state_since_us,
                client: Some(ctl.client),
                backend_pid: Some(held.process),
                prepared_statements: held.prepared as usize,
            })
        });
        let mut upstreams: Vec<UpstreamState> = held.take(limit).collect();
        for pool in pools.values() {
            let room = limit.saturating_sub(upstreams.len());
            upstreams.extend(pool.idle_states(&self.shared.telemetry.clock).into_iter().take(room));
        }
        (clients.collect(), upstreams)
    }
}
