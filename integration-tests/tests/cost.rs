//! What a query and an idle client cost where it can be counted exactly: system calls on sockets, allocations, bytes.
//!
//! Nothing else runs in this process: its allocator counts, and so do its `send` and `recv`, which stand in for the C
//! library's. Counts are kept thread by thread, so that a worker's are told from those of the test's own clients.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use integration_tests::{Cluster, Proxy, RawClient, frontend};

/// What one thread has done.
#[derive(Debug)]
struct Thread {
    id: AtomicI32,
    allocations: AtomicU64,
    /// Bytes that it has taken, less those that it has given back; another thread may have taken them.
    bytes: AtomicI64,
    sends: AtomicU64,
    receives: AtomicU64,
}

const THREADS: usize = 256;
static SEEN: [Thread; THREADS] = [const {
    Thread {
        id: AtomicI32::new(0),
        allocations: AtomicU64::new(0),
        bytes: AtomicI64::new(0),
        sends: AtomicU64::new(0),
        receives: AtomicU64::new(0),
    }
}; THREADS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// This thread's counts; those of threads beyond the table share its last place.
fn own() -> &'static Thread {
    thread_local! { static PLACE: Cell<usize> = const { Cell::new(usize::MAX) } }
    // A thread may allocate while it ends, when its place is gone.
    let place = PLACE.try_with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Relaxed).min(THREADS - 1));
            // SAFETY: the call takes nothing and touches no memory of ours.
            let id = unsafe { libc::gettid() };
            SEEN[place.get()].id.store(id, Relaxed);
        }
        place.get()
    });
    &SEEN[place.unwrap_or(THREADS - 1)]
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        own().allocations.fetch_add(1, Relaxed);
        own().bytes.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        own().bytes.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as above, and all memory comes from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        own().allocations.fetch_add(1, Relaxed);
        own().bytes.fetch_add(size as i64 - layout.size() as i64, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What the standard library calls to write to a socket.
///
/// # Safety
/// As of the C library's function.
#[unsafe(no_mangle)]
unsafe extern "C" fn send(socket: c_int, bytes: *const c_void, length: usize, flags: c_int) -> isize {
    own().sends.fetch_add(1, Relaxed);
    let nowhere = std::ptr::null::<c_void>();
    // SAFETY: this is what `send` is: `sendto` without an address. The caller vouches for `bytes` and `length`.
    unsafe { libc::syscall(libc::SYS_sendto, socket, bytes, length, flags, nowhere, 0) as isize }
}

/// What the standard library calls to read from a socket.
///
/// # Safety
/// As of the C library's function.
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(socket: c_int, bytes: *mut c_void, length: usize, flags: c_int) -> isize {
    own().receives.fetch_add(1, Relaxed);
    let nowhere = std::ptr::null::<c_void>();
    // SAFETY: this is what `recv` is: `recvfrom` without an address. The caller vouches for `bytes` and `length`.
    unsafe { libc::syscall(libc::SYS_recvfrom, socket, bytes, length, flags, nowhere, nowhere) as isize }
}

/// Allocations, sends and receives of the only worker so far.
fn worker() -> [u64; 3] {
    let named = |thread: &&Thread| name_of(thread).as_deref() == Some("worker-0");
    let thread = SEEN.iter().find(named).unwrap_or_else(|| panic!("no thread is called worker-0"));
    [&thread.allocations, &thread.sends, &thread.receives].map(|count| count.load(Relaxed))
}

/// Bytes that all threads hold together, but for the test's own and the analyst, which keeps what it sees of traffic and
/// nothing of clients.
fn held() -> i64 {
    let own: *const Thread = own();
    let others =
        SEEN.iter().filter(|thread| !std::ptr::eq(*thread, own) && name_of(thread).as_deref() != Some("analyst"));
    others.map(|thread| thread.bytes.load(Relaxed)).sum()
}

/// What a thread that still runs is called.
fn name_of(thread: &Thread) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{}/comm", thread.id.load(Relaxed)));
    name.ok().map(|name| name.trim().to_owned())
}

/// Counts are the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// One round trip, as its client sends it.
type Request<'a> = dyn Fn(u64) -> Vec<u8> + 'a;

/// Runs `rounds` requests in turn over all clients.
fn run(clients: &mut [RawClient], request: &Request<'_>, rounds: u64) {
    for round in 0..rounds {
        let client = &mut clients[round as usize % 4];
        let reply = client.say(request(round)).send().reply();
        assert_eq!(reply.rows().len(), 1, "{reply:?}");
    }
}

/// A database with ten thousand accounts.
fn accounts(cluster: &Cluster) -> String {
    let database = cluster.fresh_database();
    for sql in [
        "CREATE TABLE accounts (aid int primary key, abalance int)",
        "INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 10000) AS n",
        "VACUUM ANALYZE accounts",
    ] {
        cluster.run(&database, sql);
    }
    database
}

#[test]
fn a_query_costs_two_sends_two_receives_and_no_allocation() {
    const ROUNDS: u64 = 2_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::shared();
    let database = accounts(cluster);
    let proxy = Proxy::before(cluster.address())
        .size(2)
        .with(|settings| {
            settings.workers = 1;
            settings.slow_log.threshold = Some(Duration::from_secs(60));
        })
        .start();
    let mut clients: Vec<_> = (0..4).map(|_| RawClient::login(proxy.address(), "postgres", &database)).collect();
    for client in &mut clients {
        let prepare =
            [frontend::parse("by_id", "SELECT abalance FROM accounts WHERE aid = $1", &[23]), frontend::sync()];
        client.say(prepare.concat()).send().reply();
    }
    let id = |round: u64| (round * 7919 % 10_000 + 1).to_string();
    let ending = [frontend::describe(b'P', ""), frontend::execute("", 0), frontend::sync()].concat();
    let bound = |statement: &str, round: u64| {
        [frontend::bind("", statement, &[Some(id(round).as_bytes())]), ending.clone()].concat()
    };
    let simple = |round: u64| frontend::query(format!("SELECT abalance FROM accounts WHERE aid = {};", id(round)));
    let positioned = |_: u64| frontend::query("SELECT abalance FROM accounts WHERE aid = 17 ORDER BY 1");
    let repeated = |_: u64| frontend::query("SELECT abalance FROM accounts WHERE aid = 17");
    let extended = |round: u64| {
        [frontend::parse("", "SELECT abalance FROM accounts WHERE aid = $1", &[]), bound("", round)].concat()
    };
    let prepared = |round: u64| bound("by_id", round);
    let routed = |round: u64| {
        let id = id(round);
        frontend::query(format!("/*route='%2Faccounts%2F:id'*/ SELECT abalance FROM accounts WHERE aid = {id}"))
    };
    // Texts that are kept for a plan: another length each time.
    let long = |round: u64| {
        let padding = " ".repeat(8_000 + (round * 7919 % 8_000) as usize);
        frontend::query(format!("SELECT abalance{padding}FROM accounts WHERE aid = {}", id(round)))
    };
    let commented = |round: u64| {
        frontend::query(format!("SELECT abalance FROM accounts WHERE aid = {} /*route='%2Fa'*/", id(round)))
    };
    let ways: [(&str, &Request<'_>); 8] = [
        ("simple, other constants each time", &simple),
        ("simple, the same text", &repeated),
        ("simple, the same text, in which a constant is none", &positioned),
        ("simple, with a route in front", &routed),
        ("simple, with a comment behind", &commented),
        ("simple, long ones", &long),
        ("extended", &extended),
        ("prepared", &prepared),
    ];
    for (way, request) in ways {
        run(&mut clients, request, 500);
        let before = worker();
        assert!(before.iter().all(|count| *count > 0), "nothing is counted: {before:?}");
        run(&mut clients, request, ROUNDS);
        let after = worker();
        let [allocations, sends, receives] = [0, 1, 2].map(|count| after[count] - before[count]);
        println!("{way}: {allocations} allocations, {sends} sends, {receives} receives in {ROUNDS} queries");
        assert_eq!((sends, receives), (2 * ROUNDS, 2 * ROUNDS), "{way}");
        assert_eq!(allocations, 0, "{way}");
    }
}

/// Whatever is asked for is kept: how often, and by which messages, changes nothing.
fn caching_proxy(cluster: &Cluster) -> Proxy {
    let rule = config::CacheRule {
        tables: vec!["accounts".to_owned()],
        ttl: Duration::from_secs(3600),
        ..config::CacheRule::default()
    };
    let cache = config::Cache {
        mode: config::CacheMode::On,
        sole_writer: true,
        min_cost: Duration::ZERO,
        catalog_poll: Duration::from_secs(3600),
        tenant_share: 1.0,
        rules: vec![rule],
        ..config::Cache::default()
    };
    Proxy::before(cluster.address())
        .size(2)
        .with(|settings| {
            settings.workers = 1;
            settings.slow_log.threshold = Some(Duration::from_secs(60));
            settings.cache = cache;
        })
        .start()
}

#[test]
fn a_hit_costs_one_send_one_receive_and_no_allocation() {
    const ROUNDS: u64 = 2_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::shared();
    let database = accounts(cluster);
    let proxy = caching_proxy(cluster);
    let mut clients: Vec<_> = (0..4).map(|_| RawClient::login(proxy.address(), "postgres", &database)).collect();
    for client in &mut clients {
        let sql = "SELECT abalance FROM accounts WHERE aid = $1";
        client.say([frontend::parse("by_id", sql, &[23]), frontend::sync()].concat()).send().reply();
    }
    let id = |round: u64| (round % 20 + 1).to_string();
    let ending = [frontend::describe(b'P', ""), frontend::execute("", 0), frontend::sync()].concat();
    let bound = |statement: &str, round: u64| {
        [frontend::bind("", statement, &[Some(id(round).as_bytes())]), ending.clone()].concat()
    };
    let simple = |round: u64| frontend::query(format!("SELECT abalance FROM accounts WHERE aid = {}", id(round)));
    let extended = |round: u64| {
        [frontend::parse("", "SELECT abalance FROM accounts WHERE aid = $1", &[]), bound("", round)].concat()
    };
    let prepared = |round: u64| bound("by_id", round);
    let ways: [(&str, &Request<'_>); 3] = [("simple", &simple), ("extended", &extended), ("prepared", &prepared)];
    let hits = || proxy.caches().counters.hits.load(Relaxed);
    for (way, request) in ways {
        // The catalog has to be read first, and the answers kept.
        integration_tests::eventually("answers come from the cache", || {
            let before = hits();
            run(&mut clients, request, 40);
            hits() - before == 40
        });
        run(&mut clients, request, 500);
        let (before, hit) = (worker(), hits());
        run(&mut clients, request, ROUNDS);
        let after = worker();
        let [allocations, sends, receives] = [0, 1, 2].map(|count| after[count] - before[count]);
        println!("{way}: {allocations} allocations, {sends} sends, {receives} receives in {ROUNDS} hits");
        assert_eq!(hits() - hit, ROUNDS, "{way}");
        assert_eq!((sends, receives), (ROUNDS, ROUNDS), "{way}");
        // Who reads an entry tells moka, which puts its books in order now and then.
        assert!(allocations <= ROUNDS / 100, "{way}: {allocations}");
    }
}

/// A client that logs in and leaves something behind.
type Login<'a> = dyn Fn(&Proxy) -> RawClient + 'a;

#[test]
fn an_idle_client_keeps_little_memory() {
    const CLIENTS: usize = 200;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let plain = |proxy: &Proxy| {
        let mut client = RawClient::login(proxy.address(), "postgres", &database);
        client.query("SELECT 1");
        client
    };
    let prepared = |proxy: &Proxy| {
        let mut client = plain(proxy);
        client.parse("by_id", "SELECT $1::int4").sync().send().reply();
        client.bind("by_id", &["1"]).execute().sync().send().reply();
        client
    };
    // A request that came in pieces was kept until it was whole.
    let in_pieces = |proxy: &Proxy| {
        let mut client = plain(proxy);
        client.say(frontend::query(format!("SELECT length('{}')", "x".repeat(6_000)))).send_in_pieces(5_000).reply();
        client
    };
    // The limits leave room for tables that happen to grow: less than the least of what a client could keep besides.
    let ways: [(&str, &Login<'_>, i64); 3] =
        [("plain", &plain, 1_750), ("with a named statement", &prepared, 1_800), ("long request", &in_pieces, 1_750)];
    for (way, client, limit) in ways {
        let proxy = Proxy::before(cluster.address()).size(2).with(|settings| settings.workers = 1).start();
        // What the first ones bring with them is not a client's.
        let first: Vec<_> = (0..CLIENTS).map(|_| client(&proxy)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let before = held();
        let more: Vec<_> = (0..CLIENTS).map(|_| client(&proxy)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let each = (held() - before) / CLIENTS as i64;
        println!("{way}: {each} bytes for each client");
        assert!(each > 500, "nothing is counted: {each}");
        assert!(each <= limit, "{way}: {each} bytes for each client");
        drop((first, more));
    }
}
