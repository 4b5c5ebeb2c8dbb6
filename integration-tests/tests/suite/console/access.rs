//! Who gets in, as what, and who does not; and that the console is open when nothing else is.

use std::time::Duration;

use config::{AuthMethod, Console, ListenAddress, User, UserSecret};
use integration_tests::{FakeUpstream, Fields, Proxy, RawClient, Scratch, eventually, http};

use super::{find, ops, proxy, server, table, with_users};

/// A proxy that asks for passwords: `ops`, `watch` and `anna` have one.
fn guarded(server: &FakeUpstream) -> Proxy {
    let secret =
        |name: &str| (name.to_owned(), User::from(UserSecret::Plain(config::Secret::new(format!("{name}'s")))));
    with_users(Proxy::before(server.address()))
        .with(|settings| {
            settings.auth.method = AuthMethod::PassThrough;
            settings.users = ["ops", "watch", "anna"].map(secret).into();
            settings.console.stats_users.push("unknown".to_owned());
        })
        .start()
}

fn log_in(proxy: &Proxy, user: &str, password: &str) -> Result<RawClient, Fields> {
    RawClient::try_login(proxy.address(), &[("user", user), ("database", "pgweir")], password)
}

fn refused(proxy: &Proxy, user: &str, password: &str) -> String {
    let error = log_in(proxy, user, password).expect_err("nobody is let in");
    assert!(error.is_whole() && error.severity() == "FATAL", "{error:?}");
    error.code().to_owned()
}

#[test]
fn passwords_decide_and_then_the_lists() {
    let server = server();
    let proxy = guarded(&server);
    assert_eq!(log_in(&proxy, "ops", "ops's").unwrap().query("show version").rows().len(), 1);
    assert_eq!(refused(&proxy, "ops", "wrong"), "28P01");
    assert_eq!(refused(&proxy, "anna", "wrong"), "28P01", "whose names are listed is not told");
    assert_eq!(refused(&proxy, "nobody", "x"), "28P01");
    assert_eq!(refused(&proxy, "unknown", "x"), "28P01", "servers are not asked about users of the console");
    let anna = log_in(&proxy, "anna", "anna's").unwrap_err();
    assert_eq!((anna.code(), anna.message()), ("42501", "user \"anna\" may not use the console"));
    assert!(anna.hint().contains("console.admin_users"), "{anna:?}");
    assert_eq!(server.logins(), 0, "no server was asked anything");
}

#[test]
fn who_may_look_may_not_do_anything_else() {
    let server = server();
    let proxy = guarded(&server);
    let mut watch = log_in(&proxy, "watch", "watch's").unwrap();
    assert!(!watch.query("show pools").ok().rows().is_empty());
    let commands = [
        "pause",
        "resume",
        "disable shop",
        "enable shop",
        "reconnect",
        "kill",
        "kill_client 1",
        "wait_close",
        "reload",
        "suspend",
        "shutdown",
        "shutdown wait_for_clients",
        "shutdown wait_for_servers",
        "set max_client_conn = 5",
        "show fds",
    ];
    for command in commands {
        let reply = watch.query(command);
        let error = reply.error();
        assert_eq!(
            (error.code(), error.message(), error.severity()),
            ("42501", "admin access needed", "ERROR"),
            "{command}"
        );
    }
    assert_eq!(watch.query("show state").rows()[0], ["active", "yes"]);
    // Not in the extended protocol either.
    watch.parse("", "pause").bind("", &[]).execute().sync();
    assert_eq!(watch.reply().error().code(), "42501");
}

#[test]
fn wrong_passwords_use_up_the_addresss_budget() {
    let server = server();
    let limits = |settings: &mut config::Settings| {
        settings.auth.limits.failures = 3;
        settings.auth.limits.period = Duration::from_secs(600);
        settings.auth.limits.exempt.clear();
    };
    let secret = User::from(UserSecret::Plain(config::Secret::new("right")));
    let proxy = with_users(Proxy::before(server.address()))
        .with(|settings| {
            settings.auth.method = AuthMethod::ScramSha256;
            settings.users = [("ops".to_owned(), secret)].into();
            limits(settings);
        })
        .start();
    (0..3).for_each(|_| assert_eq!(refused(&proxy, "ops", "wrong"), "28P01"));
    assert_eq!(refused(&proxy, "ops", "right"), "53400");
}

#[test]
fn with_nobody_listed_only_the_systems_own_user_gets_in() {
    let (server, folder) = (server(), Scratch::new());
    let place = ListenAddress::unix(folder.path().to_str().unwrap(), "6432").unwrap();
    let own = place.clone();
    let secret = User::from(UserSecret::Plain(config::Secret::new("x")));
    let proxy = Proxy::before(server.address())
        .with(|settings| {
            settings.listen.push(own);
            settings.auth.method = AuthMethod::ScramSha256;
            settings.users = [("pgbouncer".to_owned(), secret)].into();
        })
        .start();
    for name in ["pgbouncer", "pgweir"] {
        let mut client = RawClient::login(place.clone(), name, "pgbouncer");
        client.query("reconnect").ok();
        let rows = table(&mut client, "show clients");
        let row = find(&rows, "user", name);
        assert_eq!((row.get("addr"), row.number("remote_pid")), ("unix", std::process::id().into()));
    }
    let other = RawClient::try_login(place, &[("user", "root"), ("database", "pgbouncer")], "x").unwrap_err();
    assert_eq!(other.code(), "28P01");
    // Over TCP the name alone is worth nothing, and its password opens no console.
    let over_tcp = RawClient::try_login(proxy.address(), &[("user", "pgbouncer"), ("database", "pgbouncer")], "x");
    assert_eq!(over_tcp.unwrap_err().code(), "42501");
}

#[test]
fn a_reload_changes_who_gets_in() {
    let server = server();
    let builder = with_users(Proxy::before(server.address()));
    let proxy = builder.clone().start();
    let mut before = ops(proxy.address());
    let other = Console { admin_users: vec!["bob".to_owned()], ..Console::default() };
    proxy.reload(builder.with(|settings| settings.console = other).settings());
    assert_eq!(refused(&proxy, "ops", ""), "42501");
    RawClient::login(proxy.address(), "bob", "pgbouncer").query("pause nothing; resume").ok();
    before.query("show pools").ok();
}

#[test]
fn an_operator_gets_in_where_nobody_else_does() {
    let server = server();
    let proxy = with_users(Proxy::before(server.address())).with(|settings| settings.max_clients = 2).start();
    let clients: Vec<RawClient> = (0..2).map(|_| RawClient::login(proxy.address(), "anna", "shop")).collect();
    let full = RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "").unwrap_err();
    assert_eq!(full.code(), "53300");
    let mut ops = ops(proxy.address());
    // A worker counts a client when it has taken it over.
    eventually("both are counted", || find(&table(&mut ops, "show pools"), "user", "anna").number("cl_active") == 2);
    assert_eq!(find(&table(&mut ops, "show lists"), "list", "used_clients").number("items"), 3);
    // Everything paused, and the server gone.
    ops.query("pause").ok();
    drop(server);
    assert_eq!(find(&table(&mut ops, "show state"), "key", "paused").get("value"), "yes");
    drop(clients);
    eventually("the clients are gone", || {
        find(&table(&mut ops, "show lists"), "list", "used_clients").number("items") == 1
    });
}

#[test]
fn a_proxy_without_memory_or_server_lets_an_operator_in() {
    // Nobody listens there.
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let proxy = with_users(Proxy::before(nowhere)).with(|settings| settings.max_memory = 1).start();
    eventually("it is short of memory", || {
        let refused = RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "").unwrap_err();
        refused.message() == "the proxy is short of memory"
    });
    assert_eq!(ops(proxy.address()).query("select 1").value(), "1");
}

#[test]
fn its_room_has_an_end_that_only_those_reach_who_may_come() {
    let server = server();
    let proxy = guarded(&server);
    // As many who may not come as there is room for: their logins stay unanswered, and take nothing.
    let strangers: Vec<RawClient> = (0..40)
        .map(|_| {
            let mut client = RawClient::connect(proxy.address());
            let parameters = [("user", "ops"), ("database", "pgbouncer")];
            client
                .say(integration_tests::frontend::startup(integration_tests::frontend::PROTOCOL_3_0, &parameters))
                .send();
            client
        })
        .collect();
    let mut inside: Vec<RawClient> = (0..32).map(|_| log_in(&proxy, "ops", "ops's").unwrap()).collect();
    let full = log_in(&proxy, "ops", "ops's").unwrap_err();
    assert_eq!((full.code(), full.message()), ("53300", "too many connections to the console"));
    assert_eq!(table(&mut inside[0], "show clients").len(), 32);
    inside.pop().unwrap().terminate();
    eventually("a place is free again", || log_in(&proxy, "ops", "ops's").is_ok());
    drop(strangers);
}

#[test]
fn the_admin_port_shows_who_may_use_it_and_the_console_is_no_pool() {
    let server = server();
    let proxy = proxy(&server);
    ops(proxy.address()).query("show pools").ok();
    let config = http::fetch(proxy.admin(), "/api/v1/config").json();
    assert_eq!(config["console"]["admin_users"][0], "ops");
    let pools = http::fetch(proxy.admin(), "/api/v1/pools").json();
    assert_eq!(pools["pools"].as_array().unwrap().len(), 0);
    assert_eq!(server.logins(), 0);
}
