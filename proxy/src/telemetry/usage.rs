//! What is counted for each application and each route, beside what is counted for each statement.
//!
//! Statements tell what is slow; these tell whose work it is. Both are bounded: names come from clients.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::cell::Counter;
use super::histogram::{Distribution, Histogram};
use super::pool::PoolTotals;
use super::snapshot::OTHERS;
use super::statement::Finished;
use super::worker::{Map, WorkerShared};
use super::{Telemetry, TenantId, WorkerTelemetry, lock};

/// Applications, and routes, that have a row of their own; further ones share one.
pub const MAX_ROWS: usize = 1_000;
/// The longest name that is kept, in bytes; of a longer one, its beginning.
const MAX_NAME: usize = 128;

/// Spellings of routes that a thread remembers, and the longest of them in bytes.
const MAX_SPELLINGS: usize = 10_000;
const MAX_SPELLED: usize = 3 * MAX_NAME;

/// Counters of one application or route on one thread.
#[derive(Debug)]
pub(super) struct UsageCell {
    name: Box<str>,
    errors: Counter,
    rows: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    queue_us: Counter,
    server_us: Counter,
    back_pressure_us: Counter,
    durations: Histogram,
}

impl UsageCell {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            errors: Counter::default(),
            rows: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            queue_us: Counter::default(),
            server_us: Counter::default(),
            back_pressure_us: Counter::default(),
            durations: Histogram::default(),
        }
    }

    fn merge_into(&self, into: &mut Usage) {
        into.errors += self.errors.value();
        into.rows += self.rows.value();
        into.bytes_in += self.bytes_in.value();
        into.bytes_out += self.bytes_out.value();
        into.queue_us += self.queue_us.value();
        into.server_us += self.server_us.value();
        into.back_pressure_us += self.back_pressure_us.value();
        self.durations.merge_into(&mut into.durations);
    }
}

/// A thread's handle to the counters of one application or route. Cheap to clone; cannot leave its thread, because the
/// counters have one writer.
#[derive(Debug, Clone)]
pub struct UsageMeter {
    cell: Arc<UsageCell>,
    one_thread: PhantomData<Rc<()>>,
}

impl UsageMeter {
    fn new(cell: Arc<UsageCell>) -> Self {
        Self { cell, one_thread: PhantomData }
    }

    /// Counts one finished statement. No allocation, no lock, no clock.
    #[inline]
    pub fn record(&self, finished: &Finished) {
        let cell = &*self.cell;
        cell.errors.add(u64::from(finished.error.is_some()));
        cell.rows.add(finished.rows);
        cell.bytes_in.add(finished.bytes_in);
        cell.bytes_out.add(finished.bytes_out);
        cell.queue_us.add(finished.queue_us);
        cell.server_us.add(finished.server_us);
        cell.back_pressure_us.add(finished.back_pressure_us);
        cell.durations.record(finished.total_us());
    }
}

/// A route as a statement carries it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteTag {
    /// Its id in events; 0: none, or beyond the bound.
    pub id: u32,
    /// Which of its thread's counters are its; 0: it has no route.
    slot: u16,
}

/// The slot of all routes that have no row of their own.
const OTHER_ROUTES: u16 = MAX_ROWS as u16 + 1;

/// What one thread knows of applications and routes.
#[derive(Debug, Default)]
pub(super) struct Usages {
    applications: RefCell<Map<u32, UsageMeter>>,
    routes: RefCell<Routes>,
    classes: RefCell<Map<(TenantId, Box<str>), UsageMeter>>,
}

#[derive(Debug, Default)]
struct Routes {
    /// By how comments spell them, at most [`MAX_SPELLINGS`].
    known: Map<Rc<[u8]>, RouteTag>,
    /// The one asked for last: a program often runs several statements for one route.
    last: Option<(Rc<[u8]>, RouteTag)>,
    /// By slot.
    meters: Vec<Option<UsageMeter>>,
}

impl WorkerTelemetry {
    /// This thread's counters of an application, by its `application_name`, as a client of this tenant names it. Miss path:
    /// keep the meter.
    pub fn application(&self, tenant: TenantId, name: &str) -> UsageMeter {
        let name = beginning(name);
        let interned = self.telemetry().applications.intern_of(tenant, name.into(), || name.into());
        let shown = if interned.id == 0 { OTHERS } else { name };
        let mut applications = self.usages.applications.borrow_mut();
        let new = || register(shown, |shared| &shared.applications, &self.shared);
        applications.entry(interned.id).or_insert_with(new).clone()
    }

    /// This thread's counters of a tenant's statements of one class of work. Miss path: keep the meter. Tenants are bounded
    /// by their directory, and the names of classes come from the configuration.
    pub fn class(&self, tenant: TenantId, class: &str) -> UsageMeter {
        let mut classes = self.usages.classes.borrow_mut();
        let new = || {
            let cell = Arc::new(UsageCell::new(class));
            lock(&self.shared.classes).push((tenant, Arc::clone(&cell)));
            UsageMeter::new(cell)
        };
        classes.entry((tenant, class.into())).or_insert_with(new).clone()
    }

    /// The route, controller or job that a comment of this tenant's spells like this, and which `read` gives as text. A
    /// spelling that this thread knows costs no lock and no allocation.
    pub fn route<'a>(&self, tenant: TenantId, spelled: &[u8], read: impl FnOnce() -> Cow<'a, str>) -> RouteTag {
        let mut routes = self.usages.routes.borrow_mut();
        if let Some((last, tag)) = &routes.last
            && **last == *spelled
        {
            return *tag;
        }
        if let Some((spelled, tag)) = routes.known.get_key_value(spelled).map(|(spelled, tag)| (spelled.clone(), *tag))
        {
            routes.last = Some((spelled, tag));
            return tag;
        }
        let read = read();
        let name = beginning(&read);
        let id = self.telemetry().route(tenant, name);
        let counted =
            if id == 0 { 0 } else { self.telemetry().counted_routes.intern_of(tenant, name.into(), || ()).id };
        let own = u16::try_from(counted).ok().filter(|slot| (1..OTHER_ROUTES).contains(slot));
        let tag = RouteTag { id, slot: own.unwrap_or(OTHER_ROUTES) };
        // What is beyond the bound is not kept anywhere.
        if id != 0 && routes.known.len() < MAX_SPELLINGS && spelled.len() <= MAX_SPELLED {
            routes.known.insert(spelled.into(), tag);
        }
        tag
    }

    /// Counts one finished statement for its route.
    #[inline]
    pub fn record_route(&self, route: RouteTag, finished: &Finished) {
        if route.slot == 0 {
            return;
        }
        let mut routes = self.usages.routes.borrow_mut();
        match routes.meters.get(usize::from(route.slot)) {
            Some(Some(meter)) => meter.record(finished),
            _ => self.new_route(&mut routes, route, finished),
        }
    }

    #[cold]
    fn new_route(&self, routes: &mut Routes, route: RouteTag, finished: &Finished) {
        let name = self.telemetry().routes.by_id(route.id).filter(|_| route.slot != OTHER_ROUTES);
        let name = name.as_deref().map_or(OTHERS, |name| &**name);
        let meter = register(name, |shared| &shared.routes, &self.shared);
        meter.record(finished);
        let slot = usize::from(route.slot);
        if routes.meters.len() <= slot {
            routes.meters.resize(slot + 1, None);
        }
        if let Some(place) = routes.meters.get_mut(slot) {
            *place = Some(meter);
        }
    }
}

/// The cells that a thread has registered for readers.
pub(super) type Registered = std::sync::Mutex<Vec<Arc<UsageCell>>>;

/// The same, of tenants' classes.
pub(super) type RegisteredClasses = std::sync::Mutex<Vec<(TenantId, Arc<UsageCell>)>>;

fn register(name: &str, list: impl Fn(&WorkerShared) -> &Registered, shared: &WorkerShared) -> UsageMeter {
    let cell = Arc::new(UsageCell::new(name));
    lock(list(shared)).push(Arc::clone(&cell));
    UsageMeter::new(cell)
}

fn beginning(name: &str) -> &str {
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// What the statements of one application, route or database came to, added up over all threads. Times in µs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Statements that failed.
    pub errors: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Waiting for an upstream or a turn.
    pub queue_us: u64,
    /// In the server.
    pub server_us: u64,
    /// Waiting for clients to take their rows.
    pub back_pressure_us: u64,
    /// How long statements took; its count is how many there were.
    pub durations: Distribution,
}

impl Usage {
    /// Adds what a pool has counted.
    pub fn add_pool(&mut self, pool: &PoolTotals) {
        self.errors += pool.statement_errors;
        self.rows += pool.rows;
        self.bytes_in += pool.bytes_in;
        self.bytes_out += pool.bytes_out;
        self.queue_us += pool.queue_us;
        self.server_us += pool.server_us;
        self.back_pressure_us += pool.back_pressure_us;
        self.durations.merge(&pool.durations);
    }
}

impl Telemetry {
    /// Every application that has run a statement; those beyond the bound are [`OTHERS`]. In no order.
    pub fn applications(&self) -> Vec<(String, Usage)> {
        self.usages(|shared| &shared.applications)
    }

    /// Every route that statements named, in the same way.
    pub fn routes(&self) -> Vec<(String, Usage)> {
        self.usages(|shared| &shared.routes)
    }

    /// Every class of work of every tenant that has run a statement of it, by their names.
    pub fn classes(&self) -> BTreeMap<(String, String), Usage> {
        let mut rows: Map<(TenantId, String), Usage> = Map::default();
        for worker in self.each_worker() {
            let cells = lock(&worker.classes).clone();
            for (tenant, cell) in &cells {
                cell.merge_into(rows.entry((*tenant, cell.name.to_string())).or_default());
            }
        }
        let names = self.tenant_names();
        let ran = rows.into_iter().filter(|(_, usage)| usage.durations.count() > 0);
        ran.map(|((tenant, class), usage)| ((names.name(tenant).to_owned(), class), usage)).collect()
    }

    /// Every database, from its pools: bytes are all that went over its clients' connections.
    pub fn databases(&self) -> Vec<(String, Usage)> {
        let mut rows: Map<String, Usage> = Map::default();
        for pool in self.pools() {
            rows.entry(pool.name.database.into()).or_default().add_pool(&pool.totals);
        }
        shown(rows)
    }

    fn usages(&self, list: impl Fn(&WorkerShared) -> &Registered) -> Vec<(String, Usage)> {
        let mut rows: Map<String, Usage> = Map::default();
        for worker in self.each_worker() {
            let cells = lock(list(&worker)).clone();
            cells.iter().for_each(|cell| cell.merge_into(rows.entry(cell.name.to_string()).or_default()));
        }
        shown(rows)
    }
}

fn shown(rows: Map<String, Usage>) -> Vec<(String, Usage)> {
    rows.into_iter().filter(|(_, usage)| usage.durations.count() > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{telemetry_with, tenants};
    use super::super::{Bounds, Sqlstate};
    use super::*;

    fn finished(us: u64) -> Finished {
        let error = (us == 7).then_some(Sqlstate::UNKNOWN);
        Finished {
            end_us: us,
            queue_us: 1,
            server_us: 2,
            rows: 3,
            bytes_in: 4,
            bytes_out: 5,
            error,
            ..Finished::default()
        }
    }

    fn route(worker: &WorkerTelemetry, name: &str) -> RouteTag {
        worker.route(TenantId(1), name.as_bytes(), || name.into())
    }

    fn by_name(rows: Vec<(String, Usage)>) -> BTreeMap<String, Usage> {
        rows.into_iter().collect()
    }

    #[test]
    fn applications_are_added_up_over_threads() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        for name in ["0", "1"] {
            let worker = telemetry.worker(name);
            worker.application(TenantId(1), "web").record(&finished(7));
            worker.application(TenantId(1), "web").record(&finished(100));
        }
        telemetry.worker("2").application(TenantId(1), "").record(&finished(1));
        telemetry.worker("2").application(TenantId(1), "idle");
        let rows = by_name(telemetry.applications());
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["", "web"]);
        let web = &rows["web"];
        assert_eq!((web.durations.count(), web.errors, web.rows, web.durations.sum_us), (4, 2, 12, 214));
        assert_eq!((web.queue_us, web.server_us, web.bytes_in, web.bytes_out), (4, 8, 16, 20));
    }

    #[test]
    fn names_that_clients_invent_share_a_row() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        let worker = telemetry.worker("0");
        for n in 0..MAX_ROWS as u32 + 50 {
            // Each of another tenant's: there is room for many who have little.
            worker.application(TenantId(n), &format!("app {n}")).record(&finished(1));
            let route = format!("/route/{n}");
            worker.record_route(worker.route(TenantId(n), route.as_bytes(), || (&*route).into()), &finished(1));
        }
        for rows in [telemetry.applications(), telemetry.routes()] {
            assert_eq!(rows.len(), MAX_ROWS + 1);
            assert_eq!(by_name(rows)[OTHERS].durations.count(), 50);
        }
        assert_eq!(telemetry.applications.turned_away(), 50);
        let long = "é".repeat(MAX_NAME);
        assert_eq!(beginning(&long).len(), MAX_NAME);
        assert_eq!(beginning(&format!("x{long}")).len(), MAX_NAME - 1, "no half character");
    }

    #[test]
    fn routes_beyond_what_events_can_name_are_counted_too() {
        let telemetry = telemetry_with(Bounds { routes: 1, ..Bounds::default() }, tenants(1));
        let worker = telemetry.worker("0");
        let [one, two] = ["/one", "/two"].map(|name| route(&worker, name));
        assert_eq!((one.id != 0, two.id), (true, 0));
        assert_eq!(route(&worker, "/one"), one);
        assert_eq!(worker.route(TenantId(1), b"%2Fone", || "/one".into()), one, "the same in another spelling");
        assert_eq!(worker.route(TenantId(1), b"%2Fone", || panic!("read twice")), one);
        for route in [one, two, RouteTag::default()] {
            worker.record_route(route, &finished(1));
        }
        let rows = by_name(telemetry.routes());
        assert_eq!(rows.keys().collect::<Vec<_>>(), [OTHERS, "/one"], "a statement without a route is in no row");
    }

    #[test]
    fn one_tenants_names_leave_room_for_those_of_others() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        let worker = telemetry.worker("0");
        for n in 0..20_000 {
            worker.application(TenantId(1), &format!("app {n}"));
            route(&worker, &format!("/route/{n}"));
        }
        worker.application(TenantId(2), "web").record(&finished(1));
        let home = worker.route(TenantId(2), b"/home", || "/home".into());
        worker.record_route(home, &finished(1));
        assert_ne!(home.id, 0, "events can name it");
        for (rows, name) in [(telemetry.applications(), "web"), (telemetry.routes(), "/home")] {
            assert_eq!(by_name(rows)[name].durations.count(), 1);
        }
    }

    #[test]
    fn classes_of_tenants_are_told_apart_and_added_up_over_threads() {
        let telemetry = telemetry_with(Bounds::default(), tenants(2));
        let [acme, beta] = ["acme", "beta"].map(|name| TenantId::from(telemetry.tenants.id(name)));
        for name in ["0", "1"] {
            let worker = telemetry.worker(name);
            worker.class(acme, "worker").record(&finished(7));
            worker.class(acme, "worker").record(&finished(9));
            worker.class(acme, "interactive").record(&finished(9));
        }
        telemetry.worker("2").class(beta, "worker").record(&finished(9));
        telemetry.worker("2").class(beta, "interactive");
        let rows = telemetry.classes();
        let found: Vec<_> = rows.iter().map(|((tenant, class), usage)| (&**tenant, &**class, usage.rows)).collect();
        assert_eq!(found, [("acme", "interactive", 6), ("acme", "worker", 12), ("beta", "worker", 3)]);
        let worker = &rows[&("acme".to_owned(), "worker".to_owned())];
        assert_eq!((worker.durations.count(), worker.errors, worker.server_us), (4, 2, 8));
    }

    #[test]
    fn a_database_is_all_its_pools() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        let worker = telemetry.worker("0");
        for (database, user) in [("app", "a"), ("app", "b"), ("other", "a")] {
            worker.pool(database, user).finished(&finished(100));
        }
        worker.pool("unused", "a");
        let rows = by_name(telemetry.databases());
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["app", "other"]);
        let app = &rows["app"];
        assert_eq!((app.durations.count(), app.rows, app.queue_us, app.server_us), (2, 6, 2, 4));
    }
}
