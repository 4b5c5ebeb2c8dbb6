//! LISTEN by a shared connection when things go wrong, and when there is a lot of it.

use std::time::Duration;

use config::ListenLoss::{Close, Notice};
use config::ListenWay;
use config::PoolMode::Transaction;
use integration_tests::cluster::Stop;
use integration_tests::{Cluster, FakeUpstream, Message, Proxy, RawClient, Site, eventually, http};

use crate::listen::heard;

const KILL: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where application_name = 'pgweir listener' and datname = current_database()";

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

fn metric(site: &Site, name: &str) -> f64 {
    let text = http::fetch(site.admin(), "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn last_error(client: &mut RawClient) -> (String, String) {
    let end = client.read_to_end();
    let error = end.errors().last().map(|error| (error.severity().to_owned(), error.code().to_owned()));
    error.unwrap_or_else(|| panic!("a reason was awaited: {end:?}"))
}

#[test]
fn fifty_clients_on_five_channels_hear_everything_in_the_order_of_the_server() {
    const EACH: usize = 60;
    let site = Site::pooled(Transaction, 2);
    let mut clients: Vec<RawClient> = (0..50).map(|_| site.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.query(format!("listen c{}", number % 5)).ok();
    }
    let mut direct = Cluster::shared().connect(&site.database);
    (0..5).for_each(|channel| drop(direct.query(format!("listen c{channel}")).ok()));
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let mut client = site.client();
            scope.spawn(move || {
                for round in 0..EACH {
                    let notify = format!("notify c{}, '{sender}-{round}'", (sender + round) % 5);
                    match round % 3 {
                        0 => drop(client.query(notify).ok()),
                        1 => drop(client.query(format!("begin; {notify}; commit")).ok()),
                        _ => drop(client.query(format!("begin; {notify}; rollback; {notify}")).ok()),
                    }
                }
            });
        }
    });
    let all: Vec<_> = (0..4 * EACH).map(|_| heard(&mut direct)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let channel = format!("c{}", number % 5);
        let awaited: Vec<_> = all.iter().filter(|(name, _)| *name == channel).cloned().collect();
        assert_eq!(awaited.len(), 4 * EACH / 5);
        let told: Vec<_> = awaited.iter().map(|_| heard(client)).collect();
        assert_eq!(told, awaited, "client {number}");
        assert!(client.hears_nothing_for(Duration::from_millis(1)));
    }
    assert_eq!(metric(&site, "pgweir_listen_received_total"), 4.0 * EACH as f64);
    assert_eq!(metric(&site, "pgweir_listen_delivered_total"), (10 * 4 * EACH) as f64);
    assert_eq!(metric(&site, "pgweir_listen_clients"), 50.0);
}

#[test]
fn clients_that_listen_and_work_hear_everything_under_load() {
    let site = Site::pooled(Transaction, 2);
    site.run_directly("create table jobs (n int)");
    site.run_directly(
        "create function tell() returns trigger language plpgsql as \
        $$ begin perform pg_notify('jobs', new.n::text); return null; end $$; \
        create trigger tell after insert on jobs for each row execute function tell()",
    );
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let site = &site;
                scope.spawn(move || {
                    let mut client = site.client();
                    let own = client.key.clone().unwrap().0;
                    client.query("listen jobs").ok();
                    let (mut ours, mut all) = (Vec::new(), 0);
                    for round in 0..25 {
                        let reply = client.query(format!("insert into jobs values ({})", worker * 100 + round)).ok();
                        for message in &reply.messages {
                            if let Message::NotificationResponse { pid, payload, .. } = message {
                                all += 1;
                                if *pid == own {
                                    ours.push(payload.parse::<i32>().unwrap());
                                }
                            }
                        }
                        assert_eq!(ours.last(), Some(&(worker * 100 + round)), "its own comes with the answer");
                    }
                    assert_eq!(ours.len(), 25, "and nobody else's is taken for its own: {ours:?}");
                    all
                })
            })
            .collect();
        let heard: Vec<i32> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        // Each hears at least its own, and never more than there were.
        assert!(heard.iter().all(|all| (25..=200).contains(all)), "{heard:?}");
    });
}

#[test]
fn clients_are_closed_when_notifications_may_have_been_lost() {
    let site = Site::pooled(Transaction, 2);
    let (mut idle, mut busy, mut deaf) = (site.client(), site.client(), site.client());
    idle.query("listen news").ok();
    busy.query("listen news").ok();
    busy.query("begin").ok();
    deaf.query("select 1").ok();
    site.run_directly(KILL);
    assert_eq!(last_error(&mut idle), pair("FATAL", "08006"));
    assert_eq!(busy.query("select 2").value(), "2", "a transaction may end");
    busy.query("commit").ok();
    assert_eq!(last_error(&mut busy), pair("FATAL", "08006"));
    assert_eq!(deaf.query("select 3").value(), "3");
    let mut again = site.client();
    again.query("listen news").ok();
    site.run_directly("notify news, 'x'");
    assert_eq!(heard(&mut again), pair("news", "x"));
    assert_eq!(metric(&site, "pgweir_listen_losses_total"), 1.0);
}

#[test]
fn clients_can_stay_and_are_warned_once_they_listen_again() {
    let site = Site::behind(Transaction, |proxy| proxy.size(1).pool(|pool| pool.listen.loss = Notice));
    let mut clients: Vec<RawClient> = (0..5).map(|_| site.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.query(format!("listen c{number}; listen news")).ok();
    }
    for round in 0..3 {
        site.run_directly(KILL);
        for client in &mut clients {
            let warning = client.read();
            let Message::NoticeResponse(fields) = &warning else { panic!("{warning:?}") };
            assert_eq!((fields.severity(), fields.code()), ("WARNING", "01000"));
        }
        site.run_directly(&format!("notify news, '{round}'"));
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(heard(client), pair("news", &round.to_string()));
            site.run_directly(&format!("notify c{number}, 'own'"));
            assert_eq!(heard(client), pair(&format!("c{number}"), "own"));
        }
    }
}

#[test]
fn a_server_that_is_started_again_is_listened_to_again() {
    for loss in [Close, Notice] {
        let cluster = Cluster::builder().start();
        let database = cluster.fresh_database();
        let proxy = Proxy::before(cluster.address()).pool(|pool| pool.listen.loss = loss).start();
        let login = || RawClient::login(proxy.address(), "postgres", &database);
        let mut client = login();
        client.query("listen news").ok();
        cluster.stop(Stop::Fast);
        cluster.start();
        if loss == Close {
            assert_eq!(last_error(&mut client), pair("FATAL", "08006"));
            client = login();
            client.query("listen news").ok();
        } else {
            assert!(matches!(client.read(), Message::NoticeResponse(_)));
        }
        cluster.run(&database, "notify news, 'back'");
        assert_eq!(heard(&mut client), pair("news", "back"));
    }
}

#[test]
fn a_client_that_does_not_take_its_notifications_is_closed_alone() {
    let site = Site::pooled(Transaction, 2);
    let (mut clogged, mut held, mut good) = (site.client(), site.client(), site.client());
    for client in [&mut clogged, &mut held, &mut good] {
        client.query("listen news").ok();
    }
    held.query("begin").ok();
    let reader = std::thread::spawn(move || {
        for number in 0..6000 {
            let (_, payload) = heard(&mut good);
            assert!(payload.starts_with(&format!("{number} ")), "{number}: {}", &payload[..10]);
        }
        good
    });
    for part in 0..12 {
        let from = part * 500;
        let to = from + 499;
        site.run_directly(&format!(
            "select pg_notify('news', rpad(n || ' ', 7900, 'x')) from generate_series({from}, {to}) n"
        ));
    }
    let mut good = reader.join().unwrap();
    eventually("both are closed", || metric(&site, "pgweir_listen_overflows_total") == 2.0);
    assert_eq!(last_error(&mut held), pair("FATAL", "53400"));
    drop(clogged.read_to_end());
    assert_eq!(good.query("select 1").value(), "1");
    eventually("they are forgotten", || metric(&site, "pgweir_listen_clients") == 1.0);
    assert_eq!(site.client().query("select 2").value(), "2", "no server is held");
}

#[test]
fn a_listen_reaches_its_server_only_when_everything_is_listened_to() {
    let upstream = FakeUpstream::start(|connection| {
        connection.login()?;
        if connection.index == 0 {
            return connection.serve();
        }
        connection.serve_until("LISTEN")?;
        connection.delay(Duration::from_millis(300));
        connection.send(&integration_tests::backend::command_complete("LISTEN"))?;
        connection.send(&integration_tests::backend::ready(b'I'))?;
        connection.serve()
    });
    let proxy = Proxy::before(upstream.address()).size(1).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "shop");
    client.query("select 1").ok();
    client.start_query("listen news");
    eventually("the listener is asked", || upstream.queries().iter().any(|sql| sql.contains("LISTEN \"news\"")));
    assert!(!upstream.queries().contains(&"listen news".to_owned()));
    assert!(client.hears_nothing_for(Duration::from_millis(100)));
    client.reply().ok();
    assert!(upstream.queries().contains(&"listen news".to_owned()));
}

#[test]
fn a_listen_that_cannot_be_is_refused_in_time() {
    let upstream = FakeUpstream::start(|connection| {
        if connection.index > 0 {
            return Ok(());
        }
        connection.login()?;
        loop {
            let (tag, body) = connection.receive()?;
            let refused = tag == 'Q' && body.starts_with(b"*");
            let answer = if refused {
                [integration_tests::backend::error("42601", "syntax error"), integration_tests::backend::ready(b'I')]
                    .concat()
            } else {
                integration_tests::backend::one_value("1")
            };
            connection.send(&answer)?;
        }
    });
    let proxy =
        Proxy::before(upstream.address()).size(1).pool(|pool| pool.queue_timeout = Duration::from_millis(300)).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "shop");
    client.query("select 1").ok();
    let refused = client.query("listen news");
    assert_eq!((refused.error().code(), refused.status()), ("57P03", 'I'), "{:?}", refused.error());
    assert!(refused.error().is_whole());
    assert_eq!(client.query("select 1").value(), "1");
}

#[test]
fn a_server_that_refuses_to_listen_is_quoted() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client_with(&[("client_encoding", "UTF8")]);
    let refused = client.query(b"listen \"bad\xff\"");
    assert_eq!((refused.error().code(), refused.status()), ("22021", 'I'), "{:?}", refused.error());
    client.query("listen good").ok();
    site.run_directly("notify good, 'x'");
    assert_eq!(heard(&mut client), pair("good", "x"));
}

#[test]
fn clients_that_listen_are_told_of_the_end() {
    let mut site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    client.query("listen news").ok();
    drop(site.proxy.take());
    assert_eq!(last_error(&mut client), pair("FATAL", "57P01"));
}

#[test]
fn a_reload_changes_how_clients_listen_from_then_on() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let builder = Proxy::before(cluster.address()).size(2);
    let proxy = builder.clone().start();
    let login = || RawClient::login(proxy.address(), "postgres", &database);
    let (mut shared, mut pinned) = (login(), login());
    shared.query("listen news").ok();
    proxy.reload(builder.clone().pool(|pool| pool.listen.way = ListenWay::Pin).settings());
    pinned.query("select 1").ok();
    pinned.query("listen news").ok();
    let pins = http::fetch(proxy.admin(), "/api/v1/pools").json()["pools"][0]["pins"].to_string();
    assert_eq!(pins, "{\"listen\":1}");
    for round in ["1", "2"] {
        cluster.run(&database, &format!("notify news, '{round}'"));
        assert_eq!([heard(&mut shared), heard(&mut pinned)], [pair("news", round), pair("news", round)]);
    }
    shared.query("listen more").ok();
    cluster.run(&database, "notify more, 'x'");
    assert_eq!(heard(&mut shared), pair("more", "x"), "who listens by the shared connection goes on so");
    // Another server: what is notified there would not be heard.
    let elsewhere = Cluster::builder().start();
    proxy.reload(Proxy::before(elsewhere.address()).size(2).settings());
    assert_eq!(last_error(&mut shared), pair("FATAL", "08006"));
}
