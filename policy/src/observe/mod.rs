//! Pure folds over finished statements: what the traffic reveals.
mod event;
mod value;

pub use event::{
    Class, Column, ColumnName, Directory, Event, MAX_PARAMETER_BYTES, MAX_SAMPLE_BYTES, MAX_SAMPLE_ROWS, RouteId,
    RowBytes, Scope, ScopeId, ShapeFacts, ShapeId, TenantId, TraceId,
};
pub use value::{HashKey, Value};
