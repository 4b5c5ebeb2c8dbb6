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
    /// The page whose table is replaced, with a chart and the figures beside it; `None`: print only.
    pub write: Option<PathBuf>,
    /// A promise that is missed is a failure.
    pub check: bool,
    /// What is measured.
    pub parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `pgbench --select-only`.
    Loads,
    /// Idle clients.
    Idle,
    /// Large flows.
    Bulk,
    /// pgweir against itself.
    Own,
    /// pgweir while its admin port is asked all the time, and while it is not.
    Admin,
    /// The read cache.
    Cache,
}

impl Part {
    /// All of them, by the names that the command line has for them.
    pub const ALL: [(&str, Self); 6] = [
        ("loads", Self::Loads),
        ("idle", Self::Idle),
        ("bulk", Self::Bulk),
        ("own", Self::Own),
        ("admin", Self::Admin),
        ("cache", Self::Cache),
    ];
}

/// How to call it.
pub const USAGE: &str = "usage: bench --pgweir PATH [--rounds 3] [--seconds 5] [--parts loads,idle,bulk,own,admin,cache] [--check] \
    [--write docs/benchmarks.md]";

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Outcome<Self> {
        let mut arguments = arguments.into_iter();
        let (mut pgweir, mut rounds, mut seconds, mut write, mut check) = (None, 3, 5, None, false);
        let mut parts = Part::ALL.map(|(_, part)| part).to_vec();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--pgweir" => pgweir = Some(PathBuf::from(value()?)),
                "--rounds" => rounds = number(&argument, &value()?)?,
                "--seconds" => seconds = number(&argument, &value()?)?,
                "--check" => check = true,
                "--parts" => parts = value()?.split(',').map(part).collect::<Outcome<_>>()?,
                "--write" => write = Some(PathBuf::from(value()?)),
                _ => return Err(format!("unknown argument {argument}\n{USAGE}").into()),
            }
        }
        let pgweir = pgweir.ok_or(USAGE)?;
        if !pgweir.is_file() {
            return Err(format!("there is no pgweir binary at {}: run `make build` first", pgweir.display()).into());
        }
        Ok(Self { pgweir, rounds: usize::try_from(rounds)?, seconds, write, check, parts })
    }
}

fn part(name: &str) -> Outcome<Part> {
    let known = Part::ALL.into_iter().find(|(known, _)| *known == name);
    known.map(|(_, part)| part).ok_or_else(|| format!("--parts {name}: loads, idle, bulk, own, admin or cache").into())
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
        assert_eq!((options.rounds, options.seconds, options.write, options.check), (3, 5, None, false));
        assert_eq!(options.parts, Part::ALL.map(|(_, part)| part));
        assert!(Options::parse([]).is_err());
        assert!(
            Options::parse(["--rounds".to_owned(), "0".to_owned()]).unwrap_err().to_string().contains("--rounds 0")
        );
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let here = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let chosen = |parts: &str| {
            Options::parse(["--pgweir", &here, "--parts", parts].map(str::to_owned)).map(|options| options.parts)
        };
        assert_eq!(chosen("own,idle").unwrap(), [Part::Own, Part::Idle]);
        assert!(chosen("own,others").unwrap_err().to_string().contains("--parts others"));
        assert!(chosen("").is_err());
        // Everything that there is stands in the usage.
        let all = Part::ALL.map(|(name, _)| name).join(",");
        assert!(USAGE.contains(&format!("--parts {all}")), "{USAGE}");
    }
}
