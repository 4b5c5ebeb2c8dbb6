use std::time::Duration;

use axum::http::{HeaderMap, Method};

use super::*;
use crate::admin::access::Role;

/// The latest of a kind.
fn latest(noted: &Noted, kind: &str, limit: usize) -> (usize, Vec<Value>) {
    let (shown, total, _) = listing(noted, &format!("kind={kind}&limit={limit}"));
    (total, shown)
}

fn listing(noted: &Noted, query: &str) -> (Vec<Value>, usize, String) {
    let route = crate::admin::openapi::routes::find("GET", "/api/v1/audit").unwrap();
    let asked = Asked::read(route, &format!("/api/v1/audit?{query}").parse().unwrap()).unwrap();
    let Json(answer) = listed(noted, &asked).unwrap();
    let shown = answer["audit"].as_array().unwrap().clone();
    (shown, answer["total"].as_u64().unwrap() as usize, answer["next"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_log_is_read_page_by_page_while_it_grows() {
    let mut noted = Noted::default();
    for number in 1..=5 {
        noted.note(deed(if number == 3 { Kind::Refused } else { Kind::Action }, "a", &format!("/{number}")), number);
    }
    let ids = |shown: &[Value]| shown.iter().map(|entry| entry["id"].as_u64().unwrap()).collect::<Vec<_>>();
    let (shown, total, next) = listing(&noted, "limit=2");
    assert_eq!((ids(&shown), total), (vec![5, 4], 5));
    noted.note(deed(Kind::Action, "a", "/6"), 6);
    let (shown, total, next) = listing(&noted, &format!("limit=2&cursor={next}"));
    assert_eq!((ids(&shown), total), (vec![3, 2], 6), "what has come since shifts nothing");
    let (shown, _, next) = listing(&noted, &format!("limit=2&cursor={next}"));
    assert_eq!((ids(&shown), &*next), (vec![1], ""));
}

fn deed(kind: Kind, who: &str, asked: &str) -> Deed {
    Deed {
        kind,
        viewer: (!who.is_empty()).then(|| Viewer::new(who, Role::Viewer)),
        from: Some([192, 0, 2, 1].into()),
        method: Method::GET,
        asked: asked.to_owned(),
        status: 200,
        duration: Duration::from_micros(1_500),
        request_id: RequestId::of(&HeaderMap::new()),
        why: None,
    }
}

#[test]
fn views_that_repeat_are_counted_within_a_minute_and_actions_never_are() {
    let mut noted = Noted::default();
    let second = 1_000_000;
    assert_eq!(noted.note(deed(Kind::View, "a", "/x"), 0), Some(0));
    assert_eq!(noted.note(deed(Kind::View, "a", "/x"), 5 * second), None);
    assert_eq!(noted.note(deed(Kind::View, "b", "/x"), 6 * second), Some(0));
    assert_eq!(noted.note(deed(Kind::View, "a", "/x"), 59 * second), None);
    assert_eq!(noted.note(deed(Kind::View, "a", "/x"), 60 * second), Some(2), "the next line says how often it was");
    for _ in 0..2 {
        assert_eq!(noted.note(deed(Kind::Action, "a", "/y"), 61 * second), Some(0));
    }
    let (total, shown) = latest(&noted, "view", 10);
    assert_eq!((total, &shown[2]["times"], &shown[2]["last"]), (3, &3.into(), &"1970-01-01T00:00:59.000Z".into()));
    assert_eq!((&shown[0]["times"], &shown[0]["ms"]), (&1.into(), &1.5.into()));
}

#[test]
fn what_is_kept_has_an_end_and_refusals_push_nothing_else_out() {
    let mut noted = Noted::default();
    noted.note(deed(Kind::Action, "a", "/kept"), 0);
    for number in 0..5_000 {
        noted.note(deed(Kind::Refused, "", &format!("/{number}")), number);
    }
    assert_eq!((noted.actions.len(), noted.refused.len()), (1, KEPT_REFUSALS));
    for number in 0..5_000 {
        noted.note(deed(Kind::View, "a", &format!("/{number}")), number);
    }
    assert_eq!((noted.views.len(), listing(&noted, "limit=7").0.len()), (KEPT_VIEWS, 7));
    let (total, actions) = latest(&noted, "action", 7);
    assert_eq!((total, &actions[0]["path"]), (1, &"/kept".into()), "nor do views push out what was done");
    for number in 0..5_000 {
        noted.note(deed(Kind::Action, "a", &format!("/{number}")), number);
    }
    assert_eq!(noted.actions.len(), KEPT_ACTIONS);
}

#[test]
fn the_switch_decides_what_is_noted_and_each_line_names_its_request() {
    let kinds = [Kind::View, Kind::Action, Kind::Refused];
    for (wanted, expected) in [
        (config::Audit::All, &["view", "action", "refused"][..]),
        (config::Audit::Actions, &["action", "refused"]),
        (config::Audit::Off, &[]),
    ] {
        let audit = Audit::new(Clock::new(Instant::now(), std::time::SystemTime::now()));
        let deeds: Vec<Deed> = kinds.iter().map(|kind| deed(*kind, "a", "/x")).collect();
        let ids: Vec<String> = deeds.iter().map(|deed| deed.request_id.as_str().to_owned()).collect();
        let lines = crate::log::testing::json_lines(|| {
            deeds.into_iter().for_each(|deed| audit.note(deed, wanted, Instant::now()));
        });
        let messages: Vec<&str> = lines.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect();
        assert_eq!(messages, expected);
        for line in &lines {
            assert!(ids.iter().any(|id| line["fields"]["request_id"] == id.as_str()), "{line}");
            assert_eq!((&line["fields"]["who"], &line["fields"]["from"]), (&"a".into(), &"192.0.2.1".into()));
            assert!(line["target"].as_str().unwrap().starts_with(crate::log::level::AUDIT), "{line}");
        }
        assert_eq!(listing(&audit.noted(), "").1, expected.len());
    }
}
