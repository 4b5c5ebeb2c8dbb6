//! Versioned rows: random readers and writers at once, through the proxy. No read is older than what was acknowledged, or
//! seen by anybody, before it began; none sees what was undone; what is written together is read together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use integration_tests::{RawClient, Reply};

use super::writers::{KEYS, Known, SCHEMA, SUBJECTS, Subject, Writer};
use super::{Ground, Random, duration, extended, number, seed};

/// What is read of a subject: its keys and then their versions, as often as they stand in it. `$1` is a key.
pub(super) const READS: &[(Subject, &str)] = &[
    (Subject::Main, "select key, version from main order by key"),
    (Subject::Main, "select key, version from main where key = $1"),
    (Subject::Main, "select key, version from shadow where key = $1"),
    (Subject::Main, "select m.key, m.version, s.version from main m join shadow s using (key) order by key"),
    (Subject::Main, "select key, version from main_view where key = $1"),
    (Subject::Main, "select key, version, (select s.version from shadow s where s.key = m.key) from main_view m"),
    (Subject::Parts, "select key, version from parts order by key"),
    (Subject::Parts, "select key, version from parts where key = $1"),
    (Subject::Parts, "select key, version from parts_low"),
    (Subject::Parts, "select key, version from parts_high order by key"),
    (Subject::Parts, "select key, version from parts_b"),
    (Subject::Head, "select h.key, h.version, t.version from head h join tail t on t.key = h.key"),
    (Subject::Head, "select key, version from tail where key = $1"),
    (Subject::Cut, "select key, version from cut_0 union all select key, version from cut_1"),
    (Subject::Cut, "select key, version from cut_2"),
    (Subject::Loose, "select l.key, l.version, t.version from loose l join twin t on t.key = l.key where l.key = $1"),
    (Subject::Loose, "select l.key, l.version, t.version from loose l, twin t where l.key = t.key"),
];

/// Reads, and judges what it gets.
pub(super) struct Reader<'a> {
    pub(super) client: RawClient,
    pub(super) known: &'a Known,
    pub(super) random: Random,
    /// Statements that were prepared, by their place in [`READS`].
    pub(super) prepared: [bool; 32],
    /// What it has seen itself.
    pub(super) last: Vec<u64>,
    pub(super) reads: usize,
    /// Whether what one has seen nobody may miss from then on.
    pub(super) shared: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(client: RawClient, known: &'a Known, random: Random, shared: bool) -> Self {
        let last = vec![2; SUBJECTS.len() * KEYS];
        Self { client, known, random, prepared: [false; 32], last, reads: 0, shared }
    }

    /// Reads once, or a few times.
    pub(super) fn read(&mut self) {
        let at = self.random.below(READS.len());
        let (subject, sql) = READS[at];
        let key = self.random.below(KEYS).to_string();
        let parameters: &[&str] = if sql.contains("$1") { &[key.as_str()] } else { &[] };
        let plain = sql.replace("$1", &key);
        let floors = self.known.floors();
        match self.random.below(10) {
            0..=2 => {
                let reply = self.client.query(&plain);
                self.judge(subject, &plain, reply, &floors);
            }
            3 | 4 => {
                let reply = extended(&mut self.client, sql, parameters).reply();
                self.judge(subject, &plain, reply, &floors);
            }
            5 | 6 => {
                let name = format!("r{at}");
                if !std::mem::replace(&mut self.prepared[at], true) {
                    self.client.parse(&name, sql);
                }
                let reply = self.client.bind(&name, parameters).execute().sync().reply();
                self.judge(subject, &plain, reply, &floors);
            }
            7 => {
                // Each of them begins when it is sent, together with the others.
                for _ in 0..3 {
                    extended(&mut self.client, sql, parameters);
                }
                self.client.send();
                for _ in 0..3 {
                    let reply = self.client.reply();
                    self.judge(subject, &plain, reply, &floors);
                }
            }
            8 => {
                let begins =
                    ["begin", "begin read only", "begin isolation level read committed; set local app.x = 'y'"];
                self.client.query(*self.random.pick(&begins)).ok();
                for _ in 0..=self.random.below(4) {
                    if self.random.once_in(3) {
                        self.client.query("savepoint s; set local app.x = 'z'; rollback to s").ok();
                    }
                    let floors = self.known.floors();
                    let reply = self.client.query(&plain);
                    self.judge(subject, &plain, reply, &floors);
                }
                self.client.query("commit").ok();
            }
            // TRUNCATE is seen by snapshots that are older than it: a table of that kind is not read by these.
            _ if subject == Subject::Cut => {}
            _ => {
                self.client.query("begin isolation level repeatable read").ok();
                let first = self.client.query(&plain).ok();
                let again = self.client.query(&plain).ok();
                assert_eq!(first, again, "a snapshot changes: {plain}");
                self.judge(subject, &plain, first, &floors);
                self.client.query("commit").ok();
            }
        }
    }

    fn judge(&mut self, subject: Subject, sql: &str, reply: Reply, floors: &[u64]) {
        self.reads += 1;
        let rows = reply.ok().rows();
        assert!(!rows.is_empty(), "{sql} finds nothing");
        for row in rows {
            let numbers: Vec<u64> = row.iter().map(|value| value.parse().expect("a number")).collect();
            let (key, version) = (numbers[0] as usize, numbers[1]);
            let place = Known::place(subject, key);
            assert!(numbers[1..].iter().all(|other| *other == version), "written together, read apart: {row:?}, {sql}");
            assert!(version % 2 == 0, "{version} of key {key} was undone: {sql}");
            let (floor, last) = (floors[place], self.last[place]);
            assert!(version >= floor, "{version} of key {key} is older than {floor}, acknowledged before: {sql}");
            assert!(
                !self.shared || version >= last,
                "{version} of key {key} is older than {last}, read before by the same: {sql}"
            );
            let ceiling = self.known.ceiling[place].load(SeqCst);
            assert!(version <= ceiling, "{version} of key {key} was never written, {ceiling} at most: {sql}");
            self.last[place] = version;
            if self.shared {
                self.known.floor[place].fetch_max(version, SeqCst);
            }
        }
    }
}

/// Ends all threads when one of them has failed.
pub(super) struct Alarm<'a>(pub(super) &'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, SeqCst);
        }
    }
}

/// Who takes part.
pub(super) struct Cast<'a> {
    /// Clients that read.
    pub(super) readers: &'a (dyn Fn() -> RawClient + Sync),
    /// Clients that write, all at once.
    pub(super) writers: &'a (dyn Fn(usize) -> RawClient + Sync),
    /// What is acknowledged holds for all only when this long has gone; `None`: at once, and what one has seen, too.
    pub(super) lag: Option<Duration>,
    /// How long a writer rests at most, so that something is answered from the cache in between.
    pub(super) rest_ms: usize,
}

/// Plays until the time is over and enough was read. How many reads there were.
pub(super) fn play(cast: &Cast<'_>, seed: u64) -> usize {
    let known = Known::new();
    let over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let end = Instant::now() + duration();
    let least = number("PGWEIR_CACHE_READS").unwrap_or(0);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (known, over, reads) = (&known, &over, &reads);
            scope.spawn(move || {
                let _alarm = Alarm(over);
                let random = Random(seed ^ thread.wrapping_mul(0x9e37_79b9));
                let mut reader = Reader::new((cast.readers)(), known, random, cast.lag.is_none());
                while !over.load(SeqCst) {
                    let before = reader.reads;
                    reader.read();
                    let all = reads.fetch_add((reader.reads - before) as u64, SeqCst);
                    if Instant::now() >= end && all >= least {
                        over.store(true, SeqCst);
                    }
                }
            });
        }
        for rest in 0..3 {
            let (known, over) = (&known, &over);
            scope.spawn(move || {
                let _alarm = Alarm(over);
                let login = || (cast.writers)(rest);
                let random = Random(seed ^ (rest as u64 + 11).wrapping_mul(0xd6e8_feb8));
                let at_once = cast.lag.is_none();
                let mut writer =
                    Writer { client: login(), known, random, rest, login: &login, prepared: false, at_once };
                let mut due: Vec<(Instant, usize, u64)> = Vec::new();
                while !over.load(SeqCst) {
                    let written = writer.write();
                    if let (Some(lag), Some((place, version))) = (cast.lag, written) {
                        due.push((Instant::now() + lag, place, version));
                    }
                    due.retain(|(when, place, version)| {
                        let waits = *when > Instant::now();
                        if !waits {
                            known.floor[*place].fetch_max(*version, SeqCst);
                        }
                        waits
                    });
                    let pause = writer.random.below(cast.rest_ms.max(1));
                    std::thread::sleep(Duration::from_millis(pause as u64));
                }
            });
        }
    });
    let (reads, writes) = (reads.load(SeqCst) as usize, known.writes.load(SeqCst));
    println!("{reads} reads, {writes} writes");
    assert!(reads > 100 && writes > 20, "{reads} reads and {writes} writes prove nothing");
    reads
}

fn proven_on(ground: &Ground, rest_ms: usize, one_in: usize) {
    let mut first = ground.client();
    ground.cached(&mut first, "select key, version from main order by key");
    ground.cached(&mut first, "select l.key, l.version, t.version from loose l, twin t where l.key = t.key");
    let before = ground.hits();
    let cast = Cast { readers: &|| ground.client(), writers: &|_| ground.client(), lag: None, rest_ms };
    let reads = play(&cast, seed());
    let hits = (ground.hits() - before) as usize;
    println!("{hits} hits; {}", ground.why());
    assert!(
        hits * one_in > reads,
        "{hits} of {reads} reads came from the cache, which proves little: {}",
        ground.why()
    );
}

#[test]
fn no_read_is_older_than_what_was_acknowledged() {
    proven_on(&Ground::new(SCHEMA), 60, 20);
}

#[test]
fn nor_where_every_answer_has_to_make_room_for_another() {
    proven_on(&Ground::with(SCHEMA, |cache| cache.max_bytes = 8_000), 60, 200);
}

#[test]
fn nor_while_the_cache_is_switched_and_emptied_all_the_time() {
    let ground = Ground::new(SCHEMA);
    let mut first = ground.client();
    ground.cached(&mut first, "select key, version from main order by key");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            let mut changer = ground.client();
            while !over.load(SeqCst) {
                use policy::cache::Mode;
                match random.below(6) {
                    0 => ground.caches().set_mode(Mode::Off),
                    1 => ground.caches().set_mode(Mode::Observe),
                    2 => ground.caches().flush(),
                    // A new epoch: everything is told anew from another catalog.
                    3 => drop(
                        changer
                            .query("alter table inbox add column extra int; alter table inbox drop column extra")
                            .ok(),
                    ),
                    _ => {}
                }
                ground.caches().set_mode(Mode::On);
                std::thread::sleep(Duration::from_millis(random.below(120) as u64));
            }
        });
        let _alarm = Alarm(&over);
        let cast = Cast { readers: &|| ground.client(), writers: &|_| ground.client(), lag: None, rest_ms: 60 };
        play(&cast, seed() ^ 0xffff);
        over.store(true, SeqCst);
    });
    println!("{}", ground.why());
    assert!(ground.hits() > 0);
}
