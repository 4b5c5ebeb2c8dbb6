//! Whether `sole_writer` is kept, as far as a server can tell: no other process that was told the same is there, and nothing
//! goes on that began before this one followed what is written.
//!
//! Nobody breaks that word more easily than whoever restarts: a new process takes the port over while the old one serves its
//! clients to their end, and an old one that was killed leaves statements that are still run.
//!
//! | state | begins | what is kept |
//! |---|---|---|
//! | `Unasked` | a new connection: it holds a shared advisory lock, by which others see it | nothing |
//! | `Accompanied` | somebody else holds the lock too | nothing; asked again after [`AGAIN`] |
//! | `Waits` | nobody else does, and these transactions are open | nothing; asked again after [`AGAIN`] |
//! | `Alone` | all of them are over | answers; the lock is looked at every `catalog_poll` |
//!
//! Both processes hold the lock, and both see the other one: neither keeps anything until one of them has gone. A
//! transaction of this process that is open at the beginning is waited for as any other: which ones are ours is not asked.

use std::time::{Duration, Instant};

use crate::inspect::{Row, Session};

/// Between two questions while the answer is no.
const AGAIN: Duration = Duration::from_millis(250);
/// More transactions than that are not named.
const NAMED: usize = 5;

/// Any number that nobody else takes for a lock of his own.
const LOCK: i64 = 0x7067_7765_6972_0001;

/// Shared, and never waited for: it is given unless an application locks this very number for itself.
fn take() -> String {
    format!("SELECT pg_try_advisory_lock_shared({LOCK})")
}

/// How many hold it in this database.
fn holders() -> String {
    let (high, low) = (LOCK >> 32, LOCK & 0xffff_ffff);
    format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = {high} \
         AND objid::bigint = {low} AND objsubid = 1 \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
}

/// Transactions that clients have open in this database, and those that are prepared. Each holds a lock on its own number,
/// which everybody may see; what it does is not everybody's to know. Autovacuum has no user.
const OPEN: &str = "SELECT l.virtualtransaction, a.pid::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
    WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND a.usesysid IS NOT NULL \
      AND a.datname = current_database() AND a.pid <> pg_backend_pid() \
    UNION ALL SELECT 'prepared ' || transaction::text, quote_literal(gid) FROM pg_prepared_xacts \
    WHERE database = current_database()";

/// How it is on one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Company {
    /// Nothing was asked yet.
    #[default]
    Unasked,
    /// Somebody else is there.
    Accompanied(Instant),
    /// What was open when nobody else was there: numbers and names.
    Waits(Vec<(String, String)>, Instant),
    /// So it was at that time.
    Alone(Instant),
}

impl Company {
    /// Whether it is time to ask. `poll`: how often somebody who is alone asks.
    fn is_due(&self, poll: Duration, now: Instant) -> bool {
        match self {
            Self::Unasked => true,
            Self::Accompanied(at) | Self::Waits(_, at) => now.saturating_duration_since(*at) >= AGAIN,
            Self::Alone(at) => now.saturating_duration_since(*at) >= poll,
        }
    }

    /// Why nothing may be kept, in words; `None`: it may. `settled`: this process has waited before for what began without
    /// it.
    ///
    /// # Errors
    /// The server does not answer, or answers strangely.
    pub(super) async fn ask(
        &mut self,
        session: &mut Session,
        poll: Duration,
        settled: &mut bool,
    ) -> Result<Option<String>, String> {
        let now = Instant::now();
        if self.is_due(poll, now) {
            session.go_on();
            if *self == Self::Unasked && !is_true(&session.rows(&take()).await?) {
                return Err("somebody else has locked the number that stands for sole_writer".to_owned());
            }
            let holders = session.rows(&holders()).await?;
            let alone = text(holders.first(), 0).is_some_and(|count| count == "1");
            *self = match std::mem::take(self) {
                _ if !alone => {
                    *settled = false;
                    Self::Accompanied(now)
                }
                Self::Alone(_) => Self::Alone(now),
                Self::Waits(open, _) => Self::left_of(open, &session.rows(OPEN).await?, now),
                Self::Unasked | Self::Accompanied(_) if *settled => Self::Alone(now),
                Self::Unasked | Self::Accompanied(_) => {
                    let open = read(&session.rows(OPEN).await?);
                    if open.is_empty() { Self::Alone(now) } else { Self::Waits(open, now) }
                }
            };
            *settled |= matches!(self, Self::Alone(_));
        }
        Ok(self.why())
    }

    /// Those of them that are open still.
    fn left_of(mut open: Vec<(String, String)>, rows: &[Row], now: Instant) -> Self {
        let still = read(rows);
        open.retain(|(number, _)| still.iter().any(|(other, _)| other == number));
        if open.is_empty() { Self::Alone(now) } else { Self::Waits(open, now) }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Alone(_) => None,
            Self::Unasked | Self::Accompanied(_) => Some(
                "sole_writer does not hold: another pgweir that was told so, or the same database under another name, \
                 is connected to it"
                    .to_owned(),
            ),
            Self::Waits(open, _) => {
                let named: Vec<&str> = open.iter().take(NAMED).map(|(_, name)| name.as_str()).collect();
                let more = if open.len() > NAMED { ", …" } else { "" };
                Some(format!(
                    "sole_writer: transactions are open that began before this process followed what is written; of \
                     server processes (or prepared as) {}{more}",
                    named.join(", ")
                ))
            }
        }
    }
}

fn read(rows: &[Row]) -> Vec<(String, String)> {
    rows.iter().filter_map(|row| Some((text(Some(row), 0)?, text(Some(row), 1)?))).collect()
}

fn text(row: Option<&Row>, at: usize) -> Option<String> {
    Some(String::from_utf8_lossy(row?.get(at)?.as_deref()?).into_owned())
}

fn is_true(rows: &[Row]) -> bool {
    text(rows.first(), 0).is_some_and(|said| said == "t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[(&str, &str)]) -> Vec<Row> {
        let column = |text: &str| Some(Box::from(text.as_bytes()));
        all.iter().map(|(number, name)| vec![column(number), column(name)]).collect()
    }

    #[test]
    fn what_began_later_is_not_waited_for_and_what_is_over_is_forgotten() {
        let now = Instant::now();
        let open = read(&rows(&[("3/7", "100"), ("4/9", "101")]));
        let one = Company::left_of(open, &rows(&[("4/9", "101"), ("3/8", "100"), ("5/1", "102")]), now);
        assert_eq!(one, Company::Waits(vec![("4/9".to_owned(), "101".to_owned())], now));
        assert!(one.why().is_some_and(|why| why.contains("101") && !why.contains("100")));
        let Company::Waits(open, _) = one else { unreachable!("just seen") };
        assert_eq!(Company::left_of(open, &rows(&[("3/8", "100")]), now), Company::Alone(now));
    }

    #[test]
    fn who_is_not_alone_asks_more_often() {
        let (now, poll) = (Instant::now(), Duration::from_secs(5));
        assert!(Company::Unasked.is_due(poll, now));
        for (state, wait) in
            [(Company::Accompanied(now), AGAIN), (Company::Waits(Vec::new(), now), AGAIN), (Company::Alone(now), poll)]
        {
            assert!(!state.is_due(poll, now + wait - Duration::from_millis(1)), "{state:?}");
            assert!(state.is_due(poll, now + wait), "{state:?}");
        }
    }

    #[test]
    fn many_transactions_are_not_all_named() {
        let open = (0..20).map(|n| (format!("{n}/1"), format!("p{n}"))).collect();
        let why = Company::Waits(open, Instant::now()).why().unwrap();
        assert!(why.contains("p4, …") && !why.contains("p5"), "{why}");
    }
}
