//! Moments: how long ago for reading, the moment itself for machines and on hovering.

use maud::{Markup, html};

use super::figure;
use super::text::{none, visible};

/// µs since 1970 of a moment as the API writes it.
pub(in super::super) fn micros(text: &str) -> Option<u64> {
    config::units::parse_moment(text).ok()
}

/// How long ago a moment was.
pub(in super::super) fn ago(text: &str, now_us: u64) -> Markup {
    let Some(at) = micros(text) else { return none() };
    let seconds = now_us.saturating_sub(at) / 1_000_000;
    let said = match seconds {
        0..2 => "just now".to_owned(),
        _ => format!("{} ago", coarse(seconds)),
    };
    html! { time datetime=(visible(text)) title=(visible(text)) { (said) } }
}

/// How long something has lasted since a moment.
pub(in super::super) fn lasting(text: &str, now_us: u64) -> Markup {
    let Some(at) = micros(text) else { return none() };
    let seconds = now_us.saturating_sub(at) as f64 / 1e6;
    html! { time datetime=(visible(text)) title={ "since " (visible(text)) } { (figure::ms(seconds * 1e3)) } }
}

/// One unit is enough for how long ago something was.
fn coarse(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number}\u{202f}{unit}")
}

/// Hour and minute, and the second where it matters, in UTC.
pub(in super::super) fn hour(text: &str) -> &str {
    text.get(11..16).unwrap_or_default()
}

/// Day, hour and minute, in UTC.
pub(in super::super) fn minute(text: &str) -> String {
    text.get(..16).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_how_long_ago_they_were() {
        let at = "2026-01-01T00:00:00.000Z";
        let start = micros(at).unwrap();
        for (seconds, said) in
            [(0, "just now"), (59, "59\u{202f}s ago"), (3_599, "59\u{202f}min ago"), (200_000, "2\u{202f}days ago")]
        {
            let shown = ago(at, start + seconds * 1_000_000).into_string();
            assert!(shown.contains(&format!(">{said}<")), "{shown}");
        }
        assert!(lasting(at, start + 1_500_000).into_string().contains("1.50\u{202f}s"));
        assert_eq!(ago("soon", 0).into_string(), none().into_string());
        assert_eq!((hour(at), minute(at).as_str(), minute("soon").as_str()), ("00:00", "2026-01-01 00:00", ""));
    }
}
