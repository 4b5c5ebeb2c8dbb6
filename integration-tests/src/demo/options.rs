//! What the demo is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use super::Outcome;

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The pgweir binary to start.
    pub pgweir: PathBuf,
    /// How long traffic runs through pgweir; directly it runs for a third of it.
    pub traffic: Duration,
    /// Leave PostgreSQL and pgweir running afterwards.
    pub keep: bool,
}

/// How to call it.
pub const USAGE: &str = "usage: demo --pgweir PATH [--seconds 30] [--keep] | demo --stop";

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Outcome<Self> {
        let mut arguments = arguments.into_iter();
        let (mut pgweir, mut seconds, mut keep) = (None, 30, false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--pgweir" => pgweir = Some(PathBuf::from(value()?)),
                "--seconds" => seconds = seconds_of(&value()?)?,
                "--keep" => keep = true,
                _ => return Err(format!("unknown argument {argument}\n{USAGE}").into()),
            }
        }
        let pgweir = pgweir.ok_or(USAGE)?;
        if !pgweir.is_file() {
            return Err(format!("there is no pgweir binary at {}: run `make build` first", pgweir.display()).into());
        }
        Ok(Self { pgweir, traffic: Duration::from_secs(seconds), keep })
    }
}

/// Long enough for every shape to happen, short enough for the memory that latencies are kept in.
fn seconds_of(text: &str) -> Outcome<u64> {
    match text.parse() {
        Ok(seconds @ 10..=3600) => Ok(seconds),
        _ => Err(format!("--seconds {text}: a whole number from 10 to 3600").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Outcome<Options> {
        Options::parse(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn everything_has_a_default_but_the_binary() {
        let here = std::env::current_exe().unwrap();
        let options = parse(&["--pgweir", here.to_str().unwrap()]).unwrap();
        assert_eq!((options.traffic, options.keep), (Duration::from_secs(30), false));
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn a_mistake_names_what_is_wrong() {
        for (arguments, word) in [
            (&["--pgweir"][..], "--pgweir"),
            (&["--seconds", "5"], "--seconds 5"),
            (&["--loud"], "--loud"),
            (&["--pgweir", "/nowhere/pgweir"], "/nowhere/pgweir"),
        ] {
            let message = parse(arguments).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
