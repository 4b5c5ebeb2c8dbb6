//! Prometheus' text format 0.0.4 and OpenMetrics 1.0.0, written.
//!
//! The two differ in what announces a family (OpenMetrics names a counter without its `_total`, and says the unit), and in
//! the last line. Samples are the same.

use std::fmt::Write as _;

use crate::telemetry::histogram::Distribution;

/// The kinds of metric that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A gauge that is always 1: its labels are what it says. Its name ends with `_info`.
    Info,
    /// Durations in seconds, cumulative.
    Histogram,
}

impl Kind {
    /// Its name in the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which of the two formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own.
    #[default]
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// As the answer's head says it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a request with these `Accept` headers gets: OpenMetrics where it is asked for by name, in a version that this
    /// is, and not less than plain text; for a reader that names neither, plain text.
    pub(super) fn accepted<'a>(accepts: impl Iterator<Item = &'a str>) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accepts.flat_map(|accept| accept.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => quality = value.trim().parse::<f32>().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text") && matches!(version, None | Some("1.0.0")) {
                open = open.max(quality);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                text = text.max(quality);
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// A text being written, one family after the other.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    format: Format,
}

/// Where one family's samples go.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: &'a [&'a str],
}

impl Exposition {
    /// An empty one.
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family; its samples follow at once.
    pub(super) fn family<'a>(
        &'a mut self,
        name: &'a str,
        kind: Kind,
        help: &str,
        labels: &'a [&'a str],
    ) -> Samples<'a> {
        let mut help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        match self.format {
            Format::Text => {
                _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
            }
            Format::OpenMetrics => {
                let (family, kind) = match kind {
                    Kind::Counter => (name.strip_suffix("_total").unwrap_or(name), "counter"),
                    Kind::Info => (name.strip_suffix("_info").unwrap_or(name), "info"),
                    Kind::Gauge | Kind::Histogram => (name, kind.name()),
                };
                help = help.replace('"', "\\\"");
                _ = writeln!(self.text, "# TYPE {family} {kind}");
                if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| is_in(family, unit)) {
                    _ = writeln!(self.text, "# UNIT {family} {unit}");
                }
                _ = writeln!(self.text, "# HELP {family} {help}");
            }
        }
        Samples { text: &mut self.text, name, labels }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Whether a family's name says that its numbers are in this unit.
fn is_in(family: &str, unit: &str) -> bool {
    family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

impl Samples<'_> {
    /// One number, under one value for each of the family's labels.
    pub(super) fn put(&mut self, values: &[&str], number: f64) {
        let labels = self.written(values);
        self.line("", &labels, None, number);
    }

    /// One histogram of durations; a bucket for each doubling.
    pub(super) fn put_histogram(&mut self, values: &[&str], distribution: &Distribution) {
        let labels = self.written(values);
        for (bound_us, count) in distribution.cumulative_octaves() {
            self.line("_bucket", &labels, Some(bound_us as f64 / 1e6), count as f64);
        }
        let count = distribution.count() as f64;
        self.line("_bucket", &labels, Some(f64::INFINITY), count);
        self.line("_sum", &labels, None, distribution.sum_us as f64 / 1e6);
        self.line("_count", &labels, None, count);
    }

    /// Labels as they stand between the braces: a histogram writes them two dozen times.
    fn written(&self, values: &[&str]) -> String {
        let mut text = String::new();
        for (label, value) in self.labels.iter().zip(values) {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(label);
            text.push_str("=\"");
            escape(&mut text, value);
            text.push('"');
        }
        text
    }

    fn line(&mut self, suffix: &str, labels: &str, bound: Option<f64>, number: f64) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let comma = if labels.is_empty() { "" } else { "," };
        _ = match bound {
            None if labels.is_empty() => writeln!(self.text, " {number}"),
            None => writeln!(self.text, "{{{labels}}} {number}"),
            Some(f64::INFINITY) => writeln!(self.text, "{{{labels}{comma}le=\"+Inf\"}} {number}"),
            Some(bound) => writeln!(self.text, "{{{labels}{comma}le=\"{bound}\"}} {number}"),
        };
    }
}

/// A label's value: backslash, quote and newline are escaped.
fn escape(into: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let mut text = Exposition::default();
        text.family("m", Kind::Gauge, "a\\b\nc", &["x", "y"]).put(&["q\"\\\n", "é"], 1.5);
        assert_eq!(text.finish(), "# HELP m a\\\\b\\nc\n# TYPE m gauge\nm{x=\"q\\\"\\\\\\n\",y=\"é\"} 1.5\n");
    }

    #[test]
    fn large_counts_stay_whole_numbers() {
        let mut text = Exposition::default();
        text.family("m", Kind::Counter, "h", &[]).put(&[], 12_345_678_901_234.0);
        assert!(text.finish().ends_with("m 12345678901234\n"));
    }

    #[test]
    fn open_metrics_names_families_without_their_ends_and_says_units() {
        let mut text = Exposition::new(Format::OpenMetrics);
        text.family("a_bytes_total", Kind::Counter, "in \"all\"", &["x"]).put(&["1"], 2.0);
        text.family("b_info", Kind::Info, "h", &[]).put(&[], 1.0);
        text.family("c_seconds", Kind::Gauge, "h", &[]).put(&[], 0.5);
        assert_eq!(
            text.finish(),
            "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes in \\\"all\\\"\na_bytes_total{x=\"1\"} 2\n\
             # TYPE b info\n# HELP b h\nb_info 1\n\
             # TYPE c_seconds gauge\n# UNIT c_seconds seconds\n# HELP c_seconds h\nc_seconds 0.5\n# EOF\n"
        );
    }

    #[test]
    fn open_metrics_is_for_who_asks_for_it() {
        let format = |accept: &str| Format::accepted(std::iter::once(accept));
        for open in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
            "APPLICATION/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8",
        ] {
            assert_eq!(format(open), Format::OpenMetrics, "{open}");
        }
        for text in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text; version=2.0.0",
            "application/openmetrics-text; version=0.0.1",
            "application/openmetrics-text; q=0, text/plain",
            "application/openmetrics-text; q=0.2, text/plain; q=0.5",
            "application/openmetrics-text; q=nonsense",
            ";;;=,,q=1",
        ] {
            assert_eq!(format(text), Format::Text, "{text}");
        }
        assert_eq!(Format::accepted(["text/html", "application/openmetrics-text"].into_iter()), Format::OpenMetrics);
        assert_eq!(Format::accepted(std::iter::empty()), Format::Text);
    }
}
