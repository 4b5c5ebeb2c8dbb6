//! What an admin has done, and that the log says so.

use std::time::Duration;

use integration_tests::{FakeUpstream, ProxyProcess, RawClient, eventually, http};

use super::{find, ops, proxy, server, table};

const A_WHILE: Duration = Duration::from_millis(100);

fn anna(address: std::net::SocketAddr) -> RawClient {
    RawClient::login(address, "anna", "shop")
}

#[test]
fn pause_waits_and_resume_lets_clients_go_on() {
    let server = server();
    let proxy = proxy(&server);
    let (mut busy, mut other, mut ops) = (anna(proxy.address()), anna(proxy.address()), ops(proxy.address()));
    busy.query("begin").ok();
    ops.start_query("PAUSE shop;");
    assert!(ops.hears_nothing_for(A_WHILE), "a transaction is open");
    // Others go on meanwhile.
    let mut second = super::ops(proxy.address());
    assert_eq!(find(&table(&mut second, "show databases"), "name", "shop").number("paused"), 1);
    assert_eq!(find(&table(&mut second, "show state"), "key", "paused").get("value"), "no", "one database is not all");
    busy.query("commit").ok();
    assert_eq!(ops.reply().commands(), ["PAUSE"]);
    other.start_query("select 1");
    assert!(other.hears_nothing_for(A_WHILE));
    assert_eq!(ops.query("RESUME shop").commands(), ["RESUME"]);
    assert_eq!(other.reply().value(), "1");
    ops.query("pause").ok();
    assert_eq!(find(&table(&mut ops, "show state"), "key", "paused").get("value"), "yes");
    ops.query("pause; resume; resume").ok();
    assert_eq!(find(&table(&mut ops, "show state"), "key", "active").get("value"), "yes");
}

#[test]
fn who_leaves_while_waiting_leaves_the_pause() {
    let server = server();
    let proxy = proxy(&server);
    let mut busy = anna(proxy.address());
    busy.query("begin").ok();
    let mut ops = ops(proxy.address());
    ops.start_query("pause");
    assert!(ops.hears_nothing_for(A_WHILE));
    ops.vanish();
    let mut second = super::ops(proxy.address());
    eventually("the first one is gone", || {
        table(&mut second, "show clients").iter().filter(|row| row.get("user") == "ops").count() == 1
    });
    assert_eq!(find(&table(&mut second, "show state"), "key", "paused").get("value"), "yes");
    second.query("resume").ok();
    busy.query("commit").ok();
}

#[test]
fn kill_ends_clients_and_pauses() {
    let server = server();
    let proxy = proxy(&server);
    let (mut victim, mut ops) = (anna(proxy.address()), ops(proxy.address()));
    victim.query("begin").ok();
    assert_eq!(ops.query("kill shop").commands(), ["KILL"]);
    assert_eq!(victim.read_to_end().error().code(), "57P01");
    assert_eq!(find(&table(&mut ops, "show databases"), "name", "shop").number("paused"), 1);
    ops.query("resume shop").ok();
    assert_eq!(anna(proxy.address()).query("select 1").value(), "1");
}

#[test]
fn kill_client_ends_one_by_its_id_and_those_of_the_console_too() {
    let server = server();
    let proxy = proxy(&server);
    let (mut victim, mut other, mut ops) = (anna(proxy.address()), anna(proxy.address()), ops(proxy.address()));
    victim.query("begin").ok();
    let clients = table(&mut ops, "show clients");
    let held = clients.iter().find(|row| row.get("user") == "anna" && row.get("state") == "active").unwrap();
    assert_eq!(ops.query(format!("KILL_CLIENT {}", held.get("id"))).commands(), ["KILL_CLIENT"]);
    assert_eq!(victim.read_to_end().error().code(), "57P01");
    assert_eq!(other.query("select 1").value(), "1");
    let gone = ops.query(format!("kill_client {}", held.get("id")));
    assert_eq!((gone.error().code(), gone.error().message()), ("42704", "client not found"));
    let mut second = super::ops(proxy.address());
    let own = table(&mut second, "show clients").into_iter().rfind(|row| row.get("user") == "ops").unwrap();
    ops.query(format!("kill_client {}", own.get("id"))).ok();
    let farewell = second.read_to_end();
    assert_eq!((farewell.error().code(), farewell.error().severity()), ("57P01", "FATAL"));
}

#[test]
fn the_other_commands() {
    let server = server();
    let proxy = proxy(&server);
    let (mut client, mut ops) = (anna(proxy.address()), ops(proxy.address()));
    client.query("select 1").ok();
    ops.query("disable shop").ok();
    let refused = RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "").unwrap_err();
    assert_eq!(refused.code(), "55000");
    assert_eq!(find(&table(&mut ops, "show databases"), "name", "shop").number("disabled"), 1);
    ops.query("enable shop").ok();
    anna(proxy.address());
    client.query("begin").ok();
    assert_eq!(ops.query("reconnect shop").commands(), ["RECONNECT"]);
    assert_eq!(find(&table(&mut ops, "show servers"), "database", "shop").number("close_needed"), 1);
    ops.start_query("wait_close shop");
    assert!(ops.hears_nothing_for(A_WHILE));
    client.query("commit").ok();
    assert_eq!(ops.reply().commands(), ["WAIT_CLOSE"]);
    for (command, code) in [("reload", "55000"), ("pause pgbouncer", "22023"), ("kill pgweir", "22023")] {
        let reply = ops.query(command);
        assert_eq!((reply.error().code(), reply.error().is_whole()), (code, true), "{command}: {reply:?}");
    }
}

#[test]
fn what_is_done_on_the_console_is_in_the_audit_log_like_what_is_done_over_http() {
    let server = server();
    let proxy = proxy(&server);
    let (mut busy, mut ops) = (anna(proxy.address()), ops(proxy.address()));
    ops.query("pause shop; resume shop").ok();
    ops.query("set max_client_conn = 77").ok();
    assert_eq!(ops.query("kill_client 999999").error().code(), "42704");
    assert_eq!(ops.query("reload").error().code(), "55000");
    ops.query("show pools").ok();
    RawClient::login(proxy.address(), "watch", "pgbouncer").query("pause shop").error();
    // One that nobody waits for is in force all the same.
    busy.query("begin").ok();
    ops.start_query("pause");
    assert!(ops.hears_nothing_for(A_WHILE));
    ops.vanish();

    let told = || -> Vec<String> {
        let page = http::fetch(proxy.admin(), "/api/v1/audit").json();
        let entries = page["audit"].as_array().unwrap().iter().rev().filter(|entry| entry["method"] == "CONSOLE");
        let word = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        let line = |entry: &serde_json::Value| {
            let names = ["kind", "who", "role", "from", "path", "why"].map(|name| word(entry, name));
            format!("{} {}", names.join(" "), entry["status"])
        };
        entries.map(line).collect()
    };
    eventually("all is noted", || told().len() == 7);
    assert_eq!(
        told(),
        [
            "action ops operator 127.0.0.1 PAUSE shop - 200",
            "action ops operator 127.0.0.1 RESUME shop - 200",
            "action ops operator 127.0.0.1 SET max_client_conn = 77 - 200",
            "action ops operator 127.0.0.1 KILL_CLIENT 999999 - 404",
            "action ops operator 127.0.0.1 RELOAD - 409",
            "refused watch viewer 127.0.0.1 PAUSE shop not one of console.admin_users 403",
            "action ops operator 127.0.0.1 PAUSE - 202",
        ]
    );
    proxy.commands().resume(None).unwrap();
    busy.query("commit").ok();
}

#[test]
fn unknown_databases_are_told() {
    let server = server();
    let proxy = super::with_users(integration_tests::Proxy::before(server.address()))
        .with(|settings| {
            let named = settings.wildcard.take().unwrap();
            settings.databases.insert("shop".to_owned(), named);
        })
        .start();
    let mut ops = ops(proxy.address());
    for command in ["pause", "resume", "disable", "enable", "reconnect", "kill", "wait_close"] {
        let reply = ops.query(format!("{command} nope"));
        assert_eq!((reply.error().code(), reply.error().message()), ("3D000", "no such database: nope"), "{command}");
    }
    ops.query("pause \"shop\"; resume \"shop\"").ok();
}

#[test]
fn set_changes_some_keys_until_the_next_reload() {
    let server = server();
    let builder = super::with_users(integration_tests::Proxy::before(server.address()));
    let proxy = builder.clone().start();
    let mut ops = ops(proxy.address());
    let value = |ops: &mut RawClient, key: &str| find(&table(ops, "show config"), "key", key).get("value").to_owned();
    assert_eq!(ops.query("SET max_client_conn = 1").commands(), ["SET"]);
    assert_eq!(value(&mut ops, "max_client_conn"), "1");
    let _first = anna(proxy.address());
    let full = RawClient::try_login(proxy.address(), &[("user", "anna"), ("database", "shop")], "").unwrap_err();
    assert_eq!(full.code(), "53300");
    ops.query("set max_clients to 1000").ok();
    anna(proxy.address());
    ops.query("set client_login_timeout = 7; set tcp_user_timeout = 1500").ok();
    assert_eq!(
        (value(&mut ops, "client_login_timeout"), value(&mut ops, "tcp_user_timeout")),
        ("7".into(), "1500".into())
    );
    ops.query("set shutdown.grace = '250ms'").ok();
    assert_eq!(value(&mut ops, "shutdown.grace"), "250ms");
    for (command, code) in [
        ("set max_client_conn = 0", "22023"),
        ("set max_client_conn = many", "22023"),
        ("set default_pool_size = 5", "55P02"),
        ("set workers = 5", "55P02"),
        ("set nonsense = 5", "42704"),
    ] {
        let reply = ops.query(command);
        let error = reply.error();
        assert_eq!((error.code(), error.message()), (code, "SET failed"), "{command}");
        assert!(!error.detail().is_empty() && !error.hint().is_empty(), "{error:?}");
    }
    proxy.reload(builder.settings());
    assert_eq!(value(&mut ops, "client_login_timeout"), "10");
}

fn configured(server: &FakeUpstream, more: &str) -> String {
    format!(
        "listen = '{{listen}}'\n[admin]\nlisten = '{{admin}}'\n[auth]\nmethod = 'scram-sha-256'\n[users.ops]\npassword = 'secret'\n\
         [users.watch]\npassword = 'secret'\n[console]\nadmin_users = ['ops']\nstats_users = ['watch']\n\
         [databases.'*']\nupstream = 'postgres://{}'\n{more}",
        server.address()
    )
}

#[test]
fn reload_tells_what_is_wrong_and_every_command_is_in_the_log() {
    let server = server();
    let mut process = ProxyProcess::with_config(&configured(&server, ""));
    let log_in =
        |user: &str| RawClient::login_with(process.address(), &[("user", user), ("database", "pgbouncer")], "secret");
    let (mut ops, mut watch) = (log_in("ops"), log_in("watch"));
    assert_eq!(ops.query("reload").commands(), ["RELOAD"]);
    process.rewrite(&configured(&server, "sise = 5\n"));
    let reply = ops.query("reload");
    assert_eq!(reply.error().code(), "F0000");
    assert!(reply.error().detail().contains("did you mean size?"), "{reply:?}");
    process.rewrite(&configured(&server, "[observe]\nmax_fingerprints = 777\n"));
    let reply = ops.query("reload").ok();
    assert!(reply.notices()[0].detail().contains("observe.max_fingerprints"), "{reply:?}");
    ops.query("pause; resume; set max_client_conn = 50").ok();
    ops.query("kill_client 4711");
    watch.query("pause").error();
    eventually("all of it is in the log", || process.log().matches("a command on the console").count() >= 9);
    let log = process.log();
    let line = |what: &str| {
        log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in {log}")).to_owned()
    };
    let paused = line("command=\"PAUSE\"");
    assert!(paused.contains("user=\"ops\"") && paused.contains("address=\"127.0.0.1:"), "{paused}");
    line("command=\"SET max_client_conn = 50\"");
    assert!(line("a command on the console was not carried out").contains("error="));
    assert!(line("a command on the console was refused").contains("user=\"watch\""));
    process.stop();
}
