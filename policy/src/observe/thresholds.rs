//! What is told of, within which bounds, and what has been done so far.

use crate::finding::Kind;

/// What the detector reports, and how much memory it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// Children of one execution of the parent.
    pub fan_out: usize,
    /// Report loops over keys that no result explains.
    pub loops: bool,
    /// Report identical statements over and over.
    pub duplicates: bool,
    /// Scopes followed at once; the one that was quiet for longest makes room.
    pub max_scopes: usize,
    /// Bursts followed at once over all scopes.
    pub max_bursts: usize,
    /// Bursts waiting to be judged; one more is dropped and counted.
    pub max_candidates: usize,
    /// Findings kept; the one not seen for longest makes room.
    pub max_findings: usize,
}

impl Thresholds {
    /// Executions from which a burst is judged, however much larger a fan-out has to be.
    pub(super) const REPETITIONS: usize = 5;
    /// Parameter sets from which it is not a repetition of the same.
    pub(super) const DISTINCT: u32 = 3;

    /// Executions from which a burst is judged: never below the parameter sets that it takes.
    pub(super) fn first_check(&self) -> u64 {
        self.fan_out.clamp(Self::DISTINCT as usize, Self::REPETITIONS) as u64
    }
}

impl From<config::Profile> for Thresholds {
    fn from(profile: config::Profile) -> Self {
        let (fan_out, loops) = match profile {
            config::Profile::Development => (3, true),
            config::Profile::Production => (5, false),
        };
        Self {
            fan_out,
            loops,
            duplicates: false,
            max_scopes: 512,
            max_bursts: 8192,
            max_candidates: 1024,
            max_findings: 1024,
        }
    }
}

/// What the detector has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events observed.
    pub events: u64,
    /// Bursts that reached the number of repetitions.
    pub candidates: u64,
    /// Events and candidates left out because a bound was reached.
    pub dropped: u64,
    /// Bursts of identical statements.
    pub duplicates: u64,
    /// Bursts reported, by [`Kind::index`].
    pub bursts: [u64; Kind::ALL.len()],
}
