//! Statements as they were sent, where the operator wants to see them (`observe.samples`).

use policy::statement::Class;
use wire::view::{self, Parameters};

use super::Session;
use super::statement::{Known, Running};
use crate::telemetry::samples::{MAX_TEXT, Sample};
use crate::telemetry::{Finished, Sqlstate};
use crate::upstream::Upstream;

/// Between two samples of one shape on one worker, in µs. What is slow does not wait for it.
const PAUSE_US: u64 = 1_000_000;
/// The longest value that is kept, in bytes, and how many of them.
const MAX_VALUE: usize = 256;
const MAX_VALUES: usize = 64;

impl Session {
    /// Whether this statement may be kept as it was sent. What makes a role or sets a setting may hold a secret that is the
    /// server's and no data of the users; what cannot be read may be anything.
    #[inline]
    pub(super) fn is_sampled(&self, known: &Known) -> bool {
        let observe = &self.rules.settings.observe;
        observe.samples && observe.statements && shows_values(known)
    }

    /// A statement has ended: it is kept as it was sent, if it is time for it.
    pub(super) fn keep_sample(
        &self,
        upstream: &Upstream,
        running: &Running,
        (finished, end_us): (&Finished, u64),
        sqlstate: Option<Sqlstate>,
        slow: bool,
    ) {
        let shape = &running.known.shape;
        let due = slow || shape.sample_due_us.get() <= end_us;
        let telemetry = &self.worker.telemetry;
        if !due || running.resumed || !self.is_sampled(&running.known) || !telemetry.admits_sample(end_us) {
            return;
        }
        let work = &upstream.work;
        let (text, parameters) = match &running.prepared {
            Some(prepared) => {
                let described = prepared.parameters.borrow();
                let declared = || view::parameter_types(&prepared.types).map(Iterator::collect).unwrap_or_default();
                let types: Vec<u32> = if described.is_empty() { declared() } else { described.to_vec() };
                let bound = work.samples.get(running.sample.clone()).unwrap_or_default();
                (prepared.query.as_deref().unwrap_or_default(), values(bound, &types))
            }
            None => (work.texts.get(running.text.clone()).unwrap_or_default(), Vec::new()),
        };
        if text.is_empty() {
            return;
        }
        shape.sample_due_us.set(end_us + PAUSE_US);
        telemetry.telemetry().samples.add(Sample {
            strict: shape.strict,
            tenant: self.meter(),
            connection: self.ctl.client,
            scope: self.scope.as_ref().map(|scope| scope.value.clone()),
            start_us: running.sent_us,
            end_us,
            duration_us: finished.total_us(),
            sqlstate,
            text: beginning(text, MAX_TEXT),
            parameters,
        });
    }
}

fn shows_values(known: &Known) -> bool {
    let shape = &known.shape;
    let data = matches!(
        shape.class,
        Class::Select | Class::Values | Class::Insert | Class::Update | Class::Delete | Class::Merge | Class::Call
    );
    data && known.whole && shape.parts.is_empty() && !shape.is_hidden()
}

/// As text, as far as it is kept.
fn beginning(bytes: &[u8], most: usize) -> Box<str> {
    let cut = bytes.len() > most;
    let mut text = String::from_utf8_lossy(bytes.get(..most).unwrap_or(bytes)).into_owned();
    if cut {
        text.push('…');
    }
    text.into()
}

/// The values of a Bind; what was cut off is one that says so.
fn values(bound: &[u8], types: &[u32]) -> Vec<Option<Box<str>>> {
    let Ok(parameters) = Parameters::read(bound) else { return Vec::new() };
    let mut shown = Vec::new();
    for (number, parameter) in parameters.enumerate() {
        let Some(parameter) = parameter.ok().filter(|_| number < MAX_VALUES) else {
            shown.push(Some("…".into()));
            break;
        };
        let type_oid = types.get(number).copied().unwrap_or(0);
        shown.push(parameter.value.map(|value| match parameter.format {
            0 => beginning(value, MAX_VALUE),
            _ => binary(value, type_oid),
        }));
    }
    shown
}

/// Type OIDs whose binary form is shown as what it is.
const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXTS: [u32; 4] = [19, 25, 1042, 1043];

/// A value in binary format: numbers and texts as such, all else by its bytes.
fn binary(value: &[u8], type_oid: u32) -> Box<str> {
    let shown = match (type_oid, value) {
        (INT2, [a, b]) => i16::from_be_bytes([*a, *b]).to_string(),
        (INT4, [a, b, c, d]) => i32::from_be_bytes([*a, *b, *c, *d]).to_string(),
        (INT8, [a, b, c, d, e, f, g, h]) => i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]).to_string(),
        (BOOL, [byte]) => (*byte != 0).to_string(),
        _ if TEXTS.contains(&type_oid) => return beginning(value, MAX_VALUE),
        _ => {
            let bytes = value.iter().take(MAX_VALUE / 2).map(|byte| format!("{byte:02x}"));
            let cut = if value.len() > MAX_VALUE / 2 { "…" } else { "" };
            format!("\\x{}{cut}", bytes.collect::<String>())
        }
    };
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_what_they_are() {
        let bind = |format: u8, value: &[u8]| {
            [&[0, 1, 0, format, 0, 2, 0, 0, 0, value.len() as u8], value, &[255, 255, 255, 255]].concat()
        };
        for (format, type_oid, value, shown) in [
            (0, 0, b"a'b".as_slice(), "a'b"),
            (1, INT4, &[255, 255, 255, 254], "-2"),
            (1, INT8, &[0, 0, 0, 0, 0, 0, 1, 0], "256"),
            (1, INT2, &[0, 7], "7"),
            (1, BOOL, &[1], "true"),
            (1, 25, b"text", "text"),
            (1, 0, &[1, 255], "\\x01ff"),
            (1, INT4, &[1], "\\x01"),
        ] {
            assert_eq!(values(&bind(format, value), &[type_oid]), [Some(shown.into()), None], "{value:?}");
        }
        assert_eq!(values(&bind(0, b"abc")[..12], &[]), [Some("…".into())], "one that was cut off");
        assert_eq!(values(&[0], &[]), []);
        let long = values(&bind(0, &[b'x'; 200]), &[]);
        assert_eq!(long[0].as_deref().unwrap().len(), 200);
        assert_eq!(beginning(&[b'x'; 300], MAX_VALUE).chars().count(), MAX_VALUE + 1);
    }
}
