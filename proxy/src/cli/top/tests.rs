//! The screen without a terminal.

use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::app::Detail;
use super::model::{Finding, List, Pool, Snapshot, Statement, Tenant, Version};
use super::*;

fn parsed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn statement(n: u64, tenant: &str, text: &str, calls: u64) -> Statement {
    parsed(json!({
        "fingerprint": format!("{n:016x}"), "tenant": tenant, "text": text, "class": "select", "calls": calls,
        "calls_last_minute": 60 * n, "errors": n, "total_ms": calls as f64 * 2.0, "mean_ms": 2.0, "p95_ms": n as f64,
        "rows": 3 * calls, "errors_by_sqlstate": {"57014": n}, "last_seen": "2026-01-01T10:20:30.000Z",
    }))
}

fn pools() -> Option<Vec<Pool>> {
    Some(parsed(json!([{
        "database": "app", "user": "web", "clients": {"total": 9, "active": 3, "waiting": 2, "idle": 4},
        "upstreams": {"active": 3, "idle": 1}, "settings": {"size": 20}, "statements": 100, "statement_errors": 1,
        "statement_ms": {"total": 200.0, "p95": 1.0},
    }])))
}

fn snapshot(list: List, at: Instant) -> Snapshot {
    let version = Version { version: "0.1.0".into(), uptime_seconds: 3_661, workers: 2 };
    Snapshot { at, version: Some(version), not_ready: None, pools: pools(), list, cut: None }
}

/// A screen with statements: a thousand calls of the first in two seconds, one of the second.
fn app() -> App {
    let mut app = App::new("127.0.0.1:6433", Tab::Statements, "");
    let (before, now) = (Instant::now(), Instant::now() + Duration::from_secs(2));
    let list = |more: u64| {
        List::Statements(vec![
            statement(1, "acme", "select name from people where id = ?", 10 + 1_000 * more),
            statement(2, "beta", "update jobs set state = ?", 50 + more),
            statement(1, "beta", "select name from people where id = ?", 5),
        ])
    };
    app.take(Tab::Statements, snapshot(list(0), before));
    app.take(Tab::Statements, snapshot(list(1), now));
    app
}

fn press(app: &mut App, code: KeyCode) -> Wish {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn shown(app: &mut App) -> String {
    screenful(app, (80, 24))
}

#[test]
fn the_first_screen_tells_who_it_is_and_what_is_busy() {
    let text = shown(&mut app());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "pgweir 0.1.0  127.0.0.1:6433  up 1h 1m  ready");
    assert!(lines[1] == "clients 9, 2 waiting  upstreams 3 of 4 used  calls/s 0  errors/s 0  busy 0", "{text}");
    assert!(lines[2].starts_with("1 Statements  2 Tenants  3 Pools  4 Clients  5 Findings"), "{text}");
    assert!(lines[3].contains("busy▾") && lines[3].contains("statement"), "{text}");
    let words: Vec<&str> = lines[4].split_whitespace().collect();
    // 1,000 calls of 2 ms in 2 s: one at a time.
    assert_eq!(words[..7], ["1.00", "500", "2.00", "1.00", "1", "acme", "select"], "{text}");
    assert!(lines[5].contains("update jobs"), "{text}");
}

#[test]
fn at_the_first_look_rates_are_those_of_the_last_minute() {
    let mut app = App::new("127.0.0.1:6433", Tab::Statements, "");
    assert!(shown(&mut app).contains("asking"), "nothing is known yet");
    app.take(Tab::Statements, snapshot(List::Statements(vec![statement(3, "acme", "select 1", 7)]), Instant::now()));
    let text = shown(&mut app);
    let words: Vec<&str> = text.lines().nth(4).unwrap().split_whitespace().collect();
    assert_eq!(words[..2], ["0.01", "3.00"], "{text}");
    assert!(!text.contains("calls/s 0"), "{text}");
}

#[test]
fn a_counter_that_has_fallen_has_begun_anew() {
    let mut app = app();
    let later = Instant::now() + Duration::from_secs(4);
    let list = List::Statements(vec![statement(1, "acme", "select name from people where id = ?", 4)]);
    app.take(Tab::Statements, snapshot(list, later));
    let rates = app.view().unwrap().rates(&statement(1, "acme", "", 0).id());
    assert!(rates.calls > 0.0 && rates.calls <= 4.0, "{rates:?}");
}

#[test]
fn keys_sort_select_and_turn() {
    let mut app = app();
    assert_eq!(app.order(), (0, false));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(app.order(), (1, false));
    press(&mut app, KeyCode::Char('S'));
    press(&mut app, KeyCode::Char('S'));
    assert_eq!(app.order(), (6, false), "from the first to the last");
    assert!(app.sheet().rows[0].cells[6].shown().starts_with("select"), "words from a to z");
    press(&mut app, KeyCode::Char('r'));
    assert!(app.sheet().rows[0].cells[6].shown().starts_with("update"));
    press(&mut app, KeyCode::Down);
    let sheet = app.sheet();
    assert_eq!(app.selection(&sheet), 1);
    press(&mut app, KeyCode::Char('r'));
    let sheet = app.sheet();
    assert_eq!(app.selection(&sheet), 1, "the same row, wherever it stands");
    press(&mut app, KeyCode::End);
    assert_eq!(app.selection(&app.sheet()), 2);
    press(&mut app, KeyCode::PageDown);
    press(&mut app, KeyCode::Home);
    assert_eq!(app.selection(&app.sheet()), 0);

    assert_eq!(press(&mut app, KeyCode::Tab), Wish::Look(Tab::Tenants));
    assert_eq!(press(&mut app, KeyCode::Char('5')), Wish::Look(Tab::Findings));
    assert_eq!(press(&mut app, KeyCode::Tab), Wish::Look(Tab::Statements));
    assert_eq!(press(&mut app, KeyCode::BackTab), Wish::Look(Tab::Findings));
    assert_eq!(press(&mut app, KeyCode::Char('q')), Wish::Quit);
    assert_eq!(app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
    assert!(app.sort_by("p95 ms").is_err(), "findings have no such column");
    app.turn_for_test(Tab::Statements);
    assert!(app.sort_by("P95 ms").is_ok() && app.order() == (3, false));
}

#[test]
fn what_is_typed_behind_a_slash_filters() {
    let mut app = app();
    press(&mut app, KeyCode::Char('/'));
    for letter in "BETA jobsq".chars() {
        assert_eq!(press(&mut app, KeyCode::Char(letter)), Wish::None, "letters are no keys meanwhile");
    }
    assert!(app.sheet().rows.is_empty());
    assert!(shown(&mut app).contains("nothing with this filter"));
    press(&mut app, KeyCode::Backspace);
    assert_eq!(app.sheet().rows.len(), 1, "all words, in any column and case");
    press(&mut app, KeyCode::Enter);
    assert!(!app.typing && shown(&mut app).contains("with “BETA jobs”"));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.sheet().rows.len(), 3);
}

#[test]
fn a_statement_is_looked_at_closely_with_its_tenants_and_its_course() {
    let mut app = app();
    assert_eq!(press(&mut app, KeyCode::Enter), Wish::History(format!("{:016x}", 1)));
    assert!(shown(&mut app).contains("asking how it has run"));
    let window = |second: u32, calls: u64| Window {
        start: format!("2026-01-01T00:00:{second:02}.000Z"),
        calls,
        seconds: 10.0,
        total_ms: 3.0 * calls as f64,
        ..Window::default()
    };
    app.take_history("another", vec![window(0, 9)]);
    app.take_history(&format!("{:016x}", 1), vec![window(0, 10), window(10, 80), window(20, 40)]);
    let text = shown(&mut app);
    for words in [
        "select name from people where id = ?",
        "fingerprint 0000000000000001",
        "57014 × 1",
        "calls in 10 s, up to 80.0",
        "p95 or mean in ms, up to 3.00",
        "█",
        "acme",
        "beta",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert_eq!(press(&mut app, KeyCode::Char('s')), Wish::None, "a list's keys do nothing here");
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.detail, None);
}

#[test]
fn a_finding_shows_its_proof_and_what_to_send_instead() {
    let finding: Finding = parsed(json!({
        "id": "5d1c", "kind": "n_plus_one", "severity": "high", "tenant": "acme", "application": "web", "route": null,
        "parent": {"fingerprint": "1", "text": "select id from events"},
        "child": {"fingerprint": "2", "text": "select body from logs where event_id = $1"},
        "evidence": "events.id → logs.event_id = $1", "count": 97, "wasted_ms": 41.2, "occurrences": 3,
        "rewrite": "select body from logs where event_id = any($1)", "state": "open", "last_seen": "2026-01-01T00:00:00.5Z",
    }));
    let mut app = App::new("127.0.0.1:6433", Tab::Findings, "");
    app.take(Tab::Findings, snapshot(List::Findings(vec![finding]), Instant::now()));
    let text = shown(&mut app);
    assert!(text.contains("high") && text.contains("events.id →"), "{text}");
    assert_eq!(press(&mut app, KeyCode::Enter), Wish::None);
    let text = shown(&mut app);
    for words in ["proof", "rows of", "select id from events", "instead", "any($1)", "lost by it 41.2 ms"] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn tenants_lead_to_their_statements_and_pools_to_their_clients() {
    let mut app = app();
    let tenants: Vec<Tenant> = parsed(json!([{
        "tenant": "beta", "clients": 4, "statements": 10, "errors": 1, "queue_ms": 1500.0, "refusals": 7,
        "limits_reached": {"max_rows": {"observed": 1, "warned": 2, "enforced": 3}},
    }]));
    app.turn_for_test(Tab::Tenants);
    app.take(Tab::Tenants, snapshot(List::Tenants(tenants), Instant::now()));
    let text = shown(&mut app);
    let words: Vec<&str> = text.lines().nth(4).unwrap().split_whitespace().collect();
    assert_eq!(words, ["beta", "4", "0", "0", "0", "1.50", "7", "0", "6"], "{text}");
    assert_eq!(press(&mut app, KeyCode::Enter), Wish::Look(Tab::Statements));
    assert_eq!((app.filter.as_str(), app.sheet().rows.len()), ("beta", 2));

    app.turn_for_test(Tab::Pools);
    app.filter.clear();
    app.take(Tab::Pools, snapshot(List::Pools, Instant::now()));
    assert!(shown(&mut app).contains("app/web"));
    assert_eq!(press(&mut app, KeyCode::Enter), Wish::Look(Tab::Clients));
    assert_eq!(app.filter, "web/app");
    let cut = Some((1_000, 3_000));
    app.take(Tab::Clients, Snapshot { cut, ..snapshot(List::Clients(Vec::new()), Instant::now()) });
    app.turn_for_test(Tab::Clients);
    assert!(shown(&mut app).contains("first 1000 of 3000"), "a list that is cut says so");
}

#[test]
fn a_pause_holds_everything_still() {
    let mut app = app();
    press(&mut app, KeyCode::Char(' '));
    app.take(Tab::Statements, snapshot(List::Statements(Vec::new()), Instant::now() + Duration::from_secs(9)));
    assert_eq!(app.sheet().rows.len(), 3);
    assert!(shown(&mut app).contains("paused"));
    assert_eq!(press(&mut app, KeyCode::Char('p')), Wish::Look(Tab::Statements));
    app.take(Tab::Statements, snapshot(List::Statements(Vec::new()), Instant::now() + Duration::from_secs(9)));
    assert!(app.sheet().rows.is_empty());
}

#[test]
fn help_is_over_everything_and_any_key_closes_it() {
    let mut app = app();
    press(&mut app, KeyCode::Char('?'));
    assert!(shown(&mut app).contains("any key closes it"));
    press(&mut app, KeyCode::Char('x'));
    assert!(!app.help);
}

#[test]
fn a_proxy_that_is_gone_is_said_and_the_last_look_stays() {
    let mut app = app();
    _ = take(&mut app, Message::Looked(Tab::Statements, Err("pgweir does not answer at x: refused".into())));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw::draw(frame, &mut app, Theme { colours: true })).unwrap();
    let last: String =
        (0..80).map(|x| terminal.backend().buffer().cell((x, 23)).unwrap().symbol().to_owned()).collect();
    assert!(last.starts_with("pgweir does not answer at x"), "{last}");
    assert_eq!(app.sheet().rows.len(), 3);
    assert_eq!(take(&mut app, Message::Stop), Wish::Quit);
}

#[test]
fn without_colours_no_cell_has_one() {
    let mut app = app();
    press(&mut app, KeyCode::Enter);
    let colourful = |colours: bool, app: &mut App| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw::draw(frame, app, Theme { colours })).unwrap();
        let plain = ratatui::style::Color::Reset;
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != plain || cell.bg != plain)
    };
    assert!(colourful(true, &mut app) && !colourful(false, &mut app));
    press(&mut app, KeyCode::Esc);
    assert!(colourful(true, &mut app) && !colourful(false, &mut app));
}

#[test]
fn no_screen_is_too_small() {
    for size in [(1, 1), (2, 3), (10, 4), (20, 5), (40, 8), (300, 100)] {
        let mut app = app();
        screenful(&mut app, size);
        press(&mut app, KeyCode::Char('?'));
        screenful(&mut app, size);
        press(&mut app, KeyCode::Esc);
        press(&mut app, KeyCode::Enter);
        app.take_history(&format!("{:016x}", 1), vec![Window::default()]);
        screenful(&mut app, size);
    }
}

#[test]
fn text_of_a_client_does_not_reach_the_terminal_as_it_is() {
    let mut app = App::new("127.0.0.1:6433", Tab::Statements, "");
    let list = List::Statements(vec![statement(1, "a\u{1b}[2J", "select \u{7}\u{1b}]0;x\u{7} 1", 1)]);
    app.take(Tab::Statements, snapshot(list, Instant::now()));
    for look in 0..2 {
        let text = shown(&mut app);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{look}: {text:?}");
        press(&mut app, KeyCode::Enter);
    }
    assert!(matches!(app.detail, Some(Detail::Statement { .. })));
}

#[test]
fn columns_that_there_is_no_room_for_are_left_out_and_not_cut() {
    let heads = |app: &mut App, size: (u16, u16)| {
        let text = screenful(app, size);
        text.lines().nth(3).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut app = app();
    assert_eq!(heads(&mut app, (80, 24)), "busy▾ calls/s mean ms p95 ms errors tenant statement");
    assert_eq!(heads(&mut app, (40, 10)), "busy▾ calls/s mean ms statement");
    for _ in 0..4 {
        press(&mut app, KeyCode::Char('s'));
    }
    assert_eq!(heads(&mut app, (40, 10)), "busy calls/s errors▾ statement", "by what it is sorted stays");
    press(&mut app, KeyCode::Char('3'));
    let text = screenful(&mut app, (80, 24));
    assert!(text.contains(" waiting▾ ") && text.contains(" wait p95"), "{text}");
    let text = screenful(&mut app, (40, 10));
    assert!(text.contains("1  2  3 Pools  4  5") && text.contains(" waiting▾"), "{text}");
    press(&mut app, KeyCode::Char('?'));
    let text = screenful(&mut app, (80, 24));
    assert!(text.contains("a pool's clients") && text.contains("of the last minute "), "{text}");
    // However small it is, it is drawn.
    for size in [(1, 1), (2, 3), (20, 3), (40, 4), (3, 40)] {
        screenful(&mut app, size);
    }
}
