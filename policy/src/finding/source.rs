//! Where the values of a finding come from, by the server's own numbers.

/// The column behind a finding's parent, and what it takes to write the finding anew once its names are known. The name in
/// a result is the statement's to choose (`SELECT id AS run_id`); the numbers are the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The table's OID.
    pub table_oid: u32,
    /// The column's number in the table.
    pub attribute: i16,
    /// What the result calls it.
    pub(crate) result_name: Box<str>,
    /// The type of the keys, for a cast; `None`: no cast may name it.
    pub(crate) type_name: Option<&'static str>,
    /// Whether the parent's column compares with the keys as the child takes them.
    pub(crate) joins: bool,
    /// The number after the child's LIMIT, when it is always the same.
    pub(crate) limit: Option<i64>,
    /// The child's parameters that differ between executions, and their types.
    pub(crate) varying: Vec<(usize, Option<&'static str>)>,
}
