//! `pgweir fingerprint`: the live path's own reading of a statement, for scripts.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use config::Profile;
use policy::fingerprint::{self, Compat};

use super::Failure;
use crate::offline;

/// A JSON string a line in; strict id, family id and normalised text as a JSON string out, separated by tabs.
/// Empty lines are skipped.
///
/// # Errors
/// An unknown release; the first line that is not a JSON string, by its number; input or output that fails.
pub(super) fn fingerprint(compat: u16, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), Failure> {
    let compat = compat_of(compat)?;
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
        let (strict, family, text) = fingerprint::line(&sql, compat);
        writeln!(output, "{strict}\t{family}\t{}", serde_json::to_string(&text)?)?;
    }
}

/// Recorded event streams in, findings out.
///
/// # Errors
/// A file that cannot be read, an unknown profile or release, output that fails; and, when all else is done, lines that were no
/// event stream.
pub(super) fn analyze(file: &Path, profile: &str, compat: u16, output: &mut dyn Write) -> Result<(), Failure> {
    let compat = compat_of(compat)?;
    let profile = match profile {
        "development" => Profile::Development,
        "production" => Profile::Production,
        other => {
            return Err(format!("--profile {other}: there is no such profile; use development or production").into());
        }
    };
    let input = File::open(file).map_err(|cause| format!("cannot read {}: {cause}", file.display()))?;
    let mut output = BufWriter::new(output);
    let summary = match offline::analyze(BufReader::new(input), &mut output, profile, compat) {
        Ok(summary) => summary,
        Err(offline::Error::Write(cause)) => return Err(cause.into()),
        Err(error) => return Err(format!("{}: {error}", file.display()).into()),
    };
    output.flush()?;
    match summary.bad_lines {
        0 => Ok(()),
        lines => {
            Err(format!("{}: {lines} lines are no event streams; their errors stand in the output", file.display())
                .into())
        }
    }
}

fn compat_of(major: u16) -> Result<Compat, Failure> {
    Compat::of_major(major).ok_or_else(|| format!("--compat {major}: use a major version from 15 to 18").into())
}
