//! The figures as a picture: one bar for each way and load.

use std::fmt::Write as _;

use super::table::Results;

const ROW: usize = 18;
const LEFT: usize = 150;
const WIDE: usize = 420;
const COLOURS: [&str; 6] = ["#0b7285", "#868e96", "#adb5bd", "#c0a16b", "#9775fa", "#74b816"];

/// Processor time of each pooler per query, as SVG.
pub fn cpu(results: &Results) -> String {
    let bars = results.medians().into_iter().filter(|(_, _, sample)| sample.cpu_micros > 0.0);
    let bars: Vec<_> = bars.map(|(load, way, sample)| (load, way, sample.cpu_micros)).collect();
    let longest = bars.iter().fold(1.0_f64, |longest, (_, _, micros)| longest.max(*micros));
    let mut ways: Vec<&str> = Vec::new();
    let mut body = String::new();
    let mut y = 40;
    let mut last = None;
    for (load, way, micros) in &bars {
        if last != Some(*load) {
            y += 10;
            let label = format!("{} clients, {}", load.clients, load.mode.name());
            // Writing into a String cannot fail, here and below.
            let _ = writeln!(body, r#"<text x="{}" y="{}" text-anchor="end">{label}</text>"#, LEFT - 8, y + 13);
            last = Some(*load);
        }
        let place = ways.iter().position(|known| known == way).unwrap_or_else(|| {
            ways.push(way);
            ways.len() - 1
        });
        let colour = COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#000");
        let length = micros / longest * WIDE as f64;
        let _ =
            writeln!(body, r#"<rect x="{LEFT}" y="{y}" width="{length:.0}" height="{}" fill="{colour}"/>"#, ROW - 3);
        let end = LEFT as f64 + length + 5.0;
        let _ = writeln!(body, r#"<text x="{end:.0}" y="{}">{micros:.1} {way}</text>"#, y + 12);
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"14\" font-weight=\"bold\">CPU of the pooler per query, µs (less is better)</text>\n\
         {body}</svg>\n",
        LEFT + WIDE + 200,
        y + 14
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Load, Mode, Sample};
    use super::*;

    #[test]
    fn the_longest_bar_is_the_dearest_way() {
        let mut results = Results::default();
        let load = Load { clients: 16, mode: Mode::Simple };
        for (way, cpu_micros) in [("pgweir", 10.0), ("other", 20.0), ("direct", 0.0)] {
            results.add(load, way, Sample { tps: 1.0, cpu_micros, latency_micros: [1, 1, 1] });
        }
        let svg = cpu(&results);
        assert!(svg.contains(r#"width="210""#) && svg.contains(r#"width="420""#), "{svg}");
        assert!(svg.contains("10.0 pgweir") && !svg.contains("direct"), "{svg}");
    }
}
