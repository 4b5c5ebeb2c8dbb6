//! The functions of large objects, which drivers call by their numbers.

use config::LimitKey;

/// Whether the function of this oid works on large objects (`lo_open`, `loread`, …), which drivers call by
/// FunctionCall: what it opens ends with the transaction. Oids: PostgreSQL's `pg_proc.dat`; built-in ones never change.
pub(super) fn is_of_large_objects(function: u32) -> bool {
    matches!(function, 715 | 764 | 765 | 767 | 952..=958 | 964 | 1004 | 3170..=3172 | 3457..=3460)
}

/// Whether one of those changes no large object: `lo_open`, `lo_close`, `loread`, `lo_lseek`, `lo_tell`, their versions for
/// 64 bits, and `lo_get`. What `lo_export` writes is a file of the server's.
fn only_reads_large_objects(function: u32) -> bool {
    matches!(function, 952..=954 | 956 | 958 | 3170 | 3171 | 3458 | 3459)
}

/// Whether a limit on what may be run is about a function that is called by its number; `None`: the number is not there.
pub(super) fn concerns_call(function: Option<u32>, key: LimitKey) -> bool {
    function.filter(|function| is_of_large_objects(*function)).is_none_or(|function| match key {
        LimitKey::Tables => false,
        LimitKey::ReadOnly => !only_reads_large_objects(function),
        _ => true,
    })
}
