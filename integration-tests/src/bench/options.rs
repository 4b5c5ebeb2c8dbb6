//! What the benchmark is asked to do.

use std::path::PathBuf;

use super::Outcome;

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The pgweir binary to start.
    pub pgweir: PathBuf,
    /// How often every load goes over every way.
    pub rounds: usize,
    /// Seconds of each run of pgbench.
    pub seconds: u64,
    /// The page whose table is replaced; `None`: print only.
    pub write: Option<PathBuf>,
}

/// How to call it.
pub const USAGE: &str = "usage: bench --pgweir PATH [--rounds 3] [--seconds 5] [--write docs/benchmarks.md]";

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Outcome<Self> {
        let mut arguments = arguments.into_iter();
        let (mut pgweir, mut rounds, mut seconds, mut write) = (None, 3, 5, None);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--pgweir" => pgweir = Some(PathBuf::from(value()?)),
                "--rounds" => rounds = number(&argument, &value()?)?,
                "--seconds" => seconds = number(&argument, &value()?)?,
                "--write" => write = Some(PathBuf::from(value()?)),
                _ => return Err(format!("unknown argument {argument}\n{USAGE}").into()),
            }
        }
        let pgweir = pgweir.ok_or(USAGE)?;
        if !pgweir.is_file() {
            return Err(format!("there is no pgweir binary at {}: run `make build` first", pgweir.display()).into());
        }
        Ok(Self { pgweir, rounds: usize::try_from(rounds)?, seconds, write })
    }
}

fn number(name: &str, text: &str) -> Outcome<u64> {
    match text.parse() {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err(format!("{name} {text}: a whole number from 1 to 1000").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_default_but_the_binary() {
        let here = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let options = Options::parse(["--pgweir".to_owned(), here]).unwrap();
        assert_eq!((options.rounds, options.seconds, options.write), (3, 5, None));
        assert!(Options::parse([]).is_err());
        assert!(
            Options::parse(["--rounds".to_owned(), "0".to_owned()]).unwrap_err().to_string().contains("--rounds 0")
        );
    }
}
