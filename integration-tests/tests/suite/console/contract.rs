//! The contract to the column: names and types of every `SHOW` as PgBouncer 1.25 has them, written down a second time. Views
//! over dblink read columns by their place, so nothing may be added, taken away or moved.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use integration_tests::cluster::free_port;
use integration_tests::{Child, RawClient, Scratch, eventually, frontend};

use super::{proxy, server};

const SOCKET: &str = "type text, user text, database text, replication text, state text, addr text, port int4, local_addr text, \
    local_port int4, connect_time text, request_time text, wait int4, wait_us int4, close_needed int4, ptr text, link text, \
    remote_pid int4, tls text, application_name text, prepared_statements int4, id int4";
const BUFFERS: &str =
    ", recv_pos int4, pkt_pos int4, pkt_remain int4, send_pos int4, send_remain int4, pkt_avail int4, send_avail int4";

/// Every `SHOW` with rows.
fn contract() -> Vec<(&'static str, String)> {
    let own = |text: &str| text.to_owned();
    let stats = "total_server_assignment_count, total_xact_count, total_query_count, total_received, total_sent, \
        total_xact_time, total_query_time, total_wait_time, total_client_parse_count, total_server_parse_count, \
        total_bind_count, avg_server_assignment_count, avg_xact_count, avg_query_count, avg_recv, avg_sent, avg_xact_time, \
        avg_query_time, avg_wait_time, avg_client_parse_count, avg_server_parse_count, avg_bind_count";
    let totals = "server_assignment_count, xact_count, query_count, bytes_received, bytes_sent, xact_time, query_time, \
        wait_time, client_parse_count, server_parse_count, bind_count";
    let averages = "server_assignment_count, xact_count, query_count, bytes_received, bytes_sent, xact_time, query_time, \
        wait_time, avg_client_parse_count, avg_server_parse_count, avg_bind_count";
    let numeric = |names: &str| {
        let named: Vec<String> = names.split(',').map(|name| format!("{} numeric", name.trim())).collect();
        format!("database text, {}", named.join(", "))
    };
    vec![
        ("CONFIG", own("key text, value text, default text, changeable text")),
        (
            "DATABASES",
            own(
                "name text, host text, port int4, database text, force_user text, pool_size int4, min_pool_size int4, \
                 reserve_pool_size int4, server_lifetime int4, pool_mode text, load_balance_hosts text, \
                 max_connections int4, current_connections int4, max_client_connections int4, \
                 current_client_connections int4, paused int4, disabled int4",
            ),
        ),
        (
            "POOLS",
            own("database text, user text, cl_active int4, cl_waiting int4, cl_active_cancel_req int4, \
                 cl_waiting_cancel_req int4, sv_active int4, sv_active_cancel int4, sv_being_canceled int4, sv_idle int4, \
                 sv_used int4, sv_tested int4, sv_login int4, maxwait int4, maxwait_us int4, pool_mode text, \
                 load_balance_hosts text"),
        ),
        ("CLIENTS", own(SOCKET)),
        ("SERVERS", own(SOCKET)),
        (
            "USERS",
            own("name text, pool_size text, reserve_pool_size text, pool_mode text, max_user_connections int4, \
                 current_connections int4, max_user_client_connections int4, current_client_connections int4"),
        ),
        ("VERSION", own("version text")),
        ("PEERS", own("peer_id int4, host text, port int4, pool_size int4")),
        (
            "PEER_POOLS",
            own(
                "peer_id int4, cl_active_cancel_req int4, cl_waiting_cancel_req int4, sv_active_cancel int4, sv_login int4",
            ),
        ),
        (
            "FDS",
            own("fd int4, task text, user text, database text, addr text, port int4, cancel int8, link int4, \
                 client_encoding text, std_strings text, datestyle text, timezone text, password text, \
                 scram_client_key bytea, scram_server_key bytea"),
        ),
        ("SOCKETS", format!("{SOCKET}{BUFFERS}")),
        ("ACTIVE_SOCKETS", format!("{SOCKET}{BUFFERS}")),
        ("LISTS", own("list text, items int4")),
        ("MEM", own("name text, size int4, used int4, free int4, memtotal int4")),
        ("STATE", own("key text, value text")),
        ("DNS_HOSTS", own("hostname text, ttl int8, addrs text")),
        ("DNS_ZONES", own("zonename text, serial int8, count int4")),
        ("STATS", numeric(stats)),
        ("STATS_TOTALS", numeric(totals)),
        ("STATS_AVERAGES", numeric(averages)),
        ("TOTALS", own("name text, value numeric")),
    ]
}

fn type_name(oid: u32) -> &'static str {
    match oid {
        17 => "bytea",
        20 => "int8",
        23 => "int4",
        25 => "text",
        1700 => "numeric",
        other => panic!("type {other} is none of the console's"),
    }
}

/// Runs a simple query over a connection that is logged in, and returns names and types of its columns as the bytes say.
fn described(client: &RawClient, sql: &str) -> Vec<String> {
    try_described(client, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn try_described(client: &RawClient, sql: &str) -> Result<Vec<String>, String> {
    let mut stream = client.stream();
    stream.write_all(&frontend::query(sql)).unwrap();
    let mut columns = Ok(Vec::new());
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        match head[0] {
            b'T' => columns = Ok(columns_of(&body)),
            b'E' => columns = Err(String::from_utf8_lossy(&body).into_owned()),
            b'Z' => return columns,
            _ => {}
        }
    }
}

fn columns_of(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let name = std::str::from_utf8(&rest[..end]).unwrap();
        let fixed = &rest[end + 1..end + 19];
        let (oid, size) =
            (u32::from_be_bytes(fixed[6..10].try_into().unwrap()), i16::from_be_bytes([fixed[10], fixed[11]]));
        let kind = type_name(oid);
        assert_eq!(
            size,
            match kind {
                "int4" => 4,
                "int8" => 8,
                _ => -1,
            },
            "the width of {name}"
        );
        assert_eq!(&fixed[16..], [0, 0], "{name} is in text");
        columns.push(format!("{name} {kind}"));
        rest = &rest[end + 19..];
    }
    assert_eq!(columns.len(), usize::from(u16::from_be_bytes([body[0], body[1]])));
    columns
}

fn listed(columns: &str) -> Vec<String> {
    columns.split(',').map(|column| column.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_show_has_pgbouncers_columns_and_types() {
    let (server, contract) = (server(), contract());
    let proxy = proxy(&server);
    let client = super::ops(proxy.address());
    for (show, columns) in contract {
        assert_eq!(described(&client, &format!("SHOW {show};")), listed(&columns), "SHOW {show}");
    }
}

/// PgBouncer's binary; `None`: this machine has none.
fn pgbouncer() -> Option<(&'static str, (u32, u32))> {
    let places = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer"];
    let program = places.into_iter().find(|place| Path::new(place).exists())?;
    let said = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split_whitespace().nth(1)?;
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    Some((program, (numbers.next()?, numbers.next()?)))
}

/// Columns that have another name in 1.25 than before.
const RENAMED: &[(&str, &str)] = &[("reserve_pool int4", "reserve_pool_size int4")];

/// Whether all of `few` are among `all`, in the same order.
fn is_within(few: &[String], all: &[String]) -> bool {
    let mut rest = all.iter();
    few.iter().all(|one| rest.any(|other| other == one))
}

/// Against the original, whatever its version: what it has must stand here at the same place. What came with a version
/// after 1.25 is looked past; one before it lacks columns, and those that it has must be here with their types, in its order.
#[test]
fn the_original_has_the_same_columns() {
    let Some((program, version)) = pgbouncer() else {
        println!("skipped: there is no pgbouncer on this machine");
        return;
    };
    let (folder, port) = (Scratch::new(), free_port());
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let users = folder.file("users.txt", "\"ops\" \"secret\"\n");
    let config = format!(
        "[databases]\nshop = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {}\nadmin_users = ops\n",
        users.display()
    );
    let config = folder.file("pgbouncer.ini", &config);
    let mut command = Command::new(program);
    // It does not run as root.
    command.args(["-q", "-u", "nobody"]).arg(&config);
    let _child = Child::spawn(&mut command);
    eventually("PgBouncer listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let (theirs, server) = (RawClient::login(address, "ops", "pgbouncer"), server());
    let proxy = proxy(&server);
    let ours = super::ops(proxy.address());
    let mut compared = 0;
    for (show, _) in contract() {
        let sql = format!("SHOW {show};");
        let mut expected = match try_described(&theirs, &sql) {
            Ok(columns) => columns,
            // It hands its sockets over in some versions and builds, and not in others.
            Err(_) if show == "FDS" => continue,
            // An older one may lack it: PEERS and some others came later.
            Err(error) if version < (1, 25) => {
                println!("SHOW {show}: {version:?} has none: {error}");
                continue;
            }
            Err(error) => panic!("{sql}: {error}"),
        };
        if version > (1, 25) {
            expected.retain(|column| !column.contains("client_login_count"));
        }
        if version < (1, 25) {
            let own = described(&ours, &sql);
            for (before, now) in RENAMED {
                expected.iter_mut().filter(|column| column == before).for_each(|column| *column = (*now).to_owned());
            }
            assert!(is_within(&expected, &own), "SHOW {show} of {version:?} has {expected:?}, and here are {own:?}");
        } else {
            assert_eq!(described(&ours, &sql), expected, "SHOW {show}");
        }
        compared += 1;
    }
    assert!(compared > 15, "only {compared} were compared");
    // What a client is told at login, name by name.
    // Some versions and builds name their own version besides.
    let is_plain = |name: &str| !name.starts_with("pgbouncer.");
    let names = |client: &RawClient| -> Vec<String> {
        client.parameters.iter().map(|(name, _)| name.clone()).filter(|name| is_plain(name)).collect()
    };
    assert_eq!(names(&ours), names(&theirs));
}
