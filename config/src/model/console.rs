//! The console: the database that operators connect to.

/// Who may use the console.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Console {
    /// Users that may give commands.
    pub admin_users: Vec<String>,
    /// Users that may look.
    pub stats_users: Vec<String>,
}

impl Console {
    /// The names of the database that the console is: PgBouncer's, so that its tools find it, and our own.
    pub const NAMES: [&'static str; 2] = ["pgbouncer", "pgweir"];

    /// Whether a database of this name is the console.
    pub fn is_named(database: &str) -> bool {
        Self::NAMES.contains(&database)
    }
}
