//! CLIENTS, SERVERS and SOCKETS.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::super::value::{Row, Value, text};
use super::{seconds, shown_id, utc};
use crate::admin::{ClientState, UpstreamState};

/// Columns of SOCKETS about buffers.
const BUFFERS: usize = 7;

/// Which of the commands is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Sockets {
    /// CLIENTS or SERVERS.
    Plain,
    /// SOCKETS, or ACTIVE_SOCKETS.
    WithBuffers,
}

/// What both kinds of connections have.
struct Socket {
    kind: &'static str,
    user: String,
    database: String,
    replication: &'static str,
    state: &'static str,
    /// The other side; `None`: a Unix socket.
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    connected_us: u64,
    since_us: u64,
    waited_us: u64,
    retired: bool,
    id: u64,
    link: Option<u64>,
    process: u64,
    tls: String,
    application: String,
    prepared: usize,
}

/// Clients, as of this moment.
pub(in super::super) fn clients(all: Vec<ClientState>, now_us: u64, how: Sockets) -> impl Iterator<Item = Row> {
    all.into_iter().map(move |client| {
        let state = match (client.state, client.upstream, how) {
            ("waiting", _, Sockets::Plain) => "waiting",
            ("waiting", _, Sockets::WithBuffers) => "cl_waiting",
            (_, _, Sockets::WithBuffers) => "cl_active",
            (_, Some(_), _) => "active",
            ("active", None, _) => "active",
            _ => "idle",
        };
        let waited_us = if client.state == "waiting" { now_us.saturating_sub(client.state_since_us) } else { 0 };
        let tls = client.tls.as_ref().map(|tls| format!("{}/{}", tls.version, tls.cipher));
        let socket = Socket {
            kind: "C",
            replication: if client.pinned == Some("replication") { "physical" } else { "none" },
            state,
            remote: client.address.parse().ok(),
            local: client.local,
            connected_us: client.connected_us,
            since_us: client.state_since_us,
            waited_us,
            retired: false,
            id: client.id,
            link: client.upstream,
            process: process_of(&client.address),
            tls: tls.unwrap_or_default(),
            user: client.user,
            database: client.database,
            application: client.application,
            prepared: client.prepared_statements,
        };
        socket.row(how)
    })
}

/// Who is at the other end of a Unix socket; 0: it is none, or nobody can tell.
fn process_of(address: &str) -> u64 {
    address.strip_prefix("unix:").and_then(|process| process.parse().ok()).unwrap_or(0)
}

/// Server connections; `applications`: those of the clients by their numbers.
pub(in super::super) fn servers(
    all: Vec<UpstreamState>,
    mut applications: HashMap<u64, String>,
    how: Sockets,
) -> impl Iterator<Item = Row> {
    all.into_iter().map(move |upstream| {
        let state = match (upstream.client, how) {
            (Some(_), Sockets::Plain) => "active",
            (None, Sockets::Plain) => "idle",
            (Some(_), Sockets::WithBuffers) => "sv_active",
            (None, Sockets::WithBuffers) => "sv_idle",
        };
        let socket = Socket {
            kind: "S",
            replication: "none",
            state,
            remote: upstream.remote,
            local: upstream.local,
            connected_us: upstream.connected_us,
            since_us: upstream.state_since_us,
            waited_us: 0,
            retired: upstream.retired,
            id: upstream.id,
            link: upstream.client,
            process: upstream.backend_pid.and_then(|process| u64::try_from(process).ok()).unwrap_or(0),
            tls: if upstream.tls { "TLS".to_owned() } else { String::new() },
            application: upstream.client.and_then(|client| applications.remove(&client)).unwrap_or_default(),
            user: upstream.user,
            database: upstream.database,
            prepared: upstream.prepared_statements,
        };
        socket.row(how)
    })
}

/// Whether a row of SOCKETS is none of ACTIVE_SOCKETS.
pub(in super::super) fn is_at_rest(client: &ClientState) -> bool {
    client.state == "idle" && client.upstream.is_none()
}

impl Socket {
    fn row(self, how: Sockets) -> Row {
        let (waited, waited_us) = seconds(self.waited_us);
        let [(addr, port), (local_addr, local_port)] = [self.remote, self.local].map(place);
        let mut row: Row = vec![
            self.kind.into(),
            self.user.into(),
            self.database.into(),
            self.replication.into(),
            self.state.into(),
            addr,
            port,
            local_addr,
            local_port,
            utc(self.connected_us).into(),
            utc(self.since_us).into(),
            waited.into(),
            waited_us.into(),
            self.retired.into(),
            pointer(self.id).into(),
            self.link.map(pointer).unwrap_or_default().into(),
            self.process.into(),
            self.tls.into(),
            self.application.into(),
            self.prepared.into(),
            shown_id(self.id).into(),
        ];
        if how == Sockets::WithBuffers {
            row.extend((0..BUFFERS).map(|_| Value::Number(0)));
        }
        row
    }
}

/// An address and a port.
pub(super) fn place(address: Option<SocketAddr>) -> (Value, Value) {
    match address {
        Some(address) => (text(address.ip().to_canonical().to_string()), address.port().into()),
        None => ("unix".into(), Value::Number(0)),
    }
}

/// What names a connection: PgBouncer has its place in memory here.
fn pointer(id: u64) -> String {
    format!("0x{id:x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::source::TlsState;

    const NOW: u64 = 951_827_700_000_000;

    fn client(state: &'static str, upstream: Option<u64>) -> ClientState {
        ClientState {
            id: 0x1f,
            database: "shop".into(),
            user: "app".into(),
            application: "web".into(),
            address: "192.0.2.7:4711".into(),
            local: "10.0.0.1:6432".parse().ok(),
            state,
            upstream,
            connected_us: NOW - 60_000_000,
            state_since_us: NOW - 2_500_000,
            prepared_statements: 3,
            ..ClientState::default()
        }
    }

    fn one(client: ClientState, how: Sockets) -> Row {
        clients(vec![client], NOW, how).next().unwrap()
    }

    #[test]
    fn a_client_that_waits() {
        let row = one(client("waiting", None), Sockets::Plain);
        let expected = [
            text("C"),
            text("app"),
            text("shop"),
            text("none"),
            text("waiting"),
            text("192.0.2.7"),
            4711u64.into(),
            text("10.0.0.1"),
            6432u64.into(),
            text("2000-02-29 12:34:00 UTC"),
            text("2000-02-29 12:34:57 UTC"),
            2u64.into(),
            500_000u64.into(),
            0u64.into(),
            text("0x1f"),
            text(""),
            0u64.into(),
            text(""),
            text("web"),
            3u64.into(),
            31u64.into(),
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn states_are_pgbouncers() {
        let state = |name, upstream, how| one(client(name, upstream), how)[4].clone();
        assert_eq!(state("idle", None, Sockets::Plain), text("idle"));
        assert_eq!(state("idle", Some(5), Sockets::Plain), text("active"), "it keeps its server connection");
        assert_eq!(state("in_transaction", Some(5), Sockets::Plain), text("active"));
        assert_eq!(state("idle", None, Sockets::WithBuffers), text("cl_active"));
        assert_eq!(state("waiting", None, Sockets::WithBuffers), text("cl_waiting"));
        assert_eq!(one(client("idle", None), Sockets::WithBuffers).len(), 28);
        let row = one(client("active", Some(0x20)), Sockets::Plain);
        assert_eq!((&row[15], &row[11], &row[12]), (&text("0x20"), &0u64.into(), &0u64.into()), "it does not wait");
    }

    #[test]
    fn unix_sockets_replication_and_tls() {
        let tls = TlsState { version: "TLSv1.3".into(), cipher: "TLS_AES_256_GCM_SHA384", server_name: None };
        let row = one(
            ClientState {
                address: "unix:4711".into(),
                local: None,
                pinned: Some("replication"),
                tls: Some(tls),
                ..client("active", Some(1))
            },
            Sockets::Plain,
        );
        assert_eq!(row[5..9], [text("unix"), 0u64.into(), text("unix"), 0u64.into()]);
        assert_eq!(
            (&row[3], &row[16], &row[17]),
            (&text("physical"), &4711u64.into(), &text("TLSv1.3/TLS_AES_256_GCM_SHA384"))
        );
    }

    #[test]
    fn a_server_connection_has_its_clients_application() {
        let upstream = UpstreamState {
            id: 0x20,
            client: Some(0x1f),
            retired: true,
            backend_pid: Some(99),
            remote: "192.0.2.1:5432".parse().ok(),
            ..UpstreamState::default()
        };
        let idle = UpstreamState { id: 0x21, backend_pid: Some(-1), ..UpstreamState::default() };
        let applications = HashMap::from([(0x1f, "web".to_owned())]);
        let rows: Vec<Row> = servers(vec![upstream, idle], applications, Sockets::Plain).collect();
        assert_eq!(
            (&rows[0][0], &rows[0][4], &rows[0][13], &rows[0][18]),
            (&text("S"), &text("active"), &1u64.into(), &text("web"))
        );
        assert_eq!((&rows[0][15], &rows[0][16], &rows[0][6]), (&text("0x1f"), &99u64.into(), &5432u64.into()));
        assert_eq!(
            (&rows[1][4], &rows[1][15], &rows[1][16], &rows[1][18]),
            (&text("idle"), &text(""), &0u64.into(), &text(""))
        );
    }
}
