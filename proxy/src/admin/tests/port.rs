//! An admin port over a real socket, before a proxy that only has a state.

use super::*;

/// A proxy that only has a state.
pub(super) struct Proxy {
    pub(super) draining: AtomicBool,
    /// How often a limit of the tenant was reached.
    pub(super) enforced: AtomicU64,
    pub(super) settings: Mutex<Arc<Settings>>,
    pub(super) clients: Mutex<Vec<ClientState>>,
    /// `None`: the workers do not answer.
    pub(super) upstreams: Mutex<Option<Vec<UpstreamState>>>,
    pub(super) pools: Mutex<Vec<source::PoolState>>,
    pub(super) queue: Mutex<Vec<source::TenantState>>,
    pub(super) acted: Mutex<Vec<source::Action>>,
    pub(super) reloads: Mutex<crate::run::reloads::Reloads>,
    pub(super) caches: crate::cache::Caches,
}

impl StateSource for Proxy {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) {
            Readiness::NotReady(vec!["draining".into()])
        } else {
            Readiness::Ready
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap().clone()
    }

    fn caches(&self) -> &crate::cache::Caches {
        &self.caches
    }

    fn housekeeping(&self) -> Housekeeping {
        Housekeeping { reloads: self.reloads.lock().unwrap().clone(), ..Housekeeping::default() }
    }

    fn pool_states(&self) -> Vec<source::PoolState> {
        self.pools.lock().unwrap().clone()
    }

    fn queue(&self, _: &str, _: &str, limit: usize) -> Vec<source::TenantState> {
        self.queue.lock().unwrap().iter().take(limit).cloned().collect()
    }

    fn act(&self, action: source::Action) -> StateFuture<Result<source::Acted, source::Failed>> {
        use crate::commands::CommandError::{UnknownClient, UnknownDatabase};
        use source::{Acted, Action, Failed};
        let outcome = match &action {
            Action::Pause(Some(name)) if name == "slow" => return Box::pin(std::future::pending()),
            Action::Pause(Some(name)) | Action::Resume(Some(name)) | Action::Disable(name) if name == "nowhere" => {
                Err(Failed::Command(UnknownDatabase("nowhere".into())))
            }
            Action::Pause(Some(name)) if name == "resumed" => {
                Err(Failed::Command(crate::commands::CommandError::Resumed))
            }
            Action::Kill(8) | Action::Cancel(8, _) => Err(Failed::Command(UnknownClient(8))),
            Action::Cancel(9, _) => Ok(Acted::Cancelled("idle", true)),
            Action::Cancel(..) => Ok(Acted::Cancelled("active", true)),
            Action::Drain if self.draining.load(Ordering::Relaxed) => Err(Failed::Already),
            _ => Ok(Acted::Done),
        };
        self.acted.lock().unwrap().push(action);
        Box::pin(async move { outcome })
    }

    fn tenancy(&self, _: bool) -> Vec<source::TenantUse> {
        let settings = self.settings();
        let directory = policy::tenant::Directory::new(&settings.tenants);
        let table = policy::limits::LimitTable::new(&settings.tenants, &directory);
        let enforced = self.enforced.load(Ordering::Relaxed);
        let reached = crate::tenancy::Reached { key: config::LimitKey::MaxRows, observed: 3, warned: 0, enforced };
        let own = |class: &str| source::TenantUse {
            tenant: "acme".into(),
            class: class.into(),
            clients: 7,
            joined: 9,
            reached: vec![reached],
            limits: table.explain("acme", class),
            ..source::TenantUse::default()
        };
        vec![own(""), own("worker")]
    }

    fn switches(&self, database: &str) -> source::Switches {
        let pools = self.pools.lock().unwrap();
        let own = || pools.iter().filter(|pool| pool.database == database);
        source::Switches { paused: own().any(|pool| pool.paused), disabled: own().any(|pool| pool.disabled) }
    }

    fn server(&self, database: &str) -> source::ServerState {
        let cached_as = vec![format!("db.internal:5432/{database}")];
        source::ServerState { version: Some("15.8".into()), in_recovery: Some(false), cached_as }
    }

    fn clients(&self, limit: usize) -> StateFuture<Vec<ClientState>> {
        let mut clients = self.clients.lock().unwrap().clone();
        clients.truncate(limit);
        Box::pin(async move { clients })
    }

    fn listeners(&self) -> Vec<ListenerState> {
        vec![ListenerState { database: "shop".into(), state: "listening", channels: 3, ..ListenerState::default() }]
    }

    fn upstreams(&self, limit: usize) -> StateFuture<Vec<UpstreamState>> {
        match self.upstreams.lock().unwrap().clone() {
            Some(mut upstreams) => {
                upstreams.truncate(limit);
                Box::pin(async move { upstreams })
            }
            None => Box::pin(std::future::pending()),
        }
    }
}

/// A running admin port.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) proxy: Arc<Proxy>,
    pub(super) telemetry: Arc<crate::telemetry::Telemetry>,
    pub(super) findings: Arc<FindingsStore>,
    pub(super) context: Arc<AdminContext>,
    pub(super) stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub(super) served: tokio::task::JoinHandle<()>,
}

/// An answer: status, head in lower case, body.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Port {
    pub(super) async fn start(token: Option<&str>, bounds: Bounds) -> Self {
        Self::with_caches(token, bounds, crate::cache::testing::caches()).await
    }

    pub(super) async fn with_caches(token: Option<&str>, bounds: Bounds, caches: crate::cache::Caches) -> Self {
        let telemetry = telemetry_with(bounds, tenants(1_000));
        let findings = Arc::new(FindingsStore::new(100));
        let proxy = Arc::new(Proxy {
            draining: AtomicBool::new(false),
            enforced: AtomicU64::new(1),
            settings: Mutex::new(Arc::new(settings_with(token))),
            clients: Mutex::default(),
            upstreams: Mutex::default(),
            pools: Mutex::default(),
            queue: Mutex::default(),
            acted: Mutex::default(),
            reloads: Mutex::default(),
            caches,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let context = AdminContext {
            audit: crate::admin::Audit::new(telemetry.clock),
            telemetry: Arc::clone(&telemetry),
            findings: Arc::clone(&findings),
            captures: Arc::default(),
            state: Arc::clone(&proxy) as Arc<dyn StateSource>,
            events: Arc::default(),
        };
        let context = Arc::new(context);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, Arc::clone(&context), async move { drop(stopped.await) }));
        Self { address, proxy, telemetry, findings, context, stop: Some(stop), served }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    pub(super) async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.into() }
    }

    /// A plan of a statement, captured once.
    pub(super) fn plan(&self, text: &str, strict: u64) {
        let json = br#"[{"Plan": {"Node Type": "Seq Scan", "Relation Name": "t", "Total Cost": 2.5}}]"#;
        let (database, user, tenant) = ("app".into(), "u".into(), "acme".into());
        let key = policy::observe::plans::Key { strict, database, user, tenant, place: 0 };
        let plan = policy::plan::Plan::read(json).unwrap();
        self.telemetry.plans.put(key, text, plan, self.telemetry.clock.start_us());
    }

    /// Traffic of two tenants on two workers.
    pub(super) fn traffic(&self) {
        let names = tenants_of(&self.telemetry);
        for worker in ["0", "1"] {
            let worker = self.telemetry.worker(worker);
            let pool = worker.pool("app", "al\"i\\ce\n");
            pool.clients.add(3);
            pool.clients_active.up();
            pool.upstreams_idle.add(2);
            pool.pins.increment(PinReason::Listen);
            pool.waits.record(70);
            worker.load().logins.add(3);
            for (strict, tenant, us) in [(1, names[0], 1_000), (2, names[0], 50_000), (1, names[1], 3_000)] {
                let meter = worker.statement(strict, tenant, || text(strict));
                for n in 0..10 {
                    let start_us = self.telemetry.clock.start_us();
                    let error = (n == 9).then_some(Sqlstate::new(b"57014"));
                    meter.record(&Finished {
                        start_us,
                        end_us: start_us + us,
                        server_us: us / 2,
                        rows: 3,
                        error,
                        ..Finished::default()
                    });
                    pool.durations.record(us);
                }
                worker.statement_failed(tenant, Sqlstate::new(b"57014"));
            }
            let own = Finished { end_us: 2_000, server_us: 1_000, rows: 3, bytes_out: 9, ..Finished::default() };
            worker.class(names[0], "worker").record(&own);
            for what in [Rare::StatementTimeout, Rare::QueueTimeout, Rare::Pin] {
                worker.happened(names[0], what);
            }
            worker.refused(Some(&pool), names[0], Sqlstate::new(b"53300"));
        }
    }
}

pub(super) fn tenants_of(telemetry: &crate::telemetry::Telemetry) -> [TenantId; 2] {
    ["acme", "beta"].map(|name| telemetry.tenants.id(name).into())
}

pub(super) fn text(strict: u64) -> StatementText {
    let text = format!("select {strict} from t where a = ?").into();
    StatementText { class: Class::Select, facts: unknown_facts(strict), text }
}
