//! Sparklines and bars: small pictures beside the figures that they stand for, drawn on the server. The policy for
//! content lets no style into the markup: shapes have attributes, colours have classes.

use std::fmt::Write as _;

use maud::{Markup, html};

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

/// A line over equal steps; a value that is not known is a gap. `named` is for those who cannot see it.
pub(in super::super) fn line(values: &[Option<f64>], named: &str) -> Markup {
    let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
    let highest = values.iter().filter_map(finite).fold(0.0, f64::max);
    if values.len() < 2 || values.iter().filter_map(finite).next().is_none() {
        return html! { svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } aria-hidden="true" focusable="false" {} };
    }
    let step = WIDTH / (values.len() - 1) as f64;
    let y = |value: f64| HEIGHT - 2.0 - if highest > 0.0 { value.max(0.0) / highest * (HEIGHT - 4.0) } else { 0.0 };
    let (mut path, mut area, mut begin) = (String::new(), String::new(), None);
    for (at, value) in values.iter().map(finite).enumerate() {
        let x = at as f64 * step;
        match (value, begin) {
            (Some(value), None) => {
                _ = write!(path, "M{x:.1} {:.1}", y(value));
                _ = write!(area, "M{x:.1} {HEIGHT}L{x:.1} {:.1}", y(value));
                begin = Some(x);
            }
            (Some(value), Some(_)) => {
                _ = write!(path, "L{x:.1} {:.1}", y(value));
                _ = write!(area, "L{x:.1} {:.1}", y(value));
            }
            (None, Some(_)) => {
                _ = write!(area, "L{:.1} {HEIGHT}Z", x - step);
                begin = None;
            }
            (None, None) => {}
        }
    }
    if begin.is_some() {
        _ = write!(area, "L{WIDTH} {HEIGHT}Z");
    }
    html! {
        svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(named) focusable="false" {
            path.area d=(area) {}
            path.line d=(path) fill="none" vector-effect="non-scaling-stroke" {}
        }
    }
}

/// A bar for a share of 0 to 1. Its figure stands beside it.
pub(in super::super) fn bar(share: f64) -> Markup {
    let filled = share.clamp(0.0, 1.0) * 100.0;
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.ground width="100" height="6" rx="1" {}
            rect.filled width=(format!("{filled:.1}")) height="6" rx="1" {}
        }
    }
}

/// Parts of a whole beside each other, each with the class of its colour; their figures stand beside them.
pub(in super::super) fn parts(parts: &[(f64, &str)]) -> Markup {
    let whole: f64 = parts.iter().map(|(part, _)| part.max(0.0)).sum();
    let mut from = 0.0;
    let mut placed = Vec::with_capacity(parts.len());
    for (part, class) in parts {
        let width = if whole > 0.0 { part.max(0.0) / whole * 100.0 } else { 0.0 };
        placed.push((from, width, *class));
        from += width;
    }
    html! {
        svg.bar.parts viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.ground width="100" height="6" {}
            @for (from, width, class) in placed {
                rect class=(class) x=(format!("{from:.2}")) width=(format!("{width:.2}")) height="6" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_stay_gaps_and_nothing_is_no_number() {
        let drawn = line(&[Some(1.0), None, Some(2.0), Some(f64::NAN), Some(3.0)], "calls").into_string();
        assert_eq!(drawn.matches('M').count(), 6, "three strokes and what is under them: {drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert!(!line(&[Some(0.0), Some(0.0)], "").into_string().contains("NaN"));
        assert!(!line(&[], "").into_string().contains("path"));
    }

    #[test]
    fn bars_stay_in_their_box() {
        assert!(bar(7.0).into_string().contains("width=\"100.0\""));
        assert!(bar(-1.0).into_string().contains("width=\"0.0\""));
        assert!(!parts(&[(0.0, "a"), (-1.0, "b")]).into_string().contains("NaN"));
    }
}
