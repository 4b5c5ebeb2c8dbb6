//! The Prometheus text format 0.0.4, written.

use std::fmt::Write as _;

use crate::telemetry::histogram::Distribution;

/// The kinds of metric that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, cumulative.
    Histogram,
}

impl Kind {
    /// Its name in the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A text being written, one family after the other.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// Where one family's samples go.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: &'a [&'a str],
}

impl Exposition {
    /// Begins a family; its samples follow at once.
    pub(super) fn family<'a>(
        &'a mut self,
        name: &'a str,
        kind: Kind,
        help: &str,
        labels: &'a [&'a str],
    ) -> Samples<'a> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
        Samples { text: &mut self.text, name, labels }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// One number, under one value for each of the family's labels.
    pub(super) fn put(&mut self, values: &[&str], number: f64) {
        self.line("", values, None, number);
    }

    /// One histogram of durations; a bucket for each doubling.
    pub(super) fn put_histogram(&mut self, values: &[&str], distribution: &Distribution) {
        for (bound_us, count) in distribution.cumulative_octaves() {
            let bound = (bound_us as f64 / 1e6).to_string();
            self.line("_bucket", values, Some(&bound), count as f64);
        }
        let count = distribution.count() as f64;
        self.line("_bucket", values, Some("+Inf"), count);
        self.line("_sum", values, None, distribution.sum_us as f64 / 1e6);
        self.line("_count", values, None, count);
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, number: f64) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut open = '{';
        let labels = self.labels.iter().copied().zip(values.iter().copied());
        for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            self.text.push(open);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        _ = writeln!(self.text, " {number}");
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
}
