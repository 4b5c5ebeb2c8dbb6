//! A statement that was prepared before a change of the schema is given to another server only if it still is the same.
//!
//! PostgreSQL refuses to run a prepared statement whose result has changed since (0A000), because its client may read the
//! rows by the description that it has from before: another type's bytes would be taken for the old one's. A server that
//! gets such a statement parsed on its client's behalf knows no before, and would run it. So it is asked what the result
//! is, and the client's message waits for the answer:
//!
//! ```text
//! Bind ─► held         Parse  Describe  Flush ─►
//!                      the same as the client was told:  Bind goes on
//!                      another one:                      0A000 in the server's words, until the client prepares anew
//! ```
//!
//! Only where the epoch of the schema is another one than when the client prepared it, and where some client was told.

use wire::view::Columns;
use xxhash_rust::xxh3::Xxh3Default;

use super::Session;
use super::statement::Prepared;
use crate::upstream::Upstream;

/// What stands for the description of a statement without a result.
pub(super) const NO_RESULT: u64 = 1;

/// What a client may rely on in the body of a RowDescription: names and types of the columns, in their order.
/// `None`: it cannot be read.
pub(super) fn result_of(body: &[u8]) -> Option<u64> {
    let mut hasher = Xxh3Default::new();
    for column in Columns::read(body).ok()? {
        let column = column.ok()?;
        hasher.update(column.name);
        hasher.update(&[0]);
        hasher.update(&column.type_oid.to_be_bytes());
    }
    // Neither "not known" nor "no result".
    Some(hasher.digest() | 2)
}

impl Session {
    /// Whether the client may have been told a result that this server, which is about to parse the statement, does not
    /// know of.
    pub(super) fn is_dated(&self, upstream: &Upstream, prepared: &Prepared) -> bool {
        prepared.result.get() != 0 && prepared.epoch != self.place(upstream).epoch
    }

    /// The server has described what it was given to parse; `None`: in a way that cannot be read.
    pub(super) fn verified(&self, upstream: &mut Upstream, result: Option<u64>) {
        let Some(prepared) = upstream.work.verifying.take() else { return };
        if result.is_some_and(|result| result != prepared.result.get()) {
            prepared.stale.set(true);
            upstream.tainted |= !upstream.prepared.doubt(prepared.id);
        }
    }
}

impl Prepared {
    /// A client is told the statement's result for the first time.
    pub(super) fn told(&self, result: Option<u64>) {
        if self.result.get() == 0 {
            self.result.set(result.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::encode::backend::{Column, row_description};

    use super::*;

    fn result(columns: &[(&str, u32)]) -> Option<u64> {
        let columns: Vec<_> =
            columns.iter().map(|(name, oid)| Column { name, type_oid: *oid, type_size: -1, binary: false }).collect();
        let mut message = Vec::new();
        row_description(&mut message, &columns).unwrap();
        result_of(message.get(5..).unwrap())
    }

    #[test]
    fn a_result_is_its_columns_names_and_types() {
        let known = result(&[("a", 23), ("b", 25)]);
        assert_eq!(result(&[("a", 23), ("b", 25)]), known);
        for other in [&[("a", 23), ("b", 20)][..], &[("a", 23), ("c", 25)], &[("a", 23)], &[("b", 25), ("a", 23)], &[]]
        {
            assert_ne!(result(other), known, "{other:?}");
        }
        assert!(![Some(0), Some(NO_RESULT)].contains(&result(&[])));
        assert_eq!(result_of(b"\0\x02a"), None);
    }
}
