//! Asking a server for the secrets of users who are not listed.
//!
//! The statement runs on a connection that nothing else uses, as a user of its own, with `search_path` set to
//! `pg_catalog` before anything else, and with the user's name as a bound value. Nothing of what the client has sent
//! but that name gets there: a client that could set a search path for this statement could put functions and operators
//! of its own in the way of it (CVE-2025-12819).
//!
//! One connection serves one statement at a time. Whoever has waited for it looks at the answers again before asking:
//! many logins of one user ask once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Auth, UserSecret, parse_secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::error::ErrorFields;
use wire::frame;
use wire::tag::Backend;
use wire::view::Row;
use zeroize::Zeroizing;

use crate::aside::{Kind, Place};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::upstream::dial::{Failure, Target};
use crate::upstream::server::Server;

/// Sent once, before the first statement.
const SAFE_PATH: &[u8] = b"SET search_path TO pg_catalog";
/// Answers kept of one server and query.
const MAX_ANSWERS: usize = 10_000;
/// Longest name of a user. A server cuts longer ones, and would then speak of somebody else.
const MAX_NAME: usize = 63;
/// Longest message of an answer.
const MAX_BODY: usize = 64 * 1024;
/// An answer younger than this is not doubted: a wrong password must not ask the server each time.
const CERTAIN: Duration = Duration::from_secs(1);
/// Rows of an answer that are kept. One is right.
const MAX_ROWS: usize = 2;
/// How long one look-up may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Why there is no answer. For the log: a client is not told.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server could not be reached, or did not let us in.
    NoConnection(Failure),
    /// The connection broke.
    Broken,
    /// The server has refused the statement.
    Refused(String),
    /// The statement does not give what it must.
    Misshapen(&'static str),
    /// It took too long.
    TimedOut,
    /// `max_side_connections` has been reached.
    NoPlace,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(failure) => write!(f, "no connection: {failure:?}"),
            Self::Broken => f.write_str("the connection broke off"),
            Self::Refused(message) => write!(f, "the server refused the statement: {message}"),
            Self::Misshapen(what) => f.write_str(what),
            Self::TimedOut => f.write_str("it took too long"),
            Self::NoPlace => f.write_str("max_side_connections has been reached"),
        }
    }
}

/// Who asks one statement of one server, and remembers the answers.
pub(super) struct Asker {
    pub(super) target: Arc<Target>,
    text: Box<str>,
    line: tokio::sync::Mutex<Option<Line>>,
    answers: RefCell<HashMap<Box<str>, (UserSecret, Instant)>>,
    /// A task watches over the connection's idleness.
    watched: Cell<bool>,
}

/// The values of a row.
type Values = Vec<Option<Zeroizing<String>>>;

/// The connection.
struct Line {
    stream: Stream,
    used: Instant,
    server: Arc<Server>,
    /// When its server's name was looked up.
    found: Instant,
    _place: Place,
}

impl Asker {
    pub(super) fn new(target: Arc<Target>, text: &str) -> Self {
        Self {
            target,
            text: text.into(),
            line: Default::default(),
            answers: Default::default(),
            watched: Cell::new(false),
        }
    }

    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.target == other.target && self.text == other.text
    }

    /// The user's secret, and when the server said so.
    pub(super) async fn secret_of(
        self: &Rc<Self>,
        user: &str,
        auth: &Auth,
        pool: &config::Pool,
        shared: &Shared,
    ) -> Result<(UserSecret, Instant), Unanswered> {
        let came = Instant::now();
        if user.len() > MAX_NAME {
            return Ok((UserSecret::None, came));
        }
        let fresh = |(secret, at): &(UserSecret, Instant)| {
            let age = if *secret == UserSecret::None { auth.unknown_cache } else { auth.secret_cache };
            came.saturating_duration_since(*at) < age
        };
        if let Some(answer) = self.answers.borrow().get(user).filter(|answer| fresh(answer)) {
            return Ok(answer.clone());
        }
        let mut line = self.line.lock().await;
        // Somebody else may have asked while this login waited.
        if let Some(answer) = self.answers.borrow().get(user).filter(|(_, at)| *at >= came) {
            return Ok(answer.clone());
        }
        // Taken out: whoever stops waiting, here or because the client's time to log in is over, leaves no connection behind
        // on which an answer is under way. The next one would take it for its own.
        let open = line.take();
        let asked = tokio::time::timeout(PATIENCE, self.ask(open, user, pool, shared)).await;
        let (secret, open) = asked.unwrap_or(Err(Unanswered::TimedOut))?;
        *line = Some(open);
        drop(line);
        self.watch();
        Ok(self.remember(user, secret, came))
    }

    fn remember(&self, user: &str, secret: UserSecret, came: Instant) -> (UserSecret, Instant) {
        let answer = (secret, Instant::now());
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, (_, at)| came.saturating_duration_since(*at) < CERTAIN);
        }
        if answers.len() < MAX_ANSWERS {
            answers.insert(user.into(), answer.clone());
        }
        answer
    }

    /// A login has failed against what the server said at this time: it is asked again at the next one.
    pub(super) fn doubt(&self, user: &str, said: Instant, now: Instant) {
        let mut answers = self.answers.borrow_mut();
        let old = now.saturating_duration_since(said) >= CERTAIN;
        if old && answers.get(user).is_some_and(|(_, at)| *at == said) {
            answers.remove(user);
        }
    }

    /// Asks the server. A connection that was left open may have been closed meanwhile: then once more on a new one.
    async fn ask(
        &self,
        open: Option<Line>,
        user: &str,
        pool: &config::Pool,
        shared: &Shared,
    ) -> Result<(UserSecret, Line), Unanswered> {
        if let Some(mut open) = open
            && !open.has_moved(shared).await
        {
            match open.ask(&self.text, user).await {
                Err(Unanswered::Broken) => {}
                answer => return Ok((answer?, open)),
            }
        }
        let mut open = Line::open(&self.target, pool, shared).await?;
        Ok((open.ask(&self.text, user).await?, open))
    }

    /// Has the connection closed when nobody has used it for long.
    fn watch(self: &Rc<Self>) {
        if self.watched.replace(true) {
            return;
        }
        let asker = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(IDLE).await;
                let Some(asker) = asker.upgrade() else { return };
                // Somebody who uses it now will use it up.
                let Ok(mut line) = asker.line.try_lock() else { continue };
                if line.as_ref().is_none_or(|line| line.used.elapsed() >= IDLE) {
                    *line = None;
                    asker.watched.set(false);
                    return;
                }
            }
        });
    }
}

impl Line {
    async fn open(target: &Arc<Target>, pool: &config::Pool, shared: &Shared) -> Result<Self, Unanswered> {
        let place = shared.beside(Kind::Secret).map_err(|_| Unanswered::NoPlace)?;
        let dialled = target.dial(shared, pool, pool.connect_timeout).await.map_err(Unanswered::NoConnection)?;
        let stream = dialled.shipped.stream.attach().map_err(|_| Unanswered::Broken)?;
        let now = Instant::now();
        let mut line = Self { stream, used: now, server: dialled.server, found: now, _place: place };
        let mut out = Vec::new();
        ask::query(&mut out, SAFE_PATH).map_err(|_| Unanswered::Broken)?;
        line.converse(&out).await?;
        Ok(line)
    }

    /// Whether its server's name stands for another address by now.
    async fn has_moved(&mut self, shared: &Shared) -> bool {
        let every = shared.settings().dns_max_ttl;
        if every.is_zero() || self.found.elapsed() < every || !self.server.is_named() {
            return false;
        }
        self.found = Instant::now();
        let name = &self.server.host.name;
        shared.names.look_up(name).await.is_ok_and(|found| self.server.has_left(name, &found))
    }

    async fn ask(&mut self, text: &str, user: &str) -> Result<UserSecret, Unanswered> {
        self.used = Instant::now();
        let mut out = Vec::new();
        let written = ask::parse(&mut out, b"", text.as_bytes(), &[])
            .and_then(|()| ask::bind(&mut out, b"", b"", &[Some(user.as_bytes())]))
            .and_then(|()| ask::execute(&mut out, b"", 2));
        // A name that cannot be sent is nobody's.
        if written.is_err() {
            return Ok(UserSecret::None);
        }
        ask::sync(&mut out);
        let rows = self.converse(&out).await?;
        secret_in(&rows, user)
    }

    /// Sends, and reads up to ReadyForQuery: the rows, each the texts of its values.
    async fn converse(&mut self, out: &[u8]) -> Result<Vec<Values>, Unanswered> {
        self.stream.write_all(out).await.map_err(|_| Unanswered::Broken)?;
        let (mut rows, mut refused) = (Vec::new(), None);
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        loop {
            let mut rest = bytes.as_slice();
            while let Some(message) = frame::next(&mut rest, MAX_BODY).map_err(|_| Unanswered::Broken)? {
                match Backend::from_byte(message.tag) {
                    // As many as tell that there are too many, whatever comes behind them.
                    Some(Backend::DataRow) if rows.len() < MAX_ROWS => rows.push(values(message.body())?),
                    Some(Backend::ErrorResponse) => {
                        refused = Some(ErrorFields::new(message.body()).message().into_owned());
                    }
                    Some(Backend::ReadyForQuery) => {
                        return refused.map_or(Ok(rows), |message| Err(Unanswered::Refused(message)));
                    }
                    _ => {}
                }
            }
            let read = bytes.len() - rest.len();
            bytes.drain(..read);
            if self.stream.read_buf(&mut *bytes).await.map_err(|_| Unanswered::Broken)? == 0 {
                return Err(Unanswered::Broken);
            }
        }
    }
}

fn values(body: &[u8]) -> Result<Values, Unanswered> {
    let row = Row::read(body).map_err(|_| Unanswered::Broken)?;
    let text = |value: Option<&[u8]>| value.map(|bytes| Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()));
    row.map(|value| value.map(text).map_err(|_| Unanswered::Broken)).collect()
}

/// What the rows say of this user. A row about somebody else is a mistake in the statement, and dangerous.
fn secret_in(rows: &[Values], user: &str) -> Result<UserSecret, Unanswered> {
    let row = match rows {
        [] => return Ok(UserSecret::None),
        [row] => row,
        _ => return Err(Unanswered::Misshapen("the statement gives more than one row")),
    };
    let [name, secret, ..] = &row[..] else {
        return Err(Unanswered::Misshapen("the statement gives less than two columns: the name and the secret"));
    };
    if name.as_ref().is_none_or(|name| name.as_str() != user) {
        return Err(Unanswered::Misshapen("the statement gives a row with another name than the one asked for"));
    }
    let Some(secret) = secret else { return Ok(UserSecret::None) };
    parse_secret(secret).map_err(|_| Unanswered::Misshapen("the statement gives a broken SCRAM verifier"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Values {
        values.iter().map(|value| value.map(|text| Zeroizing::new(text.to_owned()))).collect()
    }

    #[test]
    fn rows_are_believed_only_about_the_user_that_was_asked_for() {
        let anna = || row(&[Some("anna"), Some("geheim")]);
        let plain = UserSecret::Plain(config::Secret::new("geheim"));
        assert_eq!(secret_in(&[], "anna").unwrap(), UserSecret::None);
        assert_eq!(secret_in(&[anna()], "anna").unwrap(), plain);
        assert_eq!(secret_in(&[row(&[Some("anna"), None])], "anna").unwrap(), UserSecret::None);
        assert_eq!(secret_in(&[row(&[Some("anna"), Some("geheim"), None])], "anna").unwrap(), plain);
        for rows in [
            vec![anna(), anna()],
            vec![row(&[Some("bob"), Some("geheim")])],
            vec![row(&[None, Some("geheim")])],
            vec![row(&[Some("anna")])],
            vec![row(&[Some("anna"), Some("SCRAM-SHA-256$x")])],
        ] {
            assert!(matches!(secret_in(&rows, "anna"), Err(Unanswered::Misshapen(_))), "{rows:?}");
        }
    }
}
