//! Answers of `ttl` rules that are too old, and are served while somebody fetches a new one: the one place where what is
//! served may be old, for as long as the rule says and no longer than until the first fetch that succeeds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use config::CacheFreshness;
use config::PoolMode::Transaction;
use integration_tests::{Cluster, RawClient, Site, eventually};

use super::{CacheRule, Ground, LONG, all, settings};

const SCHEMA: &str = "create table items (id int primary key, n int); insert into items values (1, 1)";
const SQL: &str = "select n from items where id = 1";
const TTL: Duration = Duration::from_millis(100);

/// A proxy with a pool of this size, whose answers are too old after a moment, and served for long.
fn ground(size: usize) -> Ground {
    let rule = CacheRule { freshness: CacheFreshness::Ttl, ttl: TTL, stale_for: LONG, ..all() };
    let mut cache = settings();
    cache.rules = vec![rule];
    let site = Site::behind(Transaction, |proxy| proxy.size(size).with(|settings| settings.cache = cache));
    Cluster::shared().run(&site.database, SCHEMA);
    Ground { site }
}

/// An answer is kept, what it says is no longer so, and it is too old.
fn aged(ground: &Ground, reader: &mut RawClient) {
    assert_eq!(ground.cached(reader, SQL).value(), "1");
    ground.direct().query("update items set n = 2").ok();
    std::thread::sleep(2 * TTL);
}

fn stale(ground: &Ground) -> u64 {
    ground.caches().counters.stale.load(Ordering::Relaxed)
}

#[test]
fn others_get_the_old_answer_until_a_fetch_has_succeeded() {
    let ground = ground(8);
    let (mut first, mut other, mut direct) = (ground.client(), ground.client(), ground.direct());
    aged(&ground, &mut first);
    direct.query("begin; lock table items in access exclusive mode").ok();
    // The first who comes asks the server, and waits for it; the others do not.
    first.start_query(SQL);
    let waiting = format!(
        "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = '{}'",
        ground.site.database
    );
    let pid = || Cluster::shared().value("postgres", &waiting);
    eventually("the first one asks the server", || !pid().is_empty());
    let before = stale(&ground);
    for _ in 0..3 {
        assert_eq!(ground.asked(|| other.query(SQL).value()), ("1".to_owned(), true));
    }
    assert_eq!(stale(&ground) - before, 3);
    // Its fetch comes to nothing.
    Cluster::shared().value("postgres", &format!("select pg_cancel_backend({})", pid()));
    assert_eq!(first.reply().error().code(), "57014");
    direct.query("commit").ok();
    // Somebody else fetches it then.
    eventually("the answer is a new one", || other.query(SQL).value() == "2");
    assert_eq!(first.query(SQL).value(), "2");
}

/// Who is about to fetch may have to wait for a server, and is looked at again when there is one: it fetches all the same.
#[test]
fn who_fetches_and_waits_for_a_server_fetches_still() {
    let ground = ground(1);
    let (mut first, mut busy) = (ground.client(), ground.client());
    aged(&ground, &mut first);
    busy.query("begin").ok();
    first.start_query(SQL);
    assert!(first.hears_nothing_for(TTL), "there is no server for it");
    busy.query("commit").ok();
    assert_eq!(first.reply().value(), "2");
}
