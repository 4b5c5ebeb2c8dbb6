//! Judgements and pages of what was seen.

use serde_json::json;

use super::judge::{Notice, judge, worst};
use super::*;

fn pool(value: serde_json::Value) -> Pool {
    let mut pool: Pool = serde_json::from_value(value).unwrap();
    (pool.database, pool.user) = ("app".into(), "web".into());
    pool
}

/// A proxy that is well: one pool, these metrics.
fn seen(before: serde_json::Value, now: serde_json::Value, metrics: &str) -> Seen {
    let look = |value| Look { pools: Some(vec![pool(value)]), metrics: Some(Metrics::new(metrics)) };
    Seen {
        address: "127.0.0.1:6433".into(),
        version: Some(Version { version: "0.1.0".into(), uptime_seconds: 90, workers: 2 }),
        before: look(before),
        now: look(now),
        elapsed: Duration::from_secs(2),
        clock: 1_000_000.0,
        ..Seen::default()
    }
}

fn told(seen: &Seen) -> Vec<(Verdict, String)> {
    judge(seen).into_iter().map(|Notice { verdict, text }| (verdict, text)).collect()
}

#[test]
fn a_proxy_that_is_well_has_nothing_to_tell() {
    let seen = seen(json!({"statements": 100}), json!({"statements": 300, "statement_errors": 1}), "");
    assert_eq!(told(&seen), []);
    assert_eq!(worst(&judge(&seen)).code(), 0);
    let page = page::text(&seen, Verdict::Ok, &[]);
    assert!(page.starts_with("OK  pgweir 0.1.0 at 127.0.0.1:6433, ready, up 1m 30s, 2 workers\n"), "{page}");
    assert!(page.contains("statements/s 100   errors/s 0.50   p95 –"), "{page}");
    assert!(page.contains("app/web"), "{page}");
}

#[test]
fn pools_are_judged_by_what_happens_now() {
    let waiting = json!({"clients": {"waiting": 4}, "upstreams": {"active": 20}, "settings": {"size": 20}});
    let both = told(&seen(waiting.clone(), waiting.clone(), ""));
    let words = "app/web: 4 clients wait for a server connection; 20 in use of 20";
    assert_eq!(both, [(Verdict::Warning, words.to_owned())]);
    assert_eq!(told(&seen(json!({}), waiting.clone(), "")), [], "one look is a moment");

    let down = json!({"dial_failures": 3, "clients": {"waiting": 2}});
    let all = told(&seen(json!({}), down.clone(), ""));
    assert_eq!(all, [(Verdict::Critical, "app/web: no connection to its server, and 2 clients wait".to_owned())]);
    assert_eq!(told(&seen(down.clone(), json!({"dial_failures": 3}), "")), [], "that was before");

    let never = json!({"dials": 4, "dial_failures": 4});
    let words = "app/web: no attempt to connect to its server has ever succeeded";
    assert_eq!(told(&seen(never.clone(), never, "")), [(Verdict::Warning, words.to_owned())]);

    let refused = json!({"queue_timeouts": 2, "queue_refusals": 1, "paused": true, "disabled": true});
    let all = told(&seen(json!({}), refused, ""));
    assert!(all.iter().all(|(verdict, _)| *verdict == Verdict::Warning) && all.len() == 3, "{all:?}");
}

#[test]
fn the_proxy_itself_is_judged_by_its_metrics() {
    for (metrics, verdict, words) in [
        ("pgweir_memory_short 1", Verdict::Critical, "memory is short"),
        ("pgweir_config_last_reload_successful 0", Verdict::Warning, "reload was refused"),
        ("pgweir_tenant_table_readable 0", Verdict::Warning, "table of tenants cannot be read"),
        ("pgweir_tenant_table_wrong_rows 3", Verdict::Warning, "3 rows of the table of tenants are wrong"),
        ("pgweir_config_restart_pending_keys 2", Verdict::Warning, "2 changed settings"),
        (
            "pgweir_tls_certificate_not_after_time_seconds{file=\"a b.pem\"} 1604800",
            Verdict::Warning,
            "a b.pem expires in 7d",
        ),
        (
            "pgweir_tls_certificate_not_after_time_seconds{file=\"a.pem\"} 999999",
            Verdict::Critical,
            "a.pem has expired",
        ),
        ("pgweir_log_lines_lost_total 5", Verdict::Ok, "5 lines of the log were lost since the start"),
        (
            "pgweir_events_dropped_total{worker=\"0\"} 5\npgweir_events_dropped_total{worker=\"1\"} 2",
            Verdict::Ok,
            "7 events",
        ),
    ] {
        let all = told(&seen(json!({}), json!({}), metrics));
        assert_eq!(all.len(), 1, "{metrics}: {all:?}");
        assert!(all[0].0 == verdict && all[0].1.contains(words), "{metrics}: {all:?}");
    }
    let mut losing = seen(json!({}), json!({}), "pgweir_log_lines_lost_total 5");
    losing.before.metrics = Some(Metrics::new("pgweir_log_lines_lost_total 1"));
    assert_eq!(told(&losing), [(Verdict::Warning, "4 lines of the log were lost just now".to_owned())]);
    let full = seen(json!({}), json!({"clients": {"total": 95}}), "pgweir_max_clients 100");
    assert_eq!(told(&full), [(Verdict::Warning, "95 clients of at most 100".to_owned())]);
}

#[test]
fn the_gravest_comes_first_and_decides() {
    let mut all = seen(json!({}), json!({"paused": true}), "pgweir_log_lines_lost_total 5");
    all.not_ready = Some(vec!["draining".into()]);
    let notices = judge(&all);
    let verdicts: Vec<_> = notices.iter().map(|notice| notice.verdict).collect();
    assert_eq!(verdicts, [Verdict::Critical, Verdict::Warning, Verdict::Ok]);
    let page = page::text(&all, worst(&notices), &notices);
    assert!(page.starts_with("CRITICAL  pgweir 0.1.0 at 127.0.0.1:6433, not ready"), "{page}");
    assert!(page.lines().next().unwrap().ends_with("; not ready for new clients: draining"), "{page}");
    let json = page::json(&all, worst(&notices), &notices);
    assert_eq!((&json["status"], &json["ready"]), (&"critical".into(), &false.into()));
    assert_eq!(json["notices"][0]["text"], "not ready for new clients: draining");
}

#[test]
fn who_sees_less_is_told_less() {
    let seen = Seen { address: "x:1".into(), ..Seen::default() };
    let page = page::text(&seen, Verdict::Ok, &judge(&seen));
    assert_eq!(page, "OK  pgweir at x:1, ready\n");
    assert_eq!(page::json(&seen, Verdict::Ok, &[])["pools"], serde_json::Value::Null);
}

#[test]
fn an_old_window_says_nothing_of_now() {
    let mut seen = Seen { clock: 1_767_225_620.0, ..Seen::default() };
    seen.window = Some(Window { start: "2026-01-01T00:00:00.000Z".into(), p95_ms: Some(4.0), ..Window::default() });
    assert_eq!(seen.p95_ms(), Some(4.0));
    seen.clock += 30.0;
    assert_eq!(seen.p95_ms(), None);
}
