//! SUSPEND: what has begun goes on to its end, and what comes next waits for RESUME.

use std::net::SocketAddr;
use std::time::Duration;

use integration_tests::{Cluster, Proxy, ProxyProcess, RawClient, eventually, frontend, http};

use super::{find, ops, proxy, server, table, with_users};

const A_WHILE: Duration = Duration::from_millis(100);

/// A client of a database of this name.
fn client(address: SocketAddr, database: &str) -> RawClient {
    RawClient::login(address, "postgres", database)
}

/// The value of a key of STATE.
fn state(ops: &mut RawClient, key: &str) -> String {
    find(&table(ops, "show state"), "key", key).get("value").to_owned()
}

#[test]
fn what_has_begun_goes_on_and_what_comes_next_waits_for_resume() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    cluster.run(&database, "create table c (n int)").ok();
    let proxy = with_users(Proxy::before(cluster.address())).start();
    let mut open = client(proxy.address(), &database);
    let [mut copying, mut waits] = [(); 2].map(|()| client(proxy.address(), &database));
    let (mut ops, mut second) = (ops(proxy.address()), super::ops(proxy.address()));
    open.query("begin; insert into c values (1)").ok();
    waits.query("select 1").ok();
    copying.start_query("copy c from stdin");
    assert_eq!(copying.read_until('G').shape(), "G");

    ops.start_query("SUSPEND;");
    assert!(ops.hears_nothing_for(A_WHILE), "a request is under way");
    eventually("it is suspended", || state(&mut second, "suspended") == "yes");
    assert_eq!((state(&mut second, "active"), state(&mut second, "paused")), ("no".to_owned(), "no".to_owned()));
    waits.start_query("select 'has waited'");
    open.start_query("select 'within'");
    assert!(waits.hears_nothing_for(A_WHILE) && open.hears_nothing_for(A_WHILE));
    // What has begun needs its client to be read.
    copying.say(frontend::copy_data(b"2\n")).say(frontend::copy_done());
    assert_eq!(copying.reply().commands(), ["COPY 1"]);
    assert_eq!(ops.reply().commands(), ["SUSPEND"]);

    let mut late = client(proxy.address(), &database);
    late.start_query("select 'late'");
    assert!(late.hears_nothing_for(A_WHILE), "whoever comes may log in, and no more");
    assert!(http::fetch(proxy.admin(), "/metrics").body.contains("\npgweir_suspended 1\n"));
    let told = || http::fetch(proxy.admin(), "/api/v1/overview").json()["verdicts"].clone();
    let of_it = || told().as_array().unwrap().iter().find(|verdict| verdict["kind"] == "suspended").cloned();
    eventually("since when is told", || of_it().is_some_and(|verdict| verdict["since"].is_string()));
    let refused = ops.query("pause");
    assert_eq!((refused.error().code(), refused.error().is_whole()), ("55000", true), "{refused:?}");
    assert_eq!(ops.query("suspend").commands(), ["SUSPEND"], "it may be said twice");
    assert!(waits.hears_nothing_for(A_WHILE));

    assert_eq!(ops.query("resume").commands(), ["RESUME"]);
    assert_eq!((waits.reply().value(), late.reply().value()), ("has waited".to_owned(), "late".to_owned()));
    assert_eq!(open.reply().value(), "within");
    assert_eq!(of_it(), None);
    open.query("commit").ok();
    assert_eq!(waits.query("select count(*) from c").value(), "2");
    assert_eq!(state(&mut ops, "active"), "yes");
}

#[test]
fn resume_ends_the_wait_for_requests_and_a_paused_database_is_told() {
    let server = server();
    let proxy = proxy(&server);
    let (mut ops, mut second) = (ops(proxy.address()), super::ops(proxy.address()));
    ops.query("pause shop").ok();
    let refused = ops.query("suspend");
    assert_eq!((refused.error().code(), refused.error().is_whole()), ("55000", true), "{refused:?}");
    assert_eq!(state(&mut ops, "suspended"), "no");
    ops.query("resume").ok();

    let mut half = RawClient::login(proxy.address(), "anna", "shop");
    half.query("select 1").ok();
    // Without its Sync, the request has not ended.
    half.parse("", "select 1").flush().send();
    assert_eq!(half.read_until('1').shape(), "1");
    ops.start_query("suspend");
    assert!(ops.hears_nothing_for(A_WHILE));
    second.query("resume").ok();
    assert_eq!(ops.reply().error().code(), "55000");
    half.sync().send();
    half.reply();
    // Whoever leaves is not waited for.
    half.parse("", "select 1").flush().send();
    assert_eq!(half.read_until('1').shape(), "1");
    ops.start_query("suspend");
    assert!(ops.hears_nothing_for(A_WHILE));
    half.vanish();
    assert_eq!(ops.reply().commands(), ["SUSPEND"]);
}

#[test]
fn a_client_that_nobody_reads_is_not_taken_for_silent() {
    let cluster = Cluster::shared();
    let limit = Duration::from_millis(400);
    let proxy =
        with_users(Proxy::before(cluster.address())).pool(|pool| pool.idle_in_transaction_timeout = limit).start();
    let (mut open, mut ops) = (client(proxy.address(), "postgres"), ops(proxy.address()));
    open.query("begin").ok();
    ops.query("suspend").ok();
    open.start_query("select 'is there'");
    assert!(open.hears_nothing_for(limit * 3));
    ops.query("resume").ok();
    assert_eq!(open.reply().value(), "is there");
    assert_eq!(open.read_to_end().error().code(), "25P03", "and from then on it counts again");
}

#[test]
fn the_end_of_the_process_ends_it() {
    let upstream = Cluster::shared().address();
    let mut proxy = ProxyProcess::with_config(&format!(
        "listen = \"{{listen}}\"\nauth.method = \"trust\"\nconsole.admin_users = [\"ops\"]\n[admin]\nlisten = \"{{admin}}\"\n\
         [databases.\"*\"]\nupstream = \"postgres://{upstream}\"\n"
    ));
    let mut client = client(proxy.address(), "postgres");
    let mut ops = ops(proxy.address());
    ops.query("suspend").ok();
    ops.query("shutdown wait_for_clients").ok();
    // It is heard to leave, which it would not be while it is not read.
    assert_eq!(client.query("select 1").value(), "1");
    client.terminate();
    assert!(proxy.child.wait_for(Duration::from_secs(10)).is_some(), "{}", proxy.log());
}

#[test]
fn who_waits_for_a_server_is_served_first() {
    let cluster = Cluster::shared();
    let proxy = with_users(Proxy::before(cluster.address())).size(1).start();
    let [mut sleeps, mut first, mut second] = [(); 3].map(|()| client(proxy.address(), "postgres"));
    let mut ops = ops(proxy.address());
    sleeps.start_query("select pg_sleep(0.5)");
    let mut clients = |key: &str| find(&table(&mut ops, "show pools"), "database", "postgres").get(key).to_owned();
    eventually("it runs", || clients("sv_active") == "1");
    first.start_query("select 'first'");
    second.start_query("select 'second'");
    eventually("both wait", || clients("cl_waiting") == "2");
    assert_eq!(ops.query("suspend").commands(), ["SUSPEND"]);
    // They have their answers by then.
    assert_eq!((first.reply().value(), second.reply().value()), ("first".to_owned(), "second".to_owned()));
    sleeps.reply();
}

#[test]
fn connections_for_replication_go_on() {
    let proxy = with_users(Proxy::before(Cluster::shared().address())).start();
    let parameters = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
    let mut sender = RawClient::login_with(proxy.address(), &parameters, "");
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
    assert_eq!(ops(proxy.address()).query("suspend").commands(), ["SUSPEND"]);
    assert_eq!(sender.query("IDENTIFY_SYSTEM").rows().len(), 1);
}

#[test]
fn what_waits_for_a_client_that_is_not_read_ends_it() {
    let cluster = Cluster::shared();
    let proxy = with_users(Proxy::before(cluster.address())).size(1).start();
    let [mut open, mut waits] = [(); 2].map(|()| client(proxy.address(), "postgres"));
    let mut ops = ops(proxy.address());
    open.query("begin").ok();
    waits.start_query("select 'served'");
    // Its request has come: what has not may come after the client is suspended.
    eventually("it waits", || {
        let pools = ops.query("show pools");
        pools.rows().iter().any(|row| row.first().is_some_and(|name| name == "postgres") && row[3] == "1")
    });
    let refused = ops.query("suspend");
    assert_eq!((refused.error().code(), refused.error().is_whole()), ("55000", true), "{refused:?}");
    assert_eq!(state(&mut ops, "suspended"), "no");
    open.query("commit").ok();
    assert_eq!(waits.reply().value(), "served");
}
