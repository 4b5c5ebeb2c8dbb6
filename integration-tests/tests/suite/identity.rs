//! Process ids: what a client is told at login, what the server shows of it, and what others can do to it by that number.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use config::PoolMode::{Session, Transaction};
use integration_tests::{
    Cluster, FakeUpstream, Message, Proxy, RawClient, Site, backend, eventually, everywhere, everywhere_transactional,
    frontend,
};

/// The first id that Linux gives to no process.
const FIRST_OWN: u32 = 1 << 22;

fn told(client: &RawClient) -> u32 {
    client.key.as_ref().expect("a key").0
}

fn server(client: &mut RawClient) -> u32 {
    client.query("select pg_backend_pid()").value().parse().unwrap()
}

/// Direct connections and session mode, where a client has a server to itself.
fn with_a_server(test: impl Fn(&Site)) {
    test(&Site::direct());
    test(&Site::pooled(Session, 2));
}

fn is_ended(client: &mut RawClient) {
    let last = client.read_to_end();
    let error = last.error();
    assert_eq!((error.code(), error.severity()), ("57P01", "FATAL"), "{:?}", last.messages);
    assert_eq!(error.message(), "terminating connection due to administrator command");
    assert_eq!(last.errors().len(), 1, "{:?}", last.messages);
}

fn runs(database: &str, text: &str) -> bool {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{database}' and state = 'active' and query like '%{text}%'"
    );
    Cluster::shared().value("postgres", &sql) != "0"
}

#[test]
fn in_session_mode_a_client_is_told_its_servers_process_id() {
    with_a_server(|site| {
        let mut client = site.client();
        let process = told(&client);
        assert_eq!(server(&mut client), process);
        let seen =
            format!("select count(*) from pg_stat_activity where pid = {process} and datname = '{}'", site.database);
        assert_eq!(Cluster::shared().value("postgres", &seen), "1");
        client.query("listen here").ok();
        let heard = client.query("notify here").ok();
        let sender = heard.messages.iter().find_map(|message| match message {
            Message::NotificationResponse { pid, .. } => Some(*pid),
            _ => None,
        });
        assert_eq!(sender, Some(process));
        let mut other = site.client();
        assert_ne!(told(&other), process);
        assert_eq!(server(&mut other), told(&other));
    });
}

#[test]
fn the_process_id_of_a_client_without_a_server_is_nobodys() {
    let site = Site::pooled(Transaction, 1);
    let (one, other) = (site.client(), site.client());
    assert_ne!(told(&one), told(&other));
    for client in [one, other] {
        assert!((FIRST_OWN..1 << 31).contains(&told(&client)), "{}", told(&client));
    }
}

#[test]
fn a_process_id_is_not_told_twice_in_a_row() {
    let site = Site::pooled(Session, 2);
    let first = site.client();
    let before = told(&first);
    first.terminate();
    let second = site.client();
    assert_ne!(told(&second), before);
    // With no room for a third, the one that rests is needed at once.
    let asked = Instant::now();
    let third = site.client();
    assert_eq!(told(&third), before);
    assert!(asked.elapsed() < Duration::from_millis(800), "{:?}", asked.elapsed());
}

#[test]
fn a_login_in_session_mode_waits_for_a_server() {
    let site = Site::pooled(Session, 1);
    let first = site.client();
    let process = told(&first);
    let mut second = RawClient::connect(site.address());
    second.say(frontend::startup(frontend::PROTOCOL_3_0, &site.parameters(&[]))).send();
    second.read_until('R').ok();
    while !second.hears_nothing_for(Duration::from_millis(200)) {
        assert!(!matches!(second.read(), Message::BackendKeyData { .. } | Message::ReadyForQuery(_)));
    }
    // Somebody who goes away while waiting takes no server with it.
    let mut hasty = RawClient::connect(site.address());
    hasty.say(frontend::startup(frontend::PROTOCOL_3_0, &site.parameters(&[]))).send();
    hasty.read_until('R').ok();
    hasty.vanish();
    first.terminate();
    second.reply().ok();
    assert_eq!(told(&second), process);
    assert_eq!(second.query("select 1").value(), "1");
    second.terminate();
    assert_eq!(site.client().query("select 1").value(), "1");
}

#[test]
fn a_login_that_gets_no_server_in_time_is_told_so() {
    let site =
        Site::behind(Session, |proxy| proxy.size(1).pool(|pool| pool.queue_timeout = Duration::from_millis(150)));
    let mut first = site.client();
    let refused = RawClient::try_login(site.address(), &site.parameters(&[]), "").unwrap_err();
    assert_eq!((refused.code(), refused.severity()), ("53300", "FATAL"), "{refused:?}");
    assert!(refused.is_whole(), "{refused:?}");
    assert_eq!(first.query("select 1").value(), "1");
}

#[test]
fn what_the_server_says_to_a_login_reaches_the_client() {
    let role = "limited_to_one";
    Cluster::shared().create_role(role, None);
    Cluster::shared().run("postgres", &format!("alter role {role} connection limit 1"));
    with_a_server(|site| {
        let parameters = [("user", role), ("database", site.database.as_str())];
        let first = RawClient::login_with(site.address(), &parameters, "");
        let refused = RawClient::try_login(site.address(), &parameters, "").unwrap_err();
        assert_eq!(refused.code(), "53300", "{refused:?}");
        drop(first);
        eventually("the first one has gone", || Cluster::shared().backends(&site.database) <= 1);
    });
}

#[test]
fn in_session_mode_the_end_of_the_server_is_the_end_of_the_client() {
    with_a_server(|site| {
        let mut client = site.client();
        client.query("begin").ok();
        Cluster::shared().run("postgres", &format!("select pg_terminate_backend({})", told(&client)));
        is_ended(&mut client);
        let mut idle = site.client();
        Cluster::shared().run("postgres", &format!("select pg_terminate_backend({})", told(&idle)));
        is_ended(&mut idle);
    });
}

/// Bind of one binary parameter.
fn bind_binary(value: &[u8]) -> Vec<u8> {
    let mut body = b"\0\0\0\x01\0\x01\0\x01".to_vec();
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value);
    body.extend([0, 0]);
    frontend::message(b'B', &body)
}

/// Has `caller` call the function in one of several ways.
fn call(caller: &mut RawClient, function: &str, process: u32, way: usize) -> String {
    let reply = match way {
        0 => caller.query(format!("select {function}({process})")),
        1 => caller.query(format!("/* a comment */ select pg_catalog.{function}('{process}'::int) -- and another")),
        2 => caller
            .parse("", &format!("select {function}($1)"))
            .bind("", &[&process.to_string()])
            .execute()
            .sync()
            .reply(),
        3 => {
            let bind = bind_binary(&process.to_be_bytes());
            caller.parse("", &format!("select {function}($1::int4)")).say(bind).execute().sync().reply()
        }
        _ => {
            let bind = bind_binary(&u64::from(process).to_be_bytes());
            caller.parse("", &format!("select {function}($1::int8::int4)")).say(bind).execute().sync().reply()
        }
    };
    reply.ok().value()
}

#[test]
fn a_client_is_ended_by_the_process_id_that_it_was_told() {
    everywhere(|site| {
        for way in 0..5 {
            let mut caller = site.client();
            let mut target = site.client();
            target.query("select 1").ok();
            assert_eq!(call(&mut caller, "pg_terminate_backend", told(&target), way), "t", "way {way}");
            is_ended(&mut target);
            assert_eq!(caller.query("select 1").value(), "1");
            caller.terminate();
        }
    });
}

#[test]
fn a_client_is_ended_in_its_transaction_and_its_server_is_cleaned() {
    everywhere(|site| {
        site.run_directly("create table if not exists kept (n int)");
        let (mut caller, mut target) = (site.client(), site.client());
        target.query("begin; insert into kept values (1)").ok();
        target.start_query("select pg_sleep(60)");
        eventually("the query runs", || runs(&site.database, "pg_sleep(60)"));
        assert_eq!(call(&mut caller, "pg_terminate_backend", told(&target), 0), "t");
        is_ended(&mut target);
        eventually("its query has ended", || !runs(&site.database, "pg_sleep(60)"));
        assert_eq!(caller.query("select count(*) from kept").value(), "0");
    });
}

#[test]
fn what_a_client_runs_is_cancelled_by_the_process_id_that_it_was_told() {
    everywhere(|site| {
        let (mut caller, mut target) = (site.client(), site.client());
        for way in 0..5 {
            target.start_query("select pg_sleep(60)");
            eventually("the query runs", || runs(&site.database, "pg_sleep(60)"));
            assert_eq!(call(&mut caller, "pg_cancel_backend", told(&target), way), "t", "way {way}");
            assert_eq!(target.reply().error().code(), "57014");
            assert_eq!(target.query("select 1").value(), "1");
        }
        // Nothing runs: nothing is cancelled.
        assert_eq!(call(&mut caller, "pg_cancel_backend", told(&target), 0), "t");
        assert_eq!(target.query("select 1").value(), "1");
    });
}

#[test]
fn a_call_that_is_not_made_strikes_nobody() {
    everywhere(|site| {
        let (mut caller, mut target) = (site.client(), site.client());
        let process = told(&target);
        for function in ["pg_terminate_backend", "pg_cancel_backend"] {
            caller.query(format!("select {function}({process}) where false")).ok();
            assert_eq!(caller.query(format!("select 1/0, {function}({process})")).error().code(), "22012");
        }
        assert_eq!(target.query("select 1").value(), "1");
    });
}

#[test]
fn the_server_judges_who_may_strike_whom() {
    let (peer, stranger) = ("struck_by_peers", "struck_by_nobody");
    Cluster::shared().create_role(peer, None);
    Cluster::shared().create_role(stranger, None);
    everywhere(|site| {
        let login = |user| RawClient::login(site.address(), user, &site.database);
        let mut target = login(peer);
        let refused = login(stranger).query(format!("select pg_terminate_backend({})", told(&target)));
        assert_eq!(refused.error().code(), "42501", "{:?}", refused.messages);
        let refused = login(stranger).query(format!("select pg_cancel_backend({})", told(&target)));
        assert_eq!(refused.error().code(), "42501", "{:?}", refused.messages);
        assert_eq!(target.query("select 1").value(), "1");
        assert_eq!(call(&mut login(peer), "pg_terminate_backend", told(&target), 2), "t");
        is_ended(&mut target);
    });
}

#[test]
fn who_ends_its_own_server_is_closed_with_it() {
    everywhere(|site| {
        let mut client = site.client();
        client.start_query("select pg_terminate_backend(pg_backend_pid())");
        is_ended(&mut client);
        let mut client = site.client();
        let own = told(&client);
        client.parse("", "select pg_terminate_backend($1)").bind("", &[&own.to_string()]).execute().sync().send();
        client.read_until('2');
        is_ended(&mut client);
        let mut client = site.client();
        let own = told(&client);
        assert_eq!(client.query(format!("select pg_cancel_backend({own})")).error().code(), "57014");
        assert_eq!(client.query("select 1").value(), "1");
    });
}

#[test]
fn a_process_id_that_nobody_has_strikes_nobody() {
    everywhere(|site| {
        let mut client = site.client();
        for process in [FIRST_OWN + 12_345, i32::MAX as u32] {
            let answered = client.query(format!("select pg_terminate_backend({process})")).ok();
            assert_eq!(answered.value(), "f");
            assert_eq!(answered.notices().first().map(|notice| notice.code()), Some("01000"));
        }
    });
}

#[test]
fn a_stand_in_is_gone_when_its_caller_has_been_answered() {
    let site = Site::pooled(Transaction, 1);
    let (mut caller, target) = (site.client(), site.client());
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        caller.query(format!("select {function}({}) where false", told(&target))).ok();
        eventually("the pool's one connection is left", || Cluster::shared().backends(&site.database) == 1);
    }
}

/// A cancel with the server's process id needs its secret too.
#[test]
fn in_session_mode_the_wrong_secret_cancels_nothing() {
    with_a_server(|site| {
        let mut client = site.client();
        let (process, key) = client.key.clone().unwrap();
        client.start_query("select pg_sleep(0.5)");
        eventually("the query runs", || runs(&site.database, "pg_sleep(0.5)"));
        for at in 0..key.len() {
            let mut wrong = key.clone();
            wrong[at] ^= 0x81;
            integration_tests::client::cancel(site.address(), process, &wrong);
        }
        integration_tests::client::cancel(site.address(), process + 1, &key);
        client.reply().ok();
    });
}

#[test]
fn a_cancel_for_a_client_that_has_left_strikes_not_the_next_one() {
    let site = Site::pooled(Session, 1);
    let first = site.client();
    let (process, key) = first.key.clone().unwrap();
    let address: SocketAddr = site.address();
    first.terminate();
    let mut second = site.client();
    assert_eq!(told(&second), process);
    second.start_query("select pg_sleep(0.3)");
    eventually("the query runs", || runs(&site.database, "pg_sleep(0.3)"));
    integration_tests::client::cancel(address, process, &key);
    second.reply().ok();
}

#[test]
fn a_call_that_stands_behind_something_else_strikes() {
    everywhere_transactional(|site| {
        let (mut caller, mut other) = (site.client(), site.client());
        caller.query("set application_name to 'caller'").ok();
        let call = |target: &RawClient| {
            frontend::query(format!("select pg_terminate_backend({}) from pg_sleep(0.5)", told(target)))
        };
        // Behind the caller's settings, which are made on a server that has another client's.
        let mut target = site.client();
        other.query("select 1").ok();
        assert_eq!(caller.say(call(&target)).reply().ok().value(), "t");
        is_ended(&mut target);
        // Behind another request of its pipeline.
        let mut target = site.client();
        caller.say(frontend::query("select 1")).say(call(&target)).reply().ok();
        assert_eq!(caller.reply().ok().value(), "t");
        is_ended(&mut target);
        // Behind another call in the same request.
        let mut targets = [site.client(), site.client()];
        for target in &targets {
            let text = "select pg_terminate_backend($1) from pg_sleep(0.5)";
            caller.parse("", text).bind("", &[&told(target).to_string()]).execute();
        }
        assert_eq!(caller.sync().reply().ok().rows(), [["t"], ["t"]]);
        targets.iter_mut().for_each(is_ended);
        // Behind a Parse of what the server has already.
        let text = "select pg_terminate_backend($1), 'known'";
        caller.parse("known", text).sync().reply().ok();
        caller.say(frontend::close(b'S', "known")).sync().reply().ok();
        let mut target = site.client();
        let known = caller.parse("known", text).bind("known", &[&told(&target).to_string()]).execute().sync().reply();
        assert_eq!(known.ok().rows(), [["t", "known"]]);
        is_ended(&mut target);
    });
}

#[test]
fn of_many_clients_in_one_text_as_many_are_struck_as_have_stand_ins() {
    let site = Site::pooled(Transaction, 2);
    let mut caller = site.client();
    let mut targets: Vec<_> = (0..10).map(|_| site.client()).collect();
    let calls: Vec<String> = targets.iter().map(|target| format!("pg_terminate_backend({})", told(target))).collect();
    let answered = caller.query(format!("select {}", calls.join(", "))).ok();
    assert_eq!(answered.rows()[0].join(""), "ttttffffff");
    let (struck, spared) = targets.split_at_mut(4);
    struck.iter_mut().for_each(is_ended);
    for client in spared {
        assert_eq!(client.query("select 1").value(), "1");
    }
}

#[test]
fn a_stand_in_that_ends_for_another_reason_strikes_nobody() {
    let ends = [
        (backend::fatal("57P01", "terminating connection due to administrator command"), true),
        (backend::fatal("57P05", "terminating connection due to idle-session timeout"), false),
        (Vec::new(), false),
    ];
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        for (last, strikes) in ends.clone() {
            let server = FakeUpstream::start(move |connection| {
                connection.login()?;
                if connection.index > 0 {
                    if function == "pg_cancel_backend" {
                        // By this it is known that what can be cancelled has begun.
                        connection.receive()?;
                        connection.receive()?;
                        connection.send(&backend::notice("there is no transaction in progress"))?;
                    }
                    connection.delay(Duration::from_millis(100));
                    return connection.send(&last);
                }
                connection.serve_until(function)?;
                connection.delay(Duration::from_millis(300));
                connection.send(&backend::one_value("f"))?;
                connection.serve()
            });
            let proxy = Proxy::before(server.address()).size(1).start();
            let login = || RawClient::login(proxy.address(), "postgres", "postgres");
            let (mut caller, mut target) = (login(), login());
            caller.query(format!("select {function}({})", told(&target))).ok();
            if strikes {
                is_ended(&mut target);
            } else {
                assert_eq!(target.query("select 1").value(), "1");
            }
            assert_eq!(server.cancels(), 0, "nothing is left that could be cancelled");
        }
    }
}
