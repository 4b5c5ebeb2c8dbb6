//! The table, and its place in the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{Load, Outcome, Sample};

const BEGIN: &str = "<!-- bench:begin (written by `make bench`) -->";
const END: &str = "<!-- bench:end -->";

/// All samples, by load and way. Ways keep the order in which they were first measured.
#[derive(Debug, Default)]
pub struct Results {
    ways: Vec<&'static str>,
    samples: BTreeMap<(Load, usize), Vec<Sample>>,
}

impl Results {
    /// Adds a sample.
    pub fn add(&mut self, load: Load, way: &'static str, sample: Sample) {
        let place = self.ways.iter().position(|known| *known == way).unwrap_or_else(|| {
            self.ways.push(way);
            self.ways.len() - 1
        });
        self.samples.entry((load, place)).or_default().push(sample);
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// A way's samples of a load, round by round.
    pub fn rounds(&self, load: Load, way: &str) -> &[Sample] {
        let place = self.ways.iter().position(|known| *known == way).unwrap_or(usize::MAX);
        self.samples.get(&(load, place)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Medians over the rounds, by load and way.
    pub fn medians(&self) -> Vec<(Load, &'static str, Sample)> {
        let row = |((load, way), samples): (&(Load, usize), &Vec<Sample>)| {
            Some((*load, self.ways.get(*way).copied()?, Sample::median(samples)?))
        };
        self.samples.iter().filter_map(row).collect()
    }

    /// The table in Markdown: medians over the rounds.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| clients | protocol | way | queries/s | CPU of the pooler, µs/query | median ms | p95 ms | p99 ms |\n\
             |--:|---|---|--:|--:|--:|--:|--:|\n",
        );
        for (load, way, sample) in self.medians() {
            let cpu = if sample.cpu_micros > 0.0 { format!("{:.1}", sample.cpu_micros) } else { "–".to_owned() };
            let [median, p95, p99] = sample.latency_micros.map(|micros| f64::from(micros) / 1e3);
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {way} | {:.0} | {cpu} | {median:.2} | {p95:.2} | {p99:.2} |",
                load.clients,
                load.mode.name(),
                sample.tps,
            );
        }
        text
    }
}

/// Replaces what stands between the page's markers.
pub fn write_between_markers(page: &Path, text: &str) -> Outcome<()> {
    let before = fs::read_to_string(page).map_err(|error| format!("cannot read {}: {error}", page.display()))?;
    let after =
        replaced(&before, text).ok_or_else(|| format!("{} lacks the lines {BEGIN} and {END}", page.display()))?;
    fs::write(page, after).map_err(|error| format!("cannot write {}: {error}", page.display()).into())
}

fn replaced(page: &str, text: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Mode;

    #[test]
    fn a_row_holds_the_medians_of_its_samples() {
        let load = Load { clients: 16, mode: Mode::Simple };
        let mut results = Results::default();
        for tps in [1000.0, 3000.0, 2000.0] {
            results.add(load, "pgweir", Sample { tps, cpu_micros: 12.34, latency_micros: [500, 900, 1500] });
        }
        results.add(load, "direct", Sample { tps: 1.0, cpu_micros: 0.0, latency_micros: [1, 1, 1] });
        let table = results.table();
        assert!(table.contains("| 16 | simple | pgweir | 2000 | 12.3 | 0.50 | 0.90 | 1.50 |"), "{table}");
        assert!(table.contains("| direct | 1 | – |"), "{table}");
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replaced(&page, "new").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert_eq!(replaced("no markers", "new"), None);
    }
}
