//! The harness itself, against PostgreSQL without a proxy.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::cluster::Stop;
use integration_tests::{Child, Cluster, FakeUpstream, Hba, RawClient, Signal, backend, eventually};

#[test]
fn a_cluster_answers_and_counts_its_backends() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let mut client = cluster.connect(&database);
    assert_eq!(client.query("select 6 * 7").value(), "42");
    assert_eq!(cluster.backends(&database), 1);
}

#[test]
fn a_cluster_comes_back_after_a_crash_on_the_same_port() {
    let cluster = Cluster::builder().start();
    let address = cluster.address();
    cluster.stop(Stop::Crash);
    eventually("nobody listens there", || RawClient::try_connect(address).is_err());
    cluster.start();
    assert_eq!(cluster.address(), address);
    assert_eq!(cluster.value("postgres", "select 1"), "1");
}

#[test]
fn every_way_to_log_in_is_spoken() {
    for hba in [Hba::Md5, Hba::Scram, Hba::Password] {
        let cluster = Cluster::builder().hba(hba).start();
        cluster.create_role("alice", Some("wonder land"));
        let parameters = [("user", "alice"), ("database", "postgres")];
        let refused = RawClient::try_login(cluster.address(), &parameters, "wrong").unwrap_err();
        assert_eq!(refused.code(), "28P01", "{hba:?}");
        let mut client = RawClient::login_with(cluster.address(), &parameters, "wonder land");
        assert_eq!(client.query("select current_user").value(), "alice", "{hba:?}");
    }
}

#[test]
#[should_panic(expected = "apt-get install postgresql-1`")]
fn a_missing_server_names_the_package() {
    Cluster::builder().version(1).start();
}

#[test]
#[ignore = "the other half of the next test, which runs it in a process of its own and kills that"]
fn lives_until_it_is_killed() {
    let cluster = Cluster::builder().start();
    println!("{} {}", cluster.socket_folder().display(), cluster.address());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_test_that_is_killed_leaves_no_server_and_no_folder() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "harness::lives_until_it_is_killed", "--ignored", "--nocapture"]);
    let mut test = Child::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let output = BufReader::new(test.pipes().stdout.take().unwrap());
    let line = output.lines().map(Result::unwrap).find(|line| line.starts_with('/')).expect("the other half starts");
    let (folder, address) = line.split_once(' ').unwrap();
    assert!(Path::new(folder).is_dir());
    test.signal(Signal::Kill);
    eventually("the folder is gone", || !Path::new(folder).exists());
    eventually("the server is gone", || {
        RawClient::try_connect(address.parse::<std::net::SocketAddr>().unwrap()).is_err()
    });
}

#[test]
fn a_fake_server_misbehaves_as_told_and_remembers_what_it_heard() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        connection.serve_until("boom")?;
        connection.send(&backend::row_description(&["half"])[..7])
    });
    let mut client = RawClient::login(upstream.address(), "anna", "shop");
    assert_eq!(client.query("select 1").value(), "1");
    client.cancel();
    assert_eq!(client.parse("", "select boom").sync().read_to_end().shape(), "");
    assert_eq!((upstream.tags(0), upstream.cancels(), upstream.logins()), ("QP".to_owned(), 1, 1));
    eventually("the end is remembered", || upstream.has_closed(0));
}
