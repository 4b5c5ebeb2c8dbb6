//! A new process takes over from an old one while clients keep coming: nobody is refused, nobody is reset.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use config::ListenAddress;
use integration_tests::cluster::free_port;
use integration_tests::{Cluster, Message, RawClient, Service, Signal, eventually, frontend, http};

/// Restarts in each test; `PGWEIR_TEST_RESTARTS` asks for more.
pub(crate) fn restarts() -> usize {
    std::env::var("PGWEIR_TEST_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

fn config(listen: SocketAddr, admin: SocketAddr, more: &str) -> String {
    format!(
        "listen = '{listen}'\n{more}\n[admin]\nlisten = '{admin}'\n[auth]\nmethod = 'trust'\n\
         [databases.'*']\nupstream = 'postgres://postgres@{}'\nsize = 4\n[shutdown]\ndrain_timeout = '10s'\n",
        Cluster::shared().address()
    )
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Connects, logs in, asks one question, leaves.
fn visit(place: &ListenAddress) -> Result<(), String> {
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut client = RawClient::try_connect(place.clone()).map_err(told("connect"))?;
    client.say(frontend::startup(frontend::PROTOCOL_3_0, &[("user", "postgres"), ("database", "postgres")]));
    until_ready(&mut client).map_err(|error| format!("login: {error}"))?;
    client.say(frontend::query("select 1"));
    until_ready(&mut client).map_err(|error| format!("answer: {error}"))?;
    client.say(frontend::terminate()).try_send().map_err(told("goodbye"))
}

fn until_ready(client: &mut RawClient) -> Result<(), String> {
    loop {
        match client.try_read().map_err(|error| error.to_string())? {
            Some(Message::ReadyForQuery(_)) => return Ok(()),
            Some(Message::ErrorResponse(error)) => return Err(format!("{error:?}")),
            Some(_) => {}
            None => return Err("the connection ended".to_owned()),
        }
    }
}

/// Clients that come and go without a pause.
pub(crate) struct Storm {
    threads: Vec<std::thread::JoinHandle<()>>,
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Storm {
    pub(crate) fn begin(place: impl Into<ListenAddress>) -> Self {
        let place = place.into();
        let (over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let threads = (0..8).map(|_| {
            let (over, served, failed, place) = (over.clone(), served.clone(), failed.clone(), place.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match visit(&place) {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.lock().unwrap().push(error),
                    }
                }
            })
        });
        Self { threads: threads.collect(), over, served, failed }
    }

    /// Waits until as many again have been served as there are clients: each process has had its share of them.
    pub(crate) fn goes_on(&self) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("clients are served", || self.served.load(Ordering::Relaxed) >= before + 2 * self.threads.len());
    }

    pub(crate) fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (served, failed) = (self.served.load(Ordering::Relaxed), self.failed.lock().unwrap());
        println!("served {served}, failed {}", failed.len());
        assert!(failed.is_empty(), "of {} clients {} failed: {failed:?}", served + failed.len(), failed.len());
        assert!(served > 20, "too few to prove anything: {served}");
    }
}

#[test]
fn a_new_process_beside_the_old_one_takes_over_without_a_refused_connection() {
    let (listen, admin) = (free_address(), free_address());
    let config = config(listen, admin, "listen_reuse_port = true");
    let service = Service::new(false);
    let mut serving = service.start(&config);
    let storm = Storm::begin(listen);
    for _ in 0..restarts() {
        storm.goes_on();
        let next = service.start(&config);
        let mut old = std::mem::replace(&mut serving, next);
        old.child.signal(Signal::Terminate);
        let status = old.child.wait_for(Duration::from_secs(20)).expect("it drains");
        assert_eq!(status.code(), Some(0), "{}", old.log());
        assert!(!old.log().contains("had to leave"), "{}", old.log());
    }
    storm.end();
}

#[test]
fn a_socket_of_the_service_manager_outlives_its_processes_and_nobody_is_refused() {
    let clients = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let operators = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = clients.local_addr().unwrap();
    // What the configuration says of addresses is not asked: both come from outside.
    let config = config(free_address(), free_address(), "");
    let sockets: [(&str, &dyn AsFd); 2] = [("pgweir.socket", &clients), ("admin", &operators)];
    let service = Service::new(true);
    let mut serving = service.start_with(&config, &sockets);
    assert_eq!(http::fetch(operators.local_addr().unwrap(), "/readyz").status, 200);
    let storm = Storm::begin(listen);
    for _ in 0..restarts() {
        storm.goes_on();
        serving.child.signal(Signal::Terminate);
        let status = serving.child.wait_for(Duration::from_secs(20)).expect("it drains");
        assert_eq!(status.code(), Some(0), "{}", serving.log());
        serving = service.start_with(&config, &sockets);
    }
    storm.end();
}

#[test]
fn without_reuse_port_a_second_process_does_not_start() {
    let (listen, admin) = (free_address(), free_address());
    let service = Service::new(false);
    let _serving = service.start(&config(listen, admin, ""));
    let file = integration_tests::Scratch::new();
    let path = file.file("pgweir.toml", &config(listen, free_address(), ""));
    let second = integration_tests::process::pgweir(&["serve", "--config", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another program uses this port"), "{said}");
}

#[test]
fn the_service_manager_is_told_of_start_reload_life_and_end() {
    let (listen, admin) = (free_address(), free_address());
    for is_abstract in [false, true] {
        let service = Service::new(is_abstract).variable("WATCHDOG_USEC", "400000");
        let mut process = service.start(&config(listen, admin, ""));
        service.hears("WATCHDOG=1").expect("it is alive");
        process.child.signal(Signal::Hangup);
        let reloading = service.hears("RELOADING=1").expect("it reloads");
        let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("and says when");
        // The clock of CLOCK_MONOTONIC, which the kernel shows as the machine's uptime too unless it was suspended.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((since.parse::<f64>().unwrap() / 1e6 - uptime).abs() < 60.0, "{since} at {uptime}");
        service.hears("READY=1").expect("it has reloaded");
        process.child.signal(Signal::Terminate);
        service.hears("STOPPING=1").expect("it stops");
        assert!(process.child.wait_for(Duration::from_secs(10)).is_some());
    }
}

#[test]
fn the_service_manager_is_told_of_an_end_that_no_signal_has_begun() {
    let begin: [fn(SocketAddr, SocketAddr); 3] = [
        |_, admin| assert_eq!(http::post(admin, "/api/v1/drain", &[("X-Requested-With", "a test")]).status, 202),
        |listen, _| drop(RawClient::login(listen, "postgres", "pgbouncer").query("shutdown wait_for_clients").ok()),
        |listen, _| {
            let mut ops = RawClient::login(listen, "postgres", "pgbouncer");
            ops.start_query("shutdown");
            ops.read_to_end();
        },
    ];
    for begin in begin {
        let (listen, admin) = (free_address(), free_address());
        let service = Service::new(false);
        let mut process = service.start(&config(listen, admin, "console.admin_users = ['postgres']"));
        begin(listen, admin);
        let told = service.hears("STOPPING=1").expect("it stops");
        assert!(told.contains("STATUS="), "{told}");
        assert!(process.child.wait_for(Duration::from_secs(10)).is_some(), "{}", process.log());
    }
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let service = Service::new(false).variable("WATCHDOG_USEC", "200000").variable("WATCHDOG_PID", "1");
    let _process = service.start(&config(free_address(), free_address(), ""));
    // Another process is meant.
    std::thread::sleep(Duration::from_millis(500));
    assert!(service.hears_nothing_of("WATCHDOG=1"), "the watchdog was for process 1");
}

#[test]
fn who_comes_during_the_grace_is_served_while_readiness_is_red() {
    let (listen, admin) = (free_address(), free_address());
    let service = Service::new(false);
    let text = config(listen, admin, "").replace("drain_timeout", "grace = '2s'\ndrain_timeout");
    let mut process = service.start(&text);
    let began = Instant::now();
    process.child.signal(Signal::Terminate);
    eventually("readiness is red", || http::fetch(admin, "/readyz").status == 503);
    let mut late = RawClient::login(listen, "postgres", "postgres");
    assert_eq!(late.query("select 1").value(), "1");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(late.read_to_end().error().code(), "57P01");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(process.child.wait_for(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn an_interrupt_drains_without_the_grace() {
    let (listen, admin) = (free_address(), free_address());
    let service = Service::new(false);
    let text = config(listen, admin, "").replace("drain_timeout", "grace = '30s'\ndrain_timeout");
    let mut process = service.start(&text);
    let mut busy = RawClient::login(listen, "postgres", "postgres");
    busy.query("begin").ok();
    process.child.signal(Signal::Interrupt);
    eventually("nobody new is taken", || RawClient::try_connect(listen).is_err());
    assert_eq!(busy.query("select 'still served'").value(), "still served");
    busy.query("commit").ok();
    assert_eq!(busy.read_to_end().error().code(), "57P01");
    assert_eq!(process.child.wait_for(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn whoever_logs_in_while_it_ends_gets_an_answer_or_an_end() {
    for _ in 0..5 {
        let (listen, admin) = (free_address(), free_address());
        let service = Service::new(false);
        let mut process = service.start(&config(listen, admin, ""));
        let mut hello = frontend::startup(frontend::PROTOCOL_3_0, &[("user", "postgres"), ("database", "postgres")]);
        // Early bytes: a request that is there before the worker has the client.
        hello.extend(frontend::query("select pg_sleep(0.01)"));
        let mut clients: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(listen).ok()).collect();
        clients.iter_mut().for_each(|client| drop(client.write_all(&hello)));
        process.child.signal(Signal::Terminate);
        process.child.signal(Signal::Quit);
        for mut client in clients {
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut said = Vec::new();
            // An end, orderly or not, but an end.
            if let Err(error) = client.read_to_end(&mut said) {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "a client was forgotten");
            }
        }
        assert!(process.child.wait_for(Duration::from_secs(10)).is_some(), "{}", process.log());
    }
}
