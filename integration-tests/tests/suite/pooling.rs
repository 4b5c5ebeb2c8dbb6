//! Many clients, few servers: who gets one, for how long, and in which state the next one finds it.

use std::time::{Duration, Instant};

use config::PoolMode::{Session, Statement, Transaction};
use integration_tests::cluster::Stop;
use integration_tests::{Cluster, Proxy, RawClient, Site, eventually};

const PID: &str = "select pg_backend_pid()";

fn pid(client: &mut RawClient) -> String {
    client.query(PID).value()
}

#[test]
fn two_hundred_clients_share_five_servers() {
    let site = Site::pooled(Transaction, 5);
    let mut clients: Vec<RawClient> = (0..200).map(|_| site.client()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.start_query(format!("select {round}, pg_sleep(0.001)"));
        }
        assert!(site.backends() <= 5);
        for client in &mut clients {
            assert_eq!(client.reply().ok().rows()[0][0], round.to_string());
        }
    }
    assert!(site.backends() <= 5);
}

#[test]
fn transaction_mode_gives_the_server_back_after_each_transaction() {
    let site = Site::pooled(Transaction, 1);
    let (mut first, mut second) = (site.client(), site.client());
    first.query("begin").ok();
    let server = pid(&mut first);
    second.start_query(PID);
    assert!(second.hears_nothing_for(Duration::from_millis(100)), "the only server is taken");
    first.query("commit").ok();
    assert_eq!(second.reply().value(), server);
}

#[test]
fn session_mode_gives_the_server_back_when_the_client_leaves() {
    let site = Site::pooled(Session, 1);
    let mut first = site.client();
    let server = pid(&mut first);
    first.query("create temp table mine (n int)").ok();
    let address = site.address();
    let parameters: Vec<_> = [("user", "postgres"), ("database", site.database.as_str())].into();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut second = RawClient::login_with(address, &parameters, "");
            second.query("select * from mine").error().code().to_owned()
        });
        assert_eq!(pid(&mut first), server);
        first.terminate();
        assert_eq!(waiting.join().unwrap(), "42P01", "what the first one made temporarily is gone");
    });
}

#[test]
fn statement_mode_refuses_transaction_blocks() {
    let site = Site::pooled(Statement, 1);
    let mut client = site.client();
    let refused = client.query("begin");
    assert_eq!(refused.error().code(), "0A000", "{:?}", refused.error());
    assert!(refused.error().is_whole());
    assert_eq!(site.client().query("select 1").value(), "1");
}

#[test]
fn who_waits_too_long_is_told_so_and_may_try_again() {
    let site =
        Site::behind(Transaction, |proxy| proxy.size(1).pool(|pool| pool.queue_timeout = Duration::from_millis(150)));
    let (mut holder, mut waiting) = (site.client(), site.client());
    holder.query("begin").ok();
    let reply = waiting.query("select 1");
    let error = reply.error();
    assert_eq!((error.code(), error.is_whole(), reply.status()), ("53300", true, 'I'), "{error:?}");
    assert!(!error.detail().is_empty(), "{error:?}");
    holder.query("commit").ok();
    assert_eq!(waiting.query("select 1").value(), "1");
}

#[test]
fn a_transaction_that_its_client_left_is_rolled_back_and_the_server_kept() {
    let site = Site::pooled(Transaction, 1);
    let (mut leaver, mut next) = (site.client(), site.client());
    leaver.query("create table t (n int)").ok();
    let server = pid(&mut leaver);
    leaver.query("begin; insert into t values (1)").ok();
    leaver.vanish();
    assert_eq!(next.query("select count(*) from t").value(), "0");
    assert_eq!(pid(&mut next), server);
}

#[test]
fn a_query_that_its_client_left_is_cancelled() {
    let site = Site::pooled(Transaction, 1);
    let (mut leaver, mut next) = (site.client(), site.client());
    leaver.start_query("select pg_sleep(60)");
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)%' \
                   and pid <> pg_backend_pid() and datname = current_database()";
    eventually("the query runs", || site.run_directly(running).value() == "1");
    leaver.vanish();
    let asked = Instant::now();
    assert_eq!(next.query("select 1").value(), "1");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    eventually("the query is over", || site.run_directly(running).value() == "0");
}

#[test]
fn a_server_past_its_lifetime_is_replaced() {
    let site = Site::behind(Transaction, |proxy| proxy.size(1).pool(|pool| pool.lifetime = Duration::from_millis(100)));
    let mut client = site.client();
    let first = pid(&mut client);
    eventually("another server answers", || pid(&mut client) != first);
    assert!(site.backends() <= 1);
}

#[test]
fn idle_servers_are_closed_down_to_the_minimum() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(4).pool(|pool| {
            pool.min_size = 1;
            pool.idle_timeout = Duration::from_millis(100);
        })
    });
    let mut clients: Vec<RawClient> = (0..4).map(|_| site.client()).collect();
    for client in &mut clients {
        client.query("begin").ok();
    }
    assert_eq!(site.backends(), 4);
    for client in &mut clients {
        client.query("commit").ok();
    }
    eventually("one server is left", || site.backends() == 1);
}

#[test]
fn an_idle_server_that_was_ended_is_never_handed_out() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    for _ in 0..5 {
        let server = pid(&mut client);
        site.run_directly(&format!("select pg_terminate_backend({server})")).ok();
        eventually("the server is gone", || site.backends() == 0);
        assert_ne!(pid(&mut client), server);
    }
}

#[test]
fn a_server_lost_in_a_transaction_is_reported_and_costs_nobody_else() {
    let site = Site::pooled(Transaction, 1);
    let (mut unlucky, mut next) = (site.client(), site.client());
    unlucky.query("begin").ok();
    let server = pid(&mut unlucky);
    site.run_directly(&format!("select pg_terminate_backend({server})")).ok();
    let reply = unlucky.say(integration_tests::frontend::query("select 1")).read_to_end();
    assert!(["57P01", "08006"].contains(&reply.error().code()), "{reply:?}");
    assert_ne!(pid(&mut next), server);
}

#[test]
fn who_runs_something_on_a_server_that_is_ended_is_told_why_and_stays() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.parse("sleep", "select pg_sleep($1)").sync().reply().ok();
    client.bind("sleep", &["30"]).execute().sync().parse("", "select 2").bind("", &[]).execute().sync().send();
    let running = "from pg_stat_activity where query = 'select pg_sleep($1)' and state = 'active'";
    eventually("it sleeps", || site.run_directly(&format!("select count(*) {running}")).value() == "1");
    site.run_directly(&format!("select pg_terminate_backend(pid) {running}")).ok();
    let struck = client.reply();
    let error = struck.error();
    assert_eq!((error.code(), error.severity()), ("57P01", "ERROR"), "{struck:?}");
    assert_eq!(error.message(), "terminating connection due to administrator command");
    assert_eq!(client.reply().error().code(), "08006", "what stood behind it was never run");
    client.bind("sleep", &["0"]).execute().sync();
    assert_eq!(client.reply().ok().shape(), "2DCZ");
}

#[test]
fn the_client_over_the_limit_is_told_so() {
    let site = Site::behind(Transaction, |proxy| proxy.with(|settings| settings.max_clients = 2));
    let _both = (site.client(), site.client());
    let refused = RawClient::try_login(site.address(), &site.parameters(&[]), "").unwrap_err();
    assert_eq!((refused.code(), refused.is_whole()), ("53300", true), "{refused:?}");
}

#[test]
fn clients_outlive_a_restart_of_the_server() {
    let cluster = Cluster::builder().start();
    let proxy = Proxy::before(cluster.address()).pool(|pool| pool.queue_timeout = Duration::from_millis(500)).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    assert_eq!(client.query("select 1").value(), "1");
    cluster.stop(Stop::Fast);
    let error = client.query("select 1").error().clone();
    assert!(["08001", "08006", "57P03", "53300"].contains(&error.code()), "{error:?}");
    cluster.start();
    eventually("the same client is served again", || client.query("select 1").errors().is_empty());
}

#[test]
fn a_login_while_the_server_is_down_fails_fast_and_clearly() {
    let site = Proxy::before(([127, 0, 0, 1], integration_tests::cluster::free_port()).into())
        .pool(|pool| pool.queue_timeout = Duration::from_secs(1))
        .start();
    let asked = Instant::now();
    let parameters = [("user", "postgres"), ("database", "postgres")];
    let error = match RawClient::try_login(site.address(), &parameters, "") {
        Err(error) => error,
        Ok(mut client) => client.query("select 1").error().clone(),
    };
    assert!(["08001", "57P03"].contains(&error.code()), "{error:?}");
    assert!(error.is_whole() && asked.elapsed() < Duration::from_secs(5), "{error:?} {:?}", asked.elapsed());
}
