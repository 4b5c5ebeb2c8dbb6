//! Lists as they are shown: columns, rows, an order, a filter. What stands in them comes from [`super::model`].

use std::cmp::Ordering;

use super::model::{Client, Finding, List, Pool, Statement, Tab, Tenant, View};
use crate::cli::ask::{figure, printable};

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name above it, by which it is also asked for.
    pub(super) title: &'static str,
    /// Its width; 0: what the others leave.
    pub(super) width: u16,
}

/// What stands in one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// Words.
    Text(String),
    /// A number.
    Number(f64),
    /// A number of things.
    Count(u64),
}

impl Cell {
    fn text(text: &str) -> Self {
        Self::Text(printable(text))
    }

    /// As it is shown.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => figure(*number),
            Self::Count(count) if *count < 1_000_000 => count.to_string(),
            Self::Count(count) => figure(*count as f64),
        }
    }

    /// Whether it stands at the right of its column, and its largest are first.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.to_lowercase().cmp(&other.to_lowercase()),
            _ => other.value().total_cmp(&self.value()),
        }
    }

    fn value(&self) -> f64 {
        match self {
            Self::Text(_) => 0.0,
            Self::Number(number) => *number,
            Self::Count(count) => *count as f64,
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Unique in its list, and the same at the next look.
    pub(super) id: String,
    /// A cell for each column.
    pub(super) cells: Vec<Cell>,
    /// Somebody should look at it.
    pub(super) alarming: bool,
}

/// A list as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sheet {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

const fn column(title: &'static str, width: u16) -> Column {
    Column { title, width }
}

const STATEMENTS: &[Column] = &[
    column("busy", 6),
    column("calls/s", 7),
    column("mean ms", 7),
    column("p95 ms", 7),
    column("errors", 6),
    column("tenant", 12),
    column("statement", 0),
];
const TENANTS: &[Column] = &[
    column("tenant", 0),
    column("clients", 7),
    column("busy", 6),
    column("calls/s", 7),
    column("errors/s", 8),
    column("waited s", 8),
    column("refused", 7),
    column("timeouts", 8),
    column("limits", 6),
];
const POOLS: &[Column] = &[
    column("pool", 0),
    column("clients", 7),
    column("active", 6),
    column("waiting", 7),
    column("used", 5),
    column("idle", 5),
    column("size", 5),
    column("pinned", 6),
    column("calls/s", 7),
    column("wait p95", 8),
];
const CLIENTS: &[Column] = &[
    column("client", 7),
    column("state", 14),
    column("since", 8),
    column("tenant", 12),
    column("user/database", 16),
    column("application", 0),
    column("address", 21),
    column("pinned", 8),
];
const FINDINGS: &[Column] = &[
    column("severity", 8),
    column("kind", 19),
    column("tenant", 12),
    column("bursts", 6),
    column("wasted ms", 9),
    column("what", 0),
];

/// The columns of a tab.
pub(super) fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Statements => STATEMENTS,
        Tab::Tenants => TENANTS,
        Tab::Pools => POOLS,
        Tab::Clients => CLIENTS,
        Tab::Findings => FINDINGS,
    }
}

/// By what a tab is sorted before anybody says otherwise.
pub(super) fn usual_order(tab: Tab) -> usize {
    match tab {
        Tab::Statements => 0,
        Tab::Tenants => 2,
        Tab::Pools => 3,
        Tab::Clients => 1,
        // As the proxy tells them: the gravest first.
        Tab::Findings => usize::MAX,
    }
}

impl Sheet {
    /// A view's list, in the order of a column (none: as it was told), of it the rows that hold `filter`.
    pub(super) fn new(view: &View, order: usize, reversed: bool, filter: &str) -> Self {
        let (tab, mut rows): (Tab, Vec<Row>) = match &view.now.list {
            List::Statements(all) => (Tab::Statements, all.iter().map(|own| statement(own, view)).collect()),
            List::Tenants(all) => (Tab::Tenants, all.iter().map(|own| tenant(own, view)).collect()),
            List::Pools => (Tab::Pools, view.now.pools.iter().flatten().map(|own| pool(own, view)).collect()),
            List::Clients(all) => (Tab::Clients, all.iter().map(client).collect()),
            List::Findings(all) => (Tab::Findings, all.iter().map(finding).collect()),
        };
        let wanted: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
        rows.retain(|row| wanted.iter().all(|word| row.has(word)));
        if order < columns(tab).len() {
            rows.sort_by(|one, other| match (one.cells.get(order), other.cells.get(order)) {
                (Some(one), Some(other)) => one.compare(other),
                _ => Ordering::Equal,
            });
        }
        if reversed {
            rows.reverse();
        }
        Self { columns: columns(tab), rows }
    }
}

impl Row {
    fn has(&self, word: &str) -> bool {
        let text = |cell: &Cell| matches!(cell, Cell::Text(text) if text.to_lowercase().contains(word));
        self.cells.iter().any(text) || self.id.to_lowercase().contains(word)
    }
}

fn statement(own: &Statement, view: &View) -> Row {
    let id = own.id();
    let rates = view.rates(&id);
    let cells = vec![
        Cell::Number(rates.busy),
        Cell::Number(rates.calls),
        Cell::Number(own.mean_ms),
        Cell::Number(own.p95_ms),
        Cell::Count(own.errors),
        Cell::text(&own.tenant),
        Cell::text(&own.text),
    ];
    Row { alarming: rates.errors > 0.0, id, cells }
}

fn tenant(own: &Tenant, view: &View) -> Row {
    let rates = view.rates(&own.tenant);
    let reached = own.limits_reached.values().map(|times| times.observed + times.warned + times.enforced).sum();
    let cells = vec![
        Cell::text(&own.tenant),
        Cell::Count(own.clients),
        Cell::Number(rates.busy),
        Cell::Number(rates.calls),
        Cell::Number(rates.errors),
        Cell::Number(own.queue_ms / 1e3),
        Cell::Count(own.refusals),
        Cell::Count(own.statement_timeouts + own.queue_timeouts),
        Cell::Count(reached),
    ];
    Row { id: own.tenant.clone(), cells, alarming: rates.errors > 0.0 }
}

fn pool(own: &Pool, view: &View) -> Row {
    let id = own.id();
    let switched = if own.paused {
        " (paused)"
    } else if own.disabled {
        " (disabled)"
    } else {
        ""
    };
    let cells = vec![
        Cell::text(&format!("{id}{switched}")),
        Cell::Count(own.clients.total),
        Cell::Count(own.clients.active),
        Cell::Count(own.clients.waiting),
        Cell::Count(own.upstreams.active),
        Cell::Count(own.upstreams.idle),
        Cell::Count(own.settings.map_or(0, |settings| settings.size)),
        Cell::Count(own.upstreams.pinned),
        Cell::Number(view.rates(&id).calls),
        Cell::Number(own.wait_ms.p95),
    ];
    Row { id, cells, alarming: own.clients.waiting > 0 || own.paused || own.disabled }
}

fn client(own: &Client) -> Row {
    let cells = vec![
        Cell::Count(own.id),
        Cell::text(&own.state),
        // The time of day, in UTC.
        Cell::text(own.state_since.get(11..19).unwrap_or_default()),
        Cell::text(&own.tenant),
        Cell::text(&format!("{}/{}", own.user, own.database)),
        Cell::text(&own.application),
        Cell::text(&own.address),
        Cell::text(own.pinned.as_deref().unwrap_or_default()),
    ];
    Row { id: own.id.to_string(), cells, alarming: own.state == "waiting" }
}

fn finding(own: &Finding) -> Row {
    let what = own.evidence.as_deref().unwrap_or(&own.child.text);
    let cells = vec![
        Cell::text(&own.severity),
        Cell::text(&own.kind),
        Cell::text(&own.tenant),
        Cell::Count(own.occurrences),
        Cell::Number(own.wasted_ms),
        Cell::text(what),
    ];
    Row { id: own.id.clone(), cells, alarming: own.severity == "high" }
}
