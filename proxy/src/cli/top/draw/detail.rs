//! One statement, or one finding, closely.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Wrap};

use super::Theme;
use crate::cli::ask::{figure, printable};
use crate::cli::top::app::{App, Detail};
use crate::cli::top::model::{List, Statement, Tab, Window};

/// Tenants of a statement that are shown.
const TENANTS: usize = 6;
/// Windows of a history are so long.
const STEP_SECONDS: i64 = 10;

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, shown: &Detail, theme: Theme) {
    match shown {
        Detail::Statement { id, windows } => statement(frame, area, app, id, windows.as_deref(), theme),
        Detail::Finding { id } => finding(frame, area, app, id, theme),
    }
}

fn gone(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    frame.render_widget(Paragraph::new(Span::styled("it is no longer told of; Esc goes back", theme.label())), area);
}

fn statement(frame: &mut Frame<'_>, area: Rect, app: &App, id: &str, windows: Option<&[Window]>, theme: Theme) {
    let Some(own) = app.statement(id) else { return gone(frame, area, theme) };
    let siblings = app.siblings(&own.fingerprint);
    let tenants = siblings.len().min(TENANTS) as u16 + 1;
    // The text is folded: as many lines as it needs, if there are as many.
    let width = usize::from(area.width.max(1));
    let text_lines = printable(&own.text).chars().count().div_ceil(width).clamp(1, 6) as u16 + 1;
    let [text, figures, calls, times, others] = Layout::vertical([
        Constraint::Length(text_lines),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Min(tenants.min(2)),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(printable(&own.text)).wrap(Wrap { trim: false }).style(theme.strong()), text);
    frame.render_widget(Paragraph::new(figures_of(own, app, theme)), figures);
    match windows {
        None => frame.render_widget(Paragraph::new(Span::styled("asking how it has run …", theme.label())), calls),
        Some(windows) => {
            let columns = usize::from(area.width);
            course(frame, calls, "calls in 10 s", &series(windows, columns, |window| window.calls as f64), theme);
            let mean = |window: &Window| window.total_ms / (window.calls.max(1) as f64);
            course(
                frame,
                times,
                "p95 or mean in ms",
                &series(windows, columns, |window| window.p95_ms.unwrap_or_else(|| mean(window))),
                theme,
            );
        }
    }
    frame.render_widget(Paragraph::new(rows_of(&siblings, app, theme)), others);
}

fn figures_of(own: &Statement, app: &App, theme: Theme) -> Vec<Line<'static>> {
    let rates = app.view().map(|view| view.rates(&own.id())).unwrap_or_default();
    let pair =
        |name: &str, value: String| [Span::styled(format!("{name} "), theme.label()), Span::from(format!("{value}  "))];
    let line = |pairs: Vec<[Span<'static>; 2]>| Line::from(pairs.into_iter().flatten().collect::<Vec<_>>());
    let mut errors: Vec<_> = own.errors_by_sqlstate.iter().map(|(code, n)| format!("{code} × {n}")).collect();
    errors.truncate(5);
    vec![
        line(vec![
            pair("fingerprint", own.fingerprint.clone()),
            pair("class", printable(&own.class)),
            pair("tenant", printable(&own.tenant)),
            pair("last seen", own.last_seen.get(11..19).unwrap_or_default().to_owned()),
        ]),
        line(vec![
            pair("busy", figure(rates.busy)),
            pair("calls/s", figure(rates.calls)),
            pair("calls", own.calls.to_string()),
            pair("rows a call", figure(own.rows as f64 / own.calls.max(1) as f64)),
            pair("errors", if errors.is_empty() { own.errors.to_string() } else { errors.join(", ") }),
        ]),
        line(vec![
            pair("mean", figure(own.mean_ms)),
            pair("p50", figure(own.p50_ms)),
            pair("p95", figure(own.p95_ms)),
            pair("p99", figure(own.p99_ms)),
            pair("max", figure(own.max_ms)),
            pair("ms; of all time queued", share(own.queue_ms, own.total_ms)),
            pair("in the server", share(own.server_ms, own.total_ms)),
        ]),
    ]
}

fn share(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.0} %", part / whole * 100.0) } else { "–".to_owned() }
}

/// One value for each window from the last ones on, at most `columns`; what is left out of a history was not called.
fn series(windows: &[Window], columns: usize, value: impl Fn(&Window) -> f64) -> Vec<f64> {
    let at = |window: &Window| {
        config::units::parse_moment(&window.start).ok().map(|us| us as i64 / 1_000_000 / STEP_SECONDS)
    };
    let Some(last) = windows.last().and_then(at) else { return Vec::new() };
    let first = last.saturating_sub(columns as i64 - 1).max(windows.first().and_then(at).unwrap_or(last));
    let mut values = vec![0.0; usize::try_from(last - first + 1).unwrap_or(0)];
    for window in windows {
        let place = at(window).and_then(|at| usize::try_from(at - first).ok());
        if let Some(value_of) = place.and_then(|place| values.get_mut(place)) {
            *value_of = value(window);
        }
    }
    values
}

fn course(frame: &mut Frame<'_>, area: Rect, title: &str, values: &[f64], theme: Theme) {
    let [above, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let most = values.iter().copied().fold(0.0, f64::max);
    let words = vec![
        Span::styled(format!("{title}, up to "), theme.label()),
        Span::from(figure(most)),
        Span::styled(
            format!("; the last {} min", (values.len() as i64 * STEP_SECONDS).div_euclid(60).max(1)),
            theme.label(),
        ),
    ];
    frame.render_widget(Paragraph::new(Line::from(words)), above);
    // Fractions of a millisecond count too.
    let data: Vec<u64> = values.iter().map(|value| (value * 1e3) as u64).collect();
    frame.render_widget(Sparkline::default().data(&data).style(theme.accent()), below);
}

fn rows_of(siblings: &[&Statement], app: &App, theme: Theme) -> Vec<Line<'static>> {
    let mut sorted = siblings.to_vec();
    sorted.sort_by(|one, other| other.total_ms.total_cmp(&one.total_ms));
    let head = format!("{:<20}{:>9}{:>9}{:>9}{:>9}{:>9}", "tenant", "busy", "calls/s", "mean ms", "p95 ms", "errors");
    let mut lines = vec![Line::from(Span::styled(head, theme.label()))];
    for own in sorted.iter().take(TENANTS) {
        let rates = app.view().map(|view| view.rates(&own.id())).unwrap_or_default();
        let name: String = printable(&own.tenant).chars().take(19).collect();
        let figures = [rates.busy, rates.calls, own.mean_ms, own.p95_ms].map(|number| format!("{:>9}", figure(number)));
        lines.push(Line::from(format!("{name:<20}{}{:>9}", figures.concat(), own.errors)));
    }
    if let Some(more) = sorted.len().checked_sub(TENANTS).filter(|more| *more > 0) {
        lines.push(Line::from(Span::styled(format!("and {more} more"), theme.label())));
    }
    lines
}

fn finding(frame: &mut Frame<'_>, area: Rect, app: &App, id: &str, theme: Theme) {
    let told = match app.view().map(|view| &view.now.list) {
        Some(List::Findings(all)) if app.tab == Tab::Findings => all.iter().find(|own| own.id == id),
        _ => None,
    };
    let Some(own) = told else { return gone(frame, area, theme) };
    let label = |name: &str| Span::styled(format!("{name} "), theme.label());
    let mut lines = vec![
        Line::from(vec![
            Span::styled(printable(&own.kind), theme.alarm()),
            Span::from(format!("  {}  {}", own.severity, own.state)),
        ]),
        Line::from(vec![
            label("tenant"),
            Span::from(format!("{}  ", printable(&own.tenant))),
            label("application"),
            Span::from(format!("{}  ", printable(&own.application))),
            label("route"),
            Span::from(printable(own.route.as_deref().unwrap_or("–"))),
        ]),
        Line::from(vec![
            label("bursts"),
            Span::from(format!("{}  ", own.occurrences)),
            label("statements in the largest"),
            Span::from(format!("{}  ", own.count)),
            label("lost by it"),
            Span::from(format!("{} ms  ", figure(own.wasted_ms))),
            label("last"),
            Span::from(own.last_seen.get(..19).unwrap_or_default().to_owned()),
        ]),
        Line::default(),
    ];
    let parts = [
        ("proof", own.evidence.as_deref()),
        ("rows of", own.parent.as_ref().map(|side| side.text.as_str())),
        ("each", Some(own.child.text.as_str())),
        ("instead", own.rewrite.as_deref()),
    ];
    for (name, text) in parts {
        let Some(text) = text else { continue };
        lines.push(Line::from(Span::styled(name, theme.label())));
        let style = if name == "instead" { theme.well() } else { theme.strong() };
        lines.extend(text.lines().map(|line| Line::from(Span::styled(format!("  {}", printable(line)), style))));
    }
    lines.push(Line::from(vec![label("id"), Span::from(printable(&own.id))]));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_without_calls_are_gaps_and_the_last_ones_are_shown() {
        let window = |second: u32, calls: u64| Window {
            start: format!("2026-01-01T00:00:{second:02}.000Z"),
            calls,
            ..Window::default()
        };
        let windows = [window(0, 1), window(10, 2), window(40, 5)];
        let calls = |columns: usize| series(&windows, columns, |window| window.calls as f64);
        assert_eq!(calls(80), [1.0, 2.0, 0.0, 0.0, 5.0]);
        assert_eq!(calls(2), [0.0, 5.0]);
        assert!(series(&[], 80, |_| 1.0).is_empty());
        assert!(series(&[Window::default()], 80, |_| 1.0).is_empty(), "no moment");
    }
}
