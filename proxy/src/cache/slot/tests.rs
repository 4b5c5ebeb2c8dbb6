use policy::cache::catalog::{Catalog, Facts, Kind, Persistence, Relation};
use policy::cache::{Freshness, Generation, Marks, Reading, Slot, Terms};
use wire::pgoutput::{Committed, Relations};

use super::super::post::Post;
use super::super::{View, facts};
use super::*;

const MS: Duration = Duration::from_millis(1);

fn relation(oid: u32) -> Relation {
    Relation {
        oid,
        schema: "public".into(),
        name: format!("t{oid}").into(),
        kind: Kind::Table,
        persistence: Persistence::Permanent,
        row_security: false,
        own_types: false,
    }
}

/// A database with a view of relations 1 to 9, which are published as `published` says.
fn database(start: Instant) -> Arc<Cached> {
    Arc::new(Cached::new("here/db", Slot::down(start), Post::default(), Arc::default()))
}

fn look_at(cached: &Cached, published: &[u32]) {
    let facts = Facts { relations: (1..10).map(relation).collect(), ..Facts::default() };
    let epoch = cached.generations.catalog_is_read(cached.generations.epoch()).unwrap();
    cached.set_view(Some(Arc::new(View {
        serial: crate::cache::Serial::default(),
        quiet: Default::default(),
        catalog: Catalog::new(facts),
        epoch,
        paths: facts::Paths::default(),
        published: published.iter().copied().collect(),
        unfit: None,
    })));
}

fn snapshot(text: &str) -> Snapshot {
    Snapshot::parse(text).unwrap()
}

fn committed(xid: u32, oids: &[u32], end: u64) -> Committed {
    Committed { xid, relations: Relations::These(oids.iter().copied().collect()), end }
}

fn generations(cached: &Cached) -> [Generation; 3] {
    [1, 2, 3].map(|oid| cached.generations.table(oid).generation())
}

#[test]
fn one_transaction_ends_what_it_changed_once() {
    let start = Instant::now();
    let cached = database(start);
    let mut news = News::new(cached.clone());
    news.begin(start, 100, &snapshot("10:10:"));
    look_at(&cached, &[1, 2, 3]);
    let (before, epoch) = (generations(&cached), cached.generations.epoch());
    for _ in 0..2 {
        news.committed(&committed(11, &[1, 3], 200));
    }
    let after = generations(&cached);
    assert_eq!([0, 1, 2].map(|at| after[at].version() - before[at].version()), [2, 0, 2]);
    for _ in 0..2 {
        news.committed(&committed(12, &[2], 300));
    }
    assert_eq!(generations(&cached)[1].version() - before[1].version(), 2);
    assert_eq!(cached.generations.epoch(), epoch);
    assert_eq!(news.applied(), 300);
    // One that is unknown is anybody's.
    news.committed(&committed(13, &[1, 77], 400));
    assert_ne!(cached.generations.epoch(), epoch);
}

#[test]
fn without_a_view_a_write_may_be_anywhere() {
    let start = Instant::now();
    let cached = database(start);
    let mut news = News::new(cached.clone());
    news.begin(start, 100, &snapshot("10:10:"));
    look_at(&cached, &[1]);
    let generations = &cached.generations;
    let sources = generations.sources([1], [], &cached.view().unwrap().epoch);
    let marks = Marks { tags: generations.tags([]), tenant: generations.tenant("acme") };
    let terms = Terms { freshness: Freshness::Coherent, ttl: 60_000 * MS, stale_for: Duration::ZERO };
    let read = || Reading::begin(generations, &sources, &marks, terms, start).unwrap();
    cached.set_view(None);
    let (epoch, reading) = (generations.epoch(), read());
    news.committed(&committed(11, &[], 150));
    assert!(reading.admit(Some(&snapshot("12:12:"))).is_ok(), "nothing was changed");
    let reading = read();
    news.committed(&committed(11, &[1], 200));
    assert!(reading.admit(Some(&snapshot("12:12:"))).is_err());
    // Or no catalog could be read while others write.
    assert_eq!(generations.epoch(), epoch);
}

#[test]
fn news_is_as_old_as_the_last_end_of_the_log_that_was_passed() {
    let start = Instant::now();
    let cached = database(start);
    let mut news = News::new(cached.clone());
    news.begin(start, 100, &snapshot("10:10:"));
    let lag = || cached.generations.slot().lag(start + 100 * MS).unwrap();
    assert_eq!(lag(), 100 * MS);
    news.asked(start + 10 * MS, 200, &snapshot("10:10:"));
    news.asked(start + 20 * MS, 300, &snapshot("10:10:"));
    // An answer that comes behind the question and was sent before the server has looked so far.
    news.reached(199);
    assert_eq!(lag(), 100 * MS);
    news.reached(200);
    assert_eq!(lag(), 90 * MS);
    news.committed(&committed(11, &[], 300));
    assert_eq!(lag(), 80 * MS);
    // The log has not moved: what has been heard is everything.
    news.asked(start + 90 * MS, 300, &snapshot("10:10:"));
    assert_eq!(lag(), 10 * MS);
    // However many questions wait, the latest count.
    (0..200).for_each(|n| news.asked(start + 91 * MS, 1_000 + n, &snapshot("10:10:")));
    news.reached(1_199);
    assert_eq!(lag(), 9 * MS);
}

#[test]
fn it_waits_until_all_that_was_heard_is_seen() {
    let start = Instant::now();
    let cached = database(start);
    let mut news = News::new(cached.clone());
    news.begin(start, 100, &snapshot("10:10:"));
    look_at(&cached, &[1]);
    news.committed(&committed(11, &[1], 200));
    assert!(news.waits_to_see());
    news.asked(start, 200, &snapshot("11:13:11"));
    assert!(news.waits_to_see(), "it is not visible yet");
    news.asked(start, 200, &snapshot("13:13:"));
    assert!(!news.waits_to_see());
    (20..1_000).for_each(|xid| news.committed(&committed(xid, &[1], 300)));
    news.asked(start, 300, &snapshot("500:1000:500"));
    assert!(news.waits_to_see());
    news.asked(start, 300, &snapshot("1000:1000:"));
    assert!(!news.waits_to_see());
}

#[test]
fn a_table_that_is_published_later_begins_as_if_the_slot_were_new() {
    let start = Instant::now();
    let cached = database(start);
    look_at(&cached, &[1]);
    let mut news = News::new(cached.clone());
    news.begin(start, 100, &snapshot("10:10:"));
    look_at(&cached, &[1]);
    let epoch = cached.generations.epoch();
    news.asked(start, 100, &snapshot("10:12:11"));
    assert_eq!(cached.generations.epoch(), epoch);
    look_at(&cached, &[1, 2]);
    news.asked(start, 100, &snapshot("10:12:11"));
    let later = cached.generations.epoch();
    assert_ne!(later, epoch, "what was kept of it before does not count");
    look_at(&cached, &[1, 2]);
    news.asked(start, 100, &snapshot("10:12:11"));
    look_at(&cached, &[2]);
    news.asked(start, 100, &snapshot("10:12:11"));
    assert_eq!(cached.generations.epoch(), later, "less is no news");
}

#[test]
fn names_are_quoted_as_the_server_reads_them() {
    assert_eq!(literal("it's"), "'it''s'");
    assert_eq!(literal(r#""a\b""#), r#"'"a\b"'"#);
}

#[test]
fn what_the_server_says_tells_who_has_to_do_something() {
    assert!(matches!(Failure::of(b"42501", "no"), Failure::NotAllowed(why) if why.contains("REPLICATION")));
    assert!(
        matches!(Failure::of(b"53400", "all taken"), Failure::Lasting(why) if why.contains("max_replication_slots"))
    );
    assert!(matches!(Failure::of(b"53300", "all taken"), Failure::Lasting(why) if why.contains("max_wal_senders")));
    assert_eq!(Failure::of(b"XX000", "odd"), Failure::Lost("odd".to_owned()));
}
