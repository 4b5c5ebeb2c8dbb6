//! Replication through the proxy, with PostgreSQL's own programs: each has a server connection of its own, in any mode.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use config::{AuthMethod, PoolMode, User};
use integration_tests::{
    Child, Cluster, Hba, Proxy, ProxyProcess, RawClient, Scratch, Signal, client, eventually, http,
};

fn cluster(hba: Hba) -> Cluster {
    Cluster::builder().hba(hba).setting("wal_level", "logical").setting("max_wal_senders", "10").start()
}

/// One of PostgreSQL's programs, to connect there as this user.
fn program(cluster: &Cluster, name: &str, address: SocketAddr, user: &str) -> Command {
    let mut command = Command::new(cluster.program(name));
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-h", &host, "-p", &port, "-U", user, "--no-password"]);
    command.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable").env("PGPASSWORD", "open sesame");
    command.stdin(Stdio::null());
    command
}

fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whole segments of the log in a folder.
fn segments(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == 24).count()
}

fn write_a_segment(cluster: &Cluster) {
    cluster
        .run("postgres", "create table if not exists log (n int); insert into log values (1); select pg_switch_wal()");
}

#[test]
fn a_base_backup_is_taken_in_every_mode_while_the_only_pooled_server_is_taken() {
    let cluster = cluster(Hba::Trust);
    for mode in [PoolMode::Session, PoolMode::Transaction, PoolMode::Statement] {
        let proxy = Proxy::before(cluster.address()).mode(mode).size(1).start();
        let mut holder = RawClient::login(proxy.address(), "postgres", "postgres");
        holder.start_query("select pg_sleep(0.5)");
        let folder = Scratch::new();
        let data = folder.path().join("data");
        // Two connections: one for the files, one for the log that is written meanwhile.
        let mut backup = program(&cluster, "pg_basebackup", proxy.address(), "postgres");
        backup.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(&data);
        succeeds(backup);
        assert!(data.join("PG_VERSION").is_file());
        let mut verify = Command::new(cluster.program("pg_verifybackup"));
        verify.arg(&data);
        succeeds(verify);
        holder.reply().ok();
    }
}

#[test]
fn the_log_is_received_and_a_drain_does_not_wait_for_it() {
    let cluster = cluster(Hba::Trust);
    let upstream = format!("postgres://postgres@{}/postgres", cluster.address());
    let mut proxy = ProxyProcess::serve(&["--upstream", &upstream, "--auth", "trust"]);
    let folder = Scratch::new();
    let errors = folder.path().join("errors");
    let mut receive = program(&cluster, "pg_receivewal", proxy.address(), "postgres");
    receive.args(["--no-loop", "--no-sync", "--directory"]).arg(folder.path());
    let mut receiver = Child::spawn(receive.stderr(fs::File::create(&errors).unwrap()));
    let clients = || http::fetch(proxy.admin(), "/api/v1/clients").json()["clients"].clone();
    eventually("it is streaming", || clients().to_string().contains("\"pinned\":\"replication\""));
    // It begins with the segment that is written when it has asked for it, which is later than its login.
    eventually("a segment has come", || {
        write_a_segment(&cluster);
        segments(folder.path()) >= 1
    });

    // Through a restart it would connect again, and go on where it was.
    std::thread::sleep(Duration::from_millis(1100));
    let asked = Instant::now();
    proxy.child.signal(Signal::Terminate);
    let status = proxy.child.wait_for(Duration::from_secs(20)).expect("it drains");
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(receiver.wait_for(Duration::from_secs(10)).is_some());
    let said = fs::read_to_string(&errors).unwrap();
    assert!(said.contains("shut"), "{said}");
}

#[test]
fn changes_are_decoded_for_a_user_whose_password_the_server_checks() {
    let cluster = cluster(Hba::Scram);
    cluster.run("postgres", "create role \"copier\" login replication superuser password 'open sesame'");
    let proxy =
        Proxy::before(cluster.address()).with(|settings| settings.auth.method = AuthMethod::PassThrough).start();
    let folder = Scratch::new();
    let output = folder.path().join("changes");
    let mut create = program(&cluster, "pg_recvlogical", proxy.address(), "copier");
    create.args(["-d", "postgres", "--slot=s", "--plugin=test_decoding", "--create-slot"]);
    succeeds(create);
    let mut start = program(&cluster, "pg_recvlogical", proxy.address(), "copier");
    start.args(["-d", "postgres", "--slot=s", "--start", "--no-loop", "--fsync-interval=0", "--file"]).arg(&output);
    let mut receiver = Child::spawn(&mut start);
    cluster.run("postgres", "create table seen (n int); insert into seen values (42)");
    eventually("the change has come", || fs::read_to_string(&output).is_ok_and(|text| text.contains("n[integer]:42")));
    // Physical replication asks for no database, and the same password is checked.
    let mut receive = program(&cluster, "pg_receivewal", proxy.address(), "copier");
    receive.args(["--no-loop", "--no-sync", "--directory"]).arg(folder.path());
    let mut physical = Child::spawn(&mut receive);
    // It begins with the segment that is written when it has connected.
    eventually("a segment has come", || {
        write_a_segment(&cluster);
        segments(folder.path()) >= 1
    });
    physical.end();
    receiver.end();
    let mut wrong = program(&cluster, "pg_receivewal", proxy.address(), "copier");
    wrong.env("PGPASSWORD", "guessed").args(["--no-loop", "--directory"]).arg(folder.path());
    let refused = wrong.output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("password authentication failed"), "{said}");
}

#[test]
fn a_command_of_a_walsender_is_cancelled_and_its_connection_goes_on() {
    let cluster = cluster(Hba::Trust);
    let proxy = Proxy::before(cluster.address()).size(1).start();
    let parameters = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
    let mut sender = RawClient::login_with(proxy.address(), &parameters, "");
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
    sender.start_query("select pg_sleep(60)");
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)%' \
                   and pid <> pg_backend_pid()";
    eventually("it runs", || cluster.value("postgres", running) == "1");
    let (pid, key) = sender.key.clone().unwrap();
    client::cancel(proxy.address(), pid, &key);
    assert_eq!(sender.reply().error().code(), "57014");
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
    sender.vanish();
    let senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    eventually("its server connection is closed", || cluster.value("postgres", senders) == "0");
}

/// Its settings go on in a startup packet, where the last of two parameters with one name is the one that counts.
#[test]
fn settings_do_not_say_who_logs_in_or_to_what() {
    let cluster = cluster(Hba::Trust);
    cluster.create_role("nobody_special", None);
    let proxy = Proxy::before(cluster.address()).start();
    let log_in = |more: (&str, &str)| {
        let parameters = [("user", "nobody_special"), ("database", "postgres"), ("replication", "database"), more];
        RawClient::try_login(proxy.address(), &parameters, "").map(drop).unwrap_err().code().to_owned()
    };
    for more in [
        ("options", "-c replication=off"),
        ("options", "-c user=postgres"),
        ("options", "--database=template1"),
        ("Replication", "off"),
        ("USER", "postgres"),
        ("DATABASE", "template1"),
    ] {
        assert_eq!(log_in(more), "42704", "{more:?}");
    }
    assert_eq!(log_in(("options", "-c work_mem=1MB")), "42501", "it is heard, and has no right to replicate");
}

#[test]
fn a_walsender_is_a_client_as_any_other() {
    let cluster = cluster(Hba::Trust);
    let builder = Proxy::before(cluster.address()).with(|settings| {
        settings.max_clients = 2;
        let named = settings.wildcard.take().unwrap();
        settings.databases.insert("postgres".to_owned(), named.clone());
        settings.databases.insert("template1".to_owned(), named);
    });
    let proxy = builder.clone().start();
    let parameters = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
    let mut sender = RawClient::login_with(proxy.address(), &parameters, "");
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
    // It has one of the two places, for as long as it is there.
    let other = RawClient::login(proxy.address(), "postgres", "template1");
    let refused = RawClient::try_login(proxy.address(), &parameters, "").unwrap_err();
    assert_eq!(refused.code(), "53300", "{refused:?}");
    drop(other);
    // A reload that takes its database away ends it.
    proxy.reload(builder.clone().with(|settings| drop(settings.databases.remove("postgres"))).settings());
    let words = sender.read_to_end();
    assert_eq!(words.error().code(), "57P01", "{words:?}");
    assert!(words.error().detail().contains("taken out of the proxy's configuration"), "{words:?}");
    proxy.reload(builder.settings());
    // A paused database is logged in to when the pause has ended.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(proxy.commands().pause(Some("postgres"))).unwrap();
    let address = proxy.address();
    let late = std::thread::spawn(move || RawClient::login_with(address, &parameters, "").query("IDENTIFY_SYSTEM"));
    std::thread::sleep(Duration::from_millis(200));
    let senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    assert_eq!((late.is_finished(), cluster.value("postgres", senders)), (false, "0".to_owned()));
    proxy.commands().resume(Some("postgres")).unwrap();
    assert_eq!(late.join().unwrap().rows().len(), 1);
}

/// Whoever takes a backup loses all of it if it is cut off.
#[test]
fn a_drain_waits_for_a_backup_though_nobody_else_is_there() {
    let cluster = cluster(Hba::Trust);
    let upstream = format!("postgres://postgres@{}/postgres", cluster.address());
    let mut proxy = ProxyProcess::serve(&["--upstream", &upstream, "--auth", "trust"]);
    let parameters = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
    let mut sender = RawClient::login_with(proxy.address(), &parameters, "");
    sender.start_query("select pg_sleep(1.5), 'whole'");
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(1.5)%' \
                   and pid <> pg_backend_pid()";
    eventually("it runs", || cluster.value("postgres", running) == "1");
    proxy.child.signal(Signal::Terminate);
    let words = sender.read_to_end();
    assert_eq!(words.rows().first().map(|row| row[1].as_str()), Some("whole"), "{words:?}");
    assert_eq!(words.error().code(), "57P01", "{words:?}");
    assert!(proxy.child.wait_for(Duration::from_secs(20)).expect("it drains").success());
}

#[test]
fn a_server_that_refuses_replication_is_heard() {
    let cluster = cluster(Hba::Trust);
    cluster.create_role("nobody_special", None);
    let proxy = Proxy::before(cluster.address()).start();
    let parameters = [("user", "nobody_special"), ("database", "postgres"), ("replication", "true")];
    let refused = RawClient::try_login(proxy.address(), &parameters, "").unwrap_err();
    assert_eq!(refused.code(), "42501", "{refused:?}");
    // Nothing of it is left to ordinary clients of the same name.
    let mut ordinary = RawClient::login(proxy.address(), "nobody_special", "postgres");
    assert_eq!(ordinary.query("select 1").value(), "1");
}

#[test]
fn the_keys_of_a_login_serve_its_walsender_until_the_server_refuses_them() {
    let cluster = cluster(Hba::Scram);
    cluster.run("postgres", "create role \"copier\" login replication password 'open sesame'");
    let stored = || {
        let verifier = cluster.value("postgres", "select rolpassword from pg_authid where rolname = 'copier'");
        User::from(config::parse_secret(&verifier).unwrap())
    };
    let builder = Proxy::before(cluster.address()).with(|settings| {
        settings.auth.method = AuthMethod::ScramSha256;
        settings.users.insert("copier".to_owned(), stored());
    });
    let mut settings = builder.settings();
    let proxy = builder.start();
    let parameters = [("user", "copier"), ("database", "postgres"), ("replication", "true")];
    let login = |password| RawClient::try_login(proxy.address(), &parameters, password);
    let mut sender = login("open sesame").unwrap();
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
    assert_eq!(login("guessed").unwrap_err().code(), "28P01");

    cluster.run("postgres", "alter role \"copier\" password 'changed'");
    assert_eq!(login("open sesame").unwrap_err().code(), "28P01", "the server has the last word");
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1, "who was in before stays");
    settings.users.insert("copier".to_owned(), stored());
    proxy.reload(settings);
    assert_eq!(login("changed").unwrap().query("IDENTIFY_SYSTEM").rows().len(), 1);
}
