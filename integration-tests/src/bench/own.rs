//! pgweir against itself: what observing costs, what a second worker changes, what logins do to those who are in, and what it
//! costs them that somebody reads the numbers.

use std::path::Path;

use rand::Rng;
use wire::login::ScramVerifier;

use super::logins::{PACE, among_logins};
use super::options::Part;
use super::pages;
use super::scrapes::{self, while_scraped};
use super::ways::{Bench, PASSWORD, Setup, USER, Way};
use super::{Load, Mode, Outcome, Sample};

/// Nothing is watched.
const UNOBSERVED: &str = "[observe]\nstatements = false\nn_plus_one = false\n[slow_log]\nthreshold = 0\n";

/// Everything is watched but bursts of statements that hang together.
const UNDETECTED: &str = "[observe]\nn_plus_one = false\n";

/// A tenant and a class by rules, and every limit that is looked at for each statement, none of which pgbench reaches.
/// Besides, what the server connections are shared by is left out: it is asked for with each lease.
const POLICED: &str = include_str!("policed.toml");

/// How often the sides take turns in each round: they differ by a few per cent, which only many pairs tell from noise.
pub const TURNS: usize = 3;

/// The load that logins come beside: few clients, so that it is the proxy that queries wait for, and not each other.
pub const BESIDE_LOGINS: Load = Load { clients: 4, mode: Mode::Prepared };

/// The loads of the other comparisons.
pub const LOADS: [Load; 2] = [Load { clients: 16, mode: Mode::Simple }, Load { clients: 16, mode: Mode::Prepared }];

/// The load that the admin port is asked beside.
pub const BESIDE_SCRAPES: Load = Load { clients: 16, mode: Mode::Prepared };

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// As beside the others: one worker, everything observed.
    Usual,
    /// Nothing observed.
    Unobserved,
    /// Everything observed but N+1.
    Undetected,
    /// Rules name tenant and class, and limits are set for them.
    Policed,
    /// Two workers.
    TwoWorkers,
    /// Clients log in by SCRAM, and nobody does while the load runs.
    Quiet,
    /// The same, and others log in all the time.
    AmongLogins,
    /// As many log in, but to another pgweir: what they take from the machine, and not from the process.
    LoginsElsewhere,
    /// Many statements of many tenants are kept, and nobody asks for them.
    Unwatched,
    /// The same, and `/metrics` and `/api/v1/queries` are asked for every second.
    Watched,
}

impl Side {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 10] = [
        Self::Usual,
        Self::Unobserved,
        Self::Undetected,
        Self::Policed,
        Self::TwoWorkers,
        Self::Quiet,
        Self::AmongLogins,
        Self::LoginsElsewhere,
        Self::Unwatched,
        Self::Watched,
    ];

    /// The part of the benchmark that it belongs to.
    pub fn part(self) -> Part {
        match self {
            Self::Unwatched | Self::Watched => Part::Admin,
            _ => Part::Own,
        }
    }

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "one worker, everything observed",
            Self::Unobserved => "nothing observed",
            Self::Undetected => "no detection of N+1",
            Self::Policed => "with rules and limits",
            Self::TwoWorkers => "two workers",
            Self::Quiet => "nobody logs in",
            Self::AmongLogins => "others log in",
            Self::LoginsElsewhere => "others log in, at another pgweir",
            Self::Unwatched => "nobody asks the admin port",
            Self::Watched => "asked every second",
        }
    }

    /// The loads that it is measured with.
    pub fn loads(self) -> &'static [Load] {
        match self {
            Self::Usual | Self::Unobserved | Self::Undetected | Self::Policed | Self::TwoWorkers => &LOADS,
            Self::Quiet | Self::AmongLogins | Self::LoginsElsewhere => &[BESIDE_LOGINS],
            Self::Unwatched | Self::Watched => &[BESIDE_SCRAPES],
        }
    }

    /// pgweir as this side has it, in a process of its own.
    pub fn start(self, binary: &Path, bench: &Bench) -> Outcome<Way> {
        let setup = match self {
            Self::Usual => Setup::default(),
            Self::Unobserved => Setup { settings: UNOBSERVED.to_owned(), ..Setup::default() },
            Self::Undetected => Setup { settings: UNDETECTED.to_owned(), ..Setup::default() },
            Self::Policed => Setup { settings: POLICED.to_owned(), ..Setup::default() },
            Self::TwoWorkers => Setup { workers: 2, ..Setup::default() },
            Self::Quiet | Self::AmongLogins | Self::LoginsElsewhere => {
                Setup { auth: "scram-sha-256", settings: user()?, ..Setup::default() }
            }
            Self::Unwatched | Self::Watched => Setup { settings: scrapes::SETTINGS.to_owned(), ..Setup::default() },
        };
        let way = Way::pgweir(binary, bench, &setup)?;
        if self.part() == Part::Admin {
            scrapes::fill(&way)?;
            pages::provoke(&way)?;
        }
        Ok(way)
    }

    /// Runs a load over what [`Side::start`] has given. `elsewhere`: a pgweir that carries nothing meanwhile.
    pub fn measure(self, way: &Way, elsewhere: &Way, pgbench: &Path, load: Load, seconds: u64) -> Outcome<Own> {
        let run = || way.run(pgbench, load, seconds);
        let (run, logins, scrape_millis) = match self {
            Self::AmongLogins => {
                let (run, logins) = among_logins(way, run)?;
                (run, logins, 0.0)
            }
            Self::LoginsElsewhere => {
                let (run, logins) = among_logins(elsewhere, run)?;
                (run, logins, 0.0)
            }
            Self::Watched => {
                let (run, millis) = while_scraped(way, run)?;
                (run, 0.0, millis)
            }
            _ => (run()?, 0.0, 0.0),
        };
        Ok(Own { sample: run.sample(), worker_micros: run.worker_micros(), logins, scrape_millis })
    }
}

/// The benchmark's user with a verifier of its password. Iterations are arithmetic of clients alone: with one, those who
/// log in take next to nothing from the processors that they share with everybody, and the proxy does as much as ever.
fn user() -> Outcome<String> {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    let verifier = ScramVerifier::from_password(PASSWORD.as_bytes(), &salt, 1)?;
    Ok(format!("[users.{USER}]\npassword = '{verifier}'\n"))
}

/// What was seen of one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// As of any way.
    pub sample: Sample,
    /// Processor time of workers alone per query, in µs.
    pub worker_micros: f64,
    /// Logins a minute meanwhile, those of the load itself not counted.
    pub logins: f64,
    /// Median time of the scrapes meanwhile, in ms; 0 where nobody scraped.
    pub scrape_millis: f64,
}

impl Own {
    /// Whether as many logged in as there is a promise about.
    pub fn is_among_logins(&self) -> bool {
        self.logins >= 0.95 * f64::from(PACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_logs_in_by_its_password() {
        let settings = user().unwrap();
        let verifier = settings.split('\'').nth(1).and_then(ScramVerifier::parse).unwrap();
        assert!(verifier.matches(PASSWORD.as_bytes()) && verifier.iterations() == 1);
        assert_ne!(settings, user().unwrap());
    }

    #[test]
    fn each_limit_that_is_looked_at_for_a_statement_is_set() {
        let tenants = crate::tenants(POLICED);
        let (default, class, own) =
            (&tenants.default_limits, tenants.class_limits.get("load"), tenants.limits.get("pgbench"));
        let limits = policy::limits::Effective::of_session(default, class, own);
        assert!(limits.judges_statements() && limits.judges_rows());
        assert!(limits.statement_timeout.is_some() && limits.transaction_timeout.is_some());
        assert!(limits.tables.is_some_and(|tables| tables.allow("pgbench_accounts")));
    }

    #[test]
    fn both_sides_of_a_comparison_carry_the_same_loads() {
        for side in [Side::Unobserved, Side::Undetected, Side::Policed, Side::TwoWorkers] {
            assert_eq!(side.loads(), Side::Usual.loads());
        }
        assert_eq!(Side::Quiet.loads(), Side::AmongLogins.loads());
        assert_eq!(Side::Quiet.loads(), Side::LoginsElsewhere.loads());
        assert_eq!(Side::Unwatched.loads(), Side::Watched.loads());
    }
}
