//! How many clients and server connections there may be: of a pool, a database, a user, the whole proxy.

use std::time::{Duration, Instant};

use config::{DatabaseLimits, UserLimits};
use integration_tests::{Cluster, FakeUpstream, Fields, Proxy, RawClient, eventually};

fn server() -> FakeUpstream {
    FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()))
}

fn client(proxy: &Proxy, user: &str, database: &str) -> RawClient {
    RawClient::login(proxy.address(), user, database)
}

fn refused(proxy: &Proxy, user: &str, database: &str) -> Fields {
    RawClient::try_login(proxy.address(), &[("user", user), ("database", database)], "").unwrap_err()
}

/// A client that holds an upstream.
fn holder(proxy: &Proxy, user: &str, database: &str) -> RawClient {
    let mut holder = client(proxy, user, database);
    holder.query("begin").ok();
    holder
}

fn user_limits(limits: UserLimits) -> std::collections::BTreeMap<String, UserLimits> {
    [("anna".to_owned(), limits)].into()
}

#[test]
fn clients_are_limited_for_each_database_and_user() {
    let server = server();
    let proxy = Proxy::before(server.address())
        .with(|settings| {
            settings.wildcard.as_mut().unwrap().limits = DatabaseLimits { max_clients: 2, max_upstreams: 0 };
            settings.user_limits = user_limits(UserLimits { max_clients: 3, ..UserLimits::default() });
        })
        .start();
    let mut shop = vec![client(&proxy, "anna", "shop"), client(&proxy, "bob", "shop")];
    let error = refused(&proxy, "carl", "shop");
    assert_eq!((error.code(), error.message()), ("53300", "too many connections for database \"shop\""));
    assert!(error.is_whole() && error.hint().contains("max_clients"), "{error:?}");
    let _others = [client(&proxy, "anna", "a"), client(&proxy, "anna", "b")];
    let error = refused(&proxy, "anna", "c");
    assert_eq!((error.code(), error.message()), ("53300", "too many connections for role \"anna\""));
    shop.pop().unwrap().terminate();
    eventually("the place is free again", || {
        RawClient::try_login(proxy.address(), &[("user", "carl"), ("database", "shop")], "").is_ok()
    });
}

#[test]
fn a_users_pools_have_the_size_that_the_user_is_given() {
    let server = server();
    let proxy = Proxy::before(server.address())
        .size(4)
        .pool(|pool| pool.queue_timeout = Duration::from_millis(200))
        .with(|settings| {
            settings.user_limits = user_limits(UserLimits { pool_size: Some(1), ..UserLimits::default() });
        })
        .start();
    let _holder = holder(&proxy, "anna", "shop");
    let reply = client(&proxy, "anna", "shop").query("select 1");
    let error = reply.error();
    assert!(error.code() == "53300" && error.detail().contains("all 1 server connections are in use"), "{error:?}");
    let _others = [holder(&proxy, "bob", "shop"), holder(&proxy, "bob", "shop")];
}

#[test]
fn the_limit_on_server_connections_is_told_by_name() {
    let server = server();
    let limited = |database, user, all| {
        Proxy::before(server.address())
            .pool(|pool| pool.queue_timeout = Duration::from_millis(200))
            .with(|settings| {
                settings.wildcard.as_mut().unwrap().limits = DatabaseLimits { max_clients: 0, max_upstreams: database };
                settings.user_limits = user_limits(UserLimits { max_upstreams: user, ..UserLimits::default() });
                settings.max_upstreams = all;
            })
            .start()
    };
    for (proxy, words) in [
        (limited(1, 0, 0), "all 1 server connections of this database are in use"),
        (limited(0, 1, 0), "all 1 server connections of this user are in use"),
        (limited(0, 0, 1), "all 1 server connections of the proxy are in use"),
    ] {
        let _holder = holder(&proxy, "anna", "shop");
        let mut waiting = client(&proxy, "anna", "shop");
        let reply = waiting.query("select 1");
        assert!(reply.error().code() == "53300" && reply.error().detail().contains(words), "{reply:?}");
    }
}

#[test]
fn an_idle_connection_of_another_pool_makes_room() {
    let server = server();
    let proxy = Proxy::before(server.address()).with(|settings| settings.max_upstreams = 2).start();
    let mut first = client(&proxy, "anna", "a");
    let mut second = client(&proxy, "anna", "b");
    assert_eq!(server.logins(), 2);
    let asked = Instant::now();
    // Its login needs a connection too.
    let mut third = client(&proxy, "anna", "c");
    assert_eq!(third.query("select 1").value(), "1");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.query("select 1").value(), "1");
    }
}

#[test]
fn pools_take_turns_where_none_can_spare_a_connection() {
    let cluster = Cluster::shared();
    let proxy = Proxy::before(cluster.address()).with(|settings| settings.max_upstreams = 2).start();
    let databases: Vec<String> = (0..3).map(|_| cluster.fresh_database()).collect();
    let clients: Vec<Vec<RawClient>> =
        databases.iter().map(|name| (0..4).map(|_| client(&proxy, "postgres", name)).collect()).collect();
    // Twelve clients in three pools are never idle: without turns, two of the pools would keep both connections.
    let until = Instant::now() + Duration::from_secs(3);
    let served: Vec<usize> = std::thread::scope(|scope| {
        let busy = |mut client: RawClient| {
            move || {
                let mut served = 0;
                while Instant::now() < until {
                    assert_eq!(client.query("select 1 from pg_sleep(0.005)").value(), "1");
                    served += 1;
                }
                served
            }
        };
        let pools: Vec<Vec<_>> = clients
            .into_iter()
            .map(|pool| pool.into_iter().map(|client| scope.spawn(busy(client))).collect())
            .collect();
        pools.into_iter().map(|pool| pool.into_iter().map(|client| client.join().unwrap()).sum()).collect()
    });
    assert!(served.iter().all(|served| *served > 20), "{served:?}");
}

#[test]
fn the_reserve_is_used_by_those_who_have_waited_for_long() {
    let server = server();
    let proxy = Proxy::before(server.address())
        .size(1)
        .pool(|pool| {
            pool.reserve_size = 1;
            pool.reserve_after = Duration::from_millis(300);
            pool.queue_timeout = Duration::from_secs(1);
        })
        .start();
    let mut first = holder(&proxy, "anna", "shop");
    let (mut second, mut third) = (client(&proxy, "anna", "shop"), client(&proxy, "anna", "shop"));
    let asked = Instant::now();
    second.query("begin").ok();
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(800), "{took:?}");
    let reply = third.query("select 1");
    assert!(reply.error().detail().contains("all 2 server connections are in use"), "{reply:?}");
    first.query("commit").ok();
    second.query("commit").ok();
    eventually("the reserve is given up", || (0..2).filter(|n| server.has_closed(*n)).count() == 1);
    assert_eq!(third.query("select 1").value(), "1");
}

#[test]
fn pools_follow_their_size_while_they_run() {
    let server = server();
    let builder = Proxy::before(server.address()).size(1);
    let proxy = builder.clone().start();
    let mut holders = vec![holder(&proxy, "anna", "shop")];
    let mut waiting = client(&proxy, "anna", "shop");
    waiting.start_query("begin");
    assert!(waiting.hears_nothing_for(Duration::from_millis(100)));
    proxy.reload(builder.clone().size(3).settings());
    waiting.reply().ok();
    holders.push(waiting);
    holders.push(holder(&proxy, "anna", "shop"));
    proxy.reload(builder.size(1).settings());
    let mut late = client(&proxy, "anna", "shop");
    late.start_query("select 1");
    for mut holder in holders {
        assert!(late.hears_nothing_for(Duration::from_millis(30)) || server.logins() == 3);
        holder.query("commit").ok();
    }
    assert_eq!(late.reply().value(), "1");
    eventually("one connection is left", || (0..3).filter(|n| server.has_closed(*n)).count() == 2);
}
