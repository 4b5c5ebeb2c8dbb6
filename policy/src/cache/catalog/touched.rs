//! What a write reaches.

use std::collections::BTreeSet;

/// What a write reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub(super) tables: BTreeSet<u32>,
    /// Tables through which any of their parts may be written.
    pub(super) through: BTreeSet<u32>,
    pub(super) everything: bool,
    pub(super) catalog: bool,
}

impl Touched {
    /// These tables.
    pub fn of(tables: impl IntoIterator<Item = u32>) -> Self {
        Self { tables: tables.into_iter().collect(), ..Self::default() }
    }

    /// Any table of the database.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// The catalog: DDL, grants, policies, roles.
    pub fn catalog() -> Self {
        Self { catalog: true, ..Self::default() }
    }

    /// This as well.
    pub fn add(&mut self, other: &Self) {
        self.tables.extend(&other.tables);
        self.through.extend(&other.through);
        self.everything |= other.everything;
        self.catalog |= other.catalog;
    }

    /// The tables that are known to be touched.
    pub fn tables(&self) -> &BTreeSet<u32> {
        &self.tables
    }

    /// The tables all of whose descendants may be touched.
    pub fn through(&self) -> &BTreeSet<u32> {
        &self.through
    }

    /// Whether any table may be touched.
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether the catalog changes.
    pub fn is_catalog(&self) -> bool {
        self.catalog
    }

    /// Whether nothing is touched.
    pub fn is_nothing(&self) -> bool {
        self.tables.is_empty() && self.through.is_empty() && !self.everything && !self.catalog
    }
}
