//! What the console can show: every `SHOW` with its columns, their types and what stands in them. HELP, RowDescription
//! and docs/console.md are made of this table; rows of another shape fail a test.

mod own;
mod standard;

use wire::encode::backend;

/// One `SHOW`.
#[derive(Debug)]
pub(super) struct Show {
    /// Its word, in upper case.
    pub(super) name: &'static str,
    /// What it is to those who gather its rows.
    pub(super) what: What,
    /// Its columns. Empty: it says what it has to say as a notice.
    pub(super) columns: &'static [Column],
    /// What it shows. Markdown.
    pub(super) about: &'static str,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What stands in it. Markdown.
    pub(super) about: &'static str,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int4,
    Int8,
    Numeric,
    Bytea,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Help,
    Config,
    Databases,
    Pools,
    Clients,
    Servers,
    Users,
    Version,
    Peers,
    PeerPools,
    Fds,
    Sockets,
    ActiveSockets,
    Lists,
    Mem,
    State,
    DnsHosts,
    DnsZones,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Queries,
    Findings,
    Tenants,
    Pins,
    Limits,
    Cache,
    CacheReasons,
}

impl What {
    /// Whether rows are a choice of the first ones, and a number of them may be asked for.
    pub(super) fn has_limit(self) -> bool {
        matches!(self, Self::Queries | Self::Findings)
    }

    /// Whether PgBouncer has it too.
    pub(super) fn is_standard(self) -> bool {
        standard::SHOWS.iter().any(|show| show.what == self)
    }

    /// Whether only admins may see it.
    pub(super) fn is_for_admins(self) -> bool {
        self == Self::Fds
    }
}

impl Kind {
    /// The type's number in `pg_type`.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
            Self::Bytea => 17,
        }
    }

    /// Its width in bytes; −1: it varies.
    fn size(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Text | Self::Numeric | Self::Bytea => -1,
        }
    }

    /// Its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Numeric => "numeric",
            Self::Bytea => "bytea",
        }
    }
}

impl Column {
    /// As RowDescription tells it.
    pub(super) fn described(&self, binary: bool) -> backend::Column<'static> {
        backend::Column { name: self.name, type_oid: self.kind.oid(), type_size: self.kind.size(), binary }
    }
}

/// Every `SHOW`, PgBouncer's first.
pub(super) fn shows() -> impl Iterator<Item = &'static Show> {
    standard::SHOWS.iter().chain(own::SHOWS)
}

/// The one of this name, whatever its case.
pub(super) fn find(name: &str) -> Option<&'static Show> {
    shows().find(|show| show.name.eq_ignore_ascii_case(name))
}

const fn text(name: &'static str, about: &'static str) -> Column {
    Column { name, kind: Kind::Text, about }
}

const fn int4(name: &'static str, about: &'static str) -> Column {
    Column { name, kind: Kind::Int4, about }
}

const fn int8(name: &'static str, about: &'static str) -> Column {
    Column { name, kind: Kind::Int8, about }
}

const fn numeric(name: &'static str, about: &'static str) -> Column {
    Column { name, kind: Kind::Numeric, about }
}

/// A column of a result that no `SHOW` has: a setting of the session, or the answer to `SELECT 1`.
pub(super) const fn lone(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, about: "" }
}
