//! What every page draws with: fields of JSON, figures, moments, statements, tables, charts, forms.

pub(super) mod chart;
pub(super) mod fields;
pub(super) mod figure;
pub(super) mod form;
pub(super) mod moment;
pub(super) mod spark;
pub(super) mod sql;
pub(super) mod table;
pub(super) mod text;

pub(super) use fields::Fields;
