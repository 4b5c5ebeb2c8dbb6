//! What people have for PgBouncer: psql, drivers, views over dblink, the Go exporter.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use integration_tests::{Cluster, RawClient, Site};

use super::{columns, find, table, with_users};

fn site() -> Site {
    Site::behind(config::PoolMode::Transaction, with_users)
}

fn url(address: SocketAddr) -> String {
    format!("postgres://ops@{address}/pgbouncer?sslmode=disable")
}

fn psql(site: &Site, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(Cluster::shared().program("psql"));
    command.arg("-X").arg(url(site.address())).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn psql_shows_and_commands() {
    let site = site();
    let mut client = site.client();
    client.query("select 1").ok();
    let (table, _) = psql(&site, &["-c", "SHOW POOLS;"]);
    assert!(table.contains(" cl_active ") && table.contains(&site.database) && table.contains("rows)"), "{table}");
    let (plain, _) = psql(&site, &["-A", "-t", "-c", "SHOW DATABASES"]);
    let line = plain.lines().find(|line| line.starts_with(&site.database)).unwrap_or_else(|| panic!("{plain}"));
    assert_eq!(line.split('|').count(), 17, "{line}");
    let (expanded, _) = psql(&site, &["-c", "\\x", "-c", "show stats"]);
    assert!(expanded.contains("-[ RECORD 1 ]-") && expanded.contains("total_query_count"), "{expanded}");
    let (said, told) = psql(&site, &["-c", "show help", "-c", "pause", "-c", "resume"]);
    assert_eq!(said, "SHOW\nPAUSE\nRESUME\n");
    assert!(told.contains("NOTICE:  Console usage") && told.contains("RESUME [<db>]"), "{told}");
    let (version, _) = psql(&site, &["-At", "-c", "select version()"]);
    assert!(version.starts_with("PgBouncer 1.25.2 "), "{version}");
}

/// With psycopg 3, whose default is a transaction around everything, by parameters in text and in binary.
const PSYCOPG: &str = r#"
import sys, psycopg
url = sys.argv[1]
with psycopg.connect(url) as connection:
    # In a transaction, as far as the driver knows.
    assert connection.execute("show version").fetchone()[0].startswith("PgBouncer 1.25")
with psycopg.connect(url, autocommit=True) as connection:
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        rows = cursor.execute("show lists").fetchall()
        assert len(rows) == 14 and isinstance(rows[0][1], int), rows
        cursor.execute("show stats")
        row = cursor.fetchone()
        assert int(row[1]) >= 0 and row[1] == int(row[1]), row
        assert [column.type_code for column in cursor.description][:2] == [25, 1700]
    try:
        connection.execute("nonsense")
        raise SystemExit("no error")
    except psycopg.errors.SyntaxError as error:
        assert "use SHOW HELP" in str(error), error
    assert connection.execute("reconnect").statusmessage == "RECONNECT"
    with psycopg.ClientCursor(connection) as cursor:
        assert len(cursor.execute("show state").fetchall()) == 3
print("ok")
"#;

#[test]
fn psycopg() {
    let site = site();
    site.client().query("select 1").ok();
    let folder = integration_tests::Scratch::new();
    let script = folder.file("console.py", PSYCOPG);
    let mut command = crate::drivers::python::python(script.to_str().unwrap());
    let output = command.arg(url(site.address())).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success() && text(&output.stdout) == "ok\n",
        "{} {}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn a_driver_with_binary_results() {
    let site = site();
    site.client().query("select 1").ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url(site.address()), tokio_postgres::NoTls).await.unwrap();
        let driving = tokio::spawn(connection);
        let statement = client.prepare("show lists").await.unwrap();
        let rows = client.query(&statement, &[]).await.unwrap();
        assert_eq!(
            (rows.len(), rows[0].get::<_, String>(0), rows[3].get::<_, i32>("items")),
            (14, "databases".to_owned(), 2)
        );
        let hosts = client.prepare("show dns_hosts").await.unwrap();
        assert_eq!(hosts.columns()[1].type_(), &tokio_postgres::types::Type::INT8);
        let rows = client.query("show queries", &[]).await.unwrap();
        assert!(rows.iter().any(|row| row.get::<_, i64>("calls") >= 1));
        let failed = client.query("show nothing", &[]).await.unwrap_err();
        assert_eq!(failed.code().map(|code| code.code()), Some("42601"));
        drop(client);
        driving.await.unwrap().unwrap();
    });
}

/// The views of the sort that PgBouncer's documentation and monitoring kits have: columns by their place.
const VIEWS: &str = "
    create view pools as select * from dblink('pgbouncer', 'show pools') as
        (database text, usr text, cl_active int, cl_waiting int, cl_active_cancel_req int, cl_waiting_cancel_req int,
         sv_active int, sv_active_cancel int, sv_being_canceled int, sv_idle int, sv_used int, sv_tested int,
         sv_login int, maxwait int, maxwait_us int, pool_mode text, load_balance_hosts text);
    create view clients as select * from dblink('pgbouncer', 'show clients') as
        (type text, usr text, database text, replication text, state text, addr text, port int, local_addr text,
         local_port int, connect_time timestamp with time zone, request_time timestamp with time zone, wait int,
         wait_us int, close_needed int, ptr text, link text, remote_pid int, tls text, application_name text,
         prepared_statements int, id int);
    create view servers as select * from dblink('pgbouncer', 'show servers') as
        (type text, usr text, database text, replication text, state text, addr text, port int, local_addr text,
         local_port int, connect_time timestamp with time zone, request_time timestamp with time zone, wait int,
         wait_us int, close_needed int, ptr text, link text, remote_pid int, tls text, application_name text,
         prepared_statements int, id int);
    create view databases as select * from dblink('pgbouncer', 'show databases') as
        (name text, host text, port int, database text, force_user text, pool_size int, min_pool_size int,
         reserve_pool_size int, server_lifetime int, pool_mode text, load_balance_hosts text, max_connections int,
         current_connections int, max_client_connections int, current_client_connections int, paused int, disabled int);
    create view lists as select * from dblink('pgbouncer', 'show lists') as (list text, items int);
    create view config as select * from dblink('pgbouncer', 'show config') as
        (key text, value text, \"default\" text, changeable text);
    create view stats as select * from dblink('pgbouncer', 'show stats') as
        (database text, total_server_assignment_count bigint, total_xact_count bigint, total_query_count bigint,
         total_received bigint, total_sent bigint, total_xact_time bigint, total_query_time bigint,
         total_wait_time bigint, total_client_parse_count bigint, total_server_parse_count bigint,
         total_bind_count bigint, avg_server_assignment_count bigint, avg_xact_count bigint, avg_query_count bigint,
         avg_recv bigint, avg_sent bigint, avg_xact_time bigint, avg_query_time bigint, avg_wait_time bigint,
         avg_client_parse_count bigint, avg_server_parse_count bigint, avg_bind_count bigint);";

#[test]
fn views_over_dblink() {
    let site = site();
    assert!(Cluster::shared().offers("dblink"), "postgresql-contrib is missing: `make setup` installs it");
    let mut client = site.client();
    client.query("select 1").ok();
    let address = site.address();
    let server = format!(
        "create extension dblink; create server pgbouncer foreign data wrapper dblink_fdw options (host '{}', port '{}', dbname 'pgbouncer'); \
         create user mapping for postgres server pgbouncer options (user 'ops')",
        address.ip(),
        address.port()
    );
    let mut direct = Cluster::shared().connect(&site.database);
    direct.query(server).ok();
    direct.query(VIEWS).ok();
    let views = ["pools", "clients", "servers", "databases", "lists", "config", "stats"];
    for view in views {
        let rows: u64 = direct.query(format!("select count(*) from {view}")).value().parse().unwrap();
        assert!(rows > 0, "{view} is empty");
    }
    let own = &site.database;
    let idle = direct.query(format!("select sv_idle, pool_mode from pools where database = '{own}'")).rows();
    assert_eq!(idle, [["1", "transaction"]]);
    let fresh =
        "select now() - connect_time between '-1 minute' and '1 minute' from clients where usr = 'postgres' limit 1";
    assert_eq!(direct.query(fresh).value(), "t", "times are times");
    let sum = direct.query(format!("select total_query_count from stats where database = '{own}'")).value();
    assert!(sum.parse::<u64>().unwrap() >= 1);
    // A command over dblink_exec, as runbooks in SQL give it.
    assert_eq!(direct.query(format!("select dblink_exec('pgbouncer', 'RECONNECT {own}')")).value(), "RECONNECT");
}

/// Columns that the exporter turns into numbers, by the query that it takes them from; it asks in this order, on one
/// connection, and takes a column that it does not know for an error of its own.
const EXPORTED: [(&str, &[&str], &[&str]); 5] = [
    (
        "SHOW STATS;",
        &["database"],
        &[
            "total_query_count",
            "total_query_time",
            "total_received",
            "total_requests",
            "total_sent",
            "total_wait_time",
            "total_xact_count",
            "total_xact_time",
            "total_client_parse_count",
            "total_server_parse_count",
            "total_bind_count",
            "total_server_assignment_count",
            "avg_query_count",
            "avg_query_time",
            "avg_recv",
            "avg_sent",
            "avg_wait_time",
            "avg_xact_count",
            "avg_xact_time",
            "avg_client_parse_count",
            "avg_server_parse_count",
            "avg_bind_count",
            "avg_server_assignment_count",
            "avg_req",
        ],
    ),
    ("SHOW CLIENTS;", &["type", "user", "database", "state"], &["wait", "wait_us"]),
    (
        "SHOW DATABASES;",
        &["name", "host", "port", "database", "force_user", "pool_mode"],
        &[
            "pool_size",
            "reserve_pool_size",
            "max_connections",
            "current_connections",
            "paused",
            "disabled",
            "min_pool_size",
        ],
    ),
    (
        "SHOW STATS_TOTALS;",
        &["database"],
        &[
            "bytes_received",
            "bytes_sent",
            "query_count",
            "query_time",
            "wait_time",
            "xact_count",
            "xact_time",
            "client_parse_count",
            "server_parse_count",
            "bind_count",
            "server_assignment_count",
        ],
    ),
    (
        "SHOW POOLS;",
        &["database", "user", "pool_mode"],
        &[
            "cl_active",
            "cl_active_cancel_req",
            "cl_waiting_cancel_req",
            "cl_waiting",
            "maxwait",
            "maxwait_us",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_login",
            "sv_tested",
            "sv_used",
        ],
    ),
];

fn exports(client: &mut RawClient, at: usize) {
    let (sql, labels, numbers) = EXPORTED[at];
    let rows = table(client, sql);
    assert!(!rows.is_empty(), "{sql}");
    let missing = |wanted: &&&str| !rows[0].0.iter().any(|(name, _)| name == **wanted);
    // Of versions long past.
    let gone = ["total_requests", "avg_req"];
    let lacks: Vec<_> = labels.iter().chain(numbers).filter(missing).filter(|name| !gone.contains(name)).collect();
    assert!(lacks.is_empty(), "{sql} lacks {lacks:?}");
    for row in &rows {
        for (name, value) in row.0.iter().filter(|(name, _)| numbers.contains(&name.as_str())) {
            assert!(value.parse::<f64>().is_ok(), "{sql}: {name} is {value:?}");
        }
    }
}

#[test]
fn the_exporters_queries_in_its_order() {
    let site = site();
    let (_client, mut other) = (site.client(), site.client());
    other.query("select 1").ok();
    let mut client = RawClient::login(site.address(), "ops", "pgbouncer");
    for _scrape in 0..2 {
        exports(&mut client, 0);
        let version = client.query("SHOW VERSION;").ok();
        assert_eq!((columns(&version), version.rows().len()), (vec!["version".to_owned()], 1));
        let number = version.value().split_whitespace().nth(1).unwrap().to_owned();
        assert_eq!(number.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{number}");
        let lists = table(&mut client, "SHOW LISTS;");
        for list in [
            "databases",
            "users",
            "pools",
            "free_clients",
            "used_clients",
            "login_clients",
            "free_servers",
            "used_servers",
            "dns_names",
            "dns_zones",
            "dns_queries",
            "dns_pending",
        ] {
            find(&lists, "list", list).number("items");
        }
        let config = table(&mut client, "SHOW CONFIG;");
        for key in ["max_client_conn", "max_user_connections"] {
            find(&config, "key", key).number("value");
        }
        (1..EXPORTED.len()).for_each(|at| exports(&mut client, at));
    }
}
