//! The analyst's own copies of what ids in events stand for, so that it asks the shared tables once for each.

use std::collections::HashMap;
use std::sync::Arc;

use policy::observe::{self, ColumnName, RouteId, ScopeId, ShapeId};
use rustc_hash::FxBuildHasher;

use crate::capture::sink::Sink;
use crate::telemetry::{Description, EventHeader, Scope, StatementText, Telemetry};

type Map<V> = HashMap<u32, V, FxBuildHasher>;

/// Columns in all copies of descriptions together.
const MAX_COLUMNS: usize = 200_000;
/// Statements that are copied; then they are copied anew. More than there can be rows of by default.
const MAX_STATEMENTS: usize = 65_536;
/// Copies kept of scopes and of descriptions, each. Both come and go with clients, so a full map is emptied: what is
/// still in use comes back with its next event.
const MAX_COPIES: usize = 16_384;

/// What ids in events stand for.
#[derive(Debug)]
pub(super) struct Tables {
    telemetry: Arc<Telemetry>,
    statements: Map<Arc<StatementText>>,
    scopes: Map<KnownScope>,
    routes: Map<Arc<Box<str>>>,
    descriptions: Map<KnownDescription>,
    /// Columns in them.
    columns: usize,
    tenants: Vec<Arc<str>>,
}

/// A scope as the log and as the detector want it.
#[derive(Debug)]
struct KnownScope {
    scope: Arc<Scope>,
    names: observe::Scope,
}

/// A description as the detector wants it.
#[derive(Debug)]
pub(super) struct KnownDescription {
    /// Type OIDs of the parameters; 0: not known.
    pub(super) parameters: Box<[u32]>,
    /// The columns, each in the format that the description says.
    pub(super) columns: Arc<[observe::Column]>,
    /// The columns, all in binary format.
    pub(super) binary_columns: Arc<[observe::Column]>,
}

impl Tables {
    /// Empty tables.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self {
            telemetry,
            statements: Map::default(),
            scopes: Map::default(),
            routes: Map::default(),
            descriptions: Map::default(),
            columns: 0,
            tenants: Vec::new(),
        }
    }

    /// What they were copied from.
    pub(super) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Looks up what this event names and is not known here yet.
    pub(super) fn learn(&mut self, event: &EventHeader) {
        if event.statement != 0
            && !self.statements.contains_key(&event.statement)
            && let Some(statement) = self.telemetry.statements.by_id(event.statement)
        {
            // Rows make room for others, and ids never come back.
            if self.statements.len() >= MAX_STATEMENTS {
                self.statements.clear();
            }
            self.statements.insert(event.statement, statement);
        }
        if event.route != 0
            && !self.routes.contains_key(&event.route)
            && let Some(route) = self.telemetry.routes.by_id(event.route)
        {
            self.routes.insert(event.route, route);
        }
        if event.tenant.0 as usize >= self.tenants.len() {
            self.tenants = self.telemetry.tenants.names();
        }
        self.learn_scope(event.scope);
        self.learn_description(event.description);
    }

    /// What a route is called.
    pub(super) fn known_route(&self, id: u32) -> Option<&str> {
        self.routes.get(&id).map(|name| &***name)
    }

    fn learn_scope(&mut self, id: u32) {
        if id == 0 || self.scopes.contains_key(&id) {
            return;
        }
        let Some(scope) = self.telemetry.scopes.by_id(id) else { return };
        if self.scopes.len() >= MAX_COPIES {
            self.scopes.clear();
        }
        let names = scope.names();
        self.scopes.insert(id, KnownScope { scope, names });
    }

    fn learn_description(&mut self, id: u32) {
        if id == 0 || self.descriptions.contains_key(&id) {
            return;
        }
        let Some(description) = self.telemetry.descriptions.by_id(id) else { return };
        let columns = description.columns.len();
        if self.descriptions.len() >= MAX_COPIES || self.columns + columns > MAX_COLUMNS {
            self.descriptions.clear();
            self.columns = 0;
        }
        self.columns += columns;
        self.descriptions.insert(id, KnownDescription::of(&description));
    }

    /// What a statement's id stands for.
    pub(super) fn statement(&self, id: u32) -> Option<&Arc<StatementText>> {
        self.statements.get(&id)
    }

    /// What a scope's id stands for.
    pub(super) fn known_scope(&self, id: u32) -> Option<&Scope> {
        self.scopes.get(&id).map(|known| &*known.scope)
    }

    /// Has a capture write an event down, with what its ids stand for.
    pub(super) fn put_down(&self, header: &EventHeader, event: &observe::Event<'_>, capture: &mut Sink) {
        let route = self.routes.get(&header.route).map(|name| &***name);
        match (self.statement(header.statement), self.known_scope(header.scope)) {
            (Some(statement), Some(scope)) => capture.event(header, event, scope, (&statement.text, route)),
            _ => capture.unknown(),
        }
    }

    /// What a description's id stands for.
    pub(super) fn description(&self, id: u32) -> Option<&KnownDescription> {
        self.descriptions.get(&id)
    }
}

impl KnownDescription {
    fn of(description: &Description) -> Self {
        let columns = |binary: bool| {
            let column = |column: &crate::telemetry::Column| observe::Column {
                name: column.name.clone(),
                table_oid: column.table,
                attribute: column.attribute,
                type_oid: column.type_oid,
                binary: binary || column.binary,
            };
            description.columns.iter().map(column).collect()
        };
        Self { parameters: description.parameters.clone(), columns: columns(false), binary_columns: columns(true) }
    }
}

impl observe::Directory for Tables {
    fn shape(&self, id: ShapeId) -> Option<(u64, &str)> {
        self.statements.get(&id.0).map(|known| (known.facts.strict, &*known.text))
    }

    fn scope(&self, id: ScopeId) -> Option<&observe::Scope> {
        self.scopes.get(&id.0).map(|known| &known.names)
    }

    fn tenant(&self, id: observe::TenantId) -> Option<&str> {
        self.tenants.get(id.0 as usize).map(|name| &**name)
    }

    fn route(&self, id: RouteId) -> Option<&str> {
        self.routes.get(&id.0).map(|name| &***name)
    }

    /// Verdicts rest on what statements say, whether somebody has read the catalog or not: a finding is given its column's
    /// name when it is told.
    fn column(&self, _scope: ScopeId, _table_oid: u32, _attribute: i16) -> Option<ColumnName> {
        None
    }
}
