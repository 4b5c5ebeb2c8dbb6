//! What is shown is so: clients, pools, statements and limits as they are.

use std::time::Duration;

use integration_tests::{FakeUpstream, Proxy, RawClient, Site, eventually, tenants};

use super::{Row, columns, find, ops, proxy, server, table, with_users};

const ALL: [&str; 28] = [
    "help",
    "config",
    "databases",
    "pools",
    "clients",
    "servers",
    "users",
    "version",
    "peers",
    "peer_pools",
    "fds",
    "sockets",
    "active_sockets",
    "lists",
    "mem",
    "state",
    "dns_hosts",
    "dns_zones",
    "stats",
    "stats_totals",
    "stats_averages",
    "totals",
    "queries",
    "findings",
    "tenants",
    "pins",
    "limits",
    "cache",
];

#[test]
fn each_descriptor_is_the_one_that_the_system_knows() {
    let server = server();
    let proxy = proxy(&server);
    let (mut open, mut ops) = (RawClient::login(proxy.address(), "anna", "shop"), ops(proxy.address()));
    open.query("begin").ok();
    let rows = table(&mut ops, "show fds");
    for row in &rows {
        // The proxy is a part of this process.
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", row.get("fd"))).unwrap();
        assert!(kind.to_str().unwrap().starts_with("socket:"), "{row:?}: {kind:?}");
    }
    let (client, upstream) = (find(&rows, "task", "client"), find(&rows, "task", "server"));
    assert_eq!((client.get("link"), upstream.get("link")), (upstream.get("fd"), client.get("fd")));
    let local = open.stream().local_addr().unwrap().as_socket().unwrap();
    let named = |row: &Row| [row.get("user"), row.get("database"), row.get("addr")].map(str::to_owned);
    assert_eq!([named(client), named(upstream)], [["anna", "shop", "127.0.0.1"]; 2].map(|row| row.map(str::to_owned)));
    assert_eq!(client.number("port"), u64::from(local.port()));
    assert_eq!(find(&rows, "task", "pooler").number("port"), u64::from(proxy.address().port()));
}

#[test]
fn as_many_users_are_counted_as_are_listed() {
    let server = server();
    let proxy = with_users(Proxy::before(server.address()))
        .with(|settings| {
            settings.user_limits.insert("carl".to_owned(), Default::default());
        })
        .start();
    RawClient::login(proxy.address(), "anna", "shop").query("select 1").ok();
    let mut ops = ops(proxy.address());
    let names: Vec<String> = table(&mut ops, "show users").iter().map(|row| row.get("name").to_owned()).collect();
    assert!(["anna", "carl", "ops", "watch"].iter().all(|name| names.iter().any(|known| known == name)), "{names:?}");
    assert_eq!(find(&table(&mut ops, "show lists"), "list", "users").number("items"), names.len() as u64);
}

#[test]
fn every_show_answers_alike_in_both_protocols() {
    let server = server();
    let proxy = proxy(&server);
    let mut client = RawClient::login(proxy.address(), "anna", "shop");
    client.query("select 1").ok();
    let mut ops = ops(proxy.address());
    for show in ALL {
        let sql = format!("SHOW {show}");
        let simple = ops.query(&sql).ok();
        assert_eq!(simple.commands(), ["SHOW"], "{show}");
        ops.parse("", &sql).say(integration_tests::frontend::describe(b'S', "")).bind("", &[]).execute().sync();
        let extended = ops.reply().ok();
        assert_eq!(columns(&simple), columns(&extended), "{show}");
        let width = columns(&simple).len();
        assert!(simple.rows().iter().chain(&extended.rows()).all(|row| row.len() == width), "{show}: {simple:?}");
        assert_eq!(simple.rows().len(), extended.rows().len(), "{show}");
    }
    let words = ops.query("show help").notices()[0].detail().to_ascii_lowercase();
    assert!(ALL.iter().all(|show| words.contains(show)), "{words}");
}

#[test]
fn pools_clients_and_servers_show_who_holds_what_and_who_waits() {
    let site = Site::behind(config::PoolMode::Transaction, |proxy| {
        with_users(proxy.size(1)).with(|settings| settings.max_clients = 50)
    });
    let mut ops = ops(site.address());
    let mut busy = site.client_with(&[("application_name", "billing")]);
    busy.query("begin").ok();
    let mut waiting = site.client();
    waiting.start_query("select 1");
    let pool = |ops: &mut RawClient| find(&table(ops, "show pools"), "database", &site.database).clone();
    eventually("one waits", || pool(&mut ops).number("cl_waiting") == 1);
    // Whole seconds stand in a column of their own.
    eventually("the wait grows", || pool(&mut ops).number("maxwait_us") > 0);
    let shown = pool(&mut ops);
    assert_eq!((shown.number("cl_active"), shown.number("sv_active"), shown.number("sv_idle")), (1, 1, 0), "{shown:?}");
    assert_eq!(
        (shown.get("user"), shown.get("pool_mode"), shown.get("load_balance_hosts")),
        ("postgres", "transaction", "∅")
    );
    let clients = table(&mut ops, "show clients");
    let of = |state: &str| -> Vec<&Row> {
        clients.iter().filter(|row| row.get("database") == site.database && row.get("state") == state).collect()
    };
    let (active, waits) = (of("active"), of("waiting"));
    assert_eq!((active.len(), waits.len()), (1, 1), "{clients:#?}");
    assert!(waits[0].number("wait") * 1_000_000 + waits[0].number("wait_us") > 0);
    assert_eq!(
        (active[0].get("application_name"), active[0].get("addr"), active[0].get("type")),
        ("billing", "127.0.0.1", "C")
    );
    assert_eq!(active[0].number("local_port"), u64::from(site.address().port()));
    let servers = table(&mut ops, "show servers");
    let held = find(&servers, "database", &site.database);
    assert_eq!((held.get("link"), held.get("application_name")), (active[0].get("ptr"), "billing"));
    assert_eq!(active[0].get("link"), held.get("ptr"));
    assert_eq!((held.get("type"), held.get("state"), held.get("addr")), ("S", "active", "127.0.0.1"));
    // Their other end, as PostgreSQL sees it.
    let backend = format!("select client_port from pg_stat_activity where pid = {}", held.get("remote_pid"));
    assert_eq!(site.run_directly(&backend).value(), held.get("local_port"));
    let sockets = table(&mut ops, "show active_sockets");
    assert!(
        sockets.iter().any(|row| row.get("state") == "cl_waiting")
            && sockets.iter().any(|row| row.get("state") == "sv_active")
    );
    busy.query("commit").ok();
    waiting.reply().ok();
    eventually("nobody waits", || pool(&mut ops).number("cl_waiting") == 0 && pool(&mut ops).number("maxwait_us") == 0);
    let idle = table(&mut ops, "show servers");
    assert_eq!(find(&idle, "database", &site.database).get("state"), "idle");
    let databases = table(&mut ops, "show databases");
    let shown = find(&databases, "name", &site.database);
    assert_eq!((shown.number("current_connections"), shown.number("current_client_connections")), (1, 2));
    assert_eq!(find(&databases, "name", "pgbouncer").number("current_client_connections"), 1);
    assert_eq!(find(&table(&mut ops, "show users"), "name", "postgres").number("current_client_connections"), 2);
}

#[test]
fn stats_count_what_was_done() {
    let site = Site::behind(config::PoolMode::Transaction, |proxy| with_users(proxy.size(1)));
    let mut ops = ops(site.address());
    let mut client = site.client();
    client.query("begin").ok();
    client.query("select pg_sleep(0.02)").ok();
    client.query("commit").ok();
    client.parse("s", "select 1").bind("s", &[]).execute().bind("s", &[]).execute().sync();
    client.reply().ok();
    let stats = |ops: &mut RawClient, what: &str| find(&table(ops, what), "database", &site.database).clone();
    eventually("all is counted", || stats(&mut ops, "show stats").number("total_xact_count") == 2);
    let all = stats(&mut ops, "show stats");
    assert_eq!(all.number("total_query_count"), 5, "{all:?}");
    let counts = ["total_client_parse_count", "total_server_parse_count", "total_bind_count"];
    assert_eq!(counts.map(|count| all.number(count)), [1, 1, 2]);
    assert_eq!(all.number("total_server_assignment_count"), 2);
    assert!(all.number("total_xact_time") >= 20_000 && all.number("total_query_time") >= 20_000, "{all:?}");
    assert!(all.number("total_received") > 50 && all.number("total_sent") > 50);
    assert!(all.number("avg_query_time") >= 4_000, "{all:?}");
    assert!(all.number("avg_xact_time") >= 10_000, "{all:?}");
    let totals = stats(&mut ops, "show stats_totals");
    assert_eq!(totals.number("bytes_received"), all.number("total_received"));
    assert_eq!(stats(&mut ops, "show stats_averages").number("query_time"), all.number("avg_query_time"));
    let sums = table(&mut ops, "show totals");
    assert!(find(&sums, "name", "total_query_count").number("value") >= 5);
    // A second client with the same statement: the server has it already.
    let mut other = site.client();
    other.parse("s", "select 1").bind("s", &[]).execute().sync();
    other.reply().ok();
    eventually("its Parse is counted", || stats(&mut ops, "show stats").number("total_client_parse_count") == 2);
    assert_eq!(stats(&mut ops, "show stats").number("total_server_parse_count"), 1);
    // The console counts itself too.
    assert!(find(&table(&mut ops, "show stats"), "database", "pgbouncer").number("total_query_count") > 3);
}

#[test]
fn what_pgbouncer_knows_nothing_of() {
    let rules = "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'tenant:(?<tenant>[a-z]+)'\n[tenant.limits.acme]\nmax_rows = 1000\n";
    let site =
        Site::behind(config::PoolMode::Transaction, |proxy| with_users(proxy).with(|all| all.tenants = tenants(rules)));
    let mut ops = ops(site.address());
    let mut client = site.client_with(&[("application_name", "tenant:acme")]);
    for n in 0..3 {
        client.query(format!("select {n} + 4711")).ok();
    }
    client.query("select pg_advisory_lock(1)").ok();
    let of_acme = |ops: &mut RawClient, what: &str| -> Vec<Row> {
        table(ops, what).into_iter().filter(|row| row.get("tenant") == "acme").collect()
    };
    eventually("they are counted", || of_acme(&mut ops, "show tenants")[0].number("statements") == 4);
    assert_eq!(of_acme(&mut ops, "show tenants")[0].number("clients"), 1);
    let queries = of_acme(&mut ops, "show queries");
    let sum = queries.iter().find(|row| row.number("calls") == 3).unwrap_or_else(|| panic!("{queries:#?}"));
    assert!(sum.get("text").contains("select ? + ?") && sum.number("total_us") > 0, "{sum:?}");
    assert!(!format!("{queries:?}").contains("4711"), "no literal is shown");
    assert_eq!(table(&mut ops, "show queries 1").len(), 1);
    let pins = of_acme(&mut ops, "show pins");
    assert_eq!((pins.len(), pins[0].get("reason"), pins[0].get("state")), (1, "advisory_lock", "idle"));
    let limits = of_acme(&mut ops, "show limits");
    let rows = find(&limits, "name", "max_rows");
    assert_eq!((rows.get("value"), rows.get("source"), rows.get("mode")), ("1000", "[tenant.limits.acme]", "enforce"));
    let cache = &table(&mut ops, "show cache")[0];
    assert_eq!((cache.get("mode"), cache.get("ready"), cache.number("hits")), ("off", "no", 0));
}

#[test]
fn a_finding_with_its_proof() {
    let site = Site::behind(config::PoolMode::Transaction, with_users);
    site.run_directly("create table events (id int primary key); create table logs (event_id int, t text); insert into events select generate_series(1, 12)");
    let mut client = site.client();
    let ids: Vec<String> = client.query("select id from events").rows().into_iter().flatten().collect();
    for id in ids {
        client.query(format!("select t from logs where event_id = {id}")).ok();
    }
    let mut ops = ops(site.address());
    eventually("it is found", || !table(&mut ops, "show findings").is_empty());
    let findings = table(&mut ops, "show findings");
    let found = &findings[0];
    assert_eq!(
        (found.get("kind"), found.get("database"), found.get("state")),
        ("n_plus_one", site.database.as_str(), "open")
    );
    assert!(found.get("text").contains("select t from logs") && found.number("statements") >= 12, "{found:?}");
}

#[test]
fn config_names_peers_and_hosts() {
    let server = server();
    let peers = "[databases.shop]\nupstream = 'postgres://db.test:5433/real'\n[peers]\nid = 0\n[peers.1]\naddress = '10.0.0.2:6432'\n";
    let peers = config::Settings::from_toml(peers, &config::Overrides::default(), &config::NoSources).unwrap().peers;
    let proxy = with_users(Proxy::before(server.address())).with(|settings| settings.peers = peers).start();
    let mut ops = ops(proxy.address());
    let config = table(&mut ops, "show config");
    // What the exporter reads: numbers.
    assert_eq!(find(&config, "key", "max_client_conn").number("value"), 1000);
    assert_eq!(find(&config, "key", "max_user_connections").number("value"), 0);
    assert_eq!(find(&config, "key", "console.admin_users").get("value"), "ops");
    assert_eq!(find(&config, "key", "workers").get("changeable"), "no");
    let peer = &table(&mut ops, "show peers")[0];
    assert_eq!((peer.number("peer_id"), peer.get("host"), peer.number("port")), (1, "10.0.0.2", 6432));
    assert!(table(&mut ops, "show mem")[0].number("memtotal") > 1 << 20);
    assert!(table(&mut ops, "show version")[0].get("version").starts_with("PgBouncer 1.25.2 "));
}

/// A thousand clients at once: the answer comes in pieces, and whole.
#[test]
fn a_long_answer_is_whole() {
    let server = FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()));
    let proxy = with_users(Proxy::before(server.address())).start();
    let clients: Vec<RawClient> = (0..400).map(|_| RawClient::login(proxy.address(), "anna", "shop")).collect();
    let mut ops = ops(proxy.address());
    assert_eq!(table(&mut ops, "show clients").len(), clients.len() + 1);
    // Somebody who asks and does not read takes nothing from others.
    let mut silent = super::ops(proxy.address());
    for _ in 0..200 {
        silent.say(integration_tests::frontend::query("show clients"));
    }
    silent.send();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(table(&mut ops, "show clients").len(), clients.len() + 2);
}
