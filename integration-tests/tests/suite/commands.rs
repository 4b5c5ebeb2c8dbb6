//! What operators have done to databases and clients: PAUSE, RESUME, RECONNECT, WAIT_CLOSE, KILL, DISABLE, ENABLE.

use std::future::Future;
use std::time::Duration;

use config::PoolMode;
use integration_tests::{FakeUpstream, Proxy, ProxyProcess, RawClient, Signal, Site, eventually};
use pgweir::commands::CommandError;

fn server() -> FakeUpstream {
    FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()))
}

fn client(proxy: &Proxy, database: &str) -> RawClient {
    RawClient::login(proxy.address(), "anna", database)
}

/// Runs a command to its end.
pub(crate) fn done<T>(command: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patient = async { tokio::time::timeout(Duration::from_secs(20), command).await };
    runtime.block_on(patient).expect("the command ends")
}

/// Runs a command in a thread of its own, so that it can be seen to wait.
fn begun<T: Send + 'static>(command: impl Future<Output = T> + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || done(command))
}

/// A command that waits still waits after this.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn pause_waits_for_transactions_and_resume_lets_clients_go_on() {
    let server = server();
    let proxy = Proxy::before(server.address()).pool(|pool| pool.queue_timeout = Duration::from_millis(300)).start();
    let (mut busy, mut resting, mut other) = (client(&proxy, "shop"), client(&proxy, "shop"), client(&proxy, "other"));
    busy.query("begin").ok();
    let commands = proxy.commands();
    let pause = begun(async move { commands.pause(Some("shop")).await });
    std::thread::sleep(A_WHILE);
    assert!(!pause.is_finished(), "a transaction is open");
    busy.query("begin").ok();
    busy.query("commit").ok();
    assert_eq!(pause.join().unwrap(), Ok(()));
    eventually("the database's server connection is closed", || server.has_closed(0));
    assert_eq!(other.query("select 1").value(), "1", "other databases are not paused");
    resting.start_query("select 1");
    let mut late = client(&proxy, "shop");
    late.start_query("select 1");
    assert!(late.hears_nothing_for(Duration::from_millis(600)), "twice queue_timeout: it does not strike");
    done(proxy.commands().pause(Some("shop"))).unwrap();
    proxy.commands().resume(Some("shop")).unwrap();
    assert_eq!((resting.reply().value(), late.reply().value()), ("1".to_owned(), "1".to_owned()));
    proxy.commands().resume(Some("shop")).unwrap();
}

#[test]
fn a_whole_queue_time_begins_when_a_pause_ends() {
    let server = server();
    let proxy =
        Proxy::before(server.address()).size(1).pool(|pool| pool.queue_timeout = Duration::from_millis(400)).start();
    let (mut first, mut second) = (client(&proxy, "shop"), client(&proxy, "shop"));
    done(proxy.commands().pause(None)).unwrap();
    first.start_query("begin");
    // They live on different workers: the first one shall be in the queue before the other one comes.
    assert!(first.hears_nothing_for(A_WHILE));
    second.start_query("select 1");
    assert!(second.hears_nothing_for(Duration::from_millis(700)));
    proxy.commands().resume(None).unwrap();
    first.reply().ok();
    assert!(second.hears_nothing_for(Duration::from_millis(250)));
    assert_eq!(second.reply().error().code(), "53300");
}

#[test]
fn who_resumes_ends_the_pause_that_somebody_waits_for() {
    let server = server();
    let proxy = Proxy::before(server.address()).start();
    let mut busy = client(&proxy, "shop");
    busy.query("begin").ok();
    let commands = proxy.commands();
    let pause = begun(async move { commands.pause(None).await });
    std::thread::sleep(A_WHILE);
    proxy.commands().resume(None).unwrap();
    assert_eq!(pause.join().unwrap(), Err(CommandError::Resumed));
    assert_eq!(busy.query("commit").commands(), ["COMMIT"]);
}

#[test]
fn a_client_may_come_to_a_paused_database_and_waits_there() {
    let server = server();
    let proxy = Proxy::before(server.address()).start();
    done(proxy.commands().pause(Some("shop"))).unwrap();
    let address = proxy.address();
    let login = std::thread::spawn(move || RawClient::login(address, "anna", "shop").query("select 1").value());
    std::thread::sleep(A_WHILE);
    assert!(!login.is_finished() && server.logins() == 0, "its first client waits in its login");
    proxy.commands().resume(None).unwrap();
    assert_eq!(login.join().unwrap(), "1");
}

#[test]
fn reconnect_replaces_each_connection_at_its_boundary() {
    let server = server();
    let proxy = Proxy::before(server.address()).start();
    let mut busy = client(&proxy, "shop");
    busy.query("begin").ok();
    let mut resting = client(&proxy, "shop");
    resting.query("select 1").ok();
    assert_eq!(server.logins(), 2);
    proxy.commands().reconnect(Some("shop")).unwrap();
    eventually("the idle connection is closed at once", || server.has_closed(1));
    let commands = proxy.commands();
    let closed = begun(async move { commands.wait_close(None).await });
    assert_eq!(resting.query("select 1").value(), "1");
    std::thread::sleep(A_WHILE);
    assert!(!closed.is_finished() && !server.has_closed(0), "the busy one is not");
    assert_eq!(busy.query("commit").commands(), ["COMMIT"]);
    assert_eq!(closed.join().unwrap(), Ok(()));
    eventually("it is closed now", || server.has_closed(0));
    assert!(busy.query("select 1").value() == "1" && server.logins() > 2);
    done(proxy.commands().wait_close(Some("shop"))).unwrap();
}

#[test]
fn kill_ends_clients_and_what_they_run_and_leaves_the_database_paused() {
    let site = Site::pooled(PoolMode::Transaction, 2);
    let (mut busy, mut resting) = (site.client(), site.client());
    busy.start_query("select pg_sleep(60)");
    let running =
        "select count(*) from pg_stat_activity where query like '%sleep(60)' and datname = current_database()";
    eventually("the query runs", || site.run_directly(running).value() == "1");
    done(site.commands().kill(Some(&site.database))).unwrap();
    for client in [&mut busy, &mut resting] {
        let words = client.read_to_end();
        let error = words.errors().last().unwrap().to_owned();
        assert_eq!((error.code(), error.severity(), error.is_whole()), ("57P01", "FATAL", true), "{words:?}");
    }
    eventually("no server connection is left", || site.backends() == 0);
    let (address, database) = (site.address(), site.database.clone());
    let waits = std::thread::spawn(move || RawClient::login(address, "postgres", &database).query("select 1").value());
    std::thread::sleep(A_WHILE);
    assert!(!waits.is_finished());
    site.commands().resume(Some(&site.database)).unwrap();
    assert_eq!(waits.join().unwrap(), "1");
}

#[test]
fn kill_of_one_client_ends_that_one_alone() {
    let site = Site::pooled(PoolMode::Transaction, 1);
    let (mut victim, mut other) = (site.client(), site.client());
    victim.query("begin").ok();
    let shown = integration_tests::http::fetch(site.admin(), "/api/v1/clients").body;
    let clients: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let list = clients["clients"].as_array().unwrap();
    let held = list.iter().find(|client| client["state"] == "in_transaction").unwrap();
    done(site.commands().kill_client(held["id"].as_u64().unwrap())).unwrap();
    assert_eq!(victim.read_to_end().error().code(), "57P01");
    assert_eq!(other.query("select 1").value(), "1");
    assert_eq!(done(site.commands().kill_client(u64::MAX)), Err(CommandError::UnknownClient(u64::MAX)));
}

#[test]
fn a_disabled_database_keeps_its_clients_and_takes_no_new_ones() {
    let server = server();
    let proxy = Proxy::before(server.address()).start();
    let mut old = client(&proxy, "shop");
    done(proxy.commands().disable("shop")).unwrap();
    done(proxy.commands().disable("shop")).unwrap();
    let refused = RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "").unwrap_err();
    assert_eq!((refused.code(), refused.is_whole()), ("55000", true), "{refused:?}");
    assert_eq!(old.query("select 1").value(), "1");
    client(&proxy, "other");
    proxy.commands().enable("shop").unwrap();
    client(&proxy, "shop");
}

#[test]
fn commands_name_databases_that_exist() {
    let server = server();
    let proxy = Proxy::before(server.address())
        .with(|settings| {
            let named = settings.wildcard.take().unwrap();
            settings.databases.insert("shop".to_owned(), named);
        })
        .start();
    let unknown = Err(CommandError::UnknownDatabase("nope".into()));
    assert_eq!(done(proxy.commands().pause(Some("nope"))), unknown);
    assert_eq!(done(proxy.commands().disable("nope")), unknown);
    assert_eq!(proxy.commands().reconnect(Some("nope")), unknown);
    assert_eq!(done(proxy.commands().pause(Some("shop"))), Ok(()), "it has no pool yet");
}

#[test]
fn commands_given_at_once_do_not_get_in_each_others_way() {
    let server = server();
    let proxy = Proxy::before(server.address()).size(2).start();
    let mut clients: Vec<RawClient> = (0..4).map(|_| client(&proxy, "shop")).collect();
    let (first, second) = (proxy.commands(), proxy.commands());
    let pauses = begun(async move {
        for _ in 0..20 {
            // The other thread may resume before this pause is complete.
            let paused = first.pause(Some("shop")).await;
            assert!(matches!(paused, Ok(()) | Err(CommandError::Resumed)));
            first.reconnect(None).unwrap();
        }
    });
    let resumes = begun(async move {
        for _ in 0..60 {
            second.resume(Some("shop")).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    while !(pauses.is_finished() && resumes.is_finished()) {
        for client in &mut clients {
            client.start_query("select 1");
        }
        for client in &mut clients {
            assert_eq!(client.reply().value(), "1");
        }
        if resumes.is_finished() {
            proxy.commands().resume(None).unwrap();
        }
    }
    pauses.join().unwrap();
    resumes.join().unwrap();
}

#[test]
fn signals_pause_and_resume_everything() {
    let server = server();
    let upstream = format!("postgres://anna@{}/shop", server.address());
    let proxy = ProxyProcess::serve(&["--upstream", &upstream, "--auth", "trust"]);
    let login = || RawClient::login(proxy.address(), "anna", "shop");
    let (mut busy, mut resting) = (login(), login());
    busy.query("begin").ok();
    proxy.child.signal(Signal::User1);
    eventually("it pauses", || proxy.log().contains("pausing all databases"));
    resting.start_query("select 1");
    assert!(resting.hears_nothing_for(A_WHILE), "nobody is served");
    assert!(!proxy.log().contains("paused: no server connection is open"), "a transaction is open");
    busy.query("commit").ok();
    eventually("it is paused", || proxy.log().contains("paused: no server connection is open"));
    proxy.child.signal(Signal::User2);
    assert_eq!(resting.reply().value(), "1");
    // A second pause that is taken back before it is complete; and a resume without a pause, which harms nobody.
    busy.query("begin").ok();
    proxy.child.signal(Signal::User1);
    eventually("it pauses again", || proxy.log().matches("pausing all databases").count() == 2);
    proxy.child.signal(Signal::User2);
    proxy.child.signal(Signal::User2);
    eventually("it is told", || proxy.log().contains("the pause was not completed"));
    busy.query("commit").ok();
    assert_eq!(busy.query("select 1").value(), "1");
}
