//! Writes from outside, by a temporary logical replication slot.
//!
//! ```text
//!   a walsender ──► link: what was committed ──► news: generations, how far it is heard
//!        ▲ "how far are you?", each time                ▲ what waits to be passed, what can be seen
//!        └────────────── ask: the end of the log, a snapshot, every 50 ms, on a side connection
//! ```
//!
//! How old the news is, is told by places in the log. At some moment the log ended at a place; as soon as everything in
//! front of that place has been heard, everything that was committed at that moment has. A walsender's answer alone does
//! not say so: it may be sent before the server has looked at what was committed last. What is committed with
//! `synchronous_commit = off`, or not at all yet, is not sent until it is flushed, which nobody may ask for for seconds;
//! so where the log stays unflushed, we have it flushed, by a transaction with an empty message.
//!
//! Who waits for the end of the log ([`ends`](super::ends)) has it asked for at once. There is never more than one question
//! on its way, so that all who come meanwhile share the next one.
//!
//! The slot ends with its connection: a server never keeps its log for a proxy that is gone.

mod link;
mod news;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use policy::cache::{Effect, Invalidated, Lsn, Mode, Snapshot, Xid};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Cached, Caches};
use crate::aside::Kind;
use crate::inspect::Session;
use crate::pool::Pool;
use crate::shared::Shared;
use link::Link;
use news::News;

/// How often the end of the log is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// What was in the log for so long without being flushed, we have flushed: hardly longer than a flush takes that is under
/// way.
const FLUSH_AFTER: Duration = Duration::from_millis(10);
/// While something was heard that cannot be seen yet.
const SEE_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked whether a slot is wanted, and whether clients' connections go where it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A slot is made when all transactions that run are over. One that takes longer is worth a word.
const SLOW_SLOT: Duration = Duration::from_secs(3);
/// Pauses between attempts: the first, the longest, and where somebody has to do something first.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(30)];
/// Users that are tried in one attempt.
const MAX_USERS: usize = 8;

/// Why writes are not heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// It may be better next time.
    Lost(String),
    /// This user may not.
    NotAllowed(String),
    /// Somebody has to do something first.
    Lasting(String),
}

impl Failure {
    fn closed() -> Self {
        Self::Lost("the server closed the connection".to_owned())
    }

    fn slow() -> Self {
        Self::Lost("the server did not answer in time".to_owned())
    }

    fn full() -> Self {
        Self::Lost("max_side_connections has been reached: raise it".to_owned())
    }

    /// What the server said.
    fn of(code: &[u8; 5], message: &str) -> Self {
        match code {
            b"42501" => Self::NotAllowed(format!("it may not replicate ({message}): ALTER ROLE … REPLICATION")),
            b"28000" | b"28P01" => {
                Self::NotAllowed(format!("{message}: let it in for replication too, in pg_hba.conf"))
            }
            b"53400" => Self::Lasting(format!("{message}: raise max_replication_slots")),
            b"53300" => Self::Lasting(format!("{message}: raise max_wal_senders")),
            _ => Self::Lost(message.to_owned()),
        }
    }

    fn why(&self) -> &str {
        let (Self::Lost(why) | Self::NotAllowed(why) | Self::Lasting(why)) = self;
        why
    }
}

/// Hears of writes to every cached database as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    // Dropped with this task: so are they.
    let (mut tasks, mut known) = (JoinSet::new(), BTreeSet::new());
    loop {
        for cached in shared.caches.all() {
            if cached.generations.slot().is_needed() && known.insert(cached.name.clone()) {
                tasks.spawn_local(listen(shared.clone(), cached));
            }
        }
        drop(tokio::time::timeout(LOOK_EVERY, shared.caches.changed.notified()).await);
    }
}

/// Hears of writes to one database, whenever that is wanted.
pub async fn listen(shared: Arc<Shared>, cached: Arc<Cached>) {
    let (mut pause, mut turn) = (PAUSES[0], 0);
    loop {
        let Some(publication) = wanted(&shared) else {
            cached.set_slot_trouble(None);
            look_again(&shared.caches, LOOK_EVERY).await;
            continue;
        };
        let began = Instant::now();
        let failure = tokio::select! {
            failure = attempt(&shared, &cached, &publication, turn) => failure,
            () = not_wanted(&shared, &publication) => continue,
        };
        turn += MAX_USERS;
        if cached.set_slot_trouble(Some(failure.why().to_owned())) {
            tracing::warn!(
                database = %cached.name, why = failure.why(),
                "writes that pass another way are not heard of: nothing is served that has to follow them"
            );
        }
        pause = match failure {
            Failure::Lost(_) if began.elapsed() > PAUSES[1] => PAUSES[0],
            Failure::Lost(_) => pause,
            Failure::NotAllowed(_) | Failure::Lasting(_) => PAUSES[2],
        };
        // A change of the rules may be what somebody has done.
        let version = shared.caches.version();
        let over = Instant::now() + pause;
        while Instant::now() < over && shared.caches.version() == version {
            look_again(&shared.caches, LOOK_EVERY.min(pause)).await;
        }
        pause = (pause * 2).min(PAUSES[1]);
    }
}

/// The publication, while there is anything that has to follow writes.
fn wanted(shared: &Shared) -> Option<String> {
    let caches = &shared.caches;
    if caches.mode() == Mode::Off {
        return None;
    }
    let rules = caches.rules();
    let mut all = (0..=u16::MAX).map_while(|at| rules.get(at));
    let follows = all.any(|rule| rule.effect == Effect::Allow && rule.freshness.follows_writes());
    follows.then(|| shared.settings().cache.publication.clone())
}

async fn not_wanted(shared: &Shared, publication: &str) {
    while wanted(shared).as_deref() == Some(publication) {
        look_again(&shared.caches, LOOK_EVERY).await;
    }
}

async fn look_again(caches: &Caches, patience: Duration) {
    drop(tokio::time::timeout(patience, caches.changed.notified()).await);
}

/// The pools of this database.
fn pools_of(shared: &Shared, cached: &Cached) -> Vec<Arc<Pool>> {
    let is_one = |pool: &Arc<Pool>| {
        let target = pool.target();
        let here = || *cached.name == *format!("{target}/{}", target.database);
        pool.replication.is_none() && !pool.removed.load(Ordering::Relaxed) && here()
    };
    shared.pools.all().into_iter().filter(is_one).collect()
}

/// Hears as long as it goes well, as the first user who may.
async fn attempt(shared: &Arc<Shared>, cached: &Arc<Cached>, publication: &str, turn: usize) -> Failure {
    let pools = pools_of(shared, cached);
    let mut failure = Failure::Lost("no client is connected to it".to_owned());
    // Others next time, where there are many.
    let start = if pools.len() > MAX_USERS { turn % pools.len() } else { 0 };
    for pool in pools.iter().cycle().skip(start).take(pools.len().min(MAX_USERS)) {
        failure = match hear(shared, cached, pool, publication).await {
            not_allowed @ Failure::NotAllowed(_) => not_allowed,
            other => return other,
        };
    }
    failure
}

/// A slot that is up. Whatever ends it, it is down.
struct Up<'a>(&'a Cached);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.generations.slot_is_down();
        self.0.ended.count(Invalidated::SlotLost);
        self.0.ends.end();
        self.0.stirred.notify_one();
    }
}

async fn hear(shared: &Arc<Shared>, cached: &Arc<Cached>, pool: &Arc<Pool>, publication: &str) -> Failure {
    let opened = async {
        let session = Session::open(shared, pool, Kind::Slot).await;
        let mut side =
            session.ok_or_else(|| Failure::Lost("no connection to the server, or no place for one".to_owned()))?;
        let started = look(&mut side, publication).await?;
        let mut link = Link::dial(shared, pool).await?;
        if link.started().await? != Some(started) {
            return Err(Failure::Lost("two connections in a row have reached two servers".to_owned()));
        }
        let (name, start) = {
            let made = link.make_slot();
            tokio::pin!(made);
            match tokio::time::timeout(SLOW_SLOT, &mut made).await {
                Ok(made) => made?,
                Err(_) => {
                    cached.set_slot_trouble(Some("the slot waits for transactions that run to end".to_owned()));
                    made.await?
                }
            }
        };
        Ok((side, link, name, start))
    };
    let (side, link, name, start) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => return failure,
    };
    let Some(Lsn(place)) = Lsn::parse(&start) else { return Failure::Lost(format!("{start} is no place in a log")) };
    let (streams, due, heard) = (Notify::new(), Notify::new(), Notify::new());
    let news = RefCell::new(News::new(cached.clone()));
    let server = link.server.clone();
    let command = format!(
        "START_REPLICATION SLOT {name} LOGICAL {start} (proto_version '1', publication_names {})",
        literal(&format!("\"{}\"", publication.replace('"', "\"\""))),
    );
    tokio::select! {
        failure = link.hear(&command, &news, &streams, &due, &heard) => failure,
        failure = ask(cached, side, &news, (&name, place), (&streams, &due, &heard)) => failure,
        never = cached.ends.watch() => match never {},
        () = clients_leave(shared, cached, &server) => {
            Failure::Lost("clients' connections go to another server than the slot's".to_owned())
        }
    }
}

/// A text as the server reads it, in SQL with `standard_conforming_strings` and in commands of replication.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether this database can be heard of; when its server was started.
async fn look(side: &mut Session, publication: &str) -> Result<String, Failure> {
    // A filter of rows, and whose name a partition's change has, are columns that older versions do not have.
    let sql = format!(
        "SET search_path TO pg_catalog; SET standard_conforming_strings TO on; SET synchronous_commit TO local; SET statement_timeout TO '10s';
         SELECT pg_postmaster_start_time(), current_setting('wal_level'), pg_is_in_recovery(),
            (SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = {name}),
            EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                    WHERE pubname = {name} AND to_jsonb(r)->>'prqual' IS NOT NULL),
            (SELECT to_jsonb(p)->>'pubviaroot' FROM pg_publication p WHERE pubname = {name})",
        name = literal(publication)
    );
    let row = asked(side, &sql).await?;
    let text = |at: usize| row.get(at).and_then(Option::as_deref);
    let lasting = |why: String| Err(Failure::Lasting(why));
    match (text(1), text(2), text(3), text(4)) {
        (_, Some("t"), ..) => Err(Failure::Lost("the server is a standby".to_owned())),
        (Some(level), ..) if level != "logical" => {
            lasting(format!("wal_level is {level}: set wal_level = logical and restart the server"))
        }
        (_, _, None, _) => {
            let words = "there is no publication";
            lasting(format!("{words} {publication}: CREATE PUBLICATION {publication} FOR TABLE … in this database"))
        }
        (_, _, Some("f"), _) => {
            let all = "set (publish = 'insert, update, delete, truncate')";
            lasting(format!(
                "publication {publication} leaves kinds of writes out: ALTER PUBLICATION {publication} {all}"
            ))
        }
        _ if text(5) == Some("true") => {
            // Its changes would not say which partition they were made to.
            let off = "set (publish_via_partition_root = false)";
            lasting(format!("publication {publication} hides partitions: ALTER PUBLICATION {publication} {off}"))
        }
        (.., Some("t")) => {
            lasting(format!("publication {publication} leaves rows out by a WHERE: publish its tables without"))
        }
        _ => text(0)
            .map(str::to_owned)
            .ok_or_else(|| Failure::Lost("the server does not say when it started".to_owned())),
    }
}

/// The last row of an answer, as texts.
async fn asked(side: &mut Session, sql: &str) -> Result<Vec<Option<String>>, Failure> {
    side.go_on();
    let rows = tokio::time::timeout(PATIENCE, side.rows(sql)).await.map_err(|_| Failure::slow())?;
    let row = rows.map_err(Failure::Lost)?.pop().unwrap_or_default();
    let text = |value: Option<Box<[u8]>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
    Ok(row.into_iter().map(text).collect())
}

/// The end of the log first: what is flushed and seen is asked for behind it.
const ASK: &str = "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(), pg_current_snapshot()";
/// A transaction of its own, and so the last one that has begun. Asked for behind a snapshot, and seldom: it takes a number.
const NEXT: &str = "SELECT pg_current_xact_id()";
/// Writes a commit, and so has the log flushed. No standby is waited for.
const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'pgweir', '')";

/// Asks again and again how far the log is and what can be seen, from when the slot streams on; at once where somebody
/// waits for it.
async fn ask(
    cached: &Cached,
    mut side: Session,
    news: &RefCell<News>,
    (name, start): (&str, u64),
    (streams, due, heard): (&Notify, &Notify, &Notify),
) -> Failure {
    streams.notified().await;
    let (mut up, mut unflushed, mut may_flush, mut told) = (None, None, true, None);
    loop {
        let moment = Instant::now();
        let question = cached.ends.send(moment);
        let row = match asked(&mut side, ASK).await {
            Ok(row) => row,
            Err(failure) => return failure,
        };
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let place = |at: usize| text(at).and_then(Lsn::parse);
        let (Some(Lsn(end)), Some(Lsn(flushed)), Some(mut snapshot)) =
            (place(0), place(1), text(2).and_then(Snapshot::parse))
        else {
            return Failure::Lost("the server does not say where its log ends".to_owned());
        };
        if up.is_none() || news.borrow_mut().publishes_more() {
            // What runs now may be in the log before the slot, or before the publication: whoever fills has to see it.
            let next = match asked(&mut side, NEXT).await {
                Ok(row) => row.first().and_then(Option::as_deref).and_then(|xid| xid.parse().ok()),
                Err(failure) => return failure,
            };
            let Some(all) = next.and_then(|next| snapshot.below(Xid(next))) else {
                return Failure::Lost("the server does not say what runs".to_owned());
            };
            snapshot = all;
        }
        if up.is_none() {
            news.borrow_mut().begin(moment, start, &snapshot);
            up = Some(Up(cached));
            cached.ends.begin(cached.generations.slot().number());
            cached.set_slot_trouble(None);
            tracing::info!(database = %cached.name, slot = name, "writes that pass another way are heard of");
        }
        news.borrow_mut().asked(moment, end, &snapshot);
        cached.ends.answered(question, Lsn(end), Lsn(news.borrow().applied()));
        // Where the slot is there already, the server need not say so more often than it has to know how far we are.
        if cached.ends.is_behind() || told.is_none_or(|told: Instant| moment - told >= ASK_EVERY) {
            told = Some(moment);
            due.notify_one();
        }
        unflushed = unflushed.filter(|(_, place)| *place > flushed).or((end > flushed).then_some((moment, end)));
        // What was written a while ago and nobody has had flushed.
        if may_flush && unflushed.is_some_and(|(since, _)| moment - since >= FLUSH_AFTER) {
            match asked(&mut side, FLUSH).await {
                Ok(_) => {}
                Err(failure) if failure == Failure::slow() => return failure,
                // It has been forbidden: then news is as old as the server's next flush.
                Err(_) => may_flush = false,
            }
            unflushed = None;
        }
        let awaited = may_flush && cached.ends.waiting() > 0;
        let flushes = unflushed.filter(|_| awaited).map_or(moment + ASK_EVERY, |(since, _)| since + FLUSH_AFTER);
        tokio::select! {
            () = rest(moment, news, heard) => {}
            () = cached.ends.wanted() => {}
            () = tokio::time::sleep_until(flushes.into()) => {}
        }
    }
}

/// The time to the next question where nobody waits for it.
async fn rest(moment: Instant, news: &RefCell<News>, heard: &Notify) {
    tokio::time::sleep_until((moment + SEE_EVERY).into()).await;
    if !news.borrow().waits_to_see() {
        drop(tokio::time::timeout_at((moment + ASK_EVERY).into(), heard.notified()).await);
    }
}

/// Returns when a client's connection goes to another server than this.
async fn clients_leave(shared: &Shared, cached: &Cached, here: &crate::upstream::server::Server) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for pool in pools_of(shared, cached) {
            if pool.servers.in_use().iter().any(|server| server.address != here.address) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
