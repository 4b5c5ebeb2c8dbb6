//! Charts of what changed over time: a table that anybody can read, a picture of it drawn here, and the same as a canvas
//! once the script has taken over. The script reads the table; nothing is sent twice.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::figure;
use super::moment::hour;
use super::text::none;

/// What is drawn over time.
pub(in super::super) struct Chart<'a> {
    /// Unique in the page.
    pub(in super::super) id: &'a str,
    /// What it shows.
    pub(in super::super) title: &'a str,
    /// Begins of the windows, as the API writes moments.
    pub(in super::super) times: &'a [String],
    /// What is drawn.
    pub(in super::super) lines: &'a [Line],
}

/// One line of a chart.
pub(in super::super) struct Line {
    /// What it is called.
    pub(in super::super) title: &'static str,
    /// Of what kind its figures are.
    pub(in super::super) unit: Unit,
    /// The class of its colour.
    pub(in super::super) tone: &'static str,
    /// Its values, one for each window.
    pub(in super::super) values: Vec<Option<f64>>,
}

/// Of what kind figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unit {
    /// Numbers.
    Count,
    /// Milliseconds.
    Ms,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Ms => "ms",
        }
    }

    fn show(self) -> fn(f64) -> String {
        match self {
            Self::Count => figure::rate,
            Self::Ms => figure::ms,
        }
    }
}

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 140.0;

/// The chart and its table.
pub(in super::super) fn draw(chart: &Chart<'_>) -> Markup {
    let unit = chart.lines.first().map_or(Unit::Count, |line| line.unit);
    let highest = chart.lines.iter().flat_map(|line| &line.values).flatten().copied().filter(|value| value.is_finite());
    let highest = highest.fold(0.0, f64::max);
    html! {
        figure.chart id=(chart.id) data-chart {
            figcaption {
                span.title { (chart.title) }
                span.legend {
                    @for line in chart.lines { span class={ "key " (line.tone) } { (line.title) } }
                }
            }
            @if chart.times.len() < 2 {
                p.empty { "Not enough has happened yet to draw a line." }
            } @else {
                div.plot {
                    svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                        aria-label={ (chart.title) ": the table below has its figures" } {
                        @for line in chart.lines {
                            path class={ "stroke " (line.tone) } d=(path(&line.values, highest)) fill="none" vector-effect="non-scaling-stroke" {}
                        }
                    }
                    p.scale { span { (unit.show()(highest)) " at most" } span { (hour(chart.times.first().map_or("", |time| time))) "–" (hour(chart.times.last().map_or("", |time| time))) " UTC" } }
                }
            }
            details {
                summary { "Table of " (chart.title) }
                (table(chart))
            }
        }
    }
}

fn path(values: &[Option<f64>], highest: f64) -> String {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let (mut path, mut on) = (String::new(), false);
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            on = false;
            continue;
        };
        let y = HEIGHT - 2.0 - if highest > 0.0 { value.max(0.0) / highest * (HEIGHT - 6.0) } else { 0.0 };
        _ = write!(path, "{}{:.1} {y:.1}", if on { 'L' } else { 'M' }, at as f64 * step);
        on = true;
    }
    path
}

fn table(chart: &Chart<'_>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Table of " (chart.title) } {
            table.series {
                caption { (chart.title) ", times in UTC" }
                thead { tr {
                    th scope="col" { "From" }
                    @for line in chart.lines {
                        th scope="col" class="figures" data-unit=(line.unit.name()) data-tone=(line.tone) { (line.title) }
                    }
                } }
                tbody {
                    @for (at, time) in chart.times.iter().enumerate() {
                        tr {
                            th scope="row" { time datetime=(time) { (hour(time)) (time.get(16..19).unwrap_or_default()) } }
                            @for line in chart.lines {
                                @match line.values.get(at).copied().flatten() {
                                    Some(value) => td.figures data-v=(rounded(value)) { (line.unit.show()(value)) },
                                    None => td.figures { (none()) },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// To the µs: more digits mean nothing and cost bytes.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A histogram: lower bounds in ms with their counts, as bars that have their figures beside them.
pub(in super::super) fn histogram(title: &str, buckets: &[(f64, f64)]) -> Markup {
    let highest = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let all: f64 = buckets.iter().map(|(_, count)| *count).sum();
    if all <= 0.0 {
        return html! { p.empty { "No call has ended yet." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.histogram {
                caption { (title) }
                thead { tr { th scope="col" class="figures" { "From" } th scope="col" class="figures" { "Calls" } th scope="col" { "Share" } } }
                tbody {
                    @for (from, count) in buckets {
                        tr {
                            th scope="row" class="figures" { (figure::ms(*from)) }
                            td.figures { (figure::count(*count)) }
                            td { (super::spark::bar(count / highest)) " " span.beside { (figure::percent(count / all)) } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_what_the_picture_shows() {
        let times = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z"].map(str::to_owned);
        let values = vec![Some(1_234.567_891), None];
        let lines = [Line { title: "calls", unit: Unit::Count, tone: "one", values }];
        let drawn = draw(&Chart { id: "c", title: "Calls", times: &times, lines: &lines }).into_string();
        assert!(
            drawn.contains("data-v=\"1234.568\"") && drawn.contains("<td class=\"figures\"><span class=\"none\">"),
            "{drawn}"
        );
        assert!(drawn.contains("M0.0 2.0") || drawn.contains("M0.0 4.0"), "{drawn}");
        assert!(!draw(&Chart { id: "c", title: "Calls", times: &[], lines: &[] }).into_string().contains("<svg"));
    }

    #[test]
    fn a_histogram_has_a_row_for_each_bucket() {
        let drawn = histogram("Time", &[(0.5, 3.0), (1.0, 1.0)]).into_string();
        assert!(drawn.contains("500") && drawn.contains("75") && drawn.matches("<tr>").count() == 3, "{drawn}");
        assert!(histogram("Time", &[]).into_string().contains("No call"));
    }
}
