//! From raw wire bytes to the detector's values: the one place where the two meet for observations.

use policy::observe::{self, RouteId, ScopeId, ShapeId, TraceId, Value};
use policy::statement::LiteralKind;
use wire::tag::Backend;

use super::tables::Tables;
use crate::telemetry::ring::{MAX_ROWS, literals};
use crate::telemetry::{Event, EventFlags};

/// Calls `each` with the event as the detector takes it; not at all, and `false`, for what it has no use for: a scope or a
/// statement beyond telemetry's bounds, or one that is gone. `rows` is room to work in; it is left wiped.
pub(super) fn translate(
    event: &Event<'_>,
    tables: &Tables,
    rows: &mut Vec<u8>,
    each: impl FnOnce(&observe::Event<'_>),
) -> bool {
    let header = &event.header;
    let Some(statement) = tables.statement(header.statement) else { return false };
    if tables.known_scope(header.scope).is_none() {
        return false;
    }
    let description = tables.description(header.description);
    let types = description.map(|known| &*known.parameters).unwrap_or_default();
    let (parameters, whole) = parameters(event.payload.parameters, types);
    // Constants are numbered behind the parameters: behind some of them nobody knows which is which.
    let literals = literals(event.payload.literals).filter(|_| whole || !header.flags.contains(EventFlags::EXTENDED));
    let literals: Vec<_> = literals.map(|(kind, bytes)| literal(kind, bytes)).collect();
    sample(event.payload.rows, rows);
    let columns = description.map(|known| {
        if header.flags.contains(EventFlags::ROWS_BINARY) { &known.binary_columns } else { &known.columns }
    });
    each(&observe::Event {
        start_us: header.start_us,
        end_us: header.end_us,
        queued_us: header.queue_us.into(),
        connection: header.connection,
        scope: ScopeId(header.scope),
        tenant: observe::TenantId(header.tenant.0),
        trace: TraceId::from_bytes(&header.trace.to_le_bytes()).filter(|_| header.trace != 0),
        route: (header.route != 0).then_some(RouteId(header.route)),
        shape: ShapeId(header.statement),
        facts: statement.facts,
        parameters: &parameters,
        literals: &literals,
        columns: columns.filter(|columns| !columns.is_empty()),
        row_count: header.rows,
        rows,
        last_row: &[],
        resumed: header.flags.contains(EventFlags::RESUMED),
        error: header.sqlstate.map(|code| code.bytes()),
    });
    rows.fill(0);
    true
}

/// The parameters of a Bind, as far as they are whole, and whether those are all.
fn parameters<'a>(section: &'a [u8], types: &[u32]) -> (Vec<Value<'a>>, bool) {
    let Ok(read) = wire::view::Parameters::read(section) else {
        return (Vec::new(), false);
    };
    let mut types = types.iter().copied();
    let mut parameters = Vec::new();
    for parameter in read {
        let Ok(parameter) = parameter else { return (parameters, false) };
        let type_oid = types.next().unwrap_or(0);
        parameters.push(match parameter.value {
            None => Value::Null,
            Some(bytes) if parameter.format == 0 => Value::Text { type_oid, bytes },
            Some(bytes) => Value::Binary { type_oid, bytes },
        });
    }
    (parameters, true)
}

/// A constant as it stands in the text. Escapes are not resolved: such a constant equals no row's value and is lost to
/// detection, which is the safe side.
fn literal(kind: LiteralKind, bytes: &[u8]) -> Value<'_> {
    let bytes = match kind {
        LiteralKind::Null => return Value::Null,
        LiteralKind::String => unquoted(bytes),
        LiteralKind::Number | LiteralKind::Bits | LiteralKind::Bool => bytes,
    };
    Value::Text { type_oid: 0, bytes }
}

/// What stands between the quotes, plain or dollar, behind a prefix such as `E` if there is one.
pub(super) fn unquoted(bytes: &[u8]) -> &[u8] {
    let Some(open) = bytes.iter().position(|byte| matches!(byte, b'\'' | b'$')) else {
        return bytes;
    };
    let quoted = bytes.get(open..).unwrap_or_default();
    let quote = match quoted {
        [b'\'', ..] => 1,
        _ => 2 + quoted.iter().skip(1).take_while(|byte| **byte != b'$').count(),
    };
    quoted.get(quote..quoted.len().saturating_sub(quote)).unwrap_or_default()
}

/// The values of the first rows, one after the other, each behind its length: DataRow bodies without their counts.
fn sample(mut messages: &[u8], rows: &mut Vec<u8>) {
    rows.clear();
    while let Ok(Some(frame)) = wire::frame::next(&mut messages, MAX_ROWS) {
        if Backend::from_byte(frame.tag) == Some(Backend::DataRow) {
            rows.extend_from_slice(frame.body().get(2..).unwrap_or_default());
        }
    }
}
