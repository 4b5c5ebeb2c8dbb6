//! Several who want the same at once: one asks the server, the others wait for its answer, and for nothing else; what `observe`
//! would have saved them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use config::CacheMode;
use integration_tests::{Cluster, RawClient, eventually, http};

use super::Ground;

const SCHEMA: &str =
    "create table items (id int primary key, n int); insert into items select n, n from generate_series(1, 99) n";

/// How long whoever waits for another one's answer is patient, where nothing says that it may not be.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many servers wait like this for this database.
fn waiting(ground: &Ground, event: &str) -> String {
    let database = &ground.site.database;
    let sql = format!("select count(*) from pg_stat_activity where datname = '{database}' and {event}");
    Cluster::shared().value("postgres", &sql)
}

fn locked(ground: &Ground) -> String {
    waiting(ground, "wait_event_type = 'Lock'")
}

/// A client past the proxy that keeps all others from the table.
fn lock(ground: &Ground) -> RawClient {
    let mut direct = ground.direct();
    direct.query("begin; lock table items in access exclusive mode").ok();
    direct
}

#[test]
fn who_waits_for_the_same_shows_it_and_is_answered_by_one_question() {
    let ground = Ground::new(SCHEMA);
    let (mut first, mut second) = (ground.client(), ground.client());
    ground.cached(&mut first, "select n from items where id = 1");
    let joined = || ground.caches().counters.joined.load(Relaxed);
    let mut shown = false;
    // It may take longer than anybody waits until all of it is seen: then it is tried again.
    let done = (2..50).any(|id| {
        let (before, mut direct) = (joined(), lock(&ground));
        let sql = format!("select n from items where id = {id}");
        first.start_query(&sql);
        eventually("the first one asks", || locked(&ground) == "1");
        second.start_query(&sql);
        let until = Instant::now() + PATIENCE / 2;
        while ground.caches().flights.waiting() == 0 && Instant::now() < until {}
        shown |= ground.caches().flights.waiting() == 1
            && http::fetch(ground.site.admin(), "/api/v1/clients").body.contains("\"waiting\"");
        direct.query("commit").ok();
        let answers = [&mut first, &mut second].map(|client| client.reply().ok().value());
        assert_eq!(answers, [id.to_string(), id.to_string()]);
        assert_eq!(ground.caches().flights.waiting(), 0);
        shown && joined() > before
    });
    assert!(done && joined() > 0, "shown as waiting: {shown}; {}", ground.why());
}

#[test]
fn nobody_waits_for_longer_than_its_statement_may_take() {
    let ground = Ground::new(SCHEMA);
    let (mut first, mut second) = (ground.client(), ground.client());
    ground.cached(&mut first, "select n from items where id = 1");
    second.query("set statement_timeout = '20ms'").ok();
    let mut direct = lock(&ground);
    first.start_query("select n from items where id = 2");
    eventually("the first one asks", || locked(&ground) == "1");
    // With the wait of those who have time it would always take longer than that, however quick the machine is.
    let told_soon = (0..10).any(|_| {
        let begun = Instant::now();
        let reply = second.query("select n from items where id = 2");
        assert_eq!(reply.error().code(), "57014", "{reply:?}");
        begun.elapsed() < PATIENCE
    });
    assert!(told_soon);
    direct.query("commit").ok();
    first.reply().ok();
}

#[test]
fn who_reads_its_answer_slowly_keeps_nobody_waiting() {
    let ground = Ground::with(SCHEMA, |cache| {
        (cache.max_bytes, cache.max_entry, cache.tenant_share) = (256 << 20, 128 << 20, 1.0);
    });
    let (mut slow, mut quick) = (ground.client(), ground.client());
    ground.cached(&mut quick, "select n from items where id = 1");
    // More than all sockets on the way hold.
    let sql = "select repeat('x', 1000000) from items where id <= 48";
    slow.start_query(sql);
    eventually("its server waits for it", || waiting(&ground, "wait_event = 'ClientWrite'") == "1");
    assert_eq!(quick.query(sql).ok().rows().len(), 48);
    assert!(ground.caches().flights.is_empty(), "others would wait for who does not read");
    assert_eq!(slow.reply().ok().rows().len(), 48);
}

#[test]
fn to_observe_keeps_nobody_waiting() {
    let ground = Ground::with(SCHEMA, |cache| cache.mode = CacheMode::Observe);
    let (mut first, mut second) = (ground.client(), ground.client());
    eventually("something is kept", || {
        first.query("select n from items where id = 1").ok();
        ground.fills() > 0
    });
    let mut direct = lock(&ground);
    let sql = "select n from items where id = 2";
    first.start_query(sql);
    eventually("the first one asks", || locked(&ground) == "1");
    second.start_query(sql);
    eventually("both ask", || {
        assert_eq!(ground.caches().flights.waiting(), 0, "nobody waits for another one");
        locked(&ground) == "2"
    });
    direct.query("commit").ok();
    for client in [&mut first, &mut second] {
        assert_eq!(client.reply().ok().value(), "2");
    }
}

#[test]
fn to_observe_shows_what_it_would_bring() {
    let ground = Ground::with(SCHEMA, |cache| cache.mode = CacheMode::Observe);
    let mut client = ground.client();
    let sql = "select n from items where id = 1";
    let shown = || http::fetch(ground.site.admin(), "/api/v1/cache").json();
    let hits = || shown()["observed_hits"].as_u64().expect("a count");
    eventually("an answer is kept", || {
        client.query(sql).ok();
        hits() > 0
    });
    let before = hits();
    for _ in 0..3 {
        client.query(sql).ok();
    }
    let cache = shown();
    assert_eq!((hits() - before, &cache["hits"]), (3, &0.into()), "{cache}");
    assert!(cache["observed_saved_us"].as_u64() > Some(0) && cache["hit_ratio"].as_f64() > Some(0.0), "{cache}");
    assert_eq!(super::fate_of(&ground, "from items where")["fate"], "observed");
}
