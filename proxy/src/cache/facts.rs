//! What a database's catalog says, read by a connection of our own.

use policy::cache::catalog::Facts;

use crate::inspect::Session;

/// Where sessions look names up that say nothing of it: the server's default, by user.
#[derive(Debug, Default)]
pub struct Paths;

impl Paths {
    /// The schemas that sessions of this user search, in order, `$user` put in; `None`: that is not known.
    pub fn of(&self, _user: &str) -> Option<Vec<String>> {
        None
    }
}

/// Reads all of it in one snapshot.
///
/// # Errors
/// Why it cannot be read.
pub(crate) async fn read(_session: &mut Session) -> Result<(Facts, Paths), String> {
    Err("not read".to_owned())
}

/// The schemas that a value of `search_path` leads to, `$user` put in; `None`: that cannot be told.
pub fn parse_path(_text: &str, _user: &str) -> Option<Vec<String>> {
    None
}
