//! The read cache, end to end: whatever it answers is what the server would have said at that moment, to the last byte.
//!
//! Each test shows first that the cache is in play: a test of a cache that answers nothing proves nothing. Runs at random
//! are told by their seeds: `PGWEIR_CACHE_SEED=0x… cargo test -p integration-tests --test suite -- cache::`. They are short
//! unless `PGWEIR_CACHE_SECONDS` or `PGWEIR_CACHE_READS` says otherwise.

mod aged;
mod alone;
mod apart;
mod by_hand;
mod canaries;
mod catalog;
mod counted;
mod differential;
mod faults;
mod hazards;
mod instances;
mod limited;
mod memory;
mod never;
mod requests;
mod separated;
mod settled;
mod strict;
mod terms;
mod versions;
mod waits;
mod ways;
mod within;
mod writers;

use std::sync::atomic::Ordering;
use std::time::Duration;

use config::PoolMode::Transaction;
use config::{Cache, CacheMode, CacheRule};
use integration_tests::patience::PATIENCE;
use integration_tests::{Cluster, RawClient, Reply, Site, frontend, within};
use pgweir::cache::Caches;
use policy::cache::Invalidated;

/// Longer than any test: what ends an answer is never its age, unless a test says so.
const LONG: Duration = Duration::from_secs(3600);

/// Everything may be cached.
fn all() -> CacheRule {
    CacheRule { tables: vec!["*".into()], ttl: LONG, ..CacheRule::default() }
}

/// A cache that is on, and that nobody writes past. The catalog is not polled: on a server that many tests share, somebody
/// always makes a role, and each new catalog ends all answers.
fn settings() -> Cache {
    Cache {
        mode: CacheMode::On,
        sole_writer: true,
        min_cost: Duration::ZERO,
        catalog_poll: LONG,
        rules: vec![all()],
        ..Cache::default()
    }
}

/// A proxy with a cache, before a database with a schema.
struct Ground {
    site: Site,
}

impl Ground {
    fn new(schema: &str) -> Self {
        Self::with(schema, |_| ())
    }

    /// With other settings of the cache.
    fn with(schema: &str, change: impl FnOnce(&mut Cache)) -> Self {
        let mut cache = settings();
        change(&mut cache);
        let site = Site::behind(Transaction, |proxy| proxy.size(8).with(|settings| settings.cache = cache));
        if !schema.is_empty() {
            Cluster::shared().run(&site.database, schema);
        }
        Self { site }
    }

    fn caches(&self) -> &Caches {
        self.site.proxy.as_ref().expect("a ground has a proxy").caches()
    }

    fn client(&self) -> RawClient {
        self.site.client()
    }

    /// A client of this user.
    fn client_of(&self, user: &str) -> RawClient {
        RawClient::login(self.site.address(), user, &self.site.database)
    }

    /// A connection past the proxy.
    fn direct(&self) -> RawClient {
        Cluster::shared().connect(&self.site.database)
    }

    fn hits(&self) -> u64 {
        self.caches().counters.hits.load(Ordering::Relaxed)
    }

    fn fills(&self) -> u64 {
        self.caches().counters.fills.load(Ordering::Relaxed)
    }

    /// Answers that gave way to others.
    fn evictions(&self) -> u64 {
        self.caches().store.evictions()
    }

    /// How often something of this kind has ended answers.
    fn ended(&self, source: Invalidated) -> u64 {
        self.caches().counters.invalidated.of(source)
    }

    /// What `ask` gives, and whether it came from the cache.
    fn asked<T>(&self, ask: impl FnOnce() -> T) -> (T, bool) {
        let before = self.hits();
        let answer = ask();
        (answer, self.hits() > before)
    }

    /// Asks until the answer comes from the cache: its catalog has to be read first, and a first answer kept.
    fn until_hit<T>(&self, mut ask: impl FnMut() -> T) -> T {
        let mut answer = None;
        let hit = within(PATIENCE, || {
            let (given, hit) = self.asked(&mut ask);
            answer = hit.then_some(given);
            hit
        });
        assert!(hit, "no answer comes from the cache: {}", self.why());
        answer.expect("an answer that came from the cache")
    }

    /// Asks a simple query until its answer comes from the cache.
    fn cached(&self, client: &mut RawClient, sql: &str) -> Reply {
        let reply = self.until_hit(|| client.query(sql).ok());
        println!("cached: {sql}");
        reply
    }

    /// Asks what may be cached, three times, and never is the answer from the cache, nor is it kept.
    fn never_cached<T>(&self, what: &str, mut ask: impl FnMut() -> T) {
        let before = (self.hits(), self.fills());
        for _ in 0..3 {
            ask();
        }
        assert_eq!((self.hits(), self.fills()), before, "cached although it must not be: {what}");
    }

    /// What the cache says of itself, for a test that waits in vain.
    fn why(&self) -> String {
        let caches = self.caches();
        let counters = &caches.counters;
        let some = |all: Vec<(&'static str, u64)>| all.into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
        let troubles: Vec<_> = caches.all().iter().map(|cached| (cached.name.clone(), cached.trouble())).collect();
        format!(
            "hits {} fills {} misses {:?} bypasses {:?} refused {:?} troubles {troubles:?}",
            self.hits(),
            self.fills(),
            some(counters.misses.all().collect()),
            some(counters.bypasses.all().collect()),
            some(counters.refused.all().collect()),
        )
    }
}

/// Numbers at random that are the same for the same seed.
struct Random(u64);

impl Random {
    /// SplitMix64: seeds that are near each other lead to runs that are not.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What is walked unless a seed is given.
const DAILY: u64 = 0x0cac_4e5d;

/// The seed of a run, printed.
fn seed() -> u64 {
    let seed = number("PGWEIR_CACHE_SEED").unwrap_or(DAILY);
    println!("PGWEIR_CACHE_SEED={seed:#x}");
    seed
}

/// How long a run at random lasts.
fn duration() -> Duration {
    Duration::from_secs(number("PGWEIR_CACHE_SECONDS").unwrap_or(4))
}

/// A number, also in hexadecimal.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// The page of the one statement whose text holds this.
fn page_of(ground: &Ground, words: &str) -> serde_json::Value {
    let admin = ground.site.admin();
    let all = integration_tests::http::fetch(admin, "/api/v1/queries?limit=1000").json();
    let mut all = all["queries"].as_array().expect("a list").iter();
    let one = all.find(|one| one["text"].as_str().is_some_and(|text| text.contains(words))).expect("it has run");
    let fingerprint = one["fingerprint"].as_str().expect("each has one");
    integration_tests::http::fetch(admin, &format!("/api/v1/queries/{fingerprint}")).json()
}

/// What its page says of it and the cache.
fn fate_of(ground: &Ground, words: &str) -> serde_json::Value {
    page_of(ground, words)["cache"].clone()
}

/// An unnamed statement, its portal described, with text parameters.
fn extended<'a>(client: &'a mut RawClient, sql: &str, parameters: &[&str]) -> &'a mut RawClient {
    client.parse("", sql).bind("", parameters).say(frontend::describe(b'P', "")).execute().sync()
}

#[test]
fn an_answer_from_the_cache_is_not_asked_of_the_server() {
    let ground = Ground::new("create table items (id int primary key, name text); insert into items values (1, 'one')");
    let mut client = ground.client();
    let sql = "select name from items where id = 1";
    assert_eq!(ground.cached(&mut client, sql).value(), "one");
    // Who says that nobody writes past the proxy is believed: the one way to see from outside that nobody was asked.
    ground.direct().query("update items set name = 'two'").ok();
    assert_eq!(client.query(sql).value(), "one");
    assert_eq!(ground.client().query(sql).value(), "one", "another client of the same user");
    // In other words it is another statement, which nobody has answered yet.
    assert_eq!(client.query("select name from items where 1 = id").value(), "two");
    client.query("update items set name = 'three'").ok();
    assert_eq!(client.query(sql).value(), "three");
    assert_eq!(ground.cached(&mut client, sql).value(), "three");
}

#[test]
fn every_way_to_ask_is_answered_from_the_cache() {
    let ground = Ground::new("create table items (id int primary key, name text); insert into items values (1, 'one')");
    let mut client = ground.client();
    let sql = "select name from items where id = $1";
    let asked = ground.until_hit(|| extended(&mut client, sql, &["1"]).reply().ok());
    assert_eq!((asked.value().as_str(), asked.shape().as_str()), ("one", "12TDCZ"));
    assert_eq!(extended(&mut client, sql, &["2"]).reply().rows().len(), 0, "another parameter is another answer");
    client.parse("by_name", sql).sync().reply().ok();
    let asked = ground.until_hit(|| client.bind("by_name", &["1"]).execute().sync().reply().ok());
    assert_eq!((asked.value().as_str(), asked.shape().as_str()), ("one", "2DCZ"));
    // A web framework's way: each request in a transaction that only reads.
    let reply = ground.until_hit(|| {
        client.query("begin").ok();
        let reply = client.query("select name from items where id = 1").ok();
        client.query("commit").ok();
        reply
    });
    assert_eq!((reply.status(), reply.value().as_str()), ('T', "one"));
    // Several requests at once: each has its own Sync.
    let replies = ground.until_hit(|| {
        for _ in 0..3 {
            extended(&mut client, sql, &["1"]);
        }
        client.send();
        [(); 3].map(|()| client.reply().ok())
    });
    assert!(replies.iter().all(|reply| reply.value() == "one" && reply.shape() == "12TDCZ"));
}
