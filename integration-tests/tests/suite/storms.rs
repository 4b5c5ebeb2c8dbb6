//! Storms: servers that die at every byte, clients by the thousand, clients that send whatever they like.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use config::PoolMode;
use integration_tests::{
    Cluster, FakeUpstream, Proxy, ProxyProcess, RawClient, Site, backend, eventually, frontend, http,
};

fn quick(upstream: &FakeUpstream) -> Proxy {
    Proxy::before(upstream.address())
        .size(1)
        .pool(|pool| {
            pool.queue_timeout = Duration::from_secs(5);
            pool.connect_timeout = Duration::from_secs(2);
            pool.connect_backoff = Duration::from_millis(1);
            pool.connect_backoff_max = Duration::from_millis(2);
        })
        .start()
}

/// Upstreams that the pool counts, by the admin port.
fn upstreams(proxy: &Proxy) -> u64 {
    let pools = http::fetch(proxy.admin(), "/api/v1/pools").json();
    let rows = pools["pools"].as_array().expect("a list of pools");
    let states = ["active", "idle", "dialling"];
    rows.iter().flat_map(|row| states.map(|state| row["upstreams"][state].as_u64().unwrap())).sum()
}

/// A server's whole reply to an extended query with rows, and then a notice and a changed parameter.
fn conversation() -> Vec<u8> {
    [
        frontend::message(b'1', b""),
        frontend::message(b'2', b""),
        backend::row_description(&["a"]),
        backend::data_row(&["one"]),
        backend::notice("careful"),
        backend::parameter_status("TimeZone", "Asia/Tokyo"),
        backend::data_row(&["two"]),
        backend::command_complete("SELECT 2"),
        backend::ready(b'I'),
    ]
    .concat()
}

#[test]
fn a_server_that_dies_at_any_byte_of_its_reply_costs_its_client_an_error_and_the_pool_nothing() {
    let reply = conversation();
    let bytes = reply.len();
    // Connection n dies after n bytes, when it is asked to.
    let upstream = FakeUpstream::start(move |connection| {
        connection.login()?;
        connection.serve_until("select boom")?;
        let cut = connection.index.min(reply.len());
        connection.send(reply.get(..cut).unwrap_or_default())
    });
    let proxy = quick(&upstream);
    for cut in 0..bytes {
        let mut unlucky = RawClient::login(proxy.address(), "anna", "shop");
        unlucky.parse("", "select boom").bind("", &[]).say(frontend::describe(b'P', "")).execute().sync().send();
        let mut heard = Vec::new();
        let mut piece = [0; 512];
        let began = Instant::now();
        // To the error in the protocol, or to the end: half a message can only be followed by the end.
        while let Ok(n @ 1..) = unlucky.stream().read(&mut piece) {
            heard.extend_from_slice(piece.get(..n).unwrap_or_default());
            if heard.windows(5).any(|window| window == b"08006") {
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(3), "stuck after {cut} bytes");
        assert!(!heard.ends_with(&backend::ready(b'T')), "after {cut} bytes");
        drop(unlucky);
        let mut next = RawClient::login(proxy.address(), "anna", "shop");
        assert_eq!(next.query("select 1").value(), "1", "after {cut} bytes");
    }
    // Each death was seen, each time exactly one upstream took its place.
    assert_eq!(upstream.logins(), bytes + 1);
    eventually("only the living upstream is counted", || upstreams(&proxy) == 1);
}

#[test]
fn a_server_that_dies_at_any_byte_of_its_login_is_tried_again() {
    let parameters = backend::parameter_status("server_version", "15.0");
    let login =
        [backend::authentication_ok(), parameters, backend::backend_key_data(7, 7), backend::ready(b'I')].concat();
    let bytes = login.len();
    let upstream = FakeUpstream::start(move |connection| {
        connection.startup()?;
        let cut = connection.index.min(login.len());
        connection.send(login.get(..cut).unwrap_or_default())?;
        if cut == login.len() { connection.serve() } else { Ok(()) }
    });
    let proxy = quick(&upstream);
    let parameters = [("user", "anna"), ("database", "shop")];
    let mut attempts = 0;
    let mut client = loop {
        match RawClient::try_login(proxy.address(), &parameters, "") {
            Ok(client) => break client,
            Err(error) => assert!(["08001", "08006", "57P03"].contains(&error.code()), "{error:?}"),
        }
        attempts += 1;
        assert!(attempts < 20 * bytes, "no login after {attempts} attempts");
    };
    assert_eq!(client.query("select 1").value(), "1");
    assert_eq!(upstream.logins(), bytes + 1);
    eventually("only the living upstream is counted", || upstreams(&proxy) == 1);
}

/// Opens a connection and sends the startup packet, without waiting for anything.
fn knock(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("refused: {error}"));
    let parameters = [("user", "postgres"), ("database", "postgres")];
    let hello = frontend::startup(frontend::PROTOCOL_3_0, &parameters);
    stream.write_all(&[hello, frontend::query("select 'served'")].concat()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn heard(stream: &mut TcpStream, until: &[u8]) -> bool {
    let (mut heard, mut piece) = (Vec::new(), [0; 1024]);
    while !heard.windows(until.len()).any(|window| window == until) {
        match stream.read(&mut piece) {
            Ok(n @ 1..) => heard.extend_from_slice(piece.get(..n).unwrap_or_default()),
            _ => return false,
        }
    }
    true
}

/// Whether this process may have so many files open; raises its limit as far as it may.
fn may_open(files: u64) -> bool {
    let limit = format!("--nofile={files}:");
    let raised = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &limit]).status();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_ascii_whitespace().nth(3).unwrap();
    raised.is_ok() && soft.parse().is_ok_and(|soft: u64| soft >= files)
}

#[test]
fn ten_thousand_clients_in_a_burst_are_all_served_by_five_servers() {
    let clients = if may_open(11_000) { 10_000 } else { 800 };
    let cluster = Cluster::shared();
    let proxy = ProxyProcess::with_config(&format!(
        "listen = \"{{listen}}\"\nadmin.listen = \"{{admin}}\"\nmax_clients = 20000\nauth.method = \"trust\"\n\
         auth.login_timeout = \"60s\"\npool.size = 5\npool.queue_timeout = \"60s\"\n\
         [databases.\"*\"]\nupstream = \"postgres://{}\"\n",
        cluster.address()
    ));
    let mut streams: Vec<TcpStream> = (0..clients).map(|_| knock(proxy.address())).collect();
    let served = streams.iter_mut().filter_map(|stream| heard(stream, b"served").then_some(())).count();
    assert_eq!(served, clients, "log: {}", proxy.log());
    drop(streams);
    let mut last = RawClient::login(proxy.address(), "postgres", "postgres");
    assert_eq!(last.query("select 1").value(), "1");
}

#[test]
fn those_beyond_the_limit_of_clients_are_told_so_at_once_and_the_rest_is_served() {
    let site = Site::behind(PoolMode::Transaction, |proxy| proxy.size(2).with(|settings| settings.max_clients = 50));
    let parameters = site.parameters(&[]);
    let outcomes: Vec<_> = (0..200).map(|_| RawClient::try_login(site.address(), &parameters, "")).collect();
    let (inside, outside): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((inside.len(), outside.len()), (50, 150));
    for error in outside.into_iter().filter_map(Result::err) {
        assert_eq!(error.code(), "53300", "{error:?}");
        assert!(error.is_whole(), "{error:?}");
    }
    for client in inside.into_iter().filter_map(Result::ok) {
        let mut client = client;
        assert_eq!(client.query("select 1").value(), "1");
    }
}

/// Messages of any type with any body, whole or not: the sender may be put out, nobody else may notice.
#[test]
fn whatever_one_client_sends_the_others_are_served() {
    let site = Site::pooled(PoolMode::Transaction, 2);
    let mut bystander = site.client();
    let mut dice = Dice(0x5EED_0001);
    for round in 0..150 {
        let client = site.client();
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.below(6) {
            let tag = b"QPBDECSHFdcfXpv~\0"[dice.below(17)];
            let body: Vec<u8> = (0..dice.below(40)).map(|_| b"\0\0\0\x01S select1;\xff"[dice.below(15)]).collect();
            let mut message = frontend::message(tag, &body);
            if dice.below(8) == 0 {
                // A length that is not that of its body.
                message[4] = dice.below(256) as u8;
            }
            bytes.extend(message);
        }
        let mut stream = client.stream();
        drop(stream.write_all(&bytes));
        drop(stream.write_all(&frontend::sync()));
        if dice.below(2) == 0 {
            drop(stream.set_read_timeout(Some(Duration::from_millis(2))));
            drop(stream.read(&mut [0; 256]));
        }
        drop(client);
        assert_eq!(bystander.query("select 'bystander'").value(), "bystander", "after round {round}");
    }
    eventually("nothing is left of them", || site.backends() <= 2);
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
