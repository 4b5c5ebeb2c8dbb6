//! A checker of the Prometheus text format, for tests.

use crate::admin::metrics;

/// What the text format demands: HELP and TYPE before a family's samples, families in one piece, labels escaped,
/// numbers that are numbers, histograms cumulative with +Inf equal to their count, no series twice.
pub(super) fn check(text: &str) {
    let mut seen = std::collections::HashSet::<String>::new();
    let mut families = std::collections::HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut histogram: Option<(String, f64)> = None;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().into();
            assert!(families.insert(family.clone()), "{family} comes twice");
            kind.clear();
            continue;
        }
        if let Some(of_type) = line.strip_prefix("# TYPE ") {
            let (name, named_kind) = of_type.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = named_kind.into();
            continue;
        }
        let (series, number) = line.rsplit_once(' ').unwrap();
        let number: f64 = number.parse().unwrap();
        assert!(number >= 0.0, "{line}");
        assert!(seen.insert(series.into()), "{series} comes twice");
        let (name, labels) = split_labels(series);
        if kind != "histogram" {
            assert_eq!(name, family, "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            continue;
        }
        let suffix = name.strip_prefix(&family).unwrap();
        let without_le: String = labels
            .iter()
            .filter(|(label, _)| label != "le")
            .map(|(label, value)| format!("{label}={value};"))
            .collect();
        match (suffix, labels.last()) {
            ("_bucket", Some((label, _))) => {
                assert_eq!(label, "le");
                let before = histogram.take().filter(|(of, _)| *of == without_le).map_or(0.0, |(_, count)| count);
                assert!(number >= before, "{line} is not cumulative");
                histogram = Some((without_le, number));
            }
            ("_count", _) => assert_eq!(histogram.take(), Some((without_le, number)), "{line}"),
            (suffix, _) => assert_eq!(suffix, "_sum", "{line}"),
        }
    }
    for known in metrics::families() {
        assert!(families.contains(known.name), "{} is missing", known.name);
    }
}

/// A series' name and its labels, unescaped.
fn split_labels(series: &str) -> (&str, Vec<(String, String)>) {
    let Some((name, labels)) = series.split_once('{') else {
        return (series, Vec::new());
    };
    let mut labels = labels.strip_suffix('}').unwrap();
    let mut parsed = Vec::new();
    while !labels.is_empty() {
        let (label, rest) = labels.split_once("=\"").unwrap();
        assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{series}");
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other} in {series}"),
                }),
                (_, c) => value.push(c),
            }
        };
        parsed.push((label.into(), value));
        labels = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    (name, parsed)
}
