//! Fourteen ways in which another proxy's cache served wrong rows, one by one: none of them may come true here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::catalog::*;
use super::super::*;
use super::sample::*;

const TERMS: Terms = Terms { freshness: Freshness::Coherent, ttl: Duration::from_secs(60), stale_for: Duration::ZERO };

/// A cache that has answered one statement, and what it needs to go on.
struct Answered {
    catalog: Catalog,
    database: Arc<Database>,
    epoch: Arc<Epoch>,
    now: Instant,
    answer: Dependencies,
}

fn answered(sql: &str) -> Answered {
    let (catalog, now) = (catalog(), Instant::now());
    let database = Arc::new(Database::new(Slot::down(now)));
    database.slot_is_up(now, Lsn(0), &Snapshot::parse("5:5:").unwrap());
    let epoch = database.catalog_is_read(database.epoch()).unwrap();
    let reads = catalog.reads(sql.as_bytes(), PATH, Allowed::NOTHING).unwrap();
    let marks = Marks { tags: database.tags([]), tenant: database.tenant("acme") };
    let sources = database.sources(reads.tables, reads.through, &epoch);
    let answer = Reading::begin(&database, &sources, &marks, TERMS, now).unwrap().admit(None).unwrap();
    Answered { catalog, database, epoch, now, answer }
}

impl Answered {
    /// Whether the answer is still served after this statement of some session.
    fn survives(&self, sql: &str) -> bool {
        let touched = self.catalog.touched(&Acts::of(sql.as_bytes()), Some(PATH), &|_| None);
        let write = Write::begin(&self.database, self.database.footprint(&touched, &self.epoch));
        let during = self.answer.serve(self.now, None).is_ok();
        write.finish();
        let after = self.answer.serve(self.now, None).is_ok();
        assert_eq!(during, after, "{sql}");
        after
    }
}

/// Whether sessions that differ in one setting share an answer.
fn share(name: &str, one: &str, two: &str) -> bool {
    let mut sets = OutputSettings::default();
    sets.id([(name, one)]) == sets.id([(name, two)])
}

#[test]
fn a_search_path_finds_the_tables_of_one_schema_alone() {
    let of = |path: &[&str]| catalog().reads(b"select * from runs", path, Allowed::NOTHING).unwrap().named;
    assert_ne!(of(&["public"]), of(&["other"]));
    assert!(!share("search_path", "tenant_a", "tenant_b"));
}

#[test]
fn settings_that_shape_a_value_shape_the_key() {
    assert!(!share("DateStyle", "ISO, MDY", "German"));
    assert!(!share("extra_float_digits", "1", "-15"));
    assert!(!share("bytea_output", "hex", "escape"));
    assert!(!share("TimeZone", "UTC", "Asia/Tokyo"));
}

#[test]
fn a_cascade_ends_answers_about_what_it_reaches() {
    assert!(!answered("select count(*) from steps").survives("delete from runs where id = 1"));
    assert!(!answered("select count(*) from notes").survives("delete from runs where id = 1"));
    assert!(answered("select count(*) from members").survives("delete from runs where id = 1"));
}

#[test]
fn a_trigger_ends_answers_about_what_it_writes() {
    assert!(!answered("select * from audit.log").survives("update notes set a = 1"));
    assert!(!answered("select * from members").survives("update dynamic set a = 1"), "whatever it writes");
}

#[test]
fn a_volatile_function_has_no_answer() {
    let of = |sql: &str| catalog().reads(sql.as_bytes(), PATH, Allowed::NOTHING);
    assert_eq!(of("select random(), * from runs"), Err(Bypass::VolatileFunction));
}

#[test]
fn parents_and_leaves_end_each_others_answers() {
    assert!(!answered("select * from events").survives("insert into events_2026_01 values (1)"));
    assert!(!answered("select * from events_2026_01").survives("insert into events values (1)"));
    assert!(!answered("select * from events_2026").survives("update events set a = 1"));
    assert!(answered("select * from runs").survives("insert into events values (1)"));
}

#[test]
fn a_write_past_this_process_ends_answers_when_it_is_heard_of() {
    let kept = answered("select * from events");
    let footprint = kept.database.footprint(&kept.catalog.changed(EVENTS_JANUARY), &kept.epoch);
    kept.database.heard(Xid(9), &footprint, Lsn(1));
    assert_eq!(kept.answer.serve(kept.now, None), Err(NotServed::Miss(Miss::Changed)));
    // And where nothing was heard of for too long, none is given.
    let kept = answered("select * from events");
    let later = kept.now + MAX_LAG + Duration::from_millis(1);
    assert_eq!(kept.answer.serve(later, None), Err(NotServed::Miss(Miss::SlotLags)));
}

#[test]
fn words_that_hide_a_write_do_not_hide_it() {
    let merge = "merge into runs r using steps s on r.id = s.run when matched then update set a = 1";
    assert!(!answered("select * from runs").survives(merge));
    assert!(!answered("select * from runs").survives("do $$begin update runs set a = 1; end$$"));
    assert!(!answered("select * from steps").survives("truncate runs cascade"));
    assert!(!answered("select * from runs").survives("explain analyze delete from runs"));
    assert!(!answered("select * from runs").survives("call app.finish(1)"));
    assert!(!answered("select * from runs").survives("alter table runs add b int"));
    assert!(!answered("select * from runs").survives("revoke select on runs from app"));
}
