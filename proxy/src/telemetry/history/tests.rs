//! Windows in virtual time.

use policy::statement::Class;

use super::*;
use crate::telemetry::testing::{telemetry_with, tenants, unknown_facts};
use crate::telemetry::{Bounds, Finished, Sqlstate, StatementText, WorkerTelemetry};

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn telemetry(history_bytes: usize) -> Arc<Telemetry> {
    telemetry_with(Bounds { history_bytes, ..Bounds::default() }, tenants(10))
}

fn call(worker: &WorkerTelemetry, strict: u64, tenant: u32, us: u64) {
    let text = || StatementText { class: Class::Select, facts: unknown_facts(strict), text: "select".into() };
    let error = (us == 7).then_some(Sqlstate::UNKNOWN);
    let finished = Finished { end_us: us, queue_us: us / 4, server_us: us / 2, rows: 2, error, ..Finished::default() };
    worker.statement(strict, TenantId(tenant), text).record(&finished);
}

fn calls(course: &Course) -> Vec<(u64, u64)> {
    course.stretches.iter().map(|stretch| (stretch.start_us % HOUR / SECOND, stretch.point.calls)).collect()
}

#[test]
fn a_window_holds_what_all_threads_counted_in_it() {
    let telemetry = telemetry(1 << 20);
    let [one, other] = ["0", "1"].map(|name| telemetry.worker(name));
    let start = telemetry.clock.start_us();
    call(&one, 1, 1, 7);
    call(&other, 1, 1, 100);
    call(&other, 1, 2, 5_000);
    telemetry.look_at_history(start + 10 * SECOND);
    // Nothing happens in the second window.
    telemetry.look_at_history(start + 20 * SECOND);
    call(&one, 1, 1, 100_000);
    call(&one, 1, 1, 40);
    telemetry.look_at_history(start + 29 * SECOND);
    telemetry.look_at_history(start + 30 * SECOND);
    let course = telemetry.course_of_statement(1, Some(TenantId(1)), Step::TenSeconds, 0);
    assert_eq!(calls(&course), [(0, 2), (20, 2)]);
    let [first, second] = [course.stretches[0], course.stretches[1]].map(|stretch| stretch.point);
    assert_eq!((first.errors, first.rows, first.total_us), (1, 4, 107));
    assert_eq!((first.queue_us, first.server_us, first.max_us), (26, 53, 100));
    assert_eq!((second.total_us, second.max_us), (100_040, 100_000));
    assert!(second.p95_us > 88_000 && second.p95_us <= 100_000, "{second:?}");
    assert_eq!(calls(&telemetry.course_of_statement(1, None, Step::TenSeconds, 0)), [(0, 3), (20, 2)]);
    assert!(telemetry.course_of_statement(2, None, Step::TenSeconds, 0).stretches.is_empty());
    assert_eq!(calls(&telemetry.course(None, Step::TenSeconds, 0)), [(0, 3), (20, 2)]);
    assert_eq!(calls(&telemetry.course(Some(TenantId(2)), Step::TenSeconds, 0)), [(0, 1)]);
    for from_us in [0, start + 10 * SECOND] {
        let all = telemetry.last_p95_of_tenants(Step::TenSeconds, from_us);
        for tenant in (0..4).map(TenantId) {
            let course = telemetry.course(Some(tenant), Step::TenSeconds, from_us);
            let last = course.stretches.last().map(|stretch| stretch.point.p95_us);
            assert_eq!(all.get(&tenant).copied(), last, "{tenant:?} from {from_us}");
        }
    }
    assert_eq!(calls(&telemetry.course(None, Step::TenSeconds, start + 10 * SECOND)), [(20, 2)]);
}

#[test]
fn a_longest_run_of_another_window_is_not_shown_in_this_one() {
    let telemetry = telemetry(1 << 20);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    call(&worker, 1, 1, 3 * SECOND);
    telemetry.look_at_history(start + 10 * SECOND);
    call(&worker, 1, 1, 1_000);
    telemetry.look_at_history(start + 20 * SECOND);
    let course = telemetry.course(None, Step::TenSeconds, 0);
    let longest: Vec<_> = course.stretches.iter().map(|stretch| stretch.point.max_us).collect();
    assert_eq!(longest[0], 3 * SECOND);
    assert!((1_000..=1_250).contains(&longest[1]), "{longest:?}");
}

#[test]
fn six_windows_make_a_minute_and_both_are_forgotten_in_time() {
    let telemetry = telemetry(1 << 20);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    for n in 1..=6 * 60 * 3 {
        call(&worker, 1, 1, 100);
        telemetry.look_at_history(start + n * 10 * SECOND);
    }
    let minutes = telemetry.course_of_statement(1, None, Step::Minute, 0);
    assert_eq!(minutes.stretches.len(), 180);
    assert!(minutes.stretches.iter().all(|stretch| stretch.point.calls == 6 && stretch.point.p95_us > 0));
    assert_eq!(minutes.complete_from_us, start + 3 * HOUR - 48 * HOUR);
    let short = telemetry.course_of_statement(1, None, Step::TenSeconds, 0);
    assert_eq!(short.stretches.len(), 720, "two hours of them");
    assert_eq!(short.complete_from_us, start + HOUR);
    assert_eq!(telemetry.calls_of_last_minute(), [((1, TenantId(1)), 6)].into_iter().collect());
    telemetry.look_at_history(start + 52 * HOUR);
    assert!(telemetry.course(None, Step::Minute, 0).stretches.is_empty());
    assert!(telemetry.calls_of_last_minute().is_empty());
}

#[test]
fn who_looks_late_gets_one_long_window() {
    let telemetry = telemetry(1 << 20);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    call(&worker, 1, 1, 100);
    telemetry.look_at_history(start + 95 * SECOND);
    let course = telemetry.course(None, Step::TenSeconds, 0);
    let spans: Vec<_> = course.stretches.iter().map(|stretch| (stretch.start_us, stretch.end_us)).collect();
    assert_eq!(spans, [(start, start + 90 * SECOND)]);
}

#[test]
fn the_budget_cuts_the_oldest_statements_and_leaves_the_totals() {
    let telemetry = telemetry(20_000);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    for n in 1..=60 {
        (1..=50).for_each(|strict| call(&worker, strict, 1, 1_000 + strict));
        telemetry.look_at_history(start + n * 10 * SECOND);
    }
    let (kept, cut) = telemetry.history_size();
    assert!(cut > 0 && kept > 5, "{kept} {cut}");
    let history = lock(&telemetry.history);
    assert!(history.short.statements.windows.bytes() + history.long.statements.windows.bytes() <= 20_000);
    drop(history);
    let course = telemetry.course_of_statement(1, None, Step::TenSeconds, 0);
    assert!(course.stretches.len() < 60 && !course.stretches.is_empty());
    assert_eq!(course.stretches[0].start_us, course.complete_from_us, "the answer says from when on it is whole");
    let all = telemetry.course(Some(TenantId(1)), Step::TenSeconds, 0);
    assert_eq!(all.stretches.iter().map(|stretch| stretch.point.calls).sum::<u64>(), 60 * 50);
}

#[test]
fn tenants_have_a_budget_too_and_all_together_need_none() {
    let telemetry = telemetry(20_000);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    for n in 1..=60 {
        (1..=200).for_each(|tenant| call(&worker, 1, tenant, 1_000));
        telemetry.look_at_history(start + n * 10 * SECOND);
    }
    let history = lock(&telemetry.history);
    assert!(history.short.tenants.windows.bytes() + history.long.tenants.windows.bytes() <= 20_000);
    drop(history);
    let one = telemetry.course(Some(TenantId(7)), Step::TenSeconds, 0);
    assert!(one.stretches.len() < 60 && !one.stretches.is_empty());
    assert_eq!(one.stretches[0].start_us, one.complete_from_us);
    let all = telemetry.course(None, Step::TenSeconds, 0);
    assert_eq!((all.stretches.len(), all.complete_from_us), (60, start + 600 * SECOND - 2 * HOUR));
    assert_eq!(all.stretches.iter().map(|stretch| stretch.point.calls).sum::<u64>(), 60 * 200);
}

#[test]
fn a_look_at_very_many_statements_is_quick() {
    let telemetry = telemetry(64 << 20);
    let worker = telemetry.worker("0");
    let start = telemetry.clock.start_us();
    for n in 1..=5_u64 {
        (1..=5_000).for_each(|strict| call(&worker, strict, 1, 1_000));
        let began = std::time::Instant::now();
        telemetry.look_at_history(start + n * 10 * SECOND);
        let took = began.elapsed();
        println!("5,000 statements: {took:?}, {} bytes", lock(&telemetry.history).short.statements.windows.bytes());
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    }
}
