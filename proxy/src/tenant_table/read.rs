//! What the server is asked about the table of tenants.

use std::sync::Arc;

use config::{Limits, Settings};

use crate::aside::Kind;
use crate::control::told;
use crate::inspect::{self, Session};
use crate::login::target_beside;
use crate::pool::DialFailure;
use crate::shared::Shared;
use crate::upstream::dial::Target;

/// Rows at most.
const MAX_ROWS: u64 = 100_000;
/// Bytes of names and limits of all rows together: what a session of ours may bring, with room for what stands between.
const MAX_BYTES: u64 = 24 << 20;

/// A row: a tenant's name and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// `None`: NULL.
    pub(crate) tenant: Option<Box<str>>,
    /// `None`: it is too long to be fetched. NULL is an empty text.
    pub(crate) limits: Option<Box<str>>,
}

/// What the table looks like from far: another one, and something in it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    rows: u64,
    bytes: u64,
    /// Two sums over the rows, in any order.
    sums: [Box<[u8]>; 2],
}

/// Where the table is asked for, and as whom; `None`: there is nobody to log in as.
pub(crate) fn target(settings: &Settings, database: &str) -> Option<(config::Pool, Arc<Target>)> {
    let found = settings.databases.get(database).or(settings.wildcard.as_ref())?;
    target_beside(settings, database, found)
}

/// Nobody is known who could ask.
pub(crate) const NOBODY: &str =
    "there is nobody to log in as; put a user and a password into its URL, or a password into [users.NAME]";

/// Connects.
pub(crate) async fn open(shared: &Arc<Shared>, pool: &config::Pool, target: &Target) -> Result<Session, String> {
    let place = shared.beside(Kind::Tenants).map_err(|_| "max_side_connections has been reached".to_owned())?;
    let dialled = target.dial(shared, pool, pool.connect_timeout).await.map_err(|failure| match told(failure) {
        DialFailure::Said { message, .. } => message.into(),
        DialFailure::Unreachable(failure) => failure.words().to_owned(),
        DialFailure::NoneFits(attrs) => format!("none of its servers is {}", attrs.as_str()),
    })?;
    let mut session = Session::over(dialled, place).map_err(|error| error.to_string())?;
    session.prepare().await?;
    Ok(session)
}

/// What is asked from here on is asked of one moment.
pub(crate) async fn begin(session: &mut Session) -> Result<(), String> {
    session.go_on();
    session.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map(drop)
}

/// And no longer.
pub(crate) async fn end(session: &mut Session) -> Result<(), String> {
    session.go_on();
    session.rows("COMMIT").await.map(drop)
}

/// Asks for the fingerprint.
pub(crate) async fn fingerprint(session: &mut Session, query: &str) -> Result<Fingerprint, String> {
    session.go_on();
    let rows = session.rows(&fingerprint_of(query)).await?;
    let row = rows.first().ok_or("it says nothing of its rows")?;
    let number = |column| text(row, column).and_then(|text| text.parse().ok()).ok_or("it does not count its rows");
    let sum = |column| row.get(column).cloned().flatten().unwrap_or_default();
    let print = Fingerprint { rows: number(0)?, bytes: number(1)?, sums: [sum(2), sum(3)] };
    match print {
        Fingerprint { rows, .. } if rows > MAX_ROWS => {
            Err(format!("it has {rows} rows, and no more than {MAX_ROWS} may be"))
        }
        Fingerprint { bytes, .. } if bytes > MAX_BYTES => {
            Err(format!("its rows take {bytes} bytes together, and no more than 24 MiB may be"))
        }
        print => Ok(print),
    }
}

/// Asks for every row.
pub(crate) async fn rows(session: &mut Session, query: &str) -> Result<Vec<Row>, String> {
    session.go_on();
    let rows = session.rows(&rows_of(query)).await?;
    // It has grown since it was counted: which of them came is chance.
    if rows.len() as u64 > MAX_ROWS {
        return Err(format!("it has more than {MAX_ROWS} rows, and no more may be"));
    }
    Ok(rows.iter().map(|row| Row { tenant: text(row, 0), limits: text(row, 1) }).collect())
}

fn text(row: &inspect::Row, column: usize) -> Option<Box<str>> {
    let value = row.get(column)?.as_deref()?;
    // The session's encoding is UTF-8: the server sends nothing else.
    Some(String::from_utf8_lossy(value).into())
}

/// The operator's query as a table of two texts. It may end with a comment.
fn texts_of(query: &str) -> String {
    // Byte by byte: by a collation of the columns' own, two texts may be the same to the server that are not to us.
    format!(
        "(SELECT tenant::text COLLATE \"C\" AS t, coalesce(limits::text, '') COLLATE \"C\" AS l \
         FROM (\n{query}\n) AS q(tenant, limits)) AS r"
    )
}

fn fingerprint_of(query: &str) -> String {
    // A name's length stands in front of it, so that no name can run into what follows.
    let whole = "coalesce(octet_length(t)::text, '') || ':' || coalesce(t, '') || l";
    format!(
        "SELECT count(*), coalesce(sum(coalesce(octet_length(t), 0) + least(octet_length(l), {longest})), 0), \
         sum(hashtextextended({whole}, 0)), sum(hashtextextended({whole}, 1)) FROM {}",
        texts_of(query),
        longest = Limits::MAX_ROW,
    )
}

fn rows_of(query: &str) -> String {
    // A name that is too long is told as such, and not fetched as a whole.
    format!(
        "SELECT left(t, 200), CASE WHEN octet_length(l) <= {} THEN l END FROM {} LIMIT {}",
        Limits::MAX_ROW,
        texts_of(query),
        MAX_ROWS + 1
    )
}
