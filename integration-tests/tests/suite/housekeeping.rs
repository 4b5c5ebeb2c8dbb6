//! What operators rely on beside traffic: reloads that hold or are refused whole, and a log that stops nobody.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use integration_tests::cluster::free_port;
use integration_tests::process::pgweir;
use integration_tests::{Child, Cluster, ProxyProcess, RawClient, Scratch, Signal, eventually, http};

fn config(more: &str) -> String {
    format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'trust'\n\
         [databases.'*']\nupstream = 'postgres://postgres@{}'\n{more}",
        Cluster::shared().address()
    )
}

fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = http::fetch(admin, "/metrics").body;
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn a_refused_reload_tells_every_mistake_and_an_accepted_one_what_needs_a_restart() {
    let proxy = ProxyProcess::with_config(&config("size = 1\n"));
    let reload = || http::fetch(proxy.admin(), "/api/v1/config").json()["reload"].clone();
    assert!(reload()["last"].is_null(), "{}", reload());
    assert_eq!(metric(proxy.admin(), "pgweir_config_last_reload_successful"), 1.0);
    let read = metric(proxy.admin(), "pgweir_config_read_time_seconds");

    proxy.reload(&config("size = 0\n[slow_log]\nthreshold = 'soon'\n"));
    eventually("it is refused", || reload()["error"].is_array());
    let error = reload()["error"].clone();
    assert_eq!(error.as_array().unwrap().len(), 2, "{error}");
    assert!(error.to_string().contains("size") && error.to_string().contains("slow_log.threshold"), "{error}");
    assert!(reload()["last"].is_string() && reload()["last_done"].is_null(), "{}", reload());
    assert_eq!(metric(proxy.admin(), "pgweir_config_last_reload_successful"), 0.0);
    assert_eq!(metric(proxy.admin(), "pgweir_config_read_time_seconds"), read);

    proxy.reload(&format!("workers = 7\n{}", config("size = 2\n")));
    eventually("it is accepted", || reload()["error"].is_null());
    assert_eq!(reload()["needs_restart"], serde_json::json!(["workers"]));
    assert_eq!(metric(proxy.admin(), "pgweir_config_restart_pending_keys"), 1.0);
    assert!(metric(proxy.admin(), "pgweir_config_read_time_seconds") > read);
    eventually("it is told", || proxy.log().contains("workers") && proxy.log().contains("need a restart"));
}

#[test]
fn an_address_is_opened_and_closed_by_a_reload_and_one_that_is_taken_refuses_it_whole() {
    let mut proxy = ProxyProcess::with_config(&config("size = 1\n"));
    let (first, second) = (proxy.address(), free_address());
    let mut stays = RawClient::login(first, "postgres", "postgres");
    let listening = |addresses: &str, size: u32| {
        config(&format!("size = {size}\n")).replace("listen = '{listen}'", &format!("listen = [{addresses}]"))
    };

    // Somebody else's port: nothing of this file comes into force, not its size either.
    let taken = Cluster::shared().address();
    proxy.reload(&listening(&format!("'{first}', '{second}', '{taken}'"), 3));
    eventually("it is refused", || proxy.log().contains("configuration not changed: cannot listen on"));
    assert!(RawClient::try_connect(second).is_err());
    let size = || http::fetch(proxy.admin(), "/api/v1/config").json()["wildcard"]["pool"]["size"].clone();
    assert_eq!(size(), 1, "{}", http::fetch(proxy.admin(), "/api/v1/config").body);

    proxy.reload(&listening(&format!("'{second}'"), 2));
    eventually("the new address is open", || RawClient::try_connect(second).is_ok());
    assert_eq!(RawClient::login(second, "postgres", "postgres").query("select 1").value(), "1");
    eventually("the old one is closed", || RawClient::try_connect(first).is_err());
    assert_eq!(stays.query("select 'not disturbed'").value(), "not disturbed");
    assert!(proxy.child.is_running());
}

#[test]
fn a_hangup_opens_the_log_anew_and_changes_its_format() {
    let folder = Scratch::new();
    let file = folder.path().join("pgweir.log");
    let logging = |format: &str| config(&format!("[log]\nfile = '{}'\nformat = '{format}'\n", file.display()));
    let proxy = ProxyProcess::with_config(&logging("text"));
    eventually("it logs", || fs::read_to_string(&file).is_ok_and(|text| text.contains("pgweir serves")));
    fs::rename(&file, folder.path().join("pgweir.log.1")).unwrap();
    proxy.reload(&logging("json"));
    eventually("there is a new file", || fs::read_to_string(&file).is_ok_and(|text| text.contains("read again")));
    let line = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(line["level"], "INFO");
    proxy.reload(&config("[log]\nfile = '/nowhere/at/all'\n"));
    eventually("a file that cannot be opened refuses the reload", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("cannot write to log.file"))
    });
}

/// `pgweir serve` that logs every statement to standard error, which is `stderr`.
fn chatty(stderr: Stdio, folder: &Scratch) -> (Child, SocketAddr, SocketAddr) {
    let (listen, admin) = (free_address(), free_address());
    let text = config("[slow_log]\nthreshold = '1ms'\nper_minute = 100000\n")
        .replace("{listen}", &listen.to_string())
        .replace("{admin}", &admin.to_string());
    let file = folder.file("pgweir.toml", &text);
    let mut command = pgweir(&["serve", "--config", file.to_str().unwrap()]);
    let child = Child::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr));
    eventually("it serves", || RawClient::try_connect(listen).is_ok());
    (child, listen, admin)
}

/// Statements that are slow enough to be logged, a line each.
fn talk(listen: SocketAddr) {
    let mut client = RawClient::login(listen, "postgres", "postgres");
    for _ in 0..50 {
        let began = Instant::now();
        client.query("select pg_sleep(0.002)").ok();
        assert!(began.elapsed() < Duration::from_secs(10), "the log stopped a statement");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_what_is_lost_is_counted() {
    let folder = Scratch::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut child, listen, admin) = chatty(Stdio::from(OwnedFd::from(writer)), &folder);
    // Slow statements are a line each, whatever repeats: 64 KiB of pipe and the queue behind it are soon full.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..30).for_each(|_| talk(listen)));
        }
    });
    eventually("lines are lost", || metric(admin, "pgweir_log_lines_lost_total") > 0.0);
    // Threads live: workers and the control thread answer.
    assert_eq!(RawClient::login(listen, "postgres", "postgres").query("select 1").value(), "1");
    child.signal(Signal::Terminate);
    let status = child.wait_for(Duration::from_secs(10)).expect("it ends although its last words are not read");
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

#[test]
fn a_full_disk_under_the_log_stops_nobody_and_what_is_lost_is_counted() {
    let folder = Scratch::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut child, listen, admin) = chatty(Stdio::from(full), &folder);
    talk(listen);
    eventually("lines are lost", || metric(admin, "pgweir_log_lines_lost_total") >= 1.0);
    assert!(child.is_running());
    child.signal(Signal::Terminate);
    assert_eq!(child.wait_for(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}
