//! Types by their OIDs, as a cast names them.

use super::value::oid;

/// The name of a type that every server has under this OID; `None`: it is not known, or the database's own: an enum, a domain.
pub(super) fn name_of(type_oid: u32) -> Option<&'static str> {
    Some(match type_oid {
        16 => "bool",
        17 => "bytea",
        19 => "name",
        oid::INT8 => "int8",
        oid::INT2 => "int2",
        oid::INT4 => "int4",
        oid::TEXT | oid::VARCHAR | oid::BPCHAR => "text",
        oid::OID => "oid",
        114 => "json",
        650 => "cidr",
        700 => "float4",
        701 => "float8",
        829 => "macaddr",
        869 => "inet",
        oid::DATE => "date",
        1083 => "time",
        oid::TIMESTAMP => "timestamp",
        oid::TIMESTAMPTZ => "timestamptz",
        1186 => "interval",
        1266 => "timetz",
        1560 => "bit",
        1562 => "varbit",
        oid::NUMERIC => "numeric",
        oid::UUID => "uuid",
        3802 => "jsonb",
        _ => return None,
    })
}

/// Types whose values compare with each other as they are.
pub(super) fn family_of(type_oid: u32) -> Option<u32> {
    match type_oid {
        oid::INT2 | oid::INT4 | oid::INT8 => Some(oid::INT8),
        19 | oid::TEXT | oid::VARCHAR | oid::BPCHAR => Some(oid::TEXT),
        _ => None,
    }
}

/// Whether a value of one type compares with a value of the other; nobody knows where one is not told.
pub(super) fn compare(one: u32, other: u32) -> bool {
    one == 0 || other == 0 || one == other || (family_of(one).is_some() && family_of(one) == family_of(other))
}
