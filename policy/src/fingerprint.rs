//! Fingerprints: which statements are the same one, and the text under which an operator sees them.

use crate::statement::Analysis;

/// The version of the rules behind the ids; it is hashed into every id, and changes when their grouping does.
pub const SCHEME: u32 = 1;

/// Which release of `pg_stat_statements` the strict ids group like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compat {
    /// PostgreSQL 15: every list length is a statement of its own.
    #[default]
    V15,
    /// PostgreSQL 16: as 15, and utility statements are normalised.
    V16,
    /// PostgreSQL 17: as 16.
    V17,
    /// PostgreSQL 18: lists of two or more constants are one.
    V18,
}

impl Compat {
    /// The one for a major version, if it is 15 to 18.
    pub const fn of_major(major: u16) -> Option<Self> {
        match major {
            15 => Some(Self::V15),
            16 => Some(Self::V16),
            17 => Some(Self::V17),
            18 => Some(Self::V18),
            _ => None,
        }
    }
}

/// Turns texts into analyses; one per worker, reused for every statement.
///
/// Linear in the bytes looked at, bounded in memory, never panics, and allocates only while its buffers grow.
#[derive(Debug, Default)]
pub struct Analyser {
    compat: Compat,
    analysis: Analysis,
}

impl Analyser {
    /// An analyser whose strict ids group as `compat` says.
    pub fn new(compat: Compat) -> Self {
        Self { compat, ..Self::default() }
    }

    /// The grouping of its strict ids.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// What `sql` is; the result is valid until the next call.
    pub fn analyse(&mut self, _sql: &[u8]) -> &Analysis {
        self.analysis.clear();
        &self.analysis
    }
}

/// The text under which a strict id is shown: constants as `?`, keywords and unquoted names in lower case, single
/// spaces, no comments. No constant survives.
pub fn normalise(_sql: &[u8], _compat: Compat) -> String {
    String::new()
}

/// The text under which a family is shown: as [`normalise`], with lists squashed.
pub fn normalise_family(_sql: &[u8]) -> String {
    String::new()
}

/// What the command line prints for one statement: strict id and family id in 16 hexadecimal digits, and the
/// normalised text.
pub fn line(sql: &str, compat: Compat) -> (String, String, String) {
    let mut analyser = Analyser::new(compat);
    let analysis = analyser.analyse(sql.as_bytes());
    (format!("{:016x}", analysis.strict), format!("{:016x}", analysis.family), normalise(sql.as_bytes(), compat))
}
