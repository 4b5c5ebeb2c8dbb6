//! The slow statement log: one JSON line for a statement that took its tenant's threshold or longer.
//!
//! Lines go out under the tracing target `slow`. Each (fingerprint, tenant) may write so many lines a minute; what was
//! held back is counted in its next line. Only the normalised text is written, without constants and bound values, unless
//! the operator wants to see them (`observe.samples`).

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::samples::Sample;
use crate::telemetry::{EventHeader, Scope, StatementText, TenantId};

/// (fingerprint, tenant) pairs told apart at one time; the quiet ones make room.
const MAX_ROWS: usize = 10_000;
const MINUTE_US: u64 = 60_000_000;

/// Decides which slow statements are written, and writes them. `now` is the statement's own time.
#[derive(Debug)]
pub struct SlowLog {
    per_minute: u32,
    rows: HashMap<(u64, TenantId), Window, FxBuildHasher>,
}

/// One statement's minute.
#[derive(Debug, Clone, Copy)]
struct Window {
    began_us: u64,
    written: u32,
    held_back: u64,
}

impl SlowLog {
    /// A log that writes at most this many lines per minute for each statement of each tenant.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, rows: HashMap::default() }
    }

    /// Takes another bound.
    pub fn set_per_minute(&mut self, per_minute: u32) {
        self.per_minute = per_minute;
    }

    /// Whether a slow statement that ended at `now_us` may be written; if so, how many were held back before it.
    pub fn admit(&mut self, strict: u64, tenant: TenantId, now_us: u64) -> Option<u64> {
        let key = (strict, tenant);
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            self.rows.retain(|_, window| now_us.saturating_sub(window.began_us) < MINUTE_US);
            if self.rows.len() >= MAX_ROWS {
                return None;
            }
        }
        let window = self.rows.entry(key).or_insert(Window { began_us: now_us, written: 0, held_back: 0 });
        if now_us.saturating_sub(window.began_us) >= MINUTE_US {
            *window = Window { began_us: now_us, written: 0, held_back: window.held_back };
        }
        if window.written >= self.per_minute {
            window.held_back += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.held_back))
    }

    /// Writes a slow statement if it may be written; only then `plan` is asked, for the hash of the plan that its statement
    /// had last, if one is known, and `sent`, for the statement as it was sent, if that was kept.
    pub fn take(
        &mut self,
        event: &EventHeader,
        (statement, scope, route): (&StatementText, Option<&Scope>, Option<&str>),
        plan: impl FnOnce() -> Option<u64>,
        sent: impl FnOnce() -> Option<Sample>,
    ) {
        let Some(held_back) = self.admit(statement.facts.strict, event.tenant, event.end_us) else {
            return;
        };
        let (plan, sent) = (plan(), sent());
        let parameters = sent.as_ref().map(|sent| &sent.parameters).filter(|parameters| !parameters.is_empty());
        let ms = |us: u64| us as f64 / 1e3;
        let of_scope = |part: fn(&Scope) -> &str| scope.map_or("", part);
        // A warning, so that it is there whatever level other parts log at.
        tracing::warn!(
            target: "slow",
            started = rfc3339_us(event.start_us),
            duration_ms = ms(event.end_us.saturating_sub(event.start_us)),
            queue_ms = ms(event.queue_us.into()),
            server_ms = ms(event.server_us.into()),
            rows = event.rows,
            sqlstate = event.sqlstate.as_ref().map(|code| code.as_str()),
            tenant = of_scope(|scope| &scope.tenant),
            database = of_scope(|scope| &scope.database),
            user = of_scope(|scope| &scope.user),
            application = of_scope(|scope| &scope.application),
            client = of_scope(|scope| &scope.client),
            route,
            trace = (event.trace != 0).then(|| format!("{:016x}", event.trace)),
            fingerprint = format!("{:016x}", statement.facts.strict),
            plan_hash = plan.map(|hash| format!("{hash:016x}")),
            text = &*statement.text,
            sent = sent.as_ref().map(|sent| &*sent.text),
            parameters = parameters.and_then(|parameters| serde_json::to_string(parameters).ok()),
            held_back,
            "slow statement"
        );
    }
}

#[cfg(test)]
mod tests {
    use policy::statement::Class;

    use super::*;
    use crate::log::testing::json_line;
    use crate::telemetry::Sqlstate;
    use crate::telemetry::testing::unknown_facts;

    #[test]
    fn a_statement_writes_so_many_lines_a_minute_and_says_what_it_held_back() {
        let mut log = SlowLog::new(2);
        let mut admit = |seconds: u64| log.admit(1, TenantId(1), seconds * 1_000_000);
        assert_eq!((admit(0), admit(1), admit(2), admit(59)), (Some(0), Some(0), None, None));
        assert_eq!((admit(60), admit(61), admit(62)), (Some(2), Some(0), None));
        assert_eq!(log.admit(1, TenantId(2), 0), Some(0), "another tenant has its own minute");
    }

    #[test]
    fn the_table_is_bounded_and_quiet_rows_make_room() {
        let mut log = SlowLog::new(1);
        for strict in 0..MAX_ROWS as u64 {
            assert!(log.admit(strict, TenantId(1), 0).is_some());
        }
        assert!(log.admit(u64::MAX, TenantId(1), 1).is_none());
        assert!(log.admit(u64::MAX, TenantId(1), MINUTE_US).is_some());
        assert_eq!(log.rows.len(), 1);
    }

    #[test]
    fn a_line_is_json_and_tells_who_what_and_how_long() {
        let scope = Scope {
            database: "app".into(),
            user: "u".into(),
            application: "web".into(),
            client: "10.0.0.7".into(),
            tenant: "acme".into(),
        };
        let text = "select a from t where b = ?".into();
        let statement = StatementText { class: Class::Select, facts: unknown_facts(255), text };
        let event = EventHeader {
            start_us: 1_000_000,
            end_us: 1_250_000,
            queue_us: 1_500,
            server_us: 240_000,
            rows: 3,
            sqlstate: Some(Sqlstate::new(b"57014")),
            trace: 254,
            ..EventHeader::default()
        };
        let (mut log, mut looks) = (SlowLog::new(1), 0);
        let mut take = || {
            let plan = || {
                looks += 1;
                Some(11)
            };
            log.take(&event, (&statement, Some(&scope), Some("GET /posts")), plan, || None);
        };
        let line = json_line(&mut take);
        take();
        assert_eq!(looks, 1, "of what is held back nothing is looked up");
        assert_eq!((&line["target"], &line["level"]), (&"slow".into(), &"WARN".into()));
        let fields = &line["fields"];
        for (name, value) in [
            ("started", serde_json::json!("1970-01-01T00:00:01.000Z")),
            ("duration_ms", 250.0.into()),
            ("queue_ms", 1.5.into()),
            ("server_ms", 240.0.into()),
            ("rows", 3.into()),
            ("sqlstate", "57014".into()),
            ("tenant", "acme".into()),
            ("application", "web".into()),
            ("route", "GET /posts".into()),
            ("trace", "00000000000000fe".into()),
            ("fingerprint", "00000000000000ff".into()),
            ("plan_hash", "000000000000000b".into()),
            ("text", "select a from t where b = ?".into()),
            ("held_back", 0.into()),
        ] {
            assert_eq!(fields[name], value, "{name} in {line}");
        }
    }
}
