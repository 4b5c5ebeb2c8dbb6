//! `pgweir fingerprint`: the live path's own reading of a statement, for scripts.

use std::io::{BufRead, BufWriter, Write};

use policy::fingerprint::{self, Compat};

use super::Failure;

/// A JSON string a line in; strict id, family id and normalised text as a JSON string out, separated by tabs.
/// Empty lines are skipped.
///
/// # Errors
/// The first line that is not a JSON string, by its number; input or output that fails.
pub(super) fn fingerprint(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), Failure> {
    let mut output = BufWriter::new(output);
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        number += 1;
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(output.flush()?);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let sql: String = serde_json::from_slice(&line).map_err(|error| {
            format!("standard input, line {number}: {error}; write each statement as one JSON string on its line")
        })?;
        let (strict, family, text) = fingerprint::line(&sql, Compat::default());
        writeln!(output, "{strict}\t{family}\t{}", serde_json::to_string(&text)?)?;
    }
}
