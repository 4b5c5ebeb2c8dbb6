//! As much of a reader of `/metrics` as a look needs.

use std::collections::HashMap;

/// The samples of one scrape.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics(HashMap<String, Vec<(String, f64)>>);

impl Metrics {
    /// Reads the text format. Lines that are none are passed over.
    pub(super) fn new(text: &str) -> Self {
        let mut all: HashMap<String, Vec<(String, f64)>> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, number)) = line.rsplit_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            all.entry(name.to_owned()).or_default().push((labels.trim_end_matches('}').to_owned(), number));
        }
        Self(all)
    }

    /// All samples of a name, each with its labels as they stand between the braces.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.get(name).into_iter().flatten().map(|(labels, number)| (labels.as_str(), *number))
    }

    /// Their sum; `None`: there are none.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|samples| samples.iter().map(|(_, number)| number).sum())
    }
}
