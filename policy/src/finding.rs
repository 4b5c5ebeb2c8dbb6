//! What the detector found, as operators and alerts see it. No value of a row or a parameter is in here.

pub mod export;
mod kept;
mod mute;
mod source;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use kept::{Acknowledgement, Kept, State};
pub use mute::silences;
pub use source::Source;

/// The kinds of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Reads whose keys are a column of an earlier result, one statement per row.
    NPlusOne,
    /// The same with UPDATE, DELETE or MERGE.
    NPlusOneWrite,
    /// Single-row INSERTs in a row on one connection.
    InsertLoop,
    /// Keys that come from the statement's own earlier results: a tree walked level by level.
    RecursiveWalk,
    /// The same statement with the same parameters, over and over.
    Duplicate,
    /// A loop over keys that no earlier result explains.
    LoopUnsourced,
    /// A slow statement's plan is one that it never had before.
    PlanChanged,
    /// A statement takes much longer than it used to.
    Regression,
    /// Most statements of a database take much longer than they used to.
    Slowdown,
    /// A transaction that was open for long.
    SlowTransaction,
    /// A client that held a transaction open and said nothing for long.
    IdleInTransaction,
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: [Self; 11] = [
        Self::NPlusOne,
        Self::NPlusOneWrite,
        Self::InsertLoop,
        Self::RecursiveWalk,
        Self::Duplicate,
        Self::LoopUnsourced,
        Self::PlanChanged,
        Self::Regression,
        Self::Slowdown,
        Self::SlowTransaction,
        Self::IdleInTransaction,
    ];

    /// Its name in JSON and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NPlusOne => "n_plus_one",
            Self::NPlusOneWrite => "n_plus_one_write",
            Self::InsertLoop => "insert_loop",
            Self::RecursiveWalk => "recursive_walk",
            Self::Duplicate => "duplicate",
            Self::LoopUnsourced => "loop_unsourced",
            Self::PlanChanged => "plan_changed",
            Self::Regression => "regression",
            Self::Slowdown => "slowdown",
            Self::SlowTransaction => "slow_transaction",
            Self::IdleInTransaction => "idle_in_transaction",
        }
    }

    /// Its place in a table of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How much an operator should care.
    pub const fn severity(self) -> Severity {
        match self {
            Self::NPlusOne | Self::NPlusOneWrite | Self::Regression | Self::Slowdown => Severity::High,
            Self::InsertLoop
            | Self::RecursiveWalk
            | Self::PlanChanged
            | Self::SlowTransaction
            | Self::IdleInTransaction => Severity::Medium,
            Self::Duplicate | Self::LoopUnsourced => Severity::Low,
        }
    }
}

/// How much an operator should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth changing.
    Medium,
    /// Proven, and costs a round trip per row or a multiple of the time.
    High,
}

impl Severity {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One statement's side of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Strict fingerprint, 16 hexadecimal digits.
    pub fingerprint: String,
    /// Normalised text.
    pub text: String,
    /// `table.column` that the values come from or go to; only the column when the table is not known.
    pub column: Option<String>,
    /// Which parameter carries the value, from 1; constants count on after `$n`. Only for children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<usize>,
}

/// Microseconds since 1970, shown as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0 / 1_000_000;
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", self.0 % 1_000_000)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        config::units::parse_moment(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Year, month and day of a day number since 1970 in the Gregorian calendar: years begin in March, so that the leap
/// day is a year's last, and 400 of them are 146,097 days.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The figures of a finding about time. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Detail {
    /// Of a changed plan.
    Plan {
        /// Hash of the plan before, 16 hexadecimal digits.
        plan_before: String,
        /// Hash of the plan now.
        plan_after: String,
        /// What the slow execution took.
        duration_ms: f64,
    },
    /// Of a regression.
    Regression {
        /// The 95th percentile that it used to have.
        usual_p95_ms: f64,
        /// The 95th percentile of the calls that were looked at.
        p95_ms: f64,
        /// Calls behind the first.
        usual_calls: u64,
        /// Calls behind the second.
        calls: u64,
    },
    /// Of a database that has become slower.
    Slowdown {
        /// How many times longer than usual the statement in the middle takes.
        factor: f64,
        /// Statements that are over 3 times slower.
        slower: u64,
        /// Statements that were compared.
        compared: u64,
    },
    /// Of a transaction.
    Transaction {
        /// How long it has been open.
        open_ms: f64,
        /// The longest silence of its client in it that was noticed; 0: none.
        idle_ms: f64,
        /// From where on it is told.
        threshold_ms: f64,
        /// It has ended.
        ended: bool,
    },
}

/// One finding: a parent and a child of one application, with counters over every time it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable over restarts: the same scope, parent, columns, child and parameter give the same 16 hexadecimal digits.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// How much an operator should care.
    pub severity: Severity,
    /// Whose statements.
    pub tenant: String,
    /// Where.
    pub database: String,
    /// Who.
    pub user: String,
    /// Which application.
    pub application: String,
    /// From which host.
    pub client: String,
    /// Which route, controller or job, when a comment said so.
    pub route: Option<String>,
    /// Whether a trace id tied the statements together, instead of time.
    pub traced: bool,
    /// Where the values come from; nothing for loops.
    pub parent: Option<Side>,
    /// The repeated statement.
    pub child: Side,
    /// `events.id → logs.event_id = $1`.
    pub evidence: Option<String>,
    /// Executions of the child in the largest burst seen.
    pub count: u64,
    /// Executions of the parent in that burst.
    pub parent_executions: u64,
    /// Connections that the children of that burst came over.
    pub connections: u64,
    /// What that burst lost: (count − 1) × the median round trip, in milliseconds.
    pub wasted_ms: f64,
    /// How many bursts have been seen.
    pub occurrences: u64,
    /// Executions of the child in all of them.
    pub statements: u64,
    /// Bursts in the minute of the last one.
    pub per_minute: u64,
    /// Start of the first child of the first burst.
    pub first_seen: Timestamp,
    /// End of the last child of the last burst.
    pub last_seen: Timestamp,
    /// What to send instead.
    pub rewrite: Option<String>,
    /// Figures of findings about time; nothing for repeated statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// Which column of which table the parent's values are, where the server has said so: with what its catalog calls it,
    /// proof and rewrite are written anew.
    #[serde(skip)]
    pub source: Option<Source>,
}

impl Finding {
    /// Bytes of all its texts: what a client can make long.
    pub fn texts_size(&self) -> usize {
        let side = |side: &Side| side.text.len() + side.column.as_ref().map_or(0, String::len);
        let own = [&self.tenant, &self.database, &self.user, &self.application, &self.client];
        let more = [&self.route, &self.evidence, &self.rewrite];
        let own: usize = own.iter().map(|text| text.len()).sum();
        let more: usize = more.iter().filter_map(|text| text.as_ref()).map(String::len).sum();
        own + more + side(&self.child) + self.parent.as_ref().map_or(0, side)
    }

    /// How bad a finding about time is, in milliseconds: how long the transaction was open or its client silent, the slow
    /// execution, the 95th percentile, or what all statements have lost. `None`: it is about repeated statements.
    pub fn worst_ms(&self) -> Option<f64> {
        match self.detail.as_ref()? {
            Detail::Regression { p95_ms, .. } => Some(*p95_ms),
            Detail::Plan { .. } | Detail::Slowdown { .. } | Detail::Transaction { .. } => Some(self.wasted_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        assert_eq!(Timestamp(1_000_300).to_string(), "1970-01-01T00:00:01.000300Z");
        assert_eq!(Timestamp(951_827_696_000_001).to_string(), "2000-02-29T12:34:56.000001Z");
        assert_eq!(Timestamp(1_798_761_599_999_999).to_string(), "2026-12-31T23:59:59.999999Z");
    }

    #[test]
    fn timestamps_are_read_as_they_are_shown() {
        for us in [0, 1_000_300, 951_827_696_000_001, 1_798_761_599_999_999] {
            let shown = serde_json::to_string(&Timestamp(us)).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&shown).unwrap(), Timestamp(us));
        }
    }

    #[test]
    fn mutes_name_the_kinds_that_there_are() {
        assert_eq!(config::Mute::KINDS, Kind::ALL.map(Kind::name));
    }

    #[test]
    fn kinds_stand_where_their_index_says() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
