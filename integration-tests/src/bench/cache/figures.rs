//! What is promised of the read cache.

use super::super::Mode;
use super::super::check::{Bound, Unit};
use super::CLIENTS;
use super::memory::SIZES;

/// The protocols that it is measured with.
pub const MODES: [Mode; 2] = [Mode::Simple, Mode::Prepared];

/// A figure of which there is a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cached {
    /// Queries a second where all are hits.
    HitRate(Mode),
    /// Processor time of a hit.
    HitCpu(Mode),
    /// The same rate, of a statement that takes the server 5 ms.
    SlowRate(Mode),
    /// Processor time that a miss adds.
    Miss(Mode),
    /// Processor time that rules add to a statement that they are not about.
    Unmatched(Mode),
    /// By how much the account of memory is off, with answers of so many bytes.
    Memory(usize),
}

/// Every promise, in the order in which it is shown.
pub fn promises() -> Vec<(Cached, Bound)> {
    use Bound::{AtLeast, AtMost};
    let mut promises = Vec::new();
    promises.extend(MODES.map(|mode| (Cached::HitRate(mode), AtLeast(2.0))));
    promises.extend(MODES.map(|mode| (Cached::HitCpu(mode), AtMost(8.0))));
    promises.extend(MODES.map(|mode| (Cached::SlowRate(mode), AtLeast(100.0))));
    promises.extend(MODES.map(|mode| (Cached::Miss(mode), AtMost(3.0))));
    promises.extend(MODES.map(|mode| (Cached::Unmatched(mode), AtMost(0.02))));
    promises.extend(SIZES.map(|size| (Cached::Memory(size), AtMost(10.0))));
    promises
}

impl Cached {
    /// What its values count.
    pub fn unit(self) -> Unit {
        match self {
            Self::HitRate(_) | Self::SlowRate(_) => Unit::ShareOf("a direct connection's"),
            Self::HitCpu(_) | Self::Miss(_) | Self::Unmatched(_) => Unit::Micros,
            Self::Memory(_) => Unit::Percent,
        }
    }

    /// As people call it.
    pub fn name(self) -> String {
        let of = |what: &str, mode: Mode| format!("{what}, {CLIENTS} clients, {}", mode.name());
        match self {
            Self::HitRate(mode) => of("queries a second from the cache", mode),
            Self::HitCpu(mode) => of("CPU of a hit", mode),
            Self::SlowRate(mode) => of("a statement of 5 ms from the cache, queries a second", mode),
            Self::Miss(mode) => of("CPU that a miss adds", mode),
            Self::Unmatched(mode) => of("CPU that rules add to what they are not about", mode),
            Self::Memory(size) => format!("accounted memory beside what the process grows by, answers of {size} bytes"),
        }
    }
}
