//! What is done about slow statements besides a line in the log: their plans are asked for.

use policy::observe::plans::Key;
use wire::params::{self, Settings};
use wire::view::{self, Parameters};
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use super::Session;
use super::effects::plain;
use super::statement::{Known, Running};
use super::work::{MAX_SAMPLES, Work};
use crate::control::Order;
use crate::plans::{Bound, MAX_PARAMETERS, MAX_TEXT, Outcome, Wanted};
use crate::telemetry::ring;
use crate::telemetry::{Finished, Sqlstate};
use crate::upstream::Upstream;

/// When to look again for what could not be asked for, in µs.
const LATER_US: u64 = 1_000_000;

impl Session {
    /// The text of a query that may turn out to be slow is kept until its end, as far as its plan could be asked for; and one
    /// that may be shown as it was sent.
    #[inline]
    pub(super) fn keep_text(&self, work: &mut Work, known: &Known, sql: &[u8]) {
        let due = known.shape.plan_due_us.get() <= work.begun_us;
        let explained = known.explains && due && self.plans_are_wanted();
        if !explained && !self.is_sampled(known) {
            return;
        }
        if let Some(text) = work.keep_text(sql)
            && let Some(running) = work.running.back_mut()
        {
            running.text = text;
        }
    }

    /// How many bytes of a Bind are kept until its statement has ended.
    #[inline]
    pub(super) fn kept_of_bind(&self, work: &Work, known: &Known) -> usize {
        // The detector keeps half of the room for its own, shorter ones.
        let room = work.samples.len() + MAX_PARAMETERS <= MAX_SAMPLES / 2;
        let wanted = (known.explains && self.plans_are_wanted()) || self.is_sampled(known);
        if room && wanted { MAX_PARAMETERS } else { ring::MAX_PARAMETERS }
    }

    #[inline]
    fn plans_are_wanted(&self) -> bool {
        self.rules.settings.slow_log.plans && self.slow_threshold_us().is_some()
    }

    /// A slow statement has ended: its plan is asked for, if one is due.
    #[cold]
    pub(super) fn want_plan(
        &self,
        upstream: &Upstream,
        running: &Running,
        finished: &Finished,
        sqlstate: Option<Sqlstate>,
    ) {
        let slow_log = &self.rules.settings.slow_log;
        let shape = &running.known.shape;
        let cancelled = |code: Sqlstate| code.as_str() == "57014";
        if !slow_log.plans
            || !running.known.explains
            || running.resumed
            // A plan says nothing about the wait for a connection, and asking for it takes one more.
            || self.slow_threshold_us().is_none_or(|slow| finished.own_us() < slow)
            || shape.plan_due_us.get() > finished.end_us
            || !sqlstate.is_none_or(cancelled)
        {
            return;
        }
        if running.prepared.is_none() && shape.plan_due_us.get() > upstream.work.begun_us {
            // It began before a plan was due, so that its text was not kept. One that began since has it.
            return;
        }
        let plans = &self.worker.shared.telemetry.plans;
        let later = match self.gather(upstream, running, finished) {
            Ok(wanted) => match plans.ask(shape.strict, self.meter(), slow_log.plans_per_minute, finished.end_us) {
                Ok(permit) => {
                    self.worker.order(Order::Plan(Box::new(wanted), permit));
                    finished.end_us + policy::observe::plans::INTERVAL_US
                }
                Err(later) => later,
            },
            Err(lack) => {
                plans.lacks(lack);
                finished.end_us + LATER_US
            }
        };
        shape.plan_due_us.set(later);
    }

    /// All that the server has to be told.
    fn gather(&self, upstream: &Upstream, running: &Running, finished: &Finished) -> Result<Wanted, Outcome> {
        let work = &upstream.work;
        if upstream.tainted || self.escapes || self.opaque || work.locals.unknown || work.pinned.is_some() {
            return Err(Outcome::State);
        }
        let settings = work.locals.laid_over(upstream.settings.current()).ok_or(Outcome::State)?;
        let (text, types, parameters) = match &running.prepared {
            Some(prepared) => {
                let text = prepared.query.as_deref().filter(|text| text.len() <= MAX_TEXT).ok_or(Outcome::Text)?;
                let types = view::parameter_types(&prepared.types).map_err(|_| Outcome::Text)?.collect();
                let bound = work.samples.get(running.sample.clone()).unwrap_or_default();
                (text, types, values_of(bound).ok_or(Outcome::Parameters)?)
            }
            None => {
                let text = work.texts.get(running.text.clone()).unwrap_or_default();
                (text, Vec::new(), Vec::new())
            }
        };
        if text.is_empty() {
            return Err(Outcome::Text);
        }
        let face = &self.ctl.face;
        let tenant = self.worker.shared.directory.name(self.tenant);
        let made = params::statements(&settings).into_iter().filter(|(name, _)| !is_ours(name));
        Ok(Wanted {
            pool: self.pool.shared.clone(),
            key: Key {
                strict: running.known.shape.strict,
                database: face.database.clone(),
                user: face.user.clone(),
                tenant: (&*tenant).into(),
                place: place_of(&settings),
            },
            scope: self.scope.as_ref().map(|scope| scope.value.clone()),
            normalised: running.known.shape.text().into(),
            text: Zeroizing::new(text.to_vec()),
            types,
            parameters,
            settings: made.map(|(_, sql)| sql).collect(),
            duration_us: finished.total_us(),
            began_us: finished.start_us,
        })
    }
}

/// Settings that the capture decides itself.
fn is_ours(name: &str) -> bool {
    name.starts_with("transaction_")
        || name.starts_with("default_transaction_")
        || matches!(
            name,
            "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" | "idle_session_timeout"
        )
}

/// The values of a Bind, each with its format; `None`: not all are there.
fn values_of(bound: &[u8]) -> Option<Vec<(i16, Bound)>> {
    let parameters = Parameters::read(bound).ok()?;
    let value = |value: &[u8]| Zeroizing::new(value.to_vec());
    parameters.map(|parameter| parameter.ok().map(|read| (read.format, read.value.map(value)))).collect()
}

/// What plans are compared within: other roles see other rows, and other search paths other tables.
fn place_of(settings: &Settings) -> u64 {
    let mut hash = Xxh3::new();
    for name in ["session_authorization", "role", "search_path"] {
        let value = settings.find(name).and_then(plain);
        hash.update(value.as_deref().unwrap_or_default().as_bytes());
        hash.update(&[0]);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use wire::params::Value;

    use super::*;

    fn text(value: &str) -> Value {
        Value::Plain(value.as_bytes().into())
    }

    #[test]
    fn the_values_of_a_bind_are_taken_whole_or_not_at_all() {
        let bind = [0, 1, 0, 1, 0, 2, 0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255, 0, 1, 0, 1];
        let values = Some(vec![(1, Some(Zeroizing::new(b"ab".to_vec()))), (1, None)]);
        assert_eq!(values_of(&bind), values);
        assert_eq!(values_of(&bind[..16]), values, "the formats of the result are not needed");
        for cut in 0..16 {
            assert_eq!(values_of(&bind[..cut]), None, "{cut}");
        }
        assert_eq!(values_of(&[0; 6]), Some(Vec::new()));
    }

    #[test]
    fn plans_are_compared_within_a_role_and_a_search_path() {
        let with = |name: &str, value: &str| place_of(&Settings::new().with(name, text(value)).unwrap());
        assert_ne!(with("role", "a"), with("role", "b"));
        assert_ne!(with("search_path", "a"), with("search_path", "b"));
        assert_eq!(with("app.request", "a"), with("app.request", "b"));
    }
}
