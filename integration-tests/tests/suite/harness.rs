//! The harness itself, against PostgreSQL without a proxy.

use integration_tests::cluster::Stop;
use integration_tests::{Cluster, Hba, RawClient, eventually};

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
