//! STATS and its parts.

use super::super::averages::{Averages, ByDatabase, Figures};
use super::super::value::{Row, Value, text};

/// STATS.
pub(in super::super) fn stats(all: &ByDatabase, averages: &Averages, now_us: u64) -> Vec<Row> {
    let averaged = |database: &str, figures: &Figures| {
        let average = averages.of(database, figures, now_us);
        row(database, figures.0.into_iter().chain(average.0))
    };
    all.iter().map(|(database, figures)| averaged(database, figures)).collect()
}

/// STATS_TOTALS.
pub(in super::super) fn totals(all: &ByDatabase) -> Vec<Row> {
    all.iter().map(|(database, figures)| row(database, figures.0.into_iter())).collect()
}

/// STATS_AVERAGES.
pub(in super::super) fn averages(all: &ByDatabase, averages: &Averages, now_us: u64) -> Vec<Row> {
    all.iter().map(|(database, figures)| row(database, averages.of(database, figures, now_us).0.into_iter())).collect()
}

/// The names of TOTALS, in the order of the figures.
const NAMES: [&str; super::super::averages::COUNT] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
];

/// TOTALS.
pub(in super::super) fn totals_and_averages(all: &ByDatabase, averages: &Averages, now_us: u64) -> Vec<Row> {
    let mut sum = Figures::default();
    all.values().for_each(|figures| sum.add(figures));
    let average = averages.of_all(&sum, now_us);
    let rows = |kind: &'static str, figures: Figures| {
        let named = NAMES.iter().zip(figures.0);
        named.map(move |(name, figure)| vec![Value::from(format!("{kind}_{name}")), figure.into()])
    };
    rows("total", sum).chain(rows("avg", average)).collect()
}

fn row(database: &str, figures: impl Iterator<Item = u64>) -> Row {
    std::iter::once(text(database)).chain(figures.map(Value::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_figure() {
        let figures = Figures([10, 20, 40, 5, 6, 100, 400, 50, 7, 8, 9]);
        let all = ByDatabase::from([("shop".into(), figures)]);
        let none = Averages::new(0);
        let numbers = |row: &Row| -> Vec<u64> {
            row.iter()
                .filter_map(|value| if let Value::Number(number) = value { Some(*number) } else { None })
                .collect()
        };
        let whole = stats(&all, &none, 1_000_000);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0][0], text("shop"));
        let averaged = [10, 20, 40, 5, 6, 5, 10, 5, 7, 8, 9];
        assert_eq!(numbers(&whole[0]), [figures.0, averaged].concat());
        assert_eq!(numbers(&totals(&all)[0]), figures.0);
        assert_eq!(numbers(&averages(&all, &none, 1_000_000)[0]), averaged);
        let rows = totals_and_averages(&all, &none, 1_000_000);
        assert_eq!(rows.len(), 22);
        assert_eq!(rows[4], [text("total_server_bytes"), Value::Number(6)]);
        assert_eq!(rows[16], [text("avg_xact_time"), Value::Number(5)]);
    }
}
